//! An image, as `image inspect` shows it.

use crate::container::Config;
use serde::Serialize;
use std::collections::BTreeMap;
use tare_spec::image::Empty;

/// All that is known of an image.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Image {
    /// Digest of its configuration.
    pub id: String,
    /// Its `repository:tag` names.
    pub repo_tags: Vec<String>,
    /// Its `repository@digest` names.
    pub repo_digests: Vec<String>,
    /// Always empty: builds leave no parents.
    pub parent: String,
    /// What its author said last.
    pub comment: String,
    /// When it was made, as it says itself.
    pub created: String,
    /// Always empty: no Docker made it.
    pub docker_version: String,
    /// Who made it.
    pub author: String,
    /// What containers get from it.
    pub config: Config,
    /// Architecture, by Go's word.
    pub architecture: String,
    /// Variant of the architecture.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Operating system.
    pub os: String,
    /// Bytes its unpacked layers occupy.
    pub size: u64,
    /// Its layers.
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    /// Facts that only this engine knows.
    pub metadata: Metadata,
    /// The manifest.
    pub descriptor: Descriptor,
}

/// The layers of an image.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Diff IDs, lowest layer first.
    pub layers: Vec<String>,
}

/// Facts that only the engine knows.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Metadata {
    /// When it was tagged; Go's zero time, because it is not kept.
    pub last_tag_time: String,
}

/// What the image's names stand for in a registry.
#[derive(Clone, Debug, Serialize)]
pub struct Descriptor {
    /// Digest of the manifest.
    pub digest: String,
}

impl From<&tare_engine::image::Image> for Image {
    fn from(image: &tare_engine::image::Image) -> Self {
        let source = &image.config;
        let config = source.config.clone().unwrap_or_default();
        Self {
            id: image.id.to_string(),
            repo_tags: image.tags.iter().map(tare_spec::reference::Reference::familiar).collect(),
            repo_digests: image.digests.iter().map(tare_spec::reference::Reference::familiar).collect(),
            parent: String::new(),
            comment: source.history.last().and_then(|step| step.comment.clone()).unwrap_or_default(),
            created: source.created.clone().unwrap_or_default(),
            docker_version: String::new(),
            author: source.author.clone().unwrap_or_default(),
            config: Config {
                user: config.user,
                exposed_ports: (!config.exposed_ports.is_empty())
                    .then(|| config.exposed_ports.keys().map(|port| (port.clone(), Empty {})).collect()),
                env: config.env,
                cmd: config.cmd,
                volumes: (!config.volumes.is_empty())
                    .then(|| config.volumes.keys().map(|path| (path.clone(), Empty {})).collect::<BTreeMap<_, _>>()),
                working_dir: config.working_dir,
                entrypoint: config.entrypoint,
                labels: config.labels,
                stop_signal: config.stop_signal,
                ..Config::default()
            },
            architecture: source.architecture.clone(),
            variant: source.variant.clone().unwrap_or_default(),
            os: source.os.clone(),
            size: image.size,
            root_fs: RootFs {
                kind: "layers".to_owned(),
                layers: source.rootfs.diff_ids.iter().map(ToString::to_string).collect(),
            },
            metadata: Metadata { last_tag_time: crate::time::rfc3339(None) },
            descriptor: Descriptor { digest: image.manifest.to_string() },
        }
    }
}
