//! A machine in a file, to be gone on with later: a run that is split by [`save`] and [`load`] is the run that is not, bit
//! for bit. `docs/snapshots.md` has the format.
//!
//! A file may hold anything. It is read piece by piece, nothing is larger than what has been read of it or what the
//! machine's own size allows, and every part is checked before it is used: a file that is damaged is refused.

mod container;
mod content;

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::disk::DiskError;
use crate::machine::Machine;
use pagewalk_x86::image::Damaged;
use pagewalk_x86::observe::Observer;

/// The number of the format. It changes with everything that is kept of a machine.
pub const VERSION: u32 = 2;

/// A snapshot that can't be written or used.
#[derive(thiserror::Error, Debug)]
pub enum SnapshotError {
    /// The file can't be written.
    #[error("can't write the snapshot {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file can't be read.
    #[error("can't read the snapshot {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is something else at the path.
    #[error("{} is not a regular file: give the snapshot another name", path.display())]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// The machine can't be made, or not be saved.
    #[error("the snapshot {} {problem}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: Problem,
    },
    /// A disk image is not there, or not what it was.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// What is wrong with a snapshot.
#[derive(thiserror::Error, Debug)]
pub enum Problem {
    /// It does not begin as snapshots do.
    #[error("is no snapshot of pagewalk's: it was made by something else")]
    Foreign,
    /// It has another format.
    #[error(
        "has format {0}, and this pagewalk reads format {VERSION}: load it with the pagewalk that made it"
    )]
    Version(u32),
    /// It is too short or too long.
    #[error("has {found} bytes and should have {expected}: make it again, or copy it again")]
    Length {
        /// Bytes there are.
        found: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// What it says of itself is not so.
    #[error("is damaged: {0}; make it again, or copy it again")]
    Damaged(String),
    /// The machine has more memory than the host.
    #[error("is of a machine with more memory than this host has")]
    Memory,
    /// The machine can't be saved.
    #[error("can't be made: {0}")]
    Unsavable(&'static str),
    /// A disk image is not there, or not what it was.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The host's file failed.
    #[error(transparent)]
    Host(#[from] io::Error),
}

impl From<Damaged> for Problem {
    fn from(damaged: Damaged) -> Problem {
        if damaged == crate::board::NO_ROOM {
            return Problem::Memory;
        }
        Problem::Damaged(format!("{} can't be as it says", damaged.0))
    }
}

impl Problem {
    fn of(self, path: &Path, host: fn(PathBuf, io::Error) -> SnapshotError) -> SnapshotError {
        match self {
            Problem::Host(source) => host(path.into(), source),
            Problem::Disk(error) => SnapshotError::Disk(error),
            problem => SnapshotError::Refused { path: path.into(), problem },
        }
    }
}

/// Writes a machine into a file, between two slices of its run. A file that was there is replaced at the end, when all of
/// the new one is on disk: if anything fails, it stays as it was.
pub fn save<O: Observer>(machine: &Machine<O>, path: &Path) -> Result<(), SnapshotError> {
    let failed = |source| SnapshotError::Write { path: path.into(), source };
    // a link is followed, so that what it leads to is replaced
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    if target.exists() && !target.is_file() {
        return Err(SnapshotError::NotAFile { path: path.into() });
    }
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = temporary(folder).map_err(failed)?;
    write(machine, &mut BufWriter::with_capacity(1 << 16, file.as_file_mut()))
        .map_err(|problem| problem.of(path, |path, source| SnapshotError::Write { path, source }))?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(&target).map_err(|error| failed(error.error))?;
    Ok(())
}

/// A file beside the one to come, with the rights of any new file; it goes if it is not kept.
fn temporary(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.prefix(".pagewalk-snapshot-").tempfile_in(folder)
}

/// The machine of a file, with `observer` looking.
pub fn load<O: Observer>(path: &Path, observer: O) -> Result<Machine<O>, SnapshotError> {
    let failed = |source| SnapshotError::Read { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(SnapshotError::NotAFile { path: path.into() });
    }
    read(&mut BufReader::with_capacity(1 << 16, file), observer)
        .map_err(|problem| problem.of(path, |path, source| SnapshotError::Read { path, source }))
}

/// Writes a machine as a snapshot.
pub fn write<O: Observer>(machine: &Machine<O>, to: &mut (impl Write + Seek)) -> Result<(), Problem> {
    container::write(to, |content| content::write(machine, content))
}

/// Reads a machine from a snapshot.
pub fn read<O: Observer>(from: &mut (impl Read + Seek), observer: O) -> Result<Machine<O>, Problem> {
    container::read(from, |content| content::read(content, observer))
}

#[cfg(test)]
mod tests;
