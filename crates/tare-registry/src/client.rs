//! Manifests and blobs of repositories (distribution specification, "Pull").

use crate::answer::Answer;
use crate::blob::BlobReader;
use crate::credentials::{Anonymous, Credentials};
use crate::docker_config::DockerConfig;
use crate::endpoint::{Object, Shared};
use crate::error::Error;
use crate::registries::Registries;
use crate::transport::{Retry, Timeouts, Transport, TransportOptions};
use sha2::{Digest as _, Sha256, Sha512};
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use tare_spec::digest::Algorithm;
use tare_spec::image::{Descriptor, MANIFEST_LIMIT};
use tare_spec::{Digest, Reference};
use ureq::http::header;

pub(crate) const CONTENT_DIGEST: &str = "docker-content-digest";
/// Where Docker looks for the certificates of registries.
const CERTIFICATES: &str = "/etc/docker/certs.d";

/// The kinds of manifests that are understood, for `Accept`.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// How a [`Client`] behaves.
pub struct ClientOptions {
    /// Sent with every request: `tare/1.0`.
    pub user_agent: String,
    /// Mirrors, and registries besides those on this machine that may be insecure.
    pub registries: Registries,
    /// The folder with a folder `host[:port]` of certificates for each registry that needs them: `*.crt` are
    /// authorities, `*.cert` and `*.key` ours.
    pub certificates: PathBuf,
    /// Who we are.
    pub credentials: Box<dyn Credentials>,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How often to try.
    pub retry: Retry,
}

impl Default for ClientOptions {
    /// Nobody, with no configuration but the certificates in `/etc/docker/certs.d`.
    fn default() -> Self {
        Self {
            user_agent: concat!("tare/", env!("CARGO_PKG_VERSION")).to_owned(),
            registries: Registries::default(),
            certificates: PathBuf::from(CERTIFICATES),
            credentials: Box::new(Anonymous),
            timeouts: Timeouts::default(),
            retry: Retry::default(),
        }
    }
}

impl ClientOptions {
    /// With the host's configuration of registries and the user's credentials.
    ///
    /// # Errors
    /// A configuration of registries that cannot be read or makes no sense.
    pub fn of_host() -> Result<Self, Error> {
        let credentials: Box<dyn Credentials> = match DockerConfig::of_user() {
            Some(config) => Box::new(config),
            None => Box::new(Anonymous),
        };
        Ok(Self { registries: Registries::of_host()?, credentials, ..Self::default() })
    }
}

/// A manifest or an index as the registry sent it. Its digest is verified, its content is not looked at.
#[derive(Clone, Debug)]
pub struct ManifestResponse {
    /// The document.
    pub bytes: Vec<u8>,
    /// The `Content-Type`; empty if there was none.
    pub media_type: String,
    /// The digest of `bytes`.
    pub digest: Digest,
}

/// Talks to registries. Cheap to clone; clones share connections and tokens, and may be used from several threads.
///
/// Reading asks a registry's mirrors first, in their order; writing does not.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

impl Client {
    /// A client without any connection yet.
    #[must_use]
    pub fn new(options: ClientOptions) -> Self {
        let ClientOptions { user_agent, registries, certificates, credentials, timeouts, retry } = options;
        let insecure = registries.insecure.clone();
        let transport = Transport::new(TransportOptions { user_agent, insecure, certificates, timeouts, retry });
        Self { shared: Arc::new(Shared::new(transport, credentials, registries)) }
    }

    /// The manifest or index that a reference names: by its digest if it has one, else by its tag, else `latest`.
    ///
    /// # Errors
    /// [`Error`]: not found, no access, not reachable, larger than 4 MiB, or other bytes than the digest says.
    pub fn manifest(&self, reference: &Reference) -> Result<ManifestResponse, Error> {
        let wanted = reference.clone().with_default_tag();
        let path = format!("manifests/{}", version(&wanted));
        loop {
            let fetched = self.shared.fetch(reference, Object::Manifest, &path, &[("accept", ACCEPT)])?;
            match self.read_manifest(fetched.answer, &wanted) {
                // A mirror with other bytes than it should have: the next one may do better.
                Err(_) if fetched.endpoint.is_mirror() => fetched.endpoint.give_up(),
                result => return result,
            }
        }
    }

    fn read_manifest(&self, answer: Answer, wanted: &Reference) -> Result<ManifestResponse, Error> {
        let media_type = answer.header(header::CONTENT_TYPE).unwrap_or_default().to_owned();
        if media_type.to_ascii_lowercase().starts_with("text/html") {
            return Err(answer.protocol("the answer is a web page, not a manifest"));
        }
        let announced = answer.header(CONTENT_DIGEST).and_then(|value| Digest::parse(value).ok());
        let bytes = answer.read("manifest", MANIFEST_LIMIT, &self.shared.transport)?;
        for expected in wanted.digest().into_iter().chain(&announced) {
            let actual = digest_of(expected.algorithm(), &bytes);
            if actual != *expected {
                return Err(Error::DigestMismatch { expected: expected.clone(), actual });
            }
        }
        let digest = wanted.digest().cloned().unwrap_or_else(|| digest_of(Algorithm::Sha256, &bytes));
        Ok(ManifestResponse { bytes, media_type, digest })
    }

    /// Streams a blob of the reference's repository.
    ///
    /// A connection that breaks is resumed where it broke. The stream never yields more bytes than the descriptor
    /// says, and ends early only with an error – but **the digest is not verified**: that is the caller's work.
    ///
    /// # Errors
    /// [`Error`]: not found, no access, not reachable, or another size than the descriptor says. While reading, the
    /// same errors come inside an [`std::io::Error`].
    pub fn blob(&self, reference: &Reference, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
        self.blob_from(reference, descriptor, 0)
    }

    /// As [`Self::blob`], but the stream begins at the byte `offset`, also where the registry does not know ranges.
    ///
    /// # Errors
    /// As [`Self::blob`]; [`Error::BlobSize`] if the offset is beyond the end.
    pub fn blob_from(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>, Error> {
        let mut reader = BlobReader::new(self.clone(), reference.clone(), descriptor, offset)?;
        reader.open()?;
        Ok(Box::new(reader))
    }
}

/// What names a manifest in its repository: the digest or the tag.
pub(crate) fn version(reference: &Reference) -> &str {
    reference.digest().map(Digest::as_str).or(reference.tag()).unwrap_or("latest")
}

pub(crate) fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let hash = match algorithm {
        Algorithm::Sha256 => Sha256::digest(bytes).to_vec(),
        Algorithm::Sha512 => Sha512::digest(bytes).to_vec(),
    };
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Digest::parse(&format!("{}:{hex}", algorithm.name())).expect("a hash has its algorithm's length")
}
