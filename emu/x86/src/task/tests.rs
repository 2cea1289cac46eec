use crate::control::*;
use crate::cpu::Mode;
use crate::fault::Fault;
use crate::flags::*;
use crate::observe::Cause;
use crate::regs::ESP;
use crate::segment::{CS, DS, ES, FS, GS, SS, Segment};
use crate::testing::*;

const NEW_EIP: u32 = 0xcafe;

/// Registers that tell themselves apart, and flags.
fn mark(cpu: &mut TestCpu) {
    for n in 0..8u8 {
        cpu.regs.set_dword(n, (0x1111_0000 * (n as u32 + 1)) | 0x8000 | n as u32);
    }
    cpu.regs.set_dword(ESP, 0x8000);
    cpu.set_flags(CF | DF | IF, CF | DF | IF);
}

/// A ring-`r` task in [`OTHER_TSS`].
fn wide_task(cpu: &mut TestCpu, r: u16, flags: u32) {
    poke(cpu, OTHER_TSS + 0x1c, 0x5_0000u32);
    poke(cpu, OTHER_TSS + 0x20, NEW_EIP);
    poke(cpu, OTHER_TSS + 0x24, flags);
    for n in 0..8 {
        poke(cpu, OTHER_TSS + 0x28 + n * 4, 0xaaaa_0000 | n);
    }
    for (n, selector) in [data(r), code(r), data(r), data(r), data(3), 0].into_iter().enumerate() {
        poke(cpu, OTHER_TSS + 0x48 + n as u32 * 4, selector);
    }
    poke(cpu, OTHER_TSS + 0x60, LDT_SELECTOR);
}

/// A ring-`r` task in [`TSS16`].
fn narrow_task(cpu: &mut TestCpu, r: u16, flags: u16) {
    poke(cpu, TSS16 + 0x0e, NEW_EIP as u16);
    poke(cpu, TSS16 + 0x10, flags);
    for n in 0..8u16 {
        poke(cpu, TSS16 + 0x12 + n as u32 * 2, 0xaa00 | n);
    }
    for (n, selector) in [data(r), code(r), data(r), data(r)].into_iter().enumerate() {
        poke(cpu, TSS16 + 0x22 + n as u32 * 2, selector);
    }
    poke(cpu, TSS16 + 0x2a, 0u16);
}

fn far(opcode: u8, selector: u16) -> Vec<u8> {
    let [low, high] = selector.to_le_bytes();
    vec![opcode, 0xff, 0xff, 0xff, 0xff, low, high]
}
const JMP: u8 = 0xea;
const CALL: u8 = 0x9a;

fn busy(cpu: &TestCpu, selector: u16) -> bool {
    peek::<u8>(cpu, GDT + selector as u32 + 5) & 2 != 0
}

#[test]
fn a_switch_saves_every_register_of_the_old_task_and_loads_every_one_of_the_new() {
    let mut cpu = ring(0);
    mark(&mut cpu);
    let regs = cpu.regs.all();
    wide_task(&mut cpu, 3, 2 | PF | IF | 3 << 12 | AC);
    assert_eq!(run(&mut cpu, &far(JMP, OTHER_SELECTOR)), Ok(()));
    // the old task
    assert_eq!(peek::<u32>(&cpu, TSS + 0x20), CODE + 7);
    assert_eq!(peek::<u32>(&cpu, TSS + 0x24), CF | DF | IF | ALWAYS);
    for n in 0..8 {
        assert_eq!(peek::<u32>(&cpu, TSS + 0x28 + n * 4), regs[n as usize]);
    }
    for (n, selector) in [0x10u16, 8, 0x10, 0x10, 0x10, 0x10].into_iter().enumerate() {
        assert_eq!(peek::<u16>(&cpu, TSS + 0x48 + n as u32 * 4), selector);
    }
    // the new one
    assert_eq!((cpu.eip, cpu.cpl, cpu.tr.selector, cpu.tr.base), (NEW_EIP, 3, OTHER_SELECTOR, OTHER_TSS));
    assert_eq!(cpu.regs.all(), std::array::from_fn(|n| 0xaaaa_0000 | n as u32));
    assert_eq!(cpu.flags.get(), 2 | PF | IF | 3 << 12 | AC);
    let selectors = [ES, CS, SS, DS, FS, GS].map(|r| cpu.segs[r].selector);
    assert_eq!(selectors, [0x43, 0x3b, 0x43, 0x43, 0x43, 0]);
    assert!(cpu.segs[SS].can_write(0, 4) && !cpu.segs[GS].can_read(0, 1));
    assert_eq!((cpu.ldtr.selector, cpu.ldtr.base), (LDT_SELECTOR, LDT));
    assert_eq!(cpu.cr3, 0, "CR3 is not loaded while paging is off");
    assert!(cpu.cr0 & CR0_TS != 0);
}

