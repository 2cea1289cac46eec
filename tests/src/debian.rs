//! Debian's user space on an ext4 disk under Debian's kernels, whose drivers for disk and file system are modules.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::fetched;
use crate::linux::{PROMPT, Start, ramdisk};

/// What the kernel must load to have its root on the disk. (ext4 asks for CRC-32C by the name of the algorithm.)
const MODULES: [&str; 4] = ["crc32c_generic", "ata_piix", "sd_mod", "ext4"];

/// A fresh copy of the image that tests/run.sh made, to be written to.
#[derive(Debug)]
pub struct Root {
    folder: TempDir,
}

impl Default for Root {
    fn default() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        run(Command::new("cp")
            .arg("--sparse=always")
            .arg(fetched("debian.ext4").unwrap())
            .arg(folder.path()));
        Root { folder }
    }
}

impl Root {
    /// The image.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("debian.ext4")
    }

    /// A file in it, read without mounting it.
    pub fn file(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join("file");
        let _ = std::fs::remove_file(&path);
        let request = format!("dump {name} {}", path.display());
        run(system("debugfs").args(["-R", &request]).arg(self.path()));
        path
    }

    /// Says what is wrong with the file system, if anything is.
    pub fn check(&self) -> Result<(), String> {
        let output = system("e2fsck").arg("-fn").arg(self.path()).output().expect("Debian's e2fsprogs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    }

    /// A shell in it under this kernel of `linux-image-FLAVOUR`.
    pub fn shell(&self, flavour: &str, options: &'static str) -> Start {
        let kernel = match flavour {
            "686" => "vmlinuz-686",
            "686-pae" => "vmlinuz-686-pae",
            _ => panic!("'{flavour}' is no flavour of Debian's kernel that is fetched"),
        };
        let modules = in_order(flavour);
        let files: Vec<_> =
            modules.iter().map(|module| (format!("modules/{}", module.name), &module.data)).collect();
        let files: Vec<_> = files.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect();
        let names: Vec<_> = modules.iter().map(|module| module.name.as_str()).collect();
        let init = format!(
            "#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
for module in {}; do insmod /modules/$module; done
while [ ! -b /dev/sda ]; do sleep 0.1; done
mount -t ext4 /dev/sda /mnt
mount --move /dev /mnt/dev
mount -t proc proc /mnt/proc
dmesg -n 5
stty cols 250 rows 50
export PS1='{PROMPT}' HOME=/root LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec switch_root /mnt /bin/bash --norc --noprofile --noediting -i
",
            names.join(" ")
        );
        Start { ramdisk: ramdisk(&init, &files), disk: Some(self.path()), ..Start::shell(kernel, options) }
    }
}

/// Switches the machine off as `poweroff` does, which a minimal Debian is without.
pub const POWER_OFF: &str =
    "sync; mount -o remount,ro / && perl -e 'syscall(88, 0xfee1dead, 672274793, 0x4321fedc)'";

/// SHA-256 of a file of the host's.
pub fn sha256(path: &Path) -> String {
    let said = run(Command::new("sha256sum").arg(path));
    said.split(' ').next().unwrap_or_default().to_owned()
}

struct Module {
    name: String,
    data: Vec<u8>,
}

/// The modules and all that they depend on, each after what it depends on.
fn in_order(flavour: &str) -> Vec<Module> {
    fn add(folder: &Path, name: &str, modules: &mut Vec<Module>) {
        let file = format!("{name}.ko");
        if modules.iter().any(|module| module.name == file) {
            return;
        }
        let path = folder.join(&file);
        let data = std::fs::read(&path).unwrap_or_else(|_| {
            panic!("{} is needed and not there: tests/run.sh names the modules", path.display())
        });
        for needed in depends(&data) {
            add(folder, &needed, modules);
        }
        modules.push(Module { name: file, data });
    }
    let folder = fetched(&format!("modules-{flavour}")).unwrap();
    let mut modules = Vec::new();
    for name in MODULES {
        add(&folder, name, &mut modules);
    }
    modules
}

/// What a module says it depends on, in its section `.modinfo`.
fn depends(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let at =
        module.windows(key.len()).position(|bytes| bytes == key).expect("a module says what it depends on");
    let value = module[at + key.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    value.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// A program that may be where only the administrator looks.
fn system(name: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
