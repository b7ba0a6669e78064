//! A private registry: the server of `tare-registry` on content of its own. The format is in `docs/formats/registry.md`.
//!
//! Needs no rights but those on its folder, and no [`crate::Engine`].

mod collect;
mod layout;
mod storage;
mod upload;

pub use collect::{CollectOptions, Collected, collect};
pub use tare_registry::server::{Access, Event, Limits, Server, ServerOptions, Stop, TlsFiles};

use crate::error::Result;
use std::path::Path;
use std::sync::Arc;
use storage::FileStorage;

/// Listens as a registry with its content below `root`, which is made when it is missing.
///
/// # Errors
/// [`crate::Error`]: the folder cannot be used, the address is taken, a certificate or password file is not accepted.
pub fn open(root: &Path, options: &ServerOptions, log: Arc<dyn Fn(Event) + Send + Sync>) -> Result<Server> {
    let storage = Arc::new(FileStorage::open(root)?);
    Ok(Server::bind(options, storage, log)?)
}
