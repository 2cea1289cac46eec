//! Frames that the processor itself pushes on a stack or reads from one: return addresses, interrupt frames, copied
//! parameters; and the stack of an inner privilege level, from the TSS (SDM 3A "Stack Switching").

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::descriptor::{Load, error_code};
use crate::fault::{Exec, Fault};
use crate::flags;
use crate::mmu::walk::Privilege;
use crate::mmu::{Intent, Place};
use crate::observe::{Asker, Observer};
use crate::regs::ESP;
use crate::segment::{SS, Segment};
use crate::width::Width;

/// A stack to push on.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    segment: Segment,
    esp: u32,
    /// The privilege of the pushes, if the stack is not the current one.
    inner: Option<Privilege>,
}

/// Up to `N` places below a stack pointer.
pub struct Slots<W, const N: usize>([Place<W>; N]);

impl Stack {
    /// Which bits of ESP count.
    fn mask(&self) -> u32 {
        if self.segment.is_32bit() { 0xffff_ffff } else { 0xffff }
    }

    /// The offset of push number `n`, from 0.
    fn slot<W: Width>(&self, n: usize) -> u32 {
        self.esp.wrapping_sub((n as u32 + 1) * W::BYTES) & self.mask()
    }

    /// Whether `count` pushes of `W` stay within the segment.
    pub fn has_room<W: Width>(&self, count: usize) -> bool {
        (0..count).all(|n| self.segment.can_write(self.slot::<W>(n), W::BYTES))
    }

    /// ESP after `count` pushes of `W`. A 16-bit stack leaves the upper half alone.
    fn esp_after<W: Width>(&self, count: usize) -> u32 {
        let mask = self.mask();
        self.esp & !mask | self.esp.wrapping_sub(count as u32 * W::BYTES) & mask
    }
}

/// A stack of an inner level: SS as it will be, and its top.
pub struct InnerStack {
    /// SS, checked.
    pub ss: Load,
    /// The stack to push on.
    pub stack: Stack,
}

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// The stack in SS:ESP.
    pub fn current_stack(&self) -> Stack {
        Stack { segment: self.segs[SS], esp: self.regs.dword(ESP), inner: None }
    }

    /// Translates `count` pushes of `W` on a stack that has room for them.
    pub fn reserve<W: Width, const N: usize>(&mut self, stack: &Stack, count: usize) -> Exec<Slots<W, N>> {
        let mut slots = Slots([Place::ram(0); N]);
        for (n, place) in slots.0.iter_mut().enumerate().take(count) {
            let offset = stack.slot::<W>(n);
            *place = match stack.inner {
                None => self.translate(SS, offset, Intent::Write)?,
                Some(privilege) => {
                    let beyond = Fault::Stack(error_code(stack.segment.selector));
                    self.stack_place(&stack.segment, offset, Intent::Write, privilege, beyond)?
                }
            };
        }
        Ok(slots)
    }

    /// Pushes `values`, the first one first.
    pub fn fill<W: Width, const N: usize>(&mut self, slots: &Slots<W, N>, values: &[u32]) {
        for (place, &value) in slots.0.iter().zip(values) {
            self.store(*place, W::from_u32(value));
        }
    }

    /// Moves ESP down by `count` pushes of `W` on the current stack.
    pub fn move_esp<W: Width>(&mut self, count: usize) {
        self.release((count as u32 * W::BYTES).wrapping_neg());
    }

    /// Releases `bytes` bytes of the current stack.
    pub fn release(&mut self, bytes: u32) {
        let esp = self.esp_moved(bytes);
        self.regs.set_dword(ESP, esp);
    }

    /// Reads the `W` that stands `bytes` above the top of the current stack; #SS(0) beyond the limit.
    pub fn stack_peek<W: Width>(&mut self, bytes: u32) -> Exec<u32> {
        let place = self.stack_slot::<W>(bytes, Intent::Read)?;
        Ok(self.load(place).to_u32())
    }

    /// Puts an inner stack into SS:ESP: "ESP := newESP" (SDM 2A "CALL", MORE-PRIVILEGE), in full whatever the size of the
    /// stack, and then the `count` pushes of `W`.
    pub fn enter_stack<W: Width>(&mut self, inner: InnerStack, count: usize) {
        self.segs[SS] = self.commit(inner.ss);
        self.regs.set_dword(ESP, inner.stack.esp_after::<W>(count));
    }

    /// Puts an outer stack into SS:ESP. With a 16-bit stack segment only SP is loaded.
    pub fn load_stack(&mut self, ss: Segment, esp: u32) {
        self.segs[SS] = ss;
        let (old, mask) = (self.regs.dword(ESP), self.stack_mask());
        self.regs.set_dword(ESP, old & !mask | esp & mask);
    }

    /// The privilege of the program's accesses at `cpl`.
    fn privilege_at(&self, cpl: u8) -> Privilege {
        if cpl == 3 { Privilege::User } else { Privilege::Supervisor { ac: self.flags.system(flags::AC) } }
    }

    /// The stack that the TSS holds for privilege level `dpl` (SDM 2A "CALL", MORE-PRIVILEGE; "INT n",
    /// INTER-PRIVILEGE-LEVEL-INTERRUPT: the same clauses).
    pub fn inner_stack(&mut self, dpl: u8) -> Exec<InnerStack> {
        let tss = self.tr;
        let (esp, selector) = if tss.kind() & 8 != 0 {
            self.inner_pointer::<u32>(tss.base, dpl as u32 * 8 + 4)?
        } else {
            self.inner_pointer::<u16>(tss.base, dpl as u32 * 4 + 2)?
        };
        // null is #TS(0); outside its table, RPL or DPL other than the new CPL, not writable data: #TS(SS); not
        // present: #SS(SS)
        let ss = self.check_stack(selector, dpl, Fault::InvalidTss)?;
        let stack = Stack { segment: *ss.segment(), esp, inner: Some(self.privilege_at(dpl)) };
        Ok(InnerStack { ss, stack })
    }

    /// A stack pointer and stack selector at `offset` in the TSS.
    fn inner_pointer<W: Width>(&mut self, base: u32, offset: u32) -> Exec<(u32, u16)> {
        // both lie within the TSS's limit, else #TS(TR)
        let tss = self.tr;
        let last = offset + W::BYTES + 1;
        self.ensure(last <= tss.limit, Fault::InvalidTss(error_code(tss.selector)))?;
        let at = base.wrapping_add(offset);
        let esp: W = self.system_read(at, Asker::Tss)?;
        let selector: u16 = self.system_read(at.wrapping_add(W::BYTES), Asker::Tss)?;
        Ok((esp.to_u32(), selector))
    }
}
