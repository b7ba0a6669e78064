//! Removing images, and the content that nothing refers to any more.

use crate::Result;
use crate::Store;
use crate::images::StoredImage;
use crate::snapshot::list_digests;
use crate::{Error, record};
use std::collections::BTreeSet;
use tare_spec::image::{MANIFEST_LIMIT, Manifest};
use tare_spec::{DiffId, Digest, ImageId, Reference};

/// What a removal took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// Names that are gone, tags first.
    pub untagged: Vec<Reference>,
    /// The image's id, then what the collection removed.
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
    /// Whether it was put off because content is being added or taken into use right now.
    pub deferred: bool,
}

impl Store {
    /// Removes an image with all its names, then collects what only it had.
    ///
    /// `in_use` tells which layers containers need; it is asked while no lease is held anywhere, so whoever took
    /// layers into use has recorded it. The image is gone when this returns; its content stays for the next
    /// collection when somebody holds a lease.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`], and those of [`Store::collect`], after which the image is gone nevertheless.
    pub fn remove_image(&self, image: &ImageId, in_use: &dyn Fn(&DiffId) -> bool) -> Result<Removal> {
        let mut removal = Removal::default();
        {
            let _change = self.change()?;
            let path = self.record_path(image);
            if record::read::<StoredImage>(&path)?.is_none() {
                return Err(Error::ImageNotFound { name: image.to_string() });
            }
            removal.untagged = self
                .stored_references()?
                .into_iter()
                .filter(|stored| stored.image == *image)
                .map(|stored| stored.reference)
                .collect();
            removal.untagged.sort_by_key(|reference| (reference.digest().is_some(), reference.clone()));
            // Names first: a crash in between leaves an image without names, never a name without an image.
            for reference in &removal.untagged {
                self.remove_record(&self.reference_path(reference))?;
            }
            self.remove_record(&path)?;
        }
        removal.deleted.push(image.0.clone());
        let collected = self.collect(in_use)?;
        removal.deleted.extend(collected.layers.into_iter().map(|layer| layer.0));
        removal.deleted.extend(collected.blobs.into_iter().filter(|blob| *blob != image.0));
        Ok(removal)
    }

    /// Removes all content that no image and no container refers to: what removed images and crashed pulls left.
    ///
    /// Runs to its end, whatever fails on the way.
    ///
    /// # Errors
    /// The first failure.
    pub fn collect(&self, in_use: &dyn Fn(&DiffId) -> bool) -> Result<Collected> {
        let mut collected = Collected::default();
        let Some(_exclusive) = self.collection()? else {
            collected.deferred = true;
            return Ok(collected);
        };
        let (mut blobs, mut layers) = (BTreeSet::new(), BTreeSet::new());
        for stored in self.stored_images()? {
            blobs.extend([stored.id.0, stored.manifest]);
            blobs.extend(stored.index);
            layers.extend(stored.layers);
        }
        let mut failure = None;
        let mut attempt = |result: Result<()>| match result {
            Ok(()) => true,
            Err(error) => {
                failure.get_or_insert(error);
                false
            }
        };
        for digest in list_digests(&self.path("blobs"))? {
            if !blobs.contains(&digest) && attempt(self.remove_blob(&digest)) {
                collected.blobs.push(digest);
            }
        }
        for diff_id in self.layers().list()? {
            if layers.contains(&diff_id) || in_use(&diff_id) {
                continue;
            }
            // A layer whose own record is damaged is removed all the same.
            let size = self.layers().usage(&diff_id).unwrap_or(0);
            if attempt(self.layers().remove(&diff_id)) {
                collected.layer_bytes += size;
                collected.layers.push(diff_id);
            }
        }
        collected.blobs.sort();
        collected.layers.sort();
        match failure {
            None => Ok(collected),
            Some(error) => Err(error),
        }
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
