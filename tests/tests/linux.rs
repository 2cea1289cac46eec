//! Debian's Linux kernels, as they are in their packages: to a shell on the serial console, through a script, and to their end.

use std::sync::atomic::{AtomicU64, Ordering};

use pagewalk_tests::linux::{Console, Start, Talk};
use pagewalk_tests::{fresh_seed, number};
use pagewalk_x86::bus;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::model::{self, Model};
use pagewalk_x86::random::Random;

/// What is typed, and what must come of it. The values are those of the same commands on a Linux host.
const SCRIPT: &[(&str, &str)] = &[
    ("uname -sm", "Linux i686\n"),
    ("seq 1 1000 | sort -r | md5sum", "a1633ac8dd529995ee2b84872e91c9a0  -\n"),
    ("seq 1 100000 | gzip | gunzip | tail -n 1", "100000\n"),
    ("dd if=/dev/zero bs=1024 count=64 2>/dev/null | md5sum", "fcd6bcb56c1689fcef28b57c22475bad  -\n"),
    (
        "echo 2 | awk '{ for (x = $1; i < 9; i++) x = (x + 2 / x) / 2; printf \"%.12f %.3e\\n\", x, x / 3e10 }'",
        "1.414213562373 4.714e-11\n",
    ),
    (
        "awk 'BEGIN { print 1 / 3, 1048576 * 1048576, int(-7.5), 1e300 * 1e10, 0.1 + 0.2 }'",
        "0.333333 1099511627776 -7 inf 0.3\n",
    ),
    ("echo $((7 * 6)) | sed s/4/four/ | tr 2 T | tee /tmp/x; wc -c < /tmp/x", "fourT\n6\n"),
];

/// Through the script.
fn run_script<C: Console>(talk: &mut Talk<C>) {
    talk.prompt();
    for (command, answer) in SCRIPT {
        assert_eq!(&talk.command(command), answer, "{command}\n{}", talk.text());
    }
}

/// To the prompt, through the script, and off.
fn session(start: &Start) -> (Talk<impl Console<End = Stop> + use<>>, Stop) {
    let mut talk = start.here();
    run_script(&mut talk);
    let stop = talk.last("poweroff -f");
    (talk, stop)
}

const POWERED_OFF: Stop = Stop::Request(bus::Request::PowerOff);

fn with_model(model: Model, kernel: &'static str, options: &'static str) {
    let (talk, end) = session(&Start { model, ..Start::shell(kernel, options) });
    assert_eq!(end, POWERED_OFF, "{}", talk.text());
}

#[test]
fn debians_686_kernel_has_all_hardware_and_warns_of_nothing_that_it_does_not_warn_of_in_qemu() {
    let start = Start::shell("vmlinuz-686", "");
    let warnings = |text: String| -> Vec<String> {
        // <level>[time] text, without what differs between any two boots
        let shorten = |line: &str| {
            let text = line.split_once("] ").map_or(line, |(_, text)| text);
            text.chars().map(|c| if c.is_ascii_hexdigit() { '#' } else { c }).collect()
        };
        text.lines()
            .filter(|line| matches!(line.as_bytes(), [b'<', b'0'..=b'4', b'>', ..]))
            .map(shorten)
            .collect()
    };
    let mut here = start.here();
    run_script(&mut here);
    let ours = warnings(here.command("dmesg -r"));
    let processor = here.command("cat /proc/cpuinfo");
    for line in ["vendor_id\t: GenuineIntel", "fpu\t\t: yes", "wp\t\t: yes"] {
        assert!(processor.contains(line), "no '{line}' in\n{processor}");
    }
    let interrupts = here.command("cat /proc/interrupts");
    for (line, name) in
        [("  0:", "timer"), ("  4:", "ttyS0"), ("  8:", "rtc0"), ("  9:", "acpi"), ("LOC:", "Local timer")]
    {
        let found = interrupts.lines().find(|text| text.starts_with(line)).unwrap_or_default();
        assert!(found.contains(name), "{line} is not {name} in\n{interrupts}");
    }
    assert_eq!(here.last("poweroff -f"), POWERED_OFF, "{}", here.text());
    for line in [
        "ACPI: PM-Timer IO Port: 0x608",
        "IOAPIC[0]: apic_id 0",
        "serio: i8042 KBD port at 0x60,0x64 irq 1",
        "serio: i8042 AUX port at 0x60,0x64 irq 12",
        "reboot: Power down",
    ] {
        assert!(here.text().contains(line), "no '{line}' in\n{}", here.text());
    }

    let mut qemu = start.in_qemu();
    run_script(&mut qemu);
    let qemus = warnings(qemu.command("dmesg -r"));
    let more: Vec<_> = ours.iter().filter(|line| !qemus.contains(line)).collect();
    assert!(more.is_empty(), "warnings here: {ours:#?}\nwarnings in QEMU: {qemus:#?}\nmore: {more:#?}");
}

