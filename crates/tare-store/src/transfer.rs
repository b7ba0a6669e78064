//! Layers in the form in which registries and archives carry them.
//!
//! ```text
//! ROOT/blobs/<algorithm>/<hex>                the exact bytes, so that every digest survives a push or a save
//! ROOT/blobs/partial/<algorithm>-<hex>        what has arrived of one, locked by whoever takes it in
//! ```
//!
//! A layer passes once: arrive → file → digest → inflate → diff ID → snapshotter. What an interrupted pull had
//! is read again from its file and only the rest is asked for. See `docs/formats/blobs.md`.

use crate::Store;
use crate::error::{Context, Error, Result, is_full};
use crate::layer;
use crate::snapshot::LayerInfo;
use crate::temporary::{is_still, sync_parent};
use rustix::fs::FlockOperation;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tare_spec::image::Descriptor;
use tare_spec::{DiffId, Digest};
use tare_sys::writeback;

/// Bytes after which the disk begins to write what has arrived.
const WRITEBACK: u64 = 8 << 20;

/// Where a blob's bytes come from.
pub trait BlobSource: Sync {
    /// Opens the blob from this byte on.
    ///
    /// # Errors
    /// Those of the source; they come back as the cause of [`Error::Read`].
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>>;
}

/// What taking a layer in came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The store had it; nothing was asked for.
    Existing,
    /// It is new.
    New(LayerInfo),
}

impl Store {
    /// Takes a layer in from its blob, and keeps the blob's bytes.
    ///
    /// Durable when it returns. Of several callers at once, in any process, one does the work and the others wait
    /// for it. What has arrived of a blob whose source broke is kept for the next try; everything else that
    /// fails leaves nothing. `progress` is told how many of the blob's bytes have passed. The caller holds a
    /// [`crate::Lease`] or a [`crate::Intention`].
    ///
    /// # Errors
    /// Those of [`crate::Snapshotter::apply`] and [`Store::put_blob`].
    pub fn take_layer(
        &self,
        layer: &Descriptor,
        diff_id: &DiffId,
        source: &dyn BlobSource,
        progress: &dyn Fn(u64),
    ) -> Result<Taken> {
        // A layer that came by another blob serves as well.
        if self.layers().contains(diff_id)? {
            return Ok(Taken::Existing);
        }
        let Some(arriving) = Arriving::claim(self, layer)? else {
            let mut blob = self.open_blob(layer)?;
            return Ok(Taken::New(self.layers().apply(layer, diff_id, &mut blob)?));
        };
        // Whoever had the claim before may have finished the layer.
        if self.layers().contains(diff_id)? {
            arriving.discard()?;
            return Ok(Taken::Existing);
        }
        let resumed = arriving.length()? > 0;
        let outcome = match arriving.pass(self, layer, diff_id, source, progress) {
            // What was kept of an earlier try may be at fault, for a power cut may have taken bytes from it.
            Err(error) if resumed && !matches!(error, Error::Read { .. } | Error::NoSpace { .. }) => {
                arriving.empty()?;
                arriving.pass(self, layer, diff_id, source, progress)
            }
            outcome => outcome,
        };
        match outcome {
            Ok((info, whole)) => {
                // An uncompressed layer's blob is its archive.
                let twice = layer.digest == diff_id.0 && self.layers().archive(diff_id)?.is_some();
                if whole && !twice {
                    arriving.keep(&self.blob_path(&layer.digest))?
                } else {
                    arriving.discard()?
                }
                Ok(Taken::New(info))
            }
            Err(error @ Error::Read { .. }) => Err(error),
            Err(error) => {
                // The failure matters more than what is left of it; the next collection takes that.
                let _ = arriving.discard();
                Err(error)
            }
        }
    }

    /// Opens a layer's blob, byte for byte as it came or as it was compressed here. Its contents are not verified again.
    ///
    /// # Errors
    /// [`Error::BlobMissing`] when the store has not got it in this form.
    pub fn open_blob(&self, layer: &Descriptor) -> Result<File> {
        let path = self.blob_path(&layer.digest);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result.context("open", &path),
        }
        let archive = match self.layers().archive(&DiffId(layer.digest.clone())) {
            Err(Error::LayerMissing { .. }) => None,
            result => result?,
        };
        archive.ok_or_else(|| Error::BlobMissing { digest: layer.digest.clone() })
    }

    /// A layer's archive before compression. Its contents are not verified again.
    ///
    /// # Errors
    /// [`Error::LayerMissing`]; [`Error::BlobMissing`] when the store has the layer's files only.
    pub fn layer_tar(&self, diff_id: &DiffId, layer: &Descriptor) -> Result<Box<dyn Read + Send>> {
        match self.layers().archive(diff_id)? {
            Some(file) => Ok(Box::new(file)),
            None => Ok(Box::new(layer::inflated(layer, self.open_blob(layer)?)?)),
        }
    }

    /// Partial blobs that nobody is taking in, with the bytes they occupy and their age in seconds.
    pub(crate) fn partial_blobs(&self) -> Result<Vec<PartialBlob>> {
        let folder = self.path("blobs/partial");
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).context("list", &folder)? {
            let path = entry.context("list", &folder)?.path();
            let Ok(file) = File::open(&path) else { continue }; // gone meanwhile
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() || !is_still(&file, &path)? {
                continue;
            }
            let metadata = file.metadata().context("inspect", &path)?;
            let age = metadata.modified().ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
            let name = path.file_name().unwrap_or_default().to_string_lossy().replacen('-', ":", 1);
            let disk = crate::occupied(&path)?;
            found.push(PartialBlob { digest: Digest::parse(&name).ok(), path, disk, age: age.as_secs(), _lock: file });
        }
        Ok(found)
    }
}

