use crate::bus::Bus;
use crate::control::*;
use crate::cpu::Mode;
use crate::fault::{Fault, Shutdown, Stop};
use crate::flags::*;
use crate::observe::Cause;
use crate::regs::{EAX, ESP};
use crate::segment::{CS, DS, ES, FS, GS, SS};
use crate::testing::*;

const PAGE: Fault = Fault::Page { address: 0xdead_b000, code: 2 };

#[test]
fn real_mode_pushes_flags_cs_and_ip_and_clears_if_tf_and_ac() {
    let mut cpu = real();
    cpu.set_flags(IF | TF | CF | DF, !0);
    cpu.eip = 0x1122;
    assert_eq!(cpu.deliver(Cause::External(0x21)), Ok(()));
    assert_eq!((cpu.segs[CS].selector, cpu.segs[CS].base, cpu.eip), (0x1234, 0x12340, 0x21));
    assert_eq!(cpu.regs.dword(ESP), 0x7ffa);
    assert_eq!(frame16(&cpu, 3), [0x1122, 0, (IF | TF | CF | DF | ALWAYS) as u16]);
    assert_eq!(cpu.flags.get(), CF | DF | ALWAYS);
    assert_eq!(cpu.deliveries[0x21], 1);
    assert!(cpu.no_step_trap);
}

#[test]
fn real_mode_pushes_no_error_code_and_finds_the_table_where_idtr_says() {
    let mut cpu = real();
    cpu.idtr.base = 0x2000;
    poke(&mut cpu, 0x2000 + 13 * 4, 0x00f0_0042u32);
    assert_eq!(cpu.deliver(Cause::Fault(Fault::GeneralProtection(0))), Ok(()));
    assert_eq!((cpu.segs[CS].base, cpu.eip, cpu.regs.dword(ESP)), (0xf00, 0x42, 0x7ffa));
}

#[test]
fn a_real_mode_table_too_short_for_the_vector_is_gp_then_df_then_shutdown() {
    let mut cpu = real();
    cpu.idtr.limit = 14 * 4 - 1;
    assert_eq!(cpu.deliver(Cause::Software(0x20)), Ok(()));
    assert_eq!(cpu.eip, 13);
    let mut cpu = real();
    cpu.idtr.limit = 13 * 4 - 1;
    assert_eq!(cpu.deliver(Cause::Fault(Fault::GeneralProtection(0))), Ok(()));
    assert_eq!(cpu.eip, 8);
    let mut cpu = real();
    cpu.idtr.limit = 8 * 4 + 2;
    let stop = cpu.deliver(Cause::Fault(Fault::Stack(0)));
    let gp = Fault::GeneralProtection(1);
    let chain = Shutdown { first: Some(Fault::Stack(0)), second: Some(gp), third: Some(gp), at: (0, CODE) };
    assert_eq!(stop, Err(Stop::Shutdown(chain)));
}

#[test]
fn a_real_mode_stack_that_wraps_within_a_word_is_ss() {
    let mut cpu = real();
    cpu.regs.set_dword(ESP, 5);
    assert_eq!(run(&mut cpu, &[0xcd, 0x20]), Err(Fault::Stack(0)));
    cpu.regs.set_dword(ESP, 0x7777_0004);
    assert_eq!(run(&mut cpu, &[0xcd, 0x20]), Ok(()));
    assert_eq!(cpu.regs.dword(ESP), 0x7777_fffe);
}

#[test]
fn a_fault_of_the_same_level_pushes_four_doublewords_with_rf_set() {
    let mut cpu = ring(0);
    cpu.set_flags(IF | TF | NT | CF, !0);
    assert_eq!(cpu.deliver(Cause::Fault(Fault::NotPresent(0x48))), Ok(()));
    assert_eq!(cpu.regs.dword(ESP), 0x8000 - 16);
    assert_eq!(frame(&cpu, 4), [0x48, CODE, 8, IF | TF | NT | CF | RF | ALWAYS]);
    assert_eq!((cpu.segs[CS].selector, cpu.eip, cpu.cpl), (8, 0xb00, 0));
    assert_eq!(cpu.flags.get(), CF | ALWAYS);
}

