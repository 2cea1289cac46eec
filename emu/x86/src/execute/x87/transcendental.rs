//! FSIN, FCOS, FSINCOS, FPTAN, FPATAN, F2XM1, FYL2X, FYL2XP1 (SDM 1 "Trigonometric Instructions", "Logarithmic,
//! Exponential, and Scale", "Transcendental Instruction Accuracy").
//!
//! Results are rounded to 64 bits whatever the precision control says, from about 120 bits: the processor's may be the other
//! neighbour of the true value. The manual leaves open what F2XM1 and FYL2XP1 answer outside of their ranges.

use iced_x86::Code;

use super::arithmetic::{denormal, of_nans};
use super::memory::Operand;
use super::stack::*;
use crate::bus::Bus;
use crate::cpu::{Cpu, Fpu};
use crate::execute::Shape;
use crate::fault::Exec;
use crate::float::exception::{DE, PE, UE, ZE};
use crate::float::format::infinity80;
use crate::float::{Exact, Format, Value, elementary};
use crate::observe::Observer;
use crate::op::{Handler, Op};

const ONE: Real = 0x3fff_8000_0000_0000_0000;

/// The bodies.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code {
        Code::Fsin => of_angle::<B, O, Sine>,
        Code::Fcos => of_angle::<B, O, Cosine>,
        Code::Fsincos => fsincos,
        Code::Fptan => fptan,
        Code::F2xm1 => f2xm1,
        Code::Fpatan => of_two::<B, O, Arctangent>,
        Code::Fyl2x => of_two::<B, O, Logarithm>,
        Code::Fyl2xp1 => of_two::<B, O, LogarithmOfOneMore>,
        _ => return None,
    })
}

fn zero(negative: bool) -> Answer {
    Answer::exactly(if negative { SIGN } else { 0 })
}

fn infinity(negative: bool) -> Answer {
    Answer::exactly(infinity80(negative))
}

/// Rounds a number. Hardware: one that happens to be exact counts as inexact all the same.
fn rounded(fpu: &Fpu, value: Exact) -> Answer {
    let answer = fpu.rounded(value, Format::EXTENDED);
    let is_exact_and_tiny = answer.exceptions & PE == 0 && value.exponent < Format::EXTENDED.min_exponent();
    answer.and(PE | if is_exact_and_tiny { UE } else { 0 })
}

/// A function of an angle.
trait Trigonometric {
    /// Of zero.
    fn of_zero(zero: Real) -> Real;
    fn choose(sine: Exact, cosine: Exact) -> Exact;
}

struct Sine;
impl Trigonometric for Sine {
    fn of_zero(zero: Real) -> Real {
        zero
    }
    fn choose(sine: Exact, _: Exact) -> Exact {
        sine
    }
}

struct Cosine;
impl Trigonometric for Cosine {
    fn of_zero(_: Real) -> Real {
        ONE
    }
    fn choose(_: Exact, cosine: Exact) -> Exact {
        cosine
    }
}

/// What an angle comes to.
enum Angle {
    /// NaN, infinity, an unmasked denormal: the answer for every result.
    Special(Answer),
    Zero(Real),
    Within(Exact),
    /// 2^63 or more: C2 is set and nothing else happens.
    OutOfRange,
}

impl Angle {
    fn of(fpu: &Fpu, angle: Operand) -> Angle {
        if let Some(answer) = of_nans(angle, angle) {
            return Angle::Special(answer);
        }
        match angle.number.value {
            Value::Zero => Angle::Zero(angle.bits),
            Value::Finite(exact) if exact.exponent >= 63 => Angle::OutOfRange,
            Value::Finite(_) if denormal(&[angle]) != 0 && !fpu.masks(DE) => {
                Angle::Special(Answer::exactly(angle.bits).and(DE))
            }
            Value::Finite(exact) => Angle::Within(exact),
            _ => Angle::Special(Answer::INVALID),
        }
    }
}

