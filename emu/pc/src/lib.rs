//! The PC board around the processor: memory, chips, virtual time, boot.

pub mod acpi;
pub mod apic;
pub mod ata;
pub mod board;
pub mod calendar;
pub mod debug_ports;
pub mod device;
pub mod disk;
pub mod firmware;
pub mod floppy;
pub mod fw_cfg;
pub mod interrupts;
pub mod keyboard;
pub mod machine;
pub mod memory;
pub mod mouse;
pub mod pci;
pub mod pic;
pub mod pit;
pub mod ports;
pub mod power;
pub mod rtc;
pub mod screen;
pub mod snapshot;
pub mod system_control;
pub mod uart;
pub mod vga;

pub use board::{Board, BoardError, Config, Input};
