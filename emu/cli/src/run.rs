//! `pagewalk run`: boots an image, with whatever is to be traced, counted and explained.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pagewalk_lens::stats::Stats;
use pagewalk_lens::trace::Sink;
use pagewalk_lens::{Filter, Lens, Trace};
use pagewalk_pc::machine::Machine;
use pagewalk_pc::snapshot;
use pagewalk_x86::bus::Request;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::observe::Observer;

use crate::console::{Console, terminal};
use crate::drive::{Driver, End, Limits};
use crate::explain;
use crate::options::{DisplayOn, Run, TraceFormat};
use crate::program;
use crate::say::say;
use crate::screenshot;
use crate::setup::Setup;
use crate::status::{DONE, INTERRUPTED, LIMIT, NO_PROGRAM, Status};

/// How many lines of what a kernel said when it gave up are shown.
const LAST_MESSAGES: usize = 12;

/// Runs the command.
pub fn run(options: &Run) -> Result<Status> {
    let program = program::given(options)?;
    let setup = match (&options.load, &program) {
        (Some(snapshot), _) => Setup::loaded(snapshot),
        (None, Some((given, _))) => Setup::put_together(Some(given), &options.machine)?,
        (None, None) => Setup::new(options.image.as_deref(), &options.machine)?,
    };
    if program.is_none() {
        for note in &setup.plan.notes {
            say!("{note}");
        }
    }
    let time = match options.timeout {
        Some(seconds) => Some(
            Duration::try_from_secs_f64(seconds)
                .with_context(|| format!("--timeout {seconds} is no time to wait"))?,
        ),
        None => None,
    };
    let limits = Limits { instructions: options.max_instructions, time };
    let mut console = match &program {
        Some((given, streams)) => Console::of_program(*streams, &given.name, options.trace.is_empty())?,
        None => Console::new(options)?,
    };
    if options.trace.is_empty() {
        // nobody looks: the machine is compiled without observers
        finish(options, &setup, setup.machine(())?, &mut console, limits, |_| Ok(()))
    } else {
        let machine = setup.machine(Lens::tracing(trace(options)?))?;
        finish(options, &setup, machine, &mut console, limits, |machine| {
            let Some(trace) = &mut machine.processor.cpu.observer.trace else { return Ok(()) };
            trace.finish().context("cannot write the trace")
        })
    }
}

fn trace(options: &Run) -> Result<Trace> {
    let filter = Filter {
        topics: options.trace.iter().copied().collect(),
        addresses: options.trace_address.clone(),
        rings: options.trace_ring.clone(),
        kinds: options.trace_kind.clone(),
        window: options.trace_window.clone(),
    };
    let file = match &options.trace_out {
        Some(path) => {
            let file = File::create(path)
                .with_context(|| format!("cannot create '{}' for the trace", path.display()))?;
            Some(Box::new(BufWriter::with_capacity(1 << 16, file)) as Box<dyn Write + Send>)
        }
        None => None,
    };
    let sink = match (options.trace_format, file) {
        (TraceFormat::Json, Some(file)) => Sink::Json(file),
        (TraceFormat::Json, None) => Sink::Json(Box::new(terminal::stderr())),
        (TraceFormat::Text, Some(file)) => Sink::Text(file),
        (TraceFormat::Text, None) => Sink::Tracing,
    };
    Ok(Trace::new(filter, sink))
}

fn finish<O: Observer>(
    options: &Run,
    setup: &Setup,
    mut machine: Machine<O>,
    console: &mut Console,
    limits: Limits,
    close: impl FnOnce(&mut Machine<O>) -> Result<()>,
) -> Result<Status> {
    let mut driver = Driver::new(console, options.keys.clone().unwrap_or_default());
    let end = go(options, &mut machine, &mut driver, limits);
    driver.close();
    let busy = driver.busy;
    if let Some(awaited) = driver.left_to_type() {
        say!("the script of --keys was not typed to its end: it waited for {awaited}");
    }
    let closed = close(&mut machine);
    let status = end.and_then(|end| {
        closed?;
        let status = tell(options, setup, &machine, &end, busy)?;
        Ok(console
            .is_of_program()
            .then(|| of_program(&end, &console.kernel_messages()))
            .flatten()
            .unwrap_or(status))
    });
    // last, since what is told may be found by running again from the file that this one replaces
    if let Some(path) = &options.save {
        snapshot::save(&machine, path)?;
        say!("saved after {} instructions; --load {} goes on", machine.processor.cpu.retired, path.display());
    }
    status
}

