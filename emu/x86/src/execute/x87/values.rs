//! x87 values, as far as kernels need them to find out which unit they have: constants, loads and stores of real
//! numbers, exchange, sign, comparison into EFLAGS, and division at full precision. Exact, by rustc_apfloat
//! (SDM 1 "x87 FPU Instruction Set", "x87 FPU Floating-Point Exception Conditions").

use iced_x86::Code;
use rustc_apfloat::ieee::{Double, Single, X87DoubleExtended};
use rustc_apfloat::{Float, FloatConvert, Round, Status, StatusAnd};

use crate::bus::Bus;
use crate::cpu::{Cpu, Fpu};
use crate::execute::x87::{EMPTY, require_available, require_no_exception, tag_of};
use crate::execute::{Shape, unimplemented};
use crate::fault::Exec;
use crate::flags;
use crate::mmu::{Intent, Place};
use crate::observe::Observer;
use crate::op::{Handler, Op};
use crate::segment::CS;
use crate::width::Cell;

/// The bodies.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code {
        Code::Fld1 => fld_constant::<B, O, 0x3fff_8000_0000_0000_0000>,
        Code::Fldz => fld_constant::<B, O, 0>,
        Code::Fld_sti => fld_sti,
        Code::Fld_m32fp => fld_memory::<B, O, u32>,
        Code::Fld_m64fp => fld_memory::<B, O, u64>,
        Code::Fst_m32fp => fst_memory::<B, O, u32, false>,
        Code::Fst_m64fp => fst_memory::<B, O, u64, false>,
        Code::Fstp_m32fp => fst_memory::<B, O, u32, true>,
        Code::Fstp_m64fp => fst_memory::<B, O, u64, true>,
        Code::Fst_sti => fst_sti::<B, O, false>,
        Code::Fstp_sti => fst_sti::<B, O, true>,
        Code::Fxch_st0_sti => fxch,
        Code::Fchs => change_sign::<B, O, true>,
        Code::Fabs => change_sign::<B, O, false>,
        Code::Fcomi_st0_sti => compare::<B, O, false, false>,
        Code::Fcomip_st0_sti => compare::<B, O, false, true>,
        Code::Fucomi_st0_sti => compare::<B, O, true, false>,
        Code::Fucomip_st0_sti => compare::<B, O, true, true>,
        Code::Fdivp_sti_st0 => divide_pop::<B, O, false>,
        Code::Fdivrp_sti_st0 => divide_pop::<B, O, true>,
        _ => return None,
    })
}

/// An 80-bit register's contents.
type Real = u128;

const SIGN: Real = 1 << 79;
const INTEGER: Real = 1 << 63;
const QUIET: Real = 1 << 62;
/// The QNaN that stands for "no answer".
const INDEFINITE: Real = 0xffff_c000_0000_0000_0000;

// exception flags, as in the status word
const IE: u16 = 1 << 0;
const DE: u16 = 1 << 1;
const ZE: u16 = 1 << 2;
const OE: u16 = 1 << 3;
const UE: u16 = 1 << 4;
const PE: u16 = 1 << 5;
/// Stack fault, with IE.
const SF: u16 = 1 << 6;
/// Overflow of the register stack, or rounded up.
const C1: u16 = 1 << 9;
/// Exceptions found before anything is computed: unmasked, they leave the operands alone.
const BEFORE: u16 = IE | DE | ZE;

fn exponent(value: Real) -> u32 {
    (value >> 64) as u32 & 0x7fff
}

/// Encodings that the unit does not support: any with the integer bit clear and an exponent that is not zero.
fn is_unsupported(value: Real) -> bool {
    exponent(value) != 0 && value & INTEGER == 0
}

fn is_nan(value: Real) -> bool {
    exponent(value) == 0x7fff && value & INTEGER != 0 && value as u64 & !(INTEGER as u64) != 0
}

fn is_signalling(value: Real) -> bool {
    is_nan(value) && value & QUIET == 0
}

fn is_denormal(value: Real) -> bool {
    exponent(value) == 0 && value as u64 != 0
}

/// As rustc_apfloat has it; a pseudo-denormal becomes the normal number that it is.
fn to_float(value: Real) -> X87DoubleExtended {
    let pseudo = exponent(value) == 0 && value & INTEGER != 0;
    X87DoubleExtended::from_bits(if pseudo { value | 1 << 64 } else { value })
}