/// FSIN, FCOS.
fn of_angle<B: Bus, O: Observer, T: Trigonometric>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let fpu = &mut cpu.state.fpu;
    let Some(operand) = fpu.st(0).map(Operand::of) else {
        fpu.answer(0, Answer::UNDERFLOW);
        fpu.status &= !C2;
        return Ok(());
    };
    let answer = match Angle::of(fpu, operand) {
        Angle::Special(answer) => answer,
        Angle::Zero(zero) => Answer::exactly(T::of_zero(zero)),
        Angle::Within(exact) => match elementary::sine_and_cosine(exact) {
            Some((sine, cosine)) => rounded(fpu, T::choose(sine, cosine)).and(denormal(&[operand])),
            None => Answer::exactly(operand.bits),
        },
        Angle::OutOfRange => {
            fpu.raise(0);
            fpu.status |= C2;
            return Ok(());
        }
    };
    fpu.answer(0, answer);
    fpu.status &= !C2;
    Ok(())
}

/// Puts one answer into ST(0) and pushes another, with the exceptions of both.
fn answer_and_push(fpu: &mut Fpu, below: Answer, pushed: Answer) {
    if fpu.raise(below.exceptions | pushed.exceptions) {
        fpu.set_st(0, below.value);
        fpu.move_top(7);
        fpu.set_st(0, pushed.value);
    }
    fpu.status &= !C2;
}

/// The angle in ST(0) of an instruction that pushes; `None` if that was all.
fn angle_with_push(fpu: &mut Fpu) -> Option<(Operand, Angle)> {
    let full = fpu.st(7).is_some();
    let operand = fpu.st(0).map(Operand::of);
    let fault = match operand {
        None => Answer::UNDERFLOW,
        Some(_) if full => Answer::UNDERFLOW.and(C1),
        Some(operand) => match Angle::of(fpu, operand) {
            Angle::Special(answer) => answer,
            Angle::OutOfRange => {
                fpu.raise(0);
                fpu.status |= C2;
                return None;
            }
            angle => return Some((operand, angle)),
        },
    };
    answer_and_push(fpu, fault, fault);
    None
}

/// FSINCOS: the sine takes ST(0)'s place, the cosine is pushed.
fn fsincos<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let fpu = &mut cpu.state.fpu;
    let Some((operand, angle)) = angle_with_push(fpu) else { return Ok(()) };
    let (sine, cosine) = match angle {
        Angle::Within(exact) => match elementary::sine_and_cosine(exact) {
            Some((sine, cosine)) => (rounded(fpu, sine), rounded(fpu, cosine)),
            None => return Ok(()),
        },
        _ => (Answer::exactly(operand.bits), Answer::exactly(ONE)),
    };
    answer_and_push(fpu, sine.and(denormal(&[operand])), cosine);
    Ok(())
}

/// FPTAN: the tangent takes ST(0)'s place, 1 is pushed.
fn fptan<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let fpu = &mut cpu.state.fpu;
    let Some((operand, angle)) = angle_with_push(fpu) else { return Ok(()) };
    let tangent = match angle {
        Angle::Within(exact) => match elementary::tangent(exact) {
            Some(tangent) => rounded(fpu, tangent),
            None => return Ok(()),
        },
        _ => Answer::exactly(operand.bits),
    };
    answer_and_push(fpu, tangent.and(denormal(&[operand])), Answer::exactly(ONE));
    Ok(())
}

/// Whether a magnitude is more than 1.
fn is_more_than_one(x: Exact) -> bool {
    (x.exponent, x.significand) > (0, 1 << 127)
}

/// F2XM1.
fn f2xm1<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let fpu = &mut cpu.state.fpu;
    let answer = match fpu.st(0).map(Operand::of) {
        None => Answer::UNDERFLOW,
        Some(a) => of_nans(a, a).unwrap_or_else(|| match a.number.value {
            Value::Infinity if a.number.negative => Answer::exactly(SIGN | ONE),
            Value::Finite(_) if denormal(&[a]) != 0 && !fpu.masks(DE) => Answer::exactly(a.bits).and(DE),
            // Hardware: out of range, the operand is the result
            Value::Finite(x) if is_more_than_one(x) => Answer::exactly(a.bits).and(PE),
            Value::Finite(x) => rounded(fpu, elementary::power_of_two_less_one(x)).and(denormal(&[a])),
            _ => Answer::exactly(a.bits),
        }),
    };
    fpu.answer(0, answer);
    Ok(())
}

