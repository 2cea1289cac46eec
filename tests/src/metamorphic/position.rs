//! Code at different places: a program that cannot see where it lies does the same wherever its segment begins, so that
//! each of its instructions comes to cross a page's end.
//!
//! Its code segment cannot be read, and no data segment reaches it, the descriptor tables or the page tables; it runs
//! outside of ring 0, and every handler only returns. What may differ is what fetches do: their TLB counters. The processor
//! is one without CLFLUSH, which translates what can only be executed as if it read it.

use pagewalk_x86::bus::Bus;
use pagewalk_x86::control::*;
use pagewalk_x86::cpu::State;
use pagewalk_x86::flags;
use pagewalk_x86::mmu::tlb::Geometry;
use pagewalk_x86::model::{self, MAX, Model};
use pagewalk_x86::random::Random;
use pagewalk_x86::regs::ESP;
use pagewalk_x86::segment::{CS, Descriptor, Segment, TableRegister};

use super::bus::Event;
use super::case::{Mismatch, NUMBER_OF_PIECES, dropped_pieces, list_dropped, no_case, number, shrink_by};
use super::code::{Style, Writer};
use super::features::{Feature, Features, stream};
use super::layout::*;
use super::state::{Plan, purpose};
use super::tables::{self, Image, descriptor, gate};
use super::ways::{Ended, Prepare, Way, go};

/// A program and the places where it is run. Written down as SEED@SHIFTS:INSTRUCTIONS:DROPPED.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    seed: u64,
    until: u64,
    dropped: Vec<bool>,
    /// Distances from where it is run first.
    shifts: Vec<u32>,
}

/// As [`MAX`], without CLFLUSH and its kin.
const PROCESSOR: Model = Model {
    features: MAX
        .features
        .difference(model::Features::CLFSH.union(model::Features::CLFLUSHOPT).union(model::Features::CLWB)),
    ..MAX
};

/// Selectors.
const CODE_SELECTOR: u16 = 0x0b;
const DATA_SELECTOR: u16 = 0x13;
const KERNEL_CODE: u16 = 0x18;
const KERNEL_DATA: u16 = 0x20;
const TSS_SELECTOR: u16 = 0x28;

/// The segment's bytes.
const BYTES: u32 = CODE_BYTES;

impl std::fmt::Display for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shifts: Vec<String> = self.shifts.iter().map(|shift| format!("{shift:#x}")).collect();
        let dropped = list_dropped(&self.dropped);
        write!(f, "{:#x}@{}:{}:{dropped}", self.seed, shifts.join(","), self.until)
    }
}

impl std::str::FromStr for Places {
    type Err = String;
    fn from_str(text: &str) -> Result<Places, String> {
        let parts: Vec<&str> = text.split([':', '@']).collect();
        let [seed, shifts, until, dropped] = parts[..] else { return Err(no_case(text)) };
        let shift = |text: &str| number(text).map(|shift| shift as u32 & 0xfff);
        Ok(Places {
            seed: number(seed)?,
            until: number(until)?,
            dropped: dropped_pieces(dropped)?,
            shifts: shifts.split(',').map(shift).collect::<Result<_, _>>()?,
        })
    }
}

impl Places {
    /// The places of a seed.
    pub fn draw(seed: u64) -> Places {
        let mut random = stream(seed, 600);
        let until = 60 + random.below(200) as u64;
        let shifts = (0..4).map(|_| random.below(0x1000)).collect();
        Places { seed, until, dropped: vec![false; NUMBER_OF_PIECES], shifts }
    }

    fn features(&self) -> Features {
        let drawn = Features::draw(self.seed).0;
        let allowed = [
            Feature::Code16,
            Feature::Paging,
            Feature::LargePages,
            Feature::Flags,
            Feature::Trap,
            Feature::Interrupts,
            Feature::Raw,
            Feature::Strings,
        ];
        Features(allowed.into_iter().fold(0, |set, feature| set | (drawn & 1 << feature as u32)))
    }

