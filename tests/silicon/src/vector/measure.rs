//! Makes vectors from what was measured.

use std::collections::BTreeMap;

use iced_x86::{Code, FlowControl, Instruction, InstructionInfoFactory, OpAccess, Register};

use crate::case::{Case, End, Outcome};
use crate::compare::{eflags_of, instructions, may_leave_undefined_result, undefined_flags};
use crate::world::World;

use super::check::{Memory, NOT_THE_PROGRAMS, addresses, without_cr2};
use super::names::{DWORDS, FpuPart, value};
use super::{ABSENT, Bits, Expected, Filling, State, Vector};

/// Registers in which parts can be listed: low byte, second byte, and the rest.
const LANES: [u32; 3] = [0xff, 0xff00, 0xffff_0000];

/// A vector with what comes of it, by what `run` makes of its cases. The error says why it would be no good vector.
pub fn measure<E: std::fmt::Display>(
    vector: &Vector,
    mut run: impl FnMut(&World, &Case) -> Result<Outcome, E>,
) -> Result<Vector, String> {
    let mut runs = Vec::new();
    for filling in Filling::ALL {
        let (world, case) = (vector.world(), vector.case(filling));
        let outcome = run(&world, &case).map_err(|error| format!("{error:#}"))?;
        runs.push((world, case, outcome));
    }
    let expected = expected(vector, &runs)?;
    Ok(Vector { text: vector.disassembly(), expected: Some(expected), ..vector.clone() })
}

