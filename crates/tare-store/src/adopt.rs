//! Layers that come without a descriptor: what they are is found out while they pass.
//!
//! ```text
//! members ─► archive ─► pipe in memory ─┐
//! an archive ───────────────────────────┴─► snapshotter, hashed on its way
//!                                           └► ROOT/blobs/temporary, where the snapshotter does not keep these very bytes
//! ```

use crate::error::{Context, Error, Result, is_full};
use crate::hash::Hasher;
use crate::layer;
use crate::pipe::{self, PipeWriter};
use crate::store::Store;
use crate::tar::{TarError, Writer};
use crate::temporary::TemporaryFile;
use std::io::{self, BufWriter, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use tare_spec::DiffId;
use tare_spec::digest::Algorithm;
use tare_spec::image::{Compression, Descriptor, media_type};

/// Takes the members of a layer in the making.
pub type LayerWriter = Writer<BufWriter<PipeWriter>>;

/// Bytes that are handed to the snapshotter at once.
const PIECE: usize = 256 << 10;

/// Enough of an archive's beginning to tell how it is compressed.
const MAGIC: usize = 6;

impl Store {
    /// Makes a layer of the members that `write` writes, in one pass: nothing is spooled to be read again. Returns its
    /// descriptor, with Docker's media type where the image's others are Docker's; its diff ID; and what `write` returned.
    ///
    /// Durable when it returns. After an error of `write`, or a panic of it, nothing is left. The caller holds a
    /// [`crate::Lease`].
    ///
    /// # Errors
    /// What `write` returns, and those of [`Store::ingest_layer`].
    pub fn write_layer<T, E: From<Error>>(
        &self,
        docker: bool,
        write: impl FnOnce(&mut LayerWriter) -> std::result::Result<T, E>,
    ) -> std::result::Result<(Descriptor, DiffId, T), E> {
        let abandoned = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (end, mut stream) = pipe::new(&abandoned);
            let taking = scope.spawn(move || self.ingest_layer(&mut stream, docker));
            let mut writer = Writer::new(BufWriter::with_capacity(PIECE, end));
            let written = write(&mut writer);
            let outcome = match written {
                Ok(value) => finish(writer).map(|()| value).map_err(|source| E::from(layer::output(source))),
                // The writer goes without an end of the archive: the other side hears that and takes nothing in.
                Err(error) => {
                    abort(writer);
                    Err(error)
                }
            };
            let taken = taking.join().expect("a thread that panicked has said why");
            match (outcome, taken) {
                (Ok(value), Ok((layer, diff_id))) => Ok((layer, diff_id, value)),
                (Err(error), _) if abandoned.load(Ordering::Relaxed) => Err(error),
                // Who writes into a pipe that nobody reads any more does not know why.
                (_, Err(error)) => Err(error.into()),
                (Err(error), Ok(_)) => Err(error),
            }
        })
    }

    /// Takes in a layer of which nothing is known, in one pass: an archive, plain or compressed with gzip or zstd, and keeps
    /// it as it is. Returns its descriptor, with Docker's media types where the image's others are Docker's, and its diff
    /// ID.
    ///
    /// Durable when it returns; after an error nothing is left. The caller holds a [`crate::Lease`].
    ///
    /// # Errors
    /// Those of [`crate::Snapshotter::ingest`] and [`Store::put_blob`].
    pub fn ingest_layer(&self, archive: &mut dyn Read, docker: bool) -> Result<(Descriptor, DiffId)> {
        let name = "of the archive";
        let mut magic = Vec::with_capacity(MAGIC);
        (&mut *archive).take(MAGIC as u64).read_to_end(&mut magic).map_err(|source| Error::Archive {
            layer: name.to_owned(),
            source: TarError::Read { offset: 0, source },
        })?;
        let compression = layer::compression(&magic)
            .map_err(|compression| Error::Compression { layer: name.to_owned(), compression })?;
        let is_plain = matches!(compression, Compression::None);
        let kept = if is_plain && self.layers().keeps_archives()? {
            None
        } else {
            Some(TemporaryFile::create(&self.path("blobs/temporary"), "layer")?)
        };
        // What a plain archive hashes to is its diff ID.
        let hasher = (!is_plain).then(|| Hasher::new(Algorithm::Sha256));
        let whole = io::Cursor::new(magic).chain(archive);
        let mut passing = Passing { stream: whole, size: 0, hasher, kept, failed: None };
        let taken = self.layers().ingest(&mut passing);
        let Passing { stream, size, hasher, kept, failed } = passing;
        drop(stream);
        match failed {
            Some(source) if is_full(&source) => {
                return Err(Error::NoSpace { what: format!("layer {name}"), path: self.path("blobs"), source });
            }
            Some(source) => return Err(source).context("write", &self.path("blobs/temporary")),
            None => {}
        }
        let diff_id = taken?.diff_id;
        let digest = hasher.map_or_else(|| diff_id.0.clone(), Hasher::finish);
        if let Some(kept) = kept
            // Of a plain one the layer itself may have come in this form before.
            && !(is_plain && self.layers().archive(&diff_id)?.is_some())
        {
            let target = self.blob_path(&digest);
            if !target.try_exists().context("inspect", &target)? {
                kept.persist(&target)?;
            }
        }
        let media_type = match (compression, docker) {
            (Compression::None, false) => media_type::OCI_LAYER,
            (Compression::Gzip, false) => media_type::OCI_LAYER_GZIP,
            (Compression::Zstd, false) => media_type::OCI_LAYER_ZSTD,
            (Compression::None, true) => media_type::DOCKER_LAYER,
            (Compression::Gzip, true) => media_type::DOCKER_LAYER_GZIP,
            (Compression::Zstd, true) => media_type::DOCKER_LAYER_ZSTD,
        };
        Ok((Descriptor::new(media_type, digest, size), diff_id))
    }
}

/// Ends the archive.
fn finish(writer: LayerWriter) -> io::Result<()> {
    let buffered = writer.finish()?;
    let end = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    end.finish()
}

/// Drops the archive without writing what is buffered.
fn abort(writer: LayerWriter) {
    drop(writer.into_inner().into_parts());
}

/// The bytes of an archive on their way: counted, hashed and kept as far as that is wanted.
struct Passing<R> {
    stream: R,
    size: u64,
    hasher: Option<Hasher>,
    kept: Option<TemporaryFile>,
    /// Why they could not be kept.
    failed: Option<io::Error>,
}

impl<R: Read> Read for Passing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.size += count as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        if let Some(kept) = &mut self.kept
            && let Err(error) = kept.file().write_all(&buffer[..count])
        {
            let kind = error.kind();
            self.failed = Some(error);
            return Err(kind.into());
        }
        Ok(count)
    }
}