/// A partial blob that nobody is taking in, and nobody can while this lives.
pub(crate) struct PartialBlob {
    pub(crate) digest: Option<Digest>,
    pub(crate) path: PathBuf,
    pub(crate) disk: u64,
    pub(crate) age: u64,
    _lock: File,
}

/// A blob on its way in: its file, locked.
struct Arriving {
    file: File,
    path: PathBuf,
}

impl Arriving {
    /// Waits until nobody else takes the blob in. `None` when the store has it.
    fn claim(store: &Store, layer: &Descriptor) -> Result<Option<Self>> {
        let target = store.blob_path(&layer.digest);
        let name = format!("{}-{}", layer.digest.algorithm().name(), layer.digest.hex());
        let path = store.path("blobs/partial").join(name);
        loop {
            if target.try_exists().context("inspect", &target)? {
                return Ok(None);
            }
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
            let file = file.context("open", &path)?;
            rustix::fs::flock(&file, FlockOperation::LockExclusive).context("lock", &path)?;
            if is_still(&file, &path)? && !target.try_exists().context("inspect", &target)? {
                let arriving = Self { file, path };
                if arriving.length()? > layer.size {
                    arriving.empty()?;
                }
                return Ok(Some(arriving));
            }
        }
    }

    fn length(&self) -> Result<u64> {
        Ok(self.file.metadata().context("inspect", &self.path)?.len())
    }

    fn empty(&self) -> Result<()> {
        self.file.set_len(0).context("truncate", &self.path)
    }

    fn discard(self) -> Result<()> {
        fs::remove_file(&self.path).context("remove", &self.path)
    }

    fn keep(self, target: &Path) -> Result<()> {
        self.file.sync_all().context("sync", &self.path)?;
        fs::rename(&self.path, target).context("rename to", target)?;
        sync_parent(target)
    }

    /// One pass. Tells whether all of the blob has come by.
    fn pass(
        &self,
        store: &Store,
        layer: &Descriptor,
        diff_id: &DiffId,
        source: &dyn BlobSource,
        progress: &dyn Fn(u64),
    ) -> Result<(LayerInfo, bool)> {
        let kept = self.length()?;
        let mut stream =
            Stream { file: &self.file, kept, position: 0, rest: None, source, progress, begun: kept, disk: None };
        let outcome = store.layers().apply(layer, diff_id, &mut stream);
        match stream.disk {
            Some(source) if is_full(&source) => {
                Err(Error::NoSpace { what: format!("blob {}", layer.digest), path: store.path("blobs"), source })
            }
            Some(source) => Err(source).context("write", &self.path),
            None => outcome.map(|info| (info, stream.position == layer.size)),
        }
    }
}

/// Reads what is kept, then the rest from the source, which is kept in turn.
struct Stream<'a> {
    file: &'a File,
    kept: u64,
    position: u64,
    rest: Option<Box<dyn Read + Send + 'a>>,
    source: &'a dyn BlobSource,
    progress: &'a dyn Fn(u64),
    /// Up to where the disk has been told to write.
    begun: u64,
    /// The file's own failure.
    disk: Option<io::Error>,
}

impl Stream<'_> {
    /// Writes what has arrived, and has the disk begin with it: the end waits for less then.
    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.position)?;
        let written = self.position + bytes.len() as u64;
        if written - self.begun >= WRITEBACK {
            writeback::start(self.file, self.begun, written - self.begun)?;
            self.begun = written;
        }
        Ok(())
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = if self.position < self.kept {
            let wanted = usize::try_from(self.kept - self.position).unwrap_or(usize::MAX).min(buffer.len());
            self.file.read_at(&mut buffer[..wanted], self.position)?
        } else {
            let rest = match &mut self.rest {
                Some(rest) => rest,
                rest => rest.insert(self.source.open(self.position)?),
            };
            let count = rest.read(buffer)?;
            if let Err(error) = self.keep(&buffer[..count]) {
                let kind = error.kind();
                self.disk = Some(error);
                return Err(kind.into());
            }
            count
        };
        self.position += count as u64;
        (self.progress)(self.position);
        Ok(count)
    }
}
