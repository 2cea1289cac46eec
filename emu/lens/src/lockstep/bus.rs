//! Our side's bus: memory as QEMU has it, and everything from outside as QEMU's guest saw it.

use std::collections::VecDeque;

use pagewalk_x86::bus::{Bus, Frame, Phys, Size, Ticks};
use pagewalk_x86::ram::Ram;

use crate::qemu::layout::{Backing, Range};
use crate::qemu::stream::Input;

/// The debug-exit port.
const EXIT: u16 = 0xf4;

/// The bus.
#[derive(Clone, Debug)]
pub struct FedBus {
    ram: Ram,
    /// Ranges, with the offset of their first byte in `ram`, where they are memory.
    ranges: Vec<(Range, Frame)>,
    layout: u32,
    a20: bool,
    /// What QEMU's guest read and ours has not read yet.
    pub inputs: VecDeque<Input>,
    /// Reads for which there was no input: port or address, and how many bytes.
    pub unfed: Vec<(u64, u32)>,
    /// How many reads were fed.
    pub fed: u64,
    /// The vector of an interrupt to take now.
    pub interrupt: Option<u8>,
    /// What was written to the debug-exit port.
    pub exit: Option<u32>,
}

impl FedBus {
    /// A bus with these ranges; `other` reads the memory of a range that is not RAM. `memory` bytes of RAM come first.
    pub fn new<E>(
        memory: u64,
        ranges: &[Range],
        mut other: impl FnMut(&Range) -> Result<Vec<u8>, E>,
    ) -> Result<FedBus, E> {
        let mut extra: Vec<u8> = Vec::new();
        let mut placed = Vec::new();
        for range in ranges {
            let frame = match range.backing {
                Backing::Ram { offset, writable: true } => Frame::Ram(offset as usize),
                Backing::Ram { offset, writable: false } => Frame::Rom(offset as usize),
                Backing::Other { writable } => {
                    let at = memory as usize + extra.len();
                    extra.extend(other(range)?);
                    extra.resize(extra.len().next_multiple_of(4096), 0);
                    if writable { Frame::Ram(at) } else { Frame::Rom(at) }
                }
                Backing::Device => Frame::Device,
            };
            placed.push((*range, frame));
        }
        let mut ram = Ram::new(memory as usize + extra.len());
        ram.write(memory as usize, &extra);
        Ok(FedBus {
            ram,
            ranges: placed,
            layout: 0,
            a20: true,
            inputs: VecDeque::new(),
            unfed: Vec::new(),
            fed: 0,
            interrupt: None,
            exit: None,
        })
    }

    /// Opens or closes address line 20.
    pub fn set_a20(&mut self, open: bool) {
        if self.a20 != open {
            self.a20 = open;
            self.layout += 1;
        }
    }

    /// What QEMU's guest read at `at`, put together from as many inputs as it takes.
    fn feed(&mut self, at: u64, bytes: u32) -> Option<u32> {
        let (mut value, mut got) = (0u64, 0);
        while got < bytes {
            let input = *self.inputs.front()?;
            if input.at != at + got as u64 || input.bytes == 0 || input.bytes > 8 {
                return None;
            }
            self.inputs.pop_front();
            value |= (input.value & (u64::MAX >> (64 - 8 * input.bytes))) << (8 * got);
            got += input.bytes;
        }
        self.fed += 1;
        Some(value as u32)
    }
}

impl Bus for FedBus {
    fn ram(&self) -> &Ram {
        &self.ram
    }

    fn ram_mut(&mut self) -> &mut Ram {
        &mut self.ram
    }

    fn frame(&self, frame: u64) -> Frame {
        let frame = if self.a20 { frame } else { frame & !0x100 };
        if frame >> 52 != 0 {
            return Frame::Device;
        }
        let at = frame << 12;
        let found = self.ranges.iter().find(|(range, _)| at >= range.start && at - range.start < range.len);
        match found {
            // a range that is not whole pages is none of memory
            Some((range, frame)) if range.start & 0xfff == 0 => {
                let within = (at - range.start) as usize;
                match *frame {
                    Frame::Ram(offset) => Frame::Ram(offset + within),
                    Frame::Rom(offset) => Frame::Rom(offset + within),
                    Frame::Device => Frame::Device,
                }
            }
            _ => Frame::Device,
        }
    }

