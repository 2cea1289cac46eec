//! Guest memory while it is being filled on paper: what is RAM, what is taken, and where there is room.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::memory::{FOUR_GIB, MemoryMap};
use crate::plan::Place;
use crate::refusal::Refusal;

/// Where the loader begins to look when it is free to choose: above the interrupt vectors and the BIOS data area.
const LOWEST_CHOICE: u64 = 0x1000;

/// The size of the pages that modules and information are aligned to.
pub(crate) const PAGE: u64 = 0x1000;

/// A place whose address is fixed before its bytes are known.
pub(crate) struct Reserved {
    pub(crate) at: u32,
    index: usize,
}

pub(crate) struct Layout {
    ram: Vec<Range<u64>>,
    /// Free ranges of RAM, start to end.
    free: BTreeMap<u64, u64>,
    /// Taken ranges, start to end and index into `places`.
    taken: BTreeMap<u64, (u64, usize)>,
    pub(crate) places: Vec<Place>,
}

impl Layout {
    pub(crate) fn new(memory: &MemoryMap) -> Self {
        let ram = memory.available();
        let free = ram.iter().map(|range| (range.start, range.end)).collect();
        Layout { ram, free, taken: BTreeMap::new(), places: Vec::new() }
    }

    /// Puts `data` and `zero_fill` zeros at `at`, which the image has chosen.
    pub(crate) fn put(&mut self, at: u64, data: &[u8], zero_fill: u64, what: String) -> Result<(), Refusal> {
        let len = (data.len() as u64).saturating_add(zero_fill);
        if len == 0 {
            return Ok(());
        }
        let end = at.checked_add(len).filter(|&end| end <= FOUR_GIB).ok_or_else(|| {
            let found = format!("{what} is {len:#x} bytes at {at:#x} and passes 4 GiB");
            Refusal::memory(found, "an image must end below 4 GiB")
        })?;
        let Some((&start, &stop)) = self.free.range(..=at).next_back().filter(|&(_, &stop)| end <= stop)
        else {
            return Err(self.conflict(at..end, &what));
        };
        self.free.remove(&start);
        if start < at {
            self.free.insert(start, at);
        }
        if end < stop {
            self.free.insert(end, stop);
        }
        self.taken.insert(at, (end, self.places.len()));
        self.places.push(Place { at, data: data.to_vec(), zero_fill, what });
        Ok(())
    }

    fn conflict(&self, range: Range<u64>, what: &str) -> Refusal {
        let found = format!("{what} goes to {:#x}..{:#x}", range.start, range.end);
        // Taken ranges do not overlap, so the last one that begins before our end also ends last.
        if let Some((&start, &(end, index))) = self.taken.range(..range.end).next_back()
            && end > range.start
        {
            let other = self.places.get(index).map_or("", |place| place.what.as_str());
            let found = format!("{found}, over {other} at {start:#x}..{end:#x}");
            return Refusal::memory(found, "parts of an image may not overlap in memory");
        }
        Refusal::memory(format!("{found}, which is not all RAM"), self.ram_in_words())
    }

    fn ram_in_words(&self) -> String {
        if self.ram.is_empty() {
            return "the machine has no RAM below 4 GiB".to_owned();
        }
        let ranges: Vec<_> = self.ram.iter().map(|ram| format!("{:#x}..{:#x}", ram.start, ram.end)).collect();
        format!("RAM is at {}: link the image for that, or give the machine more memory", ranges.join(", "))
    }

    /// Whether all of `range` is RAM that is not taken.
    pub(crate) fn is_free(&self, range: Range<u64>) -> bool {
        let below = self.free.range(..=range.start).next_back();
        range.start < range.end && below.is_some_and(|(_, &stop)| range.end <= stop)
    }

    /// The lowest free `len` bytes in `within` that begin at a multiple of `align`.
    pub(crate) fn lowest(&self, len: u64, align: u64, within: Range<u64>) -> Option<u64> {
        let from = within.start.max(LOWEST_CHOICE);
        self.free.iter().find_map(|(&start, &stop)| {
            let at = start.max(from).checked_next_multiple_of(align)?;
            (at.checked_add(len)? <= stop.min(within.end)).then_some(at)
        })
    }

    /// The highest free `len` bytes in `within` that begin at a multiple of `align`.
    pub(crate) fn highest(&self, len: u64, align: u64, within: Range<u64>) -> Option<u64> {
        let from = within.start.max(LOWEST_CHOICE);
        self.free.iter().rev().find_map(|(&start, &stop)| {
            let at = stop.min(within.end).checked_sub(len)?;
            let at = at - at.checked_rem(align)?;
            (at >= start.max(from)).then_some(at)
        })
    }

    /// The end of the highest place.
    fn end(&self) -> u64 {
        self.taken.last_key_value().map_or(0, |(_, &(end, _))| end)
    }

    /// Takes `len` bytes, page-aligned: above everything placed so far if there is room, else the lowest that are free.
    pub(crate) fn reserve(&mut self, len: usize, what: String) -> Result<Reserved, Refusal> {
        // Even nothing gets an address of its own.
        let len = (len as u64).max(1);
        let at = self
            .lowest(len, PAGE, self.end()..FOUR_GIB)
            .or_else(|| self.lowest(len, PAGE, 0..FOUR_GIB))
            .and_then(|at| u32::try_from(at).ok())
            .ok_or_else(|| {
                let found = format!("no room for {what}: {len:#x} bytes of RAM in one piece");
                Refusal::memory(found, "give the machine more memory with --memory")
            })?;
        let index = self.places.len();
        self.put(u64::from(at), &[], len, what)?;
        Ok(Reserved { at, index })
    }

