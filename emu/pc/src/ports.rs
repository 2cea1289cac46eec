//! Which chip answers to which port.

use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Who a port belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Chip {
    /// The interrupt controllers and their edge/level registers.
    Pic,
    /// The interval timer.
    Pit,
    /// The keyboard controller.
    Keyboard,
    /// System control port A.
    ControlA,
    /// System control port B.
    ControlB,
    /// The clock and its memory.
    Rtc,
    /// A serial port, by its index.
    Uart(usize),
    /// A disk channel, by its index.
    Ata(usize),
    /// The floppy disk controller.
    Floppy,
    /// The display adapter's VGA ports.
    Vga,
    /// The display adapter's VBE ports.
    Dispi,
    /// The debug console.
    DebugConsole,
    /// The debug exit.
    DebugExit,
    /// Power management, where its PCI function says.
    Power,
    /// Its APM ports, which have a fixed place.
    AdvancedPower,
    /// The local APICs: no ports.
    LocalApic,
    /// PCI's address register, and nothing else of that dword.
    PciAddress,
    /// PCI's data register.
    Pci,
    /// The reset control register.
    ResetControl,
    /// The bus master of the disk channels.
    BusMaster,
    /// The firmware configuration device.
    FwCfg,
    /// The console of a firmware's messages.
    FirmwareConsole,
}

/// A range of ports and the chip behind it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Claim {
    ports: RangeInclusive<u16>,
    chip: Chip,
    /// The chip's offset of the first port.
    offset: u16,
}

/// Two chips at the same port.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
#[error("port {port:#06x} of {second:?} already belongs to {first:?}")]
pub struct Overlap {
    /// The first port both want.
    pub port: u16,
    /// The chip that was there.
    pub first: Chip,
    /// The chip that came.
    pub second: Chip,
}

/// The 64 Ki ports.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMap {
    /// For each port, 0 or the number of its claim plus one.
    #[serde(with = "runs")]
    owner: Box<[u8]>,
    claims: Vec<Claim>,
}

/// Owners as a file has them: how many ports in a row have which.
mod runs {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(owner: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let runs: Vec<(u8, u32)> =
            owner.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u32)).collect();
        runs.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<[u8]>, D::Error> {
        let runs: Vec<(u8, u32)> = Vec::deserialize(deserializer)?;
        if runs.iter().map(|&(_, len)| u64::from(len)).sum::<u64>() != 0x1_0000 {
            return Err(D::Error::custom("these are not all ports"));
        }
        Ok(runs.into_iter().flat_map(|(number, len)| std::iter::repeat_n(number, len as usize)).collect())
    }
}

impl std::fmt::Debug for PortMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.claims).finish()
    }
}

impl Default for PortMap {
    fn default() -> Self {
        PortMap { owner: vec![0; 0x1_0000].into(), claims: Vec::new() }
    }
}

impl PortMap {
    /// Gives `ports` to `chip`, which sees the first of them at `offset`.
    pub fn claim(&mut self, ports: RangeInclusive<u16>, chip: Chip, offset: u16) -> Result<(), Overlap> {
        if let Some((port, (first, _))) = ports.clone().find_map(|port| Some((port, self.find(port)?))) {
            return Err(Overlap { port, first, second: chip });
        }
        self.claims.push(Claim { ports: ports.clone(), chip, offset });
        let number = u8::try_from(self.claims.len()).expect("a board has fewer than 256 ranges of ports");
        for port in ports {
            self.owner[usize::from(port)] = number;
        }
        Ok(())
    }

    /// The ports of a chip that can be moved: `first` (or nowhere) and those after it, `len` in all, whoever
    /// already has one of them keeping it.
    pub fn relocate(&mut self, chip: Chip, first: Option<u16>, len: u16) {
        let slot = match self.claims.iter().position(|claim| claim.chip == chip) {
            Some(slot) => slot,
            None => {
                self.claims.push(Claim { ports: 0..=0, chip, offset: 0 });
                self.claims.len() - 1
            }
        };
        let number = u8::try_from(slot + 1).expect("a board has fewer than 256 ranges of ports");
        for owner in self.owner.iter_mut().filter(|owner| **owner == number) {
            *owner = 0;
        }
        let Some(first) = first else { return };
        let ports = first..=first.saturating_add(len.saturating_sub(1));
        self.claims[slot].ports = ports.clone();
        for port in ports {
            let owner = &mut self.owner[usize::from(port)];
            if *owner == 0 {
                *owner = number;
            }
        }
    }

