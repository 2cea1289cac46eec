//! What QEMU's processor is: asked of QEMU, not assumed.

use std::collections::BTreeMap;

use pagewalk_x86::model::Model;
use serde_json::json;

use super::Error;
use super::cpu::{self, PHYSICAL_BITS};
use super::process::Qemu;

/// CPUID.
const CPUID: [u8; 2] = [0x0f, 0xa2];
/// More leaves than any version has.
const MOST_LEAVES: u32 = 0x40;

/// Our model less the features that this QEMU cannot emulate, with its width of physical addresses.
pub fn model(qemu: &mut Qemu, model: Model) -> Result<Model, Error> {
    let cpus = qemu.qmp.execute("query-cpus-fast", json!({}))?;
    let Some(path) = cpus[0]["qom-path"].as_str().map(str::to_string) else {
        return Err(Error::Answer { command: "query-cpus-fast".into(), answer: cpus.to_string() });
    };
    let mut model = model;
    for (feature, name) in cpu::names() {
        if model.has(feature) {
            let has = qemu.qmp.execute("qom-get", json!({ "path": path, "property": name }))?;
            if has == false {
                model.features.remove(feature);
            }
        }
    }
    model.physical_bits = model.physical_bits.min(PHYSICAL_BITS);
    Ok(model)
}

/// What CPUID answers, by leaf and subleaf: QEMU, standing at the image's first instruction in protected mode, is made to
/// run it. Afterwards it stands there as before.
pub fn cpuid(qemu: &mut Qemu) -> Result<BTreeMap<(u32, u32), [u32; 4]>, Error> {
    let gdb = &mut qemu.gdb;
    let kept: Vec<u32> = (0..10).map(|number| gdb.register(number)).collect::<Result<_, _>>()?;
    // at the first instruction itself, which surely is memory
    let at = kept[8];
    let bytes = gdb.read(at, CPUID.len())?;
    gdb.write(at, &CPUID)?;
    let mut leaves = BTreeMap::new();
    let mut ask = |leaf: u32, subleaf: u32| -> Result<[u32; 4], Error> {
        gdb.set_register(0, leaf)?;
        gdb.set_register(1, subleaf)?;
        gdb.set_register(8, at)?;
        gdb.step()?;
        let answer = [gdb.register(0)?, gdb.register(3)?, gdb.register(1)?, gdb.register(2)?];
        leaves.insert((leaf, subleaf), answer);
        Ok(answer)
    };
    for base in [0, 0x4000_0000, 0x8000_0000] {
        let highest = ask(base, 0)?[0].clamp(base, base + MOST_LEAVES);
        for leaf in base + 1..=highest {
            ask(leaf, 0)?;
        }
        if base == 0 {
            for subleaf in 1..5 {
                ask(4, subleaf)?;
            }
            ask(7, 1)?;
            // beyond the highest leaf
            ask(highest + 1, 0)?;
        } else {
            ask(highest + 1, 0)?;
        }
    }
    for (number, value) in (0..).zip(&kept) {
        gdb.set_register(number, *value)?;
    }
    gdb.write(at, &bytes)?;
    Ok(leaves)
}
