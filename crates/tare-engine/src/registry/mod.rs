//! A private registry: the server of `tare-registry` on content of its own. The format is in `docs/formats/registry.md`.
//!
//! Needs no rights but those on its folder, and no [`crate::Engine`].

mod collect;
mod layout;
mod storage;
mod upload;

pub use collect::{CollectOptions, Collected, collect};
pub use tare_registry::server::{Access, Event, Limits, ProxyOptions, Server, ServerOptions, Stop, TlsFiles};

use crate::error::{Error, Result};
use std::path::Path;
use std::sync::Arc;
use storage::FileStorage;
use tare_registry::ClientOptions;
use tare_spec::Reference;
use tare_spec::reference::DEFAULT_REGISTRY;

/// Listens as a registry with its content below `root`, which is made when it is missing.
///
/// # Errors
/// [`crate::Error`]: the folder cannot be used, the address is taken, a certificate or password file is not accepted.
pub fn open(root: &Path, options: ServerOptions, log: Arc<dyn Fn(Event) + Send + Sync>) -> Result<Server> {
    let storage = Arc::new(FileStorage::open(root)?);
    Ok(Server::bind(options, storage, log)?)
}

/// The registry that a cache is to be in front of: `https://registry.example.org:5000`, `http://127.0.0.1:5000`, `docker.io`. It is
/// talked to as a pull does it, with the host's configuration of registries and the user's credentials.
///
/// # Errors
/// [`Error::InvalidParameter`] for what is no such URL; a configuration that cannot be read.
pub fn upstream(url: &str) -> Result<ProxyOptions> {
    let invalid = || Error::invalid(format!("invalid registry {url:?}: expected https://HOST[:PORT]"));
    let (plain, rest) = match url.split_once("://") {
        None | Some(("https", _)) => (false, url.strip_prefix("https://").unwrap_or(url)),
        Some(("http", rest)) => (true, rest),
        Some(_) => return Err(invalid()),
    };
    let host = rest.trim_end_matches('/');
    let registry = match host {
        "registry-1.docker.io" | "index.docker.io" => DEFAULT_REGISTRY,
        host => host,
    };
    // A registry by the grammar of references, and nothing but that.
    let parsed = Reference::parse(&format!("{registry}/a/b")).map_err(|_| invalid())?;
    if parsed.registry() != registry {
        return Err(invalid());
    }
    let mut client = ClientOptions::of_host()?;
    if plain {
        client.registries = client.registries.with_insecure(&[registry])?;
    }
    Ok(ProxyOptions { registry: registry.to_owned(), client })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_of_registries() {
        for (url, registry) in [
            ("https://registry-1.docker.io", "docker.io"),
            ("docker.io", "docker.io"),
            ("https://r.example.org:5000/", "r.example.org:5000"),
            ("http://127.0.0.1:5000", "127.0.0.1:5000"),
            ("http://[::1]:5000", "[::1]:5000"),
        ] {
            assert_eq!(upstream(url).unwrap().registry, registry, "{url}");
        }
        for url in
            ["", "https://", "ftp://a.b", "https://a.b/c", "https://user@a.b", "a", "https://a.b?x", "https://a b"]
        {
            assert!(upstream(url).is_err(), "{url}");
        }
    }
}
