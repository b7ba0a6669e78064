//! Removing images that no container uses, and content that nothing refers to.

use super::used::{UsedLayers, Without};
use super::{ImageFilter, ImageRemoval, ImageSummary};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::state::file;
use crate::state::record::ContainerRecord;
use std::collections::BTreeSet;
use tare_spec::{Digest, ImageId};
use tare_store::Garbage;

/// What to remove.
#[derive(Clone, Debug, Default)]
pub struct ImagePrune {
    /// All images that no container uses, not only those without a tag.
    pub all: bool,
    /// Of those, the ones that match; `dangling` is not looked at.
    pub filter: ImageFilter,
    /// What is about to be removed, too.
    pub without: Without,
}

/// What a prune would remove.
#[derive(Clone, Debug, Default)]
pub struct ImagePrunePlan {
    /// Images, with all their names.
    pub images: Vec<ImageSummary>,
    /// Content, with the bytes that each thing occupies on the disk.
    pub content: Vec<Content>,
}

/// Something in the store that would go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// What it is.
    pub kind: ContentKind,
    /// Its digest, or diff ID.
    pub digest: Digest,
    /// Bytes on the disk.
    pub disk: u64,
}

/// Kinds of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentKind {
    /// A layer as containers mount it.
    Layer,
    /// A document, or a layer in the form it is transferred in.
    Blob,
    /// What an interrupted pull has got so far.
    Partial,
}

impl ImagePrunePlan {
    /// Bytes on the disk that would be free again.
    #[must_use]
    pub fn disk(&self) -> u64 {
        self.content.iter().map(|content| content.disk).sum()
    }
}

/// What a prune removed.
#[derive(Clone, Debug, Default)]
pub struct ImagesPruned {
    /// Names, images and layers.
    pub removals: Vec<ImageRemoval>,
    /// Bytes on the disk that are free again.
    pub disk: u64,
    /// Whether content stayed until the next collection, because something is being pulled or started right now.
    pub deferred: bool,
}

impl Engine {
    /// What [`Engine::prune_images`] would remove now.
    ///
    /// # Errors
    /// When records cannot be read.
    pub fn plan_image_prune(&self, prune: &ImagePrune) -> Result<ImagePrunePlan> {
        let images = self.unused_images(prune)?;
        let ids: BTreeSet<ImageId> = images.iter().map(|image| image.id.clone()).collect();
        let used = UsedLayers::new(self, &prune.without);
        let garbage = self.store()?.garbage(&ids, &|layer| used.contains(layer))?;
        Ok(ImagePrunePlan { images, content: content(garbage) })
    }

    /// Removes images that no container uses, and all content that nothing refers to.
    ///
    /// # Errors
    /// The first failure, after everything else was tried.
    pub fn prune_images(&self, prune: &ImagePrune) -> Result<ImagesPruned> {
        let store = self.store()?;
        let mut pruned = ImagesPruned::default();
        let mut errors = Vec::new();
        for image in self.unused_images(prune)? {
            let known = image.tags.iter().chain(&image.digests).cloned().collect();
            match store.forget_image(&image.id, &known) {
                Ok(None) => {} // it has got a name meanwhile
                Ok(Some(names)) => {
                    pruned.removals.extend(names.iter().map(|name| ImageRemoval::Untagged(name.familiar())));
                    pruned.removals.push(ImageRemoval::Deleted(image.id.0));
                }
                // Somebody else removed it meanwhile.
                Err(tare_store::Error::ImageNotFound { .. }) => {}
                Err(error) => errors.push(Error::from(error)),
            }
        }
        let used = UsedLayers::new(self, &prune.without);
        match store.collect_all(&|layer| used.contains(layer)) {
            Ok(collected) => {
                pruned.removals.extend(collected.layers.into_iter().map(|layer| ImageRemoval::Deleted(layer.0)));
                pruned.disk = collected.disk;
                pruned.deferred = collected.deferred;
            }
            Err(error) => errors.push(error.into()),
        }
        Error::of_clean_up(errors)?;
        Ok(pruned)
    }

    fn unused_images(&self, prune: &ImagePrune) -> Result<Vec<ImageSummary>> {
        let dangling = if prune.all { None } else { Some(true) };
        let mut images = self.images(&ImageFilter { dangling, until: None, ..prune.filter.clone() })?;
        if let Some(until) = prune.filter.until {
            // What was built, pulled or named here just now may say that it is old: a build has the time of what it starts from.
            let summaries = self.store()?.summaries()?.into_iter();
            let young: BTreeSet<ImageId> = summaries
                .filter(|image| image.stored.max(image.tagged.unwrap_or(image.stored)) >= until)
                .map(|image| image.id)
                .collect();
            images.retain(|image| !young.contains(&image.id));
        }
        let mut users = BTreeSet::new();
        for id in self.container_ids()?.into_iter().filter(|id| !prune.without.containers.contains(id)) {
            // A container whose record is damaged keeps its layers, see `UsedLayers`; its image cannot be known.
            if let Ok(Some(record)) = file::read_json::<ContainerRecord>(&self.paths.container(&id).record()) {
                users.insert(record.image_id);
            }
        }
        images.retain(|image| !users.contains(&image.id));
        let going: BTreeSet<ImageId> = images.iter().map(|image| image.id.clone()).collect();
        // What stays under a name stays for all its platforms.
        let staying = self.store()?.parts(&|image| !going.contains(image))?;
        images.retain(|image| !image.tags.is_empty() || !image.digests.is_empty() || !staying.contains(&image.id));
        // Names first: until they are gone, what they stand for cannot go.
        images.sort_by_key(|image| image.tags.is_empty() && image.digests.is_empty());
        Ok(images)
    }
}

fn content(garbage: Garbage) -> Vec<Content> {
    let made = |kind| move |(digest, disk)| Content { kind, digest, disk };
    let layers = garbage.layers.into_iter().map(|(layer, disk)| (layer.0, disk)).map(made(ContentKind::Layer));
    let blobs = garbage.blobs.into_iter().map(made(ContentKind::Blob));
    let partial = garbage.partial.into_iter().map(made(ContentKind::Partial));
    layers.chain(blobs).chain(partial).collect()
}
