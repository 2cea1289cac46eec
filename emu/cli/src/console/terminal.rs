//! The terminal pagewalk runs on: raw while the guest has it, and as it was before on every way out: at the end, after an
//! error or a panic, after signals, and while pagewalk is stopped by job control.
//!
//! The terminal belongs to the process, not to a machine; so what is known of it stands in statics, where a panic hook and
//! a signal's thread find it.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError};

use anyhow::{Context, Result};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use signal_hook::consts::{SIGCONT, SIGQUIT, SIGTSTP};
use signal_hook::iterator::Signals;

/// What the terminal is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Use {
    /// Not at all.
    Nothing,
    /// Bytes go both ways as they are.
    Raw,
    /// The same, on a screen of our own that we draw.
    Screen,
}

const ENTER_SCREEN: &[u8] = b"\x1b[?1049h\x1b[?7l\x1b[2J\x1b[H";
/// Colours, cursor and its shape, wrapping, and the screen that was there before.
const LEAVE_SCREEN: &[u8] = b"\x1b[0m\x1b[0 q\x1b[?25h\x1b[?7h\x1b[?1049l";
/// How much of what was said while the screen was ours is kept for later.
const MOST_KEPT: usize = 1 << 16;

/// How the terminal was.
static BEFORE: OnceLock<Termios> = OnceLock::new();
/// What it is wanted for, as a [`Use`].
static WANTED: AtomicU8 = AtomicU8::new(Use::Nothing as u8);
/// Whether it is ours now, and not the shell's.
static OURS: AtomicBool = AtomicBool::new(false);
/// Whether what is on it has to be drawn again.
static STALE: AtomicBool = AtomicBool::new(false);
/// Held while something is drawn, so that nothing is drawn on a screen just given back.
static DRAWING: Mutex<()> = Mutex::new(());
/// What was said while the screen was ours.
static KEPT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// While there is one, the terminal is ours.
#[derive(Debug)]
pub struct Terminal(());

impl Terminal {
    /// Takes the terminal. Standard input and output must be one.
    pub fn take(wanted: Use) -> Result<Terminal> {
        let before = tcgetattr(stdin()).context("cannot ask for the terminal's settings")?;
        BEFORE.get_or_init(|| before);
        watch()?;
        WANTED.store(wanted as u8, Ordering::SeqCst);
        let terminal = Terminal(());
        enter().context("cannot set the terminal to raw mode")?;
        Ok(terminal)
    }

    /// Whether all must be drawn again, because the terminal was away; asking takes it as done.
    pub fn take_stale(&self) -> bool {
        STALE.swap(false, Ordering::SeqCst)
    }

    /// Writes what draws on the screen, unless the screen is not ours at the moment.
    pub fn draw(&self, bytes: &[u8]) -> std::io::Result<()> {
        let _drawing = lock(&DRAWING);
        if !OURS.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

/// Makes the terminal what it was before, whoever has it and whatever state we are in.
pub fn give_back() {
    leave();
    WANTED.store(Use::Nothing as u8, Ordering::SeqCst);
    let kept = KEPT.try_lock().map(|mut kept| std::mem::take(&mut *kept)).unwrap_or_default();
    // it can't be said elsewhere if this fails
    let _ = std::io::stderr().write_all(&kept);
    if kept.len() >= MOST_KEPT {
        let _ = std::io::stderr().write_all(
            b"\npagewalk: more was said while the screen was drawn than is kept; send it to a file\n",
        );
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_wanted(what: Use) -> bool {
    WANTED.load(Ordering::SeqCst) == what as u8
}

/// A process in the background may not touch the terminal.
fn in_foreground() -> bool {
    tcgetpgrp(stdin()).is_ok_and(|group| group == rustix::process::getpgrp())
}

fn enter() -> rustix::io::Result<()> {
    let Some(before) = BEFORE.get().filter(|_| !is_wanted(Use::Nothing) && in_foreground()) else {
        return Ok(());
    };
    let mut raw = before.clone();
    raw.make_raw();
    tcsetattr(stdin(), OptionalActions::Now, &raw)?;
    if !OURS.swap(true, Ordering::SeqCst) && is_wanted(Use::Screen) {
        put(ENTER_SCREEN);
    }
    STALE.store(true, Ordering::SeqCst);
    Ok(())
}

fn leave() {
    if !OURS.swap(false, Ordering::SeqCst) {
        return;
    }
    if is_wanted(Use::Screen) {
        // what is being drawn is let finish, unless it is what hangs or what panicked
        let _drawing = DRAWING.try_lock();
        put(LEAVE_SCREEN);
    }
    if let Some(before) = BEFORE.get() {
        // a terminal that is gone needs no settings
        let _ = tcsetattr(stdin(), OptionalActions::Now, before);
    }
}

/// Writes past the standard library's buffers and locks, which a panic may have left held.
fn put(mut bytes: &[u8]) {
    while let Ok(count @ 1..) = rustix::io::write(stdout(), bytes) {
        bytes = &bytes[count..];
    }
}

/// From now on panics and job control give the terminal back first.
fn watch() -> Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            hook(panic);
        }));
        result = Signals::new([SIGTSTP, SIGCONT, SIGQUIT]).map(|mut signals| {
            std::thread::spawn(move || signals.forever().for_each(signal));
        });
    });
    result.context("cannot listen for signals")
}

