//! The front table: where recent translations lead in host memory, so that most accesses cost one compare.
//!
//! It speeds the TLB model up and may never change what it does: a page is here only while the model holds its
//! translation and the access needs no check but those that the compare makes. Pages that hold decoded code (for
//! writes), are watched by a breakpoint or an observer, or are no memory, are not here.

use super::tlb::Slot;

const PAGES: usize = 256;
const CLASSES: usize = 4;
/// Tag of an empty entry: no page address has its low bits set.
const EMPTY: u32 = 1;

/// Who accesses, as far as the table keeps separate entries, so that ring crossings flush nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// CPL 3.
    User = 0,
    /// CPL 0 to 2.
    Supervisor = 1,
    /// CPL 0 to 2 with EFLAGS.AC lifting SMAP.
    SupervisorAc = 2,
    /// Paging is off.
    Unpaged = 3,
}

/// A page reached directly.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Linear address of the page, or [`EMPTY`].
    tag: u32,
    /// The model's slot, to note the use.
    pub slot: Slot,
    /// Offset of the page into guest memory.
    pub page: u64,
}

/// The table: direct-mapped by page, separate for reads and writes and for each [`Class`].
#[derive(Clone, Debug)]
pub struct Front {
    entries: Box<[Entry; CLASSES * 2 * PAGES]>,
    /// Indices filled since the last flush, while they are few.
    filled: Vec<u16>,
    /// Whether anything may be filled.
    pub enabled: bool,
}

const NOTHING: Entry = Entry { tag: EMPTY, slot: 0, page: 0 };

impl Default for Front {
    fn default() -> Front {
        Front { entries: Box::new([NOTHING; CLASSES * 2 * PAGES]), filled: Vec::new(), enabled: true }
    }
}

fn index(class: Class, write: bool, linear: u32) -> usize {
    ((class as usize * 2 + write as usize) * PAGES + (linear >> 12) as usize % PAGES) % (CLASSES * 2 * PAGES)
}

impl Front {
    /// The page of `linear`, if all of `bytes` bytes lie in it and it is here.
    #[inline(always)]
    pub fn get(&self, class: Class, write: bool, linear: u32, bytes: u32) -> Option<&Entry> {
        let entry = &self.entries[index(class, write, linear)];
        // one compare: the last byte lies in the page of the tag, and the index belongs to the first byte's page
        (linear.wrapping_add(bytes - 1) & !0xfff == entry.tag).then_some(entry)
    }

    /// Adds a page at offset `page` into guest memory.
    pub fn fill(&mut self, class: Class, write: bool, linear: u32, page: u64, slot: Slot) {
        if !self.enabled {
            return;
        }
        let at = index(class, write, linear);
        self.entries[at] = Entry { tag: linear & !0xfff, slot, page };
        if self.filled.len() <= PAGES {
            self.filled.push(at as u16);
        }
    }

    /// Empties the table.
    pub fn flush(&mut self) {
        if self.filled.len() > PAGES {
            self.entries.fill(NOTHING);
        } else {
            for &at in &self.filled {
                self.entries[at as usize] = NOTHING;
            }
        }
        self.filled.clear();
    }

    /// Drops every entry for the page of `linear`.
    pub fn flush_page(&mut self, linear: u32) {
        for class in [Class::User, Class::Supervisor, Class::SupervisorAc, Class::Unpaged] {
            for write in [false, true] {
                let entry = &mut self.entries[index(class, write, linear)];
                if entry.tag == linear & !0xfff {
                    *entry = NOTHING;
                }
            }
        }
    }

    /// Drops every entry that reaches a slot of the model (the slot was given to another page).
    pub fn flush_slot(&mut self, slot: Slot) {
        self.flush_where(|entry| entry.slot == slot);
    }

    /// Drops every entry for writes to the page at offset `page` (it now holds code, or is watched).
    pub fn flush_writes_to(&mut self, page: u64) {
        self.flush_where(|entry| entry.page == page);
    }

    fn flush_where(&mut self, condition: impl Fn(&Entry) -> bool) {
        if self.filled.len() > PAGES {
            self.flush();
        }
        for &at in &self.filled {
            let entry = &mut self.entries[at as usize];
            if entry.tag != EMPTY && condition(entry) {
                *entry = NOTHING;
            }
        }
    }
}
