//! Images as one file: what `save` writes and `load` reads.
//!
//! What is written is an OCI image layout (image specification, `image-layout.md`) and, by one more document that
//! points to the same blobs, an archive of Docker's (`manifest.json`). What is read may be either, of any engine;
//! it is hostile: only what its documents name is looked at, by name, size and digest.

mod docker;
mod input;
mod load;
mod members;
mod oci;
mod save;

pub use input::ArchiveInput;
pub use load::{LoadProgress, Loaded};
pub use members::{Archive, ReadAt};
pub use save::Saved;

use crate::tar::TarError;
use tare_spec::image::InvalidImage;
use tare_spec::reference::InvalidReference;
use tare_spec::{Digest, ErrorKind, Platform};

/// The list of an OCI layout's images.
const INDEX: &str = "index.json";
/// The list of a Docker archive's images.
const MANIFEST: &str = "manifest.json";
/// What makes a folder an OCI layout.
const LAYOUT: &str = "oci-layout";
/// An image's full name in an OCI layout; containerd's, and Docker's since version 25.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// An image's name within an OCI layout: a tag, or by Podman a full name.
const OCI_NAME: &str = "org.opencontainers.image.ref.name";

/// Why a file is not taken as an archive of images.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is compressed in a way that is not supported.
    #[error("it is compressed with {compression}: expected gzip, zstd or nothing")]
    Compression {
        /// How.
        compression: &'static str,
    },
    /// It grows beyond every measure when it is inflated.
    #[error("its first {size} bytes hold more than {limit}")]
    Bomb {
        /// Compressed bytes that were read.
        size: u64,
        /// The most bytes that were taken of them.
        limit: u64,
    },
    /// It is no well-formed tar archive.
    #[error("it is no well-formed tar archive")]
    Tar(#[source] TarError),
    /// It could not be read.
    #[error("it cannot be read")]
    Read(#[source] std::io::Error),
    /// More members than any real archive.
    #[error("it has more than {limit} files")]
    Members {
        /// The limit.
        limit: usize,
    },
    /// Two files of one name: which of them is meant?
    #[error("it has two files {path:?}")]
    Duplicate {
        /// The name.
        path: String,
    },
    /// Nothing in it tells of an image.
    #[error("no images in it: neither index.json nor manifest.json")]
    NoImages,
    /// Written by Docker before version 1.10.
    #[error("it was saved by Docker before version 1.10 (repositories without manifest.json), which is not supported")]
    Ancient,
    /// The layout's version.
    #[error("unsupported version {version:?} of the OCI image layout: expected 1.0.0")]
    Layout {
        /// What it says.
        version: String,
    },
    /// A document names a file that is not there.
    #[error("{path:?} is not in it")]
    Missing {
        /// The name as written.
        path: String,
    },
    /// A document names a file outside of the archive.
    #[error("the path {path:?} leads out of it")]
    Climbs {
        /// The name as written.
        path: String,
    },
    /// A link that leads in a circle.
    #[error("{path:?} is a link that leads nowhere")]
    Link {
        /// The name as written.
        path: String,
    },
    /// A document larger than what is taken into memory.
    #[error("{path:?} has {size} bytes, at most {limit} are taken")]
    Size {
        /// Its name.
        path: String,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A blob is not of the size that its descriptor says.
    #[error("{path:?} has {actual} bytes, its descriptor says {expected}")]
    BlobSize {
        /// Its name.
        path: String,
        /// Its size.
        actual: u64,
        /// What its descriptor says.
        expected: u64,
    },
    /// A file's contents are not what its name or descriptor says.
    #[error("{path:?}: expected digest {expected}, contents have {actual}")]
    Digest {
        /// Its name.
        path: String,
        /// The digest by name or descriptor.
        expected: Digest,
        /// The digest of the bytes.
        actual: Digest,
    },
    /// A document that does not parse.
    #[error("{path:?} is not usable")]
    Json {
        /// Its name.
        path: String,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A document of an image that does not parse or contradicts another.
    #[error("{path:?} is not usable")]
    Document {
        /// Its name.
        path: String,
        /// Why.
        #[source]
        source: InvalidImage,
    },
    /// Indexes that lead to indexes that lead to indexes.
    #[error("{path:?}: indexes are nested more than {limit} deep")]
    Depth {
        /// The innermost that was read.
        path: String,
        /// The limit.
        limit: usize,
    },
    /// A name that is none.
    #[error("{name:?} is no name of an image")]
    Name {
        /// As written.
        name: String,
        /// Why.
        #[source]
        source: InvalidReference,
    },
    /// A name that says which content it stands for, or not which tag.
    #[error("{name:?} is no name with a tag")]
    Tag {
        /// As written.
        name: String,
    },
    /// No image of the platform that was asked for.
    #[error("no matching manifest for {platform} in it")]
    Platform {
        /// The platform.
        platform: Platform,
    },
}

impl ArchiveError {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Compression { .. } | Self::Ancient | Self::Layout { .. } => ErrorKind::NotImplemented,
            Self::Read(_) => ErrorKind::Unavailable,
            Self::Platform { .. } => ErrorKind::NotFound,
            Self::Document { source, .. } => source.kind(),
            Self::Bomb { .. }
            | Self::Tar(_)
            | Self::Members { .. }
            | Self::Duplicate { .. }
            | Self::NoImages
            | Self::Missing { .. }
            | Self::Climbs { .. }
            | Self::Link { .. }
            | Self::Size { .. }
            | Self::BlobSize { .. }
            | Self::Digest { .. }
            | Self::Json { .. }
            | Self::Depth { .. }
            | Self::Name { .. }
            | Self::Tag { .. } => ErrorKind::InvalidParameter,
        }
    }
}

/// Where a blob lies in an OCI layout.
fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// The digest that a file's name promises: `blobs/<algorithm>/<hex>`, or Docker's `<hex>.json`.
fn promised(path: &str) -> Option<Digest> {
    let text = match path.strip_prefix("blobs/") {
        Some(rest) => rest.replacen('/', ":", 1),
        None => format!("sha256:{}", path.strip_suffix(".json")?),
    };
    Digest::parse(&text).ok()
}
