//! The serial port: National Semiconductor PC16550D (data sheet of June 1995), a UART with FIFOs.
//!
//! Causes of interrupts are stored and IIR is computed from them when read. As on every PC, the interrupt pin
//! reaches the bus only while MCR.OUT2 is on, and OUT2 is disconnected in loopback mode.
//!
//! Left out: parity and framing errors (the host's line has none), the DMA signalling of FCR bit 3, and the delay
//! of the THRE interrupt by one character in FIFO mode.
//! `Choice:` the transmitter takes no time ([`Pace::Immediate`]) unless asked to keep the line's rate; the receiver
//! always keeps it. `Choice:` the far end honours flow control: it holds its bytes back while the receiver is full,
//! so that overruns come only from loopback.

use crate::device::{IrqLine, Outgoing, PortDevice, Timed, earlier};
use pagewalk_x86::bus::Ticks;
use pagewalk_x86::image::Damaged;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

// Register offsets (table II of the data sheet).
/// Receiver buffer (read), transmitter holding (write); divisor latch low while DLAB is set.
const RBR_THR: u16 = 0;
/// Interrupt enable; divisor latch high while DLAB is set.
const IER: u16 = 1;
/// Interrupt identification (read), FIFO control (write).
const IIR_FCR: u16 = 2;
/// Line control.
const LCR: u16 = 3;
/// Modem control.
const MCR: u16 = 4;
/// Line status.
const LSR: u16 = 5;
/// Modem status.
const MSR: u16 = 6;
/// Scratch.
const SCR: u16 = 7;

const IER_RECEIVED: u8 = 1 << 0;
const IER_THRE: u8 = 1 << 1;
const IER_LINE_STATUS: u8 = 1 << 2;
const IER_MODEM_STATUS: u8 = 1 << 3;

// IIR codes (table IV): bit 0 clear means pending, bits 3-1 say what.
const IIR_NONE: u8 = 0b0001;
const IIR_LINE_STATUS: u8 = 0b0110;
const IIR_RECEIVED: u8 = 0b0100;
const IIR_TIMEOUT: u8 = 0b1100;
const IIR_THRE: u8 = 0b0010;
const IIR_MODEM_STATUS: u8 = 0b0000;
const IIR_FIFOS_ON: u8 = 0b1100_0000;

const FCR_ENABLE: u8 = 1 << 0;
const FCR_CLEAR_RECEIVER: u8 = 1 << 1;
const FCR_CLEAR_TRANSMITTER: u8 = 1 << 2;

const LCR_TWO_STOP: u8 = 1 << 2;
const LCR_PARITY: u8 = 1 << 3;
const LCR_BREAK: u8 = 1 << 6;
const LCR_DLAB: u8 = 1 << 7;

const MCR_DTR: u8 = 1 << 0;
const MCR_RTS: u8 = 1 << 1;
const MCR_OUT1: u8 = 1 << 2;
const MCR_OUT2: u8 = 1 << 3;
const MCR_LOOP: u8 = 1 << 4;
const MCR_USED: u8 = 0x1f;

const LSR_DATA_READY: u8 = 1 << 0;
const LSR_OVERRUN: u8 = 1 << 1;
const LSR_BREAK: u8 = 1 << 4;
const LSR_THRE: u8 = 1 << 5;
const LSR_TEMT: u8 = 1 << 6;
const LSR_FIFO_ERROR: u8 = 1 << 7;

// MSR: bits 7-4 the lines, bits 3-0 which of them changed.
const MSR_CTS: u8 = 1 << 4;
const MSR_DSR: u8 = 1 << 5;
const MSR_RI: u8 = 1 << 6;
const MSR_DCD: u8 = 1 << 7;
const MSR_TERI: u8 = 1 << 2;

const FIFO_DEPTH: usize = 16;
/// Characters in the receiver FIFO that interrupt, by FCR bits 7-6.
const TRIGGERS: [u8; 4] = [1, 4, 8, 14];
/// One bit time in picoseconds per unit of the divisor: 16 cycles of 1.8432 MHz.
const BIT_PS: u64 = 8_680_556;

