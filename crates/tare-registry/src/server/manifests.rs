//! Manifests: pulling, pushing and deleting them (distribution specification, "Pulling manifests", "Pushing Manifests").

use super::body::Payload;
use super::refusal::{Code, Refusal};
use super::route::{ManifestId, cut};
use super::service::{Answer, Call, Service, answer, with_body};
use super::storage::{NewManifest, Referrer, StoredManifest};
use hyper::{StatusCode, header};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use tare_spec::digest::Algorithm;
use tare_spec::image::{Descriptor, Document, MANIFEST_LIMIT, media_type};
use tare_spec::{Digest, Repository, Tag};

/// How many descriptors a manifest may have: each one is looked up before the manifest is taken.
const DESCRIPTORS: usize = 20_000;
/// How many tags one request may set; the specification wants ten at least.
const TAGS: usize = 64;

impl Service {
    pub(super) async fn manifest(&self, call: &Call, name: Repository, id: ManifestId) -> Answer {
        let (manifest, stale) = match &self.proxy {
            Some(proxy) => proxy.manifest(self, &name, &id).await?,
            None => {
                let wanted = id.clone();
                let found = self.read(move |storage| storage.manifest(&name, &wanted)).await?;
                (found.ok_or_else(|| unknown_manifest(&id))?, false)
            }
        };
        let etag = format!("\"{}\"", manifest.digest);
        let digest = ("docker-content-digest", manifest.digest.as_str());
        if call.header(header::IF_NONE_MATCH).is_some_and(|tags| tags.contains(&etag) || tags.trim() == "*") {
            return answer(StatusCode::NOT_MODIFIED, &[("etag", &etag), digest]);
        }
        let mut headers = vec![("content-type", manifest.media_type.as_str()), ("etag", &etag), digest];
        // Distribution specification, "Warnings".
        let warning = "299 - \"the registry behind this cache cannot be reached: this may be out of date\"";
        headers.extend(stale.then_some(("warning", warning)));
        with_body(StatusCode::OK, &headers, Payload::document(manifest.bytes))
    }

    pub(super) async fn put_manifest(&self, call: &mut Call, name: Repository, id: ManifestId) -> Answer {
        let too_large = || {
            let message = format!("a manifest may have {MANIFEST_LIMIT} bytes");
            Refusal::new(Code::ManifestInvalid, message).with_status(StatusCode::PAYLOAD_TOO_LARGE)
        };
        let announced = call.header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        if announced.is_some_and(|length| length > MANIFEST_LIMIT) {
            return Err(too_large());
        }
        let content_type = call.header(header::CONTENT_TYPE).map(str::to_owned);
        let tags = tags(call, &id)?;
        let bytes = call.body.collect(MANIFEST_LIMIT, &self.memory).await?.ok_or_else(too_large)?;
        // Hashing and parsing four megabytes would hold up other requests.
        let work = move || read_manifest(bytes, content_type.as_deref(), &id, tags);
        let new = tokio::task::spawn_blocking(work).await.map_err(|panic| Refusal::internal(panic.to_string()))??;
        let location = format!("/v2/{name}/manifests/{}", new.manifest.digest);
        let digest = new.manifest.digest.clone();
        let subject = new.referrer.as_ref().map(|referrer| referrer.subject.to_string());
        let tags = new.tags.iter().map(Tag::as_str).collect::<Vec<_>>().join(", ");
        self.change(move |storage| storage.put_manifest(&name, &new)).await?;
        let mut headers = vec![("location", location.as_str()), ("docker-content-digest", digest.as_str())];
        headers.extend(subject.as_deref().map(|subject| ("oci-subject", subject)));
        headers.extend((!tags.is_empty()).then_some(("oci-tag", tags.as_str())));
        answer(StatusCode::CREATED, &headers)
    }

    pub(super) async fn delete_manifest(&self, name: Repository, id: ManifestId) -> Answer {
        let wanted = id.clone();
        if !self.change(move |storage| storage.delete_manifest(&name, &wanted)).await? {
            return Err(unknown_manifest(&id));
        }
        answer(StatusCode::ACCEPTED, &[])
    }
}

