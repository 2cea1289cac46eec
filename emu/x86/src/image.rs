//! A processor as plain data, to be kept in a file: everything that the guest or a report can ever see of it. Decoded code
//! and the front table are left out: they only make the machine faster, and are made anew.
//!
//! What comes out of a file may be anything. [`Processor::revive`] takes only what the rest of this crate can work with: no
//! image makes it panic.

use serde::{Deserialize, Serialize};

use crate::bus::{Bus, Frame, Phys};
use crate::control::{CR0_PE, CR0_PG, CR4_PAE};
use crate::cpu::State;
use crate::engine::Processor;
use crate::fault::Shutdown;
use crate::mmu::tlb::Tlb;
use crate::mmu::{FetchPage, Spot};
use crate::model::{self, Features, Model};
use crate::observe::Observer;
use crate::undefined::UndefinedFlags;

/// Counts and times beyond this one are not reached by any run, and leave room for what a run adds.
pub const IN_REACH: u64 = 1 << 60;
/// Virtual time that no run reaches, in picoseconds: half of what 64 bits of nanoseconds hold.
const LATEST: u128 = 1000 << 63;
/// More MSRs than any model has.
const MOST_MSRS: usize = 1 << 12;

/// A part of an image that makes no sense, by its name, such as "the TLB's entries".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damaged(pub &'static str);

impl Damaged {
    /// Refuses a part that is not sound.
    pub fn unless(sound: bool, part: &'static str) -> Result<(), Damaged> {
        if sound { Ok(()) } else { Err(Damaged(part)) }
    }
}

/// A page that instructions are being fetched from: where it leads follows from the board.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Fetched {
    linear: u32,
    phys: Phys,
}

/// A processor between two instructions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Image {
    /// The model, by its name, and how it was varied.
    model: String,
    hidden: u64,
    undefined_flags: UndefinedFlags,
    state: State,
    tlb: Tlb,
    fetch_page: Option<Fetched>,
    crossed_from: Option<Fetched>,
    fetched_ahead: Option<(u32, Fetched)>,
    no_step_trap: bool,
    chain: Shutdown,
    deliveries: Vec<u64>,
    bus_layout: u32,
}

impl From<FetchPage> for Fetched {
    fn from(page: FetchPage) -> Fetched {
        Fetched { linear: page.linear, phys: page.phys }
    }
}

impl Fetched {
    fn revived<B: Bus>(self, bus: &B) -> Result<FetchPage, Damaged> {
        if self.linear & 0xfff != 0 || self.phys.0 & 0xfff != 0 || self.phys.0 >> 52 != 0 {
            return Err(Damaged("the page of the instructions"));
        }
        let spot = match bus.frame(self.phys.0 >> 12) {
            Frame::Ram(page) | Frame::Rom(page) => Spot::ram(page as u64),
            Frame::Device => Spot::device(self.phys),
        };
        Ok(FetchPage { linear: self.linear, spot, phys: self.phys })
    }
}

impl<B: Bus, O: Observer> Processor<B, O> {
    /// The processor as it stands between two runs, without its bus. `None` if its model is none of those with a name.
    pub fn image(&self) -> Option<Image> {
        let cpu = &self.cpu;
        let Model { name, hidden, undefined_flags, .. } = cpu.model;
        let image = Image {
            model: name.into(),
            hidden: hidden.bits(),
            undefined_flags,
            state: cpu.state.clone(),
            tlb: cpu.tlb.clone(),
            fetch_page: cpu.fetch_page.map(Fetched::from),
            crossed_from: cpu.crossed_from.map(Fetched::from),
            fetched_ahead: cpu.fetched_ahead.map(|(eip, page)| (eip, page.into())),
            no_step_trap: cpu.no_step_trap,
            chain: cpu.chain,
            deliveries: cpu.deliveries.to_vec(),
            bus_layout: cpu.bus_layout,
        };
        (image.model() == Some(cpu.model)).then_some(image)
    }

    /// The processor of an image on a bus that is as it was.
    pub fn revive(image: Image, bus: B, observer: O) -> Result<Processor<B, O>, Damaged> {
        let model = image.model().ok_or(Damaged("the processor's model"))?;
        image.state.check(&model)?;
        let tlb = image.tlb.revived()?;
        let entry = if image.state.cr4 & CR4_PAE != 0 { 8 } else { 4 };
        if !tlb.came_from_entries_of(entry) {
            return Err(Damaged("the TLB's entries"));
        }
        let deliveries: Box<[u64; 256]> =
            image.deliveries.try_into().map_err(|_| Damaged("the count of exceptions"))?;
        if deliveries.iter().any(|&count| count > IN_REACH) {
            return Err(Damaged("the count of exceptions"));
        }
        let mut processor = Processor::new(model, *tlb.geometry(), bus, observer);
        let cpu = &mut processor.cpu;
        (cpu.state, cpu.tlb, cpu.deliveries) = (image.state, tlb, deliveries);
        cpu.update_context();
        let page = |page: Option<Fetched>| page.map(|page| page.revived(&cpu.bus)).transpose();
        let (fetch_page, crossed_from) = (page(image.fetch_page)?, page(image.crossed_from)?);
        let ahead = page(image.fetched_ahead.map(|(_, page)| page))?;
        (cpu.fetch_page, cpu.crossed_from) = (fetch_page, crossed_from);
        cpu.fetched_ahead = image.fetched_ahead.map(|(eip, _)| eip).zip(ahead);
        (cpu.no_step_trap, cpu.chain, cpu.bus_layout) = (image.no_step_trap, image.chain, image.bus_layout);
        Ok(processor)
    }
}

impl Image {
    fn model(&self) -> Option<Model> {
        let hidden = Features::from_bits(self.hidden)?;
        Some(Model { hidden, undefined_flags: self.undefined_flags, ..model::by_name(&self.model)? })
    }
}

impl State {
    /// Refuses what no instruction could have left.
    fn check(&self, model: &Model) -> Result<(), Damaged> {
        let ensure = Damaged::unless;
        ensure(self.regs.check(), "the general registers")?;
        ensure(self.flags.check(model.flags_mask()), "EFLAGS")?;
        let level = match (self.cr0 & CR0_PE != 0, self.flags.vm()) {
            (false, _) => 0..=0,
            (true, true) => 3..=3,
            (true, false) => 0..=3,
        };
        ensure(level.contains(&self.cpl), "the privilege level")?;
        ensure(self.cr0 & CR0_PG == 0 || self.cr0 & CR0_PE != 0, "CR0")?;
        ensure(self.cr4 & !model.cr4_mask() == 0, "CR4")?;
        ensure(self.mxcsr & !model.mxcsr_mask() == 0, "MXCSR")?;
        ensure(self.msrs.others.len() <= MOST_MSRS, "the model-specific registers")?;
        ensure(self.msrs.others.is_sorted_by(|a, b| a.0 < b.0), "the model-specific registers")?;
        ensure(self.retired <= IN_REACH && self.clock.check(self.retired, LATEST), "the clock")
    }
}

#[cfg(test)]
mod tests;
