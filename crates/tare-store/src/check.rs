//! Whether everything in the store is what its name says.

use crate::error::{Context, Error, Result};
use crate::hash::Hasher;
use crate::images::{StoredImage, StoredReference};
use crate::snapshot::list_digests;
use crate::{Store, record};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use tare_spec::image::{CONFIG_LIMIT, Descriptor, MANIFEST_LIMIT, Manifest};
use tare_spec::{DiffId, Digest, ImageId, Reference};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What it is about.
    pub object: Damaged,
    /// What is wrong with it, in words.
    pub reason: String,
}

/// What damage is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damaged {
    /// A blob whose contents are not those of its digest.
    Blob(Digest),
    /// A layer that does not hold what it should, or that an image needs and is not there.
    Layer(DiffId),
    /// An image that lacks a document, or whose documents contradict each other.
    Image(ImageId),
    /// A name of an image that is not there.
    Reference(Reference),
    /// A record that cannot be read.
    Record(PathBuf),
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Everything that is wrong.
    pub damages: Vec<Damage>,
    /// Blobs that were read.
    pub blobs: usize,
    /// Layers that were read.
    pub layers: usize,
    /// Images.
    pub images: usize,
}

impl Checked {
    fn damage(&mut self, object: Damaged, reason: String) {
        self.damages.push(Damage { object, reason });
    }
}

impl Store {
    /// Reads everything that is in the store and compares it with what it should be. Changes nothing. The caller holds a
    /// [`crate::Lease`], so that nothing is collected meanwhile. `progress` is told each object before it is read.
    ///
    /// # Errors
    /// Of listing the store; damage of what it holds is no error.
    pub fn check(&self, progress: &dyn Fn(&str)) -> Result<Checked> {
        let mut checked = Checked::default();
        for digest in list_digests(&self.path("blobs"))? {
            progress(&format!("blob {digest}"));
            checked.blobs += 1;
            match digest_of(&self.blob_path(&digest), &digest) {
                Ok(Some(actual)) if actual != digest => {
                    checked.damage(Damaged::Blob(digest), format!("its contents have {actual}"))
                }
                Ok(_) => {}
                Err(error) => checked.damage(Damaged::Blob(digest), error.to_string()),
            }
        }
        let mut sound = BTreeSet::new();
        for diff_id in self.layers().list()? {
            progress(&format!("layer {diff_id}"));
            checked.layers += 1;
            match self.layers().verify(&diff_id) {
                Ok(None) => drop(sound.insert(diff_id)),
                Ok(Some(reason)) => checked.damage(Damaged::Layer(diff_id), reason),
                Err(error) => checked.damage(Damaged::Layer(diff_id), error.to_string()),
            }
        }
        // Names and images of one moment.
        let change = self.change()?;
        let references = self.records::<StoredReference>("images/references", &mut checked.damages)?;
        let records = self.records::<StoredImage>("images/records", &mut checked.damages)?;
        drop(change);
        let mut images = BTreeSet::new();
        let mut missing = BTreeSet::new();
        for image in records {
            progress(&format!("image {}", image.id));
            checked.images += 1;
            if let Err(error) = self.documents(&image) {
                checked.damage(Damaged::Image(image.id.clone()), chain(&error));
            }
            for layer in &image.layers {
                let listed = sound.contains(layer) || self.layers().contains(layer).unwrap_or(false);
                if !listed && missing.insert(layer.clone()) {
                    checked.damage(
                        Damaged::Layer(layer.clone()),
                        format!("image {} needs it and it is not there", image.id.0.short()),
                    );
                }
            }
            images.insert(image.id);
        }
        for stored in references.into_iter().filter(|stored| !images.contains(&stored.image)) {
            checked.damage(Damaged::Reference(stored.reference), format!("image {} is not there", stored.image));
        }
        Ok(checked)
    }

