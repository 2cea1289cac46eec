use crate::control::CR4_UMIP;
use crate::cpu::Shadow;
use crate::fault::Fault;
use crate::flags::ZF;
use crate::regs::{EAX, EBX, ECX, ESP};
use crate::segment::{DS, ES, FS, GS, SS, Segment};
use crate::testing::*;

const GP0: Fault = Fault::GeneralProtection(0);
const UD: Fault = Fault::InvalidOpcode;

/// MOV Sreg, AX.
fn mov(register: usize) -> Vec<u8> {
    vec![0x8e, 0xc0 | (register as u8) << 3]
}

#[test]
fn mov_loads_data_segments_and_stacks_by_their_ladders() {
    for (register, selector, expected) in [
        (DS, 0x43, Ok(())),
        (ES, 0x3b, Ok(())),
        (FS, 0, Ok(())),
        (GS, 3, Ok(())),
        (DS, 0x10, Err(Fault::GeneralProtection(0x10))),
        (FS, CONFORMING, Ok(())),
        (DS, TSS_SELECTOR, Err(Fault::GeneralProtection(TSS_SELECTOR))),
        (SS, 0x43, Ok(())),
        (SS, 0, Err(GP0)),
        (SS, 0x40, Err(Fault::GeneralProtection(0x40))),
        (SS, 0x3b, Err(Fault::GeneralProtection(0x38))),
        (SS, FREE | 3, Err(Fault::Stack(FREE))),
        (GS, FREE | 3, Err(Fault::NotPresent(FREE))),
    ] {
        let mut cpu = ring(3);
        put(&mut cpu, FREE, descriptor(0, 0xf_ffff, 0x73, FLAT));
        cpu.regs.set_dword(EAX, 0xffff_0000 | selector as u32);
        match expected {
            Ok(()) => {
                assert_eq!(run(&mut cpu, &mov(register)), Ok(()), "{register} {selector:#x}");
                assert_eq!(cpu.segs[register].selector, selector);
                let shadow = if register == SS { Shadow::MovSs } else { Shadow::None };
                assert_eq!(cpu.shadow, shadow);
            }
            Err(fault) => refuses(&mut cpu, &mov(register), fault),
        }
    }
    let mut cpu = ring(0);
    refuses(&mut cpu, &[0x8e, 0xc8], UD); // CS
    refuses(&mut cpu, &[0x8e, 0xf0], UD); // register 6
}

#[test]
fn real_and_virtual_8086_mode_take_any_selector() {
    let mut cpu = real();
    cpu.segs[DS] = Segment::new(0, 0, u32::MAX, 0xc093); // big real mode
    cpu.regs.set_dword(EAX, 0x1234);
    assert_eq!(run(&mut cpu, &mov(DS)), Ok(()));
    assert_eq!((cpu.segs[DS].base, cpu.segs[DS].limit), (0x12340, u32::MAX));
    assert_eq!(run(&mut cpu, &mov(SS)), Ok(()));
    assert_eq!(cpu.shadow, Shadow::MovSs);
    let mut cpu = vm86(0);
    cpu.regs.set_dword(EAX, 0x1234);
    assert_eq!(run(&mut cpu, &mov(GS)), Ok(()));
    assert_eq!(cpu.segs[GS], Segment::real(0x1234, 3));
}

#[test]
fn mov_from_a_segment_register_fills_a_32_bit_register_and_16_bits_of_memory() {
    let mut cpu = ring(3);
    cpu.regs.set_dword(EAX, u32::MAX);
    assert_eq!(run(&mut cpu, &[0x8c, 0xd8]), Ok(()));
    assert_eq!(cpu.regs.dword(EAX), 0x43);
    cpu.regs.set_dword(EAX, u32::MAX);
    assert_eq!(run(&mut cpu, &[0x66, 0x8c, 0xc8]), Ok(()));
    assert_eq!(cpu.regs.dword(EAX), 0xffff_003b);
    cpu.regs.set_dword(EAX, 0x600);
    poke(&mut cpu, 0x600, u32::MAX);
    assert_eq!(run(&mut cpu, &[0x8c, 0x10]), Ok(()));
    assert_eq!(peek::<u32>(&cpu, 0x600), 0xffff_0043);
}

