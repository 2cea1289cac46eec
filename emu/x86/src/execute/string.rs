//! String instructions, INS and OUTS among them (SDM 1 "String Instructions"), and what REP makes of them.
//!
//! A repeated instruction commits each iteration: a fault, or the engine's wish to look up, leaves the registers as if the
//! rest were still to be done, and EIP at the instruction itself. Each iteration counts as a retired instruction; a
//! repetition of zero times counts as one. While iterations remain, RF is set between them, so that whatever comes there
//! pushes it as one (SDM 3B "Instruction-Breakpoint Exception Condition") and the instruction resumes without meeting its
//! own breakpoint again.

use iced_x86::Code;

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::Shape;
use crate::fault::Exec;
use crate::flags;
use crate::mmu::Intent;
use crate::observe::Observer;
use crate::op::{Handler, Op, Rep};
use crate::regs::{EAX, ECX, EDI, EDX, ESI};
use crate::segment::ES;
use crate::width::Width;

/// The bodies of this family.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code {
        Code::Movsb_m8_m8 => string::<B, O, Movs, u8>,
        Code::Movsw_m16_m16 => string::<B, O, Movs, u16>,
        Code::Movsd_m32_m32 => string::<B, O, Movs, u32>,
        Code::Cmpsb_m8_m8 => string::<B, O, Cmps, u8>,
        Code::Cmpsw_m16_m16 => string::<B, O, Cmps, u16>,
        Code::Cmpsd_m32_m32 => string::<B, O, Cmps, u32>,
        Code::Scasb_AL_m8 => string::<B, O, Scas, u8>,
        Code::Scasw_AX_m16 => string::<B, O, Scas, u16>,
        Code::Scasd_EAX_m32 => string::<B, O, Scas, u32>,
        Code::Lodsb_AL_m8 => string::<B, O, Lods, u8>,
        Code::Lodsw_AX_m16 => string::<B, O, Lods, u16>,
        Code::Lodsd_EAX_m32 => string::<B, O, Lods, u32>,
        Code::Stosb_m8_AL => string::<B, O, Stos, u8>,
        Code::Stosw_m16_AX => string::<B, O, Stos, u16>,
        Code::Stosd_m32_EAX => string::<B, O, Stos, u32>,
        Code::Insb_m8_DX => string::<B, O, Ins, u8>,
        Code::Insw_m16_DX => string::<B, O, Ins, u16>,
        Code::Insd_m32_DX => string::<B, O, Ins, u32>,
        Code::Outsb_DX_m8 => string::<B, O, Outs, u8>,
        Code::Outsw_DX_m16 => string::<B, O, Outs, u16>,
        Code::Outsd_DX_m32 => string::<B, O, Outs, u32>,
        _ => return None,
    })
}

/// What one iteration does.
trait Operation {
    /// It sets ZF, and REPE and REPNE look at it.
    const COMPARES: bool = false;
    /// What is asked for even where there is nothing to repeat.
    fn permit<B: Bus, O: Observer, W: Width>(_cpu: &mut Cpu<B, O>) -> Exec {
        Ok(())
    }
    /// Checks, acts, and moves the index registers on.
    fn iterate<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec;
}

/// A string instruction, repeated or not.
fn string<B: Bus, O: Observer, S: Operation, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    if op.rep == Rep::None {
        return S::iterate::<B, O, W>(cpu, op);
    }
    repeat::<B, O, S, W>(cpu, op)
}

/// REP, REPE, REPNE. Manual: with instructions that do not compare, REPNE is undefined. Hardware: it is REP (AMD EPYC).
fn repeat<B: Bus, O: Observer, S: Operation, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let mask = op.address_mask;
    let mut count = cpu.regs.dword(ECX) & mask;
    if count == 0 {
        S::permit::<B, O, W>(cpu)?;
        cpu.eip = cpu.next_ip(op);
        return Ok(());
    }
    let mut allowed = cpu.iterations_allowed();
    let mut resumes = false;
    loop {
        if let Err(raised) = S::iterate::<B, O, W>(cpu, op) {
            if resumes {
                cpu.flags.set(flags::RF, flags::RF);
            }
            return Err(raised);
        }
        count -= 1;
        let ecx = cpu.regs.dword(ECX) & !mask | count;
        cpu.regs.set_dword(ECX, ecx);

        if count == 0 || (S::COMPARES && cpu.flags.zf() != (op.rep == Rep::Rep)) {
            cpu.eip = cpu.next_ip(op);
            return Ok(());
        }
        allowed -= 1;
        if allowed == 0 || cpu.must_leave() {
            cpu.eip = cpu.ip(op);
            cpu.flags.set(flags::RF, flags::RF);
            cpu.keep_fetched(op.len);
            return Ok(());
        }
        resumes = true;
        // this iteration is retired; the last one is counted by the engine
        cpu.count_iterations(1);
        if O::ACTIVE {
            cpu.show_iteration(op);
        }
    }
}

