//! Who we are to a registry.

use crate::Error;
use std::fmt;

/// How we prove who we are.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user name and a password.
    Password {
        /// The user name.
        username: String,
        /// The password, or what the registry takes for one.
        password: String,
    },
    /// What a registry gave at the login in place of the password; its token server exchanges it for tokens.
    IdentityToken(String),
    /// A token that the registry takes as it is.
    RegistryToken(String),
}

impl Credential {
    /// The user name, where there is one.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        match self {
            Self::Password { username, .. } => Some(username),
            Self::IdentityToken(_) | Self::RegistryToken(_) => None,
        }
    }
}

impl fmt::Debug for Credential {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { username, .. } => {
                f.debug_struct("Password").field("username", username).finish_non_exhaustive()
            }
            Self::IdentityToken(_) => f.write_str("IdentityToken(..)"),
            Self::RegistryToken(_) => f.write_str("RegistryToken(..)"),
        }
    }
}

/// Where credentials come from.
pub trait Credentials: Send + Sync {
    /// The credentials for a registry, by its name in references (`docker.io`, `127.0.0.1:5000`).
    ///
    /// Asked only when a registry demands authentication, possibly several times and from several threads.
    ///
    /// # Errors
    /// When there should be credentials but they cannot be had. None at all is `Ok(None)`: an anonymous pull.
    fn for_registry(&self, registry: &str) -> Result<Option<Credential>, Error>;
}

/// No credentials for anybody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

impl Credentials for Anonymous {
    fn for_registry(&self, _registry: &str) -> Result<Option<Credential>, Error> {
        Ok(None)
    }
}
