//! What CPUID answers (SDM 2A "CPUID").

use super::{Features, Model};

/// A cache, as CPUID leaf 4 describes it. Caches are transparent here; the numbers are for the guest's curiosity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cache {
    /// What it caches.
    pub holds: Holds,
    /// Level, from 1.
    pub level: u32,
    /// Ways of a set.
    pub ways: u32,
    /// Sets.
    pub sets: u32,
}

/// What a cache holds, as leaf 4 encodes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holds {
    /// Data.
    Data = 1,
    /// Instructions.
    Code = 2,
    /// Both.
    Both = 3,
}

/// Bytes in a cache line.
const LINE: u32 = 64;

const LEAF_1_ECX: [(Features, u32); 7] = [
    (Features::SSE3, 0),
    (Features::SSSE3, 9),
    (Features::SSE4_1, 19),
    (Features::SSE4_2, 20),
    (Features::MOVBE, 22),
    (Features::POPCNT, 23),
    (Features::RDRAND, 30),
];

const LEAF_1_EDX: [(Features, u32); 22] = [
    (Features::FPU, 0),
    (Features::VME, 1),
    (Features::DE, 2),
    (Features::PSE, 3),
    (Features::TSC, 4),
    (Features::MSR, 5),
    (Features::PAE, 6),
    (Features::MCE, 7),
    (Features::CX8, 8),
    (Features::APIC, 9),
    (Features::SEP, 11),
    (Features::MTRR, 12),
    (Features::PGE, 13),
    (Features::MCA, 14),
    (Features::CMOV, 15),
    (Features::PAT, 16),
    (Features::PSE36, 17),
    (Features::CLFSH, 19),
    (Features::MMX, 23),
    (Features::FXSR, 24),
    (Features::SSE, 25),
    (Features::SSE2, 26),
];

const LEAF_7_EBX: [(Features, u32); 8] = [
    (Features::BMI1, 3),
    (Features::SMEP, 7),
    (Features::BMI2, 8),
    (Features::RDSEED, 18),
    (Features::ADX, 19),
    (Features::SMAP, 20),
    (Features::CLFLUSHOPT, 23),
    (Features::CLWB, 24),
];

const LEAF_7_ECX: [(Features, u32); 2] = [(Features::UMIP, 2), (Features::RDPID, 22)];

const EXTENDED_1_ECX: [(Features, u32); 2] = [(Features::LZCNT, 5), (Features::PREFETCHW, 8)];

const EXTENDED_1_EDX: [(Features, u32); 2] = [(Features::NX, 20), (Features::RDTSCP, 27)];

impl Model {
    fn bits(&self, table: &[(Features, u32)]) -> u32 {
        table.iter().filter(|(feature, _)| self.has(*feature)).fold(0, |bits, (_, bit)| bits | 1 << bit)
    }

    /// EAX, EBX, ECX and EDX for a leaf and subleaf.
    pub fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let known = leaf <= self.max_leaf || (0x8000_0000..=self.max_extended).contains(&leaf);
        // Manual: above the maximum, the data of the highest basic leaf are returned
        let leaf = if known { leaf } else { self.max_leaf };
        match leaf {
            0 => [self.max_leaf, text(b"Genu"), text(b"ntel"), text(b"ineI")],
            1 => {
                let line = if self.has(Features::CLFSH) { (LINE / 8) << 8 } else { 0 };
                let (ecx, edx) = (self.bits(&LEAF_1_ECX), self.bits(&LEAF_1_EDX));
                [self.signature, self.brand_index as u32 | line, ecx, edx]
            }
            2 => self.descriptors,
            4 => self.caches.get(subleaf as usize).map_or([0; 4], |cache| cache.leaf()),
            7 if subleaf == 0 => [0, self.bits(&LEAF_7_EBX), self.bits(&LEAF_7_ECX), 0],
            // the time-stamp counter counts nanoseconds: a crystal of 100 MHz, that of the local APIC's timer, times 10
            0x15 => [1, 10, 100_000_000, 0],
            0x16 => [1000, 1000, 100, 0],
            0x8000_0000 => [self.max_extended, 0, 0, 0],
            0x8000_0001 => [0, 0, self.bits(&EXTENDED_1_ECX), self.bits(&EXTENDED_1_EDX)],
            0x8000_0002..=0x8000_0004 => self.brand_part(leaf - 0x8000_0002),
            // invariant time-stamp counter
            0x8000_0007 => [0, 0, 0, 1 << 8],
            0x8000_0008 => [self.physical_bits as u32 | 32 << 8, 0, 0, 0],
            _ => [0; 4],
        }
    }

    /// A third of the brand string.
    fn brand_part(&self, part: u32) -> [u32; 4] {
        let mut bytes = [0; 48];
        let brand = self.brand.as_bytes();
        bytes[..brand.len()].copy_from_slice(brand);
        std::array::from_fn(|n| {
            let at = part as usize * 16 + n * 4;
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        })
    }
}

