//! Images that are damaged on purpose: kernels, initial RAM disks, disks and discs, changed in their headers above all. Each is
//! refused by one sentence, or it runs; none panics the emulator, holds it up, or makes it take memory that the machine has not.
//!
//! PAGEWALK_FUZZ says how much to do; a failing case prints the PAGEWALK_SEED that repeats it.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pagewalk_loader::{Boot, Module, Request};
use pagewalk_pc::board::{Board, Config};
use pagewalk_pc::disk::Disk;
use pagewalk_pc::machine::{Machine, Parts, memory_map};
use pagewalk_testbins::{GUESTS, STORY};
use pagewalk_tests::firmware::{self, Disc, Drives};
use pagewalk_tests::linux::{SHELL, Start, Talk, ramdisk};
use pagewalk_tests::{fetched, number};
use pagewalk_x86::bus::Bus as _;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::mmu::tlb::Geometry;
use pagewalk_x86::model;
use pagewalk_x86::random::Random;

/// A field: where it is, and how many bytes it has.
type Field = (usize, usize);

/// The Linux setup header's fields (Linux x86 Boot Protocol, "The Real-Mode Kernel Header").
#[rustfmt::skip]
const LINUX: &[Field] = &[
    (0x1f1, 1), (0x1f2, 2), (0x1f4, 4), (0x1fa, 2), (0x1fe, 2), (0x200, 2), (0x201, 1), (0x202, 4), (0x206, 2),
    (0x20e, 2), (0x210, 1), (0x211, 1), (0x212, 2), (0x214, 4), (0x218, 4), (0x21c, 4), (0x224, 2), (0x228, 4),
    (0x22c, 4), (0x230, 4), (0x234, 1), (0x235, 1), (0x236, 2), (0x238, 4), (0x23c, 4), (0x248, 4), (0x24c, 4),
    (0x250, 8), (0x258, 8), (0x260, 4), (0x264, 4),
];
/// The ELF header's (System V ABI, "ELF Header"), and those of the first four program headers.
#[rustfmt::skip]
const ELF: &[Field] = &[
    (4, 1), (5, 1), (16, 2), (18, 2), (24, 4), (28, 4), (32, 4), (40, 2), (42, 2), (44, 2), (46, 2), (48, 2), (50, 2),
    (52, 4), (56, 4), (60, 4), (64, 4), (68, 4), (72, 4), (80, 4), (84, 4), (88, 4), (92, 4), (96, 4), (100, 4),
    (104, 4), (112, 4), (116, 4), (120, 4), (124, 4), (128, 4), (132, 4), (144, 4), (148, 4), (152, 4), (156, 4),
];
/// A master boot record's: the partitions and the signature; then what GRUB's boot sector knows of the rest of it.
#[rustfmt::skip]
const MASTER_BOOT_RECORD: &[Field] = &[
    (446, 4), (450, 4), (454, 4), (458, 4), (462, 4), (466, 4), (470, 4), (474, 4), (510, 2), (0x5a, 2), (0x5c, 8),
    (0x64, 1), (512 + 500, 8), (512 + 508, 2), (512 + 510, 2),
];
/// A disc's: the primary volume descriptor (ECMA-119, "Primary Volume Descriptor") and the boot record (El Torito, figure 7).
#[rustfmt::skip]
const DISC: &[Field] = &[
    (0x8000, 1), (0x8001, 4), (0x8050, 8), (0x8080, 4), (0x8084, 4), (0x808c, 4), (0x809c, 1), (0x809e, 8), (0x80a6, 8),
    (0x8800, 1), (0x8801, 4), (0x8807, 8), (0x8847, 4),
];
/// The boot catalogue's, from its begin (El Torito, figures 2 and 3).
const CATALOGUE: &[Field] =
    &[(0, 1), (1, 1), (0x1c, 2), (0x1e, 2), (0x20, 1), (0x21, 1), (0x22, 2), (0x24, 1), (0x26, 2), (0x28, 4)];
/// Values where something ends or wraps.
#[rustfmt::skip]
const EDGES: &[u64] = &[
    0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x1ff, 0x200, 0x7fff, 0x8000, 0xffff, 0x1_0000, 0xf_ffff, 0x10_0000, 0xff_ffff,
    0x7fff_ffff, 0x8000_0000, 0xffff_f000, 0xffff_fff0, 0xffff_fffe, 0xffff_ffff, 1 << 32, u64::MAX - 1, u64::MAX,
];

