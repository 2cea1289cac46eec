//! Single instructions: any of iced-x86's codes that has a body, with random operands, through iced-x86's encoder.

use std::sync::LazyLock;

use iced_x86::{Code, Encoder, FlowControl, Instruction, OpCodeOperandKind as Kind, OpKind, Register};
use pagewalk_x86::execute::{Shape, is_implemented};
use pagewalk_x86::model::MAX;
use pagewalk_x86::random::Random;

/// Every code with a body that goes on to the next instruction, in 16-bit and in 32-bit code.
static CODES: LazyLock<[Vec<Code>; 2]> = LazyLock::new(|| [16, 32].map(codes));

fn codes(bitness: u32) -> Vec<Code> {
    let wanted = |code: &Code| {
        let info = code.op_code();
        let available = if bitness == 32 { info.mode32() } else { info.mode16() };
        let goes_on = code.flow_control() == FlowControl::Next;
        let body = [true, false].into_iter().any(|memory| is_implemented(Shape { code: *code, memory }));
        available && info.is_instruction() && goes_on && MAX.executes(*code) && body
    };
    Code::values().filter(wanted).collect()
}

/// Offsets that memory operands like.
pub struct Offsets<'a> {
    /// One that mostly is good for something.
    pub any: &'a mut dyn FnMut(&mut Random) -> u32,
    /// A selector that mostly is.
    pub selector: &'a mut dyn FnMut(&mut Random) -> u16,
}

/// An instruction of any code.
pub fn any(random: &mut Random, bitness: u32, offsets: &mut Offsets<'_>) -> Vec<u8> {
    let codes = &CODES[(bitness == 32) as usize];
    loop {
        let code = random.pick(codes);
        if let Some(bytes) = of(random, code, bitness, offsets) {
            return bytes;
        }
    }
}

/// An instruction of this code, if it can be encoded.
fn of(random: &mut Random, code: Code, bitness: u32, offsets: &mut Offsets<'_>) -> Option<Vec<u8>> {
    let mut instruction = Instruction::default();
    instruction.set_code(code);
    for (n, &kind) in code.op_code().op_kinds().iter().enumerate() {
        operand(random, &mut instruction, n as u32, kind, bitness, offsets)?;
    }
    let memory = (0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory);
    if !is_implemented(Shape { code, memory }) {
        return None;
    }
    if random.once_in(12) {
        let segments = [Register::ES, Register::CS, Register::SS, Register::DS, Register::FS, Register::GS];
        instruction.set_segment_prefix(random.pick(&segments));
    }
    if random.once_in(if code.op_code().can_use_lock_prefix() { 4 } else { 200 }) {
        instruction.set_has_lock_prefix(true);
    }
    if instruction.is_string_instruction() && random.once_in(2) {
        instruction.set_has_rep_prefix(true);
    }
    let mut encoder = Encoder::new(bitness);
    encoder.encode(&instruction, 0).ok()?;
    Some(encoder.take_buffer())
}

/// A register of the eight: mostly one that no address is made of, and hardly ever the stack pointer.
fn number(random: &mut Random, first: Register) -> Register {
    let is_byte = first == Register::AL;
    first
        + match random.below(32) {
            0 => random.below(8),
            1..10 => random.pick(if is_byte { &[3, 7, 7, 3] } else { &[3, 5, 6, 7] }),
            _ => random.pick(if is_byte { &[0, 1, 2, 4, 5, 6] } else { &[0, 1, 2] }),
        }
}

fn memory(
    random: &mut Random,
    instruction: &mut Instruction,
    n: u32,
    bitness: u32,
    offsets: &mut Offsets<'_>,
) {
    instruction.set_op_kind(n, OpKind::Memory);
    let wide = (bitness == 32) != random.once_in(16);
    let small = random.pick(&[0u32, 1, 2, 3, 4, 8, 0x7f, 0xffff_ff80, 0xffff_fffc, 0xffff_ffff]);
    if random.once_in(3) {
        instruction.set_memory_displacement64((offsets.any)(random) as u64 & if wide { !0 } else { 0xffff });
        instruction.set_memory_displ_size(if wide { 4 } else { 2 });
        return;
    }
    if wide {
        let usual =
            [Register::EBX, Register::EBP, Register::ESI, Register::EDI, Register::EBX, Register::ESP];
        let base = if random.once_in(8) { number(random, Register::EAX) } else { random.pick(&usual) };
        instruction.set_memory_base(base);
        if random.once_in(10) {
            let index = random.pick(&[Register::EAX, Register::ECX, Register::EDX, Register::EBP]);
            instruction.set_memory_index(index);
            instruction.set_memory_index_scale(1 << random.below(4));
        }
        instruction.set_memory_displacement64(small as u64);
        instruction.set_memory_displ_size(1);
    } else {
        let (base, index) = random.pick(&[
            (Register::BX, Register::SI),
            (Register::BP, Register::DI),
            (Register::BX, Register::None),
            (Register::BX, Register::None),
            (Register::SI, Register::None),
            (Register::DI, Register::None),
            (Register::BP, Register::None),
        ]);
        instruction.set_memory_base(base);
        instruction.set_memory_index(index);
        instruction.set_memory_displacement64(small as u64 & 0xffff);
        instruction.set_memory_displ_size(1);
    }
}

