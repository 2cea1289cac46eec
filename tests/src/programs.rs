//! 32-bit Linux programs, run natively by this host's kernel and by `pagewalk run PROGRAM`.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use crate::fetched;

/// The kernel that programs run under here.
const KERNEL: &str = "vmlinuz-686-pae";

/// How a program ended and what it said.
#[derive(PartialEq, Eq, Debug)]
pub struct Ended {
    /// Its exit status, as a shell tells it.
    pub status: i32,
    /// What it wrote to standard output.
    pub output: String,
    /// What it wrote to standard error.
    pub errors: String,
}

impl From<Output> for Ended {
    fn from(ended: Output) -> Ended {
        // one character a byte, whatever it is
        let text = |bytes: Vec<u8>| bytes.into_iter().map(char::from).collect();
        let status = ended.status.code().or(ended.status.signal().map(|signal| 128 + signal));
        Ended { status: status.unwrap(), output: text(ended.stdout), errors: text(ended.stderr) }
    }
}

/// The command as it is shipped, built if it is not.
pub fn pagewalk() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--release", "--locked", "--quiet", "--message-format=json"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let messages = String::from_utf8(built.stdout).unwrap();
        let mut executables =
            messages.split("\"executable\":\"").filter_map(|rest| rest.split_once('"')).map(|(path, _)| path);
        executables.find(|path| path.ends_with("/pagewalk")).expect("cargo tells where the command is").into()
    })
}

/// Builds one of `tests/programs`; the options say how it is linked.
pub fn compiled(source: &str, options: &[&str], folder: &Path) -> PathBuf {
    let program = folder.join(source.trim_end_matches(".c"));
    let status = Command::new("gcc")
        .args(["-m32", "-O2", "-Wall", "-pthread", "-D_GNU_SOURCE", "-o"])
        .arg(&program)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(source))
        .args(options)
        .arg("-lm")
        .status()
        .expect("gcc is there");
    assert!(status.success(), "gcc cannot build {source}: is gcc-multilib installed?");
    program
}

/// Runs a program natively, where it finds no others.
pub fn natively(program: &Path, arguments: &[&str], input: &[u8]) -> Ended {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/nowhere").env("HOME", "/root");
    ended(command, input)
}

/// Runs it here, with these options of `pagewalk run`.
pub fn here(program: &Path, options: &[&str], arguments: &[&str], input: &[u8]) -> Ended {
    let mut command = Command::new(pagewalk());
    command.arg("run").args(options).arg("--kernel").arg(fetched(KERNEL).unwrap()).arg(program);
    if !arguments.is_empty() {
        command.arg("--").args(arguments);
    }
    ended(command, input)
}

fn ended(mut command: Command, input: &[u8]) -> Ended {
    let name = command.get_program().to_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", OsStr::display(&name)));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // who does not read its input closes it
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.into()
}
