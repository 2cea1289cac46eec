//! Where memory stands in QEMU's physical address space, as `info mtree -f` tells it.

use super::Error;

/// What stands in a range of physical addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backing {
    /// The machine's RAM, from this offset in its file.
    Ram {
        /// Offset of the range's first byte.
        offset: u64,
        /// Whether writes reach it.
        writable: bool,
    },
    /// Other memory: ROMs, video memory.
    Other {
        /// Whether writes reach it.
        writable: bool,
    },
    /// Registers.
    Device,
}

/// A range of physical addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// How many bytes.
    pub len: u64,
    /// What stands there.
    pub backing: Backing,
}

/// The name of the RAM file's memory backend.
const RAM: &str = "ram";

/// The ranges of the processor's address space, ascending; what none covers is empty.
pub fn parse(text: &str) -> Result<Vec<Range>, Error> {
    let mut lines = text.lines().map(str::trim).skip_while(|line| !line.starts_with("AS \"memory\""));
    lines.next();
    let ranges: Vec<Range> = lines.take_while(|line| !line.is_empty()).filter_map(range).collect();
    if ranges.iter().any(|range| matches!(range.backing, Backing::Ram { offset: 0, .. })) {
        Ok(ranges)
    } else {
        Err(Error::Answer { command: "info mtree -f".into(), answer: text.chars().take(200).collect() })
    }
}

/// `0000000000100000-0000000001ffffff (prio 0, ram): ram @0000000000100000`.
fn range(line: &str) -> Option<Range> {
    let (addresses, rest) = line.split_once(" (prio ")?;
    let (start, last) = addresses.split_once('-')?;
    let (start, last) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(last, 16).ok()?);
    let (_, rest) = rest.split_once(", ")?;
    let (kind, rest) = rest.split_once("): ")?;
    let (name, offset) = match rest.split_once(" @") {
        Some((name, offset)) => (name, u64::from_str_radix(offset.split(' ').next()?, 16).ok()?),
        None => (rest.trim(), 0),
    };
    let writable = match kind {
        "ram" => Some(true),
        "rom" => Some(false),
        _ => None,
    };
    let backing = match writable {
        None => Backing::Device,
        Some(writable) if name == RAM => Backing::Ram { offset, writable },
        Some(writable) => Backing::Other { writable },
    };
    Some(Range { start, len: (last - start).checked_add(1)?, backing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processors_view_is_found_among_the_others() {
        let text = "\
FlatView #0\r
 AS \"cpu-smm-0\", root: memory\r
 Root memory region: memory\r
  0000000000000000-00000000000bffff (prio 0, ram): ram\r
\r
FlatView #3\r
 AS \"memory\", root: system\r
 AS \"cpu-memory-0\", root: system\r
 Root memory region: system\r
  0000000000000000-000000000009ffff (prio 0, ram): ram\r
  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem\r
  00000000000c0000-00000000000e7fff (prio 0, rom): ram @00000000000c0000\r
  0000000000100000-0000000001ffffff (prio 0, ram): ram @0000000000100000\r
  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios\r
\r
";
        let ranges = parse(text).unwrap();
        let of = |start, len, backing| Range { start, len, backing };
        assert_eq!(
            ranges,
            [
                of(0, 0xa_0000, Backing::Ram { offset: 0, writable: true }),
                of(0xa_0000, 0x2_0000, Backing::Device),
                of(0xc_0000, 0x2_8000, Backing::Ram { offset: 0xc_0000, writable: false }),
                of(0x10_0000, 0x1f0_0000, Backing::Ram { offset: 0x10_0000, writable: true }),
                of(0xfffc_0000, 0x4_0000, Backing::Other { writable: false }),
            ]
        );
        assert!(parse("nothing").is_err());
    }
}
