//! The folders that layers are in, whatever their form.
//!
//! ```text
//! ROOT/layers/<algorithm>/<hex of the diff ID>/layer.json   the record, whose presence means: complete
//! ROOT/layers/temporary/<algorithm>-<hex>/                  being taken in, locked by its writer
//! ROOT/layers/temporary/ingested.<pid>.<n>/                 the same, of a layer that nobody knows yet
//! ROOT/layers/temporary/removed-<hex>.<pid>.<n>/            being removed, locked by its remover
//! ```

use super::LayerInfo;
use crate::error::{Context, Error, Result};
use crate::layer::Source;
use crate::parallel::in_parallel;
use crate::record;
use crate::temporary::{self, TemporaryFolder};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use tare_spec::image::Descriptor;
use tare_spec::{DiffId, Digest};
use tare_sys::directory::Directory;

/// Layers whose removal is made durable at once; each has a descriptor open meanwhile.
const REMOVED_AT_ONCE: usize = 64;

/// What is in a layer's folder beside its record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Form {
    /// `fs/`: see `dir.rs`.
    #[default]
    Dir,
    /// `data.tar` and `index.erofs`: see `erofs.rs`.
    Erofs,
}

/// `layer.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LayerRecord {
    #[serde(flatten)]
    pub(super) info: LayerInfo,
    #[serde(default)]
    pub(super) form: Form,
    /// The digest of `index.erofs`, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) index: Option<Digest>,
}

/// See the module's documentation.
pub(super) struct Folders {
    layers: PathBuf,
    temporary: PathBuf,
}

impl Folders {
    /// Opens or creates the folders and sweeps what dead writers left.
    pub(super) fn open(layers: &Path) -> Result<Self> {
        let this = Self { layers: layers.to_owned(), temporary: layers.join("temporary") };
        for folder in ["sha256", "sha512", "temporary"] {
            record::create_folder(&layers.join(folder))?;
        }
        temporary::sweep(&this.temporary)?;
        Ok(this)
    }

    /// Where all of them are.
    pub(super) fn layers(&self) -> &Path {
        &self.layers
    }

    pub(super) fn folder(&self, diff_id: &DiffId) -> PathBuf {
        self.layers.join(diff_id.0.algorithm().name()).join(diff_id.0.hex())
    }

    pub(super) fn record(&self, diff_id: &DiffId) -> Result<Option<LayerRecord>> {
        record::read(&self.folder(diff_id).join("layer.json"))
    }

    pub(super) fn existing(&self, diff_id: &DiffId) -> Result<LayerRecord> {
        self.record(diff_id)?.ok_or_else(|| Error::LayerMissing { diff_id: diff_id.clone() })
    }

    pub(super) fn contains(&self, diff_id: &DiffId) -> Result<bool> {
        let path = self.folder(diff_id).join("layer.json");
        path.try_exists().context("inspect", &path)
    }

