//! The local APIC of a processor, in xAPIC mode: SDM 3A "Local APIC", "Handling Interrupts".
//!
//! Left out: the TSC-deadline mode of the timer and x2APIC mode (CPUID shows neither), the CMCI entry, remote reads,
//! suppression of EOI broadcasts. Thermal and performance counter interrupts never come. Nothing reaches a processor that
//! waits for a start-up, because only one runs.
//!
//! `Choice:` the timer's clock is 100 MHz, the crystal of CPUID leaf 15h. Accesses other than of an aligned dword read
//! zero and write nothing.

use super::{Delivery, Destination, EVERYBODY, Message};
use pagewalk_x86::bus::Ticks;
use serde::{Deserialize, Serialize};

// Registers, in the order of SDM 3A table "Local APIC Register Address Map".
const ID: u16 = 0x020;
const VERSION: u16 = 0x030;
const TPR: u16 = 0x080;
const APR: u16 = 0x090;
const PPR: u16 = 0x0a0;
const EOI: u16 = 0x0b0;
const RRD: u16 = 0x0c0;
const LDR: u16 = 0x0d0;
const DFR: u16 = 0x0e0;
const SVR: u16 = 0x0f0;
const ISR: u16 = 0x100;
const TMR: u16 = 0x180;
const IRR: u16 = 0x200;
const ESR: u16 = 0x280;
const ICR_LOW: u16 = 0x300;
const ICR_HIGH: u16 = 0x310;
const LVT: u16 = 0x320;
const LVT_END: u16 = LVT + 0x10 * LVT_ENTRIES as u16 - 1;
const INITIAL_COUNT: u16 = 0x380;
const CURRENT_COUNT: u16 = 0x390;
const DIVIDE: u16 = 0x3e0;

// Entries of the local vector table.
const TIMER: usize = 0;
const LINT0: usize = 3;
const LINT1: usize = 4;
const ERROR: usize = 5;
const LVT_ENTRIES: usize = 6;
/// Timer, thermal, performance counters, LINT0, LINT1, error: which bits can be written.
const LVT_WRITABLE: [u32; LVT_ENTRIES] = [0x3_00ff, 0x1_07ff, 0x1_07ff, 0x1_a7ff, 0x1_a7ff, 0x1_00ff];

const LVT_PERIODIC: u32 = 1 << 17;
const LVT_MASKED: u32 = 1 << 16;
const LVT_LEVEL: u32 = 1 << 15;
const LVT_REMOTE_IRR: u32 = 1 << 14;
const LVT_ACTIVE_LOW: u32 = 1 << 13;

/// Version 14h; the highest entry of the local vector table.
const VERSION_VALUE: u32 = (LVT_ENTRIES as u32 - 1) << 16 | 0x14;
const SVR_ENABLE: u32 = 1 << 8;
const SVR_FOCUS: u32 = 1 << 9;
const ICR_ASSERT: u32 = 1 << 14;
const ICR_LEVEL: u32 = 1 << 15;
/// Vector, delivery mode, destination mode, level, trigger, shorthand.
const ICR_WRITABLE: u32 = 0xc_cfff;

const ERROR_SEND_VECTOR: u32 = 1 << 5;
const ERROR_RECEIVED_VECTOR: u32 = 1 << 6;
const ERROR_REGISTER: u32 = 1 << 7;

/// Vectors below this one are for exceptions.
const FIRST_VECTOR: u8 = 16;

const BASE_ENABLE: u64 = 1 << 11;
const BASE_BOOT: u64 = 1 << 8;
const BASE_ADDRESS: u64 = 0xf_ffff_f000;

/// A tick of the timer's clock.
const CLOCK_NS: u64 = 10;

/// One bit for each vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Vectors([u32; 8]);

impl Vectors {
    fn has(&self, vector: u8) -> bool {
        self.0[usize::from(vector >> 5)] >> (vector & 31) & 1 != 0
    }

    fn set(&mut self, vector: u8, value: bool) {
        let word = &mut self.0[usize::from(vector >> 5)];
        *word = *word & !(1 << (vector & 31)) | u32::from(value) << (vector & 31);
    }

