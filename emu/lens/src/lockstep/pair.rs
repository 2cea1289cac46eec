//! Our side, brought to each state that QEMU tells.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use iced_x86::{Instruction, Mnemonic};
use pagewalk_x86::bus::{Bus, Frame};
use pagewalk_x86::control::{CR0_AM, CR0_PE};
use pagewalk_x86::cpu::Shadow;
use pagewalk_x86::engine::Attempt;
use pagewalk_x86::fault::{Fault, Stop};
use pagewalk_x86::flags;
use pagewalk_x86::mmu::tlb::FlushCause;
use pagewalk_x86::observe::Cause;
use pagewalk_x86::segment::{CS, SS, Segment};

use super::convert::{fault_of, flags_of, matches};
use super::known::{self, Follow, Known, Scene, Test};
use super::report::{Difference, Kind};
use super::state::{self, Except, Field};
use super::{By, Ours};
use super::{memory, x87};
use crate::qemu::dump::Dump;
use crate::qemu::stream::Delivery;
use crate::qemu::{Error, Qemu};

/// More instructions than QEMU puts into one translation block.
const BLOCK: u32 = 600;

/// Our side.
pub struct Pair {
    pub ours: Ours,
    /// What both looked like at the last comparison.
    pub before: Dump,
    /// Instructions up to the last comparison of registers, and of memory, that found no difference.
    pub good: (u64, u64),
    /// How often the registers are compared.
    pub by: By,
    /// Flags that are undefined by now, and QEMU's values of them not known yet.
    undefined: u32,
    /// What CPUID answers in QEMU, by leaf and subleaf.
    pub cpuid: BTreeMap<(u32, u32), [u32; 4]>,
    pub known: BTreeMap<&'static str, u64>,
    pub fed: BTreeMap<&'static str, u64>,
    pub compared: u64,
    /// Deliveries of ours that QEMU has not told yet.
    delivered: VecDeque<Cause>,
    /// Linear addresses of instructions that QEMU does not log.
    unlogged: BTreeSet<u32>,
    /// How many instructions our observer was shown before the last attempt.
    shown: u64,
    /// Ours has shut down after a triple fault.
    down: bool,
    /// Memory that ours wrote and QEMU did not, by known deviations: first offset, end, name.
    taints: Vec<(u64, u64, &'static str)>,
}

/// Why our side did not come to QEMU's state.
pub enum Parted {
    /// They differ.
    Difference(Box<Difference>),
    /// Ours stopped.
    Stopped(Stop),
    /// A known deviation after which ours has to take all of QEMU's state.
    TakeAll(&'static str),
    /// A known deviation after which QEMU cannot go on.
    End(&'static str),
}

/// More bytes than any handler's frame has.
const FRAME: u64 = 64;
/// The local APIC's bit in EDX of CPUID leaf 1.
const CPUID_APIC: u32 = 1 << 9;
/// Bytes of a TSS, and of its link.
const TSS: u64 = 104;
const LINK: u64 = 2;
/// The busy bit of a TSS, in its access byte.
const BUSY: u16 = 2;

type Followed<T = ()> = Result<T, Parted>;

/// What one attempt of ours came to.
enum Step {
    Done,
    Faulted(Fault),
}

impl Pair {
    pub fn new(
        ours: Ours,
        before: Dump,
        by: By,
        cpuid: BTreeMap<(u32, u32), [u32; 4]>,
        unlogged: BTreeSet<u32>,
    ) -> Pair {
        Pair {
            ours,
            before,
            good: (0, 0),
            by,
            undefined: 0,
            cpuid,
            known: BTreeMap::new(),
            fed: BTreeMap::new(),
            compared: 0,
            delivered: VecDeque::new(),
            unlogged,
            shown: 0,
            down: false,
            taints: Vec::new(),
        }
    }

    /// Whether ours has shut down.
    pub fn is_down(&self) -> bool {
        self.down
    }

    /// The known deviation by which ours may have written this place and QEMU not.
    pub fn tainted(&self, offset: u64) -> Option<&'static str> {
        self.taints.iter().find(|(start, end, _)| (*start..*end).contains(&offset)).map(|(_, _, name)| *name)
    }

    /// QEMU stands still in this state: at its last block, or after it.
    pub fn follow_stop(&mut self, dump: &Dump) -> Followed {
        let least = !self.ours.cpu.bus.inputs.is_empty() as u32;
        self.reach(dump, least, self.most(), Except::default())?;
        self.before.clone_from(dump);
        Ok(())
    }

    /// How many instructions lie between two states of QEMU's at most.
    fn most(&self) -> u32 {
        if self.by == By::Block { BLOCK } else { 1 }
    }

    /// Takes all of QEMU's state: registers, memory, and an empty TLB.
    pub fn take_all(&mut self, dump: &Dump, qemu: &Qemu) -> Result<(), Error> {
        memory::take(&mut self.ours.cpu, qemu)?;
        self.delivered.clear();
        self.undefined = 0;
        let cpu = &mut self.ours.cpu;
        cpu.observer.deliveries.clear();
        cpu.bus.inputs.clear();
        cpu.bus.unfed.clear();
        cpu.flush_tlb_all(FlushCause::Reset);
        state::set(cpu, dump);
        self.before.clone_from(dump);
        Ok(())
    }

    /// QEMU has ended: ours goes on until it does. Returns what it wrote to the debug-exit port.
    pub fn follow_to_exit(&mut self) -> Followed<Option<u32>> {
        let before = self.before.clone();
        for _ in 0..self.most() {
            if self.ours.cpu.bus.exit.is_some() {
                break;
            }
            if let Step::Faulted(fault) = self.attempt(&before)? {
                self.pass(fault, &before)?;
            }
        }
        Ok(self.ours.cpu.bus.exit)
    }

    /// Notes that a known deviation is at work.
    pub fn note(&mut self, name: &'static str) {
        *self.known.entry(name).or_default() += 1;
    }

    fn feed(&mut self, what: &'static str) {
        *self.fed.entry(what).or_default() += 1;
    }

    /// The instruction that ours ran last or tried to run; of one that could not even be fetched, what memory holds there.
    fn instruction(&self) -> Instruction {
        let cpu = &self.ours.cpu;
        if self.ours.cpu.observer.count() != self.shown {
            return cpu.observer.last().instruction();
        }
        let start = cpu.segs[CS].base.wrapping_add(cpu.eip);
        let bytes: Vec<u8> = (0..15).map_while(|n| self.peek(start.wrapping_add(n))).collect();
        let bitness = if cpu.segs[CS].is_32bit() { 32 } else { 16 };
        iced_x86::Decoder::with_ip(bitness, &bytes, cpu.eip as u64, iced_x86::DecoderOptions::NONE).decode()
    }

    fn difference(&self, kind: Kind, theirs: &Dump) -> Parted {
        Parted::Difference(Box::new(Difference::new(kind, self, theirs)))
    }

    fn scene<'a>(&'a self, instruction: &'a Instruction, before: &'a Dump, theirs: &'a Dump) -> Scene<'a> {
        Scene { instruction, before, ours: &self.ours.cpu, theirs }
    }

    /// QEMU has delivered `delivery` and found the state `found`.
    pub fn follow_delivery(&mut self, delivery: Delivery, found: &Dump) -> Followed {
        self.ours.cpu.bus.set_a20(found.a20);
        // the next link of a chain that ours has gone through already
        if let Some(cause) = self.delivered.pop_front() {
            return if matches(cause, delivery) {
                self.settle_flags_saved(cause, found);
                Ok(())
            } else {
                self.take_exception(Some(cause), delivery, found)
            };
        }
        let raised = self.reach_delivery(found)?;
        if delivery.hardware {
            self.feed("interrupts");
            self.ours.cpu.bus.interrupt = Some(delivery.vector);
        }
        if self.ours.cpu.debug_trap != 0 && delivery.vector != 1 {
            self.pass_trap(found)?;
        }
        let step = match raised {
            Some(fault) => Step::Faulted(fault),
            None => self.attempt(found)?,
        };
        let taken = std::mem::take(&mut self.ours.cpu.observer.deliveries);
        self.delivered.extend(taken);
        match (self.delivered.pop_front(), step) {
            (Some(cause), step) if matches(cause, delivery) => match step {
                Step::Done => {
                    let last = self.delivered.back().copied().unwrap_or(cause);
                    self.settle_flags_saved(last, found);
                    Ok(())
                }
                // INT n whose gate raises something: its fault is the instruction's
                Step::Faulted(fault) => self.raise(fault, found),
            },
            // INT n that is refused before any gate is looked at shows as the fault alone
            (None | Some(Cause::Software(_)), Step::Faulted(fault))
                if matches(Cause::Fault(fault), delivery) =>
            {
                self.raise(fault, found)?;
                self.delivered.pop_front();
                Ok(())
            }
            (cause, step) => {
                let cause = match step {
                    Step::Faulted(fault) if cause.is_none() => Some(Cause::Fault(fault)),
                    _ => cause,
                };
                self.take_exception(cause, delivery, found)
            }
        }
    }

    /// Delivers a fault on our side, as QEMU leaves its flags.
    fn raise(&mut self, fault: Fault, found: &Dump) -> Followed {
        let delivered = self.ours.deliver_fault(fault);
        let taken = std::mem::take(&mut self.ours.cpu.observer.deliveries);
        self.delivered.extend(taken);
        match delivered {
            Ok(()) => {}
            Err(Stop::Shutdown(_)) => self.down = true,
            Err(stop) => return Err(Parted::Stopped(stop)),
        }
        if !self.down {
            let last = self.delivered.back().copied().unwrap_or(Cause::Fault(fault));
            self.settle_flags_saved(last, found);
        }
        Ok(())
    }

    /// QEMU raised another exception than ours did. If that is known, ours raises QEMU's.
    fn take_exception(&mut self, ours: Option<Cause>, theirs: Delivery, found: &Dump) -> Followed {
        let instruction = self.instruction();
        let scene = self.scene(&instruction, found, found);
        let recognised = recognise(|test| match test {
            Test::Raises(test) => test(&scene, ours, theirs),
            _ => None,
        });
        let unknown = Kind::OtherException(ours, theirs);
        let Some((known, follow)) = recognised else { return Err(self.difference(unknown, found)) };
        self.note(known.name);
        match (follow, fault_of(theirs, found)) {
            (Follow::TakeException, Some(fault)) => {
                self.delivered.clear();
                self.taint_frame(known.name);
                self.leave_task(found, known.name);
                state::set(&mut self.ours.cpu, found);
                self.raise(fault, found)?;
                self.delivered.pop_front();
                Ok(())
            }
            (Follow::End, _) => Err(Parted::End(known.name)),
            _ => Err(Parted::TakeAll(known.name)),
        }
    }

    /// QEMU's next block starts in this state. `moved`: there is an instruction or more between it and the last one.
    pub fn follow_block(&mut self, dump: &Dump, moved: bool) -> Followed {
        if let Some(cause) = self.delivered.pop_front() {
            return self.pass_delivery(cause, dump);
        }
        self.ours.cpu.bus.set_a20(dump.a20);
        let before = &self.before;
        // one that QEMU does not log may be behind it already
        let unlogged = self.unlogged.contains(&before.segs[CS].base.wrapping_add(before.eip));
        let (least, most) = match moved {
            true => (1, self.most()),
            false if unlogged => (0, self.most()),
            false => (0, 0),
        };
        self.reach(dump, least, most, Except::default())?;
        if !self.ours.cpu.bus.unfed.is_empty() || !self.ours.cpu.bus.inputs.is_empty() {
            return Err(self.difference(Kind::Inputs, dump));
        }
        self.good.0 = self.ours.cpu.retired;
        self.before.clone_from(dump);
        Ok(())
    }

    /// Runs ours until its registers are those that a delivery of QEMU's found. A fault that a task switch raises when it
    /// has entered the new task belongs to the new task, whose registers QEMU found: it is returned.
    fn reach_delivery(&mut self, found: &Dump) -> Followed<Option<Fault>> {
        const EXCEPT: Except = Except { flags: 0, fault_registers: true };
        if self.before.tr.selector == found.tr.selector || self.arrived(found, EXCEPT) {
            return self.reach(found, 0, self.most(), EXCEPT).map(|()| None);
        }
        for _ in 0..self.most() {
            match self.attempt(found)? {
                Step::Done if self.arrived(found, EXCEPT) => return Ok(None),
                Step::Done => {}
                Step::Faulted(fault) if self.ours.cpu.tr.selector == found.tr.selector => {
                    if !self.arrived(found, EXCEPT) {
                        self.settle_registers(found, EXCEPT)?;
                    }
                    return Ok(Some(fault));
                }
                Step::Faulted(fault) => self.pass(fault, found)?,
            }
        }
        self.settle_registers(found, EXCEPT).map(|()| None)
    }

    /// Runs ours until its registers are `dump`: at least `least` instructions, and at most `most`.
    fn reach(&mut self, dump: &Dump, least: u32, most: u32, except: Except) -> Followed {
        let (mut steps, mut attempts) = (0, 0);
        loop {
            if attempts >= least && self.arrived(dump, except) {
                return Ok(());
            }
            let trap = self.ours.cpu.debug_trap != 0 && self.ours.cpu.shadow != Shadow::MovSs;
            // QEMU's log tells no deliveries in real mode
            let unseen = trap && self.in_real_mode() && steps == most;
            if steps >= most && !unseen {
                return self.settle_registers(dump, except);
            }
            if trap && !self.in_real_mode() {
                self.pass_trap(dump)?;
            }
            match self.attempt(dump)? {
                Step::Done => {}
                // QEMU's log tells no exceptions in real mode
                Step::Faulted(fault) if self.in_real_mode() && self.recognised(fault, dump).is_none() => {
                    let found = state::dump_of(&self.ours.cpu.state);
                    self.raise(fault, &found)?;
                    self.delivered.clear();
                }
                Step::Faulted(fault) => self.pass(fault, dump)?,
            }
            let taken = std::mem::take(&mut self.ours.cpu.observer.deliveries);
            if let (Some(cause), false) = (taken.last(), self.in_real_mode()) {
                return Err(self.difference(Kind::OursDelivers(*cause), dump));
            }
            attempts += 1;
            // an iteration is no instruction, and one that QEMU does not log comes for nothing
            let cpu = &self.ours.cpu;
            let linear = cpu.segs[CS].base.wrapping_add(cpu.eip);
            let iterates = cpu.eip == cpu.observer.last().at.eip && cpu.observer.last().is_repeated();
            if !iterates && !self.unlogged.contains(&linear) {
                steps += 1;
            }
        }
    }

    /// One attempt of ours, and what follows an instruction that is done.
    fn attempt(&mut self, dump: &Dump) -> Followed<Step> {
        let (ecx, eax) = (self.ours.cpu.regs.dword(1), self.ours.cpu.regs.dword(0));
        let pointers = self.ours.cpu.fpu.pointers;
        let ran = self.ours.cpu.retired;
        self.shown = self.ours.cpu.observer.count();
        match self.ours.attempt() {
            Attempt::Stopped(Stop::Shutdown(_)) => {
                self.down = true;
                Ok(Step::Done)
            }
            Attempt::Stopped(stop) => Err(Parted::Stopped(stop)),
            Attempt::Faulted(fault) => Ok(Step::Faulted(fault)),
            Attempt::Done => {
                if self.ours.cpu.retired != ran {
                    let instruction = self.ours.cpu.observer.last().instruction();
                    self.settle_instruction(&instruction, dump, eax, ecx);
                    x87::settle(self, &instruction, dump, pointers);
                }
                Ok(Step::Done)
            }
        }
    }

    /// Takes from QEMU what an instruction leaves open.
    fn settle_instruction(&mut self, instruction: &Instruction, dump: &Dump, eax: u32, ecx: u32) {
        let undefined = known::undefined_flags(instruction, ecx);
        let defined = flags_of(instruction.rflags_modified()) & !undefined;
        self.undefined = self.undefined & !defined | undefined;
        match instruction.mnemonic() {
            Mnemonic::Rdtsc | Mnemonic::Rdtscp => {
                self.feed("time-stamp counter");
                self.take_registers(dump, &[0, 2]);
            }
            Mnemonic::Rdrand | Mnemonic::Rdseed => {
                self.feed("random numbers");
                self.take_registers(dump, &[0, 1, 2, 3, 4, 5, 6, 7]);
                self.ours.cpu.flags.set(dump.eflags, flags::ARITHMETIC);
            }
            Mnemonic::Cpuid => {
                let answer = self.cpuid.get(&(eax, ecx)).or_else(|| self.cpuid.get(&(eax, 0))).copied();
                let ours = [0, 3, 1, 2].map(|n| self.ours.cpu.regs.dword(n));
                let answer = match answer {
                    // the APIC's bit follows IA32_APIC_BASE, which both have
                    Some([a, b, c, d]) if eax == 1 => [a, b, c, d & !CPUID_APIC | ours[3] & CPUID_APIC],
                    Some(answer) => answer,
                    None if self.by == By::Instruction => [0, 3, 1, 2].map(|n| dump.regs[n]),
                    None => ours,
                };
                if ours != answer {
                    self.feed("CPUID leaves that differ");
                }
                for (n, value) in [0, 3, 1, 2].into_iter().zip(answer) {
                    self.ours.cpu.regs.set_dword(n, value);
                }
            }
            _ if instruction.has_rep_prefix() || instruction.has_repne_prefix() => {
                let cpu = &mut self.ours.cpu;
                if cpu.eip == cpu.observer.last().at.eip && cpu.flags.system(flags::RF) {
                    cpu.flags.set(dump.eflags, flags::RF);
                    self.note(known::RF_REPEATED);
                }
            }
            _ => {}
        }
    }

    fn take_registers(&mut self, dump: &Dump, numbers: &[u8]) {
        for &n in numbers {
            self.ours.cpu.regs.set_dword(n, dump.regs[n as usize]);
        }
    }

    /// Whether ours stands where QEMU stands, with the same registers.
    fn arrived(&mut self, dump: &Dump, except: Except) -> bool {
        self.compared += 1;
        let cpu = &mut self.ours.cpu;
        if cpu.eip != dump.eip {
            return self.looks_once_more(dump, except);
        }
        let kept = cpu.flags.get();
        cpu.flags.set(dump.eflags, self.undefined);
        let same = |pair: &Pair| state::same(&pair.ours.cpu.state, dump, except);
        if same(self) || (self.settle_hidden(dump) && same(self)) {
            self.undefined = 0;
            return true;
        }
        self.ours.cpu.flags.set(kept, self.undefined);
        false
    }

    /// After the last iteration of a repeated instruction QEMU goes back to it once more.
    fn looks_once_more(&mut self, dump: &Dump, except: Except) -> bool {
        let last = self.ours.cpu.observer.last();
        if dump.eip != last.at.eip || self.ours.cpu.eip != last.at.eip.wrapping_add(last.len as u32) {
            return false;
        }
        let instruction = last.instruction();
        if !(instruction.is_string_instruction()
            && (instruction.has_rep_prefix() || instruction.has_repne_prefix()))
        {
            return false;
        }
        let next = std::mem::replace(&mut self.ours.cpu.eip, dump.eip);
        if self.arrived(dump, except) {
            self.note(known::LAST_LOOK);
            return true;
        }
        self.ours.cpu.eip = next;
        false
    }

    /// Ours is where QEMU should be, but their registers differ. Fine if that is known.
    fn settle_registers(&mut self, dump: &Dump, except: Except) -> Followed {
        self.settle_hidden(dump);
        let fields = state::fields(&self.ours.cpu.state, dump, except);
        let instruction = self.instruction();
        let scene = self.scene(&instruction, &self.before, dump);
        let explain = |fields: &[Field]| {
            recognise(|test| match test {
                Test::Registers(test) => test(&scene, dump, fields),
                _ => None,
            })
        };
        let Some((known, follow)) = explain(&fields) else {
            // several deviations at once, each in registers of its own
            let each: Option<Vec<_>> = fields
                .iter()
                .map(|field| explain(std::slice::from_ref(field)))
                .map(|found| found.filter(|(_, follow)| *follow == Follow::TakeRegisters))
                .collect();
            let Some(each) = each else { return Err(self.difference(Kind::Registers, dump)) };
            let names: BTreeSet<_> = each.iter().map(|(known, _)| known.name).collect();
            names.into_iter().for_each(|name| self.note(name));
            state::set(&mut self.ours.cpu, dump);
            return Ok(());
        };
        self.note(known.name);
        match follow {
            Follow::TakeRegisters => {
                state::set(&mut self.ours.cpu, dump);
                Ok(())
            }
            Follow::End => Err(Parted::End(known.name)),
            _ => Err(Parted::TakeAll(known.name)),
        }
    }

    /// Descriptors whose accessed bit QEMU leaves clear: ours is cleared too, in register and memory. And the busy bit that
    /// QEMU's TR lacks.
    fn settle_hidden(&mut self, dump: &Dump) -> bool {
        let mut any = false;
        for n in 0..6 {
            let (ours, theirs) = (self.ours.cpu.segs[n], dump.segs[n]);
            let only = ours.attributes ^ theirs.attributes == 1 && ours.attributes & 1 != 0;
            if !only || ours.selector != theirs.selector {
                continue;
            }
            let cpu = &mut self.ours.cpu;
            cpu.segs[n] = Segment::new(ours.selector, ours.base, ours.limit, theirs.attributes);
            let table = if ours.selector & 4 == 0 { cpu.gdtr.base } else { cpu.ldtr.base };
            let byte = table.wrapping_add((ours.selector & !7) as u32 + 5);
            if let Some(old) = self.peek(byte) {
                self.poke(byte, &[old & !1]);
            }
            any = true;
        }
        if any {
            self.note(known::ACCESSED);
        }
        let (ours, theirs) = (self.ours.cpu.tr, dump.tr);
        let only = ours.attributes ^ theirs.attributes == BUSY && ours.attributes & BUSY != 0;
        if only && ours.selector == theirs.selector {
            self.ours.cpu.tr = Segment::new(ours.selector, ours.base, ours.limit, theirs.attributes);
            self.note(known::BUSY);
            any = true;
        }
        any
    }

    fn in_real_mode(&self) -> bool {
        self.ours.cpu.cr0 & CR0_PE == 0
    }

    /// An interrupt that QEMU takes in real mode, where its log does not tell in which state: before the instruction that
    /// it told last, or after it. `next` is the state that follows.
    pub fn follow_interrupt(&mut self, vector: u8, next: &Dump) -> Followed {
        self.feed("interrupts");
        let kept = self.ours.clone();
        for steps in 0..=self.most() {
            let entered = (|| {
                for _ in 0..steps {
                    if let Step::Faulted(fault) = self.attempt(next)? {
                        self.pass(fault, next)?;
                    }
                }
                self.ours.cpu.bus.interrupt = Some(vector);
                self.attempt(next).map(drop)
            })();
            self.ours.cpu.observer.deliveries.clear();
            if entered.is_ok() && self.arrived(next, Except::default()) {
                return Ok(());
            }
            self.ours = kept.clone();
        }
        Err(self.difference(Kind::Registers, next))
    }

    /// The known deviation by which QEMU lets pass what raises `fault` here.
    fn recognised(&self, fault: Fault, dump: &Dump) -> Option<&'static str> {
        let before = state::dump_of(&self.ours.cpu.state);
        let instruction = self.instruction();
        let scene = self.scene(&instruction, &before, dump);
        let found = recognise(|test| match test {
            Test::Passes(test) => test(&scene, Cause::Fault(fault)),
            _ => None,
        });
        found.map(|(known, _)| known.name)
    }

