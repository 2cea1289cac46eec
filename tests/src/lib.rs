//! What the whole-machine tests share: machines made from guests, and QEMU beside them.

pub mod debian;
pub mod firmware;
pub mod known;
pub mod linux;
pub mod metamorphic;
pub mod programs;
pub mod walks;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pagewalk_lens::qemu::{Ending, Qemu, Spec};
use pagewalk_loader::{Boot, Plan, Request};
use pagewalk_pc::board::{Board, Config};
use pagewalk_pc::disk::Disk;
use pagewalk_pc::machine::{Machine, Parts, memory_map};
use pagewalk_testbins::Guest;
use pagewalk_x86::bus::Request as BoardRequest;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::mmu::tlb::Geometry;
use pagewalk_x86::model::{self, Model};
use pagewalk_x86::observe::Observer;
use pagewalk_x86::random::Random;
use tempfile::TempDir;

/// Memory of test machines.
pub const MEMORY: u64 = 32 << 20;
/// Size of the disk that every test machine has.
pub const DISK: usize = 8 << 20;
/// No guest needs as many instructions.
pub const MOST: u64 = 1_000_000_000;

/// A board as all guests get it: 32 MiB and an empty disk.
pub fn board() -> Result<Board> {
    Ok(Board::new(Config {
        memory: MEMORY,
        disks: vec![Disk::blank(DISK as u64 / 512)],
        ..Config::default()
    })?)
}

/// The plan of an image on that board.
pub fn plan(image: &[u8], name: &str, command_line: &str) -> Result<Plan> {
    Ok(pagewalk_loader::plan(&Request {
        image,
        name,
        boot: Boot::Auto,
        command_line,
        modules: &[],
        memory: memory_map(&board()?),
    })?)
}

/// A `max` machine about to run a guest.
pub fn machine<O: Observer>(guest: &Guest, tlb: Geometry, observer: O) -> Result<Machine<O>> {
    machine_of(model::MAX, guest, tlb, observer)
}

/// The same with another model of processor.
pub fn machine_of<O: Observer>(
    model: Model,
    guest: &Guest,
    tlb: Geometry,
    observer: O,
) -> Result<Machine<O>> {
    let parts = Parts { model, tlb, ps_per_instruction: 1000 };
    Ok(Machine::new(parts, board()?, &plan(guest.image, guest.name, "")?, observer)?)
}

/// Runs to the end; returns how it stopped and the serial text.
pub fn run_to_end<O: Observer>(machine: &mut Machine<O>, most: u64) -> (Stop, String) {
    let mut text = Vec::new();
    loop {
        let until = machine.processor.cpu.retired.saturating_add(1 << 20).min(most);
        let stop = machine.run(until);
        text.extend(machine.take_serial());
        match stop {
            Stop::Limit if machine.processor.cpu.retired < most => {}
            Stop::Idle => {}
            stop => return (stop, String::from_utf8_lossy(&text).into_owned()),
        }
    }
}

/// Whether a guest came to its end with success.
pub fn succeeded(stop: &Stop) -> bool {
    *stop == Stop::Request(BoardRequest::Exit(0))
}

/// The lines of a guest's report that begin with a word.
pub fn lines<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| line.trim().strip_prefix(word)?.strip_prefix(' '))
}

/// A file that tests/run.sh fetched; the error says how to get it.
pub fn fetched(name: &str) -> Result<PathBuf> {
    let folder = std::env::var("PAGEWALK_IMAGES")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../target/images").to_string());
    let path = PathBuf::from(folder).join(name);
    if !path.exists() {
        bail!("{} is not there: run tests/run.sh, which fetches it", path.display());
    }
    Ok(path)
}

/// A QEMU with the same processor, memory and disk, and the folder that the disk is in.
pub fn beside(image: &[u8], command_line: &str) -> Result<(Spec, TempDir)> {
    let folder = tempfile::tempdir()?;
    let disk = folder.path().join("disk");
    std::fs::File::create(&disk)?.set_len(DISK as u64)?;
    let spec = Spec {
        command_line: command_line.to_string(),
        disks: vec![disk],
        ..Spec::new(image.to_vec(), MEMORY, model::MAX)
    };
    Ok((spec, folder))
}

/// Runs an image under QEMU, loaded by QEMU's own loader; returns how it ended, if it did, and the serial text.
pub fn qemu(image: &[u8], command_line: &str, limit: Duration) -> Result<(Option<Ending>, String)> {
    let (spec, _folder) = beside(image, command_line)?;
    let mut qemu = Qemu::boot(&spec, &plan(image, "kernel", command_line)?)
        .context("QEMU is needed: tests/run.sh installs it")?;
    let end = qemu.run_to_end(limit, &mut || false)?;
    Ok((end, String::from_utf8_lossy(&qemu.serial()).into_owned()))
}

/// Whether this guest is to be run: all are, or those that `PAGEWALK_GUESTS=name,name` names.
pub fn is_wanted(guest: &str) -> bool {
    std::env::var("PAGEWALK_GUESTS").map_or(true, |only| only.split(',').any(|name| name == guest))
}

/// The number in an environment variable: decimal, or hexadecimal after 0x.
pub fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(parsed.unwrap_or_else(|_| panic!("{name}={text} is not a number: write it in decimal, or as 0x...")))
}

/// A seed that no run had before, or that of `PAGEWALK_SEED`. It is printed, so that the run can be had again.
pub fn fresh_seed() -> u64 {
    let seed = number("PAGEWALK_SEED").unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Random::new(since.map_or(0, |since| since.as_nanos() as u64)).bits()
    });
    println!("PAGEWALK_SEED={seed:#x}");
    seed
}
