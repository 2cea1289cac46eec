//! Makes a difference small: as few instructions as possible, simple registers, flags, segments and memory, while the same
//! kind of difference stays. What is left is a line for tests/vectors.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::Result;
use iced_x86::Instruction;

use crate::case::{Case, End};
use crate::compare::{Difference, Undefined, compare, instructions};
use crate::explained::explain;
use crate::native::Native;
use crate::ours::{Ours, Run};
use crate::vector::{self, ABSENT, AT, INITIAL_FPU, Vector, names::FpuPart, uses_fpu};
use crate::world::{CODE, DATA, FLAT_CODE, FLAT_DATA, PAGE, PAGES, Rights, World};

/// A difference made small.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The world it happens in.
    pub world: World,
    /// The difference.
    pub difference: Difference,
    /// It as a vector with what the host's processor makes of it, or why it is none.
    pub vector: Result<Vector, String>,
}

/// What makes two differences of the same kind: both ends, and what else differs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Kind {
    ours: Option<u8>,
    native: Option<u8>,
    parts: u32,
    flags: u32,
}

impl Kind {
    fn of(difference: &Difference) -> Kind {
        let (ours, native) = (&difference.ours, &difference.native);
        let vector = |end: End| match end {
            End::Fault { vector, .. } => Some(vector),
            End::Fell => None,
            End::Endless => Some(u8::MAX),
        };
        let differs = [
            ours.end != native.end,
            ours.regs != native.regs,
            ours.eip != native.eip,
            ours.selectors != native.selectors,
            ours.written != native.written,
            ours.fpu != native.fpu,
        ];
        let flags = (ours.eflags ^ native.eflags) & !difference.masked;
        let parts = differs.iter().enumerate().fold(0, |parts, (n, differs)| parts | (*differs as u32) << n);
        Kind { ours: vector(ours.end), native: vector(native.end), parts, flags }
    }

    /// Whether `other` is a part of it.
    fn has(self, other: Kind) -> bool {
        let same_ends = (self.ours, self.native) == (other.ours, other.native);
        same_ends && other.parts & !self.parts == 0 && other.flags & !self.flags == 0
    }
}

/// Both processors, for one world.
struct Rig {
    ours: Ours,
    native: Native,
}

impl Rig {
    fn new(world: &World, undefined: Undefined) -> Result<Rig> {
        let mut ours = Ours::new(world);
        ours.processor().cpu.model.undefined_flags = undefined.flags();
        Ok(Rig { ours, native: Native::new(world)? })
    }

    fn difference(&mut self, world: &World, case: &Case, undefined: Undefined) -> Option<Difference> {
        let Run::Ended(ours) = self.ours.run(case) else { return None };
        let native = self.native.run(std::slice::from_ref(case)).ok()?.pop()?;
        let difference = compare(world, case, &ours, &native, undefined)?;
        explain(world, &difference).is_none().then_some(difference)
    }
}

/// The seed of another world, in which memory that the case does not say must not count.
const OTHER_SEED: u64 = 1;
/// No shrinking takes more cases.
const MOST: u32 = 20_000;

struct Shrinker {
    undefined: Undefined,
    kind: Kind,
    world: World,
    rig: Rig,
    other: Rig,
    best: Difference,
    tried: u32,
}

/// Shrinks a difference found in a world.
pub fn shrink(world: &World, difference: &Difference, undefined: Undefined) -> Result<Shrunk> {
    let mut memory: Vec<(u32, Vec<u8>)> = PAGES
        .into_iter()
        .filter(|&(page, rights)| rights != Rights::None && !(CODE..DATA).contains(&page))
        .map(|(page, _)| (page, world.pattern(page)))
        .collect();
    memory.extend(difference.case.memory.iter().cloned());
    let original = Case { memory, ..difference.case.clone() };
    let world = World { seed: 0, ..world.clone() };
    let mut shrinker = Shrinker {
        undefined,
        kind: Kind::of(difference),
        rig: Rig::new(&world, undefined)?,
        other: Rig::new(&World { seed: OTHER_SEED, ..world.clone() }, undefined)?,
        world,
        best: difference.clone(),
        tried: 0,
    };
    if shrinker.accept(original) {
        loop {
            let before = shrinker.best.case.clone();
            shrinker.code();
            shrinker.memory();
            shrinker.place();
            shrinker.flags();
            shrinker.registers();
            shrinker.fpu();
            shrinker.table()?;
            if shrinker.best.case == before || shrinker.tried > MOST {
                break;
            }
        }
    }
    let vector = shrinker.vector();
    Ok(Shrunk { world: shrinker.world, difference: shrinker.best, vector })
}

/// Tries to do without each part of a range, the larger ones first.
fn without_parts(range: Range<usize>, try_without: &mut dyn FnMut(Range<usize>) -> bool) {
    if range.is_empty() || try_without(range.clone()) || range.len() == 1 {
        return;
    }
    let middle = range.start.midpoint(range.end);
    without_parts(middle..range.end, try_without);
    without_parts(range.start..middle, try_without);
}