#[test]
fn push_and_pop_move_words_and_doublewords() {
    let mut cpu = ring(0);
    poke(&mut cpu, 0x7ffc, u32::MAX);
    assert_eq!(run(&mut cpu, &[0x0e]), Ok(()));
    assert_eq!((cpu.regs.dword(ESP), frame(&cpu, 1)[0]), (0x7ffc, 8));
    assert_eq!(run(&mut cpu, &[0x66, 0x1e]), Ok(()));
    assert_eq!((cpu.regs.dword(ESP), frame16(&cpu, 1)[0]), (0x7ffa, 0x10));
    assert_eq!(run(&mut cpu, &[0x66, 0x0f, 0xa9]), Ok(()));
    poke(&mut cpu, 0x7ffc, 0xdead_0000u32 | CONFORMING as u32);
    assert_eq!(run(&mut cpu, &[0x0f, 0xa1]), Ok(()));
    assert_eq!((cpu.segs[FS].selector, cpu.segs[GS].selector), (CONFORMING, 0x10));
    assert_eq!(cpu.regs.dword(ESP), 0x8000);
    poke(&mut cpu, 0x8000, 0x10u32);
    assert_eq!(run(&mut cpu, &[0x17]), Ok(()));
    assert_eq!((cpu.regs.dword(ESP), cpu.shadow), (0x8004, Shadow::MovSs));
    poke(&mut cpu, 0x8004, 0u32);
    refuses(&mut cpu, &[0x17], GP0);
}

#[test]
fn pop_ss_moves_esp_by_the_stack_it_popped_from() {
    let mut cpu = ring(0);
    put(&mut cpu, FREE, descriptor(0, 0xffff, 0x93, 0));
    cpu.regs.set_dword(ESP, 0x1_fffc);
    poke(&mut cpu, 0x1_fffc, FREE as u32);
    assert_eq!(run(&mut cpu, &[0x17]), Ok(()));
    assert_eq!(cpu.regs.dword(ESP), 0x2_0000);
}

#[test]
fn far_pointer_loads_set_both_registers_or_neither() {
    let cases: [(&[u8], usize); 5] = [
        (&[0xc4, 0x18], ES),
        (&[0xc5, 0x18], DS),
        (&[0x0f, 0xb2, 0x18], SS),
        (&[0x0f, 0xb4, 0x18], FS),
        (&[0x0f, 0xb5, 0x18], GS),
    ];
    for (bytes, register) in cases {
        let mut cpu = ring(0);
        put(&mut cpu, FREE, descriptor(0x100, 0xf_ffff, 0x92, FLAT));
        cpu.regs.set_dword(EAX, 0x600);
        poke(&mut cpu, 0x600, 0x1234_5678u32);
        poke(&mut cpu, 0x604, FREE);
        assert_eq!(run(&mut cpu, bytes), Ok(()));
        assert_eq!((cpu.segs[register].base, cpu.regs.dword(EBX)), (0x100, 0x1234_5678));
        assert_eq!(cpu.shadow, Shadow::None);
        poke(&mut cpu, 0x604, 0x800u16);
        cpu.segs[DS] = Segment::new(0x10, 0, u32::MAX, 0xc093);
        refuses(&mut cpu, bytes, Fault::GeneralProtection(0x800));
        // 16-bit operands
        let mut cpu = ring(0);
        cpu.regs.set_dword(EAX, 0x600);
        cpu.regs.set_dword(EBX, u32::MAX);
        poke(&mut cpu, 0x600, 0x0010_5678u32);
        assert_eq!(run(&mut cpu, &[&[0x66], bytes].concat()), Ok(()));
        assert_eq!((cpu.segs[register].selector, cpu.regs.dword(EBX)), (0x10, 0xffff_5678));
    }
}

/// LAR EBX, EAX or LSL EBX, EAX: what the register got.
fn ask(cpu: &mut TestCpu, opcode: u8, selector: u16) -> Option<u32> {
    cpu.regs.set_dword(EAX, 0xffff_0000 | selector as u32);
    cpu.regs.set_dword(EBX, 0x5555_5555);
    cpu.flags.set(0, ZF);
    assert_eq!(run(cpu, &[0x0f, opcode, 0xd8]), Ok(()));
    assert_eq!(cpu.flags.zf(), cpu.regs.dword(EBX) != 0x5555_5555);
    cpu.flags.zf().then(|| cpu.regs.dword(EBX))
}

