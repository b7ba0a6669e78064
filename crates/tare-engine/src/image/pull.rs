//! Pulling images from registries.

use crate::engine::Engine;
use crate::error::{Error, Result};
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use tare_registry::{Anonymous, Client, ClientOptions, Credentials, DockerConfig, ManifestResponse};
use tare_spec::image::{Descriptor, ImageConfig, Index, Manifest};
use tare_spec::{Digest, ImageId, Platform, Reference};
use tare_store::Store;

/// What to pull.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// The image as the person named it.
    pub reference: String,
    /// The platform to take of a multi-platform image; the host's when absent.
    pub platform: Option<Platform>,
}

/// What a pull did.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The full name, with its tag or digest.
    pub reference: Reference,
    /// Digest of what the name stood for in the registry.
    pub digest: Digest,
    /// The image.
    pub id: ImageId,
    /// Whether the name already stood for this very image.
    pub up_to_date: bool,
}

/// Steps of a pull, as they happen; layers are named by their digests.
#[derive(Clone, Debug)]
pub enum PullEvent<'a> {
    /// The registry is asked for this name.
    Resolving(&'a Reference),
    /// The layer is in the store already.
    Exists(&'a Digest),
    /// The layer waits for its turn.
    Waiting(&'a Digest),
    /// So many of the layer's `total` compressed bytes have been read and stored.
    Progress {
        /// The layer.
        layer: &'a Digest,
        /// Bytes so far.
        current: u64,
        /// Compressed size in bytes.
        total: u64,
    },
    /// The layer is complete and in the store.
    Complete(&'a Digest),
}

/// Takes the steps of a pull. Layers are pulled in parallel, so calls come from several threads.
pub trait PullProgress: Sync {
    /// Called for each step.
    fn event(&self, event: PullEvent<'_>);
}

/// How many layers of an image are pulled at once (Docker's default).
const PARALLEL_LAYERS: usize = 3;

/// The most bytes an image's configuration may have; real ones have some thousands.
const CONFIG_LIMIT: u64 = 8 << 20;

impl Engine {
    /// Pulls an image: after success its bytes are verified and durable.
    ///
    /// # Errors
    /// [`Error::Registry`] for what the registry says or does not say; [`Error::Store`] for content that is not what its
    /// digest says, and for a full disk. Nothing of the attempt is left then.
    pub fn pull(&self, request: &PullRequest, progress: &dyn PullProgress) -> Result<Pulled> {
        self.pull_all(request, progress).map_err(|error| {
            let collected = self.store().and_then(|store| Ok(store.collect(&|layer| self.is_used(layer))?));
            error.after(collected.err().into_iter().collect())
        })
    }

    fn pull_all(&self, request: &PullRequest, progress: &dyn PullProgress) -> Result<Pulled> {
        let reference = Reference::parse(&request.reference)?.with_default_tag();
        progress.event(PullEvent::Resolving(&reference));
        let store = self.store()?;
        let credentials: Box<dyn Credentials> = match DockerConfig::of_user() {
            Some(config) => Box::new(config),
            None => Box::new(Anonymous),
        };
        let client = Client::new(ClientOptions { credentials, ..ClientOptions::default() });
        let lease = store.lease()?;
        let named = client.manifest(&reference)?;
        let wanted = request.platform.clone().unwrap_or_else(Platform::host);
        let (response, index) = if is_index(&named) {
            let index = Index::parse(&named.bytes, content_type(&named))?;
            let chosen = index.select(&wanted).ok_or_else(|| Error::NoSuchImage {
                name: format!(
                    "{}: no matching manifest for {wanted} in the manifest list entries",
                    reference.familiar()
                ),
            })?;
            (client.manifest(&reference.at_digest(chosen.digest.clone()))?, Some(&named))
        } else {
            (named.clone(), None)
        };
        let manifest = Manifest::parse(&response.bytes, content_type(&response))?;
        let config_descriptor = manifest.image_config()?;
        if config_descriptor.size > CONFIG_LIMIT {
            return Err(Error::invalid(format!(
                "image configuration {}: {} bytes, at most {CONFIG_LIMIT} are taken",
                config_descriptor.digest, config_descriptor.size
            )));
        }
        store.put_blob(config_descriptor, &mut client.blob(&reference, config_descriptor)?)?;
        let config = ImageConfig::parse(&store.blob(&config_descriptor.digest, CONFIG_LIMIT)?)?;
        manifest.check_layers(&config)?;
        if let Some(platform) = request.platform.as_ref().filter(|platform| !platform.matches(&config.platform())) {
            return Err(Error::invalid(format!(
                "image with reference {} was found but its platform ({}) does not match the specified platform ({platform})",
                reference.familiar(),
                config.platform()
            )));
        }
        pull_layers(store, &client, &reference, &manifest, &config, progress)?;
        let before = store.resolve(&reference.to_string()).ok().map(|found| found.image);
        for document in [Some(&response), index].into_iter().flatten() {
            let length = document.bytes.len() as u64;
            let descriptor = Descriptor::new(document.media_type.clone(), document.digest.clone(), length);
            store.put_blob(&descriptor, &mut document.bytes.as_slice())?;
        }
        let id = store.put_image(&response.digest, index.map(|index| &index.digest))?;
        store.tag(&reference, &id)?;
        store.tag(&reference.without_version().at_digest(named.digest.clone()), &id)?;
        drop(lease);
        let up_to_date = before.is_some_and(|image| {
            image.id == id && image.repo_digests.iter().any(|name| name.digest() == Some(&named.digest))
        });
        Ok(Pulled { reference, digest: named.digest, id, up_to_date })
    }
}

fn content_type(response: &ManifestResponse) -> Option<&str> {
    (!response.media_type.is_empty()).then_some(response.media_type.as_str())
}

/// Whether the registry sent an index. Without a `Content-Type` the document tells.
fn is_index(response: &ManifestResponse) -> bool {
    match content_type(response) {
        Some(media_type) => tare_spec::image::media_type::is_index(media_type),
        None => Index::parse(&response.bytes, None).is_ok(),
    }
}

/// Pulls the layers that are missing, some at a time; the first failure ends it when those under way have ended.
fn pull_layers(
    store: &Store,
    client: &Client,
    reference: &Reference,
    manifest: &Manifest,
    config: &ImageConfig,
    progress: &dyn PullProgress,
) -> Result<()> {
    let mut missing = Vec::new();
    for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
        if store.layers().contains(diff_id)? {
            progress.event(PullEvent::Exists(&layer.digest));
        } else {
            progress.event(PullEvent::Waiting(&layer.digest));
            missing.push((layer, diff_id));
        }
    }
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some((layer, diff_id)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
            let pulled = client.blob(reference, layer).map_err(Error::from).and_then(|blob| {
                let mut blob = Counted { blob, layer, current: 0, reported: 0, progress };
                Ok(store.layers().apply(layer, diff_id, &mut blob)?)
            });
            if let Err(error) = pulled {
                next.store(missing.len(), Ordering::Relaxed);
                return Err(error);
            }
            progress.event(PullEvent::Complete(&layer.digest));
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..PARALLEL_LAYERS.min(missing.len())).map(|_| scope.spawn(work)).collect();
        let results: Vec<Result<()>> =
            workers.into_iter().map(|worker| worker.join().expect("a worker that panicked has reported why")).collect();
        results.into_iter().collect()
    })
}

/// Tells of the bytes that pass through, not more often than every 256 KiB.
struct Counted<'a> {
    blob: Box<dyn Read + Send>,
    layer: &'a Descriptor,
    current: u64,
    reported: u64,
    progress: &'a dyn PullProgress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.blob.read(buffer)?;
        self.current += count as u64;
        if self.current - self.reported >= 256 << 10 || (count > 0 && self.current == self.layer.size) {
            self.reported = self.current;
            let (layer, total) = (&self.layer.digest, self.layer.size);
            self.progress.event(PullEvent::Progress { layer, current: self.current, total });
        }
        Ok(count)
    }
}
