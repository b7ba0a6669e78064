//! Requests over HTTP: trust, timeouts, retries and redirects.

use crate::error::{Error, RegistryMessage, TransportError};
use crate::resolve::{LookupError, SystemResolver};
use crate::url::Url;
use serde::Deserialize;
use std::io::{self, Read};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use ureq::http::{HeaderMap, Response, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsConfigBuilder};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, Timeout};

/// How many redirects in a row are followed. Registries need one.
const REDIRECT_LIMIT: usize = 5;
/// Longest error document in bytes.
const ERROR_LIMIT: u64 = 64 << 10;
/// Longest wait that a registry may ask of us; beyond that, the failure is reported.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait for a registry.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until a connection is made, with TLS. Default: 10 s.
    pub connect: Duration,
    /// Until the next bytes come. Default: 60 s. There is no limit for a whole blob: it may be large.
    pub read: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), read: Duration::from_secs(60) }
    }
}

/// How to deal with failures that may pass: broken connections, 429 and 5xx.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// How often a request is sent, at least 1. Default: 4.
    pub attempts: u32,
    /// The wait before the second attempt; it doubles each time. Default: 500 ms.
    pub delay: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 4, delay: Duration::from_millis(500) }
    }
}

impl Retry {
    /// Waits before attempt number `attempt`, counted from 1 for the second one.
    pub(crate) fn wait(&self, attempt: u32) {
        std::thread::sleep(self.delay * 2_u32.saturating_pow(attempt.saturating_sub(1)).min(64));
    }
}

/// An answer and where it came from after redirects.
pub(crate) struct Answer {
    pub(crate) method: &'static str,
    pub(crate) url: Url,
    response: Response<Body>,
}

pub(crate) struct Transport {
    user_agent: String,
    insecure: Vec<String>,
    timeouts: Timeouts,
    pub(crate) retry: Retry,
    verified: OnceLock<Agent>,
    unverified: OnceLock<Agent>,
    local: OnceLock<Agent>,
    resolver: SystemResolver,
}

impl Transport {
    pub(crate) fn new(user_agent: String, insecure: Vec<String>, timeouts: Timeouts, retry: Retry) -> Self {
        let (verified, unverified, local) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let resolver = SystemResolver::default();
        Self { user_agent, insecure, timeouts, retry, verified, unverified, local, resolver }
    }

    /// Whether plain HTTP and unknown certificates will do: on this machine, and where the user said so.
    pub(crate) fn is_insecure(&self, url: &Url) -> bool {
        let (host, with_port) = (url.host(), url.address());
        url.is_loopback()
            || self
                .insecure
                .iter()
                .any(|entry| entry.eq_ignore_ascii_case(host) || entry.eq_ignore_ascii_case(&with_port))
    }

    /// Gets a URL, following redirects; `authorization` goes to its origin only.
    pub(crate) fn get(
        &self,
        url: &Url,
        headers: &[(&str, &str)],
        authorization: Option<&str>,
    ) -> Result<Answer, Error> {
        self.get_with(self.retry.attempts, url, headers, authorization)
    }

