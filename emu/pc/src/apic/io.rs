//! The I/O APIC: Intel 82093AA (290566-001) with the EOI register of version 20h (82801BA, 290687-002).
//!
//! Left out: arbitration IDs (zero), and sending an edge again that no local APIC accepted.

use super::{Delivery, Destination, Message};
use serde::{Deserialize, Serialize};

/// Inputs.
pub const INPUTS: usize = 24;

// The registers in memory.
const SELECT: u16 = 0x00;
const WINDOW: u16 = 0x10;
const EOI: u16 = 0x40;

// The registers behind the window.
const ID: u8 = 0x00;
const VERSION: u8 = 0x01;
const ARBITRATION: u8 = 0x02;
const TABLE: u8 = 0x10;
const TABLE_END: u8 = TABLE + 2 * INPUTS as u8 - 1;

const VERSION_VALUE: u32 = (INPUTS as u32 - 1) << 16 | 0x20;

const ACTIVE_LOW: u32 = 1 << 13;
const REMOTE_IRR: u32 = 1 << 14;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
/// Vector, delivery mode, destination mode, polarity, trigger, mask.
const WRITABLE: u32 = 0x1_afff;

/// One entry of the redirection table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Entry {
    low: u32,
    destination: u8,
}

/// An I/O APIC.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IoApic {
    id: u8,
    select: u8,
    table: [Entry; INPUTS],
    /// The input lines as they are.
    lines: u32,
    /// Edges that are to be sent.
    edges: u32,
}

impl Default for IoApic {
    fn default() -> Self {
        IoApic::new()
    }
}

impl IoApic {
    /// At power-on: everything masked.
    pub fn new() -> IoApic {
        IoApic {
            id: 0,
            select: 0,
            table: [Entry { low: MASKED, destination: 0 }; INPUTS],
            lines: 0,
            edges: 0,
        }
    }

    /// The reset line: as power-on, but for what the input lines are doing.
    pub fn reset(&mut self) {
        *self = IoApic { lines: self.lines, ..IoApic::new() };
    }

    fn is_active(&self, input: usize) -> bool {
        let high = self.lines >> input & 1 != 0;
        high != (self.table[input].low & ACTIVE_LOW != 0)
    }

    /// An input moves. Data sheet: edges at a masked input are ignored.
    pub fn set_line(&mut self, input: usize, level: bool) {
        if input >= INPUTS || (self.lines >> input & 1 != 0) == level {
            return;
        }
        self.lines ^= 1 << input;
        let entry = self.table[input].low;
        if self.is_active(input) && entry & (MASKED | LEVEL) == 0 {
            self.edges |= 1 << input;
        }
    }

    /// Whether there may be something to send.
    #[inline]
    pub fn wants(&self) -> bool {
        (0..INPUTS).any(|input| self.offer(input).is_some())
    }

    /// What an input has to send now.
    pub fn offer(&self, input: usize) -> Option<Message> {
        let entry = self.table.get(input)?;
        let level = entry.low & LEVEL != 0;
        let wants = if level {
            self.is_active(input) && entry.low & REMOTE_IRR == 0
        } else {
            self.edges >> input & 1 != 0
        };
        let delivery = Delivery::of(entry.low);
        (wants && entry.low & MASKED == 0).then_some(Message {
            destination: Destination::of(entry.low, entry.destination),
            delivery,
            vector: entry.low as u8,
            level: level && matches!(delivery, Delivery::Fixed | Delivery::LowestPriority),
        })
    }

    /// The first input that sends this vector as an interrupt, if one does.
    pub fn input_of(&self, vector: u8) -> Option<u8> {
        let sends = |entry: &Entry| {
            let fixed = matches!(Delivery::of(entry.low), Delivery::Fixed | Delivery::LowestPriority);
            fixed && entry.low as u8 == vector && entry.low & MASKED == 0
        };
        self.table.iter().position(sends).map(|input| input as u8)
    }

    /// What [`IoApic::offer`] had was sent. Data sheet: remote IRR is set when a local APIC accepts a level.
    pub fn sent(&mut self, input: usize, accepted: bool) {
        self.edges &= !(1 << input);
        let low = &mut self.table[input].low;
        if *low & LEVEL != 0 && accepted {
            *low |= REMOTE_IRR;
        }
    }

    /// The end of a level-triggered interrupt of this vector is told.
    pub fn end(&mut self, vector: u8) {
        for entry in &mut self.table {
            if entry.low as u8 == vector && entry.low & LEVEL != 0 {
                entry.low &= !REMOTE_IRR;
            }
        }
    }

    /// Whether one of these inputs, if it became active, would send something.
    pub fn could_interrupt(&self, inputs: u32) -> bool {
        self.table
            .iter()
            .enumerate()
            .any(|(input, entry)| inputs >> input & 1 != 0 && entry.low & MASKED == 0)
    }

    /// Reads the dword at `offset` of its page.
    pub fn read(&mut self, offset: u16) -> u32 {
        match offset {
            SELECT => u32::from(self.select),
            WINDOW => match self.select {
                ID => u32::from(self.id) << 24,
                VERSION => VERSION_VALUE,
                ARBITRATION => 0,
                TABLE..=TABLE_END => {
                    let index = self.select - TABLE;
                    let entry = self.table[usize::from(index / 2)];
                    if index & 1 == 0 { entry.low } else { u32::from(entry.destination) << 24 }
                }
                _ => 0,
            },
            _ => 0,
        }
    }

    /// Writes the dword at `offset` of its page.
    pub fn write(&mut self, offset: u16, value: u32) {
        match offset {
            SELECT => self.select = value as u8,
            EOI => self.end(value as u8),
            WINDOW => match self.select {
                ID => self.id = (value >> 24) as u8 & 0xf,
                TABLE..=TABLE_END => {
                    let index = self.select - TABLE;
                    let entry = &mut self.table[usize::from(index / 2)];
                    if index & 1 == 0 {
                        entry.low = value & WRITABLE | entry.low & REMOTE_IRR;
                        if value & LEVEL == 0 {
                            entry.low &= !REMOTE_IRR;
                        }
                    } else {
                        entry.destination = (value >> 24) as u8;
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
