//! The write and read modes after IBM's description of the graphics controller, through ports and memory alone; the
//! general registers.

use super::*;
use graphics::*;
use sequencer::{CHAIN_4, MAP_MASK, MEMORY_MODE, SEQUENTIAL};

use pagewalk_x86::ram::Ram;

const NOW: Ticks = Ticks(0);

struct Adapter {
    vga: Vga,
    ram: Ram,
}

impl Adapter {
    /// 64 KiB of maps at A0000h, sequential, all maps written, every bit from the processor.
    fn new() -> Adapter {
        let mut adapter = Adapter { vga: Vga::default(), ram: Ram::new(0x4_0000) };
        adapter.out(0x3c2, 0x63);
        for (index, value) in [(2, 0x0f), (4, 0x06)] {
            adapter.pair(0x3c4, index, value);
        }
        for (index, value) in [(5, 0x00), (6, 0x05), (7, 0x0f), (8, 0xff)] {
            adapter.pair(0x3ce, index, value);
        }
        adapter
    }

    fn out(&mut self, port: u16, value: u8) {
        self.vga.write8(port - FIRST_PORT, value, NOW);
    }

    fn inb(&mut self, port: u16) -> u8 {
        self.vga.read8(port - FIRST_PORT, NOW)
    }

    fn pair(&mut self, port: u16, index: usize, value: u8) {
        self.out(port, index as u8);
        self.out(port + 1, value);
    }

    fn graphics(&mut self, index: usize, value: u8) {
        self.pair(0x3ce, index, value);
    }

    fn write(&mut self, at: u64, value: u8) {
        self.vga.write_memory(&mut self.ram, 0, at, Size::Byte, value.into());
    }

    fn read(&mut self, at: u64) -> u8 {
        self.vga.read_memory(&self.ram, 0, at, Size::Byte) as u8
    }

    fn maps(&self, address: u16) -> [u8; 4] {
        memory::maps(self.ram.bytes(), address)
    }

    /// Fills the latches with these bytes.
    fn latch(&mut self, bytes: [u8; 4]) {
        self.ram.write(memory::group(0x8000), &bytes);
        self.read(0xa_8000);
    }
}

#[test]
fn write_mode_0_rotates_and_writes_the_maps_of_the_map_mask() {
    let mut a = Adapter::new();
    a.pair(0x3c4, MAP_MASK, 0b1010);
    a.graphics(DATA_ROTATE, 3);
    a.write(0xa_0005, 0b1000_0101);
    assert_eq!(a.maps(5), [0, 0b1011_0000, 0, 0b1011_0000]);
}

#[test]
fn write_mode_0_takes_enabled_maps_from_set_reset() {
    let mut a = Adapter::new();
    a.graphics(SET_RESET, 0b0101);
    a.graphics(ENABLE_SET_RESET, 0b0011);
    a.write(0xa_ffff, 0x3c);
    assert_eq!(a.maps(0xffff), [0xff, 0x00, 0x3c, 0x3c]);
}

#[test]
fn write_mode_0_takes_unmasked_bits_from_the_latches_and_applies_the_function() {
    let old = [0b1100_1100, 0xff, 0x00, 0x0f];
    let data = 0b1010_1010u8;
    let functions: [fn(u8, u8) -> u8; 4] = [|d, _| d, |d, l| d & l, |d, l| d | l, |d, l| d ^ l];
    for (select, function) in (0u8..).zip(functions) {
        let mut a = Adapter::new();
        a.latch(old);
        a.graphics(DATA_ROTATE, select << 3);
        a.graphics(BIT_MASK, 0xf0);
        a.write(0xa_0000, data);
        assert_eq!(a.maps(0), old.map(|latch| function(data, latch) & 0xf0 | latch & 0x0f), "{select}");
    }
}

