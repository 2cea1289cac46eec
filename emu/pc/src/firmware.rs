//! What a PC's firmware leaves behind for a kernel: CMOS contents, interrupt vectors, the BIOS data area, and the chips
//! as programmed by its self-test.
//!
//! There is no firmware to call: this is only what kernels read without asking. The values are those that a kernel
//! started by `qemu-system-i386 -M pc -kernel` (7.2, SeaBIOS 1.16) finds, where this board has the same parts:
//! interrupt masks B8h and 8Eh, vectors 08h and 70h, counter 0 in mode 2 at 18.2 Hz, port 92h 02h, text
//! mode 3, every vector pointing to an IRET but those of the interrupt controllers. Interrupts are thus
//! *not* masked: a kernel that sets IF before it programs the controllers gets vector 8 from the timer, as on QEMU.
//! A local APIC is left in virtual wire mode; ACPI and MP tables are in the ROM area. The keyboard's command byte is 65h where SeaBIOS writes 61h: on an AT, unlike on QEMU, its bit 2 is the system flag
//! that status shows as set.

use crate::acpi;
use crate::apic::LOCAL_BASE;
use crate::board::{Board, Config, SERIAL_PORTS};
use crate::memory::{EBDA, EXTENDED, LOW_LIMIT};
use crate::pci::{self, Place};
use pagewalk_x86::bus::{Bus, Phys, Size, Ticks};

const KIB: u64 = 1 << 10;
const POWER_ON: Ticks = Ticks(0);

// Offsets in segment F000h, where IBM's BIOS has them.
const TIMER_HANDLER: u16 = 0xfea5;
const DUMMY_HANDLER: u16 = 0xff53;
const MASTER_HANDLER: u16 = 0xff60;
const SLAVE_HANDLER: u16 = 0xff70;
const RESET_VECTOR: u16 = 0xfff0;

/// INT 08h: counts a tick at 40:6C, ends the interrupt.
#[rustfmt::skip]
const TIMER_CODE: &[u8] = &[
    0x1e,                         // push ds
    0x50,                         // push ax
    0xb8, 0x40, 0x00,             // mov ax, 40h
    0x8e, 0xd8,                   // mov ds, ax
    0xff, 0x06, 0x6c, 0x00,       // inc word [6ch]
    0x75, 0x04,                   // jnz +4
    0xff, 0x06, 0x6e, 0x00,       // inc word [6eh]
    0xb0, 0x20, 0xe6, 0x20,       // mov al, 20h; out 20h, al
    0x58, 0x1f, 0xcf,             // pop ax; pop ds; iret
];
/// The master's other interrupts: push ax; mov al, 20h; out 20h, al; pop ax; iret.
const MASTER_CODE: &[u8] = &[0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf];
/// The slave's: the same with out 0a0h, al before.
const SLAVE_CODE: &[u8] = &[0x50, 0xb0, 0x20, 0xe6, 0xa0, 0xe6, 0x20, 0x58, 0xcf];
const IRET: &[u8] = &[0xcf];
/// cli; hlt; jmp to the hlt.
const HALT_CODE: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfd];

/// A ROM of one segment for boards without a firmware: interrupt handlers that do nothing, and a halt at the reset
/// vector.
pub(crate) fn stub_rom() -> Vec<u8> {
    let mut rom = vec![0; 0x1_0000];
    let mut put = |at: u16, bytes: &[u8]| rom[usize::from(at)..][..bytes.len()].copy_from_slice(bytes);
    put(TIMER_HANDLER, TIMER_CODE);
    put(DUMMY_HANDLER, IRET);
    put(MASTER_HANDLER, MASTER_CODE);
    put(SLAVE_HANDLER, SLAVE_CODE);
    put(RESET_VECTOR, HALT_CODE);
    // The ROM's date, and the model: a PC AT.
    put(0xfff5, b"01/01/00");
    put(0xfffe, &[0xfc]);
    rom
}

