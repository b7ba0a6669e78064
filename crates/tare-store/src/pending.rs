//! Notes of what images that are being taken in consist of.
//!
//! ```text
//! ROOT/images/pending/<SHA-256 of the note>.json     locked, shared, by all who take that image in
//! ```
//!
//! Written and taken away with `change.lock` held, so that all who need one have locked the same file.

use crate::error::{Context, Result};
use crate::{Store, record};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tare_spec::image::{Descriptor, ImageConfig, Manifest};
use tare_spec::{DiffId, Digest};

/// What an image that is being taken in will refer to.
#[derive(Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) blobs: Vec<Digest>,
    pub(crate) layers: Vec<DiffId>,
}

/// Keeps what an image that is being taken in consists of: see [`Store::intend`].
#[derive(Debug)]
#[must_use = "the content is protected only while this lives"]
pub struct Intention {
    /// The open note carries the lock.
    lock: File,
    path: PathBuf,
}

impl Store {
    /// Notes what an image will consist of, before its layers come. While the intention lives nothing of that is
    /// collected; afterwards what has come of it outlives a pull that broke, by a day. [`Store::settle`] takes the note
    /// away when there is an image, or nothing to go on from. The caller holds a [`crate::Lease`] until this returns.
    ///
    /// `documents` are blobs besides those that the manifest names, its own among them.
    ///
    /// # Errors
    /// Of the disk.
    pub fn intend(
        &self,
        manifest: &Descriptor,
        documents: &[Digest],
        parsed: &Manifest,
        config: &ImageConfig,
    ) -> Result<Intention> {
        let named = parsed.layers.iter().chain([manifest, &parsed.config]).map(|blob| blob.digest.clone());
        let note =
            Pending { blobs: named.chain(documents.iter().cloned()).collect(), layers: config.rootfs.diff_ids.clone() };
        let name = crate::sha256(&record::encode(&note));
        let path = self.path("images/pending").join(format!("{}.json", name.hex()));
        let _change = self.change()?;
        // Somebody else's note is shared, not replaced: a lock is on the file, not on its name.
        if !path.try_exists().context("inspect", &path)? {
            self.write(&path, &note)?;
        }
        let lock = File::options().read(true).write(true).open(&path).context("open", &path)?;
        rustix::fs::flock(&lock, FlockOperation::LockShared).context("lock", &path)?;
        lock.set_modified(SystemTime::now()).context("set the time of", &path)?;
        Ok(Intention { lock, path })
    }

    /// Takes the note of [`Store::intend`] away, unless others take the same image in.
    ///
    /// # Errors
    /// Of the disk.
    pub fn settle(&self, intention: Intention) -> Result<()> {
        let Intention { lock, path } = intention;
        let _change = self.change()?;
        drop(lock);
        remove_unless_locked(&path)
    }

    /// Takes the notes away that somebody left who was killed when the image was there. The caller holds `change.lock`.
    pub(crate) fn forget_notes(&self, manifest: &Digest) -> Result<()> {
        let folder = self.path("images/pending");
        for entry in fs::read_dir(&folder).context("list", &folder)? {
            let path = entry.context("list", &folder)?.path();
            // One that cannot be read is the next collection's business.
            if let Ok(Some(note)) = record::read::<Pending>(&path)
                && note.blobs.contains(manifest)
            {
                remove_unless_locked(&path)?;
            }
        }
        Ok(())
    }

    /// What pulls that run will refer to, and what those that broke have got, of those not older than so many
    /// seconds. Older notes, and any that cannot be read, are taken away. The caller has the right to delete content.
    pub(crate) fn pending(&self, patience: u64) -> Result<Vec<Pending>> {
        let folder = self.path("images/pending");
        let mut pending = Vec::new();
        for entry in fs::read_dir(&folder).context("list", &folder)? {
            let path = entry.context("list", &folder)?.path();
            let Ok(file) = File::open(&path) else { continue }; // done meanwhile
            let lives = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err();
            let age = file.metadata().and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
            let young = age.is_ok_and(|age| age.map_or(0, |age| age.as_secs()) < patience);
            match record::read(&path) {
                Ok(Some(note)) if lives || young => pending.push(note),
                Ok(None) => {}
                _ => remove(&path)?,
            }
        }
        Ok(pending)
    }
}

fn remove_unless_locked(path: &Path) -> Result<()> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result.context("open", path)?,
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => remove(path),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(()),
        Err(error) => Err(error).context("lock", path),
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.context("remove", path),
    }
}
