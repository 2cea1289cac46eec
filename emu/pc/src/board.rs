//! The board: which chip stands at which port and pulls which interrupt line. The only file that knows.
//!
//! `docs/board.md` draws it as a tree. Everything here is plain data: a board is cloned, compared and moved between
//! threads, and several live side by side.

use crate::acpi;
use crate::ata::{self, AtaChannel, Medium};
use crate::calendar::DateTime;
use crate::debug_ports::{DebugConsole, DebugExit};
use crate::device::{PortDevice, Timed, WideData};
use crate::disk::Disk;
use crate::firmware;
use crate::floppy::Floppy;
use crate::fw_cfg::{Facts, File, FwCfg};
use crate::interrupts::{Interrupts, SOURCES};
use crate::keyboard::KeyboardController;
use crate::memory::{LOW_LIMIT, Layout, MemoryMap};
use crate::mouse::Movement;
use crate::pci::bus_master::BusMaster;
use crate::pci::{self, Pci};
use crate::pit::Pit;
use crate::ports::{Chip, Overlap, PortMap};
use crate::power::{self, Power};
use crate::rtc::Rtc;
use crate::system_control::{ControlA, ControlB, ResetControl};
use crate::uart::{Pace, Uart};
use crate::vga::picture::Picture;
use crate::vga::text::TextScreen;
use crate::vga::{self, Vga, dispi::VIDEO_MEMORY};
use pagewalk_x86::bus::{Bus, Frame, Phys, Request, Size, Ticks};
use pagewalk_x86::ram::Ram;
use serde::{Deserialize, Serialize};

mod image;
mod wires;

pub(crate) use image::NO_ROOM;

/// First ports of the serial ports.
pub const SERIAL_PORTS: [u16; 2] = [0x3f8, 0x2f8];
/// First of the power management ports, where a kernel started without a firmware finds them, as under QEMU.
const POWER_PORTS: u16 = 0x600;
/// Advanced power management: control and status.
const APM_PORTS: std::ops::RangeInclusive<u16> = 0xb2..=0xb3;
/// Command block and control block of the disk channels.
const ATA_PORTS: [(u16, u16); 2] = [(0x1f0, 0x3f6), (0x170, 0x376)];

/// Interrupt requests. The serial ports and disk channels by index.
const IRQ_TIMER: u8 = 0;
const IRQ_KEYBOARD: u8 = 1;
const IRQ_MOUSE: u8 = 12;
const IRQ_SERIAL: [u8; 2] = [4, 3];
const IRQ_FLOPPY: u8 = 6;
const IRQ_CLOCK: u8 = 8;
const IRQ_POWER: u8 = acpi::SCI;
const IRQ_ATA: [u8; 2] = [14, 15];

/// Least and most RAM.
const MEMORY: std::ops::RangeInclusive<u64> = 0x10_0000..=64 << 30;
/// The largest ROM.
const ROM_LIMIT: usize = 16 << 20;
/// The largest video ROM: the room for adapters' ROMs below 1 MiB.
const VIDEO_ROM_LIMIT: usize = 128 << 10;
const PAGE: u64 = 4096;
/// Frame number bit of address line 20.
const A20_FRAME: u64 = 1 << 8;
const NEVER: Ticks = Ticks(u64::MAX);
/// The chips that have deadlines.
const TIMED: [Chip; 9] = [
    Chip::Pit,
    Chip::Rtc,
    Chip::Keyboard,
    Chip::Uart(0),
    Chip::Uart(1),
    Chip::Ata(0),
    Chip::Ata(1),
    Chip::LocalApic,
    Chip::Power,
];

/// What the board is populated with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes of RAM: a multiple of 4 KiB, from 1 MiB to 64 GiB.
    pub memory: u64,
    /// A firmware ROM; without one there is a stub that answers interrupts and halts at the reset vector.
    pub rom: Option<Vec<u8>>,
    /// A video BIOS in the display adapter's ROM. Only a firmware runs it.
    pub video_rom: Option<Vec<u8>>,
    /// Up to four disks: master and slave of the primary channel, then of the secondary. A disc leaves room for three.
    pub disks: Vec<Disk>,
    /// A disc in a CD-ROM drive, master of the secondary channel.
    pub cdrom: Option<Disk>,
    /// How many serial ports (COM1, COM2).
    pub serial_ports: usize,
    /// Whether sent bytes take the time their bits need.
    pub pace: Pace,
    /// What the clock shows at power-on.
    pub date: DateTime,
    /// What CMOS and the BIOS data area say of an x87.
    pub coprocessor: bool,
    /// Files that a firmware finds in the firmware configuration device.
    pub files: Vec<File>,
    /// Items that a firmware finds there, by QEMU's numbers below 20h.
    pub items: Vec<(u16, Vec<u8>)>,
}