fn signal(signal: i32) {
    if signal == SIGCONT {
        // a failure leaves the terminal as the shell has it, which is the best that is left
        let _ = enter();
    } else {
        leave();
        // stops or ends the process; a stopped one is continued by SIGCONT
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
}

/// Standard error, written so that it is readable while the terminal is ours.
#[derive(Clone, Copy, Default, Debug)]
pub struct Stderr;

/// Standard error for whoever speaks during a run.
pub fn stderr() -> Stderr {
    Stderr
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut stderr = std::io::stderr();
        if !OURS.load(Ordering::SeqCst) || !stderr.is_terminal() {
            return stderr.write(bytes);
        }
        if is_wanted(Use::Screen) {
            let mut kept = lock(&KEPT);
            let room = MOST_KEPT.saturating_sub(kept.len());
            kept.extend(&bytes[..bytes.len().min(room)]);
        } else {
            stderr.write_all(&with_returns(bytes))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

fn with_returns(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 2);
    LineEnds::default().convert(bytes, &mut out);
    out
}

/// A raw terminal moves down at a line feed and no more, as a serial terminal does. Guests that know that send a carriage
/// return, too; for those that don't one is added, until the first that the guest sends itself.
#[derive(Clone, Copy, Default, Debug)]
pub struct LineEnds {
    /// The guest sends its own.
    own: bool,
    after_return: bool,
}

impl LineEnds {
    /// Appends to `out` what the terminal is to be sent for `bytes`.
    pub fn convert(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for &byte in bytes {
            if byte == b'\n' {
                self.own |= self.after_return;
                if !self.own {
                    out.push(b'\r');
                }
            }
            self.after_return = byte == b'\r';
            out.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(parts: &[&str]) -> String {
        let mut ends = LineEnds::default();
        let mut out = Vec::new();
        for part in parts {
            ends.convert(part.as_bytes(), &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn line_feeds_get_a_carriage_return_until_the_guest_sends_its_own() {
        assert_eq!(converted(&["a\nb\n", "\nc"]), "a\r\nb\r\n\r\nc");
        assert_eq!(converted(&["a\r\nb\nc\n"]), "a\r\nb\nc\n");
        assert_eq!(converted(&["a\r", "\nb\n"]), "a\r\nb\n", "also where the pair comes in two parts");
    }

    /// Not a test of its own: what the next one runs on a terminal.
    #[test]
    #[ignore = "panics, on purpose, while the terminal is raw"]
    fn takes_the_terminal_and_panics() {
        let _terminal = Terminal::take(Use::Screen).unwrap();
        assert!(OURS.load(Ordering::SeqCst));
        panic!("on purpose");
    }

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_speaks() {
        let (pty, pts) = pty_process::blocking::open().unwrap();
        let before = tcgetattr(&pty).unwrap();
        let mut child = pty_process::blocking::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "console::terminal::tests::takes_the_terminal_and_panics"])
            .args(["--ignored", "--nocapture", "--test-threads=1"])
            .spawn(pts)
            .unwrap();
        let mut shown = Vec::new();
        let mut buffer = [0; 1024];
        // an error is what Linux gives when the last one has closed the terminal
        while let Ok(count @ 1..) = std::io::Read::read(&mut &pty, &mut buffer) {
            shown.extend(&buffer[..count]);
        }
        child.wait().unwrap();
        let shown = String::from_utf8_lossy(&shown);
        let at = |part: &str| shown.find(part).unwrap_or_else(|| panic!("no {part:?} in {shown:?}"));
        assert!(at("\x1b[?1049h") < at("\x1b[?1049l") && at("\x1b[?1049l") < at("on purpose\r\n"));
        assert_eq!(format!("{:?}", tcgetattr(&pty).unwrap()), format!("{before:?}"));
    }
}
