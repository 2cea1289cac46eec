use super::*;

fn board() -> Board {
    Board::new(Config { memory: 2 << 20, ..Config::default() }).unwrap()
}

fn with_disk() -> Board {
    let disk = Disk::from_bytes((0..8 * 512).map(|at| (at / 512) as u8).collect::<Vec<_>>()).unwrap();
    Board::new(Config { memory: 2 << 20, disks: vec![disk], ..Config::default() }).unwrap()
}

fn out(board: &mut Board, port: u16, value: u8, now: Ticks) {
    board.port_write(port, Size::Byte, value.into(), now);
}

fn inb(board: &mut Board, port: u16, now: Ticks) -> u8 {
    board.port_read(port, Size::Byte, now) as u8
}

/// Lets time pass from deadline to deadline until an interrupt is up; its vector and the time.
fn wait(board: &mut Board, mut now: Ticks) -> Option<(u8, Ticks)> {
    for _ in 0..1000 {
        if board.interrupt() {
            return Some((board.acknowledge(now), now));
        }
        let next = board.tick(now)?;
        assert!(next > now, "a deadline lies ahead");
        now = next;
        board.tick(now);
    }
    None
}

#[test]
fn a_board_can_be_sent_to_another_thread_cloned_and_compared() {
    fn plain<T: Send + Clone + PartialEq>(_: &T) {}
    let mut board = board();
    plain(&board);
    let copy = board.clone();
    assert_eq!(board, copy);
    out(&mut board, 0x43, 0x34, Ticks(5));
    assert_ne!(board, copy);
}

#[test]
fn unclaimed_ports_read_all_ones() {
    let mut b = board();
    assert_eq!(b.port_read(0x2fd, Size::Byte, Ticks(0)), 0xff);
    assert_eq!(b.port_read(0xc000, Size::Dword, Ticks(0)), u32::MAX);
    assert_eq!(b.port_read(0x1f7, Size::Byte, Ticks(0)), 0, "a channel without a disk");
}

#[test]
fn wide_accesses_are_split_over_neighbouring_ports_and_wrap() {
    let mut b = board();
    b.port_write(0x3f8 + 6, Size::Word, 0x5a00, Ticks(0));
    assert_eq!(b.port_read(0x3f8 + 6, Size::Word, Ticks(0)), 0x5ab0);
    // the last of these four is the firmware's console, 402h
    assert_eq!(b.port_read(0x3f8 + 7, Size::Dword, Ticks(0)), 0xe9ff_ff5a);
    assert_eq!(b.port_read(0xffff, Size::Dword, Ticks(0)), u32::MAX);
}

#[test]
fn the_debug_ports_print_and_exit_at_every_width() {
    let mut b = board();
    assert_eq!(inb(&mut b, 0xe9, Ticks(0)), 0xe9);
    out(&mut b, 0xe9, b'!', Ticks(0));
    assert_eq!(b.take_debug_output(), b"!");
    for (size, value) in [(Size::Byte, 0x21), (Size::Word, 0x4321), (Size::Dword, 0x8765_4321)] {
        assert_eq!(b.take_request(), None);
        b.port_write(0xf4, size, 0x8765_4321, Ticks(0));
        assert_eq!(b.take_request(), Some(Request::Exit(value)));
    }
}

#[test]
fn address_line_20_follows_either_gate_and_moves_the_layout() {
    let mut b = board();
    assert_eq!(b.frame(0x100), Frame::Ram(0x10_0000));
    let before = b.layout();
    out(&mut b, 0x64, 0xd1, Ticks(0));
    out(&mut b, 0x60, 0xdd, Ticks(0));
    assert_ne!(b.layout(), before);
    // The last page below 1 MiB is the last of the ROM, which is stored after 2 MiB of RAM.
    assert_eq!((b.frame(0x100), b.frame(0x1ff)), (Frame::Ram(0), Frame::Rom(0x20_f000)));
    let before = b.layout();
    out(&mut b, 0x92, 0x02, Ticks(0));
    assert_ne!(b.layout(), before);
    assert_eq!(b.frame(0x100), Frame::Ram(0x10_0000));
}

#[test]
fn the_reset_lines_of_port_92_and_the_keyboard_controller_ask_for_a_reset() {
    let mut b = board();
    out(&mut b, 0x92, 0x01, Ticks(0));
    assert_eq!(b.take_request(), Some(Request::Reset));
    out(&mut b, 0x64, 0xfe, Ticks(0));
    assert_eq!(b.take_request(), Some(Request::Reset));
    assert_eq!(b.take_request(), None);
}

