//! `pagewalk demo`: the story kernel, run twice, and what its context switches cost.

use anyhow::{Context, Result, bail};
use pagewalk_lens::stats::{Stats, grouped};
use pagewalk_loader::{Boot, Request};
use pagewalk_pc::board::{Board, Config};
use pagewalk_pc::disk::Disk;
use pagewalk_pc::machine::{Machine, Parts, memory_map};
use pagewalk_testbins::STORY;
use pagewalk_x86::bus::Phys;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::mmu::tlb::{Geometry, Space};
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
    let untagged = tell(false, &mut Console::output_only())?;
    if let Some(status) = cut_short(&untagged.end) {
        return Ok(status);
    }
    let first = verdict(&untagged.end)?;
    say!("the same once more, with the what-if that TLB entries carry a tag per address space");
    let mut quiet = Console::closed_up();
    let tagged = tell(true, &mut quiet)?;
    if let Some(status) = cut_short(&tagged.end) {
        return Ok(status);
    }
    let second = verdict(&tagged.end)?;
    table(&untagged, &tagged);
    say!("see any translation of it: pagewalk run --help, pagewalk walk --help");
    Ok(if first == 0 && second == 0 { DONE } else { Status(1) })
}

/// One telling of the story.
struct Told {
    setup: Setup,
    machine: Machine<()>,
    end: End,
}

fn tell(tagged: bool, console: &mut Console) -> Result<Told> {
    let config = Config { memory: MEMORY, disks: vec![Disk::blank(SWAP_SECTORS)], ..Config::default() };
    let board = Board::new(config.clone())?;
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
    let setup = Setup::of(plan, parts, config);
    let mut machine = setup.machine(())?;
    let limits = Limits { instructions: Some(LIMIT_INSTRUCTIONS), time: None };
    let end = drive::run(&mut machine, console, limits)?;
    Ok(Told { setup, machine, end })
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

/// The process that a page directory of the story kernel belongs to: it keeps one for each, in the order of its
/// process table, whose rows begin with the name.
fn process_name(told: &Told, cr3: u32) -> Option<String> {
    const KERNEL: u32 = 0xc000_0000;
    let physical = |name: &str| {
        let symbol = told.setup.plan.symbols.iter().find(|symbol| symbol.name == name)?;
        Some((symbol.value.wrapping_sub(KERNEL), symbol.size))
    };
    let (directories, size) = physical("directories")?;
    let (processes, table) = physical("processes")?;
    let pid = cr3.checked_sub(directories).filter(|offset| *offset < size)? / 4096;
    let row = table.checked_div(size / 4096)?;
    let mut name = [0; 16];
    told.machine.processor.cpu.bus.peek(Phys((processes + pid * row) as u64), &mut name);
    let len = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    (len != 0).then(|| String::from_utf8_lossy(&name[..len]).into_owned())
}

fn table(untagged: &Told, tagged: &Told) {
    let (a, b) = (Stats::of(&untagged.machine.processor), Stats::of(&tagged.machine.processor));
    let per = |walks: u64, entered: u64| walks as f64 / entered.max(1) as f64;
    println!();
    println!("What a context switch costs: page walks made in each address space");
    println!(
        "  {:<10} {:<10} {:>9} | {:>9} {:>12} | {:>9} {:>12} | {:>6}",
        "process", "CR3", "switches", "walks", "per switch", "tagged", "per switch", "saved"
    );
    let tagged_spaces = tagged.machine.processor.cpu.tlb.spaces();
    let find = |cr3: u32| tagged_spaces.iter().find(|s| s.cr3 == cr3).copied().unwrap_or_default();
    let (mut switches, mut all, mut all_tagged) = (0, 0, 0);
    let row = |name: &str, cr3: &str, entered: u64, walks: u64, with: Space| {
        let saved = 100.0 - 100.0 * with.walks as f64 / walks.max(1) as f64;
        println!(
            "  {name:<10} {cr3:<10} {:>9} | {:>9} {:>12.1} | {:>9} {:>12.1} | {saved:>5.0}%",
            grouped(entered),
            grouped(walks),
            per(walks, entered),
            grouped(with.walks),
            per(with.walks, with.entered)
        );
    };
    for Space { cr3, entered, walks } in untagged.machine.processor.cpu.tlb.spaces() {
        if entered == 0 {
            continue;
        }
        let with = find(cr3);
        let name = process_name(untagged, cr3).unwrap_or_else(|| "(kernel)".into());
        row(&name, &format!("{cr3:#010x}"), entered, walks, with);
        switches += entered;
        all += walks;
        all_tagged += with.walks;
    }
    let total = Space { cr3: 0, entered: tagged_spaces.iter().map(|s| s.entered).sum(), walks: all_tagged };
    row("all", "", switches, all, total);
    println!(
        "  {} instructions untagged and {} tagged; walks read {} and {} entries",
        grouped(a.instructions),
        grouped(b.instructions),
        grouped(a.walk_reads),
        grouped(b.walk_reads)
    );
}
