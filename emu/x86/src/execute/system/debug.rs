//! MOV to and from debug registers (SDM 3B "Debug Registers").

use super::require_cpl0;
use crate::bus::Bus;
use crate::control::*;
use crate::cpu::Cpu;
use crate::fault::{Exec, Fault};
use crate::observe::{Control, Observer};
use crate::op::Op;

/// DR6 bits that can be written: B0 to B3, BD, BS, BT.
const DR6_MASK: u32 = 0xf | DR6_BD | DR6_BS | DR6_BT;
/// DR7 bits that can be written: enables, LE and GE, GD, the four conditions.
const DR7_MASK: u32 = 0xffff_0000 | DR7_GD | 0x3ff;

/// MOV r32, DRn.
pub fn mov_from_dr<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let number = check(cpu, op.reg)?;

    let value = cpu.dr[number];
    cpu.regs.set_dword(op.rm, value);
    Ok(())
}

/// MOV DRn, r32.
pub fn mov_to_dr<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let number = check(cpu, op.reg)?;

    let value = cpu.regs.dword(op.rm);
    let new = match number {
        6 => value & DR6_MASK | DR6_ONES,
        7 => value & DR7_MASK | DR7_ONES,
        _ => value,
    };

    cpu.dr[number] = new;
    cpu.show_control(Control::Dr { number: number as u8, new });
    cpu.update_context();
    cpu.leave_block();
    Ok(())
}

/// The register meant: DR4 and DR5 are other names of DR6 and DR7, unless CR4.DE makes them #UD. CPL 0, else #GP(0).
/// With general detect on, #DB before the access.
fn check<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, number: u8) -> Exec<usize> {
    let alias = matches!(number, 4 | 5);
    cpu.ensure(number < 8 && !(alias && cpu.cr4 & CR4_DE != 0), Fault::InvalidOpcode)?;
    require_cpl0(cpu)?;
    if cpu.dr[7] & DR7_GD != 0 {
        cpu.dr[6] |= DR6_BD;
        return Err(cpu.raise(Fault::Debug));
    }
    Ok(if alias { number as usize + 2 } else { number as usize })
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::model::{I486, MAX};
    use crate::regs::EAX;

    /// MOV DRn, EAX with this value, then MOV EAX, DRn.
    fn through(cpu: &mut TestCpu, number: u8, value: u32) -> Result<u32, Fault> {
        cpu.regs.set_dword(EAX, value);
        run(cpu, &[0x0f, 0x23, 0xc0 | number << 3])?;
        run(cpu, &[0x0f, 0x21, 0xc0 | number << 3])?;
        Ok(cpu.regs.dword(EAX))
    }

    #[test]
    fn reserved_bits_of_dr6_and_dr7_read_as_the_manual_says() {
        let mut cpu = cpu_of(MAX);
        assert_eq!(through(&mut cpu, 2, 0xdead_beef), Ok(0xdead_beef));
        assert_eq!(through(&mut cpu, 6, 0xffff_ffff), Ok(0xffff_efff));
        assert_eq!(through(&mut cpu, 6, 0), Ok(0xffff_0ff0));
        assert_eq!(through(&mut cpu, 7, 0), Ok(0x400));
        assert_eq!(through(&mut cpu, 7, 0xffff_dfff), Ok(0xffff_07ff));
    }

    #[test]
    fn dr4_and_dr5_are_dr6_and_dr7_unless_debugging_extensions_are_on() {
        let mut cpu = cpu_of(I486);
        assert_eq!(through(&mut cpu, 4, 0xf), Ok(0xffff_0fff));
        assert_eq!(cpu.dr[6], 0xffff_0fff);
        assert_eq!(through(&mut cpu, 5, 3), Ok(0x403));
        let mut cpu = cpu_of(MAX);
        cpu.cr4 = CR4_DE;
        assert_eq!(through(&mut cpu, 4, 0), Err(Fault::InvalidOpcode));
        assert_eq!(through(&mut cpu, 5, 0), Err(Fault::InvalidOpcode));
        cpu.set_cpl(3);
        assert_eq!(through(&mut cpu, 6, 0), Err(Fault::GeneralProtection(0)));
    }

    #[test]
    fn general_detect_makes_every_access_a_debug_fault() {
        let mut cpu = cpu_of(MAX);
        cpu.dr[7] = DR7_ONES | DR7_GD;
        assert_eq!(run(&mut cpu, &[0x0f, 0x21, 0xc0]), Err(Fault::Debug));
        assert_eq!(cpu.dr[6], DR6_ONES | DR6_BD);
    }

    #[test]
    fn a_data_breakpoint_in_dr7_ends_the_front_tables_service() {
        let mut cpu = cpu_of(MAX);
        through(&mut cpu, 0, 0x2000).unwrap();
        through(&mut cpu, 7, 0x000f_0001).unwrap();
        assert!(cpu.data_breakpoints);
        through(&mut cpu, 7, 0).unwrap();
        assert!(!cpu.data_breakpoints);
    }
}
