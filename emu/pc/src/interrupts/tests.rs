use super::*;
use crate::device::PortDevice;

const NOW: Ticks = Ticks(0);
const LOCAL: u64 = crate::apic::LOCAL_BASE;

fn write(all: &mut Interrupts, at: u64, value: u32) {
    assert!(all.mmio_write(Phys(at), Size::Dword, value, NOW));
}

fn read(all: &mut Interrupts, at: u64) -> u32 {
    all.mmio_read(Phys(at), Size::Dword, NOW).unwrap()
}

fn redirect(all: &mut Interrupts, input: u32, low: u32) {
    write(all, IO_BASE, 0x10 + 2 * input);
    write(all, IO_BASE + 0x10, low);
}

/// One processor; the 8259A pair at vectors 08h and 70h, nothing masked.
fn bench() -> Interrupts {
    let mut all = Interrupts::default();
    all.fit(1);
    for (offset, value) in
        [(0, 0x11), (1, 0x08), (1, 4), (1, 1), (1, 0), (2, 0x11), (3, 0x70), (3, 2), (3, 1), (3, 0)]
    {
        all.pic.write8(offset, value, NOW);
    }
    all.settle();
    all
}

fn pulse(all: &mut Interrupts, irq: u8) {
    let mut line = IrqLine::default();
    line.set(true);
    all.wire(irq, &mut line);
}

#[test]
fn without_apics_int_is_intr_and_no_registers_are_in_memory() {
    let mut all = bench();
    all.fit(0);
    pulse(&mut all, 1);
    assert!(all.interrupt());
    assert_eq!(all.acknowledge(), 0x09);
    assert_eq!(all.mmio_read(Phys(LOCAL + 0x30), Size::Dword, NOW), None);
    assert!(!all.mmio_write(Phys(IO_BASE), Size::Dword, 0, NOW));
}

#[test]
fn in_virtual_wire_mode_the_8259a_answers_through_lint0() {
    let mut all = bench();
    pulse(&mut all, 1);
    assert!(!all.interrupt(), "LINT0 is masked");
    assert!(!all.could_interrupt(0xffff));
    write(&mut all, LOCAL + 0xf0, 0x1ff);
    write(&mut all, LOCAL + 0x350, 0x8700);
    assert!(all.interrupt());
    assert_eq!(all.acknowledge(), 0x09);
    assert!(!all.interrupt());
}

#[test]
fn request_0_is_input_2_and_the_others_have_their_numbers() {
    let mut all = bench();
    write(&mut all, LOCAL + 0xf0, 0x1ff);
    for (irq, input) in [(0, 2), (1, 1), (9, 9), (15, 15)] {
        redirect(&mut all, input, 0x40 + input);
        assert!(all.could_interrupt(1 << irq));
        pulse(&mut all, irq);
        assert!(all.interrupt());
        assert_eq!(all.acknowledge(), 0x40 + input as u8);
        write(&mut all, LOCAL + 0xb0, 0);
        redirect(&mut all, input, 0x1_0000);
    }
}

#[test]
fn a_level_comes_back_after_eoi_until_the_line_falls() {
    let mut all = bench();
    write(&mut all, LOCAL + 0xf0, 0x1ff);
    redirect(&mut all, 9, 0x8051);
    let mut line = IrqLine::default();
    line.set(true);
    all.wire(9, &mut line);
    assert_eq!(all.acknowledge(), 0x51);
    assert!(!all.interrupt());
    write(&mut all, LOCAL + 0xb0, 0);
    assert!(all.interrupt());
    assert_eq!(all.acknowledge(), 0x51);
    line.set(false);
    all.wire(9, &mut line);
    write(&mut all, LOCAL + 0xb0, 0);
    assert!(!all.interrupt());
}

#[test]
fn an_ext_int_message_has_the_8259a_asked() {
    let mut all = bench();
    write(&mut all, LOCAL + 0xf0, 0x1ff);
    redirect(&mut all, 1, 0x0700);
    pulse(&mut all, 1);
    assert!(all.interrupt());
    assert_eq!(all.acknowledge(), 0x09);
    assert!(!all.interrupt());
}

#[test]
fn messages_of_a_processor_to_itself_and_to_absent_ones() {
    let mut all = bench();
    write(&mut all, LOCAL + 0xf0, 0x1ff);
    write(&mut all, LOCAL + 0x300, 0x4_4055);
    assert_eq!(all.acknowledge(), 0x55);
    write(&mut all, LOCAL + 0x300, 0x4_4400);
    assert!(all.take_nmi() && !all.take_nmi());
    write(&mut all, LOCAL + 0x300, 0xc_4500);
    write(&mut all, LOCAL + 0x300, 0xc_4608);
    assert!(!all.take_init() && !all.interrupt());
    write(&mut all, LOCAL + 0x300, 0x4500);
    assert!(all.take_init());
}

#[test]
fn a_lowest_priority_message_goes_to_the_least_busy_of_those_meant() {
    let mut all = bench();
    all.fit(2);
    for (local, ldr) in all.local.iter_mut().zip([1, 2]) {
        local.write(0xf0, 0x1ff, NOW);
        local.write(0xd0, ldr << 24, NOW);
    }
    all.local[0].write(0x80, 0x20, NOW);
    write(&mut all, LOCAL + 0x310, 0x0300_0000);
    write(&mut all, LOCAL + 0x300, 0x4941);
    assert_eq!((all.local[0].pending(), all.local[1].pending()), (None, Some(Pending::Vector)));
    write(&mut all, LOCAL + 0x300, 0xc_4043);
    assert_eq!(all.local[0].pending(), None, "others are not the sender");
}

#[test]
fn the_local_apic_moves_with_its_base_and_accesses_but_of_dwords_do_nothing() {
    let mut all = bench();
    all.set_base(0x00d0_0900);
    assert!(all.owns(0xd00) && !all.owns(0xfee00));
    assert_eq!(read(&mut all, 0xd0_0030), 0x0005_0014);
    assert!(all.mmio_write(Phys(0xd0_0080), Size::Byte, 0x20, NOW));
    assert_eq!(read(&mut all, 0xd0_0080), 0);
    assert_eq!(all.mmio_read(Phys(0xd0_0030), Size::Word, NOW), Some(0));
    all.reset();
    assert!(all.owns(0xfee00));
}
