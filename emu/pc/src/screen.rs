//! Code page 437: what a character of a text screen looks like.

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
}