/// Sets operand `n`; nothing for a kind that goes elsewhere.
fn operand(
    random: &mut Random,
    instruction: &mut Instruction,
    n: u32,
    kind: Kind,
    bitness: u32,
    offsets: &mut Offsets<'_>,
) -> Option<()> {
    let in_memory = random.flag();
    let wide = (bitness == 32) != random.once_in(8);
    let (string_source, string_dest) = if wide {
        (OpKind::MemorySegESI, OpKind::MemoryESEDI)
    } else {
        (OpKind::MemorySegSI, OpKind::MemoryESDI)
    };
    let is_enter = matches!(instruction.code(), Code::Enterw_imm16_imm8 | Code::Enterd_imm16_imm8);
    let register = match kind {
        Kind::mem => {
            memory(random, instruction, n, bitness, offsets);
            return Some(());
        }
        Kind::r8_or_mem | Kind::r16_or_mem | Kind::r32_or_mem if in_memory => {
            memory(random, instruction, n, bitness, offsets);
            return Some(());
        }
        Kind::mem_offs => {
            instruction.set_op_kind(n, OpKind::Memory);
            let mask = if wide { !0 } else { 0xffff };
            instruction.set_memory_displacement64((offsets.any)(random) as u64 & mask);
            instruction.set_memory_displ_size(if wide { 4 } else { 2 });
            return Some(());
        }
        Kind::seg_rSI => {
            instruction.set_op_kind(n, string_source);
            return Some(());
        }
        Kind::es_rDI => {
            instruction.set_op_kind(n, string_dest);
            return Some(());
        }
        Kind::seg_rBX_al => {
            instruction.set_op_kind(n, OpKind::Memory);
            instruction.set_memory_base(if wide { Register::EBX } else { Register::BX });
            instruction.set_memory_index(Register::AL);
            return Some(());
        }
        Kind::imm8 if is_enter => {
            instruction.set_op_kind(n, OpKind::Immediate8_2nd);
            instruction.set_immediate8_2nd(random.below(4) as u8);
            return Some(());
        }
        Kind::imm8 => {
            instruction.set_op_kind(n, OpKind::Immediate8);
            instruction.set_immediate8(random.dword() as u8);
            return Some(());
        }
        Kind::imm8_const_1 => {
            instruction.set_op_kind(n, OpKind::Immediate8);
            instruction.set_immediate8(1);
            return Some(());
        }
        Kind::imm8sex16 => {
            instruction.set_op_kind(n, OpKind::Immediate8to16);
            instruction.set_immediate8to16(random.dword() as i8 as i16);
            return Some(());
        }
        Kind::imm8sex32 => {
            instruction.set_op_kind(n, OpKind::Immediate8to32);
            instruction.set_immediate8to32(random.dword() as i8 as i32);
            return Some(());
        }
        Kind::imm16 => {
            instruction.set_op_kind(n, OpKind::Immediate16);
            let value = if is_enter { random.below(32) as u16 } else { (offsets.selector)(random) };
            instruction.set_immediate16(value);
            return Some(());
        }
        Kind::imm32 => {
            instruction.set_op_kind(n, OpKind::Immediate32);
            instruction.set_immediate32((offsets.any)(random));
            return Some(());
        }
        Kind::r8_or_mem | Kind::r8_reg | Kind::r8_opcode => number(random, Register::AL),
        Kind::r16_or_mem | Kind::r16_rm | Kind::r16_reg | Kind::r16_opcode => number(random, Register::AX),
        Kind::r32_or_mem | Kind::r32_rm | Kind::r32_reg | Kind::r32_opcode | Kind::r32_vvvv => {
            number(random, Register::EAX)
        }
        Kind::seg_reg => Register::ES + random.below(6),
        Kind::es => Register::ES,
        Kind::cs => Register::CS,
        Kind::ss => Register::SS,
        Kind::ds => Register::DS,
        Kind::fs => Register::FS,
        Kind::gs => Register::GS,
        Kind::cr_reg => random.pick(&[Register::CR0, Register::CR2, Register::CR3, Register::CR4]),
        Kind::dr_reg => Register::DR0 + random.below(8),
        Kind::al => Register::AL,
        Kind::ax => Register::AX,
        Kind::eax => Register::EAX,
        Kind::cl => Register::CL,
        Kind::dx => Register::DX,
        Kind::st0 => Register::ST0,
        Kind::sti_opcode => Register::ST0 + random.below(8),
        _ => return None,
    };
    instruction.set_op_register(n, register);
    Some(())
}
