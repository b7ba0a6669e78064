//! The configuration of registries: mirrors, and who may be insecure (`docs/formats/registries.md`).
//!
//! ```text
//! /etc/tare/registries.json, or $TARE_REGISTRIES
//!   { "registry-mirrors": [URL, …], "mirrors": { "<registry>": [URL, …] }, "insecure-registries": [host | host:port | network, …] }
//! ```
//!
//! Written by people, never by us.

use crate::error::Error;
use crate::url::Url;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use tare_spec::Reference;
use tare_spec::reference::DEFAULT_REGISTRY;

const HOST_FILE: &str = "/etc/tare/registries.json";
const FILE_VARIABLE: &str = "TARE_REGISTRIES";
/// Largest configuration file in bytes.
const FILE_LIMIT: u64 = 1 << 20;

/// Mirrors, and registries that may be insecure.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    mirrors: BTreeMap<String, Vec<Mirror>>,
    pub(crate) insecure: Insecure,
}

/// A registry that has what another one has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    /// `https://host:port/v2/`
    pub(crate) base: Url,
    /// What comes before the repository: `""` or `hub/`.
    pub(crate) prefix: String,
}

/// Registries that may use plain HTTP, or certificates that nobody vouches for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Insecure {
    hosts: Vec<(String, Option<u16>)>,
    /// Addresses and the number of bits that count.
    networks: Vec<(IpAddr, u32)>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Document {
    registry_mirrors: Vec<String>,
    mirrors: BTreeMap<String, Vec<String>>,
    insecure_registries: Vec<String>,
}

impl Registries {
    /// The configuration of this host: the file that `TARE_REGISTRIES` names, or else `/etc/tare/registries.json`,
    /// which need not exist.
    ///
    /// # Errors
    /// [`Error::ConfigRead`], [`Error::ConfigParse`] and [`Error::ConfigInvalid`].
    pub fn of_host() -> Result<Self, Error> {
        match std::env::var_os(FILE_VARIABLE).filter(|value| !value.is_empty()) {
            Some(path) => Self::read(&PathBuf::from(path)),
            None => match Self::read(Path::new(HOST_FILE)) {
                Err(Error::ConfigRead { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    Ok(Self::default())
                }
                result => result,
            },
        }
    }

    /// The configuration in a file.
    ///
    /// # Errors
    /// [`Error::ConfigRead`], [`Error::ConfigParse`] and [`Error::ConfigInvalid`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let read = |source| Error::ConfigRead { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        File::open(path).map_err(read)?.take(FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(read)?;
        if bytes.len() as u64 > FILE_LIMIT {
            return Err(read(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {FILE_LIMIT} bytes"))));
        }
        let document: Document =
            serde_json::from_slice(&bytes).map_err(|source| Error::ConfigParse { path: path.to_owned(), source })?;
        Self::of(document).map_err(|problem| Error::ConfigInvalid { path: path.to_owned(), problem })
    }

    fn of(document: Document) -> Result<Self, String> {
        let mut registries = Self::default();
        let default = [(DEFAULT_REGISTRY.to_owned(), document.registry_mirrors)];
        for (registry, urls) in default.into_iter().chain(document.mirrors) {
            let known = Reference::parse(&format!("{registry}/x")).is_ok_and(|name| name.registry() == registry);
            if !known {
                return Err(format!("mirrors of {registry:?}: expected the name of a registry, such as ghcr.io"));
            }
            let mirrors = registries.mirrors.entry(registry).or_default();
            for url in urls {
                mirrors.push(Mirror::parse(&url)?);
            }
        }
        for entry in &document.insecure_registries {
            registries.insecure.add(entry)?;
        }
        Ok(registries)
    }

    /// Lets these registries (`host`, `host:port` or a network as `10.0.0.0/8`) be insecure, too.
    ///
    /// # Errors
    /// [`Error::InvalidRegistry`].
    pub fn with_insecure(mut self, entries: &[&str]) -> Result<Self, Error> {
        for entry in entries {
            self.insecure.add(entry).map_err(|_| Error::InvalidRegistry { registry: (*entry).to_owned() })?;
        }
        Ok(self)
    }

    pub(crate) fn mirrors(&self, registry: &str) -> &[Mirror] {
        self.mirrors.get(registry).map_or(&[], Vec::as_slice)
    }
}

impl Mirror {
    /// `https://host:port` or `https://host/prefix`.
    fn parse(text: &str) -> Result<Self, String> {
        let invalid = |why: &str| format!("mirror {text:?}: {why}");
        let Some(url) = Url::parse(text) else {
            return Err(invalid("expected a URL as https://host:port or https://host/prefix"));
        };
        if text.contains(['?', '#']) {
            return Err(invalid("a query or a fragment has no meaning here"));
        }
        let prefix = url.uri().path().trim_matches('/');
        if !prefix.is_empty() && Reference::parse(&format!("h.io/{prefix}/x")).is_err() {
            return Err(invalid("its path is no repository's"));
        }
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { base: url.join("/v2/").expect("a path keeps a URL valid"), prefix })
    }
}

impl Insecure {
    fn add(&mut self, entry: &str) -> Result<(), String> {
        let invalid = || format!("insecure registry {entry:?}: expected a host, host:port or a network");
        // Docker takes URLs, too.
        let entry = entry.split_once("://").map_or(entry, |(_, rest)| rest);
        if let Some((address, bits)) = entry.split_once('/') {
            let address: IpAddr = address.parse().map_err(|_| invalid())?;
            let bits: u32 = bits.parse().map_err(|_| invalid())?;
            if bits > if address.is_ipv4() { 32 } else { 128 } {
                return Err(invalid());
            }
            self.networks.push((address, bits));
            return Ok(());
        }
        let unbracketed = |host: &str| host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let bare_v6 = entry.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6());
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if !bare_v6 && !port.ends_with(']') => {
                (host, Some(port.parse().map_err(|_| invalid())?))
            }
            _ => (entry, None),
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '@') {
            return Err(invalid());
        }
        self.hosts.push((unbracketed(host), port));
        Ok(())
    }

    /// Whether a host (addresses without brackets) at a port is one of these. Networks hold addresses only, not the
    /// names that lead to them: whoever answers for a name could else take its encryption away.
    pub(crate) fn contains(&self, host: &str, port: u16) -> bool {
        let named =
            |(name, at): &(String, Option<u16>)| name.eq_ignore_ascii_case(host) && at.is_none_or(|at| at == port);
        self.hosts.iter().any(named)
            || host
                .parse()
                .is_ok_and(|address| self.networks.iter().any(|&(network, bits)| is_in_network(address, network, bits)))
    }
}

