//! Conversions between formats and integers (SDM 1 "SSE Conversion Instructions", "SSE2 Conversion Instructions").

use iced_x86::{Code, Mnemonic};

use super::{Answer, Control, Double, Exceptions, Operand, Real, Single, get, of_nans, put, rounded};
use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::simd::{File, Mm, Source, Xmm, load, require_both, require_sse};
use crate::execute::x87::memory::to_integer;
use crate::execute::{Mem, Reg, Shape};
use crate::fault::Exec;
use crate::float::exception::{IE, PE};
use crate::float::format::infinity;
use crate::float::{Exact, Rounding, Value};
use crate::observe::Observer;
use crate::op::{Handler, Op};

/// The bodies.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code.mnemonic() {
        Mnemonic::Cvtps2pd => lanes::<B, O, Between<Single, Double>, 2, 8>(shape),
        Mnemonic::Cvtpd2ps => lanes::<B, O, Between<Double, Single>, 2, 16>(shape),
        Mnemonic::Cvtss2sd => scalar::<B, O, Between<Single, Double>, 4>(shape),
        Mnemonic::Cvtsd2ss => scalar::<B, O, Between<Double, Single>, 8>(shape),
        Mnemonic::Cvtdq2ps => lanes::<B, O, FromInteger<Single>, 4, 16>(shape),
        Mnemonic::Cvtdq2pd => lanes::<B, O, FromInteger<Double>, 2, 8>(shape),
        Mnemonic::Cvtps2dq => lanes::<B, O, ToInteger<Single>, 4, 16>(shape),
        Mnemonic::Cvttps2dq => lanes::<B, O, Truncate<Single>, 4, 16>(shape),
        Mnemonic::Cvtpd2dq => lanes::<B, O, ToInteger<Double>, 2, 16>(shape),
        Mnemonic::Cvttpd2dq => lanes::<B, O, Truncate<Double>, 2, 16>(shape),
        Mnemonic::Cvtps2pi => to_mmx::<B, O, ToInteger<Single>, 8>(shape),
        Mnemonic::Cvttps2pi => to_mmx::<B, O, Truncate<Single>, 8>(shape),
        Mnemonic::Cvtpd2pi => to_mmx::<B, O, ToInteger<Double>, 16>(shape),
        Mnemonic::Cvttpd2pi => to_mmx::<B, O, Truncate<Double>, 16>(shape),
        Mnemonic::Cvtpi2ps => from_mmx::<B, O, FromInteger<Single>, true>(shape),
        Mnemonic::Cvtpi2pd => from_mmx::<B, O, FromInteger<Double>, false>(shape),
        _ => match shape.code {
            Code::Cvtsi2ss_xmm_rm32 if shape.memory => from_general::<B, O, Single, true>,
            Code::Cvtsi2ss_xmm_rm32 => from_general::<B, O, Single, false>,
            Code::Cvtsi2sd_xmm_rm32 if shape.memory => from_general::<B, O, Double, true>,
            Code::Cvtsi2sd_xmm_rm32 => from_general::<B, O, Double, false>,
            Code::Cvtss2si_r32_xmmm32 => to_general::<B, O, ToInteger<Single>, 4>(shape),
            Code::Cvttss2si_r32_xmmm32 => to_general::<B, O, Truncate<Single>, 4>(shape),
            Code::Cvtsd2si_r32_xmmm64 => to_general::<B, O, ToInteger<Double>, 8>(shape),
            Code::Cvttsd2si_r32_xmmm64 => to_general::<B, O, Truncate<Double>, 8>(shape),
            _ => return None,
        },
    })
}

/// A conversion of one lane.
trait Convert {
    /// Bytes of its operand and of its answer.
    const FROM: usize;
    const TO: usize;
    fn lane(bits: u64, control: &Control) -> Answer;
}

struct Between<A, B>(A, B);

