//! One counter of the timer: 8254 data sheet, "Mode Definitions" and "Operation Common to All Modes".

use super::{STATUS_NULL_COUNT, STATUS_OUT};
use pagewalk_x86::bus::Ticks;
use serde::{Deserialize, Serialize};

/// Clock pulses since power-on. Signed, because a square wave's phase may be reckoned from before it.
pub(super) type Clock = i64;

/// The last clock pulse at or before `now`: 105/88 MHz, the colour burst's third.
pub(super) fn clock_at(now: Ticks) -> Clock {
    (u128::from(now.0) * 105 / 88_000) as Clock
}

/// The time of a clock pulse.
pub(super) fn time_of(clock: Clock) -> Ticks {
    let ns = (clock.max(0) as u128 * 88_000).div_ceil(105);
    Ticks(u64::try_from(ns).unwrap_or(u64::MAX))
}

/// The six modes of the data sheet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Mode {
    /// 0: interrupt on terminal count.
    TerminalCount,
    /// 1: hardware retriggerable one-shot.
    OneShot,
    /// 2: rate generator.
    RateGenerator,
    /// 3: square wave.
    SquareWave,
    /// 4: software triggered strobe.
    SoftwareStrobe,
    /// 5: hardware triggered strobe.
    HardwareStrobe,
}

impl Mode {
    /// From M2 M1 M0; M2 is ignored in modes 2 and 3.
    fn from_bits(bits: u8) -> Mode {
        match bits & 7 {
            0 => Mode::TerminalCount,
            1 => Mode::OneShot,
            2 | 6 => Mode::RateGenerator,
            3 | 7 => Mode::SquareWave,
            4 => Mode::SoftwareStrobe,
            _ => Mode::HardwareStrobe,
        }
    }

    fn is_periodic(self) -> bool {
        matches!(self, Mode::RateGenerator | Mode::SquareWave)
    }

    /// Whether counting starts by a rising gate rather than by writing the count.
    fn is_gate_triggered(self) -> bool {
        matches!(self, Mode::OneShot | Mode::HardwareStrobe)
    }
}

/// Which bytes of the count an access moves (RW1 RW0).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Access {
    Low,
    High,
    LowThenHigh,
}

/// The counting element since it was last loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Run {
    /// The count loaded, 1 to 65536.
    n: Clock,
    /// The clock pulse that loaded it.
    start: Clock,
    /// The output until that pulse.
    before: bool,
    /// Pulses counted when the gate stopped it.
    frozen: Option<Clock>,
}

/// A count on its way into the counting element.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Reload {
    at: Clock,
    n: Clock,
    /// From when the new run's phase is reckoned.
    start: Clock,
}

/// A latched value with what of it has yet to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Latched {
    value: u16,
    low_read: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Counter {
    mode: Mode,
    access: Access,
    /// The control word's bits 5-0, for the status byte.
    control: u8,
    bcd: bool,
    gate: bool,
    run: Option<Run>,
    reload: Option<Reload>,
    /// The count register; `None` until written after a control word.
    written: Option<Clock>,
    /// The low byte of a two-byte write that lacks its high byte.
    low_written: Option<u8>,
    /// The next unlatched read of a two-byte count gives the high byte.
    high_next: bool,
    latched_count: Option<Latched>,
    pub latched_status: Option<u8>,
    /// What the counting element held when it was last stopped or replaced.
    last_count: Clock,
    /// How far edges of the output have been looked at.
    seen: Clock,
}

impl Counter {
    pub fn new(gate: bool) -> Counter {
        Counter {
            mode: Mode::SquareWave,
            access: Access::LowThenHigh,
            control: 0x36,
            bcd: false,
            gate,
            run: None,
            reload: None,
            written: None,
            low_written: None,
            high_next: false,
            latched_count: None,
            latched_status: None,
            last_count: 0,
            seen: 0,
        }
    }

    /// Whether all counts are possible ones, and all times reached by some run.
    pub fn is_sound(&self) -> bool {
        let loads = [self.written, self.run.map(|run| run.n), self.reload.map(|reload| reload.n)];
        let frozen = self.run.and_then(|run| run.frozen);
        let starts = [self.run.map(|run| run.start), self.reload.map(|reload| reload.start), frozen];
        let times = [self.reload.map(|reload| reload.at), Some(self.last_count), Some(self.seen)];
        loads.into_iter().flatten().all(|n| (1..=65_536).contains(&n))
            && starts.into_iter().chain(times).flatten().all(|t| t.unsigned_abs() < 1 << 60)
            && frozen.is_none_or(|counted| counted >= 0)
    }

    fn modulus(&self) -> Clock {
        if self.bcd { 10_000 } else { 65_536 }
    }

