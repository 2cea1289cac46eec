//! String instructions: counts, directions, overlaps, runs of equal elements, and page ends on the way.

use iced_x86::Mnemonic;

use super::draft::{DS, Draft, ECX, EDI, ES, ESI};
use super::template::Template;
use super::values;

impl Draft<'_> {
    pub fn string(&mut self, t: &Template) {
        let size = t.size as u32;
        let down = self.case.eflags & 0x400 != 0;
        let count = if self.prefixes.repeats() { self.count() } else { 1 };
        let source = self.prefixes.segment().unwrap_or(DS);
        self.reach(ES);
        self.reach(source);
        let span = (count * size).clamp(1, 0x800);
        let from = self.start_of(source, span, size, down);
        let mut to = self.start_of(ES, span, size, down);
        let moves = matches!(t.mnemonic, Mnemonic::Movsb | Mnemonic::Movsw | Mnemonic::Movsd);
        if moves && self.random.once_in(4) {
            // overlapping
            let distance = self.random.below(2 * size + 4).wrapping_sub(size + 2);
            let base = self.segments.all[self.held[ES]].base;
            to = self.linear(source, from).wrapping_add(distance).wrapping_sub(base);
        }
        self.set_index(ESI, from);
        self.set_index(EDI, to);
        self.equal_run(t, count, size, down, (source, from), to);
    }

    /// The count register, 20 or less most times; gives how many elements at most will be gone through here.
    fn count(&mut self) -> u32 {
        let bits = self.random.bits();
        let count = match bits & 63 {
            0 => values::dword(self.random),
            1..=4 => (bits >> 8 & 0x3f) as u32,
            5 => (bits >> 8 & 0x3ff) as u32,
            _ => (bits >> 8 & 0xff) as u32 % 21,
        };
        let regs = &mut self.case.regs;
        regs[ECX] = if self.narrow { regs[ECX] & 0xffff_0000 | count & 0xffff } else { count };
        count.min(0x100)
    }

    /// Where to begin, so that all is within reach most times.
    fn start_of(&mut self, segment: usize, span: u32, size: u32, down: bool) -> u32 {
        if self.random.once_in(10) {
            return self.aim(segment, size, self.narrow);
        }
        let first = self.aim(segment, span, self.narrow);
        if down { first.wrapping_add(span).wrapping_sub(size) } else { first }
    }

    pub fn set_index(&mut self, register: usize, offset: u32) {
        let value = &mut self.case.regs[register];
        *value = if self.narrow { *value & 0xffff_0000 | offset & 0xffff } else { offset };
        self.settled |= 1 << register;
    }

    /// For comparisons: elements that are equal, up to a point.
    fn equal_run(&mut self, t: &Template, count: u32, size: u32, down: bool, source: (usize, u32), to: u32) {
        let compares = matches!(t.mnemonic, Mnemonic::Cmpsb | Mnemonic::Cmpsw | Mnemonic::Cmpsd);
        let scans = matches!(t.mnemonic, Mnemonic::Scasb | Mnemonic::Scasw | Mnemonic::Scasd);
        if !compares && !scans || self.random.once_in(3) {
            return;
        }
        let run = self.random.below(count.min(24) + 1);
        let length = (run * size) as usize;
        let back = if down { (run * size).wrapping_sub(size) } else { 0 };
        let mut bytes = [0; 96];
        let element = self.case.regs[0].to_le_bytes();
        for (n, byte) in bytes.iter_mut().enumerate() {
            *byte = element[n % size as usize];
        }
        let dest = self.linear(ES, to.wrapping_sub(back));
        self.patch(dest, &bytes[..length]);
        if compares {
            let from = self.linear(source.0, source.1.wrapping_sub(back));
            self.patch(from, &bytes[..length]);
        }
    }
}