fn flags_of(status: Status) -> u16 {
    let pairs = [
        (Status::INVALID_OP, IE),
        (Status::DIV_BY_ZERO, ZE),
        (Status::OVERFLOW, OE),
        (Status::UNDERFLOW, UE),
        (Status::INEXACT, PE),
    ];
    pairs.iter().filter(|(s, _)| status.contains(*s)).fold(0, |flags, (_, flag)| flags | flag)
}

impl Fpu {
    fn physical(&self, st: u8) -> usize {
        (self.top() + st as usize) & 7
    }

    /// ST(i), unless it is empty.
    fn st(&self, st: u8) -> Option<Real> {
        let n = self.physical(st);
        if self.tag >> (n * 2) & 3 == EMPTY {
            return None;
        }
        let mut bytes = [0; 16];
        bytes[..10].copy_from_slice(&self.registers[n]);
        Some(Real::from_le_bytes(bytes))
    }

    fn set_st(&mut self, st: u8, value: Real) {
        let n = self.physical(st);
        self.registers[n].copy_from_slice(&value.to_le_bytes()[..10]);
        self.tag = self.tag & !(3 << (n * 2)) | tag_of(&self.registers[n]) << (n * 2);
    }

    fn move_top(&mut self, by: u16) {
        self.status = self.status & !0x3800 | self.status.wrapping_add(by << 11) & 0x3800;
    }

    fn pop(&mut self) {
        let n = self.physical(0);
        self.tag |= EMPTY << (n * 2);
        self.move_top(1);
    }

    /// Raises exceptions. Whether the operation goes on to its (masked) result.
    fn raise(&mut self, exceptions: u16) -> bool {
        self.status |= exceptions;
        exceptions & BEFORE & !self.control == 0
    }

    /// Pushes `value`, raising `exceptions` first.
    fn push(&mut self, value: Real, exceptions: u16) {
        self.status &= !C1;
        if self.st(7).is_some() {
            if self.raise(IE | SF | C1) {
                self.move_top(7);
                self.set_st(0, INDEFINITE);
            }
        } else if self.raise(exceptions) {
            self.move_top(7);
            self.set_st(0, value);
        }
    }

    /// ST(i) for an operation; empty, it raises stack underflow and the operation's answer is the indefinite.
    fn operand(&mut self, st: u8) -> Result<Real, bool> {
        self.status &= !C1;
        match self.st(st) {
            Some(value) => Ok(value),
            None => Err(self.raise(IE | SF)),
        }
    }

    fn rounding(&self) -> Round {
        match self.control >> 10 & 3 {
            0 => Round::NearestTiesToEven,
            1 => Round::TowardNegative,
            2 => Round::TowardPositive,
            _ => Round::TowardZero,
        }
    }

    /// Whether the result of arithmetic keeps all 64 bits, and no unmasked overflow or underflow would have to be
    /// delivered with a wrapped exponent: the rest is not there yet.
    fn is_plain(&self) -> bool {
        self.control >> 8 & 3 == 3 && self.control & (OE | UE) == OE | UE
    }
}

/// #NM, #MF, and the pointers that FNSTENV stores.
fn begin<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>) -> Exec {
    require_available(cpu)?;
    require_no_exception(cpu)
}

fn note_instruction<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) {
    let (ip, cs) = (cpu.ip(op), cpu.segs[CS].selector as u32);
    cpu.fpu.pointers[0] = ip;
    cpu.fpu.pointers[1] = cs;
}

fn note_operand<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) {
    let (offset, selector) = (cpu.effective_address(op), cpu.segs[op.segment as usize % 6].selector as u32);
    cpu.fpu.pointers[3] = offset;
    cpu.fpu.pointers[4] = selector;
}

/// FLD1, FLDZ.
fn fld_constant<B: Bus, O: Observer, const VALUE: Real>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    cpu.fpu.push(VALUE, 0);
    Ok(())
}

/// FLD ST(i).
fn fld_sti<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    match cpu.fpu.operand(op.reg) {
        Ok(value) => cpu.fpu.push(value, 0),
        Err(true) => cpu.fpu.push(INDEFINITE, 0),
        Err(false) => {}
    }
    Ok(())
}

/// A real number in memory.
trait Stored: Cell {
    /// To 80 bits; exact, but for signalling NaNs and denormals, which raise.
    fn widen(self) -> (Real, u16);
    /// From 80 bits.
    fn narrow(value: Real, round: Round) -> (Self, u16);
}