fn is_in_network(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (address.to_canonical(), network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => (address.to_bits() ^ network.to_bits()).leading_zeros() >= bits,
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits() ^ network.to_bits()).leading_zeros() >= bits,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Registries, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registries.json");
        std::fs::write(&path, json).unwrap();
        Registries::read(&path)
    }

    #[test]
    fn mirrors_are_of_docker_hub_or_of_any_registry() {
        let registries = parse(
            r#"{"registry-mirrors":["https://m.io","http://10.0.0.1:5000/"],
            "mirrors":{"docker.io":["https://last.io"],"ghcr.io":["https://m.io/cache/ghcr"],"127.0.0.1:5000":[]}}"#,
        )
        .unwrap();
        let shown = |registry| -> Vec<String> {
            registries.mirrors(registry).iter().map(|mirror| format!("{} {}", mirror.base, mirror.prefix)).collect()
        };
        assert_eq!(shown("docker.io"), ["https://m.io/v2/ ", "http://10.0.0.1:5000/v2/ ", "https://last.io/v2/ "]);
        assert_eq!(shown("ghcr.io"), ["https://m.io/v2/ cache/ghcr/"]);
        assert_eq!(shown("quay.io"), [""; 0]);
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        for json in [
            r#"{"registry-mirrors":["m.io"]}"#,
            r#"{"registry-mirrors":["ftp://m.io"]}"#,
            r#"{"registry-mirrors":["https://user:secret@m.io"]}"#,
            r#"{"registry-mirrors":["https://m.io/?x=1"]}"#,
            r#"{"registry-mirrors":["https://m.io/UPPER"]}"#,
            r#"{"mirrors":{"library/nginx":["https://m.io"]}}"#,
            r#"{"mirrors":{"https://ghcr.io":["https://m.io"]}}"#,
            r#"{"insecure-registries":["10.0.0.0/33"]}"#,
            r#"{"insecure-registries":["a b"]}"#,
            r#"{"insecure-registries":[":5000"]}"#,
            r#"{"insecure-registries":["h.io:port"]}"#,
        ] {
            assert!(matches!(parse(json), Err(Error::ConfigInvalid { .. })), "{json}");
        }
        assert!(matches!(parse(r#"{"registry-miror":[]}"#), Err(Error::ConfigParse { .. })));
        assert!(matches!(Registries::read(Path::new("/nonexistent")), Err(Error::ConfigRead { .. })));
    }

    #[test]
    fn insecure_are_hosts_ports_and_networks() {
        let entries = ["h.io", "p.io:5000", "http://u.io:80", "10.1.0.0/16", "fd00::/8", "[fe80::1]:5000", "::2"];
        let insecure = Registries::default().with_insecure(&entries).unwrap().insecure;
        for (host, port) in [
            ("H.io", 443),
            ("h.io", 1),
            ("p.io", 5000),
            ("u.io", 80),
            ("10.1.255.1", 443),
            ("::ffff:10.1.0.1", 443),
            ("fd12::1", 443),
            ("fe80::1", 5000),
            ("::2", 1),
        ] {
            assert!(insecure.contains(host, port), "{host} {port}");
        }
        for (host, port) in [
            ("x.h.io", 443),
            ("p.io", 443),
            ("10.2.0.1", 443),
            ("fe80::1", 1),
            ("10.1.0.1.evil.io", 443),
            ("fe00::1", 1),
        ] {
            assert!(!insecure.contains(host, port), "{host} {port}");
        }
    }
}
