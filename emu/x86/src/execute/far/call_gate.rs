//! JMP and CALL through a call gate (SDM 3A "Accessing a Code Segment Through a Call Gate"; SDM 2A "CALL", CALL-GATE).

use super::transfer::Kind;
use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::descriptor::{error_code, is_32bit_system, is_null};
use crate::fault::{Exec, Fault};
use crate::observe::Observer;
use crate::op::Op;
use crate::regs::ESP;
use crate::segment::{CS, Descriptor, SS};
use crate::width::Width;

/// Most that a call pushes on an inner stack: SS, ESP, 31 parameters, CS, EIP.
const MOST_PUSHES: usize = 35;

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// Through a call gate whose own clauses hold.
    pub(super) fn transfer_through_gate(&mut self, op: &Op<B, O>, kind: Kind, gate: Descriptor) -> Exec {
        let selector = gate.gate_selector();
        // the code segment selector in the gate is not null, else #GP(0)
        self.ensure(!is_null(selector), Fault::GeneralProtection(0))?;
        let bad = Fault::GeneralProtection(error_code(selector));
        // its index is within the table's limit, else #GP(code segment)
        let descriptor = self.descriptor(selector, bad)?;
        // it names a code segment, else #GP(code segment)
        self.ensure(descriptor.is_code(), bad)?;
        // whose DPL does not exceed CPL; for JMP a nonconforming one's equals it; else #GP(code segment)
        let (cpl, dpl) = (self.cpl, descriptor.dpl());
        let inward = !descriptor.is_conforming() && dpl < cpl;
        self.ensure(dpl <= cpl && !(inward && kind == Kind::Jump), bad)?;
        // which is present, else #NP(code segment)
        self.ensure(descriptor.present(), Fault::NotPresent(error_code(selector)))?;
        // the gate, not the operand size, says how wide the offset and the pushes are
        match (inward, is_32bit_system(gate)) {
            (true, true) => self.call_inward::<u32>(op, gate, descriptor),
            (true, false) => self.call_inward::<u16>(op, gate, descriptor),
            (false, true) => {
                self.enter_at_same_level::<u32>(op, kind, selector, descriptor, gate.gate_offset())
            }
            (false, false) => {
                let offset = gate.gate_offset() & 0xffff;
                self.enter_at_same_level::<u16>(op, kind, selector, descriptor, offset)
            }
        }
    }

    /// MORE-PRIVILEGE: to the inner stack, with the parameters.
    fn call_inward<W: Width>(&mut self, op: &Op<B, O>, gate: Descriptor, descriptor: Descriptor) -> Exec {
        let dpl = descriptor.dpl();
        // the inner stack in the TSS: #TS and #SS as listed there
        let inner = self.inner_stack(dpl)?;
        let parameters = gate.gate_count() as usize;
        let count = parameters + 4;
        // it has room for the parameters and two far pointers, else #SS(new SS)
        let no_room = Fault::Stack(error_code(inner.ss.segment().selector));
        self.ensure(inner.stack.has_room::<W>(count), no_room)?;
        // the gate's offset is within the code segment's limit, else #GP(0)
        let eip = W::from_u32(gate.gate_offset()).to_u32();
        self.ensure(eip <= descriptor.limit(), Fault::GeneralProtection(0))?;
        let code = self.prepare(gate.gate_selector() & !3 | dpl as u16, descriptor)?;
        let mut values = [0; MOST_PUSHES];
        // the parameters keep their order: the last one pushed is the last one copied
        for n in 0..parameters {
            values[2 + n] = self.stack_peek::<W>((parameters - 1 - n) as u32 * W::BYTES)?;
        }
        let slots = self.reserve::<W, MOST_PUSHES>(&inner.stack, count)?;

        values[0] = self.segs[SS].selector as u32;
        values[1] = self.regs.dword(ESP);
        values[count - 2] = self.segs[CS].selector as u32;
        values[count - 1] = self.next_ip(op);

        self.fill(&slots, &values[..count]);
        self.enter_stack::<W>(inner, count);
        self.segs[CS] = self.commit(code);
        self.eip = eip;
        self.set_cpl(dpl);
        Ok(())
    }
}
