//! Far JMP and CALL (SDM 2A "JMP", "CALL", Operation; the clauses stand in the manual's order).

use super::{in_new_task, plain_code};
use crate::bus::Bus;
use crate::cpu::{Cpu, Mode};
use crate::descriptor::{System, error_code, is_null, rpl};
use crate::fault::{Exec, Fault};
use crate::mmu::Intent;
use crate::observe::Observer;
use crate::op::Op;
use crate::segment::{CS, Descriptor};
use crate::task::{Link, Switch};
use crate::width::Width;

/// A far pointer as an operand.
pub trait Pointer {
    /// Selector and offset.
    fn read<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec<(u16, u32)>;
}

/// In the instruction: ptr16:16, ptr16:32.
pub struct Direct;

/// In memory: m16:16, m16:32.
pub struct Indirect;

impl Pointer for Direct {
    fn read<B: Bus, O: Observer, W: Width>(_: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec<(u16, u32)> {
        Ok((op.imm2, op.imm))
    }
}

impl Pointer for Indirect {
    fn read<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec<(u16, u32)> {
        let at = cpu.effective_address(op);
        let behind = at.wrapping_add(W::BYTES) & op.address_mask;
        let offset = cpu.translate::<W>(op.segment as usize, at, Intent::Read)?;
        let selector = cpu.translate::<u16>(op.segment as usize, behind, Intent::Read)?;
        Ok((cpu.load(selector), cpu.load(offset).to_u32()))
    }
}

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// JMP.
    Jump,
    /// CALL.
    Call,
}

/// Far JMP.
pub fn jmp<B: Bus, O: Observer, P: Pointer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let (selector, offset) = P::read::<B, O, W>(cpu, op)?;
    match cpu.mode() {
        Mode::Protected => cpu.transfer::<W>(op, Kind::Jump, selector, offset),
        Mode::Real | Mode::Vm86 => {
            // the offset is within the code segment's limit, else #GP(0)
            let code = plain_code(cpu, selector);
            cpu.ensure(offset <= code.limit, Fault::GeneralProtection(0))?;

            cpu.segs[CS] = code;
            cpu.eip = offset;
            Ok(())
        }
    }
}

