//! Descriptors in their tables: finding one by its selector, and the ladders of checks that loads of data, stack and
//! code segments share (SDM 3A "Segment Selectors", "Privilege Level Checking When Accessing Data Segments",
//! "Privilege Level Checking When Loading the SS Register").
//!
//! A check gives a [`Load`]: a segment register's new contents with the update of the descriptor's accessed bit already
//! translated. [`Cpu::commit`] makes the update, and cannot fail.

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::fault::{Exec, Fault};
use crate::mmu::{Intent, Place};
use crate::observe::{Asker, Observer};
use crate::segment::{Descriptor, Segment};

/// A fault with a selector error code: which one depends on who loads the segment.
pub type SelectorFault = fn(u16) -> Fault;

/// Offset of the access byte in a descriptor.
const ACCESS_BYTE: u32 = 5;
/// The accessed bit of a segment, in the access byte.
const ACCESSED: u8 = 1;
/// The busy bit of a TSS, in the access byte.
const BUSY: u8 = 2;

/// A null selector: index 0 of the GDT, whatever its RPL.
pub fn is_null(selector: u16) -> bool {
    selector & !3 == 0
}

/// Requested privilege level.
pub fn rpl(selector: u16) -> u8 {
    (selector & 3) as u8
}

/// The selector as an error code carries it: index and TI; IDT and EXT are clear (SDM 3A "Error Code").
pub fn error_code(selector: u16) -> u16 {
    selector & !3
}

/// What a system descriptor is (SDM 3A "System Descriptor Types").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum System {
    /// 1, 3, 9, 11: a task-state segment.
    Tss {
        /// Types 3 and 11.
        busy: bool,
    },
    /// 2
    Ldt,
    /// 4, 12
    CallGate,
    /// 5
    TaskGate,
    /// 6, 14
    InterruptGate,
    /// 7, 15
    TrapGate,
    /// 0, 8, 10, 13
    Reserved,
}

impl System {
    /// What `descriptor` is, or `None` for a code or data segment.
    pub fn of(descriptor: Descriptor) -> Option<System> {
        if descriptor.is_segment() {
            return None;
        }
        Some(match descriptor.kind() {
            1 | 9 => System::Tss { busy: false },
            3 | 11 => System::Tss { busy: true },
            2 => System::Ldt,
            4 | 12 => System::CallGate,
            5 => System::TaskGate,
            6 | 14 => System::InterruptGate,
            7 | 15 => System::TrapGate,
            _ => System::Reserved,
        })
    }
}

/// Whether a TSS or a gate is of the 32-bit kind (bit 3 of its type).
pub fn is_32bit_system(descriptor: Descriptor) -> bool {
    descriptor.kind() & 8 != 0
}

/// A checked segment, ready to be put into a segment register.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    segment: Segment,
    accessed: Option<Place<u8>>,
}

