//! The keyboard controller, an Intel 8042 with the program of the PC AT's (IBM Technical Reference, "Keyboard
//! Controller"; PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller"), and the
//! keyboard at its end; the mouse at its auxiliary line is [`crate::mouse`]'s.
//!
//! Left out: scan code set 3, typematic repeat (the host sends repeats if it wants them), the keyboard lock and the security password.
//! `Choice:` the controller answers at once; a device takes 100 microseconds a byte, where a real one takes 900.

use crate::device::{IrqLine, PortDevice, Timed};
use crate::mouse::{Mouse, Movement};
use pagewalk_x86::bus::Ticks;
use pagewalk_x86::image::Damaged;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

// Offsets from port 60h.
const DATA: u16 = 0;
const COMMAND: u16 = 4;

const STATUS_OUTPUT_FULL: u8 = 1 << 0;
const STATUS_SYSTEM: u8 = 1 << 2;
const STATUS_COMMAND: u8 = 1 << 3;
const STATUS_UNLOCKED: u8 = 1 << 4;
/// The byte in the output buffer is the mouse's.
const STATUS_AUXILIARY: u8 = 1 << 5;

// The command byte, byte 0 of the controller's RAM.
const CONFIG_INTERRUPT: u8 = 1 << 0;
const CONFIG_AUXILIARY_INTERRUPT: u8 = 1 << 1;
const CONFIG_SYSTEM: u8 = 1 << 2;
const CONFIG_DISABLED: u8 = 1 << 4;
const CONFIG_AUXILIARY_DISABLED: u8 = 1 << 5;
const CONFIG_TRANSLATE: u8 = 1 << 6;

const OUTPUT_RUN: u8 = 1 << 0;
const OUTPUT_A20: u8 = 1 << 1;
const OUTPUT_IRQ1: u8 = 1 << 4;
const OUTPUT_IRQ12: u8 = 1 << 5;
/// Clock and data lines of both devices, idle high.
const OUTPUT_IDLE: u8 = 0xcc;
/// Keyboard not locked, colour display jumper.
const INPUT_PORT: u8 = 0x80;

const SELF_TEST_PASSED: u8 = 0x55;
const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const BAT_PASSED: u8 = 0xaa;
const BREAK: u8 = 0xf0;

const BYTE_TIME: u64 = 100_000;
/// How many answers wait for a guest that does not read them.
const ANSWERS: usize = 16;
/// How many bytes of keys wait; what is typed beyond them is lost.
const TYPED: usize = 4096;

/// The controller's translation of scan code set 2 to set 1; codes above 84h stay as they are.
#[rustfmt::skip]
const TO_SET_1: [u8; 0x85] = [
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
    0x80, 0x81, 0x82, 0x41, 0x54,
];

/// The set 2 code that the controller translates to this set 1 make code.
fn to_set_2(make: u8) -> u8 {
    (0..TO_SET_1.len()).rev().find(|&code| TO_SET_1[code] == make).map_or(make, |code| code as u8)
}

/// The scan codes the keyboard sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum ScanCodeSet {
    One,
    Two,
}

/// What the next byte written to port 60h is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Expects {
    /// A command or argument for the keyboard.
    ForKeyboard,
    /// The value of this byte of the controller's RAM.
    Ram(u8),
    OutputPort,
    /// A byte to give back as if the keyboard had sent it.
    Echo,
    /// A byte to give back as if the mouse had sent it.
    AuxiliaryEcho,
    /// A command or argument for the mouse.
    ForMouse,
}

/// Who a byte in the output buffer comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Source {
    /// The controller, or the keyboard.
    Keyboard,
    Mouse,
}

/// The keyboard.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Keyboard {
    scanning: bool,
    set: ScanCodeSet,
    /// The command whose argument comes next.
    argument_of: Option<u8>,
    last_sent: u8,
    answers: VecDeque<u8>,
    typed: VecDeque<u8>,
}

impl Keyboard {
    fn new() -> Keyboard {
        Keyboard {
            scanning: true,
            set: ScanCodeSet::Two,
            argument_of: None,
            last_sent: 0,
            answers: VecDeque::new(),
            typed: VecDeque::new(),
        }
    }

