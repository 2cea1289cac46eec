//! The register stack, and how its instructions begin and end (SDM 1 "x87 FPU Data Registers", "x87 FPU Floating-Point
//! Exception Handling").

use crate::bus::Bus;
use crate::cpu::{Cpu, Fpu};
use crate::execute::x87::{EMPTY, require_available, require_no_exception, tag_of};
use crate::fault::Exec;
use crate::float::exception::{DE, IE, OE, PE, UE, ZE};
use crate::float::{Exact, Format, Rounding, round};
use crate::observe::Observer;
use crate::op::Op;
use crate::segment::CS;

/// An 80-bit register's contents.
pub type Real = u128;

/// The sign bit.
pub const SIGN: Real = 1 << 79;
/// The first bit of a NaN's fraction: quiet.
pub const QUIET: Real = 1 << 62;
/// The QNaN that stands for "no answer".
pub const INDEFINITE: Real = 0xffff_c000_0000_0000_0000;

/// Stack fault, with IE.
pub const SF: u16 = 1 << 6;
/// Condition code C0.
pub const C0: u16 = 1 << 8;
/// C1: overflow of the register stack, or rounded up.
pub const C1: u16 = 1 << 9;
/// C2.
pub const C2: u16 = 1 << 10;
/// C3.
pub const C3: u16 = 1 << 14;
/// Exceptions found before anything is computed: unmasked, they leave the operands alone.
const BEFORE: u16 = IE | DE | ZE;
/// What an unmasked overflow or underflow adds to the exponent so that it fits again.
const WRAP: i32 = 0x6000;

/// What an operation comes to: a value for its destination, and exceptions with C1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The value, if the exceptions allow it to be stored.
    pub value: Real,
    /// Exception flags, SF and C1.
    pub exceptions: u16,
}

impl Answer {
    /// A value as it is.
    pub fn exactly(value: Real) -> Answer {
        Answer { value, exceptions: 0 }
    }

    /// Invalid operation.
    pub const INVALID: Answer = Answer { value: INDEFINITE, exceptions: IE };
    /// Stack underflow.
    pub const UNDERFLOW: Answer = Answer { value: INDEFINITE, exceptions: IE | SF };

    /// With more exceptions.
    pub fn and(self, exceptions: u16) -> Answer {
        Answer { exceptions: self.exceptions | exceptions, ..self }
    }
}

impl Fpu {
    pub(super) fn top(&self) -> usize {
        (self.status >> 11 & 7) as usize
    }

    fn physical(&self, st: u8) -> usize {
        (self.top() + st as usize) & 7
    }

    /// ST(i), unless it is empty.
    pub(super) fn st(&self, st: u8) -> Option<Real> {
        let n = self.physical(st);
        (self.tag >> (n * 2) & 3 != EMPTY).then(|| self.raw(st))
    }

    /// What stands in the register of ST(i), empty or not.
    pub(super) fn raw(&self, st: u8) -> Real {
        let mut bytes = [0; 16];
        bytes[..10].copy_from_slice(&self.registers[self.physical(st)]);
        Real::from_le_bytes(bytes)
    }

    pub(super) fn set_st(&mut self, st: u8, value: Real) {
        let n = self.physical(st);
        self.registers[n].copy_from_slice(&value.to_le_bytes()[..10]);
        self.tag = self.tag & !(3 << (n * 2)) | tag_of(&self.registers[n]) << (n * 2);
    }

    /// Empties ST(i).
    pub(super) fn free(&mut self, st: u8) {
        let n = self.physical(st);
        self.tag |= EMPTY << (n * 2);
    }

    pub(super) fn move_top(&mut self, by: u16) {
        self.status = self.status & !0x3800 | self.status.wrapping_add(by << 11) & 0x3800;
    }

    pub(super) fn pop(&mut self) {
        self.free(0);
        self.move_top(1);
    }

    /// Raises exceptions, after clearing C1. Whether the operation goes on to its (masked) result.
    pub(super) fn raise(&mut self, exceptions: u16) -> bool {
        self.status = self.status & !C1 | exceptions;
        exceptions & BEFORE & !self.control == 0
    }