impl Default for Config {
    /// 128 MiB, no ROM, no disk, no disc, COM1, 1 January 2000.
    fn default() -> Self {
        Config {
            memory: 128 << 20,
            rom: None,
            video_rom: None,
            disks: Vec::new(),
            cdrom: None,
            serial_ports: 1,
            pace: Pace::Immediate,
            date: DateTime::default(),
            coprocessor: true,
            files: Vec::new(),
            items: Vec::new(),
        }
    }
}

/// A board that can't be built, or bytes that can't be placed on it.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum BoardError {
    /// The amount of memory is not possible.
    #[error("{0} bytes of memory are not possible: give a multiple of 4 KiB from 1 MiB to 64 GiB")]
    Memory(u64),
    /// The ROM is empty or too large.
    #[error("a firmware ROM of {0} bytes is not possible: it must have from 1 byte to 16 MiB")]
    Rom(usize),
    /// The video BIOS is empty or too large.
    #[error("a video BIOS of {0} bytes is not possible: it must have from 1 byte to 128 KiB")]
    VideoRom(usize),
    /// Too many disks.
    #[error("{0} disks are too many: there is room for 4")]
    Disks(usize),
    /// Too many disks beside a CD-ROM drive.
    #[error("{0} disks and a CD-ROM drive are too many: there is room for 3 disks beside it")]
    DisksBesideCdrom(usize),
    /// Too many serial ports.
    #[error("{0} serial ports are too many: there is room for 2")]
    SerialPorts(usize),
    /// Two chips at one port.
    #[error(transparent)]
    Overlap(#[from] Overlap),
    /// There is no memory where bytes should be placed.
    #[error("{len} bytes can't be placed at {at:#x}: there is no memory at {hole:#x}")]
    NoMemory {
        /// Where they should go.
        at: u64,
        /// How many.
        len: usize,
        /// The first address without memory.
        hole: u64,
    },
}

/// What comes in from outside. It takes effect at the virtual time at which [`Board::input`] is told of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Input {
    /// The far end of a serial line sends bytes.
    Serial {
        /// Which port, from 0.
        port: usize,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Keys are pressed and released: scan code set 1 bytes.
    Keys(Vec<u8>),
    /// The mouse is moved, turned or pressed.
    Mouse(Movement),
}

/// The board around the processor.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Board {
    layout: Layout,
    #[serde(skip)]
    ram: Ram,
    /// Whether address line 20 is let through.
    a20: bool,
    layout_version: u32,
    ports: PortMap,
    interrupts: Interrupts,
    pit: Pit,
    control_a: ControlA,
    control_b: ControlB,
    keyboard: KeyboardController,
    rtc: Rtc,
    uarts: Vec<Uart>,
    ata: [AtaChannel; 2],
    floppy: Floppy,
    pci: Pci,
    bus_master: BusMaster,
    reset_control: ResetControl,
    vga: Vga,
    power: Power,
    debug_console: DebugConsole,
    fw_cfg: FwCfg,
    firmware_console: DebugConsole,
    debug_exit: DebugExit,
    request: Option<Request>,
    /// Each timed chip's next deadline, and the earliest of them.
    deadlines: [Ticks; 9],
    deadline: Ticks,
}

