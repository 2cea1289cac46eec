//! Debian's kernel to a shell: one disc, which each emulator boots through its own firmware and ISOLINUX; timed from the start of the
//! process to the shell's prompt on the serial port, in seconds of processor time. Where the emulator can be told, an instruction takes
//! 10 ns, so that as much virtual time passes everywhere.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pagewalk_tests::firmware::Disc;
use pagewalk_tests::linux::{PROMPT, SHELL, ramdisk};

use crate::{compare, pagewalk_command};

const MENU: &str =
    "DEFAULT shell\nPROMPT 0\nLABEL shell\n KERNEL linux\n INITRD initrd\n APPEND console=ttyS0\n";
/// The longest that a boot may take.
const LIMIT: Duration = Duration::from_secs(1800);
/// Clock ticks of a second in /proc (USER_HZ).
const TICKS: f64 = 100.0;

/// Runs it everywhere.
pub fn run() -> Result<()> {
    let disc = Disc::default()
        .file("isolinux/isolinux.cfg", MENU.as_bytes())
        .fetched("isolinux/linux", "vmlinuz-686-pae")
        .file("isolinux/initrd", &ramdisk(SHELL, &[]))
        .isolinux();
    type Start = fn(&Path, &Path) -> Result<Child>;
    let peers: [(&str, Start); 3] = [("pagewalk", pagewalk), ("bochs", bochs), ("qemu-tcg", qemu)];
    let what = "processor seconds from the start to the shell's prompt";
    compare("linux-image-686-pae from a disc", what, &peers, |start| {
        let folder = tempfile::tempdir()?;
        timed(start(&disc.path(), folder.path())?, &folder.path().join("serial"))
    })
}

/// Processor seconds until the prompt is in the file of the serial output.
fn timed(mut child: Child, serial: &Path) -> Result<f64> {
    let started = Instant::now();
    let seconds = loop {
        let text = std::fs::read(serial).unwrap_or_default();
        let used = processor_seconds(child.id());
        if text.windows(PROMPT.len()).any(|part| part == PROMPT.as_bytes()) {
            break used;
        }
        if started.elapsed() > LIMIT || child.try_wait()?.is_some() {
            let text = String::from_utf8_lossy(&text).into_owned();
            let end: Vec<&str> = text.lines().rev().take(5).collect();
            break Err(anyhow::anyhow!("no prompt; what came last on the serial port: {end:?}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let _ = child.kill();
    let _ = child.wait();
    seconds
}

/// What a process has used so far, by itself and in the kernel (proc(5), "/proc/pid/stat": utime and stime).
fn processor_seconds(process: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = text.rsplit_once(')').context("no process")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let [user, system] = [11, 12].map(|at| fields.get(at).and_then(|field| field.parse::<f64>().ok()));
    match (user, system) {
        (Some(user), Some(system)) => Ok((user + system) / TICKS),
        _ => bail!("/proc/{process}/stat has no times"),
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

fn pagewalk(disc: &Path, folder: &Path) -> Result<Child> {
    let mut command = pagewalk_command();
    command.args(["run", "--memory", "128M", "--ns-per-instruction", "10", "--cdrom"]).arg(disc);
    spawn(command.arg("--serial").arg(folder.join("serial")))
}

fn qemu(disc: &Path, folder: &Path) -> Result<Child> {
    let mut command = Command::new("qemu-system-i386");
    command.args(["-accel", "tcg", "-m", "128M", "-display", "none", "-nic", "none", "-cdrom"]).arg(disc);
    spawn(command.arg("-serial").arg(format!("file:{}", folder.join("serial").display())))
}

fn bochs(disc: &Path, folder: &Path) -> Result<Child> {
    let settings = format!(
        "megs: 128\n\
         romimage: file=/usr/share/bochs/BIOS-bochs-latest\n\
         vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest\n\
         ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14\n\
         ata0-master: type=cdrom, path={0}, status=inserted\n\
         boot: cdrom\n\
         display_library: term\n\
         com1: enabled=1, mode=file, dev={1}/serial\n\
         log: {1}/bochs.log\n\
         cpu: count=1, ips=100000000\n\
         clock: sync=none\n",
        disc.display(),
        folder.display()
    );
    std::fs::write(folder.join("bochsrc"), settings)?;
    std::fs::write(folder.join("rc"), "c\n")?;
    // its display wants a terminal, and somebody who reads it
    let (mut pty, pts) = pty_process::blocking::open()?;
    pty.resize(pty_process::Size::new(50, 160))?;
    let child = pty_process::blocking::Command::new("bochs")
        .env("TERM", "xterm")
        .arg("-q")
        .arg("-f")
        .arg(folder.join("bochsrc"))
        .arg("-rc")
        .arg(folder.join("rc"))
        .spawn(pts)?;
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while matches!(pty.read(&mut bytes), Ok(1..)) {}
    });
    Ok(child)
}
