//! Pictures of modes set as a video BIOS sets them (IBM's tables of the standard modes).

use super::super::dispi;
use super::super::sequencer::MEMORY_MODE;
use super::*;
use crate::device::WideData;
use pagewalk_x86::bus::{Size, Ticks};
use pagewalk_x86::ram::Ram;

struct Mode {
    misc: u8,
    sequencer: [u8; 5],
    crtc: [u8; 25],
    graphics: [u8; 9],
    attribute_mode: u8,
}

const MODE_12: Mode = Mode {
    misc: 0xe3,
    sequencer: [0x03, 0x01, 0x0f, 0x00, 0x06],
    crtc: [
        0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xea,
        0x8c, 0xdf, 0x28, 0x00, 0xe7, 0x04, 0xe3, 0xff,
    ],
    graphics: [0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x0f, 0xff],
    attribute_mode: 0x01,
};

const MODE_13: Mode = Mode {
    misc: 0x63,
    sequencer: [0x03, 0x01, 0x0f, 0x00, 0x0e],
    crtc: [
        0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00, 0x41, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x9c,
        0x8e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff,
    ],
    graphics: [0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x05, 0x0f, 0xff],
    attribute_mode: 0x41,
};

const MODE_4: Mode = Mode {
    misc: 0x63,
    sequencer: [0x03, 0x09, 0x03, 0x00, 0x02],
    crtc: [
        0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0x00, 0xc1, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x9c,
        0x8e, 0x8f, 0x14, 0x00, 0x96, 0xb9, 0xa2, 0xff,
    ],
    graphics: [0x00, 0x00, 0x00, 0x00, 0x00, 0x30, 0x0f, 0x00, 0xff],
    attribute_mode: 0x01,
};

/// An adapter whose palette leads each pixel to the DAC's entry of the same number, which has its number as red.
fn set(mode: &Mode) -> (Vga, Ram) {
    let (mut vga, mut ram) = (Vga::default(), Ram::new(0x4_0000));
    vga.set_text_mode(&mut ram, 0);
    ram = Ram::new(0x4_0000);
    vga.set_misc(mode.misc);
    for (index, value) in mode.sequencer.into_iter().enumerate() {
        vga.sequencer.set_register(index, value);
    }
    for (index, value) in mode.crtc.into_iter().enumerate() {
        vga.crtc.set_register(index, value);
    }
    for (index, value) in mode.graphics.into_iter().enumerate() {
        vga.graphics.set_register(index, value);
    }
    vga.attribute.set_register(attribute::MODE, mode.attribute_mode);
    vga.attribute.set_register(PANNING, 0);
    for pixel in 0..16 {
        vga.attribute.set_register(pixel, pixel as u8);
    }
    for entry in 0..=255 {
        vga.dac.set_entry(entry, [entry & 0x3f, entry >> 6, 0]);
    }
    (vga, ram)
}

fn write(vga: &mut Vga, ram: &mut Ram, at: u64, bytes: &[u8]) {
    for (at, &byte) in (at..).zip(bytes) {
        vga.write_memory(ram, 0, at, Size::Byte, byte.into());
    }
}

/// The six bits of red that a dot was made of.
fn red(picture: &Picture, x: u32, y: u32) -> u8 {
    picture.dot(x, y)[0] >> 2
}

#[test]
fn mode_13h_shows_each_byte_as_two_dots_on_two_lines() {
    let (mut vga, mut ram) = set(&MODE_13);
    write(&mut vga, &mut ram, 0xa_0000, &[1, 2, 3, 4, 5]);
    write(&mut vga, &mut ram, 0xa_0000 + 199 * 320 + 319, &[0x2a]);
    let picture = vga.picture(ram.bytes());
    assert_eq!((picture.width, picture.height), (640, 400));
    let first: Vec<u8> = (0..12).map(|x| red(&picture, x, 1)).collect();
    assert_eq!(first, [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 0, 0]);
    assert_eq!((red(&picture, 0, 2), red(&picture, 639, 399), red(&picture, 637, 399)), (0, 0x2a, 0));
}

#[test]
fn unchained_256_colours_take_a_pixel_of_each_map() {
    let (mut vga, mut ram) = set(&MODE_13);
    vga.sequencer.set_register(MEMORY_MODE, 0x06);
    vga.crtc.set_register(UNDERLINE, 0x00);
    vga.crtc.set_register(0x17, 0xe3);
    for map in 0..4 {
        vga.sequencer.set_register(2, 1 << map);
        write(&mut vga, &mut ram, 0xa_0000 + 80, &[10 + map, 20 + map]);
    }
    // the second page
    vga.crtc.set_register(0x0d, 80);
    let picture = vga.picture(ram.bytes());
    let first: Vec<u8> = (0..8).map(|x| red(&picture, 2 * x, 0)).collect();
    assert_eq!(first, [10, 11, 12, 13, 20, 21, 22, 23]);
    // panning by one pixel is two dots
    vga.attribute.set_register(PANNING, 2);
    assert_eq!(red(&vga.picture(ram.bytes()), 0, 0), 11);
}

