//! Finding damage in the store, and mending it from what is at hand or from where images came.

use crate::container::view::ListFilter;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::state::record::Status;
use std::path::Path;
use tare_registry::{Client, ClientOptions};
use tare_spec::image::{Descriptor, Manifest};
use tare_spec::{DiffId, Digest, ImageId};
use tare_store::{ImageOutline, Store};

pub use tare_store::{Checked, Damage, Damaged};

/// What became of one damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The damage.
    pub damage: Damage,
    /// What was done, or why nothing could be.
    pub outcome: std::result::Result<&'static str, String>,
}

impl Engine {
    /// Reads all of the store and compares it with what it should be. `progress` is told each object before it is read.
    ///
    /// # Errors
    /// [`Error::Store`] when the store cannot be listed; damage of what it holds is no error.
    pub fn check(&self, progress: &dyn Fn(&str)) -> Result<Checked> {
        let store = self.store()?;
        let _lease = store.lease()?;
        Ok(store.check(progress)?)
    }

    /// Mends what [`Engine::check`] found: from the other form of a layer that is at hand, else from the registry that
    /// an image came from. What cannot be mended stays as it is.
    ///
    /// # Errors
    /// [`Error::Store`] when images cannot be listed, [`Error::Registry`] for a configuration of registries that cannot be read.
    pub fn repair(&self, damages: Vec<Damage>, progress: &dyn Fn(&Damage)) -> Result<Vec<Repair>> {
        let store = self.store()?;
        let _lease = store.lease()?;
        let client = Client::new(ClientOptions::of_host()?);
        let mut damages = damages;
        // Records lead to documents, documents to layers, and a layer is made again from its blob.
        damages.sort_by_key(|damage| match damage.object {
            Damaged::Record(_) => 0,
            Damaged::Blob(_) => 1,
            Damaged::Image(_) => 2,
            Damaged::Reference(_) => 3,
            Damaged::Layer(_) => 4,
        });
        let mut repairs = Vec::new();
        for damage in damages {
            progress(&damage);
            let mender = Mender { engine: self, store, client: &client, images: store.outlines()? };
            let outcome = mender.mend(&damage.object).map_err(|error| crate::error::text(&error));
            repairs.push(Repair { damage, outcome });
        }
        Ok(repairs)
    }
}

struct Mender<'a> {
    engine: &'a Engine,
    store: &'a Store,
    client: &'a Client,
    images: Vec<ImageOutline>,
}

