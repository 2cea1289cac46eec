//! Processor models as data: what a processor has, which bits it reserves, what CPUID says.

pub mod cpuid;
pub mod msr;
mod table;

pub use table::{ALL, I386, I486, MAX, P4, P6, PENTIUM};

use iced_x86::{Code, CpuidFeature, DecoderOptions};

use crate::control::*;
use crate::flags;
use crate::undefined::UndefinedFlags;

bitflags::bitflags! {
    /// What a processor model has beyond the 80386.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Features: u64 {
        /// The additions of the 80486: BSWAP, XADD, CMPXCHG, INVLPG, WBINVD, AC and AM, WP, NE.
        const I486 = 1 << 0;
        /// CPUID and EFLAGS.ID.
        const CPUID = 1 << 1;
        /// Virtual-8086 mode extensions, VIF and VIP, PVI.
        const VME = 1 << 2;
        /// Debugging extensions: I/O breakpoints, #UD for DR4 and DR5.
        const DE = 1 << 3;
        /// 4 MiB pages.
        const PSE = 1 << 4;
        /// Time-stamp counter.
        const TSC = 1 << 5;
        /// RDMSR, WRMSR.
        const MSR = 1 << 6;
        /// Physical address extension.
        const PAE = 1 << 7;
        /// CMPXCHG8B.
        const CX8 = 1 << 8;
        /// SYSENTER, SYSEXIT.
        const SEP = 1 << 9;
        /// Global pages.
        const PGE = 1 << 10;
        /// CMOVcc.
        const CMOV = 1 << 11;
        /// PSE-36.
        const PSE36 = 1 << 12;
        /// CLFLUSH.
        const CLFSH = 1 << 13;
        /// Multi-byte NOP (P6).
        const NOPL = 1 << 14;
        /// RDPMC.
        const PMC = 1 << 15;
        /// No-execute.
        const NX = 1 << 16;
        /// RDTSCP.
        const RDTSCP = 1 << 17;
        /// SMEP.
        const SMEP = 1 << 18;
        /// SMAP, STAC, CLAC.
        const SMAP = 1 << 19;
        /// UMIP.
        const UMIP = 1 << 20;
        /// POPCNT.
        const POPCNT = 1 << 21;
        /// LZCNT.
        const LZCNT = 1 << 22;
        /// BMI1, TZCNT among it.
        const BMI1 = 1 << 23;
        /// BMI2.
        const BMI2 = 1 << 24;
        /// MOVBE.
        const MOVBE = 1 << 25;
        /// RDRAND.
        const RDRAND = 1 << 26;
        /// RDSEED.
        const RDSEED = 1 << 27;
        /// ADCX, ADOX.
        const ADX = 1 << 28;
        /// The x87 unit.
        const FPU = 1 << 29;
        /// MMX.
        const MMX = 1 << 30;
        /// FXSAVE, FXRSTOR.
        const FXSR = 1 << 31;
        /// SSE.
        const SSE = 1 << 32;
        /// SSE2.
        const SSE2 = 1 << 33;
        /// PREFETCHW and its kin.
        const PREFETCHW = 1 << 34;
        /// CLFLUSHOPT.
        const CLFLUSHOPT = 1 << 35;
        /// CLWB.
        const CLWB = 1 << 36;
        /// LAHF and SAHF are always there in 32-bit code; RDPID.
        const RDPID = 1 << 37;
        /// Machine-check exception.
        const MCE = 1 << 38;
        /// Memory-type range registers.
        const MTRR = 1 << 39;
        /// Page-attribute table.
        const PAT = 1 << 40;
        /// Machine-check architecture.
        const MCA = 1 << 41;
        /// SSE3, FISTTP among it.
        const SSE3 = 1 << 42;
        /// SSSE3.
        const SSSE3 = 1 << 43;
        /// SSE4.1.
        const SSE4_1 = 1 << 44;
        /// SSE4.2.
        const SSE4_2 = 1 << 45;
        /// The local APIC.
        const APIC = 1 << 46;
    }
}

/// What some models have in silicon and no guest is shown: nothing at present.
pub const HIDDEN: Features = Features::empty();

/// A processor model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Model {
    /// The name on the command line.
    pub name: &'static str,
    /// One line for a list of models.
    pub about: &'static str,
    /// What its silicon has, hidden features too; ask [`Model::has`].
    pub features: Features,
    /// What guests are not shown of it: [`HIDDEN`], but for tests.
    pub hidden: Features,
    /// Physical address width in bits.
    pub physical_bits: u8,
    /// Type, family, model and stepping: EDX after RESET, and EAX of CPUID leaf 1.
    pub signature: u32,
    /// Highest basic CPUID leaf.
    pub max_leaf: u32,
    /// Highest extended CPUID leaf, or 0.
    pub max_extended: u32,
    /// Brand index (CPUID leaf 1), or 0.
    pub brand_index: u8,
    /// Brand string (CPUID leaves 8000_0002h to 8000_0004h).
    pub brand: &'static str,
    /// Cache and TLB descriptors: EAX to EDX of CPUID leaf 2.
    pub descriptors: [u32; 4],
    /// Caches, innermost first (CPUID leaf 4).
    pub caches: &'static [cpuid::Cache],
    /// The microcode revision that IA32_BIOS_SIGN_ID tells.
    pub microcode: u32,
    /// The performance counters that RDPMC reads: number of the first one's MSR, and how many.
    pub counters: (u32, u32),
    /// Whether WRMSR writes all 64 bits of the time-stamp counter, or clears the upper half.
    pub writes_whole_tsc: bool,
    /// The model-specific registers, in groups.
    pub msrs: &'static [&'static [msr::Range]],
    /// What becomes of flags that the manual leaves undefined.
    pub undefined_flags: UndefinedFlags,
}

