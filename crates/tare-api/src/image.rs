//! An image, as `image inspect` shows it.

use crate::container::Config;
use serde::Serialize;
use std::collections::BTreeMap;
use tare_engine::image::ImageDetails;
use tare_spec::Reference;
use tare_spec::image::{Descriptor, Empty};

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
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created: String,
    /// Always empty: what once named Docker's version is kept by nobody any more.
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
    /// Version of the operating system (Windows).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Bytes in the files of its layers.
    pub size: u64,
    /// How its layers are kept.
    pub graph_driver: GraphDriver,
    /// Its layers.
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    /// Facts that only this engine knows.
    pub metadata: Metadata,
    /// The index that led to it, or its manifest.
    pub descriptor: Descriptor,
}

/// How layers are kept.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GraphDriver {
    /// Always null: where layers are is the engine's own affair.
    pub data: Option<BTreeMap<String, String>>,
    /// Name of the layer backend.
    pub name: String,
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
    /// When it was given a name last; Go's zero time when it has none.
    pub last_tag_time: String,
}

impl From<&ImageDetails> for Image {
    fn from(details: &ImageDetails) -> Self {
        let image = &details.image;
        let source = image.config.clone();
        let config = source.config.unwrap_or_default();
        let set = |set: BTreeMap<String, Empty>| (!set.is_empty()).then_some(set);
        Self {
            id: image.id.to_string(),
            repo_tags: image.tags.iter().map(Reference::familiar).collect(),
            repo_digests: image.digests.iter().map(Reference::familiar).collect(),
            parent: String::new(),
            comment: source.history.last().and_then(|step| step.comment.clone()).unwrap_or_default(),
            created: source.created.unwrap_or_default(),
            docker_version: String::new(),
            author: source.author.unwrap_or_default(),
            config: Config {
                hostname: config.hostname.unwrap_or_default(),
                domainname: config.domainname.unwrap_or_default(),
                user: config.user,
                exposed_ports: set(config.exposed_ports),
                env: config.env,
                cmd: config.cmd,
                volumes: set(config.volumes),
                working_dir: config.working_dir,
                entrypoint: config.entrypoint,
                on_build: config.on_build,
                labels: config.labels,
                stop_signal: config.stop_signal,
                stop_timeout: config.stop_timeout,
                healthcheck: config.healthcheck,
                shell: config.shell,
                args_escaped: config.args_escaped,
                ..Config::default()
            },
            architecture: source.architecture,
            variant: source.variant.unwrap_or_default(),
            os: source.os,
            os_version: source.os_version.unwrap_or_default(),
            size: image.size,
            graph_driver: GraphDriver { data: None, name: details.driver.clone() },
            root_fs: RootFs {
                kind: "layers".to_owned(),
                layers: source.rootfs.diff_ids.iter().map(ToString::to_string).collect(),
            },
            metadata: Metadata { last_tag_time: crate::time::rfc3339(details.tagged) },
            descriptor: details.descriptor.clone(),
        }
    }
}
