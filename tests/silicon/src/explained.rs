//! Where the processor of the host differs from the manual's order or from what any processor must do, by name. A
//! difference that is not one of these is a bug, here or in pagewalk.

use iced_x86::{Instruction, Mnemonic};

use crate::case::{End, Outcome};
use crate::compare::{Difference, instructions};
use crate::world::World;

/// A permitted difference.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub enum Explained {
    /// ENTER pushes one by one and does not take back what it pushed below ESP when it faults; pagewalk writes nothing.
    /// The manual (SDM 2A "ENTER") leaves open what lies below the stack pointer of an instruction to be restarted.
    EnterKeepsPushes,
    /// RET FAR with an RPL other than CPL: AMD's processors read the outer SS from the stack before they check CS, and fault
    /// on that first (SDM 2B "RET", Operation, checks CS first).
    RetfReadsOuterStackFirst,
}

impl Explained {
    /// All of them.
    pub const ALL: [Explained; 2] = [Explained::EnterKeepsPushes, Explained::RetfReadsOuterStackFirst];

    /// One clause for figures.
    pub fn sentence(self) -> &'static str {
        match self {
            Explained::EnterKeepsPushes => "ENTER that faults leaves its pushes below ESP",
            Explained::RetfReadsOuterStackFirst => "RET FAR reads the outer SS before it checks CS",
        }
    }
}

/// Why a difference is permitted, if it is.
pub fn explain(world: &World, difference: &Difference) -> Option<Explained> {
    let (ours, native) = (&difference.ours, &difference.native);
    if !matches!(native.end, End::Fault { .. }) || (ours.regs, ours.eip) != (native.regs, native.eip) {
        return None;
    }
    let at = faulting(difference)?;
    let ss = world.descriptor(ours.selectors[2]);
    let (stack, big) = ss.map_or((0, true), |descriptor| (descriptor.base, descriptor.big));
    let mask = if big { u32::MAX } else { 0xffff };
    match at.mnemonic() {
        Mnemonic::Enter => {
            let same = ours.end == native.end && same_but_memory(ours, native, difference.masked);
            // at most 32 levels, the frame pointer and as many bytes again for a partial line
            let below = |address: u32| {
                stack.wrapping_add(ours.regs[4] & mask).wrapping_sub(1).wrapping_sub(address) < 136
            };
            let allowed = changed(ours, native).all(below);
            (same && allowed).then_some(Explained::EnterKeepsPushes)
        }
        Mnemonic::Retf => {
            let End::Fault { vector: 14, cr2, .. } = native.end else { return None };
            let size = at.code().op_code().operand_size() / 8;
            let released = if at.op_count() == 1 { at.immediate16() as u32 } else { 0 };
            let outer = ours.regs[4].wrapping_add(2 * size + released);
            // the offset, or the selector behind it; either may cross into the next page
            let distance = cr2.wrapping_sub(stack.wrapping_add(outer & mask));
            (distance < 2 * size && ours.end != native.end).then_some(Explained::RetfReadsOuterStackFirst)
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
    (a.eflags ^ b.eflags) & !masked == 0 && a.selectors == b.selectors && a.fpu == b.fpu
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
