//! Builds every guest for i386 with the C compiler at hand.
//!
//! - `guests/NAME.c` or `.S`: one image each, linked with everything in `guests/lib/` by `guests/lib/guest.ld`.
//! - `story/`: one image, the story kernel; its ring-3 programs in `story/programs/` are linked as flat binaries first and
//!   carried inside the kernel.
//! - `linux/init.c`: the first program of a Linux system that runs one other program.
//!
//! The folders are scanned: a new file is a new guest, and nothing here changes.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Freestanding 32-bit code that uses the integer registers only and runs on a 486.
const CFLAGS: &[&str] = &[
    "-m32",
    "-march=i486",
    "-mtune=pentium3",
    "-std=gnu11",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror=implicit-function-declaration",
    "-ffreestanding",
    "-fno-pic",
    "-fno-pie",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fno-strict-aliasing",
    "-fcf-protection=none",
    "-mgeneral-regs-only",
];

/// Nothing but our own objects, at the addresses our own script gives.
const LDFLAGS: &[&str] = &["-m32", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none"];

/// Why a guest could not be built, in a sentence for the user.
type Result<T> = std::result::Result<T, String>;

fn main() {
    for input in ["build.rs", "guests", "linux", "story"] {
        println!("cargo::rerun-if-changed={input}");
    }
    println!("cargo::rerun-if-env-changed=CC");
    if let Err(message) = build() {
        for line in message.lines() {
            println!("cargo::error={line}");
        }
    }
}

fn build() -> Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this through cargo")?);
    let compiler = Compiler::find(&out)?;

    let story = build_story(&compiler, &out)?;
    let mut text = format!("/// The story kernel.\npub static STORY: Guest = {story};\n\n");
    text += "/// Every guest of `guests/`, by name.\npub static GUESTS: &[Guest] = &[\n";
    for guest in build_guests(&compiler, &out)? {
        let _ = writeln!(text, "    {guest},");
    }
    text += "];\n";
    let init = build_init(&compiler, &out)?;
    let _ = writeln!(
        text,
        "\n/// The first program of a Linux system that runs one other program (linux/init.c says how).\n\
         pub static INIT: &[u8] = include_bytes!({:?});",
        init.display().to_string()
    );
    write(&out.join("images.rs"), &text)
}

/// One image per file of `guests/`; each answer is a Rust expression of type `Guest`.
fn build_guests(compiler: &Compiler, out: &Path) -> Result<Vec<String>> {
    let folder = Path::new("guests");
    let library =
        compiler.compile_all(&sources(&folder.join("lib"))?, &[folder], &fresh(&out.join("lib"))?)?;
    let objects = fresh(&out.join("guests"))?;
    let images = fresh(&out.join("images"))?;
    let script = folder.join("lib/guest.ld");

    let mut guests = Vec::new();
    for source in sources(folder)? {
        let mut parts = vec![compiler.compile(&source, &[folder], &objects)?];
        parts.extend(library.iter().cloned());
        let name = stem(&source);
        let image = images.join(&name);
        compiler.link(&parts, &script, &image, &[])?;
        guests.push(guest(&name, &image, &source)?);
    }
    Ok(guests)
}

/// The first program of a Linux system.
fn build_init(compiler: &Compiler, out: &Path) -> Result<PathBuf> {
    let objects = fresh(&out.join("linux"))?;
    let part = compiler.compile(Path::new("linux/init.c"), &[], &objects)?;
    let image = objects.join("init");
    compiler.link(&[part], Path::new("linux/init.ld"), &image, &[])?;
    Ok(image)
}

/// The story kernel, with its programs inside.
fn build_story(compiler: &Compiler, out: &Path) -> Result<String> {
    let folder = Path::new("story");
    let objects = fresh(&out.join("story"))?;
    let mut parts = compiler.compile_all(&sources(folder)?, &[], &objects)?;
    let table = build_programs(compiler, &folder.join("programs"), &objects)?;
    parts.push(compiler.compile(&table, &[], &objects)?);

    let image = objects.join("story.elf");
    compiler.link(&parts, &folder.join("link.ld"), &image, &[])?;
    guest("story", &image, &folder.join("story.c"))
}

/// Links each program as a flat binary and writes the assembly source that carries them into the kernel:
/// `struct program { const char *name; const void *start, *end; } programs[]`, closed by zeros.
fn build_programs(compiler: &Compiler, folder: &Path, out: &Path) -> Result<PathBuf> {
    let objects = fresh(&out.join("programs"))?;
    let library =
        compiler.compile_all(&sources(&folder.join("lib"))?, &[folder], &fresh(&objects.join("lib"))?)?;
    let mut images = String::from(".section .note.GNU-stack, \"\", @progbits\n.section .rodata\n");
    let mut table = String::from(".globl programs\n.align 4\nprograms:\n");
    for source in sources(folder)? {
        let name = stem(&source);
        let mut parts = vec![compiler.compile(&source, &[folder], &objects)?];
        parts.extend(library.iter().cloned());
        let image = objects.join(format!("{name}.bin"));
        compiler.link(&parts, &folder.join("lib/program.ld"), &image, &["-Wl,--oformat=binary"])?;
        let _ = writeln!(images, "name_{name}: .asciz \"{name}\"");
        let _ = writeln!(images, ".align 4\nimage_{name}: .incbin \"{}\"\nend_{name}:", image.display());
        let _ = writeln!(table, ".long name_{name}, image_{name}, end_{name}");
    }
    let path = out.join("programs.S");
    write(&path, &format!("{images}{table}.long 0, 0, 0\n"))?;
    Ok(path)
}

