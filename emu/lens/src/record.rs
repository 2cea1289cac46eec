//! Events as plain records: what JSON lines hold (schema: docs/trace-schema.md) and what the text is made from.

use pagewalk_x86::fault::vector_mnemonic;
use pagewalk_x86::mmu::tlb;
use pagewalk_x86::mmu::walk::{Kind, Privilege};
use pagewalk_x86::observe::{Asker, At, Cause, Control, Io, Outcome, Step, Translation};
use serde::{Serialize, Serializer};

use crate::bits;
use crate::disassemble::{disassemble, hex};

/// A number shown as `0x...`: addresses and values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hex(pub u64);

impl std::fmt::Display for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One event.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Record {
    /// Instructions retired before it.
    pub count: u64,
    /// CS selector.
    pub cs: Hex,
    /// EIP of the instruction under way.
    pub eip: Hex,
    /// Ring.
    pub cpl: u8,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened; the tag is the field `event`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// An instruction is about to run.
    Instruction {
        /// Its bytes in hex.
        bytes: String,
        /// Its disassembly.
        text: String,
    },
    /// A linear address was translated, or not.
    Translation(Box<TranslationRecord>),
    /// An exception or interrupt is about to be delivered.
    Delivery {
        /// Its vector.
        vector: u8,
        /// Its mnemonic.
        name: &'static str,
        /// `fault`, `trap`, `software`, `external` or `nmi`.
        class: &'static str,
        /// The error code, if it has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        error_code: Option<u16>,
        /// The error code in words.
        #[serde(skip_serializing_if = "Option::is_none")]
        meaning: Option<String>,
        /// CR2, for page faults.
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<Hex>,
    },
    /// A control register, table register, MSR, the TLB or the task changed.
    Control {
        /// What: `cr0`, `dr7`, `gdtr`, `tr`, `msr`, `tlb`, `task`.
        what: String,
        /// The change in words.
        change: String,
    },
    /// A port or memory-mapped register was accessed.
    Io {
        /// The port, for IN and OUT.
        #[serde(skip_serializing_if = "Option::is_none")]
        port: Option<Hex>,
        /// The physical address, when memory-mapped.
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<Hex>,
        /// `read` or `write`.
        direction: &'static str,
        /// Bytes moved.
        bytes: u32,
        /// The value.
        value: Hex,
    },
}

/// A translation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TranslationRecord {
    /// `read`, `write` or `fetch`.
    pub kind: &'static str,
    /// Who asks: `program`, `fetch`, `stack`, `descriptor`, `gate`, `tss`, `bitmap`.
    pub asker: &'static str,
    /// More about the asker: the segment register, the selector or the vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// The offset in the segment, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<Hex>,
    /// `user`, `supervisor` or `implicit` (a supervisor access whatever the ring).
    pub privilege: &'static str,
    /// The linear address.
    pub linear: Hex,
    /// Bytes of the access in this page.
    pub bytes: u32,
    /// The physical address, unless it faulted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub physical: Option<Hex>,
    /// `unpaged`, `hit`, `walk` or `fault`.
    pub result: &'static str,
    /// The TLB slot that hit or was filled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// The walk was made to set the dirty bit of an entry that was there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub for_dirty: bool,
    /// The entries a walk used, first to last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepRecord>,
    /// Size of the page in bytes, after a walk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_size: Option<u32>,
    /// Linear address of the page that had to leave the TLB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evicted: Option<Hex>,
    /// The page-fault error code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<u16>,
    /// The error code in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meaning: Option<String>,
    /// Whether the fault came from rights that the TLB held, not from a walk.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cached_rights: bool,
}

/// One entry used by a walk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct StepRecord {
    /// `pdpte`, `pde` or `pte`.
    pub level: &'static str,
    /// Its index in its table.
    pub index: u32,
    /// Its physical address; absent for a PDPTE register.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Hex>,
    /// Its value as read.
    pub value: Hex,
    /// The bits by name.
    pub bits: String,
    /// Accessed and dirty bits that the walk set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
}

impl StepRecord {
    /// The record of a step; `linear` and whether entries have 8 bytes give its index.
    pub fn new(step: &Step, linear: u32, pae: bool) -> StepRecord {
        use pagewalk_x86::mmu::walk::Level;
        let index = match (step.level, pae) {
            (Level::Pdpte, _) => linear >> 30,
            (Level::Pde, true) => linear >> 21 & 511,
            (Level::Pde, false) => linear >> 22,
            (Level::Pte, true) => linear >> 12 & 511,
            (Level::Pte, false) => linear >> 12 & 1023,
        };
        StepRecord {
            level: bits::level_name(step.level),
            index,
            at: step.at.map(|at| Hex(at.0)),
            value: Hex(step.value),
            bits: bits::entry_bits(step.level, step.value),
            set: (step.set != 0).then(|| {
                let names = [(0x20, "A"), (0x40, "D")];
                names
                    .iter()
                    .filter(|(bit, _)| step.set & bit != 0)
                    .map(|(_, n)| *n)
                    .collect::<Vec<_>>()
                    .join(" ")
            }),
        }
    }
}

impl Record {
    fn new(at: &At, event: Event) -> Record {
        Record { count: at.retired, cs: Hex(at.cs as u64), eip: Hex(at.eip as u64), cpl: at.cpl, event }
    }

    /// The record of an instruction.
    pub fn instruction(at: &At, bytes: &[u8], is_32bit: bool) -> Record {
        Record::new(at, Event::Instruction { bytes: hex(bytes), text: disassemble(bytes, at.eip, is_32bit) })
    }

