//! Section headers, as Multiboot hands them to a kernel, with the symbol tables loaded beside it.

use goblin::elf::section_header::{SHT_NOBITS, SHT_SYMTAB, SectionHeader, section_header32::SIZEOF_SHDR};

use super::{Elf, context};
use crate::bytes::{file_range, patch_u32};
use crate::draft::Draft;

/// Offset of `sh_addr` in an ELF32 section header.
const SH_ADDR: usize = 12;

/// The section header table, ready for the guest.
pub(crate) struct Sections {
    /// The headers as in the file, but for `sh_addr` of the tables that were loaded.
    pub(crate) headers: Vec<u8>,
    /// How many.
    pub(crate) count: u32,
    /// Index of the section that holds the sections' names.
    pub(crate) names: u32,
}

impl Sections {
    /// The size of one header.
    pub(crate) const ENTRY_SIZE: u32 = SIZEOF_SHDR as u32;
}

impl Elf<'_> {
    /// The section headers; `None` if the file has none, or has a table that cannot be read.
    pub(super) fn section_headers(&self) -> Option<Vec<SectionHeader>> {
        let count = usize::from(self.header.e_shnum);
        if count == 0 || usize::from(self.header.e_shentsize) != SIZEOF_SHDR {
            return None;
        }
        let table = file_range(self.bytes, self.header.e_shoff, (count * SIZEOF_SHDR) as u64)?;
        SectionHeader::parse_from(table, 0, count, context()).ok()
    }

    /// The table as it stands in the file.
    pub(crate) fn sections(&self) -> Option<Sections> {
        let count = self.section_headers()?.len();
        let headers = file_range(self.bytes, self.header.e_shoff, (count * SIZEOF_SHDR) as u64)?.to_vec();
        Some(Sections { headers, count: count as u32, names: u32::from(self.header.e_shstrndx) })
    }

    /// Loads the symbol table, its strings and the section names, as far as they are not part of a segment, and
    /// writes their addresses into the headers. Other sections without an address (debug information, comments)
    /// stay in the file.
    pub(crate) fn load_symbol_tables(&self, sections: &mut Sections, draft: &mut Draft) {
        let Some(headers) = self.section_headers() else { return };
        let symbols = headers.iter().position(|section| section.sh_type == SHT_SYMTAB);
        let strings = symbols.and_then(|index| headers.get(index)).map(|section| section.sh_link as usize);
        let names = Some(usize::from(self.header.e_shstrndx));
        let mut wanted: Vec<_> =
            [(symbols, "symbol table"), (strings, "symbol names"), (names, "section names")].to_vec();
        if names == strings {
            wanted.pop();
        }
        for (index, what) in wanted {
            let Some((index, section)) = index.and_then(|index| Some((index, headers.get(index)?))) else {
                continue;
            };
            let no_bytes = section.sh_type == SHT_NOBITS || section.sh_size == 0;
            if section.sh_addr != 0 || section.is_alloc() || no_bytes {
                continue;
            }
            let Some(bytes) = file_range(self.bytes, section.sh_offset, section.sh_size) else {
                draft.notes.push(format!("the {what} (section {index}) is cut off and was not loaded"));
                continue;
            };
            match draft.layout.choose(bytes, format!("{what} of {}", draft.request.name)) {
                Ok(at) => patch_u32(&mut sections.headers, index * SIZEOF_SHDR + SH_ADDR, at),
                Err(refusal) => draft.notes.push(format!("{}; it was not loaded", refusal.found)),
            }
        }
    }
}