#[test]
fn the_timer_left_by_the_firmware_interrupts_18_times_a_second() {
    let mut b = board();
    b.firmware_defaults();
    let mut now = Ticks(0);
    let mut ticks = 0;
    loop {
        let (vector, at) = wait(&mut b, now).unwrap();
        if at.0 > 1_000_000_000 {
            break;
        }
        assert_eq!(vector, 0x08);
        out(&mut b, 0x20, 0x20, at);
        (now, ticks) = (at, ticks + 1);
    }
    assert_eq!(ticks, 18);
}

#[test]
fn serial_input_arrives_as_interrupt_4_and_output_is_drained() {
    let mut b = board();
    b.firmware_defaults();
    for (port, value) in
        [(0x21, 0xef), (0x3fb, 0x80), (0x3f8, 1), (0x3f9, 0), (0x3fb, 3), (0x3fc, 0x0b), (0x3f9, 1)]
    {
        out(&mut b, port, value, Ticks(0));
    }
    b.input(&Input::Serial { port: 0, bytes: b"k".to_vec() }, Ticks(1000));
    let (vector, at) = wait(&mut b, Ticks(1000)).unwrap();
    assert_eq!((vector, at), (0x0c, Ticks(1000 + 86_805)));
    assert_eq!(inb(&mut b, 0x3f8, at), b'k');
    out(&mut b, 0x3f8, b'K', at);
    assert_eq!(b.take_serial_output(0), b"K");
    b.input(&Input::Serial { port: 7, bytes: b"nowhere".to_vec() }, at);
    assert_eq!(b.take_serial_output(7), b"");
}

#[test]
fn a_key_arrives_as_interrupt_1() {
    let mut b = board();
    b.firmware_defaults();
    out(&mut b, 0x21, 0xfd, Ticks(0));
    b.input(&Input::Keys(vec![0x1c]), Ticks(0));
    let (vector, at) = wait(&mut b, Ticks(0)).unwrap();
    assert_eq!((vector, inb(&mut b, 0x60, at)), (0x09, 0x1c));
}

#[test]
fn a_disk_read_arrives_as_interrupt_14_and_moves_words_and_dwords() {
    let mut b = with_disk();
    b.firmware_defaults();
    out(&mut b, 0x21, 0xfb, Ticks(0));
    out(&mut b, 0xa1, 0xbf, Ticks(0));
    for (port, value) in [(0x1f6, 0xe0), (0x1f2, 1), (0x1f3, 3), (0x1f4, 0), (0x1f5, 0), (0x1f7, 0x20)] {
        out(&mut b, port, value, Ticks(0));
    }
    let (vector, at) = wait(&mut b, Ticks(0)).unwrap();
    assert_eq!(vector, 0x76);
    assert_eq!(b.port_read(0x1f0, Size::Word, at), 0x0303);
    assert_eq!(b.port_read(0x1f0, Size::Dword, at), 0x0303_0303);
    for _ in 0..253 {
        b.port_read(0x1f0, Size::Word, at);
    }
    assert_eq!(inb(&mut b, 0x1f7, at), 0x50);
    assert_eq!(inb(&mut b, 0x3f6, at), 0x50);
}

#[test]
fn the_clock_pulls_interrupt_8() {
    let mut b = board();
    b.firmware_defaults();
    for (port, value) in [(0x21, 0xfb), (0xa1, 0xfe), (0x70, 0x0b), (0x71, 0x12)] {
        out(&mut b, port, value, Ticks(0));
    }
    assert_eq!(wait(&mut b, Ticks(0)), Some((0x70, Ticks(1_000_000_000))));
}

#[test]
fn a_sleeping_processor_can_be_woken_only_by_unmasked_lines_of_live_chips() {
    let mut b = board();
    b.firmware_defaults();
    assert!(b.can_interrupt(), "the timer runs");
    out(&mut b, 0x21, 0xff, Ticks(0));
    assert!(!b.can_interrupt());
    out(&mut b, 0x21, 0xef, Ticks(0));
    assert!(!b.can_interrupt(), "the serial port's interrupts are off");
    out(&mut b, 0x3f9, 0x01, Ticks(0));
    out(&mut b, 0x3fc, 0x08, Ticks(0));
    assert!(b.can_interrupt(), "serial input may come");
}

#[test]
fn counter_2_is_seen_through_port_61() {
    let mut b = board();
    // Mode 0, count 1193: about a millisecond after its gate opens.
    for (port, value) in [(0x61, 0x00), (0x43, 0xb0), (0x42, 0xa9), (0x42, 0x04), (0x61, 0x01)] {
        out(&mut b, port, value, Ticks(0));
    }
    assert_eq!(inb(&mut b, 0x61, Ticks(999_000)) & 0x21, 0x01);
    assert_eq!(inb(&mut b, 0x61, Ticks(1_002_000)) & 0x21, 0x21);
}

