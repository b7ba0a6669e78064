//! What steps came to, by what decided it.
//!
//! ```text
//! ROOT/build/cache/<hex of the key>.json     a record: the layer that the step made; its mtime is when it was used last
//! ROOT/build/running/<hex of the key>        flocked by who builds the step right now
//! ```
//!
//! Written by builds, in any number of processes at once; a record appears by rename, and only counts its uses from then on. Nothing is synced: after a
//! power cut a record is there wholly, or is found out not to be and counts as absent. A record keeps its layer from being
//! collected. See `docs/formats/build.md`.

mod key;
mod prune;
mod sweep;
mod wait;

pub use key::{Key, Parts};
pub use prune::{CacheEntry, CacheLimits, beyond, forget};
pub(crate) use sweep::is_named;
pub use sweep::sweep;
pub use wait::Wait;

use crate::error::{Error, Result};
use crate::executor::Folders;
use jiff::Timestamp;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tare_spec::DiffId;
use tare_spec::image::Descriptor;

/// The version of the records; another one counts as absent.
const VERSION: u32 = 1;

/// Far above any record.
const LIMIT: u64 = 64 << 10;

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    version: u32,
    /// What decided it.
    pub key: Key,
    /// The layer: uncompressed if it was made here, else as it came.
    pub layer: Descriptor,
    /// What it is known by.
    pub diff_id: DiffId,
    /// Its compressed form, once one was made of a layer that was made here: the next push or export need not make it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compressed: Option<Descriptor>,
    /// The statement.
    pub description: String,
    /// When it was built.
    pub created: Timestamp,
    /// How often builds have used it since.
    pub used: u64,
}

impl Record {
    /// A record that was made now.
    #[must_use]
    pub fn new(key: Key, layer: Descriptor, diff_id: DiffId, description: &str) -> Self {
        // What is shown of a statement fits a line.
        let description = description.chars().take(512).collect();
        Self {
            version: VERSION,
            key,
            layer,
            diff_id,
            compressed: None,
            description,
            created: Timestamp::now(),
            used: 0,
        }
    }
}

/// A step of a build, to be told elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedStep {
    /// What it came to.
    pub record: Record,
    /// Whether its layer is part of the result.
    pub in_result: bool,
}

/// The records of all builds.
#[derive(Clone, Debug)]
pub struct Cache {
    records: PathBuf,
    running: PathBuf,
}

/// Keeps everyone else from building the same step.
#[derive(Debug)]
pub struct Claim {
    /// The open file carries the lock.
    _lock: File,
    path: PathBuf,
}

impl Cache {
    /// The cache below these folders, which are made when absent.
    ///
    /// # Errors
    /// Of the disk.
    pub fn open(folders: &Folders) -> Result<Self> {
        let cache = Self::existing(folders);
        for folder in [&cache.records, &cache.running] {
            make_folder(folder)?;
        }
        Ok(cache)
    }

    /// The cache below these folders, to look at only: they may be absent.
    #[must_use]
    pub fn existing(folders: &Folders) -> Self {
        Self { records: folders.cache(), running: folders.running() }
    }

    /// What is known of a step; it counts as used then. A record that cannot be read is none.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Record> {
        let path = self.path(key);
        let record = read(&path).filter(|record| record.key == *key)?;
        // If it fails, it was used a little less and earlier, as far as anyone knows.
        let _ = self.put(&Record { used: record.used + 1, ..record.clone() });
        Some(record)
    }

    /// Keeps what a step came to. The caller holds a [`tare_store::Lease`] that is older than the layer.
    ///
    /// # Errors
    /// Of the disk.
    pub fn put(&self, record: &Record) -> Result<()> {
        let path = self.path(&record.key);
        let bytes = serde_json::to_vec(record).expect("records are structures of strings and numbers");
        write(&path, &bytes)
    }

    /// Waits until nobody else builds the step.
    ///
    /// # Errors
    /// [`Error::Cancelled`]; of the disk.
    pub fn claim(&self, key: &Key, wait: &Wait<'_>) -> Result<Claim> {
        let path = self.running.join(key.hex());
        loop {
            let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(&path);
            let file = file.map_err(failed("open", &path))?;
            wait.lock(&file, &path, false)?;
            // Whoever had it has removed it.
            if is_named(&file, &path)? {
                return Ok(Claim { _lock: file, path });
            }
        }
    }

    /// Keeps the compressed forms of layers with the records of the steps that made them. The caller holds a
    /// [`tare_store::Lease`] that is older than they are.
    ///
    /// # Errors
    /// Of the disk.
    pub fn keep_compressed(&self, forms: &BTreeMap<DiffId, Descriptor>) -> Result<()> {
        if forms.is_empty() {
            return Ok(());
        }
        for (_, record) in self.list()? {
            if let Some(form) = forms.get(&record.diff_id).filter(|form| record.compressed.as_ref() != Some(form)) {
                self.put(&Record { compressed: Some(form.clone()), ..record })?;
            }
        }
        Ok(())
    }

    /// All records, in no order, and where they are.
    fn list(&self) -> Result<Vec<(PathBuf, Record)>> {
        let mut records = Vec::new();
        let entries = match fs::read_dir(&self.records) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(records),
            entries => entries.map_err(failed("list", &self.records))?,
        };
        for entry in entries {
            let path = entry.map_err(failed("list", &self.records))?.path();
            if path.extension().is_some_and(|extension| extension == "json")
                && let Some(record) = read(&path)
            {
                records.push((path, record));
            }
        }
        Ok(records)
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.records.join(format!("{}.json", key.hex()))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // While it is locked: who waits sees that it is another file then. One that stays is swept.
        let _ = fs::remove_file(&self.path);
    }
}

fn read(path: &Path) -> Option<Record> {
    let file = File::open(path).ok()?;
    if file.metadata().ok()?.len() > LIMIT {
        return None;
    }
    let record: Record = serde_json::from_reader(io::BufReader::new(file)).ok()?;
    (record.version == VERSION).then_some(record)
}

/// Writes a file so that it is there wholly or not at all as long as the machine runs. What a writer leaves that is killed, [`sweep()`] takes away
/// from the folders of records.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension(format!("{}-{:?}", std::process::id(), std::thread::current().id()));
    let mut file = loop {
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary);
        let file = file.map_err(failed("create", &temporary))?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))
            .map_err(|errno| failed("lock", &temporary)(errno.into()))?;
        // A sweep may have taken it before it was locked.
        if is_named(&file, &temporary)? {
            break file;
        }
    };
    let written = file.write_all(bytes).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|source| {
        // What matters is why it could not be written.
        let _ = fs::remove_file(&temporary);
        failed("write", path)(source)
    })
}

/// Makes a folder that only its owner may look into, and those above it.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create", path))
}

pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { action, path, source }
}
