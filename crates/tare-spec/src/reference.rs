//! References to images, as people type them and as Docker normalises them.
//!
//! Grammar: `reference.go` and `normalize.go` of the distribution project, whose rules Docker applies:
//! `nginx` is `docker.io/library/nginx`, and the first component is a registry only if it looks like a host.

use crate::{Digest, ErrorKind};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The registry of names that carry none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag that stands in where neither tag nor digest is given.
pub const DEFAULT_TAG: &str = "latest";
/// The registry's older name, still found in configurations and scripts.
const LEGACY_REGISTRY: &str = "index.docker.io";
/// Where single-component names of the default registry live.
const OFFICIAL_PREFIX: &str = "library/";
/// Longest repository path in bytes.
pub(crate) const REPOSITORY_LIMIT: usize = 255;
/// Longest tag in bytes.
const TAG_LIMIT: usize = 128;

/// A string that is no reference. The texts are Docker's, which scripts compare.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// It does not follow the grammar.
    #[error("invalid reference format")]
    Format {
        /// What was given.
        reference: String,
    },
    /// The repository has upper-case letters.
    #[error("invalid reference format: repository name ({repository}) must be lowercase")]
    Uppercase {
        /// The repository as given, with `library/` where that is implied.
        repository: String,
    },
    /// 64 hexadecimal digits would be taken for an image id.
    #[error("invalid repository name ({reference}), cannot specify 64-byte hexadecimal strings")]
    Identifier {
        /// What was given.
        reference: String,
    },
    /// The repository path is longer than 255 bytes.
    #[error("repository name must not be more than 255 characters")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
}

impl InvalidReference {
    /// Always [`ErrorKind::InvalidParameter`].
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}

/// A normalised reference: registry, repository, and a tag, a digest, both or neither.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Parses and normalises what a person typed; the text that [`Display`](fmt::Display) gives parses to the same reference.
    ///
    /// # Errors
    /// [`InvalidReference`] with Docker's text.
    pub fn parse(reference: &str) -> Result<Self, InvalidReference> {
        let format = || InvalidReference::Format { reference: reference.chars().take(300).collect() };
        if reference.len() == 64 && reference.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidReference::Identifier { reference: reference.to_owned() });
        }
        let (registry, remainder) = split_registry(reference);
        let before_colon = remainder.split(':').next().unwrap_or_default();
        if before_colon.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(InvalidReference::Uppercase { repository: before_colon.chars().take(300).collect() });
        }
        let (name, digest) = match remainder.split_once('@') {
            Some((name, digest)) => (name, Some(Digest::parse(digest).map_err(|_| format())?)),
            None => (remainder.as_str(), None),
        };
        let (repository, tag) = match name.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (name, None),
        };
        if !is_registry(registry) || !repository.split('/').all(is_path_component) || !tag.is_none_or(is_tag) {
            return Err(format());
        }
        if repository.len() > REPOSITORY_LIMIT {
            return Err(InvalidReference::TooLong { length: repository.len() });
        }
        Ok(Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
            digest,
        })
    }

    /// The registry's host and port: `docker.io`, `127.0.0.1:5000`, `[::1]:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry: `library/nginx`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given. It decides when there is a tag as well.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// With the tag `latest` where there was neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository at exactly this digest, without a tag: what Docker calls a repository digest.
    #[must_use]
    pub fn at_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The same repository, with neither tag nor digest.
    #[must_use]
    pub fn without_version(&self) -> Self {
        Self { tag: None, digest: None, ..self.clone() }
    }

    /// The short form that people read: `nginx:latest`, `127.0.0.1:5000/web:latest`.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.versioned(self.familiar_name())
    }

    /// The short form without tag and digest: `nginx`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return format!("{}/{}", self.registry, self.repository);
        }
        match self.repository.strip_prefix(OFFICIAL_PREFIX) {
            Some(name) if !name.contains('/') => name.to_owned(),
            _ => self.repository.clone(),
        }
    }

    fn versioned(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(digest.as_str());
        }
        name
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.versioned(format!("{}/{}", self.registry, self.repository)))
    }
}

impl std::str::FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(reference: &str) -> Result<Self, Self::Err> {
        Self::parse(reference)
    }
}

impl TryFrom<String> for Reference {
    type Error = InvalidReference;

    fn try_from(reference: String) -> Result<Self, Self::Error> {
        Self::parse(&reference)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

/// Splits off the registry, and completes the rest for the default one.
fn split_registry(reference: &str) -> (&str, String) {
    let (registry, remainder) = match reference.split_once('/') {
        Some((LEGACY_REGISTRY, rest)) => (DEFAULT_REGISTRY, rest),
        // Upper case cannot be a namespace, so it can only be a host.
        Some((first, rest))
            if first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, reference),
    };
    if registry == DEFAULT_REGISTRY && !remainder.contains('/') {
        (registry, format!("{OFFICIAL_PREFIX}{remainder}"))
    } else {
        (registry, remainder.to_owned())
    }
}

/// Whether this is `host[:port]`: a DNS name, an IPv4 address, or an IPv6 address in brackets.
fn is_registry(registry: &str) -> bool {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = registry.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(address, rest)| {
            address.parse::<std::net::Ipv6Addr>().is_ok()
                && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
        });
    }
    let (host, port) = match registry.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (registry, None),
    };
    port.is_none_or(is_port)
        && host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

