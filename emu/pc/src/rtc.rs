//! The real-time clock and CMOS memory: Motorola MC146818 with 128 bytes, as in a PC AT.
//!
//! The time of day is a date at power-on plus virtual time; the host's clock is never read. Registers that are views
//! of the time (0-9, the century, UIP, the flags of C) are computed when read.
//!
//! Left out: daylight saving (register B bit 0 is kept, and does nothing), the square wave output, day of week other
//! than what the date says, and NMI masking by bit 7 of the index port.

use crate::calendar::DateTime;
use crate::device::{IrqLine, PortDevice, Timed};
use pagewalk_x86::bus::Ticks;
use pagewalk_x86::image::Damaged;
use serde::{Deserialize, Serialize};

// Offsets of the two ports.
const INDEX: u16 = 0;
const DATA: u16 = 1;

// Clock registers.
const SECONDS: u8 = 0x00;
const SECONDS_ALARM: u8 = 0x01;
const MINUTES: u8 = 0x02;
const MINUTES_ALARM: u8 = 0x03;
const HOURS: u8 = 0x04;
const HOURS_ALARM: u8 = 0x05;
const DAY_OF_WEEK: u8 = 0x06;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const REGISTER_A: u8 = 0x0a;
const REGISTER_B: u8 = 0x0b;
const REGISTER_C: u8 = 0x0c;
const REGISTER_D: u8 = 0x0d;
/// The century, where a PC's BIOS keeps it.
const CENTURY: u8 = 0x32;

const A_UPDATE_IN_PROGRESS: u8 = 1 << 7;
const A_DIVIDER_RESET: u8 = 0b110 << 4;
const A_RATE: u8 = 0x0f;
const B_SET: u8 = 1 << 7;
const B_24_HOURS: u8 = 1 << 1;
const B_BINARY: u8 = 1 << 2;
const C_IRQ: u8 = 1 << 7;
/// The same bits in B (enables) and C (flags).
const PERIODIC: u8 = 1 << 6;
const ALARM: u8 = 1 << 5;
const UPDATE: u8 = 1 << 4;
const D_VALID: u8 = 1 << 7;
const HOURS_PM: u8 = 1 << 7;
/// The upper two bits of an alarm register that make it match anything.
const DONT_CARE: u8 = 0xc0;

/// Bytes of memory, the clock's own among them.
const MEMORY: usize = 128;

const SECOND: u64 = 1_000_000_000;
/// UIP comes 244 us before the update cycle, which takes 1984 us with a 32.768 kHz crystal.
const UIP_BEFORE: u64 = 244_000 + 1_984_000;

/// The clock and its memory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rtc {
    index: u8,
    /// Every byte; the clock's own are valid only while its updates are stopped.
    memory: Vec<u8>,
    /// The time of day at `since`, in seconds.
    date: i64,
    /// When the second `date` began: in nanoseconds, possibly before power-on.
    since: i128,
    /// Flags of register C.
    flags: u8,
    /// How far periods, seconds and alarms have been looked at.
    seen: Ticks,
    /// The interrupt pin.
    pub irq: IrqLine,
}

impl Rtc {
    /// A clock that shows `start` at power-on, over memory of zeros.
    pub fn new(start: DateTime) -> Rtc {
        let mut memory = vec![0; MEMORY];
        memory[usize::from(REGISTER_A)] = 0x26;
        memory[usize::from(REGISTER_B)] = B_24_HOURS;
        Rtc {
            index: REGISTER_D,
            memory,
            date: start.to_seconds(),
            since: 0,
            flags: 0,
            seen: Ticks(0),
            irq: IrqLine::default(),
        }
    }

    /// The RESET pin: interrupts are disabled and their flags cleared; time and memory go on.
    pub fn reset(&mut self) {
        self.memory[usize::from(REGISTER_B)] &= !(PERIODIC | ALARM | UPDATE);
        self.flags = 0;
        self.drive_irq();
    }

    /// Writes a byte of memory behind the ports, as a BIOS would have left it.
    pub fn set_memory(&mut self, index: u8, value: u8) {
        if let Some(byte) = self.memory.get_mut(usize::from(index)) {
            *byte = value;
        }
    }

    /// A byte of memory.
    pub fn memory(&self, index: u8) -> u8 {
        self.memory.get(usize::from(index)).copied().unwrap_or(0xff)
    }