    fn answer(&mut self, bytes: &[u8]) {
        let room = ANSWERS.saturating_sub(self.answers.len());
        self.answers.extend(&bytes[..bytes.len().min(room)]);
    }

    fn restore_defaults(&mut self) {
        self.set = ScanCodeSet::Two;
        self.typed.clear();
    }

    /// A byte from the controller: PS/2 reference, "Keyboard Commands".
    fn command(&mut self, byte: u8) {
        if let Some(command) = self.argument_of.take()
            && byte < 0xed
        {
            return self.argument(command, byte);
        }
        match byte {
            // Set LEDs, select scan code set, set typematic rate: an argument follows.
            0xed | 0xf0 | 0xf3 => {
                self.argument_of = Some(byte);
                self.answer(&[ACK]);
            }
            0xee => self.answer(&[0xee]),
            0xf2 => self.answer(&[ACK, 0xab, 0x83]),
            0xf4 => {
                self.typed.clear();
                self.scanning = true;
                self.answer(&[ACK]);
            }
            0xf5 => {
                self.restore_defaults();
                self.scanning = false;
                self.answer(&[ACK]);
            }
            0xf6 => {
                self.restore_defaults();
                self.answer(&[ACK]);
            }
            0xfe => {
                let last = self.last_sent;
                self.answer(&[last]);
            }
            0xff => {
                *self = Keyboard::new();
                self.answer(&[ACK, BAT_PASSED]);
            }
            _ => self.answer(&[RESEND]),
        }
    }

    fn argument(&mut self, command: u8, byte: u8) {
        match (command, byte) {
            (0xf0, 0) => {
                let set = if self.set == ScanCodeSet::One { 1 } else { 2 };
                self.answer(&[ACK, set]);
            }
            (0xf0, 1) => self.set = ScanCodeSet::One,
            (0xf0, 2) => self.set = ScanCodeSet::Two,
            (0xf0, _) => return self.answer(&[RESEND]),
            _ => {}
        }
        if (command, byte) != (0xf0, 0) {
            self.answer(&[ACK]);
        }
    }

    /// Keys as scan code set 1 bytes; the keyboard sends them in the set the guest chose.
    fn press(&mut self, set_1: &[u8]) {
        for &byte in set_1 {
            if !self.scanning || self.typed.len() + 2 > TYPED {
                continue;
            }
            match (self.set, byte) {
                (ScanCodeSet::One, _) | (_, 0xe0 | 0xe1) => self.typed.push_back(byte),
                (ScanCodeSet::Two, _) => {
                    if byte & 0x80 != 0 {
                        self.typed.push_back(BREAK);
                    }
                    self.typed.push_back(to_set_2(byte & 0x7f));
                }
            }
        }
    }

    fn has_byte(&self) -> bool {
        !self.answers.is_empty() || !self.typed.is_empty()
    }

    fn send(&mut self) -> Option<u8> {
        let byte = self.answers.pop_front().or_else(|| self.typed.pop_front())?;
        self.last_sent = byte;
        Some(byte)
    }
}

/// The controller with its keyboard and its mouse.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyboardController {
    keyboard: Keyboard,
    mouse: Mouse,
    ram: [u8; 32],
    output_port: u8,
    output: Option<(u8, Source)>,
    /// What port 60h reads while the output buffer is empty: the last byte again.
    last_output: u8,
    /// Answers of the controller that found the output buffer full.
    replies: VecDeque<(u8, Source)>,
    expects: Expects,
    system_flag: bool,
    last_was_command: bool,
    /// A break prefix has been swallowed by the translation.
    break_pending: bool,
    /// When the next byte of a device or of `replies` may fill the output buffer.
    ready: Ticks,
    reset_pulse: bool,
    /// Output buffer full, to the interrupt controller.
    pub irq: IrqLine,
    /// Output buffer full with a byte of the mouse.
    pub mouse_irq: IrqLine,
}

impl Default for KeyboardController {
    fn default() -> Self {
        KeyboardController::new()
    }
}

