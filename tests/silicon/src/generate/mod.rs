//! Cases from a seed: every user-mode opcode that is implemented, in every form, with every prefix, in states that make
//! something of it.
//!
//! A case begins with a [`template::Template`] (an opcode in code of one size with an r/m operand of one kind, read from
//! iced-x86's tables). A [`draft::Draft`] chooses prefixes, segments and registers; decides where the memory operand
//! shall be, and solves base, index and displacement for it; assembles the bytes itself, so that redundant encodings
//! come up as well; and has them decoded, so that what is meant is what is there.

mod codes;
mod draft;
mod emit;
mod fpu;
mod operand;
mod prefixes;
mod prepare;
mod segments;
mod sequence;
mod string;
mod template;
#[cfg(test)]
mod tests;
mod transfer;
mod values;

pub use codes::{covered, left_out};

use std::sync::LazyLock;

use crate::case::Case;
use crate::random::Random;
use crate::search::Source;
use crate::world::World;
use draft::Draft;
use segments::Segments;
use template::Template;

/// What all generators share.
#[derive(Debug)]
struct Tables {
    templates: Vec<Template>,
    /// Templates by weight.
    picks: Vec<u16>,
    /// By `Code`.
    is_covered: Vec<bool>,
    sequences: sequence::Kit,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let covered = covered();
    let templates: Vec<Template> = covered.iter().flat_map(|&code| Template::all(code)).collect();
    let weighed = templates.iter().enumerate();
    let picks = weighed.flat_map(|(n, t)| std::iter::repeat_n(n as u16, t.weight())).collect();
    let mut is_covered = vec![false; iced_x86::Code::values().len()];
    covered.iter().for_each(|&code| is_covered[code as usize] = true);
    Tables { sequences: sequence::Kit::new(&templates), templates, picks, is_covered }
});

/// Makes cases from a seed: the same seed, the same cases.
#[derive(Clone, Debug)]
pub struct Generator {
    random: Random,
    world: World,
    segments: Segments,
}

impl Generator {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Generator {
        let world = segments::world(seed);
        Generator { random: Random::new(seed), segments: Segments::new(&world), world }
    }

    /// Where its cases run.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// One instruction (with what a control transfer needs around it).
    pub fn single(&mut self) -> Case {
        let tables = &*TABLES;
        loop {
            let template = &tables.templates[self.random.pick(&tables.picks) as usize];
            let draft = Draft::new(&mut self.random, &self.segments);
            if let Some(case) = draft.single(template, &tables.is_covered) {
                return case;
            }
        }
    }

    /// 2 to 50 instructions.
    pub fn sequence(&mut self) -> Case {
        sequence::make(&mut self.random, &self.segments, &TABLES.templates, &TABLES.sequences)
    }
}

impl Source for Generator {
    fn world(&self) -> &World {
        self.world()
    }

    fn single(&mut self) -> Case {
        self.single()
    }

    fn sequence(&mut self) -> Case {
        self.sequence()
    }
}
