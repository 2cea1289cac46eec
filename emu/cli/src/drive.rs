//! Runs a machine in slices: between them the console, the limits and Ctrl-C get their turn.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use pagewalk_pc::machine::Machine;
use pagewalk_pc::snapshot;
use pagewalk_x86::bus::Ticks;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::observe::Observer;

use crate::console::Console;
use crate::console::escape::Command;
use crate::console::terminal;
use crate::screenshot;
use crate::script::{INTERVAL, Script};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C and SIGTERM end runs cleanly.
pub fn catch_signals() -> Result<()> {
    ctrlc::set_handler(|| {
        // the second one does not wait for the slice to end
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            terminal::give_back();
            std::process::exit(130);
        }
    })?;
    Ok(())
}

/// Whether Ctrl-C was pressed.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Instructions between two looks around: a few milliseconds.
const SLICE: u64 = INTERVAL;
/// The most of them while a person is looking on; a part of the former.
const ATTENDED_SLICE: u64 = 1 << 16;
/// The longest time without a look around.
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// What ends a run from outside.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Instructions retired in all.
    pub instructions: Option<u64>,
    /// The host's time.
    pub time: Option<Duration>,
}

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// The machine stopped.
    Stopped(Stop),
    /// `--timeout`.
    TimedOut,
    /// Ctrl-C, a signal, or Ctrl-A x.
    Interrupted,
    /// Whoever read the serial output is gone.
    Closed,
}

/// Keeps virtual time from running ahead of the host's where a person is looking on: a guest that waits in HLT would
/// otherwise have years passed while it waits for a key. What the guest does at which virtual time is not changed by it.
struct Pace {
    /// When it was which virtual time.
    since: Option<(Instant, Ticks)>,
    /// Instructions until virtual time is looked at again, a power of two.
    slice: u64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { since: None, slice: 1 }
    }
}

impl Pace {
    /// By how much virtual time is ahead.
    fn ahead(&mut self, now: Ticks) -> Duration {
        let (at, was) = *self.since.get_or_insert_with(|| (Instant::now(), now));
        let (virtual_time, time) = (Duration::from_nanos(now.0.saturating_sub(was.0)), at.elapsed());
        if time > virtual_time + LONGEST_WAIT {
            // who was late does not hurry
            self.since = None;
        }
        virtual_time.saturating_sub(time)
    }

    /// A slice took this much virtual time: a few instructions take years where most of them are HLT.
    fn took(&mut self, time: Duration) {
        self.slice = if time > LONGEST_WAIT { self.slice / 4 } else { self.slice * 2 };
        self.slice = self.slice.clamp(1, ATTENDED_SLICE);
    }
}

/// Runs a machine, perhaps in several parts.
pub struct Driver<'a> {
    console: &'a mut Console,
    script: Script,
    pace: Pace,
    /// How long the machine ran in the host's time, waiting left out.
    pub busy: Duration,
}

/// Runs to the end.
pub fn run<O: Observer>(machine: &mut Machine<O>, console: &mut Console, limits: Limits) -> Result<End> {
    Driver::new(console, Script::default()).run(machine, limits)
}

/// Saves the machine to a file that was not there: `pagewalk-1.snapshot` and so on.
fn save_new<O: Observer>(machine: &Machine<O>) -> Result<PathBuf> {
    let mut names = (1..1000).map(|number| PathBuf::from(format!("pagewalk-{number}.snapshot")));
    let file =
        names.find(|file| !file.exists()).context("there are 999 snapshots here already: move them away")?;
    snapshot::save(machine, &file)?;
    Ok(file)
}