    /// Refuses what the chip can't hold, and dates that no clock shows.
    pub(crate) fn check(&self) -> Result<(), Damaged> {
        let memory = self.memory.len() == MEMORY && usize::from(self.index) < MEMORY;
        let date = self.date.unsigned_abs() < 1 << 50 && self.since.unsigned_abs() < 1 << 63;
        Damaged::unless(memory && date, "the clock chip")
    }

    /// Whether any interrupt is enabled.
    pub fn could_interrupt(&self) -> bool {
        self.register(REGISTER_B) & (PERIODIC | ALARM | UPDATE) != 0
    }

    fn register(&self, index: u8) -> u8 {
        self.memory[usize::from(index & 0x7f)]
    }

    /// Whether updates are stopped: by the SET bit, or by the divider being held in reset.
    fn stopped(&self) -> bool {
        self.register(REGISTER_B) & B_SET != 0 || self.divider_held()
    }

    fn divider_held(&self) -> bool {
        self.register(REGISTER_A) & A_DIVIDER_RESET == A_DIVIDER_RESET
    }

    /// Nanoseconds since the start of second `date`.
    fn elapsed(&self, now: Ticks) -> u64 {
        u64::try_from(i128::from(now.0) - self.since).unwrap_or(0)
    }

    fn seconds(&self, now: Ticks) -> i64 {
        self.date.saturating_add_unsigned(self.elapsed(now) / SECOND)
    }

    /// When the second after `now` begins.
    fn next_second(&self, now: Ticks) -> Ticks {
        let boundary = self.since + i128::from(self.elapsed(now) / SECOND + 1) * i128::from(SECOND);
        Ticks(u64::try_from(boundary).unwrap_or(u64::MAX))
    }

    /// The period of the periodic interrupt, as log2 of 32.768 kHz cycles.
    fn period_log2(&self) -> Option<u32> {
        match self.register(REGISTER_A) & A_RATE {
            0 => None,
            _ if self.divider_held() => None,
            // Rates 1 and 2 repeat 8 and 9.
            rate @ 1..=2 => Some(u32::from(rate) + 6),
            rate => Some(u32::from(rate) - 1),
        }
    }

    /// How many periods have passed at `now`, and when the next one ends.
    fn periods(&self, now: Ticks, log2: u32) -> (u64, Ticks) {
        let cycles = u128::from(self.elapsed(now)) * 32_768 / u128::from(SECOND);
        let count = cycles >> log2;
        let next = ((count + 1) << log2) * u128::from(SECOND);
        let next = self.since + next.div_ceil(32_768) as i128;
        (count as u64, Ticks(u64::try_from(next).unwrap_or(u64::MAX)))
    }

    // -- Encoding: BCD or binary, 12 or 24 hours (register B).

    fn encode(&self, value: u8) -> u8 {
        if self.register(REGISTER_B) & B_BINARY != 0 {
            value
        } else {
            ((value / 10 % 10) << 4) | (value % 10)
        }
    }

    fn decode(&self, raw: u8) -> u8 {
        if self.register(REGISTER_B) & B_BINARY != 0 { raw } else { (raw >> 4) * 10 + (raw & 15) }
    }

    fn encode_hours(&self, hours: u8) -> u8 {
        if self.register(REGISTER_B) & B_24_HOURS != 0 {
            return self.encode(hours);
        }
        let pm = if hours >= 12 { HOURS_PM } else { 0 };
        self.encode(if hours.is_multiple_of(12) { 12 } else { hours % 12 }) | pm
    }

    fn decode_hours(&self, raw: u8) -> u8 {
        if self.register(REGISTER_B) & B_24_HOURS != 0 {
            return self.decode(raw);
        }
        self.decode(raw & !HOURS_PM) % 12 + if raw & HOURS_PM != 0 { 12 } else { 0 }
    }

    /// The clock's registers as they show `date`.
    fn registers(&self, date: i64) -> [(u8, u8); 8] {
        let d = DateTime::from_seconds(date);
        [
            (SECONDS, self.encode(d.second)),
            (MINUTES, self.encode(d.minute)),
            (HOURS, self.encode_hours(d.hour)),
            (DAY_OF_WEEK, self.encode(d.day_of_week())),
            (DAY, self.encode(d.day)),
            (MONTH, self.encode(d.month)),
            (YEAR, self.encode((d.year % 100) as u8)),
            (CENTURY, self.encode((d.year / 100) as u8)),
        ]
    }

    /// The running time, written into the registers before updates stop or one of them is changed.
    fn store_time(&mut self, now: Ticks) {
        for (index, value) in self.registers(self.seconds(now)) {
            self.memory[usize::from(index)] = value;
        }
    }

