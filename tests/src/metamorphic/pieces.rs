//! The kinds of pieces that programs are made of.

use pagewalk_x86::random::Random;

use super::code::{Piece, Style, Writer};
use super::features::Feature;
use super::instruction::{self, Offsets};
use super::layout::*;

/// A kind of piece: what a case must have for it, how often it is drawn, and what writes it.
type Kind = (Option<Feature>, u32, fn(&Writer, &mut Random) -> Piece);

/// Random bytes behind the beginning of an instruction that chance would seldom make.
pub fn raw_bytes(random: &mut Random) -> Vec<u8> {
    const HINTS: [&[u8]; 32] = [
        &[0x0f],
        &[0x66],
        &[0x67],
        &[0xf3],
        &[0xf2],
        &[0xf0],
        &[0x2e],
        &[0x36],
        &[0x0f, 0x00],
        &[0x0f, 0x01],
        &[0x0f, 0x20],
        &[0x0f, 0x21],
        &[0x0f, 0x22],
        &[0x0f, 0x23],
        &[0x0f, 0x30],
        &[0x0f, 0x34],
        &[0x0f, 0x38],
        &[0x0f, 0xab],
        &[0x0f, 0xae],
        &[0x0f, 0xb1],
        &[0x0f, 0xba],
        &[0x0f, 0xc7],
        &[0xc4, 0xe2],
        &[0xc8],
        &[0xcd],
        &[0xcf],
        &[0x8e],
        &[0x9d],
        &[0xd2],
        &[0xf4],
        &[0xf7],
        &[0xff],
    ];
    let mut bytes = random.pick(&HINTS).to_vec();
    let more = 1 + random.below(12) as usize;
    bytes.extend((0..more).map(|_| random.dword() as u8));
    bytes
}

impl Writer {
    /// One piece.
    pub fn piece(&self, random: &mut Random) -> Piece {
        let kinds: [Kind; 13] = [
            (None, 30, Writer::plain),
            (None, 8, Writer::near),
            (None, 6, Writer::pointers),
            (Some(Feature::PageEnd), 3, Writer::moves),
            (Some(Feature::Raw), 3, Writer::raw),
            (Some(Feature::Strings), 5, Writer::strings),
            (Some(Feature::SelfModify), 6, Writer::self_modify),
            (Some(Feature::PageWrites), 8, Writer::page_writes),
            (Some(Feature::Far), 5, Writer::far),
            (Some(Feature::Selectors), 5, Writer::selectors),
            (Some(Feature::System), 4, Writer::system),
            (Some(Feature::Ports), 4, Writer::ports),
            (Some(Feature::Window), 2, Writer::window),
        ];
        let total: u32 = kinds.iter().map(|kind| kind.1).sum();
        let mut draw = random.below(total);
        let mut chosen = kinds[0];
        for kind in kinds {
            if draw < kind.1 {
                chosen = kind;
                break;
            }
            draw -= kind.1;
        }
        let (feature, _, write) = chosen;
        if feature.is_some_and(|feature| !self.features.has(feature)) {
            return self.plain(random);
        }
        write(self, random)
    }

    /// Any instruction that goes on to the next.
    pub fn plain(&self, random: &mut Random) -> Piece {
        let mut offsets =
            Offsets { any: &mut |random| self.offset(random), selector: &mut |random| self.selector(random) };
        Piece { bytes: instruction::any(random, self.bitness(), &mut offsets), ..Piece::default() }
    }

    /// Pointers that are good for something again.
    pub fn pointers(&self, random: &mut Random) -> Piece {
        let mut bytes = Vec::new();
        for register in [3u8, 5, 6, 7] {
            let offset = self.offset(random);
            bytes.extend(self.load(register, offset));
        }
        Piece { bytes, ..Piece::default() }
    }

