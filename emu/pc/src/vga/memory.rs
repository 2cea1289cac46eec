//! The way between the processor and the four memory maps: IBM's write modes 0 to 3, read modes 0 and 1, latches, and
//! the three ways in which addresses are spread over the maps.
//!
//! The maps are kept in the first 256 KiB of the video memory such that the four bytes of one address lie side by side,
//! and that in chain-4 addressing, where addresses go round the maps, consecutive addresses are consecutive bytes. So mode 13h is
//! plain memory, which the processor reads and writes without asking here.
//!
//! `Choice:` such plain reads do not load the latches, which nobody looks at in chain-4 addressing. The page bit of the
//! miscellaneous output register and address bit 16 do not become address bit 0 in odd/even addressing, which is 0.

use super::graphics::{
    BIT_MASK, CHAIN_ODD_EVEN, COLOR_COMPARE, COLOR_DONT_CARE, DATA_ROTATE, ENABLE_SET_RESET, MODE, ODD_EVEN,
    READ_COMPARE, READ_MAP, SET_RESET,
};
use super::sequencer::{CHAIN_4, MAP_MASK, MEMORY_MODE, SEQUENTIAL};
use super::{MISC_MEMORY, Vga};
use pagewalk_x86::bus::Size;
use pagewalk_x86::ram::Ram;

/// Where the window of plain memory is, and how long.
pub const PLAIN_WINDOW: std::ops::Range<u64> = 0xa_0000..0xb_0000;

/// Where in the video memory the four maps' bytes of an address are.
pub fn group(address: u16) -> usize {
    usize::from(address & !3) | usize::from(address & 3) << 16
}

/// The four maps' bytes of an address, map 0 lowest.
pub fn maps(memory: &[u8], address: u16) -> [u8; 4] {
    let at = group(address);
    memory.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default()
}

/// Four bits, one a map, to four bytes of eight equal bits.
fn spread(bits: u8) -> u32 {
    const BYTES: [u32; 16] = {
        let mut bytes = [0; 16];
        let mut bits = 0;
        while bits < 16 {
            let mut map = 0;
            while map < 4 {
                if bits >> map & 1 != 0 {
                    bytes[bits] |= 0xff << (8 * map);
                }
                map += 1;
            }
            bits += 1;
        }
        bytes
    };
    BYTES[usize::from(bits & 0x0f)]
}

/// A byte in each map.
fn all(byte: u8) -> u32 {
    u32::from(byte) * 0x0101_0101
}

/// An access: the address in the maps, and which maps its lowest bits choose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Target {
    address: u16,
    /// The maps that can be written.
    writable: u8,
    /// The map that is read.
    read: u8,
}

impl Vga {
    /// How addresses of the window go to the maps.
    fn target(&self, within: u64) -> Target {
        let low = within as u8;
        let mode = self.sequencer.register(MEMORY_MODE);
        if mode & CHAIN_4 != 0 {
            return Target { address: within as u16 & !3, writable: 1 << (low & 3), read: low & 3 };
        }
        let chained = self.graphics.register(super::graphics::MISCELLANEOUS) & CHAIN_ODD_EVEN != 0;
        let map = self.graphics.register(READ_MAP);
        Target {
            address: if chained { within as u16 & !1 } else { within as u16 },
            writable: match (mode & SEQUENTIAL, low & 1) {
                (0, 0) => 0b0101,
                (0, _) => 0b1010,
                _ => 0b1111,
            },
            read: if self.graphics.register(MODE) & ODD_EVEN != 0 { map & 2 | low & 1 } else { map },
        }
    }

    /// Which part of the video memory stands at A0000h to AFFFFh as plain memory, if it does.
    pub fn plain_window(&self) -> Option<u64> {
        if let Some(bank) = self.dispi.bank() {
            return Some(bank);
        }
        let graphics = |index| self.graphics.register(index);
        let plain = self.misc & MISC_MEMORY != 0
            && self.graphics.window().0 == PLAIN_WINDOW.start
            && self.sequencer.register(MEMORY_MODE) & CHAIN_4 != 0
            && self.sequencer.register(MAP_MASK) == 0x0f
            && graphics(MODE) & (READ_COMPARE | 3) == 0
            && graphics(DATA_ROTATE) == 0
            && graphics(ENABLE_SET_RESET) == 0
            && graphics(BIT_MASK) == 0xff;
        plain.then_some(0)
    }