    /// Ours raises a fault where QEMU goes on. If that is known, ours goes on too.
    fn pass(&mut self, fault: Fault, dump: &Dump) -> Followed {
        // a fault leaves everything as it was
        let before = state::dump_of(&self.ours.cpu.state);
        let instruction = self.instruction();
        let mut left_out: Vec<Follow> = Vec::new();
        let mut fault = fault;
        loop {
            let scene = self.scene(&instruction, &before, dump);
            let recognised = recognise(|test| match test {
                Test::Passes(test) => test(&scene, Cause::Fault(fault)),
                _ => None,
            });
            let Some((known, follow)) = recognised else {
                return Err(self.difference(Kind::OursDelivers(Cause::Fault(fault)), dump));
            };
            // the check is left out already, and something else is in the way
            if left_out.contains(&follow) {
                return Err(Parted::TakeAll(known.name));
            }
            self.note(known.name);
            match follow {
                Follow::WithoutSegmentChecks | Follow::WithoutAlignmentChecks => left_out.push(follow),
                Follow::TakeRegisters if self.by == By::Instruction => {
                    if instruction.op0_register().is_cr() {
                        self.ours.cpu.flush_tlb_all(FlushCause::MovCr3);
                    }
                    state::set(&mut self.ours.cpu, dump);
                    return Ok(());
                }
                Follow::End => return Err(Parted::End(known.name)),
                _ => return Err(Parted::TakeAll(known.name)),
            }
            match self.attempt_without(&left_out, dump)? {
                Step::Done => return Ok(()),
                Step::Faulted(again) => fault = again,
            }
        }
    }

