//! What is told of a difference.

use std::fmt::Write as _;

use pagewalk_x86::fault::{Fault, Stop, vector_mnemonic};
use pagewalk_x86::mmu::tlb::FlushCause;
use pagewalk_x86::observe::Cause;

use super::known::segments;
use super::memory::{self, Place};
use super::pair::Pair;
use super::state::{self, Except, Field, REGISTERS, SEGMENTS};
use super::watch::Ran;
use super::{By, Focus, Ours};
use crate::disassemble::{disassemble, hex};
use crate::explain::Namer;
use crate::picture::{self, Look};
use crate::qemu::dump::Dump;
use crate::qemu::stream::{Delivery, Input};
use crate::qemu::{Error, Qemu};

/// What differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Registers.
    Registers,
    /// Ours raises this, QEMU nothing.
    OursDelivers(Cause),
    /// QEMU raises the second; ours the first, or nothing.
    OtherException(Option<Cause>, Delivery),
    /// Ours stopped where QEMU went on.
    OursStopped(Stop),
    /// One of them reads a port or register and the other does not.
    Inputs,
    /// Memory.
    Memory(Vec<Place>),
    /// QEMU ended and ours did not: the value ours wrote to the debug-exit port, and QEMU's exit status.
    End(Option<u32>, Option<i32>),
}

/// The first difference between the two.
#[derive(Clone, Debug)]
pub struct Difference {
    /// What differs.
    pub kind: Kind,
    /// Instructions of ours so far.
    pub retired: u64,
    /// Instructions up to the last comparison of registers, and of memory, that found none.
    pub good: (u64, u64),
    /// How the registers were compared.
    pub by: By,
    /// The last instructions of ours, oldest first; the last of them is the one after which they differ.
    pub ran: Vec<Ran>,
    /// Both before.
    pub before: Dump,
    /// Ours.
    pub ours: Dump,
    /// QEMU's.
    pub theirs: Dump,
    /// Registers that differ.
    pub fields: Vec<Field>,
    /// Reads of ours without an input, and QEMU's inputs that ours did not read.
    pub inputs: (Vec<(u64, u32)>, Vec<Input>),
    /// The addresses concerned, and how each side walks its tables for them.
    pub walks: Vec<Walks>,
    /// Our side, to look into.
    pub side: Box<Ours>,
}

/// Two page walks of one address.
#[derive(Clone, Debug)]
pub struct Walks {
    /// The linear address.
    pub linear: u32,
    /// Ours.
    pub ours: Look,
    /// QEMU's, in its memory as it was when it was stopped, some instructions later.
    pub theirs: Option<Look>,
}

impl Difference {
    pub(super) fn new(kind: Kind, pair: &Pair, theirs: &Dump) -> Difference {
        let cpu = &pair.ours.cpu;
        Difference {
            kind,
            retired: cpu.retired,
            good: pair.good,
            by: pair.by,
            ran: cpu.observer.remembered().copied().collect(),
            before: pair.before.clone(),
            ours: state::dump_of(&cpu.state),
            theirs: theirs.clone(),
            fields: state::fields(&cpu.state, theirs, Except::default()),
            inputs: (cpu.bus.unfed.clone(), cpu.bus.inputs.iter().copied().collect()),
            walks: Vec::new(),
            side: Box::new(pair.ours.clone()),
        }
    }

    /// Where to look for it more closely than `before`, if that can be.
    pub(super) fn focus(&self, before: Option<Focus>) -> Option<Focus> {
        const MARGIN: u64 = 100_000;
        const PARTS: u64 = 50;
        const CLOSE: u64 = 500;
        if let Kind::Memory(_) = self.kind {
            let (from, window) = (self.good.1, self.retired - self.good.1);
            let focus =
                Focus { from: from.saturating_sub(MARGIN), checkpoint: (window / PARTS).max(CLOSE / 2) };
            let closer = before.is_none_or(|before| focus.checkpoint < before.checkpoint);
            return (window > CLOSE && closer).then_some(focus);
        }
        let focus = Focus { from: self.good.0.saturating_sub(MARGIN), checkpoint: u64::MAX };
        (self.by == By::Block).then_some(focus)
    }

