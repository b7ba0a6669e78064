//! Removing images, and the content that nothing refers to any more.

use crate::Result;
use crate::Store;
use crate::error::Context;
use crate::images::StoredImage;
use crate::parallel::in_parallel;
use crate::snapshot::list_digests;
use crate::{Error, record};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use tare_spec::image::{MANIFEST_LIMIT, Manifest};
use tare_spec::{DiffId, Digest, ImageId, Reference};

/// How long what a broken pull has got is kept for a pull to go on from, in seconds.
const PATIENCE: u64 = 24 * 3600;

/// What a removal took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// Names that are gone, tags first.
    pub untagged: Vec<Reference>,
    /// The image's id, then the layers that the collection removed.
    pub deleted: Vec<Digest>,
}

/// What a collection took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Manifests, indexes and configurations.
    pub blobs: Vec<Digest>,
    /// Layers.
    pub layers: Vec<DiffId>,
    /// Bytes in the files of those layers.
    pub layer_bytes: u64,
    /// Bytes that are free on the disk again.
    pub disk: u64,
    /// Whether it was put off because content is being added or taken into use right now.
    pub deferred: bool,
}

/// Content that nothing refers to, with the bytes that each thing occupies on the disk; sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Garbage {
    /// Manifests, indexes, configurations and layer blobs.
    pub blobs: Vec<(Digest, u64)>,
    /// Layers.
    pub layers: Vec<(DiffId, u64)>,
    /// What interrupted pulls have got so far.
    pub partial: Vec<(Digest, u64)>,
}

impl Garbage {
    /// The bytes of all of it.
    #[must_use]
    pub fn disk(&self) -> u64 {
        let layers = self.layers.iter().map(|(_, disk)| disk);
        self.blobs.iter().chain(&self.partial).map(|(_, disk)| disk).chain(layers).sum()
    }
}

/// What the store occupies on the disk, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Manifests, indexes, configurations and layer blobs.
    pub blobs: BTreeMap<Digest, u64>,
    /// Layers.
    pub layers: BTreeMap<DiffId, u64>,
    /// What interrupted pulls have got so far.
    pub partial: u64,
    /// All of it with its folders and records.
    pub total: u64,
}

impl Store {
    /// Removes an image with all its names, then collects what only it had.
    ///
    /// `known` are the names that whoever decided to remove it knew; an image that has got others meanwhile stays, and
    /// the result is `None`. `in_use` tells which layers, and blobs of the same digests, containers and builds need; it is asked while no lease is held anywhere, so
    /// whoever took layers into use has recorded it. The image is gone when this returns; its content stays for the next
    /// collection when somebody holds a lease.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`], and those of [`Store::collect`], after which the image is gone nevertheless.
    pub fn remove_image(
        &self,
        image: &ImageId,
        known: &BTreeSet<Reference>,
        in_use: &dyn Fn(&DiffId) -> bool,
    ) -> Result<Option<Removal>> {
        let Some(untagged) = self.forget_image(image, known)? else { return Ok(None) };
        let mut removal = Removal { untagged, deleted: vec![image.0.clone()] };
        let collected = self.collect(in_use)?;
        removal.deleted.extend(collected.layers.into_iter().map(|layer| layer.0));
        Ok(Some(removal))
    }

    /// Removes an image with all its names, which are returned, tags first. Its content stays for the next collection.
    /// `None`, and nothing is removed, where it has other names than the `known` ones, or none and is part of what a name stands for.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`].
    pub fn forget_image(&self, image: &ImageId, known: &BTreeSet<Reference>) -> Result<Option<Vec<Reference>>> {
        let _change = self.change()?;
        let path = self.record_path(image);
        let Some(record) = record::read::<StoredImage>(&path)? else {
            return Err(Error::ImageNotFound { name: image.to_string() });
        };
        let stored = self.stored_references()?.into_iter().filter(|stored| stored.image == *image);
        let mut untagged: Vec<Reference> = stored.map(|stored| stored.reference).collect();
        if untagged.iter().any(|reference| !known.contains(reference)) {
            return Ok(None);
        }
        if untagged.is_empty() && self.parts(&|_| true)?.contains(image) {
            return Ok(None);
        }
        untagged.sort_by_key(|reference| (reference.digest().is_some(), reference.clone()));
        // Names first: a crash in between leaves an image without names, never a name without an image.
        for reference in &untagged {
            self.remove_record(&self.reference_path(reference))?;
        }
        self.remove_record(&path)?;
        self.forget_notes(&record.manifest)?;
        Ok(Some(untagged))
    }

    /// Removes all content that no image and no container refers to: what removed images and crashed pulls left.
    /// What a broken pull has got stays for a day, for the next one to go on from.
    ///
    /// Runs to its end, whatever fails on the way.
    ///
    /// # Errors
    /// The first failure.
    pub fn collect(&self, in_use: &dyn Fn(&DiffId) -> bool) -> Result<Collected> {
        self.collect_partial(in_use, PATIENCE)
    }

    /// Like [`Store::collect`], and removes also what interrupted pulls have got so far.
    ///
    /// # Errors
    /// As [`Store::collect`].
    pub fn collect_all(&self, in_use: &dyn Fn(&DiffId) -> bool) -> Result<Collected> {
        self.collect_partial(in_use, 0)
    }

