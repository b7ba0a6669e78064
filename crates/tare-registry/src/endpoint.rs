//! The places that serve a registry's repositories: its mirrors, and itself.

use crate::access::Access;
use crate::answer::Answer;
use crate::auth::Session;
use crate::challenge::Challenge;
use crate::credentials::Credentials;
use crate::error::{Error, RegistryMessage, TransportError};
use crate::registries::{Mirror, Registries};
use crate::transport::{Request, Transport};
use crate::url::Url;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tare_spec::reference::DEFAULT_REGISTRY;
use tare_spec::{Digest, Reference};

/// Where the default registry really is.
const DEFAULT_REGISTRY_HOST: &str = "registry-1.docker.io";

/// One such place. Mirrors have their own credentials, under their own names: never those of the registry.
pub(crate) struct Endpoint {
    /// The registry's name, or a mirror's host and port.
    pub(crate) name: String,
    mirror: Option<Mirror>,
    /// A mirror that failed; it is not asked again by this client.
    broken: AtomicBool,
    session: Mutex<Option<Arc<Session>>>,
}

impl Endpoint {
    fn new(name: String, mirror: Option<Mirror>) -> Arc<Self> {
        Arc::new(Self { name, mirror, broken: AtomicBool::new(false), session: Mutex::default() })
    }

    pub(crate) fn is_mirror(&self) -> bool {
        self.mirror.is_some()
    }

    /// Takes a mirror out of use; the registry itself is always asked.
    pub(crate) fn give_up(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// What the reference's repository is called here.
    pub(crate) fn repository(&self, reference: &Reference) -> String {
        let prefix = self.mirror.as_ref().map_or("", |mirror| &mirror.prefix);
        format!("{prefix}{}", reference.repository())
    }
}

/// What all clones of a client share.
pub(crate) struct Shared {
    pub(crate) transport: Transport,
    pub(crate) credentials: Box<dyn Credentials>,
    registries: Registries,
    /// By registry, itself last.
    endpoints: Mutex<HashMap<String, Vec<Arc<Endpoint>>>>,
}

/// What a repository holds and answers for.
#[derive(Clone, Copy)]
pub(crate) enum Object<'a> {
    Manifest,
    Blob(&'a Digest),
    /// A list of tags or referrers.
    List,
}

/// An answer with status 200 or 206, and who gave it.
pub(crate) struct Fetched {
    pub(crate) answer: Answer,
    pub(crate) endpoint: Arc<Endpoint>,
}

impl Shared {
    pub(crate) fn new(transport: Transport, credentials: Box<dyn Credentials>, registries: Registries) -> Self {
        Self { transport, credentials, registries, endpoints: Mutex::default() }
    }

    fn endpoints(&self, registry: &str) -> Vec<Arc<Endpoint>> {
        let mut all = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let mirrors = self.registries.mirrors(registry).iter().map(|mirror| {
                let name =
                    if mirror.base.has_default_port() { mirror.base.host().to_owned() } else { mirror.base.address() };
                Endpoint::new(name, Some(mirror.clone()))
            });
            mirrors.chain([Endpoint::new(registry.to_owned(), None)]).collect()
        };
        all.entry(registry.to_owned()).or_insert_with(make).clone()
    }

    /// The registry itself.
    pub(crate) fn registry(&self, registry: &str) -> Arc<Endpoint> {
        self.endpoints(registry).pop().expect("a registry is always its own endpoint")
    }

    /// Gets what `path` names below a repository, from the first mirror that has it, else from the registry.
    pub(crate) fn fetch(
        &self,
        reference: &Reference,
        object: Object<'_>,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Fetched, Error> {
        let mut endpoints = self.endpoints(reference.registry());
        let itself = endpoints.pop().expect("a registry is always its own endpoint");
        for mirror in endpoints.into_iter().filter(|mirror| !mirror.broken.load(Ordering::Relaxed)) {
            match self.fetch_from(mirror.clone(), reference, object, path, headers) {
                Ok(fetched) => return Ok(fetched),
                // It does not have it, or not for us.
                Err(
                    Error::ManifestUnknown { .. }
                    | Error::RepositoryUnknown { .. }
                    | Error::BlobUnknown { .. }
                    | Error::AccessDenied { .. },
                ) => {}
                // The registry's own failure will be told if it fails, too.
                Err(_) => mirror.give_up(),
            }
        }
        self.fetch_from(itself, reference, object, path, headers)
    }

    fn fetch_from(
        &self,
        endpoint: Arc<Endpoint>,
        reference: &Reference,
        object: Object<'_>,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Fetched, Error> {
        let session = self.session(&endpoint)?;
        let repository = endpoint.repository(reference);
        let url = self.url(&session, &format!("/v2/{repository}/{path}"))?;
        let access = Access::pull(reference, &repository);
        let answer = self.ask(&session, &access, &url, &Request::new("Get").headers(headers))?;
        match answer.status() {
            200 | 206 => Ok(Fetched { answer, endpoint }),
            _ => Err(self.refusal(answer, &session, &access, reference, object)),
        }
    }

    /// A URL of the registry; the grammars of repository, tag and digest leave nothing to encode.
    pub(crate) fn url(&self, session: &Session, path: &str) -> Result<Url, Error> {
        session.base.join(path).ok_or_else(|| Error::InvalidRegistry { registry: session.base.address() })
    }

