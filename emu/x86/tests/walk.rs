//! The page walk against a second one, written slowly from the manual's tables (SDM 3A "Paging": formats of the entries,
//! "Access Rights", "Page-Fault Exceptions", "Accessed and Dirty Flags"), over random entries.
//!
//! `PAGEWALK_WALKS` sets how many walks are compared (default: one million).

use std::collections::BTreeMap;

use pagewalk_x86::bus::Phys;
use pagewalk_x86::mmu::walk::{Access, Entries, Kind, Paging, PagingMode, Privilege, walk};

/// SplitMix64.
struct Random(u64);

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }
    fn flag(&mut self) -> bool {
        self.next() >> 63 != 0
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[(self.next() % from.len() as u64) as usize]
    }
}

/// Memory full of random entries, made up when they are first read.
#[derive(Clone)]
struct Memory {
    seed: u64,
    width: u8,
    written: Vec<(u64, u64)>,
    reads: Vec<u64>,
}

impl Memory {
    fn entry(&self, at: u64, bytes: u32) -> u64 {
        if let Some(&(_, value)) = self.written.iter().find(|(a, _)| *a == at) {
            return value;
        }
        let mut random = Random(mix(self.seed ^ at));
        // flags at random, mostly present; an address that exists; rarely one more bit anywhere
        let mut value = random.next() & 0xfff;
        if !random.one_in(8) {
            value |= 1;
        }
        value |= random.next() & ((1 << self.width) - 1) & !0xfff;
        if random.flag() {
            value &= !0x3f_e000; // else hardly any large page would pass
        }
        if bytes == 8 && random.one_in(4) {
            value |= 1 << 63;
        }
        if random.one_in(8) {
            value |= 1 << (random.next() % 64);
        }
        if bytes == 4 { value & 0xffff_ffff } else { value }
    }
}

impl Entries for Memory {
    fn read(&mut self, at: Phys, bytes: u32) -> u64 {
        self.reads.push(at.0);
        self.entry(at.0, bytes)
    }
    fn set_bits(&mut self, at: Phys, bytes: u32, value: u64, bits: u64) {
        assert_eq!(value, self.entry(at.0, bytes), "an update must be of what was read");
        self.written.retain(|(a, _)| *a != at.0);
        self.written.push((at.0, value | bits));
    }
}

/// What a walk must find.
#[derive(PartialEq, Eq, Debug)]
struct Page {
    physical: u64,
    size: u64,
    user: bool,
    writable: bool,
    no_execute: bool,
    global: bool,
    dirty: bool,
}

/// Bits `high` to `low`, in place.
fn field(value: u64, high: u32, low: u32) -> u64 {
    if high < low {
        return 0;
    }
    let up_to_high = if high == 63 { u64::MAX } else { (1 << (high + 1)) - 1 };
    value & up_to_high & !((1 << low) - 1)
}

fn bit(value: u64, n: u32) -> bool {
    value >> n & 1 != 0
}

/// The page-fault error code, bit by bit.
fn error_code(paging: &Paging, access: Access, present: bool, reserved: bool) -> u16 {
    let mut code = 0;
    if present {
        code |= 1 << 0;
    }
    if access.kind == Kind::Write {
        code |= 1 << 1;
    }
    if access.privilege == Privilege::User {
        code |= 1 << 2;
    }
    if reserved {
        code |= 1 << 3;
    }
    let pae_and_nxe = paging.mode == PagingMode::Pae && paging.nxe;
    if access.kind == Kind::Fetch && (paging.smep || pae_and_nxe) {
        code |= 1 << 4;
    }
    code
}

/// "Determination of Access Rights", sentence by sentence.
fn permitted(paging: &Paging, access: Access, user_page: bool, writable: bool, xd: bool) -> bool {
    let xd = xd && paging.mode == PagingMode::Pae && paging.nxe;
    let supervisor = access.privilege != Privilege::User;
    if !supervisor {
        return match access.kind {
            Kind::Read => user_page,
            Kind::Write => user_page && writable,
            Kind::Fetch => user_page && !xd,
        };
    }
    let explicit_with_ac = access.privilege == Privilege::Supervisor { ac: true };
    match (access.kind, user_page) {
        (Kind::Read, false) => true,
        (Kind::Read, true) => {
            if paging.smap {
                explicit_with_ac
            } else {
                true
            }
        }
        (Kind::Write, false) => {
            if paging.wp {
                writable
            } else {
                true
            }
        }
        (Kind::Write, true) => match (paging.wp, paging.smap) {
            (false, false) => true,
            (false, true) => explicit_with_ac,
            (true, false) => writable,
            (true, true) => explicit_with_ac && writable,
        },
        (Kind::Fetch, false) => !xd,
        (Kind::Fetch, true) => {
            if paging.smep {
                false
            } else {
                !xd
            }
        }
    }
}

