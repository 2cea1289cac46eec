//! Shifts and rotates (SDM 1 "Shift and Rotate Instructions"), and the BMI2 ones without flags.
//!
//! Where the manual leaves flags or results undefined (OF for counts above 1, AF, counts beyond the operand), the choice
//! is what AMD silicon of family 1Ah does; `tests/vectors/measure.c` asks it.

use iced_x86::{Mnemonic, OpCodeOperandKind as Kind};

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::arithmetic::kinds;
use crate::execute::{Form, Shape, by_form};
use crate::fault::{Exec, Fault};
use crate::flags::Flags;
use crate::mmu::Intent;
use crate::observe::Observer;
use crate::op::{Handler, Op};
use crate::regs::ECX;
use crate::width::Width;

/// The bodies of this family.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    match shape.code.mnemonic() {
        Mnemonic::Rol => counted::<B, O, Rol>(shape),
        Mnemonic::Ror => counted::<B, O, Ror>(shape),
        Mnemonic::Rcl => counted::<B, O, Rcl>(shape),
        Mnemonic::Rcr => counted::<B, O, Rcr>(shape),
        Mnemonic::Shl | Mnemonic::Sal => counted::<B, O, Shl>(shape),
        Mnemonic::Shr => counted::<B, O, Shr>(shape),
        Mnemonic::Sar => counted::<B, O, Sar>(shape),
        Mnemonic::Shld => double::<B, O, Shld>(shape),
        Mnemonic::Shrd => double::<B, O, Shrd>(shape),
        Mnemonic::Rorx => flagless::<B, O, Rorx>(shape),
        Mnemonic::Sarx => flagless::<B, O, Sarx>(shape),
        Mnemonic::Shlx => flagless::<B, O, Shlx>(shape),
        Mnemonic::Shrx => flagless::<B, O, Shrx>(shape),
        _ => None,
    }
}

/// Where the count comes from.
trait Count {
    fn get<B: Bus, O: Observer>(cpu: &Cpu<B, O>, op: &Op<B, O>) -> u32;
}

struct Immediate;
impl Count for Immediate {
    #[inline(always)]
    fn get<B: Bus, O: Observer>(_: &Cpu<B, O>, op: &Op<B, O>) -> u32 {
        op.imm & 31
    }
}

struct Cl;
impl Count for Cl {
    #[inline(always)]
    fn get<B: Bus, O: Observer>(cpu: &Cpu<B, O>, _: &Op<B, O>) -> u32 {
        cpu.regs.dword(ECX) & 31
    }
}

/// A shift or rotate by 1 to 31.
trait Shift {
    /// The result, and the flags it leaves.
    fn apply<W: Width>(a: W, count: u32, flags: &mut Flags) -> W;
}

/// A shift by 1 to 31 that takes bits in from a second operand.
trait DoubleShift {
    /// The result, and the flags it leaves.
    fn apply<W: Width>(a: W, b: W, count: u32, flags: &mut Flags) -> W;
}

/// The body of a shift of one operand.
fn counted<B: Bus, O: Observer, S: Shift>(shape: Shape) -> Option<Handler<B, O>> {
    let [dest, count, _] = kinds(shape);
    Some(match (dest, count) {
        (Kind::r8_or_mem, Kind::cl) => by_form!(shape, shift, S, Cl, u8),
        (Kind::r16_or_mem, Kind::cl) => by_form!(shape, shift, S, Cl, u16),
        (Kind::r32_or_mem, Kind::cl) => by_form!(shape, shift, S, Cl, u32),
        (Kind::r8_or_mem, _) => by_form!(shape, shift, S, Immediate, u8),
        (Kind::r16_or_mem, _) => by_form!(shape, shift, S, Immediate, u16),
        (Kind::r32_or_mem, _) => by_form!(shape, shift, S, Immediate, u32),
        _ => return None,
    })
}

