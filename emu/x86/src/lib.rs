//! A 32-bit x86 processor with its MMU and TLB, instruction by instruction.
//!
//! The way of one instruction: [`decode`] turns bytes into [`op::Op`]s, [`engine`] runs them block by block, their
//! bodies in [`execute`] translate operands through [`mmu`], and what they raise ([`fault`]) is delivered once, by
//! [`deliver`].
//!
//! ```
//! use pagewalk_x86::flat::{Start, processor};
//! use pagewalk_x86::regs::EAX;
//!
//! let code = [0xb8, 42, 0, 0, 0, 0x01, 0xc0, 0xf4]; // mov eax, 42; add eax, eax; hlt
//! let mut machine = processor(Start::Flat32, &code, 0x1000, 1 << 20);
//! let stop = machine.run(1_000);
//! assert_eq!(machine.cpu.regs.dword(EAX), 84);
//! println!("{stop:?} after {} instructions", machine.cpu.retired);
//! ```

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
pub mod float;
pub mod frame;
pub mod image;
pub mod mmu;
pub mod model;
pub mod observe;
pub mod op;
pub mod planted;
pub mod ram;
pub mod random;
pub mod regs;
pub mod segment;
pub mod task;
#[cfg(test)]
mod testing;
pub mod undefined;
pub mod width;

pub use engine::Processor;
