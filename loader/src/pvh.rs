//! PVH, Xen's "x86/HVM direct boot ABI" (docs/misc/pvh, xen/include/public/arch-x86/hvm/start_info.h): the entry point
//! stands in an ELF note, and EBX points to `hvm_start_info`, here in version 1.

use std::ops::Range;

use crate::bytes::Writer;
use crate::draft::Draft;
use crate::elf::Elf;
use crate::plan::{Kind, Plan, Start};
use crate::refusal::Refusal;

pub(crate) const NOTE: &str =
    "an ELF32 file with a PT_NOTE segment that has a note \"Xen\" of type 18 (XEN_ELFNOTE_PHYS32_ENTRY)";

/// XEN_HVM_START_MAGIC_VALUE: "xEn3" with bit 7 of the "E" set.
const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;
/// `sizeof(struct hvm_start_info)`.
const START_INFO_SIZE: usize = 56;
/// `sizeof(struct hvm_modlist_entry)`.
const MODULE_SIZE: usize = 32;
/// `sizeof(struct hvm_memmap_table_entry)`.
const MEMMAP_SIZE: usize = 24;

pub(crate) fn plan(mut draft: Draft, elf: &Elf, entry: u32) -> Result<Plan, Refusal> {
    elf.load(elf.span().start, &mut draft)?;
    elf.read_symbols(0, &mut draft);
    let unknown = vec![0..0; draft.request.modules.len()];
    let info = draft.layout.reserve(start_info(&draft, 0, &unknown).len(), "PVH start info".to_owned())?;
    let modules = draft.load_modules()?;
    let bytes = start_info(&draft, info.at, &modules);
    draft.fill(&info, bytes);
    Ok(draft.finish(Kind::Pvh, Start::protected(entry, 0, info.at, 0)))
}

/// `hvm_start_info` at `base`, and behind it the module list, the memory map and the strings.
fn start_info(draft: &Draft, base: u32, modules: &[Range<u32>]) -> Vec<u8> {
    let request = draft.request;
    let regions = &request.memory.regions;
    let address = |offset: usize| u64::from(base) + offset as u64;
    let modules_at = START_INFO_SIZE;
    let memmap_at = modules_at + modules.len() * MODULE_SIZE;
    let mut string_at = memmap_at + regions.len() * MEMMAP_SIZE;
    let mut strings = Writer::default();
    let mut string = |text: &str| {
        let at = address(string_at);
        string_at += text.len() + 1;
        strings.c_string(text);
        at
    };

    let mut info = Writer::default();
    info.u32(MAGIC);
    info.u32(VERSION);
    info.u32(0); // flags: none
    info.u32(modules.len() as u32);
    info.u64(if modules.is_empty() { 0 } else { address(modules_at) });
    info.u64(string(request.command_line));
    info.u64(0); // rsdp_paddr: no ACPI
    info.u64(address(memmap_at));
    info.u32(regions.len() as u32);
    info.u32(0); // reserved
    for (range, module) in modules.iter().zip(request.modules) {
        info.u64(u64::from(range.start));
        info.u64(module.data.len() as u64);
        info.u64(string(module.args));
        info.u64(0); // reserved
    }
    for region in regions {
        info.u64(region.base);
        info.u64(region.len);
        info.u32(region.kind.code());
        info.u32(0); // reserved
    }
    info.raw(&strings.bytes);
    info.bytes
}
