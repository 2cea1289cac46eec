//! What each ATA command does (ATA/ATAPI-6, "Command descriptions"), once its time has come.

use super::*;
use serde::{Deserialize, Serialize};

/// How sectors are counted by cylinder, head and sector.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Geometry {
    pub cylinders: u16,
    pub heads: u8,
    pub sectors: u8,
}

/// Sectors that fit into 28 bits of address.
pub(super) const LBA28_SECTORS: u64 = 1 << 28;
/// Sectors that fit into 48 bits of address.
const LBA48_SECTORS: u64 = 1 << 48;
/// Sectors that go by DMA at once.
const DMA_SECTORS: u32 = 128;
/// The largest block of READ and WRITE MULTIPLE.
pub(super) const MAX_MULTIPLE: u8 = 16;

impl Geometry {
    /// Manual: with 16 heads and 63 sectors, at most 16383 cylinders are told.
    pub fn default_for(sectors: u64) -> Geometry {
        Geometry::with(16, 63, sectors)
    }

    fn with(heads: u8, sectors: u8, total: u64) -> Geometry {
        let track = u64::from(heads.max(1)) * u64::from(sectors.max(1));
        Geometry { cylinders: (total / track).clamp(1, 16_383) as u16, heads, sectors }
    }

    /// The sector number of an address.
    fn lba(self, cylinder: u16, head: u8, sector: u8) -> Option<u64> {
        if sector == 0 || sector > self.sectors || head >= self.heads {
            return None;
        }
        let track = u64::from(cylinder) * u64::from(self.heads) + u64::from(head);
        Some(track * u64::from(self.sectors) + u64::from(sector) - 1)
    }

    /// The address of a sector number, its cylinder cut to 16 bits.
    fn address(self, lba: u64) -> (u16, u8, u8) {
        let (sectors, heads) = (u64::from(self.sectors.max(1)), u64::from(self.heads.max(1)));
        let track = lba / sectors;
        ((track / heads) as u16, (track % heads) as u8, (lba % sectors) as u8 + 1)
    }
}

/// How a command ended badly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub error: u8,
    pub status: u8,
}

pub(super) const ABORTED: Failure = Failure { error: ERROR_ABORTED, status: STATUS_ERR };
const NOT_FOUND: Failure = Failure { error: ERROR_ID_NOT_FOUND, status: STATUS_ERR };

impl From<crate::disk::SectorError> for Failure {
    fn from(error: crate::disk::SectorError) -> Failure {
        use crate::disk::SectorError;
        tracing::debug!("{error}");
        match error {
            SectorError::OutOfRange(_) => NOT_FOUND,
            SectorError::Host(..) => Failure { error: ERROR_UNCORRECTABLE, status: STATUS_ERR },
            SectorError::OverlayFull => Failure { error: ERROR_ABORTED, status: STATUS_ERR | STATUS_DF },
        }
    }
}

impl Drive {
    /// Sectors that the drive admits to when asked with 28 bits.
    pub(super) fn capacity(&self) -> u64 {
        self.sectors().min(LBA28_SECTORS - 1)
    }

    /// Sectors of the disk.
    pub(super) fn sectors(&self) -> u64 {
        self.disk.as_ref().map_or(0, Disk::sectors).min(LBA48_SECTORS)
    }

    /// Whether the command under way has 48 bits of address and 16 of count.
    fn is_extended(&self) -> bool {
        matches!(self.command, 0x24 | 0x25 | 0x27 | 0x29 | 0x34 | 0x35 | 0x39 | 0x3d | 0x42 | 0xce)
    }

    fn uses_lba(&self) -> bool {
        self.head & DEVICE_LBA != 0
    }

    /// The sector that the registers name.
    fn lba(&self) -> Option<u64> {
        let cylinder = u16::from_le_bytes([self.mid, self.high]);
        if self.is_extended() {
            let previous = self.previous;
            let bytes = [self.low, self.mid, self.high, previous.low, previous.mid, previous.high, 0, 0];
            // Manual: without the LBA bit the command is aborted; a sector that does not exist does that too
            return Some(u64::from_le_bytes(bytes)).filter(|lba| self.uses_lba() && *lba < self.sectors());
        }
        let lba = if self.uses_lba() {
            u64::from(self.head & 15) << 24 | u64::from(cylinder) << 8 | u64::from(self.low)
        } else {
            self.geometry.lba(cylinder, self.head & 15, self.low)?
        };
        (lba < self.capacity()).then_some(lba)
    }