/// A case as a vector that does not yet say what comes of it. Registers that are 0 and not read are left out, unless
/// `everything` shall be listed.
pub fn of_case(place: String, world: &World, case: &Case, everything: bool) -> Vector {
    let read = accesses(&code_of(world, case), |access| {
        matches!(access, OpAccess::Read | OpAccess::CondRead | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
    });
    let mut before = State { memory: case.memory.clone(), ..State::default() };
    for (n, read) in read.into_iter().enumerate() {
        if everything || case.regs[n] != 0 || read != 0 {
            before.regs[n] = Bits::all(case.regs[n]);
        }
    }
    before.flags = Bits { mask: super::STATUS | case.eflags, value: case.eflags };
    before.flags.mask &= !NOT_THE_PROGRAMS;
    before.flags.value &= !NOT_THE_PROGRAMS;
    let reads_flags = code_of(world, case).iter().any(|instruction| instruction.rflags_read() != 0);
    if !everything && !reads_flags && case.eflags & super::STATUS == 0 {
        before.flags.mask &= !super::STATUS;
    }
    let mut vector = Vector {
        place,
        code: case.code.clone(),
        text: String::new(),
        at: case.at,
        before,
        ldt: BTreeMap::new(),
        expected: None,
    };
    let usual = vector.case(Filling::Zeros);
    for n in 0..6 {
        vector.before.selectors[n] =
            Some(case.selectors[n]).filter(|selector| *selector != usual.selectors[n]);
    }
    let last = world.ldt.len().wrapping_sub(1);
    for (n, entry) in world.ldt.iter().enumerate() {
        if *entry != ABSENT || n == last {
            vector.ldt.insert(n, *entry);
        }
    }
    if let Some(image) = &case.fpu {
        let differs = |part: &FpuPart| everything || part.get(image) != part.get(&super::INITIAL_FPU);
        vector.before.fpu = FpuPart::all().filter(differs).map(|part| (part, part.get(image))).collect();
    }
    vector.text = vector.disassembly();
    vector
}

fn code_of(world: &World, case: &Case) -> Vec<Instruction> {
    instructions(case, world.is_big(case.selectors[1]), world.eip(case))
}

/// Bits of the general registers that instructions access in this way.
fn accesses(code: &[Instruction], wanted: impl Fn(OpAccess) -> bool) -> [u32; 8] {
    let mut factory = InstructionInfoFactory::new();
    let mut registers = [0; 8];
    for instruction in code {
        for used in factory.info(instruction).used_registers() {
            let register = used.register();
            if register.is_gpr() && wanted(used.access()) {
                registers[register.full_register32().number()] |= bits_of(register);
            }
        }
    }
    registers
}

fn bits_of(register: Register) -> u32 {
    match register.size() {
        1 if matches!(register, Register::AH | Register::CH | Register::DH | Register::BH) => 0xff00,
        1 => 0xff,
        2 => 0xffff,
        _ => u32::MAX,
    }
}

/// Flags that code leaves with a defined value, and those it leaves undefined.
fn flags_written(code: &[Instruction]) -> (u32, u32) {
    let is_straight = code.iter().all(|instruction| instruction.flow_control() == FlowControl::Next);
    code.iter().fold((0, 0), |(defined, undefined), instruction| {
        let left = undefined_flags(instruction);
        let made = eflags_of(instruction.rflags_modified()) & !left;
        let still = if is_straight { undefined & !made } else { undefined };
        ((defined | made) & !left, still | left)
    })
}

fn expected(vector: &Vector, runs: &[(World, Case, Outcome)]) -> Result<Expected, String> {
    let (world, case, outcome) = &runs[0];
    let code = code_of(world, case);
    let same = |what: &dyn Fn(&Outcome) -> u32| runs.iter().all(|run| what(&run.2) == what(outcome));
    let (end, cr2) = without_cr2(outcome.end);
    if runs.iter().any(|run| run.2.end != outcome.end) {
        let ends: Vec<String> = runs.iter().map(|run| run.2.end.to_string()).collect();
        return Err(format!("how it ends depends on what is not listed: {}", ends.join(", or ")));
    }
    if end == End::Endless {
        return Err("it does not end".to_string());
    }
    let faulted = matches!(end, End::Fault { vector, .. } if !matches!(vector, 1 | 3 | 4));
    if !faulted && code.iter().any(may_leave_undefined_result) && undefined_result(&code) {
        return Err("it may have a result that the manual leaves undefined".to_string());
    }
    if !same(&|outcome| outcome.eip) {
        return Err("eip depends on what is not listed".to_string());
    }
    let mut state = State::default();
    let written = accesses(&code, |access| {
        matches!(
            access,
            OpAccess::Write | OpAccess::ReadWrite | OpAccess::CondWrite | OpAccess::ReadCondWrite
        )
    });
    for n in 0..8 {
        for lane in LANES {
            let changed = runs.iter().any(|(_, case, outcome)| (case.regs[n] ^ outcome.regs[n]) & lane != 0);
            let is_same = same(&|outcome| outcome.regs[n] & lane);
            if changed && !is_same {
                return Err(format!("{} depends on what is not listed", DWORDS[n]));
            }
            // what is written stands there also where it is as before
            let shown = changed || is_same && written[n] & lane != 0 && !faulted;
            if !shown {
                continue;
            }
            state.regs[n].mask |= lane;
            state.regs[n].value |= outcome.regs[n] & lane;
        }
        // a part that has no name is shown with the rest, where that is known
        let (named, rest) = (n < 4, vector.before.regs[n].mask);
        let whole = state.regs[n].mask | if same(&|outcome| outcome.regs[n]) { rest } else { 0 };
        let partial = state.regs[n].mask;
        let shown = match partial {
            0 => 0,
            _ if partial & 0xffff_0000 != 0 || whole == u32::MAX => u32::MAX,
            _ if named => partial,
            _ => 0xffff,
        };
        if shown & !whole != 0 {
            return Err(format!("{} is not listed, and only part of it comes of this", DWORDS[n]));
        }
        state.regs[n] = Bits { mask: shown, value: outcome.regs[n] & shown };
    }
    let (mut defined, undefined) = flags_written(&code);
    if faulted {
        defined = 0;
    }
    let mut flags = 0;
    for (name, flag) in super::names::FLAGS.iter().filter(|(_, flag)| flag & NOT_THE_PROGRAMS == 0) {
        let changed = runs.iter().any(|(_, case, outcome)| (case.eflags ^ outcome.eflags) & flag != 0);
        if undefined & flag != 0 && !faulted || !changed && defined & flag == 0 {
            continue;
        }
        let is_same = same(&|outcome| outcome.eflags & flag);
        match (is_same, changed) {
            (true, _) => flags |= flag,
            (false, false) => {}
            (false, true) => return Err(format!("{name} depends on what is not listed")),
        }
    }
    state.flags = Bits { mask: flags, value: outcome.eflags & flags };
    for n in 0..6 {
        if runs.iter().any(|run| run.2.selectors[n] != outcome.selectors[n]) {
            return Err("selectors depend on what is not listed".to_string());
        }
        let changed = outcome.selectors[n] != case.selectors[n];
        state.selectors[n] = changed.then_some(outcome.selectors[n]);
    }
    state.memory = memory(vector, runs)?;
    if let Some(before) = &case.fpu {
        for part in FpuPart::all() {
            let values: Vec<u128> =
                runs.iter().filter_map(|run| run.2.fpu.as_ref().map(|image| part.get(image))).collect();
            if values.iter().any(|value| *value != values[0]) {
                return Err(format!("{part} depends on what is not listed"));
            }
            if values.first().is_some_and(|value| *value != part.get(before)) {
                state.fpu.push((part, values[0]));
            }
        }
    }
    let start = world.eip(case);
    let is_page_fault = matches!(end, End::Fault { vector: 14, .. });
    let mut expected = Expected {
        end,
        eip: Some(outcome.eip).filter(|eip| end != End::Fell && *eip != start),
        cr2: is_page_fault.then_some(cr2),
        state,
        unchanged: matches!(end, End::Fault { .. }),
    };
    let holds = |expected: &Expected| {
        let vector = Vector { expected: Some(expected.clone()), ..vector.clone() };
        runs.iter().all(|(world, case, outcome)| vector.complaints(world, case, outcome).is_empty())
    };
    if expected.unchanged && !holds(&expected) {
        expected.unchanged = false;
        expected.eip = Some(outcome.eip);
    }
    Ok(expected)
}

/// Whether the code as it stands may leave such a result: with an operand in a register it may.
fn undefined_result(code: &[Instruction]) -> bool {
    // BSF and BSR of what is not 0 and SHLD and SHRD by no more than the width are defined; that is for the writer to see
    code.iter().any(|instruction| matches!(instruction.code(), Code::Bswap_r16))
}

/// Bytes that changed, in runs.
fn memory(vector: &Vector, runs: &[(World, Case, Outcome)]) -> Result<Vec<(u32, Vec<u8>)>, String> {
    let mut changed: Vec<u32> = runs.iter().flat_map(|run| addresses(&run.2.written)).collect();
    // a listed run of which some bytes changed is shown whole
    for listed in &vector.before.memory {
        let all: Vec<u32> = addresses(std::slice::from_ref(listed)).collect();
        if all.iter().any(|at| changed.contains(at)) {
            changed.extend(all);
        }
    }
    changed.sort_unstable();
    changed.dedup();
    let mut memories: Vec<Memory> = runs.iter().map(|(world, case, _)| Memory::new(world, case)).collect();
    let mut bytes: Vec<(u32, Vec<u8>)> = Vec::new();
    for at in changed {
        let values: Vec<u8> =
            memories.iter_mut().zip(runs).map(|(memory, run)| memory.behind(&run.2, at)).collect();
        if values.iter().any(|value| *value != values[0]) {
            return Err(format!("mem[{}] depends on what is not listed", value(at)));
        }
        match bytes.last_mut() {
            Some((start, run)) if start.wrapping_add(run.len() as u32) == at => run.push(values[0]),
            _ => bytes.push((at, vec![values[0]])),
        }
    }
    Ok(bytes)
}
