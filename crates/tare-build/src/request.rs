//! What is asked of a build.

use crate::executor::{GitSource, Network};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use tare_spec::{Platform, Reference};

/// A build. Everything that a person can ask for; how it is shown and where else the result goes is not part of it.
#[derive(Debug, Default)]
pub struct BuildRequest {
    /// Where the files are.
    pub context: ContextSource,
    /// Where the Dockerfile is.
    pub dockerfile: DockerfileSource,
    /// The stage to build, by name or number; the last one when absent.
    pub target: Option<String>,
    /// `--build-arg`: values for ARG.
    pub arguments: BTreeMap<String, String>,
    /// `--label`, in order: added to the result's own.
    pub labels: Vec<(String, String)>,
    /// `-t`: the names that the result gets, with tags.
    pub names: Vec<Reference>,
    /// `--platform`; the host's when empty.
    pub platforms: Vec<Platform>,
    /// What is built anew although it was built before.
    pub no_cache: NoCache,
    /// `--pull`: images are asked for at their registries although they are here.
    pub pull: bool,
    /// `--network`: that of RUN where the Dockerfile names none.
    pub network: Network,
    /// `--secret`, by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// `--ssh`: sockets of agents by id.
    pub agents: BTreeMap<String, PathBuf>,
    /// `--build-context`: what a name in FROM, COPY --from and mounts means instead.
    pub contexts: BTreeMap<String, NamedContext>,
    /// `--add-host`.
    pub hosts: Vec<(String, IpAddr)>,
    /// `--ulimit`: soft and hard by name; none: no limit.
    pub ulimits: BTreeMap<String, (Option<u64>, Option<u64>)>,
    /// `--shm-size`, in bytes.
    pub shm_size: Option<u64>,
    /// `--allow`: what steps may ask for beyond the default.
    pub allow: BTreeSet<Entitlement>,
    /// The times in the result.
    pub times: Times,
    /// `--squash`: one layer over the base.
    pub squash: bool,
    /// `--cache-from`: where steps that were built elsewhere are looked for, in this order.
    pub cache_from: Vec<CacheFrom>,
    /// `--cache-to type=inline`: the configuration of the result says which step made which layer.
    pub inline_cache: bool,
}

/// Where steps that were built elsewhere come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheFrom {
    /// An image that has them in its configuration, or what `--cache-to type=registry` made.
    Registry(Reference),
    /// A folder that `--cache-to type=local` made.
    Folder(PathBuf),
}

impl fmt::Display for CacheFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Folder(path) => path.display().fmt(f),
        }
    }
}

/// The files that a build may copy.
#[derive(Default)]
pub enum ContextSource {
    /// None at all: the Dockerfile came by standard input.
    #[default]
    Empty,
    /// A folder. Nothing outside of it is ever read, wherever its symbolic links point.
    Folder(PathBuf),
    /// A tar archive, compressed or not. Read once.
    Archive(Mutex<Box<dyn Read + Send>>),
    /// What is at this URL: a tar archive, compressed or not, or else a Dockerfile.
    Url(String),
    /// What git brings.
    Git(GitSource),
}

/// Where the Dockerfile is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerfileSource {
    /// A file of the context. `<path>.dockerignore` counts instead of `.dockerignore` if it is there.
    InContext(String),
    /// A file anywhere; `<path>.dockerignore` likewise.
    Path(PathBuf),
    /// This text.
    Text(String),
}

impl Default for DockerfileSource {
    fn default() -> Self {
        Self::InContext("Dockerfile".to_owned())
    }
}

/// What is built anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NoCache {
    /// What has changed.
    #[default]
    Changed,
    /// All.
    All,
    /// These stages, by name.
    Stages(BTreeSet<String>),
}

/// Where a secret comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file, read when a step wants it: 500 KiB at most.
    File(PathBuf),
    /// These bytes.
    Value(Vec<u8>),
}

/// What a name of `--build-context` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// A folder.
    Folder(PathBuf),
    /// An image (`docker-image://…`).
    Image(String),
    /// What git brings.
    Git(GitSource),
}

/// What steps can do only when the person allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entitlement {
    /// `RUN --security=insecure`.
    Insecure,
    /// `RUN --network=host`.
    HostNetwork,
}

/// The times that files and documents of the result carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Times {
    /// The same whenever it is built: nothing is later than the newest image that it starts from.
    #[default]
    OfBase,
    /// Nothing is later than this (`SOURCE_DATE_EPOCH`).
    At(Timestamp),
    /// As they come, as Docker does.
    Kept,
}

impl fmt::Display for DockerfileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InContext(path) => f.write_str(path),
            Self::Path(path) => path.file_name().unwrap_or(path.as_os_str()).display().fmt(f),
            Self::Text(_) => f.write_str("Dockerfile"),
        }
    }
}

impl fmt::Debug for ContextSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Folder(path) => f.debug_tuple("Folder").field(path).finish(),
            Self::Archive(_) => f.write_str("Archive"),
            Self::Url(url) => f.debug_tuple("Url").field(url).finish(),
            Self::Git(git) => f.debug_tuple("Git").field(git).finish(),
        }
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            // Not even its length.
            Self::Value(_) => f.write_str("Value"),
        }
    }
}
