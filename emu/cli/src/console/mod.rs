//! COM1 between guest and host: bytes out as they come, bytes in from another thread; on a terminal with Ctrl-A as the
//! key that speaks to pagewalk.

pub mod escape;
pub mod terminal;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use pagewalk_pc::board::Input;
use pagewalk_pc::machine::Machine;
use pagewalk_x86::observe::Observer;

use crate::display::Display;
use crate::options::{DisplayOn, Run, Serial};
use crate::program::Streams;
use crate::say::say;
use escape::{Command, Escape, Pressed};
use terminal::{LineEnds, Terminal, Use};

/// How much of what a Linux program's kernel says is kept.
const MESSAGES: usize = 1 << 14;

/// The host's end of COM1.
pub struct Console {
    out: Option<Box<dyn Write>>,
    /// The debug console.
    debug: Option<Box<dyn Write>>,
    /// What a firmware says.
    firmware: Option<Box<dyn Write>>,
    input: Option<Receiver<u8>>,
    /// What came while somebody waited for it.
    waiting: Vec<u8>,
    face: Face,
    commands: VecDeque<Command>,
    /// Where a Linux program runs, what its kernel says on COM2, as far back as is kept.
    kernel: Option<Vec<u8>>,
    /// Shown until the program says something.
    progress: Option<ProgressBar>,
    /// After which file pictures made on a key are named.
    pub pictures: Option<PathBuf>,
    /// Whether somebody sits at the other end, so that waiting for input makes sense.
    pub interactive: bool,
    closed: bool,
}

/// What a person looks at, if there is one.
enum Face {
    Nobody,
    /// The terminal is the far end of COM1.
    Serial(Raw),
    /// The terminal shows the screen, and its keys are the keyboard's.
    Screen(Box<Display>),
}

/// A terminal as the far end of COM1.
struct Raw {
    escape: Escape,
    line_ends: LineEnds,
    _terminal: Terminal,
}

impl Console {
    /// Opens what the options name: COM1, and the debug console (standard error if not said).
    pub fn new(options: &Run) -> Result<Console> {
        let on_screen = options.display == DisplayOn::Terminal;
        let serial =
            options.serial.as_ref().unwrap_or(if on_screen { &Serial::None } else { &Serial::Stdio });
        let stdio = [Some(serial), options.debugcon.as_ref(), Some(&options.firmware_log)];
        if on_screen && stdio.contains(&Some(&Serial::Stdio)) {
            bail!(
                "--display terminal has the terminal for itself: send --serial, --debugcon and --firmware-log to files"
            );
        }
        let debug: Option<Box<dyn Write>> = match &options.debugcon {
            None => Some(Box::new(terminal::stderr())),
            Some(debug) => output(debug, "the debug console")?,
        };
        let out = output(serial, "the serial output")?;
        let firmware = output(&options.firmware_log, "the firmware's messages")?;
        let pictures = options.screenshot.clone();
        let mut console = Console { out, debug, firmware, pictures, ..Console::closed_up() };
        if on_screen {
            console.interactive = true;
            console.face = Face::Screen(Box::new(Display::open()?));
        } else if *serial == Serial::Stdio {
            console.interactive = std::io::stdin().is_terminal();
            if console.interactive && std::io::stdout().is_terminal() {
                say!("this terminal is the guest's serial port; Ctrl-A h for help, Ctrl-A x to leave");
                console.take_terminal()?;
            }
            console.input = Some(read_stdin());
        }
        Ok(console)
    }

