//! `pagewalk demo`: the story kernel, run twice, and what its context switches cost.

use anyhow::{Context, Result, bail};
use pagewalk_lens::stats::{Stats, grouped};
use pagewalk_loader::{Boot, Request};
use pagewalk_pc::board::{Board, Config};
use pagewalk_pc::disk::Disk;
use pagewalk_pc::machine::{Machine, Parts, memory_map};
use pagewalk_testbins::STORY;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::mmu::tlb::{FlushCause, Geometry, Space};
use pagewalk_x86::model;

use crate::console::Console;
use crate::drive::{self, End, Limits};
use crate::say::say;
use crate::setup::Setup;
use crate::status::{DONE, INTERRUPTED, LIMIT, Status};

const MEMORY: u64 = 32 << 20;
/// 8 MiB.
const SWAP_SECTORS: u64 = 16 << 10;
/// The story ends long before.
const LIMIT_INSTRUCTIONS: u64 = 2_000_000_000;

/// Runs the command.
pub fn run() -> Result<Status> {
    say!("a small kernel, in the guest, tells what an operating system does with an MMU");
    let (untagged, end) = tell(false, &mut Console::output_only())?;
    if let Some(status) = cut_short(&end) {
        return Ok(status);
    }
    let first = verdict(&end)?;
    say!("the same once more, with the what-if that TLB entries carry a tag per address space");
    let mut quiet = Console::closed_up();
    let (tagged, end) = tell(true, &mut quiet)?;
    if let Some(status) = cut_short(&end) {
        return Ok(status);
    }
    let second = verdict(&end)?;
    table(&untagged, &tagged);
    say!("see any translation of it: pagewalk run --help, pagewalk walk --help");
    Ok(if first == 0 && second == 0 { DONE } else { Status(1) })
}

fn tell(tagged: bool, console: &mut Console) -> Result<(Machine<()>, End)> {
    let board =
        Board::new(Config { memory: MEMORY, disks: vec![Disk::blank(SWAP_SECTORS)], ..Config::default() })?;
    let plan = pagewalk_loader::plan(&Request {
        image: STORY.image,
        name: "story",
        boot: Boot::Auto,
        command_line: "",
        modules: &[],
        memory: memory_map(&board),
    })?;
    let tlb = Geometry { tagged, ..Geometry::default() };
    let parts = Parts { model: model::MAX, tlb, ps_per_instruction: 1000 };
    let mut machine = Setup::of(plan, parts, board).machine(())?;
    let limits = Limits { instructions: Some(LIMIT_INSTRUCTIONS), time: None };
    let end = drive::run(&mut machine, console, limits)?;
    Ok((machine, end))
}

fn cut_short(end: &End) -> Option<Status> {
    match end {
        End::Interrupted => Some(INTERRUPTED),
        End::Closed => Some(DONE),
        End::TimedOut => Some(LIMIT),
        End::Stopped(_) => None,
    }
}

fn verdict(end: &End) -> Result<u32> {
    match end {
        End::Stopped(Stop::Request(pagewalk_x86::bus::Request::Exit(value))) => Ok(*value),
        End::Stopped(stop) => bail!("the story did not come to its end: {stop:?}"),
        other => Err(anyhow::anyhow!("{other:?}")).context("the story did not come to its end"),
    }
}

fn table(untagged: &Machine<()>, tagged: &Machine<()>) {
    let (a, b) = (Stats::of(&untagged.processor), Stats::of(&tagged.processor));
    let switches = untagged.processor.cpu.tlb.counters.flushes[FlushCause::MovCr3 as usize];
    let per = |walks: u64, entered: u64| walks as f64 / entered.max(1) as f64;
    println!();
    println!("What a context switch costs: page walks made in each address space, by value of CR3");
    println!(
        "  {:<12} {:>9} {:>16} {:>16} {:>16}",
        "CR3", "entered", "walks untagged", "walks tagged", "saved per entry"
    );
    let tagged_spaces = tagged.processor.cpu.tlb.spaces();
    let find = |cr3: u32| tagged_spaces.iter().find(|s| s.cr3 == cr3).copied().unwrap_or_default();
    for space in untagged.processor.cpu.tlb.spaces() {
        if space.entered == 0 {
            continue;
        }
        let Space { cr3, entered, walks } = space;
        let with = find(cr3).walks;
        let saved = per(walks, entered) - per(with, find(cr3).entered);
        println!(
            "  {cr3:#010x}   {:>9} {:>16} {:>16} {saved:>16.1}",
            grouped(entered),
            grouped(walks),
            grouped(with)
        );
    }
    println!(
        "  {:<12} {:>9} {:>16} {:>16} {:>16.1}",
        "all",
        grouped(switches),
        grouped(a.walks),
        grouped(b.walks),
        per(a.walks.saturating_sub(b.walks), switches)
    );
    println!(
        "  instructions: {} untagged, {} tagged; entries read by walks: {} and {}",
        grouped(a.instructions),
        grouped(b.instructions),
        grouped(a.walk_reads),
        grouped(b.walk_reads)
    );
}