    fn collect_partial(&self, in_use: &dyn Fn(&DiffId) -> bool, patience: u64) -> Result<Collected> {
        let mut collected = Collected::default();
        let Some(_exclusive) = self.collection()? else {
            collected.deferred = true;
            return Ok(collected);
        };
        let pending = self.pending(patience)?;
        let awaited = |digest: &Digest| pending.iter().any(|note| note.blobs.contains(digest));
        let unfinished = |layer: &DiffId| pending.iter().any(|note| note.layers.contains(layer));
        let garbage = self.garbage(&BTreeSet::new(), &|layer| in_use(layer) || unfinished(layer))?;
        let blobs = garbage.blobs.into_iter().filter(|(digest, _)| !awaited(digest)).collect();
        let remove = |(digest, disk)| self.remove_blob(&digest).map(|()| (digest, disk));
        let mut failure = None;
        for removed in in_parallel(blobs, remove) {
            match removed {
                Ok((digest, disk)) => {
                    collected.disk += disk;
                    collected.blobs.push(digest);
                }
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        let layers: Vec<DiffId> = garbage.layers.iter().map(|(diff_id, _)| diff_id.clone()).collect();
        // A layer whose own record is damaged is removed all the same.
        let sizes: Vec<u64> = layers.iter().map(|diff_id| self.layers().usage(diff_id).unwrap_or(0)).collect();
        let removed = self.layers().remove_all(&layers);
        for (((diff_id, disk), size), removed) in garbage.layers.into_iter().zip(sizes).zip(removed) {
            match removed {
                Ok(()) => {
                    collected.disk += disk;
                    collected.layer_bytes += size;
                    collected.layers.push(diff_id);
                }
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        for partial in self.partial_blobs()?.into_iter().filter(|partial| partial.age >= patience) {
            match fs::remove_file(&partial.path).context("remove", &partial.path) {
                Ok(()) => collected.disk += partial.disk,
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        match failure {
            None => Ok(collected),
            Some(error) => Err(error),
        }
    }

    /// What nothing would refer to if these images were gone, with the bytes it occupies on the disk. Looks only.
    ///
    /// # Errors
    /// Of the disk, and of damaged records: what they keep cannot be known.
    pub fn garbage(&self, without: &BTreeSet<ImageId>, in_use: &dyn Fn(&DiffId) -> bool) -> Result<Garbage> {
        let (mut blobs, mut layers) = (BTreeSet::new(), BTreeSet::new());
        for stored in self.stored_images()? {
            if without.contains(&stored.id) {
                continue;
            }
            // Without its manifest an image has no layer blobs to protect, and `system check` tells.
            match self.manifest(&stored.manifest) {
                Ok(manifest) => blobs.extend(manifest.layers.into_iter().map(|layer| layer.digest)),
                Err(Error::BlobMissing { .. } | Error::Damaged { .. } | Error::Document { .. }) => {}
                Err(error) => return Err(error),
            }
            blobs.extend([stored.id.0, stored.manifest]);
            blobs.extend(stored.index);
            layers.extend(stored.layers);
        }
        blobs.extend(self.blobs_of_parts(&|image| !without.contains(image))?);
        let mut garbage = Garbage::default();
        for digest in list_digests(&self.path("blobs"))? {
            // Of an uncompressed layer that is used the blob is the archive, where the layer itself is not kept as one.
            if !blobs.contains(&digest) && !in_use(&DiffId(digest.clone())) {
                let disk = crate::occupied(&self.blob_path(&digest))?;
                garbage.blobs.push((digest, disk));
            }
        }
        for diff_id in self.layers().list()? {
            if !layers.contains(&diff_id) && !in_use(&diff_id) {
                let disk = self.layers().disk(&diff_id).unwrap_or(0);
                garbage.layers.push((diff_id, disk));
            }
        }
        for partial in self.partial_blobs()? {
            garbage.partial.extend(partial.digest.map(|digest| (digest, partial.disk)));
        }
        garbage.blobs.sort();
        garbage.layers.sort();
        garbage.partial.sort();
        Ok(garbage)
    }

    /// What everything in the store occupies on the disk; together as many bytes as `du` counts.
    ///
    /// # Errors
    /// Of the disk.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        let mut usage = DiskUsage::default();
        for digest in list_digests(&self.path("blobs"))? {
            let disk = crate::occupied(&self.blob_path(&digest))?;
            usage.blobs.insert(digest, disk);
        }
        for diff_id in self.layers().list()? {
            match self.layers().disk(&diff_id) {
                Ok(disk) => drop(usage.layers.insert(diff_id, disk)),
                Err(Error::LayerMissing { .. }) => {} // removed meanwhile, or without its record
                Err(error) => return Err(error),
            }
        }
        let partial = self.path("blobs/partial");
        for entry in fs::read_dir(&partial).context("list", &partial)? {
            usage.partial += crate::occupied(&entry.context("list", &partial)?.path())?;
        }
        for folder in ["blobs", "layers", "images"] {
            usage.total += crate::occupied(&self.path(folder))?;
        }
        Ok(usage)
    }

    /// The manifest of an image, to write or push it again.
    ///
    /// # Errors
    /// [`Error::BlobMissing`], [`Error::Document`].
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        let bytes = self.blob(digest, MANIFEST_LIMIT)?;
        Manifest::parse(&bytes, None).map_err(|source| Error::Document { digest: digest.clone(), source })
    }
}