impl<'a> Driver<'a> {
    /// Somebody at a console, and what is typed beside.
    pub fn new(console: &'a mut Console, script: Script) -> Driver<'a> {
        Driver { console, script, pace: Pace::default(), busy: Duration::ZERO }
    }

    /// Runs to the end, or to a limit.
    pub fn run<O: Observer>(&mut self, machine: &mut Machine<O>, limits: Limits) -> Result<End> {
        let started = Instant::now();
        let last = limits.instructions.unwrap_or(u64::MAX);
        loop {
            let stop = self.slice(machine, last);
            self.look_around(machine, stop.as_ref())?;
            if let Some(end) = self.obey(machine)? {
                return Ok(end);
            }
            if self.console.closed() {
                return Ok(End::Closed);
            }
            if interrupted() {
                return Ok(End::Interrupted);
            }
            let timed_out = limits.time.is_some_and(|limit| started.elapsed() >= limit);
            match stop.unwrap_or(Stop::Idle) {
                Stop::Limit if machine.processor.cpu.retired >= last => return Ok(End::Stopped(Stop::Limit)),
                Stop::Limit | Stop::Idle if timed_out => return Ok(End::TimedOut),
                Stop::Limit | Stop::Idle => {}
                // a key may wake it
                Stop::Halted if self.script.play(machine, true) || self.console.hurry(machine) => {}
                Stop::Halted if self.console.interactive && machine.processor.cpu.accepts_interrupts() => {
                    if timed_out {
                        return Ok(End::TimedOut);
                    }
                    self.console.wait(LONGEST_WAIT);
                }
                stop => return Ok(End::Stopped(stop)),
            }
        }
    }

    /// Lets the machine run for a while; or, as `None` tells, virtual time wait for the host's.
    fn slice<O: Observer>(&mut self, machine: &mut Machine<O>, last: u64) -> Option<Stop> {
        let attended = self.console.attended();
        let ahead = if attended { self.pace.ahead(machine.now()) } else { Duration::ZERO };
        if !ahead.is_zero() {
            self.console.wait(ahead.min(LONGEST_WAIT));
            return None;
        }
        let retired = machine.processor.cpu.retired;
        let slice = if attended { self.pace.slice } else { SLICE };
        // at round counts, so that where a run is cut has no influence on when a script looks
        let round = retired.saturating_add(slice) / slice * slice;
        let due = self.script.next_count().filter(|&count| count > retired).unwrap_or(u64::MAX);
        let (started, before) = (Instant::now(), machine.now());
        let stop = machine.run(round.min(due).min(last));
        self.busy += started.elapsed();
        self.pace.took(Duration::from_nanos(machine.now().0.saturating_sub(before.0)));
        Some(stop)
    }

    fn look_around<O: Observer>(&mut self, machine: &mut Machine<O>, stop: Option<&Stop>) -> Result<()> {
        let retired = machine.processor.cpu.retired;
        let time_passed = match stop {
            Some(Stop::Limit) => {
                retired.is_multiple_of(INTERVAL) || self.script.next_count() == Some(retired)
            }
            Some(Stop::Idle) => true,
            _ => false,
        };
        if time_passed {
            self.script.play(machine, false);
        }
        if self.console.exchange(machine)? {
            // what was typed is answered now
            self.pace.since = None;
        }
        Ok(())
    }

    /// Does what the person asked for.
    fn obey<O: Observer>(&mut self, machine: &mut Machine<O>) -> Result<Option<End>> {
        while let Some(command) = self.console.next_command() {
            match command {
                Command::Leave => return Ok(Some(End::Interrupted)),
                Command::Help => self.console.help()?,
                Command::Screenshot => {
                    let told = match screenshot::write_new(machine, self.console.pictures.as_deref()) {
                        Ok(file) => format!("the screen is in '{}'", file.display()),
                        Err(error) => format!("{error:#}"),
                    };
                    self.console.tell(&told)?;
                }
                Command::Save => {
                    let told = match save_new(machine) {
                        Ok(file) => format!("saved; 'pagewalk run --load {}' goes on", file.display()),
                        Err(error) => format!("{error:#}"),
                    };
                    self.console.tell(&told)?;
                }
            }
        }
        Ok(None)
    }

    /// What the script still waits for, in words, if it is not done.
    pub fn left_to_type(&self) -> Option<String> {
        self.script.waits_for()
    }

    /// Gives the terminal back.
    pub fn close(&mut self) {
        self.console.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_time_is_held_back_where_it_is_ahead_and_not_hurried_where_it_is_late() {
        let mut pace = Pace::default();
        assert_eq!(pace.ahead(Ticks(5_000_000_000)), Duration::ZERO);
        let ahead = pace.ahead(Ticks(3_605_000_000_000));
        assert!((3590..=3600).contains(&ahead.as_secs()), "an hour: {ahead:?}");
        pace.since = pace.since.map(|(at, was)| (at - Duration::from_secs(7200), was));
        assert_eq!(pace.ahead(Ticks(3_605_000_000_000)), Duration::ZERO);
        assert_eq!(pace.ahead(Ticks(3_605_000_000_000)), Duration::ZERO);
        let ahead = pace.ahead(Ticks(3_615_000_000_000));
        assert!((9..=10).contains(&ahead.as_secs()), "the hour that was lost is not made up for: {ahead:?}");
    }
}
