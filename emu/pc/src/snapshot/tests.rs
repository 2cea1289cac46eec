use std::io::Cursor;

use super::*;
use crate::board::{Board, Config, Input};
use crate::disk::{Disk, SECTOR, Writes};
use crate::machine::Parts;
use pagewalk_loader::{Kind, Place, Plan, Start};
use pagewalk_x86::bus::{Bus, Phys, Size};
use pagewalk_x86::cpu::Activity;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::mmu::tlb::Geometry;
use pagewalk_x86::model;
use pagewalk_x86::random::Random;

const CODE: u64 = 0x1_0000;

/// A machine that runs flat 32-bit code.
fn machine(code: &[u8], config: Config) -> Machine<()> {
    let plan = Plan {
        kind: Kind::Raw,
        places: vec![Place { at: CODE, data: code.to_vec(), zero_fill: 0, what: String::new() }],
        roms: Vec::new(),
        handed: Vec::new(),
        start: Start::Protected {
            eip: CODE as u32,
            eax: 0,
            ebx: 0,
            ecx: 0,
            edx: 0,
            esi: 0,
            edi: 0,
            ebp: 0,
            esp: 0x8000,
        },
        symbols: Vec::new(),
        notes: Vec::new(),
    };
    let parts = Parts { model: model::MAX, tlb: Geometry::default(), ps_per_instruction: 1000 };
    Machine::new(parts, Board::new(config).unwrap(), &plan, ()).unwrap()
}

/// A loop that does nothing, on a board with all that a board can have.
fn idling() -> Machine<()> {
    let config = Config {
        memory: 2 << 20,
        disks: vec![numbered(64), Disk::blank(100)],
        cdrom: Some(numbered(40)),
        video_rom: Some(vec![0x55; 5000]),
        serial_ports: 2,
        files: vec![crate::fw_cfg::File { name: "opt/a".into(), data: vec![1, 2, 3] }],
        ..Config::default()
    };
    machine(&[0xeb, 0xfe], config)
}

fn numbered(sectors: usize) -> Disk {
    Disk::from_bytes((0..sectors * SECTOR).map(|at| (at / SECTOR) as u8).collect::<Vec<_>>()).unwrap()
}

fn bytes_of(machine: &Machine<()>) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    write(machine, &mut file).unwrap();
    file.into_inner()
}

fn machine_of(bytes: &[u8]) -> Result<Machine<()>, Problem> {
    read(&mut Cursor::new(bytes), ())
}

/// By way of a file; what comes out writes the same file.
fn again(machine: &Machine<()>) -> Machine<()> {
    let bytes = bytes_of(machine);
    let loaded = machine_of(&bytes).unwrap();
    assert!(bytes_of(&loaded) == bytes, "the same machine makes the same file");
    loaded
}

fn out(machine: &mut Machine<()>, port: u16, size: Size, value: u32) {
    let now = machine.now();
    machine.processor.cpu.bus.port_write(port, size, value, now);
}

fn inp(machine: &mut Machine<()>, port: u16, size: Size) -> u32 {
    let now = machine.now();
    machine.processor.cpu.bus.port_read(port, size, now)
}

/// Lets so much time pass.
fn pass(machine: &mut Machine<()>, instructions: u64) {
    let until = machine.processor.cpu.retired + instructions;
    assert_eq!(machine.run(until), Stop::Limit);
}

/// Does the same with a machine that is saved and loaded before each step and with one that is not.
fn in_steps(mut whole: Machine<()>, steps: u32, mut step: impl FnMut(&mut Machine<()>, u32) -> u32) {
    let mut split = again(&whole);
    for number in 0..steps {
        split = again(&split);
        assert_eq!(step(&mut whole, number), step(&mut split, number), "step {number}");
        assert_eq!(whole.state_hash(), split.state_hash(), "step {number}");
    }
}

