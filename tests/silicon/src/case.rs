//! One case, and what came of it.

/// Numbers of the segment registers, as encoded.
pub const SEGMENTS: [&str; 6] = ["es", "cs", "ss", "ds", "fs", "gs"];

/// What runs. Everything that is not said here is the [`crate::world::World`]'s.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Case {
    /// Linear address of the first byte of code, within [`crate::world::CODE`].
    pub at: u32,
    /// The code: one instruction, or a sequence. What lies behind it is [`crate::world::trailer`], and then INT3s.
    pub code: Vec<u8>,
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI.
    pub regs: [u32; 8],
    /// EFLAGS: the status flags, TF, DF, AC, NT, ID. IF is always set and IOPL 0, as Linux has it.
    pub eflags: u32,
    /// Selectors of ES, CS, SS, DS, FS, GS: 0, [`crate::world::FLAT_CODE`], [`crate::world::FLAT_DATA`] or of the LDT.
    /// With TF set in `eflags`, each that is not null has RPL 3: such a case is entered by sigreturn(2), which sees to that.
    pub selectors: [u16; 6],
    /// What memory holds where it does not hold the world's pattern: linear address and bytes, within its pages.
    pub memory: Vec<(u32, Vec<u8>)>,
    /// The FXSAVE image to start with, where the code has x87, MMX or SSE instructions.
    pub fpu: Option<Box<[u8; 512]>>,
}

/// How a case ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Control came to the first byte behind the code.
    Fell,
    /// An exception was raised.
    Fault {
        /// Its vector; 80h for any way into the kernel that an operating system provides.
        vector: u8,
        /// Its error code; 0 for vectors that have none.
        code: u32,
        /// CR2, for page faults; 0 for others.
        cr2: u32,
    },
    /// It did not end within its time: host's or ours.
    Endless,
}

/// What came of a case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI.
    pub regs: [u32; 8],
    /// EIP: of the byte behind the code, or what the exception saved.
    pub eip: u32,
    /// EFLAGS, or what the exception saved of it.
    pub eflags: u32,
    /// Selectors of ES, CS, SS, DS, FS, GS.
    pub selectors: [u16; 6],
    /// Memory that does not hold what it held before, in runs: linear address and bytes, by address.
    pub written: Vec<(u32, Vec<u8>)>,
    /// The FXSAVE image, where the case has one.
    pub fpu: Option<Box<[u8; 512]>>,
}
