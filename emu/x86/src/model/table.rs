//! The models (signatures, features, descriptors: Intel's "Processor Identification and the CPUID Instruction", AP-485;
//! registers: SDM 4 "Model-Specific Registers").
//!
//! Unverified: reset values and writable bits of the registers that belong to one model only (`*_MSRS`) are plausible
//! rather than checked against a part.
//!
//! Left out of all of them: the processor serial number, thermal and debug-store features.

use super::cpuid::{Cache, Holds};
use super::msr::{self, Range, Rule, many, one};
use super::{Features, HIDDEN, Model};
use crate::undefined::UndefinedFlags;

/// Every model, oldest first.
pub const ALL: [Model; 6] = [I386, I486, PENTIUM, P6, P4, MAX];

const NONE: Features = Features::empty();

const PENTIUM_HAS: Features = Features::I486
    .union(Features::CPUID)
    .union(Features::FPU)
    .union(Features::VME)
    .union(Features::DE)
    .union(Features::PSE)
    .union(Features::TSC)
    .union(Features::MSR)
    .union(Features::MCE)
    .union(Features::CX8)
    .union(Features::APIC);

const P6_HAS: Features = PENTIUM_HAS
    .union(Features::PAE)
    .union(Features::SEP)
    .union(Features::MTRR)
    .union(Features::PGE)
    .union(Features::MCA)
    .union(Features::CMOV)
    .union(Features::PAT)
    .union(Features::PSE36)
    .union(Features::NOPL)
    .union(Features::PMC)
    .union(Features::MMX)
    .union(Features::FXSR)
    .union(Features::SSE);

const P4_HAS: Features = P6_HAS.union(Features::CLFSH).union(Features::SSE2);

/// The 80386 DX, step D1.
pub const I386: Model = Model {
    name: "386",
    about: "Intel 80386 DX: no AC, WP, INVLPG, CPUID",
    features: NONE,
    hidden: HIDDEN,
    physical_bits: 32,
    signature: 0x308,
    max_leaf: 0,
    max_extended: 0,
    brand_index: 0,
    brand: "",
    descriptors: [0; 4],
    caches: &[],
    microcode: 0,
    counters: (0, 0),
    writes_whole_tsc: false,
    msrs: &[],
    undefined_flags: UndefinedFlags::Silicon,
};

/// The i486 DX, step D0: the last without CPUID.
pub const I486: Model = Model {
    name: "486",
    about: "Intel i486 DX: AC, WP, INVLPG, CMPXCHG, XADD, BSWAP; no CPUID, no CR4",
    features: Features::I486.union(Features::FPU),
    signature: 0x404,
    ..I386
};

/// The Pentium at 133 MHz (P54C, step cC0).
pub const PENTIUM: Model = Model {
    name: "pentium",
    about: "Intel Pentium: CPUID, CR4 with VME, PVI, TSD, DE, PSE, MCE; TSC, MSRs, CMPXCHG8B",
    features: PENTIUM_HAS,
    signature: 0x52c,
    max_leaf: 1,
    msrs: &[msr::TIME, PENTIUM_MSRS],
    ..I386
};

const PENTIUM_MSRS: &[Range] = &[
    many(0x00, 0x01, 0, Rule::ReadOnly),   // machine-check address and type
    one(0x0e, 0, Rule::Bits(0x3ff)),       // TR12
    one(0x11, 0, Rule::Bits(0x03ff_03ff)), // CESR
    many(0x12, 0x13, 0, Rule::Bits((1 << 40) - 1)), // CTR0, CTR1
];

/// The Pentium III "Coppermine", step cC0.
pub const P6: Model = Model {
    name: "p6",
    about: "Intel Pentium III: PAE, PSE-36, global pages, CMOV, SYSENTER, MTRRs, PAT",
    features: P6_HAS,
    hidden: HIDDEN,
    physical_bits: 36,
    signature: 0x686,
    max_leaf: 2,
    max_extended: 0,
    brand_index: 2,
    brand: "",
    // code TLBs 32 and 2 entries, data TLBs 64 and 8, L1 16 + 16 KiB, L2 256 KiB
    descriptors: [0x0302_0101, 0, 0, 0x0c04_0882],
    caches: &[],
    microcode: 8,
    counters: (0xc1, 2),
    writes_whole_tsc: false,
    msrs: &[msr::TIME, msr::SYSENTER, msr::APIC, msr::MICROCODE, msr::MTRR, msr::PAT, P6_MSRS],
    undefined_flags: UndefinedFlags::Silicon,
};

const P6_MSRS: &[Range] = &[
    many(0x00, 0x01, 0, Rule::ReadOnly), // machine-check address and type
    one(0x2a, 0, Rule::Keeps(0)),        // EBL_CR_POWERON
    one(0x33, 0, Rule::Keeps(1 << 31)),  // TEST_CTL
    many(0xc1, 0xc2, 0, Rule::Bits((1 << 40) - 1)), // performance counters
    one(0x119, 0, Rule::Keeps(0)),       // BBL_CR_CTL
    one(0x11e, 0, Rule::Keeps(0)),       // BBL_CR_CTL3
    one(0x179, 0x105, Rule::ReadOnly),   // MCG_CAP: five banks, MCG_CTL
    one(0x17a, 0, Rule::Bits(7)),        // MCG_STATUS
    one(0x17b, 0, Rule::Bits(u64::MAX)), // MCG_CTL
    many(0x186, 0x187, 0, Rule::Bits(0xffff_ffff)), // performance event selection
    one(0x1d9, 0, Rule::Keeps(1)),       // DEBUGCTL: branch records stay empty, BTF is not there (Choice)
    many(0x1db, 0x1de, 0, Rule::ReadOnly), // last branches
    one(0x400, 0, Rule::Bits(u64::MAX)), // five machine-check banks
    many(0x401, 0x403, 0, Rule::Zero),
    one(0x404, 0, Rule::Bits(u64::MAX)),
    many(0x405, 0x407, 0, Rule::Zero),
    one(0x408, 0, Rule::Bits(u64::MAX)),
    many(0x409, 0x40b, 0, Rule::Zero),
    one(0x40c, 0, Rule::Bits(u64::MAX)),
    many(0x40d, 0x40f, 0, Rule::Zero),
    one(0x410, 0, Rule::Bits(u64::MAX)),
    many(0x411, 0x413, 0, Rule::Zero),
];

