//! Runs cases in pagewalk, in a processor set up as Linux sets up the host's for a 32-bit program.
//!
//! The processor is at CPL 3 with the world's pages and tables, and everything else is the kernel's: an IDT whose gates
//! lead to one HLT each, a TSS with a stack, page tables. A case ends in one of these HLTs: behind its code the far jump
//! to [`RETURN`] finds no page there; any other fault is the case's own, and its frame is on the kernel's stack.

use pagewalk_x86::Processor;
use pagewalk_x86::bus::Bus;
use pagewalk_x86::cpu::Activity;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::flat::FlatBus;
use pagewalk_x86::mmu::tlb::Geometry;
use pagewalk_x86::segment::{self, CS, Segment, TableRegister};

use crate::MODEL;
use crate::case::{Case, End, Outcome};
use crate::world::{FLAT_CODE, FLAT_DATA, PAGE, PAGES, RETURN, RUNNER, Rights, World, selector, trailer};

/// Why a case is not compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub enum Dropped {
    /// It touches what the native runner keeps for itself.
    TouchesRunner,
    /// It asks the kernel for something: INT 80h, SYSENTER, SYSCALL.
    SystemCall,
    /// It runs too long.
    Endless,
    /// It has an instruction that pagewalk does not implement.
    Unimplemented,
}

impl Dropped {
    /// One clause for figures and errors.
    pub fn sentence(self) -> &'static str {
        match self {
            Dropped::TouchesRunner => "it touches what the native runner keeps for itself",
            Dropped::SystemCall => "it asks the kernel for something",
            Dropped::Endless => "it runs too long",
            Dropped::Unimplemented => "it has an instruction that pagewalk does not implement",
        }
    }
}

/// What pagewalk made of a case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Run {
    /// To be compared.
    Ended(Outcome),
    /// Not to be run natively.
    Dropped(Dropped),
}

/// No case needs as many instructions.
const MOST: u64 = 4096;

// the kernel's part of the linear address space, in the range that cases leave alone, and of physical memory
const SYSTEM: u32 = 0x7000_0000;
const GDT: u32 = SYSTEM;
const IDT: u32 = SYSTEM + 0x800;
const TSS: u32 = SYSTEM + 0x1000;
const HANDLERS: u32 = SYSTEM + 0x2000;
const KERNEL_STACK: u32 = SYSTEM + 0x4000;
const LDT: u32 = SYSTEM + 0x4000;
const SYSTEM_PAGES: u32 = 20;

/// The x87 and SSE state of a program that has not touched it: as after FNINIT, and MXCSR as after a reset.
const FPU_AT_START: [u8; 512] = {
    let mut image = [0; 512];
    (image[0], image[1]) = (0x7f, 0x03);
    (image[24], image[25]) = (0x80, 0x1f);
    image
};

const KERNEL_CODE: u16 = 0x10;
const KERNEL_DATA: u16 = 0x18;
const TSS_SELECTOR: u16 = 0x40;
const LDT_SELECTOR: u16 = 0x50;
const SYSTEM_CALL: u8 = 0x80;

/// pagewalk, ready to run cases of one world.
pub struct Ours {
    world: World,
    processor: Processor<FlatBus, ()>,
    /// What memory held before the case, page by page; [`Ours::patterns`] is what it holds between cases.
    before: Vec<Vec<u8>>,
    patterns: Vec<Vec<u8>>,
    /// Segment registers as loaded from the selectors that occur.
    segments: Vec<Segment>,
}

/// Physical page of the n-th page of the world.
fn page_offset(n: usize) -> usize {
    0x40_000 + n * PAGE as usize
}

/// Physical page tables: the PDPT, four directories, then the tables in the order they are needed.
struct Tables {
    pdpt: usize,
    directories: usize,
    next: usize,
}

