//! Shortcuts change nothing: with the front table and the block cache on or off, stepped or run, watched or not, a
//! guest ends in the same state with the same counters.

use pagewalk_lens::trace::Sink;
use pagewalk_lens::{Filter, Lens, Topic, Trace};
use pagewalk_pc::machine::Machine;
use pagewalk_testbins::{GUESTS, Guest, STORY};
use pagewalk_tests::{machine, run_to_end};
use pagewalk_x86::fault::Stop;
use pagewalk_x86::mmu::tlb::{Counters, Geometry};
use pagewalk_x86::observe::Observer;

/// Enough of each guest for a run without shortcuts.
const MOST: u64 = 3_000_000;

#[derive(PartialEq, Debug)]
struct Outcome {
    stop: Stop,
    text: String,
    hash: u64,
    counters: Counters,
}

fn outcome(guest: &Guest, front: bool, cache: bool) -> Outcome {
    let mut machine = machine(guest, Geometry::default(), ()).unwrap();
    machine.processor.set_shortcuts(front, cache);
    let (stop, text) = run_to_end(&mut machine, MOST);
    Outcome { stop, text, hash: machine.state_hash(), counters: machine.processor.cpu.tlb.counters.clone() }
}

#[test]
fn front_table_and_block_cache_change_nothing() {
    for guest in GUESTS.iter().chain([&STORY]) {
        let both = outcome(guest, true, true);
        for (front, cache) in [(false, true), (true, false), (false, false)] {
            assert_eq!(outcome(guest, front, cache), both, "{} front {front} cache {cache}", guest.name);
        }
    }
}

/// Runs one instruction at a time.
fn step_to_end<O: Observer>(machine: &mut Machine<O>, most: u64) -> (Stop, String) {
    let mut text = Vec::new();
    loop {
        let retired = machine.processor.cpu.retired;
        let stop = if retired >= most { Stop::Observer } else { machine.run(retired + 1) };
        text.extend(machine.take_serial());
        match stop {
            Stop::Limit | Stop::Idle => {}
            stop => {
                let stop = if stop == Stop::Observer { Stop::Limit } else { stop };
                return (stop, String::from_utf8_lossy(&text).into_owned());
            }
        }
    }
}

#[test]
fn stepping_is_running() {
    for guest in GUESTS.iter().chain([&STORY]) {
        let run = outcome(guest, true, true);
        let mut machine = machine(guest, Geometry::default(), ()).unwrap();
        let (stop, text) = step_to_end(&mut machine, MOST);
        let stepped = Outcome {
            stop,
            text,
            hash: machine.state_hash(),
            counters: machine.processor.cpu.tlb.counters.clone(),
        };
        assert_eq!(stepped, run, "{}", guest.name);
    }
}

#[test]
fn looking_changes_nothing_and_sees_the_same_twice_and_without_shortcuts() {
    #[derive(Clone, Default)]
    struct Shared(std::sync::Arc<std::sync::Mutex<std::hash::DefaultHasher>>);
    impl std::io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            use std::hash::Hasher;
            self.0.lock().unwrap().write(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    for guest in GUESTS.iter().chain([&STORY]) {
        let plain = {
            let mut machine = machine(guest, Geometry::default(), ()).unwrap();
            let (stop, text) = run_to_end(&mut machine, MOST / 6);
            (stop, text, machine.state_hash())
        };
        let mut hashes = Vec::new();
        for (cache, stepped) in [(true, false), (true, false), (false, false), (true, true)] {
            use std::hash::Hasher;
            let sink = Shared::default();
            let filter = Filter { topics: Topic::ALL.into_iter().collect(), ..Filter::default() };
            let trace = Trace::new(filter, Sink::Text(Box::new(sink.clone())));
            let mut machine = machine(guest, Geometry::default(), Lens::tracing(trace)).unwrap();
            machine.processor.set_shortcuts(true, cache);
            let (stop, text) = if stepped {
                step_to_end(&mut machine, MOST / 6)
            } else {
                run_to_end(&mut machine, MOST / 6)
            };
            assert_eq!((stop, text, machine.state_hash()), plain, "{} watched", guest.name);
            hashes.push(sink.0.lock().unwrap().finish());
        }
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{}: traces differ", guest.name);
    }
}
