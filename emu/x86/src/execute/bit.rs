//! Bit tests and scans (SDM 1 "Bit and Byte Instructions"), POPCNT, LZCNT, and the BMI instructions.

use iced_x86::{Mnemonic, OpCodeOperandKind as Kind};

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::arithmetic::kinds;
use crate::execute::{Form, Reg, Shape, by_form};
use crate::fault::{Exec, Fault};
use crate::flags::{AF, CF, Flags, PF, SF, ZF};
use crate::mmu::{Intent, Place};
use crate::observe::Observer;
use crate::op::{Handler, Op};
use crate::planted::Bug;
use crate::width::Width;

/// The bodies of this family.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    match shape.code.mnemonic() {
        Mnemonic::Bt => bit_test::<B, O, Bt>(shape),
        Mnemonic::Bts => bit_test::<B, O, Bts>(shape),
        Mnemonic::Btr => bit_test::<B, O, Btr>(shape),
        Mnemonic::Btc => bit_test::<B, O, Btc>(shape),
        Mnemonic::Bsf => counting::<B, O, Bsf>(shape),
        Mnemonic::Bsr => counting::<B, O, Bsr>(shape),
        Mnemonic::Popcnt => counting::<B, O, Popcnt>(shape),
        Mnemonic::Lzcnt => counting::<B, O, Lzcnt>(shape),
        Mnemonic::Tzcnt => counting::<B, O, Tzcnt>(shape),
        Mnemonic::Andn => extraction::<B, O, Andn>(shape),
        Mnemonic::Bextr => extraction::<B, O, Bextr>(shape),
        Mnemonic::Bzhi => extraction::<B, O, Bzhi>(shape),
        Mnemonic::Pdep => extraction::<B, O, Pdep>(shape),
        Mnemonic::Pext => extraction::<B, O, Pext>(shape),
        Mnemonic::Blsi => lowest_bit::<B, O, Blsi>(shape),
        Mnemonic::Blsmsk => lowest_bit::<B, O, Blsmsk>(shape),
        Mnemonic::Blsr => lowest_bit::<B, O, Blsr>(shape),
        _ => None,
    }
}

// ---- BT, BTS, BTR, BTC

/// What becomes of the bit after CF has it.
trait BitTest {
    const STORES: bool = true;
    fn apply(value: u32, bit: u32) -> u32;
}

struct Bt;
impl BitTest for Bt {
    const STORES: bool = false;
    fn apply(value: u32, _: u32) -> u32 {
        value
    }
}

struct Bts;
impl BitTest for Bts {
    fn apply(value: u32, bit: u32) -> u32 {
        value | bit
    }
}

struct Btr;
impl BitTest for Btr {
    fn apply(value: u32, bit: u32) -> u32 {
        value & !bit
    }
}

struct Btc;
impl BitTest for Btc {
    fn apply(value: u32, bit: u32) -> u32 {
        value ^ bit
    }
}

fn bit_test<B: Bus, O: Observer, A: BitTest>(shape: Shape) -> Option<Handler<B, O>> {
    let [dest, offset, _] = kinds(shape);
    Some(match (dest, offset, shape.memory) {
        (Kind::r16_or_mem, Kind::r16_reg, true) => bit_string::<B, O, A, u16>,
        (Kind::r32_or_mem, Kind::r32_reg, true) => bit_string::<B, O, A, u32>,
        (Kind::r16_or_mem, Kind::r16_reg, false) => bit_of_register::<B, O, A, u16>,
        (Kind::r32_or_mem, Kind::r32_reg, false) => bit_of_register::<B, O, A, u32>,
        (Kind::r16_or_mem, Kind::imm8, _) => by_form!(shape, bit_imm, A, u16),
        (Kind::r32_or_mem, Kind::imm8, _) => by_form!(shape, bit_imm, A, u32),
        _ => return None,
    })
}

#[inline(always)]
fn bit_intent<A: BitTest>() -> Intent {
    if A::STORES { Intent::ReadWrite } else { Intent::Read }
}

/// `op m, r`: the register is a signed offset into a bit string that starts at the operand, and moves the access by whole
/// operands.
fn bit_string<B: Bus, O: Observer, A: BitTest, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let offset = W::get_reg(&cpu.state.regs, op.reg).sign_extend();
    let operands = offset as i32 >> W::BITS.trailing_zeros();
    let displacement = operands.wrapping_mul(W::BYTES as i32) as u32;
    let address = cpu.effective_address(op).wrapping_add(displacement) & op.address_mask;
    let dest: Place<W> = cpu.translate(op.segment as usize, address, bit_intent::<A>())?;

    let bit = 1 << (offset & (W::BITS - 1));
    let value = cpu.load(dest).to_u32();

    if A::STORES {
        cpu.store(dest, W::from_u32(A::apply(value, bit)));
    }
    cpu.flags.set_cf(value & bit != 0);
    Ok(())
}

