//! Expected values are those of ATA/ATAPI-6 (T13/1410D, revision 3b).

use super::*;

/// A channel, and a host that waits as the standard's host protocols do.
struct Bench {
    channel: AtaChannel,
    now: Ticks,
}

fn numbered(sectors: u64) -> Disk {
    let bytes: Vec<u8> = (0..sectors).flat_map(|lba| [lba as u8; SECTOR]).collect();
    Disk::from_bytes(bytes).unwrap()
}

impl Bench {
    fn new(sectors: u64) -> Bench {
        Bench { channel: AtaChannel::new([Some(Medium::Disk(numbered(sectors))), None]), now: Ticks(1) }
    }

    fn out(&mut self, offset: u16, value: u8) {
        self.channel.write8(offset, value, self.now);
    }

    fn read(&mut self, offset: u16) -> u8 {
        self.channel.read8(offset, self.now)
    }

    fn address(&mut self, lba: u32, count: u8) {
        let [low, mid, high, top] = lba.to_le_bytes();
        let device = 0xe0 | top & 15;
        for (offset, value) in
            [(DEVICE, device), (SECTOR_COUNT, count), (LBA_LOW, low), (LBA_MID, mid), (LBA_HIGH, high)]
        {
            self.out(offset, value);
        }
    }

    /// Waits for BSY to clear; returns the alternate status and whether INTRQ is up.
    fn settle(&mut self) -> (u8, bool) {
        while let Some(next) = self.channel.tick(self.now) {
            assert_eq!(self.read(CONTROL), STATUS_BSY);
            self.now = next;
        }
        (self.read(CONTROL), self.channel.irq.level())
    }

    fn command(&mut self, command: u8) -> (u8, bool) {
        self.out(STATUS_COMMAND, command);
        assert_eq!(self.read(CONTROL), STATUS_BSY);
        self.settle()
    }

    fn words(&mut self, count: usize) -> Vec<u16> {
        (0..count).map(|_| self.channel.read_wide(Size::Word, self.now) as u16).collect()
    }

    fn send(&mut self, byte: u8, words: usize) {
        for _ in 0..words {
            self.channel.write_wide(Size::Word, u32::from_le_bytes([byte; 4]), self.now);
        }
    }

    fn registers(&mut self) -> [u8; 5] {
        [SECTOR_COUNT, LBA_LOW, LBA_MID, LBA_HIGH, DEVICE].map(|offset| self.read(offset))
    }

    fn sector(&self, lba: u64) -> u8 {
        let mut sector = [0; SECTOR];
        self.channel.disk(0).unwrap().read(lba, &mut sector).unwrap();
        assert!(sector.iter().all(|&byte| byte == sector[0]));
        sector[0]
    }
}

const READY: u8 = STATUS_DRDY | STATUS_DSC;

#[test]
fn identify_tells_geometry_capacity_and_names() {
    let mut b = Bench::new(2016);
    assert_eq!(b.command(0xec), (READY | STATUS_DRQ, true));
    let words = b.words(256);
    assert_eq!((words[0] & 0x8000, words[1], words[3], words[6]), (0, 2, 16, 63));
    assert_eq!((words[60], words[61], words[49] & 0x200), (2016, 0, 0x200));
    assert_eq!(words[27], u16::from_be_bytes(*b"PA"));
    assert_eq!(b.read(STATUS_COMMAND), READY);
    assert!(!b.channel.irq.level(), "reading status takes the interrupt back");
}

#[test]
fn reading_sectors_interrupts_once_before_each_and_not_after_the_last() {
    let mut b = Bench::new(64);
    b.address(5, 2);
    assert_eq!(b.command(0x20), (READY | STATUS_DRQ, true));
    assert_eq!(b.read(STATUS_COMMAND), READY | STATUS_DRQ);
    assert_eq!(b.words(256), [0x0505; 256]);
    assert_eq!(b.settle(), (READY | STATUS_DRQ, true));
    b.read(STATUS_COMMAND);
    assert_eq!(b.words(256), [0x0606; 256]);
    assert_eq!(b.settle(), (READY, false));
    assert_eq!(b.registers(), [0, 6, 0, 0, 0xe0], "the last sector's address, and a count of 0");
}

