//! A screen of characters, and what must be sent to a terminal to make one screen of another: only what changed.

use std::fmt::Write;

/// A colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Colour {
    /// What the terminal uses when nothing is said.
    Default,
    /// One of the terminal's own.
    Index(u8),
    /// Red, green, blue.
    Rgb([u8; 3]),
}

/// One character on the terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spot {
    /// What it is.
    pub glyph: char,
    /// Its colour.
    pub front: Colour,
    /// The colour behind it.
    pub back: Colour,
    /// Whether it blinks.
    pub blinks: bool,
}

/// Nothing, in the terminal's own colours.
pub const BLANK: Spot = Spot { glyph: ' ', front: Colour::Default, back: Colour::Default, blinks: false };

/// A screen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Canvas {
    columns: usize,
    spots: Vec<Spot>,
    /// Row and column of the cursor, if it is to be seen.
    pub cursor: Option<(usize, usize)>,
}

impl Canvas {
    /// An empty one.
    pub fn new(columns: usize, rows: usize) -> Canvas {
        Canvas { columns, spots: vec![BLANK; columns * rows], cursor: None }
    }

    /// Spots in a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Sets a spot; outside nothing happens.
    pub fn set(&mut self, row: usize, column: usize, spot: Spot) {
        if column < self.columns
            && let Some(old) = self.spots.get_mut(row * self.columns + column)
        {
            *old = spot;
        }
    }

    /// Writes a line of text, cut where the row ends.
    pub fn write(&mut self, row: usize, column: usize, text: &str, like: Spot) {
        for (n, glyph) in text.chars().enumerate() {
            self.set(row, column + n, Spot { glyph, ..like });
        }
    }

    /// What makes this screen of `before`; `None` stands for a terminal in an unknown state.
    pub fn changes(&self, before: Option<&Canvas>) -> String {
        let mut out = String::new();
        let before =
            before.filter(|before| (before.columns, before.spots.len()) == (self.columns, self.spots.len()));
        if before.is_none() {
            out += "\x1b[?25l\x1b[0m\x1b[2J";
        }
        let mut colours = None;
        // where the terminal's own cursor is
        let mut at = None;
        for (n, spot) in self.spots.iter().enumerate() {
            if before.map_or(*spot == BLANK, |before| before.spots[n] == *spot) {
                continue;
            }
            if out.is_empty() {
                out += "\x1b[?25l";
            }
            if at != Some(n) {
                let (row, column) = (n / self.columns, n % self.columns);
                let _ = write!(out, "\x1b[{};{}H", row + 1, column + 1);
            }
            if colours != Some((spot.front, spot.back, spot.blinks)) {
                paint(&mut out, spot);
                colours = Some((spot.front, spot.back, spot.blinks));
            }
            out.push(spot.glyph);
            // past the last column terminals differ
            at = ((n + 1) % self.columns != 0).then_some(n + 1);
        }
        if !out.is_empty() || before.is_some_and(|before| before.cursor != self.cursor) {
            out += "\x1b[0m";
            match self.cursor {
                Some((row, column)) => {
                    let _ = write!(out, "\x1b[{};{}H\x1b[3 q\x1b[?25h", row + 1, column + 1);
                }
                None => out += "\x1b[?25l",
            }
        }
        out
    }
}

/// ECMA-48 "SGR".
fn paint(out: &mut String, spot: &Spot) {
    out.push_str("\x1b[0");
    if spot.blinks {
        out.push_str(";5");
    }
    for (colour, base) in [(spot.front, 30), (spot.back, 40)] {
        let _ = match colour {
            Colour::Default => Ok(()),
            Colour::Index(index @ 0..8) => write!(out, ";{}", base + u32::from(index)),
            Colour::Index(index @ 8..16) => write!(out, ";{}", base + 60 + u32::from(index - 8)),
            Colour::Index(index) => write!(out, ";{};5;{index}", base + 8),
            Colour::Rgb([red, green, blue]) => write!(out, ";{};2;{red};{green};{blue}", base + 8),
        };
    }
    out.push('m');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal that was sent all of this.
    fn shown(rows: u16, columns: u16, sent: &[String]) -> vt100::Parser {
        let mut terminal = vt100::Parser::new(rows, columns, 0);
        sent.iter().for_each(|sent| terminal.process(sent.as_bytes()));
        terminal
    }

    #[test]
    fn only_what_changed_is_sent() {
        let mut canvas = Canvas::new(10, 3);
        canvas.write(0, 0, "abc", BLANK);
        let first = canvas.changes(None);
        assert_eq!(canvas.changes(Some(&canvas)), "");
        let mut next = canvas.clone();
        next.write(0, 1, "X", BLANK);
        let second = next.changes(Some(&canvas));
        assert_eq!(second, "\x1b[?25l\x1b[1;2H\x1b[0mX\x1b[0m\x1b[?25l");
        assert_eq!(shown(3, 10, &[first, second]).screen().contents(), "aXc");
    }

    #[test]
    fn colours_blinking_and_the_cursor_arrive() {
        let mut canvas = Canvas::new(4, 2);
        let red = Spot { front: Colour::Index(9), back: Colour::Index(4), ..BLANK };
        canvas.write(1, 2, "rR", red);
        canvas.set(
            0,
            0,
            Spot { glyph: '▀', front: Colour::Rgb([1, 2, 3]), back: Colour::Index(200), blinks: false },
        );
        canvas.cursor = Some((1, 3));
        let terminal = shown(2, 4, &[canvas.changes(None)]);
        let screen = terminal.screen();
        let cell = screen.cell(1, 3).unwrap();
        assert_eq!((cell.contents(), cell.fgcolor()), ("R", vt100::Color::Idx(9)));
        assert_eq!(cell.bgcolor(), vt100::Color::Idx(4));
        let cell = screen.cell(0, 0).unwrap();
        assert_eq!((cell.contents(), cell.fgcolor()), ("▀", vt100::Color::Rgb(1, 2, 3)));
        assert_eq!(cell.bgcolor(), vt100::Color::Idx(200));
        assert_eq!((screen.cursor_position(), screen.hide_cursor()), ((1, 3), false));
    }

    #[test]
    fn a_screen_of_another_size_is_drawn_whole() {
        let small = Canvas::new(2, 2);
        let mut large = Canvas::new(4, 2);
        large.write(1, 0, "wide", BLANK);
        let sent = large.changes(Some(&small));
        assert!(sent.contains("\x1b[2J"));
        assert_eq!(shown(2, 4, &[sent]).screen().contents(), "\nwide");
    }
}
