//! Where things lie in the memory of a case: linear addresses that are physical addresses too, where paging is off or the
//! first page table is in force.

/// Bytes of memory.
pub const RAM: usize = 0x6_0000;

/// Real mode's vectors, and its handlers: slots of [`SLOT`] bytes in segment 0.
pub const REAL_HANDLERS: u32 = 0x0400;
/// Tables of descriptors and gates.
pub const GDT: u32 = 0x1000;
pub const LDT: u32 = 0x1800;
pub const IDT: u32 = 0x2000;
/// Task-state segments: two of 32 bits with bitmaps, two of 16 bits.
pub const TSS: [u32; 4] = [0x3000, 0x3400, 0x3800, 0x3900];
/// Handlers of 32 bits, at offsets equal to their addresses, and of 16 bits, at offsets from [`HANDLERS16`].
pub const HANDLERS32: u32 = 0x4000;
pub const HANDLERS16: u32 = 0x5000;
/// Bytes of a handler's slot, and how many slots there are of each kind.
pub const SLOT: u32 = 0x80;
pub const SLOTS: u32 = 16;

/// 32-bit paging: two directories, then tables of which the first maps memory to itself.
pub const DIRECTORIES: [u32; 2] = [0x8000, 0x9000];
pub const TABLES: [u32; 2] = [0xa000, 0xb000];
/// PAE paging: two tables of PDPTEs, two directories, two tables.
pub const PDPTS: [u32; 2] = [0xc000, 0xc020];
pub const PAE_DIRECTORIES: [u32; 2] = [0xd000, 0xe000];
pub const PAE_TABLES: [u32; 2] = [0xf000, 0x1_0000];

/// The program: 64 KiB, so that a 16-bit segment covers it.
pub const CODE: u32 = 0x2_0000;
pub const CODE_BYTES: u32 = 0x8000;
/// Its data and stacks: 64 KiB too.
pub const DATA: u32 = 0x3_0000;
pub const DATA_BYTES: u32 = 0x8000;
pub const STACKS: u32 = 0x3_8000;

/// A window of the physical address space that leads, by a port, to one of several banks of memory, to ROM, or to a device.
pub const WINDOW: u32 = 0x7_0000;
pub const WINDOW_BYTES: u32 = 0x4000;
/// The banks, and what the window shows as ROM.
pub const BANKS: u32 = 0x4_0000;
pub const ROM: u32 = 0x4_8000;
/// A device's registers.
pub const DEVICE: u32 = 0x7_8000;

/// Linear addresses from here to the end of the first page table lead anywhere.
pub const ALIASES: u32 = 0x8_0000;
pub const ALIASES_END: u32 = 0x10_0000;
/// Linear addresses of large pages: 2 or 4 MiB, all of them physical address 0.
pub const LARGE: [u32; 4] = [0x40_0000, 0x80_0000, 0xc0_0000, 0xffc0_0000];
/// A linear address of the second page table.
pub const SECOND: u32 = 0x100_0000;

/// Selectors of a ring's segments.
pub fn code32(ring: u32) -> u16 {
    selector(1, ring)
}
pub fn data32(ring: u32) -> u16 {
    selector(2, ring)
}
/// 16-bit code at [`CODE`], and 16-bit data at [`DATA`].
pub fn code16(ring: u32) -> u16 {
    selector(3, ring)
}
pub fn data16(ring: u32) -> u16 {
    selector(4, ring)
}
/// 16-bit code at [`HANDLERS16`].
pub fn handlers16(ring: u32) -> u16 {
    selector(5, ring)
}
fn selector(kind: u32, ring: u32) -> u16 {
    ((kind + ring * 5) * 8 + ring) as u16
}

/// First slots of the GDT behind the rings' segments.
pub const ODD: u16 = 24 * 8;
pub const ODDS: u16 = 12;
pub const TSS_SELECTORS: [u16; 4] = [36 * 8, 37 * 8, 38 * 8, 39 * 8];
pub const LDT_SELECTOR: u16 = 40 * 8;
pub const TASK_GATES: [u16; 2] = [41 * 8, 42 * 8];
pub const CALL_GATES: u16 = 44 * 8;
pub const CALL_GATE_COUNT: u16 = 12;
pub const GDT_LIMIT: u16 = 64 * 8 - 1;
pub const LDT_LIMIT: u16 = 16 * 8 - 1;
pub const IDT_LIMIT: u16 = 64 * 8 - 1;

/// Ports: timers that raise an interrupt, the window's bank, an NMI, a reset, a write to memory behind the processor's
/// back; others only remember and answer.
pub const PORT_TIMER: u16 = 0x40;
pub const PORT_BANK: u16 = 0x41;
pub const PORT_NMI: u16 = 0x42;
pub const PORT_RESET: u16 = 0x43;
pub const PORT_DMA: u16 = 0x44;
