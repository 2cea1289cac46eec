//! AND, OR, XOR, NOT, TEST (SDM 1 "Logical Instructions").

use crate::bus::Bus;
use crate::execute::Shape;
use crate::observe::Observer;
use crate::op::Handler;

/// The bodies of this family.
pub fn handler<B: Bus, O: Observer>(_shape: Shape) -> Option<Handler<B, O>> {
    None
}