/// Whether sent bytes take the time their bits need on the line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Pace {
    /// A byte is out as soon as it is written, so that a polling driver never waits.
    #[default]
    Immediate,
    /// A byte takes its start, data, parity and stop bits at the programmed rate.
    Line,
}

/// A received character.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Received {
    byte: u8,
    /// Not a character, but the line held at space: LSR.BI when it comes to the top.
    is_break: bool,
}

/// A character in the transmitter's shift register.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Shifting {
    byte: u8,
    done: Ticks,
}

/// A 16550A serial port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Uart {
    pace: Pace,
    divisor: u16,
    ier: u8,
    fifos_on: bool,
    trigger: u8,
    lcr: u8,
    mcr: u8,
    scratch: u8,
    /// The receiver FIFO; in 16450 mode the buffer register, one deep.
    received: VecDeque<Received>,
    /// The byte last read: what the buffer register shows while nothing new has come.
    last_read: u8,
    /// LSR.OE, until LSR is read.
    overrun: bool,
    /// Whether the break at the top of the FIFO has been reported by LSR.
    break_reported: bool,
    /// When a character last came in or was read: what the timeout is counted from.
    receiver_touched: Ticks,
    transmit: VecDeque<u8>,
    shifting: Option<Shifting>,
    /// The THRE interrupt's cause: set when the holding register empties or the enable is switched on, cleared by
    /// a write to THR or by reading IIR while it shows this cause.
    thre_cause: bool,
    /// The modem lines as the far end drives them (MSR bits 7-4).
    modem_in: u8,
    /// MSR bits 3-0, until MSR is read.
    modem_changes: u8,
    /// Bytes the far end wants to send, and when the next has arrived.
    line_in: VecDeque<u8>,
    next_arrival: Ticks,
    /// The far end waits for the receiver to have room.
    held_back: bool,
    sent: Outgoing,
    /// The interrupt pin, behind the OUT2 gate.
    pub irq: IrqLine,
}

impl Uart {
    /// A port after reset, with a terminal at the far end that is switched on.
    pub fn new(pace: Pace) -> Uart {
        Uart {
            pace,
            divisor: 12,
            ier: 0,
            fifos_on: false,
            trigger: 1,
            lcr: 0,
            mcr: 0,
            scratch: 0,
            received: VecDeque::new(),
            last_read: 0,
            overrun: false,
            break_reported: false,
            receiver_touched: Ticks(0),
            transmit: VecDeque::new(),
            shifting: None,
            thre_cause: false,
            modem_in: MSR_CTS | MSR_DSR | MSR_DCD,
            modem_changes: 0,
            line_in: VecDeque::new(),
            next_arrival: Ticks(0),
            held_back: false,
            sent: Outgoing::default(),
            irq: IrqLine::default(),
        }
    }

    /// The RESET pin (table III). The divisor latch, the scratch register and what waits on the line stay.
    pub fn reset(&mut self) {
        let mut fresh = Uart::new(self.pace);
        fresh.divisor = self.divisor;
        fresh.scratch = self.scratch;
        fresh.line_in = std::mem::take(&mut self.line_in);
        fresh.next_arrival = self.next_arrival;
        fresh.sent = std::mem::take(&mut self.sent);
        fresh.irq = self.irq;
        fresh.irq.set(false);
        *self = fresh;
    }

    /// The far end sends bytes, from `now` on.
    pub fn push_input(&mut self, bytes: &[u8], now: Ticks) {
        self.advance(now);
        if self.line_in.is_empty() {
            self.next_arrival = after(now, self.character_time());
            self.held_back = false;
        }
        self.line_in.extend(bytes);
        self.advance(now);
    }

    /// Refuses what the chip can't hold.
    pub(crate) fn check(&self) -> Result<(), Damaged> {
        let fifos = self.received.len() <= FIFO_DEPTH && self.transmit.len() <= FIFO_DEPTH;
        let trigger = TRIGGERS.contains(&self.trigger);
        Damaged::unless(fifos && trigger && self.sent.is_sound(), "a serial port")
    }

