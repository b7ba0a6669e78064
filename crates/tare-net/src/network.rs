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

/// A network as it is recorded in `ROOT/networks/<name>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
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