    /// The record of a delivery.
    pub fn delivery(at: &At, cause: Cause) -> Record {
        let vector = cause.vector();
        let (class, fault) = match cause {
            Cause::Fault(fault) => ("fault", Some(fault)),
            Cause::DebugTrap | Cause::Icebp => ("trap", None),
            Cause::Software(_) | Cause::Breakpoint | Cause::Overflow => ("software", None),
            Cause::External(_) => ("external", None),
            Cause::Nmi => ("nmi", None),
        };
        let error_code = fault.and_then(|f| f.error_code());
        let meaning = fault.and_then(explain_code);
        let address = match fault {
            Some(pagewalk_x86::fault::Fault::Page { address, .. }) => Some(Hex(address as u64)),
            _ => None,
        };
        let name = if matches!(cause, Cause::External(_)) { "IRQ" } else { vector_mnemonic(vector) };
        Record::new(at, Event::Delivery { vector, name, class, error_code, meaning, address })
    }

    /// The record of a control change.
    pub fn control(at: &At, change: Control) -> Record {
        let (what, change) = match change {
            Control::Cr { number, old, new } => {
                (format!("cr{number}"), format!("{} -> {}", Hex(old as u64), Hex(new as u64)))
            }
            Control::Dr { number, new } => (format!("dr{number}"), format!("= {}", Hex(new as u64))),
            Control::Table { name, base, limit } => {
                (name.into(), format!("base {} limit {limit:#06x}", Hex(base as u64)))
            }
            Control::System { name, selector } => (name.into(), format!("= {selector:#06x}")),
            Control::Msr { number, new } => ("msr".into(), format!("{number:#x} = {:#018x}", new)),
            Control::Flush { cause, linear: None } => ("tlb".into(), format!("flush by {}", cause.name())),
            Control::Flush { cause, linear: Some(linear) } => {
                ("tlb".into(), format!("drop page {} by {}", Hex((linear & !0xfff) as u64), cause.name()))
            }
            Control::TaskSwitch { from, to } => ("task".into(), format!("{from:#06x} -> {to:#06x}")),
        };
        Record::new(at, Event::Control { what, change })
    }

    /// The record of a device access.
    pub fn io(at: &At, io: Io) -> Record {
        Record::new(
            at,
            Event::Io {
                port: io.port.map(|p| Hex(p as u64)),
                address: io.port.is_none().then_some(Hex(io.at.0)),
                direction: if io.write { "write" } else { "read" },
                bytes: io.size.bytes(),
                value: Hex((io.value & io.size.mask()) as u64),
            },
        )
    }

    /// The record of a translation.
    pub fn translation(at: &At, t: &Translation<'_>) -> Record {
        let (asker, about, offset) = match t.asker {
            Asker::Program { segment, offset } => {
                ("program", Some(bits::segment_name(segment).to_string()), Some(offset))
            }
            Asker::Fetch { eip } => ("fetch", Some("cs".to_string()), Some(eip)),
            Asker::Stack { offset } => ("stack", None, Some(offset)),
            Asker::Descriptor { selector } => ("descriptor", Some(format!("{selector:#06x}")), None),
            Asker::Gate { vector } => ("gate", Some(format!("{vector}")), None),
            Asker::Tss => ("tss", None, None),
            Asker::Bitmap => ("bitmap", None, None),
        };
        let mut record = TranslationRecord {
            kind: kind_name(t.access.kind),
            asker,
            about,
            offset: offset.map(|o| Hex(o as u64)),
            privilege: match t.access.privilege {
                Privilege::User => "user",
                Privilege::Supervisor { .. } => "supervisor",
                Privilege::Implicit => "implicit",
            },
            linear: Hex(t.linear as u64),
            bytes: t.bytes,
            physical: t.phys.map(|p| Hex(p.0)),
            result: "unpaged",
            slot: None,
            for_dirty: false,
            steps: Vec::new(),
            page_size: None,
            evicted: None,
            error_code: None,
            meaning: None,
            cached_rights: false,
        };
        let steps_of = |steps: &[Step]| {
            let pae = steps.iter().any(|s| s.level == pagewalk_x86::mmu::walk::Level::Pdpte);
            steps.iter().map(|s| StepRecord::new(s, t.linear, pae)).collect()
        };
        match t.outcome {
            Outcome::Unpaged => {}
            Outcome::Hit { slot, .. } => {
                record.result = "hit";
                record.slot = Some(slot);
            }
            Outcome::Walk { steps, leaf, slot, evicted, for_dirty } => {
                record.result = "walk";
                record.slot = Some(slot);
                record.for_dirty = for_dirty;
                record.steps = steps_of(steps);
                record.page_size = Some(1 << leaf.shift);
                record.evicted = evicted.map(|e: &tlb::Entry| Hex(e.linear as u64));
            }
            Outcome::Fault { steps, cached, code } => {
                record.result = "fault";
                record.steps = steps_of(steps);
                record.error_code = Some(code);
                record.meaning = Some(bits::page_fault_code(code));
                record.cached_rights = cached.is_some();
            }
        }
        Record::new(at, Event::Translation(Box::new(record)))
    }
}

/// A kind's name.
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Read => "read",
        Kind::Write => "write",
        Kind::Fetch => "fetch",
    }
}

/// A fault's error code in words, if it has one that says anything.
pub fn explain_code(fault: pagewalk_x86::fault::Fault) -> Option<String> {
    use pagewalk_x86::fault::Fault;
    match fault {
        Fault::Page { code, .. } => Some(bits::page_fault_code(code)),
        Fault::InvalidTss(code)
        | Fault::NotPresent(code)
        | Fault::Stack(code)
        | Fault::GeneralProtection(code) => Some(bits::selector_code(code)),
        _ => None,
    }
}
