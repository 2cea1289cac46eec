//! The processor's own accesses: descriptors, gates, the TSS, stacks that are not in SS yet.

use super::{Intent, Place, Walker};
use crate::bus::{Bus, Phys};
use crate::cpu::Cpu;
use crate::fault::{Exec, Fault};
use crate::mmu::walk::{Access, Entries, Kind, Privilege};
use crate::observe::{Asker, Observer};
use crate::segment::Segment;
use crate::width::Cell;

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// A place at a linear address for the processor itself: a supervisor access whatever the CPL (SDM 3A "Access
    /// Rights", implicit accesses).
    pub fn system_place<W: Cell>(&mut self, linear: u32, intent: Intent, asker: Asker) -> Exec<Place<W>> {
        let kind = if intent.writes() { Kind::Write } else { Kind::Read };
        self.place(linear, Access { kind, privilege: Privilege::Implicit }, asker)
    }

    /// Reads at a linear address for the processor itself.
    pub fn system_read<W: Cell>(&mut self, linear: u32, asker: Asker) -> Exec<W> {
        let place = self.system_place::<W>(linear, Intent::Read, asker)?;
        Ok(self.load(place))
    }

    /// Writes at a linear address for the processor itself.
    pub fn system_write<W: Cell>(&mut self, linear: u32, value: W, asker: Asker) -> Exec {
        let place = self.system_place::<W>(linear, Intent::Write, asker)?;
        self.store(place, value);
        Ok(())
    }

    /// A place on a stack that is not in SS (yet): `fault` when `offset` is outside the segment; paging as
    /// `privilege`, the privilege that the stack belongs to.
    pub fn stack_place<W: Cell>(
        &mut self,
        stack: &Segment,
        offset: u32,
        intent: Intent,
        privilege: Privilege,
        fault: Fault,
    ) -> Exec<Place<W>> {
        let valid = if intent.writes() {
            stack.can_write(offset, W::BYTES)
        } else {
            stack.can_read(offset, W::BYTES)
        };
        self.ensure(valid, fault)?;
        let kind = if intent.writes() { Kind::Write } else { Kind::Read };
        let linear = stack.base.wrapping_add(offset);
        let place = self.place(linear, Access { kind, privilege }, Asker::Stack { offset })?;
        if self.data_breakpoints {
            self.match_data_breakpoints(linear, W::BYTES, intent.writes());
        }
        Ok(place)
    }

    /// The four page-directory-pointer-table entries that CR3 points to, read from physical memory.
    pub fn read_pdptes(&mut self, cr3: u32) -> [u64; 4] {
        let table = (cr3 & !0x1f) as u64;
        let now = self.now();
        std::array::from_fn(|n| Walker::new(&mut self.bus, now).read(Phys(table + n as u64 * 8), 8))
    }
}
