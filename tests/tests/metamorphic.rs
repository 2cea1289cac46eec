//! Machines in random states come to the same end in every way of running them (tests/src/metamorphic).
//!
//! `PAGEWALK_STATES` sets how many instructions each seed runs, in each way (default: 800,000), `PAGEWALK_SEED` the seed
//! that is new in each run, and `PAGEWALK_CASE` the one case to run.

use pagewalk_tests::metamorphic::{Case, Coverage, Places, check, check_positions};
use pagewalk_tests::{fresh_seed, number};

fn instructions() -> u64 {
    number("PAGEWALK_STATES").unwrap_or(800_000)
}

fn compare(seed: u64) -> Coverage {
    let instructions = number("PAGEWALK_STATES").unwrap_or(1_000_000);
    let coverage =
        check(seed, instructions, ()).unwrap_or_else(|mismatch| panic!("seed {seed:#x}: {mismatch}"));
    println!("seed {seed:#x}: {coverage:?}");
    coverage
}

/// Runs the one case that the environment names, if it does.
fn the_one_case() -> bool {
    let Ok(text) = std::env::var("PAGEWALK_CASE") else { return false };
    let wrong = |error: String| -> ! { panic!("{error}") };
    if text.contains('@') {
        let places: Places = text.parse().unwrap_or_else(|error| wrong(error));
        assert!(places.check(&()).is_ok(), "{}", places.shrink(&()));
        return true;
    }
    let case: Case = text.parse().unwrap_or_else(|error| wrong(error));
    if let Err(what) = case.check(&(), &mut Coverage::default()) {
        panic!("{}", case.shrink(&(), what));
    }
    true
}

#[test]
fn every_way_to_run_the_machines_of_a_fixed_seed_ends_the_same() {
    if !the_one_case() {
        compare(0x6d65_7461_6d6f_7270);
    }
}

#[test]
fn every_way_to_run_the_machines_of_a_new_seed_ends_the_same() {
    compare(fresh_seed());
}

#[test]
fn a_program_that_cannot_see_where_it_lies_does_the_same_everywhere() {
    for seed in [0x706c_6163_6573, fresh_seed()] {
        let instructions = instructions() / 4;
        let retired = check_positions(seed, instructions, ())
            .unwrap_or_else(|mismatch| panic!("seed {seed:#x}: {mismatch}"));
        println!("seed {seed:#x}: {retired} instructions at five places each");
    }
}
