//! Packing, unpacking, shuffling, blending and widening (SDM 1 "Conversion Instructions", "Unpack Instructions", "Shuffle
//! and Unpack Instructions", "Packed Blending Instructions", "Packed Integer Format Conversions").

use iced_x86::Code;

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::simd::{File, Lane, Source, Xmm, build, lane, operations};
use crate::execute::{Mem, Reg, Shape};
use crate::fault::Exec;
use crate::observe::Observer;
use crate::op::{Handler, Op};

/// The bodies.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    let variable = match shape.code {
        Code::Pblendvb_xmm_xmmm128 if shape.memory => blend_by_xmm0::<B, O, Mem, i8>,
        Code::Pblendvb_xmm_xmmm128 => blend_by_xmm0::<B, O, Reg, i8>,
        Code::Blendvps_xmm_xmmm128 if shape.memory => blend_by_xmm0::<B, O, Mem, i32>,
        Code::Blendvps_xmm_xmmm128 => blend_by_xmm0::<B, O, Reg, i32>,
        Code::Blendvpd_xmm_xmmm128 if shape.memory => blend_by_xmm0::<B, O, Mem, i64>,
        Code::Blendvpd_xmm_xmmm128 => blend_by_xmm0::<B, O, Reg, i64>,
        _ => return operations(shape),
    };
    Some(variable)
}

/// Lanes of the destination, then of the source, made narrower.
fn pack<L: Lane, R: Lane>(dest: u128, source: u128, bytes: usize, f: impl Fn(L) -> R) -> u128 {
    let half = bytes / L::BYTES;
    build(bytes, |n| f(if n < half { lane(dest, n) } else { lane(source, n - half) }))
}

fn words_to_bytes(dest: u128, source: u128, bytes: usize) -> u128 {
    pack(dest, source, bytes, |word: i16| word.clamp(i8::MIN as i16, i8::MAX as i16) as i8)
}

fn words_to_unsigned_bytes(dest: u128, source: u128, bytes: usize) -> u128 {
    pack(dest, source, bytes, |word: i16| word.clamp(0, u8::MAX as i16) as u8)
}

fn dwords_to_words(dest: u128, source: u128, bytes: usize) -> u128 {
    pack(dest, source, bytes, |dword: i32| dword.clamp(i16::MIN as i32, i16::MAX as i32) as i16)
}

fn dwords_to_unsigned_words(dest: u128, source: u128, bytes: usize) -> u128 {
    pack(dest, source, bytes, |dword: i32| dword.clamp(0, u16::MAX as i32) as u16)
}

/// Lanes of the low halves (`from` 0) or high halves (`from` 1), interleaved.
fn interleave<L: Lane>(dest: u128, source: u128, bytes: usize, from: usize) -> u128 {
    let first = from * (bytes / L::BYTES / 2);
    build::<L>(bytes, |n| lane(if n & 1 == 0 { dest } else { source }, first + n / 2))
}

/// The two-bit field number `n` of the immediate.
fn field(imm: u8, n: usize) -> usize {
    (imm >> (2 * (n & 3)) & 3) as usize
}

/// Lanes that the immediate's fields choose, from one register or (SHUFPS) two.
fn shuffle_dwords(low: u128, high: u128, imm: u8) -> u128 {
    build::<u32>(16, |n| lane(if n < 2 { low } else { high }, field(imm, n)))
}

/// The four words of half `half`, shuffled; the others stay.
fn shuffle_words(source: u128, imm: u8, bytes: usize, half: usize) -> u128 {
    build::<u16>(bytes, |n| lane(source, if n / 4 == half { 4 * half + field(imm, n) } else { n }))
}

fn shuffle_bytes(dest: u128, source: u128, bytes: usize) -> u128 {
    build::<u8>(bytes, |n| match lane::<u8>(source, n) {
        0x80.. => 0,
        index => lane(dest, index as usize & (bytes - 1)),
    })
}

/// Bytes of the destination behind those of the source, from number `from` on.
fn align(dest: u128, source: u128, from: usize, bytes: usize) -> u128 {
    build::<u8>(bytes, |n| match n + from {
        at if at < bytes => lane(source, at),
        at if at < 2 * bytes => lane(dest, at - bytes),
        _ => 0,
    })
}

/// Lanes of the source where the immediate has a one.
fn blend<L: Lane>(dest: u128, source: u128, imm: u8) -> u128 {
    build::<L>(16, |n| lane(if imm >> n & 1 != 0 { source } else { dest }, n))
}

/// Low lanes made wider.
fn widen<L: Lane, R: Lane>(source: u128, f: impl Fn(L) -> R) -> u128 {
    build(16, |n| f(lane(source, n)))
}

