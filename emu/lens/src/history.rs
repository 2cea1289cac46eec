//! What led to exceptions: for each one delivered, the instruction, the failed translation, and how delivery went.

use std::collections::{HashMap, HashSet, VecDeque};

use pagewalk_x86::bus::Phys;
use pagewalk_x86::cpu::State;
use pagewalk_x86::observe::{Asker, At, Cause, Outcome, Translation};

use crate::record::{Event, Record, TranslationRecord};

/// One exception or interrupt as it was found.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Where the processor stood.
    pub at: At,
    /// What is delivered.
    pub cause: Cause,
    /// All registers at that moment.
    pub state: State,
    /// The instruction under way: its bytes.
    pub bytes: Vec<u8>,
    /// Whether its code is 32-bit.
    pub is_32bit: bool,
    /// For a page fault: the translation that failed.
    pub translation: Option<TranslationRecord>,
    /// Where the entries that it used stand, directory first.
    pub sources: Vec<Phys>,
    /// The accesses that delivery made to the IDT, descriptor tables, TSS and stack.
    pub delivery: Vec<TranslationRecord>,
}

/// Which frames to keep.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Keep {
    /// The last three: what a triple fault is made of.
    LastThree,
    /// The first `count` of these vectors (all vectors when empty).
    First {
        /// Vectors of interest.
        vectors: Vec<u8>,
        /// How many frames.
        count: usize,
    },
}

const MOST_ACCESSES: usize = 24;

/// Collects frames.
#[derive(Clone, Debug)]
pub struct History {
    keep: Keep,
    frames: VecDeque<Frame>,
    bytes: Vec<u8>,
    is_32bit: bool,
    fault: Option<(TranslationRecord, Vec<Phys>)>,
    /// Whether the accesses seen now belong to the newest frame's delivery.
    delivering: bool,
}

impl History {
    /// Collects what `keep` says.
    pub fn new(keep: Keep) -> History {
        History {
            keep,
            frames: VecDeque::new(),
            bytes: Vec::new(),
            is_32bit: true,
            fault: None,
            delivering: false,
        }
    }

    /// The frames, oldest first.
    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter()
    }

    /// Physical addresses of the paging-structure entries that the frames' failed walks used.
    pub fn sources(&self) -> HashSet<Phys> {
        self.frames.iter().flat_map(|frame| frame.sources.iter().copied()).collect()
    }

    /// Whether all frames wanted are there.
    pub fn is_full(&self) -> bool {
        matches!(self.keep, Keep::First { count, .. } if self.frames.len() >= count) && !self.delivering
    }

    pub(crate) fn instruction(&mut self, bytes: &[u8], is_32bit: bool) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.is_32bit = is_32bit;
        self.fault = None;
        self.delivering = false;
    }

    pub(crate) fn translation(&mut self, at: &At, translation: &Translation<'_>) {
        let fault = match translation.outcome {
            Outcome::Fault { steps, cached, .. } => {
                let cached =
                    cached.iter().flat_map(|e| e.sources.iter().filter(|s| s.value != 0).map(|s| s.at));
                Some(steps.iter().filter_map(|s| s.at).chain(cached).collect::<Vec<_>>())
            }
            _ => None,
        };
        let of_delivery = self.delivering && !matches!(translation.asker, Asker::Fetch { .. });
        if fault.is_none() && !of_delivery {
            return;
        }
        let Event::Translation(record) = Record::translation(at, translation).event else { return };
        if of_delivery
            && let Some(frame) = self.frames.back_mut()
            && frame.delivery.len() < MOST_ACCESSES
        {
            frame.delivery.push((*record).clone());
        }
        if let Some(sources) = fault {
            self.fault = Some((*record, sources));
        }
    }

    pub(crate) fn delivery(&mut self, at: &At, cause: Cause, state: &State) {
        self.delivering = false;
        let fault = self.fault.take();
        match &self.keep {
            Keep::LastThree => {
                if self.frames.len() == 3 {
                    self.frames.pop_front();
                }
            }
            Keep::First { vectors, count } => {
                let wanted = vectors.is_empty() || vectors.contains(&cause.vector());
                if !wanted || self.frames.len() >= *count {
                    return;
                }
            }
        }
        let is_page_fault = matches!(cause, Cause::Fault(pagewalk_x86::fault::Fault::Page { .. }));
        let (translation, sources) = match fault {
            Some((record, sources)) if is_page_fault => (Some(record), sources),
            _ => (None, Vec::new()),
        };
        // a fault while fetching belongs to bytes that nobody has seen
        let fetching = translation.as_ref().is_some_and(|t| t.kind == "fetch");
        let bytes = if fetching { Vec::new() } else { self.bytes.clone() };
        let is_32bit = self.is_32bit;
        self.frames.push_back(Frame {
            at: *at,
            cause,
            state: state.clone(),
            bytes,
            is_32bit,
            translation,
            sources,
            delivery: Vec::new(),
        });
        self.delivering = true;
    }
}

/// A store to a place of interest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Write {
    /// By which instruction.
    pub at: At,
    /// What.
    pub value: u64,
    /// How many bytes.
    pub bytes: u32,
}

/// Remembers who wrote certain entries, in order.
#[derive(Clone, Debug, Default)]
pub struct Writers {
    places: HashMap<Phys, Vec<Write>>,
}

impl Writers {
    /// Watches these entries (of 4 or 8 bytes).
    pub fn new(entries: impl IntoIterator<Item = Phys>) -> Writers {
        Writers { places: entries.into_iter().map(|at| (at, Vec::new())).collect() }
    }

    /// Whether anything is watched.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Who wrote the entry at `at` last, before `count` instructions were retired.
    pub fn last(&self, at: Phys, count: u64) -> Option<&Write> {
        self.places.get(&at)?.iter().rev().find(|write| write.at.retired < count)
    }

    pub(crate) fn store(&mut self, at: &At, phys: Phys, bytes: u32, value: u64) {
        for entry in [Phys(phys.0 & !7), Phys(phys.0 & !3), Phys((phys.0 + bytes as u64 - 1) & !3)] {
            if let Some(writes) = self.places.get_mut(&entry) {
                let write = Write { at: *at, value, bytes };
                if writes.last() != Some(&write) {
                    writes.push(write);
                }
            }
        }
    }
}
