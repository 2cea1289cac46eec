//! The interval timer: Intel 8254 (data sheet 231164-005), three counters clocked at 1.193182 MHz.
//!
//! Nothing is stepped: each counter remembers when it was loaded with what, and its count and output are computed
//! from the time when somebody asks.
//!
//! `Choice:` a count of 1, which the data sheet forbids in modes 2 and 3, gives an output that never moves.
//! `Choice:` the count between a write and the load one clock later reads as the last count before it.

mod counter;

use crate::device::{IrqLine, PortDevice, Timed};
use counter::{Counter, clock_at, time_of};
use pagewalk_x86::bus::Ticks;
use pagewalk_x86::image::Damaged;
use serde::{Deserialize, Serialize};

/// The control word register; offsets 0-2 are the counters.
const CONTROL: u16 = 3;

// Control word: SC1 SC0 RW1 RW0 M2 M1 M0 BCD.
const READ_BACK: u8 = 0b11;
const READ_BACK_NO_COUNT: u8 = 1 << 5;
const READ_BACK_NO_STATUS: u8 = 1 << 4;

const STATUS_OUT: u8 = 1 << 7;
const STATUS_NULL_COUNT: u8 = 1 << 6;

/// The timer, its counters' gates and outputs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pit {
    counters: [Counter; 3],
    /// The output of counter 0, a PC's system timer.
    pub out0: IrqLine,
}

impl Default for Pit {
    fn default() -> Self {
        Pit::new()
    }
}

impl Pit {
    /// At power-on: no mode has been set. Gates 0 and 1 are tied high, gate 2 is low.
    pub fn new() -> Pit {
        let mut out0 = IrqLine::default();
        out0.set(true);
        Pit { counters: [Counter::new(true), Counter::new(true), Counter::new(false)], out0 }
    }

    /// Back to power-on, for the board's reset (the chip itself has no such pin).
    pub fn reset(&mut self) {
        let mut out0 = self.out0;
        out0.set(true);
        *self = Pit { out0, ..Pit::new() };
    }

    /// Refuses what the chip can't hold.
    pub(crate) fn check(&self) -> Result<(), Damaged> {
        Damaged::unless(self.counters.iter().all(Counter::is_sound), "the interval timer")
    }

    /// The output pin of counter 2, a PC's speaker.
    pub fn out2(&mut self, now: Ticks) -> bool {
        let t = clock_at(now);
        self.counters[2].advance(t);
        self.counters[2].out(t)
    }

    /// The gate pin of counter 2.
    pub fn set_gate2(&mut self, gate: bool, now: Ticks) {
        let t = clock_at(now);
        self.counters[2].advance(t);
        self.counters[2].set_gate(gate, t);
    }

    /// Whether counter 0's output is yet to rise.
    pub fn could_interrupt(&self) -> bool {
        self.counters[0].may_rise()
    }

    fn advance(&mut self, t: counter::Clock) {
        if self.counters[0].advance(t) {
            self.out0.note_rise();
        }
        self.counters[1].advance(t);
        self.counters[2].advance(t);
        self.out0.set(self.counters[0].out(t));
    }

    fn read_back(&mut self, value: u8, t: counter::Clock) {
        for (index, counter) in self.counters.iter_mut().enumerate() {
            if value >> (index + 1) & 1 == 0 {
                continue;
            }
            if value & READ_BACK_NO_COUNT == 0 {
                counter.latch_count(t);
            }
            if value & READ_BACK_NO_STATUS == 0 && counter.latched_status.is_none() {
                counter.latched_status = Some(counter.status(t));
            }
        }
    }
}

impl PortDevice for Pit {
    fn read8(&mut self, offset: u16, now: Ticks) -> u8 {
        let t = clock_at(now);
        self.advance(t);
        match self.counters.get_mut(usize::from(offset)) {
            Some(counter) => counter.read(t),
            // Manual: reading the control word register is no operation.
            None => 0xff,
        }
    }

    fn write8(&mut self, offset: u16, value: u8, now: Ticks) {
        let t = clock_at(now);
        self.advance(t);
        match (offset, value >> 6) {
            (CONTROL, READ_BACK) => self.read_back(value, t),
            (CONTROL, select) => self.counters[usize::from(select)].write_control(value, t),
            (offset, _) => {
                if let Some(counter) = self.counters.get_mut(usize::from(offset)) {
                    counter.write_count(value, t);
                }
            }
        }
        self.out0.set(self.counters[0].out(t));
    }
}

