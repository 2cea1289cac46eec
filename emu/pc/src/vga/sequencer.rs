//! The sequencer, ports 3C4h and 3C5h: character clock, which maps are written, where the fonts are.

use super::{DATA, INDEX};
use serde::{Deserialize, Serialize};

/// Clocking mode.
pub const CLOCKING: usize = 1;
/// Map mask.
pub const MAP_MASK: usize = 2;
/// Character map select.
pub const CHARACTER_MAP: usize = 3;
/// Memory mode.
pub const MEMORY_MODE: usize = 4;

/// Clocking mode: characters are 8 dots wide, not 9.
pub const EIGHT_DOTS: u8 = 1 << 0;
/// Clocking mode: the dot clock is halved.
pub const HALF_CLOCK: u8 = 1 << 3;
/// Clocking mode: the screen is off.
pub const SCREEN_OFF: u8 = 1 << 5;
/// Memory mode: addresses go to the maps in sequence; else even ones to maps 0 and 2, odd ones to 1 and 3.
pub const SEQUENTIAL: u8 = 1 << 2;
/// Memory mode: the two lowest address bits select the map.
pub const CHAIN_4: u8 = 1 << 3;

/// The bits of each register that exist.
const BITS: [u8; 5] = [0x03, 0x3d, 0x0f, 0x3f, 0x0e];

/// The registers of the sequencer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Sequencer {
    index: u8,
    registers: [u8; 5],
}

impl Sequencer {
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

    /// Where in map 2 the two fonts are: the one for characters whose attribute has bit 3 clear, and the other (A).
    pub fn fonts(&self) -> [u16; 2] {
        let select = self.registers[CHARACTER_MAP];
        let place = |low: u8, high: u8| u16::from(low & 3) << 14 | u16::from(high & 1) << 13;
        [place(select, select >> 4), place(select >> 2, select >> 5)]
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
            INDEX => self.index = value & 0x07,
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
        let mut sequencer = Sequencer::default();
        for (index, bits) in [0x03, 0x3d, 0x0f, 0x3f, 0x0e, 0, 0, 0].into_iter().enumerate() {
            sequencer.write8(INDEX, index as u8 | 0xf8);
            sequencer.write8(DATA, 0xff);
            assert_eq!((sequencer.read8(INDEX), sequencer.read8(DATA)), (index as u8, bits));
        }
    }

    #[test]
    fn the_fonts_are_where_the_character_map_select_register_says() {
        // bits 4, 1, 0: map B, bits 5, 3, 2: map A; tables 0 to 7 are at 0, 16, 32, 48, 8, 24, 40 and 56 KiB
        let kib = [0u16, 16, 32, 48, 8, 24, 40, 56];
        for table in 0..8u8 {
            let mut sequencer = Sequencer::default();
            sequencer.set_register(CHARACTER_MAP, table & 3 | (table & 4) << 2);
            assert_eq!(sequencer.fonts(), [kib[usize::from(table)] << 10, 0]);
            sequencer.set_register(CHARACTER_MAP, (table & 3) << 2 | (table & 4) << 3);
            assert_eq!(sequencer.fonts(), [0, kib[usize::from(table)] << 10]);
        }
    }
}
