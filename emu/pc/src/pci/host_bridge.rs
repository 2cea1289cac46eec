//! The 82441FX, PCI and memory controller of the 440FX. Of its registers those work that the board has hardware for:
//! the PAM registers, which say for C0000h-FFFFFh whether reads and writes go to DRAM or to PCI (and so to the ROM).
//!
//! Left out: DRAM rows and timing (written and read back only), SMRAM, the fixed hole, error reporting.

use super::config::Function;

/// Programmable attribute map registers 0 to 6.
pub const PAM: u8 = 0x59;
const SMRAM: u8 = 0x72;

const READ_ENABLE: u8 = 1 << 0;
const WRITE_ENABLE: u8 = 1 << 1;

/// Where accesses to a segment go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Attributes {
    /// Reads go to DRAM, not to PCI.
    pub read: bool,
    /// Writes go to DRAM, not to PCI.
    pub write: bool,
}

/// The attributes of the 13 segments: twelve of 16 KiB from C0000h on, and the 64 KiB from F0000h on.
pub type Segments = [Attributes; 13];

/// The function at power-on.
pub fn new() -> Function {
    Function::new(0x8086, 0x1237, 0x06_0000, 0x02)
        // bus master and memory space always; parity and SERR# can be set
        .command(0x0006, 0x0140, 0x0280)
        .register(0x0d, &[0], &[0xf8])
        // PMC configuration, deturbo, DRAM control and timing
        .register(0x50, &[0, 0, 0, 0, 0, 0, 0, 0x01, 0], &[0xff, 0xff, 0, 0x80, 0, 0, 0, 0x3f, 0xff])
        .register(PAM, &[0; 7], &[0x33; 7])
        // DRAM row boundaries
        .register(0x60, &[0x01; 8], &[0xff; 8])
        .register(0x68, &[0], &[0xc0])
        .register(SMRAM, &[0x02], &[0x78])
        .register(0x90, &[0x00, 0x00], &[0xff, 0x00])
}

/// What the PAM registers say. PAM0's upper half is for F0000h; the others have two segments each, the lower first.
pub fn segments(function: &Function) -> Segments {
    let attributes = |bits: u8| Attributes { read: bits & READ_ENABLE != 0, write: bits & WRITE_ENABLE != 0 };
    let mut segments = Segments::default();
    for (index, segment) in segments.iter_mut().take(12).enumerate() {
        let register = function.read(PAM + 1 + (index / 2) as u8);
        *segment = attributes(register >> (4 * (index % 2)));
    }
    segments[12] = attributes(function.read(PAM) >> 4);
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pam_register_holds_the_segments_of_the_data_sheet() {
        let mut bridge = new();
        assert_eq!(segments(&bridge), Segments::default());
        // 82441FX, table "PAM registers and associated memory segments": 59h F0000h, 5Ah C0000h and C4000h,
        // 5Dh D8000h and DC000h, 5Fh E8000h and EC000h
        for (register, value, index, read, write) in [
            (0x59, 0x10, 12, true, false),
            (0x5a, 0x01, 0, true, false),
            (0x5d, 0x20, 7, false, true),
            (0x5f, 0x30, 11, true, true),
        ] {
            bridge.reset();
            bridge.write(register, value);
            let mut expected = Segments::default();
            expected[index] = Attributes { read, write };
            assert_eq!(segments(&bridge), expected, "{register:#x}");
        }
    }

    #[test]
    fn cache_enable_and_reserved_bits_of_pam_do_not_exist() {
        let mut bridge = new();
        bridge.write(0x5a, 0xff);
        assert_eq!(bridge.read(0x5a), 0x33);
    }
}
