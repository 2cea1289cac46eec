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
