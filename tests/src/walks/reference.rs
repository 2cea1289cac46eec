//! The page walk and the TLB a second time: slowly, sentence by sentence from the manual's tables, and with nothing of
//! the processor's own code but the names of its memory.
//!
//! SDM 3A "Paging": "32-Bit Paging", "PAE Paging" (formats of the entries), "Access Rights", "Page-Fault Exceptions",
//! "Accessed and Dirty Flags", "Caching Translation Information".

/// Which paging is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// CR0.PG is clear.
    None,
    /// 32-bit paging.
    Bits32,
    /// PAE paging.
    Pae,
}

/// What control registers, EFLAGS and the processor's model say.
#[derive(Clone, Debug)]
pub struct Setting {
    pub mode: Mode,
    pub cr3: u32,
    pub pdptes: [u64; 4],
    pub wp: bool,
    pub pse: bool,
    pub pge: bool,
    pub smep: bool,
    pub smap: bool,
    pub nxe: bool,
    pub ac: bool,
    pub cpl: u8,
    /// CPUID: PSE-36, PAT, and MAXPHYADDR.
    pub has_pse36: bool,
    pub has_pat: bool,
    pub maxphyaddr: u32,
}

/// What an access does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Read,
    Write,
    Fetch,
}

/// One access of one page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    pub kind: Kind,
    /// Made by the processor itself: to a descriptor table or a TSS.
    pub implicit: bool,
}

/// What a translation says, as a TLB remembers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// Linear and physical address of its first byte.
    pub linear: u32,
    pub physical: u64,
    /// In bytes.
    pub size: u64,
    pub user: bool,
    pub writable: bool,
    pub no_execute: bool,
    pub global: bool,
    pub dirty: bool,
    /// Where its entries stand and what they hold after the walk, directory first.
    pub entries: [Option<(u64, u64)>; 2],
}

impl Page {
    /// The page of an address when there is no paging.
    pub fn unpaged(linear: u32) -> Page {
        Page {
            linear: linear & !0xfff,
            physical: linear as u64 & !0xfff,
            size: 4 << 10,
            user: false,
            writable: false,
            no_execute: false,
            global: false,
            dirty: false,
            entries: [None; 2],
        }
    }

    /// The physical address of a linear address in the page.
    pub fn physical_of(&self, linear: u32) -> u64 {
        self.physical + (linear - self.linear) as u64
    }
}

/// How a walk reads and updates entries.
pub trait Memory {
    /// The entry of `bytes` bytes at a physical address.
    fn read(&mut self, at: u64, bytes: u32) -> u64;
    /// Replaces it.
    fn write(&mut self, at: u64, bytes: u32, value: u64);
}

/// Bits `high` to `low`, in place; nothing if `high` is below `low`.
fn field(value: u64, high: u32, low: u32) -> u64 {
    (low..=high).fold(0, |bits, n| bits | value & 1 << n)
}

fn bit(value: u64, n: u32) -> bool {
    value >> n & 1 != 0
}

impl Setting {
    /// "If CPL < 3, supervisor-mode access; if CPL = 3, user-mode; implicit accesses are supervisor-mode accesses
    /// regardless of the CPL."
    fn is_user_mode(&self, access: Access) -> bool {
        self.cpl == 3 && !access.implicit
    }

    /// "Page-Fault Exceptions": the error code, bit by bit.
    pub fn error_code(&self, access: Access, present: bool, reserved: bool) -> u16 {
        let mut code = 0;
        if present {
            code |= 1 << 0;
        }
        if access.kind == Kind::Write {
            code |= 1 << 1;
        }
        if self.is_user_mode(access) {
            code |= 1 << 2;
        }
        if reserved {
            code |= 1 << 3;
        }
        let pae_and_nxe = self.mode == Mode::Pae && self.nxe;
        if access.kind == Kind::Fetch && (self.smep || pae_and_nxe) {
            code |= 1 << 4;
        }
        code
    }

    /// "Determination of Access Rights", sentence by sentence.
    pub fn permits(&self, access: Access, page: &Page) -> bool {
        let user_mode_address = page.user;
        if self.is_user_mode(access) {
            return match access.kind {
                Kind::Read => user_mode_address,
                Kind::Write => user_mode_address && page.writable,
                Kind::Fetch => user_mode_address && !page.no_execute,
            };
        }
        let explicit_with_ac = !access.implicit && self.ac;
        match (access.kind, user_mode_address) {
            (Kind::Read, false) => true,
            (Kind::Read, true) => {
                if self.smap {
                    explicit_with_ac
                } else {
                    true
                }
            }
            (Kind::Write, false) => {
                if self.wp {
                    page.writable
                } else {
                    true
                }
            }
            (Kind::Write, true) => match (self.wp, self.smap) {
                (false, false) => true,
                (false, true) => explicit_with_ac,
                (true, false) => page.writable,
                (true, true) => explicit_with_ac && page.writable,
            },
            (Kind::Fetch, false) => !page.no_execute,
            (Kind::Fetch, true) => {
                if self.smep {
                    false
                } else {
                    !page.no_execute
                }
            }
        }
    }

