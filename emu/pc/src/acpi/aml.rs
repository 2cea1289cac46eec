//! Writing ACPI machine language: as much of the ACPI specification's chapters "AML Specification" and "Resource Data
//! Types for ACPI" (revision 2.0c) as our own DSDT needs. Everything is a piece of bytes.

/// A package length, which counts itself, in front of `body`.
fn counted(body: &[u8]) -> Vec<u8> {
    let len = body.len();
    let mut out = match len {
        0..=0x3e => vec![len as u8 + 1],
        0x3f..=0xffd => vec![0x40 | (len + 2) as u8 & 0xf, ((len + 2) >> 4) as u8],
        _ => vec![0x80 | (len + 3) as u8 & 0xf, ((len + 3) >> 4) as u8, ((len + 3) >> 12) as u8],
    };
    out.extend(body);
    out
}

/// A name of segments separated by dots, absolute if it begins with a backslash.
pub fn path(name: &str) -> Vec<u8> {
    let (mut out, rest) = match name.strip_prefix('\\') {
        Some(rest) => (vec![b'\\'], rest),
        None => (Vec::new(), name),
    };
    let segments: Vec<&str> = rest.split('.').filter(|segment| !segment.is_empty()).collect();
    match segments.len() {
        0 => out.push(0),
        1 => {}
        2 => out.push(0x2e),
        more => out.extend([0x2f, more as u8]),
    }
    for segment in segments {
        out.extend(segment.bytes().chain(std::iter::repeat(b'_')).take(4));
    }
    out
}

/// A number, in the shortest form.
pub fn number(value: u32) -> Vec<u8> {
    match value {
        0 | 1 => vec![value as u8],
        2..=0xff => vec![0x0a, value as u8],
        0x100..=0xffff => [&[0x0b], &(value as u16).to_le_bytes()[..]].concat(),
        _ => [&[0x0c], &value.to_le_bytes()[..]].concat(),
    }
}

/// A string.
pub fn string(text: &str) -> Vec<u8> {
    [&[0x0d], text.as_bytes(), &[0]].concat()
}

/// The number of a device such as PNP0A03: three letters in 5 bits each, then four digits, high byte first.
pub fn eisa_id(id: &str) -> Vec<u8> {
    let (letters, digits) = id.split_at(3);
    let packed = letters.bytes().fold(0u32, |bits, letter| bits << 5 | u32::from(letter & 0x1f));
    let value = packed << 16 | u32::from_str_radix(digits, 16).unwrap_or(0);
    [&[0x0c], &value.to_be_bytes()[..]].concat()
}

/// Name (`name`, `value`).
pub fn named(name: &str, value: &[u8]) -> Vec<u8> {
    [&[0x08], &path(name)[..], value].concat()
}

/// Package () { `elements` }.
pub fn package(elements: &[Vec<u8>]) -> Vec<u8> {
    let body = [&[elements.len() as u8], &elements.concat()[..]].concat();
    [vec![0x12], counted(&body)].concat()
}

/// A resource template: descriptors and the end tag.
pub fn resources(descriptors: &[Vec<u8>]) -> Vec<u8> {
    let bytes = [&descriptors.concat()[..], &[0x79, 0]].concat();
    let body = [number(bytes.len() as u32), bytes].concat();
    [vec![0x11], counted(&body)].concat()
}

/// Scope (`name`) { `body` }.
pub fn scope(name: &str, body: &[Vec<u8>]) -> Vec<u8> {
    [vec![0x10], counted(&[path(name), body.concat()].concat())].concat()
}

/// Device (`name`) { `body` }.
pub fn device(name: &str, body: &[Vec<u8>]) -> Vec<u8> {
    [vec![0x5b, 0x82], counted(&[path(name), body.concat()].concat())].concat()
}

/// Method (`name`, `arguments`, NotSerialized) {}.
pub fn empty_method(name: &str, arguments: u8) -> Vec<u8> {
    [vec![0x14], counted(&[path(name), vec![arguments & 7]].concat())].concat()
}

/// IO (Decode16, ..): `len` ports from `first` on.
pub fn io(first: u16, len: u8) -> Vec<u8> {
    let [low, high] = first.to_le_bytes();
    vec![0x47, 0x01, low, high, low, high, 0x01, len]
}

