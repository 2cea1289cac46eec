//! Our side, brought to each state that QEMU tells.

use std::collections::{BTreeMap, VecDeque};

use iced_x86::{Instruction, Mnemonic};
use pagewalk_x86::bus::{Bus, Frame};
use pagewalk_x86::control::CR0_AM;
use pagewalk_x86::engine::Attempt;
use pagewalk_x86::fault::{Fault, Stop};
use pagewalk_x86::flags;
use pagewalk_x86::mmu::tlb::FlushCause;
use pagewalk_x86::observe::Cause;
use pagewalk_x86::segment::{CS, SS, Segment};

use super::known::{self, Follow, Known, Scene, Test};
use super::memory;
use super::report::{Difference, Kind};
use super::state::{self, Except};
use super::{By, Ours};
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

/// The busy bit of a TSS, in its access byte.
const BUSY: u16 = 2;

type Followed<T = ()> = Result<T, Parted>;

/// What one attempt of ours came to.
enum Step {
    Done,
    Faulted(Fault),
}

impl Pair {
    pub fn new(ours: Ours, before: Dump, by: By, cpuid: BTreeMap<(u32, u32), [u32; 4]>) -> Pair {
        Pair {
            ours,
            before,
            by,
            undefined: 0,
            cpuid,
            known: BTreeMap::new(),
            fed: BTreeMap::new(),
            compared: 0,
            delivered: VecDeque::new(),
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
        memory::take(self, qemu)?;
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

    fn difference(&self, kind: Kind, theirs: &Dump) -> Parted {
        Parted::Difference(Box::new(Difference::new(kind, self, theirs)))
    }

    fn scene<'a>(&'a self, instruction: &'a Instruction, before: &'a Dump) -> Scene<'a> {
        Scene { instruction, before, ours: &self.ours.cpu }
    }

