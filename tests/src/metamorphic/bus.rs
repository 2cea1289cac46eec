//! The world of a case: memory, a window of it that moves, a device whose registers change as they are read, ports, and
//! events that come by the time.

use pagewalk_x86::bus::{Bus, Frame, Phys, Request, Size, Ticks};
use pagewalk_x86::ram::Ram;

use super::layout::*;

/// What comes from outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// INTR is raised; this vector is behind it.
    Interrupt(u8),
    /// An edge on NMI.
    Nmi,
    /// Something other than the processor writes to memory.
    Dma {
        /// Offset into memory.
        at: u32,
        /// What.
        bytes: Vec<u8>,
    },
    /// The window moves.
    Bank(u32),
    /// The RESET line.
    Reset,
}

/// What went in or out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// When.
    pub now: u64,
    /// A port, or a physical address.
    pub at: u64,
    /// Whether `at` is a port.
    pub port: bool,
    /// Whether it was a write.
    pub write: bool,
    /// Bytes.
    pub bytes: u32,
    /// The value.
    pub value: u32,
}

/// The bus.
#[derive(Clone, Debug)]
pub struct World {
    ram: Ram,
    /// What is still to come, the earliest first.
    pub events: Vec<(u64, Event)>,
    /// Everything that went in or out.
    pub accesses: Vec<Access>,
    bank: u32,
    layout: u32,
    pending: Option<u8>,
    nmi: bool,
    reset: bool,
    /// Changes with every read of a device.
    noise: u32,
}

impl World {
    /// With this in memory, and events in any order.
    pub fn new(bytes: &[u8], mut events: Vec<(u64, Event)>) -> World {
        let mut ram = Ram::new(RAM);
        ram.write(0, bytes);
        events.sort_by_key(|event| event.0);
        let (accesses, pending) = (Vec::new(), None);
        World { ram, events, accesses, bank: 0, layout: 0, pending, nmi: false, reset: false, noise: 1 }
    }

    /// The same world with memory in which nothing was decoded.
    pub fn undecoded(&self) -> World {
        let mut ram = Ram::new(self.ram.len());
        ram.write(0, self.ram.bytes());
        World { ram, ..self.clone() }
    }

    /// What differs from another world: the name of the part, and the two values.
    pub fn difference(&self, other: &World) -> Option<String> {
        let say = |what: &str, a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| {
            Some(format!("{what}: {a:x?}, {b:x?}"))
        };
        if self.accesses != other.accesses {
            let n = self.accesses.iter().zip(&other.accesses).take_while(|(a, b)| a == b).count();
            return say("ports and devices", &self.accesses.get(n), &other.accesses.get(n));
        }
        if self.ram.bytes() != other.ram.bytes() {
            let (a, b) = (self.ram.bytes(), other.ram.bytes());
            let at = (0..a.len().min(b.len())).find(|&at| a[at] != b[at]).unwrap_or(0);
            return say(&format!("memory at {at:#x}"), &a[at], &b[at]);
        }
        if self.events != other.events {
            return say("events to come", &self.events, &other.events);
        }
        let rest = |w: &World| (w.bank, w.layout, w.pending, w.nmi, w.reset, w.noise);
        (rest(self) != rest(other)).then(|| say("lines", &rest(self), &rest(other))).flatten()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Interrupt(vector) => self.pending = Some(vector),
            Event::Nmi => self.nmi = true,
            Event::Dma { at, bytes } => {
                let at = (at as usize).min(RAM - bytes.len());
                self.ram.write(at, &bytes);
            }
            Event::Bank(bank) => {
                self.layout += (bank != self.bank) as u32;
                self.bank = bank;
            }
            Event::Reset => self.reset = true,
        }
    }

    fn note(&mut self, now: Ticks, at: u64, port: bool, write: bool, size: Size, value: u32) {
        let (now, bytes, value) = (now.0, size.bytes(), value & size.mask());
        self.accesses.push(Access { now, at, port, write, bytes, value });
    }

    fn read(&mut self, now: Ticks, at: u64, port: bool, size: Size) -> u32 {
        self.noise = self.noise.wrapping_mul(0x9e37_79b1).wrapping_add(at as u32);
        let value = if self.noise >> 30 == 0 { self.noise >> 16 & 0xff } else { self.noise >> 7 };
        self.note(now, at, port, false, size, value);
        value & size.mask()
    }
}

impl Bus for World {
    fn ram(&self) -> &Ram {
        &self.ram
    }
    fn ram_mut(&mut self) -> &mut Ram {
        &mut self.ram
    }
    fn frame(&self, frame: u64) -> Frame {
        let window = (WINDOW >> 12) as u64..((WINDOW + WINDOW_BYTES) >> 12) as u64;
        if window.contains(&frame) {
            let within = (frame - window.start) as usize * 0x1000;
            return match self.bank & 3 {
                bank @ (0 | 1) => Frame::Ram((BANKS + bank * WINDOW_BYTES) as usize + within),
                2 => Frame::Rom(ROM as usize + within),
                _ => Frame::Device,
            };
        }
        if frame < (RAM >> 12) as u64 { Frame::Ram((frame << 12) as usize) } else { Frame::Device }
    }
    fn phys_of(&self, offset: usize) -> Phys {
        Phys(offset as u64)
    }
    fn layout(&self) -> u32 {
        self.layout
    }
    fn mmio_read(&mut self, at: Phys, size: Size, now: Ticks) -> u32 {
        self.read(now, at.0, false, size)
    }
    fn mmio_write(&mut self, at: Phys, size: Size, value: u32, now: Ticks) {
        self.note(now, at.0, false, true, size, value);
    }
    fn port_read(&mut self, port: u16, size: Size, now: Ticks) -> u32 {
        self.read(now, port as u64, true, size)
    }
    fn port_write(&mut self, port: u16, size: Size, value: u32, now: Ticks) {
        self.note(now, port as u64, true, true, size, value);
        let byte = value as u8;
        let event = match port {
            PORT_TIMER => Event::Interrupt(byte),
            PORT_BANK => Event::Bank(value & 3),
            PORT_NMI => Event::Nmi,
            PORT_RESET => Event::Reset,
            PORT_DMA => Event::Dma { at: CODE + (byte as u32) * 4, bytes: vec![0x90; 3] },
            _ => return,
        };
        let soon = now.0 + (value >> 4 & 7) as u64;
        if port == PORT_BANK || port == PORT_RESET {
            self.happen(event);
        } else {
            let place = self.events.partition_point(|(when, _)| *when <= soon);
            self.events.insert(place, (soon, event));
        }
    }
    fn interrupt(&self) -> bool {
        self.pending.is_some()
    }
    fn acknowledge(&mut self, _: Ticks) -> u8 {
        self.pending.take().unwrap_or(0xff)
    }
    fn take_nmi(&mut self) -> bool {
        std::mem::take(&mut self.nmi)
    }
    fn tick(&mut self, now: Ticks) -> Option<Ticks> {
        while self.events.first().is_some_and(|(when, _)| *when <= now.0) {
            let (_, event) = self.events.remove(0);
            self.happen(event);
        }
        self.events.first().map(|(when, _)| Ticks(*when))
    }
    fn take_request(&mut self) -> Option<Request> {
        std::mem::take(&mut self.reset).then_some(Request::Reset)
    }
}
