//! Steps that were built elsewhere: where they are told of, and their layers.

use super::cache_document::CacheDocument;
use super::{EngineExecutor, PullBytes};
use crate::error::{Error, Result};
use crate::image::{Remote, registry_error};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tare_build::cache::Key;
use tare_build::progress::StepId;
use tare_build::request::CacheFrom;
use tare_spec::image::{Descriptor, Document, Index, MANIFEST_LIMIT, Manifest, media_type};
use tare_spec::{DiffId, Digest, Platform, Reference};
use tare_store::{BlobSource, sha256};

/// The most bytes that the document of a cache may have.
const DOCUMENT_LIMIT: u64 = 8 << 20;

/// What has been told so far, by place.
#[derive(Default)]
pub(super) struct Imported(Mutex<Vec<(CacheFrom, Arc<Layers>)>>);

/// The layers of a cache, in the form in which it has them.
type Layers = BTreeMap<DiffId, Descriptor>;

impl EngineExecutor<'_> {
    /// Reads what a place knows of steps.
    pub(super) fn import_steps(&self, place: &CacheFrom) -> Result<Vec<(Key, DiffId)>> {
        self.steps.check()?;
        let caches = match place {
            CacheFrom::Registry(reference) => self.told_by_registry(reference)?,
            CacheFrom::Folder(folder) => told_by_folder(folder)?,
        };
        let mut steps = Vec::new();
        let mut layers = BTreeMap::new();
        for (manifest, document) in caches {
            steps.extend(document.steps());
            layers.extend(document.diff_ids.into_iter().zip(manifest.layers));
        }
        self.imported.0.lock().unwrap_or_else(PoisonError::into_inner).push((place.clone(), Arc::new(layers)));
        Ok(steps)
    }

    /// Brings a layer of such a step into the store, in the form in which it came if it was not there before.
    pub(super) fn import_layer_of(&self, place: &CacheFrom, diff_id: &DiffId, step: StepId) -> Result<Descriptor> {
        self.steps.check()?;
        let layers = {
            let imported = self.imported.0.lock().unwrap_or_else(PoisonError::into_inner);
            imported.iter().find(|(known, _)| known == place).map(|(_, layers)| Arc::clone(layers))
        };
        let layer = layers.as_ref().and_then(|layers| layers.get(diff_id));
        let layer = layer.ok_or_else(|| Error::invalid(format!("{place} has no layer {diff_id}")))?;
        let store = self.engine.store()?;
        let told = |current| {
            let bytes = PullBytes { step, layer: layer.digest.as_str(), current, total: layer.size };
            (self.pull_progress)(bytes);
        };
        let is_cancelled = || self.steps.check().is_err();
        let source: Box<dyn BlobSource + '_> = match place {
            CacheFrom::Registry(reference) => {
                Box::new(Remote { client: self.client()?, reference, layer, is_cancelled: &is_cancelled })
            }
            CacheFrom::Folder(folder) => Box::new(Blob(blob_path(folder, &layer.digest))),
        };
        store.take_layer(layer, diff_id, &*source, &told).map_err(registry_error)?;
        if store.open_blob(layer).is_ok() {
            return Ok(layer.clone());
        }
        // It was here before, and in another form.
        if let Some(archive) = store.layers().archive(diff_id)? {
            let length = archive.metadata().map_err(Error::system("inspect the archive of a layer"))?.len();
            return Ok(Descriptor::new(media_type::OCI_LAYER, diff_id.0.clone(), length));
        }
        let mut blob = source.open(0).map_err(|source| {
            let digest = layer.digest.clone();
            registry_error(tare_store::Error::Read { digest, offset: 0, size: layer.size, source })
        })?;
        store.put_blob(layer, &mut blob).map_err(registry_error)?;
        Ok(layer.clone())
    }

    /// What a name in a registry leads to; of an image for several platforms, all that this host can build for.
    fn told_by_registry(&self, reference: &Reference) -> Result<Vec<(Manifest, CacheDocument)>> {
        let client = self.client()?;
        let response = client.manifest(reference)?;
        let kind = |media_type: String| (!media_type.is_empty()).then_some(media_type);
        let manifests = match Document::parse(&response.bytes, kind(response.media_type).as_deref())? {
            Document::Manifest(manifest) => vec![*manifest],
            Document::Index(index) => {
                let mut manifests = Vec::new();
                for digest in images(&index) {
                    let response = client.manifest(&reference.at_digest(digest))?;
                    manifests.push(Manifest::parse(&response.bytes, kind(response.media_type).as_deref())?);
                }
                manifests
            }
        };
        let read = |manifest: Manifest| {
            let config = verified(&manifest.config, |limit| {
                let blob = client.blob(reference, &manifest.config).map_err(io::Error::other)?;
                limited(blob, limit)
            })?;
            let document = CacheDocument::read(&manifest, &config)?;
            Ok((manifest, document))
        };
        manifests.into_iter().map(read).collect()
    }
}

/// The images of an index, one a platform; bounded, as the index comes from anywhere.
fn images(index: &Index) -> Vec<Digest> {
    const MOST: usize = 16;
    let platforms: Vec<&Platform> = index.platforms().take(MOST).collect();
    let mut images: Vec<Digest> =
        platforms.into_iter().filter_map(|platform| index.select(platform)).map(|entry| entry.digest.clone()).collect();
    if images.is_empty() {
        images.extend(index.manifests.first().map(|entry| entry.digest.clone()));
    }
    images
}

/// What an image layout in a folder has.
fn told_by_folder(folder: &Path) -> Result<Vec<(Manifest, CacheDocument)>> {
    let path = folder.join("index.json");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::file("read", &path, source)
    };
    let bytes = File::open(&path).and_then(|file| limited(file, MANIFEST_LIMIT)).map_err(failed(&path))?;
    let index = Index::parse(&bytes, None)?;
    let read = |descriptor: &Descriptor| {
        let open = |descriptor: &Descriptor| {
            let path = blob_path(folder, &descriptor.digest);
            verified(descriptor, |limit| File::open(&path).and_then(|file| limited(file, limit)))
        };
        let manifest = Manifest::parse(&open(descriptor)?, None)?;
        let document = CacheDocument::read(&manifest, &open(&manifest.config)?)?;
        Ok((manifest, document))
    };
    index.manifests.iter().map(read).collect()
}

/// The whole of a small blob, which is what its digest says.
pub(super) fn verified(descriptor: &Descriptor, read: impl FnOnce(u64) -> io::Result<Vec<u8>>) -> Result<Vec<u8>> {
    let digest = &descriptor.digest;
    let size = descriptor.size;
    let broken = |source| registry_error(tare_store::Error::Read { digest: digest.clone(), offset: 0, size, source });
    let bytes = read(DOCUMENT_LIMIT).map_err(broken)?;
    let actual = sha256(&bytes);
    if actual != *digest {
        return Err(tare_store::Error::Digest { expected: digest.clone(), actual }.into());
    }
    Ok(bytes)
}

pub(super) fn limited(reader: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

/// Where an image layout has a blob (image specification, `image-layout.md`).
pub(super) fn blob_path(layout: &Path, digest: &Digest) -> PathBuf {
    layout.join("blobs").join(digest.algorithm().name()).join(digest.hex())
}

/// A layer in a file.
struct Blob(PathBuf);

impl BlobSource for Blob {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        let mut file = File::open(&self.0)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}