    /// The time that the registers show, from which the clock goes on. Nonsense is brought into range.
    fn load_time(&mut self) {
        let field = |index: u8| self.decode(self.register(index));
        self.date = DateTime {
            year: u16::from(field(CENTURY)) * 100 + u16::from(field(YEAR)),
            month: field(MONTH),
            day: field(DAY),
            hour: self.decode_hours(self.register(HOURS)),
            minute: field(MINUTES),
            second: field(SECONDS),
        }
        .clamped()
        .to_seconds();
    }

    // -- Events.

    /// The first second after `date` that the alarm registers match, within a day.
    fn next_alarm(&self, date: i64) -> Option<i64> {
        let wanted = |index: u8, hours: bool| {
            let raw = self.register(index);
            (raw & DONT_CARE != DONT_CARE)
                .then(|| if hours { self.decode_hours(raw) } else { self.decode(raw) })
        };
        let (h, m, s) =
            (wanted(HOURS_ALARM, true), wanted(MINUTES_ALARM, false), wanted(SECONDS_ALARM, false));
        let candidates = |field: Option<u8>, len: u8| match field {
            Some(value) if value < len => value..value + 1,
            Some(_) => 0..0,
            None => 0..len,
        };
        let midnight = date - date.rem_euclid(86_400);
        for day in 0..2 {
            for hour in candidates(h, 24) {
                let hour_start = midnight + day * 86_400 + i64::from(hour) * 3600;
                if hour_start + 3599 <= date {
                    continue;
                }
                for minute in candidates(m, 60) {
                    let start = hour_start + i64::from(minute) * 60;
                    if start + 59 <= date {
                        continue;
                    }
                    if let Some(at) =
                        candidates(s, 60).map(|second| start + i64::from(second)).find(|&at| at > date)
                    {
                        return Some(at);
                    }
                }
            }
        }
        None
    }

    fn time_of_second(&self, date: i64) -> Ticks {
        let at = self.since + i128::from(date - self.date) * i128::from(SECOND);
        Ticks(u64::try_from(at).unwrap_or(u64::MAX))
    }

    /// Sets the flags of what happened up to `now`.
    fn advance(&mut self, now: Ticks) {
        if now <= self.seen {
            return;
        }
        let seen = std::mem::replace(&mut self.seen, now);
        if let Some(log2) = self.period_log2()
            && self.periods(seen, log2).0 != self.periods(now, log2).0
        {
            self.flags |= PERIODIC;
        }
        let (before, after) = (self.seconds(seen), self.seconds(now));
        if !self.stopped() && before != after {
            self.flags |= UPDATE;
            if self.next_alarm(before).is_some_and(|at| at <= after) {
                self.flags |= ALARM;
            }
        }
        self.drive_irq();
    }

    fn drive_irq(&mut self) {
        let level = self.flags & self.register(REGISTER_B) & (PERIODIC | ALARM | UPDATE) != 0;
        self.irq.set(level);
    }

    fn read(&mut self, index: u8, now: Ticks) -> u8 {
        match index {
            SECONDS | MINUTES | HOURS | DAY_OF_WEEK | DAY | MONTH | YEAR | CENTURY if !self.stopped() => {
                let date = self.seconds(now);
                self.registers(date)
                    .iter()
                    .find(|(register, _)| *register == index)
                    .map_or(0xff, |(_, value)| *value)
            }
            REGISTER_A => {
                let updating = !self.stopped() && self.next_second(now).0 - now.0 <= UIP_BEFORE;
                self.register(REGISTER_A) | if updating { A_UPDATE_IN_PROGRESS } else { 0 }
            }
            REGISTER_C => {
                let pending = if self.irq.level() { C_IRQ } else { 0 };
                std::mem::take(&mut self.flags) | pending
            }
            REGISTER_D => D_VALID,
            _ => self.register(index),
        }
    }

