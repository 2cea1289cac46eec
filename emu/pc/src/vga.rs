//! The VGA, after IBM's PS/2 Hardware Interface Technical Reference, "Video Subsystem" (1992), with the VBE "dispi"
//! interface of Bochs and QEMU.
//!
//! | part | ports | file |
//! |---|---|---|
//! | general registers | 3C2h, 3CAh, 3CCh, 3DAh | here |
//! | attribute controller | 3C0h, 3C1h | `attribute` |
//! | sequencer | 3C4h, 3C5h | `sequencer` |
//! | DAC | 3C6h - 3C9h | `dac` |
//! | graphics controller | 3CEh, 3CFh | `graphics` |
//! | CRT controller | 3D4h, 3D5h | `crtc` |
//! | VBE | 1CEh, 1CFh | `dispi` |
//! | memory maps | A0000h - BFFFFh | `memory` |
//!
//! The video memory itself is a part of the board's memory, so that a linear frame buffer is as fast as RAM; whoever
//! reads or writes it here is given it. What is shown is computed when somebody looks: `picture` in dots, `text` in
//! characters.
//!
//! Left out: the vertical interrupt, the feature connector, switch sense but for a colour monitor, and blinking.

pub mod attribute;
pub mod crtc;
pub mod dac;
pub mod dispi;
pub mod font;
pub mod graphics;
pub mod memory;
pub mod modes;
pub mod picture;
pub mod registers;
pub mod sequencer;
pub mod text;

use crate::device::{PortDevice, WideData};
use attribute::Attribute;
use crtc::{Clock, Crtc};
use dac::Dac;
use dispi::{Dispi, Effect};
use graphics::Graphics;
use pagewalk_x86::bus::{Size, Ticks};
use pagewalk_x86::image::Damaged;
use sequencer::{CLOCKING, EIGHT_DOTS, HALF_CLOCK, Sequencer};
use serde::{Deserialize, Serialize};

// Offsets from the first port of a pair.
const INDEX: u16 = 0;
const DATA: u16 = 1;

/// The first of the ports, for the chip's offset 0.
pub const FIRST_PORT: u16 = 0x3b0;
// Offsets from port 3B0h.
const ATTRIBUTE: u16 = 0x10;
const ATTRIBUTE_DATA: u16 = 0x11;
const MISC_OR_STATUS_0: u16 = 0x12;
const SEQUENCER: u16 = 0x14;
const DAC: u16 = 0x16;
const FEATURE_READ: u16 = 0x1a;
const MISC_READ: u16 = 0x1c;
const GRAPHICS: u16 = 0x1e;
/// CRT controller, from the first port of a monochrome (0) or colour (20h) screen.
const CRTC: u16 = 0x04;
const STATUS_1: u16 = 0x0a;
const COLOUR: u16 = 0x20;

/// Miscellaneous output: the colour screen's ports, not the monochrome one's.
pub const MISC_COLOUR: u8 = 1 << 0;
/// Miscellaneous output: the processor sees the memory.
pub const MISC_MEMORY: u8 = 1 << 1;
const MISC_CLOCK: u8 = 3 << 2;
const MISC_BITS: u8 = 0xef;
/// Input status 0: a colour monitor is there.
const STATUS_0: u8 = 1 << 4;

/// The adapter.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Vga {
    misc: u8,
    feature: u8,
    /// Sequencer.
    pub sequencer: Sequencer,
    /// Graphics controller.
    pub graphics: Graphics,
    /// Attribute controller.
    pub attribute: Attribute,
    /// DAC.
    pub dac: Dac,
    /// CRT controller.
    pub crtc: Crtc,
    /// VBE interface.
    pub dispi: Dispi,
    /// The four maps' latches, map 0 lowest.
    latch: u32,
    /// How much of the video memory is to be cleared.
    clear: u64,
}

impl Vga {
    /// Refuses what the adapter's parts can't hold.
    pub(crate) fn check(&self) -> Result<(), Damaged> {
        let parts = self.sequencer.is_sound()
            && self.graphics.is_sound()
            && self.attribute.is_sound()
            && self.dac.is_sound()
            && self.crtc.is_sound()
            && self.dispi.is_sound();
        Damaged::unless(parts, "the display adapter")
    }

    /// The miscellaneous output register is written.
    pub fn set_misc(&mut self, value: u8) {
        self.misc = value & MISC_BITS;
    }

    /// How much of the video memory, from its beginning, is to be cleared; asking takes it as done.
    pub fn take_clear(&mut self) -> Option<u64> {
        let clear = std::mem::take(&mut self.clear);
        (clear != 0).then_some(clear)
    }

    fn clock(&self) -> Clock {
        let hertz = if self.misc & MISC_CLOCK == 0 { 25_175_000 } else { 28_322_000 };
        let clocking = self.sequencer.register(CLOCKING);
        let dots = if clocking & EIGHT_DOTS != 0 { 8 } else { 9 };
        Clock { hertz, dots: if clocking & HALF_CLOCK != 0 { 2 * dots } else { dots } }
    }

    /// The offset from the CRT controller's first port, if the offset is one of those that are switched on.
    fn switched(&self, offset: u16) -> Option<u16> {
        let base = if self.misc & MISC_COLOUR != 0 { COLOUR } else { 0 };
        offset.checked_sub(base).filter(|offset| (CRTC..=STATUS_1).contains(offset))
    }

    fn carry_out(&mut self, effect: Effect) {
        if let Effect::Switched { wide_dac, clear } = effect {
            self.dac.set_wide(wide_dac);
            self.clear = self.clear.max(clear);
        }
    }
}

/// Ports 3B0h to 3DFh.
impl PortDevice for Vga {
    fn read8(&mut self, offset: u16, now: Ticks) -> u8 {
        match offset {
            ATTRIBUTE => self.attribute.read_index(),
            ATTRIBUTE_DATA => self.attribute.read_data(),
            MISC_OR_STATUS_0 => STATUS_0,
            SEQUENCER..DAC => self.sequencer.read8(offset - SEQUENCER),
            DAC..FEATURE_READ => self.dac.read8(offset - DAC),
            FEATURE_READ => self.feature,
            MISC_READ => self.misc,
            GRAPHICS..COLOUR => self.graphics.read8(offset - GRAPHICS),
            _ => match self.switched(offset) {
                Some(STATUS_1) => {
                    self.attribute.expect_index();
                    self.crtc.status(now, self.clock())
                }
                Some(offset) => self.crtc.read8(offset - CRTC),
                None => 0xff,
            },
        }
    }

    fn write8(&mut self, offset: u16, value: u8, _now: Ticks) {
        match offset {
            ATTRIBUTE => self.attribute.write8(value),
            MISC_OR_STATUS_0 => self.set_misc(value),
            SEQUENCER..DAC => self.sequencer.write8(offset - SEQUENCER, value),
            DAC..FEATURE_READ => self.dac.write8(offset - DAC, value),
            GRAPHICS..COLOUR => self.graphics.write8(offset - GRAPHICS, value),
            _ => match self.switched(offset) {
                Some(STATUS_1) => self.feature = value & 0x0b,
                Some(offset) => self.crtc.write8(offset - CRTC, value),
                None => {}
            },
        }
    }
}

/// The VBE data register, port 1CFh.
impl WideData for Vga {
    fn read_wide(&mut self, _size: Size, _now: Ticks) -> u32 {
        self.dispi.read_data().into()
    }

    fn write_wide(&mut self, _size: Size, value: u32, _now: Ticks) {
        let effect = self.dispi.write_data(value as u16);
        self.carry_out(effect);
    }
}

#[cfg(test)]
mod tests;