#[test]
fn debians_686_pae_kernel_comes_to_a_shell_without_apic_and_acpi() {
    let (talk, end) = session(&Start::shell("vmlinuz-686-pae", "nolapic noapic acpi=off"));
    // without ACPI it knows no way to switch the power off
    assert_eq!(end, Stop::Halted, "{}", talk.text());
    assert!(talk.text().contains("reboot: System halted"), "{}", talk.text());
}

#[test]
fn debians_686_pae_kernel_comes_to_a_shell_twice_the_same_without_random_addresses() {
    let start = Start::shell("vmlinuz-686-pae", "nokaslr");
    let run = || {
        let mut talk = start.here();
        run_script(&mut talk);
        assert_eq!(talk.last("poweroff -f"), POWERED_OFF, "{}", talk.text());
        (talk.text(), talk.console.processor.cpu.retired, talk.console.state_hash())
    };
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(run);
        (run(), other.join().unwrap())
    });
    assert_eq!(first, second);
}

#[test]
fn debians_686_kernel_comes_to_a_shell_on_a_p6() {
    with_model(model::P6, "vmlinuz-686", "");
}

#[test]
fn debians_686_pae_kernel_comes_to_a_shell_on_a_p4() {
    with_model(model::P4, "vmlinuz-686-pae", "");
}

/// What a boot of its own is drawn from. The kernel is compiled for processors from the P6 on.
const KERNELS: [&str; 2] = ["vmlinuz-686", "vmlinuz-686-pae"];
const MODELS: [Model; 3] = [model::P6, model::P4, model::MAX];
const OPTIONS: [&str; 12] = [
    "",
    "nokaslr",
    "nolapic noapic acpi=off",
    "acpi=off",
    "nolapic",
    "noapic",
    "nosmp",
    "pti=on",
    "mitigations=off",
    "nohz=off highres=off",
    "clocksource=acpi_pm",
    "notsc",
];

/// A machine drawn at random, its rate between 0.2 and 100 ns for an instruction, all magnitudes as often.
fn drawn(random: &mut Random) -> Start {
    let share = f64::from(random.dword()) / f64::from(u32::MAX);
    Start {
        model: random.pick(&MODELS),
        ps_per_instruction: (200.0 * 500f64.powf(share)).round() as u64,
        ..Start::shell(random.pick(&KERNELS), random.pick(&OPTIONS))
    }
}

/// As many boots as `PAGEWALK_BOOTS` says, two at a time.
#[test]
fn linux_boots_at_any_rate_on_any_model_with_any_options() {
    let (seed, boots) = (fresh_seed(), number("PAGEWALK_BOOTS").unwrap_or(2));
    let next = AtomicU64::new(0);
    let boot_all = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= boots {
                return;
            }
            let start = drawn(&mut Random::new(seed.wrapping_add(index)));
            let name = format!(
                "PAGEWALK_SEED={:#x}: {} on {} at {} ns, options '{}'",
                seed.wrapping_add(index),
                start.kernel,
                start.model.name,
                start.ps_per_instruction as f64 / 1000.0,
                start.options
            );
            println!("{name}");
            let mut talk = start.here();
            talk.prompt();
            let instructions = talk.console.processor.cpu.retired;
            let answer = talk.command("echo $((6 * 7)); seq 1 1000 | sort -r | md5sum");
            assert_eq!(answer, "42\na1633ac8dd529995ee2b84872e91c9a0  -\n", "{name}\n{}", talk.text());
            println!("{name}: at the prompt after {} million instructions", instructions / 1_000_000);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(boot_all);
        boot_all();
    });
}