fn command(machine: &mut Machine<()>, base: u16, registers: [u8; 5], command: u8) {
    for (port, value) in (base + 2..).zip(registers) {
        out(machine, port, Size::Byte, value.into());
    }
    out(machine, base + 7, Size::Byte, command.into());
}

#[test]
fn a_disk_goes_on_in_the_middle_of_a_command_and_of_a_block() {
    let mut machine = idling();
    // READ SECTORS: 3 from sector 5 on
    command(&mut machine, 0x1f0, [3, 5, 0, 0, 0xe0], 0x20);
    in_steps(machine, 30, |machine, number| {
        pass(machine, 700);
        let mut last = inp(machine, 0x1f7, Size::Byte);
        for _ in 0..number * 7 {
            last = inp(machine, 0x1f0, Size::Word);
        }
        last
    });
    let mut machine = idling();
    // WRITE SECTORS: 2, of which the first lands in the overlay half way
    command(&mut machine, 0x1f0, [2, 5, 0, 0, 0xe0], 0x30);
    in_steps(machine, 40, |machine, number| {
        pass(machine, 300);
        for word in 0..16 {
            out(machine, 0x1f0, Size::Word, number << 8 | word);
        }
        let overwritten = machine.processor.cpu.bus.disk(0).unwrap().overwritten();
        inp(machine, 0x1f7, Size::Byte) | (overwritten as u32) << 8
    });
}

#[test]
fn dma_goes_on_in_the_middle() {
    let mut machine = idling();
    // bus mastering on; a table of two regions at 1000h
    out(&mut machine, 0xcf8, Size::Dword, 0x8000_0904);
    out(&mut machine, 0xcfc, Size::Dword, 5);
    let table: Vec<u8> = [0x2000u32, 0x300, 0x3100, 0x8000_0500].map(u32::to_le_bytes).concat();
    machine.processor.cpu.bus.place(Phys(0x1000), &table).unwrap();
    out(&mut machine, 0xc004, Size::Dword, 0x1000);
    out(&mut machine, 0xc000, Size::Byte, 8);
    command(&mut machine, 0x1f0, [4, 9, 0, 0, 0xe0], 0xc8);
    out(&mut machine, 0xc000, Size::Byte, 9);
    in_steps(machine, 200, |machine, _| {
        pass(machine, 999);
        inp(machine, 0xc002, Size::Byte) << 8 | inp(machine, 0x3f6, Size::Byte)
    });
}

#[test]
fn a_disc_goes_on_in_the_middle_of_a_packet() {
    let mut machine = idling();
    command(&mut machine, 0x170, [0, 0, 0, 8, 0xa0], 0xa0);
    // READ(10): 4 sectors from 3 on, in blocks of 2048 bytes
    let packet = [0x0028u32, 0, 0x0300, 0, 0x0004, 0];
    in_steps(machine, 40, |machine, number| {
        pass(machine, 1500);
        if let Some(&word) = packet.get(number as usize) {
            out(machine, 0x170, Size::Word, word);
            return 0;
        }
        let mut last = inp(machine, 0x177, Size::Byte);
        for _ in 0..150 {
            last = last.wrapping_mul(31).wrapping_add(inp(machine, 0x170, Size::Word));
        }
        last
    });
}

