//! The one observer: a trace, a history, a list of writers, each if asked for.

use pagewalk_x86::bus::Phys;
use pagewalk_x86::cpu::State;
use pagewalk_x86::observe::{At, Cause, Control, Io, Observer, Translation};

use crate::filter::Topic;
use crate::history::{History, Writers};
use crate::trace::Trace;

/// Looks at a machine; see the fields for what at.
#[derive(Debug, Default)]
pub struct Lens {
    /// A running trace.
    pub trace: Option<Trace>,
    /// What led to exceptions.
    pub history: Option<History>,
    /// Who wrote certain paging-structure entries.
    pub writers: Option<Writers>,
    /// Stop before the instruction at this EIP.
    pub stop_at: Option<u32>,
    /// Whether that point was reached.
    pub stopping: bool,
}

impl Lens {
    /// A lens that runs a trace.
    pub fn tracing(trace: Trace) -> Lens {
        Lens { trace: Some(trace), ..Lens::default() }
    }
}

impl Observer for Lens {
    const ACTIVE: bool = true;

    fn wants_translations(&self) -> bool {
        self.history.is_some()
            || self.trace.as_ref().is_some_and(|t| t.filter().topics.has(Topic::Translations))
    }

    fn wants_stores(&self) -> bool {
        self.writers.as_ref().is_some_and(|w| !w.is_empty())
    }

    fn wants_stop(&self) -> bool {
        self.stopping
            || self.trace.as_ref().is_some_and(Trace::failed)
            || self.history.as_ref().is_some_and(History::is_full)
    }

    fn instruction(&mut self, at: &At, bytes: &[u8], is_32bit: bool) {
        if let Some(trace) = &mut self.trace {
            trace.instruction(at, bytes, is_32bit);
        }
        if let Some(history) = &mut self.history {
            history.instruction(bytes, is_32bit);
        }
        if self.stop_at == Some(at.eip) {
            self.stopping = true;
        }
    }

    fn translation(&mut self, at: &At, translation: &Translation<'_>) {
        if let Some(trace) = &mut self.trace {
            trace.translation(at, translation);
        }
        if let Some(history) = &mut self.history {
            history.translation(at, translation);
        }
    }

    fn delivery(&mut self, at: &At, cause: Cause, state: &State) {
        if let Some(trace) = &mut self.trace {
            trace.delivery(at, cause);
        }
        if let Some(history) = &mut self.history {
            history.delivery(at, cause, state);
        }
    }

    fn control(&mut self, at: &At, change: Control) {
        if let Some(trace) = &mut self.trace {
            trace.control(at, change);
        }
    }

    fn io(&mut self, at: &At, io: Io) {
        if let Some(trace) = &mut self.trace {
            trace.io(at, io);
        }
    }

    fn store(&mut self, at: &At, phys: Phys, bytes: u32, value: u64) {
        if let Some(writers) = &mut self.writers {
            writers.store(at, phys, bytes, value);
        }
    }
}
