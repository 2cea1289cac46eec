//! The registers of the PCI function's memory, base address register 2: the VGA's ports 3C0h to 3DFh at 400h, the VBE
//! registers at 500h. After QEMU's `docs/specs/standard-vga`. Left out: the EDID at 0 and QEMU's own registers at 600h,
//! which read as all ones.

use super::Vga;
use crate::device::PortDevice;
use pagewalk_x86::bus::{Size, Ticks};

/// How much address space they take.
pub const LENGTH: u64 = 0x1000;
const PORTS: std::ops::Range<u64> = 0x400..0x420;
/// The offset of port 3C0h.
const PORT_OFFSET: u16 = 0x10;
const VBE: std::ops::Range<u64> = 0x500..0x516;

impl Vga {
    /// A read of a register at an offset.
    pub fn read_register(&mut self, offset: u64, size: Size, now: Ticks) -> u32 {
        if VBE.contains(&offset) {
            let index = (offset - VBE.start) as u16 / 2;
            let words = u32::from(self.dispi.read(index)) | u32::from(self.dispi.read(index + 1)) << 16;
            return words >> (8 * (offset & 1)) & size.mask();
        }
        let byte = |index: u32| {
            let at = offset + u64::from(index);
            let port = PORTS.contains(&at).then(|| (at - PORTS.start) as u16 + PORT_OFFSET);
            port.map_or(0xff, |port| self.read8(port, now))
        };
        let bytes: Vec<u8> = (0..size.bytes()).map(byte).collect();
        bytes.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte))
    }

    /// A write of a register at an offset. VBE registers are written whole.
    pub fn write_register(&mut self, offset: u64, size: Size, value: u32, now: Ticks) {
        if VBE.contains(&offset) {
            for half in 0..size.bytes() as u16 / 2 {
                let index = (offset - VBE.start) as u16 / 2 + half;
                let effect = self.dispi.write(index, (value >> (16 * half)) as u16);
                self.carry_out(effect);
            }
            return;
        }
        for index in 0..size.bytes() {
            let at = offset + u64::from(index);
            if PORTS.contains(&at) {
                let port = (at - PORTS.start) as u16 + PORT_OFFSET;
                self.write8(port, (value >> (8 * index)) as u8, now);
            }
        }
    }
}