macro_rules! stored {
    ($t:ty, $float:ty) => {
        impl Stored for $t {
            fn widen(self) -> (Real, u16) {
                let float = <$float>::from_bits(self as u128);
                let mut loses = false;
                let wide: StatusAnd<X87DoubleExtended> = float.convert(&mut loses);
                let denormal = if float.is_denormal() { DE } else { 0 };
                let signalling = if float.is_signaling() { IE } else { 0 };
                let quiet = if signalling != 0 { QUIET } else { 0 };
                (wide.value.to_bits() | quiet, denormal | signalling)
            }
            fn narrow(value: Real, round: Round) -> (Self, u16) {
                let mut loses = false;
                let narrow: StatusAnd<$float> = to_float(value).convert_r(round, &mut loses);
                let quiet = if is_nan(value) { 1 << (<$float>::PRECISION - 2) } else { 0 };
                let mut exceptions = flags_of(narrow.status) & !IE;
                if is_signalling(value) {
                    exceptions = IE;
                } else if is_nan(value) {
                    exceptions = 0;
                }
                let truncated: StatusAnd<$float> = to_float(value).convert_r(Round::TowardZero, &mut loses);
                if exceptions & PE != 0 && truncated.value.to_bits() != narrow.value.to_bits() {
                    exceptions |= C1;
                }
                ((narrow.value.to_bits() | quiet) as $t, exceptions)
            }
        }
    };
}
stored!(u32, Single);
stored!(u64, Double);

/// FLD m32, m64.
fn fld_memory<B: Bus, O: Observer, S: Stored>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;
    let source: Place<S> = {
        let offset = cpu.effective_address(op);
        cpu.translate(op.segment as usize, offset, Intent::Read)?
    };

    let (value, exceptions) = cpu.load(source).widen();
    note_instruction(cpu, op);
    note_operand(cpu, op);
    cpu.fpu.push(value, exceptions);
    Ok(())
}

/// FST, FSTP m32, m64.
fn fst_memory<B: Bus, O: Observer, S: Stored, const POP: bool>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;
    if !cpu.fpu.control & (OE | UE) != 0 {
        return unimplemented(cpu, op);
    }
    let offset = cpu.effective_address(op);
    let dest: Place<S> = cpu.translate(op.segment as usize, offset, Intent::Write)?;

    note_instruction(cpu, op);
    note_operand(cpu, op);
    let round = cpu.fpu.rounding();
    let (value, exceptions) = match cpu.fpu.operand(0) {
        Ok(value) if is_unsupported(value) => (S::narrow(INDEFINITE, round).0, IE),
        Ok(value) => S::narrow(value, round),
        Err(true) => (S::narrow(INDEFINITE, round).0, 0),
        Err(false) => return Ok(()),
    };
    if cpu.fpu.raise(exceptions) {
        cpu.store(dest, value);
        if POP {
            cpu.fpu.pop();
        }
    }
    Ok(())
}

/// FST, FSTP ST(i).
fn fst_sti<B: Bus, O: Observer, const POP: bool>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let value = match cpu.fpu.operand(0) {
        Ok(value) => value,
        Err(true) => INDEFINITE,
        Err(false) => return Ok(()),
    };
    cpu.fpu.set_st(op.reg, value);
    if POP {
        cpu.fpu.pop();
    }
    Ok(())
}

/// FXCH ST(i).
fn fxch<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let fpu = &mut cpu.fpu;
    fpu.status &= !C1;
    let both = (fpu.st(0), fpu.st(op.reg));
    if (both.0.is_none() || both.1.is_none()) && !fpu.raise(IE | SF) {
        return Ok(());
    }
    fpu.set_st(0, both.1.unwrap_or(INDEFINITE));
    fpu.set_st(op.reg, both.0.unwrap_or(INDEFINITE));
    Ok(())
}

/// FCHS (flip) and FABS (clear): of the sign bit alone, whatever the value.
fn change_sign<B: Bus, O: Observer, const FLIP: bool>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    let value = match cpu.fpu.operand(0) {
        Ok(value) if FLIP => value ^ SIGN,
        Ok(value) => value & !SIGN,
        Err(true) => INDEFINITE,
        Err(false) => return Ok(()),
    };
    cpu.fpu.set_st(0, value);
    Ok(())
}

