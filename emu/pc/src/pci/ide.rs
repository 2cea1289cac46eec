//! The 82371SB's (PIIX3) function 1: what configures the two IDE channels. The channels are in `ata.rs`, always at
//! their AT ports; the bus master's ports are where base address register 4 says.
//!
//! `Choice:` the channels answer whether or not their decode enable bits are set, as QEMU's do. Timing registers are
//! written and read back only. The upper half of the base address can be written too, though ports have 16 bits: firmware
//! takes the size from all 32.

use super::config::Function;

/// The base address of the bus master's 16 ports.
const BUS_MASTER_BASE: u8 = 0x20;

/// The function at power-on.
pub fn new() -> Function {
    // bus master capable, both channels in compatibility mode
    Function::new(0x8086, 0x7010, 0x01_0180, 0x00)
        .command(0, 0x0005, 0x0280)
        .register(0x0d, &[0], &[0xf0])
        .register(BUS_MASTER_BASE, &[1, 0, 0, 0], &[0xf0, 0xff, 0xff, 0xff])
        .register(0x40, &[0, 0, 0, 0, 0], &[0xff, 0xf3, 0xff, 0xf3, 0xff])
}

/// The first port of the bus master, if it is switched on.
pub fn bus_master_ports(function: &Function) -> Option<u16> {
    function.io_base(BUS_MASTER_BASE, 0xfff0)
}

/// Whether the function may act as a bus master.
pub fn may_master(function: &Function) -> bool {
    function.read16(super::config::COMMAND) & super::config::COMMAND_MASTER != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bus_master_has_16_ports_where_base_address_4_says() {
        let mut ide = new();
        ide.write32(BUS_MASTER_BASE, u32::MAX);
        assert_eq!(ide.read32(BUS_MASTER_BASE), 0xffff_fff1);
        ide.write32(BUS_MASTER_BASE, 0xc003);
        assert_eq!((bus_master_ports(&ide), may_master(&ide)), (None, false));
        ide.write(0x04, 0x05);
        assert_eq!((bus_master_ports(&ide), may_master(&ide)), (Some(0xc000), true));
    }
}
