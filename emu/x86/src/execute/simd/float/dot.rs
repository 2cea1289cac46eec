//! DPPS, DPPD (SDM 2A "DPPS"): each product and each sum is rounded, and its exceptions count before the next is computed.

use iced_x86::Mnemonic;

use super::arithmetic::{Add, Lanewise, Multiply};
use super::{Control, Double, Exceptions, Real, Single, get, put};
use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::execute::simd::{Source, Xmm, require_sse};
use crate::execute::{Mem, Reg, Shape};
use crate::fault::Exec;
use crate::observe::Observer;
use crate::op::{Handler, Op};

/// The bodies.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    Some(match (shape.code.mnemonic(), shape.memory) {
        (Mnemonic::Dpps, true) => dot_product::<B, O, Mem, Single>,
        (Mnemonic::Dpps, false) => dot_product::<B, O, Reg, Single>,
        (Mnemonic::Dppd, true) => dot_product::<B, O, Mem, Double>,
        (Mnemonic::Dppd, false) => dot_product::<B, O, Reg, Double>,
        _ => return None,
    })
}

/// The immediate's upper half chooses products, its lower half where the sum goes; the rest is zero.
fn dot_product<B: Bus, O: Observer, S: Source, R: Real>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    require_sse(cpu)?;
    let source = S::get::<B, O, Xmm, 16>(cpu, op)?;
    let control = Control::of(cpu.mxcsr);
    let dest = cpu.xmm[op.reg as usize & 7];
    let (imm, count) = (op.imm as u8, 16 / R::BYTES);
    let mut terms = [0; 4];
    let mut exceptions = Exceptions::default();
    for (n, term) in terms.iter_mut().enumerate().take(count) {
        if imm >> (4 + n) & 1 != 0 {
            let (a, b) = (get(dest, n, R::BYTES), get(source, n, R::BYTES));
            let answer = Multiply::lane::<R>(a, b, 0, &control);
            *term = answer.bits;
            exceptions = exceptions.and(answer.exceptions);
        }
    }
    exceptions.raise(cpu)?;
    let mut width = count;
    while width > 1 {
        width /= 2;
        let mut exceptions = Exceptions::default();
        for n in 0..width {
            let answer = Add::lane::<R>(terms[2 * n], terms[2 * n + 1], 0, &control);
            terms[n] = answer.bits;
            exceptions = exceptions.and(answer.exceptions);
        }
        exceptions.raise(cpu)?;
    }
    let sum = |value: u128, n: usize| put(value, n, R::BYTES, if imm >> n & 1 != 0 { terms[0] } else { 0 });
    let value = (0..count).fold(0, sum);

    cpu.xmm[op.reg as usize & 7] = value;
    Ok(())
}
