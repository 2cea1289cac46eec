//! Numbers in memory: loads and stores of all formats (SDM 1 "Data Transfer Instructions"), and memory operands of
//! arithmetic.

use iced_x86::Code;

use super::stack::*;
use crate::bus::Bus;
use crate::cpu::{Cpu, Fpu};
use crate::execute::Shape;
use crate::fault::Exec;
use crate::float::exception::{DE, IE, OE, PE, UE};
use crate::float::format::{Number, infinity80, pack80, unpack};
use crate::float::{Exact, Format, Rounding, Value, round};
use crate::mmu::{Intent, Place};
use crate::observe::Observer;
use crate::op::{Handler, Op};
use crate::width::Cell;

/// The bodies.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code {
        Code::Fld_m32fp => fld::<B, O, Single>,
        Code::Fld_m64fp => fld::<B, O, Double>,
        Code::Fild_m16int => fld::<B, O, Word>,
        Code::Fild_m32int => fld::<B, O, Dword>,
        Code::Fild_m64int => fld::<B, O, Qword>,
        Code::Fld_m80fp => fld_whole::<B, O, false>,
        Code::Fbld_m80bcd => fld_whole::<B, O, true>,
        Code::Fst_m32fp => fst::<B, O, Single, false>,
        Code::Fst_m64fp => fst::<B, O, Double, false>,
        Code::Fstp_m32fp => fst::<B, O, Single, true>,
        Code::Fstp_m64fp => fst::<B, O, Double, true>,
        Code::Fist_m16int => fst::<B, O, Word, false>,
        Code::Fist_m32int => fst::<B, O, Dword, false>,
        Code::Fistp_m16int => fst::<B, O, Word, true>,
        Code::Fistp_m32int => fst::<B, O, Dword, true>,
        Code::Fistp_m64int => fst::<B, O, Qword, true>,
        Code::Fisttp_m16int => fst::<B, O, Truncated<Word>, true>,
        Code::Fisttp_m32int => fst::<B, O, Truncated<Dword>, true>,
        Code::Fisttp_m64int => fst::<B, O, Truncated<Qword>, true>,
        Code::Fstp_m80fp => fstp_whole::<B, O, false>,
        Code::Fbstp_m80bcd => fstp_whole::<B, O, true>,
        _ => return None,
    })
}

/// A number on its way into an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operand {
    /// In 80 bits. A signalling NaN is still one.
    pub bits: Real,
    /// What it is; a denormal of its own format counts as one.
    pub number: Number,
}

/// A format that numbers are read from memory in.
pub(super) trait Source {
    type Cell: Cell;
    fn widen(cell: Self::Cell) -> Operand;

    fn read<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec<Operand> {
        let offset = cpu.effective_address(op);
        let source: Place<Self::Cell> = cpu.translate(op.segment as usize, offset, Intent::Read)?;
        Ok(Self::widen(cpu.load(source)))
    }
}

/// A format that numbers are written to memory in: the bits, and the exceptions with C1.
pub(super) trait Target {
    type Cell: Cell;
    fn narrow(fpu: &Fpu, operand: Operand) -> (Self::Cell, u16);
}

pub(super) struct Single;
pub(super) struct Double;
pub(super) struct Word;
pub(super) struct Dword;
pub(super) struct Qword;
/// FISTTP's way.
struct Truncated<T>(T);

fn widen(bits: u64, format: Format) -> Operand {
    let number = unpack(bits, format);
    let wide = match number.value {
        Value::Zero | Value::Unsupported => pack80(number.negative, 0, 0),
        Value::Infinity => infinity80(number.negative),
        Value::Nan { .. } => {
            infinity80(number.negative) | (bits << (64 - format.precision) & (u64::MAX >> 1)) as u128
        }
        Value::Finite(exact) => pack80(number.negative, exact.exponent, (exact.significand >> 64) as u64),
    };
    Operand { bits: wide, number }
}