#[test]
fn interrupts_and_traps_save_rf_as_it_is_and_a_code_breakpoint_saves_it_clear() {
    for (cause, expected) in [
        (Cause::External(0x30), 0),
        (Cause::Nmi, 0),
        (Cause::DebugTrap, 0),
        (Cause::Fault(Fault::InvalidOpcode), RF),
        (Cause::Fault(PAGE), RF),
    ] {
        let mut cpu = ring(0);
        assert_eq!(cpu.deliver(cause), Ok(()));
        let at = if let Cause::Fault(Fault::Page { .. }) = cause { 3 } else { 2 };
        assert_eq!(frame(&cpu, 4)[at], expected | ALWAYS, "{cause:?}");
    }
    let mut cpu = ring(0);
    cpu.dr[0] = CODE;
    cpu.dr[7] = 0x401;
    cpu.dr[6] |= 1;
    assert_eq!(cpu.deliver(Cause::Fault(Fault::Debug)), Ok(()));
    assert_eq!(frame(&cpu, 3)[2], ALWAYS);
    // general detect is a fault like any other, and its handler may use the debug registers
    let mut cpu = ring(0);
    cpu.dr[7] = 0x2400;
    cpu.dr[6] |= DR6_BD;
    assert_eq!(cpu.deliver(Cause::Fault(Fault::Debug)), Ok(()));
    assert_eq!((frame(&cpu, 3)[2], cpu.dr[7]), (ALWAYS | RF, 0x400));
}

#[test]
fn a_page_fault_sets_cr2_even_when_it_becomes_a_double_fault() {
    let mut cpu = ring(0);
    assert_eq!(cpu.deliver(Cause::Fault(PAGE)), Ok(()));
    assert_eq!((cpu.cr2, frame(&cpu, 1)[0], cpu.eip), (0xdead_b000, 2, 0xe00));
    let mut cpu = ring(0);
    put_gate(&mut cpu, 14, 0);
    assert_eq!(cpu.deliver(Cause::Fault(PAGE)), Ok(()));
    assert_eq!((cpu.cr2, frame(&cpu, 2), cpu.eip), (0xdead_b000, vec![0, CODE], 0x800));
}

#[test]
fn from_an_outer_ring_the_frame_goes_on_the_stack_of_the_tss() {
    for inner in 0..3u16 {
        let mut cpu = ring(3);
        put_gate(&mut cpu, 0x30, gate(code(inner), 0x5555, 0x8f, 0));
        cpu.set_flags(IF, IF);
        assert_eq!(cpu.deliver(Cause::External(0x30)), Ok(()));
        assert_eq!((cpu.cpl, cpu.segs[CS].selector, cpu.eip), (inner as u8, code(inner), 0x5555));
        assert_eq!((cpu.segs[SS].selector, cpu.regs.dword(ESP)), (data(inner), stack_of(inner) - 20));
        assert_eq!(frame(&cpu, 5), [CODE, 0x3b, IF | ALWAYS, 0x8000, 0x43]);
        assert_eq!(cpu.segs[DS].selector, 0x43);
        assert!(cpu.flags.interrupts(), "a trap gate leaves IF");
    }
    let mut cpu = ring(3);
    assert_eq!(cpu.deliver(Cause::Fault(Fault::GeneralProtection(0x18))), Ok(()));
    assert_eq!(frame(&cpu, 6), [0x18, CODE, 0x3b, RF | ALWAYS, 0x8000, 0x43]);
}

