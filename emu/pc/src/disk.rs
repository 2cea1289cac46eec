//! What a disk drive stores: sectors of a file or of memory, and what the guest wrote over them.
//!
//! The base is never changed unless a file was opened to be written through: writes go to an overlay in memory,
//! sector by sector. So a disk is cloned and compared by its overlay, and its base is shared.

mod image;

pub(crate) use image::{Contents, Identity};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes in a sector.
pub const SECTOR: usize = 512;

/// How many sectors a guest may overwrite in memory (1 GiB); then the drive reports a write fault.
pub(crate) const MOST_SECTORS: usize = 1 << 21;

/// What happens to sectors the guest writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Writes {
    /// They are kept in memory and forgotten with the machine.
    #[default]
    Overlay,
    /// They go to the file.
    Through,
}

/// A disk image that can't be used.
#[derive(thiserror::Error, Debug)]
pub enum DiskError {
    /// The file can't be opened.
    #[error("can't open the disk image {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The image is not a whole number of sectors.
    #[error("{name} has {len} bytes, which is not a whole number of 512-byte sectors: pad it to {}", len.div_ceil(512) * 512)]
    Ragged {
        /// What the image is called.
        name: String,
        /// Its size.
        len: u64,
    },
    /// There is nothing in it.
    #[error("{name} is empty: a disk needs at least one sector of 512 bytes")]
    Empty {
        /// What the image is called.
        name: String,
    },
    /// The file can't be read.
    #[error("can't read the disk image {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A snapshot goes with another image.
    #[error("the disk image {} has changed since the snapshot was made, which goes on with what it was then", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A snapshot can't name the file.
    #[error("the path of the disk image {} is not Unicode, so that a snapshot can't name it: move it", path.display())]
    NotUnicode {
        /// The file.
        path: PathBuf,
    },
    /// The file can't be used as an image at all.
    #[error("{} is not a regular file: give a disk image", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
}

/// A sector that can't be read or written.
#[derive(thiserror::Error, Debug)]
pub enum SectorError {
    /// The disk ends before it.
    #[error("sector {0} is beyond the end of the disk")]
    OutOfRange(u64),
    /// The host's file failed.
    #[error("sector {0} of the disk image failed: {1}")]
    Host(u64, io::Error),
    /// The guest wrote more sectors than are kept in memory.
    #[error("more than {MOST_SECTORS} sectors written: no more are kept in memory")]
    OverlayFull,
}

/// An open disk image. Reads are positioned, so that clones may share it.
#[derive(Clone)]
struct ImageFile {
    path: PathBuf,
    file: Arc<File>,
}

impl std::fmt::Debug for ImageFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

impl PartialEq for ImageFile {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "image::Kind", from = "image::Kind")]
enum Base {
    Bytes(Arc<[u8]>),
    /// Bytes again, without the sectors of zeros.
    Sparse(Arc<BTreeMap<u64, Box<[u8]>>>),
    File(ImageFile),
    Zeros,
    /// A file that a snapshot names and nobody has opened yet.
    Unopened,
}

/// The contents of a disk.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    base: Base,
    sectors: u64,
    writes: Writes,
    #[serde(skip)]
    overlay: BTreeMap<u64, Box<[u8]>>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let base: &dyn std::fmt::Debug = match &self.base {
            Base::Bytes(_) | Base::Sparse(_) => &"memory",
            Base::File(file) => file,
            Base::Zeros => &"zeros",
            Base::Unopened => &"unopened",
        };
        f.debug_struct("Disk")
            .field("base", base)
            .field("sectors", &self.sectors)
            .field("writes", &self.writes)
            .field("overwritten", &self.overlay.len())
            .finish()
    }
}

fn whole_sectors(name: &str, len: u64) -> Result<u64, DiskError> {
    match len {
        0 => Err(DiskError::Empty { name: name.into() }),
        _ if !len.is_multiple_of(SECTOR as u64) => Err(DiskError::Ragged { name: name.into(), len }),
        _ => Ok(len / SECTOR as u64),
    }
}

