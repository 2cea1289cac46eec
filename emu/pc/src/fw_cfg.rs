//! QEMU's firmware configuration device: items and files that a firmware asks for by number and name. QEMU's
//! documentation, "QEMU Firmware Configuration (fw_cfg) Device" (docs/specs/fw_cfg).
//!
//! Ports, as offsets: 0 selects an item (a word), 1 reads its bytes one after another; 4 to 11 are the address of a DMA
//! request, most significant byte first, the last of which starts it. The request is served by the board.
//!
//! Left out: writing to items, which QEMU has given up but for a few that are not here.

use crate::device::{PortDevice, WideData};
use pagewalk_x86::bus::{Size, Ticks};
use serde::{Deserialize, Serialize};

// Offsets
const DATA: u16 = 1;
const DMA_FIRST: u16 = 4;
const DMA_LAST: u16 = 11;

// Items
const SIGNATURE: u16 = 0x00;
const ID: u16 = 0x01;
const RAM_SIZE: u16 = 0x03;
const NO_GRAPHIC: u16 = 0x04;
const PROCESSORS: u16 = 0x05;
const NUMA: u16 = 0x0d;
const BOOT_MENU: u16 = 0x0e;
const MAX_PROCESSORS: u16 = 0x0f;
const DIRECTORY: u16 = 0x19;
const FIRST_FILE: u16 = 0x20;
/// Whether interrupt 0 of the ISA arrives at input 2 of the I/O APIC.
const IRQ0_OVERRIDE: u16 = 0x8002;

/// The traditional ports are there, and DMA.
const FEATURES: u32 = 0b11;

// Bits of a DMA request's control word, and its answer.
const DMA_ERROR: u32 = 1 << 0;
const DMA_READ: u32 = 1 << 1;
const DMA_SKIP: u32 = 1 << 2;
const DMA_SELECT: u32 = 1 << 3;
const DMA_WRITE: u32 = 1 << 4;
/// Bytes of a DMA request: control, length, address, each most significant byte first.
pub const DMA_REQUEST: usize = 16;

/// A file that a firmware can ask for by name.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// At most 55 characters.
    pub name: String,
    /// What is in it.
    pub data: Vec<u8>,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes)", self.name, self.data.len())
    }
}

/// What a DMA request wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transfer {
    /// Where in memory bytes go, if anywhere.
    pub to: Option<u64>,
    /// How many bytes of the item are taken.
    pub len: u32,
    /// What is written over the control word at the end.
    pub answer: u32,
}

/// What the machine is, to a firmware.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// RAM below 4 GiB.
    pub low_memory: u64,
    /// All RAM.
    pub memory: u64,
    /// Processors.
    pub processors: u16,
}

/// The device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FwCfg {
    /// Items by number.
    items: Vec<(u16, Vec<u8>)>,
    files: Vec<File>,
    selected: u16,
    position: usize,
    address: u64,
    /// The address of a DMA request to be served.
    request: Option<u64>,
}

impl FwCfg {
    /// A device with the usual items, more of them, and these files.
    pub fn new(facts: Facts, more: Vec<(u16, Vec<u8>)>, mut files: Vec<File>) -> FwCfg {
        files.insert(0, File { name: "etc/e820".into(), data: e820(facts) });
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let word = |value: u16| value.to_le_bytes().to_vec();
        let mut items = vec![
            (SIGNATURE, b"QEMU".to_vec()),
            (ID, FEATURES.to_le_bytes().to_vec()),
            (RAM_SIZE, facts.memory.to_le_bytes().to_vec()),
            (NO_GRAPHIC, word(0)),
            (PROCESSORS, word(facts.processors)),
            (NUMA, vec![0; 8]),
            (BOOT_MENU, word(0)),
            (MAX_PROCESSORS, word(facts.processors)),
            (DIRECTORY, directory(&files)),
            (IRQ0_OVERRIDE, 1u32.to_le_bytes().to_vec()),
        ];
        items.extend(more);
        FwCfg { items, files, selected: SIGNATURE, position: 0, address: 0, request: None }
    }

    /// Nothing is selected, and no request is under way.
    pub fn reset(&mut self) {
        (self.selected, self.position) = (SIGNATURE, 0);
        (self.address, self.request) = (0, None);
    }

