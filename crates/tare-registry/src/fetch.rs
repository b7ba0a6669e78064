//! Plain files of the web: no registry, and never credentials.

use crate::answer::Answer;
use crate::blob::may_pass;
use crate::client::Client;
use crate::error::{Error, TransportError};
use crate::rate_limit::http_date;
use crate::transport::Request;
use crate::url::Url;
use std::io::{self, Read};
use std::time::Duration;
use ureq::http::header;

/// The name of a file that has none: neither its server nor its URL says it.
const NAMELESS: &str = "download";

/// The most bytes of a name on the usual file systems (NAME_MAX of linux/limits.h).
const NAME_LIMIT: usize = 255;

/// After this many bytes without trouble, earlier troubles are forgotten.
const FORGIVEN_AFTER: u64 = 1 << 20;

/// A file on its way.
pub struct WebFile {
    /// What the server calls it, or else the last part of the URL's path; never empty, no path, no control characters.
    pub name: String,
    /// How many bytes it has, if the server says so.
    pub length: Option<u64>,
    /// When it was changed last as the server has it: seconds since 1970.
    pub modified: Option<u64>,
    /// Its bytes. A connection that breaks is resumed where it broke, if the server can and promises that the file is still
    /// the same. Ends early only with an error where the length is known.
    pub reader: Box<dyn Read + Send>,
}

impl Client {
    /// What an `http` or `https` URL leads to. Redirects are followed, but not out of TLS.
    ///
    /// # Errors
    /// [`Error`]: not reachable, or answered with anything but success. While reading, the same errors come inside an
    /// [`std::io::Error`].
    pub fn fetch(&self, url: &str) -> Result<WebFile, Error> {
        let invalid = || Error::Protocol {
            method: "Get",
            url: tare_spec::url::without_users(url).chars().take(300).collect(),
            problem: "expected an http or https URL without user information".to_owned(),
        };
        let parsed = Url::parse(url).ok_or_else(invalid)?;
        let answer = self.shared.transport.send(&parsed, &Request::new("Get"), None)?;
        if answer.status() != 200 {
            return Err(answer.unexpected());
        }
        let disposition = answer.header(header::CONTENT_DISPOSITION).and_then(disposition_name);
        let name = disposition.or_else(|| name_of_path(parsed.uri().path())).unwrap_or_else(|| NAMELESS.to_owned());
        let length = answer.content_length();
        let modified = answer.header(header::LAST_MODIFIED).and_then(http_date).as_ref().map(Duration::as_secs);
        let body = Body {
            client: self.clone(),
            url: answer.url.clone(),
            version: version(&answer),
            length,
            reader: Some(Box::new(answer.into_reader())),
            offset: 0,
            failures: 0,
            failed_at: 0,
        };
        Ok(WebFile { name, length, modified, reader: Box::new(body) })
    }

    /// The bytes that a URL leads to. One without a scheme is one of `http`, as Docker has it.
    ///
    /// # Errors
    /// As [`Self::fetch`].
    pub fn download(&self, url: &str) -> Result<Box<dyn Read + Send>, Error> {
        let url = if url.contains("://") { url } else { &format!("http://{url}") };
        Ok(self.fetch(url)?.reader)
    }
}

/// What tells this version of a file from others, for `If-Range` (RFC 9110, section 13.1.5): a strong entity tag.
fn version(answer: &Answer) -> Option<String> {
    let tag = answer.header(header::ETAG)?;
    (tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"')).then(|| tag.to_owned())
}

struct Body {
    client: Client,
    url: Url,
    version: Option<String>,
    length: Option<u64>,
    reader: Option<Box<dyn Read + Send>>,
    offset: u64,
    failures: u32,
    failed_at: u64,
}

impl Body {
    fn step(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                let reader = self.resume()?;
                self.reader.insert(reader)
            }
        };
        let broken = |source| Error::Transport { method: "Get", url: self.url.shown(), source };
        let count = match reader.read(buffer) {
            Ok(count) => count,
            Err(error) => return Err(broken(self.client.shared.transport.cause(ureq::Error::from(error), &self.url))),
        };
        if count == 0 && self.length.is_some_and(|length| self.offset < length) {
            return Err(broken(TransportError::UnexpectedEnd { address: self.url.address() }));
        }
        self.offset += count as u64;
        Ok(count)
    }

    /// Asks for the rest.
    fn resume(&self) -> Result<Box<dyn Read + Send>, Error> {
        let range = format!("bytes={}-", self.offset);
        let headers = [("range", range.as_str()), ("if-range", self.version.as_deref().unwrap_or_default())];
        let headers = if self.offset == 0 { &headers[..0] } else { &headers[..] };
        let answer = self.client.shared.transport.send(&self.url, &Request::new("Get").headers(headers), None)?;
        let starts = |answer: &Answer| {
            let range = answer.header(header::CONTENT_RANGE)?.strip_prefix("bytes ")?;
            range.split_once('-')?.0.parse::<u64>().ok()
        };
        match answer.status() {
            206 if starts(&answer) == Some(self.offset) => Ok(Box::new(answer.into_reader())),
            200 if self.offset == 0 => Ok(Box::new(answer.into_reader())),
            200 | 206 => Err(answer.protocol("the connection broke, and the file is another one by now")),
            _ => Err(answer.unexpected()),
        }
    }

    /// Whether to go on after this failure; waits if so.
    fn may_retry(&mut self, error: &Error) -> bool {
        if self.offset - self.failed_at >= FORGIVEN_AFTER {
            self.failures = 0;
        }
        self.failed_at = self.offset;
        self.failures += 1;
        let retry = self.client.shared.transport.retry;
        let again = (self.offset == 0 || self.version.is_some()) && may_pass(error) && self.failures < retry.attempts;
        if again {
            retry.wait(self.failures);
        }
        again
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.step(buffer) {
                Ok(count) => return Ok(count),
                Err(error) => {
                    self.reader = None;
                    if !self.may_retry(&error) {
                        return Err(io::Error::other(error));
                    }
                }
            }
        }
    }
}

