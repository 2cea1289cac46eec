//! The floppy disk controller, without drives: Intel 82078 in AT mode, as the S82078B of other PC emulators.
//!
//! Software that looks for drives finds the controller and that nothing is connected to it: seeks step, track 0 is never
//! seen, and a command that needs a disk to turn waits for the index pulse until it is reset ("Command Set/Descriptions").
//! Nothing takes time.
//!
//! Left out: drives, the save, restore, drive specification and power-down commands (they are invalid here), the registers of PS/2 mode.

use crate::device::{IrqLine, PortDevice};
use pagewalk_x86::bus::Ticks;
use pagewalk_x86::image::Damaged;
use serde::{Deserialize, Serialize};

// Registers, from 3F0h on.
const DIGITAL_OUTPUT: u16 = 2;
const TAPE_DRIVE: u16 = 3;
/// Main status (read), data rate select (write).
const STATUS_RATE: u16 = 4;
const FIFO: u16 = 5;

/// Digital output: 0 holds the chip in reset.
const OUTPUT_NOT_RESET: u8 = 1 << 2;
/// Digital output: lets the interrupt line through.
const OUTPUT_INTERRUPT: u8 = 1 << 3;

const STATUS_BUSY: u8 = 1 << 4;
/// The next byte of the FIFO goes to the host.
const STATUS_TO_HOST: u8 = 1 << 6;
/// The FIFO may be read or written.
const STATUS_REQUEST: u8 = 1 << 7;

/// Data rate select: a reset that ends by itself.
const RATE_RESET: u8 = 1 << 7;

// Status register 0.
const INVALID: u8 = 0x80;
const READY_CHANGED: u8 = 0xc0;
const ABNORMAL: u8 = 0x40;
const SEEK_END: u8 = 0x20;
const EQUIPMENT_CHECK: u8 = 0x10;
/// Status register 3: bits 5 and 3 are always ones.
const STATUS_3_ONES: u8 = 0x28;

/// Configuration: drives are not polled after a reset.
const NO_POLLING: u8 = 1 << 4;
/// Configuration after a reset: the FIFO is off.
const NO_FIFO: u8 = 1 << 5;
/// PERPENDICULAR MODE: its drive bits are to be taken.
const OVERWRITE: u8 = 1 << 7;

const VERSION: u8 = 0x90;
const PART: u8 = 0x41;

/// The controller.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Floppy {
    /// INT.
    pub irq: IrqLine,
    output: u8,
    tape: u8,
    /// The command's bytes so far.
    command: Vec<u8>,
    /// The result's bytes that were not read yet, the last first.
    result: Vec<u8>,
    /// A command waits for a disk.
    waits: bool,
    /// INT before the digital output register's gate.
    interrupt: bool,
    /// Status register 0 of each interrupt not asked for yet, the last first.
    causes: Vec<u8>,
    cylinders: [u8; 4],
    specified: [u8; 2],
    configuration: [u8; 2],
    perpendicular: u8,
    locked: bool,
}

/// How many bytes the command has that begins with this one.
fn length(first: u8) -> usize {
    match first {
        0x03 | 0x0f | 0x8f | 0xcf => 3,
        0x04 | 0x07 | 0x12 | 0x33 => 2,
        0x13 => 4,
        _ => match first & 0x1f {
            // read track, write, read, write deleted, read deleted, scan equal, verify, scan low, scan high
            0x02 | 0x05 | 0x06 | 0x09 | 0x0c | 0x11 | 0x16 | 0x19 | 0x1d => 9,
            0x0a => 2,
            0x0d => 6,
            _ => 1,
        },
    }
}

impl Floppy {
    /// A controller at power-on.
    pub fn new() -> Floppy {
        let mut controller = Floppy::default();
        controller.reset();
        controller
    }

    /// The RESET pin.
    pub fn reset(&mut self) {
        let irq = self.irq;
        *self = Floppy { irq, configuration: [NO_FIFO, 0], ..Floppy::default() };
        self.drive_line();
    }

    /// The end of a reset by a register: "Software Resets".
    fn start_over(&mut self) {
        self.command.clear();
        self.result.clear();
        self.waits = false;
        self.perpendicular &= !0b11;
        if !self.locked {
            self.configuration = [NO_FIFO, 0];
        }
        // with polling each drive seems to have become ready
        let polls = self.configuration[0] & NO_POLLING == 0;
        self.causes =
            if polls { (0..4).rev().map(|drive| READY_CHANGED | drive).collect() } else { Vec::new() };
        self.interrupt = polls;
    }

    fn in_reset(&self) -> bool {
        self.output & OUTPUT_NOT_RESET == 0
    }

    fn status(&self) -> u8 {
        if self.in_reset() {
            return 0;
        }
        let busy = self.waits || !self.command.is_empty() || !self.result.is_empty();
        let to_host = if self.result.is_empty() { 0 } else { STATUS_TO_HOST };
        let request = if self.waits { 0 } else { STATUS_REQUEST };
        request | to_host | if busy { STATUS_BUSY } else { 0 }
    }

