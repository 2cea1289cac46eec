//! Which of iced-x86's opcodes are generated, and why the others are not.

use iced_x86::{Code, Mnemonic, OpCodeOperandKind as Kind};
use pagewalk_x86::execute::{Shape, is_implemented};

/// The r/m operand (or the only memory operand) can be memory, and it can be a register (or there is none).
pub(super) fn forms(code: Code) -> (bool, bool) {
    use Kind::*;
    let kinds = code.op_code().op_kinds();
    let memory = |kind: &Kind| matches!(kind, mem | mem_offs | mem_mpx | mem_mib);
    let either = |kind: &Kind| {
        matches!(
            kind,
            r8_or_mem
                | r16_or_mem
                | r32_or_mem
                | mm_or_mem
                | xmm_or_mem
                | r32_or_mem_mpx
                | r16_reg_mem
                | r32_reg_mem
        )
    };
    match (kinds.iter().any(memory), kinds.iter().any(either)) {
        (true, _) => (true, false),
        (_, both) => (both, true),
    }
}

/// Every opcode of 16- or 32-bit code.
fn all() -> impl Iterator<Item = Code> {
    Code::values().filter(|code| {
        let info = code.op_code();
        info.is_instruction() && (info.mode16() || info.mode32())
    })
}

/// Why the opcode is not generated; `None` if it is.
fn reason(code: Code) -> Option<&'static str> {
    if let Some(why) = reason_of(code.mnemonic()) {
        return Some(why);
    }
    let memory = forms(code).0;
    match code {
        Code::Popw_CS => Some("only the 8086 has it"),
        Code::Ud0 => Some("UD0 without ModRM: iced-x86 decodes the form with ModRM"),
        Code::Reservednop_rm16_r16_0F0D | Code::Reservednop_rm32_r32_0F0D => Some(
            "with a register: a reserved NOP on Intel's processors, #UD on AMD's; with memory: the prefetches",
        ),
        Code::Mov_r32_cr | Code::Mov_cr_r32 | Code::Mov_r32_dr | Code::Mov_dr_r32 => None,
        _ if !crate::MODEL.executes(code) => {
            Some("#UD in pagewalk: no processor model has it, or shows it yet")
        }
        _ if !is_implemented(Shape { code, memory }) => Some("pagewalk has no body for it yet"),
        _ => None,
    }
}

/// Instructions whose result natively is not the instruction's, or not the same twice.
fn reason_of(mnemonic: Mnemonic) -> Option<&'static str> {
    use Mnemonic::*;
    Some(match mnemonic {
        Cpuid => "tells the processor's model, which differs on purpose",
        Rdtsc | Rdtscp | Rdpmc => "reads a counter, which differs from run to run",
        Rdrand | Rdseed => "random by definition",
        Rcpps | Rcpss | Rsqrtps | Rsqrtss => "an approximation, by tables of the processor's own",
        F2xm1 | Fyl2x | Fyl2xp1 | Fptan | Fpatan | Fsin | Fcos | Fsincos => {
            "exact to one unit in the last place: the search over floating point compares it"
        }
        Rdpid => "tells the processor it runs on",
        Sysenter | Syscall => "would enter the host's kernel",
        Sysexit | Sysret => "#GP(0) on Intel's processors at CPL 3, #UD on AMD's in compatibility mode",
        Sgdt | Sidt | Sldt | Str | Smsw => "#GP(0) with CR4.UMIP at CPL 3, which Linux then emulates",
        _ => return None,
    })
}

/// The opcodes that are generated.
pub fn covered() -> Vec<Code> {
    all().filter(|&code| reason(code).is_none()).collect()
}

/// The opcodes that are not generated, each with the reason.
pub fn left_out() -> Vec<(Code, &'static str)> {
    all().filter_map(|code| Some((code, reason(code)?))).collect()
}
