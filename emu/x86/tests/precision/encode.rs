//! One instruction for each of iced-x86's codes and forms.

use iced_x86::{Code, Encoder, Instruction, Mnemonic, OpCodeOperandKind as Kind, OpKind, Register};

use crate::world::{DATA, HANDLER};

/// An instruction to test.
#[derive(Clone)]
pub struct Case {
    /// What it is.
    pub instruction: Instruction,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The operand of memory form: EBX or BX points at it.
fn memory(instruction: &mut Instruction, n: u32, bitness: u32) {
    instruction.set_op_kind(n, OpKind::Memory);
    instruction.set_memory_base(if bitness == 32 { Register::EBX } else { Register::BX });
}

/// Number 2 in the reg field, 0 as r/m; and what the opcode implies.
fn register(kind: Kind) -> Option<Register> {
    Some(match kind {
        Kind::r8_or_mem => Register::AL,
        Kind::r16_or_mem | Kind::r16_rm => Register::AX,
        Kind::r32_or_mem | Kind::r32_rm => Register::EAX,
        Kind::r8_reg | Kind::r8_opcode => Register::DL,
        Kind::r16_reg | Kind::r16_opcode => Register::DX,
        Kind::r32_reg | Kind::r32_opcode => Register::EDX,
        Kind::mm_or_mem | Kind::mm_rm => Register::MM0,
        Kind::xmm_or_mem | Kind::xmm_rm => Register::XMM0,
        Kind::mm_reg => Register::MM2,
        Kind::xmm_reg => Register::XMM2,
        Kind::r32_vvvv => Register::ECX,
        Kind::seg_reg | Kind::es => Register::ES,
        Kind::cs => Register::CS,
        Kind::ss => Register::SS,
        Kind::ds => Register::DS,
        Kind::fs => Register::FS,
        Kind::gs => Register::GS,
        Kind::cr_reg => Register::CR0,
        Kind::dr_reg => Register::DR0,
        Kind::al => Register::AL,
        Kind::ax => Register::AX,
        Kind::eax => Register::EAX,
        Kind::cl => Register::CL,
        Kind::dx => Register::DX,
        Kind::sti_opcode => Register::ST1,
        Kind::st0 => Register::ST0,
        _ => return None,
    })
}

/// Sets operand `n`; false for a kind that no instruction here has.
fn operand(
    instruction: &mut Instruction,
    n: u32,
    kind: Kind,
    bitness: u32,
    in_memory: bool,
    selector: u16,
) -> bool {
    let (string_source, string_dest) = if bitness == 32 {
        (OpKind::MemorySegESI, OpKind::MemoryESEDI)
    } else {
        (OpKind::MemorySegSI, OpKind::MemoryESDI)
    };
    let is_enter = matches!(instruction.code(), Code::Enterw_imm16_imm8 | Code::Enterd_imm16_imm8);
    let is_reserved = instruction.mnemonic() == Mnemonic::Reservednop;
    match kind {
        Kind::r8_or_mem
        | Kind::r16_or_mem
        | Kind::r32_or_mem
        | Kind::mm_or_mem
        | Kind::xmm_or_mem
        | Kind::mem
            if in_memory =>
        {
            memory(instruction, n, bitness);
        }
        Kind::mem_offs => {
            instruction.set_op_kind(n, OpKind::Memory);
            instruction.set_memory_displacement64(DATA as u64);
            instruction.set_memory_displ_size(bitness / 8);
        }
        Kind::seg_rSI => instruction.set_op_kind(n, string_source),
        Kind::es_rDI => instruction.set_op_kind(n, string_dest),
        Kind::seg_rDI if bitness == 32 => instruction.set_op_kind(n, OpKind::MemorySegEDI),
        Kind::seg_rDI => instruction.set_op_kind(n, OpKind::MemorySegDI),
        Kind::seg_rBX_al => {
            memory(instruction, n, bitness);
            instruction.set_memory_index(Register::AL);
        }
        Kind::imm8 if is_enter => {
            instruction.set_op_kind(n, OpKind::Immediate8_2nd);
            instruction.set_immediate8_2nd(2);
        }
        Kind::imm8 => {
            instruction.set_op_kind(n, OpKind::Immediate8);
            instruction.set_immediate8(4);
        }
        Kind::imm8_const_1 => {
            instruction.set_op_kind(n, OpKind::Immediate8);
            instruction.set_immediate8(1);
        }
        Kind::imm8sex16 => {
            instruction.set_op_kind(n, OpKind::Immediate8to16);
            instruction.set_immediate8to16(5);
        }
        Kind::imm8sex32 => {
            instruction.set_op_kind(n, OpKind::Immediate8to32);
            instruction.set_immediate8to32(5);
        }
        Kind::imm16 => {
            instruction.set_op_kind(n, OpKind::Immediate16);
            instruction.set_immediate16(8);
        }
        Kind::imm32 => {
            instruction.set_op_kind(n, OpKind::Immediate32);
            instruction.set_immediate32(0x1234);
        }
        Kind::br16_1 | Kind::br16_2 => {
            instruction.set_op_kind(n, OpKind::NearBranch16);
            instruction.set_near_branch16(HANDLER as u16);
        }
        Kind::br32_1 | Kind::br32_4 => {
            instruction.set_op_kind(n, OpKind::NearBranch32);
            instruction.set_near_branch32(HANDLER);
        }
        Kind::farbr2_2 => {
            instruction.set_op_kind(n, OpKind::FarBranch16);
            instruction.set_far_branch16(HANDLER as u16);
            instruction.set_far_branch_selector(selector);
        }
        Kind::farbr4_2 => {
            instruction.set_op_kind(n, OpKind::FarBranch32);
            instruction.set_far_branch32(HANDLER);
            instruction.set_far_branch_selector(selector);
        }
        // numbers that have not become prefetches
        Kind::r16_reg if is_reserved => instruction.set_op_register(n, Register::BP),
        Kind::r32_reg if is_reserved => instruction.set_op_register(n, Register::EBP),
        kind => match register(kind) {
            Some(register) => instruction.set_op_register(n, register),
            None => return false,
        },
    }
    true
}

/// The code as an instruction at `at`, or what is wrong with it. `selector` is that of a far branch.
pub fn encode(
    code: Code,
    bitness: u32,
    in_memory: bool,
    rep: bool,
    selector: u16,
    at: u32,
) -> Result<Case, String> {
    let mut instruction = Instruction::default();
    instruction.set_code(code);
    for (n, &kind) in code.op_code().op_kinds().iter().enumerate() {
        if !operand(&mut instruction, n as u32, kind, bitness, in_memory, selector) {
            return Err(format!("operand kind {kind:?}"));
        }
    }
    if rep {
        instruction.set_has_rep_prefix(true);
    }
    let mut encoder = Encoder::new(bitness);
    encoder.encode(&instruction, at as u64).map_err(|error| error.to_string())?;
    let bytes = encoder.take_buffer();
    let mut decoder =
        iced_x86::Decoder::with_ip(bitness, &bytes, at as u64, iced_x86::DecoderOptions::NO_WBNOINVD);
    let instruction = decoder.decode();
    // of these, the forms with memory are prefetches
    let is_0f0d = matches!(code, Code::Reservednop_rm16_r16_0F0D | Code::Reservednop_rm32_r32_0F0D);
    if instruction.code() != code && !is_0f0d {
        return Err(format!("decoded as {:?}", instruction.code()));
    }
    Ok(Case { instruction, bytes })
}
