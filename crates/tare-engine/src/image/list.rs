//! Lists of images, and all of one.

use super::{Image, pattern};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::state::file;
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use tare_spec::image::{Descriptor, Document, MANIFEST_LIMIT};
use tare_spec::{DiffId, Digest, ImageId, Platform, Reference};
use tare_store::Facts;

/// An image as a list shows it.
#[derive(Clone, Debug)]
pub struct ImageSummary {
    /// Digest of its configuration.
    pub id: ImageId,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Digest of the index that led to it.
    pub index: Option<Digest>,
    /// `repository:tag` names, those that the filter asks for.
    pub tags: Vec<Reference>,
    /// `repository@digest` names, those that the filter asks for.
    pub digests: Vec<Reference>,
    /// When it was made, as it says itself.
    pub created: Option<Timestamp>,
    /// What it is for.
    pub platform: Platform,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its layers, the lowest first.
    pub layers: Vec<DiffId>,
    /// Bytes in the files of its layers.
    pub size: u64,
    /// Bytes of its documents and layers in the form they are transferred in.
    pub content: u64,
}

/// Which images to list. Values of `references` are alternatives, all else must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFilter {
    /// Shell patterns of names: familiar or full, with or without the tag.
    pub references: Vec<String>,
    /// Only those without tags, or only those with; one that is part of what a name stands for counts as that.
    pub dangling: Option<bool>,
    /// `name` or `name=value`.
    pub labels: Vec<String>,
    /// Labels that an image must not have.
    pub without_labels: Vec<String>,
    /// Images that it must be older than.
    pub before: Vec<String>,
    /// Images that it must be younger than.
    pub since: Vec<String>,
    /// What it must have been made before.
    pub until: Option<Timestamp>,
}

/// All that is known of an image.
#[derive(Clone, Debug)]
pub struct ImageDetails {
    /// The image.
    pub image: Image,
    /// The index that led to it, or its manifest.
    pub descriptor: Descriptor,
    /// The form its layers are kept in.
    pub driver: String,
    /// When it was given a name last.
    pub tagged: Option<Timestamp>,
}

impl Engine {
    /// Images, newest first.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`] for one that `before` or `since` names, [`Error::InvalidParameter`] for a pattern that cannot be
    /// read, [`Error::Store`] when records cannot be read.
    pub fn images(&self, filter: &ImageFilter) -> Result<Vec<ImageSummary>> {
        let created = |name: &String| Ok(self.image(name)?.created().unwrap_or(Timestamp::UNIX_EPOCH));
        let before: Vec<Timestamp> = filter.before.iter().map(created).collect::<Result<_>>()?;
        let before = before.into_iter().chain(filter.until).min();
        let since = filter.since.iter().map(created).collect::<Result<Vec<_>>>()?.into_iter().max();
        if let Some(bad) = filter.references.iter().find(|reference| pattern::matches(reference, "").is_none()) {
            return Err(Error::invalid(format!("invalid filter 'reference={bad}': syntax error in pattern")));
        }
        let mut images: Vec<ImageSummary> = self.store()?.summaries()?.into_iter().map(ImageSummary::from).collect();
        // Asked for only where something has no name.
        let is_nameless = |image: &ImageSummary| image.tags.is_empty() && image.digests.is_empty();
        let parts = if images.iter().any(is_nameless) { self.store()?.parts(&|_| true)? } else { BTreeSet::new() };
        images.retain_mut(|image| {
            let made = image.created.unwrap_or(Timestamp::UNIX_EPOCH);
            let dangling = image.tags.is_empty() && !(is_nameless(image) && parts.contains(&image.id));
            let kept = before.is_none_or(|before| made < before)
                && since.is_none_or(|since| made > since)
                && filter.dangling.is_none_or(|wanted| wanted == dangling)
                && filter.labels.iter().all(|label| has_label(&image.labels, label))
                && !filter.without_labels.iter().any(|label| has_label(&image.labels, label));
            if kept && !filter.references.is_empty() {
                image.tags.retain(|name| filter.matches_name(name));
                image.digests.retain(|name| filter.matches_name(name));
                return !image.tags.is_empty() || !image.digests.is_empty();
            }
            kept
        });
        images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(images)
    }

