//! From the layers of a build to an image in the store.

use crate::error::Result;
use crate::plan::Target;
use crate::solve::Layer;
use jiff::Timestamp;
use std::collections::BTreeMap;
use tare_spec::image::{BuildStep, Descriptor, ImageConfig, Index, Manifest, RootFs, media_type};
use tare_spec::{DiffId, ImageId, Platform};
use tare_store::Store;

const ENCODE: &str = "image documents are structures of strings and numbers";

/// An image that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltImage {
    /// The digest of its configuration.
    pub id: ImageId,
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its layers, the lowest first.
    pub layers: Vec<DiffId>,
}

/// Writes configuration and manifest. Durable when it returns; the caller's lease keeps them until a record does.
pub(crate) fn assemble(
    store: &Store,
    target: &Target,
    layers: Vec<Layer>,
    build_steps: Vec<BuildStep>,
) -> Result<BuiltImage> {
    let created = target.created.unwrap_or_else(Timestamp::now).to_string();
    let mut history = target.history.clone();
    for entry in &mut history[target.inherited..] {
        entry.created = Some(created.clone());
    }
    let (layers, diff_ids): (Vec<Descriptor>, Vec<DiffId>) =
        layers.into_iter().map(|layer| (in_oci_terms(layer.descriptor), layer.diff_id)).unzip();
    let of_image = diff_ids.clone();
    let platform = target.platform.clone();
    let config = ImageConfig {
        created: Some(created),
        author: target.author.clone(),
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        config: Some(target.config.clone()),
        rootfs: RootFs { diff_ids, ..RootFs::default() },
        history,
        build_steps,
        ..ImageConfig::default()
    };
    let config = store.put_bytes(media_type::OCI_CONFIG, &serde_json::to_vec(&config).expect(ENCODE))?;
    let id = ImageId(config.digest.clone());
    let manifest = Manifest {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST.to_owned(),
        artifact_type: None,
        config,
        layers,
        annotations: BTreeMap::new(),
    };
    let manifest = store.put_bytes(media_type::OCI_MANIFEST, &serde_json::to_vec(&manifest).expect(ENCODE))?;
    Ok(BuiltImage { id, manifest, layers: of_image })
}

/// Writes the index of several images; durable as they are.
pub(crate) fn assemble_index(store: &Store, images: &[(Platform, BuiltImage)]) -> Result<Descriptor> {
    let entry = |(platform, image): &(Platform, BuiltImage)| Descriptor {
        platform: Some(platform.clone()),
        ..image.manifest.clone()
    };
    let index = Index {
        schema_version: 2,
        media_type: media_type::OCI_INDEX.to_owned(),
        manifests: images.iter().map(entry).collect(),
        annotations: BTreeMap::new(),
    };
    Ok(store.put_bytes(media_type::OCI_INDEX, &serde_json::to_vec(&index).expect(ENCODE))?)
}

/// A layer of a Docker image is the same bytes by another name.
fn in_oci_terms(mut layer: Descriptor) -> Descriptor {
    let name = match layer.media_type.as_str() {
        media_type::DOCKER_LAYER => media_type::OCI_LAYER,
        media_type::DOCKER_LAYER_GZIP => media_type::OCI_LAYER_GZIP,
        media_type::DOCKER_LAYER_ZSTD => media_type::OCI_LAYER_ZSTD,
        _ => return layer,
    };
    layer.media_type = name.to_owned();
    layer
}
