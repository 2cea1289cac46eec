//! IRET and IRETD (SDM 2A "IRET/IRETD", Operation; the clauses stand in the manual's order).

use super::{in_new_task, plain_code};
use crate::bus::Bus;
use crate::control::CR4_VME;
use crate::cpu::{Cpu, Mode};
use crate::descriptor::rpl;
use crate::fault::{Exec, Fault};
use crate::flags;
use crate::observe::Observer;
use crate::op::Op;
use crate::segment::{CS, DS, ES, FS, GS, Segment};
use crate::task::{Link, Switch};
use crate::width::Width;

/// EIP, CS and EFLAGS from the top of the stack.
struct Frame {
    eip: u32,
    selector: u16,
    flags: u32,
}

/// The flags that anyone may change: the low word but IF and IOPL, and with a 32-bit operand RF, AC and ID.
fn open_flags<W: Width>() -> u32 {
    let low = flags::ARITHMETIC | flags::TF | flags::DF | flags::NT;
    if W::BITS == 32 { low | flags::RF | flags::AC | flags::ID } else { low }
}

/// IRET.
pub fn iret<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    // Manual: NMIs are blocked "until execution of an IRET", one that faults too (SDM 3C "NMI unblocking due to IRET")
    cpu.nmi_blocked = false;
    match cpu.mode() {
        Mode::Real => cpu.iret_real::<W>(),
        Mode::Vm86 => cpu.iret_vm86::<W>(),
        Mode::Protected if cpu.flags.system(flags::NT) => cpu.iret_task(op),
        Mode::Protected => cpu.iret_protected::<W>(),
    }
}

impl<B: Bus, O: Observer> Cpu<B, O> {
    fn iret_frame<W: Width>(&mut self) -> Exec<Frame> {
        // the three are within the stack's limit, else #SS(0)
        Ok(Frame {
            eip: self.stack_peek::<W>(0)?,
            selector: self.stack_peek::<W>(W::BYTES)? as u16,
            flags: self.stack_peek::<W>(2 * W::BYTES)?,
        })
    }

    /// Loads flags as far as the model has them.
    fn iret_flags(&mut self, value: u32, mask: u32) {
        let mask = mask & self.model.flags_mask();
        self.set_flags(value, mask);
        self.leave_block();
    }

    /// Sets CS:EIP, releases the frame and loads the flags of `mask`.
    fn iret_plain<W: Width>(&mut self, frame: &Frame, mask: u32) -> Exec {
        // EIP is within the code segment's limit, else #GP(0)
        let code = plain_code(self, frame.selector);
        self.ensure(frame.eip <= code.limit, Fault::GeneralProtection(0))?;

        self.segs[CS] = code;
        self.eip = frame.eip;
        self.release(3 * W::BYTES);
        self.iret_flags(frame.flags, mask);
        Ok(())
    }

    /// REAL-ADDRESS-MODE: all flags but VM, VIF and VIP.
    fn iret_real<W: Width>(&mut self) -> Exec {
        let frame = self.iret_frame::<W>()?;
        self.iret_plain::<W>(&frame, open_flags::<W>() | flags::IF | flags::IOPL)
    }

    /// RETURN-FROM-VIRTUAL-8086-MODE: within it, rather.
    fn iret_vm86<W: Width>(&mut self) -> Exec {
        if self.flags.iopl() == 3 {
            // all flags but VM, IOPL, VIF and VIP
            let frame = self.iret_frame::<W>()?;
            return self.iret_plain::<W>(&frame, open_flags::<W>() | flags::IF);
        }
        // IOPL below 3: only a 16-bit IRET with the VME, else #GP(0)
        let extended = self.cr4 & CR4_VME != 0 && W::BITS == 16;
        self.ensure(extended, Fault::GeneralProtection(0))?;
        let frame = self.iret_frame::<W>()?;
        // TF would not be set, nor IF while a virtual interrupt is pending, else #GP(0)
        let pending = self.flags.system(flags::VIP);
        let refused = frame.flags & flags::TF != 0 || (frame.flags & flags::IF != 0 && pending);
        self.ensure(!refused, Fault::GeneralProtection(0))?;
        // VIF takes the place of IF
        let virtual_if = if frame.flags & flags::IF != 0 { flags::VIF } else { 0 };
        let frame = Frame { flags: frame.flags & 0xffff | virtual_if, ..frame };
        self.iret_plain::<W>(&frame, open_flags::<W>() | flags::VIF)
    }

