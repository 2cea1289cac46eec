//! The CRT controller, ports 3D4h and 3D5h (3B4h and 3B5h on a monochrome screen): timing, what of the maps is shown
//! where, the cursor.
//!
//! `Choice:` addresses of dwords take the counter's upper two bits as their lowest, as later adapters do, so that what is
//! written in chain-4 addressing is shown where it was written; IBM's table has bits 12 and 13 there.
//!
//! Left out: the vertical interrupt (PCI adapters do not wire it), skews, blanking, the light pen.

use super::{DATA, INDEX};
use pagewalk_x86::bus::Ticks;
use serde::{Deserialize, Serialize};

/// Horizontal total.
pub const HORIZONTAL_TOTAL: usize = 0x00;
/// End of horizontal display.
pub const HORIZONTAL_END: usize = 0x01;
/// Vertical total.
const VERTICAL_TOTAL: usize = 0x06;
/// Overflow: upper bits of vertical registers.
const OVERFLOW: usize = 0x07;
/// Preset row scan and byte panning.
pub const PRESET_ROW: usize = 0x08;
/// Maximum scan line, and more.
pub const MAXIMUM_SCAN_LINE: usize = 0x09;
/// Cursor start, and whether it is off.
pub const CURSOR_START: usize = 0x0a;
/// Cursor end.
pub const CURSOR_END: usize = 0x0b;
const START_HIGH: usize = 0x0c;
const CURSOR_HIGH: usize = 0x0e;
const RETRACE_START: usize = 0x10;
/// The vertical retrace end, whose bit 7 protects registers 0 to 7.
const RETRACE_END: usize = 0x11;
const VERTICAL_END: usize = 0x12;
/// Offset: half the difference of two rows' addresses.
const OFFSET: usize = 0x13;
/// Underline location, and how addresses count.
pub const UNDERLINE: usize = 0x14;
/// Mode control.
pub const MODE: usize = 0x17;
const LINE_COMPARE: usize = 0x18;

const PROTECT: u8 = 1 << 7;
/// The one bit that is not protected: bit 8 of the line compare.
const OVERFLOW_COMPARE: u8 = 1 << 4;
/// Underline location: the address counts every fourth character.
const COUNT_BY_4: u8 = 1 << 5;
/// Underline location: addresses are of dwords.
const DWORDS: u8 = 1 << 6;
/// Mode: 0 puts row scan bit 0 on address bit 13.
const LINEAR_13: u8 = 1 << 0;
/// Mode: 0 puts row scan bit 1 on address bit 14.
const LINEAR_14: u8 = 1 << 1;
/// Mode: lines are counted in pairs.
const LINE_PAIRS: u8 = 1 << 2;
/// Mode: the address counts every second character.
const COUNT_BY_2: u8 = 1 << 3;
/// Mode: address bit 0 of words is counter bit 15, else bit 13.
const WRAP_15: u8 = 1 << 5;
/// Mode: addresses are of bytes, else of words.
const BYTES: u8 = 1 << 6;

/// The bits of each register that exist.
#[rustfmt::skip]
const BITS: [u8; 25] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0x3f, 0x7f, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xef, 0xff,
];

/// Status 1: not displaying, be it for a retrace or a border.
const STATUS_BLANK: u8 = 1 << 0;
/// Status 1: vertical retrace.
const STATUS_VERTICAL: u8 = 1 << 3;

/// A frame at 70 Hz, its last part the vertical retrace, and a line at 31.5 kHz, its last fifth blank: shown when the
/// registers describe no frame with a retrace.
const FRAME: u64 = 14_268_000;
const RETRACE: u64 = 1_500_000;
const LINE: u64 = 31_778;

/// How fast dots come, and how many make a character.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    /// Dots a second.
    pub hertz: u64,
    /// Dots in a character.
    pub dots: u64,
}

/// The registers of the CRT controller.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Crtc {
    index: u8,
    registers: [u8; 25],
}

impl Crtc {
    /// Whether no bit is set that does not exist.
    pub(super) fn is_sound(&self) -> bool {
        self.registers.iter().zip(BITS).all(|(value, bits)| value & !bits == 0)
    }

    /// A register.
    pub fn register(&self, index: usize) -> u8 {
        self.registers[index]
    }

    /// Sets a register as a video BIOS would have.
    pub fn set_register(&mut self, index: usize, value: u8) {
        if let (Some(register), Some(bits)) = (self.registers.get_mut(index), BITS.get(index)) {
            *register = value & bits;
        }
    }

    fn pair(&self, high: usize) -> u16 {
        u16::from_be_bytes([self.registers[high], self.registers[high + 1]])
    }

    /// A vertical register of ten bits: its upper two are in the overflow register.
    fn vertical(&self, low: usize, bit_8: u8, bit_9: u8) -> u32 {
        let overflow = u32::from(self.registers[OVERFLOW]);
        u32::from(self.registers[low]) | (overflow >> bit_8 & 1) << 8 | (overflow >> bit_9 & 1) << 9
    }

