//! How an opcode is encoded in a code segment of one size, with an r/m operand of one kind, read from iced-x86's tables
//! once; and what has to be prepared for it.

use iced_x86::{Code, EncodingKind, FlowControl, MandatoryPrefix, Mnemonic};
use iced_x86::{OpCodeOperandKind as Kind, OpCodeTableKind as Table};

use super::codes;

/// What an instruction needs besides operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    Plain,
    Shift,
    Multiply,
    Divide,
    Decimal,
    CompareExchange,
    CompareExchange8,
    /// BT and its kin with the bit offset in a register.
    BitString,
    /// Writes to the stack, or reads from it, and nothing else.
    Push,
    Pop,
    PopFlags,
    PopSegment,
    Enter,
    Leave,
    String,
    Xlat,
    Bound,
    /// Near transfers: to a displacement, to an operand, to what the stack holds.
    Relative,
    NearIndirect,
    NearReturn,
    FarDirect,
    FarIndirect,
    FarReturn,
    InterruptReturn,
    Interrupt,
    LoadSegment,
    LoadFarPointer,
    /// LAR, LSL, VERR, VERW, ARPL.
    Query,
    /// Needs a privilege that programs do not have.
    Refused,
    /// Does not touch the memory operand it has.
    Hint,
    X87,
    Vector,
    /// MASKMOVQ, MASKMOVDQU: to where EDI points.
    MaskMove,
    /// Strings in registers, with their lengths in EAX and EDX.
    TextCompare,
}

/// The reg field of ModRM, or the register in the opcode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    /// Part of the opcode.
    Digit(u8),
    /// A register number, any of eight.
    Register,
    /// A segment register.
    Segment,
}

/// Where ModRM is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ModRm {
    None,
    /// The r/m field is an operand.
    Operand(Field),
    /// There is no ModRM, but the low bits of the opcode are a register.
    InOpcode,
}

/// An immediate operand, by its size in the code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Immediate {
    Byte,
    Word,
    Dword,
    /// Displacement of a branch, in so many bytes.
    Displacement(u8),
    /// Offset (of so many bytes) and selector.
    Far(u8),
    /// The address of a memory operand, of the address size.
    Moffs,
}

/// The VEX prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Vex {
    pub map: u8,
    pub pp: u8,
    pub l: u8,
    pub w: bool,
    /// W may be either.
    pub any_w: bool,
    pub uses_vvvv: bool,
}

/// A way to encode an opcode.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pub code: Code,
    pub mnemonic: Mnemonic,
    /// In 32-bit code (else 16-bit).
    pub big: bool,
    pub class: Class,
    /// Has an operand size.
    pub sized: bool,
    /// Needs an operand-size prefix in such code.
    pub operand_prefix: bool,
    /// 66, F3 or F2 as part of the opcode, else 0.
    pub mandatory: u8,
    /// The operand size is 16 bits.
    pub operand16: bool,
    /// The address size, where the opcode has one.
    pub address: Option<u8>,
    pub opcode: [u8; 4],
    pub opcode_length: u8,
    pub vex: Option<Vex>,
    pub modrm: ModRm,
    /// The r/m operand is memory (or there is a memory operand in the opcode).
    pub memory: bool,
    pub immediates: [Option<Immediate>; 2],
    /// Bytes of the memory operand.
    pub size: u16,
    /// Bytes of the operands as registers.
    pub width: u8,
    pub lockable: bool,
    pub repeatable: bool,
    pub x87: bool,
    pub vector: bool,
}

impl Template {
    /// The templates of an opcode.
    pub fn all(code: Code) -> Vec<Template> {
        let (memory, register) = codes::forms(code);
        let info = code.op_code();
        let mut templates = Vec::new();
        for big in [true, false] {
            if if big { info.mode32() } else { info.mode16() } {
                for form in [(memory, true), (register, false)] {
                    templates.extend(form.0.then(|| Template::new(code, big, form.1)).flatten());
                }
            }
        }
        templates
    }