pub(super) fn unknown_manifest(id: &ManifestId) -> Refusal {
    Refusal::new(Code::ManifestUnknown, format!("manifest {id} is not in this repository"))
}

/// The names that a push gives: its tag, or the `tag` parameters beside a digest.
fn tags(call: &Call, id: &ManifestId) -> Result<Vec<Tag>, Refusal> {
    let named = match id {
        ManifestId::Tag(tag) => vec![tag.clone()],
        ManifestId::Digest(_) => Vec::new(),
    };
    let parameters = call
        .query
        .all("tag")
        .map(|tag| Tag::parse(tag).ok_or_else(|| Refusal::new(Code::TagInvalid, format!("invalid tag {}", cut(tag)))));
    let tags: Vec<Tag> = named.into_iter().map(Ok).chain(parameters).collect::<Result<_, _>>()?;
    if tags.len() > TAGS {
        let message = format!("at most {TAGS} tags at once");
        return Err(Refusal::new(Code::TagInvalid, message).with_status(StatusCode::URI_TOO_LONG));
    }
    Ok(tags)
}

/// What a registry reads of a manifest besides what images are made of.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Artifact {
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

/// Checks a pushed document: its digest, its form and its type.
pub(super) fn read_manifest(
    bytes: Vec<u8>,
    content_type: Option<&str>,
    id: &ManifestId,
    tags: Vec<Tag>,
) -> Result<NewManifest, Refusal> {
    let digest = match id {
        ManifestId::Tag(_) => digest_of(Algorithm::Sha256, &bytes),
        ManifestId::Digest(expected) => {
            let actual = digest_of(expected.algorithm(), &bytes);
            if actual != *expected {
                let message = format!("expected {expected}, the manifest has {actual}");
                return Err(Refusal::new(Code::DigestInvalid, message));
            }
            actual
        }
    };
    let invalid = |error: &dyn std::error::Error| Refusal::new(Code::ManifestInvalid, super::refusal::causes(error));
    let document = Document::parse(&bytes, content_type).map_err(|error| invalid(&error))?;
    let artifact: Artifact = serde_json::from_slice(&bytes).map_err(|error| invalid(&error))?;
    let (media_type, blobs, manifests, config_type) = match document {
        Document::Manifest(manifest) => {
            // What may not be distributed need not be here (image specification, "Non-Distributable Layers").
            let layers = manifest.layers.iter().filter(|layer| !media_type::is_non_distributable(&layer.media_type));
            let blobs = layers.chain([&manifest.config]).map(|blob| blob.digest.clone()).collect();
            (manifest.media_type, blobs, Vec::new(), Some(manifest.config.media_type))
        }
        Document::Index(index) => {
            let manifests: Vec<Digest> = index.manifests.iter().map(|manifest| manifest.digest.clone()).collect();
            (index.media_type, Vec::new(), manifests, None)
        }
    };
    if blobs.len() + manifests.len() > DESCRIPTORS {
        let message = format!("a manifest may have {DESCRIPTORS} descriptors");
        return Err(Refusal::new(Code::ManifestInvalid, message));
    }
    let referrer = artifact.subject.map(|subject| Referrer {
        subject: subject.digest,
        descriptor: Descriptor {
            artifact_type: artifact.artifact_type.filter(|kind| !kind.is_empty()).or(config_type),
            annotations: artifact.annotations.unwrap_or_default(),
            ..Descriptor::new(media_type.as_str(), digest.clone(), bytes.len() as u64)
        },
    });
    Ok(NewManifest { manifest: StoredManifest { digest, media_type, bytes }, tags, blobs, manifests, referrer })
}

/// The digest of a document.
fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    match algorithm {
        Algorithm::Sha256 => Digest::from_sha256(Sha256::digest(bytes).into()),
        Algorithm::Sha512 => {
            let hex: String = sha2::Sha512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            Digest::parse(&format!("sha512:{hex}")).expect("a hash has its algorithm's length")
        }
    }
}