    /// The address counter at the upper left corner.
    pub fn display_start(&self) -> u16 {
        self.pair(START_HIGH).wrapping_add(u16::from(self.registers[PRESET_ROW] >> 5 & 3))
    }

    /// The address counter where the cursor is.
    pub fn cursor(&self) -> u16 {
        self.pair(CURSOR_HIGH)
    }

    /// What the address counter gains from row to row.
    pub fn row(&self) -> u16 {
        2 * u16::from(self.registers[OFFSET])
    }

    /// Characters in a line.
    pub fn columns(&self) -> u32 {
        u32::from(self.registers[HORIZONTAL_END]) + 1
    }

    /// Lines shown.
    pub fn lines(&self) -> u32 {
        let lines = self.vertical(VERTICAL_END, 1, 6) + 1;
        if self.registers[MODE] & LINE_PAIRS != 0 { 2 * lines } else { lines }
    }

    /// The line behind which the address counter starts from 0.
    pub fn line_compare(&self) -> u32 {
        self.vertical(LINE_COMPARE, 4, 31) | u32::from(self.registers[MAXIMUM_SCAN_LINE] >> 6 & 1) << 9
    }

    /// Scan lines in a row.
    pub fn row_height(&self) -> u8 {
        (self.registers[MAXIMUM_SCAN_LINE] & 0x1f) + 1
    }

    /// Whether each scan line is shown twice.
    pub fn doubles_lines(&self) -> bool {
        self.registers[MAXIMUM_SCAN_LINE] & 0x80 != 0
    }

    /// What the address counter gains up to a character.
    pub fn count(&self, column: u32) -> u16 {
        let every = match (self.registers[UNDERLINE] & COUNT_BY_4, self.registers[MODE] & COUNT_BY_2) {
            (0, 0) => 1,
            (0, _) => 2,
            _ => 4,
        };
        (column / every) as u16
    }

    /// The address in the maps of a value of the address counter, in a scan line of a row.
    pub fn address(&self, counter: u16, row_scan: u8) -> u16 {
        let mode = self.registers[MODE];
        let address = if self.registers[UNDERLINE] & DWORDS != 0 {
            counter.rotate_left(2)
        } else if mode & BYTES != 0 {
            counter
        } else {
            let wrap = if mode & WRAP_15 != 0 { 15 } else { 13 };
            counter << 1 | counter >> wrap & 1
        };
        let replace =
            |address: u16, bit: u8, with: u8| address & !(1 << bit) | u16::from(row_scan >> with & 1) << bit;
        let address = if mode & LINEAR_13 == 0 { replace(address, 13, 0) } else { address };
        if mode & LINEAR_14 == 0 { replace(address, 14, 1) } else { address }
    }

    /// The retrace bits of input status 1.
    pub(super) fn status(&self, now: Ticks, clock: Clock) -> u8 {
        let (vertical, blank) = self.beam(now, clock);
        if vertical { STATUS_VERTICAL | STATUS_BLANK } else { u8::from(blank) * STATUS_BLANK }
    }

    /// Where the beam is: in the vertical retrace, outside of what is shown.
    fn beam(&self, now: Ticks, clock: Clock) -> (bool, bool) {
        let line = (u64::from(self.registers[HORIZONTAL_TOTAL]) + 5) * clock.dots;
        let total = u64::from(self.vertical(VERTICAL_TOTAL, 0, 5)) + 2;
        let start = u64::from(self.vertical(RETRACE_START, 2, 7));
        let end = u64::from(self.registers[RETRACE_END] & 0x0f);
        // the end is compared with the counter's lowest four bits
        let length = (end.wrapping_sub(start).wrapping_sub(1) & 0x0f) + 1;
        if start >= total || self.lines() < 2 {
            let vertical = now.0 % FRAME >= FRAME - RETRACE;
            return (vertical, vertical || now.0 % FRAME % LINE >= LINE - LINE / 5);
        }
        let pairs = if self.registers[MODE] & LINE_PAIRS != 0 { 2 } else { 1 };
        let dot = (u128::from(now.0) * u128::from(clock.hertz) / 1_000_000_000
            % u128::from(line * total * pairs)) as u64;
        let (y, x) = (dot / line, dot % line / clock.dots);
        let vertical = (start..start + length).contains(&(y / pairs));
        (vertical, vertical || y >= u64::from(self.lines()) || x >= u64::from(self.columns()))
    }

    fn is_protected(&self) -> bool {
        self.registers[RETRACE_END] & PROTECT != 0
    }

    pub(super) fn read8(&self, offset: u16) -> u8 {
        match offset {
            INDEX => self.index,
            DATA => self.registers.get(usize::from(self.index)).copied().unwrap_or(0),
            _ => 0xff,
        }
    }

