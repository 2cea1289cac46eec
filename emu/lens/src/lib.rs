//! Everything that looks at the machine: traces, explanations, pictures of page walks, reports.
//!
//! [`Lens`] is the one observer: it is given to a machine as its type parameter and holds whatever was asked for.
//! What nobody asked for costs nothing: a machine without a lens is compiled without any of this.

pub mod bits;
pub mod both;
pub mod disassemble;
pub mod explain;
pub mod filter;
pub mod history;
pub mod lens;
pub mod lockstep;
pub mod picture;
pub mod qemu;
pub mod record;
pub mod stats;
pub mod tables;
pub mod text;
pub mod trace;

pub use filter::{Filter, Topic, Topics};
pub use lens::Lens;
pub use trace::Trace;