    /// Ours has a debug trap due where QEMU goes on.
    fn pass_trap(&mut self, dump: &Dump) -> Followed {
        let instruction = self.instruction();
        let scene = self.scene(&instruction, &self.before, dump);
        let recognised = recognise(|test| match test {
            Test::Passes(test) => test(&scene, Cause::DebugTrap),
            _ => None,
        });
        let Some((known, _)) = recognised else {
            return Err(self.difference(Kind::OursDelivers(Cause::DebugTrap), dump));
        };
        self.note(known.name);
        self.ours.cpu.debug_trap = 0;
        Ok(())
    }

    /// Ours has delivered something in the course of a delivery that QEMU has made without it.
    fn pass_delivery(&mut self, cause: Cause, dump: &Dump) -> Followed {
        let instruction = self.instruction();
        let scene = self.scene(&instruction, &self.before, dump);
        let recognised = recognise(|test| match test {
            Test::Passes(test) => test(&scene, cause),
            _ => None,
        });
        match recognised {
            None => Err(self.difference(Kind::OursDelivers(cause), dump)),
            Some((known, follow)) => {
                self.note(known.name);
                Err(if follow == Follow::End { Parted::End(known.name) } else { Parted::TakeAll(known.name) })
            }
        }
    }

    /// What ours has pushed for a handler that it should not have entered may stay in memory.
    fn taint_frame(&mut self, name: &'static str) {
        let cpu = &self.ours.cpu;
        let top = cpu.segs[SS].base.wrapping_add(cpu.regs.dword(4) & cpu.stack_mask());
        self.taint(top & !3, FRAME, name);
    }

