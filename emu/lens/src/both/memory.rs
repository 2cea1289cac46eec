//! RAM at the end of both, compared.
//!
//! Left out, and counted by name:
//! - the VGA window and the ROM area, 640 KiB to 1 MiB: QEMU has its firmware's shadow there, we have none;
//! - what differed before the image's first instruction and was left alone by both: the vectors, data and tables of
//!   QEMU's firmware;
//! - accessed and dirty bits of page tables, accessed bits of descriptors, and RF in what looks like a saved EFLAGS: known
//!   deviations of QEMU.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;

use pagewalk_pc::machine::Machine;
use pagewalk_x86::bus::Phys;
use pagewalk_x86::flags;

use super::Watch;
use crate::lockstep::known;
use crate::qemu::layout::{self, Backing};
use crate::qemu::{Error, Qemu};

/// The VGA window and the ROM area.
const HOLE: std::ops::Range<u64> = 0xa_0000..0x10_0000;
/// A page.
const PAGE: usize = 4096;
/// How many differing places are kept.
const MOST: usize = 8;
/// The name of what differed from the beginning.
pub const FIRMWARE: &str = "left by QEMU's firmware, and not changed since";

/// Four bytes that differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word {
    /// The physical address.
    pub at: u64,
    /// Ours.
    pub ours: u32,
    /// QEMU's.
    pub theirs: u32,
}

/// What came of the comparison.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// How many bytes were compared.
    pub bytes: u64,
    /// Hashes of ours and QEMU's, with zeros for what is left out.
    pub hashes: (u64, u64),
    /// How many words of four bytes were left out, by reason.
    pub left_out: BTreeMap<&'static str, u64>,
    /// How many others differ.
    pub words: u64,
    /// In how many pages.
    pub pages: u64,
    /// The first of them.
    pub first: Vec<Word>,
}

/// RAM as it was at the first instruction, where the two differed.
pub struct Beginning {
    /// RAM: physical address, length, place in QEMU's file.
    ranges: Vec<(u64, u64, u64)>,
    /// Pages that differed, by address: ours and QEMU's.
    pages: BTreeMap<u64, [Box<[u8; PAGE]>; 2]>,
}

impl Beginning {
    /// Compares the two at the first instruction.
    pub fn new(qemu: &mut Qemu, machine: &Machine<Watch>) -> Result<Beginning, Error> {
        let ranges = layout::parse(&qemu.qmp.human("info mtree -f")?)?;
        let ranges = ranges
            .iter()
            .filter_map(|range| match range.backing {
                Backing::Ram { offset, writable: true } => Some((range.start, range.len, offset)),
                _ => None,
            })
            .collect();
        let mut beginning = Beginning { ranges, pages: BTreeMap::new() };
        let mut pages = BTreeMap::new();
        beginning.each_page(qemu, machine, |at, ours, theirs| {
            if ours != theirs {
                pages.insert(at, [Box::new(*ours), Box::new(*theirs)]);
            }
        })?;
        beginning.pages = pages;
        Ok(beginning)
    }

    /// Compares the two at their ends.
    pub fn compare(&self, qemu: &Qemu, machine: &Machine<Watch>) -> Result<Memory, Error> {
        let cpu = &machine.processor.cpu;
        let tables = &cpu.observer.tables;
        let mut memory = Memory::default();
        let mut hashers = [(); 2].map(|()| std::collections::hash_map::DefaultHasher::new());
        let mut pages = BTreeSet::new();
        self.each_page(qemu, machine, |at, ours, theirs| {
            memory.bytes += PAGE as u64;
            if ours != theirs {
                let before = self.pages.get(&at);
                for offset in (0..PAGE).step_by(4) {
                    let word = Word {
                        at: at + offset as u64,
                        ours: word_at(ours, offset),
                        theirs: word_at(theirs, offset),
                    };
                    let changed = word.ours ^ word.theirs;
                    if changed == 0 {
                        continue;
                    }
                    let untouched = before.is_some_and(|[our, their]| {
                        word_at(our, offset) == word.ours && word_at(their, offset) == word.theirs
                    });
                    let reason = if untouched {
                        Some(FIRMWARE)
                    } else if tables.differ_in_page_bits(word.at, changed) {
                        Some(known::PAGE_BITS)
                    } else if tables.differ_in_accessed_bit(word.at, changed, cpu) {
                        Some(known::ACCESSED)
                    } else if differ_in_rf(word) {
                        Some(known::RF_SAVED)
                    } else {
                        None
                    };
                    match reason {
                        Some(reason) => {
                            *memory.left_out.entry(reason).or_default() += 1;
                            ours[offset..offset + 4].fill(0);
                            theirs[offset..offset + 4].fill(0);
                        }
                        None => {
                            memory.words += 1;
                            pages.insert(at);
                            if memory.first.len() < MOST {
                                memory.first.push(word);
                            }
                        }
                    }
                }
            }
            hashers[0].write(ours);
            hashers[1].write(theirs);
        })?;
        memory.pages = pages.len() as u64;
        memory.hashes = (hashers[0].finish(), hashers[1].finish());
        Ok(memory)
    }

    /// Shows each page of RAM, ours and QEMU's.
    fn each_page(
        &self,
        qemu: &Qemu,
        machine: &Machine<Watch>,
        mut show: impl FnMut(u64, &mut [u8; PAGE], &mut [u8; PAGE]),
    ) -> Result<(), Error> {
        const PIECE: usize = 1 << 20;
        let mut piece = vec![0; PIECE];
        let (mut ours, mut theirs) = ([0; PAGE], [0; PAGE]);
        for &(start, len, offset) in &self.ranges {
            let mut done = 0;
            while done < len {
                let now = (len - done).min(PIECE as u64) as usize;
                qemu.read_ram(offset + done, &mut piece[..now])?;
                for (index, page) in piece[..now].chunks_exact(PAGE).enumerate() {
                    let at = start + done + (index * PAGE) as u64;
                    if HOLE.contains(&at) {
                        continue;
                    }
                    machine.processor.cpu.bus.peek(Phys(at), &mut ours);
                    theirs.copy_from_slice(page);
                    show(at, &mut ours, &mut theirs);
                }
                done += now as u64;
            }
        }
        Ok(())
    }
}

fn word_at(page: &[u8; PAGE], offset: usize) -> u32 {
    u32::from_le_bytes([page[offset], page[offset + 1], page[offset + 2], page[offset + 3]])
}

/// Whether the two differ in RF alone, set in ours, and are otherwise flags: bit 1 set, the other reserved bits clear.
fn differ_in_rf(word: Word) -> bool {
    const RESERVED: u32 = 0xffc0_802a;
    word.ours ^ word.theirs == flags::RF && word.ours & flags::RF != 0 && word.ours & RESERVED == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_flags_are_taken_for_flags() {
        let word = |ours, theirs| Word { at: 0, ours, theirs };
        // SDM 1 "EFLAGS Register", figure
        assert!(differ_in_rf(word(0x0001_0246, 0x0000_0246)));
        assert!(!differ_in_rf(word(0x0000_0246, 0x0001_0246)));
        assert!(!differ_in_rf(word(0x0001_0244, 0x0000_0244)));
        assert!(!differ_in_rf(word(0x0101_0246, 0x0100_0246)));
        assert!(!differ_in_rf(word(0x0001_0247, 0x0000_0246)));
    }
}
