//! The VBE "dispi" interface of Bochs and QEMU, ports 1CEh (index) and 1CFh (data), 16 bits each: modes of 8 to 32 bits
//! a pixel in a linear frame buffer, or through a window of 64 KiB at A0000h.
//!
//! After Bochs's "VBE Display Interface" document and QEMU's `docs/specs/standard-vga`. Resolutions are written without
//! check and hold as far as the video memory reaches; those of 4 bits a pixel as far as the VGA's 256 KiB do.

use crate::device::WideData;
use pagewalk_x86::bus::{Size, Ticks};
use serde::{Deserialize, Serialize};

/// Size of the video memory. The first 256 KiB are the VGA's.
pub const VIDEO_MEMORY: u64 = 16 << 20;

/// Size of each of the VGA's maps, which 4-bit modes use.
const MAP: u32 = 0x1_0000;

/// Version.
pub const ID: u16 = 0;
/// Width.
pub const XRES: u16 = 1;
/// Height.
pub const YRES: u16 = 2;
/// Bits a pixel: 4, 8, 15, 16, 24 or 32.
pub const BPP: u16 = 3;
/// Enable.
pub const ENABLE: u16 = 4;
/// Which 64 KiB are seen at A0000h.
pub const BANK: u16 = 5;
/// Pixels from one line to the next.
pub const VIRTUAL_WIDTH: u16 = 6;
/// Lines there is memory for.
pub const VIRTUAL_HEIGHT: u16 = 7;
/// First pixel shown.
pub const X_OFFSET: u16 = 8;
/// First line shown.
pub const Y_OFFSET: u16 = 9;
/// Size of the video memory in units of 64 KiB.
const MEMORY_64K: u16 = 10;

/// Enable: the mode is on.
pub const ENABLED: u16 = 1 << 0;
/// Enable: width, height and depth read as the greatest there are.
const CAPABILITIES: u16 = 1 << 1;
/// Enable: the DAC has 8 bits a colour.
const DAC_8_BITS: u16 = 1 << 5;
/// Enable: the frame buffer is wanted in one piece. It always is.
const LINEAR: u16 = 1 << 6;
/// Enable: memory is not cleared.
const KEEP_MEMORY: u16 = 1 << 7;

const ID_LATEST: u16 = 0xb0c5;
const ID_FIRST: u16 = 0xb0c0;
/// Bits a pixel that there are.
const DEPTHS: [u16; 6] = [4, 8, 15, 16, 24, 32];
const GREATEST_WIDTH: u16 = 16_000;
const GREATEST_HEIGHT: u16 = 12_000;

/// A mode that is on, as far as memory reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mode {
    /// Pixels in a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// Bits a pixel.
    pub depth: u16,
    /// Bytes from one line to the next; in 4-bit modes in each map.
    pub pitch: u32,
    /// Where in video memory the first pixel shown is; in 4-bit modes in each map.
    pub start: u32,
}

/// The index register.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Index(u16);

impl WideData for Index {
    fn read_wide(&mut self, _size: Size, _now: Ticks) -> u32 {
        self.0.into()
    }

    fn write_wide(&mut self, _size: Size, value: u32, _now: Ticks) {
        self.0 = value as u16;
    }
}

/// The registers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Dispi {
    /// Which register the data port is.
    pub index: Index,
    registers: [u16; 10],
}

impl Default for Dispi {
    fn default() -> Dispi {
        let mut registers = [0; 10];
        (registers[usize::from(ID)], registers[usize::from(BPP)]) = (ID_LATEST, 8);
        Dispi { index: Index::default(), registers }
    }
}

/// What a write asks of the rest of the adapter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// The DAC has this many bits a colour from now on; this much video memory is cleared.
    Switched { wide_dac: bool, clear: u64 },
}

impl Dispi {
    /// Whether the registers hold a shape that can be set.
    pub(super) fn is_sound(&self) -> bool {
        self.get(XRES) <= GREATEST_WIDTH
            && self.get(YRES) <= GREATEST_HEIGHT
            && self.get(VIRTUAL_WIDTH) <= GREATEST_WIDTH
            && DEPTHS.contains(&self.get(BPP))
    }

