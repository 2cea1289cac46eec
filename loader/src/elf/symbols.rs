//! The symbol table, for traces and for stopping at a name.

use std::ops::Range;

use goblin::elf::section_header::{SHN_ABS, SHN_UNDEF, SHT_SYMTAB};
use goblin::elf::sym::{STT_FUNC, STT_NOTYPE, STT_OBJECT, Sym, sym32::SIZEOF_SYM};

use super::{Elf, context};
use crate::bytes::file_range;
use crate::draft::Draft;
use crate::plan::Symbol;

/// A name is cut here. Longer ones do not come from compilers.
const LONGEST_NAME: usize = 1024;
/// Symbols whose names go beyond this many bytes in all are dropped, so that no file can use up the host's memory.
const MOST_NAMES: usize = 64 << 20;

impl Elf<'_> {
    /// Collects the functions, objects and labels, `moved` bytes above where they were linked.
    pub(crate) fn read_symbols(&self, moved: u32, draft: &mut Draft) {
        let headers = self.section_headers().unwrap_or_default();
        let Some(table) = headers.iter().find(|section| section.sh_type == SHT_SYMTAB) else { return };
        let strings = headers.get(table.sh_link as usize);
        let strings = strings.and_then(|section| file_range(self.bytes, section.sh_offset, section.sh_size));
        let (Some(symbols), Some(strings)) =
            (file_range(self.bytes, table.sh_offset, table.sh_size), strings)
        else {
            draft.notes.push("the symbol table is cut off; addresses will have no names".to_owned());
            return;
        };
        let symbols = Sym::parse(symbols, 0, symbols.len() / SIZEOF_SYM, context()).unwrap_or_default();
        let mut room = MOST_NAMES;
        let program = self.virtual_ranges();
        for symbol in symbols.iter().filter(|symbol| names_a_place(symbol, &program)) {
            let Some(name) = name(strings, symbol.st_name) else { continue };
            let Some(left) = room.checked_sub(name.len() + size_of::<Symbol>()) else {
                draft.notes.push("the symbol table is too big; only its first part is used".to_owned());
                return;
            };
            room = left;
            // Fields of an ELF32 symbol have 32 bits.
            let (value, size) = (symbol.st_value as u32, symbol.st_size as u32);
            draft.symbols.push(Symbol { name, value: value.wrapping_add(moved), size });
        }
    }

    /// The segments' virtual ranges, sorted and joined.
    fn virtual_ranges(&self) -> Vec<Range<u64>> {
        let mut ranges: Vec<_> = self.segments().map(|(_, p)| p.p_vaddr..p.p_vaddr + p.p_memsz).collect();
        ranges.sort_by_key(|range| range.start);
        ranges.dedup_by(|next, last| {
            let joins = next.start <= last.end;
            if joins {
                last.end = last.end.max(next.end);
            }
            joins
        });
        ranges
    }
}

/// Whether a symbol stands for an address of the program. An absolute one may be any number, so it counts only if it
/// lies in a segment or, as `_end` does, right after one.
fn names_a_place(symbol: &Sym, program: &[Range<u64>]) -> bool {
    let kind = matches!(symbol.st_type(), STT_NOTYPE | STT_OBJECT | STT_FUNC);
    let in_program = |value| {
        let above = program.partition_point(|range| range.start <= value);
        above.checked_sub(1).and_then(|below| program.get(below)).is_some_and(|range| value <= range.end)
    };
    kind && match symbol.st_shndx as u32 {
        SHN_UNDEF => false,
        SHN_ABS => in_program(symbol.st_value),
        _ => true,
    }
}

fn name(strings: &[u8], at: usize) -> Option<String> {
    let rest = strings.get(at..)?;
    let rest = &rest[..rest.len().min(LONGEST_NAME)];
    let end = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
    (end > 0).then(|| String::from_utf8_lossy(&rest[..end]).into_owned())
}
