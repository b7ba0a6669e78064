//! Which container has which address: one symbolic link an address, `<address> -> <container id>`.
//!
//! A link is made with its content in one step and fails if the name exists, so processes need no lock, and a
//! crash leaves nothing half written.

use crate::{Error, Result, network::Network};
use std::{
    collections::HashSet,
    fs, io,
    net::Ipv4Addr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};
use tare_spec::ContainerId;

/// The leases of one network, in `RUN_ROOT/net/leases/<network>`.
#[derive(Debug)]
pub(crate) struct Leases(pub(crate) PathBuf);

impl Leases {
    /// Takes the lowest free address.
    pub(crate) fn claim(&self, network: &Network, container: &ContainerId) -> Result<Ipv4Addr> {
        let leased: HashSet<Ipv4Addr> = self.all()?.into_iter().collect();
        for address in network.subnet.hosts().filter(|address| !leased.contains(address)) {
            let path = self.path(address);
            match symlink(container.as_str(), &path) {
                Ok(()) => return Ok(address),
                // Somebody else was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::record("create", path)(error)),
            }
        }
        Err(Error::NoFreeAddress { network: network.name.clone() })
    }

    /// Gives an address back, if it is this container's.
    pub(crate) fn release(&self, address: Ipv4Addr, container: &ContainerId) -> Result<()> {
        let path = self.path(address);
        if !is_held_by(&path, container)? {
            return Ok(());
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::record("remove", path)(error)),
            _ => Ok(()),
        }
    }

    /// Gives back whatever this container has: for a crash between the claim and the record of it.
    pub(crate) fn release_all(&self, container: &ContainerId) -> Result<()> {
        self.all()?.into_iter().try_for_each(|address| self.release(address, container))
    }

    /// All leased addresses, in no order.
    pub(crate) fn all(&self) -> Result<Vec<Ipv4Addr>> {
        let failed = || Error::record("list", &self.0);
        let mut addresses = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            addresses.extend(name.to_str().and_then(|name| name.parse::<Ipv4Addr>().ok()));
        }
        Ok(addresses)
    }

    fn path(&self, address: Ipv4Addr) -> PathBuf {
        self.0.join(address.to_string())
    }
}

fn is_held_by(path: &Path, container: &ContainerId) -> Result<bool> {
    match fs::read_link(path) {
        Ok(target) => Ok(target.as_os_str() == container.as_str()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::record("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{network::FormatVersion, subnet::Subnet};

    fn id(byte: u8) -> ContainerId {
        ContainerId::from_random([byte; 32])
    }

    fn network(prefix_len: u8) -> Network {
        let subnet = Subnet::containing(Ipv4Addr::new(10, 1, 0, 0), prefix_len);
        Network { version: FormatVersion, name: "bridge".into(), interface: "tare0".into(), subnet }
    }

    #[test]
    fn the_lowest_free_address_is_leased() {
        let folder = tempfile::tempdir().unwrap();
        let (leases, network) = (Leases(folder.path().into()), network(29));
        for last in 2..=6 {
            assert_eq!(leases.claim(&network, &id(last)).unwrap(), Ipv4Addr::new(10, 1, 0, last));
        }
        let error = leases.claim(&network, &id(7)).unwrap_err();
        assert_eq!(error.to_string(), "no available IPv4 addresses on this network's address pools: bridge");
        let third = Ipv4Addr::new(10, 1, 0, 3);
        leases.release(third, &id(9)).unwrap();
        assert_eq!(leases.all().unwrap().len(), 5, "another container's lease stays");
        leases.release(third, &id(3)).unwrap();
        leases.release(third, &id(3)).unwrap();
        assert_eq!(leases.claim(&network, &id(9)).unwrap(), third);
        leases.release_all(&id(9)).unwrap();
        assert_eq!(leases.all().unwrap().len(), 4);
    }

    #[test]
    fn many_at_once_get_different_addresses() {
        let folder = tempfile::tempdir().unwrap();
        let mut addresses: Vec<Ipv4Addr> = std::thread::scope(|scope| {
            let claims: Vec<_> = (0..16)
                .map(|n| {
                    let path = folder.path().to_owned();
                    scope.spawn(move || Leases(path).claim(&network(24), &id(n)).unwrap())
                })
                .collect();
            claims.into_iter().map(|claim| claim.join().unwrap()).collect()
        });
        addresses.sort();
        let expected: Vec<Ipv4Addr> = (2..18).map(|last| Ipv4Addr::new(10, 1, 0, last)).collect();
        assert_eq!(addresses, expected);
    }
}
