//! The screen as a picture, in any mode: what the beam would draw in one frame, dot by dot and line by line.
//!
//! The picture has as many dots as the monitor would be sent: 720 by 400 in text mode 3, 640 by 400 in mode 13h, whose
//! pixels are two dots wide and two lines high. Borders are not part of it. Nothing blinks: characters and the cursor are
//! shown always. `Choice:` a screen that is off, or whose palette is being written, is black.

use super::attribute::{LINE_GRAPHICS, PANNING, PANNING_ENDS};
use super::crtc::{CURSOR_END, CURSOR_START, PRESET_ROW, UNDERLINE};
use super::dispi::Mode;
use super::graphics::{GRAPHICS, MISCELLANEOUS, SHIFT_256, SHIFT_CGA};
use super::sequencer::{CLOCKING, EIGHT_DOTS, HALF_CLOCK, SCREEN_OFF};
use super::{Vga, attribute, graphics, memory};

/// Bytes of a dot.
const RGB: usize = 3;

/// A picture: red, green and blue of each dot, line by line.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// Dots in a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// Three bytes a dot.
    pub rgb: Vec<u8>,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({} by {})", self.width, self.height)
    }
}

impl Picture {
    /// The colour of a dot; black outside.
    pub fn dot(&self, x: u32, y: u32) -> [u8; 3] {
        let at = (y as usize * self.width as usize + x as usize) * RGB;
        let dot = self.rgb.get(at..at + RGB).filter(|_| x < self.width);
        dot.and_then(|dot| dot.try_into().ok()).unwrap_or_default()
    }
}

/// What a character clock's dots are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shift {
    /// Characters by a font.
    Text,
    /// A bit of each map makes a pixel.
    Planar,
    /// Two bits of one map and two of another make a pixel.
    Cga,
    /// A byte makes a pixel.
    Bytes,
}

/// The parts of a scan line's place.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// The address counter at its first character.
    first: u16,
    row_scan: u8,
}

impl Vga {
    /// The picture that the screen shows; `memory` is the video memory.
    pub fn picture(&self, memory: &[u8]) -> Picture {
        match self.dispi.mode() {
            Some(mode) if mode.depth == 4 => self.planar_vbe(memory, mode),
            Some(mode) => self.packed(memory, mode),
            None => self.raster(memory),
        }
    }

    fn shift(&self) -> Shift {
        let mode = self.graphics.register(graphics::MODE);
        if self.graphics.register(MISCELLANEOUS) & GRAPHICS == 0 {
            Shift::Text
        } else if mode & SHIFT_256 != 0 {
            Shift::Bytes
        } else if mode & SHIFT_CGA != 0 {
            Shift::Cga
        } else {
            Shift::Planar
        }
    }

    fn is_dark(&self) -> bool {
        self.sequencer.register(CLOCKING) & SCREEN_OFF != 0 || !self.attribute.displays()
    }

    /// A VGA mode: the CRT controller counts through the maps.
    fn raster(&self, memory: &[u8]) -> Picture {
        let clocking = self.sequencer.register(CLOCKING);
        let shift = self.shift();
        let char_dots = if shift == Shift::Text && clocking & EIGHT_DOTS == 0 { 9 } else { 8 };
        let widen = if clocking & HALF_CLOCK != 0 { 2 } else { 1 };
        let (columns, height) = (self.crtc.columns(), self.crtc.lines());
        let width = columns * char_dots * widen;
        let mut rgb = Vec::with_capacity((width * height) as usize * RGB);
        if self.is_dark() {
            rgb.resize((width * height) as usize * RGB, 0);
            return Picture { width, height, rgb };
        }

        let colours: Vec<[u8; 3]> = match shift {
            Shift::Bytes => (0..=255).map(|index| self.dac.colour(index)).collect(),
            _ => (0..16).map(|pixel| self.dac.colour(self.attribute.entry(pixel))).collect(),
        };
        let mut panning = self.panning(char_dots);
        let mut line =
            Line { first: self.crtc.display_start(), row_scan: self.crtc.register(PRESET_ROW) & 0x1f };
        let mut half = false;
        let mut dots = Vec::new();
        for y in 0..height {
            dots.clear();
            // one more, so that panning has what to move in
            for column in 0..=columns {
                let counter = line.first.wrapping_add(self.crtc.count(column));
                self.character(memory, shift, char_dots, counter, line.row_scan, &mut dots);
            }
            let shown = (columns * char_dots) as usize;
            for &dot in dots.iter().skip(panning).take(shown) {
                for _ in 0..widen {
                    rgb.extend(colours.get(usize::from(dot)).copied().unwrap_or_default());
                }
            }

            half = self.crtc.doubles_lines() && !half;
            if y == self.crtc.line_compare() {
                (line, half) = (Line { first: 0, row_scan: 0 }, false);
                if self.attribute.register(attribute::MODE) & PANNING_ENDS != 0 {
                    panning = 0;
                }
            } else if !half {
                line.row_scan = (line.row_scan + 1) & 0x1f;
                if line.row_scan == self.crtc.row_height() & 0x1f {
                    line = Line { first: line.first.wrapping_add(self.crtc.row()), row_scan: 0 };
                }
            }
        }
        Picture { width, height, rgb }
    }