    fn new(code: Code, big: bool, memory: bool) -> Option<Template> {
        let info = code.op_code();
        let mut opcode = Vec::new();
        let vex = (info.encoding() == EncodingKind::VEX).then(|| vex_of(code));
        if vex.is_none() {
            match info.table() {
                Table::Normal => {}
                Table::T0F => opcode.extend([0x0f]),
                Table::T0F38 => opcode.extend([0x0f, 0x38]),
                Table::T0F3A => opcode.extend([0x0f, 0x3a]),
                _ => return None,
            }
        }
        let bytes = info.op_code().to_be_bytes();
        opcode.extend(&bytes[4 - info.op_code_len() as usize..]);
        let opcode_length = opcode.len() as u8;
        opcode.resize(4, 0);

        let kinds = info.op_kinds();
        let operand16 = info.operand_size() == 16;
        let mandatory = match info.mandatory_prefix() {
            MandatoryPrefix::P66 => 0x66,
            MandatoryPrefix::PF3 => 0xf3,
            MandatoryPrefix::PF2 => 0xf2,
            _ => 0,
        };
        let mut template = Template {
            code,
            mnemonic: code.mnemonic(),
            big,
            class: class_of(code, memory),
            sized: info.operand_size() != 0 || mandatory == 0x66,
            operand_prefix: info.operand_size() != 0 && operand16 == big,
            mandatory: if vex.is_some() { 0 } else { mandatory },
            operand16,
            address: (info.address_size() != 0).then_some(info.address_size() as u8),
            opcode: [opcode[0], opcode[1], opcode[2], opcode[3]],
            opcode_length,
            vex,
            modrm: modrm_of(code),
            memory,
            immediates: [None; 2],
            size: size_of(code),
            width: kinds.iter().map(width_of).max().unwrap_or(0),
            lockable: memory && info.can_use_lock_prefix(),
            repeatable: info.can_use_rep_prefix() || info.can_use_repne_prefix(),
            x87: is_x87(code),
            vector: kinds.iter().any(|kind| is_vector(*kind)) || is_vector_state(code),
        };
        let immediates = kinds.iter().filter_map(|&kind| immediate_of(kind));
        for (slot, immediate) in template.immediates.iter_mut().zip(immediates) {
            *slot = Some(immediate);
        }
        Some(template)
    }

    /// The opcode's bytes.
    pub fn opcode(&self) -> &[u8] {
        &self.opcode[..self.opcode_length as usize]
    }

    /// How often it is picked, relative to others: what always faults, seldom.
    pub fn weight(&self) -> usize {
        match self.class {
            Class::Refused | Class::Interrupt => 1,
            Class::FarDirect | Class::FarIndirect | Class::FarReturn | Class::InterruptReturn => 8,
            Class::LoadSegment | Class::LoadFarPointer | Class::PopSegment | Class::Query => 6,
            Class::String | Class::Enter | Class::CompareExchange8 | Class::Bound | Class::Pop => 8,
            _ => 4,
        }
    }
}

fn vex_of(code: Code) -> Vex {
    let info = code.op_code();
    Vex {
        map: match info.table() {
            Table::T0F => 1,
            Table::T0F38 => 2,
            _ => 3,
        },
        pp: match info.mandatory_prefix() {
            MandatoryPrefix::P66 => 1,
            MandatoryPrefix::PF3 => 2,
            MandatoryPrefix::PF2 => 3,
            _ => 0,
        },
        l: info.l() as u8,
        w: info.w() == 1,
        any_w: info.is_wig() || info.is_wig32(),
        uses_vvvv: info
            .op_kinds()
            .iter()
            .any(|kind| matches!(kind, Kind::r32_vvvv | Kind::xmm_vvvv | Kind::ymm_vvvv)),
    }
}

fn is_x87(code: Code) -> bool {
    use iced_x86::CpuidFeature::{FPU, FPU287, FPU387};
    code.cpuid_features().iter().any(|feature| matches!(feature, FPU | FPU287 | FPU387))
}

/// Without a register operand, but about such registers.
fn is_vector_state(code: Code) -> bool {
    use Mnemonic::*;
    matches!(code.mnemonic(), Emms | Ldmxcsr | Stmxcsr | Fxsave | Fxrstor)
}

fn is_vector(kind: Kind) -> bool {
    use Kind::*;
    matches!(
        kind,
        mm_reg | mm_rm | mm_or_mem | xmm_reg | xmm_rm | xmm_or_mem | xmm_vvvv | ymm_reg | ymm_rm | ymm_or_mem
    )
}

fn modrm_of(code: Code) -> ModRm {
    use Kind::*;
    let info = code.op_code();
    let kinds = info.op_kinds();
    let has = |wanted: &[Kind]| kinds.iter().any(|kind| wanted.contains(kind));
    if has(&[r8_opcode, r16_opcode, r32_opcode, sti_opcode]) {
        return ModRm::InOpcode;
    }
    let rm = has(&[
        mem,
        mem_mib,
        mem_mpx,
        r8_or_mem,
        r16_or_mem,
        r32_or_mem,
        r32_or_mem_mpx,
        r16_reg_mem,
        r32_reg_mem,
        mm_or_mem,
        xmm_or_mem,
        ymm_or_mem,
        r16_rm,
        r32_rm,
        mm_rm,
        xmm_rm,
        ymm_rm,
    ]);
    if info.is_group() {
        return ModRm::Operand(Field::Digit(info.group_index() as u8));
    }
    if !rm {
        return ModRm::None;
    }
    ModRm::Operand(if has(&[seg_reg]) { Field::Segment } else { Field::Register })
}

fn immediate_of(kind: Kind) -> Option<Immediate> {
    use Kind::*;
    Some(match kind {
        imm8 | imm8sex16 | imm8sex32 => Immediate::Byte,
        imm16 => Immediate::Word,
        imm32 => Immediate::Dword,
        br16_1 | br32_1 => Immediate::Displacement(1),
        br16_2 => Immediate::Displacement(2),
        br32_4 => Immediate::Displacement(4),
        farbr2_2 => Immediate::Far(2),
        farbr4_2 => Immediate::Far(4),
        mem_offs => Immediate::Moffs,
        _ => return Option::None,
    })
}

