//! Multiboot 2, against the Multiboot2 Specification 2.0: header tags, machine state, boot information.

mod common;

use common::*;
use pagewalk_loader::{Boot, Cause, Kind, MemoryMap, Module, Plan, Request, plan};

const MAGIC_IN_EAX: u32 = 0x36d7_6289;
const OPTIONAL: u16 = 1;

/// The information's tags as (type, contents), after checking sizes, alignment and end.
fn tags(plan: &Plan) -> Vec<(u32, Vec<u8>)> {
    let (_, _, info) = protected(plan);
    let guest = Guest(plan);
    let total = guest.u32(info);
    assert_eq!((info % 8, total % 8, guest.u32(info + 4)), (0, 0, 0));
    let (mut at, mut tags) = (8, Vec::new());
    while at < total {
        let (kind, size) = (guest.u32(info + at), guest.u32(info + at + 4));
        tags.push((kind, guest.bytes(info + at + 8, size as usize - 8)));
        at += size.next_multiple_of(8);
    }
    assert_eq!(at, total);
    assert_eq!(tags.pop(), Some((0, vec![])), "the last tag is the end tag");
    tags
}

fn types(plan: &Plan) -> Vec<u32> {
    tags(plan).into_iter().map(|(kind, _)| kind).collect()
}

#[test]
fn an_elf_kernel_is_loaded_and_entered_with_the_specified_registers() {
    let plan = planned(&elf_kernel(&header2(&[])).build());
    assert_eq!(plan.kind, Kind::Multiboot2);
    assert_eq!(plan.places[0].at, 0x10_0000);
    assert_eq!(protected(&plan), (0x10_0080, MAGIC_IN_EAX, 0x10_2000));
    assert_sound(&plan, &pc());
}

#[test]
fn the_information_has_a_tag_for_everything_that_is_known() {
    let modules = [
        Module { data: b"first", args: "", name: "mod1" },
        Module { data: b"second", args: "-v root=hd0", name: "mod2" },
    ];
    let file = ElfBuilder { symbols: Some(vec![]), ..elf_kernel(&header2(&[])) }.build();
    let plan = planned_with(&file, "console=com0", &modules);
    let guest = Guest(&plan);
    let tags = tags(&plan);
    assert_eq!(types(&plan), [1, 2, 3, 3, 4, 6, 9]);
    assert_eq!(tags[0].1, b"console=com0\0", "the command line alone, as GRUB passes it");
    assert_eq!(tags[1].1, b"pagewalk\0");
    for (tag, data, string) in
        [(&tags[2], &b"first"[..], &b"\0"[..]), (&tags[3], b"second", b"-v root=hd0\0")]
    {
        let word = |at: usize| u32::from_le_bytes(tag.1[at..at + 4].try_into().unwrap());
        assert_eq!(guest.bytes(word(0), (word(4) - word(0)) as usize), data);
        assert_eq!((word(0) % 4096, &tag.1[8..]), (0, string));
    }
    assert_eq!(tags[4].1, words(&[639, 15 * 1024]));
    let map = words(&[
        24,
        0, //
        0,
        0,
        0x9_fc00,
        0,
        1,
        0, //
        0x9_fc00,
        0,
        0x400,
        0,
        2,
        0, //
        0xf_0000,
        0,
        0x1_0000,
        0,
        2,
        0, //
        0x10_0000,
        0,
        0xf0_0000,
        0,
        1,
        0, //
        0xfffc_0000,
        0,
        0x4_0000,
        0,
        2,
        0,
    ]);
    assert_eq!(tags[5].1, map);
    let sections = &tags[6].1;
    assert_eq!(sections[..12], words(&[SECTIONS, 40, 4]), "num, entsize, shndx");
    assert_eq!(sections.len(), 12 + 40 * SECTIONS as usize);
    let symtab_addr = u32::from_le_bytes(sections[12 + 80 + 12..][..4].try_into().unwrap());
    assert_eq!(
        guest.bytes(symtab_addr, 16),
        [0; 16],
        "the symbol table is loaded, beginning with its null symbol"
    );
    assert_sound(&plan, &pc());
}

#[test]
fn the_address_and_entry_tags_place_a_flat_image() {
    let tags: &[(u16, u16, &[u32])] =
        &[(2, 0, &[0x20_0000, 0x20_0000, 0x20_0080, 0x20_1000]), (3, 0, &[0x20_0070])];
    let mut file = vec![0xcc; 0x40];
    file.extend(header2(tags));
    file.resize(0x200, 0x90);
    let plan = planned(&file);
    let image = &plan.places[0];
    assert_eq!((image.at, image.data.len(), image.zero_fill), (0x20_0000, 0x80, 0xf80));
    assert_eq!(image.data[..4], 0xe852_50d6_u32.to_le_bytes());
    assert_eq!(protected(&plan), (0x20_0070, MAGIC_IN_EAX, 0x20_1000));
    assert_eq!(types(&plan), [1, 2, 4, 6]);
}