impl Timed for Pit {
    fn tick(&mut self, now: Ticks) -> Option<Ticks> {
        let t = clock_at(now);
        self.advance(t);
        self.counters[0].next_event(t).map(time_of)
    }
}

#[cfg(test)]
mod tests {
    //! Expected values are those of the Intel 8254 data sheet (231164-005), "Mode Definitions" and its figures.

    use super::counter::Clock;
    use super::*;
    use crate::device::Movement;

    /// A timer whose tests count in clock pulses.
    struct Bench {
        pit: Pit,
    }

    impl Bench {
        /// Counter `counter` programmed at pulse 0: mode with both bytes of `count`.
        fn new(counter: u16, mode: u8, count: u16) -> Bench {
            let mut bench = Bench { pit: Pit::new() };
            bench.control(counter, mode, 0);
            bench.count(counter, count, 0);
            bench
        }

        fn control(&mut self, counter: u16, mode: u8, at: counter::Clock) {
            self.pit.write8(CONTROL, (counter as u8) << 6 | 0x30 | mode << 1, time_of(at));
        }

        fn count(&mut self, counter: u16, count: u16, at: counter::Clock) {
            self.pit.write8(counter, count as u8, time_of(at));
            self.pit.write8(counter, (count >> 8) as u8, time_of(at));
        }

        /// The output and the count, by a read-back command for both.
        fn look(&mut self, counter: u16, at: counter::Clock) -> (bool, u16) {
            self.pit.write8(CONTROL, 0xc0 | 2 << counter, time_of(at));
            let [status, low, high] = [(); 3].map(|()| self.pit.read8(counter, time_of(at)));
            (status & STATUS_OUT != 0, u16::from_le_bytes([low, high]))
        }

        fn status(&mut self, counter: u16, at: counter::Clock) -> u8 {
            self.pit.write8(CONTROL, 0xe0 | 2 << counter, time_of(at));
            self.pit.read8(counter, time_of(at))
        }

        /// The output from pulse `from` on, as a string of high (-) and low (_).
        fn wave(&mut self, counter: u16, from: Clock, len: Clock) -> String {
            (from..from + len).map(|at| if self.look(counter, at).0 { '-' } else { '_' }).collect()
        }

        fn gate2(&mut self, gate: bool, at: counter::Clock) {
            self.pit.set_gate2(gate, time_of(at));
        }
    }

    #[test]
    fn the_clock_runs_at_105_over_88_megahertz() {
        assert_eq!(clock_at(Ticks(1_000_000_000)), 1_193_181);
        for clock in [0, 1, 2, 17, 1_193_182, 1 << 40] {
            assert_eq!(clock_at(time_of(clock)), clock);
            assert!(clock == 0 || clock_at(Ticks(time_of(clock).0 - 1)) == clock - 1);
        }
    }

    #[test]
    fn mode_0_goes_high_n_plus_1_pulses_after_the_count_is_written() {
        let mut b = Bench::new(0, 0, 4);
        assert_eq!(b.wave(0, 0, 8), "_____---");
        assert_eq!(b.look(0, 1).1, 4);
        assert_eq!(b.look(0, 4).1, 1);
        assert_eq!(b.look(0, 6).1, 0xffff, "it goes on counting after the terminal count");
    }

    #[test]
    fn mode_0_with_a_new_count_starts_over_and_its_first_byte_stops_the_old() {
        let mut b = Bench::new(0, 0, 4);
        b.pit.write8(0, 6, time_of(2));
        assert_eq!(b.wave(0, 2, 10), "__________");
        b.pit.write8(0, 0, time_of(12));
        assert_eq!(b.wave(0, 12, 9), "_______--");
    }

    #[test]
    fn mode_0_waits_while_the_gate_is_low() {
        let mut b = Bench::new(2, 0, 4);
        assert_eq!(b.look(2, 50), (false, 4));
        b.gate2(true, 50);
        assert_eq!(b.look(2, 52), (false, 2));
        b.gate2(false, 52);
        assert_eq!(b.look(2, 80), (false, 2));
        b.gate2(true, 80);
        assert_eq!(b.wave(2, 80, 4), "__--");
    }