    pub(super) fn write8(&mut self, offset: u16, value: u8) {
        let index = usize::from(self.index);
        match offset {
            INDEX => self.index = value & 0x3f,
            DATA if index < OVERFLOW && self.is_protected() => {}
            DATA if index == OVERFLOW && self.is_protected() => {
                let kept = self.registers[OVERFLOW] & !OVERFLOW_COMPARE;
                self.registers[OVERFLOW] = kept | value & OVERFLOW_COMPARE;
            }
            DATA => self.set_register(index, value),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::modes::{CRTC_TEXT_80, CRTC_UNSET};
    use super::*;

    const DOTS_9: Clock = Clock { hertz: 28_322_000, dots: 9 };

    fn with(registers: &[u8]) -> Crtc {
        let mut crtc = Crtc::default();
        for (index, &value) in registers.iter().enumerate() {
            crtc.set_register(index, value);
        }
        crtc
    }

    fn put(crtc: &mut Crtc, index: u8, value: u8) {
        crtc.write8(INDEX, index);
        crtc.write8(DATA, value);
    }

    #[test]
    fn start_and_cursor_are_two_registers_each() {
        let mut crtc = Crtc::default();
        for (index, value) in [(0x0c, 0x01), (0x0d, 0x40), (0x0e, 0x07), (0x0f, 0xcf)] {
            put(&mut crtc, index, value);
            assert_eq!(crtc.read8(DATA), value);
        }
        assert_eq!((crtc.display_start(), crtc.cursor()), (0x140, 1999));
    }

    #[test]
    fn bit_7_of_register_11_protects_registers_0_to_7_but_for_the_line_compare() {
        let mut crtc = Crtc::default();
        put(&mut crtc, 0x11, 0x80);
        for index in 0..=0x18 {
            if index != 0x11 {
                put(&mut crtc, index, 0xff);
            }
        }
        for index in 0..7 {
            assert_eq!(crtc.register(index), 0);
        }
        assert_eq!((crtc.register(7), crtc.register(0x18)), (0x10, 0xff));
        put(&mut crtc, 0x11, 0x00);
        put(&mut crtc, 0x00, 0x5f);
        assert_eq!(crtc.register(0), 0x5f);
    }

    #[test]
    fn text_mode_3_has_720_by_400_dots() {
        let crtc = with(&CRTC_TEXT_80);
        assert_eq!((crtc.columns() * 9, crtc.lines()), (720, 400));
        assert_eq!((crtc.row_height(), crtc.row(), crtc.line_compare()), (16, 80, 0x3ff));
        assert_eq!((crtc.address(0, 3), crtc.address(1, 3), crtc.address(1999, 15)), (0, 2, 3998));
    }

    #[test]
    fn addresses_are_of_bytes_words_or_dwords_and_may_take_bits_of_the_row_scan() {
        // mode 6 of the CGA: bytes, odd lines 8 KiB on
        let mut crtc = with(&CRTC_UNSET);
        crtc.set_register(MODE, 0xc2);
        assert_eq!((crtc.address(0x50, 0), crtc.address(0x50, 1)), (0x50, 0x2050));
        // mode 4: words
        crtc.set_register(MODE, 0xa2);
        assert_eq!((crtc.address(0x28, 0), crtc.address(0x28, 1)), (0x50, 0x2050));
        // counter bit 13 or 15 as address bit 0
        crtc.set_register(MODE, 0x83);
        assert_eq!((crtc.address(0x2001, 0), crtc.address(0x8001, 0)), (0x4003, 0x0002));
        crtc.set_register(MODE, 0xa3);
        assert_eq!((crtc.address(0x2001, 0), crtc.address(0x8001, 0)), (0x4002, 0x0003));
        // mode 13h: dwords
        crtc.set_register(UNDERLINE, 0x40);
        assert_eq!(crtc.address(80, 0), 320);
    }

    #[test]
    fn the_retrace_bit_comes_and_goes_70_times_a_second() {
        // 28.322 MHz / (900 dots * 449 lines) = 70.09 Hz
        for crtc in [with(&CRTC_TEXT_80), Crtc::default()] {
            let mut edges = 0;
            let mut was = false;
            for at in (0..1_000_000_000).step_by(20_000) {
                let is = crtc.status(Ticks(at), DOTS_9) & STATUS_VERTICAL != 0;
                edges += u32::from(is && !was);
                was = is;
            }
            assert_eq!(edges, 70);
        }
    }

    #[test]
    fn the_beam_is_blank_for_49_of_449_lines_and_a_fifth_of_each_line() {
        // of 449 lines 400 are shown and two are the vertical retrace (9C to 9E); of 100 characters 80
        let crtc = with(&CRTC_TEXT_80);
        let clock = Clock { hertz: 1_000_000_000, dots: 9 };
        let (mut blank, mut vertical) = (0, 0);
        for at in (0..900 * 449).step_by(9) {
            let status = crtc.status(Ticks(at), clock);
            blank += u32::from(status & STATUS_BLANK != 0);
            vertical += u32::from(status & STATUS_VERTICAL != 0);
        }
        assert_eq!((blank, vertical), (49 * 100 + 400 * 20, 2 * 100));
    }
}
