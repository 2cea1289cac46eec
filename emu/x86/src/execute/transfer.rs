//! Moves, exchanges, conversions, conditional moves and sets, flag bits (SDM 1 "Data Transfer Instructions").

use crate::bus::Bus;
use crate::execute::Shape;
use crate::observe::Observer;
use crate::op::Handler;

/// The bodies of this family.
pub fn handler<B: Bus, O: Observer>(_shape: Shape) -> Option<Handler<B, O>> {
    None
}
