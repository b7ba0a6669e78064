//! Image configurations (image specification, `config.md`, with Docker's additions).

use super::{CONFIG_LIMIT, InvalidImage, bounded, null_as_default};
use crate::{DiffId, Digest, platform::Platform};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an image is made of and how it wants to be run. Its digest is the image's id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When it was built, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who built it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The processor it is for, in Go's names.
    #[serde(default)]
    pub architecture: String,
    /// The operating system it is for, in Go's names.
    #[serde(default)]
    pub os: String,
    /// The operating system's version (Windows).
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// The processor's variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What containers of it run by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Config>,
    /// Its layers.
    pub rootfs: RootFs,
    /// How it came to be, one entry a build step.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// Which step of a build made which layer, for builds elsewhere (`--cache-to type=inline`; docs/formats/build-cache.md).
    #[serde(default, rename = "tare.buildcache.v1", skip_serializing_if = "Vec::is_empty")]
    pub build_steps: Vec<BuildStep>,
}

/// A step of a build, and the layer that it made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildStep {
    /// The digest of all that decides its result.
    pub key: Digest,
    /// Its place in [`RootFs::diff_ids`].
    pub layer: usize,
}

/// The layers of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The digests of the uncompressed layers, the lowest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub diff_ids: Vec<DiffId>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// One build step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// By which command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether it made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// `{}`: Go's idiom for a member of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// How containers of an image run unless told otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    /// Host name, of images that were committed from containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// NIS domain, of images that were committed from containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// `user`, `uid`, `user:group`, … ; empty means root.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `port`, `port/tcp`, `port/udp`.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value`.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program, to which the command is appended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The default command, or the default arguments of the entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Folders that want a volume.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// Where the program starts; empty means `/`.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Free labels.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `SIGTERM`, `15`, `SIGRTMIN+3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Seconds between the stop signal and SIGKILL (Docker).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// The shell of shell-form commands (Docker).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// How to see whether the program works (Docker).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Steps for builds that start from this image (Docker).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// Whether the command line is already escaped (Windows).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
}

/// Docker's health check. Durations are nanoseconds, and 0 means the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]`, `["CMD-SHELL", command]`; empty inherits.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Time between two checks.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Time after which a check has failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Time after the start in which failures do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Time between two checks during the start period.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Consecutive failures that mean unhealthy.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde calls")]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

impl ImageConfig {
    /// Parses a configuration. Unknown fields are left out.
    ///
    /// # Errors
    /// [`InvalidImage`]: too large, not JSON of this shape, or a root file system that is not made of layers.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidImage> {
        const DOCUMENT: &str = "image configuration";
        bounded(DOCUMENT, bytes, CONFIG_LIMIT)?;
        let config: Self =
            serde_json::from_slice(bytes).map_err(|source| InvalidImage::Json { document: DOCUMENT, source })?;
        if config.rootfs.kind != "layers" {
            return Err(InvalidImage::RootFsType { kind: config.rootfs.kind.chars().take(80).collect() });
        }
        Ok(config)
    }

    /// What the image is made for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform { os: self.os.clone(), architecture: self.architecture.clone(), variant: self.variant.clone() }
            .normalised()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Docker writes it, with its nulls and its fields that nobody needs.
    const DOCKER: &str = r#"{
        "architecture":"arm64","variant":"v8","os":"linux","created":"2026-01-02T03:04:05.678Z","author":"me",
        "container":"0123","docker_version":"29.0.0",
        "config":{"Hostname":"","User":"app:app","AttachStdin":false,"ExposedPorts":{"80/tcp":{},"53/udp":{}},
            "Env":["PATH=/bin","EMPTY="],"Cmd":["-g","daemon off;"],"Entrypoint":["/entry"],"Volumes":null,
            "WorkingDir":"/srv","OnBuild":null,"Labels":{"a":"b"},"StopSignal":"SIGQUIT","Shell":["/bin/bash","-c"],
            "Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":30000000000,"Retries":3}},
        "rootfs":{"type":"layers","diff_ids":["sha256:1111111111111111111111111111111111111111111111111111111111111111"]},
        "history":[{"created":"2026-01-02T03:04:05Z","created_by":"ADD rootfs /"},
            {"created_by":"CMD","comment":"buildkit","empty_layer":true}]}"#;

    #[test]
    fn a_configuration_of_docker_survives() {
        let image = ImageConfig::parse(DOCKER.as_bytes()).unwrap();
        assert_eq!(image.platform().to_string(), "linux/arm64");
        assert_eq!((image.rootfs.diff_ids.len(), image.history.len()), (1, 2));
        assert!(image.history[1].empty_layer);
        let config = image.config.clone().unwrap();
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert_eq!(config.entrypoint.unwrap(), ["/entry"]);
        assert_eq!(config.cmd.unwrap(), ["-g", "daemon off;"]);
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("app:app", "/srv"));
        assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
        let health = config.healthcheck.unwrap();
        assert_eq!((health.interval, health.timeout, health.retries), (30_000_000_000, 0, 3));
        let written = serde_json::to_vec(&image).unwrap();
        assert_eq!(ImageConfig::parse(&written).unwrap(), image);
    }

    #[test]
    fn a_minimal_configuration_is_enough() {
        let image = ImageConfig::parse(br#"{"rootfs":{"type":"layers","diff_ids":null},"config":null}"#).unwrap();
        assert_eq!((image.config, image.rootfs.diff_ids), (None, vec![]));
    }

    #[test]
    fn hostile_configurations_are_refused() {
        for json in [
            "",
            "{}",
            r#"{"rootfs":{"type":"layers","diff_ids":["../x"]}}"#,
            r#"{"rootfs":{"type":"layers","diff_ids":[]},"config":{"Env":"PATH=/bin"}}"#,
            r#"{"rootfs":{"type":"layers","diff_ids":[]},"config":{"Env":[1]}}"#,
        ] {
            assert!(matches!(ImageConfig::parse(json.as_bytes()), Err(InvalidImage::Json { .. })), "{json}");
        }
        let other = ImageConfig::parse(br#"{"rootfs":{"type":"zip","diff_ids":[]}}"#);
        assert!(matches!(other, Err(InvalidImage::RootFsType { .. })));
    }
}
