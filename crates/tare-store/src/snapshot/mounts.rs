//! Layers as mounts that all their users share.
//!
//! ```text
//! RUN_ROOT/layers/<algorithm>-<hex>/       where the layer is mounted
//! RUN_ROOT/layers/<algorithm>-<hex>.lock   held shared by each user, exclusively by who unmounts
//! ```
//!
//! The folder itself is locked exclusively while something is mounted, so that two do not mount the same: the lock of a
//! layer comes first. Who leaves as the last one unmounts and removes both. A user that is killed leaves the mount
//! without a lock on it, which the next [`Mounts::open`] of anybody ends. A mount that another mount namespace sees and
//! this one does not is made again here.

use crate::error::{Context, Result};
use crate::record;
use crate::temporary::is_still;
use rustix::fs::{AtFlags, CWD, FlockOperation, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tare_sys::directory::Directory;

const LOCK: &str = ".lock";

/// See the module's documentation.
pub(super) struct Mounts {
    folder: PathBuf,
}

/// A mount that stays while this lives.
#[derive(Debug)]
pub(super) struct Held {
    path: PathBuf,
    lock_path: PathBuf,
    /// The open file carries the lock. `None` once it has been given back.
    lock: Option<File>,
}

impl Mounts {
    /// Creates the folder and unmounts what nobody holds.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        record::create_folder(folder)?;
        let this = Self { folder: folder.to_owned() };
        this.sweep()?;
        Ok(this)
    }

    /// Unmounts what nobody holds.
    pub(super) fn sweep(&self) -> Result<()> {
        for entry in fs::read_dir(&self.folder).context("list", &self.folder)? {
            let path = entry.context("list", &self.folder)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if let Some(name) = name.strip_suffix(LOCK) {
                self.sweep_one(name)?;
            }
        }
        Ok(())
    }

    /// A file of this name beside the mounts, which the next boot forgets.
    pub(super) fn note(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn sweep_one(&self, name: &str) -> Result<()> {
        let lock_path = self.folder.join(format!("{name}{LOCK}"));
        let lock = match File::open(&lock_path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result.context("open", &lock_path)?,
        };
        Held { path: self.folder.join(name), lock_path, lock: Some(lock) }.release()
    }

    /// Mounts something by `mount` where nobody has mounted it yet.
    pub(super) fn hold(&self, name: &str, mount: impl FnOnce(&Path) -> Result<()>) -> Result<Held> {
        let (path, lock_path) = (self.folder.join(name), self.folder.join(format!("{name}{LOCK}")));
        let lock = loop {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let lock = options.open(&lock_path).context("open", &lock_path)?;
            rustix::fs::flock(&lock, FlockOperation::LockShared).context("lock", &lock_path)?;
            // Who unmounted may have removed it before it was locked.
            if is_still(&lock, &lock_path)? {
                break lock;
            }
        };
        let held = Held { path, lock_path, lock: Some(lock) };
        if !is_mounted(&held.path)? {
            let folder = Directory::open(&self.folder).context("open", &self.folder)?;
            rustix::fs::flock(&folder, FlockOperation::LockExclusive).context("lock", &self.folder)?;
            if !is_mounted(&held.path)? {
                record::create_folder(&held.path)?;
                mount(&held.path)?;
            }
        }
        Ok(held)
    }
}

impl Held {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Unmounts unless others hold it.
    pub(super) fn release(mut self) -> Result<()> {
        self.give_back()
    }

    fn give_back(&mut self) -> Result<()> {
        let Some(lock) = self.lock.take() else { return Ok(()) };
        // A failed try gives up the shared lock as well (flock(2)): of several that leave at once, the last one gets it.
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(()),
            Err(error) => return Err(error).context("lock", &self.lock_path),
        }
        if !is_still(&lock, &self.lock_path)? {
            return Ok(());
        }
        unmount(&self.path)?;
        for result in [fs::remove_dir(&self.path), fs::remove_file(&self.lock_path)] {
            match result {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result.context("remove", &self.path)?,
            }
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Whoever wants to know calls `release`; what stays mounted ends with the next `Mounts::open`.
        let _ = self.give_back();
    }
}

/// Whether something is mounted here, in this mount namespace.
fn is_mounted(path: &Path) -> Result<bool> {
    match rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
        Ok(found) => Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error).context("inspect", path),
    }
}

/// Unmounts all that is mounted here, even while somebody reads in it.
fn unmount(path: &Path) -> Result<()> {
    while is_mounted(path)? {
        match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // Not a mount any more.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(error) => return Err(error).context("unmount", path),
        }
    }
    Ok(())
}
