//! Who the person is to registries: shown once, and kept in Docker's configuration file or with its helpers.
//!
//! None of it needs an engine's directories, nor root rights.

use crate::error::{Error, Result};
use std::path::PathBuf;
use tare_registry::{Client, ClientOptions, Credential, Credentials, DockerConfig};

pub use tare_registry::SearchResult;

/// A login that the registry accepted and that was kept.
#[derive(Clone, Debug)]
pub struct LoggedIn {
    /// The file that the password is in without encryption, unless a helper has it.
    pub unencrypted: Option<PathBuf>,
    /// Whether nobody on the way could read the password.
    pub secure: bool,
}

/// Logs in to a registry, by its name in references (`docker.io`, `127.0.0.1:5000`), and keeps the credentials.
///
/// # Errors
/// [`Error::Registry`]: it does not accept them, cannot be reached; they cannot be kept.
pub fn login(registry: &str, username: &str, password: &str) -> Result<LoggedIn> {
    let config = configuration()?;
    let login = Client::new(ClientOptions::of_host()?).login(registry, username, password)?;
    let helper = config.store(registry, &login.credential)?;
    let unencrypted = helper.is_none().then(|| config.path().to_owned());
    Ok(LoggedIn { unencrypted, secure: login.secure })
}

/// What is kept for a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// This user's password, and whether the registry accepts it.
    Password {
        /// The user.
        username: String,
        /// What the registry says of it.
        accepted: bool,
    },
    /// A token, which says nothing of its owner.
    Token,
}

/// Looks whether there is a login for a registry, and whether it is still good.
///
/// # Errors
/// [`Error::Registry`]: what is kept cannot be read, or the registry cannot be reached.
pub fn kept(registry: &str) -> Result<Kept> {
    match configuration()?.for_registry(registry)? {
        None => Ok(Kept::Nothing),
        Some(Credential::Password { username, password }) => {
            let client = Client::new(ClientOptions::of_host()?);
            match client.login(registry, &username, &password) {
                Ok(_) => Ok(Kept::Password { username, accepted: true }),
                Err(tare_registry::Error::Unauthorized { .. } | tare_registry::Error::AccessDenied { .. }) => {
                    Ok(Kept::Password { username, accepted: false })
                }
                Err(error) => Err(error.into()),
            }
        }
        Some(_) => Ok(Kept::Token),
    }
}

/// Forgets the login for a registry; whether there was one.
///
/// # Errors
/// [`Error::Registry`] for a file or helper that fails.
pub fn logout(registry: &str) -> Result<bool> {
    Ok(configuration()?.erase(registry)?)
}

/// Searches a registry for repositories.
///
/// # Errors
/// [`Error::Registry`]: not reachable, or it cannot search.
pub fn search(registry: &str, term: &str, limit: u32) -> Result<Vec<SearchResult>> {
    Ok(Client::new(ClientOptions::of_host()?).search(registry, term, limit)?)
}

fn configuration() -> Result<DockerConfig> {
    DockerConfig::of_user()
        .ok_or_else(|| Error::invalid("neither DOCKER_CONFIG nor HOME says where credentials are to be kept"))
}