    #[test]
    fn mode_1_is_a_one_shot_of_n_pulses_that_the_gate_retriggers() {
        let mut b = Bench::new(2, 1, 3);
        assert_eq!(b.wave(2, 0, 5), "-----");
        b.gate2(true, 10);
        assert_eq!(b.wave(2, 10, 6), "-___--");
        b.gate2(false, 20);
        b.gate2(true, 20);
        assert_eq!(b.wave(2, 20, 2), "-_");
        b.gate2(false, 22);
        b.gate2(true, 22);
        assert_eq!(b.wave(2, 22, 5), "____-");
    }

    #[test]
    fn mode_1_takes_a_new_count_only_with_the_next_trigger() {
        let mut b = Bench::new(2, 1, 3);
        b.gate2(true, 10);
        b.count(2, 5, 11);
        assert_eq!(b.wave(2, 11, 4), "___-");
        b.gate2(false, 20);
        b.gate2(true, 20);
        assert_eq!(b.wave(2, 20, 7), "-_____-");
    }

    #[test]
    fn mode_2_is_low_for_the_last_pulse_of_every_n() {
        let mut b = Bench::new(0, 2, 3);
        assert_eq!(b.wave(0, 0, 10), "---_--_--_");
        assert_eq!((1..8).map(|at| b.look(0, at).1).collect::<Vec<_>>(), [3, 2, 1, 3, 2, 1, 3]);
    }

    #[test]
    fn mode_2_takes_a_new_count_at_the_end_of_the_period() {
        let mut b = Bench::new(0, 2, 4);
        b.count(0, 5, 2);
        assert_eq!(b.status(0, 3) & STATUS_NULL_COUNT, STATUS_NULL_COUNT);
        assert_eq!(b.wave(0, 1, 9), "---_----_");
        assert_eq!(b.status(0, 10) & STATUS_NULL_COUNT, 0);
    }

    #[test]
    fn mode_2_is_stopped_high_by_the_gate_and_restarted_from_the_top() {
        let mut b = Bench::new(2, 2, 3);
        b.gate2(true, 0);
        assert_eq!(b.wave(2, 0, 5), "---_-");
        b.gate2(false, 6);
        assert_eq!(b.wave(2, 6, 4), "----");
        b.gate2(true, 10);
        assert_eq!(b.wave(2, 11, 3), "--_");
    }

    #[test]
    fn mode_3_is_high_for_half_the_count_and_counts_by_two() {
        let mut b = Bench::new(0, 3, 4);
        assert_eq!(b.wave(0, 1, 8), "--__--__");
        assert_eq!((1..5).map(|at| b.look(0, at).1).collect::<Vec<_>>(), [4, 2, 4, 2]);
    }

    #[test]
    fn mode_3_with_an_odd_count_is_high_for_one_pulse_more_than_low() {
        let mut b = Bench::new(0, 3, 5);
        assert_eq!(b.wave(0, 1, 10), "---__---__");
        assert_eq!((1..6).map(|at| b.look(0, at).1).collect::<Vec<_>>(), [4, 2, 0, 4, 2]);
    }

    #[test]
    fn mode_3_takes_a_new_count_at_the_end_of_the_half_period() {
        let mut b = Bench::new(0, 3, 8);
        b.count(0, 4, 2);
        assert_eq!(b.wave(0, 1, 10), "----__--__");
        let mut b = Bench::new(0, 3, 4);
        b.count(0, 8, 3);
        assert_eq!(b.wave(0, 3, 10), "__----____");
    }

    #[test]
    fn mode_4_strobes_low_for_one_pulse_n_plus_1_after_the_write() {
        let mut b = Bench::new(0, 4, 3);
        assert_eq!(b.wave(0, 0, 7), "----_--");
        assert_eq!(b.look(0, 5).1, 0xffff);
        b.count(0, 2, 20);
        assert_eq!(b.wave(0, 20, 5), "---_-");
    }

    #[test]
    fn mode_5_strobes_after_a_trigger_by_the_gate() {
        let mut b = Bench::new(2, 5, 3);
        assert_eq!(b.wave(2, 0, 6), "------");
        b.gate2(true, 10);
        assert_eq!(b.wave(2, 10, 7), "----_--");
    }