#[test]
fn a_load_address_of_minus_one_loads_the_file_from_its_beginning() {
    let mut file = vec![0xcc; 0x40];
    file.extend(header2(&[(2, 0, &[0x20_0040, u32::MAX, 0, 0]), (3, 0, &[0x20_0000])]));
    let plan = planned(&file);
    assert_eq!((plan.places[0].at, &plan.places[0].data), (0x20_0000, &file));
}

#[test]
fn the_entry_tag_wins_over_elfs_entry_point_and_is_physical() {
    let mut elf = elf_kernel(&header2(&[(3, 0, &[0x10_0040])]));
    elf.segments[0].vaddr = 0xc010_0000;
    elf.entry = 0xc010_0080;
    assert_eq!(protected(&planned(&elf.build())).0, 0x10_0040);
    let bad = elf_kernel(&header2(&[(3, 0, &[0xc010_0040])])).build();
    assert_refused(
        &refused(&bad),
        "an entry address tag with 0xc0100040, where nothing is loaded",
        0x60 + 16,
    );
}

#[test]
fn an_address_tag_needs_an_entry_tag_and_a_flat_file_an_address_tag() {
    let file = header2(&[(2, 0, &[0x20_0000, 0x20_0000, 0, 0])]);
    assert_refused(&refused(&file), "an address tag without an entry address tag", 0);
    assert_refused(&refused(&header2(&[])), "without an address tag in a file that is not ELF", 0);
}

fn relocatable(min: u32, max: u32, align: u32, preference: u32) -> Vec<u8> {
    elf_kernel(&header2(&[(10, 0, &[min, max, align, preference])])).build()
}

fn base_of(image: &[u8]) -> u32 {
    let plan = planned(image);
    assert_sound(&plan, &pc());
    let base = tags(&plan).into_iter().find(|(kind, _)| *kind == 21).expect("a load base tag").1;
    let base = u32::from_le_bytes(base.try_into().unwrap());
    assert_eq!(u64::from(base), plan.places[0].at);
    assert_eq!(protected(&plan).0, base + 0x80, "the entry point moves along");
    base
}

#[test]
fn a_relocatable_image_goes_where_its_preference_says() {
    const NONE: u32 = 0;
    const LOWEST: u32 = 1;
    const HIGHEST: u32 = 2;
    assert_eq!(base_of(&relocatable(0, u32::MAX, 0x1000, NONE)), 0x10_0000, "stays where it was linked");
    assert_eq!(base_of(&relocatable(0x20_0000, u32::MAX, 0x1000, NONE)), 0x20_0000, "may not stay");
    assert_eq!(base_of(&relocatable(0, u32::MAX, 0x20_0000, NONE)), 0x20_0000, "is misaligned");
    assert_eq!(base_of(&relocatable(0x30_0001, u32::MAX, 0x1_0000, LOWEST)), 0x31_0000);
    assert_eq!(base_of(&relocatable(0, u32::MAX, 0x1000, LOWEST)), 0x1000);
    assert_eq!(base_of(&relocatable(0, 0x80_0000, 0x1000, HIGHEST)), 0x80_0000 - 0x2000);
    assert_eq!(base_of(&relocatable(0, u32::MAX, 0x1000, HIGHEST)), 0x100_0000 - 0x2000);
    assert_eq!(base_of(&relocatable(0x10_0000, u32::MAX, 0, LOWEST)), 0x10_0000, "alignment 0 is none");
}

#[test]
fn a_relocatable_image_without_a_place_is_refused() {
    let refusal = refused(&relocatable(0xa_0000, 0x10_0000, 0x1000, 1));
    assert_refused(
        &refusal,
        "a relocatable image of 0x1800 bytes for 0xa0000..0x100000, aligned to 0x1000",
        0x70,
    );
    assert_eq!(refusal.cause, Cause::Memory);
    assert!(refused(&relocatable(0x20_0000, 0x10_0000, 1, 2)).found.contains("for 0x200000..0x100000"));
    assert_refused(&refused(&relocatable(0, 0, 0, 3)), "preference 3", 0x70);
}

#[test]
fn symbols_and_segments_keep_their_distances_when_moved() {
    let mut elf = elf_kernel(&header2(&[(10, 0, &[0x40_0000, u32::MAX, 0x1000, 1])]));
    elf.segments.push(load(0x10_3000, b"data", 4));
    elf.symbols = Some(vec![("start", 0x10_0080, 0, 2, 1)]);
    let mut file = elf.build();
    set_u16(&mut file, 0x10, 3); // ET_DYN
    let plan = planned(&file);
    assert_eq!((plan.places[0].at, plan.places[1].at), (0x40_0000, 0x40_3000));
    assert_eq!(plan.symbols[0].value, 0x40_0080);
    assert!(plan.notes.iter().any(|note| note.contains("was moved to 0x400000")), "{:?}", plan.notes);
}

#[test]
fn a_position_independent_file_needs_the_relocatable_tag() {
    let mut file = elf_kernel(&header2(&[])).build();
    set_u16(&mut file, 0x10, 3);
    assert_refused(&refused(&file), "position-independent", 0x10);
}

