//! What every process is isolated by, a container's and a build's: the policy, once, in the runtime's terms.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use tare_runtime::capabilities;
use tare_spec::runtime::{
    Capabilities, Device, DeviceRule, Linux, Mount, Namespace, NamespaceKind, Resources, Seccomp,
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

/// Bytes of /dev/shm where nobody asks for another size (Docker's default).
const SHM_SIZE: u64 = 64 << 20;

/// Folders of /dev with nodes that belong to something else than the hardware.
const NO_DEVICES: [&str; 6] = ["pts", "shm", "fd", "mqueue", "hugepages", ".udev"];

/// How deep folders of the host's /dev are looked into for devices: real ones are three deep.
const DEVICE_DEPTH: usize = 8;

/// What of the policy can be chosen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Isolation {
    /// All capabilities and devices, nothing masked, no filter.
    pub(crate) privileged: bool,
    /// No filter of system calls.
    pub(crate) no_filter: bool,
    /// No network of its own.
    pub(crate) host_network: bool,
    /// Bytes of /dev/shm.
    pub(crate) shm_size: Option<u64>,
}

/// The files of /etc that come from the engine.
pub(crate) struct EtcFiles {
    pub(crate) resolv_conf: PathBuf,
    pub(crate) hostname: PathBuf,
    pub(crate) hosts: PathBuf,
}

impl Isolation {
    /// Everything but mounts and limits.
    pub(crate) fn linux(self) -> Linux {
        let mut linux = Linux {
            namespaces: self.namespaces(),
            resources: Some(Resources { devices: self.device_rules(), ..Resources::default() }),
            seccomp: self.seccomp(),
            ..Linux::default()
        };
        if self.privileged {
            linux.devices = devices_of_host();
        } else {
            linux.masked_paths = masked();
            linux.readonly_paths = READ_ONLY.map(str::to_owned).to_vec();
        }
        linux
    }

    /// The capabilities of root; others get none of them.
    pub(crate) fn capabilities(self) -> Capabilities {
        let names =
            if self.privileged { capabilities::available() } else { capabilities::DEFAULT.map(str::to_owned).to_vec() };
        Capabilities { bounding: names.clone(), effective: names.clone(), permitted: names, ..Capabilities::default() }
    }

    /// The filter of system calls.
    pub(crate) fn seccomp(self) -> Option<Seccomp> {
        let profile = || tare_runtime::seccomp::default_profile(&capabilities::DEFAULT.map(str::to_owned));
        (!self.privileged && !self.no_filter).then(profile)
    }

    fn namespaces(self) -> Vec<Namespace> {
        use NamespaceKind as Kind;
        let mut kinds = vec![Kind::Pid, Kind::Mount, Kind::Ipc, Kind::Uts, Kind::Cgroup];
        if !self.host_network {
            kinds.push(Kind::Network);
        }
        kinds.into_iter().map(Namespace::new).collect()
    }

    /// Docker's device rules: any node can be made, only these can be opened. Everything not listed is refused. Numbers: the
    /// kernel's `Documentation/admin-guide/devices.txt`.
    fn device_rules(self) -> Vec<DeviceRule> {
        let rule = |allow, kind: &str, major, minor, access: &str| DeviceRule {
            allow,
            device_type: Some(kind.to_owned()),
            major,
            minor,
            access: Some(access.to_owned()),
        };
        if self.privileged {
            return vec![rule(true, "a", None, None, "rwm")];
        }
        let mut rules = vec![
            rule(false, "a", None, None, "rwm"),
            rule(true, "c", None, None, "m"),
            rule(true, "b", None, None, "m"),
        ];
        // null, zero, full, random, urandom, tty, console, ptmx.
        for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
            rules.push(rule(true, "c", Some(major), Some(minor), "rwm"));
        }
        // Terminals of the container's own devpts.
        rules.push(rule(true, "c", Some(136), None, "rwm"));
        rules
    }

    /// All mounts: the kernel's file systems, the files of /etc that nothing of `own` replaces, and `own` ones, each after
    /// those above it.
    pub(crate) fn mounts(self, etc: &EtcFiles, own: Vec<Mount>) -> Vec<Mount> {
        let access = if self.privileged { "rw" } else { "ro" };
        let shm = format!("size={}k", self.shm_size.unwrap_or(SHM_SIZE).div_ceil(1024));
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
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &shm]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
        ];
        let fixed = mounts.len();
        mounts.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &[access, "nosuid", "noexec", "nodev"]));
        let files =
            [("/etc/resolv.conf", &etc.resolv_conf), ("/etc/hostname", &etc.hostname), ("/etc/hosts", &etc.hosts)];
        for (target, source) in files {
            if !own.iter().any(|mount| mount.destination == Path::new(target)) {
                mounts.push(bind(target, source, &["bind", "rprivate"]));
            }
        }
        mounts.extend(own);
        mounts[fixed..].sort_by_key(|mount| mount.destination.components().count());
        mounts
    }
}

