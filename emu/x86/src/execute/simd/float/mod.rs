//! SSE floating point (SDM 1 "Programming with Intel SSE", "SIMD Floating-Point Exceptions"): what all instructions share, from
//! a lane's bits to a lane's answer.
//!
//! Lanes are computed one by one from [`crate::float`]'s exact numbers. Exceptions are of two kinds: those found before
//! computing (invalid, denormal, division by zero) and those found after (overflow, underflow, precision). The
//! lanes' are gathered; an unmasked one of the first kind in any lane keeps those of the second from being noted.

mod approximate;
mod arithmetic;
mod compare;
mod convert;
mod dot;

use crate::bus::Bus;
use crate::control::{MXCSR_DAZ, MXCSR_FZ};
use crate::cpu::Cpu;
use crate::execute::Shape;
use crate::execute::simd::raise_simd;
use crate::fault::Exec;
use crate::float::exception::{DE, IE, OE, PE, UE};
use crate::float::format::{Number, infinity, unpack};
use crate::float::round::round_unbounded;
use crate::float::{Exact, Format, Rounding, Value, round};
use crate::observe::Observer;
use crate::op::Handler;

/// The bodies.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    arithmetic::handler(shape)
        .or_else(|| compare::handler(shape))
        .or_else(|| convert::handler(shape))
        .or_else(|| approximate::handler(shape))
        .or_else(|| dot::handler(shape))
}

/// A format of lanes.
pub trait Real {
    /// Which.
    const FORMAT: Format;
    /// Bytes of a lane.
    const BYTES: usize;
    /// The sign bit.
    const SIGN: u64 = 1 << (Self::BYTES * 8 - 1);
    /// The bit of a NaN that makes it quiet.
    const QUIET: u64 = 1 << (Self::FORMAT.precision - 2);
}

/// Lanes of single precision.
#[derive(Debug)]
pub struct Single;

/// Lanes of double precision.
#[derive(Debug)]
pub struct Double;

impl Real for Single {
    const FORMAT: Format = Format::SINGLE;
    const BYTES: usize = 4;
}

impl Real for Double {
    const FORMAT: Format = Format::DOUBLE;
    const BYTES: usize = 8;
}

/// Lane `n` of `bytes` bytes.
pub fn get(value: u128, n: usize, bytes: usize) -> u64 {
    let shifted = (value >> (n * bytes * 8)) as u64;
    if bytes == 4 { shifted as u32 as u64 } else { shifted }
}

/// `value` with lane `n` of `bytes` bytes replaced.
pub fn put(value: u128, n: usize, bytes: usize, lane: u64) -> u128 {
    let mask = if bytes == 4 { u32::MAX as u128 } else { u64::MAX as u128 };
    value & !(mask << (n * bytes * 8)) | (lane as u128 & mask) << (n * bytes * 8)
}

/// What MXCSR asks for.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    /// RC.
    pub rounding: Rounding,
    /// Exceptions that are masked, by their flags' bits.
    pub masks: u16,
    /// Denormal operands are zeros.
    pub daz: bool,
    /// Tiny results are zeros (while underflow is masked).
    pub fz: bool,
}

impl Control {
    /// From MXCSR.
    pub fn of(mxcsr: u32) -> Control {
        Control {
            rounding: Rounding::from_control(mxcsr >> 13),
            masks: (mxcsr >> 7) as u16 & 0x3f,
            daz: mxcsr & MXCSR_DAZ != 0,
            fz: mxcsr & MXCSR_FZ != 0,
        }
    }
}

/// Exceptions by the time they are found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Exceptions {
    /// Before computing: IE, DE, ZE.
    pub before: u16,
    /// After: OE, UE, PE.
    pub after: u16,
}

impl Exceptions {
    /// Those of both.
    pub fn and(self, other: Exceptions) -> Exceptions {
        Exceptions { before: self.before | other.before, after: self.after | other.after }
    }

    /// Notes them; #XM if one that counts is unmasked.
    pub fn raise<B: Bus, O: Observer>(self, cpu: &mut Cpu<B, O>) -> Exec {
        let masks = Control::of(cpu.mxcsr).masks;
        let after = if self.before & !masks == 0 { self.after } else { 0 };
        raise_simd(cpu, (self.before | after) as u32)
    }
}

/// A lane's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Its bits.
    pub bits: u64,
    /// Its exceptions.
    pub exceptions: Exceptions,
}

impl Answer {
    /// Bits without exceptions.
    pub fn exactly(bits: u64) -> Answer {
        Answer { bits, exceptions: Exceptions::default() }
    }

    /// Bits with exceptions found before computing.
    pub fn with(bits: u64, before: u16) -> Answer {
        Answer { bits, exceptions: Exceptions { before, after: 0 } }
    }

    /// With more of them.
    pub fn and_before(self, before: u16) -> Answer {
        Answer { bits: self.bits, exceptions: self.exceptions.and(Exceptions { before, after: 0 }) }
    }

    /// Invalid operation: the indefinite QNaN.
    pub fn invalid<R: Real>() -> Answer {
        Answer::with(indefinite::<R>(), IE)
    }
}

/// The QNaN that stands for "no answer".
pub fn indefinite<R: Real>() -> u64 {
    infinity(true, R::FORMAT) | R::QUIET
}

/// An operand: its bits and what they mean.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// The bits; with DAZ, of a zero where they were a denormal's.
    pub bits: u64,
    /// Their meaning.
    pub number: Number,
}

impl Operand {
    /// Takes a lane, and DAZ into account.
    pub fn new<R: Real>(bits: u64, control: &Control) -> Operand {
        let number = unpack(bits, R::FORMAT);
        if control.daz && number.denormal {
            let zero = Number { value: Value::Zero, denormal: false, ..number };
            return Operand { bits: bits & R::SIGN, number: zero };
        }
        Operand { bits, number }
    }

    /// Whether it is a NaN of either kind.
    pub fn is_nan(&self) -> bool {
        matches!(self.number.value, Value::Nan { .. })
    }

    /// Whether it is a signalling NaN.
    pub fn is_signalling(&self) -> bool {
        self.number.value == Value::Nan { quiet: false }
    }

    /// DE if it is denormal.
    pub fn denormal(&self) -> u16 {
        if self.number.denormal { DE } else { 0 }
    }
}

/// What NaNs make of an operation, if there is one among the operands: the first of them, quiet (SDM 1 table "Rules for Handling
/// NaNs", SSE). IE if one is signalling.
pub fn of_nans<R: Real>(a: &Operand, b: &Operand) -> Option<Answer> {
    let nan = if a.is_nan() {
        a
    } else if b.is_nan() {
        b
    } else {
        return None;
    };
    let invalid = a.is_signalling() || b.is_signalling();
    Some(Answer::with(nan.bits | R::QUIET, if invalid { IE } else { 0 }))
}

/// A finite number rounded to a lane.
pub fn rounded<R: Real>(value: Exact, control: &Control) -> Answer {
    let rounded = round(value, R::FORMAT, control.rounding);
    let mut after = rounded.exceptions;
    let mut bits = rounded.double();
    let unmasked = if rounded.tiny { UE } else { after & OE } & !control.masks;
    if unmasked != 0 {
        // precision is then a matter of the result as if exponents had no bounds
        let (.., inexact) = round_unbounded(value, R::FORMAT.precision, control.rounding);
        after = unmasked | if inexact { PE } else { 0 };
    } else if rounded.tiny && control.fz {
        bits = if value.negative { R::SIGN } else { 0 };
        after = UE | PE;
    }
    Answer { bits, exceptions: Exceptions { before: 0, after } }
}
