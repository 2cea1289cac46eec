//! The front table only makes the machine faster: over random accesses, and random changes to everything that a
//! translation depends on, the TLB, its counters, memory and every fault are the same with it and without.

use pagewalk_x86::Processor;
use pagewalk_x86::bus::Bus;
use pagewalk_x86::control::*;
use pagewalk_x86::cpu::Cpu;
use pagewalk_x86::fault::{Exec, Pending};
use pagewalk_x86::flags;
use pagewalk_x86::flat::FlatBus;
use pagewalk_x86::mmu::Intent;
use pagewalk_x86::mmu::tlb::{FlushCause, Geometry, Policy};
use pagewalk_x86::model::MAX;
use pagewalk_x86::observe::Asker;
use pagewalk_x86::random::Random;
use pagewalk_x86::segment::{DS, Segment};
use pagewalk_x86::width::Width;

const RAM: usize = 0x60_0000;
/// Two directories of two-level paging, then their eight tables.
const TABLES: u32 = 0x4_0000;
/// The PDPTEs, and behind them a directory of PAE paging and its nine tables.
const PDPTES: u32 = 0x6_0000;
/// How many frames either set of tables fills.
const TABLE_FRAMES: u32 = 10;
/// Frames that data pages lie in.
const DATA: u32 = 0x8_0000;

/// What the steps are made of.
trait Steps {
    /// Mostly one of a few pages; else some more near each other, and places across their ends.
    fn linear(&mut self) -> u32;
    /// An entry, mostly good for something.
    fn entry(&mut self, leaf: bool, first_table: u32) -> u64;
    /// Writes an entry of either kind of paging: directory or table, index.
    fn put(&mut self, ram: &mut pagewalk_x86::ram::Ram, pae: bool, table: u32, index: u32);
}

impl Steps for Random {
    fn linear(&mut self) -> u32 {
        let directory = self.below(4) << 22 | self.below(2) << 21;
        let page = match self.below(8) {
            0 => directory + (self.below(12) << 12),
            _ => self.below(2) << 22 | self.below(3) << 12,
        };
        page + match self.below(8) {
            0 => 0xffd + self.below(6),
            _ => self.below(0x1000),
        }
    }
    fn entry(&mut self, leaf: bool, first_table: u32) -> u64 {
        let good = if self.once_in(8) { 0 } else { 7 };
        let flags = self.below(0x1000) as u64 & !0x80 | good;
        let frame = if leaf { DATA + (self.below(0x70) << 12) } else { first_table + (self.below(8) << 12) };
        let large = if !leaf && self.once_in(2) { 0x80 } else { 0 };
        if large != 0 { flags | large | (self.below(2) as u64) << 22 } else { flags | frame as u64 }
    }
    fn put(&mut self, ram: &mut pagewalk_x86::ram::Ram, pae: bool, table: u32, index: u32) {
        if pae {
            let entry = self.entry(table != 0, PDPTES + 0x2000);
            let no_execute = if self.once_in(12) { 1 << 63 } else { 0 };
            let at = PDPTES + 0x1000 + (table << 12) + index * 8;
            ram.write(at as usize, &(entry | no_execute).to_le_bytes());
        } else {
            let entry = self.entry(table > 1, TABLES + 0x2000);
            ram.write((TABLES + (table << 12) + index * 4) as usize, &(entry as u32).to_le_bytes());
        }
    }
}

type Machine = Processor<FlatBus, ()>;

fn machine(geometry: Geometry, front: bool) -> Machine {
    let mut machine = Processor::new(MAX, geometry, FlatBus::new(RAM), ());
    machine.set_shortcuts(front, true);
    let cpu = &mut machine.cpu;
    for segment in &mut cpu.segs {
        *segment = Segment::new(0x10, 0, u32::MAX, 0xc093);
    }
    cpu.cr0 = CR0_PE | CR0_ET;
    cpu.update_context();
    machine
}