    fn write(&mut self, index: u8, value: u8, now: Ticks) {
        let slot = usize::from(index);
        match index {
            SECONDS | MINUTES | HOURS | DAY_OF_WEEK | DAY | MONTH | YEAR | CENTURY => {
                if self.stopped() {
                    self.memory[slot] = value;
                } else {
                    self.store_time(now);
                    let phase = i128::from(self.elapsed(now) % SECOND);
                    self.memory[slot] = value;
                    self.load_time();
                    self.since = i128::from(now.0) - phase;
                }
            }
            REGISTER_A | REGISTER_B => {
                let (was_stopped, was_held) = (self.stopped(), self.divider_held());
                if !was_stopped {
                    self.store_time(now);
                }
                let phase = i128::from(self.elapsed(now) % SECOND);
                self.memory[slot] = match index {
                    REGISTER_A => value & !A_UPDATE_IN_PROGRESS,
                    // Manual: setting SET clears the update interrupt's enable.
                    _ if value & B_SET != 0 => value & !UPDATE,
                    _ => value,
                };
                if was_held && !self.divider_held() {
                    // Manual: the first update comes half a second after the divider is released.
                    self.since = i128::from(now.0) - i128::from(SECOND / 2);
                    self.load_time();
                } else if was_stopped && !self.stopped() {
                    self.since = i128::from(now.0) - phase;
                    self.load_time();
                }
            }
            REGISTER_C | REGISTER_D => {}
            _ => self.memory[slot] = value,
        }
    }
}

impl PortDevice for Rtc {
    fn read8(&mut self, offset: u16, now: Ticks) -> u8 {
        self.advance(now);
        let value = match offset {
            DATA => self.read(self.index, now),
            // The index port is for writing only.
            _ => 0xff,
        };
        self.drive_irq();
        value
    }

    fn write8(&mut self, offset: u16, value: u8, now: Ticks) {
        self.advance(now);
        match offset {
            INDEX => self.index = value & 0x7f,
            DATA => self.write(self.index, value, now),
            _ => {}
        }
        self.drive_irq();
    }
}

impl Timed for Rtc {
    fn tick(&mut self, now: Ticks) -> Option<Ticks> {
        self.advance(now);
        let enables = self.register(REGISTER_B);
        let mut next = None;
        if enables & PERIODIC != 0 {
            next = self.period_log2().map(|log2| self.periods(now, log2).1);
        }
        if !self.stopped() {
            let update = (enables & UPDATE != 0).then(|| self.next_second(now));
            let alarm = (enables & ALARM != 0).then(|| self.next_alarm(self.seconds(now))).flatten();
            next = crate::device::earlier(next, update);
            next = crate::device::earlier(next, alarm.map(|date| self.time_of_second(date)));
        }
        next
    }
}

#[cfg(test)]
mod tests {
    //! Expected values are those of the MC146818 data sheet (Motorola, 1984): tables 1-5 and the registers A to D.

    use super::*;

    fn clock() -> Rtc {
        Rtc::new(DateTime { year: 1999, month: 12, day: 31, hour: 23, minute: 59, second: 58 })
    }

    fn get(rtc: &mut Rtc, index: u8, at: u64) -> u8 {
        rtc.write8(INDEX, index, Ticks(at));
        rtc.read8(DATA, Ticks(at))
    }

    fn set(rtc: &mut Rtc, index: u8, value: u8, at: u64) {
        rtc.write8(INDEX, index, Ticks(at));
        rtc.write8(DATA, value, Ticks(at));
    }

    fn show(rtc: &mut Rtc, at: u64) -> [u8; 8] {
        [CENTURY, YEAR, MONTH, DAY, DAY_OF_WEEK, HOURS, MINUTES, SECONDS].map(|index| get(rtc, index, at))
    }

    #[test]
    fn the_turn_of_the_century_carries_through_every_register() {
        let mut rtc = clock();
        assert_eq!(show(&mut rtc, 2 * SECOND - 1), [0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x59]);
        assert_eq!(show(&mut rtc, 2 * SECOND), [0x20, 0x00, 0x01, 0x01, 7, 0x00, 0x00, 0x00]);
    }

    #[test]
    fn binary_mode_and_twelve_hours_change_what_the_registers_show() {
        let mut rtc = clock();
        set(&mut rtc, REGISTER_B, B_BINARY | B_24_HOURS, 0);
        assert_eq!(show(&mut rtc, 0), [19, 99, 12, 31, 6, 23, 59, 58]);
        set(&mut rtc, REGISTER_B, 0, 0);
        // Table 2: 11 PM in BCD is 91h, 12 AM is 12h.
        assert_eq!(get(&mut rtc, HOURS, 0), 0x91);
        assert_eq!(get(&mut rtc, HOURS, 2 * SECOND), 0x12);
        assert_eq!(get(&mut rtc, HOURS, (2 + 12 * 3600) * SECOND), 0x92);
    }

