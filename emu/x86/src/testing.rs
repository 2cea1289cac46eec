//! What unit tests of segments, gates and tasks stand on: a processor with tables, stacks and rings, without an
//! operating system.

mod random_tables;

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::decode::{Decoded, decode};
use crate::fault::{Fault, Pending};
use crate::flat::{FlatBus, Start, processor};
use crate::regs::ESP;
use crate::segment::{CS, DS, ES, FS, GS, SS, Segment, TableRegister};
use crate::width::Cell;

pub type TestCpu = Cpu<FlatBus, ()>;

/// Where things are.
pub const CODE: u32 = 0x1000;
pub const GDT: u32 = 0x2000;
pub const IDT: u32 = 0x3000;
pub const TSS: u32 = 0x4000;
pub const LDT: u32 = 0x5000;
/// A 16-bit TSS.
pub const TSS16: u32 = 0x6000;
/// A second 32-bit TSS.
pub const OTHER_TSS: u32 = 0x7000;

/// Selectors of the ring's flat segments: `code(r)`, `data(r)`.
pub fn code(ring: u16) -> u16 {
    0x08 + ring * 0x10 + ring
}
pub fn data(ring: u16) -> u16 {
    0x10 + ring * 0x10 + ring
}
/// Conforming code of DPL 0.
pub const CONFORMING: u16 = 0x48;
pub const TSS_SELECTOR: u16 = 0x50;
pub const LDT_SELECTOR: u16 = 0x58;
pub const TSS16_SELECTOR: u16 = 0x60;
pub const OTHER_SELECTOR: u16 = 0x68;
/// Free slots start here.
pub const FREE: u16 = 0x100;

/// Top of the stack that the TSS names for `ring`.
pub fn stack_of(ring: u16) -> u32 {
    0x9000 + ring as u32 * 0x1000
}

/// G and B of a descriptor.
pub const FLAT: u64 = 0xc;

/// A segment descriptor; `flags` are G, D/B, L, AVL.
pub fn descriptor(base: u32, limit: u32, access: u64, flags: u64) -> u64 {
    let (base, limit) = (base as u64, limit as u64);
    limit & 0xffff
        | (base & 0xff_ffff) << 16
        | access << 40
        | (limit >> 16 & 15) << 48
        | flags << 52
        | (base >> 24) << 56
}

/// A gate.
pub fn gate(selector: u16, offset: u32, access: u64, count: u64) -> u64 {
    let offset = offset as u64;
    offset & 0xffff | (selector as u64) << 16 | count << 32 | access << 40 | (offset >> 16) << 48
}

/// Writes memory.
pub fn poke<W: Cell>(cpu: &mut TestCpu, at: u32, value: W) {
    let bytes = value.to_u64().to_le_bytes();
    cpu.bus.ram_mut().write(at as usize, &bytes[..W::BYTES as usize]);
}

/// Reads memory.
pub fn peek<W: Cell>(cpu: &TestCpu, at: u32) -> W {
    W::load(cpu.bus.ram(), at as usize)
}

/// Puts a descriptor into the GDT.
pub fn put(cpu: &mut TestCpu, selector: u16, descriptor: u64) {
    poke(cpu, GDT + (selector & !7) as u32, descriptor);
}

/// Puts a gate into the IDT.
pub fn put_gate(cpu: &mut TestCpu, vector: u8, gate: u64) {
    poke(cpu, IDT + vector as u32 * 8, gate);
}

/// The `count` doublewords at ESP (flat stacks).
pub fn frame(cpu: &TestCpu, count: u32) -> Vec<u32> {
    (0..count).map(|n| peek(cpu, cpu.regs.dword(ESP) + n * 4)).collect()
}

/// The `count` words at SP.
pub fn frame16(cpu: &TestCpu, count: u32) -> Vec<u16> {
    (0..count).map(|n| peek(cpu, cpu.segs[SS].base + (cpu.regs.dword(ESP) & 0xffff) + n * 2)).collect()
}

