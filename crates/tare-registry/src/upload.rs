//! The upload of one blob (distribution specification, "Pushing blobs").
//!
//! ```text
//! POST uploads/ ─► PUT everything ─► done
//!                     │ broken, too large, not liked
//!                     ▼
//!     ┌─ GET how much is there? (unknown: POST anew) ◄─┐ broken
//!     └─► PATCH chunk … PATCH chunk ───────────────────┘ ─► PUT ─► done
//! ```

use crate::access::Access;
use crate::answer::Answer;
use crate::auth::Session;
use crate::blob::may_pass;
use crate::client::CONTENT_DIGEST;
use crate::endpoint::{Object, Shared};
use crate::error::Error;
use crate::push::OpenAt;
use crate::transport::{Payload, Request};
use crate::url::Url;
use std::io::{self, Read};
use std::time::Duration;
use tare_spec::image::Descriptor;
use tare_spec::{Digest, Reference};
use ureq::http::header;

/// Bytes of a chunk; below the 100 MB that widespread proxies allow for a request.
const CHUNK: u64 = 64 << 20;
/// Bytes of the smallest chunk tried when larger ones are too large.
const SMALLEST_CHUNK: u64 = 1 << 20;
/// After this many bytes without trouble, earlier troubles are forgotten.
const FORGIVEN_AFTER: u64 = 16 << 20;
/// Longest wait that a registry may ask of us.
const WAIT_LIMIT: Duration = Duration::from_secs(10);

/// What goes where.
pub(crate) struct Content<'a> {
    pub(crate) reference: &'a Reference,
    pub(crate) descriptor: &'a Descriptor,
    pub(crate) open: &'a OpenAt<'a>,
    pub(crate) progress: &'a dyn Fn(u64),
}

pub(crate) struct Upload<'a> {
    shared: &'a Shared,
    session: &'a Session,
    access: &'a Access,
    content: Content<'a>,
    /// Where the next request goes; `None` before the first one.
    location: Option<Url>,
    /// How many bytes the registry has.
    offset: u64,
    /// How many bytes the next chunk has, and has at least (`OCI-Chunk-Min-Length`).
    chunk: u64,
    least: u64,
    failures: u32,
    failed_at: u64,
}

/// What to do about a failure.
enum Remedy {
    /// The same again: it may have been bad luck.
    Again,
    /// Smaller pieces.
    Smaller,
    /// A new upload: the registry lost this one.
    Anew,
}

impl<'a> Upload<'a> {
    pub(crate) fn new(shared: &'a Shared, session: &'a Session, access: &'a Access, content: Content<'a>) -> Self {
        Self {
            shared,
            session,
            access,
            content,
            location: None,
            offset: 0,
            chunk: CHUNK,
            least: 0,
            failures: 0,
            failed_at: 0,
        }
    }

    pub(crate) fn run(mut self) -> Result<(), Error> {
        let result = self.all();
        if result.is_err() && self.location.is_some() {
            self.cancel();
        }
        result
    }

    fn all(&mut self) -> Result<(), Error> {
        self.start()?;
        let mut result = self.put(0);
        while let Err(error) = result {
            let Some(remedy) = self.remedy(&error) else { return Err(error) };
            if let Remedy::Anew = remedy {
                self.cancel();
            }
            result = self.ask_offset().and_then(|()| self.chunks());
        }
        result
    }

    /// Begins an upload.
    fn start(&mut self) -> Result<(), Error> {
        let path = format!("/v2/{}/blobs/uploads/", self.content.reference.repository());
        let url = self.shared.url(self.session, &path)?;
        (self.location, self.offset) = (None, 0);
        let answer = self.shared.ask(self.session, self.access, &url, &Request::new("Post"))?;
        if answer.status() != 202 {
            return Err(self.refusal(answer));
        }
        let least = answer.header("oci-chunk-min-length").and_then(|length| length.parse().ok());
        self.least = least.unwrap_or(0);
        self.chunk = self.chunk.max(self.least);
        self.follow(&answer)?;
        match self.location {
            Some(_) => {
                answer.discard();
                Ok(())
            }
            None => Err(answer.protocol("an upload without a usable Location")),
        }
    }

    /// Sends everything from `offset` on and ends the upload.
    fn put(&mut self, offset: u64) -> Result<(), Error> {
        let url = self.location()?.with_query("digest", self.digest().as_str());
        let headers = [("content-type", "application/octet-stream")];
        let request = Request::new("Put").headers(&headers).commits();
        let left = self.content.descriptor.size - offset;
        let answer = match left {
            // Repeating it is safe, and the transport does.
            0 => self.ask(&url, &request),
            _ => self.ask(&url, &request.once().payload(Payload::Stream(&|| self.open(offset), left))),
        }?;
        if !matches!(answer.status(), 200..=204) {
            return Err(self.refusal(answer));
        }
        match answer.header(CONTENT_DIGEST).and_then(|value| Digest::parse(value).ok()) {
            Some(actual) if actual.algorithm() == self.digest().algorithm() && actual != *self.digest() => {
                Err(Error::DigestMismatch { expected: self.digest().clone(), actual })
            }
            _ => {
                answer.discard();
                Ok(())
            }
        }
    }

