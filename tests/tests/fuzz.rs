//! Whole machines with random memory, registers, segments and page tables: nothing a guest does may panic, overflow,
//! hang or reach outside its memory. PAGEWALK_FUZZ says how many instructions to run at least.

use pagewalk_loader::{Kind, Plan, Start};
use pagewalk_pc::board::{Board, Config, Input};
use pagewalk_pc::disk::Disk;
use pagewalk_pc::machine::{Machine, Parts};
use pagewalk_x86::Processor;
use pagewalk_x86::bus::Bus;
use pagewalk_x86::control::*;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::flags;
use pagewalk_x86::mmu::tlb::{Geometry, Policy};
use pagewalk_x86::model;
use pagewalk_x86::segment::{Descriptor, Segment};

/// xorshift64*: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    fn value(&mut self) -> u32 {
        match self.below(8) {
            0 => 0,
            1 => u32::MAX,
            2 => 0x8000_0000,
            3 => 1 << self.below(32),
            4 => (self.below(0x10_0000)) as u32,
            5 => (0x1000 * self.below(256)).wrapping_sub(self.below(8)) as u32,
            _ => self.next() as u32,
        }
    }
}

const MEMORY: u64 = 4 << 20;
/// First page of the random page tables.
const TABLES: u64 = 0x20_0000;

/// Opcodes worth more than chance gives them.
const HINTS: &[&[u8]] = &[
    &[0x0f, 0x20],
    &[0x0f, 0x22],
    &[0x0f, 0x01],
    &[0x0f, 0x00],
    &[0xcf],
    &[0xcd, 0x80],
    &[0xea],
    &[0x9a],
    &[0xcb],
    &[0x8e],
    &[0xf3, 0xa4],
    &[0xf3, 0xab],
    &[0xf2, 0xae],
    &[0x6c],
    &[0x6f],
    &[0xee],
    &[0xed],
    &[0xe6, 0x20],
    &[0xe6, 0x21],
    &[0xf4],
    &[0xfb],
    &[0x9d],
    &[0x60],
    &[0x61],
    &[0xc8],
    &[0x0f, 0xb1],
    &[0x0f, 0xc7],
    &[0xf7],
    &[0xd2],
    &[0x66],
    &[0x67],
    &[0xff],
    &[0xe8],
    &[0xc3],
    &[0x0f, 0x21],
    &[0x0f, 0x23],
    &[0x0f, 0x30],
    &[0x0f, 0x34],
    &[0x0f, 0x35],
    &[0xc4],
    &[0x0f, 0xb2],
    &[0xd9],
    &[0xdd],
    &[0x0f, 0xa3],
    &[0x0f, 0xab],
    &[0xf0],
    &[0x2e],
    &[0x36],
];

fn memory(random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0; MEMORY as usize];
    for chunk in bytes[..0x8_0000].chunks_exact_mut(8) {
        chunk.copy_from_slice(&random.next().to_le_bytes());
        if random.one_in(3) {
            let hint = HINTS[random.below(HINTS.len() as u64) as usize];
            let at = random.below((8 - hint.len()) as u64 + 1) as usize;
            chunk[at..at + hint.len()].copy_from_slice(hint);
        }
    }
    // descriptors that are mostly sensible: GDT at 0x1000, LDT at 0x1800, IDT at 0x2000
    for slot in 0..256 {
        let descriptor = match random.below(4) {
            0 => random.next(),
            1 => 0x00cf_9200_0000_ffff | random.below(16) << 40 | random.below(4) << 45,
            2 => 0x00cf_1a00_0000_ffff ^ random.below(1 << 8) << 40,
            _ => random.below(16) << 40 | random.below(4) << 45 | 1 << 47 | 0x67 | random.below(0x8000) << 16,
        };
        bytes[0x1000 + slot * 8..][..8].copy_from_slice(&descriptor.to_le_bytes());
    }
    for vector in 0..256 {
        let kind = [0x5, 0x6, 0x7, 0xe, 0xf, 0xe, 0xe, random.below(16)][random.below(8) as usize];
        let gate = random.below(0x8_0000) & 0xffff
            | random.below(64) << 19
            | kind << 40
            | random.below(4) << 45
            | u64::from(!random.one_in(8)) << 47
            | random.below(8) << 48;
        bytes[0x2000 + vector * 8..][..8].copy_from_slice(&gate.to_le_bytes());
    }
    // page tables: each entry leads somewhere in memory, with random bits
    for entry in bytes[TABLES as usize..TABLES as usize + 0x1_0000].chunks_exact_mut(4) {
        let frame =
            if random.one_in(4) { TABLES + 0x1000 * random.below(16) } else { 0x1000 * random.below(0x400) };
        let mut value = frame | random.below(1 << 9) | 1;
        if random.one_in(8) {
            value = random.next();
        }
        entry.copy_from_slice(&(value as u32).to_le_bytes());
    }
    // identity map for the first 4 MiB in most directories
    for n in 0..1024u64 {
        let at = TABLES + 0xf000 + n * 4;
        bytes[at as usize..][..4].copy_from_slice(&((n << 12 | 7) as u32).to_le_bytes());
    }
    let first = (TABLES + 0xf000) as u32 | 7;
    bytes[TABLES as usize..][..4].copy_from_slice(&first.to_le_bytes());
    bytes
}

