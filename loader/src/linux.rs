//! Linux, by the 32-bit entry of the Linux x86 Boot Protocol ("32-bit Boot Protocol"): the protected-mode part of a bzImage
//! goes to where it wants to be, ESI points to `boot_params` (the "zero page") and GDTR to a table with the two segments that
//! the protocol asks for. No code of the image's real-mode part runs, and no firmware is asked.

pub(crate) mod real;

use crate::bytes::{patch_u32, u16_at, u32_at};
use crate::draft::Draft;
use crate::layout::PAGE;
use crate::memory::FOUR_GIB;
use crate::plan::{Kind, Plan, Start};
use crate::refusal::{Cause, Refusal};
use crate::request::{Module, Request};

/// Offsets into the setup header, the same in the file and in `boot_params`.
mod at {
    pub const SETUP_SECTORS: usize = 0x1f1;
    pub const PARAGRAPHS: usize = 0x1f4;
    pub const SIGNATURE: usize = 0x1fe;
    pub const JUMP: usize = 0x200;
    pub const MAGIC: usize = 0x202;
    pub const VERSION: usize = 0x206;
    pub const LOADER: usize = 0x210;
    pub const FLAGS: usize = 0x211;
    pub const CODE32_START: usize = 0x214;
    pub const RAMDISK: usize = 0x218;
    pub const RAMDISK_SIZE: usize = 0x21c;
    pub const COMMAND_LINE: usize = 0x228;
    pub const RAMDISK_MOST: usize = 0x22c;
    pub const ALIGNMENT: usize = 0x230;
    pub const RELOCATABLE: usize = 0x234;
    pub const COMMAND_LINE_SIZE: usize = 0x238;
    pub const XLOADFLAGS: usize = 0x236;
    pub const PREFERRED: usize = 0x258;
    pub const INIT_SIZE: usize = 0x260;
}

/// Offsets into `boot_params`, outside the setup header.
mod params {
    pub const EXT_MEM_K: usize = 0x002;
    pub const VIDEO_MODE: usize = 0x006;
    pub const VIDEO_COLUMNS: usize = 0x007;
    pub const VIDEO_LINES: usize = 0x00e;
    pub const IS_VGA: usize = 0x00f;
    pub const VIDEO_POINTS: usize = 0x010;
    pub const ALT_MEM_K: usize = 0x1e0;
    pub const E820_ENTRIES: usize = 0x1e8;
    pub const E820_TABLE: usize = 0x2d0;
    pub const E820_MOST: usize = 128;
    pub const SIZE: usize = 0x1000;
}

/// "HdrS".
const MAGIC: &[u8] = b"HdrS";
/// Protocol 2.03: how high an initial RAM disk may lie. 2.05: relocatable kernels. 2.06: how long a command line may be.
const WITH_RAMDISK_MOST: u16 = 0x0203;
const WITH_ALIGNMENT: u16 = 0x0205;
const WITH_COMMAND_LINE_SIZE: u16 = 0x0206;
/// Protocol 2.10: where the kernel would rather be, and how much memory it needs to unpack itself. Images of older protocols are
/// entered in real mode: many that call themselves Linux (boot loaders, disk emulators) have no other entry.
const WITH_INIT_SIZE: u16 = 0x020a;
/// LOADED_HIGH: the protected-mode part goes above 1 MiB.
const LOADED_HIGH: u8 = 1;
/// XLF_KERNEL_64: a 64-bit kernel, with an entry for 64-bit loaders.
const XLF_KERNEL_64: u16 = 1;
/// A loader without a number of its own.
const UNKNOWN_LOADER: u8 = 0xff;
const ONE_MIB: u64 = 0x10_0000;
const SECTOR: usize = 512;
/// Low memory for tables and texts, behind what a real-mode kernel would occupy.
const LOW: std::ops::Range<u64> = 0x1_0000..0x9_0000;
/// GDT: null, unused, `__BOOT_CS` (10h) and `__BOOT_DS` (18h), both flat.
const GDT: [u64; 4] = [0, 0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

/// Whether the setup header is there: "HdrS" at 202h behind the boot sector's signature.
pub(crate) fn is_linux(image: &[u8]) -> bool {
    u16_at(image, at::SIGNATURE) == Some(0xaa55) && image.get(at::MAGIC..at::MAGIC + 4) == Some(MAGIC)
}

/// Whether an image is a Linux kernel for 32-bit processors: one with a setup header that does not say XLF_KERNEL_64.
pub fn is_linux_32(image: &[u8]) -> bool {
    is_linux(image) && u16_at(image, at::XLOADFLAGS).is_some_and(|flags| flags & XLF_KERNEL_64 == 0)
}

struct Header<'i> {
    /// The image up to the setup header's end.
    bytes: &'i [u8],
    version: u16,
    /// What is loaded.
    kernel: &'i [u8],
}