    /// Pushes a value, raising its exceptions first.
    pub(super) fn push(&mut self, answer: Answer) {
        let full = self.st(7).is_some();
        self.push_over(if full { Answer::UNDERFLOW.and(C1) } else { answer });
    }

    /// Pushes a value whatever stands in its place.
    pub(super) fn push_over(&mut self, answer: Answer) {
        // Hardware: a load of a denormal goes on even if DE is unmasked
        if self.raise(answer.exceptions) || answer.exceptions == DE {
            self.move_top(7);
            self.set_st(0, answer.value);
        }
    }

    /// Puts an answer into ST(i); whether it was put there, and what follows may follow.
    pub(super) fn answer(&mut self, st: u8, answer: Answer) -> bool {
        let goes_on = self.raise(answer.exceptions);
        if goes_on {
            self.set_st(st, answer.value);
        }
        goes_on
    }

    /// Whether all of these exceptions are masked.
    pub(super) fn masks(&self, exceptions: u16) -> bool {
        exceptions & !self.control == 0
    }

    pub(super) fn rounding(&self) -> Rounding {
        Rounding::from_control((self.control >> 10) as u32)
    }

    /// The format that PC asks for. Undocumented: the reserved value counts as 64 bits.
    pub(super) fn precision(&self) -> Format {
        match self.control >> 8 & 3 {
            0 => Format { precision: 24, ..Format::EXTENDED },
            2 => Format { precision: 53, ..Format::EXTENDED },
            _ => Format::EXTENDED,
        }
    }

    /// Rounds a number for a register: to `format`, with the masked or unmasked response to overflow and underflow.
    pub(super) fn rounded(&self, value: Exact, format: Format) -> Answer {
        let rounding = self.rounding();
        let mut rounded = round(value, format, rounding);
        let wrap = if rounded.exceptions & OE != 0 && !self.masks(OE) {
            -WRAP
        } else if rounded.tiny && !self.masks(UE) {
            WRAP
        } else {
            0
        };
        if wrap != 0 {
            let which = if wrap < 0 { OE } else { UE };
            rounded = round(Exact { exponent: value.exponent + wrap, ..value }, format, rounding);
            if rounded.exceptions & UE != 0 && which == UE {
                // Hardware: FSCALE can leave even the wrapped range; then it gives zero, or infinity
                (rounded.significand, rounded.up) = (0, false);
            }
            if rounded.exceptions & OE != 0 && which == OE {
                (rounded.infinite, rounded.up) = (true, true);
            }
            rounded.exceptions = which | rounded.exceptions & PE;
        }
        let up = if rounded.up { C1 } else { 0 };
        Answer { value: rounded.extended(), exceptions: rounded.exceptions | up }
    }
}

/// How every waiting instruction begins: #NM, #MF.
pub fn begin<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>) -> Exec {
    require_available(cpu)?;
    require_no_exception(cpu)
}

/// Notes the instruction for FNSTENV.
pub fn note_instruction<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) {
    let (ip, cs) = (cpu.ip(op), cpu.segs[CS].selector as u32);
    cpu.fpu.pointers[0] = ip;
    cpu.fpu.pointers[1] = cs;
    // Hardware: noted always, as on all processors without the fopcode compatibility mode of the Pentium 4
    cpu.fpu.pointers[2] = op.imm2 as u32;
}

/// Notes its memory operand.
pub fn note_operand<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) {
    let (offset, selector) = (cpu.effective_address(op), cpu.segs[op.segment as usize % 6].selector as u32);
    cpu.fpu.pointers[3] = offset;
    cpu.fpu.pointers[4] = selector;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execute::system::testing::{TestCpu, cpu_of, run};
    use crate::flags;
    use crate::model::MAX;
    use crate::regs::EAX;
    use crate::width::Cell;

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
        assert_eq!(cpu.fpu.status & 0x3f, crate::float::exception::ZE);
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