/// SDM 3A, table "Effect of a Task Switch on Busy Flag, NT Flag, Previous Task Link Field, and TS Flag".
#[test]
fn busy_bits_nt_and_the_link_follow_the_table() {
    // JMP: old cleared, new set, NT from the TSS, link unchanged
    let mut cpu = ring(0);
    wide_task(&mut cpu, 0, 2);
    assert_eq!(run(&mut cpu, &far(JMP, OTHER_SELECTOR)), Ok(()));
    assert!(!busy(&cpu, TSS_SELECTOR) && busy(&cpu, OTHER_SELECTOR) && !cpu.flags.system(NT));
    assert_eq!(peek::<u16>(&cpu, OTHER_TSS), 0);
    // CALL and interrupt: old stays busy, new set, NT set, link to the old
    for call in [true, false] {
        let mut cpu = ring(0);
        wide_task(&mut cpu, 0, 2);
        if call {
            assert_eq!(run(&mut cpu, &far(CALL, OTHER_SELECTOR)), Ok(()));
        } else {
            put_gate(&mut cpu, 0x30, gate(OTHER_SELECTOR, 0, 0x85, 0));
            assert_eq!(cpu.deliver(Cause::External(0x30)), Ok(()));
        }
        assert!(busy(&cpu, TSS_SELECTOR) && busy(&cpu, OTHER_SELECTOR) && cpu.flags.system(NT));
        assert_eq!(peek::<u16>(&cpu, OTHER_TSS), TSS_SELECTOR);
        assert_eq!(peek::<u32>(&cpu, TSS + 0x24) & NT, 0);
        // IRET: old cleared, new stays busy, NT cleared in the old image, NT of the new from its TSS
        assert_eq!(run(&mut cpu, &[0xcf]), Ok(()));
        assert!(busy(&cpu, TSS_SELECTOR) && !busy(&cpu, OTHER_SELECTOR) && !cpu.flags.system(NT));
        assert_eq!(peek::<u32>(&cpu, OTHER_TSS + 0x24) & NT, 0);
        assert_eq!(peek::<u32>(&cpu, OTHER_TSS + 0x20), NEW_EIP + 1, "after the IRET");
        assert_eq!((cpu.tr.selector, cpu.eip), (TSS_SELECTOR, if call { CODE + 7 } else { CODE }));
        assert_eq!(peek::<u16>(&cpu, OTHER_TSS), TSS_SELECTOR);
        assert!(cpu.cr0 & CR0_TS != 0);
    }
}

#[test]
fn a_16_bit_tss_holds_words_and_no_fs_gs_or_cr3() {
    let mut cpu = ring(0);
    mark(&mut cpu);
    narrow_task(&mut cpu, 0, 2 | ZF as u16);
    assert_eq!(run(&mut cpu, &far(CALL, TSS16_SELECTOR)), Ok(()));
    assert_eq!((cpu.eip, cpu.cpl, cpu.flags.get()), (NEW_EIP, 0, 2 | ZF | NT));
    assert!((0..8).all(|n| cpu.regs.word(n) == 0xaa00 | n as u16));
    let selectors = [ES, CS, SS, DS, FS, GS].map(|r| cpu.segs[r].selector);
    assert_eq!(selectors, [0x10, 8, 0x10, 0x10, 0, 0]);
    assert_eq!(peek::<u16>(&cpu, TSS16), TSS_SELECTOR);
    // from the 16-bit task back: words are saved
    cpu.regs.set_dword(0, 0x1234_5678);
    assert_eq!(run(&mut cpu, &[0xcf]), Ok(()));
    assert_eq!(peek::<u16>(&cpu, TSS16 + 0x0e), NEW_EIP as u16 + 1);
    assert_eq!(peek::<u16>(&cpu, TSS16 + 0x10), 2 | ZF as u16);
    assert_eq!(peek::<u16>(&cpu, TSS16 + 0x12), 0x5678);
    assert_eq!(peek::<u16>(&cpu, TSS16 + 0x2a), 0, "the LDT selector is not saved");
    assert_eq!((cpu.eip, cpu.regs.dword(0)), (CODE + 7, 0x1111_8000));
}

