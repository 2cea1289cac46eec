//! Explanations after the fact. Runs are deterministic, so the machine is run again from the start with somebody
//! looking: once to see what happened, and once more to see who wrote the paging-structure entries involved.

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use pagewalk_lens::Lens;
use pagewalk_lens::explain;
use pagewalk_lens::history::{Frame, History, Keep, Writers};
use pagewalk_pc::machine::Machine;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::observe::Observer;

use crate::say::say;
use crate::setup::Setup;

const SLICE: u64 = 1 << 20;

/// Runs the machine again as far as `original` got, with `lens` looking.
fn again<O: Observer>(
    setup: &Setup,
    original: &Machine<O>,
    lens: Lens,
    what: &str,
) -> Result<(Machine<Lens>, Stop)> {
    let mut machine = setup.machine(lens)?;
    machine.replay(original.inputs());
    let end = original.processor.cpu.retired;
    let bar = ProgressBar::new(end).with_message(what.to_string());
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {percent}% {eta}") {
        bar.set_style(style);
    }
    let stop = loop {
        let retired = machine.processor.cpu.retired;
        // one more than was retired: the instruction that stopped the run is not among them
        let stop = machine.run(retired.saturating_add(SLICE).min(end + 1));
        machine.take_serial();
        bar.set_position(machine.processor.cpu.retired);
        match stop {
            Stop::Limit if machine.processor.cpu.retired <= end => {}
            Stop::Idle => {}
            stop => break stop,
        }
    };
    bar.finish_and_clear();
    Ok((machine, stop))
}

/// Who wrote the entries that the frames' walks used.
fn writers<O: Observer>(setup: &Setup, original: &Machine<O>, history: &History) -> Result<Option<Writers>> {
    let sources = history.sources();
    if sources.is_empty() {
        return Ok(None);
    }
    let lens = Lens { writers: Some(Writers::new(sources)), ..Lens::default() };
    let (machine, _) = again(setup, original, lens, "looking for who wrote the entries")?;
    Ok(machine.processor.cpu.observer.writers)
}

/// Explains the triple fault that ended `original`.
pub fn shutdown<O: Observer>(setup: &Setup, original: &Machine<O>) -> Result<()> {
    let lens = Lens { history: Some(History::new(Keep::LastThree)), ..Lens::default() };
    let (machine, stop) = again(setup, original, lens, "running again to see what happened")?;
    let (Stop::Shutdown(chain), Some(history)) = (stop, &machine.processor.cpu.observer.history) else {
        say!("the run could not be repeated, so there is no explanation");
        return Ok(());
    };
    let writers = writers(setup, original, history)?;
    // the frames of this chain: from the first fault on
    let frames: Vec<&Frame> = history.frames().collect();
    let name = |address: u32| setup.symbol_at(address);
    eprint!("{}", explain::shutdown(&machine.processor.cpu, &chain, &frames, writers.as_ref(), &name));
    Ok(())
}

/// Explains the first `count` exceptions of the vectors.
pub fn exceptions<O: Observer>(
    setup: &Setup,
    original: &Machine<O>,
    vectors: &[u8],
    count: usize,
) -> Result<()> {
    let keep = Keep::First { vectors: vectors.to_vec(), count };
    let lens = Lens { history: Some(History::new(keep)), ..Lens::default() };
    let (machine, _) = again(setup, original, lens, "running again to see the exceptions")?;
    let Some(history) = &machine.processor.cpu.observer.history else { return Ok(()) };
    let writers = writers(setup, original, history)?;
    let name = |address: u32| setup.symbol_at(address);
    let mut any = false;
    for (n, frame) in history.frames().enumerate() {
        eprint!("{}. {}", n + 1, explain::frame(frame, writers.as_ref(), &name));
        any = true;
    }
    if !any {
        say!("no such exception was delivered");
    }
    Ok(())
}
