//! What is an image, and its names.
//!
//! ```text
//! ROOT/images/records/<algorithm>-<hex of the image ID>.json     one an image
//! ROOT/images/references/<SHA-256 of the full reference>.json    one a name; moving a tag is one rename
//! ```
//!
//! They are written with `change.lock` held and read without. See `docs/formats/images.md`.

use crate::error::{Context, Error, Result};
use crate::temporary::{sync_parent, write_durably};
use crate::{Store, record};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tare_spec::image::{CONFIG_LIMIT, ImageConfig, MANIFEST_LIMIT, Manifest};
use tare_spec::reference::InvalidReference;
use tare_spec::{DiffId, Digest, ImageId, Platform, Reference};

/// An image of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRecord {
    /// The digest of its configuration.
    pub id: ImageId,
    /// The manifest it was stored by.
    pub manifest: Digest,
    /// The index that led to the manifest, if one did.
    pub index: Option<Digest>,
    /// Its names with tags, sorted.
    pub references: Vec<Reference>,
    /// Its names with digests, sorted.
    pub repo_digests: Vec<Reference>,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its layers, the lowest first.
    pub layers: Vec<DiffId>,
    /// Bytes in the files of all its layers.
    pub size: u64,
    /// When it came into this store.
    pub stored: Timestamp,
    /// When it was given a name last.
    pub tagged: Option<Timestamp>,
}

/// What a list shows of an image, without its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSummary {
    /// The digest of its configuration.
    pub id: ImageId,
    /// The manifest it was stored by.
    pub manifest: Digest,
    /// The index that led to the manifest, if one did.
    pub index: Option<Digest>,
    /// Its names with tags, sorted.
    pub references: Vec<Reference>,
    /// Its names with digests, sorted.
    pub repo_digests: Vec<Reference>,
    /// Its layers, the lowest first.
    pub layers: Vec<DiffId>,
    /// Bytes in the files of all its layers.
    pub size: u64,
    /// When it came into this store.
    pub stored: Timestamp,
    /// When it was given a name last.
    pub tagged: Option<Timestamp>,
    /// What the configuration and the manifest say.
    pub facts: Facts,
}

/// What lists show of configuration and manifest: kept in the record, so that a list reads no documents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// When it was made, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// What it is for.
    pub platform: Platform,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Bytes of its index, manifest, configuration and layers in the form they are transferred in.
    pub content: u64,
}

impl Facts {
    /// Far below a record's limit and far above honest images.
    const LIMIT: usize = 64 << 10;

    fn new(config: &ImageConfig, content: u64) -> Self {
        Self {
            created: config.created.as_deref().and_then(|text| text.parse().ok()),
            platform: config.platform(),
            labels: config.config.as_ref().map(|config| config.labels.clone()).unwrap_or_default(),
            content,
        }
    }

    /// Whether they fit into a record.
    fn are_small(&self) -> bool {
        let Platform { architecture, os, variant } = &self.platform;
        let labels: usize = self.labels.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        labels + architecture.len() + os.len() + variant.as_ref().map_or(0, String::len) <= Self::LIMIT
    }
}

/// What the store's own records tell of an image, without its documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageOutline {
    /// The digest of its configuration.
    pub id: ImageId,
    /// The manifest it was stored by.
    pub manifest: Digest,
    /// The index that led to the manifest, if one did.
    pub index: Option<Digest>,
    /// Its layers, the lowest first.
    pub layers: Vec<DiffId>,
    /// Its names with tags, sorted.
    pub references: Vec<Reference>,
    /// Its names with digests, sorted.
    pub repo_digests: Vec<Reference>,
}

impl ImageOutline {
    /// The repositories it came from or went to.
    #[must_use]
    pub fn repositories(&self) -> BTreeSet<Reference> {
        self.repo_digests.iter().map(Reference::without_version).collect()
    }
}

/// What a person's word for an image led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The image.
    pub image: ImageRecord,
    /// The name by which it was found; `None` when it was found by its id.
    pub reference: Option<Reference>,
}

