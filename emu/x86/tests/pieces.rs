//! Where the engine may look up, an onlooker may stop it, or a block may be kept: a guest sees nothing of it.

use pagewalk_x86::Processor;
use pagewalk_x86::bus::Bus;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::flags;
use pagewalk_x86::flat::{FlatBus, Start, processor_with};
use pagewalk_x86::observe::{At, Cause, Observer};
use pagewalk_x86::regs::{EAX, EBX, ECX, EDI};
use pagewalk_x86::segment::Segment;

const SIZE: usize = 0x1_0000;
const MOST: u64 = 60;

/// Stops the run before each instruction, once; notes the flags that deliveries find.
#[derive(Clone, Default)]
struct Stopper {
    stops: bool,
    shown: u64,
    heard: u64,
    delivered: Vec<u32>,
}

impl Observer for Stopper {
    const ACTIVE: bool = true;
    fn wants_stop(&self) -> bool {
        self.stops && self.shown > self.heard
    }
    fn instruction(&mut self, _: &At, _: &[u8], _: bool) {
        self.shown += 1;
    }
    fn delivery(&mut self, _: &At, _: Cause, state: &pagewalk_x86::cpu::State) {
        self.delivered.push(state.flags.get());
    }
}

/// Runs real-mode code from 0:`at` in every way there is, and compares the ends.
fn ends_the_same(
    at: u32,
    code: &[u8],
    prepare: impl Fn(&mut Processor<FlatBus, Stopper>),
) -> Processor<FlatBus, Stopper> {
    let machine = |stops: bool, cache: bool| {
        let observer = Stopper { stops, ..Stopper::default() };
        let mut machine = processor_with(Start::Real, code, at, SIZE, observer);
        machine.cpu.idtr.limit = 0x3ff;
        prepare(&mut machine);
        machine.set_shortcuts(cache, cache);
        machine
    };
    let mut first = machine(false, true);
    let end = first.run(MOST);
    let check = |name: &str, mut machine: Processor<FlatBus, Stopper>, piece: u64| {
        let stop = loop {
            let to = machine.cpu.retired.saturating_add(piece).min(MOST);
            let stop = machine.run(to);
            if stop == Stop::Observer {
                // the same instruction is shown again when the run goes on
                machine.cpu.observer.heard = machine.cpu.observer.shown + 1;
            } else if stop != Stop::Limit || to == MOST {
                break stop;
            }
        };
        assert_eq!(stop, end, "{name}");
        assert_eq!(machine.cpu.state, first.cpu.state, "{name}");
        assert_eq!(machine.cpu.tlb.counters, first.cpu.tlb.counters, "{name}");
        assert!(machine.cpu.bus.ram().bytes() == first.cpu.bus.ram().bytes(), "{name}: memory");
        assert_eq!(
            machine.cpu.observer.delivered, first.cpu.observer.delivered,
            "{name}: flags at deliveries"
        );
    };
    check("at once, without shortcuts", machine(false, false), MOST);
    check("step by step", machine(false, true), 1);
    check("step by step, without shortcuts", machine(false, false), 1);
    check("in pieces of three", machine(false, true), 3);
    check("stopped before each instruction", machine(true, true), MOST);
    check("stopped before each instruction, without shortcuts", machine(true, false), MOST);
    first
}

fn put(machine: &mut Processor<FlatBus, Stopper>, at: u32, bytes: &[u8]) {
    machine.cpu.bus.ram_mut().write(at as usize, bytes);
}

#[test]
fn code_that_a_frame_was_pushed_onto_runs_as_it_is_now() {
    let code = [
        0xbc, 0x00, 0x80, // mov sp, 8000h
        0xcd, 0x06, // int 6
        0xbc, 0x06, 0x20, // mov sp, 2006h
        0x0f, 0x0b, // ud2: IP, CS and flags go to 2000h
    ];
    // UD2 stands at 4040h: INC AX, twice
    let end = ends_the_same(0x4040 - 8, &code, |machine| {
        put(machine, 6 * 4, &[0x00, 0x20, 0, 0]);
        put(machine, 0x2000, &[0xcf]); // iret
        put(machine, 0x2006, &[0xeb, 0xfe]);
        machine.cpu.regs.set_dword(EAX, 0x700);
        machine.cpu.regs.set_dword(EBX, 0x6000);
    });
    assert_eq!(end.cpu.regs.word(EAX) & 0xff00, 0x700);
    assert!(end.cpu.deliveries[6] == 2 && end.cpu.regs.word(EAX) >= 0x702);
}

