//! Everything that can go wrong in the store.

use crate::archive::ArchiveError;
use crate::layer::EntryError;
use crate::tar::TarError;
use std::io;
use std::path::{Path, PathBuf};
use tare_spec::image::InvalidImage;
use tare_spec::reference::InvalidReference;
use tare_spec::{DiffId, Digest, ErrorKind, ImageId};

/// A failure of the store. What had been begun is undone, or swept by the next [`crate::Store::open`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed on one of the store's own files.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The disk or the quota is full.
    #[error("no space left for {what} in {}", path.display())]
    NoSpace {
        /// What was being written.
        what: String,
        /// Where.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The stream that delivers a blob broke.
    #[error("cannot read blob {digest} after {offset} of {size} bytes")]
    Read {
        /// The blob.
        digest: Digest,
        /// Bytes that did arrive.
        offset: u64,
        /// Bytes that its descriptor promises.
        size: u64,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A blob is shorter or longer than its descriptor says.
    #[error("blob {digest}: expected {expected} bytes, stream {}", if actual > expected { "goes on after them".to_owned() } else { format!("ended at {actual}") })]
    Size {
        /// The blob.
        digest: Digest,
        /// Bytes that its descriptor promises.
        expected: u64,
        /// Bytes that arrived; one more than expected stands for any number.
        actual: u64,
    },
    /// A blob's contents are not what its digest says.
    #[error("blob digest mismatch: expected {expected}, contents have {actual}")]
    Digest {
        /// The digest in its descriptor.
        expected: Digest,
        /// The digest of the bytes.
        actual: Digest,
    },
    /// A blob that was sound when it came is not what its digest says any more.
    #[error("blob {digest} is damaged: its contents have {actual}")]
    Damaged {
        /// Its name in the store.
        digest: Digest,
        /// The digest of the bytes.
        actual: Digest,
    },
    /// A layer's uncompressed contents are not what the image's configuration says.
    #[error("layer {layer}: expected diff id {expected}, contents have {actual}")]
    DiffId {
        /// The layer's blob.
        layer: Digest,
        /// The diff ID in the configuration.
        expected: DiffId,
        /// The diff ID of the bytes.
        actual: DiffId,
    },
    /// A blob larger than what the caller takes into memory.
    #[error("blob {digest} has {size} bytes, at most {limit} are taken")]
    BlobLimit {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A blob that is not in the store.
    #[error("blob {digest} is not in the store")]
    BlobMissing {
        /// The blob.
        digest: Digest,
    },
    /// A layer that is not in the store.
    #[error("layer with diff id {diff_id} is not in the store")]
    LayerMissing {
        /// The layer.
        diff_id: DiffId,
    },
    /// A layer compressed in a way that layers may not be.
    #[error("layer {layer} is compressed with {compression}: expected gzip, zstd or nothing")]
    Compression {
        /// The layer's blob, or "of the archive" for one that is no blob yet.
        layer: String,
        /// How it is compressed.
        compression: &'static str,
    },
    /// A layer that is no well-formed archive.
    #[error("layer {layer} is damaged")]
    Archive {
        /// The layer's blob, or "of the archive" for one that is no blob yet.
        layer: String,
        /// Where and how.
        #[source]
        source: TarError,
    },
    /// A layer with an entry that cannot be unpacked, or must not be.
    #[error("layer {layer}: cannot unpack {path:?}")]
    Entry {
        /// The layer's blob, or "of the archive" for one that is no blob yet.
        layer: String,
        /// The entry's path, as written, cut to 200 characters.
        path: String,
        /// Why.
        #[source]
        source: EntryError,
    },
    /// A layer that grows beyond every measure when it is inflated.
    #[error("layer {layer} of {size} bytes holds more than {limit} {unit}")]
    Bomb {
        /// The layer's blob, or "of the archive" for one that is no blob yet.
        layer: String,
        /// Its size as transferred.
        size: u64,
        /// The limit.
        limit: u64,
        /// Of what: bytes, entries, or bytes of names and attributes.
        unit: &'static str,
    },
    /// A document of an image that does not parse or contradicts another.
    #[error("image document {digest} is not usable")]
    Document {
        /// The document's blob.
        digest: Digest,
        /// Why.
        #[source]
        source: InvalidImage,
    },
    /// A layer's media type that cannot be stored.
    #[error("layer {layer} is not usable")]
    LayerType {
        /// The layer's blob.
        layer: Digest,
        /// Why.
        #[source]
        source: InvalidImage,
    },
    /// One of the store's own records does not parse.
    #[error("record {} is damaged", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// One of the store's own records was written by a newer program.
    #[error("record {} has version {version}, this program knows up to {known}", path.display())]
    Version {
        /// The record.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The newest known version.
        known: u32,
    },
    /// A name that no image has.
    #[error("No such image: {name}")]
    ImageNotFound {
        /// The name as Docker shows it: with its tag.
        name: String,
    },
    /// The beginning of more than one image id.
    #[error("image id {prefix:?} is ambiguous: {} and {} begin with it", first.0.short(), second.0.short())]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// One image.
        first: ImageId,
        /// Another one.
        second: ImageId,
    },
    /// A file of a tree that cannot be archived.
    #[error("cannot archive {path:?}")]
    Tree {
        /// Its path, cut to 200 characters.
        path: String,
        /// Why.
        #[source]
        source: EntryError,
    },
    /// What is written for somebody else could not be written.
    #[error("cannot write the archive")]
    Output {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file that is no archive of images, or no sound one.
    #[error("cannot load the archive")]
    ImageArchive(#[from] ArchiveError),
    /// A string that is neither a reference nor an image id.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
}

/// The result of the store's functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::ImageNotFound { .. } | Self::BlobMissing { .. } | Self::LayerMissing { .. } => ErrorKind::NotFound,
            Self::NoSpace { .. } | Self::Read { .. } => ErrorKind::Unavailable,
            Self::Size { .. }
            | Self::Digest { .. }
            | Self::DiffId { .. }
            | Self::BlobLimit { .. }
            | Self::Archive { .. }
            | Self::Bomb { .. }
            | Self::Ambiguous { .. } => ErrorKind::InvalidParameter,
            Self::Entry { source, .. } | Self::Tree { source, .. } => source.kind(),
            Self::Document { source, .. } | Self::LayerType { source, .. } => source.kind(),
            Self::ImageArchive(source) => source.kind(),
            Self::Reference(source) => source.kind(),
            Self::Compression { .. } => ErrorKind::NotImplemented,
            Self::Io { .. }
            | Self::Output { .. }
            | Self::Record { .. }
            | Self::Version { .. }
            | Self::Damaged { .. } => ErrorKind::Internal,
        }
    }
}

/// Whether the disk or a quota is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Adds what was tried on which file to a failed call.
pub(crate) trait Context<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| {
            let path = path.to_owned();
            if is_full(&source) {
                let what = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let path = path.parent().map(Path::to_owned).unwrap_or_default();
                return Error::NoSpace { what, path, source };
            }
            Error::Io { action, path, source }
        })
    }
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(io::Error::from).context(action, path)
    }
}