#[test]
fn cmos_tells_the_memory_in_three_ways_and_its_checksum_is_right() {
    let disk = Disk::blank(100_000);
    let mut b = Board::new(Config { memory: 128 << 20, disks: vec![disk], ..Config::default() }).unwrap();
    let mut cmos = |index: u8| {
        out(&mut b, 0x70, index, Ticks(0));
        u16::from(inb(&mut b, 0x71, Ticks(0)))
    };
    let mut word = |index: u8| cmos(index) | cmos(index + 1) << 8;
    // As QEMU shows for -m 128M: 640 KiB, 65535 KiB and more, 112 MiB above 16 MiB.
    assert_eq!((word(0x15), word(0x17), word(0x30), word(0x34)), (640, 0xffff, 0xffff, 0x0700));
    assert_eq!((cmos(0x5b), cmos(0x5c), cmos(0x5d)), (0, 0, 0));
    assert_eq!((cmos(0x12), cmos(0x19), cmos(0x1d), cmos(0x23)), (0xf0, 47, 16, 63));
    let sum: u16 = (0x10..=0x2d).map(&mut cmos).sum();
    assert_eq!(sum, cmos(0x2e) << 8 | cmos(0x2f));
}

#[test]
fn the_bios_data_area_and_the_vectors_are_there() {
    let mut b = with_disk();
    b.firmware_defaults();
    let word = |b: &Board, at: u64| {
        let mut bytes = [0; 2];
        b.peek(Phys(at), &mut bytes);
        u16::from_le_bytes(bytes)
    };
    assert_eq!([0x400, 0x402, 0x40e, 0x413, 0x463].map(|at| word(&b, at)), [0x3f8, 0, 0x9fc0, 639, 0x3d4]);
    assert_eq!(word(&b, 0x410) & 0x0e30, 0x0220);
    assert_eq!([0x20, 0x22, 0x40, 0x42].map(|at| word(&b, at)), [0xfea5, 0xf000, 0xff53, 0xf000]);
    assert_eq!(word(&b, 0xf_ff53) & 0xff, 0xcf);
    assert_eq!(word(&b, 0xffff_ff53) & 0xff, 0xcf);
}

#[test]
fn the_chips_are_left_as_seabios_leaves_them() {
    // As read by a kernel started with qemu-system-i386 7.2 -M pc -kernel.
    let mut b = board();
    b.firmware_defaults();
    assert_eq!([0x21, 0xa1, 0x92, 0x64].map(|port| inb(&mut b, port, Ticks(0))), [0xb8, 0x8e, 0x02, 0x14]);
    out(&mut b, 0x43, 0xe2, Ticks(5000));
    assert_eq!(inb(&mut b, 0x40, Ticks(5000)) & 0x3f, 0x34);
    out(&mut b, 0x64, 0x20, Ticks(5000));
    assert_eq!(inb(&mut b, 0x60, Ticks(5000)) & !0x04, 0x61);
    assert!(b.screen().iter().all(String::is_empty));
}

#[test]
fn text_in_the_vga_window_is_on_the_screen() {
    let mut b = board();
    b.firmware_defaults();
    b.mmio_write(Phys(0xb_8000 + 160), Size::Dword, u32::from_le_bytes(*b"p\x07w\x1f"), Ticks(0));
    assert_eq!(b.screen()[1], "pw");
}

#[test]
fn bytes_are_placed_across_pages_in_ram_and_rom_but_not_in_holes() {
    let mut b = board();
    b.place(Phys(0x8_fffe), &[1, 2, 3, 4]).unwrap();
    let mut read = [0; 4];
    b.peek(Phys(0x8_fffe), &mut read);
    assert_eq!(read, [1, 2, 3, 4]);
    b.place(Phys(0xf_0000), &[9]).unwrap();
    let error = b.place(Phys(0x1f_fffe), &[0; 4]).unwrap_err();
    assert_eq!(error.to_string(), "4 bytes can't be placed at 0x1ffffe: there is no memory at 0x200000");
    assert!(b.place(Phys(u64::MAX), &[0; 4]).is_err());
    b.place(Phys(0x1234_5678_9abc), &[]).unwrap();
}

