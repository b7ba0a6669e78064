//! Images: the documents of the OCI image specification and of Docker's image manifest version 2, schema 2.
//!
//! All of it comes from strangers. Documents are bounded before they are parsed, and one that could be read in
//! two ways is refused instead of being read in one.

pub mod config;
pub mod descriptor;
pub mod manifest;
pub mod media_type;

pub use config::{BuildStep, Config, Empty, Healthcheck, History, ImageConfig, RootFs};
pub use descriptor::Descriptor;
pub use manifest::{Document, Index, Manifest};
pub use media_type::{Compression, layer_compression};

use crate::ErrorKind;

/// Largest manifest or index in bytes: what the distribution specification asks registries to take at least.
pub const MANIFEST_LIMIT: u64 = 4 << 20;
/// Largest image configuration in bytes. Real ones have some kilobytes.
pub const CONFIG_LIMIT: u64 = 8 << 20;

/// A document that does not describe an image, or not in one way only.
#[derive(Debug, thiserror::Error)]
pub enum InvalidImage {
    /// Larger than anything real.
    #[error("{document} has {actual} bytes, more than the limit of {limit}")]
    TooLarge {
        /// What it should be.
        document: &'static str,
        /// The limit in bytes.
        limit: u64,
        /// Its size in bytes.
        actual: u64,
    },
    /// Not the JSON that was expected.
    #[error("cannot parse {document}")]
    Json {
        /// What it should be.
        document: &'static str,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// It has the fields of a manifest and those of an index (CVE-2021-41190).
    #[error("ambiguous document: it has the fields of a manifest and of an index")]
    Ambiguous,
    /// It has the fields of neither.
    #[error("the document is neither an image manifest nor an index")]
    Unrecognised,
    /// It says of itself to be something else than the registry said (CVE-2021-41190).
    #[error("the document's mediaType is {media_type}, but it was delivered as {content_type}")]
    MediaTypeMismatch {
        /// The `Content-Type` or the descriptor's media type.
        content_type: String,
        /// The document's own `mediaType`, or what its fields make it.
        media_type: String,
    },
    /// A document of another kind than asked for, or of no known kind.
    #[error("unsupported media type {media_type}: expected {expected}")]
    MediaType {
        /// What it is.
        media_type: String,
        /// What was expected.
        expected: &'static str,
    },
    /// Docker's first manifest format, which cannot be verified layer by layer.
    #[error("image manifest version 2, schema 1 is not supported: push the image again with a current client")]
    Schema1,
    /// A version of the format that is not known.
    #[error("unsupported schemaVersion {version} of {document}: expected 2")]
    SchemaVersion {
        /// What it should be.
        document: &'static str,
        /// What it says.
        version: u64,
    },
    /// A layer whose bytes are not with the registry.
    #[error("layer of type {media_type} is not distributable: foreign layers are not supported")]
    ForeignLayer {
        /// The layer's media type.
        media_type: String,
    },
    /// The configuration lists more or fewer layers than the manifest.
    #[error("the manifest lists {layers} layers, but the configuration {diff_ids} diff ids")]
    LayerCount {
        /// Layers of the manifest.
        layers: usize,
        /// Diff ids of the configuration.
        diff_ids: usize,
    },
    /// A root file system that is not made of layers.
    #[error("unsupported rootfs type {kind:?}: expected \"layers\"")]
    RootFsType {
        /// What it says.
        kind: String,
    },
}

impl InvalidImage {
    /// What is understood but refused is [`ErrorKind::NotImplemented`], the rest [`ErrorKind::InvalidParameter`].
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Schema1 | Self::ForeignLayer { .. } | Self::MediaType { .. } => ErrorKind::NotImplemented,
            Self::TooLarge { .. }
            | Self::Json { .. }
            | Self::Ambiguous
            | Self::Unrecognised
            | Self::MediaTypeMismatch { .. }
            | Self::SchemaVersion { .. }
            | Self::LayerCount { .. }
            | Self::RootFsType { .. } => ErrorKind::InvalidParameter,
        }
    }
}

/// Refuses what is larger than `limit` bytes, before a parser sees it.
fn bounded(document: &'static str, bytes: &[u8], limit: u64) -> Result<(), InvalidImage> {
    let actual = bytes.len() as u64;
    if actual > limit { Err(InvalidImage::TooLarge { document, limit, actual }) } else { Ok(()) }
}

/// Go writes `null` for empty lists and maps; so does Docker in its documents.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + serde::Deserialize<'de>,
{
    Ok(<Option<T> as serde::Deserialize>::deserialize(deserializer)?.unwrap_or_default())
}
