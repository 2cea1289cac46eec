//! Where the processor of the host differs from the manual's order or from what any processor must do, by name. A
//! difference that is not one of these is a bug, here or in pagewalk.

use iced_x86::{Instruction, Mnemonic};

use crate::case::{End, Outcome};
use crate::compare::{Difference, instructions, same_fpu};
use crate::world::World;

/// A permitted difference.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub enum Explained {
    /// ENTER, PUSHA and CALL FAR push one by one and do not take back what they pushed below ESP when they fault; pagewalk
    /// writes nothing. The manual (SDM 2A "ENTER") leaves open what lies below the stack pointer of an instruction to be
    /// restarted.
    PushesStay,
    /// CALL FAR: AMD's processors push before they look at the offset and at the room for the second push, and fault on the
    /// page of the first one (SDM 2A "CALL" checks both before it pushes).
    CallFarPushesFirst,
    /// POPA that faults midway has loaded the registers it came to; pagewalk loads none. The instruction is restarted.
    PopaKeepsPops,
    /// RET FAR and IRET: AMD's processors read CS before EIP, and with an RPL other than CPL the outer SS before they check CS; they
    /// fault on what they read first (SDM 2B "RET", Operation, has the other order).
    RetfReadsInAnotherOrder,
    /// A trap between two iterations of a repeated string instruction saves RF as 0 on AMD's processors, and as 1 on
    /// Intel's (SDM 3B "Instruction-Breakpoint Exception Condition").
    TrapWithinRepetition,
    /// INT1 saves EIP of the next instruction; under a hypervisor that intercepts #DB, now and then its own.
    Int1UnderHypervisor,
    /// The parts of an x87 environment or image are accessed in any order: on two pages, either may fault first.
    ImageOrder,
}

impl Explained {
    /// All of them.
    pub const ALL: [Explained; 7] = [
        Explained::PushesStay,
        Explained::CallFarPushesFirst,
        Explained::PopaKeepsPops,
        Explained::RetfReadsInAnotherOrder,
        Explained::TrapWithinRepetition,
        Explained::Int1UnderHypervisor,
        Explained::ImageOrder,
    ];

    /// One clause for figures.
    pub fn sentence(self) -> &'static str {
        match self {
            Explained::PushesStay => "ENTER, PUSHA, CALL FAR that fault leave their pushes below ESP",
            Explained::CallFarPushesFirst => "CALL FAR pushes before it checks the rest",
            Explained::PopaKeepsPops => "POPA that faults keeps the registers it loaded",
            Explained::RetfReadsInAnotherOrder => {
                "RET FAR and IRET read CS before EIP, the outer SS before it checks CS"
            }
            Explained::TrapWithinRepetition => "a trap within a repeated string instruction saves RF as 0",
            Explained::Int1UnderHypervisor => "INT1 saves its own EIP under a hypervisor",
            Explained::ImageOrder => "the parts of an x87 image are accessed in another order",
        }
    }
}