#[test]
fn a_firmware_rom_ends_at_1_mib_and_at_4_gib() {
    let mut rom = vec![0x90; 5000];
    *rom.last_mut().unwrap() = 0x5a;
    let b = Board::new(Config { memory: 2 << 20, rom: Some(rom), ..Config::default() }).unwrap();
    for end in [0x10_0000, 0x1_0000_0000u64] {
        let mut bytes = [0; 5001];
        b.peek(Phys(end - 5001), &mut bytes);
        assert_eq!((bytes[0], bytes[1], bytes[5000]), (0, 0x90, 0x5a));
    }
}

#[test]
fn impossible_boards_are_refused() {
    let build = |change: fn(&mut Config)| {
        let mut config = Config { memory: 1 << 20, ..Config::default() };
        change(&mut config);
        Board::new(config).unwrap_err().to_string()
    };
    assert_eq!(
        build(|c| c.memory = 1000),
        "1000 bytes of memory are not possible: give a multiple of 4 KiB from 1 MiB to 64 GiB"
    );
    assert_eq!(build(|c| c.disks = vec![Disk::blank(1); 5]), "5 disks are too many: there is room for 4");
    assert_eq!(build(|c| c.serial_ports = 3), "3 serial ports are too many: there is room for 2");
    assert_eq!(
        build(|c| (c.disks, c.cdrom) = (vec![Disk::blank(1); 4], Some(Disk::blank(4)))),
        "4 disks and a CD-ROM drive are too many: there is room for 3 disks beside it"
    );
    assert!(build(|c| c.rom = Some(Vec::new())).starts_with("a firmware ROM of 0 bytes"));
}

#[test]
fn reset_takes_the_chips_back_and_keeps_memory_clock_and_disks() {
    let mut b = with_disk();
    b.firmware_defaults();
    b.place(Phys(0x5000), &[7]).unwrap();
    out(&mut b, 0x70, 0x40, Ticks(0));
    out(&mut b, 0x71, 0x77, Ticks(0));
    out(&mut b, 0x3fc, 0x0b, Ticks(0));
    b.reset(Ticks(50));
    assert_eq!((inb(&mut b, 0x71, Ticks(50)), inb(&mut b, 0x3fc, Ticks(50))), (0x77, 0));
    let mut byte = [0];
    b.peek(Phys(0x5000), &mut byte);
    assert_eq!((byte[0], b.disk(0).unwrap().sectors()), (7, 8));
    assert_eq!(b.frame(0x100), Frame::Ram(0x10_0000));
    assert!(!b.interrupt());
}

proptest::proptest! {
    #[test]
    fn no_sequence_of_port_accesses_panics_or_puts_a_deadline_in_the_past(
        accesses in proptest::collection::vec((0usize..64, 0u8.., 0u32..6, 0u64..3_000_000), 0..300)
    ) {
        let mut b = with_disk();
        let claimed: Vec<u16> = (0..=0xffff).filter(|&port| b.ports.find(port).is_some()).collect();
        let mut now = Ticks(0);
        for (place, value, how, pass) in accesses {
            let port = claimed[place % claimed.len()];
            match how {
                0 => { b.port_read(port, Size::Byte, now); }
                1 => { b.port_read(port, Size::Dword, now); }
                2 => b.port_write(port, Size::Word, u32::from(value) * 0x101, now),
                3 if b.interrupt() => { b.acknowledge(now); }
                _ => out(&mut b, port, value, now),
            }
            now = Ticks(now.0 + pass);
            if let Some(next) = b.tick(now) {
                assert!(next > now);
            }
        }
    }
}

#[test]
fn the_power_buttons_registers_stand_at_600h_and_soft_off_ends_the_run() {
    let mut b = board();
    assert_eq!(b.port_read(0x604, Size::Word, Ticks(0)), 0xffff, "nobody has given them ports");
    b.firmware_defaults();
    b.port_write(0xb2, Size::Byte, 0xf1, Ticks(0));
    assert_eq!(b.port_read(0x604, Size::Word, Ticks(0)), 1, "ACPI mode");
    assert_eq!(b.port_read(0x608, Size::Dword, Ticks(1_000_000_000)), 3_579_545);
    b.port_write(0x604, Size::Word, 0x2001, Ticks(0));
    assert_eq!(b.take_request(), Some(Request::PowerOff));
}

#[test]
fn a_kernel_finds_the_8259a_behind_lint0_and_the_tables_in_the_rom_area() {
    let mut b = board();
    b.fit_local_apics(1);
    b.firmware_defaults();
    assert_eq!(b.mmio_read(Phys(0xfee0_0350), Size::Dword, Ticks(0)), 0x8700);
    assert_eq!(b.frame(0xfee00), Frame::Device);
    let mut found = [0; 8];
    b.peek(Phys(0xf_0000), &mut found);
    assert_eq!(&found, b"RSD PTR ");
    b.peek(Phys(0xf_0020), &mut found);
    assert_eq!(&found[..4], b"_MP_");
    let first = wait(&mut b, Ticks(0)).unwrap();
    assert_eq!(first.0, 8, "the timer, through the 8259A");
}

