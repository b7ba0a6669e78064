//! Which records go when the cache becomes too large or too old.

use super::{Cache, Record, failed};
use crate::error::Result;
use crate::executor::Folders;
use jiff::Timestamp;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A record, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEntry {
    /// What is known of the step.
    pub record: Record,
    /// When a build used it last.
    pub last_used: Timestamp,
}

/// How much of the cache stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheLimits {
    /// Bytes at most: what was used last stays.
    pub size: Option<u64>,
    /// What was not used for so long goes.
    pub age: Option<Duration>,
}

impl Cache {
    /// All records, what was used last first.
    ///
    /// # Errors
    /// Of the disk.
    pub fn entries(&self) -> Result<Vec<CacheEntry>> {
        let mut entries = Vec::new();
        for (path, record) in self.list()? {
            let modified = match fs::metadata(&path).and_then(|metadata| metadata.modified()) {
                Ok(modified) => modified,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // removed meanwhile
                Err(source) => return Err(failed("inspect", &path)(source)),
            };
            let last_used = Timestamp::try_from(modified).unwrap_or(record.created);
            entries.push(CacheEntry { record, last_used });
        }
        entries.sort_by(|one, other| (other.last_used, &other.record.key).cmp(&(one.last_used, &one.record.key)));
        Ok(entries)
    }

    /// Removes records; their layers are collected when nothing else needs them. One that is gone is no error.
    ///
    /// # Errors
    /// The first failure; the others are removed all the same.
    pub fn remove(&self, entries: &[CacheEntry]) -> Result<()> {
        let remove = |entry: &CacheEntry| remove_file(&self.path(&entry.record.key));
        entries.iter().map(remove).fold(Ok(()), Result::and)
    }
}

/// Removes what builds have left for `--explain` and not written for so long.
///
/// # Errors
/// The first failure; the others are removed all the same.
pub fn forget(folders: &Folders, age: Duration) -> Result<()> {
    let last = old_files(&folders.last(), age)?.into_iter().map(|path| remove_file(&path));
    last.fold(Ok(()), Result::and)
}

/// Files that were not written for so long.
fn old_files(folder: &Path, age: Duration) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("list", folder))?,
    };
    let mut old = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("list", folder))?;
        // One that is gone meanwhile, or from the future, is not old.
        let written = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        if written.and_then(|written| written.elapsed().ok()).is_some_and(|since| since >= age) {
            old.push(entry.path());
        }
    }
    Ok(old)
}

/// One that is gone is no error.
pub(super) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(failed("remove", path)),
    }
}

/// Of records with the bytes that each occupies, what was used last first: those that the limits send away.
#[must_use]
pub fn beyond(entries: &[(CacheEntry, u64)], limits: CacheLimits, now: Timestamp) -> Vec<&CacheEntry> {
    let mut total = 0_u64;
    let goes = |(entry, bytes): &&(CacheEntry, u64)| {
        let age = now.duration_since(entry.last_used).unsigned_abs();
        let is_old = limits.age.is_some_and(|limit| entry.last_used < now && age > limit);
        if is_old {
            return true;
        }
        total = total.saturating_add(*bytes);
        limits.size.is_some_and(|limit| total > limit)
    };
    entries.iter().filter(goes).map(|(entry, _)| entry).collect()
}
