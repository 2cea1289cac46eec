//! The PACKET protocol (ATA/ATAPI-6, "PACKET command protocol"): a packet is asked for, executed by `cdrom`, and its
//! data goes to the host in blocks no larger than the host allows, or by DMA.

use super::cdrom::{self, CDB, Reply, SECTOR as CD_SECTOR, Sense};
use super::command::{ABORTED, Failure};
use super::*;
use serde::{Deserialize, Serialize};

// The interrupt reason in the sector count register: command packet, to the host; both at the end.
const REASON_COMMAND: u8 = 1 << 0;
const REASON_IN: u8 = 1 << 1;
const REASON: u8 = REASON_COMMAND | REASON_IN;

const FEATURES_DMA: u8 = 1 << 0;

/// Bytes of a disc that are read at once.
const AT_ONCE: usize = 32 * CD_SECTOR;
/// Bytes in a block when the host allows 0 or an odd number at most.
const LARGEST_BLOCK: usize = 0xfffe;

/// What a packet device remembers.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Packet {
    /// What REQUEST SENSE will tell.
    pub sense: Sense,
    /// Whether the disc is out.
    pub ejected: bool,
    /// Whether the tray is locked.
    pub locked: bool,
    /// A change of the disc that GET EVENT STATUS NOTIFICATION has not told yet.
    pub event: u8,
    dma: bool,
    limit: usize,
    /// Data ready to go.
    ready: Vec<u8>,
    /// Sectors to be read yet: the first, and how many.
    next: u32,
    left: u32,
}

impl Packet {
    /// Whether no more is ready than can be.
    pub(super) fn is_sound(&self) -> bool {
        self.ready.len() <= MOST_AT_ONCE && self.limit <= LARGEST_BLOCK
    }
}

impl Drive {
    /// Whether a PACKET command is under way.
    pub(super) fn is_in_packet(&self) -> bool {
        self.packet.is_some() && self.command == 0xa0
    }

    /// The first step of a command to a packet device.
    pub(super) fn begin_of_packet_device(&mut self, command: u8) {
        match command {
            // PACKET
            0xa0 => {
                let limit = usize::from(u16::from_le_bytes([self.mid, self.high]));
                if let Some(packet) = &mut self.packet {
                    packet.dma = self.features & FEATURES_DMA != 0;
                    packet.limit = if limit & !1 == 0 { LARGEST_BLOCK } else { limit & !1 };
                    packet.ready.clear();
                    packet.left = 0;
                }
                self.count = self.count & !REASON | REASON_COMMAND;
                self.buffer = vec![0; CDB];
                self.offer(Transfer::Packet);
            }
            // IDENTIFY PACKET DEVICE
            0xa1 => {
                self.buffer = self.identify_packet();
                self.remaining = 0;
                self.offer(Transfer::In);
                self.interrupt = true;
            }
            // DEVICE RESET: without an interrupt
            0x08 => self.sign(),
            // EXECUTE DEVICE DIAGNOSTIC
            0x90 => {
                self.sign();
                self.interrupt = true;
            }
            // IDENTIFY DEVICE, READ SECTOR(S): aborted, and the signature shows what this is
            0xec | 0x20 | 0x21 => {
                self.show_signature();
                self.finish(Err(ABORTED));
            }
            // NOP, power management, SET FEATURES, FLUSH CACHE
            0xe0..=0xe3 | 0xe5..=0xe7 | 0xef => {
                let outcome = self.without_data(command);
                self.finish(outcome);
            }
            _ => {
                tracing::debug!("ATA command {command:#04x} to a packet device is not implemented: aborted");
                self.finish(Err(ABORTED));
            }
        }
    }

    /// The packet has arrived.
    pub(super) fn execute_packet(&mut self) {
        let (Some(packet), Some(disc)) = (&mut self.packet, &self.disk) else { return };
        let mut cdb = [0; CDB];
        let len = self.buffer.len().min(CDB);
        cdb[..len].copy_from_slice(&self.buffer[..len]);
        match cdrom::execute(packet, disc, &cdb) {
            Ok(Reply::Nothing) => self.finish_packet(Sense::NONE),
            Ok(Reply::Bytes(bytes)) => {
                packet.ready = bytes;
                self.offer_packet_data();
            }
            Ok(Reply::Sectors { first, count }) => {
                (packet.next, packet.left) = (first, count);
                self.offer_packet_data();
            }
            Err(sense) => self.finish_packet(sense),
        }
    }

    /// The next block of data, or the end.
    pub(super) fn offer_packet_data(&mut self) {
        let (Some(packet), Some(disc)) = (&mut self.packet, &self.disk) else { return };
        let enough = if packet.dma { AT_ONCE } else { packet.limit.min(AT_ONCE) };
        while packet.left > 0 && packet.ready.len() < enough {
            if let Err(sense) = cdrom::read(disc, packet.next, &mut packet.ready) {
                return self.finish_packet(sense);
            }
            packet.next = packet.next.wrapping_add(1);
            packet.left -= 1;
        }
        if packet.ready.is_empty() {
            return self.finish_packet(Sense::NONE);
        }
        if packet.dma {
            self.buffer = std::mem::take(&mut packet.ready);
            self.offer(Transfer::DmaIn);
        } else {
            let len = packet.ready.len().min(packet.limit);
            self.buffer = packet.ready.drain(..len).collect();
            [self.mid, self.high] = (len as u16).to_le_bytes();
            self.offer(Transfer::In);
            self.interrupt = true;
        }
        self.count = self.count & !REASON | REASON_IN;
    }

    /// Manual: the sense key is in the error register's upper half; the reason register tells of the end.
    fn finish_packet(&mut self, sense: Sense) {
        self.count |= REASON;
        let Some(packet) = &mut self.packet else { return };
        packet.ready.clear();
        packet.left = 0;
        if sense == Sense::NONE {
            return self.finish(Ok(()));
        }
        packet.sense = sense;
        let aborted = if sense.key == cdrom::ILLEGAL_REQUEST { ERROR_ABORTED } else { 0 };
        self.finish(Err(Failure { error: sense.key << 4 | aborted, status: STATUS_ERR }));
    }
}
