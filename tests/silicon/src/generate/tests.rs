use std::collections::HashMap;

use iced_x86::{Code, Decoder, DecoderOptions};
use pagewalk_x86::decode;

use super::*;
use crate::world::{CODE, PAGE};

fn bitness(generator: &Generator, case: &Case) -> u32 {
    let cs = case.selectors[1];
    let flat = cs & 4 == 0;
    if flat || generator.world.ldt[cs as usize >> 3].big { 32 } else { 16 }
}

/// The instructions of the case, in the order of its bytes.
fn codes_of(generator: &Generator, case: &Case) -> Vec<Code> {
    let bits = bitness(generator, case);
    let (mut codes, mut rest) = (Vec::new(), &case.code[..]);
    while !rest.is_empty() {
        let (instruction, _) = decode::instruction(rest, bits, &crate::MODEL);
        codes.push(instruction.code());
        rest = &rest[instruction.len().clamp(1, rest.len())..];
    }
    codes
}

#[test]
fn every_covered_code_comes_up() {
    let mut generator = Generator::new(1);
    let mut seen: HashMap<Code, usize> = HashMap::new();
    for _ in 0..300_000 {
        let case = generator.single();
        codes_of(&generator, &case).into_iter().for_each(|code| *seen.entry(code).or_default() += 1);
    }
    let missing: Vec<Code> = covered().into_iter().filter(|code| !seen.contains_key(code)).collect();
    assert!(missing.is_empty(), "never made: {missing:?}");
}

#[test]
fn every_opcode_is_covered_or_left_out_with_a_reason() {
    let mut all: Vec<Code> = covered();
    assert!(all.len() > 600, "{}", all.len());
    all.extend(left_out().iter().map(|(code, _)| code));
    let count = all.len();
    all.sort_by_key(|&code| code as usize);
    all.dedup();
    assert_eq!(all.len(), count, "none is both");
    assert!(left_out().iter().all(|(_, reason)| !reason.is_empty()));
}

#[test]
fn the_same_seed_makes_the_same_cases() {
    let (mut a, mut b) = (Generator::new(7), Generator::new(7));
    let mut other = Generator::new(8);
    assert_eq!(a.world(), b.world());
    assert_ne!(a.world(), other.world());
    for _ in 0..2000 {
        let case = a.single();
        assert_eq!(case, b.single());
        assert_ne!(case, other.single());
        assert_eq!(a.sequence(), b.sequence());
    }
}

#[test]
fn cases_lie_in_the_code_pages_and_patches_in_pages_that_can_be_written() {
    let mut generator = Generator::new(3);
    for n in 0..100_000 {
        let case = if n % 4 == 0 { generator.sequence() } else { generator.single() };
        assert!((CODE..CODE + 2 * PAGE).contains(&case.at), "{case:x?}");
        for (linear, bytes) in &case.memory {
            assert!(segments::can_patch(*linear, bytes.len() as u32), "{case:x?}");
        }
        assert_eq!(case.eflags & !0x24_4dd5, 0x202, "{case:x?}");
    }
}

#[test]
#[ignore = "prints, for looking at"]
fn some_cases() {
    let mut generator = Generator::new(5);
    for n in 0..200 {
        let case = if n < 150 { generator.single() } else { generator.sequence() };
        let decoder = Decoder::with_ip(bitness(&generator, &case), &case.code, 0, DecoderOptions::NONE);
        let text: Vec<String> = decoder.into_iter().map(|i| format!("{i}")).collect();
        println!("{:x} {:02x?} {}", case.at, case.code, text.join("; "));
        println!("    {:x?} {:x} {:x?} {:x?}", case.regs, case.eflags, case.selectors, case.memory);
    }
}

#[test]
#[ignore = "measures"]
fn speed() {
    let mut generator = Generator::new(5);
    let start = std::time::Instant::now();
    let mut bytes = 0;
    for _ in 0..2_000_000 {
        bytes += generator.single().code.len();
    }
    println!("{:?} for 2 million, {bytes}", start.elapsed());
    let start = std::time::Instant::now();
    for _ in 0..200_000 {
        bytes += generator.sequence().code.len();
    }
    println!("{:?} for 200,000 sequences, {bytes}", start.elapsed());
}
