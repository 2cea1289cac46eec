use crate::control::*;
use crate::cpu::Mode;
use crate::fault::Fault;
use crate::flags::*;
use crate::regs::{EAX, EBX, ESP};
use crate::segment::{CS, DS, ES, FS, GS, SS, Segment};
use crate::testing::*;

const GP0: Fault = Fault::GeneralProtection(0);

/// The bytes of JMP or CALL ptr16:32.
fn far(opcode: u8, selector: u16, offset: u32) -> Vec<u8> {
    let mut bytes = vec![opcode];
    bytes.extend(offset.to_le_bytes());
    bytes.extend(selector.to_le_bytes());
    bytes
}
const JMP: u8 = 0xea;
const CALL: u8 = 0x9a;

/// Puts doublewords on the stack.
fn push(cpu: &mut TestCpu, values: &[u32]) {
    let esp = 0x7000;
    cpu.regs.set_dword(ESP, esp);
    for (n, &value) in values.iter().enumerate() {
        poke(cpu, esp + n as u32 * 4, value);
    }
}

#[test]
fn real_mode_far_transfers_take_the_selector_times_16_and_check_the_limit() {
    let mut cpu = real();
    assert_eq!(run(&mut cpu, &[0xea, 0x34, 0x12, 0x00, 0x02]), Ok(()));
    assert_eq!((cpu.segs[CS].selector, cpu.segs[CS].base, cpu.eip), (0x200, 0x2000, 0x1234));
    let mut cpu = real();
    assert_eq!(run(&mut cpu, &[0x9a, 0x34, 0x12, 0x00, 0x02]), Ok(()));
    assert_eq!((cpu.segs[CS].base, cpu.eip, frame16(&cpu, 2)), (0x2000, 0x1234, vec![CODE as u16 + 5, 0]));
    assert_eq!(run(&mut cpu, &[0xca, 0x06, 0x00]), Ok(()));
    assert_eq!((cpu.segs[CS].base, cpu.eip, cpu.regs.dword(ESP)), (0, CODE + 5, 0x8006));
    // 32-bit operands
    let mut cpu = real();
    refuses(&mut cpu, &[0x66, 0xea, 0, 0, 1, 0, 0, 2], GP0);
    assert_eq!(run(&mut cpu, &[0x66, 0x9a, 0x34, 0x12, 0, 0, 0, 2]), Ok(()));
    assert_eq!((cpu.eip, cpu.regs.dword(ESP)), (0x1234, 0x7ff8));
    assert_eq!(frame(&cpu, 2), [CODE + 8, 0]);
    // through memory
    let mut cpu = real();
    poke(&mut cpu, 0x600, 0x0300_4321u32);
    assert_eq!(run(&mut cpu, &[0xff, 0x2e, 0x00, 0x06]), Ok(()));
    assert_eq!((cpu.segs[CS].base, cpu.eip), (0x3000, 0x4321));
}

#[test]
fn a_far_jump_in_real_mode_makes_code_writable_and_keeps_its_limit() {
    let mut cpu = real();
    cpu.segs[CS] = Segment::new(8, 0, u32::MAX, 0xc09b);
    cpu.segs[CS].attributes &= !0x4000;
    assert_eq!(run(&mut cpu, &[0xea, 0x34, 0x12, 0x00, 0x02]), Ok(()));
    assert!(cpu.segs[CS].can_write(0xf_ffff, 1));
}

#[test]
fn jmp_and_call_to_code_of_the_own_level_take_cpl_as_rpl() {
    for opcode in [JMP, CALL] {
        let mut cpu = ring(3);
        assert_eq!(run(&mut cpu, &far(opcode, code(3) & !3, 0x1234_5678)), Ok(()));
        assert_eq!((cpu.segs[CS].selector, cpu.eip, cpu.cpl), (0x3b, 0x1234_5678, 3));
        let pushed = if opcode == CALL { vec![CODE + 7, 0x3b] } else { vec![] };
        assert_eq!(cpu.regs.dword(ESP), 0x8000 - pushed.len() as u32 * 4);
        assert_eq!(frame(&cpu, pushed.len() as u32), pushed);
        // 16-bit operands
        let mut cpu = ring(3);
        assert_eq!(run(&mut cpu, &[0x66, opcode, 0x78, 0x56, 0x3b, 0]), Ok(()));
        assert_eq!(cpu.eip, 0x5678);
        assert_eq!(cpu.regs.dword(ESP), 0x8000 - pushed.len() as u32 * 2);
    }
}

