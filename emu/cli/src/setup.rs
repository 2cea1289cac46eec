//! From options to machines: files are read once, and as many equal machines as needed are made of them.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pagewalk_loader::{Boot, Handed, Kind, Module, Plan, Request, Start};
use pagewalk_pc::board::{Board, Config};
use pagewalk_pc::disk::{Disk, Writes};
use pagewalk_pc::fw_cfg::File;
use pagewalk_pc::machine::{Machine, Parts, memory_map};
use pagewalk_pc::snapshot;
use pagewalk_x86::model::Model;
use pagewalk_x86::observe::Observer;

use crate::options::MachineOptions;

/// Where Debian's package `seabios` has the video BIOS of the display adapter.
const VIDEO_BIOS: &str = "/usr/share/seabios/vgabios-stdvga.bin";
/// Where Debian's packages `seabios` and `qemu-system-data` have a firmware.
const FIRMWARE: [&str; 2] = ["/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/bios-256k.bin"];

/// Everything to make a machine of, any number of times.
pub struct Setup {
    /// The image, placed.
    pub plan: Plan,
    source: Source,
}

/// An image and what goes with it.
pub struct Given {
    /// What it is called.
    pub name: String,
    /// Its bytes.
    pub image: Vec<u8>,
    /// How it is booted.
    pub boot: Boot,
    /// The kernel's command line.
    pub command_line: String,
    /// Name, bytes and arguments of each module.
    pub modules: Vec<(String, Vec<u8>, String)>,
    /// How many serial ports the board has.
    pub serial_ports: usize,
}

/// Where machines come from.
enum Source {
    /// They are put together.
    Parts(Parts, Box<Config>),
    /// They go on from a snapshot.
    Snapshot(PathBuf),
}

impl Setup {
    /// Reads the image and the files that the options name.
    pub fn new(image: Option<&Path>, options: &MachineOptions) -> Result<Setup> {
        let Some(image) = image else { return Setup::put_together(None, options) };
        let mut modules = Vec::new();
        for module in &options.module {
            let (file, args) = module.split_once('=').unwrap_or((module, ""));
            modules.push((file.to_string(), read(Path::new(file))?, args.to_string()));
        }
        if let Some(file) = &options.initrd {
            modules.push((name(file), read(file)?, String::new()));
        }
        let given = Given {
            name: name(image),
            image: read(image)?,
            boot: options.boot,
            command_line: options.append.clone(),
            modules,
            serial_ports: 1,
        };
        Setup::put_together(Some(&given), options)
    }

    /// Makes the plan and the board for what is at hand.
    pub fn put_together(given: Option<&Given>, options: &MachineOptions) -> Result<Setup> {
        let writes = if options.write_through { Writes::Through } else { Writes::Overlay };
        let disks = options.disk.iter().map(|path| Disk::open(path, writes)).collect::<Result<_, _>>()?;
        let cdrom = match &options.cdrom {
            Some(path) => Some(Disk::open(path, Writes::Overlay)?),
            None => None,
        };
        let mut config = Config { memory: options.memory, disks, cdrom, ..Config::default() };
        let plan = match given {
            Some(given) => {
                config.serial_ports = given.serial_ports;
                let board = Board::new(config.clone())?;
                let modules: Vec<Module<'_>> =
                    given.modules.iter().map(|(name, data, args)| Module { data, args, name }).collect();
                pagewalk_loader::plan(&Request {
                    image: &given.image,
                    name: &given.name,
                    boot: given.boot,
                    command_line: &given.command_line,
                    modules: &modules,
                    memory: memory_map(&board),
                })?
            }
            None => pagewalk_loader::firmware(&read(&firmware(options)?)?, &name(&firmware(options)?))?,
        };
        if plan.start == Start::Reset {
            config.rom = Some(read(&firmware(options)?)?);
            config.video_rom = match &options.vga_bios {
                Some(file) => Some(read(file)?),
                None => std::fs::read(VIDEO_BIOS).ok(),
            };
            for handed in plan.handed.clone() {
                match handed {
                    Handed::Item { selector, data } => config.items.push((selector, data)),
                    Handed::File { name, data } => config.files.push(File { name, data }),
                }
            }
        } else if let Some(bios) = &options.bios {
            anyhow::bail!(
                "the firmware {} would not run: {} starts without one, as {}; leave out --bios, or the image",
                Quoted(bios.display()),
                given.map(|given| given.name.as_str()).unwrap_or_default(),
                plan.kind
            );
        }
        let parts = Parts {
            model: Model { undefined_flags: options.undefined_flags, ..options.cpu },
            tlb: options.tlb,
            ps_per_instruction: options.ns_per_instruction,
        };
        Ok(Setup::of(plan, parts, config))
    }

