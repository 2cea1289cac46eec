//! Records as lines for reading.

use crate::record::{Event, Record, StepRecord, TranslationRecord};

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>10} {:04x}:{:08x} r{} ", self.count, self.cs.0, self.eip.0, self.cpl)?;
        match &self.event {
            Event::Instruction { bytes, text } => write!(f, "{bytes:<24} {text}"),
            Event::Translation(t) => write!(f, "{t}"),
            Event::Delivery { vector, name, class, error_code, meaning, address } => {
                write!(f, "{name} vector {vector} ({class})")?;
                if let Some(code) = error_code {
                    write!(f, " error code {code:#06x}")?;
                }
                if let Some(meaning) = meaning {
                    write!(f, ": {meaning}")?;
                }
                if let Some(address) = address {
                    write!(f, ", at {address}")?;
                }
                Ok(())
            }
            Event::Control { what, change } => write!(f, "{what} {change}"),
            Event::Io { port, address, direction, bytes, value } => {
                let digits = *bytes as usize * 2;
                match (port, address) {
                    (Some(port), _) => {
                        write!(f, "port {:#06x} {direction:<5} {:#0w$x}", port.0, value.0, w = digits + 2)
                    }
                    (_, Some(at)) => write!(f, "mmio {at} {direction:<5} {:#0w$x}", value.0, w = digits + 2),
                    _ => Ok(()),
                }
            }
        }
    }
}

impl std::fmt::Display for StepRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{:#x}]", self.level, self.index)?;
        if let Some(at) = self.at {
            write!(f, " @{at}")?;
        }
        write!(f, " = {} ({})", self.value, self.bits)?;
        if let Some(set) = &self.set {
            write!(f, " sets {set}")?;
        }
        Ok(())
    }
}

impl std::fmt::Display for TranslationRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let asker = if self.asker == self.kind { "" } else { self.asker };
        write!(f, "{:<5} {asker}", self.kind)?;
        if let Some(about) = &self.about {
            write!(f, " {about}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, ":{:08x}", offset.0)?;
        }
        write!(f, " -> {:08x} ", self.linear.0)?;
        match self.result {
            "hit" => write!(f, "tlb hit #{}", self.slot.unwrap_or(0))?,
            "unpaged" => write!(f, "unpaged")?,
            result => {
                let name = match (result, self.for_dirty, self.cached_rights) {
                    ("walk", true, _) => "walk for D",
                    ("fault", _, true) => "tlb forbids",
                    ("fault", ..) => "walk fails",
                    _ => "walk",
                };
                write!(f, "{name}")?;
                for step in &self.steps {
                    write!(f, " | {step}")?;
                }
                if let Some(slot) = self.slot {
                    write!(f, " | tlb fill #{slot}")?;
                }
                if let Some(evicted) = self.evicted {
                    write!(f, " evicts {:08x}", evicted.0)?;
                }
            }
        }
        match (self.physical, self.error_code, &self.meaning) {
            (Some(physical), ..) => write!(f, " -> {physical}"),
            (None, Some(code), Some(meaning)) => write!(f, " => #PF({code:#x}): {meaning}"),
            _ => Ok(()),
        }
    }
}