impl Tables {
    fn new(bus: &mut FlatBus) -> Tables {
        let tables = Tables { pdpt: 0x1000, directories: 0x2000, next: 0x6000 };
        for n in 0..4 {
            let entry = (tables.directories + n * 0x1000) as u64 | 1;
            bus.ram_mut().write(tables.pdpt + n * 8, &entry.to_le_bytes());
        }
        tables
    }

    fn map(&mut self, bus: &mut FlatBus, linear: u32, offset: usize, rights: u64) {
        let directory = self.directories + (linear >> 30) as usize * 0x1000;
        let pde_at = directory + (linear >> 21 & 511) as usize * 8;
        let mut pde = u64::from_le_bytes(bus.ram().read(pde_at));
        if pde == 0 {
            pde = self.next as u64 | 0x67;
            bus.ram_mut().write(pde_at, &pde.to_le_bytes());
            self.next += 0x1000;
        }
        let pte_at = (pde & !0xfff) as usize + (linear >> 12 & 511) as usize * 8;
        bus.ram_mut().write(pte_at, &(offset as u64 | rights).to_le_bytes());
    }
}

/// A system offset's place in physical memory.
fn system(linear: u32) -> usize {
    0x20_000 + (linear - SYSTEM) as usize
}

impl Ours {
    /// A processor set up for cases of a world.
    pub fn new(world: &World) -> Ours {
        let mut bus = FlatBus::new(0x60_000);
        let mut tables = Tables::new(&mut bus);
        for n in 0..SYSTEM_PAGES {
            let linear = SYSTEM + n * PAGE;
            tables.map(&mut bus, linear, system(linear), 0x63);
        }
        let patterns: Vec<Vec<u8>> = PAGES.iter().map(|&(at, _)| world.pattern(at)).collect();
        for (n, (at, rights)) in PAGES.into_iter().enumerate() {
            bus.ram_mut().write(page_offset(n), &patterns[n]);
            let rights = match rights {
                Rights::All => 0x67,
                Rights::ReadOnly => 0x65,
                Rights::None => 0,
            };
            tables.map(&mut bus, at, page_offset(n), rights);
        }
        write_system_tables(&mut bus, world);
        let mut processor = Processor::new(MODEL, Geometry::default(), bus, ());
        let cpu = &mut processor.cpu;
        cpu.cr3 = tables.pdpt as u32;
        for n in 0..4 {
            cpu.pdptes[n] = (tables.directories + n * 0x1000) as u64 | 1;
        }
        // as Linux has them: PG, AM, WP, NE, ET, MP, PE; UMIP, OSXMMEXCPT, OSFXSR, PGE, PAE; EFER.NXE
        cpu.cr0 = 0x8005_0033;
        cpu.cr4 = 0x0000_0ea0;
        cpu.msrs.efer = 0x800;
        cpu.gdtr = TableRegister { base: GDT, limit: 0x7f };
        cpu.idtr = TableRegister { base: IDT, limit: 0x7ff };
        cpu.tr = Segment::new(TSS_SELECTOR, TSS, 0x67, 0x8b);
        cpu.ldtr = Segment::new(LDT_SELECTOR, LDT, (world.ldt.len() * 8).wrapping_sub(1) as u32, 0x82);
        let mut ours =
            Ours { world: world.clone(), processor, before: patterns.clone(), patterns, segments: vec![] };
        ours.segments = (0..world.ldt.len()).map(|n| ours.segment_of(selector(n))).collect();
        ours
    }

    /// The processor, for a test to tamper with.
    pub fn processor(&mut self) -> &mut Processor<FlatBus, ()> {
        &mut self.processor
    }

    fn segment_of(&self, selector: u16) -> Segment {
        match self.world.descriptor(selector) {
            _ if selector & !3 == 0 => Segment::null(selector),
            Some(descriptor) => Segment::from_descriptor(selector, segment::Descriptor(descriptor.bits())),
            None if selector | 3 == FLAT_CODE => Segment::new(selector, 0, u32::MAX, 0xc0fb),
            None => Segment::new(selector, 0, u32::MAX, 0xc0f3),
        }
    }

