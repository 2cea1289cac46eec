//! What of a disk goes into a snapshot: what kind it is, which file is behind it and what that held, and sectors.

use super::*;

/// A file up to this size is summed up whole; of a larger one, pieces all over it.
const SUMMED_WHOLE: u64 = 1 << 30;
const PIECE: u64 = 64 << 10;

/// What stands behind a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Kind {
    Memory,
    File,
    Zeros,
}

impl From<Base> for Kind {
    fn from(base: Base) -> Kind {
        match base {
            Base::Bytes(_) | Base::Sparse(_) => Kind::Memory,
            Base::File(_) | Base::Unopened => Kind::File,
            Base::Zeros => Kind::Zeros,
        }
    }
}

impl From<Kind> for Base {
    fn from(kind: Kind) -> Base {
        match kind {
            Kind::Memory => Base::Sparse(Arc::default()),
            Kind::File => Base::Unopened,
            Kind::Zeros => Base::Zeros,
        }
    }
}

/// By what the file behind a disk is found and known again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// As it was named, and from the root.
    name: String,
    path: String,
    sum: u32,
}

/// Sectors with their numbers, in ascending order.
pub(crate) type Contents = BTreeMap<u64, Box<[u8]>>;

impl Disk {
    /// By what its file is found again, if there is one.
    pub(crate) fn identity(&self) -> Result<Option<Identity>, DiskError> {
        let Base::File(image) = &self.base else { return Ok(None) };
        let failed = |source| DiskError::Read { path: image.path.clone(), source };
        let text = |path: &Path| {
            let text = path.to_str().map(String::from);
            text.ok_or_else(|| DiskError::NotUnicode { path: image.path.clone() })
        };
        let path = std::path::absolute(&image.path).map_err(failed)?;
        let sum = sum(&image.file, self.sectors * SECTOR as u64).map_err(failed)?;
        Ok(Some(Identity { name: text(&image.path)?, path: text(&path)?, sum }))
    }

    /// The sectors of a disk in memory that are not zero.
    pub(crate) fn in_memory(&self) -> Contents {
        match &self.base {
            Base::Bytes(bytes) => (0u64..)
                .zip(bytes.chunks_exact(SECTOR))
                .filter(|(_, sector)| sector.iter().any(|&byte| byte != 0))
                .map(|(lba, sector)| (lba, sector.into()))
                .collect(),
            Base::Sparse(sectors) => sectors.as_ref().clone(),
            _ => Contents::new(),
        }
    }

    /// The sectors that the guest has overwritten in memory.
    pub(crate) fn overlay(&self) -> &Contents {
        &self.overlay
    }

    /// Puts back what a snapshot has of the disk: the file that must be as it was, or sectors; and those overwritten.
    /// `None` if these are for another disk.
    pub(crate) fn attach(
        &mut self,
        identity: Option<Identity>,
        in_memory: Contents,
        overlay: Contents,
    ) -> Result<Option<()>, DiskError> {
        let fits = |sectors: &Contents| {
            sectors.last_key_value().is_none_or(|(&lba, _)| lba < self.sectors)
                && sectors.values().all(|sector| sector.len() == SECTOR)
        };
        if self.sectors == 0
            || self.sectors > u64::MAX / SECTOR as u64
            || !fits(&in_memory)
            || !fits(&overlay)
            || overlay.len() > MOST_SECTORS
        {
            return Ok(None);
        }
        self.base = match (&self.base, identity) {
            (Base::Unopened, Some(identity)) => Base::File(identity.open(self.writes, self.sectors)?),
            (Base::Sparse(_), None) => Base::Sparse(Arc::new(in_memory)),
            (Base::Zeros, None) if in_memory.is_empty() => Base::Zeros,
            _ => return Ok(None),
        };
        self.overlay = overlay;
        Ok(Some(()))
    }
}

impl Identity {
    fn open(self, writes: Writes, sectors: u64) -> Result<ImageFile, DiskError> {
        let disk = Disk::open(&self.path, writes)?;
        let Base::File(image) = disk.base else { return Err(DiskError::NotAFile { path: self.path.into() }) };
        let sum = sum(&image.file, disk.sectors * SECTOR as u64)
            .map_err(|source| DiskError::Read { path: image.path.clone(), source })?;
        if (disk.sectors, sum) != (sectors, self.sum) {
            return Err(DiskError::Changed { path: image.path });
        }
        Ok(ImageFile { path: self.name.into(), ..image })
    }
}

/// The CRC-32 of a file of `len` bytes, or of pieces all over it.
fn sum(file: &File, len: u64) -> io::Result<u32> {
    let mut sum = crc32fast::Hasher::new();
    let mut piece = vec![0; PIECE as usize];
    let step = len.div_ceil(SUMMED_WHOLE).max(1);
    for at in (0..len.div_ceil(PIECE)).step_by(step as usize).map(|piece| piece * PIECE) {
        let part = &mut piece[..(len - at).min(PIECE) as usize];
        read_at(file, part, at)?;
        sum.update(part);
    }
    Ok(sum.finalize())
}
