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
    /// The smallest case that was found, as PAGEWALK_CASE takes it.
    pub case: String,
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
        let dropped = list_dropped(&self.dropped);
        write!(f, "{:#x}:{:#x}:{}:{dropped}", self.seed, self.features.0, self.until)
    }
}

impl std::str::FromStr for Case {
    type Err = String;
    fn from_str(text: &str) -> Result<Case, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let [seed, features, until, dropped] = parts[..] else { return Err(no_case(text)) };
        Ok(Case {
            seed: number(seed)?,
            features: Features(number(features)?),
            until: number(until)?,
            dropped: dropped_pieces(dropped)?,
        })
    }
}

/// No program has more pieces.
pub const NUMBER_OF_PIECES: usize = 40;

/// What is wrong with a text that is no case.
pub fn no_case(text: &str) -> String {
    format!("'{text}' is no case: PAGEWALK_CASE takes what was printed for one")
}

/// A number, hexadecimal after 0x.
pub fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| no_case(text))
}

/// The numbers of pieces that are NOPs, between commas; and from that text.
pub fn list_dropped(dropped: &[bool]) -> String {
    let numbers: Vec<String> = (0..dropped.len()).filter(|&n| dropped[n]).map(|n| n.to_string()).collect();
    numbers.join(",")
}

/// See [`list_dropped`].
pub fn dropped_pieces(text: &str) -> Result<Vec<bool>, String> {
    let mut dropped = vec![false; NUMBER_OF_PIECES];
    for piece in text.split(',').filter(|piece| !piece.is_empty()) {
        *dropped.get_mut(number(piece)? as usize).ok_or_else(|| no_case(text))? = true;
    }
    Ok(dropped)
}

/// The cases that are smaller than one in some way, the smallest first.
pub type Smaller<'a, C> = &'a dyn Fn(&C) -> Vec<C>;

/// Makes a case smaller: takes the first smaller one that fails too, of each kind in turn, as long as there is one.
pub fn shrink_by<C>(case: C, kinds: &[Smaller<'_, C>], fails: &dyn Fn(&C) -> bool) -> C
where
    C: Clone + PartialEq,
{
    let mut best = case;
    loop {
        let before = best.clone();
        for kind in kinds {
            while let Some(smaller) =
                kind(&best).into_iter().find(|smaller| *smaller != best && fails(smaller))
            {
                best = smaller;
            }
        }
        if best == before {
            return best;
        }
    }
}

impl Case {
    /// The case of a seed.
    pub fn draw(seed: u64) -> Case {
        let until = 60 + stream(seed, 500).below(260) as u64;
        Case { seed, features: Features::draw(seed), until, dropped: vec![false; NUMBER_OF_PIECES] }
    }

    /// What it starts from.
    pub fn plan(&self) -> Plan {
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
        for (vector, &count) in
            end.processor.cpu.deliveries.iter().enumerate().filter(|(_, count)| **count > 0)
        {
            *coverage.deliveries.entry(vector as u8).or_default() += count;
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
            return Mismatch { case: self.to_string(), text };
        };
        let shorter = |case: &Case| (1..case.until).map(|until| Case { until, ..case.clone() }).collect();
        let plainer = |case: &Case| {
            let with = Feature::ALL.iter().filter(|&&feature| case.features.has(feature));
            with.map(|&f| Case { features: case.features.without(f), ..case.clone() }).collect()
        };
        let smaller = |case: &Case| {
            let without = |piece| {
                let mut smaller: Case = case.clone();
                smaller.dropped[piece] = true;
                smaller
            };
            (0..NUMBER_OF_PIECES).filter(|&piece| !case.dropped[piece]).map(without).collect()
        };
        let fails = |case: &Case| case.fails(way, prepare).is_some();
        let best = shrink_by(self.clone(), &[&shorter, &plainer, &smaller], &fails);
        let text = best.fails(way, prepare).unwrap_or(what);
        let last = best.last_words(prepare);
        Mismatch {
            text: format!("{}\nthe last that an onlooker is told of it:\n{last}\n{text}", best.describe()),
            case: best.to_string(),
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
        text + &listing(&plan)
    }
}

/// The program in words.
pub fn listing(plan: &Plan) -> String {
    let mut text = String::new();
    let bitness = if matches!(plan.style, Style::Flat | Style::Isolated) { 32 } else { 16 };
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x} ")).collect()
}
