//! Data breakpoints (SDM 3B "Debug Registers").

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::observe::Observer;

/// What a debug register watches for, as R/W encodes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Watch {
    /// 00: instruction execution.
    Execute,
    /// 01: data writes.
    Write,
    /// 10: I/O reads and writes (with CR4.DE).
    Io,
    /// 11: data reads and writes.
    ReadWrite,
}

/// One enabled breakpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Breakpoint {
    /// Which register, 0 to 3.
    pub number: u8,
    /// What for.
    pub watch: Watch,
    /// First byte watched (aligned to its length).
    pub address: u32,
    /// How many bytes.
    pub len: u32,
}

/// The breakpoints that DR7 enables.
pub fn breakpoints(dr: &[u32; 8]) -> impl Iterator<Item = Breakpoint> + '_ {
    let dr7 = dr[7];
    (0..4u8).filter(move |n| dr7 >> (n * 2) & 3 != 0).map(move |n| {
        let control = dr7 >> (16 + n * 4) & 15;
        let watch = match control & 3 {
            0 => Watch::Execute,
            1 => Watch::Write,
            2 => Watch::Io,
            _ => Watch::ReadWrite,
        };
        // LEN 10 is 8 bytes only in 64-bit mode; the manual leaves it undefined here, it is taken as 4 (Choice)
        let len = match control >> 2 {
            0 => 1,
            1 => 2,
            _ => 4,
        };
        Breakpoint { number: n, watch, address: dr[n as usize] & !(len - 1), len }
    })
}

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// Whether a data breakpoint is enabled.
    pub(crate) fn has_data_breakpoints(&self) -> bool {
        breakpoints(&self.dr).any(|b| matches!(b.watch, Watch::Write | Watch::ReadWrite))
    }

    /// Notes the data breakpoints that an access meets; the trap comes after the instruction.
    pub(super) fn match_data_breakpoints(&mut self, linear: u32, bytes: u32, write: bool) {
        let last = linear.wrapping_add(bytes - 1);
        let dr = self.dr;
        for b in breakpoints(&dr) {
            let watches = b.watch == Watch::ReadWrite || (b.watch == Watch::Write && write);
            if watches && b.address <= last && b.address.wrapping_add(b.len - 1) >= linear {
                self.debug_trap |= 1 << b.number;
                self.leave_block();
            }
        }
    }
}
