//! Credentials from Docker's configuration file, which `docker login` and its like write.
//!
//! ```text
//! $DOCKER_CONFIG/config.json or ~/.docker/config.json
//!   { "auths": { "<registry>": { "auth": base64(user:password), "identitytoken": … } },
//!     "credHelpers": { "<registry>": "<helper>" }, "credsStore": "<helper>" }
//! ```
//!
//! Read on every question, so that a login during a long run counts. Never written here.

use crate::{Credential, Credentials, Error};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use std::{collections::BTreeMap, fs::File, io, io::Read, path::PathBuf};
use tare_spec::reference::DEFAULT_REGISTRY;

/// The key of the default registry's entry, for historical reasons a URL.
const DEFAULT_REGISTRY_KEY: &str = "https://index.docker.io/v1/";
/// Largest configuration file in bytes.
const FILE_LIMIT: u64 = 1 << 20;

/// Credentials from one configuration file.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    path: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ConfigFile {
    auths: BTreeMap<String, Auth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

impl DockerConfig {
    /// Uses this file. It need not exist.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Uses the caller's own file: in `$DOCKER_CONFIG`, or else in `~/.docker`.
    #[must_use]
    pub fn of_user() -> Option<Self> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")))?;
        Some(Self::new(folder.join("config.json")))
    }

    fn read(&self) -> Result<ConfigFile, Error> {
        let read = |source| Error::ConfigRead { path: self.path.clone(), source };
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(ConfigFile::default());
            }
            Err(error) => return Err(read(error)),
        };
        let mut bytes = Vec::new();
        file.take(FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(read)?;
        if bytes.len() as u64 > FILE_LIMIT {
            return Err(read(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {FILE_LIMIT} bytes"))));
        }
        serde_json::from_slice(&bytes).map_err(|source| Error::ConfigParse { path: self.path.clone(), source })
    }

    fn basic(&self, registry: &str, auth: &Auth) -> Result<Option<Credential>, Error> {
        if !auth.identitytoken.is_empty() {
            return Ok(Some(Credential::IdentityToken(auth.identitytoken.clone())));
        }
        if auth.auth.is_empty() {
            let (username, password) = (auth.username.clone(), auth.password.clone());
            return Ok((!username.is_empty()).then_some(Credential::Password { username, password }));
        }
        let decoded = BASE64_STANDARD.decode(&auth.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match decoded.as_deref().and_then(|text| text.split_once(':')) {
            // Docker cuts trailing zero bytes off, which old clients wrote.
            Some((username, password)) if !username.is_empty() => Ok(Some(Credential::Password {
                username: username.to_owned(),
                password: password.trim_end_matches('\0').to_owned(),
            })),
            _ => Err(Error::ConfigAuth { path: self.path.clone(), registry: registry.to_owned() }),
        }
    }
}

impl Credentials for DockerConfig {
    fn for_registry(&self, registry: &str) -> Result<Option<Credential>, Error> {
        let config = self.read()?;
        let helper_error = |helper: &str| Error::CredentialHelper {
            helper: helper.to_owned(),
            action: "get",
            problem: "credential helpers are not supported".to_owned(),
        };
        let is_this = |key: &str| key_host(key) == key_host(registry);
        if let Some((_, helper)) = config.cred_helpers.iter().find(|(key, _)| is_this(key)) {
            return Err(helper_error(helper));
        }
        // The exact key wins over one that only names the same host.
        let exact = if registry == DEFAULT_REGISTRY { DEFAULT_REGISTRY_KEY } else { registry };
        let auth = config.auths.get(exact);
        let auth = auth.or_else(|| config.auths.iter().find(|(key, _)| is_this(key)).map(|(_, auth)| auth));
        let Some(auth) = auth else { return Ok(None) };
        match self.basic(registry, auth)? {
            // An empty entry marks a login whose secret the store holds.
            None if !config.creds_store.is_empty() => Err(helper_error(&config.creds_store)),
            basic => Ok(basic),
        }
    }
}

/// The host and port of a key, which may be a URL: `https://host/v1/`.
fn key_host(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    match rest.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(json: &str, registry: &str) -> Result<Option<Credential>, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, json).unwrap();
        DockerConfig::new(path).for_registry(registry)
    }

    #[test]
    fn entries_are_found_by_host() {
        // user:pa:ss, and u:p with a trailing zero byte
        let json = r#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"dXNlcjpwYTpzcw=="},
            "127.0.0.1:5000":{"auth":"dTpwAA=="},
            "https://h.io/v2/":{"username":"a","password":"b"},
            "t.io":{"identitytoken":"secret"},
            "empty.io":{}}}"#;
        for (registry, expected) in [
            ("docker.io", Some(password("user", "pa:ss"))),
            ("127.0.0.1:5000", Some(password("u", "p"))),
            ("h.io", Some(password("a", "b"))),
            ("t.io", Some(Credential::IdentityToken("secret".to_owned()))),
            ("empty.io", None),
            ("127.0.0.1:5001", None),
            ("127.0.0.1", None),
            ("evil-h.io", None),
        ] {
            assert_eq!(ask(json, registry).unwrap(), expected, "{registry}");
        }
    }

    fn password(username: &str, password: &str) -> Credential {
        Credential::Password { username: username.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn a_helper_is_named_instead_of_ignored() {
        let json =
            r#"{"auths":{"a.io":{},"b.io":{"auth":"dTpw"}},"credHelpers":{"g.io":"gcloud"},"credsStore":"pass"}"#;
        for (registry, helper) in [("g.io", "docker-credential-gcloud"), ("a.io", "docker-credential-pass")] {
            let error = ask(json, registry).unwrap_err();
            assert!(error.to_string().contains(helper), "{error}");
        }
        assert!(ask(json, "b.io").unwrap().is_some());
        assert!(ask(json, "never-logged-in.io").unwrap().is_none());
    }

    #[test]
    fn a_damaged_file_is_an_error_and_shows_no_secret() {
        assert!(matches!(ask("{", "a.io"), Err(Error::ConfigParse { .. })));
        for auth in ["c2VjcmV0", "!secret!", "OnNlY3JldA=="] {
            let error = ask(&format!(r#"{{"auths":{{"a.io":{{"auth":"{auth}"}}}}}}"#), "a.io").unwrap_err();
            assert!(matches!(error, Error::ConfigAuth { .. }));
            assert!(!error.to_string().contains("secret") && !error.to_string().contains(auth));
        }
        let basic = password("u", "secret");
        assert!(!format!("{basic:?}").contains("secret"));
        let missing = DockerConfig::new(PathBuf::from("/nonexistent/config.json"));
        assert_eq!(missing.for_registry("a.io").unwrap(), None);
    }
}
