//! User-mode instructions, compared with the processor of the host.
//!
//! A [`case::Case`] says what runs: code, registers, flags, selectors and memory, in a [`world::World`] of fixed pages and
//! local descriptors. The same case runs natively in a 32-bit child and in pagewalk; each reports a [`case::Outcome`].

pub mod case;
pub mod compare;
pub mod explained;
pub mod generate;
pub mod native;
pub mod ours;
pub mod search;
pub mod shrink;
pub mod undefined;
pub mod vector;
pub mod world;

pub use pagewalk_x86::random;

/// The model that cases run on: everything, also what guests are not shown yet.
pub const MODEL: pagewalk_x86::model::Model = pagewalk_x86::model::MAX.whole();
