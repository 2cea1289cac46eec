//! In lockstep with QEMU: every guest, the story, and the beginning of GNU Mach. Any difference that is not a known deviation of
//! QEMU's fails.

use std::io::Read as _;
use std::time::Duration;

use pagewalk_lens::lockstep::{self, By, End, Options, Outcome};
use pagewalk_lens::qemu::{Qemu, Spec};
use pagewalk_loader::{Boot, Request};
use pagewalk_pc::board::{Board, Config};
use pagewalk_pc::machine::memory_map;
use pagewalk_testbins::{GUESTS, Guest, STORY};
use pagewalk_tests::known::IN_LOCKSTEP;
use pagewalk_tests::{DISK, MEMORY, fetched, is_wanted, plan};
use pagewalk_x86::model::MAX;

/// Compared by block: it runs for millions of instructions.
const LONG: [&str; 1] = ["rep"];

/// A guest in lockstep, with the disk that all guests have.
fn lockstep(guest: &Guest, options: &Options) -> Outcome {
    let disk = tempfile::NamedTempFile::new().unwrap();
    disk.as_file().set_len(DISK as u64).unwrap();
    let mut spec = Spec::new(guest.image.to_vec(), MEMORY, MAX);
    spec.disks.push(disk.path().to_path_buf());
    let plan = plan(guest.image, guest.name, "").unwrap();
    lockstep::run(&spec, &plan, options, |_| {}, |_| {}).unwrap()
}

/// Asserts that there is no difference; returns how it ended.
fn same(name: &str, outcome: Outcome) -> End {
    println!(
        "{name}: {} instructions, {} comparisons of registers, {} of memory, {} blocks skipped; known: {:?}",
        outcome.instructions, outcome.compared, outcome.checkpoints, outcome.skipped, outcome.known
    );
    match outcome.end {
        Ok(end) => end,
        Err(difference) => panic!("{name}: {}", difference.text(&|_| None)),
    }
}

#[test]
fn qemu_boots_a_guest_and_comes_to_its_end() {
    let guest = pagewalk_testbins::find("integer").unwrap();
    let spec = Spec::new(guest.image.to_vec(), MEMORY, MAX);
    let mut qemu = Qemu::boot(&spec, &plan(guest.image, guest.name, "").unwrap()).unwrap();
    // Multiboot Specification, "Machine state"
    assert_eq!(qemu.gdb.register(0).unwrap(), 0x2bad_b002);
    qemu.resume().unwrap();
    let status = qemu.wait(Duration::from_secs(60)).unwrap().expect("QEMU still runs");
    assert_eq!(status.code(), Some(1), "{}", qemu.said());
    let text = String::from_utf8(qemu.serial()).unwrap();
    assert!(text.contains("PASS"), "{text}");
    let mut first = [0; 4];
    qemu.read_ram(0x10_0000, &mut first).unwrap();
    assert_ne!(first, [0; 4]);
}

/// How far each guest is followed by instruction; to its end with `PAGEWALK_LOCKSTEP=whole`.
const MOST: u64 = 2_000_000;

fn by_instruction() -> Options {
    let whole = std::env::var("PAGEWALK_LOCKSTEP").is_ok_and(|how| how == "whole");
    Options { instructions: (!whole).then_some(MOST), ..Options::default() }
}

/// Every guest that passes `filter`, in lockstep; of these only some with `PAGEWALK_GUESTS=name,name`.
fn all_guests(filter: impl Fn(&Guest) -> bool, options: &Options) {
    let mut differing = Vec::new();
    for guest in GUESTS.iter().filter(|guest| filter(guest) && is_wanted(guest.name)) {
        let outcome = lockstep(guest, options);
        println!(
            "{}: {} instructions, {} comparisons of registers, {} of memory, {} blocks skipped; known: {:?}",
            guest.name,
            outcome.instructions,
            outcome.compared,
            outcome.checkpoints,
            outcome.skipped,
            outcome.known
        );
        for (name, _) in IN_LOCKSTEP.iter().filter(|(_, by)| *by == guest.name) {
            if !outcome.known.contains_key(name) {
                differing.push(format!("{}: does not meet {name}, for which it is named", guest.name));
            }
        }
        match outcome.end {
            Ok(End::Exit(_)) => {}
            Ok(End::Enough) if options.instructions.is_some() => {}
            Ok(end) => differing.push(format!("{}: {end:?}", guest.name)),
            Err(difference) => differing.push(format!("{}: {}", guest.name, difference.text(&|_| None))),
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn every_guest_runs_in_lockstep_with_qemu_by_instruction() {
    all_guests(|guest| !LONG.contains(&guest.name), &by_instruction());
}

#[test]
fn the_long_guests_run_in_lockstep_with_qemu_by_block() {
    all_guests(|guest| LONG.contains(&guest.name), &Options { by: By::Block, ..Options::default() });
}

#[test]
fn the_story_runs_in_lockstep_with_qemu_by_block() {
    let end = same("story", lockstep(&STORY, &Options { by: By::Block, ..Options::default() }));
    assert_eq!(end, End::Exit(0));
}

#[test]
fn the_first_20_million_instructions_of_gnu_mach_run_in_lockstep_with_qemu_by_block() {
    let mut image = Vec::new();
    std::fs::File::open(fetched("gnumach.gz").unwrap()).unwrap().read_to_end(&mut image).unwrap();
    let memory = 128 << 20;
    let board = Board::new(Config { memory, ..Config::default() }).unwrap();
    let command_line = "console=com0";
    let plan = pagewalk_loader::plan(&Request {
        image: &image,
        name: "gnumach",
        boot: Boot::Auto,
        command_line,
        modules: &[],
        memory: memory_map(&board),
    })
    .unwrap();
    let mut spec = Spec::new(pagewalk_loader::unpacked(&image, memory).unwrap().into_owned(), memory, MAX);
    spec.command_line = command_line.into();
    let options = Options { by: By::Block, instructions: Some(20_000_000), ..Options::default() };
    let outcome = lockstep::run(&spec, &plan, &options, |_| {}, |_| {}).unwrap();
    let instructions = outcome.instructions;
    assert_eq!(same("gnumach", outcome), End::Enough);
    assert!(instructions >= 20_000_000);
}
