//! Whole machines in random states, run in every way there is: with and without the block cache and the front table, at
//! once, step by step and in pieces, watched and not, cloned on the way. All must come to the same state, memory, TLB,
//! counters and trace.
//!
//! A case is a seed: its features, its state and its program are drawn from it. A case that fails is shrunk, to fewer
//! instructions, then to fewer pieces of program and fewer features, and printed with what runs it alone.

mod bus;
mod case;
mod code;
mod features;
mod instruction;
mod layout;
mod pieces;
mod state;
mod tables;
mod watcher;
mod ways;

pub use bus::World;
pub use case::{Case, Mismatch};
pub use state::{Plan, install};
pub use ways::{Prepare, Way};

use pagewalk_x86::random::Random;

/// What the cases came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Coverage {
    /// Cases run, each in every way.
    pub cases: u64,
    /// Instructions of the first way.
    pub instructions: u64,
    /// Exceptions and interrupts delivered by it, by vector.
    pub deliveries: Vec<u64>,
    /// TLB hits and walks, and walks that ended in a fault.
    pub hits: u64,
    /// See above.
    pub walks: u64,
    /// See above.
    pub faults: u64,
    /// Blocks of decoded code that were dropped because they were written to.
    pub dropped: u64,
    /// How many cases ended at the limit, halted, shut down, or with an opcode that has no body.
    pub ends: [u64; 4],
}

/// Runs random cases from a seed until their programs have retired so many instructions.
pub fn check(seed: u64, instructions: u64, prepare: impl Prepare) -> Result<Coverage, Mismatch> {
    let mut random = Random::new(seed);
    let mut coverage = Coverage { deliveries: vec![0; 256], ..Coverage::default() };
    while coverage.instructions < instructions {
        let case = Case::draw(random.bits());
        if let Err(what) = case.check(&prepare, &mut coverage) {
            return Err(case.shrink(&prepare, what));
        }
    }
    Ok(coverage)
}