#[test]
fn an_onlooker_may_stop_before_an_instruction_that_is_single_stepped() {
    ends_the_same(0x1000, &[0x40, 0x41, 0x42, 0x40, 0xeb, 0xfa], |machine| {
        put(machine, 4, &[0x00, 0x20, 0, 0]);
        put(machine, 0x2000, &[0x43, 0xcf]);
        machine.cpu.flags.set(flags::TF, flags::TF);
    });
}

#[test]
fn an_onlooker_may_stop_behind_a_breakpoint_and_behind_mov_ss() {
    // mov ss, ax; mov sp, 8000h; inc ax; jmp back
    let code = [0x8e, 0xd0, 0xbc, 0x00, 0x80, 0x40, 0x31, 0xc0, 0xeb, 0xf6];
    let end = ends_the_same(0x1000, &code, |machine| {
        put(machine, 4, &[0x00, 0x20, 0, 0]);
        put(machine, 0x20 * 4, &[0x10, 0x20, 0, 0]);
        put(machine, 0x2000, &[0x43, 0xcf]);
        put(machine, 0x2010, &[0x45, 0xcf]);
        machine.cpu.flags.set(flags::RF | flags::IF, flags::RF | flags::IF);
        machine.cpu.dr[0] = 0x1000;
        machine.cpu.dr[7] |= 1;
        machine.cpu.bus.interrupt = Some(0x20);
        machine.cpu.shadow = pagewalk_x86::cpu::Shadow::MovSs;
        machine.cpu.update_context();
    });
    assert!(end.cpu.deliveries[1] > 2 && end.cpu.deliveries[0x20] == 1);
}

#[test]
fn an_instruction_across_pages_is_fetched_once_though_the_run_stops_before_it() {
    // at 1ffdh: nop; mov eax, 12345678h, which needs the next page; jmp 1ff0h
    let code = [0x90, 0x66, 0xb8, 0x78, 0x56, 0x34, 0x12, 0xe9, 0xe9, 0xff];
    let end = ends_the_same(0x1ffd, &code, |machine| put(machine, 0x1ff0, &[0x90; 13]));
    let fetches = end.cpu.tlb.counters.hits[4][2];
    assert!(fetches > 4, "{fetches}");
}

#[test]
fn a_repeated_instruction_across_pages_is_fetched_once() {
    let end = ends_the_same(0x1fff, &[0xf3, 0xaa, 0xeb, 0xfe], |machine| {
        machine.cpu.regs.set_dword(ECX, 40);
        machine.cpu.regs.set_dword(EDI, 0x3000);
    });
    assert_eq!(end.cpu.tlb.counters.hits[4][2], 2);
}

#[test]
fn a_repeated_instruction_that_faults_after_some_iterations_has_rf_set() {
    // SDM 3B "Instruction-Breakpoint Exception Condition": RF is set between iterations
    for count in [1, 5] {
        let end = ends_the_same(0x1000, &[0xf3, 0xaa], |machine| {
            // the last bytes that ES reaches, and no vector to go to
            machine.cpu.idtr.limit = 0;
            machine.cpu.regs.set_dword(ECX, 40);
            machine.cpu.segs[0] = Segment::new(0, 0, 0x3000 + count - 2, 0x93);
            machine.cpu.regs.set_dword(EDI, 0x3000);
        });
        assert!(matches!(end.cpu.regs.dword(ECX), n if n == 41 - count));
        assert_eq!(end.cpu.flags.get() & flags::RF != 0, count > 1);
    }
}

#[test]
fn a_repeated_instruction_that_overwrites_itself_goes_on_as_what_it_is_then() {
    let end = ends_the_same(0x1000, &[0xf3, 0xaa, 0x90, 0x90, 0x41, 0xeb, 0xfe], |machine| {
        machine.cpu.regs.set_dword(EAX, 0x90);
        machine.cpu.regs.set_dword(ECX, 0x10);
        machine.cpu.regs.set_dword(EDI, 0xffe);
    });
    // NOPs once its first byte, then STOSB once
    assert!(end.cpu.regs.dword(ECX) > 4, "{:#x}", end.cpu.regs.dword(ECX));
}
