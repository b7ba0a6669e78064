//! The container's view of its own cgroups.

use super::mounts::new_file_system;
use super::rootfs::{Rootfs, attach};
use crate::cgroup::Cgroup;
use crate::channel::{ChildEnd, Proceed};
use crate::error::{Error, Step};
use crate::plan::MountPlan;
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use tare_sys::mount::{Attributes, READ_ONLY, set_attributes};

/// Waits, once, until the process is in all its cgroups, and makes them the root of its cgroup namespace.
pub(super) struct Entry<'a> {
    namespace: bool,
    waits: bool,
    complete: bool,
    channel: &'a ChildEnd,
}

impl<'a> Entry<'a> {
    pub(super) fn new(namespace: bool, waits: bool, channel: &'a ChildEnd) -> Self {
        Self { namespace, waits, complete: false, channel }
    }

    pub(super) fn complete(&mut self) -> Result<(), Error> {
        if self.complete {
            return Ok(());
        }
        self.complete = true;
        if self.waits {
            self.channel.wait_for(Proceed::Entered)?;
        }
        if self.namespace {
            tare_sys::clone::unshare_cgroup().map_err(Error::step(Step::JoinNamespace, "of its own cgroups"))?;
        }
        Ok(())
    }
}

/// Mounts the cgroups as the host has them: cgroup2 alone, or a folder with one mount for each hierarchy. There only
/// the hierarchies that the container has a cgroup of its own in are shown; in the others it would see the host's.
pub(super) fn mount(root: &Rootfs, plan: &MountPlan, entry: &mut Entry<'_>, cgroup: &Cgroup) -> Result<(), Error> {
    entry.complete()?;
    let namespace = entry.namespace;
    let target = root.make_directory(&plan.target)?;
    let object = format!("cgroups on {}", plan.target.display());
    let failed = || Error::step(Step::Mount, &object);
    let attributes = Attributes { propagation: None, ..plan.attributes };
    let hierarchies = cgroup.hierarchies();

    let own_v2 = |directory: &Path| open_hierarchy("cgroup2", &[], directory, namespace, attributes);
    if let (true, Some(directory)) = (hierarchies.is_pure_v2(), cgroup.v2_directory()) {
        let mount = own_v2(&directory).map_err(failed())?;
        return attach(&mount, target).map_err(failed());
    }

    let data = [("mode".to_owned(), Some("755".to_owned()))];
    let writable = Attributes { set: attributes.set & !READ_ONLY, ..attributes };
    let folder = new_file_system("tmpfs", Some("cgroup"), &data, writable).map_err(failed())?;
    attach(&folder, target).map_err(failed())?;
    if let Some(directory) = cgroup.v2_directory() {
        let target = root.make_directory(&plan.target.join("unified"))?;
        attach(own_v2(&directory).map_err(failed())?, target).map_err(failed())?;
    }
    let mut mounts: BTreeMap<&Path, Vec<&str>> = BTreeMap::new();
    for (controller, mount) in &hierarchies.v1 {
        mounts.entry(mount).or_default().push(controller);
    }
    for (_, controllers) in mounts {
        let Some(directory) = cgroup.v1_own_directory(controllers[0]) else { continue };
        let mount = open_hierarchy("cgroup", &controllers, &directory, namespace, attributes).map_err(failed())?;
        let target = root.make_directory(&plan.target.join(controllers.join(",")))?;
        attach(&mount, target).map_err(failed())?;
    }
    if attributes.set & READ_ONLY != 0 {
        set_attributes(&folder, false, Attributes { set: READ_ONLY, ..Attributes::default() })
            .map_err(Error::step(Step::Mount, &object))?;
    }
    Ok(())
}

/// With a cgroup namespace a new mount shows the container's cgroup as its root; without one, only a bind mount does.
fn open_hierarchy(
    fs_type: &str,
    controllers: &[&str],
    directory: &Path,
    namespace: bool,
    attributes: Attributes,
) -> Result<OwnedFd, rustix::io::Errno> {
    if namespace {
        let flags: Vec<_> = controllers.iter().map(|controller| ((*controller).to_owned(), None)).collect();
        return new_file_system(fs_type, Some("cgroup"), &flags, attributes);
    }
    let tree = open_tree(CWD, directory, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    set_attributes(&tree, false, attributes)
        .map_err(|error| rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))?;
    Ok(tree)
}
