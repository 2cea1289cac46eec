//! The TLB as a model: set-associative arrays for small and for large pages, shared by or split between fetches
//! and data, with a replacement policy, global entries and an address-space tag, all chosen at run time.
//!
//! It is part of what the guest can observe: an entry stays until the manual's rules or the geometry remove it,
//! however stale it has become.

use super::walk::{Kind, Leaf, Rights, Source};
use crate::bus::Phys;

/// Who gives way when a set is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Policy {
    /// The entry whose last use lies furthest back.
    Lru,
    /// Tree pseudo-LRU, as most processors have it.
    #[default]
    Plru,
    /// The entry filled first.
    Fifo,
    /// Any, by a fixed pseudo-random sequence.
    Random,
}

/// Shape of the TLB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Entries for 4 KiB pages, on each side if split.
    pub entries: u32,
    /// Ways of a set; `entries` for full associativity.
    pub ways: u32,
    /// Entries for 2 and 4 MiB pages (fully associative), on each side if split; 0: a large page takes the place
    /// of a small one for each 4 KiB touched.
    pub large: u32,
    /// Separate arrays for fetches and data.
    pub split: bool,
    /// Replacement.
    pub policy: Policy,
    /// What if entries carried a tag per CR3 value, and MOV CR3 kept them?
    pub tagged: bool,
}

impl Default for Geometry {
    /// The data TLB of a Pentium III on both sides: 64 entries in 4 ways, 8 for large pages.
    fn default() -> Geometry {
        Geometry { entries: 64, ways: 4, large: 8, split: true, policy: Policy::Plru, tagged: false }
    }
}

/// The largest number of entries in one array.
pub const MAX_ENTRIES: u32 = 1 << 16;

impl Geometry {
    /// Checks the numbers: `entries` and `ways` powers of two (1 to 65536, ways at most 64), ways no more than
    /// entries, `large` 0 or a power of two up to 64. The error says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        if !self.entries.is_power_of_two() || self.entries > MAX_ENTRIES {
            return Err(format!("entries={} is not a power of two from 1 to {MAX_ENTRIES}", self.entries));
        }
        if !self.ways.is_power_of_two() || self.ways > self.entries || self.ways > 64 {
            return Err(format!(
                "ways={} is not a power of two from 1 to {}",
                self.ways,
                self.entries.min(64)
            ));
        }
        if self.large != 0 && (!self.large.is_power_of_two() || self.large > 64) {
            return Err(format!("large={} is neither 0 nor a power of two up to 64", self.large));
        }
        Ok(())
    }
}

/// One remembered translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// Linear address of the page's first byte.
    pub linear: u32,
    /// Physical address of the page's first byte.
    pub base: Phys,
    /// Log2 of the size of the page this entry covers.
    pub shift: u8,
    /// Rights, all levels combined.
    pub rights: Rights,
    /// A write may go through without another walk.
    pub dirty: bool,
    /// Kept over MOV CR3.
    pub global: bool,
    /// The address-space tag it was filled under.
    pub tag: u16,
    /// The paging-structure entries it came from, with their values then.
    pub sources: [Source; 2],
    /// Valid while this equals the array's epoch for global or other entries; 0 is never valid.
    epoch: u64,
    /// When it was filled, for the FIFO policy.
    filled: u64,
}

impl Entry {
    /// The physical address of `linear`, which lies in the page.
    pub fn phys(&self, linear: u32) -> Phys {
        Phys(self.base.0 | (linear & ((1u32 << self.shift) - 1)) as u64)
    }

    fn covers(&self, linear: u32) -> bool {
        (linear ^ self.linear) >> self.shift == 0
    }
}

/// Why entries were dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlushCause {
    /// MOV to CR0 cleared PG.
    MovCr0,
    /// MOV to CR3.
    MovCr3,
    /// MOV to CR4 changed a paging bit.
    MovCr4,
    /// A task switch that loaded CR3.
    TaskSwitch,
    /// INVLPG.
    Invlpg,
    /// A page fault on the address.
    PageFault,
    /// WRMSR to a memory-type range register.
    Mtrr,
    /// RESET or INIT.
    Reset,
    /// An entry under a tag turned out stale when its address space was entered (what-if `tagged`).
    StaleTag,
}

