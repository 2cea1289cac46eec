//! The command line.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pagewalk_lens::Topic;
use pagewalk_loader::Boot;
use pagewalk_x86::mmu::tlb::{Geometry, Policy};
use pagewalk_x86::mmu::walk::Kind;
use pagewalk_x86::model::{self, Model};
use pagewalk_x86::undefined::UndefinedFlags;

use crate::script::Script;

const EXAMPLES: &str = "\
Examples:
  pagewalk demo
      a small kernel tells what an operating system does with an MMU
  pagewalk run kernel.elf
      boot a Multiboot, PVH or plain ELF kernel; COM1 is your terminal, Ctrl-A x leaves
  pagewalk run kernel.elf --trace translations --trace-out t.txt
      write down every translation
  pagewalk run vmlinuz --initrd initrd.img --append console=ttyS0
      boot Linux
  pagewalk run ./a.out -- one two
      run a statically linked program for 32-bit Linux under the kernel in /boot
  pagewalk run --cdrom debian.iso --screenshot screen.png
      boot a disc or a --disk from SeaBIOS on, and take a picture at the end
  pagewalk walk kernel.elf --at main 0xc0000000
      draw the page walk of an address when main is reached
  pagewalk run kernel.elf --max-instructions 1G --save half.snapshot
  pagewalk run --load half.snapshot
      stop half way, and go on later as if nothing had been
  pagewalk both kernel.elf
      run it here and in QEMU, and compare text, exit status and memory

Exit status of run: that of the Linux program, 128+N if signal N ended it; and of kernels
  2v+1  the guest wrote v to port F4h
  0     power-off, or a halt for good
  122   a snapshot that is damaged or none
  124   a limit was reached
  125   a bad option, image or file
  126   triple fault
  127   an instruction that is not implemented
  130   Ctrl-C, or Ctrl-A x on a terminal";

/// A 32-bit x86 PC, instruction by instruction, that shows and explains every address translation.
#[derive(Parser, Debug)]
#[command(name = "pagewalk", version, about, after_help = EXAMPLES, max_term_width = 110)]
pub struct Options {
    /// What to do; `demo` when left out.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the story kernel, untagged and tagged, and show what each context switch cost in page walks
    Demo,
    /// Boot an image and run it
    Run(Box<Run>),
    /// Run an image to a point and draw the page walk of each address
    Walk(Box<Walk>),
    /// Run an image here and in QEMU side by side, and stop at the first difference
    Diff(Box<Diff>),
    /// Run an image here and in QEMU, each to its end, and compare what they say, how they end, and memory
    Both(Box<Both>),
}

/// What to boot, and on what machine.
#[derive(Args, Debug, Clone)]
pub struct MachineOptions {
    /// Firmware ROM, mapped to end at 1 MiB and at 4 GiB, entered at the reset vector; when there is no image, or one that starts in
    /// real mode, SeaBIOS where Debian's package has it
    #[arg(long, value_name = "FILE")]
    pub bios: Option<PathBuf>,
    /// Video BIOS in the display adapter's ROM, for the firmware to run; /usr/share/seabios/vgabios-stdvga.bin if it is there
    #[arg(long, value_name = "FILE")]
    pub vga_bios: Option<PathBuf>,
    /// How to boot the image: auto, multiboot1, multiboot2, linux, linux16, pvh, elf, raw[:ADDRESS], raw32[:ADDRESS]
    #[arg(long, default_value = "auto", value_parser = |s: &str| s.parse::<Boot>())]
    pub boot: Boot,
    /// Kernel command line
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    pub append: String,
    /// Initial RAM disk for a Linux kernel
    #[arg(long, value_name = "FILE", conflicts_with = "module")]
    pub initrd: Option<PathBuf>,
    /// A module for the kernel, with its arguments; may be given several times
    #[arg(long, value_name = "FILE[=ARGS]")]
    pub module: Vec<String>,
    /// Size of memory
    #[arg(long, short, value_name = "SIZE", default_value = "128M", value_parser = parse_size)]
    pub memory: u64,
    /// Processor: 386, 486, pentium, p6, p4 or max
    #[arg(long, value_name = "MODEL", default_value = "max", value_parser = parse_model)]
    pub cpu: Model,
    /// Flags that the manual leaves undefined: `silicon` as AMD's family 1Ah leaves them, `common` only where Intel's processors
    /// are known to do the same and otherwise the opposite, `manual` always the opposite
    #[arg(long, value_name = "silicon|common|manual", default_value = "silicon", value_parser = parse_undefined_flags)]
    pub undefined_flags: UndefinedFlags,
    /// A raw disk image on the IDE controller; may be given up to four times. The file is not written to
    #[arg(long, value_name = "FILE")]
    pub disk: Vec<PathBuf>,
    /// Let the guest's disk writes go to the disk files
    #[arg(long)]
    pub write_through: bool,
    /// A disc (ISO image) in a CD-ROM drive, master of the secondary channel
    #[arg(long, value_name = "FILE")]
    pub cdrom: Option<PathBuf>,
    /// Shape of the TLB: entries=N, ways=N, large=N, policy=lru|plru|fifo|random, split, unified, tagged
    #[arg(long, value_name = "SHAPE", default_value = "", hide_default_value = true, value_parser = parse_tlb)]
    pub tlb: Geometry,
    /// Virtual time that each instruction takes, in nanoseconds (fractions allowed)
    #[arg(long, value_name = "NS", default_value = "1", value_parser = parse_rate)]
    pub ns_per_instruction: u64,
}

