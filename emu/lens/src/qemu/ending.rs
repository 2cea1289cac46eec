//! How QEMU comes to its end, told from outside while it runs freely.

use std::time::{Duration, Instant};

use super::dump::Dump;
use super::{Error, PROGRAM, Qemu};
use pagewalk_x86::flags;

/// How a guest ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It wrote to the debug-exit port; QEMU's exit status then is `2 * value + 1`, of which the lower eight bits are seen.
    Status(u8),
    /// It switched the machine off.
    PowerOff,
    /// It reset the machine.
    Reset,
    /// A triple fault.
    TripleFault,
    /// It halted, and nothing wakes it.
    Halted,
}

/// What QEMU writes to its log when a third fault comes; and the log's item.
const TRIPLE_FAULT: &str = "Triple fault";
const LOG: &str = "log cpu_reset";
/// How often QEMU is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How often it is asked for its registers: that holds it up for a moment.
const ASK: Duration = Duration::from_millis(150);
/// How long it may take from its last word to its end, on a busy host.
const DYING: Duration = Duration::from_secs(10);
/// So many times in a row it must be halted at the same place, with interrupts enabled, to be taken for halted for good.
const HALTED: u32 = 12;

impl Qemu {
    /// Lets it run to its end, for `limit` at most; `None` when it still runs then. `stop` is asked now and then whether to
    /// give up.
    pub fn run_to_end(
        &mut self,
        limit: Duration,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Ending>, Error> {
        // into what it says on standard error
        self.qmp.human(LOG)?;
        if let Err(error) = self.resume() {
            // a short guest may have ended before QEMU answered
            return self.ended_or(error).map(Some);
        }
        let (end, mut ask) = (Instant::now() + limit, Instant::now() + ASK);
        let mut halted = (0, 0);
        loop {
            if let Some(status) = self.status()? {
                return self.ending(status.code()).map(Some);
            }
            let now = Instant::now();
            if now >= end || stop() {
                return Ok(None);
            }
            if now >= ask {
                ask = now + ASK;
                match self.waits() {
                    Ok(Some(dump)) if dump.eflags & flags::IF == 0 => return Ok(Some(Ending::Halted)),
                    Ok(Some(dump)) => {
                        halted = if halted.1 == dump.eip { (halted.0 + 1, dump.eip) } else { (1, dump.eip) };
                        if halted.0 >= HALTED {
                            return Ok(Some(Ending::Halted));
                        }
                    }
                    Ok(None) => halted.0 = 0,
                    // it may just have ended
                    Err(error) => return self.ended_or(error).map(Some),
                }
            }
            std::thread::sleep(LOOK);
        }
    }

    /// How it ended, after it gave no answer; the error if it goes on running.
    fn ended_or(&mut self, error: Error) -> Result<Ending, Error> {
        match self.wait(DYING)? {
            Some(status) => self.ending(status.code()),
            None => Err(error),
        }
    }

    /// Its registers, if it is halted.
    fn waits(&mut self) -> Result<Option<Dump>, Error> {
        let text = self.qmp.human("info registers")?;
        Ok(if text.contains("HLT=1") { Dump::parse(&text) } else { None })
    }

    /// Whether it said that something was wrong, beyond warnings.
    fn complains(&mut self) -> bool {
        let said = self.said();
        said.lines()
            .any(|line| line.strip_prefix(PROGRAM).is_some_and(|rest| !rest.starts_with(": warning:")))
    }

    /// How it ended, from its exit status and what it said on its way.
    fn ending(&mut self, code: Option<i32>) -> Result<Ending, Error> {
        let reason = self.qmp.event("SHUTDOWN").and_then(|data| data["reason"].as_str().map(str::to_string));
        match (code, reason.as_deref()) {
            (Some(0), _) if self.said().contains(TRIPLE_FAULT) => Ok(Ending::TripleFault),
            (Some(0), Some("guest-reset")) => Ok(Ending::Reset),
            (Some(0), Some("guest-shutdown")) => Ok(Ending::PowerOff),
            // a shutdown on the host's behalf is even, or has an event
            (Some(code), None) if code & 1 == 1 && !self.complains() => Ok(Ending::Status(code as u8)),
            (code, _) => Err(Error::Died {
                doing: "running the guest",
                status: code.map_or("killed".into(), |code| format!("status {code}")),
                said: self.said(),
            }),
        }
    }
}