/// A compiler that was seen to make 32-bit freestanding programs.
struct Compiler {
    /// The program and the arguments that always come first.
    command: Vec<OsString>,
}

impl Compiler {
    /// `$CC` alone if it is set, else the first of the usual names that passes a small trial.
    fn find(out: &Path) -> Result<Compiler> {
        let chosen = env::var("CC").ok().filter(|cc| !cc.trim().is_empty());
        let candidates = match &chosen {
            Some(cc) => vec![cc.as_str()],
            None => vec![
                "gcc",
                "i686-linux-gnu-gcc",
                "clang",
                "clang --target=i386-unknown-linux-gnu -fuse-ld=lld",
                "cc",
            ],
        };
        let folder = fresh(&out.join("trial"))?;
        let source = folder.join("trial.c");
        write(
            &source,
            "int trial = 1;\nvoid entry(void) { trial++; for (;;) __asm__ volatile(\"hlt\"); }\n",
        )?;
        let script = folder.join("trial.ld");
        write(
            &script,
            "ENTRY(entry)\nSECTIONS { . = 0x100000; .all : { *(.text* .rodata* .data* .bss*) } }\n",
        )?;

        let mut tried = Vec::new();
        for candidate in candidates {
            let compiler = Compiler { command: candidate.split_whitespace().map(OsString::from).collect() };
            let trial = compiler
                .compile(&source, &[], &folder)
                .and_then(|object| compiler.link(&[object], &script, &folder.join("trial"), &[]));
            match trial {
                Ok(()) => return Ok(compiler),
                Err(why) => tried.push(why),
            }
        }
        let what = match chosen {
            Some(cc) => format!(
                "CC={cc} cannot build 32-bit x86 programs: unset CC or point it at a compiler that can"
            ),
            None => "no C compiler here can build 32-bit x86 programs, which the guests in testbins/ are"
                .to_string(),
        };
        Err(format!(
            "{what}.\nInstall gcc (Debian and Ubuntu: apt-get install gcc; elsewhere than on x86: gcc-i686-linux-gnu, or clang and \
             lld), or name one with CC=...\nTried: {}",
            tried.join("\nTried: ")
        ))
    }

    fn compile_all(&self, sources: &[PathBuf], include: &[&Path], out: &Path) -> Result<Vec<PathBuf>> {
        sources.iter().map(|source| self.compile(source, include, out)).collect()
    }

    /// `source` to an object in `out`.
    fn compile(&self, source: &Path, include: &[&Path], out: &Path) -> Result<PathBuf> {
        let extension = source.extension().unwrap_or_default().to_string_lossy();
        let object = out.join(format!("{}.{extension}.o", stem(source)));
        let mut command = self.start();
        command.args(CFLAGS).arg("-c").arg("-o").arg(&object).arg(source);
        for folder in include {
            command.arg("-I").arg(folder);
        }
        run(command, source)?;
        Ok(object)
    }

    fn link(&self, objects: &[PathBuf], script: &Path, image: &Path, more: &[&str]) -> Result<()> {
        let mut command = self.start();
        command.args(LDFLAGS).args(more).arg("-T").arg(script).arg("-o").arg(image).args(objects);
        run(command, image)
    }

    fn start(&self) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        command
    }
}

/// Runs one compiler command. Its warnings become cargo's, its failure our error.
fn run(mut command: Command, about: &Path) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{program} failed on {}: {}", about.display(), said.trim()));
    }
    for line in said.lines().filter(|line| line.contains("warning:") && !line.contains("RWX permissions")) {
        println!("cargo::warning={line}");
    }
    Ok(())
}

/// The expression for one guest: its name, its image's bytes, and the first sentence of its source's leading comment.
fn guest(name: &str, image: &Path, source: &Path) -> Result<String> {
    let image = image.to_string_lossy();
    let about = first_sentence(source)?;
    Ok(format!("Guest {{ name: {name:?}, image: include_bytes!({image:?}), about: {about:?} }}"))
}

fn first_sentence(source: &Path) -> Result<String> {
    let text = fs::read_to_string(source).map_err(|error| format!("{}: {error}", source.display()))?;
    let lines = text.lines().map_while(|line| line.strip_prefix("//")).map(str::trim);
    let comment = lines.collect::<Vec<_>>().join(" ");
    let end = comment.find(". ").unwrap_or(comment.len());
    Ok(comment[..end].trim_end_matches('.').to_string())
}

/// The C and assembly files right in `folder`, sorted, so that the same tree gives the same images.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "c" || extension == "S") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// An empty folder at `path`: what an earlier build left there is gone.
fn fresh(path: &Path) -> Result<PathBuf> {
    let _ = fs::remove_dir_all(path);
    fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path.to_path_buf())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
