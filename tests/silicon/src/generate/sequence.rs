//! Sequences of 2 to 50 instructions, with forward branches, bounded loops, calls, a stack and memory operands.
//!
//! Some registers are pointers: they keep the values they begin with (string instructions move them a little), so that
//! memory operands can be placed. The stack pointer stays around where it begins. No instruction reads a flag that may be
//! undefined where it stands; where paths join, a flag is undefined if it is so on either.

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess};
use pagewalk_x86::decode;

use super::draft::{DS, Draft, EBP, ECX, EDI, ES, ESI, ESP, Memory, Rm, SS};
use super::prefixes::Prefixes;
use super::segments::{FLAT_DS, Segments, Windows};
use super::template::{Class, Field, Immediate, ModRm, Template};
use super::values;
use crate::case::Case;
use crate::random::Random;

/// Status flags, in iced-x86's bits.
const STATUS: u32 = 0x3f;
/// Bytes that the stack pointer may go either way.
const STACK_ROOM: i32 = 240;

/// What sequences are made of: templates for code of 32 and of 16 bits.
#[derive(Clone, Debug)]
pub(super) struct Kit {
    plain: [Vec<u16>; 2],
    stack: [Vec<u16>; 2],
    string: [Vec<u16>; 2],
    branch: [Vec<u16>; 2],
    /// For the last instruction, which may fault.
    last: [Vec<u16>; 2],
}

impl Kit {
    pub fn new(templates: &[Template]) -> Kit {
        let list = |wanted: fn(&Template) -> bool| {
            [true, false].map(|big| {
                let fits = |t: &Template| t.big == big && wanted(t);
                (0..templates.len() as u16).filter(|&n| fits(&templates[n as usize])).collect()
            })
        };
        Kit {
            plain: list(is_plain),
            stack: list(|t| matches!(t.class, Class::Push | Class::Pop) && !t.memory),
            string: list(|t| t.class == Class::String),
            branch: list(|t| t.class == Class::Relative && t.mnemonic != Mnemonic::Call),
            last: list(|t| {
                use Class::*;
                let transfers =
                    matches!(t.class, NearIndirect | NearReturn | FarDirect | FarIndirect | FarReturn);
                !transfers && !matches!(t.class, InterruptReturn | Relative | PopFlags)
            }),
        }
    }
}

fn is_plain(t: &Template) -> bool {
    use Class::*;
    let operands = matches!(
        t.class,
        Plain
            | Shift
            | Multiply
            | Decimal
            | CompareExchange
            | CompareExchange8
            | Hint
            | X87
            | Vector
            | TextCompare
    );
    // their results are undefined for some operands, and then nothing of the case is compared
    let undefined = match t.mnemonic {
        Mnemonic::Bsf | Mnemonic::Bsr => true,
        Mnemonic::Shld | Mnemonic::Shrd | Mnemonic::Bswap => t.operand16,
        _ => false,
    };
    let moves_stack = t.code.op_code().is_stack_instruction();
    // parts of its image differ between processors, and could be read again
    let differs = t.mnemonic == Mnemonic::Fxsave;
    operands && !differs && !undefined && !moves_stack && t.code.flow_control() == FlowControl::Next
}

/// What is known at a place in the code.
#[derive(Clone, Copy)]
struct State {
    /// Flags that may be undefined.
    undefined: u32,
    /// How far below its beginning the stack pointer may be, at least and at most.
    depth: (i32, i32),
}

impl State {
    fn join(self, other: State) -> State {
        State {
            undefined: self.undefined | other.undefined,
            depth: (self.depth.0.min(other.depth.0), self.depth.1.max(other.depth.1)),
        }
    }
}

/// A forward branch whose target is still to come.
struct Pending {
    immediate_at: usize,
    end: usize,
    size: usize,
    /// After so many more items.
    items: u32,
    state: State,
}

struct Maker<'a> {
    draft: Draft<'a>,
    templates: &'a [Template],
    kit: &'a Kit,
    big: bool,
    /// Offsets in the code segment fit into 16 bits.
    low: bool,
    /// Registers, by bit, that keep their values; ESP is not among them, but is kept as well.
    pointers: u8,
    state: State,
    pending: Vec<Pending>,
    info: InstructionInfoFactory,
    has_fpu: bool,
}

