//! ELF32 executables for the 80386: header, segments, entry point.
//!
//! Segments go to their physical addresses (`p_paddr`). `e_entry` is a virtual address: it is looked up among the
//! segments' virtual ranges and moved to the physical side, as GRUB and QEMU do, so that a kernel linked at C0000000h
//! and loaded at 1 MiB starts where it lies.

mod notes;
mod sections;
mod symbols;

pub(crate) use sections::Sections;

use std::ops::Range;

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::header::{
    EI_CLASS, EI_DATA, EI_VERSION, ELFCLASS32, ELFCLASS64, ELFDATA2LSB, ELFMAG, EM_386, ET_DYN, ET_EXEC,
    ET_REL, EV_CURRENT, Header, header32::SIZEOF_EHDR, machine_to_str,
};
use goblin::elf::program_header::{PT_INTERP, PT_LOAD, ProgramHeader, program_header32::SIZEOF_PHDR};

use crate::bytes::file_range;
use crate::draft::Draft;
use crate::memory::FOUR_GIB;
use crate::refusal::Refusal;

/// `e_phnum` of a file that keeps the number elsewhere because it is too big for the field.
const PN_XNUM: u16 = 0xffff;

/// Whether the image may lie elsewhere than it was linked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Fixed,
    Relocatable,
}

/// An ELF file whose header and segments make sense.
pub(crate) struct Elf<'a> {
    bytes: &'a [u8],
    header: Header,
    /// All program headers.
    programs: Vec<ProgramHeader>,
}

pub(crate) fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(ELFMAG)
}

fn context() -> Ctx {
    Ctx::new(Container::Little, Endian::Little)
}

const ELF32_FOR_386: &str =
    "accepted is a statically linked ELF32 executable for the 80386 (cc -m32 -static -no-pie)";

impl<'a> Elf<'a> {
    /// Reads the header and the program headers and checks them against the file.
    pub(crate) fn parse(bytes: &'a [u8], link: Link) -> Result<Self, Refusal> {
        let header = header(bytes, link)?;
        let programs = program_headers(bytes, &header)?;
        let elf = Elf { bytes, header, programs };
        for (index, program) in elf.programs.iter().enumerate() {
            elf.check(program).map_err(|refusal| refusal.at(elf.program_offset(index)))?;
        }
        if elf.segments().next().is_none() {
            let found =
                format!("none of the {} program headers is a PT_LOAD with memory", elf.programs.len());
            return Err(
                Refusal::malformed(found, "an executable has something to load").at(elf.header.e_phoff)
            );
        }
        Ok(elf)
    }

    fn program_offset(&self, index: usize) -> u64 {
        self.header.e_phoff.saturating_add((index * SIZEOF_PHDR) as u64)
    }

    fn check(&self, program: &ProgramHeader) -> Result<(), Refusal> {
        match program.p_type {
            PT_INTERP => Err(Refusal::unsupported(
                "a PT_INTERP program header: it is dynamically linked",
                ELF32_FOR_386,
            )),
            PT_LOAD => check_segment(program, self.bytes),
            _ => Ok(()),
        }
    }

    /// The segments that occupy memory, with their program header's index.
    fn segments(&self) -> impl Iterator<Item = (usize, &ProgramHeader)> {
        self.programs.iter().enumerate().filter(|(_, p)| p.p_type == PT_LOAD && p.p_memsz != 0)
    }

    /// From the lowest to the highest physical address, as linked.
    pub(crate) fn span(&self) -> Range<u64> {
        let start = self.segments().map(|(_, p)| p.p_paddr).min().unwrap_or(0);
        let end = self.segments().map(|(_, p)| p.p_paddr + p.p_memsz).max().unwrap_or(start);
        start..end
    }

    /// Puts the segments into memory, the lowest one at `base`.
    pub(crate) fn load(&self, base: u64, draft: &mut Draft) -> Result<(), Refusal> {
        let linked = self.span().start;
        for (number, (index, program)) in (1..).zip(self.segments()) {
            let data = file_range(self.bytes, program.p_offset, program.p_filesz).unwrap_or_default();
            let what = format!("segment {number} of {}", draft.request.name);
            let bss = program.p_memsz - program.p_filesz;
            let at = program.p_paddr - linked + base;
            draft
                .layout
                .put(at, data, bss, what)
                .map_err(|refusal| refusal.at(self.program_offset(index)))?;
        }
        Ok(())
    }

    /// The physical address of `e_entry`, as linked.
    pub(crate) fn entry(&self, notes: &mut Vec<String>) -> Result<u32, Refusal> {
        let entry = self.header.e_entry;
        let within = |start: u64, len: u64| entry.checked_sub(start).filter(|&offset| offset < len);
        let by_virtual = self.segments().find_map(|(_, p)| Some((p, within(p.p_vaddr, p.p_memsz)?)));
        if let Some((program, offset)) = by_virtual {
            let physical = program.p_paddr + offset;
            if physical != entry {
                notes.push(format!(
                    "the entry point {entry:#x} is virtual; it lies at physical {physical:#x}"
                ));
            }
            // Segments end below 4 GiB.
            return Ok(physical as u32);
        }
        if self.segments().any(|(_, p)| within(p.p_paddr, p.p_memsz).is_some()) {
            notes.push(format!(
                "the entry point {entry:#x} is in no segment's virtual range; taken as physical"
            ));
            return Ok(entry as u32);
        }
        let found = format!("the entry point {entry:#x} is in no segment");
        Err(Refusal::malformed(found, "e_entry is the address of code that is loaded").at(0x18_u32))
    }