    /// The console of a Linux program: its terminal is COM1, its pipes are the debug console and the firmware's (see
    /// testbins/linux/init.c).
    pub fn of_program(streams: Streams, kernel: &str, progress: bool) -> Result<Console> {
        let mut console = Console { kernel: Some(Vec::new()), ..Console::closed_up() };
        if streams.output {
            console.out = Some(Box::new(std::io::stdout()));
        } else {
            console.debug = Some(Box::new(std::io::stdout()));
        }
        if !streams.errors {
            console.firmware = Some(Box::new(std::io::stderr()));
        } else if !streams.output {
            console.out = Some(Box::new(terminal::stderr()));
        }
        if streams.input {
            console.take_terminal()?;
            console.input = Some(read_stdin());
        }
        if streams.errors && progress {
            let kernel = kernel.to_string();
            let bar =
                ProgressBar::new_spinner().with_message(format!("{kernel} is starting; Ctrl-A x leaves"));
            bar.enable_steady_tick(Duration::from_millis(100));
            console.progress = Some(bar);
        }
        Ok(console)
    }

    /// Whether there is a Linux program.
    pub fn is_of_program(&self) -> bool {
        self.kernel.is_some()
    }

    /// What the program's kernel said last.
    pub fn kernel_messages(&self) -> String {
        String::from_utf8_lossy(self.kernel.as_deref().unwrap_or_default()).into_owned()
    }

    /// Makes the terminal the far end of COM1.
    fn take_terminal(&mut self) -> Result<()> {
        let (escape, line_ends) = Default::default();
        self.interactive = true;
        self.face = Face::Serial(Raw { escape, line_ends, _terminal: Terminal::take(Use::Raw)? });
        Ok(())
    }

    /// A console that shows nothing and gives no input.
    pub fn closed_up() -> Console {
        Console {
            out: None,
            debug: None,
            firmware: None,
            input: None,
            waiting: Vec::new(),
            kernel: None,
            progress: None,
            face: Face::Nobody,
            commands: VecDeque::new(),
            pictures: None,
            interactive: false,
            closed: false,
        }
    }

    /// A console that shows output on standard output and gives no input.
    pub fn output_only() -> Console {
        Console { out: Some(Box::new(std::io::stdout())), ..Console::closed_up() }
    }

