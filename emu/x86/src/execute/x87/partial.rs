//! FPREM, FPREM1, FRNDINT, FSCALE, FXTRACT (SDM 1 "Basic Arithmetic Instructions").

use iced_x86::Code;

use super::arithmetic::{denormal, of_nans};
use super::memory::{Operand, to_integer};
use super::stack::*;
use crate::bus::Bus;
use crate::cpu::{Cpu, Fpu};
use crate::execute::Shape;
use crate::fault::Exec;
use crate::float::exception::{DE, IE, PE, ZE};
use crate::float::format::{infinity80, pack80};
use crate::float::{Exact, Format, Rounding, Value};
use crate::observe::Observer;
use crate::op::{Handler, Op};

/// The bodies.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code {
        Code::Fprem => remainder::<B, O, false>,
        Code::Fprem1 => remainder::<B, O, true>,
        Code::Frndint => frndint,
        Code::Fscale => fscale,
        Code::Fxtract => fxtract,
        _ => return None,
    })
}

fn signed_zero(negative: bool) -> Real {
    if negative { SIGN } else { 0 }
}

/// The remainder of two finite numbers, or a step towards it: the number, the low bits of the quotient, and whether it is
/// a step only (the exponents are 64 or more apart).
fn reduce(a: Exact, b: Exact, nearest: bool) -> (Option<Exact>, u64, bool) {
    let distance = a.exponent - b.exponent;
    if distance < -1 || (distance < 0 && !nearest) {
        return (Some(a), 0, false);
    }
    let (dividend, divisor) = ((a.significand >> 64) as u64, (b.significand >> 64) as u64);
    let partial = distance >= 64;
    // Hardware: an incomplete reduction takes off a multiple of 32 exponents less the distance's own last bits
    let bits = if partial { (distance & 31 | 32) as u32 } else { distance.max(0) as u32 };
    // schoolbook division, one bit of the quotient at a time
    let mut quotient: u64 = 0;
    let mut rest = dividend as u128;
    if distance >= 0 {
        for step in 0..=bits {
            quotient <<= 1;
            if rest >= divisor as u128 {
                rest -= divisor as u128;
                quotient |= 1;
            }
            if step != bits {
                rest <<= 1;
            }
        }
    }
    let mut negative = a.negative;
    // the exponent of the last bit of `rest`
    let last = if partial { a.exponent - bits as i32 } else { b.exponent.min(a.exponent) } - 63;
    if nearest && !partial {
        let divisor = if distance < 0 { (divisor as u128) << 1 } else { divisor as u128 };
        let twice = rest << 1;
        if twice > divisor || (twice == divisor && quotient & 1 != 0) {
            rest = divisor - rest;
            negative = !negative;
            quotient += 1;
        }
    }
    if rest == 0 {
        return (None, quotient, partial);
    }
    let shift = rest.leading_zeros();
    let exact = Exact { negative, exponent: last + 127 - shift as i32, significand: rest << shift };
    (Some(exact), quotient, partial)
}

/// FPREM (truncating) and FPREM1 (to nearest): C2 tells that it is not complete; else C0, C3, C1 hold the low three bits
/// of the quotient.
fn remainder<B: Bus, O: Observer, const NEAREST: bool>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let fpu = &mut cpu.state.fpu;
    let (Some(top), Some(next)) = (fpu.st(0), fpu.st(1)) else {
        fpu.answer(0, Answer::UNDERFLOW);
        fpu.status &= !C2;
        return Ok(());
    };
    let (a, b) = (Operand::of(top), Operand::of(next));
    let mut codes = None;
    let answer = of_nans(a, b).unwrap_or_else(|| {
        let denormal = denormal(&[a, b]);
        let blocked = denormal & !fpu.control != 0;
        match (a.number.value, b.number.value) {
            (Value::Infinity, _) | (_, Value::Zero) => Answer::INVALID,
            (Value::Finite(x), Value::Finite(y)) if !blocked => {
                let (rest, quotient, partial) = reduce(x, y, NEAREST);
                let bit = |n: u64, code: u16| if quotient >> n & 1 != 0 { code } else { 0 };
                codes = Some(if partial { C2 } else { bit(2, C0) | bit(1, C3) | bit(0, C1) });
                let answer = match rest {
                    Some(exact) => fpu.rounded(exact, Format::EXTENDED),
                    None => Answer::exactly(signed_zero(a.number.negative)),
                };
                answer.and(denormal)
            }
            (Value::Finite(x), Value::Infinity) if !blocked => {
                codes = Some(0);
                fpu.rounded(x, Format::EXTENDED).and(denormal)
            }
            (Value::Finite(_), _) => Answer::exactly(top).and(denormal),
            _ => {
                codes = (!blocked).then_some(0);
                Answer::exactly(top).and(denormal)
            }
        }
    });
    // Hardware: without a quotient, C2 alone is cleared
    let changed = codes.map_or(C2, |_| C3 | C2 | C1 | C0);
    fpu.answer(0, answer);
    fpu.status = fpu.status & !changed | codes.unwrap_or(0);
    Ok(())
}

