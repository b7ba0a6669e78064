//! Pushing images to registries.

use super::platforms;
use crate::engine::Engine;
use crate::error::{Error, Result};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use tare_build::cache::{Cache, CacheEntry};
use tare_registry::{Client, ClientOptions};
use tare_spec::image::{CONFIG_LIMIT, Compression, Descriptor, Index, MANIFEST_LIMIT, layer_compression, media_type};
use tare_spec::{DiffId, Digest, ImageId, Reference};
use tare_store::{ImageSummary, Store};

/// What to push.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// The image by the name that it shall have in the registry; it must have it here.
    pub reference: String,
}

/// What a push did.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The full name with its tag.
    pub reference: Reference,
    /// Digest of the manifest in the registry.
    pub digest: Digest,
    /// Bytes of the manifest.
    pub size: u64,
}

/// Steps of a push, as they happen; layers are named by their diff IDs, as one that is compressed on the way has
/// no other name before.
#[derive(Clone, Debug)]
pub enum PushEvent<'a> {
    /// The push begins.
    Repository(&'a Reference),
    /// The layer waits for its turn.
    Waiting(&'a DiffId),
    /// The layer is looked for in the registry, and compressed if it has to be.
    Preparing(&'a DiffId),
    /// So many of the layer's `total` bytes have been sent.
    Progress {
        /// The layer.
        layer: &'a DiffId,
        /// Bytes so far.
        current: u64,
        /// Size in bytes, as it is sent.
        total: u64,
    },
    /// The layer has been sent.
    Complete(&'a DiffId),
    /// The repository has the layer already.
    Exists(&'a DiffId),
    /// The registry took the layer from another of its repositories.
    Mounted {
        /// The layer.
        layer: &'a DiffId,
        /// That repository.
        from: &'a str,
    },
}

/// Takes the steps of a push. Layers are pushed in parallel, so calls come from several threads.
pub trait PushProgress: Sync {
    /// Called for each step.
    fn event(&self, event: PushEvent<'_>);
}

/// How many layers of an image are pushed at once (Docker's default).
const PARALLEL_LAYERS: usize = 5;

/// From how many other repositories a registry is asked to take a layer before it is sent.
const MOST_SOURCES: usize = 3;

impl Engine {
    /// Pushes an image to the registry that its name names.
    ///
    /// The bytes of a pulled image go as they came, so that its digest stays. Layers that were made here are
    /// compressed once; the image has a manifest of that form from then on.
    ///
    /// # Errors
    /// [`Error::NotLocal`] when no image has this name; [`Error::Registry`].
    pub fn push(&self, request: &PushRequest, progress: &dyn PushProgress) -> Result<Pushed> {
        let reference = Reference::parse(&request.reference)?;
        if reference.digest().is_some() {
            return Err(Error::invalid("cannot push a digest reference"));
        }
        let reference = reference.with_default_tag();
        let store = self.store()?;
        let lease = store.lease()?;
        // Without their documents: a damaged one of another image is no reason.
        let images = store.summaries()?;
        let Some(image) = images.iter().find(|image| image.references.contains(&reference)) else {
            return Err(Error::NotLocal { name: reference.familiar_name() });
        };
        progress.event(PushEvent::Repository(&reference));
        let client = Client::new(ClientOptions::of_host()?);
        let known = self.known(store, &images)?;
        let push = Push { client: &client, reference: &reference, progress, known: &known };
        let index = store.index_of(&reference)?;
        let parts = index.as_ref().map(|index| platforms::whole(store, index)).transpose()?.flatten();
        let all = parts.as_ref().and_then(|parts| {
            let find = |id: &ImageId| images.iter().find(|image| image.id == *id);
            parts.iter().map(|(_, id)| find(id)).collect::<Option<Vec<_>>>()
        });
        let pushed = match index.zip(all) {
            Some((index, parts)) => {
                let pushed = push.index(&index, &parts)?;
                let by_digest = reference.without_version().at_digest(pushed.digest.clone());
                // It may stand for something else by now.
                if pushed.digest != index && store.index_of(&reference)?.as_ref() == Some(&index) {
                    unless_gone(store.tag(&reference, &image.id, Some(&pushed.digest)))?;
                }
                unless_gone(store.tag(&by_digest, &image.id, Some(&pushed.digest)))?;
                pushed
            }
            None => {
                let manifest = push.image(image)?;
                let digest = client.put_manifest(&reference, &manifest.media_type, &manifest.bytes)?;
                if digest != image.manifest {
                    push.record(image, &manifest, None)?;
                }
                unless_gone(store.tag(&reference.without_version().at_digest(digest.clone()), &image.id, None))?;
                Document { digest, ..manifest }
            }
        };
        self.keep_compressed(&known)?;
        drop(lease);
        Ok(Pushed { reference, digest: pushed.digest, size: pushed.bytes.len() as u64 })
    }
}

/// What was removed while it was pushed needs no name.
fn unless_gone(named: tare_store::Result<()>) -> Result<()> {
    match named {
        Err(tare_store::Error::ImageNotFound { .. }) => Ok(()),
        named => Ok(named?),
    }
}

/// A document as it goes into a registry or a folder.
pub(crate) fn encode(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("documents are structures of strings and numbers")
}

/// What all images of the store tell of their layers.
pub(crate) struct Known<'a> {
    store: &'a Store,
    /// Compressed forms that were made meanwhile.
    made: Mutex<BTreeMap<DiffId, Descriptor>>,
    /// Compressed forms that are in the store.
    forms: BTreeMap<DiffId, BTreeSet<(Digest, u64)>>,
    /// Repositories that had the layer when it came from there or went there.
    repositories: BTreeMap<DiffId, BTreeSet<Reference>>,
}

impl<'a> Known<'a> {
    pub(crate) fn store(&self) -> &'a Store {
        self.store
    }

    fn of(store: &'a Store, images: &[ImageSummary]) -> Self {
        let mut known = Self { store, made: Mutex::default(), forms: BTreeMap::new(), repositories: BTreeMap::new() };
        for image in images {
            // One that is damaged knows nothing.
            let Ok(manifest) = store.manifest(&image.manifest) else { continue };
            for (layer, diff_id) in manifest.layers.iter().zip(&image.layers) {
                let repositories = image.repo_digests.iter().map(Reference::without_version);
                known.repositories.entry(diff_id.clone()).or_default().extend(repositories);
                if layer_compression(&layer.media_type).is_ok_and(|form| form == Compression::Gzip) {
                    known.forms.entry(diff_id.clone()).or_default().insert((layer.digest.clone(), layer.size));
                }
            }
        }
        known
    }

    /// The layer's gzip form: one that is at hand, or a new one.
    pub(crate) fn compressed(&self, layer: &Descriptor, diff_id: &DiffId) -> Result<Descriptor> {
        let docker = layer.media_type == media_type::DOCKER_LAYER || layer.media_type == media_type::DOCKER_LAYER_GZIP;
        let kind = if docker { media_type::DOCKER_LAYER_GZIP } else { media_type::OCI_LAYER_GZIP };
        for (digest, size) in self.forms.get(diff_id).into_iter().flatten() {
            let form = Descriptor::new(kind, digest.clone(), *size);
            if *digest != layer.digest && self.store.open_blob(&form).is_ok() {
                return Ok(form);
            }
        }
        let form = Descriptor { media_type: kind.to_owned(), ..self.store.compress(diff_id, layer)? };
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(diff_id.clone(), form.clone());
        Ok(form)
    }
}

/// Sends content of the store to a repository.
pub(crate) struct Push<'a> {
    pub(crate) client: &'a Client,
    pub(crate) reference: &'a Reference,
    pub(crate) progress: &'a dyn PushProgress,
    pub(crate) known: &'a Known<'a>,
}

impl Engine {
    /// What is known of layers by the images and the build cache.
    pub(crate) fn known<'a>(&self, store: &'a Store, images: &[ImageSummary]) -> Result<Known<'a>> {
        let mut known = Known::of(store, images);
        for CacheEntry { record, .. } in Cache::existing(&self.build_folders()).entries()? {
            if let Some(Descriptor { digest, size, .. }) = record.compressed {
                known.forms.entry(record.diff_id).or_default().insert((digest, size));
            }
        }
        Ok(known)
    }

    /// Has the build cache keep what was compressed of its layers.
    pub(crate) fn keep_compressed(&self, known: &Known<'_>) -> Result<()> {
        let made = known.made.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Cache::existing(&self.build_folders()).keep_compressed(&made)?)
    }
}

