//! Model-specific registers as data: which there are, what they hold after RESET, what may be written to them (SDM 4
//! "Model-Specific Registers").

use super::{Features, Model};
use crate::control::EFER_NXE;

/// IA32_TIME_STAMP_COUNTER.
pub const TSC: u32 = 0x10;
/// IA32_APIC_BASE.
pub const APIC_BASE: u32 = 0x1b;
/// IA32_APIC_BASE: the local APIC is there.
pub const APIC_ENABLE: u64 = 1 << 11;
/// IA32_BIOS_SIGN_ID.
pub const BIOS_SIGN_ID: u32 = 0x8b;
/// IA32_SYSENTER_CS.
pub const SYSENTER_CS: u32 = 0x174;
/// IA32_SYSENTER_ESP.
pub const SYSENTER_ESP: u32 = 0x175;
/// IA32_SYSENTER_EIP.
pub const SYSENTER_EIP: u32 = 0x176;
/// IA32_EFER.
pub const EFER: u32 = 0xc000_0080;
/// IA32_TSC_AUX.
pub const TSC_AUX: u32 = 0xc000_0103;

/// Registers that are alike and lie side by side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// Number of the first.
    pub first: u32,
    /// Number of the last.
    pub last: u32,
    /// What holds after RESET.
    pub reset: u64,
    /// What may be written.
    pub rule: Rule,
}

/// What may be written to a register; anything else is #GP(0).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// Nothing.
    ReadOnly,
    /// Any combination of these bits; the others are reserved.
    Bits(u64),
    /// These bits take what is written, the others keep what they hold.
    Keeps(u64),
    /// Anything, without effect.
    Ignored,
    /// Only zero.
    Zero,
    /// Eight PAT memory types.
    PatTypes,
    /// Eight MTRR memory types.
    MtrrTypes,
    /// Base and type of a variable MTRR.
    MtrrBase,
    /// Mask and valid bit of a variable MTRR.
    MtrrMask,
    /// IA32_MTRR_DEF_TYPE.
    MtrrDefault,
}

/// One register.
pub const fn one(number: u32, reset: u64, rule: Rule) -> Range {
    Range { first: number, last: number, reset, rule }
}

/// Several registers.
pub const fn many(first: u32, last: u32, reset: u64, rule: Rule) -> Range {
    Range { first, last, reset, rule }
}

/// The time-stamp counter.
pub const TIME: &[Range] = &[one(TSC, 0, Rule::Bits(u64::MAX))];

/// SYSENTER's three; their upper halves do not exist (Choice: writes to them are ignored).
pub const SYSENTER: &[Range] = &[many(SYSENTER_CS, SYSENTER_EIP, 0, Rule::Keeps(0xffff_ffff))];

/// IA32_APIC_BASE: the local APIC on, of the processor that boots. There is no x2APIC mode.
pub const APIC: &[Range] = &[one(APIC_BASE, 0xfee0_0900, Rule::Keeps(0xf_ffff_f800))];

/// Platform, microcode update and its revision.
pub const MICROCODE: &[Range] =
    &[one(0x17, 0, Rule::ReadOnly), one(0x79, 0, Rule::Ignored), one(BIOS_SIGN_ID, 0, Rule::Bits(u64::MAX))];

/// Memory-type range registers: eight variable ranges, fixed ranges, write-combining. Memory types have no effect here.
pub const MTRR: &[Range] = &[
    one(0xfe, 0x508, Rule::ReadOnly),
    one(0x200, 0, Rule::MtrrBase),
    one(0x201, 0, Rule::MtrrMask),
    one(0x202, 0, Rule::MtrrBase),
    one(0x203, 0, Rule::MtrrMask),
    one(0x204, 0, Rule::MtrrBase),
    one(0x205, 0, Rule::MtrrMask),
    one(0x206, 0, Rule::MtrrBase),
    one(0x207, 0, Rule::MtrrMask),
    one(0x208, 0, Rule::MtrrBase),
    one(0x209, 0, Rule::MtrrMask),
    one(0x20a, 0, Rule::MtrrBase),
    one(0x20b, 0, Rule::MtrrMask),
    one(0x20c, 0, Rule::MtrrBase),
    one(0x20d, 0, Rule::MtrrMask),
    one(0x20e, 0, Rule::MtrrBase),
    one(0x20f, 0, Rule::MtrrMask),
    one(0x250, 0, Rule::MtrrTypes),
    many(0x258, 0x259, 0, Rule::MtrrTypes),
    many(0x268, 0x26f, 0, Rule::MtrrTypes),
    one(0x2ff, 0, Rule::MtrrDefault),
];

