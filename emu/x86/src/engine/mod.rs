//! The step loop: finds blocks, runs them, and between instructions attends to what the manual puts there, in its
//! order (SDM 3A "Priority Among Concurrent Events").

pub mod cache;
mod fetch;

use crate::bus::{Bus, Request, Ticks};
use crate::control::{DR6_BS, DR7_GD};
use crate::cpu::{Activity, Cpu, Shadow};
use crate::fault::{Fault, Pending, Raised, Stop};
use crate::flags;
use crate::mmu::tlb::Geometry;
use crate::model::Model;
use crate::observe::{Cause, Observer};
use crate::op::Op;
use cache::{Cache, CacheFigures};

/// How often time jumps to a deadline for a halted processor before the caller may look around.
const MOST_SKIPS: u32 = 1 << 12;

/// What [`Processor::attempt`] came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// It is done.
    Done,
    /// The instruction cannot be done; nothing is changed.
    Faulted(Fault),
    /// The processor cannot go on.
    Stopped(Stop),
}

/// A processor with its decoded code: what a machine runs.
#[derive(Clone, Debug)]
pub struct Processor<B: Bus, O: Observer> {
    /// The processor proper.
    pub cpu: Cpu<B, O>,
    cache: Cache<B, O>,
    /// Whether decoded blocks are kept (a test switch; results must not depend on it).
    cache_allowed: bool,
}

impl<B: Bus, O: Observer> Processor<B, O> {
    /// A processor in reset state.
    pub fn new(model: Model, geometry: Geometry, bus: B, observer: O) -> Processor<B, O> {
        Processor {
            cpu: Cpu::new(model, geometry, bus, observer),
            cache: Cache::default(),
            cache_allowed: true,
        }
    }

    /// Switches the front table and the block cache on or off. They only make the machine faster: state, counters
    /// and traces are the same either way.
    pub fn set_shortcuts(&mut self, front: bool, cache: bool) {
        self.cpu.front_allowed = front;
        self.cache_allowed = cache;
        self.cache.clear(self.cpu.bus.ram_mut());
        self.cpu.update_context();
    }

    /// Blocks decoded, dropped and now kept.
    pub fn cache_figures(&self) -> (u64, u64, usize) {
        (self.cache.decoded, self.cache.dropped, self.cache.len())
    }

    /// What the block cache did.
    pub fn cache_report(&self) -> CacheFigures {
        self.cache.figures()
    }

    /// Runs until `until` instructions are retired in all, or something stops it.
    pub fn run(&mut self, until: u64) -> Stop {
        self.cpu.horizon = 0;
        loop {
            if self.cpu.retired >= self.cpu.horizon
                && let Err(stop) = self.service(until)
            {
                return stop;
            }
            let result = self.next();
            if let Err(raised) = result
                && let Err(stop) = self.handle(raised)
            {
                return stop;
            }
            if O::ACTIVE && self.cpu.observer.wants_stop() {
                return Stop::Observer;
            }
        }
    }

    /// A block, or what has to come before it.
    #[inline(always)]
    fn next(&mut self) -> Result<(), Raised> {
        let cpu = &self.cpu;
        let attention = cpu.flags.system(flags::TF | flags::RF)
            || cpu.shadow != Shadow::None
            || cpu.debug_trap != 0
            || cpu.nmi_pending
            || cpu.activity != Activity::Running
            || cpu.dr[7] & 0xff != 0
            || cpu.bus.interrupt();
        if attention { self.boundary() } else { self.run_block(u64::MAX) }
    }

    /// Runs what comes next and no more: an instruction (or one iteration of a repeated one), or the delivery of a trap or
    /// interrupt that is due before it. A fault is told and not delivered; [`Processor::deliver_fault`] does that. For
    /// running beside another machine.
    pub fn attempt(&mut self) -> Attempt {
        self.cpu.horizon = 0;
        if let Err(stop) = self.service(self.cpu.retired + 1) {
            return Attempt::Stopped(stop);
        }
        match self.next() {
            Ok(()) => Attempt::Done,
            Err(raised) => match self.cpu.take_pending(raised) {
                Pending::None => unreachable!("a token is made only by recording what it stands for"),
                Pending::Stop(stop) => Attempt::Stopped(stop),
                Pending::Fault(fault) => Attempt::Faulted(fault),
            },
        }
    }

    /// Delivers a fault that [`Processor::attempt`] told, or another in its place.
    pub fn deliver_fault(&mut self, fault: Fault) -> Result<(), Stop> {
        self.deliver(Cause::Fault(fault))
    }

