//! From a request to plain data: everything that can be checked or computed before a process exists.

mod mount;
mod process;

pub(crate) use mount::{MountPlan, Source};
pub(crate) use process::{ProcessPlan, RlimitPlan, UserPlan};

use crate::cgroup::{Hierarchies, Limits};
use crate::error::Error;
use crate::request::{CreateRequest, RootFilesystem, Stdio};
use mount::clean_absolute;
use std::path::{Path, PathBuf};
use tare_spec::runtime::{Device, DeviceRule, Linux, NamespaceKind, Resources, Spec};
use tare_sys::clone::namespaces;
use tare_sys::mount::Propagation;

/// What will be done for a container, decided without touching anything.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// Namespaces that the first process is born into; bits of clone3.
    pub new_namespaces: u64,
    /// Namespaces that it joins.
    pub join: Vec<(NamespaceKind, PathBuf)>,
    /// Whether it gets a cgroup namespace.
    pub cgroup_namespace: bool,
    /// Below each hierarchy's mount.
    pub cgroup_path: PathBuf,
    pub limits: Limits,
    pub device_rules: Vec<DeviceRule>,
    pub root_readonly: bool,
    pub root_propagation: (Propagation, bool),
    pub mounts: Vec<MountPlan>,
    pub device_nodes: Vec<Device>,
    pub masked_paths: Vec<PathBuf>,
    pub readonly_paths: Vec<PathBuf>,
    /// Paths below /proc/sys, and values.
    pub sysctls: Vec<(PathBuf, String)>,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    /// Rows and columns, where the process gets a terminal.
    pub terminal: Option<(u16, u16)>,
    pub process: ProcessPlan,
}

impl Plan {
    /// Checks the request and plans it for a host with these cgroup hierarchies.
    pub(crate) fn new(request: &CreateRequest<'_>, hierarchies: &Hierarchies) -> Result<Self, Error> {
        let spec = request.spec;
        let empty = Linux::default();
        let linux = spec.linux.as_ref().unwrap_or(&empty);
        refuse_unsupported(spec, linux)?;
        check_root(&request.root)?;
        let process = spec.process.as_ref().ok_or_else(|| Error::invalid("process", "missing"))?;
        let terminal = match request.stdio {
            Stdio::Terminal { rows, columns } => Some((rows, columns)),
            Stdio::Null | Stdio::Pipes { .. } => None,
        };
        let namespaces = Namespaces::new(linux)?;
        let resources = linux.resources.clone().unwrap_or_default();
        let mounts = spec.mounts.iter().enumerate();
        Ok(Self {
            cgroup_path: match &linux.cgroups_path {
                None => Path::new("tare").join(request.id.as_str()),
                Some(path) => cgroup_path(path)?,
            },
            limits: Limits::new(&resources, hierarchies)?,
            device_rules: device_rules(&resources),
            root_readonly: spec.root.as_ref().is_some_and(|root| root.readonly),
            root_propagation: root_propagation(linux)?,
            mounts: mounts.map(|(index, mount)| MountPlan::new(index, mount)).collect::<Result<_, _>>()?,
            device_nodes: device_nodes(&linux.devices)?,
            masked_paths: absolute_paths("linux.maskedPaths", &linux.masked_paths)?,
            readonly_paths: absolute_paths("linux.readonlyPaths", &linux.readonly_paths)?,
            sysctls: sysctls(linux, &namespaces)?,
            hostname: namespaces.named("hostname", spec.hostname.as_deref())?,
            domainname: namespaces.named("domainname", spec.domainname.as_deref())?,
            terminal,
            process: ProcessPlan::new(process, request.user, linux.seccomp.as_ref())?,
            new_namespaces: namespaces.new,
            join: namespaces.join,
            cgroup_namespace: namespaces.cgroup,
        })
    }

    /// Whether a network namespace is made for the container.
    pub(crate) fn makes_network(&self) -> bool {
        self.new_namespaces & namespaces::NETWORK != 0
    }
}

fn refuse_unsupported(spec: &Spec, linux: &Linux) -> Result<(), Error> {
    for (field, value) in [
        ("hooks", &spec.hooks),
        ("linux.uidMappings", &linux.uid_mappings),
        ("linux.gidMappings", &linux.gid_mappings),
        ("linux.timeOffsets", &linux.time_offsets),
        ("linux.netDevices", &linux.net_devices),
        ("linux.intelRdt", &linux.intel_rdt),
        ("linux.memoryPolicy", &linux.memory_policy),
        ("linux.personality", &linux.personality),
    ] {
        if value.is_some() {
            return Err(Error::unsupported(field));
        }
    }
    if linux.mount_label.as_deref().is_some_and(|label| !label.is_empty()) {
        return Err(Error::unsupported("linux.mountLabel"));
    }
    Ok(())
}