/// To single or double precision.
fn narrow(fpu: &Fpu, operand: Operand, format: Format) -> (u64, u16) {
    let Number { negative, value, .. } = operand.number;
    let of = |bits: Real| {
        let sign = (negative as u64) << if format == Format::SINGLE { 31 } else { 63 };
        let fraction = (bits as u64 & (u64::MAX >> 1)) >> (64 - format.precision);
        sign | crate::float::format::infinity(false, format) | fraction
    };
    match value {
        Value::Unsupported => (indefinite(format), IE),
        Value::Nan { quiet } => (of(operand.bits | QUIET), if quiet { 0 } else { IE }),
        Value::Infinity => (of(0), 0),
        Value::Zero => (crate::float::format::pack(negative, 0, 0, format), 0),
        Value::Finite(exact) => {
            let rounded = round(exact, format, fpu.rounding());
            let tiny = if rounded.tiny && !fpu.masks(UE) { UE } else { 0 };
            (rounded.double(), rounded.exceptions | tiny | if rounded.up { C1 } else { 0 })
        }
    }
}

fn indefinite(format: Format) -> u64 {
    crate::float::format::infinity(true, format) | 1 << (format.precision - 2)
}

/// To the nearest integer in the direction of `rounding`, with whether it is exact and whether it went up; `None` if it
/// does not fit in 64 bits and a sign.
pub(in crate::execute) fn to_integer(value: Exact, rounding: Rounding) -> Option<(i128, bool, bool)> {
    if value.exponent > 63 {
        return None;
    }
    let lost = (127 - value.exponent).min(130) as u32;
    let (kept, half, below) = match lost {
        129.. => (0, false, true),
        128 => (0, true, value.significand << 1 != 0),
        _ => (
            value.significand >> lost,
            value.significand >> (lost - 1) & 1 != 0,
            value.significand & ((1 << (lost - 1)) - 1) != 0,
        ),
    };
    let up = rounding.increments(value.negative, kept & 1 != 0, half, below);
    let magnitude = (kept + up as u128) as i128;
    Some((if value.negative { -magnitude } else { magnitude }, !(half || below), up))
}

/// To an integer of `bits` bits.
fn integer(operand: Operand, rounding: Rounding, bits: u32) -> (u64, u16) {
    let limit = 1i128 << (bits - 1);
    let fits = |value: i128| value >= -limit && value < limit;
    match operand.number.value {
        Value::Zero => (0, 0),
        Value::Finite(exact) => match to_integer(exact, rounding) {
            Some((value, exact, up)) if fits(value) => {
                (value as u64, if exact { 0 } else { PE } | if up { C1 } else { 0 })
            }
            _ => (limit as u64, IE),
        },
        _ => (limit as u64, IE),
    }
}

macro_rules! format {
    ($name:ident, $cell:ty, $format:expr) => {
        impl Source for $name {
            type Cell = $cell;
            fn widen(cell: $cell) -> Operand {
                widen(cell as u64, $format)
            }
        }
        impl Target for $name {
            type Cell = $cell;
            fn narrow(fpu: &Fpu, operand: Operand) -> ($cell, u16) {
                let (bits, exceptions) = narrow(fpu, operand, $format);
                (bits as $cell, exceptions)
            }
        }
    };
}
format!(Single, u32, Format::SINGLE);
format!(Double, u64, Format::DOUBLE);

macro_rules! integer {
    ($name:ident, $cell:ty, $signed:ty) => {
        impl Source for $name {
            type Cell = $cell;
            fn widen(cell: $cell) -> Operand {
                Operand::of(match Exact::from_integer(cell as $signed as i64) {
                    Some(exact) => pack80(exact.negative, exact.exponent, (exact.significand >> 64) as u64),
                    None => 0,
                })
            }
        }
        impl Target for $name {
            type Cell = $cell;
            fn narrow(fpu: &Fpu, operand: Operand) -> ($cell, u16) {
                let (bits, exceptions) = integer(operand, fpu.rounding(), <$cell>::BITS);
                (bits as $cell, exceptions)
            }
        }
        impl Target for Truncated<$name> {
            type Cell = $cell;
            fn narrow(_: &Fpu, operand: Operand) -> ($cell, u16) {
                let (bits, exceptions) = integer(operand, Rounding::Zero, <$cell>::BITS);
                (bits as $cell, exceptions)
            }
        }
    };
}
integer!(Word, u16, i16);
integer!(Dword, u32, i32);
integer!(Qword, u64, i64);

/// FLD m32, m64; FILD. Signalling NaNs turn quiet and raise IE, denormals raise DE.
fn fld<B: Bus, O: Observer, S: Source>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;
    let source = S::read(cpu, op)?;

    note_instruction(cpu, op);
    note_operand(cpu, op);
    let denormal = if source.number.denormal { DE } else { 0 };
    cpu.fpu.push(match source.number.value {
        Value::Nan { quiet: false } => Answer { value: source.bits | QUIET, exceptions: IE },
        _ => Answer { value: source.bits, exceptions: denormal },
    });
    Ok(())
}

