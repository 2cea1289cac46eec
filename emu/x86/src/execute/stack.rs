//! PUSH, POP and their kin, ENTER, LEAVE, PUSHF, POPF (SDM 1 "Procedure Stack", "Stack Manipulation Instructions").
//!
//! Hardware: what 16-bit stack segments do to ESP and EBP, what ENTER probes, and what PUSH of a segment register leaves
//! in the upper half of its slot was measured on an AMD EPYC in 32-bit mode.

use iced_x86::Code;

use crate::bus::Bus;
use crate::control::CR4_VME;
use crate::cpu::{Cpu, Mode};
use crate::execute::{Form, Shape, by_form};
use crate::fault::{Exec, Fault};
use crate::flags;
use crate::mmu::{Intent, Place};
use crate::observe::Observer;
use crate::op::{Handler, Op};
use crate::regs::{EBP, ESP};
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
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code {
        Code::Push_r16 => push_r::<B, O, u16>,
        Code::Push_r32 => push_r::<B, O, u32>,
        Code::Push_rm16 => by_form!(shape, push_rm, u16),
        Code::Push_rm32 => by_form!(shape, push_rm, u32),
        Code::Push_imm16 | Code::Pushw_imm8 => push_imm::<B, O, u16>,
        Code::Pushd_imm32 | Code::Pushd_imm8 => push_imm::<B, O, u32>,
        Code::Pushw_ES
        | Code::Pushw_CS
        | Code::Pushw_SS
        | Code::Pushw_DS
        | Code::Pushw_FS
        | Code::Pushw_GS => push_sreg::<B, O, u16>,
        Code::Pushd_ES
        | Code::Pushd_CS
        | Code::Pushd_SS
        | Code::Pushd_DS
        | Code::Pushd_FS
        | Code::Pushd_GS => push_sreg::<B, O, u32>,
        Code::Pop_r16 => pop_r::<B, O, u16>,
        Code::Pop_r32 => pop_r::<B, O, u32>,
        Code::Pop_rm16 if !shape.memory => pop_rm_r::<B, O, u16>,
        Code::Pop_rm32 if !shape.memory => pop_rm_r::<B, O, u32>,
        Code::Pop_rm16 => pop_m::<B, O, u16>,
        Code::Pop_rm32 => pop_m::<B, O, u32>,
        Code::Pushaw => pusha::<B, O, u16>,
        Code::Pushad => pusha::<B, O, u32>,
        Code::Popaw => popa::<B, O, u16>,
        Code::Popad => popa::<B, O, u32>,
        Code::Pushfw => pushf::<B, O, u16>,
        Code::Pushfd => pushf::<B, O, u32>,
        Code::Popfw => popf::<B, O, u16>,
        Code::Popfd => popf::<B, O, u32>,
        Code::Enterw_imm16_imm8 => enter::<B, O, u16>,
        Code::Enterd_imm16_imm8 => enter::<B, O, u32>,
        Code::Leavew => leave::<B, O, u16>,
        Code::Leaved => leave::<B, O, u32>,
        _ => return None,
    })
}

/// PUSH r. PUSH ESP pushes what ESP was.
fn push_r<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let slot = cpu.push_place::<W>()?;

    let value = W::get_reg(&cpu.regs, op.reg);

    cpu.push_at(slot, value);
    Ok(())
}

/// PUSH r/m. An address by ESP counts from ESP before the push.
fn push_rm<B: Bus, O: Observer, M: Form, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let source = M::locate::<B, O, W>(cpu, op, Intent::Read)?;
    let slot = cpu.push_place::<W>()?;

    let value = M::get(cpu, source);

    cpu.push_at(slot, value);
    Ok(())
}

/// PUSH imm.
fn push_imm<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let slot = cpu.push_place::<W>()?;

    cpu.push_at(slot, W::from_u32(op.imm));
    Ok(())
}

/// PUSH Sreg.
///
/// Choice: the manual lets a 32-bit push zero-extend the selector or leave the slot's upper half as it was; this does as
/// AMD's processors do, and zero-extends.
fn push_sreg<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let slot = cpu.push_place::<W>()?;

    let selector = cpu.segs[op.reg as usize].selector;

    cpu.push_at(slot, W::from_u32(selector as u32));
    Ok(())
}

