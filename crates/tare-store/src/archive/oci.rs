//! The images of an OCI layout.

use super::load::{Layer, Planned};
use super::members::Archive;
use super::{ArchiveError, CONTAINERD_NAME, INDEX, LAYOUT, OCI_NAME, blob_path};
use serde::Deserialize;
use std::collections::BTreeSet;
use tare_spec::image::{CONFIG_LIMIT, Descriptor, Document, ImageConfig, Index, MANIFEST_LIMIT, Manifest, media_type};
use tare_spec::{Platform, Reference};

/// `index.json` may lead to an index for each image, and that one to one for each platform.
const DEPTH: usize = 4;

/// `oci-layout`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    image_layout_version: String,
}

/// An image of the layout, found but not read.
#[derive(Debug)]
pub(super) struct Choice {
    names: Vec<Reference>,
    manifest: Descriptor,
    /// The outermost index that led to it, other than the layout's own.
    index: Option<Descriptor>,
}

/// Chooses what to load: of each name the image for the platform, or for the host's; of images without a name all. Of an index
/// that is whole, the others come as well, unless a platform was asked for.
pub(super) fn choose(archive: &Archive<'_>, platform: Option<&Platform>) -> Result<Vec<Choice>, ArchiveError> {
    if archive.has(LAYOUT) {
        let bytes = archive.read(LAYOUT, MANIFEST_LIMIT)?;
        let Layout { image_layout_version: version } =
            serde_json::from_slice(&bytes).map_err(|source| ArchiveError::Json { path: LAYOUT.to_owned(), source })?;
        if version != "1.0.0" {
            return Err(ArchiveError::Layout { version: version.chars().take(80).collect() });
        }
    }
    let bytes = archive.read(INDEX, MANIFEST_LIMIT)?;
    let mut index =
        Index::parse(&bytes, None).map_err(|source| ArchiveError::Document { path: INDEX.to_owned(), source })?;
    let mut groups: Vec<(Option<Reference>, Vec<Descriptor>)> = Vec::new();
    for entry in std::mem::take(&mut index.manifests) {
        let name = name(&entry)?;
        match groups.iter_mut().find(|(other, _)| name.is_some() && *other == name) {
            Some((_, entries)) => entries.push(entry),
            None => groups.push((name, vec![entry])),
        }
    }
    let mut choices: Vec<Choice> = Vec::new();
    let mut parts: Vec<Choice> = Vec::new();
    let mut seen = BTreeSet::new();
    for (name, entries) in groups {
        let chosen = match <[Descriptor; 1]>::try_from(entries) {
            Ok([only]) => only,
            // One name for several platforms.
            Err(several) => pick(archive, &mut Index { manifests: several, ..index.clone() }, platform)?,
        };
        let (manifest, index) = follow(archive, chosen, platform)?;
        // Many names may lead to one index.
        if let Some(index) = index.as_ref().filter(|index| platform.is_none() && seen.insert(index.digest.clone())) {
            let others = whole(archive, index)?.into_iter();
            parts.extend(others.map(|manifest| Choice { names: Vec::new(), manifest, index: Some(index.clone()) }));
        }
        match choices.iter_mut().find(|choice| choice.manifest.digest == manifest.digest) {
            Some(choice) => choice.names.extend(name),
            None => choices.push(Choice { names: name.into_iter().collect(), manifest, index }),
        }
    }
    for part in parts {
        if !choices.iter().any(|choice| choice.manifest.digest == part.manifest.digest) {
            choices.push(part);
        }
    }
    if choices.is_empty() { Err(ArchiveError::NoImages) } else { Ok(choices) }
}

/// The images of an index, if the archive has all of them and all can be taken in; else nothing. Attestations stay behind.
fn whole(archive: &Archive<'_>, index: &Descriptor) -> Result<Vec<Descriptor>, ArchiveError> {
    let bytes = blob(archive, index, MANIFEST_LIMIT)?;
    let parsed = Index::parse(&bytes, Some(&index.media_type));
    let parsed = parsed.map_err(|source| ArchiveError::Document { path: blob_path(&index.digest), source })?;
    let images: Vec<Descriptor> = parsed.images().cloned().collect();
    let is_here =
        |entry: &Descriptor| media_type::is_manifest(&entry.media_type) && archive.has(&blob_path(&entry.digest));
    let can_be_taken = |entry: &Descriptor| {
        let choice = Choice { names: Vec::new(), manifest: entry.clone(), index: None };
        plan(archive, choice, None).is_ok_and(|image| image.layers.iter().all(|layer| layer.location.is_some()))
    };
    Ok(if images.iter().all(is_here) && images.iter().all(can_be_taken) { images } else { Vec::new() })
}