    /// Branches.
    fn near(&self, random: &mut Random) -> Piece {
        let target = random.below(self.count as u32) as usize;
        let condition = random.below(16) as u8;
        let size = if self.wide() { 4 } else { 2 };
        let mut bytes = match random.below(8) {
            // back and forth by a few bytes, wherever that leads
            0 => vec![0x70 | condition, random.below(24) as u8],
            1 => vec![random.pick(&[0xe0, 0xe1, 0xe2, 0xe3]), random.below(16) as u8],
            2 => vec![0xeb, random.below(8) as u8],
            3 | 4 => vec![0x0f, 0x80 | condition],
            5 => vec![0xe9],
            6 => vec![0xe8],
            _ => return Piece { bytes: self.o32(&[0x58, 0xff, 0xe0]), ..Piece::default() },
        };
        if matches!(bytes[..], [0x0f, _] | [0xe9] | [0xe8]) {
            let offset = bytes.len();
            bytes.extend(vec![0; size]);
            return Piece { bytes, branch: Some((offset, size, target)), moves: false };
        }
        Piece { bytes, ..Piece::default() }
    }

    /// The program goes on elsewhere.
    fn moves(&self, _: &mut Random) -> Piece {
        let size = if self.wide() { 4 } else { 2 };
        Piece { bytes: [vec![0xe9], vec![0; size]].concat(), branch: Some((1, size, 0)), moves: true }
    }

    fn raw(&self, random: &mut Random) -> Piece {
        Piece { bytes: raw_bytes(random), ..Piece::default() }
    }

    fn strings(&self, random: &mut Random) -> Piece {
        let mut bytes = Vec::new();
        let count = random.pick(&[0, 1, 2, 3, 5, 17, 40]);
        bytes.extend(self.load(1, count));
        for register in [6, 7] {
            if random.flag() {
                let offset = self.offset(random);
                bytes.extend(self.load(register, offset));
            }
        }
        if random.once_in(4) {
            bytes.push(random.pick(&[0xfc, 0xfd]));
        }
        bytes.push(random.pick(&[0xf3, 0xf3, 0xf3, 0xf2]));
        if random.once_in(8) {
            bytes.push(random.pick(&[0x66, 0x67, 0x2e, 0x64, 0x36]));
        }
        bytes.push(
            random
                .pick(&[0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xa6, 0xa7, 0xae, 0xaf, 0x6c, 0x6d, 0x6e, 0x6f]),
        );
        Piece { bytes, ..Piece::default() }
    }

    /// Linear addresses of code: of the program, mostly near its beginning, of a handler, or by way of another page.
    fn code_address(&self, random: &mut Random) -> u32 {
        let page = self.start & !0xfff;
        match random.below(12) {
            0 => HANDLERS32 + random.below(0x1800),
            1 => random.pick(&LARGE).wrapping_add(page + random.below(0x1000)),
            2 => CODE + random.below(CODE_BYTES),
            3 => page + 0xff0 + random.below(16),
            _ => self.start + random.below(0x140),
        }
    }

    fn self_modify(&self, random: &mut Random) -> Piece {
        let target = self.code_address(random);
        let (segment, offset) = self.reach(target);
        let [a, b, c, d] = offset.to_le_bytes();
        let immediate = match random.below(4) {
            0 => random.dword(),
            1 => 0x9090_9090,
            // INC and DEC of registers, 32 of them in a row
            _ => 0x4040_4040 | (random.dword() & 0x0f0f_0f0f),
        };
        let [e, f, g, h] = immediate.to_le_bytes();
        let bytes = match random.below(5) {
            0 => self.a32(&[segment, 0xc7, 0x05, a, b, c, d, e, f, g, h]),
            1 => self.a32(&[segment, 0xc6, 0x05, a, b, c, d, e]),
            2 => self.a32(&[segment, 0x81, 0x35, a, b, c, d, e & 7, 0, 0, 0]),
            3 => self.a32(&[segment, 0xfe, 0x05, a, b, c, d]),
            _ => {
                // a string store across it
                let mut bytes =
                    self.load(7, if self.style == Style::Real { offset & 0xffff } else { target });
                bytes.extend(self.load(1, 1 + random.below(6)));
                bytes.extend(self.load(0, immediate));
                bytes.extend([0xf3, random.pick(&[0xaa, 0xab])]);
                bytes
            }
        };
        Piece { bytes, ..Piece::default() }
    }