impl KeyboardController {
    /// At power-on: outputs high (so A20 is let through), keyboard on, mouse off, no interrupts.
    pub fn new() -> KeyboardController {
        let mut ram = [0; 32];
        ram[0] = CONFIG_TRANSLATE | CONFIG_AUXILIARY_DISABLED;
        KeyboardController {
            keyboard: Keyboard::new(),
            mouse: Mouse::new(),
            ram,
            output_port: OUTPUT_IDLE | OUTPUT_RUN | OUTPUT_A20,
            output: None,
            last_output: 0,
            replies: VecDeque::new(),
            expects: Expects::ForKeyboard,
            system_flag: false,
            last_was_command: false,
            break_pending: false,
            ready: Ticks(0),
            reset_pulse: false,
            irq: IrqLine::default(),
            mouse_irq: IrqLine::default(),
        }
    }

    /// The board's reset.
    pub fn reset(&mut self) {
        let (mut irq, mut mouse_irq) = (self.irq, self.mouse_irq);
        irq.set(false);
        mouse_irq.set(false);
        *self = KeyboardController { irq, mouse_irq, ..KeyboardController::new() };
    }

    /// Refuses what the controller and its devices can't hold.
    pub(crate) fn check(&self) -> Result<(), Damaged> {
        self.mouse.check()?;
        let queues = self.keyboard.answers.len() <= ANSWERS
            && self.keyboard.typed.len() <= TYPED
            && self.replies.len() <= ANSWERS;
        let expects = !matches!(self.expects, Expects::Ram(index) if usize::from(index) >= self.ram.len());
        Damaged::unless(queues && expects, "the keyboard controller")
    }

    /// Keys pressed and released, as scan code set 1 bytes.
    pub fn press(&mut self, set_1: &[u8], now: Ticks) {
        if !self.keyboard.has_byte() {
            self.delay(now);
        }
        self.keyboard.press(set_1);
        self.advance(now);
    }

    /// The mouse is moved, turned or pressed.
    pub fn move_mouse(&mut self, movement: Movement, now: Ticks) {
        if !self.mouse.has_byte() {
            self.delay(now);
        }
        self.mouse.move_by(movement);
        self.advance(now);
    }

    /// The next byte of a device takes its time.
    fn delay(&mut self, now: Ticks) {
        self.ready = self.ready.max(Ticks(now.0.saturating_add(BYTE_TIME)));
    }

    /// Whether the controller lets address line 20 through.
    pub fn a20(&self) -> bool {
        self.output_port & OUTPUT_A20 != 0
    }

    /// Whether the processor's reset line was pulsed; asking clears it.
    pub fn take_reset(&mut self) -> bool {
        std::mem::take(&mut self.reset_pulse)
    }

    /// Whether a key would interrupt.
    pub fn could_interrupt(&self) -> bool {
        self.config() & (CONFIG_INTERRUPT | CONFIG_DISABLED) == CONFIG_INTERRUPT
    }

    /// Whether the mouse would.
    pub fn mouse_could_interrupt(&self) -> bool {
        let bits = CONFIG_AUXILIARY_INTERRUPT | CONFIG_AUXILIARY_DISABLED;
        self.config() & bits == CONFIG_AUXILIARY_INTERRUPT
    }

    fn config(&self) -> u8 {
        self.ram[0]
    }

    fn reply(&mut self, byte: u8) {
        self.reply_from(byte, Source::Keyboard);
    }

    fn reply_from(&mut self, byte: u8, source: Source) {
        if self.output.is_none() && self.replies.is_empty() {
            self.output = Some((byte, source));
        } else if self.replies.len() < ANSWERS {
            self.replies.push_back((byte, source));
        }
    }

    /// A byte of the keyboard on its way to the output buffer. `None`: it was a prefix, and the next byte says all.
    fn translate(&mut self, byte: u8) -> Option<u8> {
        if self.config() & CONFIG_TRANSLATE == 0 {
            return Some(byte);
        }
        if byte == BREAK {
            self.break_pending = true;
            return None;
        }
        let make = TO_SET_1.get(usize::from(byte)).copied().unwrap_or(byte);
        Some(make | if std::mem::take(&mut self.break_pending) { 0x80 } else { 0 })
    }

