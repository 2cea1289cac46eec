//! Instruction bodies, one file per family of the manual, and the one way from an opcode to its body.
//!
//! A body has three paragraphs: checks and translations, each ending in `?`; the operation, pure; the commit, which
//! cannot fail. Each family's `handler` function maps iced-x86's `Code`s to bodies: together they are the only list of
//! what is implemented. To add an instruction, add an arm and a body (docs/add-an-instruction.md).

mod arithmetic;
mod bcd;
mod bit;
mod branch;
mod far;
mod form;
mod io;
mod logic;
mod multiply;
mod segment;
mod shift;
mod simd;
mod stack;
mod string;
mod system;
mod transfer;
mod x87;

pub use form::{Form, Mem, Reg};

use iced_x86::Code;

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::fault::{Exec, Fault, Stop};
use crate::flat::FlatBus;
use crate::observe::Observer;
use crate::op::{Handler, Op};

/// What a family needs to choose a body.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// iced-x86's opcode.
    pub code: Code,
    /// Whether the r/m operand is memory.
    pub memory: bool,
}

/// The body of the form at hand: `by_form!(shape, body, u32)` picks `Mem` or `Reg` for the first type
/// parameter after the processor's own.
macro_rules! by_form {
    ($shape:expr, $body:ident $(, $t:ty)* $(,)?) => {
        if $shape.memory {
            $body::<B, O, $crate::execute::Mem $(, $t)*> as $crate::op::Handler<B, O>
        } else {
            $body::<B, O, $crate::execute::Reg $(, $t)*> as $crate::op::Handler<B, O>
        }
    };
}
pub(crate) use by_form;

/// A family's part of the list.
type Family<B, O> = fn(Shape) -> Option<Handler<B, O>>;

/// The body for a condition (0 to 15, as encoded), which becomes its last, constant parameter:
/// `by_condition!(condition, body, u32)`.
macro_rules! by_condition {
    ($condition:expr, $body:ident $(, $t:ty)* $(,)?) => {
        match $condition & 15 {
            0 => $body::<B, O, $($t,)* 0> as $crate::op::Handler<B, O>,
            1 => $body::<B, O, $($t,)* 1>,
            2 => $body::<B, O, $($t,)* 2>,
            3 => $body::<B, O, $($t,)* 3>,
            4 => $body::<B, O, $($t,)* 4>,
            5 => $body::<B, O, $($t,)* 5>,
            6 => $body::<B, O, $($t,)* 6>,
            7 => $body::<B, O, $($t,)* 7>,
            8 => $body::<B, O, $($t,)* 8>,
            9 => $body::<B, O, $($t,)* 9>,
            10 => $body::<B, O, $($t,)* 10>,
            11 => $body::<B, O, $($t,)* 11>,
            12 => $body::<B, O, $($t,)* 12>,
            13 => $body::<B, O, $($t,)* 13>,
            14 => $body::<B, O, $($t,)* 14>,
            _ => $body::<B, O, $($t,)* 15>,
        }
    };
}
pub(crate) use by_condition;

/// The body of an opcode, or `None` if there is none yet.
pub fn handler<B: Bus, O: Observer>(shape: Shape) -> Option<Handler<B, O>> {
    let families: [Family<B, O>; 16] = [
        arithmetic::handler,
        multiply::handler,
        logic::handler,
        shift::handler,
        bit::handler,
        bcd::handler,
        transfer::handler,
        stack::handler,
        string::handler,
        io::handler,
        branch::handler,
        far::handler,
        segment::handler,
        system::handler,
        x87::handler,
        simd::handler,
    ];
    families.iter().find_map(|family| family(shape))
}

/// Whether the opcode in this form does all that it should.
pub fn is_implemented(shape: Shape) -> bool {
    handler::<FlatBus, ()>(shape).is_some() && !x87::is_left_out(shape)
}

/// #UD: what the opcode map, the prefixes or the processor model do not allow.
pub fn undefined<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    Err(cpu.raise(Fault::InvalidOpcode))
}

/// #GP(0): an instruction longer than 15 bytes.
pub fn too_long<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, _op: &Op<B, O>) -> Exec {
    Err(cpu.raise(Fault::GeneralProtection(0)))
}

/// An opcode without a body: the run stops by its name.
pub fn unimplemented<B: Bus, O: Observer>(cpu: &mut Cpu<B, O>, op: &Op<B, O>) -> Exec {
    let bytes = cpu.peek_code(cpu.ip(op), op.len as usize);
    let at = (cpu.segs[crate::segment::CS].selector, cpu.ip(op));
    Err(cpu.stop(Stop::Unimplemented { code: op.code(), bytes, at }))
}