    /// The output at `t`. [`Counter::advance`] has been called for `t`.
    pub fn out(&self, t: Clock) -> bool {
        let Some(run) = self.run else { return self.mode != Mode::TerminalCount };
        if self.mode.is_periodic() && !self.gate {
            return true;
        }
        let e = run.frozen.unwrap_or(t - run.start);
        if e < 0 {
            return run.before;
        }
        match self.mode {
            Mode::TerminalCount | Mode::OneShot => e >= run.n,
            // Low for the one pulse at which the count is 1.
            Mode::RateGenerator => run.n < 2 || e % run.n != run.n - 1,
            // High for N/2, or (N+1)/2 if N is odd.
            Mode::SquareWave => e % run.n < (run.n + 1) / 2,
            Mode::SoftwareStrobe | Mode::HardwareStrobe => e != run.n,
        }
    }

    /// The counting element at `t`, as the bus sees it.
    fn count(&self, t: Clock) -> u16 {
        let count = match self.run {
            Some(run) if run.frozen.is_some() || t >= run.start => {
                self.element(run, run.frozen.unwrap_or(t - run.start))
            }
            _ => self.last_count,
        };
        let count = count.rem_euclid(self.modulus()) as u16;
        if self.bcd { to_bcd(count) } else { count }
    }

    /// The counting element `e` pulses after its load.
    fn element(&self, run: Run, e: Clock) -> Clock {
        let n = run.n;
        match self.mode {
            Mode::RateGenerator => n - e.rem_euclid(n),
            Mode::SquareWave => {
                let (p, high) = (e.rem_euclid(n), (n + 1) / 2);
                // Counts down by two in each half; odd counts are loaded less one.
                (n & !1) - 2 * if p < high { p } else { p - high }
            }
            _ => n - e,
        }
    }

    /// The first pulse after `t` at which the output rises, if the run goes on as it is.
    fn next_rise(&self, t: Clock) -> Option<Clock> {
        let run = self.run.filter(|run| run.frozen.is_none())?;
        match self.mode {
            Mode::TerminalCount | Mode::OneShot => Some(run.start + run.n),
            Mode::SoftwareStrobe | Mode::HardwareStrobe => Some(run.start + run.n + 1),
            Mode::RateGenerator | Mode::SquareWave if run.n < 2 || !self.gate => None,
            Mode::RateGenerator | Mode::SquareWave => {
                let periods = ((t - run.start).div_euclid(run.n) + 1).max(1);
                Some(run.start + periods * run.n)
            }
        }
        .filter(|&at| at > t)
    }

    /// The first pulse after `t` at which the output falls and stays low for more than one pulse.
    fn next_fall(&self, t: Clock) -> Option<Clock> {
        let run = self.run.filter(|run| run.frozen.is_none())?;
        match self.mode {
            Mode::OneShot => Some(run.start),
            Mode::SquareWave if run.n >= 2 && self.gate => {
                let first = run.start + (run.n + 1) / 2;
                let periods = ((t - first).div_euclid(run.n) + 1).max(0);
                Some(first + periods * run.n)
            }
            _ => None,
        }
        .filter(|&at| at > t)
    }

    /// Catches up with `t`. Returns whether the output rose on the way.
    pub fn advance(&mut self, t: Clock) -> bool {
        let mut rose = false;
        if let Some(reload) = self.reload.filter(|reload| reload.at <= t) {
            rose |= self.next_rise(self.seen).is_some_and(|at| at <= reload.at);
            self.run = Some(Run { n: reload.n, start: reload.start, before: true, frozen: None });
            self.reload = None;
            self.seen = self.seen.max(reload.at);
        }
        rose |= self.next_rise(self.seen).is_some_and(|at| at <= t);
        self.seen = self.seen.max(t);
        rose
    }

    /// The next pulse at which the output or the count register's use changes.
    pub fn next_event(&self, t: Clock) -> Option<Clock> {
        let reload = self.reload.map(|reload| reload.at);
        [self.next_rise(t), self.next_fall(t), reload].into_iter().flatten().min()
    }

    /// Whether the output will rise if nobody touches the counter.
    pub fn may_rise(&self) -> bool {
        self.reload.is_some() || self.next_rise(self.seen).is_some()
    }

    fn keep_count(&mut self, t: Clock) {
        if let Some(run) = self.run.filter(|run| run.frozen.is_some() || t >= run.start) {
            self.last_count = self.element(run, run.frozen.unwrap_or(t - run.start));
        }
    }

    /// Loads `n` with the next clock pulse.
    fn load(&mut self, n: Clock, t: Clock) {
        let before = self.mode != Mode::TerminalCount && self.out(t);
        self.keep_count(t);
        let held = matches!(self.mode, Mode::TerminalCount | Mode::SoftwareStrobe) && !self.gate;
        self.run = Some(Run { n, start: t + 1, before, frozen: held.then_some(0) });
        self.reload = None;
    }

    pub fn write_control(&mut self, value: u8, t: Clock) {
        let access = match value >> 4 & 3 {
            0 => return self.latch_count(t),
            1 => Access::Low,
            2 => Access::High,
            _ => Access::LowThenHigh,
        };
        self.keep_count(t);
        self.control = value & 0x3f;
        self.mode = Mode::from_bits(value >> 1);
        self.bcd = value & 1 != 0;
        self.access = access;
        self.run = None;
        self.reload = None;
        self.written = None;
        self.low_written = None;
        self.high_next = false;
        self.latched_count = None;
        self.latched_status = None;
    }

