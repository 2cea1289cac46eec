//! Places: translated operands. Loading and storing at one cannot fail.

use std::marker::PhantomData;

use crate::bus::{Bus, Phys, Size, Ticks};
use crate::cpu::Cpu;
use crate::observe::{Io, Observer};
use crate::width::Cell;

/// Where one page's part of an access leads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Spot(u64);

/// Device registers (or writes to ROM): the rest is a physical address.
const DEVICE: u64 = 1 << 63;
/// Memory whose stores must be reported; the rest is an offset into it.
const WATCHED: u64 = 1 << 62;
/// Set in the first of two spots.
const ACROSS: u64 = 1 << 61;
const SLOW: u64 = DEVICE | WATCHED | ACROSS;

impl std::fmt::Debug for Spot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Spot({:#x})", self.0)
    }
}

impl Spot {
    /// Memory at this offset.
    #[inline(always)]
    pub fn ram(offset: u64) -> Spot {
        Spot(offset)
    }
    /// Memory at this offset whose stores must be reported.
    pub fn watched(offset: u64) -> Spot {
        Spot(offset | WATCHED)
    }
    /// Device registers at this physical address.
    pub fn device(at: Phys) -> Spot {
        Spot(at.0 | DEVICE)
    }
    /// So many bytes further on, in the same page.
    #[inline(always)]
    pub(super) fn plus(self, bytes: u64) -> Spot {
        Spot(self.0 + bytes)
    }
    /// The offset into memory, unless it is a device.
    pub fn offset(self) -> Option<usize> {
        (self.0 & DEVICE == 0).then_some((self.0 & !SLOW) as usize)
    }
    fn phys(self) -> Phys {
        Phys(self.0 & !SLOW)
    }
}

/// A translated operand of type `W`: in one page, or across two.
#[derive(Clone, Copy, Debug)]
pub struct Place<W> {
    first: Spot,
    second: Spot,
    width: PhantomData<W>,
}

impl<W: Cell> Place<W> {
    /// Plain memory in one page.
    #[inline(always)]
    pub fn ram(offset: u64) -> Place<W> {
        Place { first: Spot(offset), second: Spot(0), width: PhantomData }
    }
    /// All in one page.
    pub fn within(spot: Spot) -> Place<W> {
        Place { first: spot, second: Spot(0), width: PhantomData }
    }
    /// Split at the page boundary after `first`.
    pub fn across(first: Spot, second: Spot) -> Place<W> {
        Place { first: Spot(first.0 | ACROSS), second, width: PhantomData }
    }
    /// How many bytes lie behind the first spot.
    fn first_bytes(self) -> u32 {
        if self.first.0 & ACROSS != 0 { 0x1000 - (self.first.0 as u32 & 0xfff) } else { W::BYTES }
    }
}

fn size_of(bytes: u32) -> Size {
    match bytes {
        1 => Size::Byte,
        2 => Size::Word,
        _ => Size::Dword,
    }
}

/// The accesses a device sees for `bytes` bytes: doublewords, words, bytes, never across their natural size's count.
fn pieces(bytes: u32) -> impl Iterator<Item = (u32, u32)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let piece = match bytes - done {
            0 => return None,
            1 => 1,
            2 | 3 => 2,
            _ => 4,
        };
        done += piece;
        Some((done - piece, piece))
    })
}

/// Reads `bytes` (1 to 8) bytes of device registers.
pub(super) fn read_device<B: Bus>(bus: &mut B, at: Phys, bytes: u32, now: Ticks) -> u64 {
    pieces(bytes).fold(0, |value, (done, piece)| {
        let read = bus.mmio_read(Phys(at.0 + done as u64), size_of(piece), now);
        value | ((read & size_of(piece).mask()) as u64) << (done * 8)
    })
}

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// Reads a place.
    #[inline(always)]
    pub fn load<W: Cell>(&mut self, place: Place<W>) -> W {
        if place.first.0 & (DEVICE | ACROSS) == 0 {
            return W::load(self.bus.ram(), (place.first.0 & !WATCHED) as usize);
        }
        self.load_slowly(place)
    }

    /// Writes a place.
    #[inline(always)]
    pub fn store<W: Cell>(&mut self, place: Place<W>, value: W) {
        if place.first.0 & SLOW == 0 {
            return value.store_unmarked(self.bus.ram_mut(), place.first.0 as usize);
        }
        self.store_slowly(place, value);
    }

    #[inline(never)]
    fn load_slowly<W: Cell>(&mut self, place: Place<W>) -> W {
        let first_bytes = place.first_bytes();
        let mut value = self.load_spot(place.first, first_bytes);
        if first_bytes < W::BYTES {
            value |= self.load_spot(place.second, W::BYTES - first_bytes) << (first_bytes * 8);
        }
        W::from_u64(value)
    }

    fn load_spot(&mut self, spot: Spot, bytes: u32) -> u64 {
        let Some(offset) = spot.offset() else {
            let now = self.now();
            let value = read_device(&mut self.bus, spot.phys(), bytes, now);
            self.after_io(Io {
                port: None,
                at: spot.phys(),
                size: size_of(bytes),
                value: value as u32,
                write: false,
            });
            return value;
        };
        let mut out = [0; 8];
        out[..bytes as usize].copy_from_slice(self.bus.ram().slice(offset, bytes as usize));
        u64::from_le_bytes(out)
    }

    #[inline(never)]
    fn store_slowly<W: Cell>(&mut self, place: Place<W>, value: W) {
        let value = value.to_u64();
        let first_bytes = place.first_bytes();
        self.store_spot(place.first, first_bytes, value);
        if first_bytes < W::BYTES {
            self.store_spot(place.second, W::BYTES - first_bytes, value >> (first_bytes * 8));
        }
    }

    fn store_spot(&mut self, spot: Spot, bytes: u32, value: u64) {
        let Some(offset) = spot.offset() else {
            let now = self.now();
            for (done, piece) in pieces(bytes) {
                let part = (value >> (done * 8)) as u32 & size_of(piece).mask();
                self.bus.mmio_write(Phys(spot.phys().0 + done as u64), size_of(piece), part, now);
            }
            self.after_io(Io {
                port: None,
                at: spot.phys(),
                size: size_of(bytes),
                value: value as u32,
                write: true,
            });
            return;
        };
        let page_has_code = self.bus.ram().page_has_code(offset);
        self.bus.ram_mut().write(offset, &value.to_le_bytes()[..bytes as usize]);
        if page_has_code && self.bus.ram().code_was_written() {
            self.leave_block();
        }
        if O::ACTIVE && self.observer.wants_stores() {
            // the observer wants the physical address; memory is mapped by whole frames
            let at = self.at();
            let phys = self.bus.phys_of(offset);
            self.observer.store(&at, phys, bytes, value);
        }
    }

    /// After any access to a device: lines and deadlines may have changed, and the memory map.
    pub(crate) fn after_io(&mut self, io: Io) {
        self.horizon = 0;
        self.leave_block();
        if self.bus.layout() != self.bus_layout {
            self.bus_layout = self.bus.layout();
            self.forget_front();
        }
        if O::ACTIVE {
            let at = self.at();
            self.observer.io(&at, io);
        }
    }
}
