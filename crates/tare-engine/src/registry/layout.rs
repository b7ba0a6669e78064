//! Where a registry keeps what, and its locks. See `docs/formats/registry.md`.

use crate::error::{Error, Result};
use rustix::fs::FlockOperation;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tare_registry::server::UploadId;
use tare_spec::{Digest, Repository, Tag};

/// Marks the folder with a repository's own things; no component of a name begins with `_`.
const OWN: &str = "_repository";

/// The root of a registry.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    root: PathBuf,
}

/// One repository's folders.
#[derive(Clone, Debug)]
pub(super) struct RepositoryLayout {
    folder: PathBuf,
}

/// A held lock; letting it go is dropping it.
#[derive(Debug)]
#[must_use = "it is held only while this lives"]
pub(super) struct Held {
    _file: File,
}

impl Layout {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(super) fn content(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(super) fn repositories(&self) -> PathBuf {
        self.root.join("repositories")
    }

    pub(super) fn repository(&self, name: &Repository) -> RepositoryLayout {
        RepositoryLayout { folder: self.repositories().join(name.as_str()).join(OWN) }
    }

    /// Held by whoever adds or removes references to content.
    pub(super) fn lock_shared(&self) -> Result<Held> {
        lock(&self.root.join("use.lock"), FlockOperation::LockShared)
    }

    /// Held by a collection: nobody adds or removes references.
    pub(super) fn lock_exclusive(&self) -> Result<Held> {
        lock(&self.root.join("use.lock"), FlockOperation::LockExclusive)
    }

    /// All repositories that have a folder, in no order.
    pub(super) fn list(&self) -> Result<Vec<Repository>> {
        let top = self.repositories();
        let (mut found, mut left) = (Vec::new(), vec![String::new()]);
        while let Some(name) = left.pop() {
            let folder = top.join(&name);
            let entries = match fs::read_dir(&folder) {
                // A collection removes empty ones.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                result => result.map_err(|source| Error::file("list", &folder, source))?,
            };
            for entry in entries {
                let entry = entry.map_err(|source| Error::file("list", &folder, source))?.file_name();
                match entry.to_str() {
                    Some(OWN) => found.extend(Repository::parse(&name)),
                    Some(component) if name.is_empty() => left.push(component.to_owned()),
                    Some(component) => left.push(format!("{name}/{component}")),
                    None => {} // nothing of ours
                }
            }
        }
        Ok(found)
    }
}

impl RepositoryLayout {
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Links to blobs: `blobs/<algorithm>/<hex>`.
    pub(super) fn blobs(&self) -> PathBuf {
        self.folder.join("blobs")
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        by_digest(self.blobs(), digest)
    }

    /// Records of manifests: `manifests/<algorithm>/<hex>`.
    pub(super) fn manifests(&self) -> PathBuf {
        self.folder.join("manifests")
    }

    pub(super) fn manifest(&self, digest: &Digest) -> PathBuf {
        by_digest(self.manifests(), digest)
    }

    pub(super) fn tags(&self) -> PathBuf {
        self.folder.join("tags")
    }

    pub(super) fn tag(&self, tag: &Tag) -> PathBuf {
        self.tags().join(tag.as_str())
    }

    /// Subjects: `referrers/<algorithm>/<hex>/<algorithm>/<hex>`, a record of a descriptor.
    pub(super) fn subjects(&self) -> PathBuf {
        self.folder.join("referrers")
    }

    pub(super) fn referrers(&self, subject: &Digest) -> PathBuf {
        by_digest(self.subjects(), subject)
    }

    pub(super) fn referrer(&self, subject: &Digest, manifest: &Digest) -> PathBuf {
        by_digest(self.referrers(subject), manifest)
    }

    pub(super) fn uploads(&self) -> PathBuf {
        self.folder.join("uploads")
    }

    pub(super) fn upload(&self, id: &UploadId) -> PathBuf {
        self.uploads().join(id.as_str())
    }

    /// Held while manifests and tags change. The registry's lock comes first.
    pub(super) fn lock(&self) -> Result<Held> {
        lock(&self.folder.join("lock"), FlockOperation::LockExclusive)
    }
}

fn by_digest(folder: PathBuf, digest: &Digest) -> PathBuf {
    folder.join(digest.algorithm().name()).join(digest.hex())
}

fn lock(path: &Path, operation: FlockOperation) -> Result<Held> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(|source| Error::file("open", path, source))?;
    loop {
        match rustix::fs::flock(&file, operation) {
            Ok(()) => return Ok(Held { _file: file }),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::file("lock", path, error.into())),
        }
    }
}

/// Makes a folder with those above it that are missing, durably.
pub(super) fn make_folder(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_folder(path.parent().unwrap_or(path)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound && path.parent().is_some() => {
            make_folder(path.parent().expect("it was just looked at"))?;
            make_folder(path)
        }
        Err(source) => Err(Error::file("create", path, source)),
    }
}

/// Makes what was created in or removed from a folder durable.
pub(super) fn sync_folder(path: &Path) -> Result<()> {
    crate::state::file::sync_directory(path)
}

/// Removes a file durably. Whether it was there.
pub(super) fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(path.parent().unwrap_or(path)).map(|()| true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Error::file("remove", path, source)),
    }
}

/// Whether a file is there.
pub(super) fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|source| Error::file("inspect", path, source))
}
