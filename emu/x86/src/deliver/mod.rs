//! Delivery of exceptions and interrupts through the IDT (SDM 3A "Interrupt and Exception Handling").
//!
//! [`Cpu::deliver`] is asked by the engine, once for what an instruction raised or what arrived between instructions. It
//! tries [`Cpu::enter_handler`] and, when that meets an exception of its own, combines the two by the manual's table
//! until a handler is entered or the processor shuts down. INT n and its kin call [`Cpu::enter_handler`] themselves:
//! what it raises is then simply the fault of the instruction.

mod double_fault;
mod protected;
mod real;
mod vm86;

#[cfg(test)]
mod tests;

use crate::bus::Bus;
use crate::control::DR7_GD;
use crate::cpu::{Cpu, Mode, Shadow};
use crate::fault::{Exec, Fault, Pending, Raised, Shutdown, Stop};
use crate::flags;
use crate::observe::{Cause, Control, Observer};
use crate::segment::CS;
use double_fault::Outcome;

/// How many exceptions in a row one delivery may meet. Choice: only #AC and #PF that keep raising each other get here,
/// where hardware goes on for ever.
const MOST_ATTEMPTS: usize = 8;

/// EXT in an error code: the exception came while delivering an event that is not the program's own doing.
const EXT: u16 = 1;

/// Whether the event is INT n, INT3 or INTO: its gate's DPL is checked, and EXT stays clear (SDM 3A "Error Code").
fn is_software(cause: Cause) -> bool {
    matches!(cause, Cause::Software(_) | Cause::Breakpoint | Cause::Overflow)
}

/// Sets EXT in the error code of an exception met while delivering `cause`.
fn with_ext(fault: Fault, cause: Cause) -> Fault {
    if is_software(cause) {
        return fault;
    }
    match fault {
        Fault::InvalidTss(code) => Fault::InvalidTss(code | EXT),
        Fault::NotPresent(code) => Fault::NotPresent(code | EXT),
        Fault::Stack(code) => Fault::Stack(code | EXT),
        Fault::GeneralProtection(code) => Fault::GeneralProtection(code | EXT),
        other => other,
    }
}

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// Delivers an exception or interrupt found by the engine; `self.eip` is what is to be pushed. Exceptions met
    /// on the way are combined by the manual's rules; a shutdown is returned as a stop.
    pub fn deliver(&mut self, cause: Cause) -> Result<(), Stop> {
        let mut cause = cause;
        self.chain = Shutdown { at: (self.segs[CS].selector, self.eip), ..Shutdown::default() };
        self.load_cr2(cause);
        for _ in 0..MOST_ATTEMPTS {
            // a task switch that failed half-way has left the new task's EIP
            let entered = self.enter_handler(cause, self.eip).and_then(|in_new_task| in_new_task);
            let Err(raised) = entered else { return Ok(()) };
            let second = self.met(raised, cause)?;
            self.load_cr2(second);
            let first = if let Cause::Fault(fault) = cause { Some(fault) } else { None };
            cause = match double_fault::combine(double_fault::class(cause), double_fault::class(second)) {
                Outcome::Serial => second,
                Outcome::DoubleFault => {
                    self.chain.first = first;
                    self.chain.second = fault_of(second);
                    Cause::Fault(Fault::DoubleFault)
                }
                Outcome::Shutdown => {
                    self.chain.first = self.chain.first.or(first);
                    self.chain.third = fault_of(second);
                    return Err(Stop::Shutdown(self.chain));
                }
            };
        }
        self.chain.first = self.chain.first.or(fault_of(cause));
        Err(Stop::Shutdown(self.chain))
    }

    /// A page fault loads CR2 when it is found, also one that becomes a part of #DF.
    fn load_cr2(&mut self, cause: Cause) {
        if let Cause::Fault(Fault::Page { address, .. }) = cause {
            let old = std::mem::replace(&mut self.cr2, address);
            self.show_control(Control::Cr { number: 2, old, new: address });
        }
    }

    /// The exception met while delivering `cause`.
    fn met(&mut self, raised: Raised, cause: Cause) -> Result<Cause, Stop> {
        match self.take_pending(raised) {
            Pending::Fault(fault) => Ok(Cause::Fault(with_ext(fault, cause))),
            Pending::Stop(stop) => Err(stop),
            Pending::None => unreachable!("a token is made only by recording what it stands for"),
        }
    }

    /// What an instruction met while it delivered `cause` itself, with EXT as it is for `cause`.
    pub fn with_ext_of(&mut self, raised: Raised, cause: Cause) -> Raised {
        match self.take_pending(raised) {
            Pending::Fault(fault) => self.raise(with_ext(fault, cause)),
            Pending::Stop(stop) => self.stop(stop),
            Pending::None => unreachable!("a token is made only by recording what it stands for"),
        }
    }

    /// Enters the handler of `cause`, with `return_eip` to go back to.
    ///
    /// If it fails, nothing is changed. The inner result fails when a task switch was past its point of no return: the
    /// processor is in the new task then, and the fault is the new task's.
    pub fn enter_handler(&mut self, cause: Cause, return_eip: u32) -> Exec<Exec> {
        if O::ACTIVE {
            let at = self.at();
            self.observer.delivery(&at, cause, &self.state);
        }
        let entered = match self.mode() {
            Mode::Real => self.enter_real(cause, return_eip).map(Ok),
            Mode::Vm86 => self.enter_from_vm86(cause, return_eip),
            Mode::Protected => self.enter_protected(cause, return_eip),
        }?;
        self.no_step_trap = true;
        self.shadow = Shadow::None;
        self.leave_block();
        if entered.is_ok() {
            self.count(cause);
            // Manual: GD is cleared on entry to the debug exception's handler
            if matches!(cause, Cause::Fault(Fault::Debug) | Cause::DebugTrap) && self.dr[7] & DR7_GD != 0 {
                self.dr[7] &= !DR7_GD;
                self.show_control(Control::Dr { number: 7, new: self.dr[7] });
            }
        }
        Ok(entered)
    }

    fn count(&mut self, cause: Cause) {
        let vector = usize::from(cause.vector());
        self.deliveries[vector] += 1;
        match cause {
            Cause::External(_) => self.external[vector] += 1,
            Cause::Software(_) => {}
            _ => self.exceptions[vector & 31] += 1,
        }
    }

    /// EFLAGS as the handler of `cause` finds it saved: with RF set for faults, so that the instruction runs past its
    /// breakpoint when it is restarted, except for the breakpoint's own #DB (SDM 3B "Instruction-Breakpoint Exception
    /// Condition").
    fn flags_image(&self, cause: Cause) -> u32 {
        let Cause::Fault(fault) = cause else { return self.flags.get() };
        let linear = self.segs[CS].base.wrapping_add(self.eip);
        let is_breakpoint = fault == Fault::Debug && self.code_breakpoints_at(linear) != 0;
        if is_breakpoint { self.flags.get() } else { self.flags.get() | flags::RF }
    }
}

/// The fault that a cause is, if it is one.
fn fault_of(cause: Cause) -> Option<Fault> {
    if let Cause::Fault(fault) = cause { Some(fault) } else { None }
}
