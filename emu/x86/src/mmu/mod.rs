//! From segment and offset to a place in memory: segmentation, then the TLB, then the page walk.
//!
//! [`Cpu::translate`] and its kin make every check and return a [`Place`]; loading and storing at a place cannot
//! fail. So an instruction first gets all its places, then computes, then commits.

mod debug;
pub mod front;
mod place;
mod system;
pub mod tlb;
pub mod walk;
mod wide;

pub use debug::{Breakpoint, Watch, breakpoints};
pub use place::{Place, Spot};
pub use wide::{Aligned, Wide};

use crate::bus::{Bus, Frame, Phys};
use crate::cpu::Cpu;
use crate::fault::{Exec, Fault};
use crate::flags;
use crate::observe::{Asker, Control, Observer, Outcome, Step, Translation};
use crate::planted::Bug;
use crate::width::Cell;
use tlb::FlushCause;
use walk::{Access, Entries, Kind, Level, Paging, PagingMode, Privilege};

/// What an operand is translated for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Intent {
    /// To be read.
    Read,
    /// To be written.
    Write,
    /// To be read, then written: faults as a write.
    ReadWrite,
}

impl Intent {
    /// Whether memory will be written.
    #[inline(always)]
    pub fn writes(self) -> bool {
        !matches!(self, Intent::Read)
    }
}

/// The translation of the page that instructions are being fetched from. The processor asks the TLB for it when
/// control enters another page and after everything that discards prefetched code, not for each instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchPage {
    /// Linear address of the page.
    pub linear: u32,
    /// Where it leads.
    pub spot: Spot,
    /// Its physical address.
    pub phys: Phys,
}

/// The walk's access to memory: through the bus, noting steps for the observer.
struct Walker<'a, B> {
    bus: &'a mut B,
    now: crate::bus::Ticks,
    steps: [Step; 3],
    count: usize,
    updates: [(Phys, u32, u64); 3],
    update_count: usize,
}

impl<'a, B> Walker<'a, B> {
    fn new(bus: &'a mut B, now: crate::bus::Ticks) -> Walker<'a, B> {
        let step = Step { level: Level::Pde, at: None, value: 0, set: 0 };
        Walker { bus, now, steps: [step; 3], count: 0, updates: [(Phys(0), 0, 0); 3], update_count: 0 }
    }
}

impl<B: Bus> Entries for Walker<'_, B> {
    fn read(&mut self, at: Phys, bytes: u32) -> u64 {
        match self.bus.frame(at.0 >> 12) {
            Frame::Ram(page) | Frame::Rom(page) => {
                let offset = page + (at.0 & 0xfff) as usize;
                if bytes == 8 {
                    u64::load(self.bus.ram(), offset)
                } else {
                    u32::load(self.bus.ram(), offset) as u64
                }
            }
            Frame::Device => place::read_device(self.bus, at, bytes, self.now),
        }
    }

    fn set_bits(&mut self, at: Phys, bytes: u32, value: u64, bits: u64) {
        // only the low byte holds accessed and dirty bits; the guest runs between instructions, so nothing intervenes
        if let Frame::Ram(page) = self.bus.frame(at.0 >> 12) {
            self.bus.ram_mut().write(page + (at.0 & 0xfff) as usize, &[(value | bits) as u8]);
        }
        if let Some(step) = self.steps[..self.count].iter_mut().rev().find(|step| step.at == Some(at)) {
            step.set |= bits;
        }
        self.updates[self.update_count.min(2)] = (at, bytes, value | bits);
        self.update_count += 1;
    }

    fn step(&mut self, level: Level, at: Option<Phys>, value: u64) {
        self.steps[self.count.min(2)] = Step { level, at, value, set: 0 };
        self.count = (self.count + 1).min(3);
    }
}

