//! The 82371SB's (PIIX3) function 0: the bridge to ISA. It routes the PCI interrupts PIRQA#-PIRQD# to interrupt requests.
//!
//! Left out: the decoding of X-bus chip selects, motherboard interrupts and DMA (written and read back only), SMM and
//! its timers, the top of memory. The edge/level registers are in `pic.rs`, the reset control register in
//! `system_control.rs`.

use super::config::Function;

/// Routing of PIRQA#; those of the three others follow.
pub const PIRQ_ROUTE: u8 = 0x60;

const ROUTE_DISABLED: u8 = 1 << 7;

/// The function at power-on.
pub fn new() -> Function {
    Function::new(0x8086, 0x7000, 0x06_0100, 0x00)
        // I/O, memory and bus master always; special cycles can be enabled
        .command(0x0007, 0x0008, 0x0200)
        .register(0x0e, &[0x80], &[])
        .register(0x4c, &[0x4d, 0x00, 0x03, 0x00], &[0x7f, 0, 0xff, 0x01])
        .register(PIRQ_ROUTE, &[0x80; 4], &[0x8f; 4])
        .register(0x69, &[0x02, 0x00], &[0xfe, 0x9f])
        .register(0x70, &[0x80], &[0xef])
        .register(0x76, &[0x0c, 0x0c], &[0x8f, 0x8f])
        .register(0x78, &[0x02, 0x00], &[0xff, 0xff])
        .register(0x82, &[0x00], &[0x0f])
        .register(0xa0, &[0x08, 0, 0, 0, 0, 0, 0, 0, 0x0f], &[0x1f, 0, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0xff])
}

/// The interrupt request to which a PCI interrupt (0 for PIRQA#) goes. Manual: 0, 1, 2, 8 and 13 are reserved.
pub fn route(function: &Function, pirq: u8) -> Option<u8> {
    let register = function.read(PIRQ_ROUTE + (pirq & 3));
    let irq = register & 15;
    (register & ROUTE_DISABLED == 0 && !matches!(irq, 0 | 1 | 2 | 8 | 13)).then_some(irq)
}

/// The PIRQ of a device's interrupt pin (0 for INTA#), as boards of this kind are wired.
pub fn pirq(device: u8, pin: u8) -> u8 {
    device.wrapping_add(pin).wrapping_sub(1) & 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_off_until_set_and_reserved_requests_are_none() {
        let mut bridge = new();
        assert_eq!(route(&bridge, 0), None);
        bridge.write(0x62, 0x0b);
        assert_eq!(route(&bridge, 2), Some(11));
        bridge.write(0x62, 0x8b);
        assert_eq!(route(&bridge, 2), None);
        bridge.write(0x62, 0x08);
        assert_eq!(route(&bridge, 2), None);
        bridge.write(0x63, 0x7f);
        assert_eq!(bridge.read(0x63), 0x0f);
    }

    #[test]
    fn pins_are_swizzled_by_device() {
        // on QEMU's pc, whose interrupts 10, 10, 11, 11 belong to PIRQA to D: device 3 INTA# has 11
        assert_eq!([pirq(1, 0), pirq(2, 0), pirq(3, 0), pirq(4, 0), pirq(1, 3)], [0, 1, 2, 3, 3]);
    }
}
