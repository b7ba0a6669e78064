//! The configuration (runtime specification, `config.json`) of a container: a wish in the runtime's terms. What isolates
//! it is in `isolation.rs`.

use crate::container::spec::{Bind, NetworkMode};
use crate::isolation::{EtcFiles, Isolation, bind, mount};
use crate::state::ContainerPaths;
use crate::state::record::ContainerRecord;
use std::path::{Path, PathBuf};
use tare_spec::runtime::{ConsoleSize, Cpu, Linux, Memory, Mount, Pids, Process, Resources, Root, Seccomp, Spec};

/// Scheduling period in microseconds in which `--cpus` is granted (the kernel's and Docker's default).
const CPU_PERIOD: u64 = 100_000;

/// The configuration of a container.
pub(crate) fn configuration(record: &ContainerRecord, paths: &ContainerPaths) -> Spec {
    let isolation = isolation(record);
    let linux = isolation.linux();
    let etc = EtcFiles { resolv_conf: paths.resolv_conf(), hostname: paths.hostname(), hosts: paths.hosts() };
    Spec {
        oci_version: "1.2.0".into(),
        root: Some(Root { path: PathBuf::new(), readonly: record.spec.read_only }),
        process: Some(process(record)),
        hostname: Some(record.hostname.clone()),
        mounts: isolation.mounts(&etc, own_mounts(record)),
        linux: Some(Linux { resources: Some(resources(record, linux.resources.unwrap_or_default())), ..linux }),
        ..Spec::default()
    }
}

fn isolation(record: &ContainerRecord) -> Isolation {
    Isolation {
        no_filter: record.spec.seccomp_unconfined,
        host_network: record.spec.network == NetworkMode::Host,
        ..Isolation::default()
    }
}

/// The filter of all its processes.
pub(crate) fn seccomp(record: &ContainerRecord) -> Option<Seccomp> {
    isolation(record).seccomp()
}

/// The first process.
pub(crate) fn process(record: &ContainerRecord) -> Process {
    Process {
        terminal: record.spec.terminal,
        console_size: record.spec.console_size.map(|(height, width)| ConsoleSize { height, width }),
        args: record.args(),
        env: record.env.clone(),
        cwd: record.working_dir.clone(),
        capabilities: Some(isolation(record).capabilities()),
        no_new_privileges: record.spec.no_new_privileges,
        ..Process::default()
    }
}

/// The limits, besides those that isolate it.
fn resources(record: &ContainerRecord, resources: Resources) -> Resources {
    Resources {
        // Docker's default: as much swap again as memory.
        memory: record.spec.memory.map(|limit| {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            Memory { limit: Some(limit), swap: Some(limit.saturating_mul(2)), ..Memory::default() }
        }),
        cpu: record.spec.nano_cpus.map(|nano| Cpu {
            period: Some(CPU_PERIOD),
            quota: Some(i64::try_from(nano / (1_000_000_000 / CPU_PERIOD)).unwrap_or(i64::MAX)),
            ..Cpu::default()
        }),
        pids: record.spec.pids_limit.filter(|limit| *limit > 0).map(|limit| Pids { limit }),
        ..resources
    }
}

fn own_mounts(record: &ContainerRecord) -> Vec<Mount> {
    let mut mounts = Vec::new();
    for (target, options) in &record.spec.tmpfs {
        let given: Vec<&str> = options.split(',').filter(|option| !option.is_empty()).collect();
        let mut all = vec!["nosuid", "nodev", "noexec"];
        all.extend(given);
        mounts.push(mount(target, "tmpfs", "tmpfs", &all));
    }
    mounts.extend(record.spec.binds.iter().map(bind_mount));
    mounts
}

fn bind_mount(wish: &Bind) -> Mount {
    let propagation = wish.propagation.as_deref().unwrap_or("rprivate");
    let mut options = vec!["rbind", propagation];
    if wish.read_only {
        // Recursive, as Docker's since 25: a writable mount below a read-only one would be no protection.
        options.push("rro");
    }
    bind(&wish.target, Path::new(&wish.source), &options)
}
