//! Debian's Linux kernels with an initial RAM disk around Debian's static busybox: started here or in QEMU, and talked to over
//! the serial console.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use pagewalk_loader::cpio::Archive;
use pagewalk_loader::{Module, Request};
use pagewalk_pc::board::{Board, Config, Input};
use pagewalk_pc::disk::{Disk, Writes};
use pagewalk_pc::machine::{Machine, Parts, memory_map};
use pagewalk_x86::fault::Stop;
use pagewalk_x86::mmu::tlb::Geometry;
use pagewalk_x86::model::{self, Model};
use tempfile::TempDir;

use crate::fetched;

/// How long an answer may take, on a slow host.
const LIMIT: Duration = Duration::from_secs(600);
/// What the shell says when it waits.
pub const PROMPT: &str = "/ # ";
/// The first program: a shell on the console.
pub const SHELL: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
stty cols 250 rows 50
exec sh
";

/// An initial RAM disk with busybox, the devices that a shell needs, this first program, and other files.
pub fn ramdisk(init: &str, programs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "proc", "tmp", "mnt", "modules"] {
        archive.folder(folder);
    }
    archive.device("dev/console", 5, 1);
    archive.device("dev/ttyS0", 4, 64);
    archive.device("dev/null", 1, 3);
    archive.device("dev/zero", 1, 5);
    archive.program("bin/busybox", &std::fs::read(fetched("busybox-i386").unwrap()).unwrap());
    for (name, data) in programs {
        archive.program(name, data);
    }
    archive.program("init", init.as_bytes());
    archive.finish()
}

/// What is started.
#[derive(Clone, Debug)]
pub struct Start {
    /// The kernel's file among the fetched ones.
    pub kernel: &'static str,
    /// Its command line, after the console.
    pub options: &'static str,
    /// The processor.
    pub model: Model,
    /// Virtual time of an instruction, in picoseconds.
    pub ps_per_instruction: u64,
    /// Initial RAM disk.
    pub ramdisk: Vec<u8>,
    /// The image of an IDE disk. What is written goes to the file.
    pub disk: Option<PathBuf>,
}

impl Start {
    /// A shell under this kernel, on the largest processor.
    pub fn shell(kernel: &'static str, options: &'static str) -> Start {
        Start {
            kernel,
            options,
            model: model::MAX,
            ps_per_instruction: 1000,
            ramdisk: ramdisk(SHELL, &[]),
            disk: None,
        }
    }

    fn command_line(&self) -> String {
        format!("console=ttyS0 {}", self.options)
    }

    /// Here, with 128 MiB.
    pub fn here(&self) -> Talk<Machine<()>> {
        let image = std::fs::read(fetched(self.kernel).unwrap()).unwrap();
        let disks = self.disk.iter().map(|path| Disk::open(path, Writes::Through).unwrap()).collect();
        let board = Board::new(Config { memory: 128 << 20, disks, ..Config::default() }).unwrap();
        let plan = pagewalk_loader::plan(&Request {
            image: &image,
            name: self.kernel,
            boot: pagewalk_loader::Boot::Auto,
            command_line: &self.command_line(),
            modules: &[Module { data: &self.ramdisk, args: "", name: "initrd" }],
            memory: memory_map(&board),
        })
        .unwrap();
        let parts = Parts {
            model: self.model,
            tlb: Geometry::default(),
            ps_per_instruction: self.ps_per_instruction,
        };
        Talk::new(Machine::new(parts, board, &plan, ()).unwrap())
    }

    /// In QEMU, with as much.
    pub fn in_qemu(&self) -> Talk<Qemu> {
        let folder = tempfile::tempdir().unwrap();
        let ramdisk: PathBuf = folder.path().join("initrd");
        std::fs::write(&ramdisk, &self.ramdisk).unwrap();
        let mut command = Qemu::command();
        if let Some(path) = &self.disk {
            command.arg("-drive").arg(format!("if=ide,format=raw,file={}", path.display()));
        }
        command.arg("-kernel").arg(fetched(self.kernel).unwrap());
        command.arg("-initrd").arg(&ramdisk).args(["-append", &self.command_line()]);
        Talk::new(Qemu::start(command, folder))
    }
}

/// A machine with a serial console.
pub trait Console {
    /// How it ended.
    type End: std::fmt::Debug;
    /// Goes on for a while; what it said is added.
    fn go_on(&mut self, text: &mut Vec<u8>) -> Result<(), Self::End>;
    /// Types.
    fn type_in(&mut self, text: &str);
}

