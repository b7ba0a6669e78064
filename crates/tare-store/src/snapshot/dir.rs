//! Layers unpacked into directories: the backend that works on every kernel and file system.
//!
//! ```text
//! ROOT/layers/<algorithm>/<hex of the diff ID>/layer.json   see folder.rs
//!                                              fs/          the lower directory
//!                                              data.tar     where it was an index before, see erofs.rs
//! ```
//!
//! Whiteouts are character devices 0/0, opaque folders carry `trusted.overlay.opaque`. The format is described in
//! `docs/formats/layers.md`.

use super::LayerInfo;
use super::folder::{Form, LayerRecord};
use crate::error::{Context, Result};
use crate::layer::{self, Limits, Source, Unpacker};
use std::fs;
use std::path::Path;
use tare_sys::directory::Directory;

/// The lower directory in a layer's folder.
pub(super) const FILES: &str = "fs";

/// Layers of up to this many entries are written to the disk file by file: `syncfs(2)` would wait for
/// everything that others have written as well.
const SYNC_EACH: u64 = 64;

/// Unpacks a layer into a folder, durably.
pub(super) fn fill(folder: &Path, source: Source<'_>, limits: &Limits) -> Result<LayerRecord> {
    let path = folder.join(FILES);
    fs::create_dir(&path).context("create", &path)?;
    let root = Directory::open(&path).context("open", &path)?;
    let (filled, diff_id) = layer::take(source, &mut Unpacker::new(&root, &path), None, limits)?;
    let synced = if filled.entries <= SYNC_EACH { root.sync_tree() } else { root.sync_file_system() };
    synced.context("sync", &path)?;
    let info = LayerInfo { diff_id, size: filled.size, entries: filled.entries };
    Ok(LayerRecord { info, form: Form::Dir, index: None })
}

/// What is wrong with a layer. Unpacked, it has no digest to compare with: what its files hold in bytes is all that is
/// known.
pub(super) fn verify(folder: &Path, record: &LayerRecord) -> Option<String> {
    match crate::disk::contents(&folder.join(FILES)) {
        Ok(size) if size == record.info.size => None,
        Ok(size) => Some(format!("its files have {size} bytes, expected {}", record.info.size)),
        Err(error) => Some(error.to_string()),
    }
}
