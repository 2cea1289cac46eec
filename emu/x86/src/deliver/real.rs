//! Delivery in real-address mode, through the interrupt vector table (SDM 3A "Interrupt and Exception Handling" of
//! "8086 Emulation"; SDM 2A "INT n", REAL-ADDRESS-MODE).

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::fault::{Exec, Fault};
use crate::flags;
use crate::observe::{Asker, Cause, Observer};
use crate::segment::CS;

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// Pushes FLAGS, CS and IP and goes where the vector points.
    pub(super) fn enter_real(&mut self, cause: Cause, return_eip: u32) -> Exec {
        let vector = cause.vector();
        let entry = vector as u32 * 4;
        // the vector's four bytes are within the IDT's limit, else #GP
        self.ensure(entry + 3 <= self.idtr.limit as u32, Fault::GeneralProtection(0))?;
        let target: u32 = self.system_read(self.idtr.base.wrapping_add(entry), Asker::Gate { vector })?;
        // the stack has room for 6 bytes, else #SS
        let stack = self.current_stack();
        self.ensure(stack.has_room::<u16>(3), Fault::Stack(0))?;
        let slots = self.reserve::<u16, 3>(&stack, 3)?;

        let image = [self.flags.get(), self.segs[CS].selector as u32, return_eip];

        self.fill(&slots, &image);
        self.move_esp::<u16>(3);
        self.segs[CS].load_real_code((target >> 16) as u16);
        self.eip = target & 0xffff;
        self.set_flags(0, flags::IF | flags::TF | flags::RF | flags::AC);
        Ok(())
    }
}
