//! The tables that tell an operating system what is on the board: ACPI (specification 2.0c) and, with a local APIC,
//! Intel's MultiProcessor Specification 1.4. For kernels that are started without a firmware that brings its own.

pub mod aml;
pub mod dsdt;
pub mod mp;

use crate::apic::{IO_BASE, LOCAL_BASE};
use crate::memory::EBDA;
use crate::power;

/// Where the firmware's tables begin: in its ROM.
const TABLES: u64 = 0xf_0000;
/// The FACS is written to (the global lock), so it stands in RAM.
const FACS: u64 = EBDA + 0x200;

const OEM: &[u8; 6] = b"PGWALK";
/// The system control interrupt.
pub const SCI: u8 = 9;

/// What the tables have to say of this board.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hardware {
    /// Local APICs; without any there is no I/O APIC either.
    pub processors: u8,
    /// Serial ports.
    pub serial_ports: usize,
    /// The first of the power management ports.
    pub power_ports: u16,
    /// Where the addresses after RAM begin that PCI devices may have.
    pub hole: u32,
}

/// Bytes and where they go.
pub type Placed = (u64, Vec<u8>);

fn put(table: &mut [u8], at: usize, bytes: &[u8]) {
    table[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The number that makes all bytes add up to 0.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_sub(byte))
}

/// A table: its header, and `body` after it.
fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut table = vec![0; 36];
    put(&mut table, 0, signature);
    put(&mut table, 4, &(36 + body.len() as u32).to_le_bytes());
    table[8] = revision;
    put(&mut table, 10, OEM);
    put(&mut table, 16, b"PAGEWALK");
    put(&mut table, 24, &1u32.to_le_bytes());
    put(&mut table, 28, b"PGWK");
    put(&mut table, 32, &1u32.to_le_bytes());
    table.extend(body);
    table[9] = checksum(&table);
    table
}

/// A register of ports, as the extended fields name it.
fn ports(first: u16, bits: u8) -> [u8; 12] {
    let [low, high] = first.to_le_bytes();
    [1, bits, 0, 0, low, high, 0, 0, 0, 0, 0, 0]
}

/// The fixed description table, by the offsets of the specification (they count the header).
fn fadt(hardware: &Hardware, dsdt: u64) -> Vec<u8> {
    const RESET_PORT: u16 = 0xcf9;
    const RESET_VALUE: u8 = 0x06;
    /// WBINVD works; C1; the sleep button is not of the fixed kind; the clock can't wake from S4; a reset register.
    const FLAGS: u32 = 1 << 0 | 1 << 2 | 1 << 5 | 1 << 7 | 1 << 10;
    let base = hardware.power_ports;
    let register = |offset: u16| u32::from(base + offset).to_le_bytes();
    let mut t = vec![0; 244];
    put(&mut t, 36, &(FACS as u32).to_le_bytes());
    put(&mut t, 40, &(dsdt as u32).to_le_bytes());
    t[44] = 1; // two 8259A are there, too (reserved since 2.0)
    put(&mut t, 46, &u16::from(SCI).to_le_bytes());
    put(&mut t, 48, &0xb2u32.to_le_bytes());
    t[52] = power::ACPI_ENABLE;
    t[53] = power::ACPI_DISABLE;
    put(&mut t, 56, &register(power::STATUS));
    put(&mut t, 64, &register(power::CONTROL));
    put(&mut t, 76, &register(power::TIMER));
    put(&mut t, 80, &register(power::GENERAL));
    // lengths: events, control, (control 2), timer, general-purpose events
    put(&mut t, 88, &[4, 2, 0, 4, 4]);
    // C2 and C3 are not there
    put(&mut t, 96, &0xfffu16.to_le_bytes());
    put(&mut t, 98, &0xfffu16.to_le_bytes());
    t[108] = 0x32; // the century in CMOS
    t[109] = 0x03; // ISA devices; a keyboard controller
    put(&mut t, 112, &FLAGS.to_le_bytes());
    put(&mut t, 116, &ports(RESET_PORT, 8));
    t[128] = RESET_VALUE;
    put(&mut t, 132, &FACS.to_le_bytes());
    put(&mut t, 140, &dsdt.to_le_bytes());
    put(&mut t, 148, &ports(base + power::STATUS, 32));
    put(&mut t, 172, &ports(base + power::CONTROL, 16));
    put(&mut t, 208, &ports(base + power::TIMER, 32));
    put(&mut t, 220, &ports(base + power::GENERAL, 32));
    table(b"FACP", 3, &t[36..])
}

/// The firmware control structure, the one table without a checksum.
fn facs() -> Vec<u8> {
    let mut facs = vec![0; 64];
    put(&mut facs, 0, b"FACS");
    put(&mut facs, 4, &64u32.to_le_bytes());
    facs[32] = 1;
    facs
}

/// The multiple APIC description table.
fn madt(hardware: &Hardware) -> Vec<u8> {
    /// The 8259A pair is there, too.
    const PCAT_COMPAT: u32 = 1;
    /// Active high, level-triggered.
    const LEVEL_HIGH: u8 = 0x0d;
    let mut body = [(LOCAL_BASE as u32).to_le_bytes(), PCAT_COMPAT.to_le_bytes()].concat();
    for id in 0..hardware.processors {
        body.extend([0, 8, id, id, 1, 0, 0, 0]);
    }
    body.extend([1, 12, 0, 0]);
    body.extend((IO_BASE as u32).to_le_bytes());
    body.extend([0; 4]);
    let timer = crate::interrupts::input_of(0);
    for (request, input, flags) in
        [(0, timer, 0), (SCI, SCI, LEVEL_HIGH), (10, 10, LEVEL_HIGH), (11, 11, LEVEL_HIGH)]
    {
        body.extend([2, 10, 0, request, input, 0, 0, 0, flags, 0]);
    }
    // NMI is LINT1 of every processor
    body.extend([4, 6, 0xff, 0, 0, 1]);
    table(b"APIC", 1, &body)
}

fn root_pointer(rsdt: u64) -> Vec<u8> {
    let mut rsdp = vec![0; 20];
    put(&mut rsdp, 0, b"RSD PTR ");
    put(&mut rsdp, 9, OEM);
    put(&mut rsdp, 16, &(rsdt as u32).to_le_bytes());
    rsdp[8] = checksum(&rsdp);
    rsdp
}

/// All tables, and where they are to be placed.
pub fn tables(hardware: &Hardware) -> Vec<Placed> {
    let mut placed: Vec<Placed> = Vec::new();
    // room for the pointers that are searched for: RSDP, MP
    let mut next = TABLES + 0x40;
    let mut add = |bytes: Vec<u8>| {
        let at = next;
        next = (next + bytes.len() as u64).next_multiple_of(16);
        placed.push((at, bytes));
        at
    };
    let dsdt = add(table(b"DSDT", 1, &dsdt::body(hardware)));
    let mut listed = vec![add(fadt(hardware, dsdt))];
    let mut mp = None;
    if hardware.processors != 0 {
        listed.push(add(madt(hardware)));
        mp = Some(add(mp::configuration(hardware)));
    }
    let entries: Vec<u8> = listed.iter().flat_map(|&at| (at as u32).to_le_bytes()).collect();
    let rsdt = add(table(b"RSDT", 1, &entries));
    placed.push((TABLES, root_pointer(rsdt)));
    if let Some(at) = mp {
        placed.push((TABLES + 0x20, mp::pointer(at)));
    }
    placed.push((FACS, facs()));
    placed
}

#[cfg(test)]
mod tests;
