//! The store as a whole: its folders and locks.
//!
//! ```text
//! ROOT/blobs/<algorithm>/<hex>          manifests, indexes, configurations, layers in their transfer form
//!                                       (blob.rs, transfer.rs)
//! ROOT/blobs/partial/                   what has arrived of layers, locked by who takes them in
//! ROOT/blobs/temporary/                 being written, locked by their writers
//! ROOT/layers/…                         unpacked layers                          (snapshot/)
//! ROOT/images/records/…, references/…   what is an image, and its names          (images.rs)
//! ROOT/images/temporary/                being written, locked by their writers
//! ROOT/images/use.lock                  shared: content is being added or taken into use; exclusive: collected
//! ROOT/images/change.lock               exclusive: a record or reference is changed
//! ```
//!
//! Lock order: `use.lock`, `change.lock`, then a layer's or file's own. A crash releases them all and leaves
//! only temporary files, which the next [`Store::open`] sweeps, and content that nothing refers to, which the
//! next collection removes.

use crate::error::{Context, Result};
use crate::layer::Limits;
use crate::snapshot::{Layers, Snapshotter};
use crate::{record, temporary};
use rustix::fs::FlockOperation;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Images on disk. Cheap to open, safe to share between threads, safe beside other processes' stores on the
/// same root.
pub struct Store {
    root: PathBuf,
    layers: Box<dyn Snapshotter>,
}

/// How layers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Kept as their archives with an index that the kernel mounts; Linux 6.12.
    Erofs,
    /// Unpacked into directories.
    Directory,
}

/// Where a store is and how it works.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// What stays: blobs, layers, records.
    pub root: PathBuf,
    /// Where layers are mounted; a folder that is empty after a boot.
    pub mounts: PathBuf,
    /// The form of new layers; the best that the kernel can when absent.
    pub backend: Option<Backend>,
    /// How large layers may be.
    pub limits: Limits,
}

impl StoreOptions {
    /// A store at `root` that mounts its layers below `mounts`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, mounts: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), mounts: mounts.into(), backend: None, limits: Limits::default() }
    }
}

/// Keeps all content of the store from being collected, by this or another process, until it is dropped.
///
/// Held while an image is taken in, from the first blob until its record is written, and from finding an
/// image until whatever uses its layers has been recorded.
#[derive(Debug)]
#[must_use = "the content is protected only while this lives"]
pub struct Lease {
    /// The open file carries the lock.
    _lock: File,
}

impl Store {
    /// Opens a store, creating what is missing with mode 0700, and sweeps what crashes left.
    ///
    /// # Errors
    /// Of the disk.
    pub fn open(options: &StoreOptions) -> Result<Self> {
        let root = &options.root;
        for folder in [
            "blobs/sha256",
            "blobs/sha512",
            "blobs/temporary",
            "blobs/partial",
            "images/records",
            "images/references",
            "images/pending",
        ] {
            record::create_folder(&root.join(folder))?;
        }
        record::create_folder(&root.join("images/temporary"))?;
        temporary::sweep(&root.join("blobs/temporary"))?;
        temporary::sweep(&root.join("images/temporary"))?;
        let layers = Box::new(Layers::open(options)?);
        Ok(Self { root: root.to_owned(), layers })
    }

    /// The layers.
    #[must_use]
    pub fn layers(&self) -> &dyn Snapshotter {
        &*self.layers
    }

    /// Protects all content until the lease is dropped. Waits while a collection runs.
    ///
    /// # Errors
    /// Of the disk.
    pub fn lease(&self) -> Result<Lease> {
        Ok(Lease { _lock: self.lock("images/use.lock", FlockOperation::LockShared)? })
    }

    /// The right to delete content, or `None` while anybody holds a lease.
    pub(crate) fn collection(&self) -> Result<Option<File>> {
        let path = self.root.join("images/use.lock");
        let file = open_lock(&path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).context("lock", &path),
        }
    }

    /// The right to change records and references; held for some system calls only.
    pub(crate) fn change(&self) -> Result<File> {
        self.lock("images/change.lock", FlockOperation::LockExclusive)
    }

    fn lock(&self, name: &str, operation: FlockOperation) -> Result<File> {
        let path = self.root.join(name);
        let file = open_lock(&path)?;
        rustix::fs::flock(&file, operation).context("lock", &path)?;
        Ok(file)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

fn open_lock(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).context("open", path)
}