/// The full name of an entry. A bare word is a tag of nobody knows which repository.
fn name(entry: &Descriptor) -> Result<Option<Reference>, ArchiveError> {
    let full = |key| entry.annotations.get(key).filter(|name| name.contains([':', '/']));
    let Some(name) = full(CONTAINERD_NAME).or_else(|| full(OCI_NAME)) else { return Ok(None) };
    let shown = || name.chars().take(300).collect();
    match Reference::parse(name) {
        // The digest is verified with the rest; a name by digest is one of a registry, which this is not.
        Ok(reference) if reference.digest().is_some() => Ok(None),
        Ok(reference) => Ok(Some(reference.with_default_tag())),
        Err(source) => Err(ArchiveError::Name { name: shown(), source }),
    }
}

/// The entry for the platform, of those that are in the archive: engines write indexes whose other entries they
/// have not got.
fn pick(archive: &Archive<'_>, index: &mut Index, platform: Option<&Platform>) -> Result<Descriptor, ArchiveError> {
    index.manifests.retain(|entry| archive.has(&blob_path(&entry.digest)));
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let only = || {
        let mut platforms = index.platforms();
        let first = platforms.next().filter(|_| platform.is_none() && platforms.next().is_none())?;
        index.select(first)
    };
    match index.select(&wanted).or_else(only) {
        Some(chosen) => Ok(chosen.clone()),
        None => Err(ArchiveError::Platform { platform: wanted }),
    }
}

/// From an entry to its manifest, through the indexes between them.
fn follow(
    archive: &Archive<'_>,
    mut at: Descriptor,
    platform: Option<&Platform>,
) -> Result<(Descriptor, Option<Descriptor>), ArchiveError> {
    let mut outermost = None;
    for _ in 0..DEPTH {
        if !media_type::is_index(&at.media_type) {
            return Ok((at, outermost));
        }
        let path = blob_path(&at.digest);
        let bytes = blob(archive, &at, MANIFEST_LIMIT)?;
        let parsed = Document::parse(&bytes, Some(&at.media_type));
        let Document::Index(mut index) = parsed.map_err(|source| ArchiveError::Document { path, source })? else {
            return Ok((at, outermost));
        };
        outermost.get_or_insert(at);
        at = pick(archive, &mut index, platform)?;
    }
    Err(ArchiveError::Depth { path: blob_path(&at.digest), limit: DEPTH })
}

fn blob(archive: &Archive<'_>, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, ArchiveError> {
    let path = blob_path(&descriptor.digest);
    check_size(archive, &path, descriptor)?;
    archive.verified(&path, &descriptor.digest, limit)
}

fn check_size(archive: &Archive<'_>, path: &str, descriptor: &Descriptor) -> Result<(), ArchiveError> {
    let actual = archive.find(path)?.size;
    if actual == descriptor.size {
        return Ok(());
    }
    Err(ArchiveError::BlobSize { path: path.to_owned(), actual, expected: descriptor.size })
}

/// Reads the documents of an image and finds its layers.
pub(super) fn plan(
    archive: &Archive<'_>,
    choice: Choice,
    platform: Option<&Platform>,
) -> Result<Planned, ArchiveError> {
    let Choice { names, manifest, index } = choice;
    let path = blob_path(&manifest.digest);
    let unusable = |path: &str| {
        let path = path.to_owned();
        |source| ArchiveError::Document { path, source }
    };
    let bytes = blob(archive, &manifest, MANIFEST_LIMIT)?;
    let parsed = Manifest::parse(&bytes, Some(&manifest.media_type)).map_err(unusable(&path))?;
    let config_descriptor = parsed.image_config().map_err(unusable(&path))?;
    let config_path = blob_path(&config_descriptor.digest);
    let config_bytes = blob(archive, config_descriptor, CONFIG_LIMIT)?;
    let config = ImageConfig::parse(&config_bytes).map_err(unusable(&config_path))?;
    parsed.check_layers(&config).map_err(unusable(&path))?;
    if let Some(platform) = platform.filter(|platform| !platform.matches(&config.platform())) {
        return Err(ArchiveError::Platform { platform: platform.clone() });
    }
    let mut layers = Vec::with_capacity(parsed.layers.len());
    for (layer, diff_id) in parsed.layers.iter().zip(config.rootfs.diff_ids) {
        let path = blob_path(&layer.digest);
        // One that the store has already need not be in the archive; whoever takes it in asks for it.
        let location = archive.find(&path).ok();
        if location.is_some() {
            check_size(archive, &path, layer)?;
        }
        layers.push(Layer { descriptor: layer.clone(), diff_id, location, path });
    }
    let config_descriptor = config_descriptor.clone();
    let mut documents = Vec::new();
    if let Some(index) = &index {
        documents.push((index.clone(), blob(archive, index, MANIFEST_LIMIT)?));
    }
    let (id, manifest_digest) = (config_descriptor.digest.clone(), manifest.digest.clone());
    documents.extend([(config_descriptor, config_bytes), (manifest, bytes)]);
    Ok(Planned {
        names,
        id: tare_spec::ImageId(id),
        manifest: manifest_digest,
        index: index.map(|index| index.digest),
        documents,
        layers,
    })
}
