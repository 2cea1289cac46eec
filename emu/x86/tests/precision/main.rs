//! Fault precision: for every implemented opcode, each page that it touches is made to fault in turn, and registers, flags
//! and memory are what they were before the instruction; CR2 and the error code name the access.

mod account;
mod encode;
mod limits;
mod world;

use iced_x86::{Code, InstructionInfoFactory, Mnemonic, OpAccess, OpCodeOperandKind as Kind, Register};

use encode::{Case, encode};
use pagewalk_x86::bus::Bus;
use pagewalk_x86::execute::{Shape, is_implemented};
use pagewalk_x86::fault::{Fault, Stop};
use pagewalk_x86::mmu::walk;
use pagewalk_x86::model::MAX;
use pagewalk_x86::observe::Asker;
use pagewalk_x86::regs::{EAX, ECX, EDI, ESI};
use world::{CALL_GATE, CALL_GATE16, CODE, Return, Setting, Touch, Trap, comparable, machine, memory, run};

/// What was done in all.
#[derive(Default, Debug)]
struct Tally {
    instructions: usize,
    faults: usize,
    completed: usize,
}

/// Whether the opcode has memory and register forms, in this order.
fn forms(code: Code) -> Vec<bool> {
    use Kind::{mm_or_mem, r8_or_mem, r16_or_mem, r32_or_mem, xmm_or_mem};
    let both = |kind: &Kind| matches!(kind, r8_or_mem | r16_or_mem | r32_or_mem | mm_or_mem | xmm_or_mem);
    if code.op_code().op_kinds().iter().any(both) { vec![true, false] } else { vec![true] }
}

fn is_string(code: Code) -> bool {
    code.op_code().op_kinds().iter().any(|kind| matches!(kind, Kind::seg_rSI | Kind::es_rDI))
}

/// Runs the case as it is, then once for each page and right.
fn sweep(setting: Setting, case: &Case, frame: Return, tally: &mut Tally, wrong: &mut Vec<String>) {
    let name = |what: &str| format!("{setting:?} {:?} {:02x?}: {what}", case.instruction.code(), case.bytes);
    let mut base = machine(setting, case, frame);
    let before = (comparable(&base.cpu.state), memory(&base));
    let stop = run(&mut base);
    tally.instructions += 1;
    match (&stop, &base.cpu.observer.fault) {
        (Stop::Shutdown(_), Some((fault, state))) => {
            // a fault for other reasons is no less precise
            if comparable(state) != before.0 || memory(&base) != before.1 {
                wrong.push(name(&format!("{fault:?} changed something")));
            }
        }
        (Stop::Limit | Stop::Halted, None) => {
            tally.completed += 1;
            wrong.extend(unlike_iced(setting, case, &base.cpu.observer.touches).map(|what| name(&what)));
        }
        other => wrong.push(name(&format!("ended with {other:?}"))),
    }

    let touches = std::mem::take(&mut base.cpu.observer.touches);
    let mut pages: Vec<u32> = touches.iter().map(|touch| touch.linear >> 12).collect();
    pages.sort_unstable();
    pages.dedup();
    for (page, trap) in pages.into_iter().flat_map(|page| Trap::ALL.map(|trap| (page, trap))) {
        let Some(victim) = trap.victim(&touches, page) else { continue };
        let mut trapped = machine(setting, case, frame);
        trap.set(&mut trapped, page);
        let stop = run(&mut trapped);
        tally.faults += 1;
        let what = |what: String| name(&format!("page {page:#x} {trap:?}: {what}"));
        let expected = Fault::Page { address: victim.linear, code: trap.code(victim) };
        let (Stop::Shutdown(_), Some((fault, state))) = (&stop, &trapped.cpu.observer.fault) else {
            wrong.push(what(format!("no fault, but {stop:?}")));
            continue;
        };
        if *fault != expected {
            wrong.push(what(format!("{fault:x?}, not {expected:x?}")));
        }
        if state.cr2 != victim.linear {
            wrong.push(what(format!("CR2 is {:#x}", state.cr2)));
        }
        if comparable(state) != before.0 {
            let [now, then] = [state, &before.0].map(|s| format!("{:x?} {:?}", s.regs.all(), s.flags));
            wrong.push(what(format!("the state changed: {now}, was {then}")));
        }
        let after = memory(&trapped);
        if let Some(at) = (0..after.len()).find(|&at| after[at] != before.1[at]) {
            wrong.push(what(format!("memory changed at {at:#x}")));
        }
    }
}

