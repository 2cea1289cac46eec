//! ELF32 files: plain, and by their PVH entry note (Xen's docs/misc/pvh and public/arch-x86/hvm/start_info.h).

mod common;

use common::*;
use pagewalk_loader::{Boot, Cause, Kind, Module, Request, Start, Symbol, plan};

const PHYS32_ENTRY: u32 = 18;

fn pvh(desc: &[u8]) -> ElfBuilder {
    let mut elf = elf_kernel(&[]);
    elf.segments.insert(0, xen_note(6, b"\0\0\0\0"));
    elf.segments.insert(1, xen_note(PHYS32_ENTRY, desc));
    elf
}

#[test]
fn the_pvh_note_gives_the_entry_point_and_ebx_the_start_info() {
    let modules = [Module { data: b"ramdisk", args: "arg", name: "initrd" }];
    let plan = planned_with(&pvh(&0x10_0040_u32.to_le_bytes()).build(), "root=/dev/sda", &modules);
    assert_eq!(plan.kind, Kind::Pvh);
    let (eip, eax, info) = protected(&plan);
    assert_eq!((eip, eax), (0x10_0040, 0));
    let guest = Guest(&plan);
    // magic, version, flags, nr_modules
    assert_eq!([0, 4, 8, 12].map(|at| guest.u32(info + at)), [0x336e_c578, 1, 0, 1]);
    // modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr
    let [modules, command_line, rsdp, memmap] = [16, 24, 32, 40].map(|at| guest.u64(info + at) as u32);
    assert_eq!([48, 52].map(|at| guest.u32(info + at)), [5, 0], "memmap_entries, reserved");
    assert_eq!((guest.string(command_line).as_str(), rsdp), ("root=/dev/sda", 0));
    // paddr, size, cmdline_paddr, reserved
    let [start, size, args, reserved] = [0, 8, 16, 24].map(|at| guest.u64(modules + at) as u32);
    assert_eq!((guest.bytes(start, size as usize), start % 4096), (b"ramdisk".to_vec(), 0));
    assert_eq!((guest.string(args).as_str(), reserved), ("arg", 0));
    let map: Vec<u8> = [(0_u64, 0x9_fc00_u64, 1_u64), (0x9_fc00, 0x400, 2)]
        .iter()
        .flat_map(|&(base, len, kind)| [base, len, kind].map(u64::to_le_bytes).concat())
        .collect();
    assert_eq!(guest.bytes(memmap, 48), map);
    assert_sound(&plan, &pc());
}

#[test]
fn a_pvh_note_of_8_bytes_is_read_and_other_sizes_are_refused() {
    assert_eq!(protected(&planned(&pvh(&0x10_0040_u64.to_le_bytes()).build())).0, 0x10_0040);
    // The note is in the second segment, behind 5 program headers and the first note.
    let refusal = refused(&pvh(&[1, 2]).build());
    assert!(refusal.found.contains("a PVH entry note with 2 bytes of [01, 02]"), "{refusal}");
    assert!(refused(&pvh(&[0xff; 8]).build()).found.contains("with 8 bytes"));
    assert!(refused(&pvh(&0x9_0000_u32.to_le_bytes()).build()).found.contains("PVH entry point 0x90000"));
}

#[test]
fn a_note_of_another_vendor_is_no_pvh_entry() {
    let mut elf = pvh(&0x10_0040_u32.to_le_bytes());
    elf.segments[1].data[12..16].copy_from_slice(b"GNU\0");
    let image = elf.build();
    assert_eq!(planned(&image).kind, Kind::Elf);
    assert!(refused_as(&image, Boot::Pvh).found.contains("without a PVH entry note"));
}

#[test]
fn a_note_that_claims_to_be_endless_ends_the_search() {
    let mut elf = pvh(&0x10_0040_u32.to_le_bytes());
    elf.segments[0].data[..8].fill(0xff);
    elf.segments[1].data[..4].fill(0xff);
    assert_eq!(planned(&elf.build()).kind, Kind::Elf);
}

