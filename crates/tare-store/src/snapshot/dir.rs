//! Layers unpacked into directories: the backend that works on every kernel and file system.
//!
//! ```text
//! ROOT/layers/<algorithm>/<hex of the diff ID>/layer.json   see folder.rs
//!                                              fs/          the lower directory
//! ```
//!
//! Whiteouts are character devices 0/0, opaque folders carry `trusted.overlay.opaque`. The format is described in
//! `docs/formats/layers.md`.

use super::folder::{Folders, Form, LayerRecord};
use super::{LayerInfo, Mounted, Snapshotter};
use crate::error::{Context, Error, Result};
use crate::layer::{self, Limits, Source, Unpacker};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use tare_spec::DiffId;
use tare_spec::image::Descriptor;
use tare_sys::directory::Directory;

/// Layers of up to this many entries are written to the disk file by file: `syncfs(2)` would wait for
/// everything that others have written as well.
const SYNC_EACH: u64 = 64;

/// See the module's documentation.
pub struct DirectorySnapshotter {
    folders: Folders,
    limits: Limits,
}

impl DirectorySnapshotter {
    /// Opens or creates the backend's folders below `layers` and sweeps what dead writers left.
    ///
    /// # Errors
    /// Of the disk.
    pub fn open(layers: &Path, limits: Limits) -> Result<Self> {
        Ok(Self { folders: Folders::open(layers)?, limits })
    }
}

/// Unpacks a layer into `fs` in a folder, durably.
pub(super) fn unpack(folder: &Path, source: Source<'_>, limits: &Limits) -> Result<LayerInfo> {
    let path = folder.join("fs");
    fs::create_dir(&path).context("create", &path)?;
    let root = Directory::open(&path).context("open", &path)?;
    let (filled, diff_id) = layer::take(source, &mut Unpacker::new(&root, &path), None, limits)?;
    let synced = if filled.entries <= SYNC_EACH { root.sync_tree() } else { root.sync_file_system() };
    synced.context("sync", &path)?;
    Ok(LayerInfo { diff_id, size: filled.size, entries: filled.entries })
}

impl Snapshotter for DirectorySnapshotter {
    fn name(&self) -> &'static str {
        "dir"
    }

    fn contains(&self, diff_id: &DiffId) -> Result<bool> {
        self.folders.contains(diff_id)
    }

    fn apply(&self, layer: &Descriptor, diff_id: &DiffId, blob: &mut dyn Read) -> Result<LayerInfo> {
        self.folders.apply(layer, diff_id, blob, |folder, source| {
            Ok(LayerRecord { info: unpack(folder, source, &self.limits)?, form: Form::Dir })
        })
    }

    fn ingest(&self, archive: &mut dyn Read) -> Result<LayerInfo> {
        self.folders.ingest(archive, |folder, source| {
            Ok(LayerRecord { info: unpack(folder, source, &self.limits)?, form: Form::Dir })
        })
    }

    fn archive(&self, diff_id: &DiffId) -> Result<Option<File>> {
        self.folders.existing(diff_id).map(|_| None)
    }

    fn mount(&self, layers: &[DiffId]) -> Result<Mounted> {
        let folders = layers.iter().rev().map(|diff_id| {
            if self.contains(diff_id)? {
                Ok(self.folders.folder(diff_id).join("fs"))
            } else {
                Err(Error::LayerMissing { diff_id: diff_id.clone() })
            }
        });
        Ok(Mounted { lower_dirs: folders.collect::<Result<_>>()? })
    }

    fn usage(&self, diff_id: &DiffId) -> Result<u64> {
        Ok(self.folders.existing(diff_id)?.info.size)
    }

    fn disk(&self, diff_id: &DiffId) -> Result<u64> {
        self.folders.existing(diff_id)?;
        crate::disk::occupied(&self.folders.folder(diff_id))
    }

    fn verify(&self, diff_id: &DiffId) -> Result<Option<String>> {
        let info = match self.folders.existing(diff_id).map(|record| record.info) {
            Err(Error::Record { source, .. }) => return Ok(Some(format!("its record cannot be read: {source}"))),
            result => result?,
        };
        // Unpacked, it has no digest to compare with: what its files hold in bytes is all that is known.
        let root = self.folders.folder(diff_id).join("fs");
        Ok(match crate::disk::contents(&root) {
            Ok(size) if size == info.size => None,
            Ok(size) => Some(format!("its files have {size} bytes, expected {}", info.size)),
            Err(error) => Some(error.to_string()),
        })
    }

    fn remove(&self, diff_id: &DiffId) -> Result<()> {
        self.folders.remove(diff_id)
    }

    fn list(&self) -> Result<Vec<DiffId>> {
        self.folders.list()
    }
}
