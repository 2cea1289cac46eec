//! Multiboot 1, against the Multiboot Specification 0.6.96: header, machine state, boot information.

mod common;

use common::*;
use pagewalk_loader::{Boot, Cause, Kind, Module, Request, Start, plan};

const MAGIC_IN_EAX: u32 = 0x2bad_b002;

#[test]
fn an_elf_kernel_is_loaded_and_entered_with_the_specified_registers() {
    let plan = planned(&elf_kernel(&header1(3, &[])).build());
    assert_eq!(plan.kind, Kind::Multiboot1);
    let kernel = &plan.places[0];
    assert_eq!((kernel.at, kernel.data.len(), kernel.zero_fill), (0x10_0000, 0x100, 0x1700));
    assert_eq!(kernel.what, "segment 1 of kernel");
    let (eip, eax, ebx) = protected(&plan);
    assert_eq!((eip, eax), (0x10_0080, MAGIC_IN_EAX));
    assert_eq!(ebx, 0x10_2000, "the information is on the first page above the kernel");
    assert!(matches!(plan.start, Start::Protected { esp: 0, .. }), "the stack is the kernel's own business");
    assert_sound(&plan, &pc());
}

#[test]
fn the_boot_information_has_every_field_at_its_specified_offset() {
    let modules = [
        Module { data: b"first module", args: "", name: "mod1" },
        Module { data: &[7; 0x1001], args: "-v root=hd0", name: "mod2" },
    ];
    let plan = planned_with(&elf_kernel(&header1(0, &[])).build(), "console=com0", &modules);
    let (_, _, info) = protected(&plan);
    let guest = Guest(&plan);
    let field = |offset| guest.u32(info + offset);

    // Bits: 0 memory, 2 command line, 3 modules, 6 memory map, 9 loader name; no boot device (1), no symbols (4, 5).
    assert_eq!(field(0), 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9);
    assert_eq!((field(4), field(8)), (639, 15 * 1024), "mem_lower, mem_upper in KiB");
    assert_eq!(guest.string(field(16)), "kernel console=com0");
    assert_eq!(field(20), 2, "mods_count");
    let module = |index: u32, word: u32| guest.u32(field(24) + 16 * index + 4 * word);
    for (index, (data, string)) in
        [(&b"first module"[..], "mod1"), (&[7; 0x1001], "mod2 -v root=hd0")].into_iter().enumerate()
    {
        let [start, end, text, reserved] = [0, 1, 2, 3].map(|word| module(index as u32, word));
        assert_eq!(start % 4096, 0, "modules are page-aligned");
        assert_eq!(guest.bytes(start, (end - start) as usize), data);
        assert_eq!((guest.string(text).as_str(), reserved), (string, 0));
    }

    let map = guest.bytes(field(48), field(44) as usize);
    let mut expected = Vec::new();
    for (base, len, kind) in [
        (0_u64, 0x9_fc00_u64, 1_u32),
        (0x9_fc00, 0x400, 2),
        (0xf_0000, 0x1_0000, 2),
        (0x10_0000, 0xf0_0000, 1),
        (0xfffc_0000, 0x4_0000, 2),
    ] {
        expected.extend(20_u32.to_le_bytes());
        expected.extend(base.to_le_bytes());
        expected.extend(len.to_le_bytes());
        expected.extend(kind.to_le_bytes());
    }
    assert_eq!(map, expected);
    assert_eq!(guest.string(field(64)), "pagewalk");
    for absent in [12, 28, 32, 36, 40, 52, 56, 60, 68, 72, 76, 80, 84, 88, 92, 96, 100, 104, 108, 112] {
        assert_eq!(field(absent), 0, "field at {absent}");
    }
    assert_sound(&plan, &pc());
}

#[test]
fn without_modules_the_count_is_zero_and_the_flag_still_set() {
    let plan = planned(&elf_kernel(&header1(0, &[])).build());
    let (_, _, info) = protected(&plan);
    let guest = Guest(&plan);
    assert_eq!((guest.u32(info) & 1 << 3, guest.u32(info + 20), guest.u32(info + 24)), (8, 0, 0));
    assert_eq!(guest.string(guest.u32(info + 16)), "kernel");
}

