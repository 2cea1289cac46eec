//! Compares pagewalk's instructions with the processor of this host.

mod options;
mod report;
mod vectors;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use options::{How, Options, Seed};
use pagewalk_silicon::compare::Undefined;
use pagewalk_silicon::generate::Generator;
use pagewalk_silicon::native::Native;
use pagewalk_silicon::search;
use pagewalk_silicon::undefined;
use pagewalk_silicon::world::World;

const DIFFERENCES: u8 = 1;
const NO_ORACLE: u8 = 124;
const BAD: u8 = 125;

fn main() -> ExitCode {
    let options = Options::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(if error.use_stderr() { BAD as i32 } else { 0 })
    });
    match run(&options) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("silicon: {error:#}");
            ExitCode::from(BAD)
        }
    }
}

fn run(options: &Options) -> Result<u8> {
    if !options.check.is_empty() {
        return vectors::check(&options.check);
    }
    if let Err(error) = Native::new(&World { seed: 0, ldt: vec![] }) {
        eprintln!("silicon: no oracle on this host: {error:#}");
        return Ok(NO_ORACLE);
    }
    match &options.measure {
        Some(file) => vectors::measure(file),
        None if options.undefined == How::Record => record(options),
        None => find(options),
    }
}

/// A seed that was never used: the time in nanoseconds.
fn new_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64)
}

fn seed(options: &Options) -> u64 {
    match options.seed {
        Seed::This(seed) => seed,
        Seed::New => new_seed(),
    }
}

/// Writes down what this processor does with undefined flags.
fn record(options: &Options) -> Result<u8> {
    let (cases, seed) = (options.cases, seed(options));
    let record = undefined::record(cases, seed)?;
    let text = undefined::document(&record, &undefined::processor(), cases, seed);
    match &options.report {
        Some(file) => {
            std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?
        }
        None => print!("{text}"),
    }
    Ok(0)
}

fn find(options: &Options) -> Result<u8> {
    let seed = seed(options);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let search = search::Options {
        cases: options.cases,
        seed,
        threads: options.threads.map_or(cores, usize::from),
        only: options.only.clone(),
        sequences: if options.undefined == How::Common { 0 } else { options.sequences },
        undefined: match options.undefined {
            How::Compare => Undefined::Compare,
            How::Common => Undefined::Common,
            How::Mask | How::Record => Undefined::Mask,
        },
    };
    println!("seed {seed}, {} cases, {} threads", search.cases, search.threads);
    let bar = ProgressBar::with_draw_target(Some(search.cases), ProgressDrawTarget::stderr());
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar.set_style(
        ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} cases, {per_sec}, {eta} left")
            .context("the progress bar's template is wrong")?,
    );
    let start = Instant::now();
    let figures = search::search(&search, Generator::new, |_| (), |done| bar.set_position(done))?;
    bar.finish_and_clear();
    let text = report::figures(&search, &figures, start.elapsed());
    print!("{text}");
    for (code, found) in &figures.found {
        println!("\n{code:?}, {} in all:", found.more + 1);
        report::difference(found, search.undefined, options.whole);
    }
    if let Some(file) = &options.report {
        std::fs::write(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(if figures.mismatches() == 0 { 0 } else { DIFFERENCES })
}