const fn text(four: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*four)
}

impl Cache {
    fn leaf(&self) -> [u32; 4] {
        const SELF_INITIALIZING: u32 = 1 << 8;
        let eax = self.holds as u32 | self.level << 5 | SELF_INITIALIZING;
        [eax, (LINE - 1) | (self.ways - 1) << 22, self.sets - 1, 0]
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{ALL, I386, I486, MAX, P4, P6, PENTIUM};

    #[test]
    fn features_are_those_of_the_data_sheets() {
        // the feature words these steppings are known to return; of the Pentium, with the pin APICEN high
        assert_eq!(PENTIUM.cpuid(1, 0)[3], 0x3bf);
        assert_eq!(P6.cpuid(1, 0)[3], 0x0383_fbff);
        // left out: DS, ACPI, SS, HTT, TM, PBE
        const P4_LATER: u32 = 1 << 21 | 1 << 22 | 1 << 27 | 1 << 28 | 1 << 29 | 1 << 31;
        assert_eq!(P4.cpuid(1, 0)[3], 0xbfeb_fbff & !P4_LATER);
    }

    #[test]
    fn leaves_above_the_maximum_repeat_the_highest_basic_leaf() {
        assert_eq!(P6.cpuid(0x8000_0000, 0), P6.cpuid(2, 0));
        assert_eq!(MAX.cpuid(0x8000_0009, 0), MAX.cpuid(MAX.max_leaf, 0));
        assert_eq!(PENTIUM.cpuid(2, 0), PENTIUM.cpuid(1, 0));
    }

    #[test]
    fn the_brand_string_is_spread_over_three_leaves() {
        let words: Vec<u32> = (0x8000_0002..=0x8000_0004u32).flat_map(|leaf| MAX.cpuid(leaf, 0)).collect();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(&bytes[..12], b"pagewalk max");
        assert!(bytes[12..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn vendor_and_sizes_are_sound_in_every_model() {
        for model in ALL {
            let [_, ebx, ecx, edx] = model.cpuid(0, 0);
            let vendor: Vec<u8> = [ebx, edx, ecx].iter().flat_map(|word| word.to_le_bytes()).collect();
            assert_eq!(vendor, b"GenuineIntel");
            assert!(model.brand.len() < 48, "{}", model.name);
            assert!(model.descriptors[0] & 0xff <= 1, "one run of leaf 2 tells all");
        }
        assert_eq!((I386.signature >> 8, I486.signature >> 8), (3, 4));
        // 32 KiB, 8 ways, lines of 64 bytes
        let [eax, ebx, ecx, _] = MAX.cpuid(4, 0);
        assert_eq!((eax & 0x1f, eax >> 5 & 7), (1, 1));
        assert_eq!(((ebx >> 22) + 1) * ((ebx & 0xfff) + 1) * (ecx + 1), 32 << 10);
    }
}