/// The second walker. `Err` is the error code.
fn reference(paging: &Paging, memory: &mut Memory, linear: u32, access: Access) -> Result<Page, u16> {
    let linear = linear as u64;
    let m = paging.width as u32;
    let pae = paging.mode == PagingMode::Pae;
    let bytes = if pae { 8 } else { 4 };
    let not_present = error_code(paging, access, false, false);
    let reserved = error_code(paging, access, true, true);
    let violation = error_code(paging, access, true, false);

    let pde_address = if pae {
        let pdpte = paging.pdptes[(linear >> 30) as usize];
        if !bit(pdpte, 0) {
            return Err(not_present);
        }
        // bits 51:12 from the PDPTE, bits 11:3 are bits 29:21 of the linear address
        field(pdpte, m - 1, 12) | (field(linear, 29, 21) >> 21 << 3)
    } else {
        // bits 31:12 from CR3, bits 11:2 are bits 31:22 of the linear address
        field(paging.cr3 as u64, 31, 12) | (field(linear, 31, 22) >> 22 << 2)
    };

    let pde = memory.read(Phys(pde_address), bytes);
    if !bit(pde, 0) {
        return Err(not_present);
    }
    let large = bit(pde, 7) && (pae || paging.pse);
    let mut must_be_zero = 0;
    if pae {
        must_be_zero |= field(pde, 62, m);
        if !paging.nxe {
            must_be_zero |= field(pde, 63, 63);
        }
    }
    if large {
        must_be_zero |= match (pae, paging.pse36) {
            (true, _) => field(pde, 20, 13),
            (false, true) => field(pde, 21, m.min(40) - 19),
            (false, false) => field(pde, 21, 13),
        };
        if !paging.pat {
            must_be_zero |= field(pde, 12, 12);
        }
    }
    if must_be_zero != 0 {
        return Err(reserved);
    }

    let (leaf, leaf_address, size, frame, user_page, writable, xd);
    if large {
        (leaf, leaf_address) = (pde, pde_address);
        (size, frame) = match (pae, paging.pse36) {
            (true, _) => (2 << 20, field(pde, m - 1, 21)),
            (false, true) => (4 << 20, field(pde, 31, 22) | (field(pde, m.min(40) - 20, 13) >> 13 << 32)),
            (false, false) => (4 << 20, field(pde, 31, 22)),
        };
        (user_page, writable, xd) = (bit(pde, 2), bit(pde, 1), bit(pde, 63));
    } else {
        // the directory entry is used from here on: its accessed flag is set
        if !bit(pde, 5) {
            memory.set_bits(Phys(pde_address), bytes, pde, 1 << 5);
        }
        let pte_address = if pae {
            field(pde, m - 1, 12) | (field(linear, 20, 12) >> 12 << 3)
        } else {
            field(pde, 31, 12) | (field(linear, 21, 12) >> 12 << 2)
        };
        let pte = memory.read(Phys(pte_address), bytes);
        if !bit(pte, 0) {
            return Err(not_present);
        }
        let mut must_be_zero = 0;
        if pae {
            must_be_zero |= field(pte, 62, m);
            if !paging.nxe {
                must_be_zero |= field(pte, 63, 63);
            }
        }
        if !paging.pat && (pae || paging.pse) {
            must_be_zero |= field(pte, 7, 7);
        }
        if must_be_zero != 0 {
            return Err(reserved);
        }
        (leaf, leaf_address) = (pte, pte_address);
        (size, frame) = (4 << 10, field(pte, if pae { m - 1 } else { 31 }, 12));
        user_page = bit(pde, 2) && bit(pte, 2);
        writable = bit(pde, 1) && bit(pte, 1);
        xd = bit(pde, 63) || bit(pte, 63);
    }
    if !permitted(paging, access, user_page, writable, xd) {
        return Err(violation);
    }

    let mut updated = leaf | 1 << 5;
    if access.kind == Kind::Write {
        updated |= 1 << 6;
    }
    if updated != leaf {
        memory.set_bits(Phys(leaf_address), bytes, leaf, updated);
    }
    Ok(Page {
        physical: frame + linear % size,
        size,
        user: user_page,
        writable,
        no_execute: xd,
        global: paging.pge && bit(leaf, 8),
        dirty: bit(updated, 6),
    })
}

