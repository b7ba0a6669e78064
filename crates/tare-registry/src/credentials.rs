//! Who we are to a registry.

use crate::Error;
use std::fmt;

/// A user name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Basic {
    /// The user name; `<token>` says that the password is an identity token, as in Docker's configuration.
    pub username: String,
    /// The password or the token.
    pub password: String,
}

impl Basic {
    /// The user name that marks an identity token.
    pub const IDENTITY_TOKEN: &str = "<token>";
}

impl fmt::Debug for Basic {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Basic").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Where user names and passwords come from.
pub trait Credentials: Send + Sync {
    /// The credentials for a registry, by its name in references (`docker.io`, `127.0.0.1:5000`).
    ///
    /// Asked only when a registry demands authentication, possibly several times and from several threads.
    ///
    /// # Errors
    /// When there should be credentials but they cannot be had. None at all is `Ok(None)`: an anonymous pull.
    fn for_registry(&self, registry: &str) -> Result<Option<Basic>, Error>;
}

/// No credentials for anybody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

impl Credentials for Anonymous {
    fn for_registry(&self, _registry: &str) -> Result<Option<Basic>, Error> {
        Ok(None)
    }
}
