//! Which certificates are trusted where, and the connections that go with that.
//!
//! ```text
//! /etc/docker/certs.d/<host[:port]>/   as Docker has it
//!   *.crt                              certificates of authorities, trusted besides the host's own
//!   <name>.cert, <name>.key            who we are to that registry
//! ```

use crate::error::Error;
use crate::resolve::SystemResolver;
use crate::transport::Timeouts;
use crate::url::Url;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsConfigBuilder, parse_pem};
use ureq::unversioned::transport::DefaultConnector;

/// Largest certificate or key file in bytes, and how many files a folder may have.
const FILE_LIMIT: u64 = 1 << 20;
const FILES_LIMIT: usize = 100;
/// Connections kept for the next request, one for each of a push's threads.
const IDLE_CONNECTIONS: usize = 8;

/// How far a server is believed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Trust {
    /// This machine: any certificate, never by a proxy.
    Local,
    /// Any certificate, because the user said so.
    Unverified,
    /// Only certificates that somebody we trust vouches for.
    Verified,
}

pub(crate) struct Agents {
    user_agent: String,
    timeouts: Timeouts,
    /// `/etc/docker/certs.d`
    certificates: PathBuf,
    pub(crate) resolver: SystemResolver,
    pub(crate) roots: OnceLock<Vec<Certificate<'static>>>,
    by_trust: Mutex<HashMap<Trust, Agent>>,
    by_address: Mutex<HashMap<String, Agent>>,
    /// Whether the environment may name a proxy.
    pub(crate) proxy: bool,
}

/// What a folder of certs.d holds.
#[derive(Default)]
struct Folder {
    authorities: Vec<Certificate<'static>>,
    client: Option<ClientCert>,
}

impl Agents {
    pub(crate) fn new(user_agent: String, timeouts: Timeouts, certificates: PathBuf) -> Self {
        Self {
            user_agent,
            timeouts,
            certificates,
            resolver: SystemResolver::default(),
            roots: OnceLock::new(),
            by_trust: Mutex::default(),
            by_address: Mutex::default(),
            proxy: true,
        }
    }

    /// The agent for a server; it shares connections with all requests to that server.
    pub(crate) fn get(&self, url: &Url, trust: Trust) -> Result<Agent, Error> {
        let address = url.address();
        let by_address = || self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = by_address().get(&address) {
            return Ok(agent.clone());
        }
        let agent = match self.folder(url)? {
            Some(folder) => self.build(trust, folder)?,
            None => self.shared(trust)?,
        };
        Ok(by_address().entry(address).or_insert(agent).clone())
    }

    fn shared(&self, trust: Trust) -> Result<Agent, Error> {
        let by_trust = || self.by_trust.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = by_trust().get(&trust) {
            return Ok(agent.clone());
        }
        let agent = self.build(trust, Folder::default())?;
        Ok(by_trust().entry(trust).or_insert(agent).clone())
    }

    fn build(&self, trust: Trust, folder: Folder) -> Result<Agent, Error> {
        let tls = tls().client_cert(folder.client);
        let tls = match trust {
            Trust::Local | Trust::Unverified => tls.disable_verification(true),
            Trust::Verified => {
                // Loaded only when needed: it takes milliseconds, and registries of this machine need none.
                let own = match self.roots.get() {
                    Some(roots) => roots.clone(),
                    None => host_certificates(folder.authorities.is_empty())?,
                };
                let roots = self.roots.get_or_init(|| own);
                let roots: Vec<_> = roots.iter().cloned().chain(folder.authorities).collect();
                tls.root_certs(RootCerts::from(roots))
            }
        };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(&self.user_agent)
            .tls_config(tls.build())
            .max_idle_connections_per_host(IDLE_CONNECTIONS)
            .max_idle_connections(4 * IDLE_CONNECTIONS)
            .timeout_connect(Some(self.timeouts.connect))
            .timeout_recv_response(Some(self.timeouts.read))
            .timeout_per_read(Some(self.timeouts.read))
            .timeout_per_write(Some(self.timeouts.read));
        if trust == Trust::Local || !self.proxy {
            config = config.proxy(None);
        }
        Ok(Agent::with_parts(config.build(), DefaultConnector::new(), self.resolver.clone()))
    }

    /// What is configured for a server: under its host and port, or under its host when the port goes without saying.
    fn folder(&self, url: &Url) -> Result<Option<Folder>, Error> {
        if !url.is_secure() {
            return Ok(None);
        }
        // Hosts of URLs have no slash; `..` is none.
        let names = [Some(url.address()), url.has_default_port().then(|| url.host().to_owned())];
        for name in names.into_iter().flatten() {
            let path = self.certificates.join(name);
            match fs::read_dir(&path) {
                Ok(entries) => return read_folder(&path, entries).map(Some),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(source) => return Err(Error::ConfigRead { path, source }),
            }
        }
        Ok(None)
    }
}

fn read_folder(path: &Path, entries: fs::ReadDir) -> Result<Folder, Error> {
    let read = |source| Error::ConfigRead { path: path.to_owned(), source };
    let mut names = Vec::new();
    for entry in entries.take(FILES_LIMIT) {
        names.push(entry.map_err(read)?.path());
    }
    names.sort();
    let mut folder = Folder::default();
    for name in names {
        match name.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => folder.authorities.extend(certificates(&name)?),
            Some("cert") => {
                let key = name.with_extension("key");
                let invalid = || invalid(&key, "it is no private key in PEM form");
                let key = PrivateKey::from_pem(&bytes(&key)?).map_err(|_| invalid())?;
                folder.client = Some(ClientCert::new_with_certs(&certificates(&name)?, key));
            }
            _ => {}
        }
    }
    Ok(folder)
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let mut found = Vec::new();
    for item in parse_pem(&bytes(path)?) {
        if let PemItem::Certificate(certificate) = item.map_err(|_| invalid(path, "it is damaged"))? {
            found.push(certificate);
        }
    }
    if found.is_empty() { Err(invalid(path, "it has no certificate in PEM form")) } else { Ok(found) }
}

fn bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let read = |source| Error::ConfigRead { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(read)?.take(FILE_LIMIT).read_to_end(&mut bytes).map_err(read)?;
    Ok(bytes)
}

fn invalid(path: &Path, problem: &str) -> Error {
    Error::ConfigInvalid { path: path.to_owned(), problem: problem.to_owned() }
}

fn tls() -> TlsConfigBuilder {
    TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
}

/// The certificates that this host trusts; none at all is a failure if they are `needed`.
fn host_certificates(needed: bool) -> Result<Vec<Certificate<'static>>, Error> {
    let loaded = rustls_native_certs::load_native_certs();
    if loaded.certs.is_empty() && needed {
        let problems: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
        let problems = if problems.is_empty() { "none found".to_owned() } else { problems.join(", ") };
        return Err(Error::Certificates { problems });
    }
    Ok(loaded.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect())
}
