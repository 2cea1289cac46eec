//! The interrupt controllers: two Intel 8259A in cascade (data sheet 231468-003), with the edge/level control
//! registers of Intel's 82371SB (290550-002) at their side.
//!
//! Left out: the 8080/8085 mode (a CALL on the bus) and buffered mode, neither of which exists on a PC.
//! `Choice:` the INT output stays low from ICW1 until the last initialisation word has come.

use crate::device::{IrqLine, Movement, PortDevice};
use pagewalk_x86::bus::Ticks;
use pagewalk_x86::image::Damaged;
use serde::{Deserialize, Serialize};

// Offsets within the pair.
const MASTER: u16 = 0;
const SLAVE: u16 = 2;
const ELCR: u16 = 4;

/// The master's input that carries the slave's INT.
const CASCADE: u8 = 2;

const ICW1: u8 = 1 << 4;
const ICW1_NEEDS_ICW4: u8 = 1 << 0;
const ICW1_SINGLE: u8 = 1 << 1;
const ICW1_LEVEL: u8 = 1 << 3;
const ICW4_AUTO_EOI: u8 = 1 << 1;
const ICW4_SPECIAL_FULLY_NESTED: u8 = 1 << 4;
const OCW3: u8 = 1 << 3;
const OCW3_READ_ISR: u8 = 1 << 0;
const OCW3_READ: u8 = 1 << 1;
const OCW3_POLL: u8 = 1 << 2;
const OCW3_SPECIAL_MASK: u8 = 1 << 5;
const OCW3_SET_SPECIAL_MASK: u8 = 1 << 6;

/// Inputs of each controller whose edge/level bit exists: not the timer, the keyboard, the cascade; not the clock,
/// the coprocessor error.
const ELCR_BITS: [u8; 2] = [0xf8, 0xde];

/// Which initialisation word a write to the odd address is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Expects {
    Icw2,
    Icw3,
    Icw4,
    /// None: it is OCW1.
    Nothing,
}

/// What a read from the even address gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Shown {
    Irr,
    Isr,
}

/// One 8259A.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Controller {
    expects: Expects,
    icw1: u8,
    /// ICW2: bits 7-3 of the vectors.
    base: u8,
    /// ICW3: a master's inputs with a slave, or a slave's own number.
    icw3: u8,
    icw4: u8,
    /// The input lines as they are.
    lines: u8,
    irr: u8,
    isr: u8,
    imr: u8,
    elcr: u8,
    /// The input of lowest priority; the one after it has the highest.
    lowest: u8,
    shown: Shown,
    poll: bool,
    special_mask: bool,
    rotate_on_auto_eoi: bool,
}

impl Controller {
    fn new() -> Controller {
        Controller {
            expects: Expects::Nothing,
            icw1: ICW1,
            base: 0,
            icw3: 0,
            icw4: 0,
            lines: 0,
            irr: 0,
            isr: 0,
            imr: 0,
            elcr: 0,
            lowest: 7,
            shown: Shown::Irr,
            poll: false,
            special_mask: false,
            rotate_on_auto_eoi: false,
        }
    }

    fn level_triggered(&self) -> u8 {
        if self.icw1 & ICW1_LEVEL != 0 { 0xff } else { self.elcr }
    }

    /// An input moves. Manual: the request must stay up until the acknowledge, so a fall takes it back.
    fn set_line(&mut self, input: u8, level: bool) {
        let bit = 1 << input;
        let rose = level && self.lines & bit == 0;
        if level {
            self.lines |= bit;
            if rose || self.level_triggered() & bit != 0 {
                self.irr |= bit;
            }
        } else {
            self.lines &= !bit;
            self.irr &= !bit;
        }
    }

    /// The input of highest priority among `bits`.
    fn highest(&self, bits: u8) -> Option<u8> {
        let first = (self.lowest + 1) & 7;
        let by_priority = bits.rotate_right(u32::from(first));
        (by_priority != 0).then(|| (by_priority.trailing_zeros() as u8 + first) & 7)
    }

