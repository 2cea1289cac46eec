//! QEMU beside us: a second machine of the same shape, started, steered and asked from here.
//!
//! [`Qemu`] is a `qemu-system-i386` that emulates in software (TCG). Its memory is a file that is read directly, its
//! serial port another; it is steered over QMP ([`qmp`]) and, up to the image's first instruction, over its GDB stub
//! ([`gdb`]).

pub mod boot;
pub mod cpu;
pub mod dump;
pub mod ending;
pub mod gdb;
pub mod layout;
pub mod probe;
pub mod process;
pub mod qmp;
pub mod repeats;
pub mod spec;
pub mod stream;

pub use ending::Ending;
pub use process::Qemu;
pub use spec::{Loading, Spec, Timing};

/// The program.
pub const PROGRAM: &str = "qemu-system-i386";

/// Why QEMU could not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not installed.
    #[error(
        "{PROGRAM} was not found: install the package qemu-system-x86 (Debian, Ubuntu), qemu-system-x86-core (Fedora), \
         qemu-system-x86 (Arch) or qemu (Homebrew)"
    )]
    Missing,
    /// The program could not be started.
    #[error("cannot start {PROGRAM}: {0}")]
    Start(std::io::Error),
    /// The program ended before its time.
    #[error("{PROGRAM} ended ({status}) while {doing}; it said: {said}")]
    Died {
        /// What we were at.
        doing: &'static str,
        /// Its exit status.
        status: String,
        /// What it wrote to standard error.
        said: String,
    },
    /// A command was refused.
    #[error("{PROGRAM} refused '{command}': {why}")]
    Refused {
        /// The command.
        command: String,
        /// Its answer.
        why: String,
    },
    /// An answer that was not understood.
    #[error(
        "{PROGRAM} answered '{answer}' to '{command}', which is not understood: is its version supported?"
    )]
    Answer {
        /// What was asked.
        command: String,
        /// What came.
        answer: String,
    },
    /// No answer came in time.
    #[error("{PROGRAM} did not answer '{0}' in time")]
    Silent(String),
    /// A file or socket between us and QEMU failed.
    #[error("cannot {doing}: {error}")]
    Io {
        /// What we were at.
        doing: &'static str,
        /// Why it failed.
        error: std::io::Error,
    },
    /// Somebody ended it.
    #[error("{PROGRAM} was ended from outside")]
    Interrupted,
    /// QEMU cannot start this kind of image.
    #[error("{0}")]
    Image(String),
}

impl Error {
    /// For `map_err`: an I/O error while doing something.
    pub fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        move |error| Error::Io { doing, error }
    }
}