/// FCOMI, FUCOMI and their popping forms: ZF, PF and CF; OF, SF and AF cleared. Quiet NaNs are invalid for FCOMI alone.
fn compare<B: Bus, O: Observer, const QUIET_IS_FINE: bool, const POP: bool>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec {
    begin(cpu)?;

    note_instruction(cpu, op);
    const UNORDERED: u32 = flags::ZF | flags::PF | flags::CF;
    let fpu = &mut cpu.state.fpu;
    fpu.status &= !C1;
    let (exceptions, result) = match (fpu.st(0), fpu.st(op.reg)) {
        (Some(a), Some(b)) => {
            let any = |test: fn(Real) -> bool| test(a) || test(b);
            if any(is_unsupported) || any(is_signalling) || (any(is_nan) && !QUIET_IS_FINE) {
                (IE, UNORDERED)
            } else if any(is_nan) {
                (0, UNORDERED)
            } else {
                let denormal = if any(is_denormal) { DE } else { 0 };
                let result = match to_float(a).partial_cmp(&to_float(b)) {
                    Some(std::cmp::Ordering::Greater) => 0,
                    Some(std::cmp::Ordering::Less) => flags::CF,
                    Some(std::cmp::Ordering::Equal) => flags::ZF,
                    None => UNORDERED,
                };
                (denormal, result)
            }
        }
        _ => (IE | SF, UNORDERED),
    };
    if fpu.raise(exceptions) {
        cpu.state.flags.set_arithmetic(result);
        if POP {
            cpu.state.fpu.pop();
        }
    }
    Ok(())
}

/// Which NaN comes out of two operands, one of them a NaN at least (SDM 1 "Rules for Handling NaNs"): the one with the
/// larger significand, quiet; of equal ones the positive one.
fn surviving_nan(a: Real, b: Real) -> Real {
    let significand = |value: Real| value as u64;
    let chosen = match (is_nan(a), is_nan(b)) {
        (true, false) => a,
        (false, true) => b,
        // a signalling NaN gives way to a quiet one
        _ if is_signalling(a) != is_signalling(b) => {
            if is_signalling(a) {
                b
            } else {
                a
            }
        }
        _ if significand(a) != significand(b) => {
            if significand(a) > significand(b) {
                a
            } else {
                b
            }
        }
        _ => a & b | (a & b & SIGN),
    };
    chosen | QUIET
}

/// `dividend / divisor`, with the exceptions.
fn divide(dividend: Real, divisor: Real, round: Round) -> (Real, u16) {
    if is_unsupported(dividend) || is_unsupported(divisor) {
        return (INDEFINITE, IE);
    }
    if is_nan(dividend) || is_nan(divisor) {
        let invalid = is_signalling(dividend) || is_signalling(divisor);
        return (surviving_nan(dividend, divisor), if invalid { IE } else { 0 });
    }
    let (a, b) = (to_float(dividend), to_float(divisor));
    let result = a.div_r(b, round);
    let mut exceptions = flags_of(result.status);
    if exceptions & IE != 0 {
        return (INDEFINITE, IE);
    }
    if is_denormal(dividend) || is_denormal(divisor) {
        exceptions |= DE;
    }
    if exceptions & PE != 0 && a.div_r(b, Round::TowardZero).value.to_bits() != result.value.to_bits() {
        exceptions |= C1;
    }
    (result.value.to_bits(), exceptions)
}

