//! Authentication to one registry: RFC 7235 challenges, basic authentication, and the token protocol of the
//! distribution project (`spec/auth/token.md`, `oauth.md`).
//!
//! The token protocol intends that the registry names another host that gives the tokens, and that this host gets
//! the user's password. We follow it if that host is reached by TLS with a trusted certificate; in clear text only
//! if it is the registry's own host, or if the registry is on this machine. A registry that is reached by TLS and
//! names a token server in clear text is refused altogether.

use crate::credentials::{Basic, Credentials};
use crate::error::{Error, RegistryMessage};
use crate::transport::{Answer, Transport};
use crate::url::Url;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tare_spec::Reference;
use ureq::http::header;

/// Largest token answer in bytes.
const TOKEN_LIMIT: u64 = 1 << 20;
/// How long a token is good if the server does not say (token specification: 60 s), and at least.
const TOKEN_LIFETIME: u64 = 60;
/// Taken off, so that a token does not expire on its way.
const TOKEN_MARGIN: Duration = Duration::from_secs(10);

/// How a registry wants us to prove who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
        /// `insufficient_scope`, `invalid_token` (RFC 6750, section 3.1).
        error: Option<String>,
    },
}

impl Challenge {
    /// The challenge of an answer that we can meet, tokens before passwords.
    pub(crate) fn of(answer: &Answer) -> Option<Self> {
        let values = answer.headers().get_all(header::WWW_AUTHENTICATE);
        let challenges: Vec<Self> =
            values.iter().filter_map(|value| value.to_str().ok()).flat_map(parse_challenges).collect();
        let bearer = challenges.iter().find(|challenge| matches!(challenge, Self::Bearer { .. }));
        bearer.or(challenges.first()).cloned()
    }
}

/// The known challenges of one `WWW-Authenticate` header, which may hold several.
fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, HashMap<String, String>)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(|c: char| c.is_ascii_whitespace() || c == '=' || c == ',').unwrap_or(rest.len());
        if end == 0 {
            break;
        }
        let word = rest[..end].to_ascii_lowercase();
        rest = rest[end..].trim_start_matches([' ', '\t']);
        let Some(after) = rest.strip_prefix('=') else {
            found.push((word, HashMap::new()));
            continue;
        };
        let value;
        (value, rest) = parameter_value(after.trim_start_matches([' ', '\t']));
        if let Some((_, parameters)) = found.last_mut() {
            parameters.entry(word).or_insert(value);
        }
    }
    let challenges = found.into_iter().filter_map(|(scheme, mut parameters)| match scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: parameters.remove("realm")?,
            service: parameters.remove("service"),
            scope: parameters.remove("scope"),
            error: parameters.remove("error"),
        }),
        _ => None,
    });
    challenges.collect()
}

/// A token or a quoted string, and what follows it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (value, "")
}

/// What we know of a registry: how it is reached, what it asks, and the tokens it takes.
pub(crate) struct Session {
    /// `https://host:port/v2/`.
    pub(crate) base: Url,
    registry: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    challenge: Option<Challenge>,
    tokens: HashMap<String, Token>,
}

struct Token {
    value: String,
    expires: Instant,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenDocument {
    token: String,
    access_token: String,
    expires_in: Option<u64>,
}

impl Session {
    pub(crate) fn new(registry: &str, base: Url, challenge: Option<Challenge>) -> Self {
        let state = Mutex::new(State { challenge, tokens: HashMap::new() });
        Self { base, registry: registry.to_owned(), state }
    }

    /// Takes a new challenge into account: an unknown scheme or an expired token.
    pub(crate) fn challenged(&self, challenge: Challenge, reference: &Reference) {
        let mut state = self.state();
        state.tokens.remove(&scope(reference));
        state.challenge = Some(challenge);
    }

    /// The `Authorization` for reading a repository, if one is needed. Threads that ask at once share one token.
    pub(crate) fn authorization(
        &self,
        reference: &Reference,
        transport: &Transport,
        credentials: &dyn Credentials,
    ) -> Result<Option<String>, Error> {
        let mut state = self.state();
        let Some(challenge) = state.challenge.clone() else { return Ok(None) };
        let Challenge::Bearer { realm, service, scope: asked, .. } = challenge else {
            let no_credentials =
                || Error::NoCredentials { method: "Get", url: self.base.shown(), registry: self.registry.clone() };
            let basic = credentials.for_registry(&self.registry)?.ok_or_else(no_credentials)?;
            return Ok(Some(basic_header(&basic)));
        };
        let scope = scope(reference);
        if let Some(token) = state.tokens.get(&scope).filter(|token| token.expires > Instant::now()) {
            return Ok(Some(format!("Bearer {}", token.value)));
        }
        let realm = self.realm(&realm, transport)?;
        let basic = credentials.for_registry(&self.registry)?.filter(|_| self.may_have_password(&realm));
        // What the registry asks for may be more than reading, but must be about this repository.
        let own = format!("repository:{}:", reference.repository());
        let asked = asked.filter(|asked| asked.starts_with(&own)).unwrap_or_else(|| scope.clone());
        let answer = request_token(transport, &realm, service.as_deref(), &asked, basic.as_ref())?;
        let token = read_token(answer, transport, reference, basic.is_some())?;
        let header = format!("Bearer {}", token.value);
        state.tokens.insert(scope, token);
        Ok(Some(header))
    }

