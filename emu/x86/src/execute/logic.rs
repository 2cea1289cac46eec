//! AND, OR, XOR, NOT, TEST (SDM 1 "Logical Instructions"; TEST is of its "Bit and Byte Instructions").

use iced_x86::Mnemonic;

use crate::bus::Bus;
use crate::execute::Shape;
use crate::execute::arithmetic::{Binary, Unary, binary, unary};
use crate::flags::Flags;
use crate::observe::Observer;
use crate::op::Handler;
use crate::width::Width;

/// The bodies of this family.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    match shape.code.mnemonic() {
        Mnemonic::And => binary::<B, O, And>(shape),
        Mnemonic::Or => binary::<B, O, Or>(shape),
        Mnemonic::Xor => binary::<B, O, Xor>(shape),
        Mnemonic::Test => binary::<B, O, Test>(shape),
        Mnemonic::Not => unary::<B, O, Not>(shape),
        _ => None,
    }
}

/// A logical result carries nothing: CF and OF are cleared. Choice: so is AF, as silicon does.
#[inline(always)]
fn logical<W: Width>(value: u32) -> (W, W) {
    (W::from_u32(value), W::default())
}

struct And;
impl Binary for And {
    #[inline(always)]
    fn apply<W: Width>(a: W, b: W, _: bool) -> (W, W) {
        logical(a.to_u32() & b.to_u32())
    }
}

struct Or;
impl Binary for Or {
    #[inline(always)]
    fn apply<W: Width>(a: W, b: W, _: bool) -> (W, W) {
        logical(a.to_u32() | b.to_u32())
    }
}

struct Xor;
impl Binary for Xor {
    #[inline(always)]
    fn apply<W: Width>(a: W, b: W, _: bool) -> (W, W) {
        logical(a.to_u32() ^ b.to_u32())
    }
}

struct Test;
impl Binary for Test {
    const STORES: bool = false;
    #[inline(always)]
    fn apply<W: Width>(a: W, b: W, _: bool) -> (W, W) {
        logical(a.to_u32() & b.to_u32())
    }
}

struct Not;
impl Unary for Not {
    #[inline(always)]
    fn apply<W: Width>(a: W, _: &mut Flags) -> W {
        W::from_u32(!a.to_u32())
    }
}
