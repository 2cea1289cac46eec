//! QMP, QEMU's control socket: one JSON object a line, answers in the order of the commands, events in between.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Error;

/// How long an answer may take: QEMU answers at once unless the host is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection.
#[derive(Debug)]
pub struct Qmp {
    socket: UnixStream,
    lines: Receiver<Value>,
    /// Events that came and were not asked for yet: name and data.
    events: Vec<(String, Value)>,
}

impl Qmp {
    /// Connects, and leaves QMP's negotiation behind.
    pub fn connect(path: &Path, alive: impl FnMut() -> Result<(), Error>) -> Result<Qmp, Error> {
        let socket = connect(path, alive)?;
        let reader = socket.try_clone().map_err(Error::io("share QEMU's control socket"))?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines() {
                let Ok(line) = line else { return };
                if let Ok(value) = serde_json::from_str(&line)
                    && sender.send(value).is_err()
                {
                    return;
                }
            }
        });
        let mut qmp = Qmp { socket, lines, events: Vec::new() };
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Sends a command; its answer is to be fetched by [`Qmp::answer`] or [`Qmp::try_answer`].
    pub fn send(&mut self, command: &str, arguments: Value) -> Result<(), Error> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        self.socket.write_all(line.as_bytes()).map_err(Error::io("send a command to QEMU"))
    }

    /// The answer to the oldest command that has none, if it is there.
    pub fn try_answer(&mut self) -> Result<Option<Value>, Error> {
        loop {
            match self.lines.try_recv() {
                Ok(value) => {
                    if let Some(answer) = self.sort(value) {
                        return answer.map(Some);
                    }
                }
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => return Err(closed()),
            }
        }
    }

    /// Waits for the answer to `command`.
    pub fn answer(&mut self, command: &str) -> Result<Value, Error> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(value) => {
                    if let Some(answer) = self.sort(value) {
                        return answer;
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Err(Error::Silent(command.to_string())),
                Err(RecvTimeoutError::Disconnected) => return Err(closed()),
            }
        }
    }

    /// Sends a command and waits for its answer.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        self.send(command, arguments)?;
        self.answer(command)
    }

    /// Runs a command of the human monitor, and returns its text.
    pub fn human(&mut self, command: &str) -> Result<String, Error> {
        let answer = self.execute("human-monitor-command", json!({ "command-line": command }))?;
        Ok(answer.as_str().unwrap_or_default().to_string())
    }

    /// The data of the first event of this name, after QEMU has ended.
    pub fn event(&mut self, name: &str) -> Option<&Value> {
        while let Ok(value) = self.lines.recv_timeout(PATIENCE) {
            self.sort(value);
        }
        self.events.iter().find(|(event, _)| event == name).map(|(_, data)| data)
    }

    /// An answer, or `None` for an event, which is kept, and for the greeting.
    fn sort(&mut self, mut value: Value) -> Option<Result<Value, Error>> {
        if let Some(event) = value["event"].as_str().map(str::to_string) {
            self.events.push((event, value["data"].take()));
            return None;
        }
        if value.get("return").is_some() {
            return Some(Ok(value["return"].take()));
        }
        let error = value.get("error")?;
        let why = error["desc"].as_str().unwrap_or_default().to_string();
        Some(Err(Error::Refused { command: "a QMP command".into(), why }))
    }
}

fn closed() -> Error {
    Error::Io { doing: "hear from QEMU", error: std::io::ErrorKind::ConnectionAborted.into() }
}

/// Connects to a socket that QEMU is about to create.
pub(super) fn connect(
    path: &Path,
    mut alive: impl FnMut() -> Result<(), Error>,
) -> Result<UnixStream, Error> {
    let end = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(path) {
            Ok(socket) => return Ok(socket),
            Err(error) if Instant::now() > end => {
                return Err(Error::Io { doing: "connect to QEMU", error });
            }
            Err(_) => {
                alive()?;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
