//! Whole states: what a case starts from, made from its seed and its features.

use pagewalk_x86::Processor;
use pagewalk_x86::bus::Bus;
use pagewalk_x86::control::*;
use pagewalk_x86::cpu::{Cpu, State};
use pagewalk_x86::flags;
use pagewalk_x86::mmu::tlb::{FlushCause, Geometry, Policy};
use pagewalk_x86::mmu::walk::{Access, Kind, Privilege};
use pagewalk_x86::model::{ALL, MAX, Model};
use pagewalk_x86::observe::{Asker, Observer};
use pagewalk_x86::random::Random;
use pagewalk_x86::regs::ESP;
use pagewalk_x86::segment::{CS, DS, Descriptor, ES, FS, GS, SS, Segment, TableRegister};

use super::bus::{Event, World};
use super::case::NUMBER_OF_PIECES;
use super::code::{Program, Style, Writer};
use super::features::{Feature, Features, stream};
use super::layout::*;
use super::tables::{self, Image};

/// What a machine is built from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Memory.
    pub memory: Vec<u8>,
    /// All registers.
    pub state: State,
    /// The processor's model.
    pub model: Model,
    /// The TLB's shape.
    pub geometry: Geometry,
    /// What is translated beforehand.
    pub prefill: Vec<(u32, Access)>,
    /// What is then written to memory without the processor's knowledge: address and byte.
    pub stale: Vec<(u32, u8)>,
    /// What comes from outside.
    pub events: Vec<(u64, Event)>,
    /// The program.
    pub program: Program,
    /// How the program's code is to be read.
    pub style: Style,
}

/// The numbers of the purposes that random numbers are drawn for.
pub mod purpose {
    pub const STATE: u64 = 200;
    pub const MEMORY: u64 = 201;
    pub const TABLES: u64 = 202;
    pub const HANDLERS: u64 = 203;
    pub const TASKS: u64 = 204;
    pub const PAGES: u64 = 205;
    pub const REGISTERS: u64 = 206;
    pub const FLAGS: u64 = 207;
    pub const CONTROL: u64 = 208;
    pub const GEOMETRY: u64 = 209;
    pub const PREFILL: u64 = 210;
    pub const EVENTS: u64 = 211;
    pub const SEGMENTS: u64 = 212;
    pub const DEBUG: u64 = 213;
    pub const START: u64 = 214;
}