    /// The layers of an image as its manifest and configuration name them, for whoever fetches one again.
    ///
    /// # Errors
    /// [`Error::BlobMissing`], [`Error::Damaged`], [`Error::Document`].
    pub fn layer_descriptors(&self, manifest: &Digest, layers: &[DiffId]) -> Result<Vec<(Descriptor, DiffId)>> {
        let manifest = self.manifest(manifest)?;
        Ok(manifest.layers.into_iter().zip(layers.iter().cloned()).collect())
    }

    /// All manifests among the blobs, with their digests.
    ///
    /// # Errors
    /// Of listing the blobs.
    pub fn manifests(&self) -> Result<Vec<(Digest, Manifest)>> {
        let digests = list_digests(&self.path("blobs"))?;
        Ok(digests.into_iter().filter_map(|digest| Some((digest.clone(), self.manifest(&digest).ok()?))).collect())
    }

    /// Reads a manifest, an index or a configuration and verifies it.
    ///
    /// # Errors
    /// [`Error::BlobMissing`], [`Error::Damaged`].
    pub fn open_document(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.blob(digest, MANIFEST_LIMIT.max(CONFIG_LIMIT))
    }

    /// Takes a damaged blob away, so that it can be fetched again.
    ///
    /// # Errors
    /// Of the disk.
    pub fn remove_damaged_blob(&self, digest: &Digest) -> Result<()> {
        self.remove_blob(digest)
    }

    /// Puts what a layer's blob in the store holds in the place of the layer. The blob is verified first, so that nothing
    /// is lost by trying.
    ///
    /// # Errors
    /// [`Error::BlobMissing`], [`Error::Damaged`]; those of [`crate::Snapshotter::apply`], after which the layer is gone and its
    /// blob is there.
    pub fn remake_layer(&self, layer: &Descriptor, diff_id: &DiffId) -> Result<()> {
        let path = self.blob_path(&layer.digest);
        match digest_of(&path, &layer.digest)? {
            None => return Err(Error::BlobMissing { digest: layer.digest.clone() }),
            Some(actual) if actual != layer.digest => {
                return Err(Error::Damaged { digest: layer.digest.clone(), actual });
            }
            Some(_) => {}
        }
        let mut blob = File::open(&path).context("open", &path)?;
        self.layers().remove(diff_id)?;
        self.layers().apply(layer, diff_id, &mut blob)?;
        // An uncompressed layer's blob is its archive.
        if layer.digest == diff_id.0 && self.layers().archive(diff_id)?.is_some() {
            self.remove_blob(&layer.digest)?;
        }
        Ok(())
    }

    fn documents(&self, image: &StoredImage) -> Result<()> {
        let manifest = self.manifest(&image.manifest)?;
        let document = |source| Error::Document { digest: image.manifest.clone(), source };
        let config = self.image_config(&image.id)?;
        manifest.check_layers(&config).map_err(document)?;
        match &image.index {
            Some(index) => self.blob(index, MANIFEST_LIMIT).map(drop),
            None => Ok(()),
        }
    }

    /// The records of a folder that can be read; the others are reported.
    pub(crate) fn records<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
        damages: &mut Vec<Damage>,
    ) -> Result<Vec<T>> {
        let folder = self.path(name);
        let mut records = Vec::new();
        for entry in fs::read_dir(&folder).context("list", &folder)? {
            let path = entry.context("list", &folder)?.path();
            match record::read(&path) {
                Ok(record) => records.extend(record),
                Err(error) => damages.push(Damage { object: Damaged::Record(path), reason: chain(&error) }),
            }
        }
        Ok(records)
    }
}

/// The digest of a file's contents; `None` when it is gone.
pub(crate) fn digest_of(path: &Path, expected: &Digest) -> Result<Option<Digest>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.context("open", path)?,
    };
    let mut hasher = Hasher::new(expected.algorithm());
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer).context("read", path)? {
            0 => return Ok(Some(hasher.finish())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
