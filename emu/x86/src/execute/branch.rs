//! Near jumps, calls, returns and loops, and BOUND (SDM 1 "Control Transfer Instructions").
//!
//! The operand size is the size of the new EIP: with 16 bits its upper half becomes zero. A target beyond CS's limit is
//! #GP(0) at the branch itself, before anything changes.

use iced_x86::Code;

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::{Form, Shape, by_condition, by_form, transfer};
use crate::fault::{Exec, Fault};
use crate::flags::Condition;
use crate::mmu::Intent;
use crate::observe::Observer;
use crate::op::{Handler, Op};
use crate::regs::{ECX, ESP};
use crate::segment::CS;
use crate::width::Width;

/// The bodies of this family.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code {
        Code::Jmp_rel8_16 | Code::Jmp_rel16 => jmp_rel::<B, O, u16>,
        Code::Jmp_rel8_32 | Code::Jmp_rel32_32 => jmp_rel::<B, O, u32>,
        Code::Jmp_rm16 => by_form!(shape, jmp_rm, u16),
        Code::Jmp_rm32 => by_form!(shape, jmp_rm, u32),
        Code::Call_rel16 => call_rel::<B, O, u16>,
        Code::Call_rel32_32 => call_rel::<B, O, u32>,
        Code::Call_rm16 => by_form!(shape, call_rm, u16),
        Code::Call_rm32 => by_form!(shape, call_rm, u32),
        Code::Retnw | Code::Retnw_imm16 => ret::<B, O, u16>,
        Code::Retnd | Code::Retnd_imm16 => ret::<B, O, u32>,
        Code::Loop_rel8_16_CX => loop_while::<B, O, Always, u16, u16>,
        Code::Loop_rel8_32_CX => loop_while::<B, O, Always, u16, u32>,
        Code::Loop_rel8_16_ECX => loop_while::<B, O, Always, u32, u16>,
        Code::Loop_rel8_32_ECX => loop_while::<B, O, Always, u32, u32>,
        Code::Loope_rel8_16_CX => loop_while::<B, O, Equal, u16, u16>,
        Code::Loope_rel8_32_CX => loop_while::<B, O, Equal, u16, u32>,
        Code::Loope_rel8_16_ECX => loop_while::<B, O, Equal, u32, u16>,
        Code::Loope_rel8_32_ECX => loop_while::<B, O, Equal, u32, u32>,
        Code::Loopne_rel8_16_CX => loop_while::<B, O, NotEqual, u16, u16>,
        Code::Loopne_rel8_32_CX => loop_while::<B, O, NotEqual, u16, u32>,
        Code::Loopne_rel8_16_ECX => loop_while::<B, O, NotEqual, u32, u16>,
        Code::Loopne_rel8_32_ECX => loop_while::<B, O, NotEqual, u32, u32>,
        Code::Jcxz_rel8_16 => jcxz::<B, O, u16, u16>,
        Code::Jcxz_rel8_32 => jcxz::<B, O, u16, u32>,
        Code::Jecxz_rel8_16 => jcxz::<B, O, u32, u16>,
        Code::Jecxz_rel8_32 => jcxz::<B, O, u32, u32>,
        Code::Bound_r16_m1616 => bound::<B, O, u16>,
        Code::Bound_r32_m3232 => bound::<B, O, u32>,
        code if code.is_jcc_short_or_near() => {
            let condition = transfer::condition(code)?;
            if code.op_code().operand_size() == 16 {
                by_condition!(condition, jcc, u16)
            } else {
                by_condition!(condition, jcc, u32)
            }
        }
        _ => return None,
    })
}

/// The target is within CS's limit, else #GP(0).
#[inline(always)]
fn require_within_limit<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, target: u32) -> Exec {
    cpu.ensure(target <= cpu.segs[CS].limit, Fault::GeneralProtection(0))
}

/// The target of a relative branch, checked.
#[inline(always)]
fn relative<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec<u32> {
    let target = W::from_u32(cpu.next_ip(op).wrapping_add(op.imm)).to_u32();
    require_within_limit(cpu, target)?;
    Ok(target)
}

/// The target in an r/m operand, checked.
#[inline(always)]
fn absolute<B: Bus, O: Observer, M: Form, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec<u32> {
    let source = M::locate::<B, O, W>(cpu, op, Intent::Read)?;
    let target = M::get(cpu, source).to_u32();
    require_within_limit(cpu, target)?;
    Ok(target)
}

/// A relative branch if `taken`. The limit does not matter to a branch that is not taken.
#[inline(always)]
fn branch_if<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>, taken: bool) -> Exec {
    cpu.eip = if taken { relative::<B, O, W>(cpu, op)? } else { cpu.next_ip(op) };
    Ok(())
}

