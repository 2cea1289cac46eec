//! A Linux program as it is: a kernel to run it under, and an initial RAM disk with the program, what it is given, and a first
//! program that starts it and tells how it ended (testbins/linux/init.c).

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{IsTerminal, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use pagewalk_loader::cpio::Archive;
use pagewalk_loader::{Boot, LinuxProgram, is_linux_32, linux_program};

use crate::options::{Run, Serial};
use crate::setup::{Given, name, read};

/// Where Debian's packages put kernels.
const KERNELS: &str = "/boot";
/// What the kernel is told: its messages go to the second serial port, and a panic ends the run. It need not test its ciphers, nor look
/// for hardware that no program asks for.
const COMMAND_LINE: &str =
    "console=ttyS1 quiet panic=-1 rdinit=/pagewalk/init cryptomgr.notests noisapnp i8042.nokbd i8042.noaux";
/// What the first program has room for.
const MOST_ARGUMENTS: usize = 1 << 18;
const MOST_ARGUMENT_COUNT: usize = (1 << 14) - 3;
const MOST_ENVIRONMENT: usize = 1 << 16;
const MOST_VARIABLES: usize = (1 << 12) - 1;
const PATH: &str = "PATH=/bin:/sbin:/usr/bin:/usr/sbin";

/// Which of the program's streams are a terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Streams {
    /// Standard input is; then standard output is, too.
    pub input: bool,
    /// Standard output is.
    pub output: bool,
    /// Standard error is.
    pub errors: bool,
}

impl Streams {
    /// As pagewalk's own are.
    fn here() -> Streams {
        let output = std::io::stdout().is_terminal();
        // whoever reads our output may read the terminal, too
        let input = output && std::io::stdin().is_terminal();
        Streams { input, output, errors: std::io::stderr().is_terminal() }
    }

    /// Whether any is.
    pub fn terminal(self) -> bool {
        self.output || self.errors
    }
}

/// What is to be run, if the image is a Linux program.
pub fn given(options: &Run) -> Result<Option<(Given, Streams)>> {
    let program = &options.program;
    let Some(file) = options.image.as_deref().filter(|_| options.machine.boot == Boot::Auto) else {
        return Ok(None);
    };
    let image = read(file)?;
    let asked = program.kernel.is_some() || !program.arguments.is_empty();
    match linux_program(&image, &name(file))? {
        LinuxProgram::Yes => {}
        LinuxProgram::Perhaps if asked => {}
        _ if asked => bail!(
            "'{}' is no program for 32-bit Linux (an ELF32 executable for the i386), which --kernel and arguments behind -- are for",
            file.display()
        ),
        _ if !program.env.is_empty() || !program.file.is_empty() => bail!(
            "--env and --file are for Linux programs, and '{}' does not say that it is one; with --kernel FILE it is run as one",
            file.display()
        ),
        _ => return Ok(None),
    }
    refuse_what_kernels_have(options)?;
    let (kernel, image_of_kernel) = kernel(program.kernel.as_deref())?;
    let streams = Streams::here();
    let archive = archive(options, file, &image, streams)?;
    let command_line = format!("{COMMAND_LINE} {}", options.machine.append);
    let given = Given {
        name: name(&kernel),
        image: image_of_kernel,
        boot: Boot::Linux,
        command_line: command_line.trim_end().to_string(),
        modules: vec![("the program and its files".to_string(), archive, String::new())],
        serial_ports: 2,
    };
    Ok(Some((given, streams)))
}

/// The program has the streams, and its kernel the RAM disk.
fn refuse_what_kernels_have(options: &Run) -> Result<()> {
    let machine = &options.machine;
    let wrong = [
        ("--bios", machine.bios.is_some()),
        ("--initrd", machine.initrd.is_some()),
        ("--module", !machine.module.is_empty()),
        ("--serial", options.serial.is_some()),
        ("--debugcon", options.debugcon.is_some()),
        ("--firmware-log", options.firmware_log != Serial::None),
        ("--display", options.display != crate::options::DisplayOn::None),
    ];
    match wrong.iter().find(|(_, given)| *given) {
        Some((option, _)) => bail!(
            "{option} is for kernels, and the image is a Linux program; leave it out (or boot the image itself with --boot elf)"
        ),
        None => Ok(()),
    }
}