    fn set_lba(&mut self, lba: u64) {
        if self.is_extended() {
            let previous = &mut self.previous;
            [self.low, self.mid, self.high, previous.low, previous.mid, previous.high, ..] =
                lba.to_le_bytes();
        } else if self.uses_lba() {
            let [low, mid, high, top, ..] = lba.to_le_bytes();
            (self.low, self.mid, self.high) = (low, mid, high);
            self.head = self.head & !15 | top & 15;
        } else {
            let (cylinder, head, sector) = self.geometry.address(lba);
            [self.mid, self.high] = cylinder.to_le_bytes();
            self.low = sector;
            self.head = self.head & !15 | head & 15;
        }
    }

    /// A sector count register of 0 means 256, or 65536.
    fn sectors_asked(&self) -> u32 {
        if self.is_extended() {
            let count = u16::from_le_bytes([self.count, self.previous.count]);
            return if count == 0 { 0x1_0000 } else { u32::from(count) };
        }
        if self.count == 0 { 256 } else { u32::from(self.count) }
    }

    pub(super) fn finish(&mut self, outcome: Result<(), Failure>) {
        if let Err(failure) = outcome {
            self.transfer = Transfer::None;
            self.remaining = 0;
            self.error = failure.error;
            self.status |= failure.status;
        }
        self.interrupt = true;
    }

    /// The first step of a command.
    pub(super) fn begin(&mut self, command: u8) {
        self.command = command;
        if self.packet.is_some() {
            return self.begin_of_packet_device(command);
        }
        match command {
            // EXECUTE DEVICE DIAGNOSTIC
            0x90 => {
                self.sign();
                self.interrupt = true;
            }
            // IDENTIFY DEVICE
            0xec => {
                self.buffer = self.identify();
                self.remaining = 0;
                self.offer(Transfer::In);
                self.interrupt = true;
            }
            // READ SECTOR(S), with and without retries
            0x20 | 0x21 | 0x24 => self.begin_read(),
            // READ MULTIPLE
            0xc4 | 0x29 if self.multiple != 0 => self.begin_read(),
            // READ DMA, with and without retries
            0xc8 | 0xc9 | 0x25 => self.begin_read(),
            // WRITE SECTOR(S), with and without retries
            0x30 | 0x31 | 0x34 => self.begin_write(),
            // WRITE MULTIPLE, also with forced unit access
            0xc5 | 0x39 | 0xce if self.multiple != 0 => self.begin_write(),
            // WRITE DMA, with and without retries, also with forced unit access
            0xca | 0xcb | 0x35 | 0x3d => self.begin_write(),
            _ => {
                let outcome = self.without_data(command);
                self.finish(outcome);
            }
        }
    }

    fn begin_read(&mut self) {
        self.remaining = self.sectors_asked();
        self.fetch_block();
    }

    /// The first block of a write is asked for without an interrupt.
    fn begin_write(&mut self) {
        self.remaining = self.sectors_asked();
        match self.lba() {
            Some(_) => self.ask_for_block(),
            None => self.finish(Err(NOT_FOUND)),
        }
    }

    fn ask_for_block(&mut self) {
        self.buffer = vec![0; block_bytes(self.block_sectors())];
        self.offer(if self.is_dma() { Transfer::DmaOut } else { Transfer::Out });
    }

    fn is_dma(&self) -> bool {
        matches!(self.command, 0xc8..=0xcb | 0x25 | 0x35 | 0x3d)
    }

    pub(super) fn offer(&mut self, transfer: Transfer) {
        self.transfer = transfer;
        self.position = 0;
    }

    /// How many sectors the next DRQ moves.
    fn block_sectors(&self) -> u32 {
        let block = match self.command {
            0xc4 | 0xc5 | 0x29 | 0x39 | 0xce => u32::from(self.multiple),
            _ if self.is_dma() => DMA_SECTORS,
            _ => 1,
        };
        self.remaining.min(block.max(1))
    }

    /// A command by DMA interrupts once, at its end.
    pub(super) fn fetch_block(&mut self) {
        let sectors = self.block_sectors();
        if sectors == 0 {
            return self.finish(Ok(()));
        }
        self.buffer.clear();
        for _ in 0..sectors {
            let mut sector = [0; SECTOR];
            if let Err(failure) = self.at_current(|disk, lba| disk.read(lba, &mut sector)) {
                return self.finish(Err(failure));
            }
            self.buffer.extend_from_slice(&sector);
            self.next_sector();
        }
        if self.is_dma() {
            return self.offer(Transfer::DmaIn);
        }
        self.offer(Transfer::In);
        self.interrupt = true;
    }

