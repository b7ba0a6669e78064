//! Requests over HTTP: timeouts, retries and redirects.

use crate::agents::{Agents, Trust};
use crate::answer::Answer;
use crate::error::{Error, TransportError};
use crate::registries::Insecure;
use crate::resolve::LookupError;
use crate::url::{Url, encode};
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;
use ureq::http::{Method, Request as HttpRequest, Response, header};
use ureq::{Agent, AsSendBody, Body, SendBody, Timeout};

/// How many redirects in a row are followed: registries need one, downloads from mirrors some (Go follows as many).
const REDIRECT_LIMIT: usize = 10;
/// Longest wait that a registry may ask of us; beyond that, the failure is reported.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait for a registry.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until a connection is made, with TLS. Default: 10 s.
    pub connect: Duration,
    /// Until the next bytes come. Default: 60 s. There is no limit for a whole blob: it may be large.
    pub read: Duration,
    /// Until a manifest, a token or a list is complete. Default: 120 s.
    pub document: Duration,
    /// Until a registry has checked and stored an uploaded blob or manifest. Default: 300 s.
    pub commit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(10), read: seconds(60), document: seconds(120), commit: seconds(300) }
    }
}

/// How to deal with failures that may pass: broken connections, 429 and 5xx.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// How often a request is sent, at least 1. Default: 4.
    pub attempts: u32,
    /// The wait before the second attempt; it doubles each time, give or take a quarter. Default: 500 ms.
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
        let delay = self.delay * 2_u32.saturating_pow(attempt.saturating_sub(1)).min(64);
        // Clients that failed together should not come back together.
        let mut random = [0; 1];
        let known = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::INSECURE).is_ok();
        let quarters = if known { u32::from(random[0]) } else { 128 };
        std::thread::sleep(delay * 3 / 4 + delay * quarters / 512);
    }
}

/// What is sent along.
#[derive(Clone, Copy)]
pub(crate) enum Payload<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// So many bytes of what this opens.
    Stream(&'a dyn Fn() -> io::Result<Box<dyn Read + 'a>>, u64),
}

/// One request, apart from where it goes.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'static str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) payload: Payload<'a>,
    /// How often it is sent; `None`: as the client's options say.
    pub(crate) attempts: Option<u32>,
    /// Whether the answer takes the time of a commit.
    pub(crate) commits: bool,
}

impl<'a> Request<'a> {
    /// A request without headers and body; its method as Docker writes it in messages: `Get`.
    pub(crate) fn new(method: &'static str) -> Self {
        Self { method, headers: &[], payload: Payload::Nothing, attempts: None, commits: false }
    }

    pub(crate) fn headers(self, headers: &'a [(&'a str, &'a str)]) -> Self {
        Self { headers, ..self }
    }

    pub(crate) fn payload(self, payload: Payload<'a>) -> Self {
        Self { payload, ..self }
    }

    pub(crate) fn once(self) -> Self {
        Self { attempts: Some(1), ..self }
    }

    pub(crate) fn commits(self) -> Self {
        Self { commits: true, ..self }
    }

    fn http_method(&self) -> Method {
        Method::from_bytes(self.method.to_ascii_uppercase().as_bytes()).expect("ours are words")
    }

    /// Sends it, with an error that tells the source's failures from those of the connection.
    fn send(&self, to: &Destination<'_>) -> Sent {
        match self.payload {
            Payload::Nothing if !matches!(self.method, "Post" | "Put" | "Patch") => {
                self.send_body(to, SendBody::none(), None)
            }
            // Servers want to hear that there is nothing (RFC 9110, section 8.6).
            Payload::Nothing => self.send_body(to, (&mut &b""[..]).as_body(), None),
            Payload::Bytes(mut bytes) => self.send_body(to, bytes.as_body(), None),
            Payload::Stream(open, size) => {
                let mut source = Source { reader: open().map_err(Failed::Source)?, left: size, failure: None };
                let sent = self.send_body(to, SendBody::from_reader(&mut source), Some(size));
                match source.failure {
                    Some(failure) => Err(Failed::Source(failure)),
                    None => sent,
                }
            }
        }
    }

    fn send_body(&self, to: &Destination<'_>, body: SendBody<'_>, length: Option<u64>) -> Sent {
        let mut request = HttpRequest::builder().method(self.http_method()).uri(to.url.uri());
        for (name, value) in self.headers {
            request = request.header(*name, *value);
        }
        if let Some(value) = to.authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        if let Some(length) = length {
            request = request.header(header::CONTENT_LENGTH, length);
        }
        let mut request = request.body(body).map_err(|error| Failed::Way(error.into()))?;
        if self.commits {
            request = to.agent.configure_request(request).timeout_recv_response(Some(to.commit)).build();
        }
        to.agent.run(request).map_err(Failed::Way)
    }
}

