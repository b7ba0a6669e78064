//! How an image came to be, step by step.

use super::Image;
use crate::engine::Engine;
use crate::error::Result;
use jiff::Timestamp;
use tare_spec::image::{History, ImageConfig};
use tare_spec::{DiffId, ImageId, Platform, Reference};

/// A step of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryStep {
    /// The image, for its last step; the images between have no ids.
    pub id: Option<ImageId>,
    /// The image's tags, for its last step.
    pub tags: Vec<Reference>,
    /// When, as the image says itself.
    pub created: Option<Timestamp>,
    /// By which command.
    pub created_by: String,
    /// Bytes in the files of the layer it made.
    pub size: u64,
    /// What its author said.
    pub comment: String,
}

impl Engine {
    /// The steps of an image, the last one first.
    ///
    /// # Errors
    /// [`crate::Error::NoSuchImage`]; [`crate::Error::PlatformMismatch`] where it is not for the wanted platform.
    pub fn image_history(&self, name: &str, platform: Option<&Platform>) -> Result<Vec<HistoryStep>> {
        let image = match platform {
            Some(platform) => self.image_for(name, platform)?.into(),
            None => self.image(name)?,
        };
        let layers = self.store()?.layers();
        steps(&image, |layer| Ok(layers.usage(layer)?))
    }
}

fn steps(image: &Image, size_of: impl Fn(&DiffId) -> Result<u64>) -> Result<Vec<HistoryStep>> {
    let ImageConfig { history, rootfs, .. } = &image.config;
    let mut layers = rootfs.diff_ids.iter();
    let mut steps = Vec::new();
    for step in history {
        let layer = if step.empty_layer { None } else { layers.next() };
        steps.push(described(step, layer.map(&size_of).transpose()?.unwrap_or(0)));
    }
    // Layers that the history does not mention take space all the same.
    for layer in layers {
        steps.push(described(&History::default(), size_of(layer)?));
    }
    steps.reverse();
    if let Some(last) = steps.first_mut() {
        last.id = Some(image.id.clone());
        last.tags.clone_from(&image.tags);
    }
    Ok(steps)
}

fn described(step: &History, size: u64) -> HistoryStep {
    HistoryStep {
        id: None,
        tags: Vec::new(),
        created: step.created.as_deref().and_then(|text| text.parse().ok()),
        created_by: step.created_by.clone().unwrap_or_default(),
        size,
        comment: step.comment.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_spec::Digest;

    #[test]
    fn the_last_step_comes_first_and_no_layer_is_left_out() {
        let diff_id = |n| DiffId(Digest::from_sha256([n; 32]));
        let step = |by: &str, empty_layer| History {
            created_by: Some(by.to_owned()),
            created: Some("2026-01-02T03:04:05Z".to_owned()),
            empty_layer,
            ..History::default()
        };
        let mut config = ImageConfig { history: vec![step("ADD", false), step("CMD", true)], ..ImageConfig::default() };
        config.rootfs.diff_ids = vec![diff_id(1), diff_id(2)];
        let id = ImageId(Digest::from_sha256([9; 32]));
        let manifest = Digest::from_sha256([8; 32]);
        let image = Image { id, manifest, tags: vec![], digests: vec![], config, size: 0 };
        let steps = steps(&image, |layer| Ok(if *layer == diff_id(1) { 10 } else { 20 })).unwrap();
        let shown: Vec<(&str, u64, bool)> =
            steps.iter().map(|step| (step.created_by.as_str(), step.size, step.id.is_some())).collect();
        assert_eq!(shown, [("", 20, true), ("CMD", 0, false), ("ADD", 10, false)]);
        assert!(steps[0].created.is_none() && steps[1].created.is_some());
    }
}
