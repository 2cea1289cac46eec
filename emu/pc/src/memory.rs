//! Where memory stands in the physical address space, and what a firmware would tell a kernel of it.
//!
//! RAM fills the address space from 0 to at most 3 GiB and goes on above 4 GiB; the VGA window and the ROM area cut
//! a hole below 1 MiB. The firmware ROM ends at 4 GiB, and its last part is seen again ending at 1 MiB, unless the host
//! bridge lets the RAM be seen that lies there. The display adapter's memory is seen where its base address says, and in
//! the VGA window where the adapter behaves as memory.

use crate::pci::host_bridge::{Attributes, Segments};
use crate::vga::memory::PLAIN_WINDOW;
use pagewalk_x86::bus::Frame;
use serde::{Deserialize, Serialize};

/// The end of conventional memory, as the BIOS tells it: the last KiB is its own (EBDA).
pub const EBDA: u64 = 0x9_fc00;
/// The VGA window.
pub const VIDEO: u64 = 0xa_0000;
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

/// Where the display adapter's memory and ROM are seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Display {
    /// What part of the video memory stands at A0000h as plain memory, if any.
    pub window: Option<u64>,
    /// Where the whole video memory stands, if anywhere.
    pub frame_buffer: Option<u64>,
    /// Where the video ROM stands, if anywhere.
    pub rom: Option<u64>,
}

/// Which frame stands where.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Layout {
    /// RAM from address 0 on, the hidden part behind the VGA window and the ROM area included.
    low: u64,
    /// RAM from 4 GiB on.
    high: u64,
    /// Size of the ROM, a whole number of pages; it is stored after all RAM.
    rom: u64,
    /// What the host bridge lets be seen in the ROM area.
    #[serde(skip)]
    shadow: Segments,
    /// Size of the video memory and of the video ROM, whole pages; they are stored after the ROM, in this order.
    video: u64,
    video_rom: u64,
    #[serde(skip)]
    display: Display,
}

impl Layout {
    /// A layout of `memory` bytes of RAM and `rom` bytes of ROM, both whole pages.
    pub fn new(memory: u64, rom: u64) -> Layout {
        let low = memory.min(LOW_LIMIT);
        Layout {
            low,
            high: memory - low,
            rom,
            shadow: Segments::default(),
            video: 0,
            video_rom: 0,
            display: Display::default(),
        }
    }

    /// The same with a display adapter of so much memory and so large a ROM, both whole pages.
    pub fn with_display(self, video: u64, video_rom: u64) -> Layout {
        Layout { video, video_rom, ..self }
    }

    /// The layout with the sizes of one from a file, nothing mapped yet: `None` where no board has such.
    pub(crate) fn revived(&self) -> Option<Layout> {
        let memory = self.low.checked_add(self.high)?;
        let whole =
            [memory, self.rom, self.video, self.video_rom].iter().all(|size| size.is_multiple_of(4096));
        let fresh = Layout::new(memory, self.rom).with_display(self.video, self.video_rom);
        (whole && fresh == *self).then_some(fresh)
    }

    /// RAM, firmware ROM, video memory and video ROM, in bytes.
    pub(crate) fn sizes(&self) -> [u64; 4] {
        [self.low + self.high, self.rom, self.video, self.video_rom]
    }

    /// The display adapter's memory is seen elsewhere; whether that changes anything.
    pub fn set_display(&mut self, display: Display) -> bool {
        std::mem::replace(&mut self.display, display) != display
    }

    /// Where the video memory is stored.
    pub fn video_offset(&self) -> u64 {
        self.rom_end()
    }

    /// Where the video ROM is stored.
    pub fn video_rom_offset(&self) -> u64 {
        self.rom_end() + self.video
    }

    /// Size of the video ROM, whole pages.
    pub fn video_rom_len(&self) -> u64 {
        self.video_rom
    }

    /// Where the stored ROM ends.
    pub fn rom_end(&self) -> u64 {
        self.low + self.high + self.rom
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
        self.rom_end() + self.video + self.video_rom
    }

    /// Where the ROM is stored.
    pub fn rom_offset(&self) -> u64 {
        self.low + self.high
    }

