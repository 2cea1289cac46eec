//! ADD, ADC, SUB, SBB, CMP, INC, DEC, NEG, ADCX, ADOX (SDM 1 "Binary Arithmetic Instructions"), and the shapes that all
//! instructions of one or two integer operands share.
//!
//! The width and the operand forms are iced-x86's, read from the opcode's operand kinds; an operation is a type.

use iced_x86::{Mnemonic, OpCodeOperandKind as Kind};

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::{Form, Shape, by_form};
use crate::fault::Exec;
use crate::flags::Flags;
use crate::mmu::Intent;
use crate::observe::Observer;
use crate::op::{Handler, Op};
use crate::width::Width;

/// The bodies of this family.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    match shape.code.mnemonic() {
        Mnemonic::Add => binary::<B, O, Add>(shape),
        Mnemonic::Adc => binary::<B, O, Adc>(shape),
        Mnemonic::Sub => binary::<B, O, Sub>(shape),
        Mnemonic::Sbb => binary::<B, O, Sbb>(shape),
        Mnemonic::Cmp => binary::<B, O, Cmp>(shape),
        Mnemonic::Inc => unary::<B, O, Inc>(shape),
        Mnemonic::Dec => unary::<B, O, Dec>(shape),
        Mnemonic::Neg => unary::<B, O, Neg>(shape),
        Mnemonic::Adcx => (kinds(shape)[0] == Kind::r32_reg).then_some(by_form!(shape, adcx)),
        Mnemonic::Adox => (kinds(shape)[0] == Kind::r32_reg).then_some(by_form!(shape, adox)),
        _ => None,
    }
}

/// What the opcode says of its operands, in their order.
pub(super) fn kinds(shape: Shape) -> [Kind; 3] {
    let kinds = shape.code.op_code().op_kinds();
    std::array::from_fn(|n| kinds.get(n).copied().unwrap_or(Kind::None))
}

/// `DEST := DEST op SRC`.
pub(super) trait Binary {
    /// Whether the result is kept (CMP and TEST only set flags).
    const STORES: bool = true;
    /// The result and its carry vector (bit i: the carry or borrow out of bit i).
    fn apply<W: Width>(a: W, b: W, carry: bool) -> (W, W);
}

/// `DEST := op DEST`.
pub(super) trait Unary {
    /// The result, and the flags it leaves.
    fn apply<W: Width>(a: W, flags: &mut Flags) -> W;
}

/// The body of an instruction of two operands.
pub(super) fn binary<B: Bus, O: Observer, A: Binary>(shape: Shape) -> Option<Handler<B, O>> {
    let [dest, source, _] = kinds(shape);
    Some(match (dest, source) {
        (Kind::r8_or_mem, Kind::r8_reg) => by_form!(shape, rm_r, A, u8),
        (Kind::r16_or_mem, Kind::r16_reg) => by_form!(shape, rm_r, A, u16),
        (Kind::r32_or_mem, Kind::r32_reg) => by_form!(shape, rm_r, A, u32),
        (Kind::r8_reg, Kind::r8_or_mem) => by_form!(shape, r_rm, A, u8),
        (Kind::r16_reg, Kind::r16_or_mem) => by_form!(shape, r_rm, A, u16),
        (Kind::r32_reg, Kind::r32_or_mem) => by_form!(shape, r_rm, A, u32),
        // the accumulator is register 0 of its width
        (Kind::r8_or_mem | Kind::al, Kind::imm8) => by_form!(shape, rm_imm, A, u8),
        (Kind::r16_or_mem | Kind::ax, Kind::imm16 | Kind::imm8sex16) => by_form!(shape, rm_imm, A, u16),
        (Kind::r32_or_mem | Kind::eax, Kind::imm32 | Kind::imm8sex32) => by_form!(shape, rm_imm, A, u32),
        _ => return None,
    })
}

/// The body of an instruction of one operand.
pub(super) fn unary<B: Bus, O: Observer, A: Unary>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match kinds(shape)[0] {
        Kind::r8_or_mem => by_form!(shape, unary_rm, A, u8),
        Kind::r16_or_mem => by_form!(shape, unary_rm, A, u16),
        Kind::r32_or_mem => by_form!(shape, unary_rm, A, u32),
        Kind::r16_opcode => unary_r::<B, O, A, u16>,
        Kind::r32_opcode => unary_r::<B, O, A, u32>,
        _ => return None,
    })
}

