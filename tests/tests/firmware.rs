//! From the reset vector on, in real mode: Debian's SeaBIOS, and the boot loaders that it starts from discs, disks and ROMs.

use pagewalk_loader::{Boot, Module, Request};
use pagewalk_pc::board::{Board, Config, Input};
use pagewalk_pc::disk::Disk;
use pagewalk_pc::machine::{Machine, memory_map};
use pagewalk_testbins::STORY;
use pagewalk_tests::fetched;
use pagewalk_tests::firmware::{Disc, Drives, Image, machine, screen};
use pagewalk_tests::linux::{Console, SHELL, Talk, ramdisk};
use pagewalk_x86::bus;
use pagewalk_x86::fault::Stop;

const GRUB: &str = "\
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=-1
menuentry \"the story\" { multiboot /story; boot }
menuentry \"a Linux\" { linux /vmlinuz console=ttyS0; initrd /initrd; boot }
";
const MENU_IS_THERE: &str = "for a command-line";

fn grub() -> Image {
    Disc::default()
        .file("boot/grub/grub.cfg", GRUB.as_bytes())
        .file("story", STORY.image)
        .fetched("vmlinuz", "vmlinuz-686")
        .file("initrd", &ramdisk(SHELL, &[]))
        .grub()
}

fn swap_disk() -> Disk {
    Disk::blank(16 << 10)
}

#[test]
fn grub_boots_the_story_from_a_disc_by_multiboot() {
    let disc = grub();
    let mut talk = machine(Drives { disks: vec![swap_disk()], cdrom: Some(disc.open()) }, None);
    talk.answer(MENU_IS_THERE, "\r");
    let end = talk.end(0);
    assert!(talk.text().contains("All is well"), "{end:?}\n{}", talk.text());
}

#[test]
fn grub_boots_linux_from_the_master_boot_record_of_a_disk() {
    let disc = grub();
    let mut talk = machine(Drives { disks: vec![disc.open()], cdrom: None }, None);
    talk.answer(MENU_IS_THERE, "\x1b[B");
    talk.answer("*a Linux", "\r");
    talk.prompt();
    // the firmware's tables are used, and its clock
    assert_eq!(talk.command("dmesg | grep -c 'SMBIOS 2'"), "1\n", "{}", talk.text());
    assert_eq!(talk.last("poweroff -f"), Stop::Request(bus::Request::PowerOff), "{}", talk.text());
}

#[test]
fn isolinux_boots_linux_by_its_real_mode_entry() {
    let config = "SERIAL 0\nPROMPT 1\nLABEL shell\n KERNEL linux\n INITRD initrd\n APPEND console=ttyS0\n";
    let disc = Disc::default()
        .file("isolinux/isolinux.cfg", config.as_bytes())
        .fetched("isolinux/linux", "vmlinuz-686-pae")
        .file("isolinux/initrd", &ramdisk(SHELL, &[]))
        .isolinux();
    let mut talk = machine(Drives { disks: Vec::new(), cdrom: Some(disc.open()) }, None);
    talk.answer("boot: ", "shell\r");
    talk.prompt();
    assert_eq!(talk.command("echo $((6 * 7))"), "42\n");
    assert_eq!(talk.last("poweroff -f"), Stop::Request(bus::Request::PowerOff), "{}", talk.text());
}

#[test]
fn without_a_disk_the_firmware_says_so_and_tries_again() {
    let mut talk = machine(Drives::default(), None);
    let mut bytes = Vec::new();
    for _ in 0..200 {
        talk.console.go_on(&mut bytes).unwrap();
        if screen(&talk).contains("No bootable device.  Retrying in 60 seconds.") {
            return;
        }
    }
    panic!("{}", screen(&talk));
}

/// A machine that boots an image of Debian's by Linux's real-mode entry, on the firmware.
fn real_mode(name: &str, modules: &[Module<'_>]) -> Talk<Machine<()>> {
    let image = std::fs::read(fetched(name).unwrap()).unwrap();
    let board = Board::new(Config::default()).unwrap();
    let plan = pagewalk_loader::plan(&Request {
        image: &image,
        name,
        boot: Boot::Auto,
        command_line: "",
        modules,
        memory: memory_map(&board),
    });
    machine(Drives::default(), Some(plan.unwrap()))
}

/// Runs until this is on the screen.
fn wait_for(talk: &mut Talk<Machine<()>>, wanted: &str) {
    let mut bytes = Vec::new();
    for _ in 0..2000 {
        if screen(talk).contains(wanted) {
            return;
        }
        talk.console.go_on(&mut bytes).unwrap();
    }
    panic!("no '{wanted}' on the screen:\n{}", screen(talk));
}

#[test]
fn ipxe_reaches_its_prompt_by_linuxs_real_mode_entry() {
    let mut talk = real_mode("ipxe.lkrn", &[]);
    wait_for(&mut talk, "Press Ctrl-B for the iPXE command line");
    // Control and B, pressed and released
    talk.console.give(Input::Keys(vec![0x1d, 0x30, 0xb0, 0x9d]));
    wait_for(&mut talk, "\niPXE>");
}

#[test]
fn memdisk_boots_a_floppys_image_from_memory() {
    let mut floppy = [
        &[0xea, 0x05, 0x7c, 0, 0][..],                                    // jmp 0:7c05
        &[0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0], // xor ax, ax; mov ds, ax; mov es, ax; mov ss, ax
        &[0xbc, 0, 0x7c],                                  // mov sp, 7c00h
        &[0xb8, 1, 2, 0xbb, 0, 0x7e, 0xb9, 2, 0, 0x31, 0xd2, 0xcd, 0x13], // the drive's second sector to 7e00h
        &[0xbe, 0, 0x7e, 0xbb, 7, 0],                                     // mov si, 7e00h; mov bx, 7
        &[0xac, 0x84, 0xc0, 0x74, 6, 0xb4, 0x0e, 0xcd, 0x10, 0xeb, 0xf5], // lodsb, teletype output, until 0
        &[0xfa, 0xf4],                                                    // cli; hlt
    ]
    .concat();
    floppy.resize(510, 0);
    floppy.extend(b"\x55\xaathe second sector\0");
    floppy.resize(1_474_560, 0);
    let modules = [Module { data: &floppy, args: "", name: "floppy" }];
    let mut talk = real_mode("memdisk", &modules);
    let mut bytes = Vec::new();
    let mut end = Ok(());
    while end.is_ok() {
        end = talk.console.go_on(&mut bytes);
    }
    assert_eq!(end, Err(Stop::Halted));
    let screen = screen(&talk);
    assert!(screen.contains("Disk is fd0, 1440 K, C/H/S = 80/2/18"), "{screen}");
    assert!(screen.contains("booting...\nthe second sector"), "{screen}");
}
