//! What QEMU does otherwise where the x87 environment is saved and loaded: ours does as it did.

use iced_x86::{Instruction, Mnemonic};

use super::known::segments::linear_addresses;
use super::known::{FXSAVE_POINTERS, X87_LOADED, X87_RESERVED};
use super::pair::Pair;
use crate::qemu::dump::Dump;

/// What is kept for an instruction that may load the environment.
pub type Pointers = [u32; 5];

/// Follows QEMU, after ours has run an instruction; `before` is what its pointers were.
pub fn settle(pair: &mut Pair, instruction: &Instruction, dump: &Dump, before: Pointers) {
    match instruction.mnemonic() {
        Mnemonic::Fxsave => {
            for image in linear_addresses(instruction, dump) {
                pair.poke(image.wrapping_add(8), &[0; 16]);
                // where the opcode is QEMU writes nothing
                pair.taint(image.wrapping_add(4), 4, FXSAVE_POINTERS);
            }
            pair.note(FXSAVE_POINTERS);
        }
        Mnemonic::Fnstenv | Mnemonic::Fnsave if is_of_32_bits(instruction) => {
            for image in linear_addresses(instruction, dump) {
                for upper in [2, 6, 10, 18, 26] {
                    pair.poke(image.wrapping_add(upper), &[0; 2]);
                }
            }
            pair.note(X87_RESERVED);
        }
        Mnemonic::Fldenv | Mnemonic::Frstor | Mnemonic::Fxrstor => {
            pair.ours.cpu.fpu.pointers = before;
            pair.note(X87_LOADED);
        }
        _ => {}
    }
}

/// 28 bytes of environment, not 14.
fn is_of_32_bits(instruction: &Instruction) -> bool {
    use iced_x86::Code::*;
    matches!(instruction.code(), Fnstenv_m28byte | Fnsave_m108byte)
}
