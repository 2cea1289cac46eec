//! Hardware task switching (SDM 3A "Task Management"), with 16-bit and 32-bit task-state segments.
//!
//! [`Cpu::switch_task`] follows the numbered steps of SDM 3A "Task Switching". The clauses of steps 2 and 4, which differ
//! by what asks for the switch, are its callers'.

use crate::bus::Bus;
use crate::control::{CR0_PG, CR0_TS, DR6_BT};
use crate::cpu::{Cpu, Shadow};
use crate::descriptor::{SelectorFault, System, error_code, is_32bit_system, rpl};
use crate::fault::{Exec, Fault};
use crate::flags;
use crate::mmu::tlb::FlushCause;
use crate::mmu::{Intent, Place};
use crate::observe::{Asker, Control, Observer};
use crate::segment::{CS, DS, Descriptor, ES, FS, GS, SS, Segment};
use crate::width::Width;

/// How the new task is linked to the old one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// JMP: the old task is left for good.
    None,
    /// CALL, exceptions, interrupts: the new task can return to the old one.
    Nested,
    /// IRET: back to the task that the link field names.
    Return,
}

/// A switch to be made: its TSS descriptor is checked already.
#[derive(Clone, Copy, Debug)]
pub struct Switch {
    /// How the tasks are linked.
    pub link: Link,
    /// Selector of the new TSS.
    pub selector: u16,
    /// Its descriptor.
    pub descriptor: Descriptor,
    /// EIP to be saved for the old task.
    pub return_eip: u32,
    /// EFLAGS to be saved for the old task.
    pub flags: u32,
    /// An exception's error code, for the new task's stack.
    pub error_code: Option<u16>,
}

/// The layout of a TSS (SDM 3A "Task-State Segment (TSS)", "16-Bit Task-State Segment (TSS)").
trait Layout: Width {
    /// The last byte that a TSS must have at least.
    const MIN_LIMIT: u32;
    /// EIP; EFLAGS, the general registers and the segment registers follow, each in its encoding's order, each as wide
    /// as `Self`.
    const EIP: u32;
    /// How many segment registers there are: ES, CS, SS, DS, and FS, GS.
    const SEGMENTS: usize;
    /// Offset of CR3, if there is one.
    const CR3: Option<u32>;
    /// Offset of the word with the T bit, if there is one.
    const TRAP: Option<u32>;
    /// What the upper halves of the general registers become.
    const REGISTERS_HIGH: u32;

    /// Offset of segment register `n`.
    fn segment(n: u32) -> u32 {
        Self::EIP + (10 + n) * Self::BYTES
    }
    /// Offset of the LDT selector, behind the segment registers.
    fn ldt() -> u32 {
        Self::segment(Self::SEGMENTS as u32)
    }
}

impl Layout for u32 {
    const MIN_LIMIT: u32 = 0x67;
    const EIP: u32 = 0x20;
    const SEGMENTS: usize = 6;
    const CR3: Option<u32> = Some(0x1c);
    const TRAP: Option<u32> = Some(0x64);
    const REGISTERS_HIGH: u32 = 0;
}

impl Layout for u16 {
    const MIN_LIMIT: u32 = 0x2b;
    const EIP: u32 = 0x0e;
    const SEGMENTS: usize = 4;
    const CR3: Option<u32> = None;
    const TRAP: Option<u32> = None;
    // Unverified: the manual does not say; other implementations agree on ones
    const REGISTERS_HIGH: u32 = 0xffff_0000;
}

/// EIP, EFLAGS, general and segment registers in a TSS; segment registers are words, whatever the layout.
struct Fields<W> {
    values: [Place<W>; 10],
    segments: [Place<u16>; 6],
}

/// The fields of the old TSS that a switch writes, translated.
struct OldPlaces {
    /// EIP, EFLAGS, general registers.
    values: Values,
    segments: [Place<u16>; 6],
    count: usize,
}

/// EIP, EFLAGS and the general registers of a TSS of either width.
enum Values {
    Wide([Place<u32>; 10]),
    Narrow([Place<u16>; 10]),
}

/// The fields of the new TSS that a switch reads, translated.
struct NewPlaces {
    values: Values,
    segments: [Place<u16>; 6],
    count: usize,
    ldt: Place<u16>,
    cr3: Option<Place<u32>>,
    trap: Option<Place<u16>>,
    /// What the upper halves of general registers become.
    registers_high: u32,
}

/// A new task's state as its TSS has it.
struct Incoming {
    eip: u32,
    flags: u32,
    registers: [u32; 8],
    segments: [u16; 6],
    ldt: u16,
    cr3: Option<u32>,
    traps: bool,
}

