//! The document that tells of steps that were built elsewhere: `docs/formats/build-cache.md`.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tare_build::cache::{CachedStep, Key};
use tare_spec::image::{Descriptor, ImageConfig, Manifest, media_type};
use tare_spec::{DiffId, Digest};

/// The media type of the configuration of a cache's manifest.
pub(super) const CONFIG_TYPE: &str = "application/vnd.tare.buildcache.config.v1+json";

/// The artifact type of a cache's manifest.
pub(super) const ARTIFACT_TYPE: &str = "application/vnd.tare.buildcache.v1";

/// The version of the document.
const VERSION: u32 = 1;

/// Steps, and the layers that they came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CacheDocument {
    version: u32,
    /// Of the manifest's layers, in their order.
    pub(super) diff_ids: Vec<DiffId>,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Step {
    key: Digest,
    /// Its place among the layers.
    layer: usize,
}

impl CacheDocument {
    /// What a build tells: all of its steps, or only those whose layers its result has. Returns also the layers in the form
    /// that the store has them in.
    pub(super) fn new(steps: &[CachedStep], all: bool) -> (Self, Vec<(Descriptor, DiffId)>) {
        let mut layers: Vec<(Descriptor, DiffId)> = Vec::new();
        let mut places: BTreeMap<&DiffId, usize> = BTreeMap::new();
        let mut told: BTreeMap<&Digest, usize> = BTreeMap::new();
        for CachedStep { record, .. } in steps.iter().filter(|step| all || step.in_result) {
            let place = *places.entry(&record.diff_id).or_insert_with(|| {
                layers.push((record.layer.clone(), record.diff_id.clone()));
                layers.len() - 1
            });
            told.insert(record.key.digest(), place);
        }
        let diff_ids = layers.iter().map(|(_, diff_id)| diff_id.clone()).collect();
        let steps = told.into_iter().map(|(key, layer)| Step { key: key.clone(), layer }).collect();
        (Self { version: VERSION, diff_ids, steps }, layers)
    }

    /// What the configuration of a manifest tells: one of this kind, or that of an image.
    ///
    /// # Errors
    /// That it is neither, or is not well formed.
    pub(super) fn read(manifest: &Manifest, config: &[u8]) -> Result<Self> {
        let document = if manifest.config.media_type == CONFIG_TYPE {
            let document: Self = serde_json::from_slice(config)
                .map_err(|error| Error::invalid(format!("the build cache cannot be read: {error}")))?;
            if document.version != VERSION {
                let version = document.version;
                return Err(Error::Unsupported {
                    message: format!("version {version} of build caches is not supported"),
                });
            }
            document
        } else if media_type::is_config(&manifest.config.media_type) {
            let config = ImageConfig::parse(config)?;
            let steps = config.build_steps.into_iter().map(|step| Step { key: step.key, layer: step.layer });
            Self { version: VERSION, diff_ids: config.rootfs.diff_ids, steps: steps.collect() }
        } else {
            let kind: String = manifest.config.media_type.chars().take(160).collect();
            let kind = kind.escape_debug();
            return Err(Error::invalid(format!("{kind} is neither an image nor a build cache of tare")));
        };
        if document.diff_ids.len() != manifest.layers.len() {
            return Err(Error::invalid("the build cache has not as many layers as it says"));
        }
        if document.steps.is_empty() && manifest.config.media_type == CONFIG_TYPE {
            return Err(Error::invalid("it has no steps"));
        }
        if document.steps.is_empty() {
            return Err(Error::invalid(
                "it says nothing of steps: it has to be made with --cache-to, or with --build-arg BUILDKIT_INLINE_CACHE=1",
            ));
        }
        Ok(document)
    }

    /// The layer that each step came to.
    pub(super) fn steps(&self) -> impl Iterator<Item = (Key, DiffId)> {
        self.steps.iter().filter_map(|step| Some((Key::from(step.key.clone()), self.diff_ids.get(step.layer)?.clone())))
    }
}
