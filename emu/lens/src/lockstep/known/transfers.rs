//! Far transfers, interrupts and task switches.

use iced_x86::Mnemonic;
use pagewalk_x86::control::DR7_ONES;
use pagewalk_x86::fault::Fault;
use pagewalk_x86::flags;
use pagewalk_x86::observe::Cause;

use super::segments::outside;
use super::{Follow, Known, Test, fault_of, only};

/// L0 to L3 and LE in DR7.
const LOCAL_ENABLES: u64 = 0x155;

/// What the refusals below come to where they meet another exception.
const DOUBLE: Cause = Cause::Fault(Fault::DoubleFault);

/// The list.
pub const LIST: &[Known] = &[
    Known {
        name: "ext-bit",
        section: "3A \"Error Code\"",
        manual: "EXT is set when the exception came while an interrupt or an earlier exception was delivered",
        qemu: "leaves EXT clear",
        tests: &[Test::Raises(|_, ours, theirs| {
            let fault = fault_of(ours)?;
            (fault.vector() == theirs.vector && fault.error_code()? == theirs.code | 1)
                .then_some(Follow::TakeException)
        })],
    },
    Known {
        name: "absent-stack-segment",
        section: "2A \"CALL\", \"INT n/INTO/INT3/INT1\", \"IRET/IRETD\"; 2B \"RET\"; 3A \"Task Switching\"",
        manual: "a stack segment that is not present is #SS with its selector",
        qemu: "raises #TS, or #NP, with it",
        tests: &[Test::Raises(|_, ours, theirs| {
            let Fault::Stack(code) = fault_of(ours)? else { return None };
            (code & !3 != 0 && matches!(theirs.vector, 10 | 11) && code & !1 == theirs.code & !1)
                .then_some(Follow::TakeException)
        })],
    },
    Known {
        name: "tss-in-the-ldt",
        section: "2A \"CALL\", \"JMP\", Operation (TASK-STATE-SEGMENT)",
        manual: "a TSS whose selector names the LDT is #GP with that selector",
        qemu: "raises #TS",
        tests: &[Test::Raises(|_, ours, theirs| {
            let Fault::GeneralProtection(code) = fault_of(ours)? else { return None };
            (theirs.vector == 10 && code == theirs.code && code & 4 != 0).then_some(Follow::TakeException)
        })],
    },
    Known {
        name: "target-beyond-the-code-limit",
        section: "3A \"Limit Checking\"",
        manual: "a far transfer to an offset beyond the code segment's limit is #GP(0)",
        qemu: "checks no limit, or gives the selector as the error code",
        tests: &[
            Test::Passes(|scene, cause| {
                // (with EXT where an exception or interrupt is what transfers)
                let gp = |code| cause == Cause::Fault(Fault::GeneralProtection(code));
                let far = scene.is_far() && gp(0) || gp(1) || cause == DOUBLE;
                let returns = scene.is(&[Mnemonic::Retf, Mnemonic::Iret, Mnemonic::Iretd]);
                let beyond = scene.theirs.eip > scene.theirs.segs[1].limit;
                (far && beyond).then_some(if returns { Follow::TakeRegisters } else { Follow::TakeAll })
            }),
            Test::Raises(|scene, ours, theirs| {
                let zero = ours == Some(Cause::Fault(Fault::GeneralProtection(0)));
                (zero && scene.is_far() && theirs.vector == 13 && theirs.code & 3 == 0)
                    .then_some(Follow::TakeException)
            }),
        ],
    },
    Known {
        name: "stack-beyond-its-limit",
        section: "3A \"Limit Checking\"",
        manual: "a frame that does not fit into the stack segment's limit is #SS",
        qemu: "checks no limit",
        tests: &[Test::Passes(|scene, cause| {
            let theirs = scene.theirs;
            let code = match fault_of(Some(cause))? {
                Fault::Stack(code) => code,
                // the #SS came while something else was delivered
                Fault::DoubleFault if outside(&theirs.segs[2], theirs.regs[4], 1) => 1,
                _ => return None,
            };
            let returns = scene.is(&[Mnemonic::Retf, Mnemonic::Iret, Mnemonic::Iretd]);
            // (with EXT where an exception or interrupt pushes the frame)
            (scene.is_far() || code & 1 != 0).then_some(if returns {
                Follow::TakeRegisters
            } else {
                Follow::TakeAll
            })
        })],
    },
    Known {
        name: "gate-to-a-conforming-segment",
        section: "3A \"Accessing a Code Segment Through a Call Gate\"",
        manual: "a call through a gate to a conforming segment keeps CPL and stack",
        qemu: "enters the segment's own privilege level",
        tests: &[Test::Registers(|scene, theirs, _| {
            let conforming = theirs.segs[1].attributes & 0x1c == 0x1c;
            let call = scene.instruction.is_call_far() || scene.instruction.is_call_far_indirect();
            let privileged = theirs.segs[1].selector & 3 < scene.before.cpl as u16;
            (call && conforming && privileged).then_some(Follow::TakeAll)
        })],
    },
    Known {
        name: "gate-of-16-bits-has-an-upper-word",
        section: "3A \"IDT Descriptors\"",
        manual: "a 16-bit gate has a 16-bit offset",
        qemu: "uses the word above it, too",
        tests: &[Test::Registers(|_, _, fields| {
            only(fields, |field| {
                field.name == "eip" && field.ours >> 16 == 0 && field.theirs & 0xffff == field.ours
            })
            .then_some(Follow::TakeRegisters)
        })],
    },
    Known {
        name: "iret-to-vm86-from-ring-3",
        section: "2A \"IRET/IRETD\", Operation",
        manual: "an IRET outside CPL 0 does not change VM",
        qemu: "enters virtual-8086 mode from ring 3",
        tests: &[
            Test::Registers(|scene, theirs, _| {
                let enters = theirs.eflags & flags::VM != 0 && scene.before.eflags & flags::VM == 0;
                (scene.is(&[Mnemonic::Iret, Mnemonic::Iretd]) && enters && scene.before.cpl != 0)
                    .then_some(Follow::TakeRegisters)
            }),
            Test::Passes(|scene, _| {
                let enters = scene.theirs.eflags & flags::VM != 0 && scene.before.eflags & flags::VM == 0;
                (scene.is(&[Mnemonic::Iret, Mnemonic::Iretd]) && enters && scene.before.cpl != 0)
                    .then_some(Follow::TakeRegisters)
            }),
        ],
    },
    Known {
        name: "vm86-handler-outside-ring-0",
        section: "2A \"INT n/INTO/INT3/INT1\", Operation",
        manual: "a handler for virtual-8086 mode that is not in ring 0 is #GP with its code selector",
        qemu: "enters it",
        tests: &[Test::Passes(|scene, cause| {
            let Fault::GeneralProtection(code) = fault_of(Some(cause))? else { return None };
            let vm = scene.before.eflags & flags::VM != 0;
            let entered = scene.theirs.segs[1].selector & !3 == code & !3 && scene.theirs.cpl != 0;
            (vm && entered).then_some(Follow::TakeAll)
        })],
    },
    Known {
        name: "jump-through-a-gate-to-an-absent-segment",
        section: "2A \"JMP\", Operation (CALL-GATE)",
        manual: "a jump through a call gate to a code segment that is not present is #NP with its selector",
        qemu: "raises #GP with it",
        tests: &[Test::Raises(|scene, ours, theirs| {
            let jump = scene.instruction.is_jmp_far() || scene.instruction.is_jmp_far_indirect();
            let absent = ours == Some(Cause::Fault(Fault::NotPresent(theirs.code)));
            (jump && absent && theirs.vector == 13).then_some(Follow::TakeException)
        })],
    },
    Known {
        name: "conforming-segment-of-a-new-task",
        section: "3A \"Task Switching\", exception conditions checked",
        manual: "a conforming code segment of a new task may be more privileged than its selector's RPL, and is #NP if absent",
        qemu: "wants a DPL equal to RPL, else raises #TS, also for a segment that is absent",
        tests: &[Test::Raises(|scene, ours, theirs| {
            let cs = scene.theirs.segs[1].selector;
            let absent = ours == Some(Cause::Fault(Fault::NotPresent(theirs.code)));
            let conforming = super::segments::access_byte(scene.ours, cs)? & 0x1c == 0x1c;
            (theirs.vector == 10 && cs & !3 == theirs.code & !3 && conforming && (absent || ours.is_none()))
                .then_some(Follow::TakeException)
        })],
    },
    Known {
        name: "task-state-touched-first",
        section: "3A \"Task Switching\"; 3A \"Page-Fault Exceptions\"",
        manual: "in which order a switch accesses the two TSSs is up to the processor; a write reports W",
        qemu: "reads first and last byte of the old TSS before it writes anything",
        tests: &[
            Test::Raises(|scene, ours, theirs| {
                const W: u16 = 2;
                let Fault::Page { code, address } = fault_of(ours)? else { return None };
                let inside = |linear: u32| linear.wrapping_sub(scene.before.tr.base) <= scene.before.tr.limit;
                let both = inside(address) && inside(scene.theirs.cr[2]);
                (theirs.vector == 14 && both && theirs.code & !W == code & !W)
                    .then_some(Follow::TakeException)
            }),
            Test::Registers(|_, _, fields| {
                // the bytes of one TSS, of which one processor reads one first and another another
                let near =
                    |field: &super::Field| field.name == "cr2" && field.ours.abs_diff(field.theirs) < 104;
                only(fields, near).then_some(Follow::TakeRegisters)
            }),
        ],
    },
    Known {
        name: "old-tss-limit",
        section: "3A \"Invalid TSS Exception (#TS)\"",
        manual: "a switch away from a task whose TSS is too short for what is saved there is #TS",
        qemu: "writes beyond the limit",
        tests: &[Test::Passes(|scene, cause| {
            let Fault::InvalidTss(_) = fault_of(Some(cause))? else { return None };
            // the last byte of GS in a 32-bit TSS, of DS in a 16-bit one
            let needed = if scene.before.tr.attributes & 8 != 0 { 0x5d } else { 0x29 };
            (scene.before.tr.limit < needed).then_some(Follow::TakeAll)
        })],
    },
    Known {
        name: "old-task-saved-first",
        section: "3A \"Task Switching\"",
        manual: "the old TSS, the new TSS and the descriptors used are found to be paged in before anything is saved",
        qemu: "saves the old task before it meets the page fault on the new TSS or the GDT",
        tests: &[],
    },
    Known {
        name: "inner-stack-of-16-bits",
        section: "2A \"CALL\", \"INT n/INTO/INT3/INT1\", Operation",
        manual: "a switch to an inner stack loads ESP in full from the TSS",
        qemu: "leaves the upper half of ESP alone if the stack is one of 16 bits",
        tests: &[Test::Registers(|scene, theirs, fields| {
            let inward = theirs.cpl < scene.before.cpl && theirs.segs[2].attributes & 0x4000 == 0;
            let half = only(fields, |field| field.name == "esp" && (field.ours ^ field.theirs) & 0xffff == 0);
            (inward && half).then_some(Follow::TakeRegisters)
        })],
    },
    Known {
        name: "task-16-upper-halves",
        section: "3A \"16-Bit Task-State Segment (TSS)\"",
        manual: "a 16-bit TSS holds 16-bit registers; what their upper halves become is not said",
        qemu: "clears the upper halves",
        tests: &[Test::Registers(|scene, theirs, fields| {
            let switched = theirs.tr.selector != scene.before.tr.selector && theirs.tr.attributes & 8 == 0;
            let halves =
                only(fields, |field| field.name.len() == 3 && (field.ours ^ field.theirs) & 0xffff == 0);
            (switched && halves).then_some(Follow::TakeRegisters)
        })],
    },
    Known {
        name: "task-switch-fault-state",
        section: "3A \"Task Switching\"",
        manual: "a fault raised once the new task's state is loaded is the new task's: at its EIP and CPL, with its LDT selector",
        qemu: "takes the low 12 bits of EIP from the instruction that switched, CPL from the old task, and clears TI in LDTR; \
               it loads the segment registers in another order",
        tests: &[
            Test::Registers(|scene, theirs, fields| {
                let switched = theirs.tr.selector != scene.before.tr.selector;
                let mixed = theirs.eip & 0xfff == scene.before.eip & 0xfff
                    && theirs.eip >> 12 == scene.ours.eip >> 12;
                let state = only(fields, |field| match field.name.as_str() {
                    "eip" => mixed,
                    "ldtr" => field.theirs == field.ours & !4,
                    "cpl" => field.theirs == scene.before.cpl as u64,
                    // which segment registers are loaded before the one that faults
                    name => name.contains('.'),
                });
                (switched && state).then_some(Follow::TakeRegisters)
            }),
            Test::Raises(|scene, ours, theirs| {
                // which segment register is loaded first
                let code = match fault_of(ours)? {
                    Fault::InvalidTss(code) | Fault::NotPresent(code) => code,
                    _ => return None,
                };
                let new =
                    |code: u16| [0, 3, 4, 5].iter().any(|&n| scene.theirs.segs[n].selector & !3 == code & !3);
                (matches!(theirs.vector, 10 | 11) && new(code) && new(theirs.code))
                    .then_some(Follow::TakeException)
            }),
        ],
    },
    Known {
        name: "task-local-enables",
        section: "3B \"Debug Control Register (DR7)\"",
        manual: "a task switch clears the local breakpoint enables",
        qemu: "keeps them",
        tests: &[Test::Registers(|scene, theirs, fields| {
            let switched = theirs.tr.selector != scene.before.tr.selector;
            let enables = only(fields, |field| {
                field.name == "dr7" && field.ours == field.theirs & !LOCAL_ENABLES | DR7_ONES as u64
            });
            (switched && enables).then_some(Follow::TakeRegisters)
        })],
    },
    Known {
        name: "task-t-bit",
        section: "3A \"Task-State Segment (TSS)\"",
        manual: "a switch to a task whose TSS has T set is followed by #DB with DR6.BT",
        qemu: "ignores T",
        tests: &[Test::Passes(|scene, cause| {
            let bt = scene.ours.debug_trap & pagewalk_x86::control::DR6_BT != 0;
            (cause == Cause::DebugTrap && bt).then_some(Follow::DropTrap)
        })],
    },
    Known {
        name: "sysenter-null-selector",
        section: "2B \"SYSENTER\", Operation",
        manual: "IA32_SYSENTER_CS with a null selector, whatever its RPL, is #GP(0)",
        qemu: "takes one with an RPL",
        tests: &[Test::Passes(|scene, cause| {
            let null = scene.theirs.segs[1].selector & !3 == 0;
            (scene.is(&[Mnemonic::Sysenter]) && null && cause == Cause::Fault(Fault::GeneralProtection(0)))
                .then_some(Follow::TakeRegisters)
        })],
    },
    Known {
        name: "ip-wraps",
        section: "3A \"Limit Checking\"",
        manual: "code that runs beyond the limit of its segment is #GP(0); IP does not wrap",
        qemu: "goes on at offset 0 of a 16-bit segment",
        tests: &[Test::Registers(|_, theirs, fields| {
            let code_16 = theirs.segs[1].attributes & 0x4000 == 0;
            let wraps = only(fields, |field| {
                field.name == "eip" && field.ours >> 16 == 1 && field.theirs == field.ours & 0xffff
            });
            (code_16 && wraps).then_some(Follow::TakeRegisters)
        })],
    },
];