impl FlushCause {
    /// All causes, in the order of [`Counters::flushes`].
    pub const ALL: [FlushCause; 9] = [
        FlushCause::MovCr0,
        FlushCause::MovCr3,
        FlushCause::MovCr4,
        FlushCause::TaskSwitch,
        FlushCause::Invlpg,
        FlushCause::PageFault,
        FlushCause::Mtrr,
        FlushCause::Reset,
        FlushCause::StaleTag,
    ];

    /// A short name.
    pub fn name(self) -> &'static str {
        match self {
            FlushCause::MovCr0 => "mov-cr0",
            FlushCause::MovCr3 => "mov-cr3",
            FlushCause::MovCr4 => "mov-cr4",
            FlushCause::TaskSwitch => "task-switch",
            FlushCause::Invlpg => "invlpg",
            FlushCause::PageFault => "page-fault",
            FlushCause::Mtrr => "wrmsr-mtrr",
            FlushCause::Reset => "reset",
            FlushCause::StaleTag => "stale-tag",
        }
    }
}

/// What the TLB did so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Lookups that found an entry they could use: `[cpl][read, write, fetch]`; the fifth row counts accesses made
    /// while paging was off, which look nothing up.
    pub hits: [[u64; 3]; 5],
    /// Lookups that needed a walk, by the same indices.
    pub misses: [[u64; 3]; 4],
    /// Of the walks, those that found an entry but had to set the dirty bit.
    pub dirty_walks: u64,
    /// Walks made.
    pub walks: u64,
    /// Entries that walks read from memory.
    pub walk_reads: u64,
    /// Walks that ended in a page fault.
    pub faults: u64,
    /// Valid entries overwritten by others.
    pub evictions: u64,
    /// Flushes, by [`FlushCause::ALL`].
    pub flushes: [u64; 9],
}

/// What one address space cost, told apart by the value of CR3.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Space {
    /// CR3.
    pub cr3: u32,
    /// How often it was entered by a write of CR3.
    pub entered: u64,
    /// Page walks made while it was in force.
    pub walks: u64,
}

/// The most address spaces told apart; the rest share the last row.
const MOST_SPACES: usize = 1 << 12;

/// One array of entries.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Array {
    /// First slot.
    start: usize,
    sets: u32,
    ways: u32,
    large: bool,
}

/// Where an entry stands: an index into all entries of all arrays.
pub type Slot = u32;

/// The TLB of one processor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tlb {
    geometry: Geometry,
    arrays: Vec<Array>,
    entries: Vec<Entry>,
    /// When each slot was last used, in accesses; one more slot takes the stamps that mean nothing.
    stamps: Vec<u64>,
    now: u64,
    epoch: u64,
    global_epoch: u64,
    random: u64,
    tag: u16,
    /// CR3 values by tag.
    tags: Vec<u64>,
    spaces: Vec<Space>,
    /// The row of `spaces` in force, and how many walks there had been when it came into force.
    space: usize,
    walks_before: u64,
    /// What it did so far.
    pub counters: Counters,
}

/// What a fill pushed out.
pub type Evicted = Option<Entry>;

impl Tlb {
    /// An empty TLB of this shape, which must pass [`Geometry::check`].
    pub fn new(geometry: Geometry) -> Tlb {
        let mut arrays = Vec::new();
        let mut start = 0;
        for _side in 0..if geometry.split { 2 } else { 1 } {
            arrays.push(Array {
                start,
                sets: geometry.entries / geometry.ways,
                ways: geometry.ways,
                large: false,
            });
            start += geometry.entries as usize;
            arrays.push(Array { start, sets: 1, ways: geometry.large, large: true });
            start += geometry.large as usize;
        }
        Tlb {
            geometry,
            arrays,
            entries: vec![Entry::default(); start],
            stamps: vec![0; start + 1],
            now: 0,
            epoch: 1,
            global_epoch: 1,
            random: 0x9e37_79b9_7f4a_7c15,
            tag: 0,
            tags: vec![0],
            spaces: vec![Space::default()],
            space: 0,
            walks_before: 0,
            counters: Counters::default(),
        }
    }

