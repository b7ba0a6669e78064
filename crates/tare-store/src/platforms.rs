//! Names that stand for images of several platforms: their record has the index that names all of them. One image has the name, and
//! the others, its parts, are there for it.

use crate::error::Result;
use crate::images::{StoredImage, StoredReference};
use crate::{Store, record};
use std::collections::BTreeSet;
use tare_spec::image::{Descriptor, Index, MANIFEST_LIMIT, Manifest};
use tare_spec::{Digest, ImageId, Reference};

/// An entry of an index.
#[derive(Clone, Debug)]
pub struct Part {
    /// As the index has it.
    pub entry: Descriptor,
    /// The image, if this store has it.
    pub image: Option<ImageId>,
}

impl Store {
    /// The index that a name stands for.
    ///
    /// # Errors
    /// Of a damaged record.
    pub fn index_of(&self, name: &Reference) -> Result<Option<Digest>> {
        let stored = record::read::<StoredReference>(&self.reference_path(name))?;
        Ok(stored.and_then(|stored| stored.index))
    }

    /// What an index names, in its order, and which of it is here. An index that is not here, or is damaged, names nothing:
    /// `system check` tells.
    ///
    /// # Errors
    /// Of the disk, and of damaged records.
    pub fn parts_of(&self, index: &Digest) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        for (entry, manifest) in self.entries_of(index) {
            let id = manifest.map(|manifest| ImageId(manifest.config.digest));
            let image = match id {
                Some(id) => record::read::<StoredImage>(&self.record_path(&id))?.map(|stored| stored.id),
                None => None,
            };
            parts.push(Part { entry, image });
        }
        Ok(parts)
    }

    /// The images that names stand for besides those that have them, of names of images that `counts` is true for.
    ///
    /// # Errors
    /// As [`Store::parts_of`].
    pub fn parts(&self, counts: &dyn Fn(&ImageId) -> bool) -> Result<BTreeSet<ImageId>> {
        let mut parts = BTreeSet::new();
        for index in self.named_indexes(counts)? {
            parts.extend(self.parts_of(&index)?.into_iter().filter_map(|part| part.image));
        }
        Ok(parts)
    }

    /// The blobs that are kept because names stand for indexes: those, and the documents and layers of what they name.
    pub(crate) fn blobs_of_parts(&self, counts: &dyn Fn(&ImageId) -> bool) -> Result<BTreeSet<Digest>> {
        let mut blobs = BTreeSet::new();
        for index in self.named_indexes(counts)? {
            for (entry, manifest) in self.entries_of(&index) {
                blobs.insert(entry.digest);
                if let Some(Manifest { layers, config, .. }) = manifest {
                    blobs.extend(layers.into_iter().chain([config]).map(|blob| blob.digest));
                }
            }
            blobs.insert(index);
        }
        Ok(blobs)
    }

    fn named_indexes(&self, counts: &dyn Fn(&ImageId) -> bool) -> Result<BTreeSet<Digest>> {
        let names = self.stored_references()?.into_iter().filter(|name| counts(&name.image));
        Ok(names.filter_map(|name| name.index).collect())
    }

    /// The entries of an index, with the manifests that are here.
    fn entries_of(&self, index: &Digest) -> Vec<(Descriptor, Option<Manifest>)> {
        let bytes = self.blob(index, MANIFEST_LIMIT).ok();
        let index = bytes.and_then(|bytes| Index::parse(&bytes, None).ok());
        let entries = index.map(|index| index.manifests).unwrap_or_default();
        let with_manifest = |entry: Descriptor| {
            let manifest = self.manifest(&entry.digest).ok();
            (entry, manifest)
        };
        entries.into_iter().map(with_manifest).collect()
    }
}