/// What says what the machine is, and so can't be said of one that a snapshot holds.
const MACHINE: [&str; 19] = [
    "image",
    "bios",
    "vga_bios",
    "boot",
    "append",
    "initrd",
    "module",
    "memory",
    "cpu",
    "undefined_flags",
    "disk",
    "write_through",
    "cdrom",
    "tlb",
    "ns_per_instruction",
    "kernel",
    "env",
    "file",
    "arguments",
];

/// What a Linux program runs under, and what it is given.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Linux programs")]
pub struct ProgramOptions {
    /// The 32-bit Linux kernel that the image, a statically linked program, runs under; the newest one in /boot if the image says that it
    /// is such a program. Its standard input (read to the end first, unless it is the terminal), output and exit status are passed on
    #[arg(long, value_name = "FILE", conflicts_with = "boot")]
    pub kernel: Option<PathBuf>,
    /// A variable of the program's environment; may be given several times. Without it there are PATH, HOME and, on a terminal, TERM
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// A file that the program finds at PATH, or where it is here; may be given several times
    #[arg(long, value_name = "FILE[=PATH]")]
    pub file: Vec<String>,
    /// The program's arguments
    #[arg(last = true, value_name = "ARGUMENT", conflicts_with = "boot")]
    pub arguments: Vec<OsString>,
}