/// SDM 3A "Direct Calls or Jumps to Code Segments": CPL, RPL and DPL against each other.
#[test]
fn direct_transfers_follow_the_privilege_table() {
    for opcode in [JMP, CALL] {
        for (cpl, rpl, dpl) in (0..64u16).map(|n| (n >> 4, n >> 2 & 3, n & 3)) {
            for (access, fits) in [(0x9bu64, dpl == cpl && rpl <= cpl), (0x9f, dpl <= cpl)] {
                let mut cpu = ring(cpl);
                put(&mut cpu, FREE, descriptor(0, 0xf_ffff, access | (dpl as u64) << 5, FLAT));
                let bytes = far(opcode, FREE | rpl, 0x1234);
                if fits {
                    assert_eq!(run(&mut cpu, &bytes), Ok(()));
                    assert_eq!((cpu.segs[CS].selector, cpu.cpl as u16), (FREE | cpl, cpl));
                } else {
                    refuses(&mut cpu, &bytes, Fault::GeneralProtection(FREE));
                }
            }
        }
    }
}

#[test]
fn direct_transfers_refuse_what_is_null_absent_beyond_or_no_code() {
    let cases: [(u16, Fault); 9] = [
        (0, GP0),
        (3, GP0),
        (0x803, Fault::GeneralProtection(0x800)),
        (7, Fault::GeneralProtection(4)), // the LDT that is not there
        (0x10, Fault::GeneralProtection(0x10)),
        (LDT_SELECTOR, Fault::GeneralProtection(LDT_SELECTOR)),
        (FREE, Fault::NotPresent(FREE)),
        (FREE + 8, GP0),                                        // beyond the limit
        (TSS_SELECTOR, Fault::GeneralProtection(TSS_SELECTOR)), // busy
    ];
    for opcode in [JMP, CALL] {
        for (selector, fault) in cases {
            let mut cpu = ring(0);
            put(&mut cpu, FREE, descriptor(0, 0xf_ffff, 0x1b, FLAT));
            put(&mut cpu, FREE + 8, descriptor(0, 0x1233, 0x9b, 4));
            refuses(&mut cpu, &far(opcode, selector, 0x1234), fault);
        }
    }
}

#[test]
fn a_far_call_without_room_is_ss_before_the_offset_is_looked_at() {
    let mut cpu = ring(0);
    put(&mut cpu, FREE + 8, descriptor(0, 0x1233, 0x9b, 4));
    cpu.segs[SS] = Segment::new(0x10, 0x7000, 0xfff, 0x4093);
    cpu.regs.set_dword(ESP, 7);
    refuses(&mut cpu, &far(CALL, FREE + 8, 0x1234), Fault::Stack(0));
    cpu.regs.set_dword(ESP, 8);
    refuses(&mut cpu, &far(CALL, FREE + 8, 0x1234), GP0);
}

#[test]
fn a_transfer_sets_the_accessed_bit() {
    let mut cpu = ring(0);
    put(&mut cpu, FREE, descriptor(0, 0xf_ffff, 0x98, FLAT));
    assert_eq!(run(&mut cpu, &far(JMP, FREE, 0)), Ok(()));
    assert_eq!(peek::<u8>(&cpu, GDT + FREE as u32 + 5), 0x99);
}

