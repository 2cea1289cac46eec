//! One case: how it is written down, run, and made smaller.

use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
use pagewalk_x86::fault::Stop;

use super::Coverage;
use super::code::Style;
use super::features::{Feature, Features, stream};
use super::state::{Plan, plan};
use super::ways::{Ended, Prepare, Way, go};

/// A case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Case {
    seed: u64,
    features: Features,
    /// How many instructions are run.
    until: u64,
    /// The pieces of the program that are NOPs.
    dropped: Vec<bool>,
}

/// The ways of a case that came to different ends.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// The smallest case that was found.
    pub case: Case,
    /// What differs in it, and its program.
    pub text: String,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.text)?;
        let test = "cargo test --profile checked -p pagewalk-tests --test metamorphic";
        write!(f, "to see it again: PAGEWALK_CASE={} {test}", self.case)
    }
}

/// Seed, features, instructions and dropped pieces: what PAGEWALK_CASE takes.
impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}:{:#x}:{}:", self.seed, self.features.0, self.until)?;
        let dropped: Vec<String> =
            (0..self.dropped.len()).filter(|&n| self.dropped[n]).map(|n| n.to_string()).collect();
        f.write_str(&dropped.join(","))
    }
}

impl std::str::FromStr for Case {
    type Err = String;
    fn from_str(text: &str) -> Result<Case, String> {
        let wrong =
            || format!("'{text}' is no case: a case is SEED:FEATURES:INSTRUCTIONS:DROPPED as it was printed");
        let number = |text: &str| match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).map_err(|_| wrong()),
            None => text.parse().map_err(|_| wrong()),
        };
        let parts: Vec<&str> = text.split(':').collect();
        let [seed, features, until, dropped] = parts[..] else { return Err(wrong()) };
        let mut case = Case {
            seed: number(seed)?,
            features: Features(number(features)?),
            until: number(until)?,
            dropped: vec![false; PIECES],
        };
        for piece in dropped.split(',').filter(|piece| !piece.is_empty()) {
            let piece = number(piece)? as usize;
            *case.dropped.get_mut(piece).ok_or_else(wrong)? = true;
        }
        Ok(case)
    }
}

/// No program has more pieces.
const PIECES: usize = 40;

impl Case {
    /// The case of a seed.
    pub fn draw(seed: u64) -> Case {
        let until = 60 + stream(seed, 500).below(260) as u64;
        Case { seed, features: Features::draw(seed), until, dropped: vec![false; PIECES] }
    }

    fn plan(&self) -> Plan {
        plan(self.seed, self.features, &self.dropped)
    }

    /// Runs it in every way. `Err` says what differs.
    pub fn check(&self, prepare: &impl Prepare, coverage: &mut Coverage) -> Result<(), String> {
        let first = self.compare(&Way::ALL, prepare, false)?;
        let Ended::Alone(end) = &first else { return Ok(()) };
        coverage.cases += 1;
        coverage.instructions += end.processor.cpu.retired;
        let counters = &end.processor.cpu.tlb.counters;
        coverage.hits += counters.hits[..4].iter().flatten().sum::<u64>();
        coverage.walks += counters.walks;
        coverage.faults += counters.faults;
        coverage.dropped += end.processor.cache_figures().1;
        for (sum, count) in coverage.deliveries.iter_mut().zip(end.processor.cpu.deliveries.iter()) {
            *sum += count;
        }
        let kind = match end.stops.last() {
            Some((_, Stop::Halted)) => 1,
            Some((_, Stop::Shutdown(_))) => 2,
            Some((_, Stop::Unimplemented { .. })) => 3,
            _ => 0,
        };
        coverage.ends[kind] += 1;
        Ok(())
    }

