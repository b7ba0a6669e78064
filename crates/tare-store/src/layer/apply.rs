//! One pass over a layer: transfer digest and size, inflate, diff ID, copy, tree.

use super::gunzip::Gunzip;
use super::tree::{self, EntryError, Failure, Filled, Tree};
use crate::error::is_full;
use crate::hash::{BlobReader, Hasher};
use crate::tar::{Reader, TarError};
use crate::{Error, Result};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use tare_spec::DiffId;
use tare_spec::digest::Algorithm;
use tare_spec::image::{Compression, Descriptor, layer_compression};

/// Uncompressed bytes handled at once: hashed, copied and parsed while they are in the cache of the processor.
const PIECE: usize = 256 * 1024;

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
    /// Bytes of memory for what the entries are called, link to and have as attributes: 2 GiB at most.
    pub memory: u64,
}

impl Default for Limits {
    /// 1 TiB, 200:1 above 1 GiB, four million entries, 512 MiB.
    fn default() -> Self {
        Self { bytes: 1 << 40, ratio: 200, free: 1 << 30, entries: 4_000_000, memory: 1 << 29 }
    }
}

impl Limits {
    /// How large something of this compressed size may become.
    #[must_use]
    pub fn inflated(&self, compressed: u64) -> u64 {
        compressed.saturating_mul(self.ratio).max(self.free).min(self.bytes)
    }
}

/// Where a layer comes from.
pub(crate) enum Source<'a> {
    /// A blob whose digests are known and verified.
    Blob {
        /// What it is.
        layer: &'a Descriptor,
        /// What it contains.
        diff_id: &'a DiffId,
        /// Its bytes.
        blob: &'a mut dyn Read,
    },
    /// An archive, compressed or not, that nothing is known of.
    Archive(&'a mut dyn Read),
}

/// Where the uncompressed archive goes as well.
pub(crate) struct Copy<'a> {
    /// Takes all its bytes in order.
    pub(crate) writer: &'a mut dyn Write,
    /// For messages.
    pub(crate) path: &'a Path,
}

/// Fills an empty tree and verifies the layer. After an error the tree and the copy hold anything.
pub(crate) fn take<T: Tree>(
    source: Source<'_>,
    tree: &mut T,
    copy: Option<Copy<'_>>,
    limits: &Limits,
) -> Result<(Filled, DiffId)> {
    match source {
        Source::Blob { layer, diff_id, blob } => {
            let name = layer.digest.to_string();
            layer_compression(&layer.media_type)
                .map_err(|source| Error::LayerType { layer: layer.digest.clone(), source })?;
            let mut blob = BlobReader::new(blob, layer);
            let algorithm = diff_id.0.algorithm();
            let outcome = Pass { name: &name, size: Some(layer.size), algorithm, limits }.run(&mut blob, tree, copy);
            // A damaged transfer shows as damaged compression or damaged tar first: its digest is the better answer.
            if blob.is_broken() || matches!(outcome, Ok(_) | Err(Error::Archive { .. } | Error::Compression { .. })) {
                blob.finish()?;
            }
            let (filled, actual) = outcome?;
            if actual != *diff_id {
                return Err(Error::DiffId { layer: layer.digest.clone(), expected: diff_id.clone(), actual });
            }
            Ok((filled, actual))
        }
        Source::Archive(archive) => {
            let pass = Pass { name: "of the archive", size: None, algorithm: Algorithm::Sha256, limits };
            pass.run(archive, tree, copy)
        }
    }
}

struct Pass<'a> {
    /// For messages.
    name: &'a str,
    /// Compressed bytes, if they are known beforehand.
    size: Option<u64>,
    algorithm: Algorithm,
    limits: &'a Limits,
}

impl Pass<'_> {
    fn run<T: Tree>(&self, stream: &mut dyn Read, tree: &mut T, copy: Option<Copy<'_>>) -> Result<(Filled, DiffId)> {
        let layer = || self.name.to_owned();
        let compressed = Cell::new(0);
        let mut counted = Counted { stream, count: &compressed };
        let failed = |source| Error::Archive { layer: layer(), source: TarError::Read { offset: 0, source } };
        let path = copy.as_ref().map(|copy| copy.path.to_owned());
        let limit = || self.limits.inflated(self.size.unwrap_or_else(|| compressed.get()));
        let mut stream = Inflated {
            stream: inflate(self.name, &mut counted, self.size.is_some())?.map_err(failed)?,
            hasher: Hasher::new(self.algorithm),
            copy,
            buffer: vec![0; PIECE],
            at: 0,
            filled: 0,
            total: 0,
            limit: &limit,
            exceeded: false,
            failed: None,
            uncopied: None,
        };
        let outcome = tree::fill(tree, &mut Reader::new(&mut stream), self.limits);
        let outcome = match outcome {
            Ok(filled) => match stream.drain() {
                Ok(()) => Ok(filled),
                Err(source) => Err(Failure::Archive(TarError::Read { offset: stream.total, source })),
            },
            Err(failure) => Err(failure),
        };
        let size = self.size.unwrap_or_else(|| compressed.get());
        let bomb = |limit, unit| Error::Bomb { layer: layer(), size, limit, unit };
        let full = |path: Option<PathBuf>, source| Error::NoSpace {
            what: format!("layer {}", self.name),
            path: path.unwrap_or_else(|| "layers".into()),
            source,
        };
        if let Some(source) = stream.uncopied.take() {
            let path = path.unwrap_or_default();
            let folder = path.parent().map(Path::to_owned);
            return Err(if is_full(&source) {
                full(folder, source)
            } else {
                Error::Io { action: "write", path, source }
            });
        }
        match outcome {
            Ok(filled) => Ok((filled, DiffId(stream.hasher.finish()))),
            Err(_) if stream.exceeded => Err(bomb(limit(), "bytes")),
            Err(Failure::Bomb { limit, unit }) => Err(bomb(limit, unit)),
            Err(Failure::Archive(source)) => Err(Error::Archive { layer: layer(), source }),
            Err(Failure::Entry { source: EntryError::Io { source, .. }, .. }) if is_full(&source) => {
                Err(full(None, source))
            }
            Err(Failure::Entry { path, source }) => Err(Error::Entry { layer: layer(), path, source }),
        }
    }
}

