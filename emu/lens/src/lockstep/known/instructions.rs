//! Single instructions.

use iced_x86::Mnemonic;
use pagewalk_x86::fault::Fault;
use pagewalk_x86::observe::Cause;

use super::{Follow, Known, Test, destination, only};

const UD: Cause = Cause::Fault(Fault::InvalidOpcode);

/// The list.
pub const LIST: &[Known] = &[
    Known {
        name: "int1",
        section: "2A \"INT n/INTO/INT3/INT1\"",
        manual: "F1 is INT1, which raises #DB",
        qemu: "raises #UD",
        tests: &[Test::Raises(|scene, ours, theirs| {
            (scene.is(&[Mnemonic::Int1]) && ours == Some(Cause::Icebp) && theirs.vector == 6)
                .then_some(Follow::TakeException)
        })],
    },
    Known {
        name: "mov-immediate-reg-field",
        section: "2D \"Opcode Extensions for One-Byte and Two-Byte Opcodes\"",
        manual: "C6 and C7 with a reg field other than 0 are #UD",
        qemu: "ignores the reg field",
        tests: &[Test::Passes(|scene, cause| {
            let byte = |n: usize| scene.ours.observer.last().bytes().get(n).copied();
            let group =
                matches!(byte(0), Some(0xc6 | 0xc7)) && byte(1).is_some_and(|modrm| modrm >> 3 & 7 != 0);
            (cause == UD && group).then_some(Follow::TakeAll)
        })],
    },
    Known {
        name: "lock-prefix",
        section: "2A \"LOCK - Assert LOCK# Signal Prefix\"",
        manual: "LOCK before an instruction that does not allow it is #UD",
        qemu: "accepts it before STAC and CLAC",
        tests: &[Test::Passes(|scene, cause| {
            let bytes = scene.ours.observer.last().bytes();
            (cause == UD && bytes.starts_with(&[0xf0, 0x0f, 0x01])).then_some(Follow::TakeRegisters)
        })],
    },
    Known {
        name: "lar-undefined-bits",
        section: "2A \"LAR - Load Access Rights Byte\"",
        manual: "bits 16 to 19 of the result are undefined",
        qemu: "clears them",
        tests: &[Test::Registers(|scene, _, fields| {
            let bits = only(fields, |field| {
                Some(field.name.as_str()) == destination(scene.instruction)
                    && (field.ours ^ field.theirs) & !0xf_0000 == 0
            });
            (scene.is(&[Mnemonic::Lar]) && bits).then_some(Follow::TakeRegisters)
        })],
    },
    Known {
        name: "pusha-order",
        section: "2B \"PUSHA/PUSHAD\", Operation",
        manual: "EAX is pushed first and EDI last, so that the highest address faults first",
        qemu: "begins with the lowest address",
        tests: &[Test::Registers(|scene, _, fields| {
            let pushes = scene.is(&[Mnemonic::Pusha, Mnemonic::Pushad]);
            let cr2 = only(fields, |field| field.name == "cr2" && field.ours.wrapping_sub(field.theirs) < 32);
            (pushes && cr2).then_some(Follow::TakeRegisters)
        })],
    },
    Known {
        name: "undefined-destination",
        section: "2A \"BSF\", \"BSR\", \"BSWAP\"; 2B \"SHLD\", \"SHRD\"",
        manual: "a source of zero, a 16-bit operand, a count beyond the operand's size: the destination is undefined",
        qemu: "has its own value there",
        tests: &[Test::Registers(|scene, _, fields| {
            let may =
                scene.is(&[Mnemonic::Bsf, Mnemonic::Bsr, Mnemonic::Bswap, Mnemonic::Shld, Mnemonic::Shrd]);
            let result = only(fields, |field| Some(field.name.as_str()) == destination(scene.instruction));
            (may && result).then_some(Follow::TakeRegisters)
        })],
    },
];