fn check_root(root: &RootFilesystem) -> Result<(), Error> {
    let paths: Vec<&PathBuf> = match root {
        RootFilesystem::Directory(path) => vec![path],
        RootFilesystem::Overlay { lower, .. } if lower.is_empty() => {
            return Err(Error::invalid("root", "an overlay needs at least one lower directory"));
        }
        RootFilesystem::Overlay { lower, upper, work, .. } => lower.iter().chain([upper, work]).collect(),
    };
    match paths.into_iter().find(|path| !path.is_absolute()) {
        Some(path) => Err(Error::invalid("root", format!("{path:?} is not an absolute path"))),
        None => Ok(()),
    }
}

struct Namespaces {
    new: u64,
    cgroup: bool,
    join: Vec<(NamespaceKind, PathBuf)>,
    kinds: Vec<NamespaceKind>,
}

impl Namespaces {
    fn new(linux: &Linux) -> Result<Self, Error> {
        let field = "linux.namespaces";
        let mut all = Self { new: 0, cgroup: false, join: Vec::new(), kinds: Vec::new() };
        for namespace in &linux.namespaces {
            if all.kinds.contains(&namespace.kind) {
                return Err(Error::invalid(field, format!("{:?} is listed twice", namespace.kind)));
            }
            all.kinds.push(namespace.kind);
            let flag = match namespace.kind {
                NamespaceKind::Pid => namespaces::PID,
                NamespaceKind::Network => namespaces::NETWORK,
                NamespaceKind::Mount => namespaces::MOUNT,
                NamespaceKind::Ipc => namespaces::IPC,
                NamespaceKind::Uts => namespaces::UTS,
                NamespaceKind::Cgroup => 0,
                NamespaceKind::User => return Err(Error::unsupported("linux.namespaces: user")),
                NamespaceKind::Time => return Err(Error::unsupported("linux.namespaces: time")),
            };
            match &namespace.path {
                Some(_) if matches!(namespace.kind, NamespaceKind::Mount | NamespaceKind::Cgroup) => {
                    return Err(Error::unsupported(format!(
                        "linux.namespaces: path of a {:?} namespace",
                        namespace.kind
                    )));
                }
                Some(path) if !path.is_absolute() => {
                    return Err(Error::invalid(field, format!("{path:?} is not an absolute path")));
                }
                Some(path) => all.join.push((namespace.kind, path.clone())),
                None if namespace.kind == NamespaceKind::Cgroup => all.cgroup = true,
                None => all.new |= flag,
            }
        }
        if all.new & namespaces::MOUNT == 0 {
            // Without it every mount below would happen on the host.
            return Err(Error::unsupported("linux.namespaces without a mount namespace"));
        }
        Ok(all)
    }

    fn has(&self, kind: NamespaceKind) -> bool {
        self.kinds.contains(&kind)
    }

    /// A host or domain name, which would be the host's own without a namespace.
    fn named(&self, field: &str, name: Option<&str>) -> Result<Option<String>, Error> {
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
        if !self.has(NamespaceKind::Uts) {
            return Err(Error::invalid(field, "set without a UTS namespace"));
        }
        // __NEW_UTS_LEN, uname(2).
        if name.len() > 64 {
            return Err(Error::invalid(field, format!("{name:?} is longer than 64 bytes")));
        }
        Ok(Some(name.to_owned()))
    }
}

fn cgroup_path(path: &Path) -> Result<PathBuf, Error> {
    let text = path.to_string_lossy();
    if text.contains(':') {
        return Err(Error::unsupported(format!("linux.cgroupsPath {text:?} (systemd's slice:prefix:name)")));
    }
    let clean = clean_absolute(&Path::new("/").join(path))
        .and_then(|path| path.strip_prefix("/").map(Path::to_path_buf).ok())
        .filter(|path| !path.as_os_str().is_empty());
    clean.ok_or_else(|| Error::invalid("linux.cgroupsPath", format!("{text:?} is no path of a cgroup")))
}

fn root_propagation(linux: &Linux) -> Result<(Propagation, bool), Error> {
    Ok(match linux.rootfs_propagation.as_deref().unwrap_or_default() {
        "" | "rprivate" => (Propagation::Private, true),
        "private" => (Propagation::Private, false),
        "slave" => (Propagation::Slave, false),
        "rslave" => (Propagation::Slave, true),
        "shared" => (Propagation::Shared, false),
        "rshared" => (Propagation::Shared, true),
        "unbindable" => (Propagation::Unbindable, false),
        "runbindable" => (Propagation::Unbindable, true),
        other => return Err(Error::invalid("linux.rootfsPropagation", format!("{other:?} is unknown"))),
    })
}

