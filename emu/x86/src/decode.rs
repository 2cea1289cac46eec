//! From bytes to [`Op`]: decoded by iced-x86, operands resolved into slots.

use iced_x86::{Code, Decoder, DecoderError, DecoderOptions, FlowControl, Instruction};
use iced_x86::{Mnemonic, OpCodeOperandKind, OpKind, Register};

use crate::bus::Bus;
use crate::execute::{self, Shape};
use crate::model::{Features, Model};
use crate::observe::Observer;
use crate::op::{Op, Rep};
use crate::regs::ZERO;
use crate::undefined;

/// The longest instruction.
pub const MAX_LENGTH: usize = 15;

/// What decoding at some bytes gave.
pub enum Decoded<B, O> {
    /// A lowered instruction (#UD and the like are lowered too).
    Op(Op<B, O>),
    /// The bytes end within the instruction.
    NeedsMore,
}

/// Decodes the instruction at the start of `bytes` (of which only the first 15 count); `start` is its offset in the
/// block being built.
pub fn decode<B: Bus, O: Observer>(bytes: &[u8], is_32bit: bool, model: &Model, start: u16) -> Decoded<B, O> {
    let bytes = &bytes[..bytes.len().min(MAX_LENGTH)];
    let bitness = if is_32bit { 32 } else { 16 };
    let (instruction, error) = instruction(bytes, bitness, model);
    if instruction.code() == Code::INVALID {
        let lacks = error == DecoderError::NoMoreBytes || ends_within_form(bytes, bitness);
        if lacks && bytes.len() < MAX_LENGTH {
            return Decoded::NeedsMore;
        }
        let body = if is_too_long(bytes, bitness) { execute::too_long } else { execute::undefined };
        let mut op = Op::new(body, Code::INVALID as u16);
        op.start = start;
        op.len = instruction.len().max(1) as u8;
        op.jumps = true;
        return Decoded::Op(op);
    }
    let mut op = lower(&instruction, model, start);
    if let Some(opcode) = x87_opcode(bytes) {
        op.imm2 = opcode;
    }
    Decoded::Op(op)
}

fn is_prefix(byte: u8) -> bool {
    matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3)
}

/// What x87 notes of an ESC instruction (SDM 1 "Last Instruction Opcode"): the low three bits of its first byte, and its second.
fn x87_opcode(bytes: &[u8]) -> Option<u16> {
    match bytes[bytes.iter().take_while(|&&b| is_prefix(b)).count()..] {
        [first @ 0xd8..=0xdf, second, ..] => Some((first as u16 & 7) << 8 | second as u16),
        _ => None,
    }
}

/// What the bytes are to a processor of this model, in code of 16 or 32 bits: iced-x86's view, except where the model
/// lacks what the bytes have become since.
pub fn instruction(bytes: &[u8], bitness: u32, model: &Model) -> (Instruction, DecoderError) {
    let options = model.decoder_options();
    let mut decoder = Decoder::with_ip(bitness, bytes, 0, options);
    let instruction = decoder.decode();
    if model.has(Features::NOPL) && !model.executes(instruction.code()) {
        // newer hints (ENDBR32, CLDEMOTE) are reserved NOPs to a processor without them (SDM 2B "NOP")
        let hints = options | DecoderOptions::FORCE_RESERVED_NOP;
        let hint = Decoder::with_ip(bitness, bytes, 0, hints).decode();
        let known = !is_0f0d(hint.code()) || model.has(Features::PREFETCHW);
        if known && model.executes(hint.code()) && hint.mnemonic() == Mnemonic::Reservednop {
            return (hint, DecoderError::None);
        }
    }
    (instruction, decoder.last_error())
}

/// The reserved NOPs of opcode 0F 0D are prefetches; a processor without them knows no such opcode.
fn is_0f0d(code: Code) -> bool {
    matches!(code, Code::Reservednop_rm16_r16_0F0D | Code::Reservednop_rm32_r32_0F0D)
}

