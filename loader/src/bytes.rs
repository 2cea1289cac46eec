//! Little-endian reads that may miss, and a writer that counts.

/// The 16-bit word at `at`, if the bytes reach that far.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let word = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(word.try_into().ok()?))
}

/// The 32-bit word at `at`, if the bytes reach that far.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

/// `len` bytes from file offset `offset`, both as a header states them, if the file holds all of them.
pub(crate) fn file_range(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let end = usize::try_from(offset.checked_add(len)?).ok()?;
    bytes.get(usize::try_from(offset).ok()?..end)
}

/// A structure under construction, in the guest's byte order.
#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// A C string: the text and its NUL.
    pub(crate) fn c_string(&mut self, text: &str) {
        self.raw(text.as_bytes());
        self.bytes.push(0);
    }

    /// Zeros up to the next multiple of `align`, which is a power of two.
    pub(crate) fn align(&mut self, align: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(align), 0);
    }

    /// Overwrites the word at `at`, which has been written before.
    pub(crate) fn patch_u32(&mut self, at: usize, value: u32) {
        patch_u32(&mut self.bytes, at, value);
    }
}

/// Overwrites the word at `at`; a place outside the bytes is left alone.
pub(crate) fn patch_u32(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(word) = at.checked_add(4).and_then(|end| bytes.get_mut(at..end)) {
        word.copy_from_slice(&value.to_le_bytes());
    }
}