/// Moves an index register to the next element, by the direction flag and the address size.
#[inline(always)]
fn advance<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>, register: u8) {
    let by = if cpu.flags.df() { W::BYTES.wrapping_neg() } else { W::BYTES };
    let (old, mask) = (cpu.regs.dword(register), op.address_mask);
    cpu.regs.set_dword(register, old & !mask | old.wrapping_add(by) & mask);
}

/// The element at DS:(E)SI, or in the segment of an override.
macro_rules! source {
    ($cpu:expr, $op:expr, $w:ty) => {
        $cpu.translate::<$w>($op.segment as usize, $cpu.regs.dword(ESI) & $op.address_mask, Intent::Read)
    };
}

/// The element at ES:(E)DI.
macro_rules! destination {
    ($cpu:expr, $op:expr, $w:ty, $intent:expr) => {
        $cpu.translate::<$w>(ES, $cpu.regs.dword(EDI) & $op.address_mask, $intent)
    };
}

/// MOVS.
struct Movs;
impl Operation for Movs {
    #[inline(always)]
    fn iterate<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
        let source = source!(cpu, op, W)?;
        let dest = destination!(cpu, op, W, Intent::Write)?;

        let value = cpu.load(source);

        cpu.store(dest, value);
        advance::<B, O, W>(cpu, op, ESI);
        advance::<B, O, W>(cpu, op, EDI);
        Ok(())
    }
}

/// CMPS: the source less the destination.
struct Cmps;
impl Operation for Cmps {
    const COMPARES: bool = true;
    #[inline(always)]
    fn iterate<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
        let first = source!(cpu, op, W)?;
        let second = destination!(cpu, op, W, Intent::Read)?;

        let (first, second) = (cpu.load(first), cpu.load(second));

        cpu.flags.set_compare(first, second);
        advance::<B, O, W>(cpu, op, ESI);
        advance::<B, O, W>(cpu, op, EDI);
        Ok(())
    }
}

/// SCAS: the accumulator less the destination.
struct Scas;
impl Operation for Scas {
    const COMPARES: bool = true;
    #[inline(always)]
    fn iterate<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
        let element = destination!(cpu, op, W, Intent::Read)?;

        let (accumulator, element) = (W::get_reg(&cpu.regs, EAX), cpu.load(element));

        cpu.flags.set_compare(accumulator, element);
        advance::<B, O, W>(cpu, op, EDI);
        Ok(())
    }
}

/// LODS.
struct Lods;
impl Operation for Lods {
    #[inline(always)]
    fn iterate<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
        let source = source!(cpu, op, W)?;

        let value = cpu.load(source);

        value.set_reg(&mut cpu.regs, EAX);
        advance::<B, O, W>(cpu, op, ESI);
        Ok(())
    }
}

/// STOS.
struct Stos;
impl Operation for Stos {
    #[inline(always)]
    fn iterate<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
        let dest = destination!(cpu, op, W, Intent::Write)?;

        let value = W::get_reg(&cpu.regs, EAX);

        cpu.store(dest, value);
        advance::<B, O, W>(cpu, op, EDI);
        Ok(())
    }
}

/// INS: the port's permission first (Hardware: also where the count is 0; AMD EPYC), then the destination, then the port
/// is read.
struct Ins;
impl Operation for Ins {
    fn permit<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>) -> Exec {
        cpu.require_port::<W>(cpu.regs.word(EDX))
    }

    #[inline(always)]
    fn iterate<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
        let port = cpu.regs.word(EDX);
        cpu.require_port::<W>(port)?;
        let dest = destination!(cpu, op, W, Intent::Write)?;

        let value: W = cpu.read_port(port);

        cpu.store(dest, value);
        advance::<B, O, W>(cpu, op, EDI);
        Ok(())
    }
}

