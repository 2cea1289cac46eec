//! The command on a pseudo-terminal, for tests of what a person meets.
#![allow(dead_code, reason = "no test file uses all of it")]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use pty_process::blocking::{Command, Pty, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{Termios, tcgetattr};

/// The longest that anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The terminal's size.
pub const ROWS: u16 = 30;
/// The terminal's size.
pub const COLUMNS: u16 = 100;

/// A folder with a flat 32-bit program in it.
pub fn program(code: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program.bin");
    std::fs::write(&path, code).unwrap();
    (folder, path)
}

/// The command on its terminal.
pub struct Session {
    /// The process.
    pub child: Child,
    /// The terminal's other end.
    pub pty: Arc<Pty>,
    output: Receiver<Vec<u8>>,
    /// All that was shown so far.
    pub shown: Vec<u8>,
    /// The terminal's settings before.
    pub before: Termios,
}

impl Session {
    /// Runs an image, with 30 rows and 100 columns.
    pub fn new(image: &Path, args: &[&str]) -> Session {
        let (pty, pts) = open().unwrap();
        pty.resize(pty_process::Size::new(ROWS, COLUMNS)).unwrap();
        let before = tcgetattr(&pty).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_pagewalk"))
            .env("COLORTERM", "truecolor")
            .current_dir(image.parent().unwrap())
            .args(["run", image.to_str().unwrap(), "--boot", "raw32", "--memory", "4M", "--timeout", "100"])
            .args(args)
            .spawn(pts)
            .unwrap();
        let pty = Arc::new(pty);
        let reader = Arc::clone(&pty);
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // an error is what Linux gives when the last one has closed the terminal
            while let Ok(count @ 1..) = (&*reader).read(&mut buffer) {
                let _ = sender.send(buffer[..count].to_vec());
            }
        });
        Session { child, pty, output, shown: Vec::new(), before }
    }

    /// The terminal's settings.
    pub fn settings(&self) -> Termios {
        tcgetattr(&*self.pty).unwrap()
    }

    /// Presses keys.
    pub fn type_in(&mut self, keys: &[u8]) {
        (&*self.pty).write_all(keys).unwrap();
    }

    /// All that was shown so far, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    /// Waits until what was shown satisfies `enough`.
    pub fn wait_until(&mut self, what: &str, enough: impl Fn(&str) -> bool) {
        let started = Instant::now();
        while !enough(&self.text()) {
            let left = PATIENCE.checked_sub(started.elapsed()).unwrap_or_default();
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.shown.extend(bytes),
                Err(error) => panic!("{error} before {what}; shown: {:?}", self.text()),
            }
        }
    }

    /// A terminal's screen after all that was shown.
    pub fn screen(&self) -> vt100::Parser {
        let mut terminal = vt100::Parser::new(ROWS, COLUMNS, 0);
        terminal.process(&self.shown);
        terminal
    }

    /// Waits until a terminal's screen satisfies `enough`.
    pub fn wait_for_screen(&mut self, what: &str, enough: impl Fn(&vt100::Screen) -> bool) {
        let mut terminal = vt100::Parser::new(ROWS, COLUMNS, 0);
        terminal.process(&self.shown);
        let started = Instant::now();
        while !enough(terminal.screen()) {
            let left = PATIENCE.checked_sub(started.elapsed()).unwrap_or_default();
            match self.output.recv_timeout(left) {
                Ok(bytes) => {
                    terminal.process(&bytes);
                    self.shown.extend(bytes);
                }
                Err(error) => panic!("{error} before {what}; screen:\n{}", terminal.screen().contents()),
            }
        }
    }

    /// Waits until this was shown.
    pub fn expect(&mut self, part: &str) {
        self.wait_until(part, |shown| shown.contains(part));
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end and gives the exit status; the rest of what is shown is read.
    pub fn end(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                while let Ok(bytes) = self.output.recv_timeout(Duration::from_secs(5)) {
                    self.shown.extend(bytes);
                }
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "it does not end; shown: {:?}", self.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The terminal is as it was before.
    pub fn assert_restored(&self) {
        assert_eq!(printed(&self.settings()), printed(&self.before));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // ended already, where the test went well
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All settings, as [`Termios`] compares by nothing.
fn printed(settings: &Termios) -> String {
    format!("{settings:?}")
}