/// FDIVP, FDIVRP ST(i), ST(0).
fn divide_pop<B: Bus, O: Observer, const REVERSED: bool>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    begin(cpu)?;
    if !cpu.fpu.is_plain() {
        return unimplemented(cpu, op);
    }

    note_instruction(cpu, op);
    let fpu = &mut cpu.state.fpu;
    fpu.status &= !C1;
    let (value, exceptions) = match (fpu.st(op.reg), fpu.st(0)) {
        (Some(dest), Some(top)) if REVERSED => divide(top, dest, fpu.rounding()),
        (Some(dest), Some(top)) => divide(dest, top, fpu.rounding()),
        _ => (INDEFINITE, IE | SF),
    };
    if fpu.raise(exceptions) {
        fpu.set_st(op.reg, value);
        fpu.pop();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execute::system::testing::{TestCpu, cpu_of, run};
    use crate::model::MAX;
    use crate::regs::EAX;

    const FLD1: &[u8] = &[0xd9, 0xe8];
    const FLDZ: &[u8] = &[0xd9, 0xee];
    const FCHS: &[u8] = &[0xd9, 0xe0];
    const FDIVP: &[u8] = &[0xde, 0xf9];

    fn cpu() -> TestCpu {
        let mut cpu = cpu_of(MAX);
        cpu.regs.set_dword(EAX, 0x2000);
        run(&mut cpu, &[0xdb, 0xe3]).unwrap(); // FNINIT
        cpu
    }

    fn put64(cpu: &mut TestCpu, value: f64) {
        cpu.bus.ram_mut().write(0x2000, &value.to_bits().to_le_bytes());
        run(cpu, &[0xdd, 0x00]).unwrap(); // FLD m64
    }

    #[test]
    fn one_over_zero_is_infinity_and_its_negative_compares_as_less() {
        // how a kernel tells an affine unit (387 and later) from a projective one
        let mut cpu = cpu();
        for code in [FLD1, FLDZ, FDIVP] {
            run(&mut cpu, code).unwrap();
        }
        assert_eq!(cpu.fpu.st(0), Some(0x7fff_8000_0000_0000_0000));
        assert_eq!(cpu.fpu.status & 0x3f, ZE);
        run(&mut cpu, &[0xd9, 0xc0]).unwrap(); // FLD ST(0)
        run(&mut cpu, FCHS).unwrap();
        run(&mut cpu, &[0xdf, 0xe9]).unwrap(); // FUCOMIP ST(0), ST(1): -inf against +inf
        assert_eq!(cpu.flags.get() & flags::ARITHMETIC, flags::CF);
        assert_eq!(cpu.fpu.status >> 11 & 7, 7);
    }

    #[test]
    fn one_third_is_rounded_as_ieee_754_says_and_c1_tells_the_way() {
        for (control, bits, up) in [
            (0x37f, 0x3ffd_aaaa_aaaa_aaaa_aaab_u128, true), // nearest
            (0x77f, 0x3ffd_aaaa_aaaa_aaaa_aaaa, false),     // down
            (0xb7f, 0x3ffd_aaaa_aaaa_aaaa_aaab, true),      // up
            (0xf7f, 0x3ffd_aaaa_aaaa_aaaa_aaaa, false),     // towards zero
        ] {
            let mut cpu = cpu();
            cpu.fpu.control = control;
            run(&mut cpu, FLD1).unwrap();
            put64(&mut cpu, 3.0);
            run(&mut cpu, FDIVP).unwrap();
            assert_eq!(cpu.fpu.st(0), Some(bits));
            assert_eq!(cpu.fpu.status & (C1 | PE), if up { C1 | PE } else { PE }, "{control:#x}");
        }
    }

    #[test]
    fn zero_over_zero_is_the_indefinite_and_unmasked_it_leaves_the_stack() {
        let mut cpu = cpu();
        for code in [FLDZ, FLDZ, FDIVP] {
            run(&mut cpu, code).unwrap();
        }
        assert_eq!((cpu.fpu.st(0), cpu.fpu.status & 0x3f), (Some(INDEFINITE), IE));
        cpu = self::cpu();
        cpu.fpu.control = 0x37e;
        for code in [FLDZ, FLDZ, FDIVP] {
            run(&mut cpu, code).unwrap();
        }
        assert_eq!((cpu.fpu.st(0), cpu.fpu.st(1), cpu.fpu.status_word() & 0x80), (Some(0), Some(0), 0x80));
    }

    #[test]
    fn doubles_come_and_go_unchanged_and_signalling_nans_turn_quiet() {
        for value in [0.0, -0.0, 1.5, f64::MAX, f64::MIN_POSITIVE / 8.0, f64::NEG_INFINITY] {
            let mut cpu = cpu();
            put64(&mut cpu, value);
            run(&mut cpu, &[0xdd, 0x58, 0x10]).unwrap(); // FSTP m64 [eax+16]
            let stored = u64::load(cpu.bus.ram(), 0x2010);
            assert_eq!(stored, value.to_bits());
        }
        let mut cpu = cpu();
        put64(&mut cpu, f64::from_bits(0x7ff0_0000_0000_0001));
        assert_eq!((cpu.fpu.st(0), cpu.fpu.status & 0x3f), (Some(0x7fff_c000_0000_0000_0800), IE));
    }

    #[test]
    fn the_register_stack_overflows_and_underflows() {
        let mut cpu = cpu();
        for _ in 0..8 {
            run(&mut cpu, FLD1).unwrap();
        }
        run(&mut cpu, FLDZ).unwrap();
        assert_eq!((cpu.fpu.st(0), cpu.fpu.status & 0x3ff), (Some(INDEFINITE), IE | SF | C1));
        let mut cpu = self::cpu();
        run(&mut cpu, &[0xdd, 0xd8]).unwrap(); // FSTP ST(0) of an empty stack
        assert_eq!(cpu.fpu.status & 0x3ff, IE | SF);
    }
}
