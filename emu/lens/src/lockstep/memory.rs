//! All of memory compared, at a point where both stand still.

use pagewalk_x86::bus::Bus;

use super::known::{self, OurCpu};
use super::pair::Pair;
use crate::qemu::{Error, Qemu};
use crate::tables::Tables;

/// How much is read and compared at once.
const PIECE: usize = 1 << 20;
/// How many differing places are told.
const MOST: usize = 64;

/// Four bytes of memory that differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Offset into RAM (below 3 GiB: the physical address).
    pub offset: u64,
    /// Ours.
    pub ours: u32,
    /// QEMU's.
    pub theirs: u32,
}

/// Compares all RAM. Differences that are known are levelled: ours takes QEMU's bytes.
pub fn compare(pair: &mut Pair, qemu: &Qemu, tables: &Tables) -> Result<Vec<Place>, Error> {
    let mut places = Vec::new();
    let mut piece = vec![0; PIECE];
    let memory = qemu.memory();
    let mut at = 0;
    while at < memory {
        let len = PIECE.min((memory - at) as usize);
        let theirs = &mut piece[..len];
        qemu.read_ram(at, theirs)?;
        if pair.ours.cpu.bus.ram().slice(at as usize, len) != theirs {
            for word in (0..len).step_by(4) {
                let offset = at as usize + word;
                let theirs =
                    u32::from_le_bytes([piece[word], piece[word + 1], piece[word + 2], piece[word + 3]]);
                let ours = u32::from_le_bytes(pair.ours.cpu.bus.ram().read(offset));
                if ours == theirs {
                    continue;
                }
                let place = Place { offset: offset as u64, ours, theirs };
                match explain(pair, place, tables) {
                    Some(name) => {
                        pair.note(name);
                        pair.ours.cpu.bus.ram_mut().write(offset, &theirs.to_le_bytes());
                    }
                    None if places.len() < MOST => places.push(place),
                    None => {}
                }
            }
        }
        at += len as u64;
    }
    Ok(places)
}

/// Ours takes all of QEMU's RAM.
pub fn take(cpu: &mut OurCpu, qemu: &Qemu) -> Result<(), Error> {
    let mut piece = vec![0; PIECE];
    let memory = qemu.memory();
    let mut at = 0;
    while at < memory {
        let len = PIECE.min((memory - at) as usize);
        let theirs = &mut piece[..len];
        qemu.read_ram(at, theirs)?;
        for page in (0..len).step_by(4096) {
            let offset = at as usize + page;
            let theirs = &theirs[page..len.min(page + 4096)];
            if cpu.bus.ram().slice(offset, theirs.len()) != theirs {
                cpu.bus.ram_mut().write(offset, theirs);
            }
        }
        at += len as u64;
    }
    Ok(())
}

/// The known deviation that a difference comes from.
fn explain(pair: &Pair, place: Place, tables: &Tables) -> Option<&'static str> {
    let changed = place.ours ^ place.theirs;
    if tables.differ_in_page_bits(place.offset, changed) {
        return Some(known::PAGE_BITS);
    }
    if tables.differ_in_accessed_bit(place.offset, changed, &pair.ours.cpu) {
        return Some(known::ACCESSED);
    }
    pair.tainted(place.offset)
}
