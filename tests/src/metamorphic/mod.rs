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
mod position;
mod state;
mod tables;
mod watcher;
mod ways;

pub use bus::World;
pub use case::{Case, Mismatch};
pub use pieces::raw_bytes;
pub use position::Places;
pub use state::{Plan, install};
pub use ways::{Prepare, Way};

use std::collections::BTreeMap;

use pagewalk_x86::random::Random;

/// What the cases came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Coverage {
    /// Cases run, each in every way.
    pub cases: u64,
    /// Instructions of the first way.
    pub instructions: u64,
    /// Exceptions and interrupts delivered by it, by vector.
    pub deliveries: BTreeMap<u8, u64>,
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
    let mut coverage = Coverage::default();
    while coverage.instructions < instructions {
        let case = Case::draw(random.bits());
        if let Err(what) = case.check(&prepare, &mut coverage) {
            return Err(case.shrink(&prepare, what));
        }
    }
    Ok(coverage)
}

/// Runs random programs at different places until they have retired so many instructions at the first of each.
pub fn check_positions(seed: u64, instructions: u64, prepare: impl Prepare) -> Result<u64, Mismatch> {
    let mut random = Random::new(seed);
    let mut retired = 0;
    while retired < instructions {
        let places = Places::draw(random.bits());
        retired += places.check(&prepare).map_err(|_| places.shrink(&prepare))?;
    }
    Ok(retired)
}

/// The state, memory and program of a seed.
pub fn random_plan(seed: u64) -> Plan {
    Case::draw(seed).plan()
}