    fn realm(&self, realm: &str, transport: &Transport) -> Result<Url, Error> {
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
    fn may_have_password(&self, realm: &Url) -> bool {
        realm.is_secure() || self.base.is_loopback() || realm.host().eq_ignore_ascii_case(self.base.host())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves at worst an old token.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to read a repository.
fn scope(reference: &Reference) -> String {
    format!("repository:{}:pull", reference.repository())
}

fn basic_header(basic: &Basic) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", basic.username, basic.password)))
}

fn request_token(
    transport: &Transport,
    realm: &Url,
    service: Option<&str>,
    scope: &str,
    basic: Option<&Basic>,
) -> Result<Answer, Error> {
    let service = service.unwrap_or_default();
    if let Some(identity) = basic.filter(|basic| basic.username == Basic::IDENTITY_TOKEN) {
        let form = [
            ("grant_type", "refresh_token"),
            ("service", service),
            ("client_id", "tare"),
            ("scope", scope),
            ("refresh_token", &identity.password),
        ];
        return transport.post_form(realm, &form);
    }
    let mut url = realm.clone();
    if let Some(basic) = basic {
        url = url.with_query("account", &basic.username);
    }
    url = url.with_query("scope", scope);
    if !service.is_empty() {
        url = url.with_query("service", service);
    }
    transport.get(&url, &[], basic.map(basic_header).as_deref())
}

fn read_token(
    answer: Answer,
    transport: &Transport,
    reference: &Reference,
    with_password: bool,
) -> Result<Token, Error> {
    let (method, url) = (answer.method, answer.url.shown());
    match answer.status() {
        200 => {}
        401 | 403 => {
            let source = answer.message();
            return Err(if with_password {
                let source = source.unwrap_or_else(|| RegistryMessage::new("UNAUTHORIZED", "authentication required"));
                Error::Unauthorized { method, url, source }
            } else {
                access_denied(reference, source)
            });
        }
        _ => return Err(answer.unexpected()),
    }
    let start = Instant::now();
    let bytes = answer.read("token", TOKEN_LIMIT, transport)?;
    let problem = |problem: &str| Error::Protocol { method, url: url.clone(), problem: problem.to_owned() };
    let document: TokenDocument =
        serde_json::from_slice(&bytes).map_err(|_| problem("the token server's answer is no token"))?;
    let value = if document.token.is_empty() { document.access_token } else { document.token };
    if value.is_empty() {
        return Err(problem("the token server's answer holds no token"));
    }
    // A day at most: what a server says must not overflow the clock.
    let lifetime = document.expires_in.unwrap_or(TOKEN_LIFETIME).clamp(TOKEN_LIFETIME, 86_400);
    Ok(Token { value, expires: start + Duration::from_secs(lifetime) - TOKEN_MARGIN })
}

/// What Docker says when a repository is missing or private.
pub(crate) fn access_denied(reference: &Reference, source: Option<RegistryMessage>) -> Error {
    let source = source.unwrap_or_else(|| RegistryMessage::new("DENIED", "requested access to the resource is denied"));
    Error::AccessDenied { name: reference.familiar_name(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>, error: Option<&str>) -> Challenge {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.to_owned(), service: owned(service), scope: owned(scope), error: owned(error) }
    }

    #[test]
    fn challenges_are_read() {
        let realm = "https://a.io/t";
        for (header, challenges) in [
            (
                r#"Bearer realm="https://a.io/t",service="r.io",scope="repository:a/b:pull,push""#,
                vec![bearer(realm, Some("r.io"), Some("repository:a/b:pull,push"), None)],
            ),
            (
                r#"bearer  Realm = "https://a.io/t" , error=insufficient_scope"#,
                vec![bearer(realm, None, None, Some("insufficient_scope"))],
            ),
            (
                r#"Basic realm="x, \"y\"=", Negotiate, Bearer realm="https://a.io/t""#,
                vec![Challenge::Basic, bearer(realm, None, None, None)],
            ),
            (r#"Bearer realm="https://a.io/t"#, vec![bearer(realm, None, None, None)]),
            ("Basic", vec![Challenge::Basic]),
            ("Bearer service=x", vec![]),
            ("Negotiate YWJj==", vec![]),
            ("realm=\"x\"", vec![]),
            ("=,=\"", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(parse_challenges(header), challenges, "{header}");
        }
    }

    /// CVE-2020-15157 and its kin: who may see the password.
    #[test]
    fn passwords_stay_on_trusted_ways() {
        let transport = Transport::new("t".to_owned(), vec!["plain.io".to_owned()], <_>::default(), <_>::default());
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
            fn for_registry(&self, _registry: &str) -> Result<Option<Basic>, Error> {
                Ok(Some(Basic { username: "user".to_owned(), password: "secret".to_owned() }))
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
        let transport = Transport::new("t".to_owned(), vec!["plain.io".to_owned()], <_>::default(), <_>::default());
        let reference = Reference::parse("plain.io/web").unwrap();
        for base in ["http://plain.io/v2/", "http://127.0.0.1:5000/v2/"] {
            let session = Session::new("plain.io", Url::parse(base).unwrap(), Some(bearer(&realm, None, None, None)));
            let header = session.authorization(&reference, &transport, &Password).unwrap();
            assert_eq!(header.as_deref(), Some("Bearer good"));
        }
        let requests = server.join().unwrap();
        let shown: Vec<bool> = requests.iter().map(|request| request.contains("authorization: basic")).collect();
        assert_eq!(shown, [false, true]);
    }
}
