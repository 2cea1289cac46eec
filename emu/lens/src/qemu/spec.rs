//! What QEMU is to boot, and on what machine: the same that our own options say.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use pagewalk_x86::model::Model;

use super::cpu;

/// How QEMU's time passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Timing {
    /// By instructions, one nanosecond each, jumping over HLT: every run is the same.
    #[default]
    Counted,
    /// With the host's clock, as fast as it goes.
    Host,
}

/// Who puts the image into QEMU's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Loading {
    /// QEMU's own loader where it has one for the image (Multiboot 1), else ours.
    #[default]
    Qemu,
    /// Ours, so that memory is the same in both from the start.
    Ours,
}

/// A machine for QEMU.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The image as read from its file; unpacked already if it was gzipped.
    pub image: Vec<u8>,
    /// The kernel's command line, without the kernel's name.
    pub command_line: String,
    /// Modules: file and arguments.
    pub modules: Vec<(PathBuf, String)>,
    /// Size of memory.
    pub memory: u64,
    /// The processor model whose features QEMU's gets.
    pub model: Model,
    /// Raw disk images for the IDE controller.
    pub disks: Vec<PathBuf>,
    /// Whether the guest's disk writes go to the files.
    pub write_through: bool,
    /// How time passes.
    pub timing: Timing,
    /// Who loads the image.
    pub loading: Loading,
}

/// The files of a running QEMU, in a folder of its own.
pub(super) struct Files {
    pub folder: PathBuf,
}

impl Files {
    pub fn ram(&self) -> PathBuf {
        self.folder.join("ram")
    }
    pub fn serial(&self) -> PathBuf {
        self.folder.join("serial")
    }
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("kernel")
    }
    pub fn gdb(&self) -> PathBuf {
        self.folder.join("gdb")
    }
    pub fn qmp(&self) -> PathBuf {
        self.folder.join("qmp")
    }
    /// What QEMU says on standard error.
    pub fn said(&self) -> PathBuf {
        self.folder.join("said")
    }
}

impl Spec {
    /// A machine with this image and nothing more.
    pub fn new(image: Vec<u8>, memory: u64, model: Model) -> Spec {
        Spec {
            image,
            command_line: String::new(),
            modules: Vec::new(),
            memory,
            model,
            disks: Vec::new(),
            write_through: false,
            timing: Timing::Counted,
            loading: Loading::Qemu,
        }
    }

    /// QEMU's arguments. `kernel` is what `-kernel` gets: the image, or a stub to be replaced by it.
    pub(super) fn arguments(&self, files: &Files, own_loader: bool) -> Vec<OsString> {
        let mut all: Vec<OsString> = Vec::new();
        let mut add = |option: &str, value: OsString| {
            all.push(option.into());
            all.push(value);
        };
        let of = |before: &str, path: &Path, after: &str| {
            let mut text = OsString::from(before);
            text.push(escaped(path));
            text.push(after);
            text
        };
        add("-accel", "tcg,thread=single".into());
        if self.timing == Timing::Counted {
            add("-icount", "shift=0,sleep=off".into());
        }
        let size = format!(",share=on,size={}", self.memory);
        add("-object", of("memory-backend-file,id=ram,mem-path=", &files.ram(), &size));
        add("-machine", "pc,memory-backend=ram,hpet=off".into());
        add("-m", format!("{}K", self.memory >> 10).into());
        add("-cpu", cpu::option(&self.model).into());
        // the same clock as our board's
        add(
            "-rtc",
            if self.timing == Timing::Counted { "base=2000-01-01,clock=vm" } else { "base=2000-01-01" }
                .into(),
        );
        add("-display", "none".into());
        add("-vga", "std".into());
        add("-serial", of("file:", &files.serial(), ""));
        add("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04".into());
        add("-chardev", of("socket,id=gdb,server=on,wait=off,path=", &files.gdb(), ""));
        add("-gdb", "chardev:gdb".into());
        add("-qmp", of("unix:", &files.qmp(), ",server=on,wait=off"));
        add("-kernel", files.kernel().into());
        if own_loader {
            add("-append", self.command_line.clone().into());
            if !self.modules.is_empty() {
                let modules: Vec<String> = self
                    .modules
                    .iter()
                    .map(|(file, arguments)| {
                        format!("{} {arguments}", file.display()).trim().replace(',', ",,")
                    })
                    .collect();
                add("-initrd", modules.join(",").into());
            }
        }
        let snapshot = if self.write_through { "off" } else { "on" };
        for (index, disk) in self.disks.iter().enumerate() {
            let rest = format!(",format=raw,if=ide,index={index},snapshot={snapshot}");
            add("-drive", of("file=", disk, &rest));
        }
        all.extend(["-nodefaults", "-no-user-config", "-no-reboot", "-S"].map(OsString::from));
        all
    }
}

/// A path within an option that is a list with commas.
fn escaped(path: &Path) -> OsString {
    match path.to_str() {
        Some(text) => text.replace(',', ",,").into(),
        None => path.into(),
    }
}