fn absolute_paths(field: &str, paths: &[String]) -> Result<Vec<PathBuf>, Error> {
    let path = |path: &String| {
        clean_absolute(path.as_ref())
            .filter(|clean| clean != Path::new("/"))
            .ok_or_else(|| Error::invalid(field, format!("{path:?} is not an absolute path below /")))
    };
    paths.iter().map(path).collect()
}

/// Numbers of the devices that every container has (config-linux.md, "Default Devices").
pub(crate) const DEFAULT_DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Everything is denied, then come the configuration's rules, then what every container needs.
fn device_rules(resources: &Resources) -> Vec<DeviceRule> {
    let rule = |major: Option<u32>, minor: Option<u32>, device_type: &str, access: &str| DeviceRule {
        allow: true,
        device_type: Some(device_type.to_owned()),
        major: major.map(i64::from),
        minor: minor.map(i64::from),
        access: Some(access.to_owned()),
    };
    let mut rules = vec![DeviceRule { allow: false, access: Some("rwm".to_owned()), ..DeviceRule::default() }];
    // Nodes may be made, as with Docker: opening them is what counts.
    rules.push(rule(None, None, "c", "m"));
    rules.push(rule(None, None, "b", "m"));
    let denies_all = |rule: &DeviceRule| !rule.allow && rule.major.is_none() && rule.minor.is_none();
    let own = resources.devices.iter();
    // A leading "deny all" is ours already and would undo the two rules above.
    rules.extend(own.skip_while(|rule| denies_all(rule)).cloned());
    rules.extend(DEFAULT_DEVICES.map(|(_, major, minor)| rule(Some(major), Some(minor), "c", "rwm")));
    // The console, /dev/ptmx and the terminals of devpts.
    rules.push(rule(Some(5), Some(1), "c", "rwm"));
    rules.push(rule(Some(5), Some(2), "c", "rwm"));
    rules.push(rule(Some(136), None, "c", "rwm"));
    rules
}

fn device_nodes(devices: &[Device]) -> Result<Vec<Device>, Error> {
    let mut nodes = Vec::with_capacity(devices.len());
    for device in devices {
        let field = "linux.devices";
        let path = clean_absolute(&device.path).filter(|path| path.parent().is_some_and(|p| p != Path::new("/")));
        let Some(path) = path else {
            return Err(Error::invalid(field, format!("{:?} is not an absolute path of a node", device.path)));
        };
        if !matches!(device.device_type.as_str(), "b" | "c" | "u" | "p") {
            return Err(Error::invalid(field, format!("{:?} is no type of a device", device.device_type)));
        }
        // 12 and 20 bits are what the kernel has (MINORBITS of linux/kdev_t.h).
        if !(0..1 << 12).contains(&device.major) || !(0..1 << 20).contains(&device.minor) {
            return Err(Error::invalid(field, format!("{}:{} is no device number", device.major, device.minor)));
        }
        nodes.push(Device { path, ..device.clone() });
    }
    Ok(nodes)
}

/// Only kernel parameters that belong to a namespace of the container may be set; the others are the host's.
fn sysctls(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<(PathBuf, String)>, Error> {
    const IPC: [&str; 8] = [
        "kernel/msgmax",
        "kernel/msgmnb",
        "kernel/msgmni",
        "kernel/sem",
        "kernel/shmall",
        "kernel/shmmax",
        "kernel/shmmni",
        "kernel/shm_rmid_forced",
    ];
    let mut plan = Vec::with_capacity(linux.sysctl.len());
    for (name, value) in &linux.sysctl {
        let field = format!("linux.sysctl[{name}]");
        // Both spellings of sysctl(8): the first separator decides, the other one is then part of a name.
        let path = match name.find(['.', '/']).map(|at| name.as_bytes()[at]) {
            Some(b'.') => name
                .chars()
                .map(|c| match c {
                    '.' => '/',
                    '/' => '.',
                    other => other,
                })
                .collect(),
            _ => name.clone(),
        };
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\0') {
            return Err(Error::invalid(&field, "is no name of a kernel parameter"));
        }
        let needs = if IPC.contains(&path.as_str()) || path.starts_with("fs/mqueue/") {
            Some(NamespaceKind::Ipc)
        } else if path.starts_with("net/") {
            Some(NamespaceKind::Network)
        } else if path == "kernel/domainname" {
            Some(NamespaceKind::Uts)
        } else {
            None
        };
        match needs {
            None => return Err(Error::invalid(&field, "is not in a separate kernel namespace")),
            Some(kind) if !namespaces.has(kind) => {
                return Err(Error::invalid(&field, format!("needs a {kind:?} namespace of the container")));
            }
            Some(_) => plan.push((PathBuf::from(path), value.clone())),
        }
    }
    Ok(plan)
}

#[cfg(test)]
mod tests;