impl<B: Bus, O: Observer> Cpu<B, O> {
    /// The descriptor of a TSS that CALL, JMP, an exception or interrupt switches to through a task gate (SDM 2A "CALL",
    /// TASK-GATE).
    pub fn available_tss(&mut self, selector: u16) -> Exec<Descriptor> {
        self.tss_descriptor(selector, false, Fault::GeneralProtection)
    }

    /// The descriptor of the TSS that IRET returns to (SDM 2A "IRET", TASK-RETURN).
    pub fn busy_tss(&mut self, selector: u16) -> Exec<Descriptor> {
        self.tss_descriptor(selector, true, Fault::InvalidTss)
    }

    fn tss_descriptor(&mut self, selector: u16, busy: bool, bad: SelectorFault) -> Exec<Descriptor> {
        let code = error_code(selector);
        // the TSS selector names the GDT, else #GP(TSS); for IRET #TS(TSS)
        self.ensure(selector & 4 == 0, bad(code))?;
        // it is within the GDT's limit, else the same
        let descriptor = self.descriptor(selector, bad(code))?;
        // it names a TSS that is available; for IRET a busy one; else the same
        self.ensure(System::of(descriptor) == Some(System::Tss { busy }), bad(code))?;
        // the TSS is present, else #NP(TSS)
        self.ensure(descriptor.present(), Fault::NotPresent(code))?;
        Ok(descriptor)
    }

    /// The clauses of far JMP and CALL straight to a TSS (SDM 2A "CALL", TASK-STATE-SEGMENT).
    pub fn check_tss_as_target(&mut self, selector: u16, descriptor: Descriptor) -> Exec {
        let code = error_code(selector);
        let bad = Fault::GeneralProtection(code);
        // the TSS's DPL is below neither CPL nor RPL, else #GP(TSS)
        self.ensure(descriptor.dpl() >= self.cpl.max(rpl(selector)), bad)?;
        // it is available, else #GP(TSS); a TSS in the LDT never is (SDM 3A "TSS Descriptor")
        let is_available = System::of(descriptor) == Some(System::Tss { busy: false }) && selector & 4 == 0;
        self.ensure(is_available, bad)?;
        // it is present, else #NP(TSS)
        self.ensure(descriptor.present(), Fault::NotPresent(code))
    }

    /// The back link of the current TSS.
    pub fn back_link(&mut self) -> Exec<u16> {
        self.system_read(self.tr.base, Asker::Tss)
    }

    /// Switches to another task.
    ///
    /// If the outer result fails, nothing is changed. The inner one fails past the point of no return: "the processor
    /// completes the task switch (without performing additional access and segment availability checks) and generates
    /// the appropriate exception prior to beginning execution of the new task". Its fault is the new task's, at the new
    /// EIP.
    pub fn switch_task(&mut self, switch: Switch) -> Exec<Exec> {
        let Switch { link, selector, descriptor, .. } = switch;
        let old = self.tr;
        let new_tr = Segment::from_descriptor(selector, descriptor);
        // Step 3: the new TSS has a valid limit (67H, or 2BH for a 16-bit one), else #TS(new TSS)
        let new_is_wide = is_32bit_system(descriptor);
        let min_limit = if new_is_wide { u32::MIN_LIMIT } else { u16::MIN_LIMIT };
        self.ensure(new_tr.limit >= min_limit, Fault::InvalidTss(error_code(selector)))?;
        // Step 5: the old TSS, the new TSS and the descriptors used are paged in
        let old_places = if old.kind() & 8 != 0 {
            self.old_places::<u32>(&old, Values::Wide)?
        } else {
            self.old_places::<u16>(&old, Values::Narrow)?
        };
        let new_places = if new_is_wide {
            self.new_places::<u32>(&new_tr, Values::Wide)?
        } else {
            self.new_places::<u16>(&new_tr, Values::Narrow)?
        };
        let back_link = match link {
            Link::Nested => Some(self.system_place::<u16>(new_tr.base, Intent::Write, Asker::Tss)?),
            Link::None | Link::Return => None,
        };
        let old_access = match link {
            Link::Nested => None,
            Link::None | Link::Return => Some(self.access_byte(old.selector)?),
        };
        let new_access = match link {
            Link::Return => None,
            Link::None | Link::Nested => Some(self.access_byte(selector)?),
        };
        // PDPTEs that could not be loaded: #GP(0) while there is a way back
        if let Some(place) = new_places.cr3.filter(|_| self.cr0 & CR0_PG != 0) {
            let cr3 = self.load(place);
            self.pdptes_after(self.cr0, self.cr4, cr3, cr3 != self.cr3)?;
        }

        // Step 6: JMP and IRET make the old task available
        if let Some(access) = old_access {
            self.clear_busy(access);
        }
        // Steps 7 and 8: the old task's state is saved; IRET clears NT in the saved EFLAGS
        let kept = if link == Link::Return { !flags::NT } else { !0 };
        self.save(&old_places, switch.return_eip, switch.flags & kept);
        if let Some(place) = back_link {
            self.store(place, old.selector);
        }
        // Step 10: all but IRET make the new task busy
        if let Some(access) = new_access {
            self.set_busy(access);
        }
        // Step 12 reads the new TSS; what was saved above may have landed in it
        let mut incoming = self.read_task(&new_places);
        // Step 9: NT is set in a nested task
        if link == Link::Nested {
            incoming.flags |= flags::NT;
        }

        // "the processor commits to the task switch"
        self.show_control(Control::TaskSwitch { from: old.selector, to: selector });
        self.enter_task_state(&incoming, new_tr);
        Ok(self.qualify(&incoming, new_is_wide, switch.error_code))
    }