    /// Where a chip that can be moved is.
    pub fn place_of(&self, chip: Chip) -> Option<u16> {
        let slot = self.claims.iter().position(|claim| claim.chip == chip)?;
        let first = *self.claims[slot].ports.start();
        (usize::from(*self.owner.get(usize::from(first))?) == slot + 1).then_some(first)
    }

    /// Whether this is `fixed`, and beside it `movable` chips, of so many ports each, wherever these have been moved.
    pub(crate) fn is_made_of(&self, fixed: &PortMap, movable: &[(Chip, u16)]) -> bool {
        let Some((known, moved)) = self.claims.split_at_checked(fixed.claims.len()) else { return false };
        let may_move = |claim: &Claim| {
            let last = claim.ports.end().checked_sub(*claim.ports.start());
            claim.offset == 0
                && movable
                    .iter()
                    .any(|&(chip, len)| claim.chip == chip && last.is_some_and(|last| last < len))
        };
        let has = |number: u8, port: u16| {
            let claim = usize::from(number).checked_sub(known.len() + 1).and_then(|slot| moved.get(slot));
            claim.is_some_and(|claim| claim.ports.contains(&port))
        };
        let mut owners = (0..=u16::MAX).zip(self.owner.iter().zip(&fixed.owner));
        known == fixed.claims
            && moved.len() <= movable.len()
            && moved.iter().all(may_move)
            && self.owner.len() == fixed.owner.len()
            && owners.all(|(port, (&now, &fixed))| now == fixed || fixed == 0 && has(now, port))
    }

    /// The chip at `port`, and the chip's offset of it.
    #[inline]
    pub fn find(&self, port: u16) -> Option<(Chip, u16)> {
        let number = self.owner[usize::from(port)];
        let claim = self.claims.get(usize::from(number).checked_sub(1)?)?;
        Some((claim.chip, port - claim.ports.start() + claim.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_ranges_are_refused_and_leave_the_first_in_place() {
        let mut map = PortMap::default();
        map.claim(0x60..=0x64, Chip::Keyboard, 0).unwrap();
        let overlap = map.claim(0x61..=0x61, Chip::ControlB, 0).unwrap_err();
        assert_eq!(overlap.to_string(), "port 0x0061 of ControlB already belongs to Keyboard");
        assert_eq!(map.find(0x61), Some((Chip::Keyboard, 1)));
    }

    #[test]
    fn a_movable_chip_leaves_its_old_ports_and_takes_none_that_are_taken() {
        let mut map = PortMap::default();
        map.claim(0x108..=0x108, Chip::Rtc, 0).unwrap();
        map.relocate(Chip::BusMaster, Some(0x100), 16);
        assert_eq!((map.find(0x10f), map.find(0x108)), (Some((Chip::BusMaster, 15)), Some((Chip::Rtc, 0))));
        map.relocate(Chip::BusMaster, Some(0xfff8), 16);
        assert_eq!((map.find(0x100), map.find(0xffff)), (None, Some((Chip::BusMaster, 7))));
        map.relocate(Chip::BusMaster, None, 16);
        assert_eq!((map.find(0xfff8), map.find(0x108)), (None, Some((Chip::Rtc, 0))));
    }

    #[test]
    fn a_chip_sees_offsets_and_nobody_answers_elsewhere() {
        let mut map = PortMap::default();
        map.claim(0x3f6..=0x3f6, Chip::Ata(0), 8).unwrap();
        map.claim(0xffff..=0xffff, Chip::Rtc, 0).unwrap();
        assert_eq!(map.find(0x3f6), Some((Chip::Ata(0), 8)));
        assert_eq!(map.find(0xffff), Some((Chip::Rtc, 0)));
        assert_eq!((map.find(0), map.find(0x3f7)), (None, None));
    }
}
