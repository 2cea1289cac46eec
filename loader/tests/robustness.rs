//! No bytes make the loader panic, hang or break what it promises about a plan.

mod common;

use common::*;
use pagewalk_loader::{Boot, MemoryKind, MemoryMap, MemoryRegion, Module, RawMode, Request, firmware, plan};
use proptest::prelude::*;

const MODULE: Module = Module { data: &[1, 2, 3], args: "args", name: "module" };

fn boots() -> impl Strategy<Value = Boot> {
    let raw_modes = prop_oneof![Just(RawMode::Real), Just(RawMode::Protected)];
    prop_oneof![
        8 => Just(Boot::Auto),
        1 => Just(Boot::Multiboot1),
        1 => Just(Boot::Multiboot2),
        1 => Just(Boot::Pvh),
        1 => Just(Boot::Elf),
        1 => (any::<u32>(), raw_modes).prop_map(|(address, mode)| Boot::Raw { address, mode }),
    ]
}

/// Plans the image, and holds whatever comes out to its promises.
fn try_image(image: &[u8], boot: Boot, memory: MemoryMap) {
    let passes = !matches!(boot, Boot::Elf | Boot::Raw { .. });
    let modules = [MODULE];
    let modules = if passes && image.len().is_multiple_of(2) { &modules[..] } else { &[] };
    let request = Request { image, name: "kernel", boot, command_line: "", modules, memory };
    match plan(&request) {
        Ok(plan) => {
            assert_sound(&plan, &request.memory);
            assert_eq!(plan.roms, []);
        }
        Err(refusal) => {
            let text = refusal.to_string();
            assert!(
                text.starts_with("kernel: ") && !refusal.found.is_empty() && !refusal.accepted.is_empty()
            );
        }
    }
    if let Ok(plan) = firmware(image, "rom") {
        assert_eq!(plan.roms.len(), 2);
    }
}

