//! An ATA channel with up to two drives, disks and CD-ROMs: ATA/ATAPI-6 (T13/1410D, revision 3b).
//!
//! The channel holds the registers and the protocol; `command` what each command does, `identify` what a drive says of
//! itself, `packet` the PACKET protocol and `cdrom` what packets ask of a CD-ROM drive. Every command and every block
//! of data takes a small fixed time, during which BSY is set, so that a driver that forgets to wait shows.
//!
//! DMA: the drive offers or wants a buffer ([`AtaChannel::dma`]); the board lets the bus master move it.
//!
//! Left out: overlapped and queued commands, the security, SMART and power management features; power commands only
//! succeed.

mod cdrom;
mod command;
mod identify;
mod packet;

use crate::device::{IrqLine, PortDevice, Timed, WideData};
use crate::disk::{Disk, SECTOR};
use crate::pci::bus_master::Direction;
use command::Geometry;
use packet::Packet;
use pagewalk_x86::bus::{Size, Ticks};
use pagewalk_x86::image::Damaged;
use serde::{Deserialize, Serialize};

// Command block registers.
const DATA: u16 = 0;
/// Error (read), features (write).
const ERROR_FEATURES: u16 = 1;
const SECTOR_COUNT: u16 = 2;
/// Sector number, or LBA bits 7-0.
const LBA_LOW: u16 = 3;
/// Cylinder low, or LBA bits 15-8.
const LBA_MID: u16 = 4;
/// Cylinder high, or LBA bits 23-16.
const LBA_HIGH: u16 = 5;
/// Device and head, or device and LBA bits 27-24.
const DEVICE: u16 = 6;
/// Status (read), command (write).
const STATUS_COMMAND: u16 = 7;
/// The control block's one register, as the board numbers it: alternate status (read), device control (write).
pub const CONTROL: u16 = 8;

const STATUS_ERR: u8 = 1 << 0;
const STATUS_DRQ: u8 = 1 << 3;
const STATUS_DSC: u8 = 1 << 4;
const STATUS_DF: u8 = 1 << 5;
const STATUS_DRDY: u8 = 1 << 6;
const STATUS_BSY: u8 = 1 << 7;

const ERROR_ABORTED: u8 = 1 << 2;
const ERROR_ID_NOT_FOUND: u8 = 1 << 4;
const ERROR_UNCORRECTABLE: u8 = 1 << 6;
/// In the error register after a reset or diagnostic: device 0 passed, device 1 passed or not there.
const DIAGNOSTIC_PASSED: u8 = 0x01;

const DEVICE_SELECT: u8 = 1 << 4;
const DEVICE_LBA: u8 = 1 << 6;
/// Bits 7 and 5, which always read as ones.
const DEVICE_ONES: u8 = 0xa0;

const CONTROL_NO_INTERRUPT: u8 = 1 << 1;
const CONTROL_RESET: u8 = 1 << 2;
/// The address registers show what was written to them before the last.
const CONTROL_PREVIOUS: u8 = 1 << 7;

/// From a command to its end or its first block, and from one block to the next.
const WORK: u64 = 2_000;
/// A byte by DMA: 16.7 MB/s, as multiword DMA mode 2 has it.
const DMA_BYTE: u64 = 60;
/// From the end of a software reset to the signature.
const RESET: u64 = 2_000_000;

/// The largest buffer: what one DMA transfer of a disk or of a disc moves.
const MOST_AT_ONCE: usize = 128 << 10;

/// What a device does with the data register.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Transfer {
    None,
    /// To the host: sectors of a read, or one block of identify data.
    In,
    /// From the host.
    Out,
    /// To memory, by DMA.
    DmaIn,
    /// From memory, by DMA.
    DmaOut,
    /// From the host: a command packet.
    Packet,
}

/// What happens at the end of BSY.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Work {
    /// The command's first step, or its only one.
    Command(u8),
    /// The next block of a read is fetched.
    ReadBlock,
    /// The block in the buffer is written.
    WriteBlock,
    /// The packet in the buffer is executed.
    Packet,
    /// The next block of a packet's data is offered.
    PacketData,
    /// The reset ends: the signature appears.
    Reset,
}