/// SDM 2A "INT n", INTER-PRIVILEGE-LEVEL-INTERRUPT: "SS:ESP := TSS(NewSS:NewESP)"; and so in "CALL".
#[test]
fn esp_is_loaded_in_full_also_for_an_inner_stack_of_16_bits() {
    for bytes in [&[0xcd, 0x30][..], &[0x9a, 0, 0, 0, 0, (FREE as u8 + 8) | 3, (FREE >> 8) as u8]] {
        let mut cpu = ring(3);
        put(&mut cpu, FREE, descriptor(0, 0xffff, 0xb3, 0));
        put(&mut cpu, FREE + 8, gate(code(1), 0x5555, 0xec, 0));
        put_gate(&mut cpu, 0x30, gate(code(1), 0x5555, 0xee, 0));
        poke(&mut cpu, TSS + 12, 0x5678_7000u32);
        poke(&mut cpu, TSS + 16, FREE | 1);
        let count = if bytes[0] == 0xcd { 5 } else { 4 };
        assert_eq!(run(&mut cpu, bytes), Ok(()));
        assert_eq!((cpu.cpl, cpu.regs.dword(ESP)), (1, 0x5678_7000 - count * 4));
    }
}

#[test]
fn a_16_bit_gate_pushes_words_and_takes_16_bits_of_its_offset() {
    let mut cpu = ring(3);
    put_gate(&mut cpu, 13, gate(code(0), 0x9_5555, 0x86, 0));
    assert_eq!(cpu.deliver(Cause::Fault(Fault::GeneralProtection(0x18))), Ok(()));
    assert_eq!((cpu.eip, cpu.regs.dword(ESP)), (0x5555, stack_of(0) - 12));
    assert_eq!(frame16(&cpu, 6), [0x18, CODE as u16, 0x3b, ALWAYS as u16, 0x8000, 0x43]);
}

#[test]
fn a_16_bit_tss_names_its_stacks_by_words() {
    let mut cpu = ring(3);
    cpu.tr = crate::segment::Segment::new(TSS16_SELECTOR, TSS16, 0x2b, 0x83);
    poke(&mut cpu, TSS16 + 2, 0x9876u16);
    poke(&mut cpu, TSS16 + 4, 0x10u16);
    assert_eq!(cpu.deliver(Cause::External(0x30)), Ok(()));
    assert_eq!((cpu.segs[SS].selector, cpu.regs.dword(ESP)), (0x10, 0x9876 - 20));
    let mut cpu = ring(3);
    cpu.tr = crate::segment::Segment::new(TSS16_SELECTOR, TSS16, 4, 0x83);
    refuses(&mut cpu, &[0xf1], Fault::InvalidTss(TSS16_SELECTOR | 1));
}

#[test]
fn conforming_handlers_stay_at_the_level_and_on_the_stack_of_the_interrupted_program() {
    let mut cpu = ring(3);
    put_gate(&mut cpu, 0x30, gate(CONFORMING, 0x5555, 0x8e, 0));
    assert_eq!(cpu.deliver(Cause::External(0x30)), Ok(()));
    assert_eq!((cpu.cpl, cpu.segs[CS].selector, cpu.segs[SS].selector), (3, CONFORMING | 3, 0x43));
    assert_eq!(frame(&cpu, 3), [CODE, 0x3b, ALWAYS]);
}