    fn page_writes(&self, random: &mut Random) -> Piece {
        let mut bytes = Vec::new();
        let linear = self.somewhere(random) & !0xfff;
        let pae = self.features.has(Feature::Pae);
        if random.once_in(4) {
            return self.control_write(random);
        }
        let entry = match (pae, random.once_in(5)) {
            (false, false) => random.pick(&[TABLES[0], TABLES[0], TABLES[1]]) + (linear >> 12 & 1023) * 4,
            (false, true) => random.pick(&DIRECTORIES) + (linear >> 22) * 4,
            (true, false) => {
                random.pick(&[PAE_TABLES[0], PAE_TABLES[0], PAE_TABLES[1]]) + (linear >> 12 & 511) * 8
            }
            (true, true) => random.pick(&PAE_DIRECTORIES) + (linear >> 21 & 511) * 8,
        };
        let (segment, offset) = self.reach(entry + if pae && random.once_in(8) { 4 } else { 0 });
        let [a, b, c, d] = offset.to_le_bytes();
        let [e, f, g, h] = match random.below(3) {
            0 => random.pick(&[1u32, 2, 4, 6, 0x20, 0x40, 0x60, 0x100, 0x80]),
            1 => 0x1000 << random.below(6),
            _ => random.dword() & 0x3_f1ff,
        }
        .to_le_bytes();
        if self.features.has(Feature::PageWrites) && random.flag() {
            // used before, so that the TLB may have it
            bytes.extend(self.touch(random, linear));
        }
        match random.below(4) {
            0 => {
                // leads somewhere else altogether
                let [e, f, g, h] =
                    ((random.below(RAM as u32) & !0xfff) | 7 | random.below(0x200)).to_le_bytes();
                bytes.extend(self.a32(&[segment, 0xc7, 0x05, a, b, c, d, e, f, g, h]));
            }
            1 => bytes.extend(self.a32(&[segment, 0x81, 0x25, a, b, c, d, !e, 0xff, 0xff, 0xff])),
            2 => bytes.extend(self.a32(&[segment, 0x81, 0x0d, a, b, c, d, e, 0, 0, 0])),
            _ => bytes.extend(self.a32(&[segment, 0x81, 0x35, a, b, c, d, e, f, g, h])),
        }
        if random.flag() {
            let (segment, offset) = self.reach(linear);
            let [a, b, c, d] = offset.to_le_bytes();
            bytes.extend(self.a32(&[segment, 0x0f, 0x01, 0x3d, a, b, c, d]));
        }
        bytes.extend(self.touch(random, linear));
        Piece { bytes, ..Piece::default() }
    }

    /// A read, a write or both in the page of a linear address.
    fn touch(&self, random: &mut Random, linear: u32) -> Vec<u8> {
        let (segment, offset) = self.reach(linear + random.pick(&[0, 0x10, 0x800, 0xffc, 0xffe]));
        let [a, b, c, d] = offset.to_le_bytes();
        self.a32(&[segment, random.pick(&[0x8b, 0x89, 0x01, 0x03]), 0x05, a, b, c, d])
    }

    fn control_write(&self, random: &mut Random) -> Piece {
        let mut bytes = Vec::new();
        match random.below(5) {
            0 => {
                let tables = if self.features.has(Feature::Pae) { PDPTS } else { DIRECTORIES };
                let cr3 = random.pick(&tables) | random.pick(&[0, 0, 8, 0x18]);
                bytes.extend(self.load(0, cr3));
                bytes.extend([0x0f, 0x22, 0xd8]);
            }
            1 => bytes.extend([0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8]),
            register @ (2 | 3) => {
                let bit = if register == 2 {
                    random.pick(&[1u32 << 16, 1 << 16, 1 << 18, 1 << 3, 1 << 31, 1 << 30, 1])
                } else {
                    random.pick(&[1u32 << 4, 1 << 7, 1 << 20, 1 << 21, 1 << 5, 1, 1 << 3, 1 << 2])
                };
                let number = if register == 2 { 0xc0 } else { 0xe0 };
                let [e, f, g, h] = bit.to_le_bytes();
                bytes.extend([0x0f, 0x20, number]);
                bytes.extend(self.o32(&[0x35, e, f, g, h]));
                bytes.extend([0x0f, 0x22, number]);
            }
            _ => {
                // EFER.NXE
                bytes.extend(self.load(1, 0xc000_0080));
                bytes.extend([0x0f, 0x32]);
                bytes.extend(self.o32(&[0x35, 0, 8, 0, 0]));
                bytes.extend([0x0f, 0x30]);
            }
        }
        Piece { bytes, ..Piece::default() }
    }