/// Where a request goes, and how.
struct Destination<'a> {
    agent: &'a Agent,
    url: &'a Url,
    authorization: Option<&'a str>,
    /// How long a commit may take.
    commit: Duration,
}

type Sent = Result<Response<Body>, Failed>;

/// Why a request was not answered.
enum Failed {
    /// What was to be sent could not be read.
    Source(io::Error),
    Way(ureq::Error),
}

/// A body that remembers how it failed, and that has exactly the promised length.
struct Source<'a> {
    reader: Box<dyn Read + 'a>,
    left: u64,
    failure: Option<io::Error>,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if limit == 0 {
            return Ok(0);
        }
        let result = match self.reader.read(&mut buffer[..limit]) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{} bytes are missing", self.left))),
            result => result,
        };
        match result {
            Ok(count) => {
                self.left -= count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.read(buffer),
            Err(error) => {
                let kind = error.kind();
                self.failure = Some(error);
                Err(kind.into())
            }
        }
    }
}

pub(crate) struct Transport {
    insecure: Insecure,
    pub(crate) timeouts: Timeouts,
    pub(crate) retry: Retry,
    agents: Agents,
}

/// What a [`Transport`] is made of.
pub(crate) struct TransportOptions {
    pub(crate) user_agent: String,
    pub(crate) insecure: Insecure,
    pub(crate) certificates: PathBuf,
    pub(crate) timeouts: Timeouts,
    pub(crate) retry: Retry,
}

impl Transport {
    pub(crate) fn new(options: TransportOptions) -> Self {
        let TransportOptions { user_agent, insecure, certificates, timeouts, retry } = options;
        Self { insecure, timeouts, retry, agents: Agents::new(user_agent, timeouts, certificates) }
    }

    /// Whether plain HTTP and unknown certificates will do: on this machine, and where the user said so.
    pub(crate) fn is_insecure(&self, url: &Url) -> bool {
        url.is_loopback() || self.insecure.contains(url.host(), url.port())
    }

    fn trust(&self, url: &Url) -> Trust {
        match (url.is_loopback(), self.is_insecure(url)) {
            (true, _) => Trust::Local,
            (false, true) => Trust::Unverified,
            (false, false) => Trust::Verified,
        }
    }

    /// Sends a request, following redirects that keep its method; `authorization` goes to the URL's origin only.
    pub(crate) fn send(&self, url: &Url, request: &Request<'_>, authorization: Option<&str>) -> Result<Answer, Error> {
        let reads = matches!(request.method, "Get" | "Head");
        let mut at = url.clone();
        for _ in 0..=REDIRECT_LIMIT {
            let authorization = authorization.filter(|_| at.origin() == url.origin());
            let answer = self.attempt(&at, request, authorization)?;
            let follow = match answer.status() {
                301..=303 => reads,
                307 | 308 => true,
                _ => false,
            };
            if !follow {
                return Ok(answer);
            }
            let Some(next) = answer.location() else {
                return Err(answer.protocol("redirect without a usable Location"));
            };
            self.check_downgrade(url, &at, &next)?;
            answer.discard();
            at = next;
        }
        Err(Error::Protocol {
            method: request.method,
            url: url.shown(),
            problem: format!("stopped after {REDIRECT_LIMIT} redirects"),
        })
    }

    /// Refuses to leave TLS on the way from `url` over `at` to `next`.
    pub(crate) fn check_downgrade(&self, url: &Url, at: &Url, next: &Url) -> Result<(), Error> {
        if at.is_secure() && !next.is_secure() && !self.is_insecure(url) {
            return Err(Error::InsecureRedirection { registry: url.address(), url: next.shown() });
        }
        Ok(())
    }

    /// Posts a form. Redirects are not followed: the form holds a secret.
    pub(crate) fn post_form(&self, url: &Url, form: &[(&str, &str)]) -> Result<Answer, Error> {
        let pairs = form.iter().map(|(name, value)| format!("{name}={}", encode(value)));
        let body = pairs.collect::<Vec<_>>().join("&");
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.attempt(url, &Request::new("Post").headers(&headers).payload(Payload::Bytes(body.as_bytes())), None)
    }

