//! Plain downloads, for `import`: no registry, no credentials.

use crate::client::Client;
use crate::error::Error;
use crate::transport::Request;
use crate::url::Url;
use std::io::Read;

impl Client {
    /// What an `http` or `https` URL leads to. Redirects are followed, but not out of TLS; a URL without a scheme is one
    /// of `http`, as Docker has it. Ends early when the connection does: its length is not known beforehand.
    ///
    /// # Errors
    /// [`Error`]: not reachable, or answered with anything but success.
    pub fn download(&self, url: &str) -> Result<Box<dyn Read + Send>, Error> {
        let text = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let invalid = || Error::Protocol {
            method: "Get",
            url: url.chars().take(300).collect(),
            problem: "expected an http or https URL without user information".to_owned(),
        };
        let parsed = Url::parse(&text).ok_or_else(invalid)?;
        let answer = self.shared.transport.send(&parsed, &Request::new("Get"), None)?;
        match answer.status() {
            200 => Ok(Box::new(answer.into_reader())),
            _ => Err(answer.unexpected()),
        }
    }
}
