//! Which chip answers to which port.

use std::ops::RangeInclusive;

/// Who a port belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    /// The CRT controller.
    Crtc,
    /// The debug console.
    DebugConsole,
    /// The debug exit.
    DebugExit,
    /// Power management.
    Power,
    /// The local APICs: no ports.
    LocalApic,
}

/// A range of ports and the chip behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
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
#[derive(Clone, PartialEq, Eq)]
pub struct PortMap {
    /// For each port, 0 or the number of its claim plus one.
    owner: Box<[u8]>,
    claims: Vec<Claim>,
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
    fn a_chip_sees_offsets_and_nobody_answers_elsewhere() {
        let mut map = PortMap::default();
        map.claim(0x3f6..=0x3f6, Chip::Ata(0), 8).unwrap();
        map.claim(0xffff..=0xffff, Chip::Rtc, 0).unwrap();
        assert_eq!(map.find(0x3f6), Some((Chip::Ata(0), 8)));
        assert_eq!(map.find(0xffff), Some((Chip::Rtc, 0)));
        assert_eq!((map.find(0), map.find(0x3f7)), (None, None));
    }
}
