//! The content of a registry as its server sees it.

use super::layout::{self, Layout, RepositoryLayout};
use super::upload::{self, FileUpload, Hashes};
use crate::error::{Error, Result};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tare_registry::server::{
    Blob, ManifestId, NewManifest, Storage, StorageError, StorageResult, StoredManifest, Upload, UploadId,
};
use tare_spec::digest::Algorithm;
use tare_spec::image::{Descriptor, MANIFEST_LIMIT};
use tare_spec::{Digest, Repository};
use tare_store::content::{self, Content};

/// How old the time of a link becomes before asking for its blob renews it: far below any grace of a collection.
const RENEWED: Duration = Duration::from_secs(600);
/// How many missing blobs an error names.
const NAMED: usize = 10;

/// A manifest of a repository.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ManifestRecord {
    /// What it was pushed as.
    pub(super) media_type: String,
    /// What it refers to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) subject: Option<Digest>,
}

/// A tag of a repository.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TagRecord {
    /// The manifest it stands for.
    pub(super) digest: Digest,
}

/// A registry's content below one root.
#[derive(Debug)]
pub(super) struct FileStorage {
    pub(super) layout: Layout,
    pub(super) content: Content,
    hashes: Arc<Hashes>,
}

impl FileStorage {
    pub(super) fn open(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root).map_err(|source| Error::file("find", root, source))?;
        let layout = Layout::new(&root);
        layout::make_folder(&layout.repositories())?;
        let content = Content::open(&layout.content())?;
        Ok(Self { layout, content, hashes: Arc::default() })
    }

    /// Links a blob that is in the content into a repository. The registry's lock is held.
    fn link(&self, repository: &RepositoryLayout, digest: &Digest) -> Result<()> {
        let path = repository.blob(digest);
        let folder = path.parent().expect("a link is in a folder");
        layout::make_folder(folder)?;
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        match created {
            Ok(_) => layout::sync_folder(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => renew(&path),
            Err(source) => Err(Error::file("create", &path, source)),
        }
    }

    pub(super) fn manifest_bytes(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.content.get(digest)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let path = self.content.path(digest);
        file.take(MANIFEST_LIMIT).read_to_end(&mut bytes).map_err(|source| Error::file("read", &path, source))?;
        Ok(Some(bytes))
    }

    fn find_blob(&self, name: &Repository, digest: &Digest) -> Result<Option<Blob>> {
        let link = self.layout.repository(name).blob(digest);
        let metadata = match fs::metadata(&link) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            result => result.map_err(|source| Error::file("inspect", &link, source))?,
        };
        let age = metadata.modified().ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > RENEWED) {
            // On a file system that cannot be written to nothing is collected either.
            let _ = renew(&link);
        }
        let Some(file) = self.content.get(digest)? else { return Ok(None) };
        let size = file.metadata().map_err(|source| Error::file("inspect", &self.content.path(digest), source))?.len();
        Ok(Some(Blob { file, size }))
    }

    fn find_manifest(&self, name: &Repository, id: &ManifestId) -> Result<Option<StoredManifest>> {
        let repository = self.layout.repository(name);
        let digest = match id {
            ManifestId::Digest(digest) => digest.clone(),
            ManifestId::Tag(tag) => match content::read_record::<TagRecord>(&repository.tag(tag))? {
                Some(record) => record.digest,
                None => return Ok(None),
            },
        };
        let Some(record) = content::read_record::<ManifestRecord>(&repository.manifest(&digest))? else {
            return Ok(None);
        };
        let bytes = self.manifest_bytes(&digest)?;
        Ok(bytes.map(|bytes| StoredManifest { digest, media_type: record.media_type, bytes }))
    }

    /// Adds a manifest; what is missing is given back instead.
    fn add_manifest(&self, name: &Repository, new: &NewManifest) -> Result<Vec<Digest>> {
        let repository = self.layout.repository(name);
        let _shared = self.layout.lock_shared()?;
        layout::make_folder(repository.folder())?;
        let _changing = repository.lock()?;
        let mut missing = Vec::new();
        let blobs = new.blobs.iter().map(|digest| (digest, repository.blob(digest)));
        let manifests = new.manifests.iter().map(|digest| (digest, repository.manifest(digest)));
        for (digest, link) in blobs.chain(manifests) {
            if !layout::exists(&link)? || !layout::exists(&self.content.path(digest))? {
                missing.push(digest.clone());
                if missing.len() == NAMED {
                    break;
                }
            }
        }
        if !missing.is_empty() {
            return Ok(missing);
        }
        let StoredManifest { digest, media_type, bytes } = &new.manifest;
        self.content.put(digest, bytes)?;
        let subject = new.referrer.as_ref().map(|referrer| referrer.subject.clone());
        if let Some(referrer) = &new.referrer {
            self.write(&repository.referrer(&referrer.subject, digest), &referrer.descriptor)?;
        }
        let record = ManifestRecord { media_type: media_type.clone(), subject };
        self.write(&repository.manifest(digest), &record)?;
        for tag in &new.tags {
            self.write(&repository.tag(tag), &TagRecord { digest: digest.clone() })?;
        }
        Ok(Vec::new())
    }

    fn write<T: Serialize>(&self, path: &Path, record: &T) -> Result<()> {
        layout::make_folder(path.parent().expect("a record is in a folder"))?;
        Ok(self.content.write_record(path, record)?)
    }

    fn remove_manifest(&self, name: &Repository, id: &ManifestId) -> Result<bool> {
        let repository = self.layout.repository(name);
        let _shared = self.layout.lock_shared()?;
        if !layout::exists(repository.folder())? {
            return Ok(false);
        }
        let _changing = repository.lock()?;
        match id {
            ManifestId::Tag(tag) => layout::remove(&repository.tag(tag)),
            ManifestId::Digest(digest) => self.forget_manifest(&repository, digest),
        }
    }

    /// Removes a manifest from a repository with its tags and its place among the referrers. The locks are held.
    pub(super) fn forget_manifest(&self, repository: &RepositoryLayout, digest: &Digest) -> Result<bool> {
        let path = repository.manifest(digest);
        let Some(record) = content::read_record::<ManifestRecord>(&path)? else { return Ok(false) };
        for tag in names(&repository.tags())?.unwrap_or_default() {
            let path = repository.tags().join(tag);
            if content::read_record::<TagRecord>(&path)?.is_some_and(|record| record.digest == *digest) {
                layout::remove(&path)?;
            }
        }
        layout::remove(&path)?;
        if let Some(subject) = record.subject {
            layout::remove(&repository.referrer(&subject, digest))?;
        }
        Ok(true)
    }

    fn list_referrers(&self, name: &Repository, subject: &Digest) -> Result<Vec<Descriptor>> {
        let repository = self.layout.repository(name);
        let folder = repository.referrers(subject);
        let mut found = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for digest in content::list(&folder, algorithm)? {
                // A crash may leave one whose manifest never came, or is gone.
                if layout::exists(&repository.manifest(&digest))? {
                    found.extend(content::read_record::<Descriptor>(&repository.referrer(subject, &digest))?);
                }
            }
        }
        found.sort_by(|one, other| one.digest.cmp(&other.digest));
        Ok(found)
    }

    fn list_repositories(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for name in self.layout.list()? {
            let manifests = self.layout.repository(&name).manifests();
            let any = [Algorithm::Sha256, Algorithm::Sha512].into_iter().any(|algorithm| {
                fs::read_dir(manifests.join(algorithm.name())).is_ok_and(|mut entries| entries.next().is_some())
            });
            found.extend(any.then(|| name.to_string()));
        }
        Ok(found)
    }

    fn create_upload(&self, name: &Repository) -> Result<UploadId> {
        let repository = self.layout.repository(name);
        // Or a collection could remove the folder again before there is something in it.
        let _shared = self.layout.lock_shared()?;
        layout::make_folder(&repository.uploads())?;
        upload::create(&repository)
    }
}