    fn highest(&self) -> Option<u8> {
        let word = self.0.iter().rposition(|&word| word != 0)?;
        Some((word * 32) as u8 + 31 - self.0[word].leading_zeros() as u8)
    }
}

/// What a processor is interrupted by through its local APIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pending {
    /// An interrupt of the APIC's own.
    Vector,
    /// An interrupt whose vector the 8259A tells.
    ExtInt,
}

/// What the board does for a local APIC after a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Effects {
    /// A message to be sent.
    pub send: Option<Message>,
    /// The end of a level-triggered interrupt, to be told to the I/O APIC.
    pub ended: Option<u8>,
}

/// A local APIC.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LocalApic {
    /// IA32_APIC_BASE.
    base: u64,
    id: u8,
    tpr: u8,
    ldr: u8,
    dfr: u8,
    svr: u32,
    isr: Vectors,
    tmr: Vectors,
    irr: Vectors,
    /// Errors since the last write to the error status register, and those it shows.
    errors: u32,
    esr: u32,
    icr: u32,
    icr_destination: u8,
    lvt: [u32; LVT_ENTRIES],
    /// The pins LINT0 and LINT1 as they are.
    pins: [bool; 2],
    divide: u32,
    initial: u32,
    /// When the count ends (for the next time), if the timer runs.
    ends: Option<Ticks>,
    /// An ExtINT message has come and is not acknowledged yet.
    ext_int: bool,
    nmi: bool,
    init: bool,
}

impl LocalApic {
    /// The local APIC number `id` after RESET; the first one's processor is the one that boots.
    pub fn new(id: u8) -> LocalApic {
        let boot = if id == 0 { BASE_BOOT } else { 0 };
        LocalApic {
            base: super::LOCAL_BASE | BASE_ENABLE | boot,
            id,
            tpr: 0,
            ldr: 0,
            dfr: 0xf,
            svr: 0xff,
            isr: Vectors::default(),
            tmr: Vectors::default(),
            irr: Vectors::default(),
            errors: 0,
            esr: 0,
            icr: 0,
            icr_destination: 0,
            lvt: [LVT_MASKED; LVT_ENTRIES],
            pins: [false; 2],
            divide: 0,
            initial: 0,
            ends: None,
            ext_int: false,
            nmi: false,
            init: false,
        }
    }

    /// RESET: as power-on, but for what the pins are doing.
    pub fn reset(&mut self) {
        let boot_id = if self.base & BASE_BOOT != 0 { 0 } else { self.id };
        *self = LocalApic { pins: self.pins, ..LocalApic::new(boot_id) };
    }

    /// WRMSR to IA32_APIC_BASE. Manual: clearing the enable bit leaves the state as after power-up.
    pub fn set_base(&mut self, value: u64) {
        let was_on = self.is_on();
        self.base = self.base & BASE_BOOT | value & (BASE_ADDRESS | BASE_ENABLE);
        if was_on && !self.is_on() {
            let base = self.base;
            self.reset();
            self.base = base;
        }
    }

    /// Whether IA32_APIC_BASE lets it be: otherwise the processor has no local APIC, and LINT0 and LINT1 are INTR and NMI.
    pub fn is_on(&self) -> bool {
        self.base & BASE_ENABLE != 0
    }

    /// The frame its registers stand in.
    pub fn frame(&self) -> Option<u64> {
        self.is_on().then_some((self.base & BASE_ADDRESS) >> 12)
    }

    fn software_enabled(&self) -> bool {
        self.svr & SVR_ENABLE != 0
    }

    /// SDM 3A "Task and Processor Priorities".
    fn ppr(&self) -> u8 {
        let serving = self.isr.highest().unwrap_or(0) & 0xf0;
        if self.tpr & 0xf0 >= serving { self.tpr } else { serving }
    }

    /// The requested vector that the processor's priority lets through.
    fn deliverable(&self) -> Option<u8> {
        self.irr.highest().filter(|vector| vector & 0xf0 > self.ppr() & 0xf0)
    }

