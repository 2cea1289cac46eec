//! The information for the kernel: a total size and tags, each aligned to 8 bytes.

use std::ops::Range;

use crate::LOADER_NAME;
use crate::bytes::Writer;
use crate::elf::Sections;
use crate::request::Request;

/// Types of information tags ("Boot information format").
const END: u32 = 0;
const COMMAND_LINE: u32 = 1;
const BOOT_LOADER_NAME: u32 = 2;
const MODULE: u32 = 3;
const BASIC_MEMORY: u32 = 4;
const MEMORY_MAP: u32 = 6;
const ELF_SECTIONS: u32 = 9;
const LOAD_BASE: u32 = 21;

/// The structure that EBX points to. It holds no address of its own parts, so it is the same wherever it lies.
pub(super) fn tags(
    request: &Request,
    modules: &[Range<u32>],
    sections: Option<&Sections>,
    load_base: Option<u32>,
) -> Vec<u8> {
    let mut info = Writer::default();
    info.u32(0); // total_size, below
    info.u32(0); // reserved
    tag(&mut info, COMMAND_LINE, |tag| tag.c_string(request.command_line));
    tag(&mut info, BOOT_LOADER_NAME, |tag| tag.c_string(LOADER_NAME));
    for (range, module) in modules.iter().zip(request.modules) {
        tag(&mut info, MODULE, |tag| {
            tag.u32(range.start);
            tag.u32(range.end);
            tag.c_string(module.args);
        });
    }
    tag(&mut info, BASIC_MEMORY, |tag| {
        tag.u32(request.memory.mem_lower());
        tag.u32(request.memory.mem_upper());
    });
    tag(&mut info, MEMORY_MAP, |tag| {
        tag.u32(24); // entry_size
        tag.u32(0); // entry_version
        for region in &request.memory.regions {
            tag.u64(region.base);
            tag.u64(region.len);
            tag.u32(region.kind.code());
            tag.u32(0); // reserved
        }
    });
    if let Some(sections) = sections {
        // Choice: the specification's drawing has 16-bit num, entsize and shndx; its multiboot2.h, GRUB and the kernels
        // have 32-bit ones, and so do we.
        tag(&mut info, ELF_SECTIONS, |tag| {
            tag.u32(sections.count);
            tag.u32(Sections::ENTRY_SIZE);
            tag.u32(sections.names);
            tag.raw(&sections.headers);
        });
    }
    if let Some(base) = load_base {
        tag(&mut info, LOAD_BASE, |tag| tag.u32(base));
    }
    tag(&mut info, END, |_| {});
    info.patch_u32(0, info.len() as u32);
    info.bytes
}

/// Writes a tag: type, size without padding, contents, padding to 8 bytes.
fn tag(info: &mut Writer, kind: u32, contents: impl FnOnce(&mut Writer)) {
    let at = info.len();
    info.u32(kind);
    info.u32(0);
    contents(info);
    info.patch_u32(at + 4, (info.len() - at) as u32);
    info.align(8);
}
