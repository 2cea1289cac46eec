//! Far RET (SDM 2B "RET", Operation), and the return to an outer level that it shares with IRET.

use super::plain_code;
use crate::bus::Bus;
use crate::cpu::{Cpu, Mode};
use crate::descriptor::{Load, rpl};
use crate::fault::{Exec, Fault};
use crate::observe::Observer;
use crate::op::Op;
use crate::segment::{CS, DS, Descriptor, ES, FS, GS, Segment};
use crate::width::Width;

/// An outer stack, checked: SS and ESP as they will be.
pub(super) struct OuterStack {
    ss: Load,
    esp: u32,
}

/// RETF and RETF n.
pub fn retf<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let released = op.imm & 0xffff;
    // both halves of the return address are within the stack's limit, else #SS(0)
    let eip = cpu.stack_peek::<W>(0)?;
    let selector = cpu.stack_peek::<W>(W::BYTES)? as u16;
    if cpu.mode() != Mode::Protected {
        // EIP is within the code segment's limit, else #GP(0)
        let code = plain_code(cpu, selector);
        cpu.ensure(eip <= code.limit, Fault::GeneralProtection(0))?;

        cpu.segs[CS] = code;
        cpu.eip = eip;
        cpu.release(2 * W::BYTES + released);
        return Ok(());
    }
    let descriptor = cpu.check_return_code(selector)?;
    if rpl(selector) == cpu.cpl {
        // EIP is within the code segment's limit, else #GP(0)
        cpu.ensure(eip <= descriptor.limit(), Fault::GeneralProtection(0))?;
        let code = cpu.prepare(selector, descriptor)?;

        cpu.segs[CS] = cpu.commit(code);
        cpu.eip = eip;
        cpu.release(2 * W::BYTES + released);
        return Ok(());
    }
    // RETURN-TO-OUTER-PRIVILEGE-LEVEL: SS:ESP stand behind the released bytes
    let stack = cpu.outer_stack::<W>(2 * W::BYTES + released, rpl(selector))?;
    let code = cpu.outer_code(selector, descriptor, eip)?;

    cpu.go_outward(code, eip, stack);
    // the parameters on the caller's stack are released too
    cpu.release(released);
    Ok(())
}

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// The outer stack that stands `bytes` above the top of the current one, for privilege `level`.
    pub(super) fn outer_stack<W: Width>(&mut self, bytes: u32, level: u8) -> Exec<OuterStack> {
        // both halves are within the stack's limit, else #SS(0)
        let esp = self.stack_peek::<W>(bytes)?;
        let selector = self.stack_peek::<W>(bytes.wrapping_add(W::BYTES))? as u16;
        // not null, else #GP(0); within its table, RPL and DPL equal to the return CS's RPL, writable data, else
        // #GP(SS); present, else #SS(SS)
        let ss = self.check_stack(selector, level, Fault::GeneralProtection)?;
        Ok(OuterStack { ss, esp })
    }

    /// The outer code segment.
    pub(super) fn outer_code(&mut self, selector: u16, descriptor: Descriptor, eip: u32) -> Exec<Load> {
        // EIP is within the code segment's limit, else #GP(0)
        self.ensure(eip <= descriptor.limit(), Fault::GeneralProtection(0))?;
        self.prepare(selector, descriptor)
    }

    /// Sets CS:EIP, SS:ESP and CPL, and takes away what the outer level may not use.
    pub(super) fn go_outward(&mut self, code: Load, eip: u32, stack: OuterStack) {
        self.segs[CS] = self.commit(code);
        self.eip = eip;
        let ss = self.commit(stack.ss);
        self.load_stack(ss, stack.esp);
        let cpl = rpl(self.segs[CS].selector);
        self.set_cpl(cpl);
        for register in [ES, FS, GS, DS] {
            let segment = &self.segs[register];
            // data and nonconforming code of a DPL below the new CPL becomes null
            if segment.is_segment() && !segment.is_conforming() && segment.dpl() < cpl {
                self.segs[register] = Segment::null(0);
            }
        }
    }
}
