//! Directories whose contents nobody trusts: every path is resolved inside them, every change is made to a
//! name in an open directory.
//!
//! Resolution is the kernel's (`openat2(2)`, Linux 5.6, `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`): absolute
//! symbolic links and `..` stay inside, whoever swaps names meanwhile.

mod inspect;

pub use inspect::Metadata;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, RawMode, ResolveFlags, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// How deep [`Directory::clear`] holds directories open before it moves deeper ones up: well below the usual
/// limit of 1024 descriptors.
const DEPTH: usize = 64;

/// How often [`Directory::remove`] empties a directory that others put something into.
const REMOVALS: usize = 64;

/// How often `openat2` is asked again after `EAGAIN`, which it answers when something was renamed while it
/// resolved a `..` (see its man page).
const ATTEMPTS: usize = 256;

/// An open directory, readable, close-on-exec.
#[derive(Debug)]
pub struct Directory(OwnedFd);

/// What a name in a directory is, without following it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Regular file, directory, symbolic link, …
    pub file_type: FileType,
    /// The device number of a device node.
    pub device: u64,
}

impl Directory {
    /// Opens a directory by a path that the caller trusts.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Opens the root of a mount, or another directory, of which only a handle (`O_PATH`) is there.
    ///
    /// # Errors
    /// Those of `openat(2)`.
    pub fn of(handle: &impl AsFd) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(handle, ".", flags, Mode::empty())?))
    }

    /// Resolves a path inside this directory as if it were the root, symbolic links included, and opens the
    /// directory it leads to.
    ///
    /// # Errors
    /// Those of `openat2(2)`; `ENOTDIR` when the path leads to something else.
    pub fn resolve(&self, path: &Path) -> io::Result<Self> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        self.resolve_with(path, OFlags::RDONLY | OFlags::DIRECTORY).map(Self)
    }

    /// Resolves a path like [`Directory::resolve`] and opens the regular file it leads to for reading. Never
    /// waits for a FIFO or a device.
    ///
    /// # Errors
    /// Those of `openat2(2)`; `InvalidInput` when the path leads to anything but a regular file.
    pub fn resolve_file(&self, path: &Path) -> io::Result<File> {
        let file = File::from(self.resolve_with(path, OFlags::RDONLY | OFlags::NONBLOCK)?);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
        }
    }

    /// Resolves a path like [`Directory::resolve`] and opens whatever it leads to without access (`O_PATH`): nothing waits,
    /// nothing happens to a device.
    ///
    /// # Errors
    /// Those of `openat2(2)`.
    pub fn handle(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        self.resolve_with(path, OFlags::PATH)
    }

    fn resolve_with(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..ATTEMPTS {
            match rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Opens the directory of this name; a symbolic link is not followed.
    ///
    /// # Errors
    /// Those of `openat(2)`; `ENOTDIR` for anything but a directory.
    pub fn child(&self, name: &OsStr) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(&self.0, component(name)?, flags, Mode::empty())?))
    }

    /// Opens the regular file of this name for reading; a symbolic link is not followed, nothing blocks.
    ///
    /// # Errors
    /// Those of `openat(2)`; `InvalidInput` for anything but a regular file.
    pub fn child_file(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&self.0, component(name)?, flags, Mode::empty())?);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
        }
    }

    /// What this name is, or `None` when it does not exist.
    ///
    /// # Errors
    /// Those of `fstatat(2)` other than `ENOENT`.
    pub fn find(&self, name: &OsStr) -> io::Result<Option<Found>> {
        match rustix::fs::statat(&self.0, component(name)?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Found { file_type: FileType::from_raw_mode(stat.st_mode), device: stat.st_rdev })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The names in this directory, in no order, without `.` and `..`.
    ///
    /// # Errors
    /// Those of `openat(2)` and `getdents64(2)`.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
        }
        Ok(names)
    }

    /// Creates a new empty regular file, open for writing; an existing name is an error.
    ///
    /// # Errors
    /// Those of `openat(2)` with `O_CREAT | O_EXCL`.
    pub fn create_file(&self, name: &OsStr) -> io::Result<File> {
        self.create_file_with(name, 0o600)
    }

    /// Creates a file like [`Directory::create_file`]; its mode is `mode` less the process's umask.
    ///
    /// # Errors
    /// As [`Directory::create_file`].
    pub fn create_file_with(&self, name: &OsStr, mode: RawMode) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.0, component(name)?, flags, Mode::from_raw_mode(mode))?.into())
    }

    /// Creates a directory; its mode is `mode` less the process's umask.
    ///
    /// # Errors
    /// Those of `mkdirat(2)`.
    pub fn create_directory(&self, name: &OsStr, mode: RawMode) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&self.0, component(name)?, Mode::from_raw_mode(mode))?)
    }

    /// Opens the directory of this name like [`Directory::child`]; a missing one is created, as by
    /// [`Directory::create_directory`].
    ///
    /// # Errors
    /// Those of both.
    pub fn child_or_new(&self, name: &OsStr, mode: RawMode) -> io::Result<Self> {
        match self.create_directory(name, mode) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => self.child(name),
        }
    }

    /// Gives what has the name `from` the name `to`, in this directory; a file that had it goes.
    ///
    /// # Errors
    /// Those of `renameat(2)`.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, component(from)?, &self.0, component(to)?)?)
    }

    /// Removes a name that is no directory; a symbolic link itself. A missing name is no error.
    ///
    /// # Errors
    /// Those of `unlinkat(2)`.
    pub fn remove_file(&self, name: &OsStr) -> io::Result<()> {
        unless_gone(rustix::fs::unlinkat(&self.0, component(name)?, AtFlags::empty()).map_err(Into::into))
    }

    /// Creates a symbolic link whose text is `target`, unchecked: it is only ever resolved confined.
    ///
    /// # Errors
    /// Those of `symlinkat(2)`.
    pub fn create_symlink(&self, name: &OsStr, target: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &self.0, component(name)?)?)
    }

    /// Gives the file `source` in the directory `from` a second name here; a symbolic link is linked itself.
    ///
    /// # Errors
    /// Those of `linkat(2)`.
    pub fn create_hard_link(&self, name: &OsStr, from: &Self, source: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::linkat(&from.0, component(source)?, &self.0, component(name)?, AtFlags::empty())?)
    }

    /// Creates a FIFO or a device node with the device number `device`.
    ///
    /// # Errors
    /// Those of `mknodat(2)`.
    pub fn create_node(&self, name: &OsStr, file_type: FileType, device: u64) -> io::Result<()> {
        Ok(rustix::fs::mknodat(&self.0, component(name)?, file_type, Mode::RUSR | Mode::WUSR, device)?)
    }

    /// Sets the owner of what this name is; a symbolic link's own.
    ///
    /// # Errors
    /// Those of `fchownat(2)`; `InvalidInput` for 4294967295, which the call reads as "leave it".
    pub fn set_owner(&self, name: &OsStr, uid: u32, gid: u32) -> io::Result<()> {
        let (uid, gid) = owner(uid, gid)?;
        Ok(rustix::fs::chownat(&self.0, component(name)?, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Sets the mode of a name that is known to be no symbolic link (`fchmodat(2)` follows those).
    ///
    /// # Errors
    /// Those of `fchmodat(2)`.
    pub fn set_mode(&self, name: &OsStr, mode: RawMode) -> io::Result<()> {
        Ok(rustix::fs::chmodat(&self.0, component(name)?, Mode::from_raw_mode(mode), AtFlags::empty())?)
    }

    /// Sets the times of what this name is; a symbolic link's own.
    ///
    /// # Errors
    /// Those of `utimensat(2)`.
    pub fn set_times(&self, name: &OsStr, times: &Timestamps) -> io::Result<()> {
        Ok(rustix::fs::utimensat(&self.0, component(name)?, times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Sets an extended attribute of what this name is; a symbolic link's own.
    ///
    /// Before `setxattrat(2)` (Linux 6.13) the only way to reach a link or a device node without opening it is
    /// the directory's entry in `/proc/self/fd`.
    ///
    /// # Errors
    /// Those of `lsetxattr(2)`.
    pub fn set_attribute(&self, name: &OsStr, attribute: &OsStr, value: &[u8]) -> io::Result<()> {
        let mut path = format!("/proc/self/fd/{}/", self.0.as_raw_fd()).into_bytes();
        path.extend_from_slice(component(name)?.as_bytes());
        Ok(rustix::fs::lsetxattr(OsStr::from_bytes(&path), attribute, value, XattrFlags::empty())?)
    }

    /// Sets this directory's own owner, mode (all twelve bits) and extended attributes, in the order in which
    /// none of them resets another.
    ///
    /// # Errors
    /// Those of `fchown(2)`, `fchmod(2)`.
    pub fn set_own(&self, uid: u32, gid: u32, mode: RawMode) -> io::Result<()> {
        let (uid, gid) = owner(uid, gid)?;
        rustix::fs::fchown(&self.0, Some(uid), Some(gid))?;
        Ok(rustix::fs::fchmod(&self.0, Mode::from_raw_mode(mode))?)
    }

    /// Sets an extended attribute of this directory itself.
    ///
    /// # Errors
    /// Those of `fsetxattr(2)`.
    pub fn set_own_attribute(&self, attribute: &OsStr, value: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::fsetxattr(&self.0, attribute, value, XattrFlags::empty())?)
    }

    /// Sets this directory's own times.
    ///
    /// # Errors
    /// Those of `futimens(3)`.
    pub fn set_own_times(&self, times: &Timestamps) -> io::Result<()> {
        Ok(rustix::fs::futimens(&self.0, times)?)
    }

    /// Removes what this name is, with everything below it. A missing name is no error, nor is what others remove
    /// meanwhile; symbolic links are removed, never followed.
    ///
    /// # Errors
    /// The first failure of `unlinkat(2)` and its kin; what could be removed before it is gone.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.0, component(name)?, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        // Whoever waits for a lock in it makes the lock's file anew when that is removed, and then sees the directory go.
        for _ in 0..REMOVALS {
            unless_gone(self.child(name).and_then(|child| child.clear()))?;
            match rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                result => return unless_gone(result.map_err(Into::into)),
            }
        }
        Err(Errno::NOTEMPTY.into())
    }

    /// Removes the directory of this name if there is nothing in it.
    ///
    /// # Errors
    /// Those of `rmdir(2)`: `DirectoryNotEmpty`, `NotADirectory`, `NotFound`.
    pub fn remove_empty(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, component(name)?, AtFlags::REMOVEDIR)?)
    }

    /// Removes everything in this directory, however deep: a tree deeper than the descriptor limit is what a
    /// hostile image or container would leave to be unremovable.
    ///
    /// # Errors
    /// As [`Directory::remove`].
    pub fn clear(&self) -> io::Result<()> {
        let mut moved = 0_u64;
        loop {
            for name in self.names()? {
                self.remove_below(self, &name, 0, &mut moved)?;
            }
            if std::mem::take(&mut moved) == 0 {
                return Ok(());
            }
        }
    }

    /// Removes `name` from `self`, which lies `depth` levels below `top`; what is too deep moves into `top`
    /// (counted in `moved`) for another round.
    fn remove_below(&self, top: &Self, name: &OsStr, depth: usize, moved: &mut u64) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        match rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        if depth >= DEPTH {
            loop {
                *moved += 1;
                // A name that another round or the image itself left behind is skipped, not replaced.
                let up = format!(".deep-{moved}");
                let flags = rustix::fs::RenameFlags::NOREPLACE;
                match rustix::fs::renameat_with(&self.0, name, &top.0, up, flags) {
                    Err(Errno::EXIST) => {}
                    result => return Ok(result?),
                }
            }
        }
        let emptied = self.child(name).and_then(|child| {
            child.names()?.iter().try_for_each(|name| child.remove_below(top, name, depth + 1, moved))
        });
        unless_gone(emptied)?;
        unless_gone(rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR).map_err(Into::into))
    }

    /// Writes everything below this directory, its own entries included, to the disk: file by file, but with all else
    /// of the file system ([`Directory::sync_file_system`]) what is deeper than trees of people are.
    ///
    /// # Errors
    /// Those of `fsync(2)`, `syncfs(2)` and of walking the tree.
    pub fn sync_tree(&self) -> io::Result<()> {
        self.sync_below(0)
    }

    fn sync_below(&self, depth: usize) -> io::Result<()> {
        if depth >= DEPTH {
            return self.sync_file_system();
        }
        for name in self.names()? {
            match self.find(&name)?.map(|found| found.file_type) {
                Some(FileType::Directory) => self.child(&name)?.sync_below(depth + 1)?,
                Some(FileType::RegularFile) => self.child_file(&name)?.sync_all()?,
                _ => {}
            }
        }
        self.sync()
    }

    /// Writes this directory's own entries to the disk.
    ///
    /// # Errors
    /// Those of `fsync(2)`.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.0)?)
    }

    /// Writes everything of the file system that holds this directory to the disk.
    ///
    /// # Errors
    /// Those of `syncfs(2)`; since Linux 5.8 that includes write errors of earlier writers.
    pub fn sync_file_system(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.0)?)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Directory> for OwnedFd {
    fn from(directory: Directory) -> Self {
        directory.0
    }
}

