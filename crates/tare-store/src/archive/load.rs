//! Taking the images of an archive in.

use super::members::{Archive, Location};
use super::{ArchiveError, INDEX, MANIFEST, docker, oci};
use crate::{BlobSource, Result, Store};
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use tare_spec::image::Descriptor;
use tare_spec::{DiffId, Digest, ImageId, Platform, Reference};

/// Takes the steps of a load. Layers are taken in by several threads.
pub trait LoadProgress: Sync {
    /// So many bytes of a layer's blob have passed.
    fn layer(&self, layer: &Descriptor, bytes: u64);
    /// An image is whole and has its names.
    fn image(&self, image: &Loaded);
}

/// An image that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: ImageId,
    /// The names that it got.
    pub names: Vec<Reference>,
    /// Those of the names that another image had before, and which.
    pub moved: Vec<(Reference, ImageId)>,
}

/// An image, ready to be taken in.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) names: Vec<Reference>,
    pub(super) id: ImageId,
    pub(super) manifest: Digest,
    pub(super) index: Option<Digest>,
    /// Configuration, manifest and index, byte for byte.
    pub(super) documents: Vec<(Descriptor, Vec<u8>)>,
    /// The lowest first.
    pub(super) layers: Vec<Layer>,
}

/// A layer of the archive.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) descriptor: Descriptor,
    pub(super) diff_id: DiffId,
    /// `None` when the archive has not got it.
    pub(super) location: Option<Location>,
    /// How the archive's documents call it.
    pub(super) path: String,
}

impl Archive<'_> {
    /// Reads all documents of the archive and plans what they ask for, image by image.
    fn each(&self, platform: Option<&Platform>, act: &mut dyn FnMut(Planned) -> Result<()>) -> Result<()> {
        // Newer archives have both lists; the layout's has the digests.
        if self.has(INDEX) {
            for choice in oci::choose(self, platform)? {
                act(oci::plan(self, choice, platform)?)?;
            }
            return Ok(());
        }
        if !self.has(MANIFEST) {
            let error = if self.has("repositories") { ArchiveError::Ancient } else { ArchiveError::NoImages };
            return Err(error.into());
        }
        for item in docker::items(self)? {
            act(docker::plan(self, item, platform)?)?;
        }
        Ok(())
    }

    /// Reads and checks all documents of the archive, and its layers not. Returns how many images it has.
    ///
    /// # Errors
    /// [`crate::Error::ImageArchive`].
    pub fn check(&self, platform: Option<&Platform>) -> Result<usize> {
        let mut count = 0;
        self.each(platform, &mut |_| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }
}

impl Store {
    /// Takes the images of an archive in, one after the other: those before one that fails stay. Where an image is
    /// for several platforms it is the one for `platform`, or for this machine.
    ///
    /// The caller holds a [`crate::Lease`]; what a failed load has taken in is left to the next collection.
    ///
    /// # Errors
    /// [`crate::Error::ImageArchive`], and those of [`Store::take_layer`] and [`Store::put_image`].
    pub fn load_archive(
        &self,
        archive: &Archive<'_>,
        platform: Option<&Platform>,
        progress: &dyn LoadProgress,
    ) -> Result<()> {
        archive.each(platform, &mut |image| {
            let loaded = self.take_image(archive, image, progress)?;
            progress.image(&loaded);
            Ok(())
        })
    }

    fn take_image(&self, archive: &Archive<'_>, image: Planned, progress: &dyn LoadProgress) -> Result<Loaded> {
        let Planned { names, id, manifest, index, documents, layers } = image;
        self.take_layers(archive, &layers, progress)?;
        // An image that is here keeps the manifest it came by, and with it the form of its layers.
        // The names stand for the index and its manifests, whatever the image came by before.
        for (descriptor, bytes) in documents.iter().filter(|_| index.is_some()) {
            self.put_blob(descriptor, &mut bytes.as_slice())?;
        }
        let moved = match self.name_existing(&names, &id, index.as_ref())? {
            Some(moved) => moved,
            None => {
                for (descriptor, bytes) in &documents {
                    self.put_blob(descriptor, &mut bytes.as_slice())?;
                }
                self.put_named_image(&manifest, index.as_ref(), &names)?.1
            }
        };
        Ok(Loaded { id, names, moved })
    }

    /// Takes the layers that are missing, the largest first, with all processors; the first failure ends it.
    fn take_layers(&self, archive: &Archive<'_>, layers: &[Layer], progress: &dyn LoadProgress) -> Result<()> {
        let mut missing = Vec::new();
        for layer in layers {
            if self.layers().contains(&layer.diff_id)?
                || missing.iter().any(|(other, _): &(&Layer, _)| other.diff_id == layer.diff_id)
            {
                continue;
            }
            let location = layer.location.ok_or_else(|| ArchiveError::Missing { path: layer.path.clone() })?;
            missing.push((layer, location));
        }
        missing.sort_by_key(|(_, location)| std::cmp::Reverse(location.size));
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            while let Some((layer, location)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                let source = Source { archive, location: *location };
                let passed = |bytes| progress.layer(&layer.descriptor, bytes);
                if let Err(error) = self.take_layer(&layer.descriptor, &layer.diff_id, &source, &passed) {
                    next.store(missing.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
            Ok(())
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(missing.len());
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let results: Vec<Result<()>> = workers
                .into_iter()
                .map(|worker| worker.join().expect("a worker that panicked has reported why"))
                .collect();
            results.into_iter().collect()
        })
    }
}

/// A layer of an archive as [`Store::take_layer`] reads it.
struct Source<'a> {
    archive: &'a Archive<'a>,
    location: Location,
}

impl BlobSource for Source<'_> {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(self.archive.stream(self.location, offset)))
    }
}
