//! A board read back from a file: whatever the file held, what comes out of here can be run.
//!
//! What follows from the rest is not taken from the file: which memory stands where, and the bits of PCI functions that
//! can't be written. Memory is left to whoever reads the file.

use super::wires::BUS_MASTER_PORTS;
use super::*;
use pagewalk_x86::image::Damaged;

impl Board {
    /// The board of a file with memory of zeros and disks that are still to be attached: all parts are checked.
    pub(crate) fn revived(mut self) -> Result<Board, Damaged> {
        let layout = self.layout.revived().ok_or(Damaged("the memory's layout"))?;
        let [memory, rom, video, video_rom] = layout.sizes();
        let possible = MEMORY.contains(&memory)
            && (1..=ROM_LIMIT as u64).contains(&rom)
            && video == VIDEO_MEMORY
            && video_rom <= VIDEO_ROM_LIMIT as u64;
        Damaged::unless(possible, "the memory's size")?;
        Damaged::unless(self.uarts.len() <= SERIAL_PORTS.len(), "the serial ports")?;
        let movable = [(Chip::Power, power::PORTS), (Chip::BusMaster, BUS_MASTER_PORTS)];
        let fixed = fixed_ports(self.uarts.len()).map_err(|_| Damaged("the ports"))?;
        Damaged::unless(self.ports.is_made_of(&fixed, &movable), "the ports")?;
        self.interrupts.check()?;
        self.pit.check()?;
        self.keyboard.check()?;
        self.rtc.check()?;
        self.uarts.iter().try_for_each(Uart::check)?;
        self.ata.iter().try_for_each(AtaChannel::check)?;
        self.floppy.check()?;
        self.bus_master.check()?;
        self.vga.check()?;
        let consoles = self.debug_console.output.is_sound() && self.firmware_console.output.is_sound();
        Damaged::unless(consoles, "the debug consoles")?;
        Damaged::unless(self.a20 == (self.keyboard.a20() || self.control_a.a20()), "address line 20")?;
        Damaged::unless(self.deadlines.iter().all(|&at| self.deadline <= at), "the deadlines")?;
        self.pci = self.pci.revived(functions(video_rom)).ok_or(Damaged("the PCI functions"))?;

        self.ram = Ram::try_new(layout.stored() as usize).ok_or(NO_ROOM)?;
        self.layout = layout;
        let version = self.layout_version;
        self.carry_pci();
        self.layout_version = version;
        Ok(self)
    }

    /// The disk at a place, to write to; as [`Board::disk`].
    pub(crate) fn disk_mut(&mut self, index: usize) -> Option<&mut Disk> {
        self.ata.get_mut(index / 2)?.disk_mut(index % 2)
    }
}

/// What a board is refused for that has more memory than the host.
pub(crate) const NO_ROOM: Damaged = Damaged("the memory, which is more than this host has,");