    fn plan(&self, shift: u32) -> Plan {
        let features = self.features();
        let random = |purpose| stream(self.seed, purpose);
        let narrow = features.has(Feature::Code16);
        let style = if narrow { Style::Protected16 } else { Style::Isolated };
        let writer = Writer { style, features, count: NUMBER_OF_PIECES, ring: 3, start: CODE + 0x100 };
        let mut image = Image(vec![0; RAM]);
        let mut noise = random(purpose::MEMORY);
        for at in (DATA..DATA + 0x1_0000).step_by(8) {
            image.put64(at, if noise.flag() { noise.bits() } else { noise.bits() & 0xffff_0000_ffff });
        }
        // the segment's bytes, then the whole of it at its place
        image.0[CODE as usize..(CODE + BYTES) as usize].fill(0x90);
        for at in (CODE..CODE + BYTES).step_by(8) {
            image.put(at, &[0x40 | noise.below(16) as u8]);
        }
        let program = writer.program(self.seed, &self.dropped);
        for (at, bytes) in &program.pieces {
            image.put(*at, bytes);
        }
        image.0.copy_within(CODE as usize..(CODE + BYTES) as usize, (CODE + shift) as usize);
        self.tables(&mut image, CODE + shift, narrow, &mut random(purpose::TABLES));

        let mut state = State::reset(&PROCESSOR);
        state.gdtr = TableRegister { base: GDT, limit: 0x2f };
        state.idtr = TableRegister { base: IDT, limit: 0x7ff };
        state.cr0 = CR0_PE | CR0_ET;
        if features.has(Feature::Paging) {
            state.cr0 |= CR0_PG;
            state.cr3 = DIRECTORIES[0];
        }
        let load = |selector: u16| {
            Segment::from_descriptor(selector, Descriptor(image.get64(GDT + (selector & !7) as u32)))
        };
        state.segs = [load(DATA_SELECTOR); 6];
        state.segs[CS] = load(CODE_SELECTOR);
        state.tr = load(TSS_SELECTOR);
        state.ldtr = Segment::null(0);
        state.cpl = 3;
        state.eip = writer.start - CODE;
        let mut draw = random(purpose::REGISTERS);
        for register in 0..8 {
            state.regs.set_dword(register, draw.below(0x1_0000));
        }
        state.regs.set_dword(ESP, STACKS - DATA + 0x3f00);
        let mut value = draw.dword() & flags::ARITHMETIC | flags::IF;
        if features.has(Feature::Flags) {
            // (I/O privilege below its ring: the ports of the reset and of DMA would show it, or change, all of memory)
            value |= draw.dword() & (flags::IOPL & 2 << 12 | flags::AC | flags::ID | flags::DF);
        }
        if features.has(Feature::Trap) {
            value |= flags::TF;
        }
        state.flags.set(value, PROCESSOR.flags_mask());
        let mut events = super::state::events(features, &mut random(purpose::EVENTS));
        // (after a reset it runs in real mode, where it sees all of memory)
        events.retain(|(_, event)| *event != Event::Reset);
        Plan {
            memory: image.0,
            state,
            model: PROCESSOR,
            geometry: Geometry::default(),
            prefill: Vec::new(),
            stale: Vec::new(),
            events,
            program,
            style,
        }
    }

    fn tables(&self, image: &mut Image, base: u32, narrow: bool, random: &mut Random) {
        let (big, stack) = if narrow { (0, random.pick(&[0, 4])) } else { (4, 4) };
        let put =
            |image: &mut Image, selector: u16, value: u64| image.put64(GDT + (selector & !7) as u32, value);
        put(image, CODE_SELECTOR, descriptor(base, BYTES - 1, 0xf9, big));
        put(image, DATA_SELECTOR, descriptor(DATA, 0xffff, 0xf3, stack));
        put(image, KERNEL_CODE, descriptor(0, 0xf_ffff, 0x99, 0xc));
        put(image, KERNEL_DATA, descriptor(DATA, 0xffff, 0x93, 4));
        put(image, TSS_SELECTOR, descriptor(TSS[0], 0x67, 0x8b, 0));
        image.put32(TSS[0] + 4, STACKS - DATA + 0x7f00);
        image.put16(TSS[0] + 8, KERNEL_DATA);
        // no I/O permission bitmap
        image.put16(TSS[0] + 0x66, 0x68);
        // on past what faulted, more or less; one of each kind
        for (slot, code) in [(0u32, false), (1, true)] {
            let mut handler = if code { vec![0x83, 0xc4, 4] } else { Vec::new() };
            handler.extend([0x83, 0x04, 0x24, 1 + random.below(4) as u8, 0xcf]);
            image.put(HANDLERS32 + slot * SLOT, &handler);
        }
        image.put(HANDLERS32 + 2 * SLOT, &[0xcf]);
        for vector in 0..256u32 {
            let slot = match vector {
                // traps and interrupts return to where they came
                1 | 2 | 0x20.. => 2,
                _ => tables::has_code(vector) as u32,
            };
            image.put64(IDT + vector * 8, gate(KERNEL_CODE, HANDLERS32 + slot * SLOT, 0xee, 0));
        }
        // memory to itself, accessed and dirty
        image.put32(DIRECTORIES[0], TABLES[0] | 0x67);
        for page in 0..1024 {
            image.put32(TABLES[0] + page * 4, page << 12 | 0x67);
        }
    }

