//! The outside of a snapshot: a header that says how long everything is, and a stream of zlib's.
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 8 | `PAGEWALK` |
//! | 8 | 4 | number of the format |
//! | 12 | 8 | bytes of the stream, which is all that follows the header |
//! | 20 | 8 | bytes of its content |
//! | 28 | 4 | CRC-32 of the stream |
//! | 32 | 4 | CRC-32 of the header up to here |
//!
//! Numbers have their lowest byte first.

use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

use super::{Problem, VERSION};
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

const MAGIC: [u8; 8] = *b"PAGEWALK";
const HEADER: usize = 36;

struct Header {
    stream: u64,
    content: u64,
    sum: u32,
}

impl Header {
    fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.stream.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.content.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.sum.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..32]);
        bytes[32..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn of(bytes: &[u8; HEADER]) -> Result<Header, Problem> {
        let dword = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let qword = |at: usize| u64::from(dword(at)) | u64::from(dword(at + 4)) << 32;
        if dword(8) != VERSION {
            return Err(Problem::Version(dword(8)));
        }
        if dword(32) != crc32fast::hash(&bytes[..32]) {
            return Err(Problem::Damaged("its header has another sum".into()));
        }
        Ok(Header { stream: qword(12), content: qword(20), sum: dword(28) })
    }
}

/// Counts and sums up what passes.
struct Summed<T> {
    inner: T,
    bytes: u64,
    sum: crc32fast::Hasher,
}

impl<T> Summed<T> {
    fn new(inner: T) -> Summed<T> {
        Summed { inner, bytes: 0, sum: crc32fast::Hasher::new() }
    }

    fn count(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.sum.update(bytes);
    }
}

impl<T: Write> Write for Summed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.count(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes a snapshot whose content `fill` writes.
pub(super) fn write<W: Write + Seek>(
    to: &mut W,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), Problem>,
) -> Result<(), Problem> {
    to.write_all(&[0; HEADER])?;
    let mut encoder = ZlibEncoder::new(Summed::new(&mut *to), Compression::fast());
    fill(&mut encoder)?;
    let content = encoder.total_in();
    let stream = encoder.finish()?;
    let header = Header { stream: stream.bytes, content, sum: stream.sum.finalize() };
    to.seek(SeekFrom::Start(0))?;
    to.write_all(&header.bytes())?;
    Ok(to.flush()?)
}

/// Reads a snapshot: all of it is summed up first, then `take` is given the content.
pub(super) fn read<R: Read + Seek, T>(
    from: &mut R,
    take: impl FnOnce(&mut dyn Read) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let found = from.seek(SeekFrom::End(0))?;
    from.seek(SeekFrom::Start(0))?;
    let mut bytes = [0; HEADER];
    let there = found.min(HEADER as u64) as usize;
    from.read_exact(&mut bytes[..there])?;
    if bytes[..MAGIC.len()] != MAGIC {
        return Err(Problem::Foreign);
    }
    if there < HEADER {
        return Err(Problem::Length { found, expected: HEADER as u64 });
    }
    let header = Header::of(&bytes)?;
    let expected = header.stream.saturating_add(HEADER as u64);
    if found != expected {
        return Err(Problem::Length { found, expected });
    }
    let mut sum = Summed::new(io::sink());
    io::copy(&mut from.take(header.stream), &mut sum)?;
    if sum.sum.finalize() != header.sum {
        return Err(Problem::Damaged("its stream has another sum".into()));
    }

    from.seek(SeekFrom::Start(HEADER as u64))?;
    let mut decoder = ZlibDecoder::new(from.take(header.stream));
    let mut content = BufReader::with_capacity(1 << 16, (&mut decoder).take(header.content));
    let taken = take(&mut content).map_err(of_stream)?;
    // the end of the stream holds a sum of its own, which is compared when it is reached
    let rest = decoder.read(&mut [0]).map_err(Problem::Host).map_err(of_stream)?;
    if rest != 0 || decoder.total_out() != header.content || decoder.total_in() != header.stream {
        return Err(Problem::Damaged("its content has another length".into()));
    }
    Ok(taken)
}

/// A stream that can't be undone is damaged; the host's own errors stay what they are.
fn of_stream(problem: Problem) -> Problem {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match problem {
        Problem::Host(error) if matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof) => {
            Problem::Damaged("its stream ends early, or is none of zlib's".into())
        }
        other => other,
    }
}
