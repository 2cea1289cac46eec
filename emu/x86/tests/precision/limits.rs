//! The same for segments: each access of each instruction is put out of its segment's reach in turn.

use iced_x86::{Code, Instruction, Mnemonic};

use pagewalk_x86::fault::{Fault, Stop};
use pagewalk_x86::flags;
use pagewalk_x86::mmu::walk::Kind;
use pagewalk_x86::observe::Asker;
use pagewalk_x86::regs::ECX;
use pagewalk_x86::segment::{CS, SS, Segment};

use crate::cases;
use crate::encode::Case;
use crate::world::{CODE, HANDLER, Machine, Return, Setting, Touch, comparable, machine, memory, run};

/// How an access is forbidden.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bar {
    /// The limit is just below its last byte.
    Limit,
    /// Its first byte is just below an expand-down segment.
    ExpandDown,
    /// The segment is read-only.
    ReadOnly,
    /// The segment register holds a null selector.
    Null,
}

impl Bar {
    const ALL: [Bar; 4] = [Bar::Limit, Bar::ExpandDown, Bar::ReadOnly, Bar::Null];

    /// The segment that forbids the access, if there can be one: SS is never null in these rings, nor read-only.
    fn segment(self, old: Segment, number: usize, touch: &Touch) -> Option<Segment> {
        let Segment { selector, attributes, .. } = old;
        let new = |limit, attributes| Some(Segment::new(selector, 0, limit, attributes));
        match self {
            Bar::Limit => new(touch.linear + touch.bytes - 2, attributes),
            Bar::ExpandDown => new(touch.linear, attributes | 4),
            Bar::ReadOnly if number != SS && touch.kind == Kind::Write => new(old.limit, attributes & !2),
            Bar::Null if number != SS => Some(Segment::null(0)),
            _ => None,
        }
    }
}

/// Runs the case: it must raise `expected` and change nothing.
fn refuses(mut machine: Machine, expected: Fault) -> Result<(), String> {
    machine.cpu.update_context();
    let before = (comparable(&machine.cpu.state), memory(&machine));
    let stop = run(&mut machine);
    let (Stop::Shutdown(_), Some((fault, state))) = (&stop, &machine.cpu.observer.fault) else {
        return Err(format!("no fault, but {stop:?}"));
    };
    if *fault != expected {
        return Err(format!("{fault:x?}, not {expected:x?}"));
    }
    if comparable(state) != before.0 {
        let [now, then] = [state, &before.0].map(|s| format!("{:x?} {:?}", s.regs.all(), s.flags));
        return Err(format!("the state changed: {now}, was {then}"));
    }
    if memory(&machine) != before.1 {
        return Err("memory changed".to_string());
    }
    Ok(())
}

fn check(setting: Setting) {
    let (mut faults, mut wrong) = (0, Vec::new());
    for case in cases(setting) {
        let mut test = |what: &str, machine: Machine, expected: Fault| {
            faults += 1;
            if let Err(error) = refuses(machine, expected) {
                wrong.push(format!("{:?} {:02x?} {what}: {error}", case.instruction.code(), case.bytes));
            }
        };
        let fresh = || machine(setting, &case, Return::Same);
        let mut base = fresh();
        run(&mut base);
        if base.cpu.observer.fault.is_none() {
            for touch in &base.cpu.observer.touches {
                let Asker::Program { segment, .. } = touch.asker else { continue };
                let number = segment as usize;
                for bar in Bar::ALL {
                    let mut barred = fresh();
                    let Some(segment) = bar.segment(barred.cpu.segs[number], number, touch) else { continue };
                    barred.cpu.segs[number] = segment;
                    // SDM 3A "Error Code": EXT tells a fault met while delivering anything but INT n, INT3 and INTO
                    let ext = (case.instruction.code() == Code::Int1) as u16;
                    let expected =
                        if number == SS { Fault::Stack(ext) } else { Fault::GeneralProtection(ext) };
                    test(&format!("{touch:x?} {bar:?}"), barred, expected);
                }
            }
        }
        let mut cut = fresh();
        cut.cpu.segs[CS].limit = CODE + case.bytes.len() as u32 - 2;
        cut.cpu.segs[CS] = reload(cut.cpu.segs[CS]);
        test("its last byte beyond CS", cut, Fault::GeneralProtection(0));
    }
    println!("{setting:?}: {faults} faults");
    assert!(wrong.is_empty(), "{} wrong: {:#?}", wrong.len(), &wrong[..wrong.len().min(40)]);
    assert!(faults > 3000, "{faults}");
}

fn reload(segment: Segment) -> Segment {
    Segment::new(segment.selector, segment.base, segment.limit, segment.attributes)
}

#[test]
fn every_access_of_32_bit_kernels_beyond_its_segment_changes_nothing() {
    check(Setting::Kernel32);
}

#[test]
fn every_access_of_32_bit_programs_beyond_its_segment_changes_nothing() {
    check(Setting::User32);
}

#[test]
fn every_access_of_16_bit_kernels_beyond_its_segment_changes_nothing() {
    check(Setting::Kernel16);
}

/// Branches within the code segment.
fn is_near_branch(instruction: &Instruction) -> bool {
    instruction.is_jcc_short_or_near()
        || instruction.is_jmp_short_or_near()
        || instruction.is_jmp_near_indirect()
        || instruction.is_call_near()
        || instruction.is_call_near_indirect()
        || instruction.is_jcx_short()
        || instruction.is_loop()
        || instruction.is_loopcc()
        || instruction.mnemonic() == Mnemonic::Ret
}

#[test]
fn near_branches_to_beyond_the_code_segment_change_nothing() {
    let (mut wrong, mut never) = (Vec::<String>::new(), Vec::<Code>::new());
    for setting in [Setting::Kernel32, Setting::User32, Setting::Kernel16] {
        for case in cases(setting).iter().filter(|case| is_near_branch(&case.instruction)) {
            let mut taken = false;
            let sign_only = flags::SF;
            for (status, count) in [(0, 2), (flags::ARITHMETIC, 2), (sign_only, 2), (0, 0)] {
                let prepared = || prepare(setting, case, status, count);
                let mut base = prepared();
                run(&mut base);
                if base.cpu.observer.fault.is_some() || base.cpu.eip < HANDLER {
                    continue;
                }
                taken = true;
                let mut barred = prepared();
                barred.cpu.segs[CS].limit = HANDLER - 1;
                barred.cpu.segs[CS] = reload(barred.cpu.segs[CS]);
                if let Err(error) = refuses(barred, Fault::GeneralProtection(0)) {
                    wrong.push(format!("{setting:?} {:?}: {error}", case.instruction.code()));
                }
            }
            if !taken {
                never.push(case.instruction.code());
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(never.is_empty(), "never taken: {never:?}");
}

fn prepare(setting: Setting, case: &Case, status: u32, count: u32) -> Machine {
    let mut machine = machine(setting, case, Return::Same);
    machine.cpu.flags.set(status, flags::ARITHMETIC);
    machine.cpu.regs.set_dword(ECX, count);
    if case.instruction.is_jmp_near_indirect() || case.instruction.is_call_near_indirect() {
        machine.cpu.regs.set_dword(pagewalk_x86::regs::EAX, HANDLER);
    }
    machine
}
