//! The build cache as a person sees it: steps that were built, and folders of `RUN --mount=type=cache`.

use super::filter::CacheFilter;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::image::{UsedLayers, Without};
use crate::state::file;
use jiff::Timestamp;
use rustix::fs::FlockOperation;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tare_build::cache::{Cache, CacheEntry, CacheLimits, Record, beyond, forget};
use tare_spec::{DiffId, ImageId};
use tare_store::Store;

/// The kind of a step.
const STEP: &str = "regular";
/// What folders that are being removed end in; those of killed prunes are removed by the next one.
const GONE: &str = ".gone";
/// The kind of a folder of `RUN --mount=type=cache`.
const MOUNT: &str = "exec.cachemount";

/// What the build cache keeps of a step, or for steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRecord {
    /// Its id.
    pub id: String,
    /// `regular`, `exec.cachemount`.
    pub kind: String,
    /// What it is of: `[2/3] RUN make`.
    pub description: String,
    /// Bytes of its files.
    pub size: u64,
    /// Bytes of the disk that would be free without it.
    pub disk: u64,
    /// When it was made.
    pub created: Timestamp,
    /// When it was used last.
    pub last_used: Timestamp,
    /// How often builds have used it since.
    pub used: u64,
    /// Whether a build uses it right now.
    pub in_use: bool,
    /// Whether something else has its data, too: an image.
    pub shared: bool,
}

/// What of the build cache is to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneBuilds {
    /// Everything that no build uses right now, not only what no image has.
    pub all: bool,
    /// Only what matches.
    pub filter: CacheFilter,
    /// So many bytes stay, those used last.
    pub keep_storage: Option<u64>,
    /// Nothing goes; what would go is told.
    pub dry_run: bool,
    /// Images that are about to be removed: what they have is not shared with them.
    pub without_images: BTreeSet<ImageId>,
}

/// What is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildsPruned {
    /// The records.
    pub removed: Vec<CacheRecord>,
    /// Bytes of the disk.
    pub reclaimed: u64,
    /// Whether content stayed until the next collection, because something is being pulled or built right now.
    pub deferred: bool,
}

/// A record and what it is on the disk.
enum Kept {
    Step(Box<CacheEntry>),
    Mount(PathBuf),
}

impl Engine {
    /// What the build cache has, what was used last first.
    ///
    /// # Errors
    /// Of the disk.
    pub fn build_cache(&self) -> Result<Vec<CacheRecord>> {
        Ok(self.cache_records(&BTreeSet::new())?.into_iter().map(|(record, _)| record).collect())
    }

    /// Bytes on the disk of the layers that only the build cache has.
    pub(crate) fn build_layers(&self) -> Result<u64> {
        let records = self.cache_records(&BTreeSet::new())?;
        let steps = records.iter().filter(|(_, kept)| matches!(kept, Kept::Step(_)));
        Ok(steps.map(|(record, _)| record.disk).sum())
    }

    /// Removes from the build cache. What builds use right now stays.
    ///
    /// # Errors
    /// The first failure, after everything else was tried.
    pub fn prune_builds(&self, wish: &PruneBuilds) -> Result<BuildsPruned> {
        let mut errors: Vec<Error> = self.sweep_builds().err().into_iter().collect();
        if !wish.dry_run {
            errors.extend(forget(&self.build_folders(), super::CACHE_AGE).map_err(Error::from).err());
        }
        let mut kept = 0_u64;
        let goes = |record: &CacheRecord, kept: &mut u64| {
            let free = !record.in_use && (wish.all || !record.shared) && wish.filter.matches(record);
            *kept = kept.saturating_add(record.disk);
            free && wish.keep_storage.is_none_or(|limit| *kept > limit)
        };
        let going: Vec<(CacheRecord, Kept)> = self
            .cache_records(&wish.without_images)?
            .into_iter()
            .filter(|(record, _)| goes(record, &mut kept))
            .collect();
        if wish.dry_run {
            let removed: Vec<CacheRecord> = going.into_iter().map(|(record, _)| record).collect();
            let reclaimed = removed.iter().map(|record| record.disk).sum();
            return Ok(BuildsPruned { removed, reclaimed, deferred: false });
        }
        let mut pruned = BuildsPruned::default();
        let mut steps = Vec::new();
        for (record, kept) in going {
            match kept {
                Kept::Step(entry) => steps.push(*entry),
                Kept::Mount(folder) => match remove_mount(&folder) {
                    Ok(true) => pruned.reclaimed += record.disk,
                    Ok(false) => continue, // taken into use meanwhile
                    Err(error) => {
                        errors.push(error);
                        continue;
                    }
                },
            }
            pruned.removed.push(record);
        }
        errors.extend(Cache::existing(&self.build_folders()).remove(&steps).map_err(Error::from).err());
        match self.collect() {
            Ok(collected) => {
                pruned.reclaimed += collected.disk;
                pruned.deferred = collected.deferred;
            }
            Err(error) => errors.push(error),
        }
        Error::of_clean_up(errors)?;
        Ok(pruned)
    }