    fn get(&self, index: u16) -> u16 {
        self.registers[usize::from(index)]
    }

    fn set(&mut self, index: u16, value: u16) {
        self.registers[usize::from(index)] = value;
    }

    /// Whether a mode of 8 or more bits a pixel is on, in which memory is not in maps; then the bank at A0000h.
    pub fn bank(&self) -> Option<u64> {
        let packed = self.get(ENABLE) & ENABLED != 0 && self.get(BPP) != 4;
        packed.then(|| u64::from(self.get(BANK)) << 16 & (VIDEO_MEMORY - 1))
    }

    /// The mode that is on, if any.
    pub fn mode(&self) -> Option<Mode> {
        (self.get(ENABLE) & ENABLED != 0).then(|| self.shape()).flatten()
    }

    /// Bytes from line to line, and how many lines the memory holds.
    fn lines(&self) -> (u32, u32) {
        let width = u32::from(self.get(VIRTUAL_WIDTH).max(self.get(XRES)));
        let (pitch, memory) = match self.get(BPP) {
            4 => (width / 8, MAP),
            depth => (width * u32::from(depth.div_ceil(8)), VIDEO_MEMORY as u32),
        };
        (pitch, memory / pitch.max(1))
    }

    fn shape(&self) -> Option<Mode> {
        let depth = self.get(BPP);
        let (pitch, lines) = self.lines();
        let width = u32::from(self.get(XRES));
        // what does not fit is not shown
        let height = u32::from(self.get(YRES)).min(lines);
        let top = u32::from(self.get(Y_OFFSET)).min(lines - height);
        let across = u32::from(self.get(VIRTUAL_WIDTH).max(self.get(XRES))) - width;
        let left = u32::from(self.get(X_OFFSET)).min(across);
        let start = top * pitch + if depth == 4 { left / 8 } else { left * u32::from(depth.div_ceil(8)) };
        (width != 0 && height != 0 && pitch != 0).then_some(Mode { width, height, depth, pitch, start })
    }

    pub(super) fn read_data(&self) -> u16 {
        self.read(self.index.0)
    }

    pub(super) fn write_data(&mut self, value: u16) -> Effect {
        self.write(self.index.0, value)
    }

    /// A register; those that do not exist read as 0.
    pub(super) fn read(&self, index: u16) -> u16 {
        let capabilities = self.get(ENABLE) & CAPABILITIES != 0;
        match index {
            XRES if capabilities => GREATEST_WIDTH,
            YRES if capabilities => GREATEST_HEIGHT,
            BPP if capabilities => 32,
            VIRTUAL_HEIGHT if self.get(ENABLE) & ENABLED != 0 => self.lines().1.min(u16::MAX.into()) as u16,
            ID..=Y_OFFSET => self.get(index),
            MEMORY_64K => (VIDEO_MEMORY >> 16) as u16,
            _ => 0,
        }
    }

    pub(super) fn write(&mut self, index: u16, value: u16) -> Effect {
        match index {
            ID if (ID_FIRST..=ID_LATEST).contains(&value) => self.set(ID, value),
            XRES if value <= GREATEST_WIDTH => self.set(XRES, value),
            YRES if value <= GREATEST_HEIGHT => self.set(YRES, value),
            BPP if value == 0 => self.set(BPP, 8),
            BPP if DEPTHS.contains(&value) => self.set(BPP, value),
            BANK | X_OFFSET | Y_OFFSET => self.set(index, value),
            VIRTUAL_WIDTH => self.set(index, value.min(GREATEST_WIDTH)),
            ENABLE => return self.enable(value),
            _ => {}
        }
        Effect::None
    }

