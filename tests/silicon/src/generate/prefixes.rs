//! Prefixes: those that the operands need, and others that are legal, ignored, doubled or forbidden.

use iced_x86::Mnemonic;

use super::draft::Draft;
use super::template::{Class, Template};

const SEGMENTS: [u8; 6] = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65];

/// The prefixes of an instruction, in their order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prefixes {
    bytes: [u8; 16],
    count: usize,
    /// Lengthen the instruction to so many bytes, by repeating the prefix at this index.
    length: Option<(usize, usize)>,
    /// They make the instruction #UD.
    pub illegal: bool,
}

impl Prefixes {
    fn add(&mut self, byte: u8) {
        self.bytes[self.count] = byte;
        self.count += 1;
    }

    /// All of them.
    pub fn all(&self) -> &[u8] {
        &self.bytes[..self.count]
    }

    pub fn has(&self, byte: u8) -> bool {
        self.all().contains(&byte)
    }

    /// The segment register of the last override.
    pub fn segment(&self) -> Option<usize> {
        self.all().iter().rev().find_map(|byte| SEGMENTS.iter().position(|s| s == byte))
    }

    pub fn repeats(&self) -> bool {
        self.has(0xf2) || self.has(0xf3)
    }
}

impl Draft<'_> {
    /// Chooses the prefixes; with them the address size, and the segment override.
    pub fn choose_prefixes(&mut self, t: &Template) {
        let r = &mut *self.random;
        let mut all = Prefixes::default();
        let choice = r.bits();
        if choice & 31 >= 23 {
            let times = if choice & 31 == 31 { 1 + r.below(3) } else { 1 };
            extras(r, t, &mut all, times);
        }
        let touches = t.memory || matches!(t.class, Class::String | Class::Xlat);
        if touches && choice >> 8 & 7 == 0 {
            all.add(SEGMENTS[r.below(6) as usize]);
        }
        let narrow = match t.address {
            Some(bits) => bits == 16,
            None if touches => !t.big ^ (choice >> 12 & 3 == 0),
            None => !t.big,
        };
        if narrow == t.big {
            all.add(0x67);
        }
        if t.lockable && choice >> 16 & 3 == 0 {
            all.add(0xf0);
        }
        if t.operand_prefix {
            all.add(0x66);
        }
        if t.class == Class::String || t.repeatable {
            match choice >> 20 & 7 {
                0..=2 => all.add(0xf3),
                3 => all.add(0xf2),
                _ => {}
            }
        }
        if t.mandatory != 0 {
            all.add(t.mandatory);
        }
        if choice >> 24 & 7 == 0 {
            for n in (1..all.count).rev() {
                all.bytes.swap(n, r.below(n as u32 + 1) as usize);
            }
        }
        let is_alone = matches!(t.mnemonic, Mnemonic::Ud0 | Mnemonic::Ud1);
        if choice >> 32 & 63 == 0 && t.vex.is_none() && !is_alone {
            if all.count == 0 {
                let segment = SEGMENTS[r.below(6) as usize];
                all.add(if t.sized || r.once_in(2) { segment } else { 0x66 });
            }
            all.length = Some((13 + r.below(5) as usize, r.below(all.count as u32) as usize));
        }
        self.narrow = !t.big ^ all.has(0x67);
        self.prefixes = all;
    }

    /// Writes the prefixes of an instruction that has so many other bytes.
    pub fn emit_prefixes(&mut self, body: usize) {
        let Prefixes { count, length, .. } = self.prefixes;
        let code = &mut self.case.code;
        match length {
            Some((length, at)) if length > count + body => {
                let more = length - count - body;
                code.extend_from_slice(&self.prefixes.bytes[..at]);
                code.extend(std::iter::repeat_n(self.prefixes.bytes[at], more));
                code.extend_from_slice(&self.prefixes.bytes[at..count]);
            }
            _ => code.extend_from_slice(self.prefixes.all()),
        }
    }
}

fn extras(r: &mut crate::random::Random, t: &Template, all: &mut Prefixes, times: u32) {
    for _ in 0..times {
        match r.below(8) {
            0 if t.operand_prefix || !t.sized => all.add(0x66),
            1 if t.address.is_none() => all.add(0x67),
            2 | 3 => all.add(SEGMENTS[r.below(6) as usize]),
            4 if !is_conditional_loop(t) => all.add(0xf3),
            5 if !is_conditional_loop(t) => all.add(0xf2),
            6 if t.vex.is_some() => {
                all.add(r.pick(&[0x66, 0xf2, 0xf3, 0xf0]));
                all.illegal = true;
            }
            6 | 7 if !t.lockable && !takes_lock(t) && r.once_in(2) => {
                all.add(0xf0);
                all.illegal = true;
            }
            _ => all.add(0x3e),
        }
    }
}

/// What AMD's processors take LOCK with: moves to and from CR0, which are then to and from CR8. Hardware: VERW too (EPYC).
fn takes_lock(t: &Template) -> bool {
    use iced_x86::Code::{Mov_cr_r32, Mov_r32_cr};
    matches!(t.code, Mov_r32_cr | Mov_cr_r32) || t.mnemonic == Mnemonic::Verw
}

/// Hardware: an AMD EPYC takes F3 and F2 for the condition of LOOPE and LOOPNE, instead of the opcode's. The manual keeps
/// these prefixes for string instructions; others may do anything with them (SDM 2A "Instruction Prefixes").
fn is_conditional_loop(t: &Template) -> bool {
    matches!(t.mnemonic, Mnemonic::Loope | Mnemonic::Loopne)
}
