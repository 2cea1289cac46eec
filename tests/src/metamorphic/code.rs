//! Programs: pieces of a few instructions each, laid out one after the other and across page ends, with branches between
//! them.

use pagewalk_x86::random::Random;

use super::features::{Features, stream};
use super::layout::*;

/// What kind of processor state a program is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// Protected mode, code segments of 32 bits at base 0.
    Flat,
    /// The same, but every segment begins elsewhere: offsets of data are those of [`DATA`].
    Isolated,
    /// Protected mode, 16-bit code at [`CODE`].
    Protected16,
    /// Real or virtual-8086 mode, CS at [`CODE`].
    Real,
}

/// A few instructions.
#[derive(Clone, Debug, Default)]
pub struct Piece {
    /// Their bytes.
    pub bytes: Vec<u8>,
    /// A displacement to be filled in: its offset and size in `bytes`, and the piece that it leads to.
    pub branch: Option<(usize, usize, usize)>,
    /// The next piece lies elsewhere: the branch leads there.
    pub moves: bool,
}

/// Where pieces came to lie.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Linear addresses and bytes.
    pub pieces: Vec<(u32, Vec<u8>)>,
}

/// Makes pieces.
pub struct Writer {
    pub style: Style,
    pub features: Features,
    /// How many pieces the program has.
    pub count: usize,
    /// Which ring it starts in, and at which linear address.
    pub ring: u32,
    pub start: u32,
}

const NOP: u8 = 0x90;

impl Writer {
    pub fn wide(&self) -> bool {
        matches!(self.style, Style::Flat | Style::Isolated)
    }

    pub fn bitness(&self) -> u32 {
        if self.wide() { 32 } else { 16 }
    }

    /// An instruction with an operand size of 32 bits.
    pub fn o32(&self, bytes: &[u8]) -> Vec<u8> {
        let prefix: &[u8] = if self.wide() { &[] } else { &[0x66] };
        [prefix, bytes].concat()
    }

    /// An instruction with address and operand sizes of 32 bits.
    pub fn a32(&self, bytes: &[u8]) -> Vec<u8> {
        let prefix: &[u8] = if self.wide() { &[] } else { &[0x66, 0x67] };
        [prefix, bytes].concat()
    }

    /// MOV r32, imm32.
    pub fn load(&self, register: u8, value: u32) -> Vec<u8> {
        let [a, b, c, d] = value.to_le_bytes();
        self.o32(&[0xb8 + register, a, b, c, d])
    }

    /// A linear address that mostly is good for something.
    pub fn somewhere(&self, random: &mut Random) -> u32 {
        let near = |random: &mut Random| match random.below(4) {
            0 => 0x1000 * random.below(8) + 0xff8 + random.below(16),
            _ => random.below(0x400),
        };
        match random.below(24) {
            0..10 => DATA + near(random),
            10 | 11 => STACKS + random.below(0x4000),
            12 | 13 => CODE + random.below(CODE_BYTES),
            14 => DEVICE + random.below(0x100),
            15 => WINDOW + near(random) % WINDOW_BYTES,
            16 | 17 => ALIASES + random.below(ALIASES_END - ALIASES),
            18 => random.pick(&LARGE).wrapping_add(DATA + near(random)),
            19 => SECOND + random.below(0x40_0000),
            20 => random.below(RAM as u32),
            21 if random.flag() => random.pick(&DIRECTORIES) + random.below(0x8000),
            22 if random.once_in(4) => random.dword(),
            21 | 22 => DATA + near(random),
            _ => random.pick(&[0, 0xffff_fffe, 0xffff, 0x1_0000, 0x10_0000, 0x7fff_ffff]),
        }
    }

    /// An offset for an operand, in whatever segment it may be.
    pub fn offset(&self, random: &mut Random) -> u32 {
        let linear = self.somewhere(random);
        if self.style == Style::Flat { linear } else { linear & 0xffff }
    }

    /// How a linear address is reached: a segment prefix, and the offset.
    pub fn reach(&self, linear: u32) -> (u8, u32) {
        if self.style != Style::Real {
            return (0x64, linear);
        }
        match linear >> 16 {
            2 => (0x26, linear - CODE),
            3 => (0x3e, linear - DATA),
            7 => (0x65, linear - WINDOW),
            _ => (0x64, linear & 0xffff),
        }
    }

    /// A selector that mostly is good for something.
    pub fn selector(&self, random: &mut Random) -> u16 {
        if self.style == Style::Real {
            return match random.below(4) {
                0 => random.dword() as u16 & 0x7fff,
                _ => random.pick(&[0, 0x2000, 0x3000, 0x3000, 0x7000, 0x2ff0, 0x1f00, 0xffff]),
            };
        }
        let ring = random.below(4);
        match random.below(16) {
            0..4 => data32(self.ring),
            4 => data16(self.ring),
            5 => data32(ring),
            6 => code32(ring),
            7 => random.pick(&TSS_SELECTORS),
            8 => random.pick(&TASK_GATES),
            9 => CALL_GATES + 8 * random.below(CALL_GATE_COUNT as u32) as u16 + ring as u16,
            10 => LDT_SELECTOR,
            11 => ring as u16,
            12 => (random.below(16) << 3) as u16 | 4 | ring as u16,
            13 => random.dword() as u16,
            _ => ODD + 8 * random.below(ODDS as u32) as u16 + ring as u16,
        }
    }

