//! FXSAVE images and memory operands for x87, MMX and SSE.
//!
//! The instruction and data pointers and the last opcode (bytes 6 to 23) are zero here and not for comparing: AMD's
//! processors save them only while an exception is pending, newer Intel ones update the opcode only on unmasked
//! exceptions, and CS and DS are stored as 0 by many.

use crate::random::Random;

/// An image that FXRSTOR takes: every control word, status, tag and MXCSR.
pub(super) fn image(random: &mut Random) -> Box<[u8; 512]> {
    let mut image = Box::new([0; 512]);
    let bits = random.bits();
    let control = if bits & 1 == 0 { 0x37f } else { (bits >> 16) as u16 & 0x1f3f | 0x40 };
    let control = if bits >> 1 & 15 == 0 { control } else { control | 0x3f };
    let mut status = (bits >> 32) as u16 & 0x7f7f;
    if bits >> 5 & 3 != 0 {
        status &= 0x7f00;
    }
    if status & !control & 0x3f != 0 {
        status |= 0x8080;
    }
    let tags = match bits >> 8 & 7 {
        0..=3 => 0xff,
        4 => 0,
        _ => (bits >> 48) as u8,
    };
    image[..2].copy_from_slice(&control.to_le_bytes());
    image[2..4].copy_from_slice(&status.to_le_bytes());
    image[4] = tags;
    let bits = random.bits();
    let mxcsr = if bits & 1 == 0 { 0x1f80 } else { (bits >> 32) as u16 as u32 };
    let mxcsr = if bits & 14 == 0 { mxcsr } else { mxcsr | 0x1f80 };
    image[24..28].copy_from_slice(&mxcsr.to_le_bytes());
    image[28..32].copy_from_slice(&0xffffu32.to_le_bytes());
    let is_mmx = random.once_in(3);
    for n in 0..8 {
        real(random, &mut image[32 + n * 16..][..10]);
        if is_mmx {
            let mut bytes = [0; 16];
            vector(random, &mut bytes);
            image[32 + n * 16..][..8].copy_from_slice(&bytes[..8]);
        }
    }
    for n in 0..8 {
        vector(random, &mut image[160 + n * 16..][..16]);
    }
    // parts that are equal
    for _ in 0..random.below(4) {
        let unit = 1 << random.below(5);
        let place = |random: &mut Random| 160 + (random.below(128) & !(unit - 1)) as usize;
        let (from, to) = (place(random), place(random));
        image.copy_within(from..from + unit as usize, to);
    }
    image
}

/// A memory operand of any size.
pub(super) fn operand(random: &mut Random, bytes: &mut [u8]) {
    match bytes.len() {
        1 => bytes[0] = random.bits() as u8,
        2 => bytes.copy_from_slice(&(random.bits() as u16).to_le_bytes()),
        4 => bytes.copy_from_slice(&single(random).to_le_bytes()),
        8 => bytes.copy_from_slice(&double(random).to_le_bytes()),
        10 => real(random, bytes),
        16 => vector(random, bytes),
        512 => {
            bytes.copy_from_slice(&image(random)[..]);
            if random.once_in(8) {
                bytes[26] = 1 << random.below(8);
            }
            for byte in &mut bytes[288..] {
                *byte = random.bits() as u8;
            }
        }
        // environments and images: control, status and tags, then anything
        length => {
            for chunk in bytes.chunks_mut(8) {
                chunk.copy_from_slice(&random.bits().to_le_bytes()[..chunk.len()]);
            }
            let step = if length % 28 == 0 || length == 108 { 4 } else { 2 };
            let image = image(random);
            bytes[..2].copy_from_slice(&image[..2]);
            bytes[step..step + 2].copy_from_slice(&image[2..4]);
        }
    }
}

fn single(random: &mut Random) -> u32 {
    const SPECIAL: [u32; 12] = [
        0,
        0x8000_0000,
        0x3f80_0000,
        0xbf80_0000,
        0x7f80_0000,
        0xff80_0000,
        0x7fc0_0000,
        0x7f80_0001,
        0x0000_0001,
        0x007f_ffff,
        0x0080_0000,
        0x7f7f_ffff,
    ];
    let bits = random.bits();
    match bits & 3 {
        0 => SPECIAL[(bits >> 8 & 0xff) as usize % SPECIAL.len()],
        1 => (bits >> 32) as u32,
        // about one
        _ => (bits >> 32) as u32 & 0x87ff_ffff | 0x3800_0000,
    }
}

