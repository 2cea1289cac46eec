//! A case being made: one instruction, from its template to bytes and the state it finds.

use iced_x86::{Code, Mnemonic};
use pagewalk_x86::decode;

use super::prefixes::Prefixes;
use super::segments::{FLAT_CS, FLAT_DS, NULL, Segments};
use super::template::{Class, Field, ModRm, Template};
use super::values;
use crate::case::Case;
use crate::random::Random;
use crate::world::{CODE, PAGE};

pub(super) const ECX: usize = 1;
pub(super) const ESP: usize = 4;
pub(super) const EBP: usize = 5;
pub(super) const ESI: usize = 6;
pub(super) const EDI: usize = 7;
pub(super) const ES: usize = 0;
pub(super) const CS: usize = 1;
pub(super) const SS: usize = 2;
pub(super) const DS: usize = 3;

/// The memory form of an r/m operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Memory {
    pub base: Option<u8>,
    pub index: Option<u8>,
    pub scale: u8,
    pub displacement: u32,
    /// Bytes of the displacement in the code.
    pub bytes: u8,
    /// The mod and r/m fields.
    pub modrm: u8,
    pub sib: Option<u8>,
}

/// The r/m operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rm {
    None,
    Register(u8),
    Memory(Memory),
}

/// Where the memory operand is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Target {
    /// Its segment register.
    pub segment: usize,
    /// Its offset, as the instruction will compute it.
    pub offset: u32,
    /// Its linear address.
    pub linear: u32,
}

/// A case being made.
pub(super) struct Draft<'a> {
    pub random: &'a mut Random,
    pub segments: &'a Segments,
    pub case: Case,
    /// What each segment register holds, as an entry of [`Segments::all`].
    pub held: [usize; 6],
    /// Registers (by bit) that have the value they need.
    pub settled: u8,
    /// The address size is 16 bits.
    pub narrow: bool,
    pub rm: Rm,
    /// The reg field, or the register in the opcode.
    pub reg: u8,
    pub vvvv: u8,
    pub immediates: [u32; 2],
    pub target: Option<Target>,
    pub prefixes: Prefixes,
    /// What the memory operand shall hold.
    pub wanted: Option<u32>,
    /// Where a lead-in ends, the last of its bytes being a displacement to the end of the code.
    pub pad: Option<usize>,
    /// Index in the code of the instruction, of its immediates, and of its end.
    pub start: usize,
    pub immediate_at: usize,
    pub end: usize,
}

