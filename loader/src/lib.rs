//! Image files in, a plan of what to place where out.
//!
//! [`plan`] takes the bytes of a kernel (Linux, Multiboot 1 or 2, PVH, plain ELF32, boot sector, flat binary; gzipped or
//! not) and the machine's memory map, and answers with a [`Plan`]: the bytes to put into memory, the state of the
//! processor at the first instruction, and the image's symbols. [`firmware`] does the same for a ROM that starts at
//! the reset vector. Both are pure functions: they read no file and touch no machine, and no input makes them panic.
//! What they turn down comes back as a [`Refusal`], which says what was found at which offset and what would have
//! been accepted.
//!
//! The user's description of every protocol, with its register state, is `docs/boot.md`.
//!
//! ```
//! use pagewalk_loader::{plan, Boot, Kind, MemoryKind, MemoryMap, MemoryRegion, Request, Start};
//!
//! let mut sector = vec![0xf4; 512]; // HLT, and the signature the BIOS looks for
//! sector[510..].copy_from_slice(&[0x55, 0xaa]);
//! let plan = plan(&Request {
//!     image: &sector,
//!     name: "boot.bin",
//!     boot: Boot::Auto,
//!     command_line: "",
//!     modules: &[],
//!     memory: MemoryMap::new(vec![MemoryRegion { base: 0, len: 0x9fc00, kind: MemoryKind::Available }]),
//! })?;
//! assert_eq!(plan.kind, Kind::BootSector);
//! assert_eq!(plan.places[0].at, 0x7c00);
//! assert!(matches!(plan.start, Start::Real { cs: 0, ip: 0x7c00, .. }));
//! # Ok::<(), pagewalk_loader::Refusal>(())
//! ```

mod bytes;
pub mod cpio;
mod detect;
mod draft;
mod elf;
mod firmware;
mod flat;
mod gzip;
mod layout;
mod linux;
mod memory;
mod multiboot1;
mod multiboot2;
mod plan;
mod program;
mod pvh;
mod raw;
mod refusal;
mod request;

pub use firmware::firmware;
pub use linux::is_linux_32;
pub use memory::{MemoryKind, MemoryMap, MemoryRegion};
pub use plan::{Handed, Kind, Place, Plan, Rom, Start, Symbol};
pub use program::{LinuxProgram, linux_program};
pub use refusal::{Cause, Refusal};
pub use request::{Boot, BootParseError, Module, RawMode, Request};

/// The name this loader gives itself in Multiboot's "boot loader name".
pub const LOADER_NAME: &str = "pagewalk";

/// The image itself, out of its gzip file if it is in one; `limit` bytes of it at most.
///
/// # Errors
/// A [`Refusal`] says what is wrong with the gzip file.
pub fn unpacked(image: &[u8], limit: u64) -> Result<std::borrow::Cow<'_, [u8]>, Refusal> {
    Ok(gzip::unpack(image, limit)?.map_or(image.into(), Into::into))
}

/// Works out how `request.image` is to be started, and what has to be in memory for that.
///
/// # Errors
/// A [`Refusal`] names the first thing in the image, or in the request, that cannot be honoured.
pub fn plan(request: &Request) -> Result<Plan, Refusal> {
    request.check().map_err(|refusal| refusal.of(request.name))?;
    let limit = request.memory.available().iter().map(|ram| ram.end - ram.start).sum();
    let unpacked = gzip::unpack(request.image, limit).map_err(|refusal| refusal.of(request.name))?;
    let Some(bytes) = unpacked else {
        return detect::plan(request, request.image).map_err(|refusal| refusal.of(request.name));
    };
    let note = format!("unpacked {} gzipped bytes to {}", request.image.len(), bytes.len());
    let mut plan =
        detect::plan(request, &bytes).map_err(|refusal| refusal.in_unpacked_image().of(request.name))?;
    plan.notes.insert(0, note);
    Ok(plan)
}
