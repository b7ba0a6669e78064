//! Streams before compression, of archives that people hand over. Those may be compressed in more ways than layers, and nothing is
//! known of them beforehand: neither digest nor size.

use crate::layer;
use std::io::{self, BufReader, Cursor, Read};
use tare_spec::image::Compression;

/// KiB of memory that unpacking xz may take: its strongest level needs 65 MiB, `--ultra` with the largest dictionary that is in
/// use 257 MiB; a stream may ask for 4 GiB.
const XZ_MEMORY: u32 = 300 << 10;

/// A stream's contents before compression: gzip, zstd, bzip2, xz or none, which its first bytes tell. Damage and what the decoders
/// do not take are errors of kind `InvalidData`, `InvalidInput` or `UnexpectedEof`, or of no kind.
pub struct Inflated<'a>(Box<dyn Read + 'a>);

impl<'a> Inflated<'a> {
    /// Reads a few bytes of the stream.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn new(mut stream: impl Read + 'a) -> io::Result<Self> {
        let mut magic = Vec::new();
        stream.by_ref().take(6).read_to_end(&mut magic)?;
        let compression = layer::compression(&magic);
        let whole = Cursor::new(magic).chain(stream);
        let buffered = |whole| BufReader::with_capacity(128 * 1024, whole);
        Ok(Self(match compression {
            Ok(Compression::Gzip) => Box::new(layer::Gunzip::new(buffered(whole), false)),
            Ok(Compression::Zstd) => Box::new(zstd::stream::read::Decoder::with_buffer(buffered(whole))?),
            Ok(Compression::None) => Box::new(whole),
            Err("bzip2") => Box::new(bzip2::bufread::MultiBzDecoder::new(buffered(whole))),
            Err(_) => Box::new(lzma_rust2::XzReader::new_mem_limit(buffered(whole), true, XZ_MEMORY)),
        }))
    }
}

impl Read for Inflated<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// `tare\n`, compressed by bzip2 1.0 and by xz 5.8.
    const BZIP2: &str = "425a683931415926535973a6cb990000024180001022001400200030cd00c1a500e2ee48a70a120e74d97320";
    const XZ: &str = "fd377a585a000004e6d6b4460200210116000000742fe5a3010004746172650a00000000e5a112777355cbda00011d05b82d80af1fb6f37d010000000004595a";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn inflate(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut contents = Vec::new();
        Inflated::new(bytes)?.read_to_end(&mut contents)?;
        Ok(contents)
    }

    #[test]
    fn the_first_bytes_tell() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"tare\n").unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::stream::encode_all(&b"tare\n"[..], 1).unwrap();
        for stream in [b"tare\n".to_vec(), gzip, zstd, bytes(BZIP2), bytes(XZ)] {
            assert_eq!(inflate(&stream).unwrap(), b"tare\n");
            // As several archives in a row are one.
            if stream[0] != b't' {
                assert_eq!(inflate(&stream.repeat(2)).unwrap(), b"tare\ntare\n");
                for length in 6..stream.len() {
                    assert!(inflate(&stream[..length]).is_err(), "{length} of {}", stream.len());
                }
            }
        }
        assert_eq!(inflate(b"").unwrap(), b"");
        assert_eq!(inflate(b"BZh").unwrap(), b"BZh");
    }

    #[test]
    fn a_dictionary_of_gigabytes_is_refused() {
        let mut huge = bytes(XZ);
        // The block header's only filter is LZMA2; its property is the dictionary's size, its checksum follows.
        let header = 12;
        assert_eq!(huge[header + 2..header + 4], [0x21, 0x01]);
        huge[header + 4] = 40;
        let end = header + 4 * (usize::from(huge[header]) + 1) - 4;
        let mut crc = flate2::Crc::new();
        crc.update(&huge[header..end]);
        huge[end..end + 4].copy_from_slice(&crc.sum().to_le_bytes());
        let error = inflate(&huge).unwrap_err().to_string();
        assert!(error.contains("memory"), "{error}");
    }
}
