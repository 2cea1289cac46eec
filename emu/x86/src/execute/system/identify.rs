//! CPUID.

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::fault::Exec;
use crate::model::msr::{APIC_BASE, APIC_ENABLE, BIOS_SIGN_ID};
use crate::observe::Observer;
use crate::op::Op;
use crate::regs::{EAX, EBX, ECX, EDX};

const LEAF_1_APIC: u32 = 1 << 9;

/// CPUID: the leaf in EAX, the subleaf in ECX. Leaf 1 also leaves the microcode revision in IA32_BIOS_SIGN_ID (SDM 3A
/// "Determining the Signature").
pub fn cpuid<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    let leaf = cpu.regs.dword(EAX);
    let mut values = cpu.model.cpuid(leaf, cpu.regs.dword(ECX));
    // Manual: a local APIC that is switched off is not shown.
    if leaf == 1 && cpu.read_msr(APIC_BASE).is_some_and(|base| base & APIC_ENABLE == 0) {
        values[3] &= !LEAF_1_APIC;
    }

    if leaf == 1 && cpu.model.msr(BIOS_SIGN_ID).is_some() {
        let revision = (cpu.model.microcode as u64) << 32;
        cpu.put_msr(BIOS_SIGN_ID, revision);
    }
    for (register, value) in [EAX, EBX, ECX, EDX].into_iter().zip(values) {
        cpu.regs.set_dword(register, value);
    }
    Ok(())
}
