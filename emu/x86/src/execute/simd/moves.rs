//! Moves between registers and memory (SDM 1 "SSE Data Transfer Instructions", "SSE2 Data Movement Instructions").

use iced_x86::Code;

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::simd::{File, Mm, Operation, Xmm, lane, of_either, of_xmm, store, wide};
use crate::execute::simd::{require_both, with_lane};
use crate::execute::{Mem, Shape};
use crate::fault::{Exec, Fault};
use crate::mmu::{Aligned, Intent};
use crate::observe::Observer;
use crate::op::{Handler, Op};
use crate::regs::EDI;

/// The bodies.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code {
        Code::Movaps_xmm_xmmm128
        | Code::Movapd_xmm_xmmm128
        | Code::Movdqa_xmm_xmmm128
        | Code::Movntdqa_xmm_m128
        | Code::Movq_mm_mmm64 => of_either::<B, O, Copy>(shape),
        Code::Movups_xmm_xmmm128 | Code::Movupd_xmm_xmmm128 | Code::Movdqu_xmm_xmmm128 if !shape.memory => {
            of_either::<B, O, Copy>(shape)
        }
        Code::Movups_xmm_xmmm128
        | Code::Movupd_xmm_xmmm128
        | Code::Movdqu_xmm_xmmm128
        | Code::Lddqu_xmm_m128 => load_unaligned,
        Code::Movaps_xmmm128_xmm
        | Code::Movapd_xmmm128_xmm
        | Code::Movdqa_xmmm128_xmm
        | Code::Movups_xmmm128_xmm
        | Code::Movupd_xmmm128_xmm
        | Code::Movdqu_xmmm128_xmm
            if !shape.memory =>
        {
            to_register::<B, O, Xmm, Copy>
        }
        Code::Movaps_xmmm128_xmm
        | Code::Movapd_xmmm128_xmm
        | Code::Movdqa_xmmm128_xmm
        | Code::Movntps_m128_xmm
        | Code::Movntpd_m128_xmm
        | Code::Movntdq_m128_xmm => to_memory::<B, O, Xmm, 16, 0>,
        Code::Movups_xmmm128_xmm | Code::Movupd_xmmm128_xmm | Code::Movdqu_xmmm128_xmm => store_unaligned,

        // scalars: registers keep the rest, memory clears it
        Code::Movss_xmm_xmmm32 if shape.memory => of_xmm::<B, O, Copy, 4>(shape),
        Code::Movsd_xmm_xmmm64 if shape.memory => of_xmm::<B, O, Copy, 8>(shape),
        Code::Movss_xmm_xmmm32 => of_xmm::<B, O, Low32, 4>(shape),
        Code::Movsd_xmm_xmmm64 => of_xmm::<B, O, Low64, 8>(shape),
        Code::Movss_xmmm32_xmm if shape.memory => to_memory::<B, O, Xmm, 4, 0>,
        Code::Movsd_xmmm64_xmm if shape.memory => to_memory::<B, O, Xmm, 8, 0>,
        Code::Movss_xmmm32_xmm => to_register::<B, O, Xmm, Low32>,
        Code::Movsd_xmmm64_xmm => to_register::<B, O, Xmm, Low64>,
        Code::Movq_xmm_xmmm64 => of_xmm::<B, O, Zero64, 8>(shape),
        Code::Movq_xmmm64_xmm if !shape.memory => to_register::<B, O, Xmm, Zero64>,
        Code::Movq_mmm64_mm if !shape.memory => to_register::<B, O, Mm, Copy>,
        Code::Movq_xmmm64_xmm | Code::Movlps_m64_xmm | Code::Movlpd_m64_xmm => to_memory::<B, O, Xmm, 8, 0>,
        Code::Movhps_m64_xmm | Code::Movhpd_m64_xmm => to_memory::<B, O, Xmm, 8, 64>,
        Code::Movq_mmm64_mm | Code::Movntq_m64_mm => to_memory::<B, O, Mm, 8, 0>,

        // halves
        Code::Movlps_xmm_m64 | Code::Movlpd_xmm_m64 => of_xmm::<B, O, Low64, 8>(shape),
        Code::Movhps_xmm_m64 | Code::Movhpd_xmm_m64 | Code::Movlhps_xmm_xmm => {
            of_xmm::<B, O, LowToHigh, 8>(shape)
        }
        Code::Movhlps_xmm_xmm => of_xmm::<B, O, HighToLow, 8>(shape),
        Code::Movddup_xmm_xmmm64 => of_xmm::<B, O, Movddup, 8>(shape),
        Code::Movsldup_xmm_xmmm128 => of_xmm::<B, O, Movsldup, 16>(shape),
        Code::Movshdup_xmm_xmmm128 => of_xmm::<B, O, Movshdup, 16>(shape),

        // between files
        Code::Movd_xmm_rm32 if shape.memory => of_xmm::<B, O, Copy, 4>(shape),
        Code::Movd_mm_rm32 if shape.memory => crate::execute::simd::binary::<B, O, Mem, Mm, Copy, 4>,
        Code::Movd_xmm_rm32 => from_general::<B, O, Xmm>,
        Code::Movd_mm_rm32 => from_general::<B, O, Mm>,
        Code::Movd_rm32_xmm if shape.memory => to_memory::<B, O, Xmm, 4, 0>,
        Code::Movd_rm32_mm if shape.memory => to_memory::<B, O, Mm, 4, 0>,
        Code::Movd_rm32_xmm => to_general::<B, O, Xmm>,
        Code::Movd_rm32_mm => to_general::<B, O, Mm>,
        Code::Movq2dq_xmm_mm => movq2dq,
        Code::Movdq2q_mm_xmm => movdq2q,

        Code::Maskmovq_rDI_mm_mm => maskmov::<B, O, Mm>,
        Code::Maskmovdqu_rDI_xmm_xmm => maskmov::<B, O, Xmm>,
        Code::Movmskps_r32_xmm => sign_mask::<B, O, Xmm, 4>,
        Code::Movmskpd_r32_xmm => sign_mask::<B, O, Xmm, 8>,
        Code::Pmovmskb_r32_xmm => sign_mask::<B, O, Xmm, 1>,
        Code::Pmovmskb_r32_mm => sign_mask::<B, O, Mm, 1>,
        _ => return None,
    })
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $f:expr;)*) => {$(
        $(#[$doc])*
        struct $name;
        impl Operation for $name {
            fn apply<F: File>(dest: u128, source: u128, _: u8) -> u128 {
                let f: fn(u128, u128) -> u128 = $f;
                f(dest, source)
            }
        }
    )*};
}

