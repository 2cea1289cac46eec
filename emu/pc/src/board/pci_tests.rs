//! PCI, shadow memory and DMA through the whole board.

use super::*;

const NOW: Ticks = Ticks(0);

fn config(board: &mut Board, address: u32, value: Option<u32>) -> u32 {
    board.port_write(0xcf8, Size::Dword, 0x8000_0000 | address, NOW);
    if let Some(value) = value {
        board.port_write(0xcfc, Size::Dword, value, NOW);
    }
    board.port_read(0xcfc, Size::Dword, NOW)
}

fn numbered(sectors: usize) -> Disk {
    Disk::from_bytes((0..sectors * 512).map(|at| (at / 512) as u8).collect::<Vec<_>>()).unwrap()
}

#[test]
fn mechanism_1_takes_dwords_at_cf8_and_any_size_at_cfc() {
    let mut b = Board::new(Config::default()).unwrap();
    assert_eq!(config(&mut b, 0, None), 0x1237_8086);
    assert_eq!(b.port_read(0xcfe, Size::Word, NOW), 0x1237);
    assert_eq!(b.port_read(0xcfd, Size::Byte, NOW), 0x80);
    assert_eq!(b.port_read(0xcf8, Size::Dword, NOW), 0x8000_0000);
    b.port_write(0xcf8, Size::Word, 0x0800, NOW);
    b.port_write(0xcf8, Size::Byte, 0x08, NOW);
    assert_eq!(b.port_read(0xcf8, Size::Dword, NOW), 0x8000_0000, "narrow accesses are not its own");
    assert_eq!(b.port_read(0xcf8, Size::Word, NOW), 0x00ff);
}

#[test]
fn a_rise_of_bit_2_of_reset_control_resets() {
    let mut b = Board::new(Config::default()).unwrap();
    b.port_write(0xcf9, Size::Byte, 0x02, NOW);
    assert_eq!(b.take_request(), None);
    b.port_write(0xcf9, Size::Byte, 0x06, NOW);
    assert_eq!(b.take_request(), Some(Request::Reset));
}

#[test]
fn the_bus_master_moves_with_its_base_address() {
    let mut b = Board::new(Config::default()).unwrap();
    b.firmware_defaults();
    assert_eq!(b.port_read(0xc002, Size::Byte, NOW), 0);
    config(&mut b, 0x920, Some(0xd000));
    assert_eq!((b.port_read(0xc002, Size::Byte, NOW), b.port_read(0xd002, Size::Byte, NOW)), (0xff, 0));
    b.reset(NOW);
    assert_eq!(b.port_read(0xd002, Size::Byte, NOW), 0xff);
}

#[test]
fn pam_lets_a_firmware_copy_itself_into_ram() {
    let mut b = Board::new(Config { rom: Some(vec![0x5a; 0x2_0000]), ..Config::default() }).unwrap();
    let layout = b.layout();
    // writes alone to RAM: reads still see the ROM
    config(&mut b, 0x58, Some(0x0000_2000));
    assert_ne!(b.layout(), layout);
    assert_eq!(b.frame(0xf0), Frame::Device);
    b.mmio_write(Phys(0xf_0010), Size::Dword, 0x1234_5678, NOW);
    assert_eq!(b.mmio_read(Phys(0xf_0010), Size::Dword, NOW), 0x5a5a_5a5a);
    // reads alone
    config(&mut b, 0x58, Some(0x0000_1000));
    assert_eq!(b.frame(0xf0), Frame::Rom(0xf_0000));
    let mut bytes = [0; 4];
    b.peek(Phys(0xf_0010), &mut bytes);
    assert_eq!(bytes, [0x78, 0x56, 0x34, 0x12]);
    config(&mut b, 0x58, Some(0x0000_3000));
    assert_eq!(b.frame(0xf0), Frame::Ram(0xf_0000));
    b.reset(NOW);
    b.peek(Phys(0xf_0010), &mut bytes);
    assert_eq!(bytes, [0x5a; 4]);
}