#[test]
fn section_headers_are_handed_over_with_the_symbol_tables_loaded() {
    let symbols = vec![("start", 0x10_0080, 0x10, 2, 1), ("table", 0x10_0090, 4, 1, 1)];
    let file = ElfBuilder { symbols: Some(symbols), ..elf_kernel(&header1(0, &[])) }.build();
    let plan = planned(&file);
    let (_, _, info) = protected(&plan);
    let guest = Guest(&plan);
    assert_eq!(guest.u32(info) & (1 << 4 | 1 << 5), 1 << 5);
    let [count, size, table, names] = [28, 32, 36, 40].map(|offset| guest.u32(info + offset));
    assert_eq!((count, size, names), (SECTIONS, 40, 4));

    let shoff = u32::from_le_bytes(file[0x20..0x24].try_into().unwrap()) as usize;
    for section in 0..count {
        let in_file = &file[shoff + 40 * section as usize..][..40];
        let in_guest = guest.bytes(table + 40 * section, 40);
        assert_eq!(in_guest[..12], in_file[..12]);
        assert_eq!(in_guest[16..], in_file[16..], "only sh_addr may differ");
        let (addr, offset, len) = (12, 16, 20);
        let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        if section < 2 {
            assert_eq!(word(&in_guest, addr), word(in_file, addr));
        } else {
            let (offset, len) = (word(in_file, offset) as usize, word(in_file, len) as usize);
            assert_eq!(guest.bytes(word(&in_guest, addr), len), file[offset..offset + len]);
        }
    }
    assert_sound(&plan, &pc());
}

#[test]
fn a_kernel_linked_high_is_entered_at_its_physical_address() {
    let mut elf = elf_kernel(&header1(0, &[]));
    elf.segments[0].vaddr = 0xc010_0000;
    elf.entry = 0xc010_0080;
    let plan = planned(&elf.build());
    assert_eq!(protected(&plan).0, 0x10_0080);
    assert!(
        plan.notes[0].contains("0xc0100080 is virtual; it lies at physical 0x100080"),
        "{:?}",
        plan.notes
    );
    elf.entry = 0x10_0080;
    let plan = planned(&elf.build());
    assert_eq!(protected(&plan).0, 0x10_0080);
    assert!(plan.notes[0].contains("taken as physical"), "{:?}", plan.notes);
}

/// Flat image: 0x40 bytes of something else, the header at 0x50 in the file, and 0x100 bytes in all.
fn flat(fields: [u32; 5]) -> Vec<u8> {
    let mut file = vec![0xcc; 0x50];
    file.extend(header1(1 << 16, &fields));
    file.resize(0x100, 0x90);
    file
}

#[test]
fn the_address_fields_place_a_flat_image() {
    let plan = planned(&flat([0x20_0010, 0x20_0000, 0x20_0080, 0x20_2000, 0x20_0060]));
    let image = &plan.places[0];
    assert_eq!((image.at, image.data.len(), image.zero_fill), (0x20_0000, 0x80, 0x1f80));
    assert_eq!(image.data[0x10..0x14], 0x1bad_b002_u32.to_le_bytes());
    assert_eq!(protected(&plan), (0x20_0060, MAGIC_IN_EAX, 0x20_2000));
    let whole = planned(&flat([0x20_0010, 0x20_0000, 0, 0, 0x20_0060]));
    assert_eq!((whole.places[0].data.len(), whole.places[0].zero_fill), (0xc0, 0));
}

#[test]
fn the_address_fields_win_over_elf() {
    let header = header1(1 << 16, &[0x20_0000, 0x20_0000, 0x20_0080, 0, 0x20_0060]);
    let plan = planned(&elf_kernel(&header).build());
    assert_eq!(plan.places[0].at, 0x20_0000);
    assert_eq!(Guest(&plan).u32(protected(&plan).2) & 1 << 5, 0, "and there are no section headers");
}

#[test]
fn the_address_fields_load_a_64_bit_elf_too() {
    let header = header1(1 << 16, &[0x20_0000, 0x20_0000, 0x20_0080, 0, 0x20_0060]);
    let mut file = elf_kernel(&header).build();
    file[4] = 2;
    set_u16(&mut file, 0x12, 62);
    assert_eq!(planned(&file).kind, Kind::Multiboot1);
    let mut file = elf_kernel(&header1(0, &[])).build();
    file[4] = 2;
    set_u16(&mut file, 0x12, 62);
    assert_refused(&refused(&file), "a 64-bit file (ELFCLASS64, machine 62, X86_64)", 4);
}

#[test]
fn a_bad_flat_image_is_refused_at_the_field() {
    for (fields, found, offset) in [
        ([0x1f_ffff, 0x20_0000, 0, 0, 0x20_0060], "load_addr 0x200000 is above header_addr 0x1fffff", 0x5c),
        (
            [0x20_0051, 0x20_0000, 0, 0, 0x20_0060],
            "0x51 bytes before the header, which is at offset 0x50",
            0x5c,
        ),
        (
            [0x20_0010, 0x20_0000, 0x20_00c1, 0, 0x20_0060],
            "0xc1 bytes are to be loaded from offset 0x40",
            0x5c,
        ),
        ([0x20_0010, 0x20_0000, 0x20_0080, 0x20_007f, 0x20_0060], "bss_end_addr 0x20007f is below", 0x5c),
        ([0x20_0010, 0x20_0000, 0x20_0080, 0, 0x20_0080], "entry_addr 0x200080 outside", 0x6c),
        ([0x20_0010, 0x20_0000, 0x20_0000, 0, 0x20_0000], "entry_addr 0x200000 outside", 0x6c),
    ] {
        assert_refused(&refused(&flat(fields)), found, offset);
    }
    let refusal = refused(&flat([0xb_8010, 0xb_8000, 0, 0, 0xb_8060]));
    assert!(refusal.found.contains("which is not all RAM") && refusal.cause == Cause::Memory, "{refusal}");
}