/// SDM 2A "INT n", PROTECTED-MODE and TRAP-OR-INTERRUPT-GATE, clause by clause.
#[test]
fn every_clause_on_the_gate_and_its_target_has_its_fault() {
    let gp = Fault::GeneralProtection;
    let present = |access: u64| access | 0x80;
    let cases: [(u64, Fault); 14] = [
        (0, gp(0x30 * 8 + 2)),
        (gate(8, 0, present(0xc | 0x60), 0), gp(0x30 * 8 + 2)), // a call gate
        (gate(8, 0, present(0x10 | 0xe | 0x60), 0), gp(0x30 * 8 + 2)), // a segment
        (gate(8, 0, 0xe, 0), gp(0x30 * 8 + 2)),                 // dpl before present
        (gate(8, 0, present(0xe | 0x40), 0), gp(0x30 * 8 + 2)), // dpl 2
        (gate(8, 0, 0xe | 0x60, 0), Fault::NotPresent(0x30 * 8 + 2)),
        (gate(0, 0, present(0xe | 0x60), 0), gp(0)),
        (gate(3, 0, present(0xe | 0x60), 0), gp(0)),
        (gate(0x803, 0, present(0xe | 0x60), 0), gp(0x800)),
        (gate(0x10, 0, present(0xe | 0x60), 0), gp(0x10)), // data
        (gate(0x50, 0, present(0xe | 0x60), 0), gp(0x50)), // system
        (gate(FREE, 0, present(0xe | 0x60), 0), Fault::NotPresent(FREE)),
        (gate(FREE + 8, 0x1000, present(0xe | 0x60), 0), gp(0)), // beyond the limit
        (gate(code(0), 0, present(0x5 | 0x60), 0), gp(code(0))), // a task gate to no TSS
    ];
    for (gate, fault) in cases {
        let mut cpu = ring(3);
        put(&mut cpu, FREE, descriptor(0, 0xf_ffff, 0x1b, FLAT));
        put(&mut cpu, FREE + 8, descriptor(0, 0xfff, 0x9b, 4));
        put_gate(&mut cpu, 0x30, gate);
        refuses(&mut cpu, &[0xcd, 0x30], fault);
    }
    let mut cpu = ring(3);
    cpu.idtr.limit = 0x30 * 8 + 6;
    refuses(&mut cpu, &[0xcd, 0x30], gp(0x30 * 8 + 2));
    // outward
    let mut cpu = ring(0);
    put_gate(&mut cpu, 0x30, gate(code(3), 0, 0x8e, 0));
    refuses(&mut cpu, &[0xcd, 0x30], gp(code(3) & !3));
}

/// SDM 2A "INT n", INTER-PRIVILEGE-LEVEL-INTERRUPT.
#[test]
fn every_clause_on_the_inner_stack_has_its_fault() {
    let ts = Fault::InvalidTss;
    let cases: [(u16, Fault); 9] = [
        (0, ts(0)),
        (3, ts(0)),
        (0x800, ts(0x800)),
        (0x13, ts(0x10)),                     // rpl
        (data(3) & !3, ts(0x40)),             // dpl
        (8, ts(8)),                           // code
        (FREE, ts(FREE)),                     // read-only
        (FREE + 8, Fault::Stack(FREE + 8)),   // not present
        (FREE + 16, Fault::Stack(FREE + 16)), // too small
    ];
    for (selector, fault) in cases {
        let mut cpu = ring(3);
        put(&mut cpu, FREE, descriptor(0, 0xf_ffff, 0x91, FLAT));
        put(&mut cpu, FREE + 8, descriptor(0, 0xf_ffff, 0x13, FLAT));
        put(&mut cpu, FREE + 16, descriptor(0, 0xf, 0x93, 4));
        poke(&mut cpu, TSS + 8, selector);
        put_gate(&mut cpu, 0x30, gate(code(0), 0, 0xee, 0));
        refuses(&mut cpu, &[0xcd, 0x30], fault);
    }
    let mut cpu = ring(3);
    put_gate(&mut cpu, 0x30, gate(code(0), 0, 0xee, 0));
    cpu.tr.limit = 8;
    refuses(&mut cpu, &[0xcd, 0x30], ts(TSS_SELECTOR));
    cpu.tr.limit = 9;
    assert_eq!(run(&mut cpu, &[0xcd, 0x30]), Ok(()));
}

#[test]
fn error_codes_have_ext_unless_the_event_was_int_n_int3_or_into() {
    for (cause, ext) in [
        (Cause::External(0x30), 1),
        (Cause::Fault(Fault::InvalidOpcode), 1),
        (Cause::Nmi, 1),
        (Cause::Icebp, 1),
        (Cause::Software(0x30), 0),
        (Cause::Breakpoint, 0),
        (Cause::Overflow, 0),
    ] {
        let mut cpu = ring(0);
        put_gate(&mut cpu, cause.vector(), 0);
        assert_eq!(cpu.deliver(cause), Ok(()));
        assert_eq!(cpu.eip, 0xd00);
        assert_eq!(frame(&cpu, 1), [cause.vector() as u32 * 8 + 2 + ext], "{cause:?}");
    }
}

