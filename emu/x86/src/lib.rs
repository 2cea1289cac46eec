//! A 32-bit x86 processor with its MMU and TLB, instruction by instruction.

pub mod bus;
pub mod ram;