/// The body of a double-precision shift.
fn double<B: Bus, O: Observer, S: DoubleShift>(shape: Shape) -> Option<Handler<B, O>> {
    let [dest, _, count] = kinds(shape);
    Some(match (dest, count) {
        (Kind::r16_or_mem, Kind::cl) => by_form!(shape, shift_double, S, Cl, u16),
        (Kind::r32_or_mem, Kind::cl) => by_form!(shape, shift_double, S, Cl, u32),
        (Kind::r16_or_mem, _) => by_form!(shape, shift_double, S, Immediate, u16),
        (Kind::r32_or_mem, _) => by_form!(shape, shift_double, S, Immediate, u32),
        _ => return None,
    })
}

/// The body of a shift that leaves the flags alone.
fn flagless<B: Bus, O: Observer, S: Flagless>(shape: Shape) -> Option<Handler<B, O>> {
    (kinds(shape)[0] == Kind::r32_reg).then_some(by_form!(shape, shift_flagless, S))
}

/// `op r/m, count`. A count of zero changes nothing, but the operand is read and written all the same.
fn shift<B: Bus, O: Observer, F: Form, S: Shift, C: Count, W: Width>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec {
    let dest = F::locate::<B, O, W>(cpu, op, Intent::ReadWrite)?;

    let a: W = F::get(cpu, dest);
    let count = C::get(cpu, op);
    let value = if count == 0 { a } else { S::apply(a, count, &mut cpu.state.flags) };

    F::set(cpu, dest, value);
    Ok(())
}

/// `op r/m, r, count`.
fn shift_double<B: Bus, O: Observer, F: Form, S: DoubleShift, C: Count, W: Width>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec {
    let dest = F::locate::<B, O, W>(cpu, op, Intent::ReadWrite)?;

    let a: W = F::get(cpu, dest);
    let b = W::get_reg(&cpu.state.regs, op.reg);
    let count = C::get(cpu, op);
    let value = if count == 0 { a } else { S::apply(a, b, count, &mut cpu.state.flags) };

    F::set(cpu, dest, value);
    Ok(())
}

/// Bit `n` of the value.
#[inline(always)]
fn bit(value: u64, n: u32) -> bool {
    value >> n & 1 != 0
}

/// The top bit of the result, and the one below it.
#[inline(always)]
fn top<W: Width>(value: W) -> (bool, bool) {
    (bit(value.to_u64(), W::BITS - 1), bit(value.to_u64(), W::BITS - 2))
}

/// Flags of a shift: AF set, the result's SF, ZF and PF, and these two.
#[inline(always)]
fn set_shifted<W: Width>(flags: &mut Flags, value: W, cf: bool, of: bool) {
    let carry = (cf as u32) << (W::BITS - 1) | ((cf ^ of) as u32) << (W::BITS - 2) | 8;
    flags.set_result(value, W::from_u32(carry));
}

struct Shl;
impl Shift for Shl {
    #[inline(always)]
    fn apply<W: Width>(a: W, count: u32, flags: &mut Flags) -> W {
        let wide = a.to_u64() << count;
        let value = W::from_u64(wide);
        let cf = bit(wide, W::BITS);
        set_shifted(flags, value, cf, cf ^ top(value).0);
        value
    }
}

struct Shr;
impl Shift for Shr {
    #[inline(always)]
    fn apply<W: Width>(a: W, count: u32, flags: &mut Flags) -> W {
        let value = W::from_u64(a.to_u64() >> count);
        // of a shift by 1, the second bit was the top one
        let (first, second) = top(value);
        set_shifted(flags, value, bit(a.to_u64(), count - 1), first ^ second);
        value
    }
}

struct Sar;
impl Shift for Sar {
    #[inline(always)]
    fn apply<W: Width>(a: W, count: u32, flags: &mut Flags) -> W {
        let wide = a.sign_extend() as i32;
        let value = W::from_u32((wide >> count) as u32);
        set_shifted(flags, value, wide >> (count - 1) & 1 != 0, false);
        value
    }
}

