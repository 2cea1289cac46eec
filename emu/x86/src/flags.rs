//! EFLAGS, with the six arithmetic flags kept as the operands they follow from.
//!
//! An arithmetic instruction stores its result and its *carry vector* (bit i: the carry, or borrow, out of bit i), and
//! a flag is worked out only when somebody asks:
//!
//! - ZF: `zero == 0`
//! - SF: bit 31 of `sign_parity`; PF: even parity of its low byte
//! - CF: bit 31 of `carry`; OF: bit 31 xor bit 30 of it; AF: bit 3

use crate::width::Width;
use serde::{Deserialize, Serialize};

/// Carry.
pub const CF: u32 = 1 << 0;
/// Reads as one.
pub const ALWAYS: u32 = 1 << 1;
/// Parity of the low byte.
pub const PF: u32 = 1 << 2;
/// Carry out of bit 3.
pub const AF: u32 = 1 << 4;
/// Zero.
pub const ZF: u32 = 1 << 6;
/// Sign.
pub const SF: u32 = 1 << 7;
/// Trap (single step).
pub const TF: u32 = 1 << 8;
/// Interrupt enable.
pub const IF: u32 = 1 << 9;
/// Direction.
pub const DF: u32 = 1 << 10;
/// Overflow.
pub const OF: u32 = 1 << 11;
/// I/O privilege level, two bits.
pub const IOPL: u32 = 3 << 12;
/// Nested task.
pub const NT: u32 = 1 << 14;
/// Resume.
pub const RF: u32 = 1 << 16;
/// Virtual-8086 mode.
pub const VM: u32 = 1 << 17;
/// Alignment check, and access control for SMAP.
pub const AC: u32 = 1 << 18;
/// Virtual interrupt flag.
pub const VIF: u32 = 1 << 19;
/// Virtual interrupt pending.
pub const VIP: u32 = 1 << 20;
/// CPUID can be used.
pub const ID: u32 = 1 << 21;
/// The six arithmetic flags.
pub const ARITHMETIC: u32 = CF | PF | AF | ZF | SF | OF;

/// EFLAGS.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Flags {
    zero: u32,
    sign_parity: u32,
    carry: u32,
    /// Everything but the arithmetic flags.
    system: u32,
}

impl PartialEq for Flags {
    fn eq(&self, other: &Flags) -> bool {
        self.get() == other.get()
    }
}
impl Eq for Flags {}

impl std::fmt::Debug for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#010x}", self.get())
    }
}

/// A condition of Jcc, SETcc and CMOVcc, by its encoding (the low four bits of the opcode).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Condition(pub u8);

impl Flags {
    /// EFLAGS as the guest reads it.
    pub fn get(&self) -> u32 {
        self.system
            | ALWAYS
            | self.cf() as u32
            | (self.pf() as u32) << 2
            | (self.af() as u32) << 4
            | (self.zf() as u32) << 6
            | (self.sf() as u32) << 7
            | (self.of() as u32) << 11
    }

    /// Whether all flags that are set are among `known` and the arithmetic ones.
    pub(crate) fn check(&self, known: u32) -> bool {
        self.system & !(known & !ARITHMETIC) == 0
    }

    /// Replaces the flags of `mask` by those of `value`.
    pub fn set(&mut self, value: u32, mask: u32) {
        if mask & ARITHMETIC != 0 {
            let new = self.get() & !mask | value & mask;
            self.set_arithmetic(new);
        }
        let mask = mask & !ARITHMETIC & !ALWAYS;
        self.system = self.system & !mask | value & mask;
    }

    /// Sets the six arithmetic flags from their places in `value`.
    pub fn set_arithmetic(&mut self, value: u32) {
        self.zero = !value & ZF;
        self.sign_parity = (value & SF) << 24 | (value & PF == 0) as u32;
        let (cf, of) = (value & CF, value >> 11 & 1);
        self.carry = cf << 31 | (cf ^ of) << 30 | (value & AF) >> 1;
    }

    /// Flags of an operation with this result and carry vector (bit i: carry or borrow out of bit i).
    #[inline(always)]
    pub fn set_result<W: Width>(&mut self, result: W, carry: W) {
        self.zero = result.to_u32();
        self.sign_parity = result.sign_extend();
        let carry = carry.to_u32();
        self.carry = if W::BITS == 32 { carry } else { carry << (32 - W::BITS) & 0xc000_0000 | carry & 8 };
    }

    /// Flags of `a - b`, as CMP sets them (CMPS, SCAS and CMPXCHG too).
    #[inline(always)]
    pub fn set_compare<W: Width>(&mut self, a: W, b: W) {
        let (a, b) = (a.to_u32(), b.to_u32());
        let result = a.wrapping_sub(b);
        let borrow = !a & b | !(a ^ b) & result;
        self.set_result(W::from_u32(result), W::from_u32(borrow));
    }

