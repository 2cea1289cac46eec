//! Register and memory values: boundary values, random ones, and ones that stand in some relation.

use crate::random::Random;

const EDGES: [u32; 32] = [
    0,
    1,
    2,
    3,
    0x7f,
    0x80,
    0x81,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0x8001,
    0xfffe,
    0xffff,
    0x1_0000,
    0x1_0001,
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0001,
    0xffff_fffe,
    0xffff_ffff,
    0xffff_ff80,
    0xffff_ff7f,
    0xffff_8000,
    0xffff_7fff,
    0xffff_0000,
    0x7f7f_7f7f,
    0x8080_8080,
    0x8000_8000,
    0x7fff_7fff,
    0x00ff_00ff,
    0x5555_aaaa,
];

/// A doubleword.
pub(super) fn dword(random: &mut Random) -> u32 {
    let bits = random.bits();
    let (value, n) = ((bits >> 32) as u32, bits as u32 >> 8);
    match bits & 15 {
        0..=3 => EDGES[(n & 31) as usize],
        4 => n & 31,
        5 => n & 0xff,
        6 => n & 0xffff,
        7 => 1 << (n & 31),
        8 => (1u32 << (n & 31)).wrapping_sub(1),
        9 => !(1 << (n & 31)),
        10 => n as u8 as i8 as u32,
        11 => (n & 0xff) * 0x0101_0101,
        _ => value,
    }
}

/// Eight registers, some of them related to others.
pub(super) fn registers(random: &mut Random) -> [u32; 8] {
    let mut all = std::array::from_fn(|_| dword(random));
    let bits = random.bits();
    if bits & 3 == 0 {
        for n in 0..2 {
            let shift = 8 + n * 16;
            let (to, from) = ((bits >> shift & 7) as usize, (bits >> (shift + 3) & 7) as usize);
            let (value, small) = (all[from], (bits >> (shift + 9) & 7) as u32);
            all[to] = match bits >> (shift + 6) & 7 {
                0..=2 => value,
                3 => value.wrapping_neg(),
                4 => !value,
                5 => value.wrapping_add(small),
                6 => value.wrapping_sub(small),
                _ => value & 0xffff | all[to] & 0xffff_0000,
            };
        }
    }
    all
}

/// A number from 0 to `most`, from 32 random bits.
pub(super) fn up_to(most: u32, bits: u32) -> u32 {
    ((bits as u64 * (most as u64 + 1)) >> 32) as u32
}