fn double(random: &mut Random) -> u64 {
    const SPECIAL: [u64; 12] = [
        0,
        1 << 63,
        0x3ff0_0000_0000_0000,
        0xbff0_0000_0000_0000,
        0x7ff0_0000_0000_0000,
        0xfff0_0000_0000_0000,
        0x7ff8_0000_0000_0000,
        0x7ff0_0000_0000_0001,
        1,
        0x000f_ffff_ffff_ffff,
        0x0010_0000_0000_0000,
        0x7fef_ffff_ffff_ffff,
    ];
    let (kind, bits) = (random.bits(), random.bits());
    match kind & 3 {
        0 => SPECIAL[(kind >> 8 & 0xff) as usize % SPECIAL.len()],
        1 => bits,
        2 => bits & 0xffff_ffff_0000_0000 & 0x83ff_ffff_ffff_ffff | 0x3c00_0000_0000_0000,
        _ => bits & 0x83ff_ffff_ffff_ffff | 0x3c00_0000_0000_0000,
    }
}

/// An 80-bit number: also denormals, pseudo-denormals, unnormals, pseudo-NaNs and pseudo-infinities.
fn real(random: &mut Random, bytes: &mut [u8]) {
    const EXPONENTS: [u16; 10] = [0, 1, 0x3fff, 0x3ffe, 0x4000, 0x7ffe, 0x7fff, 0x403e, 0x3f81, 0x407e];
    const FRACTIONS: [u64; 10] = [
        0,
        1,
        1 << 63,
        3 << 62,
        1 << 62,
        u64::MAX,
        u64::MAX >> 1,
        (1 << 63) | 1,
        0x8000_0080_0000_0000,
        0x8000_0000_0000_0400,
    ];
    let (kind, bits) = (random.bits(), random.bits());
    let sign = (kind >> 63) as u16 * 0x8000;
    let exponent = match kind & 7 {
        0..=2 => EXPONENTS[(kind >> 8 & 0xff) as usize % EXPONENTS.len()],
        3 => (kind >> 16) as u16 & 0x7fff,
        _ => 0x3fc0 + (kind >> 16 & 0x7f) as u16,
    };
    let fraction = match kind >> 3 & 7 {
        0..=1 => FRACTIONS[(kind >> 32 & 0xff) as usize % FRACTIONS.len()],
        2 => bits,
        3 => bits & !0x7ff | 1 << 63,
        4 => bits & !0xff_ffff_ffff | 1 << 63,
        _ => bits | 1 << 63,
    };
    bytes[..8].copy_from_slice(&fraction.to_le_bytes());
    bytes[8..10].copy_from_slice(&(sign | exponent).to_le_bytes());
}

/// Sixteen bytes: of numbers, of integers, or of noise.
fn vector(random: &mut Random, bytes: &mut [u8]) {
    let kind = random.below(8);
    match kind {
        4 => {
            // text: few different characters
            let letters = [0, b'a', b'b', b'z', 0x80, 0xff, random.bits() as u8, random.bits() as u8];
            let variety = 2 + random.below(7);
            bytes.iter_mut().for_each(|byte| *byte = letters[random.below(variety.min(8)) as usize]);
            return;
        }
        5 => {
            let words = [0u16, 1, 0xffff, 0x8000, 0x7fff, random.bits() as u16, random.bits() as u16];
            for pair in bytes.chunks_mut(2) {
                pair.copy_from_slice(&words[random.below(7) as usize].to_le_bytes());
            }
            return;
        }
        6 => {
            // a shift count
            let most = if random.flag() { 70 } else { 20 };
            let count = random.below(most) as u64;
            bytes[..8].copy_from_slice(&count.to_le_bytes());
            bytes[8..].copy_from_slice(&random.bits().to_le_bytes());
            return;
        }
        _ => {}
    }
    for half in bytes.chunks_mut(8) {
        let value = match kind {
            0 => single(random) as u64 | (single(random) as u64) << 32,
            1 => double(random),
            2 => super::values::dword(random) as u64 | (super::values::dword(random) as u64) << 32,
            _ => random.bits(),
        };
        half.copy_from_slice(&value.to_le_bytes());
    }
}