/// `pagewalk run`.
#[derive(Args, Debug)]
pub struct Run {
    /// Kernel image: Linux, Multiboot 1 or 2, PVH, ELF32, boot sector or flat binary, gzipped or not; or a statically linked program for
    /// 32-bit Linux. Without one the firmware boots from --disk or --cdrom
    #[arg(required_unless_present_any = ["bios", "disk", "cdrom", "load"])]
    pub image: Option<PathBuf>,
    #[command(flatten)]
    pub machine: MachineOptions,
    #[command(flatten)]
    pub program: ProgramOptions,
    /// Go on from a snapshot; the machine and its disks are what they were, so options that say otherwise are refused
    #[arg(long, value_name = "FILE", conflicts_with_all = MACHINE)]
    pub load: Option<PathBuf>,
    /// Save the machine at the end, however the run ends, for --load to go on from
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Where COM1 goes; standard input and output if left out, nowhere with --display terminal
    #[arg(long, value_name = "stdio|none|FILE")]
    pub serial: Option<Serial>,
    /// Where the VGA's screen is shown while the machine runs; `terminal` also makes the terminal's keys those of the PC's
    /// keyboard
    #[arg(
        long,
        value_enum,
        value_name = "none|terminal",
        default_value = "none",
        hide_possible_values = true
    )]
    pub display: DisplayOn,
    /// What is typed on the PC's keyboard: text, keys such as <enter>, <f10> or <ctrl-c>, and what to wait for: <after TEXT>
    /// on the screen, <at COUNT> instructions, <wait 500ms>
    #[arg(long, value_name = "SCRIPT", value_parser = |s: &str| s.parse::<Script>())]
    pub keys: Option<Script>,
    /// Where the debug console (port E9h) goes; standard error if left out
    #[arg(long, value_name = "stdio|none|FILE")]
    pub debugcon: Option<Serial>,
    /// Where a firmware's own messages (port 402h) go
    #[arg(long, value_name = "stdio|none|FILE", default_value = "none")]
    pub firmware_log: Serial,
    /// Stop after this many instructions in all, those before a snapshot among them
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub max_instructions: Option<u64>,
    /// Stop after this many seconds of the host's time
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<f64>,
    /// What to trace: translations, instructions, exceptions, interrupts, control, io (several with commas)
    #[arg(long, value_name = "WHAT", value_delimiter = ',', value_parser = |s: &str| s.parse::<Topic>())]
    pub trace: Vec<Topic>,
    /// Where the trace goes (standard error if left out)
    #[arg(long, value_name = "FILE", requires = "trace")]
    pub trace_out: Option<PathBuf>,
    /// How the trace is written
    #[arg(long, value_enum, default_value = "text", requires = "trace")]
    pub trace_format: TraceFormat,
    /// Trace only these linear addresses; may be given several times
    #[arg(long, value_name = "FROM[-TO]", value_parser = parse_range, requires = "trace")]
    pub trace_address: Vec<RangeInclusive<u32>>,
    /// Trace only these rings
    #[arg(long, value_name = "RING", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(0..4), requires = "trace")]
    pub trace_ring: Vec<u8>,
    /// Trace only these kinds of translations: read, write, fetch
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = parse_kind, requires = "trace")]
    pub trace_kind: Vec<Kind>,
    /// Trace only between these instruction counts
    #[arg(long, value_name = "FROM-TO", value_parser = parse_window, requires = "trace")]
    pub trace_window: Option<RangeInclusive<u64>>,
    /// Explain the first exceptions of these vectors (all if none is given), up to --explain-count
    #[arg(long, value_name = "VECTOR,..", value_delimiter = ',', num_args = 0..=1, require_equals = true)]
    pub explain: Option<Vec<u8>>,
    /// How many exceptions to explain
    #[arg(long, value_name = "N", default_value_t = 3, requires = "explain")]
    pub explain_count: usize,
    /// Show figures at the end: speed, TLB, walks, exceptions, interrupts, code blocks
    #[arg(long)]
    pub stats: bool,
    /// Write the figures as JSON, to a file or (-) to standard output; docs/console.md lists its fields
    #[arg(long, value_name = "FILE|-")]
    pub stats_json: Option<PathBuf>,
    /// Print a hash of the machine's whole state at the end
    #[arg(long)]
    pub state_hash: bool,
    /// Show the text screen at the end
    #[arg(long)]
    pub screen: bool,
    /// Write a picture of the screen, at the end or at --screenshot-at
    #[arg(long, value_name = "FILE.png")]
    pub screenshot: Option<PathBuf>,
    /// Instruction count at which the picture is made
    #[arg(long, value_name = "N", value_parser = parse_count, requires = "screenshot")]
    pub screenshot_at: Option<u64>,
}

/// `pagewalk walk`.
#[derive(Args, Debug)]
pub struct Walk {
    /// Kernel image: Multiboot 1 or 2, PVH, ELF32, boot sector or flat binary, gzipped or not
    pub image: PathBuf,
    #[command(flatten)]
    pub machine: MachineOptions,
    /// Linear addresses or symbols to walk
    #[arg(value_name = "ADDRESS", required = true)]
    pub addresses: Vec<String>,
    /// Where to stop and look: a symbol, a linear address (0x...), or an instruction count
    #[arg(long, value_name = "POINT")]
    pub at: Option<String>,
    /// Give up if the point is not reached after this many instructions
    #[arg(long, value_name = "N", default_value = "1000000000", value_parser = parse_count)]
    pub max_instructions: u64,
}

