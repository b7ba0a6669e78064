//! The two records of a container: what was decided at its creation, and where it is in its life.
//!
//! Their format is described in `docs/formats/container.md`.

use crate::container::spec::ContainerSpec;
use crate::state::file::Durability;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tare_net::PublishedPort;
use tare_spec::{ContainerId, DiffId, ImageId};

/// Version of both records that this program writes and reads.
pub const RECORD_VERSION: u32 = 1;

/// What was decided when a container was created: the wish, and what it came to with its image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// The wish.
    pub spec: ContainerSpec,
    /// Its image's id.
    pub image_id: ImageId,
    /// Digest of the image's manifest.
    pub manifest: tare_spec::Digest,
    /// The image's layers, lowest first.
    pub layers: Vec<DiffId>,
    /// `os/architecture[/variant]` of the image.
    pub platform: String,
    /// Entry point after the image was considered.
    pub entrypoint: Vec<String>,
    /// Command after the image was considered.
    pub command: Vec<String>,
    /// Whole environment of the process, `NAME=value`.
    pub env: Vec<String>,
    /// Working directory.
    pub working_dir: String,
    /// `user[:group]`; empty for root.
    pub user: String,
    /// Host name.
    pub hostname: String,
    /// Labels of image and wish.
    pub labels: BTreeMap<String, String>,
    /// Exposed ports of image and wish, `80/tcp`.
    pub exposed: Vec<String>,
    /// Signal that asks it to end.
    pub stop_signal: String,
}

impl ContainerRecord {
    /// Records of a container that goes with its end need not outlive a power cut, which is its end too.
    pub(crate) fn durability(&self) -> Durability {
        if self.spec.auto_remove { Durability::Volatile } else { Durability::Durable }
    }

    /// Program and arguments in one list.
    #[must_use]
    pub fn args(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.command).cloned().collect()
    }
}

/// Where a container is in its life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerState {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// The state by the runtime specification's words, where Docker's `exited` is `stopped`.
    pub status: Status,
    /// Exit code of the last run: 0–255, or 128 + signal.
    pub exit_code: i32,
    /// Why the last start failed or how the run ended beyond its code; empty when there is nothing to say.
    pub error: String,
    /// Whether the kernel killed a process for want of memory.
    pub oom_killed: bool,
    /// Start of the last run.
    pub started: Option<Timestamp>,
    /// End of the last run.
    pub finished: Option<Timestamp>,
    /// How often it was started again by its policy.
    pub restarts: u32,
    /// What holds while it runs.
    pub run: Option<Run>,
}

/// States of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Made, never started.
    Created,
    /// Its process lives.
    Running,
    /// Its process ended.
    Stopped,
}

/// What holds while a container runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The boot during which this is true (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// Process id of its init on the host.
    pub pid: i32,
    /// That process's start time in clock ticks since boot (proc_pid_stat(5), field 22).
    pub pid_start: u64,
    /// Process id of the monitor.
    pub monitor_pid: i32,
    /// Its address on the network, when it has one of its own.
    pub network: Option<RunNetwork>,
    /// Published ports.
    pub ports: Vec<PublishedPort>,
    /// Whether the monitor lives; filled in when read, not stored.
    #[serde(skip, default)]
    pub monitored: bool,
}

/// A container's place on the bridge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunNetwork {
    /// IPv4 address.
    pub address: std::net::Ipv4Addr,
    /// Prefix length of the network.
    pub prefix_len: u8,
    /// Gateway.
    pub gateway: std::net::Ipv4Addr,
    /// Hardware address.
    pub mac: String,
}

impl ContainerState {
    /// The state of a container that was just made.
    #[must_use]
    pub fn created() -> Self {
        Self {
            version: RECORD_VERSION,
            status: Status::Created,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            started: None,
            finished: None,
            restarts: 0,
            run: None,
        }
    }
}