/// Whether a walk would find the entry again without setting a bit in memory: the guest may have cleared accessed and
/// dirty bits, counting on a flush to see them set again.
fn is_still_true<B: Bus>(entry: &tlb::Entry, paging: &Paging, walker: &mut Walker<'_, B>) -> bool {
    const STATUS: u64 = walk::A | walk::D;
    let pae = paging.mode == PagingMode::Pae;
    let pdpte = paging.pdptes[(entry.linear >> 30) as usize];
    let directory_moved = pae && (pdpte & walk::P == 0 || (pdpte ^ entry.sources[0].at.0) & !0xfff != 0);
    !directory_moved
        && entry.sources.iter().filter(|source| source.value != 0).all(|source| {
            let now = walker.read(source.at, if pae { 8 } else { 4 });
            (now ^ source.value) & !STATUS == 0 && source.value & STATUS & !now == 0
        })
}

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// Translates a program's access of `W` at `offset` in segment register `segment`: type and limit checks, then
    /// alignment, then paging; #GP(0) or #SS(0), #AC, #PF in this order.
    #[inline(always)]
    pub fn translate<W: Cell>(&mut self, segment: usize, offset: u32, intent: Intent) -> Exec<Place<W>> {
        let register = &self.state.segs[segment];
        let valid = if intent.writes() {
            let beyond = W::BYTES == 2 && self.planted.has(Bug::SegmentCheck);
            register.can_write(offset, W::BYTES - beyond as u32)
                && (intent == Intent::Write || register.can_read(offset, W::BYTES))
        } else {
            register.can_read(offset, W::BYTES)
        };
        if !valid {
            return Err(self.raise(Self::segment_fault(segment)));
        }
        let linear = register.base.wrapping_add(offset);
        let write = intent.writes();
        if let Some(entry) = self.front.get(self.class, write, linear, W::BYTES) {
            let (page, slot) = (entry.page, entry.slot);
            self.tlb.touch(slot);
            self.tlb.counters.hits[self.counter_row][write as usize] += 1;
            return Ok(Place::ram(page | (linear & 0xfff) as u64));
        }
        self.translate_slowly(linear, intent, Asker::Program { segment: segment as u8, offset })
    }

    /// The way of an access that the front table does not serve.
    #[inline(never)]
    fn translate_slowly<W: Cell>(&mut self, linear: u32, intent: Intent, asker: Asker) -> Exec<Place<W>> {
        if self.check_alignment && linear & (W::BYTES - 1) != 0 {
            return Err(self.raise(Fault::Alignment));
        }
        let access = Access {
            kind: if intent.writes() { Kind::Write } else { Kind::Read },
            privilege: self.program_privilege(),
        };
        let place = self.place::<W>(linear, access, asker)?;
        if self.data_breakpoints {
            self.match_data_breakpoints(linear, W::BYTES, intent.writes());
        }
        Ok(place)
    }

    /// What translations depend on now.
    pub fn paging(&self) -> &walk::Paging {
        &self.paging
    }

    /// The privilege of the program's own accesses at the current CPL.
    pub fn program_privilege(&self) -> Privilege {
        if self.cpl == 3 {
            Privilege::User
        } else {
            Privilege::Supervisor { ac: self.flags.system(flags::AC) }
        }
    }

    /// Translates `W` at a linear address, across a page boundary if need be, for anyone.
    pub fn place<W: Cell>(&mut self, linear: u32, access: Access, asker: Asker) -> Exec<Place<W>> {
        let first_bytes = (0x1000 - (linear & 0xfff)).min(W::BYTES);
        if first_bytes == W::BYTES {
            let (spot, _) = self.translate_page(linear, W::BYTES, access, asker)?;
            return Ok(Place::within(spot));
        }
        let (first, _) = self.translate_page(linear, first_bytes, access, asker)?;
        let next = linear.wrapping_add(first_bytes);
        let (second, _) = self.translate_page(next, W::BYTES - first_bytes, access, asker)?;
        Ok(Place::across(first, second))
    }

    /// Translates the code byte at `eip`'s linear address for a fetch.
    pub fn translate_fetch(&mut self, linear: u32, eip: u32) -> Exec<(Spot, Phys)> {
        let access = Access { kind: Kind::Fetch, privilege: self.program_privilege() };
        self.translate_page(linear, 1, access, Asker::Fetch { eip })
    }

    /// Translates within one page: the TLB, else the walk (SDM 3A "Paging", "Caching Translation Information").
    pub fn translate_page(
        &mut self,
        linear: u32,
        bytes: u32,
        access: Access,
        asker: Asker,
    ) -> Exec<(Spot, Phys)> {
        if self.paging.mode == PagingMode::Off {
            self.tlb.counters.hits[4][access.kind as usize] += 1;
            let phys = Phys(linear as u64);
            let scratch = self.tlb.scratch();
            self.tlb.touch(scratch);
            let spot = self.spot(phys, access, linear, scratch);
            self.show(asker, access, linear, bytes, Some(phys), Outcome::Unpaged);
            return Ok((spot, phys));
        }
        let row = self.cpl as usize & 3;
        let kind = access.kind;
        let cached = self.tlb.lookup(kind, linear);
        if let Some(slot) = cached {
            let entry = *self.tlb.entry(slot);
            if !entry.rights.permit(access, &self.paging) {
                // Manual: what is cached may be stale and may fault; the fault itself drops the entry.
                let code = self.paging.error_code(access, walk::CODE_P);
                let outcome = Outcome::Fault { steps: &[], cached: Some(&entry), code };
                self.show(asker, access, linear, bytes, None, outcome);
                return Err(self.page_fault(linear, code));
            }
            if entry.dirty || kind != Kind::Write {
                self.tlb.counters.hits[row][kind as usize] += 1;
                self.tlb.touch(slot);
                let phys = entry.phys(linear);
                let spot = self.spot(phys, access, linear, slot);
                self.show(asker, access, linear, bytes, Some(phys), Outcome::Hit { slot, entry: &entry });
                return Ok((spot, phys));
            }
        }
        self.walk_and_fill(linear, bytes, access, asker, cached)
    }

    /// A TLB miss, or a first write to a clean page (`cached`).
    #[inline(never)]
    fn walk_and_fill(
        &mut self,
        linear: u32,
        bytes: u32,
        access: Access,
        asker: Asker,
        cached: Option<tlb::Slot>,
    ) -> Exec<(Spot, Phys)> {
        let now = self.now();
        let paging = self.paging;
        let mut walker = Walker::new(&mut self.bus, now);
        let result = walk::walk(&paging, &mut walker, linear, access);
        let Walker { steps, count, updates, update_count, .. } = walker;
        self.leave |= self.bus.ram().code_was_written();
        if O::ACTIVE && self.observer.wants_stores() {
            let at = self.at();
            for &(phys, bytes, value) in &updates[..update_count.min(3)] {
                self.observer.store(&at, phys, bytes, value);
            }
        }
        let counters = &mut self.tlb.counters;
        counters.misses[self.state.cpl as usize & 3][access.kind as usize] += 1;
        counters.walks += 1;
        counters.dirty_walks += cached.is_some() as u64;
        match result {
            Ok(leaf) => {
                counters.walk_reads += leaf.reads as u64;
                let (slot, evicted) = self.tlb.fill(access.kind, linear, &leaf, cached);
                if let Some(old) = &evicted {
                    if old.shift > 12 {
                        self.front.flush_slot(slot);
                    } else {
                        self.front.flush_page(old.linear);
                    }
                }
                if let Some(cached) = cached {
                    // the slot may now lead elsewhere, or be given up
                    self.front.flush_page(linear);
                    self.front.flush_slot(cached);
                }
                let phys = self.tlb.entry(slot).phys(linear);
                let spot = self.spot(phys, access, linear, slot);
                let outcome = Outcome::Walk {
                    steps: &steps[..count],
                    leaf: &leaf,
                    slot,
                    evicted: evicted.as_ref(),
                    for_dirty: cached.is_some(),
                };
                self.show(asker, access, linear, bytes, Some(phys), outcome);
                Ok((spot, phys))
            }
            Err(fault) => {
                counters.walk_reads += fault.reads as u64;
                let outcome = Outcome::Fault { steps: &steps[..count], cached: None, code: fault.code };
                self.show(asker, access, linear, bytes, None, outcome);
                Err(self.page_fault(linear, fault.code))
            }
        }
    }

    /// Records #PF; it drops the address's translations (SDM 3A "Operations that Invalidate TLBs").
    fn page_fault(&mut self, linear: u32, code: u16) -> crate::fault::Raised {
        self.tlb.counters.faults += 1;
        if self.tlb.flush_page(linear, FlushCause::PageFault) {
            self.front.flush();
            let change = Control::Flush { cause: FlushCause::PageFault, linear: Some(linear) };
            self.show_control(change);
        }
        self.raise(Fault::Page { address: linear, code })
    }

    /// Where a translated access leads, entering the page in the front table if it may be there.
    fn spot(&mut self, phys: Phys, access: Access, linear: u32, slot: tlb::Slot) -> Spot {
        let write = access.kind == Kind::Write;
        let watched = O::ACTIVE && self.observer.wants_stores();
        match self.bus.frame(phys.0 >> 12) {
            Frame::Ram(page) => {
                let has_code = self.bus.ram().page_has_code(page);
                let direct = access.privilege == self.program_privilege() && access.kind != Kind::Fetch;
                if direct && !(write && has_code) {
                    self.front.fill(self.class, write, linear, page as u64, slot);
                }
                let offset = page as u64 | phys.0 & 0xfff;
                if write && (has_code || watched) { Spot::watched(offset) } else { Spot::ram(offset) }
            }
            Frame::Rom(page) if !write => {
                if access.privilege == self.program_privilege() && access.kind != Kind::Fetch {
                    self.front.fill(self.class, false, linear, page as u64, slot);
                }
                Spot::ram(page as u64 | phys.0 & 0xfff)
            }
            _ => Spot::device(phys),
        }
    }

    /// Drops what the front table and the fetch page hold; the TLB stays as it is.
    pub fn forget_front(&mut self) {
        self.front.flush();
        self.forget_fetches();
        self.leave_block();
    }

    /// Discards what was fetched: the next instruction asks the TLB again.
    pub(crate) fn forget_fetches(&mut self) {
        self.fetch_page = None;
        self.fetched_ahead = None;
    }

    /// MOV CR3 and task switches: everything but global entries goes; with the `tagged` what-if, nothing does but what
    /// the tables no longer say.
    pub fn flush_tlb_non_global(&mut self, cause: FlushCause) {
        self.forget_front();
        self.tlb.enter_space(self.state.cr3);
        if self.tlb.geometry().tagged {
            let now = self.now();
            let (cr3, paging, bus) = (self.state.cr3 as u64, self.paging, &mut self.bus);
            self.tlb.switch_tag(cr3, |entry| is_still_true(entry, &paging, &mut Walker::new(&mut *bus, now)));
        } else {
            self.tlb.flush_non_global(cause);
        }
        self.show_control(Control::Flush { cause, linear: None });
    }

    /// Everything goes, global entries too.
    pub fn flush_tlb_all(&mut self, cause: FlushCause) {
        self.forget_front();
        self.tlb.flush_all(cause);
        self.show_control(Control::Flush { cause, linear: None });
    }

    /// INVLPG: the page of `linear` goes, global or not.
    pub fn flush_tlb_page(&mut self, linear: u32) {
        if self.planted.has(Bug::TlbFlush) {
            return;
        }
        self.tlb.flush_page(linear, FlushCause::Invlpg);
        self.forget_front();
        self.show_control(Control::Flush { cause: FlushCause::Invlpg, linear: Some(linear) });
    }

    /// Tells the observer of a control change.
    #[inline(always)]
    pub fn show_control(&mut self, change: Control) {
        if O::ACTIVE {
            let at = self.at();
            self.observer.control(&at, change);
        }
    }

    #[inline(always)]
    fn show(
        &mut self,
        asker: Asker,
        access: Access,
        linear: u32,
        bytes: u32,
        phys: Option<Phys>,
        outcome: Outcome<'_>,
    ) {
        if O::ACTIVE && self.observer.wants_translations() {
            let at = self.at();
            self.observer.translation(&at, &Translation { asker, access, linear, bytes, phys, outcome });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::*;
    use crate::fault::Pending;
    use crate::flat::{FlatBus, Start, processor};
    use crate::segment::DS;
    use tlb::{Geometry, Tlb};
    use walk::{A, D, P, U, W};

    const DIRECTORY: u32 = 0x1000;
    const TABLE: u32 = 0x2000;

    type TestCpu = Cpu<FlatBus, ()>;

    /// Paging on with one table, whose entries for pages 4 to 7 lead to themselves with these flags; CR0.WP.
    fn paged(flags: [u64; 4]) -> TestCpu {
        let mut cpu = processor(Start::Flat32, &[0x90], 0, 0x1_0000).cpu;
        put(&mut cpu, DIRECTORY, (TABLE as u64 | P | W | U) as u32);
        for (n, flags) in flags.into_iter().enumerate() {
            let page = 4 + n as u32;
            put(&mut cpu, TABLE + page * 4, page << 12 | flags as u32);
        }
        cpu.load_cr3(DIRECTORY, FlushCause::MovCr3).unwrap();
        cpu.load_cr0(CR0_PE | CR0_PG | CR0_WP).unwrap();
        cpu
    }

    fn put(cpu: &mut TestCpu, at: u32, value: u32) {
        cpu.bus.ram_mut().write(at as usize, &value.to_le_bytes());
    }

    fn get(cpu: &TestCpu, at: u32) -> u32 {
        u32::from_le_bytes(cpu.bus.ram().read(at as usize))
    }

    fn fault_of<T>(cpu: &mut TestCpu, result: Exec<T>) -> Option<Fault> {
        result.err().map(|raised| match cpu.take_pending(raised) {
            Pending::Fault(fault) => fault,
            other => panic!("{other:?}"),
        })
    }

    fn access(cpu: &mut TestCpu, linear: u32, intent: Intent) -> Option<Fault> {
        let result = cpu.translate::<u32>(DS, linear, intent);
        fault_of(cpu, result)
    }

    #[test]
    fn an_access_across_two_pages_faults_at_the_second_before_anything_is_written() {
        let mut cpu = paged([P | W | U, P | U, P | W | U, 0]);
        let expected = |address, code| Some(Fault::Page { address, code });
        assert_eq!(access(&mut cpu, 0x4ffe, Intent::Write), expected(0x5000, 3));
        assert_eq!(access(&mut cpu, 0x6fff, Intent::Read), expected(0x7000, 0));
        assert_eq!(access(&mut cpu, 0x6fff, Intent::ReadWrite), expected(0x7000, 2));
        assert_eq!(access(&mut cpu, 0x4ffe, Intent::Read), None);
    }

    #[test]
    fn explicit_and_implicit_accesses_carry_the_privilege_the_manual_gives_them() {
        // SDM 3A "Access Rights": a user page under SMAP, by CPL, EFLAGS.AC and asker
        for (cpl, ac, explicit, implicit) in
            [(0, false, false, false), (0, true, true, false), (3, false, true, false)]
        {
            let mut cpu = paged([P | W | U; 4]);
            cpu.load_cr4(CR4_SMAP).unwrap();
            cpu.set_flags(if ac { flags::AC } else { 0 }, flags::AC);
            cpu.set_cpl(cpl);
            assert_eq!(access(&mut cpu, 0x4000, Intent::Read).is_none(), explicit, "cpl {cpl} ac {ac}");
            let result = cpu.system_read::<u32>(0x5000, Asker::Tss);
            let fault = fault_of(&mut cpu, result);
            assert_eq!(fault.is_none(), implicit, "cpl {cpl} ac {ac}");
            assert_eq!(
                fault,
                Some(Fault::Page { address: 0x5000, code: 1 }),
                "implicit accesses are no user accesses"
            );
        }
        // a supervisor page: the processor itself may, the program at CPL 3 may not
        let mut cpu = paged([P | W; 4]);
        cpu.set_cpl(3);
        assert!(cpu.system_read::<u32>(0x4000, Asker::Tss).is_ok());
        assert_eq!(access(&mut cpu, 0x4000, Intent::Read), Some(Fault::Page { address: 0x4000, code: 5 }));
    }

    #[test]
    fn accessed_and_dirty_bits_are_set_when_they_are_due_and_counted() {
        let mut cpu = paged([P | W | U; 4]);
        access(&mut cpu, 0x4000, Intent::Read);
        assert_eq!(get(&cpu, DIRECTORY) as u64 & (A | D), A);
        assert_eq!(get(&cpu, TABLE + 16) as u64 & (A | D), A);
        access(&mut cpu, 0x4000, Intent::Read);
        access(&mut cpu, 0x4004, Intent::Write);
        assert_eq!(get(&cpu, TABLE + 16) as u64 & (A | D), A | D);
        access(&mut cpu, 0x4008, Intent::Write);
        let counters = &cpu.tlb.counters;
        assert_eq!(counters.misses[0], [1, 1, 0], "reads, writes, fetches at CPL 0");
        assert_eq!(counters.hits[0], [1, 1, 0]);
        assert_eq!((counters.walks, counters.walk_reads, counters.dirty_walks), (2, 4, 1));
    }

    #[test]
    fn a_changed_entry_is_not_seen_until_it_is_invalidated_or_faults() {
        let mut cpu = paged([P | W | U; 4]);
        access(&mut cpu, 0x4000, Intent::Write);
        put(&mut cpu, TABLE + 16, 0);
        assert_eq!(access(&mut cpu, 0x4000, Intent::Write), None, "stale");
        cpu.flush_tlb_page(0x4123);
        assert_eq!(access(&mut cpu, 0x4000, Intent::Read), Some(Fault::Page { address: 0x4000, code: 0 }));
        // rights raised without INVLPG: the first fault is spurious, and drops the entry
        let mut cpu = paged([P | U; 4]);
        access(&mut cpu, 0x4000, Intent::Read);
        put(&mut cpu, TABLE + 16, (0x4000 | P | W | U) as u32);
        assert_eq!(access(&mut cpu, 0x4000, Intent::Write), Some(Fault::Page { address: 0x4000, code: 3 }));
        assert_eq!(access(&mut cpu, 0x4000, Intent::Write), None);
    }

    #[test]
    fn alignment_is_checked_before_paging_and_for_cpl_3_only() {
        let mut cpu = paged([0; 4]);
        cpu.load_cr0(CR0_PE | CR0_PG | CR0_AM).unwrap();
        cpu.set_flags(flags::AC, flags::AC);
        assert!(matches!(access(&mut cpu, 0x4001, Intent::Read), Some(Fault::Page { .. })));
        cpu.set_cpl(3);
        assert_eq!(access(&mut cpu, 0x4001, Intent::Read), Some(Fault::Alignment));
        assert!(matches!(access(&mut cpu, 0x4000, Intent::Read), Some(Fault::Page { .. })));
    }

    #[test]
    fn a_tagged_tlb_keeps_what_the_tables_still_say_and_drops_what_they_do_not() {
        let mut cpu = paged([P | W | U; 4]);
        cpu.tlb = Tlb::new(Geometry { tagged: true, ..Geometry::default() });
        cpu.load_cr3(DIRECTORY, FlushCause::MovCr3).unwrap();
        for page in 4..8 {
            access(&mut cpu, page << 12, Intent::Write);
        }
        cpu.load_cr3(0x3000, FlushCause::MovCr3).unwrap();
        let clear = |cpu: &mut TestCpu, page: u32, bits: u64| {
            let entry = get(cpu, TABLE + page * 4);
            put(cpu, TABLE + page * 4, entry & !(bits as u32));
        };
        clear(&mut cpu, 4, A); // a clock algorithm looks for use
        clear(&mut cpu, 5, D); // a page was written out
        clear(&mut cpu, 6, W);
        cpu.load_cr3(DIRECTORY, FlushCause::MovCr3).unwrap();
        let kept: Vec<bool> = (4..8).map(|page| cpu.tlb.lookup(Kind::Read, page << 12).is_some()).collect();
        assert_eq!(kept, [false, false, false, true]);
        access(&mut cpu, 0x4000, Intent::Read);
        access(&mut cpu, 0x5000, Intent::Write);
        assert_eq!(get(&cpu, TABLE + 16) as u64 & A, A);
        assert_eq!(get(&cpu, TABLE + 20) as u64 & D, D);
    }
}