/// The program's own accesses against what iced-x86 says the instruction reads and writes. Only memory operands: of
/// stacks, iced-x86 knows no frames of far transfers.
fn unlike_iced(setting: Setting, case: &Case, touches: &[Touch]) -> Option<String> {
    // Hardware: ARPL writes only where it changes the RPL (AMD EPYC)
    if case.instruction.mnemonic() == Mnemonic::Arpl {
        return None;
    }
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(&case.instruction);
    let bases = [Register::EBX, Register::BX];
    let mut expected = Vec::new();
    for used in info.used_memory().iter().filter(|used| bases.contains(&used.base())) {
        let writes = match used.access() {
            OpAccess::Write | OpAccess::ReadWrite | OpAccess::ReadCondWrite => true,
            OpAccess::Read => false,
            _ => continue,
        };
        let size = used.memory_size().size();
        if size != 0 {
            expected.push((size, writes));
        }
    }
    let operand = world::DATA & !15..world::DATA + 0x200;
    let actual: Vec<&Touch> = touches
        .iter()
        .filter(|touch| matches!(touch.asker, Asker::Program { .. }) && operand.contains(&touch.linear))
        .collect();
    for (size, writes) in expected {
        let total: u32 = actual.iter().map(|touch| touch.bytes).sum();
        if total != size as u32 {
            return Some(format!(
                "{setting:?}: {total} bytes of the operand are translated, {size} accessed"
            ));
        }
        if actual.iter().any(|touch| (touch.kind == walk::Kind::Write) != writes) {
            return Some(format!("writes: {writes}, but {actual:?}"));
        }
    }
    None
}

/// Every implemented opcode in every form, with and without REP where that is possible.
fn cases(setting: Setting) -> Vec<Case> {
    let (code_selector, _) = setting.selectors();
    let (mut cases, mut unencoded) = (Vec::new(), Vec::new());
    for code in Code::values() {
        let info = code.op_code();
        let available = if setting.bitness() == 32 { info.mode32() } else { info.mode16() };
        // UD0 without ModRM is another maker's, and not decoded here
        if !info.is_instruction() || !available || !MAX.whole().executes(code) || code == Code::Ud0 {
            continue;
        }
        for memory in forms(code) {
            if !is_implemented(Shape { code, memory }) {
                continue;
            }
            for rep in if is_string(code) { &[false, true][..] } else { &[false] } {
                match encode(code, setting.bitness(), memory, *rep, code_selector, CODE) {
                    Ok(case) => cases.push(case),
                    Err(error) => unencoded.push(format!("{code:?} (memory {memory}): {error}")),
                }
            }
        }
    }
    assert!(unencoded.is_empty(), "not encoded: {unencoded:#?}");
    cases
}

fn check(setting: Setting) {
    let (mut tally, mut wrong) = (Tally::default(), Vec::new());
    for case in cases(setting) {
        sweep(setting, &case, Return::Same, &mut tally, &mut wrong);
    }
    println!("{setting:?}: {tally:?}");
    assert!(wrong.is_empty(), "{} wrong: {:#?}", wrong.len(), &wrong[..wrong.len().min(40)]);
    assert!(tally.instructions > 500 && tally.completed > 400 && tally.faults > 1500, "{tally:?}");
}

#[test]
fn every_instruction_of_32_bit_kernels_faults_without_a_trace() {
    check(Setting::Kernel32);
}

#[test]
fn every_instruction_of_32_bit_programs_faults_without_a_trace() {
    check(Setting::User32);
}

#[test]
fn every_instruction_of_16_bit_kernels_faults_without_a_trace() {
    check(Setting::Kernel16);
}