    /// The bytes that were sent.
    pub fn sent(&mut self) -> &mut Outgoing {
        &mut self.sent
    }

    /// Whether input, or what is being sent, would interrupt.
    pub fn could_interrupt(&self) -> bool {
        let gate = self.mcr & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2;
        gate && (self.ier & IER_RECEIVED != 0 || (self.ier & IER_THRE != 0 && self.shifting.is_some()))
    }

    /// Nanoseconds of one character at the programmed rate and format.
    fn character_time(&self) -> u64 {
        // Choice: a divisor of 0, which the data sheet leaves open, counts as 1.
        let divisor = u64::from(self.divisor.max(1));
        let half_bits = 2 * (1 + 5 + u64::from(self.lcr & 3) + u64::from(self.lcr & LCR_PARITY != 0))
            + match (self.lcr & LCR_TWO_STOP != 0, self.lcr & 3) {
                (false, _) => 2,
                (true, 0) => 3,
                (true, _) => 4,
            };
        half_bits * divisor * BIT_PS / 2000
    }

    fn in_loopback(&self) -> bool {
        self.mcr & MCR_LOOP != 0
    }

    /// MSR bits 7-4: from the far end, or in loopback from our own outputs.
    fn modem_lines(&self) -> u8 {
        if !self.in_loopback() {
            return self.modem_in;
        }
        let wires = [(MCR_RTS, MSR_CTS), (MCR_DTR, MSR_DSR), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD)];
        wires.iter().filter(|(out, _)| self.mcr & out != 0).map(|(_, line)| line).sum()
    }

    fn note_modem_change(&mut self, before: u8) {
        let lines = self.modem_lines();
        let changed = before ^ lines;
        self.modem_changes |= (changed & (MSR_CTS | MSR_DSR | MSR_DCD)) >> 4;
        // TERI: only the trailing edge of RI counts.
        if changed & before & MSR_RI != 0 {
            self.modem_changes |= MSR_TERI;
        }
    }

    /// Puts a character into the receiver, or loses one to overrun.
    fn receive(&mut self, character: Received, at: Ticks) {
        let depth = if self.fifos_on { FIFO_DEPTH } else { 1 };
        if self.received.len() < depth {
            self.received.push_back(character);
        } else {
            self.overrun = true;
            // Without FIFOs the new character overwrites the old; with them the one in the shift register is lost.
            if !self.fifos_on {
                self.received[0] = character;
            }
        }
        self.receiver_touched = at;
    }

    fn has_room(&self) -> bool {
        self.received.len() < if self.fifos_on { FIFO_DEPTH } else { 1 }
    }

    /// Catches up with the time: characters leave and arrive.
    fn advance(&mut self, now: Ticks) {
        let mut free_since = now;
        loop {
            if let Some(Shifting { byte, done }) = self.shifting {
                if done > now {
                    break;
                }
                self.shifting = None;
                free_since = done;
                if self.in_loopback() {
                    self.receive(Received { byte, is_break: false }, done);
                } else {
                    self.sent.push(byte);
                }
            }
            let Some(byte) = self.transmit.pop_front() else { break };
            let time = if self.pace == Pace::Line { self.character_time() } else { 0 };
            let mask = 0xff >> (3 - (self.lcr & 3));
            self.shifting = Some(Shifting { byte: byte & mask, done: after(free_since, time) });
            if self.transmit.is_empty() {
                self.thre_cause = true;
            }
        }
        while !self.in_loopback() && !self.held_back && self.next_arrival <= now {
            let Some(&byte) = self.line_in.front() else { break };
            if !self.has_room() {
                self.held_back = true;
                break;
            }
            self.line_in.pop_front();
            self.receive(Received { byte, is_break: false }, self.next_arrival);
            self.next_arrival = after(self.next_arrival, self.character_time());
        }
        self.drive_irq(now);
    }

    fn timeout_at(&self) -> Option<Ticks> {
        (self.fifos_on && !self.received.is_empty())
            .then(|| after(self.receiver_touched, 4 * self.character_time()))
    }

    fn break_at_top(&self) -> bool {
        !self.break_reported && self.received.front().is_some_and(|top| top.is_break)
    }

    /// IIR bits 3-0: the pending cause of highest priority (table IV).
    fn cause(&self, now: Ticks) -> u8 {
        let enabled = |bit: u8| self.ier & bit != 0;
        let trigger = if self.fifos_on { usize::from(self.trigger) } else { 1 };
        if enabled(IER_LINE_STATUS) && (self.overrun || self.break_at_top()) {
            IIR_LINE_STATUS
        } else if enabled(IER_RECEIVED) && self.received.len() >= trigger {
            IIR_RECEIVED
        } else if enabled(IER_RECEIVED) && self.timeout_at().is_some_and(|at| at <= now) {
            IIR_TIMEOUT
        } else if enabled(IER_THRE) && self.thre_cause {
            IIR_THRE
        } else if enabled(IER_MODEM_STATUS) && self.modem_changes != 0 {
            IIR_MODEM_STATUS
        } else {
            IIR_NONE
        }
    }

    fn drive_irq(&mut self, now: Ticks) {
        let gate = self.mcr & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2;
        let level = gate && self.cause(now) != IIR_NONE;
        self.irq.set(level);
    }

    fn read_received(&mut self, now: Ticks) -> u8 {
        if let Some(character) = self.received.pop_front() {
            self.last_read = character.byte;
        }
        self.break_reported = false;
        self.receiver_touched = now;
        if self.held_back {
            self.held_back = false;
            self.next_arrival = after(now, self.character_time());
        }
        self.last_read
    }

    fn read_line_status(&mut self) -> u8 {
        let mut status = 0;
        if !self.received.is_empty() {
            status |= LSR_DATA_READY;
        }
        if std::mem::take(&mut self.overrun) {
            status |= LSR_OVERRUN;
        }
        if self.break_at_top() {
            self.break_reported = true;
            status |= LSR_BREAK;
        }
        if self.fifos_on && self.received.iter().any(|character| character.is_break) {
            status |= LSR_FIFO_ERROR;
        }
        if self.transmit.is_empty() {
            status |= LSR_THRE;
            if self.shifting.is_none() {
                status |= LSR_TEMT;
            }
        }
        status
    }

    fn write_fifo_control(&mut self, value: u8) {
        let enable = value & FCR_ENABLE != 0;
        let toggled = enable != self.fifos_on;
        self.fifos_on = enable;
        if toggled || (enable && value & FCR_CLEAR_RECEIVER != 0) {
            self.received.clear();
            self.break_reported = false;
        }
        if toggled || (enable && value & FCR_CLEAR_TRANSMITTER != 0) {
            self.thre_cause |= !self.transmit.is_empty();
            self.transmit.clear();
        }
        // The other bits are not programmed unless bit 0 is written as 1.
        if enable {
            self.trigger = TRIGGERS[usize::from(value >> 6)];
        }
    }

    fn write_transmit(&mut self, value: u8, now: Ticks) {
        self.thre_cause = false;
        self.drive_irq(now);
        let depth = if self.fifos_on { FIFO_DEPTH } else { 1 };
        if self.transmit.len() < depth {
            self.transmit.push_back(value);
        } else if !self.fifos_on {
            self.transmit[0] = value;
        }
    }
}

