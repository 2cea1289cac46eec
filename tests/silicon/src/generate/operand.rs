//! The memory operand: where it shall be is chosen first, then registers and displacement are solved for it.

use super::draft::{DS, Draft, Memory, Rm, SS, Target};
use super::segments::{Window, can_patch};
use super::template::{Class, Immediate, Template};
use super::values;

/// Base and index of the 16-bit forms.
const PAIRS: [(Option<u8>, Option<u8>); 8] = [
    (Some(3), Some(6)),
    (Some(3), Some(7)),
    (Some(5), Some(6)),
    (Some(5), Some(7)),
    (Some(6), None),
    (Some(7), None),
    (Some(5), None),
    (Some(3), None),
];

/// Inverses of 3, 5 and 9 modulo 2^32, by the scale of an index that is the base as well.
const INVERSE: [u32; 4] = [0, 0xaaaa_aaab, 0xcccc_cccd, 0x38e3_8e39];

impl Draft<'_> {
    /// A memory form of the address size, redundant ones among them.
    pub fn memory_form(&mut self) -> Memory {
        let bits = self.random.bits();
        let (mode, rm) = ((bits & 0xff) as u8 % 3, (bits >> 8 & 7) as u8);
        let small = (bits >> 32) as i8 as u32;
        let mut memory = Memory { modrm: mode << 6 | rm, ..Memory::default() };
        if self.narrow {
            (memory.base, memory.index) = PAIRS[rm as usize];
            if mode == 0 && rm == 6 {
                (memory.base, memory.bytes) = (None, 2);
                return memory;
            }
            memory.bytes = mode;
        } else {
            memory.base = Some(rm);
            if rm == 4 {
                let (base, index) = ((bits >> 12 & 7) as u8, (bits >> 16 & 7) as u8);
                memory.scale = (bits >> 20 & 3) as u8;
                memory.sib = Some(memory.scale << 6 | index << 3 | base);
                memory.base = Some(base);
                memory.index = (index != 4).then_some(index);
            }
            if mode == 0 && memory.base == Some(5) {
                (memory.base, memory.bytes) = (None, 4);
                memory.displacement = small;
                return memory;
            }
            memory.bytes = [0, 1, 4][mode as usize];
        }
        memory.displacement = match memory.bytes {
            0 => 0,
            1 => small,
            _ if bits >> 24 & 1 == 0 => small,
            _ => values::dword(self.random),
        };
        memory
    }

    fn is_free(&self, register: u8) -> bool {
        self.settled >> register & 1 == 0
    }

    /// The effective address of the form, with the registers as they are.
    pub fn effective(&self, memory: &Memory) -> u32 {
        let value = |register: Option<u8>| register.map_or(0, |n| self.case.regs[n as usize]);
        let sum = value(memory.base)
            .wrapping_add(value(memory.index) << memory.scale)
            .wrapping_add(memory.displacement);
        if self.narrow { sum & 0xffff } else { sum }
    }

    /// Makes the form come out at `offset`, as far as its registers are free; gives where it really comes out.
    pub fn solve(&mut self, memory: &mut Memory, offset: u32) -> u32 {
        let missing = offset.wrapping_sub(self.effective(memory));
        match (memory.base, memory.index) {
            (Some(base), index) if self.is_free(base) && index != Some(base) => self.shift(base, missing),
            (_, Some(index)) if self.is_free(index) && memory.base == Some(index) => {
                let wanted = offset.wrapping_sub(memory.displacement);
                let value = match memory.scale {
                    0 => wanted >> 1 | (self.random.below(2) << 31),
                    scale => wanted.wrapping_mul(INVERSE[scale as usize]),
                };
                self.case.regs[index as usize] = value;
            }
            _ if memory.bytes == 4 || memory.bytes == 2 => {
                memory.displacement = memory.displacement.wrapping_add(missing);
            }
            (_, Some(index)) if self.is_free(index) => {
                let top = if memory.scale == 0 { 0 } else { self.random.below(8) << (32 - memory.scale) };
                self.shift(index, missing >> memory.scale | top);
            }
            _ => {}
        }
        self.effective(memory)
    }

    /// Adds to a register; for 16-bit addresses, to its low half.
    fn shift(&mut self, register: u8, missing: u32) {
        let value = &mut self.case.regs[register as usize];
        let sum = value.wrapping_add(missing);
        *value = if self.narrow { *value & 0xffff_0000 | sum & 0xffff } else { sum };
    }

    /// An offset in the segment register's segment for `size` bytes: mostly within the world's pages, else around their
    /// ends, around the segment's limit, or anywhere.
    pub fn aim(&mut self, segment: usize, size: u32, narrow: bool) -> u32 {
        let segments = self.segments;
        let chosen = &segments.all[self.held[segment]];
        let windows = chosen.windows(narrow);
        let bits = self.random.bits();
        let kind = bits & 63;
        let near = (bits >> 32) as u32 % (size + 3);
        if kind < 2 && !chosen.edges.is_empty() {
            let edge = self.random.pick(&chosen.edges);
            return edge.wrapping_add(2).wrapping_sub(near);
        }
        let list = if windows.writable.is_empty() || kind < 6 && !windows.readable.is_empty() {
            &windows.readable
        } else {
            &windows.writable
        };
        if list.is_empty() || kind == 63 {
            return values::dword(self.random);
        }
        let Window { first, last } = list[(bits >> 16 & 0xffff) as usize % list.len()];
        match kind {
            // around the ends
            60 => return last.wrapping_add(2).wrapping_sub(near),
            61 => return first.wrapping_add(1).wrapping_sub(near),
            // just within them, and across pages
            50..=53 => return last.saturating_sub(size - 1).max(first),
            54 => return first,
            55..=59 => {
                let base = chosen.base;
                let middle = (base.wrapping_add(first) | 0xfff).wrapping_sub(base);
                let offset = middle.wrapping_sub(near);
                if offset >= first && offset < last.saturating_sub(size) {
                    return offset;
                }
            }
            _ => {}
        }
        let room = (last - first).saturating_sub(size - 1);
        let at = values::up_to(room, (bits >> 32) as u32);
        let aligned = if size == 16 || size == 512 { bits >> 24 & 15 != 0 } else { bits >> 24 & 1 == 0 };
        if aligned {
            let linear = chosen.base.wrapping_add(first + at) & !(size.next_power_of_two().min(16) - 1);
            let offset = linear.wrapping_sub(chosen.base);
            if offset >= first && offset <= last {
                return offset;
            }
        }
        first + at
    }

    /// An offset for `size` bytes within pages that can be written, if there are any.
    pub fn inside(&mut self, segment: usize, size: u32, narrow: bool) -> Option<u32> {
        let segments = self.segments;
        let windows = &segments.all[self.held[segment]].windows(narrow).writable;
        for _ in 0..4 {
            let Some(window) = windows.get(self.random.below(windows.len().max(1) as u32) as usize) else {
                break;
            };
            let room = window.last - window.first;
            if room < size {
                continue;
            }
            return Some(window.first + self.random.below(room - size + 1));
        }
        None
    }

    /// Whether `size` bytes at an offset lie within pages that can be written.
    pub fn is_inside(&self, segment: usize, offset: u32, size: u32, narrow: bool) -> bool {
        let windows = &self.segments.all[self.held[segment]].windows(narrow).writable;
        windows.iter().any(|window| {
            offset >= window.first && offset <= window.last && window.last - offset >= size.saturating_sub(1)
        })
    }

    /// Gives the segment register a segment that addresses of the size at hand reach something in, most times.
    pub fn reach(&mut self, segment: usize) {
        use super::draft::CS;
        let windows = self.segments.all[self.held[segment]].windows(self.narrow);
        if segment == CS || !windows.writable.is_empty() || self.random.once_in(12) {
            return;
        }
        let segments = self.segments;
        let list = match (segment, self.narrow) {
            (SS, _) => &segments.stack,
            (_, true) => &segments.narrow_data,
            (_, false) => &segments.data,
        };
        for _ in 0..4 {
            let entry = self.random.pick(list);
            self.held[segment] = entry;
            if !segments.all[entry].windows(self.narrow).writable.is_empty() {
                return;
            }
        }
    }

    /// The linear address of an offset in a segment register's segment.
    pub fn linear(&self, segment: usize, offset: u32) -> u32 {
        self.segments.all[self.held[segment]].base.wrapping_add(offset)
    }

    /// Points the memory operand at something.
    pub fn point(&mut self, t: &Template) {
        if t.immediates[0] == Some(Immediate::Moffs) {
            let segment = self.prefixes.segment().unwrap_or(DS);
            self.reach(segment);
            let offset = self.aim(segment, t.size as u32, self.narrow);
            self.immediates[0] = offset;
            self.set_target(segment, if self.narrow { offset & 0xffff } else { offset });
        }
        let Rm::Memory(mut memory) = self.rm else { return };
        let on_stack = matches!(memory.base, Some(5)) || !self.narrow && memory.base == Some(4);
        let segment = self.prefixes.segment().unwrap_or(if on_stack { SS } else { DS });
        if segment == SS && self.settled >> 4 & 1 != 0 {
            // the stack is in place already
        } else {
            self.reach(segment);
        }
        let mut offset = self.aim(segment, t.size as u32, self.narrow);
        if t.class == Class::BitString {
            offset = offset.wrapping_sub(self.bit_offset(t));
        }
        let real = self.solve(&mut memory, offset);
        let real = if t.class == Class::BitString { real.wrapping_add(self.bit_offset(t)) } else { real };
        self.rm = Rm::Memory(memory);
        self.set_target(segment, if self.narrow { real & 0xffff } else { real });
    }

    fn set_target(&mut self, segment: usize, offset: u32) {
        self.target = Some(Target { segment, offset, linear: self.linear(segment, offset) });
    }

    /// Bytes from the operand's address to where a bit offset in a register lies (SDM 2A "BT").
    fn bit_offset(&mut self, t: &Template) -> u32 {
        let value = &mut self.case.regs[self.reg as usize];
        if self.settled >> self.reg & 1 == 0 {
            self.settled |= 1 << self.reg;
            let far = self.random.below(0x2_0000).wrapping_sub(0x1_0000);
            if self.random.once_in(2) {
                *value = far as i16 as u32;
            } else {
                *value = far;
            }
        }
        if t.operand16 { ((*value as i16 >> 4) * 2) as u32 } else { ((*value as i32 >> 5) * 4) as u32 }
    }

    /// Lays bytes over memory; not over pages that cannot be written, nor over the code.
    pub fn patch(&mut self, linear: u32, bytes: &[u8]) {
        if can_patch(linear, bytes.len() as u32) {
            self.case.memory.push((linear, bytes.to_vec()));
        }
    }

    /// Lays bytes over the memory operand.
    pub fn patch_target(&mut self, bytes: &[u8]) {
        if let Some(target) = self.target {
            self.patch(target.linear, bytes);
        }
    }

    /// Gives the r/m operand this value.
    pub fn set_rm(&mut self, width: u8, value: u32) {
        match self.rm {
            Rm::Register(register) => self.set_register(register, width, value),
            Rm::Memory(_) => self.patch_target(&value.to_le_bytes()[..width as usize]),
            Rm::None => {}
        }
    }

    /// Gives (the low part of) a register this value.
    pub fn set_register(&mut self, register: u8, width: u8, value: u32) {
        if width == 1 {
            let (slot, shift) = (&mut self.case.regs[(register & 3) as usize], (register & 4) * 2);
            *slot = *slot & !(0xff << shift) | (value & 0xff) << shift;
            return;
        }
        let mask = if width == 2 { 0xffff } else { u32::MAX };
        let slot = &mut self.case.regs[register as usize];
        *slot = *slot & !mask | value & mask;
    }

    /// The value of (the low part of) a register.
    pub fn register(&self, register: u8, width: u8) -> u32 {
        match width {
            1 => self.case.regs[(register & 3) as usize] >> ((register & 4) * 2) & 0xff,
            2 => self.case.regs[register as usize] & 0xffff,
            _ => self.case.regs[register as usize],
        }
    }
}
