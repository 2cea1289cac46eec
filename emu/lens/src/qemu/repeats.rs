//! Where an image has repeated string instructions: QEMU runs each iteration as a block of its own, and would log each. An
//! image may fill or copy megabytes with them, so its log leaves those places out, and the comparison goes on behind them.

use std::collections::BTreeSet;

/// MOVS, CMPS, STOS, LODS, SCAS; INS and OUTS.
const OPCODES: [u8; 14] =
    [0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0x6c, 0x6d, 0x6e, 0x6f];
/// No more places than this are left out: QEMU looks through all of them before each block.
const MOST: usize = 200;
/// ELF's program header: loaded, and executable.
const LOAD: u32 = 1;
const EXECUTABLE: u32 = 1;

/// The linear addresses, of an ELF32 image both the physical and the virtual ones. Bytes that only look like such an
/// instruction do no harm.
pub fn find(image: &[u8]) -> BTreeSet<u32> {
    let mut all = BTreeSet::new();
    for (offset, len, addresses) in executable(image).unwrap_or_default() {
        let bytes = image.get(offset..).unwrap_or_default();
        let bytes = &bytes[..bytes.len().min(len)];
        for (n, pair) in bytes.windows(2).enumerate() {
            if !matches!(pair[0], 0xf2 | 0xf3) || !OPCODES.contains(&pair[1]) {
                continue;
            }
            for address in addresses {
                // with an operand-size prefix, the instruction begins before
                let prefixed = n > 0 && matches!(bytes[n - 1], 0x66 | 0x67);
                all.insert(address.wrapping_add((n - prefixed as usize) as u32));
            }
        }
    }
    while all.len() > MOST {
        all.pop_last();
    }
    all
}

/// Of each executable segment: offset in the file, length, physical and virtual address.
fn executable(image: &[u8]) -> Option<Vec<(usize, usize, [u32; 2])>> {
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_le_bytes(image.get(at..at + 2)?.try_into().ok()?));
    if !image.starts_with(b"\x7fELF\x01") {
        return None;
    }
    let (table, size, count) = (word(28)? as usize, half(42)? as usize, half(44)? as usize);
    let mut found = Vec::new();
    for n in 0..count {
        let at = table.checked_add(n * size)?;
        if word(at)? == LOAD && word(at + 24)? & EXECUTABLE != 0 {
            found.push((word(at + 4)? as usize, word(at + 16)? as usize, [word(at + 12)?, word(at + 8)?]));
        }
    }
    Some(found)
}

/// The value of `-dfilter` that leaves these addresses out.
pub fn filter(addresses: &BTreeSet<u32>) -> Option<String> {
    let mut ranges = Vec::new();
    let mut from = 0u64;
    for &address in addresses {
        let address = address as u64;
        if address > from {
            ranges.push(format!("{from:#x}..{:#x}", address - 1));
        }
        from = address + 1;
    }
    ranges.push(format!("{from:#x}..0xffffffff"));
    (!addresses.is_empty()).then(|| ranges.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_instructions_are_found_at_both_addresses() {
        let mut image = vec![0; 0x100];
        image[..5].copy_from_slice(b"\x7fELF\x01");
        image[28] = 52;
        image[42] = 32;
        image[44] = 1;
        // offset 80h, virtual C0100000h, physical 100000h, 16 bytes, executable
        let header: [u32; 7] = [1, 0x80, 0xc010_0000, 0x10_0000, 16, 16, 5];
        for (n, word) in header.into_iter().enumerate() {
            image[52 + n * 4..56 + n * 4].copy_from_slice(&word.to_le_bytes());
        }
        // nop; rep stosd; rep movsw; rep ret
        image[0x80..0x88].copy_from_slice(&[0x90, 0xf3, 0xab, 0x66, 0xf3, 0xa5, 0xf3, 0xc3]);
        let found: Vec<u32> = find(&image).into_iter().collect();
        assert_eq!(found, [0x10_0001, 0x10_0003, 0xc010_0001, 0xc010_0003]);
        assert!(find(b"no ELF").is_empty());
    }

    #[test]
    fn the_filter_is_all_but_the_addresses() {
        let filter = |addresses: &[u32]| filter(&addresses.iter().copied().collect());
        assert_eq!(filter(&[]), None);
        assert_eq!(filter(&[0x1000, 0x1001]).unwrap(), "0x0..0xfff,0x1002..0xffffffff");
    }
}
