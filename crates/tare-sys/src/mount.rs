//! Attributes of mounts: mount_setattr; and mounts that no path leads to.

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Read-only.
pub const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
/// Set-user-id bits and file capabilities are ignored.
pub const NO_SUID: u64 = libc::MOUNT_ATTR_NOSUID;
/// Device nodes do not work.
pub const NO_DEV: u64 = libc::MOUNT_ATTR_NODEV;
/// Nothing can be executed.
pub const NO_EXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
/// Symbolic links are not followed.
pub const NO_SYMFOLLOW: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;
/// All bits that say how access times are kept; must be cleared when one of them is set.
pub const ATIME: u64 = libc::MOUNT_ATTR__ATIME;
/// Access times are not kept.
pub const NO_ATIME: u64 = libc::MOUNT_ATTR_NOATIME;
/// Access times are always kept.
pub const STRICT_ATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
/// Access times of folders are not kept.
pub const NO_DIR_ATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;

/// How mount events travel between copies of a mount; mount_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// Both ways.
    Shared,
    /// From the master only.
    Slave,
    /// Not at all, and it cannot be bind-mounted.
    Unbindable,
}

/// A change of attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear.
    pub clear: u64,
    /// Propagation to set.
    pub propagation: Option<Propagation>,
}

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes the attributes of the mount that `mount` is open on, and with `recursive` of all mounts below it.
///
/// C: `int mount_setattr(int dirfd, const char *path, unsigned flags, struct mount_attr *, size_t)`,
/// mount_setattr(2), Linux 5.12; no fallback.
///
/// # Errors
/// EPERM for attributes locked by a user namespace, EBUSY when something is open for writing, EINVAL.
pub fn set_attributes(mount: &impl AsFd, recursive: bool, attributes: Attributes) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: match attributes.propagation {
            None => 0,
            Some(Propagation::Private) => libc::MS_PRIVATE,
            Some(Propagation::Shared) => libc::MS_SHARED,
            Some(Propagation::Slave) => libc::MS_SLAVE,
            Some(Propagation::Unbindable) => libc::MS_UNBINDABLE,
        },
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: rustix has no mount_setattr. The path is a static string, and `attr` with the size given lives over the
    // call, which only reads it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What is only read needs nothing else, and reading leaves no trace in it.
const LOOK: Attributes =
    Attributes { set: READ_ONLY | NO_SUID | NO_DEV | NO_EXEC | NO_ATIME, clear: ATIME, propagation: None };

/// Mounts directories over each other, the top one first, to be read only. The mount has no place in any mount table and
/// goes with its descriptor.
///
/// overlayfs, kernel documentation `filesystems/overlayfs.rst`, "Multiple lower layers"; Linux 6.5 for `lowerdir+`, no
/// fallback: before that the options are one page, and the caller's directories may not fit. One directory alone is
/// no overlay: it is given as it is.
///
/// # Errors
/// Those of `fsconfig(2)`, `fsmount(2)`, `open_tree(2)`.
pub fn overlay(directories: &[PathBuf]) -> io::Result<OwnedFd> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let open = |path: &PathBuf| rustix::fs::open(path, flags, rustix::fs::Mode::empty());
    let mount = if let [only] = directories {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        rustix::mount::open_tree(open(only)?, "", flags | OpenTreeFlags::AT_EMPTY_PATH)?
    } else {
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(&context, "source", "tare")?;
        for directory in directories {
            // A string has 255 bytes at most, paths have more.
            let directory = open(directory)?;
            let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
            rustix::mount::fsconfig_set_string(&context, "lowerdir+", path)?;
        }
        rustix::mount::fsconfig_create(&context)?;
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?
    };
    set_attributes(&mount, false, LOOK)?;
    Ok(mount)
}

/// The root of another mount namespace without what is mounted below it, to be read only. Otherwise as [`overlay`].
///
/// A mount can be cloned from within its namespace only, so a thread of its own goes there
/// (`setns(2)` with `CLONE_NEWNS` wants one that shares its working directory with no other).
///
/// # Errors
/// Those of `setns(2)` and `open_tree(2)`.
pub fn root_of(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let clone = || -> io::Result<OwnedFd> {
        // SAFETY: rustix marks unshare unsafe because of CLONE_FILES; this flag only ends the sharing of working and root
        // directory with the other threads, which are unaffected.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
        rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount))?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(rustix::mount::open_tree(rustix::fs::CWD, "/", flags)?)
    };
    let joined = std::thread::scope(|scope| scope.spawn(clone).join());
    let mount = joined.map_err(|_| io::Error::other("the thread that enters the mount namespace panicked"))??;
    set_attributes(&mount, false, LOOK)?;
    Ok(mount)
}