impl Board {
    /// A board at power-on.
    pub fn new(config: Config) -> Result<Board, BoardError> {
        if !MEMORY.contains(&config.memory) || !config.memory.is_multiple_of(PAGE) {
            return Err(BoardError::Memory(config.memory));
        }
        if config.disks.len() > 4 {
            return Err(BoardError::Disks(config.disks.len()));
        }
        if config.disks.len() > 3 && config.cdrom.is_some() {
            return Err(BoardError::DisksBesideCdrom(config.disks.len()));
        }
        if config.serial_ports > SERIAL_PORTS.len() {
            return Err(BoardError::SerialPorts(config.serial_ports));
        }
        let rom = config.rom.clone().unwrap_or_else(firmware::stub_rom);
        if rom.is_empty() || rom.len() > ROM_LIMIT {
            return Err(BoardError::Rom(rom.len()));
        }

        let video_rom = config.video_rom.clone().unwrap_or_default();
        if config.video_rom.is_some() && !(1..=VIDEO_ROM_LIMIT).contains(&video_rom.len()) {
            return Err(BoardError::VideoRom(video_rom.len()));
        }
        let video_rom_pages = (video_rom.len() as u64).next_multiple_of(PAGE);
        let layout = Layout::new(config.memory, (rom.len() as u64).next_multiple_of(PAGE))
            .with_display(VIDEO_MEMORY, video_rom_pages);
        let mut ram = Ram::new(layout.stored() as usize);
        ram.write(layout.rom_end() as usize - rom.len(), &rom);
        ram.write(layout.video_rom_offset() as usize, &video_rom);
        let pci = functions(video_rom_pages);

        let mut rtc = Rtc::new(config.date);
        for (index, value) in firmware::cmos(&config) {
            rtc.set_memory(index, value);
        }
        let facts = Facts { low_memory: config.memory.min(LOW_LIMIT), memory: config.memory, processors: 1 };
        let fw_cfg = FwCfg::new(facts, config.items, config.files);
        let mut disks = config.disks.into_iter().map(Medium::Disk);
        let primary = AtaChannel::new([disks.next(), disks.next()]);
        let third = config.cdrom.map(Medium::Cdrom).or_else(|| disks.next());
        let ata = [primary, AtaChannel::new([third, disks.next()])];

        let ports = fixed_ports(config.serial_ports)?;
        let mut board = Board {
            layout,
            ram,
            a20: true,
            layout_version: 0,
            ports,
            interrupts: Interrupts::default(),
            pit: Pit::new(),
            control_a: ControlA::default(),
            control_b: ControlB::default(),
            keyboard: KeyboardController::new(),
            rtc,
            uarts: vec![Uart::new(config.pace); config.serial_ports],
            ata,
            floppy: Floppy::new(),
            pci,
            bus_master: BusMaster::default(),
            reset_control: ResetControl::default(),
            vga: Vga::default(),
            power: Power::new(),
            debug_console: DebugConsole::default(),
            fw_cfg,
            firmware_console: DebugConsole::default(),
            debug_exit: DebugExit::default(),
            request: None,
            deadlines: [NEVER; 9],
            deadline: Ticks(0),
        };
        board.carry_lines();
        Ok(board)
    }

    /// A chip was touched: its wires are carried, and when it next wants the time is asked.
    fn settle(&mut self, chip: Chip, now: Ticks) {
        let (slot, next) = match chip {
            Chip::Pit => (0, self.pit.tick(now)),
            Chip::Rtc => (1, self.rtc.tick(now)),
            Chip::Keyboard => (2, self.keyboard.tick(now)),
            Chip::Uart(index) => (3 + index, self.uarts.get_mut(index).and_then(|uart| uart.tick(now))),
            Chip::Ata(index) => {
                self.ata[index].tick(now);
                self.serve_dma(index, now);
                (5 + index, self.ata[index].tick(now))
            }
            Chip::LocalApic => (7, self.interrupts.tick(now)),
            Chip::Power | Chip::AdvancedPower => (8, self.power.tick(now)),
            Chip::Pic => return self.interrupts.settle(),
            Chip::ControlB | Chip::DebugConsole | Chip::ResetControl => return,
            Chip::Floppy => return self.carry_lines(),
            Chip::Vga | Chip::Dispi => return self.carry_vga(),
            Chip::PciAddress | Chip::FirmwareConsole => return,
            Chip::FwCfg => return self.serve_fw_cfg(),
            Chip::Pci => return self.carry_pci(),
            Chip::BusMaster => {
                self.settle(Chip::Ata(0), now);
                return self.settle(Chip::Ata(1), now);
            }
            Chip::ControlA | Chip::DebugExit => return self.carry_controls(),
        };
        if matches!(chip, Chip::Keyboard | Chip::Power | Chip::AdvancedPower) {
            self.carry_controls();
        }
        self.carry_lines();
        let next = next.unwrap_or(NEVER);
        if self.deadlines[slot] != next {
            self.deadlines[slot] = next;
            self.deadline = self.deadlines.into_iter().min().unwrap_or(NEVER);
        }
    }