#[test]
fn a_call_gate_to_an_inner_ring_switches_stacks_and_copies_parameters_in_order() {
    for inner in 0..3u16 {
        for wide in [true, false] {
            let mut cpu = ring(3);
            let kind = if wide { 0xec } else { 0xe4 };
            put(&mut cpu, FREE, gate(code(inner), 0x9_1234, kind, 3));
            push(&mut cpu, &[0x11111111, 0x22222222, 0x33333333]);
            assert_eq!(run(&mut cpu, &far(CALL, FREE | 3, 0xffff_ffff)), Ok(()));
            assert_eq!((cpu.cpl, cpu.segs[CS].selector), (inner as u8, code(inner)));
            assert_eq!(cpu.segs[SS].selector, data(inner));
            if wide {
                assert_eq!(cpu.eip, 0x9_1234);
                assert_eq!(cpu.regs.dword(ESP), stack_of(inner) - 28);
                let expected = [CODE + 7, 0x3b, 0x11111111, 0x22222222, 0x33333333, 0x7000, 0x43];
                assert_eq!(frame(&cpu, 7), expected);
            } else {
                assert_eq!(cpu.eip, 0x1234);
                assert_eq!(cpu.regs.dword(ESP), stack_of(inner) - 14);
                let expected = [CODE as u16 + 7, 0x3b, 0x1111, 0x1111, 0x2222, 0x7000, 0x43];
                assert_eq!(frame16(&cpu, 7), expected);
            }
            // and back, releasing the parameters on both stacks
            let back: &[u8] = if wide { &[0xca, 12, 0] } else { &[0x66, 0xca, 6, 0] };
            assert_eq!(run(&mut cpu, back), Ok(()));
            assert_eq!((cpu.segs[CS].selector, cpu.eip, cpu.cpl), (0x3b, CODE + 7, 3));
            assert_eq!(cpu.segs[SS].selector, 0x43);
            assert_eq!(cpu.regs.dword(ESP), if wide { 0x700c } else { 0x7006 });
        }
    }
}

#[test]
fn a_call_gate_of_31_parameters_pushes_35_doublewords() {
    let mut cpu = ring(3);
    put(&mut cpu, FREE, gate(code(0), 0x1234, 0xec, 31));
    push(&mut cpu, &std::array::from_fn::<u32, 31, _>(|n| n as u32));
    assert_eq!(run(&mut cpu, &far(CALL, FREE, 0)), Ok(()));
    assert_eq!(cpu.regs.dword(ESP), stack_of(0) - 35 * 4);
    let frame = frame(&cpu, 35);
    assert!(frame[2..33].iter().copied().eq(0..31), "{frame:x?}");
}

#[test]
fn gates_to_the_same_level_and_to_conforming_code_change_neither_stack_nor_cpl() {
    for (target, opcode) in [(code(3), CALL), (code(3), JMP), (CONFORMING, CALL), (CONFORMING, JMP)] {
        let mut cpu = ring(3);
        put(&mut cpu, FREE, gate(target, 0x1234, 0xec, 5));
        assert_eq!(run(&mut cpu, &far(opcode, FREE, 0)), Ok(()));
        assert_eq!((cpu.cpl, cpu.segs[CS].selector, cpu.eip), (3, target & !3 | 3, 0x1234));
        assert_eq!(cpu.regs.dword(ESP), if opcode == CALL { 0x7ff8 } else { 0x8000 });
    }
}

/// SDM 2A "CALL" and "JMP", CALL-GATE, clause by clause.
#[test]
fn every_clause_on_a_call_gate_has_its_fault() {
    let gp = Fault::GeneralProtection;
    let cases: [(u64, u16, Fault); 11] = [
        (gate(code(0), 0, 0xcc, 0), 0, gp(FREE)), // dpl 2, cpl 3
        (gate(code(0), 0, 0x4c, 0), 0, gp(FREE)), // dpl before present
        (gate(code(0), 0, 0x6c, 0), 0, Fault::NotPresent(FREE)),
        (gate(0, 0, 0xec, 0), 0, GP0),
        (gate(3, 0, 0xec, 0), 0, GP0),
        (gate(0x800, 0, 0xec, 0), 0, gp(0x800)),
        (gate(0x10, 0, 0xec, 0), 0, gp(0x10)),
        (gate(TSS_SELECTOR, 0, 0xec, 0), 0, gp(TSS_SELECTOR)),
        (gate(FREE + 8, 0, 0xec, 0), 0, Fault::NotPresent(FREE + 8)),
        (gate(FREE + 16, 0x1000, 0xec, 0), 0, GP0),
        (gate(code(0), 0, 0xee, 0), 0, gp(FREE)), // an interrupt gate
    ];
    for (gate, rpl, fault) in cases {
        let mut cpu = ring(3);
        put(&mut cpu, FREE, gate);
        put(&mut cpu, FREE + 8, descriptor(0, 0xf_ffff, 0x1b, FLAT));
        put(&mut cpu, FREE + 16, descriptor(0, 0xfff, 0x9b, 4));
        refuses(&mut cpu, &far(CALL, FREE | rpl, 0), fault);
    }
    // the RPL counts as well as CPL
    let mut cpu = ring(0);
    put(&mut cpu, FREE, gate(code(0), 0, 0xac, 0));
    refuses(&mut cpu, &far(CALL, FREE | 2, 0), gp(FREE));
    // JMP goes to no inner level, nobody to an outer one
    let mut cpu = ring(3);
    put(&mut cpu, FREE, gate(code(0), 0, 0xec, 0));
    refuses(&mut cpu, &far(JMP, FREE, 0), gp(code(0)));
    let mut cpu = ring(0);
    put(&mut cpu, FREE, gate(code(3), 0, 0xec, 0));
    refuses(&mut cpu, &far(CALL, FREE, 0), gp(code(3) & !3));
}