/// Locates the destination of `A`.
#[inline(always)]
fn destination<B: Bus, O: Observer, F: Form, A: Binary, W: Width>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec<F::At<W>> {
    F::locate::<B, O, W>(cpu, op, if A::STORES { Intent::ReadWrite } else { Intent::Read })
}

/// `op r/m, r`.
fn rm_r<B: Bus, O: Observer, F: Form, A: Binary, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let dest = destination::<B, O, F, A, W>(cpu, op)?;

    let (a, b) = (F::get(cpu, dest), W::get_reg(&cpu.state.regs, op.reg));
    let (value, carry) = A::apply(a, b, cpu.flags.cf());

    if A::STORES {
        F::set(cpu, dest, value);
    }
    cpu.flags.set_result(value, carry);
    Ok(())
}

/// `op r, r/m`.
fn r_rm<B: Bus, O: Observer, F: Form, A: Binary, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let source = F::locate::<B, O, W>(cpu, op, Intent::Read)?;

    let b = F::get(cpu, source);
    let (value, carry) = A::apply(W::get_reg(&cpu.state.regs, op.reg), b, cpu.flags.cf());

    if A::STORES {
        value.set_reg(&mut cpu.state.regs, op.reg);
    }
    cpu.flags.set_result(value, carry);
    Ok(())
}

/// `op r/m, imm`.
fn rm_imm<B: Bus, O: Observer, F: Form, A: Binary, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let dest = destination::<B, O, F, A, W>(cpu, op)?;

    let a = F::get(cpu, dest);
    let (value, carry) = A::apply(a, W::from_u32(op.imm), cpu.flags.cf());

    if A::STORES {
        F::set(cpu, dest, value);
    }
    cpu.flags.set_result(value, carry);
    Ok(())
}

/// `op r/m`.
fn unary_rm<B: Bus, O: Observer, F: Form, A: Unary, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let dest = F::locate::<B, O, W>(cpu, op, Intent::ReadWrite)?;

    let a = F::get(cpu, dest);
    let value = A::apply(a, &mut cpu.state.flags);

    F::set(cpu, dest, value);
    Ok(())
}

/// `op r`, the register in the opcode.
fn unary_r<B: Bus, O: Observer, A: Unary, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let value = A::apply(W::get_reg(&cpu.state.regs, op.reg), &mut cpu.state.flags);

    value.set_reg(&mut cpu.state.regs, op.reg);
    Ok(())
}

/// `a + b + carry` and the carry out of each bit: where both have a one, or one has and the sum has lost it.
#[inline(always)]
pub(super) fn add<W: Width>(a: W, b: W, carry: bool) -> (W, W) {
    let (a, b) = (a.to_u32(), b.to_u32());
    let sum = a.wrapping_add(b).wrapping_add(carry as u32);
    (W::from_u32(sum), W::from_u32(a & b | (a | b) & !sum))
}

/// `a - b - borrow` and the borrow out of each bit.
#[inline(always)]
pub(super) fn subtract<W: Width>(a: W, b: W, borrow: bool) -> (W, W) {
    let (a, b) = (a.to_u32(), b.to_u32());
    let difference = a.wrapping_sub(b).wrapping_sub(borrow as u32);
    (W::from_u32(difference), W::from_u32(!a & b | (!a | b) & difference))
}

struct Add;
impl Binary for Add {
    #[inline(always)]
    fn apply<W: Width>(a: W, b: W, _: bool) -> (W, W) {
        add(a, b, false)
    }
}

struct Adc;
impl Binary for Adc {
    #[inline(always)]
    fn apply<W: Width>(a: W, b: W, carry: bool) -> (W, W) {
        add(a, b, carry)
    }
}

struct Sub;
impl Binary for Sub {
    #[inline(always)]
    fn apply<W: Width>(a: W, b: W, _: bool) -> (W, W) {
        subtract(a, b, false)
    }
}

struct Sbb;
impl Binary for Sbb {
    #[inline(always)]
    fn apply<W: Width>(a: W, b: W, carry: bool) -> (W, W) {
        subtract(a, b, carry)
    }
}

struct Cmp;
impl Binary for Cmp {
    const STORES: bool = false;
    #[inline(always)]
    fn apply<W: Width>(a: W, b: W, _: bool) -> (W, W) {
        subtract(a, b, false)
    }
}

