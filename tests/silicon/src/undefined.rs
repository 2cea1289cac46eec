//! What the host's processor does with the flags that the manual leaves undefined: a rule for each instruction and flag, found
//! by trying rules on natively run cases until one holds for all, and beside it what Intel's processors are known to do.

mod document;
mod intel;
mod rule;

pub use document::document;
pub use intel::{Known, known};
pub use rule::{RULES, Rule, Seen};

use std::collections::BTreeMap;

use anyhow::Result;
use iced_x86::{Code, Instruction, Mnemonic};
use pagewalk_x86::undefined::undefined;

use crate::case::{Case, End, Outcome};
use crate::compare::{instructions, undefined_flags};
use crate::generate::{self, Generator};
use crate::native::Native;
use crate::world::World;

/// The flags, as bits of EFLAGS, in the order of the table.
pub const FLAGS: [(&str, u32); 6] =
    [("OF", 1 << 11), ("SF", 1 << 7), ("ZF", 1 << 6), ("AF", 1 << 4), ("PF", 1 << 2), ("CF", 1 << 0)];

/// Cases made from one seed, in one world.
const CHUNK: u64 = 4096;

/// When an instruction leaves flags undefined.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum When {
    /// Whatever its operands are.
    Always,
    /// The count is 1.
    CountOne,
    /// The count is from 2 to where the manual leaves more undefined.
    CountMore,
    /// The count is beyond the operand's size, or at it.
    CountBeyond,
    /// The source is 0.
    SourceZero,
    /// The source is not 0.
    SourceNotZero,
}

impl When {
    /// For the table.
    pub fn words(self) -> &'static str {
        match self {
            When::Always => "",
            When::CountOne => "by 1",
            When::CountMore => "by more",
            When::CountBeyond => "beyond the operand",
            When::SourceZero => "of 0",
            When::SourceNotZero => "of others",
        }
    }
}

/// The rules that held so far.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Cases seen.
    pub cases: u64,
    /// Indices into [`RULES`] that none of them contradicts.
    pub rules: Vec<usize>,
}

/// What was recorded: for an instruction, the circumstances and a flag (an index into [`FLAGS`]), the rules that held.
pub type Record = BTreeMap<(Mnemonic, When, usize), Cell>;

/// The opcodes that leave flags undefined, if only for some operands, and that programs may execute.
pub fn concerned() -> Vec<Code> {
    let is_concerned = |code: &Code| {
        let mut instruction = Instruction::default();
        instruction.set_code(*code);
        instruction.set_immediate8(3);
        undefined_flags(&instruction) != 0 && !instruction.is_privileged()
    };
    generate::covered().into_iter().filter(is_concerned).collect()
}

/// Runs this many cases of the instructions concerned natively and finds the rules. The same seed, the same cases.
pub fn record(cases: u64, seed: u64) -> Result<Record> {
    let codes = concerned();
    let mut record = Record::new();
    for chunk in 0..cases.div_ceil(CHUNK) {
        let mut generator = Generator::new(seed.wrapping_add(chunk));
        let world = generator.world().clone();
        let mut native = Native::new(&world)?;
        let cases: Vec<Case> =
            (0..CHUNK.min(cases - chunk * CHUNK)).map(|_| generator.single_of(&codes)).collect();
        for batch in cases.chunks(2048) {
            for (case, outcome) in batch.iter().zip(native.run(batch)?) {
                note(&mut record, &world, case, &outcome);
            }
        }
    }
    Ok(record)
}

/// The host's processor: maker, family and model.
pub fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.split(':').next().is_some_and(|head| head.trim() == name));
        line.and_then(|line| line.split(':').nth(1)).map_or("?", str::trim)
    };
    let number = |name: &str| field(name).parse::<u32>().map_or("?".to_string(), |n| format!("{n:X}h"));
    let maker = match field("vendor_id") {
        "AuthenticAMD" => "AMD",
        "GenuineIntel" => "Intel",
        other => other,
    };
    format!("a processor of {maker}, family {}, model {}", number("cpu family"), number("model"))
}

/// Strikes out the rules that a case contradicts.
fn note(record: &mut Record, world: &World, case: &Case, outcome: &Outcome) {
    let all = instructions(case, world.is_big(case.selectors[1]), world.eip(case));
    let [instruction] = all[..] else { return };
    if outcome.end != End::Fell {
        return;
    }
    let flags = undefined(&instruction, case.regs[1] as u8);
    if flags == 0 {
        return;
    }
    let Some(seen) = Seen::new(case, outcome, &instruction) else { return };
    let when = seen.when(flags);
    for (n, (_, flag)) in FLAGS.iter().enumerate().filter(|(_, (_, flag))| flags & flag != 0) {
        let cell = record
            .entry((instruction.mnemonic(), when, n))
            .or_insert_with(|| Cell { cases: 0, rules: (0..RULES.len()).collect() });
        cell.cases += 1;
        let set = outcome.eflags & flag != 0;
        cell.rules.retain(|&rule| RULES[rule].says(&seen, n) == Some(set));
    }
}
