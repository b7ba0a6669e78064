//! Removing names and images.

use super::platforms::Part;
use crate::container::view::{ContainerSummary, ListFilter};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::state::record::Status;
use std::collections::BTreeSet;
use tare_spec::{Digest, ImageId, Reference};
use tare_store::ImageOutline;

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
                return Ok(Some(names.iter().map(|name| ImageRemoval::Untagged(name.familiar())).collect()));
            }
        } else {
            let action = format!("delete {}", id.0.short());
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
        let parts = self.parts_without_name(&image, &containers)?;
        let known = image.references.iter().chain(&image.repo_digests).cloned().collect();
        let store = self.store()?;
        let Some(untagged) = store.forget_image(id, &known).map_err(super::not_found)? else { return Ok(None) };
        let mut removals: Vec<ImageRemoval> =
            untagged.iter().map(|name| ImageRemoval::Untagged(name.familiar())).collect();
        removals.push(ImageRemoval::Deleted(id.0.clone()));
        for part in parts {
            // One that got a name meanwhile, or was removed by somebody else, is no part any more.
            match store.forget_image(&part, &BTreeSet::new()) {
                Ok(None) | Err(tare_store::Error::ImageNotFound { .. }) => {}
                Ok(Some(_)) => removals.push(ImageRemoval::Deleted(part.0)),
                Err(error) => return Err(error.into()),
            }
        }
        removals.extend(self.collect()?.layers.into_iter().map(|layer| ImageRemoval::Deleted(layer.0)));
        Ok(Some(removals))
    }

    /// The images for other platforms that go with an image.
    fn parts_without_name(&self, image: &ImageOutline, containers: &[ContainerSummary]) -> Result<Vec<ImageId>> {
        let Some(index) = &image.index else { return Ok(Vec::new()) };
        let mut images = self.store()?.summaries()?;
        images.retain(|other| other.id != image.id && other.index.as_ref() == Some(index));
        if images.iter().any(Part::is_named) {
            return Ok(Vec::new());
        }
        let used = |id: &ImageId| containers.iter().any(|container| container.image_id == *id);
        Ok(images.into_iter().map(|other| other.id).filter(|id| !used(id)).collect())
    }
}
