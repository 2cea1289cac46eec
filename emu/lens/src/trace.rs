//! The trace: records through a filter, as text by `tracing` or as JSON lines into a writer.

use std::io::Write;

use pagewalk_x86::mmu::walk::Kind;
use pagewalk_x86::observe::{At, Cause, Control, Io, Translation};
use tracing::{debug, info, trace};

use crate::filter::{Filter, Topic};
use crate::record::Record;

/// Where records go.
pub enum Sink {
    /// Text, through `tracing`: target `pagewalk::` and the topic's name; translations and instructions at level TRACE,
    /// control and I/O at DEBUG, exceptions and interrupts at INFO.
    Tracing,
    /// One JSON object a line.
    Json(Box<dyn Write + Send>),
    /// Text lines into a writer, without `tracing`'s own fields.
    Text(Box<dyn Write + Send>),
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Sink::Tracing => "Tracing",
            Sink::Json(_) => "Json",
            Sink::Text(_) => "Text",
        })
    }
}

/// A running trace.
#[derive(Debug)]
pub struct Trace {
    filter: Filter,
    sink: Sink,
    /// The first error of the writer; nothing is written after it.
    error: Option<std::io::Error>,
}

impl Trace {
    /// Shows what `filter` lets through.
    pub fn new(filter: Filter, sink: Sink) -> Trace {
        Trace { filter, sink, error: None }
    }

    /// What is shown.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Writes out what is buffered, and reports the first error met.
    pub fn finish(&mut self) -> std::io::Result<()> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        match &mut self.sink {
            Sink::Tracing => Ok(()),
            Sink::Json(writer) | Sink::Text(writer) => writer.flush(),
        }
    }

    /// Whether the writer failed (a full disk, a closed pipe).
    pub fn failed(&self) -> bool {
        self.error.is_some()
    }

    fn emit(&mut self, topic: Topic, record: &Record) {
        if self.error.is_some() {
            return;
        }
        let result = match &mut self.sink {
            Sink::Json(writer) => serde_json::to_writer(&mut *writer, record)
                .map_err(std::io::Error::from)
                .and_then(|()| writer.write_all(b"\n")),
            Sink::Text(writer) => writeln!(writer, "{record}"),
            Sink::Tracing => {
                match topic {
                    Topic::Translations => trace!(target: "pagewalk::translations", "{record}"),
                    Topic::Instructions => trace!(target: "pagewalk::instructions", "{record}"),
                    Topic::Exceptions => info!(target: "pagewalk::exceptions", "{record}"),
                    Topic::Interrupts => info!(target: "pagewalk::interrupts", "{record}"),
                    Topic::Control => debug!(target: "pagewalk::control", "{record}"),
                    Topic::Io => debug!(target: "pagewalk::io", "{record}"),
                }
                Ok(())
            }
        };
        if let Err(error) = result {
            self.error = Some(error);
        }
    }

    pub(crate) fn instruction(&mut self, at: &At, bytes: &[u8], is_32bit: bool) {
        if self.filter.lets(Topic::Instructions, at, at.eip) {
            self.emit(Topic::Instructions, &Record::instruction(at, bytes, is_32bit));
        }
    }

    pub(crate) fn translation(&mut self, at: &At, translation: &Translation<'_>) {
        let kind: Kind = translation.access.kind;
        if self.filter.lets(Topic::Translations, at, translation.linear) && self.filter.lets_kind(kind) {
            self.emit(Topic::Translations, &Record::translation(at, translation));
        }
    }

    pub(crate) fn delivery(&mut self, at: &At, cause: Cause) {
        let topic = match cause {
            Cause::External(_) | Cause::Nmi => Topic::Interrupts,
            _ => Topic::Exceptions,
        };
        if self.filter.lets(topic, at, at.eip) {
            self.emit(topic, &Record::delivery(at, cause));
        }
    }

    pub(crate) fn control(&mut self, at: &At, change: Control) {
        if self.filter.lets(Topic::Control, at, at.eip) {
            self.emit(Topic::Control, &Record::control(at, change));
        }
    }

    pub(crate) fn io(&mut self, at: &At, io: Io) {
        if self.filter.lets(Topic::Io, at, at.eip) {
            self.emit(Topic::Io, &Record::io(at, io));
        }
    }
}