    /// Has a layer made by `fill` in a folder of its own, once, unless it is there. `fill` makes all but the record
    /// durable.
    pub(super) fn apply(
        &self,
        layer: &Descriptor,
        diff_id: &DiffId,
        blob: &mut dyn Read,
        fill: impl FnOnce(&Path, Source<'_>) -> Result<LayerRecord>,
    ) -> Result<LayerInfo> {
        loop {
            if let Some(record) = self.record(diff_id)? {
                return Ok(record.info);
            }
            let name = format!("{}-{}", diff_id.0.algorithm().name(), diff_id.0.hex());
            let Some(claim) = TemporaryFolder::claim(&self.temporary, &name)? else { continue };
            // The writer before may have finished between the look and the claim.
            if let Some(record) = self.record(diff_id)? {
                return Ok(record.info);
            }
            return self.fill(claim, Source::Blob { layer, diff_id, blob }, fill);
        }
    }

    /// Has a layer made by `fill` whose diff ID shows at its end; one that is there already is kept.
    pub(super) fn ingest(
        &self,
        archive: &mut dyn Read,
        fill: impl FnOnce(&Path, Source<'_>) -> Result<LayerRecord>,
    ) -> Result<LayerInfo> {
        loop {
            let name = temporary::unique("ingested");
            if let Some(claim) = TemporaryFolder::claim(&self.temporary, &name)? {
                return self.fill(claim, Source::Archive(archive), fill);
            }
        }
    }

    fn fill(
        &self,
        claim: TemporaryFolder,
        source: Source<'_>,
        fill: impl FnOnce(&Path, Source<'_>) -> Result<LayerRecord>,
    ) -> Result<LayerInfo> {
        let record = match fill(claim.path(), source) {
            Err(Error::NoSpace { what, source, .. }) => {
                return Err(Error::NoSpace { what, path: self.layers.clone(), source });
            }
            result => result?,
        };
        write_record(claim.path(), &record)?;
        claim.directory().sync().context("sync", claim.path())?;
        let diff_id = &record.info.diff_id;
        let folder = self.folder(diff_id);
        if !folder.try_exists().context("inspect", &folder)? {
            match claim.persist(&folder) {
                // Somebody else took the same layer in meanwhile.
                Err(Error::Io { source, .. }) if is_taken(&source) => {}
                result => return result.map(|()| record.info),
            }
        } else if record.form == Form::Erofs {
            keep_archive(claim.path(), &folder)?;
        }
        Ok(self.existing(diff_id)?.info)
    }

    /// The folder of a layer, locked as long as the result lives, so that its form can be changed.
    pub(super) fn lock(&self, diff_id: &DiffId) -> Result<Directory> {
        let path = self.folder(diff_id);
        let missing = || Error::LayerMissing { diff_id: diff_id.clone() };
        let folder = match Directory::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            result => result.context("open", &path)?,
        };
        rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive).context("lock", &path)?;
        if temporary::is_still(&folder, &path)? { Ok(folder) } else { Err(missing()) }
    }

    /// A folder for trying something out, removed when it is dropped.
    pub(super) fn scratch(&self) -> Result<TemporaryFolder> {
        loop {
            if let Some(folder) = TemporaryFolder::claim(&self.temporary, &temporary::unique("probe"))? {
                return Ok(folder);
            }
        }
    }

    pub(super) fn remove_all(&self, layers: &[DiffId]) -> Vec<Result<()>> {
        layers.chunks(REMOVED_AT_ONCE).flat_map(|some| self.remove_some(some)).collect()
    }

    /// All are taken out of their places first, which one sync makes durable: a commit of the journal for each would hold up
    /// the removals of the others.
    fn remove_some(&self, layers: &[DiffId]) -> Vec<Result<()>> {
        let take = |diff_id: &DiffId| {
            let stem = format!("removed-{}", diff_id.0.hex());
            TemporaryFolder::take(&self.folder(diff_id), &self.temporary, &stem)
        };
        let taken: Vec<Result<Option<TemporaryFolder>>> = layers.iter().map(take).collect();
        let one_of_each: BTreeMap<_, _> =
            layers.iter().map(|layer| (layer.0.algorithm().name(), self.folder(layer))).collect();
        // Without it they go all the same, and a power cut may bring some back.
        let mut unsynced = one_of_each.values().try_for_each(|path| temporary::sync_parent(path)).err();
        let removed = in_parallel(taken, |folder| folder?.map_or(Ok(()), TemporaryFolder::remove));
        removed.into_iter().map(|removed| unsynced.take().map_or(removed, Err)).collect()
    }

    pub(super) fn list(&self) -> Result<Vec<DiffId>> {
        Ok(list_digests(&self.layers)?.into_iter().map(DiffId).collect())
    }
}

/// Gives a layer that was unpacked its archive, which nobody had kept.
fn keep_archive(from: &Path, folder: &Path) -> Result<()> {
    let (from, to) = (from.join(super::erofs::ARCHIVE), folder.join(super::erofs::ARCHIVE));
    match fs::hard_link(&from, &to) {
        Ok(()) => temporary::sync_parent(&to),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).context("link", &to),
    }
}

/// rename(2) says either of a folder that has something in it.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}

/// Writes the record, or another in its place, durably but for its name in the folder.
pub(super) fn write_record(folder: &Path, record: &LayerRecord) -> Result<()> {
    let path = folder.join("layer.json.new");
    let mut file = fs::File::create(&path).context("create", &path)?;
    file.write_all(&record::encode(record)).context("write", &path)?;
    file.sync_all().context("sync", &path)?;
    fs::rename(&path, folder.join("layer.json")).context("rename", &path)
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
