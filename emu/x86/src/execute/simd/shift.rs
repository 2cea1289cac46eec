//! Packed shifts (SDM 1 "MMX Shift Instructions"): by a count for all lanes, from a register, memory, or the code.

use iced_x86::{Code, Mnemonic};

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::Shape;
use crate::execute::simd::{File, Mm, Operation, Xmm, lanes, of_either};
use crate::fault::Exec;
use crate::observe::Observer;
use crate::op::{Handler, Op};

/// The bodies.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    match shape.code {
        Code::Pslldq_xmm_imm8 => Some(by_immediate::<B, O, Xmm, Pslldq>),
        Code::Psrldq_xmm_imm8 => Some(by_immediate::<B, O, Xmm, Psrldq>),
        code => match code.mnemonic() {
            Mnemonic::Psllw => Some(shift::<B, O, Psllw>(shape)),
            Mnemonic::Pslld => Some(shift::<B, O, Pslld>(shape)),
            Mnemonic::Psllq => Some(shift::<B, O, Psllq>(shape)),
            Mnemonic::Psrlw => Some(shift::<B, O, Psrlw>(shape)),
            Mnemonic::Psrld => Some(shift::<B, O, Psrld>(shape)),
            Mnemonic::Psrlq => Some(shift::<B, O, Psrlq>(shape)),
            Mnemonic::Psraw => Some(shift::<B, O, Psraw>(shape)),
            Mnemonic::Psrad => Some(shift::<B, O, Psrad>(shape)),
            _ => None,
        },
    }
}

/// A shift of all lanes.
trait Shift {
    /// By `count` bits (of a whole register: bytes).
    fn shift(value: u128, count: u64) -> u128;
}

impl<K: Shift> Operation for K {
    fn apply<F: File>(dest: u128, source: u128, _: u8) -> u128 {
        K::shift(dest, source as u64)
    }
}

/// Counts beyond the lane clear it, or fill it with its sign.
macro_rules! shifts {
    ($($name:ident: $lane:ty = $checked:ident, $beyond:expr;)*) => {$(
        struct $name;
        impl Shift for $name {
            fn shift(value: u128, count: u64) -> u128 {
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                let beyond: fn($lane) -> $lane = $beyond;
                lanes::map(value, |lane: $lane| lane.$checked(count).unwrap_or(beyond(lane)))
            }
        }
    )*};
}

shifts! {
    Psllw: u16 = checked_shl, |_| 0;
    Pslld: u32 = checked_shl, |_| 0;
    Psllq: u64 = checked_shl, |_| 0;
    Psrlw: u16 = checked_shr, |_| 0;
    Psrld: u32 = checked_shr, |_| 0;
    Psrlq: u64 = checked_shr, |_| 0;
    Psraw: i16 = checked_shr, |lane| lane >> 15;
    Psrad: i32 = checked_shr, |lane| lane >> 31;
}

struct Pslldq;
struct Psrldq;

impl Shift for Pslldq {
    fn shift(value: u128, count: u64) -> u128 {
        value.checked_shl(count as u32 * 8).unwrap_or(0)
    }
}

impl Shift for Psrldq {
    fn shift(value: u128, count: u64) -> u128 {
        value.checked_shr(count as u32 * 8).unwrap_or(0)
    }
}

fn shift<B: Bus, O: Observer, K: Shift>(shape: Shape) -> Handler<B, O> {
    use iced_x86::OpCodeOperandKind as Kind;
    match shape.code.op_code().op_kinds() {
        [Kind::mm_rm, Kind::imm8] => by_immediate::<B, O, Mm, K>,
        [Kind::xmm_rm, Kind::imm8] => by_immediate::<B, O, Xmm, K>,
        _ => of_either::<B, O, K>(shape),
    }
}

/// Shifts the r/m operand, a register, by the immediate byte.
fn by_immediate<B: Bus, O: Observer, F: File, K: Shift>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    F::begin(cpu)?;

    let value = K::shift(F::get(&cpu.state, op.rm), op.imm as u8 as u64);

    F::set(&mut cpu.state, op.rm, value);
    Ok(())
}