    /// These bytes of memory, within a page, may differ.
    pub(super) fn taint(&mut self, linear: u32, bytes: u64, name: &'static str) {
        if let Some(phys) = self.ours.cpu.peek(linear) {
            let taint = (phys.0, phys.0 + bytes, name);
            if !self.taints.contains(&taint) {
                self.taints.push(taint);
            }
        }
    }

    /// A task that ours has entered, and QEMU not, is available again. What the switch has saved may stay in memory.
    fn leave_task(&mut self, found: &Dump, name: &'static str) {
        let cpu = &self.ours.cpu;
        if cpu.tr.selector == found.tr.selector {
            return;
        }
        let byte = cpu.gdtr.base.wrapping_add((cpu.tr.selector & !7) as u32 + 5);
        for (linear, bytes) in [(cpu.tr.base, LINK), (found.tr.base, TSS)] {
            self.taint(linear & !3, bytes + (linear & 3) as u64, name);
        }
        if let Some(old) = self.peek(byte) {
            self.poke(byte, &[old & !(BUSY as u8)]);
        }
    }

    /// An attempt with some of the checks left out.
    fn attempt_without(&mut self, left_out: &[Follow], dump: &Dump) -> Followed<Step> {
        let kept = self.ours.cpu.segs;
        let lax = kept.map(|segment| {
            let attributes = if segment.attributes & 0x4000 != 0 { 0xc093 } else { 0x8093 };
            Segment::new(segment.selector, segment.base, 0xffff_ffff, attributes)
        });
        let segments = left_out.contains(&Follow::WithoutSegmentChecks);
        let alignment = left_out.contains(&Follow::WithoutAlignmentChecks);
        let cpu = &mut self.ours.cpu;
        if segments {
            cpu.segs = lax;
        }
        if alignment {
            cpu.cr0 &= !CR0_AM;
        }
        cpu.update_context();
        let step = self.attempt(dump);
        let cpu = &mut self.ours.cpu;
        for n in 0..6 {
            if segments && cpu.segs[n] == lax[n] {
                cpu.segs[n] = kept[n];
            }
        }
        if alignment {
            cpu.cr0 |= CR0_AM;
        }
        cpu.update_context();
        step
    }