#[test]
fn a_task_gate_ignores_its_offset_and_asks_for_its_own_dpl_only() {
    for opcode in [JMP, CALL] {
        let mut cpu = ring(3);
        wide_task(&mut cpu, 3, 2);
        put(&mut cpu, FREE, gate(OTHER_SELECTOR, 0xffff_ffff, 0xe5, 0));
        refuses(&mut cpu, &far(opcode, OTHER_SELECTOR), Fault::GeneralProtection(OTHER_SELECTOR));
        assert_eq!(run(&mut cpu, &far(opcode, FREE | 3)), Ok(()));
        assert_eq!((cpu.eip, cpu.tr.selector), (NEW_EIP, OTHER_SELECTOR));
        let mut cpu = ring(3);
        put(&mut cpu, FREE, gate(OTHER_SELECTOR, 0, 0xc5, 0));
        refuses(&mut cpu, &far(opcode, FREE), Fault::GeneralProtection(FREE));
        put(&mut cpu, FREE, gate(OTHER_SELECTOR, 0, 0x65, 0));
        refuses(&mut cpu, &far(opcode, FREE), Fault::NotPresent(FREE));
    }
}

/// SDM 3A, table "Exception Conditions Checked During a Task Switch", the part before the point of no return.
#[test]
fn a_switch_refused_before_its_point_of_no_return_changes_nothing() {
    let gp = Fault::GeneralProtection;
    let access = |a: u64, limit: u32| descriptor(OTHER_TSS, limit, a, 0);
    let cases: [(u64, Fault); 6] = [
        (access(0x8b, 0x67), gp(OTHER_SELECTOR)), // busy
        (access(0x82, 0x67), gp(OTHER_SELECTOR)), // no TSS
        (access(0x09, 0x67), Fault::NotPresent(OTHER_SELECTOR)),
        (access(0x0b, 0x67), gp(OTHER_SELECTOR)), // busy before absent
        (access(0x89, 0x66), Fault::InvalidTss(OTHER_SELECTOR)),
        (access(0x81, 0x2a), Fault::InvalidTss(OTHER_SELECTOR)),
    ];
    for (descriptor, fault) in cases {
        for through_gate in [false, true] {
            let mut cpu = ring(0);
            put(&mut cpu, OTHER_SELECTOR, descriptor);
            put(&mut cpu, FREE, gate(OTHER_SELECTOR, 0, 0x85, 0));
            let selector = if through_gate { FREE } else { OTHER_SELECTOR };
            refuses(&mut cpu, &far(CALL, selector), fault);
            refuses(&mut cpu, &far(JMP, selector), fault);
        }
    }
    // a TSS descriptor in the LDT
    let mut cpu = ring(0);
    cpu.ldtr = Segment::new(LDT_SELECTOR, LDT, 0xff, 0x82);
    poke(&mut cpu, LDT + 8, access(0x89, 0x67));
    refuses(&mut cpu, &far(JMP, 0xc), gp(0xc));
    put(&mut cpu, FREE, gate(0xc, 0, 0x85, 0));
    refuses(&mut cpu, &far(JMP, FREE), gp(0xc));
    // an old TSS too short to be saved to
    let mut cpu = ring(0);
    cpu.tr.limit = 0x5c;
    refuses(&mut cpu, &far(JMP, OTHER_SELECTOR), Fault::InvalidTss(TSS_SELECTOR));
}