    /// Moves what waits in both directions. Says whether the guest was given anything. An error is one of the host's.
    pub fn exchange<O: Observer>(&mut self, machine: &mut Machine<O>) -> Result<bool> {
        let mut serial = machine.take_serial();
        if let Face::Serial(raw) = &mut self.face {
            let sent = std::mem::take(&mut serial);
            raw.line_ends.convert(&sent, &mut serial);
        }
        let bus = &mut machine.processor.cpu.bus;
        if let Some(kernel) = &mut self.kernel {
            kernel.extend(bus.take_serial_output(1));
            kernel.drain(..kernel.len().saturating_sub(MESSAGES));
        }
        for (bytes, out, what) in [
            (serial, &mut self.out, "the serial output"),
            (bus.take_debug_output(), &mut self.debug, "the debug console"),
            (bus.take_firmware_messages(), &mut self.firmware, "the firmware's messages"),
        ] {
            let Some(out) = out.as_mut().filter(|_| !bytes.is_empty()) else { continue };
            if let Some(progress) = self.progress.take() {
                progress.finish_and_clear();
            }
            match out.write_all(&bytes).and_then(|()| out.flush()) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => self.closed = true,
                result => result.with_context(|| format!("cannot write {what}"))?,
            }
        }
        let bytes = self.typed()?;
        let given = !bytes.is_empty();
        if given {
            machine.give(Input::Serial { port: 0, bytes });
        }
        match &mut self.face {
            Face::Screen(display) => Ok(display.exchange(machine, &mut self.commands)? || given),
            _ => Ok(given),
        }
    }

    /// What came in for the guest; commands are kept for [`Console::next_command`].
    fn typed(&mut self) -> Result<Vec<u8>> {
        let mut bytes = std::mem::take(&mut self.waiting);
        while let Some(input) = &self.input {
            match input.try_recv() {
                Ok(byte) => bytes.push(byte),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.input = None;
                    self.interactive = false;
                }
            }
        }
        let mut unknown = None;
        if let Face::Serial(raw) = &mut self.face {
            bytes.retain(|&key| match raw.escape.press(key) {
                Pressed::Guest(_) => true,
                Pressed::Waits => false,
                Pressed::Command(command) => {
                    self.commands.push_back(command);
                    false
                }
                Pressed::Unknown(key) => {
                    unknown = Some(key);
                    false
                }
            });
        }
        if let Some(key) = unknown {
            self.tell(&escape::unknown(key))?;
        }
        Ok(bytes)
    }

    /// Waits until something comes in, or this long.
    pub fn wait(&mut self, time: Duration) {
        if let Face::Screen(display) = &mut self.face {
            return display.wait(time);
        }
        match self.input.as_ref().map(|input| input.recv_timeout(time)) {
            Some(Ok(byte)) => self.waiting.push(byte),
            Some(Err(RecvTimeoutError::Timeout)) => {}
            Some(Err(RecvTimeoutError::Disconnected)) | None => std::thread::sleep(time),
        }
    }

    /// What the person asked for.
    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Types what waits to be typed although no time passes. Says whether there was anything.
    pub fn hurry<O: Observer>(&mut self, machine: &mut Machine<O>) -> bool {
        match &mut self.face {
            Face::Screen(display) => display.hurry(machine),
            _ => false,
        }
    }

    /// Tells the person something during the run.
    pub fn tell(&mut self, text: &str) -> Result<()> {
        match &mut self.face {
            Face::Screen(display) => {
                display.tell(text);
                Ok(())
            }
            _ => print(&[text.to_string()]),
        }
    }

    /// Tells what the keys are.
    pub fn help(&mut self) -> Result<()> {
        let to = if let Face::Screen(_) = self.face { "PC keyboard" } else { "serial port" };
        let mut lines = vec![format!("every key goes to the guest's {to}, but for these:")];
        lines.extend(escape::help());
        match &mut self.face {
            Face::Screen(display) => {
                lines.push(String::new());
                lines.push("The keyboard has the US layout. Serial output goes nowhere, or to the file of --serial FILE.".into());
                display.show_page(lines);
                Ok(())
            }
            _ => {
                lines.push("A serial line tells the guest no window size. On Linux, type there:".into());
                let (columns, rows) = crossterm::terminal::size().unwrap_or((80, 24));
                lines.push(format!(
                    "  stty rows {rows} cols {columns}      (or `resize`, where it is installed)"
                ));
                print(&lines)
            }
        }
    }

    /// Whether a person is looking on at a terminal of ours.
    pub fn attended(&self) -> bool {
        !matches!(self.face, Face::Nobody)
    }

    /// Gives the terminal back; nothing comes in from now on.
    pub fn close(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.finish_and_clear();
        }
        self.face = Face::Nobody;
    }

    /// Whether whoever read our output is gone.
    pub fn closed(&self) -> bool {
        self.closed
    }
}

/// Prints lines of ours on a raw terminal.
fn print(lines: &[String]) -> Result<()> {
    let mut text = String::from("\r\n");
    for line in lines {
        text += &format!("\x1b[2mpagewalk:\x1b[0m {line}\r\n");
    }
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to the terminal")
}

fn output(to: &Serial, what: &str) -> Result<Option<Box<dyn Write>>> {
    Ok(match to {
        Serial::None => None,
        Serial::Stdio => Some(Box::new(std::io::stdout())),
        Serial::File(path) => {
            let file = File::create(path)
                .with_context(|| format!("cannot create '{}' for {what}", path.display()))?;
            Some(Box::new(BufWriter::new(file)))
        }
    })
}

fn read_stdin() -> Receiver<u8> {
    let (sender, receiver) = sync_channel(4096);
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        let mut stdin = std::io::stdin().lock();
        while let Ok(count @ 1..) = stdin.read(&mut buffer) {
            if buffer[..count].iter().any(|&byte| sender.send(byte).is_err()) {
                return;
            }
        }
    });
    receiver
}