    fn enable(&mut self, value: u16) -> Effect {
        let was_on = self.get(ENABLE) & ENABLED != 0;
        let turns_on = value & ENABLED != 0 && !was_on;
        let kept = ENABLED | CAPABILITIES | DAC_8_BITS | LINEAR | KEEP_MEMORY;
        self.set(ENABLE, value & kept);
        let mut clear = 0;
        if turns_on {
            for (index, value) in [(VIRTUAL_WIDTH, self.get(XRES)), (X_OFFSET, 0), (Y_OFFSET, 0), (BANK, 0)] {
                self.set(index, value);
            }
            if value & KEEP_MEMORY == 0
                && let Some(mode) = self.shape()
            {
                clear = match mode.depth {
                    4 => 4 * u64::from(MAP),
                    _ => u64::from(mode.pitch) * u64::from(mode.height),
                };
            }
        }
        if value & ENABLED == 0 {
            self.set(BANK, 0);
        }
        Effect::Switched { wide_dac: value & DAC_8_BITS != 0 && value & ENABLED != 0, clear }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(width: u16, height: u16, depth: u16) -> Dispi {
        let mut dispi = Dispi::default();
        for (index, value) in [(XRES, width), (YRES, height), (BPP, depth), (ENABLE, 0x41)] {
            dispi.index.write_wide(Size::Word, index.into(), Ticks(0));
            dispi.write_data(value);
        }
        dispi
    }

    #[test]
    fn it_says_b0c5_and_takes_older_versions_only() {
        let mut dispi = Dispi::default();
        assert_eq!(dispi.read(ID), 0xb0c5);
        for (written, read) in [(0xb0c0, 0xb0c0), (0xb0c6, 0xb0c0), (0x1234, 0xb0c0), (0xb0c4, 0xb0c4)] {
            dispi.write(ID, written);
            assert_eq!(dispi.read(ID), read);
        }
        assert_eq!((dispi.read(MEMORY_64K), dispi.read(11)), (256, 0));
    }

    #[test]
    fn capabilities_are_read_in_place_of_the_mode() {
        let mut dispi = on(640, 480, 8);
        assert_eq!([XRES, YRES, BPP].map(|index| dispi.read(index)), [640, 480, 8]);
        dispi.write(ENABLE, 2);
        assert_eq!([XRES, YRES, BPP].map(|index| dispi.read(index)), [16_000, 12_000, 32]);
    }

    #[test]
    fn switching_on_resets_the_virtual_screen_and_clears_what_is_shown_unless_told_not_to() {
        let mut dispi = on(1024, 768, 16);
        assert_eq!((dispi.read(VIRTUAL_WIDTH), dispi.read(VIRTUAL_HEIGHT)), (1024, 8192));
        for (index, value) in [(VIRTUAL_WIDTH, 2048), (X_OFFSET, 100), (Y_OFFSET, 10), (BANK, 3)] {
            dispi.write(index, value);
        }
        let shown = Mode { width: 1024, height: 768, depth: 16, pitch: 4096, start: 10 * 4096 + 200 };
        assert_eq!((dispi.mode(), dispi.bank()), (Some(shown), Some(0x3_0000)));
        assert_eq!(dispi.read(VIRTUAL_HEIGHT), 4096);
        assert_eq!(dispi.write(ENABLE, 0), Effect::Switched { wide_dac: false, clear: 0 });
        assert_eq!((dispi.mode(), dispi.bank()), (None, None));
        let cleared = dispi.write(ENABLE, 0x61);
        assert_eq!(cleared, Effect::Switched { wide_dac: true, clear: 1024 * 768 * 2 });
        assert_eq!([VIRTUAL_WIDTH, X_OFFSET, Y_OFFSET, BANK].map(|r| dispi.read(r)), [1024, 0, 0, 0]);
        dispi.write(ENABLE, 0);
        assert_eq!(dispi.write(ENABLE, 0x81), Effect::Switched { wide_dac: false, clear: 0 });
    }

    #[test]
    fn a_mode_never_reaches_beyond_the_video_memory() {
        let mut dispi = on(16_000, 12_000, 32);
        for value in [0, 1, 0x7fff, 0xffff] {
            for index in [VIRTUAL_WIDTH, X_OFFSET, Y_OFFSET, BANK] {
                dispi.write(index, value);
            }
            let mode = dispi.mode().unwrap();
            let last = mode.start + (mode.height - 1) * mode.pitch + mode.width * 4;
            assert!(u64::from(last) <= VIDEO_MEMORY, "{mode:?}");
            assert!(dispi.bank().unwrap() < VIDEO_MEMORY);
        }
        dispi.write(XRES, 0);
        assert_eq!(dispi.mode(), None);
    }
}