    /// The shape.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The slot whose stamps mean nothing, for accesses that use no entry.
    pub fn scratch(&self) -> Slot {
        self.entries.len() as Slot
    }

    /// Notes a use of `slot`.
    #[inline(always)]
    pub fn touch(&mut self, slot: Slot) {
        self.now += 1;
        if let Some(stamp) = self.stamps.get_mut(slot as usize) {
            *stamp = self.now;
        }
    }

    /// The arrays that serve `kind`: for small pages and for large ones.
    fn side(&self, kind: Kind) -> usize {
        if self.geometry.split && kind != Kind::Fetch { 2 } else { 0 }
    }

    fn is_valid(&self, entry: &Entry) -> bool {
        entry.epoch == if entry.global { self.global_epoch } else { self.epoch }
    }

    fn set_of(array: &Array, linear: u32) -> usize {
        array.start + ((linear >> 12 & (array.sets - 1)) * array.ways) as usize
    }

    /// The slot that translates `linear` for this kind of access, if any.
    pub fn lookup(&self, kind: Kind, linear: u32) -> Option<Slot> {
        let side = self.side(kind);
        self.arrays[side..side + 2].iter().find_map(|array| {
            let start = Self::set_of(array, linear);
            let set = &self.entries[start..start + array.ways as usize];
            let way = set
                .iter()
                .position(|e| e.covers(linear) && self.is_valid(e) && (e.global || e.tag == self.tag))?;
            Some((start + way) as Slot)
        })
    }

    /// The entry in a slot.
    pub fn entry(&self, slot: Slot) -> &Entry {
        &self.entries[slot as usize]
    }

    /// Remembers a walk's result for `linear`; in the place of `again`, the slot of the same page, when it was
    /// walked for its dirty bit.
    pub fn fill(&mut self, kind: Kind, linear: u32, leaf: &Leaf, again: Option<Slot>) -> (Slot, Evicted) {
        let keep_large = leaf.shift > 12 && self.geometry.large != 0;
        let shift = if keep_large { leaf.shift } else { 12 };
        let page_mask = !((1u32 << shift) - 1);
        let within = (linear & page_mask & ((1u32 << leaf.shift) - 1)) as u64;
        self.now += 1;
        let entry = Entry {
            linear: linear & page_mask,
            base: Phys(leaf.base.0 | within),
            shift,
            rights: leaf.rights,
            dirty: leaf.dirty,
            global: leaf.global,
            tag: self.tag,
            sources: leaf.sources,
            epoch: if leaf.global { self.global_epoch } else { self.epoch },
            filled: self.now,
        };
        let array = &self.arrays[self.side(kind) + keep_large as usize];
        let reusable = again.filter(|&slot| {
            let slot = slot as usize;
            (array.start..array.start + (array.sets * array.ways) as usize).contains(&slot)
        });
        let slot = match reusable {
            Some(slot) => slot as usize,
            None => {
                let start = Self::set_of(array, linear);
                let ways = array.ways as usize;
                self.victim(start, ways)
            }
        };
        if reusable.is_none()
            && let Some(old) = again
        {
            self.entries[old as usize].epoch = 0;
        }
        let old = self.entries[slot];
        let evicted = (reusable.is_none() && self.is_valid(&old)).then_some(old);
        self.counters.evictions += evicted.is_some() as u64;
        self.entries[slot] = entry;
        self.stamps[slot] = self.now;
        (slot as Slot, evicted)
    }