#[test]
fn a_call_that_faults_on_parameters_or_on_the_inner_stack_changes_nothing() {
    let mut cpu = ring(3);
    put(&mut cpu, FREE, gate(code(0), 0, 0xec, 3));
    cpu.segs[SS] = Segment::new(data(3), 0x7000, 0x10b, 0x40f3);
    cpu.regs.set_dword(ESP, 0x104);
    refuses(&mut cpu, &far(CALL, FREE, 0), Fault::Stack(0));
    let mut cpu = ring(3);
    put(&mut cpu, FREE, gate(code(0), 0, 0xec, 3));
    put(&mut cpu, FREE + 8, descriptor(0x7000, 27, 0x93, 4));
    poke(&mut cpu, TSS + 4, 28u32);
    poke(&mut cpu, TSS + 8, FREE + 8);
    assert_eq!(run(&mut cpu, &far(CALL, FREE, 0)), Ok(()));
    let mut cpu = ring(3);
    put(&mut cpu, FREE, gate(code(0), 0, 0xec, 4));
    put(&mut cpu, FREE + 8, descriptor(0x7000, 27, 0x93, 4));
    poke(&mut cpu, TSS + 4, 28u32);
    poke(&mut cpu, TSS + 8, FREE + 8);
    refuses(&mut cpu, &far(CALL, FREE, 0), Fault::Stack(FREE + 8));
}

#[test]
fn a_return_to_an_outer_ring_nulls_the_segments_it_may_not_use() {
    let mut cpu = ring(0);
    push(&mut cpu, &[0x1234, 0x3b, 0x7800, 0x43]);
    cpu.segs[DS] = Segment::new(0x43, 0, u32::MAX, 0xc0f3);
    cpu.segs[ES] = Segment::new(0x10, 0, u32::MAX, 0xc093);
    cpu.segs[FS] = Segment::new(CONFORMING, 0, u32::MAX, 0xc09f);
    cpu.segs[GS] = Segment::null(2);
    assert_eq!(run(&mut cpu, &[0xcb]), Ok(()));
    assert_eq!((cpu.eip, cpu.cpl, cpu.regs.dword(ESP)), (0x1234, 3, 0x7800));
    let selectors = [DS, ES, FS, GS].map(|r| cpu.segs[r].selector);
    assert_eq!(selectors, [0x43, 0, CONFORMING, 2]);
    assert!(!cpu.segs[ES].usable);
}

#[test]
fn a_return_to_a_16_bit_stack_loads_sp_only() {
    let mut cpu = ring(0);
    put(&mut cpu, FREE, descriptor(0, 0xffff, 0xf3, 0));
    push(&mut cpu, &[0x1234, 0x3b, 0x5555_7800, FREE as u32 | 3]);
    assert_eq!(run(&mut cpu, &[0xcb]), Ok(()));
    assert_eq!(cpu.regs.dword(ESP), 0x7800);
    let mut cpu = ring(0);
    put(&mut cpu, FREE, descriptor(0, 0xffff, 0xf3, 0));
    push(&mut cpu, &[0x1234, 0x3b, 2, 0x5555_7800, FREE as u32 | 3]);
    cpu.regs.set_dword(ESP, 0x7000);
    assert_eq!(run(&mut cpu, &[0xcf]), Ok(()));
    assert_eq!(cpu.regs.dword(ESP), 0x7800);
}