    fn read_byte(&mut self, port: u16, now: Ticks) -> u8 {
        let Some((chip, offset)) = self.ports.find(port) else { return 0xff };
        let value = match chip {
            Chip::Pic => self.interrupts.pic.read8(offset, now),
            Chip::Pit => self.pit.read8(offset, now),
            Chip::Keyboard => self.keyboard.read8(offset, now),
            Chip::ControlA => self.control_a.read(),
            Chip::ControlB => self.control_b.read(self.pit.out2(now), now),
            Chip::Rtc => self.rtc.read8(offset, now),
            Chip::Uart(index) => self.uarts[index].read8(offset, now),
            Chip::Ata(index) => self.ata[index].read8(offset, now),
            Chip::Floppy => self.floppy.read8(offset, now),
            Chip::PciAddress => 0xff,
            Chip::FwCfg => self.fw_cfg.read8(offset, now),
            Chip::FirmwareConsole => self.firmware_console.read8(offset, now),
            Chip::Pci => self.pci.read8(offset, now),
            Chip::ResetControl => self.reset_control.read(),
            Chip::BusMaster => self.bus_master.read8(offset, now),
            Chip::Vga => self.vga.read8(offset, now),
            Chip::Dispi => 0xff,
            Chip::DebugConsole => self.debug_console.read8(offset, now),
            Chip::DebugExit => self.debug_exit.read8(offset, now),
            Chip::Power | Chip::AdvancedPower => self.power.read8(offset, now),
            Chip::LocalApic => 0xff,
        };
        self.settle(chip, now);
        value
    }

    fn write_byte(&mut self, port: u16, value: u8, now: Ticks) {
        let Some((chip, offset)) = self.ports.find(port) else { return };
        match chip {
            Chip::Pic => self.interrupts.pic.write8(offset, value, now),
            Chip::Pit => self.pit.write8(offset, value, now),
            Chip::Keyboard => self.keyboard.write8(offset, value, now),
            Chip::ControlA => {
                if self.control_a.write(value) {
                    self.request = Some(Request::Reset);
                }
            }
            Chip::ControlB => {
                self.control_b.write(value);
                self.pit.set_gate2(self.control_b.gate2(), now);
            }
            Chip::Rtc => self.rtc.write8(offset, value, now),
            Chip::Uart(index) => self.uarts[index].write8(offset, value, now),
            Chip::Ata(index) => self.ata[index].write8(offset, value, now),
            Chip::Floppy => self.floppy.write8(offset, value, now),
            Chip::PciAddress => {}
            Chip::FwCfg => self.fw_cfg.write8(offset, value, now),
            Chip::FirmwareConsole => self.firmware_console.write8(offset, value, now),
            Chip::Pci => self.pci.write8(offset, value, now),
            Chip::ResetControl => {
                if self.reset_control.write(value) {
                    self.request = Some(Request::Reset);
                }
            }
            Chip::BusMaster => self.bus_master.write8(offset, value, now),
            Chip::Vga => self.vga.write8(offset, value, now),
            Chip::Dispi => {}
            Chip::DebugConsole => self.debug_console.write8(offset, value, now),
            Chip::DebugExit => self.debug_exit.write8(offset, value, now),
            Chip::Power | Chip::AdvancedPower => self.power.write8(offset, value, now),
            Chip::LocalApic => {}
        }
        self.settle(chip, now);
    }

    /// The chip at `port`, if it decodes accesses of `size`, more than a byte, there.
    fn wide(&mut self, port: u16, size: Size) -> Option<(Chip, &mut dyn WideData)> {
        match self.ports.find(port)? {
            (chip @ Chip::Ata(index), 0) => Some((chip, &mut self.ata[index])),
            (chip @ Chip::FwCfg, 0) if size == Size::Word => Some((chip, &mut self.fw_cfg)),
            (chip @ Chip::PciAddress, _) if size == Size::Dword => Some((chip, &mut self.pci)),
            (chip @ Chip::DebugExit, _) => Some((chip, &mut self.debug_exit)),
            (chip @ Chip::Dispi, 0) if size == Size::Word => Some((chip, &mut self.vga.dispi.index)),
            (chip @ Chip::Dispi, 1) if size == Size::Word => Some((chip, &mut self.vga)),
            _ => None,
        }
    }

