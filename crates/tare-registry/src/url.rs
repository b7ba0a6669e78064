//! The few things about URLs that decide where a request and its secrets go (RFC 3986).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use ureq::http::Uri;

/// An absolute `http` or `https` URL without user information.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url(Uri);

/// Scheme, host and port: what credentials are bound to (RFC 6454).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    secure: bool,
    host: String,
    port: u16,
}

impl Url {
    /// Parses an absolute URL. User information is refused: it would become credentials for whoever wrote the URL.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        // A fragment is never sent (RFC 9110, section 4.1).
        let uri: Uri = url.split('#').next().unwrap_or_default().parse().ok()?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        (known && is_host_and_port(uri.authority()?.as_str())).then_some(Self(uri))
    }

    /// What a `Location` of an answer to this URL means.
    pub(crate) fn join(&self, location: &str) -> Option<Self> {
        // A colon before any other delimiter ends a scheme (RFC 3986, section 4.2).
        if location.find([':', '/', '?', '#']).is_some_and(|at| location.as_bytes()[at] == b':') {
            return Self::parse(location);
        }
        let scheme = if self.is_secure() { "https" } else { "http" };
        if location.starts_with("//") {
            return Self::parse(&format!("{scheme}:{location}"));
        }
        let authority = self.0.authority()?;
        let path = self.0.path();
        let path = match location.as_bytes().first()? {
            b'/' => location.to_owned(),
            b'?' => format!("{path}{location}"),
            _ => format!("{}/{location}", path.rsplit_once('/').map_or("", |(folder, _)| folder)),
        };
        let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
        Self::parse(&format!("{scheme}://{authority}{}{query}", without_dots(path)))
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// The host, IPv6 addresses without brackets.
    pub(crate) fn host(&self) -> &str {
        let host = self.0.host().expect("parse demands a host");
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    pub(crate) fn origin(&self) -> Origin {
        Origin { secure: self.is_secure(), host: self.host().to_ascii_lowercase(), port: self.port() }
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(if self.is_secure() { 443 } else { 80 })
    }

    /// Whether the port is that of the scheme.
    pub(crate) fn has_default_port(&self) -> bool {
        self.port() == if self.is_secure() { 443 } else { 80 }
    }

    /// The same in TLS, if this is the same host as a URL that is: registries behind a proxy that ends TLS often take
    /// themselves for plain ones.
    pub(crate) fn secured_like(self, base: &Self) -> Self {
        let same_host = self.host().eq_ignore_ascii_case(base.host()) && self.has_default_port();
        if self.is_secure() || !base.is_secure() || !same_host {
            return self;
        }
        let path = self.0.path_and_query().map_or("/", |path| path.as_str());
        let authority = base.0.authority().expect("parse demands a host");
        Self::parse(&format!("https://{authority}{path}")).unwrap_or(self)
    }

    /// Host and port, as messages show it.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.0.host().expect("parse demands a host"), self.port())
    }

    /// The URL for messages: without its query, which may be a signature worth as much as a password.
    pub(crate) fn shown(&self) -> String {
        self.to_string().split('?').next().unwrap_or_default().to_owned()
    }

    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(self.host())
    }

    /// The URL with one more query parameter, its value encoded.
    pub(crate) fn with_query(&self, name: &str, value: &str) -> Self {
        let separator = if self.0.query().is_some() { '&' } else { '?' };
        Self::parse(&format!("{self}{separator}{name}={}", encode(value)))
            .expect("an encoded parameter keeps a URL valid")
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether the host is this machine: a loopback address, or `localhost`, which is never looked up (RFC 6761).
pub(crate) fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => address.to_canonical().is_loopback(),
        Ok(address) => address.is_loopback(),
        Err(_) => {
            let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
            host == "localhost" || host.ends_with(".localhost")
        }
    }
}

/// Whether an authority is a name, an IPv4 address or an IPv6 address in brackets, and perhaps a port: the library takes
/// more than that (RFC 3986, section 3.2).
fn is_host_and_port(authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    };
    is_host && port.is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok())
}

/// A path without `.` and `..` (RFC 3986, section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut segments = Vec::new();
    let last = path.rsplit('/').next().unwrap_or_default();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    if matches!(last, "." | "..") {
        segments.push("");
    }
    format!("/{}", segments.join("/"))
}

/// Percent-encodes all but the unreserved characters, and `:` and `/`, which queries may hold and scopes are full of.
pub(crate) fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_resolved() {
        let base = Url::parse("https://r.io:5000/v2/a/blobs/x?y=1").unwrap();
        for (location, meaning) in [
            ("https://s.io/b?sig=1#f", Some("https://s.io/b?sig=1")),
            ("http://s.io/b", Some("http://s.io/b")),
            ("//s.io/b", Some("https://s.io/b")),
            ("/b/c", Some("https://r.io:5000/b/c")),
            ("/b?to=http://x/", Some("https://r.io:5000/b?to=http://x/")),
            ("z?to=http://x", Some("https://r.io:5000/v2/a/blobs/z?to=http://x")),
            ("z", Some("https://r.io:5000/v2/a/blobs/z")),
            ("../z?a=../b", Some("https://r.io:5000/v2/a/z?a=../b")),
            ("/b/./c/../../d/..", Some("https://r.io:5000/")),
            ("../../../../../../etc", Some("https://r.io:5000/etc")),
            ("/b//c/", Some("https://r.io:5000/b//c/")),
            ("?z=1", Some("https://r.io:5000/v2/a/blobs/x?z=1")),
            ("ftp://s.io/b", None),
            ("file:///etc/passwd", None),
            ("https://user:secret@s.io/b", None),
            ("https://[::1]:5000/b", Some("https://[::1]:5000/b")),
            ("//[].3", None),
            ("https://[::1].evil.io/", None),
            ("https://s.io:99999/", None),
            ("https://s.io:/", None),
            ("https://s%2eio/", None),
            ("https://", None),
            ("", None),
        ] {
            assert_eq!(base.join(location).map(|url| url.to_string()).as_deref(), meaning, "{location}");
        }
    }

    #[test]
    fn a_registry_behind_a_proxy_stays_in_tls() {
        let like = |url, base| Url::parse(url).unwrap().secured_like(&Url::parse(base).unwrap()).to_string();
        let base = "https://r.io:5000/v2/";
        assert_eq!(like("http://R.io/upload?x=1", base), "https://r.io:5000/upload?x=1");
        for url in ["http://r.io:8080/upload", "http://s.io/upload", "https://s.io/upload"] {
            assert_eq!(like(url, base), url);
        }
        assert_eq!(like("http://r.io/upload", "http://r.io/v2/"), "http://r.io/upload");
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let origin = |url| Url::parse(url).unwrap().origin();
        assert_eq!(origin("https://R.io/a"), origin("https://r.io:443/b"));
        assert_ne!(origin("https://r.io/"), origin("http://r.io:443/"));
        assert_ne!(origin("https://r.io/"), origin("https://r.io:8443/"));
        assert_ne!(origin("https://r.io/"), origin("https://r.io.evil/"));
    }

    #[test]
    fn loopback_is_told_from_names_that_look_like_it() {
        for host in ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "localhost", "LocalHost.", "a.localhost"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["128.0.0.1", "127.0.0.1.evil.io", "localhost.evil.io", "xlocalhost", "::2", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn query_values_cannot_break_out() {
        let url = Url::parse("https://a.io/token?x=1").unwrap().with_query("scope", "repository:a/b:pull&y=#ü");
        assert_eq!(url.to_string(), "https://a.io/token?x=1&scope=repository:a/b:pull%26y%3D%23%C3%BC");
    }
}
