//! Layers as the kernel mounts them, behind one trait.

mod dir;

pub use dir::DirectorySnapshotter;
pub(crate) use dir::list_digests;

use crate::Result;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::PathBuf;
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

/// Keeps layers in a form that overlayfs takes as lower directories.
///
/// Several processes and threads work on the same layers at once.
pub trait Snapshotter: Send + Sync {
    /// The name that `tare info` shows.
    fn name(&self) -> &'static str;

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

    /// The lower directories for overlayfs, the top one first, of layers in the order of an image configuration,
    /// the lowest first. They must only be read. Does not promise that they stay: see [`crate::Lease`].
    ///
    /// # Errors
    /// [`crate::Error::LayerMissing`].
    fn lower_dirs(&self, layers: &[DiffId]) -> Result<Vec<PathBuf>>;

    /// Bytes in the layer's files.
    ///
    /// # Errors
    /// [`crate::Error::LayerMissing`].
    fn usage(&self, diff_id: &DiffId) -> Result<u64>;

    /// Removes a layer; a missing one is no error. It is gone at once for everybody, its files a little later;
    /// a crash meanwhile leaves them to the next sweep. The caller has made sure that nobody needs it.
    ///
    /// # Errors
    /// Of the disk.
    fn remove(&self, diff_id: &DiffId) -> Result<()>;

    /// All layers, in no order.
    ///
    /// # Errors
    /// Of reading the disk.
    fn list(&self) -> Result<Vec<DiffId>>;
}
