//! Paths that are hidden or made read-only.

use super::mounts::new_file_system;
use super::rootfs::{Rootfs, attach};
use crate::error::{Error, Step};
use rustix::fs::{CWD, FileType, makedev};
use rustix::io::Errno as Os;
use rustix::mount::{OpenTreeFlags, open_tree};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use tare_sys::mount::{Attributes, NO_DEV, NO_EXEC, NO_SUID, READ_ONLY, set_attributes};

/// Makes existing paths read-only, with what is mounted below them.
pub(super) fn make_readonly(root: &Rootfs, paths: &[PathBuf]) -> Result<(), Error> {
    for path in paths {
        let Some((target, _)) = find(root, path, Step::MakeReadOnly)? else { continue };
        let flags = clone_flags() | OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::AT_RECURSIVE;
        let tree = open_tree(&target, "", flags).map_err(Error::step(Step::MakeReadOnly, path.display()))?;
        set_attributes(&tree, true, Attributes { set: READ_ONLY, ..Attributes::default() })
            .map_err(Error::step(Step::MakeReadOnly, path.display()))?;
        attach(&tree, &target).map_err(Error::step(Step::MakeReadOnly, path.display()))?;
    }
    Ok(())
}

/// Hides existing paths: files behind the host's /dev/null, directories behind an empty read-only tmpfs.
pub(super) fn mask(root: &Rootfs, paths: &[PathBuf]) -> Result<(), Error> {
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let failed = |error: Os| Error::step(Step::Mask, path.display())(error);
        let Some((target, file_type)) = find(root, path, Step::Mask)? else { continue };
        if file_type != FileType::Directory {
            attach(open_null()?, &target).map_err(failed)?;
            continue;
        }
        match &empty {
            None => {
                let attributes = Attributes { set: READ_ONLY | NO_SUID | NO_DEV | NO_EXEC, ..Attributes::default() };
                let data =
                    [("nr_blocks".to_owned(), Some("1".to_owned())), ("nr_inodes".to_owned(), Some("1".to_owned()))];
                let mount = new_file_system("tmpfs", None, &data, attributes).map_err(failed)?;
                attach(&mount, &target).map_err(failed)?;
                empty = Some(mount);
            }
            // One superblock is enough for all of them.
            Some(first) => {
                let tree = open_tree(first, "", clone_flags() | OpenTreeFlags::AT_EMPTY_PATH).map_err(failed)?;
                attach(&tree, &target).map_err(failed)?;
            }
        }
    }
    Ok(())
}

fn clone_flags() -> OpenTreeFlags {
    OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC
}

/// Paths that this kernel or image does not have need no protection.
fn find(root: &Rootfs, path: &Path, step: Step) -> Result<Option<(OwnedFd, FileType)>, Error> {
    match root.find(path) {
        Ok((target, status)) => Ok(Some((target, FileType::from_raw_mode(status.st_mode)))),
        Err(Os::NOENT | Os::NOTDIR) => Ok(None),
        Err(Os::LOOP) => Err(Error::refused(step, path.display(), "has a symbolic link in it")),
        Err(error) => Err(Error::step(step, path.display())(error)),
    }
}

/// The host's /dev/null as a mount of its own. What it really is is asked of the descriptor: a path would only say what
/// was there a moment ago (CVE-2025-31133).
fn open_null() -> Result<OwnedFd, Error> {
    let null = open_tree(CWD, "/dev/null", clone_flags()).map_err(Error::step(Step::OpenSource, "/dev/null"))?;
    check_null(&null)?;
    // It is the host's inode: the container's root could change its mode and owner for all of the host. A read-only
    // mount refuses that, and still lets a device be read and written.
    set_attributes(&null, false, Attributes { set: READ_ONLY | NO_SUID | NO_EXEC, ..Attributes::default() })
        .map_err(Error::step(Step::OpenSource, "/dev/null"))?;
    Ok(null)
}

/// Makes sure that an opened file is the null device.
pub(super) fn check_null(file: &OwnedFd) -> Result<(), Error> {
    if is_null(file).map_err(Error::step(Step::OpenSource, "/dev/null"))? {
        Ok(())
    } else {
        Err(Error::refused(Step::OpenSource, "/dev/null", "is not the null device"))
    }
}

/// Whether an opened file is a null device, the host's or a container's.
pub(super) fn is_null(file: &OwnedFd) -> Result<bool, Os> {
    let status = rustix::fs::fstat(file)?;
    let is_device = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice;
    Ok(is_device && status.st_rdev == makedev(1, 3))
}
