//! RDMSR, WRMSR, and the counters that have instructions of their own (SDM 3B "Time-Stamp Counter", SDM 4).

use super::require_cpl0;
use crate::bus::Bus;
use crate::control::{CR4_PCE, CR4_TSD};
use crate::cpu::Cpu;
use crate::fault::{Exec, Fault};
use crate::mmu::tlb::FlushCause;
use crate::model::msr;
use crate::observe::{Control, Observer};
use crate::op::Op;
use crate::regs::{EAX, ECX, EDX};

const GP: Fault = Fault::GeneralProtection(0);

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// The time-stamp counter: virtual nanoseconds, and what was written to it.
    pub fn time_stamp(&self) -> u64 {
        self.now().0.wrapping_add(self.msrs.tsc_offset)
    }

    /// A model-specific register, if the model has it.
    pub fn read_msr(&self, number: u32) -> Option<u64> {
        let range = self.model.msr(number)?;
        Some(match number {
            msr::TSC => self.time_stamp(),
            msr::SYSENTER_CS => self.msrs.sysenter_cs as u64,
            msr::SYSENTER_ESP => self.msrs.sysenter_esp as u64,
            msr::SYSENTER_EIP => self.msrs.sysenter_eip as u64,
            msr::EFER => self.msrs.efer,
            msr::TSC_AUX => self.msrs.tsc_aux as u64,
            _ => self.msrs.others.iter().find(|(n, _)| *n == number).map_or(range.reset, |&(_, value)| value),
        })
    }

    /// Keeps a value that has already passed the register's rule.
    pub(super) fn put_msr(&mut self, number: u32, value: u64) {
        match number {
            msr::TSC => self.msrs.tsc_offset = value.wrapping_sub(self.now().0),
            msr::SYSENTER_CS => self.msrs.sysenter_cs = value as u32,
            msr::SYSENTER_ESP => self.msrs.sysenter_esp = value as u32,
            msr::SYSENTER_EIP => self.msrs.sysenter_eip = value as u32,
            msr::EFER => self.msrs.efer = value,
            msr::TSC_AUX => self.msrs.tsc_aux = value as u32,
            _ => {
                let others = &mut self.msrs.others;
                match others.binary_search_by_key(&number, |&(n, _)| n) {
                    Ok(at) => others[at].1 = value,
                    Err(at) => others.insert(at, (number, value)),
                }
            }
        }
    }

    fn set_edx_eax(&mut self, value: u64) {
        self.regs.set_dword(EAX, value as u32);
        self.regs.set_dword(EDX, (value >> 32) as u32);
    }
}

/// RDMSR: #GP(0) for a register that is not there.
pub fn rdmsr<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    require_cpl0(cpu)?;
    let number = cpu.regs.dword(ECX);
    let Some(value) = cpu.read_msr(number) else { return Err(cpu.raise(GP)) };

    cpu.set_edx_eax(value);
    Ok(())
}

/// WRMSR: #GP(0) for a register that is not there, cannot be written, or has reserved bits set in the value.
pub fn wrmsr<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    require_cpl0(cpu)?;
    let number = cpu.regs.dword(ECX);
    let written = cpu.regs.dword(EAX) as u64 | (cpu.regs.dword(EDX) as u64) << 32;
    let (Some(range), Some(old)) = (cpu.model.msr(number), cpu.read_msr(number)) else {
        return Err(cpu.raise(GP));
    };
    let Some(mut new) = range.rule.apply(old, written, &cpu.model) else { return Err(cpu.raise(GP)) };

    if number == msr::TSC && !cpu.model.writes_whole_tsc {
        new &= 0xffff_ffff;
    }

    cpu.put_msr(number, new);
    cpu.show_control(Control::Msr { number, new });
    if number == msr::EFER {
        // Manual: changing NXE is not among the operations that invalidate TLBs
        cpu.update_context();
        cpu.forget_front();
    }
    if number == msr::APIC_BASE {
        let now = cpu.now();
        cpu.bus.set_apic_base(new, now);
        cpu.forget_front();
        cpu.leave_block();
        cpu.horizon = 0;
    }
    if msr::is_mtrr(number) {
        cpu.flush_tlb_all(FlushCause::Mtrr);
    }
    Ok(())
}

/// CR4.TSD keeps the time-stamp counter for CPL 0, else #GP(0).
fn require_time<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>) -> Exec {
    let kept = cpu.cr4 & CR4_TSD != 0;
    cpu.ensure(!kept || cpu.cpl == 0, GP)
}

/// RDTSC.
pub fn rdtsc<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    require_time(cpu)?;

    let time = cpu.time_stamp();

    cpu.set_edx_eax(time);
    Ok(())
}

/// RDTSCP: besides, IA32_TSC_AUX to ECX.
pub fn rdtscp<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    require_time(cpu)?;

    let time = cpu.time_stamp();
    let aux = cpu.msrs.tsc_aux;

    cpu.set_edx_eax(time);
    cpu.regs.set_dword(ECX, aux);
    Ok(())
}

/// RDPID: IA32_TSC_AUX, at any CPL.
pub fn rdpid<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let aux = cpu.msrs.tsc_aux;
    cpu.regs.set_dword(op.rm, aux);
    Ok(())
}