    /// Translates what is saved in the old TSS, which must be long enough, else #TS(old TSS).
    fn old_places<W: Layout>(
        &mut self,
        tss: &Segment,
        wrap: fn([Place<W>; 10]) -> Values,
    ) -> Exec<OldPlaces> {
        let last = W::segment(W::SEGMENTS as u32 - 1) + 1;
        self.ensure(tss.limit >= last, Fault::InvalidTss(error_code(tss.selector)))?;
        let Fields { values, segments } = self.state_places::<W>(tss, Intent::Write)?;
        Ok(OldPlaces { values: wrap(values), segments, count: W::SEGMENTS })
    }

    /// Translates what is loaded from the new TSS.
    fn new_places<W: Layout>(
        &mut self,
        tss: &Segment,
        wrap: fn([Place<W>; 10]) -> Values,
    ) -> Exec<NewPlaces> {
        let at = |offset: u32| tss.base.wrapping_add(offset);
        let Fields { values, segments } = self.state_places::<W>(tss, Intent::Read)?;
        let ldt = self.system_place(at(W::ldt()), Intent::Read, Asker::Tss)?;
        let cr3 = match W::CR3 {
            Some(offset) => Some(self.system_place(at(offset), Intent::Read, Asker::Tss)?),
            None => None,
        };
        let trap = match W::TRAP {
            Some(offset) => Some(self.system_place(at(offset), Intent::Read, Asker::Tss)?),
            None => None,
        };
        let registers_high = W::REGISTERS_HIGH;
        Ok(NewPlaces { values: wrap(values), segments, count: W::SEGMENTS, ldt, cr3, trap, registers_high })
    }

    /// Translates EIP, EFLAGS, general and segment registers of a TSS.
    fn state_places<W: Layout>(&mut self, tss: &Segment, intent: Intent) -> Exec<Fields<W>> {
        let at = |offset: u32| tss.base.wrapping_add(offset);
        let mut fields = Fields { values: [Place::ram(0); 10], segments: [Place::ram(0); 6] };
        for (n, place) in fields.values.iter_mut().enumerate() {
            *place = self.system_place(at(W::EIP + n as u32 * W::BYTES), intent, Asker::Tss)?;
        }
        for (n, place) in fields.segments.iter_mut().enumerate().take(W::SEGMENTS) {
            *place = self.system_place(at(W::segment(n as u32)), intent, Asker::Tss)?;
        }
        Ok(fields)
    }

    /// Saves the old task.
    fn save(&mut self, places: &OldPlaces, eip: u32, flags: u32) {
        let mut values = [eip, flags, 0, 0, 0, 0, 0, 0, 0, 0];
        values[2..].copy_from_slice(&self.regs.all());
        match &places.values {
            Values::Wide(wide) => {
                for (place, value) in wide.iter().zip(values) {
                    self.store(*place, value);
                }
            }
            Values::Narrow(narrow) => {
                for (place, value) in narrow.iter().zip(values) {
                    self.store(*place, value as u16);
                }
            }
        }
        for (n, place) in places.segments.iter().enumerate().take(places.count) {
            self.store(*place, self.segs[n].selector);
        }
    }

    /// Reads the new task.
    fn read_task(&mut self, places: &NewPlaces) -> Incoming {
        let values: [u32; 10] = match &places.values {
            Values::Wide(wide) => std::array::from_fn(|n| self.load(wide[n])),
            Values::Narrow(narrow) => std::array::from_fn(|n| self.load(narrow[n]) as u32),
        };
        let mut segments = [0; 6];
        for (n, selector) in segments.iter_mut().enumerate().take(places.count) {
            *selector = self.load(places.segments[n]);
        }
        Incoming {
            eip: values[0],
            flags: values[1],
            registers: std::array::from_fn(|n| values[n + 2] | places.registers_high),
            segments,
            ldt: self.load(places.ldt),
            cr3: places.cr3.map(|place| self.load(place)),
            traps: places.trap.is_some_and(|place| self.load(place) & 1 != 0),
        }
    }

