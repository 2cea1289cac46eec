//! Machines that Debian's SeaBIOS starts in real mode, and the discs for them.

use std::path::{Path, PathBuf};
use std::process::Command;

use pagewalk_loader::{Handed, Plan};
use pagewalk_pc::board::{Board, Config};
use pagewalk_pc::disk::{Disk, Writes};
use pagewalk_pc::fw_cfg::File;
use pagewalk_pc::machine::{Machine, Parts};
use pagewalk_x86::mmu::tlb::Geometry;
use pagewalk_x86::model;
use tempfile::TempDir;

use crate::fetched;
use crate::linux::{Qemu, Talk};

const BIOS: &str = "/usr/share/seabios/bios-256k.bin";
const VIDEO_BIOS: &str = "/usr/share/seabios/vgabios-stdvga.bin";

/// What the firmware finds.
#[derive(Debug, Default)]
pub struct Drives {
    /// Disks.
    pub disks: Vec<Disk>,
    /// A disc.
    pub cdrom: Option<Disk>,
}

/// A machine with 128 MiB that starts at SeaBIOS's reset vector; `plan` is what waits for the firmware, if anything does. An
/// instruction takes 20 ns, so that timeouts pass quickly.
pub fn machine(drives: Drives, plan: Option<Plan>) -> Talk<Machine<()>> {
    let rom = std::fs::read(BIOS).expect("Debian's package seabios has the firmware");
    let plan = plan.unwrap_or_else(|| pagewalk_loader::firmware(&rom, BIOS).unwrap());
    let mut config = Config {
        memory: 128 << 20,
        rom: Some(rom),
        video_rom: Some(std::fs::read(VIDEO_BIOS).expect("Debian's package seabios has the video BIOS")),
        disks: drives.disks,
        cdrom: drives.cdrom,
        ..Config::default()
    };
    for handed in plan.handed.clone() {
        match handed {
            Handed::Item { selector, data } => config.items.push((selector, data)),
            Handed::File { name, data } => config.files.push(File { name, data }),
        }
    }
    let parts = Parts { model: model::MAX, tlb: Geometry::default(), ps_per_instruction: 20_000 };
    Talk::new(Machine::new(parts, Board::new(config).unwrap(), &plan, ()).unwrap())
}

/// The text screen, its lines joined.
pub fn screen(talk: &Talk<Machine<()>>) -> String {
    talk.console.processor.cpu.bus.screen().join("\n")
}

/// A disc in the making: a folder of files.
#[derive(Debug)]
pub struct Disc {
    folder: TempDir,
}

impl Default for Disc {
    fn default() -> Self {
        Disc { folder: tempfile::tempdir().expect("a temporary folder") }
    }
}

impl Disc {
    /// With this file.
    pub fn file(self, path: &str, data: &[u8]) -> Disc {
        let path = self.folder.path().join("files").join(path);
        std::fs::create_dir_all(path.parent().expect("a file is in a folder")).unwrap();
        std::fs::write(path, data).unwrap();
        self
    }

    /// With this file of Debian's.
    pub fn fetched(self, path: &str, name: &str) -> Disc {
        let data = std::fs::read(fetched(name).unwrap()).unwrap();
        self.file(path, &data)
    }

    /// Bootable by GRUB, from a drive of discs as well as from a disk, as grub-mkrescue makes it.
    pub fn grub(self) -> Image {
        self.make(|files, image| {
            let mut command = Command::new("grub-mkrescue");
            command.arg("-d").arg("/usr/lib/grub/i386-pc").arg("-o").arg(image).arg(files);
            command
        })
    }

    /// Bootable by ISOLINUX, which is among the files.
    pub fn isolinux(self) -> Image {
        let disc = self.fetched("isolinux/isolinux.bin", "isolinux.bin");
        let disc = ["ldlinux.c32", "libutil.c32", "libcom32.c32"]
            .iter()
            .fold(disc, |disc, module| disc.fetched(&format!("isolinux/{module}"), module));
        disc.make(|files, image| {
            let mut command = Command::new("xorriso");
            command.args([
                "-as",
                "mkisofs",
                "-quiet",
                "-b",
                "isolinux/isolinux.bin",
                "-c",
                "isolinux/boot.cat",
            ]);
            command
                .args(["-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "-o"])
                .arg(image)
                .arg(files);
            command
        })
    }

    fn make(self, command: impl Fn(&Path, &Path) -> Command) -> Image {
        let image = self.folder.path().join("image.iso");
        let output = command(&self.folder.path().join("files"), &image).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Image { folder: self.folder }
    }
}

/// A disc's image.
#[derive(Debug)]
pub struct Image {
    folder: TempDir,
}

impl Image {
    /// Its file.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("image.iso")
    }

    /// In a drive. What is written to it stays in memory.
    pub fn open(&self) -> Disk {
        Disk::open(self.path(), Writes::Overlay).unwrap()
    }

    /// In the drive of QEMU's machine with the same memory, display, date and serial port, and nothing beside that can be left out.
    pub fn in_qemu(self) -> Talk<Qemu> {
        let mut command = Qemu::command();
        command.args(["-nodefaults", "-vga", "std", "-rtc", "base=2000-01-01", "-cdrom"]).arg(self.path());
        Talk::new(Qemu::start(command, self.folder))
    }
}
