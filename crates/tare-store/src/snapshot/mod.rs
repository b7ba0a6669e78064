//! Layers as the kernel mounts them, behind one trait.

mod dir;
mod erofs;
mod folder;
mod layers;
mod mounts;

pub(crate) use folder::list_digests;
pub use layers::Layers;

use crate::Result;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use tare_spec::DiffId;
use tare_spec::image::Descriptor;

/// What the store knows of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerInfo {
    /// The layer's identity.
    pub diff_id: DiffId,
    /// Bytes in its files, as image sizes count them.
    pub size: u64,
    /// Entries of its archive.
    pub entries: u64,
}

/// Layers that can be read as directories while this lives.
#[derive(Debug)]
#[must_use = "the layers are there only while this lives"]
pub struct Mounted {
    lower_dirs: Vec<PathBuf>,
    /// The mounts among them.
    held: Vec<mounts::Held>,
}

impl Mounted {
    /// The lower directories for overlayfs, the top one first. They must only be read.
    #[must_use]
    pub fn lower_dirs(&self) -> &[PathBuf] {
        &self.lower_dirs
    }

    /// The directory of one layer by itself, counted from the top without those that are there again further down.
    #[must_use]
    pub fn layer(&self, from_top: usize) -> Option<&Path> {
        self.lower_dirs.get(from_top).map(PathBuf::as_path)
    }

    /// Gives the layers back. Those that nobody else has mounted are unmounted; overlays that have them as lower
    /// directories go on. Dropping does the same and keeps silent about failures.
    ///
    /// # Errors
    /// Of unmounting.
    pub fn release(self) -> Result<()> {
        // Each is given back whatever becomes of the others; the first failure is told.
        self.held.into_iter().map(mounts::Held::release).fold(Ok(()), Result::and)
    }
}

/// Keeps layers in a form that overlayfs takes as lower directories.
///
/// Several processes and threads work on the same layers at once.
pub trait Snapshotter: Send + Sync {
    /// The name that `tare info` shows.
    fn name(&self) -> &'static str;

    /// Whether new layers are kept with their archive before compression, byte for byte: see [`Snapshotter::archive`].
    ///
    /// # Errors
    /// Of the disk while the kernel is tried out.
    fn keeps_archives(&self) -> Result<bool>;

    /// Whether the layer is there, wholly and durably. Does not promise that it stays: see [`crate::Lease`].
    ///
    /// # Errors
    /// Of reading the disk.
    fn contains(&self, diff_id: &DiffId) -> Result<bool>;

    /// Takes a layer in from its blob in one pass: transfer digest and size, decompression, diff ID, contents.
    ///
    /// Atomic and durable: after success the layer is whole and survives a power cut, after an error nothing is
    /// left. Idempotent: a layer that is there is not read again. Of several callers at once one does the work,
    /// the others wait. Success does not promise that `blob` was read to its end.
    ///
    /// # Errors
    /// [`crate::Error`]: mismatches, damaged or hostile archives, a full disk.
    fn apply(&self, layer: &Descriptor, diff_id: &DiffId, blob: &mut dyn Read) -> Result<LayerInfo>;

    /// Takes a layer in of which nothing is known: an archive, compressed or not, whose diff ID (SHA-256) shows at its
    /// end. Otherwise as [`Snapshotter::apply`], except that the archive is read to its end in any case, and kept where new
    /// layers keep theirs and this one, which was there, did not.
    ///
    /// # Errors
    /// As [`Snapshotter::apply`].
    fn ingest(&self, archive: &mut dyn Read) -> Result<LayerInfo>;

    /// The layer's archive before compression, byte for byte, where the backend has it.
    ///
    /// # Errors
    /// [`crate::Error::LayerMissing`].
    fn archive(&self, diff_id: &DiffId) -> Result<Option<File>>;

    /// Makes layers visible as lower directories for overlayfs, in the order of an image configuration: the lowest
    /// first; one that is there several times counts where it is highest. A layer that others have mounted is shared. Does not promise that the layers stay: see [`crate::Lease`].
    ///
    /// # Errors
    /// [`crate::Error::LayerMissing`], and those of mounting.
    fn mount(&self, layers: &[DiffId]) -> Result<Mounted>;

    /// Unmounts the layers whose users have all died, as opening the store does.
    ///
    /// # Errors
    /// Of unmounting.
    fn unmount_unused(&self) -> Result<()>;

    /// Bytes in the layer's files.
    ///
    /// # Errors
    /// [`crate::Error::LayerMissing`].
    fn usage(&self, diff_id: &DiffId) -> Result<u64>;

    /// Bytes that the layer occupies on the disk, as `du` counts them, its records included.
    ///
    /// # Errors
    /// [`crate::Error::LayerMissing`].
    fn disk(&self, diff_id: &DiffId) -> Result<u64>;

    /// Reads all of a layer and compares it with what is known of it. `Some` is what is wrong, in words.
    ///
    /// # Errors
    /// [`crate::Error::LayerMissing`]; of the disk, where they are no damage of the layer.
    fn verify(&self, diff_id: &DiffId) -> Result<Option<String>>;

    /// Makes a layer again from its archive, where the backend has that and it is sound; `false` where not. Nothing is lost
    /// by trying. The caller has made sure that nobody uses the layer.
    ///
    /// # Errors
    /// Of the disk.
    fn rebuild(&self, diff_id: &DiffId) -> Result<bool>;

    /// Removes a layer; a missing one is no error. It is gone at once for everybody, its files a little later;
    /// a crash meanwhile leaves them to the next sweep. The caller has made sure that nobody needs it.
    ///
    /// # Errors
    /// Of the disk.
    fn remove(&self, diff_id: &DiffId) -> Result<()> {
        self.remove_all(std::slice::from_ref(diff_id)).into_iter().collect()
    }

    /// Removes layers like [`Snapshotter::remove`], several at once. What became of each, in their order.
    fn remove_all(&self, layers: &[DiffId]) -> Vec<Result<()>>;

    /// All layers, in no order.
    ///
    /// # Errors
    /// Of reading the disk.
    fn list(&self) -> Result<Vec<DiffId>>;
}