/// Each byte of memory that a case says, the last word on it only.
fn bytes_of(memory: &[(u32, Vec<u8>)]) -> BTreeMap<u32, u8> {
    let run = |(at, bytes): &(u32, Vec<u8>)| {
        let at = *at;
        bytes.clone().into_iter().enumerate().map(move |(n, byte)| (at.wrapping_add(n as u32), byte))
    };
    memory.iter().flat_map(run).collect()
}

fn without(code: &[u8], at: usize) -> Vec<u8> {
    [&code[..at], &code[at + 1..]].concat()
}

fn runs_of(bytes: &BTreeMap<u32, u8>) -> Vec<(u32, Vec<u8>)> {
    let mut runs: Vec<(u32, Vec<u8>)> = Vec::new();
    for (&at, &byte) in bytes {
        match runs.last_mut() {
            Some((start, run)) if start.wrapping_add(run.len() as u32) == at => run.push(byte),
            _ => runs.push((at, vec![byte])),
        }
    }
    runs
}

impl Shrinker {
    /// Takes a case as the best so far, if it still makes the same kind of difference, the same natively in both worlds.
    fn accept(&mut self, case: Case) -> bool {
        self.tried += 1;
        let room = (CODE + 2 * PAGE).checked_sub(case.at);
        if case.code.is_empty() || case.at < CODE || room.is_none_or(|room| room == 0) || self.tried > MOST {
            return false;
        }
        let kind = self.kind;
        let other = World { seed: OTHER_SEED, ..self.world.clone() };
        let same_kind = |found: &Difference| kind.has(Kind::of(found));
        let found = self.rig.difference(&self.world, &case, self.undefined).filter(same_kind);
        let Some(found) = found else { return false };
        let elsewhere = self.other.difference(&other, &case, self.undefined).filter(same_kind);
        if elsewhere.is_none_or(|elsewhere| elsewhere.native != found.native) {
            return false;
        }
        self.best = found;
        true
    }

    /// Accepts the best case with a change.
    fn with(&mut self, change: impl FnOnce(&mut Case)) -> bool {
        let mut case = self.best.case.clone();
        change(&mut case);
        case != self.best.case && self.accept(case)
    }

    fn instructions(&self) -> Vec<Instruction> {
        instructions(&self.best.case, self.best.big, self.best.eip)
    }

    /// Fewer instructions, without prefixes.
    fn code(&mut self) {
        // begin later, with the state that the instructions before leave
        for n in (1..self.instructions().len()).rev() {
            if self.begin_at(n) {
                break;
            }
        }
        // end earlier, and without instructions in between
        let all = self.instructions();
        let ends: Vec<usize> =
            all.iter().map(|i| (i.next_ip32().wrapping_sub(self.best.eip)) as usize).collect();
        let mut kept: Vec<bool> = vec![true; all.len()];
        let code = self.best.case.code.clone();
        let rest = ends.last().copied().unwrap_or(0);
        without_parts(0..all.len(), &mut |range| {
            let mut fewer = kept.clone();
            fewer[range].fill(false);
            let mut bytes = Vec::new();
            for n in (0..all.len()).filter(|&n| fewer[n]) {
                bytes.extend(&code[ends[n] - all[n].len()..ends[n]]);
            }
            bytes.extend(&code[rest..]);
            let accepted = self.with(|case| case.code = bytes);
            if accepted {
                kept = fewer;
            }
            accepted
        });
        // bytes behind, and prefixes
        while self.with(|case| case.code.truncate(case.code.len() - 1)) {}
        let is_prefix =
            |byte: u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
        let mut at = 0;
        while at < self.best.case.code.len() {
            if !is_prefix(self.best.case.code[at]) || !self.with(|case| case.code = without(&case.code, at)) {
                at += 1;
            }
        }
    }

    /// Begins with the n-th instruction, in the state in which pagewalk comes to it.
    fn begin_at(&mut self, n: usize) -> bool {
        let case = &self.best.case;
        let Some(first) = self.instructions().get(n).map(|instruction| instruction.ip32()) else {
            return false;
        };
        let length = first.wrapping_sub(self.best.eip) as usize;
        let before = Case { code: case.code[..length].to_vec(), ..case.clone() };
        let Run::Ended(outcome) = self.rig.ours.run(&before) else { return false };
        if outcome.end != End::Fell || outcome.selectors[1] != case.selectors[1] {
            return false;
        }
        let mut bytes = bytes_of(&case.memory);
        bytes.extend(bytes_of(&outcome.written));
        // the code it ran over is not memory that it may change
        bytes.retain(|at, _| !(CODE..DATA).contains(at));
        let rest = Case {
            at: case.at.wrapping_add(length as u32),
            code: case.code[length..].to_vec(),
            regs: outcome.regs,
            eflags: outcome.eflags & !0x1_0202,
            selectors: outcome.selectors,
            memory: runs_of(&bytes),
            fpu: outcome.fpu,
        };
        self.accept(rest)
    }

