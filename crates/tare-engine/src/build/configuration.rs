//! The configuration (runtime specification, `config.json`) of a build step's process.

use super::request::{RunMount, RunNetwork, RunRequest, RunSource};
use crate::error::Result;
use crate::isolation::{EtcFiles, Isolation, bind, mount};
use std::path::{Path, PathBuf};
use tare_runtime::cgroup::Hierarchies;
use tare_spec::runtime::{Memory, Mount, Process, Rlimit, Root, Spec};

/// The name of the machine that a step sees: always the same, as builds are reproducible.
pub(super) const HOSTNAME: &str = "build";

/// What the runtime does for a step. `sources` are the places on the host of what its mounts bind, where they bind.
pub(super) fn configuration(request: &RunRequest, etc: &EtcFiles, sources: &[Option<PathBuf>]) -> Result<Spec> {
    let isolation = Isolation {
        privileged: request.insecure,
        host_network: request.network == RunNetwork::Host,
        shm_size: request.shm_size,
        ..Isolation::default()
    };
    let mut linux = isolation.linux();
    if Hierarchies::detect()?.gives("memory") {
        // No limit; but so the kernel counts whom it kills for want of memory.
        linux.resources.get_or_insert_default().memory = Some(Memory { limit: Some(-1), ..Memory::default() });
    }
    let own = request.mounts.iter().zip(sources).map(|(wish, source)| own_mount(wish, source.as_deref()));
    Ok(Spec {
        oci_version: "1.2.0".into(),
        root: Some(Root::default()),
        process: Some(Process {
            args: request.args.clone(),
            env: request.env.clone(),
            cwd: request.cwd.clone(),
            capabilities: Some(isolation.capabilities()),
            rlimits: request.ulimits.iter().map(|(name, limits)| limit(name, *limits)).collect(),
            ..Process::default()
        }),
        hostname: Some(HOSTNAME.to_owned()),
        mounts: isolation.mounts(etc, own.collect()),
        linux: Some(linux),
        ..Spec::default()
    })
}

fn own_mount(wish: &RunMount, source: Option<&Path>) -> Mount {
    let access = if wish.read_only { "ro" } else { "rw" };
    match (&wish.source, source) {
        (RunSource::Temporary { size }, _) => {
            let mut options = vec!["nosuid".to_owned(), "nodev".to_owned(), "mode=1777".to_owned(), access.to_owned()];
            options.extend(size.map(|size| format!("size={size}")));
            Mount { options, ..mount(&wish.target, "tmpfs", "tmpfs", &[]) }
        }
        // What is in memory only cannot be changed there either. The script of a here-document is executed.
        (RunSource::Secret { mode, .. }, Some(source)) if mode & 0o111 != 0 => {
            bind(&wish.target, source, &["bind", "rprivate", "ro", "nosuid", "nodev"])
        }
        (RunSource::Secret { .. } | RunSource::Agent { .. }, Some(source)) => {
            bind(&wish.target, source, &["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"])
        }
        (_, source) => {
            // Without a source the runtime refuses it by name.
            bind(&wish.target, source.unwrap_or(Path::new("")), &["bind", "rprivate", access])
        }
    }
}

fn limit(name: &str, (soft, hard): (Option<u64>, Option<u64>)) -> Rlimit {
    let number = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    Rlimit { resource: format!("RLIMIT_{}", name.to_uppercase()), soft: number(soft), hard: number(hard) }
}
