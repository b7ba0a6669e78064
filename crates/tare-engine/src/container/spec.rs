//! What a person asks of a container, before and apart from what an image adds to it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tare_spec::Platform;
use tare_spec::port::PortMapping;

/// A wish for a container: everything `create` takes. Empty and `None` mean "as the image says".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The image as the person named it: reference, digest or id.
    pub image: String,
    /// For which platform the image must be; any when absent.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// Command and arguments; empty takes the image's.
    pub command: Vec<String>,
    /// Entry point; `Some` of an empty list removes the image's.
    pub entrypoint: Option<Vec<String>>,
    /// `NAME=value`, over the image's.
    pub env: Vec<String>,
    /// Working directory inside the container.
    pub working_dir: Option<String>,
    /// `user[:group]`, names or numbers.
    pub user: Option<String>,
    /// Host name; the short id when absent.
    pub hostname: Option<String>,
    /// Labels over the image's.
    pub labels: BTreeMap<String, String>,
    /// A pseudo-terminal (`-t`).
    pub terminal: bool,
    /// Standard input stays open (`-i`).
    pub open_stdin: bool,
    /// Which streams the creator attached, as `inspect` reports them.
    pub attach: Streams,
    /// Remove the container when it ends.
    pub auto_remove: bool,
    /// Which network it lives in.
    pub network: NetworkMode,
    /// Published ports.
    pub ports: Vec<PortMapping>,
    /// Publish every exposed port on a free port of the host (`-P`).
    pub publish_all: bool,
    /// Ports exposed besides the image's, as `80/tcp`.
    pub expose: Vec<String>,
    /// Bind mounts.
    pub binds: Vec<Bind>,
    /// Temporary file systems: target and mount options (`size=64m,mode=1777`).
    pub tmpfs: BTreeMap<String, String>,
    /// Memory limit in bytes.
    pub memory: Option<u64>,
    /// CPU limit in thousand-millionths of a CPU.
    pub nano_cpus: Option<u64>,
    /// Limit of processes and threads.
    pub pids_limit: Option<i64>,
    /// The root file system cannot be written.
    pub read_only: bool,
    /// No program gains privileges by exec.
    pub no_new_privileges: bool,
    /// Run without the default seccomp profile.
    pub seccomp_unconfined: bool,
    /// Extra `name:address` lines for /etc/hosts.
    pub extra_hosts: Vec<String>,
    /// Name servers instead of the host's.
    pub dns: Vec<String>,
    /// Signal that asks it to end, by name or number; else the image's, else SIGTERM.
    pub stop_signal: Option<String>,
    /// Seconds between that signal and SIGKILL; 10 when absent.
    pub stop_timeout: Option<i64>,
    /// Rows and columns of the terminal at the start.
    pub console_size: Option<(u16, u16)>,
}

/// A choice of standard streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// Which network a container lives in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// Its own namespace, joined to the default bridge.
    #[default]
    Bridge,
    /// The host's namespace.
    Host,
    /// Its own namespace with a loopback interface only.
    None,
}

impl NetworkMode {
    /// The word people use for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::None => "none",
        }
    }
}

/// A folder or file of the host inside the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Absolute path on the host.
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
    /// Whether the container may only read it.
    pub read_only: bool,
    /// Make a missing source as an empty folder (`-v`), instead of failing (`--mount`).
    pub create_source: bool,
    /// Mount propagation: `private`, `rprivate`, `shared`, `rshared`, `slave`, `rslave`; `rprivate` when absent.
    pub propagation: Option<String>,
}