/// The number of a device node, as `mknodat(2)` takes it.
#[must_use]
pub fn device_number(major: u32, minor: u32) -> u64 {
    rustix::fs::makedev(major, minor)
}

/// Removes a tree by a path that the caller trusts; see [`Directory::clear`]. A missing path is no error.
///
/// # Errors
/// As [`Directory::remove`].
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a tree to remove needs a name"));
    };
    match Directory::open(parent) {
        Ok(parent) => parent.remove(name),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// What others have removed need not be removed.
fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn owner(uid: u32, gid: u32) -> io::Result<(Uid, Gid)> {
    if uid == u32::MAX || gid == u32::MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "4294967295 is no user or group id"));
    }
    Ok((Uid::from_raw(uid), Gid::from_raw(gid)))
}

/// Lets single names pass; anything that would be resolved as a path is a bug or an attack.
fn component(name: &OsStr) -> io::Result<&OsStr> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') || CString::new(bytes).is_err() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not a single file name")));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_remove_the_same_tree() {
        let tree = std::env::temp_dir().join(format!("tare-remove-{}", std::process::id()));
        for _ in 0..50 {
            for folder in ["a/b", "c"] {
                std::fs::create_dir_all(tree.join(folder)).unwrap();
            }
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| remove_tree(&tree).unwrap());
                }
            });
            assert!(!tree.exists());
        }
    }

    #[test]
    fn a_lock_made_anew_meanwhile_goes_with_the_tree() {
        let tree = std::env::temp_dir().join(format!("tare-relock-{}", std::process::id()));
        let lock = tree.join("lock");
        for _ in 0..20 {
            std::fs::create_dir(&tree).unwrap();
            std::fs::write(&lock, "").unwrap();
            // Emptying it takes a while.
            (0..200).for_each(|number| std::fs::write(tree.join(number.to_string()), "").unwrap());
            let over = AtomicBool::new(false);
            let removed = std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut left = REMOVALS / 2;
                    while left > 0 && !over.load(Ordering::Relaxed) {
                        // Once the tree is gone there is no place for it.
                        left -= usize::from(fs::File::create_new(&lock).is_ok());
                    }
                });
                let removed = remove_tree(&tree);
                over.store(true, Ordering::Relaxed);
                removed
            });
            removed.unwrap();
            assert!(!tree.exists());
        }
    }

    use std::fs;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tare-directory-{name}-{}", std::process::id()));
            remove_tree(&path).unwrap();
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            remove_tree(&self.0).unwrap();
        }
    }

    #[test]
    fn links_and_dot_dot_stay_inside() {
        let scratch = Scratch::new("confined");
        let root = scratch.0.join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(scratch.0.join("secret"), "host").unwrap();
        fs::write(root.join("etc/file"), "inside").unwrap();
        std::os::unix::fs::symlink("/etc", root.join("absolute")).unwrap();
        std::os::unix::fs::symlink("../../../../etc", root.join("climbing")).unwrap();
        std::os::unix::fs::symlink("../secret", root.join("out")).unwrap();
        std::os::unix::fs::symlink("/proc/self/cwd", root.join("magic")).unwrap();
        let directory = Directory::open(&root).unwrap();
        for path in ["absolute", "climbing", "../etc", "/etc", "etc/../../etc"] {
            assert_eq!(directory.resolve(Path::new(path)).unwrap().names().unwrap(), ["file"], "{path}");
        }
        assert_eq!(directory.resolve_file(Path::new("out")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(directory.resolve(Path::new("magic")).is_err());
        assert!(directory.child(OsStr::new("absolute")).is_err());
        for name in ["", ".", "..", "etc/file", "/etc"] {
            assert_eq!(directory.child(OsStr::new(name)).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }

    #[test]
    fn a_fifo_never_blocks_a_reader() {
        let scratch = Scratch::new("fifo");
        let directory = Directory::open(&scratch.0).unwrap();
        directory.create_node(OsStr::new("fifo"), FileType::Fifo, 0).unwrap();
        assert_eq!(directory.resolve_file(Path::new("fifo")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(directory.child_file(OsStr::new("fifo")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_tree_deeper_than_the_descriptor_limit_is_removed() {
        let scratch = Scratch::new("deep");
        let top = Directory::open(&scratch.0).unwrap();
        fs::write(scratch.0.join(".deep-1"), "a name that the removal itself would choose").unwrap();
        let mut at = Directory::open(&scratch.0).unwrap();
        for _ in 0..1500 {
            at.create_directory(OsStr::new("d"), 0o700).unwrap();
            at.create_file(OsStr::new("f")).unwrap();
            at = at.child(OsStr::new("d")).unwrap();
        }
        drop(at);
        top.clear().unwrap();
        assert_eq!(top.names().unwrap(), Vec::<OsString>::new());
    }

    #[test]
    fn removal_follows_no_link() {
        let scratch = Scratch::new("links");
        fs::create_dir_all(scratch.0.join("kept")).unwrap();
        fs::write(scratch.0.join("kept/file"), "").unwrap();
        fs::create_dir_all(scratch.0.join("gone")).unwrap();
        std::os::unix::fs::symlink("../kept", scratch.0.join("gone/link")).unwrap();
        remove_tree(&scratch.0.join("gone")).unwrap();
        assert!(!scratch.0.join("gone").exists());
        assert!(scratch.0.join("kept/file").exists());
    }
}