    fn far(&self, random: &mut Random) -> Piece {
        let target = self.code_address(random);
        let (selector, offset) = self.far_target(random, target);
        let [a, b, c, d] = offset.to_le_bytes();
        let [s, t] = selector.to_le_bytes();
        let push = |value: u32| {
            let [a, b, c, d] = value.to_le_bytes();
            self.o32(&[0x68, a, b, c, d])
        };
        let bytes = match random.below(10) {
            0 | 1 => self.o32(&[0xea, a, b, c, d, s, t]),
            2 | 3 => self.o32(&[0x9a, a, b, c, d, s, t]),
            4 => {
                let mut bytes = push(selector as u32);
                bytes.extend(push(offset));
                bytes.extend(self.o32(if random.flag() { &[0xcb] } else { &[0xca, 8, 0] }));
                bytes
            }
            5 | 6 => {
                let mut bytes = Vec::new();
                let outer = random.once_in(3);
                let v8086 = random.once_in(8);
                if v8086 {
                    for selector in [0x7000, 0, 0x3000, 0x2000] {
                        bytes.extend(push(selector));
                    }
                }
                if outer || v8086 {
                    bytes.extend(push(if v8086 { 0x3000 } else { data32(3) as u32 }));
                    bytes.extend(push(if v8086 { 0x8800 } else { STACKS + 0x3800 }));
                }
                let vm = if v8086 { 1 << 17 } else { 0 };
                let flags = random.dword() & random.pick(&[0x0000_0ad5, 0x0024_7ed5, 0x0001_0ad5, 0x3fd5]);
                bytes.extend(push(flags | 2 | vm));
                let (selector, offset) = match (v8086, outer) {
                    (true, _) => (0x2000, target.wrapping_sub(CODE) & 0xffff),
                    (_, true) => (code32(3), target),
                    _ => (selector, offset),
                };
                bytes.extend(push(selector as u32));
                bytes.extend(push(offset));
                bytes.extend(self.o32(&[0xcf]));
                bytes
            }
            7 => vec![0xcd, random.pick(&[0x20, 0x21, 0x25, 0x30, 0x3f, 3, 4, 13, 14])],
            8 => vec![random.pick(&[0xcc, 0xce, 0xf1])],
            _ => vec![0x0f, random.pick(&[0x34, 0x35])],
        };
        Piece { bytes, ..Piece::default() }
    }

    fn selectors(&self, random: &mut Random) -> Piece {
        let selector = self.selector(random);
        let [s, t] = selector.to_le_bytes();
        let register = random.pick(&[0u8, 0, 2, 3, 3, 3, 4, 5, 5]);
        let stack = if random.flag() { selector } else { data32(self.ring) };
        let selector = if register == 2 && self.style != Style::Real { stack } else { selector };
        let mut bytes = self.load(0, selector as u32);
        match random.below(8) {
            0..4 => bytes.extend([0x8e, 0xc0 | register << 3]),
            4 => {
                bytes = self.o32(&[0x68, s, t, 0, 0]);
                bytes.extend(self.o32(&[random.pick(&[0x07, 0x17, 0x1f])]));
            }
            5 => bytes.extend([0x0f, 0x00, 0xc0 | random.pick(&[2, 3, 4, 5, 0, 1]) << 3]),
            6 => bytes.extend([0x0f, random.pick(&[0x02, 0x03]), 0xc8]),
            _ => {
                let [a, b, c, d] = self.offset(random).to_le_bytes();
                let opcode = random.pick(&[0xb2, 0xb4, 0xb5]);
                bytes = self.a32(&[0x0f, opcode, 0x1d, a, b, c, d]);
            }
        }
        Piece { bytes, ..Piece::default() }
    }

