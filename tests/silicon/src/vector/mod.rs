//! Vectors: one line says what one instruction (or a short sequence) does. tests/vectors/README.md describes the notation.
//!
//! A line says all that its outcome depends on. What it does not list of the state before is unspecified: [`Filling`]s
//! give it different values, and the outcome must be the same. What it does not list of the state behind is not checked.

mod check;
mod measure;
pub mod names;
mod oracles;
mod parse;
mod print;

use std::collections::BTreeMap;

use iced_x86::{CpuidFeature, Register};

use crate::case::{Case, End};
use crate::compare::{disassembly, instructions};
use crate::random::Random;
use crate::world::{CODE, DATA, Descriptor, FLAT_CODE, FLAT_DATA, Kind, PAGE, PAGES, Rights, World};

pub use measure::{measure, of_case};
pub use oracles::Oracles;
pub use parse::{ParseError, parse, parse_file};

/// The status flags, which are unspecified where a vector does not list them; all other flags are then clear.
pub const STATUS: u32 = 0x8d5;
/// Where the first byte of code lies, where a vector does not say.
pub const AT: u32 = CODE + 0x100;

/// A value some of whose bits are listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bits {
    /// Which bits.
    pub mask: u32,
    /// Their values; other bits are 0.
    pub value: u32,
}

impl Bits {
    /// All 32.
    pub fn all(value: u32) -> Bits {
        Bits { mask: u32::MAX, value }
    }

    /// Whether all listed bits are so in `actual`.
    pub fn holds(self, actual: u32) -> bool {
        (actual ^ self.value) & self.mask == 0
    }

    /// The listed bits, and the others from `rest`.
    pub fn over(self, rest: u32) -> u32 {
        rest & !self.mask | self.value
    }
}

/// Registers, flags, selectors and memory that a line lists, before `=>` or behind it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI.
    pub regs: [Bits; 8],
    /// EFLAGS.
    pub flags: Bits,
    /// ES, CS, SS, DS, FS, GS.
    pub selectors: [Option<u16>; 6],
    /// Linear addresses and bytes.
    pub memory: Vec<(u32, Vec<u8>)>,
    /// Parts of the FXSAVE image: offset, length and value.
    pub fpu: Vec<(names::FpuPart, u128)>,
}

/// What must come of a vector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expected {
    /// How it ends; CR2 counts only if [`Expected::cr2`] says so.
    pub end: End,
    /// EIP, where it is listed.
    pub eip: Option<u32>,
    /// CR2, where it is listed.
    pub cr2: Option<u32>,
    /// What else is listed.
    pub state: State,
    /// Registers, flags, selectors and memory that are not listed are as before.
    pub unchanged: bool,
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vector {
    /// File and line it stands in, or what else it is from.
    pub place: String,
    /// The code.
    pub code: Vec<u8>,
    /// The same in the assembler's language, as iced-x86 prints it.
    pub text: String,
    /// Linear address of the first byte.
    pub at: u32,
    /// The state before.
    pub before: State,
    /// The LDT's entries.
    pub ldt: BTreeMap<usize, Descriptor>,
    /// What comes of it; `None` in a line without `=>`, to be measured.
    pub expected: Option<Expected>,
}

/// What stands in for all that a vector does not list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filling {
    /// Registers, status flags and memory are 0.
    Zeros,
    /// Registers are noise, status flags are set, and so are all bits of memory.
    Noise,
}

impl Filling {
    /// Both.
    pub const ALL: [Filling; 2] = [Filling::Zeros, Filling::Noise];
}

/// What an entry of the LDT is that is not listed, below the highest one listed.
pub const ABSENT: Descriptor =
    Descriptor { base: 0, limit: 0, pages: false, big: true, kind: Kind::Data, access: true, present: false };

impl Vector {
    /// The world it runs in. Nothing of its seed is seen.
    pub fn world(&self) -> World {
        let entries = self.ldt.keys().last().map_or(0, |last| last + 1);
        let ldt = (0..entries).map(|n| self.ldt.get(&n).copied().unwrap_or(ABSENT)).collect();
        World { seed: 0, ldt }
    }