    /// "PDPTE Registers": whether loading this one is #GP(0). Table "Format of a PAE Page-Directory-Pointer-Table Entry":
    /// bits 2:1, 8:5 and 63:MAXPHYADDR are reserved; if P is 0 all others are ignored.
    pub fn pdpte_is_bad(&self, pdpte: u64) -> bool {
        let reserved = field(pdpte, 2, 1) | field(pdpte, 8, 5) | field(pdpte, 63, self.maxphyaddr);
        bit(pdpte, 0) && reserved != 0
    }

    /// What is reserved in any PAE entry that memory holds: bits 62:MAXPHYADDR, and 63 unless NXE is set.
    fn pae_reserved(&self, entry: u64) -> u64 {
        field(entry, 62, self.maxphyaddr) | if self.nxe { 0 } else { field(entry, 63, 63) }
    }

    /// What is reserved in a directory entry that maps a large page.
    fn large_reserved(&self, pde: u64) -> u64 {
        let pat = if self.has_pat { 0 } else { field(pde, 12, 12) };
        pat | match self.mode {
            // 2 MiB: bits 20:13
            Mode::Pae => field(pde, 20, 13) | self.pae_reserved(pde),
            // 4 MiB with PSE-36: bits 21:(M-19), where M is the lesser of 40 and MAXPHYADDR
            _ if self.has_pse36 => field(pde, 21, self.maxphyaddr.min(40) - 19),
            // 4 MiB without: bits 21:13
            _ => field(pde, 21, 13),
        }
    }

    /// What is reserved in a page-table entry. Without PAT its bit 7 is, once PSE or PAE is in use; the 80386 and i486
    /// check nothing.
    fn pte_reserved(&self, pte: u64) -> u64 {
        let pae = self.mode == Mode::Pae;
        let pat = if !self.has_pat && (pae || self.pse) { field(pte, 7, 7) } else { 0 };
        pat | if pae { self.pae_reserved(pte) } else { 0 }
    }

    /// The walk. `Err` is the error code.
    pub fn walk(&self, memory: &mut impl Memory, linear: u32, access: Access) -> Result<Page, u16> {
        let address = linear as u64;
        let pae = self.mode == Mode::Pae;
        let bytes = if pae { 8 } else { 4 };
        let top = if pae { self.maxphyaddr - 1 } else { 31 };
        let not_present = self.error_code(access, false, false);
        let reserved = self.error_code(access, true, true);
        let violation = self.error_code(access, true, false);

        let pde_at = if pae {
            let pdpte = self.pdptes[(linear >> 30) as usize];
            if !bit(pdpte, 0) {
                return Err(not_present);
            }
            // bits 51:12 from the PDPTE, bits 11:3 are bits 29:21 of the linear address
            field(pdpte, top, 12) | field(address, 29, 21) >> 21 << 3
        } else {
            // bits 31:12 from CR3, bits 11:2 are bits 31:22 of the linear address
            field(self.cr3 as u64, 31, 12) | field(address, 31, 22) >> 22 << 2
        };
        let pde = memory.read(pde_at, bytes);
        if !bit(pde, 0) {
            return Err(not_present);
        }
        let large = bit(pde, 7) && (pae || self.pse);
        let must_be_zero = match (large, pae) {
            (true, _) => self.large_reserved(pde),
            (false, true) => self.pae_reserved(pde),
            (false, false) => 0,
        };
        if must_be_zero != 0 {
            return Err(reserved);
        }

        let mut page = Page {
            linear: 0,
            physical: 0,
            size: 0,
            user: bit(pde, 2),
            writable: bit(pde, 1),
            no_execute: pae && bit(pde, 63),
            global: false,
            dirty: false,
            entries: [None; 2],
        };
        let (leaf, leaf_at);
        if large {
            (leaf, leaf_at) = (pde, pde_at);
            (page.size, page.physical) = if pae {
                (2 << 20, field(pde, top, 21))
            } else if self.has_pse36 {
                // bits 39:32 of the address are bits 20:13 of the entry
                (4 << 20, field(pde, 31, 22) | field(pde, self.maxphyaddr.min(40) - 20, 13) >> 13 << 32)
            } else {
                (4 << 20, field(pde, 31, 22))
            };
        } else {
            // the entry is used from here on, so its accessed flag is set
            if !bit(pde, 5) {
                memory.write(pde_at, bytes, pde | 1 << 5);
            }
            page.entries[0] = Some((pde_at, pde | 1 << 5));
            leaf_at = if pae {
                field(pde, top, 12) | field(address, 20, 12) >> 12 << 3
            } else {
                field(pde, 31, 12) | field(address, 21, 12) >> 12 << 2
            };
            leaf = memory.read(leaf_at, bytes);
            if !bit(leaf, 0) {
                return Err(not_present);
            }
            if self.pte_reserved(leaf) != 0 {
                return Err(reserved);
            }
            (page.size, page.physical) = (4 << 10, field(leaf, top, 12));
            page.user &= bit(leaf, 2);
            page.writable &= bit(leaf, 1);
            page.no_execute |= pae && bit(leaf, 63);
        }
        if !self.permits(access, &page) {
            return Err(violation);
        }

        let mut updated = leaf | 1 << 5;
        if access.kind == Kind::Write {
            updated |= 1 << 6;
        }
        if updated != leaf {
            memory.write(leaf_at, bytes, updated);
        }
        page.entries[!large as usize] = Some((leaf_at, updated));
        page.linear = (address - address % page.size) as u32;
        page.global = self.pge && bit(leaf, 8);
        page.dirty = bit(updated, 6);
        Ok(page)
    }
}

