//! From a request's path to what it means (distribution specification, "Endpoints").

use super::refusal::{Code, Refusal};
use std::fmt;
use tare_spec::{Digest, Repository, Tag};

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`: whether this is a registry.
    Root,
    /// `/v2/_catalog`: the repositories. Not of the specification, but of every registry.
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags(Repository),
    /// `/v2/<name>/manifests/<tag or digest>`
    Manifest(Repository, ManifestId),
    /// `/v2/<name>/blobs/<digest>`
    Blob(Repository, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(Repository),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(Repository, UploadId),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(Repository, Digest),
}

/// How a request names a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestId {
    /// By its tag.
    Tag(Tag),
    /// By its digest.
    Digest(Digest),
}

impl fmt::Display for ManifestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// The name of an upload session: a random UUID (RFC 9562, version 4). Safe as a file name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadId(String);

impl UploadId {
    /// The id made of these random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        let number = (u128::from_be_bytes(bytes) & !(0xf << 76) & !(0b11 << 62)) | (4 << 76) | (0b10 << 62);
        let hex = format!("{number:032x}");
        Self([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
    }

    /// The id of this text; `None` when it is no UUID in lower case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let good = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            });
        good.then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Route {
    /// The route of a path. `None` for what is no part of the protocol.
    pub(super) fn parse(path: &str) -> Option<Result<Self, Refusal>> {
        let rest = path.strip_prefix("/v2")?;
        if matches!(rest, "" | "/") {
            return Some(Ok(Self::Root));
        }
        let Some(rest) = decode(rest.strip_prefix('/')?) else {
            return Some(Err(Refusal::new(Code::NameInvalid, "the path is not percent-encoded UTF-8")));
        };
        if rest == "_catalog" {
            return Some(Ok(Self::Catalog));
        }
        // From the end, for the name may have components called "manifests" or "blobs".
        let (rest, last) = rest.rsplit_once('/').unwrap_or(("", &rest));
        let (name, kind) = rest.rsplit_once('/')?;
        let uploads = (kind == "uploads").then(|| name.strip_suffix("/blobs")).flatten();
        Some(match (kind, last) {
            _ if let Some(name) = uploads => match last {
                "" => repository(name).map(Self::Uploads),
                id => repository(name).and_then(|name| Ok(Self::Upload(name, upload(id)?))),
            },
            ("blobs", "uploads") => repository(name).map(Self::Uploads),
            ("tags", "list") => repository(name).map(Self::Tags),
            ("manifests", id) => repository(name).and_then(|name| Ok(Self::Manifest(name, manifest(id)?))),
            ("blobs", id) => repository(name).and_then(|name| Ok(Self::Blob(name, digest(id)?))),
            ("referrers", id) => repository(name).and_then(|name| Ok(Self::Referrers(name, digest(id)?))),
            _ => return None,
        })
    }

    /// The methods that the route knows, for `Allow`.
    pub(super) fn methods(&self) -> &'static str {
        match self {
            Self::Root | Self::Catalog | Self::Tags(_) | Self::Referrers(..) => "GET, HEAD",
            Self::Manifest(..) => "GET, HEAD, PUT, DELETE",
            Self::Blob(..) => "GET, HEAD, DELETE",
            Self::Uploads(_) => "POST",
            Self::Upload(..) => "GET, HEAD, PATCH, PUT, DELETE",
        }
    }
}

pub(super) fn repository(name: &str) -> Result<Repository, Refusal> {
    Repository::parse(name)
        .ok_or_else(|| Refusal::new(Code::NameInvalid, format!("invalid repository name {}", cut(name))))
}

pub(super) fn digest(text: &str) -> Result<Digest, Refusal> {
    Digest::parse(text).map_err(|error| Refusal::new(Code::DigestInvalid, error.to_string()))
}

fn manifest(id: &str) -> Result<ManifestId, Refusal> {
    if id.contains(':') {
        return digest(id).map(ManifestId::Digest);
    }
    let tag = Tag::parse(id).ok_or_else(|| Refusal::new(Code::TagInvalid, format!("invalid tag {}", cut(id))));
    tag.map(ManifestId::Tag)
}

fn upload(id: &str) -> Result<UploadId, Refusal> {
    UploadId::parse(id).ok_or_else(|| Refusal::new(Code::BlobUploadUnknown, "no such upload"))
}

/// A stranger's text for a message.
pub(super) fn cut(text: &str) -> String {
    format!("{:?}", text.chars().take(160).collect::<String>())
}

/// The parameters of a request's query, decoded.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

/// More parameters than any request has; further ones are not looked at.
const PARAMETERS: usize = 64;

impl Query {
    pub(super) fn parse(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).take(PARAMETERS);
        Self(
            pairs
                .filter_map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    Some((decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?))
                })
                .collect(),
        )
    }

    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Percent-decoding (RFC 3986, section 2.1).
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok().filter(|digits| !digits.starts_with('+'))?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Percent-encodes everything but what needs none anywhere (RFC 3986, section 2.3).
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex() -> String {
        format!("sha256:{}", "ab".repeat(32))
    }

    fn parsed(path: &str) -> Option<Result<Route, Code>> {
        Route::parse(path).map(|route| route.map_err(|refusal| refusal.code))
    }

    fn name(text: &str) -> Repository {
        Repository::parse(text).unwrap()
    }

    #[test]
    fn paths_of_the_specification() {
        let (digest, id) = (Digest::parse(&hex()).unwrap(), UploadId::from_random([7; 16]));
        let tag = |text| ManifestId::Tag(Tag::parse(text).unwrap());
        for (path, route) in [
            ("/v2".to_owned(), Route::Root),
            ("/v2/".to_owned(), Route::Root),
            ("/v2/_catalog".to_owned(), Route::Catalog),
            ("/v2/a/tags/list".to_owned(), Route::Tags(name("a"))),
            ("/v2/a/b/manifests/latest".to_owned(), Route::Manifest(name("a/b"), tag("latest"))),
            ("/v2/manifests/manifests/manifests".to_owned(), Route::Manifest(name("manifests"), tag("manifests"))),
            (format!("/v2/a/manifests/{}", hex()), Route::Manifest(name("a"), ManifestId::Digest(digest.clone()))),
            (format!("/v2/blobs/uploads/blobs/{}", hex()), Route::Blob(name("blobs/uploads"), digest.clone())),
            (format!("/v2/a/blobs/{}", hex().replace(':', "%3A")), Route::Blob(name("a"), digest.clone())),
            (format!("/v2/a/referrers/{}", hex()), Route::Referrers(name("a"), digest)),
            ("/v2/a/blobs/uploads/".to_owned(), Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads".to_owned(), Route::Uploads(name("a"))),
            (format!("/v2/a/blobs/uploads/{}", id.as_str()), Route::Upload(name("a"), id)),
        ] {
            assert_eq!(parsed(&path), Some(Ok(route)), "{path}");
        }
    }

    #[test]
    fn what_is_no_path_of_the_specification() {
        for path in ["/", "", "/v1/", "/v2x", "/v2/a", "/v2/a/tags", "/v2/a/tags/other", "/v2/manifests/a"] {
            assert_eq!(parsed(path), None, "{path}");
        }
        for (path, code) in [
            ("/v2/A/manifests/x".to_owned(), Code::NameInvalid),
            ("/v2/a/../b/manifests/x".to_owned(), Code::NameInvalid),
            ("/v2/a/%2e%2e/manifests/x".to_owned(), Code::NameInvalid),
            ("/v2/a%2f..%2fb/manifests/x".to_owned(), Code::NameInvalid),
            ("/v2/a%zz/manifests/x".to_owned(), Code::NameInvalid),
            ("/v2/a%ff/manifests/x".to_owned(), Code::NameInvalid),
            ("/v2/a//manifests/x".to_owned(), Code::NameInvalid),
            (format!("/v2/{}/manifests/x", "a".repeat(256)), Code::NameInvalid),
            ("/v2/a/manifests/-x".to_owned(), Code::TagInvalid),
            ("/v2/a/manifests/..".to_owned(), Code::TagInvalid),
            ("/v2/a/manifests/sha256:baddigeststring".to_owned(), Code::DigestInvalid),
            ("/v2/a/blobs/sha256:../../../etc/passwd".to_owned(), Code::NameInvalid),
            ("/v2/a/blobs/sha256:%2e%2e%2f%2e%2e".to_owned(), Code::NameInvalid),
            ("/v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e".to_owned(), Code::DigestInvalid),
            ("/v2/a/blobs/uploads/..".to_owned(), Code::BlobUploadUnknown),
        ] {
            match parsed(&path) {
                Some(Err(actual)) => assert_eq!(actual, code, "{path}"),
                None => {} // another shape altogether: not found
                other => panic!("{path}: {other:?}"),
            }
        }
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse(Some("digest=sha256%3Aab&tag=1&tag=b%2fc&n=&x+y=a+b&bad=%zz&plain"));
        assert_eq!(query.one("digest"), Some("sha256:ab"));
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["1", "b/c"]);
        assert_eq!((query.one("n"), query.one("x y"), query.one("plain")), (Some(""), Some("a b"), Some("")));
        assert_eq!((query.one("bad"), Query::parse(None).one("n")), (None, None));
        assert_eq!(encode("a b/c:d+é"), "a%20b%2Fc%3Ad%2B%C3%A9");
    }

    #[test]
    fn upload_ids_are_uuids() {
        let id = UploadId::from_random([0xff; 16]);
        assert_eq!(id.as_str(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(UploadId::parse(id.as_str()), Some(id));
        assert_eq!(UploadId::parse("FFFFFFFF-ffff-4fff-bfff-ffffffffffff"), None);
        assert_eq!(UploadId::parse("../../../../../../../../etc/passwd..."), None);
    }
}