/// `op r, r`: the offset is taken modulo the operand's size.
fn bit_of_register<B: Bus, O: Observer, A: BitTest, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let offset = cpu.regs.dword(op.reg);
    bit_at::<B, O, Reg, A, W>(cpu, op, offset)
}

/// `op r/m, imm8`: likewise.
fn bit_imm<B: Bus, O: Observer, F: Form, A: BitTest, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    bit_at::<B, O, F, A, W>(cpu, op, op.imm)
}

#[inline(always)]
fn bit_at<B: Bus, O: Observer, F: Form, A: BitTest, W: Width>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
    offset: u32,
) -> Exec {
    let dest = F::locate::<B, O, W>(cpu, op, bit_intent::<A>())?;

    let bit = 1 << (offset & (W::BITS - 1));
    let value = F::get(cpu, dest).to_u32();

    if A::STORES {
        F::set(cpu, dest, W::from_u32(A::apply(value, bit)));
    }
    let unseen = cpu.planted.has(Bug::Flag) && bit >> (W::BITS - 1) != 0;
    cpu.flags.set_cf(value & bit != 0 && !unseen);
    Ok(())
}

// ---- BSF, BSR, POPCNT, LZCNT, TZCNT

/// Counts something in `source`.
trait Counting {
    /// The new destination and the flags of `ARITHMETIC`. Undefined flags are as silicon of AMD family 1Ah has them.
    fn apply<W: Width>(dest: W, source: W, flags: u32) -> (W, u32);
}

fn counting<B: Bus, O: Observer, A: Counting>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match kinds(shape) {
        [Kind::r16_reg, Kind::r16_or_mem, _] => by_form!(shape, count, A, u16),
        [Kind::r32_reg, Kind::r32_or_mem, _] => by_form!(shape, count, A, u32),
        _ => return None,
    })
}

/// `op r, r/m`.
fn count<B: Bus, O: Observer, F: Form, A: Counting, W: Width>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let source = F::locate::<B, O, W>(cpu, op, Intent::Read)?;

    let source: W = F::get(cpu, source);
    let (value, flags) = A::apply(W::get_reg(&cpu.state.regs, op.reg), source, cpu.flags.get());

    value.set_reg(&mut cpu.state.regs, op.reg);
    cpu.flags.set_arithmetic(flags);
    Ok(())
}

/// `flag` if the condition holds.
#[inline(always)]
fn flag(flag: u32, condition: bool) -> u32 {
    if condition { flag } else { 0 }
}

/// A scan's result. Manual: the destination of an empty source is undefined. Hardware: Intel and AMD leave it.
#[inline(always)]
fn scanned<W: Width>(dest: W, found: u32, empty: bool) -> (W, u32) {
    if empty {
        return (dest, ZF | PF);
    }
    (W::from_u32(found), flag(PF, found.count_ones() & 1 == 0))
}

struct Bsf;
impl Counting for Bsf {
    #[inline(always)]
    fn apply<W: Width>(dest: W, source: W, _: u32) -> (W, u32) {
        scanned(dest, source.to_u32().trailing_zeros(), source == W::default())
    }
}

struct Bsr;
impl Counting for Bsr {
    #[inline(always)]
    fn apply<W: Width>(dest: W, source: W, _: u32) -> (W, u32) {
        scanned(dest, 31u32.wrapping_sub(source.to_u32().leading_zeros()), source == W::default())
    }
}

struct Popcnt;
impl Counting for Popcnt {
    #[inline(always)]
    fn apply<W: Width>(_: W, source: W, _: u32) -> (W, u32) {
        (W::from_u32(source.to_u32().count_ones()), flag(ZF, source == W::default()))
    }
}

/// What LZCNT and TZCNT leave: CF for an empty source, ZF for none; OF, undefined, as it was.
#[inline(always)]
fn counted<W: Width>(zeros: u32, flags: u32) -> (W, u32) {
    (
        W::from_u32(zeros),
        flags & !(CF | PF | AF | ZF | SF) | flag(CF, zeros == W::BITS) | flag(ZF, zeros == 0),
    )
}