/// The plan of a seed with these features, without the pieces of `dropped`.
pub fn plan(seed: u64, features: Features, dropped: &[bool]) -> Plan {
    let has = |feature| features.has(feature);
    let random = |purpose| stream(seed, purpose);
    let mut draw = random(purpose::STATE);
    let real = has(Feature::Real);
    let vm86 = has(Feature::Vm86) && !real;
    let ring = match (real, vm86, has(Feature::Ring)) {
        (true, ..) => 0,
        (_, true, _) => 3,
        (.., true) => draw.pick(&[3, 3, 3, 1, 2]),
        _ => 0,
    };
    let style = match (real || vm86, has(Feature::Code16)) {
        (true, _) => Style::Real,
        (_, true) => Style::Protected16,
        _ => Style::Flat,
    };
    let model = if has(Feature::Model) { draw.pick(&ALL) } else { MAX };
    let mut start = random(purpose::START);
    let entry = match (has(Feature::PageEnd), start.flag()) {
        (true, true) => CODE + 0x1000 - start.below(0x30),
        (true, false) => CODE + 0x1000 - start.below(0x200),
        _ => CODE + 0x100,
    };
    let writer = Writer { style, features, count: NUMBER_OF_PIECES, ring, start: entry };

    let mut control = random(purpose::CONTROL);
    let (cr0, cr4, efer) = control_registers(features, &model, real, &mut control);
    let mut image = Image(vec![0; RAM]);
    noise(&mut image, &writer, &mut random(purpose::MEMORY));
    tables::descriptors(&mut image, features, &mut random(purpose::TABLES));
    tables::handlers(&mut image, &writer, features, &mut random(purpose::HANDLERS));
    tables::tasks(&mut image, features, &mut random(purpose::TASKS));
    let protected_pages = cr4 & (CR4_SMEP | CR4_SMAP) != 0;
    tables::pages(&mut image, features, protected_pages, &mut random(purpose::PAGES));

    let program = writer.program(seed, dropped);
    for (at, bytes) in &program.pieces {
        image.put(*at, bytes);
    }

    let mut state = State::reset(&model);
    state.cr0 = cr0;
    state.cr4 = cr4;
    state.msrs.efer = efer;
    state.gdtr = TableRegister { base: GDT, limit: GDT_LIMIT };
    state.idtr =
        TableRegister { base: if real { 0 } else { IDT }, limit: if real { 0x3ff } else { IDT_LIMIT } };
    state.ldtr = Segment::from_descriptor(LDT_SELECTOR, Descriptor(image.get64(GDT + LDT_SELECTOR as u32)));
    let tss = TSS_SELECTORS[0];
    state.tr = Segment::from_descriptor(tss, Descriptor(image.get64(GDT + tss as u32)));
    if !has(Feature::Tables) {
        debug_assert_eq!(state.tr.kind(), 11, "a busy 32-bit TSS");
    }
    state.tr = Segment::new(tss, state.tr.base, state.tr.limit, state.tr.attributes | 2);
    state.msrs.sysenter_cs = code32(0) as u32;
    state.msrs.sysenter_eip = HANDLERS32;
    state.msrs.sysenter_esp = tables::stack_of(0) - 0x400;
    if has(Feature::Paging) && !real {
        let table = draw.below(2) as usize;
        if cr4 & CR4_PAE != 0 {
            state.cr3 = PDPTS[table];
            state.pdptes = std::array::from_fn(|n| image.get64(PDPTS[table] + n as u32 * 8));
        } else {
            state.cr3 = DIRECTORIES[table];
        }
    }
    state.cpl = ring as u8;
    segments(&mut state, &image, &writer, features, vm86, &mut random(purpose::SEGMENTS));
    state.eip = if style == Style::Flat { entry } else { entry - CODE };
    registers(&mut state, &writer, &mut random(purpose::REGISTERS));
    eflags(&mut state, features, vm86, &model, &mut random(purpose::FLAGS));
    if has(Feature::Breakpoints) {
        debug_registers(&mut state, &writer, &mut random(purpose::DEBUG));
    }

    let mut shape = random(purpose::GEOMETRY);
    let geometry = if has(Feature::Geometry) { geometry(&mut shape) } else { Geometry::default() };
    let (mut prefill, mut stale) = (Vec::new(), Vec::new());
    let mut warm = random(purpose::PREFILL);
    if has(Feature::Prefill) && cr0 & CR0_PG != 0 {
        for _ in 0..4 + warm.below(60) {
            prefill.push((writer.somewhere(&mut warm), random_access(&mut warm, ring)));
        }
        for _ in 0..if has(Feature::Stale) { 1 + warm.below(12) } else { 0 } {
            let linear = writer.somewhere(&mut warm);
            let entry = match (cr4 & CR4_PAE != 0, warm.once_in(4)) {
                (true, _) => PAE_TABLES[0] + (linear >> 12 & 511) * 8,
                (_, true) => DIRECTORIES[0] + (linear >> 22) * 4,
                _ => TABLES[0] + (linear >> 12 & 1023) * 4,
            };
            let at = entry + warm.below(3);
            stale.push((at, image.0[at as usize] ^ warm.pick(&[1, 2, 4, 0x10, 0x20, 0x40, 0x80])));
        }
    }
    let events = events(features, &mut random(purpose::EVENTS));
    Plan { memory: image.0, state, model, geometry, prefill, stale, events, program, style }
}

/// Memory before anything stands in it.
fn noise(image: &mut Image, writer: &Writer, random: &mut Random) {
    for first in [DATA, BANKS, ROM] {
        let len = if first == ROM { WINDOW_BYTES } else { 2 * WINDOW_BYTES };
        for at in (first..first + len).step_by(8) {
            let value = match random.below(6) {
                0 => random.bits() & 0xff_0000_00ff,
                1 => 0,
                2 => writer.somewhere(random) as u64 | (writer.selector(random) as u64) << 32,
                _ => random.bits(),
            };
            image.put64(at, value);
        }
    }
    // the program's 64 KiB: a slide of INC and DEC, so that control that went astray comes back
    image.0[CODE as usize..(CODE + CODE_BYTES) as usize].fill(0x90);
    for at in (CODE..CODE + CODE_BYTES).step_by(16) {
        image.put(at, &[0x40 | random.below(16) as u8]);
    }
    // behind it a jump to its beginning
    image.put(CODE + CODE_BYTES - 3, &[0xe9, 0, 0x82]);
    // code in the banks: a few instructions, then RET
    for bank in [BANKS, BANKS + WINDOW_BYTES, ROM] {
        for at in (bank..bank + 0x800).step_by(16) {
            let register = random.below(8) as u8;
            let middle = [0x40 | register, random.pick(&[0x41, 0x49, 0x90]), 0x90, 0x42, 0xc3];
            image.put(at, &middle);
        }
    }
    // return addresses and good frames on the stacks
    for ring in 0..8 {
        for at in (0xe00..0x1000).step_by(4) {
            let value = match random.below(4) {
                0 => CODE + 0x100 + random.below(0x100),
                1 => code32(random.below(4)) as u32,
                2 => random.dword() & 0xed5,
                _ => random.dword(),
            };
            image.put32(STACKS + ring * 0x1000 + at, value);
        }
    }
}