    /// Adds a file, or replaces that of the same name.
    pub fn set_file(&mut self, name: &str, data: Vec<u8>) {
        self.files.retain(|file| file.name != name);
        self.files.push(File { name: name.into(), data });
        self.files.sort_by(|a, b| a.name.cmp(&b.name));
        let directory = directory(&self.files);
        for (number, item) in &mut self.items {
            if *number == DIRECTORY {
                item.clone_from(&directory);
            }
        }
    }

    /// The selected item, if there is one.
    fn item(&self) -> Option<&[u8]> {
        if let Some(file) =
            self.selected.checked_sub(FIRST_FILE).and_then(|at| self.files.get(usize::from(at)))
        {
            return Some(&file.data);
        }
        self.items.iter().find(|(number, _)| *number == self.selected).map(|(_, item)| item.as_slice())
    }

    /// The next byte of the item; behind its end, zeros.
    pub fn next_byte(&mut self) -> u8 {
        let byte = self.item().and_then(|item| item.get(self.position)).copied().unwrap_or(0);
        self.position = self.position.saturating_add(1);
        byte
    }

    /// The selected item's next bytes, zeros behind its end.
    pub fn next_bytes(&mut self, out: &mut [u8]) {
        let rest = self.item().and_then(|item| item.get(self.position..)).unwrap_or_default();
        let (some, none) = out.split_at_mut(rest.len().min(out.len()));
        some.copy_from_slice(&rest[..some.len()]);
        none.fill(0);
        self.position = self.position.saturating_add(out.len());
    }

    fn select(&mut self, item: u16) {
        (self.selected, self.position) = (item, 0);
    }

    /// Where in memory a DMA request waits; asking takes it.
    pub fn take_request(&mut self) -> Option<u64> {
        self.request.take()
    }

    /// Begins a DMA request that was read from memory.
    pub fn begin(&mut self, request: [u8; DMA_REQUEST]) -> Transfer {
        let [a, b, c, d, e, f, g, h, address @ ..] = request;
        let control = u32::from_be_bytes([a, b, c, d]);
        let len = u32::from_be_bytes([e, f, g, h]);
        if control & DMA_SELECT != 0 {
            self.select((control >> 16) as u16);
        }
        if control & DMA_READ != 0 {
            return Transfer { to: Some(u64::from_be_bytes(address)), len, answer: 0 };
        }
        if control & DMA_WRITE != 0 {
            return Transfer { to: None, len: 0, answer: DMA_ERROR };
        }
        if control & DMA_SKIP != 0 {
            self.position = self.position.saturating_add(len as usize);
        }
        Transfer { to: None, len: 0, answer: 0 }
    }
}

/// The memory map as a firmware is told it, 20 bytes a row: from, length, type 1 (RAM).
fn e820(facts: Facts) -> Vec<u8> {
    const RAM: u32 = 1;
    let rows =
        [(0, facts.low_memory), (crate::memory::FOUR_GIB, facts.memory - facts.low_memory.min(facts.memory))];
    let rows = rows.iter().filter(|(_, len)| *len != 0);
    rows.flat_map(|(from, len)| {
        [from.to_le_bytes().as_slice(), &len.to_le_bytes(), &RAM.to_le_bytes()].concat()
    })
    .collect()
}

/// The directory: how many files, then 64 bytes each: size, number, two reserved bytes, name.
fn directory(files: &[File]) -> Vec<u8> {
    const NAME: usize = 56;
    let mut bytes = (files.len() as u32).to_be_bytes().to_vec();
    for (number, file) in (FIRST_FILE..).zip(files) {
        bytes.extend((file.data.len() as u32).to_be_bytes());
        bytes.extend(number.to_be_bytes());
        bytes.extend([0, 0]);
        let mut name: Vec<u8> = file.name.bytes().take(NAME - 1).collect();
        name.resize(NAME, 0);
        bytes.extend(name);
    }
    bytes
}

impl PortDevice for FwCfg {
    fn read8(&mut self, offset: u16, _now: Ticks) -> u8 {
        match offset {
            DATA => self.next_byte(),
            // the DMA address register reads as a signature
            DMA_FIRST..=DMA_LAST => b"QEMU CFG"[usize::from(offset - DMA_FIRST)],
            _ => 0,
        }
    }

