//! The page walk (SDM 3A "Paging"): 32-bit paging with 4 KiB and 4 MiB pages and PSE-36, and PAE paging with 4 KiB
//! and 2 MiB pages. A pure function of its settings, the address and the entries, which it reads and updates
//! through its caller, so that a second translation can stand under it.

use crate::bus::Phys;
use crate::planted::{Bug, Planted};
use serde::{Deserialize, Serialize};

/// Present.
pub const P: u64 = 1 << 0;
/// Writable.
pub const W: u64 = 1 << 1;
/// User.
pub const U: u64 = 1 << 2;
/// Accessed.
pub const A: u64 = 1 << 5;
/// Dirty (leaf entries).
pub const D: u64 = 1 << 6;
/// Page size: a directory entry that maps a large page.
pub const PS: u64 = 1 << 7;
/// Global (leaf entries).
pub const G: u64 = 1 << 8;
/// No-execute.
pub const NX: u64 = 1 << 63;

/// Page-fault error code: the page was present.
pub const CODE_P: u16 = 1 << 0;
/// Page-fault error code: a write.
pub const CODE_W: u16 = 1 << 1;
/// Page-fault error code: a user-mode access.
pub const CODE_U: u16 = 1 << 2;
/// Page-fault error code: a reserved bit was set in an entry.
pub const CODE_RSVD: u16 = 1 << 3;
/// Page-fault error code: an instruction fetch (with NX or SMEP enabled).
pub const CODE_I: u16 = 1 << 4;

/// How linear addresses are translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PagingMode {
    /// CR0.PG is clear: linear addresses are physical addresses.
    #[default]
    Off,
    /// Two levels of 32-bit entries.
    TwoLevel,
    /// Three levels of 64-bit entries, the first in the four PDPTE registers.
    Pae,
}

/// Everything in the control registers that a translation depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Paging {
    /// CR0.PG and CR4.PAE.
    pub mode: PagingMode,
    /// CR3 as loaded.
    pub cr3: u32,
    /// The PDPTE registers (PAE).
    pub pdptes: [u64; 4],
    /// CR0.WP.
    pub wp: bool,
    /// CR4.PSE.
    pub pse: bool,
    /// The processor has PSE-36.
    pub pse36: bool,
    /// The processor has the page-attribute table, whose bit is reserved otherwise.
    pub pat: bool,
    /// CR4.PGE.
    pub pge: bool,
    /// CR4.SMEP.
    pub smep: bool,
    /// CR4.SMAP.
    pub smap: bool,
    /// EFER.NXE.
    pub nxe: bool,
    /// Physical address width in bits (MAXPHYADDR).
    pub width: u8,
    /// A bug planted by a test.
    pub planted: Planted,
}

/// What an access does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A data read.
    Read,
    /// A data write, or a read-modify-write.
    Write,
    /// An instruction fetch.
    Fetch,
}

/// Who makes an access, as the rights of pages see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Privilege {
    /// CPL 3, explicitly.
    User,
    /// CPL 0 to 2, explicitly; `ac` is EFLAGS.AC, which lifts SMAP.
    Supervisor {
        /// EFLAGS.AC.
        ac: bool,
    },
    /// The processor itself (descriptor tables, TSS), at whatever CPL.
    Implicit,
}

/// One access to be translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Read, write or fetch.
    pub kind: Kind,
    /// For whom.
    pub privilege: Privilege,
}

/// The rights of a page: all entries of the walk taken together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Rights {
    /// Every entry says user.
    pub user: bool,
    /// Every entry says writable.
    pub writable: bool,
    /// Some entry says no-execute (and EFER.NXE is set).
    pub no_execute: bool,
}

impl Rights {
    /// Whether the access is permitted (SDM 3A "Determination of Access Rights").
    pub fn permit(self, access: Access, paging: &Paging) -> bool {
        match (access.privilege, access.kind) {
            (Privilege::User, Kind::Read) => self.user,
            (Privilege::User, Kind::Write) => self.user && self.writable,
            (Privilege::User, Kind::Fetch) => self.user && !self.no_execute,
            (_, Kind::Fetch) => !(self.no_execute || self.user && paging.smep),
            (privilege, kind) => {
                let smap_blocks =
                    self.user && paging.smap && privilege != (Privilege::Supervisor { ac: true });
                let wp_blocks = kind == Kind::Write && !self.writable && paging.wp;
                !smap_blocks && !wp_blocks
            }
        }
    }
}

