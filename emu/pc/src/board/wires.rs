//! The board's wires: interrupt lines, the controls between chips, what PCI configuration moves, and DMA.

use super::*;
use crate::fw_cfg::DMA_REQUEST;
use crate::memory::{Display, EXTENDED, ROM_AREA, VIDEO};
use crate::pci::bus_master::{DESCRIPTOR, Direction, Step};
use crate::pci::{HOST_BRIDGE, IDE, POWER, VGA, host_bridge, ide};
use crate::vga::registers;

/// Ports of the disk channels' bus master.
pub(super) const BUS_MASTER_PORTS: u16 = 16;
/// The most that one step of a transfer moves.
const PIECE: usize = 4096;

impl Board {
    /// Carries every chip's interrupt line to the interrupt controllers.
    pub(super) fn carry_lines(&mut self) {
        self.interrupts.wire(IRQ_TIMER, &mut self.pit.out0);
        self.interrupts.wire(IRQ_KEYBOARD, &mut self.keyboard.irq);
        self.interrupts.wire(IRQ_MOUSE, &mut self.keyboard.mouse_irq);
        for (uart, irq) in self.uarts.iter_mut().zip(IRQ_SERIAL) {
            self.interrupts.wire(irq, &mut uart.irq);
        }
        self.interrupts.wire(IRQ_CLOCK, &mut self.rtc.irq);
        self.interrupts.wire(IRQ_POWER, &mut self.power.irq);
        self.interrupts.wire(IRQ_FLOPPY, &mut self.floppy.irq);
        for (channel, irq) in self.ata.iter_mut().zip(IRQ_ATA) {
            self.interrupts.wire(irq, &mut channel.irq);
        }
    }

    /// The lines that may yet rise while the processor sleeps: by themselves, or by input from outside.
    pub(super) fn live_lines(&self) -> u16 {
        let line = |irq: u8, live: bool| u16::from(live) << irq;
        let mut lines = line(IRQ_TIMER, self.pit.could_interrupt())
            | line(IRQ_KEYBOARD, self.keyboard.could_interrupt())
            | line(IRQ_MOUSE, self.keyboard.mouse_could_interrupt())
            | line(IRQ_CLOCK, self.rtc.could_interrupt())
            | line(IRQ_POWER, self.power.could_interrupt());
        for (uart, irq) in self.uarts.iter().zip(IRQ_SERIAL) {
            lines |= line(irq, uart.could_interrupt());
        }
        for (channel, irq) in self.ata.iter().zip(IRQ_ATA) {
            lines |= line(irq, channel.could_interrupt());
        }
        lines
    }

    /// The wires that are not interrupts: address line 20, the reset line, the debug exit.
    pub(super) fn carry_controls(&mut self) {
        let a20 = self.keyboard.a20() || self.control_a.a20();
        if a20 != self.a20 {
            self.a20 = a20;
            self.layout_version = self.layout_version.wrapping_add(1);
        }
        // `Choice:` an INIT resets the board, as the keyboard controller's pulse does.
        if self.keyboard.take_reset() || self.interrupts.take_init() {
            self.request = Some(Request::Reset);
        }
        if self.power.take_off() {
            self.request = Some(Request::PowerOff);
        }
        if let Some(value) = self.debug_exit.take() {
            self.request = Some(Request::Exit(value));
        }
    }

    /// What the configuration of PCI functions decides: memory in the ROM area, and ports.
    pub(super) fn carry_pci(&mut self) {
        if let Some(bridge) = self.pci.function(HOST_BRIDGE)
            && self.layout.set_shadow(host_bridge::segments(bridge))
        {
            self.layout_version = self.layout_version.wrapping_add(1);
        }
        let power = self.pci.function(POWER).and_then(pci::power::ports);
        let bus_master = self.pci.function(IDE).and_then(ide::bus_master_ports);
        for (chip, first, len) in
            [(Chip::Power, power, power::PORTS), (Chip::BusMaster, bus_master, BUS_MASTER_PORTS)]
        {
            if self.ports.place_of(chip) != first {
                self.ports.relocate(chip, first, len);
            }
        }
        self.carry_vga();
    }

    /// Where the display adapter's memory is seen, by its registers and its PCI configuration; and what it clears.
    pub(super) fn carry_vga(&mut self) {
        let adapter = self.pci.function(VGA);
        let rom = self.layout.video_rom_len();
        let display = Display {
            window: self.vga.plain_window(),
            frame_buffer: adapter.and_then(pci::vga::frame_buffer),
            rom: adapter.and_then(|adapter| pci::vga::rom(adapter, rom)),
        };
        if self.layout.set_display(display) {
            self.layout_version = self.layout_version.wrapping_add(1);
        }
        if let Some(len) = self.vga.take_clear() {
            let base = self.layout.video_offset() as usize;
            self.ram.write(base, &vec![0; len.min(VIDEO_MEMORY) as usize]);
        }
    }

    /// The video memory.
    pub(super) fn video_memory(&self) -> &[u8] {
        self.ram.slice(self.layout.video_offset() as usize, VIDEO_MEMORY as usize)
    }

    /// A video BIOS's text mode 3, for kernels that no BIOS starts.
    pub(crate) fn set_text_mode(&mut self) {
        self.vga.set_text_mode(&mut self.ram, self.layout.video_offset() as usize);
        self.carry_vga();
    }

