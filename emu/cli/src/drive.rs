//! Runs a machine in slices: between them the console, the limits and Ctrl-C get their turn.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use pagewalk_pc::machine::Machine;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::observe::Observer;

use crate::console::Console;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C and SIGTERM end runs cleanly.
pub fn catch_signals() -> Result<()> {
    ctrlc::set_handler(|| {
        // the second one does not wait for the slice to end
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
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
    /// Ctrl-C.
    Interrupted,
    /// Whoever read the serial output is gone.
    Closed,
}

/// Runs to the end.
pub fn run<O: Observer>(machine: &mut Machine<O>, console: &mut Console, limits: Limits) -> Result<End> {
    let started = Instant::now();
    let last = limits.instructions.unwrap_or(u64::MAX);
    loop {
        let until = machine.processor.cpu.retired.saturating_add(SLICE).min(last);
        let stop = machine.run(until);
        console.exchange(machine)?;
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
                std::thread::sleep(Duration::from_millis(5));
            }
            stop => return Ok(End::Stopped(stop)),
        }
    }
}