    pub(super) fn store_block(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        for sector in buffer.as_chunks::<SECTOR>().0 {
            if let Err(failure) = self.at_current(|disk, lba| disk.write(lba, sector)) {
                return self.finish(Err(failure));
            }
            self.next_sector();
        }
        if self.remaining > 0 {
            self.ask_for_block();
        }
        self.interrupt |= self.remaining == 0 || !self.is_dma();
    }

    fn at_current(
        &mut self,
        access: impl FnOnce(&mut Disk, u64) -> Result<(), crate::disk::SectorError>,
    ) -> Result<(), Failure> {
        let lba = self.lba().ok_or(NOT_FOUND)?;
        let disk = self.disk.as_mut().ok_or(ABORTED)?;
        Ok(access(disk, lba)?)
    }

    /// One sector is done. Manual: at the end the address registers name the last sector, and the count is 0.
    fn next_sector(&mut self) {
        self.remaining = self.remaining.saturating_sub(1);
        self.count = self.remaining as u8;
        if self.is_extended() {
            self.previous.count = (self.remaining >> 8) as u8;
        }
        if self.remaining > 0
            && let Some(lba) = self.current_address()
        {
            self.set_lba(lba + 1);
        }
    }

    /// The sector that the registers name, be it on the disk or not.
    fn current_address(&self) -> Option<u64> {
        let cylinder = u16::from_le_bytes([self.mid, self.high]);
        if self.uses_lba() || self.is_extended() {
            self.lba()
        } else {
            self.geometry.lba(cylinder, self.head & 15, self.low)
        }
    }

    /// Commands that move no data.
    pub(super) fn without_data(&mut self, command: u8) -> Result<(), Failure> {
        match command {
            // RECALIBRATE
            0x10..=0x1f => self.mid_and_high_to_zero(),
            // READ VERIFY SECTOR(S), with and without retries
            0x40..=0x42 => self.verify()?,
            // READ NATIVE MAX ADDRESS, with 28 and 48 bits
            0xf8 if self.uses_lba() => self.set_lba(self.capacity().saturating_sub(1)),
            0x27 if self.uses_lba() => self.set_lba(self.sectors().saturating_sub(1)),
            // SEEK
            0x70..=0x7f => {
                self.lba().ok_or(NOT_FOUND)?;
            }
            // INITIALIZE DEVICE PARAMETERS
            0x91 => {
                let heads = (self.head & 15) + 1;
                if self.count == 0 || self.count > 63 {
                    return Err(ABORTED);
                }
                self.geometry = Geometry::with(heads, self.count, self.capacity());
            }
            // SET MULTIPLE MODE
            0xc6 => {
                if self.count > MAX_MULTIPLE || !(self.count == 0 || self.count.is_power_of_two()) {
                    return Err(ABORTED);
                }
                self.multiple = self.count;
            }
            // STANDBY IMMEDIATE, IDLE IMMEDIATE, STANDBY, IDLE, SLEEP (and as ATA-1 numbered them)
            0xe0..=0xe3 | 0xe6 | 0x94..=0x97 | 0x99 => {}
            // CHECK POWER MODE: active
            0xe5 | 0x98 => self.count = 0xff,
            // FLUSH CACHE
            0xe7 | 0xea => {
                if let Some(Err(error)) = self.disk.as_ref().map(Disk::flush) {
                    tracing::debug!("the disk image can't be flushed: {error}");
                    return Err(Failure { error: ERROR_ABORTED, status: STATUS_ERR | STATUS_DF });
                }
            }
            // SET FEATURES
            0xef => self.set_features()?,
            _ => {
                tracing::debug!("ATA command {command:#04x} is not implemented: aborted");
                return Err(ABORTED);
            }
        }
        Ok(())
    }

    fn mid_and_high_to_zero(&mut self) {
        (self.mid, self.high) = (0, 0);
    }

    fn verify(&mut self) -> Result<(), Failure> {
        self.remaining = self.sectors_asked();
        while self.remaining > 0 {
            self.lba().ok_or(NOT_FOUND)?;
            self.next_sector();
        }
        Ok(())
    }

    fn set_features(&mut self) -> Result<(), Failure> {
        match self.features {
            // Transfer mode: PIO default (with or without IORDY), a PIO flow control mode up to 4, a multiword DMA
            // mode up to 2, an Ultra DMA mode up to 5.
            0x03 => match self.count {
                0x00 | 0x01 | 0x08..=0x0c => Ok(()),
                0x20..=0x22 | 0x40..=0x45 => {
                    self.dma_mode = self.count;
                    Ok(())
                }
                _ => Err(ABORTED),
            },
            // Write cache and read look-ahead on and off; reverting to defaults off and on.
            0x02 | 0x82 | 0xaa | 0x55 | 0x66 | 0xcc => Ok(()),
            _ => Err(ABORTED),
        }
    }
}