#[test]
fn the_local_apics_timer_interrupts_through_the_whole_board_and_keeps_it_awake() {
    let mut b = board();
    b.fit_local_apics(1);
    assert!(!b.can_interrupt());
    for (offset, value) in [(0xf0, 0x1ff), (0x3e0, 0xb), (0x320, 0x40), (0x380, 1000)] {
        b.mmio_write(Phys(0xfee0_0000 + offset), Size::Dword, value, Ticks(500));
    }
    assert!(b.can_interrupt());
    assert_eq!(b.tick(Ticks(501)), Some(Ticks(10_500)));
    assert_eq!(wait(&mut b, Ticks(501)), Some((0x40, Ticks(10_500))));
}

#[test]
fn the_frame_buffer_and_its_bank_window_are_one_memory_of_frames() {
    let mut b = board();
    b.firmware_defaults();
    assert_eq!(b.frame(0xb8), Frame::Device);
    for (index, value) in [(1u32, 640u32), (2, 480), (3, 8), (4, 0x41), (5, 2)] {
        b.port_write(0x1ce, Size::Word, index, Ticks(0));
        b.port_write(0x1cf, Size::Word, value, Ticks(0));
    }
    let Frame::Ram(video) = b.frame(0xf_d000) else { panic!("the frame buffer is memory") };
    assert_eq!(b.frame(0xa0), Frame::Ram(video + 0x2_0000));
    assert_eq!(b.phys_of(video + 5), Phys(0xfd00_0005));
    b.ram_mut().write(video, &[9; 640]);
    assert_eq!((b.picture().width, b.picture().height), (640, 480));
    // switching on again clears it, and off brings the text window back
    b.port_write(0x1ce, Size::Word, 4, Ticks(0));
    b.port_write(0x1cf, Size::Word, 0, Ticks(0));
    assert_eq!((b.frame(0xa0), b.frame(0xb8)), (Frame::Device, Frame::Device));
    b.port_write(0x1cf, Size::Word, 0x41, Ticks(0));
    assert_eq!(b.ram().slice(video, 640), [0; 640]);
    // the registers are in memory too: 500h + 2 * index
    assert_eq!(b.mmio_read(Phys(0xfebf_0502), Size::Word, Ticks(0)), 640);
    b.mmio_write(Phys(0xfebf_0508), Size::Word, 0, Ticks(0));
    assert_eq!(b.port_read(0x1cf, Size::Word, Ticks(0)), 0);
    assert_eq!(b.mmio_read(Phys(0xfebf_040c), Size::Byte, Ticks(0)), 0x67, "port 3CCh");
}

#[test]
fn a_video_bios_stands_where_the_expansion_rom_register_says() {
    let config = Config { memory: 2 << 20, video_rom: Some(vec![0x55; 5000]), ..Config::default() };
    let mut b = Board::new(config).unwrap();
    let mut configure = |register: u32, value: u32| {
        b.port_write(0xcf8, Size::Dword, 0x8000_1000 | register, Ticks(0));
        b.port_write(0xcfc, Size::Dword, value, Ticks(0));
        b.port_read(0xcfc, Size::Dword, Ticks(0))
    };
    assert_eq!(configure(0x30, 0xffff_f800), 0xffff_e000, "8 KiB");
    configure(0x30, 0xfeb0_0001);
    configure(0x04, 2);
    let Frame::Rom(_) = b.frame(0xf_eb00) else { panic!("the ROM is read-only memory") };
    let mut end = [0; 2];
    b.peek(Phys(0xfeb0_0000 + 4999), &mut end);
    assert_eq!((end, b.frame(0xf_eb02)), ([0x55, 0], Frame::Device));
    let none = Config { video_rom: Some(Vec::new()), ..Config::default() };
    assert_eq!(Board::new(none).unwrap_err(), BoardError::VideoRom(0));
}

#[test]
fn the_floppy_controllers_reset_interrupts_on_request_6() {
    let mut b = board();
    b.firmware_defaults();
    out(&mut b, 0x21, 0xbf, Ticks(0));
    out(&mut b, 0x3f2, 0x0c, Ticks(0));
    assert_eq!(wait(&mut b, Ticks(0)).map(|(vector, _)| vector), Some(0x0e));
    assert_eq!(inb(&mut b, 0x3f4, Ticks(0)), 0x80);
}
