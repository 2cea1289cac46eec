//! Page tables that come into being as they are read.

use pagewalk_x86::random::Random;

use super::bus::fold;
use super::reference::Memory;

/// The entries of a case: made up when they are first read.
pub struct Tables {
    pub seed: u64,
    pub maxphyaddr: u32,
    /// Where they lie in memory, how long they are, and what they hold now.
    pub entries: Vec<(usize, u32, u64)>,
    /// Those that memory does not hold yet.
    pub fresh: Vec<(usize, u32, u64)>,
    /// How many were read by walks.
    pub reads: u64,
}

impl Tables {
    /// Flags at random, mostly present; an address that exists; rarely one more bit anywhere.
    pub fn made_up(&self, seed: u64, bytes: u32) -> u64 {
        let mut random = Random::new(seed);
        let mut value = random.bits() & 0xfff;
        if !random.once_in(8) {
            value |= 1;
        }
        if random.flag() {
            value |= 6; // else hardly any user would write
        }
        value |= random.bits() & ((1 << self.maxphyaddr) - 1) & !0xfff;
        if random.flag() {
            value &= !0x3f_e000; // else hardly any large page would pass
        }
        if bytes == 8 && random.once_in(6) {
            value |= 1 << 63;
        }
        if random.once_in(12) {
            value |= 1 << random.below(64);
        }
        if bytes == 4 { value & 0xffff_ffff } else { value }
    }

    /// A PDPTE as memory is to hold it: mostly without reserved bits.
    pub fn pdpte(&mut self, at: u64) -> u64 {
        let at = fold(at);
        if let Some(entry) = self.entries.iter().find(|entry| entry.0 == at) {
            return entry.2;
        }
        let mut random = Random::new(!self.seed ^ at as u64);
        let mut value = random.bits() & ((1 << self.maxphyaddr) - 1) & !0xfff;
        value |= random.bits() & 0xe18 | !random.once_in(12) as u64;
        if random.once_in(40) {
            value |= 1 << random.below(64);
        }
        if value & 1 == 0 && random.flag() {
            value = random.bits() & !1; // all other bits are ignored
        }
        self.fresh.push((at, 8, value));
        self.entries.push((at, 8, value));
        value
    }
}

impl Memory for Tables {
    fn read(&mut self, at: u64, bytes: u32) -> u64 {
        self.reads += 1;
        let at = fold(at);
        if let Some(entry) = self.entries.iter().find(|entry| entry.0 == at) {
            return entry.2;
        }
        let value = self.made_up(self.seed ^ at as u64, bytes);
        self.fresh.push((at, bytes, value));
        self.entries.push((at, bytes, value));
        value
    }
    fn write(&mut self, at: u64, _: u32, value: u64) {
        let at = fold(at);
        self.entries.iter_mut().filter(|entry| entry.0 == at).for_each(|entry| entry.2 = value);
    }
}
