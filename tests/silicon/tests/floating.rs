//! Floating point against the host's processor: every x87 opcode, with special values, all precisions, roundings, masks and
//! states of the register stack. PAGEWALK_FLOATING sets how many cases, PAGEWALK_SEED what they are made from, PAGEWALK_ONLY
//! the beginning of an opcode's name.

use std::collections::BTreeMap;

use iced_x86::{Code, Decoder, DecoderOptions, Mnemonic};
use pagewalk_silicon::case::{Case, Outcome};
use pagewalk_silicon::compare::{Undefined, compare};
use pagewalk_silicon::native::Native;
use pagewalk_silicon::ours::{Ours, Run};
use pagewalk_silicon::random::Random;
use pagewalk_silicon::world::{CODE, DATA, FLAT_CODE, FLAT_DATA, STACK, World};

/// A number of times pi / 4, truncated.
fn multiple_of_pi(count: u128) -> u128 {
    let product = count * 0xc90f_daa2_2168_c235;
    let shift = product.leading_zeros();
    (0x3ffe + 64 - shift as u128) << 64 | product << shift >> 64
}

/// An 80-bit value with a liking for edges.
fn real(random: &mut Random) -> u128 {
    let sign = (random.flag() as u128) << 79;
    let significand = match random.below(8) {
        0 => 1 << 63,
        1 => u64::MAX,
        2 => 1 << 63 | 1,
        3 => random.bits() | 1 << 63 & !0 << random.below(64),
        4 => (1 << 63 | random.bits() >> 1) & !0 << random.below(64),
        5 => random.bits(),
        _ => random.bits() | 1 << 63,
    };
    let exponent = match random.below(16) {
        0 => 0,
        1 => 0x7fff,
        2 => 1 + random.below(70),
        3 => 0x7ffe - random.below(70),
        4 => 0x3fff - 16384 / 2 + random.below(100),
        5 => random.below(0x8000),
        6 => 0x3fff + 127 - random.below(5),
        7 => 0x3fff - 126 - random.below(30),
        8 => 0x3fff - 1022 - random.below(60),
        9 => 0x3fff + 1023 - random.below(5),
        10 => 0x3fff + random.below(66),
        _ => 0x3fff - 20 + random.below(40),
    };
    let special = match random.below(28) {
        // 1 and its neighbours, for logarithms
        7 => Some(0x3fff_8000_0000_0000_0000 + (random.bits() >> 1 >> random.below(63)) as u128),
        8 => Some(0x3ffe_ffff_ffff_ffff_ffff - (random.bits() >> 1 >> random.below(63)) as u128),
        // multiples of pi / 4, as near as 64 bits come
        9 => Some(multiple_of_pi(1 + random.bits() as u128 % (1 << random.below(62)))),
        0 => Some(0),
        1 => Some(0x7fff_8000_0000_0000_0000),
        2 => Some(0x7fff_c000_0000_0000_0000),
        3 => Some(0x7fff_8000_0000_0000_0001 + random.below(100) as u128),
        4 => Some(0x3fff_8000_0000_0000_0000),
        5 => Some((0x3fff_8000_0000_0000_0000u128) + ((random.below(64) as u128) << 64)),
        6 => Some(random.bits() as u128 >> 1),
        _ => None,
    };
    sign | special.unwrap_or((exponent as u128) << 64 | significand as u128)
}