/// `pagewalk diff`.
#[derive(Args, Debug)]
pub struct Diff {
    /// Kernel image: Multiboot 1 or 2, PVH, ELF32 or flat 32-bit binary, gzipped or not
    pub image: PathBuf,
    #[command(flatten)]
    pub machine: MachineOptions,
    /// Stop after this many instructions
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub instructions: Option<u64>,
    /// Compare all of memory each time after this many instructions
    #[arg(long, value_name = "N", default_value = "1M", value_parser = parse_count)]
    pub checkpoint: u64,
    /// How often to compare registers; by block is several times faster, and looks for a difference again by instruction
    #[arg(long, value_enum, default_value = "instruction")]
    pub by: DiffBy,
}

const BOTH_STATUS: &str = "\
Exit status:
  0     the same serial text, end and memory
  1     the serial text differs
  2     the text is the same, and they end differently
  3     text and end are the same, and memory differs
  124   no difference, but both still ran when their time was over
  125   a bad option, image or file; QEMU is missing
  127   an instruction that is not implemented
  130   Ctrl-C

Not compared is what cannot be the same: memory from 640 KiB to 1 MiB, and what QEMU's firmware left elsewhere and nobody changed.
Left out, and counted, are differences by known deviations of QEMU in accessed and dirty bits and in RF of saved flags.";

/// `pagewalk both`.
#[derive(Args, Debug)]
#[command(after_help = BOTH_STATUS)]
pub struct Both {
    /// Kernel image: Multiboot 1 or 2, PVH, ELF32 or flat 32-bit binary, gzipped or not
    pub image: PathBuf,
    #[command(flatten)]
    pub machine: MachineOptions,
    /// How many seconds of the host's time each may take
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub timeout: f64,
}

/// How often `pagewalk diff` compares registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum DiffBy {
    /// After each instruction
    Instruction,
    /// After each of QEMU's translation blocks
    Block,
}

/// Where a stream of the guest's bytes goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serial {
    /// Standard input and output.
    Stdio,
    /// Nowhere.
    None,
    /// Into a file.
    File(PathBuf),
}

impl From<&str> for Serial {
    fn from(text: &str) -> Serial {
        match text {
            "stdio" => Serial::Stdio,
            "none" => Serial::None,
            file => Serial::File(file.into()),
        }
    }
}

/// Where the screen is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum DisplayOn {
    /// Nowhere.
    None,
    /// On the terminal pagewalk runs on.
    Terminal,
}

/// Formats of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TraceFormat {
    /// Lines for reading.
    Text,
    /// A JSON object a line; docs/trace-schema.md has the schema.
    Json,
}

fn parse_size(text: &str) -> Result<u64, String> {
    let error = || format!("'{text}' is no size; write a number with K, M or G, such as 128M");
    let (digits, shift) = match text.strip_suffix(['K', 'k', 'M', 'm', 'G', 'g']) {
        Some(digits) => {
            let shift = match text.as_bytes()[text.len() - 1].to_ascii_uppercase() {
                b'K' => 10,
                b'M' => 20,
                _ => 30,
            };
            (digits, shift)
        }
        None => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| error())?;
    number.checked_mul(1 << shift).ok_or_else(error)
}

fn parse_model(text: &str) -> Result<Model, String> {
    model::by_name(text).ok_or_else(|| {
        let names: Vec<&str> = model::ALL.iter().map(|m| m.name).collect();
        format!("'{text}' is no processor model; there are: {}", names.join(", "))
    })
}

fn parse_undefined_flags(text: &str) -> Result<UndefinedFlags, String> {
    let names = UndefinedFlags::ALL.map(|(name, _)| name).join(", ");
    UndefinedFlags::by_name(text).ok_or_else(|| format!("'{text}' is no choice; there are: {names}"))
}