    /// 0 for the input of highest priority, 7 for the lowest.
    fn rank(&self, input: u8) -> u8 {
        input.wrapping_sub(self.lowest + 1) & 7
    }

    fn has_slave_on(&self, input: u8) -> bool {
        self.icw1 & ICW1_SINGLE == 0 && self.icw3 >> input & 1 != 0
    }

    /// The request that may interrupt now, after mask, service in progress and priorities.
    fn pending(&self) -> Option<u8> {
        if self.expects != Expects::Nothing {
            return None;
        }
        let request = self.highest(self.irr & !self.imr)?;
        // Special mask mode: a level in service that is masked blocks nobody.
        let in_service = if self.special_mask { self.isr & !self.imr } else { self.isr };
        let Some(serving) = self.highest(in_service) else { return Some(request) };
        // Special fully nested mode: further requests of the slave in service are let through.
        let nested =
            self.icw4 & ICW4_SPECIAL_FULLY_NESTED != 0 && request == serving && self.has_slave_on(request);
        (self.rank(request) < self.rank(serving) || nested).then_some(request)
    }

    /// The acknowledge: the request goes into service. None if it vanished meanwhile (a spurious interrupt).
    fn acknowledge(&mut self) -> Option<u8> {
        let input = self.pending()?;
        let bit = 1 << input;
        if self.level_triggered() & bit == 0 {
            self.irr &= !bit;
        }
        if self.icw4 & ICW4_AUTO_EOI == 0 {
            self.isr |= bit;
        } else if self.rotate_on_auto_eoi {
            self.lowest = input;
        }
        Some(input)
    }

    fn vector(&self, input: u8) -> u8 {
        self.base & 0xf8 | input
    }

    fn read(&mut self, odd: bool) -> u8 {
        if std::mem::take(&mut self.poll) {
            // Manual: the poll word has bit 7 set if there was a request, and its level in bits 2-0.
            return self.acknowledge().map_or(0, |input| 0x80 | input);
        }
        match (odd, self.shown) {
            (true, _) => self.imr,
            (false, Shown::Irr) => self.irr,
            (false, Shown::Isr) => self.isr,
        }
    }

    fn write(&mut self, odd: bool, value: u8) {
        match (odd, self.expects) {
            (false, _) if value & ICW1 != 0 => self.begin(value),
            (false, _) if value & OCW3 != 0 => self.ocw3(value),
            (false, _) => self.ocw2(value),
            (true, Expects::Nothing) => self.imr = value,
            (true, Expects::Icw2) => {
                self.base = value;
                self.expects = if self.icw1 & ICW1_SINGLE == 0 { Expects::Icw3 } else { self.after_icw3() };
            }
            (true, Expects::Icw3) => {
                self.icw3 = value;
                self.expects = self.after_icw3();
            }
            (true, Expects::Icw4) => {
                self.icw4 = value;
                self.expects = Expects::Nothing;
            }
        }
    }

    fn after_icw3(&self) -> Expects {
        if self.icw1 & ICW1_NEEDS_ICW4 != 0 { Expects::Icw4 } else { Expects::Nothing }
    }

    /// ICW1: the list "The following automatically occurs" of the data sheet, and the service register.
    fn begin(&mut self, icw1: u8) {
        self.icw1 = icw1;
        // The edge sense circuit is reset: an input must rise anew. A level counts as it stands.
        self.irr = self.lines & self.level_triggered();
        self.imr = 0;
        self.isr = 0;
        self.lowest = 7;
        self.special_mask = false;
        self.shown = Shown::Irr;
        self.poll = false;
        self.rotate_on_auto_eoi = false;
        self.icw4 = 0;
        self.expects = Expects::Icw2;
    }

