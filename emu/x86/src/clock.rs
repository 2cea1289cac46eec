//! Virtual time: a count of retired instructions at a set rate, plus what HLT skipped.

use crate::bus::Ticks;
use serde::{Deserialize, Serialize};

/// Turns retired instructions into [`Ticks`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Clock {
    /// Picoseconds each instruction takes, at least 1.
    rate: u64,
    /// Picoseconds passed otherwise.
    skipped: u128,
}

impl Default for Clock {
    /// One nanosecond an instruction.
    fn default() -> Clock {
        Clock { rate: 1000, skipped: 0 }
    }
}

impl Clock {
    /// A clock at `picoseconds` (1 to 10^9) per instruction.
    pub fn new(picoseconds: u64) -> Clock {
        Clock { rate: picoseconds.clamp(1, 1_000_000_000), skipped: 0 }
    }

    fn picoseconds(&self, retired: u64) -> u128 {
        retired as u128 * self.rate as u128 + self.skipped
    }

    /// Whether the rate is a possible one and the time after `retired` instructions earlier than `latest` picoseconds.
    pub(crate) fn check(&self, retired: u64, latest: u128) -> bool {
        (1..=1_000_000_000).contains(&self.rate)
            && self.skipped < latest
            && self.picoseconds(retired) < latest
    }

    /// The time after `retired` instructions.
    pub fn at(&self, retired: u64) -> Ticks {
        Ticks((self.picoseconds(retired) / 1000) as u64)
    }

    /// The first count of retired instructions, not before `retired`, at which the time is `deadline` or later.
    pub fn instructions_until(&self, deadline: Ticks, retired: u64) -> u64 {
        let missing = (deadline.0 as u128 * 1000).saturating_sub(self.picoseconds(retired));
        retired.saturating_add(missing.div_ceil(self.rate as u128).min(u64::MAX as u128) as u64)
    }

    /// Jumps to `deadline` without running anything.
    pub fn skip_to(&mut self, deadline: Ticks, retired: u64) {
        self.skipped += (deadline.0 as u128 * 1000).saturating_sub(self.picoseconds(retired));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_met_by_the_first_instruction_that_reaches_it() {
        let mut clock = Clock::new(300);
        assert_eq!(clock.instructions_until(Ticks(1), 0), 4);
        assert_eq!(clock.at(3), Ticks(0));
        assert_eq!(clock.at(4), Ticks(1));
        clock.skip_to(Ticks(100), 4);
        assert_eq!(clock.at(4), Ticks(100));
        assert_eq!(clock.instructions_until(Ticks(50), 4), 4);
    }
}
