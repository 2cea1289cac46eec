//! The header in the image: what the kernel asks of a loader.

use crate::bytes::{file_range, u16_at, u32_at};
use crate::detect::{Search, search};
use crate::flat::Addresses;
use crate::refusal::Refusal;

pub(crate) const HEADER: &str = "an 8-byte aligned header within the first 32768 bytes: the magic number E85250D6h, the \
                                 architecture, the header's length, and a checksum that makes the four add up to 0";

/// "OS image format": the magic number, its alignment and how deep in the file the header may be.
const MAGIC: u32 = 0xe852_50d6;
const ALIGN: usize = 8;
const LIMIT: usize = 32768;
/// "32-bit (protected) mode of i386".
const ARCHITECTURE_I386: u32 = 0;
/// Magic number, architecture, length, checksum.
const FIXED_SIZE: usize = 16;

/// Tag flag: a loader that does not know the tag may pass over it.
const OPTIONAL: u16 = 1;
/// Console flags: a console is needed; EGA text is one that the kernel can use.
const CONSOLE_REQUIRED: u32 = 1;
const EGA_TEXT_SUPPORTED: u32 = 2;

/// The highest type of information tag that the specification defines, "Image load base physical address".
const LAST_INFORMATION: u32 = 21;
/// The types that [`super::information`] writes.
const PROVIDED: [u32; 7] = [1, 2, 3, 4, 6, 9, 21];

/// What the header asks for.
pub(super) struct Header {
    /// File offset of the header.
    pub(super) offset: usize,
    /// The address tag.
    pub(super) addresses: Option<Addresses>,
    /// The entry address tag, and its file offset.
    pub(super) entry: Option<(u32, usize)>,
    /// The relocatable tag.
    pub(super) relocatable: Option<Relocatable>,
}

/// The relocatable tag.
pub(super) struct Relocatable {
    pub(super) min_addr: u32,
    pub(super) max_addr: u32,
    pub(super) align: u32,
    pub(super) preference: Preference,
    /// File offset of the tag.
    pub(super) offset: usize,
}

/// Where within its limits a relocatable image goes.
pub(super) enum Preference {
    None,
    Lowest,
    Highest,
}

pub(crate) fn find(image: &[u8]) -> Search {
    search(image, MAGIC, ALIGN, LIMIT, 4)
}

/// One tag.
struct Tag<'a> {
    kind: u16,
    required: bool,
    /// File offset.
    offset: usize,
    /// The whole tag.
    bytes: &'a [u8],
}

impl Tag<'_> {
    /// The 32-bit field `index`, counted from behind the tag's type, flags and size.
    fn field(&self, index: usize) -> Result<u32, Refusal> {
        u32_at(self.bytes, 8 + 4 * index).ok_or_else(|| {
            let found =
                format!("a Multiboot 2 header tag of type {} with {} bytes", self.kind, self.bytes.len());
            Refusal::malformed(found, format!("this type has at least {}", 12 + 4 * index)).at(self.offset)
        })
    }
}

impl Header {
    /// Reads the header at file offset `at`, whose fixed part is known to be there and to add up.
    pub(super) fn parse(image: &[u8], at: usize, notes: &mut Vec<String>) -> Result<Header, Refusal> {
        let architecture = u32_at(image, at + 4).unwrap_or(0);
        if architecture != ARCHITECTURE_I386 {
            let found = format!("a Multiboot 2 header for architecture {architecture}");
            return Err(Refusal::unsupported(found, "accepted is 0, the 80386").at(at + 4));
        }
        let len = u32_at(image, at + 8).unwrap_or(0);
        let window = &image[..image.len().min(LIMIT)];
        let whole =
            file_range(window, at as u64, u64::from(len)).filter(|header| header.len() >= FIXED_SIZE + 8);
        let Some(header) = whole else {
            let found = format!("a Multiboot 2 header of {len:#x} bytes at {at:#x}");
            let accepted = "it has at least 24 bytes and lies in the file and in its first 32768 bytes";
            return Err(Refusal::malformed(found, accepted).at(at + 8));
        };
        let mut asked = Header { offset: at, addresses: None, entry: None, relocatable: None };
        let mut tag_at = FIXED_SIZE;
        loop {
            let tag = tag(header, tag_at, at)?;
            if tag.kind == 0 {
                return Ok(asked);
            }
            asked.take(&tag, notes)?;
            tag_at = tag_at.saturating_add(tag.bytes.len()).saturating_add(7) & !7;
        }
    }