fn width_of(kind: &Kind) -> u8 {
    use Kind::*;
    match kind {
        r8_or_mem | r8_reg | r8_opcode | al | cl => 1,
        r16_or_mem | r16_reg | r16_reg_mem | r16_rm | r16_opcode | ax | seg_reg => 2,
        r32_or_mem | r32_reg | r32_reg_mem | r32_rm | r32_opcode | r32_vvvv | eax => 4,
        _ => 0,
    }
}

fn size_of(code: Code) -> u16 {
    let size = code.op_code().memory_size().size();
    match code {
        Code::Fldenv_m14byte | Code::Fnstenv_m14byte => 14,
        Code::Fldenv_m28byte | Code::Fnstenv_m28byte => 28,
        Code::Frstor_m94byte | Code::Fnsave_m94byte => 94,
        Code::Frstor_m108byte | Code::Fnsave_m108byte => 108,
        Code::Fxsave_m512byte | Code::Fxrstor_m512byte => 512,
        _ => size.clamp(1, 255) as u16,
    }
}

fn class_of(code: Code, memory: bool) -> Class {
    use Mnemonic::*;
    let info = code.op_code();
    let bit_in_register = matches!(info.try_op_kind(1), Ok(Kind::r16_reg | Kind::r32_reg));
    if is_x87(code) {
        return Class::X87;
    }
    if !info.cpl3() || info.is_input_output() {
        return Class::Refused;
    }
    match code.mnemonic() {
        Rol | Ror | Rcl | Rcr | Shl | Sal | Shr | Sar | Shld | Shrd | Rorx | Sarx | Shlx | Shrx | Bextr
        | Bzhi => Class::Shift,
        Mul | Imul | Mulx => Class::Multiply,
        Div | Idiv => Class::Divide,
        Daa | Das | Aaa | Aas | Aam | Aad => Class::Decimal,
        Cmpxchg => Class::CompareExchange,
        Cmpxchg8b => Class::CompareExchange8,
        Bt | Bts | Btr | Btc if memory && bit_in_register => Class::BitString,
        Popf | Popfd => Class::PopFlags,
        Pop if code.op_code().op_kinds().iter().any(|kind| is_segment(*kind)) => Class::PopSegment,
        Pop | Popa | Popad => Class::Pop,
        Push | Pusha | Pushad | Pushf | Pushfd => Class::Push,
        Enter => Class::Enter,
        Leave => Class::Leave,
        Xlatb => Class::Xlat,
        Bound => Class::Bound,
        Int | Int1 | Int3 | Into => Class::Interrupt,
        Iret | Iretd => Class::InterruptReturn,
        Retf => Class::FarReturn,
        Ret => Class::NearReturn,
        Lds | Les | Lfs | Lgs | Lss => Class::LoadFarPointer,
        Lar | Lsl | Verr | Verw | Arpl => Class::Query,
        Mov if matches!(info.try_op_kind(0), Ok(Kind::seg_reg)) => Class::LoadSegment,
        Cli | Sti => Class::Refused,
        Lea => Class::Hint,
        _ if info.is_nop() || info.is_reserved_nop() || is_prefetch(code) => Class::Hint,
        Maskmovq | Maskmovdqu => Class::MaskMove,
        Pcmpestri | Pcmpestrm => Class::TextCompare,
        _ if is_vector_state(code) => Class::Vector,
        _ if info.op_kinds().iter().any(|kind| is_vector(*kind)) => Class::Vector,
        _ if info.op_kinds().iter().any(|k| matches!(k, Kind::seg_rSI | Kind::es_rDI)) => Class::String,
        _ => class_of_transfer(code, memory),
    }
}

fn class_of_transfer(code: Code, memory: bool) -> Class {
    let info = code.op_code();
    let near = |immediate| matches!(immediate, Some(Immediate::Displacement(_)));
    if info.op_kinds().iter().any(|&kind| near(immediate_of(kind))) {
        return Class::Relative;
    }
    match code.flow_control() {
        FlowControl::Next => Class::Plain,
        _ if matches!(info.try_op_kind(0), Ok(Kind::farbr2_2 | Kind::farbr4_2)) => Class::FarDirect,
        FlowControl::IndirectBranch | FlowControl::IndirectCall => {
            let far = memory && matches!(info.try_op_kind(0), Ok(Kind::mem));
            if far { Class::FarIndirect } else { Class::NearIndirect }
        }
        _ => Class::Plain,
    }
}

fn is_prefetch(code: Code) -> bool {
    let features = code.cpuid_features();
    code.op_code().memory_size().size() == 1
        && (features.contains(&iced_x86::CpuidFeature::PREFETCHW)
            || features.contains(&iced_x86::CpuidFeature::SSE))
}

fn is_segment(kind: Kind) -> bool {
    use Kind::*;
    matches!(kind, es | cs | ss | ds | fs | gs | seg_reg)
}