/// `records/*.json`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StoredImage {
    pub(crate) id: ImageId,
    pub(crate) manifest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<Digest>,
    pub(crate) layers: Vec<DiffId>,
    pub(crate) size: u64,
    pub(crate) stored: Timestamp,
    /// Absent where they are too large, and in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    facts: Option<Facts>,
}

/// `references/*.json`.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredReference {
    pub(crate) reference: Reference,
    pub(crate) image: ImageId,
    /// What the name stands for where that is more than the image: an index that names it among others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<Digest>,
    pub(crate) updated: Timestamp,
}

/// The names of one image.
#[derive(Default)]
struct Names {
    references: Vec<Reference>,
    repo_digests: Vec<Reference>,
    tagged: Option<Timestamp>,
}

impl Names {
    fn add(&mut self, stored: StoredReference) {
        self.tagged = self.tagged.max(Some(stored.updated));
        let names = if stored.reference.digest().is_some() { &mut self.repo_digests } else { &mut self.references };
        names.push(stored.reference);
    }

    fn sort(&mut self) {
        self.references.sort();
        self.repo_digests.sort();
    }
}

impl Store {
    /// Records an image whose manifest, configuration and layers are in the store. Returns its id, the digest
    /// of the configuration. Idempotent; recorded by another manifest before, the new one takes its place.
    ///
    /// The caller holds a [`crate::Lease`] since before the first of them was stored.
    ///
    /// # Errors
    /// [`Error::Document`] for anything but a runnable image, [`Error::BlobMissing`], [`Error::LayerMissing`].
    pub fn put_image(&self, manifest: &Digest, index: Option<&Digest>) -> Result<ImageId> {
        Ok(self.put_named_image(manifest, index, &[])?.0)
    }

    /// Like [`Store::put_image`], and gives the image names, so that whoever removes it meanwhile does so before or
    /// afterwards. Returns also which of the names another image had, and which.
    ///
    /// # Errors
    /// As [`Store::put_image`].
    pub fn put_named_image(
        &self,
        manifest: &Digest,
        index: Option<&Digest>,
        names: &[Reference],
    ) -> Result<(ImageId, Vec<(Reference, ImageId)>)> {
        let bytes = self.blob(manifest, MANIFEST_LIMIT)?;
        let document = |source| Error::Document { digest: manifest.clone(), source };
        let parsed = Manifest::parse(&bytes, None).map_err(document)?;
        let id = ImageId(parsed.image_config().map_err(document)?.digest.clone());
        let config = self.image_config(&id)?;
        parsed.check_layers(&config).map_err(document)?;
        let mut size = 0_u64;
        for diff_id in &config.rootfs.diff_ids {
            size = size.saturating_add(self.layers().usage(diff_id)?);
        }
        let mut content = content_size(&parsed, bytes.len());
        if let Some(index) = index {
            content = content.saturating_add(self.blob(index, MANIFEST_LIMIT)?.len() as u64);
        }
        let facts = Some(Facts::new(&config, content)).filter(Facts::are_small);
        // What was found here may have been put here by somebody who has not come, or will never come, to make its
        // name durable; its contents are.
        let layers = config.rootfs.diff_ids;
        let blobs = [Some(&id.0), Some(manifest), index].into_iter().flatten().map(|digest| self.blob_path(digest));
        let folders: BTreeSet<PathBuf> = blobs
            .chain(layers.iter().map(|layer| self.layer_path(layer)))
            .map(|path| path.with_file_name(""))
            .collect();
        for folder in folders {
            sync_parent(&folder.join("content"))?;
        }
        let _change = self.change()?;
        let path = self.record_path(&id);
        let stored = record::read::<StoredImage>(&path)?.map_or_else(Timestamp::now, |old| old.stored);
        let (manifest, index) = (manifest.clone(), index.cloned());
        let record = StoredImage { id: id.clone(), manifest, index: index.clone(), layers, size, stored, facts };
        self.write(&path, &record)?;
        let moved = self.write_names(names, &id, index.as_ref())?;
        Ok((id, moved))
    }

    /// Gives an image a name, taking it from the image that has it. A reference without tag and digest gets the
    /// tag `latest`; one with a digest is kept as a repository digest. With an index the name stands for all that this
    /// names. Atomic and durable.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`].
    pub fn tag(&self, reference: &Reference, image: &ImageId, index: Option<&Digest>) -> Result<()> {
        match self.name_existing(std::slice::from_ref(reference), image, index)? {
            Some(_) => Ok(()),
            None => Err(Error::ImageNotFound { name: image.to_string() }),
        }
    }