/// IA32_PAT, with its power-up value.
pub const PAT: &[Range] = &[one(0x277, 0x0007_0406_0007_0406, Rule::PatTypes)];

/// Extended features: no-execute.
pub const EXTENDED: &[Range] = &[one(EFER, 0, Rule::Bits(EFER_NXE))];

/// IA32_TSC_AUX.
pub const AUX: &[Range] = &[one(TSC_AUX, 0, Rule::Bits(0xffff_ffff))];

impl Rule {
    /// What a register that holds `old` holds after a write of `new`, or `None` for #GP(0).
    pub fn apply(self, old: u64, new: u64, model: &Model) -> Option<u64> {
        let address = ((1 << model.physical_bits) - 1) & !0xfff;
        let allowed = match self {
            Rule::ReadOnly => false,
            Rule::Bits(mask) => new & !mask == 0,
            Rule::Keeps(mask) => return Some(old & !mask | new & mask),
            Rule::Ignored => return Some(old),
            Rule::Zero => new == 0,
            Rule::PatTypes => new.to_le_bytes().iter().all(|&t| is_mtrr_type(t) || t == 7),
            Rule::MtrrTypes => new.to_le_bytes().iter().all(|&t| is_mtrr_type(t)),
            Rule::MtrrBase => new & !(address | 0xff) == 0 && is_mtrr_type(new as u8),
            Rule::MtrrMask => new & !(address | 0x800) == 0,
            Rule::MtrrDefault => new & !0xcff == 0 && is_mtrr_type(new as u8),
        };
        allowed.then_some(new)
    }
}

/// Uncacheable, write-combining, write-through, write-protected, write-back.
fn is_mtrr_type(number: u8) -> bool {
    matches!(number, 0 | 1 | 4 | 5 | 6)
}

/// Whether writing the register changes memory types (and so invalidates the TLBs).
pub fn is_mtrr(number: u32) -> bool {
    MTRR.iter().any(|range| range.rule != Rule::ReadOnly && (range.first..=range.last).contains(&number))
}

impl Model {
    /// The register of this number, if the model has it.
    pub fn msr(&self, number: u32) -> Option<&'static Range> {
        if !self.has(Features::MSR) {
            return None;
        }
        self.msrs
            .iter()
            .flat_map(|group| group.iter())
            .find(|range| (range.first..=range.last).contains(&number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MAX, P6};

    #[test]
    fn memory_types_2_3_and_above_7_are_refused() {
        let pat = |new| Rule::PatTypes.apply(0, new, &P6);
        assert_eq!(pat(0x0007_0605_0401_0006), Some(0x0007_0605_0401_0006));
        assert_eq!(pat(0x02), None);
        assert_eq!(pat(0x0300), None);
        assert_eq!(pat(0x08 << 56), None);
        assert_eq!(Rule::MtrrTypes.apply(0, 7, &P6), None);
    }

    #[test]
    fn variable_ranges_reserve_what_lies_beyond_the_physical_width() {
        assert_eq!(Rule::MtrrBase.apply(0, 0xf_ffff_f006, &P6), Some(0xf_ffff_f006));
        assert_eq!(Rule::MtrrBase.apply(0, 0x10_0000_0006, &P6), None);
        assert!(Rule::MtrrBase.apply(0, 0x10_0000_0006, &MAX).is_some());
        assert_eq!(Rule::MtrrBase.apply(0, 0x100, &P6), None);
        assert_eq!(Rule::MtrrMask.apply(0, 0xf_f000_0800, &P6), Some(0xf_f000_0800));
        assert_eq!(Rule::MtrrMask.apply(0, 0x400, &P6), None);
    }

    #[test]
    fn the_local_apic_can_be_moved_and_switched_off_and_stays_that_of_the_boot_processor() {
        let base = P6.msr(APIC_BASE).unwrap();
        assert_eq!(base.reset, 0xfee0_0900);
        assert_eq!(base.rule.apply(base.reset, 0xfec0_0800, &P6), Some(0xfec0_0900));
        assert_eq!(base.rule.apply(base.reset, 0xfec0_0000, &P6), Some(0xfec0_0100));
    }

    #[test]
    fn groups_of_a_model_do_not_overlap() {
        for model in crate::model::ALL {
            let ranges: Vec<&Range> = model.msrs.iter().flat_map(|group| group.iter()).collect();
            for (n, a) in ranges.iter().enumerate() {
                assert!(a.first <= a.last);
                for b in &ranges[n + 1..] {
                    assert!(
                        a.last < b.first || b.last < a.first,
                        "{}: {:#x} and {:#x}",
                        model.name,
                        a.first,
                        b.first
                    );
                }
            }
        }
    }
}