#[test]
fn writing_sectors_asks_for_the_first_without_an_interrupt() {
    let mut b = Bench::new(64);
    b.address(5, 2);
    assert_eq!(b.command(0x30), (READY | STATUS_DRQ, false));
    b.send(0xaa, 256);
    assert_eq!(b.settle(), (READY | STATUS_DRQ, true));
    b.read(STATUS_COMMAND);
    b.send(0xbb, 256);
    assert_eq!(b.settle(), (READY, true));
    assert_eq!([4, 5, 6, 7].map(|lba| b.sector(lba)), [4, 0xaa, 0xbb, 7]);
}

#[test]
fn a_sector_count_of_0_means_256() {
    let mut b = Bench::new(300);
    b.address(0, 0);
    b.command(0x20);
    for lba in 0..256 {
        assert_eq!(b.settle().0, READY | STATUS_DRQ);
        assert_eq!(b.words(256)[255], u16::from_le_bytes([lba as u8; 2]));
    }
    assert_eq!(b.settle().0, READY);
}

#[test]
fn dword_accesses_move_two_words_and_byte_accesses_one() {
    let mut b = Bench::new(2);
    let mut bytes = vec![0; SECTOR];
    bytes[..6].copy_from_slice(&[1, 2, 3, 4, 5, 6]);
    b.channel = AtaChannel::new([Some(Medium::Disk(Disk::from_bytes(bytes).unwrap())), None]);
    b.address(0, 1);
    b.command(0x20);
    assert_eq!(b.channel.read_wide(Size::Dword, b.now), 0x0403_0201);
    assert_eq!(b.read(DATA), 5);
    assert_eq!(b.words(253).len(), 253);
    assert_eq!(b.settle().0, READY);
}

#[test]
fn multiple_mode_moves_blocks_and_a_shorter_last_one() {
    let mut b = Bench::new(64);
    b.address(0, 4);
    assert_eq!(b.command(0xc6), (READY, true));
    b.address(10, 6);
    b.command(0xc4);
    assert_eq!(b.words(1024)[1023], 0x0d0d);
    assert_eq!(b.settle(), (READY | STATUS_DRQ, true));
    assert_eq!(b.words(512)[511], 0x0f0f);
    assert_eq!(b.settle().0, READY);
    b.address(20, 5);
    b.command(0xc5);
    b.send(0x11, 1024);
    b.settle();
    b.send(0x22, 256);
    assert_eq!(b.settle(), (READY, true));
    assert_eq!([19, 20, 23, 24, 25].map(|lba| b.sector(lba)), [19, 0x11, 0x11, 0x22, 25]);
}

#[test]
fn multiple_commands_before_set_multiple_and_wrong_block_sizes_are_aborted() {
    let mut b = Bench::new(64);
    b.address(0, 1);
    for command in [0xc4, 0xc5] {
        assert_eq!(b.command(command), (READY | STATUS_ERR, true));
        assert_eq!(b.read(ERROR_FEATURES), ERROR_ABORTED);
    }
    for count in [3, 32] {
        b.address(0, count);
        assert_eq!(b.command(0xc6).0, READY | STATUS_ERR);
    }
}

#[test]
fn an_address_beyond_the_end_is_id_not_found_and_stays_in_the_registers() {
    let mut b = Bench::new(64);
    b.address(63, 2);
    b.command(0x20);
    b.words(256);
    assert_eq!(b.settle(), (READY | STATUS_ERR, true));
    assert_eq!(b.read(ERROR_FEATURES), ERROR_ID_NOT_FOUND);
    assert_eq!(b.registers(), [1, 64, 0, 0, 0xe0]);
    for command in [0x20, 0x30, 0x40, 0x70] {
        b.address(0x0fff_ffff, 1);
        assert_eq!(b.command(command).0, READY | STATUS_ERR);
    }
    b.address(0, 1);
    assert_eq!(b.command(0x40), (READY, true), "the next command clears the error");
}

