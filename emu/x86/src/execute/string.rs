//! String instructions, INS and OUTS among them (SDM 1 "String Instructions"), and what REP makes of them.
//!
//! A repeated instruction commits each iteration: a fault, or the engine's wish to look up, leaves the registers as if the
//! rest were still to be done, and EIP at the instruction itself. Each iteration counts as a retired instruction; a
//! repetition of zero times counts as one. While iterations remain, RF is set between them, so that whatever comes there
//! pushes it as one (SDM 3B "Instruction-Breakpoint Exception Condition") and the instruction resumes without meeting its
//! own breakpoint again.

use iced_x86::Code;

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::Shape;
use crate::fault::Exec;
use crate::flags;
use crate::mmu::Intent;
use crate::observe::Observer;
use crate::op::{Handler, Op, Rep};
use crate::regs::{EAX, ECX, EDI, EDX, ESI};
use crate::segment::ES;
use crate::width::Width;

/// The bodies of this family.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code {
        Code::Movsb_m8_m8 => string::<B, O, Movs, u8>,
        Code::Movsw_m16_m16 => string::<B, O, Movs, u16>,
        Code::Movsd_m32_m32 => string::<B, O, Movs, u32>,
        Code::Cmpsb_m8_m8 => string::<B, O, Cmps, u8>,
        Code::Cmpsw_m16_m16 => string::<B, O, Cmps, u16>,
        Code::Cmpsd_m32_m32 => string::<B, O, Cmps, u32>,
        Code::Scasb_AL_m8 => string::<B, O, Scas, u8>,
        Code::Scasw_AX_m16 => string::<B, O, Scas, u16>,
        Code::Scasd_EAX_m32 => string::<B, O, Scas, u32>,
        Code::Lodsb_AL_m8 => string::<B, O, Lods, u8>,
        Code::Lodsw_AX_m16 => string::<B, O, Lods, u16>,
        Code::Lodsd_EAX_m32 => string::<B, O, Lods, u32>,
        Code::Stosb_m8_AL => string::<B, O, Stos, u8>,
        Code::Stosw_m16_AX => string::<B, O, Stos, u16>,
        Code::Stosd_m32_EAX => string::<B, O, Stos, u32>,
        Code::Insb_m8_DX => string::<B, O, Ins, u8>,
        Code::Insw_m16_DX => string::<B, O, Ins, u16>,
        Code::Insd_m32_DX => string::<B, O, Ins, u32>,
        Code::Outsb_DX_m8 => string::<B, O, Outs, u8>,
        Code::Outsw_DX_m16 => string::<B, O, Outs, u16>,
        Code::Outsd_DX_m32 => string::<B, O, Outs, u32>,
        _ => return None,
    })
}

/// What one iteration does.
trait Operation {
    /// It sets ZF, and REPE and REPNE look at it.
    const COMPARES: bool = false;
    /// Checks, acts, and moves the index registers on.
    fn iterate<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec;
}

/// A string instruction, repeated or not.
fn string<B: Bus, O: Observer, S: Operation, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    if op.rep == Rep::None {
        return S::iterate::<B, O, W>(cpu, op);
    }
    repeat::<B, O, S, W>(cpu, op)
}

/// REP, REPE, REPNE. Manual: with instructions that do not compare, REPNE is undefined. Hardware: it is REP (AMD EPYC).
fn repeat<B: Bus, O: Observer, S: Operation, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let mask = op.address_mask;
    let mut count = cpu.regs.dword(ECX) & mask;
    if count == 0 {
        cpu.eip = cpu.next_ip(op);
        return Ok(());
    }
    let mut allowed = cpu.iterations_allowed();
    loop {
        S::iterate::<B, O, W>(cpu, op)?;
        count -= 1;
        let ecx = cpu.regs.dword(ECX) & !mask | count;
        cpu.regs.set_dword(ECX, ecx);

        if count == 0 || (S::COMPARES && cpu.flags.zf() != (op.rep == Rep::Rep)) {
            cpu.eip = cpu.next_ip(op);
            return Ok(());
        }
        allowed -= 1;
        if allowed == 0 || cpu.must_leave() {
            cpu.eip = cpu.ip(op);
            cpu.flags.set(flags::RF, flags::RF);
            return Ok(());
        }
        // this iteration is retired; the last one is counted by the engine
        cpu.count_iterations(1);
        if O::ACTIVE {
            cpu.show_iteration(op);
        }
    }
}

