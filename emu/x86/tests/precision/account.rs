//! The account of the precision test: which opcodes it has seen through to their end, and why some have none.

#[path = "../../examples/coverage/document.rs"]
#[allow(dead_code)]
mod document;

use std::collections::HashSet;

use iced_x86::{Code, Mnemonic, OpKind};
use pagewalk_x86::fault::Stop;
use pagewalk_x86::model::MAX;

use crate::cases;
use crate::world::{Return, Setting, machine, run};
use document::{Status, codes, forms, status};

/// Why an opcode that has a body is never run here.
fn never_runs(code: Code, memory: bool) -> Option<&'static str> {
    match code {
        Code::Ud0 => Some("without ModRM it is another maker's, and not decoded"),
        Code::Reservednop_rm16_r16_0F0D | Code::Reservednop_rm32_r32_0F0D if memory => {
            Some("with memory, these are the prefetches")
        }
        _ => None,
    }
}

/// Why an opcode never completes here.
fn never_completes(code: Code) -> Option<&'static str> {
    match code.mnemonic() {
        Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2 => Some("made to raise #UD"),
        Mnemonic::Rdpmc if MAX.counters.1 == 0 => Some("#GP(0): this model has no performance counters"),
        _ => None,
    }
}

#[test]
fn every_implemented_instruction_runs_to_its_end_in_some_setting() {
    let (mut seen, mut completed) = (HashSet::new(), HashSet::new());
    for setting in [Setting::Kernel32, Setting::User32, Setting::Kernel16, Setting::Vm86] {
        for case in cases(setting) {
            let instruction = &case.instruction;
            let memory = (0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory);
            // XLAT has no ModRM
            let form = (instruction.code(), memory && instruction.mnemonic() != Mnemonic::Xlatb);
            let mut machine = machine(setting, &case, Return::Same);
            let stop = run(&mut machine);
            seen.insert(form);
            if matches!(stop, Stop::Limit | Stop::Halted) && machine.cpu.observer.fault.is_none() {
                completed.insert(form);
            }
        }
    }
    let (mut unseen, mut faulting) = (Vec::new(), Vec::new());
    for code in codes().filter(|&code| status(code) == Status::Implemented) {
        for memory in forms(code) {
            let form = (code, memory);
            if !seen.contains(&form) {
                unseen.extend(never_runs(code, memory).is_none().then_some(form));
            } else if !completed.contains(&form) {
                faulting.extend(never_completes(code).is_none().then_some(form));
            }
        }
    }
    assert!(unseen.is_empty(), "never run: {unseen:?}");
    assert!(faulting.is_empty(), "always faulting: {faulting:?}");
}
