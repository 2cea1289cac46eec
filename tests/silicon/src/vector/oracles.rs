//! Runs vectors: in pagewalk on any host, and natively where the host can.

use anyhow::{Result, bail};

use crate::case::{Case, Outcome};
use crate::native::Native;
use crate::ours::{Ours, Run};
use crate::world::World;

use super::{Filling, Vector};

/// Processors by the world they were made for; those of the worlds used last are kept.
#[derive(Default)]
pub struct Oracles {
    ours: Vec<(World, Ours)>,
    native: Vec<(World, Native)>,
    /// Why cases do not run natively, once that is known.
    lacks: Option<String>,
}

const KEPT: usize = 8;

fn of_world<'a, T>(
    all: &'a mut Vec<(World, T)>,
    world: &World,
    make: impl FnOnce(&World) -> Result<T>,
) -> Result<&'a mut T> {
    if let Some(n) = all.iter().position(|(known, _)| known == world) {
        all[..=n].rotate_right(1);
    } else {
        all.truncate(KEPT - 1);
        all.insert(0, (world.clone(), make(world)?));
    }
    Ok(&mut all[0].1)
}

impl Oracles {
    /// Runs a case in pagewalk.
    pub fn ours(&mut self, world: &World, case: &Case) -> Result<Outcome> {
        match of_world(&mut self.ours, world, |world| Ok(Ours::new(world)))?.run(case) {
            Run::Ended(outcome) => Ok(outcome),
            Run::Dropped(reason) => bail!("pagewalk does not run it to its end: {}", reason.sentence()),
        }
    }

    /// Runs a case natively, if pagewalk says that it may be.
    pub fn native(&mut self, world: &World, case: &Case) -> Result<Outcome> {
        self.ours(world, case)?;
        let native = of_world(&mut self.native, world, Native::new)?;
        Ok(native.run(std::slice::from_ref(case))?.remove(0))
    }

    /// Why cases do not run natively on this host, if they do not.
    pub fn lacks_native(&mut self) -> Option<&str> {
        if self.lacks.is_none() && self.native.is_empty() {
            let world = World { seed: 0, ldt: vec![] };
            match of_world(&mut self.native, &world, Native::new) {
                Ok(_) => {}
                Err(error) => self.lacks = Some(format!("{error:#}")),
            }
        }
        self.lacks.as_deref()
    }

    /// What is not as the vector says, here and natively, with the vector's place; nothing where all is.
    pub fn check(&mut self, vector: &Vector) -> Result<Vec<String>> {
        let mut complaints = Vec::new();
        let text = vector.disassembly();
        if text != vector.text {
            complaints.push(format!("{}: these bytes are {text:?}, not {:?}", vector.place, vector.text));
        }
        let mut runs = vec!["in pagewalk"];
        if self.lacks_native().is_none() && super::host_has(vector) {
            runs.push("on this processor");
        }
        for how in runs {
            for filling in Filling::ALL {
                let (world, case) = (vector.world(), vector.case(filling));
                let outcome = match how {
                    "in pagewalk" => self.ours(&world, &case),
                    _ => self.native(&world, &case),
                };
                let wrong = match outcome {
                    Ok(outcome) => vector.complaints(&world, &case, &outcome),
                    Err(error) => vec![format!("{error:#}")],
                };
                if !wrong.is_empty() {
                    complaints.push(format!("{}: {how}, {}: {vector}", vector.place, wrong.join(", ")));
                    break;
                }
            }
        }
        Ok(complaints)
    }
}
