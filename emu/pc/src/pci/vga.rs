//! The display adapter's function, as QEMU's standard VGA has it: base address register 0 is the frame buffer, 2 the
//! registers (`vga/registers.rs`), and the expansion ROM is the video BIOS. The adapter itself is in `vga.rs`.
//!
//! `Choice:` the VGA's own ports and its window at A0000h answer whether or not I/O and memory space are enabled, as
//! QEMU's do.

use super::config::{COMMAND, COMMAND_MEMORY, Function};
use crate::vga::dispi::VIDEO_MEMORY;
use crate::vga::registers;

/// Base address of the frame buffer.
const FRAME_BUFFER: u8 = 0x10;
/// Base address of the registers.
const REGISTERS: u8 = 0x18;
/// Base address of the ROM.
const ROM: u8 = 0x30;
/// Memory that can be prefetched.
const PREFETCHABLE: u8 = 0x08;
const ROM_ENABLE: u32 = 1 << 0;

/// The function at power-on, with a ROM of so many bytes (0: none).
pub fn new(rom: u64) -> Function {
    let function = Function::new(0x1234, 0x1111, 0x03_0000, 0x02)
        .command(0, 0x0103, 0x0000)
        .register(FRAME_BUFFER, &[PREFETCHABLE, 0, 0, 0], &writable(VIDEO_MEMORY))
        .register(REGISTERS, &[0, 0, 0, 0], &writable(registers::LENGTH));
    if rom == 0 {
        return function;
    }
    let mut bits = writable(rom_space(rom));
    bits[0] |= ROM_ENABLE as u8;
    function.register(ROM, &[0, 0, 0, 0], &bits)
}

/// The address space that a ROM of so many bytes takes.
fn rom_space(rom: u64) -> u64 {
    rom.next_power_of_two().max(0x1000)
}

/// The bits that can be written of the base address of a space of `len` bytes.
fn writable(len: u64) -> [u8; 4] {
    (!(len as u32 - 1)).to_le_bytes()
}

/// A base address, if memory space is enabled and it is set.
fn base(function: &Function, register: u8, len: u64) -> Option<u64> {
    let base = function.read32(register) & !(len as u32 - 1);
    (function.read16(COMMAND) & COMMAND_MEMORY != 0 && base != 0).then_some(base.into())
}

/// Where the frame buffer is.
pub fn frame_buffer(function: &Function) -> Option<u64> {
    base(function, FRAME_BUFFER, VIDEO_MEMORY)
}

/// Where the registers are.
pub fn registers(function: &Function) -> Option<u64> {
    base(function, REGISTERS, registers::LENGTH)
}

/// Where the ROM of so many bytes is.
pub fn rom(function: &Function, rom: u64) -> Option<u64> {
    let enabled = function.read32(ROM) & ROM_ENABLE != 0 && rom != 0;
    base(function, ROM, rom_space(rom.max(1))).filter(|_| enabled)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONES: u32 = u32::MAX;

    #[test]
    fn it_has_a_frame_buffer_of_16_mib_registers_of_4_kib_and_a_rom() {
        let mut vga = new(39_000);
        for register in [FRAME_BUFFER, 0x14, REGISTERS, 0x1c, 0x20, 0x24, ROM] {
            vga.write32(register, ONES);
        }
        assert_eq!(vga.read32(FRAME_BUFFER), 0xff00_0008);
        assert_eq!((vga.read32(0x14), vga.read32(REGISTERS)), (0, 0xffff_f000));
        assert_eq!(vga.read32(ROM), 0xffff_0001);
    }

    #[test]
    fn nothing_is_anywhere_before_memory_space_and_the_rom_are_enabled() {
        let mut vga = new(0x1_0000);
        for (register, value) in [(FRAME_BUFFER, 0xfd00_0000), (REGISTERS, 0xfebf_0000), (ROM, 0xfeb0_0000)] {
            vga.write32(register, value);
        }
        assert_eq!((frame_buffer(&vga), registers(&vga), rom(&vga, 0x1_0000)), (None, None, None));
        vga.write(COMMAND, 2);
        assert_eq!((frame_buffer(&vga), registers(&vga)), (Some(0xfd00_0000), Some(0xfebf_0000)));
        assert_eq!(rom(&vga, 0x1_0000), None);
        vga.write32(ROM, 0xfeb0_0001);
        assert_eq!(rom(&vga, 0x1_0000), Some(0xfeb0_0000));
    }

    #[test]
    fn without_a_video_bios_there_is_no_rom_register() {
        let mut vga = new(0);
        vga.write32(ROM, ONES);
        assert_eq!((vga.read32(ROM), rom(&vga, 0)), (0, None));
    }
}