/// Instructions from reset to where GRUB has booted the story.
const BOOT: u64 = 120_000_000;

/// Tells the case that panics.
struct Case(u64);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("PAGEWALK_SEED={:#x} begins with this case", self.0);
        }
    }
}

/// What a case came to: instructions, or a refusal.
type Came = Option<u64>;

/// Cases until they have run `share` instructions for each that PAGEWALK_FUZZ asks for; one counts `least` at least.
fn cases(what: &str, share: u64, least: u64, mut case: impl FnMut(&mut Random) -> Came) {
    let wanted = number("PAGEWALK_FUZZ").unwrap_or(2_000_000).saturating_mul(share);
    let first = number("PAGEWALK_SEED").unwrap_or(0x5eed_0002);
    let (mut done, mut count, mut refused, mut executed) = (0, 0, 0, 0);
    while done < wanted {
        let seed = first.wrapping_add(count);
        let told = Case(seed);
        let started = Instant::now();
        match case(&mut Random::new(seed)) {
            Some(instructions) => executed += instructions,
            None => refused += 1,
        }
        assert!(started.elapsed() < Duration::from_secs(300), "{what}: a case took {:?}", started.elapsed());
        done = executed + count * least;
        count += 1;
        drop(told);
    }
    println!("{what}: {count} cases, {refused} refused, {executed} instructions");
    // of the tests that run at the same time, no machine has more than 128 MiB
    let peak = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        peak.lines().find_map(|line| line.strip_prefix("VmPeak:")?.trim().strip_suffix(" kB")?.parse().ok());
    assert!(peak.unwrap_or(0_u64) < 4 << 20, "{what}: {peak:?} KiB of addresses were taken");
}

/// Changes an image, in its fields above all.
fn damage(random: &mut Random, image: &mut Vec<u8>, fields: &[Field]) {
    for _ in 0..=random.below(3) {
        if image.is_empty() {
            return;
        }
        let len = image.len() as u64;
        let anywhere = if random.flag() { random.bits() % len } else { random.bits() % len.min(0x1_0000) };
        let at = anywhere as usize;
        match random.below(12) {
            0 => image.truncate(at),
            1 => image.truncate(random.pick(EDGES).min(len) as usize),
            2 => image[at] ^= 1 << random.below(8),
            3 => {
                let end = image.len().min(at + random.below(600) as usize);
                let any = random.bits() as u8;
                let fill = random.pick(&[0, 0xff, 0x90, any]);
                image[at..end].fill(fill);
            }
            4 => {
                let more = random.pick(&[1, 15, 511, 512, 513, 2048, 0x1_0000]);
                image.resize(image.len() + more, random.bits() as u8);
            }
            _ if fields.is_empty() => image[at] = random.bits() as u8,
            _ => {
                let (at, width) = random.pick(fields);
                let value = match random.below(4) {
                    0 => random.bits(),
                    1 => len.wrapping_add(random.pick(&[0, 1, u64::MAX, 15, 16, 512])),
                    _ => random.pick(EDGES),
                };
                if let Some(field) = image.get_mut(at..at + width) {
                    field.copy_from_slice(&value.to_le_bytes()[..width]);
                }
            }
        }
    }
}

/// Runs this many instructions at most; how many it were.
fn run(machine: Machine<()>, most: u64) -> u64 {
    run_and_read(machine, most).0
}

/// The same, with the serial text.
fn run_and_read(mut machine: Machine<()>, most: u64) -> (u64, String) {
    let mut text = Vec::new();
    let begun = machine.processor.cpu.retired;
    loop {
        let stop = machine.run(begun + most);
        text.extend(machine.take_serial());
        match stop {
            Stop::Idle if machine.processor.cpu.retired < begun + most => {}
            _ => {
                let text = String::from_utf8_lossy(&text).into_owned();
                return (machine.processor.cpu.retired - begun, text);
            }
        }
    }
}

