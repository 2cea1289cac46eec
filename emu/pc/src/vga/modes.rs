//! The registers as a video BIOS sets them for text mode 3, for kernels that no BIOS started. IBM's PS/2 Hardware
//! Interface Technical Reference, "Video Subsystem": the values of mode 3+ (720 by 400 dots).

use super::{Vga, attribute, font, memory};
use pagewalk_x86::ram::Ram;

/// The CRT controller in 80 columns of text, cursor in the corner.
pub const CRTC_TEXT_80: [u8; 25] = [
    0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00, 0x00, 0x9c,
    0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
];
/// The CRT controller before anybody set it.
pub const CRTC_UNSET: [u8; 25] = [0; 25];
const MISC: u8 = 0x67;
const SEQUENCER: [u8; 5] = [0x03, 0x00, 0x03, 0x00, 0x02];
const GRAPHICS: [u8; 9] = [0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x00, 0xff];
/// Palette registers: the colours of a CGA among the 64 of an EGA.
const PALETTE: [u8; 16] =
    [0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f];
const ATTRIBUTE: [u8; 5] = [0x0c, 0x00, 0x0f, 0x08, 0x00];
/// A blank, light grey on black.
const BLANK: [u8; 2] = [b' ', 0x07];
/// Cells of the text window.
const CELLS: u16 = 0x4000;

/// The colour of an entry of the EGA's 64, which are `rgbRGB`: two thirds for the capital bits, one for the others.
pub fn ega_colour(entry: u8) -> [u8; 3] {
    [2, 1, 0].map(|bit| 0x2a * (entry >> bit & 1) + 0x15 * (entry >> (bit + 3) & 1))
}

impl Vga {
    /// Text mode 3 with its font and colours and an empty screen, in the video memory that begins at `base` of `ram`.
    pub fn set_text_mode(&mut self, ram: &mut Ram, base: usize) {
        self.set_misc(MISC);
        for (index, value) in SEQUENCER.into_iter().enumerate() {
            self.sequencer.set_register(index, value);
        }
        for (index, value) in CRTC_TEXT_80.into_iter().enumerate() {
            self.crtc.set_register(index, value);
        }
        for (index, value) in GRAPHICS.into_iter().enumerate() {
            self.graphics.set_register(index, value);
        }
        for (index, value) in PALETTE.into_iter().enumerate() {
            self.attribute.set_register(attribute::PALETTE + index, value);
        }
        for (index, value) in ATTRIBUTE.into_iter().enumerate() {
            self.attribute.set_register(attribute::MODE + index, value);
        }
        for entry in 0..64 {
            self.dac.set_entry(entry, ega_colour(entry));
        }
        for cell in 0..CELLS {
            ram.write(base + memory::group(2 * cell), &BLANK);
        }
        for code in 0..=255u8 {
            for (line, dots) in (0u16..).zip(font::glyph(code)) {
                ram.write(base + memory::group(u16::from(code) * 32 + line) + 2, &[dots]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_colours_of_mode_3_are_those_of_a_cga() {
        let colours = PALETTE.map(ega_colour);
        assert_eq!(colours[1], [0, 0, 0x2a], "blue");
        assert_eq!(colours[6], [0x2a, 0x15, 0], "brown, not dark yellow");
        assert_eq!(colours[7], [0x2a; 3], "light grey");
        assert_eq!(colours[8], [0x15; 3], "dark grey");
        assert_eq!(colours[12], [0x3f, 0x15, 0x15], "light red");
        assert_eq!(colours[15], [0x3f; 3], "white");
    }
}