#[test]
fn iret_with_nt_wants_a_busy_tss_in_the_gdt() {
    let ts = Fault::InvalidTss;
    let descriptor = |a: u64| descriptor(OTHER_TSS, 0x67, a, 0);
    for (link, access, fault) in [
        (OTHER_SELECTOR, 0x89, ts(OTHER_SELECTOR)), // not busy
        (OTHER_SELECTOR, 0x0b, Fault::NotPresent(OTHER_SELECTOR)),
        (0x0c, 0x8b, ts(0x0c)), // the LDT
        (0x800, 0x8b, ts(0x800)),
        (8, 0x8b, ts(8)),
    ] {
        let mut cpu = ring(0);
        cpu.set_flags(NT, NT);
        put(&mut cpu, OTHER_SELECTOR, descriptor(access));
        poke(&mut cpu, TSS, link);
        refuses(&mut cpu, &[0xcf], fault);
    }
}

/// The same table, the part after it: the fault is raised in the new task, at its EIP, all else loaded.
#[test]
fn what_the_new_task_cannot_load_is_its_own_fault() {
    let ts = Fault::InvalidTss;
    // offset in the TSS, value there, fault
    let cases: [(u32, u16, Fault); 20] = [
        (0x60, 0x800, ts(0x800)), // LDT beyond the GDT
        (0x60, 0x0c, ts(0x0c)),   // LDT in an LDT
        (0x60, 0x10, ts(0x10)),   // no LDT
        (0x60, FREE, ts(FREE)),   // LDT not present
        (0x4c, 0, ts(0)),         // CS null
        (0x4c, 0x800, ts(0x800)), // CS beyond
        (0x4c, 0x10, ts(0x10)),   // CS data
        (0x4c, 0x0b, ts(0x08)),   // CS RPL 3, DPL 0
        (0x4c, FREE + 8, Fault::NotPresent(FREE + 8)),
        (0x50, 0, ts(0)),         // SS null
        (0x50, 0x800, ts(0x800)), // SS beyond
        (0x50, 0x13, ts(0x10)),   // SS RPL
        (0x50, 0x40, ts(0x40)),   // SS DPL
        (0x50, 0x08, ts(0x08)),   // SS code
        (0x50, FREE + 16, Fault::Stack(FREE + 16)),
        (0x54, 0x800, ts(0x800)),                        // DS beyond
        (0x48, FREE + 24, ts(FREE + 24)),                // ES execute-only
        (0x58, 0x13, ts(0x10)),                          // FS RPL above DPL
        (0x5c, FREE + 16, Fault::NotPresent(FREE + 16)), // GS
        (0x20, 0, Fault::GeneralProtection(0)),          // EIP, set below
    ];
    for (offset, value, fault) in cases {
        let mut cpu = ring(0);
        wide_task(&mut cpu, 0, 2);
        poke(&mut cpu, OTHER_TSS + 0x58, 0u32);
        put(&mut cpu, FREE, descriptor(LDT, 0xff, 0x02, 0));
        put(&mut cpu, FREE + 8, descriptor(0, 0xf_ffff, 0x1b, FLAT));
        put(&mut cpu, FREE + 16, descriptor(0, 0xf_ffff, 0x13, FLAT));
        put(&mut cpu, FREE + 24, descriptor(0, 0xf_ffff, 0x99, FLAT));
        let mut eip = NEW_EIP;
        if offset == 0x20 {
            eip = 0x1_0000;
            poke(&mut cpu, OTHER_TSS + 0x20, eip);
            put(&mut cpu, 8, descriptor(0, 0xffff, 0x9b, 4));
        } else {
            poke(&mut cpu, OTHER_TSS + offset, value);
        }
        assert_eq!(run(&mut cpu, &far(JMP, OTHER_SELECTOR)), Err(fault), "{offset:#x} {value:#x}");
        assert_eq!((cpu.tr.selector, cpu.eip), (OTHER_SELECTOR, eip));
        assert_eq!(cpu.regs.dword(7), 0xaaaa_0007);
        assert!(busy(&cpu, OTHER_SELECTOR) && !busy(&cpu, TSS_SELECTOR));
        assert_eq!(peek::<u32>(&cpu, TSS + 0x20), CODE + 7);
        let loaded = [(0x4c, CS), (0x50, SS), (0x54, DS), (0x48, ES), (0x58, FS), (0x5c, GS)];
        for (_, register) in loaded.iter().skip_while(|(at, _)| *at != offset) {
            assert!(!cpu.segs[*register].usable, "{register} of {offset:#x}");
        }
    }
}

