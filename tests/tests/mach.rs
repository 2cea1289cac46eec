//! Kernels that nobody here wrote.

use std::io::Read as _;
use std::time::Duration;

use pagewalk_loader::{Boot, Request};
use pagewalk_pc::board::{Board, Config};
use pagewalk_pc::machine::{Machine, Parts, memory_map};
use pagewalk_tests::fetched;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::mmu::tlb::Geometry;
use pagewalk_x86::model;

fn boot(file: &str, command_line: &str) -> Machine<()> {
    let mut image = Vec::new();
    std::fs::File::open(fetched(file).unwrap()).unwrap().read_to_end(&mut image).unwrap();
    let board = Board::new(Config { memory: 128 << 20, ..Config::default() }).unwrap();
    let plan = pagewalk_loader::plan(&Request {
        image: &image,
        name: file,
        boot: Boot::Auto,
        command_line,
        modules: &[],
        memory: memory_map(&board),
    })
    .unwrap();
    let parts = Parts { model: model::MAX, tlb: Geometry::default(), ps_per_instruction: 1000 };
    Machine::new(parts, board, &plan, ()).unwrap()
}

/// Runs until the serial text has `wanted` in it, or `most` instructions.
fn run_until(machine: &mut Machine<()>, wanted: &str, most: u64) -> (Option<Stop>, String) {
    let mut text = String::new();
    let started = std::time::Instant::now();
    while !text.contains(wanted) {
        let until = machine.processor.cpu.retired.saturating_add(1 << 20).min(most);
        let stop = machine.run(until);
        text += &String::from_utf8_lossy(&machine.take_serial());
        let limit = machine.processor.cpu.retired >= most || started.elapsed() > Duration::from_secs(600);
        match stop {
            Stop::Limit | Stop::Idle if !limit => {}
            stop => return (Some(stop), text),
        }
    }
    (None, text)
}

#[test]
fn gnu_mach_boots_through_its_device_probes_to_its_own_end() {
    let mut machine = boot("gnumach.gz", "console=com0");
    let (stop, text) = run_until(&mut machine, "No bootstrap code loaded with the kernel!", 20_000_000_000);
    assert!(stop.is_none(), "{stop:?}\n{text}");
    for line in [
        "GNU Mach 1.8",
        "biosmem: physical memory map:",
        "vm_page: page table size:",
        "RTC time is 2000-01-01",
    ] {
        assert!(text.contains(line), "no '{line}' in\n{text}");
    }
    // its picture of memory is the board's map
    let memory = memory_map(&Board::new(Config { memory: 128 << 20, ..Config::default() }).unwrap());
    for region in memory.regions {
        let kind =
            if region.kind == pagewalk_loader::MemoryKind::Available { "available" } else { "reserved" };
        // Mach trims what is available to whole pages
        let (start, end) = (region.base, region.base + region.len);
        let end = if kind == "available" { end & !0xfff } else { end };
        let line = format!("biosmem: {start:018x}:{end:018x}, {kind}");
        assert!(text.contains(&line), "no '{line}' in\n{text}");
    }
}

#[test]
fn memtest86_plus_finds_the_memory_that_there_is() {
    let mut image = Vec::new();
    std::fs::File::open(fetched("memtest86+ia32.bin").unwrap()).unwrap().read_to_end(&mut image).unwrap();
    let board = Board::new(Config { memory: 16 << 20, ..Config::default() }).unwrap();
    let plan = pagewalk_loader::plan(&Request {
        image: &image,
        name: "memtest86+ia32.bin",
        boot: Boot::Auto,
        command_line: "",
        modules: &[],
        memory: memory_map(&board),
    })
    .unwrap();
    let parts = Parts { model: model::MAX, tlb: Geometry::default(), ps_per_instruction: 1000 };
    let mut machine = Machine::new(parts, board, &plan, ()).unwrap();
    // its first test begins
    let mut screen = String::new();
    while !screen.contains("Testing:") {
        let until = machine.processor.cpu.retired + (1 << 24);
        assert!(until < 20_000_000_000, "{screen}");
        let stop = machine.run(until);
        assert!(matches!(stop, Stop::Limit | Stop::Idle), "{stop:?}\n{screen}");
        screen = machine.processor.cpu.bus.screen().join("\n");
    }
    assert!(screen.contains("Memtest86+ v6"), "{screen}");
}
