//! The machine's memory map, as firmware would report it (INT 15h, E820h).

use std::ops::Range;

/// The end of what 32-bit code can address without paging.
pub(crate) const FOUR_GIB: u64 = 1 << 32;

/// What a region of the memory map is. The codes are those of ACPI "Address Range Types", which Multiboot 1 and 2
/// and PVH share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemoryKind {
    /// RAM that the guest may use.
    Available,
    /// Not for use: ROM, device memory, firmware data.
    Reserved,
    /// ACPI tables; usable once they are read.
    AcpiReclaimable,
    /// ACPI non-volatile storage; to be kept.
    AcpiNvs,
    /// RAM that is broken.
    Bad,
}

impl MemoryKind {
    /// The number that stands for this kind in an E820h entry.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            MemoryKind::Available => 1,
            MemoryKind::Reserved => 2,
            MemoryKind::AcpiReclaimable => 3,
            MemoryKind::AcpiNvs => 4,
            MemoryKind::Bad => 5,
        }
    }
}

/// One entry of the memory map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MemoryRegion {
    /// First physical address.
    pub base: u64,
    /// Length in bytes.
    pub len: u64,
    /// What is there.
    pub kind: MemoryKind,
}

impl MemoryRegion {
    fn range(&self) -> Range<u64> {
        self.base..self.base.saturating_add(self.len)
    }
}

/// The list of regions that the board reports. It is handed to the guest as it stands, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct MemoryMap {
    /// The entries.
    pub regions: Vec<MemoryRegion>,
}

impl MemoryMap {
    /// A map of these regions.
    #[must_use]
    pub fn new(regions: Vec<MemoryRegion>) -> Self {
        MemoryMap { regions }
    }

    /// The usable RAM below 4 GiB: sorted, neighbours joined, and without what another entry calls unusable.
    #[must_use]
    pub fn available(&self) -> Vec<Range<u64>> {
        let of_kind = |available: bool| {
            let kind = move |region: &&MemoryRegion| (region.kind == MemoryKind::Available) == available;
            let mut ranges: Vec<_> = self.regions.iter().filter(kind).map(MemoryRegion::range).collect();
            ranges.sort_by_key(|range| (range.start, range.end));
            ranges
        };
        let mut joined: Vec<Range<u64>> = Vec::new();
        for range in of_kind(true) {
            match joined.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => joined.push(range),
            }
        }
        let holes = of_kind(false);
        let mut usable = Vec::new();
        for range in joined {
            let mut start = range.start;
            for hole in &holes {
                if hole.start < range.end && hole.end > start {
                    usable.push(start..hole.start.max(start));
                    start = hole.end;
                }
            }
            usable.push(start..range.end);
        }
        let below_4_gib = |range: Range<u64>| range.start..range.end.min(FOUR_GIB);
        usable.into_iter().map(below_4_gib).filter(|range| range.start < range.end).collect()
    }

    /// Multiboot's `mem_lower`: KiB of RAM from address 0, at most 640.
    #[must_use]
    pub fn mem_lower(&self) -> u32 {
        self.kib_from(0).min(640)
    }

    /// Multiboot's `mem_upper`: KiB of RAM from 1 MiB up to the first hole.
    #[must_use]
    pub fn mem_upper(&self) -> u32 {
        self.kib_from(0x10_0000)
    }

    fn kib_from(&self, start: u64) -> u32 {
        let available = self.available();
        let end = available.iter().find(|range| range.contains(&start)).map_or(start, |range| range.end);
        u32::try_from((end - start) / 1024).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(regions: &[(u64, u64, MemoryKind)]) -> MemoryMap {
        MemoryMap::new(regions.iter().map(|&(base, len, kind)| MemoryRegion { base, len, kind }).collect())
    }

    #[test]
    fn a_pc_with_128_mib_reports_the_sizes_that_multiboot_asks_for() {
        let pc = map(&[
            (0, 0x9_fc00, MemoryKind::Available),
            (0x9_fc00, 0x400, MemoryKind::Reserved),
            (0xf_0000, 0x1_0000, MemoryKind::Reserved),
            (0x10_0000, 0x7ee_0000, MemoryKind::Available),
        ]);
        assert_eq!(pc.mem_lower(), 639);
        assert_eq!(pc.mem_upper(), 0x7ee_0000 / 1024);
    }

    #[test]
    fn mem_lower_is_at_most_640_even_if_ram_goes_on() {
        let flat = map(&[(0, 0x100_0000, MemoryKind::Available)]);
        assert_eq!(flat.mem_lower(), 640);
        assert_eq!(flat.mem_upper(), 15 * 1024);
    }

    #[test]
    fn available_ram_is_joined_and_loses_what_another_entry_reserves() {
        let overlapping = map(&[
            (0x3000, 0x1000, MemoryKind::Available),
            (0x1000, 0x2000, MemoryKind::Available),
            (0x1800, 0x800, MemoryKind::Reserved),
            (0x3800, u64::MAX, MemoryKind::Bad),
        ]);
        assert_eq!(overlapping.available(), [0x1000..0x1800, 0x2000..0x3800]);
    }

    #[test]
    fn ram_from_4_gib_on_is_not_for_32_bit_loaders() {
        let big =
            map(&[(0xffff_f000, 0x2000, MemoryKind::Available), (1 << 33, 1 << 30, MemoryKind::Available)]);
        assert_eq!(big.available(), vec![0xffff_f000..FOUR_GIB]);
    }

    #[test]
    fn no_ram_at_all_is_zero_kib() {
        assert_eq!((MemoryMap::default().mem_lower(), MemoryMap::default().mem_upper()), (0, 0));
    }
}