/// `ns` after `at`.
fn after(at: Ticks, ns: u64) -> Ticks {
    Ticks(at.0.saturating_add(ns))
}

impl PortDevice for Uart {
    fn read8(&mut self, offset: u16, now: Ticks) -> u8 {
        self.advance(now);
        let dlab = self.lcr & LCR_DLAB != 0;
        let value = match offset {
            RBR_THR if dlab => self.divisor as u8,
            IER if dlab => (self.divisor >> 8) as u8,
            RBR_THR => self.read_received(now),
            IER => self.ier,
            IIR_FCR => {
                let cause = self.cause(now);
                if cause == IIR_THRE {
                    self.thre_cause = false;
                }
                cause | if self.fifos_on { IIR_FIFOS_ON } else { 0 }
            }
            LCR => self.lcr,
            MCR => self.mcr,
            LSR => self.read_line_status(),
            MSR => self.modem_lines() | std::mem::take(&mut self.modem_changes),
            SCR => self.scratch,
            _ => 0xff,
        };
        self.drive_irq(now);
        value
    }

    fn write8(&mut self, offset: u16, value: u8, now: Ticks) {
        self.advance(now);
        let dlab = self.lcr & LCR_DLAB != 0;
        match offset {
            RBR_THR if dlab => self.divisor = self.divisor & 0xff00 | u16::from(value),
            IER if dlab => self.divisor = self.divisor & 0x00ff | u16::from(value) << 8,
            RBR_THR => self.write_transmit(value, now),
            IER => {
                let newly_on = value & !self.ier;
                self.ier = value & 0x0f;
                self.thre_cause |= newly_on & IER_THRE != 0 && self.transmit.is_empty();
            }
            IIR_FCR => self.write_fifo_control(value),
            LCR => {
                let break_begins = value & !self.lcr & LCR_BREAK != 0;
                self.lcr = value;
                if break_begins && self.in_loopback() {
                    self.receive(Received { byte: 0, is_break: true }, now);
                }
            }
            MCR => {
                let before = self.modem_lines();
                self.mcr = value & MCR_USED;
                self.note_modem_change(before);
            }
            // Manual: LSR and MSR are for reading only; writing LSR is for factory tests.
            LSR | MSR => {}
            SCR => self.scratch = value,
            _ => {}
        }
        self.advance(now);
    }
}