    /// Runs it at each place.
    pub fn check(&self, prepare: &impl Prepare) -> Result<u64, String> {
        // at each place in another way, the last two as the first
        let ways = [Way::Bare, Way::Steps, Way::Run, Way::Run];
        let run = |shift: u32, way: Way| go(&self.plan(shift), way, self.until, self.seed, false, prepare);
        let (Ended::Alone(first), base) = (run(0, Way::Run), CODE) else { return Ok(0) };
        for (&shift, way) in self.shifts.iter().zip(ways.into_iter().cycle()) {
            let Ended::Alone(mut other) = run(shift, way) else { return Ok(0) };
            let cpu = &mut other.processor.cpu;
            let code = &mut cpu.state.segs[CS];
            if code.base == base + shift {
                let attributes = code.attributes;
                *code = Segment::new(code.selector, base, code.limit, attributes);
            }
            let (a, b) = (&first.processor.cpu, &*cpu);
            let data = |counters: &pagewalk_x86::mmu::tlb::Counters| {
                let hits = counters.hits.map(|row| [row[0], row[1]]);
                (hits, counters.misses.map(|row| [row[0], row[1]]), counters.dirty_walks, counters.faults)
            };
            let memory = |bytes: &[u8]| bytes[DATA as usize..].to_vec();
            let what = if a.state != b.state {
                let (a, b) = (format!("{:#x?}", a.state), format!("{:#x?}", b.state));
                let lines = a.lines().zip(b.lines()).filter(|(a, b)| a != b).take(8);
                lines.map(|(a, b)| format!("{} | {}; ", a.trim(), b.trim())).collect()
            } else if first.stops != other.stops {
                format!("stops: {:?} | {:?}", first.stops, other.stops)
            } else if data(&a.tlb.counters) != data(&b.tlb.counters) {
                format!("counters: {:?} | {:?}", a.tlb.counters, b.tlb.counters)
            } else if memory(a.bus.ram().bytes()) != memory(b.bus.ram().bytes()) {
                "memory".to_string()
            } else if a.bus.accesses != b.bus.accesses || a.deliveries != b.deliveries {
                "ports or deliveries".to_string()
            } else {
                continue;
            };
            return Err(format!("at {:#x} and at {base:#x}: {what}", base + shift));
        }
        Ok(first.processor.cpu.retired)
    }

    /// A smaller program that fails too.
    pub fn shrink(&self, prepare: &impl Prepare) -> Mismatch {
        let fails = |places: &Places| places.check(prepare).is_err();
        let fewer = |places: &Places| -> Vec<Places> {
            (1..places.until).map(|until| Places { until, ..places.clone() }).collect()
        };
        let simpler = |places: &Places| -> Vec<Places> {
            let each = places.shifts.iter().map(|&shift| Places { shifts: vec![shift], ..places.clone() });
            let pieces = (0..NUMBER_OF_PIECES).map(|piece| {
                let mut smaller = places.clone();
                smaller.dropped[piece] = true;
                smaller
            });
            each.chain(pieces).collect()
        };
        let best = shrink_by(self.clone(), &[&fewer, &simpler], &fails);
        let what = best.check(prepare).err().unwrap_or_default();
        let program = super::case::listing(&best.plan(best.shifts[0]));
        Mismatch { case: best.to_string(), text: format!("{program}\n{what}") }
    }
}
