//! System control ports A (92h) and B (61h), and PIIX3's reset control (CF9h): odd wires of the PC AT and the PS/2 that no chip of their own holds.
//!
//! Port B switches counter 2's gate and the speaker and shows the counter's output and the memory refresh; port A
//! masks address line 20 and resets the processor; reset control resets the board (82371SB, "Reset Control Register").
//!
//! Left out: the NMI sources of port B (parity and channel check never happen) and the sound of the speaker.
//! `Choice:` the refresh bit toggles every 18 timer clocks, as counter 1 is programmed on a PC, whatever it is set to.

use pagewalk_x86::bus::Ticks;
use serde::{Deserialize, Serialize};

const B_GATE2: u8 = 1 << 0;
const B_WRITABLE: u8 = 0x0f;
const B_REFRESH: u8 = 1 << 4;
const B_OUT2: u8 = 1 << 5;

const A_FAST_RESET: u8 = 1 << 0;
const A_A20: u8 = 1 << 1;

/// A rise of this bit resets.
const RESET_CPU: u8 = 1 << 2;
/// Whether that is a hard reset. Here all are.
const RESET_HARD: u8 = 1 << 1;

/// System control port B.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ControlB {
    written: u8,
}

impl ControlB {
    /// The level of counter 2's gate.
    pub fn gate2(&self) -> bool {
        self.written & B_GATE2 != 0
    }

    /// IN; `out2` is the output of counter 2.
    pub fn read(&self, out2: bool, now: Ticks) -> u8 {
        let refreshes = u128::from(now.0) * 105 / (88_000 * 18);
        let refresh = if refreshes & 1 != 0 { B_REFRESH } else { 0 };
        self.written | refresh | if out2 { B_OUT2 } else { 0 }
    }

    /// OUT.
    pub fn write(&mut self, value: u8) {
        self.written = value & B_WRITABLE;
    }
}

/// System control port A.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ControlA {
    written: u8,
}

impl ControlA {
    /// Whether this port lets address line 20 through.
    pub fn a20(&self) -> bool {
        self.written & A_A20 != 0
    }

    /// IN.
    pub fn read(&self) -> u8 {
        self.written
    }

    /// OUT. Returns whether bit 0 rose, which resets the processor.
    pub fn write(&mut self, value: u8) -> bool {
        let reset = value & !self.written & A_FAST_RESET != 0;
        self.written = value & (A_A20 | A_FAST_RESET);
        reset
    }
}

/// The reset control register.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ResetControl {
    written: u8,
}

impl ResetControl {
    /// IN.
    pub fn read(&self) -> u8 {
        self.written
    }

    /// OUT. Returns whether bit 2 rose, which resets the board.
    pub fn write(&mut self, value: u8) -> bool {
        let reset = value & !self.written & RESET_CPU != 0;
        self.written = value & (RESET_HARD | RESET_CPU);
        reset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_control_resets_when_bit_2_goes_from_0_to_1() {
        let mut port = ResetControl::default();
        assert!(!port.write(0xfb));
        assert_eq!(port.read(), 0x02);
        assert!(port.write(0x06));
        assert!(!port.write(0x06));
    }

    #[test]
    fn the_refresh_bit_toggles_every_15_microseconds() {
        let port = ControlB::default();
        let bits: Vec<u8> = (0..6).map(|i| port.read(false, Ticks(i * 15_086)) & B_REFRESH).collect();
        assert_eq!(bits, [0, 16, 0, 16, 0, 16]);
    }

    #[test]
    fn port_b_reads_back_its_low_four_bits_and_counter_2() {
        let mut port = ControlB::default();
        port.write(0xff);
        assert_eq!(port.read(false, Ticks(0)), 0x0f);
        assert_eq!(port.read(true, Ticks(0)), 0x2f);
        assert!(port.gate2());
    }

    #[test]
    fn port_a_resets_when_bit_0_goes_from_0_to_1() {
        let mut port = ControlA::default();
        assert!(!port.write(0x02));
        assert!(port.a20());
        assert!(port.write(0x03));
        assert!(!port.write(0x03));
    }
}