    fn advance(&mut self, now: Ticks) {
        while self.output.is_none() && self.ready <= now {
            if let Some(reply) = self.replies.pop_front() {
                self.output = Some(reply);
            } else if let Some(byte) = self.of_keyboard() {
                self.output = self.translate(byte).map(|byte| (byte, Source::Keyboard));
            } else if self.has_mouse_byte() {
                self.output = self.mouse.send().map(|byte| (byte, Source::Mouse));
            } else {
                break;
            }
        }
        let full = |source| self.output.is_some_and(|(_, from)| from == source);
        let (keyboard, mouse) = (full(Source::Keyboard), full(Source::Mouse));
        self.irq.set(keyboard && self.config() & CONFIG_INTERRUPT != 0);
        self.mouse_irq.set(mouse && self.config() & CONFIG_AUXILIARY_INTERRUPT != 0);
    }

    fn of_keyboard(&mut self) -> Option<u8> {
        (self.config() & CONFIG_DISABLED == 0).then(|| self.keyboard.send()).flatten()
    }

    fn has_mouse_byte(&self) -> bool {
        self.config() & CONFIG_AUXILIARY_DISABLED == 0 && self.mouse.has_byte()
    }

    /// A controller command: IBM's table "Controller Commands".
    fn command(&mut self, command: u8) {
        match command {
            0x20..=0x3f => self.reply(self.ram[usize::from(command & 0x1f)]),
            0x60..=0x7f => self.expects = Expects::Ram(command & 0x1f),
            0xaa => {
                self.system_flag = true;
                self.reply(SELF_TEST_PASSED);
            }
            0xa7 => self.ram[0] |= CONFIG_AUXILIARY_DISABLED,
            0xa8 => self.ram[0] &= !CONFIG_AUXILIARY_DISABLED,
            // Interface tests: no error.
            0xa9 | 0xab => self.reply(0),
            0xad => self.ram[0] |= CONFIG_DISABLED,
            0xae => self.ram[0] &= !CONFIG_DISABLED,
            0xc0 => self.reply(INPUT_PORT),
            0xd0 => {
                let irq1 = if self.irq.level() { OUTPUT_IRQ1 } else { 0 };
                let irq12 = if self.mouse_irq.level() { OUTPUT_IRQ12 } else { 0 };
                self.reply(self.output_port | irq1 | irq12);
            }
            0xd1 => self.expects = Expects::OutputPort,
            0xd2 => self.expects = Expects::Echo,
            0xd3 => self.expects = Expects::AuxiliaryEcho,
            0xd4 => self.expects = Expects::ForMouse,
            // Undocumented: A20 off and on in one command (HP Vectra, and clones since).
            0xdd => self.output_port &= !OUTPUT_A20,
            0xdf => self.output_port |= OUTPUT_A20,
            // Pulse output bits: those that are 0 go low for 6 us. Bit 0 is the processor's reset.
            0xf0..=0xff => self.reset_pulse |= command & OUTPUT_RUN == 0,
            _ => {}
        }
    }

    fn write_data(&mut self, value: u8, now: Ticks) {
        match std::mem::replace(&mut self.expects, Expects::ForKeyboard) {
            Expects::ForKeyboard => {
                // Manual: writing to the keyboard enables its interface.
                self.ram[0] &= !CONFIG_DISABLED;
                self.delay(now);
                self.keyboard.command(value);
            }
            Expects::Ram(0) => {
                self.ram[0] = value;
                self.system_flag = value & CONFIG_SYSTEM != 0;
            }
            Expects::Ram(index) => self.ram[usize::from(index)] = value,
            Expects::OutputPort => {
                self.output_port = OUTPUT_IDLE | OUTPUT_RUN | value & OUTPUT_A20;
                self.reset_pulse |= value & OUTPUT_RUN == 0;
            }
            Expects::Echo => self.reply(value),
            Expects::AuxiliaryEcho => self.reply_from(value, Source::Mouse),
            Expects::ForMouse => {
                self.ram[0] &= !CONFIG_AUXILIARY_DISABLED;
                self.delay(now);
                self.mouse.command(value);
            }
        }
    }
}

