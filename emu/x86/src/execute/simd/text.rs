//! Text: PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM and CRC32 (SDM 1 "Programming with Intel SSE4.2"; SDM 2B "Imm8 Control Byte
//! Operation for PCMPESTRI/PCMPESTRM/PCMPISTRI/PCMPISTRM").

use iced_x86::Code;

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::simd::{File, Source, Xmm, build, lane};
use crate::execute::{Form, Mem, Reg, Shape, by_form};
use crate::fault::Exec;
use crate::flags::{CF, OF, SF, ZF};
use crate::mmu::Intent;
use crate::observe::Observer;
use crate::op::{Handler, Op};
use crate::regs::{EAX, ECX, EDX};
use crate::width::Width;

/// The bodies.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match (shape.code, shape.memory) {
        (Code::Pcmpestri_xmm_xmmm128_imm8, true) => compare::<B, O, Mem, true, true>,
        (Code::Pcmpestri_xmm_xmmm128_imm8, false) => compare::<B, O, Reg, true, true>,
        (Code::Pcmpestrm_xmm_xmmm128_imm8, true) => compare::<B, O, Mem, true, false>,
        (Code::Pcmpestrm_xmm_xmmm128_imm8, false) => compare::<B, O, Reg, true, false>,
        (Code::Pcmpistri_xmm_xmmm128_imm8, true) => compare::<B, O, Mem, false, true>,
        (Code::Pcmpistri_xmm_xmmm128_imm8, false) => compare::<B, O, Reg, false, true>,
        (Code::Pcmpistrm_xmm_xmmm128_imm8, true) => compare::<B, O, Mem, false, false>,
        (Code::Pcmpistrm_xmm_xmmm128_imm8, false) => compare::<B, O, Reg, false, false>,
        (Code::Crc32_r32_rm8, _) => by_form!(shape, crc32, u8),
        (Code::Crc32_r32_rm16, _) => by_form!(shape, crc32, u16),
        (Code::Crc32_r32_rm32, _) => by_form!(shape, crc32, u32),
        _ => return None,
    })
}

/// A string in a register: its characters, widened, and how many are valid.
struct Text {
    characters: [i32; 16],
    length: usize,
}

impl Text {
    /// Of the format that bits 1 and 0 of the immediate name; `length` is its length, or up to the first null character.
    fn new(value: u128, imm: u8, length: Option<u32>) -> Text {
        let count = capacity(imm);
        let character = |n: usize| match imm & 3 {
            0 => lane::<u8>(value, n) as i32,
            1 => lane::<u16>(value, n) as i32,
            2 => lane::<i8>(value, n) as i32,
            _ => lane::<i16>(value, n) as i32,
        };
        let mut characters = [0; 16];
        for (n, slot) in characters.iter_mut().enumerate().take(count) {
            *slot = character(n);
        }
        let length = match length {
            // the manual's absolute value, and no more than there is room for
            Some(length) => (length as i32).unsigned_abs().min(count as u32) as usize,
            None => characters[..count].iter().position(|&c| c == 0).unwrap_or(count),
        };
        Text { characters, length }
    }

    fn get(&self, n: usize) -> Option<i32> {
        (n < self.length).then(|| self.characters[n])
    }
}

/// How many characters a register holds.
fn capacity(imm: u8) -> usize {
    if imm & 1 == 0 { 16 } else { 8 }
}

/// The manual's IntRes2: bit `j` says what was found at character `j` of `b`.
fn matches(a: &Text, b: &Text, imm: u8) -> u32 {
    let count = capacity(imm);
    let found = |j: usize| match imm >> 2 & 3 {
        // equal any
        0 => b.get(j).is_some_and(|c| a.characters[..a.length].contains(&c)),
        // ranges
        1 => b.get(j).is_some_and(|c| {
            a.characters[..a.length].chunks_exact(2).any(|range| range[0] <= c && c <= range[1])
        }),
        // equal each: beyond both ends, they are equal
        2 => a.get(j) == b.get(j),
        // equal ordered: beyond the end of `a`, anything goes
        _ => (0..count - j).all(|i| a.get(i).is_none_or(|c| b.get(i + j) == Some(c))),
    };
    let first = (0..count).filter(|&j| found(j)).fold(0, |bits, j| bits | 1 << j);
    let all = (1u32 << count) - 1;
    match imm >> 4 & 3 {
        1 => first ^ all,
        3 => first ^ ((1 << b.length) - 1),
        _ => first,
    }
}

/// Compares the strings in the two operands, of lengths in EAX and EDX (`EXPLICIT`) or with a null character at their
/// ends; the answer is an index in ECX (`INDEX`) or a mask in XMM0.
fn compare<B: Bus, O: Observer, S: Source, const EXPLICIT: bool, const INDEX: bool>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec {
    Xmm::begin(cpu)?;
    let source = S::get_loose(cpu, op)?;

    let imm = op.imm as u8;
    let length = |register: u8| EXPLICIT.then(|| cpu.regs.dword(register));
    let a = Text::new(Xmm::get(&cpu.state, op.reg), imm, length(EAX));
    let b = Text::new(source, imm, length(EDX));
    let (count, found) = (capacity(imm), matches(&a, &b, imm));
    let most = imm & 0x40 != 0;
    let flag = |condition: bool, flag: u32| if condition { flag } else { 0 };
    let flags = flag(found != 0, CF)
        | flag(b.length < count, ZF)
        | flag(a.length < count, SF)
        | flag(found & 1 != 0, OF);

    if INDEX {
        let index = match found {
            0 => count as u32,
            _ if most => found.ilog2(),
            _ => found.trailing_zeros(),
        };
        cpu.regs.set_dword(ECX, index);
    } else {
        let ones = |n: usize| found >> n & 1 != 0;
        let mask = match (most, count) {
            (false, _) => found as u128,
            (true, 16) => build(16, |n| if ones(n) { 0xffu8 } else { 0 }),
            (true, _) => build(16, |n| if ones(n) { 0xffffu16 } else { 0 }),
        };
        Xmm::set(&mut cpu.state, 0, mask);
    }
    cpu.flags.set_arithmetic(flags);
    Ok(())
}

/// CRC32: by the polynomial 11EDC6F41h, bits reflected.
fn crc32<B: Bus, O: Observer, F: Form, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    const REFLECTED: u32 = 0x82f6_3b78;
    let at = F::locate::<B, O, W>(cpu, op, Intent::Read)?;

    let source = F::get(cpu, at).to_u32();
    let step = |rest: u32, _| rest >> 1 ^ if rest & 1 != 0 { REFLECTED } else { 0 };
    let value = cpu.regs.dword(op.reg) ^ source;
    let value = (0..W::BITS).fold(value, step);

    cpu.regs.set_dword(op.reg, value);
    Ok(())
}
