//! What a build needs and this crate may not do: start processes and use the network. The engine does it.

mod git;

pub use git::InvalidGitSource;

use crate::cache::Key;
use crate::progress::StepId;
use crate::request::CacheFrom;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use tare_spec::image::{Descriptor, ImageConfig};
use tare_spec::{DiffId, Digest, ErrorKind, Platform};
use tare_store::Lease;

/// Carries out what the solver asks for. Stages are built in parallel, so calls come from several threads.
pub trait Executor: Sync {
    /// The image that `FROM`, `COPY --from` or a mount names, pulled where it has to be: its content is in the store, and stays
    /// while the lease lives. The same name gives the same image for as long as the executor lives.
    ///
    /// # Errors
    /// That there is no such image, or not for this platform; that no registry answers.
    fn image(&self, wanted: &WantedImage<'_>) -> Result<BaseImage, ExecutorError>;

    /// Runs a process and waits for its end. Nothing of it is left then but what it wrote: `upper` of the result.
    ///
    /// # Errors
    /// That it could not be started; what it exits with is no error.
    fn run(&self, process: &Process<'_>, output: Output<'_>) -> Result<Finished, ExecutorError>;

    /// Ends the processes of all [`Executor::run`] under way, whatever is being fetched, and all that is still to come, as soon
    /// as they can be: the build has failed elsewhere. Does not wait for them.
    fn cancel(&self);

    /// Whether [`Executor::cancel`] was called.
    fn is_cancelled(&self) -> bool;

    /// Fetches a file. The result is a file without a name, at its beginning.
    ///
    /// # Errors
    /// Of the network, and of what answers.
    fn fetch(&self, url: &str) -> Result<Fetched, ExecutorError>;

    /// Fetches what a git reference stands for, and checks it out into an empty folder that goes with the result.
    ///
    /// # Errors
    /// Of the network and of git.
    fn checkout(&self, git: &GitSource) -> Result<Checkout, ExecutorError>;

    /// What is known of steps that were built elsewhere: the layer that each came to.
    ///
    /// # Errors
    /// Of the network and the disk; that there is nothing of the kind.
    fn import(&self, cache: &CacheFrom) -> Result<Vec<(Key, DiffId)>, ExecutorError>;

    /// Brings a layer that [`Executor::import`] told of into the store, and says in which form it is there. The caller holds
    /// a lease.
    ///
    /// # Errors
    /// Of the network and the disk; that it is not what it should be.
    fn import_layer(&self, cache: &CacheFrom, layer: &DiffId, step: StepId) -> Result<Descriptor, ExecutorError>;
}

/// Takes what a process writes, as it comes: whether it is standard error, and bytes.
pub type Output<'a> = &'a mut (dyn FnMut(bool, &[u8]) + Send);

/// Why the executor could not do it.
#[derive(Debug)]
pub struct ExecutorError {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// The failure, with its causes as sources.
    pub error: Box<dyn std::error::Error + Send + Sync>,
}

impl std::fmt::Display for ExecutorError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for ExecutorError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// An image that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct WantedImage<'a> {
    /// Its name or id, as written.
    pub name: &'a str,
    /// What for.
    pub platform: &'a Platform,
    /// The step that wants it, for those who are told how it comes.
    pub step: StepId,
}

/// An image of the store.
#[derive(Debug)]
pub struct BaseImage {
    /// `name@digest`, as it is shown: `docker.io/library/debian:13@sha256:…`.
    pub resolved: String,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its layers as registries have them, in the order of `config.rootfs.diff_ids`.
    pub layers: Vec<Descriptor>,
    /// Keeps its content.
    pub lease: Lease,
}