/// What the registers of 48-bit commands held before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Previous {
    count: u8,
    low: u8,
    mid: u8,
    high: u8,
}

/// A drive to be put on a channel.
#[derive(Clone, PartialEq, Debug)]
pub enum Medium {
    /// A hard disk.
    Disk(Disk),
    /// A CD-ROM drive with a disc in it.
    Cdrom(Disk),
}

/// One drive, or the place where it would be.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Drive {
    disk: Option<Disk>,
    /// What a packet device has beside.
    packet: Option<Packet>,
    error: u8,
    /// DRDY, DSC, DF, ERR; BSY and DRQ are computed.
    status: u8,
    features: u8,
    count: u8,
    low: u8,
    mid: u8,
    high: u8,
    /// Sector count and address as they were before the last write to each.
    previous: Previous,
    /// Device register bits 6 and 3-0.
    head: u8,
    work: Option<(Work, Ticks)>,
    transfer: Transfer,
    buffer: Vec<u8>,
    position: usize,
    /// The command under way.
    command: u8,
    /// Sectors of the command yet to be moved, those in the buffer included.
    remaining: u32,
    /// Sectors in a block of READ and WRITE MULTIPLE; 0 until set.
    multiple: u8,
    /// The transfer mode set by SET FEATURES for DMA, as its sector count names it.
    dma_mode: u8,
    geometry: Geometry,
    interrupt: bool,
}

impl Drive {
    fn new(medium: Option<Medium>) -> Drive {
        let (disk, packet) = match medium {
            None => (None, None),
            Some(Medium::Disk(disk)) => (Some(disk), None),
            Some(Medium::Cdrom(disc)) => (Some(disc), Some(Packet::default())),
        };
        let geometry = Geometry::default_for(disk.as_ref().map_or(0, Disk::sectors));
        let mut drive = Drive {
            disk,
            packet,
            error: 0,
            status: 0,
            features: 0,
            count: 0,
            low: 0,
            mid: 0,
            high: 0,
            previous: Previous::default(),
            head: 0,
            work: None,
            transfer: Transfer::None,
            buffer: Vec::new(),
            position: 0,
            command: 0,
            remaining: 0,
            multiple: 0,
            dma_mode: identify::DEFAULT_DMA_MODE,
            geometry,
            interrupt: false,
        };
        drive.sign();
        drive
    }

    /// Whether everything is in bounds: what is in the buffer, and how much is to be moved.
    fn is_sound(&self) -> bool {
        let packet = self.packet.as_ref().is_none_or(|packet| self.disk.is_some() && packet.is_sound());
        self.buffer.len() <= MOST_AT_ONCE
            && (self.transfer == Transfer::None || self.position <= self.buffer.len())
            && self.remaining <= 0x1_0000
            && self.multiple <= command::MAX_MULTIPLE
            && packet
    }

    /// After reset or diagnostic. Manual: a packet device is not ready until it has had a command.
    fn sign(&mut self) {
        self.error = DIAGNOSTIC_PASSED;
        self.status = if self.packet.is_some() { 0 } else { STATUS_DRDY | STATUS_DSC };
        self.show_signature();
    }

    /// The signature in the registers (ATA-6 "Signature and persistence").
    fn show_signature(&mut self) {
        (self.count, self.low, self.head) = (1, 1, 0);
        (self.mid, self.high) = if self.packet.is_some() { (0x14, 0xeb) } else { (0, 0) };
    }

    fn status(&self) -> u8 {
        if self.work.is_some() {
            return STATUS_BSY;
        }
        self.status | if self.transfer == Transfer::None { 0 } else { STATUS_DRQ }
    }

    /// A software reset begins: whatever was going on ends. What commands have set up is kept.
    fn begin_reset(&mut self) {
        self.transfer = Transfer::None;
        self.buffer.clear();
        self.interrupt = false;
        // BSY until the reset bit is cleared, however long that takes.
        self.work = Some((Work::Reset, Ticks(u64::MAX)));
    }

    fn take_medium(&mut self) -> Option<Medium> {
        let disk = self.disk.take()?;
        Some(if self.packet.is_some() { Medium::Cdrom(disk) } else { Medium::Disk(disk) })
    }