/// Whether undefined bytes end before the ModRM form that their opcode has with other prefixes: it is fetched whole before
/// it is found to be undefined. Hardware: AMD EPYC.
fn ends_within_form(bytes: &[u8], bitness: u32) -> bool {
    let count = bytes.iter().take_while(|&&b| is_prefix(b)).count();
    let (prefixes, rest) = bytes.split_at(count);
    let sizes: Vec<u8> = [0x66, 0x67].into_iter().filter(|size| prefixes.contains(size)).collect();
    [&[][..], &[0xf3], &[0xf2]].into_iter().any(|mandatory| {
        let other = [&sizes, mandatory, rest].concat();
        let mut decoder = Decoder::with_ip(bitness, &other, 0, DecoderOptions::NONE);
        let _ = decoder.decode();
        decoder.last_error() == DecoderError::NoMoreBytes
    })
}

/// Whether 15 bytes are the beginning of a longer instruction, LOCK where it is not allowed included. So long an
/// instruction has prefixes that it could do without; without them, it must decode, whatever its ModRM is if that is among
/// the bytes that are missing.
fn is_too_long(bytes: &[u8], bitness: u32) -> bool {
    if bytes.len() < MAX_LENGTH {
        return false;
    }
    let is_segment = |b: &u8| matches!(b, 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65);
    let is_repeat = |b: &u8| matches!(b, 0xf2 | 0xf3);
    let count = bytes.iter().take_while(|&&b| is_prefix(b)).count();
    let (prefixes, rest) = bytes.split_at(count);
    let last = |wanted: &dyn Fn(&u8) -> bool| prefixes.iter().rev().find(|b| wanted(b)).copied();
    let needed = [last(&is_segment), last(&is_repeat), last(&|b| *b == 0x66), last(&|b| *b == 0x67)];
    // with the prefixes that count, and without any: a mandatory one may be what makes it undefined
    [needed.into_iter().flatten().collect(), Vec::new()].into_iter().any(|mut short: Vec<u8>| {
        let spare = count - short.len();
        short.extend(rest);
        (0..16u8).any(|n| {
            let mut padded = short.clone();
            padded.push(((n & 7) << 3) | ((n >> 3) * 0xc0));
            padded.resize(2 * MAX_LENGTH, 0);
            let instruction = Decoder::with_ip(bitness, &padded, 0, DecoderOptions::NONE).decode();
            instruction.code() != Code::INVALID && instruction.len() + spare > MAX_LENGTH
        })
    })
}

/// Lowers a decoded instruction.
pub fn lower<B: Bus, O: Observer>(instruction: &Instruction, model: &Model, start: u16) -> Op<B, O> {
    let code = instruction.code();
    let memory = (0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory);
    let body = if !model.executes(code) {
        execute::undefined
    } else {
        execute::handler(Shape { code, memory }).unwrap_or(execute::unimplemented)
    };
    let mut op = Op::new(body, code as u16);
    op.start = start;
    op.len = instruction.len() as u8;
    op.operand16 = instruction.code().op_code().operand_size() == 16;
    op.rep = if instruction.has_repne_prefix() {
        Rep::Repne
    } else if instruction.has_repe_prefix() {
        Rep::Rep
    } else {
        Rep::None
    };
    op.jumps = instruction.flow_control() != FlowControl::Next
        || (op.rep != Rep::None && instruction.is_string_instruction());

    let kinds = code.op_code().op_kinds();
    let mut immediates = 0;
    for n in 0..instruction.op_count() {
        match instruction.op_kind(n) {
            OpKind::Register => place_register(&mut op, kinds[n as usize], instruction.op_register(n)),
            OpKind::Memory => place_memory(&mut op, instruction),
            OpKind::NearBranch16 | OpKind::NearBranch32 => {
                op.imm = (instruction.near_branch_target() as u32).wrapping_sub(instruction.len() as u32);
            }
            OpKind::FarBranch16 => {
                op.imm = instruction.far_branch16() as u32;
                op.imm2 = instruction.far_branch_selector();
            }
            OpKind::FarBranch32 => {
                op.imm = instruction.far_branch32();
                op.imm2 = instruction.far_branch_selector();
            }
            OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI => {
                op.address_mask = 0xffff;
                place_string_segment(&mut op, instruction);
            }
            OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI => {
                place_string_segment(&mut op, instruction);
            }
            _ => {
                let value = instruction.immediate(n) as u32;
                if immediates == 0 {
                    op.imm = value
                } else {
                    op.imm2 = value as u16
                }
                immediates += 1;
            }
        }
    }
    if model.executes(code) {
        undefined::lower(&mut op, instruction, memory, model.undefined_flags);
    }
    op
}

