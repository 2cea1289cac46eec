//! ADD, SUB, MUL, DIV, SQRT, MIN, MAX, ADDSUB, HADD, HSUB and ROUND (SDM 1 "SSE Packed Arithmetic Instructions", "SSE3 Horizontal
//! Addition/Subtraction", "Rounding Instructions").

use iced_x86::Mnemonic;

use super::{Answer, Control, Double, Exceptions, Operand, Real, Single, get, of_nans, put, rounded};
use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::simd::{Source, Xmm, require_sse};
use crate::execute::x87::arithmetic::{self, Binary, Outcome};
use crate::execute::x87::memory::to_integer;
use crate::execute::{Mem, Reg, Shape};
use crate::fault::Exec;
use crate::float::exception::{IE, PE, ZE};
use crate::float::format::infinity;
use crate::float::{Exact, Rounding, Value};
use crate::observe::Observer;
use crate::op::{Handler, Op};

/// An operation on one lane of each operand.
pub(super) trait Lanewise {
    /// `a` is of the destination, `b` of the source.
    fn lane<R: Real>(a: u64, b: u64, imm: u8, control: &Control) -> Answer;
}

/// The list: the operation, and its mnemonics for packed and scalar lanes of both formats.
macro_rules! lanewise {
    ($($operation:ident: $ps:ident $pd:ident $($ss:ident $sd:ident)?;)*) => {
        fn lanewise<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
            Some(match shape.code.mnemonic() {
                $(
                    Mnemonic::$ps => with::<B, O, Single, $operation, 4, 16>(shape),
                    Mnemonic::$pd => with::<B, O, Double, $operation, 2, 16>(shape),
                    $(
                        Mnemonic::$ss => with::<B, O, Single, $operation, 1, 4>(shape),
                        Mnemonic::$sd => with::<B, O, Double, $operation, 1, 8>(shape),
                    )?
                )*
                _ => return None,
            })
        }
    };
}

lanewise! {
    Add: Addps Addpd Addss Addsd;
    Subtract: Subps Subpd Subss Subsd;
    Multiply: Mulps Mulpd Mulss Mulsd;
    Divide: Divps Divpd Divss Divsd;
    Root: Sqrtps Sqrtpd Sqrtss Sqrtsd;
    Least: Minps Minpd Minss Minsd;
    Greatest: Maxps Maxpd Maxss Maxsd;
    Whole: Roundps Roundpd Roundss Roundsd;
}

/// The bodies.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    lanewise(shape).or_else(|| {
        Some(match shape.code.mnemonic() {
            Mnemonic::Addsubps => pairwise::<B, O, Single, Alternate>(shape),
            Mnemonic::Addsubpd => pairwise::<B, O, Double, Alternate>(shape),
            Mnemonic::Haddps => pairwise::<B, O, Single, Horizontal<Add>>(shape),
            Mnemonic::Haddpd => pairwise::<B, O, Double, Horizontal<Add>>(shape),
            Mnemonic::Hsubps => pairwise::<B, O, Single, Horizontal<Subtract>>(shape),
            Mnemonic::Hsubpd => pairwise::<B, O, Double, Horizontal<Subtract>>(shape),
            _ => return None,
        })
    })
}

fn with<B: Bus, O: Observer, R: Real, K: Lanewise, const COUNT: usize, const BYTES: usize>(
    shape: Shape,
) -> Handler<B, O> {
    if shape.memory { body::<B, O, Mem, R, K, COUNT, BYTES> } else { body::<B, O, Reg, R, K, COUNT, BYTES> }
}

/// The first `COUNT` lanes of the destination, with those of the source; the others stay.
pub(super) fn body<
    B: Bus,
    O: Observer,
    S: Source,
    R: Real,
    K: Lanewise,
    const COUNT: usize,
    const BYTES: usize,
