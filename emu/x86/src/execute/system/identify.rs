//! CPUID.

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::fault::Exec;
use crate::model::msr::BIOS_SIGN_ID;
use crate::observe::Observer;
use crate::op::Op;
use crate::regs::{EAX, EBX, ECX, EDX};

/// CPUID: the leaf in EAX, the subleaf in ECX. Leaf 1 also leaves the microcode revision in IA32_BIOS_SIGN_ID (SDM 3A
/// "Determining the Signature").
pub fn cpuid<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    let leaf = cpu.regs.dword(EAX);
    let values = cpu.model.cpuid(leaf, cpu.regs.dword(ECX));

    if leaf == 1 && cpu.model.msr(BIOS_SIGN_ID).is_some() {
        let revision = (cpu.model.microcode as u64) << 32;
        cpu.put_msr(BIOS_SIGN_ID, revision);
    }
    for (register, value) in [EAX, EBX, ECX, EDX].into_iter().zip(values) {
        cpu.regs.set_dword(register, value);
    }
    Ok(())
}
