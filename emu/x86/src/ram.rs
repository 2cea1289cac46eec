//! Guest memory that the processor reads and writes directly.
//!
//! One flat allocation holds everything that behaves as memory: RAM, the VGA text window, firmware ROMs. The
//! bus says which frame of the physical address space stands where in it ([`crate::bus::Frame`]); all
//! positions here are *offsets into that allocation*, never guest addresses.
//!
//! Bytes that have been decoded as code are marked, 64 bytes to a mark, so that every writer - the processor,
//! a device, the host - leaves word of what it overwrote, and the decoded blocks can be dropped exactly.

/// Log2 of how many bytes share a code mark.
const MARK_SHIFT: usize = 6;

/// A run of bytes, decoded as code earlier, that has been overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeWrite {
    /// First overwritten byte, as an offset into [`Ram`].
    pub offset: usize,
    /// How many bytes.
    pub len: usize,
}

/// The bytes behind the physical address space, and which of them were decoded as code.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Ram {
    bytes: Vec<u8>,
    /// One word per 4 KiB page, one bit per 64 bytes.
    marks: Vec<u64>,
    code_writes: Vec<CodeWrite>,
}

impl std::fmt::Debug for Ram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ram({} bytes)", self.bytes.len())
    }
}

impl Ram {
    /// Zeroed memory of `size` bytes, rounded up to whole 4 KiB pages.
    pub fn new(size: usize) -> Ram {
        let pages = size.div_ceil(4096);
        Ram { bytes: vec![0; pages * 4096], marks: vec![0; pages], code_writes: Vec::new() }
    }

    /// The same, or `None` where the host has not so much memory.
    pub fn try_new(size: usize) -> Option<Ram> {
        let mut bytes: Vec<u8> = Vec::new();
        bytes.try_reserve_exact(size.checked_add(4096)?).ok()?;
        drop(bytes);
        Some(Ram::new(size))
    }

    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no memory at all.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Every byte, for hashing and dumping.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// `N` bytes at `offset`.
    #[inline(always)]
    pub fn read<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&self.bytes[offset..offset + N]);
        out
    }

    /// Writes `N` bytes at `offset`, in a page that holds no code mark.
    #[inline(always)]
    pub fn write_unmarked<const N: usize>(&mut self, offset: usize, value: [u8; N]) {
        debug_assert!(self.marks[offset >> 12] == 0, "write behind the back of decoded code");
        self.bytes[offset..offset + N].copy_from_slice(&value);
    }

    /// Writes bytes at `offset`; where they were decoded as code, that is recorded for [`Ram::take_code_writes`].
    pub fn write(&mut self, offset: usize, value: &[u8]) {
        self.bytes[offset..offset + value.len()].copy_from_slice(value);
        self.note_write(offset, value.len());
    }

    /// A slice of `len` bytes at `offset`.
    pub fn slice(&self, offset: usize, len: usize) -> &[u8] {
        &self.bytes[offset..offset + len]
    }

    fn note_write(&mut self, offset: usize, len: usize) {
        if len == 0 {
            return;
        }
        let (first, last) = (offset >> MARK_SHIFT, (offset + len - 1) >> MARK_SHIFT);
        if (first..=last).any(|granule| self.marks[granule >> 6] >> (granule & 63) & 1 != 0) {
            self.code_writes.push(CodeWrite { offset, len });
        }
    }

    /// Whether the page of `offset` holds any code mark.
    #[inline(always)]
    pub fn page_has_code(&self, offset: usize) -> bool {
        self.marks[offset >> 12] != 0
    }

    /// Marks `len` bytes at `offset` as decoded. Returns whether this is the page's first mark.
    pub fn mark_code(&mut self, offset: usize, len: usize) -> bool {
        let first_mark = !self.page_has_code(offset);
        for granule in offset >> MARK_SHIFT..=(offset + len.max(1) - 1) >> MARK_SHIFT {
            self.marks[granule >> 6] |= 1 << (granule & 63);
        }
        first_mark
    }

    /// Forgets every mark of the page of `offset` (its last block was dropped).
    pub fn unmark_page(&mut self, offset: usize) {
        self.marks[offset >> 12] = 0;
    }

    /// Whether code was overwritten since [`Ram::take_code_writes`] was last asked.
    #[inline(always)]
    pub fn code_was_written(&self) -> bool {
        !self.code_writes.is_empty()
    }

    /// What was overwritten since this was last asked.
    pub fn take_code_writes(&mut self) -> Vec<CodeWrite> {
        std::mem::take(&mut self.code_writes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_beside_code_leaves_no_word_and_one_on_it_does() {
        let mut ram = Ram::new(8192);
        assert!(ram.mark_code(4096 + 128, 10));
        ram.write(4096 + 64, &[1; 64]);
        assert!(!ram.code_was_written());
        ram.write(4096 + 127, &[1; 2]);
        assert_eq!(ram.take_code_writes(), vec![CodeWrite { offset: 4096 + 127, len: 2 }]);
        assert!(!ram.code_was_written());
    }
}