    /// What interrupts the processor now, with the 8259A's INT on LINT0.
    pub fn pending(&self) -> Option<Pending> {
        if !self.is_on() {
            return self.pins[0].then_some(Pending::ExtInt);
        }
        let lint0 = self.lvt[LINT0];
        let through = self.pins[0] != (lint0 & LVT_ACTIVE_LOW != 0)
            && lint0 & LVT_MASKED == 0
            && Delivery::of(lint0) == Delivery::ExtInt;
        if self.deliverable().is_some() {
            Some(Pending::Vector)
        } else {
            (self.ext_int || through).then_some(Pending::ExtInt)
        }
    }

    /// Whether an interrupt of the 8259A would reach the processor.
    pub fn passes_intr(&self) -> bool {
        let lint0 = self.lvt[LINT0];
        !self.is_on() || lint0 & LVT_MASKED == 0
    }

    /// Whether the timer will interrupt by itself.
    pub fn could_interrupt(&self) -> bool {
        self.is_on() && self.ends.is_some() && self.lvt[TIMER] & LVT_MASKED == 0
    }

    /// The processor takes the interrupt: it goes into service. Manual: where none is left, the spurious vector, without
    /// an in-service bit.
    pub fn acknowledge(&mut self) -> u8 {
        let Some(vector) = self.deliverable() else { return self.svr as u8 };
        self.irr.set(vector, false);
        self.isr.set(vector, true);
        vector
    }

    /// The vector that its timer sends, if it sends one.
    pub fn timer_vector(&self) -> Option<u8> {
        let entry = self.lvt[TIMER];
        (entry & LVT_MASKED == 0).then_some(entry as u8)
    }

    /// The processor asks the 8259A for the vector.
    pub fn acknowledge_ext_int(&mut self) {
        self.ext_int = false;
    }

    /// Whether an NMI came; asking clears it.
    pub fn take_nmi(&mut self) -> bool {
        std::mem::take(&mut self.nmi)
    }

    /// Whether an INIT came; asking clears it.
    pub fn take_init(&mut self) -> bool {
        std::mem::take(&mut self.init)
    }

    /// Whether a message is for this one. SDM 3A "Determining IPI Destination".
    pub fn is_meant(&self, destination: Destination, sender: Option<u8>) -> bool {
        match destination {
            Destination::Physical(id) => id == self.id || id == EVERYBODY,
            Destination::Logical(EVERYBODY) => true,
            Destination::Logical(mask) if self.dfr == 0 => {
                mask >> 4 == self.ldr >> 4 && mask & self.ldr & 0xf != 0
            }
            Destination::Logical(mask) => mask & self.ldr != 0,
            Destination::Myself => sender == Some(self.id),
            Destination::All => true,
            Destination::Others => sender != Some(self.id),
        }
    }

    /// The number by which lowest-priority messages find the least busy: the lower, the less.
    pub fn arbitration_priority(&self) -> u8 {
        self.ppr()
    }

    /// A message arrives. Says whether it was accepted.
    pub fn accept(&mut self, message: &Message) -> bool {
        match message.delivery {
            // Manual: software-disabled, it responds to INIT, NMI, SMI and SIPI messages only.
            Delivery::Fixed | Delivery::LowestPriority => {
                if !self.is_on() || !self.software_enabled() {
                    return false;
                }
                self.request(message.vector, message.level);
            }
            Delivery::ExtInt => {
                if !self.is_on() || !self.software_enabled() {
                    return false;
                }
                self.ext_int = true;
            }
            Delivery::Nmi => self.nmi = true,
            Delivery::Init => self.init = true,
            Delivery::Smi | Delivery::StartUp | Delivery::Reserved => {}
        }
        true
    }

    fn request(&mut self, vector: u8, level: bool) {
        if vector < FIRST_VECTOR {
            return self.error(ERROR_RECEIVED_VECTOR);
        }
        self.irr.set(vector, true);
        self.tmr.set(vector, level);
    }

    fn error(&mut self, cause: u32) {
        self.errors |= cause;
        let entry = self.lvt[ERROR];
        let vector = entry as u8;
        if entry & LVT_MASKED == 0 {
            if vector < FIRST_VECTOR {
                self.errors |= ERROR_RECEIVED_VECTOR;
            } else {
                self.irr.set(vector, true);
                self.tmr.set(vector, false);
            }
        }
    }

