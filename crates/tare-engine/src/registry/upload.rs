//! Blobs on their way in: a file each, named by its session, that any request may go on with.
//!
//! Whoever writes to it holds its `flock`. The hash of what is there stays in memory between requests; where it is
//! missing – the server was started anew, or there are too many – the file is read again at the end.

use super::layout::RepositoryLayout;
use super::storage::{UploadTarget, names};
use crate::error::{Error, Result};
use rustix::fs::FlockOperation;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tare_registry::server::{StorageError, StorageResult, Upload, UploadId};
use tare_spec::Digest;
use tare_spec::digest::Algorithm;
use tare_store::content::Hasher;

/// How long nobody may go on with an upload before it is removed.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// How many new bytes the disk is told to write.
const WRITE_BACK: u64 = 16 << 20;
/// How many hashes of uploads between their requests are kept.
const HASHES: usize = 4096;

/// Hashes of uploads that no request is writing to, with the number of bytes they are of.
#[derive(Default)]
pub(super) struct Hashes(Mutex<HashMap<UploadId, (u64, Hasher)>>);

impl std::fmt::Debug for Hashes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hashes").finish_non_exhaustive()
    }
}

impl Hashes {
    /// The hash of the first `size` bytes of an upload, if it is known.
    pub(super) fn take(&self, id: &UploadId, size: u64) -> Option<Hasher> {
        if size == 0 {
            return Some(Hasher::new(Algorithm::Sha256));
        }
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        kept.filter(|(known, _)| *known == size).map(|(_, hasher)| hasher)
    }

    fn keep(&self, id: &UploadId, size: u64, hasher: Hasher) {
        let mut hashes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if size > 0 && hashes.len() < HASHES {
            hashes.insert(id.clone(), (size, hasher));
        }
    }

    fn forget(&self, id: &str) {
        if let Some(id) = UploadId::parse(id) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        }
    }
}

/// Begins an upload in a folder that is there.
pub(super) fn create(repository: &RepositoryLayout) -> Result<UploadId> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Error::System { action: "get random bytes", source: error.into() })?;
    let id = UploadId::from_random(bytes);
    let path = repository.upload(&id);
    // Not synced: what a client was told here is that it may begin, not that something is done.
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    created.map_err(|source| Error::file("create", &path, source))?;
    Ok(id)
}

/// Opens an upload for writing at its end; gives back its size as well.
pub(super) fn open(path: &Path) -> StorageResult<Option<(File, u64)>> {
    let failed = |source| Error::file("open", path, source);
    let file = match OpenOptions::new().read(true).append(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.map_err(failed)?,
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(StorageError::Busy),
        Err(error) => return Err(Error::file("lock", path, error.into()).into()),
    }
    // Who had it before may have finished or removed it.
    let metadata = file.metadata().map_err(failed)?;
    match fs::symlink_metadata(path) {
        Ok(named) if (named.dev(), named.ino()) == (metadata.dev(), metadata.ino()) => Ok(Some((file, metadata.len()))),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error).into()),
    }
}

/// Removes uploads that were left alone.
pub(super) fn expire(repository: &RepositoryLayout, hashes: &Hashes) -> StorageResult<()> {
    for name in names(&repository.uploads())?.unwrap_or_default() {
        let path = repository.uploads().join(&name);
        let is_old = || {
            let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
            modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age >= PATIENCE))
        };
        if !is_old() {
            continue;
        }
        // With its lock nobody can come back to it before it is gone; somebody may have until now.
        match open(&path) {
            Ok(Some(_locked)) if is_old() => {
                hashes.forget(&name);
                fs::remove_file(&path).map_err(|source| Error::file("remove", &path, source))?;
            }
            Ok(_) | Err(StorageError::Busy) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// An upload that this request writes to.
pub(super) struct FileUpload {
    file: File,
    path: PathBuf,
    id: UploadId,
    size: u64,
    /// Up to where the disk was told to begin.
    written_back: u64,
    hash: Option<Hasher>,
    hashes: Arc<Hashes>,
    target: UploadTarget,
}

impl FileUpload {
    pub(super) fn new(
        file: File,
        path: PathBuf,
        id: UploadId,
        size: u64,
        hash: Option<Hasher>,
        hashes: Arc<Hashes>,
        target: UploadTarget,
    ) -> Self {
        Self { file, path, id, size, written_back: size, hash, hashes, target }
    }

    /// The digest of the whole file.
    fn digest(&mut self, algorithm: Algorithm) -> Result<Digest> {
        if let Some(hash) = self.hash.take().filter(|_| algorithm == Algorithm::Sha256) {
            return Ok(hash.finish());
        }
        let mut hasher = Hasher::new(algorithm);
        let (mut buffer, mut offset) = (vec![0; 256 << 10], 0);
        loop {
            match self.file.read_at(&mut buffer, offset) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    offset += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::file("read", &self.path, source)),
            }
        }
    }

    /// Lets the disk begin with what is new, so that there is little left to wait for at the end. The kernel takes "not needed"
    /// for dirty pages as "write them" (mm/fadvise.c).
    fn write_back(&mut self) {
        let length = std::num::NonZero::new(self.size - self.written_back);
        // Advice that is not taken costs time only.
        let _ = rustix::fs::fadvise(&self.file, self.written_back, length, rustix::fs::Advice::DontNeed);
        self.written_back = self.size;
    }

    fn remove(&mut self) -> Result<()> {
        self.hash = None;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::file("remove", &self.path, error)),
            _ => Ok(()),
        }
    }
}

impl Upload for FileUpload {
    fn size(&self) -> u64 {
        self.size
    }

    fn write(&mut self, bytes: &[u8]) -> StorageResult<()> {
        if let Err(source) = self.file.write_all(bytes) {
            let error = Error::file("write", &self.path, source);
            // The first failure is the one to tell; what cannot be removed expires.
            let _ = self.remove();
            return Err(error.into());
        }
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        self.size += bytes.len() as u64;
        if self.size - self.written_back >= WRITE_BACK {
            self.write_back();
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, expected: &Digest) -> StorageResult<()> {
        let stored = self.digest(expected.algorithm()).map_err(StorageError::from).and_then(|actual| {
            if actual == *expected {
                Ok(self.target.adopt(expected, &self.file, &self.path)?)
            } else {
                Err(StorageError::Digest { expected: expected.clone(), actual })
            }
        });
        // After a success there is nothing left under this name.
        let removed = self.remove();
        stored.and_then(|()| Ok(removed?))
    }

    fn discard(mut self: Box<Self>) -> StorageResult<()> {
        Ok(self.remove()?)
    }

    fn reader(&self) -> StorageResult<File> {
        Ok(File::open(&self.path).map_err(|source| Error::file("open", &self.path, source))?)
    }
}

impl Drop for FileUpload {
    fn drop(&mut self) {
        if let Some(hash) = self.hash.take() {
            self.hashes.keep(&self.id, self.size, hash);
        }
    }
}
