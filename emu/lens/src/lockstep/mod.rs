//! Lockstep: our processor beside QEMU's, instruction by instruction.
//!
//! QEMU is the master of time and of everything outside the processor. Its firmware runs up to the image's first
//! instruction; there our processor takes over its registers and memory. From then on QEMU logs the processor's whole state
//! before each instruction (or block), every exception and interrupt, and every value read from a port or a
//! memory-mapped register ([`crate::qemu::stream`]). Ours runs the same instructions on a bus that is fed those values ([`bus`]),
//! takes the interrupts where QEMU took them, and is compared at each state ([`state`]); all of memory is compared at
//! checkpoints ([`memory`]).
//!
//! Where the manual is on our side and QEMU is known to do otherwise ([`known`]), ours does as QEMU did, and the run
//! goes on; any other difference ends it with a report ([`report`]).

pub mod bus;
mod convert;
mod drive;
pub mod known;
mod memory;
mod pair;
pub mod report;
pub mod state;
pub mod watch;
mod x87;

use std::collections::BTreeMap;

use pagewalk_loader::Plan;
use pagewalk_x86::Processor;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::mmu::tlb::Geometry;

use crate::qemu::{Error, Spec};
use bus::FedBus;
use report::Difference;
use watch::Watch;

/// Our side.
pub type Ours = Processor<FedBus, Watch>;

/// How often the registers are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum By {
    /// After each instruction.
    #[default]
    Instruction,
    /// After each of QEMU's translation blocks; a difference is then looked for again by instruction.
    Block,
}

/// What to compare.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often the registers are compared.
    pub by: By,
    /// After how many instructions to stop, if the guest does not before.
    pub instructions: Option<u64>,
    /// All of memory is compared each time after this many instructions.
    pub checkpoint: u64,
    /// Our TLB.
    pub tlb: Geometry,
    /// How long a halted guest may wait for an interrupt, in the host's milliseconds.
    pub patience_ms: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            by: By::Instruction,
            instructions: None,
            checkpoint: 1_000_000,
            tlb: Geometry::default(),
            patience_ms: 3000,
        }
    }
}

/// How a run came to its end without a difference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// The wanted number of instructions is done.
    Enough,
    /// The guest ended both machines; the value it wrote to the debug-exit port.
    Exit(u32),
    /// The guest switched QEMU off or reset it.
    SwitchedOff,
    /// Both processors are halted for good.
    Halted,
    /// Both shut down after a triple fault.
    TripleFault,
    /// Ours cannot go on: an instruction that is not implemented.
    Unimplemented(Stop),
    /// QEMU cannot follow any more, by this known deviation.
    Known(&'static str),
}

/// What was compared, and what came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Instructions of ours.
    pub instructions: u64,
    /// How often the registers were compared.
    pub compared: u64,
    /// How often memory was compared.
    pub checkpoints: u64,
    /// Blocks of QEMU's that went by without comparison, after known deviations.
    pub skipped: u64,
    /// Known deviations met, by name, and how often.
    pub known: BTreeMap<&'static str, u64>,
    /// What our side was given of QEMU's, and how often.
    pub fed: BTreeMap<&'static str, u64>,
    /// How it ended, or what differed.
    pub end: Result<End, Box<Difference>>,
}

/// Runs an image on both. `prepare` may change our processor before its first instruction; `progress` hears the count of
/// instructions now and then.
///
/// A difference that was found by block, or in memory at a checkpoint, is looked for again: the run is repeated, by
/// instruction and with checkpoints close together where it must be.
pub fn run(
    spec: &Spec,
    plan: &Plan,
    options: &Options,
    mut prepare: impl FnMut(&mut Ours),
    mut progress: impl FnMut(u64),
) -> Result<Outcome, Error> {
    let mut outcome = drive::run(spec, plan, options, None, &mut prepare, &mut progress)?;
    let mut closest = None;
    for _ in 0..MOST_REPEATS {
        let Some(focus) = outcome.end.as_ref().err().and_then(|difference| difference.focus(closest)) else {
            break;
        };
        closest = Some(focus);
        let again = drive::run(spec, plan, options, Some(focus), &mut prepare, &mut progress)?;
        // what does not come again is told as it was found first
        if again.end.is_ok() {
            break;
        }
        outcome = again;
    }
    Ok(outcome)
}

/// How often a difference is looked for again.
const MOST_REPEATS: usize = 3;

/// Where to look closely.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Focus {
    /// From this count of instructions on, by instruction.
    pub from: u64,
    /// And memory each time after so many.
    pub checkpoint: u64,
}