/// Lower-case letters and digits, in runs separated by one `.`, one or two `_`, or any number of `-`.
pub(crate) fn is_path_component(component: &str) -> bool {
    let alphanumeric = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    alphanumeric(*first)
        && alphanumeric(*last)
        && bytes
            .split(|b| alphanumeric(*b))
            .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

/// A word character, then up to 127 word characters, dots and hyphens.
pub(crate) fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= TAG_LIMIT
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn names_are_normalised_as_docker_does() {
        let by_digest = format!("nginx@sha256:{HEX}");
        let by_both = format!("127.0.0.1:5000/a/b:1.0@sha256:{HEX}");
        // typed, full, familiar
        for (typed, full, familiar) in [
            ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("nginx:1.27-alpine", "docker.io/library/nginx:1.27-alpine", "nginx:1.27-alpine"),
            ("library/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("bitnami/redis", "docker.io/bitnami/redis:latest", "bitnami/redis:latest"),
            ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("a/b/c:x", "docker.io/a/b/c:x", "a/b/c:x"),
            ("localhost/web", "localhost/web:latest", "localhost/web:latest"),
            ("localhost:5000/web", "localhost:5000/web:latest", "localhost:5000/web:latest"),
            ("127.0.0.1:5000/web:2", "127.0.0.1:5000/web:2", "127.0.0.1:5000/web:2"),
            ("[::1]:5000/web", "[::1]:5000/web:latest", "[::1]:5000/web:latest"),
            ("[fe80::1]/web", "[fe80::1]/web:latest", "[fe80::1]/web:latest"),
            ("ghcr.io/o/r", "ghcr.io/o/r:latest", "ghcr.io/o/r:latest"),
            ("HOST/web", "HOST/web:latest", "HOST/web:latest"),
            ("host:5000", "docker.io/library/host:5000", "host:5000"),
            ("a__b.c-d---e_f", "docker.io/library/a__b.c-d---e_f:latest", "a__b.c-d---e_f:latest"),
            ("web:_V1.0-RC", "docker.io/library/web:_V1.0-RC", "web:_V1.0-RC"),
            (&by_digest, &format!("docker.io/library/{by_digest}"), &by_digest),
            (&by_both, &by_both, &by_both),
        ] {
            let reference = Reference::parse(typed).unwrap_or_else(|e| panic!("{typed}: {e}")).with_default_tag();
            assert_eq!((reference.to_string().as_str(), reference.familiar().as_str()), (full, familiar), "{typed}");
            assert_eq!(Reference::parse(&reference.to_string()).as_ref(), Ok(&reference), "{typed}");
            assert_eq!(Reference::parse(&reference.familiar()).as_ref(), Ok(&reference), "{typed}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused_in_dockers_words() {
        let format = "invalid reference format";
        for (typed, text) in [
            ("", format),
            (":tag", format),
            ("@sha256:ab", format),
            ("nginx:", format),
            ("nginx@", format),
            ("nginx:a:b", format),
            ("nginx:-a", format),
            ("nginx:a/b", format),
            ("nginx latest", format),
            ("a..b", format),
            ("a___b", format),
            ("a.-b", format),
            ("-a", format),
            ("a-", format),
            ("/a", format),
            ("a/", format),
            ("a//b", format),
            ("../a", format),
            ("https://host/a", format),
            ("host:port/a", format),
            ("-host.a/b", format),
            ("[::1/web", format),
            ("[::g]/web", format),
            ("ünï/a", format),
            ("nginx@sha256:abc", format),
            ("nginx@md5:0123456789abcdef0123456789abcdef", format),
            ("Foo", "invalid reference format: repository name (library/Foo) must be lowercase"),
            ("a/Foo:x", "invalid reference format: repository name (a/Foo) must be lowercase"),
            ("h.io/Foo", "invalid reference format: repository name (Foo) must be lowercase"),
            (HEX, &format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings")),
            (&format!("h.io/{}", "a".repeat(256)), "repository name must not be more than 255 characters"),
            (&format!("a:{}", "t".repeat(129)), format),
        ] {
            match Reference::parse(typed) {
                Ok(reference) => panic!("{typed:?} became {reference}"),
                Err(error) => assert_eq!(error.to_string(), text, "{typed:?}"),
            }
        }
    }

    #[test]
    fn versions_are_exchanged() {
        let reference = Reference::parse("h.io/a:1").unwrap();
        let digest = Digest::parse(&format!("sha256:{HEX}")).unwrap();
        assert_eq!(reference.at_digest(digest).to_string(), format!("h.io/a@sha256:{HEX}"));
        assert_eq!(reference.without_version().with_default_tag().to_string(), "h.io/a:latest");
        assert_eq!(serde_json::to_string(&reference).unwrap(), "\"h.io/a:1\"");
    }
}