#[test]
fn chips_go_on_in_the_middle_of_what_they_do() {
    let mut machine = idling();
    for (port, value) in [
        (0x43, 0x34u8), // counter 0: rate generator
        (0x40, 0x10),   // its low byte; the high byte comes later
        (0x3fb, 0x80),  // COM1: divisor
        (0x3f8, 1),
        (0x3f9, 0),
        (0x3fb, 3),
        (0x3fa, 0xc1), // FIFOs
        (0x3f9, 5),
        (0x3fc, 0x0b),
        (0x70, 0x0b), // clock: periodic interrupts
        (0x71, 0x42),
        (0x20, 0x11),  // 8259A: ICW1, ICW2 is to come
        (0x3c0, 0x07), // VGA: an index, data is to come
        (0x3c8, 0x10), // DAC: one of three colours
        (0x3c9, 0x3f),
        (0x64, 0x60), // keyboard controller: its command byte is to come
    ] {
        out(&mut machine, port, Size::Byte, value.into());
    }
    // the local APIC's timer, periodic, and the VBE interface
    let now = machine.now();
    for (at, value) in [(0xfee0_00f0, 0x1ff), (0xfee0_0320, 0x2_0040), (0xfee0_0380, 33)] {
        machine.processor.cpu.bus.mmio_write(Phys(at), Size::Dword, value, now);
    }
    machine.give(Input::Serial { port: 0, bytes: b"typed before".to_vec() });
    machine.give(Input::Keys(vec![0x1e, 0x9e]));
    let rest = [
        (0x40, 0x27u8),
        (0x21, 0x08),
        (0x3c0, 0x3f),
        (0x3c9, 0x2a),
        (0x60, 0x45),
        (0x21, 0x04),
        (0x3c9, 0x15),
        (0x21, 0x01),
        (0x21, 0x00),
        (0x1ce, 4),
    ];
    in_steps(machine, 60, |machine, number| {
        pass(machine, 9_973);
        if let Some(&(port, value)) = rest.get(number as usize) {
            out(machine, port, Size::Byte, value.into());
        }
        let ports = [0x40, 0x61, 0x71, 0x3fa, 0x3f8, 0x60, 0x64, 0x3c9, 0x20, 0x3da];
        ports
            .iter()
            .fold(number, |sum, &port| sum.wrapping_mul(31).wrapping_add(inp(machine, port, Size::Byte)))
    });
}

#[test]
fn a_machine_that_sleeps_wakes_when_it_would_have() {
    // cli; hlt: for good
    let mut halted = machine(&[0xfa, 0xf4], Config { memory: 2 << 20, ..Config::default() });
    assert_eq!(halted.run(1000), Stop::Halted);
    assert_eq!(again(&halted).run(1000), Stop::Halted);
    // hlt; inc dword [0x9000]; jmp back, with interrupts on: waked by the timer through a gate that only returns
    let code = [0xfb, 0xf4, 0xff, 0x05, 0x00, 0x90, 0, 0, 0xeb, 0xf7];
    let mut whole = machine(&code, Config { memory: 2 << 20, ..Config::default() });
    let gate = [(CODE as u32 + 0x100) & 0xffff | 8 << 16, 0x8e00 | CODE as u32 & 0xffff_0000];
    let handler = [0xb0, 0x20, 0xe6, 0x20, 0xcf]; // mov al, 20h; out 20h, al; iret
    let table: Vec<u8> = [0u32, 0, 0xffff, 0x00cf_9b00, 0xffff, 0x00cf_9300].map(u32::to_le_bytes).concat();
    let cpu = &mut whole.processor.cpu;
    cpu.bus.place(Phys(CODE + 0x100), &handler).unwrap();
    cpu.bus.place(Phys(0x4000 + 32 * 8), &gate.map(u32::to_le_bytes).concat()).unwrap();
    cpu.bus.place(Phys(0x3000), &table).unwrap();
    (cpu.state.idtr.base, cpu.state.idtr.limit) = (0x4000, 0x7ff);
    (cpu.state.gdtr.base, cpu.state.gdtr.limit) = (0x3000, 23);
    // interrupts 20h and up, the timer's alone, every 100 clocks
    for (port, value) in
        [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0xfe), (0x43, 0x34), (0x40, 100), (0x40, 0)]
    {
        out(&mut whole, port, Size::Byte, value);
    }
    let mut slept = 0;
    let mut split = again(&whole);
    for count in 1..200 {
        for machine in [&mut whole, &mut split] {
            assert!(matches!(machine.run(count), Stop::Limit | Stop::Idle));
        }
        slept += u32::from(split.processor.cpu.activity == Activity::Halted);
        split = again(&split);
        assert_eq!(whole.state_hash(), split.state_hash(), "at {count}");
    }
    let mut waked = [0];
    split.processor.cpu.bus.peek(Phys(0x9000), &mut waked);
    assert!(waked[0] > 10 && slept > 10, "waked {} times, and asleep at {slept} points", waked[0]);
}