    /// The board's RESET line: every chip starts over. Memory, the clock's time and CMOS, and the disks stay.
    pub fn reset(&mut self, now: Ticks) {
        self.pit.reset();
        self.control_a = ControlA::default();
        self.control_b = ControlB::default();
        self.keyboard.reset();
        self.rtc.reset();
        self.power.reset();
        self.uarts.iter_mut().for_each(Uart::reset);
        self.ata.iter_mut().for_each(AtaChannel::reset);
        self.floppy.reset();
        self.pci.reset();
        self.vga = Vga::default();
        self.fw_cfg.reset();
        self.bus_master = BusMaster::default();
        self.reset_control = ResetControl::default();
        self.carry_pci();
        self.interrupts.reset();
        self.request = None;
        self.layout_version = self.layout_version.wrapping_add(1);
        self.carry_controls();
        self.touch_all(now);
    }

    fn touch_all(&mut self, now: Ticks) {
        for chip in TIMED {
            self.settle(chip, now);
        }
        self.deadline = self.deadlines.into_iter().min().unwrap_or(NEVER);
    }

    /// Puts in local APICs, one for each of this many processors (at most 8), and an I/O APIC if there are any. Only the
    /// first processor runs. A new board has none.
    pub fn fit_local_apics(&mut self, processors: u8) {
        self.interrupts.fit(processors);
        self.layout_version = self.layout_version.wrapping_add(1);
    }

    /// How many local APICs there are.
    pub fn local_apics(&self) -> usize {
        self.interrupts.local_apics()
    }

    /// What the firmware's tables say of this board.
    pub(crate) fn hardware(&self) -> acpi::Hardware {
        let map = self.memory_map();
        let low = map.usable().map(|region| region.start + region.len).filter(|&end| end <= LOW_LIMIT);
        acpi::Hardware {
            processors: self.local_apics() as u8,
            serial_ports: self.serial_ports(),
            power_ports: POWER_PORTS,
            hole: low.max().unwrap_or(0) as u32,
        }
    }

    /// Leaves the board as a PC's firmware does when it starts a kernel: see [`firmware`]. For kernels that a loader
    /// starts; a firmware ROM does it for itself.
    pub fn firmware_defaults(&mut self) {
        firmware::leave_defaults(self);
    }

    /// The one door for everything from outside, at the time at which it takes effect.
    pub fn input(&mut self, input: &Input, now: Ticks) {
        match input {
            Input::Serial { port, bytes } => {
                if let Some(uart) = self.uarts.get_mut(*port) {
                    uart.push_input(bytes, now);
                    self.settle(Chip::Uart(*port), now);
                }
            }
            Input::Keys(set_1) => {
                self.keyboard.press(set_1, now);
                self.settle(Chip::Keyboard, now);
            }
            Input::Mouse(movement) => {
                self.keyboard.move_mouse(*movement, now);
                self.settle(Chip::Keyboard, now);
            }
        }
    }

    /// The bytes a serial port has sent since this was last asked.
    pub fn take_serial_output(&mut self, port: usize) -> Vec<u8> {
        self.uarts.get_mut(port).map(|uart| uart.sent().take()).unwrap_or_default()
    }

    /// The bytes the guest wrote to the debug console since this was last asked.
    pub fn take_debug_output(&mut self) -> Vec<u8> {
        self.debug_console.output.take()
    }

    /// The bytes a firmware wrote to its own console (port 402h) since this was last asked.
    pub fn take_firmware_messages(&mut self) -> Vec<u8> {
        self.firmware_console.output.take()
    }

    /// Interrupts that were taken, by what asked for them: see [`Interrupts::taken`].
    pub fn interrupts_taken(&self) -> [u64; SOURCES] {
        self.interrupts.taken()
    }

    /// The text screen, line by line; no lines in a graphics mode.
    pub fn screen(&self) -> Vec<String> {
        self.text_screen().map(|screen| screen.lines()).unwrap_or_default()
    }

    /// The text screen with its colours and cursor, in a text mode.
    pub fn text_screen(&self) -> Option<TextScreen> {
        self.vga.text(self.video_memory())
    }