impl Console for Machine<()> {
    type End = Stop;

    fn go_on(&mut self, text: &mut Vec<u8>) -> Result<(), Stop> {
        let stop = self.run(self.processor.cpu.retired + (1 << 20));
        text.extend(self.take_serial());
        match stop {
            Stop::Limit | Stop::Idle => Ok(()),
            stop => Err(stop),
        }
    }

    fn type_in(&mut self, text: &str) {
        self.give(Input::Serial { port: 0, bytes: text.as_bytes().to_vec() });
    }
}

/// QEMU, its serial line being ours.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    input: ChildStdin,
    text: Receiver<Vec<u8>>,
    _folder: TempDir,
}

impl Qemu {
    /// A machine with 128 MiB, its serial line being ours, and no network card.
    pub fn command() -> Command {
        let mut command = Command::new("qemu-system-i386");
        command.args(["-M", "pc", "-accel", "tcg", "-m", "128", "-display", "none", "-no-reboot"]);
        command.args(["-monitor", "none", "-nic", "none", "-serial", "stdio"]);
        command
    }

    /// Starts it; the folder is kept as long as it runs.
    pub fn start(mut command: Command, folder: TempDir) -> Qemu {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        let (sender, text) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let input = child.stdin.take().unwrap();
        Qemu { child, input, text, _folder: folder }
    }
}

impl Console for Qemu {
    type End = &'static str;

    fn go_on(&mut self, text: &mut Vec<u8>) -> Result<(), &'static str> {
        use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
        match self.text.recv_timeout(Duration::from_millis(100)) {
            Ok(bytes) => text.extend(bytes),
            Err(Timeout) => {}
            Err(Disconnected) => return Err("QEMU ended"),
        }
        Ok(())
    }

    fn type_in(&mut self, text: &str) {
        self.input.write_all(text.as_bytes()).unwrap();
        self.input.flush().unwrap();
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A conversation with a shell.
#[derive(Debug)]
pub struct Talk<C: Console> {
    /// The machine.
    pub console: C,
    bytes: Vec<u8>,
}

impl<C: Console> Talk<C> {
    /// Nothing has been said yet.
    pub fn new(console: C) -> Self {
        Talk { console, bytes: Vec::new() }
    }

    /// Types, once this has been said.
    pub fn answer(&mut self, question: &str, answer: &str) {
        self.wait(question);
        self.console.type_in(answer);
    }

    /// All that was said.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    fn until(&mut self, from: usize, wanted: &str) -> Result<String, C::End> {
        let started = Instant::now();
        loop {
            // not the echo of what was typed
            let said = String::from_utf8_lossy(&self.bytes[from..]).into_owned();
            if said.contains(wanted) {
                return Ok(said);
            }
            assert!(started.elapsed() < LIMIT, "no '{wanted}' in time:\n{}", self.text());
            self.console.go_on(&mut self.bytes)?;
        }
    }

    /// Waits until this has been said.
    pub fn wait(&mut self, wanted: &str) {
        if let Err(end) = self.until(0, wanted) {
            panic!("no '{wanted}': {end:?}\n{}", self.text());
        }
    }

    /// Waits for the shell to come up.
    pub fn prompt(&mut self) {
        self.wait(PROMPT);
    }

    /// Types a command; what it said, without the echo and the next prompt, its lines ended by LF.
    pub fn command(&mut self, command: &str) -> String {
        let from = self.bytes.len();
        self.console.type_in(&format!("{command}\n"));
        match self.until(from, PROMPT) {
            Ok(said) => {
                let said = said.replace("\x1b[6n", "").replace('\r', "");
                let (_, answer) = said.split_once('\n').unwrap_or(("", &said));
                answer.rsplit_once(PROMPT).map_or(answer, |(answer, _)| answer).to_owned()
            }
            Err(end) => panic!("'{command}' ended the machine: {end:?}\n{}", self.text()),
        }
    }

    /// Types a last command; how the machine ended.
    pub fn last(&mut self, command: &str) -> C::End {
        let from = self.bytes.len();
        self.console.type_in(&format!("{command}\n"));
        self.end(from)
    }

    /// Runs to the end.
    pub fn end(&mut self, from: usize) -> C::End {
        match self.until(from, "\0never said\0") {
            Ok(_) => unreachable!("nothing says that"),
            Err(end) => end,
        }
    }
}
