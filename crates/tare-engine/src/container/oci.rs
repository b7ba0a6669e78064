//! The configuration (runtime specification, `config.json`) of a container: the engine's policy in the runtime's terms.

use crate::container::spec::{Bind, NetworkMode};
use crate::state::ContainerPaths;
use crate::state::record::ContainerRecord;
use std::path::{Path, PathBuf};
use tare_runtime::capabilities::DEFAULT as DEFAULT_CAPABILITIES;
use tare_spec::runtime::{
    Capabilities, ConsoleSize, Cpu, DeviceRule, Linux, Memory, Mount, Namespace, NamespaceKind, Pids, Process,
    Resources, Root, Seccomp, Spec,
};

/// Paths that would tell of or change the host, made unreadable.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that may be read and not written.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Scheduling period in microseconds in which `--cpus` is granted (the kernel's and Docker's default).
const CPU_PERIOD: u64 = 100_000;

/// The configuration of a container.
pub(crate) fn configuration(record: &ContainerRecord, paths: &ContainerPaths) -> Spec {
    Spec {
        oci_version: "1.2.0".into(),
        root: Some(Root { path: PathBuf::new(), readonly: record.spec.read_only }),
        process: Some(process(record)),
        hostname: Some(record.hostname.clone()),
        mounts: mounts(record, paths),
        linux: Some(Linux {
            namespaces: namespaces(record.spec.network),
            resources: Some(resources(record)),
            seccomp: seccomp(record),
            masked_paths: masked(),
            readonly_paths: READ_ONLY.map(str::to_owned).to_vec(),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

/// The filter of all its processes.
pub(crate) fn seccomp(record: &ContainerRecord) -> Option<Seccomp> {
    let profile = || tare_runtime::seccomp::default_profile(&DEFAULT_CAPABILITIES.map(str::to_owned));
    (!record.spec.seccomp_unconfined).then(profile)
}

/// The first process.
pub(crate) fn process(record: &ContainerRecord) -> Process {
    let capabilities: Vec<String> = DEFAULT_CAPABILITIES.map(str::to_owned).to_vec();
    Process {
        terminal: record.spec.terminal,
        console_size: record.spec.console_size.map(|(height, width)| ConsoleSize { height, width }),
        args: record.args(),
        env: record.env.clone(),
        cwd: record.working_dir.clone(),
        capabilities: Some(Capabilities {
            bounding: capabilities.clone(),
            effective: capabilities.clone(),
            permitted: capabilities,
            ..Capabilities::default()
        }),
        no_new_privileges: record.spec.no_new_privileges,
        ..Process::default()
    }
}

fn namespaces(network: NetworkMode) -> Vec<Namespace> {
    use NamespaceKind as Kind;
    let mut kinds = vec![Kind::Pid, Kind::Mount, Kind::Ipc, Kind::Uts, Kind::Cgroup];
    if network != NetworkMode::Host {
        kinds.push(Kind::Network);
    }
    kinds.into_iter().map(Namespace::new).collect()
}

fn resources(record: &ContainerRecord) -> Resources {
    Resources {
        // Everything not listed is refused; what is listed is what Docker gives.
        devices: device_rules(),
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
        ..Resources::default()
    }
}

/// Docker's device rules: any node can be made, only these can be opened. Numbers: the kernel's
/// `Documentation/admin-guide/devices.txt`.
fn device_rules() -> Vec<DeviceRule> {
    let rule = |allow, kind: &str, major, minor, access: &str| DeviceRule {
        allow,
        device_type: Some(kind.to_owned()),
        major,
        minor,
        access: Some(access.to_owned()),
    };
    let mut rules =
        vec![rule(false, "a", None, None, "rwm"), rule(true, "c", None, None, "m"), rule(true, "b", None, None, "m")];
    // null, zero, full, random, urandom, tty, console, ptmx.
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
        rules.push(rule(true, "c", Some(major), Some(minor), "rwm"));
    }
    // Terminals of the container's own devpts.
    rules.push(rule(true, "c", Some(136), None, "rwm"));
    rules
}

fn masked() -> Vec<String> {
    let mut paths: Vec<String> = MASKED.map(str::to_owned).to_vec();
    // Counted as the kernel counts them, whatever this process may use: `0-7`.
    let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last: usize = possible.trim().rsplit(['-', ',']).next().and_then(|last| last.parse().ok()).unwrap_or(0);
    paths.extend((0..=last).map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle")));
    paths
}

fn mounts(record: &ContainerRecord, paths: &ContainerPaths) -> Vec<Mount> {
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ];
    mounts.push(mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]));
    mounts.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]));
    let targets: Vec<&str> = record.spec.binds.iter().map(|bind| bind.target.as_str()).collect();
    let own =
        [("/etc/resolv.conf", paths.resolv_conf()), ("/etc/hostname", paths.hostname()), ("/etc/hosts", paths.hosts())];
    for (target, source) in own {
        if !targets.contains(&target) {
            mounts.push(bind(target, &source, &["bind", "rprivate"]));
        }
    }
    for (target, options) in &record.spec.tmpfs {
        let given: Vec<&str> = options.split(',').filter(|option| !option.is_empty()).collect();
        let mut all = vec!["nosuid", "nodev", "noexec"];
        all.extend(given);
        mounts.push(mount(target, "tmpfs", "tmpfs", &all));
    }
    mounts.extend(record.spec.binds.iter().map(bind_mount));
    // Mounts below others come after them.
    mounts[6..].sort_by_key(|mount| mount.destination.components().count());
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

fn bind(target: &str, source: &Path, options: &[&str]) -> Mount {
    Mount { source: Some(source.to_owned()), ..mount(target, "bind", "", options) }
}

fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: target.into(),
        fs_type: Some(kind.to_owned()),
        source: Some(source.into()),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Mount::default()
    }
}
