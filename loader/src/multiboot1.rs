//! Multiboot 1 (Multiboot Specification version 0.6.96): header, loading, and the information structure.

use std::ops::Range;

use crate::LOADER_NAME;
use crate::bytes::{Writer, u32_at};
use crate::detect::{Search, search};
use crate::draft::{Draft, with_name};
use crate::elf::{Elf, Link, Sections, is_elf};
use crate::flat::Addresses;
use crate::plan::{Kind, Plan, Start};
use crate::refusal::Refusal;

pub(crate) const HEADER: &str = "a 4-byte aligned header within the first 8192 bytes: the magic number 1BADB002h, flags, \
                                 and a checksum that makes the three add up to 0";

/// "OS image format": the header's magic number, its alignment and how deep in the file it may be.
const HEADER_MAGIC: u32 = 0x1bad_b002;
const HEADER_ALIGN: usize = 4;
const HEADER_LIMIT: usize = 8192;

/// Header flags. Those below bit 16 are requirements: a loader that does not know one must not load the image.
const REQUIRED: u32 = 0xffff;
const PAGE_ALIGN: u32 = 1 << 0;
const MEMORY_INFO: u32 = 1 << 1;
const VIDEO_MODE: u32 = 1 << 2;
const ADDRESSES: u32 = 1 << 16;

/// "Machine state": EAX.
const BOOT_MAGIC: u32 = 0x2bad_b002;

/// "Boot information format": the flags of what we tell.
const HAS_MEMORY: u32 = 1 << 0;
const HAS_COMMAND_LINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_ELF_SECTIONS: u32 = 1 << 5;
const HAS_MEMORY_MAP: u32 = 1 << 6;
const HAS_LOADER_NAME: u32 = 1 << 9;

/// The structure's size: up to and with `color_info`.
const INFO_SIZE: usize = 116;
/// Offsets of the fields behind those that are always written in order.
const SYMS: usize = 28;
const MMAP_LENGTH: usize = 44;
const BOOT_LOADER_NAME: usize = 64;

pub(crate) fn find(image: &[u8]) -> Search {
    search(image, HEADER_MAGIC, HEADER_ALIGN, HEADER_LIMIT, 3)
}

/// Plans for the image whose header is at `at`.
pub(crate) fn plan(mut draft: Draft, at: usize) -> Result<Plan, Refusal> {
    let flags = check_flags(&mut draft, at)?;
    let (entry, mut sections) = if flags & ADDRESSES != 0 {
        (load_flat(&mut draft, at)?, None)
    } else if is_elf(draft.image) {
        let elf = Elf::parse(draft.image, Link::Fixed)?;
        elf.load(elf.span().start, &mut draft)?;
        elf.read_symbols(0, &mut draft);
        let entry = elf.entry(&mut draft.notes)?;
        (entry, elf.sections().map(|sections| (elf, sections)))
    } else {
        let found = format!(
            "a Multiboot 1 header without address fields (flags {flags:#x}) in a file that is not ELF"
        );
        return Err(Refusal::malformed(found, "set flag bit 16 and fill in the address fields").at(at));
    };

    // The size of the information depends on what it lists, not on where that is.
    let unknown = vec![0..0; draft.request.modules.len()];
    let table = sections.as_ref().map(|(_, sections)| sections);
    let len = information(&draft, 0, &unknown, table).len();
    let info = draft.layout.reserve(len, "Multiboot information".to_owned())?;
    if let Some((elf, sections)) = &mut sections {
        elf.load_symbol_tables(sections, &mut draft);
    }
    let modules = draft.load_modules()?;
    let bytes = information(&draft, info.at, &modules, sections.as_ref().map(|(_, sections)| sections));
    draft.fill(&info, bytes);
    Ok(draft.finish(Kind::Multiboot1, Start::protected(entry, BOOT_MAGIC, info.at, 0)))
}