    /// Sends a request with what the registry wants to know of us, which goes to the registry's own origin only.
    pub(crate) fn ask(
        &self,
        session: &Session,
        access: &Access,
        url: &Url,
        request: &Request<'_>,
    ) -> Result<Answer, Error> {
        let own = url.origin() == session.base.origin();
        let mut challenged = false;
        loop {
            let authorization = match own {
                true => session.authorization(access, &self.transport, &*self.credentials)?,
                false => None,
            };
            let answer = self.transport.send(url, request, authorization.as_deref())?;
            // Only the registry itself may ask who we are; what it redirects to may not.
            let is_registry = own && answer.url.origin() == session.base.origin();
            match Challenge::of(&answer).filter(|_| answer.status() == 401 && is_registry && !challenged) {
                Some(challenge) => {
                    session.challenged(challenge, authorization.as_deref());
                    answer.discard();
                }
                None => return Ok(answer),
            }
            challenged = true;
        }
    }

    /// What a refusal means.
    pub(crate) fn refusal(
        &self,
        answer: Answer,
        session: &Session,
        access: &Access,
        reference: &Reference,
        object: Object<'_>,
    ) -> Error {
        if answer.url.origin() != session.base.origin() {
            return answer.unexpected();
        }
        let (method, url, status) = (answer.method, answer.url.shown(), answer.status());
        match status {
            401 | 403 => {
                let challenge = Challenge::of(&answer);
                let source = answer.message();
                let insufficient = matches!(challenge, Some(Challenge::Bearer { error: Some(error), .. }) if error == "insufficient_scope");
                if status == 401 && !insufficient && session.is_known() {
                    let source =
                        source.unwrap_or_else(|| RegistryMessage::new("UNAUTHORIZED", "authentication required"));
                    return Error::Unauthorized { method, url, source };
                }
                access.denied(source)
            }
            404 => {
                let source = answer.message();
                let name = reference.familiar_name();
                let unknown = |code: &str, message: &str| RegistryMessage::new(code, message);
                match (source, object) {
                    (Some(source), _) if source.code == "NAME_UNKNOWN" => Error::RepositoryUnknown { name, source },
                    (source, Object::List) => Error::RepositoryUnknown {
                        name,
                        source: source
                            .unwrap_or_else(|| unknown("NAME_UNKNOWN", "repository name not known to registry")),
                    },
                    (source, Object::Manifest) => Error::ManifestUnknown {
                        reference: reference.clone().with_default_tag().familiar(),
                        source: source.unwrap_or_else(|| unknown("MANIFEST_UNKNOWN", "manifest unknown")),
                    },
                    (source, Object::Blob(digest)) => Error::BlobUnknown {
                        digest: digest.clone(),
                        name,
                        source: source.unwrap_or_else(|| unknown("BLOB_UNKNOWN", "blob unknown to registry")),
                    },
                }
            }
            _ => answer.unexpected(),
        }
    }

    /// How to reach and what to tell an endpoint; found out once by asking `/v2/`.
    pub(crate) fn session(&self, endpoint: &Endpoint) -> Result<Arc<Session>, Error> {
        // Only threads that need the same endpoint wait for each other.
        let mut known = endpoint.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = &*known {
            return Ok(Arc::clone(session));
        }
        let (base, answer) = match &endpoint.mirror {
            // Who writes http:// into the configuration means it.
            Some(mirror) => (mirror.base.clone(), self.transport.send(&mirror.base, &Request::new("Get"), None)?),
            None => self.ping(&endpoint.name)?,
        };
        if matches!(answer.status(), 429 | 500..) {
            return Err(answer.unexpected());
        }
        // After a redirect of /v2/, the registry is still where the user said, and a challenge of the other place
        // is not the registry's.
        let challenge =
            Challenge::of(&answer).filter(|_| answer.status() == 401 && answer.url.origin() == base.origin());
        answer.discard();
        let session = Arc::new(Session::new(&endpoint.name, base, challenge));
        *known = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Asks `/v2/` with TLS, and where that is allowed, without.
    fn ping(&self, registry: &str) -> Result<(Url, Answer), Error> {
        let host = if registry == DEFAULT_REGISTRY { DEFAULT_REGISTRY_HOST } else { registry };
        let invalid = || Error::InvalidRegistry { registry: registry.to_owned() };
        let base = |scheme| Url::parse(&format!("{scheme}://{host}/v2/")).ok_or_else(invalid);
        let (secure, plain) = (base("https")?, base("http")?);
        let get = Request::new("Get");
        if !self.transport.is_insecure(&secure) && !self.transport.is_insecure(&plain) {
            return Ok((secure.clone(), self.transport.send(&secure, &get, None)?));
        }
        // One attempt: a server without TLS may just hang up, which looks like a failure that could pass.
        match self.transport.send(&secure, &get.once(), None) {
            Ok(answer) => Ok((secure, answer)),
            Err(Error::Transport { method, url, source }) => {
                let unreachable = matches!(source, TransportError::Dial { .. } | TransportError::Lookup { .. });
                let error = Error::Transport { method, url, source };
                // Nobody listens there; without TLS it would be the same port.
                if unreachable && secure.port() == plain.port() {
                    return Err(error);
                }
                match self.transport.send(&plain, &get, None) {
                    Ok(answer) => Ok((plain, answer)),
                    Err(_) if unreachable => Err(error),
                    Err(other) => Err(other),
                }
            }
            Err(error) => Err(error),
        }
    }
}
