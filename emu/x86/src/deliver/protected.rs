//! Delivery through the gates of the IDT (SDM 3A "Exception- and Interrupt-Handler Procedures", "Interrupt Tasks"; SDM
//! 2A "INT n", PROTECTED-MODE: the clauses below stand in its order).
//!
//! Error codes are written here as for INT n, with EXT clear; [`Cpu::deliver`] sets EXT for all other events.

use super::is_software;
use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::descriptor::{Load, System, error_code, is_32bit_system, is_null};
use crate::fault::{Exec, Fault};
use crate::flags;
use crate::observe::{Asker, Cause, Observer};
use crate::regs::ESP;
use crate::segment::{CS, DS, Descriptor, ES, FS, GS, SS, Segment};
use crate::task::{Link, Switch};
use crate::width::Width;

/// IDT in an error code: its index is a vector.
const IDT: u16 = 2;

/// What is pushed: at most four data segments, SS, ESP, EFLAGS, CS, EIP and an error code.
struct Image {
    values: [u32; 10],
    count: usize,
}

impl Image {
    fn new() -> Image {
        Image { values: [0; 10], count: 0 }
    }
    fn push(&mut self, value: u32) {
        self.values[self.count] = value;
        self.count += 1;
    }
    fn values(&self) -> &[u32] {
        &self.values[..self.count]
    }
}

