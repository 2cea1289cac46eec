//! The processor of the host as an oracle: a 32-bit child process without a libc (runner/) that runs cases natively.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, anyhow, bail};

use crate::case::{Case, End, Outcome};
use crate::world::{Kind, PAGE, PAGES, Rights, World, trailer};

/// The runner, compiled by build.rs; empty where it could not be.
const RUNNER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/runner"));

// what execve(2) may say
const EACCES: i32 = 13;
const ENOEXEC: i32 = 8;

/// EFLAGS.TF: a case that starts with it must be entered through a signal frame.
const TF: u32 = 1 << 8;
/// What EFLAGS always has in ring 3 under Linux: the fixed bit and IF.
const ALWAYS: u32 = 0x202;

/// A child process that runs cases of one world.
pub struct Native {
    world: World,
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
    buffer: Vec<u8>,
}

impl Native {
    /// Starts a runner. The error says what this host lacks.
    pub fn new(world: &World) -> Result<Native> {
        if RUNNER.is_empty() {
            bail!(
                "cases run natively only on x86 Linux with a compiler for it: install gcc-multilib and build again"
            );
        }
        let folder = tempfile::tempdir().context("cannot make a temporary folder for the native runner")?;
        let path = folder.path().join("runner");
        let mut file: File = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o700)
            .open(&path)
            .context("cannot write the native runner")?;
        file.write_all(RUNNER)?;
        drop(file);
        let start = || Command::new(&path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = start();
        // another thread may be between fork and exec with the file still open for writing
        for _ in 0..100 {
            match &child {
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                    child = start();
                }
                _ => break,
            }
        }
        let mut child = child.map_err(|error| {
            let why = match error.raw_os_error() {
                Some(ENOEXEC) => {
                    "the kernel runs no 32-bit programs (it needs CONFIG_IA32_EMULATION)".to_string()
                }
                Some(EACCES) => format!("nothing can be executed in {}: set TMPDIR", folder.path().display()),
                _ => error.to_string(),
            };
            anyhow!("the native runner cannot be started: {why}")
        })?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the runner has no pipes")
        };
        let mut native = Native { world: world.clone(), child, to, from, buffer: Vec::new() };
        let world = native.world_on_the_wire()?;
        // the runner tells when it has set up all of it
        let ready = native.to.write_all(&world).and_then(|()| native.from.read_exact(&mut [0; 4]));
        if ready.is_err() {
            let status = native.child.wait().context("the native runner is lost")?;
            bail!("the native runner could not be set up: {}", what_is_missing(status));
        }
        Ok(native)
    }

    fn world_on_the_wire(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let word = |bytes: &mut Vec<u8>, value: u32| bytes.extend(value.to_le_bytes());
        word(&mut bytes, self.world.ldt.len() as u32);
        word(&mut bytes, PAGES.len() as u32);
        for (n, d) in self.world.ldt.iter().enumerate() {
            let is_empty = !d.present && !d.access && !d.big && !d.pages && d.base == 0 && d.limit == 0;
            if is_empty && d.kind == Kind::Data {
                bail!(
                    "modify_ldt(2) takes local descriptor {n} for a request to clear it: give it a base or a limit"
                );
            }
            word(&mut bytes, n as u32);
            word(&mut bytes, d.base);
            word(&mut bytes, d.limit);
            // struct user_desc: seg_32bit, contents, read_exec_only, limit_in_pages, seg_not_present, useable
            let flags = d.big as u32
                | (d.kind as u32) << 1
                | (!d.access as u32) << 3
                | (d.pages as u32) << 4
                | (!d.present as u32) << 5;
            word(&mut bytes, flags);
        }
        for (at, rights) in PAGES {
            word(&mut bytes, at);
            word(
                &mut bytes,
                match rights {
                    Rights::All => 0,
                    Rights::ReadOnly => 1,
                    Rights::None => 2,
                },
            );
            bytes.extend(self.world.pattern(at));
        }
        Ok(bytes)
    }

    /// Hands cases to the runner, which starts at once; [`Native::collect`] must follow.
    pub fn submit(&mut self, cases: &[Case]) -> Result<()> {
        self.buffer.clear();
        self.buffer.extend([0; 8]);
        for case in cases {
            let start = self.buffer.len();
            put(&mut self.buffer, &self.world, case);
            let size = (self.buffer.len() - start) as u32;
            self.buffer[start..start + 4].copy_from_slice(&size.to_le_bytes());
        }
        let size = self.buffer.len() as u32 - 8;
        self.buffer[..4].copy_from_slice(&(cases.len() as u32).to_le_bytes());
        self.buffer[4..8].copy_from_slice(&size.to_le_bytes());
        if self.to.write_all(&self.buffer).is_err() {
            let status = self.child.wait()?;
            bail!("the native runner had ended ({status}) before a batch of {} cases", cases.len());
        }
        Ok(())
    }

    /// What came of the cases submitted, in their order.
    pub fn collect(&mut self, cases: &[Case]) -> Result<Vec<Outcome>> {
        let mut size = [0; 4];
        if self.from.read_exact(&mut size).is_err() {
            let status = self.child.wait()?;
            bail!("the native runner ended ({status}) in a batch of {} cases", cases.len());
        }
        self.buffer.resize(u32::from_le_bytes(size) as usize, 0);
        self.from.read_exact(&mut self.buffer).context("the native runner ended early")?;
        let mut at = 0;
        cases
            .iter()
            .map(|case| {
                let bytes = self.buffer.get(at..).context("the native runner's answer is cut short")?;
                let (mut outcome, used) = answer(case, bytes)?;
                if outcome.end == End::Fell {
                    outcome.eip = self.world.eip(case).wrapping_add(case.code.len() as u32);
                }
                at += used;
                Ok(outcome)
            })
            .collect()
    }

    /// Runs cases. If one of them kills the runner, the error tells which, and a new runner is there.
    pub fn run(&mut self, cases: &[Case]) -> Result<Vec<Outcome>> {
        match self.submit(cases).and_then(|()| self.collect(cases)) {
            Ok(outcomes) => Ok(outcomes),
            Err(error) => {
                *self = Native::new(&self.world.clone())?;
                if cases.len() == 1 {
                    return Err(error.context(format!("this case did it: {:x?}", cases[0])));
                }
                let (first, second) = cases.split_at(cases.len() / 2);
                let mut outcomes = self.run(first)?;
                outcomes.extend(self.run(second)?);
                Ok(outcomes)
            }
        }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // it may be in the middle of something; nothing of it is needed any more
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a runner's status means that ended before it was ready (`require` in runner.c).
fn what_is_missing(status: ExitStatus) -> String {
    match status.code() {
        Some(24) => "the world has too many pages or local descriptors".to_string(),
        Some(25) => "modify_ldt(2) is refused (the kernel needs CONFIG_MODIFY_LDT_SYSCALL)".to_string(),
        Some(35) => "seccomp(2) filters are refused (the kernel needs CONFIG_SECCOMP_FILTER)".to_string(),
        Some(step @ 26..=34) => format!("the kernel refuses memory, signals or a timer (step {step})"),
        _ => format!("it ended with {status}"),
    }
}

/// One case as runner.c's `struct wire` has it.
fn put(bytes: &mut Vec<u8>, world: &World, case: &Case) {
    let mut word = |value: u32| bytes.extend(value.to_le_bytes());
    let [es, cs, ss, ds, fs, gs] = case.selectors.map(u32::from);
    let behind = behind(world, case);
    word(0); // the size, known later
    word(case.fpu.is_some() as u32);
    word((case.eflags & TF != 0) as u32);
    word(case.at);
    word((case.code.len() + behind.len()) as u32);
    case.regs.iter().for_each(|&reg| word(reg));
    word(world.eip(case));
    word(case.eflags | ALWAYS);
    [es, cs, ss, ds, fs, gs].into_iter().for_each(&mut word);
    word(case.memory.len() as u32);
    bytes.extend(&case.code);
    bytes.extend(&behind);
    pad(bytes);
    for (at, part) in &case.memory {
        bytes.extend(at.to_le_bytes());
        bytes.extend((part.len() as u32).to_le_bytes());
        bytes.extend(part);
        pad(bytes);
    }
    if let Some(fpu) = &case.fpu {
        bytes.extend(&fpu[..]);
    }
}

fn pad(bytes: &mut Vec<u8>) {
    while !bytes.len().is_multiple_of(4) {
        bytes.push(0);
    }
}

/// The trailer as far as there are pages for it.
pub(crate) fn behind(world: &World, case: &Case) -> Vec<u8> {
    let mut behind = trailer(world.is_big(case.selectors[1]));
    let end = case.at.wrapping_add(case.code.len() as u32);
    let is_there = |at: u32| PAGES.iter().any(|&(page, _)| at.wrapping_sub(page) < PAGE);
    let room = (0..behind.len() as u32).take_while(|&n| is_there(end.wrapping_add(n))).count();
    behind.truncate(room);
    behind
}

/// Reads one answer; how many bytes it took.
fn answer(case: &Case, bytes: &[u8]) -> Result<(Outcome, usize)> {
    const FELL: u32 = 0;
    const FAULTED: u32 = 1;
    const ENDLESS: u32 = 2;
    let word = |n: usize| -> Result<u32> {
        let at = bytes.get(4 * n..4 * n + 4).context("the native runner's answer is cut short")?;
        Ok(u32::from_le_bytes([at[0], at[1], at[2], at[3]]))
    };
    let size = word(0)? as usize * 4;
    let (kind, vector, code, cr2) = (word(1)?, word(2)? as u8, word(3)?, word(4)?);
    let end = match kind {
        FELL => End::Fell,
        FAULTED => fault(vector, code, cr2),
        ENDLESS => End::Endless,
        _ => bail!(
            "the state of a case cannot be loaded: exception {vector}, error code {code:#x}, in the runner at {:#x}: {case:x?}",
            word(5)?
        ),
    };
    let mut regs = [0; 8];
    for (n, reg) in regs.iter_mut().enumerate() {
        *reg = word(7 + n)?;
    }
    let mut selectors = [0; 6];
    for (n, selector) in selectors.iter_mut().enumerate() {
        *selector = word(15 + n)? as u16;
    }
    let eip = word(5)?;
    let mut eflags = word(6)?;
    if kind == FELL {
        selectors[1] = case.selectors[1];
        eflags &= !0x1_0000;
    }
    let mut written: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut at = 22;
    for _ in 0..word(21)? {
        let (start, count) = (word(at)?, word(at + 1)? as usize);
        let run =
            bytes.get(4 * at + 8..4 * at + 8 + count).context("the native runner's answer is cut short")?;
        match written.last_mut() {
            Some((last, joined)) if *last + joined.len() as u32 == start => joined.extend(run),
            _ => written.push((start, run.to_vec())),
        }
        at += 2 + count.div_ceil(4);
    }
    let mut fpu = None;
    if case.fpu.is_some() {
        let image = bytes.get(4 * at..4 * at + 512).context("the native runner's answer is cut short")?;
        fpu = Some(Box::new(<[u8; 512]>::try_from(image)?));
    }
    Ok((Outcome { end, regs, eip, eflags, selectors, written, fpu }, size))
}

/// Error code and CR2 count only where the vector has them: Linux leaves older values in the frame.
fn fault(vector: u8, code: u32, cr2: u32) -> End {
    let has_code = matches!(vector, 8 | 10..=14 | 17);
    End::Fault { vector, code: if has_code { code } else { 0 }, cr2: if vector == 14 { cr2 } else { 0 } }
}