    /// The level of LINT0 (`pin` 0) or LINT1 (1).
    pub fn set_pin(&mut self, pin: usize, level: bool) {
        let old = std::mem::replace(&mut self.pins[pin & 1], level);
        if !self.is_on() {
            self.nmi |= pin == 1 && level && !old;
            return;
        }
        let low = self.lvt[LINT0 + (pin & 1)] & LVT_ACTIVE_LOW != 0;
        self.look_at_pin(pin & 1, (old == low) && (level != low));
    }

    /// Manual: Fixed may be edge- or level-triggered; NMI, SMI and INIT are edges; ExtINT is a level.
    fn look_at_pin(&mut self, pin: usize, became_active: bool) {
        let index = LINT0 + pin;
        let entry = self.lvt[index];
        let active = self.pins[pin] != (entry & LVT_ACTIVE_LOW != 0);
        if entry & LVT_MASKED != 0 || !active {
            return;
        }
        // LINT1 is always edge-triggered.
        let level = pin == 0 && entry & LVT_LEVEL != 0;
        match Delivery::of(entry) {
            Delivery::Fixed if level && entry & LVT_REMOTE_IRR == 0 => {
                self.lvt[index] |= LVT_REMOTE_IRR;
                self.request(entry as u8, true);
            }
            Delivery::Fixed if !level && became_active => self.request(entry as u8, false),
            Delivery::Nmi if became_active => self.nmi = true,
            Delivery::Init if became_active => self.init = true,
            _ => {}
        }
    }

    /// The timer's tick in nanoseconds. Manual: bits 3, 1 and 0 of the divide configuration register.
    fn timer_tick(&self) -> u64 {
        let code = self.divide & 3 | self.divide >> 1 & 4;
        CLOCK_NS << ((code + 1) & 7)
    }

    fn current_count(&self, now: Ticks) -> u32 {
        let Some(ends) = self.ends else { return 0 };
        u32::try_from(ends.0.saturating_sub(now.0).div_ceil(self.timer_tick())).unwrap_or(u32::MAX)
    }

    fn start_timer(&mut self, count: u32, now: Ticks) {
        let time = u64::from(count).saturating_mul(self.timer_tick());
        self.ends = (count != 0).then_some(Ticks(now.0.saturating_add(time)));
    }

    /// Catches up with `now`; returns when the timer next interrupts.
    pub fn tick(&mut self, now: Ticks) -> Option<Ticks> {
        let ends = self.ends?;
        let entry = self.lvt[TIMER];
        if now >= ends {
            self.ends = None;
            if entry & LVT_PERIODIC != 0 {
                // Manual: reloaded from the initial count, as often as it has passed.
                let period = u64::from(self.initial).saturating_mul(self.timer_tick()).max(1);
                let passed = (now.0 - ends.0) / period + 1;
                self.ends = Some(Ticks(ends.0.saturating_add(passed.saturating_mul(period))));
            }
            if entry & LVT_MASKED == 0 {
                self.request(entry as u8, false);
            }
        }
        self.ends.filter(|_| entry & LVT_MASKED == 0)
    }

    /// Reads the dword at `offset` of its page.
    pub fn read(&mut self, offset: u16, now: Ticks) -> u32 {
        self.tick(now);
        let word = usize::from(offset >> 4 & 7);
        match offset {
            ID => u32::from(self.id) << 24,
            VERSION => VERSION_VALUE,
            TPR => u32::from(self.tpr),
            APR | PPR => u32::from(self.ppr()),
            EOI | RRD => 0,
            LDR => u32::from(self.ldr) << 24,
            DFR => u32::from(self.dfr) << 28 | 0x0fff_ffff,
            SVR => self.svr,
            0x100..=0x17f => self.isr.0[word],
            0x180..=0x1ff => self.tmr.0[word],
            0x200..=0x27f => self.irr.0[word],
            ESR => self.esr,
            ICR_LOW => self.icr,
            ICR_HIGH => u32::from(self.icr_destination) << 24,
            LVT..=LVT_END => self.lvt[usize::from((offset - LVT) >> 4)],
            INITIAL_COUNT => self.initial,
            CURRENT_COUNT => self.current_count(now),
            DIVIDE => self.divide,
            _ => {
                self.error(ERROR_REGISTER);
                0
            }
        }
    }

