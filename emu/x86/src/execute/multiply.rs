//! MUL, IMUL, MULX, DIV, IDIV (SDM 1 "Binary Arithmetic Instructions").

use iced_x86::{Mnemonic, OpCodeOperandKind as Kind};

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::arithmetic::kinds;
use crate::execute::{Form, Shape, by_form};
use crate::fault::{Exec, Fault};
use crate::flags::{AF, PF, SF, ZF};
use crate::mmu::Intent;
use crate::observe::Observer;
use crate::op::{Handler, Op};
use crate::planted::Bug;
use crate::regs::{EAX, EDX};
use crate::width::Width;

/// The bodies of this family.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    match shape.code.mnemonic() {
        Mnemonic::Mul => accumulator::<B, O, Mul>(shape),
        Mnemonic::Imul => accumulator::<B, O, Imul>(shape).or_else(|| imul(shape)),
        Mnemonic::Div => accumulator::<B, O, Div>(shape),
        Mnemonic::Idiv => accumulator::<B, O, Idiv>(shape),
        Mnemonic::Mulx if kinds(shape)[0] == Kind::r32_reg => Some(by_form!(shape, mulx)),
        _ => None,
    }
}

/// The body of a form whose only operand is the multiplier or divisor.
fn accumulator<B: Bus, O: Observer, A: Accumulator>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match kinds(shape)[0] {
        Kind::r8_or_mem => by_form!(shape, rm, A, u8),
        Kind::r16_or_mem => by_form!(shape, rm, A, u16),
        Kind::r32_or_mem => by_form!(shape, rm, A, u32),
        _ => return None,
    })
}

/// The body of IMUL with two or three operands.
fn imul<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    let [dest, _, immediate] = kinds(shape);
    Some(match (dest, immediate) {
        (Kind::r16_reg, Kind::None) => by_form!(shape, r_rm, u16),
        (Kind::r32_reg, Kind::None) => by_form!(shape, r_rm, u32),
        (Kind::r16_reg, _) => by_form!(shape, r_rm_imm, u16),
        (Kind::r32_reg, _) => by_form!(shape, r_rm_imm, u32),
        _ => return None,
    })
}

/// What an operation on the accumulator pair leaves.
struct Outcome<W> {
    low: W,
    high: W,
    /// A product's CF and OF; a quotient has none.
    overflow: Option<bool>,
}

/// An operation on AX, DX:AX or EDX:EAX.
trait Accumulator {
    /// `None` is #DE.
    fn apply<W: Width>(low: W, high: W, source: W) -> Option<Outcome<W>>;
}

/// Register number of the accumulator pair's high half: AH for bytes, else DX or EDX.
#[inline(always)]
fn high_half<W: Width>() -> u8 {
    if W::BITS == 8 { 4 } else { EDX }
}

/// `op r/m`.
fn rm<B: Bus, O: Observer, F: Form, A: Accumulator, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let source = F::locate::<B, O, W>(cpu, op, Intent::Read)?;
    let source = F::get(cpu, source);
    let (low, high) = (W::get_reg(&cpu.state.regs, EAX), W::get_reg(&cpu.state.regs, high_half::<W>()));
    let Some(outcome) = A::apply(low, high, source) else {
        return Err(cpu.raise(Fault::DivideError));
    };

    outcome.low.set_reg(&mut cpu.state.regs, EAX);
    outcome.high.set_reg(&mut cpu.state.regs, high_half::<W>());
    match outcome.overflow {
        // Hardware: AMD family 1Ah leaves the undefined flags of a product alone
        Some(overflow) => cpu.flags.set_cf_of(overflow, overflow),
        // Hardware: of a quotient's, all undefined, it sets AF, clears PF, ZF and SF, and leaves CF and OF alone
        None => cpu.flags.set(AF, PF | AF | ZF | SF),
    }
    Ok(())
}

/// `value`, the low 2 * BITS of it, sign-extended.
#[inline(always)]
fn extend_double<W: Width>(value: u64) -> i64 {
    let unused = 64 - 2 * W::BITS;
    (value << unused) as i64 >> unused
}

#[inline(always)]
fn signed<W: Width>(value: W) -> i64 {
    value.sign_extend() as i32 as i64
}

struct Mul;
impl Accumulator for Mul {
    #[inline(always)]
    fn apply<W: Width>(low: W, _: W, source: W) -> Option<Outcome<W>> {
        let product = low.to_u64() * source.to_u64();
        let high = W::from_u64(product >> W::BITS);
        Some(Outcome { low: W::from_u64(product), high, overflow: Some(high != W::default()) })
    }
}

struct Imul;
impl Accumulator for Imul {
    #[inline(always)]
    fn apply<W: Width>(low: W, _: W, source: W) -> Option<Outcome<W>> {
        let (value, high, overflow) = signed_product(low, source);
        Some(Outcome { low: value, high, overflow: Some(overflow) })
    }
}

/// The halves of the product, and whether the low one alone is not all of it.
#[inline(always)]
fn signed_product<W: Width>(a: W, b: W) -> (W, W, bool) {
    let product = signed(a) * signed(b);
    let low = W::from_u64(product as u64);
    (low, W::from_u64((product >> W::BITS) as u64), signed(low) != product)
}