    /// The offset in the window of an address, if it is in the window.
    fn within(&self, at: u64) -> Option<u64> {
        let (start, len) = self.graphics.window();
        let within = at.checked_sub(start)?;
        (within < len && self.misc & MISC_MEMORY != 0 && self.dispi.bank().is_none()).then_some(within)
    }

    fn colour_compare(&self, latch: u32) -> u8 {
        let cares = spread(self.graphics.register(COLOR_DONT_CARE));
        let differs = (latch ^ spread(self.graphics.register(COLOR_COMPARE))) & cares;
        let [a, b, c, d] = differs.to_le_bytes();
        !(a | b | c | d)
    }

    /// What a read of a byte gives, and the latches it loads.
    fn fetch(&self, memory: &[u8], within: u64) -> (u8, u32) {
        let target = self.target(within);
        let bytes = maps(memory, target.address);
        let latch = u32::from_le_bytes(bytes);
        let value = if self.graphics.register(MODE) & READ_COMPARE != 0 {
            self.colour_compare(latch)
        } else {
            bytes[usize::from(target.read & 3)]
        };
        (value, latch)
    }

    /// What goes into the maps when the processor writes a byte.
    fn compose(&self, value: u8) -> u32 {
        let register = |index| self.graphics.register(index);
        let rotate = register(DATA_ROTATE);
        let rotated = value.rotate_right(u32::from(rotate & 7));
        let set = spread(register(SET_RESET));
        let mask = all(register(BIT_MASK));
        let (data, mask) = match register(MODE) & 3 {
            0 => {
                let enabled = spread(register(ENABLE_SET_RESET));
                (all(rotated) & !enabled | set & enabled, mask)
            }
            1 => return self.latch,
            2 => (spread(value), mask),
            _ => (set, mask & all(rotated)),
        };
        let data = match rotate >> 3 & 3 {
            0 => data,
            1 => data & self.latch,
            2 => data | self.latch,
            _ => data ^ self.latch,
        };
        data & mask | self.latch & !mask
    }

    fn write_byte(&mut self, ram: &mut Ram, base: usize, within: u64, value: u8) {
        let target = self.target(within);
        let maps = spread(target.writable & self.sequencer.register(MAP_MASK));
        let data = self.compose(value);
        let at = base + group(target.address);
        let old = u32::from_le_bytes(ram.read::<4>(at));
        let new = old & !maps | data & maps;
        if new != old {
            ram.write(at, &new.to_le_bytes());
        }
    }

    /// The processor reads from A0000h to BFFFFh; the video memory begins at `base` of `ram`.
    pub fn read_memory(&mut self, ram: &Ram, base: usize, at: u64, size: Size) -> u32 {
        let mut value = 0;
        for byte in 0..size.bytes() {
            let read = match self.within(at + u64::from(byte)) {
                Some(within) => {
                    let (read, latch) = self.fetch(ram.slice(base, 0x4_0000), within);
                    self.latch = latch;
                    read
                }
                None => 0xff,
            };
            value |= u32::from(read) << (8 * byte);
        }
        value
    }

    /// What the processor would read at an address, without loading the latches.
    pub fn peek_memory(&self, ram: &Ram, base: usize, at: u64) -> u8 {
        self.within(at).map_or(0xff, |within| self.fetch(ram.slice(base, 0x4_0000), within).0)
    }

    /// The processor writes to A0000h to BFFFFh.
    pub fn write_memory(&mut self, ram: &mut Ram, base: usize, at: u64, size: Size, value: u32) {
        for byte in 0..size.bytes() {
            if let Some(within) = self.within(at + u64::from(byte)) {
                self.write_byte(ram, base, within, (value >> (8 * byte)) as u8);
            }
        }
    }
}
