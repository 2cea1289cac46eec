//! FADD, FSUB, FMUL, FDIV and their kin; FSQRT; the rules for NaNs (SDM 1 "Basic Arithmetic Instructions", "Operating
//! on SNaNs and QNaNs").

use iced_x86::{Code, Mnemonic, OpCodeOperandKind as Kind};

use super::memory::{Operand, Source};
use super::stack::*;
use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::Shape;
use crate::fault::Exec;
use crate::float::exception::{DE, IE, ZE};
use crate::float::format::{Number, infinity80, unpack80};
use crate::float::{Exact, Rounding, Value};
use crate::observe::Observer;
use crate::op::{Handler, Op};

/// The bodies.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    use Mnemonic as M;
    match shape.code.mnemonic() {
        M::Fadd | M::Faddp | M::Fiadd => binary::<B, O, Add>(shape),
        M::Fsub | M::Fsubp | M::Fisub => binary::<B, O, Subtract>(shape),
        M::Fsubr | M::Fsubrp | M::Fisubr => binary::<B, O, Reversed<Subtract>>(shape),
        M::Fmul | M::Fmulp | M::Fimul => binary::<B, O, Multiply>(shape),
        M::Fdiv | M::Fdivp | M::Fidiv => binary::<B, O, Divide>(shape),
        M::Fdivr | M::Fdivrp | M::Fidivr => binary::<B, O, Reversed<Divide>>(shape),
        M::Fsqrt => Some(fsqrt),
        _ => None,
    }
}

fn binary<B: Bus, O: Observer, A: Binary>(shape: Shape) -> Option<Handler<B, O>> {
    let op_code = shape.code.op_code();
    let pops = matches!(
        shape.code.mnemonic(),
        Mnemonic::Faddp
            | Mnemonic::Fsubp
            | Mnemonic::Fsubrp
            | Mnemonic::Fmulp
            | Mnemonic::Fdivp
            | Mnemonic::Fdivrp
    );
    let is_integer = matches!(op_code.op_code() & 0xff, 0xda | 0xde);
    Some(match (op_code.op0_kind(), op_code.op1_kind()) {
        (Kind::st0, Kind::sti_opcode) => with_register::<B, O, A, true, false>,
        (Kind::sti_opcode, _) if pops => with_register::<B, O, A, false, true>,
        (Kind::sti_opcode, _) => with_register::<B, O, A, false, false>,
        (Kind::mem, _) => match (is_integer, shape.code) {
            (false, code) if is_single(code) => with_memory::<B, O, A, super::memory::Single>,
            (false, _) => with_memory::<B, O, A, super::memory::Double>,
            (true, _) if op_code.op_code() & 0xff == 0xda => with_memory::<B, O, A, super::memory::Dword>,
            (true, _) => with_memory::<B, O, A, super::memory::Word>,
        },
        _ => return None,
    })
}

fn is_single(code: Code) -> bool {
    code.op_code().op_code() & 0xff == 0xd8
}

/// What two numbers come to that are neither NaN nor unsupported.
pub(in crate::execute) enum Outcome {
    Invalid,
    /// Division of a finite number by zero; the sign of the infinity.
    DividesByZero(bool),
    Zero(bool),
    Infinity(bool),
    Finite(Exact),
}

/// `a op b`.
pub(in crate::execute) trait Binary {
    fn apply(a: Number, b: Number, rounding: Rounding) -> Outcome;
}

pub(in crate::execute) struct Add;
impl Binary for Add {
    fn apply(a: Number, b: Number, rounding: Rounding) -> Outcome {
        let zero_of_opposites = rounding == Rounding::Down;
        match (a.value, b.value) {
            (Value::Infinity, Value::Infinity) if a.negative != b.negative => Outcome::Invalid,
            (Value::Infinity, _) => Outcome::Infinity(a.negative),
            (_, Value::Infinity) => Outcome::Infinity(b.negative),
            (Value::Finite(x), Value::Finite(y)) => match x.plus(y) {
                Some(sum) => Outcome::Finite(sum),
                None => Outcome::Zero(zero_of_opposites),
            },
            (Value::Finite(x), _) | (_, Value::Finite(x)) => Outcome::Finite(x),
            _ if a.negative == b.negative => Outcome::Zero(a.negative),
            _ => Outcome::Zero(zero_of_opposites),
        }
    }
}

pub(in crate::execute) struct Subtract;
impl Binary for Subtract {
    fn apply(a: Number, b: Number, rounding: Rounding) -> Outcome {
        let value = match b.value {
            Value::Finite(y) => Value::Finite(y.negated()),
            other => other,
        };
        Add::apply(a, Number { negative: !b.negative, value, ..b }, rounding)
    }
}

pub(in crate::execute) struct Multiply;
impl Binary for Multiply {
    fn apply(a: Number, b: Number, _: Rounding) -> Outcome {
        let negative = a.negative != b.negative;
        match (a.value, b.value) {
            (Value::Infinity, Value::Zero) | (Value::Zero, Value::Infinity) => Outcome::Invalid,
            (Value::Infinity, _) | (_, Value::Infinity) => Outcome::Infinity(negative),
            (Value::Finite(x), Value::Finite(y)) => Outcome::Finite(x.times(y)),
            _ => Outcome::Zero(negative),
        }
    }
}

