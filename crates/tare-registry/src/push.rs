//! Writing to repositories (distribution specification, "Push").

use crate::access::Access;
use crate::auth::Session;
use crate::client::{CONTENT_DIGEST, Client, digest_of, version};
use crate::endpoint::Object;
use crate::error::Error;
use crate::transport::{Payload, Request};
use crate::upload::{Content, Upload};
use std::io::{self, Read};
use std::sync::Arc;
use tare_spec::digest::Algorithm;
use tare_spec::image::Descriptor;
use tare_spec::{Digest, Reference};

/// Opens what is to be uploaded at an offset in bytes.
pub type OpenAt<'a> = dyn Fn(u64) -> io::Result<Box<dyn Read + Send>> + 'a;

impl Client {
    /// Whether the reference's repository has this blob, in the size that the descriptor says.
    ///
    /// # Errors
    /// [`Error`]: no access, not reachable. A repository that does not exist has no blobs.
    pub fn has_blob(&self, reference: &Reference, descriptor: &Descriptor) -> Result<bool, Error> {
        let (session, access) = self.writing(reference, Access::push(reference))?;
        let path = format!("/v2/{}/blobs/{}", reference.repository(), descriptor.digest);
        let answer = self.shared.ask(&session, &access, &self.shared.url(&session, &path)?, &Request::new("Head"))?;
        match answer.status() {
            200 => Ok(answer.content_length().is_none_or(|length| length == descriptor.size)),
            404 => Ok(false),
            _ => Err(self.shared.refusal(answer, &session, &access, reference, Object::Blob(&descriptor.digest))),
        }
    }

    /// Makes a blob of another repository of the same registry one of this repository, without sending it. `false`:
    /// the registry did not, for whatever reason of its own; the blob must be uploaded.
    ///
    /// # Errors
    /// [`Error`]: not reachable.
    pub fn mount_blob(&self, reference: &Reference, digest: &Digest, from: &str) -> Result<bool, Error> {
        let (session, access) = self.writing(reference, Access::mount(reference, from))?;
        let url = self.shared.url(&session, &format!("/v2/{}/blobs/uploads/", reference.repository()))?;
        let url = url.with_query("mount", digest.as_str()).with_query("from", from);
        let answer = match self.shared.ask(&session, &access, &url, &Request::new("Post")) {
            Ok(answer) => answer,
            // Not to see the other repository is no reason not to write to this one.
            Err(Error::PushDenied { .. } | Error::AccessDenied { .. } | Error::Unauthorized { .. }) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        match answer.status() {
            201 => Ok(true),
            202 => {
                // An upload has begun instead, which nobody wants here.
                if let Some(location) = answer.location() {
                    let location = location.secured_like(&session.base);
                    let cancelled = self.shared.ask(&session, &access, &location, &Request::new("Delete").once());
                    // The registry forgets it by itself some day.
                    drop(cancelled);
                }
                Ok(false)
            }
            400..=428 => Ok(false),
            _ => Err(answer.unexpected()),
        }
    }

    /// Uploads a blob: `open` gives its bytes from an offset on, `progress` hears how many were sent – a number that
    /// goes back when the registry lost some.
    ///
    /// Sent in one piece where the registry takes it, else in chunks. A connection that breaks is resumed where the
    /// registry says. A failed upload is cancelled.
    ///
    /// # Errors
    /// [`Error`]: no access, not reachable, refused; [`Error::Source`] if `open` or its reader fails.
    pub fn upload_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        open: &OpenAt<'_>,
        progress: &dyn Fn(u64),
    ) -> Result<(), Error> {
        let (session, access) = self.writing(reference, Access::push(reference))?;
        Upload::new(&self.shared, &session, &access, Content { reference, descriptor, open, progress }).run()
    }

    /// Stores a manifest or an index under the reference's digest if it has one, else under its tag, else `latest`.
    /// What it refers to must be there already. Gives its digest.
    ///
    /// # Errors
    /// [`Error`]: no access, not reachable, refused; [`Error::DigestMismatch`] if the registry understood other bytes.
    pub fn put_manifest(&self, reference: &Reference, media_type: &str, bytes: &[u8]) -> Result<Digest, Error> {
        let wanted = reference.clone().with_default_tag();
        let algorithm = wanted.digest().map_or(Algorithm::Sha256, Digest::algorithm);
        let digest = digest_of(algorithm, bytes);
        if let Some(expected) = wanted.digest().filter(|expected| **expected != digest) {
            return Err(Error::DigestMismatch { expected: expected.clone(), actual: digest });
        }
        let (session, access) = self.writing(reference, Access::push(reference))?;
        let path = format!("/v2/{}/manifests/{}", wanted.repository(), version(&wanted));
        let headers = [("content-type", media_type)];
        let request = Request::new("Put").headers(&headers).payload(Payload::Bytes(bytes)).commits();
        let answer = self.shared.ask(&session, &access, &self.shared.url(&session, &path)?, &request)?;
        if !matches!(answer.status(), 200..=204) {
            return Err(self.shared.refusal(answer, &session, &access, reference, Object::Manifest));
        }
        match answer.header(CONTENT_DIGEST).and_then(|value| Digest::parse(value).ok()) {
            Some(actual) if actual.algorithm() == algorithm && actual != digest => {
                Err(Error::DigestMismatch { expected: digest, actual })
            }
            _ => Ok(digest),
        }
    }

    fn writing(&self, reference: &Reference, access: Access) -> Result<(Arc<Session>, Access), Error> {
        let endpoint = self.shared.registry(reference.registry());
        Ok((self.shared.session(&endpoint)?, access))
    }
}
