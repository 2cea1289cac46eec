//! To the image's first instruction: the firmware runs at full speed up to it. QEMU itself starts Multiboot 1 kernels;
//! for all others a stub kernel takes the machine to protected mode, where our loader's plan is put into memory and
//! registers.

use std::time::Duration;

use pagewalk_loader::{Plan, Start};

use super::gdb::Gdb;
use super::process::Qemu;
use super::{Error, Spec};

/// How long the firmware may take.
const FIRMWARE: Duration = Duration::from_secs(60);
/// Multiboot 1: the header's magic value, and the flag that says the header itself tells where to load.
const MAGIC: u32 = 0x1bad_b002;
const ADDRESSES_IN_HEADER: u32 = 1 << 16;
/// How much memory the stub takes, with what QEMU's loader puts behind it.
const ROOM: u64 = 0x1_0000;

/// A Multiboot kernel that does nothing, at an address where the real image is not.
pub(super) struct Stub {
    pub image: Vec<u8>,
    entry: u32,
}

impl Stub {
    pub fn new(spec: &Spec, plan: &Plan) -> Result<Stub, Error> {
        let top = spec.memory.min(0xc000_0000) & !(ROOM - 1);
        let free = |from: u64| plan.places.iter().all(|place| place.end() <= from || place.at >= from + ROOM);
        let at = (0x10_0000 / ROOM..top / ROOM).rev().map(|n| n * ROOM).find(|&at| free(at));
        let at = at
            .ok_or(Error::Image("the image leaves no room in memory for QEMU's start-up code".into()))?
            as u32;
        let entry = at + 32;
        let words = [
            MAGIC,
            ADDRESSES_IN_HEADER,
            0u32.wrapping_sub(MAGIC + ADDRESSES_IN_HEADER),
            at,
            at,
            at + 64,
            at + 64,
            entry,
        ];
        let mut image: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        // cli; hlt; jmp back
        image.extend([0xfa, 0xf4, 0xeb, 0xfd]);
        image.resize(8192, 0);
        Ok(Stub { image, entry })
    }
}

/// Runs the firmware, and leaves QEMU at the first instruction of the image.
pub(super) fn to_first_instruction(qemu: &mut Qemu, plan: &Plan, stub: Option<&Stub>) -> Result<(), Error> {
    let entry = match (stub, plan.start) {
        (Some(stub), _) => stub.entry,
        (None, Start::Protected { eip, .. }) => eip,
        (None, _) => return Err(Error::Image("QEMU starts no such image by itself".into())),
    };
    let ran = qemu.gdb.run_to(entry, FIRMWARE);
    qemu.alive("loading the image")?;
    ran?;
    if stub.is_none() {
        return Ok(());
    }
    for place in &plan.places {
        qemu.write_ram(place.at, &place.data)?;
        let zeros = vec![0; place.zero_fill as usize];
        qemu.write_ram(place.at + place.data.len() as u64, &zeros)?;
    }
    match plan.start {
        Start::Protected { eip, eax, ebx, ecx, edx, esi, edi, ebp, esp } => {
            set_registers(&mut qemu.gdb, [eax, ecx, edx, ebx, esp, ebp, esi, edi, eip, 2])
        }
        Start::Linux { .. } => Err(Error::Image("Linux images cannot be run beside QEMU yet".into())),
        Start::Real { .. } | Start::Reset => {
            Err(Error::Image("images that start in real mode cannot be run beside QEMU yet".into()))
        }
    }
}

/// EAX to EDI, EIP and EFLAGS.
fn set_registers(gdb: &mut Gdb, values: [u32; 10]) -> Result<(), Error> {
    (0..).zip(values).try_for_each(|(number, value)| gdb.set_register(number, value))
}