    fn take(&mut self, tag: &Tag, notes: &mut Vec<String>) -> Result<(), Refusal> {
        match tag.kind {
            1 => information_request(tag, notes)?,
            2 => {
                self.addresses = Some(Addresses {
                    header_addr: tag.field(0)?,
                    load_addr: tag.field(1)?,
                    load_end_addr: tag.field(2)?,
                    bss_end_addr: tag.field(3)?,
                    header_offset: self.offset,
                    fields_offset: tag.offset + 8,
                });
            }
            3 => self.entry = Some((tag.field(0)?, tag.offset)),
            4 => console(tag)?,
            5 => notes.push("the kernel can use a framebuffer; it gets VGA text".to_owned()),
            // Modules are always page-aligned.
            6 => {}
            // EFI boot services, and the entry points for EFI: "taken into account only on EFI".
            7..=9 => {}
            10 => self.relocatable = Some(Relocatable::parse(tag)?),
            kind if tag.required => {
                let found = format!("a required Multiboot 2 header tag of unknown type {kind}");
                return Err(Refusal::unsupported(found, "known are types 0 to 10").at(tag.offset));
            }
            kind => notes
                .push(format!("the optional Multiboot 2 header tag of unknown type {kind} was passed over")),
        }
        Ok(())
    }
}

/// The tag `at` bytes into `header`, which is at `base` in the file.
fn tag(header: &[u8], at: usize, base: usize) -> Result<Tag<'_>, Refusal> {
    let offset = base.saturating_add(at);
    let fields =
        (u16_at(header, at), u16_at(header, at.saturating_add(2)), u32_at(header, at.saturating_add(4)));
    let (Some(kind), Some(flags), Some(size)) = fields else {
        let found = "Multiboot 2 header tags without an end tag";
        return Err(Refusal::malformed(found, "the last tag has type 0 and size 8").at(offset));
    };
    match file_range(header, at as u64, u64::from(size)) {
        Some(bytes) if bytes.len() >= 8 => Ok(Tag { kind, required: flags & OPTIONAL == 0, offset, bytes }),
        _ => {
            let found = format!("a Multiboot 2 header tag of type {kind} with size {size:#x}");
            Err(Refusal::malformed(found, "a tag has at least 8 bytes and lies within the header").at(offset))
        }
    }
}

/// "The bootloader must support the requested tag and be able to provide relevant information ... if it is available":
/// what the specification defines and this machine has not (a boot device, VBE, APM, EFI, ACPI, a network) is not told.
fn information_request(tag: &Tag, notes: &mut Vec<String>) -> Result<(), Refusal> {
    let asked = tag.bytes[8..].chunks_exact(4).map(|word| u32_at(word, 0).unwrap_or(0));
    let mut missing: Vec<u32> = Vec::new();
    for (index, kind) in asked.enumerate() {
        if tag.required && kind > LAST_INFORMATION {
            let found = format!("a required request for Multiboot 2 information of unknown type {kind}");
            let accepted = format!("known are types up to {LAST_INFORMATION}");
            return Err(Refusal::unsupported(found, accepted).at(tag.offset + 8 + 4 * index));
        }
        if kind != 0 && !PROVIDED.contains(&kind) && !missing.contains(&kind) {
            missing.push(kind);
        }
    }
    if !missing.is_empty() {
        notes.push(format!(
            "the kernel asks for Multiboot 2 information that this machine has not: types {missing:?}"
        ));
    }
    Ok(())
}

fn console(tag: &Tag) -> Result<(), Refusal> {
    let flags = tag.field(0)?;
    if flags & CONSOLE_REQUIRED != 0 && flags & EGA_TEXT_SUPPORTED == 0 {
        let found = format!("console flags {flags:#x}: a console is required, but not EGA text");
        return Err(Refusal::unsupported(found, "this machine's console is EGA text (bit 1)").at(tag.offset));
    }
    Ok(())
}

impl Relocatable {
    fn parse(tag: &Tag) -> Result<Relocatable, Refusal> {
        let preference = match tag.field(3)? {
            0 => Preference::None,
            1 => Preference::Lowest,
            2 => Preference::Highest,
            other => {
                let found = format!("a relocatable tag with preference {other}");
                return Err(Refusal::malformed(found, "the preference is 0, 1 or 2").at(tag.offset));
            }
        };
        let (min_addr, max_addr, align) = (tag.field(0)?, tag.field(1)?, tag.field(2)?);
        Ok(Relocatable { min_addr, max_addr, align, preference, offset: tag.offset })
    }
}
