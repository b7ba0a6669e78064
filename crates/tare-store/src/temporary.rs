//! Files and folders in the making, which no crash leaves for long.
//!
//! Each lies in a folder `temporary/` on the same file system as its final place, and its writer holds an
//! exclusive `flock` on it while it lives. Whoever gets that lock knows that the writer is gone.

use crate::error::{Context, Result};
use rustix::fs::FlockOperation;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tare_sys::directory::{Directory, remove_tree};

/// Distinguishes the names that one process makes; the process id distinguishes processes.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A name that no other living writer uses.
pub(crate) fn unique(stem: &str) -> String {
    format!("{stem}.{}.{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// A file that vanishes unless it is persisted.
pub(crate) struct TemporaryFile {
    file: File,
    path: PathBuf,
    persisted: bool,
}

impl TemporaryFile {
    /// Creates an empty file of mode 0600, locked.
    pub(crate) fn create(folder: &Path, stem: &str) -> Result<Self> {
        loop {
            let path = folder.join(unique(stem));
            let mut options = fs::OpenOptions::new();
            let file = match options.write(true).read(true).create_new(true).mode(0o600).open(&path) {
                // Another process namespace may have the same process id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                result => result.context("create", &path)?,
            };
            let temporary = Self { file, path, persisted: false };
            rustix::fs::flock(&temporary.file, FlockOperation::LockExclusive).context("lock", &temporary.path)?;
            // A sweep may have seen the file before it was locked.
            if is_still(&temporary.file, &temporary.path)? {
                return Ok(temporary);
            }
        }
    }

    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file durable and gives it its final name, replacing what is there.
    pub(crate) fn persist(mut self, target: &Path) -> Result<()> {
        self.file.sync_all().context("sync", &self.path)?;
        fs::rename(&self.path, target).context("rename to", target)?;
        self.persisted = true;
        sync_parent(target)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if !self.persisted {
            // What cannot be removed now is swept by the next Store::open.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes a small file so that it is there wholly or not at all, and stays.
pub(crate) fn write_durably(temporary: &Path, target: &Path, contents: &[u8]) -> Result<()> {
    let mut file = TemporaryFile::create(temporary, "record")?;
    file.file().write_all(contents).context("write", target)?;
    file.persist(target)
}

/// A folder that vanishes unless it is persisted.
pub(crate) struct TemporaryFolder {
    directory: Directory,
    path: PathBuf,
    persisted: bool,
}

impl TemporaryFolder {
    /// Waits until the folder of this name belongs to the caller, and empties it. `None` when another writer
    /// had it meanwhile: look again for what it made.
    pub(crate) fn claim(folder: &Path, name: &str) -> Result<Option<Self>> {
        let path = folder.join(name);
        match rustix::fs::mkdir(&path, rustix::fs::Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            result => result.context("create", &path)?,
        }
        let directory = match Directory::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.context("open", &path)?,
        };
        rustix::fs::flock(&directory, FlockOperation::LockExclusive).context("lock", &path)?;
        if !is_still(&directory, &path)? {
            return Ok(None);
        }
        directory.clear().context("clear", &path)?;
        Ok(Some(Self { directory, path, persisted: false }))
    }

    /// Takes a finished folder out of its place, to be removed on drop; the caller syncs the place before. Succeeds only when
    /// nobody else does so.
    pub(crate) fn take(source: &Path, folder: &Path, stem: &str) -> Result<Option<Self>> {
        let directory = match Directory::open(source) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.context("open", source)?,
        };
        rustix::fs::flock(&directory, FlockOperation::LockExclusive).context("lock", source)?;
        if !is_still(&directory, source)? {
            return Ok(None);
        }
        let path = folder.join(unique(stem));
        fs::rename(source, &path).context("rename", source)?;
        Ok(Some(Self { directory, path, persisted: false }))
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the folder its final name; its contents must be on the disk already.
    pub(crate) fn persist(mut self, target: &Path) -> Result<()> {
        fs::rename(&self.path, target).context("rename to", target)?;
        self.persisted = true;
        sync_parent(target)
    }

    /// Removes the folder and says what went wrong, which dropping it cannot.
    pub(crate) fn remove(mut self) -> Result<()> {
        self.persisted = true;
        remove_tree(&self.path).context("remove", &self.path)
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if !self.persisted {
            // What cannot be removed now is swept by the next Store::open.
            let _ = remove_tree(&self.path);
        }
    }
}

/// Removes what dead writers left in a folder `temporary/`.
pub(crate) fn sweep(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).context("list", folder)? {
        let path = entry.context("list", folder)?.path();
        let Ok(file) = File::open(&path) else { continue }; // gone meanwhile
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => continue, // its writer lives
            result => result.context("lock", &path)?,
        }
        if is_still(&file, &path)? {
            remove_tree(&path).context("remove", &path)?;
        }
    }
    Ok(())
}

/// Whether this descriptor is still what the path names.
pub(crate) fn is_still<Fd: std::os::fd::AsFd>(file: &Fd, path: &Path) -> Result<bool> {
    let open = rustix::fs::fstat(file).context("inspect", path)?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((open.st_dev, open.st_ino) == (named.dev(), named.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context("inspect", path),
    }
}

/// Makes a rename durable.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    Directory::open(parent).and_then(|directory| directory.sync()).context("sync", parent)
}
