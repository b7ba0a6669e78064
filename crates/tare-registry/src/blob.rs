//! A blob as a stream that survives broken connections.

use crate::answer::Answer;
use crate::client::Client;
use crate::endpoint::{Endpoint, Object};
use crate::error::{Error, TransportError};
use crate::transport::is_passing;
use crate::url::Url;
use std::io::{self, Read};
use std::sync::Arc;
use tare_spec::image::Descriptor;
use tare_spec::{Digest, Reference};
use ureq::http::header;

/// After this many bytes without trouble, earlier troubles are forgotten.
const FORGIVEN_AFTER: u64 = 1 << 20;

pub(crate) struct BlobReader {
    client: Client,
    reference: Reference,
    digest: Digest,
    size: u64,
    /// How many bytes were given away, or were not wanted.
    offset: u64,
    body: Option<Stream>,
    /// Whether all was given away.
    ended: bool,
    failures: u32,
    failed_at: u64,
}

struct Stream {
    url: Url,
    endpoint: Arc<Endpoint>,
    reader: Box<dyn Read + Send>,
    /// Whether the reader knows its end without asking the server.
    bounded: bool,
}

impl BlobReader {
    pub(crate) fn new(
        client: Client,
        reference: Reference,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Self, Error> {
        let (digest, size) = (descriptor.digest.clone(), descriptor.size);
        if offset > size {
            return Err(Error::BlobSize { digest, expected: size, actual: offset });
        }
        Ok(Self { client, reference, digest, size, offset, body: None, ended: false, failures: 0, failed_at: offset })
    }

    /// Asks for the blob from where we are.
    pub(crate) fn open(&mut self) -> Result<(), Error> {
        // No range begins at the end (RFC 9110, section 14.1.2).
        if self.offset == self.size && self.offset > 0 {
            self.ended = true;
            return Ok(());
        }
        let range = format!("bytes={}-", self.offset);
        let headers = [("range", range.as_str())];
        let headers = if self.offset == 0 { &headers[..0] } else { &headers[..] };
        loop {
            let path = format!("blobs/{}", self.digest);
            let fetched = self.client.shared.fetch(&self.reference, Object::Blob(&self.digest), &path, headers)?;
            let endpoint = fetched.endpoint;
            match self.start(fetched.answer, Arc::clone(&endpoint)) {
                // A mirror with a wrong idea of this blob: the next one may know better.
                Err(_) if endpoint.is_mirror() => endpoint.give_up(),
                result => return result,
            }
        }
    }

    pub(crate) fn start(&mut self, answer: Answer, endpoint: Arc<Endpoint>) -> Result<(), Error> {
        let url = answer.url.clone();
        let start = self.start_of(&answer)?;
        if let Some(actual) = answer.content_length().map(|length| start.saturating_add(length))
            && actual != self.size
        {
            return Err(self.wrong_size(actual));
        }
        let bounded = answer.content_length().is_some();
        let mut reader: Box<dyn Read + Send> = Box::new(answer.into_reader());
        if start < self.offset {
            // The server does not know ranges: what we have already is read past.
            let passed = io::copy(&mut (&mut reader).take(self.offset - start), &mut io::sink());
            passed.map_err(|error| self.transport_error(error, &url))?;
        }
        self.body = Some(Stream { url, endpoint, reader, bounded });
        Ok(())
    }

    /// Which byte of the blob an answer begins with.
    fn start_of(&self, answer: &Answer) -> Result<u64, Error> {
        if answer.status() != 206 {
            return Ok(0);
        }
        let range = answer.header(header::CONTENT_RANGE).unwrap_or_default();
        let start = range.strip_prefix("bytes ").and_then(|range| range.split_once('-')?.0.parse().ok());
        match start {
            Some(start) if start == self.offset => Ok(start),
            _ => Err(answer.protocol(format!("asked for bytes from {}, got Content-Range {range:?}", self.offset))),
        }
    }

    fn wrong_size(&self, actual: u64) -> Error {
        Error::BlobSize { digest: self.digest.clone(), expected: self.size, actual }
    }

    fn transport_error(&self, error: io::Error, url: &Url) -> Error {
        let source = self.client.shared.transport.cause(ureq::Error::from(error), url);
        Error::Transport { method: "Get", url: url.shown(), source }
    }

    /// Whether to try again after this failure; waits if so.
    fn may_retry(&mut self, error: &Error, endpoint: Option<&Endpoint>) -> bool {
        if self.offset - self.failed_at >= FORGIVEN_AFTER {
            self.failures = 0;
        }
        self.failed_at = self.offset;
        self.failures += 1;
        let retry = self.client.shared.transport.retry;
        let again = may_pass(error) && self.failures < retry.attempts;
        if again {
            retry.wait(self.failures);
            return true;
        }
        // What a mirror began, the next one or the registry can end.
        let mirror = endpoint.filter(|endpoint| endpoint.is_mirror());
        mirror.inspect(|mirror| mirror.give_up());
        self.failures = 0;
        mirror.is_some()
    }

    /// The next bytes, or why there are none.
    fn step(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let Some(stream) = &mut self.body else {
            if !self.ended {
                self.open()?;
            }
            return if self.ended { Ok(0) } else { self.step(buffer) };
        };
        let count = loop {
            match stream.reader.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let url = stream.url.clone();
                    return Err(self.transport_error(error, &url));
                }
                Ok(count) => break count,
            }
        };
        if count == 0 && self.offset < self.size {
            let source = TransportError::UnexpectedEnd { address: stream.url.address() };
            return Err(Error::Transport { method: "Get", url: stream.url.shown(), source });
        }
        let end = self.offset + count as u64;
        if end > self.size {
            return Err(self.wrong_size(end));
        }
        self.offset = end;
        // The connection is free for others only after the end was read, which callers who count may never do.
        if end == self.size && (count == 0 || stream.bounded && matches!(stream.reader.read(&mut [0]), Ok(0))) {
            self.ended = true;
            self.body = None;
        }
        Ok(count)
    }
}

/// Whether a transfer that broke so may well go on in a moment. Unlike at its beginning, a registry that cannot be
/// reached is one that was there just now, and is probably being restarted.
pub(crate) fn may_pass(error: &Error) -> bool {
    match error {
        Error::Transport { source, .. } => {
            source.is_transient() || matches!(source, TransportError::Dial { .. } | TransportError::DialTimeout { .. })
        }
        Error::Status { status, .. } => is_passing(*status),
        _ => false,
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let failure = match self.step(buffer) {
                Ok(count) => return Ok(count),
                Err(failure) => failure,
            };
            let endpoint = self.body.take().map(|stream| stream.endpoint);
            if !self.may_retry(&failure, endpoint.as_deref()) {
                let kind = if matches!(failure, Error::BlobSize { .. }) {
                    io::ErrorKind::InvalidData
                } else {
                    io::ErrorKind::Other
                };
                return Err(io::Error::new(kind, failure));
            }
        }
    }
}