/// POP into register `dest`. POP ESP ends with what was popped.
#[inline(always)]
fn pop_to<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, dest: u8) -> Exec {
    let slot = cpu.pop_place::<W>()?;

    let value = cpu.load(slot);

    let esp = cpu.esp_moved(W::BYTES);
    cpu.regs.set_dword(ESP, esp);
    value.set_reg(&mut cpu.regs, dest);
    Ok(())
}

/// POP r.
fn pop_r<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    pop_to::<B, O, W>(cpu, op.reg)
}

/// POP r, as 8F encodes it.
fn pop_rm_r<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    pop_to::<B, O, W>(cpu, op.rm)
}

/// POP m. An address by ESP counts from ESP after the pop.
fn pop_m<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let slot = cpu.pop_place::<W>()?;
    let esp = cpu.esp_moved(W::BYTES);
    let popped = if op.base == ESP { esp.wrapping_sub(cpu.regs.dword(ESP)) } else { 0 };
    let offset = cpu.effective_address(op).wrapping_add(popped) & op.address_mask;
    let dest = cpu.translate::<W>(op.segment as usize, offset, Intent::Write)?;

    let value = cpu.load(slot);

    cpu.store(dest, value);
    cpu.regs.set_dword(ESP, esp);
    Ok(())
}

/// PUSHA, PUSHAD: EAX, ECX, EDX, EBX, ESP as it was, EBP, ESI, EDI.
fn pusha<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    // Manual: in real mode, #GP if (E)SP is 7, 9, 11, 13 or 15
    let top = cpu.regs.dword(ESP) & cpu.stack_mask();
    let wraps = top & 1 != 0 && (7..=15).contains(&top);
    cpu.ensure(!wraps || cpu.mode() != Mode::Real, Fault::GeneralProtection(0))?;
    let mut slots = [Place::<W>::ram(0); 8];
    for (n, slot) in (1..).zip(&mut slots) {
        *slot = cpu.stack_slot((n * W::BYTES).wrapping_neg(), Intent::Write)?;
    }

    for (n, slot) in (0..).zip(slots) {
        let value = W::get_reg(&cpu.regs, n);
        cpu.store(slot, value);
    }
    let esp = cpu.esp_moved((8 * W::BYTES).wrapping_neg());
    cpu.regs.set_dword(ESP, esp);
    Ok(())
}

/// POPA, POPAD: in the opposite order; the slot of ESP is passed over.
fn popa<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    let mut slots = [Place::<W>::ram(0); 8];
    for (n, slot) in (0..).zip(&mut slots) {
        if 7 - n != ESP as u32 {
            *slot = cpu.stack_slot(n * W::BYTES, Intent::Read)?;
        }
    }

    for (n, slot) in (0..).zip(slots) {
        if 7 - n != ESP {
            let value = cpu.load(slot);
            value.set_reg(&mut cpu.regs, 7 - n);
        }
    }
    let esp = cpu.esp_moved(8 * W::BYTES);
    cpu.regs.set_dword(ESP, esp);
    Ok(())
}

/// PUSHF and POPF in virtual-8086 mode with IOPL below 3: #GP(0), but for the word forms under CR4.VME, which use VIF.
/// Returns whether VIF stands for IF.
fn uses_vif<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>) -> Exec<bool> {
    let sensitive = cpu.mode() == Mode::Vm86 && cpu.flags.iopl() < 3;
    let extended = W::BITS == 16 && cpu.cr4 & CR4_VME != 0;
    cpu.ensure(!sensitive || extended, Fault::GeneralProtection(0))?;
    Ok(sensitive)
}

/// PUSHF, PUSHFD (SDM 2B "PUSHF/PUSHFD/PUSHFQ"). VM and RF are pushed as zero.
fn pushf<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    let virtual_if = uses_vif::<B, O, W>(cpu)?;
    let slot = cpu.push_place::<W>()?;

    let mut image = cpu.flags.get() & !(flags::VM | flags::RF);
    if virtual_if {
        let interrupts = if cpu.flags.system(flags::VIF) { flags::IF } else { 0 };
        image = image & !flags::IF | interrupts | flags::IOPL;
    }

    cpu.push_at(slot, W::from_u32(image));
    Ok(())
}