/// Why a difference is permitted, if it is.
pub fn explain(world: &World, difference: &Difference) -> Option<Explained> {
    let (ours, native) = (&difference.ours, &difference.native);
    let End::Fault { vector, cr2, .. } = native.end else { return None };
    let at = faulting(difference)?;
    let same_end = ours.end == native.end;
    if at.mnemonic() == Mnemonic::Int1 {
        let next = at.next_ip() as u32;
        let same = same_end && ours.regs == native.regs && same_but_memory(ours, native, difference.masked);
        return (same && ours.eip == next && ours.written == native.written)
            .then_some(Explained::Int1UnderHypervisor);
    }
    if ours.eip != native.eip {
        return None;
    }
    let pops_all = matches!(at.mnemonic(), Mnemonic::Popa | Mnemonic::Popad);
    if pops_all {
        let same = same_end && same_but_memory(ours, native, difference.masked);
        return (same && ours.written == native.written).then_some(Explained::PopaKeepsPops);
    }
    if ours.regs != native.regs {
        return None;
    }
    if vector == 1 && at.is_string_instruction() {
        const RF: u32 = 1 << 16;
        let same = same_end && same_but_memory(ours, native, difference.masked | RF);
        return (same && ours.written == native.written).then_some(Explained::TrapWithinRepetition);
    }
    let ss = world.descriptor(ours.selectors[2]);
    let (stack, big) = ss.map_or((0, true), |descriptor| (descriptor.base, descriptor.big));
    let mask = if big { u32::MAX } else { 0xffff };
    // how far below the top of the stack
    let below = |address: u32| stack.wrapping_add(ours.regs[4] & mask).wrapping_sub(1).wrapping_sub(address);
    let same = same_end && same_but_memory(ours, native, difference.masked);
    let size = (at.code().op_code().operand_size() / 8).max(2);
    match at.mnemonic() {
        Mnemonic::Enter | Mnemonic::Pusha | Mnemonic::Pushad => {
            // at most 32 levels, the frame pointer and as many bytes again for a partial line
            let allowed = changed(ours, native).all(|address| below(address) < 136);
            (same && allowed).then_some(Explained::PushesStay)
        }
        Mnemonic::Call if at.is_call_far() || at.is_call_far_indirect() => {
            let allowed = changed(ours, native).all(|address| below(address) < 2 * size);
            let on_stack = vector == 14 && below(cr2) < 2 * size;
            if same && allowed {
                Some(Explained::PushesStay)
            } else {
                (!same_end && allowed && on_stack).then_some(Explained::CallFarPushesFirst)
            }
        }
        Mnemonic::Retf | Mnemonic::Iret | Mnemonic::Iretd => {
            let released = if at.op_count() == 1 { at.immediate16() as u32 } else { 0 };
            let lies_at = |distance: u32| {
                let offset = ours.regs[4].wrapping_add(distance) & mask;
                cr2.wrapping_sub(stack.wrapping_add(offset)) < size
            };
            let is_outer = lies_at(2 * size + released) || lies_at(3 * size + released);
            (vector == 14 && !same_end && (lies_at(size) || is_outer))
                .then_some(Explained::RetfReadsInAnotherOrder)
        }
        Mnemonic::Fnstenv | Mnemonic::Fnsave | Mnemonic::Fldenv | Mnemonic::Frstor => {
            let End::Fault { vector: 14, cr2: other, .. } = ours.end else { return None };
            let same = same_but_memory(ours, native, difference.masked) && ours.written == native.written;
            (same && vector == 14 && other.abs_diff(cr2) < 108).then_some(Explained::ImageOrder)
        }
        _ => None,
    }
}

/// The instruction that EIP points at, which must be one of the case's.
fn faulting(difference: &Difference) -> Option<Instruction> {
    let all = instructions(&difference.case, difference.big, difference.eip);
    all.into_iter().find(|instruction| instruction.ip() as u32 == difference.native.eip)
}

fn same_but_memory(a: &Outcome, b: &Outcome, masked: u32) -> bool {
    (a.eflags ^ b.eflags) & !masked == 0 && a.selectors == b.selectors && same_fpu(a, b)
}

/// Addresses that one wrote and the other did not, or differently.
fn changed<'a>(a: &'a Outcome, b: &'a Outcome) -> impl Iterator<Item = u32> + 'a {
    let byte = |outcome: &Outcome, at: u32| -> Option<u8> {
        outcome.written.iter().find_map(|(start, run)| run.get(at.wrapping_sub(*start) as usize).copied())
    };
    let addresses = |outcome: &'a Outcome| {
        outcome.written.iter().flat_map(|(start, run)| (0..run.len() as u32).map(move |n| start + n))
    };
    addresses(a).chain(addresses(b)).filter(move |&at| byte(a, at) != byte(b, at))
}
