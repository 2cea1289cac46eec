//! The attribute controller, ports 3C0h and 3C1h: from the four bits of a pixel to an entry of the DAC.
//!
//! One port takes index and data in turn; reading input status 1 makes an index the next.

use serde::{Deserialize, Serialize};

/// Palette: 16 registers.
pub const PALETTE: usize = 0;
/// Mode control.
pub const MODE: usize = 0x10;
/// Overscan colour.
pub const OVERSCAN: usize = 0x11;
/// Colour plane enable.
pub const PLANE_ENABLE: usize = 0x12;
/// Horizontal pel panning.
pub const PANNING: usize = 0x13;
/// Colour select.
pub const COLOR_SELECT: usize = 0x14;

/// Mode: the ninth dot of line graphics characters repeats the eighth.
pub const LINE_GRAPHICS: u8 = 1 << 2;
/// Mode: attribute bit 7 blinks; else it is the background's intensity.
pub const BLINK: u8 = 1 << 3;
/// Mode: panning ends at the line compare.
pub const PANNING_ENDS: u8 = 1 << 5;
/// Mode: bits 5 and 4 of the DAC's entry come from the colour select register.
pub const SELECT_54: u8 = 1 << 7;

/// Index: the display uses the palette, and nobody can write to it.
const DISPLAY: u8 = 1 << 5;

/// The bits of each register that exist.
#[rustfmt::skip]
const BITS: [u8; 21] = [
    0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
    0xef, 0xff, 0x3f, 0x0f, 0x0f,
];

/// The registers of the attribute controller.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Attribute {
    index: u8,
    /// Whether the next write is data.
    data_next: bool,
    registers: [u8; 21],
}

impl Attribute {
    /// Whether no bit is set that does not exist.
    pub(super) fn is_sound(&self) -> bool {
        self.registers.iter().zip(BITS).all(|(value, bits)| value & !bits == 0)
    }

    /// A register.
    pub fn register(&self, index: usize) -> u8 {
        self.registers[index]
    }

    /// Sets a register and lets the display use the palette, as a video BIOS leaves it.
    pub fn set_register(&mut self, index: usize, value: u8) {
        if let (Some(register), Some(bits)) = (self.registers.get_mut(index), BITS.get(index)) {
            *register = value & bits;
        }
        self.index |= DISPLAY;
    }

    /// Whether the display uses the palette; else it shows nothing.
    pub fn displays(&self) -> bool {
        self.index & DISPLAY != 0
    }

    /// The DAC's entry for the four bits of a pixel.
    pub fn entry(&self, pixel: u8) -> u8 {
        let colour = self.registers[PALETTE + usize::from(pixel & self.registers[PLANE_ENABLE] & 0x0f)];
        let select = self.registers[COLOR_SELECT];
        let upper = (select & 0x0c) << 4;
        if self.registers[MODE] & SELECT_54 != 0 {
            upper | (select & 3) << 4 | colour & 0x0f
        } else {
            upper | colour
        }
    }

    /// Input status 1 was read: the next write is an index.
    pub(super) fn expect_index(&mut self) {
        self.data_next = false;
    }

    pub(super) fn read_index(&self) -> u8 {
        self.index
    }

    pub(super) fn read_data(&self) -> u8 {
        self.registers.get(usize::from(self.index & 0x1f)).copied().unwrap_or(0)
    }

    pub(super) fn write8(&mut self, value: u8) {
        if !self.data_next {
            self.index = value & 0x3f;
        } else {
            let index = usize::from(self.index & 0x1f);
            // Manual: bit 5 of the index is cleared to load the palette.
            let locked = index < MODE && self.displays();
            if let (Some(register), false) = (self.registers.get_mut(index), locked) {
                *register = value & BITS[index];
            }
        }
        self.data_next = !self.data_next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_and_data_take_turns_until_input_status_1_is_read() {
        let mut attribute = Attribute::default();
        for value in [0x11, 0xaa, 0x12, 0xff] {
            attribute.write8(value);
        }
        assert_eq!((attribute.register(OVERSCAN), attribute.register(PLANE_ENABLE)), (0xaa, 0x3f));
        attribute.write8(0x13);
        attribute.expect_index();
        attribute.write8(0x14);
        attribute.write8(0xff);
        assert_eq!((attribute.register(PANNING), attribute.register(COLOR_SELECT)), (0, 0x0f));
        assert_eq!((attribute.read_index(), attribute.read_data()), (0x14, 0x0f));
    }

    #[test]
    fn the_palette_is_written_only_while_the_display_does_not_use_it() {
        let mut attribute = Attribute::default();
        for value in [0x05, 0x2a, 0x25, 0x15, 0x30, 0x41] {
            attribute.write8(value);
        }
        assert_eq!((attribute.register(5), attribute.register(MODE)), (0x2a, 0x41));
        assert!(attribute.displays());
    }

    #[test]
    fn colour_select_gives_the_upper_bits_of_an_entry() {
        let mut attribute = Attribute::default();
        for (index, value) in [(3, 0x2b), (PLANE_ENABLE, 0x0f), (COLOR_SELECT, 0x06)] {
            attribute.set_register(index, value);
        }
        assert_eq!(attribute.entry(3), 0x6b);
        attribute.set_register(MODE, SELECT_54);
        assert_eq!(attribute.entry(3), 0x6b & 0xcf | 0x20);
        attribute.set_register(PLANE_ENABLE, 0x03);
        assert_eq!(attribute.entry(0x0f), 0x6b & 0xcf | 0x20);
    }
}