operations! {
    Copy = |_, source| source;
    Low32 = |dest, source| with_lane(dest, 0, source as u32);
    Low64 = |dest, source| with_lane(dest, 0, source as u64);
    Zero64 = |_, source| source as u64 as u128;
    LowToHigh = |dest, source| with_lane(dest, 1, source as u64);
    HighToLow = |dest, source| with_lane(dest, 0, (source >> 64) as u64);
    Movddup = |_, source| with_lane(source, 1, source as u64);
    Movsldup = |_, source| source & EVEN | (source & EVEN) << 32;
    Movshdup = |_, source| source & !EVEN | (source & !EVEN) >> 32;
}

/// Doublewords 0 and 2.
const EVEN: u128 = 0x0000_0000_ffff_ffff_0000_0000_ffff_ffff;

fn load_unaligned<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    Xmm::begin(cpu)?;
    let source = wide(cpu, op, Intent::Read, Aligned::Any)?;

    let value = cpu.load_wide(source);

    Xmm::set(&mut cpu.state, op.reg, value);
    Ok(())
}

fn store_unaligned<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    Xmm::begin(cpu)?;
    let dest = wide(cpu, op, Intent::Write, Aligned::Any)?;

    let value = Xmm::get(&cpu.state, op.reg);

    cpu.store_wide(dest, value);
    Ok(())
}