    /// Gives a reserved place its bytes.
    pub(crate) fn fill(&mut self, reserved: &Reserved, data: Vec<u8>) {
        if let Some(place) = self.places.get_mut(reserved.index) {
            place.zero_fill = place.zero_fill.saturating_sub(data.len() as u64);
            place.data = data;
        }
    }

    /// Reserves a place for `data` and puts it there.
    pub(crate) fn choose(&mut self, data: &[u8], what: String) -> Result<u32, Refusal> {
        let reserved = self.reserve(data.len(), what)?;
        self.fill(&reserved, data.to_vec());
        Ok(reserved.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{MemoryKind, MemoryRegion};

    fn layout(ram: &[(u64, u64)]) -> Layout {
        let region =
            |&(base, end): &(u64, u64)| MemoryRegion { base, len: end - base, kind: MemoryKind::Available };
        Layout::new(&MemoryMap::new(ram.iter().map(region).collect()))
    }

    #[test]
    fn places_may_touch_but_not_overlap() {
        let mut layout = layout(&[(0, 0x10_0000)]);
        layout.put(0x2000, &[1; 0x1000], 0x1000, "first".into()).unwrap();
        layout.put(0x1000, &[2; 0x1000], 0, "below".into()).unwrap();
        layout.put(0x4000, &[3; 0x10], 0, "above".into()).unwrap();
        for (at, len) in [(0x1fff, 1), (0x1fff, 2), (0x2000, 1), (0x3fff, 1), (0x3fff, 2), (0xfff, 0x8000)] {
            let refusal = layout.put(at, &vec![0; len], 0, "late".into()).unwrap_err();
            assert!(refusal.found.contains("late goes to") && refusal.found.contains(", over "), "{refusal}");
        }
    }

    #[test]
    fn a_place_outside_ram_is_refused_and_the_ram_is_named() {
        let mut layout = layout(&[(0, 0xa_0000), (0x10_0000, 0x20_0000)]);
        for (at, zeros) in [(0x9_ffff, 2), (0xb_8000, 1), (0x1f_ffff, 2), (0xffff_ffff, 1)] {
            let refusal = layout.put(at, &[], zeros, "bss".into()).unwrap_err();
            assert!(refusal.found.contains("not all RAM"), "{refusal}");
            assert!(refusal.accepted.contains("0x0..0xa0000, 0x100000..0x200000"), "{refusal}");
        }
    }

    #[test]
    fn a_place_past_4_gib_is_refused_without_overflow() {
        let mut layout = layout(&[(0, FOUR_GIB)]);
        for (at, zeros) in [(0xffff_ffff, 2), (u64::MAX, 1), (1, u64::MAX)] {
            assert!(layout.put(at, &[0], zeros, "x".into()).unwrap_err().found.contains("passes 4 GiB"));
        }
        layout.put(0xffff_ffff, &[0], 0, "last byte".into()).unwrap();
    }

    #[test]
    fn chosen_places_are_page_aligned_above_the_kernel_and_in_one_piece() {
        let mut layout = layout(&[(0, 0xa_0000), (0x10_0000, 0x10_4000), (0x20_0000, 0x30_0000)]);
        layout.put(0x10_0000, &[0; 0x1001], 0, "kernel".into()).unwrap();
        assert_eq!(layout.choose(&[1; 0x1000], "fits behind".into()).unwrap(), 0x10_2000);
        assert_eq!(layout.choose(&[1; 0x1001], "next block".into()).unwrap(), 0x20_0000);
        assert_eq!(layout.choose(&[], "empty".into()).unwrap(), 0x20_2000);
        assert_eq!(layout.choose(&[], "another".into()).unwrap(), 0x20_3000);
    }

    #[test]
    fn a_kernel_at_the_top_of_ram_sends_the_rest_below_itself() {
        let mut layout = layout(&[(0, 0x10_0000)]);
        layout.put(0xf_0000, &[0; 0x1_0000], 0, "kernel".into()).unwrap();
        assert_eq!(layout.choose(&[1; 16], "low".into()).unwrap(), 0x1000);
        let refusal = layout.choose(&[0; 0x10_0000], "module 1".into()).unwrap_err();
        assert!(refusal.to_string().contains("no room for module 1: 0x100000 bytes"), "{refusal}");
    }

    #[test]
    fn the_highest_fit_ends_where_it_is_told() {
        let layout = layout(&[(0, 0x10_0000), (0x20_0000, 0x30_0000)]);
        assert_eq!(layout.highest(0x1000, 0x1000, 0..FOUR_GIB), Some(0x2f_f000));
        assert_eq!(layout.highest(0x1000, 0x1000, 0..0x2f_ffff), Some(0x2f_e000));
        assert_eq!(layout.highest(0x1000, 0x1000, 0..0x20_0fff), Some(0xf_f000));
        assert_eq!(layout.highest(0x10_0001, 1, 0..FOUR_GIB), None);
    }
}