struct Rol;
impl Shift for Rol {
    #[inline(always)]
    fn apply<W: Width>(a: W, count: u32, flags: &mut Flags) -> W {
        let value = rotate_left(a.to_u64(), W::BITS, count % W::BITS);
        let (cf, value) = (bit(value, 0), W::from_u64(value));
        flags.set_cf_of(cf, cf ^ top(value).0);
        value
    }
}

struct Ror;
impl Shift for Ror {
    #[inline(always)]
    fn apply<W: Width>(a: W, count: u32, flags: &mut Flags) -> W {
        let value = W::from_u64(rotate_left(a.to_u64(), W::BITS, (W::BITS - count % W::BITS) % W::BITS));
        let (first, second) = top(value);
        flags.set_cf_of(first, first ^ second);
        value
    }
}

struct Rcl;
impl Shift for Rcl {
    #[inline(always)]
    fn apply<W: Width>(a: W, count: u32, flags: &mut Flags) -> W {
        // the carry is the bit above the operand
        let ring = (flags.cf() as u64) << W::BITS | a.to_u64();
        let ring = rotate_left(ring, W::BITS + 1, count % (W::BITS + 1));
        let (cf, value) = (bit(ring, W::BITS), W::from_u64(ring));
        flags.set_cf_of(cf, cf ^ top(value).0);
        value
    }
}

struct Rcr;
impl Shift for Rcr {
    #[inline(always)]
    fn apply<W: Width>(a: W, count: u32, flags: &mut Flags) -> W {
        let size = W::BITS + 1;
        let ring = (flags.cf() as u64) << W::BITS | a.to_u64();
        let ring = rotate_left(ring, size, (size - count % size) % size);
        let value = W::from_u64(ring);
        let (first, second) = top(value);
        flags.set_cf_of(bit(ring, W::BITS), first ^ second);
        value
    }
}

/// Rotates the low `size` bits (at most 33) of `value`, which has no others, by less than `size`.
#[inline(always)]
fn rotate_left(value: u64, size: u32, count: u32) -> u64 {
    (value << count | value >> (size - count)) & ((1 << size) - 1)
}

struct Shld;
impl DoubleShift for Shld {
    #[inline(always)]
    fn apply<W: Width>(a: W, b: W, count: u32, flags: &mut Flags) -> W {
        // Choice: beyond 16 a word operand goes on taking in the second operand, again from its top (Hardware: AMD)
        let again = if W::BITS == 16 { (b.to_u64() << 16 | b.to_u64()) << count >> 32 } else { 0 };
        let wide = a.to_u64() << count;
        let value = if W::BITS == 16 && count > 16 {
            W::from_u64(again)
        } else {
            W::from_u64(wide | b.to_u64() >> (W::BITS - count))
        };
        let cf = bit(wide, W::BITS);
        set_shifted(flags, value, cf, cf ^ bit(wide, W::BITS - 1));
        value
    }
}

struct Shrd;
impl DoubleShift for Shrd {
    #[inline(always)]
    fn apply<W: Width>(a: W, b: W, count: u32, flags: &mut Flags) -> W {
        let above = if W::BITS == 16 { b.to_u64() << 16 | b.to_u64() } else { b.to_u64() };
        let value = W::from_u64((above << W::BITS | a.to_u64()) >> count);
        let (first, second) = top(value);
        set_shifted(flags, value, bit(a.to_u64(), count - 1), first ^ second);
        value
    }
}

/// A 32-bit shift without flags.
trait Flagless {
    /// Whether the count is an immediate, not the VEX.vvvv register.
    const IMMEDIATE: bool = false;
    fn apply(a: u32, count: u32) -> u32;
}

struct Rorx;
impl Flagless for Rorx {
    const IMMEDIATE: bool = true;
    fn apply(a: u32, count: u32) -> u32 {
        a.rotate_right(count)
    }
}

struct Sarx;
impl Flagless for Sarx {
    fn apply(a: u32, count: u32) -> u32 {
        (a as i32 >> count) as u32
    }
}

struct Shlx;
impl Flagless for Shlx {
    fn apply(a: u32, count: u32) -> u32 {
        a << count
    }
}

