//! The bus master of the two IDE channels: Intel, Programming Interface for Bus Master IDE Controller, 1.0 (1994), and
//! 82371SB (290550-002). It walks a table of physical regions in memory and moves a device's data to or from them.
//!
//! It does not touch memory itself: [`Channel::step`] says what is wanted next, and the board does it.

use crate::device::PortDevice;
use pagewalk_x86::bus::Ticks;
use pagewalk_x86::image::Damaged;
use serde::{Deserialize, Serialize};

// Registers of a channel; the second channel's begin at 8.
const COMMAND: u16 = 0;
const STATUS: u16 = 2;
const TABLE: u16 = 4;
const TABLE_END: u16 = 7;
const CHANNEL_PORTS: u16 = 8;

const COMMAND_START: u8 = 1 << 0;
/// The bus master writes to memory: the device is read.
const COMMAND_TO_MEMORY: u8 = 1 << 3;

const STATUS_ACTIVE: u8 = 1 << 0;
const STATUS_ERROR: u8 = 1 << 1;
const STATUS_INTERRUPT: u8 = 1 << 2;
/// Whether the drives can do DMA: for drivers to keep.
const STATUS_CAPABLE: u8 = 0x60;

/// Bytes of a descriptor.
pub const DESCRIPTOR: usize = 8;
const END_OF_TABLE: u32 = 1 << 31;

/// Which way data goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the device to memory.
    ToMemory,
    /// From memory to the device.
    ToDevice,
}

/// What the bus master needs to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The descriptor at this address, given to [`Channel::load`].
    Descriptor(u64),
    /// To move up to `len` bytes (not 0) at `at`, then told by [`Channel::moved`].
    Move {
        /// Where in memory.
        at: u64,
        /// How many bytes at most.
        len: u32,
    },
    /// Nothing: it is stopped, at the table's end, or set the other way.
    Nothing,
}

/// One channel's registers, and where it is in its table.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Channel {
    command: u8,
    /// All but the active bit.
    status: u8,
    table: u32,
    active: bool,
    /// The next descriptor.
    next: u32,
    /// What is left of the region.
    at: u32,
    left: u32,
    last: bool,
    /// The level of the device's interrupt when it was last looked at.
    line: bool,
}

impl Channel {
    /// What is needed to move data in `direction`.
    pub fn step(&self, direction: Direction) -> Step {
        let set =
            if self.command & COMMAND_TO_MEMORY != 0 { Direction::ToMemory } else { Direction::ToDevice };
        match self {
            _ if !self.active || set != direction => Step::Nothing,
            Channel { left: 0, last: true, .. } => Step::Nothing,
            Channel { left: 0, .. } => Step::Descriptor(u64::from(self.next)),
            _ => Step::Move { at: u64::from(self.at), len: self.left },
        }
    }

    /// A descriptor has been read: an address, a count of which 0 means 64 KiB, and the mark of the last one. Both are even.
    pub fn load(&mut self, descriptor: [u8; DESCRIPTOR]) {
        let [a, b, c, d, e, f, g, h] = descriptor;
        self.at = u32::from_le_bytes([a, b, c, d]) & !1;
        let second = u32::from_le_bytes([e, f, g, h]);
        self.left = match second & 0xfffe {
            0 => 0x1_0000,
            count => count,
        };
        self.last = second & END_OF_TABLE != 0;
        self.next = self.next.wrapping_add(DESCRIPTOR as u32);
    }

    /// So many bytes of the region have been moved. Manual: at the end of the last region the active bit falls.
    pub fn moved(&mut self, bytes: u32) {
        self.at = self.at.wrapping_add(bytes);
        self.left = self.left.saturating_sub(bytes);
        if self.left == 0 && self.last {
            self.active = false;
        }
    }

    /// Memory could not be reached: the transfer ends.
    pub fn fail(&mut self) {
        self.status |= STATUS_ERROR;
        self.active = false;
    }

    /// The level of the device's interrupt; that it rose is kept.
    pub fn device_interrupt(&mut self, level: bool) {
        if level && !self.line {
            self.status |= STATUS_INTERRUPT;
        }
        self.line = level;
    }

    fn read(&self, register: u16) -> u8 {
        match register {
            COMMAND => self.command,
            STATUS => self.status | if self.active { STATUS_ACTIVE } else { 0 },
            TABLE..=TABLE_END => self.table.to_le_bytes()[usize::from(register - TABLE)],
            _ => 0,
        }
    }

