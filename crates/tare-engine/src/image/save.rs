//! Images as one file.

use crate::engine::Engine;
use crate::error::Result;
use std::io::Write;
use tare_spec::{Digest, Platform, Reference};
use tare_store::{ImageRecord, Saved};

impl Engine {
    /// Writes images, named as a person named them, as one archive: an OCI image layout and an archive of Docker's at
    /// once. A repository without a tag means all its tags, as in Docker. Between files the kernel copies.
    ///
    /// After an error the output holds anything.
    ///
    /// # Errors
    /// [`crate::Error::NoSuchImage`]; [`crate::Error::PlatformMismatch`] where it is not for the wanted platform.
    pub fn save_images(&self, names: &[String], platform: Option<&Platform>, out: impl Write) -> Result<()> {
        let store = self.store()?;
        let _lease = store.lease()?;
        let mut images: Vec<Saved> = Vec::new();
        for name in names {
            for (image, reference) in self.named(name)? {
                let index = self.named_index(name, &image, reference.as_ref())?;
                let (image, platforms) = match platform {
                    None => {
                        let all = self.platforms_of(index.as_ref())?;
                        (image, index.filter(|_| !all.is_empty()).map(|index| (index, all)))
                    }
                    Some(platform) => (self.of_platform(name, image, index.as_ref(), platform)?, None),
                };
                let digest =
                    |platforms: &Option<(Digest, Vec<ImageRecord>)>| platforms.as_ref().map(|all| all.0.clone());
                let wanted = (&image.id, digest(&platforms));
                let index = match images.iter().position(|saved| (&saved.image.id, digest(&saved.platforms)) == wanted)
                {
                    Some(index) => index,
                    None => {
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
