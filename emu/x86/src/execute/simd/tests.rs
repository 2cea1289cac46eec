//! What all instructions of MMX and SSE have in common, at any privilege.

use super::raise_simd;
use crate::bus::Bus;
use crate::control::*;
use crate::execute::system::testing::{TestCpu, cpu_of, run};
use crate::fault::{Fault, Pending};
use crate::model::{MAX, P6};
use crate::regs::EAX;
use crate::width::Cell;

const MOVAPS: &[u8] = &[0x0f, 0x28, 0x00]; // xmm0, [eax]
const MOVUPS: &[u8] = &[0x0f, 0x10, 0x00];
const PADDB_MM: &[u8] = &[0x0f, 0xfc, 0xc1]; // mm0, mm1
const PADDB_XMM: &[u8] = &[0x66, 0x0f, 0xfc, 0xc1];
const MOVD_MM: &[u8] = &[0x0f, 0x6e, 0x08]; // mm1, [eax]
const EMMS: &[u8] = &[0x0f, 0x77];
const LDMXCSR: &[u8] = &[0x0f, 0xae, 0x10];
const FXSAVE: &[u8] = &[0x0f, 0xae, 0x00];
const FXRSTOR: &[u8] = &[0x0f, 0xae, 0x08];
const CRC32: &[u8] = &[0xf2, 0x0f, 0x38, 0xf1, 0xc0];
const DIVPS: &[u8] = &[0x0f, 0x5e, 0xc1]; // xmm0, xmm1

fn cpu() -> TestCpu {
    let mut cpu = cpu_of(MAX.whole());
    cpu.regs.set_dword(EAX, 0x2000);
    cpu.cr0 |= CR0_NE;
    cpu.cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT;
    cpu.fpu.control = 0x37f;
    cpu
}

#[test]
fn em_is_ud_then_osfxsr_is_ud_for_sse_then_ts_is_nm() {
    // SDM 3A tables of exceptions by CR0 and CR4 in "System Programming for Instruction Set Extensions"
    for (cr0, osfxsr, mmx, sse) in [
        (0, true, Ok(()), Ok(())),
        (CR0_EM, true, Err(Fault::InvalidOpcode), Err(Fault::InvalidOpcode)),
        (CR0_TS, true, Err(Fault::DeviceNotAvailable), Err(Fault::DeviceNotAvailable)),
        (CR0_EM | CR0_TS, true, Err(Fault::InvalidOpcode), Err(Fault::InvalidOpcode)),
        (0, false, Ok(()), Err(Fault::InvalidOpcode)),
        (CR0_TS, false, Err(Fault::DeviceNotAvailable), Err(Fault::InvalidOpcode)),
    ] {
        let mut cpu = cpu();
        cpu.cr0 |= cr0;
        if !osfxsr {
            cpu.cr4 &= !CR4_OSFXSR;
        }
        assert_eq!(run(&mut cpu, PADDB_MM), mmx, "CR0 {cr0:#x}");
        assert_eq!(run(&mut cpu, PADDB_XMM), sse, "CR0 {cr0:#x}");
        assert_eq!(run(&mut cpu, LDMXCSR), sse, "CR0 {cr0:#x}");
        assert_eq!(run(&mut cpu, CRC32), Ok(()), "general registers only");
    }
}

#[test]
fn a_pending_x87_exception_is_reported_by_mmx_and_not_by_sse() {
    let mut cpu = cpu();
    (cpu.fpu.control, cpu.fpu.status) = (0x37e, 1);
    assert_eq!(run(&mut cpu, PADDB_MM), Err(Fault::FloatingPoint));
    assert_eq!(run(&mut cpu, EMMS), Err(Fault::FloatingPoint));
    assert_eq!(run(&mut cpu, PADDB_XMM), Ok(()));
}

#[test]
fn operands_of_16_bytes_must_be_aligned_where_the_manual_says_so() {
    let mut cpu = cpu();
    cpu.regs.set_dword(EAX, 0x2008);
    assert_eq!(run(&mut cpu, MOVAPS), Err(Fault::GeneralProtection(0)));
    assert_eq!(run(&mut cpu, FXSAVE), Err(Fault::GeneralProtection(0)));
    assert_eq!(run(&mut cpu, MOVUPS), Ok(()));
}

#[test]
fn the_limit_counts_for_all_16_bytes() {
    let mut cpu = cpu();
    cpu.segs[crate::segment::DS] = crate::segment::Segment::new(0x10, 0, 0x200e, 0xc093 & !0x8000);
    assert_eq!(run(&mut cpu, MOVUPS), Err(Fault::GeneralProtection(0)));
    cpu.segs[crate::segment::DS] = crate::segment::Segment::new(0x10, 0, 0x200f, 0xc093 & !0x8000);
    assert_eq!(run(&mut cpu, MOVUPS), Ok(()));
}

