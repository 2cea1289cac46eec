//! Images loaded by the address fields of a Multiboot header ("a.out kludge", "address tag") instead of by ELF.

use crate::bytes::file_range;
use crate::refusal::Refusal;

/// The address fields. All are physical addresses.
pub(crate) struct Addresses {
    /// Where the header, found at file offset `header_offset`, is to be in memory.
    pub(crate) header_addr: u32,
    /// Where the text begins; [`FROM_THE_BEGINNING`] in Multiboot 2 only.
    pub(crate) load_addr: u32,
    /// Where the data ends; 0: at the end of the file.
    pub(crate) load_end_addr: u32,
    /// Where the bss ends; 0: there is none.
    pub(crate) bss_end_addr: u32,
    /// File offset of the header.
    pub(crate) header_offset: usize,
    /// File offset of these fields, for messages.
    pub(crate) fields_offset: usize,
}

/// `load_addr` of a Multiboot 2 image that is loaded from its first byte.
pub(crate) const FROM_THE_BEGINNING: u32 = u32::MAX;

/// An image in one piece.
pub(crate) struct Flat<'a> {
    /// Physical address of the first byte.
    pub(crate) at: u64,
    /// The text and data.
    pub(crate) data: &'a [u8],
    /// How many zeros follow.
    pub(crate) bss: u64,
}

impl Flat<'_> {
    pub(crate) fn end(&self) -> u64 {
        self.at + self.data.len() as u64 + self.bss
    }
}

impl Addresses {
    /// The part of `image` that these fields describe.
    pub(crate) fn slice<'a>(&self, image: &'a [u8]) -> Result<Flat<'a>, Refusal> {
        self.checked(image).map_err(|refusal| refusal.at(self.fields_offset))
    }

    fn checked<'a>(&self, image: &'a [u8]) -> Result<Flat<'a>, Refusal> {
        let header_addr = u64::from(self.header_addr);
        let header_offset = self.header_offset as u64;
        let (at, offset) = if self.load_addr == FROM_THE_BEGINNING {
            let at = header_addr.checked_sub(header_offset).ok_or_else(|| {
                let found =
                    format!("header_addr is {header_addr:#x} for a header at offset {header_offset:#x}");
                Refusal::malformed(found, "with load_addr -1, header_addr is at least the header's offset")
            })?;
            (at, 0)
        } else {
            let before = self.header_addr.checked_sub(self.load_addr).ok_or_else(|| {
                let found = format!("load_addr {:#x} is above header_addr {header_addr:#x}", self.load_addr);
                Refusal::malformed(found, "load_addr is at most header_addr")
            })?;
            let offset = header_offset.checked_sub(u64::from(before)).ok_or_else(|| {
                let found = format!(
                    "the text is to begin {before:#x} bytes before the header, which is at offset {header_offset:#x}"
                );
                Refusal::malformed(found, "header_addr - load_addr is at most the header's offset")
            })?;
            (u64::from(self.load_addr), offset)
        };
        let left = image.len() as u64 - offset;
        let len = match u64::from(self.load_end_addr) {
            0 => left,
            end => end.checked_sub(at).ok_or_else(|| {
                let found = format!("load_end_addr {end:#x} is below the load address {at:#x}");
                Refusal::malformed(found, "load_end_addr is 0 or at least the load address")
            })?,
        };
        let data = file_range(image, offset, len).ok_or_else(|| {
            let found = format!(
                "{len:#x} bytes are to be loaded from offset {offset:#x}, and the file has {left:#x}"
            );
            Refusal::malformed(found, "load_end_addr - load_addr is at most the rest of the file")
        })?;
        let end = at + len;
        let bss = match u64::from(self.bss_end_addr) {
            0 => 0,
            bss_end => bss_end.checked_sub(end).ok_or_else(|| {
                let found = format!("bss_end_addr {bss_end:#x} is below the end of the data, {end:#x}");
                Refusal::malformed(found, "bss_end_addr is 0 or at least the end of the data")
            })?,
        };
        Ok(Flat { at, data, bss })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: [u8; 0x100] = [0xcc; 0x100];

    fn addresses(header_addr: u32, load_addr: u32, load_end_addr: u32, bss_end_addr: u32) -> Addresses {
        Addresses {
            header_addr,
            load_addr,
            load_end_addr,
            bss_end_addr,
            header_offset: 0x20,
            fields_offset: 0x2c,
        }
    }

    fn sliced(fields: &Addresses) -> (u64, usize, u64) {
        let flat = fields.slice(&FILE).unwrap();
        (flat.at, flat.data.len(), flat.bss)
    }

    #[test]
    fn the_file_offset_is_the_headers_minus_the_distance_from_the_load_address() {
        assert_eq!(sliced(&addresses(0x10_0010, 0x10_0000, 0x10_0080, 0x10_1000)), (0x10_0000, 0x80, 0xf80));
        assert_eq!(sliced(&addresses(0x10_0010, 0x10_0000, 0, 0)), (0x10_0000, 0xf0, 0));
        assert_eq!(
            sliced(&addresses(0x10_0020, FROM_THE_BEGINNING, 0, 0x10_0200)),
            (0x10_0000, 0x100, 0x100)
        );
    }

    #[test]
    fn fields_that_contradict_each_other_or_the_file_are_refused_at_their_offset() {
        for (fields, found) in [
            (addresses(0xfffff, 0x10_0000, 0, 0), "load_addr 0x100000 is above header_addr"),
            (addresses(0x10_0021, 0x10_0000, 0, 0), "0x21 bytes before the header"),
            (addresses(0x10_0000, 0x10_0000, 0xf_ffff, 0), "load_end_addr 0xfffff is below"),
            (addresses(0x10_0000, 0x10_0000, 0x10_00e1, 0), "and the file has 0xe0"),
            (addresses(0x10_0000, 0x10_0000, 0x10_0080, 0x10_007f), "bss_end_addr 0x10007f is below"),
            (addresses(0x1f, FROM_THE_BEGINNING, 0, 0), "header_addr is 0x1f for a header at offset 0x20"),
        ] {
            let refusal = fields.slice(&FILE).err().unwrap();
            assert!(refusal.found.contains(found), "{refusal}");
            assert_eq!(refusal.offset, Some(0x2c));
        }
    }
}