/// SDM 2B "RET" and 2A "IRET": the clauses that they share.
#[test]
fn every_clause_on_a_far_return_has_its_fault() {
    let gp = Fault::GeneralProtection;
    // ring, CS, SS, fault
    let cases: [(u16, u16, u16, Fault); 17] = [
        (0, 0, 0, GP0),
        (0, 3, 0x43, GP0),
        (0, 0x800, 0, gp(0x800)),
        (0, 0x10, 0, gp(0x10)),
        (0, TSS_SELECTOR, 0, gp(TSS_SELECTOR)),
        (3, code(0), 0, gp(code(0))),
        (0, 0x0b, 0x43, gp(8)),
        (0, FREE, 0, Fault::NotPresent(FREE)),
        (0, FREE + 8, 0, GP0), // EIP
        (0, 0x3b, 0, GP0),
        (0, 0x3b, 3, GP0),
        (0, 0x3b, 0x803, gp(0x800)),
        (0, 0x3b, 0x40, gp(0x40)),
        (0, 0x3b, 0x13, gp(0x10)),
        (0, 0x3b, 0x3b, gp(0x38)),
        (0, 0x3b, FREE + 16 + 3, gp(FREE + 16)), // read-only
        (0, 0x3b, FREE + 24 + 3, Fault::Stack(FREE + 24)),
    ];
    for (level, cs, ss, fault) in cases {
        for iret in [false, true] {
            let mut cpu = ring(level);
            put(&mut cpu, FREE, descriptor(0, 0xf_ffff, 0x1b, FLAT));
            put(&mut cpu, FREE + 8, descriptor(0, 0xfff, 0x9b, 4));
            put(&mut cpu, FREE + 16, descriptor(0, 0xf_ffff, 0xf1, FLAT));
            put(&mut cpu, FREE + 24, descriptor(0, 0xf_ffff, 0x73, FLAT));
            let (cs, ss) = (cs as u32, ss as u32);
            if iret {
                push(&mut cpu, &[0x1000, cs, 2, 0x7800, ss]);
                refuses(&mut cpu, &[0xcf], fault);
            } else {
                push(&mut cpu, &[0x1000, cs, 0x7800, ss]);
                refuses(&mut cpu, &[0xcb], fault);
            }
        }
    }
}

/// SDM 2A "IRET": which flags are loaded, by operand size, CPL and IOPL.
#[test]
fn iret_loads_flags_by_privilege() {
    let all = !(VM | NT);
    let open = ARITHMETIC | TF | DF;
    for (cpl, iopl, wide, expected) in [
        (0, 0, true, open | IF | IOPL | RF | AC | ID | VIF | VIP),
        (0, 0, false, open | IF | IOPL),
        (3, 0, true, open | RF | AC | ID),
        (3, 3, true, open | IF | RF | AC | ID),
        (2, 2, false, open | IF),
        (1, 0, false, open),
    ] {
        let mut cpu = ring(cpl);
        cpu.set_flags(iopl << 12, IOPL);
        if wide {
            push(&mut cpu, &[0x1234, code(cpl) as u32, all]);
            assert_eq!(run(&mut cpu, &[0xcf]), Ok(()));
            assert_eq!(cpu.regs.dword(ESP), 0x700c);
        } else {
            push(&mut cpu, &[(code(cpl) as u32) << 16 | 0x1234, all & 0xffff]);
            assert_eq!(run(&mut cpu, &[0x66, 0xcf]), Ok(()));
            assert_eq!(cpu.regs.dword(ESP), 0x7006);
        }
        assert_eq!(cpu.eip, 0x1234);
        let kept = if expected & IOPL != 0 { 0 } else { iopl << 12 };
        assert_eq!(cpu.flags.get(), expected | kept | ALWAYS, "ring {cpl}, IOPL {iopl}, wide {wide}");
    }
}

#[test]
fn iret_in_real_mode_loads_all_flags_but_vm_vif_and_vip() {
    let mut cpu = real();
    poke(&mut cpu, 0x8000, 0x1234u32);
    poke(&mut cpu, 0x8004, 0x200u32);
    poke(&mut cpu, 0x8008, u32::MAX);
    assert_eq!(run(&mut cpu, &[0x66, 0xcf]), Ok(()));
    assert_eq!((cpu.segs[CS].base, cpu.eip, cpu.regs.dword(ESP)), (0x2000, 0x1234, 0x800c));
    assert_eq!(cpu.flags.get(), ARITHMETIC | TF | IF | DF | IOPL | NT | RF | AC | ID | ALWAYS);
    let mut cpu = real();
    poke(&mut cpu, 0x8000, 0x1_0000u32);
    refuses(&mut cpu, &[0x66, 0xcf], GP0);
}

