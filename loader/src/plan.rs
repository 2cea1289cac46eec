//! What the loader answers with.

use std::fmt;

/// Everything the board needs to start an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The protocol by which the image is started.
    pub kind: Kind,
    /// Bytes to put into RAM. No two overlap, and all lie in RAM that the memory map calls available.
    pub places: Vec<Place>,
    /// Read-only memories to map.
    pub roms: Vec<Rom>,
    /// What the firmware hands out, for the images that it starts.
    pub handed: Vec<Handed>,
    /// The processor's state at the first instruction.
    pub start: Start,
    /// The image's symbols, sorted by address and then by name.
    pub symbols: Vec<Symbol>,
    /// Remarks for the user: what was done that the file alone does not tell.
    pub notes: Vec<String>,
}

/// The protocol by which an image is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Multiboot 1 (Multiboot Specification 0.6.96).
    Multiboot1,
    /// Multiboot 2 (Multiboot2 Specification 2.0).
    Multiboot2,
    /// PVH: Xen's x86/HVM direct boot ABI.
    Pvh,
    /// Linux (Linux x86 Boot Protocol, the 32-bit entry).
    Linux,
    /// Linux, by its real-mode entry; a firmware has to run first.
    LinuxRealMode,
    /// A plain ELF32 file.
    Elf,
    /// A 512-byte boot sector.
    BootSector,
    /// A flat binary at an address.
    Raw,
    /// A ROM with the reset vector in its last 16 bytes.
    Firmware,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Multiboot1 => "Multiboot 1",
            Kind::Multiboot2 => "Multiboot 2",
            Kind::Pvh => "PVH",
            Kind::Linux => "Linux bzImage",
            Kind::LinuxRealMode => "Linux in real mode",
            Kind::Elf => "plain ELF32",
            Kind::BootSector => "boot sector",
            Kind::Raw => "flat binary",
            Kind::Firmware => "firmware",
        })
    }
}

/// Bytes to put into RAM before the guest starts.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// Physical address of the first byte.
    pub at: u64,
    /// The bytes.
    pub data: Vec<u8>,
    /// How many zero bytes follow them.
    pub zero_fill: u64,
    /// What it is: "segment 1 of kernel", "Multiboot information".
    pub what: String,
}

impl Place {
    /// The first physical address after the place.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.at.saturating_add(self.data.len() as u64).saturating_add(self.zero_fill)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, zeros) = (self.data.len(), self.zero_fill);
        write!(f, "Place({:#x}: {len} bytes and {zeros} zeros, {})", self.at, self.what)
    }
}

/// A read-only memory.
#[derive(Clone, PartialEq, Eq)]
pub struct Rom {
    /// Physical address of the first byte.
    pub at: u64,
    /// Its contents.
    pub data: Vec<u8>,
    /// What it is.
    pub what: String,
}

impl fmt::Debug for Rom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rom({:#x}: {} bytes, {})", self.at, self.data.len(), self.what)
    }
}

/// What lies ready in the firmware configuration device.
#[derive(Clone, PartialEq, Eq)]
pub enum Handed {
    /// An item with a number of QEMU's.
    Item {
        /// The number.
        selector: u16,
        /// Its bytes.
        data: Vec<u8>,
    },
    /// A file.
    File {
        /// Its name, at most 55 characters.
        name: String,
        /// Its bytes.
        data: Vec<u8>,
    },
}

impl fmt::Debug for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Handed::Item { selector, data } => write!(f, "Item({selector:#x}: {} bytes)", data.len()),
            Handed::File { name, data } => write!(f, "File({name}: {} bytes)", data.len()),
        }
    }
}

/// The processor's state at the first instruction. General registers that a variant does not name are zero, EFLAGS is
/// 00000002h (so IF, DF, TF and VM are clear), and the address line A20 is open, except in `Reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Start {
    /// The state after RESET: CS:IP is F000:FFF0 with a CS base of FFFF0000h.
    Reset,
    /// Real mode: CR0 and IDTR as after RESET, segment bases 16 times their selectors, limits FFFFh.
    Real {
        /// Code segment.
        cs: u16,
        /// Instruction pointer.
        ip: u16,
        /// Data segment.
        ds: u16,
        /// Extra segment; FS and GS are 0.
        es: u16,
        /// Stack segment.
        ss: u16,
        /// Stack pointer.
        sp: u16,
        /// DX; DL is the BIOS number of the drive that was started from.
        dx: u16,
    },
    /// Flat protected mode at CPL 0, paging off: CR0 = 00000011h (PE, ET), CR4 = 0. CS is a 32-bit execute/read
    /// segment, DS, ES, FS, GS and SS are 32-bit read/write segments, all with base 0 and limit FFFFFFFFh. There is
    /// neither GDT nor IDT (base 0, limit 0), so the guest loads its own GDT before it loads a segment register. LDTR
    /// is null, TR a busy 32-bit TSS with base 0 and limit 67h.
    Protected {
        /// Where to start.
        eip: u32,
        /// Multiboot's magic value.
        eax: u32,
        /// Address of the information for the kernel.
        ebx: u32,
        /// Zero in every protocol of today.
        ecx: u32,
        /// Zero in every protocol of today.
        edx: u32,
        /// Zero in every protocol of today.
        esi: u32,
        /// Zero in every protocol of today.
        edi: u32,
        /// Zero in every protocol of today.
        ebp: u32,
        /// The stack, for a plain ELF32 or a flat binary; 0 by the other protocols, whose kernels bring their own.
        esp: u32,
    },
    /// As Linux's 32-bit entry asks for it: as `Protected`, but that CS is 10h and the other segment registers 18h, by a
    /// GDT in memory, and that ESI points to `boot_params`; all other general registers are zero.
    Linux {
        /// Where to start.
        eip: u32,
        /// Address of `boot_params`.
        esi: u32,
        /// Address of the GDT, of 32 bytes.
        gdt: u32,
    },
}

impl Start {
    /// Flat protected mode with every register zero but these.
    pub(crate) fn protected(eip: u32, eax: u32, ebx: u32, esp: u32) -> Start {
        Start::Protected { eip, eax, ebx, ecx: 0, edx: 0, esi: 0, edi: 0, ebp: 0, esp }
    }
}

/// A name for an address, from the image's symbol table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol {
    /// The name.
    pub name: String,
    /// Its linear address.
    pub value: u32,
    /// Its size in bytes, 0 if unknown.
    pub size: u32,
}
