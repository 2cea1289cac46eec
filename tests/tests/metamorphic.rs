//! Machines in random states come to the same end in every way of running them (tests/src/metamorphic).
//!
//! `PAGEWALK_STATES` sets how many instructions each seed runs, in each way (default: 1 million), `PAGEWALK_SEED` the seed
//! that is new in each run, and `PAGEWALK_CASE` the one case to run.

use pagewalk_tests::metamorphic::{Case, Coverage, check};
use pagewalk_tests::{fresh_seed, number};

fn compare(seed: u64) -> Coverage {
    let instructions = number("PAGEWALK_STATES").unwrap_or(1_000_000);
    let coverage =
        check(seed, instructions, ()).unwrap_or_else(|mismatch| panic!("seed {seed:#x}: {mismatch}"));
    println!("seed {seed:#x}: {coverage:?}");
    coverage
}

#[test]
fn every_way_to_run_the_machines_of_a_fixed_seed_ends_the_same() {
    if let Ok(text) = std::env::var("PAGEWALK_CASE") {
        let case: Case = text.parse().unwrap_or_else(|error| panic!("{error}"));
        let mut coverage = Coverage { deliveries: vec![0; 256], ..Coverage::default() };
        if let Err(what) = case.check(&(), &mut coverage) {
            panic!("{}", case.shrink(&(), what));
        }
        println!("{coverage:?}");
        return;
    }
    compare(0x6d65_7461_6d6f_7270);
}

#[test]
fn every_way_to_run_the_machines_of_a_new_seed_ends_the_same() {
    compare(fresh_seed());
}
