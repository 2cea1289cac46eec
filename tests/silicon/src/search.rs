//! The search for differences: cases made, run here and natively, compared, counted; over as many threads as wanted, with
//! the same cases for the same seed whatever their number.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use iced_x86::{Code, Mnemonic};

use crate::case::{Case, End, Outcome};
use crate::compare::{Difference, Undefined, compare, instructions};
use crate::explained::{Explained, explain};
use crate::native::Native;
use crate::ours::{Dropped, Ours, Run};
use crate::random::Random;
use crate::world::World;

/// Cases made from one sub-seed, in one world.
pub const CHUNK: u64 = 16_384;
/// Cases handed to the native runner at a time.
const BATCH: usize = 2048;

/// Where cases come from: the same seed, the same cases.
pub trait Source {
    /// The world they are made for.
    fn world(&self) -> &World;
    /// One instruction.
    fn single(&mut self) -> Case;
    /// Several.
    fn sequence(&mut self) -> Case;
}

/// What to search.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many cases.
    pub cases: u64,
    /// What they are made from.
    pub seed: u64,
    /// How many threads.
    pub threads: usize,
    /// Only instructions of this name or `Code`.
    pub only: Option<String>,
    /// How many of 100 cases are sequences.
    pub sequences: u32,
    /// What to do about undefined flags and results.
    pub undefined: Undefined,
}

impl Default for Options {
    fn default() -> Options {
        Options { cases: 300_000, seed: 1, threads: 2, only: None, sequences: 20, undefined: Undefined::Mask }
    }
}

/// A difference that nothing explains, with the world it happened in.
#[derive(Clone, Debug)]
pub struct Found {
    /// The world.
    pub world: World,
    /// The difference.
    pub difference: Difference,
    /// How many more there were of the same first instruction.
    pub more: u64,
}

/// What a search came to.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Cases made.
    pub made: u64,
    /// Cases run here and natively, and compared.
    pub compared: u64,
    /// Of these, sequences.
    pub sequences: u64,
    /// Cases not run natively, by reason.
    pub dropped: BTreeMap<Dropped, u64>,
    /// How compared cases ended natively: by vector, or `None` for those that fell through.
    pub ends: BTreeMap<Option<u8>, u64>,
    /// Cases compared by the `Code` of their first instruction.
    pub codes: BTreeMap<Code, u64>,
    /// Differences explained.
    pub explained: BTreeMap<Explained, u64>,
    /// Differences not explained: the first of each first instruction.
    pub found: BTreeMap<Code, Found>,
}

impl Figures {
    fn add(&mut self, other: Figures) {
        fn sum<K: Ord>(into: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
            for (key, count) in from {
                *into.entry(key).or_default() += count;
            }
        }
        self.made += other.made;
        self.compared += other.compared;
        self.sequences += other.sequences;
        sum(&mut self.dropped, other.dropped);
        sum(&mut self.ends, other.ends);
        sum(&mut self.codes, other.codes);
        sum(&mut self.explained, other.explained);
        for (code, found) in other.found {
            self.found.entry(code).and_modify(|first| first.more += found.more + 1).or_insert(found);
        }
    }

    /// Differences that nothing explains.
    pub fn mismatches(&self) -> u64 {
        self.found.values().map(|found| found.more + 1).sum()
    }
}