    /// TASK-RETURN.
    fn iret_task(&mut self, op: &Op<B, O>) -> Exec {
        let selector = self.back_link()?;
        // the link names a busy TSS in the GDT, else #TS(TSS); present, else #NP(TSS)
        let descriptor = self.busy_tss(selector)?;
        let entered = self.switch_task(Switch {
            link: Link::Return,
            selector,
            descriptor,
            return_eip: self.next_ip(op),
            flags: self.flags.get(),
            error_code: None,
        })?;
        in_new_task(self, op, entered)
    }

    /// PROTECTED-MODE.
    fn iret_protected<W: Width>(&mut self) -> Exec {
        let frame = self.iret_frame::<W>()?;
        if W::BITS == 32 && frame.flags & flags::VM != 0 && self.cpl == 0 {
            return self.iret_to_vm86(&frame);
        }
        // PROTECTED-MODE-RETURN: IOPL by CPL 0, IF by CPL up to IOPL, as they were before
        let mut mask = open_flags::<W>();
        if self.cpl <= self.flags.iopl() {
            mask |= flags::IF;
        }
        if self.cpl == 0 {
            mask |= flags::IOPL;
            if W::BITS == 32 {
                mask |= flags::VIF | flags::VIP;
            }
        }
        let descriptor = self.check_return_code(frame.selector)?;
        if rpl(frame.selector) == self.cpl {
            // RETURN-TO-SAME-PRIVILEGE-LEVEL: EIP is within the code segment's limit, else #GP(0)
            self.ensure(frame.eip <= descriptor.limit(), Fault::GeneralProtection(0))?;
            let code = self.prepare(frame.selector, descriptor)?;

            self.segs[CS] = self.commit(code);
            self.eip = frame.eip;
            self.release(3 * W::BYTES);
        } else {
            // RETURN-TO-OUTER-PRIVILEGE-LEVEL
            let stack = self.outer_stack::<W>(3 * W::BYTES, rpl(frame.selector))?;
            let code = self.outer_code(frame.selector, descriptor, frame.eip)?;

            self.go_outward(code, frame.eip, stack);
        }
        self.iret_flags(frame.flags, mask);
        Ok(())
    }

    /// RETURN-TO-VIRTUAL-8086-MODE.
    fn iret_to_vm86(&mut self, frame: &Frame) -> Exec {
        // the nine doublewords are within the stack's limit, else #SS(0)
        let esp = self.stack_peek::<u32>(12)?;
        let stack = self.stack_peek::<u32>(16)? as u16;
        let mut data = [0; 4];
        for (n, selector) in data.iter_mut().enumerate() {
            *selector = self.stack_peek::<u32>(20 + 4 * n as u32)? as u16;
        }
        // EIP is within the code segment's limit, else #GP(0)
        self.ensure(frame.eip <= 0xffff, Fault::GeneralProtection(0))?;

        self.segs[CS] = Segment::real(frame.selector, 3);
        self.eip = frame.eip;
        for (register, selector) in [ES, DS, FS, GS].into_iter().zip(data) {
            self.segs[register] = Segment::real(selector, 3);
        }
        // all of ESP is loaded, though only SP counts from here on
        self.segs[crate::segment::SS] = Segment::real(stack, 3);
        self.regs.set_dword(crate::regs::ESP, esp);
        self.iret_flags(frame.flags, !0);
        self.set_cpl(3);
        Ok(())
    }
}
