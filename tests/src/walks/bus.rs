//! A physical address space of 52 bits, folded onto a little memory.

use pagewalk_x86::bus::{Bus, Frame, Phys, Size, Ticks};
use pagewalk_x86::ram::Ram;
use pagewalk_x86::random::Random;

/// Pages of memory.
const PAGES: usize = 64;

/// Every frame of the physical address space is memory: one of a few pages, by a hash of the whole frame number, so that
/// a wrong bit anywhere leads elsewhere.
#[derive(Clone, Debug)]
pub struct FoldedBus {
    ram: Ram,
}

/// Where a physical address leads.
pub fn fold(at: u64) -> usize {
    let page = (at >> 12).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (page as usize % PAGES) << 12 | (at & 0xfff) as usize
}

impl FoldedBus {
    /// Memory full of noise.
    pub fn new() -> FoldedBus {
        let mut ram = Ram::new(PAGES << 12);
        let mut random = Random::new(1);
        for at in (0..PAGES << 12).step_by(8) {
            ram.write(at, &random.bits().to_le_bytes());
        }
        FoldedBus { ram }
    }
}

impl Default for FoldedBus {
    fn default() -> FoldedBus {
        FoldedBus::new()
    }
}

impl Bus for FoldedBus {
    fn ram(&self) -> &Ram {
        &self.ram
    }
    fn ram_mut(&mut self) -> &mut Ram {
        &mut self.ram
    }
    fn frame(&self, frame: u64) -> Frame {
        Frame::Ram(fold(frame << 12))
    }
    fn phys_of(&self, offset: usize) -> Phys {
        Phys(offset as u64)
    }
    fn layout(&self) -> u32 {
        0
    }
    fn mmio_read(&mut self, _: Phys, _: Size, _: Ticks) -> u32 {
        u32::MAX
    }
    fn mmio_write(&mut self, _: Phys, _: Size, _: u32, _: Ticks) {}
    fn port_read(&mut self, _: u16, _: Size, _: Ticks) -> u32 {
        u32::MAX
    }
    fn port_write(&mut self, _: u16, _: Size, _: u32, _: Ticks) {}
    fn interrupt(&self) -> bool {
        false
    }
    fn acknowledge(&mut self, _: Ticks) -> u8 {
        0xff
    }
    fn tick(&mut self, _: Ticks) -> Option<Ticks> {
        None
    }
}