    fn take(&mut self, byte: u8) {
        if self.in_reset() || self.waits || !self.result.is_empty() {
            return;
        }
        self.command.push(byte);
        if self.command.len() < length(self.command[0]) {
            return;
        }
        let command = std::mem::take(&mut self.command);
        let mut result = self.execute(&command);
        result.reverse();
        self.result = result;
    }

    /// A whole command; what it answers.
    fn execute(&mut self, command: &[u8]) -> Vec<u8> {
        let argument = |index: usize| command.get(index).copied().unwrap_or_default();
        let (drive, head_and_drive) = (argument(1) & 3, argument(1) & 7);
        let cylinder = &mut self.cylinders[usize::from(drive)];
        match command[0] {
            // SPECIFY
            0x03 => self.specified = [argument(1), argument(2)],
            // SENSE DRIVE STATUS
            0x04 => return vec![STATUS_3_ONES | head_and_drive],
            // RECALIBRATE: "If the TRK0 pin is still low after 79 step pulses", SE and EC are set
            0x07 => {
                *cylinder = 0;
                self.cause(ABNORMAL | SEEK_END | EQUIPMENT_CHECK | drive);
            }
            // SENSE INTERRUPT STATUS
            0x08 => {
                self.interrupt = false;
                return match self.causes.pop() {
                    Some(cause) => vec![cause, self.cylinders[usize::from(cause & 3)]],
                    None => vec![INVALID],
                };
            }
            // DUMPREG
            0x0e => {
                let mode = u8::from(self.locked) << 7 | self.perpendicular;
                let (specified, configuration) = (self.specified, self.configuration);
                return [&self.cylinders[..], &specified, &[0, mode], &configuration].concat();
            }
            // SEEK, RELATIVE SEEK outwards and inwards
            0x0f | 0x8f | 0xcf => {
                *cylinder = match command[0] {
                    0x0f => argument(2),
                    0x8f => cylinder.wrapping_sub(argument(2)),
                    _ => cylinder.wrapping_add(argument(2)),
                };
                self.cause(SEEK_END | head_and_drive);
            }
            0x10 => return vec![VERSION],
            // PERPENDICULAR MODE
            0x12 => {
                let drives = if argument(1) & OVERWRITE != 0 { argument(1) } else { self.perpendicular };
                self.perpendicular = drives & 0x3c | argument(1) & 0b11;
            }
            // CONFIGURE
            0x13 => self.configuration = [argument(2) & 0x7f, argument(3)],
            // UNLOCK, LOCK
            0x14 | 0x94 => {
                self.locked = command[0] == 0x94;
                return vec![u8::from(self.locked) << 4];
            }
            0x18 => return vec![PART],
            // OPTION
            0x33 => {}
            // those that need a disk
            first if length(first) > 1 => self.waits = true,
            _ => return vec![INVALID],
        }
        Vec::new()
    }

    fn cause(&mut self, status_0: u8) {
        // one for each drive is kept: a second seek forgets the first
        self.causes.retain(|cause| cause & 3 != status_0 & 3);
        self.causes.insert(0, status_0);
        self.interrupt = true;
    }

    fn drive_line(&mut self) {
        self.irq.set(self.interrupt && self.output & OUTPUT_INTERRUPT != 0);
    }

    /// Refuses what can't be.
    pub(crate) fn check(&self) -> Result<(), Damaged> {
        let complete = self.command.first().is_some_and(|&first| self.command.len() >= length(first));
        Damaged::unless(
            !complete && self.result.len() <= 10 && self.causes.len() <= 4,
            "the floppy controller",
        )
    }
}

impl PortDevice for Floppy {
    fn read8(&mut self, offset: u16, _now: Ticks) -> u8 {
        match offset {
            DIGITAL_OUTPUT => self.output,
            TAPE_DRIVE => self.tape,
            STATUS_RATE => self.status(),
            FIFO => self.result.pop().unwrap_or_default(),
            // Digital input: no drive says that its disk was changed, and the other bits are not driven.
            _ => 0x7f,
        }
    }

