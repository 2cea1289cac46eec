//! Linux by its 16-bit entry (Linux x86 Boot Protocol, "The Real-Mode Kernel Code"): the image's own setup code runs in real
//! mode and calls the firmware. A firmware must have run before, so the parts wait in the firmware configuration device, together
//! with a boot ROM of our own, which the firmware starts instead of a disk: it fetches the parts into memory and jumps to the setup.

use super::{Header, LOADED_HIGH, ONE_MIB, UNKNOWN_LOADER, at};
use crate::bytes::patch_u32;
use crate::draft::Draft;
use crate::layout::PAGE;
use crate::plan::{Handed, Kind, Plan, Start};
use crate::refusal::{Cause, Refusal};

/// Offsets into the setup header that only the real-mode entry uses.
mod setup {
    pub const OLD_COMMAND_LINE: usize = 0x20;
    pub const MOVE_SIZE: usize = 0x212;
    pub const HEAP_END: usize = 0x224;
}

/// The magic number of an old command line's pointer.
const OLD_COMMAND_LINE: u16 = 0xa33f;
/// CAN_USE_HEAP: `heap_end_ptr` is valid.
const CAN_USE_HEAP: u8 = 0x80;
/// Protocol 2.01: the heap. 2.02: a command line anywhere, and setup code that runs where it is put.
const WITH_HEAP: u16 = 0x0201;
const WITH_COMMAND_LINE: u16 = 0x0202;
/// What the protocol's sample puts between the heap and the command line.
const BETWEEN: u32 = 0x200;
/// Setup code and its boot sector may be so long.
const SETUP_MOST: usize = 0x8000;
/// Where kernels that stay below 1 MiB go.
const LOW_KERNEL: u64 = 0x1_0000;
/// The firmware keeps tables for itself at the end of memory.
const FIRMWARE_KEEPS: u64 = ONE_MIB;

// Items of the firmware configuration device, by QEMU's numbers.
const INITRD: u16 = 0x12;
const KERNEL: u16 = 0x11;
const COMMAND_LINE: u16 = 0x15;
const SETUP: u16 = 0x18;
/// The boot ROM's name.
const ROM: &str = "genroms/pagewalk-linux.bin";

pub(crate) fn plan(mut draft: Draft) -> Result<Plan, Refusal> {
    let header = Header::parse(draft.image)?;
    let request = draft.request;
    let text = request.command_line.as_bytes();
    let most = header.command_line_most();
    if text.len() > most {
        let found = format!("a command line of {} bytes", text.len());
        return Err(Refusal::new(Cause::Request, found, format!("this kernel takes {most} at most")));
    }
    let high = header.flags() & LOADED_HIGH != 0;
    let new = high && header.version >= WITH_COMMAND_LINE;
    let (base, heap_end) = if new { (0x1_0000_u32, 0xe000_u32) } else { (0x9_0000, 0x9800) };
    let kernel_at = if high { ONE_MIB } else { LOW_KERNEL };
    let kernel_end = kernel_at + header.kernel.len() as u64;
    if !high && kernel_end > u64::from(base) {
        let found = format!("a kernel of {:#x} bytes for memory below 640 KiB", header.kernel.len());
        return Err(Refusal::malformed(found, "at most 80000h fit there; a bzImage goes above 1 MiB"));
    }
    let ramdisk = ramdisk(&header, &draft, kernel_end.max(ONE_MIB))?;

    let mut code = draft
        .image
        .get(..header.setup_end())
        .filter(|code| code.len() <= SETUP_MOST)
        .ok_or_else(|| {
            let found = format!("setup code of {:#x} bytes", header.setup_end());
            Refusal::malformed(found, "it has 8000h bytes at most, all of them in the file")
        })?
        .to_vec();
    code[at::LOADER] = UNKNOWN_LOADER;
    let command_line = base + heap_end;
    let mut put16 = |at: usize, value: u32| {
        if let Some(field) = code.get_mut(at..at + 2) {
            field.copy_from_slice(&(value as u16).to_le_bytes());
        }
    };
    if header.version >= WITH_HEAP {
        put16(setup::HEAP_END, heap_end - BETWEEN);
    }
    if header.version < WITH_COMMAND_LINE {
        put16(setup::OLD_COMMAND_LINE, OLD_COMMAND_LINE.into());
        put16(setup::OLD_COMMAND_LINE + 2, heap_end);
        put16(setup::MOVE_SIZE, heap_end + text.len() as u32 + 1);
    }
    if header.version >= WITH_HEAP {
        code[at::FLAGS] |= CAN_USE_HEAP;
    }
    if header.version >= WITH_COMMAND_LINE {
        patch_u32(&mut code, at::COMMAND_LINE, command_line);
    }
    if let Some((at, data)) = ramdisk {
        patch_u32(&mut code, at::RAMDISK, at);
        patch_u32(&mut code, at::RAMDISK_SIZE, data.len() as u32);
    }

    let mut text = text.to_vec();
    text.push(0);
    let mut parts = vec![
        (SETUP, base, code),
        (KERNEL, kernel_at as u32, header.kernel.to_vec()),
        (COMMAND_LINE, command_line, text),
    ];
    parts.extend(ramdisk.map(|(at, data)| (INITRD, at, data.to_vec())));
    let rom = boot_rom((base >> 4) as u16, heap_end as u16, &parts);
    draft.notes.push(format!(
        "Linux boot protocol {}.{:02}: real-mode entry at {:04x}:0000, through the firmware",
        header.version >> 8,
        header.version & 0xff,
        (base >> 4) + 0x20
    ));
    let mut plan = draft.finish(Kind::LinuxRealMode, Start::Reset);
    plan.handed = parts.into_iter().map(|(selector, _, data)| Handed::Item { selector, data }).collect();
    plan.handed.push(Handed::File { name: ROM.into(), data: rom });
    plan.handed.push(Handed::File { name: "bootorder".into(), data: format!("/rom@{ROM}\n\0").into_bytes() });
    Ok(plan)
}