/// Ports of chips; what ends a run is left out.
const PORTS: [std::ops::RangeInclusive<u16>; 22] = [
    0x20..=0x21,
    0x40..=0x43,
    0x60..=0x61,
    0x64..=0x64,
    0x70..=0x71,
    0xa0..=0xa1,
    0xb2..=0xb3,
    0xe9..=0xe9,
    0x170..=0x177,
    0x1ce..=0x1cf,
    0x1f0..=0x1f7,
    0x2f8..=0x2ff,
    0x376..=0x376,
    0x3b4..=0x3b5,
    0x3c0..=0x3da,
    0x3f6..=0x3f6,
    0x3f8..=0x3ff,
    0x4d0..=0x4d1,
    0x510..=0x51b,
    0xc000..=0xc00f,
    0xcf8..=0xcff,
    0x600..=0x63f,
];

/// Memory-mapped registers and memory of chips.
const MAPPED: [u64; 6] = [0xfee0_0000, 0xfec0_0000, 0xa_0000, 0xb_8000, 0x1000, 0xf_0000];

/// What a guest might do to chips, by a number; gives what it reads.
fn anything(machine: &mut Machine<()>, number: u32) -> u32 {
    let mut random = Random::new(number.into());
    let mut sum = 0u32;
    for _ in 0..40 {
        let size = random.pick(&[Size::Byte, Size::Byte, Size::Byte, Size::Word, Size::Dword]);
        let range = PORTS[random.below(PORTS.len() as u32) as usize].clone();
        let port = range.start() + random.below(range.len() as u32) as u16;
        // commands and modes that lead further come more often than chance has them
        let value = match random.below(3) {
            0 => random.dword(),
            1 => random
                .pick(&[0x20, 0x21, 0x24, 0x30, 0x34, 0xa0, 0xc4, 0xc5, 0xc6, 0xc8, 0xca, 0xec, 0x91, 0xef]),
            _ => random.pick(&[0, 1, 3, 4, 0x80, 0xe0, 0x40, 0x41, 0x11, 0xb0c5, 0x8000_0904, 0x8000_0920]),
        };
        let now = machine.now();
        let board = &mut machine.processor.cpu.bus;
        let at = Phys(random.pick(&MAPPED) + (random.below(0x400) as u64 & !3));
        let read = match random.below(8) {
            0..3 => board.port_read(port, size, now),
            3 => board.mmio_read(at, size, now),
            4 if matches!(board.frame(at.0 >> 12), pagewalk_x86::bus::Frame::Device) => {
                board.mmio_write(at, size, value, now);
                0
            }
            _ => {
                board.port_write(port, size, value, now);
                0
            }
        };
        sum = sum.wrapping_mul(31).wrapping_add(read);
    }
    let until = machine.processor.cpu.retired + random.pick(&[1, 50, 3_000, 20_000]);
    // a reset or an NMI may be asked for: then it ends here, in both
    let stop = format!("{:?}", machine.run(until));
    machine.take_serial();
    stop.bytes().fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
}

#[test]
fn whatever_a_guest_does_to_chips_is_saved_and_gone_on_with() {
    for first in 0..3 {
        in_steps(idling(), 20, |machine, number| anything(machine, first * 1000 + number));
    }
}

#[test]
fn what_came_from_outside_and_what_is_to_come_again_is_kept() {
    let mut machine = idling();
    pass(&mut machine, 100);
    machine.give(Input::Serial { port: 1, bytes: vec![7; 300] });
    let later = [(200, vec![1]), (70_000, vec![2])]
        .map(|(count, keys)| crate::machine::Stamped { count, input: Input::Keys(keys) });
    let all = [machine.inputs(), &later].concat();
    machine.replay(&all);
    let mut loaded = again(&machine);
    pass(&mut machine, 100_000);
    pass(&mut loaded, 100_000);
    assert_eq!(loaded.inputs(), all);
    assert_eq!(loaded.state_hash(), machine.state_hash());
}