/// A remembered page, and the part of it that its entry covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cached {
    pub page: Page,
    pub covers: u32,
    pub size: u64,
    /// In the TLB of fetches, where that is a separate one.
    pub fetches: bool,
}

/// How an address was translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// By a remembered page.
    Hit,
    /// By a walk; for the dirty flag of a remembered page.
    Walk { for_dirty: bool },
}

/// A TLB that forgets nothing of itself: for as few pages as never get in each other's way.
#[derive(Clone, Debug, Default)]
pub struct Tlb {
    pub cached: Vec<Cached>,
    pub split: bool,
    /// No entries for large pages: each covers 4 KiB of one.
    pub small_only: bool,
}

impl Tlb {
    fn holds(&self, cached: &Cached, linear: u32, fetches: bool) -> bool {
        let same_side = !self.split || cached.fetches == fetches;
        same_side && (linear as u64).wrapping_sub(cached.covers as u64) < cached.size
    }

    /// What is remembered of an address. Where the tables were changed so that both a small and a large page are, the
    /// manual lets the processor use either; this one uses the small page.
    pub fn lookup(&self, linear: u32, kind: Kind) -> Option<Cached> {
        let found = self.cached.iter().filter(|cached| self.holds(cached, linear, kind == Kind::Fetch));
        found.min_by_key(|cached| cached.size).copied()
    }

    /// "Operations that Invalidate TLBs": INVLPG, and a page fault on the address. All of a large page goes with any part
    /// of it.
    pub fn invalidate(&mut self, linear: u32) {
        let within = |first: u32, size: u64| (linear as u64).wrapping_sub(first as u64) < size;
        self.cached.retain(|c| !within(c.covers, c.size) && !within(c.page.linear, c.page.size));
    }

    /// MOV CR3.
    pub fn flush_non_global(&mut self) {
        self.cached.retain(|cached| cached.page.global);
    }

    /// Translates: what is remembered may be stale, and is used as it is.
    pub fn translate(
        &mut self,
        setting: &Setting,
        memory: &mut impl Memory,
        linear: u32,
        access: Access,
    ) -> (How, Result<Page, u16>) {
        let known = self.lookup(linear, access.kind);
        if let Some(known) = known {
            if !setting.permits(access, &known.page) {
                self.invalidate(linear);
                return (How::Hit, Err(setting.error_code(access, true, false)));
            }
            if known.page.dirty || access.kind != Kind::Write {
                return (How::Hit, Ok(known.page));
            }
        }
        let how = How::Walk { for_dirty: known.is_some() };
        let result = setting.walk(memory, linear, access);
        match result {
            Ok(page) => {
                if let Some(known) = known {
                    self.cached.retain(|cached| *cached != known);
                }
                let small = self.small_only || page.size == 4 << 10;
                let (covers, size) =
                    if small { (linear & !0xfff, 4 << 10) } else { (page.linear, page.size) };
                self.cached.push(Cached { page, covers, size, fetches: access.kind == Kind::Fetch });
            }
            Err(_) => self.invalidate(linear),
        }
        (how, result)
    }
}
