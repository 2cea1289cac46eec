//! Flat binaries and boot sectors.

use crate::draft::Draft;
use crate::memory::FOUR_GIB;
use crate::plan::{Kind, Plan, Start};
use crate::refusal::{Cause, Refusal};
use crate::request::RawMode;

/// Where the stack of a real-mode binary begins, going down: below the place of a boot sector.
const REAL_STACK: u16 = 0x7c00;
/// The bytes below [`REAL_STACK`] that are the stack's: up from the end of the BIOS data area.
const REAL_STACK_RANGE: std::ops::Range<u64> = 0x500..0x7c00;
/// The stack segment of a binary that lies there itself; its stack begins at the end of the segment.
const OTHER_STACK_SEGMENT: u16 = 0x8000;
/// The first hard disk, by its BIOS number.
const FIRST_HARD_DISK: u16 = 0x80;
/// The least that a flat protected-mode program gets as its stack.
const STACK_SIZE: u64 = 0x4000;

pub(crate) fn plan(mut draft: Draft, address: u32, mode: RawMode) -> Result<Plan, Refusal> {
    draft.request.nothing_to_pass("a flat binary")?;
    if draft.image.is_empty() {
        return Err(Refusal::new(
            Cause::NotRecognised,
            "an empty file",
            "a flat binary has at least one byte",
        ));
    }
    let at = u64::from(address);
    draft.layout.put(at, draft.image, 0, draft.request.name.to_owned())?;
    let start = match mode {
        RawMode::Protected => Start::protected(address, 0, 0, stack(&draft)?),
        RawMode::Real => real(at..at + draft.image.len() as u64)?,
    };
    Ok(draft.finish(Kind::Raw, start))
}

fn real(image: std::ops::Range<u64>) -> Result<Start, Refusal> {
    let (cs, ip) = match image.start {
        at @ 0..=0xffff => (0, at as u16),
        at @ 0x1_0000..=0xf_ffff => ((at >> 4) as u16, (at & 0xf) as u16),
        at => {
            let found = format!("a real-mode binary for {at:#x}");
            return Err(Refusal::new(
                Cause::Request,
                found,
                "real mode starts below 1 MiB; or say --boot raw32:ADDRESS",
            ));
        }
    };
    let on_the_stack = image.start < REAL_STACK_RANGE.end && image.end > REAL_STACK_RANGE.start;
    let (ss, sp) = if on_the_stack { (OTHER_STACK_SEGMENT, 0) } else { (0, REAL_STACK) };
    Ok(Start::Real { cs, ip, ds: 0, es: 0, ss, sp, dx: FIRST_HARD_DISK })
}

/// ESP for a program that is given a stack: the end of the highest RAM that is free.
pub(crate) fn stack(draft: &Draft) -> Result<u32, Refusal> {
    // An end of exactly 4 GiB is not an ESP; 16 bytes less are.
    let bottom = draft.layout.highest(STACK_SIZE, 16, 0..FOUR_GIB - 16);
    bottom.and_then(|bottom| u32::try_from(bottom + STACK_SIZE).ok()).ok_or_else(|| {
        let found = format!("no room for a stack: {STACK_SIZE:#x} bytes of RAM in one piece");
        Refusal::memory(found, "give the machine more memory with --memory")
    })
}