/// OUTS: the port's permission first (as with INS), then the source.
struct Outs;
impl Operation for Outs {
    fn permit<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>) -> Exec {
        cpu.require_port::<W>(cpu.regs.word(EDX))
    }

    #[inline(always)]
    fn iterate<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
        let port = cpu.regs.word(EDX);
        cpu.require_port::<W>(port)?;
        let source = source!(cpu, op, W)?;

        let value = cpu.load(source);

        cpu.write_port(port, value);
        advance::<B, O, W>(cpu, op, ESI);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Size;
    use crate::control::{CR0_PG, CR4_PSE};
    use crate::cpu::State;
    use crate::engine::Processor;
    use crate::execute::system::testing::*;
    use crate::fault::{Fault, Stop};
    use crate::flags::{DF, IOPL, RF};
    use crate::flat::{FlatBus, Start, processor};
    use crate::model::MAX;
    use crate::segment::{DS, Segment};

    const GP: Result<(), Fault> = Err(Fault::GeneralProtection(0));

    /// ESI 2000h, EDI 3000h, ECX as given, memory counting up from 2000h.
    fn cpu(ecx: u32) -> TestCpu {
        let mut cpu = cpu_of(MAX);
        prepare(&mut cpu, ecx);
        cpu
    }

    fn prepare(cpu: &mut TestCpu, ecx: u32) {
        let bytes: Vec<u8> = (1..=255).collect();
        cpu.bus.ram_mut().write(0x2000, &bytes);
        cpu.regs.set_dword(ESI, 0x2000);
        cpu.regs.set_dword(EDI, 0x3000);
        cpu.regs.set_dword(ECX, ecx);
        cpu.regs.set_dword(EDX, 0x3f8);
        cpu.horizon = u64::MAX;
    }

    fn indices(state: &State) -> (u32, u32, u32) {
        (state.regs.dword(ECX), state.regs.dword(ESI), state.regs.dword(EDI))
    }

    /// A processor about to run `code`.
    fn machine(code: &[u8], ecx: u32) -> Processor<FlatBus, ()> {
        let mut machine = processor(Start::Flat32, code, 0x1000, 0x1_0000);
        prepare(&mut machine.cpu, ecx);
        machine
    }

    #[test]
    fn each_instruction_moves_its_own_index_registers_by_its_own_size() {
        for (opcode, esi, edi) in
            [(0xa4, 1, 1), (0xa6, 1, 1), (0xac, 1, 0), (0xaa, 0, 1), (0xae, 0, 1), (0x6c, 0, 1), (0x6e, 1, 0)]
        {
            for (prefix, opcode, bytes) in
                [(None, opcode, 1), (Some(0x66), opcode + 1, 2), (None, opcode + 1, 4)]
            {
                for down in [false, true] {
                    let mut cpu = cpu(7);
                    cpu.flags.set(if down { DF } else { 0 }, DF);
                    let code: Vec<u8> = prefix.into_iter().chain([opcode]).collect();
                    run(&mut cpu, &code).unwrap();
                    let moved = |by: u32| if down { (by * bytes).wrapping_neg() } else { by * bytes };
                    let expected =
                        (7, 0x2000u32.wrapping_add(moved(esi)), 0x3000u32.wrapping_add(moved(edi)));
                    assert_eq!(indices(&cpu), expected, "{code:x?}");
                }
            }
        }
    }

    #[test]
    fn loads_stores_and_moves_carry_their_elements() {
        let mut cpu = cpu(0);
        cpu.regs.set_dword(EAX, 0xaabb_ccdd);
        run(&mut cpu, &[0x66, 0xad]).unwrap(); // lodsw
        assert_eq!(cpu.regs.dword(EAX), 0xaabb_0201);
        run(&mut cpu, &[0xab]).unwrap(); // stosd
        run(&mut cpu, &[0xa5]).unwrap(); // movsd
        assert_eq!(cpu.bus.ram().slice(0x3000, 8), [1, 2, 0xbb, 0xaa, 3, 4, 5, 6]);
        cpu.regs.set_byte(EAX, 6);
        run(&mut cpu, &[0xae]).unwrap(); // scasb: 6 less 0
        assert!(!cpu.flags.zf() && !cpu.flags.cf());
        cpu.regs.set_dword(EDI, 0x2006);
        run(&mut cpu, &[0xa6]).unwrap(); // cmpsb: 7 less 7
        assert!(cpu.flags.zf());
        run(&mut cpu, &[0xa6]).unwrap();
        cpu.regs.set_dword(EDI, 0x2010);
        run(&mut cpu, &[0xa6]).unwrap(); // 9 less 17
        assert!(cpu.flags.cf());
    }

    #[test]
    fn overrides_reach_the_source_and_not_the_destination() {
        let mut cpu = cpu(0);
        cpu.segs[crate::segment::FS].base = 0x10;
        run(&mut cpu, &[0x64, 0xa4]).unwrap(); // movsb es:[edi], fs:[esi]
        assert_eq!(cpu.bus.ram().slice(0x3000, 1), [0x11]);
        run(&mut cpu, &[0x64, 0xaa]).unwrap(); // stosb: no source
        assert_eq!(cpu.regs.dword(EDI), 0x3002);
    }

    #[test]
    fn a_16_bit_address_size_wraps_the_low_halves() {
        let mut cpu = cpu(0xabcd_0003);
        cpu.regs.set_dword(ESI, 0x1111_fffe);
        cpu.regs.set_dword(EDI, 0x2222_ffff);
        cpu.bus.ram_mut().write(0xfffe, &[0x99]);
        run(&mut cpu, &[0x67, 0xf3, 0xa4]).unwrap(); // rep movsb
        assert_eq!(indices(&cpu), (0xabcd_0000, 0x1111_0001, 0x2222_0002));
        assert_eq!(
            (cpu.bus.ram().slice(0, 2), cpu.bus.ram().slice(0xffff, 1)),
            (&[0x99, 0x99][..], &[0x99][..])
        );
    }

    #[test]
    fn a_count_of_zero_touches_nothing_and_goes_on() {
        let codes: [&[u8]; 4] = [&[0xf3, 0xa4], &[0xf2, 0xae], &[0xf3, 0x6c], &[0x67, 0xf3, 0xaa]];
        for code in codes {
            let mut cpu = cpu(if code[0] == 0x67 { 0x1_0000 } else { 0 });
            cpu.segs[ES] = Segment::null(0);
            let before = cpu.clone();
            run(&mut cpu, code).unwrap();
            assert_eq!(cpu.eip, 0x1000 + code.len() as u32);
            assert_eq!((&cpu.regs, &cpu.flags), (&before.regs, &before.flags));
        }
    }

    /// Hardware: AMD EPYC.
    #[test]
    fn ins_and_outs_need_the_port_even_for_a_count_of_zero() {
        for code in [0x6c, 0x6d, 0x6e, 0x6f] {
            let mut cpu = cpu(0);
            cpu.tr.limit = 0x67;
            cpu.set_cpl(3);
            assert_eq!(run(&mut cpu, &[0xf3, code]), GP);
        }
    }

    #[test]
    fn repe_stops_at_a_difference_and_repne_at_a_match() {
        let mut cpu = cpu(10);
        cpu.bus.ram_mut().write(0x3000, &[1, 2, 3, 9]);
        run(&mut cpu, &[0xf3, 0xa6]).unwrap(); // repe cmpsb
        assert_eq!(indices(&cpu), (6, 0x2004, 0x3004));
        assert!(!cpu.flags.zf() && cpu.flags.cf());
        cpu.regs.set_dword(EDI, 0x2000);
        cpu.regs.set_byte(EAX, 3);
        run(&mut cpu, &[0xf2, 0xae]).unwrap(); // repne scasb
        assert_eq!(indices(&cpu), (3, 0x2004, 0x2003));
        assert!(cpu.flags.zf());
        run(&mut cpu, &[0xf2, 0xae]).unwrap();
        assert_eq!(indices(&cpu), (0, 0x2004, 0x2006));
        assert!(!cpu.flags.zf());
    }

    /// Hardware: AMD EPYC.
    #[test]
    fn repne_repeats_what_does_not_compare() {
        let mut cpu = cpu(5);
        run(&mut cpu, &[0xf2, 0xa4]).unwrap();
        assert_eq!(indices(&cpu), (0, 0x2005, 0x3005));
    }

    #[test]
    fn a_fault_midway_keeps_the_iterations_done() {
        let mut cpu = cpu(8);
        cpu.segs[ES] = Segment::new(0x10, 0, 0x300a, 0x4093);
        let retired = cpu.retired;
        assert_eq!(run(&mut cpu, &[0xf3, 0xa5]), GP); // rep movsd
        assert_eq!(indices(&cpu), (6, 0x2008, 0x3008));
        assert_eq!(cpu.bus.ram().slice(0x3006, 4), [7, 8, 0, 0]);
        assert_eq!(cpu.retired, retired + 2);
        cpu.segs[DS] = Segment::new(0x10, 0, 0x2008, 0x4093);
        let before = cpu.state.clone();
        assert_eq!(run(&mut cpu, &[0xf3, 0xa7]), GP); // repe cmpsd: not one
        assert_eq!(cpu.state, before);
    }

    #[test]
    fn every_iteration_is_retired_by_itself_with_rf_set_between_them() {
        let mut machine = machine(&[0xf3, 0xa4, 0x40, 0xf4], 5); // rep movsb; inc eax; hlt
        for n in 1..=5 {
            assert_eq!(machine.step(), Stop::Limit);
            let cpu = &machine.cpu;
            assert_eq!((cpu.retired, cpu.regs.dword(ECX)), (n, 5 - n as u32));
            assert_eq!(cpu.eip, if n < 5 { 0x1000 } else { 0x1002 });
            assert_eq!(cpu.flags.system(RF), n < 5);
        }
        let mut whole = self::machine(&[0xf3, 0xa4, 0x40, 0xf4], 5);
        assert_eq!(whole.run(5), Stop::Limit);
        assert!(whole.cpu.state == machine.cpu.state && whole.cpu.bus == machine.cpu.bus);
        let mut part = self::machine(&[0xf3, 0xa4, 0x40, 0xf4], 5);
        assert_eq!(part.run(3), Stop::Limit);
        assert_eq!((part.cpu.regs.dword(ECX), part.cpu.eip, part.cpu.retired), (2, 0x1000, 3));
    }

    #[test]
    fn a_store_into_its_own_code_ends_the_run_of_iterations() {
        // the fourth byte stored turns the instruction itself into NOPs
        let mut machine = machine(&[0xf3, 0xaa, 0x90, 0x90], 6);
        machine.cpu.regs.set_byte(EAX, 0x90);
        machine.cpu.regs.set_dword(EDI, 0x0ffd);
        machine.run(8);
        assert_eq!((machine.cpu.regs.dword(ECX), machine.cpu.eip), (2, 0x1004));
    }

    #[test]
    fn rep_outs_and_rep_ins_let_the_board_look_after_each_access() {
        let mut cpu = cpu(3);
        cpu.bus.input = 0x55;
        for n in [2, 1, 0] {
            run(&mut cpu, &[0xf3, 0x6e]).unwrap();
            assert_eq!(cpu.regs.dword(ECX), n);
        }
        cpu.regs.set_dword(ECX, 1);
        run(&mut cpu, &[0xf3, 0x6c]).unwrap();
        assert_eq!(cpu.bus.ram().slice(0x3000, 1), [0x55]);
        assert_eq!(cpu.bus.outputs, [1, 2, 3].map(|value| (0x3f8, Size::Byte, value)));
    }

    #[test]
    fn ins_and_outs_ask_for_the_port_first_and_touch_it_last() {
        for (code, iopl, expected) in [
            (0x6c, 0, Fault::GeneralProtection(0)),
            (0x6e, 0, Fault::GeneralProtection(0)),
            (0x6c, 3, Fault::Page { address: 0x40_0000, code: 6 }),
            (0x6e, 3, Fault::Page { address: 0x40_0000, code: 4 }),
        ] {
            let mut cpu = cpu(1);
            cpu.cr3 = 0x4000;
            cpu.bus.ram_mut().write(0x4000, &0x87u32.to_le_bytes()); // a user page of 4 MiB at 0
            cpu.cr4 = CR4_PSE;
            cpu.cr0 |= CR0_PG;
            cpu.tr.limit = 0x67;
            cpu.flags.set(iopl << 12, IOPL);
            cpu.set_cpl(3);
            cpu.regs.set_dword(ESI, 0x40_0000);
            cpu.regs.set_dword(EDI, 0x40_0000);
            assert_eq!(run(&mut cpu, &[code]), Err(expected));
            assert!(cpu.bus.outputs.is_empty());
        }
    }
}
