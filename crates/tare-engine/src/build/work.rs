//! Folders of what is under way, and what is done about those that nobody works in any more.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::state::file;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tare_build::executor::Folders;
use tare_runtime::cgroup::Cgroup;
use tare_spec::ContainerId;
use tare_sys::directory::Directory;

/// A folder in `ROOT/build/work`, locked as long as this or a copy of its descriptor lives. Dropping it removes it, but
/// not from under who has it from another process.
#[derive(Debug)]
pub(super) struct WorkFolder {
    pub(super) id: ContainerId,
    path: PathBuf,
    /// Open, it carries the lock.
    directory: Directory,
    /// Whether it goes when this is dropped.
    owned: bool,
}

impl WorkFolder {
    /// Makes one.
    pub(super) fn create(engine: &Engine) -> Result<Self> {
        let folder = Folders::new(&engine.paths.root).work();
        file::make_directory(&folder)?;
        loop {
            let mut random = [0; 32];
            rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
                .map_err(|errno| Error::System { action: "draw a random id", source: errno.into() })?;
            let id = ContainerId::from_random(random);
            let path = folder.join(id.as_str());
            fs::DirBuilder::new().mode(0o700).create(&path).map_err(|source| Error::file("create", &path, source))?;
            // A sweep may have taken it before it was locked.
            if let Some(directory) = lock(&path)? {
                return Ok(Self { id, path, directory, owned: true });
            }
        }
    }

    /// The same folder in another process, which was handed its locked descriptor.
    pub(super) fn shared(engine: &Engine, id: &ContainerId, directory: Directory) -> Self {
        let path = Folders::new(&engine.paths.root).work().join(id.as_str());
        Self { id: id.clone(), path, directory, owned: false }
    }

    /// Makes it this process's own: the other one is gone.
    pub(super) fn own(&mut self) {
        self.owned = true;
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a folder in it, with this mode whatever the process's umask is.
    pub(super) fn make(&self, name: &str, mode: u32) -> Result<PathBuf> {
        let path = self.path.join(name);
        let made = fs::DirBuilder::new().mode(mode).create(&path);
        let made = made.and_then(|()| fs::set_permissions(&path, PermissionsExt::from_mode(mode)));
        made.map_err(|source| Error::file("create", &path, source))?;
        Ok(path)
    }
}

impl AsFd for WorkFolder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        if self.owned {
            // What cannot be removed now is swept by the next build.
            let _ = file::remove_tree(&self.path);
        }
    }
}

/// Locks a folder that nobody else has locked; `None` if somebody has, or has removed it.
fn lock(path: &Path) -> Result<Option<Directory>> {
    let failed = |action| move |source| Error::file(action, path, source);
    let directory = match Directory::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.map_err(failed("open"))?,
    };
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(errno) => return Err(failed("lock")(errno.into())),
    }
    let ours = directory.own_metadata().map_err(failed("inspect"))?;
    match fs::symlink_metadata(path) {
        Ok(named) if (named.dev(), named.ino()) == ours.identity => Ok(Some(directory)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("inspect")(error)),
    }
}

/// Takes away what builds have left that were killed: half records, and where the processes of their steps were killed as well, processes, cgroups,
/// networks and files. What others work in stays.
///
/// # Errors
/// Everything that went wrong, after all was tried.
pub(crate) fn sweep(engine: &Engine) -> Result<()> {
    let folders = Folders::new(&engine.paths.root);
    let mut errors: Vec<Error> = tare_build::cache::sweep(&folders).map_err(Error::from).err().into_iter().collect();
    let folder = folders.work();
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Error::of_clean_up(errors),
        entries => entries.map_err(|source| Error::file("list", &folder, source))?,
    };
    for entry in entries {
        let name = entry.map_err(|source| Error::file("list", &folder, source))?.file_name();
        // Whatever else somebody put there is not ours.
        if let Some(Ok(id)) = name.to_str().map(ContainerId::parse) {
            errors.extend(sweep_one(engine, &id, &folder.join(&name)).err());
        }
    }
    Error::of_clean_up(errors)
}

fn sweep_one(engine: &Engine, id: &ContainerId, path: &Path) -> Result<()> {
    let Some(_lock) = lock(path)? else { return Ok(()) };
    // Its processes write there: they go first.
    Cgroup::open(id)?.kill_all()?;
    let mut errors: Vec<Error> = engine.tear_down(id).err().into_iter().collect();
    errors.extend(file::remove_tree(path).err());
    Error::of_clean_up(errors)
}
