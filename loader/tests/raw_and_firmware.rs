//! Flat binaries, boot sectors, firmware, gzip, and what is none of all this.

mod common;

use std::io::Write;

use common::*;
use pagewalk_loader::{Boot, Cause, Kind, MemoryMap, Plan, RawMode, Refusal, Request, Start, firmware, plan};

fn raw(image: &[u8], address: u32, mode: RawMode) -> Result<Plan, Refusal> {
    plan(&Request { boot: Boot::Raw { address, mode }, ..request(image) })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn boot_sector() -> Vec<u8> {
    let mut sector = vec![0xf4; 512];
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

#[test]
fn a_boot_sector_is_entered_as_the_bios_does() {
    let plan = planned(&boot_sector());
    assert_eq!(plan.kind, Kind::BootSector);
    assert_eq!((plan.places[0].at, plan.places[0].data.len()), (0x7c00, 512));
    assert_eq!(plan.start, Start::Real { cs: 0, ip: 0x7c00, ds: 0, es: 0, ss: 0, sp: 0x7c00, dx: 0x80 });
}

#[test]
fn only_512_bytes_with_the_signature_are_a_boot_sector() {
    let mut unsigned = boot_sector();
    unsigned[511] = 0;
    assert_eq!(refused(&unsigned).cause, Cause::NotRecognised);
    let mut disk = boot_sector();
    disk.resize(1440 << 10, 0);
    assert!(refused(&disk).found.contains("a disk image (a boot sector and more)"));
    assert_eq!(refused(&boot_sector()[1..]).cause, Cause::NotRecognised);
}

#[test]
fn a_real_mode_binary_starts_at_its_first_byte() {
    let start = |address, len| raw(&vec![0x90; len], address, RawMode::Real).unwrap().start;
    let real = |cs, ip, ss, sp| Start::Real { cs, ip, ds: 0, es: 0, ss, sp, dx: 0x80 };
    assert_eq!(start(0x7c00, 0x1_0000), real(0, 0x7c00, 0, 0x7c00));
    assert_eq!(start(0xffff, 1), real(0, 0xffff, 0, 0x7c00));
    assert_eq!(start(0x1_2345, 1), real(0x1234, 5, 0, 0x7c00));
    assert_eq!(start(0x600, 1), real(0, 0x600, 0x8000, 0), "it would lie on the stack");
    assert_eq!(start(0x7b00, 0x200), real(0, 0x7b00, 0x8000, 0));
    assert_eq!(start(0, 0x500), real(0, 0, 0, 0x7c00));
    let refusal = raw(&[0], 0x10_0000, RawMode::Real).unwrap_err();
    assert!(
        refusal.to_string().contains("real mode starts below 1 MiB; or say --boot raw32:ADDRESS"),
        "{refusal}"
    );
}

#[test]
fn a_protected_mode_binary_starts_flat_with_a_stack() {
    let plan = raw(&[0x90; 100], 0x10_0000, RawMode::Protected).unwrap();
    assert_eq!(plan.kind, Kind::Raw);
    assert_eq!(plan.places[0].at, 0x10_0000);
    assert_eq!(protected(&plan), (0x10_0000, 0, 0));
    assert!(matches!(plan.start, Start::Protected { esp: 0x100_0000, .. }));
    assert_sound(&plan, &pc());
}

#[test]
fn a_binary_that_does_not_fit_into_ram_is_refused() {
    for (address, len) in [(0x9_fbff, 2), (0xff_ffff, 2), (0xffff_ffff, 1), (0xffff_ffff, 2)] {
        assert_eq!(raw(&vec![0; len], address, RawMode::Protected).unwrap_err().cause, Cause::Memory);
    }
    assert!(raw(&[], 0, RawMode::Real).unwrap_err().found.contains("an empty file"));
}

#[test]
fn forcing_a_flat_binary_looks_at_no_header() {
    let image = elf_kernel(&header1(0, &[])).build();
    let plan = raw(&image, 0x20_0000, RawMode::Protected).unwrap();
    assert_eq!((plan.kind, &plan.places[0].data), (Kind::Raw, &image));
}

#[test]
fn a_rom_ends_at_4_gib_and_its_last_128_kib_at_1_mib() {
    let rom: Vec<u8> = (0..256 << 10).map(|at: u32| (at >> 12) as u8).collect();
    let plan = firmware(&rom, "bios.bin").unwrap();
    assert_eq!((plan.kind, plan.start), (Kind::Firmware, Start::Reset));
    assert!(plan.places.is_empty());
    let [low, high] = &plan.roms[..] else { panic!("{:?}", plan.roms) };
    assert_eq!((low.at, &low.data[..]), (0xe_0000, &rom[128 << 10..]));
    assert_eq!((high.at, &high.data), (0xfffc_0000, &rom));
    let small = firmware(&rom[..64 << 10], "bios.bin").unwrap();
    assert_eq!((small.roms[0].at, small.roms[1].at), (0xf_0000, 0xffff_0000));
    assert_eq!(firmware(&gzip(&rom), "bios.bin").unwrap(), plan);
}

#[test]
fn a_rom_that_cannot_be_mapped_is_refused() {
    for len in [0, 1, 4095, 4097, (16 << 20) + 4096] {
        let refusal = firmware(&vec![0; len], "bios.bin").unwrap_err();
        assert!(refusal.to_string().starts_with(&format!("bios.bin: a ROM of {len} bytes; ")), "{refusal}");
    }
}

#[test]
fn gzipped_images_of_every_kind_are_unpacked() {
    let kernel = elf_kernel(&header1(0, &[])).build();
    let plan = planned(&gzip(&kernel));
    assert_eq!((plan.kind, &plan.places), (Kind::Multiboot1, &planned(&kernel).places));
    assert!(plan.notes[0].contains("gzipped bytes to"), "{:?}", plan.notes);
    assert_eq!(planned(&gzip(&boot_sector())).kind, Kind::BootSector);
    assert_eq!(raw(&gzip(b"code"), 0x7c00, RawMode::Real).unwrap().places[0].data, b"code");
    let refusal = refused(&gzip(&kernel[..100]));
    assert!(refusal.to_string().contains("of the unpacked image"), "{refusal}");
}

#[test]
fn a_gzipped_image_bigger_than_memory_is_refused() {
    let refusal = refused(&gzip(&vec![0; 17 << 20]));
    assert!(refusal.found.contains("more than the machine's"), "{refusal}");
    let image = gzip(b"x");
    let none = Request { memory: MemoryMap::default(), ..request(&image) };
    assert!(plan(&none).is_err());
}
