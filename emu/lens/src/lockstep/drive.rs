//! The loop: QEMU's events in, our side after them, checkpoints in between.

use std::time::{Duration, Instant};

use pagewalk_loader::Plan;
use pagewalk_x86::Processor;
use pagewalk_x86::bus::Bus;
use pagewalk_x86::fault::Stop;
use pagewalk_x86::flags;
use pagewalk_x86::model::Model;
use serde_json::json;

use super::bus::FedBus;
use super::memory;
use super::pair::{Pair, Parted};
use super::report::{Difference, Kind};
use super::watch::Watch;
use super::{By, End, Focus, Options, Ours, Outcome, state};
use crate::qemu::dump::Dump;
use crate::qemu::process::Log;
use crate::qemu::stream::{Event, MARKER, Stream};
use crate::qemu::{Error, Qemu, Spec, layout, probe, repeats};
use crate::tables::Tables;

/// How often the caller hears of progress, and QEMU's answers are looked for.
const LOOK_UP: u64 = 1 << 12;
/// How long QEMU's log may be silent before QEMU is asked what it is at.
const SILENCE: Duration = Duration::from_millis(200);
/// How long an event that must be on its way is waited for at a time.
const SHORTLY: Duration = Duration::from_millis(1);
/// How long QEMU may be silent without being halted.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the two stand still, or on the way to it.
#[derive(PartialEq, Eq)]
enum Pause {
    /// Both run.
    None,
    /// QEMU was told to stop.
    Stopping,
    /// QEMU has stopped and was asked for its registers; the rest of its log is being followed.
    Marking,
}

/// How a run ended.
type Ended = Result<End, Box<Difference>>;

struct Drive<'a> {
    qemu: Qemu,
    stream: Stream,
    pair: Pair,
    tables: Tables,
    options: &'a Options,
    focus: Option<Focus>,
    pause: Pause,
    next_checkpoint: u64,
    checkpoints: u64,
    /// An interrupt came since the last block, in real mode.
    interrupt: Option<u8>,
    /// A delivery came since the last block.
    delivered: bool,
    /// QEMU has just been resumed from, or stopped before, the state that ours has.
    resumed: bool,
    /// Since when nothing has come.
    silent_since: Option<Instant>,
    triple_fault: bool,
    /// Blocks of QEMU's that went by without comparison.
    skipped: u64,
}

pub fn run(
    spec: &Spec,
    plan: &Plan,
    options: &Options,
    focus: Option<Focus>,
    prepare: &mut dyn FnMut(&mut Ours),
    progress: &mut dyn FnMut(u64),
) -> Result<Outcome, Error> {
    let unlogged = repeats::find(&spec.image);
    let (mut qemu, log) = Qemu::boot_logged(spec, plan, Log::Piped(repeats::filter(&unlogged)))?;
    let Some(log) = log else { unreachable!("a log was asked for") };
    let model = probe::model(&mut qemu, spec.model)?;
    let cpuid = probe::cpuid(&mut qemu)?;
    let first = registers(&mut qemu)?;
    let mut ours = take_over(&mut qemu, model, options, &first)?;
    prepare(&mut ours);
    // up to where it gets interesting, by block
    let by = if focus.is_some_and(|focus| focus.from > 0) { By::Block } else { options.by };
    start_log(&mut qemu, by)?;
    let pair = Pair::new(ours, first, by, cpuid, unlogged);
    let mut drive = Drive {
        qemu,
        stream: Stream::new(log),
        pair,
        tables: Tables::default(),
        options,
        focus,
        pause: Pause::None,
        next_checkpoint: 0,
        checkpoints: 0,
        interrupt: None,
        delivered: false,
        resumed: true,
        silent_since: None,
        triple_fault: false,
        skipped: 0,
    };
    drive.set_next_checkpoint();
    drive.qemu.resume()?;
    let mut end = drive.follow(progress)?;
    if let Err(difference) = &mut end {
        drive.stand_still()?;
        difference.walk(Some(&drive.qemu))?;
    }
    let pair = drive.pair;
    let mut fed = pair.fed;
    fed.insert("reads of ports and registers", pair.ours.cpu.bus.fed);
    fed.retain(|_, count| *count != 0);
    Ok(Outcome {
        instructions: pair.ours.cpu.retired,
        compared: pair.compared,
        checkpoints: drive.checkpoints,
        skipped: drive.skipped,
        known: pair.known,
        fed,
        end,
    })
}

