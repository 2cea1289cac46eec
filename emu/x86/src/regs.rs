//! The general registers.

use serde::{Deserialize, Serialize};

/// EAX.
pub const EAX: u8 = 0;
/// ECX.
pub const ECX: u8 = 1;
/// EDX.
pub const EDX: u8 = 2;
/// EBX.
pub const EBX: u8 = 3;
/// ESP.
pub const ESP: u8 = 4;
/// EBP.
pub const EBP: u8 = 5;
/// ESI.
pub const ESI: u8 = 6;
/// EDI.
pub const EDI: u8 = 7;
/// The slot that always reads as zero: "no base", "no index".
pub const ZERO: u8 = 8;

/// The eight general registers by their encoding, and behind them slots that stay zero, so that an address is
/// always `base + index * scale + displacement`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Regs([u32; 16]);

impl Regs {
    /// All eight, in the order of their encoding.
    pub fn all(&self) -> [u32; 8] {
        std::array::from_fn(|n| self.0[n])
    }

    /// Whether the slots behind the registers are zero.
    pub(crate) fn check(&self) -> bool {
        self.0[8..] == [0; 8]
    }

    /// A 32-bit register, or zero for [`ZERO`].
    #[inline(always)]
    pub fn dword(&self, n: u8) -> u32 {
        self.0[(n & 15) as usize]
    }

    /// Writes a 32-bit register (0..=7).
    #[inline(always)]
    pub fn set_dword(&mut self, n: u8, value: u32) {
        self.0[(n & 7) as usize] = value;
    }

    /// The low half of a register.
    #[inline(always)]
    pub fn word(&self, n: u8) -> u16 {
        self.dword(n) as u16
    }

    /// Writes the low half.
    #[inline(always)]
    pub fn set_word(&mut self, n: u8, value: u16) {
        let slot = &mut self.0[(n & 7) as usize];
        *slot = *slot & 0xffff_0000 | value as u32;
    }

    /// A byte register: AL, CL, DL, BL, AH, CH, DH, BH.
    #[inline(always)]
    pub fn byte(&self, n: u8) -> u8 {
        (self.0[(n & 3) as usize] >> ((n & 4) << 1)) as u8
    }

    /// Writes a byte register.
    #[inline(always)]
    pub fn set_byte(&mut self, n: u8, value: u8) {
        let shift = (n & 4) << 1;
        let slot = &mut self.0[(n & 3) as usize];
        *slot = *slot & !(0xff << shift) | (value as u32) << shift;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_registers_four_to_seven_are_the_second_bytes() {
        let mut regs = Regs::default();
        regs.set_dword(EBX, 0x1122_3344);
        assert_eq!((regs.byte(3), regs.byte(7)), (0x44, 0x33));
        regs.set_byte(7, 0xaa);
        assert_eq!(regs.dword(EBX), 0x1122_aa44);
        assert_eq!(regs.dword(ZERO), 0);
    }
}