#[test]
fn iret_within_virtual_8086_mode_leaves_iopl_and_without_iopl_3_needs_the_vme() {
    let image = |cpu: &mut TestCpu, flags: u16| {
        for (n, value) in [0x1234, 0x400, flags].into_iter().enumerate() {
            poke(cpu, 0x3000 + n as u32 * 2, value);
        }
    };
    let mut cpu = vm86(3);
    image(&mut cpu, 0xffff);
    assert_eq!(run(&mut cpu, &[0xcf]), Ok(()));
    assert_eq!((cpu.mode(), cpu.segs[CS].base, cpu.eip), (Mode::Vm86, 0x4000, 0x1234));
    assert_eq!(cpu.flags.get(), ARITHMETIC | TF | IF | DF | NT | IOPL | VM | ALWAYS);
    let mut cpu = vm86(2);
    image(&mut cpu, 0);
    refuses(&mut cpu, &[0xcf], GP0);
    cpu.cr4 |= CR4_VME;
    refuses(&mut cpu, &[0x66, 0xcf], GP0);
    image(&mut cpu, TF as u16);
    refuses(&mut cpu, &[0xcf], GP0);
    cpu.set_flags(VIP, VIP);
    image(&mut cpu, IF as u16);
    refuses(&mut cpu, &[0xcf], GP0);
    cpu.set_flags(0, VIP);
    assert_eq!(run(&mut cpu, &[0xcf]), Ok(()));
    assert_eq!(cpu.flags.get(), VM | VIF | 2 << 12 | ALWAYS);
}

#[test]
fn iret_enters_virtual_8086_mode_from_ring_0_only() {
    let stack = [0x1_0000, 0x100, 2 | VM, 0xffff_1000, 0x200, 0x301, 0x302, 0x303, 0x304];
    let mut cpu = ring(0);
    push(&mut cpu, &stack);
    refuses(&mut cpu, &[0xcf], GP0); // EIP beyond 64 KiB
    poke(&mut cpu, 0x7000, 0x42u32);
    assert_eq!(run(&mut cpu, &[0xcf]), Ok(()));
    assert_eq!((cpu.mode(), cpu.cpl, cpu.eip), (Mode::Vm86, 3, 0x42));
    let selectors = [CS, SS, ES, DS, FS, GS].map(|r| cpu.segs[r].selector);
    assert_eq!(selectors, [0x100, 0x200, 0x301, 0x302, 0x303, 0x304]);
    assert!(cpu.segs.iter().all(|s| s.base == (s.selector as u32) << 4 && s.limit == 0xffff && s.dpl() == 3));
    assert_eq!(cpu.regs.dword(ESP), 0xffff_1000);
    let mut cpu = ring(3);
    push(&mut cpu, &[0x1234, 0x3b, 2 | VM]);
    assert_eq!(run(&mut cpu, &[0xcf]), Ok(()));
    assert_eq!(cpu.mode(), Mode::Protected);
}

#[test]
fn iret_unblocks_nmis() {
    let mut cpu = ring(0);
    cpu.nmi_blocked = true;
    push(&mut cpu, &[0x1234, 8, 2]);
    assert_eq!(run(&mut cpu, &[0xcf]), Ok(()));
    assert!(!cpu.nmi_blocked);
}

#[test]
fn indirect_far_pointers_fault_as_memory_operands_do() {
    let mut cpu = ring(0);
    cpu.regs.set_dword(EAX, 0x6ff);
    cpu.regs.set_dword(EBX, 0x6fd);
    cpu.segs[DS] = Segment::new(0x10, 0, 0x6ff, 0x4093);
    refuses(&mut cpu, &[0xff, 0x28], GP0);
    refuses(&mut cpu, &[0xff, 0x1b], GP0);
    poke(&mut cpu, 0x6fa, 0x1234u32);
    poke(&mut cpu, 0x6fe, 0x08u16);
    cpu.regs.set_dword(EBX, 0x6fa);
    assert_eq!(run(&mut cpu, &[0xff, 0x1b]), Ok(()));
    assert_eq!((cpu.eip, frame(&cpu, 2)), (0x1234, vec![CODE + 2, 8]));
}
