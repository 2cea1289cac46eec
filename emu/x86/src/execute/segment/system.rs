//! LLDT, LTR, SLDT, STR.

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::descriptor::{System, error_code, is_null};
use crate::execute::Form;
use crate::execute::system::require_umip;
use crate::fault::{Exec, Fault};
use crate::mmu::Intent;
use crate::observe::{Control, Observer};
use crate::op::Op;
use crate::segment::Segment;
use crate::width::Width;

/// LDTR or TR.
pub trait SystemRegister {
    /// Reads the selector.
    fn selector<B, O>(cpu: &Cpu<B, O>) -> u16;
    /// Checks and loads it.
    fn load<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, selector: u16) -> Exec;
}

/// LDTR.
pub struct Ldtr;

/// TR.
pub struct Tr;

impl SystemRegister for Ldtr {
    fn selector<B, O>(cpu: &Cpu<B, O>) -> u16 {
        cpu.state.ldtr.selector
    }

    /// SDM 2A "LLDT".
    fn load<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, selector: u16) -> Exec {
        let segment = if is_null(selector) {
            // a null selector makes LDTR unusable
            Segment::null(selector)
        } else {
            let bad = Fault::GeneralProtection(error_code(selector));
            // the selector names the GDT, else #GP(selector)
            cpu.ensure(selector & 4 == 0, bad)?;
            // its index is within the GDT's limit, else #GP(selector)
            let descriptor = cpu.descriptor(selector, bad)?;
            // it names an LDT, else #GP(selector)
            cpu.ensure(System::of(descriptor) == Some(System::Ldt), bad)?;
            // which is present, else #NP(selector)
            cpu.ensure(descriptor.present(), Fault::NotPresent(error_code(selector)))?;
            Segment::from_descriptor(selector, descriptor)
        };

        cpu.ldtr = segment;
        cpu.show_control(Control::System { name: "ldtr", selector });
        Ok(())
    }
}

impl SystemRegister for Tr {
    fn selector<B, O>(cpu: &Cpu<B, O>) -> u16 {
        cpu.state.tr.selector
    }

    /// SDM 2A "LTR".
    fn load<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, selector: u16) -> Exec {
        // the selector is not null, else #GP(0)
        cpu.ensure(!is_null(selector), Fault::GeneralProtection(0))?;
        let bad = Fault::GeneralProtection(error_code(selector));
        // it names the GDT, else #GP(selector)
        cpu.ensure(selector & 4 == 0, bad)?;
        // its index is within the GDT's limit, else #GP(selector)
        let descriptor = cpu.descriptor(selector, bad)?;
        // it names an available TSS, else #GP(selector)
        cpu.ensure(System::of(descriptor) == Some(System::Tss { busy: false }), bad)?;
        // which is present, else #NP(selector)
        cpu.ensure(descriptor.present(), Fault::NotPresent(error_code(selector)))?;
        let access = cpu.access_byte(selector)?;

        cpu.set_busy(access);
        cpu.tr = Segment::from_descriptor(selector, descriptor);
        cpu.tr.attributes |= 2;
        cpu.show_control(Control::System { name: "tr", selector });
        Ok(())
    }
}

/// LLDT, LTR.
pub fn load_system<B: Bus, O: Observer, M: Form, R: SystemRegister>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec {
    // protected mode, else #UD
    cpu.ensure(cpu.is_protected(), Fault::InvalidOpcode)?;
    // CPL 0, else #GP(0)
    cpu.ensure(cpu.cpl == 0, Fault::GeneralProtection(0))?;
    let source = M::locate::<B, O, u16>(cpu, op, Intent::Read)?;
    let selector = M::get(cpu, source);
    R::load(cpu, selector)
}

/// SLDT, STR: 16 bits to memory, to a 32-bit register extended with zeros.
pub fn store_system<B: Bus, O: Observer, M: Form, R: SystemRegister, W: Width>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec {
    // protected mode, else #UD
    cpu.ensure(cpu.is_protected(), Fault::InvalidOpcode)?;
    // with CR4.UMIP: CPL 0, else #GP(0)
    require_umip(cpu)?;
    let dest = M::locate::<B, O, W>(cpu, op, Intent::Write)?;

    let selector = R::selector(cpu);

    M::set(cpu, dest, W::from_u32(selector as u32));
    Ok(())
}
