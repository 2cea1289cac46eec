//! pagewalk and the host's processor, side by side.

use pagewalk_silicon::case::Case;
use pagewalk_silicon::compare::{Undefined, compare};
use pagewalk_silicon::native::Native;
use pagewalk_silicon::ours::{Ours, Run};
use pagewalk_silicon::world::{CODE, DATA, FLAT_CODE, FLAT_DATA, PAGE, STACK, World};

#[test]
fn random_bytes_do_the_same_here_and_there() {
    let world = World { seed: 1, ldt: vec![] };
    let mut ours = Ours::new(&world);
    let mut native = match Native::new(&world) {
        Ok(native) => native,
        Err(error) => {
            println!("not run: {error:#}");
            return;
        }
    };
    let mut random = pagewalk_silicon::random::Random::new(7);
    let mut selectors = [FLAT_DATA; 6];
    selectors[1] = FLAT_CODE;
    let (mut compared, mut dropped, mut shown) = (0, 0, 0);
    for _ in 0..20 {
        let mut cases = Vec::new();
        let mut outcomes = Vec::new();
        for _ in 0..1000 {
            let case = Case {
                at: CODE + 0x100,
                code: (0..1 + random.below(6)).map(|_| random.bits() as u8).collect(),
                regs: std::array::from_fn(|_| random.pick(&[DATA, STACK, DATA + PAGE]) + random.below(PAGE)),
                eflags: random.dword() & 0x8d5,
                selectors,
                ..Case::default()
            };
            // what the host does differently under its kernel: CPUID and the clock; UMIP's five; XSAVE and AVX
            if matches!(case.code[..], [0x0f, ..] | [0xc4 | 0xc5 | 0x62, ..] | [0xd8..=0xdf, ..])
                || case.code[1..].contains(&0x0f)
            {
                continue;
            }
            match ours.run(&case) {
                Run::Ended(outcome) => {
                    cases.push(case);
                    outcomes.push(outcome);
                }
                Run::Dropped(_) => dropped += 1,
            }
        }
        for ((case, a), b) in cases.iter().zip(&outcomes).zip(native.run(&cases).unwrap()) {
            compared += 1;
            if let Some(difference) = compare(&world, case, a, &b, Undefined::Mask) {
                shown += 1;
                if shown < 20 {
                    println!("{difference}");
                }
            }
        }
    }
    println!("{compared} compared, {dropped} dropped, {shown} differ");
    assert_eq!(shown, 0);
}
