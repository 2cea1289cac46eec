//! Where memory stands in the physical address space, and what a firmware would tell a kernel of it.
//!
//! RAM fills the address space from 0 to at most 3 GiB and goes on above 4 GiB; the VGA window and the ROM area cut
//! a hole below 1 MiB. The firmware ROM ends at 4 GiB, and its last part is seen again ending at 1 MiB, unless the host
//! bridge lets the RAM be seen that lies there.

use crate::pci::host_bridge::{Attributes, Segments};
use pagewalk_x86::bus::Frame;

/// The end of conventional memory, as the BIOS tells it: the last KiB is its own (EBDA).
pub const EBDA: u64 = 0x9_fc00;
/// The VGA window.
pub const VIDEO: u64 = 0xa_0000;
/// Colour text within the VGA window.
pub const TEXT: u64 = 0xb_8000;
/// Where the area of adapters' and firmware's ROMs begins.
pub const ROM_AREA: u64 = 0xc_0000;
/// Where extended memory begins.
pub const EXTENDED: u64 = 0x10_0000;
/// RAM below 4 GiB ends here at the latest.
pub const LOW_LIMIT: u64 = 0xc000_0000;
/// 4 GiB.
pub const FOUR_GIB: u64 = 1 << 32;
/// Log2 of the size of the first twelve segments of the ROM area; the last reaches to its end.
const SEGMENT_SHIFT: u64 = 14;
/// How much of a ROM is seen again below 1 MiB at most.
const ROM_COPY: u64 = 128 << 10;

/// What a range of addresses is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// RAM that a kernel may use.
    Usable,
    /// RAM that the firmware keeps (its extended data area).
    Firmware,
    /// The VGA window.
    Video,
    /// ROM, or room for it.
    Rom,
}

/// A range of addresses with one use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// How many bytes.
    pub len: u64,
    /// What it is for.
    pub purpose: Use,
}

/// The regions, in ascending order. What none covers is empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryMap {
    /// The regions.
    pub regions: Vec<Region>,
}

impl MemoryMap {
    /// The usable regions.
    pub fn usable(&self) -> impl Iterator<Item = Region> + '_ {
        self.regions.iter().copied().filter(|region| region.purpose == Use::Usable)
    }
}

/// Which frame stands where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// RAM from address 0 on, the hidden part behind the VGA window and the ROM area included.
    low: u64,
    /// RAM from 4 GiB on.
    high: u64,
    /// Size of the ROM, a whole number of pages; it is stored after all RAM.
    rom: u64,
    /// What the host bridge lets be seen in the ROM area.
    shadow: Segments,
}

impl Layout {
    /// A layout of `memory` bytes of RAM and `rom` bytes of ROM, both whole pages.
    pub fn new(memory: u64, rom: u64) -> Layout {
        let low = memory.min(LOW_LIMIT);
        Layout { low, high: memory - low, rom, shadow: Segments::default() }
    }

    /// The host bridge sends accesses to the ROM area elsewhere; whether that changes anything.
    pub fn set_shadow(&mut self, shadow: Segments) -> bool {
        std::mem::replace(&mut self.shadow, shadow) != shadow
    }

    /// The attributes of an address in the ROM area.
    pub fn attributes(&self, at: u64) -> Attributes {
        let segment = (at.saturating_sub(ROM_AREA) >> SEGMENT_SHIFT) as usize;
        self.shadow[segment.min(self.shadow.len() - 1)]
    }

    /// How much there is to store.
    pub fn stored(&self) -> u64 {
        self.low + self.high + self.rom
    }

    /// Where the ROM is stored.
    pub fn rom_offset(&self) -> u64 {
        self.low + self.high
    }

    /// What stands at the page of physical address `at`. Where reads and writes go to different memories, that is
    /// [`Frame::Device`]; [`Layout::rom_page`] has what is read, and RAM what is written.
    pub fn frame(&self, at: u64) -> Frame {
        let at = at & !0xfff;
        let from_rom_end = |end: u64| Frame::Rom((self.stored() - (end - at)) as usize);
        match at {
            ROM_AREA..EXTENDED => match self.attributes(at) {
                Attributes { read: true, write: true } => Frame::Ram(at as usize),
                Attributes { read: true, write: false } => Frame::Rom(at as usize),
                Attributes { read: false, write: true } => Frame::Device,
                Attributes { read: false, write: false } => {
                    self.rom_page(at).map_or(Frame::Device, Frame::Rom)
                }
            },
            _ if at < self.low => Frame::Ram(at as usize),
            _ if at < FOUR_GIB && FOUR_GIB - at <= self.rom => from_rom_end(FOUR_GIB),
            _ if at >= FOUR_GIB && at - FOUR_GIB < self.high => {
                Frame::Ram((at - FOUR_GIB + self.low) as usize)
            }
            _ => Frame::Device,
        }
    }

    /// Where the page of the ROM that stands at `at` below 1 MiB is stored.
    pub fn rom_page(&self, at: u64) -> Option<usize> {
        let before_end = EXTENDED.checked_sub(at & !0xfff)?;
        (before_end != 0 && before_end <= self.rom.min(ROM_COPY))
            .then(|| (self.stored() - before_end) as usize)
    }

    /// The address of a stored byte: the inverse of [`Layout::frame`]. Of a ROM seen twice, the upper place.
    pub fn address(&self, offset: usize) -> u64 {
        let offset = offset as u64;
        let above_low = offset.saturating_sub(self.low);
        match offset {
            _ if offset < self.low => offset,
            _ if above_low < self.high => FOUR_GIB + above_low,
            _ => FOUR_GIB - self.rom + (above_low - self.high),
        }
    }