    fn write8(&mut self, offset: u16, value: u8, _now: Ticks) {
        match offset {
            DIGITAL_OUTPUT => {
                let was_in_reset = self.in_reset();
                self.output = value;
                match (was_in_reset, self.in_reset()) {
                    (true, false) => self.start_over(),
                    (_, true) => {
                        self.interrupt = false;
                        self.causes.clear();
                    }
                    _ => {}
                }
            }
            TAPE_DRIVE => self.tape = value & 0b11,
            STATUS_RATE if value & RATE_RESET != 0 && !self.in_reset() => self.start_over(),
            FIFO => self.take(value),
            // rates matter to disks alone
            _ => {}
        }
        self.drive_line();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Ticks = Ticks(0);

    /// Out of reset, its interrupts let through.
    fn started() -> Floppy {
        let mut chip = Floppy::new();
        chip.write8(DIGITAL_OUTPUT, 0x0c, NOW);
        chip
    }

    fn command(chip: &mut Floppy, bytes: &[u8]) -> Vec<u8> {
        for &byte in bytes {
            assert_eq!(chip.read8(STATUS_RATE, NOW) & 0xc0, 0x80, "it asks for a byte of {bytes:02x?}");
            chip.write8(FIFO, byte, NOW);
        }
        let mut result = Vec::new();
        while chip.read8(STATUS_RATE, NOW) & 0xc0 == 0xc0 {
            assert_eq!(chip.read8(STATUS_RATE, NOW), 0xd0);
            result.push(chip.read8(FIFO, NOW));
        }
        result
    }

    #[test]
    fn a_reset_interrupts_and_four_drives_are_sensed() {
        let mut chip = started();
        assert!(chip.irq.level());
        for drive in 0..4 {
            assert_eq!(command(&mut chip, &[0x08]), [0xc0 | drive, 0]);
            assert!(!chip.irq.level());
        }
        assert_eq!(command(&mut chip, &[0x08]), [0x80], "nothing to sense");
    }

    #[test]
    fn a_reset_without_polling_does_not_interrupt_if_the_configuration_is_locked() {
        let mut chip = started();
        command(&mut chip, &[0x13, 0, 0x57, 9]);
        assert_eq!(command(&mut chip, &[0x94]), [0x10]);
        chip.write8(DIGITAL_OUTPUT, 0x08, NOW);
        assert_eq!(chip.read8(STATUS_RATE, NOW), 0);
        chip.write8(DIGITAL_OUTPUT, 0x0c, NOW);
        assert!(!chip.irq.level());
        assert_eq!(command(&mut chip, &[0x0e])[7..], [0x80, 0x57, 9]);
        assert_eq!(command(&mut chip, &[0x14]), [0]);
        chip.write8(STATUS_RATE, 0x80, NOW);
        assert!(chip.irq.level());
        assert_eq!(command(&mut chip, &[0x0e])[7..], [0, 0x20, 0]);
    }

    #[test]
    fn seeks_step_and_track_0_is_not_found() {
        let mut chip = started();
        for _ in 0..4 {
            command(&mut chip, &[0x08]);
        }
        assert!(command(&mut chip, &[0x0f, 0x05, 40]).is_empty());
        assert!(chip.irq.level());
        assert_eq!(command(&mut chip, &[0x08]), [0x25, 40]);
        command(&mut chip, &[0xcf, 0x01, 2]);
        assert_eq!(command(&mut chip, &[0x08]), [0x21, 42]);
        command(&mut chip, &[0x07, 0x01]);
        assert_eq!(command(&mut chip, &[0x08]), [0x71, 0]);
        assert_eq!(command(&mut chip, &[0x04, 0x05]), [0x2d]);
    }

    #[test]
    fn the_registers_are_dumped_in_the_data_sheets_order() {
        let mut chip = started();
        command(&mut chip, &[0x03, 0xdf, 0x02]);
        command(&mut chip, &[0x12, 0x87]);
        command(&mut chip, &[0x12, 0x3e]);
        command(&mut chip, &[0x0f, 2, 7]);
        assert_eq!(command(&mut chip, &[0x0e]), [0, 0, 7, 0, 0xdf, 0x02, 0, 0x06, 0x20, 0]);
    }

    #[test]
    fn it_says_that_it_is_an_s82078b() {
        let mut chip = started();
        assert_eq!(command(&mut chip, &[0x10]), [0x90]);
        assert_eq!(command(&mut chip, &[0x18])[0] >> 5, 2);
        assert_eq!(command(&mut chip, &[0x1f]), [0x80]);
    }

    #[test]
    fn a_read_waits_for_a_disk_until_the_chip_is_reset() {
        let mut chip = started();
        assert!(command(&mut chip, &[0xe6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff]).is_empty());
        assert_eq!(chip.read8(STATUS_RATE, NOW), 0x10);
        chip.write8(FIFO, 0x08, NOW);
        assert_eq!(chip.read8(STATUS_RATE, NOW), 0x10);
        chip.write8(DIGITAL_OUTPUT, 0, NOW);
        chip.write8(DIGITAL_OUTPUT, 0x0c, NOW);
        assert_eq!(chip.read8(STATUS_RATE, NOW), 0x80);
    }

    #[test]
    fn the_interrupt_is_gated_by_the_output_register() {
        let mut chip = started();
        chip.write8(DIGITAL_OUTPUT, 0x04, NOW);
        assert!(!chip.irq.level());
        chip.write8(DIGITAL_OUTPUT, 0x0c, NOW);
        assert!(chip.irq.level());
    }
}
