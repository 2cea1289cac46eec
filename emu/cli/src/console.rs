//! COM1 between guest and host: bytes out as they come, bytes in from another thread.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, IsTerminal, Read, Write};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use anyhow::{Context, Result};
use pagewalk_pc::board::Input;
use pagewalk_pc::machine::Machine;
use pagewalk_x86::observe::Observer;

use crate::options::Serial;

/// The host's end of COM1.
pub struct Console {
    out: Option<Box<dyn Write>>,
    /// The debug console.
    debug: Option<Box<dyn Write>>,
    /// What a firmware says.
    firmware: Option<Box<dyn Write>>,
    input: Option<Receiver<u8>>,
    /// Whether somebody sits at the other end, so that waiting for input makes sense.
    pub interactive: bool,
    closed: bool,
}

impl Console {
    /// Opens what the options name: COM1, and the debug console (standard error if not said).
    pub fn new(serial: &Serial, debug: Option<&Serial>, firmware: &Serial) -> Result<Console> {
        let debug: Option<Box<dyn Write>> = match debug {
            None => Some(Box::new(std::io::stderr())),
            Some(debug) => output(debug, "the debug console")?,
        };
        let out = output(serial, "the serial output")?;
        let firmware = output(firmware, "the firmware's messages")?;
        let mut console = Console { out, debug, firmware, ..Console::closed_up() };
        if *serial == Serial::Stdio {
            console.interactive = std::io::stdin().is_terminal();
            console.input = Some(read_stdin());
        }
        Ok(console)
    }

    /// A console that shows nothing and gives no input.
    pub fn closed_up() -> Console {
        Console { out: None, debug: None, firmware: None, input: None, interactive: false, closed: false }
    }

    /// A console that shows output on standard output and gives no input.
    pub fn output_only() -> Console {
        Console { out: Some(Box::new(std::io::stdout())), ..Console::closed_up() }
    }

    /// Moves what waits in both directions. An error is one of the host's.
    pub fn exchange<O: Observer>(&mut self, machine: &mut Machine<O>) -> Result<()> {
        for (bytes, out, what) in [
            (machine.take_serial(), &mut self.out, "the serial output"),
            (machine.processor.cpu.bus.take_debug_output(), &mut self.debug, "the debug console"),
            (
                machine.processor.cpu.bus.take_firmware_messages(),
                &mut self.firmware,
                "the firmware's messages",
            ),
        ] {
            let Some(out) = out.as_mut().filter(|_| !bytes.is_empty()) else { continue };
            match out.write_all(&bytes).and_then(|()| out.flush()) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => self.closed = true,
                result => result.with_context(|| format!("cannot write {what}"))?,
            }
        }
        let mut bytes = Vec::new();
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
        if !bytes.is_empty() {
            machine.give(Input::Serial { port: 0, bytes });
        }
        Ok(())
    }

    /// Whether whoever read our output is gone.
    pub fn closed(&self) -> bool {
        self.closed
    }
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