/// SDM 2A "LAR" and "LSL", tables of valid types.
#[test]
fn lar_and_lsl_know_the_types_of_their_tables() {
    const SYSTEM: [(bool, bool); 16] = [
        (false, false), // reserved
        (true, true),   // available 16-bit TSS
        (true, true),   // LDT
        (true, true),   // busy 16-bit TSS
        (true, false),  // 16-bit call gate
        (true, false),  // task gate
        (false, false), // 16-bit interrupt gate
        (false, false), // 16-bit trap gate
        (false, false), // reserved
        (true, true),   // available 32-bit TSS
        (false, false), // reserved
        (true, true),   // busy 32-bit TSS
        (true, false),  // 32-bit call gate
        (false, false), // reserved
        (false, false), // 32-bit interrupt gate
        (false, false), // 32-bit trap gate
    ];
    for kind in 0..32u64 {
        let (lar, lsl) = if kind < 16 { SYSTEM[kind as usize] } else { (true, true) };
        // present or not, it may be asked about
        for present in [0, 0x80] {
            let mut cpu = ring(0);
            put(&mut cpu, FREE, descriptor(0x1234_5678, 0xa_bcde, kind | present, 0xd));
            let rights = 0x00da_0000 | (kind as u32 | present as u32) << 8;
            assert_eq!(ask(&mut cpu, 0x02, FREE), lar.then_some(rights), "LAR {kind:#x}");
            assert_eq!(ask(&mut cpu, 0x03, FREE), lsl.then_some(0xabcd_efff), "LSL {kind:#x}");
        }
    }
}

#[test]
fn lar_lsl_verr_and_verw_see_by_privilege() {
    for (cpl, rpl, dpl) in (0..64u16).map(|n| (n >> 4, n >> 2 & 3, n & 3)) {
        for (access, conforming) in [(0x92u64, false), (0x9a, false), (0x9e, true)] {
            let mut cpu = ring(cpl);
            put(&mut cpu, FREE, descriptor(0, 0xfff, access | (dpl as u64) << 5, 4));
            let seen = conforming || cpl.max(rpl) <= dpl;
            assert_eq!(ask(&mut cpu, 0x02, FREE | rpl).is_some(), seen);
            assert_eq!(ask(&mut cpu, 0x03, FREE | rpl), seen.then_some(0xfff));
            assert_eq!(run(&mut cpu, &[0x0f, 0x00, 0xe0]), Ok(())); // VERR AX
            assert_eq!(cpu.flags.zf(), seen);
            assert_eq!(run(&mut cpu, &[0x0f, 0x00, 0xe8]), Ok(())); // VERW AX
            assert_eq!(cpu.flags.zf(), seen && access == 0x92);
        }
    }
    let mut cpu = ring(0);
    for selector in [0, 3, 0x800, 7] {
        assert_eq!(ask(&mut cpu, 0x02, selector), None);
        assert_eq!(ask(&mut cpu, 0x03, selector), None);
        assert_eq!(run(&mut cpu, &[0x0f, 0x00, 0xe0]), Ok(()));
        assert!(!cpu.flags.zf());
    }
}

#[test]
fn verr_and_verw_ask_for_readable_and_writable_segments() {
    for kind in 0..32u64 {
        let mut cpu = ring(0);
        put(&mut cpu, FREE, descriptor(0, 0xfff, kind, 4));
        cpu.regs.set_dword(EAX, FREE as u32);
        let is_data = kind & 0x18 == 0x10;
        assert_eq!(run(&mut cpu, &[0x0f, 0x00, 0xe0]), Ok(()));
        assert_eq!(cpu.flags.zf(), is_data || kind & 0x1a == 0x1a, "VERR {kind:#x}");
        assert_eq!(run(&mut cpu, &[0x0f, 0x00, 0xe8]), Ok(()));
        assert_eq!(cpu.flags.zf(), is_data && kind & 2 != 0, "VERW {kind:#x}");
    }
}

#[test]
fn lar_of_16_bits_leaves_the_upper_half_alone() {
    let mut cpu = ring(0);
    cpu.regs.set_dword(EBX, 0x5555_5555);
    cpu.regs.set_dword(EAX, 8);
    assert_eq!(run(&mut cpu, &[0x66, 0x0f, 0x02, 0xd8]), Ok(()));
    assert_eq!(cpu.regs.dword(EBX), 0x5555_9b00);
}

#[test]
fn arpl_raises_the_rpl_and_never_lowers_it() {
    for (dest, source) in (0..16u32).map(|n| (n >> 2, n & 3)) {
        let mut cpu = ring(3);
        cpu.regs.set_dword(EAX, 0xffff_1230 | dest);
        cpu.regs.set_dword(ECX, 0x4560 | source);
        assert_eq!(run(&mut cpu, &[0x63, 0xc8]), Ok(()));
        assert_eq!(cpu.regs.dword(EAX), 0xffff_1230 | dest.max(source));
        assert_eq!(cpu.flags.zf(), dest < source);
    }
}

/// Hardware: AMD EPYC.
#[test]
fn arpl_writes_only_where_the_rpl_changes() {
    for (dest, expected) in [(3, Ok(())), (1, Err(GP0))] {
        let mut cpu = ring(3);
        let ds = cpu.segs[DS];
        cpu.segs[DS] = Segment::new(ds.selector, ds.base, ds.limit, ds.attributes & !2);
        cpu.regs.set_dword(EBX, 0x1_0000);
        poke::<u16>(&mut cpu, 0x1_0000, dest);
        cpu.regs.set_dword(ECX, 2);
        assert_eq!(run(&mut cpu, &[0x63, 0x0b]), expected);
    }
}

