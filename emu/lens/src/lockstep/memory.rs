//! All of memory compared, at a point where both stand still.

use std::collections::BTreeSet;

use pagewalk_x86::bus::{Bus, Phys};
use pagewalk_x86::control::{CR0_PG, CR4_PAE};

use super::known;
use super::pair::Pair;
use crate::picture::peek_phys;
use crate::qemu::dump::Dump;
use crate::qemu::{Error, Qemu};

/// How much is read and compared at once.
const PIECE: usize = 1 << 20;
/// How many differing places are told.
const MOST: usize = 64;
/// Accessed and dirty, in any page-table entry.
const PAGE_BITS: u32 = 0x60;
/// The accessed bit in the upper half of a descriptor.
const DESCRIPTOR_ACCESSED: u32 = 0x100;

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

/// Page tables and descriptor tables that were in use.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Frames of page tables of all levels.
    frames: BTreeSet<u64>,
    /// GDTs and LDTs: linear base and limit, and CR3 at the time.
    descriptors: BTreeSet<(u32, u32)>,
    last: (u32, u32, u32, u32),
}

impl Tables {
    /// Notes the tables that are in use now, if they are others than before.
    pub fn note(&mut self, dump: &Dump, bus: &impl Bus) {
        let [cr0, _, _, cr3, cr4] = dump.cr;
        let now = (cr0 & CR0_PG, cr3, cr4, dump.gdt.0 ^ dump.ldtr.base);
        if now == self.last {
            return;
        }
        self.last = now;
        self.descriptors.insert(dump.gdt);
        self.descriptors.insert((dump.ldtr.base, dump.ldtr.limit));
        if cr0 & CR0_PG != 0 {
            self.collect(bus, cr3, cr4 & CR4_PAE != 0);
        }
    }

    /// Follows the tables in use once more, as they are now.
    pub fn refresh(&mut self, dump: &Dump, bus: &impl Bus) {
        self.last = (0, 0, 0, 0);
        self.note(dump, bus);
    }

    fn collect(&mut self, bus: &impl Bus, cr3: u32, pae: bool) {
        let entries = |table: u64, count: u64, bytes: u32| {
            (0..count).filter_map(move |n| peek_phys(bus, Phys(table + n * bytes as u64), bytes))
        };
        // present, and leading to a table rather than to a large page
        let leads_on = |entry: &u64| entry & 0x81 == 1;
        let directories: Vec<u64> = if pae {
            let table = cr3 as u64 & !31;
            self.frames.insert(table >> 12);
            entries(table, 4, 8)
                .filter(|entry| entry & 1 != 0)
                .map(|entry| entry & 0xf_ffff_ffff_f000)
                .collect()
        } else {
            vec![cr3 as u64 & !0xfff]
        };
        let (count, bytes) = if pae { (512, 8) } else { (1024, 4) };
        for directory in directories {
            self.frames.insert(directory >> 12);
            let tables = entries(directory, count, bytes).filter(leads_on);
            self.frames.extend(tables.map(|entry| (entry & 0xf_ffff_ffff_f000) >> 12));
        }
    }
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
pub fn take(pair: &mut Pair, qemu: &Qemu) -> Result<(), Error> {
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
            if pair.ours.cpu.bus.ram().slice(offset, theirs.len()) != theirs {
                pair.ours.cpu.bus.ram_mut().write(offset, theirs);
            }
        }
        at += len as u64;
    }
    Ok(())
}

/// The known deviation that a difference comes from.
fn explain(pair: &Pair, place: Place, tables: &Tables) -> Option<&'static str> {
    let changed = place.ours ^ place.theirs;
    if changed & !PAGE_BITS == 0 && tables.frames.contains(&(place.offset >> 12)) {
        return Some(known::PAGE_BITS);
    }
    if changed == DESCRIPTOR_ACCESSED {
        let within = |&(base, limit): &(u32, u32)| {
            (0..=limit.min(0xffff) & !7).step_by(8).any(|at| {
                let upper = pair.ours.cpu.peek(base.wrapping_add(at + 4));
                upper.is_some_and(|phys| phys.0 == place.offset)
            })
        };
        if tables.descriptors.iter().any(within) {
            return Some(known::ACCESSED);
        }
    }
    pair.tainted(place.offset)
}
