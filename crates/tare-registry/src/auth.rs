//! Authentication to one registry: basic authentication, and the token protocol of the distribution project
//! (`spec/auth/token.md`, `oauth.md`).
//!
//! The token protocol intends that the registry names another host that gives the tokens, and that this host gets
//! the user's password. We follow it if that host is reached by TLS with a trusted certificate; in clear text only
//! if it is the registry's own host, or if the registry is on this machine. A registry that is reached by TLS and
//! names a token server in clear text is refused altogether.

use crate::access::Access;
use crate::answer::Answer;
use crate::challenge::Challenge;
use crate::credentials::{Credential, Credentials};
use crate::error::{Error, RegistryMessage};
use crate::transport::{Request, Transport};
use crate::url::Url;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Largest token answer in bytes.
const TOKEN_LIMIT: u64 = 1 << 20;
/// How long a token is good if the server does not say (token specification: 60 s), and at least.
const TOKEN_LIFETIME: u64 = 60;
/// Taken off, so that a token does not expire on its way.
const TOKEN_MARGIN: Duration = Duration::from_secs(10);

/// Who asks for an identity token.
const CLIENT_ID: &str = "tare";

/// What we know of a registry: how it is reached, what it asks, and the tokens it takes.
pub(crate) struct Session {
    /// `https://host:port/v2/`.
    pub(crate) base: Url,
    /// The registry's name among the credentials.
    registry: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    challenge: Option<Challenge>,
    /// Asked for once, and again when the registry did not like it: it may come from a program that takes its time.
    credential: Option<Option<Credential>>,
    /// By their scopes.
    tokens: HashMap<String, Token>,
}

struct Token {
    value: String,
    expires: Instant,
}

/// What a token server gives.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct TokenDocument {
    token: String,
    access_token: String,
    expires_in: Option<u64>,
    /// An identity token, if one was asked for.
    pub(crate) refresh_token: Option<String>,
}

impl TokenDocument {
    /// The token, with either of its names.
    pub(crate) fn value(&self) -> &str {
        if self.token.is_empty() { &self.access_token } else { &self.token }
    }

    fn into_token(self) -> Token {
        // A day at most: what a server says must not overflow the clock.
        let lifetime = self.expires_in.unwrap_or(TOKEN_LIFETIME).clamp(TOKEN_LIFETIME, 86_400);
        let expires = Instant::now() + Duration::from_secs(lifetime) - TOKEN_MARGIN;
        Token { value: if self.token.is_empty() { self.access_token } else { self.token }, expires }
    }
}

impl Session {
    pub(crate) fn new(registry: &str, base: Url, challenge: Option<Challenge>) -> Self {
        let state = Mutex::new(State { challenge, ..State::default() });
        Self { base, registry: registry.to_owned(), state }
    }

    /// Takes a new challenge into account, which came in answer to this `Authorization`: an unknown scheme or an
    /// expired token.
    pub(crate) fn challenged(&self, challenge: Challenge, refused: Option<&str>) {
        let mut state = self.state();
        // Another thread may have got a new one meanwhile.
        state.tokens.retain(|_, token| refused.and_then(|header| header.strip_prefix("Bearer ")) != Some(&token.value));
        state.credential = None;
        state.challenge = Some(challenge);
    }

    pub(crate) fn challenge(&self) -> Option<Challenge> {
        self.state().challenge.clone()
    }