    /// The offset of an address in the display adapter's registers.
    fn vga_register(&self, at: Phys) -> Option<u64> {
        let base = pci::vga::registers(self.pci.function(VGA)?)?;
        at.0.checked_sub(base).filter(|&offset| offset < registers::LENGTH)
    }

    /// A read of memory that is no frame and no APIC.
    pub(super) fn read_elsewhere(&mut self, at: Phys, size: Size, now: Ticks) -> u32 {
        if (VIDEO..ROM_AREA).contains(&at.0) {
            return self.vga.read_memory(&self.ram, self.layout.video_offset() as usize, at.0, size);
        }
        match self.vga_register(at) {
            Some(offset) => self.vga.read_register(offset, size, now),
            None => self.read_hole(at, size),
        }
    }

    /// A write to memory that is no frame and no APIC.
    pub(super) fn write_elsewhere(&mut self, at: Phys, size: Size, value: u32, now: Ticks) {
        if (VIDEO..ROM_AREA).contains(&at.0) {
            let base = self.layout.video_offset() as usize;
            return self.vga.write_memory(&mut self.ram, base, at.0, size, value);
        }
        match self.vga_register(at) {
            Some(offset) => {
                self.vga.write_register(offset, size, value, now);
                self.carry_vga();
            }
            None => self.write_hole(at, size, value),
        }
    }

    /// A byte that is no frame, as a debugger sees it.
    pub(super) fn peek_vga(&self, at: u64) -> u8 {
        if !(VIDEO..ROM_AREA).contains(&at) {
            return 0xff;
        }
        self.vga.peek_memory(&self.ram, self.layout.video_offset() as usize, at)
    }

    /// Lets a channel's bus master move what the device has or wants, as far as both go.
    pub(super) fn serve_dma(&mut self, index: usize, now: Ticks) {
        let may_master = self.pci.function(IDE).is_some_and(ide::may_master);
        while let Some((direction, wanted)) = self.ata[index].dma().filter(|_| may_master) {
            match self.bus_master.channels[index].step(direction) {
                Step::Nothing => break,
                Step::Descriptor(at) => {
                    let mut descriptor = [0; DESCRIPTOR];
                    self.peek(Phys(at), &mut descriptor);
                    self.bus_master.channels[index].load(descriptor);
                }
                Step::Move { at, len } => {
                    let len = wanted.min(len as usize).min(PIECE - at as usize % PIECE);
                    match direction {
                        Direction::ToMemory => {
                            let data = self.ata[index].dma_take(len, now);
                            self.dma_write(at, &data);
                        }
                        Direction::ToDevice => {
                            let mut data = vec![0; len];
                            self.peek(Phys(at), &mut data);
                            self.ata[index].dma_give(&data, now);
                        }
                    }
                    self.bus_master.channels[index].moved(len as u32);
                }
            }
        }
        self.bus_master.channels[index].device_interrupt(self.ata[index].irq.level());
    }

    /// Serves a request of the firmware configuration device.
    pub(super) fn serve_fw_cfg(&mut self) {
        let Some(at) = self.fw_cfg.take_request() else { return };
        let mut request = [0; DMA_REQUEST];
        self.peek(Phys(at), &mut request);
        let transfer = self.fw_cfg.begin(request);
        if let Some(to) = transfer.to {
            let end = to.saturating_add(u64::from(transfer.len));
            let mut at = to;
            let mut data = [0; PIECE];
            while at < end {
                let piece = (PIECE - at as usize % PIECE).min((end - at) as usize);
                let data = &mut data[..piece];
                self.fw_cfg.next_bytes(data);
                self.dma_write(at, data);
                at += piece as u64;
            }
        }
        let answer = transfer.answer.to_be_bytes();
        for (index, byte) in answer.into_iter().enumerate() {
            self.dma_write(at.wrapping_add(index as u64), &[byte]);
        }
    }

    /// Writes within one page as a device does: past address line 20's mask, and only where there is RAM.
    pub(super) fn dma_write(&mut self, at: u64, data: &[u8]) {
        if let Frame::Ram(offset) = self.layout.frame(at) {
            self.ram.write(offset + (at % PAGE) as usize, data);
        }
    }

    /// A read of memory that is no frame: where the host bridge lets writes alone through to RAM, the ROM is read.
    pub(super) fn read_hole(&self, at: Phys, size: Size) -> u32 {
        let rom = self.layout.rom_page(at.0).filter(|_| (ROM_AREA..EXTENDED).contains(&at.0));
        let within = (at.0 % PAGE) as usize;
        let Some(page) = rom.filter(|_| within + size.bytes() as usize <= PAGE as usize) else {
            return size.mask();
        };
        let bytes = self.ram.slice(page + within, size.bytes() as usize);
        bytes.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte))
    }

    /// A write to memory that is no frame: see [`Board::read_hole`].
    pub(super) fn write_hole(&mut self, at: Phys, size: Size, value: u32) {
        let within = at.0 % PAGE;
        if (ROM_AREA..EXTENDED).contains(&at.0)
            && self.layout.attributes(at.0).write
            && within + u64::from(size.bytes()) <= PAGE
        {
            self.ram.write(at.0 as usize, &value.to_le_bytes()[..size.bytes() as usize]);
        }
    }
}