    fn busy_until(&mut self, work: Work, now: Ticks, ns: u64) {
        self.work = Some((work, Ticks(now.0.saturating_add(ns))));
    }

    /// Finishes the work whose time has come.
    fn advance(&mut self, now: Ticks) {
        let Some((work, _)) = self.work.filter(|(_, at)| *at <= now) else { return };
        self.work = None;
        match work {
            Work::Command(command) => self.begin(command),
            Work::ReadBlock => self.fetch_block(),
            Work::WriteBlock => self.store_block(),
            Work::Packet => self.execute_packet(),
            Work::PacketData => self.offer_packet_data(),
            Work::Reset => self.sign(),
        }
    }

    /// The host has moved the last byte of the buffer.
    fn block_moved(&mut self, now: Ticks) {
        let transfer = std::mem::replace(&mut self.transfer, Transfer::None);
        let dma = WORK.saturating_add(self.buffer.len() as u64 * DMA_BYTE);
        let packet = self.is_in_packet();
        match transfer {
            Transfer::Packet => self.busy_until(Work::Packet, now, WORK),
            Transfer::In if packet => self.busy_until(Work::PacketData, now, WORK),
            Transfer::DmaIn if packet => self.busy_until(Work::PacketData, now, dma),
            Transfer::DmaIn => self.busy_until(Work::ReadBlock, now, dma),
            Transfer::DmaOut => self.busy_until(Work::WriteBlock, now, dma),
            Transfer::In if self.remaining > 0 => self.busy_until(Work::ReadBlock, now, WORK),
            Transfer::Out => self.busy_until(Work::WriteBlock, now, WORK),
            Transfer::In | Transfer::None => {}
        }
    }

    fn read_data(&mut self, bytes: usize, now: Ticks) -> u32 {
        if self.transfer != Transfer::In || self.work.is_some() {
            return u32::MAX;
        }
        let mut value = [0xff; 4];
        let taken = self.buffer.len().saturating_sub(self.position).min(bytes);
        value[..taken].copy_from_slice(&self.buffer[self.position..self.position + taken]);
        self.position += taken;
        if self.position >= self.buffer.len() {
            self.block_moved(now);
        }
        u32::from_le_bytes(value)
    }

    fn write_data(&mut self, value: u32, bytes: usize, now: Ticks) {
        if !matches!(self.transfer, Transfer::Out | Transfer::Packet) || self.work.is_some() {
            return;
        }
        self.put(&value.to_le_bytes()[..bytes.min(4)], now);
    }

    /// Bytes for the buffer.
    fn put(&mut self, bytes: &[u8], now: Ticks) {
        let taken = self.buffer.len().saturating_sub(self.position).min(bytes.len());
        self.buffer[self.position..self.position + taken].copy_from_slice(&bytes[..taken]);
        self.position += taken;
        if self.position >= self.buffer.len() {
            self.block_moved(now);
        }
    }

    /// DMARQ: which way data is to go, and how many bytes at once.
    fn dma(&self) -> Option<(Direction, usize)> {
        let left = self.buffer.len().saturating_sub(self.position);
        match self.transfer {
            _ if self.work.is_some() || left == 0 => None,
            Transfer::DmaIn => Some((Direction::ToMemory, left)),
            Transfer::DmaOut => Some((Direction::ToDevice, left)),
            _ => None,
        }
    }
}

/// A channel: two places for drives, one set of registers on the bus, one interrupt line.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AtaChannel {
    drives: [Drive; 2],
    selected: usize,
    control: u8,
    /// INTRQ.
    pub irq: IrqLine,
}

impl AtaChannel {
    /// A channel with these drives as device 0 and device 1.
    pub fn new(drives: [Option<Medium>; 2]) -> AtaChannel {
        AtaChannel { drives: drives.map(Drive::new), selected: 0, control: 0, irq: IrqLine::default() }
    }

    /// The RESET- line: as power-on, with the disks as they are.
    pub fn reset(&mut self) {
        let media = [0, 1].map(|index| self.drives[index].take_medium());
        let mut irq = self.irq;
        irq.set(false);
        *self = AtaChannel { irq, ..AtaChannel::new(media) };
    }