impl PortDevice for KeyboardController {
    fn read8(&mut self, offset: u16, now: Ticks) -> u8 {
        self.advance(now);
        match offset {
            DATA => {
                if let Some((byte, _)) = self.output.take() {
                    self.last_output = byte;
                    self.delay(now);
                    self.irq.set(false);
                    self.mouse_irq.set(false);
                }
                self.last_output
            }
            COMMAND => {
                let flag = |on: bool, bit: u8| if on { bit } else { 0 };
                STATUS_UNLOCKED
                    | flag(self.output.is_some(), STATUS_OUTPUT_FULL)
                    | flag(self.output.is_some_and(|(_, from)| from == Source::Mouse), STATUS_AUXILIARY)
                    | flag(self.system_flag, STATUS_SYSTEM)
                    | flag(self.last_was_command, STATUS_COMMAND)
            }
            _ => 0xff,
        }
    }

    fn write8(&mut self, offset: u16, value: u8, now: Ticks) {
        self.advance(now);
        self.last_was_command = offset == COMMAND;
        match offset {
            DATA => self.write_data(value, now),
            COMMAND => {
                self.expects = Expects::ForKeyboard;
                self.command(value);
            }
            _ => {}
        }
        self.advance(now);
    }
}

impl Timed for KeyboardController {
    fn tick(&mut self, now: Ticks) -> Option<Ticks> {
        self.advance(now);
        let keyboard = self.keyboard.has_byte() && self.config() & CONFIG_DISABLED == 0;
        let waits = keyboard || self.has_mouse_byte() || !self.replies.is_empty();
        (self.output.is_none() && waits).then_some(self.ready)
    }
}

#[cfg(test)]
mod tests {
    //! Expected values are those of IBM's technical references (see the head of the file).

    use super::*;

    struct Bench {
        chip: KeyboardController,
        now: Ticks,
    }

    impl Bench {
        /// As a BIOS leaves it: tested, interrupts and translation on.
        fn new() -> Bench {
            let mut bench = Bench { chip: KeyboardController::new(), now: Ticks(0) };
            bench.command(0xaa);
            bench.read();
            bench.command(0x60);
            bench.data(CONFIG_TRANSLATE | CONFIG_INTERRUPT | CONFIG_SYSTEM);
            bench
        }

        fn command(&mut self, value: u8) {
            self.chip.write8(COMMAND, value, self.now);
        }

        fn data(&mut self, value: u8) {
            self.chip.write8(DATA, value, self.now);
        }

        fn status(&mut self) -> u8 {
            self.chip.read8(COMMAND, self.now)
        }

        /// The next byte, waiting for it; `None` if nothing will come.
        fn read(&mut self) -> Option<u8> {
            while self.status() & STATUS_OUTPUT_FULL == 0 {
                self.now = self.chip.tick(self.now)?;
            }
            Some(self.chip.read8(DATA, self.now))
        }

        fn read_all(&mut self) -> Vec<u8> {
            std::iter::from_fn(|| self.read()).collect()
        }

        fn ask(&mut self, command: u8) -> Option<u8> {
            self.command(command);
            self.read()
        }
    }

    #[test]
    fn the_self_test_answers_55_and_sets_the_system_flag() {
        let mut chip = KeyboardController::new();
        assert_eq!(chip.read8(COMMAND, Ticks(0)) & (STATUS_SYSTEM | STATUS_OUTPUT_FULL), 0);
        chip.write8(COMMAND, 0xaa, Ticks(0));
        assert_eq!(chip.read8(COMMAND, Ticks(0)), 0x1d);
        assert_eq!(chip.read8(DATA, Ticks(0)), 0x55);
        assert_eq!(chip.read8(COMMAND, Ticks(0)), 0x1c);
    }

    #[test]
    fn the_interface_test_and_the_ports_answer() {
        let mut b = Bench::new();
        assert_eq!((b.ask(0xab), b.ask(0xc0), b.ask(0xd0)), (Some(0x00), Some(0x80), Some(0xcf)));
    }

    #[test]
    fn the_command_byte_and_the_other_ram_bytes_read_back() {
        let mut b = Bench::new();
        assert_eq!(b.ask(0x20), Some(0x45));
        b.command(0x7f);
        b.data(0x3c);
        assert_eq!(b.ask(0x3f), Some(0x3c));
    }