impl<'i> Header<'i> {
    fn parse(image: &'i [u8]) -> Result<Self, Refusal> {
        if !is_linux(image) {
            let found = "no Linux setup header";
            let accepted = "accepted is a bzImage, with \"HdrS\" at 202h";
            return Err(Refusal::new(Cause::NotRecognised, found, accepted).at(at::MAGIC));
        }
        let cut = |found: String| Refusal::malformed(found, "the file is cut off: get it whole");
        let version =
            u16_at(image, at::VERSION).ok_or_else(|| cut("a setup header without its end".into()))?;
        let byte = |at: usize| image.get(at).copied().unwrap_or(0);
        // the byte of the jump over the header counts from behind the jump
        let end = at::MAGIC + usize::from(byte(at::JUMP + 1));
        let bytes = image.get(..end).ok_or_else(|| cut(format!("a setup header that ends at {end:#x}")))?;
        let start = setup_end(image);
        let size = u32_at(image, at::PARAGRAPHS).unwrap_or(0) as usize * 16;
        let rest = image.get(start..).unwrap_or_default();
        // the last paragraph need not be whole
        if rest.is_empty() || rest.len() + 15 < size {
            let found =
                format!("{size:#x} bytes of kernel from {start:#x} on, of which {:#x} are there", rest.len());
            return Err(cut(found).at(at::PARAGRAPHS));
        }
        Ok(Header { bytes, version, kernel: rest })
    }

    /// A field that protocol `since` has brought, if the header is as new and as long as that.
    fn field(&self, at: usize, since: u16) -> Option<u32> {
        (self.version >= since).then(|| u32_at(self.bytes, at)).flatten()
    }

    fn flags(&self) -> u8 {
        self.bytes.get(at::FLAGS).copied().unwrap_or(0)
    }

    /// Where the setup code ends and the kernel begins in the file.
    fn setup_end(&self) -> usize {
        setup_end(self.bytes)
    }

    /// How many bytes a command line may have.
    fn command_line_most(&self) -> usize {
        self.field(at::COMMAND_LINE_SIZE, WITH_COMMAND_LINE_SIZE).unwrap_or(255) as usize
    }

    /// The first address behind an initial RAM disk at its highest.
    fn ramdisk_most(&self) -> u64 {
        u64::from(self.field(at::RAMDISK_MOST, WITH_RAMDISK_MOST).unwrap_or(0x37ff_ffff)) + 1
    }

    fn is_relocatable(&self) -> bool {
        self.bytes.get(at::RELOCATABLE).is_some_and(|&byte| byte != 0)
    }
}

/// Where the setup code ends: its sectors and the boot sector before them. 0 stands for 4, for kernels older than the field.
fn setup_end(image: &[u8]) -> usize {
    let sectors = match image.get(at::SETUP_SECTORS).copied().unwrap_or(0) {
        0 => 4,
        sectors => usize::from(sectors),
    };
    (sectors + 1) * SECTOR
}

/// Plans for the entry that the image's protocol is known to have: the 32-bit one, or for old images the one in real mode.
pub(crate) fn detected(draft: Draft) -> Result<Plan, Refusal> {
    let header = Header::parse(draft.image)?;
    if header.version < WITH_INIT_SIZE || header.flags() & LOADED_HIGH == 0 {
        return real::plan(draft);
    }
    plan(draft)
}

/// Plans for the 32-bit entry.
pub(crate) fn plan(mut draft: Draft) -> Result<Plan, Refusal> {
    let header = Header::parse(draft.image)?;
    if header.version < WITH_ALIGNMENT || header.flags() & LOADED_HIGH == 0 {
        let found =
            format!("a Linux image of boot protocol {}.{:02}", header.version >> 8, header.version & 0xff);
        let accepted = "it has to be entered in real mode: say --boot linux16; accepted are bzImages of protocol 2.05 and later";
        return Err(Refusal::unsupported(found, accepted).at(at::VERSION));
    }
    let request = draft.request;
    let most = header.command_line_most();
    if request.command_line.len() > most {
        let found = format!("a command line of {} bytes", request.command_line.len());
        return Err(Refusal::new(Cause::Request, found, format!("this kernel takes {most} at most")));
    }
    let (entry, span) = place_kernel(&header, &mut draft)?;
    let ramdisk = place_ramdisk(&header, &mut draft, span)?;
    let mut text = request.command_line.as_bytes().to_vec();
    text.push(0);
    let command_line = low(&mut draft, &text, "Linux command line")?;
    let gdt: Vec<u8> = GDT.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    let gdt = low(&mut draft, &gdt, "GDT of the Linux boot protocol")?;
    let params = boot_params(&header, &draft, command_line, ramdisk, entry)?;
    let esi = low(&mut draft, &params, "Linux boot_params")?;
    let version = header.version;
    draft.notes.push(format!(
        "Linux boot protocol {}.{:02}: 32-bit entry at {entry:#x}",
        version >> 8,
        version & 0xff
    ));
    Ok(draft.finish(Kind::Linux, Start::Linux { eip: entry, esi, gdt }))
}