/// An entry that a translation was read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Source {
    /// Where the entry stands.
    pub at: Phys,
    /// Its value when it was last read or updated.
    pub value: u64,
}

/// A page found by a walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// Physical address of the page's first byte.
    pub base: Phys,
    /// Log2 of the page's size: 12, 21 or 22.
    pub shift: u8,
    /// Combined rights.
    pub rights: Rights,
    /// The leaf's dirty bit.
    pub dirty: bool,
    /// The leaf's global bit, if CR4.PGE makes it count.
    pub global: bool,
    /// The entries read from memory, directory first; `sources[1].at` is unset for a large page.
    pub sources: [Source; 2],
    /// How many entries were read from memory.
    pub reads: u8,
}

/// Which entry of the walk is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// A PDPTE register (PAE).
    Pdpte,
    /// Page-directory entry.
    Pde,
    /// Page-table entry.
    Pte,
}

/// A failed walk: the page-fault error code, and how many entries it read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalkFault {
    /// The error code of the page fault.
    pub code: u16,
    /// The entry that broke the rule.
    pub level: Level,
    /// Entries read from memory.
    pub reads: u8,
}

/// How a walk reaches the entries.
pub trait Entries {
    /// Reads the entry of `bytes` (4 or 8) bytes at `at`.
    fn read(&mut self, at: Phys, bytes: u32) -> u64;
    /// Sets accessed and dirty bits as one locked update.
    fn set_bits(&mut self, at: Phys, bytes: u32, value: u64, bits: u64);
    /// Told of every entry used, before it is judged.
    fn step(&mut self, _level: Level, _at: Option<Phys>, _value: u64) {}
}

impl Paging {
    /// The error code for a fault of `access`; `code` holds P and RSVD.
    pub fn error_code(&self, access: Access, code: u16) -> u16 {
        let write = if access.kind == Kind::Write { CODE_W } else { 0 };
        let user = if access.privilege == Privilege::User { CODE_U } else { 0 };
        let pae_nx = self.mode == PagingMode::Pae && self.nxe;
        let fetch = if access.kind == Kind::Fetch && (pae_nx || self.smep) { CODE_I } else { 0 };
        code | write | user | fetch
    }

    /// Address bits that must be zero in a PAE entry, and NX unless it is enabled.
    fn pae_reserved(&self) -> u64 {
        let nx = if self.nxe { 0 } else { NX };
        nx | (NX - 1) & !((1 << self.width) - 1)
    }

    /// Whether a PDPTE may not be loaded (SDM 3A "PDPTE Registers"): present with reserved bits set.
    pub fn pdpte_is_bad(&self, pdpte: u64) -> bool {
        let reserved = 0b1_1110_0110 | !((1u64 << self.width) - 1);
        pdpte & P != 0 && pdpte & reserved != 0
    }

    /// The PAT bit, where it is reserved. Without CR4.PSE and CR4.PAE no bit of an entry is (as on the 80386 and i486,
    /// whose entries have no such checks).
    fn pat_reserved(&self, bit: u64) -> u64 {
        let checks = self.pse || self.mode == PagingMode::Pae;
        if checks && !self.pat { bit } else { 0 }
    }

    /// Reserved bits of a page-table entry.
    fn pte_reserved(&self) -> u64 {
        let high = if self.mode == PagingMode::Pae { self.pae_reserved() } else { 0 };
        high | self.pat_reserved(1 << 7)
    }

    /// Reserved bits of a directory entry that maps a large page.
    fn large_reserved(&self) -> u64 {
        let pat = self.pat_reserved(1 << 12);
        pat | match self.mode {
            PagingMode::Pae => self.pae_reserved() | 0x1f_e000,
            _ if self.pse36 => {
                // bits 13-20 carry physical address bits 32-39 as far as they exist
                let extra = self.width.clamp(32, 40) - 32;
                1 << 21 | (0x1f_e000 & !(((1u64 << extra) - 1) << 13))
            }
            _ => 0x3f_e000,
        }
    }
}

