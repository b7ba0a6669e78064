//! One pass over a layer: transfer digest and size, inflate, diff ID, unpack.

use super::unpack::{Failure, Unpacked, Unpacker};
use crate::hash::{BlobReader, Hasher};
use crate::tar::{Reader, TarError};
use crate::{Error, Result};
use std::fs::File;
use std::io::{self, BufReader, Read};
use tare_spec::DiffId;
use tare_spec::image::{Compression, Descriptor, layer_compression};
use tare_sys::directory::Directory;

/// How large a layer may become when it is inflated. gzip makes a thousand bytes of one at best, zstd more; real
/// layers stay below ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Uncompressed bytes of any layer.
    pub bytes: u64,
    /// Uncompressed bytes for each compressed one, once [`Limits::free`] is used up.
    pub ratio: u64,
    /// Uncompressed bytes that every layer may have.
    pub free: u64,
    /// Entries of the archive.
    pub entries: u64,
}

impl Default for Limits {
    /// 1 TiB, 200:1 above 1 GiB, four million entries.
    fn default() -> Self {
        Self { bytes: 1 << 40, ratio: 200, free: 1 << 30, entries: 4_000_000 }
    }
}

impl Limits {
    /// How large something of this compressed size may become.
    pub(crate) fn inflated(&self, compressed: u64) -> u64 {
        compressed.saturating_mul(self.ratio).max(self.free).min(self.bytes)
    }
}

/// Unpacks a layer into an empty directory and verifies it. After an error the directory holds anything.
pub(crate) fn apply(
    layer: &Descriptor,
    diff_id: &DiffId,
    blob: &mut dyn Read,
    target: &Directory,
    limits: &Limits,
) -> Result<Unpacked> {
    layer_compression(&layer.media_type).map_err(|source| Error::LayerType { layer: layer.digest.clone(), source })?;
    let mut blob = BlobReader::new(blob, layer);
    let outcome = inflate_and_unpack(layer, diff_id, &mut blob, target, limits);
    // A damaged transfer shows as damaged compression or damaged tar first: its digest is the better answer.
    if blob.is_broken() || matches!(outcome, Ok(_) | Err(Error::Archive { .. } | Error::Compression { .. })) {
        blob.finish()?;
    }
    let (unpacked, actual) = outcome?;
    if actual != *diff_id {
        return Err(Error::DiffId { layer: layer.digest.clone(), expected: diff_id.clone(), actual });
    }
    Ok(unpacked)
}

fn inflate_and_unpack(
    layer: &Descriptor,
    diff_id: &DiffId,
    blob: &mut BlobReader<'_>,
    target: &Directory,
    limits: &Limits,
) -> Result<(Unpacked, DiffId)> {
    let archive = |source| Error::Archive { layer: layer.digest.clone(), source };
    let failed = |source| archive(TarError::Read { offset: 0, source });
    let limit = limits.inflated(layer.size);
    let mut stream = Inflated {
        stream: inflate(layer, blob)?.map_err(failed)?,
        hasher: Hasher::new(diff_id.0.algorithm()),
        left: limit,
        exceeded: false,
    };
    let mut reader = Reader::new(&mut stream);
    let outcome = Unpacker::new(target, limits.entries).run(&mut reader);
    let outcome = match outcome {
        Ok(unpacked) => match io::copy(&mut stream, &mut io::sink()) {
            Ok(_) => Ok(unpacked),
            Err(source) => Err(Failure::Archive(TarError::Read { offset: limit - stream.left, source })),
        },
        Err(failure) => Err(failure),
    };
    let bomb = |limit, unit| Error::Bomb { layer: layer.digest.clone(), size: layer.size, limit, unit };
    match outcome {
        Ok(unpacked) => Ok((unpacked, DiffId(stream.hasher.finish()))),
        Err(_) if stream.exceeded => Err(bomb(limit, "bytes")),
        Err(Failure::Entries) => Err(bomb(limits.entries, "entries")),
        Err(Failure::Archive(source)) => Err(archive(source)),
        Err(Failure::Entry { path, source }) => Err(Error::Entry { layer: layer.digest.clone(), path, source }),
        Err(Failure::Full(source)) => {
            Err(Error::NoSpace { what: format!("layer {}", layer.digest), path: "layers".into(), source })
        }
    }
}

/// The uncompressed contents of a blob that was verified when it came.
pub(crate) fn inflated(layer: &Descriptor, blob: File) -> Result<Inflate<File>> {
    let failed = |source| Error::Archive { layer: layer.digest.clone(), source: TarError::Read { offset: 0, source } };
    inflate(layer, blob)?.map_err(failed)
}

type Buffered<R> = BufReader<io::Chain<io::Cursor<Vec<u8>>, R>>;

/// A blob's contents before compression.
pub(crate) enum Inflate<R: Read> {
    Gzip(Box<flate2::bufread::MultiGzDecoder<Buffered<R>>>),
    /// Its window is at most 128 MiB by default, which bounds the memory.
    Zstd(zstd::stream::read::Decoder<'static, Buffered<R>>),
    Plain(Buffered<R>),
}

impl<R: Read> Read for Inflate<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(stream) => stream.read(buffer),
            Self::Zstd(stream) => stream.read(buffer),
            Self::Plain(stream) => stream.read(buffer),
        }
    }
}

/// Chooses the decoder by the first bytes, as every engine does: media types in old manifests are not reliable.
fn inflate<R: Read>(layer: &Descriptor, mut blob: R) -> Result<io::Result<Inflate<R>>> {
    let mut magic = Vec::new();
    if let Err(error) = blob.by_ref().take(6).read_to_end(&mut magic) {
        return Ok(Err(error));
    }
    let compression =
        compression(&magic).map_err(|compression| Error::Compression { layer: layer.digest.clone(), compression })?;
    let stream = BufReader::with_capacity(128 * 1024, io::Cursor::new(magic).chain(blob));
    Ok(match compression {
        Compression::Gzip => Ok(Inflate::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(stream)))),
        Compression::Zstd => zstd::stream::read::Decoder::with_buffer(stream).map(Inflate::Zstd),
        Compression::None => Ok(Inflate::Plain(stream)),
    })
}

/// The compression that a stream of these first six bytes has; the name of one that is not taken as the error.
pub(crate) fn compression(magic: &[u8]) -> std::result::Result<Compression, &'static str> {
    match magic {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        // A zstd frame, or a skippable one before it (RFC 8878, 3.1).
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Err("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Err("xz"),
        _ => Ok(Compression::None),
    }
}

/// The uncompressed stream: hashed and counted.
struct Inflated<R> {
    stream: R,
    hasher: Hasher,
    left: u64,
    exceeded: bool,
}

impl<R: Read> Read for Inflated<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => {
                self.exceeded = true;
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
