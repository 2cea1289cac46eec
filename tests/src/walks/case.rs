//! One case: a setting, tables that come into being as they are read, and a few steps.

use pagewalk_x86::Processor;
use pagewalk_x86::bus::Bus;
use pagewalk_x86::control::*;
use pagewalk_x86::cpu::Cpu;
use pagewalk_x86::fault::{Exec, Fault, Pending};
use pagewalk_x86::flags;
use pagewalk_x86::mmu::tlb::{Counters, FlushCause, Geometry};
use pagewalk_x86::mmu::{Intent, walk};
use pagewalk_x86::model::{Features, MAX, Model};
use pagewalk_x86::observe::{Asker, Cause};
use pagewalk_x86::random::Random;
use pagewalk_x86::segment::{DS, Segment};
use pagewalk_x86::width::Cell;

use super::bus::{FoldedBus, fold};
use super::reference::{Access, Cached, How, Kind, Mode, Page, Setting, Tlb};
use super::tables::Tables;
use super::{Coverage, Mismatch, processor};

type TestCpu = Cpu<FoldedBus, ()>;

/// A processor, and what its memory must hold outside of the entries of the case at hand.
pub struct World {
    processor: Processor<FoldedBus, ()>,
    shape: Geometry,
    shadow: Vec<u8>,
    last: u64,
}

/// One case as it runs.
struct Run<'a> {
    cpu: &'a mut TestCpu,
    random: Random,
    setting: Setting,
    tables: Tables,
    tlb: Tlb,
    /// Linear addresses that accesses are near to.
    near: [u32; 3],
    expected: Counters,
    coverage: &'a mut Coverage,
    /// What was done, where somebody will read it.
    log: Option<String>,
}

/// What differs.
type Check = Result<(), String>;

fn same<T: PartialEq + std::fmt::Debug>(what: impl std::fmt::Display, pagewalk: T, reference: T) -> Check {
    if pagewalk == reference {
        return Ok(());
    }
    Err(format!("{what}\n  pagewalk:  {pagewalk:x?}\n  reference: {reference:x?}"))
}

impl World {
    pub fn new(shape: Geometry, prepare: &impl Fn(&mut Processor<FoldedBus, ()>)) -> World {
        let mut processor = processor(shape);
        for segment in &mut processor.cpu.segs {
            *segment = Segment::new(0x10, 0, u32::MAX, 0xc093);
        }
        prepare(&mut processor);
        let shadow = processor.cpu.bus.ram().bytes().to_vec();
        World { processor, shape, shadow, last: 0 }
    }

    /// Everything that was written was an entry's accessed or dirty flag.
    pub fn nothing_else_was_written(&self) -> Result<(), Mismatch> {
        let now = self.processor.cpu.bus.ram().bytes();
        match (0..now.len()).find(|&at| now[at] != self.shadow[at]) {
            None => Ok(()),
            Some(at) => {
                let text = format!("a case not long before wrote to memory at {at:#x}, where no entry is");
                Err(Mismatch { case: self.last, text })
            }
        }
    }

