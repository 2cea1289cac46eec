//! Bugs planted on purpose, one at a time: each suite that should find one must fail with it, and pass without.

use pagewalk_silicon::generate::Generator;
use pagewalk_silicon::native::Native;
use pagewalk_silicon::search;
use pagewalk_silicon::world::World;
use pagewalk_testbins::GUESTS;
use pagewalk_tests::{MOST, lines, machine, run_to_end, succeeded, walks};
use pagewalk_x86::mmu::tlb::Geometry;
use pagewalk_x86::planted::Bug;

/// Names of the guests that do not pass on a processor with this bug.
fn failing_guests(bug: Option<Bug>) -> Vec<&'static str> {
    let fails = |guest: &&pagewalk_testbins::Guest| {
        let mut machine = machine(guest, Geometry::default(), ()).unwrap();
        machine.processor.cpu.plant(bug);
        let (stop, text) = run_to_end(&mut machine, MOST);
        !succeeded(&stop) || lines(&text, "FAIL").next().is_some()
    };
    GUESTS.iter().filter(fails).map(|guest| guest.name).collect()
}

#[test]
fn the_guests_find_what_they_are_for() {
    assert_eq!(failing_guests(None), [""; 0]);
    // a flag of one instruction is not for guests to find
    for bug in Bug::ALL.into_iter().filter(|bug| *bug != Bug::Flag) {
        let failing = failing_guests(Some(bug));
        println!("{bug:?}: {}", failing.join(", "));
        assert!(!failing.is_empty(), "no guest finds {bug:?}");
    }
}

#[test]
fn the_second_walker_finds_a_forgotten_dirty_bit() {
    const WALKS: u64 = 100_000;
    assert!(walks::check(1, WALKS, |_| {}).is_ok());
    let found = walks::check(1, WALKS, |processor| processor.cpu.plant(Some(Bug::DirtyUpdate)));
    println!("{}", found.expect_err("the second walker did not find it"));
}

#[test]
fn silicon_finds_the_instruction_the_flag_and_the_segment_check() {
    let options = search::Options { cases: 100_000, ..Default::default() };
    if let Err(error) = Native::new(&World { seed: 0, ldt: vec![] }) {
        println!("not run: {error:#}");
        return;
    }
    let mismatches = |bug: Option<Bug>| {
        let figures =
            search::search(&options, Generator::new, |ours| ours.processor().cpu.plant(bug), |_| {});
        figures.unwrap().mismatches()
    };
    assert_eq!(mismatches(None), 0);
    for bug in [Bug::Instruction, Bug::Flag, Bug::SegmentCheck] {
        let count = mismatches(Some(bug));
        println!("{bug:?}: {count} mismatches");
        assert!(count > 0, "silicon does not find {bug:?}");
    }
}
