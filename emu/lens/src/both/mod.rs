//! One image, run to its end here and in QEMU, and the two ends compared: the text on COM1, how it ended, and RAM.
//!
//! Both begin alike: our loader places the image in QEMU's memory, too, after QEMU's firmware has run. They then run freely, so
//! that what depends on exact time (an interrupt that comes an instruction earlier) may come out differently: an
//! image whose end does not depend on it ends with the same RAM to the last bit, but for what [`memory`] lists.

pub mod memory;
pub mod report;
pub mod text;
mod watch;

use std::time::{Duration, Instant};

use pagewalk_loader::{Plan, Start};
use pagewalk_pc::machine::Machine;
use pagewalk_x86::bus::Request;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::model::Model;

use crate::qemu::{Ending, Error, Loading, Qemu, Spec, probe};
use memory::{Beginning, Memory};
use text::LineDifference;
pub use watch::Watch;

/// Instructions between two looks around.
const SLICE: u64 = 1 << 18;

/// How one side came to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// The guest, or a triple fault, ended it.
    Ended(Ending),
    /// It still ran when its time was over.
    Runs,
    /// Ours only: an instruction that is not implemented.
    Unimplemented(Stop),
}

/// One side at its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Side {
    /// How it ended.
    pub end: End,
    /// What the guest sent on COM1.
    pub text: Vec<u8>,
}

/// How the two compare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Text, end and memory are the same.
    Same,
    /// The text differs.
    Text,
    /// The text is the same; they ended differently.
    End,
    /// Text and end are the same; memory differs.
    Memory,
    /// They say the same as far as they came, but both still ran when their time was over.
    Unfinished,
    /// Ours met an instruction that is not implemented.
    Unimplemented,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Ours.
    pub ours: Side,
    /// QEMU's.
    pub theirs: Side,
    /// How many instructions ours ran.
    pub instructions: u64,
    /// The first line of the text that differs.
    pub line: Option<LineDifference>,
    /// Memory, when both came to an end.
    pub memory: Option<Memory>,
}

impl Outcome {
    /// How the two compare.
    pub fn verdict(&self) -> Verdict {
        match (&self.ours.end, &self.theirs.end) {
            (End::Unimplemented(_), _) => Verdict::Unimplemented,
            _ if self.line.is_some() => Verdict::Text,
            (End::Runs, End::Runs) => Verdict::Unfinished,
            (ours, theirs) if ours != theirs => Verdict::End,
            _ if self.memory.as_ref().is_some_and(|memory| memory.words != 0) => Verdict::Memory,
            _ => Verdict::Same,
        }
    }
}

/// Runs both to their ends, each for `limit` at most. `make` makes our machine of the same plan, with a processor of this
/// model: that of `spec` less what QEMU cannot emulate. `stop` is asked now and then whether to give up.
pub fn run<E: From<Error>>(
    spec: &Spec,
    plan: &Plan,
    make: impl FnOnce(Model) -> Result<Machine<Watch>, E>,
    limit: Duration,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Outcome, E> {
    if plan.start == Start::Reset {
        let why = "firmware of one's own cannot be run beside QEMU: name an image to boot instead of --bios";
        return Err(Error::Image(why.into()).into());
    }
    let mut qemu = Qemu::boot(&Spec { loading: Loading::Ours, ..spec.clone() }, plan)?;
    let model = probe::model(&mut qemu, spec.model)?;
    Ok(compare(qemu, make(model)?, limit, stop)?)
}

fn compare(
    mut qemu: Qemu,
    mut machine: Machine<Watch>,
    limit: Duration,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Outcome, Error> {
    let beginning = Beginning::new(&mut qemu, &machine)?;
    // each goes its way, QEMU in its own process
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| {
            let end = qemu.run_to_end(limit, &mut || stop())?;
            Ok((end, qemu))
        });
        let ours = run_ours(&mut machine, limit, stop);
        // a panic there is one here
        (theirs.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), ours)
    });
    let (end, qemu): (_, Qemu) = theirs?;
    if stop() {
        return Err(Error::Interrupted);
    }
    let theirs = Side { end: end.map_or(End::Runs, End::Ended), text: qemu.serial() };
    let finished = matches!((&ours.end, &theirs.end), (End::Ended(_), End::Ended(_)));
    let line = if finished {
        text::first_difference(&ours.text, &theirs.text)
    } else {
        // one of them may just not have come as far
        text::first_difference_before_the_end(&ours.text, &theirs.text)
    };
    let memory = if finished { Some(beginning.compare(&qemu, &machine)?) } else { None };
    let instructions = machine.processor.cpu.retired;
    Ok(Outcome { ours, theirs, instructions, line, memory })
}

fn run_ours(machine: &mut Machine<Watch>, limit: Duration, stop: &dyn Fn() -> bool) -> Side {
    let started = Instant::now();
    let mut text = Vec::new();
    let end = loop {
        let until = machine.processor.cpu.retired.saturating_add(SLICE);
        let stopped = machine.run(until);
        text.extend(machine.take_serial());
        // nobody looks at it here
        machine.processor.cpu.bus.take_debug_output();
        watch::follow(machine);
        match stopped {
            Stop::Limit | Stop::Idle | Stop::Observer if started.elapsed() >= limit || stop() => {
                break End::Runs;
            }
            Stop::Limit | Stop::Idle | Stop::Observer => {}
            Stop::Halted => break End::Ended(Ending::Halted),
            Stop::Shutdown(_) => break End::Ended(Ending::TripleFault),
            Stop::Request(Request::PowerOff) => break End::Ended(Ending::PowerOff),
            Stop::Request(Request::Reset) => break End::Ended(Ending::Reset),
            Stop::Request(Request::Exit(value)) => {
                break End::Ended(Ending::Status((value << 1 | 1) as u8));
            }
            Stop::Unimplemented { .. } => break End::Unimplemented(stopped),
        }
    };
    Side { end, text }
}