    #[test]
    fn status_bit_3_tells_commands_from_data() {
        let mut b = Bench::new();
        b.command(0xae);
        assert_ne!(b.status() & STATUS_COMMAND, 0);
        b.data(0xee);
        assert_eq!(b.status() & STATUS_COMMAND, 0);
    }

    #[test]
    fn keys_arrive_in_set_1_with_an_interrupt_each() {
        let mut b = Bench::new();
        b.chip.press(&[0x1e, 0x9e, 0xe0, 0x48, 0xe0, 0xc8], b.now);
        for expected in [0x1e, 0x9e, 0xe0, 0x48, 0xe0, 0xc8] {
            assert!(!b.chip.irq.level());
            b.now = b.chip.tick(b.now).unwrap();
            b.chip.tick(b.now);
            assert!(b.chip.irq.level());
            assert_eq!(b.chip.read8(DATA, b.now), expected);
        }
        assert_eq!(b.read(), None);
    }

    #[test]
    fn without_translation_the_same_keys_are_set_2() {
        let mut b = Bench::new();
        b.command(0x60);
        b.data(0);
        // A is 1C, F7 is 83, cursor up E0 75 (PS/2 reference, "Scan Code Set 2").
        b.chip.press(&[0x1e, 0x9e, 0x41, 0xe0, 0xc8], b.now);
        assert_eq!(b.read_all(), [0x1c, 0xf0, 0x1c, 0x83, 0xe0, 0xf0, 0x75]);
    }

    #[test]
    fn every_set_1_code_survives_the_way_through_set_2() {
        let mut b = Bench::new();
        for make in 1..0x59 {
            b.chip.press(&[make, make | 0x80], b.now);
            assert_eq!(b.read_all(), [make, make | 0x80]);
        }
    }

    #[test]
    fn the_keyboard_answers_its_commands() {
        let mut b = Bench::new();
        for (sent, answers) in [
            (&[0xff][..], &[0xfa, 0xaa][..]),
            // The identity AB 83, whose second byte is translated.
            (&[0xf2], &[0xfa, 0xab, 0x41]),
            (&[0xed, 0x07], &[0xfa, 0xfa]),
            (&[0xf3, 0x20], &[0xfa, 0xfa]),
            (&[0xf0, 0x02], &[0xfa, 0xfa]),
            (&[0xee], &[0xee]),
            (&[0xf5], &[0xfa]),
            (&[0xf4], &[0xfa]),
            (&[0x12], &[0xfe]),
        ] {
            let mut got = Vec::new();
            for &byte in sent {
                b.data(byte);
                got.extend(b.read_all());
            }
            assert_eq!(got, answers, "{sent:x?}");
        }
    }

    #[test]
    fn a_keyboard_told_to_be_quiet_loses_its_keys() {
        let mut b = Bench::new();
        b.data(0xf5);
        assert_eq!(b.read(), Some(0xfa));
        b.chip.press(&[0x1e], b.now);
        assert_eq!(b.read(), None);
        b.data(0xf4);
        assert_eq!(b.read(), Some(0xfa));
        b.chip.press(&[0x1e], b.now);
        assert_eq!(b.read(), Some(0x1e));
    }

    #[test]
    fn a_disabled_interface_holds_the_keyboard_back_until_enabled() {
        let mut b = Bench::new();
        b.command(0xad);
        b.chip.press(&[0x1e], b.now);
        assert_eq!(b.read(), None);
        b.command(0xae);
        assert_eq!(b.read(), Some(0x1e));
    }

    #[test]
    fn without_the_enable_bit_there_is_no_interrupt() {
        let mut b = Bench::new();
        b.command(0x60);
        b.data(CONFIG_TRANSLATE);
        b.chip.press(&[0x1e], b.now);
        b.now = b.chip.tick(b.now).unwrap();
        assert_ne!(b.status() & STATUS_OUTPUT_FULL, 0);
        assert!(!b.chip.irq.level());
    }