    /// How many dots the screen is moved to the left. Manual: with 9 dots a character, 8 stands for none.
    fn panning(&self, char_dots: u32) -> usize {
        let panning = usize::from(self.attribute.register(PANNING));
        match (char_dots, panning) {
            (9, 0..8) => panning + 1,
            (9, _) => 0,
            _ => panning & 7,
        }
    }

    /// The pixels of one character clock.
    fn character(
        &self,
        memory: &[u8],
        shift: Shift,
        char_dots: u32,
        counter: u16,
        row_scan: u8,
        dots: &mut Vec<u8>,
    ) {
        let bytes = memory::maps(memory, self.crtc.address(counter, row_scan));
        match shift {
            Shift::Text => self.glyph(memory, bytes, char_dots, counter, row_scan, dots),
            Shift::Planar => {
                dots.extend((0..8).rev().map(|bit| {
                    (0u8..).zip(bytes).fold(0, |pixel, (map, byte)| pixel | (byte >> bit & 1) << map)
                }));
            }
            Shift::Cga => {
                for (low, high) in [(bytes[0], bytes[2]), (bytes[1], bytes[3])] {
                    dots.extend([6, 4, 2, 0].map(|bit| low >> bit & 3 | (high >> bit & 3) << 2));
                }
            }
            Shift::Bytes => dots.extend(bytes.into_iter().flat_map(|byte| [byte; 2])),
        }
    }

    /// One line of a character.
    fn glyph(
        &self,
        memory: &[u8],
        [code, attribute, ..]: [u8; 4],
        char_dots: u32,
        counter: u16,
        row_scan: u8,
        dots: &mut Vec<u8>,
    ) {
        let [font_b, font_a] = self.sequencer.fonts();
        let font = if attribute & 0x08 != 0 { font_a } else { font_b };
        let at = font.wrapping_add(u16::from(code) * 32 + u16::from(row_scan));
        let mut shape = memory::maps(memory, at)[2];
        let mode = self.attribute.register(attribute::MODE);
        let mut ninth = shape & 1 != 0 && mode & LINE_GRAPHICS != 0 && (0xc0..=0xdf).contains(&code);

        let underlined = attribute & 0x77 == 0x01;
        if underlined && row_scan == self.crtc.register(UNDERLINE) & 0x1f {
            (shape, ninth) = (0xff, true);
        }
        let (start, end) = (self.crtc.register(CURSOR_START), self.crtc.register(CURSOR_END));
        let in_cursor = (start & 0x1f..=end & 0x1f).contains(&row_scan);
        if counter == self.crtc.cursor() && start & 0x20 == 0 && in_cursor {
            (shape, ninth) = (0xff, true);
        }

        let blinking = mode & attribute::BLINK != 0;
        let (front, behind) = (attribute & 0x0f, attribute >> 4 & if blinking { 7 } else { 15 });
        let pick = |set: bool| if set { front } else { behind };
        dots.extend((0..8).rev().map(|bit| pick(shape >> bit & 1 != 0)));
        if char_dots == 9 {
            dots.push(pick(ninth));
        }
    }

    /// A VBE mode of 4 bits a pixel: in the maps.
    fn planar_vbe(&self, memory: &[u8], mode: Mode) -> Picture {
        let mut rgb = Vec::with_capacity((mode.width * mode.height) as usize * RGB);
        for y in 0..mode.height {
            for x in 0..mode.width {
                let address = mode.start.wrapping_add(y * mode.pitch + x / 8) as u16;
                let bit = 7 - x % 8;
                let pixel = (0u8..)
                    .zip(memory::maps(memory, address))
                    .fold(0, |pixel, (map, byte)| pixel | (byte >> bit & 1) << map);
                rgb.extend(self.dac.colour(self.attribute.entry(pixel)));
            }
        }
        Picture { width: mode.width, height: mode.height, rgb }
    }

    /// A VBE mode of 8 or more bits a pixel.
    fn packed(&self, memory: &[u8], mode: Mode) -> Picture {
        let bytes = usize::from(mode.depth.div_ceil(8));
        let mut rgb = Vec::with_capacity(mode.width as usize * mode.height as usize * RGB);
        for y in 0..mode.height as usize {
            let first = mode.start as usize + y * mode.pitch as usize;
            let line = memory.get(first..first + mode.width as usize * bytes).unwrap_or_default();
            for pixel in line.chunks_exact(bytes) {
                rgb.extend(match *pixel {
                    [index] => self.dac.colour(index),
                    [low, high] => wide_colours(u16::from_le_bytes([low, high]), mode.depth),
                    [blue, green, red, ..] => [red, green, blue],
                    [] => [0; RGB],
                });
            }
        }
        rgb.resize(mode.width as usize * mode.height as usize * RGB, 0);
        Picture { width: mode.width, height: mode.height, rgb }
    }
}

/// The colours of a pixel of 15 (5-5-5) or 16 (5-6-5) bits, each to its full range.
fn wide_colours(pixel: u16, depth: u16) -> [u8; 3] {
    let five = |shift: u16| {
        let value = (pixel >> shift & 0x1f) as u8;
        value << 3 | value >> 2
    };
    let six = (pixel >> 5 & 0x3f) as u8;
    match depth {
        15 => [five(10), five(5), five(0)],
        _ => [five(11), six << 2 | six >> 4, five(0)],
    }
}

#[cfg(test)]
mod tests;