fn parse_tlb(text: &str) -> Result<Geometry, String> {
    let mut geometry = Geometry::default();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let number =
            |value: &str| value.parse::<u32>().map_err(|_| format!("'{value}' in '{part}' is no number"));
        match part.split_once('=') {
            Some(("entries", value)) => geometry.entries = number(value)?,
            Some(("ways", value)) => geometry.ways = number(value)?,
            Some(("large", value)) => geometry.large = number(value)?,
            Some(("policy", value)) => {
                geometry.policy = match value {
                    "lru" => Policy::Lru,
                    "plru" => Policy::Plru,
                    "fifo" => Policy::Fifo,
                    "random" => Policy::Random,
                    _ => return Err(format!("'{value}' is no policy; there are: lru, plru, fifo, random")),
                }
            }
            None if part == "split" => geometry.split = true,
            None if part == "unified" => geometry.split = false,
            None if part == "tagged" => geometry.tagged = true,
            _ => {
                return Err(format!(
                    "'{part}' says nothing about a TLB; write entries=N, ways=N, large=N, policy=P, split, unified or tagged"
                ));
            }
        }
    }
    geometry.check()?;
    Ok(geometry)
}

/// Picoseconds from nanoseconds.
fn parse_rate(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(ns) if (0.001..=1_000_000.0).contains(&ns) => Ok((ns * 1000.0).round() as u64),
        _ => Err(format!("'{text}' is no time from 0.001 to 1000000 nanoseconds")),
    }
}

/// A count, perhaps with k, M or G.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    let (digits, factor) = match plain.strip_suffix(['k', 'K', 'M', 'G']) {
        Some(digits) => {
            let factor = match plain.as_bytes()[plain.len() - 1] {
                b'k' | b'K' => 1_000,
                b'M' => 1_000_000,
                _ => 1_000_000_000,
            };
            (digits, factor)
        }
        None => (plain.as_str(), 1),
    };
    let number: Option<u64> = digits.parse().ok().and_then(|n: u64| n.checked_mul(factor));
    number.ok_or_else(|| format!("'{text}' is no count; write a number, perhaps with k, M or G"))
}

/// An address in hex (with or without 0x) or decimal with a leading `=`.
pub fn parse_address(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    u32::from_str_radix(digits, 16)
        .map_err(|_| format!("'{text}' is no 32-bit address; write it in hex, such as 0xc0000000"))
}

fn parse_range(text: &str) -> Result<RangeInclusive<u32>, String> {
    match text.split_once('-') {
        Some((from, to)) => {
            let (from, to) = (parse_address(from)?, parse_address(to)?);
            if from > to { Err(format!("'{text}' ends before it begins")) } else { Ok(from..=to) }
        }
        None => {
            let at = parse_address(text)?;
            Ok(at..=at)
        }
    }
}

fn parse_window(text: &str) -> Result<RangeInclusive<u64>, String> {
    let (from, to) = text.split_once('-').ok_or_else(|| format!("'{text}' is no window; write FROM-TO"))?;
    let from = if from.is_empty() { 0 } else { parse_count(from)? };
    let to = if to.is_empty() { u64::MAX } else { parse_count(to)? };
    if from > to { Err(format!("'{text}' ends before it begins")) } else { Ok(from..=to) }
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    match text {
        "read" => Ok(Kind::Read),
        "write" => Ok(Kind::Write),
        "fetch" => Ok(Kind::Fetch),
        _ => Err(format!("'{text}' is no kind of access; there are: read, write, fetch")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn sizes_counts_and_shapes_are_read_or_refused() {
        assert_eq!(parse_size("128M"), Ok(128 << 20));
        assert_eq!(parse_size("4096"), Ok(4096));
        assert!(
            parse_size("12Q").is_err() && parse_size("99999999999G").is_err() && parse_size("M").is_err()
        );
        assert_eq!(parse_count("20M"), Ok(20_000_000));
        assert_eq!(parse_count("1_000"), Ok(1000));
        let tlb = parse_tlb("entries=128,ways=8,policy=fifo,unified,tagged").unwrap();
        assert_eq!(
            (tlb.entries, tlb.ways, tlb.policy, tlb.split, tlb.tagged),
            (128, 8, Policy::Fifo, false, true)
        );
        assert!(
            parse_tlb("entries=63").is_err()
                && parse_tlb("size=3").is_err()
                && parse_tlb("ways=128").is_err()
        );
        assert_eq!(parse_range("1000-1fff"), Ok(0x1000..=0x1fff));
        assert!(parse_range("2000-1fff").is_err());
        assert_eq!(parse_rate("0.25"), Ok(250));
        assert!(parse_rate("0").is_err() && parse_rate("nan").is_err());
    }
}
