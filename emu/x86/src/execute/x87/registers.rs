//! Moves within the register stack: constants, FLD, FST, FXCH, FCMOV, the sign, and the stack pointer (SDM 1 "Data
//! Transfer Instructions", "Load Constant Instructions", "x87 FPU Control Instructions").

use iced_x86::{Code, Mnemonic};

use super::stack::*;
use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::Shape;
use crate::fault::Exec;
use crate::flags;
use crate::float::exception::IE;
use crate::float::format::pack80;
use crate::observe::Observer;
use crate::op::{Handler, Op};

/// The bodies.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code {
        Code::Fld1 => fld_constant::<B, O, 0>,
        Code::Fldl2t => fld_constant::<B, O, 1>,
        Code::Fldl2e => fld_constant::<B, O, 2>,
        Code::Fldpi => fld_constant::<B, O, 3>,
        Code::Fldlg2 => fld_constant::<B, O, 4>,
        Code::Fldln2 => fld_constant::<B, O, 5>,
        Code::Fldz => fld_constant::<B, O, 6>,
        Code::Fld_sti => fld_sti,
        Code::Fst_sti => fst_sti::<B, O, false>,
        Code::Fstpnce_sti => fstpnce,
        Code::Fstp_sti | Code::Fstp_sti_DFD0 | Code::Fstp_sti_DFD8 => fst_sti::<B, O, true>,
        Code::Fxch_st0_sti | Code::Fxch_st0_sti_DDC8 | Code::Fxch_st0_sti_DFC8 => fxch,
        Code::Fchs => change_sign::<B, O, true>,
        Code::Fabs => change_sign::<B, O, false>,
        Code::Ffree_sti => ffree::<B, O, false>,
        Code::Ffreep_sti => ffree::<B, O, true>,
        Code::Fincstp => move_top::<B, O, 1>,
        Code::Fdecstp => move_top::<B, O, 7>,
        _ => {
            return match shape.code.mnemonic() {
                Mnemonic::Fcmovb => Some(fcmov::<B, O, { flags::CF }, true>),
                Mnemonic::Fcmove => Some(fcmov::<B, O, { flags::ZF }, true>),
                Mnemonic::Fcmovbe => Some(fcmov::<B, O, { flags::CF | flags::ZF }, true>),
                Mnemonic::Fcmovu => Some(fcmov::<B, O, { flags::PF }, true>),
                Mnemonic::Fcmovnb => Some(fcmov::<B, O, { flags::CF }, false>),
                Mnemonic::Fcmovne => Some(fcmov::<B, O, { flags::ZF }, false>),
                Mnemonic::Fcmovnbe => Some(fcmov::<B, O, { flags::CF | flags::ZF }, false>),
                Mnemonic::Fcmovnu => Some(fcmov::<B, O, { flags::PF }, false>),
                _ => None,
            };
        }
    })
}

/// Exponent and first 128 bits of 1, log2 10, log2 e, pi, log10 2, ln 2 and 0.
const CONSTANTS: [(i32, u128); 7] = [
    (0, 1 << 127),
    (1, 0xd49a_784b_cd1b_8afe_492b_f6ff_4daf_db4d),
    (0, 0xb8aa_3b29_5c17_f0bb_be87_fed0_691d_3e88),
    (1, 0xc90f_daa2_2168_c234_c4c6_628b_80dc_1cd1),
    (-2, 0x9a20_9a84_fbcf_f798_8f89_59ac_0b7c_9178),
    (-1, 0xb172_17f7_d1cf_79ab_c9e3_b398_03f2_f6af),
    (0, 0),
];

/// FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2, FLDLN2, FLDZ: rounded as RC says, whatever PC says, without PE.
fn fld_constant<B: Bus, O: Observer, const WHICH: usize>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let (exponent, bits) = CONSTANTS[WHICH];
    let (kept, half, below) = ((bits >> 64) as u64, bits >> 63 & 1 != 0, bits as u64 & (u64::MAX >> 1) != 0);
    let up = cpu.fpu.rounding().increments(false, kept & 1 != 0, half, below);
    cpu.fpu.push(Answer::exactly(pack80(false, exponent, kept + up as u64)));
    Ok(())
}

/// FLD ST(i).
fn fld_sti<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    match cpu.fpu.st(op.reg) {
        Some(value) => cpu.fpu.push(Answer::exactly(value)),
        // Hardware: underflow of the source comes before overflow of the stack
        None => cpu.fpu.push_over(Answer::UNDERFLOW),
    }
    Ok(())
}

/// FST, FSTP ST(i).
fn fst_sti<B: Bus, O: Observer, const POP: bool>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let answer = cpu.fpu.st(0).map_or(Answer::UNDERFLOW, Answer::exactly);
    if cpu.fpu.answer(op.reg, answer) && POP {
        cpu.fpu.pop();
    }
    Ok(())
}

/// Undocumented: FSTP at D9 D8+i raises nothing: an empty register is not moved.
fn fstpnce<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let fpu = &mut cpu.state.fpu;
    fpu.raise(0);
    if let Some(value) = fpu.st(0) {
        fpu.set_st(op.reg, value);
    }
    fpu.pop();
    Ok(())
}

/// FXCH ST(i).
fn fxch<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let fpu = &mut cpu.state.fpu;
    let (top, other) = (fpu.st(0), fpu.st(op.reg));
    let exceptions = if top.is_none() || other.is_none() { IE | SF } else { 0 };
    if fpu.raise(exceptions) {
        fpu.set_st(0, other.unwrap_or(INDEFINITE));
        fpu.set_st(op.reg, top.unwrap_or(INDEFINITE));
    }
    Ok(())
}

/// FCHS (flip) and FABS (clear): of the sign bit alone, whatever the value.
fn change_sign<B: Bus, O: Observer, const FLIP: bool>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let changed = |value| if FLIP { value ^ SIGN } else { value & !SIGN };
    let answer = cpu.fpu.st(0).map_or(Answer::UNDERFLOW, |value| Answer::exactly(changed(value)));
    cpu.fpu.answer(0, answer);
    Ok(())
}

/// FCMOVcc ST(0), ST(i): either being empty is an underflow, whatever the condition.
fn fcmov<B: Bus, O: Observer, const FLAGS: u32, const SET: bool>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let moves = (cpu.flags.get() & FLAGS != 0) == SET;
    match (cpu.fpu.st(0), cpu.fpu.st(op.reg)) {
        // Hardware: an AMD EPYC leaves C1 alone
        (Some(_), Some(other)) if moves => cpu.fpu.set_st(0, other),
        (Some(_), Some(_)) => {}
        _ => {
            cpu.fpu.answer(0, Answer::UNDERFLOW);
        }
    }
    Ok(())
}

/// FFREE ST(i), and undocumented FFREEP, which pops too.
fn ffree<B: Bus, O: Observer, const POP: bool>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    cpu.fpu.raise(0);
    cpu.fpu.free(op.reg);
    if POP {
        cpu.fpu.pop();
    }
    Ok(())
}

/// FINCSTP, FDECSTP: TOP alone.
fn move_top<B: Bus, O: Observer, const BY: u16>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    cpu.fpu.raise(0);
    cpu.fpu.move_top(BY);
    Ok(())
}
