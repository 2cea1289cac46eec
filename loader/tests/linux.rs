//! bzImages (Linux x86 Boot Protocol).

mod common;

use common::*;
use pagewalk_loader::{Boot, Handed, Kind, MemoryMap, MemoryRegion, Module, Plan, Request, Start, plan};

const KERNEL: [u8; 0x300] = [0xf4; 0x300];

/// Protocol 2.15, one setup sector, relocatable, 64 KiB of room to unpack itself.
fn image() -> Vec<u8> {
    let mut image = vec![0; 0x400];
    image[0x1f1] = 1;
    set_u32(&mut image, 0x1f4, KERNEL.len() as u32 / 16);
    set_u16(&mut image, 0x1fe, 0xaa55);
    image[0x200..0x206].copy_from_slice(b"\xeb\x6aHdrS");
    set_u16(&mut image, 0x206, 0x020f);
    image[0x211] = 1;
    set_u32(&mut image, 0x214, 0x10_0000);
    set_u32(&mut image, 0x22c, 0x7fff_ffff);
    set_u32(&mut image, 0x230, 0x20_0000);
    image[0x234] = 1;
    set_u32(&mut image, 0x238, 2047);
    set_u32(&mut image, 0x258, 0x40_0000);
    set_u32(&mut image, 0x260, 0x1_0000);
    image.extend(KERNEL);
    image
}

fn entry(plan: &Plan) -> (u32, u32, u32) {
    match plan.start {
        Start::Linux { eip, esi, gdt } => (eip, esi, gdt),
        other => panic!("{other:?}"),
    }
}

/// Bytes at a physical address.
fn bytes(plan: &Plan, at: u32, len: usize) -> Vec<u8> {
    let at = u64::from(at);
    let place = plan.places.iter().find(|place| place.at <= at && at < place.end()).unwrap();
    let from = (at - place.at) as usize;
    let mut data = place.data.clone();
    data.resize(data.len() + place.zero_fill as usize, 0);
    data[from..from + len].to_vec()
}

fn dword(plan: &Plan, at: u32) -> u32 {
    u32::from_le_bytes(bytes(plan, at, 4).try_into().unwrap())
}

#[test]
fn the_kernel_goes_where_it_would_rather_be_with_boot_params_and_a_gdt() {
    let disk = Module { data: &[7; 0x1001], args: "", name: "initrd" };
    let plan = planned_with(&image(), "console=ttyS0", &[disk]);
    assert_sound(&plan, &pc());
    assert_eq!(plan.kind, Kind::Linux);
    let (eip, esi, gdt) = entry(&plan);
    assert_eq!(eip, 0x40_0000);
    assert_eq!(bytes(&plan, eip, KERNEL.len()), KERNEL);
    // room to unpack itself is taken, and zero
    assert_eq!(dword(&plan, eip + 0xfffc), 0);
    // __BOOT_CS and __BOOT_DS: flat, 4 GiB, execute/read and read/write
    assert_eq!((dword(&plan, gdt + 0x10), dword(&plan, gdt + 0x14)), (0x0000_ffff, 0x00cf_9b00));
    assert_eq!((dword(&plan, gdt + 0x18), dword(&plan, gdt + 0x1c)), (0x0000_ffff, 0x00cf_9300));
    // what the file's header has, and the loader's fields
    assert_eq!(bytes(&plan, esi + 0x202, 4), b"HdrS");
    assert_eq!(bytes(&plan, esi + 0x210, 2), [0xff, 1]);
    assert_eq!(dword(&plan, esi + 0x214), eip);
    let command_line = dword(&plan, esi + 0x228);
    assert_eq!(bytes(&plan, command_line, 14), b"console=ttyS0\0");
    // as high as RAM goes, in whole pages
    assert_eq!((dword(&plan, esi + 0x218), dword(&plan, esi + 0x21c)), (0xff_e000, 0x1001));
    assert_eq!(bytes(&plan, 0xff_e000, 0x1001), [7; 0x1001]);
    // E820: the machine's map, 20 bytes each
    assert_eq!(bytes(&plan, esi + 0x1e8, 1), [5]);
    let region = |n: u32| [0, 8, 16].map(|field| dword(&plan, esi + 0x2d0 + n * 20 + field));
    assert_eq!(region(0), [0, 0x9_fc00, 1]);
    assert_eq!(region(3), [0x10_0000, 0xf0_0000, 1]);
    assert_eq!(region(4), [0xfffc_0000, 0x4_0000, 2]);
    assert_eq!(dword(&plan, esi + 0x1e0), 0xf0_0000 >> 10);
}

#[test]
fn a_kernel_that_cannot_be_moved_goes_to_1_mib() {
    let mut fixed = image();
    fixed[0x234] = 0;
    assert_eq!(entry(&planned(&fixed)).0, 0x10_0000);
    // and one that does not find room where it would rather be to another aligned place
    let mut far = image();
    set_u32(&mut far, 0x258, 0x1000_0000);
    assert_eq!(entry(&planned(&far)).0, 0x20_0000);
}

#[test]
fn the_ramdisk_stays_below_what_the_kernel_can_reach() {
    let mut image = image();
    set_u32(&mut image, 0x22c, 0x7f_ffff);
    let disk = Module { data: &[7; 0x1000], args: "", name: "initrd" };
    let plan = planned_with(&image, "", &[disk]);
    assert_eq!(dword(&plan, entry(&plan).1 + 0x218), 0x7f_f000);
}

