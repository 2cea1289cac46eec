//! Bits of the control registers and of EFER (SDM 3A "Control Registers").

#![allow(missing_docs)] // the names are the manual's

pub const CR0_PE: u32 = 1 << 0;
pub const CR0_MP: u32 = 1 << 1;
pub const CR0_EM: u32 = 1 << 2;
pub const CR0_TS: u32 = 1 << 3;
pub const CR0_ET: u32 = 1 << 4;
pub const CR0_NE: u32 = 1 << 5;
pub const CR0_WP: u32 = 1 << 16;
pub const CR0_AM: u32 = 1 << 18;
pub const CR0_NW: u32 = 1 << 29;
pub const CR0_CD: u32 = 1 << 30;
pub const CR0_PG: u32 = 1 << 31;

pub const CR4_VME: u32 = 1 << 0;
pub const CR4_PVI: u32 = 1 << 1;
pub const CR4_TSD: u32 = 1 << 2;
pub const CR4_DE: u32 = 1 << 3;
pub const CR4_PSE: u32 = 1 << 4;
pub const CR4_PAE: u32 = 1 << 5;
pub const CR4_MCE: u32 = 1 << 6;
pub const CR4_PGE: u32 = 1 << 7;
pub const CR4_PCE: u32 = 1 << 8;
pub const CR4_OSFXSR: u32 = 1 << 9;
pub const CR4_OSXMMEXCPT: u32 = 1 << 10;
pub const CR4_UMIP: u32 = 1 << 11;
pub const CR4_SMEP: u32 = 1 << 20;
pub const CR4_SMAP: u32 = 1 << 21;

/// MXCSR after RESET: all exceptions masked, rounding to nearest.
pub const MXCSR_RESET: u32 = 0x1f80;
/// Denormals are zeros.
pub const MXCSR_DAZ: u32 = 1 << 6;
/// Flush to zero.
pub const MXCSR_FZ: u32 = 1 << 15;

pub const EFER_NXE: u64 = 1 << 11;

/// DR6 bits that report causes.
pub const DR6_BD: u32 = 1 << 13;
pub const DR6_BS: u32 = 1 << 14;
pub const DR6_BT: u32 = 1 << 15;
/// DR6 bits that always read as one.
pub const DR6_ONES: u32 = 0xffff_0ff0;
/// DR7 bit that always reads as one, and general detect.
pub const DR7_ONES: u32 = 1 << 10;
pub const DR7_GD: u32 = 1 << 13;
