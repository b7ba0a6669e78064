//! Attributes of mounts: mount_setattr.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

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
