//! The 82371AB's (PIIX4) function 3: what configures power management and the SMBus. The registers of power management are in
//! `power.rs`; the SMBus has none.
//!
//! DEVACTB says that SMIs have been set up: there is no SMM, and firmware then leaves it alone, as under a QEMU
//! without it.

use super::config::Function;

/// Base of the power management ports.
const PM_BASE: u8 = 0x40;
/// Its bit 0 switches them on.
const PM_MISC: u8 = 0x80;
const PM_ENABLE: u8 = 1 << 0;
const SMBUS_BASE: u8 = 0x90;

/// The function at power-on.
pub fn new() -> Function {
    Function::new(0x8086, 0x7113, 0x06_8000, 0x03)
        .command(0, 0x0001, 0x0280)
        .register(0x3d, &[0x01], &[])
        .register(PM_BASE, &[1, 0, 0, 0], &[0xc0, 0xff, 0, 0])
        .register(0x44, &[0; 24], &[0xff; 24])
        .register(0x58, &[0, 0, 0, 0x02], &[0xff; 4])
        .register(0x5c, &[0; 32], &[0xff; 32])
        .register(PM_MISC, &[0], &[0x01])
        .register(SMBUS_BASE, &[1, 0, 0, 0], &[0xf0, 0xff, 0, 0])
        .register(0xd2, &[0; 5], &[0xff; 5])
}

/// The first power management port, if they are switched on.
pub fn ports(function: &Function) -> Option<u16> {
    let base = function.read16(PM_BASE) & 0xffc0;
    (function.read(PM_MISC) & PM_ENABLE != 0 && base != 0).then_some(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_are_where_the_base_says_once_they_are_switched_on() {
        let mut power = new();
        power.write32(PM_BASE, 0xb001);
        assert_eq!(ports(&power), None);
        power.write(PM_MISC, 1);
        assert_eq!(ports(&power), Some(0xb000));
    }

    #[test]
    fn the_base_keeps_its_bits_6_to_15_and_says_that_it_is_of_ports() {
        let mut power = new();
        power.write32(PM_BASE, 0xffff_ffff);
        assert_eq!(power.read32(PM_BASE), 0xffc1);
    }

    #[test]
    fn smi_is_said_to_be_set_up() {
        assert_eq!(new().read(0x5b) & 0x02, 0x02);
    }
}