#[test]
fn a_plain_elf_is_entered_at_its_entry_point_with_a_stack_at_the_top_of_ram() {
    let plan = planned(&elf_kernel(&[]).build());
    assert_eq!(plan.kind, Kind::Elf);
    assert_eq!(plan.places.len(), 1);
    let expected = Start::Protected {
        eip: 0x10_0080,
        eax: 0,
        ebx: 0,
        ecx: 0,
        edx: 0,
        esi: 0,
        edi: 0,
        ebp: 0,
        esp: 0x100_0000,
    };
    assert_eq!(plan.start, expected);
    assert_sound(&plan, &pc());
}

#[test]
fn the_stack_of_a_plain_elf_keeps_clear_of_it() {
    let mut elf = elf_kernel(&[]);
    elf.segments.push(load(0xff_f000, b"top", 0x1000));
    assert!(matches!(planned(&elf.build()).start, Start::Protected { esp: 0xff_f000, .. }));
}

#[test]
fn a_multiboot_kernel_can_be_forced_to_start_as_plain_elf() {
    let image = elf_kernel(&header1(0, &[])).build();
    let plan = plan(&Request { boot: Boot::Elf, ..request(&image) }).unwrap();
    assert_eq!((plan.kind, protected(&plan).1), (Kind::Elf, 0));
}

#[test]
fn a_plain_elf_takes_neither_command_line_nor_modules() {
    let image = elf_kernel(&[]).build();
    let refusal = plan(&Request { command_line: "x", ..request(&image) }).unwrap_err();
    assert_eq!(refusal.cause, Cause::Request);
    assert!(refusal.found.contains("a command line given to a plain ELF32 file"), "{refusal}");
    let modules = [Module { data: &[], args: "", name: "m" }];
    assert!(
        plan(&Request { modules: &modules, ..request(&image) }).unwrap_err().found.contains("modules given")
    );
}

#[test]
fn segments_go_to_their_physical_addresses_and_bss_is_zeros() {
    let mut elf = elf_kernel(&[]);
    elf.segments.push(load(0x20_0000, &[], 0x5000));
    elf.segments.push(load(0x30_0000, &[], 0));
    let plan = planned(&elf.build());
    assert_eq!(plan.places.len(), 2, "an empty segment occupies nothing");
    let bss = &plan.places[1];
    assert_eq!((bss.at, bss.data.len(), bss.zero_fill), (0x20_0000, 0, 0x5000));
    assert_eq!(bss.what, "segment 2 of kernel");
}

#[test]
fn headers_that_are_not_elf32_for_the_80386_are_refused_at_the_byte() {
    let good = elf_kernel(&[]).build();
    for (at, value, found, offset) in [
        (4, 2, "a 64-bit file", 4),
        (4, 3, "ELF class 3", 4),
        (5, 2, "data encoding 2, which is not little-endian", 5),
        (6, 0, "ELF version 0", 6),
        (0x10, 1, "not linked yet (ET_REL)", 0x10),
        (0x10, 3, "position-independent", 0x10),
        (0x10, 4, "ELF type 4", 0x10),
        (0x12, 40, "machine 40, ARM", 0x12),
        (0x12, 62, "machine 62, X86_64", 0x12),
        (0x12, 250, "machine 250", 0x12),
        (0x2a, 56, "program headers of 56 bytes", 0x2a),
        (0x2c, 0, "0 as the number of program headers", 0x2c),
        (0x1d, 0xff, "1 program headers from offset 0xff34 in a file of", 0x1c),
    ] {
        let mut image = good.clone();
        image[at] = value;
        assert_refused(&refused(&image), found, offset);
    }
    let mut image = good.clone();
    set_u16(&mut image, 0x2c, 0xffff);
    assert_refused(&refused(&image), "65535 as the number", 0x2c);
    assert_refused(&refused(&good[..40]), "cut off after 40 of 52 bytes", 40);
    assert_refused(&refused_as(b"\x7fELG", Boot::Elf), "no ELF magic", 0);
}