    /// How many containers each image has. Containers whose records are damaged are not counted.
    ///
    /// # Errors
    /// When the folder of containers cannot be read.
    pub fn image_users(&self) -> Result<BTreeMap<ImageId, usize>> {
        #[derive(Deserialize)]
        struct Record {
            image_id: ImageId,
        }
        let mut users = BTreeMap::new();
        for id in self.container_ids()? {
            // One that was removed meanwhile uses nothing; `ps` tells of a damaged one.
            if let Ok(Some(record)) = file::read_json::<Record>(&self.paths.container(&id).record()) {
                *users.entry(record.image_id).or_default() += 1;
            }
        }
        Ok(users)
    }

    /// All that is known of an image.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`]; [`Error::PlatformMismatch`] where it is not for the wanted platform.
    pub fn inspect_image(&self, name: &str, platform: Option<&Platform>) -> Result<ImageDetails> {
        let store = self.store()?;
        let found = match platform {
            Some(platform) => self.image_for(name, platform)?,
            None => self.find_image(name)?.image,
        };
        let (document, tagged) = (found.index.clone().unwrap_or_else(|| found.manifest.clone()), found.tagged);
        let image = Image::from(found);
        let bytes = store.blob(&document, MANIFEST_LIMIT)?;
        let media_type = match Document::parse(&bytes, None)? {
            Document::Manifest(manifest) => manifest.media_type,
            Document::Index(index) => index.media_type,
        };
        let descriptor = Descriptor::new(media_type, document, bytes.len() as u64);
        Ok(ImageDetails { image, descriptor, driver: store.layers().name().to_owned(), tagged })
    }
}

impl ImageFilter {
    fn matches_name(&self, name: &Reference) -> bool {
        let forms = [name.familiar(), name.familiar_name(), name.to_string(), name.without_version().to_string()];
        let matches = |pattern: &String| forms.iter().any(|form| pattern::matches(pattern, form) == Some(true));
        self.references.iter().any(matches)
    }
}

/// Whether there is the label `name`, or `name=value`.
pub(crate) fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    }
}

impl Image {
    /// When it was made, as it says itself.
    #[must_use]
    pub fn created(&self) -> Option<Timestamp> {
        self.config.created.as_deref().and_then(|text| text.parse().ok())
    }
}

impl From<tare_store::ImageSummary> for ImageSummary {
    fn from(summary: tare_store::ImageSummary) -> Self {
        let Facts { created, platform, labels, content } = summary.facts;
        Self {
            id: summary.id,
            manifest: summary.manifest,
            index: summary.index,
            tags: summary.references,
            digests: summary.repo_digests,
            created,
            platform,
            labels,
            layers: summary.layers,
            size: summary.size,
            content,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_in_every_form() {
        let name = Reference::parse("nginx:1.27").unwrap();
        for (pattern, expected) in [
            ("nginx", true),
            ("nginx:1.27", true),
            ("nginx:*", true),
            ("ngin?", true),
            ("docker.io/library/nginx", true),
            ("library/nginx", false),
            ("nginx:1", false),
            ("*/nginx", false),
        ] {
            let filter = ImageFilter { references: vec![pattern.to_owned()], ..ImageFilter::default() };
            assert_eq!(filter.matches_name(&name), expected, "{pattern}");
        }
    }

    #[test]
    fn labels_by_name_or_value() {
        let labels = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())].into();
        for (wanted, expected) in [("a", true), ("a=1", true), ("a=2", false), ("b", true), ("b=", true), ("c", false)]
        {
            assert_eq!(has_label(&labels, wanted), expected, "{wanted}");
        }
    }
}
