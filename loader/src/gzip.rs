//! Gzipped images (RFC 1952).

use std::io::Read;

use flate2::bufread::GzDecoder;

use crate::refusal::Refusal;

/// ID1, ID2 and the only compression method there is, deflate.
const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
/// FLG bits that "must be zero" (RFC 1952 2.3.1).
const RESERVED_FLAGS: u8 = 0xe0;

fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC) && bytes.get(3).is_some_and(|flags| flags & RESERVED_FLAGS == 0)
}

/// The unpacked bytes if these are gzipped, `None` if they are not. At most `limit` bytes are unpacked.
pub(crate) fn unpack(bytes: &[u8], limit: u64) -> Result<Option<Vec<u8>>, Refusal> {
    if !is_gzip(bytes) {
        return Ok(None);
    }
    let mut unpacked = Vec::new();
    let mut rest = bytes;
    // A file may hold several members, which are joined (RFC 1952 2.2), and padding of zeros after the last.
    while is_gzip(rest) {
        let room = limit.saturating_sub(unpacked.len() as u64);
        let mut member = GzDecoder::new(rest);
        let result = member.by_ref().take(room.saturating_add(1)).read_to_end(&mut unpacked);
        let offset = bytes.len() - member.get_ref().len();
        if let Err(error) = result {
            let found = format!("damaged gzip data ({error})");
            return Err(
                Refusal::malformed(found, "unpack it with gunzip to see, or fetch it again").at(offset)
            );
        }
        if unpacked.len() as u64 > limit {
            let found = format!("gzip data that unpacks to more than the machine's {limit} bytes of RAM");
            return Err(Refusal::memory(found, "give the machine more memory with --memory"));
        }
        rest = member.into_inner();
    }
    if let Some(at) = rest.iter().position(|&byte| byte != 0) {
        let offset = bytes.len() - rest.len() + at;
        let found = format!("byte {:#04x} after the end of the gzip data", rest[at]);
        return Err(Refusal::malformed(found, "only zeros or another gzip member may follow").at(offset));
    }
    Ok(Some(unpacked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn members_are_joined_and_padding_is_ignored() {
        let mut file = gzip(b"page");
        file.extend(gzip(b"walk"));
        file.extend([0; 100]);
        assert_eq!(unpack(&file, 8).unwrap().unwrap(), b"pagewalk");
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = gzip(&vec![0; 1 << 20]);
        assert_eq!(unpack(&bomb, 1 << 20).unwrap().unwrap().len(), 1 << 20);
        let refusal = unpack(&bomb, (1 << 20) - 1).unwrap_err();
        assert!(refusal.found.contains("more than the machine's 1048575 bytes of RAM"), "{refusal}");
        assert!(unpack(&bomb, 0).is_err());
    }

    #[test]
    fn a_cut_or_bent_file_is_refused_with_an_offset() {
        let whole = gzip(&(0..=255).collect::<Vec<u8>>());
        for len in 10..whole.len() {
            let refusal = unpack(&whole[..len], 1000).unwrap_err();
            assert!(refusal.offset.is_some_and(|offset| offset <= len as u64), "{len}: {refusal}");
        }
        let mut wrong_crc = whole.clone();
        let crc_at = whole.len() - 8;
        wrong_crc[crc_at] ^= 1;
        assert!(unpack(&wrong_crc, 1000).is_err());
        let mut trailing = whole.clone();
        trailing.extend([0, 0, 7]);
        assert_eq!(unpack(&trailing, 1000).unwrap_err().offset, Some(whole.len() as u64 + 2));
    }

    #[test]
    fn what_is_not_gzip_is_left_alone() {
        for bytes in [&b""[..], b"\x1f\x8b", b"\x1f\x8b\x07\x00", b"\x1f\x8b\x08\xe0", b"\x7fELF"] {
            assert_eq!(unpack(bytes, 1000), Ok(None));
        }
    }
}
