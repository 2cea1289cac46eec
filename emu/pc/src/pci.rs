//! The PCI bus: configuration mechanism 1 and the functions of a 440FX board. PCI Local Bus Specification 2.1
//! (1995), chapters 3.7.4 and 6; Intel 82441FX (290549-001), 82371SB PIIX3 (290550-002), 82371AB PIIX4 (290562-001).
//!
//! | function | chip | file |
//! |---|---|---|
//! | 00.0 | 440FX host bridge, the PAM registers | `host_bridge` |
//! | 01.0 | PIIX3 ISA bridge, routing of PCI interrupts | `isa_bridge` |
//! | 01.1 | PIIX3 IDE | `ide`; its bus master is `bus_master` |
//! | 01.3 | PIIX4 power management | `power` |
//! | 02.0 | display adapter | `vga` |
//!
//! The numbers are those of QEMU's `pc` machine, which puts a PIIX4 function beside a PIIX3, and names itself in the
//! subsystem registers: firmware made for it finds its way by them.
//!
//! Left out: configuration mechanism 2, buses other than 0, special cycles, parity and bus errors, latency timers.

pub mod bus_master;
pub mod config;
pub mod host_bridge;
pub mod ide;
pub mod isa_bridge;
pub mod power;
pub mod vga;

use crate::device::{PortDevice, WideData};
use config::Function;
use pagewalk_x86::bus::{Size, Ticks};
use serde::{Deserialize, Serialize};

const ADDRESS_ENABLE: u32 = 1 << 31;
/// Enable, bus, device, function, register: what the address register keeps.
const ADDRESS_KEPT: u32 = 0x80ff_fffc;

/// A place on bus 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Place {
    /// Device, 0 to 31.
    pub device: u8,
    /// Function, 0 to 7.
    pub function: u8,
}

/// The host bridge's place.
pub const HOST_BRIDGE: Place = Place { device: 0, function: 0 };
/// The ISA bridge's place.
pub const ISA_BRIDGE: Place = Place { device: 1, function: 0 };
/// The IDE function's place.
pub const IDE: Place = Place { device: 1, function: 1 };
/// The power management function's place.
pub const POWER: Place = Place { device: 1, function: 3 };
/// The display adapter's place.
pub const VGA: Place = Place { device: 2, function: 0 };

/// The bus with its functions, and the address register (CF8h). The data ports are the chip's offsets 0 to 3.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pci {
    address: u32,
    functions: Vec<(Place, Function)>,
}

impl Default for Pci {
    fn default() -> Self {
        Pci::new()
    }
}

impl Pci {
    /// The bus at power-on, with the functions that every board has.
    pub fn new() -> Pci {
        Pci {
            address: 0,
            functions: vec![
                (HOST_BRIDGE, host_bridge::new()),
                (ISA_BRIDGE, isa_bridge::new()),
                (IDE, ide::new()),
                (POWER, power::new()),
            ],
        }
    }

    /// Puts another function on the bus.
    pub fn add(&mut self, place: Place, function: Function) {
        self.functions.push((place, function));
    }

    /// The bus from a file, its functions being those of `made`.
    pub(crate) fn revived(self, made: Pci) -> Option<Pci> {
        let places = |pci: &Pci| pci.functions.iter().map(|(place, _)| *place).collect::<Vec<_>>();
        if places(&self) != places(&made) {
            return None;
        }
        let functions = self.functions.into_iter().zip(made.functions);
        let functions = functions.map(|((place, function), (_, made))| (place, function.revived(made)));
        Some(Pci { address: self.address & ADDRESS_KEPT, functions: functions.collect() })
    }

    /// RST#: every function's registers have their defaults again.
    pub fn reset(&mut self) {
        self.address = 0;
        for (_, function) in &mut self.functions {
            function.reset();
        }
    }

    /// The function at a place.
    pub fn function(&self, place: Place) -> Option<&Function> {
        self.functions.iter().find(|(at, _)| *at == place).map(|(_, function)| function)
    }

