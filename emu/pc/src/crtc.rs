//! The CRT controller's registers of a VGA in a colour text mode, ports 3D4h and 3D5h, and status register 1 at 3DAh.
//!
//! Only what a text console needs: the registers hold what is written, the display start and the cursor are shown to
//! the host, and the retrace bits follow the time. Nothing of the rest of a VGA is there: no graphics modes, no
//! sequencer, no palette, no font.

use crate::device::PortDevice;
use pagewalk_x86::bus::Ticks;

// Offsets from port 3D4h.
const INDEX: u16 = 0;
const DATA: u16 = 1;
const STATUS: u16 = 6;

const REGISTERS: usize = 0x19;
const START_HIGH: usize = 0x0c;
const CURSOR_HIGH: usize = 0x0e;
/// The vertical retrace end, whose bit 7 protects registers 0 to 7.
const PROTECT: usize = 0x11;

const STATUS_BLANK: u8 = 1 << 0;
const STATUS_VERTICAL: u8 = 1 << 3;

/// A frame at 70 Hz, its last part the vertical retrace; a line at 31.5 kHz, its last fifth blank.
const FRAME: u64 = 14_268_000;
const RETRACE: u64 = 1_500_000;
const LINE: u64 = 31_778;

/// The registers of the CRT controller.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Crtc {
    index: u8,
    registers: [u8; REGISTERS],
}

impl Crtc {
    fn pair(&self, high: usize) -> u16 {
        u16::from_be_bytes([self.registers[high], self.registers[high + 1]])
    }

    /// Which character cell of the text window stands in the upper left corner.
    pub fn display_start(&self) -> u16 {
        self.pair(START_HIGH)
    }

    /// Which character cell the cursor is on.
    pub fn cursor(&self) -> u16 {
        self.pair(CURSOR_HIGH)
    }

    /// Sets a register as a video BIOS would have.
    pub fn set_register(&mut self, index: u8, value: u8) {
        if let Some(register) = self.registers.get_mut(usize::from(index)) {
            *register = value;
        }
    }
}

impl PortDevice for Crtc {
    fn read8(&mut self, offset: u16, now: Ticks) -> u8 {
        match offset {
            INDEX => self.index,
            DATA => self.registers.get(usize::from(self.index)).copied().unwrap_or(0),
            STATUS => {
                let vertical = now.0 % FRAME >= FRAME - RETRACE;
                let horizontal = now.0 % FRAME % LINE >= LINE - LINE / 5;
                let blank = if vertical || horizontal { STATUS_BLANK } else { 0 };
                blank | if vertical { STATUS_VERTICAL } else { 0 }
            }
            _ => 0xff,
        }
    }

    fn write8(&mut self, offset: u16, value: u8, _now: Ticks) {
        match offset {
            INDEX => self.index = value & 0x1f,
            DATA if self.index < 8 && self.registers[PROTECT] & 0x80 != 0 => {}
            DATA => self.set_register(self.index, value),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_and_cursor_are_two_registers_each() {
        let mut crtc = Crtc::default();
        for (index, value) in [(0x0c, 0x01), (0x0d, 0x40), (0x0e, 0x07), (0x0f, 0xcf)] {
            crtc.write8(INDEX, index, Ticks(0));
            crtc.write8(DATA, value, Ticks(0));
            assert_eq!(crtc.read8(DATA, Ticks(0)), value);
        }
        assert_eq!((crtc.display_start(), crtc.cursor()), (0x140, 1999));
    }

    #[test]
    fn bit_7_of_register_11_protects_registers_0_to_7() {
        let mut crtc = Crtc::default();
        for (index, value) in [(0x11, 0x80), (0x00, 0x5f), (0x1f, 0x12)] {
            crtc.write8(INDEX, index, Ticks(0));
            crtc.write8(DATA, value, Ticks(0));
        }
        crtc.write8(INDEX, 0, Ticks(0));
        assert_eq!(crtc.read8(DATA, Ticks(0)), 0);
    }

    #[test]
    fn the_retrace_bit_comes_and_goes_70_times_a_second() {
        let mut crtc = Crtc::default();
        let mut edges = 0;
        let mut was = false;
        for at in (0..1_000_000_000).step_by(500_000) {
            let is = crtc.read8(STATUS, Ticks(at)) & STATUS_VERTICAL != 0;
            edges += u32::from(is && !was);
            was = is;
        }
        assert_eq!(edges, 70);
    }
}