    /// Walks the addresses concerned, on our side and in QEMU's memory, which stands still.
    pub(super) fn walk(&mut self, qemu: Option<&Qemu>) -> Result<(), Error> {
        let addresses = self.addresses();
        let looks: Vec<Look> =
            addresses.iter().map(|&linear| picture::look(&self.side.cpu, linear)).collect();
        let mut theirs: Vec<Option<Look>> = vec![None; addresses.len()];
        if let Some(qemu) = qemu {
            // our processor with QEMU's registers and memory
            let mut other = self.side.clone();
            memory::take(&mut other.cpu, qemu)?;
            other.cpu.flush_tlb_all(FlushCause::Reset);
            state::set(&mut other.cpu, &self.theirs);
            theirs = addresses.iter().map(|&linear| Some(picture::look(&other.cpu, linear))).collect();
        }
        let all = addresses.into_iter().zip(looks).zip(theirs);
        self.walks = all.map(|((linear, ours), theirs)| Walks { linear, ours, theirs }).collect();
        Ok(())
    }

    /// The linear addresses that the instruction is about: what page faults name, its operands, the instruction itself.
    fn addresses(&self) -> Vec<u32> {
        let mut all = Vec::new();
        if let Kind::OursDelivers(Cause::Fault(Fault::Page { address, .. }))
        | Kind::OtherException(Some(Cause::Fault(Fault::Page { address, .. })), _) = self.kind
        {
            all.push(address);
        }
        if let Kind::OtherException(_, Delivery { vector: 14, .. }) = self.kind {
            all.push(self.theirs.cr[2]);
        }
        if let Some(ran) = self.ran.last() {
            all.extend(segments::linear_addresses(&ran.instruction(), &self.before));
        }
        all.push(self.before.segs[1].base.wrapping_add(self.before.eip));
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|linear| seen.insert(linear >> 12));
        all
    }

    /// One line.
    pub fn headline(&self) -> String {
        let after = match self.ran.last() {
            Some(ran) => format!(
                "{:04x}:{:08x} {}",
                ran.at.cs,
                ran.at.eip,
                disassemble(ran.bytes(), ran.at.eip, ran.is_32bit)
            ),
            None => "the start".into(),
        };
        let what = match &self.kind {
            Kind::Registers => {
                let names: Vec<&str> = self.fields.iter().map(|field| field.name.as_str()).collect();
                format!("registers differ: {}", names.join(", "))
            }
            Kind::OursDelivers(cause) => {
                format!("pagewalk raises {}, QEMU nothing", cause_text(*cause))
            }
            Kind::OtherException(Some(ours), theirs) => {
                format!("pagewalk raises {}, QEMU {}", cause_text(*ours), delivery_text(*theirs))
            }
            Kind::OtherException(None, theirs) => {
                format!("QEMU raises {}, pagewalk nothing", delivery_text(*theirs))
            }
            Kind::OursStopped(stop) => format!("pagewalk stops ({stop:?}) and QEMU goes on"),
            Kind::Inputs => format!("they read other ports: {:x?}", self.inputs),
            Kind::Memory(places) => format!("memory differs in {} places or more", places.len()),
            Kind::End(ours, theirs) => format!("QEMU ended with {theirs:?}, pagewalk with {ours:?}"),
        };
        format!("after {} instructions, at {after}: {what}", self.retired)
    }

    /// All that is known of it.
    pub fn text(&self, name: Namer<'_>) -> String {
        let mut out = format!("{}\n", self.headline());
        let _ = writeln!(out, "\nlast instructions:");
        for (n, ran) in self.ran.iter().enumerate() {
            let mark = if n + 1 == self.ran.len() { '>' } else { ' ' };
            let label = name(ran.at.eip).map(|name| format!(" <{name}>")).unwrap_or_default();
            let _ = writeln!(
                out,
                "{mark} {:04x}:{:08x}{label}  {}   [{}]",
                ran.at.cs,
                ran.at.eip,
                disassemble(ran.bytes(), ran.at.eip, ran.is_32bit),
                hex(ran.bytes())
            );
        }
        self.registers(&mut out);
        if let Kind::Memory(places) = &self.kind {
            let _ = writeln!(out, "\nmemory:    pagewalk     QEMU");
            for place in places {
                let _ = writeln!(out, "  {:08x}  {:08x}     {:08x}", place.offset, place.ours, place.theirs);
            }
        }
        for walks in &self.walks {
            let _ = writeln!(out, "\nin pagewalk: {}", walks.ours);
            if let Some(theirs) = &walks.theirs {
                let _ = writeln!(out, "in QEMU, when it was stopped: {theirs}");
            }
        }
        out
    }

    fn registers(&self, out: &mut String) {
        let _ = writeln!(out, "\n{:<17}{:<22}{:<22}QEMU", "", "before", "pagewalk");
        let mut row = |name: &str, before: String, ours: String, theirs: String| {
            let mark = if ours == theirs { ' ' } else { '*' };
            let _ = writeln!(out, "{mark} {name:<15}{before:<22}{ours:<22}{theirs}");
        };
        let mut number = |name: &str, field: fn(&Dump) -> u32| {
            let text = |dump: &Dump| format!("{:08x}", field(dump));
            row(name, text(&self.before), text(&self.ours), text(&self.theirs));
        };
        number("eip", |dump| dump.eip);
        number("eflags", |dump| dump.eflags & state::FLAGS);
        number("cr0", |dump| dump.cr[0]);
        number("cr2", |dump| dump.cr[2]);
        number("cr3", |dump| dump.cr[3]);
        number("cr4", |dump| dump.cr[4]);
        number("dr6", |dump| dump.dr[6]);
        number("dr7", |dump| dump.dr[7]);
        number("efer", |dump| dump.efer as u32);
        for (n, name) in REGISTERS.iter().enumerate() {
            let text = |dump: &Dump| format!("{:08x}", dump.regs[n]);
            row(name, text(&self.before), text(&self.ours), text(&self.theirs));
        }
        for (n, name) in SEGMENTS.iter().enumerate() {
            let text = |dump: &Dump| hidden(&dump.segs[n]);
            row(name, text(&self.before), text(&self.ours), text(&self.theirs));
        }
        row("ldtr", hidden(&self.before.ldtr), hidden(&self.ours.ldtr), hidden(&self.theirs.ldtr));
        row("tr", hidden(&self.before.tr), hidden(&self.ours.tr), hidden(&self.theirs.tr));
        let table = |(base, limit): (u32, u32)| format!("{base:08x} {limit:04x}");
        row("gdtr", table(self.before.gdt), table(self.ours.gdt), table(self.theirs.gdt));
        row("idtr", table(self.before.idt), table(self.ours.idt), table(self.theirs.idt));
    }
}

fn hidden(hidden: &crate::qemu::dump::Hidden) -> String {
    if hidden.attributes & 0x80 == 0 {
        return format!("{:04x} null", hidden.selector);
    }
    format!("{:04x} {:x} {:x} {:04x}", hidden.selector, hidden.base, hidden.limit, hidden.attributes)
}

fn cause_text(cause: Cause) -> String {
    let vector = cause.vector();
    match cause {
        Cause::Fault(fault) => match fault.error_code() {
            Some(code) => format!("{} ({code:#06x})", fault.mnemonic()),
            None => fault.mnemonic().to_string(),
        },
        Cause::External(vector) => format!("interrupt {vector:#04x}"),
        Cause::Software(vector) => format!("INT {vector:#04x}"),
        _ => vector_mnemonic(vector).to_string(),
    }
}

fn delivery_text(delivery: Delivery) -> String {
    let Delivery { vector, code, software, hardware } = delivery;
    match (software, hardware) {
        (_, true) => format!("interrupt {vector:#04x}"),
        (true, _) => format!("INT {vector:#04x}"),
        _ => format!("{} ({code:#06x})", vector_mnemonic(vector)),
    }
}
