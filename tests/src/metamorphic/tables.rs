//! What the processor finds in memory: descriptors, gates, task-state segments, page tables.

use pagewalk_x86::random::Random;

use super::code::Writer;
use super::features::{Feature, Features};
use super::layout::*;

/// Memory being filled.
pub struct Image(pub Vec<u8>);

impl Image {
    pub fn put(&mut self, at: u32, bytes: &[u8]) {
        let at = at as usize;
        if at + bytes.len() <= self.0.len() {
            self.0[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }
    pub fn put16(&mut self, at: u32, value: u16) {
        self.put(at, &value.to_le_bytes());
    }
    pub fn put32(&mut self, at: u32, value: u32) {
        self.put(at, &value.to_le_bytes());
    }
    pub fn put64(&mut self, at: u32, value: u64) {
        self.put(at, &value.to_le_bytes());
    }
    pub fn get64(&self, at: u32) -> u64 {
        self.0[at as usize..at as usize + 8].iter().rev().fold(0, |value, &byte| value << 8 | byte as u64)
    }
}

/// G and D/B of a descriptor.
const FLAT: u64 = 0xc;
const BIG: u64 = 0x4;

/// A segment descriptor; `flags` are G, D/B, L, AVL.
pub fn descriptor(base: u32, limit: u32, access: u64, flags: u64) -> u64 {
    let (base, limit) = (base as u64, limit as u64);
    limit & 0xffff
        | (base & 0xff_ffff) << 16
        | access << 40
        | (limit >> 16 & 15) << 48
        | flags << 52
        | base >> 24 << 56
}

/// A gate.
pub fn gate(selector: u16, offset: u32, access: u64, count: u64) -> u64 {
    let offset = offset as u64;
    offset & 0xffff | (selector as u64) << 16 | count << 32 | access << 40 | offset >> 16 << 48
}

/// An odd segment: of each kind that is not simply flat.
fn odd(random: &mut Random, n: u32) -> u64 {
    let dpl = random.pick(&[0u64, 3, 3, 3, 1]) << 5;
    let base = DATA + random.pick(&[0, 1, 0x7fe, 0x1000]);
    match n % ODDS as u32 {
        0 => descriptor(0, 0xf_ffff, 0x9f | dpl, FLAT), // conforming
        1 => descriptor(CODE, 0xffff, 0x9d | dpl, 0),   // conforming, execute-only, 16-bit
        2 => descriptor(0, 0xf_ffff, 0x99 | dpl, FLAT), // execute-only
        3 => descriptor(0, 0xf_ffff, 0x91 | dpl, FLAT), // read-only
        4 => descriptor(0, 0x2f, 0x97 | dpl, FLAT),     // expand-down from 0x30000
        5 => descriptor(base, 0x0fff, 0x97 | dpl, 0),   // expand-down, 16-bit
        6 => descriptor(base, random.pick(&[0, 3, 0xfff, 0x1001]), 0x93 | dpl, BIG),
        7 => descriptor(0, 0xf_ffff, 0x13 | dpl, FLAT), // not present
        8 => descriptor(0, 0xf_ffff, 0x1b | dpl, FLAT),
        9 => descriptor(0, random.pick(&[0x20, 0x21, 0x2f]), 0x9b | dpl, FLAT), // ends within the program
        10 => descriptor(base, 0xffff, 0x92 | dpl, BIG),                        // not accessed
        _ => descriptor(0, 0xf_ffff, 0x9a | dpl, FLAT),
    }
}

/// The global and local descriptor tables.
pub fn descriptors(image: &mut Image, features: Features, random: &mut Random) {
    for ring in 0..4u32 {
        let dpl = (ring as u64) << 5;
        let at = |selector: u16| GDT + (selector & !7) as u32;
        image.put64(at(code32(ring)), descriptor(0, 0xf_ffff, 0x9b | dpl, FLAT));
        image.put64(at(data32(ring)), descriptor(0, 0xf_ffff, 0x93 | dpl, FLAT));
        image.put64(at(code16(ring)), descriptor(CODE, 0xffff, 0x9b | dpl, 0));
        image.put64(at(data16(ring)), descriptor(DATA, 0xffff, 0x93 | dpl, 0));
        image.put64(at(handlers16(ring)), descriptor(HANDLERS16, 0xffff, 0x9b | dpl, 0));
    }
    for n in 0..ODDS as u32 {
        let descriptor = odd(random, n);
        image.put64(GDT + ODD as u32 + n * 8, descriptor);
    }
    for (n, selector) in TSS_SELECTORS.into_iter().enumerate() {
        let (kind, limit) = if n < 2 { (0x89, 0x2ff) } else { (0x81, 0x2b) };
        let busy = if n == 0 { 2 } else { 0 };
        let dpl = random.pick(&[0, 0x60]);
        image.put64(GDT + selector as u32, descriptor(TSS[n], limit, kind | busy | dpl, 0));
    }
    image.put64(GDT + LDT_SELECTOR as u32, descriptor(LDT, LDT_LIMIT as u32, 0x82, 0));
    for (selector, tss) in TASK_GATES.into_iter().zip([TSS_SELECTORS[1], TSS_SELECTORS[2]]) {
        image.put64(GDT + selector as u32, gate(tss, 0, 0x85 | random.pick(&[0, 0x60]), 0));
    }
    for n in 0..CALL_GATE_COUNT as u32 {
        let slot = 2 * random.below(SLOTS / 2);
        let ring = random.pick(&[0, 0, 1, 3]);
        let dpl = random.pick(&[0u64, 3, 3]) << 5;
        let count = random.below(4) as u64;
        let wide = !random.once_in(3);
        let entry = if wide {
            gate(code32(ring), HANDLERS32 + slot * SLOT, 0x8c | dpl, count)
        } else {
            gate(handlers16(ring), slot * SLOT, 0x84 | dpl, count)
        };
        image.put64(GDT + CALL_GATES as u32 + n * 8, entry);
    }
    for n in 0..16 {
        let kind = n + random.below(2);
        let entry = odd(random, kind);
        image.put64(LDT + n * 8, entry);
    }
    if features.has(Feature::Tables) {
        for _ in 0..8 {
            let at = GDT + 8 * random.below(64);
            let entry = match random.below(3) {
                0 => random.bits(),
                1 => image.get64(at) ^ 1 << (40 + random.below(8)),
                _ => image.get64(at) ^ 1 << random.below(64),
            };
            image.put64(at, entry);
        }
    }
}

/// Whether the exception pushes an error code.
pub fn has_code(vector: u32) -> bool {
    matches!(vector, 8 | 10..=14 | 17)
}

/// Gates and real-mode vectors, and the handlers that they lead to.
pub fn handlers(image: &mut Image, writer: &Writer, features: Features, random: &mut Random) {
    let styles = [super::code::Style::Flat, super::code::Style::Protected16, super::code::Style::Real];
    for (style, first) in styles.into_iter().zip([HANDLERS32, HANDLERS16, REAL_HANDLERS]) {
        let writer = Writer { style, ..*writer };
        let slots = if first == REAL_HANDLERS { 4 } else { SLOTS };
        for slot in 0..slots {
            let handler = writer.handler(random, slot % 2 == 1 && first != REAL_HANDLERS);
            image.put(first + slot * SLOT, &handler);
        }
    }
    // the last slot of each: the handler of last resort
    image.put(HANDLERS32 + (SLOTS - 1) * SLOT, &writer.recover());
    image.put(REAL_HANDLERS + 3 * SLOT, &writer.recover_real());
    for vector in 0..256 {
        let last = matches!(vector, 8 | 12) || random.once_in(16);
        let slot = if last { 3 } else { random.below(3) };
        image.put32(vector * 4, REAL_HANDLERS + SLOT * slot);
    }
    for vector in 0..64u32 {
        let slot = 2 * random.below(SLOTS / 2 - 1) + has_code(vector) as u32;
        let dpl = if vector < 0x20 && !matches!(vector, 3 | 4) { 0 } else { random.pick(&[0u64, 3, 3]) };
        let trap = random.below(2) as u64;
        let ring = if random.once_in(10) { random.below(4) } else { 0 };
        let mut entry = match random.below(12) {
            0 if vector != 8 || random.flag() => {
                gate(random.pick(&TSS_SELECTORS[1..3]), 0, 0x85 | dpl << 5, 0)
            }
            1..4 => gate(handlers16(ring), slot * SLOT, 0x86 | trap | dpl << 5, 0),
            _ => gate(code32(ring), HANDLERS32 + slot * SLOT, 0x8e | trap | dpl << 5, 0),
        };
        if matches!(vector, 8 | 12) && !random.once_in(8) {
            entry = gate(code32(0), HANDLERS32 + (SLOTS - 1) * SLOT, 0x8e, 0);
        }
        if features.has(Feature::Gates) && random.once_in(12) {
            entry = match random.below(4) {
                0 => random.bits(),
                1 => entry ^ 1 << (40 + random.below(8)),
                2 => entry ^ 1 << random.below(64),
                _ => gate(random.dword() as u16, random.dword(), 0x8e, 0),
            };
        }
        image.put64(IDT + vector * 8, entry);
    }
}

/// The top of the stack that a TSS names for a ring.
pub fn stack_of(ring: u32) -> u32 {
    STACKS + 0x1000 * ring + 0xf00
}

/// Task-state segments.
pub fn tasks(image: &mut Image, features: Features, random: &mut Random) {
    let cr3 = if features.has(Feature::Pae) { PDPTS } else { DIRECTORIES };
    for (n, tss) in TSS.into_iter().enumerate() {
        let wide = n < 2;
        for ring in 0..3u32 {
            let narrow_stack = random.once_in(6);
            let (selector, top) = if narrow_stack {
                (data16(ring), stack_of(ring) - DATA)
            } else {
                (data32(ring), stack_of(ring))
            };
            if wide {
                image.put32(tss + 4 + ring * 8, top);
                image.put16(tss + 8 + ring * 8, selector);
            } else {
                image.put16(tss + 2 + ring * 4, (stack_of(ring) - DATA) as u16);
                image.put16(tss + 4 + ring * 4, data16(ring));
            }
        }
        // a task to be switched to: in a handler, in ring 0 or 3
        let ring = random.pick(&[0, 0, 3]);
        let slot = 2 * random.below(SLOTS / 2);
        if wide {
            let other = random.once_in(3) as usize;
            image.put32(tss + 0x1c, cr3[other]);
            image.put32(tss + 0x20, HANDLERS32 + slot * SLOT);
            image.put32(tss + 0x24, 2 | random.pick(&[0, 0x200, 0x4000, 0x100]));
            for register in 0..8 {
                image.put32(tss + 0x28 + register * 4, DATA + random.below(DATA_BYTES));
            }
            image.put32(tss + 0x38, STACKS + 0x3000 + random.below(0x400) * 4);
            for (n, selector) in [data32(ring), code32(ring), data32(ring), data32(ring), data32(ring), 0]
                .into_iter()
                .enumerate()
            {
                image.put16(tss + 0x48 + n as u32 * 4, selector);
            }
            image.put16(tss + 0x60, random.pick(&[0, LDT_SELECTOR]));
            image.put16(tss + 0x64, random.once_in(8) as u16);
            image.put16(tss + 0x66, 0x88);
            // interrupt redirection bitmap, then the I/O bitmap
            for at in 0..0x40 {
                let bits = if random.flag() { 0 } else { random.bits() };
                image.put64(tss + 0x68 + at * 8, bits);
            }
        } else {
            image.put16(tss + 0x0e, (slot * SLOT) as u16);
            image.put16(tss + 0x10, 2 | random.pick(&[0, 0x200, 0x4000]));
            for register in 0..8 {
                image.put16(tss + 0x12 + register * 2, random.dword() as u16 & 0x7fff);
            }
            image.put16(tss + 0x1a, 0xb000 + random.below(0x400) as u16 * 2);
            for (n, selector) in
                [data32(ring), handlers16(ring), data16(ring), data16(ring)].into_iter().enumerate()
            {
                image.put16(tss + 0x22 + n as u32 * 2, selector);
            }
            image.put16(tss + 0x2a, random.pick(&[0, LDT_SELECTOR]));
        }
        image.put16(tss, TSS_SELECTORS[random.below(4) as usize]);
    }
}

/// The flags of one entry; `supervisor` for pages that rings 0 to 2 must reach under SMEP and SMAP.
fn entry_flags(features: Features, random: &mut Random, supervisor: bool) -> u64 {
    let mut flags = 7;
    if supervisor {
        flags &= !4;
    }
    flags |= random.pick(&[0, 0x20, 0x20, 0x60, 0x60]);
    if features.has(Feature::GlobalPages) && random.flag() {
        flags |= 0x100;
    }
    flags
}

/// Page tables of both kinds.
pub fn pages(image: &mut Image, features: Features, protected_pages: bool, random: &mut Random) {
    for pae in [false, true] {
        let bytes = if pae { 8 } else { 4 };
        let (tables, directories) = if pae { (PAE_TABLES, PAE_DIRECTORIES) } else { (TABLES, DIRECTORIES) };
        let count = if pae { 512 } else { 1024 };
        let put = |image: &mut Image, table: u32, index: u32, value: u64| {
            if pae {
                image.put64(table + index * 8, value);
            } else {
                image.put32(table + index * bytes, value as u32);
            }
        };
        for (n, table) in tables.into_iter().enumerate() {
            for page in 0..count {
                let first = (page as u64) << 12;
                let is_system = page < 0x20 || (STACKS >> 12..(STACKS >> 12) + 3).contains(&page);
                let flags = entry_flags(features, random, protected_pages && is_system);
                let identity = first < (RAM as u64).max((DEVICE + 0x1000) as u64) && n == 0;
                let mut value = if identity {
                    first | flags
                } else {
                    // anywhere: memory, the window, the device, beyond
                    let frame = match random.below(16) {
                        0 => DEVICE >> 12,
                        1 => (WINDOW >> 12) + random.below(4),
                        2 => random.below(0x400),
                        3 => (CODE >> 12) + random.below(8),
                        4 => (TABLES[0] >> 12) + random.below(8),
                        _ => random.below((RAM >> 12) as u32),
                    };
                    (frame as u64) << 12 | flags
                };
                let is_tame = identity && !(CODE >> 12..RAM as u32 >> 12).contains(&page);
                if features.has(Feature::Holes) && !is_tame && random.once_in(6) {
                    value &= !random.pick(&[1, 2, 2, 4, 0x20]);
                }
                if features.has(Feature::Reserved) && !is_tame && random.once_in(16) {
                    value |= 1 << random.pick(&[7, 40, 52, 62]);
                }
                if features.has(Feature::NoExecute) && !is_tame && random.once_in(6) {
                    value |= 1 << 63;
                }
                put(image, table, page, value);
            }
        }
        for (n, directory) in directories.into_iter().enumerate() {
            let span = if pae { 21 } else { 22 };
            for index in 0..count {
                let first = (index as u64) << span;
                let flags = entry_flags(features, random, false);
                let large = LARGE.iter().any(|l| (*l as u64) >> span == first >> span);
                let mut value = match index {
                    0 => tables[0] as u64 | flags,
                    _ if large && features.has(Feature::LargePages) => 0x80 | flags,
                    _ if first == SECOND as u64 => tables[1] as u64 | flags,
                    _ => match random.below(8) {
                        0 => tables[1] as u64 | flags,
                        1 => tables[0] as u64 | flags,
                        2 if features.has(Feature::LargePages) => 0x80 | flags,
                        _ => 0,
                    },
                };
                // the other directory says some things otherwise
                if n == 1 && index != 0 && random.once_in(3) {
                    value ^= random.pick(&[0x1000, 2, 4, 0x100, 0x80, 1]);
                }
                if features.has(Feature::Reserved) && index != 0 && random.once_in(8) {
                    value |= 1 << random.pick(&[13, 21, 45]);
                }
                if features.has(Feature::NoExecute) && index != 0 && random.once_in(6) {
                    value |= 1 << 63;
                }
                put(image, directory, index, value);
            }
        }
    }
    for (n, table) in PDPTS.into_iter().enumerate() {
        for index in 0..4 {
            let directory = PAE_DIRECTORIES[if index == 0 { n } else { random.below(2) as usize }];
            let present = index == 0 || !random.once_in(4);
            image.put64(table + index * 8, directory as u64 | present as u64);
        }
    }
}
