//! Removing names and images.

use crate::container::view::{ContainerSummary, ListFilter};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::state::record::Status;
use std::collections::BTreeSet;
use tare_spec::{Digest, Reference};

/// One thing `rmi` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageRemoval {
    /// This name is gone.
    Untagged(String),
    /// This blob or image is gone.
    Deleted(Digest),
}

impl Engine {
    /// Removes a name, and with its last name the image. `force` removes all names of an id, and images of containers
    /// that do not run; those containers keep their layers.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`]; [`Error::ImageInUse`] in Docker's words.
    pub fn remove_image(&self, name: &str, force: bool) -> Result<Vec<ImageRemoval>> {
        loop {
            // Otherwise it has got a name meanwhile, and what is right for it may be something else.
            if let Some(removals) = self.try_remove_image(name, force)? {
                return Ok(removals);
            }
        }
    }

    fn try_remove_image(&self, name: &str, force: bool) -> Result<Option<Vec<ImageRemoval>>> {
        let (image, reference) = self.store()?.resolve_outline(name).map_err(super::not_found)?;
        let id = &image.id;
        let index = match &reference {
            Some(reference) => self.store()?.index_of(reference)?,
            None => image.index.clone(),
        };
        // What an unreadable container uses is not known here; its layers stay, see `UsedLayers`.
        let containers = self.list(&ListFilter { all: true, ..ListFilter::default() })?.containers;
        let users: Vec<&ContainerSummary> = containers.iter().filter(|container| container.image_id == *id).collect();
        let running = users.iter().find(|container| container.state.status == Status::Running);
        let in_use = |action: String, means, reason: String| Err(Error::ImageInUse { action, means, reason });
        if let Some(reference) = reference {
            let last = match reference.tag() {
                Some(_) => image.references.len() <= 1,
                None => image.references.is_empty() && image.repo_digests.len() <= 1,
            };
            if let Some(user) = users.first().filter(|_| last && !force) {
                let action = format!("remove repository reference {name:?}");
                let reason = format!("container {} is using its referenced image {}", user.id.short(), id.0.short());
                return in_use(action, "must force", reason);
            }
            if !last || running.is_some() {
                let names = self.store()?.untag(&reference)?;
                let untagged = names.iter().map(|name| ImageRemoval::Untagged(name.familiar()));
                let parts = self.forget_parts(index.as_ref(), &containers)?;
                if !parts.is_empty() {
                    self.collect()?;
                }
                return Ok(Some(untagged.chain(parts).collect()));
            }
        } else {
            let action = format!("delete {}", id.0.short());
            let is_nameless = image.references.is_empty() && image.repo_digests.is_empty();
            if is_nameless && self.store()?.parts(&|_| true)?.contains(id) {
                let reason = "a name stands for it together with images for other platforms".to_owned();
                return in_use(action, "cannot be forced", reason);
            }
            if let Some(user) = running {
                let reason = format!("image is being used by running container {}", user.id.short());
                return in_use(action, "cannot be forced", reason);
            }
            if let Some(user) = users.first().filter(|_| !force) {
                let reason = format!("image is being used by stopped container {}", user.id.short());
                return in_use(action, "must be forced", reason);
            }
            let repositories: BTreeSet<String> = image.references.iter().map(Reference::familiar_name).collect();
            if repositories.len() > 1 && !force {
                return in_use(action, "must be forced", "image is referenced in multiple repositories".into());
            }
        }
        let known = image.references.iter().chain(&image.repo_digests).cloned().collect();
        let store = self.store()?;
        let Some(untagged) = store.forget_image(id, &known).map_err(super::not_found)? else { return Ok(None) };
        let mut removals: Vec<ImageRemoval> =
            untagged.iter().map(|name| ImageRemoval::Untagged(name.familiar())).collect();
        removals.push(ImageRemoval::Deleted(id.0.clone()));
        removals.extend(self.forget_parts(index.as_ref(), &containers)?);
        removals.extend(self.collect()?.layers.into_iter().map(|layer| ImageRemoval::Deleted(layer.0)));
        Ok(Some(removals))
    }

    /// Removes the images that a name stood for which is gone now: those without a name that no other name stands for.
    fn forget_parts(&self, index: Option<&Digest>, containers: &[ContainerSummary]) -> Result<Vec<ImageRemoval>> {
        let store = self.store()?;
        let mut removals = Vec::new();
        for part in index.map(|index| store.parts_of(index)).transpose()?.unwrap_or_default() {
            let Some(id) = part.image else { continue };
            if containers.iter().any(|container| container.image_id == id) {
                continue;
            }
            match store.forget_image(&id, &BTreeSet::new()) {
                Ok(None) | Err(tare_store::Error::ImageNotFound { .. }) => {}
                Ok(Some(_)) => removals.push(ImageRemoval::Deleted(id.0)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(removals)
    }
}
