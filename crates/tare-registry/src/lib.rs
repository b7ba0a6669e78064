//! The OCI distribution protocol: a client, and a [`server`].
//!
//! The client finds manifests at registries, streams blobs from and to them, lists, logs in.
//!
//! Synchronous, and without libc's resolver: a static glibc program must not call `getaddrinfo`. Nothing is
//! stored here; what a blob's bytes are worth is decided by whoever checks their digest.
//!
//! **Credentials never cross hosts** (CVE-2020-15157): a registry's challenge is answered only when it came from
//! the registry itself, tokens go to the registry only, and every redirect to another origin is followed without
//! them. The one exception is what the token protocol intends: the token server that a registry names gets the
//! password, if the way to it is encrypted or does not leave the registry's own host or this machine.

mod access;
mod agents;
mod answer;
mod auth;
mod blob;
mod challenge;
mod client;
mod credential_helper;
mod credentials;
mod dns;
mod docker_config;
mod endpoint;
mod error;
mod fetch;
#[doc(hidden)]
pub mod fuzzing;
mod link;
mod listing;
mod login;
mod lookup;
mod push;
mod rate_limit;
mod registries;
mod resolve;
mod search;
pub mod server;
mod transport;
mod upload;
mod url;

pub use client::{Client, ClientOptions, ManifestResponse};
pub use credentials::{Anonymous, Credential, Credentials};
pub use docker_config::DockerConfig;
pub use error::{Error, RegistryMessage, TransportError};
pub use fetch::WebFile;
pub use login::Login;
pub use push::OpenAt;
pub use rate_limit::RateLimit;
pub use registries::Registries;
pub use search::SearchResult;
pub use transport::{Retry, Timeouts};