    /// QEMU has delivered `delivery` and found the state `found`.
    pub fn follow_delivery(&mut self, delivery: Delivery, found: &Dump) -> Followed {
        self.ours.cpu.bus.set_a20(found.a20);
        // the next link of a chain that ours has gone through already
        if let Some(cause) = self.delivered.pop_front() {
            return if matches(cause, delivery) {
                Ok(())
            } else {
                Err(self.difference(Kind::OtherException(Some(cause), delivery), found))
            };
        }
        self.reach(found, 0, self.most(), Except { flags: 0, fault_registers: true })?;
        if delivery.hardware {
            self.feed("interrupts");
            self.ours.cpu.bus.interrupt = Some(delivery.vector);
        }
        let step = self.attempt(found)?;
        let taken = std::mem::take(&mut self.ours.cpu.observer.deliveries);
        self.delivered.extend(taken);
        match (self.delivered.pop_front(), step) {
            (Some(cause), step) if matches(cause, delivery) => match step {
                Step::Done => {
                    self.settle_flags_saved(cause, found);
                    Ok(())
                }
                // INT n whose gate raises something: its fault is the instruction's
                Step::Faulted(fault) => self.raise(fault, found),
            },
            (None, Step::Faulted(fault)) if matches(Cause::Fault(fault), delivery) => {
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
        if self.delivered.len() == 1 && !self.down {
            self.settle_flags_saved(Cause::Fault(fault), found);
        }
        Ok(())
    }

    /// QEMU raised another exception than ours did. If that is known, ours raises QEMU's.
    fn take_exception(&mut self, ours: Option<Cause>, theirs: Delivery, found: &Dump) -> Followed {
        let instruction = self.ours.cpu.observer.last().instruction();
        let scene = self.scene(&instruction, found);
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
            return Err(self.difference(Kind::OursDelivers(cause), dump));
        }
        self.ours.cpu.bus.set_a20(dump.a20);
        let (least, most) = if moved { (1, self.most()) } else { (0, 0) };
        self.reach(dump, least, most, Except::default())?;
        if !self.ours.cpu.bus.unfed.is_empty() || !self.ours.cpu.bus.inputs.is_empty() {
            return Err(self.difference(Kind::Inputs, dump));
        }
        self.before.clone_from(dump);
        Ok(())
    }

    /// Runs ours until its registers are `dump`: at least `least` instructions, and at most `most`.
    fn reach(&mut self, dump: &Dump, least: u32, most: u32, except: Except) -> Followed {
        let mut steps = 0;
        loop {
            if steps >= least && self.arrived(dump, except) {
                return Ok(());
            }
            if steps >= most {
                return self.settle_registers(dump, except);
            }
            match self.attempt(dump)? {
                Step::Done => {}
                Step::Faulted(fault) => self.pass(fault, dump)?,
            }
            if let Some(cause) = self.ours.cpu.observer.deliveries.pop() {
                return Err(self.difference(Kind::OursDelivers(cause), dump));
            }
            steps += 1;
        }
    }

    /// One attempt of ours, and what follows an instruction that is done.
    fn attempt(&mut self, dump: &Dump) -> Followed<Step> {
        let (ecx, eax) = (self.ours.cpu.regs.dword(1), self.ours.cpu.regs.dword(0));
        let ran = self.ours.cpu.retired;
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
        let fields = state::fields(&self.ours.cpu.state, dump, except);
        let instruction = self.ours.cpu.observer.last().instruction();
        let scene = self.scene(&instruction, &self.before);
        let recognised = recognise(|test| match test {
            Test::Registers(test) => test(&scene, dump, &fields),
            _ => None,
        });
        let Some((known, follow)) = recognised else { return Err(self.difference(Kind::Registers, dump)) };
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
            if ours.attributes != theirs.attributes | 1 || ours.selector != theirs.selector {
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
        if ours.attributes == theirs.attributes | BUSY && ours.selector == theirs.selector {
            self.ours.cpu.tr = Segment::new(ours.selector, ours.base, ours.limit, theirs.attributes);
            self.note(known::BUSY);
            any = true;
        }
        any
    }

    /// Ours raises a fault where QEMU goes on. If that is known, ours goes on too.
    fn pass(&mut self, fault: Fault, dump: &Dump) -> Followed {
        // a fault leaves everything as it was
        let before = state::dump_of(&self.ours.cpu.state);
        let instruction = self.ours.cpu.observer.last().instruction();
        let mut left_out: Vec<Follow> = Vec::new();
        let mut fault = fault;
        loop {
            let scene = self.scene(&instruction, &before);
            let recognised = recognise(|test| match test {
                Test::Passes(test) => test(&scene, fault),
                _ => None,
            });
            let follow = recognised.map(|(_, follow)| follow);
            let Some((known, follow)) = recognised.filter(|_| !follow.is_some_and(|f| left_out.contains(&f)))
            else {
                return Err(self.difference(Kind::OursDelivers(Cause::Fault(fault)), dump));
            };
            self.note(known.name);
            match follow {
                Follow::WithoutSegmentChecks | Follow::WithoutAlignmentChecks => left_out.push(follow),
                Follow::TakeRegisters if self.by == By::Instruction => {
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

    fn poke(&mut self, linear: u32, bytes: &[u8]) {
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
    known::ALL.iter().find_map(|known| known.tests.iter().find_map(|t| Some((known, test(t)?))))
}

/// Whether ours delivers what QEMU tells.
fn matches(ours: Cause, theirs: Delivery) -> bool {
    let code = if let Cause::Fault(fault) = ours { fault.error_code().unwrap_or(0) } else { 0 };
    let external = matches!(ours, Cause::External(_));
    ours.vector() == theirs.vector && external == theirs.hardware && (external || code == theirs.code)
}

/// The fault that QEMU raised, if it is one.
fn fault_of(theirs: Delivery, found: &Dump) -> Option<Fault> {
    Some(match theirs.vector {
        0 => Fault::DivideError,
        1 => Fault::Debug,
        5 => Fault::Bound,
        6 => Fault::InvalidOpcode,
        7 => Fault::DeviceNotAvailable,
        8 => Fault::DoubleFault,
        10 => Fault::InvalidTss(theirs.code),
        11 => Fault::NotPresent(theirs.code),
        12 => Fault::Stack(theirs.code),
        13 => Fault::GeneralProtection(theirs.code),
        14 => Fault::Page { address: found.cr[2], code: theirs.code },
        16 => Fault::FloatingPoint,
        17 => Fault::Alignment,
        19 => Fault::Simd,
        _ => return None,
    })
}

/// iced-x86's flags in their places in EFLAGS.
fn flags_of(bits: u32) -> u32 {
    use iced_x86::RflagsBits as R;
    [
        (R::CF, flags::CF),
        (R::PF, flags::PF),
        (R::AF, flags::AF),
        (R::ZF, flags::ZF),
        (R::SF, flags::SF),
        (R::OF, flags::OF),
    ]
    .iter()
    .filter(|(theirs, _)| bits & theirs != 0)
    .fold(0, |mask, (_, ours)| mask | ours)
}