/// Far CALL.
pub fn call<B: Bus, O: Observer, P: Pointer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let (selector, offset) = P::read::<B, O, W>(cpu, op)?;
    match cpu.mode() {
        Mode::Protected => cpu.transfer::<W>(op, Kind::Call, selector, offset),
        Mode::Real | Mode::Vm86 => {
            // the stack has room for the return address, else #SS(0)
            let stack = cpu.current_stack();
            cpu.ensure(stack.has_room::<W>(2), Fault::Stack(0))?;
            // the offset is within the code segment's limit, else #GP(0)
            let code = plain_code(cpu, selector);
            cpu.ensure(offset <= code.limit, Fault::GeneralProtection(0))?;
            let slots = cpu.reserve::<W, 2>(&stack, 2)?;

            let return_address = [cpu.segs[CS].selector as u32, cpu.next_ip(op)];

            cpu.fill(&slots, &return_address);
            cpu.move_esp::<W>(2);
            cpu.segs[CS] = code;
            cpu.eip = offset;
            Ok(())
        }
    }
}

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// Far JMP and CALL in protected mode.
    fn transfer<W: Width>(&mut self, op: &Op<B, O>, kind: Kind, selector: u16, offset: u32) -> Exec {
        // the target selector is not null, else #GP(0)
        self.ensure(!is_null(selector), Fault::GeneralProtection(0))?;
        let bad = Fault::GeneralProtection(error_code(selector));
        // its index is within the table's limit, else #GP(selector)
        let descriptor = self.descriptor(selector, bad)?;
        match System::of(descriptor) {
            None => self.transfer_to_code::<W>(op, kind, selector, descriptor, offset),
            Some(System::CallGate) => {
                self.check_gate(selector, descriptor)?;
                self.transfer_through_gate(op, kind, descriptor)
            }
            Some(System::TaskGate) => {
                self.check_gate(selector, descriptor)?;
                // the TSS selector in the gate names an available TSS in the GDT, else #GP(TSS); present, else #NP(TSS)
                let tss = descriptor.gate_selector();
                let descriptor = self.available_tss(tss)?;
                self.transfer_to_task(op, kind, tss, descriptor)
            }
            Some(System::Tss { .. }) => {
                self.check_tss_as_target(selector, descriptor)?;
                self.transfer_to_task(op, kind, selector, descriptor)
            }
            // it names a code segment, call gate, task gate or TSS, else #GP(selector)
            Some(_) => Err(self.raise(bad)),
        }
    }

    /// CONFORMING-CODE-SEGMENT and NONCONFORMING-CODE-SEGMENT.
    fn transfer_to_code<W: Width>(
        &mut self,
        op: &Op<B, O>,
        kind: Kind,
        selector: u16,
        descriptor: Descriptor,
        offset: u32,
    ) -> Exec {
        let bad = Fault::GeneralProtection(error_code(selector));
        // it names a code segment, else #GP(selector)
        self.ensure(descriptor.is_code(), bad)?;
        let (cpl, dpl) = (self.cpl, descriptor.dpl());
        if descriptor.is_conforming() {
            // conforming: its DPL does not exceed CPL, else #GP(selector)
            self.ensure(dpl <= cpl, bad)?;
        } else {
            // nonconforming: RPL does not exceed CPL and DPL equals it, else #GP(selector)
            self.ensure(rpl(selector) <= cpl && dpl == cpl, bad)?;
        }
        // it is present, else #NP(selector)
        self.ensure(descriptor.present(), Fault::NotPresent(error_code(selector)))?;
        self.enter_at_same_level::<W>(op, kind, selector, descriptor, offset)
    }

    /// Sets CS:EIP without change of privilege, for CALL after pushing the return address (SAME-PRIVILEGE).
    pub(super) fn enter_at_same_level<W: Width>(
        &mut self,
        op: &Op<B, O>,
        kind: Kind,
        selector: u16,
        descriptor: Descriptor,
        offset: u32,
    ) -> Exec {
        let pushes = if kind == Kind::Call { 2 } else { 0 };
        // CALL: the stack has room for the return address, else #SS(0)
        let stack = self.current_stack();
        self.ensure(stack.has_room::<W>(pushes), Fault::Stack(0))?;
        // the offset is within the code segment's limit, else #GP(0)
        self.ensure(offset <= descriptor.limit(), Fault::GeneralProtection(0))?;
        let code = self.prepare(selector & !3 | self.cpl as u16, descriptor)?;
        let slots = self.reserve::<W, 2>(&stack, pushes)?;

        let return_address = [self.segs[CS].selector as u32, self.next_ip(op)];

        self.fill(&slots, &return_address[..pushes]);
        self.move_esp::<W>(pushes);
        self.segs[CS] = self.commit(code);
        self.eip = offset;
        Ok(())
    }

    /// CALL-GATE and TASK-GATE: the clauses on the gate itself.
    fn check_gate(&mut self, selector: u16, gate: Descriptor) -> Exec {
        let code = error_code(selector);
        // the gate's DPL is below neither CPL nor RPL, else #GP(gate)
        let level = self.cpl.max(rpl(selector));
        self.ensure(gate.dpl() >= level, Fault::GeneralProtection(code))?;
        // the gate is present, else #NP(gate)
        self.ensure(gate.present(), Fault::NotPresent(code))
    }

    /// SWITCH-TASKS, nested for CALL.
    fn transfer_to_task(&mut self, op: &Op<B, O>, kind: Kind, selector: u16, descriptor: Descriptor) -> Exec {
        let entered = self.switch_task(Switch {
            link: if kind == Kind::Call { Link::Nested } else { Link::None },
            selector,
            descriptor,
            return_eip: self.next_ip(op),
            flags: self.flags.get(),
            error_code: None,
        })?;
        in_new_task(self, op, entered)
    }
}
