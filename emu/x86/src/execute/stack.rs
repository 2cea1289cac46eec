//! PUSH, POP and their kin, ENTER, LEAVE, PUSHF, POPF.

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::Shape;
use crate::fault::Exec;
use crate::mmu::{Intent, Place};
use crate::observe::Observer;
use crate::op::Handler;
use crate::regs::ESP;
use crate::segment::SS;
use crate::width::Width;

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// ESP after `by` bytes are added to the stack pointer: a 16-bit stack wraps SP and keeps the upper half.
    #[inline(always)]
    pub fn esp_moved(&self, by: u32) -> u32 {
        let (esp, mask) = (self.regs.dword(ESP), self.stack_mask());
        esp & !mask | esp.wrapping_add(by) & mask
    }

    /// Translates `W` on the stack, `by` bytes from its top. #SS(0), #AC or #PF.
    #[inline(always)]
    pub fn stack_slot<W: Width>(&mut self, by: u32, intent: Intent) -> Exec<Place<W>> {
        let offset = self.regs.dword(ESP).wrapping_add(by) & self.stack_mask();
        self.translate(SS, offset, intent)
    }

    /// Translates the slot that a push of `W` goes to.
    #[inline(always)]
    pub fn push_place<W: Width>(&mut self) -> Exec<Place<W>> {
        self.stack_slot(W::BYTES.wrapping_neg(), Intent::Write)
    }

    /// Commits a push.
    #[inline(always)]
    pub fn push_at<W: Width>(&mut self, slot: Place<W>, value: W) {
        self.store(slot, value);
        let esp = self.esp_moved(W::BYTES.wrapping_neg());
        self.regs.set_dword(ESP, esp);
    }

    /// Translates the slot that a pop of `W` comes from. The pop itself is `load`, then ESP to
    /// `esp_moved(W::BYTES)`.
    #[inline(always)]
    pub fn pop_place<W: Width>(&mut self) -> Exec<Place<W>> {
        self.stack_slot(0, Intent::Read)
    }
}

/// The bodies of this family.
pub fn handler<B: Bus, O: Observer>(_shape: Shape) -> Option<Handler<B, O>> {
    None
}
