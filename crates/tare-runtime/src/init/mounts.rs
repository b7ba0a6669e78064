//! The configuration's mounts.

use super::rootfs::{Rootfs, attach};
use crate::error::{Error, Step};
use crate::plan::{MountPlan, Source};
use rustix::fs::{CWD, FileType};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, open_tree,
};
use std::os::fd::OwnedFd;
use tare_sys::mount::{Attributes, Propagation, set_attributes};

/// Clones the sources of bind mounts while the host's mount table is still what it was, so that they keep their
/// propagation where that is asked for, and so that nothing of the container can stand in their way.
pub(super) fn open_sources(mounts: &[MountPlan]) -> Result<Vec<Option<OwnedFd>>, Error> {
    let open = |mount: &MountPlan| {
        let Source::Bind { path, recursive } = &mount.source else { return Ok(None) };
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if *recursive {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        open_tree(CWD, path, flags).map(Some).map_err(Error::step(Step::OpenSource, path.display()))
    };
    mounts.iter().map(open).collect()
}

/// Mounts one of them; `cgroup` does it for cgroups.
pub(super) fn mount(
    root: &Rootfs,
    plan: &MountPlan,
    source: Option<OwnedFd>,
    cgroup: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    match (&plan.source, source) {
        (Source::Bind { .. }, Some(source)) => bind(root, plan, &source),
        (Source::New { fs_type, device, data }, _) => {
            let target = root.make_target(&plan.target, true)?;
            let mount = new_file_system(fs_type, device.as_deref(), data, plan.attributes)
                .map_err(Error::step(Step::Mount, format_args!("{fs_type} on {}", plan.target.display())))?;
            attach(&mount, target).map_err(Error::step(Step::Mount, plan.target.display()))?;
            change(plan, &mount, Attributes { propagation: plan.attributes.propagation, ..Attributes::default() })
        }
        (Source::Cgroup | Source::Bind { .. }, _) => cgroup(),
    }
}

fn bind(root: &Rootfs, plan: &MountPlan, source: &OwnedFd) -> Result<(), Error> {
    let status = rustix::fs::fstat(source).map_err(Error::step(Step::OpenSource, plan.target.display()))?;
    let target = root.make_target(&plan.target, FileType::from_raw_mode(status.st_mode) == FileType::Directory)?;
    // Whatever the host's propagation is, a container gets none unless it is asked for.
    if plan.attributes.propagation.or(plan.recursive.propagation).is_none() {
        let private = Attributes { propagation: Some(Propagation::Private), ..Attributes::default() };
        set_attributes(source, true, private).map_err(Error::step(Step::Mount, plan.target.display()))?;
    }
    change(plan, source, plan.attributes)?;
    attach(source, target).map_err(Error::step(Step::Mount, plan.target.display()))
}

fn change(plan: &MountPlan, mount: &OwnedFd, attributes: Attributes) -> Result<(), Error> {
    for (recursive, attributes) in [(true, plan.recursive), (false, attributes)] {
        if attributes != Attributes::default() {
            set_attributes(mount, recursive, attributes).map_err(Error::step(Step::Mount, plan.target.display()))?;
        }
    }
    Ok(())
}

/// Makes a mount of a new file system, not attached to anything yet.
pub(super) fn new_file_system(
    fs_type: &str,
    device: Option<&str>,
    data: &[(String, Option<String>)],
    attributes: Attributes,
) -> Result<OwnedFd, rustix::io::Errno> {
    let context = fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", device.unwrap_or(fs_type))?;
    for (key, value) in data {
        match value {
            Some(value) => fsconfig_set_string(&context, key, value.as_str())?,
            None => fsconfig_set_flag(&context, key)?,
        }
    }
    fsconfig_create(&context)?;
    // The attribute bits of fsmount are those of mount_setattr; rustix names only some.
    let attributes = MountAttrFlags::from_bits_retain(attributes.set as u32);
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}
