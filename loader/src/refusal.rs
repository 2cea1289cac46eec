//! Why an image is not loaded.

use std::fmt;

/// The sort of thing that a [`Refusal`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The file is of no kind that is known, or not of the kind that was asked for.
    NotRecognised,
    /// The file is of a known kind that this loader does not start.
    Unsupported,
    /// A header contradicts itself or the file.
    Malformed,
    /// Something has to go where there is no RAM, or where something else already is, or does not fit any more.
    Memory,
    /// What was asked for cannot be handed to this kind of image.
    Request,
}

/// Why an image is not loaded: what was found, where, and what would have been accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{image}: {}{found}; {accepted}", Position(*.offset, *.unpacked))]
pub struct Refusal {
    /// The image's name, as the request gave it.
    pub image: String,
    /// The sort of refusal.
    pub cause: Cause,
    /// Where in the file it was found, if it is at one place.
    pub offset: Option<u64>,
    /// Whether `offset` counts in the image as unpacked from gzip.
    pub unpacked: bool,
    /// What was found.
    pub found: String,
    /// What would have been accepted, or what to do.
    pub accepted: String,
}

impl Refusal {
    pub(crate) fn new(cause: Cause, found: impl Into<String>, accepted: impl Into<String>) -> Self {
        Refusal {
            image: String::new(),
            cause,
            offset: None,
            unpacked: false,
            found: found.into(),
            accepted: accepted.into(),
        }
    }

    pub(crate) fn malformed(found: impl Into<String>, accepted: impl Into<String>) -> Self {
        Refusal::new(Cause::Malformed, found, accepted)
    }

    pub(crate) fn unsupported(found: impl Into<String>, accepted: impl Into<String>) -> Self {
        Refusal::new(Cause::Unsupported, found, accepted)
    }

    pub(crate) fn memory(found: impl Into<String>, accepted: impl Into<String>) -> Self {
        Refusal::new(Cause::Memory, found, accepted)
    }

    /// Names the file offset, unless a more precise one is named already.
    pub(crate) fn at(mut self, offset: impl TryInto<u64>) -> Self {
        self.offset = self.offset.or(offset.try_into().ok());
        self
    }

    pub(crate) fn in_unpacked_image(mut self) -> Self {
        self.unpacked = true;
        self
    }

    pub(crate) fn of(mut self, image: &str) -> Self {
        self.image = image.to_owned();
        self
    }
}

struct Position(Option<u64>, bool);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Position(None, _) => Ok(()),
            Position(Some(offset), false) => write!(f, "at offset {offset:#x}: "),
            Position(Some(offset), true) => write!(f, "at offset {offset:#x} of the unpacked image: "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_where_and_what_would_be_accepted() {
        let refusal = Refusal::malformed("e_phnum is 0", "an executable has program headers").at(0x2c_u64);
        let text = refusal.clone().of("kernel").to_string();
        assert_eq!(text, "kernel: at offset 0x2c: e_phnum is 0; an executable has program headers");
        let text = refusal.in_unpacked_image().of("kernel.gz").to_string();
        assert!(text.starts_with("kernel.gz: at offset 0x2c of the unpacked image: e_phnum"), "{text}");
    }
}
