//! What QEMU is known to do otherwise than the manual says, by name. `docs/qemu-deviations.md` lists the same for reading.
//!
//! Each deviation has a test that recognises it at work, and a way for our side to do as QEMU did, so that the run can go
//! on. What no test recognises is a difference, and ends the run. The tests look at the circumstances as narrowly as they
//! can, so that a fault of ours does not pass for one of QEMU's.

mod built_in;
mod debug;
mod instructions;
mod paging;
pub(super) mod segments;
mod system;
mod transfers;

pub use built_in::*;

use iced_x86::{Instruction, Mnemonic, Register};
use pagewalk_x86::cpu::Cpu;
use pagewalk_x86::fault::Fault;
use pagewalk_x86::flags;
use pagewalk_x86::observe::Cause;

use super::bus::FedBus;
use super::convert::flags_of;
use super::state::Field;
use super::watch::Watch;
use crate::qemu::dump::Dump;
use crate::qemu::stream::Delivery;

/// Our processor.
pub type OurCpu = Cpu<FedBus, Watch>;

/// Where the two part.
pub struct Scene<'a> {
    /// The instruction.
    pub instruction: &'a Instruction,
    /// Registers before it, the same in both.
    pub before: &'a Dump,
    /// Ours after it; where ours raises a fault, still before it.
    pub ours: &'a OurCpu,
    /// QEMU's after it; where QEMU raises an exception, still before that.
    pub theirs: &'a Dump,
}

impl Scene<'_> {
    /// Whether the instruction is one of these.
    fn is(&self, mnemonics: &[Mnemonic]) -> bool {
        mnemonics.contains(&self.instruction.mnemonic())
    }

    /// Protected mode without virtual-8086 mode, before the instruction.
    fn protected(&self) -> bool {
        self.before.cr[0] & 1 != 0 && self.before.eflags & flags::VM == 0
    }

    /// A far call, jump or return, an interrupt instruction, IRET.
    fn is_far(&self) -> bool {
        let instruction = self.instruction;
        instruction.is_call_far()
            || instruction.is_jmp_far()
            || instruction.is_call_far_indirect()
            || instruction.is_jmp_far_indirect()
            || self.is(&[Mnemonic::Retf, Mnemonic::Iret, Mnemonic::Iretd])
            || self.is_interrupt()
    }

    /// INT n and its kin.
    fn is_interrupt(&self) -> bool {
        self.is(&[Mnemonic::Int, Mnemonic::Int3, Mnemonic::Into, Mnemonic::Int1])
    }
}

/// Whether these are the only registers that differ, and all of them pass.
fn only(fields: &[Field], mut passes: impl FnMut(&Field) -> bool) -> bool {
    !fields.is_empty() && fields.iter().all(&mut passes)
}

/// The fault that a cause is.
fn fault_of(cause: Option<Cause>) -> Option<Fault> {
    match cause {
        Some(Cause::Fault(fault)) => Some(fault),
        _ => None,
    }
}

/// How our side does as QEMU did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Follow {
    /// Run the instruction again with segments that end nowhere and allow everything.
    WithoutSegmentChecks,
    /// Run the instruction again without alignment checks.
    WithoutAlignmentChecks,
    /// Take QEMU's registers: the instruction changes nothing else.
    TakeRegisters,
    /// Raise the exception that QEMU raised.
    TakeException,
    /// Stop QEMU and take its registers and memory as they are by then: a few instructions go by without comparison.
    TakeAll,
    /// Forget the debug trap that is due.
    DropTrap,
    /// QEMU cannot go on: the run ends here.
    End,
}

/// How a deviation is recognised, and followed.
pub enum Test {
    /// We raise this exception and QEMU lets the instruction pass.
    Passes(fn(&Scene<'_>, Cause) -> Option<Follow>),
    /// QEMU raises this exception, and we another or none.
    Raises(fn(&Scene<'_>, Option<Cause>, Delivery) -> Option<Follow>),
    /// These registers differ after the instruction.
    Registers(fn(&Scene<'_>, &Dump, &[Field]) -> Option<Follow>),
}

/// A deviation.
pub struct Known {
    /// Its name.
    pub name: &'static str,
    /// The manual's section.
    pub section: &'static str,
    /// What the manual says.
    pub manual: &'static str,
    /// What QEMU does.
    pub qemu: &'static str,
    /// How it is recognised; nothing for what the comparison itself takes care of.
    pub tests: &'static [Test],
}

/// Every deviation; those of single instructions first, since they are the narrowest.
pub fn all() -> impl Iterator<Item = &'static Known> {
    [BUILT_IN, instructions::LIST, segments::LIST, transfers::LIST, paging::LIST, system::LIST, debug::LIST]
        .into_iter()
        .flatten()
}

/// The deviation of this name.
pub fn find(name: &str) -> Option<&'static Known> {
    all().find(|known| known.name == name)
}

/// The name of the 32-bit register that an instruction's first operand is a part of.
fn destination(instruction: &Instruction) -> Option<&'static str> {
    Some(match instruction.op0_register().full_register32() {
        Register::EAX => "eax",
        Register::ECX => "ecx",
        Register::EDX => "edx",
        Register::EBX => "ebx",
        Register::ESP => "esp",
        Register::EBP => "ebp",
        Register::ESI => "esi",
        Register::EDI => "edi",
        _ => return None,
    })
}

/// The flags that an instruction leaves undefined, given the registers before it.
pub fn undefined_flags(instruction: &Instruction, before_ecx: u32) -> u32 {
    let bits = instruction.rflags_undefined();
    if bits == 0 {
        return 0;
    }
    // a shift by nothing leaves all flags alone
    let count = match instruction.mnemonic() {
        Mnemonic::Shl | Mnemonic::Shr | Mnemonic::Sar | Mnemonic::Sal | Mnemonic::Rol | Mnemonic::Ror => 1,
        Mnemonic::Rcl | Mnemonic::Rcr => 1,
        Mnemonic::Shld | Mnemonic::Shrd => 2,
        _ => 0,
    };
    if count != 0 {
        let by = match instruction.op_kind(count) {
            iced_x86::OpKind::Immediate8 => instruction.immediate8() as u32,
            _ => before_ecx & 0xff,
        };
        if by & 31 == 0 {
            return 0;
        }
    }
    flags_of(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_deviation_cites_the_manual() {
        for (n, known) in all().enumerate() {
            assert!(all().skip(n + 1).all(|other| other.name != known.name), "{}", known.name);
            assert!(
                known.section.contains('"') && known.section.starts_with(['1', '2', '3', '4', '8']),
                "{}",
                known.name
            );
        }
    }

    #[test]
    fn undefined_flags_are_those_of_the_manual() {
        let of = |bytes: &[u8], ecx| {
            let instruction =
                iced_x86::Decoder::with_ip(32, bytes, 0, iced_x86::DecoderOptions::NONE).decode();
            undefined_flags(&instruction, ecx)
        };
        // and eax, ecx; shl eax, 1; shl eax, 2; shl eax, cl
        assert_eq!(of(&[0x21, 0xc8], 0), flags::AF);
        assert_eq!(of(&[0xd1, 0xe0], 0), flags::AF);
        assert_eq!(of(&[0xc1, 0xe0, 2], 0), flags::AF | flags::OF);
        assert_eq!(of(&[0xd3, 0xe0], 0x20), 0);
        assert_eq!(of(&[0xd3, 0xe0], 3) & flags::AF, flags::AF);
    }
}