    /// Refuses what the drives can't hold.
    pub(crate) fn check(&self) -> Result<(), Damaged> {
        let drives = self.drives.iter().all(Drive::is_sound);
        Damaged::unless(drives && self.selected < self.drives.len(), "a disk channel")
    }

    /// The disk of a device, to write to.
    pub(crate) fn disk_mut(&mut self, device: usize) -> Option<&mut Disk> {
        self.drives.get_mut(device)?.disk.as_mut()
    }

    /// The disk of a device.
    pub fn disk(&self, device: usize) -> Option<&Disk> {
        self.drives.get(device)?.disk.as_ref()
    }

    /// What the selected drive wants moved by DMA: which way, and how many bytes (not 0).
    pub fn dma(&self) -> Option<(Direction, usize)> {
        self.drives[self.selected].dma()
    }

    /// Takes bytes that the selected drive offers by DMA, at most as many as [`AtaChannel::dma`] says.
    pub fn dma_take(&mut self, len: usize, now: Ticks) -> Vec<u8> {
        let drive = self.drive();
        let Some((Direction::ToMemory, left)) = drive.dma() else { return Vec::new() };
        let end = drive.position + len.min(left);
        let bytes = drive.buffer[drive.position..end].to_vec();
        drive.position = end;
        if end >= drive.buffer.len() {
            drive.block_moved(now);
        }
        bytes
    }

    /// Gives the selected drive bytes that it wants by DMA.
    pub fn dma_give(&mut self, bytes: &[u8], now: Ticks) {
        let drive = self.drive();
        if let Some((Direction::ToDevice, _)) = drive.dma() {
            drive.put(bytes, now);
        }
    }

    /// Whether a command is under way.
    pub fn could_interrupt(&self) -> bool {
        self.drives.iter().any(|drive| drive.work.is_some_and(|(_, at)| at != Ticks(u64::MAX)))
    }

    fn advance(&mut self, now: Ticks) {
        for drive in &mut self.drives {
            drive.advance(now);
        }
        self.drive_irq();
    }

    fn drive_irq(&mut self) {
        let level = self.drives[self.selected].interrupt && self.control & CONTROL_NO_INTERRUPT == 0;
        self.irq.set(level);
    }

    fn drive(&mut self) -> &mut Drive {
        &mut self.drives[self.selected]
    }

    /// Manual: device 0 answers for a device 1 that is not there, with a status of 0.
    fn status(&self) -> u8 {
        let drive = &self.drives[self.selected];
        if drive.disk.is_some() { drive.status() } else { 0 }
    }

    /// `Choice:` a channel without drives reads as zeros, as QEMU's.
    fn read_register(&mut self, offset: u16) -> u8 {
        if self.drives.iter().all(|drive| drive.disk.is_none()) {
            return 0;
        }
        let (selected, status) = (self.selected, self.status());
        let present = self.drives[selected].disk.is_some();
        // While BSY is set, every register reads as status.
        if status & STATUS_BSY != 0 && offset != STATUS_COMMAND {
            return status;
        }
        let shows_previous = self.control & CONTROL_PREVIOUS != 0;
        let drive = &mut self.drives[if present { selected } else { 0 }];
        match offset {
            SECTOR_COUNT if shows_previous => drive.previous.count,
            LBA_LOW if shows_previous => drive.previous.low,
            LBA_MID if shows_previous => drive.previous.mid,
            LBA_HIGH if shows_previous => drive.previous.high,
            ERROR_FEATURES => drive.error,
            SECTOR_COUNT => drive.count,
            LBA_LOW => drive.low,
            LBA_MID => drive.mid,
            LBA_HIGH => drive.high,
            DEVICE => DEVICE_ONES | drive.head | (selected as u8) << 4,
            STATUS_COMMAND => {
                if present {
                    drive.interrupt = false;
                }
                status
            }
            CONTROL => status,
            _ => 0xff,
        }
    }