struct Shrx;
impl Flagless for Shrx {
    fn apply(a: u32, count: u32) -> u32 {
        a >> count
    }
}

/// RORX, SARX, SHLX, SHRX: `r := r/m op count`. No such opcodes outside protected mode (SDM 2A "Exception Type 13").
fn shift_flagless<B: Bus, O: Observer, F: Form, S: Flagless>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    cpu.ensure(cpu.is_protected(), Fault::InvalidOpcode)?;
    let source = F::locate::<B, O, u32>(cpu, op, Intent::Read)?;

    let count = if S::IMMEDIATE { op.imm } else { cpu.regs.dword(op.reg2) };
    let a = F::get(cpu, source);

    cpu.regs.set_dword(op.reg, S::apply(a, count & 31));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{AF, ARITHMETIC, CF, OF, PF, SF, ZF};

    /// One step of the manual's loops for a byte: (value, carry) to (value, carry).
    type Step = fn(u8, bool) -> (u8, bool);

    fn check<S: Shift>(name: &str, step: Step, rotate: bool) {
        for a in 0..=255u8 {
            for count in 1..32 {
                for cf in [false, true] {
                    let mut flags = Flags::default();
                    flags.set_arithmetic(if cf { CF | ZF | PF } else { SF });
                    let before = flags.get();
                    let value = S::apply(a, count, &mut flags);

                    let (mut expected, mut carry) = (a, cf);
                    for _ in 0..count {
                        (expected, carry) = step(expected, carry);
                    }
                    assert_eq!((value, flags.cf()), (expected, carry), "{name} {a:#x}, {count}, CF {cf}");
                    let kept = if rotate { PF | AF | ZF | SF } else { 0 };
                    assert_eq!(flags.get() & kept, before & kept);
                    if !rotate {
                        let szp = SF | ZF | PF;
                        let mut of_result = Flags::default();
                        of_result.set_logic(expected);
                        assert_eq!(flags.get() & szp, of_result.get() & szp, "{name} {a:#x}, {count}");
                    }
                    if count == 1 {
                        // the sign changed, for every one of them
                        assert_eq!(flags.of(), (a ^ expected) & 0x80 != 0, "{name} {a:#x}, 1");
                    }
                }
            }
        }
    }

    #[test]
    fn every_byte_shifted_by_every_count_follows_the_loops_of_the_manual() {
        check::<Shl>("SHL", |a, _| (a << 1, a >> 7 != 0), false);
        check::<Shr>("SHR", |a, _| (a >> 1, a & 1 != 0), false);
        check::<Sar>("SAR", |a, _| ((a as i8 >> 1) as u8, a & 1 != 0), false);
        check::<Rol>("ROL", |a, _| (a.rotate_left(1), a >> 7 != 0), true);
        check::<Ror>("ROR", |a, _| (a.rotate_right(1), a & 1 != 0), true);
        check::<Rcl>("RCL", |a, c| (a << 1 | c as u8, a >> 7 != 0), true);
        check::<Rcr>("RCR", |a, c| (a >> 1 | (c as u8) << 7, a & 1 != 0), true);
    }

    #[test]
    fn double_shifts_take_bits_in_from_the_second_operand() {
        let mut flags = Flags::default();
        assert_eq!(Shld::apply(0x8000_0001u32, 0xf000_0000, 4, &mut flags), 0x0000_001f);
        assert_eq!(flags.get() & (CF | ZF | SF), 0);
        assert_eq!(Shld::apply(0x8000_0001u32, 0, 1, &mut flags), 2);
        assert_eq!(flags.get() & ARITHMETIC & !AF, CF | OF);
        assert_eq!(Shrd::apply(0x0000_0003u32, 0x0000_0001, 1, &mut flags), 0x8000_0001);
        assert_eq!(flags.get() & (CF | SF | OF), CF | SF | OF);
        assert_eq!(Shld::apply(0x1234u16, 0xabcd, 16, &mut flags), 0xabcd);
        assert_eq!(Shrd::apply(0x1234u16, 0xabcd, 16, &mut flags), 0xabcd);
    }
}