>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec {
    require_sse(cpu)?;
    let source = S::get::<B, O, Xmm, BYTES>(cpu, op)?;
    let control = Control::of(cpu.mxcsr);
    let dest = cpu.xmm[op.reg as usize & 7];
    let (mut value, mut exceptions) = (dest, Exceptions::default());
    for n in 0..COUNT {
        let (a, b) = (get(dest, n, R::BYTES), get(source, n, R::BYTES));
        let answer = K::lane::<R>(a, b, op.imm as u8, &control);
        value = put(value, n, R::BYTES, answer.bits);
        exceptions = exceptions.and(answer.exceptions);
    }
    exceptions.raise(cpu)?;

    cpu.xmm[op.reg as usize & 7] = value;
    Ok(())
}

pub(super) struct Add;
pub(super) struct Subtract;
pub(super) struct Multiply;
struct Divide;

/// What an operation of x87, whose rules for numbers are the same, makes of two lanes.
fn operate<R: Real, K: Binary>(a: u64, b: u64, control: &Control) -> Answer {
    let (a, b) = (Operand::new::<R>(a, control), Operand::new::<R>(b, control));
    if let Some(answer) = of_nans::<R>(&a, &b) {
        return answer;
    }
    let denormal = a.denormal() | b.denormal();
    let sign = |negative: bool| if negative { R::SIGN } else { 0 };
    match K::apply(a.number, b.number, control.rounding) {
        Outcome::Invalid => Answer::invalid::<R>(),
        Outcome::DividesByZero(negative) => Answer::with(infinity(negative, R::FORMAT), ZE),
        Outcome::Zero(negative) => Answer::with(sign(negative), denormal),
        Outcome::Infinity(negative) => Answer::with(infinity(negative, R::FORMAT), denormal),
        Outcome::Finite(exact) => rounded::<R>(exact, control).and_before(denormal),
    }
}

macro_rules! as_x87 {
    ($($name:ident)*) => {$(
        impl Lanewise for $name {
            fn lane<R: Real>(a: u64, b: u64, _: u8, control: &Control) -> Answer {
                operate::<R, arithmetic::$name>(a, b, control)
            }
        }
    )*};
}
as_x87!(Add Subtract Multiply Divide);

struct Root;

impl Lanewise for Root {
    fn lane<R: Real>(_: u64, b: u64, _: u8, control: &Control) -> Answer {
        let operand = Operand::new::<R>(b, control);
        if let Some(answer) = of_nans::<R>(&operand, &operand) {
            return answer;
        }
        match operand.number.value {
            Value::Zero => Answer::exactly(operand.bits),
            _ if operand.number.negative => Answer::invalid::<R>(),
            Value::Finite(exact) => rounded::<R>(exact.square_root(), control).and_before(operand.denormal()),
            _ => Answer::exactly(operand.bits),
        }
    }
}

/// The order of two numbers that are no NaNs: whether `a` is less, and whether they are equal.
pub(super) fn order(a: &Operand, b: &Operand) -> std::cmp::Ordering {
    let key = |operand: &Operand| {
        let magnitude = match operand.number.value {
            Value::Finite(exact) => (exact.exponent, exact.significand),
            Value::Infinity => (i32::MAX, 0),
            _ => (i32::MIN, 0),
        };
        (operand.number.negative && operand.number.value != Value::Zero, magnitude)
    };
    match (key(a), key(b)) {
        ((false, x), (false, y)) => x.cmp(&y),
        ((true, x), (true, y)) => y.cmp(&x),
        ((true, _), _) => std::cmp::Ordering::Less,
        _ => std::cmp::Ordering::Greater,
    }
}

struct Least;
struct Greatest;

/// MIN, MAX: the source if the two are equal or one is a NaN, which is invalid even if quiet.
fn choose<R: Real>(a: u64, b: u64, control: &Control, wanted: std::cmp::Ordering) -> Answer {
    let (a, b) = (Operand::new::<R>(a, control), Operand::new::<R>(b, control));
    if a.is_nan() || b.is_nan() {
        return Answer::with(b.bits, IE);
    }
    let chosen = if order(&a, &b) == wanted { a } else { b };
    Answer::with(chosen.bits, a.denormal() | b.denormal())
}