/// FST, FSTP m32, m64; FIST, FISTP, FISTTP. An unmasked overflow or underflow stores nothing.
fn fst<B: Bus, O: Observer, T: Target, const POP: bool>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;
    let offset = cpu.effective_address(op);
    let dest: Place<T::Cell> = cpu.translate(op.segment as usize, offset, Intent::Write)?;

    note_instruction(cpu, op);
    note_operand(cpu, op);
    let (value, exceptions) = match cpu.fpu.st(0) {
        Some(value) => T::narrow(&cpu.fpu, Operand::of(value)),
        None => {
            let (indefinite, _) = T::narrow(&cpu.fpu, Operand::of(INDEFINITE));
            (indefinite, IE | SF)
        }
    };
    let range = exceptions & (OE | UE) & !cpu.fpu.control;
    // Hardware: the unmasked one is reported alone
    let goes_on = cpu.fpu.raise(if range != 0 { range } else { exceptions });
    if goes_on && range == 0 {
        cpu.store(dest, value);
        if POP {
            cpu.fpu.pop();
        }
    }
    Ok(())
}

/// The two parts of an 80-bit operand.
fn whole<B: Bus, O: Observer>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
    intent: Intent,
) -> Exec<(Place<u64>, Place<u16>)> {
    let offset = cpu.effective_address(op);
    let behind = offset.wrapping_add(8) & op.address_mask;
    let low = cpu.translate(op.segment as usize, offset, intent)?;
    let high = cpu.translate(op.segment as usize, behind, intent)?;
    Ok((low, high))
}

/// FLD m80, which raises nothing; FBLD.
fn fld_whole<B: Bus, O: Observer, const BCD: bool>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;
    let (low, high) = whole(cpu, op, Intent::Read)?;

    note_instruction(cpu, op);
    note_operand(cpu, op);
    let bits = cpu.load(low) as u128 | (cpu.load(high) as u128) << 64;
    cpu.fpu.push(Answer::exactly(if BCD { from_bcd(bits) } else { bits }));
    Ok(())
}

/// FSTP m80, which raises nothing; FBSTP.
fn fstp_whole<B: Bus, O: Observer, const BCD: bool>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;
    let (low, high) = whole(cpu, op, Intent::Write)?;

    note_instruction(cpu, op);
    note_operand(cpu, op);
    let (value, exceptions) = match cpu.fpu.st(0) {
        Some(value) if BCD => to_bcd(Operand::of(value), cpu.fpu.rounding()),
        Some(value) => (value, 0),
        None => (INDEFINITE, IE | SF),
    };
    if cpu.fpu.raise(exceptions) {
        cpu.store(low, value as u64);
        cpu.store(high, (value >> 64) as u16);
        cpu.fpu.pop();
    }
    Ok(())
}

/// Eighteen decimal digits and a sign. Hardware: digits above 9 count what they are.
fn from_bcd(bits: u128) -> Real {
    let magnitude = (0..18)
        .rev()
        .fold(0i64, |value, n| value.wrapping_mul(10).wrapping_add((bits >> (4 * n) & 15) as i64));
    let negative = bits & SIGN != 0;
    match Exact::from_integer(magnitude) {
        Some(exact) => pack80(negative, exact.exponent, (exact.significand >> 64) as u64),
        None => pack80(negative, 0, 0),
    }
}

fn to_bcd(operand: Operand, rounding: Rounding) -> (u128, u16) {
    const MOST: i128 = 999_999_999_999_999_999;
    let sign = if operand.number.negative { SIGN } else { 0 };
    let integer = match operand.number.value {
        Value::Zero => Some((0, true, false)),
        Value::Finite(exact) => to_integer(exact, rounding),
        _ => None,
    };
    match integer {
        Some((value, exact, up)) if value.abs() <= MOST => {
            let digits = (0..18).fold((value.unsigned_abs(), 0u128), |(rest, digits), n| {
                (rest / 10, digits | (rest % 10) << (4 * n))
            });
            (sign | digits.1, if exact { 0 } else { PE } | if up { C1 } else { 0 })
        }
        _ => (INDEFINITE, IE),
    }
}
