//! A container's files as a whole, and what it changed of its image's.

use crate::container::{Loaded, start_time};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::state::record::Status;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use tare_store::tar::Writer;
use tare_store::{Mounted, Tree};
use tare_sys::directory::Directory;
use tare_sys::mount;

pub use tare_store::{Change, ChangeKind};

/// A tree that no path leads to, there while this lives.
pub(crate) struct View {
    /// Its root.
    pub(crate) root: Directory,
    _mount: OwnedFd,
    _layers: Option<Mounted>,
}

impl Engine {
    /// What a container changed of its image's files, sorted by path, in Docker's terms. Files that the runtime puts in
    /// place are left out.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::Store`].
    pub fn changes(&self, name: &str) -> Result<Vec<Change>> {
        let loaded = self.load(&self.resolve(name)?)?;
        let upper = open(&loaded.paths.upper())?;
        let image = self.image_view(&loaded)?;
        let lower = image.as_ref().map(|view| &view.root);
        Ok(Tree { upper: &upper, lower, skip: &is_of_runtime, latest: None }.changes()?)
    }

    /// Writes all files of a container as a tar archive: running or not, without what is mounted in it. Between files
    /// the kernel copies. After an error the output holds anything.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::Store`].
    pub fn export(&self, name: &str, out: impl Write) -> Result<()> {
        let loaded = self.load(&self.resolve(name)?)?;
        let view = match running_view(&loaded)? {
            Some(view) => view,
            None => self.stopped_view(&loaded)?,
        };
        let mut writer = Writer::new(out);
        Tree { upper: &view.root, lower: None, skip: &|_| false, latest: None }.write(&mut writer)?;
        let failed = |source| tare_store::Error::Output { source };
        Ok(writer.finish().and_then(|mut out| out.flush()).map_err(failed)?)
    }

    /// The files of a container's image; none if it has no layers.
    pub(crate) fn image_view(&self, loaded: &Loaded) -> Result<Option<View>> {
        let layers = self.store()?.layers().mount(&loaded.record.layers)?;
        if layers.lower_dirs().is_empty() {
            return Ok(None);
        }
        let directories = layers.lower_dirs().to_vec();
        view(&directories, Some(layers)).map(Some)
    }

    fn stopped_view(&self, loaded: &Loaded) -> Result<View> {
        let layers = self.store()?.layers().mount(&loaded.record.layers)?;
        let directories: Vec<PathBuf> =
            [loaded.paths.upper()].into_iter().chain(layers.lower_dirs().iter().cloned()).collect();
        view(&directories, Some(layers))
    }
}

/// The root of a running container as it sees it. An overlay that is mounted must not be mounted once more over the same
/// upper directory, so this is that very mount.
fn running_view(loaded: &Loaded) -> Result<Option<View>> {
    let Some(run) = loaded.state.run.as_ref().filter(|_| loaded.state.status == Status::Running) else {
        return Ok(None);
    };
    let Ok(namespace) = File::open(Path::new("/proc").join(run.pid.to_string()).join("ns/mnt")) else {
        return Ok(None); // it has just ended
    };
    if start_time(run.pid) != Some(run.pid_start) {
        return Ok(None);
    }
    let mount = mount::root_of(namespace.as_fd()).map_err(Error::system("look at the container's files"))?;
    let root = Directory::of(&mount).map_err(Error::system("open the container's root"))?;
    Ok(Some(View { root, _mount: mount, _layers: None }))
}

pub(crate) fn view(directories: &[PathBuf], layers: Option<Mounted>) -> Result<View> {
    let mount = mount::overlay(directories).map_err(Error::system("mount the layers"))?;
    let root = Directory::of(&mount).map_err(Error::system("open the mounted layers"))?;
    Ok(View { root, _mount: mount, _layers: layers })
}

pub(crate) fn open(path: &Path) -> Result<Directory> {
    Directory::open(path).map_err(|source| Error::file("open", path, source))
}

/// What lies in an upper directory because something was mounted over it; the container cannot reach it.
pub(crate) fn is_of_runtime(path: &[u8]) -> bool {
    matches!(path, b"dev" | b"proc" | b"sys" | b"etc/hosts" | b"etc/hostname" | b"etc/resolv.conf")
}
