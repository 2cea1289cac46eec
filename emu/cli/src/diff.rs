//! `pagewalk diff`: the image here and in QEMU, in lockstep.

use std::io::IsTerminal;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use pagewalk_lens::lockstep::{self, By, End};

use crate::beside;
use crate::options::{Diff, DiffBy};
use crate::say::say;
use crate::setup::Setup;
use crate::status::{DIFFERENCE, DONE, Status, UNIMPLEMENTED};

/// Runs the command.
pub fn run(options: &Diff) -> Result<Status> {
    let setup = Setup::new(Some(&options.image), &options.machine)?;
    let machine = &options.machine;
    let spec = beside::spec(&options.image, machine)?;
    let wanted = lockstep::Options {
        by: if options.by == DiffBy::Block { By::Block } else { By::Instruction },
        instructions: options.instructions,
        checkpoint: options.checkpoint,
        tlb: machine.tlb,
        ..lockstep::Options::default()
    };
    let bar = bar(options.instructions);
    let outcome = lockstep::run(&spec, &setup.plan, &wanted, |_| {}, |count| bar.set_position(count));
    bar.finish_and_clear();
    let outcome = outcome?;
    for (name, count) in &outcome.fed {
        say!("taken from QEMU: {name}, {count} times");
    }
    for (name, count) in &outcome.known {
        let known = lockstep::known::find(name);
        let section = known.map(|known| format!(" (SDM {})", known.section)).unwrap_or_default();
        say!("known deviation of QEMU: {name}, {count} times{section}");
    }
    if outcome.skipped != 0 {
        say!("after known deviations, {} blocks of QEMU's went by without comparison", outcome.skipped);
    }
    let counts = format!(
        "{} instructions, {} comparisons of registers, {} of memory",
        outcome.instructions, outcome.compared, outcome.checkpoints
    );
    match outcome.end {
        Ok(end) => {
            say!("no difference in {counts}: {}", ending(&end));
            Ok(if matches!(end, End::Unimplemented(_)) { UNIMPLEMENTED } else { DONE })
        }
        Err(difference) => {
            say!("a difference after {counts}");
            print!("{}", difference.text(&|at| setup.symbol_at(at)));
            Ok(DIFFERENCE)
        }
    }
}

fn ending(end: &End) -> String {
    match end {
        End::Enough => "that is the wanted number".into(),
        End::Exit(value) => format!("the guest ended both with {value}"),
        End::SwitchedOff => "the guest switched off or reset the machine".into(),
        End::Halted => "both are halted for good".into(),
        End::TripleFault => "a triple fault ended both".into(),
        End::Unimplemented(stop) => format!("pagewalk has no such instruction: {stop:?}"),
        End::Known(name) => format!("QEMU cannot follow any more, by {name}"),
    }
}

fn bar(instructions: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = match instructions {
        Some(_) => "{bar:30} {human_pos} of {human_len} instructions, {per_sec}, {eta} left",
        None => "{spinner} {human_pos} instructions, {per_sec}",
    };
    let bar = instructions.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
