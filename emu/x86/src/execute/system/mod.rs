//! Control, debug and table registers, MSRs, CPUID, HLT, SYSENTER, cache and TLB control (SDM 3A "System Instruction
//! Summary").

mod cache;
mod control;
mod debug;
mod identify;
mod interrupt;
mod msr;
mod sysenter;
mod table;

use iced_x86::{Code, Mnemonic};

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::{Shape, by_form};
use crate::fault::{Exec, Fault};
use crate::observe::Observer;
use crate::op::Handler;

/// The bodies of this family.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code {
        Code::Mov_r32_cr => control::mov_from_cr,
        Code::Mov_cr_r32 => control::mov_to_cr,
        Code::Smsw_rm16 => by_form!(shape, smsw, u16),
        Code::Smsw_r32m16 if shape.memory => control::smsw::<B, O, super::Mem, u16>,
        Code::Smsw_r32m16 => control::smsw::<B, O, super::Reg, u32>,
        Code::Lmsw_rm16 | Code::Lmsw_r32m16 => by_form!(shape, lmsw),
        Code::Clts => control::clts,

        Code::Mov_r32_dr => debug::mov_from_dr,
        Code::Mov_dr_r32 => debug::mov_to_dr,

        Code::Lgdt_m1632_16 | Code::Lgdt_m1632 => table::load::<B, O, table::Gdtr>,
        Code::Lidt_m1632_16 | Code::Lidt_m1632 => table::load::<B, O, table::Idtr>,
        Code::Sgdt_m1632_16 | Code::Sgdt_m1632 => table::store::<B, O, table::Gdtr>,
        Code::Sidt_m1632_16 | Code::Sidt_m1632 => table::store::<B, O, table::Idtr>,

        Code::Cli => interrupt::cli,
        Code::Sti => interrupt::sti,
        Code::Hlt => interrupt::hlt,
        Code::Stac => interrupt::stac,
        Code::Clac => interrupt::clac,

        Code::Rdmsr => msr::rdmsr,
        Code::Wrmsr => msr::wrmsr,
        Code::Rdtsc => msr::rdtsc,
        Code::Rdtscp => msr::rdtscp,
        Code::Rdpid_r32 => msr::rdpid,
        Code::Rdpmc => msr::rdpmc,
        Code::Sysenter => sysenter::sysenter,
        Code::Sysexitd => sysenter::sysexit,
        Code::Cpuid => identify::cpuid,

        Code::Invlpg_m => cache::invlpg,
        Code::Invd | Code::Wbinvd => cache::invd,
        Code::Clflush_m8 | Code::Clflushopt_m8 | Code::Clwb_m8 => cache::clflush,
        Code::Movnti_m32_r32 => cache::movnti,
        code => match code.mnemonic() {
            Mnemonic::Lfence
            | Mnemonic::Mfence
            | Mnemonic::Sfence
            | Mnemonic::Prefetch
            | Mnemonic::Prefetchw
            | Mnemonic::Prefetchnta
            | Mnemonic::Prefetcht0
            | Mnemonic::Prefetcht1
            | Mnemonic::Prefetcht2
            | Mnemonic::Reservednop => cache::hint,
            _ => return None,
        },
    })
}

use control::{lmsw, smsw};

/// The first clause of most of these: CPL 0, else #GP(0). Virtual-8086 mode is CPL 3.
fn require_cpl0<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>) -> Exec {
    cpu.ensure(cpu.cpl == 0, Fault::GeneralProtection(0))
}

/// CR4.UMIP keeps SGDT, SIDT, SLDT, STR and SMSW for CPL 0, else #GP(0).
pub(super) fn require_umip<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>) -> Exec {
    let kept = cpu.cr4 & crate::control::CR4_UMIP != 0;
    cpu.ensure(!kept || cpu.cpl == 0, Fault::GeneralProtection(0))
}

#[cfg(test)]
pub(super) mod testing {
    //! Runs one instruction and tells the fault, without an IDT.