    /// OCW2: end of interrupt and rotation, in R, SL, EOI.
    fn ocw2(&mut self, value: u8) {
        let level = value & 7;
        match value >> 5 {
            0b001 => {
                self.end_highest();
            }
            0b011 => self.isr &= !(1 << level),
            0b101 => {
                if let Some(ended) = self.end_highest() {
                    self.lowest = ended;
                }
            }
            0b111 => {
                self.isr &= !(1 << level);
                self.lowest = level;
            }
            0b100 => self.rotate_on_auto_eoi = true,
            0b000 => self.rotate_on_auto_eoi = false,
            0b110 => self.lowest = level,
            _ => {} // 010: no operation
        }
    }

    /// Manual: in special mask mode a masked level is not cleared by a non-specific EOI.
    fn end_highest(&mut self) -> Option<u8> {
        let candidates = if self.special_mask { self.isr & !self.imr } else { self.isr };
        let level = self.highest(candidates)?;
        self.isr &= !(1 << level);
        Some(level)
    }

    fn ocw3(&mut self, value: u8) {
        if value & OCW3_SET_SPECIAL_MASK != 0 {
            self.special_mask = value & OCW3_SPECIAL_MASK != 0;
        }
        // Manual: with both bits set, poll overrides the register read.
        if value & OCW3_POLL != 0 {
            self.poll = true;
        } else if value & OCW3_READ != 0 {
            self.shown = if value & OCW3_READ_ISR != 0 { Shown::Isr } else { Shown::Irr };
        }
    }
}

/// The two controllers of a PC, the slave on the master's input 2.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pic {
    master: Controller,
    slave: Controller,
    /// The master's INT output, kept so that asking costs nothing.
    int: bool,
}

impl Default for Pic {
    fn default() -> Self {
        Pic::new()
    }
}

impl Pic {
    /// Both controllers at power-on: not initialised, nothing requested.
    pub fn new() -> Pic {
        Pic { master: Controller::new(), slave: Controller::new(), int: false }
    }

    /// The board's reset: back to power-on, except for what the input lines are doing.
    pub fn reset(&mut self) {
        for controller in [&mut self.master, &mut self.slave] {
            *controller = Controller { lines: controller.lines, ..Controller::new() };
        }
        self.settle();
    }

    /// Refuses what the chips can't hold.
    pub(crate) fn check(&self) -> Result<(), Damaged> {
        Damaged::unless(self.master.lowest < 8 && self.slave.lowest < 8, "the interrupt controllers")
    }

    /// The INTR pin of the processor.
    #[inline(always)]
    pub fn interrupt(&self) -> bool {
        self.int
    }

    /// Carries a chip's line to interrupt request `irq`, if it moved.
    #[inline]
    pub fn wire(&mut self, irq: u8, line: &mut IrqLine) {
        if let Some(movement) = line.take() {
            self.carry(irq, movement);
        }
    }

    /// The line of interrupt request `irq` moves.
    pub fn carry(&mut self, irq: u8, movement: Movement) {
        let (controller, input) = if irq < 8 { (&mut self.master, irq) } else { (&mut self.slave, irq & 7) };
        if movement == Movement::Rose {
            controller.set_line(input, false);
        }
        controller.set_line(input, movement != Movement::Fell);
        self.settle();
    }

    /// Whether INT would come up if these of the sixteen lines rose, as masks and services stand.
    pub fn could_interrupt(&self, lines: u16) -> bool {
        let [low, high] = lines.to_le_bytes();
        let with = |controller: &Controller, more: u8| {
            let irr = controller.irr | more;
            Controller { irr, ..controller.clone() }.pending().is_some()
        };
        let cascade = u8::from(with(&self.slave, high)) << CASCADE;
        with(&self.master, low & !(1 << CASCADE) | cascade)
    }

    /// Carries the slave's INT to the master, and the master's out.
    fn settle(&mut self) {
        self.master.set_line(CASCADE, self.slave.pending().is_some());
        self.int = self.master.pending().is_some();
    }

