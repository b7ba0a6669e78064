//! Images as one file.

use super::platforms;
use crate::engine::Engine;
use crate::error::{Error, Result};
use std::io::Write;
use tare_spec::{Platform, Reference};
use tare_store::{ImageRecord, Saved};

impl Engine {
    /// Writes images, named as a person named them, as one archive: an OCI image layout and an archive of Docker's at
    /// once. A repository without a tag means all its tags, as in Docker. Between files the kernel copies.
    ///
    /// After an error the output holds anything.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`]; [`Error::InvalidParameter`] for an image of another platform than asked for.
    pub fn save_images(&self, names: &[String], platform: Option<&Platform>, out: impl Write) -> Result<()> {
        let store = self.store()?;
        let _lease = store.lease()?;
        let mut images: Vec<Saved> = Vec::new();
        for name in names {
            for (image, reference) in self.named(name)? {
                if let Some(platform) = platform.filter(|platform| !platform.matches(&image.config.platform())) {
                    let actual = image.config.platform();
                    return Err(Error::invalid(format!(
                        "image {name} was found but its platform ({actual}) does not match the specified platform ({platform})"
                    )));
                }
                let index = match images.iter().position(|saved| saved.image.id == image.id) {
                    Some(index) => index,
                    None => {
                        let platforms = if platform.is_none() { self.platforms_of(&image)? } else { Vec::new() };
                        images.push(Saved { image, names: Vec::new(), platforms });
                        images.len() - 1
                    }
                };
                let known = &mut images[index].names;
                known.extend(reference.filter(|reference| !known.contains(reference)));
            }
        }
        Ok(store.save_archive(&images, out)?)
    }

    /// All images of an image's index, where all of them are here.
    pub(crate) fn platforms_of(&self, image: &ImageRecord) -> Result<Vec<ImageRecord>> {
        let store = self.store()?;
        let Some(index) = &image.index else { return Ok(Vec::new()) };
        let images = store.summaries()?;
        let parts = platforms::whole(store, &images, index).map(|(_, parts)| parts).unwrap_or_default();
        parts.into_iter().map(|part| Ok(store.find(&part.id.to_string())?)).collect()
    }

    /// What a word means here: a name, all tags of a repository, or an id.
    fn named(&self, name: &str) -> Result<Vec<(ImageRecord, Option<Reference>)>> {
        if let Ok(repository) = Reference::parse(name)
            && repository.tag().is_none()
            && repository.digest().is_none()
        {
            let mut tags = Vec::new();
            for image in self.store()?.summaries()? {
                let is_in_repository = |tag: &&Reference| tag.without_version() == repository;
                if image.references.iter().any(|tag| is_in_repository(&tag)) {
                    let found = self.find_image(&image.id.to_string())?.image;
                    tags.extend(
                        image.references.iter().filter(is_in_repository).map(|tag| (found.clone(), Some(tag.clone()))),
                    );
                }
            }
            if !tags.is_empty() {
                tags.sort_by(|(_, a), (_, b)| a.cmp(b));
                return Ok(tags);
            }
        }
        let found = self.find_image(name)?;
        Ok(vec![(found.image, found.reference.filter(|reference| reference.tag().is_some()))])
    }
}