impl Timed for Uart {
    fn tick(&mut self, now: Ticks) -> Option<Ticks> {
        self.advance(now);
        let sending = self.shifting.map(|shifting| shifting.done);
        let arriving =
            (!self.line_in.is_empty() && !self.held_back && !self.in_loopback()).then_some(self.next_arrival);
        let timeout = self.timeout_at().filter(|&at| at > now && self.ier & IER_RECEIVED != 0);
        earlier(earlier(sending, arriving), timeout)
    }
}

#[cfg(test)]
mod tests {
    //! Expected values are those of the PC16550D data sheet (National Semiconductor, June 1995), section 8.

    use super::*;
    use pagewalk_x86::bus::Ticks;

    const T0: Ticks = Ticks(0);

    fn port() -> Uart {
        Uart::new(Pace::Immediate)
    }

    /// A port set to 115200 baud, 8n1, with OUT2 on: one character is ten bits of 8680.556 ns.
    fn fast(pace: Pace) -> Uart {
        let mut uart = Uart::new(pace);
        for (offset, value) in [(LCR, 0x80), (RBR_THR, 1), (IER, 0), (LCR, 3), (MCR, 0x0b)] {
            uart.write8(offset, value, T0);
        }
        uart
    }

    const CHARACTER: u64 = 86_805;

    #[test]
    fn after_reset_the_registers_hold_the_values_of_table_iii() {
        let mut uart = port();
        let values: Vec<u8> = (1..7).map(|offset| uart.read8(offset, T0)).collect();
        // IER, IIR, LCR, MCR, LSR (THRE and TEMT); MSR's upper half is the lines.
        assert_eq!(values, [0x00, 0x01, 0x00, 0x00, 0x60, 0xb0]);
    }

    #[test]
    fn unused_bits_of_ier_and_mcr_read_zero_and_the_scratch_register_holds_all() {
        let mut uart = port();
        for (offset, reads) in [(IER, 0x0f), (MCR, 0x1f), (SCR, 0xff)] {
            uart.write8(offset, 0xff, T0);
            assert_eq!(uart.read8(offset, T0), reads);
        }
    }

