//! SYSENTER and SYSEXIT (SDM 2B "SYSENTER", "SYSEXIT"; SDM 3A "Performing Fast Calls to System Procedures with the
//! SYSENTER and SYSEXIT Instructions").

use crate::bus::Bus;
use crate::cpu::{Cpu, Mode};
use crate::fault::{Exec, Fault};
use crate::flags;
use crate::observe::Observer;
use crate::op::Op;
use crate::regs::{ECX, EDX, ESP};
use crate::segment::{CS, SS, Segment};

/// Flat, 32-bit, accessed: code that may be executed and read, data that may be written.
const CODE: u16 = 0xc09b;
const DATA: u16 = 0xc093;

/// Loads CS and SS as flat segments of `cpl`, without reading any descriptor.
fn set_flat<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, cs: u16, ss: u16, cpl: u8) {
    let dpl = (cpl as u16) << 5;
    cpu.segs[CS] = Segment::new(cs, 0, 0xffff_ffff, CODE | dpl);
    cpu.segs[SS] = Segment::new(ss, 0, 0xffff_ffff, DATA | dpl);
    cpu.set_cpl(cpl);
    cpu.leave_block();
}

/// The selector in IA32_SYSENTER_CS: #GP(0) outside protected mode and when it is null.
fn selector<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>) -> Exec<u16> {
    let selector = cpu.msrs.sysenter_cs as u16;
    let ready = cpu.mode() != Mode::Real && selector & 0xfffc != 0;
    cpu.ensure(ready, Fault::GeneralProtection(0))?;
    Ok(selector)
}

/// SYSENTER: from any CPL, and from virtual-8086 mode, to CPL 0.
pub fn sysenter<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    let cs = selector(cpu)? & 0xfffc;

    let (esp, eip) = (cpu.msrs.sysenter_esp, cpu.msrs.sysenter_eip);

    cpu.set_flags(0, flags::VM | flags::IF);
    set_flat(cpu, cs, cs.wrapping_add(8), 0);
    cpu.regs.set_dword(ESP, esp);
    cpu.eip = eip;
    Ok(())
}

/// SYSEXIT: from CPL 0 to CPL 3, EIP from EDX and ESP from ECX.
pub fn sysexit<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    let base = selector(cpu)?;
    cpu.ensure(cpu.cpl == 0, Fault::GeneralProtection(0))?;

    let (cs, ss) = (base.wrapping_add(16) | 3, base.wrapping_add(24) | 3);
    let (esp, eip) = (cpu.regs.dword(ECX), cpu.regs.dword(EDX));

    set_flat(cpu, cs, ss, 3);
    cpu.regs.set_dword(ESP, esp);
    cpu.eip = eip;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::control::CR0_PE;
    use crate::model::MAX;

    const SYSENTER: [u8; 2] = [0x0f, 0x34];
    const SYSEXIT: [u8; 2] = [0x0f, 0x35];
    const GP: Result<(), Fault> = Err(Fault::GeneralProtection(0));

    fn ready(mut cpu: TestCpu) -> TestCpu {
        cpu.msrs.sysenter_cs = 0x23; // the low two bits do not count
        cpu.msrs.sysenter_esp = 0x9000;
        cpu.msrs.sysenter_eip = 0xc000_1000;
        cpu
    }

    #[test]
    fn sysenter_enters_flat_cpl_0_from_user_and_virtual_8086_mode() {
        let mut user = cpu_of(MAX);
        user.set_cpl(3);
        for mut cpu in [ready(user), ready(vm86_of(MAX, 0))] {
            cpu.flags.set(flags::IF, flags::IF);
            assert_eq!(run(&mut cpu, &SYSENTER), Ok(()));
            assert_eq!((cpu.cpl, cpu.eip, cpu.regs.dword(ESP)), (0, 0xc000_1000, 0x9000));
            assert!(!cpu.flags.interrupts() && !cpu.flags.vm());
            let (cs, ss) = (cpu.segs[CS], cpu.segs[SS]);
            assert_eq!((cs.selector, cs.base, cs.limit, cs.attributes), (0x20, 0, u32::MAX, 0xc09b));
            assert_eq!((ss.selector, ss.base, ss.limit, ss.attributes), (0x28, 0, u32::MAX, 0xc093));
        }
    }

    #[test]
    fn sysexit_returns_to_flat_cpl_3() {
        let mut cpu = ready(cpu_of(MAX));
        cpu.regs.set_dword(ECX, 0x7000);
        cpu.regs.set_dword(EDX, 0x40_0000);
        assert_eq!(run(&mut cpu, &SYSEXIT), Ok(()));
        assert_eq!((cpu.cpl, cpu.eip, cpu.regs.dword(ESP)), (3, 0x40_0000, 0x7000));
        let (cs, ss) = (cpu.segs[CS], cpu.segs[SS]);
        assert_eq!((cs.selector, cs.attributes), (0x33, 0xc0fb));
        assert_eq!((ss.selector, ss.attributes), (0x3b, 0xc0f3));
    }

    #[test]
    fn a_null_selector_real_mode_and_sysexit_from_outside_cpl_0_are_gp() {
        for null in [0, 3] {
            let mut cpu = ready(cpu_of(MAX));
            cpu.msrs.sysenter_cs = null;
            assert_eq!(run(&mut cpu, &SYSENTER), GP);
            assert_eq!(run(&mut cpu, &SYSEXIT), GP);
        }
        let mut cpu = ready(cpu_of(MAX));
        cpu.cr0 &= !CR0_PE;
        assert_eq!(run(&mut cpu, &SYSENTER), GP);
        let mut cpu = ready(cpu_of(MAX));
        cpu.set_cpl(1);
        assert_eq!(run(&mut cpu, &SYSEXIT), GP);
    }
}
