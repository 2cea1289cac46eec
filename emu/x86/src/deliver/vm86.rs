//! Delivery from virtual-8086 mode: out of it through the IDT, or back into the 8086 program (SDM 3A "Interrupt and
//! Exception Handling in Virtual-8086 Mode", "Virtual-8086 Mode Extensions").

use crate::bus::Bus;
use crate::control::CR4_VME;
use crate::cpu::Cpu;
use crate::fault::{Exec, Fault};
use crate::flags;
use crate::observe::{Asker, Cause, Observer};
use crate::segment::{CS, Segment};

/// Offset of the I/O map base address in a 32-bit TSS.
const MAP_BASE: u32 = 0x66;
/// The interrupt redirection bitmap is the 32 bytes before the I/O permission bitmap.
const REDIRECTION_BYTES: u32 = 32;

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// The table "Software Interrupt Handling Methods While in Virtual-8086 Mode". Only INT n is subject to IOPL and
    /// to the bitmap: hardware interrupts, exceptions, INT3 and INTO always go through the IDT.
    pub(super) fn enter_from_vm86(&mut self, cause: Cause, return_eip: u32) -> Exec<Exec> {
        let Cause::Software(vector) = cause else { return self.enter_protected(cause, return_eip) };
        let iopl = self.flags.iopl();
        if self.cr4 & CR4_VME == 0 {
            // methods 1 and 2: IOPL is 3, else #GP(0)
            self.ensure(iopl == 3, Fault::GeneralProtection(0))?;
            return self.enter_protected(cause, return_eip);
        }
        if self.is_redirected(vector)? {
            // methods 5 and 6
            return self.enter_8086_handler(vector, return_eip).map(Ok);
        }
        // methods 3 and 4: IOPL is 3, else #GP(0)
        self.ensure(iopl == 3, Fault::GeneralProtection(0))?;
        self.enter_protected(cause, return_eip)
    }

    /// Whether bit `vector` of the interrupt redirection bitmap is clear: the 8086 program handles the interrupt.
    fn is_redirected(&mut self, vector: u8) -> Exec<bool> {
        let tss = self.tr;
        let beyond = Fault::GeneralProtection(0);
        // the TSS is a 32-bit one that holds the map's base, else #GP(0)
        self.ensure(tss.kind() & 8 != 0 && tss.limit > MAP_BASE, beyond)?;
        let map: u16 = self.system_read(tss.base.wrapping_add(MAP_BASE), Asker::Tss)?;
        let at = (map as u32).wrapping_sub(REDIRECTION_BYTES).wrapping_add(vector as u32 / 8);
        // the bitmap's byte is within its limit, else #GP(0)
        self.ensure(at <= tss.limit, beyond)?;
        let byte: u8 = self.system_read(tss.base.wrapping_add(at), Asker::Bitmap)?;
        Ok(byte >> (vector & 7) & 1 == 0)
    }

    /// Methods 5 and 6: as real mode does, through the vector table at linear address 0. With IOPL below 3 the program
    /// sees VIF in the place of IF, and an IOPL of 3.
    fn enter_8086_handler(&mut self, vector: u8, return_eip: u32) -> Exec {
        let target: u32 = self.system_read(vector as u32 * 4, Asker::Gate { vector })?;
        // the stack has room for 6 bytes, else #SS(0)
        let stack = self.current_stack();
        self.ensure(stack.has_room::<u16>(3), Fault::Stack(0))?;
        let slots = self.reserve::<u16, 3>(&stack, 3)?;

        let flags = self.flags.get();
        let virtual_if = self.flags.iopl() < 3;
        let image = if virtual_if {
            let seen = if flags & flags::VIF != 0 { flags::IF } else { 0 };
            flags & !flags::IF | flags::IOPL | seen
        } else {
            flags
        };
        let cleared = if virtual_if { flags::VIF } else { flags::IF };

        self.fill(&slots, &[image, self.segs[CS].selector as u32, return_eip]);
        self.move_esp::<u16>(3);
        self.segs[CS] = Segment::real((target >> 16) as u16, 3);
        self.eip = target & 0xffff;
        self.set_flags(0, cleared | flags::TF | flags::RF);
        Ok(())
    }
}
