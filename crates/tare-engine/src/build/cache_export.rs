//! Puts the steps of a build where other builds find them: `docs/formats/build-cache.md`.

use super::cache_document::{ARTIFACT_TYPE, CONFIG_TYPE, CacheDocument};
use super::cache_folder::CacheFolder;
use super::output::CacheTo;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::image::{Known, Push, PushEvent, PushProgress, encode};
use std::collections::{BTreeMap, BTreeSet};
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
        let known = self.known(store, &store.summaries()?)?;
        let place = match to {
            CacheTo::Registry { reference, .. } => reference.to_string(),
            CacheTo::Folder { path, .. } => path.display().to_string(),
        };
        let step = announcer.planned(&[StepTitle { name: format!("exporting cache to {place}"), lines: None }]);
        let told = announcer.carry_out(step, || match to {
            CacheTo::Registry { reference, all } => {
                let (document, layers) = CacheDocument::new(steps, *all);
                export_to_registry(&known, &document, &layers, reference, &Told { progress: announcer, step })
            }
            CacheTo::Folder { path, all } => {
                let (document, layers) = CacheDocument::new(steps, *all);
                export_to_folder(&known, &document, &layers, path)
            }
        });
        self.keep_compressed(&known)?;
        told
    }
}

pub(super) fn manifest(config: Descriptor, layers: Vec<Descriptor>) -> Vec<u8> {
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

/// Writes an image layout. What a cache of ours had left there goes, so that a folder that is kept from build to build does not
/// grow.
fn export_to_folder(
    known: &Known<'_>,
    document: &CacheDocument,
    layers: &[(Descriptor, DiffId)],
    path: &Path,
) -> Result<()> {
    let folder = CacheFolder::open(path)?;
    let mut descriptors = Vec::new();
    for (layer, diff_id) in layers {
        let layer = if layer.digest == diff_id.0 { known.compressed(layer, diff_id)? } else { layer.clone() };
        let mut blob = known.store().open_blob(&layer)?;
        folder.put(&layer, |file| io::copy(&mut blob, file).map(drop))?;
        descriptors.push(layer);
    }
    let put = |kind: &str, bytes: &[u8]| {
        let descriptor = Descriptor::new(kind, tare_store::sha256(bytes), bytes.len() as u64);
        folder.put(&descriptor, |file| file.write_all(bytes))?;
        Ok::<_, Error>(descriptor)
    };
    let config = put(CONFIG_TYPE, &encode(document))?;
    let mut kept: BTreeSet<Digest> =
        descriptors.iter().chain([&config]).map(|descriptor| descriptor.digest.clone()).collect();
    let mut entry = put(media_type::OCI_MANIFEST, &manifest(config, descriptors))?;
    kept.insert(entry.digest.clone());
    entry.artifact_type = Some(ARTIFACT_TYPE.to_owned());
    entry.annotations.insert(NAME.0.to_owned(), NAME.1.to_owned());
    let index = Index {
        schema_version: 2,
        media_type: media_type::OCI_INDEX.to_owned(),
        manifests: vec![entry],
        annotations: BTreeMap::new(),
    };
    folder.tell(&encode(&index), &kept)
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
