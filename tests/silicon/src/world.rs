//! Where cases run: a fixed set of pages, filled from a seed, and a local descriptor table made from it.
//!
//! It is what a 32-bit Linux process may have, since it must exist natively: flat user segments from the GDT, all else
//! from the LDT by modify_ldt(2), paging with 4 KiB pages, CPL 3, IF set, IOPL 0, CR0.AM and CR4.UMIP as Linux sets them.

use pagewalk_x86::random::Random;

use crate::case::Case;

/// The flat 32-bit user code segment of a 64-bit Linux.
pub const FLAT_CODE: u16 = 0x23;
/// The flat user data segment.
pub const FLAT_DATA: u16 = 0x2b;

/// What a page of the world may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rights {
    /// Read, write and execute.
    All,
    /// Read and execute.
    ReadOnly,
    /// Nothing: not present.
    None,
}

/// Bytes of a page.
pub const PAGE: u32 = 4096;
/// First byte of the code pages; the page before and the page behind are not there.
pub const CODE: u32 = 0x1000_0000;
/// First byte of the data pages; the pages around them are not there.
pub const DATA: u32 = 0x1100_0000;
/// First byte of the stack pages; the pages around them are not there.
pub const STACK: u32 = 0x1200_0000;

/// Every page there is: linear address and rights.
pub const PAGES: [(u32, Rights); 11] = [
    (CODE, Rights::All),
    (CODE + PAGE, Rights::All),
    (DATA, Rights::All),
    (DATA + PAGE, Rights::All),
    (DATA + 2 * PAGE, Rights::ReadOnly),
    (DATA + 3 * PAGE, Rights::None),
    (DATA + 4 * PAGE, Rights::All),
    (DATA + 5 * PAGE, Rights::ReadOnly),
    (STACK, Rights::All),
    (STACK + PAGE, Rights::All),
    // 64 KiB above the second stack page: there, 16-bit stack pointers and addresses can wrap
    (STACK + 16 * PAGE, Rights::All),
];

/// Linear addresses that the native runner keeps for itself (its code, stacks and buffers): a case that touches them
/// in pagewalk is not run natively.
pub const RUNNER: std::ops::Range<u32> = 0x6000_0000..0x7fff_f000;
/// Where the runner takes over behind a case, in the flat code segment.
pub const RETURN: u32 = 0x6000_1000;

/// What modify_ldt(2) can put in the LDT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// Linear base.
    pub base: u32,
    /// The limit field, 20 bits.
    pub limit: u32,
    /// In pages of 4 KiB rather than bytes.
    pub pages: bool,
    /// The D/B bit.
    pub big: bool,
    /// What it is.
    pub kind: Kind,
    /// Writable (data) or readable (code).
    pub access: bool,
    /// Present.
    pub present: bool,
}

/// `contents` of `struct user_desc`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Data, expand-up.
    Data = 0,
    /// Data, expand-down.
    ExpandDown = 1,
    /// Code, non-conforming.
    Code = 2,
    /// Code, conforming.
    Conforming = 3,
}

impl Descriptor {
    /// The eight bytes in the table: DPL 3, accessed, as Linux writes them.
    pub fn bits(&self) -> u64 {
        let kind = match self.kind {
            Kind::Data => 0,
            Kind::ExpandDown => 4,
            Kind::Code => 8,
            Kind::Conforming => 12,
        };
        let attributes = 0x71 | kind | (self.access as u64) << 1 | (self.present as u64) << 7;
        let flags = (self.pages as u64) << 3 | (self.big as u64) << 2;
        let (base, limit) = (self.base as u64, self.limit as u64);
        limit & 0xffff
            | (base & 0xff_ffff) << 16
            | attributes << 40
            | (limit >> 16 & 0xf) << 48
            | flags << 52
            | base >> 24 << 56
    }
}

/// A world.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct World {
    /// What it was made from.
    pub seed: u64,
    /// The LDT. Entry n has the selector [`selector`]`(n)`.
    pub ldt: Vec<Descriptor>,
}

/// The selector of an LDT entry, with RPL 3.
pub fn selector(entry: usize) -> u16 {
    (entry << 3 | 7) as u16
}

/// What follows the code of a case: a far jump to [`RETURN`], in 32-bit or in 16-bit code.
pub fn trailer(big: bool) -> Vec<u8> {
    let mut bytes = if big { vec![0xea] } else { vec![0x66, 0xea] };
    bytes.extend(RETURN.to_le_bytes());
    bytes.extend(FLAT_CODE.to_le_bytes());
    bytes
}

impl World {
    /// The descriptor that a selector names in the LDT.
    pub fn descriptor(&self, selector: u16) -> Option<&Descriptor> {
        let in_ldt = selector & 4 != 0;
        self.ldt.get((selector >> 3) as usize).filter(|_| in_ldt)
    }

    /// Whether a selector's segment has D/B set; the flat ones have.
    pub fn is_big(&self, selector: u16) -> bool {
        self.descriptor(selector).is_none_or(|descriptor| descriptor.big)
    }

    /// EIP at the first byte of a case.
    pub fn eip(&self, case: &Case) -> u32 {
        let base = self.descriptor(case.selectors[1]).map_or(0, |descriptor| descriptor.base);
        case.at.wrapping_sub(base)
    }

    /// The bytes of a page before any case: INT3 in the code pages; elsewhere a pattern in which small numbers, pointers
    /// into the world, selectors and noise are mixed.
    pub fn pattern(&self, page: u32) -> Vec<u8> {
        if (CODE..DATA).contains(&page) {
            return vec![0xcc; PAGE as usize];
        }
        let mut random = Random::new(self.seed ^ page as u64);
        let mut bytes = Vec::with_capacity(PAGE as usize);
        while bytes.len() < PAGE as usize {
            let word = match random.below(8) {
                0 => random.below(256),
                1 => random.pick(&[0, 1, u32::MAX, 0x8000_0000, 0x7fff_ffff, 0x8000, 0xffff]),
                2 => random.pick(&[CODE, DATA, STACK]) + random.below(2 * PAGE),
                3 => {
                    selector(random.below(self.ldt.len().max(1) as u32) as usize) as u32
                        | random.below(4) << 16
                }
                4 => random.pick(&[0, FLAT_CODE as u32, FLAT_DATA as u32]),
                _ => random.bits() as u32,
            };
            bytes.extend(word.to_le_bytes());
        }
        bytes
    }
}
