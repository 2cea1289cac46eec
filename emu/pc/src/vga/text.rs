//! The screen as characters, in text modes.

use super::attribute::BLINK;
use super::crtc::{CURSOR_END, CURSOR_START};
use super::graphics::{GRAPHICS, MISCELLANEOUS};
use super::{Vga, attribute, memory};
use crate::screen::character;

/// A character on the screen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cell {
    /// Its code, code page 437.
    pub code: u8,
    /// Colour of the character, 0 to 15.
    pub foreground: u8,
    /// Colour behind it, 0 to 15.
    pub background: u8,
    /// Whether it blinks.
    pub blinks: bool,
}

/// What a text mode shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextScreen {
    /// Characters in a row.
    pub columns: usize,
    /// The cells, row by row.
    pub cells: Vec<Cell>,
    /// Row and column of the cursor, if it is shown.
    pub cursor: Option<(usize, usize)>,
    /// What the 16 colours look like: red, green, blue.
    pub colours: [[u8; 3]; 16],
}

impl TextScreen {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.cells.len() / self.columns.max(1)
    }

    /// The rows as lines, trailing blanks cut.
    pub fn lines(&self) -> Vec<String> {
        let line = |row: &[Cell]| {
            let line: String = row.iter().map(|cell| character(cell.code)).collect();
            line.trim_end().to_string()
        };
        self.cells.chunks(self.columns.max(1)).map(line).collect()
    }
}

impl Vga {
    /// Whether characters are shown, not dots.
    pub fn is_text(&self) -> bool {
        self.graphics.register(MISCELLANEOUS) & GRAPHICS == 0 && self.dispi.mode().is_none()
    }

    /// What is on the screen, in a text mode. Panning and a split screen are not looked at.
    pub fn text(&self, memory: &[u8]) -> Option<TextScreen> {
        if !self.is_text() {
            return None;
        }
        let columns = self.crtc.columns();
        let height = u32::from(self.crtc.row_height()) << u32::from(self.crtc.doubles_lines());
        let rows = (self.crtc.lines() / height).max(1);
        let blinking = self.attribute.register(attribute::MODE) & BLINK != 0;
        let cursor_shown = self.crtc.register(CURSOR_START) & 0x20 == 0
            && self.crtc.register(CURSOR_START) & 0x1f <= self.crtc.register(CURSOR_END) & 0x1f;
        let mut screen = TextScreen {
            columns: columns as usize,
            cells: Vec::with_capacity((rows * columns) as usize),
            cursor: None,
            colours: std::array::from_fn(|pixel| self.dac.colour(self.attribute.entry(pixel as u8))),
        };
        for row in 0..rows {
            let first = self.crtc.display_start().wrapping_add((row as u16).wrapping_mul(self.crtc.row()));
            for column in 0..columns {
                let counter = first.wrapping_add(self.crtc.count(column));
                if counter == self.crtc.cursor() && cursor_shown {
                    screen.cursor = Some((row as usize, column as usize));
                }
                let [code, attribute, ..] = memory::maps(memory, self.crtc.address(counter, 0));
                screen.cells.push(Cell {
                    code,
                    foreground: attribute & 0x0f,
                    background: attribute >> 4 & if blinking { 7 } else { 15 },
                    blinks: blinking && attribute & 0x80 != 0,
                });
            }
        }
        Some(screen)
    }
}