    /// The map a firmware would tell.
    pub fn map(&self) -> MemoryMap {
        let between =
            |start: u64, end: u64, purpose| Region { start, len: end.saturating_sub(start), purpose };
        let mut regions = vec![
            between(0, EBDA, Use::Usable),
            between(EBDA, VIDEO, Use::Firmware),
            between(VIDEO, ROM_AREA, Use::Video),
            between(ROM_AREA, EXTENDED, Use::Rom),
            between(EXTENDED, self.low, Use::Usable),
            between(FOUR_GIB - self.rom, FOUR_GIB, Use::Rom),
            between(FOUR_GIB, FOUR_GIB + self.high, Use::Usable),
        ];
        regions.retain(|region| region.len != 0);
        MemoryMap { regions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_map_of_128_mib_is_that_of_a_pc() {
        let layout = Layout::new(128 * MIB, 0x4_0000);
        let rows: Vec<_> =
            layout.map().regions.iter().map(|r| (r.start, r.start + r.len, r.purpose)).collect();
        assert_eq!(
            rows,
            [
                (0, 0x9_fc00, Use::Usable),
                (0x9_fc00, 0xa_0000, Use::Firmware),
                (0xa_0000, 0xc_0000, Use::Video),
                (0xc_0000, 0x10_0000, Use::Rom),
                (0x10_0000, 0x800_0000, Use::Usable),
                (0xfffc_0000, 0x1_0000_0000, Use::Rom),
            ]
        );
    }

    #[test]
    fn memory_beyond_3_gib_goes_on_above_4_gib() {
        let layout = Layout::new(4096 * MIB, 0x1_0000);
        assert_eq!(layout.frame(0xbfff_f000), Frame::Ram(0xbfff_f000));
        assert_eq!(layout.frame(0xc000_0000), Frame::Device);
        assert_eq!(layout.frame(0x1_0000_0000), Frame::Ram(0xc000_0000));
        assert_eq!(layout.frame(0x1_3fff_f000), Frame::Ram(0xffff_f000));
        assert_eq!(layout.frame(0x1_4000_0000), Frame::Device);
        assert_eq!(layout.map().usable().map(|region| region.len).sum::<u64>(), 4096 * MIB - 0x6_0400);
    }

    #[test]
    fn the_rom_ends_at_4_gib_and_its_last_128_kib_at_1_mib() {
        let layout = Layout::new(2 * MIB, 0x4_0000);
        assert_eq!(layout.frame(0xffff_f000), Frame::Rom(0x23_f000));
        assert_eq!(layout.frame(0xfffc_0000), Frame::Rom(0x20_0000));
        assert_eq!(layout.frame(0xfffb_f000), Frame::Device);
        assert_eq!(layout.frame(0xf_f000), Frame::Rom(0x23_f000));
        assert_eq!(layout.frame(0xe_0000), Frame::Rom(0x22_0000));
        assert_eq!(layout.frame(0xd_f000), Frame::Device);
    }

    #[test]
    fn the_rom_area_shows_the_memory_that_each_segments_attributes_say() {
        let mut layout = Layout::new(2 * MIB, 0x4_0000);
        let mut shadow = Segments::default();
        let attributes = |read, write| Attributes { read, write };
        (shadow[0], shadow[1], shadow[8], shadow[12]) = (
            attributes(true, true),
            attributes(true, false),
            attributes(false, true),
            attributes(true, true),
        );
        assert!(layout.set_shadow(shadow) && !layout.set_shadow(shadow));
        assert_eq!(layout.frame(0xc_3000), Frame::Ram(0xc_3000));
        assert_eq!(layout.frame(0xc_4000), Frame::Rom(0xc_4000));
        assert_eq!(layout.frame(0xc_8000), Frame::Device);
        assert_eq!((layout.frame(0xe_0000), layout.rom_page(0xe_0000)), (Frame::Device, Some(0x22_0000)));
        assert_eq!(layout.frame(0xe_4000), Frame::Rom(0x22_4000));
        assert_eq!(
            (layout.frame(0xf_0000), layout.frame(0xf_f000)),
            (Frame::Ram(0xf_0000), Frame::Ram(0xf_f000))
        );
        assert_eq!(layout.frame(0xffff_f000), Frame::Rom(0x23_f000));
        assert_eq!(layout.address(0xf_f123), 0xf_f123);
    }

    #[test]
    fn the_address_of_a_stored_page_leads_back_to_it() {
        let layout = Layout::new(LOW_LIMIT + 3 * MIB, 0x2000);
        for offset in
            [0, 0x9_f000, 0x10_0000, 0xbfff_f000, 0xc000_0000, 0xc02f_f000, 0xc030_0000, 0xc030_1000]
        {
            let (Frame::Ram(back) | Frame::Rom(back)) = layout.frame(layout.address(offset)) else {
                panic!("{offset:#x} has no frame")
            };
            assert_eq!(back, offset);
        }
    }

    #[test]
    fn every_stored_page_but_the_shadowed_ones_has_a_frame_and_none_lies_outside() {
        let layout = Layout::new(LOW_LIMIT + 3 * MIB, 0x2000);
        for at in (0..0x1_4000_0000).step_by(4096) {
            if let Frame::Ram(offset) | Frame::Rom(offset) = layout.frame(at) {
                assert!((offset as u64) < layout.stored());
            }
        }
        assert_eq!(layout.frame(u64::MAX), Frame::Device);
    }
}