    /// What stands at the page of physical address `at`. Where reads and writes go to different memories, that is
    /// [`Frame::Device`]; [`Layout::rom_page`] has what is read, and RAM what is written.
    pub fn frame(&self, at: u64) -> Frame {
        let at = at & !0xfff;
        let from_rom_end = |end: u64| Frame::Rom((self.rom_end() - (end - at)) as usize);
        match at {
            VIDEO..ROM_AREA => match self.display.window {
                Some(part) if PLAIN_WINDOW.contains(&at) => {
                    Frame::Ram((self.video_offset() + part + (at - VIDEO)) as usize)
                }
                _ => Frame::Device,
            },
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
            _ => self.display_frame(at).unwrap_or(Frame::Device),
        }
    }

    /// What of the display adapter stands at a page above all RAM.
    fn display_frame(&self, at: u64) -> Option<Frame> {
        let within = |base: Option<u64>, len: u64| at.checked_sub(base?).filter(|&offset| offset < len);
        if let Some(offset) = within(self.display.rom, self.video_rom) {
            return Some(Frame::Rom((self.video_rom_offset() + offset) as usize));
        }
        let offset = within(self.display.frame_buffer, self.video)?;
        Some(Frame::Ram((self.video_offset() + offset) as usize))
    }

    /// Where the page of the ROM that stands at `at` below 1 MiB is stored.
    pub fn rom_page(&self, at: u64) -> Option<usize> {
        let before_end = EXTENDED.checked_sub(at & !0xfff)?;
        (before_end != 0 && before_end <= self.rom.min(ROM_COPY))
            .then(|| (self.rom_end() - before_end) as usize)
    }

    /// The address of a stored byte: the inverse of [`Layout::frame`]. Of a ROM seen twice, the upper place.
    pub fn address(&self, offset: usize) -> u64 {
        let offset = offset as u64;
        let above_low = offset.saturating_sub(self.low);
        let above_rom = offset.saturating_sub(self.rom_end());
        match offset {
            _ if offset < self.low => offset,
            _ if above_low < self.high => FOUR_GIB + above_low,
            _ if offset >= self.video_rom_offset() => {
                self.display.rom.unwrap_or(ROM_AREA) + (offset - self.video_rom_offset())
            }
            _ if offset >= self.rom_end() => match self.display {
                Display { frame_buffer: Some(base), .. } => base + above_rom,
                Display { window: Some(part), .. } => VIDEO + (above_rom.wrapping_sub(part) & 0xffff),
                _ => VIDEO + (above_rom & 0xffff),
            },
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
    fn the_display_adapters_memory_is_seen_where_it_says_and_ram_comes_first() {
        let mut layout = Layout::new(2 * MIB, 0x1_0000).with_display(16 * MIB, 0x1_0000);
        assert_eq!(layout.frame(0xa_0000), Frame::Device);
        let frame_buffer = Some(0xfd00_0000);
        assert!(layout.set_display(Display { window: Some(0x3_0000), frame_buffer, rom: Some(0xfeb0_0000) }));
        let video = 2 * 0x10_0000 + 0x1_0000;
        assert_eq!(layout.frame(0xa_1000), Frame::Ram(video + 0x3_1000));
        assert_eq!(layout.frame(0xb_0000), Frame::Device);
        assert_eq!(layout.frame(0xfd00_0000), Frame::Ram(video));
        assert_eq!(layout.frame(0xfdff_f000), Frame::Ram(video + 0xff_f000));
        assert_eq!(layout.frame(0xfeb0_f000), Frame::Rom(video + 0x100_f000));
        assert_eq!((layout.frame(0xfeb1_0000), layout.frame(0xfe00_0000)), (Frame::Device, Frame::Device));
        assert_eq!(layout.address(video + 0x1234), 0xfd00_1234);
        assert_eq!(layout.address(video + 0x100_0010), 0xfeb0_0010);
        layout.set_display(Display { frame_buffer: Some(0x10_0000), ..Display::default() });
        assert_eq!(layout.frame(0x10_0000), Frame::Ram(0x10_0000));
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
