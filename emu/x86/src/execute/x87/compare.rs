//! FCOM, FUCOM, FICOM, FTST, FXAM, and FCOMI with FUCOMI (SDM 1 "Comparison and Classification Instructions").

use iced_x86::{Code, Mnemonic};

use super::arithmetic::denormal;
use super::memory::{Double, Dword, Operand, Single, Source, Word};
use super::stack::*;
use crate::bus::Bus;
use crate::cpu::{Cpu, Fpu};
use crate::execute::Shape;
use crate::fault::Exec;
use crate::flags;
use crate::float::Value;
use crate::float::exception::IE;
use crate::observe::Observer;
use crate::op::{Handler, Op};

/// The bodies.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    use Mnemonic as M;
    Some(match (shape.code, shape.code.mnemonic()) {
        (Code::Fcom_m32fp, _) => with_memory::<B, O, Single, 0>,
        (Code::Fcomp_m32fp, _) => with_memory::<B, O, Single, 1>,
        (Code::Fcom_m64fp, _) => with_memory::<B, O, Double, 0>,
        (Code::Fcomp_m64fp, _) => with_memory::<B, O, Double, 1>,
        (Code::Ficom_m16int, _) => with_memory::<B, O, Word, 0>,
        (Code::Ficomp_m16int, _) => with_memory::<B, O, Word, 1>,
        (Code::Ficom_m32int, _) => with_memory::<B, O, Dword, 0>,
        (Code::Ficomp_m32int, _) => with_memory::<B, O, Dword, 1>,
        (_, M::Fcom) => with_register::<B, O, false, 0>,
        (_, M::Fcomp) => with_register::<B, O, false, 1>,
        (_, M::Fcompp) => with_register::<B, O, false, 2>,
        (_, M::Fucom) => with_register::<B, O, true, 0>,
        (_, M::Fucomp) => with_register::<B, O, true, 1>,
        (_, M::Fucompp) => with_register::<B, O, true, 2>,
        (_, M::Fcomi) => into_flags::<B, O, false, false>,
        (_, M::Fcomip) => into_flags::<B, O, false, true>,
        (_, M::Fucomi) => into_flags::<B, O, true, false>,
        (_, M::Fucomip) => into_flags::<B, O, true, true>,
        (_, M::Ftst) => ftst,
        (_, M::Fxam) => fxam,
        _ => return None,
    })
}

/// How two numbers stand: C3, C2 and C0, with the exceptions. `quiet_is_fine`: quiet NaNs are not invalid.
fn compare(a: Operand, b: Operand, quiet_is_fine: bool) -> (u16, u16) {
    const UNORDERED: u16 = C3 | C2 | C0;
    let values = [a.number.value, b.number.value];
    let any = |wanted: Value| values.contains(&wanted);
    if any(Value::Unsupported) || any(Value::Nan { quiet: false }) {
        return (UNORDERED, IE);
    }
    if any(Value::Nan { quiet: true }) {
        return (UNORDERED, if quiet_is_fine { 0 } else { IE });
    }
    let order = |operand: Operand| {
        let magnitude = match operand.number.value {
            Value::Zero => (i32::MIN, 0),
            Value::Infinity => (i32::MAX, 0),
            Value::Finite(exact) => (exact.exponent, exact.significand),
            Value::Nan { .. } | Value::Unsupported => (0, 0),
        };
        (operand.number.negative && magnitude.0 != i32::MIN, magnitude)
    };
    let ((a_negative, a_magnitude), (b_negative, b_magnitude)) = (order(a), order(b));
    let greater = match (a_negative, b_negative) {
        (false, true) => true,
        (true, false) => false,
        (false, false) => a_magnitude > b_magnitude,
        (true, true) => a_magnitude < b_magnitude,
    };
    let codes = match (a_negative == b_negative && a_magnitude == b_magnitude, greater) {
        (true, _) => C3,
        (_, true) => 0,
        _ => C0,
    };
    (codes, denormal(&[a, b]))
}

impl Fpu {
    /// Sets the condition codes that a comparison gives, and pops unless an exception is unmasked.
    fn compared(&mut self, (codes, exceptions): (u16, u16), pops: u8) {
        let goes_on = self.raise(exceptions);
        self.status = self.status & !(C3 | C2 | C0) | codes;
        if goes_on {
            for _ in 0..pops {
                self.pop();
            }
        }
    }
}

/// Of an empty register.
const UNDERFLOW: (u16, u16) = (C3 | C2 | C0, IE | SF);

fn with_memory<B: Bus, O: Observer, S: Source, const POPS: u8>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;
    let source = S::read(cpu, op)?;

    note_instruction(cpu, op);
    note_operand(cpu, op);
    let result = cpu.fpu.st(0).map_or(UNDERFLOW, |top| compare(Operand::of(top), source, false));
    cpu.fpu.compared(result, POPS);
    Ok(())
}

/// FCOM ST(i) and kin; the ones that pop twice compare with ST(1).
fn with_register<B: Bus, O: Observer, const QUIET_IS_FINE: bool, const POPS: u8>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let other = if POPS == 2 { 1 } else { op.reg };
    let result = match (cpu.fpu.st(0), cpu.fpu.st(other)) {
        (Some(a), Some(b)) => compare(Operand::of(a), Operand::of(b), QUIET_IS_FINE),
        _ => UNDERFLOW,
    };
    cpu.fpu.compared(result, POPS);
    Ok(())
}

/// FCOMI, FUCOMI and their popping forms: ZF, PF and CF; OF, SF and AF cleared.
fn into_flags<B: Bus, O: Observer, const QUIET_IS_FINE: bool, const POP: bool>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let (codes, exceptions) = match (cpu.fpu.st(0), cpu.fpu.st(op.reg)) {
        (Some(a), Some(b)) => compare(Operand::of(a), Operand::of(b), QUIET_IS_FINE),
        _ => UNDERFLOW,
    };
    // Hardware: an AMD EPYC leaves C1 alone but for a stack fault
    let c1 = if exceptions & SF != 0 { 0 } else { cpu.fpu.status & C1 };
    let goes_on = cpu.fpu.raise(exceptions);
    cpu.fpu.status |= c1;
    let flag = |code: u16, flag: u32| if codes & code != 0 { flag } else { 0 };
    cpu.flags.set_arithmetic(flag(C3, flags::ZF) | flag(C2, flags::PF) | flag(C0, flags::CF));
    if goes_on && POP {
        cpu.fpu.pop();
    }
    Ok(())
}

/// FTST: against +0.
fn ftst<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let result = cpu.fpu.st(0).map_or(UNDERFLOW, |top| compare(Operand::of(top), Operand::of(0), false));
    cpu.fpu.compared(result, 0);
    Ok(())
}

/// FXAM: the class in C3, C2 and C0, the sign in C1; it raises nothing (SDM 2A "FXAM").
fn fxam<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let fpu = &mut cpu.state.fpu;
    let operand = Operand::of(fpu.raw(0));
    let class = match operand.number.value {
        _ if fpu.st(0).is_none() => C3 | C0,
        Value::Unsupported => 0,
        Value::Nan { .. } => C0,
        Value::Infinity => C2 | C0,
        Value::Zero => C3,
        Value::Finite(_) if operand.number.denormal => C3 | C2,
        Value::Finite(_) => C2,
    };
    let sign = if operand.number.negative { C1 } else { 0 };
    fpu.status = fpu.status & !(C3 | C2 | C1 | C0) | class | sign;
    Ok(())
}