/// The initial RAM disk, and where it goes: as high as the kernel and the firmware allow.
fn ramdisk<'r>(header: &Header, draft: &Draft<'r>, from: u64) -> Result<Option<(u32, &'r [u8])>, Refusal> {
    let Some(module) = super::ramdisk(draft.request)? else { return Ok(None) };
    let len = module.data.len() as u64;
    let most = header.ramdisk_most();
    let memory = draft.request.memory.available();
    let top =
        memory.iter().map(|ram| ram.end).filter(|&end| end <= crate::memory::FOUR_GIB).max().unwrap_or(0);
    let end = top.saturating_sub(FIRMWARE_KEEPS).min(most);
    let at = end.saturating_sub(len) & !(PAGE - 1);
    if at < from {
        let found =
            format!("no room for the initial RAM disk {}: {len:#x} bytes above the kernel", module.name);
        return Err(Refusal::memory(found, "give the machine more memory with --memory"));
    }
    Ok(Some((at as u32, module.data)))
}

/// Where the ROM's parts lie.
const PNP: usize = 0x20;
const ENTRY: usize = 0x40;
const TABLE: usize = 0x80;
const SECTOR: usize = 512;

/// An expansion ROM with a bootstrap entry vector (Plug and Play BIOS Specification, "Expansion Header for Plug and Play").
fn boot_rom(segment: u16, stack: u16, parts: &[(u16, u32, Vec<u8>)]) -> Vec<u8> {
    let mut rom = vec![0_u8; SECTOR];
    rom[..6].copy_from_slice(&[0x55, 0xaa, 1, 0xcb, 0, 0]); // one sector; RETF: nothing to initialise
    rom[0x1a] = PNP as u8;
    let mut header = [0_u8; 32];
    header[..6].copy_from_slice(b"$PnP\x01\x02");
    header[26] = ENTRY as u8;
    header[9] = 0_u8.wrapping_sub(header.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)));
    rom[PNP..PNP + 32].copy_from_slice(&header);

    let [low, high] = segment.to_le_bytes();
    let [setup_low, setup_high] = (segment + 0x20).to_le_bytes();
    let [stack_low, stack_high] = stack.to_le_bytes();
    #[rustfmt::skip]
    let code = [
        0xfa,                                     // cli
        0xfc,                                     // cld
        0x66, 0x31, 0xc0,                         // xor eax, eax
        0x8c, 0xc8,                               // mov ax, cs
        0x66, 0xc1, 0xe0, 0x04,                   // shl eax, 4
        0x66, 0x05, TABLE as u8, 0, 0, 0,         // add eax, table
        0xb9, parts.len() as u8, 0x00,            // mov cx, parts
        // next:
        0x66, 0x50,                               // push eax
        0x66, 0x0f, 0xc8,                         // bswap eax
        0xba, 0x18, 0x05,                         // mov dx, 518h: the DMA address, most significant byte first
        0x66, 0xef,                               // out dx, eax: starts the transfer
        0x66, 0x58,                               // pop eax
        0x66, 0x83, 0xc0, 0x10,                   // add eax, 16
        0xe2, 0xee,                               // loop next
        0xb8, low, high,                          // mov ax, segment
        0x8e, 0xd8,                               // mov ds, ax
        0x8e, 0xc0,                               // mov es, ax
        0x8e, 0xe0,                               // mov fs, ax
        0x8e, 0xe8,                               // mov gs, ax
        0x8e, 0xd0,                               // mov ss, ax
        0x66, 0xbc, stack_low, stack_high, 0, 0,  // mov esp, stack
        0xea, 0, 0, setup_low, setup_high,        // jmp segment+20h:0
    ];
    rom[ENTRY..ENTRY + code.len()].copy_from_slice(&code);

    // requests to the device: select and read, length, address, each most significant byte first
    for (index, (selector, at, data)) in parts.iter().enumerate() {
        let control = u32::from(*selector) << 16 | 0b1010;
        let request = [control, data.len() as u32, 0, *at];
        for (word, bytes) in request.into_iter().zip(rom[TABLE + index * 16..].chunks_exact_mut(4)) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
    }
    let sum = rom.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    rom[SECTOR - 1] = 0_u8.wrapping_sub(sum);
    rom
}