/// A disk command by DMA: a descriptor table at 1000h, data from `regions`, until interrupt 14; the bus master's status.
fn dma(b: &mut Board, regions: &[(u32, u16)], command: u8, direction: u8, registers: &[(u16, u8)]) -> u8 {
    for (index, &(at, len)) in regions.iter().enumerate() {
        let end = if index + 1 == regions.len() { 0x8000_0000 } else { 0 };
        let row = [at.to_le_bytes(), (u32::from(len) | end).to_le_bytes()].concat();
        b.place(Phys(0x1000 + 8 * index as u64), &row).unwrap();
    }
    b.port_write(0xc004, Size::Dword, 0x1000, NOW);
    b.port_write(0xc002, Size::Byte, 0x06, NOW);
    b.port_write(0xc000, Size::Byte, direction.into(), NOW);
    for &(port, value) in registers {
        b.port_write(port, Size::Byte, value.into(), NOW);
    }
    b.port_write(0x1f7, Size::Byte, command.into(), NOW);
    b.port_write(0xc000, Size::Byte, u32::from(direction) | 1, NOW);
    let mut now = NOW;
    while b.port_read(0xc002, Size::Byte, now) & 0x04 == 0 {
        let Some(next) = b.tick(now) else { break };
        now = next;
        b.tick(now);
        if now.0 > 100_000_000 {
            break;
        }
    }
    let status = b.port_read(0xc002, Size::Byte, now) as u8;
    b.port_write(0xc000, Size::Byte, direction.into(), now);
    status
}

const LBA28: &[(u16, u8)] = &[(0x1f6, 0xe0), (0x1f2, 4), (0x1f3, 3), (0x1f4, 0), (0x1f5, 0)];

fn with_disk() -> Board {
    let mut b = Board::new(Config { disks: vec![numbered(64)], ..Config::default() }).unwrap();
    b.firmware_defaults();
    b
}

#[test]
fn a_disk_is_read_into_scattered_regions_and_interrupts_once_at_the_end() {
    let mut b = with_disk();
    config(&mut b, 0x904, Some(0x05));
    let status = dma(&mut b, &[(0x2f00, 0x300), (0x8000, 0x500)], 0xc8, 0x08, LBA28);
    assert_eq!(status, 0x04, "interrupt, no longer active");
    let mut bytes = [0; 0x300];
    b.peek(Phys(0x2f00), &mut bytes);
    assert_eq!((bytes[0], bytes[0x1ff], bytes[0x200], bytes[0x2ff]), (3, 3, 4, 4));
    b.peek(Phys(0x8000), &mut bytes);
    assert_eq!((bytes[0], bytes[0xff], bytes[0x100]), (4, 4, 5));
    assert_eq!(b.port_read(0x1f7, Size::Byte, Ticks(1 << 30)), 0x50);
}

#[test]
fn nothing_moves_while_bus_mastering_is_off() {
    let mut b = with_disk();
    assert_eq!(dma(&mut b, &[(0x8000, 0x800)], 0xc8, 0x08, LBA28), 0x01);
    assert_eq!(b.port_read(0x3f6, Size::Byte, Ticks(1 << 30)), 0x58);
}

#[test]
fn a_table_longer_than_the_transfer_leaves_the_bus_master_active() {
    let mut b = with_disk();
    config(&mut b, 0x904, Some(0x05));
    assert_eq!(dma(&mut b, &[(0x8000, 0x800), (0x9000, 0x200)], 0xc8, 0x08, LBA28), 0x05);
}

#[test]
fn a_table_shorter_than_the_transfer_ends_without_an_interrupt() {
    let mut b = with_disk();
    config(&mut b, 0x904, Some(0x05));
    assert_eq!(dma(&mut b, &[(0x8000, 0x200)], 0xc8, 0x08, LBA28), 0x00);
}

