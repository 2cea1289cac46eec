//! Whether an outcome is what a vector says.

use crate::case::{Case, End, Outcome, SEGMENTS};
use crate::world::{PAGE, PAGES, World};

use super::names::{self, BYTES, DWORDS, FLAGS, FpuPart, WORDS, selector_value, value};
use super::{Bits, Filling, Vector};

/// EFLAGS.RF, which is set in what a fault saves, and IF and the fixed bit, which are always set.
pub(super) const NOT_THE_PROGRAMS: u32 = 0x1_0202;

/// What memory holds before a case and behind it.
pub(super) struct Memory<'a> {
    world: &'a World,
    case: &'a Case,
    patterns: Vec<(u32, Vec<u8>)>,
}

impl<'a> Memory<'a> {
    pub(super) fn new(world: &'a World, case: &'a Case) -> Memory<'a> {
        Memory { world, case, patterns: Vec::new() }
    }

    /// A byte before the case. The code is not asked for.
    pub(super) fn before(&mut self, at: u32) -> u8 {
        if let Some(byte) = last_of(&self.case.memory, at) {
            return byte;
        }
        let page = at & !(PAGE - 1);
        if !self.patterns.iter().any(|(known, _)| *known == page) {
            let exists = PAGES.iter().any(|(known, _)| *known == page);
            self.patterns
                .push((page, if exists { self.world.pattern(page) } else { vec![0; PAGE as usize] }));
        }
        let pattern = self.patterns.iter().find(|(known, _)| *known == page);
        pattern.map_or(0, |(_, bytes)| bytes[(at & (PAGE - 1)) as usize])
    }

    /// A byte behind it.
    pub(super) fn behind(&mut self, outcome: &Outcome, at: u32) -> u8 {
        last_of(&outcome.written, at).unwrap_or_else(|| self.before(at))
    }
}

fn last_of(runs: &[(u32, Vec<u8>)], at: u32) -> Option<u8> {
    runs.iter().rev().find_map(|(start, bytes)| bytes.get(at.wrapping_sub(*start) as usize).copied())
}

/// Addresses of all bytes of some runs.
pub(super) fn addresses(runs: &[(u32, Vec<u8>)]) -> impl Iterator<Item = u32> {
    runs.iter().flat_map(|(start, bytes)| (0..bytes.len() as u32).map(move |n| start.wrapping_add(n)))
}

impl Vector {
    /// EIP of the first byte.
    pub fn start(&self) -> u32 {
        self.world().eip(&self.case(Filling::Zeros))
    }

    /// What is not as the vector says in what came of one of its cases; nothing where all is.
    pub fn complaints(&self, world: &World, case: &Case, outcome: &Outcome) -> Vec<String> {
        let Some(expected) = &self.expected else {
            return vec!["it does not say what comes of it: there is no '=>'".to_string()];
        };
        let mut complaints = Vec::new();
        let mut complain = |name: &str, actual: String, wanted: String| {
            complaints.push(format!("{name} is {actual}, not {wanted}"));
        };
        let (end, cr2) = without_cr2(outcome.end);
        if end != expected.end {
            let word = |end| match names::end(end) {
                word if word.is_empty() => "falling through".to_string(),
                word => word,
            };
            complain("the end", word(end), word(expected.end));
        }
        if let Some(wanted) = expected.cr2.filter(|wanted| *wanted != cr2) {
            complain("cr2", value(cr2), value(wanted));
        }
        let (start, state) = (world.eip(case), &expected.state);
        if let Some(wanted) = expected.eip.or(expected.unchanged.then_some(start))
            && wanted != outcome.eip
        {
            complain("eip", value(outcome.eip), value(wanted));
        }
        for n in 0..8 {
            for (mask, name) in parts(n) {
                let mut wanted = state.regs[n];
                if expected.unchanged {
                    wanted = Bits::all(wanted.over(case.regs[n]));
                }
                let wanted = Bits { mask: wanted.mask & mask, value: wanted.value & mask };
                if !wanted.holds(outcome.regs[n]) {
                    let shift = mask.trailing_zeros();
                    let shown = |number: u32| value((number & mask) >> shift);
                    complain(name, shown(outcome.regs[n]), shown(wanted.value));
                    break;
                }
            }
        }
        let mut flags = state.flags;
        if expected.unchanged {
            let rest = Bits { mask: !NOT_THE_PROGRAMS, value: case.eflags & !NOT_THE_PROGRAMS };
            flags = Bits { mask: flags.mask | rest.mask, value: flags.over(rest.value) };
        }
        for (name, flag) in FLAGS {
            let wanted = Bits { mask: flags.mask & flag, value: flags.value & flag };
            if !wanted.holds(outcome.eflags) {
                let shown = |flags: u32| ((flags & flag != 0) as u32).to_string();
                complain(name, shown(outcome.eflags), shown(flags.value));
            }
        }
        for (n, name) in SEGMENTS.into_iter().enumerate() {
            let wanted = state.selectors[n].or(expected.unchanged.then_some(case.selectors[n]));
            if let Some(wanted) = wanted.filter(|wanted| *wanted != outcome.selectors[n]) {
                complain(name, selector_value(outcome.selectors[n]), selector_value(wanted));
            }
        }
        let mut memory = Memory::new(world, case);
        for (at, bytes) in &state.memory {
            for (n, &wanted) in bytes.iter().enumerate() {
                let at = at.wrapping_add(n as u32);
                let actual = memory.behind(outcome, at);
                if actual != wanted {
                    complain(
                        &format!("mem[{}]", value(at)),
                        format!("{actual:#04x}"),
                        format!("{wanted:#04x}"),
                    );
                }
            }
        }
        if expected.unchanged {
            for at in addresses(&outcome.written).filter(|&at| last_of(&state.memory, at).is_none()) {
                let (now, then) = (memory.behind(outcome, at), memory.before(at));
                complain(&format!("mem[{}]", value(at)), format!("{now:#04x}"), format!("{then:#04x}"));
            }
        }
        if let (Some(before), Some(image)) = (&case.fpu, &outcome.fpu) {
            for part in FpuPart::all() {
                let listed = state.fpu.iter().find(|(listed, _)| *listed == part).map(|(_, value)| *value);
                let wanted = listed.or(expected.unchanged.then(|| part.get(before)));
                if let Some(wanted) = wanted.filter(|wanted| *wanted != part.get(image)) {
                    complain(&part.to_string(), format!("{:#x}", part.get(image)), format!("{wanted:#x}"));
                }
            }
        }
        complaints
    }
}

/// An end without its CR2, and CR2.
pub(super) fn without_cr2(end: End) -> (End, u32) {
    match end {
        End::Fault { vector, code, cr2 } => (End::Fault { vector, code, cr2: 0 }, cr2),
        other => (other, 0),
    }
}

/// A register's parts, from the whole to the smallest.
fn parts(n: usize) -> Vec<(u32, &'static str)> {
    let mut parts = vec![];
    if n < 4 {
        parts.extend([(0xff, BYTES[n]), (0xff00, BYTES[n + 4])]);
    } else {
        parts.push((0xffff, WORDS[n]));
    }
    parts.push((u32::MAX, DWORDS[n]));
    parts
}