#[test]
fn what_cannot_be_started_or_handed_over_is_refused_in_words() {
    let mut old = image();
    set_u16(&mut old, 0x206, 0x0204);
    assert_refused(&refused_as(&old, Boot::Linux), "boot protocol 2.04", 0x206);
    let mut low = image();
    low[0x211] = 0;
    assert_refused(&refused_as(&low, Boot::Linux), "boot protocol 2.15", 0x206);
    let whole = image();
    assert_refused(&refused(&whole[..whole.len() - 16]), "0x300 bytes of kernel from 0x400 on", 0x1f4);
    let long = "x".repeat(2048);
    let refusal = plan(&Request { command_line: &long, ..request(&whole) }).unwrap_err();
    assert!(refusal.to_string().contains("2048 bytes; this kernel takes 2047 at most"), "{refusal}");
    let disk = Module { data: &[7; 16], args: "", name: "second.img" };
    let refusal = plan(&Request { modules: &[disk, disk], ..request(&whole) }).unwrap_err();
    assert!(refusal.to_string().contains("second initial RAM disk, second.img"), "{refusal}");
    let big = vec![0; 15 << 20];
    let disk = Module { data: &big, args: "", name: "big.img" };
    let refusal = plan(&Request { modules: &[disk], ..request(&whole) }).unwrap_err();
    assert!(refusal.to_string().contains("no room for the initial RAM disk big.img"), "{refusal}");
    assert!(refused_as(&[0; 1024], Boot::Linux).to_string().contains("no Linux setup header"));
}

#[test]
fn no_damage_to_a_header_makes_the_loader_panic_or_leave_ram() {
    let whole = image();
    for len in 0..whole.len() {
        let _ = plan(&Request { boot: Boot::Linux, ..request(&whole[..len]) });
    }
    let disk = Module { data: &[7; 0x1000], args: "", name: "initrd" };
    for at in 0x1f1..0x270 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut image = whole.clone();
            image[at] = value;
            if at + 4 <= image.len() && value == 0xff {
                set_u32(&mut image, at, u32::MAX);
            }
            if let Ok(plan) =
                plan(&Request { boot: Boot::Linux, modules: &[disk], command_line: "x", ..request(&image) })
            {
                assert_sound(&plan, &pc());
            }
        }
    }
    let none = Request { memory: MemoryMap::new(Vec::<MemoryRegion>::new()), ..request(&whole) };
    assert!(plan(&none).is_err());
}

fn handed(plan: &Plan, wanted: u16) -> &[u8] {
    let item = plan.handed.iter().find_map(|handed| match handed {
        Handed::Item { selector, data } if *selector == wanted => Some(data),
        _ => None,
    });
    item.unwrap()
}

#[test]
fn an_image_of_an_old_protocol_waits_for_a_firmware_with_a_rom_that_starts_it() {
    let mut old = image();
    set_u16(&mut old, 0x206, 0x0203);
    let disk = Module { data: &[7; 0x1001], args: "", name: "initrd" };
    let plan = planned_with(&old, "one two", &[disk]);
    assert_eq!((plan.kind, plan.start), (Kind::LinuxRealMode, Start::Reset));
    // the protocol's sample: setup code at 10000h, heap and stack up to E000h, the command line there
    let setup = handed(&plan, 0x18);
    assert_eq!(setup.len(), 0x400);
    assert_eq!(setup[0x210..0x212], [0xff, 0x81]);
    assert_eq!(u16::from_le_bytes([setup[0x224], setup[0x225]]), 0xde00);
    let field = |at: usize| u32::from_le_bytes(setup[at..at + 4].try_into().unwrap());
    assert_eq!(field(0x228), 0x1_e000);
    assert_eq!((field(0x218), field(0x21c)), (0xef_e000, 0x1001));
    assert_eq!(handed(&plan, 0x15), b"one two\0");
    assert_eq!(handed(&plan, 0x11), KERNEL);
    assert_eq!(handed(&plan, 0x12), [7; 0x1001]);
    let rom = plan.handed.iter().find_map(|handed| match handed {
        Handed::File { name, data } if name.starts_with("genroms/") => Some(data),
        _ => None,
    });
    let rom = rom.unwrap();
    assert_eq!((&rom[..3], rom.len()), (&[0x55, 0xaa, 1][..], 512));
    assert_eq!(
        rom.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)),
        0,
        "an expansion ROM adds up to zero"
    );
    assert_eq!(&rom[0x20..0x24], b"$PnP");
}

#[test]
fn an_image_that_stays_low_has_its_setup_code_at_90000h_and_an_old_command_line() {
    let mut old = image();
    set_u16(&mut old, 0x206, 0x0201);
    old[0x211] = 0;
    let plan = planned_with(&old, "one two", &[]);
    let setup = handed(&plan, 0x18);
    assert_eq!(setup[0x20..0x24], [0x3f, 0xa3, 0x00, 0x98]);
    assert_eq!(u16::from_le_bytes([setup[0x224], setup[0x225]]), 0x9600);
    assert_eq!(u16::from_le_bytes([setup[0x212], setup[0x213]]), 0x9808);
    // any image on request
    let forced = pagewalk_loader::plan(&Request { boot: Boot::LinuxRealMode, ..request(&image()) }).unwrap();
    assert_eq!(forced.kind, Kind::LinuxRealMode);
}

#[test]
fn what_does_not_fit_below_640_kib_is_refused() {
    let mut large = image();
    large[0x211] = 0;
    large.resize(large.len() + 0x8_0000, 0xf4);
    assert!(refused(&large).to_string().contains("for memory below 640 KiB"));
    let mut long = image();
    set_u16(&mut long, 0x206, 0x0203);
    long[0x1f1] = 0xff;
    set_u32(&mut long, 0x1f4, 1);
    long.resize(0x2_0200, 0xf4);
    assert!(refused(&long).to_string().contains("setup code of 0x20000 bytes"));
}
