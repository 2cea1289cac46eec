//! The 256 bytes of a function's configuration space: which have which default, and which bits can be written. PCI
//! 2.1, chapter 6.

use serde::{Deserialize, Serialize};
use serde_big_array::BigArray;

/// Vendor ID.
pub const VENDOR: u8 = 0x00;
/// Device ID.
pub const DEVICE: u8 = 0x02;
/// Command.
pub const COMMAND: u8 = 0x04;
/// Status, whose set bits are cleared by writing ones.
pub const STATUS: u8 = 0x06;
/// Revision; the class code follows.
pub const REVISION: u8 = 0x08;
/// Header type.
pub const HEADER_TYPE: u8 = 0x0e;
/// Subsystem vendor ID; the subsystem ID follows.
pub const SUBSYSTEM: u8 = 0x2c;
/// Interrupt line: nothing in the hardware looks at it.
pub const INTERRUPT_LINE: u8 = 0x3c;
/// Interrupt pin.
pub const INTERRUPT_PIN: u8 = 0x3d;

/// Command: I/O space.
pub const COMMAND_IO: u16 = 1 << 0;
/// Command: memory space.
pub const COMMAND_MEMORY: u16 = 1 << 1;
/// Command: bus master.
pub const COMMAND_MASTER: u16 = 1 << 2;

/// Received and signalled aborts, errors: the bits of status that a write of ones clears.
const STATUS_CLEARED: u16 = 0xf900;

/// One function.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    #[serde(with = "BigArray")]
    bytes: [u8; 256],
    #[serde(skip, default = "zeros")]
    defaults: [u8; 256],
    #[serde(skip, default = "zeros")]
    writable: [u8; 256],
    /// Bits cleared by writing ones.
    #[serde(skip, default = "zeros")]
    cleared: [u8; 256],
}

fn zeros() -> [u8; 256] {
    [0; 256]
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.bytes).finish()
    }
}

impl Function {
    /// A function with this identity. `class` is base class, subclass and programming interface, `revision` the rest
    /// of that dword. The subsystem is that of QEMU's machines.
    pub fn new(vendor: u16, device: u16, class: u32, revision: u8) -> Function {
        let zeros = [0; 256];
        let function = Function { bytes: zeros, defaults: zeros, writable: zeros, cleared: zeros };
        function
            .register(VENDOR, &vendor.to_le_bytes(), &[])
            .register(DEVICE, &device.to_le_bytes(), &[])
            .register(REVISION, &(class << 8 | u32::from(revision)).to_le_bytes(), &[])
            .register(SUBSYSTEM, &0x1100_1af4u32.to_le_bytes(), &[])
            .register(INTERRUPT_LINE, &[0], &[0xff])
    }

    /// Command and status: their defaults, and which bits of command can be written.
    pub fn command(self, command: u16, writable: u16, status: u16) -> Function {
        let mut function = self.register(COMMAND, &command.to_le_bytes(), &writable.to_le_bytes()).register(
            STATUS,
            &status.to_le_bytes(),
            &[],
        );
        let [low, high] = STATUS_CLEARED.to_le_bytes();
        function.cleared[usize::from(STATUS)] = low;
        function.cleared[usize::from(STATUS) + 1] = high;
        function
    }

    /// Bytes from `at` on: their defaults, and which of their bits can be written.
    pub fn register(mut self, at: u8, default: &[u8], writable: &[u8]) -> Function {
        for (index, &value) in (usize::from(at)..256).zip(default) {
            (self.defaults[index], self.bytes[index]) = (value, value);
        }
        for (index, &mask) in (usize::from(at)..256).zip(writable) {
            self.writable[index] = mask;
        }
        self
    }

    /// The function as `made` says, with the values of one from a file.
    pub(super) fn revived(self, made: Function) -> Function {
        Function { bytes: self.bytes, ..made }
    }

    /// Every register has its default.
    pub fn reset(&mut self) {
        self.bytes = self.defaults;
    }

    /// A byte.
    pub fn read(&self, register: u8) -> u8 {
        self.bytes[usize::from(register)]
    }

    /// A word.
    pub fn read16(&self, register: u8) -> u16 {
        u16::from_le_bytes([self.read(register), self.read(register.wrapping_add(1))])
    }

    /// A dword.
    pub fn read32(&self, register: u8) -> u32 {
        u32::from(self.read16(register)) | u32::from(self.read16(register.wrapping_add(2))) << 16
    }

    /// A byte is written, as far as it can be.
    pub fn write(&mut self, register: u8, value: u8) {
        let index = usize::from(register);
        let (writable, cleared) = (self.writable[index], self.cleared[index]);
        self.bytes[index] = (self.bytes[index] & !writable | value & writable) & !(value & cleared);
    }

    /// A dword is written, as far as it can be.
    pub fn write32(&mut self, register: u8, value: u32) {
        for (index, byte) in (register..=255).zip(value.to_le_bytes()) {
            self.write(index, byte);
        }
    }

    /// The I/O base address in the base address register `bar` if it is set and I/O space is enabled.
    pub fn io_base(&self, bar: u8, mask: u16) -> Option<u16> {
        let base = self.read16(bar) & mask;
        (self.read16(COMMAND) & COMMAND_IO != 0 && base != 0).then_some(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writable_bits_are_written_and_reset_takes_them_back() {
        let mut function = Function::new(0x8086, 0x1234, 0x01_0180, 5).command(0, 0x0005, 0x0280).register(
            0x20,
            &[1, 0, 0, 0],
            &[0xf0, 0xff, 0, 0],
        );
        function.write32(COMMAND, u32::MAX);
        function.write32(VENDOR, 0);
        function.write32(0x20, u32::MAX);
        assert_eq!((function.read32(VENDOR), function.read32(0x20)), (0x1234_8086, 0xfff1));
        assert_eq!(function.read32(COMMAND), 0x0280_0005);
        function.write32(0x20, 0xc040);
        assert_eq!(function.io_base(0x20, 0xfff0), Some(0xc040));
        function.write(COMMAND, 0);
        assert_eq!(function.io_base(0x20, 0xfff0), None);
        function.reset();
        assert_eq!(function.read32(0x20), 1);
    }

    #[test]
    fn status_bits_are_cleared_by_ones_and_kept_by_zeros() {
        let mut function = Function::new(1, 2, 3, 4).command(0, 0, 0x2280);
        function.write(STATUS + 1, 0x00);
        assert_eq!(function.read16(STATUS), 0x2280);
        function.write(STATUS + 1, 0xff);
        assert_eq!(function.read16(STATUS), 0x0280);
    }
}
