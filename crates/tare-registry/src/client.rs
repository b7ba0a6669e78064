//! Manifests and blobs of repositories (distribution specification, "Pull").

use crate::auth::{Challenge, Session, access_denied};
use crate::blob::BlobReader;
use crate::credentials::{Anonymous, Credentials};
use crate::error::{Error, RegistryMessage, TransportError};
use crate::transport::{Answer, Retry, Timeouts, Transport};
use crate::url::Url;
use sha2::{Digest as _, Sha256, Sha512};
use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use tare_spec::digest::Algorithm;
use tare_spec::image::{Descriptor, MANIFEST_LIMIT, media_type};
use tare_spec::reference::DEFAULT_REGISTRY;
use tare_spec::{Digest, Reference};
use ureq::http::header;

/// Where the default registry really is.
const DEFAULT_REGISTRY_HOST: &str = "registry-1.docker.io";
const CONTENT_DIGEST: &str = "docker-content-digest";

/// How a [`Client`] behaves.
pub struct ClientOptions {
    /// Sent with every request: `tare/1.0`.
    pub user_agent: String,
    /// Registries (`host` or `host:port`), besides those on this machine, that may use plain HTTP or certificates
    /// that nobody vouches for.
    pub insecure: Vec<String>,
    /// Who we are.
    pub credentials: Box<dyn Credentials>,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How often to try.
    pub retry: Retry,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            user_agent: concat!("tare/", env!("CARGO_PKG_VERSION")).to_owned(),
            insecure: Vec::new(),
            credentials: Box::new(Anonymous),
            timeouts: Timeouts::default(),
            retry: Retry::default(),
        }
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

/// Reads from registries. Cheap to clone; clones share connections and tokens, and may be used from several threads.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) transport: Transport,
    credentials: Box<dyn Credentials>,
    sessions: Mutex<HashMap<String, Arc<Session>>>,
}