/// A function of ST(0) and ST(1) that replaces both by one value.
trait OfTwo {
    /// Neither is a NaN or unsupported.
    fn apply(fpu: &Fpu, x: Operand, y: Operand) -> Answer;
}

fn of_two<B: Bus, O: Observer, F: OfTwo>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let fpu = &mut cpu.state.fpu;
    let answer = match (fpu.st(0), fpu.st(1)) {
        (Some(x), Some(y)) => {
            let (x, y) = (Operand::of(x), Operand::of(y));
            of_nans(x, y).unwrap_or_else(|| F::apply(fpu, x, y))
        }
        _ => Answer::UNDERFLOW,
    };
    if fpu.answer(1, answer) {
        fpu.pop();
    }
    Ok(())
}

struct Arctangent;
impl OfTwo for Arctangent {
    fn apply(fpu: &Fpu, x: Operand, y: Operand) -> Answer {
        let denormal = denormal(&[x, y]);
        if denormal & !fpu.control != 0 {
            return Answer::exactly(0).and(denormal);
        }
        let (left, down) = (x.number.negative, y.number.negative);
        let quarters = |count| Exact { negative: down, ..elementary::quarters_of_pi(count) };
        let angle = match (y.number.value, x.number.value) {
            (Value::Finite(y), Value::Finite(x)) => elementary::arctangent(y, x),
            (Value::Infinity, Value::Infinity) => quarters(if left { 3 } else { 1 }),
            (Value::Zero, _) | (_, Value::Infinity) if !left => return zero(down).and(denormal),
            (Value::Zero, _) | (_, Value::Infinity) => quarters(4),
            _ => quarters(2),
        };
        rounded(fpu, angle).and(denormal)
    }
}

struct Logarithm;
impl OfTwo for Logarithm {
    fn apply(fpu: &Fpu, x: Operand, y: Operand) -> Answer {
        let denormal = denormal(&[x, y]);
        let down = y.number.negative;
        if x.number.value != Value::Zero && x.number.negative {
            return Answer::INVALID;
        }
        let (x, y) = (x.number.value, y.number.value);
        let below_one = matches!(x, Value::Finite(x) if x.exponent < 0);
        let is_one = matches!(x, Value::Finite(x) if x.exponent == 0 && x.significand == 1 << 127);
        match (x, y) {
            (Value::Zero | Value::Infinity, Value::Zero) => Answer::INVALID,
            (Value::Zero, Value::Infinity) => infinity(!down),
            (Value::Zero, _) => Answer { value: infinity80(!down), exceptions: ZE },
            (_, Value::Infinity) if is_one => Answer::INVALID,
            _ if denormal & !fpu.control != 0 => Answer::exactly(0).and(denormal),
            (Value::Infinity, _) => infinity(down).and(denormal),
            (_, Value::Infinity) => infinity(down != below_one).and(denormal),
            (Value::Finite(x), Value::Finite(y)) => match elementary::logarithm(x) {
                Some(logarithm) => rounded(fpu, logarithm.wide_times(y)).and(denormal),
                None => zero(down).and(denormal),
            },
            _ => zero(down != below_one).and(denormal),
        }
    }
}

struct LogarithmOfOneMore;
impl OfTwo for LogarithmOfOneMore {
    fn apply(fpu: &Fpu, x: Operand, y: Operand) -> Answer {
        let denormal = denormal(&[x, y]);
        let negative = x.number.negative != y.number.negative;
        match (x.number.value, y.number.value) {
            (Value::Infinity, _) if x.number.negative => Answer::INVALID,
            (Value::Infinity, Value::Zero) | (Value::Zero, Value::Infinity) => Answer::INVALID,
            _ if denormal & !fpu.control != 0 => Answer::exactly(0).and(denormal),
            (Value::Infinity, _) | (_, Value::Infinity) => infinity(negative).and(denormal),
            // Hardware: where there is no logarithm, x is the result
            (Value::Finite(n), Value::Finite(_)) if n.negative && n.exponent >= 0 => {
                Answer::exactly(x.bits).and(PE | denormal)
            }
            (Value::Finite(x), Value::Finite(y)) => {
                rounded(fpu, elementary::logarithm_of_one_more(x).wide_times(y)).and(denormal)
            }
            _ => zero(negative).and(denormal),
        }
    }
}
