//! What the server keeps its content in. It is given an implementation and knows no folders of its own.

use super::route::{ManifestId, UploadId};
use std::fs::File;
use std::io;
use tare_spec::image::Descriptor;
use tare_spec::{Digest, Repository, Tag};

/// Why content could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The disk or the quota is full. What was being written is gone.
    #[error("no space left")]
    NoSpace {
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A manifest refers to content that its repository does not have.
    #[error("manifest refers to unknown {}", digests.iter().map(Digest::as_str).collect::<Vec<_>>().join(", "))]
    Missing {
        /// What is missing: the first few.
        digests: Vec<Digest>,
    },
    /// Uploaded bytes are not those of the digest.
    #[error("expected {expected}, the uploaded bytes have {actual}")]
    Digest {
        /// What the client announced.
        expected: Digest,
        /// What it sent.
        actual: Digest,
    },
    /// Another request writes to the same upload.
    #[error("another request is writing to this upload")]
    Busy,
    /// Anything else: the disk's failures.
    #[error("the storage failed")]
    Failed {
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The result of a [`Storage`].
pub type Result<T> = std::result::Result<T, StorageError>;

/// A blob, open for reading. It stays readable when it is deleted meanwhile.
#[derive(Debug)]
pub struct Blob {
    /// Its bytes; read at offsets only.
    pub file: File,
    /// How many there are.
    pub size: u64,
}

/// A manifest as it was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// The `Content-Type` that it was pushed with, without parameters.
    pub media_type: String,
    /// The document.
    pub bytes: Vec<u8>,
}

/// A manifest that is being pushed. Its digest is verified and its document parsed.
#[derive(Clone, Debug)]
pub struct NewManifest {
    /// The document with its digest and type.
    pub manifest: StoredManifest,
    /// Names it is to have besides its digest.
    pub tags: Vec<Tag>,
    /// Blobs that the repository must have.
    pub blobs: Vec<Digest>,
    /// Manifests that the repository must have.
    pub manifests: Vec<Digest>,
    /// The manifest it refers to, which need not be there, and how referrers are listed.
    pub referrer: Option<Referrer>,
}

/// What a manifest with a subject adds to the subject's list of referrers.
#[derive(Clone, Debug)]
pub struct Referrer {
    /// The subject.
    pub subject: Digest,
    /// The manifest's descriptor, with artifact type and annotations.
    pub descriptor: Descriptor,
}

/// A blob on its way in. Dropping it keeps what was written, for a later request to go on.
pub trait Upload: Send {
    /// Bytes so far.
    fn size(&self) -> u64;

    /// Appends bytes. After an error the upload is gone, wholly.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`], [`StorageError::Failed`].
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes it a blob of its repository if its bytes have this digest; durable when this returns. The upload is gone
    /// in any case.
    ///
    /// # Errors
    /// [`StorageError::Digest`], and as [`Upload::write`].
    fn finish(self: Box<Self>, digest: &Digest) -> Result<()>;

    /// Forgets it.
    ///
    /// # Errors
    /// [`StorageError::Failed`].
    fn discard(self: Box<Self>) -> Result<()>;

    /// What has been written, and what will be, for reading at offsets.
    ///
    /// # Errors
    /// [`StorageError::Failed`].
    fn reader(&self) -> Result<File>;
}

/// Content of a registry. Methods block; they are called from several threads, and beside other processes that work on
/// the same content.
pub trait Storage: Send + Sync {
    /// A blob of a repository. Asking for it also keeps it from being collected for a while.
    ///
    /// # Errors
    /// [`StorageError::Failed`].
    fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Blob>>;

    /// Takes a blob from a repository; other repositories keep it. Whether it was there.
    ///
    /// # Errors
    /// [`StorageError::Failed`].
    fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool>;

    /// Gives a repository a blob that another one has: `from`, or any. Whether it is there now. Durable.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`], [`StorageError::Failed`].
    fn mount(&self, repository: &Repository, digest: &Digest, from: Option<&Repository>) -> Result<bool>;

    /// Begins an upload.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`], [`StorageError::Failed`].
    fn begin_upload(&self, repository: &Repository) -> Result<UploadId>;

    /// Goes on with an upload; `None` when the repository has no such upload. Nobody else may write to it meanwhile.
    ///
    /// # Errors
    /// [`StorageError::Busy`], [`StorageError::Failed`].
    fn resume_upload(&self, repository: &Repository, id: &UploadId) -> Result<Option<Box<dyn Upload>>>;

    /// How many bytes an upload has.
    ///
    /// # Errors
    /// [`StorageError::Failed`].
    fn upload_size(&self, repository: &Repository, id: &UploadId) -> Result<Option<u64>>;

    /// A manifest.
    ///
    /// # Errors
    /// [`StorageError::Failed`].
    fn manifest(&self, repository: &Repository, id: &ManifestId) -> Result<Option<StoredManifest>>;

    /// Keeps a manifest with its tags, if all that it refers to is there. Durable when this returns.
    ///
    /// # Errors
    /// [`StorageError::Missing`], [`StorageError::NoSpace`], [`StorageError::Failed`].
    fn put_manifest(&self, repository: &Repository, manifest: &NewManifest) -> Result<()>;

    /// Removes a tag, or a manifest with all its tags. Whether it was there.
    ///
    /// # Errors
    /// [`StorageError::Failed`].
    fn delete_manifest(&self, repository: &Repository, id: &ManifestId) -> Result<bool>;

    /// A repository's tags in any order; `None` when there is no such repository.
    ///
    /// # Errors
    /// [`StorageError::Failed`].
    fn tags(&self, repository: &Repository) -> Result<Option<Vec<String>>>;

    /// The descriptors of all manifests whose subject this is, in the order of their digests.
    ///
    /// # Errors
    /// [`StorageError::Failed`].
    fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Descriptor>>;

    /// The repositories that have manifests, in any order.
    ///
    /// # Errors
    /// [`StorageError::Failed`].
    fn repositories(&self) -> Result<Vec<String>>;

    /// Removes uploads that nobody has gone on with for a day. Runs to its end.
    ///
    /// # Errors
    /// The first failure.
    fn expire_uploads(&self) -> Result<()>;
}

impl StorageError {
    /// A failure of the disk: full, or anything else.
    #[must_use]
    pub fn of(error: impl std::error::Error + Send + Sync + 'static, full: bool) -> Self {
        let source = Box::new(error);
        if full { Self::NoSpace { source } } else { Self::Failed { source } }
    }
}

impl From<io::Error> for StorageError {
    fn from(error: io::Error) -> Self {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        Self::of(error, full)
    }
}