    /// The case it is.
    pub fn case(&self, filling: Filling) -> Case {
        let mut noise = Random::new(0x5eed);
        let regs = self.before.regs.map(|reg| {
            let noise = noise.dword();
            reg.over(if filling == Filling::Zeros { 0 } else { noise })
        });
        let flags = if filling == Filling::Zeros { 0 } else { STATUS };
        let mut selectors = [FLAT_DATA; 6];
        selectors[1] = FLAT_CODE;
        for (selector, listed) in selectors.iter_mut().zip(self.before.selectors) {
            *selector = listed.unwrap_or(*selector);
        }
        let byte = if filling == Filling::Zeros { 0 } else { 0xff };
        let is_data = |&(page, rights): &(u32, Rights)| page >= DATA && rights != Rights::None;
        let filled = PAGES.into_iter().filter(is_data).map(|(page, _)| (page, vec![byte; PAGE as usize]));
        let mut case = Case {
            at: self.at,
            // what the end of the pages cuts off is not there
            code: self.code[..self.code.len().min((CODE + 2 * PAGE - self.at) as usize)].to_vec(),
            regs,
            eflags: self.before.flags.over(flags),
            selectors,
            memory: filled.chain(self.before.memory.iter().cloned()).collect(),
            fpu: None,
        };
        if self.needs_fpu(&case) {
            let mut image = Box::new(INITIAL_FPU);
            for (part, value) in &self.before.fpu {
                part.put(&mut image, *value);
            }
            case.fpu = Some(image);
        }
        case
    }

    fn needs_fpu(&self, case: &Case) -> bool {
        let listed = |state: &State| !state.fpu.is_empty();
        listed(&self.before)
            || self.expected.as_ref().is_some_and(|expected| listed(&expected.state))
            || uses_fpu(&self.world(), case)
    }

    /// What iced-x86 makes of the code.
    pub fn disassembly(&self) -> String {
        let (world, case) = (self.world(), self.case(Filling::Zeros));
        let case = Case { code: self.code.clone(), ..case };
        disassembly(&case, world.is_big(case.selectors[1]), world.eip(&case))
    }
}

/// The image that FNINIT and a reset MXCSR give.
pub const INITIAL_FPU: [u8; 512] = {
    let mut image = [0; 512];
    (image[0], image[1]) = (0x7f, 0x03);
    (image[24], image[25]) = (0x80, 0x1f);
    image
};

/// Whether a case's code has instructions of the x87, MMX or SSE units.
pub fn uses_fpu(world: &World, case: &Case) -> bool {
    let is_fpu = |register: Register| register.is_st() || register.is_mm() || register.is_vector_register();
    instructions(case, world.is_big(case.selectors[1]), world.eip(case)).iter().any(|instruction| {
        (0..instruction.op_count()).any(|n| is_fpu(instruction.op_register(n)))
            || instruction.cpuid_features().iter().any(|feature| {
                matches!(
                    feature,
                    CpuidFeature::FPU
                        | CpuidFeature::FPU287
                        | CpuidFeature::FPU387
                        | CpuidFeature::MMX
                        | CpuidFeature::FXSR
                )
            })
            || matches!(instruction.mnemonic(), iced_x86::Mnemonic::Ldmxcsr | iced_x86::Mnemonic::Stmxcsr)
    })
}

/// Whether the processor of the host has what a vector's instructions need.
pub fn host_has(vector: &Vector) -> bool {
    let (world, case) = (vector.world(), vector.case(Filling::Zeros));
    instructions(&case, world.is_big(case.selectors[1]), world.eip(&case))
        .iter()
        .flat_map(|instruction| instruction.cpuid_features())
        .all(|feature| detected(*feature))
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn detected(feature: CpuidFeature) -> bool {
    match feature {
        CpuidFeature::POPCNT => std::is_x86_feature_detected!("popcnt"),
        CpuidFeature::LZCNT => std::is_x86_feature_detected!("lzcnt"),
        CpuidFeature::BMI1 => std::is_x86_feature_detected!("bmi1"),
        CpuidFeature::BMI2 => std::is_x86_feature_detected!("bmi2"),
        CpuidFeature::MOVBE => std::is_x86_feature_detected!("movbe"),
        CpuidFeature::ADX => std::is_x86_feature_detected!("adx"),
        _ => true,
    }
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
fn detected(_: CpuidFeature) -> bool {
    false
}
