//! Far jumps, calls and returns through segments, gates and tasks; INT n, IRET (SDM 3A "Protection").

use crate::bus::Bus;
use crate::execute::Shape;
use crate::observe::Observer;
use crate::op::Handler;

/// The bodies of this family.
pub fn handler<B: Bus, O: Observer>(_shape: Shape) -> Option<Handler<B, O>> {
    None
}
