//! The images that a build starts from.

use super::process::Steps;
use super::{EngineExecutor, PullBytes};
use crate::error::{Error, Result};
use crate::image::{PullEvent, PullProgress, PullRequest};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tare_build::executor::{BaseImage, WantedImage};
use tare_spec::image::{Descriptor, ImageConfig, Index, MANIFEST_LIMIT};
use tare_spec::{Digest, ErrorKind, ImageId, Platform, Reference};
use tare_store::{ImageRecord, Lease};

/// How often an image is looked for that goes away between its coming and its being taken into use.
const ATTEMPTS: usize = 3;

/// The digits by which ids are shown.
const SHORTEST_ID: usize = 12;

/// What names stood for, and stand for as long as this lives.
#[derive(Default)]
pub(super) struct Images(Mutex<HashMap<(String, Platform), Slot>>);

/// A name's place: who looks it up holds it, and the others wait.
type Slot = Arc<Mutex<Option<Known>>>;

/// An image that a name stands for. Its content stays while this lives.
struct Known {
    resolved: String,
    manifest: Digest,
    config: ImageConfig,
    layers: Vec<Descriptor>,
    _lease: Lease,
}

impl EngineExecutor<'_> {
    /// What a name stands for; who asks for the same at once waits.
    pub(super) fn base_image(&self, wanted: &WantedImage<'_>) -> Result<BaseImage> {
        self.steps.check()?;
        let key = (wanted.name.to_owned(), wanted.platform.normalised());
        let slot = {
            let mut images = self.images.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(images.entry(key).or_default())
        };
        // A failure leaves the place empty: the next one tries again.
        let mut known = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match &mut *known {
            Some(known) => known,
            empty => empty.insert(self.find(wanted)?),
        };
        Ok(BaseImage {
            resolved: known.resolved.clone(),
            manifest: known.manifest.clone(),
            config: known.config.clone(),
            layers: known.layers.clone(),
            lease: self.engine.store()?.lease()?,
        })
    }

    fn find(&self, wanted: &WantedImage<'_>) -> Result<Known> {
        let is_digest = Reference::parse(wanted.name).is_ok_and(|name| name.digest().is_some());
        // What a digest names never changes.
        let mut found = if self.pull && !is_digest { Local::Missing } else { self.local(wanted)? };
        for _ in 0..ATTEMPTS {
            let image = match found {
                Local::Found(image) => *image,
                Local::Missing => self.pull(wanted, None)?,
                Local::OtherPlatform(platform) => self.pull(wanted, Some(platform))?,
            };
            let lease = self.engine.store()?.lease()?;
            // Removed meanwhile, it comes once more.
            if self.engine.store()?.resolve_outline(&image.id.to_string()).is_ok() {
                let manifest = self.engine.store()?.manifest(&image.manifest)?;
                let FoundImage { manifest: digest, resolved, config, .. } = image;
                return Ok(Known { resolved, manifest: digest, config, layers: manifest.layers, _lease: lease });
            }
            drop(lease);
            found = self.local(wanted)?;
        }
        Err(Error::NoSuchImage { name: wanted.name.to_owned() })
    }

    /// The image of the store that the name stands for, if it is for the right platform.
    fn local(&self, wanted: &WantedImage<'_>) -> Result<Local> {
        let store = self.engine.store()?;
        let found = match store.resolve(wanted.name) {
            // A word that happens to begin an image's id is a name: what it meant would depend on the machine.
            Ok(tare_store::Found { reference: None, .. }) | Err(tare_store::Error::Ambiguous { .. })
                if wanted.name.strip_prefix("sha256:").unwrap_or(wanted.name).len() < SHORTEST_ID =>
            {
                return Ok(Local::Missing);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => match self.engine.image_or_built_in(wanted.name) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Local::Missing),
                built_in => built_in.map(drop).and_then(|()| Ok(store.resolve(wanted.name)?))?,
            },
            found => found?,
        };
        let tare_store::Found { image, reference } = found;
        let Some(reference) = reference else {
            let resolved = image.id.to_string();
            return if serves(wanted.platform, &image.config) {
                Ok(Local::Found(Box::new(FoundImage::new(image, resolved))))
            } else {
                Err(mismatch(wanted, &image.config.platform()))
            };
        };
        let resolved = resolved(&reference, source_digest(&image, &reference));
        let index = store.index_of(&reference)?.or_else(|| image.index.clone());
        let chosen = match &index {
            Some(index) => self.chosen(index, wanted.platform)?,
            None => None,
        };
        match chosen {
            Some(chosen) if chosen != image.manifest => {
                // The name stands for the image of another platform; this one may have come, too.
                let parts = index.map(|index| store.parts_of(&index)).transpose()?.unwrap_or_default();
                match parts.into_iter().find(|part| part.entry.digest == chosen).and_then(|part| part.image) {
                    Some(other) => {
                        let image = store.find(&other.to_string())?;
                        Ok(Local::Found(Box::new(FoundImage::new(image, resolved))))
                    }
                    None => Ok(Local::OtherPlatform(image.config.platform())),
                }
            }
            None if !serves(wanted.platform, &image.config) => Ok(Local::OtherPlatform(image.config.platform())),
            _ => Ok(Local::Found(Box::new(FoundImage::new(image, resolved)))),
        }
    }

    /// The manifest that an index of the store has for a platform.
    fn chosen(&self, index: &Digest, platform: &Platform) -> Result<Option<Digest>> {
        match self.engine.store()?.blob(index, MANIFEST_LIMIT) {
            Ok(bytes) => Ok(Index::parse(&bytes, None)?.select(platform).map(|chosen| chosen.digest.clone())),
            // The image is there all the same; `system check` tells.
            Err(tare_store::Error::BlobMissing { .. } | tare_store::Error::Damaged { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Gets it from its registry. A name that stands for the host's platform, or may, keeps doing so.
    fn pull(&self, wanted: &WantedImage<'_>, other: Option<Platform>) -> Result<FoundImage> {
        let request = PullRequest { reference: wanted.name.to_owned(), platform: Some(wanted.platform.clone()) };
        let names = Platform::host().normalised() == wanted.platform.normalised();
        let progress = Progress { wanted, told: self.pull_progress, steps: &self.steps };
        let pulled = match (self.engine.pull_named(&request, names, &progress), other) {
            (Err(error), Some(found))
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unauthorized | ErrorKind::Forbidden) =>
            {
                return Err(mismatch(wanted, &found));
            }
            (pulled, _) => pulled?,
        };
        let image = self.engine.store()?.find(&pulled.id.to_string())?;
        Ok(FoundImage::new(image, resolved(&pulled.reference, pulled.digest)))
    }
}

/// What the store has of a name.
enum Local {
    Found(Box<FoundImage>),
    /// For this one only.
    OtherPlatform(Platform),
    Missing,
}

struct FoundImage {
    id: ImageId,
    manifest: Digest,
    resolved: String,
    config: ImageConfig,
}

impl FoundImage {
    fn new(image: ImageRecord, resolved: String) -> Self {
        Self { id: image.id, manifest: image.manifest, resolved, config: image.config }
    }
}

/// Whether an image runs on a platform; one that does not say what it is for may.
fn serves(platform: &Platform, config: &ImageConfig) -> bool {
    (config.os.is_empty() && config.architecture.is_empty()) || platform.matches(&config.platform())
}

fn mismatch(wanted: &WantedImage<'_>, found: &Platform) -> Error {
    let (found, platform) = (Box::new(found.clone()), Box::new(wanted.platform.clone()));
    Error::PlatformMismatch { name: wanted.name.to_owned(), found, wanted: platform }
}

/// What the name stood for where the image came from: the digest by which it was pulled, else its own.
fn source_digest(image: &ImageRecord, reference: &Reference) -> Digest {
    let repository = reference.without_version();
    let pulled = image.repo_digests.iter().filter(|name| name.without_version() == repository);
    let digests: Vec<&Digest> = pulled.filter_map(Reference::digest).collect();
    let own = image.index.as_ref().unwrap_or(&image.manifest);
    if digests.contains(&own) { own.clone() } else { (*digests.last().unwrap_or(&own)).clone() }
}

fn resolved(reference: &Reference, digest: Digest) -> String {
    if reference.digest().is_some() { reference.to_string() } else { format!("{reference}@{digest}") }
}

/// Tells the bytes of layers.
struct Progress<'a> {
    wanted: &'a WantedImage<'a>,
    told: &'a (dyn Fn(PullBytes<'_>) + Sync),
    steps: &'a Steps,
}

impl PullProgress for Progress<'_> {
    fn event(&self, event: PullEvent<'_>) {
        let (layer, current, total) = match event {
            PullEvent::Progress { layer, current, total } => (layer, current, total),
            PullEvent::Resolving(_) | PullEvent::Exists(_) | PullEvent::Waiting(_) | PullEvent::Complete(_) => return,
        };
        (self.told)(PullBytes { step: self.wanted.step, layer: layer.as_str(), current, total });
    }

    fn is_cancelled(&self) -> bool {
        self.steps.check().is_err()
    }
}