#[test]
fn ltr_takes_an_available_tss_and_makes_it_busy() {
    let mut cpu = ring(0);
    for (selector, fault) in [
        (0, GP0),
        (3, GP0),
        (TSS_SELECTOR, Fault::GeneralProtection(TSS_SELECTOR)),
        (LDT_SELECTOR, Fault::GeneralProtection(LDT_SELECTOR)),
        (OTHER_SELECTOR | 4, Fault::GeneralProtection(OTHER_SELECTOR | 4)),
        (0x800, Fault::GeneralProtection(0x800)),
        (FREE, Fault::NotPresent(FREE)),
    ] {
        put(&mut cpu, FREE, descriptor(0, 0x67, 0x09, 0));
        cpu.regs.set_dword(EAX, selector as u32);
        refuses(&mut cpu, &[0x0f, 0x00, 0xd8], fault);
    }
    cpu.regs.set_dword(EAX, OTHER_SELECTOR as u32);
    assert_eq!(run(&mut cpu, &[0x0f, 0x00, 0xd8]), Ok(()));
    assert_eq!((cpu.tr.base, cpu.tr.kind()), (OTHER_TSS, 0xb));
    assert_eq!(peek::<u8>(&cpu, GDT + OTHER_SELECTOR as u32 + 5), 0x8b);
    assert_eq!(run(&mut cpu, &[0x0f, 0x00, 0xc9]), Ok(())); // STR ECX
    assert_eq!(cpu.regs.dword(ECX), OTHER_SELECTOR as u32);
}

#[test]
fn lldt_takes_an_ldt_or_null_and_selectors_then_name_its_entries() {
    let mut cpu = ring(0);
    for (selector, fault) in [
        (TSS_SELECTOR, Fault::GeneralProtection(TSS_SELECTOR)),
        (LDT_SELECTOR | 4, Fault::GeneralProtection(LDT_SELECTOR | 4)),
        (0x800, Fault::GeneralProtection(0x800)),
        (FREE, Fault::NotPresent(FREE)),
    ] {
        put(&mut cpu, FREE, descriptor(0, 0x67, 0x02, 0));
        cpu.regs.set_dword(EAX, selector as u32);
        refuses(&mut cpu, &[0x0f, 0x00, 0xd0], fault);
    }
    cpu.regs.set_dword(EAX, LDT_SELECTOR as u32);
    assert_eq!(run(&mut cpu, &[0x0f, 0x00, 0xd0]), Ok(()));
    poke(&mut cpu, LDT + 0x18, descriptor(0x77, 0xfff, 0x92, 4));
    cpu.regs.set_dword(EAX, 0x1c);
    assert_eq!(run(&mut cpu, &mov(DS)), Ok(()));
    assert_eq!((cpu.segs[DS].base, peek::<u8>(&cpu, LDT + 0x1d)), (0x77, 0x93));
    cpu.regs.set_dword(EAX, 0);
    assert_eq!(run(&mut cpu, &[0x0f, 0x00, 0xd0]), Ok(()));
    cpu.regs.set_dword(EAX, 0x1c);
    refuses(&mut cpu, &mov(DS), Fault::GeneralProtection(0x1c));
}

#[test]
fn system_registers_ask_for_protected_mode_then_cpl_0_or_umip() {
    const ALL: [&[u8]; 9] = [
        &[0x0f, 0x00, 0xd0], // LLDT
        &[0x0f, 0x00, 0xd8], // LTR
        &[0x0f, 0x00, 0xc0], // SLDT
        &[0x0f, 0x00, 0xc8], // STR
        &[0x0f, 0x00, 0xe0], // VERR
        &[0x0f, 0x00, 0xe8], // VERW
        &[0x0f, 0x02, 0xc0], // LAR
        &[0x0f, 0x03, 0xc0], // LSL
        &[0x63, 0xc0],       // ARPL
    ];
    for bytes in ALL {
        refuses(&mut real(), bytes, UD);
        refuses(&mut vm86(3), bytes, UD);
    }
    for (n, bytes) in ALL.iter().enumerate() {
        let mut cpu = ring(3);
        if n < 2 {
            refuses(&mut cpu, bytes, GP0);
        } else {
            assert_eq!(run(&mut cpu, bytes), Ok(()));
        }
        let mut cpu = ring(3);
        cpu.cr4 |= CR4_UMIP;
        if n < 4 {
            refuses(&mut cpu, bytes, GP0);
        } else {
            assert_eq!(run(&mut cpu, bytes), Ok(()));
        }
    }
}