    /// The hidden part that a selector loads.
    fn segment(&self, selector: u16) -> Segment {
        let entry = (selector >> 3) as usize;
        match self.segments.get(entry) {
            Some(segment) if segment.selector == selector => *segment,
            _ => self.segment_of(selector),
        }
    }

    /// Runs a case.
    pub fn run(&mut self, case: &Case) -> Run {
        for (at, bytes) in &case.memory {
            self.put(*at, bytes);
        }
        self.put(case.at, &case.code);
        let end = case.at.wrapping_add(case.code.len() as u32);
        self.put(end, &trailer(self.world.is_big(case.selectors[CS])));
        self.load(case);
        let until = self.processor.cpu.retired + MOST;
        let stop = self.processor.run(until);
        let run = self.outcome(case, &stop);
        self.clean(case, end);
        run
    }

    /// The state that a case starts in.
    fn load(&mut self, case: &Case) {
        let segments = case.selectors.map(|selector| self.segment(selector));
        let cpu = &mut self.processor.cpu;
        for (n, value) in case.regs.into_iter().enumerate() {
            cpu.regs.set_dword(n as u8, value);
        }
        cpu.segs = segments;
        cpu.eip = self.world.eip(case);
        cpu.activity = Activity::Running;
        cpu.shadow = Default::default();
        cpu.debug_trap = 0;
        cpu.delivered_at = None;
        cpu.flags.set(case.eflags | 0x202, u32::MAX);
        cpu.state.load_fxsave(case.fpu.as_deref().unwrap_or(&FPU_AT_START));
        cpu.set_cpl(3);
        // the kernel's IRET serializes: nothing prefetched is left
        cpu.leave_block();
        cpu.update_context();
    }

    fn outcome(&mut self, case: &Case, stop: &Stop) -> Run {
        let cpu = &self.processor.cpu;
        match stop {
            Stop::Halted => {}
            Stop::Unimplemented { .. } => return Run::Dropped(Dropped::Unimplemented),
            _ => return Run::Dropped(Dropped::Endless),
        }
        let vector = cpu.eip.wrapping_sub(HANDLERS + 1) as u8;
        let has_code = matches!(vector, 8 | 10..=14 | 17);
        let words = if has_code { 6 } else { 5 };
        let dword = |n: u32| -> u32 {
            u32::from_le_bytes(cpu.bus.ram().read(system(KERNEL_STACK - 4 * words) + 4 * n as usize))
        };
        let code = if has_code { dword(0) } else { 0 };
        let [eip, cs, eflags, esp, ss] = [0, 1, 2, 3, 4].map(|n| dword(n + words - 5));
        let mut regs: [u32; 8] = std::array::from_fn(|n| cpu.regs.dword(n as u8));
        regs[4] = esp;
        let mut selectors: [u16; 6] = std::array::from_fn(|n| cpu.segs[n].selector);
        (selectors[1], selectors[2]) = (cs as u16, ss as u16);
        let cr2 = if vector == 14 { cpu.cr2 } else { 0 };
        let mut outcome = Outcome {
            end: End::Fault { vector, code, cr2 },
            regs,
            eip,
            eflags,
            selectors,
            written: vec![],
            fpu: None,
        };
        // a jump there may trap before it fetches
        let linear = self.segment(cs as u16).base.wrapping_add(eip);
        if vector == 14 && eip == RETURN && cr2 == RETURN && cs as u16 == FLAT_CODE {
            outcome.end = End::Fell;
            outcome.eip = self.world.eip(case).wrapping_add(case.code.len() as u32);
            outcome.eflags &= !0x1_0000;
            outcome.selectors[1] = case.selectors[1];
        } else if (vector == 14 && RUNNER.contains(&cr2)) || (linear != RETURN && RUNNER.contains(&linear)) {
            return Run::Dropped(Dropped::TouchesRunner);
        } else if vector == SYSTEM_CALL || self.is_system_call(vector, cs as u16, eip) {
            return Run::Dropped(Dropped::SystemCall);
        }
        // a signal with ESP in the runner's signal stack would be taken for one within a handler
        if [case.regs[4], esp].iter().any(|esp| RUNNER.contains(esp)) {
            return Run::Dropped(Dropped::TouchesRunner);
        }
        if let Some(before) = &case.fpu {
            let mut image = before.clone();
            cpu.state.store_fxsave(&mut image, cpu.model.mxcsr_mask());
            outcome.fpu = Some(image);
        }
        outcome.written = self.written();
        Run::Ended(outcome)
    }