    pub fn write_count(&mut self, value: u8, t: Clock) {
        let raw = match (self.access, self.low_written.take()) {
            (Access::Low, _) => u16::from(value),
            (Access::High, _) => u16::from(value) << 8,
            (Access::LowThenHigh, None) => {
                self.low_written = Some(value);
                // Manual: in mode 0 the first byte stops the counting and the output goes low at once.
                if self.mode == Mode::TerminalCount {
                    self.keep_count(t);
                    self.run = None;
                }
                return;
            }
            (Access::LowThenHigh, Some(low)) => u16::from(value) << 8 | u16::from(low),
        };
        let n = match if self.bcd { from_bcd(raw) } else { Clock::from(raw) } {
            0 => self.modulus(),
            n => n,
        };
        self.written = Some(n);
        match self.run {
            // The trigger will load it.
            _ if self.mode.is_gate_triggered() => {}
            _ if !self.mode.is_periodic() => self.load(n, t),
            None if self.gate => self.load(n, t),
            // A stopped wave starts anew when the gate rises.
            _ if !self.gate => {}
            None => {}
            // Manual: a new count comes into use at the end of the period, or of the half-period in mode 3.
            Some(run) => self.reload = Some(self.at_next_boundary(run, n, t)),
        }
    }

    fn at_next_boundary(&self, run: Run, n: Clock, t: Clock) -> Reload {
        let e = (t - run.start).max(0);
        let period_end = run.start + (e / run.n + 1) * run.n;
        let half = run.start + e / run.n * run.n + (run.n + 1) / 2;
        if self.mode == Mode::SquareWave && half > t && run.n > 1 {
            // The low half follows: reckon from where its high half would have begun.
            Reload { at: half, n, start: half - (n + 1) / 2 }
        } else {
            Reload { at: period_end, n, start: period_end }
        }
    }

    /// Whether a written count has not reached the counting element yet.
    fn null_count(&self, t: Clock) -> bool {
        let Some(written) = self.written else { return true };
        if self.low_written.is_some() || self.reload.is_some() {
            return true;
        }
        self.run.is_none_or(|run| run.n != written || (run.frozen.is_none() && t < run.start))
    }

    pub fn status(&self, t: Clock) -> u8 {
        let out = if self.out(t) { STATUS_OUT } else { 0 };
        let null = if self.null_count(t) { STATUS_NULL_COUNT } else { 0 };
        out | null | self.control
    }

    /// Manual: a count latched and not yet read is kept; later latch commands are ignored.
    pub fn latch_count(&mut self, t: Clock) {
        if self.latched_count.is_none() {
            self.latched_count = Some(Latched { value: self.count(t), low_read: false });
        }
    }

    pub fn read(&mut self, t: Clock) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let (value, high) = match (self.latched_count, self.access) {
            (Some(latched), Access::LowThenHigh) if !latched.low_read => {
                self.latched_count = Some(Latched { low_read: true, ..latched });
                return latched.value as u8;
            }
            (Some(latched), access) => {
                self.latched_count = None;
                (latched.value, access != Access::Low)
            }
            (None, Access::LowThenHigh) => {
                let high = self.high_next;
                self.high_next = !high;
                (self.count(t), high)
            }
            (None, access) => (self.count(t), access == Access::High),
        };
        if high { (value >> 8) as u8 } else { value as u8 }
    }

    /// The gate pin (figure "Gate Pin Operations Summary").
    pub fn set_gate(&mut self, gate: bool, t: Clock) {
        let before = self.out(t);
        let rises = gate && !self.gate;
        let falls = !gate && self.gate;
        match self.mode {
            Mode::TerminalCount | Mode::SoftwareStrobe => {
                if let Some(run) = &mut self.run {
                    match run.frozen {
                        Some(e) if rises => (run.start, run.frozen) = (t - e, None),
                        None if falls => run.frozen = Some((t - run.start).max(0)),
                        _ => {}
                    }
                }
            }
            Mode::OneShot | Mode::HardwareStrobe => {
                if let Some(n) = self.written.filter(|_| rises) {
                    self.keep_count(t);
                    self.run = Some(Run { n, start: t + 1, before, frozen: None });
                }
            }
            Mode::RateGenerator | Mode::SquareWave => {
                if falls {
                    if let Some(run) = &mut self.run {
                        run.frozen = Some((t - run.start).max(0));
                    }
                    self.reload = None;
                } else if let Some(n) = self.written.filter(|_| rises) {
                    self.keep_count(t);
                    self.run = Some(Run { n, start: t + 1, before: true, frozen: None });
                }
            }
        }
        self.gate = gate;
    }
}

fn to_bcd(value: u16) -> u16 {
    let digit = |divisor: u16, shift: u16| (value / divisor % 10) << shift;
    digit(1, 0) | digit(10, 4) | digit(100, 8) | digit(1000, 12)
}

/// Choice: digits above 9 weigh what they are.
fn from_bcd(raw: u16) -> Clock {
    let digit = |shift: u32| Clock::from(raw >> shift & 15);
    (digit(0) + 10 * digit(4) + 100 * digit(8) + 1000 * digit(12)) % 10_000
}