pub(in crate::execute) struct Divide;
impl Binary for Divide {
    fn apply(a: Number, b: Number, _: Rounding) -> Outcome {
        let negative = a.negative != b.negative;
        match (a.value, b.value) {
            (Value::Infinity, Value::Infinity) | (Value::Zero, Value::Zero) => Outcome::Invalid,
            (Value::Infinity, _) => Outcome::Infinity(negative),
            (_, Value::Zero) => Outcome::DividesByZero(negative),
            (Value::Finite(x), Value::Finite(y)) => Outcome::Finite(x.over(y)),
            _ => Outcome::Zero(negative),
        }
    }
}

struct Reversed<A>(A);
impl<A: Binary> Binary for Reversed<A> {
    fn apply(a: Number, b: Number, rounding: Rounding) -> Outcome {
        A::apply(b, a, rounding)
    }
}

/// What unsupported encodings and NaNs make of an operation, if there is one among the operands (SDM 1 table "Rules for
/// Handling NaNs"): the NaN with the larger significand, quiet; of equal ones the positive one.
pub(super) fn of_nans(a: Operand, b: Operand) -> Option<Answer> {
    let values = [a.number.value, b.number.value];
    if values.contains(&Value::Unsupported) {
        return Some(Answer::INVALID);
    }
    let is_nan = |value| matches!(value, Value::Nan { .. });
    let signalling = values.contains(&Value::Nan { quiet: false });
    let larger = |x: Real, y: Real| match (x as u64).cmp(&(y as u64)) {
        std::cmp::Ordering::Greater => x,
        std::cmp::Ordering::Less => y,
        std::cmp::Ordering::Equal => x & y,
    };
    let quiet = |operand: Operand| operand.number.value == Value::Nan { quiet: true };
    let chosen = match (is_nan(values[0]), is_nan(values[1])) {
        (false, false) => return None,
        (true, false) => a.bits,
        (false, true) => b.bits,
        // a signalling NaN gives way to a quiet one
        _ if quiet(a) != quiet(b) => {
            if quiet(a) {
                a.bits
            } else {
                b.bits
            }
        }
        _ => larger(a.bits, b.bits),
    };
    Some(Answer { value: chosen | QUIET, exceptions: if signalling { IE } else { 0 } })
}

/// DE, if an operand is denormal.
pub(super) fn denormal(operands: &[Operand]) -> u16 {
    if operands.iter().any(|operand| operand.number.denormal) { DE } else { 0 }
}

/// What an instruction of two operands answers.
fn operate<A: Binary>(fpu: &crate::cpu::Fpu, a: Operand, b: Operand) -> Answer {
    if let Some(answer) = of_nans(a, b) {
        return answer;
    }
    let denormal = denormal(&[a, b]);
    match A::apply(a.number, b.number, fpu.rounding()) {
        Outcome::Invalid => Answer::INVALID,
        // Hardware: a denormal dividend is not reported then
        Outcome::DividesByZero(negative) => Answer { value: infinity80(negative), exceptions: ZE },
        Outcome::Zero(negative) => Answer { value: if negative { SIGN } else { 0 }, exceptions: denormal },
        Outcome::Infinity(negative) => Answer { value: infinity80(negative), exceptions: denormal },
        Outcome::Finite(_) if denormal & !fpu.control != 0 => Answer { value: 0, exceptions: denormal },
        Outcome::Finite(exact) => fpu.rounded(exact, fpu.precision()).and(denormal),
    }
}

/// `op ST(0), ST(i)`, `op ST(i), ST(0)`, and the latter with a pop.
fn with_register<B: Bus, O: Observer, A: Binary, const TO_TOP: bool, const POP: bool>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let fpu = &mut cpu.state.fpu;
    let (dest, source) = if TO_TOP { (0, op.reg) } else { (op.reg, 0) };
    let answer = match (fpu.st(dest), fpu.st(source)) {
        (Some(a), Some(b)) => operate::<A>(fpu, Operand::of(a), Operand::of(b)),
        _ => Answer::UNDERFLOW,
    };
    if fpu.answer(dest, answer) && POP {
        fpu.pop();
    }
    Ok(())
}

/// `op ST(0), m`.
fn with_memory<B: Bus, O: Observer, A: Binary, S: Source>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;
    let source = S::read(cpu, op)?;

    note_instruction(cpu, op);
    note_operand(cpu, op);
    let fpu = &mut cpu.state.fpu;
    let answer = match fpu.st(0) {
        Some(a) => operate::<A>(fpu, Operand::of(a), source),
        None => Answer::UNDERFLOW,
    };
    fpu.answer(0, answer);
    Ok(())
}

/// FSQRT.
fn fsqrt<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let fpu = &mut cpu.state.fpu;
    let answer = match fpu.st(0).map(Operand::of) {
        None => Answer::UNDERFLOW,
        Some(a) => of_nans(a, a).unwrap_or_else(|| match a.number.value {
            Value::Zero => Answer::exactly(a.bits),
            _ if a.number.negative => Answer::INVALID,
            Value::Finite(exact) if denormal(&[a]) == 0 || fpu.masks(DE) => {
                fpu.rounded(exact.square_root(), fpu.precision()).and(denormal(&[a]))
            }
            _ => Answer::exactly(a.bits).and(denormal(&[a])),
        }),
    };
    fpu.answer(0, answer);
    Ok(())
}

impl Operand {
    /// A register's contents.
    pub(super) fn of(bits: Real) -> Operand {
        Operand { bits, number: unpack80(bits) }
    }
}