    /// SYSENTER and SYSCALL fault here, where no kernel set them up, and enter the kernel natively.
    fn is_system_call(&self, vector: u8, cs: u16, eip: u32) -> bool {
        let linear = self.segment(cs).base.wrapping_add(eip);
        let bytes: Vec<u8> = (0..15).map_while(|n| self.byte(linear.wrapping_add(n))).collect();
        let is_prefix = |b: &&u8| matches!(**b, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
        let opcode = &bytes[bytes.iter().take_while(is_prefix).count()..];
        matches!(vector, 6 | 13) && matches!(opcode, [0x0f, 0x05 | 0x07 | 0x34 | 0x35, ..])
    }

    /// A byte of the world's memory.
    fn byte(&self, linear: u32) -> Option<u8> {
        let n = PAGES.iter().position(|&(at, _)| linear.wrapping_sub(at) < PAGE)?;
        Some(self.processor.cpu.bus.ram().bytes()[page_offset(n) + (linear & (PAGE - 1)) as usize])
    }

    /// What memory holds that it did not hold before the case.
    fn written(&self) -> Vec<(u32, Vec<u8>)> {
        const LINE: usize = 64;
        let mut runs: Vec<(u32, Vec<u8>)> = Vec::new();
        for (n, (at, rights)) in PAGES.into_iter().enumerate() {
            let now = self.processor.cpu.bus.ram().slice(page_offset(n), PAGE as usize);
            let before = &self.before[n][..];
            if rights != Rights::All || now == before {
                continue;
            }
            let lines = now.chunks_exact(LINE).zip(before.chunks_exact(LINE)).enumerate();
            for (line, (now, before)) in lines.filter(|(_, (now, before))| now != before) {
                for (i, byte) in now.iter().enumerate().filter(|&(i, byte)| *byte != before[i]) {
                    let address = at + (line * LINE + i) as u32;
                    match runs.last_mut() {
                        Some((start, run)) if *start + run.len() as u32 == address => run.push(*byte),
                        _ => runs.push((address, vec![*byte])),
                    }
                }
            }
        }
        runs
    }

    /// Writes memory as it is before a case.
    fn put(&mut self, at: u32, bytes: &[u8]) {
        for (n, (page, _)) in PAGES.into_iter().enumerate() {
            let (start, end) = (at.max(page), (at + bytes.len() as u32).min(page + PAGE));
            if start < end {
                let part = &bytes[(start - at) as usize..(end - at) as usize];
                let offset = (start - page) as usize;
                self.before[n][offset..offset + part.len()].copy_from_slice(part);
                self.processor.cpu.bus.ram_mut().write(page_offset(n) + offset, part);
            }
        }
    }

    /// Makes all memory as it is between cases.
    fn clean(&mut self, case: &Case, end: u32) {
        for (n, (at, _)) in PAGES.into_iter().enumerate() {
            // patched pages differ from their pattern even where nothing was written
            let touches = |start: u32, len: u32| start < at + PAGE && at < start + len;
            let is_patched = touches(case.at, end - case.at + 8)
                || case.memory.iter().any(|(start, bytes)| touches(*start, bytes.len() as u32));
            let now = self.processor.cpu.bus.ram().slice(page_offset(n), PAGE as usize);
            if !is_patched && now == &self.patterns[n][..] {
                continue;
            }
            for line in (0..PAGE as usize).step_by(64) {
                let pattern = &self.patterns[n][line..line + 64];
                let offset = page_offset(n) + line;
                if self.processor.cpu.bus.ram().slice(offset, 64) != pattern {
                    self.processor.cpu.bus.ram_mut().write(offset, pattern);
                }
                if is_patched {
                    self.before[n][line..line + 64].copy_from_slice(pattern);
                }
            }
        }
    }
}

/// GDT, IDT, LDT, TSS and the handlers.
fn write_system_tables(bus: &mut FlatBus, world: &World) {
    let ram = bus.ram_mut();
    let mut put = |linear: u32, bytes: &[u8]| ram.write(system(linear), bytes);
    let system_segment = |base: u32, limit: u64, access: u64| {
        let base = base as u64;
        limit | (base & 0xff_ffff) << 16 | access << 40 | base >> 24 << 56
    };
    for (selector, descriptor) in [
        (KERNEL_CODE, 0x00cf_9b00_0000_ffff),
        (KERNEL_DATA, 0x00cf_9300_0000_ffff),
        // Linux's 64-bit user code, and the segment whose limit is the number of the processor
        (0x30, 0x00af_fb00_0000_ffff),
        (0x78, 0x0040_f500_0000_0000),
        (FLAT_CODE & !3, 0x00cf_fb00_0000_ffff),
        (FLAT_DATA & !3, 0x00cf_f300_0000_ffff),
        (TSS_SELECTOR, system_segment(TSS, 0x67, 0x8b)),
        (LDT_SELECTOR, system_segment(LDT, (world.ldt.len() as u64 * 8).wrapping_sub(1) & 0xffff, 0x82)),
    ] {
        put(GDT + selector as u32, &descriptor.to_le_bytes());
    }
    for (n, descriptor) in world.ldt.iter().enumerate() {
        put(LDT + 8 * n as u32, &descriptor.bits().to_le_bytes());
    }
    for vector in 0..256u32 {
        let dpl = if matches!(vector, 3 | 4) || vector == SYSTEM_CALL as u32 { 3 } else { 0 };
        let offset = (HANDLERS + vector) as u64;
        let gate =
            offset & 0xffff | (KERNEL_CODE as u64) << 16 | (0x8e | dpl << 5) << 40 | offset >> 16 << 48;
        put(IDT + 8 * vector, &gate.to_le_bytes());
    }
    put(HANDLERS, &[0xf4; 256]);
    put(TSS + 4, &KERNEL_STACK.to_le_bytes());
    put(TSS + 8, &(KERNEL_DATA as u32).to_le_bytes());
    // no I/O permission bitmap
    put(TSS + 0x66, &0xffffu16.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::CODE;

    #[test]
    fn a_case_without_an_image_meets_no_exception_of_the_one_before() {
        let mut ours = Ours::new(&World { seed: 1, ldt: vec![] });
        let mut selectors = [FLAT_DATA; 6];
        selectors[CS] = FLAT_CODE;
        let wait = Case { at: CODE, code: vec![0x9b], selectors, ..Case::default() };
        // IE, not masked
        let mut image = Box::new([0; 512]);
        (image[2], image[3]) = (0x81, 0x80);
        let pending = Case { fpu: Some(image), ..wait.clone() };
        let end = |run: Run| match run {
            Run::Ended(outcome) => outcome.end,
            Run::Dropped(reason) => panic!("{reason:?}"),
        };
        assert_eq!(end(ours.run(&pending)), End::Fault { vector: 16, code: 0, cr2: 0 });
        assert_eq!(end(ours.run(&wait)), End::Fell);
    }
}