#[test]
fn cylinder_head_and_sector_follow_the_geometry_in_use() {
    let mut b = Bench::new(2016);
    let at = |b: &mut Bench, cylinder: u8, head: u8, sector: u8| {
        for (offset, value) in [(DEVICE, 0xa0 | head), (LBA_MID, cylinder), (LBA_HIGH, 0), (LBA_LOW, sector)]
        {
            b.out(offset, value);
        }
        b.out(SECTOR_COUNT, 1);
        if b.command(0x20).0 & STATUS_ERR != 0 { None } else { Some(b.words(256)[0] as u8) }
    };
    assert_eq!(at(&mut b, 1, 2, 3), Some(((16 + 2) * 63 + 2) as u8));
    assert_eq!(at(&mut b, 0, 0, 0), None, "there is no sector 0");
    assert_eq!(at(&mut b, 2, 0, 1), None, "the cylinder is beyond the end");
    // INITIALIZE DEVICE PARAMETERS: 4 heads, 17 sectors.
    b.out(DEVICE, 0xa3);
    b.out(SECTOR_COUNT, 17);
    assert_eq!(b.command(0x91), (READY, true));
    assert_eq!(at(&mut b, 1, 2, 3), Some(((4 + 2) * 17 + 2) as u8));
    assert_eq!(at(&mut b, 0, 4, 1), None);
    b.command(0xec);
    let words = b.words(256);
    assert_eq!(words[53..57], [7, 29, 4, 17]);
    assert_eq!((words[1], words[3], words[6]), (2, 16, 63), "the default translation stays");
}

#[test]
fn a_multi_sector_read_by_cylinder_crosses_tracks() {
    let mut b = Bench::new(2016);
    for (offset, value) in [(DEVICE, 0xaf), (LBA_MID, 0), (LBA_HIGH, 0), (LBA_LOW, 63), (SECTOR_COUNT, 2)] {
        b.out(offset, value);
    }
    b.command(0x20);
    b.words(256);
    b.settle();
    assert_eq!(b.words(256)[0] as u8, 1008u64 as u8);
    assert_eq!(b.registers(), [0, 1, 1, 0, 0xa0]);
}

#[test]
fn software_reset_is_busy_then_shows_the_signature_without_an_interrupt() {
    let mut b = Bench::new(64);
    b.address(0x0123_4567, 9);
    b.out(CONTROL, CONTROL_RESET);
    assert_eq!(b.read(CONTROL), STATUS_BSY);
    assert_eq!(b.channel.tick(b.now), None, "as long as the bit is set");
    b.out(CONTROL, 0);
    assert_eq!(b.settle(), (READY, false));
    assert_eq!(b.read(ERROR_FEATURES), 0x01);
    assert_eq!(b.registers(), [1, 1, 0, 0, 0xa0]);
}

#[test]
fn software_reset_ends_a_transfer() {
    let mut b = Bench::new(64);
    b.address(0, 4);
    b.command(0x20);
    b.words(10);
    b.out(CONTROL, CONTROL_RESET);
    b.out(CONTROL, 0);
    assert_eq!(b.settle().0, READY);
    assert_eq!(b.words(1), [0xffff]);
}

#[test]
fn diagnostic_passes_and_interrupts() {
    let mut b = Bench::new(64);
    assert_eq!(b.command(0x90), (READY, true));
    assert_eq!(b.read(ERROR_FEATURES), 0x01);
    assert_eq!(b.registers(), [1, 1, 0, 0, 0xa0]);
}

#[test]
fn nien_holds_the_interrupt_back_and_alternate_status_does_not_clear_it() {
    let mut b = Bench::new(64);
    b.out(CONTROL, CONTROL_NO_INTERRUPT);
    b.address(0, 1);
    assert_eq!(b.command(0x40), (READY, false));
    b.out(CONTROL, 0);
    assert!(b.channel.irq.level());
    b.read(CONTROL);
    assert!(b.channel.irq.level());
    b.read(STATUS_COMMAND);
    assert!(!b.channel.irq.level());
}