#[test]
fn write_mode_1_copies_the_latches_whatever_the_processor_says() {
    let mut a = Adapter::new();
    a.latch([1, 2, 3, 4]);
    for (index, value) in [(MODE, 1), (BIT_MASK, 0), (ENABLE_SET_RESET, 0x0f), (DATA_ROTATE, 0x1b)] {
        a.graphics(index, value);
    }
    a.pair(0x3c4, MAP_MASK, 0b0111);
    a.write(0xa_0123, 0xee);
    assert_eq!(a.maps(0x123), [1, 2, 3, 0]);
}

#[test]
fn write_mode_2_gives_each_map_one_bit_of_the_data() {
    let mut a = Adapter::new();
    a.latch([0x0f; 4]);
    a.graphics(MODE, 2);
    a.graphics(BIT_MASK, 0x3c);
    a.graphics(DATA_ROTATE, 7);
    a.write(0xa_0001, 0xf6);
    assert_eq!(a.maps(1), [0x03, 0x3f, 0x3f, 0x03], "the rotate count is not used");
}

#[test]
fn write_mode_3_masks_set_reset_with_rotated_data_and_the_bit_mask() {
    let mut a = Adapter::new();
    a.latch([0x00, 0xff, 0x00, 0xff]);
    for (index, value) in [(MODE, 3), (SET_RESET, 0b0011), (BIT_MASK, 0xf8), (DATA_ROTATE, 4)] {
        a.graphics(index, value);
    }
    // E3h rotated by four is 3Eh, of which the bit mask leaves 38h
    a.write(0xa_0002, 0xe3);
    assert_eq!(a.maps(2), [0x38, 0xff, 0x00, 0xc7]);
}

#[test]
fn read_mode_0_reads_the_selected_map_and_loads_all_latches() {
    let mut a = Adapter::new();
    a.ram.write(memory::group(7), &[10, 20, 30, 40]);
    for (map, value) in [(0, 10), (1, 20), (2, 30), (3, 40)] {
        a.graphics(READ_MAP, map);
        assert_eq!(a.read(0xa_0007), value);
    }
    a.graphics(MODE, 1);
    a.write(0xa_0008, 0);
    assert_eq!(a.maps(8), [10, 20, 30, 40]);
}

#[test]
fn read_mode_1_compares_the_maps_that_are_cared_for_with_a_colour() {
    let mut a = Adapter::new();
    // pixels from the left: 0, 1, 2, 3, 4, 8, 15, 5
    a.ram.write(memory::group(0), &[0b0101_0011, 0b0011_0010, 0b0000_1011, 0b0000_0110]);
    a.graphics(MODE, READ_COMPARE);
    for (colour, cares, expected) in [
        (5, 0x0f, 0b0000_0001),
        (0, 0x0f, 0b1000_0000),
        (1, 0x03, 0b0100_0001),
        (4, 0x04, 0b0000_1011),
        (9, 0x00, 0b1111_1111),
    ] {
        a.graphics(COLOR_COMPARE, colour);
        a.graphics(COLOR_DONT_CARE, cares);
        assert_eq!(a.read(0xa_0000), expected, "colour {colour} of {cares:04b}");
    }
}

#[test]
fn odd_even_addressing_puts_characters_in_map_0_and_attributes_in_map_1() {
    let mut a = Adapter::new();
    a.pair(0x3c4, MEMORY_MODE, 0x02);
    a.graphics(MODE, ODD_EVEN);
    a.graphics(MISCELLANEOUS, 0x0e);
    a.vga.write_memory(&mut a.ram, 0, 0xb_8002, Size::Dword, 0x1f42_0741);
    assert_eq!((a.maps(2), a.maps(4)), ([0x41, 0x07, 0x41, 0x07], [0x42, 0x1f, 0x42, 0x1f]));
    assert_eq!(a.vga.read_memory(&a.ram, 0, 0xb_8002, Size::Dword), 0x1f42_0741);
    assert_eq!((a.read(0xa_0002), a.read(0xb_0002)), (0xff, 0xff), "the window is at B8000h alone");
    a.pair(0x3c4, MAP_MASK, 0x03);
    a.write(0xb_8000, 9);
    assert_eq!(a.maps(0), [9, 0, 0, 0]);
    // read map select 2 chooses maps 2 and 3
    a.graphics(READ_MAP, 2);
    assert_eq!([a.read(0xb_8002), a.read(0xb_8003)], [0x41, 0x07]);
}

