//! Which protocol an image is for.
//!
//! Detected in this order: a Linux bzImage, Multiboot 1, Multiboot 2, PVH, plain ELF32, a boot sector. A file
//! with several headers so starts as it does under `qemu-system-i386 -kernel`, and `--boot` picks another.

use crate::bytes::{u16_at, u32_at};
use crate::draft::Draft;
use crate::elf::{Elf, Link, is_elf};
use crate::plan::{Kind, Plan, Start};
use crate::refusal::{Cause, Refusal};
use crate::request::{Boot, RawMode, Request};
use crate::{linux, multiboot1, multiboot2, pvh, raw};

/// What a search for a Multiboot header came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Search {
    /// A whole header with the right checksum begins here.
    Found(usize),
    /// The magic number stands here, but the words from it on do not add up to 0.
    Damaged { at: usize, sum: Option<u32> },
    /// No magic number.
    Missing,
}

/// Looks in the first `limit` bytes, every `align`, for `magic` at the start of `words` words that add up to 0.
pub(crate) fn search(image: &[u8], magic: u32, align: usize, limit: usize, words: usize) -> Search {
    let window = &image[..image.len().min(limit)];
    let mut damaged = Search::Missing;
    for at in (0..window.len()).step_by(align).filter(|&at| u32_at(window, at) == Some(magic)) {
        let sum =
            (0..words).try_fold(0_u32, |sum, word| Some(sum.wrapping_add(u32_at(window, at + 4 * word)?)));
        if sum == Some(0) {
            return Search::Found(at);
        }
        if damaged == Search::Missing {
            damaged = Search::Damaged { at, sum };
        }
    }
    damaged
}

impl Search {
    /// Where the header is, or why there is none, for an image that is to be started by this protocol.
    fn required(self, protocol: &str, header: &str) -> Result<usize, Refusal> {
        let refuse =
            |found: String| Refusal::new(Cause::NotRecognised, found, format!("accepted is {header}"));
        match self {
            Search::Found(at) => Ok(at),
            Search::Damaged { at, .. } => Err(refuse(self.damage(protocol).unwrap_or_default()).at(at)),
            Search::Missing => Err(refuse(format!("no {protocol} header"))),
        }
    }

    fn damage(&self, protocol: &str) -> Option<String> {
        match self {
            Search::Damaged { sum: Some(sum), .. } => Some(format!(
                "a {protocol} magic number whose checksum is wrong (the sum is {sum:#x}, not 0)"
            )),
            Search::Damaged { sum: None, .. } => Some(format!("a {protocol} header that is cut off")),
            Search::Found(_) | Search::Missing => None,
        }
    }
}

/// Plans for `image`, which is `request.image` unpacked.
pub(crate) fn plan(request: &Request, image: &[u8]) -> Result<Plan, Refusal> {
    let draft = Draft::new(request, image);
    match request.boot {
        Boot::Auto => detected(draft),
        Boot::Multiboot1 => {
            let at = multiboot1::find(image).required("Multiboot 1", multiboot1::HEADER)?;
            multiboot1::plan(draft, at)
        }
        Boot::Multiboot2 => {
            let at = multiboot2::find(image).required("Multiboot 2", multiboot2::HEADER)?;
            multiboot2::plan(draft, at)
        }
        Boot::Linux => linux::plan(draft),
        Boot::LinuxRealMode => linux::real::plan(draft),
        Boot::Pvh => {
            let elf = Elf::parse(image, Link::Fixed)?;
            let entry = elf.pvh_entry()?.ok_or_else(|| {
                let found = "an ELF32 file without a PVH entry note";
                Refusal::new(Cause::NotRecognised, found, format!("accepted is {}", pvh::NOTE))
            })?;
            pvh::plan(draft, &elf, entry)
        }
        Boot::Elf => plain_elf(draft, &Elf::parse(image, Link::Fixed)?),
        Boot::Raw { address, mode } => raw::plan(draft, address, mode),
    }
}

