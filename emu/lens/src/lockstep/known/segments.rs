//! Segments: what is checked when memory is accessed, and what a load leaves.

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register, UsedMemory};
use pagewalk_x86::fault::Fault;
use pagewalk_x86::flags;
use pagewalk_x86::observe::Cause;

use super::{Follow, Known, OurCpu, Scene, Test, fault_of, only};
use crate::qemu::dump::{Dump, Hidden};

/// The list.
pub const LIST: &[Known] = &[
    Known {
        name: "segment-checks",
        section: "3A \"Limit Checking\", \"Type Checking\", \"Null Segment Selector Checking\"",
        manual: "an access beyond a segment's limit, against its type or through a null selector is #GP(0), or #SS(0) in SS",
        qemu: "checks neither limit nor type nor null selectors when memory is accessed",
        tests: &[
            Test::Passes(|scene, cause| {
                segment_fault(scene, Some(cause)).then_some(Follow::WithoutSegmentChecks)
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
            Test::Passes(|scene, cause| {
                misaligned(scene, Some(cause)).then_some(Follow::WithoutAlignmentChecks)
            }),
            Test::Raises(|scene, ours, _| misaligned(scene, ours).then_some(Follow::TakeException)),
        ],
    },
    Known {
        name: "real-mode-code-segment",
        section: "3C \"Checks on Guest Segment Registers\"",
        manual: "a load of CS in real mode makes its hidden type that of writable data",
        qemu: "keeps the type of before, which shows once protected mode is entered",
        tests: &[Test::Registers(|_, _, fields| {
            only(fields, |field| {
                field.name == "cs.attributes" && field.ours & 0x1f == 0x13 && field.theirs & 0x18 == 0x18
            })
            .then_some(Follow::TakeRegisters)
        })],
    },
    Known {
        name: "descriptor-accessed-address",
        section: "3A \"Control Registers\", CR2",
        manual: "a page fault loads CR2 with the address; which bytes the processor writes to set the accessed bit is up to it",
        qemu: "writes the upper four bytes of the descriptor, so that CR2 is not that of the access byte",
        tests: &[Test::Registers(|_, _, fields| {
            only(fields, |field| field.name == "cr2" && field.ours & 7 == 5 && field.theirs == field.ours - 1)
                .then_some(Follow::TakeRegisters)
        })],
    },
    Known {
        name: "ltr-loads-before-it-faults",
        section: "2A \"LTR\"; 3A \"Exception Classifications\"",
        manual: "a page fault of the write that makes the TSS busy leaves TR as it was",
        qemu: "has loaded TR by then",
        tests: &[Test::Passes(|scene, cause| {
            let page = matches!(fault_of(Some(cause))?, Fault::Page { .. });
            let stays = scene.theirs.eip == scene.before.eip;
            (scene.is(&[Mnemonic::Ltr]) && page && stays).then_some(Follow::TakeRegisters)
        })],
    },
    Known {
        name: "null-tr",
        section: "2A \"LTR\"",
        manual: "LTR with a null selector is #GP(0)",
        qemu: "loads a null TR",
        tests: &[Test::Passes(|scene, cause| {
            let null = scene.theirs.tr.selector & !3 == 0;
            (scene.is(&[Mnemonic::Ltr]) && null && cause == Cause::Fault(Fault::GeneralProtection(0)))
                .then_some(Follow::TakeRegisters)
        })],
    },
];

/// Whether ours is #AC and the processor is set for it.
fn misaligned(scene: &Scene<'_>, ours: Option<Cause>) -> bool {
    let before = scene.before;
    ours == Some(Cause::Fault(Fault::Alignment))
        && before.cpl == 3
        && before.eflags & flags::AC != 0
        && before.cr[0] & pagewalk_x86::control::CR0_AM != 0
}

/// Whether ours is #GP(0) or #SS(0), and the instruction does access memory against the rules of its segments.
fn segment_fault(scene: &Scene<'_>, ours: Option<Cause>) -> bool {
    matches!(fault_of(ours), Some(Fault::GeneralProtection(0) | Fault::Stack(0)))
        && breaks_segment_rules(scene)
}

/// The accesses of an instruction against its segments, by a second, plain reading of the manual's rules.
fn breaks_segment_rules(scene: &Scene<'_>) -> bool {
    let before = scene.before;
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(scene.instruction);
    if outside(&before.segs[1], before.eip, scene.instruction.len() as u32) {
        return true;
    }
    if scene.is(&[Mnemonic::Retf, Mnemonic::Iret, Mnemonic::Iretd]) {
        // the frame of a return to an outer ring, at most
        let mask = if before.segs[2].attributes & 0x4000 != 0 { 0xffff_ffff } else { 0xffff };
        return outside(&before.segs[2], before.regs[4] & mask, 24);
    }
    info.used_memory().iter().any(|memory| {
        let Some(number) = number_of(memory.segment()) else { return false };
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
        let forbidden = scene.protected()
            && (segment.attributes & 0x80 == 0
                || (writes && kind & 0xa != 2)
                || (!writes && kind & 0xa == 8));
        forbidden || outside(segment, offset, bytes)
    })
}

fn number_of(segment: Register) -> Option<usize> {
    segment.is_segment_register().then(|| segment.number()).filter(|number| *number < 6)
}

/// The linear addresses of the program's own accesses by this instruction.
pub(super) fn accesses(scene: &Scene<'_>) -> impl Iterator<Item = u32> {
    linear_addresses(scene.instruction, scene.before).into_iter()
}

/// The linear addresses of the memory operands of an instruction.
pub(in crate::lockstep) fn linear_addresses(instruction: &Instruction, before: &Dump) -> Vec<u32> {
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(instruction);
    let linear = |memory: &UsedMemory| {
        let segment = &before.segs[number_of(memory.segment())?];
        Some(segment.base.wrapping_add(offset_of(memory, before)?))
    };
    info.used_memory().iter().filter_map(linear).collect()
}

/// The access byte of the descriptor that a selector names, in our memory; nothing when it cannot be read.
pub(super) fn access_byte(ours: &OurCpu, selector: u16) -> Option<u8> {
    let table = if selector & 4 == 0 { ours.gdtr.base } else { ours.ldtr.base };
    let phys = ours.peek(table.wrapping_add((selector & !7) as u32 + 5))?;
    crate::picture::peek_phys(&ours.bus, phys, 1).map(|byte| byte as u8)
}

/// Whether an access lies outside a segment's limit.
pub(super) fn outside(segment: &Hidden, offset: u32, bytes: u32) -> bool {
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