/// SDM 2A "INT n/INTO/INT3/INT1": "software interrupt ... does not apply to INT1".
#[test]
fn instructions_set_ext_as_their_events_do() {
    for (bytes, vector, ext) in
        [(&[0xf1][..], 1, 1), (&[0xcd, 1][..], 1, 0), (&[0xcc][..], 3, 0), (&[0xce][..], 4, 0)]
    {
        let mut cpu = ring(0);
        cpu.flags.set(OF, OF);
        put_gate(&mut cpu, vector, 0);
        refuses(&mut cpu, bytes, Fault::GeneralProtection(vector as u16 * 8 + 2 + ext));
        put_gate(&mut cpu, vector, gate(0, 0, 0xee, 0));
        refuses(&mut cpu, bytes, Fault::GeneralProtection(ext));
    }
}

#[test]
fn only_software_interrupts_ask_for_the_gates_dpl() {
    for bytes in [&[0xcd, 3][..], &[0xcc], &[0xce]] {
        let mut cpu = ring(3);
        cpu.flags.set(OF, OF);
        let vector = if bytes[0] == 0xce { 4 } else { 3 };
        refuses(&mut cpu, bytes, Fault::GeneralProtection(vector * 8 + 2));
    }
    let mut cpu = ring(3);
    assert_eq!(run(&mut cpu, &[0xf1]), Ok(()));
    assert_eq!((cpu.eip, frame(&cpu, 1)[0]), (0x100, CODE + 1));
    let mut cpu = ring(3);
    assert_eq!(run(&mut cpu, &[0xce]), Ok(()), "INTO without OF");
    assert_eq!(cpu.eip, CODE + 1);
}

/// What a second exception makes of a first, through real gates: the vector entered and what it found.
#[test]
fn exceptions_during_delivery_are_delivered_in_turn_doubled_or_shut_down() {
    // benign, then contributory: the second alone
    let mut cpu = ring(0);
    put_gate(&mut cpu, 6, 0);
    assert_eq!(cpu.deliver(Cause::Fault(Fault::InvalidOpcode)), Ok(()));
    assert_eq!((cpu.eip, frame(&cpu, 1)[0]), (0xd00, 6 * 8 + 3));
    // contributory, then contributory: #DF
    let mut cpu = ring(0);
    put_gate(&mut cpu, 10, 0);
    assert_eq!(cpu.deliver(Cause::Fault(Fault::InvalidTss(0x50))), Ok(()));
    assert_eq!((cpu.eip, frame(&cpu, 4)), (0x800, vec![0, CODE, 8, ALWAYS | RF]));
    assert_eq!(cpu.deliveries[8], 1);
    // #DF, then contributory: shutdown, with the whole chain
    let mut cpu = ring(0);
    put_gate(&mut cpu, 8, gate(0x800, 0, 0x8e, 0));
    put_gate(&mut cpu, 14, gate(code(0), 0, 0xe, 0));
    let before = cpu.state.clone();
    let chain = Shutdown {
        first: Some(PAGE),
        second: Some(Fault::NotPresent(14 * 8 + 3)),
        third: Some(Fault::GeneralProtection(0x801)),
        at: (8, CODE),
    };
    assert_eq!(cpu.deliver(Cause::Fault(PAGE)), Err(Stop::Shutdown(chain)));
    cpu.cr2 = before.cr2;
    assert_eq!(cpu.state, before);
    // everything from a hardware interrupt with an empty IDT: #GP is the first that counts
    let mut cpu = ring(0);
    cpu.idtr.limit = 0;
    let chain = Shutdown {
        first: Some(Fault::GeneralProtection(0x30 * 8 + 3)),
        second: Some(Fault::GeneralProtection(13 * 8 + 3)),
        third: Some(Fault::GeneralProtection(8 * 8 + 3)),
        at: (8, CODE),
    };
    assert_eq!(cpu.deliver(Cause::External(0x30)), Err(Stop::Shutdown(chain)));
}

