//! Translations of a processor against the second walker and TLB of [`reference`]: random settings and tables, and a few
//! accesses, changed entries, flushes and changed rights in each. Compared are results and error codes, accessed and
//! dirty flags, CR2, what the TLB remembers, its counters, and the memory that the translated operand leads to.

mod bus;
mod case;
mod reference;
mod tables;

use pagewalk_x86::Processor;
use pagewalk_x86::mmu::tlb::{Geometry, Policy};
use pagewalk_x86::model::MAX;
use pagewalk_x86::random::Random;

pub use bus::FoldedBus;
use case::World;

/// Where a processor and the reference first differed.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// The case that shows it: [`replay`] runs it alone.
    pub case: u64,
    /// What happened up to there, and both results.
    pub text: String,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.text)?;
        let test = "cargo test --profile checked -p pagewalk-tests --test walks";
        write!(f, "to see it again: PAGEWALK_WALK={:#x} {test}", self.case)
    }
}

/// What the cases came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Coverage {
    /// Cases run.
    pub cases: u64,
    /// Accesses made, of one page each.
    pub accesses: u64,
    /// Walks among them.
    pub walks: u64,
    /// Accesses that used what the TLB remembered although memory said otherwise.
    pub stale: u64,
    /// Loads of PDPTEs that were refused.
    pub refused: u64,
    /// Walks by paging and result: no paging, 32-bit, PAE; then 4 KiB, 2 MiB, 4 MiB pages.
    pub pages: [[u64; 3]; 3],
    /// Walks by paging and error code.
    pub faults: [[u64; 32]; 3],
}

/// The shapes of TLB that cases run under: none so small that pages of one case evict each other.
const SHAPES: [Geometry; 4] = {
    const fn shape(entries: u32, ways: u32, large: u32, split: bool) -> Geometry {
        Geometry { entries, ways, large, split, policy: Policy::Lru, tagged: false }
    }
    [shape(64, 64, 8, true), shape(64, 64, 16, false), shape(128, 32, 0, true), shape(256, 64, 0, false)]
};

/// Runs random cases from a seed until so many walks have been compared. `prepare` may change each processor first.
pub fn check(
    seed: u64,
    walks: u64,
    prepare: impl Fn(&mut Processor<FoldedBus, ()>),
) -> Result<Coverage, Mismatch> {
    let mut random = Random::new(seed);
    let mut worlds = SHAPES.map(|shape| World::new(shape, &prepare));
    let mut coverage = Coverage::default();
    while coverage.walks < walks {
        let case = random.bits();
        if let Err(mismatch) = run(&mut worlds, case, &mut coverage, false) {
            // alone it tells more
            return Err(replay(case, &prepare).err().unwrap_or(mismatch));
        }
        if coverage.cases % 4096 == 0 {
            for world in &worlds {
                world.nothing_else_was_written()?;
            }
        }
    }
    Ok(coverage)
}

/// Runs one case.
pub fn replay(case: u64, prepare: impl Fn(&mut Processor<FoldedBus, ()>)) -> Result<Coverage, Mismatch> {
    let mut worlds = SHAPES.map(|shape| World::new(shape, &prepare));
    let mut coverage = Coverage::default();
    run(&mut worlds, case, &mut coverage, true)?;
    Ok(coverage)
}

fn run(worlds: &mut [World], case: u64, coverage: &mut Coverage, log: bool) -> Result<(), Mismatch> {
    coverage.cases += 1;
    let shape = (case % worlds.len() as u64) as usize;
    worlds[shape].run(case, coverage, log)
}

/// A processor of this shape.
fn processor(shape: Geometry) -> Processor<FoldedBus, ()> {
    Processor::new(MAX, shape, FoldedBus::new(), ())
}