    /// Writes to the command block reach both devices, but not one that is busy or moving data.
    fn write_register(&mut self, offset: u16, value: u8) {
        self.control &= !CONTROL_PREVIOUS;
        for drive in self.drives.iter_mut().filter(|drive| drive.status() & (STATUS_BSY | STATUS_DRQ) == 0) {
            match offset {
                ERROR_FEATURES => drive.features = value,
                SECTOR_COUNT => drive.previous.count = std::mem::replace(&mut drive.count, value),
                LBA_LOW => drive.previous.low = std::mem::replace(&mut drive.low, value),
                LBA_MID => drive.previous.mid = std::mem::replace(&mut drive.mid, value),
                LBA_HIGH => drive.previous.high = std::mem::replace(&mut drive.high, value),
                DEVICE => drive.head = value & !(DEVICE_ONES | DEVICE_SELECT),
                _ => {}
            }
        }
        if offset == DEVICE {
            self.selected = usize::from(value & DEVICE_SELECT != 0);
        }
    }

    fn write_command(&mut self, command: u8, now: Ticks) {
        const EXECUTE_DEVICE_DIAGNOSTIC: u8 = 0x90;
        const DEVICE_RESET: u8 = 0x08;
        self.control &= !CONTROL_PREVIOUS;
        if command == EXECUTE_DEVICE_DIAGNOSTIC {
            // Manual: both take it, whichever is selected; device 0's interrupt tells of both.
            for (drive, work) in self.drives.iter_mut().zip([Work::Command(command), Work::Reset]) {
                drive.transfer = Transfer::None;
                drive.interrupt = false;
                drive.busy_until(work, now, WORK);
            }
            self.selected = 0;
            return;
        }
        let drive = self.drive();
        let is_reset = command == DEVICE_RESET && drive.packet.is_some();
        if drive.disk.is_none() || drive.work.is_some() && !is_reset {
            tracing::debug!("ATA command {command:#04x} to a device that is busy or absent is ignored");
            return;
        }
        drive.interrupt = false;
        drive.transfer = Transfer::None;
        drive.error = 0;
        drive.status = STATUS_DRDY | STATUS_DSC;
        drive.busy_until(Work::Command(command), now, WORK);
    }

    fn write_control(&mut self, value: u8, now: Ticks) {
        let (resets, was_resetting) = (value & CONTROL_RESET != 0, self.control & CONTROL_RESET != 0);
        self.control = value;
        if resets && !was_resetting {
            self.drives.iter_mut().for_each(Drive::begin_reset);
            self.selected = 0;
        } else if was_resetting && !resets {
            self.drives.iter_mut().for_each(|drive| drive.busy_until(Work::Reset, now, RESET));
        }
    }
}

impl PortDevice for AtaChannel {
    fn read8(&mut self, offset: u16, now: Ticks) -> u8 {
        self.advance(now);
        let value = match offset {
            // An 8-bit access to the 16-bit register moves a word and shows its low half.
            DATA => self.drive().read_data(2, now) as u8,
            offset => self.read_register(offset),
        };
        self.drive_irq();
        value
    }

    fn write8(&mut self, offset: u16, value: u8, now: Ticks) {
        self.advance(now);
        match offset {
            DATA => self.drive().write_data(u32::from(value), 2, now),
            STATUS_COMMAND => self.write_command(value, now),
            CONTROL => self.write_control(value, now),
            offset => self.write_register(offset, value),
        }
        self.drive_irq();
    }
}

impl WideData for AtaChannel {
    fn read_wide(&mut self, size: Size, now: Ticks) -> u32 {
        self.advance(now);
        self.drive().read_data(size.bytes() as usize, now)
    }

    fn write_wide(&mut self, size: Size, value: u32, now: Ticks) {
        self.advance(now);
        self.drive().write_data(value, size.bytes() as usize, now);
    }
}

impl Timed for AtaChannel {
    fn tick(&mut self, now: Ticks) -> Option<Ticks> {
        self.advance(now);
        let next = self.drives.iter().filter_map(|drive| drive.work.map(|(_, at)| at)).min();
        next.filter(|&at| at != Ticks(u64::MAX))
    }
}

/// The bytes of a block of `sectors`.
fn block_bytes(sectors: u32) -> usize {
    sectors as usize * SECTOR
}

#[cfg(test)]
mod tests;