/// FRNDINT.
fn frndint<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let fpu = &mut cpu.state.fpu;
    let answer = match fpu.st(0).map(Operand::of) {
        None => Answer::UNDERFLOW,
        Some(a) => of_nans(a, a).unwrap_or_else(|| match a.number.value {
            Value::Finite(_) if denormal(&[a]) & !fpu.control != 0 => Answer::exactly(a.bits).and(DE),
            Value::Finite(exact) => whole(exact, fpu.rounding(), a).and(denormal(&[a])),
            _ => Answer::exactly(a.bits),
        }),
    };
    fpu.answer(0, answer);
    Ok(())
}

fn whole(exact: Exact, rounding: Rounding, operand: Operand) -> Answer {
    match to_integer(exact, rounding) {
        None => Answer::exactly(operand.bits),
        Some((_, true, _)) => Answer::exactly(operand.bits),
        Some((value, _, up)) => {
            let magnitude = value.unsigned_abs();
            let shift = magnitude.leading_zeros();
            let value = match magnitude {
                0 => signed_zero(exact.negative),
                _ => pack80(exact.negative, 127 - shift as i32, ((magnitude << shift) >> 64) as u64),
            };
            Answer { value, exceptions: PE | if up { C1 } else { 0 } }
        }
    }
}

/// FSCALE: ST(0) times two to the power of ST(1), truncated.
fn fscale<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let fpu = &mut cpu.state.fpu;
    let answer = match (fpu.st(0), fpu.st(1)) {
        (Some(a), Some(b)) => scale(fpu, Operand::of(a), Operand::of(b)),
        _ => Answer::UNDERFLOW,
    };
    fpu.answer(0, answer);
    Ok(())
}

fn scale(fpu: &Fpu, a: Operand, b: Operand) -> Answer {
    /// Beyond what any number can be scaled by without leaving the range.
    const FAR: i32 = 0x2_0000;
    if let Some(answer) = of_nans(a, b) {
        return answer;
    }
    let denormal = denormal(&[a, b]);
    let negative = a.number.negative;
    match (a.number.value, b.number.value) {
        (Value::Zero, Value::Infinity) if !b.number.negative => Answer::INVALID,
        (Value::Infinity, Value::Infinity) if b.number.negative => Answer::INVALID,
        (_, Value::Infinity) if b.number.negative => Answer::exactly(signed_zero(negative)).and(denormal),
        (_, Value::Infinity) => Answer::exactly(infinity80(negative)).and(denormal),
        (Value::Finite(_), Value::Finite(_) | Value::Zero) if denormal & !fpu.control != 0 => {
            Answer::exactly(a.bits).and(denormal)
        }
        (Value::Finite(x), Value::Zero) => fpu.rounded(x, Format::EXTENDED).and(denormal),
        (Value::Finite(x), Value::Finite(y)) => {
            let by = match to_integer(y, Rounding::Zero) {
                Some((by, ..)) => by.clamp(-FAR as i128, FAR as i128) as i32,
                None if y.negative => -FAR,
                None => FAR,
            };
            fpu.rounded(Exact { exponent: x.exponent + by, ..x }, Format::EXTENDED).and(denormal)
        }
        _ => Answer::exactly(a.bits).and(denormal),
    }
}

/// FXTRACT: the exponent takes ST(0)'s place, the significand is pushed.
fn fxtract<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let fpu = &mut cpu.state.fpu;
    let full = fpu.st(7).is_some();
    let (exponent, significand, exceptions) = match fpu.st(0).map(Operand::of) {
        None => (INDEFINITE, INDEFINITE, IE | SF),
        Some(_) if full => (INDEFINITE, INDEFINITE, IE | SF | C1),
        Some(a) => match (of_nans(a, a), a.number.value) {
            (Some(answer), _) => (answer.value, answer.value, answer.exceptions),
            (_, Value::Zero) => (infinity80(true), a.bits, ZE),
            (_, Value::Finite(exact)) => {
                let exponent = match Exact::from_integer(exact.exponent as i64) {
                    Some(e) => pack80(e.negative, e.exponent, (e.significand >> 64) as u64),
                    None => 0,
                };
                let significand = pack80(exact.negative, 0, (exact.significand >> 64) as u64);
                (exponent, significand, if a.number.denormal { DE } else { 0 })
            }
            _ => (infinity80(false), a.bits, 0),
        },
    };
    if fpu.raise(exceptions) {
        fpu.set_st(0, exponent);
        fpu.move_top(7);
        fpu.set_st(0, significand);
    }
    Ok(())
}
