//! LAR, LSL, VERR, VERW, ARPL: what a program may ask about a selector without loading it (SDM 3A "Pointer
//! Validation").

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::descriptor::{is_null, rpl};
use crate::execute::Form;
use crate::fault::{Exec, Fault};
use crate::mmu::Intent;
use crate::observe::Observer;
use crate::op::Op;
use crate::segment::Descriptor;
use crate::width::Width;

/// What LAR or LSL asks.
pub trait Query {
    /// System descriptor types that may be asked about, one bit each.
    const TYPES: u16;
    /// The answer.
    fn answer(descriptor: Descriptor) -> u32;
}

/// Access rights: SDM 2A "LAR", table "Segment and Gate Types".
pub struct Lar;

/// Segment limit: SDM 2A "LSL", table "Segment and Gate Descriptor Types".
pub struct Lsl;

impl Query for Lar {
    const TYPES: u16 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 9 | 1 << 11 | 1 << 12;
    /// Hardware: bits 16 to 19, which the manual leaves undefined, come through (AMD EPYC, LAR of flat segments).
    fn answer(descriptor: Descriptor) -> u32 {
        (descriptor.0 >> 32) as u32 & 0x00ff_ff00
    }
}

impl Query for Lsl {
    const TYPES: u16 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 9 | 1 << 11;
    fn answer(descriptor: Descriptor) -> u32 {
        descriptor.limit()
    }
}

/// What VERR or VERW asks.
pub trait Access {
    /// Whether the segment's type permits it.
    fn permits(descriptor: Descriptor) -> bool;
}

/// Reading.
pub struct Verr;

/// Writing.
pub struct Verw;

impl Access for Verr {
    fn permits(descriptor: Descriptor) -> bool {
        descriptor.is_readable()
    }
}

impl Access for Verw {
    fn permits(descriptor: Descriptor) -> bool {
        descriptor.is_writable_data()
    }
}

/// These know no real or virtual-8086 mode, else #UD.
fn require_protected<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>) -> Exec {
    cpu.ensure(cpu.is_protected(), Fault::InvalidOpcode)
}

/// The descriptor of a selector that the program may see: not null, within its table, and, unless it is conforming
/// code, with a DPL below neither CPL nor RPL.
fn visible<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, selector: u16) -> Exec<Option<Descriptor>> {
    if is_null(selector) {
        return Ok(None);
    }
    let level = cpu.cpl.max(rpl(selector));
    let descriptor = cpu.descriptor_if_any(selector)?;
    Ok(descriptor.filter(|d| d.is_conforming() || d.dpl() >= level))
}

/// LAR and LSL: ZF says whether the register got the answer.
pub fn query<B: Bus, O: Observer, M: Form, Q: Query, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_protected(cpu)?;
    let source = M::locate::<B, O, u16>(cpu, op, Intent::Read)?;
    let selector = M::get(cpu, source);
    let descriptor = visible(cpu, selector)?;

    let answer = descriptor.filter(|d| d.is_segment() || Q::TYPES >> d.kind() & 1 != 0).map(Q::answer);

    if let Some(answer) = answer {
        W::from_u32(answer).set_reg(&mut cpu.state.regs, op.reg);
    }
    cpu.flags.set_zf(answer.is_some());
    Ok(())
}

/// VERR and VERW.
pub fn verify<B: Bus, O: Observer, M: Form, A: Access>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_protected(cpu)?;
    let source = M::locate::<B, O, u16>(cpu, op, Intent::Read)?;
    let selector = M::get(cpu, source);
    let descriptor = visible(cpu, selector)?;

    cpu.flags.set_zf(descriptor.is_some_and(A::permits));
    Ok(())
}

/// ARPL r/m16, r16. Hardware: the operand is only read where its RPL need not change (AMD EPYC), so it may then be
/// read-only.
pub fn arpl<B: Bus, O: Observer, M: Form>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_protected(cpu)?;
    let source = M::locate::<B, O, u16>(cpu, op, Intent::Read)?;
    let selector = M::get(cpu, source);
    let wanted = cpu.regs.word(op.reg) & 3;
    let adjusts = selector & 3 < wanted;
    let dest = if adjusts { M::locate::<B, O, u16>(cpu, op, Intent::Write)? } else { source };

    if adjusts {
        M::set(cpu, dest, selector & !3 | wanted);
    }
    cpu.flags.set_zf(adjusts);
    Ok(())
}