    fn system(&self, random: &mut Random) -> Piece {
        let bytes = match random.below(14) {
            0 | 1 => vec![0xfb],
            2 => vec![0xfa],
            3 if self.features.has(Feature::Interrupts) => vec![0xfb, 0xf4],
            4 | 5 => {
                let [a, b, c, d] = (random.dword() & random.pick(&[0xad5, 0x24_7ed5, 0x3fd5])).to_le_bytes();
                [self.o32(&[0x68, a, b, c, d]), self.o32(&[0x9d])].concat()
            }
            6 => vec![0x0f, 0x06],
            7 => vec![0x0f, 0x01, random.pick(&[0xf0, 0xe0, 0xca, 0xcb])],
            8 => {
                let dr7 = (random.dword() & 0xff) | random.below(0x10000) << 16 | 0x400;
                let register = random.pick(&[0u8, 1, 2, 3]);
                let mut bytes = self.load(0, self.somewhere(random));
                bytes.extend([0x0f, 0x23, 0xc0 | register << 3]);
                if random.flag() {
                    bytes.extend(self.load(0, dr7));
                    bytes.extend([0x0f, 0x23, 0xf8]);
                }
                bytes
            }
            9 => vec![0x0f, random.pick(&[0x31, 0xa2, 0x32, 0x33, 0x30, 0x08, 0x09])],
            10 => {
                let [a, b, c, d] = self.offset(random).to_le_bytes();
                self.a32(&[0x0f, 0x01, 0x05 | (random.below(2) as u8 * 8), a, b, c, d])
            }
            11 => {
                // MOV SS holds back what comes before the next instruction
                let mut bytes =
                    self.load(0, if self.style == Style::Real { 0x3000 } else { data32(self.ring) as u32 });
                bytes.extend([0x8e, 0xd0]);
                bytes
            }
            _ => {
                let [a, b, c, d] = self.offset(random).to_le_bytes();
                self.a32(&[0x0f, random.below(2) as u8, 0x05 | (random.below(8) as u8 * 8), a, b, c, d])
            }
        };
        Piece { bytes, ..Piece::default() }
    }

    fn ports(&self, random: &mut Random) -> Piece {
        let port = match random.below(4) {
            0 => PORT_TIMER,
            1 => random.pick(&[PORT_NMI, PORT_DMA, PORT_TIMER, PORT_RESET]),
            _ => random.below(0x80) as u16 + 0x100,
        };
        // a device of its own way is reached by OUT of AL only
        let port = if port == PORT_RESET && !random.once_in(8) { PORT_TIMER } else { port };
        let bytes = match random.below(6) {
            0 | 1 => {
                let mut bytes = self.load(2, port as u32);
                bytes.extend(self.load(0, 0x20 + random.below(0x60)));
                bytes.push(random.pick(&[0xec, 0xed, 0xee, 0xee, 0xef]));
                bytes
            }
            2 => vec![random.pick(&[0xe4, 0xe5, 0xe6, 0xe7]), port as u8],
            3 => {
                let mut bytes = self.load(2, port as u32);
                bytes.extend(self.load(1, random.below(5)));
                bytes.extend([0xf3, random.pick(&[0x6c, 0x6d, 0x6e, 0x6f])]);
                bytes
            }
            _ => {
                let linear = DEVICE + random.below(0x100);
                let (segment, offset) = self.reach(linear);
                let [a, b, c, d] = offset.to_le_bytes();
                self.a32(&[segment, random.pick(&[0x8b, 0x89, 0x01, 0x31, 0x8a, 0x88]), 0x05, a, b, c, d])
            }
        };
        Piece { bytes, ..Piece::default() }
    }

    /// The window moves, and is used: by data, and by code.
    fn window(&self, random: &mut Random) -> Piece {
        let mut bytes = self.load(0, random.below(4));
        bytes.extend([0xe6, PORT_BANK as u8]);
        match random.below(3) {
            0 if self.wide() => {
                bytes.extend(self.load(0, WINDOW + 0x10 * random.below(0x80)));
                bytes.extend([0xff, 0xd0]);
            }
            _ => {
                let linear = WINDOW + random.below(WINDOW_BYTES);
                bytes.extend(self.touch(random, linear));
            }
        }
        Piece { bytes, ..Piece::default() }
    }
}