#[test]
fn device_1_that_is_absent_has_status_0_and_takes_no_command() {
    let mut b = Bench::new(64);
    b.out(DEVICE, 0xb0);
    assert_eq!(b.read(STATUS_COMMAND), 0);
    b.out(STATUS_COMMAND, 0xec);
    assert_eq!((b.read(STATUS_COMMAND), b.channel.tick(b.now)), (0, None));
    assert_eq!(b.read(DEVICE) & DEVICE_SELECT, DEVICE_SELECT);
}

#[test]
fn a_channel_without_drives_reads_as_zeros() {
    let mut b = Bench::new(4);
    b.channel = AtaChannel::new([None, None]);
    b.out(DEVICE, 0xa0);
    assert_eq!((b.registers(), b.read(STATUS_COMMAND), b.read(CONTROL)), ([0; 5], 0, 0));
}

#[test]
fn two_drives_hold_their_own_sectors() {
    let mut b = Bench::new(4);
    b.channel = AtaChannel::new([Some(Medium::Disk(numbered(4))), Some(Medium::Disk(Disk::blank(100)))]);
    b.address(2, 1);
    b.command(0x20);
    assert_eq!(b.words(256)[0], 0x0202);
    b.out(DEVICE, 0xf0);
    b.command(0xec);
    assert_eq!(b.words(256)[60], 100);
}

#[test]
fn registers_of_a_busy_device_can_not_be_written_and_read_as_status() {
    let mut b = Bench::new(64);
    b.address(7, 1);
    b.out(STATUS_COMMAND, 0x20);
    b.out(LBA_LOW, 9);
    b.out(STATUS_COMMAND, 0xec);
    assert_eq!(b.read(LBA_LOW), STATUS_BSY);
    b.settle();
    assert_eq!(b.read(LBA_LOW), 7);
    assert_eq!(b.words(256)[0], 0x0707);
}

#[test]
fn unknown_commands_and_those_of_packet_devices_are_aborted() {
    let mut b = Bench::new(64);
    for command in [0x00, 0x08, 0xa0, 0xa1, 0x26, 0xc7, 0xff] {
        assert_eq!(b.command(command), (READY | STATUS_ERR, true), "{command:#x}");
        assert_eq!(b.read(ERROR_FEATURES), ERROR_ABORTED);
    }
}

#[test]
fn set_features_sets_the_transfer_mode_that_identify_shows() {
    let mut b = Bench::new(64);
    for (mode, status, multiword, ultra) in [
        (0x00, READY, 0x0007, 0x203f),
        (0x0c, READY, 0x0007, 0x203f),
        (0x22, READY, 0x0407, 0x003f),
        (0x42, READY, 0x0007, 0x043f),
        (0x12, READY | STATUS_ERR, 0x0007, 0x043f),
        (0x46, READY | STATUS_ERR, 0x0007, 0x043f),
    ] {
        b.out(ERROR_FEATURES, 0x03);
        b.out(SECTOR_COUNT, mode);
        assert_eq!(b.command(0xef).0, status, "mode {mode:#x}");
        b.command(0xec);
        let words = b.words(256);
        assert_eq!((words[63], words[88], words[53] & 4), (multiword, ultra, 4), "mode {mode:#x}");
    }
}

#[test]
fn flush_and_power_commands_succeed() {
    let mut b = Bench::new(64);
    for command in [0xe7, 0xe0, 0xe1, 0x10] {
        assert_eq!(b.command(command), (READY, true), "{command:#x}");
    }
    b.command(0xe5);
    assert_eq!(b.read(SECTOR_COUNT), 0xff);
}

proptest::proptest! {
    #[test]
    fn no_sequence_of_accesses_can_panic(accesses in proptest::collection::vec((0u16..10, 0u8.., 0u8..4), 0..400)) {
        let mut b = Bench::new(70);
        for (offset, value, how) in accesses {
            match how {
                0 => { b.read(offset); }
                1 => { b.channel.read_wide(Size::Dword, b.now); }
                2 => b.channel.write_wide(Size::Word, u32::from(value), b.now),
                _ => b.out(offset, value),
            }
            b.now = Ticks(b.now.0 + u64::from(value) * 40);
            b.channel.tick(b.now);
        }
    }
}