#[test]
fn every_instruction_of_virtual_8086_mode_faults_without_a_trace() {
    check(Setting::Vm86);
}

#[test]
fn gates_and_returns_between_rings_fault_without_a_trace() {
    let (mut tally, mut wrong) = (Tally::default(), Vec::new());
    let mut row = |setting: Setting, code: Code, selector: u16, frame: Return| {
        let case = encode(code, 32, false, false, selector, CODE).expect("an encoding");
        let completed = tally.completed;
        sweep(setting, &case, frame, &mut tally, &mut wrong);
        assert_eq!(tally.completed, completed + 1, "{code:?} works when nothing is in its way");
    };
    row(Setting::User32, Code::Call_ptr1632, CALL_GATE, Return::Same);
    row(Setting::User32, Code::Call_ptr1632, CALL_GATE16, Return::Same);
    row(Setting::Kernel32, Code::Call_ptr1632, CALL_GATE, Return::Same);
    row(Setting::Kernel32, Code::Jmp_ptr1632, CALL_GATE, Return::Same);
    for code in [Code::Iretd, Code::Iretw, Code::Retfd, Code::Retfw, Code::Retfd_imm16, Code::Retfw_imm16] {
        row(Setting::Kernel32, code, 0, Return::Outer);
    }
    for code in [Code::Int3, Code::Int1, Code::Int_imm8] {
        row(Setting::User32, code, 0, Return::Same);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_repeated_string_instruction_keeps_the_iterations_before_the_fault() {
    // SDM 2B "REP": a fault leaves the registers as they were before the iteration, EIP at the instruction
    const NEAR_THE_END: u32 = 0xff8;
    const ROOM: u32 = 8;
    let codes =
        Code::values().filter(|&code| is_string(code) && MAX.executes(code) && code.op_code().mode32());
    let mut faults = 0;
    for code in codes.filter(|&code| is_implemented(Shape { code, memory: true })) {
        let case = encode(code, 32, true, true, 0, CODE).expect("an encoding");
        let size = case.instruction.memory_size().size() as u32;
        let kinds = code.op_code().op_kinds();
        for (register, kind) in [(ESI, Kind::seg_rSI), (EDI, Kind::es_rDI)] {
            if !kinds.contains(&kind) {
                continue;
            }
            let mut machine = machine(Setting::Kernel32, &case, Return::Same);
            let cpu = &mut machine.cpu;
            cpu.bus.ram_mut().write(0x7000, &[0; 0x4000]);
            for (register, value) in [(EAX, 0), (ECX, 20), (ESI, 0x7000), (EDI, 0x9000)] {
                cpu.regs.set_dword(register, value);
            }
            let start = cpu.regs.dword(register) + NEAR_THE_END;
            cpu.regs.set_dword(register, start);
            let before = comparable(&cpu.state);
            Trap::NotPresent.set(&mut machine, (start >> 12) + 1);
            let stop = machine.run(100);
            assert!(matches!(stop, Stop::Shutdown(_)), "{code:?}: {stop:?}");
            let (fault, state) = machine.cpu.observer.fault.clone().expect("a fault");
            assert!(
                matches!(fault, Fault::Page { address, .. } if address == start + ROOM),
                "{code:?}: {fault:x?}"
            );

            let done = ROOM / size;
            let mut expected = before;
            expected.regs.set_dword(ECX, 20 - done);
            for (register, kind) in [(ESI, Kind::seg_rSI), (EDI, Kind::es_rDI)] {
                if kinds.contains(&kind) {
                    let moved = expected.regs.dword(register) + ROOM;
                    expected.regs.set_dword(register, moved);
                }
            }
            let state = comparable(&state);
            assert_eq!((&state.regs, state.eip), (&expected.regs, CODE), "{code:?}");
            faults += 1;
        }
    }
    assert_eq!(faults, 3 * (2 + 1 + 1 + 1 + 2 + 1 + 1), "MOVS, STOS, LODS, SCAS, CMPS, INS, OUTS");
}
