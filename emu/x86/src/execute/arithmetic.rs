//! ADD to CMP, INC, DEC, NEG, MUL, DIV and their kin (SDM 1 "Binary Arithmetic Instructions").

use crate::bus::Bus;
use crate::execute::Shape;
use crate::observe::Observer;
use crate::op::Handler;

/// The bodies of this family.
pub fn handler<B: Bus, O: Observer>(_shape: Shape) -> Option<Handler<B, O>> {
    None
}
