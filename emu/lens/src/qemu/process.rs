//! The process: QEMU started on a [`Spec`], its files, its end.

use std::fs::File;
use std::io::{PipeReader, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use pagewalk_loader::{Kind, Plan};
use serde_json::json;

use super::gdb::Gdb;
use super::qmp::Qmp;
use super::spec::{Files, Loading, Spec};
use super::{Error, PROGRAM, boot};

/// A running QEMU. Dropping it ends it and removes its files.
pub struct Qemu {
    child: Child,
    files: Files,
    /// Its control socket.
    pub qmp: Qmp,
    /// Its GDB stub.
    pub gdb: Gdb,
    ram: File,
    memory: u64,
    status: Option<ExitStatus>,
    _folder: tempfile::TempDir,
}

/// Which log QEMU writes, from when it is switched on.
pub enum Log {
    /// None.
    None,
    /// Into a pipe that we read, with this value of `-dfilter`.
    Piped(Option<String>),
}

impl Qemu {
    /// The version that is installed, such as `(7, 2)`.
    pub fn version() -> Result<(u32, u32), Error> {
        let output =
            Command::new(PROGRAM).arg("--version").stdin(Stdio::null()).output().map_err(not_started)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = |part: Option<&str>| part?.parse().ok();
        let version = text.split_whitespace().find_map(|word| {
            let mut parts = word.split('.');
            Some((number(parts.next())?, number(parts.next())?))
        });
        version.ok_or(Error::Answer { command: "--version".into(), answer: text })
    }

    /// Starts QEMU and brings it to the first instruction of the image, where it stands still. `plan` is our own loader's
    /// plan of the same image: QEMU loads Multiboot 1 kernels itself if it may, all else is
    /// put into its memory by us.
    pub fn boot(spec: &Spec, plan: &Plan) -> Result<Qemu, Error> {
        Ok(Qemu::boot_logged(spec, plan, Log::None)?.0)
    }

    /// The same, with a log.
    pub fn boot_logged(spec: &Spec, plan: &Plan, log: Log) -> Result<(Qemu, Option<PipeReader>), Error> {
        let own_loader = plan.kind == Kind::Multiboot1 && spec.loading == Loading::Qemu;
        let stub = if own_loader { None } else { Some(boot::Stub::new(spec, plan)?) };
        let kernel = stub.as_ref().map_or(spec.image.as_slice(), |stub| &stub.image);
        let (mut qemu, log) = Qemu::start(spec, kernel, own_loader, log)?;
        boot::to_first_instruction(&mut qemu, plan, stub.as_ref())?;
        Ok((qemu, log))
    }

    fn start(
        spec: &Spec,
        kernel: &[u8],
        own_loader: bool,
        log: Log,
    ) -> Result<(Qemu, Option<PipeReader>), Error> {
        const DOING: &str = "prepare a folder for QEMU's files";
        let folder = tempfile::Builder::new().prefix("pagewalk").tempdir().map_err(Error::io(DOING))?;
        let files = Files { folder: folder.path().to_path_buf() };
        std::fs::write(files.kernel(), kernel).map_err(Error::io(DOING))?;
        let ram = File::options().read(true).write(true).create_new(true).open(files.ram());
        let ram = ram.map_err(Error::io(DOING))?;
        ram.set_len(spec.memory).map_err(Error::io(DOING))?;
        let said = File::create(files.said()).map_err(Error::io(DOING))?;
        let mut command = Command::new(PROGRAM);
        command.args(spec.arguments(&files, own_loader)).stdin(Stdio::null()).stderr(said);
        let reader = match log {
            Log::None => {
                command.stdout(Stdio::null());
                None
            }
            Log::Piped(filter) => {
                if let Some(filter) = filter {
                    command.args(["-dfilter", &filter]);
                }
                // nothing else is written to standard output
                let (reader, writer) = std::io::pipe().map_err(Error::io("make a pipe for QEMU's log"))?;
                command.stdout(writer).args(["-D", "/dev/fd/1"]);
                Some(reader)
            }
        };
        let mut child = command.spawn().map_err(not_started)?;
        drop(command);
        let connected = (|| {
            let mut alive = || still_runs(&mut child, &files, "starting");
            let qmp = Qmp::connect(&files.qmp(), &mut alive)?;
            Ok((qmp, Gdb::connect(&files.gdb(), &mut alive)?))
        })();
        let (qmp, gdb) = match connected {
            Ok(both) => both,
            Err(error) => {
                end(&mut child);
                return Err(error);
            }
        };
        let memory = spec.memory;
        Ok((Qemu { child, files, qmp, gdb, ram, memory, status: None, _folder: folder }, reader))
    }

    /// Lets it run on.
    pub fn resume(&mut self) -> Result<(), Error> {
        self.qmp.execute("cont", json!({})).map(drop)
    }

    /// Whether it has ended, and how.
    pub fn status(&mut self) -> Result<Option<ExitStatus>, Error> {
        if self.status.is_none() {
            self.status = self.child.try_wait().map_err(Error::io("ask whether QEMU still runs"))?;
        }
        Ok(self.status)
    }

    /// Waits until it ends, for `limit` at most; `None` when it still runs then.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>, Error> {
        let end = Instant::now() + limit;
        loop {
            let status = self.status()?;
            if status.is_some() || Instant::now() >= end {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the guest sent on COM1 so far.
    pub fn serial(&self) -> Vec<u8> {
        // before the first byte there may be no file
        std::fs::read(self.files.serial()).unwrap_or_default()
    }

    /// What it wrote to standard error so far.
    pub fn said(&self) -> String {
        said(&self.files)
    }

    /// Size of its memory.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Reads its memory, by offset into RAM (below 3 GiB: the physical address); also after it has ended.
    pub fn read_ram(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        self.ram.read_exact_at(into, offset).map_err(Error::io("read QEMU's memory"))
    }

    /// Writes its memory. QEMU does not notice that code it has already translated changes.
    pub fn write_ram(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.ram.write_all_at(bytes, offset).map_err(Error::io("write QEMU's memory"))
    }

    /// Reads physical memory that is not in the RAM file, such as ROMs, while it stands still.
    pub fn read_physical(&mut self, at: u64, len: u64) -> Result<Vec<u8>, Error> {
        let path: PathBuf = self.files.folder.join("part");
        self.qmp.execute("pmemsave", json!({ "val": at, "size": len, "filename": path }))?;
        let mut bytes = Vec::new();
        const DOING: &str = "read QEMU's ROMs";
        File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(Error::io(DOING))?;
        Ok(bytes)
    }

    /// An error if it has ended.
    pub fn alive(&mut self, doing: &'static str) -> Result<(), Error> {
        still_runs(&mut self.child, &self.files, doing)
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // it may have ended by itself
    let _ = child.kill();
    let _ = child.wait();
}

fn not_started(error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound { Error::Missing } else { Error::Start(error) }
}

fn said(files: &Files) -> String {
    let bytes = std::fs::read(files.said()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim().to_string()
}

fn still_runs(child: &mut Child, files: &Files, doing: &'static str) -> Result<(), Error> {
    match child.try_wait().map_err(Error::io("ask whether QEMU still runs"))? {
        None => Ok(()),
        Some(status) => Err(Error::Died { doing, status: status.to_string(), said: said(files) }),
    }
}
