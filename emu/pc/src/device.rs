//! What every chip on the board has in common: ports by offset, wires, deadlines, outgoing bytes.
//!
//! A chip sees offsets, never port numbers; it is told the time, never asks for it; and its interrupt line is a
//! plain wire whose level the board carries to the interrupt controller. All of it is plain data.

use pagewalk_x86::bus::{Size, Ticks};
use serde::{Deserialize, Serialize};

/// A chip with 8-bit registers. The board splits wider accesses, unless the chip has [`WideData`].
pub trait PortDevice {
    /// IN from the register at `offset`.
    fn read8(&mut self, offset: u16, now: Ticks) -> u8;
    /// OUT to the register at `offset`.
    fn write8(&mut self, offset: u16, value: u8, now: Ticks);
}

/// A chip that decodes 16- and 32-bit accesses to its register at offset 0 as one.
pub trait WideData {
    /// IN of `size` bytes (a word or a dword).
    fn read_wide(&mut self, size: Size, now: Ticks) -> u32;
    /// OUT of `size` bytes (a word or a dword).
    fn write_wide(&mut self, size: Size, value: u32, now: Ticks);
}

/// A chip in which things happen by themselves as time passes.
pub trait Timed {
    /// Catches up with `now`; returns when something will next happen, if ever.
    fn tick(&mut self, now: Ticks) -> Option<Ticks>;
}

/// An interrupt line: the chip sets its level, the board carries it to the interrupt controller.
///
/// Between two visits of the board a line may have gone down and up again; that edge is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct IrqLine {
    level: bool,
    rose: bool,
    moved: bool,
}

impl IrqLine {
    /// Drives the line high or low.
    pub fn set(&mut self, level: bool) {
        self.moved |= level != self.level;
        self.rose |= level && !self.level;
        self.level = level;
    }

    /// Records that the line went up since it was last looked at, however short the time it was low before.
    pub fn note_rise(&mut self) {
        self.moved = true;
        self.rose = true;
    }

    /// The level now.
    pub fn level(self) -> bool {
        self.level
    }

    /// What the line did since this was last asked, if anything.
    pub fn take(&mut self) -> Option<Movement> {
        if !self.moved {
            return None;
        }
        let movement = match (self.level, self.rose) {
            (true, true) => Movement::Rose,
            (true, false) => Movement::High,
            (false, _) => Movement::Fell,
        };
        (self.moved, self.rose) = (false, false);
        Some(movement)
    }
}

/// What an [`IrqLine`] did between two looks at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Movement {
    /// It is high, and came up since (perhaps after having been high before).
    Rose,
    /// It is high as before.
    High,
    /// It is low.
    Fell,
}

/// Bytes on their way out to the host, waiting to be drained.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Outgoing {
    bytes: Vec<u8>,
    lost: u64,
}

impl Outgoing {
    /// How many bytes wait at most; a host that never drains loses what comes after.
    pub const LIMIT: usize = 16 << 20;

    /// Adds a byte.
    pub fn push(&mut self, byte: u8) {
        if self.bytes.len() < Self::LIMIT {
            self.bytes.push(byte);
        } else {
            self.lost = self.lost.saturating_add(1);
        }
    }

    /// The bytes waiting, which are then gone from here.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Whether no more waits than may.
    pub(crate) fn is_sound(&self) -> bool {
        self.bytes.len() <= Self::LIMIT
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes were dropped because [`Outgoing::LIMIT`] were waiting.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

/// The earlier of two deadlines.
pub fn earlier(a: Option<Ticks>, b: Option<Ticks>) -> Option<Ticks> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_dipped_between_two_looks_shows_a_new_rise() {
        let mut line = IrqLine::default();
        assert_eq!(line.take(), None);
        line.set(true);
        assert_eq!(line.take(), Some(Movement::Rose));
        line.set(false);
        line.set(true);
        assert_eq!(line.take(), Some(Movement::Rose));
        line.set(true);
        assert_eq!(line.take(), None);
        line.set(false);
        assert_eq!(line.take(), Some(Movement::Fell));
    }

    #[test]
    fn outgoing_bytes_beyond_the_limit_are_counted_not_kept() {
        let mut out = Outgoing::default();
        for _ in 0..Outgoing::LIMIT + 2 {
            out.push(7);
        }
        assert_eq!((out.take().len(), out.lost()), (Outgoing::LIMIT, 2));
    }
}