fn control_registers(features: Features, model: &Model, real: bool, random: &mut Random) -> (u32, u32, u64) {
    let has = |feature| features.has(feature);
    let mut cr0 = CR0_ET;
    let mut cr4 = 0;
    let mut efer = 0;
    if !real {
        cr0 |= CR0_PE;
        if has(Feature::Paging) {
            cr0 |= CR0_PG;
        }
    }
    if has(Feature::Pae) {
        cr4 |= CR4_PAE;
    }
    if has(Feature::LargePages) {
        cr4 |= CR4_PSE;
    }
    if has(Feature::GlobalPages) {
        cr4 |= CR4_PGE;
    }
    if has(Feature::NoExecute) {
        efer |= EFER_NXE;
    }
    if has(Feature::Protections) {
        cr0 |= random.pick(&[0, CR0_WP]);
        cr4 |= random.pick(&[0, CR4_SMEP]) | random.pick(&[0, CR4_SMAP]);
    }
    if has(Feature::Control) {
        cr0 |= random.dword() & (CR0_AM | CR0_NE | CR0_MP);
        cr0 |= random.pick(&[0, 0, CR0_TS, CR0_EM, CR0_CD, CR0_CD | CR0_NW]);
        cr4 |= random.dword() & (CR4_VME | CR4_PVI | CR4_DE | CR4_PCE | CR4_MCE);
        cr4 |= random.pick(&[0, 0, CR4_TSD, CR4_UMIP]);
    }
    (cr0 & model.cr0_mask(), cr4 & model.cr4_mask(), efer)
}

fn segments(
    state: &mut State,
    image: &Image,
    writer: &Writer,
    features: Features,
    vm86: bool,
    random: &mut Random,
) {
    if writer.style == Style::Real {
        let dpl = if vm86 { 3 } else { 0 };
        let mut selectors = [(CS, 0x2000), (SS, 0x3000), (DS, 0x3000), (ES, 0x2000), (FS, 0), (GS, 0x7000)];
        if features.has(Feature::Segments) {
            selectors[2 + random.below(4) as usize].1 = writer.selector(random);
        }
        for (register, selector) in selectors {
            state.segs[register] = Segment::real(selector, dpl);
        }
        return;
    }
    let ring = writer.ring;
    let load = |selector: u16| {
        let at = if selector & 4 != 0 { LDT } else { GDT } + (selector & !7) as u32;
        Segment::from_descriptor(selector, Descriptor(image.get64(at)))
    };
    let wide = writer.style == Style::Flat;
    state.segs[CS] = load(if wide { code32(ring) } else { code16(ring) });
    let stack_is_wide = wide != random.once_in(8);
    state.segs[SS] = load(if stack_is_wide { data32(ring) } else { data16(ring) });
    for register in [DS, ES, FS, GS] {
        state.segs[register] = load(data32(ring));
    }
    state.segs[GS] = load(data16(ring));
    if !features.has(Feature::Segments) {
        return;
    }
    for register in [DS, ES, GS] {
        let selector = match random.below(6) {
            0..3 => ODD + 8 * random.below(ODDS as u32) as u16,
            3 => (random.below(16) << 3) as u16 | 4,
            4 => 0,
            _ => data16(ring),
        } | ring as u16;
        let segment = load(selector);
        let readable = segment.is_segment() && segment.kind() & 0xa != 8;
        state.segs[register] = match (selector & !3, readable && segment.attributes & 0x80 != 0) {
            (0, _) => Segment::null(selector),
            (_, true) => segment,
            _ => load(data32(ring)),
        };
    }
}

fn registers(state: &mut State, writer: &Writer, random: &mut Random) {
    for register in 0..8 {
        let linear = match random.below(6) {
            0 => random.dword(),
            1 => random.below(64),
            _ => writer.somewhere(random),
        };
        state.regs.set_dword(register, if writer.style == Style::Flat { linear } else { linear & 0xffff });
    }
    let top = STACKS + 0x1000 * random.below(4) + 0xf00 + 2 * random.below(8);
    let esp = if state.segs[SS].base == 0 { top } else { top.wrapping_sub(state.segs[SS].base) };
    state.regs.set_dword(ESP, esp | random.once_in(16) as u32);
}