    /// Gives an image names; `None` if there is no such image. Returns which of them another image had, and which.
    pub(crate) fn name_existing(
        &self,
        names: &[Reference],
        image: &ImageId,
        index: Option<&Digest>,
    ) -> Result<Option<Vec<(Reference, ImageId)>>> {
        let _change = self.change()?;
        if record::read::<StoredImage>(&self.record_path(image))?.is_none() {
            return Ok(None);
        }
        self.write_names(names, image, index).map(Some)
    }

    /// The caller holds `change.lock`.
    fn write_names(
        &self,
        names: &[Reference],
        image: &ImageId,
        index: Option<&Digest>,
    ) -> Result<Vec<(Reference, ImageId)>> {
        let mut moved = Vec::new();
        for name in names {
            let reference = canonical(name);
            let path = self.reference_path(&reference);
            let before = record::read::<StoredReference>(&path)?;
            moved.extend(before.filter(|before| before.image != *image).map(|before| (name.clone(), before.image)));
            let (image, index) = (image.clone(), index.cloned());
            self.write(&path, &StoredReference { reference, image, index, updated: Timestamp::now() })?;
        }
        Ok(moved)
    }

    /// Takes a name away, and with the last tag of a repository that an image has, the image's digests in that
    /// repository, as Docker does. Returns what was taken away; the image itself stays.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`] when no image has the name.
    pub fn untag(&self, reference: &Reference) -> Result<Vec<Reference>> {
        let _change = self.change()?;
        let reference = canonical(reference);
        let Some(stored) = record::read::<StoredReference>(&self.reference_path(&reference))? else {
            return Err(Error::ImageNotFound { name: reference.familiar() });
        };
        let repository = reference.without_version();
        let siblings: Vec<Reference> = self
            .stored_references()?
            .into_iter()
            .filter(|other| other.image == stored.image && other.reference.without_version() == repository)
            .map(|other| other.reference)
            .filter(|other| *other != reference)
            .collect();
        let mut removed = vec![reference];
        if removed[0].digest().is_none() && siblings.iter().all(|sibling| sibling.digest().is_some()) {
            removed.extend(siblings);
        }
        for reference in &removed {
            self.remove_record(&self.reference_path(reference))?;
        }
        Ok(removed)
    }

    /// All images, in no order.
    ///
    /// # Errors
    /// [`Error::Record`], [`Error::BlobMissing`] when the store was damaged from outside.
    pub fn images(&self) -> Result<Vec<ImageRecord>> {
        let mut images = Vec::new();
        let mut names = self.names()?;
        for stored in self.stored_images()? {
            let names = names.remove(&stored.id).unwrap_or_default();
            match self.load(stored, names) {
                // Removed and collected between reading its record and its configuration.
                Err(Error::BlobMissing { digest }) if !self.record_path(&ImageId(digest.clone())).exists() => {}
                result => images.push(result?),
            }
        }
        Ok(images)
    }

    /// All images, in no order, as far as a list needs them: their documents are neither read nor verified.
    ///
    /// # Errors
    /// As [`Store::images`].
    pub fn summaries(&self) -> Result<Vec<ImageSummary>> {
        let mut images = Vec::new();
        let mut names = self.names()?;
        for stored in self.stored_images()? {
            let names = names.remove(&stored.id).unwrap_or_default();
            match self.summary(stored, names) {
                Err(Error::BlobMissing { digest }) if !self.record_path(&ImageId(digest.clone())).exists() => {}
                result => images.push(result?),
            }
        }
        Ok(images)
    }

    fn names(&self) -> Result<BTreeMap<ImageId, Names>> {
        let mut names: BTreeMap<ImageId, Names> = BTreeMap::new();
        for stored in self.stored_references()? {
            names.entry(stored.image.clone()).or_default().add(stored);
        }
        names.values_mut().for_each(Names::sort);
        Ok(names)
    }

