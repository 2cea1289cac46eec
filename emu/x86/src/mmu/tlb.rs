//! The TLB as a model: set-associative arrays for small and for large pages, shared by or split between fetches
//! and data, with a replacement policy, global entries and an address-space tag, all chosen at run time.
//!
//! It is part of what the guest can observe: an entry stays until the manual's rules or the geometry remove it,
//! however stale it has become.

mod image;

use super::walk::{Kind, Leaf, Rights, Source};
use crate::bus::Phys;
use serde::{Deserialize, Serialize};

/// Who gives way when a set is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
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
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Entry {
    /// Linear address of the page's first byte.
    pub linear: u32,
    /// Physical address of the page's first byte.
    pub base: Phys,
    /// Log2 of the size of what this entry covers.
    pub shift: u8,
    /// Log2 of the size of the page, more than `shift` if the entry covers a 4 KiB part of a large page.
    pub page_shift: u8,
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

    fn is_fragment_around(&self, linear: u32) -> bool {
        self.page_shift > self.shift && (linear ^ self.linear) >> self.page_shift == 0
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
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
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
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
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

/// The most values of CR3 that have a tag; past it all tags are given anew.
const MOST_TAGS: usize = 1 << 12;

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
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tlb {
    geometry: Geometry,
    /// Follows from the geometry.
    #[serde(skip)]
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
    /// Whether any entry was ever filled for a part of a large page.
    has_fragments: bool,
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
            has_fragments: false,
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
        self.has_fragments |= shift < leaf.shift;
        let entry = Entry {
            linear: linear & page_mask,
            base: Phys(leaf.base.0 | within),
            shift,
            page_shift: leaf.shift,
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

    /// Drops every entry for the page of `linear` under the current tag, global ones too, and all parts of a large page
    /// (SDM 3A "Operations that Invalidate TLBs and Paging-Structure Caches"). Returns whether there was one.
    pub fn flush_page(&mut self, linear: u32, cause: FlushCause) -> bool {
        self.count_flush(cause);
        let mut found = false;
        for kind in [Kind::Fetch, Kind::Read] {
            while let Some(slot) = self.lookup(kind, linear) {
                self.entries[slot as usize].epoch = 0;
                found = true;
            }
        }
        if self.has_fragments {
            for slot in 0..self.entries.len() {
                let entry = self.entries[slot];
                let is_ours = entry.global || entry.tag == self.tag;
                if entry.is_fragment_around(linear) && is_ours && self.is_valid(&entry) {
                    self.entries[slot].epoch = 0;
                    found = true;
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn tlb(entries: u32, ways: u32, large: u32, split: bool, policy: Policy) -> Tlb {
        let geometry = Geometry { entries, ways, large, split, policy, tagged: false };
        geometry.check().unwrap();
        Tlb::new(geometry)
    }

    /// A page that leads to the same physical address.
    fn page(linear: u32, shift: u8, global: bool) -> Leaf {
        let base = linear as u64 & !((1 << shift) - 1);
        Leaf {
            base: Phys(base),
            shift,
            rights: Rights { user: true, writable: true, no_execute: false },
            dirty: true,
            global,
            sources: [Source::default(); 2],
            reads: 2,
        }
    }

    /// Uses `linear`: whether it hit, and what a fill evicted.
    fn access(tlb: &mut Tlb, kind: Kind, linear: u32, global: bool) -> (bool, Option<u32>) {
        if let Some(slot) = tlb.lookup(kind, linear) {
            assert_eq!(tlb.entry(slot).phys(linear), Phys(linear as u64));
            tlb.touch(slot);
            return (true, None);
        }
        let (slot, evicted) = tlb.fill(kind, linear, &page(linear, 12, global), None);
        assert_eq!(tlb.lookup(kind, linear), Some(slot));
        (false, evicted.map(|entry| entry.linear))
    }

    /// A TLB as a textbook has it: each set a list of pages, the next to go first.
    struct Lists {
        sets: Vec<Vec<u32>>,
        ways: usize,
        moves_on_use: bool,
    }

    impl Lists {
        fn access(&mut self, linear: u32) -> (bool, Option<u32>) {
            let page = linear & !0xfff;
            let count = self.sets.len();
            let set = &mut self.sets[(linear >> 12) as usize % count];
            if let Some(at) = set.iter().position(|&p| p == page) {
                if self.moves_on_use {
                    set.remove(at);
                    set.push(page);
                }
                return (true, None);
            }
            let evicted = (set.len() == self.ways).then(|| set.remove(0));
            set.push(page);
            (false, evicted)
        }
        fn retain(&mut self, keep: impl Fn(u32) -> bool) {
            self.sets.iter_mut().for_each(|set| set.retain(|&page| keep(page)));
        }
    }

    #[test]
    fn lru_and_fifo_evict_what_lists_in_order_of_use_and_of_arrival_evict() {
        let is_global = |linear: u32| (linear >> 12).is_multiple_of(5);
        for (policy, moves_on_use) in [(Policy::Lru, true), (Policy::Fifo, false)] {
            for (entries, ways) in [(64, 4), (16, 1), (8, 8), (1, 1), (32, 16)] {
                let mut model = tlb(entries, ways, 8, false, policy);
                let sets = vec![Vec::new(); (entries / ways) as usize];
                let mut lists = Lists { sets, ways: ways as usize, moves_on_use };
                let mut random = Random::new(7);
                let mut evictions = 0;
                for _ in 0..20_000 {
                    let linear = random.below(3 * entries + 2) << 12 | random.below(0x1000);
                    match random.below(200) {
                        0 => {
                            model.flush_non_global(FlushCause::MovCr3);
                            lists.retain(is_global);
                        }
                        1 => {
                            model.flush_all(FlushCause::MovCr4);
                            lists.retain(|_| false);
                        }
                        2..5 => {
                            let found = model.flush_page(linear, FlushCause::Invlpg);
                            assert_eq!(found, lists.sets.iter().flatten().any(|&p| p == linear & !0xfff));
                            lists.retain(|page| page != linear & !0xfff);
                        }
                        _ => {
                            let expected = lists.access(linear);
                            assert_eq!(access(&mut model, Kind::Read, linear, is_global(linear)), expected);
                            evictions += expected.1.is_some() as u64;
                        }
                    }
                }
                assert_eq!(model.counters.evictions, evictions);
                assert_eq!(model.valid_entries().count(), lists.sets.iter().flatten().count());
            }
        }
    }

    #[test]
    fn tree_plru_follows_a_tree_of_bits() {
        // one set; node n's children are 2n and 2n + 1; each bit points to the half to give up next
        const WAYS: usize = 8;
        let mut model = tlb(WAYS as u32, WAYS as u32, 8, false, Policy::Plru);
        let mut ways = [None; WAYS];
        let mut bits = [false; WAYS];
        let mut random = Random::new(11);
        for _ in 0..20_000 {
            let linear = random.below(20) << 12;
            let hit = ways.iter().position(|&way| way == Some(linear));
            let (way, evicted) = match (hit, ways.iter().position(|way| way.is_none())) {
                (Some(way), _) => (way, None),
                (None, Some(free)) => (free, None),
                (None, None) => {
                    let mut node = 1;
                    while node < WAYS {
                        node = node * 2 + bits[node] as usize;
                    }
                    (node - WAYS, ways[node - WAYS])
                }
            };
            ways[way] = Some(linear);
            let mut node = way + WAYS;
            while node > 1 {
                bits[node / 2] = node.is_multiple_of(2);
                node /= 2;
            }
            assert_eq!(access(&mut model, Kind::Read, linear, false), (hit.is_some(), evicted));
        }
    }

    #[test]
    fn random_replacement_stays_in_the_set_and_repeats_itself() {
        let run = || {
            let mut model = tlb(16, 4, 8, false, Policy::Random);
            let mut random = Random::new(3);
            for _ in 0..5000 {
                let linear = random.below(64) << 12;
                let (_, evicted) = access(&mut model, Kind::Read, linear, false);
                assert!(evicted.is_none_or(|old| old >> 12 & 3 == linear >> 12 & 3));
            }
            model
        };
        assert!(run() == run() && run().counters.evictions > 1000);
    }

    #[test]
    fn a_split_tlb_keeps_fetches_apart_and_a_unified_one_shares() {
        for (split, shared) in [(true, false), (false, true)] {
            let mut model = tlb(4, 2, 4, split, Policy::Lru);
            access(&mut model, Kind::Fetch, 0x5000, false);
            assert_eq!(access(&mut model, Kind::Read, 0x5000, false).0, shared);
            assert!(access(&mut model, Kind::Write, 0x5000, false).0);
            model.flush_page(0x5000, FlushCause::Invlpg);
            assert_eq!(model.valid_entries().count(), 0, "INVLPG reaches both sides");
        }
    }

    #[test]
    fn large_pages_have_an_array_of_their_own_or_lie_in_parts_among_the_small() {
        let leaf = page(0x0040_0000, 22, false);
        let mut own = tlb(4, 4, 2, false, Policy::Lru);
        own.fill(Kind::Read, 0x0041_2345, &leaf, None);
        let slot = own.lookup(Kind::Read, 0x007f_ffff).unwrap();
        assert_eq!(own.entry(slot).phys(0x007f_f123), Phys(0x007f_f123));
        assert!(own.lookup(Kind::Read, 0x0080_0000).is_none());

        let mut parts = tlb(4, 4, 0, false, Policy::Lru);
        for linear in [0x0041_2345, 0x007f_f000] {
            parts.fill(Kind::Read, linear, &leaf, None);
            let slot = parts.lookup(Kind::Read, linear).unwrap();
            assert_eq!(parts.entry(slot).phys(linear), Phys(linear as u64));
        }
        assert!(parts.lookup(Kind::Read, 0x0050_0000).is_none());
        access(&mut parts, Kind::Read, 0x0080_0000, false);
        // SDM 3A: INVLPG within a large page invalidates all the entries it is kept in
        assert!(parts.flush_page(0x0050_0000, FlushCause::Invlpg));
        let left: Vec<u32> = parts.valid_entries().map(|(_, entry)| entry.linear).collect();
        assert_eq!(left, [0x0080_0000]);
    }

    #[test]
    fn a_walk_for_the_dirty_bit_reuses_its_slot_and_evicts_nothing() {
        let mut model = tlb(4, 4, 4, false, Policy::Lru);
        let (slot, _) =
            model.fill(Kind::Read, 0x5000, &Leaf { dirty: false, ..page(0x5000, 12, false) }, None);
        let again = model.fill(Kind::Write, 0x5000, &page(0x5000, 12, false), Some(slot));
        assert_eq!(again, (slot, None));
        // the page has become a large one since: the small entry goes
        model.fill(Kind::Write, 0x5000, &page(0, 22, false), Some(slot));
        assert_eq!(model.valid_entries().map(|(_, entry)| entry.shift).collect::<Vec<_>>(), [22]);
        assert_eq!(model.counters.evictions, 0);
    }

    #[test]
    fn tags_keep_address_spaces_apart_and_return_to_them() {
        let mut model = Tlb::new(Geometry { entries: 16, ways: 4, tagged: true, ..Geometry::default() });
        model.switch_tag(0x1000, |_| true);
        access(&mut model, Kind::Read, 0x5000, false);
        access(&mut model, Kind::Read, 0x9000, false);
        access(&mut model, Kind::Read, 0xa000, true);
        model.switch_tag(0x2000, |_| true);
        assert!(model.lookup(Kind::Read, 0x5000).is_none());
        assert!(model.lookup(Kind::Read, 0xa000).is_some(), "global entries have no tag");
        access(&mut model, Kind::Read, 0x5000, false);
        model.flush_page(0x9000, FlushCause::Invlpg); // not of this address space
        model.switch_tag(0x1000, |entry| entry.linear != 0x5000);
        assert!(model.lookup(Kind::Read, 0x5000).is_none(), "the tables say otherwise now");
        assert!(model.lookup(Kind::Read, 0x9000).is_some());
        assert_eq!(model.counters.flushes[FlushCause::StaleTag as usize], 1);
        model.switch_tag(0x1000, |_| true);
        assert!(model.lookup(Kind::Read, 0x9000).is_none(), "loading the same CR3 flushes");
        model.switch_tag(0x2000, |_| true);
        assert!(model.lookup(Kind::Read, 0x5000).is_some());
    }

    #[test]
    fn more_address_spaces_than_tags_forget_but_never_mix() {
        let mut model = Tlb::new(Geometry { tagged: true, ..Geometry::default() });
        for cr3 in 1..10_000u64 {
            model.switch_tag(cr3 << 12, |_| true);
            assert!(model.lookup(Kind::Read, 0x5000).is_none(), "{cr3}");
            access(&mut model, Kind::Read, 0x5000, false);
        }
    }

    #[test]
    fn impossible_shapes_are_refused_with_a_reason() {
        let good = Geometry::default();
        for (bad, word) in [
            (Geometry { entries: 0, ..good }, "entries=0"),
            (Geometry { entries: 48, ..good }, "entries=48"),
            (Geometry { entries: 1 << 17, ..good }, "entries=131072"),
            (Geometry { ways: 3, ..good }, "ways=3"),
            (Geometry { ways: 0, ..good }, "ways=0"),
            (Geometry { entries: 4, ways: 8, ..good }, "ways=8"),
            (Geometry { large: 12, ..good }, "large=12"),
            (Geometry { large: 128, ..good }, "large=128"),
        ] {
            assert!(bad.check().unwrap_err().contains(word), "{bad:?}");
        }
        assert_eq!(good.check(), Ok(()));
        assert_eq!(Geometry { entries: 1 << 16, ways: 64, large: 0, ..good }.check(), Ok(()));
    }
}