/// A manifest or an index, as it goes into the registry.
struct Document {
    media_type: String,
    digest: Digest,
    bytes: Vec<u8>,
}

impl Push<'_> {
    /// Sends an image but for its manifest, which is returned: another one than it had where layers were compressed.
    fn image(&self, image: &ImageSummary) -> Result<Document> {
        let store = self.known.store;
        let mut manifest = store.manifest(&image.manifest)?;
        let layers: Vec<(Descriptor, DiffId)> = manifest.layers.iter().cloned().zip(image.layers.clone()).collect();
        // What came from a registry, or went there, goes as it is known there.
        let known_there = |name: &Reference| {
            name.digest().is_some_and(|digest| *digest == image.manifest || Some(digest) == image.index.as_ref())
        };
        let layers = self.layers(&layers, !image.repo_digests.iter().any(known_there))?;
        self.document(&manifest.config)?;
        let bytes = if layers == manifest.layers {
            store.blob(&image.manifest, MANIFEST_LIMIT)?
        } else {
            manifest.layers = layers;
            encode(&manifest)
        };
        let kind = Some(manifest.media_type).filter(|kind| !kind.is_empty());
        let media_type = kind.unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned());
        Ok(Document { media_type, digest: tare_store::sha256(&bytes), bytes })
    }

    /// Sends an index with all its images. What they have become is recorded.
    fn index(&self, before: &Digest, parts: &[&ImageSummary]) -> Result<Document> {
        let store = self.known.store;
        let mut bytes = store.blob(before, MANIFEST_LIMIT)?;
        let mut index = Index::parse(&bytes, None)?;
        let mut changed = Vec::new();
        for (entry, part) in index.manifests.iter_mut().zip(parts) {
            let manifest = self.image(part)?;
            // By its digest: only the index has the name.
            let reference = self.reference.at_digest(manifest.digest.clone());
            self.client.put_manifest(&reference, &manifest.media_type, &manifest.bytes)?;
            if manifest.digest != entry.digest {
                (entry.digest, entry.size) = (manifest.digest.clone(), manifest.bytes.len() as u64);
                changed.push((*part, manifest));
            }
        }
        if !changed.is_empty() {
            bytes = encode(&index);
        }
        let kind = Some(index.media_type).filter(|kind| !kind.is_empty());
        let media_type = kind.unwrap_or_else(|| media_type::OCI_INDEX.to_owned());
        let digest = self.client.put_manifest(self.reference, &media_type, &bytes)?;
        if !changed.is_empty() {
            store.put_bytes(&media_type, &bytes)?;
        }
        for (part, manifest) in &changed {
            self.record(part, manifest, Some(&digest))?;
        }
        Ok(Document { media_type, digest, bytes })
    }

    /// Records an image by the manifest that it went by, unless somebody removed it meanwhile.
    fn record(&self, image: &ImageSummary, manifest: &Document, index: Option<&Digest>) -> Result<()> {
        let store = self.known.store;
        if store.resolve_outline(&image.id.to_string()).is_ok() {
            store.put_bytes(&manifest.media_type, &manifest.bytes)?;
            store.put_image(&manifest.digest, index)?;
        }
        Ok(())
    }

    /// Sends the layers that the registry has not got, some at a time, and returns how the manifest must name all of them. With `compress` those that are here uncompressed go compressed. The
    /// first failure ends it when those under way have ended.
    pub(crate) fn layers(&self, layers: &[(Descriptor, DiffId)], compress: bool) -> Result<Vec<Descriptor>> {
        for (_, diff_id) in layers {
            self.progress.event(PushEvent::Waiting(diff_id));
        }
        let next = AtomicUsize::new(0);
        let pushed = Mutex::new(BTreeMap::new());
        let work = || -> Result<()> {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some((layer, diff_id)) = layers.get(index) else { return Ok(()) };
                match self.layer(layer, diff_id, compress) {
                    Ok(layer) => drop(pushed.lock().expect("nobody panics with it").insert(index, layer)),
                    Err(error) => {
                        next.store(layers.len(), Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..PARALLEL_LAYERS.min(layers.len())).map(|_| scope.spawn(work)).collect();
            let results: Vec<Result<()>> = workers
                .into_iter()
                .map(|worker| worker.join().expect("a worker that panicked has reported why"))
                .collect();
            results.into_iter().collect::<Result<()>>()
        })?;
        Ok(pushed.into_inner().expect("nobody panics with it").into_values().collect())
    }

    fn layer(&self, layer: &Descriptor, diff_id: &DiffId, compress: bool) -> Result<Descriptor> {
        self.progress.event(PushEvent::Preparing(diff_id));
        let compress = compress && layer.digest == diff_id.0;
        let mut layer = if compress { self.known.compressed(layer, diff_id)? } else { layer.clone() };
        if self.is_there(&layer, diff_id)? {
            return Ok(layer);
        }
        let file = match self.known.store.open_blob(&layer) {
            Err(tare_store::Error::BlobMissing { .. }) => {
                if !self.fetch(&layer, diff_id) {
                    layer = self.known.compressed(&layer, diff_id)?;
                    if self.is_there(&layer, diff_id)? {
                        return Ok(layer);
                    }
                }
                self.known.store.open_blob(&layer)?
            }
            result => result?,
        };
        let open = |offset: u64| -> io::Result<Box<dyn Read + Send>> {
            use std::io::Seek;
            let mut file = file.try_clone()?;
            file.seek(io::SeekFrom::Start(offset))?;
            Ok(Box::new(file))
        };
        let total = layer.size;
        let told = |current| self.progress.event(PushEvent::Progress { layer: diff_id, current, total });
        self.client.upload_blob(self.reference, &layer, &open, &told)?;
        self.progress.event(PushEvent::Complete(diff_id));
        Ok(layer)
    }

    /// Whether the repository has the layer, or could take it from another of its registry.
    fn is_there(&self, layer: &Descriptor, diff_id: &DiffId) -> Result<bool> {
        if self.client.has_blob(self.reference, layer)? {
            self.progress.event(PushEvent::Exists(diff_id));
            return Ok(true);
        }
        let others = self.known.repositories.get(diff_id).into_iter().flatten().filter(|other| {
            other.registry() == self.reference.registry() && other.repository() != self.reference.repository()
        });
        for other in others.take(MOST_SOURCES) {
            let from = other.repository();
            if self.client.mount_blob(self.reference, &layer.digest, from)? {
                self.progress.event(PushEvent::Mounted { layer: diff_id, from });
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Fetches a layer's bytes again from where they came. `false` when nobody has them any more.
    fn fetch(&self, layer: &Descriptor, diff_id: &DiffId) -> bool {
        self.known.repositories.get(diff_id).into_iter().flatten().take(MOST_SOURCES).any(|from| {
            let blob = self.client.blob(from, layer);
            blob.is_ok_and(|mut blob| self.known.store.put_blob(layer, &mut blob).is_ok())
        })
    }

    /// Sends a small blob: a configuration.
    pub(crate) fn document(&self, config: &Descriptor) -> Result<()> {
        if self.client.has_blob(self.reference, config)? {
            return Ok(());
        }
        let bytes = self.known.store.blob(&config.digest, CONFIG_LIMIT)?;
        let open = |offset: u64| -> io::Result<Box<dyn Read + Send>> {
            let rest = bytes.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default().to_vec();
            Ok(Box::new(io::Cursor::new(rest)))
        };
        Ok(self.client.upload_blob(self.reference, config, &open, &|_| {})?)
    }
}