    pub fn run(&mut self, case: u64, coverage: &mut Coverage, log: bool) -> Result<(), Mismatch> {
        self.last = case;
        let mut random = Random::new(case);
        let maxphyaddr = random.pick(&[32, 36, 40, 46, 52]);
        let model = random_model(&mut random, maxphyaddr);
        let setting = random_setting(&mut random, &model);
        let cpu = &mut self.processor.cpu;
        cpu.model = model;
        cpu.flush_tlb_all(FlushCause::Reset);
        let expected = cpu.tlb.counters.clone();
        let near = std::array::from_fn(|_| random.dword() & !0xfff);
        let tables =
            Tables { seed: random.bits(), maxphyaddr, entries: Vec::new(), fresh: Vec::new(), reads: 0 };
        let tlb = Tlb { cached: Vec::new(), split: self.shape.split, small_only: self.shape.large == 0 };
        let mut run =
            Run { cpu, random, setting, tables, tlb, near, expected, coverage, log: log.then(String::new) };
        let result = run.all();
        let Run { setting, log, tables, .. } = run;
        // what the case leaves behind is the next one's noise
        for (at, bytes, value) in tables.entries {
            let bytes = bytes as usize;
            self.shadow[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
        }
        result.map_err(|what| {
            let text = format!("{setting:x?}\n{:?}\n{}{what}", self.shape, log.unwrap_or_default());
            Mismatch { case, text }
        })
    }
}

/// The newest model with this address width, with or without the features that entries' formats depend on.
fn random_model(random: &mut Random, maxphyaddr: u32) -> Model {
    let mut model = Model { physical_bits: maxphyaddr as u8, ..MAX };
    if random.once_in(3) {
        model.features = model.features.difference(Features::PSE36);
    }
    if random.once_in(4) {
        model.features = model.features.difference(Features::PAT);
    }
    model
}

fn random_setting(random: &mut Random, model: &Model) -> Setting {
    Setting {
        mode: random.pick(&[
            Mode::Bits32,
            Mode::Pae,
            Mode::Bits32,
            Mode::Pae,
            Mode::Bits32,
            Mode::Pae,
            Mode::None,
        ]),
        cr3: random.dword(),
        pdptes: [0; 4],
        wp: random.flag(),
        pse: random.flag(),
        pge: random.flag(),
        smep: random.flag(),
        smap: random.flag(),
        nxe: random.flag(),
        ac: random.flag(),
        cpl: random.pick(&[0, 1, 2, 3, 3, 3]),
        has_pse36: model.has(Features::PSE36),
        has_pat: model.has(Features::PAT),
        maxphyaddr: model.physical_bits as u32,
    }
}

impl Run<'_> {
    fn all(&mut self) -> Check {
        if !self.enter()? {
            return Ok(());
        }
        let steps = 1 + self.random.below(8);
        for _ in 0..steps {
            self.step()?;
            self.counters()?;
        }
        Ok(())
    }

    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        if let Some(log) = &mut self.log {
            log.push_str(&format!("{what}\n"));
        }
    }

    fn cr0(&self) -> u32 {
        let paging = if self.setting.mode == Mode::None { 0 } else { CR0_PG };
        CR0_PE | CR0_ET | paging | if self.setting.wp { CR0_WP } else { 0 }
    }

    fn cr4(&self) -> u32 {
        let s = &self.setting;
        let bits = [
            (s.mode == Mode::Pae, CR4_PAE),
            (s.pse, CR4_PSE),
            (s.pge, CR4_PGE),
            (s.smep, CR4_SMEP),
            (s.smap, CR4_SMAP),
        ];
        bits.into_iter().filter(|(on, _)| *on).fold(0, |sum, (_, bit)| sum | bit)
    }

    /// Puts the processor into the setting by loads of its control registers in some order; false where a PDPTE forbids
    /// the last of them, as the reference agrees.
    fn enter(&mut self) -> Result<bool, String> {
        let (cr0, cr3, cr4) = (self.cr0(), self.setting.cr3, self.cr4());
        let cpu = &mut *self.cpu;
        cpu.cr0 = CR0_PE | CR0_ET;
        cpu.cr3 = 0;
        cpu.cr4 = 0;
        cpu.pdptes = [0; 4];
        cpu.cpl = 0;
        cpu.msrs.efer = if self.setting.nxe { EFER_NXE } else { 0 };
        cpu.flags.set(if self.setting.ac { flags::AC } else { 0 }, flags::AC);
        cpu.update_context();
        self.note(format_args!("cr0 {cr0:#x} cr3 {cr3:#x} cr4 {cr4:#x}"));
        let mut order = ["cr0", "cr3", "cr4"];
        let first = self.random.below(3) as usize;
        order.swap(0, first);
        if self.random.flag() {
            order.swap(1, 2);
        }
        self.setting.cr3 = 0;
        for (n, register) in order.into_iter().enumerate() {
            if register == "cr3" {
                self.setting.cr3 = cr3;
            }
            let in_use = self.setting.mode == Mode::Pae && !order[n + 1..].iter().any(|&r| r != "cr3");
            let pdptes = in_use.then(|| self.read_pdptes());
            let refused = pdptes.is_some_and(|all| all.iter().any(|&one| self.setting.pdpte_is_bad(one)));
            let before = refused.then(|| self.cpu.state.clone());
            let result = match register {
                "cr0" => self.cpu.load_cr0(cr0),
                "cr3" => self.cpu.load_cr3(cr3, FlushCause::MovCr3),
                _ => self.cpu.load_cr4(cr4),
            };
            let fault = fault_of(self.cpu, result);
            let expected = refused.then_some(Fault::GeneralProtection(0));
            same(format_args!("load of {register} with PDPTEs {pdptes:x?}"), fault, expected)?;
            if refused {
                self.coverage.refused += 1;
                same("state after a refused load", Some(&self.cpu.state), before.as_ref())?;
                return Ok(false);
            }
            if let Some(pdptes) = pdptes {
                self.setting.pdptes = pdptes;
            }
        }
        same("the PDPTE registers", self.cpu.pdptes, self.setting.pdptes)?;
        self.cpu.set_cpl(self.setting.cpl);
        self.expected.flushes = self.cpu.tlb.counters.flushes;
        Ok(true)
    }

    /// The PDPTEs that CR3 points to.
    fn read_pdptes(&mut self) -> [u64; 4] {
        let table = self.setting.cr3 as u64 & !0x1f;
        let pdptes = std::array::from_fn(|n| self.tables.pdpte(table + n as u64 * 8));
        self.put_fresh();
        pdptes
    }

    /// Writes entries that were made up into memory.
    fn put_fresh(&mut self) {
        for (at, bytes, value) in std::mem::take(&mut self.tables.fresh) {
            self.cpu.bus.ram_mut().write(at, &value.to_le_bytes()[..bytes as usize]);
        }
    }

    fn step(&mut self) -> Check {
        match self.random.below(32) {
            0..20 => self.access(),
            20..24 => {
                self.change_an_entry();
                Ok(())
            }
            24..27 => {
                let linear = self.linear();
                self.note(format_args!("invlpg {linear:#x}"));
                self.cpu.flush_tlb_page(linear);
                self.tlb.invalidate(linear);
                self.expected.flushes[FlushCause::Invlpg as usize] += 1;
                Ok(())
            }
            27 => {
                let cpl = self.random.pick(&[0, 3]);
                let ac = self.random.flag();
                self.note(format_args!("cpl {cpl}, ac {ac}"));
                (self.setting.cpl, self.setting.ac) = (cpl, ac);
                self.cpu.set_cpl(cpl);
                self.cpu.set_flags(if ac { flags::AC } else { 0 }, flags::AC);
                Ok(())
            }
            28 => {
                // WP changes the rights of what is remembered, and flushes nothing
                self.setting.wp ^= true;
                let cr0 = self.cr0();
                self.note(format_args!("mov cr0, {cr0:#x}"));
                let result = self.cpu.load_cr0(cr0);
                same("mov cr0", fault_of(self.cpu, result), None)
            }
            29 => self.load_cr3(),
            _ => self.load_cr4(),
        }
    }

    fn load_cr3(&mut self) -> Check {
        if self.random.flag() {
            let other = self.random.dword();
            self.setting.cr3 = other;
        }
        let cr3 = self.setting.cr3;
        self.note(format_args!("mov cr3, {cr3:#x}"));
        let old = self.cpu.cr3;
        if !self.reload_pdptes(|cpu| cpu.load_cr3(cr3, FlushCause::MovCr3))? {
            self.setting.cr3 = old;
            return Ok(());
        }
        self.tlb.flush_non_global();
        self.expected.flushes[FlushCause::MovCr3 as usize] += 1;
        Ok(())
    }

    /// PGE, PSE and SMEP from 0 to 1 flush everything; SMEP from 1 to 0 and SMAP do not. All but SMAP reload PDPTEs.
    fn load_cr4(&mut self) -> Check {
        let old = self.setting.clone();
        let (reloads, flushes) = match self.random.below(4) {
            0 => {
                self.setting.pge ^= true;
                (true, true)
            }
            1 => {
                self.setting.pse ^= true;
                (true, true)
            }
            2 => {
                self.setting.smep ^= true;
                (true, self.setting.smep)
            }
            _ => {
                self.setting.smap ^= true;
                (false, false)
            }
        };
        let cr4 = self.cr4();
        self.note(format_args!("mov cr4, {cr4:#x}"));
        let loaded = if reloads {
            self.reload_pdptes(|cpu| cpu.load_cr4(cr4))?
        } else {
            let result = self.cpu.load_cr4(cr4);
            same("mov cr4", fault_of(self.cpu, result), None)?;
            true
        };
        if !loaded {
            self.setting = old;
            return Ok(());
        }
        if flushes {
            self.tlb.cached.clear();
            self.expected.flushes[FlushCause::MovCr4 as usize] += 1;
        }
        Ok(())
    }

    /// A load that reads the PDPTEs again where PAE paging is in use; whether it was carried out.
    fn reload_pdptes(&mut self, load: impl Fn(&mut TestCpu) -> Exec) -> Result<bool, String> {
        let pdptes = (self.setting.mode == Mode::Pae).then(|| self.read_pdptes());
        let refused = pdptes.is_some_and(|all| all.iter().any(|&one| self.setting.pdpte_is_bad(one)));
        let result = load(self.cpu);
        let expected = refused.then_some(Fault::GeneralProtection(0));
        same(format_args!("load with PDPTEs {pdptes:x?}"), fault_of(self.cpu, result), expected)?;
        if refused {
            self.coverage.refused += 1;
        } else if let Some(pdptes) = pdptes {
            self.setting.pdptes = pdptes;
        }
        same("the PDPTE registers", self.cpu.pdptes, self.setting.pdptes)?;
        Ok(!refused)
    }

    /// An entry that was read before holds something else now, mostly not much else.
    fn change_an_entry(&mut self) {
        if self.tables.entries.is_empty() {
            return;
        }
        let n = self.random.below(self.tables.entries.len() as u32) as usize;
        let (at, bytes, old) = self.tables.entries[n];
        let value = match self.random.below(3) {
            0 => old ^ self.random.pick(&[1, 2, 4, 6, 0x20, 0x40, 0x60, 0x80, 0x100]),
            1 => old ^ 1 << self.random.below(bytes * 8),
            _ => self.tables.made_up(self.random.bits(), bytes),
        };
        self.note(format_args!("entry at {at:#x} was {old:#x}, is {value:#x}"));
        self.tables.entries[n].2 = value;
        self.cpu.bus.ram_mut().write(at, &value.to_le_bytes()[..bytes as usize]);
    }

    /// Near to one of the case's addresses: in its page, at its end, or elsewhere in its large page.
    fn linear(&mut self) -> u32 {
        let near = self.random.pick(&self.near);
        match self.random.below(8) {
            0 | 1 => near | (0xff9 + self.random.below(7)),
            2 => near ^ self.random.below(0x40_0000),
            _ => near | self.random.below(0x1000),
        }
    }

    /// An access of any kind and width.
    fn access(&mut self) -> Check {
        let linear = self.linear();
        let intent = self.random.pick(&[Intent::Read, Intent::Write, Intent::ReadWrite]);
        match self.random.below(10) {
            0..3 => self.fetch(linear),
            3 | 4 => self.operand::<u8>(linear, intent),
            5 | 6 => self.operand::<u16>(linear, intent),
            7 => self.operand::<u64>(linear, intent),
            _ => self.operand::<u32>(linear, intent),
        }
    }

    fn fetch(&mut self, linear: u32) -> Check {
        let access = Access { kind: Kind::Fetch, implicit: false };
        let expected = self.translate(linear, access);
        self.note(format_args!("fetch at {linear:#x}: {expected:x?}"));
        let result = self.cpu.translate_fetch(linear, linear);
        let result = result.map(|(_, phys)| phys.0);
        self.settle(&[linear], result, expected.map(|page| page.physical_of(linear)), linear)
    }

    fn operand<W: Cell>(&mut self, linear: u32, intent: Intent) -> Check {
        let kind = if intent == Intent::Read { Kind::Read } else { Kind::Write };
        let access = Access { kind, implicit: self.random.once_in(4) };
        let bytes = W::BYTES;
        // past the segment's limit a program does not come as far as the walk
        let linear = if access.implicit { linear } else { linear.min(u32::MAX - (bytes - 1)) };
        // page by page: the second is not asked for when the first faults
        let second = linear.wrapping_add(bytes - 1) & !0xfff;
        let pages = if second == linear & !0xfff { vec![linear] } else { vec![linear, second] };
        let mut found = Vec::new();
        let mut fault = None;
        for &linear in &pages {
            match self.translate(linear, access) {
                Ok(page) => found.push(page),
                Err(code) => {
                    fault = Some((linear, code));
                    break;
                }
            }
        }
        let who = if access.implicit { "the processor" } else { "the program" };
        self.note(format_args!("{intent:?} by {who}, {bytes} bytes at {linear:#x}: {found:x?} {fault:x?}"));
        let result = if access.implicit {
            self.cpu.system_place::<W>(linear, intent, Asker::Tss)
        } else {
            self.cpu.translate::<W>(DS, linear, intent)
        };
        let result = result.map(|place| self.cpu.load(place).to_u64());
        let expected = match fault {
            Some((_, code)) => Err(code),
            None => Ok((0..bytes).rev().fold(0, |value, n| {
                let linear = linear.wrapping_add(n);
                let page = found[(linear & !0xfff != pages[0] & !0xfff) as usize];
                value << 8 | self.cpu.bus.ram().bytes()[fold(page.physical_of(linear))] as u64
            })),
        };
        self.settle(&pages, result, expected, fault.map_or(0, |(linear, _)| linear))
    }

    /// What the reference says, and what that does to its counters.
    fn translate(&mut self, linear: u32, access: Access) -> Result<Page, u16> {
        self.coverage.accesses += 1;
        let kind = access.kind as usize;
        if self.setting.mode == Mode::None {
            self.coverage.pages[0][0] += 1;
            self.expected.hits[4][kind] += 1;
            return Ok(Page::unpaged(linear));
        }
        let (row, mode) = (self.setting.cpl as usize, self.setting.mode as usize);
        self.tables.reads = 0;
        let (how, result) = self.tlb.translate(&self.setting, &mut self.tables, linear, access);
        self.put_fresh();
        let counters = &mut self.expected;
        match how {
            How::Hit => {
                counters.hits[row][kind] += result.is_ok() as u64;
                let said = |(at, value)| self.tables.entries.iter().any(|e| e.0 == fold(at) && e.2 == value);
                let stale = result.is_ok_and(|page| !page.entries.into_iter().flatten().all(said));
                self.coverage.stale += stale as u64;
            }
            How::Walk { for_dirty } => {
                counters.misses[row][kind] += 1;
                counters.walks += 1;
                counters.walk_reads += self.tables.reads;
                counters.dirty_walks += for_dirty as u64;
                self.coverage.walks += 1;
                match result {
                    Ok(page) => {
                        let size = [12, 21, 22].iter().position(|&shift| page.size == 1 << shift);
                        self.coverage.pages[mode][size.unwrap_or(0)] += 1;
                    }
                    Err(code) => self.coverage.faults[mode][code as usize & 31] += 1,
                }
            }
        }
        if result.is_err() {
            counters.faults += 1;
            counters.flushes[FlushCause::PageFault as usize] += 1;
        }
        result
    }

    /// Compares everything after an access of these pages: `fault` is where it faulted, if it did.
    fn settle(&mut self, pages: &[u32], result: Exec<u64>, expected: Result<u64, u16>, fault: u32) -> Check {
        let result = match result {
            Ok(value) => Ok(value),
            Err(raised) => Err(fault_of::<()>(self.cpu, Err(raised))),
        };
        same("the access", &result, &expected.map_err(|code| Some(Fault::Page { address: fault, code })))?;
        if let Err(Some(raised)) = result {
            // no vector lies within the IDT's limit, so that the delivery ends with CR2
            self.cpu.idtr.limit = 0;
            self.cpu.cr2 = !fault;
            let shutdown = self.cpu.deliver(Cause::Fault(raised));
            same("shutdown", shutdown.is_err(), true)?;
            same("CR2", self.cpu.cr2, fault)?;
        }
        for &linear in pages {
            self.remembered(linear, Kind::Fetch, walk::Kind::Fetch)?;
            self.remembered(linear, Kind::Read, walk::Kind::Read)?;
        }
        for &(at, bytes, value) in &self.tables.entries {
            let now = &self.cpu.bus.ram().bytes()[at..at + bytes as usize];
            same(format_args!("the entry at {at:#x}"), now, &value.to_le_bytes()[..bytes as usize])?;
        }
        Ok(())
    }

    /// What the TLB holds of an address.
    fn remembered(&self, linear: u32, kind: Kind, named: walk::Kind) -> Check {
        let expected = self.tlb.lookup(linear, kind).map(|cached| {
            let page = cached.page;
            let entries = page.entries.map(|entry| entry.unwrap_or_default());
            (Cached { page: Page { entries: [None; 2], ..page }, fetches: false, ..cached }, entries)
        });
        let found = self.cpu.tlb.lookup(named, linear).map(|slot| {
            let entry = self.cpu.tlb.entry(slot);
            let size = 1u64 << entry.page_shift;
            let first = entry.linear & !(size - 1) as u32;
            let page = Page {
                linear: first,
                physical: entry.base.0 - (entry.linear - first) as u64,
                size,
                user: entry.rights.user,
                writable: entry.rights.writable,
                no_execute: entry.rights.no_execute,
                global: entry.global,
                dirty: entry.dirty,
                entries: [None; 2],
            };
            let entries = entry.sources.map(|source| (source.at.0, source.value));
            let cached = Cached { page, covers: entry.linear, size: 1 << entry.shift, fetches: false };
            (cached, entries)
        });
        same(format_args!("the TLB's entry for {linear:#x}"), found, expected)
    }

    fn counters(&self) -> Check {
        same("counters", &self.cpu.tlb.counters, &self.expected)
    }
}

/// The fault that was raised, if one was.
fn fault_of<T>(cpu: &mut TestCpu, result: Exec<T>) -> Option<Fault> {
    result.err().map(|raised| match cpu.take_pending(raised) {
        Pending::Fault(fault) => fault,
        other => panic!("{other:?}"),
    })
}
