//! The record as a page for readers.

use std::collections::BTreeMap;
use std::fmt::Write;

use iced_x86::Mnemonic;
use pagewalk_x86::undefined::common;

use super::{FLAGS, Known, RULES, Record, When, known};

/// Rows of the table that differ in nothing but their instructions.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Row {
    when: When,
    cells: [&'static str; 6],
    known: Known,
    common: Vec<&'static str>,
}

fn rows(record: &Record) -> BTreeMap<Mnemonic, Vec<Row>> {
    let mut rows: BTreeMap<Mnemonic, Vec<Row>> = BTreeMap::new();
    let mut cells: BTreeMap<(Mnemonic, When), [&str; 6]> = BTreeMap::new();
    for ((mnemonic, when, flag), cell) in record {
        let words = cell.rules.first().map_or("other", |&rule| RULES[rule].words());
        cells.entry((*mnemonic, *when)).or_default()[*flag] = words;
    }
    for ((mnemonic, when), cells) in cells {
        let kept = common(mnemonic);
        let common = FLAGS
            .iter()
            .zip(cells)
            .filter(|((_, flag), words)| kept & flag != 0 && !words.is_empty())
            .map(|((name, _), _)| *name)
            .collect();
        let row = Row { when, cells, known: known(mnemonic, when), common };
        rows.entry(mnemonic).or_default().push(row);
    }
    rows
}

/// Families as the manual has them, so that the table reads like it.
const ORDER: [Mnemonic; 35] = {
    use Mnemonic::*;
    [
        And, Or, Xor, Test, Shl, Sal, Shr, Sar, Shld, Shrd, Rol, Ror, Rcl, Rcr, Mul, Imul, Div, Idiv, Bt,
        Bts, Btr, Btc, Bsf, Bsr, Lzcnt, Tzcnt, Andn, Bextr, Bzhi, Blsi, Blsmsk, Blsr, Aaa, Aas, Aam,
    ]
};

/// The page: what `processor` does, as recorded from so many cases of a seed.
pub fn document(record: &Record, processor: &str, cases: u64, seed: u64) -> String {
    let command = format!(
        "cargo run --release -p pagewalk-silicon -- --undefined record --cases {cases} --seed {seed} --report docs/undefined-flags.md"
    );
    let rows = rows(record);
    let place = |mnemonic: &Mnemonic| ORDER.iter().position(|known| known == mnemonic).unwrap_or(ORDER.len());
    let mut mnemonics: Vec<Mnemonic> = rows.keys().copied().collect();
    mnemonics.sort_by_key(place);
    // instructions that do the same share rows
    let mut groups: Vec<(Vec<Mnemonic>, &[Row])> = Vec::new();
    for mnemonic in mnemonics {
        let rows = &rows[&mnemonic][..];
        match groups.iter_mut().find(|(_, others)| *others == rows) {
            Some((group, _)) => group.push(mnemonic),
            None => groups.push((vec![mnemonic], rows)),
        }
    }
    let mut text = HEAD.replace("PROCESSOR", processor).replace("COMMAND", &command);
    let line = |cells: &[&str]| format!("| {} |", cells.join(" | "));
    let names = FLAGS.map(|(name, _)| name);
    let heads = [&["instructions", "when"], &names[..], &["Intel's processors", "alike"]].concat();
    let _ = writeln!(text, "{}\n|{}", line(&heads), "---|".repeat(heads.len()));
    for (group, rows) in groups {
        let names: Vec<String> = group.iter().map(|m| format!("{m:?}").to_uppercase()).collect();
        let mut names = names.join(", ");
        for row in rows {
            let alike = row.common.join(", ");
            let cells =
                [&[&names[..], row.when.words()], &row.cells[..], &[row.known.words(), &alike]].concat();
            let _ = writeln!(text, "{}", line(&cells));
            names.clear();
        }
    }
    text += "\nWhat the words stand for:\n\n| | |\n|---|---|\n";
    for rule in RULES {
        let _ = writeln!(text, "{}", line(&[rule.words(), rule.sentence()]));
    }
    text += "| other | none of these |\n| | the manual defines the flag |\n";
    text + TAIL
}

const HEAD: &str = "\
# Flags that the manual leaves undefined

What a processor does with them, found by running every instruction that leaves flags undefined natively, with operands in
registers, and trying rules until one holds for all cases. Made on PROCESSOR by

    COMMAND

";

const TAIL: &str = "
Counts are those of shifts and rotates, modulo 32; *beyond the operand* is a count of at least the operand's size for SHL and SHR,
where CF is undefined too, and a count above 16 for SHLD and SHRD of words, where everything is, the result included.

*Intel's processors*: P5 is the Pentium, P6 the Pentium Pro to the Core 2, P4 the Pentium 4; from sandpile.org, \"rFLAGS
register\", table \"undefined integer FLAGS behavior\". Nothing measured was found for later cores, and nothing for LZCNT, TZCNT and the BMI
instructions; an emulator that tells the makers apart (box64, `BOX64_CPUTYPE`) takes LZCNT and TZCNT to clear OF on Intel's
and to keep it on AMD's, which agrees with the table as far as AMD is concerned. *Not clear*: the table's words leave more than one reading.

MOV from and to control and debug registers leaves all flags undefined as well; it is not for programs, and pagewalk takes it to leave
them unchanged.

*alike*: the flags that all these processors, as far as they are known, leave as this one does.

## What pagewalk does

`--undefined-flags` of `pagewalk run` and its kin, or the field `undefined_flags` of `pagewalk_x86::model::Model`:

| | |
|---|---|
| `silicon` | what the table says, in every case: the default, at no cost |
| `common` | the flags under *alike* as the table says; each of the others the opposite of what it says |
| `manual` | each flag that is undefined the opposite of what the table says |

A program that behaves differently with `common` depends on one maker's processors; one that behaves differently with `manual` depends
on what no manual promises. The opposite is taken only where the flag is undefined, after the instruction has ended without a fault; the
instructions concerned are lowered to other bodies, so that nothing else is slower.

Compared with silicon in every test run (`tests/silicon/tests/undefined.rs`): all flags with `silicon`, those under *alike* with
`common`; and that with `manual` every instruction of the table is found to differ. By hand: `silicon --undefined compare` and
`--undefined common`.
";
