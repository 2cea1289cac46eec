//! Debian's Linux kernels, as they are in their packages, with an initial RAM disk around Debian's static busybox: to a shell on
//! the serial console, and to their end.

use std::time::{Duration, Instant};

use pagewalk_loader::{Boot, Module, Request};
use pagewalk_pc::board::{Board, Config, Input};
use pagewalk_pc::machine::{Machine, Parts, memory_map};
use pagewalk_tests::cpio::Archive;
use pagewalk_tests::fetched;
use pagewalk_x86::bus;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::mmu::tlb::Geometry;
use pagewalk_x86::model;

/// How long a boot may take, on a slow host.
const LIMIT: Duration = Duration::from_secs(900);
const PROMPT: &str = "~ # ";
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
export HOME=/ && cd ~
exec sh
";

/// What is typed, and what must come of it. The values are those of the same commands on a Linux host.
const SCRIPT: &[(&str, &str)] = &[
    ("uname -sm", "Linux i686"),
    ("grep -c GenuineIntel /proc/cpuinfo", "\n1\r"),
    ("grep -c ttyS0 /proc/interrupts", "\n1\r"),
    ("seq 1 1000 | sort -r | md5sum", "a1633ac8dd529995ee2b84872e91c9a0"),
    ("seq 1 100000 | gzip | gunzip | tail -n 1", "\n100000\r"),
    ("dd if=/dev/zero bs=1024 count=64 2>/dev/null | md5sum", "fcd6bcb56c1689fcef28b57c22475bad"),
    ("echo 2 | awk '{ printf \"%.12f %.3e\\n\", sqrt($1), exp(10) / 3 }'", "1.414213562373 7.342e+03"),
    ("echo 10 | awk '{ print sin($1) * cos($1), atan2($1, 3), log($1) }'", "0.456473 1.27934 2.30259"),
];

fn ramdisk() -> Vec<u8> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "proc", "tmp"] {
        archive.folder(folder);
    }
    archive.device("dev/console", 5, 1);
    archive.device("dev/ttyS0", 4, 64);
    archive.device("dev/null", 1, 3);
    archive.device("dev/zero", 1, 5);
    archive.program("bin/busybox", &std::fs::read(fetched("busybox-i386").unwrap()).unwrap());
    archive.program("init", INIT.as_bytes());
    archive.finish()
}

fn boot(kernel: &str, options: &str) -> Machine<()> {
    let image = std::fs::read(fetched(kernel).unwrap()).unwrap();
    let board = Board::new(Config { memory: 128 << 20, ..Config::default() }).unwrap();
    let plan = pagewalk_loader::plan(&Request {
        image: &image,
        name: kernel,
        boot: Boot::Auto,
        command_line: &format!("console=ttyS0 {options}"),
        modules: &[Module { data: &ramdisk(), args: "", name: "initrd" }],
        memory: memory_map(&board),
    })
    .unwrap();
    let parts = Parts { model: model::MAX, tlb: Geometry::default(), ps_per_instruction: 1000 };
    Machine::new(parts, board, &plan, ()).unwrap()
}

/// Runs until the text behind `from` has `wanted` in it. Anything else that ends the run is told.
fn run_until(machine: &mut Machine<()>, text: &mut String, from: usize, wanted: &str) -> Result<(), Stop> {
    let started = Instant::now();
    while !text[from..].contains(wanted) {
        assert!(started.elapsed() < LIMIT, "no '{wanted}' in time:\n{text}");
        let until = machine.processor.cpu.retired + (1 << 20);
        let stop = machine.run(until);
        *text += &String::from_utf8_lossy(&machine.take_serial());
        if !matches!(stop, Stop::Limit | Stop::Idle) {
            return Err(stop);
        }
    }
    Ok(())
}

/// To the prompt, through the script, and off.
fn session(kernel: &str, options: &str) -> (String, Stop) {
    let mut machine = boot(kernel, options);
    let mut text = String::new();
    let mut wait = |machine: &mut Machine<()>, text: &mut String, from: usize| {
        if let Err(stop) = run_until(machine, text, from, PROMPT) {
            panic!("{kernel} {options}: {stop:?}\n{text}");
        }
    };
    wait(&mut machine, &mut text, 0);
    for (command, answer) in SCRIPT {
        let from = text.len();
        machine.give(Input::Serial { port: 0, bytes: format!("{command}\n").into_bytes() });
        wait(&mut machine, &mut text, from);
        assert!(text[from..].contains(answer), "{kernel} {options}: {command}\n{}", &text[from..]);
    }
    let from = text.len();
    machine.give(Input::Serial { port: 0, bytes: b"poweroff -f\n".to_vec() });
    let end = run_until(&mut machine, &mut text, from, "never said").unwrap_err();
    (text, end)
}

#[test]
fn debians_686_kernel_comes_to_a_shell_runs_a_script_and_powers_off() {
    let (text, end) = session("vmlinuz-686", "");
    assert_eq!(end, Stop::Request(bus::Request::PowerOff), "{text}");
    for line in ["ACPI: PM-Timer IO Port: 0x608", "IOAPIC[0]: apic_id 0", "reboot: Power down"] {
        assert!(text.contains(line), "no '{line}' in\n{text}");
    }
}

#[test]
fn debians_686_pae_kernel_comes_to_a_shell_without_apic_and_acpi() {
    let (text, end) = session("vmlinuz-686-pae", "nolapic noapic acpi=off nokaslr");
    assert_eq!(end, Stop::Halted, "{text}");
    assert!(text.contains("reboot: System halted"), "{text}");
}
