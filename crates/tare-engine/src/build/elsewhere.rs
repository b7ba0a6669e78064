//! Steps that were built elsewhere: where they are told of, and their layers.

use super::cache_document::CacheDocument;
use super::{EngineExecutor, PullBytes};
use crate::error::{Error, Result};
use crate::image::{Remote, registry_error};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tare_build::cache::Key;
use tare_build::progress::StepId;
use tare_build::request::CacheFrom;
use tare_spec::image::{Descriptor, Document, Index, MANIFEST_LIMIT, Manifest, media_type};
use tare_spec::{DiffId, Digest, Platform, Reference};
use tare_store::{BlobSource, sha256};
use tare_sys::directory::Directory;

/// The most bytes that the document of a cache may have.
const DOCUMENT_LIMIT: u64 = 8 << 20;

/// What has been told so far, by place.
#[derive(Default)]
pub(super) struct Imported(Mutex<Vec<(CacheFrom, Arc<Layers>)>>);

/// How many images or caches of an index are looked at, as the index comes from anywhere.
const MOST: usize = 16;

/// The layers of a cache, in the form in which it has them.
type Layers = BTreeMap<DiffId, Descriptor>;

/// What a place tells.
#[derive(Default)]
struct Told {
    steps: Vec<(Key, DiffId)>,
    layers: Layers,
}

impl Told {
    /// Adds what one cache or image tells.
    fn add(&mut self, manifest: Manifest, config: &[u8]) -> Result<()> {
        let document = CacheDocument::read(&manifest, config)?;
        let steps: Vec<_> = document.steps().collect();
        for (diff_id, layer) in document.diff_ids.into_iter().zip(manifest.layers) {
            // Nothing else of it may get into our manifests.
            media_type::layer_compression(&layer.media_type)?;
            self.layers.insert(diff_id, Descriptor::new(layer.media_type, layer.digest, layer.size));
        }
        self.steps.extend(steps);
        Ok(())
    }
}

impl EngineExecutor<'_> {
    /// Reads what a place knows of steps.
    pub(super) fn import_steps(&self, place: &CacheFrom) -> Result<Vec<(Key, DiffId)>> {
        self.steps.check()?;
        let Told { steps, layers } = match place {
            CacheFrom::Registry(reference) => self.told_by_registry(reference)?,
            CacheFrom::Folder(folder) => told_by_folder(folder)?,
        };
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
            CacheFrom::Folder(folder) => Box::new(Blob { folder, digest: &layer.digest }),
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
    fn told_by_registry(&self, reference: &Reference) -> Result<Told> {
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
        let mut told = Told::default();
        for manifest in manifests {
            let config = verified(&manifest.config, |limit| {
                let blob = client.blob(reference, &manifest.config).map_err(io::Error::other)?;
                limited(blob, limit)
            })?;
            told.add(manifest, &config)?;
        }
        Ok(told)
    }
}

/// The images of an index, one a platform.
fn images(index: &Index) -> Vec<Digest> {
    let platforms: Vec<&Platform> = index.platforms().take(MOST).collect();
    let mut images: Vec<Digest> =
        platforms.into_iter().filter_map(|platform| index.select(platform)).map(|entry| entry.digest.clone()).collect();
    if images.is_empty() {
        images.extend(index.manifests.first().map(|entry| entry.digest.clone()));
    }
    images
}

/// What an image layout in a folder has. Others may have put images beside it that tell nothing.
fn told_by_folder(folder: &Path) -> Result<Told> {
    let path = folder.join("index.json");
    let failed = |source| Error::file("read", &path, source);
    let layout = Directory::open(folder).map_err(failed)?;
    let bytes = layout.resolve_file(Path::new("index.json")).and_then(|file| limited(file, MANIFEST_LIMIT));
    let index = Index::parse(&bytes.map_err(failed)?, None)?;
    let open = |descriptor: &Descriptor| {
        let path = blob_path(Path::new(""), &descriptor.digest);
        verified(descriptor, |limit| layout.resolve_file(&path).and_then(|file| limited(file, limit)))
    };
    let mut told = Told::default();
    let mut read = |entry: &Descriptor| {
        let manifest = Manifest::parse(&open(entry)?, None)?;
        let config = open(&manifest.config)?;
        told.add(manifest, &config)
    };
    let mut seen = BTreeSet::new();
    let entries = index.manifests.iter().filter(|entry| seen.insert(&entry.digest)).take(MOST);
    let refused = entries.fold(None, |first: Option<Error>, entry| first.or(read(entry).err()));
    match refused {
        Some(error) if told.steps.is_empty() => Err(error),
        _ => Ok(told),
    }
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

/// A layer in an image layout.
struct Blob<'a> {
    folder: &'a Path,
    digest: &'a Digest,
}