struct Lzcnt;
impl Counting for Lzcnt {
    #[inline(always)]
    fn apply<W: Width>(_: W, source: W, flags: u32) -> (W, u32) {
        counted(source.to_u32().leading_zeros() - (32 - W::BITS), flags)
    }
}

struct Tzcnt;
impl Counting for Tzcnt {
    #[inline(always)]
    fn apply<W: Width>(_: W, source: W, flags: u32) -> (W, u32) {
        counted(source.to_u32().trailing_zeros().min(W::BITS), flags)
    }
}

// ---- ANDN, BEXTR, BZHI, PDEP, PEXT, BLSI, BLSMSK, BLSR

/// A BMI instruction of two sources: `r/m` and the VEX.vvvv register.
trait Extraction {
    /// The result, and the flags it leaves.
    fn apply(rm: u32, vvvv: u32, flags: &mut Flags) -> u32;
}

fn extraction<B: Bus, O: Observer, A: Extraction>(shape: Shape) -> Option<Handler<B, O>> {
    match kinds(shape) {
        [Kind::r32_reg, Kind::r32_or_mem, Kind::r32_vvvv]
        | [Kind::r32_reg, Kind::r32_vvvv, Kind::r32_or_mem] => Some(by_form!(shape, extract, A)),
        _ => None,
    }
}

/// `op r, r/m, vvvv` and `op r, vvvv, r/m`. No such opcodes outside protected mode (SDM 2A "Exception Type 13").
fn extract<B: Bus, O: Observer, F: Form, A: Extraction>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    cpu.ensure(cpu.is_protected(), Fault::InvalidOpcode)?;
    let source = F::locate::<B, O, u32>(cpu, op, Intent::Read)?;

    let rm: u32 = F::get(cpu, source);
    let value = A::apply(rm, cpu.regs.dword(op.reg2), &mut cpu.state.flags);

    cpu.regs.set_dword(op.reg, value);
    Ok(())
}

struct Andn;
impl Extraction for Andn {
    #[inline(always)]
    fn apply(rm: u32, vvvv: u32, flags: &mut Flags) -> u32 {
        let value = !vvvv & rm;
        flags.set_logic(value);
        value
    }
}

struct Bextr;
impl Extraction for Bextr {
    #[inline(always)]
    fn apply(rm: u32, vvvv: u32, flags: &mut Flags) -> u32 {
        let [start, length, ..] = vvvv.to_le_bytes();
        let shifted = rm.checked_shr(start as u32).unwrap_or(0);
        let value = low_bits(shifted, length as u32);
        // Hardware: of the undefined AF, SF and PF, AMD family 1Ah sets the first, clears the second, and works the third out
        let parity = (value as u8).count_ones() & 1 == 0;
        flags.set_arithmetic(AF | flag(ZF, value == 0) | flag(PF, parity));
        value
    }
}

struct Bzhi;
impl Extraction for Bzhi {
    #[inline(always)]
    fn apply(rm: u32, vvvv: u32, flags: &mut Flags) -> u32 {
        let value = low_bits(rm, vvvv & 0xff);
        flags.set_logic(value);
        flags.set_cf_of(vvvv & 0xff > 31, false);
        value
    }
}

/// The low `count` bits.
#[inline(always)]
fn low_bits(value: u32, count: u32) -> u32 {
    value & 1u32.checked_shl(count).unwrap_or(0).wrapping_sub(1)
}

struct Pdep;
impl Extraction for Pdep {
    /// Deposits the low bits of `vvvv` where `rm` has ones.
    fn apply(rm: u32, vvvv: u32, _: &mut Flags) -> u32 {
        let (mut mask, mut source, mut value) = (rm, vvvv, 0);
        while mask != 0 {
            let lowest = mask & mask.wrapping_neg();
            value |= if source & 1 != 0 { lowest } else { 0 };
            source >>= 1;
            mask ^= lowest;
        }
        value
    }
}

struct Pext;
impl Extraction for Pext {
    /// Gathers the bits of `vvvv` where `rm` has ones.
    fn apply(rm: u32, vvvv: u32, _: &mut Flags) -> u32 {
        let (mut mask, mut value) = (rm, 0);
        for n in 0..rm.count_ones() {
            let lowest = mask & mask.wrapping_neg();
            value |= ((vvvv & lowest != 0) as u32) << n;
            mask ^= lowest;
        }
        value
    }
}

/// A BMI instruction on the lowest set bit of its source.
trait LowestBit {
    /// The result and CF.
    fn apply(a: u32) -> (u32, bool);
}

