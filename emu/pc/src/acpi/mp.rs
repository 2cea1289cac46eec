//! The tables of Intel's MultiProcessor Specification 1.4 (242016-006): chapter 4.

use super::{Hardware, SCI, checksum, put};
use crate::apic::{IO_BASE, LOCAL_BASE};
use crate::interrupts::input_of;

const PCI: u8 = 0;
const ISA: u8 = 1;
/// The I/O APIC's ID, as after its reset.
const IO_ID: u8 = 0;
const EVERY_LOCAL_APIC: u8 = 0xff;

/// Polarity and trigger as the bus has them.
const AS_BUS: u8 = 0x00;
/// Active high, level-triggered.
const LEVEL_HIGH: u8 = 0x0d;

// Interrupt types.
const VECTORED: u8 = 0;
const NMI: u8 = 1;
const EXT_INT: u8 = 3;

/// PCI devices whose interrupts are listed, and the inputs of PIRQA# to PIRQD#.
const DEVICES: std::ops::RangeInclusive<u8> = 1..=7;
const PIRQ_INPUTS: [u8; 4] = [10, 10, 11, 11];

fn processor(id: u8) -> Vec<u8> {
    const ENABLED: u8 = 1;
    const BOOT: u8 = 2;
    let flags = ENABLED | if id == 0 { BOOT } else { 0 };
    let mut entry = vec![0, id, 0x14, flags];
    // family 6; x87 and APIC: whoever wants to know more asks CPUID
    entry.extend(0x600u32.to_le_bytes());
    entry.extend(0x201u32.to_le_bytes());
    entry.extend([0; 8]);
    entry
}

fn bus(id: u8, name: &[u8; 6]) -> Vec<u8> {
    [&[1, id], &name[..]].concat()
}

fn entries(hardware: &Hardware) -> Vec<Vec<u8>> {
    let mut entries: Vec<Vec<u8>> = (0..hardware.processors).map(processor).collect();
    entries.extend([bus(PCI, b"PCI   "), bus(ISA, b"ISA   ")]);
    let mut io = vec![2, IO_ID, 0x20, 1];
    io.extend((IO_BASE as u32).to_le_bytes());
    entries.push(io);
    for device in DEVICES {
        for pin in 0..4 {
            let input =
                if (device, pin) == (1, 0) { SCI } else { PIRQ_INPUTS[usize::from((device + pin + 3) & 3)] };
            entries.push(vec![3, VECTORED, LEVEL_HIGH, 0, PCI, device << 2 | pin, IO_ID, input]);
        }
    }
    for irq in (0..16).filter(|irq| *irq != 2 && !PIRQ_INPUTS.contains(irq)) {
        let flags = if irq == SCI { LEVEL_HIGH } else { AS_BUS };
        entries.push(vec![3, VECTORED, flags, 0, ISA, irq, IO_ID, input_of(irq)]);
    }
    entries.push(vec![4, EXT_INT, AS_BUS, 0, ISA, 0, 0, 0]);
    entries.push(vec![4, NMI, AS_BUS, 0, ISA, 0, EVERY_LOCAL_APIC, 1]);
    entries
}

/// The configuration table.
pub fn configuration(hardware: &Hardware) -> Vec<u8> {
    let entries = entries(hardware);
    let mut table = vec![0; 44];
    put(&mut table, 0, b"PCMP");
    table[6] = 4; // specification 1.4
    put(&mut table, 8, b"PAGEWALK");
    put(&mut table, 16, b"PC          ");
    put(&mut table, 34, &(entries.len() as u16).to_le_bytes());
    put(&mut table, 36, &(LOCAL_BASE as u32).to_le_bytes());
    table.extend(entries.concat());
    let len = table.len() as u16;
    put(&mut table, 4, &len.to_le_bytes());
    table[7] = checksum(&table);
    table
}

/// The floating pointer structure: the table stands at `configuration`; virtual wire mode, no IMCR.
pub fn pointer(configuration: u64) -> Vec<u8> {
    let mut pointer = vec![0; 16];
    put(&mut pointer, 0, b"_MP_");
    put(&mut pointer, 4, &(configuration as u32).to_le_bytes());
    put(&mut pointer, 8, &[1, 4]);
    pointer[10] = checksum(&pointer);
    pointer
}
