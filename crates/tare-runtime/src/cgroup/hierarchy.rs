//! Which cgroup hierarchies this host has.

use crate::error::{Error, Step};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// `CGROUP2_SUPER_MAGIC` (linux/magic.h).
const CGROUP2_MAGIC: rustix::fs::FsWord = 0x6367_7270;

const MOUNT_INFO: &str = "/proc/self/mountinfo";

/// The mounted cgroup hierarchies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// Where cgroup2 is mounted: the whole of it, or on hybrid hosts the part without controllers.
    pub v2: Option<PathBuf>,
    /// Where each v1 controller is mounted; `name=systemd` and its like are left out.
    pub v1: BTreeMap<String, PathBuf>,
}

impl Hierarchies {
    /// Finds them in the caller's mount table.
    ///
    /// # Errors
    /// When /proc/self/mountinfo cannot be read.
    pub fn detect() -> Result<Self, Error> {
        // The kernel makes the table anew for each read, from its start: few large ones.
        let mut text = String::with_capacity(1 << 14);
        let read = File::open(MOUNT_INFO).and_then(|mut file| file.read_to_string(&mut text));
        read.map_err(Error::step(Step::FindCgroups, MOUNT_INFO))?;
        Ok(Self::parse(&text))
    }

    /// Where cgroup2 is mounted; for who needs no more, as the usual places are quickly looked at.
    ///
    /// # Errors
    /// As [`Hierarchies::detect`].
    pub(super) fn detect_v2() -> Result<Option<PathBuf>, Error> {
        let is_v2 = |place: &&str| rustix::fs::statfs(*place).is_ok_and(|status| status.f_type == CGROUP2_MAGIC);
        match ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].into_iter().find(is_v2) {
            Some(place) => Ok(Some(place.into())),
            None => Ok(Self::detect()?.v2),
        }
    }

    /// Whether all controllers are v2's.
    #[must_use]
    pub fn is_pure_v2(&self) -> bool {
        self.v2.is_some() && self.v1.is_empty()
    }

    /// Format: proc_pid_mountinfo(5). Where a hierarchy is mounted several times, the first mount of its top counts.
    fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let mut before = before.split(' ').skip(3);
            let (Some(_root), Some(target)) = (before.next(), before.next()) else { continue };
            let mut after = after.split(' ');
            let (Some(kind), Some(options)) = (after.next(), after.nth(1)) else { continue };
            match kind {
                "cgroup2" => {
                    found.v2.get_or_insert_with(|| PathBuf::from(unescape(target)));
                }
                "cgroup" => {
                    for option in options.split(',').filter(|option| CONTROLLERS.contains(option)) {
                        found.v1.entry(option.to_owned()).or_insert_with(|| PathBuf::from(unescape(target)));
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// Whether cgroups can have this controller without a change of what others have: of v2, the top gives it to its children
    /// already, as it cannot begin to while there are processes in it (cgroup-v2, "No Internal Process Constraint").
    #[must_use]
    pub fn gives(&self, controller: &str) -> bool {
        match &self.v2 {
            Some(mount) if self.is_pure_v2() => {
                let given = std::fs::read_to_string(mount.join("cgroup.subtree_control")).unwrap_or_default();
                given.split_whitespace().any(|given| given == controller)
            }
            _ => self.v1_mount(controller).is_some(),
        }
    }

    /// Where a v1 controller is mounted.
    #[must_use]
    pub fn v1_mount(&self, controller: &str) -> Option<&Path> {
        self.v1.get(controller).map(PathBuf::as_path)
    }
}

/// Names of v1 controllers among the mount options; everything else there is `rw`, `name=…` and the like.
const CONTROLLERS: [&str; 13] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];

/// Undoes the kernel's octal escapes of space, tab, newline and backslash.
fn unescape(path: &str) -> String {
    let mut plain = path.to_owned();
    for (escape, character) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        if plain.contains(escape) {
            plain = plain.replace(escape, character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_hosts_have_both() {
        let found = Hierarchies::parse(
            "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
             40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime shared:9 - cgroup cgroup rw,xattr,name=systemd\n\
             41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime shared:1 master:2 - cgroup2 cgroup2 rw\n\
             27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n",
        );
        assert_eq!(found.v2.as_deref(), Some(Path::new("/sys/fs/cgroup/uni fied")));
        assert_eq!(found.v1.keys().collect::<Vec<_>>(), ["cpu", "cpuacct"]);
        assert!(!found.is_pure_v2());
    }

    #[test]
    fn unified_hosts_have_v2_only() {
        let found = Hierarchies::parse("26 25 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n");
        assert!(found.is_pure_v2());
    }
}