    fn phys_of(&self, offset: usize) -> Phys {
        let found = self.ranges.iter().find_map(|(range, frame)| match *frame {
            Frame::Ram(start) | Frame::Rom(start)
                if (start..start + range.len as usize).contains(&offset) =>
            {
                Some(range.start + (offset - start) as u64)
            }
            _ => None,
        });
        Phys(found.unwrap_or(offset as u64))
    }

    fn layout(&self) -> u32 {
        self.layout
    }

    fn mmio_read(&mut self, at: Phys, size: Size, _now: Ticks) -> u32 {
        // where there is nothing at all, QEMU reads zeros and does not say so
        self.feed(at.0, size.bytes()).unwrap_or(0)
    }

    fn mmio_write(&mut self, _at: Phys, _size: Size, _value: u32, _now: Ticks) {}

    fn port_read(&mut self, port: u16, size: Size, _now: Ticks) -> u32 {
        match self.feed(port as u64, size.bytes()) {
            Some(value) => value,
            None => {
                self.unfed.push((port as u64, size.bytes()));
                size.mask()
            }
        }
    }

    fn port_write(&mut self, port: u16, size: Size, value: u32, _now: Ticks) {
        if port == EXIT {
            self.exit = Some(value & size.mask());
        }
    }

    fn interrupt(&self) -> bool {
        self.interrupt.is_some()
    }

    fn acknowledge(&mut self, _now: Ticks) -> u8 {
        self.interrupt.take().unwrap_or(0xff)
    }

    fn tick(&mut self, _now: Ticks) -> Option<Ticks> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus() -> FedBus {
        let ranges = [
            Range { start: 0, len: 0xa_0000, backing: Backing::Ram { offset: 0, writable: true } },
            Range {
                start: 0xc_0000,
                len: 0x4_0000,
                backing: Backing::Ram { offset: 0xc_0000, writable: false },
            },
            Range { start: 0xffff_f000, len: 0x1000, backing: Backing::Other { writable: false } },
        ];
        FedBus::new::<()>(0x10_0000, &ranges, |_| Ok(vec![0xea; 0x1000])).unwrap()
    }

    #[test]
    fn memory_stands_where_the_ranges_say() {
        let mut bus = bus();
        assert_eq!(bus.frame(5), Frame::Ram(0x5000));
        assert_eq!(bus.frame(0xa0), Frame::Device);
        assert_eq!(bus.frame(0xc1), Frame::Rom(0xc_1000));
        assert_eq!(bus.frame(0xf_ffff), Frame::Rom(0x10_0000));
        assert_eq!(bus.phys_of(0x10_0004), Phys(0xffff_f004));
        assert_eq!(bus.ram().read::<1>(0x10_0000), [0xea]);
        let before = bus.layout();
        bus.set_a20(false);
        assert_ne!(bus.layout(), before);
        assert_eq!(bus.frame(0x105), Frame::Ram(0x5000));
    }

    #[test]
    fn reads_are_fed_in_order_and_put_together_from_parts() {
        let mut bus = bus();
        let input = |at, value, bytes| Input { at, value, bytes };
        bus.inputs.extend([input(0x3fd, 0x60, 1), input(0x1f0, 0x34, 1), input(0x1f1, 0x12, 1)]);
        assert_eq!(bus.port_read(0x3fd, Size::Byte, Ticks(0)), 0x60);
        assert_eq!(bus.port_read(0x1f0, Size::Word, Ticks(0)), 0x1234);
        assert_eq!((bus.unfed.len(), bus.fed), (0, 2));
        assert_eq!(bus.port_read(0x60, Size::Byte, Ticks(0)), 0xff);
        assert_eq!(bus.unfed, [(0x60, 1)]);
    }
}