    #[test]
    fn the_output_port_gates_a20_and_resets() {
        let mut b = Bench::new();
        assert!(b.chip.a20());
        b.command(0xd1);
        b.data(0xdd);
        assert!(!b.chip.a20());
        assert_eq!(b.ask(0xd0), Some(0xcd));
        b.command(0xd1);
        b.data(0xdf);
        assert!(b.chip.a20());
        assert!(!b.chip.take_reset());
        b.command(0xd1);
        b.data(0xfe);
        assert!(b.chip.take_reset());
        assert!(!b.chip.take_reset());
    }

    #[test]
    fn pulsing_output_bit_0_resets_and_ff_pulses_nothing() {
        let mut b = Bench::new();
        b.command(0xff);
        assert!(!b.chip.take_reset());
        b.command(0xfe);
        assert!(b.chip.take_reset());
    }

    #[test]
    fn d2_gives_a_byte_back_as_if_typed() {
        let mut b = Bench::new();
        b.command(0xd2);
        b.data(0x77);
        assert!(b.chip.irq.level());
        assert_eq!(b.read(), Some(0x77));
    }

    /// With the mouse on, and its interrupt.
    fn with_mouse() -> Bench {
        let mut b = Bench::new();
        b.command(0xa8);
        b.command(0x60);
        b.data(CONFIG_INTERRUPT | CONFIG_AUXILIARY_INTERRUPT | CONFIG_SYSTEM);
        b
    }

    fn to_mouse(b: &mut Bench, byte: u8) -> Vec<u8> {
        b.command(0xd4);
        b.data(byte);
        b.read_all()
    }

    #[test]
    fn the_mouse_is_spoken_to_through_d4_and_answers_with_status_bit_5_and_irq_12() {
        let mut b = with_mouse();
        assert_eq!(b.ask(0xa9), Some(0));
        assert_eq!(to_mouse(&mut b, 0xff), [0xfa, 0xaa, 0x00]);
        b.command(0xd4);
        b.data(0xf4);
        b.now = b.chip.tick(b.now).unwrap();
        assert_eq!(b.status() & (STATUS_AUXILIARY | STATUS_OUTPUT_FULL), 0x21);
        assert!(b.chip.mouse_irq.level() && !b.chip.irq.level());
        // in the output port, too: bit 5
        b.command(0xd0);
        assert_eq!(b.read_all(), [0xfa, 0xef]);
        assert!(!b.chip.mouse_irq.level());
        b.chip.move_mouse(Movement { right: 2, ..Movement::default() }, b.now);
        assert_eq!(b.read_all(), [0x08, 2, 0]);
        // the keyboard's bytes have neither
        b.chip.press(&[0x1e], b.now);
        b.now = b.chip.tick(b.now).unwrap();
        assert_eq!(b.status() & (STATUS_AUXILIARY | STATUS_OUTPUT_FULL), 1);
        assert!(!b.chip.mouse_irq.level() && b.chip.irq.level());
    }

    #[test]
    fn a_disabled_auxiliary_interface_holds_the_mouse_back() {
        let mut b = with_mouse();
        to_mouse(&mut b, 0xf4);
        b.command(0xa7);
        assert_eq!(b.ask(0x20).unwrap() & CONFIG_AUXILIARY_DISABLED, CONFIG_AUXILIARY_DISABLED);
        b.chip.move_mouse(Movement { up: 1, ..Movement::default() }, b.now);
        assert_eq!(b.read(), None);
        b.command(0xa8);
        assert_eq!(b.ask(0x20).unwrap() & CONFIG_AUXILIARY_DISABLED, 0);
        assert_eq!(b.read_all(), [0x08, 0, 1]);
    }

    #[test]
    fn d3_gives_a_byte_back_as_if_the_mouse_had_sent_it() {
        let mut b = with_mouse();
        b.command(0xd3);
        b.data(0x5a);
        assert_eq!(b.status() & (STATUS_AUXILIARY | STATUS_OUTPUT_FULL), 0x21);
        assert!(b.chip.mouse_irq.level());
        assert_eq!(b.read(), Some(0x5a));
    }

    #[test]
    fn an_empty_buffer_reads_the_last_byte_again() {
        let mut b = Bench::new();
        b.ask(0xab);
        b.ask(0xaa);
        assert_eq!(b.chip.read8(DATA, b.now), 0x55);
    }
}
