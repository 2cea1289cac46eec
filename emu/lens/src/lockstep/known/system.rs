//! Control registers, model-specific registers and other system instructions.

use iced_x86::{Mnemonic, Register};
use pagewalk_x86::control::{CR0_PE, CR0_PG};
use pagewalk_x86::fault::Fault;
use pagewalk_x86::observe::Cause;

use super::{Follow, Known, Scene, Test, only};

const GP: Cause = Cause::Fault(Fault::GeneralProtection(0));
/// The MSRs whose values both sides must agree on: those of SYSENTER, and EFER.
const EXACT: [u32; 4] = [0x174, 0x175, 0x176, 0xc000_0080];

/// The list.
pub const LIST: &[Known] = &[
    Known {
        name: "pg-without-pe",
        section: "2B \"MOV - Move to/from Control Registers\"",
        manual: "setting CR0.PG with PE clear is #GP(0)",
        qemu: "accepts it, and goes down",
        tests: &[Test::Passes(|scene, cause| {
            let value = loaded(scene, Register::CR0)?;
            (cause == GP && value & CR0_PG != 0 && value & CR0_PE == 0).then_some(Follow::End)
        })],
    },
    Known {
        name: "nw-without-cd",
        section: "2B \"MOV - Move to/from Control Registers\"",
        manual: "setting CR0.NW with CD clear is #GP(0)",
        qemu: "accepts it",
        tests: &[Test::Passes(|scene, cause| {
            let value = loaded(scene, Register::CR0)?;
            (cause == GP && value >> 29 & 3 == 1).then_some(Follow::TakeRegisters)
        })],
    },
    Known {
        name: "cr4-reserved-bits",
        section: "2B \"MOV - Move to/from Control Registers\"",
        manual: "setting a bit of CR4 that the processor does not have is #GP(0)",
        qemu: "accepts VME and PVI, which it does not offer, and never ends the instruction for other bits",
        tests: &[Test::Passes(|scene, cause| {
            let value = loaded(scene, Register::CR4)?;
            let reserved = value & !scene.ours.model.cr4_mask() != 0;
            let ends = scene.theirs.eip != scene.before.eip;
            (cause == GP && reserved).then_some(if ends { Follow::TakeRegisters } else { Follow::End })
        })],
    },
    Known {
        name: "unknown-msr",
        section: "2B \"RDMSR\"; 2D \"WRMSR\"",
        manual: "an MSR that the processor does not have, and a reserved bit of one it has, is #GP(0)",
        qemu: "reads zero, and ignores what is written",
        tests: &[Test::Passes(|scene, cause| {
            (cause == GP && scene.before.cpl == 0 && scene.is(&[Mnemonic::Rdmsr, Mnemonic::Wrmsr]))
                .then_some(Follow::TakeRegisters)
        })],
    },
    Known {
        name: "msr-values",
        section: "4 \"Model-Specific Registers\"",
        manual: "what an MSR holds after reset belongs to the processor model",
        qemu: "has values of its own, and no IA32_TIME_STAMP_COUNTER",
        tests: &[Test::Registers(|scene, _, fields| {
            let own = scene.is(&[Mnemonic::Rdmsr]) && !EXACT.contains(&scene.before.regs[1]);
            (own && only(fields, |field| field.name == "eax" || field.name == "edx"))
                .then_some(Follow::TakeRegisters)
        })],
    },
    Known {
        name: "efer-reserved-bits",
        section: "2D \"WRMSR\"",
        manual: "setting a reserved bit of IA32_EFER is #GP(0)",
        qemu: "ignores it",
        tests: &[Test::Registers(|scene, _, fields| {
            (scene.is(&[Mnemonic::Wrmsr]) && only(fields, |field| field.name == "efer"))
                .then_some(Follow::TakeRegisters)
        })],
    },
];

/// The value that the instruction is to load into this control register.
fn loaded(scene: &Scene<'_>, register: Register) -> Option<u32> {
    let instruction = scene.instruction;
    (instruction.mnemonic() == Mnemonic::Mov && instruction.op0_register() == register).then(|| {
        let number = instruction.op1_register().number();
        scene.before.regs[number & 7]
    })
}
