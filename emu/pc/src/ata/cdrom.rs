//! What a CD-ROM drive does with a packet: SFF-8020i (revision 2.6, 1996) and MMC-2 (NCITS 333-2000). The disc has one
//! data track in one session, of sectors of 2048 bytes.
//!
//! Left out: audio, raw sectors and subchannels, changers, DVD structures, MODE SELECT. `Choice:` no UNIT ATTENTION
//! is raised by power-on and reset, as by QEMU's drive.

use super::packet::Packet;
use crate::disk::{self, Disk};
use serde::{Deserialize, Serialize};

/// Bytes of a packet.
pub(super) const CDB: usize = 12;
/// Bytes of a disc's sector.
pub(super) const SECTOR: usize = 2048;
const DISK_SECTORS: u64 = (SECTOR / disk::SECTOR) as u64;
/// Sectors of the largest CD: 80 minutes of 75 sectors a second. A larger disc is a DVD.
const CD_SECTORS: u32 = 80 * 60 * 75;
/// Sectors before the first, in addresses by minute, second and frame.
const PREGAP: u32 = 150;

const NOT_READY: u8 = 2;
const MEDIUM_ERROR: u8 = 3;
/// Sense key: something in the packet is wrong.
pub(super) const ILLEGAL_REQUEST: u8 = 5;

const PROFILE_CD: u16 = 0x0008;
const PROFILE_DVD: u16 = 0x0010;

// Media events and status
const EVENT_NEW_MEDIA: u8 = 2;
const EVENT_REMOVAL: u8 = 3;

/// Sense key, additional sense code and its qualifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Sense {
    pub key: u8,
    code: u8,
    qualifier: u8,
}

impl Sense {
    /// All is well.
    pub const NONE: Sense = Sense { key: 0, code: 0, qualifier: 0 };
    const NO_MEDIUM: Sense = Sense { key: NOT_READY, code: 0x3a, qualifier: 0 };
    const UNREADABLE: Sense = Sense { key: MEDIUM_ERROR, code: 0x11, qualifier: 0 };
    const UNKNOWN_COMMAND: Sense = Sense { key: ILLEGAL_REQUEST, code: 0x20, qualifier: 0 };
    const OUT_OF_RANGE: Sense = Sense { key: ILLEGAL_REQUEST, code: 0x21, qualifier: 0 };
    const INVALID_FIELD: Sense = Sense { key: ILLEGAL_REQUEST, code: 0x24, qualifier: 0 };
    const REMOVAL_PREVENTED: Sense = Sense { key: ILLEGAL_REQUEST, code: 0x53, qualifier: 2 };
}

/// What a packet brings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Reply {
    Nothing,
    Bytes(Vec<u8>),
    Sectors { first: u32, count: u32 },
}

/// How many sectors a disc has; the last may be filled up.
fn sectors(disc: &Disk) -> u32 {
    u32::try_from(disc.sectors().div_ceil(DISK_SECTORS)).unwrap_or(u32::MAX)
}

/// Reads a sector to the end of `into`.
pub(super) fn read(disc: &Disk, lba: u32, into: &mut Vec<u8>) -> Result<(), Sense> {
    if lba >= sectors(disc) {
        return Err(Sense::OUT_OF_RANGE);
    }
    for index in 0..DISK_SECTORS {
        let mut part = [0; disk::SECTOR];
        match disc.read(u64::from(lba) * DISK_SECTORS + index, &mut part) {
            Ok(()) | Err(disk::SectorError::OutOfRange(_)) => into.extend_from_slice(&part),
            Err(error) => {
                tracing::debug!("{error}");
                return Err(Sense::UNREADABLE);
            }
        }
    }
    Ok(())
}