#[test]
fn alignment_checks_that_raise_each_other_for_ever_end_in_shutdown() {
    let mut cpu = ring(3);
    for vector in 0..32 {
        put_gate(&mut cpu, vector, gate(CONFORMING, 0, 0x8e, 0));
    }
    cpu.cr0 |= CR0_AM;
    cpu.set_flags(AC, AC);
    cpu.regs.set_dword(ESP, 0x8001);
    assert!(matches!(cpu.deliver(Cause::Fault(Fault::Alignment)), Err(Stop::Shutdown(_))));
}

#[test]
fn virtual_8086_mode_enters_ring_0_with_its_segments_pushed_and_null() {
    let mut cpu = vm86(3);
    cpu.eip = 0x42;
    cpu.set_flags(IF, IF);
    assert_eq!(cpu.deliver(Cause::Fault(Fault::GeneralProtection(0))), Ok(()));
    assert_eq!((cpu.mode(), cpu.cpl), (Mode::Protected, 0));
    assert_eq!((cpu.segs[SS].selector, cpu.regs.dword(ESP)), (0x10, stack_of(0) - 40));
    let flags = VM | IF | RF | IOPL | ALWAYS;
    assert_eq!(frame(&cpu, 10), [0, 0x42, 0x100, flags, 0x1000, 0x200, 0x301, 0x302, 0x303, 0x304]);
    for register in [DS, ES, FS, GS] {
        assert!(cpu.segs[register].selector == 0 && !cpu.segs[register].usable);
    }
    assert_eq!(cpu.flags.get(), IOPL | ALWAYS);
    // and back
    let esp = cpu.regs.dword(ESP) + 4;
    cpu.regs.set_dword(ESP, esp);
    assert_eq!(run(&mut cpu, &[0xcf]), Ok(()));
    let mut expected = vm86(3);
    expected.eip = 0x42;
    expected.set_flags(IF | RF, IF | RF);
    assert_eq!(cpu.state, expected.state);
}

#[test]
fn virtual_8086_mode_may_be_left_for_ring_0_only() {
    for selector in [code(1), code(3), CONFORMING] {
        let mut cpu = vm86(3);
        put_gate(&mut cpu, 0x30, gate(selector, 0, 0xee, 0));
        refuses(&mut cpu, &[0xcd, 0x30], Fault::GeneralProtection(selector & !3));
    }
    let mut cpu = vm86(3);
    refuses(&mut cpu, &[0xcd, 0x30], Fault::GeneralProtection(0x30 * 8 + 2));
}