/// The Pentium 4 "Northwood", step D1.
pub const P4: Model = Model {
    name: "p4",
    about: "Intel Pentium 4: as p6, with CLFLUSH and fences",
    features: P4_HAS,
    hidden: HIDDEN,
    physical_bits: 36,
    signature: 0xf29,
    max_leaf: 2,
    max_extended: 0x8000_0004,
    brand_index: 9,
    brand: "              Intel(R) Pentium(R) 4 CPU 2.40GHz",
    // TLBs 64 + 64 entries, L1 data 8 KiB, trace cache, L2 512 KiB, no L3
    descriptors: [0x665b_5001, 0, 0, 0x007b_7040],
    caches: &[],
    microcode: 0x2e,
    counters: (0x300, 18),
    writes_whole_tsc: false,
    msrs: &[msr::TIME, msr::SYSENTER, msr::APIC, msr::MICROCODE, msr::MTRR, msr::PAT, P4_MSRS],
    undefined_flags: UndefinedFlags::Silicon,
};

const P4_MSRS: &[Range] = &[
    many(0x00, 0x01, 0, Rule::ReadOnly),    // machine-check address and type
    one(0x2a, 0, Rule::Keeps(0)),           // EBC_HARD_POWERON
    one(0x2c, 0x1810_0000, Rule::Keeps(0)), // EBC_FREQUENCY_ID
    one(0x179, 0x4, Rule::ReadOnly),        // MCG_CAP: four banks
    one(0x17a, 0, Rule::Bits(7)),           // MCG_STATUS
    one(0x19a, 0, Rule::Bits(0x1e)),        // thermal: clock modulation
    one(0x19b, 0, Rule::Bits(3)),           // thermal: interrupts
    one(0x19c, 0, Rule::Keeps(0)),          // thermal: status
    one(0x1a0, 0x1801, Rule::Keeps(0x0008_0409)), // MISC_ENABLE: fast strings; no branch trace, no PEBS
    one(0x1d9, 0, Rule::Keeps(1)),          // DEBUGCTL: as on p6
    many(0x1da, 0x1de, 0, Rule::ReadOnly),  // last branches
    many(0x300, 0x311, 0, Rule::Bits((1 << 40) - 1)), // performance counters
    many(0x360, 0x371, 0, Rule::Bits(0xffff_ffff)), // their control
    many(0x3a0, 0x3e1, 0, Rule::Bits(0xffff_ffff)), // event selection
    one(0x400, 0, Rule::Bits(u64::MAX)),    // four machine-check banks
    many(0x401, 0x403, 0, Rule::Zero),
    one(0x404, 0, Rule::Bits(u64::MAX)),
    many(0x405, 0x407, 0, Rule::Zero),
    one(0x408, 0, Rule::Bits(u64::MAX)),
    many(0x409, 0x40b, 0, Rule::Zero),
    one(0x40c, 0, Rule::Bits(u64::MAX)),
    many(0x40d, 0x40f, 0, Rule::Zero),
];

/// Everything that is implemented, under a model number that Intel gave to no processor.
pub const MAX: Model = Model {
    name: "max",
    about: "everything that is implemented: NX, SMEP, SMAP, UMIP, RDTSCP, POPCNT, BMI and more",
    features: Features::all(),
    hidden: HIDDEN,
    physical_bits: 40,
    signature: 0xf_0601,
    max_leaf: 0x16,
    max_extended: 0x8000_0008,
    brand_index: 0,
    brand: "pagewalk max",
    // TLBs 64 entries in 4 ways, large pages 8 entries; caches by leaf 4
    descriptors: [0x03b2_ff01, 0x0000_b104, 0, 0],
    caches: &[
        Cache { holds: Holds::Data, level: 1, ways: 8, sets: 64 },
        Cache { holds: Holds::Code, level: 1, ways: 8, sets: 64 },
        Cache { holds: Holds::Both, level: 2, ways: 8, sets: 512 },
    ],
    microcode: 1,
    counters: (0, 0),
    writes_whole_tsc: true,
    msrs: &[
        msr::TIME,
        msr::SYSENTER,
        msr::APIC,
        msr::MICROCODE,
        msr::MTRR,
        msr::PAT,
        msr::EXTENDED,
        msr::AUX,
        MAX_MSRS,
    ],
    undefined_flags: UndefinedFlags::Silicon,
};

const MAX_MSRS: &[Range] = &[
    many(0x00, 0x01, 0, Rule::ReadOnly),  // machine-check address and type
    one(0x179, 0, Rule::ReadOnly),        // MCG_CAP: no banks
    one(0x17a, 0, Rule::Bits(7)),         // MCG_STATUS
    one(0x1a0, 0x1801, Rule::Keeps(0x1)), // MISC_ENABLE: fast strings; no branch trace, no PEBS
    one(0x1d9, 0, Rule::Keeps(1)),        // DEBUGCTL: as on p6
];
