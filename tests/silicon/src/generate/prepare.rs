//! What instructions find: registers that make something of them, memory operands that stand in a relation to registers.

use iced_x86::Mnemonic;

use super::draft::{DS, Draft, EBP, ECX, EDI, ESP, Rm, SS};
use super::segments::NULL;
use super::template::{Class, Template};
use super::values;
use crate::world::{FLAT_CODE, FLAT_DATA};

impl Draft<'_> {
    /// Whether ESP must point at a stack.
    pub fn uses_stack(&self, t: &Template) -> bool {
        use Class::*;
        match t.class {
            Push | Pop | PopFlags | PopSegment | Enter | NearReturn | FarReturn | InterruptReturn => true,
            Relative | NearIndirect | FarDirect | FarIndirect => t.mnemonic == Mnemonic::Call,
            _ => false,
        }
    }

    /// Registers, before the memory operand is solved for.
    pub fn prepare(&mut self, t: &Template) {
        if self.uses_stack(t) {
            match t.class {
                Class::Push => self.point_stack(40, 8),
                Class::Enter => self.enter(),
                _ => self.point_stack(16, 40),
            }
        }
        match t.class {
            Class::Shift => self.shift_count(t),
            Class::Divide => self.dividend(t),
            Class::Decimal => self.digits(t),
            Class::Leave => self.frame(0, 16),
            Class::String => self.string(t),
            Class::Xlat => {
                let segment = self.prefixes.segment().unwrap_or(DS);
                self.reach(segment);
                let base = self.aim(segment, 1, self.narrow).wrapping_sub(self.case.regs[0] & 0xff);
                let high = if self.narrow { self.case.regs[3] & 0xffff_0000 } else { 0 };
                self.case.regs[3] = if self.narrow { high | base & 0xffff } else { base };
            }
            Class::MaskMove => {
                let segment = self.prefixes.segment().unwrap_or(DS);
                self.reach(segment);
                let size = if t.mnemonic == Mnemonic::Maskmovq { 8 } else { 16 };
                let at = self.aim(segment, size, self.narrow);
                self.set_index(EDI, at);
            }
            Class::TextCompare => {
                for register in [0, 2] {
                    if !self.random.once_in(4) {
                        self.case.regs[register] = self.random.below(40).wrapping_sub(20);
                        self.settled |= 1 << register;
                    }
                }
            }
            Class::Interrupt => {
                let vector = self.random.below(256);
                // INT 80h enters Linux
                self.immediates[0] =
                    if vector == 0x80 || self.random.once_in(3) { 3 + vector % 2 } else { vector };
            }
            Class::InterruptReturn => self.case.eflags &= !0x4000,
            Class::NearReturn | Class::FarReturn if self.random.once_in(4) => self.immediates[0] &= 0x3e,
            Class::NearReturn | Class::FarReturn => self.immediates[0] &= 7,
            // its stack would be the code it jumps to
            Class::NearIndirect if self.rm == Rm::Register(ESP as u8) => self.rm = Rm::Register(0),
            _ => {}
        }
    }

    /// The memory operand and registers beside the address, once the operand is in place.
    pub fn relate(&mut self, t: &Template) {
        match t.class {
            Class::Divide => {
                if let Some(divisor) = self.wanted {
                    self.patch_target(&divisor.to_le_bytes()[..t.width as usize]);
                }
            }
            Class::CompareExchange if self.random.once_in(2) => {
                let accumulator = self.register(0, t.width);
                self.set_rm(t.width, accumulator);
            }
            Class::CompareExchange8 if self.random.once_in(2) => {
                let [eax, _, edx, ..] = self.case.regs;
                self.patch_target(&((edx as u64) << 32 | eax as u64).to_le_bytes());
            }
            Class::Bound => self.bounds(t),
            Class::LoadSegment | Class::Query => self.load_selector(t),
            Class::LoadFarPointer => {
                let offset = values::dword(self.random).to_le_bytes();
                let selector = self.any_selector(t.mnemonic == Mnemonic::Lss).to_le_bytes();
                let size = t.size as usize - 2;
                let mut bytes = [0; 6];
                bytes[..size].copy_from_slice(&offset[..size]);
                bytes[size..size + 2].copy_from_slice(&selector);
                self.patch_target(&bytes[..size + 2]);
            }
            Class::PopSegment => {
                let into_stack = t.opcode[0] == 0x17;
                let selector = self.any_selector(into_stack) as u32;
                let high = values::dword(self.random) << 16;
                self.patch_stack(0, &(selector | high).to_le_bytes());
            }
            Class::PopFlags => {
                let image = self.flags_image().to_le_bytes();
                self.patch_stack(0, &image[..if t.operand16 { 2 } else { 4 }]);
            }
            Class::X87 | Class::Vector | Class::TextCompare if t.memory => {
                let mut bytes = [0; 512];
                super::fpu::operand(self.random, &mut bytes[..t.size as usize]);
                if t.mnemonic == Mnemonic::Ldmxcsr && !self.random.once_in(8) {
                    bytes[2..4].fill(0);
                }
                if self.target.is_some() && !self.random.once_in(8) {
                    self.patch_target(&bytes[..t.size as usize]);
                }
            }
            _ if t.memory && t.size <= 8 && self.random.once_in(3) => {
                let related = self.case.regs[self.random.below(8) as usize];
                let low = match self.random.below(4) {
                    0 => related,
                    1 => related.wrapping_neg(),
                    _ => values::dword(self.random),
                };
                let value = (values::dword(self.random) as u64) << 32 | low as u64;
                self.patch_target(&value.to_le_bytes()[..t.size as usize]);
            }
            _ => {}
        }
    }

    fn shift_count(&mut self, t: &Template) {
        let any = self.random.bits() as u32;
        let count = if any & 0x100 == 0 { any & 0xff } else { any & 0x1f };
        if t.immediates[0].is_some() {
            self.immediates[0] = count;
        } else {
            self.case.regs[ECX] = self.case.regs[ECX] & !0xff | count;
            let source = self.vvvv as usize;
            if t.vex.is_some() && self.random.once_in(2) {
                self.case.regs[source] = self.case.regs[source] & !0xffff | any & 0x3f3f;
            }
        }
    }

    /// A dividend and a divisor with a quotient about the largest that there can be, or not.
    fn dividend(&mut self, t: &Template) {
        if self.random.once_in(3) {
            return;
        }
        let bits = t.width as u32 * 8;
        let ones = (1u64 << bits) - 1;
        let divisor = values::dword(self.random) as u64 & ones;
        let near = self.random.below(5) as u64;
        let dividend = if t.mnemonic == Mnemonic::Div {
            let quotient = match self.random.below(4) {
                0 => values::dword(self.random) as u64 & ones,
                _ => ones.wrapping_add(2).wrapping_sub(near),
            };
            quotient.wrapping_mul(divisor).wrapping_add(values::dword(self.random) as u64 % divisor.max(1))
        } else {
            let sign = 64 - bits;
            let divisor = (divisor << sign) as i64 >> sign;
            let most = 1i64 << (bits - 1);
            let quotient = match self.random.below(4) {
                0 => ((values::dword(self.random) as u64) << sign) as i64 >> sign,
                1 | 2 => most + 1 - near as i64,
                _ => near as i64 - 3 - most,
            };
            let rest = values::dword(self.random) as i64 % divisor.unsigned_abs().max(1) as i64;
            let product = quotient.wrapping_mul(divisor);
            product.wrapping_add(if product < 0 { -rest } else { rest }) as u64
        };
        match t.width {
            1 => self.set_register(0, 2, dividend as u32),
            width => {
                self.set_register(0, width, dividend as u32);
                self.set_register(2, width, (dividend >> bits) as u32);
            }
        }
        match self.rm {
            Rm::Register(n) if t.width == 1 && n & 3 == 0 || t.width > 1 && (n == 0 || n == 2) => {}
            Rm::Register(n) => self.set_register(n, t.width, divisor as u32),
            _ => self.wanted = Some(divisor as u32),
        }
    }

    fn digits(&mut self, t: &Template) {
        let bits = self.random.bits() as u32;
        if bits & 3 != 0 {
            let digits = ((bits >> 8 & 0xff) % 10) | (((bits >> 16 & 0xff) % 10) << 4);
            self.case.regs[0] = self.case.regs[0] & !0xff | digits;
        }
        if t.immediates[0].is_some() {
            self.immediates[0] = match bits >> 24 & 31 {
                0 => 0,
                1..=15 => 10,
                _ => self.immediates[0],
            };
        }
    }

    fn bounds(&mut self, t: &Template) {
        let value = self.register(self.reg, t.width);
        let around = self.random.bits();
        let (mut low, mut high) =
            (value.wrapping_sub(around as u32 & 3), value.wrapping_add((around >> 2) as u32 & 3));
        if around >> 8 & 7 == 0 {
            low = low.wrapping_add(2);
        }
        if around >> 11 & 7 == 0 {
            high = high.wrapping_sub(2);
        }
        let size = t.width as usize;
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&low.to_le_bytes()[..size]);
        bytes[size..2 * size].copy_from_slice(&high.to_le_bytes()[..size]);
        self.patch_target(&bytes[..2 * size]);
    }

    fn load_selector(&mut self, t: &Template) {
        let into_stack = t.class == Class::LoadSegment && self.reg == 2;
        let selector = self.any_selector(into_stack) as u32;
        let high = values::dword(self.random) & 0xffff_0000;
        match self.rm {
            Rm::Register(register) => self.set_register(register, 4, selector | high),
            _ => self.patch_target(&(selector | high).to_le_bytes()[..2]),
        }
        if t.mnemonic == Mnemonic::Arpl && self.random.once_in(2) {
            let other = selector & !3 | self.random.below(4);
            self.set_register(self.reg, 2, other);
        }
    }

    /// A selector of any sort; of those that are null or not in the table, a few. Of the GDT, none but the flat ones:
    /// the host has others there.
    pub fn any_selector(&mut self, stack: bool) -> u16 {
        let bits = self.random.bits();
        let rpl = if bits & 7 == 0 { (bits >> 3 & 3) as u16 } else { 3 };
        let segments = self.segments;
        let entry = match bits >> 8 & 31 {
            0 => NULL,
            1 => return FLAT_CODE & !3 | rpl,
            2..=4 => return FLAT_DATA & !3 | rpl,
            5 => return ((bits >> 32) as u16 | 0x400) & !3 | 4 | rpl,
            6 => return ((segments.all.len() as u16 - 3) << 3) | 4 | rpl,
            7..=20 if stack => self.random.pick(&segments.stack),
            7..=14 => self.random.pick(&segments.data),
            _ => self.random.below(segments.all.len() as u32) as usize,
        };
        let selector = segments.all[entry].selector;
        if entry == NULL { (bits >> 3 & 3) as u16 } else { selector & !3 | rpl }
    }

    /// A flags image for POPF and IRET: every bit any way, but TF seldom.
    pub fn flags_image(&mut self) -> u32 {
        let bits = self.random.bits();
        let image = if bits >> 32 & 1 == 0 { bits as u32 } else { bits as u32 & 0x0020_0ed5 };
        if bits >> 33 & 31 == 0 { image } else { image & !0x100 }
    }

    /// The offset that SP or ESP (or another register, as a stack address) names.
    fn stack_offset(&self, register: usize) -> u32 {
        let mask = if self.segments.all[self.held[SS]].big { u32::MAX } else { 0xffff };
        self.case.regs[register] & mask
    }

    /// Points ESP at a stack with so many bytes below and above it, most times.
    pub fn point_stack(&mut self, below: u32, above: u32) {
        self.point_at_stack(ESP, below, above);
    }

    /// Points EBP at a stack.
    fn frame(&mut self, below: u32, above: u32) {
        self.point_at_stack(EBP, below, above);
    }

    fn point_at_stack(&mut self, register: usize, below: u32, above: u32) {
        let segments = self.segments;
        let stack = &segments.all[self.held[SS]];
        let windows = &stack.windows(!stack.big).writable;
        let bits = self.random.bits();
        let kind = bits & 63;
        let offset = if windows.is_empty() || kind == 0 {
            values::dword(self.random)
        } else if kind == 1 {
            // where the pointer wraps
            (bits >> 16 & 15) as u32
        } else {
            let window = windows[(bits >> 8 & 0xff) as usize % windows.len()];
            let near = (bits >> 16 & 31) as u32;
            match kind {
                2..=4 => window.first.wrapping_add(near),
                5..=7 => window.last.wrapping_add(1).wrapping_sub(near),
                _ => {
                    let room = (window.last - window.first).saturating_sub(below.saturating_add(above));
                    let at = values::up_to(room, (bits >> 32) as u32);
                    let offset = window.first.wrapping_add(at).wrapping_add(below);
                    if bits >> 24 & 3 == 0 { offset } else { offset.wrapping_add(stack.base) & !3 }
                }
            }
        };
        let aligned = kind > 7 && bits >> 24 & 3 != 0;
        let offset = if aligned { offset.wrapping_sub(stack.base) } else { offset };
        let high = if stack.big { 0 } else { self.case.regs[register] & 0xffff_0000 };
        self.case.regs[register] = if stack.big { offset } else { high | offset & 0xffff };
        self.settled |= 1 << register;
    }

    /// Lays bytes over the stack, `above` bytes above its top.
    pub fn patch_stack(&mut self, above: u32, bytes: &[u8]) {
        let offset = self.stack_offset(ESP).wrapping_add(above);
        let linear = self.linear(SS, offset);
        self.patch(linear, bytes);
    }

    fn enter(&mut self) {
        let bits = self.random.bits();
        self.immediates[1] = if bits & 3 == 0 { (bits >> 8) as u32 } else { (bits >> 8 & 3) as u32 };
        let size = match bits >> 2 & 7 {
            0 => (bits >> 16) as u32 & 0xffff,
            1 => (bits >> 16) as u32 & 0xfff,
            _ => (bits >> 16) as u32 & 0x7e,
        };
        self.immediates[0] = size;
        self.point_stack(0x200, 8);
        self.frame(0x80, 8);
    }
}
