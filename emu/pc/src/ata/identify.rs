//! What a drive says of itself: ATA/ATAPI-6, "IDENTIFY DEVICE" and "IDENTIFY PACKET DEVICE", tables of words.

use super::command::MAX_MULTIPLE;
use super::*;

/// The DMA mode at power-on: Ultra DMA mode 5.
pub(super) const DEFAULT_DMA_MODE: u8 = 0x45;
/// The bits of the modes that there are: multiword 0 to 2, Ultra DMA 0 to 5.
const MULTIWORD: u16 = 0x0007;
const ULTRA: u16 = 0x003f;

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
        words[49] = 0x0b00; // LBA, DMA, IORDY
        words[50] = 0x4000;
        words[51] = 0x0200; // PIO mode 2 timing
        words[53] = 0x0007; // words 54-58, 64-70 and 88 are valid
        words[54] = current.cylinders;
        words[55] = u16::from(current.heads);
        words[56] = u16::from(current.sectors);
        [words[57], words[58]] = [current_sectors as u16, (current_sectors >> 16) as u16];
        words[59] = if self.multiple != 0 { 0x0100 | u16::from(self.multiple) } else { 0 };
        [words[60], words[61]] = [total as u16, (total >> 16) as u16];
        self.put_modes(&mut words);
        words[80] = 0x007e; // ATA-1 to ATA-6
        words[82] = 0x0020; // write cache
        words[83] = 0x7400; // valid; FLUSH CACHE EXT, FLUSH CACHE, 48-bit addresses
        words[84] = 0x4000; // valid
        words[85] = 0x0020;
        words[86] = 0x3400;
        words[87] = 0x4000;
        words[93] = 0x6001; // valid: device 0 after a hardware reset, behind an 80-conductor cable
        let sectors = self.sectors();
        for (index, word) in words[100..104].iter_mut().enumerate() {
            *word = (sectors >> (16 * index)) as u16;
        }
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// The 512 bytes of IDENTIFY PACKET DEVICE.
    pub(super) fn identify_packet(&self) -> Vec<u8> {
        let mut words = [0u16; 256];
        words[0] = 0x85c0; // a removable CD-ROM that takes packets of 12 bytes, within 50 microseconds
        put_text(&mut words[10..20], "PW00000003");
        put_text(&mut words[23..27], "1.0");
        put_text(&mut words[27..47], "PAGEWALK CD-ROM");
        words[48] = 0x0001;
        words[49] = 0x0b00; // LBA, DMA, IORDY
        words[50] = 0x4000;
        words[51] = 0x0200;
        words[53] = 0x0007;
        self.put_modes(&mut words);
        words[80] = 0x0070; // ATA/ATAPI-4 to -6
        words[82] = 0x0210; // DEVICE RESET, PACKET
        words[83] = 0x4000;
        words[84] = 0x4000;
        words[85] = 0x0210;
        words[87] = 0x4000;
        words[93] = 0x6001;
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Words 63 to 68 and 88: transfer modes there are, the one that is set, and cycles in nanoseconds.
    fn put_modes(&self, words: &mut [u16; 256]) {
        let set = 0x0100 << (self.dma_mode & 7);
        words[63] = MULTIWORD | if self.dma_mode & 0x20 != 0 { set } else { 0 };
        words[64] = 0x0003; // PIO modes 3 and 4
        words[65..69].fill(120);
        words[88] = ULTRA | if self.dma_mode & 0x40 != 0 { set } else { 0 };
    }
}
