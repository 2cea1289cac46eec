//! A 32-bit x86 processor with its MMU and TLB, instruction by instruction.
//!
//! The way of one instruction: [`decode`] turns bytes into [`op::Op`]s, [`engine`] runs them block by block, their
//! bodies in [`execute`] translate operands through [`mmu`], and what they raise ([`fault`]) is delivered once, by
//! [`deliver`].

pub mod bus;
pub mod clock;
pub mod control;
pub mod cpu;
pub mod decode;
pub mod deliver;
pub mod descriptor;
pub mod engine;
pub mod execute;
pub mod fault;
pub mod flags;
pub mod flat;
pub mod frame;
pub mod mmu;
pub mod model;
pub mod observe;
pub mod op;
pub mod ram;
pub mod regs;
pub mod segment;
pub mod task;
#[cfg(test)]
mod testing;
pub mod width;

pub use engine::Processor;
