//! `pagewalk both`: the image here and in QEMU, each to its end.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use pagewalk_lens::both::{self, Verdict, Watch};

use crate::beside;
use crate::drive;
use crate::options::Both;
use crate::say::say;
use crate::setup::Setup;
use crate::status::{DONE, INTERRUPTED, LIMIT, OTHER_END, OTHER_MEMORY, OTHER_TEXT, Status, UNIMPLEMENTED};

/// Runs the command.
pub fn run(options: &Both) -> Result<Status> {
    let machine = &options.machine;
    if machine.write_through {
        bail!("--write-through would let two machines write to one disk file: leave it out");
    }
    let limit = Duration::try_from_secs_f64(options.timeout)
        .with_context(|| format!("--timeout {} is no time to wait", options.timeout))?;
    let setup = Setup::new(Some(&options.image), machine)?;
    for note in &setup.plan.notes {
        say!("{note}");
    }
    let spec = beside::spec(&options.image, machine)?;
    let ours = |model| setup.machine_of(model, Watch::default());
    let outcome = both::run(&spec, &setup.plan, ours, limit, &drive::interrupted);
    if drive::interrupted() {
        say!("interrupted");
        return Ok(INTERRUPTED);
    }
    let outcome = outcome?;
    let verdict = outcome.verdict();
    print!("{}", outcome.text(&|at| setup.symbol_at(at)));
    say!("{} after {} instructions here", verdict.text(), outcome.instructions);
    Ok(match verdict {
        Verdict::Same => DONE,
        Verdict::Text => OTHER_TEXT,
        Verdict::End => OTHER_END,
        Verdict::Memory => OTHER_MEMORY,
        Verdict::Unfinished => LIMIT,
        Verdict::Unimplemented => UNIMPLEMENTED,
    })
}
