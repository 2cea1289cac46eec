//! What a drive says of itself: ATA/ATAPI-4, "IDENTIFY DEVICE", table of words.

use super::command::MAX_MULTIPLE;
use super::*;

/// Puts ASCII into words as the drive sends it: the first character in the upper half.
fn put_text(words: &mut [u16], text: &str) {
    let mut bytes = text.bytes().chain(std::iter::repeat(b' '));
    for word in words {
        let (first, second) = (bytes.next().unwrap_or(b' '), bytes.next().unwrap_or(b' '));
        *word = u16::from_be_bytes([first, second]);
    }
}

impl Drive {
    /// The 512 bytes of IDENTIFY DEVICE.
    pub(super) fn identify(&self) -> Vec<u8> {
        let mut words = [0u16; 256];
        let total = self.capacity();
        let default = Geometry::default_for(total);
        let current = self.geometry;
        let current_sectors =
            (u64::from(current.cylinders) * u64::from(current.heads) * u64::from(current.sectors)) as u32;

        words[0] = 0x0040; // a fixed disk
        words[1] = default.cylinders;
        words[3] = u16::from(default.heads);
        words[6] = u16::from(default.sectors);
        put_text(&mut words[10..20], "PW00000001");
        put_text(&mut words[23..27], "1.0");
        put_text(&mut words[27..47], "PAGEWALK DISK");
        words[47] = 0x8000 | u16::from(MAX_MULTIPLE);
        words[48] = 0x0001; // 32-bit data accesses work
        words[49] = 0x0a00; // LBA, IORDY
        words[50] = 0x4000;
        words[51] = 0x0200; // PIO mode 2 timing
        words[53] = 0x0003; // words 54-58 and 64-70 are valid
        words[54] = current.cylinders;
        words[55] = u16::from(current.heads);
        words[56] = u16::from(current.sectors);
        [words[57], words[58]] = [current_sectors as u16, (current_sectors >> 16) as u16];
        words[59] = if self.multiple != 0 { 0x0100 | u16::from(self.multiple) } else { 0 };
        [words[60], words[61]] = [total as u16, (total >> 16) as u16];
        words[64] = 0x0003; // PIO modes 3 and 4
        words[67] = 120; // nanoseconds of a PIO cycle, without and
        words[68] = 120; // with IORDY
        words[80] = 0x001e; // ATA-1 to ATA-4
        words[82] = 0x0020; // write cache
        words[83] = 0x5000; // valid; FLUSH CACHE
        words[84] = 0x4000; // valid
        words[85] = 0x0020;
        words[86] = 0x1000;
        words[87] = 0x4000;
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}