impl<A: Real, B: Real> Convert for Between<A, B> {
    const FROM: usize = A::BYTES;
    const TO: usize = B::BYTES;
    fn lane(bits: u64, control: &Control) -> Answer {
        let operand = Operand::new::<A>(bits, control);
        let negative = operand.number.negative;
        let sign = if negative { B::SIGN } else { 0 };
        if let Some(answer) = of_nans::<A>(&operand, &operand) {
            // the fraction keeps its upper bits
            let fraction = answer.bits << (64 - A::FORMAT.precision) << 1 >> (64 - B::FORMAT.precision) >> 1;
            let bits = infinity(negative, B::FORMAT) | fraction;
            return Answer { bits, exceptions: answer.exceptions };
        }
        match operand.number.value {
            Value::Finite(exact) => rounded::<B>(exact, control).and_before(operand.denormal()),
            Value::Infinity => Answer::exactly(infinity(negative, B::FORMAT)),
            _ => Answer::exactly(sign),
        }
    }
}

/// From a signed doubleword.
struct FromInteger<R>(R);

impl<R: Real> Convert for FromInteger<R> {
    const FROM: usize = 4;
    const TO: usize = R::BYTES;
    fn lane(bits: u64, control: &Control) -> Answer {
        match Exact::from_integer(bits as u32 as i32 as i64) {
            Some(exact) => rounded::<R>(exact, control),
            None => Answer::exactly(0),
        }
    }
}

/// To a signed doubleword, as MXCSR says.
struct ToInteger<R>(R);

/// To a signed doubleword, towards zero.
struct Truncate<R>(R);

/// What does not fit is invalid, and gives the integer indefinite.
fn to_dword<R: Real>(bits: u64, control: &Control, rounding: Rounding) -> Answer {
    const INDEFINITE: u64 = 0x8000_0000;
    match Operand::new::<R>(bits, control).number.value {
        Value::Zero => Answer::exactly(0),
        Value::Finite(exact) => match to_integer(exact, rounding) {
            Some((value, exact, _)) if (i32::MIN as i128..=i32::MAX as i128).contains(&value) => Answer {
                bits: value as u32 as u64,
                exceptions: Exceptions { before: 0, after: if exact { 0 } else { PE } },
            },
            _ => Answer::with(INDEFINITE, IE),
        },
        _ => Answer::with(INDEFINITE, IE),
    }
}

impl<R: Real> Convert for ToInteger<R> {
    const FROM: usize = R::BYTES;
    const TO: usize = 4;
    fn lane(bits: u64, control: &Control) -> Answer {
        to_dword::<R>(bits, control, control.rounding)
    }
}

impl<R: Real> Convert for Truncate<R> {
    const FROM: usize = R::BYTES;
    const TO: usize = 4;
    fn lane(bits: u64, control: &Control) -> Answer {
        to_dword::<R>(bits, control, Rounding::Zero)
    }
}

/// Converts the first `count` lanes of `source`, laying them over `onto`; nothing is written if that faults.
fn convert<B: Bus, O: Observer, K: Convert>(
    cpu: &mut Cpu<B, O>,
    source: u128,
    count: usize,
    onto: u128,
) -> Exec<u128> {
    let control = Control::of(cpu.mxcsr);
    let (mut value, mut exceptions) = (onto, Exceptions::default());
    for n in 0..count {
        let answer = K::lane(get(source, n, K::FROM), &control);
        value = put(value, n, K::TO, answer.bits);
        exceptions = exceptions.and(answer.exceptions);
    }
    exceptions.raise(cpu)?;
    Ok(value)
}

fn lanes<B: Bus, O: Observer, K: Convert, const COUNT: usize, const BYTES: usize>(
    shape: Shape,
) -> Handler<B, O> {
    if shape.memory { packed::<B, O, Mem, K, COUNT, BYTES> } else { packed::<B, O, Reg, K, COUNT, BYTES> }
}

/// The rest of the destination is cleared.
fn packed<B: Bus, O: Observer, S: Source, K: Convert, const COUNT: usize, const BYTES: usize>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec {
    require_sse(cpu)?;
    let source = S::get::<B, O, Xmm, BYTES>(cpu, op)?;
    let value = convert::<B, O, K>(cpu, source, COUNT, 0)?;

    Xmm::set(&mut cpu.state, op.reg, value);
    Ok(())
}