    /// [`Self::get`] with another number of attempts.
    pub(crate) fn get_with(
        &self,
        attempts: u32,
        url: &Url,
        headers: &[(&str, &str)],
        authorization: Option<&str>,
    ) -> Result<Answer, Error> {
        let mut at = url.clone();
        for _ in 0..=REDIRECT_LIMIT {
            let authorization = authorization.filter(|_| at.origin() == url.origin());
            let answer = self.attempt("Get", attempts, &at, |agent| {
                let mut request = agent.get(at.uri());
                for (name, value) in headers {
                    request = request.header(*name, *value);
                }
                if let Some(value) = authorization {
                    request = request.header(header::AUTHORIZATION, value);
                }
                request.call()
            })?;
            if !matches!(answer.status(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let next = answer.header(header::LOCATION).and_then(|location| at.join(location));
            let Some(next) = next else { return Err(answer.protocol("redirect without a usable Location")) };
            if at.is_secure() && !next.is_secure() && !self.is_insecure(url) {
                return Err(Error::InsecureRedirection { registry: url.address(), url: next.shown() });
            }
            at = next;
        }
        Err(Error::Protocol {
            method: "Get",
            url: url.shown(),
            problem: format!("stopped after {REDIRECT_LIMIT} redirects"),
        })
    }

    /// Posts a form. Redirects are not followed: the form holds a secret.
    pub(crate) fn post_form(&self, url: &Url, form: &[(&str, &str)]) -> Result<Answer, Error> {
        self.attempt("Post", self.retry.attempts, url, |agent| agent.post(url.uri()).send_form(form.iter().copied()))
    }

    fn attempt(
        &self,
        method: &'static str,
        attempts: u32,
        url: &Url,
        send: impl Fn(&Agent) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Answer, Error> {
        let agent = self.agent(url)?;
        let mut failed = 0;
        loop {
            let last = failed + 1 >= attempts;
            match send(agent) {
                Ok(response) => {
                    let answer = Answer { method, url: url.clone(), response };
                    let passing = matches!(answer.status(), 429 | 500 | 502 | 503 | 504);
                    let asked_wait = answer.retry_after();
                    if !passing || last || asked_wait.is_some_and(|wait| wait > RETRY_AFTER_LIMIT) {
                        return Ok(answer);
                    }
                    std::thread::sleep(asked_wait.unwrap_or_default());
                }
                Err(error) => {
                    let source = self.cause(error, url);
                    if last || !source.is_transient() {
                        return Err(Error::Transport { method, url: url.shown(), source });
                    }
                }
            }
            failed += 1;
            self.retry.wait(failed);
        }
    }

    /// What a failure of the HTTP library means.
    pub(crate) fn cause(&self, error: ureq::Error, url: &Url) -> TransportError {
        let address = url.address();
        match error {
            ureq::Error::Io(source) => match source.kind() {
                io::ErrorKind::ConnectionRefused => dial(address, "connection refused"),
                io::ErrorKind::HostUnreachable => dial(address, "no route to host"),
                io::ErrorKind::NetworkUnreachable => dial(address, "network is unreachable"),
                io::ErrorKind::PermissionDenied => dial(address, "permission denied"),
                io::ErrorKind::TimedOut => TransportError::DialTimeout { address },
                io::ErrorKind::UnexpectedEof => TransportError::UnexpectedEnd { address },
                io::ErrorKind::InvalidData if url.is_secure() => TransportError::Tls { problem: source.to_string() },
                _ => TransportError::Io { address, source },
            },
            ureq::Error::Timeout(Timeout::Connect) => TransportError::DialTimeout { address },
            ureq::Error::Timeout(_) => TransportError::Stalled { address, waited: self.timeouts.read },
            ureq::Error::Tls(problem) => TransportError::Tls { problem: problem.to_owned() },
            ureq::Error::Rustls(problem) => TransportError::Tls { problem: problem.to_string() },
            ureq::Error::Other(problem) if problem.is::<LookupError>() => {
                TransportError::Lookup { problem: problem.to_string() }
            }
            other => TransportError::Http { address, problem: other.to_string() },
        }
    }

    fn agent(&self, url: &Url) -> Result<&Agent, Error> {
        if url.is_loopback() {
            return Ok(self.local.get_or_init(|| self.build(unverified(), false)));
        }
        if self.is_insecure(url) {
            return Ok(self.unverified.get_or_init(|| self.build(unverified(), true)));
        }
        if let Some(agent) = self.verified.get() {
            return Ok(agent);
        }
        // Loaded only when needed: it takes milliseconds, and registries of this machine need none.
        let roots = trusted_certificates()?;
        Ok(self.verified.get_or_init(|| self.build(verified(roots), true)))
    }

    fn build(&self, tls: TlsConfig, proxy: bool) -> Agent {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(&self.user_agent)
            .tls_config(tls)
            .timeout_connect(Some(self.timeouts.connect))
            .timeout_recv_response(Some(self.timeouts.read))
            .timeout_per_read(Some(self.timeouts.read))
            .timeout_per_write(Some(self.timeouts.read));
        if !proxy {
            config = config.proxy(None);
        }
        Agent::with_parts(config.build(), DefaultConnector::new(), self.resolver.clone())
    }
}

fn dial(address: String, reason: &str) -> TransportError {
    TransportError::Dial { address, reason: reason.to_owned() }
}

fn tls() -> TlsConfigBuilder {
    TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
}

fn verified(roots: RootCerts) -> TlsConfig {
    tls().root_certs(roots).build()
}

fn unverified() -> TlsConfig {
    tls().disable_verification(true).build()
}

fn trusted_certificates() -> Result<RootCerts, Error> {
    let loaded = rustls_native_certs::load_native_certs();
    if loaded.certs.is_empty() {
        let problems: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
        let problems = if problems.is_empty() { "none found".to_owned() } else { problems.join(", ") };
        return Err(Error::Certificates { problems });
    }
    Ok(RootCerts::from(loaded.certs.iter().map(|der| Certificate::from_der(der).to_owned())))
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// A header that is text.
    pub(crate) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The length of the body in bytes, if the server said it.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH)?.parse().ok()
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.header(header::RETRY_AFTER)?.parse().ok().map(Duration::from_secs)
    }

    pub(crate) fn into_reader(self) -> impl Read + Send + 'static {
        self.response.into_body().into_reader()
    }

    /// The whole body, which should be a `what` of at most `limit` bytes.
    pub(crate) fn read(self, what: &'static str, limit: u64, transport: &Transport) -> Result<Vec<u8>, Error> {
        let (method, url) = (self.method, self.url.clone());
        let too_large = || Error::TooLarge { method, url: url.shown(), what, limit };
        if self.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        self.into_reader().take(limit + 1).read_to_end(&mut bytes).map_err(|error| {
            let source = transport.cause(ureq::Error::from(error), &url);
            Error::Transport { method, url: url.shown(), source }
        })?;
        if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
    }

