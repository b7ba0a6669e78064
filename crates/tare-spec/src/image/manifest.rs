//! Manifests and indexes (image specification, `manifest.md` and `image-index.md`).

use super::{Descriptor, ImageConfig, InvalidImage, MANIFEST_LIMIT, bounded, media_type, null_as_default};
use crate::platform::Platform;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What marks the attestation manifests that BuildKit puts beside the images of an index.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// One image: its configuration and its layers, the lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u64,
    /// OCI or Docker manifest; filled in by [`Manifest::parse`] when the document leaves it out.
    #[serde(default)]
    pub media_type: String,
    /// What kind of artifact it is, for content that is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image's configuration.
    pub config: Descriptor,
    /// The layers, the lowest first.
    #[serde(deserialize_with = "null_as_default")]
    pub layers: Vec<Descriptor>,
    /// Free labels.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests, one a platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u64,
    /// OCI index or Docker manifest list; filled in by [`Index::parse`] when the document leaves it out.
    #[serde(default)]
    pub media_type: String,
    /// The manifests.
    #[serde(deserialize_with = "null_as_default")]
    pub manifests: Vec<Descriptor>,
    /// Free labels.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What a reference can lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Box<Manifest>),
    /// Images for several platforms.
    Index(Index),
}

/// The fields that tell the kinds of documents apart; which one is meant is decided before anything else is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    media_type: Option<String>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Parses a manifest or an index.
    ///
    /// `content_type` is the `Content-Type` it came with, or the media type of the descriptor that led to it.
    /// Types that say nothing (`application/json`, `application/octet-stream`, `text/plain`) count as absent.
    ///
    /// # Errors
    /// [`InvalidImage`]: too large, not JSON, of both kinds or of none, or another type than `content_type`.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, InvalidImage> {
        const DOCUMENT: &str = "image manifest";
        bounded(DOCUMENT, bytes, MANIFEST_LIMIT)?;
        let json = |source| InvalidImage::Json { document: DOCUMENT, source };
        let shape: Shape = serde_json::from_slice(bytes).map_err(json)?;
        let delivered = content_type.map(essence).filter(|essence| {
            !matches!(essence.as_str(), "" | "application/json" | "application/octet-stream" | "text/plain")
        });
        let announced = shape.media_type.as_deref().or(delivered.as_deref());
        if shape.fs_layers.is_some() || announced.is_some_and(|t| media_type::DOCKER_SCHEMA1.contains(&t)) {
            return Err(InvalidImage::Schema1);
        }
        let is_manifest = shape.config.is_some() || shape.layers.is_some();
        let implied = match (is_manifest, shape.manifests.is_some()) {
            (true, true) => return Err(InvalidImage::Ambiguous),
            (false, false) => return Err(InvalidImage::Unrecognised),
            (true, false) => media_type::OCI_MANIFEST,
            (false, true) => media_type::OCI_INDEX,
        };
        let media_type = announced.unwrap_or(implied).to_owned();
        if let Some(delivered) = delivered.filter(|delivered| *delivered != media_type) {
            return Err(InvalidImage::MediaTypeMismatch { content_type: delivered, media_type });
        }
        if !media_type::is_manifest(&media_type) && !media_type::is_index(&media_type) {
            return Err(InvalidImage::MediaType { media_type, expected: "an image manifest or index" });
        }
        if media_type::is_manifest(&media_type) != is_manifest {
            return Err(InvalidImage::MediaTypeMismatch { content_type: media_type, media_type: implied.to_owned() });
        }
        let version = |version| {
            if version == 2 { Ok(()) } else { Err(InvalidImage::SchemaVersion { document: DOCUMENT, version }) }
        };
        if is_manifest {
            let mut manifest: Manifest = serde_json::from_slice(bytes).map_err(json)?;
            version(manifest.schema_version)?;
            manifest.media_type = media_type;
            Ok(Self::Manifest(Box::new(manifest)))
        } else {
            let mut index: Index = serde_json::from_slice(bytes).map_err(json)?;
            version(index.schema_version)?;
            index.media_type = media_type;
            Ok(Self::Index(index))
        }
    }
}