impl BlobSource for Blob<'_> {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        let mut file = Directory::open(self.folder)?.resolve_file(&blob_path(Path::new(""), self.digest))?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}

#[cfg(test)]
mod tests {
    use super::super::cache_document::{ARTIFACT_TYPE, CONFIG_TYPE};
    use super::*;
    use std::fs;

    fn put(layout: &Path, kind: &str, document: &serde_json::Value) -> Descriptor {
        let bytes = document.to_string();
        let descriptor = Descriptor::new(kind, sha256(bytes.as_bytes()), bytes.len() as u64);
        let path = blob_path(layout, &descriptor.digest);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        descriptor
    }

    /// A cache of one step, whose layer has more fields than are wanted.
    fn cache(layout: &Path, layer: &str) -> Descriptor {
        let digest = sha256(b"layer");
        let document = serde_json::json!({"version": 1, "diffIds": [digest], "steps": [{"key": digest, "layer": 0}]});
        let config = put(layout, CONFIG_TYPE, &document);
        let layer = serde_json::json!({
            "mediaType": layer, "digest": digest, "size": 5, "urls": ["http://192.0.2.1/"], "annotations": {"a": "b"}
        });
        let manifest = serde_json::json!({
            "schemaVersion": 2, "artifactType": ARTIFACT_TYPE, "config": config, "layers": [layer]
        });
        put(layout, media_type::OCI_MANIFEST, &manifest)
    }

    fn tell(layout: &Path, entries: &[Descriptor]) {
        let index = serde_json::json!({"schemaVersion": 2, "manifests": entries});
        fs::write(layout.join("index.json"), index.to_string()).unwrap();
    }

    #[test]
    fn what_is_no_cache_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let layout = folder.path();
        let other = put(layout, media_type::OCI_MANIFEST, &serde_json::json!({}));
        tell(layout, &[other.clone(), cache(layout, media_type::OCI_LAYER)]);
        assert_eq!(told_by_folder(layout).unwrap().steps.len(), 1);
        tell(layout, &[other]);
        assert!(told_by_folder(layout).is_err());
    }

    #[test]
    fn layers_are_taken_without_addresses_and_annotations() {
        let folder = tempfile::tempdir().unwrap();
        let layout = folder.path();
        tell(layout, &[cache(layout, media_type::OCI_LAYER_GZIP)]);
        let layers: Vec<_> = told_by_folder(layout).unwrap().layers.into_values().collect();
        assert_eq!(layers, [Descriptor::new(media_type::OCI_LAYER_GZIP, sha256(b"layer"), 5)]);
        tell(layout, &[cache(layout, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")]);
        assert!(told_by_folder(layout).is_err());
    }

    #[test]
    fn an_index_of_thousands_is_not_read_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let layout = folder.path();
        let cache = cache(layout, media_type::OCI_LAYER);
        tell(layout, &vec![cache.clone(); 10_000]);
        assert_eq!(told_by_folder(layout).unwrap().steps.len(), 1);
        let mut entries: Vec<_> =
            (0..MOST).map(|number| put(layout, media_type::OCI_MANIFEST, &serde_json::json!({"n": number}))).collect();
        entries.push(cache);
        tell(layout, &entries);
        assert!(told_by_folder(layout).is_err());
    }

    #[test]
    fn nothing_waits_for_a_fifo() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let folder = tempfile::tempdir().unwrap();
        let layout = folder.path();
        let fifo = |path: &Path| mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        fifo(&layout.join("index.json"));
        assert!(told_by_folder(layout).is_err_and(|error| error.to_string().ends_with("index.json")));
        fs::remove_file(layout.join("index.json")).unwrap();
        let cache = cache(layout, media_type::OCI_LAYER);
        fs::remove_file(blob_path(layout, &cache.digest)).unwrap();
        fifo(&blob_path(layout, &cache.digest));
        tell(layout, std::slice::from_ref(&cache));
        assert!(told_by_folder(layout).is_err());
        assert!(Blob { folder: layout, digest: &cache.digest }.open(0).is_err());
    }
}
