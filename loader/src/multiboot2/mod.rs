//! Multiboot 2 (Multiboot2 Specification version 2.0): loading. The header is read in [`header`], the information for
//! the kernel written in [`information`].

mod header;
mod information;

pub(crate) use header::{HEADER, find};

use std::ops::Range;

use crate::draft::Draft;
use crate::elf::{Elf, Link, is_elf};
use crate::flat::Flat;
use crate::memory::FOUR_GIB;
use crate::plan::{Kind, Plan, Start};
use crate::refusal::Refusal;
use header::{Header, Preference, Relocatable};

/// "I386 machine state": EAX.
const BOOT_MAGIC: u32 = 0x36d7_6289;

/// The image as its header says it is to be loaded.
enum Body<'a> {
    Elf(Elf<'a>),
    Flat(Flat<'a>),
}

/// Plans for the image whose header is at `at`.
pub(crate) fn plan(mut draft: Draft, at: usize) -> Result<Plan, Refusal> {
    let header = Header::parse(draft.image, at, &mut draft.notes)?;
    let body = body(&header, draft.image, at)?;
    let linked = body.span();
    let base = match &header.relocatable {
        Some(relocatable) => choose_base(&draft, relocatable, &linked)?,
        None => linked.start,
    };
    let entry = entry(&header, &body, &mut draft.notes)?;
    let moved = (base as u32).wrapping_sub(linked.start as u32);
    if moved != 0 {
        let from = linked.start;
        draft.notes.push(format!("the image is linked for {from:#x} and was moved to {base:#x}"));
    }
    match &body {
        Body::Elf(elf) => {
            elf.load(base, &mut draft)?;
            elf.read_symbols(moved, &mut draft);
        }
        Body::Flat(flat) => draft.layout.put(base, flat.data, flat.bss, draft.request.name.to_owned())?,
    }

    let load_base = header.relocatable.is_some().then_some(base as u32);
    let mut sections = match &body {
        Body::Elf(elf) => elf.sections(),
        Body::Flat(_) => None,
    };
    // The size of the information depends on what it lists, not on where that is.
    let unknown = vec![0..0; draft.request.modules.len()];
    let len = information::tags(draft.request, &unknown, sections.as_ref(), load_base).len();
    let info = draft.layout.reserve(len, "Multiboot 2 information".to_owned())?;
    if let (Body::Elf(elf), Some(sections)) = (&body, &mut sections) {
        elf.load_symbol_tables(sections, &mut draft);
    }
    let modules = draft.load_modules()?;
    let bytes = information::tags(draft.request, &modules, sections.as_ref(), load_base);
    draft.fill(&info, bytes);
    let start = Start::protected(entry.wrapping_add(moved), BOOT_MAGIC, info.at, 0);
    Ok(draft.finish(Kind::Multiboot2, start))
}

fn body<'a>(header: &Header, image: &'a [u8], at: usize) -> Result<Body<'a>, Refusal> {
    if let Some(addresses) = &header.addresses {
        return Ok(Body::Flat(addresses.slice(image)?));
    }
    if is_elf(image) {
        let link = if header.relocatable.is_some() { Link::Relocatable } else { Link::Fixed };
        return Ok(Body::Elf(Elf::parse(image, link)?));
    }
    let found = "a Multiboot 2 header without an address tag in a file that is not ELF";
    Err(Refusal::malformed(found, "add an address tag and an entry address tag").at(at))
}

impl Body<'_> {
    /// The physical addresses it is linked for.
    fn span(&self) -> Range<u64> {
        match self {
            Body::Elf(elf) => elf.span(),
            Body::Flat(flat) => flat.at..flat.end(),
        }
    }

    fn holds(&self, address: u32) -> bool {
        match self {
            Body::Elf(elf) => elf.holds(address),
            Body::Flat(flat) => (flat.at..flat.end()).contains(&u64::from(address)),
        }
    }
}

/// The physical entry point, as linked: the entry address tag's, else ELF's.
fn entry(header: &Header, body: &Body, notes: &mut Vec<String>) -> Result<u32, Refusal> {
    match (header.entry, body) {
        (Some((entry, _)), body) if body.holds(entry) => Ok(entry),
        (Some((entry, offset)), _) => {
            let found = format!("an entry address tag with {entry:#x}, where nothing is loaded");
            Err(Refusal::malformed(found, "the entry point is in what is loaded").at(offset))
        }
        (None, Body::Elf(elf)) => elf.entry(notes),
        (None, Body::Flat(_)) => {
            let found = "an address tag without an entry address tag";
            Err(Refusal::malformed(found, "add an entry address tag (type 3)").at(header.offset))
        }
    }
}

/// Where a relocatable image goes. Without a preference it stays where it was linked, if that is allowed and free.
fn choose_base(draft: &Draft, wish: &Relocatable, linked: &Range<u64>) -> Result<u64, Refusal> {
    let within = u64::from(wish.min_addr)..u64::from(wish.max_addr).min(FOUR_GIB);
    let len = linked.end - linked.start;
    let align = u64::from(wish.align).max(1);
    let allowed =
        within.start <= linked.start && linked.end <= within.end && linked.start.is_multiple_of(align);
    let base = match wish.preference {
        Preference::None if allowed && draft.layout.is_free(linked.clone()) => Some(linked.start),
        Preference::None | Preference::Lowest => draft.layout.lowest(len, align, within.clone()),
        Preference::Highest => draft.layout.highest(len, align, within.clone()),
    };
    base.ok_or_else(|| {
        let (from, to) = (within.start, within.end);
        let found =
            format!("a relocatable image of {len:#x} bytes for {from:#x}..{to:#x}, aligned to {align:#x}");
        Refusal::memory(found, "no such place is free: give the machine more memory with --memory")
            .at(wish.offset)
    })
}