#[test]
fn required_tags_that_are_unknown_are_refused_and_optional_ones_noted() {
    assert_refused(&refused(&elf_kernel(&header2(&[(11, 0, &[])])).build()), "unknown type 11", 0x70);
    let plan = planned(&elf_kernel(&header2(&[(11, OPTIONAL, &[])])).build());
    assert!(plan.notes[0].contains("unknown type 11 was passed over"), "{:?}", plan.notes);
}

#[test]
fn requests_are_granted_if_known_noted_if_absent_and_refused_if_unknown() {
    let request = |flags, types: &[u32]| elf_kernel(&header2(&[(1, flags, types)])).build();
    assert!(planned(&request(0, &[1, 2, 3, 4, 6, 9, 21])).notes.is_empty());
    let plan = planned(&request(0, &[8, 4, 14, 8]));
    assert!(plan.notes[0].contains("types [8, 14]"), "{:?}", plan.notes);
    assert_refused(&refused(&request(0, &[6, 22])), "information of unknown type 22", 0x70 + 12);
    assert_eq!(planned(&request(OPTIONAL, &[6, 22])).kind, Kind::Multiboot2);
}

#[test]
fn known_tags_without_effect_here_are_accepted() {
    // Console (EGA text supported), framebuffer, module alignment, EFI boot services and entry points.
    let tags: &[(u16, u16, &[u32])] =
        &[(4, 0, &[3]), (5, 0, &[80, 25, 0]), (6, 0, &[]), (7, 0, &[]), (8, 0, &[1]), (9, 0, &[1])];
    let plan = planned(&elf_kernel(&header2(tags)).build());
    assert_eq!(plan.notes.len(), 1);
    assert!(plan.notes[0].contains("framebuffer"));
    let refusal = refused(&elf_kernel(&header2(&[(4, 0, &[1])])).build());
    assert_refused(&refusal, "a console is required, but not EGA text", 0x70);
}

#[test]
fn damaged_headers_are_refused_at_their_offset() {
    // The header is at the first segment's start, 0x60 in the file.
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut header = header2(&[(6, 0, &[])]);
        change(&mut header);
        let fixed = [0, 4, 8].map(|at| u32::from_le_bytes(header[at..at + 4].try_into().unwrap()));
        let sum = fixed.iter().fold(0_u32, |sum, word| sum.wrapping_add(*word));
        set_u32(&mut header, 12, 0_u32.wrapping_sub(sum));
        refused(&elf_kernel(&header).build())
    };
    assert_refused(&damaged(&|h| set_u32(h, 4, 4)), "for architecture 4", 0x64);
    assert_refused(&damaged(&|h| set_u32(h, 8, 0x10)), "header of 0x10 bytes", 0x68);
    assert_refused(&damaged(&|h| set_u32(h, 8, 0x8000)), "header of 0x8000 bytes", 0x68);
    assert_refused(&damaged(&|h| set_u32(h, 8, 0x18)), "without an end tag", 0x78);
    assert_refused(&damaged(&|h| set_u32(h, 20, 7)), "type 6 with size 0x7", 0x70);
    assert_refused(&damaged(&|h| set_u32(h, 20, 0x100)), "type 6 with size 0x100", 0x70);
    assert_refused(&damaged(&|h| set_u16(h, 16, 2)), "tag of type 2 with 8 bytes", 0x70);
}

#[test]
fn the_header_may_lie_anywhere_in_the_first_32768_bytes_on_an_8_byte_boundary() {
    let header = |at: u32| {
        let addr = 0x20_0000;
        let mut file = vec![0; at as usize];
        file.extend(header2(&[(2, 0, &[addr, addr, 0, 0]), (3, 0, &[addr])]));
        file
    };
    let len = header(0).len() as u32;
    assert_eq!(planned(&header(32768 - len)).kind, Kind::Multiboot2);
    assert_eq!(refused(&header(4)).cause, Cause::NotRecognised);
    let start = 32768 - len + 8;
    let found = format!("a Multiboot 2 header of {len:#x} bytes at {start:#x}");
    assert_refused(&refused(&header(start)), &found, u64::from(start) + 8);
    assert_eq!(refused(&header(32768)).cause, Cause::NotRecognised);
}

#[test]
fn an_image_with_both_headers_is_started_by_multiboot_1_unless_told_otherwise() {
    let mut both = header2(&[]);
    both.extend(header1(0, &[]));
    let image = elf_kernel(&both).build();
    assert_eq!(planned(&image).kind, Kind::Multiboot1);
    let forced = plan(&Request { boot: Boot::Multiboot2, ..request(&image) }).unwrap();
    assert_eq!((forced.kind, protected(&forced).1), (Kind::Multiboot2, MAGIC_IN_EAX));
    assert!(
        refused_as(&elf_kernel(&header1(0, &[])).build(), Boot::Multiboot2)
            .found
            .contains("no Multiboot 2 header")
    );
}

#[test]
fn a_machine_without_ram_refuses_everything() {
    let image = elf_kernel(&header2(&[])).build();
    let refusal = plan(&Request { memory: MemoryMap::default(), ..request(&image) }).unwrap_err();
    assert!(refusal.accepted.contains("no RAM"), "{refusal}");
}
