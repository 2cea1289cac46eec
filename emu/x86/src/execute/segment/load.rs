//! MOV, PUSH and POP with a segment register; LDS, LES, LFS, LGS, LSS.

use crate::bus::Bus;
use crate::cpu::{Cpu, Mode, Shadow};
use crate::descriptor::Load;
use crate::execute::Form;
use crate::fault::{Exec, Fault};
use crate::mmu::Intent;
use crate::observe::Observer;
use crate::op::Op;
use crate::segment::{SS, Segment};
use crate::width::Width;

/// What a segment register will hold.
enum Loaded {
    /// From a descriptor.
    Protected(Load),
    /// From the selector alone.
    Plain(Segment),
}

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// The ladder of a load of any segment register but CS (SDM 2B "MOV").
    fn check_segment(&mut self, register: usize, selector: u16) -> Exec<Loaded> {
        match self.mode() {
            Mode::Real => {
                let mut segment = self.segs[register];
                segment.load_real(selector);
                Ok(Loaded::Plain(segment))
            }
            Mode::Vm86 => Ok(Loaded::Plain(Segment::real(selector, 3))),
            Mode::Protected if register == SS => {
                self.check_stack(selector, self.cpl, Fault::GeneralProtection).map(Loaded::Protected)
            }
            Mode::Protected => {
                self.check_data(selector, self.cpl, Fault::GeneralProtection).map(Loaded::Protected)
            }
        }
    }

    fn load_segment(&mut self, register: usize, loaded: Loaded) {
        self.segs[register] = match loaded {
            Loaded::Protected(load) => self.commit(load),
            Loaded::Plain(segment) => segment,
        };
        if register == SS {
            self.leave_block();
        }
    }
}

/// MOV r/m16, Sreg; MOV r32, Sreg extends with zeros. Hardware: since the Pentium Pro; older ones left the upper half.
pub fn mov_from_sreg<B: Bus, O: Observer, M: Form, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let dest = M::locate::<B, O, W>(cpu, op, Intent::Write)?;

    let selector = cpu.segs[op.reg as usize].selector;

    M::set(cpu, dest, W::from_u32(selector as u32));
    Ok(())
}

/// MOV Sreg, r/m16. To CS it does not decode: #UD.
pub fn mov_to_sreg<B: Bus, O: Observer, M: Form>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let source = M::locate::<B, O, u16>(cpu, op, Intent::Read)?;
    let register = op.reg as usize;
    let selector = M::get(cpu, source);
    let loaded = cpu.check_segment(register, selector)?;

    cpu.load_segment(register, loaded);
    if register == SS {
        // Manual: "Loading the SS register with a MOV instruction suppresses or inhibits some debug exceptions and
        // inhibits interrupts on the following instruction boundary"
        cpu.shadow = Shadow::MovSs;
    }
    Ok(())
}

/// PUSH Sreg. Choice: with a 32-bit operand the selector is extended with zeros (SDM 2B "PUSH": or only its 16 bits are
/// written). Hardware: an AMD EPYC does so too.
pub fn push_sreg<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let slot = cpu.push_place::<W>()?;

    let selector = cpu.segs[op.reg as usize].selector;

    cpu.push_at(slot, W::from_u32(selector as u32));
    Ok(())
}

/// POP Sreg.
pub fn pop_sreg<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let selector = cpu.stack_peek::<W>(0)? as u16;
    let register = op.reg as usize;
    let loaded = cpu.check_segment(register, selector)?;

    // ESP moves by the size of the stack that was popped from
    cpu.release(W::BYTES);
    cpu.load_segment(register, loaded);
    if register == SS {
        cpu.shadow = Shadow::MovSs;
    }
    Ok(())
}

/// LDS, LES, LSS, LFS, LGS (SDM 2A "LDS/LES/LFS/LGS/LSS").
pub fn lfp<B: Bus, O: Observer, W: Width, const REGISTER: usize>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let at = cpu.effective_address(op);
    let behind = at.wrapping_add(W::BYTES) & op.address_mask;
    let offset = cpu.translate::<W>(op.segment as usize, at, Intent::Read)?;
    let selector = cpu.translate::<u16>(op.segment as usize, behind, Intent::Read)?;
    let offset = cpu.load(offset);
    let selector = cpu.load(selector);
    let loaded = cpu.check_segment(REGISTER, selector)?;

    cpu.load_segment(REGISTER, loaded);
    offset.set_reg(&mut cpu.state.regs, op.reg);
    Ok(())
}
