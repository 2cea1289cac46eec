//! Bugs planted on purpose, one at a time: each suite that should find one must fail with it, and pass without.

use pagewalk_testbins::GUESTS;
use pagewalk_tests::{MOST, lines, machine, run_to_end, succeeded};
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