    /// Only the memory that matters.
    fn memory(&mut self) {
        let all: Vec<(u32, u8)> = bytes_of(&self.best.case.memory).into_iter().collect();
        let mut kept: BTreeMap<u32, u8> = all.iter().copied().collect();
        without_parts(0..all.len(), &mut |range| {
            let (first, last) = (all[range.start].0, all[range.end - 1].0);
            let mut fewer = kept.clone();
            fewer.retain(|at, _| !(first..=last).contains(at));
            let accepted = self.with(|case| case.memory = runs_of(&fewer));
            if accepted {
                kept = fewer;
            }
            accepted
        });
        for at in kept.keys().copied().collect::<Vec<_>>() {
            for simple in [0, 1] {
                let mut simpler = kept.clone();
                simpler.insert(at, simple);
                if kept[&at] == simple || self.with(|case| case.memory = runs_of(&simpler)) {
                    kept.insert(at, simple);
                    break;
                }
            }
        }
    }

    /// The usual place for the code, and flat segments.
    fn place(&mut self) {
        self.with(|case| case.at = AT);
        for n in 0..6 {
            let selector = self.best.case.selectors[n];
            let flat = if n == 1 { FLAT_CODE } else { FLAT_DATA };
            if selector == flat || self.with(|case| case.selectors[n] = flat) {
                continue;
            }
            let base = self.world.descriptor(selector).map_or(0, |descriptor| descriptor.base);
            for register in 0..8 {
                let moved = self.with(|case| {
                    case.selectors[n] = flat;
                    case.regs[register] = case.regs[register].wrapping_add(base);
                });
                if moved {
                    break;
                }
            }
        }
    }

    fn flags(&mut self) {
        for flag in
            (0..32).map(|n| 1 << n).filter(|flag| self.best.case.eflags & flag != 0).collect::<Vec<u32>>()
        {
            self.with(|case| case.eflags &= !flag);
        }
    }

    fn registers(&mut self) {
        for n in 0..8 {
            let value = self.best.case.regs[n];
            for simple in
                [0, 1, u32::MAX, 0x8000_0000, value & 0xff, value & 0xffff, value & !0xff, value & !0xffff]
            {
                if self.best.case.regs[n] == simple || self.with(|case| case.regs[n] = simple) {
                    break;
                }
            }
            for bit in 0..32 {
                if self.best.case.regs[n] >> bit & 1 != 0 && self.best.case.regs[n].count_ones() > 1 {
                    self.with(|case| case.regs[n] &= !(1 << bit));
                }
            }
        }
    }

    fn fpu(&mut self) {
        if self.best.case.fpu.is_none() {
            return;
        }
        if !uses_fpu(&self.world, &self.best.case) && self.with(|case| case.fpu = None) {
            return;
        }
        for part in FpuPart::all() {
            self.with(|case| {
                if let Some(image) = &mut case.fpu {
                    part.put(image, part.get(&INITIAL_FPU));
                }
            });
        }
    }

    /// Only the entries of the LDT that matter.
    fn table(&mut self) -> Result<()> {
        let used = |case: &Case, n: usize| {
            case.selectors.iter().any(|&other| other & 4 != 0 && (other >> 3) as usize == n)
        };
        let entries: Vec<usize> = (0..self.world.ldt.len())
            .filter(|&n| self.world.ldt[n] != ABSENT && !used(&self.best.case, n))
            .collect();
        let mut failed = Ok(());
        without_parts(0..entries.len(), &mut |range| {
            let mut world = self.world.clone();
            entries[range].iter().for_each(|&n| world.ldt[n] = ABSENT);
            let last = world.ldt.iter().rposition(|entry| *entry != ABSENT);
            world.ldt.truncate(last.map_or(0, |last| last + 1));
            self.in_world(world).unwrap_or_else(|error| {
                failed = Err(error);
                false
            })
        });
        failed
    }

    /// Goes over to another world, if the best case makes the same difference there.
    fn in_world(&mut self, world: World) -> Result<bool> {
        let rig = std::mem::replace(&mut self.rig, Rig::new(&world, self.undefined)?);
        let other = std::mem::replace(
            &mut self.other,
            Rig::new(&World { seed: OTHER_SEED, ..world.clone() }, self.undefined)?,
        );
        let before = std::mem::replace(&mut self.world, world);
        let accepted = self.accept(self.best.case.clone());
        if !accepted {
            (self.rig, self.other, self.world) = (rig, other, before);
        }
        Ok(accepted)
    }

    /// The best case as a vector that pagewalk fails.
    fn vector(&mut self) -> Result<Vector, String> {
        let mut failed = String::new();
        for everything in [false, true] {
            let place = "shrunk".to_string();
            let vector = vector::of_case(place, &self.world, &self.best.case, everything);
            let mut rigs = [&mut self.rig, &mut self.other].into_iter();
            let measured = vector::measure(&vector, |_, case| match rigs.next() {
                Some(rig) => {
                    rig.native.run(std::slice::from_ref(case)).map(|mut outcomes| outcomes.remove(0))
                }
                None => anyhow::bail!("there are two fillings"),
            });
            match measured {
                Ok(measured) => {
                    let complains =
                        !measured.complaints(&self.world, &self.best.case, &self.best.ours).is_empty();
                    if complains {
                        return Ok(measured);
                    }
                    failed = "a vector lists nothing of what differs".to_string();
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}