operations! {
    Packsswb[file] = |dest, source, _, bytes| words_to_bytes(dest, source, bytes);
    Packuswb[file] = |dest, source, _, bytes| words_to_unsigned_bytes(dest, source, bytes);
    Packssdw[file] = |dest, source, _, bytes| dwords_to_words(dest, source, bytes);
    Packusdw[16] = |dest, source, _, bytes| dwords_to_unsigned_words(dest, source, bytes);
    Punpcklbw[low] = |dest, source, _, bytes| interleave::<u8>(dest, source, bytes, 0);
    Punpcklwd[low] = |dest, source, _, bytes| interleave::<u16>(dest, source, bytes, 0);
    Punpckldq[low] = |dest, source, _, bytes| interleave::<u32>(dest, source, bytes, 0);
    Punpcklqdq[16] = |dest, source, _, bytes| interleave::<u64>(dest, source, bytes, 0);
    Punpckhbw[file] = |dest, source, _, bytes| interleave::<u8>(dest, source, bytes, 1);
    Punpckhwd[file] = |dest, source, _, bytes| interleave::<u16>(dest, source, bytes, 1);
    Punpckhdq[file] = |dest, source, _, bytes| interleave::<u32>(dest, source, bytes, 1);
    Punpckhqdq[16] = |dest, source, _, bytes| interleave::<u64>(dest, source, bytes, 1);
    Unpcklps[16] = |dest, source, _, bytes| interleave::<u32>(dest, source, bytes, 0);
    Unpcklpd[16] = |dest, source, _, bytes| interleave::<u64>(dest, source, bytes, 0);
    Unpckhps[16] = |dest, source, _, bytes| interleave::<u32>(dest, source, bytes, 1);
    Unpckhpd[16] = |dest, source, _, bytes| interleave::<u64>(dest, source, bytes, 1);

    Pshufd[16] = |_, source, imm, _| shuffle_dwords(source, source, imm);
    Shufps[16] = |dest, source, imm, _| shuffle_dwords(dest, source, imm);
    Shufpd[16] = |dest, source, imm, _| {
        build::<u64>(16, |n| lane(if n == 0 { dest } else { source }, (imm >> n & 1) as usize))
    };
    Pshuflw[16] = |_, source, imm, bytes| shuffle_words(source, imm, bytes, 0);
    Pshufhw[16] = |_, source, imm, bytes| shuffle_words(source, imm, bytes, 1);
    Pshufw[file] = |_, source, imm, bytes| shuffle_words(source, imm, bytes, 0);
    Pshufb[file] = |dest, source, _, bytes| shuffle_bytes(dest, source, bytes);
    Palignr[file] = |dest, source, imm, bytes| align(dest, source, imm as usize, bytes);

    Pblendw[16] = |dest, source, imm, _| blend::<u16>(dest, source, imm);
    Blendps[16] = |dest, source, imm, _| blend::<u32>(dest, source, imm);
    Blendpd[16] = |dest, source, imm, _| blend::<u64>(dest, source, imm);

    Pmovsxbw[8] = |_, source, _, _| widen(source, |lane: i8| lane as i16);
    Pmovsxbd[4] = |_, source, _, _| widen(source, |lane: i8| lane as i32);
    Pmovsxbq[2] = |_, source, _, _| widen(source, |lane: i8| lane as i64);
    Pmovsxwd[8] = |_, source, _, _| widen(source, |lane: i16| lane as i32);
    Pmovsxwq[4] = |_, source, _, _| widen(source, |lane: i16| lane as i64);
    Pmovsxdq[8] = |_, source, _, _| widen(source, |lane: i32| lane as i64);
    Pmovzxbw[8] = |_, source, _, _| widen(source, |lane: u8| lane as u16);
    Pmovzxbd[4] = |_, source, _, _| widen(source, |lane: u8| lane as u32);
    Pmovzxbq[2] = |_, source, _, _| widen(source, |lane: u8| lane as u64);
    Pmovzxwd[8] = |_, source, _, _| widen(source, |lane: u16| lane as u32);
    Pmovzxwq[4] = |_, source, _, _| widen(source, |lane: u16| lane as u64);
    Pmovzxdq[8] = |_, source, _, _| widen(source, |lane: u32| lane as u64);
}

/// PBLENDVB, BLENDVPS, BLENDVPD: lanes of the source where XMM0 has its top bit set.
fn blend_by_xmm0<B: Bus, O: Observer, S: Source, L: Lane + Default + PartialOrd>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec {
    Xmm::begin(cpu)?;
    let source = S::get::<B, O, Xmm, 16>(cpu, op)?;

    let (dest, mask) = (Xmm::get(&cpu.state, op.reg), Xmm::get(&cpu.state, 0));
    let value = build::<L>(16, |n| lane(if lane::<L>(mask, n) < L::default() { source } else { dest }, n));

    Xmm::set(&mut cpu.state, op.reg, value);
    Ok(())
}