#[test]
fn address_fields_beyond_8192_bytes_are_cut_off() {
    let mut file = vec![0; 8192 - 16];
    file.extend(header1(1 << 16, &[0x20_0000, 0x20_0000, 0, 0, 0x20_0000]));
    assert_refused(&refused(&file), "whose address fields are cut off", 8192 - 16);
}

#[test]
fn unknown_required_flags_are_refused_and_unknown_optional_ones_are_not() {
    let refusal = refused(&elf_kernel(&header1(1 << 3 | 1 << 15, &[])).build());
    assert_eq!(refusal.cause, Cause::Unsupported);
    assert!(refusal.found.contains("require the unknown bits 0x8008"), "{refusal}");
    assert_eq!(planned(&elf_kernel(&header1(1 << 17 | 1 << 31, &[])).build()).kind, Kind::Multiboot1);
}

#[test]
fn a_wish_for_a_video_mode_is_noted() {
    let plan = planned(&elf_kernel(&header1(1 << 2, &[0; 9])).build());
    assert!(plan.notes[0].contains("video mode"), "{:?}", plan.notes);
    assert_eq!(Guest(&plan).u32(protected(&plan).2) & (1 << 11 | 1 << 12), 0);
}

#[test]
fn the_header_may_lie_anywhere_in_the_first_8192_bytes_on_a_4_byte_boundary() {
    let at = |gap: usize| {
        let mut file = vec![0; gap];
        let addr = 0x20_0000;
        file.extend(header1(1 << 16, &[addr, addr, 0, 0, addr]));
        file
    };
    assert_eq!(planned(&at(8192 - 32)).kind, Kind::Multiboot1);
    assert_eq!(planned(&at(4)).kind, Kind::Multiboot1);
    assert_eq!(refused(&at(2)).cause, Cause::NotRecognised);
    assert_eq!(refused(&at(8192)).cause, Cause::NotRecognised);
}

#[test]
fn a_wrong_checksum_is_named_when_nothing_else_is_found() {
    let mut file = vec![0; 8];
    file.extend(words(&[0x1bad_b002, 3, 5]));
    assert!(refused(&file).found.contains("checksum is wrong (the sum is 0x1badb00a, not 0)"));
    assert_refused(&refused_as(&file, Boot::Multiboot1), "checksum is wrong", 8);
    assert!(refused_as(&[0; 64], Boot::Multiboot1).found.contains("no Multiboot 1 header"));
    let elf = elf_kernel(&words(&[0x1bad_b002, 3, 5])).build();
    let plan = planned(&elf);
    assert_eq!(plan.kind, Kind::Elf);
    assert!(plan.notes[0].contains("was passed over"), "{:?}", plan.notes);
}

#[test]
fn a_header_in_a_file_of_no_known_format_needs_address_fields() {
    let mut file = header1(0, &[]);
    file.resize(0x100, 0);
    assert_refused(&refused(&file), "without address fields (flags 0x0) in a file that is not ELF", 0);
}

#[test]
fn modules_that_do_not_fit_are_refused_by_name() {
    let big = vec![0; 15 << 20];
    let modules = [Module { data: &big, args: "", name: "big.img" }];
    let image = elf_kernel(&header1(0, &[])).build();
    let refusal = plan(&Request { modules: &modules, ..request(&image) }).unwrap_err();
    assert!(
        refusal.to_string().contains("kernel: no room for module 1 (big.img): 0xf00000 bytes"),
        "{refusal}"
    );
}

#[test]
fn an_empty_module_has_an_address_and_no_bytes() {
    let modules =
        [Module { data: &[], args: "", name: "none" }, Module { data: &[1], args: "", name: "one" }];
    let plan = planned_with(&elf_kernel(&header1(0, &[])).build(), "", &modules);
    let guest = Guest(&plan);
    let list = guest.u32(protected(&plan).2 + 24);
    assert_eq!(guest.u32(list), guest.u32(list + 4));
    assert_ne!(guest.u32(list), guest.u32(list + 16));
    assert_sound(&plan, &pc());
}

#[test]
fn a_nul_in_a_string_for_the_guest_is_refused() {
    let image = elf_kernel(&header1(0, &[])).build();
    let refusal = plan(&Request { command_line: "a\0b", ..request(&image) }).unwrap_err();
    assert!(refusal.found.contains("the command line has a NUL as byte 1"), "{refusal}");
    let modules = [Module { data: &[], args: "\0", name: "none" }];
    assert!(plan(&Request { modules: &modules, ..request(&image) }).is_err());
}