/// JMP rel.
fn jmp_rel<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    branch_if::<B, O, W>(cpu, op, true)
}

/// Jcc rel.
fn jcc<B: Bus, O: Observer, W: Width, const C: u8>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let taken = cpu.flags.holds(Condition(C));
    branch_if::<B, O, W>(cpu, op, taken)
}

/// JCXZ, JECXZ: `C` is the address size.
fn jcxz<B: Bus, O: Observer, C: Width, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let taken = C::get_reg(&cpu.regs, ECX).to_u32() == 0;
    branch_if::<B, O, W>(cpu, op, taken)
}

/// What LOOP asks besides the count.
trait While {
    fn holds(zf: bool) -> bool;
}
/// LOOP.
struct Always;
/// LOOPE.
struct Equal;
/// LOOPNE.
struct NotEqual;
impl While for Always {
    fn holds(_: bool) -> bool {
        true
    }
}
impl While for Equal {
    fn holds(zf: bool) -> bool {
        zf
    }
}
impl While for NotEqual {
    fn holds(zf: bool) -> bool {
        !zf
    }
}

/// LOOP, LOOPE, LOOPNE: `C` is the address size, the size of the counter. A target out of bounds leaves the counter.
fn loop_while<B: Bus, O: Observer, L: While, C: Width, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let count = C::from_u32(cpu.regs.dword(ECX).wrapping_sub(1));
    let taken = count.to_u32() != 0 && L::holds(cpu.flags.zf());
    branch_if::<B, O, W>(cpu, op, taken)?;

    count.set_reg(&mut cpu.regs, ECX);
    Ok(())
}

/// JMP r/m.
fn jmp_rm<B: Bus, O: Observer, M: Form, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    cpu.eip = absolute::<B, O, M, W>(cpu, op)?;
    Ok(())
}

/// Pushes the return address and goes to `target`.
#[inline(always)]
fn call<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>, target: u32) -> Exec {
    let slot = cpu.push_place::<W>()?;

    let next = W::from_u32(cpu.next_ip(op));

    cpu.push_at(slot, next);
    cpu.eip = target;
    Ok(())
}

/// CALL rel.
fn call_rel<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let target = relative::<B, O, W>(cpu, op)?;
    call::<B, O, W>(cpu, op, target)
}

/// CALL r/m. An address by ESP counts from ESP before the push.
fn call_rm<B: Bus, O: Observer, M: Form, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let target = absolute::<B, O, M, W>(cpu, op)?;
    call::<B, O, W>(cpu, op, target)
}

/// RET, RET imm16 (near).
fn ret<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let slot = cpu.pop_place::<W>()?;
    let target = cpu.load(slot).to_u32();
    require_within_limit(cpu, target)?;

    let esp = cpu.esp_moved(W::BYTES + (op.imm & 0xffff));

    cpu.regs.set_dword(ESP, esp);
    cpu.eip = target;
    Ok(())
}