/// The contents of CMOS that the firmware's setup keeps.
pub(crate) fn cmos(config: &Config) -> Vec<(u8, u8)> {
    let low = config.memory.min(LOW_LIMIT);
    let units = |bytes: u64, unit: u64| u16::try_from(bytes / unit).unwrap_or(u16::MAX).to_le_bytes();
    let extended = units(low - EXTENDED, KIB);
    let above_16m = units(low.saturating_sub(16 << 20), 64 * KIB);
    let above_4g = ((config.memory - low) / (64 * KIB)).to_le_bytes();
    let conventional = 640u16.to_le_bytes();

    // Disk types: Fh says that the extended type byte holds it, 47 that the geometry follows.
    let present = |index: usize| config.disks.get(index).is_some();
    let types = if present(0) { 0xf0 } else { 0 } | if present(1) { 0x0f } else { 0 };

    let mut cells = vec![
        (0x12, types),
        // Equipment: colour 80x25, a coprocessor.
        (0x14, 0x04 | if config.coprocessor { 0x02 } else { 0 }),
        (0x15, conventional[0]),
        (0x16, conventional[1]),
        (0x17, extended[0]),
        (0x18, extended[1]),
        (0x30, extended[0]),
        (0x31, extended[1]),
        (0x34, above_16m[0]),
        (0x35, above_16m[1]),
        // Boot from a disk, else from a disc; no check of a floppy's signature (as Bochs and QEMU number them).
        (0x38, 0x00),
        (0x3d, 0x32),
        (0x5b, above_4g[0]),
        (0x5c, above_4g[1]),
        (0x5d, above_4g[2]),
    ];
    for (index, disk) in config.disks.iter().take(2).enumerate() {
        let cylinders = u16::try_from((disk.sectors() / (16 * 63)).clamp(1, 16_383)).unwrap_or(u16::MAX);
        let [low, high] = cylinders.to_le_bytes();
        let first = 0x1b + 9 * index as u8;
        let geometry = [low, high, 16, 0xff, 0xff, 0xc8, low, high, 63];
        cells.push((0x19 + index as u8, 47));
        cells.extend((first..).zip(geometry));
    }
    // The checksum covers 10h to 2Dh, high byte first.
    let sum: u16 =
        cells.iter().filter(|(at, _)| (0x10..=0x2d).contains(at)).map(|&(_, value)| u16::from(value)).sum();
    let [high, low] = sum.to_be_bytes();
    cells.extend([(0x2e, high), (0x2f, low)]);
    cells
}

/// The interrupt vector table.
fn vectors() -> Vec<u8> {
    let handler = |vector: u8| match vector {
        0x08 => TIMER_HANDLER,
        0x09..=0x0f => MASTER_HANDLER,
        0x70..=0x77 => SLAVE_HANDLER,
        _ => DUMMY_HANDLER,
    };
    (0..=0xff).flat_map(|vector| [handler(vector).to_le_bytes(), 0xf000u16.to_le_bytes()].concat()).collect()
}

/// The BIOS data area, offset by offset of segment 40h.
fn data_area(board: &Board) -> Vec<(u16, Vec<u8>)> {
    let word = |at: u16, value: u16| (at, value.to_le_bytes().to_vec());
    let disks = (0..4).filter(|&index| board.disk(index).is_some()).count();
    let serial = board.serial_ports();
    // Colour 80x25 at start; the coprocessor as in CMOS; how many serial ports.
    // 80x25 in colour, a pointing device, a coprocessor if there is one, serial ports
    let equipment = 0x24 | u16::from(board.rtc().memory(0x14) & 0x02) | (serial as u16) << 9;
    let mut cells: Vec<_> = SERIAL_PORTS
        .iter()
        .take(serial)
        .enumerate()
        .map(|(index, &port)| word(2 * index as u16, port))
        .collect();
    cells.extend([
        word(0x0e, (EBDA >> 4) as u16),
        word(0x10, equipment),
        word(0x13, (EBDA / KIB) as u16),
        // The keyboard buffer: empty, from 1Eh to 3Eh.
        word(0x1a, 0x1e),
        word(0x1c, 0x1e),
        word(0x80, 0x1e),
        word(0x82, 0x3e),
        // Text mode 3: 80 columns, 4 KiB a page, cursor shape, CRT controller at 3D4h, 25 rows of 16 lines.
        (0x49, vec![0x03]),
        word(0x4a, 80),
        word(0x4c, 0x1000),
        word(0x60, 0x0607),
        word(0x63, 0x3d4),
        (0x84, vec![24]),
        word(0x85, 16),
        (0x87, vec![0x60, 0xf9, 0x51, 0x08]),
        (0x75, vec![disks as u8]),
        // A keyboard of 101 keys.
        (0x96, vec![0x10]),
    ]);
    cells
}

