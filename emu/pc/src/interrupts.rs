//! The interrupt controllers together, and the wires between them: each line goes to the 8259A pair and to the I/O APIC,
//! the pair's INT to LINT0 of every local APIC, and messages from the I/O APIC and the local APICs to local APICs.
//!
//! As on QEMU's `pc` machine, interrupt request 0 is input 2 of the I/O APIC and the others have the same numbers there.
//! A board without local APICs has no I/O APIC either: INT is then the processor's INTR.

use crate::apic::io::{INPUTS, IoApic};
use crate::apic::local::{LocalApic, Pending};
use crate::apic::{Delivery, IO_BASE, Message};
use crate::device::{IrqLine, Movement};
use crate::pic::Pic;
use pagewalk_x86::bus::{Phys, Size, Ticks};
use pagewalk_x86::image::Damaged;
use serde::{Deserialize, Serialize};

const PAGE: u64 = 4096;
const LINT0: usize = 0;
/// What asks for interrupts: sixteen lines, and the three kinds after them.
pub const SOURCES: usize = 19;
/// The source after the lines: timers of local APICs.
pub const TIMERS: usize = 16;
/// The source after those: other messages.
pub const MESSAGES: usize = 17;
/// The last source: requests that were gone when they were acknowledged.
pub const SPURIOUS: usize = 18;

/// The input of the I/O APIC that an interrupt request is wired to.
pub const fn input_of(irq: u8) -> u8 {
    if irq == 0 { 2 } else { irq }
}

/// All interrupt controllers.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Interrupts {
    /// The 8259A pair.
    pub pic: Pic,
    io: IoApic,
    /// The local APIC of each processor.
    local: Vec<LocalApic>,
    /// The processor that runs.
    running: usize,
    /// Whether the running processor is interrupted, kept so that asking costs nothing.
    interrupt: bool,
    /// Whether an INIT for the running processor has come.
    init: bool,
    /// Interrupts taken, by what asked for them: see [`Interrupts::taken`].
    taken: [u64; SOURCES],
}

impl Interrupts {
    /// Interrupts that processors took: those of the sixteen lines by number, then those of local APIC timers, other
    /// messages (of processors to each other, or from a line given up meanwhile), and spurious ones.
    pub fn taken(&self) -> [u64; SOURCES] {
        self.taken
    }

    /// Puts in an I/O APIC and `processors` local APICs, at most 8, or takes them all out.
    pub fn fit(&mut self, processors: u8) {
        self.local = (0..processors.min(8)).map(LocalApic::new).collect();
        self.io.reset();
        self.settle();
    }

    /// Refuses what the controllers can't hold.
    pub(crate) fn check(&self) -> Result<(), Damaged> {
        self.pic.check()?;
        Damaged::unless(self.local.len() <= 8 && self.running == 0, "the APICs")
    }

    /// How many local APICs there are.
    pub fn local_apics(&self) -> usize {
        self.local.len()
    }

    /// RESET for all of them.
    pub fn reset(&mut self) {
        self.pic.reset();
        self.io.reset();
        self.local.iter_mut().for_each(LocalApic::reset);
        self.init = false;
        self.settle();
    }

    /// The processor's interrupt pin, as it were.
    #[inline(always)]
    pub fn interrupt(&self) -> bool {
        self.interrupt
    }

    /// Whether an NMI for the running processor has come; asking clears it.
    pub fn take_nmi(&mut self) -> bool {
        self.local.get_mut(self.running).is_some_and(LocalApic::take_nmi)
    }

    /// Whether an INIT for the running processor has come; asking clears it.
    pub fn take_init(&mut self) -> bool {
        std::mem::take(&mut self.init)
    }

    /// Carries a chip's line to interrupt request `irq`, if it moved.
    #[inline]
    pub fn wire(&mut self, irq: u8, line: &mut IrqLine) {
        let Some(movement) = line.take() else { return };
        self.pic.carry(irq, movement);
        self.carry(input_of(irq), movement);
    }

    /// Carries a line to an input of the I/O APIC alone.
    pub fn wire_input(&mut self, input: u8, line: &mut IrqLine) {
        if let Some(movement) = line.take() {
            self.carry(input, movement);
        }
    }

    fn carry(&mut self, input: u8, movement: Movement) {
        if movement == Movement::Rose {
            self.io.set_line(usize::from(input), false);
        }
        self.io.set_line(usize::from(input), movement != Movement::Fell);
        self.settle();
    }

    /// Whether the processor would be interrupted if these of the sixteen requests came.
    pub fn could_interrupt(&self, lines: u16) -> bool {
        let Some(local) = self.local.get(self.running) else { return self.pic.could_interrupt(lines) };
        let moved = u32::from(lines & !1) | u32::from(lines & 1) << input_of(0);
        local.pending().is_some()
            || local.could_interrupt()
            || local.passes_intr() && self.pic.could_interrupt(lines)
            || self.io.could_interrupt(moved)
    }

