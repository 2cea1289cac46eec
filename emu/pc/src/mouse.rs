//! The PS/2 mouse at the end of the keyboard controller's auxiliary line (IBM PS/2 Hardware Interface Technical Reference, "Mouse"), with the
//! wheel of Microsoft's IntelliMouse.
//!
//! `Choice:` a packet is made whenever the line is free and something happened, whatever the sampling rate; what moves further than a
//! packet can say goes into the next ones, so that nothing overflows.

use pagewalk_x86::image::Damaged;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

const ACK: u8 = 0xfa;
/// The byte before is to be sent again: it was none that the mouse knows.
const AGAIN: u8 = 0xfe;
const BAT_PASSED: u8 = 0xaa;

// Commands.
const RESET: u8 = 0xff;
const RESEND: u8 = 0xfe;
const SET_DEFAULTS: u8 = 0xf6;
const DISABLE: u8 = 0xf5;
const ENABLE: u8 = 0xf4;
const SET_RATE: u8 = 0xf3;
const READ_ID: u8 = 0xf2;
const SET_REMOTE: u8 = 0xf0;
const SET_WRAP: u8 = 0xee;
const RESET_WRAP: u8 = 0xec;
const READ_DATA: u8 = 0xeb;
const SET_STREAM: u8 = 0xea;
const STATUS: u8 = 0xe9;
const SET_RESOLUTION: u8 = 0xe8;
const SCALE_2: u8 = 0xe7;
const SCALE_1: u8 = 0xe6;

const RATES: [u8; 7] = [10, 20, 40, 60, 80, 100, 200];
/// The rates that, set one after the other, make a mouse with a wheel say so.
const KNOCK: [u8; 3] = [200, 100, 80];
/// The most that a packet says of a direction, in nine bits of two's complement.
const MOST: i32 = 255;
/// The most of the wheel, in four bits.
const MOST_WHEEL: i32 = 7;
/// How far movement adds up while nobody reads it.
const FARTHEST: i32 = 1 << 20;
/// How many bytes wait for the line.
const ANSWERS: usize = 16;

/// Buttons, as the first byte of a packet has them.
pub mod button {
    /// The left one.
    pub const LEFT: u8 = 1 << 0;
    /// The right one.
    pub const RIGHT: u8 = 1 << 1;
    /// The middle one.
    pub const MIDDLE: u8 = 1 << 2;
}
const BUTTONS: u8 = 7;

/// What happened to a mouse.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Movement {
    /// Counts to the right.
    pub right: i16,
    /// Counts away from the person.
    pub up: i16,
    /// Steps of the wheel towards the person.
    pub wheel: i8,
    /// The [`button`]s that are held now.
    pub buttons: u8,
}

/// The mouse.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Mouse {
    remote: bool,
    wrap: bool,
    reporting: bool,
    scaled: bool,
    resolution: u8,
    rate: u8,
    /// Whether packets tell of the wheel.
    wheel: bool,
    /// The last rates set, the newest last.
    rates: [u8; 3],
    /// The command whose argument comes next.
    argument_of: Option<u8>,
    /// What was sent last: an answer or a packet.
    sent: Vec<u8>,
    answers: VecDeque<u8>,
    right: i32,
    up: i32,
    turned: i32,
    buttons: u8,
    /// Something happened that no packet told yet.
    news: bool,
}

impl Mouse {
    /// As after power-on.
    pub fn new() -> Mouse {
        Mouse {
            remote: false,
            wrap: false,
            reporting: false,
            scaled: false,
            resolution: 2,
            rate: 100,
            wheel: false,
            rates: [0; 3],
            argument_of: None,
            sent: Vec::new(),
            answers: VecDeque::new(),
            right: 0,
            up: 0,
            turned: 0,
            buttons: 0,
            news: false,
        }
    }

    /// Refuses what it can't hold.
    pub fn check(&self) -> Result<(), Damaged> {
        let far = |count: i32| count.abs() <= FARTHEST;
        let sound = self.answers.len() <= ANSWERS
            && self.sent.len() <= ANSWERS
            && [self.right, self.up, self.turned].into_iter().all(far);
        Damaged::unless(sound, "the mouse")
    }

    /// It is moved, turned or pressed.
    pub fn move_by(&mut self, movement: Movement) {
        let add = |to: &mut i32, count: i32| *to = (*to + count).clamp(-FARTHEST, FARTHEST);
        add(&mut self.right, movement.right.into());
        add(&mut self.up, movement.up.into());
        add(&mut self.turned, movement.wheel.into());
        self.buttons = movement.buttons & BUTTONS;
        self.news = true;
    }

    /// Whether it has a byte for the line.
    pub fn has_byte(&self) -> bool {
        !self.answers.is_empty() || (self.news && self.reporting && !self.remote && !self.wrap)
    }