    fn write8(&mut self, offset: u16, value: u8, _now: Ticks) {
        if let DMA_FIRST..=DMA_LAST = offset {
            let shift = 8 * (DMA_LAST - offset);
            self.address = self.address & !(0xff << shift) | u64::from(value) << shift;
            if offset == DMA_LAST {
                self.request = Some(std::mem::take(&mut self.address));
            }
        }
    }
}

/// The selector, at offset 0.
impl WideData for FwCfg {
    fn read_wide(&mut self, _size: Size, _now: Ticks) -> u32 {
        0
    }

    fn write_wide(&mut self, _size: Size, value: u32, _now: Ticks) {
        self.select(value as u16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Ticks = Ticks(0);

    fn device() -> FwCfg {
        let facts = Facts { low_memory: 0xc000_0000, memory: 0x1_0000_0000, processors: 1 };
        FwCfg::new(facts, Vec::new(), vec![File { name: "bootorder".into(), data: b"/pci\0".to_vec() }])
    }

    fn read(device: &mut FwCfg, item: u16, len: usize) -> Vec<u8> {
        device.write_wide(Size::Word, item.into(), NOW);
        (0..len).map(|_| device.read8(DATA, NOW)).collect()
    }

    #[test]
    fn the_signature_and_features_are_there_and_zeros_follow_an_item() {
        let mut device = device();
        assert_eq!(read(&mut device, 0, 6), b"QEMU\0\0");
        assert_eq!(read(&mut device, 1, 4), [3, 0, 0, 0]);
        assert_eq!(read(&mut device, 3, 8), 0x1_0000_0000u64.to_le_bytes());
        assert_eq!(read(&mut device, 0x7777, 2), [0, 0]);
        let signature: Vec<u8> = (4..12).map(|offset| device.read8(offset, NOW)).collect();
        assert_eq!(signature, b"QEMU CFG");
    }

    #[test]
    fn the_directory_names_the_files_in_order() {
        let mut device = device();
        let bytes = read(&mut device, 0x19, 4 + 2 * 64);
        assert_eq!(bytes[..4], [0, 0, 0, 2]);
        assert_eq!(bytes[4..12], [0, 0, 0, 5, 0, 0x20, 0, 0]);
        assert_eq!(&bytes[12..22], b"bootorder\0");
        assert_eq!(bytes[68..76], [0, 0, 0, 40, 0, 0x21, 0, 0]);
        assert_eq!(&bytes[76..85], b"etc/e820\0");
        assert_eq!(read(&mut device, 0x20, 5), b"/pci\0");
        let map = read(&mut device, 0x21, 40);
        assert_eq!(map[..20], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(map[20..40], [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn a_dma_request_starts_with_the_last_byte_of_its_address() {
        let mut device = device();
        for (offset, byte) in (8..).zip(0x0001_2340u32.to_be_bytes()) {
            assert_eq!(device.take_request(), None);
            device.write8(offset, byte, NOW);
        }
        assert_eq!((device.take_request(), device.take_request()), (Some(0x1_2340), None));
    }

    #[test]
    fn dma_selects_skips_and_reads_and_refuses_to_write() {
        let mut device = device();
        let request = |control: u32, len: u32| {
            let mut bytes = [0; DMA_REQUEST];
            bytes[..4].copy_from_slice(&control.to_be_bytes());
            bytes[4..8].copy_from_slice(&len.to_be_bytes());
            bytes[8..].copy_from_slice(&0x9000u64.to_be_bytes());
            bytes
        };
        assert_eq!(device.begin(request(0x0020_000c, 1)), Transfer { to: None, len: 0, answer: 0 });
        assert_eq!(device.begin(request(0x02, 3)), Transfer { to: Some(0x9000), len: 3, answer: 0 });
        assert_eq!((device.next_byte(), device.next_byte()), (b'p', b'c'));
        assert_eq!(device.begin(request(0x10, 3)).answer, 1);
    }

    #[test]
    fn bytes_at_once_are_those_one_after_another() {
        let (mut one, mut other) = (device(), device());
        for item in [SIGNATURE, DIRECTORY, FIRST_FILE, 0x7fff] {
            one.select(item);
            other.select(item);
            for len in [0, 1, 3, 100, 5000] {
                let mut bytes = vec![0xff; len];
                one.next_bytes(&mut bytes);
                assert_eq!(bytes, (0..len).map(|_| other.next_byte()).collect::<Vec<_>>(), "{item:#x}");
            }
        }
    }
}