    #[test]
    fn the_set_bit_holds_the_time_and_a_program_may_set_it() {
        let mut rtc = clock();
        set(&mut rtc, REGISTER_B, B_SET | B_24_HOURS | UPDATE, 0);
        assert_eq!(get(&mut rtc, REGISTER_B, 0), B_SET | B_24_HOURS, "SET clears the update enable");
        assert_eq!(get(&mut rtc, SECONDS, 10 * SECOND), 0x58);
        for (index, value) in [(YEAR, 0x24), (CENTURY, 0x20), (MONTH, 0x02), (DAY, 0x28), (SECONDS, 0x59)] {
            set(&mut rtc, index, value, 10 * SECOND);
        }
        set(&mut rtc, REGISTER_B, B_24_HOURS, 10 * SECOND);
        assert_eq!(show(&mut rtc, 11 * SECOND), [0x20, 0x24, 0x02, 0x29, 5, 0x00, 0x00, 0x00]);
    }

    #[test]
    fn setting_a_running_clock_changes_only_what_is_written() {
        let mut rtc = clock();
        set(&mut rtc, MINUTES, 0x30, SECOND / 2);
        assert_eq!(show(&mut rtc, SECOND - 1)[5..], [0x23, 0x30, 0x58]);
        assert_eq!(show(&mut rtc, SECOND)[5..], [0x23, 0x30, 0x59]);
    }

    #[test]
    fn uip_rises_2228_microseconds_before_each_update() {
        let mut rtc = clock();
        for (at, uip) in
            [(0, 0), (SECOND - 2_228_001, 0), (SECOND - 2_228_000, 0x80), (SECOND - 1, 0x80), (SECOND, 0)]
        {
            assert_eq!(get(&mut rtc, REGISTER_A, at), 0x26 | uip, "at {at}");
        }
        set(&mut rtc, REGISTER_B, B_SET, SECOND);
        assert_eq!(get(&mut rtc, REGISTER_A, 2 * SECOND - 1), 0x26, "SET keeps UIP low");
    }

    #[test]
    fn register_d_says_the_memory_is_valid_and_c_is_read_only() {
        let mut rtc = clock();
        set(&mut rtc, REGISTER_D, 0, 0);
        set(&mut rtc, REGISTER_C, 0xff, 0);
        assert_eq!((get(&mut rtc, REGISTER_D, 0), get(&mut rtc, REGISTER_C, 0)), (0x80, 0x00));
    }

    #[test]
    fn the_update_interrupt_comes_every_second_and_reading_c_ends_it() {
        let mut rtc = clock();
        set(&mut rtc, REGISTER_B, UPDATE | B_24_HOURS, 0);
        assert_eq!(rtc.tick(Ticks(0)), Some(Ticks(SECOND)));
        rtc.tick(Ticks(SECOND));
        assert!(rtc.irq.level());
        assert_eq!(get(&mut rtc, REGISTER_C, SECOND), C_IRQ | UPDATE | PERIODIC);
        assert!(!rtc.irq.level());
        assert_eq!(rtc.tick(Ticks(SECOND)), Some(Ticks(2 * SECOND)));
    }

    #[test]
    fn flags_are_set_without_their_enables_but_then_without_irqf() {
        let mut rtc = clock();
        assert_eq!(get(&mut rtc, REGISTER_C, SECOND), UPDATE | PERIODIC);
        assert!(!rtc.irq.level());
        assert_eq!(get(&mut rtc, REGISTER_C, SECOND), 0);
    }

    #[test]
    fn enabling_an_interrupt_whose_flag_is_set_raises_the_pin() {
        let mut rtc = clock();
        set(&mut rtc, REGISTER_B, UPDATE | B_24_HOURS, SECOND + 1);
        assert!(rtc.irq.level());
    }

    #[test]
    fn the_periodic_rates_are_those_of_table_5() {
        // Rate select to period in nanoseconds, 32.768 kHz time base.
        let table: [(u8, u64); 15] = [
            (1, 3_906_250),
            (2, 7_812_500),
            (3, 122_071),
            (4, 244_141),
            (5, 488_282),
            (6, 976_563),
            (7, 1_953_125),
            (8, 3_906_250),
            (9, 7_812_500),
            (10, 15_625_000),
            (11, 31_250_000),
            (12, 62_500_000),
            (13, 125_000_000),
            (14, 250_000_000),
            (15, 500_000_000),
        ];
        for (rate, period) in table {
            let mut rtc = clock();
            set(&mut rtc, REGISTER_A, 0x20 | rate, 0);
            set(&mut rtc, REGISTER_B, PERIODIC, 0);
            assert_eq!(rtc.tick(Ticks(0)), Some(Ticks(period)), "rate {rate}");
            rtc.tick(Ticks(period));
            assert!(rtc.irq.level());
            assert_eq!(get(&mut rtc, REGISTER_C, period) & (C_IRQ | PERIODIC), C_IRQ | PERIODIC);
        }
        let mut rtc = clock();
        set(&mut rtc, REGISTER_A, 0x20, 0);
        set(&mut rtc, REGISTER_B, PERIODIC, 0);
        assert_eq!(rtc.tick(Ticks(0)), None, "rate 0 is none");
    }