/// A process to run in a container of its own, with what `tare run` isolates it by.
#[derive(Clone, Debug)]
pub struct Process<'a> {
    /// The lower directories of its root, the top one first; none: it starts from nothing.
    pub lower: &'a [PathBuf],
    /// Program and arguments; not empty.
    pub args: &'a [String],
    /// `NAME=value`.
    pub env: &'a [String],
    /// Absolute; made if it is not there.
    pub cwd: &'a str,
    /// `user[:group]`, by name or number; empty: root.
    pub user: &'a str,
    /// Its network.
    pub network: Network,
    /// Whether it gets all capabilities and devices and no system call filter.
    pub insecure: bool,
    /// What is mounted in it, in order.
    pub mounts: &'a [Mount],
    /// Lines for /etc/hosts besides its own.
    pub hosts: &'a [(String, IpAddr)],
    /// Soft and hard limit by name (`nofile`); none: no limit.
    pub ulimits: &'a BTreeMap<String, (Option<u64>, Option<u64>)>,
    /// Bytes of /dev/shm.
    pub shm_size: Option<u64>,
}

/// The network of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The bridge.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's own.
    Host,
}

/// Something mounted in a process. Where the target is not there it is made, and is no change that the process made.
#[derive(Clone, Debug)]
pub struct Mount {
    /// Absolute, in the container; resolved inside of it.
    pub target: String,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// What is there.
    pub source: MountSource,
}

/// Where what is mounted comes from.
#[derive(Clone, Debug)]
pub enum MountSource {
    /// Directories over each other, the top one first, and of them what is at `path` inside (a folder or a file; empty: all),
    /// confined. What a process writes there is thrown away.
    Tree {
        /// At least one.
        lower: Vec<PathBuf>,
        /// Relative.
        path: String,
    },
    /// A folder of the host that keeps what is written there. The caller made it and holds whatever lock it needs.
    Folder(PathBuf),
    /// A file system in memory.
    Temporary {
        /// Bytes at most.
        size: Option<u64>,
    },
    /// A file in memory only.
    Secret {
        /// What is in it.
        contents: Vec<u8>,
        /// Its permissions.
        mode: u32,
        /// Its owner and group.
        owner: (u32, u32),
    },
    /// A socket of the host where an SSH agent listens, by another name.
    Agent {
        /// The host's.
        socket: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Its owner and group.
        owner: (u32, u32),
    },
}

/// A process that has ended.
pub struct Finished {
    /// 0 to 255; 128 + n for signal n.
    pub exit_code: u8,
    /// Whether the kernel killed some of it because memory ran out.
    pub out_of_memory: bool,
    /// What it changed, as the upper directory of an overlay. Targets of mounts that were made for it are not in there.
    pub upper: PathBuf,
    /// Dropped, it takes `upper` away.
    pub scratch: Box<dyn Send>,
}

/// A file that was fetched.
pub struct Fetched {
    /// Its contents.
    pub file: std::fs::File,
    /// The name that the server or the URL gives it; never empty, no path.
    pub name: String,
}

/// What is fetched with git.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
pub struct GitSource {
    /// Where from.
    pub remote: String,
    /// A branch, tag or commit; the remote's HEAD when absent.
    pub reference: Option<String>,
    /// A folder in it; all when empty.
    pub folder: String,
    /// Whether `.git` stays.
    pub keep_git_dir: bool,
    /// The commit that it must be, or the beginning of it.
    pub checksum: Option<String>,
}

/// What git brought.
pub struct Checkout {
    /// The folder that was asked for.
    pub folder: PathBuf,
    /// The commit.
    pub commit: String,
    /// Dropped, it takes the files away.
    pub scratch: Box<dyn Send>,
}

impl ExecutorError {
    /// An error of this kind.
    pub fn new(kind: ErrorKind, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { kind, error: error.into() }
    }
}

/// Where a build keeps what is not in the store's own folders: `ROOT/build`. See `docs/formats/build.md`.
#[derive(Clone, Debug)]
pub struct Folders {
    root: PathBuf,
}

impl Folders {
    /// The folders below this root directory of the engine. Nothing is made.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.join("build") }
    }

    /// The folder that has them all.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// One record a step that was built.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// What the last build of each name was made of.
    #[must_use]
    pub fn last(&self) -> PathBuf {
        self.root.join("last")
    }

    /// Locks of the steps that are built right now.
    #[must_use]
    pub fn running(&self) -> PathBuf {
        self.root.join("running")
    }

    /// The folders of `RUN --mount=type=cache`.
    #[must_use]
    pub fn mounts(&self) -> PathBuf {
        self.root.join("mounts")
    }

    /// Processes under way; one folder each, named by its id.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }
}