/// Where an interrupt or trap gate leads, checked.
struct Target {
    code: Load,
    eip: u32,
    cleared: u32,
}

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// Through the IDT, from protected or virtual-8086 mode.
    pub(super) fn enter_protected(&mut self, cause: Cause, return_eip: u32) -> Exec<Exec> {
        let vector = cause.vector();
        let code = (vector as u16) << 3 | IDT;
        let offset = vector as u32 * 8;
        // the vector's eight bytes are within the IDT's limit, else #GP(vector)
        self.ensure(offset + 7 <= self.idtr.limit as u32, Fault::GeneralProtection(code))?;
        let gate = Descriptor(self.system_read(self.idtr.base.wrapping_add(offset), Asker::Gate { vector })?);
        // it holds an interrupt, trap or task gate, else #GP(vector)
        let kind = System::of(gate);
        let is_gate = matches!(kind, Some(System::InterruptGate | System::TrapGate | System::TaskGate));
        self.ensure(is_gate, Fault::GeneralProtection(code))?;
        // for INT n, INT3 and INTO: the gate's DPL is not below CPL, else #GP(vector)
        self.ensure(!is_software(cause) || gate.dpl() >= self.cpl, Fault::GeneralProtection(code))?;
        // the gate is present, else #NP(vector)
        self.ensure(gate.present(), Fault::NotPresent(code))?;
        match kind {
            Some(System::TaskGate) => self.enter_task(cause, gate.gate_selector(), return_eip),
            _ if is_32bit_system(gate) => self.enter_gate::<u32>(cause, gate, return_eip).map(Ok),
            _ => self.enter_gate::<u16>(cause, gate, return_eip).map(Ok),
        }
    }

    /// TASK-GATE.
    fn enter_task(&mut self, cause: Cause, selector: u16, return_eip: u32) -> Exec<Exec> {
        // the selector names the GDT, is within its limit, and an available TSS, else #GP(TSS); it is present, else
        // #NP(TSS)
        let descriptor = self.available_tss(selector)?;
        let switch = Switch {
            link: Link::Nested,
            selector,
            descriptor,
            return_eip,
            flags: self.flags_image(cause),
            error_code: pushed_code(cause),
        };
        self.switch_task(switch)
    }

    /// TRAP-OR-INTERRUPT-GATE: `W` is the size of the gate and of what is pushed.
    fn enter_gate<W: Width>(&mut self, cause: Cause, gate: Descriptor, return_eip: u32) -> Exec {
        let selector = gate.gate_selector();
        let bad = Fault::GeneralProtection(error_code(selector));
        // the code segment selector is not null, else #GP(0)
        self.ensure(!is_null(selector), Fault::GeneralProtection(0))?;
        // its index is within the table's limit, else #GP(selector)
        let descriptor = self.descriptor(selector, bad)?;
        // it names a code segment whose DPL does not exceed CPL, else #GP(selector)
        self.ensure(descriptor.is_code() && descriptor.dpl() <= self.cpl, bad)?;
        // which is present, else #NP(selector)
        self.ensure(descriptor.present(), Fault::NotPresent(error_code(selector)))?;
        let is_inward = !descriptor.is_conforming() && descriptor.dpl() < self.cpl;
        // from virtual-8086 mode only to ring 0, else #GP(selector)
        self.ensure(!self.flags.vm() || (is_inward && descriptor.dpl() == 0), bad)?;
        if is_inward {
            self.enter_inner::<W>(cause, gate, descriptor, return_eip)
        } else {
            self.enter_same_level::<W>(cause, gate, descriptor, return_eip)
        }
    }

    /// INTRA-PRIVILEGE-LEVEL-INTERRUPT.
    fn enter_same_level<W: Width>(
        &mut self,
        cause: Cause,
        gate: Descriptor,
        descriptor: Descriptor,
        return_eip: u32,
    ) -> Exec {
        let stack = self.current_stack();
        let mut image = Image::new();
        self.push_return(&mut image, cause, return_eip);
        // the stack has room for the frame, else #SS(0)
        self.ensure(stack.has_room::<W>(image.count), Fault::Stack(0))?;
        let target = self.gate_target::<W>(gate, descriptor, self.cpl)?;
        let slots = self.reserve::<W, 10>(&stack, image.count)?;

        self.fill(&slots, image.values());
        self.move_esp::<W>(image.count);
        self.jump_to(target);
        Ok(())
    }

    /// INTER-PRIVILEGE-LEVEL-INTERRUPT and INTERRUPT-FROM-VIRTUAL-8086-MODE.
    fn enter_inner<W: Width>(
        &mut self,
        cause: Cause,
        gate: Descriptor,
        descriptor: Descriptor,
        return_eip: u32,
    ) -> Exec {
        let dpl = descriptor.dpl();
        let inner = self.inner_stack(dpl)?;
        let mut image = Image::new();
        let from_vm86 = self.flags.vm();
        if from_vm86 {
            for register in [GS, FS, DS, ES] {
                image.push(self.segs[register].selector as u32);
            }
        }
        image.push(self.segs[SS].selector as u32);
        image.push(self.regs.dword(ESP));
        self.push_return(&mut image, cause, return_eip);
        // the new stack has room for the frame, else #SS(new SS)
        let no_room = Fault::Stack(error_code(inner.ss.segment().selector));
        self.ensure(inner.stack.has_room::<W>(image.count), no_room)?;
        let target = self.gate_target::<W>(gate, descriptor, dpl)?;
        let slots = self.reserve::<W, 10>(&inner.stack, image.count)?;

        self.fill(&slots, image.values());
        self.enter_stack::<W>(inner, image.count);
        if from_vm86 {
            for register in [GS, FS, DS, ES] {
                self.segs[register] = Segment::null(0);
            }
        }
        self.jump_to(target);
        self.set_cpl(dpl);
        Ok(())
    }

    /// EFLAGS, CS, EIP and the error code, if the exception has one.
    fn push_return(&self, image: &mut Image, cause: Cause, return_eip: u32) {
        image.push(self.flags_image(cause));
        image.push(self.segs[CS].selector as u32);
        image.push(return_eip);
        if let Some(code) = pushed_code(cause) {
            image.push(code as u32);
        }
    }

    /// The gate's target at privilege `cpl`.
    fn gate_target<W: Width>(&mut self, gate: Descriptor, descriptor: Descriptor, cpl: u8) -> Exec<Target> {
        // the gate's offset is within the code segment's limit, else #GP(0)
        let eip = W::from_u32(gate.gate_offset()).to_u32();
        self.ensure(eip <= descriptor.limit(), Fault::GeneralProtection(0))?;
        let code = self.prepare(gate.gate_selector() & !3 | cpl as u16, descriptor)?;
        let interrupt = if System::of(gate) == Some(System::InterruptGate) { flags::IF } else { 0 };
        Ok(Target { code, eip, cleared: interrupt | flags::TF | flags::NT | flags::RF | flags::VM })
    }

    fn jump_to(&mut self, target: Target) {
        self.segs[CS] = self.commit(target.code);
        self.eip = target.eip;
        self.set_flags(0, target.cleared);
    }
}

/// The error code that `cause` pushes: exceptions only, never INT n to the same vector.
fn pushed_code(cause: Cause) -> Option<u16> {
    if let Cause::Fault(fault) = cause { fault.error_code() } else { None }
}
