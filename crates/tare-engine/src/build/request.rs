//! What a builder and the process that carries out a step say to each other.
//!
//! The request is JSON in a file in memory, secrets behind it, because neither has a bound that fits into a message; a
//! message carries its descriptor and those of the step's output. The answer is a message. Both ends are the same program,
//! so that nothing here has versions.

use crate::error::{Error, Result};
use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use tare_build::executor::{MountSource, Network, Process};
use tare_runtime::monitor::protocol::Failure;
use tare_spec::ContainerId;

/// The first message: what it carries.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    /// Bytes of JSON at the beginning of the first descriptor, a file in memory; standard output and error follow it.
    pub(super) length: u64,
}

/// What to carry out, and where.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) root: PathBuf,
    pub(super) run_root: PathBuf,
    /// Names the folder of the work, the cgroup, and the place in the network.
    pub(super) id: ContainerId,
    pub(super) task: Task,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Task {
    Run(RunRequest),
    CheckOut(CheckOut),
}

/// A git reference to fetch and check out into `tree/`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CheckOut {
    pub(super) remote: String,
    /// The same without user and password.
    pub(super) shown: String,
    pub(super) reference: Option<String>,
    pub(super) is_commit: bool,
    pub(super) keep_git_dir: bool,
    pub(super) checksum: Option<String>,
    /// What git gets of the builder's environment.
    pub(super) environment: Vec<(String, String)>,
}

/// A process to run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RunRequest {
    pub(super) lower: Vec<PathBuf>,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<String>,
    pub(super) cwd: String,
    pub(super) user: String,
    pub(super) network: RunNetwork,
    pub(super) insecure: bool,
    pub(super) mounts: Vec<RunMount>,
    pub(super) hosts: Vec<(String, IpAddr)>,
    pub(super) ulimits: BTreeMap<String, (Option<u64>, Option<u64>)>,
    pub(super) shm_size: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum RunNetwork {
    Bridge,
    None,
    Host,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RunMount {
    pub(super) target: String,
    pub(super) read_only: bool,
    pub(super) source: RunSource,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum RunSource {
    Tree {
        lower: Vec<PathBuf>,
        path: String,
    },
    Folder(PathBuf),
    Temporary {
        size: Option<u64>,
    },
    /// So many bytes of what follows the request.
    Secret {
        length: u64,
        mode: u32,
        owner: (u32, u32),
    },
    Agent {
        socket: PathBuf,
        mode: u32,
        owner: (u32, u32),
    },
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It ran and has ended.
    Ended {
        /// 0 to 255; 128 + n for signal n.
        code: u8,
        /// Whether the kernel killed some of it because memory ran out.
        out_of_memory: bool,
    },
    /// It is checked out.
    CheckedOut {
        /// The commit.
        commit: String,
    },
    /// It was ended because the builder wanted it so.
    Cancelled,
    /// It could not be done, or not be cleaned up.
    Failed(Failure),
}

impl RunRequest {
    /// The request for a process, and what follows it.
    pub(super) fn new<'p>(process: &Process<'p>) -> (Self, Vec<&'p [u8]>) {
        let mut secrets: Vec<&'p [u8]> = Vec::new();
        let mounts = process.mounts.iter().map(|mount| {
            let source = match &mount.source {
                MountSource::Tree { lower, path } => RunSource::Tree { lower: lower.clone(), path: path.clone() },
                MountSource::Folder(path) => RunSource::Folder(path.clone()),
                MountSource::Temporary { size } => RunSource::Temporary { size: *size },
                MountSource::Secret { contents, mode, owner } => {
                    secrets.push(contents);
                    RunSource::Secret { length: contents.len() as u64, mode: *mode, owner: *owner }
                }
                MountSource::Agent { socket, mode, owner } => {
                    RunSource::Agent { socket: socket.clone(), mode: *mode, owner: *owner }
                }
            };
            RunMount { target: mount.target.clone(), read_only: mount.read_only, source }
        });
        let request = Self {
            lower: process.lower.to_vec(),
            args: process.args.to_vec(),
            env: process.env.to_vec(),
            cwd: process.cwd.to_owned(),
            user: process.user.to_owned(),
            network: match process.network {
                Network::Default => RunNetwork::Bridge,
                Network::None => RunNetwork::None,
                Network::Host => RunNetwork::Host,
            },
            insecure: process.insecure,
            mounts: mounts.collect(),
            hosts: process.hosts.to_vec(),
            ulimits: process.ulimits.clone(),
            shm_size: process.shm_size,
        };
        (request, secrets)
    }
}

impl Request {
    /// Writes it into memory.
    pub(super) fn to_memory(&self, secrets: &[&[u8]]) -> Result<(Start, File)> {
        let failed = |source| Error::System { action: "write a build step's request", source };
        let bytes = serde_json::to_vec(self).expect("requests have string keys and no failing fields");
        let memory = rustix::fs::memfd_create("build-step", MemfdFlags::CLOEXEC);
        let mut memory = File::from(memory.map_err(|errno| failed(errno.into()))?);
        for part in std::iter::once(&bytes[..]).chain(secrets.iter().copied()) {
            memory.write_all(part).map_err(failed)?;
        }
        Ok((Start { length: bytes.len() as u64 }, memory))
    }

    /// Reads it back. The file is then at the first secret.
    pub(super) fn of_memory(start: &Start, memory: &mut File) -> Result<Self> {
        let failed = |source| Error::System { action: "read a build step's request", source };
        memory.rewind().map_err(failed)?;
        let mut bytes = Vec::new();
        (&mut *memory).take(start.length).read_to_end(&mut bytes).map_err(failed)?;
        serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))
    }
}
