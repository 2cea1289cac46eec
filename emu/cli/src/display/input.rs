//! The terminal's keys as those of a PC keyboard.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::keys::Stroke;

/// The byte that a serial terminal would send for a key, if it is one: Ctrl-A and the commands are such.
pub fn byte(event: KeyEvent) -> Option<u8> {
    match event.code {
        KeyCode::Char(letter @ 'a'..='z') if event.modifiers == KeyModifiers::CONTROL => {
            Some(letter as u8 & 0x1f)
        }
        KeyCode::Char(character)
            if !event.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) =>
        {
            u8::try_from(character).ok()
        }
        _ => None,
    }
}

/// The stroke of a key, if a US keyboard has it.
pub fn stroke(event: KeyEvent) -> Option<Stroke> {
    let function;
    let name = match event.code {
        KeyCode::Char(character) => {
            return Some(with(character_stroke(character, event.modifiers)?, event.modifiers));
        }
        KeyCode::F(number) => {
            function = format!("f{number}");
            &function
        }
        KeyCode::BackTab => "tab",
        KeyCode::Backspace => "backspace",
        KeyCode::Enter => "enter",
        KeyCode::Left => "left",
        KeyCode::Right => "right",
        KeyCode::Up => "up",
        KeyCode::Down => "down",
        KeyCode::Home => "home",
        KeyCode::End => "end",
        KeyCode::PageUp => "pageup",
        KeyCode::PageDown => "pagedown",
        KeyCode::Tab => "tab",
        KeyCode::Delete => "delete",
        KeyCode::Insert => "insert",
        KeyCode::Esc => "esc",
        KeyCode::Null => return Some(with(Stroke::named("space")?, KeyModifiers::CONTROL)),
        _ => return None,
    };
    let held = if event.code == KeyCode::BackTab { KeyModifiers::SHIFT } else { event.modifiers };
    let stroke = with(Stroke::named(name)?, held);
    Some(Stroke { shift: held.contains(KeyModifiers::SHIFT), ..stroke })
}

/// Terminals send one byte for Ctrl with `\` and with 4, and so on up to 7; the former are what people mean.
fn character_stroke(character: char, held: KeyModifiers) -> Option<Stroke> {
    let meant = match character {
        '4' => '\\',
        '5' => ']',
        '7' => '/',
        other => return Stroke::of_character(other),
    };
    Stroke::of_character(if held.contains(KeyModifiers::CONTROL) { meant } else { character })
}

fn with(stroke: Stroke, held: KeyModifiers) -> Stroke {
    Stroke { ctrl: held.contains(KeyModifiers::CONTROL), alt: held.contains(KeyModifiers::ALT), ..stroke }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(code: KeyCode, held: KeyModifiers) -> Vec<u8> {
        stroke(KeyEvent::new(code, held)).unwrap().bytes()
    }

    #[test]
    fn keys_become_strokes_with_what_is_held() {
        let none = KeyModifiers::NONE;
        assert_eq!(bytes(KeyCode::Char('A'), KeyModifiers::SHIFT), [0x2a, 0x1e, 0x9e, 0xaa]);
        assert_eq!(bytes(KeyCode::Char('c'), KeyModifiers::CONTROL), [0x1d, 0x2e, 0xae, 0x9d]);
        assert_eq!(bytes(KeyCode::Char('x'), KeyModifiers::ALT), [0x38, 0x2d, 0xad, 0xb8]);
        assert_eq!(bytes(KeyCode::F(10), none), [0x44, 0xc4]);
        assert_eq!(bytes(KeyCode::Left, KeyModifiers::SHIFT), [0x2a, 0xe0, 0x4b, 0xe0, 0xcb, 0xaa]);
        assert_eq!(bytes(KeyCode::BackTab, KeyModifiers::SHIFT), [0x2a, 0x0f, 0x8f, 0xaa]);
        assert_eq!(bytes(KeyCode::Char('4'), KeyModifiers::CONTROL), [0x1d, 0x2b, 0xab, 0x9d], "Ctrl-\\");
        assert_eq!(stroke(KeyEvent::new(KeyCode::F(13), none)), None);
        assert_eq!(stroke(KeyEvent::new(KeyCode::Char('é'), none)), None);
    }

    #[test]
    fn commands_are_on_keys_that_are_bytes() {
        assert_eq!(byte(KeyEvent::new(KeyCode::Char('a'), KeyModifiers::CONTROL)), Some(1));
        assert_eq!(byte(KeyEvent::new(KeyCode::Char('x'), KeyModifiers::NONE)), Some(b'x'));
        assert_eq!(byte(KeyEvent::new(KeyCode::Up, KeyModifiers::NONE)), None);
        assert_eq!(byte(KeyEvent::new(KeyCode::Char('x'), KeyModifiers::ALT)), None);
    }
}