    /// Writes the dword at `offset` of its page.
    pub fn write(&mut self, offset: u16, value: u32, now: Ticks) -> Effects {
        self.tick(now);
        let high = (value >> 24) as u8;
        let mut effects = Effects::default();
        match offset {
            ID => self.id = high,
            TPR => self.tpr = value as u8,
            EOI => effects.ended = self.end(),
            LDR => self.ldr = high,
            DFR => self.dfr = high >> 4,
            SVR => self.write_spurious(value),
            ESR => self.esr = std::mem::take(&mut self.errors),
            ICR_LOW => {
                self.icr = value & ICR_WRITABLE;
                effects.send = self.command();
            }
            ICR_HIGH => self.icr_destination = high,
            LVT..=LVT_END => self.write_entry(usize::from((offset - LVT) >> 4), value),
            INITIAL_COUNT => {
                self.initial = value;
                self.start_timer(value, now);
            }
            DIVIDE => {
                let left = self.current_count(now);
                self.divide = value & 0xb;
                self.start_timer(left, now);
            }
            VERSION | APR | PPR | RRD | CURRENT_COUNT => {}
            ISR..TMR | TMR..IRR | IRR..ESR => {}
            _ => self.error(ERROR_REGISTER),
        }
        effects
    }

    /// End of interrupt. Says which vector's end the I/O APIC is to be told.
    fn end(&mut self) -> Option<u8> {
        let vector = self.isr.highest()?;
        self.isr.set(vector, false);
        if !self.tmr.has(vector) {
            return None;
        }
        if self.lvt[LINT0] as u8 == vector {
            self.lvt[LINT0] &= !LVT_REMOTE_IRR;
            self.look_at_pin(0, false);
        }
        Some(vector)
    }

    /// Manual: disabling by software sets all mask bits of the local vector table.
    fn write_spurious(&mut self, value: u32) {
        self.svr = value & (0xff | SVR_ENABLE | SVR_FOCUS);
        if !self.software_enabled() {
            for entry in &mut self.lvt {
                *entry |= LVT_MASKED;
            }
        }
    }

    fn write_entry(&mut self, index: usize, value: u32) {
        let kept = self.lvt[index] & LVT_REMOTE_IRR;
        let masked = if self.software_enabled() { 0 } else { LVT_MASKED };
        self.lvt[index] = value & LVT_WRITABLE[index] & !LVT_REMOTE_IRR | masked | kept;
        if matches!(index, LINT0 | LINT1) {
            if self.lvt[index] & LVT_LEVEL == 0 {
                self.lvt[index] &= !LVT_REMOTE_IRR;
            }
            self.look_at_pin(index - LINT0, false);
        }
    }

    /// The interrupt command register was written: the message to send.
    fn command(&mut self) -> Option<Message> {
        let (delivery, vector) = (Delivery::of(self.icr), self.icr as u8);
        let destination = match self.icr >> 18 & 3 {
            0 => Destination::of(self.icr, self.icr_destination),
            1 => Destination::Myself,
            2 => Destination::All,
            _ => Destination::Others,
        };
        match delivery {
            Delivery::Fixed | Delivery::LowestPriority if vector < FIRST_VECTOR => {
                self.error(ERROR_SEND_VECTOR);
                return None;
            }
            // INIT level de-assert only sets arbitration IDs.
            Delivery::Init if self.icr & ICR_LEVEL != 0 && self.icr & ICR_ASSERT == 0 => return None,
            Delivery::Reserved | Delivery::ExtInt => return None,
            _ => {}
        }
        // Manual: these processors take all commands but INIT level de-assert for edges.
        Some(Message { destination, delivery, vector, level: false })
    }

    /// Its ID.
    pub fn id(&self) -> u8 {
        self.id
    }
}

#[cfg(test)]
mod tests;
