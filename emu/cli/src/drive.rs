//! Runs a machine in slices: between them the console, the limits and Ctrl-C get their turn.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use pagewalk_pc::machine::Machine;
use pagewalk_x86::bus::Ticks;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::observe::Observer;

use crate::console::Console;
use crate::console::escape::Command;
use crate::console::terminal;
use crate::screenshot;

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
const SLICE: u64 = 1 << 18;
/// The same while a person is looking on.
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
#[derive(Default)]
struct Pace {
    /// When it was which virtual time.
    since: Option<(Instant, Ticks)>,
}

impl Pace {
    /// By how much virtual time is ahead.
    fn ahead(&mut self, now: Ticks) -> Duration {
        let (at, was) = *self.since.get_or_insert_with(|| (Instant::now(), now));
        let ahead = Duration::from_nanos(now.0.saturating_sub(was.0)).checked_sub(at.elapsed());
        if ahead.is_none() {
            // who was late does not hurry
            self.since = None;
        }
        ahead.unwrap_or_default()
    }
}

/// Runs to the end.
pub fn run<O: Observer>(machine: &mut Machine<O>, console: &mut Console, limits: Limits) -> Result<End> {
    let started = Instant::now();
    let last = limits.instructions.unwrap_or(u64::MAX);
    let slice = if console.attended() { ATTENDED_SLICE } else { SLICE };
    let mut pace = Pace::default();
    loop {
        let ahead = if console.attended() { pace.ahead(machine.now()) } else { Duration::ZERO };
        let stop = if ahead.is_zero() {
            let until = machine.processor.cpu.retired.saturating_add(slice).min(last);
            machine.run(until)
        } else {
            console.wait(ahead.min(LONGEST_WAIT));
            Stop::Idle
        };
        if console.exchange(machine)? {
            // what was typed is answered now
            pace = Pace::default();
        }
        while let Some(command) = console.next_command() {
            match command {
                Command::Leave => return Ok(End::Interrupted),
                Command::Help => console.help()?,
                Command::Screenshot => {
                    let told = match screenshot::write_new(machine, console.pictures.as_deref()) {
                        Ok(file) => format!("the screen is in '{}'", file.display()),
                        Err(error) => format!("{error:#}"),
                    };
                    console.tell(&told)?;
                }
            }
        }
        if console.closed() {
            return Ok(End::Closed);
        }
        if interrupted() {
            return Ok(End::Interrupted);
        }
        let timed_out = limits.time.is_some_and(|limit| started.elapsed() >= limit);
        match stop {
            Stop::Limit if machine.processor.cpu.retired >= last => return Ok(End::Stopped(Stop::Limit)),
            Stop::Limit | Stop::Idle if timed_out => return Ok(End::TimedOut),
            Stop::Limit | Stop::Idle => {}
            // somebody may still type something that wakes it
            Stop::Halted if console.interactive && machine.processor.cpu.accepts_interrupts() => {
                if timed_out {
                    return Ok(End::TimedOut);
                }
                console.wait(LONGEST_WAIT);
            }
            stop => return Ok(End::Stopped(stop)),
        }
    }
}