fn image(random: &mut Random) -> Box<[u8; 512]> {
    let mut image = Box::new([0; 512]);
    let masks = if random.once_in(4) { random.below(64) } else { 0x3f };
    let control = masks | random.below(4) << 8 | random.below(4) << 10 | 0x40;
    let flags = if random.once_in(4) { random.below(128) & masks } else { 0 };
    let status = flags | random.below(8) << 11 | (random.dword() & 0x4700);
    image[..2].copy_from_slice(&(control as u16).to_le_bytes());
    image[2..4].copy_from_slice(&(status as u16).to_le_bytes());
    image[4] = match random.below(8) {
        0 => random.bits() as u8,
        1 => 0,
        _ => 0xff,
    };
    if random.once_in(3) {
        // room for a push
        image[4] &= !(1 << ((status >> 11).wrapping_sub(1) & 7));
    }
    image[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
    let shared = real(random);
    for st in 0..8 {
        let value = if random.once_in(4) { shared ^ (random.below(3) as u128) } else { real(random) };
        image[32 + 16 * st..42 + 16 * st].copy_from_slice(&value.to_le_bytes()[..10]);
    }
    image
}

fn memory(random: &mut Random) -> Vec<u8> {
    let value = real(random);
    match random.below(4) {
        0 => {
            let any = random.below(256);
            let (exponent, fraction) = (random.pick(&[0, 1, 0xfe, 0xff, 0x7f, any]), random.dword() >> 9);
            let fraction = random.pick(&[0, 1, 0x7f_ffff, 0x40_0000, fraction]);
            ((random.dword() & 0x8000_0000) | exponent << 23 | fraction).to_le_bytes().to_vec()
        }
        1 => {
            let any = random.below(2048);
            let exponent = random.pick(&[0, 1, 0x7fe, 0x7ff, 0x3ff, any]) as u64;
            let fraction = random.bits() >> 12;
            let fraction = random.pick(&[0, 1, (1 << 52) - 1, 1 << 51, fraction]);
            (random.bits() & 1 << 63 | exponent << 52 | fraction).to_le_bytes().to_vec()
        }
        2 => random.bits().to_le_bytes().to_vec(),
        _ => value.to_le_bytes()[..10].to_vec(),
    }
}

/// Those whose results may be either neighbour of the true value.
const TRANSCENDENTAL: [&str; 8] = ["Fsin", "Fcos", "Fsincos", "Fptan", "Fpatan", "F2xm1", "Fyl2x", "Fyl2xp1"];

/// Takes over the host's results where they differ by one unit in the last place, and C1 of inexact ones. Counts results
/// that are equal, those that are not, and differences of C1.
fn settle(ours: &mut Outcome, theirs: &Outcome, counts: &mut [u64; 3]) {
    let (Some(ours), Some(theirs)) = (&mut ours.fpu, &theirs.fpu) else { return };
    let real = |image: &[u8; 512], st: usize| {
        let mut bytes = [0; 16];
        bytes[..10].copy_from_slice(&image[32 + 16 * st..42 + 16 * st]);
        u128::from_le_bytes(bytes)
    };
    // the distance of two encodings, with the integer bit left out so that neighbours are neighbours
    let place = |value: u128| (value >> 64 & 0x7fff) << 63 | value & (u64::MAX >> 1) as u128;
    let mut differs = false;
    for st in 0..8 {
        let (a, b) = (real(ours, st), real(theirs, st));
        if a != b && a >> 79 == b >> 79 && place(a).abs_diff(place(b)) == 1 {
            ours[32 + 16 * st..42 + 16 * st].copy_from_slice(&b.to_le_bytes()[..10]);
            differs = true;
        }
    }
    counts[differs as usize] += 1;
    if ours[2] & theirs[2] & 0x20 != 0 && (ours[3] ^ theirs[3]) & 2 != 0 {
        ours[3] ^= 2;
        counts[2] += 1;
    }
}

#[test]
fn x87_does_what_the_host_does() {
    let world = World { seed: 1, ldt: vec![] };
    let mut ours = Ours::new(&world);
    let mut native = match Native::new(&world) {
        Ok(native) => native,
        Err(error) => {
            println!("not run: {error:#}");
            return;
        }
    };
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
    };
    let (count, seed) = (number("PAGEWALK_FLOATING", 200_000), number("PAGEWALK_SEED", 1));
    let only = std::env::var("PAGEWALK_ONLY").unwrap_or_default();
    let mut random = Random::new(seed);
    let mut selectors = [FLAT_DATA; 6];
    selectors[1] = FLAT_CODE;
    let mut differ: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    let mut apart: BTreeMap<String, [u64; 3]> = BTreeMap::new();
    let mut left = count;
    while left > 0 {
        let (mut cases, mut outcomes, mut codes) = (Vec::new(), Vec::new(), Vec::new());
        while cases.len() < 2000 && left > 0 {
            left -= 1;
            let transcendental = random.once_in(3);
            let opcode = if transcendental { 0xd9 } else { 0xd8 + random.below(8) as u8 };
            let modrm = if transcendental {
                random.pick(&[0xf0, 0xf1, 0xf2, 0xf3, 0xf9, 0xfb, 0xfe, 0xff])
            } else if random.flag() {
                0xc0 + random.below(64) as u8
            } else {
                (random.below(8) as u8) << 3 | 7
            };
            let code = vec![opcode, modrm];
            let instruction = Decoder::new(32, &code, DecoderOptions::NONE).decode();
            let name = format!("{:?}", instruction.code());
            use Mnemonic as M;
            let skipped =
                matches!(instruction.mnemonic(), M::Fnstenv | M::Fnsave | M::Fldenv | M::Frstor | M::INVALID)
                    || instruction.code() == Code::INVALID
                    || !ours.processor().cpu.model.executes(instruction.code());
            if skipped || !(only.is_empty() || name.starts_with(&only)) {
                continue;
            }
            let case = Case {
                at: CODE + 0x100,
                code,
                regs: [0, 0, 0, 0, STACK + 0x1000, 0, 0, DATA + 0x100],
                eflags: random.dword() & 0x8d5,
                selectors,
                memory: vec![(DATA + 0x100, memory(&mut random))],
                fpu: Some(image(&mut random)),
            };
            if let Run::Ended(outcome) = ours.run(&case) {
                *totals.entry(name.clone()).or_default() += 1;
                cases.push(case);
                outcomes.push(outcome);
                codes.push(name);
            }
        }
        for (n, theirs) in native.run(&cases).unwrap().into_iter().enumerate() {
            if TRANSCENDENTAL.contains(&codes[n].as_str()) {
                let apart = apart.entry(codes[n].clone()).or_default();
                settle(&mut outcomes[n], &theirs, apart);
            }
            if let Some(difference) = compare(&world, &cases[n], &outcomes[n], &theirs, Undefined::Mask) {
                let entry = differ.entry(codes[n].clone()).or_default();
                entry.0 += 1;
                if entry.0 <= number("PAGEWALK_SHOW", 1) {
                    entry.1.push_str(&difference.to_string());
                }
            }
        }
    }
    for (name, (count, text)) in &differ {
        println!("== {name}: {count} of {}\n{text}", totals.get(name).unwrap_or(&0));
    }
    for (name, (count, _)) in &differ {
        println!("{name}: {count} of {}", totals.get(name).unwrap_or(&0));
    }
    for (name, [equal, one_apart, c1]) in &apart {
        println!("{name}: {equal} results equal, {one_apart} one unit apart; {c1} with C1 different");
    }
    println!("{} opcodes compared, {} differ", totals.len(), differ.len());
    assert!(differ.is_empty());
}