fn detected(mut draft: Draft) -> Result<Plan, Refusal> {
    let image = draft.image;
    if linux::is_linux(image) {
        return linux::detected(draft);
    }
    let (one, two) = (multiboot1::find(image), multiboot2::find(image));
    if let Search::Found(at) = one {
        return multiboot1::plan(draft, at);
    }
    if let Search::Found(at) = two {
        return multiboot2::plan(draft, at);
    }
    let damage = [one.damage("Multiboot 1"), two.damage("Multiboot 2")].into_iter().flatten();
    let damage: Vec<String> = damage.collect();
    if is_elf(image) {
        draft.notes.extend(damage.into_iter().map(|damage| format!("{damage} was passed over")));
        let elf = Elf::parse(image, Link::Fixed)?;
        return match elf.pvh_entry()? {
            Some(entry) => pvh::plan(draft, &elf, entry),
            None => plain_elf(draft, &elf),
        };
    }
    if is_boot_sector(image) {
        let mut plan = raw::plan(draft, Boot::REAL_ADDRESS, RawMode::Real)?;
        plan.kind = Kind::BootSector;
        return Ok(plan);
    }
    let found = damage.into_iter().next().unwrap_or_else(|| describe(image));
    Err(Refusal::new(Cause::NotRecognised, found, ACCEPTED))
}

const ACCEPTED: &str = "accepted are Linux bzImages, Multiboot 1, Multiboot 2, PVH and ELF32 kernels for the 80386 and 512-byte boot \
                        sectors, gzipped or not; for a flat binary say --boot raw:ADDRESS or --boot raw32:ADDRESS";

/// An ELF32 file that no protocol claims: entered at its entry point in flat protected mode, with a stack.
fn plain_elf(mut draft: Draft, elf: &Elf) -> Result<Plan, Refusal> {
    draft.request.nothing_to_pass("a plain ELF32 file")?;
    elf.load(elf.span().start, &mut draft)?;
    elf.read_symbols(0, &mut draft);
    let eip = elf.entry(&mut draft.notes)?;
    let esp = raw::stack(&draft)?;
    Ok(draft.finish(Kind::Elf, Start::protected(eip, 0, 0, esp)))
}

fn is_boot_sector(image: &[u8]) -> bool {
    image.len() == 512 && u16_at(image, 510) == Some(0xaa55)
}

/// What a file looks like that is none of ours.
fn describe(image: &[u8]) -> String {
    const KNOWN: [(usize, &[u8], &str); 9] = [
        (0, b"MZ", "a DOS or Windows executable (\"MZ\")"),
        (0, b"\xfd7zXZ\0", "xz-compressed data"),
        (0, b"\x28\xb5\x2f\xfd", "zstd-compressed data"),
        (0, b"BZh", "bzip2-compressed data"),
        (0, b"\x1f\x8b", "a gzip header with an unknown method or flag"),
        (0, b"!<arch>\n", "an archive of object files"),
        (0, b"#!", "a script"),
        (0x8001, b"CD001", "an ISO 9660 image"),
        (510, b"\x55\xaa", "a disk image (a boot sector and more)"),
    ];
    if image.is_empty() {
        return "an empty file".to_owned();
    }
    let known =
        KNOWN.iter().find(|(at, magic, _)| image.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    match known {
        Some((_, _, what)) => (*what).to_owned(),
        None => format!("no header that is known; the file begins {:02x?}", &image[..image.len().min(8)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn the_search_takes_the_first_header_that_adds_up() {
        let good = [7, 3, 0_u32.wrapping_sub(10)];
        assert_eq!(search(&words(&[0, 0, 7, 3, 9, 7, 3, good[2]]), 7, 4, 8192, 3), Search::Found(20));
        assert_eq!(search(&words(&[0, 7, 3, 9]), 7, 4, 8192, 3), Search::Damaged { at: 4, sum: Some(19) });
        assert_eq!(search(&words(&[0, 7, 3]), 7, 4, 8192, 3), Search::Damaged { at: 4, sum: None });
        assert_eq!(search(&words(&[0, good[0], good[1], good[2]]), 7, 8, 8192, 3), Search::Missing);
        assert_eq!(search(&[], 7, 4, 8192, 3), Search::Missing);
    }

    #[test]
    fn the_search_ends_where_the_header_would_pass_the_limit() {
        let mut image = vec![0; 8192 - 12];
        image.extend(words(&[7, 3, 0_u32.wrapping_sub(10)]));
        assert_eq!(search(&image, 7, 4, 8192, 3), Search::Found(8192 - 12));
        image.splice(0..0, [0; 4]);
        assert_eq!(search(&image, 7, 4, 8192, 3), Search::Damaged { at: 8192 - 8, sum: None });
    }
}