fn told<T: std::fmt::Debug>(cpu: &mut Cpu<FlatBus, ()>, result: Exec<T>) -> String {
    match result {
        Ok(value) => format!("{value:x?}"),
        Err(raised) => match cpu.take_pending(raised) {
            Pending::Fault(fault) => format!("{fault:x?}"),
            other => panic!("{other:?}"),
        },
    }
}

fn touch<W: Width>(cpu: &mut Cpu<FlatBus, ()>, linear: u32, intent: Intent, value: u64) -> Exec<u64> {
    let place = cpu.translate::<W>(DS, linear, intent)?;
    let old = cpu.load(place).to_u64();
    if intent != Intent::Read {
        cpu.store(place, W::from_u64(value));
    }
    Ok(old)
}

/// One random step; what it gave.
fn step(cpu: &mut Cpu<FlatBus, ()>, random: &mut Random) -> String {
    let linear = random.linear();
    let result = match random.below(400) {
        0..300 => {
            let intent =
                [Intent::Read, Intent::Read, Intent::Write, Intent::ReadWrite][random.below(4) as usize];
            let value = random.bits();
            match random.below(3) {
                0 => touch::<u8>(cpu, linear, intent, value),
                1 => touch::<u16>(cpu, linear, intent, value),
                _ => touch::<u32>(cpu, linear, intent, value),
            }
        }
        300..330 => cpu.translate_fetch(linear, linear).map(|(_, phys)| phys.0),
        330..340 => cpu.system_read::<u32>(linear, Asker::Tss).map(|value| value as u64),
        340..346 => {
            // an entry changes in memory, now and then with an INVLPG
            let (pae, table, index) = (cpu.cr4 & CR4_PAE != 0, random.below(TABLE_FRAMES), random.below(12));
            random.put(cpu.bus.ram_mut(), pae, table, index);
            if random.once_in(2) {
                cpu.flush_tlb_page(linear);
            }
            Ok(0)
        }
        346..366 => {
            cpu.flush_tlb_page(linear);
            Ok(0)
        }
        366..376 => {
            cpu.set_cpl([0, 3][random.below(2) as usize]);
            Ok(0)
        }
        376..384 => {
            cpu.set_flags(random.bits() as u32, flags::AC);
            Ok(0)
        }
        384..390 => {
            let cr3 = if cpu.cr4 & CR4_PAE != 0 { PDPTES } else { TABLES + (random.below(2) << 12) };
            cpu.load_cr3(cr3 | random.below(2) << 3, FlushCause::MovCr3).map(|()| 3)
        }
        390..395 => {
            let paging = if random.once_in(8) { 0 } else { CR0_PG };
            let more = random.bits() as u32 & (CR0_WP | if random.once_in(4) { CR0_AM } else { 0 });
            cpu.load_cr0(CR0_PE | paging | more).map(|()| 0)
        }
        395..398 => {
            let changed = random.bits() as u32 & (CR4_PGE | CR4_SMEP | CR4_SMAP | CR4_PSE);
            let pae = if random.once_in(4) { CR4_PAE } else { 0 };
            if pae != 0 {
                // never through tables of the other kind
                cpu.load_cr0(CR0_PE).map(|()| 0).unwrap();
                cpu.load_cr4(cpu.cr4 ^ pae).unwrap();
                cpu.load_cr3(if cpu.cr4 & pae != 0 { PDPTES } else { TABLES }, FlushCause::MovCr3).unwrap();
                cpu.load_cr0(CR0_PE | CR0_PG).map(|()| 4)
            } else {
                cpu.load_cr4(cpu.cr4 ^ changed).map(|()| 4)
            }
        }
        398 => {
            // a data breakpoint comes or goes
            cpu.dr[0] = linear & !3;
            cpu.dr[7] = if random.once_in(3) { DR7_ONES | 1 | 0xf << 16 } else { DR7_ONES };
            cpu.update_context();
            Ok(0)
        }
        _ => {
            // some page of memory begins to hold code
            let at = DATA as usize + random.below(0x7_0000) as usize;
            cpu.bus.ram_mut().mark_code(at.min(RAM - 1), 1);
            cpu.forget_front();
            Ok(0)
        }
    };
    told(cpu, result)
}

