//! Flags that the manual leaves undefined, here and on the host's processor: all of them as silicon leaves them, those that all
//! makers' processors leave alike also where pagewalk leaves the opposite in the others; and that a difference would be found.

use std::collections::BTreeSet;

use iced_x86::Mnemonic;
use pagewalk_silicon::compare::Undefined;
use pagewalk_silicon::generate::Few;
use pagewalk_silicon::native::Native;
use pagewalk_silicon::random::Random;
use pagewalk_silicon::search::{Figures, Options, search};
use pagewalk_silicon::undefined::{concerned, document, processor, record};
use pagewalk_silicon::world::World;
use pagewalk_x86::undefined::{UndefinedFlags, common};

const CASES: u64 = 300_000;
/// Where nearly all cases differ, and each that does is run twice.
const FEW_CASES: u64 = 16_384;
/// The processor that pagewalk's choices were measured on.
const MEASURED: &str = "AMD, family 1Ah";

fn has_oracle() -> bool {
    match Native::new(&World { seed: 0, ldt: vec![] }) {
        Ok(_) => true,
        Err(error) => {
            println!("not run: {error:#}");
            false
        }
    }
}

fn is_measured() -> bool {
    let processor = processor();
    if !processor.contains(MEASURED) {
        println!("not run: {processor} is not the one whose undefined flags pagewalk follows");
    }
    has_oracle() && processor.contains(MEASURED)
}

fn new_seed() -> u64 {
    let time =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    Random::new(time.as_nanos() as u64).bits()
}

/// Cases of the instructions that leave flags undefined, with pagewalk leaving them as `flags` says.
fn compared(cases: u64, seed: u64, undefined: Undefined, flags: UndefinedFlags) -> Figures {
    println!("seed {seed}: {cases} cases, {undefined:?}, {flags:?}");
    let codes = concerned();
    let options = Options { cases, seed, sequences: 0, undefined, ..Options::default() };
    let set = |ours: &mut pagewalk_silicon::ours::Ours| ours.processor().cpu.model.undefined_flags = flags;
    let figures = search(&options, |seed| Few::new(seed, &codes), set, |_| {}).unwrap();
    assert!(figures.compared > cases * 9 / 10, "{} of {cases} compared", figures.compared);
    let missed: Vec<_> = codes.iter().filter(|code| !figures.codes.contains_key(code)).collect();
    assert!(missed.is_empty(), "never came up: {missed:?}");
    figures
}

fn assert_same(figures: &Figures) {
    let shown: Vec<String> =
        figures.found.values().take(5).map(|found| found.difference.to_string()).collect();
    assert_eq!(figures.mismatches(), 0, "{}", shown.join("\n"));
}

/// The instructions that leave flags undefined, and of them those where all processors do alike for some.
fn mnemonics() -> (BTreeSet<Mnemonic>, BTreeSet<Mnemonic>) {
    let all: BTreeSet<Mnemonic> = concerned().iter().map(|code| code.mnemonic()).collect();
    let alike = all.iter().copied().filter(|&mnemonic| common(mnemonic) != 0).collect();
    (all, alike)
}

fn found(figures: &Figures) -> BTreeSet<Mnemonic> {
    figures.found.keys().map(|code| code.mnemonic()).collect()
}

#[test]
fn undefined_flags_come_out_as_on_silicon() {
    if is_measured() {
        for seed in [1, new_seed()] {
            assert_same(&compared(CASES / 2, seed, Undefined::Compare, UndefinedFlags::Silicon));
        }
    }
}

#[test]
fn flags_that_all_makers_leave_alike_come_out_as_on_silicon_while_the_others_are_the_opposite() {
    if has_oracle() {
        for seed in [1, new_seed()] {
            assert_same(&compared(CASES / 2, seed, Undefined::Common, UndefinedFlags::Common));
        }
    }
}

#[test]
fn every_instruction_whose_undefined_flags_are_the_opposite_is_found() {
    if !is_measured() {
        return;
    }
    let (all, alike) = mnemonics();
    let opposite = compared(FEW_CASES, 2, Undefined::Compare, UndefinedFlags::Manual);
    assert_eq!(found(&opposite), all);
    // of the comparison that leaves some flags out, exactly those with others in it
    let opposite = compared(FEW_CASES, 2, Undefined::Common, UndefinedFlags::Manual);
    assert_eq!(found(&opposite), alike);
}

#[test]
fn the_page_about_undefined_flags_is_what_this_processor_does() {
    if !has_oracle() {
        return;
    }
    let page = include_str!("../../../docs/undefined-flags.md");
    if !page.contains(&processor()) {
        println!("not run: the page is about another processor than {}", processor());
        return;
    }
    assert_eq!(page, document(&record(200_000, 1).unwrap(), &processor(), 200_000, 1));
}