fn scalar<B: Bus, O: Observer, K: Convert, const BYTES: usize>(shape: Shape) -> Handler<B, O> {
    if shape.memory { one::<B, O, Mem, K, BYTES> } else { one::<B, O, Reg, K, BYTES> }
}

/// The rest of the destination stays.
fn one<B: Bus, O: Observer, S: Source, K: Convert, const BYTES: usize>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec {
    require_sse(cpu)?;
    let source = S::get::<B, O, Xmm, BYTES>(cpu, op)?;
    let dest = Xmm::get(&cpu.state, op.reg);
    let value = convert::<B, O, K>(cpu, source, 1, dest)?;

    Xmm::set(&mut cpu.state, op.reg, value);
    Ok(())
}

fn to_mmx<B: Bus, O: Observer, K: Convert, const BYTES: usize>(shape: Shape) -> Handler<B, O> {
    if shape.memory { into_mmx::<B, O, Mem, K, BYTES> } else { into_mmx::<B, O, Reg, K, BYTES> }
}

/// CVTPS2PI, CVTPD2PI and their truncating kin.
fn into_mmx<B: Bus, O: Observer, S: Source, K: Convert, const BYTES: usize>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec {
    require_both(cpu)?;
    let source = S::get::<B, O, Xmm, BYTES>(cpu, op)?;
    let value = convert::<B, O, K>(cpu, source, 2, 0)?;

    Mm::set(&mut cpu.state, op.reg, value);
    Ok(())
}

fn from_mmx<B: Bus, O: Observer, K: Convert, const KEEP: bool>(shape: Shape) -> Handler<B, O> {
    if shape.memory { of_memory::<B, O, K, KEEP> } else { of_mmx::<B, O, K, KEEP> }
}

/// CVTPI2PS (`KEEP`: the upper half of the destination stays) and CVTPI2PD, from an MM register.
fn of_mmx<B: Bus, O: Observer, K: Convert, const KEEP: bool>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_both(cpu)?;
    let onto = if KEEP { Xmm::get(&cpu.state, op.reg) } else { 0 };
    let value = convert::<B, O, K>(cpu, Mm::get(&cpu.state, op.rm), 2, onto)?;

    Xmm::set(&mut cpu.state, op.reg, value);
    Mm::touch(&mut cpu.state);
    Ok(())
}

/// The same from memory, which is no MMX instruction (SDM 2A "CVTPI2PD". Hardware: nor is CVTPI2PS then, AMD EPYC).
fn of_memory<B: Bus, O: Observer, K: Convert, const KEEP: bool>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_sse(cpu)?;
    let source = load::<B, O, 8>(cpu, op)?;
    let onto = if KEEP { Xmm::get(&cpu.state, op.reg) } else { 0 };
    let value = convert::<B, O, K>(cpu, source, 2, onto)?;

    Xmm::set(&mut cpu.state, op.reg, value);
    Ok(())
}

/// CVTSI2SS, CVTSI2SD.
fn from_general<B: Bus, O: Observer, R: Real, const MEMORY: bool>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec {
    require_sse(cpu)?;
    let source = if MEMORY { load::<B, O, 4>(cpu, op)? } else { cpu.regs.dword(op.rm) as u128 };
    let dest = Xmm::get(&cpu.state, op.reg);
    let value = convert::<B, O, FromInteger<R>>(cpu, source, 1, dest)?;

    Xmm::set(&mut cpu.state, op.reg, value);
    Ok(())
}

fn to_general<B: Bus, O: Observer, K: Convert, const BYTES: usize>(shape: Shape) -> Handler<B, O> {
    if shape.memory { into_general::<B, O, Mem, K, BYTES> } else { into_general::<B, O, Reg, K, BYTES> }
}

/// CVTSS2SI, CVTSD2SI and their truncating kin.
fn into_general<B: Bus, O: Observer, S: Source, K: Convert, const BYTES: usize>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec {
    require_sse(cpu)?;
    let source = S::get::<B, O, Xmm, BYTES>(cpu, op)?;
    let value = convert::<B, O, K>(cpu, source, 1, 0)?;

    cpu.regs.set_dword(op.reg, value as u32);
    Ok(())
}