/// A sequence.
pub(super) fn make(random: &mut Random, segments: &Segments, templates: &[Template], kit: &Kit) -> Case {
    let big = !random.once_in(3);
    let count = match random.below(4) {
        0 => 2 + random.below(4),
        1 => 2 + random.below(49),
        _ => 4 + random.below(16),
    };
    let mut maker = Maker {
        draft: Draft::new(random, segments),
        templates,
        kit,
        big,
        low: false,
        pointers: 0,
        state: State { undefined: 0, depth: (0, 0) },
        pending: Vec::new(),
        info: InstructionInfoFactory::new(),
        has_fpu: false,
    };
    maker.begin();
    let mut left = count;
    while left > 0 {
        left = left.saturating_sub(maker.item(left));
    }
    maker.end();
    maker.finish()
}

impl Maker<'_> {
    /// Chooses segments, place, registers and flags.
    fn begin(&mut self) {
        let draft = &mut self.draft;
        let segments = draft.segments;
        self.low = !self.big || draft.random.once_in(3);
        for n in [ES, DS, 4, 5] {
            if n < 4 || draft.random.once_in(2) {
                let list = if self.big { &segments.data } else { &segments.narrow_data };
                let entry = draft.random.pick(list);
                let segment = &segments.all[entry];
                let writable = segment.writable || draft.random.once_in(12);
                let usable = writable && has_room(segment.windows(!self.big));
                let flat = self.big && draft.random.once_in(3);
                draft.held[n] = if flat || !usable { FLAT_DS } else { entry };
            }
        }
        for _ in 0..4 {
            let entry = draft.random.pick(&segments.stack);
            let stack = &segments.all[entry];
            if has_room(stack.windows(!stack.big)) && (self.big || has_room(&stack.narrow)) {
                draft.held[SS] = entry;
                break;
            }
        }
        draft.place_code(self.big, self.low, 480);
        draft.case.regs = values::registers(draft.random);
        draft.case.eflags = draft.flags() & !0x4_4100;
        if draft.random.once_in(64) {
            draft.case.eflags |= draft.random.pick(&[0x4_0000, 0x100]);
        }
        let held = &segments.all[draft.held[SS]];
        let narrow_stack = !held.big;
        if let Some(offset) = draft.inside(SS, 2 * STACK_ROOM as u32 + 8, narrow_stack) {
            let top = (offset + STACK_ROOM as u32) & !3;
            let esp = &mut draft.case.regs[ESP];
            *esp = if narrow_stack { *esp & 0xffff_0000 | top } else { top };
        }
        for (register, segment) in [(3, DS), (ESI, DS), (EDI, ES), (EBP, SS)] {
            if !draft.random.once_in(3)
                && let Some(offset) = draft.inside(segment, 0x80, !self.big)
            {
                let high = if self.big { 0 } else { draft.case.regs[register] & 0xffff_0000 };
                // 16-bit forms do not look at the upper half, which makes a pointer useless for 32-bit ones
                let high = if draft.random.once_in(2) { 0 } else { high };
                draft.case.regs[register] = high | offset.wrapping_add(0x20);
                self.pointers |= 1 << register;
            }
        }
        draft.settled = 0xff;
    }

    /// Adds one item; tells how many instructions it took.
    fn item(&mut self, left: u32) -> u32 {
        self.land(false);
        match self.draft.random.below(32) {
            0..=3 => self.branch(),
            4 if left > 4 => return self.bounded_loop(),
            5 if left > 5 => return self.call(),
            6 | 7 => self.string(),
            8..=12 => self.stack(),
            13 if left > 3 => return self.modify_code(),
            _ => self.plain(),
        }
        1
    }

    /// Makes the pending branches whose time has come (or all) arrive here.
    fn land(&mut self, all: bool) {
        let here = self.draft.case.code.len();
        let mut n = 0;
        while n < self.pending.len() {
            let branch = &mut self.pending[n];
            let far = branch.size == 1 && here - branch.end > 90;
            if all || far || branch.items == 0 {
                let branch = self.pending.swap_remove(n);
                self.state = self.state.join(branch.state);
                let displacement = (here - branch.end) as u32;
                self.draft.set_code(branch.immediate_at, branch.size, displacement);
            } else {
                branch.items -= 1;
                n += 1;
            }
        }
    }

    fn plain(&mut self) {
        for _ in 0..12 {
            let n = self.draft.random.pick(&self.kit.plain[!self.big as usize]);
            let t = &self.templates[n as usize];
            if (t.x87 || t.vector) && !self.has_fpu && !self.draft.random.once_in(8) {
                continue;
            }
            if self.attempt(t, false) {
                self.has_fpu |= t.x87 || t.vector;
                return;
            }
        }
    }

    /// Encodes an instruction; takes it back if it does not fit in.
    fn attempt(&mut self, t: &Template, wild: bool) -> bool {
        let before = self.draft.case.code.len();
        self.choose(t);
        if t.memory && !self.place(t, wild) {
            return false;
        }
        self.draft.emit(t);
        let fits = self.accept(t, before, wild);
        if !fits {
            self.draft.case.code.truncate(before);
        }
        fits
    }

    fn choose(&mut self, t: &Template) {
        let draft = &mut self.draft;
        draft.prefixes = Prefixes::default();
        draft.choose_prefixes(t);
        draft.reg = match t.modrm {
            ModRm::Operand(Field::Digit(digit)) => digit,
            ModRm::Operand(Field::Segment) => draft.random.below(6) as u8,
            _ => draft.random.below(8) as u8,
        };
        draft.vvvv = draft.random.below(8) as u8;
        draft.rm = match t.modrm {
            ModRm::Operand(_) if !t.memory => Rm::Register(draft.random.below(8) as u8),
            _ => Rm::None,
        };
        draft.immediates = [values::dword(draft.random), values::dword(draft.random)];
        if t.class == Class::Decimal && draft.immediates[0] & 0xff == 0 {
            draft.immediates[0] = 10;
        }
    }

    /// Whether the instruction just encoded is what it should be, reads no undefined flag and leaves the pointers alone;
    /// if so, what it does to the flags is noted.
    fn accept(&mut self, t: &Template, before: usize, wild: bool) -> bool {
        let bytes = &self.draft.case.code[before..];
        let bitness = if self.big { 32 } else { 16 };
        let (instruction, _) = decode::instruction(bytes, bitness, &crate::MODEL);
        if instruction.code() != t.code || instruction.len() != bytes.len() || bytes.len() > 15 {
            return false;
        }
        if instruction.rflags_read() & self.state.undefined != 0 {
            return false;
        }
        if !wild && self.touches_pointers(&instruction, t.class == Class::String) {
            return false;
        }
        // by a count of 0, flags stay as they are
        let depends = matches!(t.class, Class::Shift) || self.draft.prefixes.repeats();
        if !depends {
            let known =
                instruction.rflags_written() | instruction.rflags_cleared() | instruction.rflags_set();
            self.state.undefined &= !known;
        }
        self.state.undefined |= instruction.rflags_undefined();
        true
    }

    /// Whether the instruction writes a pointer, or the stack pointer.
    fn touches_pointers(&mut self, instruction: &Instruction, is_string: bool) -> bool {
        let mut kept = self.pointers | 1 << ESP;
        if is_string {
            kept &= !(1 << ESI | 1 << EDI);
        }
        self.info.info(instruction).used_registers().iter().any(|used| {
            let writes = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None);
            let whole = used.register().full_register32();
            writes && whole.is_gpr32() && kept >> whole.number() & 1 != 0
        })
    }

    /// Finds a memory form that comes out within the world's pages; with `wild`, any.
    fn place(&mut self, t: &Template, wild: bool) -> bool {
        let size = t.size as u32;
        if t.immediates[0] == Some(Immediate::Moffs) {
            let segment = self.draft.prefixes.segment().unwrap_or(DS);
            let narrow = self.draft.narrow;
            let offset = self.draft.inside(segment, size, narrow);
            self.draft.immediates[0] = offset.unwrap_or(0);
            return offset.is_some();
        }
        for _ in 0..4 {
            let mut memory = self.form();
            let on_stack = memory.base == Some(5) || memory.base == Some(4) && !self.draft.narrow;
            let segment = self.draft.prefixes.segment().unwrap_or(if on_stack { SS } else { DS });
            let narrow = self.draft.narrow;
            let offset = self.draft.effective(&memory);
            if !wild && !self.draft.is_inside(segment, offset, size, narrow) {
                if memory.bytes < 2 {
                    continue;
                }
                let Some(wanted) = self.draft.inside(segment, size, narrow) else { return false };
                self.draft.solve(&mut memory, wanted);
            }
            self.draft.rm = Rm::Memory(memory);
            return true;
        }
        false
    }

    /// A memory form of pointers.
    fn form(&mut self) -> Memory {
        let kept = self.pointers | 1 << ESP;
        let draft = &mut self.draft;
        for _ in 0..6 {
            let form = draft.memory_form();
            let is_kept = |n: Option<u8>| n.is_none_or(|n| kept >> n & 1 != 0);
            if is_kept(form.base) && is_kept(form.index) {
                return form;
            }
        }
        // the displacement alone
        if draft.narrow {
            Memory { bytes: 2, modrm: 6, ..Memory::default() }
        } else {
            Memory { bytes: 4, modrm: 5, ..Memory::default() }
        }
    }

    /// PUSH or POP of anything but memory.
    fn stack(&mut self) {
        for _ in 0..8 {
            let n = self.draft.random.pick(&self.kit.stack[!self.big as usize]);
            let t = &self.templates[n as usize];
            let size = match t.mnemonic {
                Mnemonic::Pusha | Mnemonic::Popa => 16,
                Mnemonic::Pushad | Mnemonic::Popad => 32,
                _ if t.operand16 => 2,
                _ => 4,
            };
            let change = if t.class == Class::Push { size } else { -size };
            let (least, most) = (self.state.depth.0 + change, self.state.depth.1 + change);
            if least < -STACK_ROOM
                || most > STACK_ROOM
                || t.class == Class::Pop && self.draft.random.once_in(3)
            {
                continue;
            }
            let before = self.draft.case.code.len();
            self.choose(t);
            self.draft.emit(t);
            // ESP is what it changes, and what PUSH ESP reads; popped over, it is lost
            let pops_pointer = t.class == Class::Pop && (self.pointers | 1 << ESP) >> self.draft.reg & 1 != 0;
            let pops_all = t.class == Class::Pop && t.modrm == ModRm::None && self.pointers != 0;
            if !pops_pointer && !pops_all && self.accept(t, before, true) {
                self.state.depth = (least, most);
                return;
            }
            self.draft.case.code.truncate(before);
        }
    }

    /// A string instruction, its count set before where it is repeated.
    fn string(&mut self) {
        let both = 1 << ESI | 1 << EDI;
        let n = self.draft.random.pick(&self.kit.string[!self.big as usize]);
        let t = &self.templates[n as usize];
        self.choose(t);
        if self.pointers & both != both || self.pointers >> ECX & 1 != 0 || self.has_override_out_of_reach() {
            return self.plain();
        }
        let before = self.draft.case.code.len();
        let state = self.state;
        if self.draft.prefixes.repeats() {
            self.set_count(9);
        }
        let at = self.draft.case.code.len();
        self.draft.emit(t);
        if !self.accept(t, at, false) {
            self.draft.case.code.truncate(before);
            self.state = state;
        }
    }

    /// Whether the source of a string instruction would be in another segment than ESI's.
    fn has_override_out_of_reach(&self) -> bool {
        self.draft.prefixes.segment().is_some_and(|segment| segment != DS)
    }

    /// MOV ECX, below `most`.
    fn set_count(&mut self, most: u32) -> usize {
        let count = self.draft.random.below(most);
        let code = &mut self.draft.case.code;
        if !self.big {
            code.push(0x66);
        }
        code.push(0xb9);
        code.extend(count.to_le_bytes());
        code.len() - 4
    }

    /// A forward branch: a condition, a jump, JCXZ, LOOP.
    fn branch(&mut self) {
        let n = self.draft.random.pick(&self.kit.branch[!self.big as usize]);
        let t = &self.templates[n as usize];
        let counts = matches!(t.mnemonic, Mnemonic::Loop | Mnemonic::Loope | Mnemonic::Loopne);
        let size = match t.immediates[0] {
            Some(Immediate::Displacement(size)) => size as usize,
            _ => return,
        };
        if t.operand16 && !self.low || counts && self.pointers >> ECX & 1 != 0 {
            return;
        }
        let before = self.draft.case.code.len();
        self.choose(t);
        self.draft.emit(t);
        if !self.accept(t, before, true) {
            self.draft.case.code.truncate(before);
            return;
        }
        let items = self.draft.random.below(5);
        let (immediate_at, end, state) = (self.draft.immediate_at, self.draft.end, self.state);
        self.pending.push(Pending { immediate_at, end, size, items, state });
    }

    /// MOV ECX, n; a few instructions that leave ECX and the stack alone; LOOP.
    fn bounded_loop(&mut self) -> u32 {
        if self.pointers >> ECX & 1 != 0 {
            return 1;
        }
        self.land(true);
        let at = self.set_count(1);
        let count = 1 + self.draft.random.below(5);
        self.draft.set_code(at, 4, count);
        let top = self.draft.case.code.len();
        // what the body leaves undefined comes back to its beginning
        let entry = self.state;
        self.state.undefined = STATUS;
        self.pointers |= 1 << ECX;
        let body = 1 + self.draft.random.below(3);
        for _ in 0..body {
            self.plain();
        }
        self.pointers &= !(1 << ECX);
        self.state.undefined |= entry.undefined;
        let distance = (top as i32 - self.draft.case.code.len() as i32 - 2) as u32;
        self.draft.case.code.extend([0xe2, distance as u8]);
        body + 2
    }

    /// CALL over a jump; a body that leaves the stack alone; RET.
    fn call(&mut self) -> u32 {
        if self.state.depth.1 + 4 > STACK_ROOM {
            return 1;
        }
        self.land(true);
        let size = if self.big { 4 } else { 2 };
        let code = &mut self.draft.case.code;
        code.push(0xe8);
        code.extend(&2u32.to_le_bytes()[..size]);
        code.extend([0xeb, 0]);
        let jump = code.len();
        let body = 1 + self.draft.random.below(3);
        for _ in 0..body {
            self.plain();
        }
        if self.draft.random.once_in(3) {
            // RET with bytes to release, which were pushed for it
            self.draft.case.code.extend([0xc2, 4, 0]);
            self.state.depth = (self.state.depth.0 - 4, self.state.depth.1 - 4);
            if self.state.depth.0 < -STACK_ROOM {
                self.draft.case.code.truncate(self.draft.case.code.len() - 3);
                self.draft.case.code.push(0xc3);
                self.state.depth = (self.state.depth.0 + 4, self.state.depth.1 + 4);
            }
        } else {
            self.draft.case.code.push(0xc3);
        }
        let distance = (self.draft.case.code.len() - jump) as u32;
        self.draft.set_code(jump - 1, 1, distance);
        body + 3
    }

    /// Overwrites an INC or DEC that is still to come, and jumps to it (SDM 3A "Self-Modifying Code").
    fn modify_code(&mut self) -> u32 {
        let draft = &mut self.draft;
        let ds = &draft.segments.all[draft.held[DS]];
        let free: Vec<u8> = (0..8).filter(|n| (self.pointers | 1 << ESP) >> n & 1 == 0).collect();
        let length = if self.big { 7 } else { 8 };
        let here = draft.case.at.wrapping_add(draft.case.code.len() as u32);
        let offset = here.wrapping_add(length + 2).wrapping_sub(ds.base);
        let reaches = ds.wide.code.iter().any(|window| window.first <= offset && offset <= window.last);
        if !reaches || !ds.writable {
            return 1;
        }
        let [old, new] = [0; 2].map(|_| draft.random.pick(&free) | 0x40 | (draft.random.below(2) as u8) << 3);
        if !self.big {
            draft.case.code.push(0x67);
        }
        draft.case.code.extend([0xc6, 0x05]);
        draft.case.code.extend(offset.to_le_bytes());
        draft.case.code.extend([new, 0xeb, 0, old]);
        // all but CF
        self.state.undefined &= iced_x86::RflagsBits::CF;
        3
    }

    /// Now and then, something last that may fault.
    fn end(&mut self) {
        self.land(true);
        if !self.draft.random.once_in(6) {
            return;
        }
        let n = self.draft.random.pick(&self.kit.last[!self.big as usize]);
        let t = &self.templates[n as usize];
        self.attempt(t, true);
        if t.class == Class::Interrupt && t.immediates[0].is_some() {
            // INT 80h enters Linux
            self.draft.set_code(self.draft.immediate_at, 1, 3);
        }
        self.has_fpu |= t.x87 || t.vector;
    }

    fn finish(mut self) -> Case {
        if self.has_fpu {
            self.draft.case.fpu = Some(super::fpu::image(self.draft.random));
        }
        self.draft.finish()
    }
}

/// Whether there is a window with room for pointers and a stack.
fn has_room(windows: &Windows) -> bool {
    windows.writable.iter().any(|window| window.last - window.first >= 2 * STACK_ROOM as u32 + 8)
}
