//! The video DAC, ports 3C6h to 3C9h: 256 entries of red, green and blue, 6 bits each (8 if the VBE interface says so).

use serde::{Deserialize, Serialize};

/// PEL mask.
pub(super) const MASK: u16 = 0;
/// Index to read from; reads as the state.
pub(super) const READ_INDEX: u16 = 1;
/// Index to write to.
pub(super) const WRITE_INDEX: u16 = 2;
/// Red, green, blue in turn.
pub(super) const DATA: u16 = 3;

/// Whether it was last told to write or to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
enum State {
    #[default]
    Writing,
    Reading,
}

/// The DAC.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dac {
    mask: u8,
    state: State,
    index: u8,
    /// Which of the three colours comes next.
    next: u8,
    /// What was written of an entry that is not complete.
    held: [u8; 3],
    /// Whether entries have 8 bits a colour.
    wide: bool,
    entries: Vec<[u8; 3]>,
}

impl std::fmt::Debug for Dac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = (self.mask, self.state, self.index, self.next, self.held, self.wide);
        write!(f, "Dac({state:?} {:?})", self.entries.concat())
    }
}

impl Default for Dac {
    fn default() -> Dac {
        Dac {
            mask: 0xff,
            state: State::Writing,
            index: 0,
            next: 0,
            held: [0; 3],
            wide: false,
            entries: vec![[0; 3]; 256],
        }
    }
}

impl Dac {
    /// Whether there are all entries, and a colour of one comes next.
    pub(super) fn is_sound(&self) -> bool {
        self.entries.len() == 256 && usize::from(self.next) < self.held.len()
    }

    /// Sets an entry.
    pub fn set_entry(&mut self, index: u8, colours: [u8; 3]) {
        self.entries[usize::from(index)] = colours;
    }

    /// The VBE interface chooses 8 or 6 bits a colour.
    pub(super) fn set_wide(&mut self, wide: bool) {
        self.wide = wide;
    }

    /// What an entry looks like, 8 bits a colour, behind the PEL mask.
    pub fn colour(&self, index: u8) -> [u8; 3] {
        let entry = self.entries[usize::from(index & self.mask)];
        if self.wide { entry } else { entry.map(|six| six << 2 | six >> 4 & 3) }
    }

    pub(super) fn read8(&mut self, offset: u16) -> u8 {
        match offset {
            MASK => self.mask,
            READ_INDEX if self.state == State::Reading => 3,
            READ_INDEX => 0,
            WRITE_INDEX => self.index,
            DATA => {
                let value = self.entries[usize::from(self.index)][usize::from(self.next)];
                self.advance();
                value
            }
            _ => 0xff,
        }
    }

    pub(super) fn write8(&mut self, offset: u16, value: u8) {
        match offset {
            MASK => self.mask = value,
            READ_INDEX => (self.state, self.index, self.next) = (State::Reading, value, 0),
            WRITE_INDEX => (self.state, self.index, self.next) = (State::Writing, value, 0),
            DATA => {
                self.held[usize::from(self.next)] = if self.wide { value } else { value & 0x3f };
                if self.next == 2 {
                    self.entries[usize::from(self.index)] = self.held;
                }
                self.advance();
            }
            _ => {}
        }
    }

    fn advance(&mut self) {
        self.next = (self.next + 1) % 3;
        if self.next == 0 {
            self.index = self.index.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_three_writes_of_six_bits_and_the_index_goes_on() {
        let mut dac = Dac::default();
        dac.write8(WRITE_INDEX, 0xff);
        for value in [0xff, 0x2a, 0x15, 1, 2] {
            dac.write8(DATA, value);
        }
        dac.write8(READ_INDEX, 0xff);
        let read: Vec<u8> = (0..6).map(|_| dac.read8(DATA)).collect();
        assert_eq!(read, [0x3f, 0x2a, 0x15, 0, 0, 0], "two of three writes change nothing");
    }

    #[test]
    fn the_state_register_tells_reading_from_writing() {
        let mut dac = Dac::default();
        dac.write8(READ_INDEX, 1);
        assert_eq!(dac.read8(READ_INDEX) & 3, 3);
        dac.write8(WRITE_INDEX, 1);
        assert_eq!(dac.read8(READ_INDEX) & 3, 0);
    }

    #[test]
    fn the_pel_mask_is_anded_with_every_index_shown() {
        let mut dac = Dac::default();
        dac.set_entry(0x0a, [0x3f, 0x00, 0x20]);
        assert_eq!(dac.colour(0xfa), [0, 0, 0]);
        dac.write8(MASK, 0x0f);
        assert_eq!(dac.colour(0xfa), [0xff, 0x00, 0x82]);
    }
}
