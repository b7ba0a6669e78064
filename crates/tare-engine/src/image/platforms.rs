//! Images for several platforms: one of them has the name, and the name has the index of all.

use crate::engine::Engine;
use crate::error::{Error, Result};
use tare_spec::image::Descriptor;
use tare_spec::{Digest, ImageId, Platform, Reference};
use tare_store::{ImageRecord, Store};

/// What a name's index names, in its order, if all of that is here: who pulls gets one platform of it only.
pub(crate) fn whole(store: &Store, index: &Digest) -> Result<Option<Vec<(Descriptor, ImageId)>>> {
    let parts = store.parts_of(index)?;
    let here: Option<Vec<_>> = parts.into_iter().map(|part| Some((part.entry, part.image?))).collect();
    Ok(here.filter(|parts| !parts.is_empty()))
}

impl Engine {
    /// All images that a name stands for, where all of them are here; else none.
    pub(crate) fn platforms_of(&self, index: Option<&Digest>) -> Result<Vec<ImageRecord>> {
        let store = self.store()?;
        let Some(index) = index else { return Ok(Vec::new()) };
        let parts = whole(store, index)?.unwrap_or_default();
        parts.into_iter().map(|(_, id)| Ok(store.find(&id.to_string())?)).collect()
    }

    /// The image for a platform, of those that a word stands for.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`]; [`Error::PlatformMismatch`] where none of them is for it.
    pub(crate) fn image_for(&self, word: &str, platform: &Platform) -> Result<ImageRecord> {
        let found = self.find_image(word)?;
        let index = self.named_index(word, &found.image, found.reference.as_ref())?;
        self.of_platform(word, found.image, index.as_ref(), platform)
    }

    /// The same, where it is known which image and index the word leads to.
    pub(crate) fn of_platform(
        &self,
        word: &str,
        image: ImageRecord,
        index: Option<&Digest>,
        platform: &Platform,
    ) -> Result<ImageRecord> {
        let store = self.store()?;
        if platform.matches(&image.config.platform()) {
            return Ok(image);
        }
        for part in index.map(|index| store.parts_of(index)).transpose()?.unwrap_or_default() {
            let Some(id) = part.image else { continue };
            let other = store.find(&id.to_string())?;
            if platform.matches(&other.config.platform()) {
                return Ok(other);
            }
        }
        Err(Error::PlatformMismatch {
            name: word.to_owned(),
            found: Box::new(image.config.platform()),
            wanted: Box::new(platform.clone()),
        })
    }

    /// The index that a person's word for an image stands for: that of the name, or the one whose digest it is.
    pub(crate) fn named_index(
        &self,
        word: &str,
        image: &ImageRecord,
        name: Option<&Reference>,
    ) -> Result<Option<Digest>> {
        match name {
            Some(name) => Ok(self.store()?.index_of(name)?),
            None => Ok(image.index.clone().filter(|index| Digest::parse(word).is_ok_and(|digest| digest == *index))),
        }
    }
}