struct Blsi;
impl LowestBit for Blsi {
    #[inline(always)]
    fn apply(a: u32) -> (u32, bool) {
        (a & a.wrapping_neg(), a != 0)
    }
}

struct Blsmsk;
impl LowestBit for Blsmsk {
    #[inline(always)]
    fn apply(a: u32) -> (u32, bool) {
        (a ^ a.wrapping_sub(1), a == 0)
    }
}

struct Blsr;
impl LowestBit for Blsr {
    #[inline(always)]
    fn apply(a: u32) -> (u32, bool) {
        (a & a.wrapping_sub(1), a == 0)
    }
}

fn lowest_bit<B: Bus, O: Observer, A: LowestBit>(shape: Shape) -> Option<Handler<B, O>> {
    (kinds(shape)[0] == Kind::r32_vvvv).then_some(by_form!(shape, lowest, A))
}

/// `op vvvv, r/m`.
fn lowest<B: Bus, O: Observer, F: Form, A: LowestBit>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    cpu.ensure(cpu.is_protected(), Fault::InvalidOpcode)?;
    let source = F::locate::<B, O, u32>(cpu, op, Intent::Read)?;

    let (value, cf) = A::apply(F::get(cpu, source));

    cpu.regs.set_dword(op.reg2, value);
    cpu.flags.set_logic(value);
    cpu.flags.set_cf_of(cf, false);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Stop;
    use crate::flat::{Start, processor};
    use crate::regs::{EAX, EBX};

    #[test]
    fn a_bit_string_reaches_below_and_above_its_address() {
        // bts [ebx], eax
        let code = [0x0f, 0xab, 0x03];
        for (offset, byte, bit) in
            [(0i32, 0, 0), (31, 3, 7), (32, 4, 0), (-1, -1, 7), (-32, -4, 0), (-33, -5, 7)]
        {
            let mut processor = processor(Start::Flat32, &code, 0x1000, 0x10000);
            processor.cpu.regs.set_dword(EBX, 0x4000);
            processor.cpu.regs.set_dword(EAX, offset as u32);
            assert_eq!(processor.run(1), Stop::Limit);
            let at = 0x4000i32.wrapping_add(byte) as usize;
            assert_eq!(processor.cpu.bus.ram().read::<1>(at)[0], 1 << bit, "{offset}");
        }
    }

    #[test]
    fn a_word_bit_string_takes_its_offset_from_the_word_register_and_wraps_with_the_address_size() {
        // 16-bit code: bts [bx], ax with AX = 8000h: 4 KiB below, modulo 64 KiB
        let mut processor = processor(Start::Real, &[0x0f, 0xab, 0x07], 0x1000, 0x20000);
        processor.cpu.regs.set_dword(EBX, 0x0010);
        processor.cpu.regs.set_dword(EAX, 0x7fff_8000);
        assert_eq!(processor.run(1), Stop::Limit);
        assert_eq!(processor.cpu.bus.ram().read::<1>(0xf010)[0], 1);
    }

    #[test]
    fn scans_of_nothing_leave_the_destination() {
        assert_eq!(Bsf::apply(0x1234u16, 0, 0).0, 0x1234);
        assert_eq!(Bsr::apply(0xdead_beefu32, 0, 0), (0xdead_beef, ZF | PF));
        assert_eq!(Bsr::apply(0u16, 0x8000, 0).0, 15);
    }

    #[test]
    fn pext_undoes_pdep_through_every_mask() {
        let mut flags = Flags::default();
        for mask in [0u32, 1, 0x8000_0000, 0xffff_ffff, 0x0f0f_00ff, 0xa5a5_5a5a, 0x7fff_fffe] {
            for value in [0u32, 0xffff_ffff, 0x1234_5678, 0x8000_0001] {
                let deposited = Pdep::apply(mask, value, &mut flags);
                assert_eq!(deposited & !mask, 0);
                let kept = low_bits(value, mask.count_ones());
                assert_eq!(Pext::apply(mask, deposited, &mut flags), kept);
            }
        }
    }

    #[test]
    fn andn_is_no_instruction_of_real_mode() {
        let mut processor = processor(Start::Real, &[0xc4, 0xe2, 0x70, 0xf2, 0xc3], 0x1000, 0x10000);
        processor.cpu.bus.ram_mut().write(6 * 4, &[0x00, 0x20, 0, 0]);
        processor.run(1);
        assert_eq!(processor.cpu.deliveries[6], 1);
    }
}
