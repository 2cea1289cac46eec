//! What a run did, in numbers.

use std::time::Duration;

use pagewalk_pc::interrupts;
use pagewalk_pc::machine::Machine;
use pagewalk_x86::bus::Bus;
use pagewalk_x86::engine::Processor;
use pagewalk_x86::fault::vector_mnemonic;
use pagewalk_x86::mmu::tlb::{Counters, FlushCause, Geometry, Policy};
use pagewalk_x86::observe::Observer;
use serde::Serialize;

/// Figures of a run. The names of its fields are those of the JSON that `docs/console.md` describes.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Stats {
    /// The version of this list of fields.
    pub format: u32,
    /// Instructions retired.
    pub instructions: u64,
    /// Virtual nanoseconds.
    pub virtual_ns: u64,
    /// What it took of the host's time.
    pub host: Option<Host>,
    /// The TLB.
    pub tlb: TlbStats,
    /// Page walks.
    pub walks: u64,
    /// Entries read by walks.
    pub walk_reads: u64,
    /// Walks made to set a dirty bit.
    pub dirty_walks: u64,
    /// Page faults found.
    pub page_faults: u64,
    /// Exceptions delivered.
    pub exceptions: Vec<Vector>,
    /// Interrupts delivered that instructions asked for.
    pub software_interrupts: Vec<Vector>,
    /// External interrupts delivered, by vector.
    pub external_interrupts: Vec<Vector>,
    /// The same by what asked for them; empty where no board is looked at.
    pub interrupts: Vec<Line>,
    /// Kept blocks of decoded instructions.
    pub blocks: Blocks,
}

/// The host's time.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Host {
    /// How long the machine ran, waiting for a person left out.
    pub seconds: f64,
    /// Million instructions a second.
    pub mips: f64,
}

/// What the TLB did.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct TlbStats {
    /// Its shape in words.
    pub shape: String,
    /// Rings 0 to 3.
    pub rings: [Ring; 4],
    /// Accesses with paging off.
    pub unpaged: u64,
    /// Valid entries that gave way to others.
    pub evictions: u64,
    /// Flushes by cause, those that happened.
    pub flushes: Vec<Flush>,
}

/// The lookups of one ring.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Ring {
    /// Reads.
    pub read: Lookups,
    /// Writes.
    pub write: Lookups,
    /// Instruction fetches.
    pub fetch: Lookups,
    /// All of them.
    pub all: Lookups,
}

/// Lookups of the TLB.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Lookups {
    /// Those that found an entry.
    pub hits: u64,
    /// Those that needed a walk.
    pub misses: u64,
    /// The former's part of all, 0 to 1; `None` where there were none.
    pub hit_rate: Option<f64>,
}

/// TLB flushes of one cause.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Flush {
    /// The cause.
    pub cause: &'static str,
    /// How many.
    pub count: u64,
}

/// Deliveries by one vector.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Vector {
    /// The vector.
    pub vector: u8,
    /// The exception's mnemonic; `None` for what is no exception.
    pub name: Option<&'static str>,
    /// How many.
    pub count: u64,
}

/// Interrupts that one source asked for.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Line {
    /// `irq 0` to `irq 15`, `local timer`, `message`, `spurious`.
    pub source: String,
    /// How many.
    pub count: u64,
}

/// What the block cache did. Its hits are not counted, which would cost time at every block; how often each decoded
/// instruction was run tells as much.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Blocks {
    /// Blocks decoded.
    pub built: u64,
    /// Instructions in them.
    pub instructions_decoded: u64,
    /// How many instructions were retired for each decoded one.
    pub runs_per_decoded: f64,
    /// Blocks dropped because their bytes were written.
    pub invalidated: u64,
    /// How often all were dropped because there were too many.
    pub cleared: u64,
    /// Blocks kept at the end.
    pub kept: u64,
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

impl Lookups {
    fn new(hits: u64, misses: u64) -> Lookups {
        let all = hits + misses;
        Lookups { hits, misses, hit_rate: (all != 0).then(|| hits as f64 / all as f64) }
    }
}

impl Ring {
    fn new(hits: [u64; 3], misses: [u64; 3]) -> Ring {
        let [read, write, fetch] = std::array::from_fn(|kind| Lookups::new(hits[kind], misses[kind]));
        Ring { read, write, fetch, all: Lookups::new(hits.iter().sum(), misses.iter().sum()) }
    }
}

/// The vectors that were delivered at all.
fn vectors(counts: impl Iterator<Item = u64>, name: impl Fn(u8) -> Option<&'static str>) -> Vec<Vector> {
    (0..=255)
        .zip(counts)
        .filter(|&(_, count)| count != 0)
        .map(|(vector, count)| Vector { vector, name: name(vector), count })
        .collect()
}