    /// The `Authorization` for this access, if one is needed. Threads that ask at once share one token.
    pub(crate) fn authorization(
        &self,
        access: &Access,
        transport: &Transport,
        credentials: &dyn Credentials,
    ) -> Result<Option<String>, Error> {
        let mut state = self.state();
        let Some(challenge) = state.challenge.clone() else { return Ok(None) };
        let scopes = access.scopes();
        if let Challenge::Bearer { .. } = challenge
            && let Some(token) = state.tokens.get(&scopes.join(" ")).filter(|token| token.expires > Instant::now())
        {
            return Ok(Some(bearer_header(&token.value)));
        }
        let credential = match state.credential.clone() {
            Some(known) => known,
            None => state.credential.insert(credentials.for_registry(&self.registry)?).clone(),
        };
        match (challenge, credential) {
            (_, Some(Credential::RegistryToken(token))) => Ok(Some(bearer_header(&token))),
            (Challenge::Basic, Some(Credential::Password { username, password })) => {
                Ok(Some(basic_header(&username, &password)))
            }
            (Challenge::Basic, Some(Credential::IdentityToken(_)) | None) => {
                Err(Error::NoCredentials { method: "Get", url: self.base.shown(), registry: self.registry.clone() })
            }
            (Challenge::Bearer { realm, service, .. }, credential) => {
                let request = TokenRequest {
                    realm: &self.realm(&realm, transport)?,
                    service: service.as_deref().unwrap_or_default(),
                    scopes,
                    offline: false,
                };
                let credential = credential.filter(|_| self.may_have_password(request.realm));
                let document = request.send(transport, access, credential.as_ref())?;
                let header = bearer_header(document.value());
                state.tokens.insert(scopes.join(" "), document.into_token());
                Ok(Some(header))
            }
        }
    }

    /// Whether we told the registry who we are.
    pub(crate) fn is_known(&self) -> bool {
        matches!(self.state().credential, Some(Some(_)))
    }

    /// The token server's address, if it may be asked at all.
    pub(crate) fn realm(&self, realm: &str, transport: &Transport) -> Result<Url, Error> {
        let url = Url::parse(realm).ok_or_else(|| Error::Protocol {
            method: "Get",
            url: self.base.shown(),
            problem: format!("unusable realm {realm:?}"),
        })?;
        if self.base.is_secure() && !url.is_secure() && !transport.is_insecure(&self.base) {
            return Err(Error::InsecureRedirection { registry: self.registry.clone(), url: url.shown() });
        }
        Ok(url)
    }

    /// Whether the token server gets the user's password; see the module's text.
    pub(crate) fn may_have_password(&self, realm: &Url) -> bool {
        realm.is_secure() || self.base.is_loopback() || realm.host().eq_ignore_ascii_case(self.base.host())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves at worst an old token.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn basic_header(username: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}")))
}

pub(crate) fn bearer_header(token: &str) -> String {
    format!("Bearer {token}")
}

/// A question to a token server.
pub(crate) struct TokenRequest<'a> {
    pub(crate) realm: &'a Url,
    pub(crate) service: &'a str,
    pub(crate) scopes: &'a [String],
    /// Whether an identity token is wanted, too.
    pub(crate) offline: bool,
}

impl TokenRequest<'_> {
    /// Asks for a token; who `credential` is was allowed to go there.
    pub(crate) fn send(
        &self,
        transport: &Transport,
        access: &Access,
        credential: Option<&Credential>,
    ) -> Result<TokenDocument, Error> {
        let answer = match credential {
            Some(Credential::IdentityToken(token)) => self.exchange(transport, token)?,
            Some(Credential::Password { username, password }) => {
                let url = self.url().with_query("account", username);
                let offline = |url: Url| url.with_query("client_id", CLIENT_ID).with_query("offline_token", "true");
                let url = if self.offline { offline(url) } else { url };
                transport.send(&url, &Request::new("Get"), Some(&basic_header(username, password)))?
            }
            Some(Credential::RegistryToken(_)) | None => transport.send(&self.url(), &Request::new("Get"), None)?,
        };
        read_token(answer, transport, access, credential.is_some())
    }

    fn url(&self) -> Url {
        let mut url = self.realm.clone();
        for scope in self.scopes {
            url = url.with_query("scope", scope);
        }
        if self.service.is_empty() { url } else { url.with_query("service", self.service) }
    }

    fn exchange(&self, transport: &Transport, identity_token: &str) -> Result<Answer, Error> {
        let scope = self.scopes.join(" ");
        let form = [
            ("grant_type", "refresh_token"),
            ("service", self.service),
            ("client_id", CLIENT_ID),
            ("scope", &scope),
            ("refresh_token", identity_token),
        ];
        transport.post_form(self.realm, &form)
    }
}