/// Loads and runs, if it is not refused by one sentence.
fn load(random: &mut Random, image: &[u8], boot: Boot, modules: &[Module], command_line: &str) -> Came {
    let sizes: &[u64] = &[1 << 20, 16 << 20, 64 << 20, 64 << 20, 128 << 20, 128 << 20];
    let board = Board::new(Config { memory: random.pick(sizes), ..Config::default() }).unwrap();
    let memory = memory_map(&board);
    let request = Request { image, name: "image", boot, command_line, modules, memory };
    match pagewalk_loader::plan(&request) {
        Ok(plan) if plan.handed.is_empty() => {
            let parts = Parts { model: model::MAX, tlb: Geometry::default(), ps_per_instruction: 1000 };
            Some(run(Machine::new(parts, board, &plan, ()).unwrap(), 400_000))
        }
        // the firmware comes first
        Ok(plan) => Some(run(firmware::machine(Drives::default(), Some(plan)).console, 30_000_000)),
        Err(refusal) => {
            let text = refusal.to_string();
            assert!(text.starts_with("image: ") && !text.contains('\n') && text.len() < 600, "{text}");
            None
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn damaged_linux_kernels_run_or_are_refused() {
    let kernel = std::fs::read(fetched("vmlinuz-686").unwrap()).unwrap();
    let ramdisk = vec![0x30; 3 << 20];
    cases("bzImages", 10, 500_000, |random| {
        let mut image = kernel.clone();
        damage(random, &mut image, LINUX);
        let size = random.pick(&[0, 1, 4095, 4096, 70_000, 3 << 20]);
        let modules = [Module { data: &ramdisk[..size], args: "", name: "initrd" }; 2];
        let modules = &modules[..random.pick(&[0, 0, 1, 1, 1, 2])];
        let command_line =
            "a".repeat(random.pick(&[0, 0, 0, 0, 0, 9, 9, 255, 2047, 2048, 0x1_0000, 0x10_0000]));
        // the real-mode entry takes a firmware's time
        let boot = random.pick(&[Boot::Auto, Boot::Auto, Boot::Linux, Boot::Linux, Boot::Linux]);
        let boot = if random.once_in(30) { Boot::LinuxRealMode } else { boot };
        load(random, &image, boot, modules, &command_line)
    });
}

#[test]
fn damaged_multiboot_and_elf_images_run_or_are_refused() {
    cases("Multiboot and ELF images", 10, 100_000, |random| {
        let guest = &GUESTS[random.below(GUESTS.len() as u32) as usize];
        let mut image = guest.image.to_vec();
        let mut fields = ELF.to_vec();
        // the sections, and the Multiboot header behind its checksum
        let word =
            |at: usize| Some(u32::from_le_bytes(guest.image.get(at..at + 4)?.try_into().ok()?) as usize);
        let sections = word(32).unwrap_or(0);
        let header = (0..guest.image.len().min(8192)).step_by(4).find(|&at| word(at) == Some(0x1bad_b002));
        fields.extend((0..40).map(|index| (sections + 4 * index, 4)));
        fields.extend((0..12).filter_map(|index| Some((header? + 4 * index, 4))));
        damage(random, &mut image, &fields);
        if let Some(header) = header
            && random.flag()
            && image.len() >= header + 12
        {
            let any = random.dword() & 0x1_ffff;
            let flags = random.pick(&[0, 1, 2, 3, 4, 7, 0x1_0000, 0x1_0003, 0x1_0007, any]);
            image[header + 4..header + 8].copy_from_slice(&flags.to_le_bytes());
            let sum = 0_u32.wrapping_sub(0x1bad_b002).wrapping_sub(flags);
            image[header + 8..header + 12].copy_from_slice(&sum.to_le_bytes());
        }
        if random.once_in(8) {
            image = gzip(&image);
            if random.flag() {
                damage(random, &mut image, &[(0, 2), (2, 1), (3, 1), (4, 4), (8, 2)]);
            }
        }
        let modules = [Module { data: &[7; 5000][..random.below(5000) as usize], args: "x", name: "module" }];
        let modules = &modules[..random.below(2) as usize];
        let boots = [Boot::Auto, Boot::Auto, Boot::Multiboot1, Boot::Multiboot2, Boot::Pvh, Boot::Elf];
        let boot = random.pick(&boots);
        let modules = if boot == Boot::Elf { &[] } else { modules };
        load(random, &image, boot, modules, "")
    });
}

/// A disc that GRUB boots into the story, and its bytes.
fn grub() -> Vec<u8> {
    let config = "set timeout=0\nmenuentry story { multiboot /story; boot }\n";
    let disc =
        Disc::default().file("boot/grub/grub.cfg", config.as_bytes()).file("story", STORY.image).grub();
    std::fs::read(disc.path()).unwrap()
}

/// In a drive, if it can be there.
fn insert(image: Vec<u8>) -> Option<Disk> {
    match Disk::from_bytes(Arc::<[u8]>::from(image)) {
        Ok(disk) => Some(disk),
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains('\n') && text.len() < 300, "{text}");
            None
        }
    }
}

#[test]
fn damaged_disks_boot_or_do_not() {
    let image = grub();
    let disks = vec![insert(image.clone()).unwrap()];
    let whole = firmware::machine(Drives { disks, cdrom: None }, None).console;
    let (executed, text) = run_and_read(whole, BOOT);
    println!("the whole disk: {executed} instructions");
    assert!(text.contains("All is well"), "not booted in {executed} instructions: {text}");
    cases("disks", 50, 1_000_000, |random| {
        let mut image = image.clone();
        damage(random, &mut image, MASTER_BOOT_RECORD);
        if !random.once_in(4) {
            image.resize(image.len().next_multiple_of(512), 0);
        }
        let disks = vec![insert(image)?];
        Some(run(firmware::machine(Drives { disks, cdrom: None }, None).console, BOOT))
    });
}

#[test]
fn damaged_discs_boot_or_do_not() {
    let image = grub();
    let pointer = image[0x8847..0x884b].try_into().unwrap();
    let catalogue = u32::from_le_bytes(pointer) as usize * 2048;
    let fields: Vec<Field> =
        DISC.iter().copied().chain(CATALOGUE.iter().map(|&(at, width)| (catalogue + at, width))).collect();
    cases("discs", 50, 1_000_000, |random| {
        let mut image = image.clone();
        damage(random, &mut image, &fields);
        // the validation entry's words add up to 0, so that the firmware looks at the next entry
        if let Some(entry) = image.get_mut(catalogue..catalogue + 32)
            && random.flag()
        {
            entry[28..30].fill(0);
            let words = entry.chunks_exact(2).map(|word| u16::from_le_bytes([word[0], word[1]]));
            let sum = 0_u16.wrapping_sub(words.fold(0, u16::wrapping_add));
            entry[28..30].copy_from_slice(&sum.to_le_bytes());
        }
        if !random.once_in(4) {
            image.resize(image.len().next_multiple_of(2048), 0);
        }
        let cdrom = Some(insert(image)?);
        Some(run(firmware::machine(Drives { disks: Vec::new(), cdrom }, None).console, BOOT))
    });
}

#[test]
fn linux_unpacks_damaged_initial_ram_disks_or_says_why_not() {
    let start = Start { ramdisk: ramdisk(SHELL, &[]), ..Start::shell("vmlinuz-686", "panic=-1") };
    let mut machine = start.here().console;
    let mut text = Vec::new();
    // to where the archive is in memory, and not yet unpacked
    while !String::from_utf8_lossy(&text).contains("Trying to unpack rootfs image") {
        machine.run(machine.processor.cpu.retired + 20_000);
        text.extend(machine.take_serial());
        assert!(text.len() < 100_000, "{}", String::from_utf8_lossy(&text));
    }
    let whole = start.ramdisk.len();
    let memory = machine.processor.cpu.bus.ram().bytes();
    let at = memory.chunks(4096).position(|page| page == &start.ramdisk[..4096]);
    let at = at.expect("the archive begins at a page") * 4096;
    let unpack = |image: &[u8]| {
        let mut machine = machine.clone();
        machine.processor.cpu.bus.ram_mut().write(at, image);
        machine
    };
    let mut talk = Talk::new(unpack(b"no archive"));
    talk.wait("Initramfs unpacking failed");
    // a header of the archive's first files (cpio's "newc": 13 numbers of 8 digits behind the magic number)
    let fields: Vec<Field> =
        (0..4).flat_map(|file| (0..14).map(move |n| (file * 112 + 6 + 8 * n, 8))).collect();
    cases("initial RAM disks", 20, 1_000_000, |random| {
        let mut image = start.ramdisk.clone();
        damage(random, &mut image, &fields);
        image.resize(whole, 0);
        Some(run(unpack(&image), 40_000_000))
    });
}