/// Something of the host, at a place in the container.
pub(crate) fn bind(target: &str, source: &Path, options: &[&str]) -> Mount {
    Mount { source: Some(source.to_owned()), ..mount(target, "bind", "", options) }
}

/// A file system of this type, at a place in the container.
pub(crate) fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: target.into(),
        fs_type: Some(kind.to_owned()),
        source: Some(source.into()),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Mount::default()
    }
}

fn masked() -> Vec<String> {
    let mut paths: Vec<String> = MASKED.map(str::to_owned).to_vec();
    // Counted as the kernel counts them, whatever this process may use: `0-7`.
    let possible = fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last: usize = possible.trim().rsplit(['-', ',']).next().and_then(|last| last.parse().ok()).unwrap_or(0);
    paths.extend((0..=last).map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle")));
    paths
}

/// The nodes of the host's /dev that every container does not have anyway.
fn devices_of_host() -> Vec<Device> {
    let mut devices = Vec::new();
    collect_devices(Path::new("/dev"), DEVICE_DEPTH, &mut devices);
    devices.sort_by(|a, b| a.path.cmp(&b.path));
    devices
}

/// What disappears meanwhile, or cannot be looked at, is left out: a privileged process can make nodes itself.
fn collect_devices(folder: &Path, depth: usize, devices: &mut Vec<Device>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(metadata) = entry.metadata() else { continue };
        let kind = metadata.file_type();
        if kind.is_dir() {
            if depth > 0 && !NO_DEVICES.iter().any(|other| name == *other) {
                collect_devices(&path, depth - 1, devices);
            }
            continue;
        }
        let device_type = match (kind.is_char_device(), kind.is_block_device()) {
            (true, _) => "c",
            (_, true) => "b",
            _ => continue,
        };
        // The container has its own.
        if ["/dev/console", "/dev/tty", "/dev/ptmx"].iter().any(|other| path == Path::new(other)) {
            continue;
        }
        devices.push(Device {
            path,
            device_type: device_type.to_owned(),
            major: i64::from(rustix::fs::major(metadata.rdev())),
            minor: i64::from(rustix::fs::minor(metadata.rdev())),
            file_mode: Some(metadata.mode() & 0o7777),
            uid: Some(metadata.uid()),
            gid: Some(metadata.gid()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etc() -> EtcFiles {
        EtcFiles { resolv_conf: "/r/resolv".into(), hostname: "/r/name".into(), hosts: "/r/hosts".into() }
    }

    #[test]
    fn mounts_come_after_those_above_them_and_own_ones_replace_ours() {
        let own = vec![
            bind("/etc/ssl/certs", Path::new("/a"), &["bind"]),
            mount("/etc", "tmpfs", "tmpfs", &[]),
            bind("/etc/hosts", Path::new("/b"), &["bind"]),
        ];
        let mounts = Isolation::default().mounts(&etc(), own);
        let order: Vec<_> = mounts[6..].iter().map(|mount| mount.destination.to_str().unwrap()).collect();
        assert_eq!(
            order,
            ["/etc", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts", "/sys/fs/cgroup", "/etc/ssl/certs"]
        );
        assert_eq!(mounts.iter().find(|m| m.destination == Path::new("/etc/hosts")).unwrap().source, Some("/b".into()));
    }

    #[test]
    fn privilege_is_given_only_when_asked_for() {
        let ordinary = Isolation::default().linux();
        assert!(ordinary.seccomp.is_some() && ordinary.devices.is_empty());
        assert!(ordinary.masked_paths.iter().any(|path| path == "/proc/kcore"));
        assert!(!ordinary.resources.unwrap().devices[0].allow);
        assert_eq!(Isolation::default().capabilities().bounding.len(), 14);
        let privileged = Isolation { privileged: true, ..Isolation::default() };
        let linux = privileged.linux();
        assert!(linux.seccomp.is_none() && linux.masked_paths.is_empty() && linux.readonly_paths.is_empty());
        assert!(linux.resources.unwrap().devices[0].allow);
        assert!(linux.devices.iter().all(|device| device.path != Path::new("/dev/tty")));
    }

    #[test]
    fn shared_memory_has_the_size_that_was_asked_for() {
        let isolation = Isolation { shm_size: Some(1 << 20), ..Isolation::default() };
        let mounts = isolation.mounts(&etc(), Vec::new());
        let shm = mounts.iter().find(|mount| mount.destination == Path::new("/dev/shm")).unwrap();
        assert!(shm.options.contains(&"size=1024k".to_owned()));
    }
}
