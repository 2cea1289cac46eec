//! Operand widths: one generic body serves bytes, words and doublewords.

use crate::regs::Regs;

/// Something that memory holds at one address: 1, 2, 4 or 8 bytes, little-endian.
pub trait Cell: Copy + Default + PartialEq + Eq + std::fmt::Debug + 'static {
    /// Size in bytes.
    const BYTES: u32;
    /// From the low bits of `value`.
    fn from_u64(value: u64) -> Self;
    /// Zero-extended.
    fn to_u64(self) -> u64;
    /// Reads one from the start of `bytes`.
    fn load(ram: &crate::ram::Ram, offset: usize) -> Self;
    /// Writes one where no code mark is.
    fn store_unmarked(self, ram: &mut crate::ram::Ram, offset: usize);
}

/// An operand of the integer instructions: `u8`, `u16` or `u32`.
pub trait Width: Cell {
    /// Size in bits.
    const BITS: u32;
    /// From the low bits of `value`.
    fn from_u32(value: u32) -> Self;
    /// Zero-extended.
    fn to_u32(self) -> u32;
    /// Sign-extended.
    fn sign_extend(self) -> u32;
    /// Reads register number `n` of this width (for bytes 4..=7 are AH, CH, DH, BH).
    fn get_reg(regs: &Regs, n: u8) -> Self;
    /// Writes it, leaving the rest of the 32-bit register alone.
    fn set_reg(self, regs: &mut Regs, n: u8);
}

macro_rules! cell {
    ($t:ty, $bytes:expr) => {
        impl Cell for $t {
            const BYTES: u32 = $bytes;
            #[inline(always)]
            fn from_u64(value: u64) -> Self {
                value as $t
            }
            #[inline(always)]
            fn to_u64(self) -> u64 {
                self as u64
            }
            #[inline(always)]
            fn load(ram: &crate::ram::Ram, offset: usize) -> Self {
                <$t>::from_le_bytes(ram.read(offset))
            }
            #[inline(always)]
            fn store_unmarked(self, ram: &mut crate::ram::Ram, offset: usize) {
                ram.write_unmarked(offset, self.to_le_bytes());
            }
        }
    };
}
cell!(u8, 1);
cell!(u16, 2);
cell!(u32, 4);
cell!(u64, 8);

macro_rules! width {
    ($t:ty, $signed:ty, $get:ident, $set:ident) => {
        impl Width for $t {
            const BITS: u32 = <$t>::BITS;
            #[inline(always)]
            fn from_u32(value: u32) -> Self {
                value as $t
            }
            #[inline(always)]
            fn to_u32(self) -> u32 {
                self as u32
            }
            #[inline(always)]
            fn sign_extend(self) -> u32 {
                self as $signed as i32 as u32
            }
            #[inline(always)]
            fn get_reg(regs: &Regs, n: u8) -> Self {
                regs.$get(n)
            }
            #[inline(always)]
            fn set_reg(self, regs: &mut Regs, n: u8) {
                regs.$set(n, self);
            }
        }
    };
}
width!(u8, i8, byte, set_byte);
width!(u16, i16, word, set_word);
width!(u32, i32, dword, set_dword);
