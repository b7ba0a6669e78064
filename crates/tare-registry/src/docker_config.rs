//! Credentials in Docker's configuration file, which `docker login` and its like write, and so do we.
//!
//! ```text
//! $DOCKER_CONFIG/config.json or ~/.docker/config.json     0600
//!   { "auths": { "<registry>": { "auth": base64(user:password) | "identitytoken": … | "registrytoken": … } },
//!     "credHelpers": { "<registry>": "<helper>" }, "credsStore": "<helper>", … }
//! ```
//!
//! Read on every question, so that a login during a long run counts. A change is written to a temporary file in the
//! same folder, synced and renamed, under a lock of the folder that our own processes respect (Docker takes none).
//! All that we do not know is kept. A crash leaves the old file or the new one, and at worst a temporary file.

use crate::credential_helper::CredentialHelper;
use crate::{Credential, Credentials, Error};
use base64::{Engine, prelude::BASE64_STANDARD};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use tare_spec::reference::DEFAULT_REGISTRY;

/// The key of the default registry's entry, for historical reasons a URL.
const DEFAULT_REGISTRY_KEY: &str = "https://index.docker.io/v1/";
/// Largest configuration file in bytes.
const FILE_LIMIT: u64 = 1 << 20;
/// What an entry of `auths` may hold of secrets.
const SECRETS: [&str; 5] = ["auth", "username", "password", "identitytoken", "registrytoken"];