/// Puts the kernel where it would rather be, or else where every bzImage can be, at 1 MiB. Gives its entry, and the end of
/// what it unpacks itself into.
fn place_kernel(header: &Header, draft: &mut Draft) -> Result<(u32, u64), Refusal> {
    let len = header.kernel.len() as u64;
    let needed = u64::from(header.field(at::INIT_SIZE, WITH_INIT_SIZE).unwrap_or(0)).max(len);
    let preferred = header.field(at::PREFERRED, WITH_INIT_SIZE).map(u64::from).unwrap_or(ONE_MIB);
    let alignment = u64::from(header.field(at::ALIGNMENT, WITH_ALIGNMENT).unwrap_or(0)).max(1);
    let fits = |at: u64| draft.layout.is_free(at..at.saturating_add(needed));
    let at = if !header.is_relocatable() {
        ONE_MIB
    } else if preferred >= ONE_MIB && fits(preferred) {
        preferred
    } else {
        draft.layout.lowest(needed, alignment, ONE_MIB..FOUR_GIB).unwrap_or(preferred)
    };
    draft.layout.put(at, header.kernel, needed - len, "Linux kernel".into())?;
    // `put` found it below 4 GiB
    let entry = u32::try_from(at).unwrap_or(0);
    Ok((entry, at + needed))
}

/// The initial RAM disk, if there is one.
fn ramdisk<'r>(request: &'r Request<'r>) -> Result<Option<&'r Module<'r>>, Refusal> {
    match request.modules {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        [_, second, ..] => {
            let found = format!("a second initial RAM disk, {}", second.name);
            Err(Refusal::new(Cause::Request, found, "Linux takes one: concatenate the archives"))
        }
    }
}

/// Puts the initial RAM disk as high as the kernel allows; address and size, both 0 without one.
fn place_ramdisk(header: &Header, draft: &mut Draft, kernel: u64) -> Result<(u32, u32), Refusal> {
    let Some(module) = ramdisk(draft.request)? else { return Ok((0, 0)) };
    let len = module.data.len() as u64;
    let most = header.ramdisk_most();
    let at = draft.layout.highest(len.max(1), PAGE, kernel.min(most)..most).ok_or_else(|| {
        let found =
            format!("no room for the initial RAM disk {}: {len:#x} bytes above the kernel", module.name);
        Refusal::memory(found, "give the machine more memory with --memory")
    })?;
    draft.layout.put(at, module.data, 0, format!("initial RAM disk ({})", module.name))?;
    Ok((u32::try_from(at).unwrap_or(0), u32::try_from(len).unwrap_or(u32::MAX)))
}

/// Puts something into low memory.
fn low(draft: &mut Draft, data: &[u8], what: &str) -> Result<u32, Refusal> {
    let at = draft.layout.lowest(data.len() as u64, PAGE, LOW).and_then(|at| u32::try_from(at).ok());
    let at = at.ok_or_else(|| {
        let found = format!("no room for the {what}: {:#x} bytes of RAM below 640 KiB", data.len());
        Refusal::memory(found, "give the machine more memory with --memory")
    })?;
    draft.layout.put(u64::from(at), data, 0, what.to_owned())?;
    Ok(at)
}

/// `boot_params`: the setup header as the file has it with the loader's fields filled in, the memory map, a text screen.
fn boot_params(
    header: &Header,
    draft: &Draft,
    command_line: u32,
    (ramdisk, ramdisk_size): (u32, u32),
    entry: u32,
) -> Result<Vec<u8>, Refusal> {
    let mut page = vec![0; params::SIZE];
    let setup = at::SETUP_SECTORS..header.bytes.len();
    page[setup.clone()].copy_from_slice(&header.bytes[setup]);
    page[at::LOADER] = UNKNOWN_LOADER;
    patch_u32(&mut page, at::CODE32_START, entry);
    patch_u32(&mut page, at::RAMDISK, ramdisk);
    patch_u32(&mut page, at::RAMDISK_SIZE, ramdisk_size);
    patch_u32(&mut page, at::COMMAND_LINE, command_line);

    let memory = &draft.request.memory;
    let ext = u16::try_from(memory.mem_upper()).unwrap_or(u16::MAX);
    page[params::EXT_MEM_K..][..2].copy_from_slice(&ext.to_le_bytes());
    patch_u32(&mut page, params::ALT_MEM_K, memory.mem_upper());
    for (offset, value) in [
        (params::VIDEO_MODE, 3),
        (params::VIDEO_COLUMNS, 80),
        (params::VIDEO_LINES, 25),
        (params::IS_VGA, 1),
        (params::VIDEO_POINTS, 16),
    ] {
        page[offset] = value;
    }
    let regions = &memory.regions;
    if regions.len() > params::E820_MOST {
        let found = format!("a memory map of {} regions", regions.len());
        return Err(Refusal::memory(found, "boot_params holds 128"));
    }
    page[params::E820_ENTRIES] = regions.len() as u8;
    for (region, entry) in regions.iter().zip(page[params::E820_TABLE..].chunks_exact_mut(20)) {
        entry[..8].copy_from_slice(&region.base.to_le_bytes());
        entry[8..16].copy_from_slice(&region.len.to_le_bytes());
        entry[16..].copy_from_slice(&region.kind.code().to_le_bytes());
    }
    Ok(page)
}
