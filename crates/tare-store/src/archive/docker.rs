//! The images of an archive of Docker's: `manifest.json`, configurations and layers by their paths.
//!
//! Docker 1.10 to 24, Podman and skopeo write it; layers are `<id>/layer.tar`, or links to one, or
//! `<digest>.tar`, plain or compressed.

use super::load::{Layer, Planned};
use super::members::{Archive, Location};
use super::{ArchiveError, MANIFEST, promised};
use crate::layer;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read;
use tare_spec::image::{
    CONFIG_LIMIT, Compression, Descriptor, ImageConfig, InvalidImage, MANIFEST_LIMIT, Manifest, media_type,
};
use tare_spec::{DiffId, Digest, ImageId, Platform, Reference};

/// One image of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// The images of the archive.
pub(super) fn items(archive: &Archive<'_>) -> Result<Vec<Item>, ArchiveError> {
    let bytes = archive.read(MANIFEST, MANIFEST_LIMIT)?;
    let items: Vec<Item> =
        serde_json::from_slice(&bytes).map_err(|source| ArchiveError::Json { path: MANIFEST.to_owned(), source })?;
    if items.is_empty() { Err(ArchiveError::NoImages) } else { Ok(items) }
}

/// Reads an image's configuration and makes the manifest that the archive has not got.
pub(super) fn plan(archive: &Archive<'_>, item: Item, platform: Option<&Platform>) -> Result<Planned, ArchiveError> {
    let Item { config: path, repo_tags, layers: paths } = item;
    let paths = paths.unwrap_or_default();
    let unusable = |source| ArchiveError::Document { path: path.chars().take(300).collect(), source };
    let bytes = match promised(&path) {
        Some(digest) => archive.verified(&path, &digest, CONFIG_LIMIT)?,
        None => archive.read(&path, CONFIG_LIMIT)?,
    };
    let config = ImageConfig::parse(&bytes).map_err(unusable)?;
    let diff_ids = config.rootfs.diff_ids.len();
    if paths.len() != diff_ids {
        return Err(unusable(InvalidImage::LayerCount { layers: paths.len(), diff_ids }));
    }
    if let Some(platform) = platform.filter(|platform| !platform.matches(&config.platform())) {
        return Err(ArchiveError::Platform { platform: platform.clone() });
    }
    let mut names = Vec::new();
    for name in repo_tags.unwrap_or_default() {
        let shown = || name.chars().take(300).collect();
        let reference = Reference::parse(&name).map_err(|source| ArchiveError::Name { name: shown(), source })?;
        if reference.tag().is_none() || reference.digest().is_some() {
            return Err(ArchiveError::Tag { name: shown() });
        }
        names.push(reference);
    }
    let mut layers = Vec::with_capacity(diff_ids);
    for (path, diff_id) in paths.into_iter().zip(config.rootfs.diff_ids) {
        layers.push(layer(archive, path, diff_id)?);
    }
    let config = Descriptor::new(media_type::OCI_CONFIG, crate::sha256(&bytes), bytes.len() as u64);
    let manifest = Manifest {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST.to_owned(),
        artifact_type: None,
        config: config.clone(),
        layers: layers.iter().map(|layer| layer.descriptor.clone()).collect(),
        annotations: BTreeMap::new(),
    };
    let manifest = serde_json::to_vec(&manifest).expect("manifests are structures of strings and numbers");
    let descriptor = Descriptor::new(media_type::OCI_MANIFEST, crate::sha256(&manifest), manifest.len() as u64);
    Ok(Planned {
        names,
        id: ImageId(config.digest.clone()),
        manifest: descriptor.digest.clone(),
        index: None,
        documents: vec![(config, bytes), (descriptor, manifest)],
        layers,
    })
}

/// A layer's descriptor: its compression by its first bytes, its digest by what can be known without reading it.
/// Whatever is believed here is verified when it is taken in.
fn layer(archive: &Archive<'_>, path: String, diff_id: DiffId) -> Result<Layer, ArchiveError> {
    let location = archive.find(&path)?;
    let mut magic = Vec::new();
    archive.stream(location, 0).take(6).read_to_end(&mut magic).map_err(ArchiveError::Read)?;
    let compression = layer::compression(&magic).map_err(|compression| ArchiveError::Compression { compression })?;
    let (media_type, digest) = match compression {
        Compression::None => (media_type::OCI_LAYER, diff_id.0.clone()),
        Compression::Gzip => (media_type::OCI_LAYER_GZIP, digest(archive, &path, location)?),
        Compression::Zstd => (media_type::OCI_LAYER_ZSTD, digest(archive, &path, location)?),
    };
    let descriptor = Descriptor::new(media_type, digest, location.size);
    Ok(Layer { descriptor, diff_id, location: Some(location), path })
}

fn digest(archive: &Archive<'_>, path: &str, location: Location) -> Result<Digest, ArchiveError> {
    match promised(path) {
        Some(digest) => Ok(digest),
        None => archive.digest(location),
    }
}
