//! What is asked of the loader.

use std::str::FromStr;

use crate::memory::MemoryMap;
use crate::refusal::{Cause, Refusal};

/// An image and everything that decides how it is started.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The file's bytes.
    pub image: &'a [u8],
    /// The file's name, for messages and for the first word of a Multiboot 1 command line.
    pub name: &'a str,
    /// How to start it.
    pub boot: Boot,
    /// The kernel's command line, without the kernel's name.
    pub command_line: &'a str,
    /// Files to load beside the kernel.
    pub modules: &'a [Module<'a>],
    /// The machine's memory.
    pub memory: MemoryMap,
}

/// A file to load beside the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Module<'a> {
    /// The file's bytes; loaded as they are, never unpacked.
    pub data: &'a [u8],
    /// The module's arguments, without its name.
    pub args: &'a str,
    /// The file's name.
    pub name: &'a str,
}

/// Which protocol to start the image by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Boot {
    /// Detected from the file.
    #[default]
    Auto,
    /// Multiboot 1.
    Multiboot1,
    /// Multiboot 2.
    Multiboot2,
    /// The 32-bit entry of the Linux boot protocol; the module is the initial RAM disk.
    Linux,
    /// The real-mode entry of the Linux boot protocol, through a firmware; the module is the initial RAM disk.
    LinuxRealMode,
    /// The PVH entry point of an ELF32 file.
    Pvh,
    /// The ELF32 entry point, in flat protected mode.
    Elf,
    /// The file's bytes at an address, entered at its first byte.
    Raw {
        /// Where the file goes.
        address: u32,
        /// The mode in which it is entered.
        mode: RawMode,
    },
}

/// The processor mode in which a flat binary is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RawMode {
    /// Real mode.
    Real,
    /// Flat 32-bit protected mode.
    Protected,
}

impl Boot {
    /// Where a real-mode binary goes unless an address is given: where the BIOS puts a boot sector.
    pub const REAL_ADDRESS: u32 = 0x7c00;
    /// Where a protected-mode binary goes unless an address is given: 1 MiB.
    pub const PROTECTED_ADDRESS: u32 = 0x10_0000;
}

/// The text is none that [`Boot`] knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no way to boot; use auto, multiboot1, multiboot2, linux, linux16, pvh, elf, raw[:ADDRESS] (real mode) or raw32[:ADDRESS] (protected mode)"
)]
pub struct BootParseError(String);

/// `auto`, `multiboot1` (or `multiboot`), `multiboot2`, `linux`, `linux16`, `pvh`, `elf`, `raw[:ADDRESS]`, `raw32[:ADDRESS]`; an address is
/// decimal, or hexadecimal after `0x`.
impl FromStr for Boot {
    type Err = BootParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || BootParseError(text.to_owned());
        let (word, address) = match text.split_once(':') {
            Some((word, address)) => (word, Some(parse_address(address).ok_or_else(unknown)?)),
            None => (text, None),
        };
        let raw = |mode, default| Boot::Raw { address: address.unwrap_or(default), mode };
        match (word, address) {
            ("auto", None) => Ok(Boot::Auto),
            ("multiboot" | "multiboot1", None) => Ok(Boot::Multiboot1),
            ("multiboot2", None) => Ok(Boot::Multiboot2),
            ("linux", None) => Ok(Boot::Linux),
            ("linux16", None) => Ok(Boot::LinuxRealMode),
            ("pvh", None) => Ok(Boot::Pvh),
            ("elf", None) => Ok(Boot::Elf),
            ("raw", _) => Ok(raw(RawMode::Real, Boot::REAL_ADDRESS)),
            ("raw32", _) => Ok(raw(RawMode::Protected, Boot::PROTECTED_ADDRESS)),
            _ => Err(unknown()),
        }
    }
}

fn parse_address(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => {
            u32::from_str_radix(digits, 16).ok()
        }
        None if text.starts_with(|c: char| c.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

impl Request<'_> {
    /// Every string that may reach the guest becomes a C string, so none may hold a NUL.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let of_modules =
            self.modules.iter().flat_map(|m| [("a module's arguments", m.args), ("a module's name", m.name)]);
        let of_kernel = [("the command line", self.command_line), ("the image's name", self.name)];
        for (what, text) in of_kernel.into_iter().chain(of_modules) {
            if let Some(at) = text.find('\0') {
                let found = format!("{what} has a NUL as byte {at}");
                return Err(Refusal::new(
                    Cause::Request,
                    found,
                    "the guest would see the text end there: take it out",
                ));
            }
        }
        Ok(())
    }

    /// Refuses a command line and modules for an image that has no way to receive them.
    pub(crate) fn nothing_to_pass(&self, kind: &str) -> Result<(), Refusal> {
        let what = match (self.command_line.is_empty(), self.modules.is_empty()) {
            (true, true) => return Ok(()),
            (false, _) => "a command line",
            (true, false) => "modules",
        };
        Err(Refusal::new(
            Cause::Request,
            format!("{what} given to {kind}"),
            "only Linux, Multiboot 1, Multiboot 2 and PVH kernels can be handed a command line and modules",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_option_reads_protocols_and_addresses() {
        let real = |address| Ok(Boot::Raw { address, mode: RawMode::Real });
        assert_eq!("auto".parse(), Ok(Boot::Auto));
        assert_eq!("multiboot".parse(), Ok(Boot::Multiboot1));
        assert_eq!("multiboot1".parse(), Ok(Boot::Multiboot1));
        assert_eq!("multiboot2".parse(), Ok(Boot::Multiboot2));
        assert_eq!("linux".parse(), Ok(Boot::Linux));
        assert_eq!("linux16".parse(), Ok(Boot::LinuxRealMode));
        assert_eq!("pvh".parse(), Ok(Boot::Pvh));
        assert_eq!("elf".parse(), Ok(Boot::Elf));
        assert_eq!("raw".parse(), real(0x7c00));
        assert_eq!("raw:0x600".parse(), real(0x600));
        assert_eq!("raw:4096".parse(), real(4096));
        assert_eq!("raw32".parse(), Ok(Boot::Raw { address: 0x10_0000, mode: RawMode::Protected }));
        assert_eq!(
            "raw32:0xfffff000".parse(),
            Ok(Boot::Raw { address: 0xffff_f000, mode: RawMode::Protected })
        );
    }

    #[test]
    fn the_boot_option_turns_down_anything_else_and_names_the_choices() {
        for text in
            ["", "grub", "elf:0x1000", "raw:", "raw:0x", "raw:0x+1", "raw:+1", "raw:-1", "raw:0x100000000"]
        {
            let error = text.parse::<Boot>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` is no way to boot; use auto, ")), "{error}");
        }
    }
}