/// The source of a string instruction takes the override; its destination is always in ES.
fn place_string_segment<B, O>(op: &mut Op<B, O>, instruction: &Instruction) {
    let segment = instruction.memory_segment();
    if segment != Register::None {
        op.segment = segment.number() as u8;
    }
}

fn place_register<B, O>(op: &mut Op<B, O>, kind: OpCodeOperandKind, register: Register) {
    use OpCodeOperandKind as K;
    let number = register.number() as u8;
    match kind {
        K::r8_or_mem | K::r16_or_mem | K::r32_or_mem => op.rm = number,
        K::r16_rm | K::r32_rm => op.rm = number,
        K::mm_or_mem | K::mm_rm | K::xmm_or_mem | K::xmm_rm => op.rm = number,
        K::r32_vvvv => op.reg2 = number,
        K::al | K::cl | K::ax | K::dx | K::eax | K::st0 => {}
        _ => op.reg = number,
    }
}

fn place_memory<B, O>(op: &mut Op<B, O>, instruction: &Instruction) {
    let slot = |register: Register| match register {
        Register::None => ZERO,
        register => register.number() as u8,
    };
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    op.base = slot(base);
    op.index = slot(index);
    op.scale = instruction.memory_index_scale().trailing_zeros() as u8;
    op.disp = instruction.memory_displacement32();
    op.segment = instruction.memory_segment().number() as u8;
    let size = [base, index].iter().find(|r| **r != Register::None).map(|r| r.size());
    if size.unwrap_or(instruction.memory_displ_size() as usize) == 2 {
        op.address_mask = 0xffff;
    }
}

#[cfg(test)]
mod tests {
    use crate::flat::{Start, processor};
    use crate::model::{MAX, P6};

    /// Hardware: AMD EPYC.
    #[test]
    fn what_needs_a_sixteenth_byte_is_gp_and_what_is_wrong_before_it_is_ud() {
        let prefixed = |count: usize, prefix: u8, rest: &[u8]| [&vec![prefix; count][..], rest].concat();
        for (code, vector) in [
            (prefixed(14, 0x66, &[0x90, 0x90]), None),
            (prefixed(15, 0x66, &[0x90]), Some(13)),
            // BT with an immediate, ModRM and immediate being bytes 16 and 17; with LOCK too
            (prefixed(13, 0x3e, &[0x0f, 0xba, 0xe0, 0]), Some(13)),
            (prefixed(13, 0xf0, &[0x0f, 0xba, 0xe0, 0]), Some(13)),
            // LOCK ADD AX, [BP+SI+FFFFh] of 15 bytes, and of 16
            (prefixed(11, 0xf0, &[0x03, 0x82, 0xff, 0xff]), Some(6)),
            (prefixed(12, 0xf0, &[0x03, 0x82, 0xff, 0xff]), Some(13)),
            // no such opcode
            (prefixed(13, 0x3e, &[0x0f, 0x04, 0x90]), Some(6)),
            (prefixed(14, 0x3e, &[0x0f, 0x05]), Some(13)),
        ] {
            let mut processor = processor(Start::Real, &code, 0x1000, 0x10000);
            processor.run(1);
            let delivered = [6, 13].into_iter().find(|&vector| processor.cpu.deliveries[vector] != 0);
            assert_eq!(delivered, vector, "{code:02x?}");
        }
    }

    #[test]
    fn reserved_prefetches_do_nothing_where_prefetchw_is_known() {
        // 0F 0D /2
        let code = [0x0f, 0x0d, 0x10];
        for (model, runs) in [(MAX, true), (P6, false)] {
            let mut processor = processor(Start::Real, &code, 0x1000, 0x10000);
            processor.cpu.model = model;
            processor.run(1);
            assert_eq!(processor.cpu.deliveries[6], !runs as u64, "{}", model.name);
        }
    }
}
