//! Digests of streams.

use sha2::Digest as _;
use std::io::{self, Read};
use tare_spec::Digest;
use tare_spec::digest::Algorithm;

/// A digest in the making.
pub struct Hasher(State);

enum State {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hasher").finish_non_exhaustive()
    }
}

impl Hasher {
    /// Of no bytes yet.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(sha2::Sha512::new()),
        })
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(hasher) => hasher.update(bytes),
            State::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all bytes.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(hasher) => Digest::from_sha256(hasher.finalize().into()),
            State::Sha512(hasher) => {
                let mut text = String::from("sha512:");
                for byte in hasher.finalize() {
                    text.push_str(&format!("{byte:02x}"));
                }
                Digest::parse(&text).expect("64 bytes in hexadecimal are a digest")
            }
        }
    }
}

/// The SHA-256 digest of these bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(bytes);
    hasher.finish()
}

/// Reads a blob of a known size and computes its digest on the way. Never gives out more bytes than promised.
pub(crate) struct BlobReader<'a> {
    stream: &'a mut dyn Read,
    expected: &'a tare_spec::image::Descriptor,
    hasher: Hasher,
    count: u64,
    /// The stream's own failure, which a decoder in between would wrap or lose.
    failure: Option<io::Error>,
}

impl<'a> BlobReader<'a> {
    pub(crate) fn new(stream: &'a mut dyn Read, expected: &'a tare_spec::image::Descriptor) -> Self {
        let hasher = Hasher::new(expected.digest.algorithm());
        Self { stream, expected, hasher, count: 0, failure: None }
    }

    /// Whether the stream itself failed.
    pub(crate) fn is_broken(&self) -> bool {
        self.failure.is_some()
    }

    /// Reads what is left and compares size and digest.
    pub(crate) fn finish(mut self) -> crate::Result<()> {
        let mut buffer = [0; 16 * 1024];
        while self.failure.is_none() && self.read(&mut buffer).is_ok_and(|count| count > 0) {}
        let (digest, expected) = (self.expected.digest.clone(), self.expected.size);
        let more = self.failure.is_none() && self.count == expected && self.read_one_more();
        if let Some(source) = self.failure {
            return Err(crate::Error::Read { digest, offset: self.count, size: expected, source });
        }
        let actual = self.count + u64::from(more);
        if actual != expected {
            return Err(crate::Error::Size { digest, expected, actual });
        }
        let actual = self.hasher.finish();
        if actual == digest { Ok(()) } else { Err(crate::Error::Digest { expected: digest, actual }) }
    }

    fn read_one_more(&mut self) -> bool {
        loop {
            match self.stream.read(&mut [0]) {
                Ok(count) => return count > 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failure = Some(error);
                    return false;
                }
            }
        }
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.expected.size - self.count).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        if self.failure.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        match self.stream.read(&mut buffer[..wanted]) {
            Ok(count) => {
                self.hasher.update(&buffer[..count]);
                self.count += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failure = Some(error);
                Err(kind.into())
            }
        }
    }
}
