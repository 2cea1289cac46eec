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

use iced_x86::Code;

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
    /// Indices of the templates of each `Code`.
    of_code: Vec<Vec<u16>>,
    sequences: sequence::Kit,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let covered = covered();
    let templates: Vec<Template> = covered.iter().flat_map(|&code| Template::all(code)).collect();
    let weighed = templates.iter().enumerate();
    let picks = weighed.flat_map(|(n, t)| std::iter::repeat_n(n as u16, t.weight())).collect();
    let mut is_covered = vec![false; iced_x86::Code::values().len()];
    covered.iter().for_each(|&code| is_covered[code as usize] = true);
    let mut of_code = vec![Vec::new(); iced_x86::Code::values().len()];
    templates.iter().enumerate().for_each(|(n, t)| of_code[t.code as usize].push(n as u16));
    Tables { of_code, sequences: sequence::Kit::new(&templates), templates, picks, is_covered }
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

    /// One of these opcodes, which must be [`covered`].
    pub fn single_of(&mut self, codes: &[Code]) -> Case {
        let tables = &*TABLES;
        loop {
            let code = self.random.pick(codes);
            let template = &tables.templates[self.random.pick(&tables.of_code[code as usize]) as usize];
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

/// Makes cases of a few opcodes only.
#[derive(Clone, Debug)]
pub struct Few {
    generator: Generator,
    codes: Vec<Code>,
}

impl Few {
    /// The generator of a seed, for these opcodes.
    pub fn new(seed: u64, codes: &[Code]) -> Few {
        Few { generator: Generator::new(seed), codes: codes.to_vec() }
    }
}

impl Source for Few {
    fn world(&self) -> &World {
        self.generator.world()
    }

    fn single(&mut self) -> Case {
        self.generator.single_of(&self.codes)
    }

    /// No sequence, but one instruction as well.
    fn sequence(&mut self) -> Case {
        self.single()
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