    /// After an acknowledge the slave's INT goes low before it can ask again, so that the master sees an edge.
    fn settle_after_slave(&mut self) {
        self.master.set_line(CASCADE, false);
        self.settle();
    }

    /// The request, 0 to 15, that an acknowledge would answer now; `None` if it would be a spurious one.
    pub fn answerable(&self) -> Option<u8> {
        match self.master.pending()? {
            CASCADE if self.master.has_slave_on(CASCADE) => Some(8 + self.slave.pending()?),
            input => Some(input),
        }
    }

    /// The acknowledge cycles: the vector, and the request goes into service.
    pub fn acknowledge(&mut self) -> u8 {
        let vector = match self.master.acknowledge() {
            // Manual: a request that went away is answered as input 7, without its in-service bit.
            None => self.master.vector(7),
            Some(CASCADE) if self.master.has_slave_on(CASCADE) => {
                if self.slave.icw3 & 7 == CASCADE {
                    let input = self.slave.acknowledge().unwrap_or(7);
                    self.master.set_line(CASCADE, false);
                    self.slave.vector(input)
                } else {
                    // No slave answers to this number on the cascade lines: the bus floats.
                    0xff
                }
            }
            Some(input) => self.master.vector(input),
        };
        self.settle();
        vector
    }
}

impl PortDevice for Pic {
    fn read8(&mut self, offset: u16, _now: Ticks) -> u8 {
        let odd = offset & 1 != 0;
        match offset & !1 {
            MASTER => {
                let value = self.master.read(odd);
                self.settle();
                value
            }
            SLAVE => {
                let polled = self.slave.poll;
                let value = self.slave.read(odd);
                if polled {
                    self.settle_after_slave();
                }
                value
            }
            ELCR if !odd => self.master.elcr,
            ELCR => self.slave.elcr,
            _ => 0xff,
        }
    }

