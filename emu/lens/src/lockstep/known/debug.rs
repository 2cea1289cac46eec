//! Debug registers and debug exceptions.

use iced_x86::Mnemonic;
use pagewalk_x86::control::{DR6_BS, DR7_GD};
use pagewalk_x86::fault::Fault;
use pagewalk_x86::flags;
use pagewalk_x86::observe::Cause;

use super::{Follow, Known, Test, only};

/// B0 to B3 in DR6.
const B: u64 = 15;
/// Bits of DR6 and DR7 that always read as zero.
const DR6_ZEROS: u64 = 1 << 12;
const DR7_ZEROS: u64 = 1 << 12 | 1 << 14 | 1 << 15;

/// The list.
pub const LIST: &[Known] = &[
    Known {
        name: "general-detect",
        section: "3B \"Debug Control Register (DR7)\"",
        manual: "with DR7.GD set, MOV to and from a debug register is #DB with DR6.BD",
        qemu: "ignores GD",
        tests: &[Test::Passes(|scene, cause| {
            let uses = scene.instruction.op0_register().is_dr() || scene.instruction.op1_register().is_dr();
            (cause == Cause::Fault(Fault::Debug) && uses && scene.before.dr[7] & DR7_GD != 0)
                .then_some(Follow::TakeRegisters)
        })],
    },
    Known {
        name: "dr-reserved-bits",
        section: "3B \"Debug Status Register (DR6)\", \"Debug Control Register (DR7)\"",
        manual: "bit 12 of DR6 and bits 12, 14 and 15 of DR7 are always zero",
        qemu: "keeps what is written there",
        tests: &[Test::Registers(|scene, _, fields| {
            let writes = scene.instruction.op0_register().is_dr();
            let reserved = only(fields, |field| match field.name.as_str() {
                "dr6" => field.ours ^ field.theirs == DR6_ZEROS & field.theirs,
                "dr7" => (field.ours ^ field.theirs) & !(DR7_ZEROS & field.theirs) == 0,
                _ => false,
            });
            (writes && reserved).then_some(Follow::TakeRegisters)
        })],
    },
    Known {
        name: "breakpoint-alignment",
        section: "3B \"Breakpoint Field Recognition\"",
        manual: "the low bits of a data breakpoint's address are ignored by its length",
        qemu: "does not align the address",
        tests: &[
            Test::Passes(|scene, cause| {
                (cause == Cause::DebugTrap && misaligned(&scene.before.dr, scene.ours.debug_trap))
                    .then_some(Follow::DropTrap)
            }),
            Test::Raises(|scene, ours, theirs| {
                let found = scene.theirs;
                (ours.is_none() && theirs.vector == 1 && misaligned(&found.dr, found.dr[6]))
                    .then_some(Follow::TakeException)
            }),
        ],
    },
    Known {
        name: "one-breakpoint-of-several",
        section: "3B \"Debug Status Register (DR6)\"",
        manual: "DR6 reports every breakpoint that was met, and a single step with it",
        qemu: "reports one breakpoint of several, and loses the single step next to a data breakpoint",
        tests: &[Test::Registers(|_, _, fields| {
            only(fields, |field| {
                let lost = field.ours & !field.theirs;
                field.name == "dr6" && field.theirs & !field.ours == 0 && lost & !(B | DR6_BS as u64) == 0
            })
            .then_some(Follow::TakeRegisters)
        })],
    },
    Known {
        name: "data-breakpoint-and-single-step",
        section: "3B \"Single-Step Exception Condition\", \"Data Memory and I/O Breakpoint Exception Conditions\"",
        manual: "a single step that meets a data breakpoint is one #DB, with both in DR6",
        qemu: "raises a second #DB at the handler's first instruction",
        tests: &[Test::Raises(|scene, ours, theirs| {
            let dr = scene.theirs.dr;
            let both = dr[6] & DR6_BS != 0 && dr[6] & B as u32 != 0;
            (ours.is_none() && theirs.vector == 1 && both).then_some(Follow::TakeException)
        })],
    },
    Known {
        name: "single-step-after-sti",
        section: "2D \"STI\"; 3A \"Masking Exceptions and Interrupts When Switching Stacks\"",
        manual: "STI and LSS hold back no single-step trap",
        qemu: "holds it back behind both",
        tests: &[Test::Passes(|scene, cause| {
            let holds = scene.is(&[Mnemonic::Sti, Mnemonic::Lss]);
            let step = scene.ours.debug_trap == DR6_BS && scene.before.eflags & flags::TF != 0;
            (cause == Cause::DebugTrap && holds && step).then_some(Follow::DropTrap)
        })],
    },
];

/// Whether one of these breakpoints stands at an address that is no multiple of its length.
fn misaligned(dr: &[u32; 8], breakpoints: u32) -> bool {
    (0..4).any(|n| {
        let len = dr[7] >> (18 + 4 * n) & 3;
        breakpoints >> n & 1 != 0 && dr[n] & len != 0
    })
}