impl Load {
    /// What the register will hold.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }
}

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// Where the descriptor of `selector` stands, if its table reaches that far. An LDTR that is not usable is an empty
    /// table.
    fn descriptor_at(&self, selector: u16) -> Option<u32> {
        let (base, limit) = if selector & 4 == 0 {
            (self.gdtr.base, self.gdtr.limit as u32)
        } else if self.ldtr.usable {
            (self.ldtr.base, self.ldtr.limit)
        } else {
            return None;
        };
        let offset = (selector & !7) as u32;
        (offset + 7 <= limit).then(|| base.wrapping_add(offset))
    }

    /// The descriptor that `selector` names; `beyond` if it is outside its table's limit.
    pub fn descriptor(&mut self, selector: u16, beyond: Fault) -> Exec<Descriptor> {
        let Some(linear) = self.descriptor_at(selector) else { return Err(self.raise(beyond)) };
        Ok(Descriptor(self.system_read(linear, Asker::Descriptor { selector })?))
    }

    /// The same, but `None` outside the table, for LAR and its kin.
    pub fn descriptor_if_any(&mut self, selector: u16) -> Exec<Option<Descriptor>> {
        let Some(linear) = self.descriptor_at(selector) else { return Ok(None) };
        Ok(Some(Descriptor(self.system_read(linear, Asker::Descriptor { selector })?)))
    }

    /// The access byte of the descriptor that `selector` names, to be changed as a locked update.
    pub fn access_byte(&mut self, selector: u16) -> Exec<Place<u8>> {
        let table = if selector & 4 == 0 { self.gdtr.base } else { self.ldtr.base };
        let linear = table.wrapping_add((selector & !7) as u32).wrapping_add(ACCESS_BYTE);
        self.system_place(linear, Intent::ReadWrite, Asker::Descriptor { selector })
    }

    /// Sets the busy bit in a TSS descriptor's access byte.
    pub fn set_busy(&mut self, access: Place<u8>) {
        let byte = self.load(access);
        self.store(access, byte | BUSY);
    }

    /// Clears it.
    pub fn clear_busy(&mut self, access: Place<u8>) {
        let byte = self.load(access);
        self.store(access, byte & !BUSY);
    }

    /// Readies a checked descriptor for a segment register. Its accessed bit, if still clear, will be set by
    /// [`Cpu::commit`]; a page of the table that cannot be written faults here.
    pub fn prepare(&mut self, selector: u16, descriptor: Descriptor) -> Exec<Load> {
        let accessed = if descriptor.accessed() { None } else { Some(self.access_byte(selector)?) };
        let mut segment = Segment::from_descriptor(selector, descriptor);
        segment.attributes |= ACCESSED as u16;
        Ok(Load { segment, accessed })
    }

    /// Sets the accessed bit in the table and gives the segment register's contents.
    pub fn commit(&mut self, load: Load) -> Segment {
        if let Some(access) = load.accessed {
            let byte = self.load(access);
            self.store(access, byte | ACCESSED);
        }
        load.segment
    }

    /// Checks a selector for DS, ES, FS or GS at privilege `cpl` (SDM 2B "MOV", "Loading segment registers").
    pub fn check_data(&mut self, selector: u16, cpl: u8, bad: SelectorFault) -> Exec<Load> {
        // a null selector loads, and makes the register unusable
        if is_null(selector) {
            return Ok(Load { segment: Segment::null(selector), accessed: None });
        }
        let code = error_code(selector);
        // its index is within the table's limit, else #GP(selector)
        let descriptor = self.descriptor(selector, bad(code))?;
        // it names a data or readable code segment, else #GP(selector)
        self.ensure(descriptor.is_readable(), bad(code))?;
        // unless the segment is conforming code, neither RPL nor CPL exceeds its DPL, else #GP(selector)
        let dpl = descriptor.dpl();
        let permitted = descriptor.is_conforming() || (rpl(selector) <= dpl && cpl <= dpl);
        self.ensure(permitted, bad(code))?;
        // it is present, else #NP(selector)
        self.ensure(descriptor.present(), Fault::NotPresent(code))?;
        self.prepare(selector, descriptor)
    }

    /// Checks a selector for SS at privilege `cpl` (SDM 2B "MOV"; the same clauses in "CALL", "INT n", "RET", "IRET").
    pub fn check_stack(&mut self, selector: u16, cpl: u8, bad: SelectorFault) -> Exec<Load> {
        let code = error_code(selector);
        // it is not null, else #GP(0)
        self.ensure(!is_null(selector), bad(0))?;
        // its index is within the table's limit, else #GP(selector)
        let descriptor = self.descriptor(selector, bad(code))?;
        // its RPL equals CPL, else #GP(selector)
        self.ensure(rpl(selector) == cpl, bad(code))?;
        // it names a writable data segment, else #GP(selector)
        self.ensure(descriptor.is_writable_data(), bad(code))?;
        // of DPL equal to CPL, else #GP(selector)
        self.ensure(descriptor.dpl() == cpl, bad(code))?;
        // it is present, else #SS(selector)
        self.ensure(descriptor.present(), Fault::Stack(code))?;
        self.prepare(selector, descriptor)
    }

    /// The descriptor of the code segment that a RETF or IRET goes back to (SDM 2B "RET", 2A "IRET").
    pub fn check_return_code(&mut self, selector: u16) -> Exec<Descriptor> {
        let bad = Fault::GeneralProtection;
        let code = error_code(selector);
        // the return selector is not null, else #GP(0)
        self.ensure(!is_null(selector), bad(0))?;
        // its index is within the table's limit, else #GP(selector)
        let descriptor = self.descriptor(selector, bad(code))?;
        // it names a code segment, else #GP(selector)
        self.ensure(descriptor.is_code(), bad(code))?;
        // its RPL is not below CPL, else #GP(selector)
        self.ensure(rpl(selector) >= self.cpl, bad(code))?;
        // conforming: its DPL does not exceed the RPL; nonconforming: its DPL equals the RPL; else #GP(selector)
        self.ensure(Self::level_fits(descriptor, rpl(selector)), bad(code))?;
        // it is present, else #NP(selector)
        self.ensure(descriptor.present(), Fault::NotPresent(code))?;
        Ok(descriptor)
    }

    /// Checks the selector that a task switch finds for CS; its RPL becomes CPL (SDM 3A "Task Switching", table of
    /// exception conditions).
    pub fn check_task_code(&mut self, selector: u16) -> Exec<Load> {
        let bad = Fault::InvalidTss;
        let code = error_code(selector);
        // the code segment selector is valid: not null, within its table, naming code; else #TS(selector)
        self.ensure(!is_null(selector), bad(code))?;
        let descriptor = self.descriptor(selector, bad(code))?;
        self.ensure(descriptor.is_code(), bad(code))?;
        // nonconforming: its DPL equals the RPL; conforming: its DPL does not exceed it; else #TS(selector)
        self.ensure(Self::level_fits(descriptor, rpl(selector)), bad(code))?;
        // it is present, else #NP(selector)
        self.ensure(descriptor.present(), Fault::NotPresent(code))?;
        self.prepare(selector, descriptor)
    }

    /// Whether code of this descriptor may run at privilege `level`.
    fn level_fits(descriptor: Descriptor, level: u8) -> bool {
        if descriptor.is_conforming() { descriptor.dpl() <= level } else { descriptor.dpl() == level }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault::{GeneralProtection as Gp, InvalidTss as Ts, NotPresent as Np, Stack as Ss};
    use crate::fault::Pending;
    use crate::testing::{TestCpu, descriptor as make, put, ring};

    fn fault<T>(cpu: &mut TestCpu, result: Exec<T>) -> Option<Fault> {
        match cpu.take_pending(result.err()?) {
            Pending::Fault(fault) => Some(fault),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_selector_is_within_its_table_when_all_eight_bytes_of_its_descriptor_are() {
        let mut cpu = ring(0);
        cpu.gdtr.limit = 0x47;
        let found = cpu.descriptor(0x43, Gp(0));
        assert!(found.is_ok());
        cpu.gdtr.limit = 0x46;
        let missed = cpu.descriptor(0x43, Gp(7));
        assert_eq!(fault(&mut cpu, missed), Some(Gp(7)));
        let no_ldt = cpu.descriptor(0x07, Gp(4));
        assert_eq!(fault(&mut cpu, no_ldt), Some(Gp(4)));
    }

    /// SDM 3A "Privilege Level Checking When Accessing Data Segments": max(CPL, RPL) <= DPL, except conforming code.
    #[test]
    fn data_segments_of_every_privilege_load_by_the_rule_of_the_larger_of_cpl_and_rpl() {
        for (access, conforming) in [(0x92, false), (0x90, false), (0x9a, false), (0x9e, true)] {
            for (cpl, rpl, dpl) in (0..64u8).map(|n| (n >> 4, n >> 2 & 3, n & 3)) {
                let mut cpu = ring(0);
                put(&mut cpu, 0x100, make(0, 0xffff, access | (dpl as u64) << 5, 0));
                let selector = 0x100 | rpl as u16;
                let result = cpu.check_data(selector, cpl, Gp);
                let expected = (!conforming && cpl.max(rpl) > dpl).then_some(Gp(0x100));
                assert_eq!(fault(&mut cpu, result), expected, "access {access:#x} {cpl} {rpl} {dpl}");
            }
        }
    }

    /// SDM 3A "Code- and Data-Segment Descriptor Types", "System Descriptor Types".
    #[test]
    fn data_registers_take_data_and_readable_code_only() {
        for kind in 0..32u64 {
            let mut cpu = ring(0);
            put(&mut cpu, 0x100, make(0, 0xffff, 0x80 | kind, 0));
            let result = cpu.check_data(0x100, 0, Gp);
            let fits = kind >= 0x10 && (kind & 8 == 0 || kind & 2 != 0);
            assert_eq!(fault(&mut cpu, result), (!fits).then_some(Gp(0x100)), "type {kind:#x}");
            let result = cpu.check_stack(0x100, 0, Ts);
            let fits = kind & 0x1a == 0x12;
            assert_eq!(fault(&mut cpu, result), (!fits).then_some(Ts(0x100)), "type {kind:#x}");
        }
    }

    #[test]
    fn privilege_comes_before_presence_and_absence_is_np_for_data_and_ss_for_stacks() {
        let mut cpu = ring(0);
        put(&mut cpu, 0x100, make(0, 0xffff, 0x12, 0));
        put(&mut cpu, 0x108, make(0, 0xffff, 0x72, 0));
        let mut of = |selector, cpl, stack| {
            let result =
                if stack { cpu.check_stack(selector, cpl, Gp) } else { cpu.check_data(selector, cpl, Gp) };
            fault(&mut cpu, result)
        };
        assert_eq!(of(0x103, 3, false), Some(Gp(0x100)));
        assert_eq!(of(0x10b, 3, false), Some(Np(0x108)));
        assert_eq!(of(0x10a, 3, true), Some(Gp(0x108)));
        assert_eq!(of(0x103, 3, true), Some(Gp(0x100)));
        assert_eq!(of(0x10b, 3, true), Some(Ss(0x108)));
        assert_eq!(of(3, 3, true), Some(Gp(0)));
        assert_eq!(of(3, 3, false), None);
    }

    #[test]
    fn a_load_sets_the_accessed_bit_once_and_only_when_committed() {
        let mut cpu = ring(0);
        put(&mut cpu, 0x100, make(0, 0xffff, 0x92, 0));
        let Ok(load) = cpu.check_data(0x100, 0, Gp) else { panic!() };
        let at = cpu.gdtr.base as usize + 0x105;
        assert_eq!(cpu.bus.ram().bytes()[at], 0x92);
        let segment = cpu.commit(load);
        assert_eq!(cpu.bus.ram().bytes()[at], 0x93);
        assert_eq!(segment.kind(), 3);
        let Ok(load) = cpu.check_data(0x100, 0, Gp) else { panic!() };
        assert!(load.accessed.is_none());
    }

    #[test]
    fn a_return_goes_outward_or_stays_and_finds_code_of_its_own_level() {
        for (cpl, rpl, dpl) in (0..64u8).map(|n| (n >> 4, n >> 2 & 3, n & 3)) {
            for (access, fits) in [(0x98u64, dpl == rpl), (0x9c, dpl <= rpl)] {
                let mut cpu = ring(0);
                cpu.cpl = cpl;
                put(&mut cpu, 0x100, make(0, 0xffff, access | (dpl as u64) << 5, 0));
                let result = cpu.check_return_code(0x100 | rpl as u16);
                let expected = (rpl < cpl || !fits).then_some(Gp(0x100));
                assert_eq!(fault(&mut cpu, result), expected, "{access:#x} {cpl} {rpl} {dpl}");
            }
        }
    }
}
