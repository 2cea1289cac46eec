//! What QEMU is known to do otherwise than the manual says, by name. `docs/qemu.md` lists the same for reading.
//!
//! Each deviation has a test that recognises it at work, and a way for our side to do as QEMU did, so that the run can go
//! on. What no test recognises is a difference, and ends the run.

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register, UsedMemory};
use pagewalk_x86::cpu::Cpu;
use pagewalk_x86::fault::Fault;
use pagewalk_x86::flags;
use pagewalk_x86::observe::Cause;

use super::bus::FedBus;
use super::state::Field;
use super::watch::Watch;
use crate::qemu::dump::{Dump, Hidden};
use crate::qemu::stream::Delivery;

/// Our processor.
pub type OurCpu = Cpu<FedBus, Watch>;

/// Where the two part.
pub struct Scene<'a> {
    /// The instruction.
    pub instruction: &'a Instruction,
    /// Registers before it, the same in both.
    pub before: &'a Dump,
    /// Ours after it.
    pub ours: &'a OurCpu,
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
    /// QEMU cannot go on: the run ends here.
    End,
}

/// How a deviation is recognised, and followed.
pub enum Test {
    /// We raise this exception and QEMU lets the instruction pass.
    Passes(fn(&Scene<'_>, Fault) -> Option<Follow>),
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

/// RF in the flags that a fault saves.
pub const RF_SAVED: &str = "rf-in-saved-eflags";
/// RF between the iterations of a repeated instruction.
pub const RF_REPEATED: &str = "rf-between-iterations";
/// The last look of a repeated instruction at ECX.
pub const LAST_LOOK: &str = "repeated-instruction-looks-once-more";
/// The accessed bit of a descriptor.
pub const ACCESSED: &str = "descriptor-accessed-bit";
/// The busy bit in TR's hidden part.
pub const BUSY: &str = "tr-hidden-busy-bit";
/// Accessed and dirty bits in page tables.
pub const PAGE_BITS: &str = "page-table-bits-timing";

/// Every deviation.
pub const ALL: &[Known] = &[
    Known {
        name: RF_SAVED,
        section: "3B \"Instruction-Breakpoint Exception Condition\"",
        manual: "the EFLAGS that a fault saves have RF set",
        qemu: "saves them with RF as it is, clear as a rule",
        tests: &[],
    },
    Known {
        name: RF_REPEATED,
        section: "3B \"Instruction-Breakpoint Exception Condition\"",
        manual: "between two iterations of a repeated string instruction, an exception or interrupt saves RF set",
        qemu: "saves RF clear",
        tests: &[],
    },
    Known {
        name: LAST_LOOK,
        section: "2B \"REP/REPE/REPZ/REPNE/REPNZ\"",
        manual: "the instruction ends with the iteration that brings the count to zero",
        qemu: "goes back to the instruction once more and finds the count zero, so an interrupt may come before that",
        tests: &[],
    },
    Known {
        name: ACCESSED,
        section: "3A \"Code- and Data-Segment Descriptor Types\"",
        manual: "whenever a segment is loaded into a segment register, its descriptor's accessed bit is set",
        qemu: "far transfers and task switches leave it clear",
        tests: &[],
    },
    Known {
        name: BUSY,
        section: "2A \"LTR\", Operation",
        manual: "LTR marks the TSS busy and loads its descriptor; the type in TR is then that of a busy TSS",
        qemu: "marks it in memory, and keeps the type of before in TR, where no instruction can see it",
        tests: &[],
    },
    Known {
        name: PAGE_BITS,
        section: "3A \"Accessed and Dirty Flags\"",
        manual: "set whenever an entry is used for a translation; when a cached translation is used again is up to the processor",
        qemu: "its TLB holds more and other entries, so the bits are set at other times",
        tests: &[],
    },
    Known {
        name: "segment-checks",
        section: "3A \"Limit Checking\", \"Type Checking\", \"Null Segment Selector Checking\"",
        manual: "an access beyond a segment's limit, against its type or through a null selector is #GP(0), or #SS(0) in SS",
        qemu: "checks neither limit nor type nor null selectors when memory is accessed",
        tests: &[
            Test::Passes(|scene, fault| {
                segment_fault(scene, Some(Cause::Fault(fault))).then_some(Follow::WithoutSegmentChecks)
            }),
            Test::Raises(|scene, ours, _| segment_fault(scene, ours).then_some(Follow::TakeException)),
        ],
    },
    Known {
        name: "alignment",
        section: "3A \"Alignment Check Exception (#AC)\"",
        manual: "a misaligned access at CPL 3 with CR0.AM and EFLAGS.AC set is #AC(0)",
        qemu: "checks no alignment",
        tests: &[
            Test::Passes(|_, fault| (fault == Fault::Alignment).then_some(Follow::WithoutAlignmentChecks)),
            Test::Raises(|_, ours, _| {
                (ours == Some(Cause::Fault(Fault::Alignment))).then_some(Follow::TakeException)
            }),
        ],
    },
    Known {
        name: "undefined-destination",
        section: "2A \"BSF\", \"BSR\", \"BSWAP\"; 2B \"SHLD\", \"SHRD\"",
        manual: "a source of zero, a 16-bit operand, a count beyond the operand's size: the destination is undefined",
        qemu: "has its own value there",
        tests: &[Test::Registers(|scene, _, fields| {
            let mnemonic = scene.instruction.mnemonic();
            let may = matches!(
                mnemonic,
                Mnemonic::Bsf | Mnemonic::Bsr | Mnemonic::Bswap | Mnemonic::Shld | Mnemonic::Shrd
            );
            let only = fields.iter().all(|field| Some(field.name.as_str()) == register_of(scene.instruction));
            (may && only).then_some(Follow::TakeRegisters)
        })],
    },
];

/// The deviation of this name.
pub fn find(name: &str) -> Option<&'static Known> {
    ALL.iter().find(|known| known.name == name)
}

/// Whether ours is #GP(0) or #SS(0), and the instruction does access memory against the rules of its segments.
fn segment_fault(scene: &Scene<'_>, ours: Option<Cause>) -> bool {
    matches!(ours, Some(Cause::Fault(Fault::GeneralProtection(0) | Fault::Stack(0))))
        && breaks_segment_rules(scene)
}

/// The accesses of an instruction against its segments, by a second, plain reading of the manual's rules.
fn breaks_segment_rules(scene: &Scene<'_>) -> bool {
    let before = scene.before;
    // the flat-mode rules do not hold where every segment is real
    let protected = before.cr[0] & 1 != 0 && before.eflags & flags::VM == 0;
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(scene.instruction);
    let code_16 = before.segs[1].attributes & 0x4000 == 0;
    let end = scene.instruction.next_ip32().wrapping_sub(1);
    if outside(&before.segs[1], if code_16 { end & 0xffff } else { end }, 1) {
        return true;
    }
    info.used_memory().iter().any(|memory| {
        let number = match memory.segment() {
            Register::ES => 0,
            Register::CS => 1,
            Register::SS => 2,
            Register::DS => 3,
            Register::FS => 4,
            Register::GS => 5,
            _ => return false,
        };
        let segment = &before.segs[number];
        let Some(offset) = offset_of(memory, before) else { return true };
        let bytes = match memory.memory_size().size() as u32 {
            // a far pointer's size, a frame's: at least a byte
            0 => 1,
            bytes => bytes,
        };
        let writes = matches!(
            memory.access(),
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        );
        let kind = segment.attributes & 0xf;
        let forbidden = protected
            && (segment.attributes & 0x80 == 0
                || (writes && kind & 0xa != 2)
                || (!writes && kind & 0xa == 8));
        forbidden || outside(segment, offset, bytes)
    })
}

/// Whether an access lies outside a segment's limit.
fn outside(segment: &Hidden, offset: u32, bytes: u32) -> bool {
    let last = offset as u64 + bytes as u64 - 1;
    let (first_valid, last_valid) = if segment.attributes & 0x1c == 0x14 {
        (segment.limit as u64 + 1, if segment.attributes & 0x4000 != 0 { 0xffff_ffff } else { 0xffff })
    } else {
        (0, segment.limit as u64)
    };
    (offset as u64) < first_valid || last > last_valid
}

/// The offset of a memory operand.
fn offset_of(memory: &UsedMemory, before: &Dump) -> Option<u32> {
    let linear = memory.virtual_address(0, |register, _, _| {
        if register.is_segment_register() {
            return Some(0);
        }
        let full = before.regs[register.full_register32().number()] as u64;
        Some(match register.size() {
            1 if (Register::AH..=Register::BH).contains(&register) => full >> 8 & 0xff,
            1 => full & 0xff,
            2 => full & 0xffff,
            _ => full,
        })
    })?;
    Some(linear as u32)
}

/// The name of the 32-bit register that an instruction's first operand is a part of.
fn register_of(instruction: &Instruction) -> Option<&'static str> {
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
    use iced_x86::RflagsBits as R;
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
    [
        (R::CF, flags::CF),
        (R::PF, flags::PF),
        (R::AF, flags::AF),
        (R::ZF, flags::ZF),
        (R::SF, flags::SF),
        (R::OF, flags::OF),
    ]
    .iter()
    .filter(|(theirs, _)| bits & theirs != 0)
    .fold(0, |mask, (_, ours)| mask | ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_deviation_cites_the_manual() {
        for (n, known) in ALL.iter().enumerate() {
            assert!(ALL[n + 1..].iter().all(|other| other.name != known.name), "{}", known.name);
            assert!(
                known.section.contains('"') && known.section.starts_with(['1', '2', '3', '4']),
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
