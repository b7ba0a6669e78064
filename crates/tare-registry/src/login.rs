//! Proving who we are, once, before it is written down.

use crate::access::Access;
use crate::auth::{TokenRequest, basic_header, bearer_header};
use crate::challenge::Challenge;
use crate::client::Client;
use crate::credentials::Credential;
use crate::error::{Error, RegistryMessage};
use crate::transport::Request;

/// A login that the registry accepted.
#[derive(Clone, Debug)]
pub struct Login {
    /// What to keep: the identity token, where the registry gives one, in place of the password.
    pub credential: Credential,
    /// Whether the connection is encrypted by a certificate that is trusted, or does not leave this machine.
    pub secure: bool,
}

impl Client {
    /// Whether a registry answers.
    ///
    /// # Errors
    /// [`Error`]: not reachable, or out of order.
    pub fn ping(&self, registry: &str) -> Result<(), Error> {
        self.shared.session(&self.shared.registry(registry)).map(drop)
    }

    /// Shows a user name and a password to a registry, as `docker login` does. Keeps nothing, neither here nor in a
    /// file. A registry that asks for nothing accepts everybody.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] if it does not accept them; not reachable; a token server that must not see them.
    pub fn login(&self, registry: &str, username: &str, password: &str) -> Result<Login, Error> {
        let session = self.shared.session(&self.shared.registry(registry))?;
        let transport = &self.shared.transport;
        let given = Credential::Password { username: username.to_owned(), password: password.to_owned() };
        let secure = session.base.is_loopback() || session.base.is_secure() && !transport.is_insecure(&session.base);
        let (credential, authorization) = match session.challenge() {
            None => return Ok(Login { credential: given, secure }),
            Some(Challenge::Basic) => (given, basic_header(username, password)),
            Some(Challenge::Bearer { realm, service, .. }) => {
                let realm = session.realm(&realm, transport)?;
                if !session.may_have_password(&realm) {
                    return Err(Error::InsecureRedirection { registry: registry.to_owned(), url: realm.shown() });
                }
                let service = service.as_deref().unwrap_or_default();
                let request = TokenRequest { realm: &realm, service, scopes: &[], offline: true };
                let document = request.send(transport, &Access::login(registry), Some(&given))?;
                let token = bearer_header(document.value());
                let identity = document.refresh_token.filter(|token| !token.is_empty());
                (identity.map_or(given, Credential::IdentityToken), token)
            }
        };
        let answer = transport.send(&session.base, &Request::new("Get"), Some(&authorization))?;
        match answer.status() {
            200 => Ok(Login { credential, secure }),
            401 | 403 => {
                let (method, url) = (answer.method, answer.url.shown());
                let source = answer.message();
                let source = source.unwrap_or_else(|| RegistryMessage::new("UNAUTHORIZED", "authentication required"));
                Err(Error::Unauthorized { method, url, source })
            }
            _ => Err(answer.unexpected()),
        }
    }
}
