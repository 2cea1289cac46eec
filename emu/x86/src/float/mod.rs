//! Floating-point arithmetic as x87 and SSE have it (SDM 1 "Floating-Point Numbers and NaNs", "Operating on NaNs",
//! "Floating-Point Exceptions").
//!
//! An operation on finite numbers is made exactly, or to far more bits than any format has and with its last bit telling
//! of what lies below ([`exact`], by rustc_apfloat). It is rounded once, to the format's precision and range ([`round`]),
//! which also finds overflow, underflow and inexactness. What infinities, zeros, NaNs and unsupported encodings do stands
//! with the instructions, since x87 and SSE differ there.

pub mod elementary;
pub mod exact;
pub mod format;
pub mod round;
mod wide;

pub use exact::Exact;
pub use format::{Format, Value};
pub use round::{Rounded, Rounding, round};

/// Exceptions, by their bits in the x87 status word and in MXCSR.
pub mod exception {
    /// Invalid operation.
    pub const IE: u16 = 1 << 0;
    /// Denormal operand.
    pub const DE: u16 = 1 << 1;
    /// Division by zero.
    pub const ZE: u16 = 1 << 2;
    /// Overflow.
    pub const OE: u16 = 1 << 3;
    /// Underflow.
    pub const UE: u16 = 1 << 4;
    /// Precision: the result is not exact.
    pub const PE: u16 = 1 << 5;
}