    fn summary(&self, stored: StoredImage, names: Names) -> Result<ImageSummary> {
        let StoredImage { id, manifest, index, layers, size, stored, facts } = stored;
        let facts = match facts {
            Some(facts) => facts,
            None => {
                let length = self.blob(&manifest, MANIFEST_LIMIT)?.len();
                Facts::new(&self.image_config(&id)?, content_size(&self.manifest(&manifest)?, length))
            }
        };
        let Names { references, repo_digests, tagged } = names;
        Ok(ImageSummary { id, manifest, index, references, repo_digests, layers, size, stored, tagged, facts })
    }

    /// All images whose records can be read, whatever their documents are like.
    ///
    /// # Errors
    /// Of listing the records.
    pub fn outlines(&self) -> Result<Vec<ImageOutline>> {
        let mut names: BTreeMap<ImageId, Names> = BTreeMap::new();
        for stored in self.records::<StoredReference>("images/references", &mut Vec::new())? {
            names.entry(stored.image.clone()).or_default().add(stored);
        }
        let images: Vec<StoredImage> = self.records("images/records", &mut Vec::new())?;
        let outline = |image: StoredImage| {
            let names = names.remove(&image.id).unwrap_or_default();
            outline(image, names)
        };
        Ok(images.into_iter().map(outline).collect())
    }

    /// The image that a person means: see [`Store::resolve`].
    ///
    /// # Errors
    /// As [`Store::resolve`].
    pub fn find(&self, name: &str) -> Result<ImageRecord> {
        Ok(self.resolve(name)?.image)
    }

    /// The image that a person means, in Docker's order: a full id, with or without `sha256:`; a name, with the
    /// tag `latest` if it has none; the beginning of an id.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`], [`Error::Ambiguous`], [`Error::Reference`].
    pub fn resolve(&self, name: &str) -> Result<Found> {
        let (stored, reference) = self.locate(name)?;
        let names = self.names()?.remove(&stored.id).unwrap_or_default();
        Ok(Found { image: self.load(stored, names)?, reference })
    }

    /// Like [`Store::resolve`], for who does not need the image's documents, which may be damaged.
    ///
    /// # Errors
    /// As [`Store::resolve`].
    pub fn resolve_outline(&self, name: &str) -> Result<(ImageOutline, Option<Reference>)> {
        let (stored, reference) = self.locate(name)?;
        let names = self.names()?.remove(&stored.id).unwrap_or_default();
        Ok((outline(stored, names), reference))
    }

    /// Like [`Store::resolve`], but the image comes without its names: to collect them all references are read.
    ///
    /// # Errors
    /// As [`Store::resolve`].
    pub fn resolve_without_names(&self, name: &str) -> Result<ImageRecord> {
        let (stored, _) = self.locate(name)?;
        self.load(stored, Names::default())
    }

    fn locate(&self, name: &str) -> Result<(StoredImage, Option<Reference>)> {
        let digest = Digest::parse(name).or_else(|_| Digest::parse(&format!("sha256:{name}")));
        if let Ok(digest) = digest {
            let stored = match record::read::<StoredImage>(&self.record_path(&ImageId(digest.clone())))? {
                Some(stored) => Some(stored),
                None => self.of_index(&digest)?,
            };
            let stored = stored.ok_or_else(|| Error::ImageNotFound { name: name.to_owned() })?;
            return Ok((stored, None));
        }
        let reference = Reference::parse(name).map(|reference| canonical(&reference));
        if let Ok(reference) = &reference
            && let Some(named) = record::read::<StoredReference>(&self.reference_path(reference))?
            && let Some(stored) = record::read::<StoredImage>(&self.record_path(&named.image))?
        {
            return Ok((stored, Some(reference.clone())));
        }
        if let Some(stored) = self.by_prefix(name)? {
            return Ok((stored, None));
        }
        match reference {
            Ok(reference) => Err(Error::ImageNotFound { name: reference.familiar() }),
            // Capital letters are a slip that has an own text; Docker says it for names as well.
            Err(error @ (InvalidReference::Uppercase { .. } | InvalidReference::Format { .. })) => Err(error.into()),
            Err(InvalidReference::Identifier { .. } | InvalidReference::TooLong { .. }) => {
                Err(Error::ImageNotFound { name: name.chars().take(300).collect() })
            }
        }
    }

