//! Media types of images (image specification, `media-types.md`; Docker's image manifest version 2, schema 2).

use super::InvalidImage;

/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer, not compressed.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer, gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI layer, zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker image manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker image configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker layer, not compressed.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Docker layer, gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Docker layer, zstd, as BuildKit and containerd write it.
pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

/// Docker's first manifest format, plain and signed.
pub(super) const DOCKER_SCHEMA1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];
/// Layers that registries may not pass on.
const NON_DISTRIBUTABLE: [&str; 2] =
    ["application/vnd.oci.image.layer.nondistributable.", "application/vnd.docker.image.rootfs.foreign."];

/// How a layer's tar stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// The compression that a layer's media type announces.
///
/// # Errors
/// [`InvalidImage::ForeignLayer`] for layers that are not with the registry, [`InvalidImage::MediaType`] for
/// anything else that is no layer.
pub fn layer_compression(media_type: &str) -> Result<Compression, InvalidImage> {
    match media_type {
        OCI_LAYER | DOCKER_LAYER => Ok(Compression::None),
        // Docker wrote this name without the dot for a while, and it still stands in old manifests.
        OCI_LAYER_GZIP | DOCKER_LAYER_GZIP | "application/vnd.docker.image.rootfs.diff.tar+gzip" => {
            Ok(Compression::Gzip)
        }
        OCI_LAYER_ZSTD | DOCKER_LAYER_ZSTD | "application/vnd.docker.image.rootfs.diff.tar+zstd" => {
            Ok(Compression::Zstd)
        }
        _ if is_non_distributable(media_type) => {
            Err(InvalidImage::ForeignLayer { media_type: media_type.chars().take(160).collect() })
        }
        _ => Err(InvalidImage::MediaType {
            media_type: media_type.chars().take(160).collect(),
            expected: "an OCI or Docker layer",
        }),
    }
}

/// Whether this is a layer that registries may not pass on, so that its bytes need not be with them.
#[must_use]
pub fn is_non_distributable(media_type: &str) -> bool {
    NON_DISTRIBUTABLE.iter().any(|prefix| media_type.starts_with(prefix))
}

/// Whether this is an OCI or Docker image manifest.
#[must_use]
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}

/// Whether this is an OCI index or a Docker manifest list.
#[must_use]
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_MANIFEST_LIST)
}

/// Whether this is an OCI or Docker image configuration.
#[must_use]
pub fn is_config(media_type: &str) -> bool {
    matches!(media_type, OCI_CONFIG | DOCKER_CONFIG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_announce_their_compression() {
        for (media_type, compression) in [
            (OCI_LAYER, Compression::None),
            (OCI_LAYER_GZIP, Compression::Gzip),
            (OCI_LAYER_ZSTD, Compression::Zstd),
            (DOCKER_LAYER, Compression::None),
            (DOCKER_LAYER_GZIP, Compression::Gzip),
            (DOCKER_LAYER_ZSTD, Compression::Zstd),
        ] {
            assert_eq!(layer_compression(media_type).unwrap(), compression, "{media_type}");
        }
    }

    #[test]
    fn foreign_layers_are_refused_by_name() {
        for media_type in [
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ] {
            let error = layer_compression(media_type).unwrap_err();
            assert!(matches!(error, InvalidImage::ForeignLayer { .. }), "{media_type}");
            assert!(error.to_string().contains(media_type));
        }
        for media_type in ["", "application/vnd.in-toto+json", OCI_MANIFEST] {
            assert!(matches!(layer_compression(media_type), Err(InvalidImage::MediaType { .. })), "{media_type}");
        }
    }
}