fn scramble(processor: &mut Processor<Board, ()>, random: &mut Random) {
    let cpu = &mut processor.cpu;
    for n in 0..8 {
        cpu.regs.set_dword(n, random.value());
    }
    cpu.gdtr.base = 0x1000;
    cpu.gdtr.limit = if random.one_in(4) { random.next() as u16 } else { 0x7ff };
    cpu.idtr.base = if random.one_in(16) { random.value() } else { 0x2000 };
    cpu.idtr.limit = if random.one_in(4) { random.next() as u16 } else { 0x7ff };
    cpu.cr0 = 0x10;
    let protected = !random.one_in(4);
    if protected {
        cpu.cr0 |= CR0_PE;
        for bit in [CR0_WP, CR0_AM, CR0_TS, CR0_EM, CR0_NE, CR0_MP] {
            if random.one_in(3) {
                cpu.cr0 |= bit;
            }
        }
    }
    let vm = protected && random.one_in(6);
    cpu.cpl = if vm {
        3
    } else if protected {
        random.below(4) as u8
    } else {
        0
    };
    let cpl = cpu.cpl;
    for n in 0..6 {
        let selector = (random.below(256) << 3 | cpl as u64) as u16;
        cpu.segs[n] = if !protected || vm {
            Segment::real(random.below(0x8000) as u16, cpl)
        } else if random.one_in(4) {
            Segment::from_descriptor(selector, Descriptor(random.next() | 1 << 47 | 1 << 44))
        } else {
            let kind: u16 = if n == 1 { 0x9b } else { 0x93 };
            let size = if random.one_in(4) { 0 } else { 0xc000 };
            Segment::new(selector, 0, 0xffff_ffff, kind | size | (cpl as u16) << 5)
        };
    }
    cpu.ldtr = Segment::new(0x28, 0x1800, 0x7ff, 0x82);
    cpu.tr = Segment::new(
        0x30,
        0x3000,
        if random.one_in(3) { 0x67 } else { 0x2fff },
        if random.one_in(3) { 0x83 } else { 0x8b },
    );
    cpu.cr4 = random.next() as u32 & model::MAX.cr4_mask();
    if random.one_in(2) {
        cpu.cr4 &= !(CR4_PAE | CR4_SMEP | CR4_SMAP);
    }
    if protected && random.one_in(2) {
        cpu.cr0 |= CR0_PG;
        cpu.cr3 = TABLES as u32;
        for n in 0..4 {
            cpu.pdptes[n] = (TABLES + 0x1000 * random.below(8)) | 1;
        }
        if random.one_in(2) {
            cpu.msrs.efer |= EFER_NXE;
        }
    }
    for n in 0..4 {
        cpu.dr[n] = random.below(0x8_0000) as u32;
    }
    if random.one_in(8) {
        cpu.dr[7] = random.next() as u32 & 0xffff_23ff | DR7_ONES;
    }
    let value = random.next() as u32;
    cpu.flags.set(value, 0x3f_7fd5);
    cpu.flags.set(if vm { flags::VM } else { 0 }, flags::VM);
    if !random.one_in(8) {
        cpu.flags.set(0, flags::TF);
    }
    cpu.eip = random.below(if protected && !vm { 0x8_0000 } else { 0x1_0000 }) as u32;
    cpu.update_context();
}

#[test]
fn nothing_that_a_guest_does_harms_the_host() {
    let wanted: u64 = std::env::var("PAGEWALK_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000_000);
    let seed = std::env::var("PAGEWALK_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0x5eed_0001);
    println!("seed {seed}");
    let mut random = Random(seed);
    let mut executed = 0;
    let mut unimplemented = std::collections::BTreeSet::new();
    while executed < wanted {
        let disk = Disk::blank(128);
        let board = Board::new(Config { memory: MEMORY, disks: vec![disk], ..Config::default() }).unwrap();
        let model = model::ALL[random.below(model::ALL.len() as u64) as usize];
        let tlb = Geometry {
            entries: 1 << random.below(7),
            ways: 1,
            large: [0, 1, 8][random.below(3) as usize],
            split: random.one_in(2),
            policy: [Policy::Lru, Policy::Plru, Policy::Fifo, Policy::Random][random.below(4) as usize],
            tagged: random.one_in(4),
        };
        let parts = Parts { model, tlb, ps_per_instruction: 1 + random.below(100_000) };
        let plan = Plan {
            kind: Kind::Raw,
            places: Vec::new(),
            roms: Vec::new(),
            start: Start::Reset,
            symbols: Vec::new(),
            notes: Vec::new(),
        };
        let mut machine = Machine::new(parts, board, &plan, ()).unwrap();
        let bytes = memory(&mut random);
        machine.processor.cpu.bus.ram_mut().write(0, &bytes);
        for _ in 0..64 {
            scramble(&mut machine.processor, &mut random);
            let before = machine.processor.cpu.retired;
            let stop = machine.run(before + 2000);
            executed += machine.processor.cpu.retired - before;
            if let Stop::Unimplemented { code, .. } = stop {
                unimplemented.insert(format!("{code:?}"));
            }
            machine.give(Input::Serial { port: 0, bytes: vec![random.next() as u8] });
            machine.give(Input::Keys(vec![random.next() as u8]));
            let fresh = random.below(0x8_0000 - 64) as usize;
            machine.processor.cpu.bus.ram_mut().write(fresh, &random.next().to_le_bytes());
            machine.processor.cpu.flush_tlb_all(pagewalk_x86::mmu::tlb::FlushCause::Reset);
        }
        machine.take_serial();
    }
    println!("{executed} instructions; opcodes without a body met: {unimplemented:?}");
}
