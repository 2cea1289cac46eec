//! RCP and RSQRT (SDM 2B "RCPPS", "RSQRTPS"): approximations with a relative error of at most 1.5 * 2^-12, without exceptions,
//! whatever MXCSR says.
//!
//! Choice: each processor has its own tables. Here answers are the exact value to 13 bits, which is well within the bound.

use iced_x86::Mnemonic;

use super::arithmetic::{Lanewise, body};
use super::{Answer, Control, Operand, Real, Single, indefinite, of_nans};
use crate::bus::Bus;
use crate::execute::{Mem, Reg, Shape};
use crate::float::format::{infinity, pack};
use crate::float::round::round_unbounded;
use crate::float::{Exact, Format, Rounding, Value};
use crate::observe::Observer;
use crate::op::Handler;

/// The bodies.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match (shape.code.mnemonic(), shape.memory) {
        (Mnemonic::Rcpps, true) => body::<B, O, Mem, Single, Reciprocal, 4, 16>,
        (Mnemonic::Rcpps, false) => body::<B, O, Reg, Single, Reciprocal, 4, 16>,
        (Mnemonic::Rcpss, true) => body::<B, O, Mem, Single, Reciprocal, 1, 4>,
        (Mnemonic::Rcpss, false) => body::<B, O, Reg, Single, Reciprocal, 1, 4>,
        (Mnemonic::Rsqrtps, true) => body::<B, O, Mem, Single, ReciprocalRoot, 4, 16>,
        (Mnemonic::Rsqrtps, false) => body::<B, O, Reg, Single, ReciprocalRoot, 4, 16>,
        (Mnemonic::Rsqrtss, true) => body::<B, O, Mem, Single, ReciprocalRoot, 1, 4>,
        (Mnemonic::Rsqrtss, false) => body::<B, O, Reg, Single, ReciprocalRoot, 1, 4>,
        _ => return None,
    })
}

struct Reciprocal;
struct ReciprocalRoot;

/// Denormals count as zeros, tiny answers are zeros.
const SILENT: Control = Control { rounding: Rounding::Nearest, masks: 0x3f, daz: true, fz: true };

/// What both do with all but finite numbers; none of it is reported.
fn approximate<R: Real>(bits: u64, f: impl Fn(Exact) -> Option<Exact>) -> Answer {
    const PRECISION: u32 = 13;
    let operand = Operand::new::<R>(bits, &SILENT);
    if let Some(answer) = of_nans::<R>(&operand, &operand) {
        return Answer::exactly(answer.bits);
    }
    let negative = operand.number.negative;
    Answer::exactly(match operand.number.value {
        Value::Zero => infinity(negative, R::FORMAT),
        Value::Finite(exact) => match f(exact) {
            None => indefinite::<R>(),
            Some(value) => {
                let (significand, exponent, ..) = round_unbounded(value, PRECISION, Rounding::Nearest);
                let tiny = exponent < Format::SINGLE.min_exponent();
                pack(negative, exponent, if tiny { 0 } else { significand }, R::FORMAT)
            }
        },
        _ if f(Exact { negative, ..ONE }).is_none() => indefinite::<R>(),
        _ => operand.bits & R::SIGN,
    })
}

const ONE: Exact = Exact { negative: false, exponent: 0, significand: 1 << 127 };

impl Lanewise for Reciprocal {
    fn lane<R: Real>(_: u64, b: u64, _: u8, _: &Control) -> Answer {
        approximate::<R>(b, |value| Some(ONE.over(value)))
    }
}

impl Lanewise for ReciprocalRoot {
    fn lane<R: Real>(_: u64, b: u64, _: u8, _: &Control) -> Answer {
        approximate::<R>(b, |value| (!value.negative).then(|| ONE.over(value.square_root())))
    }
}
