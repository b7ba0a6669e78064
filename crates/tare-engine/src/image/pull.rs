//! Pulling images from registries.

use crate::engine::Engine;
use crate::error::{Error, Result};
use std::cell::Cell;
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use tare_registry::{Client, ClientOptions, ManifestResponse};
use tare_spec::image::{Descriptor, ImageConfig, Index, Manifest};
use tare_spec::{Digest, ImageId, Platform, Reference};
use tare_store::{BlobSource, Store};

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

    /// Asked again and again: whether nobody wants the image any more. What has arrived stays for the next try then.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Bytes between two reports of a layer's progress.
const REPORTED: u64 = 256 << 10;

/// How many layers of an image are pulled at once (Docker's default).
const PARALLEL_LAYERS: usize = 3;

/// The most bytes an image's configuration may have; real ones have some thousands.
const CONFIG_LIMIT: u64 = 8 << 20;

impl Engine {
    /// Pulls an image: after success its bytes are verified and durable.
    ///
    /// # Errors
    /// [`Error::Registry`] for what the registry says or does not say; [`Error::Store`] for content that is not what its
    /// digest says, and for a full disk; [`Error::BuildCancelled`] when nobody wants it any more. What a registry has sent before it failed stays for a day, for the next try; else
    /// nothing of the attempt is left.
    pub fn pull(&self, request: &PullRequest, progress: &dyn PullProgress) -> Result<Pulled> {
        self.pull_named(request, true, progress)
    }

    /// The same, but a name with a tag is given to the image only if `names` says so. Its name with a digest it gets in any
    /// case.
    pub(crate) fn pull_named(&self, request: &PullRequest, names: bool, progress: &dyn PullProgress) -> Result<Pulled> {
        self.pull_all(request, names, progress).map_err(|error| {
            let collected = self.collect();
            error.after(collected.err().into_iter().collect())
        })
    }

    fn pull_all(&self, request: &PullRequest, names: bool, progress: &dyn PullProgress) -> Result<Pulled> {
        let reference = Reference::parse(&request.reference)?.with_default_tag();
        progress.event(PullEvent::Resolving(&reference));
        let store = self.store()?;
        let client = Client::new(ClientOptions::of_host()?);
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
        let mut config_bytes = Vec::new();
        let mut stream = client.blob(&reference, config_descriptor)?;
        stream.read_to_end(&mut config_bytes).map_err(|source| broken(config_descriptor, source))?;
        let config = ImageConfig::parse(&config_bytes)?;
        manifest.check_layers(&config)?;
        if let Some(platform) = request.platform.as_ref().filter(|platform| !platform.matches(&config.platform())) {
            return Err(Error::invalid(format!(
                "image with reference {} was found but its platform ({}) does not match the specified platform ({platform})",
                reference.familiar(),
                config.platform()
            )));
        }
        let document = |response: &ManifestResponse| {
            let length = response.bytes.len() as u64;
            Descriptor::new(response.media_type.clone(), response.digest.clone(), length)
        };
        // Held while something is put there and noted, not while layers come: other images may be removed meanwhile.
        let lease = store.lease()?;
        store.put_blob(config_descriptor, &mut config_bytes.as_slice())?;
        for response in [Some(&response), index].into_iter().flatten() {
            store.put_blob(&document(response), &mut response.bytes.as_slice())?;
        }
        let documents: Vec<Digest> = index.iter().map(|index| index.digest.clone()).collect();
        let intention = store.intend(&document(&response), &documents, &manifest, &config)?;
        drop(lease);
        match pull_layers(store, &client, &reference, &manifest, &config, progress) {
            Ok(()) => {}
            // The way broke: what has come is there for the next try.
            Err(
                error @ (Error::Registry(_) | Error::BuildCancelled | Error::Store(tare_store::Error::Read { .. })),
            ) => return Err(error),
            Err(error) => {
                let settled = store.settle(intention).map_err(Error::from);
                return Err(error.after(settled.err().into_iter().collect()));
            }
        }
        let before = store.resolve(&reference.to_string()).ok().map(|found| found.image);
        let lease = store.lease()?;
        // Of an image for several platforms the digest is that of all of them, which the name's own image has.
        let digest = if names { &named.digest } else { &response.digest };
        let mut given = vec![reference.without_version().at_digest(digest.clone())];
        given.extend(names.then(|| reference.clone()));
        let (id, _) = store.put_named_image(&response.digest, index.map(|index| &index.digest), &given)?;
        store.settle(intention)?;
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
            let is_cancelled = &|| progress.is_cancelled();
            let source = Remote { client, reference, layer, is_cancelled };
            let reported = Cell::new(0);
            let told = |current: u64| {
                // Not more often than a person can see.
                if current >= reported.get() + REPORTED || current == layer.size {
                    reported.set(current);
                    progress.event(PullEvent::Progress { layer: &layer.digest, current, total: layer.size });
                }
            };
            let pulled = store.take_layer(layer, diff_id, &source, &told).map_err(registry_error);
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

/// A layer in a registry.
pub(crate) struct Remote<'a> {
    pub(crate) client: &'a Client,
    pub(crate) reference: &'a Reference,
    pub(crate) layer: &'a Descriptor,
    /// Whether nobody wants it any more.
    pub(crate) is_cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl BlobSource for Remote<'_> {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        let is_cancelled = self.is_cancelled;
        if is_cancelled() {
            return Err(io::Error::other(Error::BuildCancelled));
        }
        let stream = self.client.blob_from(self.reference, self.layer, offset).map_err(io::Error::other)?;
        Ok(Box::new(Wanted { stream, is_cancelled }))
    }
}

/// A stream that ends when nobody wants it any more, at the next bytes that come.
struct Wanted<'a, R> {
    stream: R,
    is_cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl<R: Read> Read for Wanted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        if (self.is_cancelled)() { Err(io::Error::other(Error::BuildCancelled)) } else { Ok(count) }
    }
}

/// A configuration that did not arrive.
fn broken(config: &Descriptor, source: io::Error) -> Error {
    let (digest, size) = (config.digest.clone(), config.size);
    registry_error(tare_store::Error::Read { digest, offset: 0, size, source })
}

/// What the registry said is told as such, though it came through the store.
pub(crate) fn registry_error(error: tare_store::Error) -> Error {
    match error {
        tare_store::Error::Read { digest, offset, size, source } => match source.downcast::<tare_registry::Error>() {
            Ok(error) => error.into(),
            Err(source) => match source.downcast::<Error>() {
                Ok(error) => error,
                Err(source) => tare_store::Error::Read { digest, offset, size, source }.into(),
            },
        },
        error => error.into(),
    }
}
