//! What the processor sees of the world: memory by frame, memory-mapped registers, ports, interrupt lines, time.

use crate::ram::Ram;
use serde::{Deserialize, Serialize};

/// A physical address, up to 52 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Phys(pub u64);

impl std::fmt::Debug for Phys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// Virtual time: nanoseconds since power-on. Advances with retired instructions, jumps over HLT.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
pub struct Ticks(pub u64);

/// How many bytes a port or memory-mapped access moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// 1 byte.
    Byte,
    /// 2 bytes.
    Word,
    /// 4 bytes.
    Dword,
}

impl Size {
    /// The number of bytes.
    pub const fn bytes(self) -> u32 {
        match self {
            Size::Byte => 1,
            Size::Word => 2,
            Size::Dword => 4,
        }
    }

    /// A mask of the bits moved.
    pub const fn mask(self) -> u32 {
        match self {
            Size::Byte => 0xff,
            Size::Word => 0xffff,
            Size::Dword => 0xffff_ffff,
        }
    }
}

/// What stands behind one 4 KiB frame of the physical address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame {
    /// Readable and writable memory, at this page-aligned offset into [`Ram`].
    Ram(usize),
    /// Memory whose writes are dropped, at this page-aligned offset into [`Ram`].
    Rom(usize),
    /// No memory: every access goes to [`Bus::mmio_read`] and [`Bus::mmio_write`].
    Device,
}

/// Why the board wants the processor to stop or start over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// The RESET line: the processor starts over at the reset vector.
    Reset,
    /// The guest switched the machine off.
    PowerOff,
    /// The guest wrote this value to the debug-exit port.
    Exit(u32),
}

/// The world as the processor sees it. Every access tells the virtual time at which it happens.
pub trait Bus {
    /// The memory that [`Frame`]s point into.
    fn ram(&self) -> &Ram;
    /// The same, to write to.
    fn ram_mut(&mut self) -> &mut Ram;
    /// What stands behind frame number `frame` (physical address >> 12), address masking such as A20 applied.
    fn frame(&self, frame: u64) -> Frame;
    /// The physical address of a byte of [`Bus::ram`]: the inverse of [`Bus::frame`] (any, where there are several).
    fn phys_of(&self, offset: usize) -> Phys;
    /// A number that changes whenever an answer of [`Bus::frame`] may have changed.
    fn layout(&self) -> u32;
    /// Reads a register; unclaimed addresses read as all ones.
    fn mmio_read(&mut self, at: Phys, size: Size, now: Ticks) -> u32;
    /// Writes a register.
    fn mmio_write(&mut self, at: Phys, size: Size, value: u32, now: Ticks);
    /// IN; unclaimed ports read as all ones.
    fn port_read(&mut self, port: u16, size: Size, now: Ticks) -> u32;
    /// OUT.
    fn port_write(&mut self, port: u16, size: Size, value: u32, now: Ticks);
    /// The level of the INTR pin.
    fn interrupt(&self) -> bool;
    /// Whether, as the interrupt controller is set, any chip could ever raise INTR.
    fn can_interrupt(&self) -> bool {
        true
    }
    /// An interrupt acknowledge cycle: the vector the interrupt controller puts on the bus.
    fn acknowledge(&mut self, now: Ticks) -> u8;
    /// Whether an edge arrived on the NMI pin; asking clears it.
    fn take_nmi(&mut self) -> bool {
        false
    }
    /// IA32_APIC_BASE was written: where the local APIC's registers stand, and whether it is on.
    fn set_apic_base(&mut self, _value: u64, _now: Ticks) {}
    /// Tells the chips the time. Returns when one of them next wants to be told, if ever.
    fn tick(&mut self, now: Ticks) -> Option<Ticks>;
    /// What the board wants of the processor; asking clears it. Checked after port and MMIO accesses and ticks.
    fn take_request(&mut self) -> Option<Request> {
        None
    }
}
