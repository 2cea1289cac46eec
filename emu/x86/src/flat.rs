//! The smallest bus: memory from address 0, ports that remember. For tests and for embedders who need no board.

use crate::bus::{Bus, Frame, Phys, Size, Ticks};
use crate::cpu::Cpu;
use crate::engine::Processor;
use crate::mmu::tlb::Geometry;
use crate::model::MAX;
use crate::observe::Observer;
use crate::ram::Ram;
use crate::segment::{CS, Segment};

/// Memory from physical address 0 and nothing else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlatBus {
    ram: Ram,
    /// Every OUT: port, size, value.
    pub outputs: Vec<(u16, Size, u32)>,
    /// What IN reads from any port.
    pub input: u32,
    /// The INTR line, and the vector behind it; acknowledging lowers it.
    pub interrupt: Option<u8>,
}

impl FlatBus {
    /// `size` bytes of memory.
    pub fn new(size: usize) -> FlatBus {
        FlatBus { ram: Ram::new(size), outputs: Vec::new(), input: 0xffff_ffff, interrupt: None }
    }
}

impl Bus for FlatBus {
    fn ram(&self) -> &Ram {
        &self.ram
    }
    fn ram_mut(&mut self) -> &mut Ram {
        &mut self.ram
    }
    fn frame(&self, frame: u64) -> Frame {
        if frame < (self.ram.len() >> 12) as u64 { Frame::Ram((frame << 12) as usize) } else { Frame::Device }
    }
    fn phys_of(&self, offset: usize) -> Phys {
        Phys(offset as u64)
    }
    fn layout(&self) -> u32 {
        0
    }
    fn mmio_read(&mut self, _: Phys, _: Size, _: Ticks) -> u32 {
        0xffff_ffff
    }
    fn mmio_write(&mut self, _: Phys, _: Size, _: u32, _: Ticks) {}
    fn port_read(&mut self, _: u16, size: Size, _: Ticks) -> u32 {
        self.input & size.mask()
    }
    fn port_write(&mut self, port: u16, size: Size, value: u32, _: Ticks) {
        self.outputs.push((port, size, value));
    }
    fn interrupt(&self) -> bool {
        self.interrupt.is_some()
    }
    fn acknowledge(&mut self, _: Ticks) -> u8 {
        self.interrupt.take().unwrap_or(0xff)
    }
    fn tick(&mut self, _: Ticks) -> Option<Ticks> {
        None
    }
}

/// Code size and mode to start in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// Real mode, all segments at 0.
    Real,
    /// Protected mode, flat 16-bit code segment, flat data segments.
    Flat16,
    /// Protected mode, flat 32-bit segments.
    Flat32,
}

/// A `max` processor with `size` bytes of memory, `code` at `at`, ESP at 0x8000, about to run it. The flat segments
/// come from no table: loading any selector needs a GDT of the caller's own.
pub fn processor(start: Start, code: &[u8], at: u32, size: usize) -> Processor<FlatBus, ()> {
    processor_with(start, code, at, size, ())
}

/// The same with an observer.
pub fn processor_with<O: Observer>(
    start: Start,
    code: &[u8],
    at: u32,
    size: usize,
    observer: O,
) -> Processor<FlatBus, O> {
    let mut processor = Processor::new(MAX, Geometry::default(), FlatBus::new(size), observer);
    let cpu: &mut Cpu<FlatBus, O> = &mut processor.cpu;
    cpu.bus.ram_mut().write(at as usize, code);
    let (code_attributes, data_attributes) = match start {
        Start::Real => (0x93, 0x93),
        Start::Flat16 => (0x809b, 0x8093),
        Start::Flat32 => (0xc09b, 0xc093),
    };
    let limit = if start == Start::Real { 0xffff } else { 0xffff_ffff };
    for segment in &mut cpu.segs {
        *segment = Segment::new(if start == Start::Real { 0 } else { 0x10 }, 0, limit, data_attributes);
    }
    cpu.segs[CS] = Segment::new(if start == Start::Real { 0 } else { 8 }, 0, limit, code_attributes);
    cpu.cr0 = if start == Start::Real { 0x10 } else { 0x11 };
    cpu.eip = at;
    cpu.regs.set_dword(crate::regs::ESP, 0x8000);
    cpu.update_context();
    processor
}