#[test]
fn a_disk_image_is_found_again_by_its_whole_path_and_known_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    std::fs::write(&path, vec![3; 9 * SECTOR]).unwrap();
    let disks = vec![Disk::open(&path, Writes::Overlay).unwrap()];
    let mut machine = machine(&[0xeb, 0xfe], Config { memory: 2 << 20, disks, ..Config::default() });
    command(&mut machine, 0x1f0, [1, 2, 0, 0, 0xe0], 0x30);
    pass(&mut machine, 5000);
    (0..256).for_each(|word| out(&mut machine, 0x1f0, Size::Word, word));
    pass(&mut machine, 5000);
    let bytes = bytes_of(&machine);
    let loaded = machine_of(&bytes).unwrap();
    assert_eq!(loaded.state_hash(), machine.state_hash());
    let sector = |lba: u64| {
        let mut sector = [0; SECTOR];
        loaded.processor.cpu.bus.disk(0).unwrap().read(lba, &mut sector).unwrap();
        sector
    };
    assert_eq!((sector(1), &sector(2)[..4]), ([3; SECTOR], &[0, 0, 1, 0][..]));

    std::fs::write(&path, vec![4; 9 * SECTOR]).unwrap();
    let error = machine_of(&bytes).unwrap_err().to_string();
    assert!(error.contains("has changed since the snapshot was made"), "{error}");
    std::fs::write(&path, vec![3; 8 * SECTOR]).unwrap();
    assert!(machine_of(&bytes).is_err());
    std::fs::remove_file(&path).unwrap();
    let error = machine_of(&bytes).unwrap_err().to_string();
    assert!(error.starts_with("can't open the disk image"), "{error}");
}

#[test]
fn a_file_is_replaced_when_the_new_one_is_whole_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot");
    std::fs::write(&path, b"precious").unwrap();
    let mut machine = idling();
    machine.processor.cpu.model.name = "a model of its own";
    let error = save(&machine, &path).unwrap_err().to_string();
    assert!(error.ends_with("can't be made: its processor has no name"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    machine.processor.cpu.model.name = "max";
    save(&machine, &path).unwrap();
    assert_eq!(load(&path, ()).unwrap().state_hash(), machine.state_hash());
    assert!(matches!(load(folder.path(), ()), Err(SnapshotError::NotAFile { .. })));
    assert!(matches!(save(&machine, folder.path()), Err(SnapshotError::NotAFile { .. })));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_short_file_or_one_with_a_flipped_bit_is_refused() {
    let good = bytes_of(&idling());
    for len in (0..good.len()).step_by(7).chain(good.len() - 5..good.len()) {
        assert!(machine_of(&good[..len]).is_err(), "{len} bytes");
    }
    assert!(machine_of(&[&good[..], &[0]].concat()).is_err());
    let bits = (0..36 * 8).chain((36 * 8..good.len() * 8).step_by(97));
    for bit in bits {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(machine_of(&bad).is_err(), "bit {bit}");
    }
    assert!(matches!(machine_of(b"PAGEWAL"), Err(Problem::Foreign)));
    assert!(matches!(machine_of(b"PAGEWALK"), Err(Problem::Length { found: 8, expected: 36 })));
}

/// What is kept of a machine has this many bytes. If it has another number, a field was added, taken away or changed: then
/// [`VERSION`] must be another too, and this with it, so that no snapshot is read as what it is not.
#[test]
fn what_is_kept_changes_with_the_version_only() {
    let mut machine = idling();
    pass(&mut machine, 1);
    let content = content::machine(&machine).unwrap();
    assert_eq!((VERSION, content.len()), (2, 6_629));
}
