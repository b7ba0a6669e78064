//! What the tests of the client have in common.

use crate::server::{Response, Server};
use sha2::{Digest as _, Sha256};
use std::error::Error as _;
use std::io::Read;
use std::time::Duration;
use tare_registry::{Client, ClientOptions, Credential, Credentials, Error, Retry};
use tare_spec::image::Descriptor;
use tare_spec::image::media_type::OCI_MANIFEST;
use tare_spec::{Digest, Reference};

pub(crate) const MANIFEST: &str = r#"{"schemaVersion":2}"#;

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

pub(crate) fn manifest() -> Response {
    Response::new(200, MANIFEST).header("content-type", OCI_MANIFEST)
}

pub(crate) fn error(status: u16, code: &str, message: &str) -> Response {
    Response::new(status, format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#))
}

pub(crate) struct Password;

impl Credentials for Password {
    fn for_registry(&self, _registry: &str) -> Result<Option<Credential>, Error> {
        Ok(Some(Credential::Password { username: "user".to_owned(), password: "secret".to_owned() }))
    }
}

/// `user:secret`
pub(crate) const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

pub(crate) fn options() -> ClientOptions {
    ClientOptions { retry: Retry { attempts: 3, delay: Duration::from_millis(1) }, ..ClientOptions::default() }
}

pub(crate) fn anonymous() -> Client {
    Client::new(options())
}

pub(crate) fn with_password() -> Client {
    Client::new(ClientOptions { credentials: Box::new(Password), ..options() })
}

pub(crate) fn reference(server: &Server, rest: &str) -> Reference {
    Reference::parse(&format!("{}/{rest}", server.address)).unwrap()
}

/// The error with all its causes, as a person reads it.
pub(crate) fn text(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

pub(crate) fn blob_error(client: &Client, reference: &Reference, descriptor: &Descriptor) -> Error {
    let mut bytes = Vec::new();
    match client.blob(reference, descriptor) {
        Ok(mut blob) => *blob.read_to_end(&mut bytes).unwrap_err().into_inner().unwrap().downcast().unwrap(),
        Err(error) => error,
    }
}

pub(crate) fn descriptor(content: &[u8]) -> Descriptor {
    Descriptor::new("application/octet-stream", digest(content), content.len() as u64)
}

pub(crate) fn blob(client: &Client, reference: &Reference, content: &[u8]) -> Vec<u8> {
    let descriptor = Descriptor::new("x", digest(content), content.len() as u64);
    let mut bytes = Vec::new();
    client.blob(reference, &descriptor).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}
