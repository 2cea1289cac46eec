//! From a draft to bytes.

use super::draft::{Draft, Rm};
use super::template::{Field, Immediate, ModRm, Template};

/// The bytes of an instruction behind its prefixes.
struct Body {
    bytes: [u8; 24],
    count: usize,
}

impl Body {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes[self.count..self.count + bytes.len()].copy_from_slice(bytes);
        self.count += bytes.len();
    }
}

impl Draft<'_> {
    /// Appends the instruction to the code.
    pub fn emit(&mut self, t: &Template) {
        let mut body = Body { bytes: [0; 24], count: 0 };
        if let Some(vex) = t.vex {
            let w = if vex.any_w { self.random.once_in(4) } else { vex.w };
            let vvvv = if vex.uses_vvvv { !self.vvvv & 7 | 8 } else { 15 };
            // in code of 16 and 32 bits, R and X are 1 and B is not looked at
            let second = (w as u8) << 7 | vvvv << 3 | vex.l << 2 | vex.pp;
            body.add(&[0xc4, 0xe0 | vex.map, second]);
        }
        body.add(t.opcode());
        match t.modrm {
            ModRm::None => {}
            ModRm::InOpcode => body.bytes[body.count - 1] += self.reg,
            ModRm::Operand(_) => self.emit_modrm(t, &mut body),
        }
        let immediates = body.count;
        for (immediate, value) in t.immediates.iter().zip(self.immediates) {
            let bytes = value.to_le_bytes();
            match immediate {
                None => {}
                Some(Immediate::Byte) => body.add(&bytes[..1]),
                Some(Immediate::Word) => body.add(&bytes[..2]),
                Some(Immediate::Dword) => body.add(&bytes),
                Some(Immediate::Displacement(size)) => body.add(&bytes[..*size as usize]),
                Some(Immediate::Far(size)) => {
                    body.add(&bytes[..*size as usize]);
                    body.add(&[0; 2]);
                }
                Some(Immediate::Moffs) => body.add(&bytes[..if self.narrow { 2 } else { 4 }]),
            }
        }
        self.start = self.case.code.len();
        self.emit_prefixes(body.count);
        self.immediate_at = self.case.code.len() + immediates;
        self.case.code.extend_from_slice(&body.bytes[..body.count]);
        self.end = self.case.code.len();
    }

    fn emit_modrm(&self, t: &Template, body: &mut Body) {
        let reg = match t.modrm {
            ModRm::Operand(Field::Digit(digit)) => digit,
            _ => self.reg,
        };
        match self.rm {
            Rm::None => {}
            Rm::Register(rm) => body.add(&[0xc0 | reg << 3 | rm]),
            Rm::Memory(memory) => {
                body.add(&[memory.modrm | reg << 3]);
                if let Some(sib) = memory.sib {
                    body.add(&[sib]);
                }
                body.add(&memory.displacement.to_le_bytes()[..memory.bytes as usize]);
            }
        }
    }

    /// Overwrites `size` bytes of the code, as far as they are there: its pages' end may have cut it off.
    pub fn set_code(&mut self, at: usize, size: usize, value: u32) {
        for (byte, new) in self.case.code.iter_mut().skip(at).take(size).zip(value.to_le_bytes()) {
            *byte = new;
        }
    }
}