/// Runs to the end, with a picture on the way if one is wanted.
fn go<O: Observer>(
    options: &Run,
    machine: &mut Machine<O>,
    driver: &mut Driver<'_>,
    limits: Limits,
) -> Result<End> {
    match (&options.screenshot, options.screenshot_at) {
        (Some(file), Some(at)) => {
            let before = Limits { instructions: Some(limits.instructions.unwrap_or(at).min(at)), ..limits };
            let started = Instant::now();
            let end = driver.run(machine, before)?;
            // where it ended before, that is what there is to see
            screenshot::write(machine, file)?;
            if machine.processor.cpu.retired == at && end == End::Stopped(Stop::Limit) {
                let time = limits.time.map(|time| time.saturating_sub(started.elapsed()));
                driver.run(machine, Limits { time, ..limits })
            } else {
                Ok(end)
            }
        }
        _ => driver.run(machine, limits),
    }
}

/// Tells how the run ended and whatever else is wanted.
fn tell<O: Observer>(
    options: &Run,
    setup: &Setup,
    machine: &Machine<O>,
    end: &End,
    busy: Duration,
) -> Result<Status> {
    let cpu = &machine.processor.cpu;
    let status = match end {
        End::Stopped(stop) => {
            report(stop, setup, cpu.retired, cpu.eip);
            if let Stop::Shutdown(_) = stop {
                explain::shutdown(setup, machine)?;
            }
            Status::of(stop)
        }
        End::TimedOut => {
            say!("stopped after {} instructions: the time of --timeout is over", cpu.retired);
            LIMIT
        }
        End::Interrupted => {
            say!("interrupted after {} instructions", cpu.retired);
            INTERRUPTED
        }
        End::Closed => DONE,
    };
    if let Some(vectors) = &options.explain {
        explain::exceptions(setup, machine, vectors, options.explain_count)?;
    }
    // the terminal shows it no more
    if options.screen || options.display == DisplayOn::Terminal {
        for line in machine.processor.cpu.bus.screen() {
            say!("|{line}|");
        }
    }
    if let (Some(file), None) = (&options.screenshot, options.screenshot_at) {
        screenshot::write(machine, file)?;
    }
    if options.stats {
        eprint!("{}", Stats::of_machine(machine, busy));
    }
    if let Some(path) = &options.stats_json {
        let text = serde_json::to_string_pretty(&Stats::of_machine(machine, busy))? + "\n";
        if path.as_os_str() == "-" {
            print!("{text}");
        } else {
            std::fs::write(path, text)
                .with_context(|| format!("cannot write the figures to '{}'", path.display()))?;
        }
    }
    if options.state_hash {
        eprintln!("state {:016x}", machine.state_hash());
    }
    Ok(status)
}

/// The status where a Linux program is run, if it isn't that of any machine.
fn of_program(end: &End, messages: &str) -> Option<Status> {
    match end {
        // what a status holds
        End::Stopped(Stop::Request(Request::Exit(value))) => Some(Status(*value as u8)),
        End::Stopped(Stop::Request(Request::Reset) | Stop::Shutdown(_)) => {
            say!("the kernel gave up before the program ended:");
            let lines: Vec<&str> = messages.lines().collect();
            let panic = lines.iter().position(|line| line.contains("Kernel panic"));
            let first = panic.unwrap_or(lines.len().saturating_sub(LAST_MESSAGES));
            for line in lines[first..].iter().take(LAST_MESSAGES) {
                say!("  {line}");
            }
            Some(NO_PROGRAM)
        }
        _ => None,
    }
}

fn report(stop: &Stop, setup: &Setup, retired: u64, eip: u32) {
    match stop {
        Stop::Limit => say!("stopped after {retired} instructions, the limit of --max-instructions"),
        Stop::Unimplemented { code, bytes, at } => {
            let name = setup.symbol_at(at.1).map(|n| format!(" <{n}>")).unwrap_or_default();
            let bytes = pagewalk_lens::disassemble::hex(bytes);
            say!(
                "instruction not implemented: {code:?} [{bytes}] at {:04x}:{:08x}{name}; docs/coverage.md lists what is",
                at.0,
                at.1
            );
        }
        Stop::Halted => {
            let name = setup.symbol_at(eip).map(|n| format!(" <{n}>")).unwrap_or_default();
            say!(
                "halted for good after {retired} instructions, before {eip:#010x}{name}: nothing can wake it"
            );
        }
        Stop::Shutdown(_) => say!("triple fault after {retired} instructions: the processor shut down"),
        Stop::Request(Request::Reset) => say!("the guest reset the machine"),
        _ => {}
    }
}