/// The kernel that is asked for, or the newest there is.
fn kernel(asked: Option<&Path>) -> Result<(PathBuf, Vec<u8>)> {
    if let Some(file) = asked {
        let image = read(file)?;
        if !is_linux_32(&image) {
            bail!(
                "'{}' is no kernel for 32-bit processors: Debian's packages linux-image-686-pae:i386 and linux-image-686:i386 have one",
                file.display()
            );
        }
        return Ok((file.to_path_buf(), image));
    }
    let mut found: Vec<PathBuf> = std::fs::read_dir(KERNELS)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"vmlinuz")))
        .collect();
    found.sort_by(|a, b| by_version(&name(a), &name(b)));
    while let Some(file) = found.pop() {
        // one that is not for everybody to read is as good as not there
        if let Ok(image) = std::fs::read(&file)
            && is_linux_32(&image)
        {
            return Ok((file, image));
        }
    }
    bail!(
        "a Linux program needs a 32-bit Linux kernel, and there is none in {KERNELS}: install Debian's package linux-image-686-pae:i386 \
         (after `dpkg --add-architecture i386`), or name the vmlinuz of one with --kernel"
    )
}

/// Names by the numbers in them, so that 6.10 comes behind 6.9.
fn by_version(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| -> Vec<(String, u64)> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let word = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let number =
                rest[word..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |end| word + end);
            parts.push((rest[..word].to_string(), rest[word..number].parse().unwrap_or(0)));
            rest = &rest[number..];
        }
        parts
    };
    parts(a).cmp(&parts(b))
}

/// Files and folders, each folder made before what is in it.
#[derive(Default)]
struct Tree {
    archive: Archive,
    folders: BTreeSet<PathBuf>,
    size: u64,
}

impl Tree {
    fn folder(&mut self, path: &Path) {
        if path.as_os_str().is_empty() || self.folders.contains(path) {
            return;
        }
        if let Some(parent) = path.parent() {
            self.folder(parent);
        }
        self.folders.insert(path.to_path_buf());
        self.archive.folder(&path.to_string_lossy());
    }

    fn add(&mut self, path: &str, data: &[u8], put: impl FnOnce(&mut Archive, &str, &[u8])) {
        if let Some(parent) = Path::new(path).parent() {
            self.folder(parent);
        }
        self.size += data.len() as u64;
        put(&mut self.archive, path, data);
    }

    fn file(&mut self, path: &str, data: &[u8]) {
        self.add(path, data, Archive::file);
    }

    fn program(&mut self, path: &str, data: &[u8]) {
        self.add(path, data, Archive::program);
    }
}

fn archive(options: &Run, file: &Path, image: &[u8], streams: Streams) -> Result<Vec<u8>> {
    let mut tree = Tree::default();
    for folder in ["dev", "proc", "sys", "tmp", "root", "bin", "etc", "pagewalk"] {
        tree.folder(Path::new(folder));
    }
    // for the kernel, before there are others
    tree.archive.device("dev/console", 5, 1);
    tree.archive.device("dev/null", 1, 3);
    tree.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n");
    tree.file("etc/group", b"root:x:0:\n");
    tree.file("etc/hosts", b"127.0.0.1 localhost pagewalk\n");
    tree.program("pagewalk/init", pagewalk_testbins::INIT);

    let called = file.file_name().unwrap_or(OsStr::new("program")).to_string_lossy();
    let place = format!("bin/{called}");
    tree.program(&place, image);
    let mut arguments = strings([format!("/{place}").as_bytes(), file.as_os_str().as_bytes()]);
    arguments.extend(strings(options.program.arguments.iter().map(|argument| argument.as_bytes())));
    if arguments.len() > MOST_ARGUMENTS || options.program.arguments.len() > MOST_ARGUMENT_COUNT {
        bail!(
            "the program's arguments are too long: there is room for {MOST_ARGUMENT_COUNT} with {MOST_ARGUMENTS} bytes"
        );
    }
    tree.file("pagewalk/arguments", &arguments);
    tree.file("pagewalk/environment", &environment(&options.program.env, streams)?);
    for file in &options.program.file {
        let (here, there) = file.split_once('=').unwrap_or((file, file));
        tree.program(&inside(there)?, &read(Path::new(here))?);
    }
    if !streams.input {
        tree.file("pagewalk/input", &input(options.machine.memory)?);
    }
    for (is_terminal, name) in [(streams.output, "pagewalk/output"), (streams.errors, "pagewalk/errors")] {
        if !is_terminal {
            tree.file(name, b"");
        }
    }
    if streams.terminal() {
        let (columns, rows) =
            crossterm::terminal::size().ok().filter(|size| *size != (0, 0)).unwrap_or((80, 24));
        tree.file("pagewalk/window", &[rows, columns, 0, 0].map(u16::to_le_bytes).concat());
    }
    if tree.size > options.machine.memory {
        bail!(
            "the program and its files are {} MiB, and the machine has {} MiB: give it more with --memory",
            tree.size >> 20,
            options.machine.memory >> 20
        );
    }
    Ok(tree.archive.finish())
}