impl Mender<'_> {
    fn mend(&self, object: &Damaged) -> Result<&'static str> {
        match object {
            Damaged::Record(path) => self.record(path),
            Damaged::Blob(digest) => self.blob(digest),
            Damaged::Image(id) => self.image(id),
            Damaged::Reference(reference) => {
                self.store.untag(reference)?;
                Ok("the name was taken away")
            }
            Damaged::Layer(diff_id) => self.layer(diff_id),
        }
    }

    /// An image's record is made again from a manifest that leads to it; a name's file tells nothing but a digest.
    fn record(&self, path: &Path) -> Result<&'static str> {
        let id = path.file_stem().and_then(|name| Digest::parse(&name.to_string_lossy().replacen('-', ":", 1)).ok());
        let unreadable = |source| Error::file("remove", path, source);
        std::fs::remove_file(path).map_err(unreadable)?;
        if let Some(id) = id {
            for (digest, manifest) in self.store.manifests()? {
                if manifest.config.digest == id {
                    self.store.put_image(&digest, None)?;
                    return Ok("made again from the image's manifest");
                }
            }
        }
        Ok("removed; what it told is lost: pull or tag the image again")
    }

    fn blob(&self, digest: &Digest) -> Result<&'static str> {
        let Some((image, descriptor)) = self.owner(digest) else {
            self.store.remove_damaged_blob(digest)?;
            return Ok("removed; nothing refers to it");
        };
        match self.fetch(image, digest, descriptor.as_ref()) {
            Ok(()) => Ok("fetched again"),
            // Not needed to run the image: it is made again, or fetched, when the image is pushed.
            Err(_) if descriptor.is_some() && image.id.0 != *digest => {
                self.store.remove_damaged_blob(digest)?;
                Ok("removed; containers run from the layer's other form")
            }
            Err(error) => Err(error),
        }
    }

    /// The image that has a blob, and the blob's descriptor unless it is a manifest or an index.
    fn owner(&self, digest: &Digest) -> Option<(&ImageOutline, Option<Descriptor>)> {
        self.images.iter().find_map(|image| {
            if image.manifest == *digest || image.index.as_ref() == Some(digest) {
                return Some((image, None));
            }
            let manifest = self.store.manifest(&image.manifest).ok()?;
            let Manifest { config, layers, .. } = manifest;
            let found = layers.into_iter().chain([config]).find(|blob| blob.digest == *digest)?;
            Some((image, Some(found)))
        })
    }

    fn image(&self, id: &ImageId) -> Result<&'static str> {
        let image = self.images.iter().find(|image| image.id == *id);
        let image = image.ok_or_else(|| Error::NoSuchImage { name: id.to_string() })?;
        for digest in image.index.iter().chain([&image.manifest]) {
            if self.store.open_document(digest).is_err() {
                self.fetch(image, digest, None)?;
            }
        }
        let manifest = self.store.manifest(&image.manifest)?;
        if self.store.open_document(&manifest.config.digest).is_err() {
            self.fetch(image, &manifest.config.digest, Some(&manifest.config))?;
        }
        Ok("its documents were fetched again")
    }

    fn layer(&self, diff_id: &DiffId) -> Result<&'static str> {
        let running = self.engine.list(&ListFilter::default())?.containers;
        let images: Vec<&ImageOutline> = self.images.iter().filter(|image| image.layers.contains(diff_id)).collect();
        let user = running.iter().find(|container| {
            container.state.status == Status::Running && images.iter().any(|image| image.id == container.image_id)
        });
        if let Some(user) = user {
            let name = &user.name;
            return Err(Error::invalid(format!(
                "running container {name} uses it: `tare stop {name}`, then try again"
            )));
        }
        if self.store.layers().rebuild(diff_id)? {
            return Ok("made again from its archive");
        }
        if images.is_empty() {
            // A step of a build that has lost its layer is built again.
            let without = super::Without { all_steps: true, ..super::Without::default() };
            if super::UsedLayers::new(self.engine, &without).contains(diff_id) {
                return Err(Error::invalid("a container needs it, and no image says where it came from"));
            }
            self.store.layers().remove(diff_id)?;
            return Ok("removed; no image needs it");
        }
        let mut failure = None;
        for image in images {
            match self.remake(image, diff_id) {
                Ok(outcome) => return Ok(outcome),
                Err(error) => drop(failure.insert(error)),
            }
        }
        Err(failure.expect("there is an image"))
    }

    /// Makes a layer again from the blob that an image has of it. The damaged one stays until that is there.
    fn remake(&self, image: &ImageOutline, diff_id: &DiffId) -> Result<&'static str> {
        let layers = self.store.layer_descriptors(&image.manifest, &image.layers)?;
        let (layer, _) = layers
            .into_iter()
            .find(|(_, other)| other == diff_id)
            .ok_or_else(|| Error::invalid(format!("the manifest of image {} does not name it", image.id.0.short())))?;
        match self.store.remake_layer(&layer, diff_id) {
            Err(tare_store::Error::BlobMissing { .. }) => {}
            result => return Ok(result.map(|()| "made again from its blob")?),
        }
        self.fetch(image, &layer.digest, Some(&layer))?;
        self.store.remake_layer(&layer, diff_id)?;
        Ok("fetched again")
    }

    /// Fetches a document or a layer's blob from where the image came.
    fn fetch(&self, image: &ImageOutline, digest: &Digest, descriptor: Option<&Descriptor>) -> Result<()> {
        let mut failure = None;
        for reference in image.repositories() {
            let fetched = match descriptor {
                Some(descriptor) => self
                    .client
                    .blob(&reference, descriptor)
                    .map_err(Error::from)
                    .and_then(|mut blob| Ok(self.store.replace_blob(descriptor, &mut blob)?)),
                None => self.client.manifest(&reference.at_digest(digest.clone())).map_err(Error::from).and_then(
                    |document| {
                        let length = document.bytes.len() as u64;
                        let descriptor = Descriptor::new(document.media_type, digest.clone(), length);
                        Ok(self.store.replace_blob(&descriptor, &mut document.bytes.as_slice())?)
                    },
                ),
            };
            match fetched {
                Ok(()) => return Ok(()),
                Err(error) => drop(failure.insert(error)),
            }
        }
        Err(failure.unwrap_or_else(|| from_nowhere(image)))
    }
}

fn from_nowhere(image: &ImageOutline) -> Error {
    Error::invalid(format!("image {} did not come from a registry: load or build it again", image.id.0.short()))
}