    /// The interrupt is acknowledged: its vector.
    pub fn acknowledge(&mut self) -> u8 {
        let by_pic = self.local.get(self.running).is_none_or(|l| l.pending() == Some(Pending::ExtInt));
        let source = by_pic.then(|| self.pic.answerable().map_or(SPURIOUS, usize::from));
        let vector = match self.local.get_mut(self.running) {
            None => self.pic.acknowledge(),
            Some(local) if local.pending() == Some(Pending::ExtInt) => {
                local.acknowledge_ext_int();
                self.pic.acknowledge()
            }
            Some(local) => local.acknowledge(),
        };
        self.taken[source.unwrap_or_else(|| self.source_of(vector))] += 1;
        self.settle();
        vector
    }

    /// What sends a vector to the running local APIC.
    fn source_of(&self, vector: u8) -> usize {
        let timer = self.local.get(self.running).and_then(LocalApic::timer_vector);
        match self.io.input_of(vector) {
            Some(2) => 0,
            Some(input @ 0..16) => input.into(),
            _ if timer == Some(vector) => TIMERS,
            _ => MESSAGES,
        }
    }

    /// Tells the local APICs the time. Returns when one of them next interrupts.
    pub fn tick(&mut self, now: Ticks) -> Option<Ticks> {
        let next = self.local.iter_mut().filter_map(|local| local.tick(now)).min();
        self.settle();
        next
    }

    /// After anything changed: levels and messages are carried until all is still, and the processor's pin is set.
    pub fn settle(&mut self) {
        if self.local.is_empty() {
            self.interrupt = self.pic.interrupt();
            return;
        }
        for input in 0..INPUTS {
            if let Some(message) = self.io.offer(input) {
                let accepted = deliver(&mut self.local, &message, None);
                self.io.sent(input, accepted);
            }
        }
        let intr = self.pic.interrupt();
        for local in &mut self.local {
            local.set_pin(LINT0, intr);
        }
        if let Some(local) = self.local.get_mut(self.running) {
            self.interrupt = local.pending().is_some();
            self.init |= local.take_init();
        }
    }

    /// IA32_APIC_BASE of the running processor was written.
    pub fn set_base(&mut self, value: u64) {
        if let Some(local) = self.local.get_mut(self.running) {
            local.set_base(value);
        }
        self.settle();
    }

    /// Whether registers stand in frame number `frame`, whatever else is there.
    #[inline]
    pub fn owns(&self, frame: u64) -> bool {
        self.local.get(self.running).is_some_and(|local| local.frame() == Some(frame))
    }

    /// Reads a register in memory, if there is one at `at`.
    pub fn mmio_read(&mut self, at: Phys, size: Size, now: Ticks) -> Option<u32> {
        let offset = (at.0 % PAGE) as u16;
        let whole = size == Size::Dword && offset & 3 == 0;
        if self.owns(at.0 / PAGE) {
            let local = self.local.get_mut(self.running)?;
            let value = if whole && offset & 15 == 0 { local.read(offset, now) } else { 0 };
            self.settle();
            return Some(value);
        }
        (self.io_is_at(at)).then(|| if whole { self.io.read(offset) } else { 0 })
    }

    /// Writes a register in memory. Says whether there is one at `at`.
    pub fn mmio_write(&mut self, at: Phys, size: Size, value: u32, now: Ticks) -> bool {
        let offset = (at.0 % PAGE) as u16;
        let whole = size == Size::Dword && offset & 3 == 0;
        let sender = self.running;
        if self.owns(at.0 / PAGE) {
            let Some(local) = self.local.get_mut(sender).filter(|_| whole && offset & 15 == 0) else {
                return true;
            };
            let id = local.id();
            let effects = local.write(offset, value, now);
            if let Some(vector) = effects.ended {
                self.io.end(vector);
            }
            if let Some(message) = effects.send {
                deliver(&mut self.local, &message, Some(id));
            }
        } else if self.io_is_at(at) {
            if whole {
                self.io.write(offset, value);
            }
        } else {
            return false;
        }
        self.settle();
        true
    }

    fn io_is_at(&self, at: Phys) -> bool {
        !self.local.is_empty() && at.0 / PAGE == IO_BASE / PAGE
    }
}

/// Hands a message to those it is meant for. Says whether any took it.
fn deliver(local: &mut [LocalApic], message: &Message, sender: Option<u8>) -> bool {
    let meant = |local: &LocalApic| local.is_meant(message.destination, sender);
    if message.delivery == Delivery::LowestPriority {
        let least = local.iter_mut().filter(|local| meant(local)).min_by_key(|l| l.arbitration_priority());
        return least.is_some_and(|local| local.accept(message));
    }
    local.iter_mut().filter(|local| meant(local)).fold(false, |any, local| local.accept(message) | any)
}

#[cfg(test)]
mod tests;
