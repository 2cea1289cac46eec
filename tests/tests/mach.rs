//! Kernels that nobody here wrote.

use std::io::Read as _;
use std::time::Duration;

use pagewalk_loader::{Boot, Request};
use pagewalk_pc::board::{Board, Config};
use pagewalk_pc::machine::{Machine, Parts, memory_map};
use pagewalk_tests::fetched;
use pagewalk_tests::firmware::{Disc, Drives, machine};
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

/// A line that may differ: how it begins, in QEMU's text or in ours; what of it is still compared; and why.
struct MayDiffer(&'static str, fn(&str) -> String, &'static str);

const MAY_DIFFER: &[MayDiffer] = &[
    MayDiffer(
        "biosmem: 000000000000100000:",
        without_numbers,
        "address: QEMU's ACPI tables take 128 KiB below the end of memory",
    ),
    MayDiffer("biosmem: 000000000007", without_numbers, "address: the same"),
    MayDiffer("vm_page: page table size: 327", without_numbers, "address: fewer pages, therefore"),
    MayDiffer("vm_page: DIRECTMAP: ", without_numbers, "address: fewer pages, therefore"),
    MayDiffer("RTC time is 2000-01-01 00:00:", without_numbers, "time: seconds since the start"),
    MayDiffer("hd2: ", without_name, "model name: of the CD-ROM drive"),
];

fn without_numbers(line: &str) -> String {
    let mut text = String::new();
    for c in line.chars().map(|c| if c.is_ascii_hexdigit() { '#' } else { c }) {
        if c != '#' || !text.ends_with('#') {
            text.push(c);
        }
    }
    text
}

fn without_name(line: &str) -> String {
    let (device, _) = line.split_once(": ").unwrap_or((line, ""));
    let (_, kind) = line.split_once(", ").unwrap_or(("", line));
    format!("{device}: (name), {kind}")
}

/// A console's lines from Mach's first on, as far as they must be equal.
fn compared(text: &str) -> Vec<String> {
    let text = text.replace('\r', "");
    let from = text.find("GNU Mach").unwrap_or_default();
    let shorten = |line: &str| match MAY_DIFFER.iter().find(|may| line.starts_with(may.0)) {
        Some(MayDiffer(_, shorten, why)) => {
            println!("{line}\n    may differ: {why}");
            shorten(line)
        }
        None => line.to_owned(),
    };
    text[from..].lines().map(shorten).collect()
}

/// Started by SeaBIOS and GRUB from the same disc, so that firmware and loader say the same.
#[test]
fn gnu_mach_says_line_for_line_what_it_says_in_qemu() {
    const GRUB: &str = "multiboot /gnumach.gz console=com0\nboot\n";
    let disc = || {
        Disc::default().file("boot/grub/grub.cfg", GRUB.as_bytes()).fetched("gnumach.gz", "gnumach.gz").grub()
    };
    const END: &str = "No bootstrap code loaded with the kernel!";
    let (ours, qemus) = std::thread::scope(|scope| {
        let qemus = scope.spawn(|| {
            let mut talk = disc().in_qemu();
            talk.wait(END);
            talk.text()
        });
        let mut talk = machine(Drives { disks: Vec::new(), cdrom: Some(disc().open()) }, None);
        talk.wait(END);
        (talk.text(), qemus.join().unwrap())
    });
    let (ours, qemus) = (compared(&ours), compared(&qemus));
    assert!(ours.len() > 30, "{ours:#?}");
    assert_eq!(ours, qemus);
}

/// memtest86+ on 16 MiB.
fn memtest(ps_per_instruction: u64) -> Machine<()> {
    let image = std::fs::read(fetched("memtest86+ia32.bin").unwrap()).unwrap();
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
    let parts = Parts { model: model::MAX, tlb: Geometry::default(), ps_per_instruction };
    Machine::new(parts, board, &plan, ()).unwrap()
}

#[test]
fn memtest86_plus_finds_the_memory_that_there_is() {
    let mut machine = memtest(1000);
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

/// At 100 ns for an instruction: the test that looks whether bits fade waits for minutes, which then are few instructions.
#[test]
fn memtest86_plus_completes_a_pass_without_an_error() {
    let mut machine = memtest(100_000);
    let mut screen = String::new();
    while !screen.contains("Pass:  1") {
        let until = machine.processor.cpu.retired + (1 << 26);
        assert!(until < 150_000_000_000, "{screen}");
        let stop = machine.run(until);
        assert!(matches!(stop, Stop::Limit | Stop::Idle), "{stop:?}\n{screen}");
        screen = machine.processor.cpu.bus.screen().join("\n");
    }
    println!("after {} million instructions:\n{screen}", machine.processor.cpu.retired / 1_000_000);
    assert!(screen.contains("Errors: 0"), "{screen}");
}
