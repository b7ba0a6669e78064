//! What a registry that knows only names has to ask another one: which digest a tag stands for, and how large a blob is.

use crate::access::Access;
use crate::blob::BlobReader;
use crate::client::{CONTENT_DIGEST, Client, version};
use crate::endpoint::Object;
use crate::error::Error;
use crate::transport::Request;
use std::io::Read;
use tare_spec::image::Descriptor;
use tare_spec::{Digest, Reference};

impl Client {
    /// The digest that the reference's tag stands for, without the manifest: registries with limits do not count this.
    /// `None` when the registry does not say it.
    ///
    /// # Errors
    /// [`Error`]: not found, no access, not reachable.
    pub fn manifest_digest(&self, reference: &Reference) -> Result<Option<Digest>, Error> {
        let wanted = reference.clone().with_default_tag();
        let accept = [("accept", crate::client::ACCEPT)];
        let path = format!("manifests/{}", version(&wanted));
        let answer = self.head(reference, Object::Manifest, &path, Request::new("Head").headers(&accept))?;
        Ok(answer.header(CONTENT_DIGEST).and_then(|digest| Digest::parse(digest).ok()))
    }

    /// How many bytes a blob has; `None` when the registry does not say it.
    ///
    /// # Errors
    /// [`Error`]: not found, no access, not reachable.
    pub fn blob_size(&self, reference: &Reference, digest: &Digest) -> Result<Option<u64>, Error> {
        let path = format!("blobs/{digest}");
        Ok(self.head(reference, Object::Blob(digest), &path, Request::new("Head"))?.content_length())
    }

    /// Streams a blob whose size only the registry knows; gives the size, too. Otherwise as [`Client::blob`].
    ///
    /// # Errors
    /// As [`Client::blob`]; [`Error::Protocol`] if the registry does not say the size.
    pub fn blob_by_digest(&self, reference: &Reference, digest: &Digest) -> Result<(u64, Box<dyn Read + Send>), Error> {
        let fetched = self.shared.fetch(reference, Object::Blob(digest), &format!("blobs/{digest}"), &[])?;
        let Some(size) = fetched.answer.content_length() else {
            return Err(fetched.answer.protocol("a blob without Content-Length".to_owned()));
        };
        let descriptor = Descriptor::new("application/octet-stream", digest.clone(), size);
        let mut reader = BlobReader::new(self.clone(), reference.clone(), &descriptor, 0)?;
        reader.start(fetched.answer, fetched.endpoint)?;
        Ok((size, Box::new(reader)))
    }

    fn head(
        &self,
        reference: &Reference,
        object: Object<'_>,
        path: &str,
        request: Request<'_>,
    ) -> Result<crate::answer::Answer, Error> {
        let endpoint = self.shared.registry(reference.registry());
        let session = self.shared.session(&endpoint)?;
        let access = Access::pull(reference, reference.repository());
        let url = self.shared.url(&session, &format!("/v2/{}/{path}", reference.repository()))?;
        let answer = self.shared.ask(&session, &access, &url, &request)?;
        match answer.status() {
            200 => Ok(answer),
            _ => Err(self.shared.refusal(answer, &session, &access, reference, object)),
        }
    }
}
