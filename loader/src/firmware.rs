//! Firmware ROMs: the machine from its reset vector.

use crate::gzip;
use crate::memory::FOUR_GIB;
use crate::plan::{Kind, Plan, Rom, Start};
use crate::refusal::{Cause, Refusal};

/// The biggest ROM: the space that PC chipsets decode for it below 4 GiB.
const LARGEST: u64 = 16 << 20;
/// How much of the ROM's end also appears below 1 MiB.
const BELOW_1_MIB: u64 = 128 << 10;
/// ROMs are mapped by pages.
const PAGE: u64 = 4096;

/// Plans for a firmware ROM, gzipped or not: mapped so that it ends at 4 GiB, where the reset vector FFFFFFF0h is, with
/// its last 128 KiB mapped to end at 1 MiB as well, and entered in the state after RESET.
///
/// # Errors
/// A [`Refusal`] if the size is none that can be mapped.
pub fn firmware(rom: &[u8], name: &str) -> Result<Plan, Refusal> {
    let unpacked = gzip::unpack(rom, LARGEST).map_err(|refusal| refusal.of(name))?;
    let data = unpacked.unwrap_or_else(|| rom.to_vec());
    let size = data.len() as u64;
    if size == 0 || size > LARGEST || !size.is_multiple_of(PAGE) {
        let found = format!("a ROM of {size} bytes");
        let accepted =
            format!("a ROM has from {PAGE} to {LARGEST} bytes, in multiples of {PAGE}; fill it up in front");
        return Err(Refusal::new(Cause::Unsupported, found, accepted).of(name));
    }
    let tail = data[(size - size.min(BELOW_1_MIB)) as usize..].to_vec();
    let low = Rom { at: 0x10_0000 - tail.len() as u64, data: tail, what: format!("{name}, ending at 1 MiB") };
    let high = Rom { at: FOUR_GIB - size, data, what: format!("{name}, ending at 4 GiB") };
    Ok(Plan {
        kind: Kind::Firmware,
        places: Vec::new(),
        roms: vec![low, high],
        handed: Vec::new(),
        start: Start::Reset,
        symbols: Vec::new(),
        notes: Vec::new(),
    })
}
