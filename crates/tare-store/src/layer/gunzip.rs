//! gzip (RFC 1952), with the checksum of the contents only for those that have no digest to be verified by: it takes
//! as long as a tenth of inflating them.

use flate2::{Crc, Decompress, FlushDecompress, Status};
use std::io::{self, BufRead, Read};

/// Flags of a member's header (RFC 1952, 2.3.1).
const HEADER_CHECKSUM: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;

/// The contents of all members of a gzip stream.
pub(crate) struct Gunzip<R> {
    stream: R,
    inflate: Decompress,
    /// Over the member's contents, where they are to be verified.
    checksum: Option<Crc>,
    /// Inside of a member, after its header.
    within: bool,
    members: u64,
}

impl<R: BufRead> Gunzip<R> {
    /// Begins with the first member's header.
    pub(crate) fn new(stream: R, verified: bool) -> Self {
        let checksum = (!verified).then(Crc::new);
        Self { stream, inflate: Decompress::new(false), checksum, within: false, members: 0 }
    }

    /// Reads a member's header. `false` at the end of the stream, where another may begin or not.
    fn header(&mut self) -> io::Result<bool> {
        if self.members > 0 && self.stream.fill_buf()?.is_empty() {
            return Ok(false);
        }
        let mut fixed = [0; 10];
        self.stream.read_exact(&mut fixed)?;
        let [0x1f, 0x8b, 8, flags, ..] = fixed else { return Err(damaged("invalid gzip header")) };
        if flags & EXTRA != 0 {
            let mut length = [0; 2];
            self.stream.read_exact(&mut length)?;
            self.skip(u64::from(u16::from_le_bytes(length)))?;
        }
        for field in [NAME, COMMENT] {
            if flags & field != 0 {
                self.stream.skip_until(0)?;
            }
        }
        if flags & HEADER_CHECKSUM != 0 {
            self.skip(2)?;
        }
        self.members += 1;
        Ok(true)
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        match io::copy(&mut self.stream.by_ref().take(count), &mut io::sink())? {
            skipped if skipped == count => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Reads what follows a member's contents, and is ready for the next.
    fn trailer(&mut self) -> io::Result<()> {
        let mut trailer = [0; 8];
        self.stream.read_exact(&mut trailer)?;
        let [a, b, c, d, length @ ..] = trailer;
        if u32::from_le_bytes(length) != self.inflate.total_out() as u32 {
            return Err(damaged("length of a gzip member is not what its trailer says"));
        }
        if let Some(checksum) = &mut self.checksum {
            if u32::from_le_bytes([a, b, c, d]) != checksum.sum() {
                return Err(damaged("checksum of a gzip member is not what its trailer says"));
            }
            checksum.reset();
        }
        self.inflate.reset(false);
        self.within = false;
        Ok(())
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() {
            if !self.within {
                if !self.header()? {
                    return Ok(0);
                }
                self.within = true;
            }
            let input = self.stream.fill_buf()?;
            let ended = input.is_empty();
            let (consumed, produced) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(input, buffer, FlushDecompress::None).map_err(damaged)?;
            self.stream.consume((self.inflate.total_in() - consumed) as usize);
            let count = (self.inflate.total_out() - produced) as usize;
            if let Some(checksum) = &mut self.checksum {
                checksum.update(&buffer[..count]);
            }
            if status == Status::StreamEnd {
                self.trailer()?;
            } else if ended && count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if count > 0 {
                return Ok(count);
            }
        }
        Ok(0)
    }
}

fn damaged(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, GzBuilder};
    use std::io::{BufReader, Write};

    fn member(contents: &[u8], header: GzBuilder) -> Vec<u8> {
        let mut encoder = header.write(Vec::new(), Compression::fast());
        encoder.write_all(contents).unwrap();
        encoder.finish().unwrap()
    }

    fn inflate(bytes: &[u8], verified: bool) -> io::Result<Vec<u8>> {
        let mut contents = Vec::new();
        // A few bytes at once, so that every field is cut somewhere.
        Gunzip::new(BufReader::with_capacity(7, bytes), verified).read_to_end(&mut contents)?;
        Ok(contents)
    }

    #[test]
    fn members_with_all_fields_are_one_stream() {
        let long: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let rich = GzBuilder::new().extra(vec![1, 0, 2, 3]).filename("name").comment("comment").mtime(7);
        let bytes = [member(&long, rich), member(b"", GzBuilder::new()), member(b"end", GzBuilder::new())].concat();
        let expected = [&long[..], b"end"].concat();
        for verified in [true, false] {
            assert!(inflate(&bytes, verified).unwrap() == expected);
        }
        // The header's own checksum is passed over.
        let mut plain = member(b"text", GzBuilder::new());
        plain[3] |= HEADER_CHECKSUM;
        plain.splice(10..10, [0, 0]);
        assert_eq!(inflate(&plain, true).unwrap(), b"text");
    }

    #[test]
    fn damage_is_told() {
        let bytes = member(b"some contents", GzBuilder::new());
        for length in 0..bytes.len() {
            assert_eq!(inflate(&bytes[..length], true).unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{length}");
        }
        let spoilt = |offset: usize| {
            let mut bytes = bytes.clone();
            bytes[offset] ^= 1;
            bytes
        };
        let (checksum, length) = (spoilt(bytes.len() - 8), spoilt(bytes.len() - 1));
        assert_eq!(inflate(&checksum, true).unwrap(), b"some contents");
        for bytes in [&checksum, &length, &spoilt(0), &spoilt(2)] {
            assert_eq!(inflate(bytes, false).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        let garbage = [&bytes[..], b"not a member of it"].concat();
        assert_eq!(inflate(&garbage, true).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
