//! The text screen as characters: what stands in the VGA text window, in code page 437.

/// Columns of text mode 3.
pub const COLUMNS: usize = 80;
/// Rows of text mode 3.
pub const ROWS: usize = 25;

/// What the codes 00h-1Fh and 7Fh-FFh of code page 437 look like.
const CONTROL: &str = " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼";
const UPPER: &str = "⌂ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// The character that a byte of code page 437 looks like.
pub fn character(byte: u8) -> char {
    let of = |table: &str, index: u8| table.chars().nth(usize::from(index)).unwrap_or(' ');
    match byte {
        0x00..0x20 => of(CONTROL, byte),
        0x20..0x7f => char::from(byte),
        _ => of(UPPER, byte - 0x7f),
    }
}

/// The screen's lines, trailing blanks cut, of a 32 KiB text window displayed from cell `start` on.
pub fn lines(window: &[u8], start: u16) -> Vec<String> {
    let cells = window.len() / 2;
    let row = |row: usize| -> String {
        let cell = |column: usize| {
            let index = (usize::from(start) + row * COLUMNS + column) % cells.max(1);
            window.get(index * 2).copied().map_or(' ', character)
        };
        let line: String = (0..COLUMNS).map(cell).collect();
        line.trim_end().to_string()
    };
    (0..ROWS).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_page_437_has_256_characters() {
        assert_eq!((CONTROL.chars().count(), UPPER.chars().count()), (32, 129));
        let known = [
            (0x01, '☺'),
            (b'A', 'A'),
            (0x7f, '⌂'),
            (0xb3, '│'),
            (0xc4, '─'),
            (0xdb, '█'),
            (0xe1, 'ß'),
            (0xfe, '■'),
        ];
        for (byte, looks) in known {
            assert_eq!(character(byte), looks);
        }
    }

    #[test]
    fn the_display_start_scrolls_and_wraps() {
        let mut window = vec![0; 0x8000];
        for (index, byte) in b"Hi".iter().enumerate() {
            window[(COLUMNS + index) * 2] = *byte;
        }
        assert_eq!(lines(&window, 0)[..3], ["", "Hi", ""]);
        assert_eq!(lines(&window, 80)[0], "Hi");
        assert_eq!(lines(&window, 0x4000 - 80)[2], "Hi");
    }
}