    /// Runs one instruction (or one iteration of a repeated one), delivery of what is due before it included.
    pub fn step(&mut self) -> Stop {
        self.run(self.cpu.retired + 1)
    }

    /// Tells the board the time, hears its requests, and sets the next horizon.
    fn service(&mut self, until: u64) -> Result<(), Stop> {
        let cpu = &mut self.cpu;
        let mut skips = 0;
        loop {
            let deadline = cpu.bus.tick(cpu.now());
            if cpu.bus.take_nmi() {
                cpu.nmi_pending = true;
            }
            if let Some(request) = cpu.bus.take_request() {
                if request == Request::Reset {
                    cpu.reset();
                }
                return Err(Stop::Request(request));
            }
            if cpu.bus.ram().code_was_written() {
                Self::drop_written(cpu, &mut self.cache);
            }
            if cpu.bus.layout() != cpu.bus_layout {
                cpu.bus_layout = cpu.bus.layout();
                cpu.forget_front();
            }
            if cpu.retired >= until {
                return Err(Stop::Limit);
            }
            let next = deadline.map_or(u64::MAX, |at| cpu.clock.instructions_until(at, cpu.retired));
            if cpu.activity == Activity::Running || cpu.can_wake() {
                cpu.horizon = next.clamp(cpu.retired + 1, until);
                return Ok(());
            }
            // halted: time passes without instructions, if anything can come of it
            let hears = cpu.accepts_interrupts() && cpu.bus.can_interrupt();
            let Some(deadline) = deadline.filter(|_| hears) else { return Err(Stop::Halted) };
            skips += 1;
            if skips > MOST_SKIPS {
                return Err(Stop::Idle);
            }
            let retired = cpu.retired;
            let at_least = Ticks(cpu.now().0.saturating_add(1));
            cpu.clock.skip_to(deadline.max(at_least), retired);
        }
    }

    /// Drops the blocks whose bytes were written, by whomever: before any block is looked for.
    fn drop_written(cpu: &mut Cpu<B, O>, cache: &mut Cache<B, O>) {
        for write in cpu.bus.ram_mut().take_code_writes() {
            cache.drop_written(write, cpu.bus.ram_mut());
        }
    }

    /// What may come between two instructions, then one instruction.
    fn boundary(&mut self) -> Result<(), Raised> {
        let cpu = &mut self.cpu;
        let held = cpu.shadow;
        // traps on the previous instruction
        if cpu.debug_trap != 0 && held != Shadow::MovSs {
            let causes = std::mem::take(&mut cpu.debug_trap);
            cpu.dr[6] |= causes;
            cpu.activity = Activity::Running;
            return self.interrupt(Cause::DebugTrap);
        }
        if cpu.nmi_pending && !cpu.nmi_blocked && held != Shadow::MovSs {
            cpu.nmi_pending = false;
            cpu.nmi_blocked = true;
            cpu.activity = Activity::Running;
            return self.interrupt(Cause::Nmi);
        }
        if held == Shadow::None && cpu.bus.interrupt() && cpu.accepts_interrupts() {
            let vector = cpu.bus.acknowledge(cpu.now());
            cpu.activity = Activity::Running;
            cpu.horizon = 0;
            return self.interrupt(Cause::External(vector));
        }
        if cpu.activity == Activity::Halted {
            cpu.horizon = 0;
            return Ok(());
        }
        // code breakpoints, unless RF holds them off
        let resume = cpu.flags.system(flags::RF);
        if cpu.dr[7] & 0xff != 0 && !resume {
            let linear = cpu.segs[crate::segment::CS].base.wrapping_add(cpu.eip);
            let hit = cpu.code_breakpoints_at(linear);
            if hit != 0 {
                cpu.dr[6] |= hit;
                return Err(cpu.raise(Fault::Debug));
            }
        }
        cpu.flags.set(0, flags::RF);
        cpu.shadow = Shadow::None;
        cpu.no_step_trap = false;
        let single_step = cpu.flags.tf();
        // everything that brought us here looks again after each instruction
        let alone = single_step || resume || held != Shadow::None || cpu.dr[7] & (0xff | DR7_GD) != 0;
        let retired = cpu.retired;
        let result = self.run_block(if alone { 1 } else { u64::MAX });
        let cpu = &mut self.cpu;
        let stopped_before = O::ACTIVE && result.is_ok() && cpu.retired == retired;
        if result.is_err() {
            cpu.debug_trap = 0;
        }
        if resume && (result.is_err() || stopped_before) {
            cpu.flags.set(flags::RF, flags::RF);
        }
        if stopped_before {
            // the onlooker stopped the run before the instruction: it is still to come, under all that holds for it
            cpu.shadow = held;
        } else if result.is_ok() && single_step && cpu.shadow != Shadow::MovSs && !cpu.no_step_trap {
            cpu.debug_trap |= DR6_BS;
        }
        result
    }