    fn victim(&mut self, start: usize, ways: usize) -> usize {
        if let Some(free) = (start..start + ways).find(|&slot| !self.is_valid(&self.entries[slot])) {
            return free;
        }
        match self.geometry.policy {
            Policy::Lru => (start..start + ways).min_by_key(|&slot| self.stamps[slot]).unwrap_or(start),
            Policy::Fifo => {
                (start..start + ways).min_by_key(|&slot| self.entries[slot].filled).unwrap_or(start)
            }
            Policy::Plru => {
                // each node of the tree points away from the half that was used last
                let (mut lo, mut len) = (start, ways);
                while len > 1 {
                    len /= 2;
                    let newest = |from: usize| self.stamps[from..from + len].iter().max().copied();
                    if newest(lo) > newest(lo + len) {
                        lo += len;
                    }
                }
                lo
            }
            Policy::Random => {
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                start + (self.random >> 33) as usize % ways
            }
        }
    }

    /// Drops everything but global entries.
    pub fn flush_non_global(&mut self, cause: FlushCause) {
        self.count_flush(cause);
        self.epoch += 1;
    }

    /// Drops everything.
    pub fn flush_all(&mut self, cause: FlushCause) {
        self.count_flush(cause);
        self.epoch += 1;
        self.global_epoch += 1;
    }

    /// Drops every entry for the page of `linear` under the current tag, global ones too. Returns whether there was one.
    pub fn flush_page(&mut self, linear: u32, cause: FlushCause) -> bool {
        self.count_flush(cause);
        let mut found = false;
        for kind in [Kind::Fetch, Kind::Read] {
            while let Some(slot) = self.lookup(kind, linear) {
                self.entries[slot as usize].epoch = 0;
                found = true;
            }
        }
        found
    }

    fn count_flush(&mut self, cause: FlushCause) {
        self.counters.flushes[cause as usize] += 1;
    }

    /// What-if `tagged`: enters the address space of `cr3`, keeping all entries. Entries under its tag that a walk
    /// would not find again as they are (`still_true` says so) are dropped: these are the ones that the guest
    /// counted on MOV CR3 to flush. Loading the value that is loaded already flushes the tag, as guests use it to.
    pub fn switch_tag(&mut self, cr3: u64, mut still_true: impl FnMut(&Entry) -> bool) {
        const MOST_TAGS: usize = 1 << 12;
        let known = self.tags.iter().position(|&c| c == cr3);
        let reload = known == Some(self.tag as usize);
        self.tag = known.unwrap_or_else(|| {
            if self.tags.len() == MOST_TAGS {
                self.tags.clear();
                self.epoch += 1;
            }
            self.tags.push(cr3);
            self.tags.len() - 1
        }) as u16;
        for slot in 0..self.entries.len() {
            let entry = self.entries[slot];
            if self.is_valid(&entry)
                && !entry.global
                && entry.tag == self.tag
                && (reload || !still_true(&entry))
            {
                self.entries[slot].epoch = 0;
                self.count_flush(FlushCause::StaleTag);
            }
        }
        self.counters.flushes[FlushCause::MovCr3 as usize] += reload as u64;
    }

    /// Notes that a write of CR3 put an address space into force.
    pub fn enter_space(&mut self, cr3: u32) {
        let walks = self.counters.walks;
        self.spaces[self.space].walks += walks - self.walks_before;
        self.walks_before = walks;
        let known = self.spaces.iter().position(|space| space.cr3 == cr3);
        self.space = known.unwrap_or_else(|| {
            if self.spaces.len() < MOST_SPACES {
                self.spaces.push(Space { cr3, ..Space::default() });
            }
            self.spaces.len() - 1
        });
        self.spaces[self.space].entered += 1;
    }

    /// What each address space cost so far, in the order of their first use; the first row is CR3 as after reset.
    pub fn spaces(&self) -> Vec<Space> {
        let mut spaces = self.spaces.clone();
        spaces[self.space].walks += self.counters.walks - self.walks_before;
        spaces
    }

    /// Every valid entry with its slot.
    pub fn valid_entries(&self) -> impl Iterator<Item = (Slot, &Entry)> {
        self.entries.iter().enumerate().filter(|(_, e)| self.is_valid(e)).map(|(n, e)| (n as Slot, e))
    }

    /// Whether a slot belongs to the fetch side of a split TLB.
    pub fn serves_fetches(&self, slot: Slot) -> bool {
        !self.geometry.split || (slot as usize) < self.arrays[2].start
    }
}