    /// What the screen shows, in any mode.
    pub fn picture(&self) -> Picture {
        self.vga.picture(self.video_memory())
    }

    /// The memory map a firmware would tell.
    pub fn memory_map(&self) -> MemoryMap {
        self.layout.map()
    }

    /// The disk at a place: 0 and 1 on the primary channel, 2 and 3 on the secondary.
    pub fn disk(&self, index: usize) -> Option<&Disk> {
        self.ata.get(index / 2)?.disk(index % 2)
    }

    /// How many serial ports there are.
    pub fn serial_ports(&self) -> usize {
        self.uarts.len()
    }

    pub(crate) fn rtc(&self) -> &Rtc {
        &self.rtc
    }

    /// Places bytes in memory, RAM or ROM, past address line 20's mask.
    pub fn place(&mut self, at: Phys, bytes: &[u8]) -> Result<(), BoardError> {
        let (len, last) = (bytes.len(), at.0.checked_add(bytes.len() as u64));
        let hole = |hole: u64| BoardError::NoMemory { at: at.0, len, hole };
        let end = last.ok_or(hole(u64::MAX))?;
        let mut page = at.0 & !(PAGE - 1);
        while page < end && len != 0 {
            if self.layout.frame(page) == Frame::Device {
                return Err(hole(page.max(at.0)));
            }
            page += PAGE;
        }
        let mut rest = bytes;
        let mut address = at.0;
        while !rest.is_empty() {
            let within = address % PAGE;
            let (now, later) = rest.split_at(rest.len().min((PAGE - within) as usize));
            if let Frame::Ram(offset) | Frame::Rom(offset) = self.layout.frame(address) {
                self.ram.write(offset + within as usize, now);
            }
            address += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    /// Reads memory past address line 20's mask; where there is none, all ones.
    pub fn peek(&self, at: Phys, into: &mut [u8]) {
        for (index, byte) in into.iter_mut().enumerate() {
            let address = at.0.wrapping_add(index as u64);
            *byte = match self.layout.frame(address) {
                Frame::Ram(offset) | Frame::Rom(offset) => {
                    self.ram.read::<1>(offset + (address % PAGE) as usize)[0]
                }
                Frame::Device => self.peek_vga(address),
            };
        }
    }
}

/// The ports of all chips that have a fixed place.
fn fixed_ports(serial_ports: usize) -> Result<PortMap, Overlap> {
    let mut ports = PortMap::default();
    ports.claim(0x20..=0x21, Chip::Pic, 0)?;
    ports.claim(0xa0..=0xa1, Chip::Pic, 2)?;
    ports.claim(0x4d0..=0x4d1, Chip::Pic, 4)?;
    ports.claim(0x40..=0x43, Chip::Pit, 0)?;
    ports.claim(0x60..=0x60, Chip::Keyboard, 0)?;
    ports.claim(0x61..=0x61, Chip::ControlB, 0)?;
    ports.claim(0x64..=0x64, Chip::Keyboard, 4)?;
    ports.claim(0x70..=0x71, Chip::Rtc, 0)?;
    ports.claim(0x92..=0x92, Chip::ControlA, 0)?;
    for (index, &first) in SERIAL_PORTS[..serial_ports].iter().enumerate() {
        ports.claim(first..=first + 7, Chip::Uart(index), 0)?;
    }
    for (index, &(command, control)) in ATA_PORTS.iter().enumerate() {
        ports.claim(command..=command + 7, Chip::Ata(index), 0)?;
        ports.claim(control..=control, Chip::Ata(index), ata::CONTROL)?;
    }
    ports.claim(0x3f2..=0x3f5, Chip::Floppy, 2)?;
    ports.claim(0x3f7..=0x3f7, Chip::Floppy, 7)?;
    for range in [0x3b4..=0x3b5, 0x3ba..=0x3ba, 0x3c0..=0x3cf, 0x3d4..=0x3d5, 0x3da..=0x3da] {
        let offset = range.start() - vga::FIRST_PORT;
        ports.claim(range, Chip::Vga, offset)?;
    }
    ports.claim(0x1ce..=0x1cf, Chip::Dispi, 0)?;
    ports.claim(APM_PORTS, Chip::AdvancedPower, power::APM)?;
    ports.claim(0xe9..=0xe9, Chip::DebugConsole, 0)?;
    ports.claim(0xf4..=0xf7, Chip::DebugExit, 0)?;
    ports.claim(0x402..=0x402, Chip::FirmwareConsole, 0)?;
    ports.claim(0x510..=0x511, Chip::FwCfg, 0)?;
    ports.claim(0x514..=0x51b, Chip::FwCfg, 4)?;
    ports.claim(0xcf8..=0xcf8, Chip::PciAddress, 0)?;
    ports.claim(0xcf9..=0xcf9, Chip::ResetControl, 0)?;
    ports.claim(0xcfc..=0xcff, Chip::Pci, 0)?;
    Ok(ports)
}

/// The PCI bus with the functions of a board whose video ROM has so many bytes, whole pages.
fn functions(video_rom: u64) -> Pci {
    let mut pci = Pci::new();
    pci.add(pci::VGA, pci::vga::new(video_rom));
    pci
}

impl Bus for Board {
    #[inline(always)]
    fn ram(&self) -> &Ram {
        &self.ram
    }

    #[inline(always)]
    fn ram_mut(&mut self) -> &mut Ram {
        &mut self.ram
    }

    fn frame(&self, frame: u64) -> Frame {
        let masked = if self.a20 { frame } else { frame & !A20_FRAME };
        if self.interrupts.owns(frame) {
            return Frame::Device;
        }
        // Beyond 52 bits there is nothing.
        if masked >> 40 != 0 { Frame::Device } else { self.layout.frame(masked << 12) }
    }

    fn phys_of(&self, offset: usize) -> Phys {
        Phys(self.layout.address(offset))
    }

    #[inline(always)]
    fn layout(&self) -> u32 {
        self.layout_version
    }

    fn mmio_read(&mut self, at: Phys, size: Size, now: Ticks) -> u32 {
        self.interrupts.mmio_read(at, size, now).unwrap_or_else(|| self.read_elsewhere(at, size, now))
    }

    fn mmio_write(&mut self, at: Phys, size: Size, value: u32, now: Ticks) {
        if self.interrupts.mmio_write(at, size, value, now) {
            self.settle(Chip::LocalApic, now);
            self.carry_controls();
        } else {
            self.write_elsewhere(at, size, value, now);
        }
    }

    fn set_apic_base(&mut self, value: u64, now: Ticks) {
        self.interrupts.set_base(value);
        self.layout_version = self.layout_version.wrapping_add(1);
        self.settle(Chip::LocalApic, now);
    }

    fn port_read(&mut self, port: u16, size: Size, now: Ticks) -> u32 {
        if size != Size::Byte
            && let Some((chip, device)) = self.wide(port, size)
        {
            let value = device.read_wide(size, now);
            self.settle(chip, now);
            return value & size.mask();
        }
        (0..size.bytes() as u16)
            .map(|byte| u32::from(self.read_byte(port.wrapping_add(byte), now)) << (8 * byte))
            .fold(0, |value, byte| value | byte)
    }

    fn port_write(&mut self, port: u16, size: Size, value: u32, now: Ticks) {
        if size != Size::Byte
            && let Some((chip, device)) = self.wide(port, size)
        {
            device.write_wide(size, value & size.mask(), now);
            return self.settle(chip, now);
        }
        for byte in 0..size.bytes() as u16 {
            self.write_byte(port.wrapping_add(byte), (value >> (8 * byte)) as u8, now);
        }
    }

    #[inline(always)]
    fn interrupt(&self) -> bool {
        self.interrupts.interrupt()
    }

    fn take_nmi(&mut self) -> bool {
        self.interrupts.take_nmi()
    }

    fn can_interrupt(&self) -> bool {
        self.interrupts.could_interrupt(self.live_lines())
    }

    fn acknowledge(&mut self, _now: Ticks) -> u8 {
        self.interrupts.acknowledge()
    }

    #[inline]
    fn tick(&mut self, now: Ticks) -> Option<Ticks> {
        if now >= self.deadline {
            self.touch_all(now);
        }
        (self.deadline != NEVER).then_some(self.deadline)
    }

    #[inline(always)]
    fn take_request(&mut self) -> Option<Request> {
        self.request.take()
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod pci_tests;