impl Manifest {
    /// Parses a manifest; see [`Document::parse`].
    ///
    /// # Errors
    /// As [`Document::parse`], and [`InvalidImage::MediaType`] for an index.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, InvalidImage> {
        match Document::parse(bytes, content_type)? {
            Document::Manifest(manifest) => Ok(*manifest),
            Document::Index(index) => {
                Err(InvalidImage::MediaType { media_type: index.media_type, expected: "an image manifest" })
            }
        }
    }

    /// The configuration's descriptor, if this is an image that can run.
    ///
    /// # Errors
    /// [`InvalidImage::MediaType`] for other artifacts, [`InvalidImage::ForeignLayer`] for layers that are not
    /// with the registry.
    pub fn image_config(&self) -> Result<&Descriptor, InvalidImage> {
        if !media_type::is_config(&self.config.media_type) {
            let media_type = self.config.media_type.chars().take(160).collect();
            return Err(InvalidImage::MediaType { media_type, expected: "an image configuration" });
        }
        for layer in &self.layers {
            media_type::layer_compression(&layer.media_type)?;
        }
        Ok(&self.config)
    }

    /// Checks that manifest and configuration speak of the same number of layers.
    ///
    /// # Errors
    /// [`InvalidImage::LayerCount`].
    pub fn check_layers(&self, config: &ImageConfig) -> Result<(), InvalidImage> {
        let (layers, diff_ids) = (self.layers.len(), config.rootfs.diff_ids.len());
        if layers == diff_ids { Ok(()) } else { Err(InvalidImage::LayerCount { layers, diff_ids }) }
    }
}

impl Index {
    /// Parses an index; see [`Document::parse`].
    ///
    /// # Errors
    /// As [`Document::parse`], and [`InvalidImage::MediaType`] for a manifest.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, InvalidImage> {
        match Document::parse(bytes, content_type)? {
            Document::Index(index) => Ok(index),
            Document::Manifest(manifest) => {
                Err(InvalidImage::MediaType { media_type: manifest.media_type, expected: "an image index" })
            }
        }
    }

    /// The entry that suits the platform best: the exact variant first, then older ones as [`Platform::rank`]
    /// orders them, then an entry that names no platform. Equals: the first in the document.
    ///
    /// The chosen entry may itself be an index; the caller bounds how deep it follows.
    #[must_use]
    pub fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        self.images()
            .filter_map(|entry| match &entry.platform {
                Some(offered) => platform.rank(offered).map(|rank| (rank, entry)),
                None => Some((usize::MAX, entry)),
            })
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, entry)| entry)
    }

    /// The platforms that the index offers, in its order.
    pub fn platforms(&self) -> impl Iterator<Item = &Platform> {
        self.images().filter_map(|entry| entry.platform.as_ref())
    }

    /// The entries that are images: neither attestations nor other artifacts.
    pub fn images(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifests.iter().filter(|entry| {
            (media_type::is_manifest(&entry.media_type) || media_type::is_index(&entry.media_type))
                && !entry.annotations.contains_key(REFERENCE_TYPE)
                && !entry.platform.as_ref().is_some_and(|p| p.os == "unknown" && p.architecture == "unknown")
        })
    }
}