/// IRQNoFlags () {`irq`}: edge-triggered, active high.
pub fn irq(irq: u8) -> Vec<u8> {
    let [low, high] = (1u16 << (irq & 15)).to_le_bytes();
    vec![0x22, low, high]
}

/// Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) {`input`}.
pub fn shared_interrupt(input: u32) -> Vec<u8> {
    [&[0x89, 0x06, 0x00, 0x09, 0x01], &input.to_le_bytes()[..]].concat()
}

/// Memory32Fixed (ReadOnly, ..).
pub fn fixed_memory(first: u32, len: u32) -> Vec<u8> {
    [&[0x86, 0x09, 0x00, 0x00], &first.to_le_bytes()[..], &len.to_le_bytes()].concat()
}

/// What a range of addresses is of, with its type-specific flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    /// Memory that can be read and written, cacheable or not.
    Memory {
        /// Whether it may be cached.
        cacheable: bool,
    },
    /// Ports, ISA's and others.
    Ports,
    /// Bus numbers.
    Buses,
}

impl Space {
    fn codes(self) -> [u8; 2] {
        match self {
            Space::Memory { cacheable } => [0, if cacheable { 0x03 } else { 0x01 }],
            Space::Ports => [1, 0x03],
            Space::Buses => [2, 0x00],
        }
    }
}

/// A range that a bridge passes on, its bounds fixed: WordIO, WordBusNumber.
pub fn word_range(space: Space, first: u16, last: u16) -> Vec<u8> {
    let [kind, specific] = space.codes();
    let len = last.wrapping_sub(first).wrapping_add(1);
    let words: Vec<u8> = [0, first, last, 0, len].iter().flat_map(|word| word.to_le_bytes()).collect();
    [&[0x88, 0x0d, 0x00, kind, 0x0c, specific], &words[..]].concat()
}

/// The same with 32 bits: DWordMemory.
pub fn dword_range(space: Space, first: u32, last: u32) -> Vec<u8> {
    let [kind, specific] = space.codes();
    let len = last.wrapping_sub(first).wrapping_add(1);
    let dwords: Vec<u8> = [0, first, last, 0, len].iter().flat_map(|dword| dword.to_le_bytes()).collect();
    [&[0x87, 0x17, 0x00, kind, 0x0c, specific], &dwords[..]].concat()
}

#[cfg(test)]
mod tests {
    //! Expected bytes are those of the ACPI specification's grammar.

    use super::*;

    #[test]
    fn names_are_padded_and_prefixed_by_how_many_segments_they_have() {
        assert_eq!(path("\\_S5"), b"\\_S5_");
        assert_eq!(path("\\_SB.PCI0"), b"\\\x2e_SB_PCI0");
        assert_eq!(path("A.B.C"), b"\x2f\x03A___B___C___");
        assert_eq!(path("\\"), b"\\\0");
    }

    #[test]
    fn numbers_take_the_shortest_form() {
        assert_eq!(number(1), [1]);
        assert_eq!(number(2), [0x0a, 2]);
        assert_eq!(number(0x1234), [0x0b, 0x34, 0x12]);
        assert_eq!(number(0x0001_ffff), [0x0c, 0xff, 0xff, 1, 0]);
    }

    #[test]
    fn package_lengths_count_themselves_and_grow_with_what_they_count() {
        assert_eq!(counted(&[0; 0x3e])[..1], [0x3f]);
        assert_eq!(counted(&[0; 0x3f])[..2], [0x41, 0x04]);
        assert_eq!(counted(&[0; 0xffd])[..2], [0x4f, 0xff]);
        assert_eq!(counted(&[0; 0xffe])[..3], [0x81, 0x00, 0x01]);
    }

    #[test]
    fn device_numbers_are_packed_as_eisa_does() {
        assert_eq!(eisa_id("PNP0A03"), [0x0c, 0x41, 0xd0, 0x0a, 0x03]);
        assert_eq!(eisa_id("PNP0C0F"), [0x0c, 0x41, 0xd0, 0x0c, 0x0f]);
    }
}
