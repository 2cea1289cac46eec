//! CLI, STI, HLT, STAC, CLAC: who may be interrupted, and who may touch user pages.

use super::require_cpl0;
use crate::bus::Bus;
use crate::control::{CR4_PVI, CR4_VME};
use crate::cpu::{Activity, Cpu, Mode, Shadow};
use crate::fault::{Exec, Fault};
use crate::flags;
use crate::observe::Observer;
use crate::op::Op;

const GP: Fault = Fault::GeneralProtection(0);

/// Which flag CLI and STI reach.
enum Reach {
    /// IF.
    Real,
    /// VIF.
    Virtual,
}

/// SDM 2A "CLI", decision table: IF in real mode and when IOPL is not below CPL; VIF in virtual-8086 mode under VME and at
/// CPL 3 under PVI; else #GP(0).
fn reach<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>) -> Exec<Reach> {
    let iopl = cpu.flags.iopl();
    match cpu.mode() {
        Mode::Real => Ok(Reach::Real),
        Mode::Protected if iopl >= cpu.cpl => Ok(Reach::Real),
        Mode::Protected if cpu.cpl == 3 && cpu.cr4 & CR4_PVI != 0 => Ok(Reach::Virtual),
        Mode::Vm86 if iopl == 3 => Ok(Reach::Real),
        Mode::Vm86 if cpu.cr4 & CR4_VME != 0 => Ok(Reach::Virtual),
        _ => Err(cpu.raise(GP)),
    }
}

/// CLI.
pub fn cli<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    let flag = match reach(cpu)? {
        Reach::Real => flags::IF,
        Reach::Virtual => flags::VIF,
    };

    cpu.flags.set(0, flag);
    Ok(())
}

/// STI: interrupts wait for one more instruction if they were off. #GP(0) if VIF is to be set while an interrupt is
/// pending in VIP.
pub fn sti<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    match reach(cpu)? {
        Reach::Real => {
            if !cpu.flags.interrupts() {
                cpu.set_flags(flags::IF, flags::IF);
                cpu.shadow = Shadow::Sti;
            }
        }
        Reach::Virtual => {
            cpu.ensure(!cpu.flags.system(flags::VIP), GP)?;
            cpu.set_flags(flags::VIF, flags::VIF);
        }
    }
    Ok(())
}

/// HLT.
pub fn hlt<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    require_cpl0(cpu)?;

    cpu.activity = Activity::Halted;
    cpu.leave_block();
    Ok(())
}

/// STAC: #UD outside CPL 0.
pub fn stac<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    cpu.ensure(cpu.cpl == 0, Fault::InvalidOpcode)?;

    cpu.set_flags(flags::AC, flags::AC);
    Ok(())
}

/// CLAC: #UD outside CPL 0.
pub fn clac<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    cpu.ensure(cpu.cpl == 0, Fault::InvalidOpcode)?;

    cpu.set_flags(0, flags::AC);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::model::MAX;

    const CLI: [u8; 1] = [0xfa];
    const STI: [u8; 1] = [0xfb];

    /// SDM 2A "CLI", table "Decision Table for CLI Results": IF, VIF or #GP(0) by mode, CPL, IOPL, PVI and VME.
    #[test]
    fn cli_and_sti_follow_the_manuals_decision_table() {
        for cpl in 0..=3u8 {
            for iopl in 0..=3 {
                for pvi in [false, true] {
                    let mut cpu = cpu_of(MAX);
                    cpu.cr4 = if pvi { CR4_PVI } else { CR4_VME };
                    cpu.set_flags(iopl << 12, flags::IOPL);
                    cpu.set_cpl(cpl);
                    let expected = if iopl as u8 >= cpl {
                        Ok(flags::IF)
                    } else if cpl == 3 && pvi {
                        Ok(flags::VIF)
                    } else {
                        Err(GP)
                    };
                    check(cpu, expected);
                }
            }
        }
        for iopl in 0..=3 {
            for vme in [false, true] {
                let mut cpu = vm86_of(MAX, iopl);
                cpu.cr4 = if vme { CR4_VME } else { CR4_PVI };
                check(
                    cpu,
                    if iopl == 3 {
                        Ok(flags::IF)
                    } else if vme {
                        Ok(flags::VIF)
                    } else {
                        Err(GP)
                    },
                );
            }
        }
    }

    fn check(mut cpu: TestCpu, expected: Result<u32, Fault>) {
        let both = flags::IF | flags::VIF;
        cpu.flags.set(0, both);
        assert_eq!(run(&mut cpu, &STI).map(|()| cpu.flags.get() & both), expected);
        cpu.flags.set(both, both);
        assert_eq!(run(&mut cpu, &CLI).map(|()| !cpu.flags.get() & both), expected);
    }

    #[test]
    fn sti_shadows_one_instruction_only_if_interrupts_were_off() {
        let mut cpu = cpu_of(MAX);
        run(&mut cpu, &STI).unwrap();
        assert_eq!(cpu.shadow, Shadow::Sti);
        cpu.shadow = Shadow::None;
        run(&mut cpu, &STI).unwrap();
        assert_eq!(cpu.shadow, Shadow::None);
    }

    #[test]
    fn setting_vif_while_an_interrupt_is_pending_is_gp() {
        let mut cpu = vm86_of(MAX, 0);
        cpu.cr4 = CR4_VME;
        cpu.flags.set(flags::VIP, flags::VIP);
        assert_eq!(run(&mut cpu, &STI), Err(GP));
        assert_eq!(run(&mut cpu, &CLI), Ok(()));
    }

    #[test]
    fn hlt_halts_and_stac_and_clac_set_and_clear_ac() {
        let mut cpu = cpu_of(MAX);
        run(&mut cpu, &[0xf4]).unwrap();
        assert_eq!(cpu.activity, Activity::Halted);
        run(&mut cpu, &[0x0f, 0x01, 0xcb]).unwrap();
        assert!(cpu.flags.system(flags::AC));
        run(&mut cpu, &[0x0f, 0x01, 0xca]).unwrap();
        assert!(!cpu.flags.system(flags::AC));
    }
}