    /// Runs it in these ways, and compares each with what it must be like. How [`Way::Run`] ended.
    fn compare(&self, ways: &[Way], prepare: &impl Prepare, words: bool) -> Result<Ended, String> {
        let plan = self.plan();
        let mut ends: Vec<(Way, Ended)> = Vec::new();
        let find = |way: Way, ends: &mut Vec<(Way, Ended)>| match ends.iter().position(|end| end.0 == way) {
            Some(at) => at,
            None => {
                ends.push((way, go(&plan, way, self.until, self.seed, words, prepare)));
                ends.len() - 1
            }
        };
        let run = find(Way::Run, &mut ends);
        for &way in ways {
            let others = [way.ends_like(), way.told_like()].map(|like| like.map(|way| find(way, &mut ends)));
            let end = find(way, &mut ends);
            let [ended, told] = others.map(|at| at.map(|at| &ends[at].1));
            let end = &ends[end].1;
            let difference = ended.and_then(|other| end.difference(other));
            if let Some(what) = difference.or_else(|| told.and_then(|other| end.told_otherwise(other))) {
                return Err(format!("{way:?} | {:?}: {what}", way.ends_like().unwrap_or(way)));
            }
            // the others are compared with a few only
            let kept = [Way::Run, Way::Forgetful, Way::Watched, Way::WatchedAll];
            ends.retain(|(way, _)| kept.contains(way));
        }
        Ok(ends.swap_remove(run).1)
    }

    /// Whether it still fails in this way, and how.
    fn fails(&self, way: Way, prepare: &impl Prepare) -> Option<String> {
        self.compare(&[way], prepare, true).err()
    }

    /// A smaller case that fails too: fewer instructions, then fewer pieces, then fewer features, as often as that helps.
    pub fn shrink(&self, prepare: &impl Prepare, what: String) -> Mismatch {
        let failing = Way::ALL.into_iter().find(|&way| self.fails(way, prepare).is_some());
        let Some(way) = failing else {
            let text = format!("{what}\n(only when the ways are run one after the other)");
            return Mismatch { case: self.clone(), text };
        };
        let mut best = self.clone();
        loop {
            let before = best.clone();
            for until in 1..best.until {
                let smaller = Case { until, ..best.clone() };
                if smaller.fails(way, prepare).is_some() {
                    best = smaller;
                    break;
                }
            }
            for &feature in Feature::ALL.iter().filter(|&&feature| self.features.has(feature)) {
                let smaller = Case { features: best.features.without(feature), ..best.clone() };
                if smaller != best && smaller.fails(way, prepare).is_some() {
                    best = smaller;
                }
            }
            for piece in 0..PIECES {
                let mut smaller = best.clone();
                smaller.dropped[piece] = true;
                if smaller != best && smaller.fails(way, prepare).is_some() {
                    best = smaller;
                }
            }
            if best == before {
                break;
            }
        }
        let text = best.fails(way, prepare).unwrap_or(what);
        let last = best.last_words(prepare);
        Mismatch {
            text: format!("{}\nthe last that an onlooker is told of it:\n{last}\n{text}", best.describe()),
            case: best,
        }
    }

    /// What the quiet onlooker is told last.
    fn last_words(&self, prepare: &impl Prepare) -> String {
        let Ended::Watched(end) = go(&self.plan(), Way::Watched, self.until, self.seed, true, prepare) else {
            return String::new();
        };
        let words = end.processor.cpu.observer.words.unwrap_or_default();
        words[words.len().saturating_sub(12)..].join("\n")
    }

    /// Features, registers and program in words.
    fn describe(&self) -> String {
        let plan = self.plan();
        let state = &plan.state;
        let mut text = format!("with {}\n", self.features.text());
        text += &format!(
            "cr0 {:#x} cr3 {:#x} cr4 {:#x} eflags {:?} cs:eip {:#x}:{:#x} ss:esp {:#x}:{:#x}\nregisters {:x?}\n",
            state.cr0,
            state.cr3,
            state.cr4,
            state.flags,
            state.segs[1].selector,
            state.eip,
            state.segs[2].selector,
            state.regs.dword(4),
            state.regs.all()
        );
        let bitness = if plan.style == Style::Flat { 32 } else { 16 };
        let mut formatter = IntelFormatter::new();
        for (at, bytes) in &plan.program.pieces {
            if bytes.iter().all(|&byte| byte == 0x90) {
                continue;
            }
            let mut decoder = Decoder::with_ip(bitness, bytes, *at as u64, DecoderOptions::NONE);
            while decoder.can_decode() {
                let instruction = decoder.decode();
                let start = (instruction.ip() - *at as u64) as usize;
                let mut line = String::new();
                formatter.format(&instruction, &mut line);
                let code = &bytes[start..start + instruction.len().max(1)];
                text += &format!("{:8x} {:<30} {line}\n", instruction.ip(), hex(code));
            }
        }
        text
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x} ")).collect()
}