    #[test]
    fn the_alarm_matches_hours_minutes_and_seconds() {
        let mut rtc = clock();
        for (index, value) in [(HOURS_ALARM, 0x00), (MINUTES_ALARM, 0x01), (SECONDS_ALARM, 0x02)] {
            set(&mut rtc, index, value, 0);
        }
        set(&mut rtc, REGISTER_B, ALARM | B_24_HOURS, 0);
        assert_eq!(rtc.tick(Ticks(0)), Some(Ticks(64 * SECOND)));
        rtc.tick(Ticks(64 * SECOND - 1));
        assert!(!rtc.irq.level());
        rtc.tick(Ticks(64 * SECOND));
        assert_eq!(get(&mut rtc, REGISTER_C, 64 * SECOND) & (C_IRQ | ALARM), C_IRQ | ALARM);
        assert_eq!(rtc.tick(Ticks(64 * SECOND)), Some(Ticks((64 + 86_400) * SECOND)));
    }

    #[test]
    fn dont_care_codes_make_the_alarm_come_every_hour_minute_or_second() {
        for (hours, minutes, seconds, first, second) in
            [(0xc0, 0x00, 0x05, 7, 3607), (0xff, 0xff, 0x05, 7, 67), (0xff, 0xc0, 0xff, 1, 2)]
        {
            let mut rtc = clock();
            for (index, value) in [(HOURS_ALARM, hours), (MINUTES_ALARM, minutes), (SECONDS_ALARM, seconds)] {
                set(&mut rtc, index, value, 0);
            }
            set(&mut rtc, REGISTER_B, ALARM | B_24_HOURS, 0);
            assert_eq!(rtc.tick(Ticks(0)), Some(Ticks(first * SECOND)));
            assert_eq!(rtc.tick(Ticks(first * SECOND)), Some(Ticks(second * SECOND)));
        }
    }

    #[test]
    fn an_alarm_that_no_time_can_match_never_comes() {
        let mut rtc = clock();
        set(&mut rtc, MINUTES_ALARM, 0x75, 0);
        set(&mut rtc, REGISTER_B, ALARM | B_24_HOURS, 0);
        assert_eq!(rtc.tick(Ticks(0)), None);
    }

    #[test]
    fn the_first_update_comes_half_a_second_after_the_divider_is_released() {
        let mut rtc = clock();
        set(&mut rtc, REGISTER_A, 0x60, SECOND / 4);
        assert_eq!(get(&mut rtc, SECONDS, 9 * SECOND), 0x58);
        set(&mut rtc, REGISTER_A, 0x26, 10 * SECOND);
        assert_eq!(get(&mut rtc, SECONDS, 10 * SECOND + SECOND / 2 - 1), 0x58);
        assert_eq!(get(&mut rtc, SECONDS, 10 * SECOND + SECOND / 2), 0x59);
    }

    #[test]
    fn memory_beyond_the_clock_holds_what_is_written_and_bit_7_of_the_index_is_the_nmi_mask() {
        let mut rtc = clock();
        for index in (0x0e..0x80).filter(|&index| index != CENTURY) {
            set(&mut rtc, index, index ^ 0x5a, 0);
        }
        for index in (0x0e..0x80).filter(|&index| index != CENTURY) {
            assert_eq!(get(&mut rtc, index | 0x80, 0), index ^ 0x5a);
        }
        assert_eq!(rtc.read8(INDEX, Ticks(0)), 0xff);
    }

    #[test]
    fn any_byte_may_be_written_to_any_register() {
        let mut rtc = clock();
        for value in [0x00, 0x7f, 0x80, 0xff, 0xa5] {
            for index in 0..=0xff {
                set(&mut rtc, index, value, u64::from(value) * SECOND);
                get(&mut rtc, index, u64::from(value) * SECOND);
                rtc.tick(Ticks(u64::from(value) * SECOND + 5));
            }
        }
        set(&mut rtc, REGISTER_B, 0x76, 1 << 60);
        rtc.tick(Ticks(u64::MAX));
    }
}