struct Div;
impl Accumulator for Div {
    #[inline(always)]
    fn apply<W: Width>(low: W, high: W, source: W) -> Option<Outcome<W>> {
        let dividend = high.to_u64() << W::BITS | low.to_u64();
        let quotient = dividend.checked_div(source.to_u64())?;
        let remainder = dividend % source.to_u64();
        let fits = quotient >> W::BITS == 0;
        fits.then(|| Outcome { low: W::from_u64(quotient), high: W::from_u64(remainder), overflow: None })
    }
}

struct Idiv;
impl Accumulator for Idiv {
    #[inline(always)]
    fn apply<W: Width>(low: W, high: W, source: W) -> Option<Outcome<W>> {
        let dividend = extend_double::<W>(high.to_u64() << W::BITS | low.to_u64());
        let quotient = dividend.checked_div(signed(source))?;
        let remainder = dividend.checked_rem(signed(source))?;
        let low = W::from_u64(quotient as u64);
        let fits = signed(low) == quotient;
        fits.then(|| Outcome { low, high: W::from_u64(remainder as u64), overflow: None })
    }
}

/// `IMUL r, r/m`.
fn r_rm<B: Bus, O: Observer, F: Form, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let source = F::locate::<B, O, W>(cpu, op, Intent::Read)?;

    let b: W = F::get(cpu, source);
    let (value, _, overflow) = signed_product(W::get_reg(&cpu.state.regs, op.reg), b);

    value.set_reg(&mut cpu.state.regs, op.reg);
    cpu.flags.set_cf_of(overflow, overflow);
    Ok(())
}

/// `IMUL r, r/m, imm`.
fn r_rm_imm<B: Bus, O: Observer, F: Form, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let source = F::locate::<B, O, W>(cpu, op, Intent::Read)?;

    let a: W = F::get(cpu, source);
    let (value, _, overflow) = signed_product(a, W::from_u32(op.imm));
    let wrong = cpu.planted.has(Bug::Instruction) && signed(a) < 0 && signed(W::from_u32(op.imm)) < 0;
    let value = W::from_u32(value.to_u32().wrapping_add(wrong as u32));

    value.set_reg(&mut cpu.state.regs, op.reg);
    cpu.flags.set_cf_of(overflow, overflow);
    Ok(())
}

/// MULX: EDX times r/m32, without flags.
fn mulx<B: Bus, O: Observer, F: Form>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    cpu.ensure(cpu.is_protected(), Fault::InvalidOpcode)?;
    let source = F::locate::<B, O, u32>(cpu, op, Intent::Read)?;

    let b: u32 = F::get(cpu, source);
    let product = cpu.regs.dword(EDX) as u64 * b as u64;

    // the same register for both halves gets the high one
    cpu.regs.set_dword(op.reg2, product as u32);
    cpu.regs.set_dword(op.reg, (product >> 32) as u32);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_division_faults_exactly_when_the_quotient_does_not_fit() {
        for dividend in 0..=0xffffu16 {
            let [low, high] = dividend.to_le_bytes();
            for source in [0u8, 1, 2, 3, 7, 0x7f, 0x80, 0x81, 0xfe, 0xff] {
                let unsigned = Div::apply(low, high, source).map(|o| (o.low, o.high));
                let expected = (source != 0 && dividend as u32 / (source as u32) < 256)
                    .then(|| ((dividend / source as u16) as u8, (dividend % source as u16) as u8));
                assert_eq!(unsigned, expected, "DIV {dividend:#x} by {source:#x}");

                let result = Idiv::apply(low, high, source).map(|o| (o.low, o.high));
                let (n, d) = (dividend as i16 as i32, source as i8 as i32);
                let expected =
                    (d != 0 && (-128..128).contains(&(n / d))).then(|| ((n / d) as u8, (n % d) as u8));
                assert_eq!(result, expected, "IDIV {dividend:#x} by {source:#x}");
            }
        }
    }

    #[test]
    fn the_most_negative_dividend_by_minus_one_faults_at_every_width() {
        assert!(Idiv::apply(0u8, 0x80, 0xff).is_none());
        assert!(Idiv::apply(0u16, 0x8000, 0xffff).is_none());
        assert!(Idiv::apply(0u32, 0x8000_0000, 0xffff_ffff).is_none());
        // the most negative quotient itself is a quotient
        assert_eq!(
            Idiv::apply(0x8000_0000u32, 0xffff_ffff, 1).map(|o| (o.low, o.high)),
            Some((0x8000_0000, 0))
        );
    }

    #[test]
    fn every_byte_product_is_whole() {
        for (a, b) in (0..=255u8).flat_map(|a| (0..=255u8).map(move |b| (a, b))) {
            let product = Mul::apply(a, 0, b).map(|o| (u16::from_le_bytes([o.low, o.high]), o.overflow));
            let expected = a as u16 * b as u16;
            assert_eq!(product, Some((expected, Some(expected > 255))));
            let product = Imul::apply(a, 0, b).map(|o| (i16::from_le_bytes([o.low, o.high]), o.overflow));
            let expected = a as i8 as i16 * b as i8 as i16;
            assert_eq!(product, Some((expected, Some(!(-128..128).contains(&expected)))));
        }
    }
}
