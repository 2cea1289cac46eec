//! The two forms of an r/m operand, as a type parameter, so that a body is written once.

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::fault::Exec;
use crate::mmu::{Intent, Place};
use crate::observe::Observer;
use crate::op::Op;
use crate::width::Width;

/// Where an r/m operand is.
pub trait Form {
    /// A located operand: all checks are behind it.
    type At<W: Width>: Copy;
    /// Makes every check and translation for the operand.
    fn locate<B: Bus, O: Observer, W: Width>(
        cpu: &mut Cpu<B, O>,
        op: &Op<B, O>,
        intent: Intent,
    ) -> Exec<Self::At<W>>;
    /// Reads it.
    fn get<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, at: Self::At<W>) -> W;
    /// Writes it.
    fn set<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, at: Self::At<W>, value: W);
}

/// A memory operand.
#[derive(Debug)]
pub struct Mem;

/// A register operand.
#[derive(Debug)]
pub struct Reg;

impl Form for Mem {
    type At<W: Width> = Place<W>;
    #[inline(always)]
    fn locate<B: Bus, O: Observer, W: Width>(
        cpu: &mut Cpu<B, O>,
        op: &Op<B, O>,
        intent: Intent,
    ) -> Exec<Place<W>> {
        let offset = cpu.effective_address(op);
        cpu.translate(op.segment as usize, offset, intent)
    }
    #[inline(always)]
    fn get<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, at: Place<W>) -> W {
        cpu.load(at)
    }
    #[inline(always)]
    fn set<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, at: Place<W>, value: W) {
        cpu.store(at, value);
    }
}

impl Form for Reg {
    type At<W: Width> = u8;
    #[inline(always)]
    fn locate<B: Bus, O: Observer, W: Width>(_: &mut Cpu<B, O>, op: &Op<B, O>, _: Intent) -> Exec<u8> {
        Ok(op.rm)
    }
    #[inline(always)]
    fn get<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, at: u8) -> W {
        W::get_reg(&cpu.state.regs, at)
    }
    #[inline(always)]
    fn set<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, at: u8, value: W) {
        value.set_reg(&mut cpu.state.regs, at);
    }
}
