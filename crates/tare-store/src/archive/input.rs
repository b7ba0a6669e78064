//! From whatever a person hands over to bytes that can be read from anywhere.

use super::{Archive, ArchiveError};
use crate::error::is_full;
use crate::layer::{self, Limits};
use crate::{Error, Result, Store};
use rustix::fs::{Mode, OFlags};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use tare_spec::image::Compression;

/// An archive to load: a tar archive, plain or compressed with gzip or zstd.
pub enum ArchiveInput<'a> {
    /// A file, from its position on. A plain archive in a regular file is read where it is.
    File(File),
    /// Anything else.
    Stream(&'a mut dyn Read),
}

impl Store {
    /// Opens an archive of images. What cannot be read where it is – a pipe, a compressed file – is copied into a
    /// file without a name first, which takes as much room as the uncompressed archive while it is open.
    ///
    /// # Errors
    /// [`Error::ImageArchive`], [`Error::NoSpace`].
    pub fn open_archive(&self, input: ArchiveInput<'_>) -> Result<Archive<'static>> {
        let unreadable = |source| Error::from(ArchiveError::Read(source));
        match input {
            ArchiveInput::File(mut file) => {
                let is_regular = file.metadata().map_err(unreadable)?.is_file();
                let start = if is_regular { file.stream_position().map_err(unreadable)? } else { 0 };
                let magic = magic(&mut file).map_err(unreadable)?;
                match compression(&magic)? {
                    Compression::None if is_regular => Ok(Archive::open(file, start)?),
                    Compression::None => {
                        let mut copy = self.nameless()?;
                        // From a pipe the kernel moves the bytes by itself.
                        let copied = copy.write_all(&magic).and_then(|()| io::copy(&mut file, &mut copy));
                        copied.map_err(|source| self.not_copied(source))?;
                        Ok(Archive::open(copy, 0)?)
                    }
                    compression => self.inflated(compression, &mut magic.as_slice().chain(file)),
                }
            }
            ArchiveInput::Stream(stream) => {
                let magic = magic(&mut *stream).map_err(unreadable)?;
                self.inflated(compression(&magic)?, &mut magic.as_slice().chain(stream))
            }
        }
    }

    fn inflated(&self, compression: Compression, stream: &mut dyn Read) -> Result<Archive<'static>> {
        let unreadable = |source| Error::from(ArchiveError::Read(source));
        let passed = Cell::new(0);
        let stream = Counted { stream, count: &passed };
        let mut inflated: Box<dyn Read + '_> = match compression {
            Compression::None => Box::new(stream),
            Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(stream)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(stream).map_err(unreadable)?),
        };
        let limits = Limits::default();
        let mut copy = self.nameless()?;
        let (mut buffer, mut written) = (vec![0; 256 << 10], 0_u64);
        loop {
            let count = match inflated.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(error)),
            };
            written += count as u64;
            let limit = limits.inflated(passed.get());
            if compression != Compression::None && written > limit {
                return Err(ArchiveError::Bomb { size: passed.get(), limit }.into());
            }
            copy.write_all(&buffer[..count]).map_err(|source| self.not_copied(source))?;
        }
        Ok(Archive::open(copy, 0)?)
    }

    /// A file that is gone when it is closed.
    fn nameless(&self) -> Result<File> {
        let path = self.path("blobs/temporary");
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(file.into()),
            Err(error) => Err(Error::Io { action: "create a file in", path, source: error.into() }),
        }
    }

    fn not_copied(&self, source: io::Error) -> Error {
        let path = self.path("blobs/temporary");
        if is_full(&source) {
            return Error::NoSpace { what: "the uncompressed archive".to_owned(), path, source };
        }
        Error::Io { action: "copy the archive into a file in", path, source }
    }
}

/// The first bytes, by which compression is recognised.
fn magic(stream: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut magic = Vec::new();
    stream.take(6).read_to_end(&mut magic)?;
    Ok(magic)
}

fn compression(magic: &[u8]) -> std::result::Result<Compression, ArchiveError> {
    match layer::compression(magic) {
        Ok(compression) => Ok(compression),
        Err(compression) => Err(ArchiveError::Compression { compression }),
    }
}

/// Counts what passes.
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