/// Executes a packet.
pub(super) fn execute(drive: &mut Packet, disc: &Disk, cdb: &[u8; CDB]) -> Result<Reply, Sense> {
    let word = |at: usize| usize::from(u16::from_be_bytes([cdb[at], cdb[at + 1]]));
    let dword = |at: usize| u32::from_be_bytes([cdb[at], cdb[at + 1], cdb[at + 2], cdb[at + 3]]);
    let present = if drive.ejected { Err(Sense::NO_MEDIUM) } else { Ok(()) };
    let sense = std::mem::take(&mut drive.sense);
    match cdb[0] {
        // TEST UNIT READY
        0x00 => present.map(|()| Reply::Nothing),
        // REQUEST SENSE
        0x03 => {
            let mut reply = vec![0; 18];
            (reply[0], reply[2], reply[7]) = (0x70, sense.key, 10);
            (reply[12], reply[13]) = (sense.code, sense.qualifier);
            Ok(cut(reply, cdb[4].into()))
        }
        // INQUIRY
        0x12 => inquiry(cdb),
        // START STOP UNIT
        0x1b => start_stop(drive, cdb[4]),
        // PREVENT ALLOW MEDIUM REMOVAL
        0x1e => {
            drive.locked = cdb[4] & 1 != 0;
            Ok(Reply::Nothing)
        }
        // READ CAPACITY: the last sector, the size of each
        0x25 => {
            present?;
            let last = sectors(disc).saturating_sub(1);
            Ok(Reply::Bytes([last.to_be_bytes(), (SECTOR as u32).to_be_bytes()].concat()))
        }
        // READ(10), READ(12)
        0x28 => present.and_then(|()| read_sectors(disc, dword(2), word(7) as u32)),
        0xa8 => present.and_then(|()| read_sectors(disc, dword(2), dword(6))),
        // READ CD: user data of 2048 bytes, or nothing at all
        0xbe => {
            present?;
            let count = u32::from_be_bytes([0, cdb[6], cdb[7], cdb[8]]);
            match cdb[9] & 0xf8 {
                0x00 => read_sectors(disc, dword(2), count).map(|_| Reply::Nothing),
                0x10 => read_sectors(disc, dword(2), count),
                _ => Err(Sense::INVALID_FIELD),
            }
        }
        // SEEK(10)
        0x2b => {
            present?;
            if dword(2) < sectors(disc) { Ok(Reply::Nothing) } else { Err(Sense::OUT_OF_RANGE) }
        }
        // READ TOC
        0x43 => {
            present?;
            // SFF-8020i has the format in the last byte, MMC in the third
            let format = if cdb[2] & 15 != 0 { cdb[2] & 15 } else { cdb[9] >> 6 };
            toc(disc, format, cdb[6], cdb[1] & 2 != 0).map(|reply| cut(reply, word(7)))
        }
        // GET CONFIGURATION
        0x46 => Ok(cut(configuration(drive, disc), word(7))),
        // GET EVENT STATUS NOTIFICATION
        0x4a => events(drive, cdb).map(|reply| cut(reply, word(7))),
        // READ DISC INFORMATION: a complete disc of one session
        0x51 => {
            present?;
            let mut reply = vec![0; 34];
            reply[..8].copy_from_slice(&[0, 32, 0x0e, 1, 1, 1, 1, 0x20]);
            Ok(cut(reply, word(7)))
        }
        // MODE SENSE(10)
        0x5a => mode_sense(drive, cdb[2]).map(|reply| cut(reply, word(7))),
        // SET CD SPEED: there is one
        0xbb => Ok(Reply::Nothing),
        // MECHANISM STATUS: no changer
        0xbd => {
            let open = if drive.ejected { 0x10 } else { 0 };
            Ok(cut(vec![0, open, 0, 0, 0, 1, 0, 0], word(8)))
        }
        unknown => {
            tracing::debug!("the CD-ROM drive does not know packet {unknown:#04x}");
            Err(Sense::UNKNOWN_COMMAND)
        }
    }
}

/// A reply no longer than its packet allows.
fn cut(mut reply: Vec<u8>, allocation: usize) -> Reply {
    reply.truncate(allocation);
    if reply.is_empty() { Reply::Nothing } else { Reply::Bytes(reply) }
}

fn read_sectors(disc: &Disk, first: u32, count: u32) -> Result<Reply, Sense> {
    match first.checked_add(count) {
        Some(end) if end <= sectors(disc) => {
            Ok(if count == 0 { Reply::Nothing } else { Reply::Sectors { first, count } })
        }
        _ => Err(Sense::OUT_OF_RANGE),
    }
}

fn inquiry(cdb: &[u8; CDB]) -> Result<Reply, Sense> {
    // no vital product data
    if cdb[1] & 1 != 0 || cdb[2] != 0 {
        return Err(Sense::INVALID_FIELD);
    }
    // a CD-ROM, removable, ATAPI as by SFF-8020i
    let mut reply = vec![0x05, 0x80, 0x00, 0x21, 31, 0, 0, 0];
    reply.extend_from_slice(b"PAGEWALKCD-ROM          1.0 ");
    Ok(cut(reply, cdb[4].into()))
}

fn start_stop(drive: &mut Packet, how: u8) -> Result<Reply, Sense> {
    const START: u8 = 1 << 0;
    const LOAD_EJECT: u8 = 1 << 1;
    if how & LOAD_EJECT != 0 {
        let eject = how & START == 0;
        if eject && drive.locked {
            return Err(Sense::REMOVAL_PREVENTED);
        }
        if eject != drive.ejected {
            drive.event = if eject { EVENT_REMOVAL } else { EVENT_NEW_MEDIA };
        }
        drive.ejected = eject;
    }
    Ok(Reply::Nothing)
}