#[test]
fn a_task_in_virtual_8086_mode_has_its_segments_from_their_selectors() {
    let mut cpu = ring(0);
    wide_task(&mut cpu, 0, 2 | VM | IF | IOPL);
    for n in 0..6 {
        poke(&mut cpu, OTHER_TSS + 0x48 + n * 4, 0x100 * (n + 1));
    }
    assert_eq!(run(&mut cpu, &far(CALL, OTHER_SELECTOR)), Ok(()));
    assert_eq!((cpu.mode(), cpu.cpl, cpu.eip), (Mode::Vm86, 3, NEW_EIP));
    for n in 0..6 {
        assert_eq!(cpu.segs[n], Segment::real(0x100 * (n as u16 + 1), 3));
    }
}

#[test]
fn the_t_bit_makes_a_debug_trap_and_local_breakpoints_are_cleared() {
    let mut cpu = ring(0);
    wide_task(&mut cpu, 0, 2);
    poke(&mut cpu, OTHER_TSS + 0x64, 1u16);
    cpu.dr[7] = 0x7ff;
    assert_eq!(run(&mut cpu, &far(JMP, OTHER_SELECTOR)), Ok(()));
    assert_eq!(cpu.debug_trap, DR6_BT);
    assert_eq!(cpu.dr[7], 0x6aa);
}

#[test]
fn cr3_is_loaded_and_the_tlb_flushed_when_it_changes() {
    use crate::mmu::tlb::FlushCause;
    const DIRECTORY: u32 = 0x3_0000;
    for new in [DIRECTORY, DIRECTORY + 0x1000] {
        let mut cpu = ring(0);
        wide_task(&mut cpu, 0, 2);
        poke(&mut cpu, OTHER_TSS + 0x1c, new);
        for directory in [DIRECTORY, DIRECTORY + 0x1000] {
            poke(&mut cpu, directory, 0x87u32); // a 4 MiB page at 0
        }
        cpu.cr3 = DIRECTORY;
        cpu.cr4 |= CR4_PSE;
        cpu.cr0 |= CR0_PG;
        cpu.update_context();
        let count = |cpu: &TestCpu| cpu.tlb.counters.flushes[FlushCause::TaskSwitch as usize];
        let before = count(&cpu);
        assert_eq!(run(&mut cpu, &far(JMP, OTHER_SELECTOR)), Ok(()));
        assert_eq!((cpu.cr3, count(&cpu) - before), (new, (new != DIRECTORY) as u64));
    }
}

#[test]
fn every_page_of_both_task_state_segments_is_checked_before_anything_is_saved() {
    const DIRECTORY: u32 = 0x3_0000;
    const TABLE: u32 = 0x3_1000;
    // both TSSs lie across a page boundary; in turn one of the four pages is missing
    for (absent, address, code) in
        [(0x20, 0x2_0fe0, 2), (0x21, 0x2_1000, 2), (0x22, 0x2_2fe0, 0), (0x23, 0x2_3000, 0)]
    {
        let mut cpu = ring(0);
        cpu.tr.base = 0x2_0fc0;
        put(&mut cpu, OTHER_SELECTOR, descriptor(0x2_2fc0, 0x67, 0x89, 0));
        poke(&mut cpu, DIRECTORY, TABLE | 0x67);
        for page in 0..64u32 {
            poke(&mut cpu, TABLE + page * 4, page << 12 | 0x66 | (page != absent) as u32);
        }
        cpu.cr3 = DIRECTORY;
        cpu.cr0 |= CR0_PG;
        cpu.update_context();
        refuses(&mut cpu, &far(JMP, OTHER_SELECTOR), Fault::Page { address, code });
    }
}

#[test]
fn a_task_may_be_described_twice_and_sees_what_was_just_saved() {
    let mut cpu = ring(0);
    mark(&mut cpu);
    put(&mut cpu, OTHER_SELECTOR, descriptor(TSS, 0x67, 0x89, 0));
    assert_eq!(run(&mut cpu, &far(JMP, OTHER_SELECTOR)), Ok(()));
    assert_eq!((cpu.eip, cpu.regs.dword(7)), (CODE + 7, 0x8888_8007));
}