#[test]
fn mode_12h_makes_a_pixel_of_a_bit_of_each_map() {
    let (mut vga, mut ram) = set(&MODE_12);
    vga.graphics.set_register(graphics::MODE, 2);
    vga.graphics.set_register(graphics::BIT_MASK, 0x40);
    write(&mut vga, &mut ram, 0xa_0000 + 479 * 80 + 79, &[0x0d]);
    let picture = vga.picture(ram.bytes());
    assert_eq!((picture.width, picture.height), (640, 480));
    assert_eq!([632, 633, 634].map(|x| red(&picture, x, 479)), [0, 0x0d, 0]);
}

#[test]
fn a_split_screen_begins_with_address_0_behind_the_line_compare() {
    let (mut vga, mut ram) = set(&MODE_12);
    write(&mut vga, &mut ram, 0xa_0000, &[0x80]);
    vga.crtc.set_register(0x0c, 0x40);
    // line 100: bits 8 and 9 clear
    vga.crtc.set_register(0x18, 100);
    vga.crtc.set_register(0x07, 0x3e & !0x10);
    vga.crtc.set_register(0x09, 0x00);
    let picture = vga.picture(ram.bytes());
    assert_eq!([0, 100, 101, 102].map(|y| red(&picture, 0, y)), [0, 0, 15, 0]);
}

#[test]
fn cga_pixels_have_two_bits_and_odd_rows_lie_8_kib_on() {
    let (mut vga, mut ram) = set(&MODE_4);
    write(&mut vga, &mut ram, 0xb_8000, &[0b0001_1011, 0b1110_0100]);
    write(&mut vga, &mut ram, 0xb_a000, &[0b1100_0000]);
    let picture = vga.picture(ram.bytes());
    assert_eq!((picture.width, picture.height), (640, 400));
    let row = |y| -> Vec<u8> { (0..8).map(|x| red(&picture, 2 * x, y)).collect() };
    assert_eq!((row(0), row(2)), (vec![0, 1, 2, 3, 3, 2, 1, 0], vec![3, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!((row(1), row(4)), (row(0), vec![0; 8]));
}

#[test]
fn text_has_nine_dots_the_last_repeated_for_line_graphics_and_a_cursor() {
    let (mut vga, mut ram) = (Vga::default(), Ram::new(0x4_0000));
    vga.set_text_mode(&mut ram, 0);
    // a full block and a double line in yellow on blue; a blank under the cursor
    write(&mut vga, &mut ram, 0xb_8000, &[0xdb, 0x1e, 0xba, 0x1e]);
    let picture = vga.picture(ram.bytes());
    assert_eq!((picture.width, picture.height), (720, 400));
    let (yellow, blue, grey) = ([0xff, 0xff, 0x55], [0, 0, 0xaa], [0xaa; 3]);
    assert!((0..9).all(|x| picture.dot(x, 0) == yellow));
    assert_eq!(picture.dot(9, 0), blue);
    vga.crtc.set_register(0x0f, 2);
    let picture = vga.picture(ram.bytes());
    assert_eq!([12, 13, 14, 15].map(|y| picture.dot(18, y)), [[0; 3], grey, grey, [0; 3]]);
    vga.crtc.set_register(0x0a, 0x2d);
    assert_eq!(vga.picture(ram.bytes()).dot(18, 14), [0; 3]);
}

#[test]
fn a_screen_that_is_off_is_black() {
    let (mut vga, mut ram) = set(&MODE_13);
    write(&mut vga, &mut ram, 0xa_0000, &[63; 16]);
    vga.sequencer.set_register(CLOCKING, 0x21);
    assert!(vga.picture(ram.bytes()).rgb.iter().all(|&byte| byte == 0));
}

#[test]
fn vbe_modes_show_every_depth_from_where_the_offsets_say() {
    let ones = |depth: u16| -> (Vec<u8>, [u8; 3]) {
        match depth {
            8 => (vec![0x2a], [0xaa, 0, 0]),
            15 => (vec![0x1f, 0x7c], [0xff, 0, 0xff]),
            16 => (vec![0xe0, 0x07], [0, 0xff, 0]),
            24 => (vec![1, 2, 3], [3, 2, 1]),
            _ => (vec![1, 2, 3, 0xee], [3, 2, 1]),
        }
    };
    for depth in [8, 15, 16, 24, 32] {
        let (mut vga, _) = set(&MODE_13);
        let mut memory = vec![0; dispi::VIDEO_MEMORY as usize];
        let registers = [
            (dispi::XRES, 64),
            (dispi::YRES, 32),
            (dispi::BPP, depth),
            (dispi::ENABLE, 0x41),
            (6, 128),
            (8, 10),
            (9, 5),
        ];
        for (index, value) in registers {
            vga.dispi.index.write_wide(Size::Word, index.into(), Ticks(0));
            vga.write_wide(Size::Word, value.into(), Ticks(0));
        }
        let (pixel, colour) = ones(depth);
        let at = (5 * 128 + 10 + 3) * pixel.len();
        memory[at..at + pixel.len()].copy_from_slice(&pixel);
        let picture = vga.picture(&memory);
        assert_eq!((picture.width, picture.height), (64, 32));
        assert_eq!([2, 3, 4].map(|x| picture.dot(x, 0)), [[0; 3], colour, [0; 3]], "{depth} bits");
    }
}
