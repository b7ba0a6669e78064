//! What can go wrong between us and a registry.

use crate::rate_limit::RateLimit;
use std::{fmt, io, path::PathBuf, time::Duration};
use tare_spec::{Digest, ErrorKind};

/// A failure of a registry or of the way to it. Where Docker has words for it, they are Docker's; the cause,
/// which Docker appends after a colon, is the source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request got no answer.
    #[error("{method} \"{url}\"")]
    Transport {
        /// As Docker writes it: `Get`.
        method: &'static str,
        /// What was asked.
        url: String,
        /// Why there was no answer.
        #[source]
        source: TransportError,
    },
    /// The repository does not exist, or not for us: registries do not tell the two apart.
    #[error("pull access denied for {name}, repository does not exist or may require 'tare login'")]
    AccessDenied {
        /// The repository, in its short form.
        name: String,
        /// The registry's words.
        #[source]
        source: RegistryMessage,
    },
    /// We may not write there: registries do not say why.
    #[error("push access denied for {name}, repository does not exist or may require 'tare login'")]
    PushDenied {
        /// The repository, in its short form.
        name: String,
        /// The registry's words.
        #[source]
        source: RegistryMessage,
    },
    /// The registry does not accept the credentials.
    #[error("{method} \"{url}\"")]
    Unauthorized {
        /// As Docker writes it: `Get`.
        method: &'static str,
        /// What was asked.
        url: String,
        /// The registry's words.
        #[source]
        source: RegistryMessage,
    },
    /// The registry wants a user name and a password, and there are none.
    #[error("{method} \"{url}\": no basic auth credentials")]
    NoCredentials {
        /// As Docker writes it: `Get`.
        method: &'static str,
        /// What was asked.
        url: String,
        /// The registry to log in to.
        registry: String,
    },
    /// No such tag or digest.
    #[error("manifest for {reference} not found")]
    ManifestUnknown {
        /// The reference, in its short form.
        reference: String,
        /// The registry's words.
        #[source]
        source: RegistryMessage,
    },
    /// No such repository.
    #[error("repository {name} not found")]
    RepositoryUnknown {
        /// The repository, in its short form.
        name: String,
        /// The registry's words.
        #[source]
        source: RegistryMessage,
    },
    /// The registry lost a blob that its manifest names.
    #[error("blob {digest} of {name} not found")]
    BlobUnknown {
        /// The blob.
        digest: Digest,
        /// The repository, in its short form.
        name: String,
        /// The registry's words.
        #[source]
        source: RegistryMessage,
    },
    /// Too many requests, also after waiting.
    #[error("{method} \"{url}\"")]
    TooManyRequests {
        /// As Docker writes it: `Get`.
        method: &'static str,
        /// What was asked.
        url: String,
        /// What the registry says of its limit.
        limit: Box<RateLimit>,
        /// The registry's words.
        #[source]
        source: RegistryMessage,
    },
    /// An answer that the protocol does not know.
    #[error("{method} \"{url}\": received unexpected HTTP status: {}", status_line(*status))]
    Status {
        /// As Docker writes it: `Get`.
        method: &'static str,
        /// What was asked.
        url: String,
        /// The status code.
        status: u16,
        /// The registry's words, if there were any.
        #[source]
        source: Option<RegistryMessage>,
    },
    /// An answer that breaks the protocol.
    #[error("{method} \"{url}\": {problem}")]
    Protocol {
        /// As Docker writes it: `Get`.
        method: &'static str,
        /// What was asked.
        url: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// The bytes are not those that were asked for.
    #[error("manifest verification failed for digest {expected}: received {actual}")]
    DigestMismatch {
        /// What was asked for, or what the registry said it is.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A document larger than anything real.
    #[error("{method} \"{url}\": the {what} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// As Docker writes it: `Get`.
        method: &'static str,
        /// What was asked.
        url: String,
        /// What it should be.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// A blob that is not as long as its descriptor says.
    #[error("blob {digest}: expected {expected} bytes, the registry has {actual}")]
    BlobSize {
        /// The blob.
        digest: Digest,
        /// Bytes by the descriptor.
        expected: u64,
        /// Bytes at the registry, or received when it became too much.
        actual: u64,
    },
    /// What should be uploaded could not be read.
    #[error("cannot read what is to be uploaded to \"{url}\"")]
    Source {
        /// Where it should go.
        url: String,
        /// Why it could not be read.
        #[source]
        source: io::Error,
    },
    /// The registry does not have this function.
    #[error("registry {registry} does not support {what}")]
    Unsupported {
        /// The registry.
        registry: String,
        /// The function.
        what: &'static str,
    },
    /// The registry sends us to a place where secrets would travel in clear text.
    #[error("registry {registry} refers to {url}, which is not encrypted")]
    InsecureRedirection {
        /// The registry.
        registry: String,
        /// Where it sends us.
        url: String,
    },
    /// The host has no certificates to trust.
    #[error("cannot load the trusted certificates of this host: {problems}")]
    Certificates {
        /// What was tried and failed.
        problems: String,
    },
    /// The registry's name does not make a URL.
    #[error("invalid registry name {registry:?}")]
    InvalidRegistry {
        /// The name.
        registry: String,
    },
    /// Docker's configuration file cannot be read.
    #[error("cannot read {}", path.display())]
    ConfigRead {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Docker's configuration file is damaged.
    #[error("cannot parse {}", path.display())]
    ConfigParse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// An entry of Docker's configuration file is damaged. Its content is a secret and not repeated.
    #[error("{}: invalid auth configuration of {registry}: expected base64 of user:password", path.display())]
    ConfigAuth {
        /// The file.
        path: PathBuf,
        /// The entry.
        registry: String,
    },
    /// A configuration file says something impossible.
    #[error("{}: {problem}", path.display())]
    ConfigInvalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Docker's configuration file cannot be written.
    #[error("cannot write {}", path.display())]
    ConfigWrite {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program that keeps credentials failed.
    #[error("credential helper docker-credential-{helper} {action}: {problem}")]
    CredentialHelper {
        /// The helper's name, without `docker-credential-`.
        helper: String,
        /// What it should do: `get`, `store`, `erase` or `list`.
        action: &'static str,
        /// What went wrong: what the program said, without secrets.
        problem: String,
    },
}

impl Error {
    /// The kind of failure. Denied access counts as not found, as Docker's API has it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::AccessDenied { .. }
            | Self::PushDenied { .. }
            | Self::ManifestUnknown { .. }
            | Self::RepositoryUnknown { .. }
            | Self::BlobUnknown { .. } => ErrorKind::NotFound,
            Self::Unauthorized { .. } | Self::NoCredentials { .. } => ErrorKind::Unauthorized,
            Self::InsecureRedirection { .. } => ErrorKind::Forbidden,
            Self::DigestMismatch { .. }
            | Self::TooLarge { .. }
            | Self::BlobSize { .. }
            | Self::InvalidRegistry { .. }
            | Self::ConfigParse { .. }
            | Self::ConfigInvalid { .. }
            | Self::ConfigAuth { .. } => ErrorKind::InvalidParameter,
            Self::Unsupported { .. } => ErrorKind::NotImplemented,
            Self::Transport { .. } | Self::TooManyRequests { .. } | Self::Status { .. } | Self::Protocol { .. } => {
                ErrorKind::Unavailable
            }
            Self::Certificates { .. }
            | Self::ConfigRead { .. }
            | Self::ConfigWrite { .. }
            | Self::CredentialHelper { .. }
            | Self::Source { .. } => ErrorKind::Internal,
        }
    }
}

/// `500 Internal Server Error`; the number alone where there is no such name.
fn status_line(status: u16) -> String {
    let name = ureq::http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    name.map_or_else(|| status.to_string(), |name| format!("{status} {name}"))
}

/// Why a request got no answer, in the words of Go's HTTP client, which scripts know from Docker.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// No connection.
    #[error("dial tcp {address}: connect: {reason}")]
    Dial {
        /// Host and port.
        address: String,
        /// The system's reason, in lower case.
        reason: String,
    },
    /// No connection in time.
    #[error("dial tcp {address}: i/o timeout")]
    DialTimeout {
        /// Host and port.
        address: String,
    },
    /// No address for the name.
    #[error("dial tcp: {problem}")]
    Lookup {
        /// The name, who was asked, and what the answer was.
        problem: String,
    },
    /// Connected, and then nothing.
    #[error("{address}: no data for {} s", waited.as_secs())]
    Stalled {
        /// Host and port.
        address: String,
        /// How long we waited.
        waited: Duration,
    },
    /// Bytes came, but too slowly.
    #[error("{address}: not complete after {} s", waited.as_secs())]
    TooSlow {
        /// Host and port.
        address: String,
        /// How long we waited.
        waited: Duration,
    },
    /// The connection ended early.
    #[error("{address}: unexpected EOF")]
    UnexpectedEnd {
        /// Host and port.
        address: String,
    },
    /// The encrypted connection could not be made: usually an untrusted certificate or no TLS at all.
    #[error("tls: {problem}")]
    Tls {
        /// What the TLS library says.
        problem: String,
    },
    /// The connection broke.
    #[error("read tcp {address}")]
    Io {
        /// Host and port.
        address: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Not HTTP, or not as it should be.
    #[error("{address}: {problem}")]
    Http {
        /// Host and port.
        address: String,
        /// What the HTTP library says.
        problem: String,
    },
}

impl TransportError {
    /// Whether the same request may well succeed in a moment. A refusal or an unknown name is an answer.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Stalled { .. } | Self::UnexpectedEnd { .. } => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe
            ),
            Self::Dial { .. }
            | Self::TooSlow { .. }
            | Self::DialTimeout { .. }
            | Self::Lookup { .. }
            | Self::Tls { .. }
            | Self::Http { .. } => false,
        }
    }
}

/// What a registry says about a failure: `manifest unknown: no such tag`.
///
/// Bounded, and without control characters: it ends in somebody's terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryMessage {
    /// The code of the distribution specification (`MANIFEST_UNKNOWN`), as sent.
    pub code: String,
    /// The text.
    pub message: String,
}

/// Longest text taken from a registry, in characters.
const MESSAGE_LIMIT: usize = 1000;

impl RegistryMessage {
    pub(crate) fn new(code: &str, message: &str) -> Self {
        let clean = |text: &str| -> String {
            let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_LIMIT).collect();
            text.trim().to_owned()
        };
        Self { code: clean(code), message: clean(message) }
    }
}

impl fmt::Display for RegistryMessage {
    /// As Docker's client writes it: the code in lower-case words, then the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.to_lowercase().replace('_', " ");
        match (code.is_empty(), self.message.is_empty()) {
            (false, false) => write!(f, "{code}: {}", self.message),
            (false, true) => f.write_str(&code),
            (true, _) => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for RegistryMessage {}
