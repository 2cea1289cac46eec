//! A text mode's screen in a window.

use pagewalk_pc::screen::character;
use pagewalk_pc::vga::text::{Cell, TextScreen};

use super::Palette;
use super::canvas::{Canvas, Colour, Spot};

/// The terminal's colour that stands for each of the VGA's sixteen, where the terminal has no others: the VGA has blue in
/// bit 0 and red in bit 2, terminals (ECMA-48) the other way round.
const INDEX: [u8; 16] = [0, 4, 2, 6, 1, 5, 3, 7, 8, 12, 10, 14, 9, 13, 11, 15];

/// Puts the screen into the first `rows` rows of the canvas: all of it, or the part around the cursor. Says whether it was
/// all.
pub fn draw(screen: &TextScreen, palette: Palette, canvas: &mut Canvas, rows: usize) -> bool {
    let (row, column) = screen.cursor.unwrap_or_default();
    // the part ends where the cursor is, or at the screen's end if that is nearer
    let first_row = (row + 1).saturating_sub(rows).min(screen.rows().saturating_sub(rows));
    let first_column = (column + 1).saturating_sub(canvas.columns());
    for (n, cells) in screen.cells.chunks(screen.columns.max(1)).skip(first_row).take(rows).enumerate() {
        for (m, cell) in cells.iter().skip(first_column).enumerate() {
            canvas.set(n, m, spot(screen, cell, palette));
        }
    }
    canvas.cursor = screen.cursor.map(|(row, column)| (row - first_row, column - first_column));
    screen.rows() <= rows && screen.columns <= canvas.columns()
}

fn spot(screen: &TextScreen, cell: &Cell, palette: Palette) -> Spot {
    let colour = |index: u8| {
        let index = usize::from(index & 15);
        match palette {
            Palette::Full => Colour::Rgb(screen.colours[index]),
            Palette::Indexed => Colour::Index(INDEX[index]),
        }
    };
    let glyph = match character(cell.code) {
        '\u{a0}' => ' ',
        glyph => glyph,
    };
    Spot { glyph, front: colour(cell.foreground), back: colour(cell.background), blinks: cell.blinks }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen() -> TextScreen {
        let mut cells = vec![Cell { code: b' ', foreground: 7, background: 0, blinks: false }; 80 * 25];
        cells[24 * 80] = Cell { code: 0xdb, foreground: 1, background: 4, blinks: true };
        let mut colours = [[0; 3]; 16];
        colours[1] = [0, 0, 0xaa];
        TextScreen { columns: 80, cells, cursor: Some((24, 1)), colours }
    }

    #[test]
    fn a_large_window_shows_all_in_the_guests_colours() {
        let mut canvas = Canvas::new(100, 40);
        assert!(draw(&screen(), Palette::Full, &mut canvas, 39));
        assert_eq!(canvas.cursor, Some((24, 1)));
        let mut expected = Canvas::new(100, 40);
        let block =
            Spot { glyph: '█', front: Colour::Rgb([0, 0, 0xaa]), back: Colour::Rgb([0; 3]), blinks: true };
        expected.set(24, 0, block);
        assert!(canvas.changes(None).contains("\x1b[25;1H\x1b[0;5;38;2;0;0;170;48;2;0;0;0m█"));
    }

    #[test]
    fn a_small_window_shows_the_part_with_the_cursor() {
        let mut canvas = Canvas::new(40, 24);
        assert!(!draw(&screen(), Palette::Indexed, &mut canvas, 23));
        assert_eq!(canvas.cursor, Some((22, 1)));
        assert!(canvas.changes(None).contains("\x1b[23;1H\x1b[0;5;34;41m█"), "blue on red");
    }
}