fn registers(qemu: &mut Qemu) -> Result<Dump, Error> {
    let text = qemu.qmp.human(MARKER)?;
    parse_registers(&text)
}

fn parse_registers(text: &str) -> Result<Dump, Error> {
    Dump::parse(text).ok_or_else(|| Error::Answer { command: MARKER.into(), answer: text.to_string() })
}

/// Our processor with QEMU's memory and registers.
fn take_over(qemu: &mut Qemu, model: Model, options: &Options, first: &Dump) -> Result<Ours, Error> {
    let ranges = layout::parse(&qemu.qmp.human("info mtree -f")?)?;
    let memory = qemu.memory();
    let mut bus = FedBus::new(memory, &ranges, |range| qemu.read_physical(range.start, range.len))?;
    let mut bytes = vec![0; 1 << 20];
    let mut at = 0;
    while at < memory {
        let piece = &mut bytes[..(memory - at).min(1 << 20) as usize];
        qemu.read_ram(at, piece)?;
        if piece.iter().any(|&byte| byte != 0) {
            bus.ram_mut().write(at as usize, piece);
        }
        at += piece.len() as u64;
    }
    let mut ours = Processor::new(model, options.tlb, bus, Watch::default());
    state::set(&mut ours.cpu, first);
    Ok(ours)
}

/// A command of the human monitor that answers nothing when it is obeyed.
fn order(qemu: &mut Qemu, command: &str) -> Result<(), Error> {
    match qemu.qmp.human(command)? {
        said if said.trim().is_empty() => Ok(()),
        said => Err(Error::Refused { command: command.to_string(), why: said.trim().to_string() }),
    }
}

/// Makes QEMU translate each instruction as a block of its own.
fn by_instruction(qemu: &mut Qemu) -> Result<(), Error> {
    // the newer name first
    order(qemu, "one-insn-per-tb on").or_else(|_| order(qemu, "singlestep on"))
}

/// Switches QEMU's log on.
fn start_log(qemu: &mut Qemu, by: By) -> Result<(), Error> {
    order(qemu, "trace-event memory_region_ops_read on")?;
    order(qemu, "trace-event handle_qmp_command on")?;
    if by == By::Instruction {
        by_instruction(qemu)?;
        return order(qemu, "log cpu,int,cpu_reset,nochain");
    }
    order(qemu, "log exec,cpu,int,cpu_reset,nochain")
}