impl Disk {
    /// A disk that holds `bytes`.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Result<Disk, DiskError> {
        let bytes = bytes.into();
        let sectors = whole_sectors("the disk image in memory", bytes.len() as u64)?;
        Ok(Disk { base: Base::Bytes(bytes), sectors, writes: Writes::Overlay, overlay: BTreeMap::new() })
    }

    /// An empty disk of `sectors` sectors (at least one).
    pub fn blank(sectors: u64) -> Disk {
        Disk { base: Base::Zeros, sectors: sectors.max(1), writes: Writes::Overlay, overlay: BTreeMap::new() }
    }

    /// A disk over the file at `path`, opened for writing only if writes go through to it.
    pub fn open(path: impl AsRef<Path>, writes: Writes) -> Result<Disk, DiskError> {
        let path = path.as_ref().to_path_buf();
        let file = OpenOptions::new().read(true).write(writes == Writes::Through).open(&path);
        let file = file.map_err(|source| DiskError::Open { path: path.clone(), source })?;
        let metadata = file.metadata().map_err(|source| DiskError::Open { path: path.clone(), source })?;
        if !metadata.is_file() {
            return Err(DiskError::NotAFile { path });
        }
        let sectors = whole_sectors(&path.display().to_string(), metadata.len())?;
        let base = Base::File(ImageFile { path, file: Arc::new(file) });
        Ok(Disk { base, sectors, writes, overlay: BTreeMap::new() })
    }

    /// How many sectors it has.
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// How many sectors the guest has overwritten in memory.
    pub fn overwritten(&self) -> usize {
        self.overlay.len()
    }

    /// Reads sector `lba`.
    pub fn read(&self, lba: u64, into: &mut [u8; SECTOR]) -> Result<(), SectorError> {
        if lba >= self.sectors {
            return Err(SectorError::OutOfRange(lba));
        }
        if let Some(sector) = self.overlay.get(&lba) {
            into.copy_from_slice(sector);
            return Ok(());
        }
        match &self.base {
            Base::Zeros | Base::Unopened => into.fill(0),
            Base::Sparse(sectors) => match sectors.get(&lba) {
                Some(sector) => into.copy_from_slice(sector),
                None => into.fill(0),
            },
            Base::Bytes(bytes) => into.copy_from_slice(&bytes[lba as usize * SECTOR..][..SECTOR]),
            Base::File(image) => {
                read_at(&image.file, into, lba * SECTOR as u64)
                    .map_err(|error| SectorError::Host(lba, error))?;
            }
        }
        Ok(())
    }

    /// Writes sector `lba`.
    pub fn write(&mut self, lba: u64, from: &[u8; SECTOR]) -> Result<(), SectorError> {
        if lba >= self.sectors {
            return Err(SectorError::OutOfRange(lba));
        }
        if let (Base::File(image), Writes::Through) = (&self.base, self.writes) {
            return write_at(&image.file, from, lba * SECTOR as u64)
                .map_err(|error| SectorError::Host(lba, error));
        }
        if self.overlay.len() >= MOST_SECTORS && !self.overlay.contains_key(&lba) {
            return Err(SectorError::OverlayFull);
        }
        self.overlay.insert(lba, from.as_slice().into());
        Ok(())
    }

    /// Makes sure that what was written through is on the host's disk.
    pub fn flush(&self) -> io::Result<()> {
        match (&self.base, self.writes) {
            (Base::File(image), Writes::Through) => image.file.sync_data(),
            _ => Ok(()),
        }
    }
}

#[cfg(unix)]
fn read_at(file: &File, into: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, into, at)
}

#[cfg(unix)]
fn write_at(file: &File, from: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, from, at)
}

#[cfg(not(unix))]
fn read_at(mut file: &File, into: &mut [u8], at: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(into)
}

#[cfg(not(unix))]
fn write_at(mut file: &File, from: &[u8], at: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    file.seek(SeekFrom::Start(at))?;
    file.write_all(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn image(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn read(disk: &Disk, lba: u64) -> u8 {
        let mut sector = [0; SECTOR];
        disk.read(lba, &mut sector).unwrap();
        assert!(sector.iter().all(|&byte| byte == sector[0]));
        sector[0]
    }

    #[test]
    fn writes_over_a_file_stay_in_memory_and_belong_to_one_clone() {
        let file = image(&[1; 2 * SECTOR]);
        let mut disk = Disk::open(file.path(), Writes::Overlay).unwrap();
        let before = disk.clone();
        disk.write(1, &[2; SECTOR]).unwrap();
        assert_eq!((read(&disk, 0), read(&disk, 1), read(&before, 1)), (1, 2, 1));
        assert_ne!(disk, before);
        assert_eq!(std::fs::read(file.path()).unwrap(), [1; 2 * SECTOR]);
    }

    #[test]
    fn writes_go_to_the_file_when_asked() {
        let file = image(&[1; 2 * SECTOR]);
        let mut disk = Disk::open(file.path(), Writes::Through).unwrap();
        disk.write(0, &[3; SECTOR]).unwrap();
        disk.flush().unwrap();
        assert_eq!(
            std::fs::read(file.path()).unwrap()[..SECTOR + 1],
            [[3; SECTOR].as_slice(), &[1]].concat()
        );
        assert_eq!(disk.overwritten(), 0);
    }

    #[test]
    fn sectors_beyond_the_end_are_refused() {
        let mut disk = Disk::blank(3);
        assert!(matches!(disk.read(3, &mut [0; SECTOR]), Err(SectorError::OutOfRange(3))));
        assert!(matches!(disk.write(u64::MAX, &[0; SECTOR]), Err(SectorError::OutOfRange(u64::MAX))));
        assert_eq!(read(&disk, 2), 0);
    }

    #[test]
    fn an_image_that_can_not_be_a_disk_is_refused_in_one_sentence() {
        let ragged = image(&[0; 700]);
        let message = Disk::open(ragged.path(), Writes::Overlay).unwrap_err().to_string();
        assert!(
            message
                .ends_with("has 700 bytes, which is not a whole number of 512-byte sectors: pad it to 1024")
        );
        let empty = image(&[]);
        let message = Disk::open(empty.path(), Writes::Overlay).unwrap_err().to_string();
        assert!(message.ends_with("is empty: a disk needs at least one sector of 512 bytes"));
        let message = Disk::open("/no/such/image", Writes::Overlay).unwrap_err().to_string();
        assert!(message.starts_with("can't open the disk image /no/such/image: "));
        assert!(Disk::open(std::env::temp_dir(), Writes::Overlay).is_err());
        assert!(Disk::from_bytes(vec![0; 513]).is_err());
    }
}