    /// Steps 11 and 12: TR and everything in the TSS but the hidden parts of segment registers.
    fn enter_task_state(&mut self, incoming: &Incoming, tr: Segment) {
        self.tr = tr;
        // the busy bit, set in memory above
        self.tr.attributes |= 2;
        self.show_control(Control::System { name: "tr", selector: tr.selector });
        // Manual: TS is set on every task switch; L0 to L3 and LE are cleared
        self.cr0 |= CR0_TS;
        self.dr[7] &= !0x155;
        self.eip = incoming.eip;
        for (n, &value) in incoming.registers.iter().enumerate() {
            self.regs.set_dword(n as u8, value);
        }
        for (n, &selector) in incoming.segments.iter().enumerate() {
            self.segs[n] = Segment::null(selector);
        }
        self.ldtr = Segment::null(incoming.ldt);
        let mask = self.model.flags_mask();
        self.set_flags(incoming.flags, mask);
        let cpl = if self.flags.vm() { 3 } else { (incoming.segments[CS] & 3) as u8 };
        self.set_cpl(cpl);
        self.shadow = Shadow::None;
        // Choice: single-stepping starts with the new task's first instruction, under its own TF
        self.no_step_trap = true;
        self.leave_block();
    }

    /// Step 13: "the descriptors associated with the segment selectors are loaded and qualified. Any errors associated
    /// with this loading and qualification occur in the context of the new task."
    fn qualify(&mut self, incoming: &Incoming, is_wide: bool, code: Option<u16>) -> Exec {
        // CR3 is loaded if paging is on; the TLB is flushed if it changes (SDM 3A "Operations that Invalidate TLBs")
        if let Some(cr3) = incoming.cr3.filter(|&cr3| self.cr0 & CR0_PG != 0 && cr3 != self.cr3) {
            self.load_cr3(cr3, FlushCause::TaskSwitch)?;
        }
        self.load_task_ldt(incoming.ldt)?;
        if self.flags.vm() {
            for (n, &selector) in incoming.segments.iter().enumerate() {
                self.segs[n] = Segment::real(selector, 3);
            }
        } else {
            self.load_task_segments(&incoming.segments)?;
        }
        // the exception's error code goes on the new task's stack: there is room for it, else #SS(0)
        if let Some(code) = code {
            if is_wide {
                self.push_error_code::<u32>(code)?;
            } else {
                self.push_error_code::<u16>(code)?;
            }
        }
        // EIP is within the code segment's limit, else #GP(0)
        self.ensure(incoming.eip <= self.segs[CS].limit, Fault::GeneralProtection(0))?;
        // Manual: with T set, a debug exception comes "after program control has been transferred to the new task but
        // before the first instruction of that task is executed"
        if incoming.traps {
            self.debug_trap |= DR6_BT;
        }
        Ok(())
    }

    /// The LDT selector of the new task is valid and its segment present, else #TS(LDT).
    fn load_task_ldt(&mut self, selector: u16) -> Exec {
        self.show_control(Control::System { name: "ldtr", selector });
        if error_code(selector) == 0 {
            return Ok(());
        }
        let bad = Fault::InvalidTss(error_code(selector));
        self.ensure(selector & 4 == 0, bad)?;
        let descriptor = self.descriptor(selector, bad)?;
        self.ensure(System::of(descriptor) == Some(System::Ldt) && descriptor.present(), bad)?;
        self.ldtr = Segment::from_descriptor(selector, descriptor);
        Ok(())
    }

    /// CS, SS and the data segments, at the privilege that CS's RPL gives. Choice: in this order; the manual's table of
    /// checks gives none that could be followed.
    fn load_task_segments(&mut self, selectors: &[u16; 6]) -> Exec {
        let cpl = self.cpl;
        let code = self.check_task_code(selectors[CS])?;
        self.segs[CS] = self.commit(code);
        // SS is valid, writable, of RPL and DPL equal to CPL, else #TS(SS); present, else #SS(SS)
        let stack = self.check_stack(selectors[SS], cpl, Fault::InvalidTss)?;
        self.segs[SS] = self.commit(stack);
        for register in [DS, ES, FS, GS] {
            // valid, readable, of DPL not below CPL and RPL, else #TS(selector); present, else #NP(selector)
            let data = self.check_data(selectors[register], cpl, Fault::InvalidTss)?;
            self.segs[register] = self.commit(data);
        }
        Ok(())
    }

    fn push_error_code<W: Width>(&mut self, code: u16) -> Exec {
        let stack = self.current_stack();
        self.ensure(stack.has_room::<W>(1), Fault::Stack(0))?;
        let slot = self.reserve::<W, 1>(&stack, 1)?;
        self.fill(&slot, &[code as u32]);
        self.move_esp::<W>(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