fn read_token(
    answer: Answer,
    transport: &Transport,
    access: &Access,
    with_password: bool,
) -> Result<TokenDocument, Error> {
    let (method, url) = (answer.method, answer.url.shown());
    match answer.status() {
        200 => {}
        401 | 403 => {
            let source = answer.message();
            return Err(if with_password {
                let source = source.unwrap_or_else(|| RegistryMessage::new("UNAUTHORIZED", "authentication required"));
                Error::Unauthorized { method, url, source }
            } else {
                access.denied(source)
            });
        }
        _ => return Err(answer.unexpected()),
    }
    let bytes = answer.read("token", TOKEN_LIMIT, transport)?;
    let problem = |problem: &str| Error::Protocol { method, url: url.clone(), problem: problem.to_owned() };
    let document: TokenDocument =
        serde_json::from_slice(&bytes).map_err(|_| problem("the token server's answer is no token"))?;
    if document.value().is_empty() {
        return Err(problem("the token server's answer holds no token"));
    }
    if !document.value().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(problem("the token server's token is no text for a header"));
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use tare_spec::Reference;

    /// CVE-2020-15157 and its kin: who may see the password.
    #[test]
    fn passwords_stay_on_trusted_ways() {
        let transport = Transport::for_tests(&["plain.io"], "/nonexistent".as_ref());
        // registry, realm, whether the realm gets the password; None: it is not even asked for a token
        for (base, realm, allowed) in [
            ("https://r.io/v2/", "https://auth.other.io/t", Some(true)),
            ("https://r.io/v2/", "http://auth.r.io/t", None),
            ("https://r.io/v2/", "http://r.io/t", None),
            ("https://r.io/v2/", "https://u:p@r.io/t", None),
            ("https://r.io/v2/", "file:///etc/passwd", None),
            ("http://plain.io/v2/", "http://plain.io:81/t", Some(true)),
            ("http://plain.io/v2/", "http://evil.io/t", Some(false)),
            ("http://plain.io/v2/", "https://auth.io/t", Some(true)),
            ("http://127.0.0.1:5000/v2/", "http://auth.test/t", Some(true)),
        ] {
            let session = Session::new("r", Url::parse(base).unwrap(), None);
            let found = session.realm(realm, &transport).ok().map(|realm| session.may_have_password(&realm));
            assert_eq!(found, allowed, "{base} names {realm}");
        }
    }

    #[test]
    fn a_token_server_in_clear_text_sees_the_password_of_a_local_registry_only() {
        struct Password;
        impl Credentials for Password {
            fn for_registry(&self, _registry: &str) -> Result<Option<Credential>, Error> {
                Ok(Some(Credential::Password { username: "user".to_owned(), password: "secret".to_owned() }))
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let realm = format!("http://{}/token", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let serve = |stream: std::io::Result<TcpStream>| {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let request: Vec<String> = lines.map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
                let body = r#"{"token":"good"}"#;
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
                    .unwrap();
                request.join(" ").to_lowercase()
            };
            listener.incoming().take(2).map(serve).collect::<Vec<_>>()
        });
        let transport = Transport::for_tests(&["plain.io"], "/nonexistent".as_ref());
        let reference = Reference::parse("plain.io/web").unwrap();
        let access = Access::pull(&reference, "web");
        let challenge = Challenge::Bearer { realm, service: None, scope: None, error: None };
        for base in ["http://plain.io/v2/", "http://127.0.0.1:5000/v2/"] {
            let session = Session::new("plain.io", Url::parse(base).unwrap(), Some(challenge.clone()));
            let header = session.authorization(&access, &transport, &Password).unwrap();
            assert_eq!(header.as_deref(), Some("Bearer good"));
        }
        let requests = server.join().unwrap();
        let shown: Vec<bool> = requests.iter().map(|request| request.contains("authorization: basic")).collect();
        assert_eq!(shown, [false, true]);
    }
}