/// RDPMC: at CPL 0, elsewhere with CR4.PCE; #GP(0) otherwise, and for a counter that is not there. The counters hold what
/// was written to them; nothing counts.
pub fn rdpmc<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    cpu.ensure(cpu.cpl == 0 || cpu.cr4 & CR4_PCE != 0, GP)?;
    let counter = cpu.regs.dword(ECX);
    let (first, count) = cpu.model.counters;
    cpu.ensure(counter < count, GP)?;

    let value = cpu.read_msr(first + counter).unwrap_or(0);

    cpu.set_edx_eax(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::model::{MAX, Model, P4, P6, PENTIUM};

    fn write(cpu: &mut TestCpu, number: u32, value: u64) -> Result<(), Fault> {
        cpu.regs.set_dword(ECX, number);
        cpu.set_edx_eax(value);
        run(cpu, &[0x0f, 0x30])
    }

    fn read(cpu: &mut TestCpu, number: u32) -> Result<u64, Fault> {
        cpu.regs.set_dword(ECX, number);
        run(cpu, &[0x0f, 0x32])?;
        Ok(cpu.regs.dword(EAX) as u64 | (cpu.regs.dword(EDX) as u64) << 32)
    }

    #[test]
    fn registers_a_model_lacks_are_gp() {
        let there = |model: Model, number| read(&mut cpu_of(model), number).is_ok();
        for number in [msr::EFER, msr::TSC_AUX] {
            assert!(
                there(MAX, number) && !there(P4, number) && !there(P6, number) && !there(PENTIUM, number)
            );
        }
        for number in [0x1b, 0x8b, 0xfe, 0x174, 0x277, 0x2ff] {
            assert!(there(MAX, number) && there(P4, number) && there(P6, number) && !there(PENTIUM, number));
        }
        assert!(there(PENTIUM, 0x11) && !there(P6, 0x11));
        assert!(there(P4, 0x1a0) && !there(P6, 0x1a0));
        for model in [PENTIUM, P6, P4, MAX] {
            assert!(there(model, msr::TSC) && !there(model, 0xc000_0081) && !there(model, 0x4b56_4d00));
        }
    }

    #[test]
    fn reserved_bits_are_gp_and_change_nothing() {
        let mut cpu = cpu_of(MAX);
        assert_eq!(write(&mut cpu, msr::EFER, 0x800), Ok(()));
        assert!(cpu.paging.nxe);
        for bit in (0..64).filter(|&bit| bit != 11) {
            assert_eq!(write(&mut cpu, msr::EFER, 1 << bit), Err(GP), "bit {bit}");
        }
        assert_eq!(read(&mut cpu, msr::EFER), Ok(0x800));
        assert_eq!(write(&mut cpu, 0xfe, 0), Err(GP), "MTRRCAP is read-only");
        assert_eq!(write(&mut cpu, msr::TSC_AUX, 1 << 32), Err(GP));
    }

    #[test]
    fn the_time_stamp_counter_counts_nanoseconds_from_what_was_written() {
        let mut cpu = cpu_of(MAX);
        assert_eq!(write(&mut cpu, msr::TSC, 0x1_2345_6789_0000), Ok(()));
        cpu.retired += 5;
        assert_eq!(read(&mut cpu, msr::TSC), Ok(0x1_2345_6789_0005));
        run(&mut cpu, &[0x0f, 0x31]).unwrap();
        assert_eq!((cpu.regs.dword(EDX), cpu.regs.dword(EAX)), (0x1_2345, 0x6789_0005));
        let mut cpu = cpu_of(P6);
        assert_eq!(write(&mut cpu, msr::TSC, 0x1_2345_6789_0000), Ok(()));
        assert_eq!(read(&mut cpu, msr::TSC), Ok(0x6789_0000));
    }

    #[test]
    fn tsd_and_pce_decide_who_reads_counters() {
        for (cr4, cpl, ok) in [(0, 3, true), (CR4_TSD, 0, true), (CR4_TSD, 1, false), (CR4_TSD, 3, false)] {
            for bytes in [&[0x0f, 0x31][..], &[0x0f, 0x01, 0xf9]] {
                let mut cpu = cpu_of(MAX);
                cpu.cr4 = cr4;
                cpu.set_cpl(cpl);
                assert_eq!(run(&mut cpu, bytes).is_ok(), ok);
            }
        }
        for (cr4, cpl, counter, ok) in
            [(0, 0, 1, true), (0, 0, 2, false), (0, 3, 0, false), (CR4_PCE, 3, 0, true)]
        {
            let mut cpu = cpu_of(P6);
            cpu.cr4 = cr4;
            cpu.set_cpl(cpl);
            cpu.regs.set_dword(ECX, counter);
            assert_eq!(run(&mut cpu, &[0x0f, 0x33]).is_ok(), ok);
        }
    }

    #[test]
    fn memory_types_flush_the_tlb_and_efer_does_not() {
        let mut cpu = cpu_of(MAX);
        write(&mut cpu, msr::EFER, 0x800).unwrap();
        write(&mut cpu, 0x277, 0x0006_0606_0606_0606).unwrap();
        assert_eq!(cpu.tlb.counters.flushes, [0; 9]);
        write(&mut cpu, 0x2ff, 0xc06).unwrap();
        assert_eq!(cpu.tlb.counters.flushes[FlushCause::Mtrr as usize], 1);
    }

    #[test]
    fn the_microcode_revision_appears_after_cpuid() {
        let mut cpu = cpu_of(P6);
        write(&mut cpu, 0x8b, 0).unwrap();
        assert_eq!(read(&mut cpu, 0x8b), Ok(0));
        cpu.regs.set_dword(EAX, 1);
        run(&mut cpu, &[0x0f, 0xa2]).unwrap();
        assert_eq!(read(&mut cpu, 0x8b), Ok(8 << 32));
    }
}