fn strings<'a>(list: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    list.into_iter().flat_map(|text| text.iter().copied().chain([0])).collect()
}

fn environment(given: &[String], streams: Streams) -> Result<Vec<u8>> {
    let mut variables = vec![PATH.to_string(), "HOME=/root".to_string()];
    if let Some(term) = std::env::var("TERM").ok().filter(|_| streams.terminal()) {
        variables.push(format!("TERM={term}"));
    }
    for variable in given {
        let Some((name, _)) = variable.split_once('=') else {
            bail!("--env '{variable}' gives no value: write NAME=VALUE");
        };
        variables.retain(|other| other.split_once('=').is_none_or(|(other, _)| other != name));
        variables.push(variable.clone());
    }
    let text = strings(variables.iter().map(String::as_bytes));
    if text.len() > MOST_ENVIRONMENT || variables.len() > MOST_VARIABLES {
        bail!(
            "the variables of --env are too long: there is room for {MOST_VARIABLES} with {MOST_ENVIRONMENT} bytes"
        );
    }
    Ok(text)
}

/// A path within the program's file system.
fn inside(path: &str) -> Result<String> {
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                bail!("--file '{path}': write where the program finds it, as FILE=PATH without ..")
            }
        }
    }
    if parts.is_empty() {
        bail!("--file '{path}' names no file for the program");
    }
    Ok(parts.join("/"))
}

/// All of standard input, unless that is the terminal.
fn input(most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        stdin.lock().take(most + 1).read_to_end(&mut bytes).context("cannot read standard input")?;
    }
    if bytes.len() as u64 > most {
        bail!(
            "standard input is longer than the machine's memory of {} MiB: give it more with --memory",
            most >> 20
        );
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_kernels_come_behind_older_ones() {
        let mut names =
            ["vmlinuz-6.10.2-686", "vmlinuz-6.1.0-42-686-pae", "vmlinuz-6.9.12-686", "vmlinuz-5.10.0-9-686"];
        names.sort_by(|a, b| by_version(a, b));
        assert_eq!(
            names,
            ["vmlinuz-5.10.0-9-686", "vmlinuz-6.1.0-42-686-pae", "vmlinuz-6.9.12-686", "vmlinuz-6.10.2-686"]
        );
    }

    #[test]
    fn files_stay_within_the_programs_file_system() {
        assert_eq!(inside("/etc/./issue").unwrap(), "etc/issue");
        assert_eq!(inside("data").unwrap(), "data");
        assert!(inside("../data").is_err() && inside("/").is_err() && inside("").is_err());
    }

    #[test]
    fn variables_that_are_given_replace_the_usual_ones() {
        let none = Streams { input: false, output: false, errors: false };
        let text = environment(&["HOME=/x=y".to_string(), "A=".to_string()], none).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), format!("{PATH}\0HOME=/x=y\0A=\0"));
        assert!(environment(&["A".to_string()], none).is_err());
    }
}