/// Searches. `make` gives the cases of a seed; `prepare` may tamper with each processor of ours; `progress` is told how many
/// cases are done.
pub fn search<S: Source>(
    options: &Options,
    make: impl Fn(u64) -> S + Sync,
    prepare: impl Fn(&mut Ours) + Sync,
    progress: impl Fn(u64) + Sync,
) -> Result<Figures> {
    let chunks = options.cases.div_ceil(CHUNK);
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let total = Mutex::new(Figures::default());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.threads.max(1))
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    loop {
                        let chunk = next.fetch_add(1, Ordering::Relaxed);
                        if chunk >= chunks {
                            return Ok(());
                        }
                        let cases = CHUNK.min(options.cases - chunk * CHUNK);
                        let figures =
                            search_chunk(options, make(sub_seed(options.seed, chunk)), cases, &prepare)?;
                        progress(done.fetch_add(cases, Ordering::Relaxed) + cases);
                        if let Ok(mut total) = total.lock() {
                            total.add(figures);
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    Ok(total.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

/// The seed of one chunk.
fn sub_seed(seed: u64, chunk: u64) -> u64 {
    Random::new(seed ^ chunk.wrapping_mul(0x9e37_79b9_7f4a_7c15)).bits()
}

/// The `Code` of the first instruction of a case.
fn first_code(world: &World, case: &Case) -> Code {
    let all = instructions(case, world.is_big(case.selectors[1]), world.eip(case));
    all.first().map_or(Code::INVALID, |instruction| instruction.code())
}

/// Whether a case begins with what `only` asks for.
fn wanted(only: &str, code: Code) -> bool {
    let mnemonic: Mnemonic = code.mnemonic();
    only.eq_ignore_ascii_case(&format!("{mnemonic:?}")) || only.eq_ignore_ascii_case(&format!("{code:?}"))
}

fn search_chunk(
    options: &Options,
    mut generator: impl Source,
    cases: u64,
    prepare: &(impl Fn(&mut Ours) + Sync),
) -> Result<Figures> {
    let world = generator.world().clone();
    let mut ours = Ours::new(&world);
    ours.processor().cpu.model.undefined_flags = options.undefined.flags();
    prepare(&mut ours);
    let mut native = Native::new(&world)?;
    let mut choice = Random::new(!world.seed);
    let mut figures = Figures::default();
    let mut running: Vec<(Case, Outcome)> = Vec::new();
    let mut left = cases;
    while left > 0 || !running.is_empty() {
        // the next batch is made and run here while the runner has the one before
        let mut batch: Vec<(Case, Outcome)> = Vec::with_capacity(BATCH);
        while left > 0 && batch.len() < BATCH {
            left -= 1;
            let is_sequence = choice.below(100) < options.sequences;
            let case = if is_sequence { generator.sequence() } else { generator.single() };
            if options.only.as_ref().is_some_and(|only| !wanted(only, first_code(&world, &case))) {
                continue;
            }
            figures.made += 1;
            match ours.run(&case) {
                Run::Ended(outcome) => {
                    figures.sequences += is_sequence as u64;
                    batch.push((case, outcome));
                }
                Run::Dropped(reason) => *figures.dropped.entry(reason).or_default() += 1,
            }
        }
        finish(options, &world, &mut native, &running, &mut figures)?;
        if !batch.is_empty() {
            let cases: Vec<Case> = batch.iter().map(|(case, _)| case.clone()).collect();
            native.submit(&cases)?;
        }
        running = batch;
    }
    Ok(figures)
}

/// Collects and compares what the runner has been given.
fn finish(
    options: &Options,
    world: &World,
    native: &mut Native,
    running: &[(Case, Outcome)],
    figures: &mut Figures,
) -> Result<()> {
    if running.is_empty() {
        return Ok(());
    }
    let cases: Vec<Case> = running.iter().map(|(case, _)| case.clone()).collect();
    let outcomes = match native.collect(&cases) {
        Ok(outcomes) => outcomes,
        Err(_) => {
            *native = Native::new(world)?;
            native.run(&cases)?
        }
    };
    for ((case, ours), theirs) in running.iter().zip(outcomes) {
        figures.compared += 1;
        let vector = match theirs.end {
            End::Fault { vector, .. } => Some(vector),
            End::Fell | End::Endless => None,
        };
        *figures.ends.entry(vector).or_default() += 1;
        let code = first_code(world, case);
        *figures.codes.entry(code).or_default() += 1;
        let Some(_) = compare(world, case, ours, &theirs, options.undefined) else { continue };
        // once more, in case a signal of the timer came between
        let again = native.run(std::slice::from_ref(case))?.remove(0);
        let Some(difference) = compare(world, case, ours, &again, options.undefined) else { continue };
        match explain(world, &difference) {
            Some(explained) => *figures.explained.entry(explained).or_default() += 1,
            None => {
                let found = Found { world: world.clone(), difference, more: 0 };
                figures.found.entry(code).and_modify(|first| first.more += 1).or_insert(found);
            }
        }
    }
    Ok(())
}
