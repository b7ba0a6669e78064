//! What a server answered, with its body still to be read.

use crate::error::{Error, RegistryMessage, TransportError};
use crate::rate_limit::{RateLimit, retry_after};
use crate::transport::Transport;
use crate::url::Url;
use serde::Deserialize;
use std::io::Read;
use std::time::{Duration, Instant};
use ureq::Body;
use ureq::http::{HeaderMap, Response, header};

/// Longest error document in bytes.
const ERROR_LIMIT: u64 = 64 << 10;

/// An answer and where it came from after redirects.
pub(crate) struct Answer {
    pub(crate) method: &'static str,
    pub(crate) url: Url,
    pub(crate) response: Response<Body>,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// A header that is text.
    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The length of the body in bytes, if the server said it.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH)?.parse().ok()
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        retry_after(self.header(header::RETRY_AFTER)?, std::time::SystemTime::now())
    }

    /// The `Location`, understood relative to this answer's address.
    pub(crate) fn location(&self) -> Option<Url> {
        self.url.join(self.header(header::LOCATION)?)
    }

    pub(crate) fn into_reader(self) -> impl Read + Send + 'static {
        self.response.into_body().into_reader()
    }

    /// The whole body, which should be a `what` of at most `limit` bytes. Unlike a blob it must come within the
    /// transport's time for documents: a server that sends a byte a minute does not hold us up for ever.
    pub(crate) fn read(self, what: &'static str, limit: u64, transport: &Transport) -> Result<Vec<u8>, Error> {
        let (method, url) = (self.method, self.url.clone());
        let too_large = || Error::TooLarge { method, url: url.shown(), what, limit };
        if self.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let failed = |error| {
            let source = transport.cause(error, &url);
            Error::Transport { method, url: url.shown(), source }
        };
        let waited = transport.timeouts.document;
        let end = Instant::now() + waited;
        let mut reader = self.into_reader().take(limit + 1);
        let (mut bytes, mut buffer) = (Vec::new(), [0; 16 << 10]);
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(error) => return Err(failed(ureq::Error::from(error))),
            }
            if Instant::now() >= end {
                return Err(Error::Transport {
                    method,
                    url: url.shown(),
                    source: TransportError::TooSlow { address: url.address(), waited },
                });
            }
        }
        if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
    }

    /// Reads past what nobody wants to know, so that the connection can be used again; gives up where that is much.
    pub(crate) fn discard(self) {
        if self.content_length().is_some_and(|length| length <= ERROR_LIMIT) {
            // A connection that breaks here is only not used again.
            drop(std::io::copy(&mut self.into_reader(), &mut std::io::sink()));
        }
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
            let limit = Box::new(RateLimit::of(self.headers(), self.retry_after()));
            let source = self.message().unwrap_or_else(|| RegistryMessage::new("TOOMANYREQUESTS", "too many requests"));
            return Error::TooManyRequests { method, url, limit, source };
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
