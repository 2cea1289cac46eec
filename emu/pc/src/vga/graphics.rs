//! The graphics controller, ports 3CEh and 3CFh: what happens to the bits on their way to and from the memory maps.
//! `memory.rs` has the way itself.

use super::{DATA, INDEX};
use serde::{Deserialize, Serialize};

/// Set/reset.
pub const SET_RESET: usize = 0;
/// Enable set/reset.
pub const ENABLE_SET_RESET: usize = 1;
/// Color compare.
pub const COLOR_COMPARE: usize = 2;
/// Data rotate and function select.
pub const DATA_ROTATE: usize = 3;
/// Read map select.
pub const READ_MAP: usize = 4;
/// Graphics mode.
pub const MODE: usize = 5;
/// Miscellaneous.
pub const MISCELLANEOUS: usize = 6;
/// Color don't care.
pub const COLOR_DONT_CARE: usize = 7;
/// Bit mask.
pub const BIT_MASK: usize = 8;

/// Mode: read mode 1.
pub const READ_COMPARE: u8 = 1 << 3;
/// Mode: reads in odd/even addressing.
pub const ODD_EVEN: u8 = 1 << 4;
/// Mode: pixels of 2 bits, as on a CGA.
pub const SHIFT_CGA: u8 = 1 << 5;
/// Mode: pixels of 8 bits.
pub const SHIFT_256: u8 = 1 << 6;
/// Miscellaneous: graphics, not characters.
pub const GRAPHICS: u8 = 1 << 0;
/// Miscellaneous: address bit 0 is replaced by a higher one.
pub const CHAIN_ODD_EVEN: u8 = 1 << 1;

/// The bits of each register that exist.
const BITS: [u8; 9] = [0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff];

/// The registers of the graphics controller.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Graphics {
    index: u8,
    registers: [u8; 9],
}

impl Graphics {
    /// Whether no bit is set that does not exist.
    pub(super) fn is_sound(&self) -> bool {
        self.registers.iter().zip(BITS).all(|(value, bits)| value & !bits == 0)
    }

    /// A register.
    pub fn register(&self, index: usize) -> u8 {
        self.registers[index]
    }

    /// A register is written.
    pub fn set_register(&mut self, index: usize, value: u8) {
        if let (Some(register), Some(bits)) = (self.registers.get_mut(index), BITS.get(index)) {
            *register = value & bits;
        }
    }

    /// The part of A0000h to BFFFFh where the maps are seen: its first address and its length.
    pub fn window(&self) -> (u64, u64) {
        match self.registers[MISCELLANEOUS] >> 2 & 3 {
            0 => (0xa_0000, 0x2_0000),
            1 => (0xa_0000, 0x1_0000),
            2 => (0xb_0000, 0x8000),
            _ => (0xb_8000, 0x8000),
        }
    }

    pub(super) fn read8(&self, offset: u16) -> u8 {
        match offset {
            INDEX => self.index,
            DATA => self.registers.get(usize::from(self.index)).copied().unwrap_or(0),
            _ => 0xff,
        }
    }

    pub(super) fn write8(&mut self, offset: u16, value: u8) {
        match offset {
            INDEX => self.index = value & 0x0f,
            DATA => self.set_register(self.index.into(), value),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_bits_and_registers_read_as_zero() {
        let mut graphics = Graphics::default();
        let bits = [0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff, 0, 0, 0, 0, 0, 0, 0];
        for (index, bits) in bits.into_iter().enumerate() {
            graphics.write8(INDEX, index as u8 | 0xf0);
            graphics.write8(DATA, 0xff);
            assert_eq!((graphics.read8(INDEX), graphics.read8(DATA)), (index as u8, bits));
        }
    }

    #[test]
    fn memory_map_select_has_four_windows() {
        let windows = [(0xa_0000, 0x2_0000), (0xa_0000, 0x1_0000), (0xb_0000, 0x8000), (0xb_8000, 0x8000)];
        for (select, window) in (0u8..).zip(windows) {
            let mut graphics = Graphics::default();
            graphics.set_register(MISCELLANEOUS, select << 2 | 0x03);
            assert_eq!(graphics.window(), window);
        }
    }
}