    #[test]
    fn the_divisor_latch_is_seen_only_with_dlab() {
        let mut uart = port();
        uart.write8(LCR, 0x83, T0);
        uart.write8(RBR_THR, 0x34, T0);
        uart.write8(IER, 0x12, T0);
        assert_eq!((uart.read8(RBR_THR, T0), uart.read8(IER, T0)), (0x34, 0x12));
        uart.write8(LCR, 0x03, T0);
        assert_eq!((uart.read8(RBR_THR, T0), uart.read8(IER, T0)), (0, 0));
        assert!(uart.sent().is_empty());
    }

    #[test]
    fn fifo_enable_shows_in_iir_bits_7_and_6() {
        let mut uart = port();
        uart.write8(IIR_FCR, 0x01, T0);
        assert_eq!(uart.read8(IIR_FCR, T0), 0xc1);
        uart.write8(IIR_FCR, 0x00, T0);
        assert_eq!(uart.read8(IIR_FCR, T0), 0x01);
    }

    #[test]
    fn received_data_and_thre_together_read_as_received_data_not_as_line_status() {
        let mut uart = fast(Pace::Immediate);
        uart.write8(IER, 0x03, T0);
        uart.push_input(b"x", T0);
        let later = Ticks(CHARACTER + 1);
        uart.tick(later);
        assert_eq!(uart.read8(IIR_FCR, later), IIR_RECEIVED);
        assert_eq!(uart.read8(RBR_THR, later), b'x');
        assert_eq!(uart.read8(IIR_FCR, later), IIR_THRE);
        assert_eq!(uart.read8(IIR_FCR, later), IIR_NONE);
    }

    #[test]
    fn causes_come_in_the_order_line_status_data_thre_modem() {
        let mut uart = port();
        uart.write8(IER, 0x0f, T0);
        uart.write8(MCR, 0x1a, T0);
        // Two characters in loopback without a read: overrun; and the modem lines changed with MCR.
        uart.write8(RBR_THR, 1, T0);
        uart.write8(RBR_THR, 2, T0);
        assert_eq!(uart.read8(IIR_FCR, T0), IIR_LINE_STATUS);
        assert_eq!(uart.read8(LSR, T0) & (LSR_OVERRUN | LSR_DATA_READY), LSR_OVERRUN | LSR_DATA_READY);
        assert_eq!(uart.read8(IIR_FCR, T0), IIR_RECEIVED);
        assert_eq!(uart.read8(RBR_THR, T0), 2, "the later character overwrites the buffer");
        assert_eq!(uart.read8(IIR_FCR, T0), IIR_THRE);
        assert_eq!(uart.read8(IIR_FCR, T0), IIR_MODEM_STATUS);
        uart.read8(MSR, T0);
        assert_eq!(uart.read8(IIR_FCR, T0), IIR_NONE);
    }

    #[test]
    fn reading_lsr_clears_the_overrun_indicator() {
        let mut uart = port();
        uart.write8(MCR, MCR_LOOP, T0);
        uart.write8(RBR_THR, 1, T0);
        uart.write8(RBR_THR, 2, T0);
        assert_ne!(uart.read8(LSR, T0) & LSR_OVERRUN, 0);
        assert_eq!(uart.read8(LSR, T0) & LSR_OVERRUN, 0);
    }

    #[test]
    fn in_fifo_mode_an_overrun_loses_the_seventeenth_character_and_keeps_sixteen() {
        let mut uart = port();
        uart.write8(IIR_FCR, 0x01, T0);
        uart.write8(MCR, MCR_LOOP, T0);
        for byte in 0..17 {
            assert_eq!(uart.read8(LSR, T0) & LSR_OVERRUN, 0);
            uart.write8(RBR_THR, byte, T0);
        }
        assert_ne!(uart.read8(LSR, T0) & LSR_OVERRUN, 0);
        let kept: Vec<u8> = (0..16).map(|_| uart.read8(RBR_THR, T0)).collect();
        assert_eq!(kept, (0..16).collect::<Vec<u8>>());
        assert_eq!(uart.read8(LSR, T0) & LSR_DATA_READY, 0);
    }