/// SDM 3A, table "Software Interrupt Handling Methods While in Virtual-8086 Mode".
#[test]
fn the_six_methods_of_handling_int_n_in_virtual_8086_mode() {
    const MAP: u32 = 0x88;
    // VME, IOPL, bit of the bitmap; method
    for (vme, iopl, bit, method) in
        [(0, 3, 0, 1), (0, 2, 0, 2), (1, 2, 1, 3), (1, 3, 1, 4), (1, 3, 0, 5), (1, 0, 0, 6)]
    {
        let mut cpu = vm86(iopl);
        cpu.cr4 |= vme * CR4_VME;
        cpu.tr.limit = 0x100;
        cpu.set_flags(IF | VIF | TF, IF | VIF | TF);
        poke(&mut cpu, TSS + 0x66, MAP as u16);
        poke(&mut cpu, TSS + MAP - 32 + 0x30 / 8, bit as u8);
        poke(&mut cpu, 0x30 * 4, 0x0300_0123u32);
        put_gate(&mut cpu, 0x30, gate(code(0), 0x5555, 0xee, 0));
        match method {
            2 | 3 => refuses(&mut cpu, &[0xcd, 0x30], Fault::GeneralProtection(0)),
            1 | 4 => {
                assert_eq!(run(&mut cpu, &[0xcd, 0x30]), Ok(()));
                assert_eq!((cpu.mode(), cpu.eip), (Mode::Protected, 0x5555));
            }
            _ => {
                assert_eq!(run(&mut cpu, &[0xcd, 0x30]), Ok(()));
                assert_eq!((cpu.mode(), cpu.cpl), (Mode::Vm86, 3));
                assert_eq!((cpu.segs[CS].selector, cpu.eip), (0x300, 0x123));
                let image = (IF | TF | IOPL | ALWAYS) as u16;
                assert_eq!(frame16(&cpu, 3), [2, 0x100, image], "method {method}");
                let kept = if method == 5 { VIF } else { IF };
                assert_eq!(cpu.flags.get(), VM | iopl << 12 | kept | ALWAYS);
            }
        }
    }
    // method 6 shows VIF in the place of IF
    let mut cpu = vm86(0);
    cpu.cr4 |= CR4_VME;
    cpu.tr.limit = 0x100;
    cpu.set_flags(IF, IF | VIF);
    poke(&mut cpu, TSS + 0x66, MAP as u16);
    assert_eq!(run(&mut cpu, &[0xcd, 0x30]), Ok(()));
    assert_eq!(frame16(&cpu, 3)[2], (IOPL | ALWAYS) as u16);
    // a bitmap beyond the TSS's limit
    let mut cpu = vm86(3);
    cpu.cr4 |= CR4_VME;
    poke(&mut cpu, TSS + 0x66, MAP as u16);
    refuses(&mut cpu, &[0xcd, 0x30], Fault::GeneralProtection(0));
    // INT3 never asks the bitmap
    let mut cpu = vm86(0);
    cpu.cr4 |= CR4_VME;
    put_gate(&mut cpu, 3, gate(code(0), 0x5555, 0xee, 0));
    assert_eq!(run(&mut cpu, &[0xcc]), Ok(()));
    assert_eq!(cpu.mode(), Mode::Protected);
}

#[test]
fn a_fault_on_the_second_page_of_the_inner_stack_changes_nothing() {
    let mut cpu = ring(3);
    put_gate(&mut cpu, 0x30, gate(code(0), 0x5555, 0xee, 0));
    poke(&mut cpu, TSS + 4, 0x2_0008u32);
    // identity-mapped, but for page 0x1f000
    const DIRECTORY: u32 = 0x3_0000;
    const TABLE: u32 = 0x3_1000;
    poke(&mut cpu, DIRECTORY, TABLE | 0x67);
    for page in 0..64u32 {
        let present = (page != 0x1f) as u32;
        poke(&mut cpu, TABLE + page * 4, page << 12 | 0x66 | present);
    }
    cpu.cr3 = DIRECTORY;
    cpu.cr0 |= CR0_PG;
    cpu.regs.set_dword(EAX, 0x1234);
    cpu.update_context();
    refuses(&mut cpu, &[0xcd, 0x30], Fault::Page { address: 0x1_fffc, code: CODE_OF_KERNEL_WRITE });
}

