//! What values, flags, segments and exceptions are called in vectors.

use std::fmt;

use crate::case::End;
use crate::world::{CODE, DATA, FLAT_CODE, FLAT_DATA, Kind, PAGE, STACK, selector};

/// Names of the general registers, as encoded: of 32, 16 and 8 bits.
pub const DWORDS: [&str; 8] = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
/// The low words.
pub const WORDS: [&str; 8] = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
/// The low bytes of the first four, then their second bytes.
pub const BYTES: [&str; 8] = ["al", "cl", "dl", "bl", "ah", "ch", "dh", "bh"];

/// Status flags in `flags=`, a capital letter for 1 and a small one for 0.
pub const LETTERS: [(char, u32); 6] =
    [('O', 1 << 11), ('S', 1 << 7), ('Z', 1 << 6), ('A', 1 << 4), ('P', 1 << 2), ('C', 1)];

/// Flags by name.
pub const FLAGS: [(&str, u32); 13] = [
    ("cf", 1),
    ("pf", 1 << 2),
    ("af", 1 << 4),
    ("zf", 1 << 6),
    ("sf", 1 << 7),
    ("tf", 1 << 8),
    ("if", 1 << 9),
    ("df", 1 << 10),
    ("of", 1 << 11),
    ("nt", 1 << 14),
    ("rf", 1 << 16),
    ("ac", 1 << 18),
    ("id", 1 << 21),
];

/// Kinds of segments, without the 16 or 32 that says D/B.
pub const KINDS: [(&str, Kind); 4] = [
    ("data", Kind::Data),
    ("down", Kind::ExpandDown),
    ("code", Kind::Code),
    ("conforming", Kind::Conforming),
];

/// Names of addresses and selectors. `ldtN` and `start` are not here.
pub const PLACES: [(&str, u32); 5] = [
    ("code", CODE),
    ("data", DATA),
    ("stack", STACK),
    ("flat_code", FLAT_CODE as u32),
    ("flat_data", FLAT_DATA as u32),
];

/// Exceptions, and whether they have an error code.
pub const EXCEPTIONS: [(&str, u8, bool); 15] = [
    ("DE", 0, false),
    ("DB", 1, false),
    ("BP", 3, false),
    ("OF", 4, false),
    ("BR", 5, false),
    ("UD", 6, false),
    ("NM", 7, false),
    ("TS", 10, true),
    ("NP", 11, true),
    ("SS", 12, true),
    ("GP", 13, true),
    ("PF", 14, true),
    ("MF", 16, false),
    ("AC", 17, true),
    ("XM", 19, false),
];

/// A part of the FXSAVE image: `fcw`, `fsw`, `ftw`, `mxcsr`, `st0` to `st7`, `xmm0` to `xmm7`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FpuPart {
    /// Its offset in the image.
    pub offset: usize,
    /// Its bytes.
    pub length: usize,
}

impl FpuPart {
    /// All parts there are.
    pub fn all() -> impl Iterator<Item = FpuPart> {
        let part = |offset, length| FpuPart { offset, length };
        [part(0, 2), part(2, 2), part(4, 1), part(24, 4)]
            .into_iter()
            .chain((0..8).map(move |n| part(32 + 16 * n, 10)))
            .chain((0..8).map(move |n| part(160 + 16 * n, 16)))
    }

    /// The part of this name.
    pub fn by_name(name: &str) -> Option<FpuPart> {
        FpuPart::all().find(|part| part.to_string() == name)
    }

    /// Its value in an image.
    pub fn get(self, image: &[u8; 512]) -> u128 {
        let mut bytes = [0; 16];
        bytes[..self.length].copy_from_slice(&image[self.offset..self.offset + self.length]);
        u128::from_le_bytes(bytes)
    }

    /// Puts a value into an image.
    pub fn put(self, image: &mut [u8; 512], value: u128) {
        image[self.offset..self.offset + self.length].copy_from_slice(&value.to_le_bytes()[..self.length]);
    }
}

impl fmt::Display for FpuPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset {
            0 => f.write_str("fcw"),
            2 => f.write_str("fsw"),
            4 => f.write_str("ftw"),
            24 => f.write_str("mxcsr"),
            offset if offset < 160 => write!(f, "st{}", (offset - 32) / 16),
            offset => write!(f, "xmm{}", (offset - 160) / 16),
        }
    }
}

/// A number that is an address of the world, an LDT selector, or just a number.
pub fn value(number: u32) -> String {
    let near = |&(_, base): &(&str, u32)| number.wrapping_sub(base.wrapping_sub(16 * PAGE)) < 48 * PAGE;
    match PLACES[..3].iter().find(|place| near(place)) {
        Some((name, base)) if number == *base => name.to_string(),
        Some((name, base)) if number > *base => format!("{name}+{}", plain(number - base)),
        Some((name, base)) => format!("{name}-{}", plain(base - number)),
        None => plain(number),
    }
}

/// A selector.
pub fn selector_value(number: u16) -> String {
    match number {
        FLAT_CODE => "flat_code".to_string(),
        FLAT_DATA => "flat_data".to_string(),
        _ if number & 7 == 7 => format!("ldt{}", number >> 3),
        _ => plain(number as u32),
    }
}

/// A number: small ones in decimal.
pub fn plain(number: u32) -> String {
    if number < 10 { number.to_string() } else { format!("{number:#x}") }
}

/// The value of `ldtN`.
pub fn ldt_selector(name: &str) -> Option<u16> {
    let entry: usize = name.strip_prefix("ldt")?.parse().ok()?;
    (entry < 8192).then(|| selector(entry))
}

/// How an end is written behind `=>`; nothing for falling through.
pub fn end(end: End) -> String {
    match end {
        End::Fell => String::new(),
        End::Endless => "endless".to_string(),
        End::Fault { vector, code, .. } => match EXCEPTIONS.iter().find(|(_, number, _)| *number == vector) {
            Some((name, _, true)) => format!("#{name}({})", plain(code)),
            Some((name, _, false)) => format!("#{name}"),
            None => format!("#{vector}"),
        },
    }
}
