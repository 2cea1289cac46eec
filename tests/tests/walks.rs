//! The page walk and the TLB against a second, naive walker and TLB (tests/src/walks).
//!
//! `PAGEWALK_WALKS` sets how many walks each seed compares (default: 5 million), `PAGEWALK_SEED` the seed that is new in
//! each run, and `PAGEWALK_WALK` the one case to run.

use pagewalk_tests::walks::{Coverage, check, replay};
use pagewalk_tests::{fresh_seed, number};

fn walks() -> u64 {
    number("PAGEWALK_WALKS").unwrap_or(5_000_000)
}

/// Runs a seed; says what it came to.
fn compare(seed: u64) -> Coverage {
    let coverage =
        check(seed, walks(), |_| ()).unwrap_or_else(|mismatch| panic!("seed {seed:#x}: {mismatch}"));
    println!("seed {seed:#x}: {coverage:?}");
    coverage
}

#[test]
fn every_walk_of_a_fixed_seed_is_as_the_manuals_tables_say() {
    if let Some(case) = number("PAGEWALK_WALK") {
        replay(case, |_| ()).unwrap_or_else(|mismatch| panic!("{mismatch}"));
        return;
    }
    let coverage = compare(0x7061_6765_7761_6c6b);
    if walks() < 100_000 {
        return;
    }
    let walks = coverage.walks;
    // every page size in numbers; the sizes of the other mode never
    for (mode, sizes) in [(1, [true, false, true]), (2, [true, true, false])] {
        for (size, expected) in sizes.into_iter().enumerate() {
            let found = coverage.pages[mode][size];
            assert_eq!(found > walks / 200, expected, "mode {mode} size {size}: {found} of {walks}");
        }
        // every error code there is: not present, violations and reserved bits, each by readers, writers and fetchers of
        // both privileges
        for code in
            [0usize, 1, 9].into_iter().flat_map(|base| [0, 2, 4, 6, 0x10, 0x14].map(|more| base | more))
        {
            assert!(coverage.faults[mode][code] > 0, "mode {mode}: no walk ended with code {code:#x}");
        }
    }
    assert!(coverage.stale > walks / 1000 && coverage.refused > walks / 1000, "{coverage:?}");
}

#[test]
fn every_walk_of_a_new_seed_is_as_the_manuals_tables_say() {
    compare(fresh_seed());
}