/// The chips, as the self-test programs them: port, value.
const CHIPS: &[(u16, u8)] = &[
    // The interrupt controllers: edges, cascade on 2, vectors 08h and 70h, masks.
    (0x20, 0x11),
    (0xa0, 0x11),
    (0x21, 0x08),
    (0xa1, 0x70),
    (0x21, 0x04),
    (0xa1, 0x02),
    (0x21, 0x01),
    (0xa1, 0x01),
    (0x21, 0xb8),
    (0xa1, 0x8e),
    // Counter 0: mode 2, 65536.
    (0x43, 0x34),
    (0x40, 0x00),
    (0x40, 0x00),
    // Address line 20.
    (0x92, 0x02),
    // PCI's interrupts, 10 and 11, are level-triggered.
    (0x4d1, 0x0c),
];

/// PCI configuration: place, register, dword. PIRQA# to PIRQD# go to interrupts 10, 10, 11 and 11; the IDE bus master
/// has its ports at C000h; the power management function has its own at 600h and 700h, and
/// interrupt 9; the display adapter has its frame buffer at FD000000h and its registers at FEBF0000h.
const PCI: &[(Place, u8, u32)] = &[
    (pci::ISA_BRIDGE, 0x60, 0x0b0b_0a0a),
    (pci::IDE, 0x20, 0xc001),
    (pci::IDE, 0x04, 0x0001),
    (pci::IDE, 0x40, 0x8000_8000),
    (pci::POWER, 0x3c, 0x0109),
    (pci::POWER, 0x40, 0x0601),
    (pci::POWER, 0x80, 0x0001),
    (pci::POWER, 0x90, 0x0701),
    (pci::POWER, 0xd0, 0x0009_0000),
    (pci::POWER, 0x04, 0x0001),
    (pci::VGA, 0x10, 0xfd00_0000),
    (pci::VGA, 0x18, 0xfebf_0000),
    (pci::VGA, 0x04, 0x0003),
];

/// See [`Board::firmware_defaults`].
pub(crate) fn leave_defaults(board: &mut Board) {
    for &(port, value) in CHIPS {
        board.port_write(port, Size::Byte, u32::from(value), POWER_ON);
    }
    // The local APIC: on, the interrupt controllers' INT through LINT0, NMI on LINT1 (virtual wire mode).
    if board.local_apics() != 0 {
        for (offset, value) in [(0xf0, 0x1ff), (0x350, 0x8700), (0x360, 0x8400)] {
            board.mmio_write(Phys(LOCAL_BASE + offset), Size::Dword, value, POWER_ON);
        }
    }
    for &(place, register, value) in PCI {
        let address = 0x8000_0000 | u32::from(place.device) << 11 | u32::from(place.function) << 8;
        board.port_write(0xcf8, Size::Dword, address | u32::from(register), POWER_ON);
        board.port_write(0xcfc, Size::Dword, value, POWER_ON);
    }
    board.port_write(0xcf8, Size::Dword, 0, POWER_ON);
    // Serial ports: 9600 baud, 8 bits, no parity, as a BIOS's self-test leaves them, so that a kernel's first byte out
    // is a whole one.
    for first in &SERIAL_PORTS[..board.serial_ports()] {
        for (register, value) in [(3, 0x80), (0, 12), (1, 0), (3, 0x03)] {
            board.port_write(first + register, Size::Byte, value, POWER_ON);
        }
    }
    // The keyboard controller: self-test, then translation, interrupt, system flag, the mouse off.
    board.port_write(0x64, Size::Byte, 0xaa, POWER_ON);
    board.port_read(0x60, Size::Byte, POWER_ON);
    board.port_write(0x64, Size::Byte, 0x60, POWER_ON);
    board.port_write(0x60, Size::Byte, 0x65, POWER_ON);
    board.set_text_mode();

    let mut put = |at: u64, bytes: &[u8]| {
        let placed = board.place(Phys(at), bytes);
        debug_assert!(placed.is_ok(), "the first megabyte is memory: {placed:?}");
    };
    put(0, &vectors());
    put(0x400, &[0; 0x100]);
    put(EBDA, &[1]);
    for (at, bytes) in acpi::tables(&board.hardware()) {
        // a ROM of less than 64 KiB has no room for them
        if let Err(error) = board.place(Phys(at), &bytes) {
            tracing::debug!("a firmware table is left out: {error}");
        }
    }
    for (at, bytes) in data_area(board) {
        let placed = board.place(Phys(0x400 + u64::from(at)), &bytes);
        debug_assert!(placed.is_ok());
    }
}