fn check_flags(draft: &mut Draft, at: usize) -> Result<u32, Refusal> {
    let flags = u32_at(draft.image, at + 4).unwrap_or(0);
    let unknown = flags & REQUIRED & !(PAGE_ALIGN | MEMORY_INFO | VIDEO_MODE);
    if unknown != 0 {
        let found =
            format!("Multiboot 1 header flags {flags:#x}, which require the unknown bits {unknown:#x}");
        return Err(Refusal::unsupported(found, "known are bits 0 to 2 of the required half").at(at + 4));
    }
    if flags & VIDEO_MODE != 0 {
        draft
            .notes
            .push("the kernel asks for a video mode; it gets VGA text and no video information".to_owned());
    }
    Ok(flags)
}

/// Loads by the header's address fields and answers with the entry point.
fn load_flat(draft: &mut Draft, at: usize) -> Result<u32, Refusal> {
    let fields_offset = at + 12;
    // The header "must be contained completely within the first 8192 bytes", address fields and all.
    let window = &draft.image[..draft.image.len().min(HEADER_LIMIT)];
    let field = |index: usize| {
        u32_at(window, fields_offset + 4 * index).ok_or_else(|| {
            let found = "a Multiboot 1 header whose address fields are cut off";
            Refusal::malformed(found, "all of the header is within the first 8192 bytes of the file").at(at)
        })
    };
    let fields = Addresses {
        header_addr: field(0)?,
        load_addr: field(1)?,
        load_end_addr: field(2)?,
        bss_end_addr: field(3)?,
        header_offset: at,
        fields_offset,
    };
    let entry = field(4)?;
    let flat = fields.slice(draft.image)?;
    if !(flat.at..flat.end()).contains(&u64::from(entry)) {
        let found = format!("entry_addr {entry:#x} outside the image's {:#x}..{:#x}", flat.at, flat.end());
        return Err(Refusal::malformed(found, "the entry point is in what is loaded").at(fields_offset + 16));
    }
    draft.layout.put(flat.at, flat.data, flat.bss, draft.request.name.to_owned())?;
    Ok(entry)
}

/// The information structure at `base`, and behind it all that it points to.
fn information(draft: &Draft, base: u32, modules: &[Range<u32>], sections: Option<&Sections>) -> Vec<u8> {
    let request = draft.request;
    let mut info = Writer::default();
    // What is reserved lies below 4 GiB, so no address wraps.
    let address = |info: &Writer| base.wrapping_add(info.len() as u32);

    let mut flags = HAS_MEMORY | HAS_COMMAND_LINE | HAS_MODULES | HAS_MEMORY_MAP | HAS_LOADER_NAME;
    info.bytes.resize(INFO_SIZE, 0);
    info.patch_u32(4, request.memory.mem_lower());
    info.patch_u32(8, request.memory.mem_upper());

    let modules_at = info.len();
    info.patch_u32(20, modules.len() as u32);
    if !modules.is_empty() {
        info.patch_u32(24, address(&info));
    }
    for range in modules {
        info.u32(range.start);
        info.u32(range.end);
        info.u64(0); // string, below, and reserved
    }

    let map_at = info.len();
    info.patch_u32(MMAP_LENGTH + 4, address(&info));
    for region in &request.memory.regions {
        info.u32(20); // the size of the rest of the entry
        info.u64(region.base);
        info.u64(region.len);
        info.u32(region.kind.code());
    }
    info.patch_u32(MMAP_LENGTH, (info.len() - map_at) as u32);

    if let Some(sections) = sections {
        flags |= HAS_ELF_SECTIONS;
        let table = [sections.count, Sections::ENTRY_SIZE, address(&info), sections.names];
        for (index, word) in table.into_iter().enumerate() {
            info.patch_u32(SYMS + 4 * index, word);
        }
        info.raw(&sections.headers);
    }

    info.patch_u32(16, address(&info));
    info.c_string(&with_name(request.name, request.command_line));
    info.patch_u32(BOOT_LOADER_NAME, address(&info));
    info.c_string(LOADER_NAME);
    for (index, module) in request.modules.iter().enumerate() {
        info.patch_u32(modules_at + 16 * index + 8, address(&info));
        info.c_string(&with_name(module.name, module.args));
    }
    info.patch_u32(0, flags);
    info.bytes
}
