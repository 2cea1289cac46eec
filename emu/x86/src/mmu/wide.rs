//! Operands of 16 bytes: one operand to every check, two places of 8 bytes to loads and stores.

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::fault::{Exec, Fault};
use crate::mmu::walk::{Access, Kind};
use crate::mmu::{Intent, Place, Spot};
use crate::observe::{Asker, Observer};

/// Whether a 16-byte operand must be aligned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Aligned {
    /// To 16 bytes, else #GP(0) (SDM 1 "Memory Alignment Requirements").
    Must,
    /// It need not be.
    Any,
}

/// A translated operand of 16 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Wide {
    low: Place<u64>,
    high: Place<u64>,
}

impl Wide {
    /// `within` bytes (1 to 16) at the first spot, the others at the second.
    fn new(first: Spot, within: u32, second: Spot) -> Wide {
        let (low, high) = match within {
            16 => (Place::within(first), Place::within(first.plus(8))),
            9..16 => (Place::within(first), Place::across(first.plus(8), second)),
            8 => (Place::within(first), Place::within(second)),
            _ => (Place::across(first, second), Place::within(second.plus(8 - within as u64))),
        };
        Wide { low, high }
    }
}

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// Translates a program's access of 16 bytes, as [`Cpu::translate`] does: alignment (which
    /// comes first even for SS. Hardware: AMD EPYC), then type and limit checks over all of it, then paging.
    #[inline(always)]
    pub fn translate_wide(
        &mut self,
        segment: usize,
        offset: u32,
        intent: Intent,
        aligned: Aligned,
    ) -> Exec<Wide> {
        let register = &self.state.segs[segment];
        let write = intent.writes();
        let valid = if write { register.can_write(offset, 16) } else { register.can_read(offset, 16) };
        let linear = register.base.wrapping_add(offset);
        if aligned == Aligned::Must && linear & 15 != 0 {
            return Err(self.raise(Fault::GeneralProtection(0)));
        }
        if !valid {
            return Err(self.raise(Self::segment_fault(segment)));
        }
        if let Some(entry) = self.front.get(self.class, write, linear, 16) {
            let (page, slot) = (entry.page, entry.slot);
            self.tlb.touch(slot);
            self.tlb.counters.hits[self.counter_row][write as usize] += 1;
            return Ok(Wide::new(Spot::ram(page | (linear & 0xfff) as u64), 16, Spot::ram(0)));
        }
        self.translate_wide_slowly(linear, intent, Asker::Program { segment: segment as u8, offset })
    }

    #[inline(never)]
    fn translate_wide_slowly(&mut self, linear: u32, intent: Intent, asker: Asker) -> Exec<Wide> {
        if self.check_alignment && linear & 15 != 0 {
            return Err(self.raise(Fault::Alignment));
        }
        let access = Access {
            kind: if intent.writes() { Kind::Write } else { Kind::Read },
            privilege: self.program_privilege(),
        };
        let within = (0x1000 - (linear & 0xfff)).min(16);
        let (first, _) = self.translate_page(linear, within, access, asker)?;
        let mut second = first;
        if within < 16 {
            (second, _) = self.translate_page(linear.wrapping_add(within), 16 - within, access, asker)?;
        }
        if self.data_breakpoints {
            self.match_data_breakpoints(linear, 16, intent.writes());
        }
        Ok(Wide::new(first, within, second))
    }

    /// Type and limit checks of an operand that is then accessed in parts; gives its linear address.
    pub fn require_within(&mut self, segment: usize, offset: u32, bytes: u32, intent: Intent) -> Exec<u32> {
        let register = &self.state.segs[segment];
        let valid = if intent.writes() {
            register.can_write(offset, bytes)
        } else {
            register.can_read(offset, bytes)
        };
        let linear = register.base.wrapping_add(offset);
        self.ensure(valid, Self::segment_fault(segment))?;
        Ok(linear)
    }

    /// Reads 16 bytes.
    #[inline(always)]
    pub fn load_wide(&mut self, place: Wide) -> u128 {
        let low = self.load(place.low);
        low as u128 | (self.load(place.high) as u128) << 64
    }

    /// Writes 16 bytes.
    #[inline(always)]
    pub fn store_wide(&mut self, place: Wide, value: u128) {
        self.store(place.low, value as u64);
        self.store(place.high, (value >> 64) as u64);
    }
}