    /// What the server says about a failure. Whatever prevents reading it is less interesting than the failure.
    pub(crate) fn message(self) -> Option<RegistryMessage> {
        let mut bytes = Vec::new();
        let _ = self.into_reader().take(ERROR_LIMIT).read_to_end(&mut bytes);
        let document: ErrorDocument = serde_json::from_slice(&bytes).ok()?;
        let message = match document.errors.into_iter().next() {
            Some(first) => RegistryMessage::new(&first.code, &first.message),
            None if !document.details.is_empty() => RegistryMessage::new("", &document.details),
            None => RegistryMessage::new(&document.error, &document.error_description),
        };
        (!message.code.is_empty() || !message.message.is_empty()).then_some(message)
    }

    pub(crate) fn protocol(&self, problem: impl Into<String>) -> Error {
        Error::Protocol { method: self.method, url: self.url.shown(), problem: problem.into() }
    }

    /// The error for a status that means nothing special here.
    pub(crate) fn unexpected(self) -> Error {
        let (method, url, status) = (self.method, self.url.shown(), self.status());
        if status == 429 {
            let retry_after = self.retry_after();
            let source = self.message().unwrap_or_else(|| RegistryMessage::new("TOOMANYREQUESTS", "too many requests"));
            return Error::TooManyRequests { method, url, retry_after, source };
        }
        Error::Status { method, url, status, source: self.message() }
    }
}

/// Errors as registries send them (distribution specification, "Error codes"), and as token servers do
/// (`details`; RFC 6749, section 5.2).
#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorDocument {
    errors: Vec<ErrorEntry>,
    details: String,
    error: String,
    error_description: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorEntry {
    code: String,
    message: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use std::io::Write;
    use std::net::{SocketAddr, TcpListener};

    const CA: &[u8] = include_bytes!("../tests/certificates/ca.der");
    const CERTIFICATE: &[u8] = include_bytes!("../tests/certificates/reg.test.der");
    const KEY: &[u8] = include_bytes!("../tests/certificates/reg.test.key.der");

    /// Gives this answer to each of so many TLS connections, as the host `reg.test`.
    fn tls_server(connections: usize, answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let key = PrivateKeyDer::try_from(KEY).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(CERTIFICATE)], key)
            .unwrap();
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for stream in listener.incoming().take(connections) {
                let (connection, stream) =
                    (rustls::ServerConnection::new(Arc::clone(&config)).unwrap(), stream.unwrap());
                let mut stream = rustls::StreamOwned::new(connection, stream);
                // A client that does not trust us hangs up here.
                if stream.read(&mut [0; 4096]).is_ok() {
                    let end = "content-length: 0\r\nconnection: close\r\n\r\n";
                    stream.write_all(format!("HTTP/1.1 {answer}\r\n{end}").as_bytes()).unwrap();
                }
            }
        });
        address
    }

    fn status(insecure: &[&str], trusted: &[&[u8]], host: &str, port: u16) -> Result<u16, Error> {
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        std::fs::write(&hosts, "127.0.0.1 reg.test other.test\n").unwrap();
        let insecure = insecure.iter().map(|entry| (*entry).to_owned()).collect();
        let mut transport = Transport::new("test".to_owned(), insecure, <_>::default(), <_>::default());
        transport.resolver.hosts = hosts;
        let roots = RootCerts::from(trusted.iter().map(|der| Certificate::from_der(der).to_owned()));
        // Without the proxy that the environment may name.
        transport.verified.set(transport.build(verified(roots), false)).unwrap();
        transport.unverified.set(transport.build(unverified(), false)).unwrap();
        let url = Url::parse(&format!("https://{host}:{port}/v2/")).unwrap();
        transport.get(&url, &[], None).map(|answer| answer.status())
    }

    #[test]
    fn only_known_certificates_of_the_right_host_are_trusted() {
        let port = tls_server(6, "200 OK").port();
        let refused = |result| matches!(result, Err(Error::Transport { source: TransportError::Tls { .. }, .. }));
        assert!(matches!(status(&[], &[CA], "reg.test", port), Ok(200)));
        assert!(refused(status(&[], &[], "reg.test", port)), "nobody vouches for it");
        assert!(refused(status(&[], &[CA], "other.test", port)), "it is another host's");
        assert!(refused(status(&["reg.test:1"], &[], "reg.test", port)), "another port was excepted");
        assert!(matches!(status(&[&format!("reg.test:{port}")], &[], "reg.test", port), Ok(200)));
        assert!(matches!(status(&[], &[], "127.0.0.1", port), Ok(200)));
    }

    #[test]
    fn a_redirect_out_of_tls_is_not_followed() {
        let port = tls_server(2, "307 Elsewhere\r\nlocation: http://127.0.0.1:1/").port();
        let error = status(&[], &[CA], "reg.test", port).unwrap_err();
        assert!(matches!(error, Error::InsecureRedirection { .. }), "{error}");
        let error = status(&["reg.test"], &[CA], "reg.test", port).unwrap_err();
        assert!(matches!(error, Error::Transport { source: TransportError::Dial { .. }, .. }), "{error}");
    }
}