    use crate::cpu::Cpu;
    use crate::decode::{Decoded, decode};
    use crate::fault::{Fault, Pending};
    use crate::flat::{FlatBus, Start, processor};
    use crate::model::Model;
    use crate::{flags, segment::CS};

    pub type TestCpu = Cpu<FlatBus, ()>;

    /// A flat 32-bit processor of this model at CPL 0 with 64 KiB of memory.
    pub fn cpu_of(model: Model) -> TestCpu {
        let mut cpu = processor(Start::Flat32, &[0x90], 0x1000, 0x1_0000).cpu;
        cpu.model = model;
        cpu.update_context();
        cpu
    }

    /// In virtual-8086 mode.
    pub fn vm86_of(model: Model, iopl: u32) -> TestCpu {
        let mut cpu = cpu_of(model);
        for segment in &mut cpu.segs {
            *segment = crate::segment::Segment::real(0, 3);
        }
        cpu.set_flags(flags::VM | iopl << 12, flags::VM | flags::IOPL);
        cpu.set_cpl(3);
        cpu
    }

    /// Runs one instruction.
    pub fn run(cpu: &mut TestCpu, bytes: &[u8]) -> Result<(), Fault> {
        attempt(cpu, bytes).map_err(|pending| match pending {
            Pending::Fault(fault) => fault,
            other => panic!("{bytes:x?}: {other:?}"),
        })
    }