    fn attempt(&self, url: &Url, request: &Request<'_>, authorization: Option<&str>) -> Result<Answer, Error> {
        let agent = self.agents.get(url, self.trust(url))?;
        let to = Destination { agent: &agent, url, authorization, commit: self.timeouts.commit };
        let method = request.method;
        let attempts = request.attempts.unwrap_or(self.retry.attempts);
        let mut failed = 0;
        loop {
            let last = failed + 1 >= attempts;
            match request.send(&to) {
                Ok(response) => {
                    let answer = Answer { method, url: url.clone(), response };
                    let asked_wait = answer.retry_after();
                    if !is_passing(answer.status()) || last || asked_wait.is_some_and(|wait| wait > RETRY_AFTER_LIMIT) {
                        return Ok(answer);
                    }
                    answer.discard();
                    std::thread::sleep(asked_wait.unwrap_or_default());
                }
                Err(Failed::Source(source)) => return Err(Error::Source { url: url.shown(), source }),
                Err(Failed::Way(error)) => {
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
}

/// Whether a status may be another one in a moment.
pub(crate) fn is_passing(status: u16) -> bool {
    matches!(status, 429 | 500 | 502 | 503 | 504)
}

fn dial(address: String, reason: &str) -> TransportError {
    TransportError::Dial { address, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Registries;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use std::io::Write;
    use std::net::{SocketAddr, TcpListener};
    use std::sync::Arc;
    use ureq::tls::Certificate;

    const CA: &[u8] = include_bytes!("../tests/certificates/ca.der");
    const CERTIFICATE: &[u8] = include_bytes!("../tests/certificates/reg.test.der");
    const KEY: &[u8] = include_bytes!("../tests/certificates/reg.test.key.der");

    impl Transport {
        pub(crate) fn for_tests(insecure: &[&str], certificates: &std::path::Path) -> Self {
            Self::new(TransportOptions {
                user_agent: "test".to_owned(),
                insecure: Registries::default().with_insecure(insecure).unwrap().insecure,
                certificates: certificates.to_owned(),
                timeouts: Timeouts::default(),
                retry: Retry::default(),
            })
        }
    }

    /// Gives this answer to each of so many TLS connections, as the host `reg.test`.
    fn tls_server(connections: usize, answer: &'static str) -> SocketAddr {
        serve_tls(connections, answer, rustls::server::WebPkiClientVerifier::no_client_auth())
    }

    fn serve_tls(
        connections: usize,
        answer: &'static str,
        clients: Arc<dyn rustls::server::danger::ClientCertVerifier>,
    ) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let key = PrivateKeyDer::try_from(KEY).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
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

    /// One that trusts these only, and finds `reg.test` and `other.test` here.
    fn transport(
        insecure: &[&str],
        trusted: &[&[u8]],
        certificates: &std::path::Path,
    ) -> (Transport, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        std::fs::write(&hosts, "127.0.0.1 reg.test other.test\n").unwrap();
        let mut transport = Transport::for_tests(insecure, certificates);
        transport.agents.resolver.hosts = hosts;
        // Without the proxy that the environment may name.
        transport.agents.proxy = false;
        let roots = trusted.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
        assert!(transport.agents.roots.set(roots).is_ok());
        (transport, folder)
    }

    fn status(insecure: &[&str], trusted: &[&[u8]], host: &str, port: u16) -> Result<u16, Error> {
        let (transport, _hosts) = transport(insecure, trusted, "/nonexistent".as_ref());
        let url = Url::parse(&format!("https://{host}:{port}/v2/")).unwrap();
        transport.send(&url, &Request::new("Get"), None).map(|answer| answer.status())
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

    fn pem(label: &str, der: &[u8]) -> String {
        let text = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    }

    /// A server that wants to know who comes, and what a folder of certs.d makes of it.
    #[test]
    fn certificates_of_a_folder_are_of_its_host_only() {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(CA)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let port = serve_tls(1, "200 OK", verifier.build().unwrap()).port();
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join(format!("reg.test:{port}"));
        std::fs::create_dir(&own).unwrap();
        let get = |port| {
            let (transport, _hosts) = transport(&[], &[], folder.path());
            let url = Url::parse(&format!("https://reg.test:{port}/v2/")).unwrap();
            transport.send(&url, &Request::new("Get"), None).map(|answer| answer.status())
        };
        for (name, content) in [
            ("ca.crt", pem("CERTIFICATE", CA)),
            ("client.cert", pem("CERTIFICATE", CERTIFICATE)),
            ("client.key", pem("PRIVATE KEY", KEY)),
        ] {
            std::fs::write(own.join(name), content).unwrap();
        }
        assert!(matches!(get(port), Ok(200)), "{:?}", get(port));
        let other = tls_server(1, "200 OK").port();
        assert!(matches!(get(other), Err(Error::Certificates { .. } | Error::Transport { .. })), "another port");
        for (name, content) in [("ca.crt", "no certificate"), ("client.key", "no key")] {
            let good = std::fs::read(own.join(name)).unwrap();
            std::fs::write(own.join(name), content).unwrap();
            let error = get(port).unwrap_err();
            assert!(matches!(&error, Error::ConfigInvalid { path, .. } if path.ends_with(name)), "{error}");
            std::fs::write(own.join(name), good).unwrap();
        }
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
