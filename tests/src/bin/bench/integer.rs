//! Plain integer code: a boot sector, timed between two marks that it writes to port E9h.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{compare, pagewalk_command};

/// Rounds of the guest's own loop; about 14000 instructions each.
const GUEST_ROUNDS: u32 = 20_000;

/// Runs it everywhere.
pub fn run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/integer.S");
    let assembled = Command::new("gcc")
        .args(["-m32", "-nostdlib", "-static", "-Wl,--build-id=none", "-Wl,--oformat=binary"])
        .args(["-Wl,-Ttext=0x7c00", "-Wl,-N"])
        .arg(format!("-DROUNDS={GUEST_ROUNDS}"))
        .arg("-o")
        .arg(folder.join("boot.bin"))
        .arg(source)
        .status()
        .context("cannot start gcc; install it")?;
    if !assembled.success() {
        bail!("gcc could not assemble {source}");
    }
    let mut floppy = std::fs::read(folder.join("boot.bin"))?;
    floppy.resize(1_474_560, 0);
    std::fs::write(folder.join("floppy.img"), floppy)?;

    let mut sums = Vec::new();
    type Start = fn(&Path) -> Result<Child>;
    let peers: [(&str, Start); 3] = [("pagewalk", pagewalk), ("bochs", bochs), ("qemu-tcg", qemu)];
    compare("plain integer code", "seconds between the guest's marks", &peers, |start| {
        let (seconds, sum) = timed(start(folder)?)?;
        sums.push(sum);
        Ok(seconds)
    })?;
    if sums.iter().any(|sum| *sum != sums[0]) {
        bail!("the peers do not agree on the checksum: {sums:?}");
    }
    Ok(())
}

/// Seconds between the guest's marks, and its checksum.
fn timed(mut child: Child) -> Result<(f64, String)> {
    let mut out = child.stdout.take().context("no output")?;
    let mut byte = [0];
    let mut recent = Vec::new();
    let mut started = None;
    let begun = Instant::now();
    let result = loop {
        if begun.elapsed() > Duration::from_secs(300) || out.read(&mut byte)? == 0 {
            break None;
        }
        recent.push(byte[0]);
        if byte[0] == b'S' {
            started = Some(Instant::now());
            recent.clear();
        }
        // eight digits and the end mark
        let hex = |bytes: &[u8]| bytes.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if let (Some(started), [digits @ .., b'E']) = (started, recent.as_slice())
            && digits.len() == 8
            && hex(digits)
        {
            break Some((started.elapsed().as_secs_f64(), String::from_utf8_lossy(digits).into_owned()));
        }
    };
    let _ = child.kill();
    let _ = child.wait();
    result.context("the benchmark was not finished")
}

fn spawn(command: &mut Command) -> Result<Child> {
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?)
}

fn pagewalk(folder: &Path) -> Result<Child> {
    spawn(
        pagewalk_command()
            .args(["run", "--serial", "none", "--debugcon", "stdio", "--memory", "32M"])
            .arg(folder.join("boot.bin")),
    )
}

fn qemu(folder: &Path) -> Result<Child> {
    spawn(
        Command::new("qemu-system-i386")
            .args(["-accel", "tcg", "-m", "32M", "-display", "none", "-debugcon", "stdio", "-drive"])
            .arg(format!("file={},format=raw,if=floppy", folder.join("floppy.img").display())),
    )
}

fn bochs(folder: &Path) -> Result<Child> {
    let settings = format!(
        "megs: 32\n\
         romimage: file=/usr/share/bochs/BIOS-bochs-latest\n\
         vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest\n\
         boot: floppy\n\
         floppya: 1_44={0}/floppy.img, status=inserted\n\
         display_library: term\n\
         port_e9_hack: enabled=1\n\
         log: {0}/bochs.log\n\
         cpu: count=1, ips=100000000\n\
         clock: sync=none\n",
        folder.display()
    );
    std::fs::write(folder.join("bochsrc"), settings)?;
    std::fs::write(folder.join("rc"), "c\n")?;
    // its display wants a terminal; script(1) lends it one
    spawn(
        Command::new("script")
            .env("TERM", "xterm")
            .arg("-qfc")
            .arg(format!("bochs -q -f {0}/bochsrc -rc {0}/rc", folder.display()))
            .arg("/dev/null"),
    )
}