struct Inc;
impl Unary for Inc {
    #[inline(always)]
    fn apply<W: Width>(a: W, flags: &mut Flags) -> W {
        let (value, carry) = add(a, W::from_u32(1), false);
        flags.set_result_keeping_cf(value, carry);
        value
    }
}

struct Dec;
impl Unary for Dec {
    #[inline(always)]
    fn apply<W: Width>(a: W, flags: &mut Flags) -> W {
        let (value, carry) = subtract(a, W::from_u32(1), false);
        flags.set_result_keeping_cf(value, carry);
        value
    }
}

struct Neg;
impl Unary for Neg {
    #[inline(always)]
    fn apply<W: Width>(a: W, flags: &mut Flags) -> W {
        let (value, carry) = subtract(W::from_u32(0), a, false);
        flags.set_result(value, carry);
        value
    }
}

/// ADCX: addition with CF in and out, the other flags untouched.
fn adcx<B: Bus, O: Observer, F: Form>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let source = F::locate::<B, O, u32>(cpu, op, Intent::Read)?;

    let b: u32 = F::get(cpu, source);
    let (value, carry) = add(cpu.regs.dword(op.reg), b, cpu.flags.cf());

    cpu.regs.set_dword(op.reg, value);
    cpu.flags.set_cf(carry >> 31 != 0);
    Ok(())
}

/// ADOX: the same with OF.
fn adox<B: Bus, O: Observer, F: Form>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let source = F::locate::<B, O, u32>(cpu, op, Intent::Read)?;

    let b: u32 = F::get(cpu, source);
    let (value, carry) = add(cpu.regs.dword(op.reg), b, cpu.flags.of());

    cpu.regs.set_dword(op.reg, value);
    let cf = cpu.flags.cf();
    cpu.flags.set_cf_of(cf, carry >> 31 != 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{AF, ARITHMETIC, CF, OF, PF, SF, ZF};

    /// The six flags by their definitions (SDM 1 "Status Flags"), in wide arithmetic.
    fn flags_of(exact: i32, signed: i32, result: u8, half: i32) -> u32 {
        let mut flags = 0;
        let mut set = |flag, condition| flags |= if condition { flag } else { 0 };
        set(CF, !(0..=255).contains(&exact));
        set(OF, !(-128..=127).contains(&signed));
        set(AF, !(0..=15).contains(&half));
        set(ZF, result == 0);
        set(SF, result >= 128);
        set(PF, (0..8).filter(|n| result >> n & 1 != 0).count() % 2 == 0);
        flags
    }

    #[test]
    fn addition_and_subtraction_of_all_bytes_give_the_flags_of_the_manual() {
        for (a, b) in (0..=255u8).flat_map(|a| (0..=255u8).map(move |b| (a, b))) {
            for carry in [false, true] {
                let c = carry as i32;
                let mut flags = Flags::default();
                let (x, y, sx, sy) = (a as i32, b as i32, a as i8 as i32, b as i8 as i32);

                let (sum, vector) = add(a, b, carry);
                flags.set_result(sum, vector);
                assert_eq!(sum, (x + y + c) as u8);
                let expected = flags_of(x + y + c, sx + sy + c, sum, (x & 15) + (y & 15) + c);
                assert_eq!(flags.get() & ARITHMETIC, expected, "{a} + {b} + {carry}");

                let (difference, vector) = subtract(a, b, carry);
                flags.set_result(difference, vector);
                assert_eq!(difference, (x - y - c) as u8);
                let expected = flags_of(x - y - c, sx - sy - c, difference, (x & 15) - (y & 15) - c);
                assert_eq!(flags.get() & ARITHMETIC, expected, "{a} - {b} - {carry}");
            }
        }
    }

    #[test]
    fn inc_and_dec_keep_the_carry_flag() {
        for cf in [0, CF] {
            let mut flags = Flags::default();
            flags.set_arithmetic(cf);
            assert_eq!(Inc::apply(0xffu8, &mut flags), 0);
            assert_eq!(flags.get() & ARITHMETIC, cf | ZF | PF | AF);
            assert_eq!(Dec::apply(0u8, &mut flags), 0xff);
            assert_eq!(flags.get() & ARITHMETIC, cf | SF | PF | AF);
            assert_eq!(Inc::apply(0x7fff_ffffu32, &mut flags), 0x8000_0000);
            assert_eq!(flags.get() & ARITHMETIC, cf | SF | PF | AF | OF);
        }
    }
}