/// The model of this name.
pub fn by_name(name: &str) -> Option<Model> {
    ALL.iter().find(|model| model.name == name).copied()
}

impl Model {
    /// Whether the model has all of `features`, as far as guests can tell.
    pub fn has(&self, features: Features) -> bool {
        self.features.difference(self.hidden).contains(features)
    }

    /// The model with nothing hidden, for tests of what no guest is shown yet.
    pub const fn whole(self) -> Model {
        Model { hidden: Features::empty(), ..self }
    }

    /// The bits of MXCSR that exist: the Pentium III has no DAZ.
    pub fn mxcsr_mask(&self) -> u32 {
        if self.has(Features::SSE2) { 0xffff } else { 0xffbf }
    }

    /// The flags of EFLAGS that exist: the others stay as they are, whatever is loaded (SDM 3B "New Flags in the EFLAGS
    /// Register").
    pub fn flags_mask(&self) -> u32 {
        let base = flags::ARITHMETIC
            | flags::TF
            | flags::IF
            | flags::DF
            | flags::IOPL
            | flags::NT
            | flags::RF
            | flags::VM;
        let mut mask = base;
        if self.has(Features::I486) {
            mask |= flags::AC;
        }
        if self.has(Features::VME) {
            mask |= flags::VIF | flags::VIP;
        }
        if self.has(Features::CPUID) {
            mask |= flags::ID;
        }
        mask
    }

    /// The bits of CR0 that exist. Setting others has no effect (SDM 3A "Control Registers").
    pub fn cr0_mask(&self) -> u32 {
        let base = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_PG;
        if self.has(Features::I486) { base | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD } else { base }
    }

    /// The bits of CR4 that exist. Setting others is #GP(0); without any there is no CR4 at all.
    pub fn cr4_mask(&self) -> u32 {
        const BITS: [(Features, u32); 13] = [
            (Features::VME, CR4_VME | CR4_PVI),
            (Features::TSC, CR4_TSD),
            (Features::DE, CR4_DE),
            (Features::PSE, CR4_PSE),
            (Features::PAE, CR4_PAE),
            (Features::MCE, CR4_MCE),
            (Features::PGE, CR4_PGE),
            (Features::PMC, CR4_PCE),
            (Features::FXSR, CR4_OSFXSR),
            (Features::SSE, CR4_OSXMMEXCPT),
            (Features::UMIP, CR4_UMIP),
            (Features::SMEP, CR4_SMEP),
            (Features::SMAP, CR4_SMAP),
        ];
        BITS.iter().filter(|(feature, _)| self.has(*feature)).fold(0, |mask, (_, bits)| mask | bits)
    }

    /// Whether the model knows the opcode at all; if not, it is #UD. SYSCALL, MONITOR, XSAVE, VMX and all that came later
    /// are in no model.
    pub fn executes(&self, code: Code) -> bool {
        code.cpuid_features().iter().all(|&feature| match feature {
            CpuidFeature::INTEL8086
            | CpuidFeature::INTEL8086_ONLY
            | CpuidFeature::INTEL186
            | CpuidFeature::INTEL286
            | CpuidFeature::INTEL386
            | CpuidFeature::FPU
            | CpuidFeature::FPU287
            | CpuidFeature::FPU387
            | CpuidFeature::PAUSE => true,
            CpuidFeature::INTEL486 => self.has(Features::I486),
            CpuidFeature::MOV_TR => !self.has(Features::CPUID),
            CpuidFeature::CPUID => self.has(Features::CPUID),
            CpuidFeature::TSC => self.has(Features::TSC),
            CpuidFeature::MSR => self.has(Features::MSR),
            CpuidFeature::CX8 => self.has(Features::CX8),
            CpuidFeature::SEP => self.has(Features::SEP),
            CpuidFeature::CMOV => self.has(Features::CMOV),
            CpuidFeature::CLFSH => self.has(Features::CLFSH),
            CpuidFeature::CLFLUSHOPT => self.has(Features::CLFLUSHOPT),
            CpuidFeature::CLWB => self.has(Features::CLWB),
            CpuidFeature::MULTIBYTENOP => self.has(Features::NOPL),
            CpuidFeature::RDPMC => self.has(Features::PMC),
            CpuidFeature::RDTSCP => self.has(Features::RDTSCP),
            CpuidFeature::SMAP => self.has(Features::SMAP),
            CpuidFeature::POPCNT => self.has(Features::POPCNT),
            CpuidFeature::LZCNT => self.has(Features::LZCNT),
            CpuidFeature::BMI1 => self.has(Features::BMI1),
            CpuidFeature::BMI2 => self.has(Features::BMI2),
            CpuidFeature::MOVBE => self.has(Features::MOVBE),
            CpuidFeature::RDRAND => self.has(Features::RDRAND),
            CpuidFeature::RDSEED => self.has(Features::RDSEED),
            CpuidFeature::ADX => self.has(Features::ADX),
            CpuidFeature::PREFETCHW => self.has(Features::PREFETCHW),
            CpuidFeature::RDPID => self.has(Features::RDPID),
            CpuidFeature::MMX => self.has(Features::MMX),
            CpuidFeature::FXSR => self.has(Features::FXSR),
            CpuidFeature::SSE => self.has(Features::SSE),
            CpuidFeature::SSE2 => self.has(Features::SSE2),
            CpuidFeature::SSE3 => self.has(Features::SSE3),
            CpuidFeature::SSSE3 => self.has(Features::SSSE3),
            CpuidFeature::SSE4_1 => self.has(Features::SSE4_1),
            CpuidFeature::SSE4_2 => self.has(Features::SSE4_2),
            _ => false,
        })
    }