#[test]
fn mmx_registers_are_the_x87_ones_with_ones_above_and_fill_the_stack() {
    let mut cpu = cpu();
    (cpu.fpu.tag, cpu.fpu.status) = (0xffff, 0x3800);
    cpu.bus.ram_mut().write(0x2000, &0x1234_5678u32.to_le_bytes());
    run(&mut cpu, MOVD_MM).unwrap();
    assert_eq!(cpu.fpu.registers[1], [0x78, 0x56, 0x34, 0x12, 0, 0, 0, 0, 0xff, 0xff]);
    assert_eq!(cpu.fpu.status & 0x3800, 0, "TOP");
    assert!((0..8).all(|n| cpu.fpu.tag >> (2 * n) & 3 != 3), "{:#x}", cpu.fpu.tag);
    run(&mut cpu, EMMS).unwrap();
    assert_eq!(cpu.fpu.tag, 0xffff);
}

#[test]
fn bits_of_mxcsr_that_do_not_exist_are_gp() {
    for (model, value, allowed) in [
        (MAX, 0xffff, true),
        (MAX, 0x1_0000, false),
        (P6, 0xffbf, true),
        (P6, 0x0040, false), // DAZ came with SSE2
    ] {
        let mut cpu = cpu();
        cpu.model = model.whole();
        let expected = if allowed { Ok(()) } else { Err(Fault::GeneralProtection(0)) };
        cpu.bus.ram_mut().write(0x2000, &u32::to_le_bytes(value));
        assert_eq!(run(&mut cpu, LDMXCSR), expected, "{} {value:#x}", model.name);
        run(&mut cpu, FXSAVE).unwrap();
        cpu.bus.ram_mut().write(0x2018, &u32::to_le_bytes(value));
        assert_eq!(run(&mut cpu, FXRSTOR), expected, "{} {value:#x}", model.name);
        assert_eq!(cpu.mxcsr, if allowed { value } else { MXCSR_RESET });
    }
}

#[test]
fn fxsave_and_fxrstor_are_each_others_inverse_and_tell_the_mask() {
    let mut cpu = cpu();
    cpu.xmm = std::array::from_fn(|n| 0x0123_4567_89ab_cdef_1122_3344_5566_7788 << n);
    cpu.mxcsr = 0x9fc0;
    cpu.fpu.registers[3] = [7; 10];
    let before = (cpu.xmm, cpu.mxcsr, cpu.fpu.registers);
    run(&mut cpu, FXSAVE).unwrap();
    assert_eq!(u32::load(cpu.bus.ram(), 0x201c), 0xffff);
    (cpu.xmm, cpu.mxcsr) = ([0; 8], MXCSR_RESET);
    cpu.fpu.registers = [[0; 10]; 8];
    run(&mut cpu, FXRSTOR).unwrap();
    assert_eq!((cpu.xmm, cpu.mxcsr, cpu.fpu.registers), before);
}

#[test]
fn an_unmasked_exception_is_xm_or_without_osxmmexcpt_ud_and_leaves_its_flag() {
    const ZE: u32 = 1 << 2;
    for (cr4, fault) in [(CR4_OSXMMEXCPT, Fault::Simd), (0, Fault::InvalidOpcode)] {
        let mut cpu = cpu();
        cpu.cr4 = cpu.cr4 & !CR4_OSXMMEXCPT | cr4;
        cpu.xmm[0] = 0x3f80_0000_3f80_0000_3f80_0000_3f80_0000;
        cpu.xmm[1] = 0x3f80_0000;
        cpu.mxcsr = MXCSR_RESET & !(ZE << 7);
        let before = cpu.xmm;
        assert_eq!(run(&mut cpu, DIVPS), Err(fault));
        assert_eq!((cpu.xmm, cpu.mxcsr & 0x3f), (before, ZE));
        cpu.mxcsr = MXCSR_RESET;
        assert_eq!(run(&mut cpu, DIVPS), Ok(()));
        assert_eq!(cpu.xmm[0], 0x7f80_0000_7f80_0000_7f80_0000_3f80_0000);
    }
    let mut cpu = cpu();
    let raised = raise_simd(&mut cpu, ZE);
    assert!(raised.is_ok(), "all are masked after reset");
    assert_eq!(cpu.pending, Pending::None);
}
