//! A blob as a stream that survives broken connections.

use crate::client::{Client, Object};
use crate::error::{Error, TransportError};
use crate::transport::Answer;
use crate::url::Url;
use std::io::{self, Read};
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
    /// How many bytes were given away.
    offset: u64,
    body: Option<(Url, Box<dyn Read + Send>)>,
    failures: u32,
    failed_at: u64,
}

impl BlobReader {
    pub(crate) fn new(client: Client, reference: Reference, descriptor: &Descriptor) -> Self {
        let (digest, size) = (descriptor.digest.clone(), descriptor.size);
        Self { client, reference, digest, size, offset: 0, body: None, failures: 0, failed_at: 0 }
    }

    /// Asks for the blob from where we are.
    pub(crate) fn open(&mut self) -> Result<(), Error> {
        let range = format!("bytes={}-", self.offset);
        let headers = [("range", range.as_str())];
        let headers = if self.offset == 0 { &headers[..0] } else { &headers[..] };
        let object = Object::Blob(&self.digest);
        let answer = self.client.shared.fetch(&self.reference, object, self.digest.as_str(), headers)?;
        let url = answer.url.clone();
        let start = self.start_of(&answer)?;
        if let Some(actual) = answer.content_length().map(|length| start + length).filter(|end| *end != self.size) {
            return Err(self.wrong_size(actual));
        }
        let mut body: Box<dyn Read + Send> = Box::new(answer.into_reader());
        if start < self.offset {
            // The server does not know ranges: what we have already is read past.
            let passed = io::copy(&mut (&mut body).take(self.offset - start), &mut io::sink());
            passed.map_err(|error| self.transport_error(error, &url))?;
        }
        self.body = Some((url, body));
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
    fn may_retry(&mut self, error: &Error) -> bool {
        if self.offset - self.failed_at >= FORGIVEN_AFTER {
            self.failures = 0;
        }
        self.failed_at = self.offset;
        self.failures += 1;
        let retry = self.client.shared.transport.retry;
        let passing = matches!(error, Error::Transport { source, .. } if source.is_transient());
        let again = passing && self.failures < retry.attempts;
        if again {
            retry.wait(self.failures);
        }
        again
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let failure = match &mut self.body {
                None => match self.open() {
                    Ok(()) => continue,
                    Err(error) => error,
                },
                Some((url, body)) => match body.read(buffer) {
                    Ok(0) if self.offset == self.size => return Ok(0),
                    Ok(0) => {
                        let source = TransportError::UnexpectedEnd { address: url.address() };
                        Error::Transport { method: "Get", url: url.shown(), source }
                    }
                    Ok(count) => {
                        let end = self.offset + count as u64;
                        if end > self.size {
                            return Err(io::Error::new(io::ErrorKind::InvalidData, self.wrong_size(end)));
                        }
                        self.offset = end;
                        return Ok(count);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        let url = url.clone();
                        self.transport_error(error, &url)
                    }
                },
            };
            self.body = None;
            if !self.may_retry(&failure) {
                return Err(io::Error::other(failure));
            }
        }
    }
}
