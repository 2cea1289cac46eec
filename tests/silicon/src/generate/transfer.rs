//! Control transfers: they mostly end behind the code, so that a case needs no fault to end.

use iced_x86::Mnemonic;

use super::draft::{CS, Draft, ECX};
use super::segments::{FLAT_CS, FLAT_DS, NULL};
use super::template::{Class, Immediate, Template};
use super::values;
use crate::world::{CODE, PAGE};

/// One-byte instructions that leave a trace of having run: INC and DEC of each register but ESP, CMC, CLC, STC, CBW, NOP.
const FILLERS: [u8; 19] = [
    0x40, 0x41, 0x42, 0x43, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x4b, 0x4d, 0x4e, 0x4f, 0xf5, 0xf8, 0xf9,
    0x98, 0x90,
];

impl Draft<'_> {
    fn fill(&mut self, most: u32) {
        for _ in 0..self.random.below(most + 1) {
            let filler = self.random.pick(&FILLERS);
            self.case.code.push(filler);
        }
    }

    /// Code before the instruction: for displacements, now and then somewhere to go back to.
    pub fn lead_in(&mut self, t: &Template) {
        if t.class != Class::Relative || !self.random.once_in(5) {
            return;
        }
        self.case.code.extend([0xeb, 0]);
        self.fill(3);
        self.case.code.extend([0xeb, 0]);
        self.case.code[1] = self.case.code.len() as u8 - 2;
        self.pad = Some(self.case.code.len());
    }

    /// What follows the instruction, and where it goes.
    pub fn settle(&mut self, t: &Template) {
        match t.class {
            Class::Relative => self.relative(t),
            Class::NearIndirect => {
                let target = self.near_target();
                self.set_rm(if t.operand16 { 2 } else { 4 }, target);
            }
            Class::NearReturn => {
                let target = self.near_target().to_le_bytes();
                self.patch_stack(0, &target[..if t.operand16 { 2 } else { 4 }]);
            }
            Class::FarDirect => {
                let (selector, offset) = self.far_target(t.operand16, false);
                let size = if t.operand16 { 2 } else { 4 };
                self.set_code(self.immediate_at, size, offset);
                self.set_code(self.immediate_at + size, 2, selector as u32);
            }
            Class::FarIndirect => {
                let (selector, offset) = self.far_target(t.operand16, false);
                let size = if t.operand16 { 2 } else { 4 };
                let mut bytes = [0; 6];
                bytes[..size].copy_from_slice(&offset.to_le_bytes()[..size]);
                bytes[size..size + 2].copy_from_slice(&selector.to_le_bytes());
                self.patch_target(&bytes[..size + 2]);
            }
            Class::FarReturn | Class::InterruptReturn => {
                let (selector, offset) = self.far_target(t.operand16, true);
                let flags = self.flags_image();
                let junk = values::dword(self.random) << 16;
                let cells = [offset, selector as u32 | junk, flags];
                let size = if t.operand16 { 2 } else { 4 };
                let count = if t.class == Class::FarReturn { 2 } else { 3 };
                let mut bytes = [0; 12];
                for (n, cell) in cells.iter().enumerate() {
                    bytes[n * size..(n + 1) * size].copy_from_slice(&cell.to_le_bytes()[..size]);
                }
                self.patch_stack(0, &bytes[..count * size]);
            }
            // a trap that follows its next instruction shall come within the code
            Class::PopFlags => self.case.code.push(0x90),
            _ => {}
        }
        if let Some(pad) = self.pad {
            let distance = self.case.code.len() - pad;
            self.case.code[pad - 1] = distance as u8;
        }
    }

    fn relative(&mut self, t: &Template) {
        let Some(Immediate::Displacement(size)) = t.immediates[0] else { return };
        self.fill(3);
        let (end, all) = (self.end as u32, self.case.code.len() as u32);
        let kind = self.random.below(32);
        let displacement = match (kind, self.pad) {
            (0..=15, Some(_)) => 2u32.wrapping_sub(end),
            // into bytes that are INT3
            (29, _) => 24 + self.random.below(100),
            (30, _) => self.random.below(80).wrapping_sub(128),
            (31, _) if size > 1 => values::dword(self.random) | 0x100,
            (24..=26, _) => self.random.below(all - end + 1),
            (20..=23, _) if matches!(t.mnemonic, Mnemonic::Loop | Mnemonic::Loope | Mnemonic::Loopne) => {
                let count = 1 + self.random.below(20);
                let ecx = &mut self.case.regs[ECX];
                *ecx = if t.address == Some(16) { *ecx & 0xffff_0000 | count } else { count };
                (self.start as u32).wrapping_sub(end)
            }
            _ => all - end,
        };
        self.set_code(self.immediate_at, size as usize, displacement);
    }

    /// An offset for an absolute near transfer.
    fn near_target(&mut self) -> u32 {
        self.fill(3);
        let (end, all) = (self.end, self.case.code.len());
        match self.random.below(24) {
            0 => values::dword(self.random),
            1 => self.ip(all).wrapping_add(24 + self.random.below(64)),
            2..=5 => {
                let within = self.random.below((all - end) as u32 + 1) as usize;
                self.ip(end + within)
            }
            _ => self.ip(all),
        }
    }

    /// Selector and offset for a far transfer; a return needs RPL 3. Where the other segment has the other code size,
    /// a jump back is appended for it.
    fn far_target(&mut self, offset16: bool, returns: bool) -> (u16, u32) {
        let segments = self.segments;
        let here = self.held[CS];
        let big = segments.all[here].big;
        let (same, other) = (!big as usize, big as usize);
        let lists = if offset16 { &segments.low_code } else { &segments.code };
        self.fill(2);
        let kind = self.random.below(20);
        let mut at = None;
        let entry = match kind {
            0..=4 if big && !offset16 => FLAT_CS,
            0..=10 => self.random.pick(&lists[same]),
            11..=14 => {
                let entry = self.random.pick(&lists[other]);
                if kind == 14 {
                    at = Some(CODE + self.random.below(2 * PAGE));
                } else {
                    at = Some(self.case.at.wrapping_add(self.case.code.len() as u32));
                    self.jump_back(segments.all[entry].big);
                }
                entry
            }
            15 => NULL,
            16 => FLAT_DS,
            17 => {
                let missing = ((segments.all.len() as u16 - 3 + self.random.below(4) as u16) << 3) | 7;
                return (missing, self.ip(self.case.code.len()));
            }
            18 => self.random.below(segments.all.len() as u32) as usize,
            _ => self.random.pick(&lists[same]),
        };
        let target = &segments.all[entry];
        let linear = at.unwrap_or(self.case.at.wrapping_add(self.case.code.len() as u32));
        let offset = match kind {
            19 => target.last.wrapping_sub(2).wrapping_add(self.random.below(5)),
            _ => linear.wrapping_sub(target.base),
        };
        let any_rpl = self.random.once_in(if returns { 12 } else { 4 });
        let rpl = if any_rpl { self.random.below(4) as u16 } else { 3 };
        let selector = if entry == NULL { rpl } else { target.selector & !3 | rpl };
        (selector, offset)
    }

    /// A far jump to the end of the code, in the code segment that is held now.
    fn jump_back(&mut self, big: bool) {
        let size = if big { 7 } else { 8 };
        let offset = self.ip(self.case.code.len() + size);
        let selector = self.segments.all[self.held[CS]].selector;
        if !big {
            self.case.code.push(0x66);
        }
        self.case.code.push(0xea);
        self.case.code.extend(offset.to_le_bytes());
        self.case.code.extend(selector.to_le_bytes());
    }
}
