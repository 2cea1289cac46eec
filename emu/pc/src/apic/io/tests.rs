//! Expected values are those of the 82093AA's data sheet (290566-001).

use super::*;

fn put(io: &mut IoApic, register: u8, value: u32) {
    io.write(SELECT, register.into());
    io.write(WINDOW, value);
}

fn get(io: &mut IoApic, register: u8) -> u32 {
    io.write(SELECT, register.into());
    io.read(WINDOW)
}

/// The input that has something to send.
fn offers(io: &IoApic) -> Option<(usize, u8)> {
    (0..INPUTS).find_map(|input| io.offer(input).map(|message| (input, message.vector)))
}

#[test]
fn at_power_on_24_inputs_are_masked() {
    let mut io = IoApic::new();
    assert_eq!((get(&mut io, VERSION), get(&mut io, ID), get(&mut io, ARBITRATION)), (0x0017_0020, 0, 0));
    for input in 0..24 {
        assert_eq!((get(&mut io, 0x10 + 2 * input), get(&mut io, 0x11 + 2 * input)), (0x1_0000, 0));
    }
    assert_eq!((get(&mut io, 0x40), get(&mut io, 0xff)), (0, 0));
    put(&mut io, ID, u32::MAX);
    assert_eq!(get(&mut io, ID), 0x0f00_0000);
}

#[test]
fn status_and_remote_irr_cannot_be_written() {
    let mut io = IoApic::new();
    put(&mut io, 0x10, 0xffff_ffff);
    put(&mut io, 0x11, 0xffff_ffff);
    assert_eq!((get(&mut io, 0x10), get(&mut io, 0x11)), (0x0001_afff, 0xff00_0000));
}

#[test]
fn an_edge_is_sent_once_and_lost_while_masked() {
    let mut io = IoApic::new();
    io.set_line(4, true);
    put(&mut io, 0x18, 0x0000_0034);
    assert_eq!(offers(&io), None);
    io.set_line(4, false);
    io.set_line(4, true);
    assert_eq!(offers(&io), Some((4, 0x34)));
    io.sent(4, true);
    assert_eq!((offers(&io), get(&mut io, 0x18)), (None, 0x34));
}

#[test]
fn a_level_is_sent_again_after_its_end_as_long_as_it_lasts() {
    let mut io = IoApic::new();
    put(&mut io, 0x20 + 2, 0x0000_8051);
    io.set_line(9, true);
    assert_eq!(offers(&io), Some((9, 0x51)));
    io.sent(9, true);
    assert_eq!((offers(&io), get(&mut io, 0x22)), (None, 0xc051));
    io.end(0x50);
    assert_eq!(offers(&io), None, "another vector's end");
    io.end(0x51);
    assert_eq!(offers(&io), Some((9, 0x51)));
    io.sent(9, true);
    io.set_line(9, false);
    io.write(EOI, 0x51);
    assert_eq!((offers(&io), get(&mut io, 0x22)), (None, 0x8051));
}

#[test]
fn a_level_that_nobody_accepts_is_offered_until_somebody_does() {
    let mut io = IoApic::new();
    put(&mut io, 0x22, 0x8051);
    io.set_line(9, true);
    io.sent(9, false);
    assert_eq!(offers(&io), Some((9, 0x51)));
}

#[test]
fn an_input_that_is_active_low_interrupts_when_it_falls() {
    let mut io = IoApic::new();
    io.set_line(5, true);
    put(&mut io, 0x1a, 0x2035);
    assert_eq!(offers(&io), None);
    io.set_line(5, false);
    assert_eq!(offers(&io), Some((5, 0x35)));
    let mut io = IoApic::new();
    put(&mut io, 0x1a, 0xa035);
    assert_eq!(offers(&io), Some((5, 0x35)), "a low line is an active level");
}

#[test]
fn messages_carry_the_entrys_delivery_mode_and_destination() {
    for (mode, delivery) in [
        (0, Delivery::Fixed),
        (1, Delivery::LowestPriority),
        (2, Delivery::Smi),
        (4, Delivery::Nmi),
        (5, Delivery::Init),
        (7, Delivery::ExtInt),
    ] {
        let mut io = IoApic::new();
        put(&mut io, 0x11, 0x0300_0000);
        put(&mut io, 0x10, 0x840 | mode << 8);
        io.set_line(0, true);
        let message = io.offer(0).unwrap();
        assert_eq!((message.delivery, message.destination), (delivery, Destination::Logical(3)));
    }
}