impl<'a> Draft<'a> {
    pub fn new(random: &'a mut Random, segments: &'a Segments) -> Draft<'a> {
        Draft {
            random,
            segments,
            case: Case::default(),
            held: [FLAT_DS, FLAT_CS, FLAT_DS, FLAT_DS, NULL, NULL],
            settled: 0,
            narrow: false,
            rm: Rm::None,
            reg: 0,
            vvvv: 0,
            immediates: [0; 2],
            target: None,
            prefixes: Prefixes::default(),
            wanted: None,
            pad: None,
            start: 0,
            immediate_at: 0,
            end: 0,
        }
    }

    /// Makes the case; `None` if the bytes turned out to be no instruction that is covered.
    pub fn single(mut self, t: &Template, is_covered: &[bool]) -> Option<Case> {
        self.choose_prefixes(t);
        self.choose_segments();
        self.choose_place(t);
        self.case.regs = values::registers(self.random);
        self.case.eflags = self.flags();
        self.choose_operands(t);
        if !self.uses_stack(t) && self.random.once_in(2) {
            self.point_stack(16, 16);
        }
        self.prepare(t);
        self.point(t);
        self.relate(t);
        self.lead_in(t);
        self.emit(t);
        if !self.is_meant(t, is_covered) {
            return None;
        }
        self.settle(t);
        if t.x87 || t.vector {
            self.case.fpu = Some(super::fpu::image(self.random));
        }
        Some(self.finish())
    }

    /// The selectors, where they can be with another RPL now and then. What starts with TF is entered natively through
    /// sigreturn(2), which gives each selector RPL 3.
    pub fn finish(mut self) -> Case {
        let traced = self.case.eflags & 0x100 != 0;
        for (n, &entry) in self.held.iter().enumerate() {
            let mut selector = self.segments.all[entry].selector;
            if n != CS && n != SS && !traced && self.random.once_in(16) {
                selector = selector & !3 | self.random.below(4) as u16;
            }
            self.case.selectors[n] = selector;
        }
        self.case
    }

    /// EFLAGS: the status flags and DF any way, the others now and then.
    pub fn flags(&mut self) -> u32 {
        const STATUS: u32 = 0x8d5;
        let bits = self.random.bits();
        let mut flags = bits as u32 & STATUS | 0x202;
        for (shift, width, flag) in [(32, 2, 0x400), (34, 6, 0x100), (40, 5, 0x4_0000), (45, 5, 0x4000)] {
            if bits >> shift & ((1 << width) - 1) == 0 {
                flags |= flag;
            }
        }
        flags | ((bits >> 50 & 1) as u32) << 21
    }

    fn choose_segments(&mut self) {
        for n in [ES, DS, 4, 5] {
            let bits = self.random.below(16);
            self.held[n] = match bits {
                0..=5 => FLAT_DS,
                6 => FLAT_CS,
                7 if self.random.once_in(2) => NULL,
                _ if self.narrow => self.random.pick(&self.segments.narrow_data),
                _ => self.random.pick(&self.segments.data),
            };
        }
        self.held[SS] = if self.random.once_in(2) { FLAT_DS } else { self.random.pick(&self.segments.stack) };
    }

    /// Chooses the code segment and where in it the case begins.
    fn choose_place(&mut self, t: &Template) {
        let near = matches!(t.class, Class::Relative | Class::NearIndirect | Class::NearReturn);
        let low = !t.big || near && t.operand16 && !self.random.once_in(10);
        // AMD's processors know no ModRM after UD0 and UD1, so that neither its fetch nor its length count
        let is_alone = matches!(t.mnemonic, Mnemonic::Ud0 | Mnemonic::Ud1);
        self.place_code(t.big, low, if is_alone { 100 } else { 96 });
    }

    /// The same, for code of this size and so many bytes, `low` where offsets of 16 bits must do.
    pub fn place_code(&mut self, big: bool, low: bool, bytes: u32) {
        let segments = self.segments;
        let list = if low { &segments.low_code } else { &segments.code };
        let entry = if big && !low && self.random.once_in(2) {
            FLAT_CS
        } else {
            self.random.pick(&list[!big as usize])
        };
        self.held[CS] = entry;
        let segment = &segments.all[entry];
        let window = self.random.pick(&segment.windows(low).code);
        let room = window.last - window.first + 1;
        let inside = window.first + self.random.below(room.saturating_sub(bytes).max(1));
        let offset = match self.random.below(16) {
            0 if bytes < 100 => {
                let crossing =
                    (CODE + PAGE).wrapping_sub(segment.base).wrapping_sub(1 + self.random.below(16));
                let fits = crossing >= window.first && crossing <= window.last;
                if fits { crossing } else { inside }
            }
            1 if bytes < 100 && self.random.once_in(2) => window.last - self.random.below(room.min(32)),
            _ => inside,
        };
        self.case.at = segment.base.wrapping_add(offset);
    }

    /// The offset in the code segment of byte `index` of the code.
    pub fn ip(&self, index: usize) -> u32 {
        let base = self.segments.all[self.held[CS]].base;
        self.case.at.wrapping_add(index as u32).wrapping_sub(base)
    }

    fn choose_operands(&mut self, t: &Template) {
        self.reg = match t.modrm {
            ModRm::Operand(Field::Digit(digit)) => digit,
            ModRm::Operand(Field::Segment) => {
                let writes = t.class == Class::LoadSegment;
                if self.random.once_in(if writes { 12 } else { 32 }) {
                    self.random.below(8) as u8
                } else if writes {
                    self.random.pick(&[0, 2, 3, 4, 5])
                } else {
                    self.random.below(6) as u8
                }
            }
            _ => self.random.below(8) as u8,
        };
        self.vvvv = self.random.below(8) as u8;
        self.rm = match t.modrm {
            ModRm::Operand(_) if t.memory => Rm::Memory(self.memory_form()),
            ModRm::Operand(_) => Rm::Register(self.random.below(8) as u8),
            _ => Rm::None,
        };
        for n in 0..2 {
            self.immediates[n] = if t.immediates[n].is_some() { values::dword(self.random) } else { 0 };
        }
    }

    /// Whether the bytes are what was meant, or at least something else that is covered; and where they were made
    /// wrong on purpose, whether they are wrong.
    fn is_meant(&self, t: &Template, is_covered: &[bool]) -> bool {
        let bytes = &self.case.code[self.start..self.end];
        let bitness = if t.big { 32 } else { 16 };
        let (instruction, _) = decode::instruction(bytes, bitness, &crate::MODEL);
        let code = instruction.code();
        if code == Code::INVALID {
            return bytes.len() > 15 || self.prefixes.illegal || self.is_bad_segment(t);
        }
        instruction.len() == bytes.len() && is_covered[code as usize] && bytes.len() <= 15
    }

    fn is_bad_segment(&self, t: &Template) -> bool {
        let loads = t.class == Class::LoadSegment;
        t.modrm == ModRm::Operand(Field::Segment) && (self.reg > 5 || loads && self.reg == 1)
    }
}
