//! QEMU beside us.

use std::time::Duration;

use pagewalk_lens::qemu::{Qemu, Spec};
use pagewalk_tests::{MEMORY, plan};
use pagewalk_x86::model::MAX;

#[test]
fn qemu_boots_a_guest_and_comes_to_its_end() {
    let guest = pagewalk_testbins::find("integer").unwrap();
    let spec = Spec::new(guest.image.to_vec(), MEMORY, MAX);
    let mut qemu = Qemu::boot(&spec, &plan(guest.image, guest.name, "").unwrap()).unwrap();
    // Multiboot Specification, "Machine state"
    assert_eq!(qemu.gdb.register(0).unwrap(), 0x2bad_b002);
    qemu.resume().unwrap();
    let status = qemu.wait(Duration::from_secs(60)).unwrap().expect("QEMU still runs");
    assert_eq!(status.code(), Some(1), "{}", qemu.said());
    let text = String::from_utf8(qemu.serial()).unwrap();
    assert!(text.contains("PASS"), "{text}");
    let mut first = [0; 4];
    qemu.read_ram(0x10_0000, &mut first).unwrap();
    assert_ne!(first, [0; 4]);
}