    fn write8(&mut self, offset: u16, value: u8, _now: Ticks) {
        let odd = offset & 1 != 0;
        match offset & !1 {
            MASTER => self.master.write(odd, value),
            SLAVE => self.slave.write(odd, value),
            ELCR => {
                let controller = if odd { &mut self.slave } else { &mut self.master };
                controller.elcr = value & ELCR_BITS[usize::from(odd)];
                controller.irr |= controller.lines & controller.elcr;
            }
            _ => {}
        }
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    //! Expected values are those of the Intel 8259A data sheet (231468-003) and, for the edge/level registers, of the
    //! 82371SB's (290550-002).

    use super::*;

    const NOW: Ticks = Ticks(0);
    const M0: u16 = MASTER;
    const M1: u16 = MASTER + 1;
    const S0: u16 = SLAVE;
    const S1: u16 = SLAVE + 1;

    /// A pair and sixteen lines to pull.
    struct Bench {
        pic: Pic,
        lines: [IrqLine; 16],
    }

    impl Bench {
        /// Initialised as a PC's BIOS does: vectors 08h and 70h, cascade on 2, nothing masked.
        fn new() -> Bench {
            Bench::with_icw4(0x01)
        }

        fn with_icw4(icw4: u8) -> Bench {
            let mut bench = Bench { pic: Pic::new(), lines: Default::default() };
            bench.out(&[(M0, 0x11), (M1, 0x08), (M1, 0x04), (M1, icw4)]);
            bench.out(&[(S0, 0x11), (S1, 0x70), (S1, 0x02), (S1, icw4 & !ICW4_SPECIAL_FULLY_NESTED)]);
            bench
        }

        fn out(&mut self, writes: &[(u16, u8)]) {
            for &(offset, value) in writes {
                self.pic.write8(offset, value, NOW);
            }
        }

        fn read(&mut self, offset: u16) -> u8 {
            self.pic.read8(offset, NOW)
        }

        fn irr(&mut self) -> u8 {
            self.out(&[(M0, 0x0a)]);
            self.read(M0)
        }

        fn isr(&mut self) -> u8 {
            self.out(&[(M0, 0x0b)]);
            self.read(M0)
        }

        fn set(&mut self, irq: u8, level: bool) {
            self.lines[usize::from(irq)].set(level);
            self.pic.wire(irq, &mut self.lines[usize::from(irq)]);
        }

        fn raise(&mut self, irq: u8) {
            self.set(irq, false);
            self.set(irq, true);
        }

        /// The vector delivered, if the pin is up.
        fn deliver(&mut self) -> Option<u8> {
            self.pic.interrupt().then(|| self.pic.acknowledge())
        }
    }

    #[test]
    fn an_edge_requests_once_and_goes_into_service_at_the_acknowledge() {
        let mut b = Bench::new();
        b.raise(1);
        assert_eq!((b.irr(), b.isr()), (0x02, 0x00));
        assert_eq!(b.deliver(), Some(0x09));
        assert_eq!((b.irr(), b.isr()), (0x00, 0x02));
        b.out(&[(M0, 0x20)]);
        assert_eq!(b.deliver(), None, "the line is still up, but there was no second edge");
    }

    #[test]
    fn a_request_withdrawn_before_the_acknowledge_answers_as_input_7_and_is_not_in_service() {
        let mut b = Bench::new();
        b.raise(3);
        b.set(3, false);
        assert!(!b.pic.interrupt());
        assert_eq!(b.pic.acknowledge(), 0x0f);
        assert_eq!(b.isr(), 0);
    }

    #[test]
    fn a_spurious_interrupt_of_the_slave_leaves_the_cascade_in_service() {
        let mut b = Bench::new();
        b.raise(10);
        // The slave masks its request at the moment the master acknowledges: only its own answer is spurious.
        b.pic.slave.imr = 0xff;
        assert_eq!(b.pic.acknowledge(), 0x77);
        assert_eq!(b.isr(), 0x04);
        b.out(&[(S0, 0x0b)]);
        assert_eq!(b.read(S0), 0);
    }

    #[test]
    fn lower_input_numbers_win_and_wait_for_nobody_below_them() {
        let mut b = Bench::new();
        b.raise(5);
        b.raise(3);
        assert_eq!(b.deliver(), Some(0x0b));
        assert_eq!(b.deliver(), None, "5 waits for 3");
        b.raise(1);
        assert_eq!(b.deliver(), Some(0x09), "1 interrupts 3");
        b.out(&[(M0, 0x20), (M0, 0x20)]);
        assert_eq!(b.deliver(), Some(0x0d));
    }

    #[test]
    fn a_slave_input_comes_through_the_cascade_with_both_in_service() {
        let mut b = Bench::new();
        b.raise(14);
        assert_eq!(b.deliver(), Some(0x76));
        assert_eq!(b.isr(), 0x04);
        b.out(&[(S0, 0x0b)]);
        assert_eq!(b.read(S0), 0x40);
        b.out(&[(S0, 0x20), (M0, 0x20)]);
        assert_eq!(b.isr(), 0);
    }

    #[test]
    fn the_mask_holds_a_request_without_losing_it() {
        let mut b = Bench::new();
        b.out(&[(M1, 0x10)]);
        b.raise(4);
        assert_eq!(b.deliver(), None);
        assert_eq!(b.irr(), 0x10);
        b.out(&[(M1, 0x00)]);
        assert_eq!(b.deliver(), Some(0x0c));
    }

    #[test]
    fn a_masked_cascade_stops_every_slave_input() {
        let mut b = Bench::new();
        b.out(&[(M1, 0x04)]);
        b.raise(8);
        assert_eq!(b.deliver(), None);
    }

    #[test]
    fn a_specific_eoi_ends_the_level_it_names() {
        let mut b = Bench::new();
        b.raise(6);
        b.deliver();
        b.raise(1);
        b.deliver();
        b.out(&[(M0, 0x66)]);
        assert_eq!(b.isr(), 0x02);
    }

    #[test]
    fn rotation_on_non_specific_eoi_makes_the_served_level_the_lowest() {
        let mut b = Bench::new();
        b.raise(4);
        b.deliver();
        b.raise(6);
        b.out(&[(M0, 0xa0)]);
        // Data sheet, figure of automatic rotation: after serving IR4, IR5 is highest and IR4 lowest.
        b.raise(4);
        assert_eq!(b.deliver(), Some(0x0e));
        b.out(&[(M0, 0x20)]);
        assert_eq!(b.deliver(), Some(0x0c));
    }

    #[test]
    fn set_priority_names_the_lowest_level() {
        let mut b = Bench::new();
        b.out(&[(M0, 0xc5)]);
        b.raise(0);
        b.raise(6);
        assert_eq!(b.deliver(), Some(0x0e), "with IR5 lowest, IR6 is highest");
    }

    #[test]
    fn rotation_on_specific_eoi_ends_and_lowers_the_named_level() {
        let mut b = Bench::new();
        b.raise(3);
        b.deliver();
        b.out(&[(M0, 0xe3)]);
        assert_eq!(b.isr(), 0);
        b.raise(3);
        b.raise(4);
        assert_eq!(b.deliver(), Some(0x0c));
    }

    #[test]
    fn auto_eoi_leaves_nothing_in_service() {
        let mut b = Bench::with_icw4(0x03);
        b.raise(5);
        assert_eq!(b.deliver(), Some(0x0d));
        assert_eq!(b.isr(), 0);
    }

    #[test]
    fn rotation_in_auto_eoi_mode_lowers_each_served_level() {
        let mut b = Bench::with_icw4(0x03);
        b.out(&[(M0, 0x80)]);
        b.raise(3);
        b.deliver();
        b.raise(3);
        b.raise(7);
        assert_eq!(b.deliver(), Some(0x0f));
        b.out(&[(M0, 0x00), (M0, 0xc7)]);
        b.raise(7);
        assert_eq!(b.deliver(), Some(0x0b));
    }

    #[test]
    fn both_slave_requests_pass_the_edge_triggered_cascade_in_auto_eoi_mode() {
        let mut b = Bench::with_icw4(0x03);
        b.raise(9);
        b.raise(12);
        assert_eq!((b.deliver(), b.deliver(), b.deliver()), (Some(0x71), Some(0x74), None));
    }

    #[test]
    fn special_mask_mode_lets_lower_levels_interrupt_a_masked_service() {
        let mut b = Bench::new();
        b.raise(4);
        b.deliver();
        b.raise(6);
        assert_eq!(b.deliver(), None);
        b.out(&[(M1, 0x10), (M0, 0x68)]);
        assert_eq!(b.deliver(), Some(0x0e));
        // Manual: a masked level in service is not cleared by a non-specific EOI in special mask mode.
        b.out(&[(M0, 0x20)]);
        assert_eq!(b.isr(), 0x10);
        b.out(&[(M0, 0x48), (M0, 0x20)]);
        assert_eq!(b.isr(), 0);
    }

    #[test]
    fn special_fully_nested_mode_lets_a_higher_slave_input_interrupt_a_lower_one() {
        for (icw4, second) in [(0x01, None), (0x11, Some(0x71))] {
            let mut b = Bench::with_icw4(icw4);
            b.raise(13);
            assert_eq!(b.deliver(), Some(0x75));
            b.raise(9);
            assert_eq!(b.deliver(), second);
            b.raise(5);
            assert_eq!(b.deliver(), None, "an input below the cascade still waits");
        }
    }

    #[test]
    fn a_poll_reads_the_level_and_acknowledges_it() {
        let mut b = Bench::new();
        b.out(&[(M0, 0x0c)]);
        assert_eq!(b.read(M0), 0x00);
        b.raise(6);
        b.out(&[(M0, 0x0c)]);
        assert_eq!(b.read(M0), 0x86);
        assert_eq!((b.irr(), b.isr(), b.pic.interrupt()), (0x00, 0x40, false));
    }

    #[test]
    fn the_first_even_read_after_initialisation_shows_irr() {
        let mut b = Bench::new();
        b.isr();
        b.out(&[(M0, 0x11), (M1, 0x20), (M1, 0x04), (M1, 0x01)]);
        b.raise(7);
        assert_eq!(b.read(M0), 0x80);
    }

    #[test]
    fn icw1_clears_the_mask_and_forgets_edges_so_that_a_line_must_rise_anew() {
        let mut b = Bench::new();
        b.out(&[(M1, 0xff)]);
        b.raise(3);
        b.out(&[(M0, 0x11), (M1, 0x40), (M1, 0x04), (M1, 0x01)]);
        assert_eq!((b.read(M1), b.irr()), (0x00, 0x00));
        b.raise(3);
        assert_eq!(b.deliver(), Some(0x43));
    }

    #[test]
    fn a_single_controller_takes_no_icw3_and_without_ic4_no_icw4() {
        let mut b = Bench::new();
        b.out(&[(M0, 0x12), (M1, 0x50), (M1, 0xfe)]);
        assert_eq!(b.read(M1), 0xfe, "the third write is already OCW1");
        b.raise(0);
        assert_eq!(b.deliver(), Some(0x50));
    }

    #[test]
    fn the_low_three_bits_of_icw2_are_not_part_of_the_vector() {
        let mut b = Bench::new();
        b.out(&[(M0, 0x11), (M1, 0x27), (M1, 0x04), (M1, 0x01)]);
        b.raise(1);
        assert_eq!(b.deliver(), Some(0x21));
    }

    #[test]
    fn edge_level_registers_keep_only_the_bits_the_data_sheet_allows() {
        let mut b = Bench::new();
        b.out(&[(ELCR, 0xff), (ELCR + 1, 0xff)]);
        assert_eq!((b.read(ELCR), b.read(ELCR + 1)), (0xf8, 0xde));
    }

    #[test]
    fn a_level_triggered_input_asks_again_until_its_line_falls() {
        let mut b = Bench::new();
        b.out(&[(ELCR + 1, 0x08)]);
        b.set(11, true);
        assert_eq!(b.deliver(), Some(0x73));
        b.out(&[(S0, 0x20), (M0, 0x20)]);
        assert_eq!(b.deliver(), Some(0x73));
        b.set(11, false);
        b.out(&[(S0, 0x20), (M0, 0x20)]);
        assert_eq!(b.deliver(), None);
    }

    #[test]
    fn whether_a_line_could_interrupt_depends_on_masks_and_services() {
        let mut b = Bench::new();
        assert!(b.pic.could_interrupt(1 << 4) && b.pic.could_interrupt(1 << 12));
        assert!(!b.pic.could_interrupt(0));
        b.out(&[(M1, 0x10)]);
        assert!(!b.pic.could_interrupt(1 << 4));
        b.out(&[(M1, 0x04)]);
        assert!(!b.pic.could_interrupt(1 << 12), "the cascade is masked");
        b.out(&[(M1, 0x00), (S1, 0x10)]);
        assert!(!b.pic.could_interrupt(1 << 12));
        b.raise(3);
        b.deliver();
        assert!(
            !b.pic.could_interrupt(1 << 4),
            "it waits for an EOI that a sleeping processor does not send"
        );
        assert!(b.pic.could_interrupt(1 << 1));
    }

    #[test]
    fn the_output_is_silent_between_icw1_and_the_last_word() {
        let mut b = Bench::new();
        b.out(&[(M0, 0x11), (M1, 0x08)]);
        b.raise(1);
        assert!(!b.pic.interrupt());
        b.out(&[(M1, 0x04), (M1, 0x01)]);
        assert!(b.pic.interrupt());
    }
}