#[test]
fn chain_4_goes_round_the_maps_and_uses_every_fourth_address_of_each() {
    let mut a = Adapter::new();
    a.pair(0x3c4, MEMORY_MODE, CHAIN_4 | SEQUENTIAL | 2);
    assert_eq!(a.vga.plain_window(), Some(0));
    a.vga.write_memory(&mut a.ram, 0, 0xa_0102, Size::Dword, 0x4433_2211);
    assert_eq!((a.maps(0x100), a.maps(0x104)), ([0, 0, 0x11, 0x22], [0x33, 0x44, 0, 0]));
    assert_eq!(a.ram.slice(0x102, 4), [0x11, 0x22, 0x33, 0x44], "as plain memory has it");
    for (index, value) in [(DATA_ROTATE, 1), (MODE, 1), (BIT_MASK, 0xfe), (ENABLE_SET_RESET, 1)] {
        let was = a.vga.graphics.register(index);
        a.graphics(index, value);
        assert_eq!(a.vga.plain_window(), None, "register {index} makes it more than memory");
        a.graphics(index, was);
    }
    a.pair(0x3c4, MAP_MASK, 0x02);
    a.vga.write_memory(&mut a.ram, 0, 0xa_0200, Size::Dword, 0x0403_0201);
    assert_eq!((a.vga.plain_window(), a.maps(0x200)), (None, [0, 2, 0, 0]));
}

#[test]
fn the_miscellaneous_output_register_moves_the_ports_and_hides_the_memory() {
    let mut a = Adapter::new();
    assert_eq!(a.inb(0x3cc), 0x63);
    a.pair(0x3d4, 0x0f, 0x55);
    a.pair(0x3b4, 0x0f, 0xaa);
    assert_eq!((a.inb(0x3d5), a.inb(0x3b5)), (0x55, 0xff));
    a.write(0xa_0000, 0x12);
    a.out(0x3c2, 0x60);
    a.write(0xa_0000, 0x34);
    assert_eq!((a.read(0xa_0000), a.maps(0)), (0xff, [0x12; 4]));
    a.out(0x3b4, 0x0f);
    assert_eq!((a.inb(0x3b5), a.inb(0x3d5)), (0x55, 0xff));
}

#[test]
fn reading_input_status_1_makes_the_next_attribute_write_an_index() {
    let mut a = Adapter::new();
    a.out(0x3c0, 0x11);
    a.inb(0x3da);
    for value in [0x12, 0x0a] {
        a.out(0x3c0, value);
    }
    assert_eq!((a.inb(0x3c0), a.inb(0x3c1)), (0x12, 0x0a));
    a.out(0x3da, 0xff);
    assert_eq!(a.inb(0x3ca), 0x0b);
}

#[test]
fn every_window_and_every_register_value_leaves_the_memory_in_bounds() {
    let mut a = Adapter::new();
    let mut random = 1u32;
    for _ in 0..20_000 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [index, value, which, low] = random.to_be_bytes();
        let port = [0x3c0, 0x3c2, 0x3c4, 0x3ce, 0x3d4, 0x3b4, 0x3c8, 0x3da][usize::from(which & 7)];
        a.out(port, index);
        a.out(port + 1, value);
        let at = 0xa_0000 + (u64::from(random) << 3 & 0x1_ffff);
        a.write(at, low);
        a.read(at);
        a.vga.peek_memory(&a.ram, 0, at);
    }
    let picture = a.vga.picture(a.ram.bytes());
    assert_eq!(picture.rgb.len(), (picture.width * picture.height * 3) as usize);
    a.vga.text(a.ram.bytes());
}