impl Drive<'_> {
    fn set_next_checkpoint(&mut self) {
        let retired = self.pair.ours.cpu.retired;
        let next = match self.focus {
            Some(focus) if retired < focus.from => focus.from,
            Some(focus) => retired.saturating_add(focus.checkpoint),
            None => retired.saturating_add(self.options.checkpoint.max(1)),
        };
        self.next_checkpoint = self.options.instructions.map_or(next, |end| next.min(end));
    }

    /// Until the end.
    fn follow(&mut self, progress: &mut dyn FnMut(u64)) -> Result<Ended, Error> {
        let mut look_up = LOOK_UP;
        loop {
            let event = self.stream.next(SILENCE);
            if event != Event::Silence {
                self.silent_since = None;
            }
            let followed = match event {
                Event::Input(input) => {
                    self.pair.ours.cpu.bus.inputs.push_back(input);
                    Ok(())
                }
                Event::Delivery(delivery) => {
                    self.delivered = true;
                    self.pair.follow_delivery(delivery, &self.stream.dump)
                }
                Event::Interrupt(vector) => {
                    self.interrupt = Some(vector);
                    Ok(())
                }
                Event::Stopped => {
                    self.resumed = true;
                    Ok(())
                }
                Event::Block => {
                    let stays = self.delivered
                        || self.resumed
                        || (self.pair.by == By::Instruction && self.stream.repeated);
                    let moved = !stays || !self.pair.ours.cpu.bus.inputs.is_empty();
                    (self.delivered, self.resumed) = (false, false);
                    self.tables.note(&self.stream.dump, &self.pair.ours.cpu.bus);
                    match self.interrupt.take() {
                        Some(vector) => self
                            .pair
                            .follow_interrupt(vector, &self.stream.dump)
                            .and_then(|()| self.pair.follow_block(&self.stream.dump, false)),
                        None => self.pair.follow_block(&self.stream.dump, moved),
                    }
                }
                Event::Marker => match self.at_marker()? {
                    Some(end) => return Ok(end),
                    None => Ok(()),
                },
                Event::TripleFault => {
                    self.triple_fault = true;
                    Ok(())
                }
                Event::Silence => match self.silence()? {
                    Some(end) => return Ok(end),
                    None => Ok(()),
                },
                Event::End => return self.ended(),
            };
            if let Err(parted) = followed
                && let Some(end) = self.parted(parted)?
            {
                return Ok(end);
            }
            let retired = self.pair.ours.cpu.retired;
            if retired >= look_up {
                look_up = retired + LOOK_UP;
                progress(retired);
            }
            if self.pause == Pause::None && retired >= self.next_checkpoint {
                self.qemu.qmp.send("stop", json!({}))?;
                self.pause = Pause::Stopping;
            }
            if self.pause == Pause::Stopping && self.qemu.qmp.try_answer()?.is_some() {
                self.ask_for_marker()?;
            }
        }
    }

    /// What becomes of the run when our side did not come to QEMU's state; `None` when it goes on.
    fn parted(&mut self, parted: Parted) -> Result<Option<Ended>, Error> {
        Ok(Some(match parted {
            Parted::Difference(difference) => Err(difference),
            Parted::Stopped(stop @ Stop::Unimplemented { .. }) => Ok(End::Unimplemented(stop)),
            Parted::Stopped(stop) => Err(self.difference(Kind::OursStopped(stop))),
            Parted::End(name) => Ok(End::Known(name)),
            Parted::TakeAll(name) => return self.take_all(name),
        }))
    }

    /// Stops QEMU and takes over all of its state; what it did since goes by without comparison.
    fn take_all(&mut self, name: &'static str) -> Result<Option<Ended>, Error> {
        if self.pause == Pause::None {
            self.qemu.qmp.send("stop", json!({}))?;
            self.pause = Pause::Stopping;
        }
        let since = Instant::now();
        loop {
            if self.pause == Pause::Stopping && self.qemu.qmp.try_answer()?.is_some() {
                self.ask_for_marker()?;
            }
            match self.stream.next(SHORTLY) {
                Event::Marker if self.pause == Pause::Marking => break,
                Event::Block => self.skipped += 1,
                Event::End => return Ok(Some(Ok(End::Known(name)))),
                Event::Silence if since.elapsed() > PATIENCE => return Err(Error::Silent("stop".into())),
                _ => {}
            }
        }
        let answer = self.qemu.qmp.answer(MARKER)?;
        let dump = parse_registers(answer.as_str().unwrap_or_default())?;
        self.pair.take_all(&dump, &self.qemu)?;
        self.go_on()?;
        Ok(None)
    }

    /// Stops QEMU, wherever it is by now.
    fn stand_still(&mut self) -> Result<(), Error> {
        if self.pause == Pause::None && self.qemu.status()?.is_none() {
            self.qemu.qmp.send("stop", json!({}))?;
            self.pause = Pause::Stopping;
        }
        let since = Instant::now();
        while self.pause == Pause::Stopping && since.elapsed() < PATIENCE {
            // the log must be read for QEMU to get on
            let ended = self.stream.next(SHORTLY) == Event::End;
            match self.qemu.qmp.try_answer() {
                Ok(None) if !ended => {}
                _ => self.pause = Pause::Marking,
            }
        }
        Ok(())
    }

    /// Lets QEMU run on from where both stand.
    fn go_on(&mut self) -> Result<(), Error> {
        self.pause = Pause::None;
        (self.resumed, self.delivered) = (true, false);
        self.set_next_checkpoint();
        self.qemu.resume()
    }

    fn ask_for_marker(&mut self) -> Result<(), Error> {
        self.qemu.qmp.send("human-monitor-command", json!({ "command-line": MARKER }))?;
        self.pause = Pause::Marking;
        Ok(())
    }

    fn difference(&self, kind: Kind) -> Box<Difference> {
        Box::new(Difference::new(kind, &self.pair, &self.stream.dump))
    }

    /// The log has come to where QEMU stopped: both stand still now.
    fn at_marker(&mut self) -> Result<Option<Ended>, Error> {
        if self.pause != Pause::Marking {
            return Ok(None);
        }
        let answer = self.qemu.qmp.answer(MARKER)?;
        let dump = parse_registers(answer.as_str().unwrap_or_default())?;
        if let Err(parted) = self.pair.follow_stop(&dump) {
            return self.parted(parted);
        }
        if let Some(difference) = self.compare_memory(&dump)? {
            return Ok(Some(Err(difference)));
        }
        if self.options.instructions.is_some_and(|end| self.pair.ours.cpu.retired >= end) {
            return Ok(Some(Ok(End::Enough)));
        }
        if self.pair.by == By::Block
            && self.focus.is_some_and(|focus| self.pair.ours.cpu.retired >= focus.from)
        {
            self.pair.by = By::Instruction;
            by_instruction(&mut self.qemu)?;
        }
        self.go_on()?;
        Ok(None)
    }

    fn compare_memory(&mut self, dump: &Dump) -> Result<Option<Box<Difference>>, Error> {
        self.checkpoints += 1;
        self.tables.refresh(dump, &self.pair.ours.cpu.bus);
        let places = memory::compare(&mut self.pair, &self.qemu, &self.tables)?;
        if places.is_empty() {
            self.pair.good.1 = self.pair.ours.cpu.retired;
            return Ok(None);
        }
        Ok(Some(Box::new(Difference::new(Kind::Memory(places), &self.pair, dump))))
    }

    /// Nothing came for a while: QEMU is halted, or slow.
    fn silence(&mut self) -> Result<Option<Ended>, Error> {
        if self.pause != Pause::None {
            if self.pause == Pause::Stopping && self.qemu.qmp.try_answer()?.is_some() {
                self.ask_for_marker()?;
            }
            return Ok(None);
        }
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        let text = self.qemu.qmp.human(MARKER)?;
        if !text.contains("HLT=1") {
            if since.elapsed() > PATIENCE {
                return Err(Error::Silent("run on".into()));
            }
            return Ok(None);
        }
        let dump = parse_registers(&text)?;
        let waits = dump.eflags & flags::IF != 0;
        if waits && since.elapsed() < Duration::from_millis(self.options.patience_ms) {
            return Ok(None);
        }
        // nothing more comes: the log is followed to its end
        if let Err(parted) = self.pair.follow_stop(&dump) {
            return self.parted(parted);
        }
        self.qemu.qmp.execute("stop", json!({}))?;
        Ok(Some(match self.compare_memory(&dump)? {
            Some(difference) => Err(difference),
            None => Ok(End::Halted),
        }))
    }

    /// QEMU has ended: so must ours, in the same way and with the same memory.
    fn ended(&mut self) -> Result<Ended, Error> {
        let status = self.qemu.wait(Duration::from_secs(10))?;
        let code = status.and_then(|status| status.code());
        let reason = self
            .qemu
            .qmp
            .event("SHUTDOWN")
            .map(|data| data["reason"].as_str().unwrap_or_default().to_string());
        if reason.as_deref().is_some_and(|reason| reason.starts_with("host")) {
            return Err(Error::Interrupted);
        }
        let asked = reason.is_some() && code == Some(0) && !self.triple_fault;
        let end = if self.triple_fault && self.pair.is_down() {
            End::TripleFault
        } else {
            match self.pair.follow_to_exit() {
                Ok(Some(value)) if code == Some((value << 1 | 1) as i32 & 0xff) => End::Exit(value),
                Ok(None) if asked => End::SwitchedOff,
                Ok(value) => return Ok(Err(self.difference(Kind::End(value, code)))),
                Err(parted) => return Ok(self.parted(parted)?.unwrap_or(Ok(End::SwitchedOff))),
            }
        };
        if end == End::SwitchedOff {
            return Ok(Ok(end));
        }
        let dump = state::dump_of(&self.pair.ours.cpu.state);
        Ok(match self.compare_memory(&dump)? {
            Some(difference) => Err(difference),
            None => Ok(end),
        })
    }
}