/// BOUND: a signed index outside the two bounds in memory, both inclusive, is #BR.
///
/// Hardware: the bounds are two accesses of the operand size, each aligned by itself (AMD EPYC).
fn bound<B: Bus, O: Observer, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let offset = cpu.effective_address(op);
    let upper = offset.wrapping_add(W::BYTES) & op.address_mask;
    let lower = cpu.translate::<W>(op.segment as usize, offset, Intent::Read)?;
    let upper = cpu.translate::<W>(op.segment as usize, upper, Intent::Read)?;
    let signed = |value: W| value.sign_extend() as i32;
    let bounds = signed(cpu.load(lower))..=signed(cpu.load(upper));
    let index = signed(W::get_reg(&cpu.regs, op.reg));
    cpu.ensure(bounds.contains(&index), Fault::Bound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execute::system::testing::*;
    use crate::flags::{ARITHMETIC, CF, OF, PF, SF, ZF};
    use crate::model::MAX;
    use crate::regs::{EAX, EBX};
    use crate::segment::Segment;

    const GP: Result<(), Fault> = Err(Fault::GeneralProtection(0));

    /// SDM 1 appendix "EFLAGS Condition Codes", by encoding.
    fn holds(condition: u8, f: u32) -> bool {
        let is = |bit| f & bit != 0;
        match condition {
            0x0 => is(OF),
            0x1 => !is(OF),
            0x2 => is(CF),
            0x3 => !is(CF),
            0x4 => is(ZF),
            0x5 => !is(ZF),
            0x6 => is(CF) || is(ZF),
            0x7 => !is(CF) && !is(ZF),
            0x8 => is(SF),
            0x9 => !is(SF),
            0xa => is(PF),
            0xb => !is(PF),
            0xc => is(SF) != is(OF),
            0xd => is(SF) == is(OF),
            0xe => is(ZF) || is(SF) != is(OF),
            _ => !is(ZF) && is(SF) == is(OF),
        }
    }

    #[test]
    fn every_conditional_jump_setcc_and_cmov_follows_the_manuals_table() {
        for condition in 0..16 {
            for bits in 0..64u32 {
                let f = bits & 5 | (bits & 2) << 3 | (bits & 0x18) << 3 | (bits & 0x20) << 6;
                let expected = holds(condition, f);
                let mut cpu = cpu_of(MAX);
                cpu.flags.set(f, ARITHMETIC);
                for (bytes, taken, not) in [
                    (&[0x70 | condition, 0x10][..], 0x1012, 0x1002),
                    (&[0x66, 0x70 | condition, 0x10], 0x1013, 0x1003),
                    (&[0x0f, 0x80 | condition, 0xf0, 0xff, 0xff, 0xff], 0xff6, 0x1006),
                    (&[0x66, 0x0f, 0x80 | condition, 0xf0, 0xff], 0xff5, 0x1005),
                ] {
                    cpu.eip = 0x1000;
                    run(&mut cpu, bytes).unwrap();
                    assert_eq!(cpu.eip, if expected { taken } else { not }, "{bytes:x?} {f:#x}");
                }
                cpu.regs.set_dword(EAX, 0x1111_1111);
                cpu.regs.set_dword(EBX, 0x2222_2222);
                run(&mut cpu, &[0x0f, 0x90 | condition, 0xc4]).unwrap(); // set ah
                assert_eq!(cpu.regs.byte(4), expected as u8);
                run(&mut cpu, &[0x66, 0x0f, 0x40 | condition, 0xc3]).unwrap(); // cmov ax, bx
                assert_eq!(cpu.regs.word(EAX) == 0x2222, expected);
                assert_eq!(cpu.regs.dword(EAX) >> 16, 0x1111);
                run(&mut cpu, &[0x0f, 0x40 | condition, 0xc3]).unwrap();
                assert_eq!(cpu.regs.dword(EAX) == 0x2222_2222, expected);
            }
        }
    }

    #[test]
    fn a_16_bit_operand_size_leaves_16_bits_of_eip() {
        let mut cpu = cpu_of(MAX);
        cpu.eip = 0x12_1000;
        run(&mut cpu, &[0x66, 0xeb, 0]).unwrap(); // jmp short
        assert_eq!(cpu.eip, 0x1003);
        cpu.eip = 0xfffe;
        run(&mut cpu, &[0x66, 0xe9, 0xfe, 0xff]).unwrap();
        assert_eq!(cpu.eip, 0);
        cpu.regs.set_dword(EAX, 0x1234_5678);
        run(&mut cpu, &[0x66, 0xff, 0xe0]).unwrap(); // jmp ax
        assert_eq!(cpu.eip, 0x5678);
        cpu.eip = 0x12_1000;
        run(&mut cpu, &[0x66, 0xff, 0xd0]).unwrap(); // call ax
        assert_eq!((cpu.eip, cpu.regs.dword(ESP)), (0x5678, 0x7ffe));
        run(&mut cpu, &[0x66, 0xc2, 4, 0]).unwrap(); // ret 4
        assert_eq!((cpu.eip, cpu.regs.dword(ESP)), (0x1003, 0x8004));
    }

    #[test]
    fn calls_push_the_next_instruction_and_returns_release_their_parameters() {
        let mut cpu = cpu_of(MAX);
        run(&mut cpu, &[0xe8, 0, 1, 0, 0]).unwrap();
        assert_eq!((cpu.eip, cpu.regs.dword(ESP)), (0x1105, 0x7ffc));
        cpu.bus.ram_mut().write(0x8000, &[0x78, 0x56, 0, 0]);
        run(&mut cpu, &[0xff, 0x54, 0x24, 4]).unwrap(); // call [esp+4]
        assert_eq!((cpu.eip, cpu.regs.dword(ESP)), (0x5678, 0x7ff8));
        run(&mut cpu, &[0xc3]).unwrap();
        assert_eq!((cpu.eip, cpu.regs.dword(ESP)), (0x1109, 0x7ffc));
        run(&mut cpu, &[0xc2, 0xff, 0xff]).unwrap();
        assert_eq!((cpu.eip, cpu.regs.dword(ESP)), (0x1005, 0x1_7fff));
    }

    #[test]
    fn a_target_beyond_the_limit_is_gp_before_anything_changes() {
        let beyond: [&[u8]; 9] = [
            &[0xe9, 0, 0x10, 0, 0],       // jmp
            &[0xe8, 0, 0x10, 0, 0],       // call
            &[0x0f, 0x84, 0, 0x10, 0, 0], // jz
            &[0xff, 0xe0],                // jmp eax
            &[0xff, 0xd0],                // call eax
            &[0xc3],                      // ret
            &[0xc2, 8, 0],                // ret 8
            &[0xe2, 0x80],                // loop
            &[0xe3, 0x80],                // jecxz
        ];
        for bytes in beyond {
            let mut cpu = cpu_of(MAX);
            cpu.segs[CS] = Segment::new(8, 0, 0x1fff, 0x409b);
            cpu.flags.set_zf(true);
            cpu.regs.set_dword(EAX, 0x2000);
            cpu.bus.ram_mut().write(0x8000, &0x2000u32.to_le_bytes());
            match bytes[0] {
                0xe2 => {
                    cpu.regs.set_dword(ECX, 2);
                    cpu.eip = 0;
                }
                0xe3 => cpu.eip = 0,
                _ => {}
            }
            let before = (cpu.state.clone(), cpu.bus.clone());
            assert_eq!(run(&mut cpu, bytes), GP, "{bytes:x?}");
            assert!((cpu.state.clone(), cpu.bus.clone()) == before, "{bytes:x?}");
            // the same, not taken
            cpu.flags.set_zf(false);
            cpu.regs.set_dword(ECX, 1);
            let not_taken = matches!(bytes[0], 0x0f | 0xe2 | 0xe3);
            assert_eq!(run(&mut cpu, bytes).is_ok(), not_taken, "{bytes:x?}");
        }
    }

    #[test]
    fn loops_count_by_the_address_size() {
        // ECX before, ZF, opcode, address prefix: ECX after, taken
        for (ecx, zf, opcode, narrow, after, taken) in [
            (2, false, 0xe2, false, 1, true),
            (1, false, 0xe2, false, 0, false),
            (0, false, 0xe2, false, 0xffff_ffff, true),
            (0x1_0001, false, 0xe2, true, 0x1_0000, false),
            (0x1_0000, false, 0xe2, true, 0x1_ffff, true),
            (2, true, 0xe1, false, 1, true),
            (2, false, 0xe1, false, 1, false),
            (2, true, 0xe0, false, 1, false),
            (2, false, 0xe0, false, 1, true),
            (1, false, 0xe0, false, 0, false),
            (0x1_0000, false, 0xe3, true, 0x1_0000, true),
            (0x1_0000, false, 0xe3, false, 0x1_0000, false),
            (0, false, 0xe3, false, 0, true),
        ] {
            let mut cpu = cpu_of(MAX);
            cpu.regs.set_dword(ECX, ecx);
            cpu.flags.set_zf(zf);
            let prefix: &[u8] = if narrow { &[0x67] } else { &[] };
            run(&mut cpu, &[prefix, &[opcode, 0x10]].concat()).unwrap();
            let next = 0x1002 + narrow as u32;
            let eip = if taken { next + 0x10 } else { next };
            assert_eq!((cpu.regs.dword(ECX), cpu.eip), (after, eip), "{opcode:#x} {ecx:#x}");
        }
    }

    #[test]
    fn bound_is_br_outside_its_inclusive_signed_bounds() {
        for (index, lower, upper, expected) in [
            (-5, -5, 5, Ok(())),
            (5, -5, 5, Ok(())),
            (-6, -5, 5, Err(Fault::Bound)),
            (6, -5, 5, Err(Fault::Bound)),
            (0, 1, -1, Err(Fault::Bound)),
        ] {
            let mut cpu = cpu_of(MAX);
            cpu.regs.set_dword(EAX, index as u32);
            cpu.regs.set_dword(EBX, 0x2000);
            cpu.bus.ram_mut().write(0x2000, &i32::to_le_bytes(lower));
            cpu.bus.ram_mut().write(0x2004, &i32::to_le_bytes(upper));
            assert_eq!(run(&mut cpu, &[0x62, 0x03]), expected);
            cpu.bus.ram_mut().write(0x2000, &(lower as i16).to_le_bytes());
            cpu.bus.ram_mut().write(0x2002, &(upper as i16).to_le_bytes());
            assert_eq!(run(&mut cpu, &[0x66, 0x62, 0x03]), expected);
        }
    }
}