    /// Sends what the registry does not have in chunks, and ends the upload.
    fn chunks(&mut self) -> Result<(), Error> {
        let size = self.content.descriptor.size;
        while self.offset < size {
            // The last one may be smaller than the registry's minimum, and is then better part of the one before.
            let left = size - self.offset;
            let length = if left < self.chunk.saturating_add(self.least) { left } else { self.chunk };
            let length = length.min(left);
            let range = format!("{}-{}", self.offset, self.offset + length - 1);
            let headers = [("content-type", "application/octet-stream"), ("content-range", &range)];
            let offset = self.offset;
            let open = || self.open(offset);
            let request = Request::new("Patch").headers(&headers).once().payload(Payload::Stream(&open, length));
            let answer = self.ask(&self.location()?, &request)?;
            if !matches!(answer.status(), 200..=204) {
                return Err(self.refusal(answer));
            }
            self.follow(&answer)?;
            let end = self.offset + length;
            let stored = stored_bytes(answer.header(header::RANGE)).unwrap_or(end);
            if stored > end || stored <= self.offset {
                return Err(answer.protocol(format!("sent bytes {range}, the registry says it has {stored} bytes")));
            }
            self.offset = stored;
            answer.discard();
        }
        self.put(size)
    }

    /// Asks how much the registry has; begins anew if neither of us knows of the upload.
    fn ask_offset(&mut self) -> Result<(), Error> {
        if self.location.is_none() {
            return self.start();
        }
        let answer = self.ask(&self.location()?, &Request::new("Get"))?;
        if !matches!(answer.status(), 200..=204) {
            self.cancel();
            return self.start();
        }
        self.follow(&answer)?;
        let stored = stored_bytes(answer.header(header::RANGE)).unwrap_or(0);
        if stored > self.content.descriptor.size {
            return Err(answer.protocol(format!("the registry has {stored} bytes of a smaller blob")));
        }
        self.offset = stored;
        (self.content.progress)(stored);
        Ok(())
    }

    /// Takes the upload back. Best effort: the failure that led here is what counts, and registries forget uploads.
    fn cancel(&mut self) {
        if let Some(location) = self.location.take() {
            drop(self.ask(&location, &Request::new("Delete").once()));
        }
    }

    fn remedy(&mut self, error: &Error) -> Option<Remedy> {
        let wait = match error {
            Error::TooManyRequests { limit, .. } => Some(limit.resets.unwrap_or_default()),
            error if may_pass(error) => Some(Duration::ZERO),
            _ => None,
        };
        let remedy = match (error, wait) {
            (_, Some(_)) => Remedy::Again,
            // Content Too Large; Method Not Allowed, Not Implemented: of a PUT with everything.
            (Error::Status { status: 413, .. }, _) => Remedy::Smaller,
            (Error::Status { status: 405 | 411 | 501, .. }, _) if self.failures == 0 => Remedy::Smaller,
            // Not the range that it expects; not an upload that it knows.
            (Error::Status { status: 416, .. }, _) if self.failures == 0 => Remedy::Again,
            (Error::Status { status: 416, .. }, _) => Remedy::Anew,
            (Error::BlobUnknown { source, .. }, _) if source.code == "BLOB_UPLOAD_UNKNOWN" => Remedy::Anew,
            _ => return None,
        };
        if self.offset - self.failed_at.min(self.offset) >= FORGIVEN_AFTER {
            self.failures = 0;
        }
        self.failed_at = self.offset;
        self.failures += 1;
        if let Remedy::Smaller = remedy {
            // The first time it was the whole blob that was too large.
            if self.failures > 1 {
                let left = self.content.descriptor.size - self.offset;
                self.chunk = (self.chunk.min(left) / 2).max(self.least);
                if self.chunk < SMALLEST_CHUNK {
                    return None;
                }
            }
            return Some(remedy);
        }
        let retry = self.shared.transport.retry;
        if self.failures >= retry.attempts || wait.is_some_and(|wait| wait > WAIT_LIMIT) {
            return None;
        }
        std::thread::sleep(wait.unwrap_or_default());
        retry.wait(self.failures);
        Some(remedy)
    }

    fn digest(&self) -> &Digest {
        &self.content.descriptor.digest
    }

    fn location(&self) -> Result<Url, Error> {
        self.location.clone().ok_or_else(|| Error::InvalidRegistry { registry: self.session.base.address() })
    }

    fn ask(&self, url: &Url, request: &Request<'_>) -> Result<Answer, Error> {
        self.shared.ask(self.session, self.access, url, request)
    }

    fn refusal(&self, answer: Answer) -> Error {
        self.shared.refusal(answer, self.session, self.access, self.content.reference, Object::Blob(self.digest()))
    }

    /// Goes where the answer says, if it says something.
    fn follow(&mut self, answer: &Answer) -> Result<(), Error> {
        if let Some(location) = answer.location() {
            let location = location.secured_like(&self.session.base);
            self.shared.transport.check_downgrade(&self.session.base, &self.session.base, &location)?;
            self.location = Some(location);
        }
        Ok(())
    }

    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + '_>> {
        let (reader, progress) = ((self.content.open)(offset)?, self.content.progress);
        Ok(Box::new(Counted { reader, sent: offset, progress }))
    }
}

/// A reader that tells how far it is.
struct Counted<'a> {
    reader: Box<dyn Read + Send>,
    sent: u64,
    progress: &'a dyn Fn(u64),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.sent += count as u64;
        (self.progress)(self.sent);
        Ok(count)
    }
}

/// How many bytes a `Range: 0-99` of an upload speaks of. `0-0` is what registries say for none: whoever has one byte
/// will complain of the range and be asked again.
pub(crate) fn stored_bytes(range: Option<&str>) -> Option<u64> {
    let range = range?;
    let (start, end) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
    if start != 0 || end == 0 { Some(0) } else { end.checked_add(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_uploads() {
        for (range, bytes) in [
            (Some("0-99"), Some(100)),
            (Some("bytes=0-99"), Some(100)),
            (Some("0-0"), Some(0)),
            (Some("5-9"), Some(0)),
            (Some("0-18446744073709551615"), None),
            (Some("0-"), None),
            (Some("99"), None),
            (None, None),
        ] {
            assert_eq!(stored_bytes(range), bytes, "{range:?}");
        }
    }
}
