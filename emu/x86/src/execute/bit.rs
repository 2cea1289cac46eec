//! Bit tests, scans and counts, BMI (SDM 1 "Bit and Byte Instructions").

use crate::bus::Bus;
use crate::execute::Shape;
use crate::observe::Observer;
use crate::op::Handler;

/// The bodies of this family.
pub fn handler<B: Bus, O: Observer>(_shape: Shape) -> Option<Handler<B, O>> {
    None
}