    /// Runs one instruction, which may also stop the run.
    pub fn attempt(cpu: &mut TestCpu, bytes: &[u8]) -> Result<(), Pending> {
        let Decoded::Op(op) = decode(bytes, cpu.segs[CS].is_32bit(), &cpu.model, 0) else {
            panic!("{bytes:x?} is no whole instruction")
        };
        cpu.block_eip = cpu.eip;
        (op.run)(cpu, &op).map_err(|raised| cpu.take_pending(raised))
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use crate::fault::Fault;
    use crate::model::{I386, I486, MAX, P4, P6, PENTIUM};

    const GP: Result<(), Fault> = Err(Fault::GeneralProtection(0));
    const UD: Result<(), Fault> = Err(Fault::InvalidOpcode);

    #[test]
    fn privileged_instructions_are_gp_outside_cpl_0_and_stac_and_clac_are_ud() {
        let privileged: [&[u8]; 16] = [
            &[0x0f, 0x22, 0xc0], // mov cr0, eax
            &[0x0f, 0x20, 0xd8], // mov eax, cr3
            &[0x0f, 0x01, 0xf0], // lmsw ax
            &[0x0f, 0x06],       // clts
            &[0x0f, 0x01, 0x10], // lgdt [eax]
            &[0x0f, 0x01, 0x18], // lidt [eax]
            &[0x0f, 0x01, 0x38], // invlpg [eax]
            &[0x0f, 0x08],       // invd
            &[0x0f, 0x09],       // wbinvd
            &[0xf4],             // hlt
            &[0x0f, 0x32],       // rdmsr
            &[0x0f, 0x30],       // wrmsr
            &[0x0f, 0x21, 0xf8], // mov eax, dr7
            &[0x0f, 0x23, 0xf8], // mov dr7, eax
            &[0xfa],             // cli
            &[0x0f, 0x33],       // rdpmc
        ];
        for bytes in privileged {
            for cpl in 1..=3 {
                let mut cpu = cpu_of(MAX);
                cpu.set_cpl(cpl);
                let before = cpu.state.clone();
                assert_eq!(run(&mut cpu, bytes), GP, "{bytes:x?} at cpl {cpl}");
                assert_eq!(cpu.state, before);
            }
            if bytes[0] == 0x0f {
                assert_eq!(run(&mut vm86_of(MAX, 3), bytes), GP, "{bytes:x?} in vm86");
            }
        }
        for bytes in [[0x0f, 0x01, 0xcb], [0x0f, 0x01, 0xca]] {
            let mut cpu = cpu_of(MAX);
            cpu.set_cpl(1);
            assert_eq!(run(&mut cpu, &bytes), UD);
        }
    }

    #[test]
    fn what_a_model_lacks_is_ud() {
        let cases: [(&[u8], &[_], &[_]); 12] = [
            (&[0x0f, 0xa2], &[I386, I486], &[PENTIUM, P6, P4, MAX]), // cpuid
            (&[0x0f, 0x31], &[I386, I486], &[PENTIUM, P6, P4, MAX]), // rdtsc
            (&[0x0f, 0x20, 0xe0], &[I386, I486], &[PENTIUM, P6, P4, MAX]), // mov eax, cr4
            (&[0x0f, 0x01, 0x38], &[I386], &[I486, PENTIUM, P6, P4, MAX]), // invlpg [eax]
            (&[0x0f, 0x09], &[I386], &[I486, PENTIUM, P6, P4, MAX]), // wbinvd
            (&[0x0f, 0x01, 0xf9], &[I386, I486, PENTIUM, P6, P4], &[MAX]), // rdtscp
            (&[0x0f, 0x01, 0xcb], &[I386, I486, PENTIUM, P6, P4], &[MAX]), // stac
            (&[0x0f, 0xae, 0x38], &[I386, I486, PENTIUM, P6], &[P4, MAX]), // clflush [eax]
            (&[0x0f, 0xae, 0xf8], &[I386, I486, PENTIUM], &[P6, P4, MAX]), // sfence
            (&[0x0f, 0xae, 0xf0], &[I386, I486, PENTIUM, P6], &[P4, MAX]), // mfence
            (&[0xf3, 0x0f, 0x1e, 0xfb], &[I386, I486, PENTIUM], &[P6, P4, MAX]), // endbr32, a reserved NOP
            (&[0x0f, 0x0d, 0x08], &[I386, I486, PENTIUM, P6, P4], &[MAX]), // prefetchw [eax]
        ];
        for (bytes, without, with) in cases {
            for model in without {
                assert_eq!(run(&mut cpu_of(*model), bytes), UD, "{bytes:x?} on {}", model.name);
            }
            for model in with {
                assert_eq!(run(&mut cpu_of(*model), bytes), Ok(()), "{bytes:x?} on {}", model.name);
            }
        }
    }

    #[test]
    fn instructions_of_no_model_are_ud() {
        let cases: [&[u8]; 7] = [
            &[0x0f, 0x01, 0xc8], // monitor
            &[0x0f, 0x01, 0xc9], // mwait
            &[0x0f, 0x01, 0xd0], // xgetbv
            &[0x0f, 0xaa],       // rsm
            &[0x0f, 0x05],       // syscall
            &[0x0f, 0x20, 0xc8], // mov eax, cr1
            &[0x0f, 0x22, 0xe8], // mov cr5, eax
        ];
        for bytes in cases {
            assert_eq!(run(&mut cpu_of(MAX), bytes), UD, "{bytes:x?}");
        }
    }

    #[test]
    fn umip_keeps_the_stores_of_system_registers_for_cpl_0() {
        // smsw ax; smsw [eax]; sgdt [eax]; sidt [eax]
        let stores: [&[u8]; 4] =
            [&[0x0f, 0x01, 0xe0], &[0x0f, 0x01, 0x20], &[0x0f, 0x01, 0x00], &[0x0f, 0x01, 0x08]];
        for bytes in stores {
            for (cpl, umip, expected) in [(0, true, Ok(())), (3, false, Ok(())), (3, true, GP), (1, true, GP)]
            {
                let mut cpu = cpu_of(MAX);
                cpu.cr4 = if umip { crate::control::CR4_UMIP } else { 0 };
                cpu.set_cpl(cpl);
                assert_eq!(run(&mut cpu, bytes), expected, "{bytes:x?} at cpl {cpl}, umip {umip}");
            }
        }
    }
}