    /// Whether this physical address, as linked, is loaded.
    pub(crate) fn holds(&self, address: u32) -> bool {
        self.segments()
            .any(|(_, p)| u64::from(address).checked_sub(p.p_paddr).is_some_and(|offset| offset < p.p_memsz))
    }
}

fn header(bytes: &[u8], link: Link) -> Result<Header, Refusal> {
    let refuse = |offset: usize, found: String| Err(Refusal::unsupported(found, ELF32_FOR_386).at(offset));
    if !is_elf(bytes) {
        return refuse(0, "no ELF magic (7F 45 4C 46)".to_owned());
    }
    let Some(ident) = bytes.get(..SIZEOF_EHDR) else {
        let found = format!("an ELF header cut off after {} of {SIZEOF_EHDR} bytes", bytes.len());
        return Err(Refusal::malformed(found, ELF32_FOR_386).at(bytes.len()));
    };
    match ident[EI_CLASS] {
        ELFCLASS32 => {}
        ELFCLASS64 => {
            let machine = machine_name(u16::from_le_bytes([ident[0x12], ident[0x13]]));
            return refuse(EI_CLASS, format!("a 64-bit file (ELFCLASS64, machine {machine})"));
        }
        class => return refuse(EI_CLASS, format!("ELF class {class}")),
    }
    if ident[EI_DATA] != ELFDATA2LSB {
        return refuse(EI_DATA, format!("ELF data encoding {}, which is not little-endian", ident[EI_DATA]));
    }
    if ident[EI_VERSION] != EV_CURRENT {
        return refuse(EI_VERSION, format!("ELF version {}", ident[EI_VERSION]));
    }
    let Ok(header) = goblin::elf::Elf::parse_header(bytes) else {
        return refuse(0, "an unreadable ELF header".to_owned());
    };
    if header.e_machine != EM_386 {
        return refuse(0x12, format!("a program for machine {}", machine_name(header.e_machine)));
    }
    match header.e_type {
        ET_EXEC => Ok(header),
        ET_DYN if link == Link::Relocatable => Ok(header),
        ET_DYN => refuse(0x10, "a position-independent file or shared object (ET_DYN)".to_owned()),
        ET_REL => refuse(0x10, "an object file that is not linked yet (ET_REL)".to_owned()),
        other => refuse(0x10, format!("ELF type {other}")),
    }
}

fn machine_name(machine: u16) -> String {
    match machine_to_str(machine) {
        "UNKNOWN" | "UNKNOWN_MACHINE" => machine.to_string(),
        name => format!("{machine}, {name}"),
    }
}

fn program_headers(bytes: &[u8], header: &Header) -> Result<Vec<ProgramHeader>, Refusal> {
    if usize::from(header.e_phentsize) != SIZEOF_PHDR && header.e_phnum != 0 {
        let found = format!("program headers of {} bytes", header.e_phentsize);
        return Err(Refusal::malformed(found, "e_phentsize is 32 in an ELF32 file").at(0x2a_u32));
    }
    if header.e_phnum == 0 || header.e_phnum == PN_XNUM {
        let found = format!("{} as the number of program headers", header.e_phnum);
        return Err(Refusal::malformed(found, "e_phnum is from 1 to 65534 in an executable").at(0x2c_u32));
    }
    let count = usize::from(header.e_phnum);
    file_range(bytes, header.e_phoff, (count * SIZEOF_PHDR) as u64)
        .and_then(|table| ProgramHeader::parse(table, 0, count, context()).ok())
        .ok_or_else(|| {
            let (at, len) = (header.e_phoff, bytes.len());
            let found = format!("{count} program headers from offset {at:#x} in a file of {len:#x} bytes");
            Refusal::malformed(found, "all of the file must be there").at(0x1c_u32)
        })
}

fn check_segment(program: &ProgramHeader, file: &[u8]) -> Result<(), Refusal> {
    let ProgramHeader { p_offset: offset, p_filesz: in_file, p_memsz: in_memory, p_paddr: at, .. } = *program;
    if in_file > in_memory {
        let found =
            format!("a segment with {in_file:#x} bytes in the file and only {in_memory:#x} in memory");
        return Err(Refusal::malformed(found, "p_filesz is at most p_memsz"));
    }
    if file_range(file, offset, in_file).is_none() {
        let len = file.len();
        let found =
            format!("a segment of {in_file:#x} bytes from offset {offset:#x} in a file of {len:#x} bytes");
        return Err(Refusal::malformed(found, "all of the file must be there"));
    }
    if at.saturating_add(in_memory) > FOUR_GIB {
        let found = format!("a segment of {in_memory:#x} bytes at physical {at:#x}, which passes 4 GiB");
        return Err(Refusal::malformed(found, "a segment ends below 4 GiB"));
    }
    Ok(())
}