/// An address as the packet wants it: a sector number, or minute, second and frame.
fn address(lba: u32, by_time: bool) -> [u8; 4] {
    let frames = lba.saturating_add(PREGAP);
    if by_time {
        [0, (frames / (75 * 60)) as u8, (frames / 75 % 60) as u8, (frames % 75) as u8]
    } else {
        lba.to_be_bytes()
    }
}

fn toc(disc: &Disk, format: u8, from: u8, by_time: bool) -> Result<Vec<u8>, Sense> {
    const LEAD_OUT: u8 = 0xaa;
    // a data track, recorded without interruption
    const DATA: u8 = 0x14;
    let track = |number: u8, lba: u32| {
        let mut row = vec![0, DATA, number, 0];
        row.extend(address(lba, by_time));
        row
    };
    let mut rows = Vec::new();
    match format {
        0 => {
            if from > 1 && from != LEAD_OUT {
                return Err(Sense::INVALID_FIELD);
            }
            if from <= 1 {
                rows.extend(track(1, 0));
            }
            rows.extend(track(LEAD_OUT, sectors(disc)));
        }
        // the first track of the last session
        1 => rows.extend(track(1, 0)),
        _ => return Err(Sense::INVALID_FIELD),
    }
    let [high, low] = (rows.len() as u16 + 2).to_be_bytes();
    Ok([vec![high, low, 1, 1], rows].concat())
}

fn configuration(drive: &Packet, disc: &Disk) -> Vec<u8> {
    let is_dvd = sectors(disc) > CD_SECTORS;
    let current = match drive.ejected {
        true => 0,
        false if is_dvd => PROFILE_DVD,
        false => PROFILE_CD,
    };
    let profile = |profile: u16| {
        let [high, low] = profile.to_be_bytes();
        [high, low, u8::from(profile == current), 0]
    };
    let mut features = vec![0x00, 0x00, 0x03, 8];
    features.extend(profile(PROFILE_DVD));
    features.extend(profile(PROFILE_CD));
    // core: ATAPI
    features.extend([0x00, 0x01, 0x03, 4, 0, 0, 0, 2]);
    let mut reply = (features.len() as u32 + 4).to_be_bytes().to_vec();
    reply.extend([0, 0]);
    reply.extend(current.to_be_bytes());
    reply.extend(features);
    reply
}

fn events(drive: &mut Packet, cdb: &[u8; CDB]) -> Result<Vec<u8>, Sense> {
    const MEDIA: u8 = 4;
    const NO_EVENT: u8 = 0x80;
    // only polling: no events come by themselves
    if cdb[1] & 1 == 0 {
        return Err(Sense::INVALID_FIELD);
    }
    if cdb[4] & 1 << MEDIA == 0 {
        return Ok(vec![0, 2, NO_EVENT, 1 << MEDIA]);
    }
    let status = if drive.ejected { 0x01 } else { 0x02 };
    Ok(vec![0, 6, MEDIA, 1 << MEDIA, std::mem::take(&mut drive.event), status, 0, 0])
}

fn mode_sense(drive: &Packet, page: u8) -> Result<Vec<u8>, Sense> {
    const CHANGEABLE: u8 = 1;
    const SAVED: u8 = 3;
    if page >> 6 == SAVED {
        return Err(Sense { key: ILLEGAL_REQUEST, code: 0x39, qualifier: 0 });
    }
    let recovery: &[u8] = &[0x01, 6, 0, 5, 0, 0, 0, 0];
    let locked = if drive.locked { 0x02 } else { 0 };
    // reads CD-R, CD-RW; modes 2 form 1 and 2, multiple sessions; a tray that can be locked and ejected; 4 times
    // 176 KB/s, a buffer of 512 KiB
    let capabilities: &[u8] =
        &[0x2a, 18, 0x03, 0, 0x70, 0, 0x29 | locked, 0, 0x02, 0xc2, 0, 2, 0x02, 0, 0x02, 0xc2, 0, 0, 0, 0];
    let pages = match page & 0x3f {
        0x01 => recovery.to_vec(),
        0x2a => capabilities.to_vec(),
        0x3f => [recovery, capabilities].concat(),
        _ => return Err(Sense::INVALID_FIELD),
    };
    let pages = match page >> 6 {
        // nothing can be changed
        CHANGEABLE => blank(&pages),
        _ => pages,
    };
    let medium = if drive.ejected { 0x71 } else { 0x01 };
    let [high, low] = (pages.len() as u16 + 6).to_be_bytes();
    Ok([vec![high, low, medium, 0, 0, 0, 0, 0], pages].concat())
}

/// Pages with nothing but their codes and lengths.
fn blank(pages: &[u8]) -> Vec<u8> {
    let mut blank = vec![0; pages.len()];
    let mut at = 0;
    while at + 1 < pages.len() {
        blank[at..at + 2].copy_from_slice(&pages[at..at + 2]);
        at += 2 + usize::from(pages[at + 1]);
    }
    blank
}
