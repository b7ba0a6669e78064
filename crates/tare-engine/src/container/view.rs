//! Containers as the engine reports them.

use crate::container::spec::ContainerSpec;
use crate::state::record::{ContainerRecord, ContainerState};
use jiff::Timestamp;
use tare_spec::{ContainerId, ImageId};

pub use tare_net::PublishedPort;

/// A list of containers.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those that match, newest first.
    pub containers: Vec<ContainerSummary>,
    /// Why others could not be read; they may match.
    pub unreadable: Vec<crate::Error>,
}

/// One line of a list of containers.
#[derive(Clone, Debug)]
pub struct ContainerSummary {
    /// Its id.
    pub id: ContainerId,
    /// Its name, without a slash.
    pub name: String,
    /// The image as it was named at creation.
    pub image: String,
    /// The image's id.
    pub image_id: ImageId,
    /// Program and arguments that it runs.
    pub command: Vec<String>,
    /// When it was created.
    pub created: Timestamp,
    /// Where it is in its life.
    pub state: ContainerState,
    /// What was asked for at creation.
    pub spec: ContainerSpec,
    /// Labels of image and wish.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Ports published now.
    pub ports: Vec<PublishedPort>,
    /// Ports exposed by image or wish, `80/tcp`, published ones included.
    pub exposed: Vec<String>,
}

/// All that is known of a container.
#[derive(Clone, Debug)]
pub struct ContainerDetails {
    /// What was fixed at creation.
    pub record: ContainerRecord,
    /// Where it is in its life.
    pub state: ContainerState,
    /// Path of its log on the host.
    pub log_path: String,
    /// Paths of the files that appear as /etc/resolv.conf, /etc/hostname and /etc/hosts.
    pub etc_paths: [String; 3],
}

/// Which containers a list shows. Within a kind any value matches; all kinds given must match, as Docker's
/// `--filter` does.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// Also those that do not run.
    pub all: bool,
    /// The newest so many, whatever their state.
    pub last: Option<usize>,
    /// Patterns that the name contains.
    pub names: Vec<String>,
    /// Prefixes of the id.
    pub ids: Vec<String>,
    /// States by Docker's words: created, running, paused, restarting, removing, exited, dead.
    pub statuses: Vec<String>,
    /// Exit codes of containers that ended.
    pub exit_codes: Vec<i32>,
    /// `key` or `key=value`.
    pub labels: Vec<String>,
    /// Images (references or ids) the container was made from.
    pub ancestors: Vec<String>,
}