#[test]
fn a_disk_is_written_by_dma_with_48_bits_of_address() {
    let mut b = with_disk();
    config(&mut b, 0x904, Some(0x05));
    b.place(Phys(0x8000), &[0xaa; 0x200]).unwrap();
    b.place(Phys(0x9000), &[0xbb; 0x200]).unwrap();
    let registers = [
        (0x1f6, 0x40),
        (0x1f2, 0),
        (0x1f3, 0),
        (0x1f4, 0),
        (0x1f5, 0),
        (0x1f2, 2),
        (0x1f3, 60),
        (0x1f4, 0),
        (0x1f5, 0),
    ];
    assert_eq!(dma(&mut b, &[(0x8000, 0x200), (0x9000, 0x200)], 0x35, 0x00, &registers), 0x04);
    let mut sector = [0; 512];
    for (lba, byte) in [(59, 59), (60, 0xaa), (61, 0xbb), (62, 62)] {
        b.disk(0).unwrap().read(lba, &mut sector).unwrap();
        assert_eq!(sector, [byte; 512], "{lba}");
    }
}

#[test]
fn dma_reaches_ram_only_and_forgets_what_goes_elsewhere() {
    let mut b = with_disk();
    config(&mut b, 0x904, Some(0x05));
    assert_eq!(dma(&mut b, &[(0xffff_0000, 0x400), (0xe000_0000, 0x400)], 0xc8, 0x08, LBA28), 0x04);
    let mut byte = [0; 2];
    b.peek(Phys(0xffff_fff0), &mut byte);
    assert_eq!(byte, [0xfa, 0xf4]);
}

#[test]
fn a_disc_stands_at_the_secondary_master_and_the_third_disk_beside_it() {
    let disks = vec![Disk::blank(1), Disk::blank(2), Disk::blank(3)];
    let b = Board::new(Config { disks, cdrom: Some(Disk::blank(8)), ..Config::default() }).unwrap();
    let sizes = [0, 1, 2, 3].map(|place| b.disk(place).unwrap().sectors());
    assert_eq!(sizes, [1, 2, 8, 3]);
}

#[test]
fn the_firmware_configuration_is_read_by_ports_and_by_dma() {
    let file = File { name: "opt/test".into(), data: (0..=255).cycle().take(5000).collect() };
    let mut b = Board::new(Config { files: vec![file], ..Config::default() }).unwrap();
    b.port_write(0x510, Size::Word, 0, NOW);
    let signature: Vec<u8> = (0..4).map(|_| b.port_read(0x511, Size::Byte, NOW) as u8).collect();
    assert_eq!(signature, b"QEMU");
    // select file 21h, which comes after etc/e820, and read all of it to 8800h
    let request =
        [0x0021_000au32.to_be_bytes(), 5002u32.to_be_bytes(), [0; 4], 0x8800u32.to_be_bytes()].concat();
    b.place(Phys(0x7000), &request).unwrap();
    b.place(Phys(0x8800), &[0xee; 6000]).unwrap();
    b.port_write(0x518, Size::Dword, 0x7000u32.swap_bytes(), NOW);
    let mut bytes = vec![0; 5003];
    b.peek(Phys(0x8800), &mut bytes);
    assert_eq!((bytes[4999], bytes[300], bytes[5000], bytes[5001], bytes[5002]), (0x87, 44, 0, 0, 0xee));
    let mut control = [0xff; 4];
    b.peek(Phys(0x7000), &mut control);
    assert_eq!(control, [0; 4]);
}

#[test]
fn a_firmwares_messages_are_kept_apart() {
    let mut b = Board::new(Config::default()).unwrap();
    assert_eq!(b.port_read(0x402, Size::Byte, NOW), 0xe9);
    b.port_write(0x402, Size::Byte, u32::from(b'!'), NOW);
    assert_eq!((b.take_firmware_messages(), b.take_debug_output()), (b"!".to_vec(), Vec::new()));
}
