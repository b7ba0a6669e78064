//! Verified content by digest, without images: the part of a store that a registry is made on, too.
//!
//! ```text
//! FOLDER/<algorithm>/<hex>     content, read-only, by rename when it is whole
//! FOLDER/temporary/            being written, locked by their writers; also records on their way to other folders
//! ```
//!
//! What keeps content alive is the owner's business. A crash leaves files in `temporary/`, which the next
//! [`Content::open`] sweeps.

use crate::error::{Context, Result};
use crate::{record, temporary};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use tare_spec::Digest;
use tare_spec::digest::Algorithm;

pub use crate::hash::Hasher;

/// A folder of content. Safe beside other processes on the same folder.
#[derive(Clone, Debug)]
pub struct Content {
    folder: PathBuf,
}

impl Content {
    /// Opens the folder, creating what is missing with mode 0700, and sweeps what crashes left.
    ///
    /// # Errors
    /// Of the disk.
    pub fn open(folder: &Path) -> Result<Self> {
        for name in ["sha256", "sha512", "temporary"] {
            record::create_folder(&folder.join(name))?;
        }
        temporary::sweep(&folder.join("temporary"))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Where content with this digest is, if it is there.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.algorithm().name()).join(digest.hex())
    }

    /// Opens content; its digest is not verified again.
    ///
    /// # Errors
    /// Of the disk.
    pub fn get(&self, digest: &Digest) -> Result<Option<File>> {
        let path = self.path(digest);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            result => result.context("open", &path).map(Some),
        }
    }

    /// Keeps bytes whose digest the caller has verified. Atomic, durable, idempotent.
    ///
    /// # Errors
    /// [`crate::Error::NoSpace`], or of the disk.
    pub fn put(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let target = self.path(digest);
        if target.try_exists().context("inspect", &target)? {
            return Ok(());
        }
        temporary::write_durably(&self.folder.join("temporary"), &target, bytes)
    }

    /// Takes in a file of the same file system whose digest the caller has verified, by renaming it. Durable.
    ///
    /// # Errors
    /// [`crate::Error::NoSpace`], or of the disk.
    pub fn adopt(&self, digest: &Digest, file: &File, path: &Path) -> Result<()> {
        let target = self.path(digest);
        file.sync_all().context("sync", path)?;
        fs::rename(path, &target).context("rename to", &target)?;
        temporary::sync_parent(&target)
    }

    /// Removes content. Whether it was there.
    ///
    /// # Errors
    /// Of the disk.
    pub fn remove(&self, digest: &Digest) -> Result<bool> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            result => result.context("remove", &path).map(|()| true),
        }
    }

    /// The digests of all content, in no order.
    ///
    /// # Errors
    /// Of the disk.
    pub fn list(&self) -> Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            digests.extend(list(&self.folder, algorithm)?);
        }
        Ok(digests)
    }

    /// Writes a small record so that it is there wholly or not at all, and stays; it replaces what is there.
    ///
    /// # Errors
    /// [`crate::Error::NoSpace`], or of the disk.
    pub fn write_record<T: Serialize>(&self, target: &Path, record: &T) -> Result<()> {
        temporary::write_durably(&self.folder.join("temporary"), target, &record::encode(record))
    }
}

/// The digests that files below `folder/<algorithm>/` have as their names. Other names are not looked at.
///
/// # Errors
/// Of the disk; a folder that is not there has nothing in it.
pub fn list(folder: &Path, algorithm: Algorithm) -> Result<Vec<Digest>> {
    let folder = folder.join(algorithm.name());
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.context("list", &folder)?,
    };
    let mut digests = Vec::new();
    for entry in entries {
        let name = entry.context("list", &folder)?.file_name();
        let digest = name.to_str().map(|hex| Digest::parse(&format!("{}:{hex}", algorithm.name())));
        digests.extend(digest.and_then(std::result::Result::ok));
    }
    Ok(digests)
}

/// Reads a record that [`Content::write_record`] wrote; `None` when there is none.
///
/// # Errors
/// [`crate::Error::Record`], [`crate::Error::Version`], or of the disk.
pub fn read_record<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    record::read(path)
}