    /// Takes away what is beyond the cache's bounds: what was not used for long, and the oldest of what is too much.
    pub(super) fn bound_build_cache(&self) -> Result<()> {
        forget(&self.build_folders(), super::CACHE_AGE)?;
        let store = self.store()?;
        let cache = Cache::existing(&self.build_folders());
        let entries: Vec<(CacheEntry, u64)> = cache
            .entries()?
            .into_iter()
            .map(|entry| {
                let bytes = disk(store, &entry);
                (entry, bytes)
            })
            .collect();
        let limits = CacheLimits { size: Some(self.cache_limit()?), age: Some(super::CACHE_AGE) };
        let going: Vec<CacheEntry> = beyond(&entries, limits, Timestamp::now()).into_iter().cloned().collect();
        if !going.is_empty() {
            cache.remove(&going)?;
            self.collect()?;
        }
        Ok(())
    }

    /// A tenth of the disk, as BuildKit has it, and what a few builds need at least.
    fn cache_limit(&self) -> Result<u64> {
        let failed = |errno: rustix::io::Errno| Error::file("inspect", &self.paths.root, errno.into());
        let disk = rustix::fs::statvfs(&self.paths.root).map_err(failed)?;
        Ok((disk.f_blocks.saturating_mul(disk.f_frsize) / 10).max(super::CACHE_MINIMUM))
    }

    fn cache_records(&self, without: &BTreeSet<ImageId>) -> Result<Vec<(CacheRecord, Kept)>> {
        let store = self.store()?;
        let mut in_images = BTreeSet::new();
        for image in store.summaries()?.into_iter().filter(|image| !without.contains(&image.id)) {
            in_images.extend(image.layers);
        }
        let steps = Without { all_steps: true, ..Without::default() };
        let used = UsedLayers::new(self, &steps);
        let mut records = Vec::new();
        let mut seen: BTreeMap<DiffId, u64> = BTreeMap::new();
        for entry in Cache::existing(&self.build_folders()).entries()? {
            let layer = &entry.record.diff_id;
            let shared = in_images.contains(layer) || used.contains(layer);
            // Of records with one layer, the first has its bytes.
            let first = !seen.contains_key(layer);
            let bytes = *seen.entry(layer.clone()).or_insert_with(|| disk(store, &entry));
            let record = CacheRecord {
                id: entry.record.key.hex().to_owned(),
                kind: STEP.to_owned(),
                description: entry.record.description.clone(),
                size: store.layers().usage(layer).unwrap_or(0),
                disk: if shared || !first { 0 } else { bytes },
                created: entry.record.created,
                last_used: entry.last_used,
                used: entry.record.used,
                in_use: false,
                shared,
            };
            records.push((record, Kept::Step(Box::new(entry))));
        }
        for folder in subfolders(&self.build_folders().mounts())? {
            if folder.extension().is_some_and(|extension| extension == "gone") {
                // Somebody else may be at it.
                let _ = file::remove_tree(&folder);
                continue;
            }
            records.extend(mount_record(&folder)?.map(|record| (record, Kept::Mount(folder))));
        }
        records.sort_by_key(|(record, _)| std::cmp::Reverse(record.last_used));
        Ok(records)
    }
}

/// Bytes on the disk of a step's layer, with its compressed form: the one in which it came, or one that was made of it.
fn disk(store: &Store, entry: &CacheEntry) -> u64 {
    let Record { layer, diff_id, compressed, .. } = &entry.record;
    let blobs = compressed.iter().chain([layer]).filter(|blob| blob.digest != diff_id.0);
    store.layers().disk(diff_id).unwrap_or(0)
        + blobs.map(|blob| store.blob_disk(&blob.digest).unwrap_or(0)).sum::<u64>()
}

fn subfolders(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::file("list", folder, source);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
}

fn mount_record(folder: &Path) -> Result<Option<CacheRecord>> {
    let lock = folder.join("lock");
    let Ok(file) = File::open(&lock) else { return Ok(None) }; // removed meanwhile
    let in_use = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err();
    let id = file::read_text(&folder.join("id"))?.unwrap_or_default();
    let bytes = tare_store::occupied(folder).map_err(Error::from)?;
    let time = |time: std::io::Result<std::time::SystemTime>| {
        time.ok().and_then(|time| Timestamp::try_from(time).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
    };
    let metadata = fs::metadata(&lock).map_err(|source| Error::file("inspect", &lock, source))?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Some(CacheRecord {
        id: name,
        kind: MOUNT.to_owned(),
        description: format!("mount {id} from exec"),
        size: bytes,
        disk: bytes,
        created: time(metadata.created()),
        last_used: time(metadata.modified()),
        used: 0,
        in_use,
        shared: false,
    }))
}

/// Removes a cache folder unless a build uses it.
fn remove_mount(folder: &Path) -> Result<bool> {
    let path = folder.join("lock");
    let Ok(lock) = File::open(&path) else { return Ok(false) };
    if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(false);
    }
    // Aside first: who waits for the lock sees that it is another folder then, and makes a new one.
    let mut aside = folder.as_os_str().to_owned();
    aside.push(GONE);
    let aside = PathBuf::from(aside);
    file::remove_tree(&aside)?;
    fs::rename(folder, &aside).map_err(|source| Error::file("rename", folder, source))?;
    file::remove_tree(&aside)?;
    Ok(true)
}