    #[test]
    fn enabling_the_thre_interrupt_while_the_holding_register_is_empty_raises_it() {
        let mut uart = fast(Pace::Immediate);
        assert!(!uart.irq.level());
        uart.write8(IER, IER_THRE, T0);
        assert!(uart.irq.level());
        assert_eq!(uart.read8(IIR_FCR, T0), IIR_THRE);
        assert!(!uart.irq.level(), "reading IIR while it shows THRE resets it");
        uart.write8(IER, 0, T0);
        uart.write8(IER, IER_THRE, T0);
        assert!(uart.irq.level());
    }

    #[test]
    fn writing_a_character_ends_the_thre_interrupt_and_its_leaving_raises_it_anew() {
        let mut uart = fast(Pace::Immediate);
        uart.write8(IER, IER_THRE, T0);
        uart.irq.take();
        uart.write8(RBR_THR, b'a', T0);
        assert_eq!(uart.irq.take(), Some(crate::device::Movement::Rose));
        assert_eq!(uart.sent().take(), b"a");
    }

    #[test]
    fn at_line_pace_thre_precedes_temt_by_one_character() {
        let mut uart = fast(Pace::Line);
        uart.write8(RBR_THR, b'a', T0);
        assert_eq!(uart.read8(LSR, T0) & (LSR_THRE | LSR_TEMT), LSR_THRE);
        uart.write8(RBR_THR, b'b', T0);
        assert_eq!(uart.read8(LSR, T0) & (LSR_THRE | LSR_TEMT), 0);
        assert_eq!(uart.tick(T0), Some(Ticks(CHARACTER)));
        assert_eq!(uart.read8(LSR, Ticks(CHARACTER)) & (LSR_THRE | LSR_TEMT), LSR_THRE);
        assert_eq!(uart.sent().take(), b"a");
        assert_eq!(uart.tick(Ticks(2 * CHARACTER)), None);
        assert_eq!(uart.read8(LSR, Ticks(2 * CHARACTER)) & (LSR_THRE | LSR_TEMT), LSR_THRE | LSR_TEMT);
        assert_eq!(uart.sent().take(), b"b");
    }

    #[test]
    fn a_character_of_7_data_bits_parity_and_two_stop_bits_takes_eleven_bit_times() {
        let mut uart = fast(Pace::Line);
        uart.write8(LCR, 0b0000_1110, T0);
        uart.write8(RBR_THR, 0xff, T0);
        assert_eq!(uart.tick(T0), Some(Ticks(11 * 8_680_556 / 1000)));
        uart.tick(Ticks(100_000));
        assert_eq!(uart.sent().take(), [0x7f]);
    }

    #[test]
    fn the_trigger_level_of_fcr_holds_the_interrupt_back_until_it_is_reached() {
        for (fcr, level) in [(0x01, 1), (0x41, 4), (0x81, 8), (0xc1, 14)] {
            let mut uart = fast(Pace::Immediate);
            uart.write8(IIR_FCR, fcr, T0);
            uart.write8(IER, IER_RECEIVED, T0);
            uart.push_input(&[0x55; 16], T0);
            for arrived in 1..=16 {
                uart.tick(Ticks(arrived * CHARACTER));
                assert_eq!(uart.irq.level(), arrived >= level, "trigger {level}, {arrived} characters");
            }
        }
    }

