//! Keys of a PC keyboard with the US layout, as the scan code set 1 bytes that the board is given. The keyboard controller
//! makes set 2 of them, as a keyboard would send.

/// What the keyboard sends before the code of a key that the PC AT's had not.
const EXTENDED: u8 = 0xe0;
const RELEASED: u8 = 0x80;

/// The rows of characters: the first key's make code, then what the keys write without and with Shift.
const ROWS: [(u8, &str, &str); 5] = [
    (0x02, "1234567890-=", "!@#$%^&*()_+"),
    (0x10, "qwertyuiop[]", "QWERTYUIOP{}"),
    (0x1e, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
    (0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    (0x39, " ", " "),
];

/// Keys by name: make code, and whether it follows E0h.
#[rustfmt::skip]
const NAMED: [(&str, u8, bool); 34] = [
    ("esc", 0x01, false), ("backspace", 0x0e, false), ("tab", 0x0f, false), ("enter", 0x1c, false),
    ("f1", 0x3b, false), ("f2", 0x3c, false), ("f3", 0x3d, false), ("f4", 0x3e, false), ("f5", 0x3f, false),
    ("f6", 0x40, false), ("f7", 0x41, false), ("f8", 0x42, false), ("f9", 0x43, false), ("f10", 0x44, false),
    ("f11", 0x57, false), ("f12", 0x58, false), ("capslock", 0x3a, false), ("numlock", 0x45, false),
    ("scrolllock", 0x46, false), ("sysrq", 0x54, false), ("print", 0x37, true),
    ("home", 0x47, true), ("up", 0x48, true), ("pageup", 0x49, true), ("left", 0x4b, true), ("right", 0x4d, true),
    ("end", 0x4f, true), ("down", 0x50, true), ("pagedown", 0x51, true), ("insert", 0x52, true), ("delete", 0x53, true),
    ("space", 0x39, false), ("menu", 0x5d, true), ("win", 0x5b, true),
];

/// A key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    make: u8,
    extended: bool,
}

const LEFT_SHIFT: Key = Key { make: 0x2a, extended: false };
const LEFT_CTRL: Key = Key { make: 0x1d, extended: false };
const LEFT_ALT: Key = Key { make: 0x38, extended: false };

/// A key pressed and released, perhaps while others are held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stroke {
    /// The key.
    pub key: Key,
    /// With Shift.
    pub shift: bool,
    /// With Ctrl.
    pub ctrl: bool,
    /// With Alt.
    pub alt: bool,
}

impl Stroke {
    /// The stroke that writes a character, if a key of the US layout does. Line feed and carriage return are Enter.
    pub fn of_character(character: char) -> Option<Stroke> {
        match character {
            '\n' | '\r' => return Stroke::named("enter"),
            '\t' => return Stroke::named("tab"),
            _ => {}
        }
        ROWS.into_iter().find_map(|(first, plain, shifted)| {
            let place = |row: &str| row.chars().position(|c| c == character).map(|n| first + n as u8);
            let (make, shift) =
                place(plain).map(|make| (make, false)).or(place(shifted).map(|m| (m, true)))?;
            Some(Stroke { key: Key { make, extended: false }, shift, ctrl: false, alt: false })
        })
    }

    /// The stroke of a named key: `enter`, `f10`, `up` and so on.
    pub fn named(name: &str) -> Option<Stroke> {
        let (_, make, extended) = *NAMED.iter().find(|(known, ..)| *known == name)?;
        Some(Stroke { key: Key { make, extended }, shift: false, ctrl: false, alt: false })
    }

    /// The names there are.
    pub fn names() -> String {
        NAMED.map(|(name, ..)| name).join(", ")
    }

    /// What the board is given for it.
    pub fn bytes(self) -> Vec<u8> {
        let held = [(self.ctrl, LEFT_CTRL), (self.alt, LEFT_ALT), (self.shift, LEFT_SHIFT)];
        let held: Vec<Key> = held.into_iter().filter(|(held, _)| *held).map(|(_, key)| key).collect();
        let mut bytes = Vec::new();
        let mut send = |key: Key, released: u8| {
            if key.extended {
                bytes.push(EXTENDED);
            }
            bytes.push(key.make | released);
        };
        held.iter().for_each(|&key| send(key, 0));
        send(self.key, 0);
        send(self.key, RELEASED);
        held.iter().rev().for_each(|&key| send(key, RELEASED));
        bytes
    }
}

#[cfg(test)]
mod tests {
    //! Scan codes are those of set 1 in IBM's PS/2 Hardware Interface Technical Reference, "Keyboards (101- and 102-Key)".

    use super::*;

    fn bytes(character: char) -> Vec<u8> {
        Stroke::of_character(character).unwrap().bytes()
    }

    #[test]
    fn characters_are_pressed_and_released_with_shift_where_they_need_it() {
        assert_eq!(bytes('a'), [0x1e, 0x9e]);
        assert_eq!(bytes('A'), [0x2a, 0x1e, 0x9e, 0xaa]);
        assert_eq!(bytes('1'), [0x02, 0x82]);
        assert_eq!(bytes('='), [0x0d, 0x8d]);
        assert_eq!(bytes(']'), [0x1b, 0x9b]);
        assert_eq!(bytes('`'), [0x29, 0xa9]);
        assert_eq!(bytes('\\'), [0x2b, 0xab]);
        assert_eq!(bytes('?'), [0x2a, 0x35, 0xb5, 0xaa]);
        assert_eq!(bytes('\n'), [0x1c, 0x9c]);
        assert_eq!(bytes(' '), [0x39, 0xb9]);
    }

    #[test]
    fn every_printable_ascii_character_has_a_stroke_of_its_own() {
        let strokes: Vec<Vec<u8>> = (' '..='~').map(bytes).collect();
        for (n, stroke) in strokes.iter().enumerate() {
            assert!(!strokes[..n].contains(stroke));
        }
        assert_eq!(Stroke::of_character('é'), None);
    }

    #[test]
    fn keys_that_the_at_had_not_follow_e0_and_modifiers_are_held_around_them() {
        assert_eq!(Stroke::named("up").unwrap().bytes(), [0xe0, 0x48, 0xe0, 0xc8]);
        let delete = Stroke { ctrl: true, alt: true, ..Stroke::named("delete").unwrap() };
        assert_eq!(delete.bytes(), [0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d]);
        assert_eq!(Stroke::named("f12").unwrap().bytes(), [0x58, 0xd8]);
        assert_eq!(Stroke::named("any"), None);
    }
}
