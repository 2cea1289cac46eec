//! Packed integer arithmetic, comparisons and logic (SDM 1 "MMX Instructions", "SSE2 128-Bit SIMD Integer Instructions").

use crate::bus::Bus;
use crate::execute::Shape;
use crate::execute::simd::{Lane, build, lane, lanewise, operations};
use crate::observe::Observer;
use crate::op::Handler;

/// The bodies.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    lanewise(shape).or_else(|| operations(shape))
}

/// All ones, or zero.
macro_rules! mask {
    ($t:ty, $condition:expr) => {
        if $condition { <$t>::MAX } else { 0 }
    };
}

lanewise! {
    Paddb: u8 = |a, b| a.wrapping_add(b);
    Paddw: u16 = |a, b| a.wrapping_add(b);
    Paddd: u32 = |a, b| a.wrapping_add(b);
    Paddq: u64 = |a, b| a.wrapping_add(b);
    Paddsb: i8 = |a, b| a.saturating_add(b);
    Paddsw: i16 = |a, b| a.saturating_add(b);
    Paddusb: u8 = |a, b| a.saturating_add(b);
    Paddusw: u16 = |a, b| a.saturating_add(b);
    Psubb: u8 = |a, b| a.wrapping_sub(b);
    Psubw: u16 = |a, b| a.wrapping_sub(b);
    Psubd: u32 = |a, b| a.wrapping_sub(b);
    Psubq: u64 = |a, b| a.wrapping_sub(b);
    Psubsb: i8 = |a, b| a.saturating_sub(b);
    Psubsw: i16 = |a, b| a.saturating_sub(b);
    Psubusb: u8 = |a, b| a.saturating_sub(b);
    Psubusw: u16 = |a, b| a.saturating_sub(b);

    Pmullw: u16 = |a, b| a.wrapping_mul(b);
    Pmulld: u32 = |a, b| a.wrapping_mul(b);
    Pmulhw: i16 = |a, b| ((a as i32 * b as i32) >> 16) as i16;
    Pmulhuw: u16 = |a, b| ((a as u32 * b as u32) >> 16) as u16;
    Pmulhrsw: i16 = |a, b| ((((a as i32 * b as i32) >> 14) + 1) >> 1) as i16;
    Pmuludq: u64 = |a, b| (a as u32 as u64) * (b as u32 as u64);
    Pmuldq: u64 = |a, b| (a as i32 as i64 * b as i32 as i64) as u64;

    Pavgb: u8 = |a, b| ((a as u16 + b as u16 + 1) >> 1) as u8;
    Pavgw: u16 = |a, b| ((a as u32 + b as u32 + 1) >> 1) as u16;
    Pminub: u8 = |a, b| a.min(b);
    Pminuw: u16 = |a, b| a.min(b);
    Pminud: u32 = |a, b| a.min(b);
    Pminsb: i8 = |a, b| a.min(b);
    Pminsw: i16 = |a, b| a.min(b);
    Pminsd: i32 = |a, b| a.min(b);
    Pmaxub: u8 = |a, b| a.max(b);
    Pmaxuw: u16 = |a, b| a.max(b);
    Pmaxud: u32 = |a, b| a.max(b);
    Pmaxsb: i8 = |a, b| a.max(b);
    Pmaxsw: i16 = |a, b| a.max(b);
    Pmaxsd: i32 = |a, b| a.max(b);

    Psignb: i8 = |a, b| a.wrapping_mul(b.signum());
    Psignw: i16 = |a, b| a.wrapping_mul(b.signum());
    Psignd: i32 = |a, b| a.wrapping_mul(b.signum());
    Pabsb: i8 = |_, b| b.wrapping_abs();
    Pabsw: i16 = |_, b| b.wrapping_abs();
    Pabsd: i32 = |_, b| b.wrapping_abs();

    Pcmpeqb: u8 = |a, b| mask!(u8, a == b);
    Pcmpeqw: u16 = |a, b| mask!(u16, a == b);
    Pcmpeqd: u32 = |a, b| mask!(u32, a == b);
    Pcmpeqq: u64 = |a, b| mask!(u64, a == b);
    Pcmpgtb: i8 = |a, b| if a > b { -1 } else { 0 };
    Pcmpgtw: i16 = |a, b| if a > b { -1 } else { 0 };
    Pcmpgtd: i32 = |a, b| if a > b { -1 } else { 0 };
    Pcmpgtq: i64 = |a, b| if a > b { -1 } else { 0 };

    Pand: u64 = |a, b| a & b;
    Andps: u64 = |a, b| a & b;
    Andpd: u64 = |a, b| a & b;
    Pandn: u64 = |a, b| !a & b;
    Andnps: u64 = |a, b| !a & b;
    Andnpd: u64 = |a, b| !a & b;
    Por: u64 = |a, b| a | b;
    Orps: u64 = |a, b| a | b;
    Orpd: u64 = |a, b| a | b;
    Pxor: u64 = |a, b| a ^ b;
    Xorps: u64 = |a, b| a ^ b;
    Xorpd: u64 = |a, b| a ^ b;
}

