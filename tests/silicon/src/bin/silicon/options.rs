//! The command line.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  silicon
      300,000 cases of a new seed
  silicon --cases 100M --seed 7
      a long run that anyone can repeat
  silicon --only shld --undefined compare
      one instruction, with the flags that the manual leaves undefined
  silicon --undefined record --cases 200K --seed 1 --report docs/undefined-flags.md
      what this processor does with undefined flags, as a table
  silicon --measure new.ins >> tests/vectors/shift.ins
      complete lines `[code] \"text\" inputs` with what this processor makes of them

A case is one instruction or a short sequence, with registers, flags, segments and
memory. It runs in pagewalk and natively; what came of it must be the same. A
difference is shrunk and printed as a line for tests/vectors, with both results side by
side. The same seed gives the same cases, whatever the number of threads.

Exit status:
  0    no difference
  1    differences, or vectors that fail
  124  no oracle: this host does not run 32-bit x86 programs
  125  a bad option or file";

/// Compares pagewalk's instructions with the processor of this host
#[derive(Parser, Debug)]
#[command(name = "silicon", about = "Compares pagewalk's instructions with the processor of this host", after_help = EXAMPLES, max_term_width = 110)]
pub struct Options {
    /// How many cases; K, M and G stand for thousands, millions and thousands of millions
    #[arg(long, value_name = "N", default_value = "300K", value_parser = number)]
    pub cases: u64,
    /// What cases are made from: a number, or `new` for one that was never used
    #[arg(long, value_name = "SEED", default_value = "new", value_parser = seed)]
    pub seed: Seed,
    /// Threads, each with a native runner of its own [default: one for each core]
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Only cases that begin with this mnemonic (shld) or iced-x86 Code (Shld_rm32_r32_imm8)
    #[arg(long, value_name = "NAME", value_parser = instruction)]
    pub only: Option<String>,
    /// How many of 100 cases are sequences of 2 to 50 instructions
    #[arg(long, value_name = "PERCENT", default_value = "20", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub sequences: u32,
    /// What to do about flags and results that the manual leaves undefined
    #[arg(long, value_name = "HOW", value_enum, default_value_t = How::Mask)]
    pub undefined: How,
    /// Write the figures (with `--undefined record`, the table) to this file, as Markdown
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Print differences as they were found, without shrinking them
    #[arg(long)]
    pub whole: bool,
    /// Instead of a search: print each line of this vector file with what this processor makes of it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cases", "seed", "only", "undefined", "report", "check"])]
    pub measure: Option<PathBuf>,
    /// Instead of a search: run the vectors of these files here and natively
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["cases", "seed", "only", "undefined", "report"])]
    pub check: Vec<PathBuf>,
}

/// `--undefined`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum How {
    /// Leave them out
    Mask,
    /// Compare them too: pagewalk does what an AMD EPYC does
    Compare,
    /// Compare those that all makers' processors leave alike, as pagewalk with --undefined-flags common; no sequences
    Common,
    /// Instead of a search: write down what this processor does with undefined flags, by instruction
    Record,
}

/// `--seed`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seed {
    /// From the clock.
    New,
    /// This one.
    This(u64),
}

fn seed(text: &str) -> Result<Seed, String> {
    match text {
        "new" => Ok(Seed::New),
        _ => digits(text).map(Seed::This),
    }
}

fn digits(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("'{text}' is no number of 64 bits"))
}

fn number(text: &str) -> Result<u64, String> {
    let (count, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1_000),
        Some((at, 'm' | 'M')) => (&text[..at], 1_000_000),
        Some((at, 'g' | 'G')) => (&text[..at], 1_000_000_000),
        _ => (text, 1),
    };
    const CASES: RangeInclusive<u64> = 1..=1 << 50;
    let cases = digits(count)?.checked_mul(unit).filter(|cases| CASES.contains(cases));
    cases.ok_or_else(|| format!("'{text}' is not from 1 to 2^50"))
}

fn instruction(text: &str) -> Result<String, String> {
    let known = iced_x86::Code::values().any(|code| {
        text.eq_ignore_ascii_case(&format!("{code:?}"))
            || text.eq_ignore_ascii_case(&format!("{:?}", code.mnemonic()))
    });
    if known { Ok(text.to_string()) } else { Err("iced-x86 knows no such mnemonic or Code".to_string()) }
}
