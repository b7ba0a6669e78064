//! Client of the OCI distribution protocol: finds an image's manifest at a registry and streams its blobs.
//!
//! Synchronous, and without libc's resolver: a static glibc program must not call `getaddrinfo`. Nothing is
//! stored here; what a blob's bytes are worth is decided by whoever checks their digest.
//!
//! **Credentials never cross hosts** (CVE-2020-15157): a registry's challenge is answered only when it came from
//! the registry itself, tokens go to the registry only, and every redirect to another origin is followed without
//! them. The one exception is what the token protocol intends: the token server that a registry names gets the
//! password, if the way to it is encrypted or does not leave the registry's own host or this machine.

mod auth;
mod blob;
mod client;
mod credentials;
mod dns;
mod docker_config;
mod error;
mod resolve;
mod transport;
mod url;

pub use client::{Client, ClientOptions, ManifestResponse};
pub use credentials::{Anonymous, Basic, Credentials};
pub use docker_config::DockerConfig;
pub use error::{Error, RegistryMessage, TransportError};
pub use transport::{Retry, Timeouts};