/// The file name of a `Content-Disposition` (RFC 6266): that of `filename*` if it is there.
pub(crate) fn disposition_name(value: &str) -> Option<String> {
    let (mut plain, mut extended) = (None, None);
    for parameter in split_parameters(value).into_iter().skip(1) {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "filename" => plain = Some(unquoted(value).into_bytes()),
            // RFC 8187: character set, language, percent-encoded text. Others than UTF-8 are not in use.
            "filename*" => {
                let mut parts = value.splitn(3, '\'');
                let is_utf8 = parts.next().is_some_and(|set| set.eq_ignore_ascii_case("utf-8"));
                extended = parts.nth(1).filter(|_| is_utf8).map(decoded);
            }
            _ => {}
        }
    }
    extended.or(plain).and_then(|name| file_name(&name))
}

/// The last part of a URL's path.
pub(crate) fn name_of_path(path: &str) -> Option<String> {
    file_name(&decoded(path))
}

/// Takes a name out of what may be a path; `None` for what no file can be called.
fn file_name(path: &[u8]) -> Option<String> {
    let path = String::from_utf8_lossy(path);
    let name = path.trim_end_matches('/').rsplit('/').next()?;
    let is_name = !matches!(name, "" | "." | "..") && name.len() <= NAME_LIMIT && !name.chars().any(char::is_control);
    is_name.then(|| name.to_owned())
}

/// The parts between semicolons that are not quoted.
fn split_parameters(value: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' if !quoted => {
                parts.push(&value[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&value[start..]);
    parts
}

/// A quoted string's text (RFC 9110, section 5.6.4).
fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"') else { return value.to_owned() };
    let mut text = String::new();
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => text.extend(characters.next()),
            other => text.push(other),
        }
    }
    text
}

/// Percent-decodes.
fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes.get(at + 1..at + 3).filter(|pair| bytes[at] == b'%' && pair.iter().all(u8::is_ascii_hexdigit));
        match pair.and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_name_files() {
        for (value, name) in [
            ("attachment; filename=x.tar.gz", Some("x.tar.gz")),
            ("attachment; FileName=\"a; b\\\"c.txt\"; size=5", Some("a; b\"c.txt")),
            ("attachment; filename=\"old\"; filename*=UTF-8''n%C3%A4%20me", Some("nä me")),
            ("attachment; filename*=iso-8859-1'de'x; filename=kept", Some("kept")),
            ("inline; filename=\"../../etc/passwd\"", Some("passwd")),
            ("inline; filename=\"/dir/\"", Some("dir")),
            ("attachment; filename=\"..\"", None),
            ("attachment; filename=\"\"", None),
            ("attachment; filename*=UTF-8''a%0Ab", None),
            ("attachment; filename*=UTF-8''%2e%2e%2fx", Some("x")),
            ("attachment", None),
            ("", None),
            ("filename=x", None),
        ] {
            assert_eq!(disposition_name(value).as_deref(), name, "{value}");
        }
        assert_eq!(disposition_name(&format!("a; filename={}", "x".repeat(256))), None);
    }

    #[test]
    fn paths_of_urls_name_files() {
        for (path, name) in [
            ("/a/b.tar", Some("b.tar")),
            ("/a/b/", Some("b")),
            ("/a%20b%2Fc", Some("c")),
            ("/%2e%2e", None),
            ("/100%", Some("100%")),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(name_of_path(path).as_deref(), name, "{path}");
        }
    }
}
