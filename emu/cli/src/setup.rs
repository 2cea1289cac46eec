//! From options to machines: files are read once, and as many equal machines as needed are made of them.

use std::fmt::Display;
use std::path::Path;

use anyhow::{Context, Result};
use pagewalk_loader::{Module, Plan, Request};
use pagewalk_pc::board::{Board, Config};
use pagewalk_pc::disk::{Disk, Writes};
use pagewalk_pc::machine::{Machine, Parts, memory_map};
use pagewalk_x86::model::Model;
use pagewalk_x86::observe::Observer;

use crate::options::MachineOptions;

/// Where Debian's package `seabios` has the video BIOS of the display adapter.
const VIDEO_BIOS: &str = "/usr/share/seabios/vgabios-stdvga.bin";

/// Everything to make a machine of, any number of times.
pub struct Setup {
    /// The image, placed.
    pub plan: Plan,
    parts: Parts,
    config: Config,
}

impl Setup {
    /// Reads the image and the files that the options name.
    pub fn new(image: Option<&Path>, options: &MachineOptions) -> Result<Setup> {
        let writes = if options.write_through { Writes::Through } else { Writes::Overlay };
        let disks = options.disk.iter().map(|path| Disk::open(path, writes)).collect::<Result<_, _>>()?;
        let rom = match &options.bios {
            Some(bios) => Some(read(bios)?),
            None => None,
        };
        let video_rom = match (&options.vga_bios, &options.bios) {
            (Some(file), _) => Some(read(file)?),
            (None, Some(_)) => std::fs::read(VIDEO_BIOS).ok(),
            (None, None) => None,
        };
        let cdrom = match &options.cdrom {
            Some(path) => Some(Disk::open(path, Writes::Overlay)?),
            None => None,
        };
        let config =
            Config { memory: options.memory, disks, cdrom, rom: rom.clone(), video_rom, ..Config::default() };
        let board = Board::new(config.clone())?;
        let plan = match (&options.bios, image) {
            (Some(bios), _) => pagewalk_loader::firmware(&rom.unwrap_or_default(), &name(bios))?,
            (None, Some(image)) => {
                let bytes = read(image)?;
                let mut modules = Vec::new();
                for module in &options.module {
                    let (file, args) = module.split_once('=').unwrap_or((module, ""));
                    modules.push((file, read(Path::new(file))?, args));
                }
                let initrd = match &options.initrd {
                    Some(file) => Some((name(file), read(file)?)),
                    None => None,
                };
                let of_initrd = initrd.iter().map(|(file, data)| Module { data, args: "", name: file });
                let modules: Vec<Module<'_>> = modules
                    .iter()
                    .map(|(file, data, args)| Module { data, args, name: file })
                    .chain(of_initrd)
                    .collect();
                pagewalk_loader::plan(&Request {
                    image: &bytes,
                    name: &name(image),
                    boot: options.boot,
                    command_line: &options.append,
                    modules: &modules,
                    memory: memory_map(&board),
                })?
            }
            (None, None) => anyhow::bail!("neither an image nor --bios was given; name a file to boot"),
        };
        let parts = Parts {
            model: Model { undefined_flags: options.undefined_flags, ..options.cpu },
            tlb: options.tlb,
            ps_per_instruction: options.ns_per_instruction,
        };
        Ok(Setup { plan, parts, config })
    }

    /// A setup of parts at hand.
    pub fn of(plan: Plan, parts: Parts, config: Config) -> Setup {
        Setup { plan, parts, config }
    }

    /// A machine at its first instruction.
    pub fn machine<O: Observer>(&self, observer: O) -> Result<Machine<O>> {
        self.machine_of(self.parts.model, observer)
    }

    /// The same with another model of processor.
    pub fn machine_of<O: Observer>(&self, model: Model, observer: O) -> Result<Machine<O>> {
        let board = Board::new(self.config.clone())?;
        Ok(Machine::new(Parts { model, ..self.parts }, board, &self.plan, observer)?)
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

fn name(path: &Path) -> String {
    path.display().to_string()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", Quoted(path.display())))
}

struct Quoted<T>(T);

impl<T: Display> Display for Quoted<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "'{}'", self.0)
    }
}