#[test]
fn segments_that_cannot_be_loaded_are_refused_at_their_program_header() {
    let with = |segment: Segment| {
        let mut elf = elf_kernel(&[]);
        elf.segments.push(segment);
        refused(&elf.build())
    };
    let second = PHOFF as u64 + 32;
    assert_refused(
        &with(load(0x20_0000, &[1; 16], 15)),
        "0x10 bytes in the file and only 0xf in memory",
        second,
    );
    assert_refused(
        &with(load(0xffff_fff0, &[1; 16], 17)),
        "0x11 bytes at physical 0xfffffff0, which passes 4 GiB",
        second,
    );
    assert_refused(&with(load(0x10_17ff, &[1], 1)), "over segment 1 of kernel at 0x100000..0x101800", second);
    assert_refused(&with(load(0xb_8000, &[1], 1)), "goes to 0xb8000..0xb8001, which is not all RAM", second);
    assert_refused(&with(load(0xff_ffff, &[1], 2)), "which is not all RAM", second);
    assert_refused(
        &with(Segment { kind: PT_INTERP, ..load(0, b"/lib/ld.so", 11) }),
        "dynamically linked",
        second,
    );
    let mut cut = elf_kernel(&[]).build();
    let len = cut.len();
    cut.pop();
    let found = format!("a segment of 0x100 bytes from offset 0x60 in a file of {:#x} bytes", len - 1);
    assert_refused(&refused(&cut), &found, PHOFF as u64);
}

#[test]
fn a_file_with_nothing_to_load_is_refused() {
    let elf = ElfBuilder { segments: vec![load(0x10_0000, &[], 0)], ..elf_kernel(&[]) };
    assert_refused(
        &refused(&elf.build()),
        "none of the 1 program headers is a PT_LOAD with memory",
        PHOFF as u64,
    );
}

#[test]
fn an_entry_point_outside_every_segment_is_refused() {
    let elf = ElfBuilder { entry: 0x10_1800, ..elf_kernel(&[]) };
    assert_refused(&refused(&elf.build()), "the entry point 0x101800 is in no segment", 0x18);
}

#[test]
fn symbols_are_sorted_by_address_and_only_those_that_name_places() {
    const ABS: u16 = 0xfff1;
    let symbols = vec![
        ("zeta", 0x10_0090, 4, 0x12, 1),
        ("alpha", 0x10_0090, 4, 0x11, 1),
        ("start", 0x10_0080, 0x10, 0x10, 1),
        ("", 0x10_0081, 0, 0, 1),
        (".text", 0x10_0000, 0, 3, 1),
        ("boot.c", 0, 0, 4, ABS),
        ("undefined", 0, 0, 0x10, 0),
        ("KERNEL_BASE", 0xc000_0000, 0, 0x10, ABS),
        ("_end", 0x10_1800, 0, 0x10, ABS),
    ];
    let plan = planned(&ElfBuilder { symbols: Some(symbols), ..elf_kernel(&[]) }.build());
    let symbol = |name: &str, value, size| Symbol { name: name.to_owned(), value, size };
    let expected = [
        symbol("start", 0x10_0080, 0x10),
        symbol("alpha", 0x10_0090, 4),
        symbol("zeta", 0x10_0090, 4),
        symbol("_end", 0x10_1800, 0),
    ];
    assert_eq!(plan.symbols, expected);
}

#[test]
fn a_symbol_table_that_is_cut_off_costs_the_names_only() {
    let mut file =
        ElfBuilder { symbols: Some(vec![("start", 0x10_0080, 0, 2, 1)]), ..elf_kernel(&[]) }.build();
    let shoff = u32::from_le_bytes(file[0x20..0x24].try_into().unwrap()) as usize;
    set_u32(&mut file, shoff + 40 * 2 + 20, 0x10_0000);
    let plan = planned(&file);
    assert!(plan.symbols.is_empty() && plan.notes[0].contains("symbol table is cut off"), "{:?}", plan.notes);
}
