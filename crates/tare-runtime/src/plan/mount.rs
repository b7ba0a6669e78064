//! Mounts of the configuration, with their options taken apart.

use crate::error::Error;
use std::path::{Component, Path, PathBuf};
use tare_spec::runtime::Mount;
use tare_sys::mount::{self, Attributes, Propagation};

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A path of the host.
    Bind {
        /// Absolute path.
        path: PathBuf,
        /// With the mounts below it.
        recursive: bool,
    },
    /// The container's own cgroups, in the layout of the host.
    Cgroup,
    /// A new file system.
    New {
        /// Its type.
        fs_type: String,
        /// Shown as its source in the mount table.
        device: Option<String>,
        /// Options of its own: keys, and values where they have one.
        data: Vec<(String, Option<String>)>,
    },
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountPlan {
    pub target: PathBuf,
    pub source: Source,
    /// Attributes of the mount itself.
    pub attributes: Attributes,
    /// Attributes of it and all mounts below it; propagation `r…` is here.
    pub recursive: Attributes,
}

impl MountPlan {
    /// Takes a mount of the configuration apart; `index` is its place there.
    pub(crate) fn new(index: usize, spec: &Mount) -> Result<Self, Error> {
        let field = |name: &str| format!("mounts[{index}].{name}");
        if spec.uid_mappings.is_some() || spec.gid_mappings.is_some() {
            return Err(Error::unsupported(field("uidMappings")));
        }
        let target = clean_absolute(&spec.destination)
            .ok_or_else(|| Error::invalid(&field("destination"), format!("{:?} is not absolute", spec.destination)))?;
        if target == Path::new("/") {
            return Err(Error::invalid(&field("destination"), "\"/\" would hide the root file system"));
        }
        let fs_type = spec.fs_type.as_deref().unwrap_or_default();
        check_proc_target(&target, fs_type).map_err(|reason| Error::invalid(&field("destination"), reason))?;

        let mut options = Options::default();
        for option in &spec.options {
            options.add(option, &field("options"))?;
        }
        let source = if options.bind || fs_type == "bind" {
            let path = spec.source.as_deref().filter(|path| path.is_absolute()).ok_or_else(|| {
                Error::invalid(
                    &field("source"),
                    format!("{:?} is not an absolute path", spec.source.clone().unwrap_or_default()),
                )
            })?;
            if let Some((key, _)) = options.data.first() {
                return Err(Error::invalid(&field("options"), format!("{key:?} is no option of a bind mount")));
            }
            Source::Bind { path: path.to_path_buf(), recursive: options.bind_recursive }
        } else if fs_type == "cgroup" || fs_type == "cgroup2" {
            Source::Cgroup
        } else if fs_type.is_empty() {
            return Err(Error::invalid(&field("type"), "missing"));
        } else {
            Source::New {
                fs_type: fs_type.to_owned(),
                device: spec.source.as_ref().map(|path| path.to_string_lossy().into_owned()),
                data: options.data,
            }
        };
        Ok(Self { target, source, attributes: options.attributes, recursive: options.recursive })
    }
}

/// Makes `path` absolute and free of `.` and `..`, which do not go above the root.
pub(crate) fn clean_absolute(path: &Path) -> Option<PathBuf> {
    if !path.is_absolute() || path.as_os_str().as_encoded_bytes().contains(&0) {
        return None;
    }
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(clean)
}

/// Files of /proc that lxcfs and its like replace. Anything else mounted there could fool the programs that write
/// security labels through /proc/self (CVE-2019-16884, CVE-2025-52881).
const PROC_FILES: [&str; 9] =
    ["cpuinfo", "diskstats", "loadavg", "meminfo", "net/dev", "slabinfo", "stat", "swaps", "uptime"];

fn check_proc_target(target: &Path, fs_type: &str) -> Result<(), String> {
    let Ok(below) = target.strip_prefix("/proc") else { return Ok(()) };
    if below.as_os_str().is_empty() {
        return if fs_type == "proc" || fs_type == "bind" {
            Ok(())
        } else {
            Err("only procfs can be mounted on /proc".to_owned())
        };
    }
    if PROC_FILES.iter().any(|file| below == Path::new(file)) {
        return Ok(());
    }
    Err(format!("{} is inside /proc, where nothing can be mounted", target.display()))
}

#[derive(Default)]
struct Options {
    bind: bool,
    bind_recursive: bool,
    attributes: Attributes,
    recursive: Attributes,
    data: Vec<(String, Option<String>)>,
}