    /// The function at a place, to write to: for what a firmware leaves behind.
    pub fn function_mut(&mut self, place: Place) -> Option<&mut Function> {
        self.functions.iter_mut().find(|(at, _)| *at == place).map(|(_, function)| function)
    }

    /// The place and the register's first byte that the address register selects, if it selects anything.
    fn selected(&self) -> Option<(Place, u8)> {
        let [register, devfn, bus, _] = self.address.to_le_bytes();
        let place = Place { device: devfn >> 3, function: devfn & 7 };
        (self.address & ADDRESS_ENABLE != 0 && bus == 0).then_some((place, register))
    }
}

/// The data ports: bytes of the selected register. Where no function answers, a read gives all ones (master abort).
impl PortDevice for Pci {
    fn read8(&mut self, offset: u16, _now: Ticks) -> u8 {
        let Some((place, register)) = self.selected() else { return 0xff };
        self.function(place).map_or(0xff, |function| function.read(register | offset as u8 & 3))
    }

    fn write8(&mut self, offset: u16, value: u8, _now: Ticks) {
        let Some((place, register)) = self.selected() else { return };
        if let Some(function) = self.function_mut(place) {
            function.write(register | offset as u8 & 3, value);
        }
    }
}

/// The address register. Manual: it answers to dwords only; narrower accesses pass on to the bus behind.
impl WideData for Pci {
    fn read_wide(&mut self, _size: Size, _now: Ticks) -> u32 {
        self.address
    }

    fn write_wide(&mut self, _size: Size, value: u32, _now: Ticks) {
        self.address = value & ADDRESS_KEPT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Ticks = Ticks(0);

    fn select(pci: &mut Pci, address: u32) {
        pci.write_wide(Size::Dword, address, NOW);
    }

    fn dword(pci: &mut Pci, address: u32) -> u32 {
        select(pci, address);
        u32::from_le_bytes([0, 1, 2, 3].map(|offset| pci.read8(offset, NOW)))
    }

    #[test]
    fn the_address_register_reads_back_without_its_reserved_bits() {
        let mut pci = Pci::new();
        select(&mut pci, u32::MAX);
        assert_eq!(pci.read_wide(Size::Dword, NOW), 0x80ff_fffc);
    }

    #[test]
    fn the_functions_are_those_of_a_440fx_board() {
        let mut pci = Pci::new();
        for (address, ids, class) in [
            (0x8000_0000, 0x1237_8086, 0x0600_0002),
            (0x8000_0800, 0x7000_8086, 0x0601_0000),
            (0x8000_0900, 0x7010_8086, 0x0101_8000),
            (0x8000_0b00, 0x7113_8086, 0x0680_0003),
        ] {
            assert_eq!(
                (dword(&mut pci, address), dword(&mut pci, address + 8)),
                (ids, class),
                "{address:#x}"
            );
            assert_eq!(dword(&mut pci, address + 0x2c), 0x1100_1af4);
        }
        assert_eq!(dword(&mut pci, 0x8000_080c) >> 16 & 0xff, 0x80, "device 1 has several functions");
    }

    #[test]
    fn nothing_answers_elsewhere_nor_while_the_enable_bit_is_clear() {
        let mut pci = Pci::new();
        for address in [0x0000_0000, 0x8000_0a00, 0x8000_1800, 0x8001_0000, 0x80ff_f800] {
            assert_eq!(dword(&mut pci, address), u32::MAX, "{address:#x}");
            pci.write8(0, 0, NOW);
        }
    }

    #[test]
    fn bytes_of_a_register_are_written_one_by_one() {
        let mut pci = Pci::new();
        select(&mut pci, 0x8000_0858 + 8);
        pci.write8(1, 0x0b, NOW);
        assert_eq!(dword(&mut pci, 0x8000_0860), 0x8080_0b80);
        pci.reset();
        assert_eq!(dword(&mut pci, 0x8000_0860), 0x8080_8080);
    }
}