/// POPF, POPFD (SDM 2B "POPF/POPFD/POPFQ", table "Effect of POPF/POPFD on the EFLAGS Register").
fn popf<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    let virtual_if = uses_vif::<B, O, W>(cpu)?;
    let slot = cpu.pop_place::<W>()?;
    let mut image = cpu.load(slot).to_u32();
    if virtual_if {
        // setting IF while a virtual interrupt is pending, or setting TF, is for the monitor
        let pending = image & flags::IF != 0 && cpu.flags.system(flags::VIP);
        cpu.ensure(!pending && image & flags::TF == 0, Fault::GeneralProtection(0))?;
    }

    // VM, VIP and VIF stay; RF is cleared; IOPL only at CPL 0, IF only if CPL is not above IOPL
    let mut mask = cpu.model.flags_mask() & !(flags::VM | flags::VIP | flags::VIF);
    if W::BITS == 16 {
        mask &= 0xffff;
    }
    if cpu.cpl > 0 {
        mask &= !flags::IOPL;
    }
    if cpu.cpl > cpu.flags.iopl() {
        mask &= !flags::IF;
    }
    image &= !flags::RF;
    if virtual_if {
        mask |= flags::VIF;
        if image & flags::IF != 0 {
            image |= flags::VIF;
        }
    }
    let changed = (cpu.flags.get() ^ image) & mask;

    cpu.set_flags(image, changed);
    let esp = cpu.esp_moved(W::BYTES);
    cpu.regs.set_dword(ESP, esp);
    Ok(())
}

/// ENTER (SDM 2A "ENTER"): a frame of `imm` bytes with a display of `imm2` enclosing frame pointers.
///
/// It also faults if a write of the operand size at the final stack pointer would.
fn enter<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    const MOST: usize = 32;
    let size = op.imm & 0xffff;
    let level = op.imm2 as u32 & 31;
    let (mask, old_ebp) = (cpu.stack_mask(), cpu.regs.dword(EBP));
    let pushes = level + 1;
    let mut frames = [Place::<W>::ram(0); MOST];
    let mut slots = [Place::<W>::ram(0); MOST];
    // EBP first, then the display of the enclosing frame, then the new frame pointer
    for (n, (frame, slot)) in (0..pushes).zip(frames.iter_mut().zip(&mut slots)) {
        if n > 0 && n < level {
            let offset = old_ebp.wrapping_sub(n * W::BYTES) & mask;
            *frame = cpu.translate(SS, offset, Intent::Read)?;
        }
        *slot = cpu.stack_slot(((n + 1) * W::BYTES).wrapping_neg(), Intent::Write)?;
    }
    let total = size.wrapping_add(pushes * W::BYTES);
    cpu.stack_slot::<W>(total.wrapping_neg(), Intent::Write)?;

    let frame_pointer = cpu.esp_moved(W::BYTES.wrapping_neg());
    let esp = cpu.esp_moved(total.wrapping_neg());

    for (n, (frame, slot)) in (0..pushes).zip(frames.into_iter().zip(slots)) {
        let value = match n {
            0 => W::from_u32(old_ebp),
            _ if n < level => cpu.load(frame),
            _ => W::from_u32(frame_pointer),
        };
        cpu.store(slot, value);
    }
    W::from_u32(frame_pointer).set_reg(&mut cpu.regs, EBP);
    cpu.regs.set_dword(ESP, esp);
    Ok(())
}

/// LEAVE: the stack pointer to the frame pointer, then POP (E)BP.
fn leave<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    let (frame_pointer, mask) = (cpu.regs.dword(EBP), cpu.stack_mask());
    let slot = cpu.translate::<W>(SS, frame_pointer & mask, Intent::Read)?;

    let value = cpu.load(slot);

    let esp = cpu.regs.dword(ESP) & !mask | frame_pointer.wrapping_add(W::BYTES) & mask;
    cpu.regs.set_dword(ESP, esp);
    value.set_reg(&mut cpu.regs, EBP);
    Ok(())
}