    /// RF in the flags that a fault has just saved: as QEMU saves it.
    fn settle_flags_saved(&mut self, cause: Cause, found: &Dump) {
        let Cause::Fault(fault) = cause else { return };
        let cpu = &self.ours.cpu;
        let rf = flags::RF & found.eflags;
        let at = if cpu.tr.selector != found.tr.selector {
            // by a task gate: in the old task's TSS
            (found.tr.attributes & 8 != 0).then(|| found.tr.base.wrapping_add(0x24))
        } else {
            let frame = cpu.segs[SS].base.wrapping_add(cpu.regs.dword(4) & cpu.stack_mask());
            let frame = frame.wrapping_add(if fault.error_code().is_some() { 4 } else { 0 });
            let is_frame = self.peek_dword(frame) == Some(found.eip)
                && self.peek_dword(frame.wrapping_add(4)).map(|cs| cs as u16)
                    == Some(found.segs[CS].selector);
            is_frame.then(|| frame.wrapping_add(8))
        };
        let Some(at) = at else { return };
        if let Some(saved) = self.peek_dword(at)
            && saved & flags::RF != rf
        {
            self.poke(at, &(saved & !flags::RF | rf).to_le_bytes());
            self.note(known::RF_SAVED);
        }
    }

    /// A byte of our memory, by linear address; the machine does not notice.
    fn peek(&self, linear: u32) -> Option<u8> {
        let phys = self.ours.cpu.peek(linear)?;
        crate::picture::peek_phys(&self.ours.cpu.bus, phys, 1).map(|byte| byte as u8)
    }

    fn peek_dword(&self, linear: u32) -> Option<u32> {
        (0..4).rev().try_fold(0, |value, n| Some(value << 8 | self.peek(linear.wrapping_add(n))? as u32))
    }

    pub(super) fn poke(&mut self, linear: u32, bytes: &[u8]) {
        for (n, byte) in (0..).zip(bytes) {
            let Some(phys) = self.ours.cpu.peek(linear.wrapping_add(n)) else { continue };
            if let Frame::Ram(page) = self.ours.cpu.bus.frame(phys.0 >> 12) {
                self.ours.cpu.bus.ram_mut().write(page + (phys.0 & 0xfff) as usize, &[*byte]);
            }
        }
    }
}

/// The first deviation one of whose tests recognises it.
fn recognise(mut test: impl FnMut(&Test) -> Option<Follow>) -> Option<(&'static Known, Follow)> {
    known::all().find_map(|known| known.tests.iter().find_map(|t| Some((known, test(t)?))))
}
