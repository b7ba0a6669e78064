//! What a network is: a name, a bridge, a subnet.

use crate::{Error, Result, subnet::Subnet};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// The name of the network every container gets that asks for no other.
pub const DEFAULT_NETWORK: &str = "bridge";

/// The version of the record formats, 1. A record of another version is refused, not guessed at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub(crate) struct FormatVersion;

impl From<FormatVersion> for u32 {
    fn from(FormatVersion: FormatVersion) -> Self {
        1
    }
}

impl TryFrom<u32> for FormatVersion {
    type Error = String;

    fn try_from(version: u32) -> std::result::Result<Self, String> {
        if version == 1 { Ok(Self) } else { Err(format!("format version {version}, expected 1")) }
    }
}

/// A network as it is recorded in `ROOT/networks/<name>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub(crate) version: FormatVersion,
    /// The network's name.
    pub name: String,
    /// The bridge's interface name on the host.
    pub interface: String,
    /// The addresses of its containers.
    pub subnet: Subnet,
}

impl Network {
    /// The bridge's address, the containers' default route.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        self.subnet.gateway()
    }

    /// The recorded network; none if it was never used.
    pub(crate) fn load(path: &Path) -> Result<Option<Self>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::record("read", path)(source)),
        };
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Some).map_err(|source| Error::CorruptRecord { path: path.to_owned(), source })
    }

    /// Records the network durably. Callers hold the namespace's lock, so the temporary name is theirs.
    pub(crate) fn store(&self, path: &Path) -> Result<()> {
        let temporary = path.with_extension("json.tmp");
        let write = || {
            let json = serde_json::to_vec_pretty(self)?;
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(&json)?;
            file.sync_all()?;
            fs::rename(&temporary, path)?;
            path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        };
        write().map_err(Error::record("write", path))
    }
}

/// A locally administered MAC address (IEEE 802, second bit of the first byte) made of the IPv4 address, as
/// Docker made them: whoever gets the address next has the MAC that neighbours remember.
pub(crate) fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_recorded_and_a_foreign_record_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bridge.json");
        assert_eq!(Network::load(&path).unwrap(), None);
        let subnet = Subnet::containing(Ipv4Addr::new(172, 17, 0, 0), 16);
        let network = Network { version: FormatVersion, name: "bridge".into(), interface: "tare0".into(), subnet };
        network.store(&path).unwrap();
        assert_eq!(Network::load(&path).unwrap(), Some(network));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
        let json = fs::read_to_string(&path).unwrap();
        for (from, to, reason) in [
            ("\"version\": 1", "\"version\": 2", "format version 2, expected 1"),
            ("172.17.0.0/16", "172.17.0.0/99", "invalid subnet"),
            ("{", "", "expected"),
        ] {
            fs::write(&path, json.replacen(from, to, 1)).unwrap();
            let error = Network::load(&path).unwrap_err();
            let Error::CorruptRecord { source, .. } = error else { panic!("{error}") };
            assert!(source.to_string().contains(reason), "{source}");
        }
    }
}