    /// Flags of a logical operation: CF and OF cleared; AF, which the manual leaves undefined, cleared.
    #[inline(always)]
    pub fn set_logic<W: Width>(&mut self, result: W) {
        self.zero = result.to_u32();
        self.sign_parity = result.sign_extend();
        self.carry = 0;
    }

    /// Like [`Flags::set_result`], but CF keeps its value (INC, DEC).
    #[inline(always)]
    pub fn set_result_keeping_cf<W: Width>(&mut self, result: W, carry: W) {
        let cf = self.carry & 1 << 31;
        self.set_result(result, carry);
        let of = self.carry << 1 ^ self.carry;
        self.carry = cf | ((cf ^ of) >> 1) & 1 << 30 | self.carry & 8;
    }

    /// Sets CF and OF, leaving the others.
    #[inline(always)]
    pub fn set_cf_of(&mut self, cf: bool, of: bool) {
        self.carry = (cf as u32) << 31 | ((cf ^ of) as u32) << 30 | self.carry & 8;
    }

    /// Sets CF, leaving the others.
    #[inline(always)]
    pub fn set_cf(&mut self, cf: bool) {
        let of = self.of();
        self.set_cf_of(cf, of);
    }

    /// Sets ZF, leaving the others.
    #[inline(always)]
    pub fn set_zf(&mut self, zf: bool) {
        self.zero = !zf as u32;
    }

    /// Carry.
    #[inline(always)]
    pub fn cf(&self) -> bool {
        self.carry >> 31 != 0
    }
    /// Parity.
    #[inline(always)]
    pub fn pf(&self) -> bool {
        (self.sign_parity as u8).count_ones() & 1 == 0
    }
    /// Auxiliary carry.
    #[inline(always)]
    pub fn af(&self) -> bool {
        self.carry & 8 != 0
    }
    /// Zero.
    #[inline(always)]
    pub fn zf(&self) -> bool {
        self.zero == 0
    }
    /// Sign.
    #[inline(always)]
    pub fn sf(&self) -> bool {
        self.sign_parity >> 31 != 0
    }
    /// Overflow.
    #[inline(always)]
    pub fn of(&self) -> bool {
        (self.carry ^ self.carry << 1) >> 31 != 0
    }
    /// Trap.
    #[inline(always)]
    pub fn tf(&self) -> bool {
        self.system & TF != 0
    }
    /// Interrupt enable.
    #[inline(always)]
    pub fn interrupts(&self) -> bool {
        self.system & IF != 0
    }
    /// Direction: whether string instructions go down.
    #[inline(always)]
    pub fn df(&self) -> bool {
        self.system & DF != 0
    }
    /// I/O privilege level.
    #[inline(always)]
    pub fn iopl(&self) -> u8 {
        (self.system >> 12 & 3) as u8
    }
    /// Virtual-8086 mode.
    #[inline(always)]
    pub fn vm(&self) -> bool {
        self.system & VM != 0
    }
    /// Whether any of `mask`, system flags only, is set.
    #[inline(always)]
    pub fn system(&self, mask: u32) -> bool {
        self.system & mask != 0
    }

    /// Whether the condition holds (SDM 1 "Conditional Branch Instructions": EFLAGS condition codes).
    #[inline(always)]
    pub fn holds(&self, condition: Condition) -> bool {
        let base = match condition.0 >> 1 & 7 {
            0 => self.of(),
            1 => self.cf(),
            2 => self.zf(),
            3 => self.cf() | self.zf(),
            4 => self.sf(),
            5 => self.pf(),
            6 => self.sf() != self.of(),
            _ => self.zf() | (self.sf() != self.of()),
        };
        base != (condition.0 & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_sets_the_flags_of_a_subtraction() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                let mut flags = Flags::default();
                flags.set_compare(a, b);
                let (result, cf) = a.overflowing_sub(b);
                assert_eq!((flags.cf(), flags.zf(), flags.sf()), (cf, result == 0, result >= 0x80));
                assert_eq!(flags.of(), (a as i8).checked_sub(b as i8).is_none());
                assert_eq!((flags.af(), flags.pf()), (a & 15 < b & 15, result.count_ones() % 2 == 0));
            }
        }
    }

    #[test]
    fn every_combination_of_the_arithmetic_flags_can_be_set_and_read() {
        for bits in 0..64u32 {
            let value = (bits & 1)
                | (bits >> 1 & 1) << 2
                | (bits >> 2 & 1) << 4
                | (bits >> 3 & 3) << 6
                | (bits >> 5) << 11;
            let mut flags = Flags::default();
            flags.set(value | DF, ARITHMETIC | DF);
            assert_eq!(flags.get(), value | DF | ALWAYS, "{value:#x}");
            flags.set_cf(true);
            assert_eq!(flags.get(), value | DF | ALWAYS | CF);
            flags.set_zf(false);
            assert_eq!(flags.get(), (value | DF | ALWAYS | CF) & !ZF);
        }
    }
}