/// Moves whose r/m operand, a register, is the destination.
fn to_register<B: Bus, O: Observer, F: File, K: Operation>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    F::begin(cpu)?;

    let value = K::apply::<F>(F::get(&cpu.state, op.rm), F::get(&cpu.state, op.reg), 0);

    F::set(&mut cpu.state, op.rm, value);
    Ok(())
}

/// Stores `BYTES` bytes of a register, from bit `FROM` on.
fn to_memory<B: Bus, O: Observer, F: File, const BYTES: usize, const FROM: u32>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec {
    F::begin(cpu)?;
    let value = F::get(&cpu.state, op.reg) >> FROM;
    store::<B, O, BYTES>(cpu, op, value)?;

    F::touch(&mut cpu.state);
    Ok(())
}

/// MOVD from a general register.
fn from_general<B: Bus, O: Observer, F: File>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    F::begin(cpu)?;

    let value = cpu.regs.dword(op.rm);

    F::set(&mut cpu.state, op.reg, value as u128);
    Ok(())
}

/// MOVD to a general register.
fn to_general<B: Bus, O: Observer, F: File>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    F::begin(cpu)?;

    let value = F::get(&cpu.state, op.reg) as u32;

    cpu.regs.set_dword(op.rm, value);
    F::touch(&mut cpu.state);
    Ok(())
}

/// MOVQ2DQ.
fn movq2dq<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_both(cpu)?;

    let value = Mm::get(&cpu.state, op.rm);

    Xmm::set(&mut cpu.state, op.reg, value);
    Mm::touch(&mut cpu.state);
    Ok(())
}

/// MOVDQ2Q.
fn movdq2q<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_both(cpu)?;

    let value = Xmm::get(&cpu.state, op.rm);

    Mm::set(&mut cpu.state, op.reg, value);
    Ok(())
}

/// MASKMOVQ, MASKMOVDQU: bytes whose mask has its top bit set go to \[EDI\] (SDM 2A "MASKMOVDQU"). Choice: the whole operand is
/// checked and translated, whatever the mask. It counts as aligned at 8 bytes, as AMD's processors have it.
fn maskmov<B: Bus, O: Observer, F: File>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    F::begin(cpu)?;
    let segment = op.segment as usize;
    let offset = cpu.regs.dword(EDI) & op.address_mask;
    let (value, mask) = (F::get(&cpu.state, op.reg), F::get(&cpu.state, op.rm));
    let linear = cpu.require_within(segment, offset, F::BYTES as u32, Intent::Write)?;
    cpu.ensure(!cpu.check_alignment || linear & 7 == 0, Fault::Alignment)?;
    let mut places = [None; 16];
    for (n, place) in places.iter_mut().enumerate().take(F::BYTES) {
        let at = cpu.translate::<u8>(segment, offset.wrapping_add(n as u32), Intent::Write)?;
        *place = (lane::<i8>(mask, n) < 0).then_some(at);
    }

    for (n, place) in places.into_iter().enumerate() {
        if let Some(place) = place {
            cpu.store(place, lane::<u8>(value, n));
        }
    }
    F::touch(&mut cpu.state);
    Ok(())
}

/// MOVMSKPS, MOVMSKPD, PMOVMSKB: the top bits of lanes of `BYTES` bytes.
fn sign_mask<B: Bus, O: Observer, F: File, const BYTES: usize>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    F::begin(cpu)?;

    let value = F::get(&cpu.state, op.rm);
    let bit = |n: usize| (value >> (n * BYTES * 8 + BYTES * 8 - 1) & 1) << n;
    let bits = (0..F::BYTES / BYTES).map(bit).sum::<u128>();

    cpu.regs.set_dword(op.reg, bits as u32);
    F::touch(&mut cpu.state);
    Ok(())
}