/// The names in a folder; `None` when there is no such folder.
pub(super) fn names(folder: &Path) -> Result<Option<Vec<String>>> {
    let list = |source| Error::file("list", folder, source);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.map_err(list)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        found.extend(entry.map_err(list)?.file_name().into_string());
    }
    Ok(Some(found))
}

/// Makes a link as young as it can be.
fn renew(path: &Path) -> Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    match rustix::fs::utimensat(CWD, path, &times, AtFlags::empty()) {
        // Deleted meanwhile.
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(Error::file("touch", path, error.into())),
    }
}

impl From<Error> for StorageError {
    fn from(error: Error) -> Self {
        let full = match &error {
            Error::Store(tare_store::Error::NoSpace { .. }) => true,
            Error::File { source, .. } => matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded),
            _ => false,
        };
        Self::of(error, full)
    }
}

impl Storage for FileStorage {
    fn blob(&self, repository: &Repository, digest: &Digest) -> StorageResult<Option<Blob>> {
        Ok(self.find_blob(repository, digest)?)
    }

    fn delete_blob(&self, repository: &Repository, digest: &Digest) -> StorageResult<bool> {
        let _shared = self.layout.lock_shared()?;
        Ok(layout::remove(&self.layout.repository(repository).blob(digest))?)
    }