impl Client {
    /// A client without any connection yet.
    #[must_use]
    pub fn new(options: ClientOptions) -> Self {
        let transport = Transport::new(options.user_agent, options.insecure, options.timeouts, options.retry);
        let shared = Shared { transport, credentials: options.credentials, sessions: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// The manifest or index that a reference names: by its digest if it has one, else by its tag, else `latest`.
    ///
    /// # Errors
    /// [`Error`]: not found, no access, not reachable, larger than 4 MiB, or other bytes than the digest says.
    pub fn manifest(&self, reference: &Reference) -> Result<ManifestResponse, Error> {
        const ACCEPT: [&str; 4] = [
            media_type::OCI_INDEX,
            media_type::DOCKER_MANIFEST_LIST,
            media_type::OCI_MANIFEST,
            media_type::DOCKER_MANIFEST,
        ];
        let wanted = reference.clone().with_default_tag();
        let id = wanted.digest().map(Digest::as_str).or(wanted.tag()).expect("a default tag was given");
        let answer = self.shared.fetch(reference, Object::Manifest, id, &[("accept", &ACCEPT.join(", "))])?;
        let media_type = answer.header(header::CONTENT_TYPE).unwrap_or_default().to_owned();
        let announced = answer.headers().get(CONTENT_DIGEST).and_then(|value| Digest::parse(value.to_str().ok()?).ok());
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
        let mut reader = BlobReader::new(self.clone(), reference.clone(), descriptor);
        reader.open()?;
        Ok(Box::new(reader))
    }
}

/// The two kinds of things a repository holds.
#[derive(Clone, Copy)]
pub(crate) enum Object<'a> {
    Manifest,
    Blob(&'a Digest),
}

impl Shared {
    /// Gets an object with status 200 or 206.
    pub(crate) fn fetch(
        &self,
        reference: &Reference,
        object: Object<'_>,
        id: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, Error> {
        let session = self.session(reference.registry())?;
        let kind = match object {
            Object::Manifest => "manifests",
            Object::Blob(_) => "blobs",
        };
        // The grammars of repository, tag and digest leave nothing to encode.
        let url = session.base.join(&format!("/v2/{}/{kind}/{id}", reference.repository()));
        let url = url.ok_or_else(|| invalid_registry(reference.registry()))?;
        let mut challenged = false;
        loop {
            let authorization = session.authorization(reference, &self.transport, &*self.credentials)?;
            let answer = self.transport.get(&url, headers, authorization.as_deref())?;
            // Only the registry itself may ask who we are; what it redirects to may not.
            let is_registry = answer.url.origin() == session.base.origin();
            match (answer.status(), Challenge::of(&answer)) {
                (200 | 206, _) => return Ok(answer),
                (401, Some(challenge)) if is_registry && !challenged => {
                    session.challenged(challenge, reference);
                    challenged = true;
                }
                (_, challenge) if is_registry => return Err(self.refusal(answer, challenge, reference, object)),
                _ => return Err(answer.unexpected()),
            }
        }
    }

    /// What the registry's refusal means.
    fn refusal(
        &self,
        answer: Answer,
        challenge: Option<Challenge>,
        reference: &Reference,
        object: Object<'_>,
    ) -> Error {
        let (method, url, status) = (answer.method, answer.url.shown(), answer.status());
        match status {
            401 | 403 => {
                let source = answer.message();
                let insufficient = matches!(challenge, Some(Challenge::Bearer { error: Some(error), .. }) if error == "insufficient_scope");
                // An unreadable file was already reported when the challenge was answered.
                let known = matches!(self.credentials.for_registry(reference.registry()), Ok(Some(_)));
                if status == 401 && known && !insufficient {
                    let source =
                        source.unwrap_or_else(|| RegistryMessage::new("UNAUTHORIZED", "authentication required"));
                    return Error::Unauthorized { method, url, source };
                }
                access_denied(reference, source)
            }
            404 => {
                let source = answer.message();
                let name = reference.familiar_name();
                match (source, object) {
                    (Some(source), _) if source.code == "NAME_UNKNOWN" => Error::RepositoryUnknown { name, source },
                    (source, Object::Manifest) => Error::ManifestUnknown {
                        reference: reference.clone().with_default_tag().familiar(),
                        source: source.unwrap_or_else(|| RegistryMessage::new("MANIFEST_UNKNOWN", "manifest unknown")),
                    },
                    (source, Object::Blob(digest)) => Error::BlobUnknown {
                        digest: digest.clone(),
                        name,
                        source: source
                            .unwrap_or_else(|| RegistryMessage::new("BLOB_UNKNOWN", "blob unknown to registry")),
                    },
                }
            }
            _ => answer.unexpected(),
        }
    }

    /// How to reach and what to tell a registry; found out once by asking `/v2/`.
    fn session(&self, registry: &str) -> Result<Arc<Session>, Error> {
        let sessions = || self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = sessions().get(registry) {
            return Ok(Arc::clone(session));
        }
        // Not locked while asking: a slow registry must not hold up another one.
        let answer = self.ping(registry)?;
        // After a redirect of /v2/, the registry is still where the user said, and a challenge of the other place
        // is not the registry's.
        let base = answer.0;
        let challenge =
            Challenge::of(&answer.1).filter(|_| answer.1.status() == 401 && answer.1.url.origin() == base.origin());
        if matches!(answer.1.status(), 429 | 500..) {
            return Err(answer.1.unexpected());
        }
        let session = Arc::new(Session::new(registry, base, challenge));
        Ok(Arc::clone(sessions().entry(registry.to_owned()).or_insert(session)))
    }

    /// Asks `/v2/` with TLS, and where that is allowed, without.
    fn ping(&self, registry: &str) -> Result<(Url, Answer), Error> {
        let host = if registry == DEFAULT_REGISTRY { DEFAULT_REGISTRY_HOST } else { registry };
        let base = |scheme| Url::parse(&format!("{scheme}://{host}/v2/")).ok_or_else(|| invalid_registry(registry));
        let (secure, plain) = (base("https")?, base("http")?);
        if !self.transport.is_insecure(&secure) {
            return Ok((secure.clone(), self.transport.get(&secure, &[], None)?));
        }
        // One attempt: a server without TLS may just hang up, which looks like a failure that could pass.
        match self.transport.get_with(1, &secure, &[], None) {
            Ok(answer) => Ok((secure, answer)),
            Err(Error::Transport { method, url, source }) => {
                let unreachable = matches!(source, TransportError::Dial { .. } | TransportError::Lookup { .. });
                let error = Error::Transport { method, url, source };
                // Nobody listens there; without TLS it would be the same port.
                if unreachable && secure.port() == plain.port() {
                    return Err(error);
                }
                match self.transport.get(&plain, &[], None) {
                    Ok(answer) => Ok((plain, answer)),
                    Err(_) if unreachable => Err(error),
                    Err(other) => Err(other),
                }
            }
            Err(error) => Err(error),
        }
    }
}

fn invalid_registry(registry: &str) -> Error {
    Error::InvalidRegistry { registry: registry.to_owned() }
}

fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let hash = match algorithm {
        Algorithm::Sha256 => Sha256::digest(bytes).to_vec(),
        Algorithm::Sha512 => Sha512::digest(bytes).to_vec(),
    };
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Digest::parse(&format!("{}:{hex}", algorithm.name())).expect("a hash has its algorithm's length")
}
