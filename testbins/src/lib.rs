//! Guest programs for i386, built at compile time and exported as bytes.
//!
//! Every image is an ELF32 executable with a Multiboot 1 header, so `qemu-system-i386 -kernel` loads it too. Guests speak on the
//! first serial port and leave through the debug-exit port F4h: the value 0 is success.

/// One guest program.
#[derive(Debug, Clone, Copy)]
pub struct Guest {
    /// The name of its source file.
    pub name: &'static str,
    /// The ELF image.
    pub image: &'static [u8],
    /// What it shows, in a sentence.
    pub about: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// The guest of that name; `story` is one of them.
pub fn find(name: &str) -> Option<&'static Guest> {
    std::iter::once(&STORY).chain(GUESTS).find(|guest| guest.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The Multiboot specification: the header lies in the first 8192 bytes, on a 4-byte boundary, and sums to zero.
    #[test]
    fn every_image_is_an_elf_with_a_multiboot_header() {
        for guest in std::iter::once(&STORY).chain(GUESTS) {
            assert!(guest.image.starts_with(b"\x7fELF\x01"), "{} is no ELF32", guest.name);
            let head = &guest.image[..guest.image.len().min(8192)];
            let words: Vec<u32> =
                head.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            let header = words
                .windows(3)
                .any(|w| w[0] == 0x1BAD_B002 && w[0].wrapping_add(w[1]).wrapping_add(w[2]) == 0);
            assert!(header, "{} has no Multiboot header", guest.name);
            assert!(!guest.about.is_empty(), "{} does not say what it is about", guest.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = std::iter::once(&STORY).chain(GUESTS).map(|guest| guest.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
