//! What a run did, in numbers.

use pagewalk_x86::bus::Bus;
use pagewalk_x86::engine::Processor;
use pagewalk_x86::fault::vector_mnemonic;
use pagewalk_x86::mmu::tlb::{Counters, FlushCause, Geometry, Policy};
use pagewalk_x86::observe::Observer;
use serde::Serialize;

/// Figures of a run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Stats {
    /// Instructions retired.
    pub instructions: u64,
    /// Virtual nanoseconds.
    pub virtual_ns: u64,
    /// The TLB's shape in words.
    pub tlb: String,
    /// By ring (0 to 3), then by read, write, fetch.
    pub hits: [[u64; 3]; 4],
    /// The same for misses.
    pub misses: [[u64; 3]; 4],
    /// Accesses with paging off: read, write, fetch.
    pub unpaged: [u64; 3],
    /// Page walks.
    pub walks: u64,
    /// Entries read by walks.
    pub walk_reads: u64,
    /// Walks made to set a dirty bit.
    pub dirty_walks: u64,
    /// Page faults found.
    pub page_faults: u64,
    /// Valid TLB entries that gave way to others.
    pub evictions: u64,
    /// TLB flushes by cause, those that happened.
    pub flushes: Vec<(&'static str, u64)>,
    /// Exceptions and interrupts delivered by vector.
    pub deliveries: Vec<(u8, u64)>,
    /// Blocks decoded, dropped as overwritten, and kept now.
    pub blocks: (u64, u64, usize),
}

/// A geometry in words.
pub fn describe(geometry: &Geometry) -> String {
    let policy = match geometry.policy {
        Policy::Lru => "lru",
        Policy::Plru => "plru",
        Policy::Fifo => "fifo",
        Policy::Random => "random",
    };
    format!(
        "{} entries, {} ways, {} for large pages, {}, {policy}{}",
        geometry.entries,
        geometry.ways,
        geometry.large,
        if geometry.split { "split" } else { "unified" },
        if geometry.tagged { ", tagged" } else { "" }
    )
}

impl Stats {
    /// The figures so far.
    pub fn of<B: Bus, O: Observer>(processor: &Processor<B, O>) -> Stats {
        let cpu = &processor.cpu;
        let c: &Counters = &cpu.tlb.counters;
        Stats {
            instructions: cpu.retired,
            virtual_ns: cpu.now().0,
            tlb: describe(cpu.tlb.geometry()),
            hits: [c.hits[0], c.hits[1], c.hits[2], c.hits[3]],
            misses: c.misses,
            unpaged: c.hits[4],
            walks: c.walks,
            walk_reads: c.walk_reads,
            dirty_walks: c.dirty_walks,
            page_faults: c.faults,
            evictions: c.evictions,
            flushes: FlushCause::ALL
                .iter()
                .map(|&cause| (cause.name(), c.flushes[cause as usize]))
                .filter(|&(_, n)| n != 0)
                .collect(),
            deliveries: (0..=255u8)
                .map(|v| (v, cpu.deliveries[v as usize]))
                .filter(|&(_, n)| n != 0)
                .collect(),
            blocks: processor.cache_figures(),
        }
    }
}

/// A number with thin groups of three, for reading.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (k, c) in digits.chars().enumerate() {
        if k != 0 && (digits.len() - k).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

impl std::fmt::Display for Stats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "instructions   {:>16}", grouped(self.instructions))?;
        writeln!(f, "virtual time   {:>16} ns", grouped(self.virtual_ns))?;
        writeln!(f, "tlb            {}", self.tlb)?;
        writeln!(f, "               {:>16} {:>14} {:>9}", "hits", "misses", "hit rate")?;
        for ring in 0..4 {
            for (kind, name) in ["read", "write", "fetch"].iter().enumerate() {
                let (hits, misses) = (self.hits[ring][kind], self.misses[ring][kind]);
                if hits + misses != 0 {
                    let rate = hits as f64 * 100.0 / (hits + misses) as f64;
                    writeln!(
                        f,
                        "  ring {ring} {name:<6} {:>15} {:>14} {rate:>8.3}%",
                        grouped(hits),
                        grouped(misses)
                    )?;
                }
            }
        }
        let unpaged: u64 = self.unpaged.iter().sum();
        if unpaged != 0 {
            writeln!(f, "  paging off   {:>16}", grouped(unpaged))?;
        }
        writeln!(
            f,
            "walks          {:>16}   reading {} entries; {} to set a dirty bit; {} page faults",
            grouped(self.walks),
            grouped(self.walk_reads),
            grouped(self.dirty_walks),
            grouped(self.page_faults)
        )?;
        writeln!(f, "evictions      {:>16}", grouped(self.evictions))?;
        for (cause, n) in &self.flushes {
            writeln!(f, "flush {cause:<12} {:>13}", grouped(*n))?;
        }
        for (vector, n) in &self.deliveries {
            writeln!(f, "vector {vector:>3} {:<5} {:>14}", vector_mnemonic(*vector), grouped(*n))?;
        }
        let (decoded, dropped, kept) = self.blocks;
        writeln!(
            f,
            "code blocks    {:>16}   decoded; {} dropped as overwritten; {} kept",
            grouped(decoded),
            grouped(dropped),
            grouped(kept as u64)
        )
    }
}