/// A processor in `ring` of 32-bit protected mode, EIP at [`CODE`], ESP at 0x8000, with everything above in place, and
/// an IDT whose vectors are all 32-bit interrupt gates of DPL 0 to ring 0, vector `n` to 0x100 * n.
pub fn ring(ring: u16) -> TestCpu {
    let mut cpu = processor(Start::Flat32, &[0x90; 16], CODE, 0x4_0000).cpu;
    cpu.gdtr = TableRegister { base: GDT, limit: 0x7ff };
    cpu.idtr = TableRegister { base: IDT, limit: 0x7ff };
    for r in 0..4u16 {
        let dpl = (r as u64) << 5;
        put(&mut cpu, code(r), descriptor(0, 0xf_ffff, 0x9b | dpl, FLAT));
        put(&mut cpu, data(r), descriptor(0, 0xf_ffff, 0x93 | dpl, FLAT));
    }
    put(&mut cpu, CONFORMING, descriptor(0, 0xf_ffff, 0x9f, FLAT));
    put(&mut cpu, TSS_SELECTOR, descriptor(TSS, 0x67, 0x8b, 0));
    put(&mut cpu, LDT_SELECTOR, descriptor(LDT, 0xff, 0x82, 0));
    put(&mut cpu, TSS16_SELECTOR, descriptor(TSS16, 0x2b, 0x81, 0));
    put(&mut cpu, OTHER_SELECTOR, descriptor(OTHER_TSS, 0x67, 0x89, 0));
    for r in 0..3u16 {
        poke(&mut cpu, TSS + 4 + r as u32 * 8, stack_of(r));
        poke(&mut cpu, TSS + 8 + r as u32 * 8, data(r));
    }
    for vector in 0..=255u8 {
        put_gate(&mut cpu, vector, gate(code(0), vector as u32 * 0x100, 0x8e, 0));
    }
    cpu.tr = Segment::new(TSS_SELECTOR, TSS, 0x67, 0x8b);
    cpu.ldtr = Segment::null(0);
    let dpl = ring << 5;
    cpu.segs[CS] = Segment::new(code(ring), 0, u32::MAX, 0xc09b | dpl);
    for register in [ES, SS, DS, FS, GS] {
        cpu.segs[register] = Segment::new(data(ring), 0, u32::MAX, 0xc093 | dpl);
    }
    cpu.set_cpl(ring as u8);
    cpu
}

/// A processor in real mode, EIP at [`CODE`], SP at 0x8000, vector `n` at 1234:n.
pub fn real() -> TestCpu {
    let mut cpu = processor(Start::Real, &[0x90; 16], CODE, 0x4_0000).cpu;
    cpu.idtr = TableRegister { base: 0, limit: 0x3ff };
    for vector in 0..256u32 {
        poke(&mut cpu, vector * 4, 0x1234_0000 | vector);
    }
    cpu
}

/// A processor in virtual-8086 mode over the tables of [`ring`], CS:IP at 0100:0000, SS:SP at 0200:1000, data segments
/// 0x301 (ES), 0x302 (DS), 0x303 (FS), 0x304 (GS).
pub fn vm86(iopl: u32) -> TestCpu {
    let mut cpu = ring(3);
    cpu.set_flags(crate::flags::VM | iopl << 12, crate::flags::VM | crate::flags::IOPL);
    let selectors = [(CS, 0x100), (SS, 0x200), (ES, 0x301), (DS, 0x302), (FS, 0x303), (GS, 0x304)];
    for (register, selector) in selectors {
        cpu.segs[register] = Segment::real(selector, 3);
    }
    cpu.eip = 0;
    cpu.regs.set_dword(ESP, 0x1000);
    cpu.update_context();
    cpu
}

/// Runs one instruction, given as bytes, as if it stood at CS:EIP. EIP moves as the engine moves it.
pub fn run(cpu: &mut TestCpu, bytes: &[u8]) -> Result<(), Fault> {
    let Decoded::Op(op) = decode(bytes, cpu.segs[CS].is_32bit(), &cpu.model, 0) else {
        panic!("{bytes:x?} is no whole instruction")
    };
    cpu.block_eip = cpu.eip;
    match (op.run)(cpu, &op) {
        Ok(()) => {
            if !op.jumps {
                cpu.eip = cpu.next_ip(&op);
            }
            Ok(())
        }
        Err(raised) => {
            cpu.eip = cpu.ip(&op);
            match cpu.take_pending(raised) {
                Pending::Fault(fault) => Err(fault),
                other => panic!("{bytes:x?}: {other:?}"),
            }
        }
    }
}

/// Runs one instruction that must raise `fault` and change nothing: neither state nor memory.
pub fn refuses(cpu: &mut TestCpu, bytes: &[u8], fault: Fault) {
    let (state, memory) = (cpu.state.clone(), cpu.bus.ram().bytes().to_vec());
    assert_eq!(run(cpu, bytes), Err(fault), "{bytes:x?}");
    assert_eq!(cpu.state, state, "{bytes:x?} changed the state");
    assert!(cpu.bus.ram().bytes() == memory, "{bytes:x?} changed memory");
}