impl Options {
    fn add(&mut self, option: &str, field: &str) -> Result<(), Error> {
        use Propagation::{Private, Shared, Slave, Unbindable};
        match option {
            "defaults" | "silent" | "loud" | "" => {}
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.bind_recursive) = (true, true),
            "private" => self.attributes.propagation = Some(Private),
            "shared" => self.attributes.propagation = Some(Shared),
            "slave" => self.attributes.propagation = Some(Slave),
            "unbindable" => self.attributes.propagation = Some(Unbindable),
            "rprivate" => self.recursive.propagation = Some(Private),
            "rshared" => self.recursive.propagation = Some(Shared),
            "rslave" => self.recursive.propagation = Some(Slave),
            "runbindable" => self.recursive.propagation = Some(Unbindable),
            "tmpcopyup" | "idmap" | "ridmap" | "remount" => {
                return Err(Error::unsupported(format!("{field}: {option}")));
            }
            _ => {
                if let Some(change) = attribute(option) {
                    change.apply(&mut self.attributes);
                } else if let Some(change) = option.strip_prefix('r').and_then(attribute) {
                    change.apply(&mut self.recursive);
                } else {
                    let (key, value) = match option.split_once('=') {
                        Some((key, value)) => (key, Some(value.to_owned())),
                        None => (option, None),
                    };
                    self.data.push((key.to_owned(), value));
                }
            }
        }
        Ok(())
    }
}

struct Change {
    set: u64,
    clear: u64,
}

impl Change {
    fn apply(&self, attributes: &mut Attributes) {
        attributes.set = attributes.set & !self.clear | self.set;
        attributes.clear = attributes.clear & !self.set | self.clear;
    }
}

fn attribute(option: &str) -> Option<Change> {
    use mount::{ATIME, NO_ATIME, NO_DEV, NO_DIR_ATIME, NO_EXEC, NO_SUID, NO_SYMFOLLOW, READ_ONLY, STRICT_ATIME};
    let set = |set| Some(Change { set, clear: 0 });
    let clear = |clear| Some(Change { set: 0, clear });
    // relatime is the value 0 among the access time bits, and the kernel wants all of them cleared to set one.
    let time = |set| Some(Change { set, clear: ATIME });
    match option {
        "ro" => set(READ_ONLY),
        "rw" => clear(READ_ONLY),
        "nosuid" => set(NO_SUID),
        "suid" => clear(NO_SUID),
        "nodev" => set(NO_DEV),
        "dev" => clear(NO_DEV),
        "noexec" => set(NO_EXEC),
        "exec" => clear(NO_EXEC),
        "nosymfollow" => set(NO_SYMFOLLOW),
        "symfollow" => clear(NO_SYMFOLLOW),
        "nodiratime" => set(NO_DIR_ATIME),
        "diratime" => clear(NO_DIR_ATIME),
        "noatime" => time(NO_ATIME),
        "strictatime" => time(STRICT_ATIME),
        "relatime" | "atime" | "norelatime" | "nostrictatime" => time(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(destination: &str, fs_type: &str, options: &[&str]) -> Result<MountPlan, Error> {
        MountPlan::new(
            0,
            &Mount {
                destination: destination.into(),
                fs_type: Some(fs_type.into()),
                source: Some("/src".into()),
                options: options.iter().map(ToString::to_string).collect(),
                ..Mount::default()
            },
        )
    }

    #[test]
    fn options_become_attributes() {
        let mount =
            plan("/a/../data/./x", "bind", &["rbind", "ro", "rnosuid", "rslave", "noatime", "rw", "ro"]).unwrap();
        assert_eq!(mount.target, Path::new("/data/x"));
        assert_eq!(mount.source, Source::Bind { path: "/src".into(), recursive: true });
        assert_eq!(mount.attributes.set, mount::READ_ONLY | mount::NO_ATIME);
        assert_eq!(mount.attributes.clear, mount::ATIME & !mount::NO_ATIME | mount::NO_ATIME & mount::ATIME);
        assert_eq!((mount.recursive.set, mount.recursive.propagation), (mount::NO_SUID, Some(Propagation::Slave)));
        let tmpfs = plan("/tmp", "tmpfs", &["mode=1777", "size=64k", "nosuid"]).unwrap();
        let Source::New { data, .. } = tmpfs.source else { panic!("{tmpfs:?}") };
        assert_eq!(data, [("mode".into(), Some("1777".into())), ("size".into(), Some("64k".into()))]);
    }

    #[test]
    fn dangerous_targets_are_refused() {
        for (target, fs_type, options) in [
            ("relative", "tmpfs", &[][..]),
            ("/", "tmpfs", &[]),
            ("/x/..", "tmpfs", &[]),
            ("/proc/self/attr", "bind", &["bind"]),
            ("/proc", "tmpfs", &[]),
            ("/x", "bind", &["size=5"]),
            ("/x", "tmpfs", &["tmpcopyup"]),
            ("/x", "", &[]),
        ] {
            assert!(plan(target, fs_type, options).is_err(), "{target} {fs_type}");
        }
        assert!(plan("/proc/meminfo", "bind", &["bind"]).is_ok());
    }
}
