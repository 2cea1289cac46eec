//! Single lanes to and from general registers and memory, and PTEST (SDM 1 "Insertion and Extractions from XMM Registers",
//! "Packed TEST Instructions").

use iced_x86::Code;

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::simd::{
    File, Lane, Mm, Source, Xmm, build, lane, load, of_xmm, operations, store, with_lane,
};
use crate::execute::{Mem, Reg, Shape};
use crate::fault::Exec;
use crate::flags::{CF, ZF};
use crate::observe::Observer;
use crate::op::{Handler, Op};

/// The bodies.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match shape.code {
        Code::Pinsrb_xmm_r32m8_imm8 => insert::<B, O, Xmm, u8>(shape),
        Code::Pinsrw_xmm_r32m16_imm8 => insert::<B, O, Xmm, u16>(shape),
        Code::Pinsrd_xmm_rm32_imm8 => insert::<B, O, Xmm, u32>(shape),
        Code::Pinsrw_mm_r32m16_imm8 => insert::<B, O, Mm, u16>(shape),
        Code::Pextrb_r32m8_xmm_imm8 => extract::<B, O, u8, 1>(shape),
        Code::Pextrw_r32m16_xmm_imm8 => extract::<B, O, u16, 2>(shape),
        Code::Pextrd_rm32_xmm_imm8 | Code::Extractps_rm32_xmm_imm8 => extract::<B, O, u32, 4>(shape),
        Code::Pextrw_r32_xmm_imm8 => pextrw::<B, O, Xmm>,
        Code::Pextrw_r32_mm_imm8 => pextrw::<B, O, Mm>,
        Code::Insertps_xmm_xmmm32_imm8 if shape.memory => of_xmm::<B, O, InsertFromMemory, 4>(shape),
        Code::Ptest_xmm_xmmm128 if shape.memory => ptest::<B, O, Mem>,
        Code::Ptest_xmm_xmmm128 => ptest::<B, O, Reg>,
        _ => return operations(shape),
    })
}

/// Lane `imm` modulo the number of lanes.
fn index<F: File, L: Lane>(imm: u32) -> usize {
    imm as usize & (F::BYTES / L::BYTES - 1)
}

/// A lane's value, as general registers hold it.
trait Value: Lane {
    fn from_u32(value: u32) -> Self;
    fn to_u32(self) -> u32;
}

macro_rules! value {
    ($($t:ty)*) => {$(
        impl Value for $t {
            fn from_u32(value: u32) -> $t {
                value as $t
            }
            fn to_u32(self) -> u32 {
                self as u32
            }
        }
    )*};
}
value!(u8 u16 u32);

fn insert<B: Bus, O: Observer, F: File, L: Value>(shape: Shape) -> Handler<B, O> {
    match (shape.memory, L::BYTES) {
        (false, _) => insert_register::<B, O, F, L>,
        (true, 1) => insert_memory::<B, O, F, L, 1>,
        (true, 2) => insert_memory::<B, O, F, L, 2>,
        (true, _) => insert_memory::<B, O, F, L, 4>,
    }
}

fn put<B: Bus, O: Observer, F: File, L: Value>(cpu: &mut Cpu<B, O>, op: &Op<B, O>, value: u32) {
    let dest = F::get(&cpu.state, op.reg);
    F::set(&mut cpu.state, op.reg, with_lane(dest, index::<F, L>(op.imm), L::from_u32(value)));
}

/// PINSRB, PINSRW, PINSRD from a general register.
fn insert_register<B: Bus, O: Observer, F: File, L: Value>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    F::begin(cpu)?;

    let value = cpu.regs.dword(op.rm);
    put::<B, O, F, L>(cpu, op, value);
    Ok(())
}

/// The same from memory.
fn insert_memory<B: Bus, O: Observer, F: File, L: Value, const BYTES: usize>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec {
    F::begin(cpu)?;
    let value = load::<B, O, BYTES>(cpu, op)?;

    put::<B, O, F, L>(cpu, op, value as u32);
    Ok(())
}

fn extract<B: Bus, O: Observer, L: Value, const BYTES: usize>(shape: Shape) -> Handler<B, O> {
    if shape.memory { extract_to_memory::<B, O, L, BYTES> } else { extract_to_register::<B, O, L> }
}

/// PEXTRB, PEXTRW, PEXTRD, EXTRACTPS to a general register.
fn extract_to_register<B: Bus, O: Observer, L: Value>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    Xmm::begin(cpu)?;

    let value = lane::<L>(Xmm::get(&cpu.state, op.reg), index::<Xmm, L>(op.imm));

    cpu.regs.set_dword(op.rm, value.to_u32());
    Ok(())
}

/// The same to memory.
fn extract_to_memory<B: Bus, O: Observer, L: Value, const BYTES: usize>(
    cpu: &mut Cpu<B, O>,
    op: &Op<B, O>,
) -> Exec {
    Xmm::begin(cpu)?;
    let value = lane::<L>(Xmm::get(&cpu.state, op.reg), index::<Xmm, L>(op.imm));
    store::<B, O, BYTES>(cpu, op, value.to_u32() as u128)
}

/// PEXTRW as MMX and SSE2 have it: the register is the r/m operand.
fn pextrw<B: Bus, O: Observer, F: File>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    F::begin(cpu)?;

    let value = lane::<u16>(F::get(&cpu.state, op.rm), index::<F, u16>(op.imm));

    cpu.regs.set_dword(op.reg, value as u32);
    F::touch(&mut cpu.state);
    Ok(())
}

/// INSERTPS: bits 7 and 6 choose the source's lane, 5 and 4 the destination's, 3 to 0 lanes to clear.
fn insert_single(dest: u128, source: u32, imm: u8) -> u128 {
    let value = with_lane(dest, (imm >> 4 & 3) as usize, source);
    build::<u32>(16, |n| if imm >> n & 1 != 0 { 0 } else { lane(value, n) })
}

struct InsertFromMemory;

impl crate::execute::simd::Operation for InsertFromMemory {
    fn apply<F: File>(dest: u128, source: u128, imm: u8) -> u128 {
        insert_single(dest, source as u32, imm)
    }
}

operations! {
    Insertps[4] = |dest, source, imm, _| insert_single(dest, lane(source, (imm >> 6) as usize), imm);
}

/// PTEST: ZF if no bit is in both, CF if none is in the source alone; the others are cleared.
fn ptest<B: Bus, O: Observer, S: Source>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    Xmm::begin(cpu)?;
    let source = S::get::<B, O, Xmm, 16>(cpu, op)?;

    let dest = Xmm::get(&cpu.state, op.reg);
    let flag = |bits: u128, flag: u32| if bits == 0 { flag } else { 0 };

    cpu.flags.set_arithmetic(flag(source & dest, ZF) | flag(source & !dest, CF));
    Ok(())
}