fn eflags(state: &mut State, features: Features, vm86: bool, model: &Model, random: &mut Random) {
    let mut value = random.dword() & (flags::ARITHMETIC | flags::IF);
    if features.has(Feature::Interrupts) {
        value |= flags::IF;
    }
    if random.once_in(8) {
        value |= flags::DF;
    }
    if features.has(Feature::Flags) {
        value |= random.dword() & (flags::IOPL | flags::AC | flags::ID);
        value |= random.pick(&[0, 0, 0, flags::NT, flags::VIF, flags::VIF | flags::VIP, flags::RF]);
    }
    if features.has(Feature::Trap) {
        value |= flags::TF;
    }
    if vm86 {
        value |= flags::VM | random.pick(&[0, flags::IOPL, flags::IOPL]);
    }
    state.flags.set(value, model.flags_mask());
}

fn debug_registers(state: &mut State, writer: &Writer, random: &mut Random) {
    for n in 0..4 {
        state.dr[n] = match random.below(3) {
            0 => CODE + 0x100 + random.below(0x80),
            1 => state.eip.wrapping_add(state.segs[CS].base) + random.below(64),
            _ => writer.somewhere(random),
        };
        if random.flag() {
            let control = random.below(16);
            state.dr[7] |= random.pick(&[1, 2, 3]) << (n * 2) | control << (16 + n * 4);
        }
    }
    if random.once_in(6) {
        state.dr[7] |= DR7_GD;
    }
}

fn geometry(random: &mut Random) -> Geometry {
    let entries = 1 << random.below(6);
    Geometry {
        entries,
        ways: (1 << random.below(4)).min(entries),
        large: random.pick(&[0, 1, 2, 8]),
        split: random.flag(),
        policy: random.pick(&[Policy::Lru, Policy::Plru, Policy::Fifo, Policy::Random]),
        tagged: random.once_in(4),
    }
}

fn random_access(random: &mut Random, ring: u32) -> Access {
    let program = if ring == 3 { Privilege::User } else { Privilege::Supervisor { ac: false } };
    Access {
        kind: random.pick(&[Kind::Read, Kind::Write, Kind::Fetch]),
        privilege: if random.once_in(4) { Privilege::Implicit } else { program },
    }
}

/// What comes from outside.
pub fn events(features: Features, random: &mut Random) -> Vec<(u64, Event)> {
    let mut events = Vec::new();
    if features.has(Feature::Interrupts) {
        for _ in 0..1 + random.below(6) {
            let event = match random.below(8) {
                0 => Event::Nmi,
                1 => Event::Interrupt(random.dword() as u8),
                _ => Event::Interrupt(0x20 + random.below(0x20) as u8),
            };
            events.push((random.below(250) as u64, event));
        }
    }
    if features.has(Feature::Dma) {
        for _ in 0..1 + random.below(4) {
            let at = match random.below(4) {
                0 => TABLES[0] + random.below(0x400) * 4,
                1 => DATA + random.below(DATA_BYTES),
                _ => CODE + 0x1000 * random.below(2) + random.below(0x400),
            };
            let bytes = (0..1 + random.below(8)).map(|_| 0x40 | (random.dword() as u8 & 15)).collect();
            events.push((random.below(250) as u64, Event::Dma { at, bytes }));
        }
    }
    if features.has(Feature::Window) {
        for _ in 0..random.below(3) {
            events.push((random.below(250) as u64, Event::Bank(random.below(4))));
        }
    }
    if features.has(Feature::Interrupts) && random.once_in(40) {
        events.push((random.below(250) as u64, Event::Reset));
    }
    events
}

impl Plan {
    /// A processor that is about to run the plan.
    pub fn build<O: Observer>(&self, observer: O) -> Processor<World, O> {
        let world = World::new(&self.memory, self.events.clone());
        let mut processor = Processor::new(self.model, self.geometry, world, observer);
        install(&mut processor.cpu, self);
        processor
    }
}

/// Puts registers, TLB and what is stale into a processor whose memory holds the plan's. Time goes on.
pub fn install<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, plan: &Plan) {
    let (retired, clock, delivered_at) = (cpu.retired, cpu.clock, cpu.delivered_at);
    cpu.state = State { retired, clock, delivered_at, ..plan.state.clone() };
    cpu.flush_tlb_all(FlushCause::Reset);
    cpu.update_context();
    for &(linear, access) in &plan.prefill {
        let asker = if access.kind == Kind::Fetch { Asker::Fetch { eip: linear } } else { Asker::Tss };
        if let Err(raised) = cpu.translate_page(linear, 1, access, asker) {
            // nobody hears of it
            cpu.take_pending(raised);
        }
    }
    for &(at, byte) in &plan.stale {
        cpu.bus.ram_mut().write(at as usize, &[byte]);
    }
}
