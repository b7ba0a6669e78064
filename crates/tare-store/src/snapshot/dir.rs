//! Layers unpacked into directories: the backend that works on every kernel and file system.
//!
//! ```text
//! ROOT/layers/<algorithm>/<hex of the diff ID>/layer.json   written last, so its presence means: complete
//!                                              fs/          the lower directory
//! ROOT/layers/temporary/<algorithm>-<hex>/                  being unpacked, locked by its writer
//! ```
//!
//! Whiteouts are character devices 0/0, opaque folders carry `trusted.overlay.opaque`. The format is described in
//! `docs/formats/layers.md`.

use super::{LayerInfo, Mounted, Snapshotter};
use crate::error::{Context, Error, Result};
use crate::layer::{self, Limits};
use crate::record;
use crate::temporary::{self, TemporaryFolder};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use tare_spec::image::Descriptor;
use tare_spec::{DiffId, Digest};
use tare_sys::directory::Directory;

/// Layers of up to this many entries are written to the disk file by file: `syncfs(2)` would wait for
/// everything that others have written as well.
const SYNC_EACH: u64 = 64;

/// See the module's documentation.
pub struct DirectorySnapshotter {
    layers: PathBuf,
    temporary: PathBuf,
    limits: Limits,
}

impl DirectorySnapshotter {
    /// Opens or creates the backend's folders below `layers` and sweeps what dead writers left.
    ///
    /// # Errors
    /// Of the disk.
    pub fn open(layers: &Path, limits: Limits) -> Result<Self> {
        let this = Self { layers: layers.to_owned(), temporary: layers.join("temporary"), limits };
        for folder in ["sha256", "sha512", "temporary"] {
            record::create_folder(&layers.join(folder))?;
        }
        temporary::sweep(&this.temporary)?;
        Ok(this)
    }

    fn folder(&self, diff_id: &DiffId) -> PathBuf {
        self.layers.join(diff_id.0.algorithm().name()).join(diff_id.0.hex())
    }

    fn info(&self, diff_id: &DiffId) -> Result<Option<LayerInfo>> {
        record::read(&self.folder(diff_id).join("layer.json"))
    }

    fn existing(&self, diff_id: &DiffId) -> Result<LayerInfo> {
        self.info(diff_id)?.ok_or_else(|| Error::LayerMissing { diff_id: diff_id.clone() })
    }

    fn fill(
        &self,
        claim: TemporaryFolder,
        layer: &Descriptor,
        diff_id: &DiffId,
        blob: &mut dyn Read,
    ) -> Result<LayerInfo> {
        let path = claim.path().join("fs");
        fs::create_dir(&path).context("create", &path)?;
        let root = Directory::open(&path).context("open", &path)?;
        root.set_own(0, 0, 0o755).context("set the mode of", &path)?;
        let unpacked = match layer::apply(layer, diff_id, blob, &root, &self.limits) {
            Err(Error::NoSpace { what, source, .. }) => {
                return Err(Error::NoSpace { what, path: self.layers.clone(), source });
            }
            result => result?,
        };
        let info = LayerInfo { diff_id: diff_id.clone(), size: unpacked.size, entries: unpacked.entries };
        let file = claim.path().join("layer.json");
        fs::write(&file, record::encode(&info)).context("write", &file)?;
        let synced = if unpacked.entries <= SYNC_EACH {
            claim.directory().sync_tree()
        } else {
            claim.directory().sync_file_system()
        };
        synced.context("sync", claim.path())?;
        claim.persist(&self.folder(diff_id))?;
        Ok(info)
    }
}

impl Snapshotter for DirectorySnapshotter {
    fn name(&self) -> &'static str {
        "dir"
    }

    fn contains(&self, diff_id: &DiffId) -> Result<bool> {
        let path = self.folder(diff_id).join("layer.json");
        path.try_exists().context("inspect", &path)
    }

    fn apply(&self, layer: &Descriptor, diff_id: &DiffId, blob: &mut dyn Read) -> Result<LayerInfo> {
        loop {
            if let Some(info) = self.info(diff_id)? {
                return Ok(info);
            }
            let name = format!("{}-{}", diff_id.0.algorithm().name(), diff_id.0.hex());
            let Some(claim) = TemporaryFolder::claim(&self.temporary, &name)? else { continue };
            // The writer before may have finished between the look and the claim.
            if let Some(info) = self.info(diff_id)? {
                return Ok(info);
            }
            return self.fill(claim, layer, diff_id, blob);
        }
    }

    fn archive(&self, diff_id: &DiffId) -> Result<Option<File>> {
        self.existing(diff_id).map(|_| None)
    }

    fn mount(&self, layers: &[DiffId]) -> Result<Mounted> {
        let folders = layers.iter().rev().map(|diff_id| {
            if self.contains(diff_id)? {
                Ok(self.folder(diff_id).join("fs"))
            } else {
                Err(Error::LayerMissing { diff_id: diff_id.clone() })
            }
        });
        Ok(Mounted { lower_dirs: folders.collect::<Result<_>>()? })
    }

    fn usage(&self, diff_id: &DiffId) -> Result<u64> {
        Ok(self.existing(diff_id)?.size)
    }

    fn disk(&self, diff_id: &DiffId) -> Result<u64> {
        self.existing(diff_id)?;
        crate::disk::occupied(&self.folder(diff_id))
    }

    fn verify(&self, diff_id: &DiffId) -> Result<Option<String>> {
        let info = match self.existing(diff_id) {
            Err(Error::Record { source, .. }) => return Ok(Some(format!("its record cannot be read: {source}"))),
            result => result?,
        };
        // Unpacked, it has no digest to compare with: what its files hold in bytes is all that is known.
        let root = self.folder(diff_id).join("fs");
        Ok(match crate::disk::contents(&root) {
            Ok(size) if size == info.size => None,
            Ok(size) => Some(format!("its files have {size} bytes, expected {}", info.size)),
            Err(error) => Some(error.to_string()),
        })
    }

    fn remove(&self, diff_id: &DiffId) -> Result<()> {
        let stem = format!("removed-{}", diff_id.0.hex());
        match TemporaryFolder::take(&self.folder(diff_id), &self.temporary, &stem)? {
            Some(folder) => folder.remove(),
            None => Ok(()),
        }
    }

    fn list(&self) -> Result<Vec<DiffId>> {
        Ok(list_digests(&self.layers)?.into_iter().map(DiffId).collect())
    }
}

/// The digests that have an entry below `<folder>/<algorithm>/`.
pub(crate) fn list_digests(folder: &Path) -> Result<Vec<Digest>> {
    let mut digests = Vec::new();
    for algorithm in ["sha256", "sha512"] {
        let path = folder.join(algorithm);
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            result => result.context("list", &path)?,
        };
        for entry in entries {
            let name = entry.context("list", &path)?.file_name();
            // Anything else was put there by a person, who may know why.
            if let Ok(digest) = Digest::parse(&format!("{algorithm}:{}", name.to_string_lossy())) {
                digests.push(digest);
            }
        }
    }
    Ok(digests)
}