/// Translates `linear` for `access`, setting accessed and dirty bits as the processor does. With paging off there is
/// nothing to walk; do not ask.
pub fn walk(
    paging: &Paging,
    entries: &mut impl Entries,
    linear: u32,
    access: Access,
) -> Result<Leaf, WalkFault> {
    let pae = paging.mode == PagingMode::Pae;
    let bytes = if pae { 8 } else { 4 };
    let address_mask = if pae { ((1u64 << paging.width) - 1) & !0xfff } else { 0xffff_f000 };
    let mut reads = 0;
    let fault = |level, reads, code| WalkFault { code: paging.error_code(access, code), level, reads };

    let directory = if pae {
        let pdpte = paging.pdptes[(linear >> 30) as usize];
        entries.step(Level::Pdpte, None, pdpte);
        if pdpte & P == 0 {
            return Err(fault(Level::Pdpte, reads, 0));
        }
        pdpte & address_mask
    } else {
        (paging.cr3 & 0xffff_f000) as u64
    };
    let (pde_index, pte_index) =
        if pae { (linear >> 21 & 511, linear >> 12 & 511) } else { (linear >> 22, linear >> 12 & 1023) };

    let pde_at = Phys(directory + (pde_index * bytes) as u64);
    let pde = entries.read(pde_at, bytes);
    reads += 1;
    entries.step(Level::Pde, Some(pde_at), pde);
    if pde & P == 0 {
        return Err(fault(Level::Pde, reads, 0));
    }
    let is_large = pde & PS != 0 && (pae || paging.pse);
    let reserved = match (is_large, pae) {
        (true, _) => paging.large_reserved(),
        (false, true) => paging.pae_reserved(),
        (false, false) => 0,
    };
    if pde & reserved != 0 {
        return Err(fault(Level::Pde, reads, CODE_P | CODE_RSVD));
    }

    let (leaf, leaf_at, level, combined, pde_source) = if is_large {
        (pde, pde_at, Level::Pde, pde, Source::default())
    } else {
        if pde & A == 0 {
            entries.set_bits(pde_at, bytes, pde, A);
        }
        let pte_at = Phys((pde & address_mask) + (pte_index * bytes) as u64);
        let pte = entries.read(pte_at, bytes);
        reads += 1;
        entries.step(Level::Pte, Some(pte_at), pte);
        if pte & P == 0 {
            return Err(fault(Level::Pte, reads, 0));
        }
        if pte & paging.pte_reserved() != 0 {
            return Err(fault(Level::Pte, reads, CODE_P | CODE_RSVD));
        }
        let combined = pde & pte & (U | W) | (pde | pte) & NX;
        (pte, pte_at, Level::Pte, combined, Source { at: pde_at, value: pde | A })
    };

    let rights = Rights {
        user: combined & U != 0,
        writable: combined & W != 0,
        no_execute: pae && combined & NX != 0,
    };
    if !rights.permit(access, paging) {
        return Err(fault(level, reads, CODE_P));
    }
    let wanted = if access.kind == Kind::Write { A | D } else { A };
    let forgotten = paging.planted.has(Bug::DirtyUpdate) && leaf & A != 0;
    if leaf & wanted != wanted && !forgotten {
        entries.set_bits(leaf_at, bytes, leaf, wanted);
    }
    let leaf = leaf | wanted;
    let leaf_source = Source { at: leaf_at, value: leaf };
    let (base, shift) = match (is_large, pae) {
        (true, true) => (leaf & address_mask & !0x1f_ffff, 21),
        (true, false) => {
            let high = if paging.pse36 { leaf >> 13 & 0xff } else { 0 };
            (leaf & 0xffc0_0000 | high << 32, 22)
        }
        (false, _) => (leaf & address_mask, 12),
    };
    Ok(Leaf {
        base: Phys(base),
        shift,
        rights,
        dirty: leaf & D != 0,
        global: paging.pge && leaf & G != 0,
        sources: if is_large { [leaf_source, Source::default()] } else { [pde_source, leaf_source] },
        reads,
    })
}