/// Credentials from one configuration file, and from the programs that it names.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    path: PathBuf,
    programs: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ConfigFile {
    auths: Option<BTreeMap<String, Auth>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl DockerConfig {
    /// Uses this file. It need not exist.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, programs: None }
    }

    /// Uses the caller's own file: in `$DOCKER_CONFIG`, or else in `~/.docker`.
    #[must_use]
    pub fn of_user() -> Option<Self> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")))?;
        Some(Self::new(folder.join("config.json")))
    }

    /// Looks for credential helpers in this folder rather than in `$PATH`.
    #[must_use]
    pub fn with_programs(self, folder: PathBuf) -> Self {
        Self { programs: Some(folder), ..self }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps credentials for a registry in place of what was kept: with the helper that the file names for it, else in
    /// the file. Gives the helper's name, if there is one: without, a password is in a file that is not encrypted.
    ///
    /// # Errors
    /// A file that cannot be read, understood or written, or a helper that fails.
    pub fn store(&self, registry: &str, credential: &Credential) -> Result<Option<String>, Error> {
        let (key, config) = (key_of(registry), self.read()?);
        let helper = self.helper(&config, registry)?;
        if let Some((helper, _)) = &helper {
            helper.store(key, credential)?;
        }
        self.update(|file| {
            let auths = object(file, "auths")?;
            let entry = object(auths, key)?;
            SECRETS.iter().for_each(|name| drop(entry.remove(*name)));
            let (name, value) = match credential {
                _ if helper.is_some() => return Some(true),
                Credential::Password { username, password } => {
                    ("auth", BASE64_STANDARD.encode(format!("{username}:{password}")))
                }
                Credential::IdentityToken(token) => ("identitytoken", token.clone()),
                Credential::RegistryToken(token) => ("registrytoken", token.clone()),
            };
            entry.insert(name.to_owned(), value.into());
            Some(true)
        })?;
        Ok(helper.map(|(helper, _)| helper.name().to_owned()))
    }

    /// Forgets the credentials for a registry, in the file and with the helper; whether there were any.
    ///
    /// # Errors
    /// As [`Self::store`]. The file's entry is gone also if the helper fails.
    pub fn erase(&self, registry: &str) -> Result<bool, Error> {
        let config = self.read()?;
        let helper = self.helper(&config, registry)?;
        let in_file = self.update(|file| {
            let Some(auths) = file.get_mut("auths").and_then(Value::as_object_mut) else { return Some(false) };
            let before = auths.len();
            auths.retain(|key, _| key_host(key) != key_host(registry));
            Some(auths.len() != before)
        })?;
        let with_helper = match helper {
            Some((helper, _)) => helper.erase(key_of(registry))?,
            None => false,
        };
        Ok(in_file || with_helper)
    }

    /// The registries that credentials are kept for, by their names in references, with the user name where it is known.
    ///
    /// # Errors
    /// A file that cannot be read or understood, or a helper that fails.
    pub fn list(&self) -> Result<BTreeMap<String, Option<String>>, Error> {
        let config = self.read()?;
        let mut found = BTreeMap::new();
        for (key, auth) in config.auths.iter().flatten() {
            let username = self.credential(key, auth)?.and_then(|credential| credential.username().map(str::to_owned));
            found.insert(key_host(key).to_owned(), username);
        }
        if !config.creds_store.is_empty() {
            for (key, username) in CredentialHelper::new(&config.creds_store, self.programs.clone())?.list()? {
                found.insert(key_host(&key).to_owned(), Some(username));
            }
        }
        for (key, _) in config.cred_helpers.iter().flatten() {
            found.entry(key_host(key).to_owned()).or_insert(None);
        }
        Ok(found)
    }

    fn bytes(&self) -> Result<Option<Vec<u8>>, Error> {
        let read = |source| Error::ConfigRead { path: self.path.clone(), source };
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(read(error)),
        };
        let mut bytes = Vec::new();
        file.take(FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(read)?;
        if bytes.len() as u64 > FILE_LIMIT {
            return Err(read(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {FILE_LIMIT} bytes"))));
        }
        // Docker takes an empty file for none.
        Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    fn parse<T: for<'de> Deserialize<'de> + Default>(&self, bytes: Option<&[u8]>) -> Result<T, Error> {
        let parse = |source| Error::ConfigParse { path: self.path.clone(), source };
        bytes.map_or_else(|| Ok(T::default()), |bytes| serde_json::from_slice(bytes).map_err(parse))
    }

    fn read(&self) -> Result<ConfigFile, Error> {
        self.parse(self.bytes()?.as_deref())
    }

    /// The program that keeps a registry's credentials, and whether it was named for this registry.
    fn helper(&self, config: &ConfigFile, registry: &str) -> Result<Option<(CredentialHelper, bool)>, Error> {
        let mut helped = config.cred_helpers.iter().flatten();
        let own = helped.find(|(key, _)| key_host(key) == key_host(registry)).map(|(_, name)| name);
        let Some(name) = own.or(Some(&config.creds_store)).filter(|name| !name.is_empty()) else { return Ok(None) };
        Ok(Some((CredentialHelper::new(name, self.programs.clone())?, own.is_some())))
    }

    /// What an entry of the file holds.
    fn credential(&self, registry: &str, auth: &Auth) -> Result<Option<Credential>, Error> {
        if !auth.identitytoken.is_empty() {
            return Ok(Some(Credential::IdentityToken(auth.identitytoken.clone())));
        }
        if !auth.registrytoken.is_empty() {
            return Ok(Some(Credential::RegistryToken(auth.registrytoken.clone())));
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

    /// Changes the file if `change` says that it did; `None` is what cannot be changed.
    fn update(&self, change: impl FnOnce(&mut Map<String, Value>) -> Option<bool>) -> Result<bool, Error> {
        let write = |source| Error::ConfigWrite { path: self.path.clone(), source };
        // The file may be a link into a folder of such files, and must stay one.
        let path = resolve(&self.path);
        let folder = path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(write)?;
        let folder_file = File::open(folder).map_err(write)?;
        flock(&folder_file, FlockOperation::LockExclusive).map_err(|error| write(error.into()))?;
        let mut file: Map<String, Value> = self.parse(self.bytes()?.as_deref())?;
        let shape = || Error::ConfigInvalid {
            path: self.path.clone(),
            problem: "auths and its entries are not objects".to_owned(),
        };
        if !change(&mut file).ok_or_else(shape)? {
            return Ok(false);
        }
        let mut bytes = Vec::new();
        let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        file.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, format)).expect("JSON stays JSON");
        bytes.push(b'\n');
        let temporary = folder.join(format!(".config.json.{}", std::process::id()));
        let replaced = replace(&path, &temporary, &bytes).and_then(|()| folder_file.sync_all());
        if replaced.is_err() {
            // The failure is what counts; a file that was never made cannot be removed.
            drop(fs::remove_file(&temporary));
        }
        replaced.map_err(write).map(|()| true)
    }
}

/// The file that a path means in the end, also where that does not exist yet.
fn resolve(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    // As many links as the kernel follows (path_resolution(7)).
    for _ in 0..40 {
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    if path.parent().is_some_and(|folder| folder.as_os_str().is_empty()) { Path::new(".").join(path) } else { path }
}

fn replace(path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    // Left by a process of this number that was killed; the lock says that it is nobody's now.
    drop(fs::remove_file(temporary));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(bytes)?;
    if let Ok(old) = fs::metadata(path) {
        // root may log in for another user, whose file it stays; where that is not allowed, it was ours anyway.
        drop(fchown(&file, Some(old.uid()), Some(old.gid())));
    }
    file.sync_all()?;
    fs::rename(temporary, path)
}

/// The object below a key, made where there is none.
fn object<'a>(parent: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    let value = parent.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}

impl Credentials for DockerConfig {
    fn for_registry(&self, registry: &str) -> Result<Option<Credential>, Error> {
        let config = self.read()?;
        let auths = config.auths.iter().flatten();
        // The exact key wins over one that only names the same host.
        let mut same: Vec<_> = auths.filter(|(key, _)| key_host(key) == key_host(registry)).collect();
        same.sort_by_key(|(key, _)| *key != key_of(registry));
        let in_file = match same.first() {
            Some((key, auth)) => self.credential(key, auth)?,
            None => None,
        };
        if let Some((helper, own)) = self.helper(&config, registry)? {
            match helper.get(key_of(registry)) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(Some(error)) => return Err(error),
                // An empty entry marks a login whose secret the helper has. Where there was no login, its absence is
                // no reason to fail: what is public can be had.
                Err(None) if own || !same.is_empty() && in_file.is_none() => return Err(helper.missing("get")),
                Err(None) => {}
            }
        }
        Ok(in_file)
    }
}

/// A registry's key in the file.
fn key_of(registry: &str) -> &str {
    if registry == DEFAULT_REGISTRY { DEFAULT_REGISTRY_KEY } else { registry }
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
        DockerConfig::new(path).with_programs(folder.path().to_owned()).for_registry(registry)
    }

    #[test]
    fn entries_are_found_by_host() {
        // user:pa:ss, and u:p with a trailing zero byte
        let json = r#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"dXNlcjpwYTpzcw=="},
            "127.0.0.1:5000":{"auth":"dTpwAA=="},
            "https://h.io/v2/":{"username":"a","password":"b"},
            "t.io":{"identitytoken":"secret"},
            "token.io":{"registrytoken":"secret"},
            "empty.io":{}}}"#;
        for (registry, expected) in [
            ("docker.io", Some(password("user", "pa:ss"))),
            ("127.0.0.1:5000", Some(password("u", "p"))),
            ("h.io", Some(password("a", "b"))),
            ("t.io", Some(Credential::IdentityToken("secret".to_owned()))),
            ("token.io", Some(Credential::RegistryToken("secret".to_owned()))),
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

    /// A helper that keeps what it is told in the folder, and a configuration that names it.
    fn with_helper(json: &str) -> (tempfile::TempDir, DockerConfig) {
        let folder = tempfile::tempdir().unwrap();
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/credential-helpers/docker-credential-test");
        std::os::unix::fs::symlink(program, folder.path().join("docker-credential-test")).unwrap();
        fs::write(folder.path().join("config.json"), json).unwrap();
        let config = DockerConfig::new(folder.path().join("config.json")).with_programs(folder.path().to_owned());
        (folder, config)
    }

    #[test]
    fn helpers_keep_what_the_file_must_not() {
        for json in [r#"{"credsStore":"test"}"#, r#"{"credHelpers":{"r.io":"test"},"credsStore":"other"}"#] {
            let (folder, config) = with_helper(json);
            assert_eq!(config.for_registry("r.io").unwrap(), None);
            for credential in [password("me", "secret"), Credential::IdentityToken("secret".to_owned())] {
                assert_eq!(config.store("r.io", &credential).unwrap().as_deref(), Some("test"));
                assert_eq!(config.for_registry("r.io").unwrap(), Some(credential));
                let file = fs::read_to_string(config.path()).unwrap();
                assert!(file.contains("r.io") && !file.contains("secret"), "{file}");
            }
            assert!(config.erase("r.io").unwrap());
            assert!(!config.erase("r.io").unwrap());
            assert!(!folder.path().join("kept").exists());
        }
        let (_folder, config) = with_helper(r#"{"credsStore":"test","auths":{"f.io":{"auth":"dTpw"},"e.io":{}}}"#);
        assert_eq!(config.for_registry("f.io").unwrap(), Some(password("u", "p")), "of before the helper");
        let listed: Vec<_> = config.list().unwrap().into_iter().collect();
        let user = |name: &str| Some(name.to_owned());
        assert_eq!(
            listed,
            [("docker.io".to_owned(), user("hub")), ("e.io".to_owned(), None), ("f.io".to_owned(), user("u"))]
        );
    }

    #[test]
    fn a_helper_that_is_missing_matters_where_there_was_a_login() {
        let json =
            r#"{"auths":{"a.io":{},"b.io":{"auth":"dTpw"}},"credHelpers":{"g.io":"none"},"credsStore":"nowhere"}"#;
        for (registry, helper) in [("g.io", "docker-credential-none"), ("a.io", "docker-credential-nowhere")] {
            let error = ask(json, registry).unwrap_err();
            assert!(error.to_string().contains(helper), "{error}");
        }
        assert!(ask(json, "b.io").unwrap().is_some());
        assert!(ask(json, "never-logged-in.io").unwrap().is_none());
        assert!(ask(r#"{"credsStore":"../evil"}"#, "a.io").is_err());
    }

    #[test]
    fn a_login_keeps_what_others_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let (link, real) = (folder.path().join("home/config.json"), folder.path().join("dotfiles/docker.json"));
        fs::create_dir(folder.path().join("home")).unwrap();
        std::os::unix::fs::symlink("../dotfiles/docker.json", &link).unwrap();
        let config = DockerConfig::new(link.clone());
        let mode = || fs::metadata(&real).unwrap().mode() & 0o777;
        config.store("docker.io", &password("me", "pa:ss")).unwrap();
        assert_eq!(mode(), 0o600, "made where a link without target leads");
        let json = r#"{"psFormat":"table","auths":{"https://index.docker.io/v1/":{"email":"x","auth":"bWU6cGE6c3M="},
            "https://r.io/v1/":{"auth":"dTpw"}},"HttpHeaders":{"A":"b"},"big":12345678901234567890}"#;
        fs::write(&real, json).unwrap();
        fs::set_permissions(&real, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!(config.for_registry("docker.io").unwrap(), Some(password("me", "pa:ss")));
        assert_eq!(config.store("docker.io", &Credential::IdentityToken("t".to_owned())).unwrap(), None);
        assert_eq!(config.store("new.io:5000", &password("a", "b")).unwrap(), None);
        assert!(config.erase("r.io").unwrap());
        assert!(!config.erase("r.io").unwrap());
        let mut expected: Value = serde_json::from_str(json).unwrap();
        expected["auths"] = serde_json::json!({
            "https://index.docker.io/v1/": {"email": "x", "identitytoken": "t"}, "new.io:5000": {"auth": "YTpi"}});
        let file: Value = serde_json::from_slice(&fs::read(&real).unwrap()).unwrap();
        assert_eq!(file, expected);
        assert_eq!(mode(), 0o600);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(folder.path().join("dotfiles")).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_file_that_is_not_understood_is_not_touched() {
        for json in ["{", "[]", r#"{"auths":[]}"#, r#"{"auths":{"a.io":"x"}}"#] {
            let folder = tempfile::tempdir().unwrap();
            let config = DockerConfig::new(folder.path().join("config.json"));
            fs::write(config.path(), json).unwrap();
            assert!(config.store("a.io", &password("u", "p")).is_err(), "{json}");
            assert_eq!(fs::read_to_string(config.path()).unwrap(), json);
        }
    }

    #[test]
    fn logins_at_once_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let config = DockerConfig::new(folder.path().join("new/config.json"));
        std::thread::scope(|scope| {
            for number in 0..8 {
                let config = &config;
                scope.spawn(move || config.store(&format!("r{number}.io"), &password("u", "p")).unwrap());
            }
        });
        assert_eq!(config.list().unwrap().len(), 8);
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
