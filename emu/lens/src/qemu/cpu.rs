//! The `-cpu` option that gives QEMU's processor the features of one of our models, and no others.

use std::fmt::Write as _;

use pagewalk_x86::model::{Features, Model};

/// Features, by the names of QEMU's CPU properties.
pub const NAMES: [(Features, &str); 38] = [
    (Features::FPU, "fpu"),
    (Features::VME, "vme"),
    (Features::DE, "de"),
    (Features::PSE, "pse"),
    (Features::TSC, "tsc"),
    (Features::MSR, "msr"),
    (Features::PAE, "pae"),
    (Features::MCE, "mce"),
    (Features::CX8, "cx8"),
    (Features::APIC, "apic"),
    (Features::SEP, "sep"),
    (Features::MTRR, "mtrr"),
    (Features::PGE, "pge"),
    (Features::MCA, "mca"),
    (Features::CMOV, "cmov"),
    (Features::PAT, "pat"),
    (Features::PSE36, "pse36"),
    (Features::CLFSH, "clflush"),
    (Features::MMX, "mmx"),
    (Features::FXSR, "fxsr"),
    (Features::SSE, "sse"),
    (Features::SSE2, "sse2"),
    (Features::MOVBE, "movbe"),
    (Features::POPCNT, "popcnt"),
    (Features::RDRAND, "rdrand"),
    (Features::BMI1, "bmi1"),
    (Features::SMEP, "smep"),
    (Features::BMI2, "bmi2"),
    (Features::RDSEED, "rdseed"),
    (Features::ADX, "adx"),
    (Features::SMAP, "smap"),
    (Features::CLFLUSHOPT, "clflushopt"),
    (Features::CLWB, "clwb"),
    (Features::UMIP, "umip"),
    (Features::RDPID, "rdpid"),
    (Features::LZCNT, "abm"),
    (Features::PREFETCHW, "3dnowprefetch"),
    (Features::NX, "nx"),
];

/// Another feature: a constant array holds what has a bit in CPUID leaves 1 and 7; this one is in 8000_0001h.
const RDTSCP: (Features, &str) = (Features::RDTSCP, "rdtscp");

/// Every feature that QEMU knows by a name.
pub fn names() -> impl Iterator<Item = (Features, &'static str)> {
    NAMES.into_iter().chain([RDTSCP])
}

/// QEMU's 32-bit processors have this many physical address bits with PSE-36.
pub const PHYSICAL_BITS: u8 = 36;

/// The value of `-cpu` for a model: a processor without features, and then those that the model has.
pub fn option(model: &Model) -> String {
    let signature = model.signature;
    let base_family = signature >> 8 & 15;
    let family = if base_family == 15 { base_family + (signature >> 20 & 0xff) } else { base_family };
    let number = if base_family == 6 || base_family == 15 {
        signature >> 12 & 0xf0 | signature >> 4 & 15
    } else {
        signature >> 4 & 15
    };
    let mut text = format!(
        "base,vendor=GenuineIntel,family={family},model={number},stepping={},level={},xlevel={}",
        signature & 15,
        model.max_leaf,
        model.max_extended
    );
    if !model.brand.is_empty() {
        let _ = write!(text, ",model-id={}", model.brand.trim().replace(',', ",,"));
    }
    // guests can tell where they run, and some leave out what QEMU does not survive
    text += ",+hypervisor";
    for (feature, name) in names() {
        if model.has(feature) {
            let _ = write!(text, ",+{name}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagewalk_x86::model::{I486, MAX};

    #[test]
    fn the_signature_is_taken_apart_as_cpuid_puts_it_together() {
        // SDM 2A "CPUID", leaf 1: family 0Fh, extended model F: the displayed model is F0h
        assert!(option(&MAX).starts_with(
            "base,vendor=GenuineIntel,family=6,model=240,stepping=1,level=22,xlevel=2147483656,model-id=pagewalk max,"
        ));
        assert!(
            option(&I486)
                .starts_with("base,vendor=GenuineIntel,family=4,model=0,stepping=4,level=0,xlevel=0")
        );
        assert!(option(&MAX).contains(",+smep") && !option(&I486).contains("+msr"));
    }
}