    #[test]
    fn characters_below_the_trigger_time_out_after_four_character_times() {
        let mut uart = fast(Pace::Immediate);
        uart.write8(IIR_FCR, 0xc1, T0);
        uart.write8(IER, IER_RECEIVED, T0);
        uart.push_input(b"q", T0);
        assert_eq!(uart.tick(T0), Some(Ticks(CHARACTER)));
        assert_eq!(uart.tick(Ticks(CHARACTER)), Some(Ticks(5 * CHARACTER)));
        assert_eq!(uart.read8(IIR_FCR, Ticks(5 * CHARACTER - 1)), 0xc0 | IIR_NONE);
        uart.tick(Ticks(5 * CHARACTER));
        assert!(uart.irq.level());
        assert_eq!(uart.read8(IIR_FCR, Ticks(5 * CHARACTER)), 0xc0 | IIR_TIMEOUT);
        assert_eq!(uart.read8(RBR_THR, Ticks(5 * CHARACTER)), b'q');
        assert_eq!(uart.read8(IIR_FCR, Ticks(5 * CHARACTER)), 0xc0 | IIR_NONE);
    }

    #[test]
    fn the_far_end_waits_while_the_receiver_is_full() {
        let mut uart = fast(Pace::Immediate);
        uart.push_input(b"abc", T0);
        assert_eq!(uart.tick(Ticks(10 * CHARACTER)), None);
        for &byte in b"abc" {
            let at = Ticks(20 * CHARACTER + u64::from(byte) * 10 * CHARACTER);
            assert_eq!(uart.read8(LSR, at) & (LSR_DATA_READY | LSR_OVERRUN), LSR_DATA_READY);
            assert_eq!(uart.read8(RBR_THR, at), byte);
        }
    }

    #[test]
    fn the_interrupt_pin_reaches_the_bus_only_with_out2_and_outside_loopback() {
        let mut uart = port();
        uart.write8(IER, IER_THRE, T0);
        assert!(!uart.irq.level());
        uart.write8(MCR, MCR_OUT2, T0);
        assert!(uart.irq.level());
        uart.write8(MCR, MCR_OUT2 | MCR_LOOP, T0);
        assert!(!uart.irq.level());
    }

    #[test]
    fn in_loopback_the_four_outputs_appear_as_the_four_inputs() {
        let mut uart = port();
        for (mcr, msr) in [(MCR_RTS, MSR_CTS), (MCR_DTR, MSR_DSR), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD)] {
            uart.write8(MCR, MCR_LOOP | mcr, T0);
            assert_eq!(uart.read8(MSR, T0) & 0xf0, msr);
        }
        uart.write8(LCR, 0x03, T0);
        uart.write8(RBR_THR, 0xa5, T0);
        assert_eq!(uart.read8(RBR_THR, T0), 0xa5);
        assert_eq!(uart.read8(RBR_THR, T0), 0xa5, "the buffer register keeps its byte");
        assert!(uart.sent().is_empty(), "SOUT is held at mark in loopback");
    }

    #[test]
    fn only_the_trailing_edge_of_ri_is_a_modem_change() {
        let mut uart = port();
        uart.write8(MCR, MCR_LOOP, T0);
        uart.read8(MSR, T0);
        uart.write8(MCR, MCR_LOOP | MCR_OUT1, T0);
        assert_eq!(uart.read8(MSR, T0), MSR_RI);
        uart.write8(MCR, MCR_LOOP, T0);
        assert_eq!(uart.read8(MSR, T0), MSR_TERI);
    }

    #[test]
    fn a_break_in_loopback_is_received_as_a_zero_with_the_break_indicator() {
        let mut uart = port();
        uart.write8(MCR, MCR_LOOP, T0);
        uart.write8(LCR, LCR_BREAK, T0);
        assert_eq!(uart.read8(LSR, T0) & (LSR_BREAK | LSR_DATA_READY), LSR_BREAK | LSR_DATA_READY);
        assert_eq!(uart.read8(LSR, T0) & LSR_BREAK, 0);
        assert_eq!(uart.read8(RBR_THR, T0), 0);
    }

    #[test]
    fn changing_the_fifo_enable_bit_clears_both_fifos() {
        let mut uart = port();
        uart.write8(MCR, MCR_LOOP, T0);
        uart.write8(RBR_THR, 9, T0);
        uart.write8(IIR_FCR, FCR_ENABLE, T0);
        assert_eq!(uart.read8(LSR, T0) & LSR_DATA_READY, 0);
    }
}
