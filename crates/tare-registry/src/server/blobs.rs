//! Blobs: pulling them, pushing them in one piece or many (distribution specification, "Pulling blobs", "Pushing blobs").

use super::body::{FilePart, Payload};
use super::range::{self, Part};
use super::refusal::{Code, Refusal};
use super::route::{self, UploadId, cut};
use super::service::{Answer, Call, Service, answer, with_body};
use super::storage::Upload;
use hyper::{StatusCode, header};
use std::sync::Arc;
use tare_spec::{Digest, Repository};

const CONTENT_DIGEST: &str = "docker-content-digest";

impl Service {
    pub(super) async fn blob(self: &Arc<Self>, call: &Call, name: Repository, digest: Digest) -> Answer {
        let etag = format!("\"{digest}\"");
        let (repository, wanted) = (name.clone(), digest.clone());
        let found = self.read(move |storage| storage.blob(&repository, &wanted)).await?;
        let (file, size, growth) = match (found, &self.proxy) {
            (Some(blob), _) => (blob.file, blob.size, None),
            (None, None) => return Err(unknown_blob(&digest)),
            (None, Some(proxy)) if call.is_head() => {
                let size = proxy.size(&name, &digest).await?.to_string();
                let headers = [("content-length", &*size), ("etag", &etag), (CONTENT_DIGEST, digest.as_str())];
                return answer(StatusCode::OK, &headers);
            }
            (None, Some(proxy)) => {
                let fetched = proxy.blob(self, &name, &digest).await?;
                (fetched.file, fetched.size, Some(fetched.growth))
            }
        };
        if call.header(header::IF_NONE_MATCH).is_some_and(|tags| tags.contains(&etag) || tags.trim() == "*") {
            return answer(StatusCode::NOT_MODIFIED, &[("etag", &etag), (CONTENT_DIGEST, digest.as_str())]);
        }
        // RFC 9110, section 13.1.5: another version is wanted in full.
        let same = call.header(header::IF_RANGE).is_none_or(|tag| tag == etag);
        let part = range::requested(call.header(header::RANGE).filter(|_| same), size);
        let (status, start, end) = match part {
            Part::Whole => (StatusCode::OK, 0, size),
            Part::Range { start, end } => (StatusCode::PARTIAL_CONTENT, start, end),
            Part::NotSatisfiable => {
                let message = format!("the blob has {size} bytes");
                let refusal = Refusal::new(Code::SizeInvalid, message).with_status(StatusCode::RANGE_NOT_SATISFIABLE);
                return Err(refusal.with_header("content-range", format!("bytes */{size}")));
            }
        };
        let part = FilePart::new(file, start, end);
        let part = match growth {
            Some(growth) => part.growing(growth),
            None => part,
        };
        let content_range = format!("bytes {start}-{}/{size}", end.saturating_sub(1));
        let headers = [
            ("content-type", "application/octet-stream"),
            ("accept-ranges", "bytes"),
            ("cache-control", "max-age=31536000"),
            ("etag", &etag),
            (CONTENT_DIGEST, digest.as_str()),
            ("content-range", &content_range),
        ];
        let count = if status == StatusCode::PARTIAL_CONTENT { headers.len() } else { headers.len() - 1 };
        with_body(status, &headers[..count], Payload::File(part))
    }

    pub(super) async fn delete_blob(&self, name: Repository, digest: Digest) -> Answer {
        let wanted = digest.clone();
        if !self.change(move |storage| storage.delete_blob(&name, &wanted)).await? {
            return Err(unknown_blob(&digest));
        }
        answer(StatusCode::ACCEPTED, &[(CONTENT_DIGEST, digest.as_str())])
    }

    /// `POST`: a whole blob, one of another repository, or the begin of an upload.
    pub(super) async fn begin_upload(&self, call: &mut Call, name: Repository) -> Answer {
        if let Some(digest) = call.query.one("mount") {
            let digest = route::digest(digest)?;
            let from = call.query.one("from").filter(|from| !from.is_empty()).map(route::repository).transpose()?;
            let (to, wanted) = (name.clone(), digest.clone());
            if self.change(move |storage| storage.mount(&to, &wanted, from.as_ref())).await? {
                return stored(&name, &digest);
            }
        } else if let Some(digest) = call.query.one("digest") {
            let digest = route::digest(digest)?;
            let id = self.new_upload(&name).await?;
            let upload = self.upload(&name, &id).await?;
            return match call.body.store(upload, None).await {
                Ok(upload) => {
                    let wanted = digest.clone();
                    self.change(move |_| upload.finish(&wanted)).await?;
                    stored(&name, &digest)
                }
                // Nobody knows the name of this upload: nobody can go on with it.
                Err(refusal) => {
                    // It may be gone already; if not, it expires.
                    let _ = self.forget(&name, &id).await;
                    Err(refusal)
                }
            };
        }
        if let Some(algorithm) = call.query.one("digest-algorithm").filter(|name| !matches!(*name, "sha256" | "sha512"))
        {
            let message = format!("unsupported digest algorithm {}: expected sha256 or sha512", cut(algorithm));
            return Err(Refusal::new(Code::DigestInvalid, message));
        }
        let id = self.new_upload(&name).await?;
        progress(StatusCode::ACCEPTED, &name, &id, 0)
    }

