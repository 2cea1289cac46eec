//! CMP, COMIS and UCOMIS (SDM 1 "SSE Comparison Instructions").

use std::cmp::Ordering;

use iced_x86::Code;

use super::arithmetic::{Lanewise, body, order};
use super::{Answer, Control, Double, Exceptions, Operand, Real, Single};
use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::simd::{Source, Xmm, require_sse};
use crate::execute::{Mem, Reg, Shape};
use crate::fault::Exec;
use crate::flags::{CF, PF, ZF};
use crate::float::exception::IE;
use crate::observe::Observer;
use crate::op::{Handler, Op};

/// The bodies.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match (shape.code, shape.memory) {
        (Code::Cmpps_xmm_xmmm128_imm8, true) => body::<B, O, Mem, Single, Compare, 4, 16>,
        (Code::Cmpps_xmm_xmmm128_imm8, false) => body::<B, O, Reg, Single, Compare, 4, 16>,
        (Code::Cmppd_xmm_xmmm128_imm8, true) => body::<B, O, Mem, Double, Compare, 2, 16>,
        (Code::Cmppd_xmm_xmmm128_imm8, false) => body::<B, O, Reg, Double, Compare, 2, 16>,
        (Code::Cmpss_xmm_xmmm32_imm8, true) => body::<B, O, Mem, Single, Compare, 1, 4>,
        (Code::Cmpss_xmm_xmmm32_imm8, false) => body::<B, O, Reg, Single, Compare, 1, 4>,
        (Code::Cmpsd_xmm_xmmm64_imm8, true) => body::<B, O, Mem, Double, Compare, 1, 8>,
        (Code::Cmpsd_xmm_xmmm64_imm8, false) => body::<B, O, Reg, Double, Compare, 1, 8>,
        (Code::Comiss_xmm_xmmm32, true) => into_flags::<B, O, Mem, Single, false, 4>,
        (Code::Comiss_xmm_xmmm32, false) => into_flags::<B, O, Reg, Single, false, 4>,
        (Code::Comisd_xmm_xmmm64, true) => into_flags::<B, O, Mem, Double, false, 8>,
        (Code::Comisd_xmm_xmmm64, false) => into_flags::<B, O, Reg, Double, false, 8>,
        (Code::Ucomiss_xmm_xmmm32, true) => into_flags::<B, O, Mem, Single, true, 4>,
        (Code::Ucomiss_xmm_xmmm32, false) => into_flags::<B, O, Reg, Single, true, 4>,
        (Code::Ucomisd_xmm_xmmm64, true) => into_flags::<B, O, Mem, Double, true, 8>,
        (Code::Ucomisd_xmm_xmmm64, false) => into_flags::<B, O, Reg, Double, true, 8>,
        _ => return None,
    })
}

/// How two numbers stand (`None`: unordered), and the exceptions. Quiet NaNs are invalid too unless `quiet_is_fine`.
fn compare(a: &Operand, b: &Operand, quiet_is_fine: bool) -> (Option<Ordering>, u16) {
    if a.is_nan() || b.is_nan() {
        let invalid = !quiet_is_fine || a.is_signalling() || b.is_signalling();
        return (None, if invalid { IE } else { 0 });
    }
    (Some(order(a, b)), a.denormal() | b.denormal())
}

/// CMP: all ones or zero, by the predicate in the immediate's low three bits: EQ, LT, LE, UNORD, and their opposites.
struct Compare;

impl Lanewise for Compare {
    fn lane<R: Real>(a: u64, b: u64, imm: u8, control: &Control) -> Answer {
        let (a, b) = (Operand::new::<R>(a, control), Operand::new::<R>(b, control));
        let (order, before) = compare(&a, &b, matches!(imm & 3, 0 | 3));
        let holds = match imm & 3 {
            0 => order == Some(Ordering::Equal),
            1 => order == Some(Ordering::Less),
            2 => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            _ => order.is_none(),
        };
        Answer::with(if holds != (imm & 4 != 0) { u64::MAX } else { 0 }, before)
    }
}

/// COMIS, UCOMIS: into ZF, PF and CF; the other flags are cleared.
fn into_flags<B: Bus, O: Observer, S: Source, R: Real, const QUIET: bool, const BYTES: usize>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec {
    require_sse(cpu)?;
    let source = S::get::<B, O, Xmm, BYTES>(cpu, op)?;
    let control = Control::of(cpu.mxcsr);
    let dest = cpu.xmm[op.reg as usize & 7];
    let operand = |value: u128| Operand::new::<R>(super::get(value, 0, R::BYTES), &control);
    let (order, before) = compare(&operand(dest), &operand(source), QUIET);
    Exceptions { before, after: 0 }.raise(cpu)?;

    cpu.flags.set_arithmetic(match order {
        None => ZF | PF | CF,
        Some(Ordering::Less) => CF,
        Some(Ordering::Equal) => ZF,
        Some(Ordering::Greater) => 0,
    });
    Ok(())
}
