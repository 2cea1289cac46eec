//! A TLB read back from its image: whatever the image held, what comes out of here can be used.

use super::{Counters, Entry, MOST_SPACES, MOST_TAGS, Tlb};
use crate::bus::Phys;
use crate::image::{Damaged, IN_REACH};

impl Tlb {
    /// The TLB of an image, all of it checked; its arrays follow from the geometry.
    pub(crate) fn revived(self) -> Result<Tlb, Damaged> {
        self.geometry.check().map_err(|_| Damaged("the TLB's geometry"))?;
        let fresh = Tlb::new(self.geometry);
        if self.entries.len() != fresh.entries.len() || self.stamps.len() != fresh.stamps.len() {
            return Err(Damaged("the TLB's size"));
        }
        let tags = 1..=MOST_TAGS;
        if !tags.contains(&self.tags.len()) || usize::from(self.tag) >= self.tags.len() {
            return Err(Damaged("the TLB's tags"));
        }
        if !self.entries.iter().all(|entry| self.makes_sense(entry)) {
            return Err(Damaged("the TLB's entries"));
        }
        let times = [self.now, self.epoch, self.global_epoch, self.walks_before];
        if times.iter().chain(&self.stamps).any(|&time| time > IN_REACH) || self.epoch == 0 {
            return Err(Damaged("the TLB's times"));
        }
        if !self.counters.are_in_reach() || self.walks_before > self.counters.walks {
            return Err(Damaged("the TLB's counters"));
        }
        let spaces = 1..=MOST_SPACES;
        if !spaces.contains(&self.spaces.len())
            || self.space >= self.spaces.len()
            || self.spaces.iter().any(|space| space.entered > IN_REACH || space.walks > IN_REACH)
        {
            return Err(Damaged("the TLB's address spaces"));
        }
        Ok(Tlb { arrays: fresh.arrays, ..self })
    }

    fn makes_sense(&self, entry: &Entry) -> bool {
        if *entry == Entry::default() {
            return true;
        }
        let aligned = |base: u64| base & ((1 << entry.shift) - 1) == 0;
        let page = (12..=22).contains(&entry.shift) && (entry.shift..=22).contains(&entry.page_shift);
        let sources = entry.sources.iter().all(|source| in_reach(source.at));
        page && aligned(entry.base.0)
            && aligned(entry.linear.into())
            && in_reach(entry.base)
            && sources
            && usize::from(entry.tag) < MOST_TAGS
            && entry.epoch <= IN_REACH
            && entry.filled <= IN_REACH
    }

    /// Whether the paging-structure entries that valid translations came from can be read again, so many bytes each.
    pub(crate) fn came_from_entries_of(&self, bytes: u64) -> bool {
        let came_from = |entry: &Entry| {
            entry.sources.iter().all(|source| source.value == 0 || source.at.0.is_multiple_of(bytes))
        };
        self.entries.iter().all(|entry| !self.is_valid(entry) || came_from(entry))
    }
}

impl Counters {
    fn are_in_reach(&self) -> bool {
        let alone = [self.dirty_walks, self.walks, self.walk_reads, self.faults, self.evictions];
        let tables = self.hits.iter().chain(&self.misses).flatten().chain(&self.flushes);
        tables.chain(&alone).all(|&count| count <= IN_REACH)
    }
}

fn in_reach(at: Phys) -> bool {
    at.0 >> 52 == 0
}