    fn mount(&self, repository: &Repository, digest: &Digest, from: Option<&Repository>) -> StorageResult<bool> {
        let _shared = self.layout.lock_shared()?;
        let source = match from {
            Some(from) => layout::exists(&self.layout.repository(from).blob(digest))?,
            None => true,
        };
        if !source || !layout::exists(&self.content.path(digest))? {
            return Ok(false);
        }
        self.link(&self.layout.repository(repository), digest)?;
        Ok(true)
    }

    fn begin_upload(&self, repository: &Repository) -> StorageResult<UploadId> {
        Ok(self.create_upload(repository)?)
    }

    fn resume_upload(&self, repository: &Repository, id: &UploadId) -> StorageResult<Option<Box<dyn Upload>>> {
        let path = self.layout.repository(repository).upload(id);
        let Some((file, size)) = upload::open(&path)? else { return Ok(None) };
        let hash = self.hashes.take(id, size);
        let (repository, id) = (repository.clone(), id.clone());
        let finish = UploadTarget { layout: self.layout.clone(), content: self.content.clone(), repository };
        Ok(Some(Box::new(FileUpload::new(file, path, id, size, hash, Arc::clone(&self.hashes), finish))))
    }

    fn upload_size(&self, repository: &Repository, id: &UploadId) -> StorageResult<Option<u64>> {
        let path = self.layout.repository(repository).upload(id);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::file("inspect", &path, source).into()),
        }
    }

    fn manifest(&self, repository: &Repository, id: &ManifestId) -> StorageResult<Option<StoredManifest>> {
        Ok(self.find_manifest(repository, id)?)
    }

    fn put_manifest(&self, repository: &Repository, manifest: &NewManifest) -> StorageResult<()> {
        let missing = self.add_manifest(repository, manifest)?;
        if missing.is_empty() { Ok(()) } else { Err(StorageError::Missing { digests: missing }) }
    }

    fn delete_manifest(&self, repository: &Repository, id: &ManifestId) -> StorageResult<bool> {
        Ok(self.remove_manifest(repository, id)?)
    }

    fn tags(&self, repository: &Repository) -> StorageResult<Option<Vec<String>>> {
        let repository = self.layout.repository(repository);
        let tags = names(&repository.tags())?;
        Ok(if tags.is_none() && layout::exists(repository.folder())? { Some(Vec::new()) } else { tags })
    }

    fn referrers(&self, repository: &Repository, subject: &Digest) -> StorageResult<Vec<Descriptor>> {
        Ok(self.list_referrers(repository, subject)?)
    }

    fn repositories(&self) -> StorageResult<Vec<String>> {
        Ok(self.list_repositories()?)
    }

    fn expire_uploads(&self) -> StorageResult<()> {
        let mut failure = None;
        for name in self.layout.list()? {
            if let Err(error) = upload::expire(&self.layout.repository(&name), &self.hashes) {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

/// Where a finished upload goes.
pub(super) struct UploadTarget {
    layout: Layout,
    content: Content,
    repository: Repository,
}

impl UploadTarget {
    /// Makes a file with this digest a blob of the repository.
    pub(super) fn adopt(&self, digest: &Digest, file: &fs::File, path: &Path) -> Result<()> {
        // The slow part first: a collection need not wait for it.
        file.sync_all().map_err(|source| Error::file("sync", path, source))?;
        let _shared = self.layout.lock_shared()?;
        self.content.adopt(digest, file, path)?;
        let storage =
            FileStorage { layout: self.layout.clone(), content: self.content.clone(), hashes: Arc::default() };
        storage.link(&self.layout.repository(&self.repository), digest)
    }
}
