//! Caches, the TLB, and the order of memory accesses. Caches are transparent here and accesses happen in program
//! order, so most of these only check.

use super::require_cpl0;
use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::fault::Exec;
use crate::mmu::Intent;
use crate::mmu::walk::{Access, Kind};
use crate::observe::{Asker, Observer};
use crate::op::Op;

/// INVLPG (SDM 2A "INVLPG"): the linear address is not translated and no limit is checked.
pub fn invlpg<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_cpl0(cpu)?;

    let linear = cpu.segs[op.segment as usize].base.wrapping_add(cpu.effective_address(op));

    cpu.flush_tlb_page(linear);
    Ok(())
}

/// INVD, WBINVD.
pub fn invd<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    require_cpl0(cpu)
}

/// CLFLUSH, CLFLUSHOPT, CLWB: the faults of a byte load, but execute-only code is allowed too (SDM 2A "CLFLUSH").
pub fn clflush<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let (segment, offset) = (op.segment as usize, cpu.effective_address(op));
    let register = cpu.segs[segment];
    if register.attributes & 0x1a == 0x18 && register.within_limit(offset, 1) {
        let access = Access { kind: Kind::Read, privilege: cpu.program_privilege() };
        let asker = Asker::Program { segment: segment as u8, offset };
        cpu.place::<u8>(register.base.wrapping_add(offset), access, asker)?;
    } else {
        cpu.translate::<u8>(segment, offset, Intent::Read)?;
    }
    Ok(())
}

/// MOVNTI: a store.
pub fn movnti<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let offset = cpu.effective_address(op);
    let dest = cpu.translate::<u32>(op.segment as usize, offset, Intent::Write)?;

    let value = cpu.regs.dword(op.reg);

    cpu.store(dest, value);
    Ok(())
}

/// Fences, prefetches (which never fault) and reserved NOPs.
pub fn hint<B: Bus, O: Observer>(_cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    Ok(())
}
