//! ELF notes: the one that names the PVH entry point.

use goblin::elf::program_header::PT_NOTE;

use super::Elf;
use crate::bytes::{file_range, u32_at};
use crate::refusal::Refusal;

/// XEN_ELFNOTE_PHYS32_ENTRY (xen/include/public/elfnote.h).
const PHYS32_ENTRY: u32 = 18;
/// How many notes are looked at. A kernel has a few dozen at most.
const MOST_NOTES: usize = 0x1_0000;

struct Note<'a> {
    /// File offset of the note's header.
    offset: u64,
    kind: u32,
    name: &'a [u8],
    /// The descriptor, as much of it as the segment holds.
    desc: &'a [u8],
}

impl Elf<'_> {
    /// The physical entry point of the PVH boot ABI, if a PT_NOTE segment names one.
    pub(crate) fn pvh_entry(&self) -> Result<Option<u32>, Refusal> {
        let Some(note) =
            self.notes().take(MOST_NOTES).find(|note| note.kind == PHYS32_ENTRY && note.name == b"Xen\0")
        else {
            return Ok(None);
        };
        let malformed = |found: String| {
            let accepted = "the PVH entry note holds the 32-bit physical address of code that is loaded";
            Err(Refusal::malformed(found, accepted).at(note.offset))
        };
        // 8 bytes come from a 64-bit assembler's .quad; the upper half must then say nothing.
        let entry = match (u32_at(note.desc, 0), note.desc.len(), u32_at(note.desc, 4)) {
            (Some(entry), 4, _) | (Some(entry), 8, Some(0)) => entry,
            (_, len, _) => {
                return malformed(format!("a PVH entry note with {len} bytes of {:02x?}", note.desc));
            }
        };
        if !self.holds(entry) {
            return malformed(format!("a PVH entry point {entry:#x} that is in no segment"));
        }
        Ok(Some(entry))
    }

    fn notes(&self) -> impl Iterator<Item = Note<'_>> {
        let segments = self.programs.iter().filter(|program| program.p_type == PT_NOTE);
        segments.flat_map(|program| {
            let bytes = file_range(self.bytes, program.p_offset, program.p_filesz).unwrap_or_default();
            // "4-byte alignment" for ELF32; GNU tools use 8 where the segment says so.
            let align = if program.p_align == 8 { 8 } else { 4 };
            NoteIterator { bytes, at: 0, align, offset: program.p_offset }
        })
    }
}

struct NoteIterator<'a> {
    bytes: &'a [u8],
    at: usize,
    align: usize,
    offset: u64,
}

impl<'a> Iterator for NoteIterator<'a> {
    type Item = Note<'a>;

    fn next(&mut self) -> Option<Note<'a>> {
        let bytes = self.bytes;
        let start = self.at;
        let [name_len, desc_len] = [u32_at(bytes, start)?, u32_at(bytes, start + 4)?].map(|len| len as usize);
        let kind = u32_at(bytes, start + 8)?;
        let name_at = start + 12;
        let name_end = name_at.checked_add(name_len)?;
        let desc_at = name_end.checked_next_multiple_of(self.align)?;
        let desc_end = desc_at.checked_add(desc_len)?;
        self.at = desc_end.checked_next_multiple_of(self.align)?;
        let offset = self.offset.saturating_add(start as u64);
        Some(Note { offset, kind, name: bytes.get(name_at..name_end)?, desc: bytes.get(desc_at..desc_end)? })
    }
}