    /// The next byte for the line.
    pub fn send(&mut self) -> Option<u8> {
        if self.answers.is_empty() && self.has_byte() {
            self.pack(self.scaled);
        }
        self.answers.pop_front()
    }

    fn answer(&mut self, bytes: &[u8]) {
        self.sent = bytes.to_vec();
        self.answers.extend(bytes.iter().take(ANSWERS.saturating_sub(self.answers.len())));
    }

    /// Makes a packet of what happened.
    fn pack(&mut self, scaled: bool) {
        let take = |from: &mut i32, most: i32| {
            let part = (*from).clamp(-most, most);
            *from -= part;
            part
        };
        let most = if scaled { MOST / 2 } else { MOST };
        let scale = |count: i32| if scaled { double(count) } else { count };
        let (right, up) = (scale(take(&mut self.right, most)), scale(take(&mut self.up, most)));
        let turned = if self.wheel { take(&mut self.turned, MOST_WHEEL) } else { 0 };
        self.news = self.right != 0 || self.up != 0 || (self.wheel && self.turned != 0);
        let signs = u8::from(right < 0) << 4 | u8::from(up < 0) << 5;
        let packet = [1 << 3 | self.buttons | signs, right as u8, up as u8, turned as u8];
        self.answer(&packet[..if self.wheel { 4 } else { 3 }]);
    }

    fn forget_movement(&mut self) {
        (self.right, self.up, self.turned, self.news) = (0, 0, 0, false);
    }

    fn restore_defaults(&mut self) {
        let (buttons, wheel) = (self.buttons, self.wheel);
        *self = Mouse { buttons, wheel, ..Mouse::new() };
    }

    /// A byte from the controller.
    pub fn command(&mut self, byte: u8) {
        if self.wrap && !matches!(byte, RESET | RESET_WRAP) {
            return self.answer(&[byte]);
        }
        if byte == RESEND {
            let sent = self.sent.clone();
            self.answers.clear();
            return self.answer(&sent);
        }
        // what was on its way is not sent any more
        self.answers.clear();
        if let Some(command) = self.argument_of.take()
            && byte < SCALE_1
        {
            return self.argument(command, byte);
        }
        match byte {
            SCALE_1 | SCALE_2 => self.scaled = byte == SCALE_2,
            SET_RATE | SET_RESOLUTION => self.argument_of = Some(byte),
            STATUS => {
                let flag = |on: bool, bit: u8| u8::from(on) << bit;
                // left in bit 2, middle in bit 1, right in bit 0
                let held = |button: u8, bit: u8| flag(self.buttons & button != 0, bit);
                let buttons = held(button::LEFT, 2) | held(button::MIDDLE, 1) | held(button::RIGHT, 0);
                let first = flag(self.remote, 6) | flag(self.reporting, 5) | flag(self.scaled, 4) | buttons;
                return self.answer(&[ACK, first, self.resolution, self.rate]);
            }
            SET_STREAM | SET_REMOTE => {
                self.remote = byte == SET_REMOTE;
                self.forget_movement();
            }
            READ_DATA => {
                self.answer(&[ACK]);
                return self.pack(false);
            }
            SET_WRAP | RESET_WRAP => {
                self.wrap = byte == SET_WRAP;
                self.forget_movement();
            }
            READ_ID => return self.answer(&[ACK, if self.wheel { 3 } else { 0 }]),
            ENABLE | DISABLE => {
                self.reporting = byte == ENABLE;
                self.forget_movement();
            }
            SET_DEFAULTS => self.restore_defaults(),
            RESET => {
                *self = Mouse { buttons: self.buttons, ..Mouse::new() };
                return self.answer(&[ACK, BAT_PASSED, 0]);
            }
            _ => return self.answer(&[AGAIN]),
        }
        self.answer(&[ACK]);
    }

    fn argument(&mut self, command: u8, byte: u8) {
        match command {
            SET_RATE if RATES.contains(&byte) => {
                self.rate = byte;
                self.rates = [self.rates[1], self.rates[2], byte];
                self.wheel |= self.rates == KNOCK;
            }
            SET_RESOLUTION if byte < 4 => self.resolution = byte,
            _ => return self.answer(&[AGAIN]),
        }
        self.forget_movement();
        self.answer(&[ACK]);
    }
}

/// "Set Scaling 2:1": small counts are made smaller, others doubled.
fn double(count: i32) -> i32 {
    let scaled = match count.abs() {
        small @ 0..=1 => small,
        2 => 1,
        3 => 3,
        4 => 6,
        5 => 9,
        more => 2 * more,
    };
    scaled * count.signum()
}

#[cfg(test)]
mod tests {
    //! Expected values are those of IBM's technical reference (see the head of the file).

    use super::*;

    fn told(mouse: &mut Mouse) -> Vec<u8> {
        std::iter::from_fn(|| mouse.send()).collect()
    }