/// Neighbours with each other: first the destination's, then the source's.
fn neighbours<L: Lane>(dest: u128, source: u128, bytes: usize, f: impl Fn(L, L) -> L) -> u128 {
    let half = bytes / L::BYTES / 2;
    build(bytes, |n| {
        let (from, at) = if n < half { (dest, 2 * n) } else { (source, 2 * (n - half)) };
        f(lane(from, at), lane(from, at + 1))
    })
}

/// Sums of products of neighbours.
fn multiply_add(dest: u128, source: u128, bytes: usize) -> u128 {
    let product = |n| lane::<i16>(dest, n) as i32 * lane::<i16>(source, n) as i32;
    build(bytes, |n| product(2 * n).wrapping_add(product(2 * n + 1)))
}

/// The same of unsigned and signed bytes, saturating.
fn multiply_add_bytes(dest: u128, source: u128, bytes: usize) -> u128 {
    let product = |n| lane::<u8>(dest, n) as i32 * lane::<i8>(source, n) as i32;
    build(bytes, |n| (product(2 * n) + product(2 * n + 1)).clamp(i16::MIN as i32, i16::MAX as i32) as i16)
}

/// The distance of byte `a` of the destination from byte `b` of the source.
fn distance(dest: u128, source: u128, a: usize, b: usize) -> u16 {
    lane::<u8>(dest, a).abs_diff(lane(source, b)) as u16
}

/// The least word, and where it stands.
fn least(source: u128) -> u128 {
    let (value, at) = (0..8).map(|n| (lane::<u16>(source, n), n)).min().unwrap_or_default();
    value as u128 | (at as u128) << 16
}

operations! {
    Phaddw[file] = |dest, source, _, bytes| neighbours(dest, source, bytes, i16::wrapping_add);
    Phaddd[file] = |dest, source, _, bytes| neighbours(dest, source, bytes, i32::wrapping_add);
    Phaddsw[file] = |dest, source, _, bytes| neighbours(dest, source, bytes, i16::saturating_add);
    Phsubw[file] = |dest, source, _, bytes| neighbours(dest, source, bytes, i16::wrapping_sub);
    Phsubd[file] = |dest, source, _, bytes| neighbours(dest, source, bytes, i32::wrapping_sub);
    Phsubsw[file] = |dest, source, _, bytes| neighbours(dest, source, bytes, i16::saturating_sub);
    Pmaddwd[file] = |dest, source, _, bytes| multiply_add(dest, source, bytes);
    Pmaddubsw[file] = |dest, source, _, bytes| multiply_add_bytes(dest, source, bytes);
    Psadbw[file] = |dest, source, _, bytes| {
        build(bytes, |n| (8 * n..8 * n + 8).map(|at| distance(dest, source, at, at) as u64).sum::<u64>())
    };
    Mpsadbw[16] = |dest, source, imm, bytes| {
        let (first, block) = ((imm as usize >> 2 & 1) * 4, (imm as usize & 3) * 4);
        build(bytes, |n| (0..4).map(|k| distance(dest, source, first + n + k, block + k)).sum::<u16>())
    };
    Phminposuw[16] = |_, source, _, _| least(source);
}
