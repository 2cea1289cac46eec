//! Every guest and the story kernel, run to the end here and in QEMU: text, end and memory are the same but for what
//! the list of known points says. `PAGEWALK_GUESTS=name,name` runs only these guests.

use std::collections::BTreeMap;
use std::time::Duration;

use pagewalk_lens::both::{self, Outcome, Verdict, Watch};
use pagewalk_testbins::{GUESTS, Guest, STORY};
use pagewalk_tests::{beside, is_wanted, known, machine_of, plan};
use pagewalk_x86::mmu::tlb::Geometry;

const LIMIT: Duration = Duration::from_secs(60);

fn run(guest: &Guest) -> Outcome {
    let (spec, _folder) = beside(guest.image, "").unwrap();
    let plan = plan(guest.image, guest.name, "").unwrap();
    let ours = |model| machine_of(model, guest, Geometry::default(), Watch::default());
    both::run(&spec, &plan, ours, LIMIT, &|| false).unwrap_or_else(|error| panic!("{}: {error}", guest.name))
}

/// Where what the manual leaves open shows in notes and memory: how long a translation is kept, undefined results, the upper
/// halves of registers after a switch to a 16-bit task.
const LEFT_OPEN: &[&str] = &["pge", "stale_tlb", "choices", "task_effects"];

/// The outcome of each check by name.
fn checks(text: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(text);
    let check = |line: &str| Some((known::check_of(line)?.to_string(), line.trim().to_string()));
    text.lines().filter_map(check).collect()
}

#[test]
fn guests_say_the_same_in_both_and_leave_the_same_memory() {
    let mut failures = Vec::new();
    for guest in GUESTS.iter().filter(|guest| is_wanted(guest.name)) {
        let outcome = run(guest);
        let told = format!("{}: {:?}\n{}", guest.name, outcome.verdict(), outcome.text(&|_| None));
        println!("{told}");
        let parts = known::points().any(|point| point.guest == guest.name);
        if !parts && !LEFT_OPEN.contains(&guest.name) && outcome.verdict() != Verdict::Same {
            failures.push(told);
        }
        // (a check that fails may keep others from being tried)
        let theirs = checks(&outcome.theirs.text);
        for (name, ours) in
            checks(&outcome.ours.text).iter().filter(|(name, _)| !known::lists(guest.name, name))
        {
            match theirs.get(name) {
                Some(theirs) if theirs != ours => failures.push(format!("{}: {ours} / {theirs}", guest.name)),
                None if !parts => failures.push(format!("{}: {ours} / nothing", guest.name)),
                _ => {}
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_story_ends_alike() {
    let outcome = run(&STORY);
    assert_eq!(outcome.ours.end, outcome.theirs.end);
    println!("{}", outcome.text(&|_| None));
}
