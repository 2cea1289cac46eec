//! What the commands that run QEMU beside us share.

use std::path::Path;

use anyhow::{Context, Result};
use pagewalk_lens::qemu::Spec;

use crate::options::MachineOptions;
use crate::say::say;

/// QEMU's machine, as much like ours as it can be.
pub fn spec(image: &Path, machine: &MachineOptions) -> Result<Spec> {
    let bytes = std::fs::read(image).with_context(|| format!("cannot read '{}'", image.display()))?;
    let unpacked = pagewalk_loader::unpacked(&bytes, machine.memory)?.into_owned();
    if machine.ns_per_instruction != 1000 {
        say!("an instruction takes a nanosecond in QEMU, whatever --ns-per-instruction says");
    }
    let module = |module: &String| {
        let (file, arguments) = module.split_once('=').unwrap_or((module, ""));
        (file.into(), arguments.to_string())
    };
    Ok(Spec {
        command_line: machine.append.clone(),
        modules: machine.module.iter().map(module).collect(),
        disks: machine.disk.clone(),
        write_through: machine.write_through,
        ..Spec::new(unpacked, machine.memory, machine.cpu)
    })
}
