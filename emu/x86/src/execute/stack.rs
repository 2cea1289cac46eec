//! PUSH, POP and their kin, ENTER, LEAVE, PUSHF, POPF (SDM 1 "Procedure Stack", "Stack Manipulation Instructions").
//! Segment registers are pushed and popped in the segment family.
//!
//! Hardware: what 16-bit stack segments do to ESP and EBP, and what ENTER probes, was measured on an AMD EPYC in 32-bit
//! mode.

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
/// It also faults if a write of the operand size at the final stack pointer would. Unverified: that this probe meets data
/// breakpoints and sets the dirty bit, as it does here.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Bus;
    use crate::execute::system::testing::*;
    use crate::flags::{AC, ALWAYS, DF, ID, IF, IOPL, NT, OF, RF, TF, VIF, VIP, VM};
    use crate::model::{I386, MAX};
    use crate::regs::{EAX, EBX, EDI, EDX, ESI};
    use crate::segment::Segment;

    const SS0: Result<(), Fault> = Err(Fault::Stack(0));
    const GP: Result<(), Fault> = Err(Fault::GeneralProtection(0));

    /// A 16-bit stack in 32-bit code.
    fn narrow(esp: u32, ebp: u32) -> TestCpu {
        let mut cpu = cpu_of(MAX);
        cpu.segs[SS] = Segment::new(0x10, 0, 0xffff, 0x93);
        cpu.regs.set_dword(ESP, esp);
        cpu.regs.set_dword(EBP, ebp);
        cpu
    }

    fn dword(cpu: &TestCpu, at: usize) -> u32 {
        u32::from_le_bytes(cpu.bus.ram().slice(at, 4).try_into().unwrap())
    }

    fn put(cpu: &mut TestCpu, at: usize, value: u32) {
        cpu.bus.ram_mut().write(at, &value.to_le_bytes());
    }

    /// Hardware: AMD EPYC, 32-bit code with a 16-bit stack segment of 64 KiB; ESP and EBP after, or the fault.
    #[test]
    fn a_16_bit_stack_segment_does_to_esp_and_ebp_what_hardware_does() {
        let ebp = 0x1234_5678;
        type Case = (&'static [u8], u32, Result<(u32, u32), Fault>);
        let cases: &[Case] = &[
            (&[0x52], 0xabcd_0000, Ok((0xabcd_fffc, ebp))), // push edx
            (&[0x66, 0x52], 0xabcd_0001, Err(Fault::Stack(0))),
            (&[0x52], 0xabcd_0002, Err(Fault::Stack(0))),
            (&[0x66, 0x60], 0xabcd_0007, Err(Fault::Stack(0))), // pushaw
            (&[0x60], 0xabcd_0008, Ok((0xabcd_ffe8, ebp))),
            (&[0x5a], 0xabcd_fffe, Err(Fault::Stack(0))), // pop edx
            (&[0x66, 0x5a], 0xabcd_fffe, Ok((0xabcd_0000, ebp))),
            (&[0x5a], 0xabcd_fffc, Ok((0xabcd_0000, ebp))),
            (&[0xc8, 0x10, 0, 0], 0xabcd_8000, Ok((0xabcd_7fec, 0xabcd_7ffc))), // enter
            (&[0x66, 0xc8, 0x10, 0, 0], 0xabcd_8000, Ok((0xabcd_7fee, 0x1234_7ffe))),
            (&[0xc8, 0xfc, 0x7f, 0], 0xabcd_8000, Ok((0xabcd_0000, 0xabcd_7ffc))),
            (&[0xc8, 0xfd, 0x7f, 0], 0xabcd_8000, Err(Fault::Stack(0))),
            (&[0xc8, 0x00, 0x80, 0], 0xabcd_8000, Ok((0xabcd_fffc, 0xabcd_7ffc))),
            (&[0x66, 0xc8, 0xff, 0x7f, 0], 0xabcd_8000, Err(Fault::Stack(0))),
            (&[0xc8, 0x10, 0, 2], 0xabcd_8000, Ok((0xabcd_7fe4, 0xabcd_7ffc))),
            (&[0xc9], 0xabcd_8000, Ok((0xabcd_567c, 0x1111_2222))), // leave
            (&[0x66, 0xc9], 0xabcd_8000, Ok((0xabcd_567a, 0x1234_2222))),
            (&[0x5c], 0xabcd_8000, Ok((0x3333_4444, ebp))), // pop esp
            (&[0x66, 0x5c], 0xabcd_8000, Ok((0xabcd_4444, ebp))),
            (&[0xff, 0x34, 0x24], 0xabcd_8000, Err(Fault::Stack(0))), // push [esp]: beyond the limit
        ];
        for (bytes, esp, expected) in cases {
            let mut cpu = narrow(*esp, ebp);
            put(&mut cpu, 0x5678, 0x1111_2222);
            put(&mut cpu, 0x8000, 0x3333_4444);
            let before = (cpu.state.clone(), cpu.bus.clone());
            let result = run(&mut cpu, bytes);
            assert_eq!(
                result.map(|()| (cpu.regs.dword(ESP), cpu.regs.dword(EBP))),
                *expected,
                "{bytes:x?} with esp {esp:#x}"
            );
            if result.is_err() {
                assert!((cpu.state, cpu.bus) == before, "{bytes:x?} with esp {esp:#x}");
            }
        }
    }

    /// Hardware: as above; the slots of `enter 16, 2`.
    #[test]
    fn enter_pushes_ebp_the_display_and_the_frame_pointer() {
        let mut cpu = narrow(0xabcd_8000, 0x1234_5678);
        put(&mut cpu, 0x5674, 0xcafe_babe);
        run(&mut cpu, &[0xc8, 0x10, 0, 2]).unwrap();
        assert_eq!(
            [0x7ffc, 0x7ff8, 0x7ff4].map(|at| dword(&cpu, at)),
            [0x1234_5678, 0xcafe_babe, 0xabcd_7ffc]
        );
    }

    #[test]
    fn enter_reads_display_entries_that_it_has_just_pushed() {
        // SDM 2A "ENTER", Operation: push and read alternate
        let mut cpu = cpu_of(MAX);
        cpu.regs.set_dword(EBP, 0x8000);
        run(&mut cpu, &[0xc8, 0, 0, 4]).unwrap();
        assert_eq!(
            [0x7ffc, 0x7ff8, 0x7ff4, 0x7ff0, 0x7fec].map(|at| dword(&cpu, at)),
            [0x8000, 0x8000, 0x8000, 0x8000, 0x7ffc]
        );
        assert_eq!((cpu.regs.dword(ESP), cpu.regs.dword(EBP)), (0x7fec, 0x7ffc));
        let mut cpu = cpu_of(MAX);
        run(&mut cpu, &[0xc8, 0, 0, 0x3f]).unwrap(); // the level counts modulo 32
        assert_eq!(cpu.regs.dword(ESP), 0x8000 - 4 * 32);
    }

    /// Hardware: AMD EPYC; where a page below 5000h could not be written, these sizes from 6000h faulted.
    #[test]
    fn enter_probes_a_write_at_the_final_stack_pointer() {
        for (size, expected) in [(0x1000u16, SS0), (0xffb, Ok(())), (0xffc, Ok(())), (0xffd, SS0)] {
            let mut cpu = cpu_of(MAX);
            cpu.segs[SS] = Segment::new(0x10, 0, 0x4fff, 0x4097); // expand-down: valid from 5000h
            cpu.regs.set_dword(ESP, 0x6000);
            let [low, high] = size.to_le_bytes();
            let before = (cpu.state.clone(), cpu.bus.clone());
            assert_eq!(run(&mut cpu, &[0xc8, low, high, 0]), expected, "{size:#x}");
            assert!(expected.is_ok() || (cpu.state, cpu.bus) == before);
        }
    }

    #[test]
    fn operands_addressed_by_esp_count_from_before_a_push_and_after_a_pop() {
        let mut cpu = cpu_of(MAX);
        put(&mut cpu, 0x8000, 0x99);
        run(&mut cpu, &[0xff, 0x34, 0x24]).unwrap(); // push [esp]
        assert_eq!((cpu.regs.dword(ESP), dword(&cpu, 0x7ffc)), (0x7ffc, 0x99));
        run(&mut cpu, &[0x8f, 0x44, 0x24, 8]).unwrap(); // pop [esp+8]
        assert_eq!((cpu.regs.dword(ESP), dword(&cpu, 0x8008)), (0x8000, 0x99));
        run(&mut cpu, &[0x54]).unwrap(); // push esp
        assert_eq!(dword(&cpu, 0x7ffc), 0x8000);
        run(&mut cpu, &[0x66, 0x8f, 0x04, 0x24]).unwrap(); // pop word [esp]
        assert_eq!((cpu.regs.dword(ESP), dword(&cpu, 0x7ffc)), (0x7ffe, 0x8000_8000));
    }

    #[test]
    fn immediates_are_sign_extended_to_the_operand_size() {
        let mut cpu = cpu_of(MAX);
        let pushes: [&[u8]; 4] =
            [&[0x6a, 0xff], &[0x66, 0x6a, 0x80], &[0x66, 0x68, 0x34, 0x12], &[0x68, 1, 2, 3, 4]];
        for bytes in pushes {
            run(&mut cpu, bytes).unwrap();
        }
        assert_eq!(cpu.regs.dword(ESP), 0x7ff4);
        assert_eq!(
            [0x7ffc, 0x7ff8, 0x7ff4].map(|at| dword(&cpu, at)),
            [0xffff_ffff, 0xff80_1234, 0x0403_0201]
        );
    }

    #[test]
    fn pop_to_memory_that_faults_leaves_esp() {
        let mut cpu = cpu_of(MAX);
        cpu.segs[crate::segment::DS] = Segment::new(0x10, 0, 0xfff, 0x4093);
        let before = cpu.state.clone();
        assert_eq!(run(&mut cpu, &[0x8f, 0x05, 0, 0x20, 0, 0]), GP);
        assert_eq!(cpu.state, before);
    }

    #[test]
    fn pusha_and_popa_keep_all_registers_but_esp_in_order() {
        for prefix in [&[][..], &[0x66]] {
            let mut cpu = cpu_of(MAX);
            for n in (0..8).filter(|&n| n != ESP) {
                cpu.regs.set_dword(n, 0x1111_1111 * (n as u32 + 1));
            }
            let before = cpu.regs.clone();
            run(&mut cpu, &[prefix, &[0x60]].concat()).unwrap();
            if prefix.is_empty() {
                let slots = std::array::from_fn(|n| dword(&cpu, 0x7ffc - n * 4));
                assert_eq!(slots, before.all());
            }
            for n in [EAX, EBX, EDX, ESI, EDI] {
                cpu.regs.set_word(n, 0);
            }
            run(&mut cpu, &[prefix, &[0x61]].concat()).unwrap();
            assert_eq!(cpu.regs, before);
        }
    }

    #[test]
    fn pusha_that_faults_midway_changes_nothing() {
        let mut cpu = cpu_of(MAX);
        cpu.segs[SS] = Segment::new(0x10, 0, 0x7fef, 0x4097); // valid from 7FF0h
        let before = (cpu.state.clone(), cpu.bus.clone());
        assert_eq!(run(&mut cpu, &[0x60]), SS0);
        assert!((cpu.state, cpu.bus) == before);
    }

    #[test]
    fn pusha_in_real_mode_with_an_odd_sp_from_7_to_15_is_gp() {
        for sp in 1..=17 {
            let mut cpu = crate::flat::processor(crate::flat::Start::Real, &[0x90], 0x1000, 0x1_0000).cpu;
            cpu.regs.set_dword(ESP, sp);
            let expected = match sp {
                7 | 9 | 11 | 13 | 15 => GP,
                1 | 3 | 5 => SS0,
                _ => Ok(()),
            };
            assert_eq!(run(&mut cpu, &[0x60]), expected, "{sp}");
        }
    }

    /// All flags of `mask` that POPF changes from 0 to 1 and back.
    fn writable(mut cpu: TestCpu, bytes: &[u8]) -> Result<u32, Fault> {
        cpu.regs.set_dword(ESP, 0x8000);
        put(&mut cpu, 0x8000, 0xffff_ffff);
        let before = cpu.flags.get();
        run(&mut cpu, bytes)?;
        assert_eq!(cpu.regs.dword(ESP), 0x8000 + if bytes[0] == 0x66 { 2 } else { 4 });
        Ok(cpu.flags.get() & !before)
    }

    /// SDM 2B "POPF/POPFD/POPFQ", table "Effect of POPF/POPFD on the EFLAGS Register".
    #[test]
    fn popf_changes_the_flags_that_the_manuals_table_allows() {
        let always = crate::flags::ARITHMETIC | DF | TF | NT;
        for cpl in 0..=3u8 {
            for iopl in 0..=3u8 {
                let mut cpu = cpu_of(MAX);
                cpu.flags.set((iopl as u32) << 12, IOPL);
                cpu.set_cpl(cpl);
                let mut expected = always;
                if cpl == 0 {
                    expected |= IOPL & !((iopl as u32) << 12);
                }
                if cpl <= iopl {
                    expected |= IF;
                }
                assert_eq!(writable(cpu.clone(), &[0x66, 0x9d]), Ok(expected), "{cpl} {iopl}");
                assert_eq!(writable(cpu, &[0x9d]), Ok(expected | AC | ID), "{cpl} {iopl}");
            }
        }
        let old = cpu_of(I386);
        assert_eq!(writable(old, &[0x9d]), Ok(always | IF | IOPL));
        for vme in [false, true] {
            for iopl in 0..=3 {
                let mut cpu = vm86_of(MAX, iopl);
                cpu.cr4 = if vme { CR4_VME } else { 0 };
                let wide = if iopl == 3 { Ok(always | IF | AC | ID) } else { GP.map(|()| 0) };
                let narrow = if iopl == 3 { Ok(always | IF) } else { GP.map(|()| 0) };
                let code = |bytes| {
                    let mut cpu = cpu.clone();
                    cpu.segs[crate::segment::CS] = Segment::new(0, 0, 0xffff, 0x40fb);
                    writable(cpu, bytes)
                };
                assert_eq!((code(&[0x9d]), code(&[0x66, 0x9d])), (wide, narrow), "{vme} {iopl}");
            }
        }
    }

    #[test]
    fn under_vme_popf_and_pushf_use_vif_for_if() {
        let mut cpu = vm86_of(MAX, 0);
        cpu.cr4 = CR4_VME;
        cpu.flags.set(IF, IF | RF);
        put(&mut cpu, 0x8000, IF | OF);
        run(&mut cpu, &[0x9d]).unwrap(); // popfw in 16-bit code
        assert_eq!(cpu.flags.get(), VM | IF | VIF | OF | ALWAYS);
        cpu.flags.set(0, IF);
        run(&mut cpu, &[0x9c]).unwrap();
        assert_eq!(dword(&cpu, 0x8000) & 0xffff, IF | IOPL | OF | ALWAYS);
        cpu.flags.set(IF, IF | VIF);
        run(&mut cpu, &[0x9c]).unwrap();
        assert_eq!(dword(&cpu, 0x7ffe) & 0xffff, IOPL | OF | ALWAYS);
        run(&mut cpu, &[0x9d]).unwrap();
        cpu.flags.set(VIP, VIP);
        assert_eq!(run(&mut cpu, &[0x9d]), GP, "an interrupt is pending");
        assert_eq!(run(&mut cpu, &[0x66, 0x9c]), GP, "pushfd");
        cpu.cr4 = 0;
        assert_eq!(run(&mut cpu, &[0x9c]), GP);
    }

    #[test]
    fn pushfd_hides_vm_and_rf() {
        let mut cpu = vm86_of(MAX, 3);
        cpu.flags.set(RF | AC | ID, RF | AC | ID);
        run(&mut cpu, &[0x66, 0x9c]).unwrap();
        assert_eq!(dword(&cpu, 0x7ffc), AC | ID | IOPL | ALWAYS);
    }
}