/// Valid images of every kind, as starting points for damage.
fn seeds() -> Vec<Vec<u8>> {
    let symbols = vec![("start", 0x10_0080, 0x10, 2, 1), ("_end", 0x10_1800, 0, 0x10, 0xfff1)];
    let with = |elf: ElfBuilder| {
        let elf = ElfBuilder { symbols: Some(symbols.clone()), ..elf };
        elf.build()
    };
    let tags: &[(u16, u16, &[u32])] = &[
        (1, 0, &[1, 2, 3, 4, 6, 9]),
        (4, 0, &[3]),
        (5, 1, &[80, 25, 0]),
        (6, 0, &[]),
        (10, 0, &[0x10_0000, 0x100_0000, 0x1000, 1]),
        (3, 0, &[0x10_0010]),
    ];
    let mut pvh = elf_kernel(&[]);
    pvh.segments.insert(0, xen_note(18, &0x10_0040_u32.to_le_bytes()));
    let mut high = elf_kernel(&header1(3, &[]));
    high.segments[0].vaddr = 0xc010_0000;
    high.entry = 0xc010_0080;
    high.segments.push(load(0x20_0000, &[5; 64], 0x5000));
    let mut boot_sector = vec![0xf4; 512];
    boot_sector[510..].copy_from_slice(&[0x55, 0xaa]);
    let kludge = header1(1 << 16, &[0x20_0010, 0x20_0000, 0x20_0030, 0x20_1000, 0x20_0020]);
    let mut flat1 = vec![0xcc; 0x10];
    flat1.extend(kludge);
    let mut flat2 = header2(&[(2, 0, &[0x20_0000, 0x20_0000, 0x20_0030, 0x20_1000]), (3, 0, &[0x20_0020])]);
    flat2.resize(0x80, 0x90);
    vec![
        with(high),
        with(elf_kernel(&header2(tags))),
        with(pvh),
        with(elf_kernel(&[])),
        flat1,
        flat2,
        boot_sector,
    ]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One change to a file.
#[derive(Debug, Clone)]
enum Damage {
    Flip(usize, u8),
    Word(usize, u32),
    Cut(usize),
    Insert(usize, Vec<u8>),
    Swap(usize, usize),
}

impl Damage {
    fn apply(&self, image: &mut Vec<u8>) {
        let len = image.len().max(1);
        match self {
            Damage::Flip(at, bit) => {
                if let Some(byte) = image.get_mut(at % len) {
                    *byte ^= 1 << (bit & 7);
                }
            }
            Damage::Word(at, value) => {
                let at = (at % len) & !3;
                if image.len() >= at + 4 {
                    set_u32(image, at, *value);
                }
            }
            Damage::Cut(at) => image.truncate(at % len),
            Damage::Insert(at, bytes) => {
                let at = at % len;
                image.splice(at.min(image.len())..at.min(image.len()), bytes.iter().copied());
            }
            Damage::Swap(a, b) if !image.is_empty() => image.swap(a % len, b % len),
            Damage::Swap(..) => {}
        }
    }
}

fn damages() -> impl Strategy<Value = Damage> {
    // Headers are at the front, so damage there finds more.
    let place = || prop_oneof![3 => 0..0x160_usize, 1 => any::<usize>()];
    let word = prop_oneof![
        any::<u32>(),
        0..64_u32,
        Just(0xffff_ffff),
        Just(0x7fff_ffff),
        0xffff_f000_u32..,
        0xf_f000..0x10_2000_u32,
    ];
    prop_oneof![
        4 => (place(), any::<u8>()).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        6 => (place(), word).prop_map(|(at, value)| Damage::Word(at, value)),
        1 => any::<usize>().prop_map(Damage::Cut),
        1 => (place(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        1 => (place(), place()).prop_map(|(a, b)| Damage::Swap(a, b)),
    ]
}

/// Restores the checksums of Multiboot headers, so that damage gets past them.
fn mend_checksums(image: &mut [u8]) {
    for at in (0..image.len().saturating_sub(16)).step_by(4) {
        let word = |index: usize| u32::from_le_bytes(image[at + 4 * index..][..4].try_into().unwrap());
        match word(0) {
            0x1bad_b002 => {
                let checksum = 0_u32.wrapping_sub(word(0)).wrapping_sub(word(1));
                set_u32(image, at + 8, checksum);
            }
            0xe852_50d6 => {
                let checksum = 0_u32.wrapping_sub(word(0)).wrapping_sub(word(1)).wrapping_sub(word(2));
                set_u32(image, at + 12, checksum);
            }
            _ => {}
        }
    }
}

fn regions() -> impl Strategy<Value = MemoryMap> {
    let kind = prop_oneof![
        3 => Just(MemoryKind::Available),
        1 => Just(MemoryKind::Reserved),
        1 => Just(MemoryKind::AcpiNvs),
    ];
    let region = (any::<u64>(), any::<u64>(), 0..64_u32, 0..64_u32, kind);
    let region =
        region.prop_map(|(base, len, a, b, kind)| MemoryRegion { base: base >> a, len: len >> b, kind });
    prop::collection::vec(region, 0..6).prop_map(MemoryMap::new)
}

#[test]
fn the_seeds_themselves_are_accepted() {
    for seed in seeds() {
        try_image(&seed, Boot::Auto, pc());
        planned(&seed);
    }
}

#[test]
fn every_truncation_of_every_seed_is_handled() {
    for seed in seeds() {
        for len in 0..seed.len() {
            try_image(&seed[..len], Boot::Auto, pc());
        }
        let packed = gzip(&seed);
        for len in 0..packed.len() {
            try_image(&packed[..len], Boot::Auto, pc());
        }
    }
}

#[test]
fn every_single_bit_flip_in_every_header_is_handled() {
    for seed in seeds() {
        for bit in 0..8 * seed.len().min(0x200) {
            let mut image = seed.clone();
            image[bit / 8] ^= 1 << (bit % 8);
            try_image(&image, Boot::Auto, pc());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_handled(
        mut image in prop::collection::vec(any::<u8>(), 0..400),
        magic in 0..6_usize,
        boot in boots(),
    ) {
        let magics: [&[u8]; 6] = [
            b"",
            b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0\x01\0\0\0",
            b"\x1f\x8b\x08\0\0\0\0\0\0\0",
            &0x1bad_b002_u32.to_le_bytes(),
            b"\xd6\x50\x52\xe8\0\0\0\0\x40\0\0\0",
            b"\x7fELF",
        ];
        let magic = magics[magic];
        let len = magic.len().min(image.len());
        image[..len].copy_from_slice(&magic[..len]);
        mend_checksums(&mut image);
        try_image(&image, boot, pc());
    }

    #[test]
    fn damaged_images_are_handled(
        seed in 0..7_usize,
        damage in prop::collection::vec(damages(), 1..8),
        mend in any::<bool>(),
        packed in prop::bool::weighted(0.1),
        boot in boots(),
    ) {
        let mut image = seeds().swap_remove(seed);
        if packed {
            image = gzip(&image);
        }
        damage.iter().for_each(|damage| damage.apply(&mut image));
        if mend {
            mend_checksums(&mut image);
        }
        try_image(&image, boot, pc());
    }

    #[test]
    fn any_memory_map_is_handled(seed in 0..7_usize, memory in regions()) {
        try_image(&seeds().swap_remove(seed), Boot::Auto, memory);
    }
}

/// An ELF file with `count` program headers made by `header`.
fn crowded(count: u32, header: impl Fn(u32) -> [u32; 8]) -> Vec<u8> {
    let mut file = elf_kernel(&[]).build();
    let at = file.len() as u32;
    set_u32(&mut file, 0x1c, at);
    set_u16(&mut file, 0x2c, count as u16);
    file.extend((0..count).flat_map(|index| words(&header(index))));
    file
}

#[test]
fn as_many_segments_as_a_file_can_name_are_placed_or_refused_in_reasonable_time() {
    const COUNT: u32 = 0xfffe;
    // Two bytes each, every second one, from the top down: as many holes as segments.
    let segment = |index: u32| [1, 0, 0, 0x20_0000 + 4 * (COUNT - index), 2, 2, 7, 1];
    let mut file = crowded(COUNT, segment);
    set_u32(&mut file, 0x18, 0x20_0004);
    let image = planned(&file);
    assert_eq!(image.places.len(), COUNT as usize);
    assert_sound(&image, &pc());
    // All at one place.
    assert!(refused(&crowded(COUNT, |_| [1, 0, 0, 0x20_0000, 2, 2, 7, 1])).found.contains("over segment 1"));
    // Each a note segment as long as the file.
    let len = file.len() as u32;
    let mut notes = crowded(COUNT, |index| {
        if index == 0 {
            [1, 0, 0x10_0000, 0x10_0000, 0x100, 0x100, 7, 1]
        } else {
            [4, 0x94, 0, 0, len - 0x94, 0, 4, 4]
        }
    });
    notes[0x60..].iter_mut().take(0x100).for_each(|byte| *byte = 0);
    planned(&notes);
}

#[test]
fn a_symbol_table_whose_names_all_overlap_uses_bounded_memory() {
    let symbols = vec![("a", 0x10_0080, 0, 2, 1); 100];
    let mut file = ElfBuilder { symbols: Some(symbols), ..elf_kernel(&[]) }.build();
    let shoff = u32::from_le_bytes(file[0x20..0x24].try_into().unwrap()) as usize;
    // A quarter of a million symbols, each with a name of a megabyte.
    let table = file.len() as u32;
    file.extend([1, 0, 0, 0, 0x80, 0, 0x10, 0, 0, 0, 0, 0, 2, 0, 1, 0].repeat(1 << 18));
    let strings = file.len() as u32;
    file.extend(vec![b'n'; 1 << 20]);
    let section = |index: usize| shoff + 40 * index;
    set_u32(&mut file, section(2) + 16, table);
    set_u32(&mut file, section(2) + 20, strings - table);
    set_u32(&mut file, section(3) + 16, strings);
    set_u32(&mut file, section(3) + 20, 1 << 20);
    let plan = planned(&file);
    assert!(plan.notes.iter().any(|note| note.contains("too big")), "{:?}", plan.notes);
    let names: usize = plan.symbols.iter().map(|symbol| symbol.name.len()).sum();
    assert!(names <= 64 << 20);
}
