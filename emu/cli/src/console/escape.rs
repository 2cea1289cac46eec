//! Ctrl-A and the key after it: what the person at the terminal asks of pagewalk, not of the guest.

/// The key that makes the next one a command.
pub const ESCAPE: u8 = 0x01;

/// What can be asked for. A new one is a variant, its row in [`Command::ALL`] and an arm in `drive`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// End the run.
    Leave,
    /// Say what the keys are.
    Help,
    /// Write a picture of the screen.
    Screenshot,
    /// Save the machine.
    Save,
}

impl Command {
    /// Every command, its key after Ctrl-A, and what it does, for the help.
    pub const ALL: [(Command, u8, &str); 4] = [
        (Command::Leave, b'x', "leave: the machine is switched off, the exit status is 130"),
        (Command::Help, b'h', "this help"),
        (Command::Screenshot, b's', "write a picture of the VGA screen to a new PNG file"),
        (Command::Save, b'w', "save the machine to a new file, for --load to go on from"),
    ];

    /// The command of a key, pressed with or without Shift or Ctrl.
    fn of(key: u8) -> Option<Command> {
        let letter = if key < 0x20 { key | 0x60 } else { key.to_ascii_lowercase() };
        let letter = if letter == b'?' { b'h' } else { letter };
        Command::ALL.iter().find(|(_, key, _)| *key == letter).map(|(command, ..)| *command)
    }
}

/// What became of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pressed {
    /// It goes to the guest.
    Guest(u8),
    /// It was Ctrl-A: the next one tells.
    Waits,
    /// It is a command.
    Command(Command),
    /// It came after Ctrl-A and is none.
    Unknown(u8),
}

/// Tells keys for the guest from commands.
#[derive(Clone, Copy, Default, Debug)]
pub struct Escape {
    escaped: bool,
}

impl Escape {
    /// A key was pressed.
    pub fn press(&mut self, key: u8) -> Pressed {
        match (std::mem::take(&mut self.escaped), key) {
            (false, ESCAPE) => {
                self.escaped = true;
                Pressed::Waits
            }
            (false, key) => Pressed::Guest(key),
            (true, ESCAPE) => Pressed::Guest(ESCAPE),
            (true, key) => Command::of(key).map_or(Pressed::Unknown(key), Pressed::Command),
        }
    }
}

/// What is said about a key after Ctrl-A that is no command.
pub fn unknown(key: u8) -> String {
    format!("Ctrl-A {} is no command; Ctrl-A h for help", key.escape_ascii())
}

/// The list of commands, a line each.
pub fn help() -> Vec<String> {
    let mut lines: Vec<String> =
        Command::ALL.iter().map(|(_, key, what)| format!("  Ctrl-A {}       {what}", *key as char)).collect();
    lines.push("  Ctrl-A Ctrl-A  send the guest a Ctrl-A".into());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(keys: &[u8]) -> Vec<Pressed> {
        let mut escape = Escape::default();
        keys.iter().map(|&key| escape.press(key)).collect()
    }

    #[test]
    fn keys_go_to_the_guest_and_those_after_ctrl_a_are_commands() {
        use Pressed::{Guest, Unknown, Waits};
        assert_eq!(all(b"a\x03\xff"), [Guest(b'a'), Guest(3), Guest(0xff)]);
        assert_eq!(all(b"\x01xx"), [Waits, Pressed::Command(Command::Leave), Guest(b'x')]);
        assert_eq!(all(b"\x01h\x01?"), [Waits, Pressed::Command(Command::Help)].repeat(2));
        assert_eq!(all(b"\x01\x18\x01X"), [Waits, Pressed::Command(Command::Leave)].repeat(2));
        assert_eq!(all(b"\x01qs"), [Waits, Unknown(b'q'), Guest(b's')]);
    }

    #[test]
    fn ctrl_a_twice_is_a_ctrl_a() {
        assert_eq!(all(b"\x01\x01\x01\x01"), [Pressed::Waits, Pressed::Guest(1)].repeat(2));
    }

    #[test]
    fn the_help_names_every_command_and_no_key_stands_for_two() {
        let text = help().join("\n");
        for (n, (command, key, what)) in Command::ALL.into_iter().enumerate() {
            assert!(text.contains(&format!("Ctrl-A {} ", key as char)) && text.contains(what));
            assert_eq!(Command::of(key), Some(command));
            assert!(Command::ALL[..n].iter().all(|(_, other, _)| *other != key));
        }
    }
}
