//! Random tables under every instruction that reads them: nothing panics, and what is refused has changed nothing.

use super::*;
use crate::cpu::Mode;
use crate::flags;
use crate::observe::Cause;
use crate::random::Random;
use crate::regs::EBX;

trait Tables {
    fn selector(&mut self) -> u16;
    fn offset(&mut self) -> u32;
    fn descriptor(&mut self) -> u64;
}

impl Tables for Random {
    /// A selector that mostly names one of the 32 entries of the GDT or LDT.
    fn selector(&mut self) -> u16 {
        match self.below(16) {
            0 => self.bits() as u16,
            1..4 => [OTHER_SELECTOR, TSS16_SELECTOR][self.below(2) as usize],
            _ => self.below(0x100) as u16,
        }
    }
    /// A small offset mostly.
    fn offset(&mut self) -> u32 {
        match self.below(8) {
            0 => self.bits() as u32,
            1 => 0xffff,
            _ => self.below(0x8000),
        }
    }
    /// A descriptor of any type, mostly present.
    fn descriptor(&mut self) -> u64 {
        let access = self.bits() & 0xff | if self.once_in(8) { 0 } else { 0x80 };
        if access & 0x10 == 0 && access & 4 != 0 {
            return gate(self.selector(), self.offset(), access, self.below(32) as u64);
        }
        let base = if self.once_in(4) { self.bits() as u32 } else { self.below(0x8000) };
        let limit = [0, 0x2b, 0x67, 0xfff, 0xffff, 0xf_ffff][self.below(6) as usize];
        descriptor(base, limit, access, self.bits() & 0xf)
    }
}

fn random_cpu(random: &mut Random) -> TestCpu {
    let mut cpu = match random.below(8) {
        0 => real(),
        1 => vm86(random.below(4)),
        _ => ring(random.below(4) as u16),
    };
    if !random.once_in(4) {
        for n in 0..32u16 {
            if random.once_in(3) {
                put(&mut cpu, n * 8, random.descriptor());
            }
            poke(&mut cpu, LDT + n as u32 * 8, random.descriptor());
        }
    }
    for vector in 0..=255u8 {
        if random.once_in(2) {
            put_gate(&mut cpu, vector, gate(random.selector(), random.offset(), random.bits() & 0xef, 0));
        }
    }
    for tss in [TSS, TSS16, OTHER_TSS] {
        for n in (0..0x68).step_by(2) {
            if random.once_in(2) {
                poke(&mut cpu, tss + n, random.selector());
            }
        }
    }
    if random.once_in(2) {
        cpu.ldtr = Segment::new(LDT_SELECTOR, LDT, 0xff, 0x82);
    }
    if random.once_in(4) {
        cpu.tr = Segment::new(TSS16_SELECTOR, TSS16, 0x2b, 0x83);
    }
    cpu.cr4 = random.bits() as u32 & crate::control::CR4_VME;
    if cpu.mode() == Mode::Protected && random.once_in(4) {
        cpu.set_flags(flags::NT, flags::NT);
    }
    cpu.regs.set_dword(ESP, if random.once_in(8) { random.below(16) } else { 0x7800 });
    cpu.regs.set_dword(EBX, 0x7000);
    for n in 0..16 {
        let value = if n % 2 == 0 { random.offset() } else { random.selector() as u32 };
        let value = if random.once_in(8) { value | flags::VM } else { value };
        poke(&mut cpu, 0x7000 + n * 4, value);
        poke(&mut cpu, 0x7800 + n * 4, value);
        poke(&mut cpu, 0x3000 + n * 4, value);
    }
    cpu
}

fn random_instruction(random: &mut Random) -> Vec<u8> {
    let [low, high] = random.selector().to_le_bytes();
    let modrm = |register: u8| 3 | register << 3;
    let mut bytes = if random.once_in(3) { vec![0x66] } else { vec![] };
    match random.below(24) {
        0 | 1 => bytes.extend([0x9a, 0x34, 0x12, low, high, low, high]),
        2 | 3 => bytes.extend([0xea, 0x34, 0x12, low, high, low, high]),
        4 => bytes.extend([0xff, modrm(3)]),
        5 => bytes.extend([0xff, modrm(5)]),
        6 | 7 => bytes.push(0xcb),
        8 => bytes.extend([0xca, low & 0x1f, 0]),
        9..=11 => bytes.push(0xcf),
        12 | 13 => bytes.extend([0xcd, low]),
        14 => bytes.push(0xcc),
        15 => bytes.push(0xf1),
        16 => bytes.extend([0x8e, modrm([0, 2, 3, 4, 5][random.below(5) as usize])]),
        17 => bytes.push([0x07, 0x17, 0x1f, 0x0e, 0x16][random.below(5) as usize]),
        18 => bytes.extend([0x0f, [0xb2, 0xb4, 0xb5][random.below(3) as usize], modrm(1)]),
        19 => bytes.extend([[0xc4, 0xc5][random.below(2) as usize], modrm(1)]),
        20 => bytes.extend([0x0f, 0x02 + random.below(2) as u8, modrm(1)]),
        21 => bytes.extend([0x0f, 0x00, modrm(random.below(6) as u8)]),
        22 => bytes.extend([0x63, modrm(1)]),
        _ => bytes.extend([0x0f, [0xa0, 0xa1, 0xa8, 0xa9][random.below(4) as usize]]),
    }
    bytes
}

#[test]
fn whatever_the_tables_hold_a_refused_instruction_has_changed_nothing() {
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    let (mut done, mut refused, mut switched) = (0, 0, 0);
    for _ in 0..3000 {
        let mut cpu = random_cpu(&mut random);
        let bytes = random_instruction(&mut random);
        let (state, memory) = (cpu.state.clone(), cpu.bus.ram().bytes().to_vec());
        match run(&mut cpu, &bytes) {
            Ok(()) => done += 1,
            // past the point of no return the new task is to blame
            Err(_) if cpu.cr0 & crate::control::CR0_TS != 0 => switched += 1,
            Err(fault) => {
                refused += 1;
                assert_eq!(cpu.state, state, "{bytes:x?}: {fault:?}");
                assert!(cpu.bus.ram().bytes() == memory, "{bytes:x?}: {fault:?}");
            }
        }
    }
    // the tables are neither all good nor all bad
    assert!(done > 300 && refused > 300 && switched > 5, "{done} {refused} {switched}");
}

#[test]
fn whatever_the_tables_hold_a_delivery_ends() {
    let mut random = Random::new(0x1234_5678_9abc_def1);
    let (mut entered, mut down) = (0, 0);
    for _ in 0..2000 {
        let mut cpu = random_cpu(&mut random);
        let cause = match random.below(6) {
            0 => Cause::External(random.bits() as u8),
            1 => Cause::Nmi,
            2 => Cause::DebugTrap,
            3 => Cause::Fault(Fault::Page { address: random.bits() as u32, code: 2 }),
            4 => Cause::Fault(Fault::GeneralProtection(random.bits() as u16)),
            _ => Cause::Fault(Fault::InvalidOpcode),
        };
        match cpu.deliver(cause) {
            Ok(()) => entered += 1,
            Err(_) => down += 1,
        }
    }
    assert!(entered > 300 && down > 30, "{entered} {down}");
}