    pub(super) async fn upload_status(&self, name: Repository, id: UploadId) -> Answer {
        let size = self.upload_size(&name, &id).await?;
        progress(StatusCode::NO_CONTENT, &name, &id, size)
    }

    /// `PATCH`: a chunk with its range, or a stream of any length.
    pub(super) async fn patch_upload(&self, call: &mut Call, name: Repository, id: UploadId) -> Answer {
        let upload = self.upload(&name, &id).await?;
        let (upload, most) = in_order(call, &name, &id, upload)?;
        let upload = call.body.store(upload, most).await?;
        let size = upload.size();
        drop_elsewhere(upload).await;
        progress(StatusCode::ACCEPTED, &name, &id, size)
    }

    /// `PUT`: the last chunk if there is one, and the digest of the whole.
    pub(super) async fn finish_upload(&self, call: &mut Call, name: Repository, id: UploadId) -> Answer {
        let Some(digest) = call.query.one("digest") else {
            return Err(Refusal::new(Code::DigestInvalid, "the digest parameter is missing"));
        };
        let digest = route::digest(digest)?;
        let upload = self.upload(&name, &id).await?;
        // A range with nothing in it is what some clients send after their last chunk.
        let (upload, most) = if call.body.is_empty() { (upload, None) } else { in_order(call, &name, &id, upload)? };
        let upload = call.body.store(upload, most).await?;
        let wanted = digest.clone();
        self.change(move |_| upload.finish(&wanted)).await?;
        stored(&name, &digest)
    }

    pub(super) async fn cancel_upload(&self, name: Repository, id: UploadId) -> Answer {
        self.forget(&name, &id).await?;
        answer(StatusCode::NO_CONTENT, &[])
    }

    async fn new_upload(&self, name: &Repository) -> Result<UploadId, Refusal> {
        let name = name.clone();
        self.change(move |storage| storage.begin_upload(&name)).await
    }

    async fn upload(&self, name: &Repository, id: &UploadId) -> Result<Box<dyn Upload>, Refusal> {
        let (name, wanted) = (name.clone(), id.clone());
        self.change(move |storage| storage.resume_upload(&name, &wanted)).await?.ok_or_else(unknown_upload)
    }

    async fn upload_size(&self, name: &Repository, id: &UploadId) -> Result<u64, Refusal> {
        let (name, wanted) = (name.clone(), id.clone());
        self.read(move |storage| storage.upload_size(&name, &wanted)).await?.ok_or_else(unknown_upload)
    }

    async fn forget(&self, name: &Repository, id: &UploadId) -> Result<(), Refusal> {
        let upload = self.upload(name, id).await?;
        self.change(move |_| upload.discard()).await
    }
}

/// Compares the range of a chunk with what is there, and its length with its range. Gives back how long it may be.
fn in_order(
    call: &Call,
    name: &Repository,
    id: &UploadId,
    upload: Box<dyn Upload>,
) -> Result<(Box<dyn Upload>, Option<u64>), Refusal> {
    let Some(header) = call.header(header::CONTENT_RANGE) else { return Ok((upload, None)) };
    let Some((first, last)) = range::chunk(header) else {
        let message = format!("invalid Content-Range {}: expected FIRST-LAST", cut(header));
        return Err(Refusal::new(Code::BlobUploadInvalid, message));
    };
    let size = upload.size();
    if first != size {
        let message = format!("the chunk begins at {first}, the upload has {size} bytes");
        let refusal = Refusal::new(Code::BlobUploadInvalid, message).with_status(StatusCode::RANGE_NOT_SATISFIABLE);
        return Err(refusal.with_header("location", location(name, id)).with_header("range", so_far(size)));
    }
    let length = last - first + 1;
    let announced = call.header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if let Some(announced) = announced.filter(|announced| *announced != length) {
        let message = format!("Content-Range {} has {length} bytes, Content-Length is {announced}", cut(header));
        return Err(Refusal::new(Code::SizeInvalid, message));
    }
    Ok((upload, Some(length)))
}

/// Closing a file may wait for the disk.
async fn drop_elsewhere(upload: Box<dyn Upload>) {
    // A failure would be a panic while dropping; the upload's state is on the disk in any case.
    let _ = tokio::task::spawn_blocking(move || drop(upload)).await;
}

fn location(name: &Repository, id: &UploadId) -> String {
    format!("/v2/{name}/blobs/uploads/{}", id.as_str())
}

/// The `Range` of an upload. With nothing there it cannot be told from one byte; all registries write it so.
fn so_far(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

fn progress(status: StatusCode, name: &Repository, id: &UploadId, size: u64) -> Answer {
    let headers = [("location", &*location(name, id)), ("range", &so_far(size)), ("docker-upload-uuid", id.as_str())];
    answer(status, &headers)
}

fn stored(name: &Repository, digest: &Digest) -> Answer {
    let location = format!("/v2/{name}/blobs/{digest}");
    answer(StatusCode::CREATED, &[("location", &location), (CONTENT_DIGEST, digest.as_str())])
}

pub(super) fn unknown_blob(digest: &Digest) -> Refusal {
    Refusal::new(Code::BlobUnknown, format!("blob {digest} is not in this repository"))
}

fn unknown_upload() -> Refusal {
    Refusal::new(Code::BlobUploadUnknown, "no such upload")
}