/// The uncompressed contents of a blob that was verified when it came.
pub(crate) fn inflated(layer: &Descriptor, blob: File) -> Result<Inflate<File>> {
    let layer = layer.digest.to_string();
    inflate(&layer, blob, true)?
        .map_err(|source| Error::Archive { layer, source: TarError::Read { offset: 0, source } })
}

type Whole<R> = io::Chain<io::Cursor<Vec<u8>>, R>;

/// A blob's contents before compression.
pub(crate) enum Inflate<R: Read> {
    Gzip(Gunzip<BufReader<Whole<R>>>),
    /// Its window is at most 128 MiB by default, which bounds the memory.
    Zstd(zstd::stream::read::Decoder<'static, BufReader<Whole<R>>>),
    Plain(Whole<R>),
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
/// `verified` says that digests tell whether the blob's bytes are right.
fn inflate<R: Read>(layer: &str, mut blob: R, verified: bool) -> Result<io::Result<Inflate<R>>> {
    let mut magic = Vec::new();
    if let Err(error) = blob.by_ref().take(6).read_to_end(&mut magic) {
        return Ok(Err(error));
    }
    let compression =
        compression(&magic).map_err(|compression| Error::Compression { layer: layer.to_owned(), compression })?;
    let whole = io::Cursor::new(magic).chain(blob);
    let buffered = |whole| BufReader::with_capacity(128 * 1024, whole);
    Ok(match compression {
        Compression::Gzip => Ok(Inflate::Gzip(Gunzip::new(buffered(whole), verified))),
        Compression::Zstd => zstd::stream::read::Decoder::with_buffer(buffered(whole)).map(Inflate::Zstd),
        Compression::None => Ok(Inflate::Plain(whole)),
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

/// Counts what comes, for limits that depend on it.
struct Counted<'a> {
    stream: &'a mut dyn Read,
    count: &'a Cell<u64>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}

/// The uncompressed stream: hashed, copied and counted.
struct Inflated<'a, 'c, R> {
    stream: R,
    hasher: Hasher,
    copy: Option<Copy<'c>>,
    buffer: Vec<u8>,
    /// What of the buffer has been given out, and what of it is filled.
    at: usize,
    filled: usize,
    total: u64,
    limit: &'a dyn Fn() -> u64,
    exceeded: bool,
    /// What ended the stream, to be told after the bytes before it: they may hold a better reason to stop.
    failed: Option<io::Error>,
    /// Why the copy could not be written.
    uncopied: Option<io::Error>,
}

impl<R: Read> Inflated<'_, '_, R> {
    /// Reads what follows the archive's end, which belongs to the layer as well.
    fn drain(&mut self) -> io::Result<()> {
        loop {
            match self.fill_buf() {
                Ok([]) => return Ok(()),
                Ok(buffer) => {
                    let count = buffer.len();
                    self.consume(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl<R: Read> Read for Inflated<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: Read> BufRead for Inflated<'_, '_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.filled {
            (self.at, self.filled) = (0, 0);
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            while self.filled < self.buffer.len() {
                match self.stream.read(&mut self.buffer[self.filled..]) {
                    Ok(0) => break,
                    Ok(count) => self.filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if self.filled == 0 => return Err(error),
                    Err(error) => {
                        self.failed = Some(error);
                        break;
                    }
                }
            }
            self.total += self.filled as u64;
            if self.total > (self.limit)() {
                self.exceeded = true;
                self.filled = 0;
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            let piece = &self.buffer[..self.filled];
            self.hasher.update(piece);
            if let Some(copy) = &mut self.copy
                && let Err(error) = copy.writer.write_all(piece)
            {
                self.filled = 0;
                let kind = error.kind();
                self.uncopied = Some(error);
                return Err(kind.into());
            }
        }
        Ok(&self.buffer[self.at..self.filled])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}