/// A content type without its parameters, in lower case (RFC 9110, section 8.3.1).
fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::media_type::{DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_INDEX, OCI_MANIFEST};
    use super::*;

    fn digest(n: u8) -> String {
        format!("sha256:{}", format!("{n:02x}").repeat(32))
    }

    fn manifest(extra: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,{extra}
            "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":7}},
            "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{}","size":9}}]}}"#,
            digest(1),
            digest(2)
        )
    }

    fn index(entries: &[(u8, &str)]) -> Index {
        let entries: Vec<String> = entries
            .iter()
            .map(|(n, extra)| format!(r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":1{extra}}}"#, digest(*n)))
            .collect();
        let json = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        Index::parse(json.as_bytes(), None).unwrap()
    }

    fn platform(architecture: &str, variant: &str) -> String {
        let variant = if variant.is_empty() { String::new() } else { format!(r#","variant":"{variant}""#) };
        format!(r#","platform":{{"os":"linux","architecture":"{architecture}"{variant}}}"#)
    }

    #[test]
    fn the_type_is_what_document_and_registry_agree_on() {
        let docker = format!(r#""mediaType":"{DOCKER_MANIFEST}","#);
        for (extra, content_type, media_type) in [
            ("", None, OCI_MANIFEST),
            ("", Some("application/json"), OCI_MANIFEST),
            ("", Some("application/octet-stream; charset=utf-8"), OCI_MANIFEST),
            ("", Some(OCI_MANIFEST), OCI_MANIFEST),
            ("", Some("Application/vnd.oci.image.manifest.v1+json; charset=utf-8"), OCI_MANIFEST),
            ("", Some(DOCKER_MANIFEST), DOCKER_MANIFEST),
            (docker.as_str(), None, DOCKER_MANIFEST),
            (docker.as_str(), Some(DOCKER_MANIFEST), DOCKER_MANIFEST),
        ] {
            let parsed = Manifest::parse(manifest(extra).as_bytes(), content_type).unwrap();
            assert_eq!(parsed.media_type, media_type, "{extra} as {content_type:?}");
            assert_eq!((parsed.config.size, parsed.layers[0].size), (7, 9));
            parsed.image_config().unwrap();
        }
    }

    /// CVE-2021-41190: one digest, two meanings.
    #[test]
    fn documents_with_two_meanings_are_refused() {
        let parse = |extra: &str, content_type| Document::parse(manifest(extra).as_bytes(), content_type);
        assert!(matches!(parse(r#""manifests":[],"#, None), Err(InvalidImage::Ambiguous)));
        assert!(matches!(parse("", Some(OCI_INDEX)), Err(InvalidImage::MediaTypeMismatch { .. })));
        assert!(matches!(parse("", Some(DOCKER_MANIFEST_LIST)), Err(InvalidImage::MediaTypeMismatch { .. })));
        let as_index = format!(r#""mediaType":"{OCI_INDEX}","#);
        assert!(matches!(parse(&as_index, None), Err(InvalidImage::MediaTypeMismatch { .. })));
        let as_docker = format!(r#""mediaType":"{DOCKER_MANIFEST}","#);
        assert!(matches!(parse(&as_docker, Some(OCI_MANIFEST)), Err(InvalidImage::MediaTypeMismatch { .. })));
        let twice = format!(r#""mediaType":"{OCI_MANIFEST}","mediaType":"{OCI_INDEX}","#);
        assert!(matches!(parse(&twice, None), Err(InvalidImage::Json { .. })));
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let parse = |json: &str| Document::parse(json.as_bytes(), None);
        assert!(matches!(parse("{}"), Err(InvalidImage::Unrecognised)));
        assert!(matches!(parse("[]"), Err(InvalidImage::Json { .. })));
        assert!(matches!(parse(&"[".repeat(100_000)), Err(InvalidImage::Json { .. })));
        assert!(matches!(parse(r#"{"schemaVersion":1,"fsLayers":[]}"#), Err(InvalidImage::Schema1)));
        assert!(matches!(parse(r#"{"schemaVersion":3,"manifests":[]}"#), Err(InvalidImage::SchemaVersion { .. })));
        let large = " ".repeat(usize::try_from(MANIFEST_LIMIT).unwrap() + 1);
        assert!(matches!(parse(&large), Err(InvalidImage::TooLarge { .. })));
        let path = manifest("").replace(&digest(1), "sha256:../../../../etc/passwd");
        assert!(matches!(parse(&path), Err(InvalidImage::Json { .. })));
        let negative = manifest("").replace("\"size\":9", "\"size\":-9");
        assert!(matches!(parse(&negative), Err(InvalidImage::Json { .. })));
        assert!(matches!(Index::parse(manifest("").as_bytes(), None), Err(InvalidImage::MediaType { .. })));
    }

    #[test]
    fn artifacts_and_foreign_layers_are_no_images() {
        let artifact = manifest("").replace("vnd.oci.image.config.v1+json", "vnd.oci.empty.v1+json");
        let artifact = Manifest::parse(artifact.as_bytes(), None).unwrap();
        assert!(matches!(artifact.image_config(), Err(InvalidImage::MediaType { .. })));
        let foreign = manifest("").replace("layer.v1.tar", "layer.nondistributable.v1.tar");
        let foreign = Manifest::parse(foreign.as_bytes(), None).unwrap();
        assert!(matches!(foreign.image_config(), Err(InvalidImage::ForeignLayer { .. })));
    }

    #[test]
    fn the_best_platform_of_an_index_is_chosen() {
        let attestation = r#","platform":{"os":"unknown","architecture":"unknown"},
            "annotations":{"vnd.docker.reference.type":"attestation-manifest"}"#;
        let entries = [
            (9, attestation.to_owned()),
            (1, platform("386", "")),
            (2, platform("arm", "v6")),
            (3, platform("arm", "v7")),
            (4, platform("amd64", "")),
            (5, platform("amd64", "")),
            (6, platform("arm64", "v8")),
        ];
        let entries: Vec<(u8, &str)> = entries.iter().map(|(n, extra)| (*n, extra.as_str())).collect();
        let index = index(&entries);
        for (wanted, chosen) in [
            ("linux/amd64", Some(4)),
            ("linux/386", Some(1)),
            ("linux/arm64", Some(6)),
            ("linux/arm/v8", Some(3)),
            ("linux/arm/v6", Some(2)),
            ("linux/arm/v5", None),
            ("linux/s390x", None),
            ("unknown/unknown", None),
        ] {
            let found = index.select(&Platform::parse(wanted).unwrap()).map(|entry| entry.digest.to_string());
            assert_eq!(found, chosen.map(digest), "{wanted}");
        }
        assert_eq!(index.platforms().count(), 6);
    }

    #[test]
    fn an_entry_without_platform_is_the_last_resort() {
        let amd64 = platform("amd64", "");
        let index = index(&[(1, ""), (2, &amd64)]);
        let select = |wanted| index.select(&Platform::parse(wanted).unwrap()).unwrap().digest.to_string();
        assert_eq!(select("linux/amd64"), digest(2));
        assert_eq!(select("linux/s390x"), digest(1));
    }
}
