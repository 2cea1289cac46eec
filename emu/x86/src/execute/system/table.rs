//! LGDT, LIDT, SGDT, SIDT (SDM 3A "Memory-Management Registers").

use super::{require_cpl0, require_umip};
use crate::bus::Bus;
use crate::cpu::{Cpu, State};
use crate::fault::Exec;
use crate::mmu::{Intent, Place};
use crate::observe::{Control, Observer};
use crate::op::Op;
use crate::segment::TableRegister;

/// Which table register.
pub trait Which {
    /// Its name.
    const NAME: &'static str;
    /// Where it is kept.
    fn of(state: &mut State) -> &mut TableRegister;
}

/// GDTR.
#[derive(Debug)]
pub struct Gdtr;

/// IDTR.
#[derive(Debug)]
pub struct Idtr;

impl Which for Gdtr {
    const NAME: &'static str = "gdtr";
    fn of(state: &mut State) -> &mut TableRegister {
        &mut state.gdtr
    }
}

impl Which for Idtr {
    const NAME: &'static str = "idtr";
    fn of(state: &mut State) -> &mut TableRegister {
        &mut state.idtr
    }
}

/// The two parts of a pseudo-descriptor in memory: limit, then base. Each is checked for itself (SDM 3A "Segment
/// Descriptor Tables" advises an odd word address, so that neither fails an alignment check).
fn locate<B: Bus, O: Observer>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
    intent: Intent,
) -> Exec<(Place<u16>, Place<u32>)> {
    let segment = op.segment as usize;
    let offset = cpu.effective_address(op);
    let limit = cpu.translate::<u16>(segment, offset, intent)?;
    let base = cpu.translate::<u32>(segment, offset.wrapping_add(2) & op.address_mask, intent)?;
    Ok((limit, base))
}

/// LGDT, LIDT: with a 16-bit operand the base has 24 bits.
pub fn load<B: Bus, O: Observer, R: Which>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_cpl0(cpu)?;
    let (limit, base) = locate(cpu, op, Intent::Read)?;

    let limit = cpu.load(limit);
    let base = cpu.load(base) & if op.operand16 { 0xff_ffff } else { 0xffff_ffff };

    *R::of(&mut cpu.state) = TableRegister { base, limit };
    cpu.show_control(Control::Table { name: R::NAME, base, limit });
    Ok(())
}

/// SGDT, SIDT. Manual: all 32 bits of the base whatever the operand size (SDM 2B "SGDT", Operation; older editions have
/// the highest byte of a 16-bit operand stored as zero).
pub fn store<B: Bus, O: Observer, R: Which>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_umip(cpu)?;
    let (limit, base) = locate(cpu, op, Intent::Write)?;

    let table = *R::of(&mut cpu.state);

    cpu.store(limit, table.limit);
    cpu.store(base, table.base);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::fault::Fault;
    use crate::model::MAX;
    use crate::regs::EAX;
    use crate::segment::{DS, Segment};

    fn cpu_with(image: &[u8]) -> TestCpu {
        let mut cpu = cpu_of(MAX);
        cpu.bus.ram_mut().write(0x2000, image);
        cpu.regs.set_dword(EAX, 0x2000);
        cpu
    }

    #[test]
    fn a_16_bit_operand_loads_24_bits_of_base_and_stores_32() {
        let mut cpu = cpu_with(&[0x34, 0x12, 0x78, 0x56, 0x34, 0x12]);
        run(&mut cpu, &[0x0f, 0x01, 0x10]).unwrap();
        assert_eq!(cpu.gdtr, TableRegister { base: 0x1234_5678, limit: 0x1234 });
        run(&mut cpu, &[0x66, 0x0f, 0x01, 0x18]).unwrap();
        assert_eq!(cpu.idtr, TableRegister { base: 0x34_5678, limit: 0x1234 });
        cpu.regs.set_dword(EAX, 0x2010);
        run(&mut cpu, &[0x66, 0x0f, 0x01, 0x00]).unwrap();
        assert_eq!(cpu.bus.ram().slice(0x2010, 6), &[0x34, 0x12, 0x78, 0x56, 0x34, 0x12]);
        run(&mut cpu, &[0x0f, 0x01, 0x08]).unwrap();
        assert_eq!(cpu.bus.ram().slice(0x2010, 6), &[0x34, 0x12, 0x78, 0x56, 0x34, 0x00]);
    }

    #[test]
    fn the_base_is_checked_before_the_limit_is_stored() {
        let mut cpu = cpu_with(&[0xaa; 6]);
        cpu.segs[DS] = Segment::new(0x10, 0, 0x2004, 0x4093);
        assert_eq!(run(&mut cpu, &[0x0f, 0x01, 0x00]), Err(Fault::GeneralProtection(0)));
        assert_eq!(cpu.bus.ram().slice(0x2000, 6), &[0xaa; 6]);
        let before = cpu.state.clone();
        assert_eq!(run(&mut cpu, &[0x0f, 0x01, 0x10]), Err(Fault::GeneralProtection(0)));
        assert_eq!(cpu.state, before);
    }

    #[test]
    fn a_pseudo_descriptor_at_an_odd_word_passes_alignment_checks() {
        let mut cpu = cpu_with(&[0; 16]);
        cpu.cr0 |= crate::control::CR0_AM;
        cpu.set_flags(crate::flags::AC, crate::flags::AC);
        cpu.set_cpl(3);
        assert_eq!(run(&mut cpu, &[0x0f, 0x01, 0x00]), Err(Fault::Alignment));
        cpu.regs.set_dword(EAX, 0x2002);
        assert_eq!(run(&mut cpu, &[0x0f, 0x01, 0x00]), Ok(()));
    }
}
