//! A run that is split by saving and loading is the run that is not: state, counters, serial text and trace, wherever the
//! split is.

use std::io::Cursor;

use pagewalk_pc::machine::Machine;
use pagewalk_pc::snapshot;
use pagewalk_testbins::{GUESTS, Guest, STORY};
use pagewalk_tests::machine;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::mmu::tlb::{Counters, Geometry, Policy, Space};
use pagewalk_x86::observe::Observer;
use pagewalk_x86::random::Random;

/// Enough of each guest for the story to swap and for all others to end.
const MOST: u64 = 3_000_000;

/// What a run came to.
#[derive(PartialEq, Debug)]
struct Outcome {
    stop: Stop,
    text: String,
    retired: u64,
    hash: u64,
    counters: Counters,
    spaces: Vec<Space>,
    deliveries: Vec<u64>,
}

impl Outcome {
    fn of<O: Observer>(machine: &Machine<O>, stop: Stop, text: &[u8]) -> Outcome {
        let cpu = &machine.processor.cpu;
        Outcome {
            stop,
            text: String::from_utf8_lossy(text).into_owned(),
            retired: cpu.retired,
            hash: machine.state_hash(),
            counters: cpu.tlb.counters.clone(),
            spaces: cpu.tlb.spaces(),
            deliveries: cpu.deliveries.to_vec(),
        }
    }
}

/// Saves and loads in memory.
fn through_a_file<O: Observer, P: Observer>(machine: &Machine<O>, observer: P) -> Machine<P> {
    let mut file = Cursor::new(Vec::new());
    snapshot::write(machine, &mut file).unwrap();
    snapshot::read(&mut file, observer).unwrap()
}

/// Runs on to `until`, past waits for nothing.
fn run_to<O: Observer>(machine: &mut Machine<O>, until: u64, text: &mut Vec<u8>) -> Stop {
    loop {
        let stop = machine.run(until);
        text.extend(machine.take_serial());
        if stop != Stop::Idle {
            return stop;
        }
    }
}

fn unsplit(guest: &Guest, tlb: Geometry) -> Outcome {
    let mut machine = machine(guest, tlb, ()).unwrap();
    let mut text = Vec::new();
    let stop = run_to(&mut machine, MOST, &mut text);
    Outcome::of(&machine, stop, &text)
}

/// The run split at each of these counts.
fn split(guest: &Guest, tlb: Geometry, at: &[u64]) -> Outcome {
    let mut machine = machine(guest, tlb, ()).unwrap();
    let mut text = Vec::new();
    for &at in at {
        let stop = run_to(&mut machine, at, &mut text);
        assert_eq!(stop, Stop::Limit, "{} at {at}", guest.name);
        let loaded = through_a_file(&machine, ());
        assert_eq!(loaded.state_hash(), machine.state_hash(), "{} at {at}", guest.name);
        machine = loaded;
    }
    let stop = run_to(&mut machine, MOST, &mut text);
    Outcome::of(&machine, stop, &text)
}

/// Ascending counts before `end`.
fn points(random: &mut Random, many: u32, end: u64) -> Vec<u64> {
    let mut points: Vec<u64> = (0..many).map(|_| 1 + random.bits() % (end - 1).max(1)).collect();
    points.sort_unstable();
    points.dedup();
    points.retain(|&at| at < end);
    points
}

#[test]
fn a_split_run_of_every_guest_is_the_unsplit_run() {
    let mut random = Random::new(1);
    for guest in GUESTS {
        let whole = unsplit(guest, Geometry::default());
        let at = points(&mut random, 12, whole.retired);
        assert_eq!(split(guest, Geometry::default(), &at), whole, "{} split at {at:?}", guest.name);
    }
}

#[test]
fn the_story_split_at_many_points_is_the_unsplit_story() {
    let whole = unsplit(&STORY, Geometry::default());
    let mut random = Random::new(2);
    for many in [1, 3, 40] {
        let at = points(&mut random, many, whole.retired);
        assert_eq!(split(&STORY, Geometry::default(), &at), whole, "split at {at:?}");
    }
}

#[test]
fn a_tlb_of_any_shape_and_policy_goes_on_where_it_was() {
    let mut random = Random::new(3);
    for policy in [Policy::Lru, Policy::Plru, Policy::Fifo, Policy::Random] {
        for (split_sides, tagged) in [(true, false), (false, true)] {
            let tlb = Geometry { entries: 16, ways: 4, large: 0, split: split_sides, policy, tagged };
            let whole = unsplit(&STORY, tlb);
            let at = points(&mut random, 4, whole.retired);
            assert_eq!(split(&STORY, tlb, &at), whole, "{tlb:?} split at {at:?}");
        }
    }
}