    fn write(&mut self, register: u16, value: u8) {
        match register {
            COMMAND => {
                let (started, starts) = (self.command & COMMAND_START != 0, value & COMMAND_START != 0);
                self.command = value & (COMMAND_START | COMMAND_TO_MEMORY);
                if starts && !started {
                    self.active = true;
                    (self.next, self.left, self.last) = (self.table, 0, false);
                } else if !starts {
                    self.active = false;
                }
            }
            STATUS => {
                let cleared = value & (STATUS_ERROR | STATUS_INTERRUPT);
                self.status = self.status & !cleared & !STATUS_CAPABLE | value & STATUS_CAPABLE;
            }
            TABLE..=TABLE_END => {
                let mut bytes = self.table.to_le_bytes();
                bytes[usize::from(register - TABLE)] = value;
                self.table = u32::from_le_bytes(bytes) & !3;
            }
            _ => {}
        }
    }
}

/// Both channels.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct BusMaster {
    /// The primary and the secondary channel.
    pub channels: [Channel; 2],
}

impl BusMaster {
    /// Refuses what the registers can't hold.
    pub(crate) fn check(&self) -> Result<(), Damaged> {
        let sound = |channel: &Channel| channel.left <= 0x1_0000;
        Damaged::unless(self.channels.iter().all(sound), "the bus master")
    }
}

impl PortDevice for BusMaster {
    fn read8(&mut self, offset: u16, _now: Ticks) -> u8 {
        let channel = self.channels.get(usize::from(offset / CHANNEL_PORTS));
        channel.map_or(0xff, |channel| channel.read(offset % CHANNEL_PORTS))
    }

    fn write8(&mut self, offset: u16, value: u8, _now: Ticks) {
        if let Some(channel) = self.channels.get_mut(usize::from(offset / CHANNEL_PORTS)) {
            channel.write(offset % CHANNEL_PORTS, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Ticks = Ticks(0);

    fn descriptor(at: u32, count: u16, last: bool) -> [u8; 8] {
        let second = u32::from(count) | if last { END_OF_TABLE } else { 0 };
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&at.to_le_bytes());
        bytes[4..].copy_from_slice(&second.to_le_bytes());
        bytes
    }

    fn started(table: u32, command: u8) -> BusMaster {
        let mut master = BusMaster::default();
        for (index, byte) in (0..).zip(table.to_le_bytes()) {
            master.write8(TABLE + index, byte, NOW);
        }
        master.write8(COMMAND, command, NOW);
        master
    }

    #[test]
    fn a_table_is_walked_region_by_region_and_the_active_bit_falls_at_its_end() {
        let mut master = started(0x1003, 0x09);
        assert_eq!(master.read8(STATUS, NOW), STATUS_ACTIVE);
        let channel = &mut master.channels[0];
        assert_eq!(channel.step(Direction::ToMemory), Step::Descriptor(0x1000));
        channel.load(descriptor(0x8000, 0, false));
        assert_eq!(channel.step(Direction::ToMemory), Step::Move { at: 0x8000, len: 0x1_0000 });
        channel.moved(0xfe00);
        assert_eq!(channel.step(Direction::ToMemory), Step::Move { at: 0x1_7e00, len: 0x200 });
        channel.moved(0x200);
        assert_eq!(channel.step(Direction::ToMemory), Step::Descriptor(0x1008));
        channel.load(descriptor(0x9001, 513, true));
        assert_eq!(channel.step(Direction::ToMemory), Step::Move { at: 0x9000, len: 512 });
        channel.moved(512);
        assert_eq!(channel.step(Direction::ToMemory), Step::Nothing);
        assert_eq!((master.read8(COMMAND, NOW), master.read8(STATUS, NOW)), (0x09, 0));
    }

    #[test]
    fn a_bus_master_set_the_other_way_moves_nothing() {
        let master = started(0x1000, 0x01);
        assert_eq!(master.channels[0].step(Direction::ToMemory), Step::Nothing);
        assert_eq!(master.channels[0].step(Direction::ToDevice), Step::Descriptor(0x1000));
    }

    #[test]
    fn the_interrupt_bit_keeps_a_rise_until_a_one_is_written() {
        let mut master = started(0, 0);
        master.channels[1].device_interrupt(true);
        assert_eq!(master.read8(8 + STATUS, NOW), STATUS_INTERRUPT);
        master.write8(8 + STATUS, 0x60, NOW);
        assert_eq!(master.read8(8 + STATUS, NOW), 0x64);
        master.write8(8 + STATUS, 0x04, NOW);
        master.channels[1].device_interrupt(true);
        assert_eq!(master.read8(8 + STATUS, NOW), 0, "the line has not risen again");
    }

    #[test]
    fn stopping_clears_the_active_bit_and_starting_again_begins_at_the_table() {
        let mut master = started(0x2000, 0x09);
        master.channels[0].load(descriptor(0x8000, 2, false));
        master.write8(COMMAND, 0x08, NOW);
        assert_eq!(master.read8(STATUS, NOW), 0);
        master.write8(COMMAND, 0x09, NOW);
        assert_eq!(master.channels[0].step(Direction::ToMemory), Step::Descriptor(0x2000));
    }
}