    /// How iced-x86 must decode for this model: where a prefix makes a new instruction that the model lacks, it is
    /// ignored and the old instruction runs.
    pub fn decoder_options(&self) -> u32 {
        let mut options = DecoderOptions::NO_WBNOINVD;
        if !self.has(Features::BMI1) {
            options |= DecoderOptions::NO_MPFX_0FBC;
        }
        if !self.has(Features::LZCNT) {
            options |= DecoderOptions::NO_MPFX_0FBD;
        }
        if !self.has(Features::CPUID) {
            options |= DecoderOptions::MOV_TR;
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_found_by_name_and_by_nothing_else() {
        for model in ALL {
            assert_eq!(by_name(model.name), Some(model));
        }
        assert_eq!(by_name("586"), None);
    }

    #[test]
    fn each_generation_added_the_flags_the_manual_says() {
        // SDM 3B "Identifying Intel Architecture Processor Types", "New Flags in the EFLAGS Register"
        let masks = [0x03_7fd5, 0x07_7fd5, 0x3f_7fd5, 0x3f_7fd5, 0x3f_7fd5, 0x3f_7fd5];
        for (model, mask) in ALL.iter().zip(masks) {
            assert_eq!(model.flags_mask(), mask, "{}", model.name);
        }
    }

    #[test]
    fn each_model_has_the_media_instructions_of_its_time() {
        // AP-485: MMX came with the P55C and Pentium II, SSE with the Pentium III, SSE2 with the Pentium 4
        for (model, mmx, sse, sse2, later) in [
            (I386, false, false, false, false),
            (PENTIUM, false, false, false, false),
            (P6, true, true, false, false),
            (P4, true, true, true, false),
            (MAX, true, true, true, true),
        ] {
            assert_eq!(model.executes(Code::Emms), mmx, "{}", model.name);
            assert_eq!(model.executes(Code::Movaps_xmm_xmmm128), sse, "{}", model.name);
            assert_eq!(model.cr4_mask() & (CR4_OSFXSR | CR4_OSXMMEXCPT) != 0, sse, "{}", model.name);
            assert_eq!(model.executes(Code::Movdqa_xmm_xmmm128), sse2, "{}", model.name);
            assert_eq!(model.executes(Code::Crc32_r32_rm8), later, "{}", model.name);
        }
    }

    #[test]
    fn a_prefix_that_makes_a_new_instruction_is_ignored_by_models_without_it() {
        use crate::decode::{Decoded, decode};
        let code_of =
            |bytes: &[u8], model: &Model| match decode::<crate::flat::FlatBus, ()>(bytes, true, model, 0) {
                Decoded::Op(op) => op.code(),
                Decoded::NeedsMore => panic!("{bytes:x?} is no whole instruction"),
            };
        let (tzcnt, lzcnt) = ([0xf3, 0x0f, 0xbc, 0xc1], [0xf3, 0x0f, 0xbd, 0xc1]);
        assert_eq!(code_of(&tzcnt, &P4), Code::Bsf_r32_rm32);
        assert_eq!(code_of(&lzcnt, &P4), Code::Bsr_r32_rm32);
        assert_eq!(code_of(&tzcnt, &MAX), Code::Tzcnt_r32_rm32);
        assert_eq!(code_of(&lzcnt, &MAX), Code::Lzcnt_r32_rm32);
        assert_eq!(code_of(&[0xf3, 0x0f, 0x09], &MAX), Code::Wbinvd);
        assert_eq!(code_of(&[0xf3, 0x0f, 0x1e, 0xfb], &MAX).mnemonic(), iced_x86::Mnemonic::Reservednop);
        assert_eq!(code_of(&[0x0f, 0x18, 0x08], &P6), Code::Prefetcht0_m8);
    }
}
