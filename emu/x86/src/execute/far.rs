//! Far jumps, calls and returns through segments, gates and tasks; INT n, IRET (SDM 3A "Protection").

mod call_gate;
mod interrupt;
mod iret;
mod retf;
mod transfer;

#[cfg(test)]
mod tests;

use iced_x86::Code;

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::Shape;
use crate::fault::Exec;
use crate::observe::Observer;
use crate::op::{Handler, Op};
use crate::segment::{CS, Segment};
use transfer::{Direct, Indirect, call, jmp};

/// The bodies of this family.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code {
        Code::Jmp_ptr1616 => jmp::<B, O, Direct, u16>,
        Code::Jmp_ptr1632 => jmp::<B, O, Direct, u32>,
        Code::Jmp_m1616 => jmp::<B, O, Indirect, u16>,
        Code::Jmp_m1632 => jmp::<B, O, Indirect, u32>,
        Code::Call_ptr1616 => call::<B, O, Direct, u16>,
        Code::Call_ptr1632 => call::<B, O, Direct, u32>,
        Code::Call_m1616 => call::<B, O, Indirect, u16>,
        Code::Call_m1632 => call::<B, O, Indirect, u32>,

        Code::Retfw | Code::Retfw_imm16 => retf::retf::<B, O, u16>,
        Code::Retfd | Code::Retfd_imm16 => retf::retf::<B, O, u32>,
        Code::Iretw => iret::iret::<B, O, u16>,
        Code::Iretd => iret::iret::<B, O, u32>,

        Code::Int_imm8 => interrupt::int_n,
        Code::Int3 => interrupt::int3,
        Code::Into => interrupt::into,
        Code::Int1 => interrupt::int1,
        _ => return None,
    })
}

/// Ends an instruction that switched tasks, as far as the switch was committed: what it raised since then belongs to
/// the new task's EIP, not to this instruction's.
fn in_new_task<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>, entered: Exec) -> Exec {
    if entered.is_err() {
        cpu.block_eip = cpu.eip.wrapping_sub(op.start as u32);
    }
    entered
}

/// What a far transfer leaves in CS outside protected mode.
fn plain_code<B: Bus, O: Observer>(cpu: &Cpu<B, O>, selector: u16) -> Segment {
    let mut code = cpu.segs[CS];
    if cpu.flags.vm() {
        code = Segment::real(selector, 3);
    } else {
        code.load_real_code(selector);
    }
    code
}
