//! INT n, INT3, INTO, INT1 (SDM 2A "INT n/INTO/INT3/INT1"): the checks are those of delivery.

use super::in_new_task;
use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::fault::Exec;
use crate::observe::{Cause, Observer};
use crate::op::Op;

fn enter<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>, cause: Cause) -> Exec {
    let return_eip = cpu.next_ip(op);
    cpu.eip = cpu.ip(op);
    let entered = cpu.enter_handler(cause, return_eip)?;
    in_new_task(cpu, op, entered)
}

/// INT n.
pub fn int_n<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    enter(cpu, op, Cause::Software(op.imm as u8))
}

/// INT3 (CC): not subject to IOPL and redirection in virtual-8086 mode, unlike INT 3 (CD 03).
pub fn int3<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    enter(cpu, op, Cause::Breakpoint)
}

/// INTO: #OF if OF is set.
pub fn into<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    if cpu.flags.of() {
        return enter(cpu, op, Cause::Overflow);
    }
    cpu.eip = cpu.next_ip(op);
    Ok(())
}

/// INT1: #DB as a trap, without a check of the gate's DPL and without any bit of DR6. Unlike the others it is no "software
/// interrupt": faults met on the way have EXT set.
pub fn int1<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    enter(cpu, op, Cause::Icebp).map_err(|raised| cpu.with_ext_of(raised, Cause::Icebp))
}