    /// Of the images that came by an index, the one for this machine, or any.
    fn of_index(&self, index: &Digest) -> Result<Option<StoredImage>> {
        let mut images = self.stored_images()?;
        images.retain(|image| image.index.as_ref() == Some(index));
        let host = Platform::host();
        images.sort_by_key(|image| !image.facts.as_ref().is_some_and(|facts| host.matches(&facts.platform)));
        Ok(images.into_iter().next())
    }

    fn by_prefix(&self, name: &str) -> Result<Option<StoredImage>> {
        let prefix = name.strip_prefix("sha256:").unwrap_or(name);
        if prefix.is_empty() || !prefix.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(None);
        }
        let mut found: Option<StoredImage> = None;
        for stored in self.stored_images()? {
            if stored.id.0.hex().starts_with(prefix) {
                if let Some(first) = found {
                    return Err(Error::Ambiguous { prefix: prefix.to_owned(), first: first.id, second: stored.id });
                }
                found = Some(stored);
            }
        }
        Ok(found)
    }

    fn load(&self, stored: StoredImage, names: Names) -> Result<ImageRecord> {
        let config = self.image_config(&stored.id)?;
        let Names { references, repo_digests, tagged } = names;
        let StoredImage { id, manifest, index, layers, size, stored, .. } = stored;
        Ok(ImageRecord { id, manifest, index, references, repo_digests, config, layers, size, stored, tagged })
    }

    pub(crate) fn image_config(&self, id: &ImageId) -> Result<ImageConfig> {
        let bytes = self.blob(&id.0, CONFIG_LIMIT)?;
        ImageConfig::parse(&bytes).map_err(|source| Error::Document { digest: id.0.clone(), source })
    }

    pub(crate) fn stored_images(&self) -> Result<Vec<StoredImage>> {
        read_all(&self.path("images/records"))
    }

    pub(crate) fn stored_references(&self) -> Result<Vec<StoredReference>> {
        read_all(&self.path("images/references"))
    }

    pub(crate) fn record_path(&self, id: &ImageId) -> PathBuf {
        self.path("images/records").join(format!("{}-{}.json", id.0.algorithm().name(), id.0.hex()))
    }

    pub(crate) fn reference_path(&self, reference: &Reference) -> PathBuf {
        let digest = crate::sha256(reference.to_string().as_bytes());
        self.path("images/references").join(format!("{}.json", digest.hex()))
    }

    fn layer_path(&self, diff_id: &DiffId) -> PathBuf {
        self.path("layers").join(diff_id.0.algorithm().name()).join(diff_id.0.hex())
    }

    pub(crate) fn write<T: Serialize>(&self, path: &Path, record: &T) -> Result<()> {
        write_durably(&self.path("images/temporary"), path, &record::encode(record))
    }

    pub(crate) fn remove_record(&self, path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.context("remove", path),
        }?;
        sync_parent(path)
    }
}

fn outline(image: StoredImage, mut names: Names) -> ImageOutline {
    names.sort();
    let StoredImage { id, manifest, index, layers, .. } = image;
    let Names { references, repo_digests, .. } = names;
    ImageOutline { id, manifest, index, layers, references, repo_digests }
}

/// Bytes of the manifest, which has `length` bytes itself, and of what it names.
fn content_size(manifest: &Manifest, length: usize) -> u64 {
    manifest
        .layers
        .iter()
        .fold((length as u64).saturating_add(manifest.config.size), |sum, layer| sum.saturating_add(layer.size))
}

/// The form that is stored: a digest alone, or a tag.
fn canonical(reference: &Reference) -> Reference {
    match reference.digest() {
        Some(digest) => reference.at_digest(digest.clone()),
        None => reference.clone().with_default_tag(),
    }
}

fn read_all<T: serde::de::DeserializeOwned>(folder: &Path) -> Result<Vec<T>> {
    let mut records = Vec::new();
    for entry in fs::read_dir(folder).context("list", folder)? {
        // None: removed while the folder was being read.
        records.extend(record::read(&entry.context("list", folder)?.path())?);
    }
    Ok(records)
}