#[test]
fn the_second_of_two_page_faults_is_the_one_that_the_double_fault_finds_in_cr2() {
    let mut cpu = ring(0);
    // the whole of memory but the page of the stack
    const DIRECTORY: u32 = 0x3_0000;
    const TABLE: u32 = 0x3_1000;
    poke(&mut cpu, DIRECTORY, TABLE | 0x67);
    for page in 0..64u32 {
        poke(&mut cpu, TABLE + page * 4, page << 12 | 0x66 | (page != 7) as u32);
    }
    cpu.cr3 = DIRECTORY;
    cpu.cr0 |= CR0_PG;
    cpu.update_context();
    fill_tss(&mut cpu, 0);
    poke(&mut cpu, OTHER_TSS + 0x1c, DIRECTORY);
    put_gate(&mut cpu, 8, gate(OTHER_SELECTOR + 8, 0, 0x85, 0));
    put(&mut cpu, OTHER_SELECTOR + 8, descriptor(OTHER_TSS + 0x1000, 0x67, 0x89, 0));
    let copy: [u8; 0x68] = cpu.bus.ram().read(OTHER_TSS as usize);
    cpu.bus.ram_mut().write(OTHER_TSS as usize + 0x1000, &copy);
    assert_eq!(cpu.deliver(Cause::Fault(PAGE)), Ok(()));
    assert_eq!((cpu.cr2, cpu.eip, cpu.tr.selector), (0x7ffc, 0xcafe, OTHER_SELECTOR + 8));
}

/// W set, P and U/S clear.
const CODE_OF_KERNEL_WRITE: u16 = 2;

#[test]
fn a_task_gate_saves_the_interrupted_task_and_pushes_the_error_code_on_the_new_stack() {
    let mut cpu = ring(3);
    fill_tss(&mut cpu, 0);
    put_gate(&mut cpu, 8, gate(OTHER_SELECTOR, 0, 0x85, 0));
    put_gate(&mut cpu, 13, 0);
    cpu.set_flags(IF | NT, IF | NT);
    assert_eq!(cpu.deliver(Cause::Fault(Fault::GeneralProtection(0x18))), Ok(()));
    assert_eq!((cpu.eip, cpu.cpl, cpu.tr.selector), (0xcafe, 0, OTHER_SELECTOR));
    assert_eq!((cpu.regs.dword(ESP), frame(&cpu, 1)[0]), (0xd000 - 4, 0));
    assert_eq!(peek::<u32>(&cpu, TSS + 0x20), CODE);
    assert_eq!(peek::<u32>(&cpu, TSS + 0x24), IF | NT | RF | ALWAYS);
    assert_eq!(peek::<u16>(&cpu, OTHER_TSS), TSS_SELECTOR);
    assert!(cpu.flags.system(NT));
}

#[test]
fn a_task_that_cannot_load_its_segments_gets_the_fault_itself() {
    // #TS for the data segment comes in the new task, whose stack is good, with the new task's EIP
    let mut cpu = ring(3);
    fill_tss(&mut cpu, 0);
    poke(&mut cpu, OTHER_TSS + 0x54, 0x800u16);
    put_gate(&mut cpu, 0x30, gate(OTHER_SELECTOR, 0, 0x85, 0));
    assert_eq!(cpu.deliver(Cause::External(0x30)), Ok(()));
    assert_eq!((cpu.tr.selector, cpu.eip), (OTHER_SELECTOR, 0xa00));
    assert_eq!(frame(&cpu, 3), [0x801, 0xcafe, 8]);
    // with a bad stack too there is no way to deliver it
    let mut cpu = ring(3);
    fill_tss(&mut cpu, 0);
    poke(&mut cpu, OTHER_TSS + 0x50, 0x800u16);
    put_gate(&mut cpu, 0x30, gate(OTHER_SELECTOR, 0, 0x85, 0));
    assert!(matches!(cpu.deliver(Cause::External(0x30)), Err(Stop::Shutdown(_))));
}

/// A ring-0 task in [`OTHER_TSS`].
fn fill_tss(cpu: &mut TestCpu, ldt: u16) {
    poke(cpu, OTHER_TSS + 0x20, 0xcafeu32);
    poke(cpu, OTHER_TSS + 0x24, ALWAYS);
    poke(cpu, OTHER_TSS + 0x38, 0xd000u32);
    for (offset, selector) in [(0x48, 0x10u16), (0x4c, 8), (0x50, 0x10), (0x54, 0x10), (0x58, 0), (0x5c, 0)] {
        poke(cpu, OTHER_TSS + offset, selector);
    }
    poke(cpu, OTHER_TSS + 0x60, ldt);
}
