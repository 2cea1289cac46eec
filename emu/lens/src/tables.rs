//! Where page tables and descriptor tables were, so that bits that the processor sets in them by itself are known for what
//! they are.

use std::collections::BTreeSet;

use pagewalk_x86::bus::{Bus, Phys};
use pagewalk_x86::control::{CR0_PG, CR4_PAE};
use pagewalk_x86::cpu::{Cpu, State};
use pagewalk_x86::observe::Observer;

use crate::picture::peek_phys;
use crate::qemu::dump::Dump;

/// Accessed and dirty, in any page-table entry.
const PAGE_BITS: u32 = 0x60;
/// The accessed bit in the upper half of a descriptor.
const DESCRIPTOR_ACCESSED: u32 = 0x100;
/// So many tables are remembered at most, whatever a guest does.
const MOST: usize = 1 << 16;

/// What leads to the tables in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Roots {
    /// Paging is on.
    pub paging: bool,
    /// Entries have 8 bytes.
    pub pae: bool,
    /// CR3.
    pub cr3: u32,
    /// The GDT's linear base and limit.
    pub gdt: (u32, u32),
    /// The LDT's.
    pub ldt: (u32, u32),
}

impl From<&Dump> for Roots {
    fn from(dump: &Dump) -> Roots {
        let [cr0, _, _, cr3, cr4] = dump.cr;
        let ldt = (dump.ldtr.base, dump.ldtr.limit);
        Roots { paging: cr0 & CR0_PG != 0, pae: cr4 & CR4_PAE != 0, cr3, gdt: dump.gdt, ldt }
    }
}

impl From<&State> for Roots {
    fn from(state: &State) -> Roots {
        Roots {
            paging: state.cr0 & CR0_PG != 0,
            pae: state.cr4 & CR4_PAE != 0,
            cr3: state.cr3,
            gdt: (state.gdtr.base, state.gdtr.limit as u32),
            ldt: (state.ldtr.base, state.ldtr.limit),
        }
    }
}

/// Page tables and descriptor tables that were in use.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Frames of page tables of all levels.
    frames: BTreeSet<u64>,
    /// GDTs and LDTs: linear base and limit.
    descriptors: BTreeSet<(u32, u32)>,
    last: Option<Roots>,
}

impl Tables {
    /// Notes the tables that are in use now, if they are others than before.
    pub fn note(&mut self, roots: impl Into<Roots>, bus: &impl Bus) {
        let roots = roots.into();
        if self.last.replace(roots) == Some(roots) {
            return;
        }
        if self.descriptors.len() < MOST {
            self.descriptors.insert(roots.gdt);
            self.descriptors.insert(roots.ldt);
        }
        if roots.paging {
            self.collect(bus, roots.cr3, roots.pae);
        }
    }

    /// Follows the tables in use once more, as they are now.
    pub fn refresh(&mut self, roots: impl Into<Roots>, bus: &impl Bus) {
        self.last = None;
        self.note(roots, bus);
    }

    fn collect(&mut self, bus: &impl Bus, cr3: u32, pae: bool) {
        let entries = |table: u64, count: u64, bytes: u32| {
            (0..count).filter_map(move |n| peek_phys(bus, Phys(table + n * bytes as u64), bytes))
        };
        // present, and leading to a table rather than to a large page
        let leads_on = |entry: &u64| entry & 0x81 == 1;
        let directories: Vec<u64> = if pae {
            let table = cr3 as u64 & !31;
            self.insert(table);
            entries(table, 4, 8)
                .filter(|entry| entry & 1 != 0)
                .map(|entry| entry & 0xf_ffff_ffff_f000)
                .collect()
        } else {
            vec![cr3 as u64 & !0xfff]
        };
        let (count, bytes) = if pae { (512, 8) } else { (1024, 4) };
        for directory in directories {
            self.insert(directory);
            for entry in entries(directory, count, bytes).filter(leads_on) {
                self.insert(entry & 0xf_ffff_ffff_f000);
            }
        }
    }

    fn insert(&mut self, table: u64) {
        if self.frames.len() < MOST {
            self.frames.insert(table >> 12);
        }
    }

    /// Whether four bytes of memory at a physical address differ in nothing but accessed and dirty bits of a page table.
    pub fn differ_in_page_bits(&self, at: u64, changed: u32) -> bool {
        changed & !PAGE_BITS == 0 && self.frames.contains(&(at >> 12))
    }

    /// Whether four bytes of memory at a physical address differ in nothing but a descriptor's accessed bit.
    pub fn differ_in_accessed_bit<B: Bus, O: Observer>(
        &self,
        at: u64,
        changed: u32,
        cpu: &Cpu<B, O>,
    ) -> bool {
        changed == DESCRIPTOR_ACCESSED
            && self.descriptors.iter().any(|&(base, limit)| {
                (0..=limit.min(0xffff) & !7).step_by(8).any(|offset| {
                    let upper = cpu.peek(base.wrapping_add(offset + 4));
                    upper.is_some_and(|phys| phys.0 == at)
                })
            })
    }
}
