//! Puts the steps of a build where other builds find them: `docs/formats/build-cache.md`.

use super::cache_document::{ARTIFACT_TYPE, CONFIG_TYPE, CacheDocument};
use super::elsewhere::blob_path;
use super::output::CacheTo;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::image::{Known, Push, PushEvent, PushProgress};
use rustix::fs::FlockOperation;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use tare_build::cache::CachedStep;
use tare_build::progress::{Announcer, Event, Progress, StepId, StepTitle};
use tare_registry::{Client, ClientOptions};
use tare_spec::image::{Descriptor, Index, Manifest, media_type};
use tare_spec::{DiffId, Digest, Reference};

/// The name that a cache has in the index of a folder (image specification, `annotations.md`).
const NAME: (&str, &str) = ("org.opencontainers.image.ref.name", "latest");

impl Engine {
    /// Tells the steps of a build in one place. The caller holds a lease that keeps their layers.
    pub(super) fn export_cache(&self, steps: &[CachedStep], to: &CacheTo, announcer: &Announcer<'_>) -> Result<()> {
        let store = self.store()?;
        let known = Known::of(store, &store.summaries()?);
        let place = match to {
            CacheTo::Registry { reference, .. } => reference.to_string(),
            CacheTo::Folder { path, .. } => path.display().to_string(),
        };
        let step = announcer.planned(&[StepTitle { name: format!("exporting cache to {place}"), lines: None }]);
        announcer.carry_out(step, || match to {
            CacheTo::Registry { reference, all } => {
                let (document, layers) = CacheDocument::new(steps, *all);
                export_to_registry(&known, &document, &layers, reference, &Told { progress: announcer, step })
            }
            CacheTo::Folder { path, all } => {
                let (document, layers) = CacheDocument::new(steps, *all);
                export_to_folder(&known, &document, &layers, path)
            }
        })
    }
}

fn manifest(config: Descriptor, layers: Vec<Descriptor>) -> Vec<u8> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST.to_owned(),
        artifact_type: Some(ARTIFACT_TYPE.to_owned()),
        config,
        layers,
        annotations: BTreeMap::new(),
    };
    encode(&manifest)
}

fn encode(document: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("documents are structures of strings and numbers")
}

fn export_to_registry(
    known: &Known<'_>,
    document: &CacheDocument,
    layers: &[(Descriptor, DiffId)],
    reference: &Reference,
    progress: &dyn PushProgress,
) -> Result<()> {
    let client = Client::new(ClientOptions::of_host()?);
    let push = Push { client: &client, reference, progress, known };
    let layers = push.layers(layers, true)?;
    let config = known.store().put_bytes(CONFIG_TYPE, &encode(document))?;
    push.document(&config)?;
    client.put_manifest(reference, media_type::OCI_MANIFEST, &manifest(config, layers))?;
    Ok(())
}

/// Writes an image layout. What other caches of ours had left there goes, so that a folder that is kept from build to build does
/// not grow.
fn export_to_folder(
    known: &Known<'_>,
    document: &CacheDocument,
    layers: &[(Descriptor, DiffId)],
    folder: &Path,
) -> Result<()> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| Error::file(action, &path, source)
    };
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(failed("create", &blobs))?;
    let lock = File::open(folder).map_err(failed("open", folder))?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive))
        .map_err(|errno| failed("lock", folder)(errno.into()))?;
    let mut descriptors = Vec::new();
    for (layer, diff_id) in layers {
        let layer = if layer.digest == diff_id.0 { known.compressed(layer, diff_id)? } else { layer.clone() };
        let target = blob_path(folder, &layer.digest);
        if !fs::metadata(&target).is_ok_and(|there| there.len() == layer.size) {
            let mut blob = known.store().open_blob(&layer)?;
            write(&target, |file| io::copy(&mut blob, file).map(drop))?;
        }
        descriptors.push(layer);
    }
    let put = |kind: &str, bytes: &[u8]| {
        let digest = tare_store::sha256(bytes);
        write(&blob_path(folder, &digest), |file| file.write_all(bytes))?;
        Ok::<_, Error>(Descriptor::new(kind, digest, bytes.len() as u64))
    };
    let config = put(CONFIG_TYPE, &encode(document))?;
    let kept: BTreeSet<Digest> =
        descriptors.iter().chain([&config]).map(|descriptor| descriptor.digest.clone()).collect();
    let mut entry = put(media_type::OCI_MANIFEST, &manifest(config, descriptors))?;
    let kept: BTreeSet<Digest> = kept.into_iter().chain([entry.digest.clone()]).collect();
    entry.artifact_type = Some(ARTIFACT_TYPE.to_owned());
    entry.annotations.insert(NAME.0.to_owned(), NAME.1.to_owned());
    let index = Index {
        schema_version: 2,
        media_type: media_type::OCI_INDEX.to_owned(),
        manifests: vec![entry],
        annotations: BTreeMap::new(),
    };
    let path = folder.join("index.json");
    let is_ours = match fs::read(&path) {
        Ok(bytes) => Index::parse(&bytes, None).is_ok_and(|index| {
            index.manifests.iter().all(|entry| entry.artifact_type.as_deref() == Some(ARTIFACT_TYPE))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(failed("read", &path)(error)),
    };
    write(&folder.join("oci-layout"), |file| file.write_all(br#"{"imageLayoutVersion":"1.0.0"}"#))?;
    write(&path, |file| file.write_all(&encode(&index)))?;
    if is_ours {
        for found in fs::read_dir(&blobs).map_err(failed("list", &blobs))? {
            let path = found.map_err(failed("list", &blobs))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_kept = Digest::parse(&format!("sha256:{name}")).is_ok_and(|digest| kept.contains(&digest));
            if !is_kept {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
    }
    Ok(())
}

/// Writes a file so that it is there wholly or not at all.
fn write(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
    let temporary = path.with_extension("new");
    let written = File::create(&temporary).and_then(|mut file| fill(&mut file));
    written.and_then(|()| fs::rename(&temporary, path)).map_err(|source| {
        // What matters is why it could not be written.
        let _ = fs::remove_file(&temporary);
        Error::file("write", path, source)
    })
}

/// Tells of the bytes of layers as those of a step.
struct Told<'a> {
    progress: &'a dyn Progress,
    step: StepId,
}

impl PushProgress for Told<'_> {
    fn event(&self, event: PushEvent<'_>) {
        if let PushEvent::Progress { layer, current, total } = event {
            self.progress.event(Event::Bytes { step: self.step, what: layer.0.as_str(), current, total });
        }
    }
}