impl Lanewise for Least {
    fn lane<R: Real>(a: u64, b: u64, _: u8, control: &Control) -> Answer {
        choose::<R>(a, b, control, std::cmp::Ordering::Less)
    }
}

impl Lanewise for Greatest {
    fn lane<R: Real>(a: u64, b: u64, _: u8, control: &Control) -> Answer {
        choose::<R>(a, b, control, std::cmp::Ordering::Greater)
    }
}

/// ROUND: to a whole number, as the immediate says: bits 1 and 0 are RC, bit 2 takes MXCSR's instead, bit 3 is for no PE.
struct Whole;

impl Lanewise for Whole {
    fn lane<R: Real>(_: u64, b: u64, imm: u8, control: &Control) -> Answer {
        let operand = Operand::new::<R>(b, control);
        if let Some(answer) = of_nans::<R>(&operand, &operand) {
            return answer;
        }
        let rounding = if imm & 4 != 0 { control.rounding } else { Rounding::from_control(imm as u32) };
        let Value::Finite(exact) = operand.number.value else { return Answer::exactly(operand.bits) };
        let Some((value, false, _)) = to_integer(exact, rounding) else {
            return Answer::exactly(operand.bits);
        };
        let sign = if exact.negative { R::SIGN } else { 0 };
        let bits = Exact::from_integer(value as i64).map_or(0, |whole| rounded::<R>(whole, control).bits);
        let after = if imm & 8 == 0 { PE } else { 0 };
        Answer { bits: bits | sign, exceptions: Exceptions { before: 0, after } }
    }
}

/// An operation whose lanes come from neighbours, or differ by their number.
trait Pairwise {
    /// Lane `n` of the answer.
    fn lane<R: Real>(dest: u128, source: u128, n: usize, control: &Control) -> Answer;
}

/// ADDSUB: differences in even lanes, sums in odd ones.
struct Alternate;

impl Pairwise for Alternate {
    fn lane<R: Real>(dest: u128, source: u128, n: usize, control: &Control) -> Answer {
        let (a, b) = (get(dest, n, R::BYTES), get(source, n, R::BYTES));
        if n & 1 == 0 { Subtract::lane::<R>(a, b, 0, control) } else { Add::lane::<R>(a, b, 0, control) }
    }
}

/// HADD, HSUB: of neighbours, first the destination's.
struct Horizontal<K>(K);

impl<K: Lanewise> Pairwise for Horizontal<K> {
    fn lane<R: Real>(dest: u128, source: u128, n: usize, control: &Control) -> Answer {
        let half = 8 / R::BYTES;
        let (from, at) = if n < half { (dest, 2 * n) } else { (source, 2 * (n - half)) };
        K::lane::<R>(get(from, at, R::BYTES), get(from, at + 1, R::BYTES), 0, control)
    }
}

fn pairwise<B: Bus, O: Observer, R: Real, K: Pairwise>(shape: Shape) -> Handler<B, O> {
    if shape.memory { pairwise_body::<B, O, Mem, R, K> } else { pairwise_body::<B, O, Reg, R, K> }
}

fn pairwise_body<B: Bus, O: Observer, S: Source, R: Real, K: Pairwise>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec {
    require_sse(cpu)?;
    let source = S::get::<B, O, Xmm, 16>(cpu, op)?;
    let control = Control::of(cpu.mxcsr);
    let dest = cpu.xmm[op.reg as usize & 7];
    let (mut value, mut exceptions) = (0, Exceptions::default());
    for n in 0..16 / R::BYTES {
        let answer = K::lane::<R>(dest, source, n, &control);
        value = put(value, n, R::BYTES, answer.bits);
        exceptions = exceptions.and(answer.exceptions);
    }
    exceptions.raise(cpu)?;

    cpu.xmm[op.reg as usize & 7] = value;
    Ok(())
}