/// Moves an index register to the next element, by the direction flag and the address size.
#[inline(always)]
fn advance<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>, register: u8) {
    let by = if cpu.flags.df() { W::BYTES.wrapping_neg() } else { W::BYTES };
    let (old, mask) = (cpu.regs.dword(register), op.address_mask);
    cpu.regs.set_dword(register, old & !mask | old.wrapping_add(by) & mask);
}

/// The element at DS:(E)SI, or in the segment of an override.
macro_rules! source {
    ($cpu:expr, $op:expr, $w:ty) => {
        $cpu.translate::<$w>($op.segment as usize, $cpu.regs.dword(ESI) & $op.address_mask, Intent::Read)
    };
}

/// The element at ES:(E)DI.
macro_rules! destination {
    ($cpu:expr, $op:expr, $w:ty, $intent:expr) => {
        $cpu.translate::<$w>(ES, $cpu.regs.dword(EDI) & $op.address_mask, $intent)
    };
}

/// MOVS.
struct Movs;
impl Operation for Movs {
    #[inline(always)]
    fn iterate<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
        let source = source!(cpu, op, W)?;
        let dest = destination!(cpu, op, W, Intent::Write)?;

        let value = cpu.load(source);

        cpu.store(dest, value);
        advance::<B, O, W>(cpu, op, ESI);
        advance::<B, O, W>(cpu, op, EDI);
        Ok(())
    }
}

/// CMPS: the source less the destination.
struct Cmps;
impl Operation for Cmps {
    const COMPARES: bool = true;
    #[inline(always)]
    fn iterate<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
        let first = source!(cpu, op, W)?;
        let second = destination!(cpu, op, W, Intent::Read)?;

        let (first, second) = (cpu.load(first), cpu.load(second));

        cpu.flags.set_compare(first, second);
        advance::<B, O, W>(cpu, op, ESI);
        advance::<B, O, W>(cpu, op, EDI);
        Ok(())
    }
}

/// SCAS: the accumulator less the destination.
struct Scas;
impl Operation for Scas {
    const COMPARES: bool = true;
    #[inline(always)]
    fn iterate<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
        let element = destination!(cpu, op, W, Intent::Read)?;

        let (accumulator, element) = (W::get_reg(&cpu.regs, EAX), cpu.load(element));

        cpu.flags.set_compare(accumulator, element);
        advance::<B, O, W>(cpu, op, EDI);
        Ok(())
    }
}

/// LODS.
struct Lods;
impl Operation for Lods {
    #[inline(always)]
    fn iterate<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
        let source = source!(cpu, op, W)?;

        let value = cpu.load(source);

        value.set_reg(&mut cpu.regs, EAX);
        advance::<B, O, W>(cpu, op, ESI);
        Ok(())
    }
}

/// STOS.
struct Stos;
impl Operation for Stos {
    #[inline(always)]
    fn iterate<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
        let dest = destination!(cpu, op, W, Intent::Write)?;

        let value = W::get_reg(&cpu.regs, EAX);

        cpu.store(dest, value);
        advance::<B, O, W>(cpu, op, EDI);
        Ok(())
    }
}

/// INS: the port's permission first, then the destination, then the port is read.
struct Ins;
impl Operation for Ins {
    #[inline(always)]
    fn iterate<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
        let port = cpu.regs.word(EDX);
        cpu.require_port::<W>(port)?;
        let dest = destination!(cpu, op, W, Intent::Write)?;

        let value: W = cpu.read_port(port);

        cpu.store(dest, value);
        advance::<B, O, W>(cpu, op, EDI);
        Ok(())
    }
}

/// OUTS: the port's permission first, then the source.
struct Outs;
impl Operation for Outs {
    #[inline(always)]
    fn iterate<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
        let port = cpu.regs.word(EDX);
        cpu.require_port::<W>(port)?;
        let source = source!(cpu, op, W)?;

        let value = cpu.load(source);

        cpu.write_port(port, value);
        advance::<B, O, W>(cpu, op, ESI);
        Ok(())
    }
}