    /// A setup of parts at hand.
    pub fn of(plan: Plan, parts: Parts, config: Config) -> Setup {
        Setup { plan, source: Source::Parts(parts, Box::new(config)) }
    }

    /// A setup whose machines go on from a snapshot, which names no symbols.
    pub fn loaded(path: &Path) -> Setup {
        let plan = Plan {
            kind: Kind::Raw,
            places: Vec::new(),
            roms: Vec::new(),
            handed: Vec::new(),
            start: Start::Reset,
            symbols: Vec::new(),
            notes: Vec::new(),
        };
        Setup { plan, source: Source::Snapshot(path.into()) }
    }

    /// A machine at its first instruction, or where the snapshot has it.
    pub fn machine<O: Observer>(&self, observer: O) -> Result<Machine<O>> {
        self.build(None, observer)
    }

    /// The same with another model of processor, unless a snapshot says which it is.
    pub fn machine_of<O: Observer>(&self, model: Model, observer: O) -> Result<Machine<O>> {
        self.build(Some(model), observer)
    }

    fn build<O: Observer>(&self, model: Option<Model>, observer: O) -> Result<Machine<O>> {
        match &self.source {
            Source::Parts(parts, config) => {
                let model = model.unwrap_or(parts.model);
                let board = Board::new(config.as_ref().clone())?;
                Ok(Machine::new(Parts { model, ..*parts }, board, &self.plan, observer)?)
            }
            Source::Snapshot(path) => Ok(snapshot::load(path, observer)?),
        }
    }

    /// The name of the symbol at or before an address, with the distance, such as `main+0x12`.
    pub fn symbol_at(&self, address: u32) -> Option<String> {
        let symbols = &self.plan.symbols;
        let after = symbols.partition_point(|s| s.value <= address);
        let symbol = symbols.get(after.checked_sub(1)?)?;
        let distance = address - symbol.value;
        if distance >= symbol.size.max(1) && distance > 0x1_0000 {
            return None;
        }
        Some(if distance == 0 { symbol.name.clone() } else { format!("{}+{distance:#x}", symbol.name) })
    }

    /// The value of a symbol.
    pub fn symbol(&self, name: &str) -> Option<u32> {
        self.plan.symbols.iter().find(|s| s.name == name).map(|s| s.value)
    }
}

/// The firmware that is asked for, or one that is installed.
fn firmware(options: &MachineOptions) -> Result<PathBuf> {
    if let Some(bios) = &options.bios {
        return Ok(bios.clone());
    }
    let installed = FIRMWARE.iter().map(Path::new).find(|path| path.exists());
    installed.map(Path::to_path_buf).with_context(|| {
        format!(
            "this needs a firmware, and there is none at {}: install Debian's package seabios, or name one with --bios",
            FIRMWARE.join(" or ")
        )
    })
}

/// A file as it is called.
pub fn name(path: &Path) -> String {
    path.display().to_string()
}

/// A file's bytes.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", Quoted(path.display())))
}

struct Quoted<T>(T);

impl<T: Display> Display for Quoted<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "'{}'", self.0)
    }
}