fn random_paging(random: &mut Random) -> Paging {
    let mode = random.pick(&[PagingMode::TwoLevel, PagingMode::Pae]);
    let pse36 = random.flag();
    let width = match (mode, pse36) {
        (PagingMode::Pae, _) => random.pick(&[32, 36, 40, 46, 52]),
        (_, true) => random.pick(&[32, 36, 40]),
        (_, false) => 32,
    };
    let pdptes =
        std::array::from_fn(|_| (random.next() & ((1 << width) - 1) & !0xfff) | !random.one_in(16) as u64);
    Paging {
        mode,
        cr3: random.next() as u32,
        pdptes,
        wp: random.flag(),
        pse: random.flag(),
        pse36,
        pat: !random.one_in(4),
        pge: random.flag(),
        smep: random.flag(),
        smap: random.flag(),
        nxe: random.flag(),
        width,
        planted: Default::default(),
    }
}

#[test]
fn two_walkers_agree_on_random_entries() {
    let walks = match std::env::var("PAGEWALK_WALKS") {
        Ok(text) => text.parse().expect("PAGEWALK_WALKS is not a number"),
        Err(_) => 1_000_000,
    };
    let mut random = Random(0x7061_6765_7761_6c6b);
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    for n in 0..walks {
        let paging = random_paging(&mut random);
        let privileges = [
            Privilege::User,
            Privilege::Supervisor { ac: false },
            Privilege::Supervisor { ac: true },
            Privilege::Implicit,
        ];
        let access = Access {
            kind: random.pick(&[Kind::Read, Kind::Write, Kind::Fetch]),
            privilege: random.pick(&privileges),
        };
        let linear = random.next() as u32;
        let memory =
            Memory { seed: random.next(), width: paging.width, written: Vec::new(), reads: Vec::new() };

        let (mut ours, mut theirs) = (memory.clone(), memory);
        let result = walk(&paging, &mut ours, linear, access);
        let expected = reference(&paging, &mut theirs, linear, access);

        let found = match &result {
            Ok(leaf) => {
                assert_eq!(leaf.reads as usize, ours.reads.len(), "walk {n}");
                for (source, at) in leaf.sources.iter().zip(&ours.reads) {
                    let now = ours.entry(*at, if paging.mode == PagingMode::Pae { 8 } else { 4 });
                    assert_eq!((source.at.0, source.value), (*at, now), "walk {n}: sources");
                }
                let size = 1u64 << leaf.shift;
                Ok(Page {
                    physical: leaf.base.0 | (linear as u64 & (size - 1)),
                    size,
                    user: leaf.rights.user,
                    writable: leaf.rights.writable,
                    no_execute: leaf.rights.no_execute,
                    global: leaf.global,
                    dirty: leaf.dirty,
                })
            }
            Err(fault) => Err(fault.code),
        };
        assert_eq!(found, expected, "walk {n}: {linear:#x} {access:?} {paging:?} {:x?}", theirs.reads);
        assert_eq!(
            ours.written, theirs.written,
            "walk {n}: accessed and dirty bits; {linear:#x} {access:?} {paging:?}"
        );
        assert_eq!(ours.reads, theirs.reads, "walk {n}: entries read");
        let name = match expected {
            Ok(page) => format!("{:?} {:#x}", paging.mode, page.size),
            Err(code) => format!("{:?} code {code:#x}", paging.mode),
        };
        *outcomes.entry(name).or_default() += 1;
    }
    if walks >= 100_000 {
        // three page sizes, and every error code there is in both modes: not present (with W, U, I/D), violations, RSVD
        let codes =
            [0u16, 1, 9].into_iter().flat_map(|base| [0, 2, 4, 6, 0x10, 0x14].map(|more| base | more));
        for mode in ["TwoLevel", "Pae"] {
            for code in codes.clone() {
                // a supervisor's read of a present page fails by SMAP, its write by WP, its fetch by NX or SMEP
                let name = format!("{mode} code {code:#x}");
                assert!(outcomes.contains_key(&name), "no walk ended with {name}: {outcomes:#?}");
            }
        }
        for page in ["TwoLevel 0x1000", "TwoLevel 0x400000", "Pae 0x1000", "Pae 0x200000"] {
            assert!(outcomes.get(page).copied().unwrap_or(0) > walks / 1000, "{page}: {outcomes:#?}");
        }
    }
}