    fn ask(mouse: &mut Mouse, bytes: &[u8]) -> Vec<u8> {
        bytes
            .iter()
            .flat_map(|&byte| {
                mouse.command(byte);
                told(mouse)
            })
            .collect()
    }

    fn moved(right: i16, up: i16, buttons: u8) -> Movement {
        Movement { right, up, wheel: 0, buttons }
    }

    #[test]
    fn it_answers_its_commands() {
        let mut mouse = Mouse::new();
        for (sent, answers) in [
            (&[RESET][..], &[ACK, 0xaa, 0x00][..]),
            (&[READ_ID], &[ACK, 0]),
            (&[STATUS], &[ACK, 0x00, 2, 100]),
            (&[SET_RATE, 40], &[ACK, ACK]),
            (&[SET_RATE, 41], &[ACK, AGAIN]),
            (&[SET_RESOLUTION, 3], &[ACK, ACK]),
            (&[SET_RESOLUTION, 4], &[ACK, AGAIN]),
            (&[SCALE_2], &[ACK]),
            (&[ENABLE], &[ACK]),
            (&[STATUS], &[ACK, 0x30, 3, 40]),
            (&[SET_REMOTE], &[ACK]),
            (&[STATUS], &[ACK, 0x70, 3, 40]),
            (&[SET_DEFAULTS], &[ACK]),
            (&[STATUS], &[ACK, 0x00, 2, 100]),
            (&[0xe5], &[AGAIN]),
            (&[READ_ID, RESEND], &[ACK, 0, ACK, 0]),
            // a command in place of an argument
            (&[SET_RATE, STATUS], &[ACK, ACK, 0x00, 2, 100]),
        ] {
            assert_eq!(ask(&mut mouse, sent), answers, "{sent:x?}");
        }
    }

    #[test]
    fn movement_is_told_in_packets_of_three_while_reports_are_on() {
        let mut mouse = Mouse::new();
        mouse.move_by(moved(5, 5, 0));
        assert_eq!(told(&mut mouse), [], "not yet enabled");
        ask(&mut mouse, &[ENABLE]);
        mouse.move_by(moved(3, -2, button::LEFT));
        assert_eq!(told(&mut mouse), [0x29, 3, 0xfe]);
        mouse.move_by(moved(-1, 0, button::RIGHT | button::MIDDLE));
        assert_eq!(told(&mut mouse), [0x1e, 0xff, 0]);
        assert_eq!(told(&mut mouse), []);
        mouse.move_by(moved(-300, 511, 0));
        assert_eq!(told(&mut mouse), [0x18, 0x01, 0xff, 0x18, 0xd3, 0xff, 0x08, 0x00, 0x01]);
    }

    #[test]
    fn scaling_makes_small_movements_smaller_and_others_twice_as_far() {
        let mut mouse = Mouse::new();
        ask(&mut mouse, &[ENABLE, SCALE_2]);
        for (count, scaled) in [(1, 1), (2, 1), (3, 3), (4, 6), (5, 9), (6, 12), (-4, -6)] {
            mouse.move_by(moved(count, 0, 0));
            assert_eq!(told(&mut mouse)[1] as i8, scaled);
        }
    }

    #[test]
    fn in_remote_mode_it_speaks_when_asked() {
        let mut mouse = Mouse::new();
        ask(&mut mouse, &[ENABLE, SET_REMOTE]);
        mouse.move_by(moved(7, 8, 0));
        assert_eq!(told(&mut mouse), []);
        assert_eq!(ask(&mut mouse, &[READ_DATA]), [ACK, 0x08, 7, 8]);
        assert_eq!(ask(&mut mouse, &[READ_DATA]), [ACK, 0x08, 0, 0]);
    }

    #[test]
    fn in_wrap_mode_it_gives_bytes_back() {
        let mut mouse = Mouse::new();
        assert_eq!(ask(&mut mouse, &[SET_WRAP, 0x12, STATUS, RESET_WRAP]), [ACK, 0x12, STATUS, ACK]);
        assert_eq!(ask(&mut mouse, &[SET_WRAP, RESET]), [ACK, ACK, 0xaa, 0]);
        assert_eq!(ask(&mut mouse, &[READ_ID]), [ACK, 0]);
    }

    #[test]
    fn three_rates_in_a_row_make_it_a_mouse_with_a_wheel() {
        let mut mouse = Mouse::new();
        ask(&mut mouse, &[SET_RATE, 200, SET_RATE, 100, SET_RATE, 80]);
        assert_eq!(ask(&mut mouse, &[READ_ID, ENABLE]), [ACK, 3, ACK]);
        mouse.move_by(Movement { wheel: -1, ..moved(1, 0, 0) });
        assert_eq!(told(&mut mouse), [0x08, 1, 0, 0xff]);
        assert_eq!(ask(&mut mouse, &[RESET, READ_ID]), [ACK, 0xaa, 0, ACK, 0]);
    }
}