    fn interrupt(&mut self, cause: Cause) -> Result<(), Raised> {
        self.deliver(cause).map_err(|stop| self.cpu.stop(stop))
    }

    /// Carries out what was raised.
    fn handle(&mut self, raised: Raised) -> Result<(), Stop> {
        match self.cpu.take_pending(raised) {
            Pending::None => unreachable!("a token is made only by recording what it stands for"),
            Pending::Stop(stop) => Err(stop),
            Pending::Fault(fault) => self.deliver(Cause::Fault(fault)),
        }
    }

    /// Delivers what came between two instructions. One delivery right after another counts as an instruction, so that time
    /// passes and limits hold where a handler's first instruction faults for ever.
    fn deliver(&mut self, cause: Cause) -> Result<(), Stop> {
        let cpu = &mut self.cpu;
        if cpu.delivered_at == Some(cpu.retired) {
            cpu.retired += 1;
        }
        cpu.delivered_at = Some(cpu.retired);
        cpu.deliver(cause)
    }

    /// Runs at most `most` instructions of the block at CS:EIP.
    fn run_block(&mut self, most: u64) -> Result<(), Raised> {
        let mut scratch = None;
        let id = self.next_block(&mut scratch)?;
        let (ops, len): (&[Op<B, O>], u16) = match (&scratch, id) {
            (Some((ops, len)), _) => (ops, *len),
            (None, id) => {
                let block = self.cache.block(id);
                (&block.ops, block.len)
            }
        };
        let cpu = &mut self.cpu;
        let budget = (cpu.horizon.saturating_sub(cpu.retired)).min(most).min(ops.len() as u64) as usize;
        let count = cpu.within_code_limit(ops, len, budget)?;
        cpu.block_eip = cpu.eip;
        cpu.leave = false;
        cpu.unkept = scratch.is_some();
        run_ops(cpu, &ops[..count])
    }
}

/// Runs ops one after the other until the last, a fault, or a reason to leave.
#[inline(always)]
fn run_ops<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, ops: &[Op<B, O>]) -> Result<(), Raised> {
    for (n, op) in ops.iter().enumerate() {
        cpu.done = n as u32;
        if O::ACTIVE {
            cpu.eip = cpu.ip(op);
            cpu.show_instruction(op.len);
            if cpu.observer.wants_stop() {
                cpu.keep_fetched(op.len);
                cpu.retired += n as u64;
                cpu.done = 0;
                return Ok(());
            }
        }
        match (op.run)(cpu, op) {
            Ok(()) => {
                if cpu.leave || n + 1 == ops.len() {
                    cpu.retired += n as u64 + 1;
                    cpu.done = 0;
                    if !op.jumps {
                        cpu.eip = cpu.next_ip(op);
                    }
                    break;
                }
            }
            Err(raised) => {
                cpu.retired += n as u64;
                cpu.done = 0;
                cpu.eip = cpu.ip(op);
                return Err(raised);
            }
        }
    }
    Ok(())
}

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// Whether an external interrupt on the line would be taken now: EFLAGS.IF.
    pub fn accepts_interrupts(&self) -> bool {
        self.flags.interrupts()
    }

    /// Whether a halted processor has something to wake for.
    fn can_wake(&self) -> bool {
        self.debug_trap != 0
            || (self.nmi_pending && !self.nmi_blocked)
            || (self.bus.interrupt() && self.accepts_interrupts())
    }

    /// How many iterations of a repeated string instruction may run before the engine must look up (at least 1).
    pub fn iterations_allowed(&self) -> u64 {
        if self.flags.tf() || self.dr[7] & 0xff != 0 || self.unkept {
            return 1;
        }
        self.horizon.saturating_sub(self.retired_now()).max(1)
    }

    /// Whether the running block, and a repeated instruction in it, must not go on.
    #[inline(always)]
    pub fn must_leave(&self) -> bool {
        self.leave || (O::ACTIVE && self.observer.wants_stop())
    }

    /// Shows the observer another iteration of the repeated instruction `op`, as if it came from the step loop.
    pub fn show_iteration(&mut self, op: &Op<B, O>) {
        self.eip = self.ip(op);
        self.show_instruction(op.len);
    }

    /// Counts iterations of a repeated instruction beyond the one that the instruction itself counts for.
    pub fn count_iterations(&mut self, extra: u64) {
        self.retired += extra;
    }
}