    #[test]
    fn a_count_of_zero_is_the_largest() {
        let mut b = Bench::new(0, 0, 0);
        assert!(!b.look(0, 65_536).0);
        assert!(b.look(0, 65_537).0);
        b.pit.write8(CONTROL, 0x31, time_of(100_000));
        b.count(0, 0, 100_000);
        assert!(!b.look(0, 110_000).0);
        assert!(b.look(0, 110_001).0);
    }

    #[test]
    fn bcd_counts_in_decimal() {
        let mut b = Bench { pit: Pit::new() };
        b.pit.write8(CONTROL, 0x35, time_of(0));
        b.count(0, 0x1000, 0);
        assert_eq!(b.look(0, 1).1, 0x1000);
        assert_eq!(b.look(0, 2).1, 0x0999);
        assert_eq!(b.look(0, 1001).1, 0x1000);
    }

    #[test]
    fn a_latched_count_stands_still_until_both_bytes_are_read() {
        let mut b = Bench::new(0, 2, 0x1000);
        b.pit.write8(CONTROL, 0x00, time_of(1));
        b.pit.write8(CONTROL, 0x00, time_of(0x300));
        assert_eq!(b.pit.read8(0, time_of(0x400)), 0x00);
        assert_eq!(b.pit.read8(0, time_of(0x500)), 0x10);
        assert_eq!(b.pit.read8(0, time_of(0x802)), 0xff, "unlatched reads follow the count");
        assert_eq!(b.pit.read8(0, time_of(0x802)), 0x07);
    }

    #[test]
    fn read_back_gives_status_before_the_count_and_names_several_counters() {
        let mut b = Bench::new(0, 2, 0x1234);
        b.control(1, 3, 0);
        b.pit.write8(CONTROL, 0xc6, time_of(1));
        assert_eq!(b.pit.read8(0, time_of(9)), STATUS_OUT | 0x34);
        assert_eq!(b.pit.read8(0, time_of(9)), 0x34);
        assert_eq!(b.pit.read8(0, time_of(9)), 0x12);
        // Counter 1 has no count yet: null count.
        assert_eq!(b.pit.read8(1, time_of(9)), STATUS_OUT | STATUS_NULL_COUNT | 0x36);
    }

    #[test]
    fn single_byte_access_leaves_the_other_byte_zero() {
        let mut b = Bench { pit: Pit::new() };
        b.pit.write8(CONTROL, 0x24, time_of(0));
        b.pit.write8(0, 0x02, time_of(0));
        assert_eq!(b.pit.read8(0, time_of(1)), 0x02);
        assert_eq!(b.pit.read8(0, time_of(2)), 0x01);
        b.pit.write8(CONTROL, 0x14, time_of(10));
        b.pit.write8(0, 0x02, time_of(10));
        assert_eq!(b.pit.read8(0, time_of(11)), 0x02);
    }

    #[test]
    fn counter_0_raises_its_line_once_a_period_even_if_looked_at_late() {
        for mode in [2, 3] {
            let mut b = Bench::new(0, mode, 1000);
            b.pit.tick(time_of(0));
            b.pit.out0.take();
            let mut rises = 0;
            let mut at = Ticks(0);
            while let Some(next) = b.pit.tick(at).filter(|&next| next <= time_of(10_001)) {
                at = next;
                b.pit.tick(at);
                rises += u32::from(b.pit.out0.take() == Some(Movement::Rose));
            }
            assert_eq!((rises, at), (10, time_of(10_001)), "mode {mode}");
            b.pit.tick(time_of(12_100));
            assert_eq!(b.pit.out0.take(), Some(Movement::Rose), "mode {mode}, a period and more later");
        }
    }

    #[test]
    fn a_forbidden_count_of_one_never_raises_the_line_nor_asks_for_time() {
        for mode in [2, 3] {
            let mut b = Bench::new(0, mode, 1);
            assert_eq!(b.pit.tick(time_of(5)), None);
            b.count(0, 10, 6);
            b.pit.tick(time_of(100));
            assert!(b.pit.tick(time_of(100)).is_some());
        }
    }
}