    /// A selector for code, and the offset of the linear address `target` in its segment.
    pub fn far_target(&self, random: &mut Random, target: u32) -> (u16, u32) {
        if self.style == Style::Real {
            return match random.below(4) {
                0 => (0x1f00, target.wrapping_sub(0x1_f000) & 0xffff),
                1 => (self.selector(random), target & 0xffff),
                _ => (0x2000, target.wrapping_sub(CODE) & 0xffff),
            };
        }
        let ring = if random.once_in(3) { random.below(4) } else { self.ring };
        match random.below(8) {
            0 | 1 => (code16(ring), target.wrapping_sub(CODE) & 0xffff),
            2 | 3 => (self.selector(random), target),
            _ => (code32(ring), target),
        }
    }

    /// The program of a seed: `count` pieces, of which those of `dropped` become NOPs.
    pub fn program(&self, seed: u64, dropped: &[bool]) -> Program {
        let start = self.start;
        let pieces: Vec<Piece> =
            (0..self.count).map(|n| self.piece(&mut stream(seed, 1000 + n as u64))).collect();
        let mut places = stream(seed, 999);
        let mut at = start;
        let mut starts = Vec::with_capacity(pieces.len() + 1);
        for piece in &pieces {
            starts.push(at);
            at += piece.bytes.len() as u32;
            if piece.moves {
                // near to a page's end
                at = CODE + 0x1000 * places.below(CODE_BYTES >> 12) + 0xfc0 + places.below(0x40);
            }
        }
        starts.push(at);
        let mut program = Program::default();
        for (n, piece) in pieces.into_iter().enumerate() {
            let Piece { mut bytes, branch, moves } = piece;
            if dropped.get(n).copied().unwrap_or(false) && !moves {
                bytes.fill(NOP);
            } else if let Some((offset, size, target)) = branch {
                let target = if moves { n + 1 } else { target };
                let next = starts[n] + (offset + size) as u32;
                let displacement = starts[target.min(self.count)].wrapping_sub(next);
                bytes[offset..offset + size].copy_from_slice(&displacement.to_le_bytes()[..size]);
            }
            program.pieces.push((starts[n], bytes));
        }
        // what comes behind the last piece leads back to the first
        let [a, b, c, d] = start.wrapping_sub(at + if self.wide() { 5 } else { 6 }).to_le_bytes();
        program.pieces.push((at, self.o32(&[0xe9, a, b, c, d])));
        program
    }

    /// A handler: something of its own, then the way back. `code` tells whether an error code was pushed.
    pub fn handler(&self, random: &mut Random, code: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..random.below(3) {
            bytes.extend(self.plain(random).bytes);
        }
        let slot = if self.wide() { 4 } else { 2 };
        if code {
            bytes.extend([0x83, 0xc4, slot]);
        }
        if random.flag() {
            bytes.extend(self.pointers(random).bytes);
        }
        // on past the instruction, more or less
        if !random.once_in(8) {
            let by = 1 + random.below(6) as u8;
            let address: &[u8] = if self.wide() { &[] } else { &[0x67] };
            bytes.extend_from_slice(address);
            bytes.extend([0x83, 0x04, 0x24, by]);
        }
        bytes.push(0xcf);
        bytes.truncate(SLOT as usize);
        bytes
    }

    /// The handler of last resort, in 32-bit code of ring 0: a new stack, and back to the program's beginning.
    pub fn recover(&self) -> Vec<u8> {
        let flat = Writer { style: Style::Flat, ..*self };
        let mut bytes = flat.load(0, data32(0) as u32);
        bytes.extend([0x8e, 0xd0]);
        bytes.extend(flat.load(4, STACKS + 0xf80));
        let mut push = |value: u32| {
            let [a, b, c, d] = value.to_le_bytes();
            bytes.extend([0x68, a, b, c, d]);
        };
        let top = STACKS + 0x3f00;
        match self.style {
            Style::Real => {
                for value in
                    [0x7000, 0, 0x3000, 0x2000, 0x3000, top - DATA, 0x2_0202, 0x2000, self.start - CODE]
                {
                    push(value);
                }
            }
            Style::Flat | Style::Isolated => {
                for value in [data32(self.ring) as u32, top, 0x202, code32(self.ring) as u32, self.start] {
                    push(value);
                }
            }
            Style::Protected16 => {
                let selectors = [data16(self.ring) as u32, code16(self.ring) as u32];
                for value in [selectors[0], top - DATA, 0x202, selectors[1], self.start - CODE] {
                    push(value);
                }
            }
        }
        bytes.push(0xcf);
        bytes
    }

    /// The same for real mode.
    pub fn recover_real(&self) -> Vec<u8> {
        let [a, b] = ((self.start - CODE) as u16).to_le_bytes();
        vec![0xb8, 0x00, 0x30, 0x8e, 0xd0, 0x66, 0xbc, 0x80, 0x8f, 0, 0, 0xfb, 0xea, a, b, 0x00, 0x20]
    }
}