impl Stats {
    /// The figures so far.
    pub fn of<B: Bus, O: Observer>(processor: &Processor<B, O>) -> Stats {
        let cpu = &processor.cpu;
        let c: &Counters = &cpu.tlb.counters;
        let cache = processor.cache_report();
        let exceptions = |vector: usize| cpu.exceptions.get(vector).copied().unwrap_or(0);
        let software =
            |vector: usize| cpu.deliveries[vector].saturating_sub(exceptions(vector) + cpu.external[vector]);
        Stats {
            format: 1,
            instructions: cpu.retired,
            virtual_ns: cpu.now().0,
            host: None,
            tlb: TlbStats {
                shape: describe(cpu.tlb.geometry()),
                rings: std::array::from_fn(|ring| Ring::new(c.hits[ring], c.misses[ring])),
                unpaged: c.hits[4].iter().sum(),
                evictions: c.evictions,
                flushes: FlushCause::ALL
                    .iter()
                    .map(|&cause| Flush { cause: cause.name(), count: c.flushes[cause as usize] })
                    .filter(|flush| flush.count != 0)
                    .collect(),
            },
            walks: c.walks,
            walk_reads: c.walk_reads,
            dirty_walks: c.dirty_walks,
            page_faults: c.faults,
            exceptions: vectors((0..256).map(exceptions), |vector| Some(vector_mnemonic(vector))),
            software_interrupts: vectors((0..256).map(software), |_| None),
            external_interrupts: vectors(cpu.external.iter().copied(), |_| None),
            interrupts: Vec::new(),
            blocks: Blocks {
                built: cache.built,
                instructions_decoded: cache.instructions,
                runs_per_decoded: cpu.retired as f64 / cache.instructions.max(1) as f64,
                invalidated: cache.invalidated,
                cleared: cache.cleared,
                kept: cache.kept,
            },
        }
    }

    /// The figures of a machine that ran for this long.
    pub fn of_machine<O: Observer>(machine: &Machine<O>, ran: Duration) -> Stats {
        let taken = machine.processor.cpu.bus.interrupts_taken().into_iter().enumerate();
        let source = |source: usize| match source {
            interrupts::TIMERS => "local timer".to_string(),
            interrupts::MESSAGES => "message".to_string(),
            interrupts::SPURIOUS => "spurious".to_string(),
            irq => format!("irq {irq}"),
        };
        let seconds = ran.as_secs_f64();
        let retired = machine.processor.cpu.retired;
        let mips = if seconds > 0.0 { retired as f64 / seconds / 1e6 } else { 0.0 };
        Stats {
            host: Some(Host { seconds, mips }),
            interrupts: taken
                .filter(|&(_, count)| count != 0)
                .map(|(n, count)| Line { source: source(n), count })
                .collect(),
            ..Stats::of(&machine.processor)
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
        if let Some(Host { seconds, mips }) = self.host {
            writeln!(f, "host's time    {seconds:>16.3} s    {mips:.1} million instructions a second")?;
        }
        writeln!(f, "tlb            {}", self.tlb.shape)?;
        writeln!(f, "               {:>16} {:>14} {:>9}", "hits", "misses", "hit rate")?;
        for (number, ring) in self.tlb.rings.iter().enumerate() {
            let kinds =
                [("read", ring.read), ("write", ring.write), ("fetch", ring.fetch), ("all", ring.all)];
            for (name, lookups) in kinds {
                let Some(rate) = lookups.hit_rate else { continue };
                let (hits, misses) = (grouped(lookups.hits), grouped(lookups.misses));
                writeln!(f, "  ring {number} {name:<6} {hits:>15} {misses:>14} {:>8.3}%", rate * 100.0)?;
            }
        }
        if self.tlb.unpaged != 0 {
            writeln!(f, "  paging off   {:>16}", grouped(self.tlb.unpaged))?;
        }
        writeln!(
            f,
            "walks          {:>16}   reading {} entries; {} to set a dirty bit; {} page faults",
            grouped(self.walks),
            grouped(self.walk_reads),
            grouped(self.dirty_walks),
            grouped(self.page_faults)
        )?;
        writeln!(f, "evictions      {:>16}", grouped(self.tlb.evictions))?;
        for Flush { cause, count } in &self.tlb.flushes {
            writeln!(f, "flush {cause:<12} {:>13}", grouped(*count))?;
        }
        for Vector { vector, name, count } in &self.exceptions {
            writeln!(f, "exception {vector:>3} {:<5} {:>11}", name.unwrap_or_default(), grouped(*count))?;
        }
        for Vector { vector, count, .. } in &self.software_interrupts {
            writeln!(f, "int {vector:#04x}       {:>16}", grouped(*count))?;
        }
        for Line { source, count } in &self.interrupts {
            writeln!(f, "interrupts {source:<12} {:>8}", grouped(*count))?;
        }
        let blocks = &self.blocks;
        writeln!(
            f,
            "code blocks    {:>16}   built of {} instructions, each run {:.0} times; {} dropped as overwritten; {} kept",
            grouped(blocks.built),
            grouped(blocks.instructions_decoded),
            blocks.runs_per_decoded,
            grouped(blocks.invalidated),
            grouped(blocks.kept)
        )
    }
}