fn compare(geometry: Geometry, seed: u64, steps: u32) -> [u64; 3] {
    let (mut with, mut without) = (machine(geometry, true), machine(geometry, false));
    let mut random = Random::new(seed);
    for machine in [&mut with, &mut without] {
        let mut random = Random::new(seed ^ 1);
        let ram = machine.cpu.bus.ram_mut();
        for table in 0..TABLE_FRAMES {
            for index in 0..16 {
                random.put(ram, false, table, index);
                random.put(ram, true, table, index);
            }
        }
        for n in 0..4u32 {
            ram.write((PDPTES + n * 8) as usize, &(PDPTES as u64 + 0x1001).to_le_bytes());
        }
        machine.cpu.msrs.efer = EFER_NXE;
        machine.cpu.load_cr3(TABLES, FlushCause::MovCr3).unwrap();
        machine.cpu.load_cr0(CR0_PE | CR0_PG).unwrap();
    }
    for n in 0..steps {
        let mut same = Random::new(random.bits());
        let mut again = same.clone();
        let (a, b) = (step(&mut with.cpu, &mut same), step(&mut without.cpu, &mut again));
        assert_eq!(a, b, "{geometry:?} seed {seed} step {n}");
        assert_eq!(with.cpu.tlb.counters, without.cpu.tlb.counters, "{geometry:?} seed {seed} step {n}");
    }
    assert!(with.cpu.tlb == without.cpu.tlb, "{geometry:?} seed {seed}: entries and stamps");
    assert!(
        with.cpu.state == without.cpu.state && with.cpu.bus == without.cpu.bus,
        "{geometry:?} seed {seed}"
    );
    let counters = &with.cpu.tlb.counters;
    [counters.hits.iter().flatten().sum(), counters.walks, counters.faults]
}

#[test]
fn the_front_table_changes_nothing_but_speed() {
    let mut totals = [0; 3];
    let shapes = [(64, 4, 8), (4, 2, 2), (16, 16, 0), (2, 1, 1), (1, 1, 0)];
    for (entries, ways, large) in shapes {
        for policy in [Policy::Lru, Policy::Plru, Policy::Fifo, Policy::Random] {
            for (split, tagged) in [(true, false), (false, false), (true, true), (false, true)] {
                for seed in 0..3 {
                    let geometry = Geometry { entries, ways, large, split, policy, tagged };
                    let sums = compare(geometry, 1000 + seed, 3000);
                    totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
                }
            }
        }
    }
    let [hits, walks, faults] = totals;

    assert!(hits > 100_000 && walks > 20_000 && faults > 20_000, "the sequences are too tame: {totals:?}");
}

#[test]
fn a_large_page_that_a_dirty_walk_finds_moved_has_moved_for_all_its_parts() {
    for front in [true, false] {
        let mut machine = machine(Geometry::default(), front);
        let cpu = &mut machine.cpu;
        let put = |cpu: &mut Cpu<FlatBus, ()>, at: u32, value: u32| {
            cpu.bus.ram_mut().write(at as usize, &value.to_le_bytes());
        };
        put(cpu, TABLES, 0xa7); // present, writable, user, accessed, large, clean
        put(cpu, 0x1000, 0x1111);
        put(cpu, 0x40_1000, 0x2222);
        cpu.load_cr4(CR4_PSE).unwrap();
        cpu.load_cr3(TABLES, FlushCause::MovCr3).unwrap();
        cpu.load_cr0(CR0_PE | CR0_PG).unwrap();
        assert_eq!(touch::<u32>(cpu, 0x1000, Intent::Read, 0).unwrap(), 0x1111);
        put(cpu, TABLES, 0x40_00a7);
        assert_eq!(
            touch::<u32>(cpu, 0x1000, Intent::Read, 0).unwrap(),
            0x1111,
            "stale, as hardware's may be"
        );
        touch::<u32>(cpu, 0x2000, Intent::Write, 7).unwrap();
        assert_eq!(touch::<u32>(cpu, 0x1000, Intent::Read, 0).unwrap(), 0x2222, "front table {front}");
    }
}
