//! Attributes of mounts: mount_setattr; and mounts that no path leads to.

use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

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
/// # Errors
/// As [`stack`].
pub fn overlay(directories: &[PathBuf]) -> io::Result<OwnedFd> {
    let mount = stack(directories)?;
    set_attributes(&mount, false, LOOK)?;
    Ok(mount)
}

/// Mounts directories over each other, the top one first, without any attribute; what is mounted below them is not part
/// of it. Over an overlay nothing can be written; one directory alone is no overlay: it is given as it is.
///
/// overlayfs, kernel documentation `filesystems/overlayfs.rst`, "Multiple lower layers"; Linux 6.8 for `lowerdir+`. Before
/// that all are given at once, and there is room for some 15.
///
/// # Errors
/// Those of `fsconfig(2)`, `fsmount(2)`, `open_tree(2)`; `EINVAL` before Linux 6.8 for too many.
pub fn stack(directories: &[PathBuf]) -> io::Result<OwnedFd> {
    if let [only] = directories {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let only = open_directory(only)?;
        return Ok(rustix::mount::open_tree(only, "", flags | OpenTreeFlags::AT_EMPTY_PATH)?);
    }
    Ok(new_overlay(directories, &|_| Ok(()))?)
}

/// An overlay of these directories and what else is set.
fn new_overlay(lower: &[PathBuf], set: &dyn Fn(&OwnedFd) -> rustix::io::Result<()>) -> rustix::io::Result<OwnedFd> {
    match try_overlay(lower, false, set) {
        Err(Errno::INVAL) => try_overlay(lower, true, set),
        result => result,
    }
}

/// The same, with the directories given one by one, or all at once in the old way.
fn try_overlay(
    lower: &[PathBuf],
    at_once: bool,
    set: &dyn Fn(&OwnedFd) -> rustix::io::Result<()>,
) -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "source", "tare")?;
    let mut open = Vec::new();
    if at_once {
        // By descriptors, which are short and have no colons. Before Linux 6.5 nothing is looked at before the mount is made:
        // they stay until then.
        open = lower.iter().map(|path| open_directory(path)).collect::<rustix::io::Result<Vec<_>>>()?;
        let paths: Vec<String> = open.iter().map(descriptor_path).collect();
        rustix::mount::fsconfig_set_string(&context, "lowerdir", paths.join(":"))?;
    } else {
        lower.iter().try_for_each(|directory| set_directory(&context, "lowerdir+", directory))?;
    }
    set(&context)?;
    rustix::mount::fsconfig_create(&context)?;
    drop(open);
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// An overlay that is written to.
#[derive(Clone, Copy, Debug)]
pub struct WritableOverlay<'a> {
    /// Read-only layers, the top one first; at least one.
    pub lower: &'a [PathBuf],
    /// What is written.
    pub upper: &'a Path,
    /// overlayfs' work directory, on the file system of `upper`.
    pub work: &'a Path,
    /// `upper` is not synced. overlayfs refuses to mount it a second time then.
    pub volatile: bool,
}

impl WritableOverlay<'_> {
    /// Mounts it. It has no place in any mount table and goes with its descriptor. `upper` alone says what changed, whatever
    /// the kernel's defaults are.
    ///
    /// # Errors
    /// As [`stack`].
    pub fn mount(&self) -> rustix::io::Result<OwnedFd> {
        new_overlay(self.lower, &|context| {
            set_directory(context, "upperdir", self.upper)?;
            set_directory(context, "workdir", self.work)?;
            if self.volatile {
                rustix::mount::fsconfig_set_flag(context, "volatile")?;
            }
            ["redirect_dir", "metacopy"]
                .into_iter()
                .try_for_each(|option| rustix::mount::fsconfig_set_string(context, option, "off"))
        })
    }
}

/// fsconfig(2) takes strings up to 255 bytes.
const MAX_STRING: usize = 255;

/// Names a directory to a file system; one whose path is too long by a descriptor.
fn set_directory(context: &OwnedFd, key: &str, path: &Path) -> rustix::io::Result<()> {
    if path.as_os_str().len() <= MAX_STRING {
        return rustix::mount::fsconfig_set_string(context, key, path);
    }
    let directory = open_directory(path)?;
    // It is resolved by the call: the descriptor need not stay.
    rustix::mount::fsconfig_set_string(context, key, descriptor_path(&directory))
}

fn descriptor_path(directory: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", directory.as_raw_fd())
}

fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(path, flags, rustix::fs::Mode::empty())
}

/// Gives the calling process a mount namespace of its own, a copy of the one it is in; what either mounts afterwards the
/// other does not see. Other threads stay where they are.
///
/// C: `int unshare(int flags)`, unshare(2), mount_namespaces(7); needs CAP_SYS_ADMIN.
///
/// # Errors
/// EPERM, ENOSPC (limit of namespaces).
pub fn leave_namespace() -> io::Result<()> {
    // SAFETY: rustix marks unshare unsafe because of CLONE_FILES; this flag only changes which mount table the calling
    // thread sees, and ends the sharing of its working and root directory with the others.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change("/", private)?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_given_in_the_old_way_too() {
        if !rustix::process::geteuid().is_root() {
            assert_ne!(std::env::var("TARE_REQUIRE_ROOT").as_deref(), Ok("1"), "this test needs root");
            return;
        }
        let folder = std::env::temp_dir().join(format!("tare-old-overlay-{}", std::process::id()));
        let lower = ["a:b,c", "d"].map(|name| folder.join(name));
        for (path, text) in lower.iter().zip(["top", "bottom"]) {
            std::fs::create_dir_all(path).unwrap();
            std::fs::write(path.join("file"), text).unwrap();
        }
        for at_once in [false, true] {
            let mount = try_overlay(&lower, at_once, &|_| Ok(())).unwrap();
            let text = std::fs::read_to_string(format!("{}/file", descriptor_path(&mount))).unwrap();
            assert_eq!(text, "top");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
