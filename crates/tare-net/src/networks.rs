//! Attaching containers to the default network, and taking them off it.

use crate::{
    Error, Result, firewall,
    lease::Leases,
    link::{self, Link, Namespace, Pair},
    network::{DEFAULT_NETWORK, FormatVersion, Network, mac_of},
    port::{self, PublishedPort},
    record::{Record, Records},
    subnet,
};
use rustix::{
    fs::{FlockOperation, flock},
    rand::{GetRandomFlags, getrandom},
};
use std::{
    fs::{self, DirBuilder, File},
    io,
    net::Ipv4Addr,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tare_spec::{ContainerId, PortMapping, Protocol};
use tare_sys::{netlink::Socket, network_namespace};

/// The root whose bridge and table have the plain names.
const DEFAULT_ROOT: &str = "/var/lib/tare";

/// A container that is to get an interface.
#[derive(Clone, Copy, Debug)]
pub struct Attach<'a> {
    /// Who it is.
    pub container: &'a ContainerId,
    /// Its network namespace, which has no `eth0` yet.
    pub netns: BorrowedFd<'a>,
    /// The ports it publishes.
    pub ports: &'a [PortMapping],
}

/// What a container got.
#[derive(Debug)]
pub struct Attached {
    /// The network's name.
    pub network: String,
    /// The address of `eth0`.
    pub address: Ipv4Addr,
    /// How many bits of it name the network.
    pub prefix_len: u8,
    /// The bridge's address, where the default route leads.
    pub gateway: Ipv4Addr,
    /// The MAC address of `eth0`, as `02:42:ac:11:00:02`.
    pub mac: String,
    /// The published ports, with the ones that the kernel chose.
    pub ports: Vec<PublishedPort>,
    /// Sockets that keep the host's ports from other processes for as long as they are open.
    pub reservations: Vec<OwnedFd>,
}

/// The networks of one root, on the host whose network namespace the thread is in that first uses this handle.
/// A handle does one thing at a time; handles and processes do not wait for each other.
#[derive(Debug)]
pub struct Networks {
    /// `ROOT/networks/bridge.json`
    definition: PathBuf,
    /// `RUN_ROOT/net`; a shared lock on it is held while attaching, an exclusive one while removing all.
    run: PathBuf,
    leases: Leases,
    records: Records,
    interface: String,
    table: String,
    kernel: Mutex<Option<Kernel>>,
}

/// The netlink sockets of a handle. They are kept: the kernel answers the close of a netfilter socket only when
/// everything that was deleted before has been freed (10 ms).
#[derive(Debug)]
struct Kernel {
    route: Socket,
    netfilter: Socket,
}

impl Kernel {
    /// The sockets, opened at their first use.
    fn of(slot: &mut Option<Self>) -> Result<&Self> {
        match slot {
            Some(kernel) => Ok(kernel),
            None => Ok(slot.insert(Self::open()?)),
        }
    }

    fn open() -> Result<Self> {
        let failed = |source| Error::Kernel { action: "open netlink socket", object: "the host".into(), source };
        Ok(Self { route: Socket::route().map_err(failed)?, netfilter: Socket::netfilter().map_err(failed)? })
    }
}

impl Networks {
    /// Opens the networks of `root`, whose records for this boot are below `run_root`. Makes folders, changes
    /// nothing of the host's network.
    ///
    /// # Errors
    /// When the folders cannot be made.
    pub fn open(root: &Path, run_root: &Path) -> Result<Self> {
        let definitions = root.join("networks");
        let run = run_root.join("net");
        let leases = run.join("leases").join(DEFAULT_NETWORK);
        let records = run.join("containers");
        // Looks first: a mkdir in vain takes the parent's lock.
        for folder in [&definitions, &leases, &records].into_iter().filter(|folder| !folder.is_dir()) {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(Error::record("create", folder))?;
        }
        let (interface, table) = instance_names(root)?;
        Ok(Self {
            definition: definitions.join(format!("{DEFAULT_NETWORK}.json")),
            run,
            leases: Leases(leases),
            records: Records(records),
            interface,
            table,
            kernel: Mutex::new(None),
        })
    }

    /// The default network as it is recorded; none before its first use.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn default_network(&self) -> Result<Option<Network>> {
        Network::load(&self.definition)
    }

    /// Gives a container its interface: makes bridge and rules when they are absent, leases an address, connects
    /// the namespace, publishes the ports. All or nothing.
    ///
    /// The interface is `eth0` with IPv4 only; loopback is set up, too. That the container can be reached does
    /// not promise that its program listens yet, nor that the host's own firewall lets packets through.
    ///
    /// # Errors
    /// Whatever stands in the way; see [`Error`].
    pub fn attach(&self, attach: &Attach<'_>) -> Result<Attached> {
        let plan = port::plan(attach.ports)?;
        let _no_removal = self.lock(FlockOperation::LockShared)?;
        let mut sockets = self.sockets();
        let kernel = Kernel::of(&mut sockets)?;
        let (ports, reservations) = port::reserve(&plan).map_err(|error| self.name_holder(error))?;
        let (network, bridge) = self.ensure(kernel)?;
        let mtu = link::outside_mtu(&kernel.route)?;
        let interface = interface_name(attach.container)?;

        let address = self.leases.claim(&network, attach.container)?;
        let record = Record { version: FormatVersion, network: network.name.clone(), interface, address, ports };
        if let Err(error) = self.records.create(attach.container, &record) {
            // Ignored: detach finds a lease without a record, too, and the first error says more.
            let _ = self.leases.release(address, attach.container);
            return Err(error);
        }
        let namespace = attach.netns;
        let pair = Pair { host_name: &record.interface, bridge: &bridge, namespace, address, mtu };
        let connected = Namespace::prepare(namespace)
            .and_then(|inside| link::create_pair(&kernel.route, &pair).map(|()| inside))
            .and_then(|mut inside| link::configure_container(&kernel.route, &mut inside, &pair, &network))
            .and_then(|()| firewall::publish(&kernel.netfilter, &self.table, address, &record.ports));
        if let Err(error) = connected {
            let error = self.name_holder_but(error, attach.container, &record.ports);
            // A batch is all or nothing, and the element in the way of ours is not ours to remove.
            let ports: &[_] = if matches!(error, Error::PortAllocated { .. }) { &[] } else { &record.ports };
            // Its namespace lives on, so the pair is deleted here. Ignored: what could not be undone keeps its
            // record for the next detach; the first error says more.
            let withdrawn = firewall::withdraw(&kernel.netfilter, &self.table, address, ports);
            let _ =
                self.give_back(attach.container, &record, withdrawn, link::delete(&kernel.route, &record.interface));
            return Err(error);
        }
        Ok(Attached {
            network: record.network,
            address,
            prefix_len: network.subnet.prefix_len(),
            gateway: network.gateway(),
            mac: mac_of(address).map(|byte| format!("{byte:02x}")).join(":"),
            ports: record.ports,
            reservations,
        })
    }

    /// Takes back whatever a container got: ports, interface, address. From records only, so also after its
    /// monitor crashed. Idempotent; it carries on after a failure, and what failed can be tried again.
    ///
    /// For a container that has ended: its interface is cut off at once, and the kernel removes it together with
    /// the namespace some 30 ms later, or when the last one who still uses that lets go.
    ///
    /// # Errors
    /// Everything that went wrong.
    pub fn detach(&self, container: &ContainerId) -> std::result::Result<(), Vec<Error>> {
        let locked = match self.records.lock(container) {
            Ok(Some(locked)) => locked,
            Ok(None) => return self.leases.release_all(container).map_err(|error| vec![error]),
            Err(error) => {
                let lease = self.leases.release_all(container);
                return Err([Err(error), lease].into_iter().filter_map(std::result::Result::err).collect());
            }
        };
        let mut sockets = self.sockets();
        let kernel = Kernel::of(&mut sockets).map_err(|error| vec![error])?;
        let record = &locked.record;
        let withdrawn = firewall::withdraw(&kernel.netfilter, &self.table, record.address, &record.ports);
        self.give_back(container, record, withdrawn, link::isolate_pair(&kernel.route, &record.interface))
    }

    /// The rest, after ports and interface were taken back or not. Keeps what a further try needs.
    fn give_back(
        &self,
        container: &ContainerId,
        record: &Record,
        ports: Result<()>,
        interface: Result<()>,
    ) -> std::result::Result<(), Vec<Error>> {
        // The address is free when nothing answers to it any more.
        let address = interface.and_then(|()| self.leases.release(record.address, container));
        let mut errors: Vec<Error> = [ports, address].into_iter().filter_map(std::result::Result::err).collect();
        if errors.is_empty() {
            errors.extend(self.records.remove(container).err());
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Sets loopback up in a namespace that gets no other interface (`--network none`).
    ///
    /// # Errors
    /// When the namespace cannot be entered or the kernel refuses.
    pub fn loopback_up(&self, netns: BorrowedFd<'_>) -> Result<()> {
        link::set_loopback_up(netns)
    }

    /// The container that has this port of the host, or a port that cannot be had beside it (`0.0.0.0` covers
    /// every address). None also when the records cannot be read: then nobody knows.
    #[must_use]
    pub fn holder_of(&self, address: Ipv4Addr, port: u16, protocol: Protocol) -> Option<ContainerId> {
        let holds = |held: &PublishedPort| {
            (held.host_port, held.protocol) == (port, protocol)
                && (held.host_ip == address || held.host_ip.is_unspecified() || address.is_unspecified())
        };
        let records = self.records.all().ok()?;
        records.into_iter().find_map(|(id, record)| record.ports.iter().any(holds).then_some(id))
    }

    /// Removes this root's bridge, rules and records, as if it had never been used. To use it again, open it again.
    ///
    /// # Errors
    /// [`Error::NetworkInUse`] while containers are attached; else everything that went wrong.
    pub fn remove_instance(&self) -> std::result::Result<(), Vec<Error>> {
        let one = |error| vec![error];
        let _no_attach = self.lock(FlockOperation::LockExclusive).map_err(one)?;
        let _namespace = lock_namespace().map_err(one)?;
        let containers = self.leases.all().map_err(one)?.len();
        if containers != 0 {
            return Err(vec![Error::NetworkInUse { network: DEFAULT_NETWORK.into(), containers }]);
        }
        let mut sockets = self.sockets();
        let kernel = Kernel::of(&mut sockets).map_err(one)?;
        let bridge = link::bridge(&kernel.route, &self.interface);
        let steps = [
            firewall::remove(&kernel.netfilter, &self.table),
            bridge.and_then(|bridge| bridge.map_or(Ok(()), |_| link::delete(&kernel.route, &self.interface))),
            match fs::remove_file(&self.definition) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(Error::record("remove", &self.definition)(error))
                }
                _ => Ok(()),
            },
            fs::remove_dir_all(&self.records.0).map_err(Error::record("remove", &self.records.0)),
            fs::remove_dir_all(&self.leases.0).map_err(Error::record("remove", &self.leases.0)),
        ];
        let errors: Vec<Error> = steps.into_iter().filter_map(std::result::Result::err).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// The network with its bridge up and its rules in place: three questions to the kernel when all is there.
    fn ensure(&self, kernel: &Kernel) -> Result<(Network, Link)> {
        if let Some(network) = self.default_network()?
            && let Some(bridge) = link::bridge(&kernel.route, &network.interface)?.filter(|bridge| bridge.up)
            && firewall::is_current(&kernel.netfilter, &self.table, &network)?
        {
            return Ok((network, bridge));
        }
        let _only_us = lock_namespace()?;
        self.establish(kernel)
    }

    fn establish(&self, kernel: &Kernel) -> Result<(Network, Link)> {
        let mut bridge = link::bridge(&kernel.route, &self.interface)?;
        let network = match self.default_network()? {
            Some(network) if bridge.is_some() || !self.subnet_was_taken(&network, kernel)? => network,
            _ => {
                if bridge.take().is_some() {
                    // Ours by its name, without a record of its subnet.
                    link::delete(&kernel.route, &self.interface)?;
                }
                let subnet = subnet::choose(&link::used_subnets(&kernel.route)?).ok_or(Error::NoFreeSubnet)?;
                let network = Network {
                    version: FormatVersion,
                    name: DEFAULT_NETWORK.into(),
                    interface: self.interface.clone(),
                    subnet,
                };
                network.store(&self.definition)?;
                network
            }
        };
        if !bridge.is_some_and(|bridge| bridge.up) {
            link::create_bridge(&kernel.route, &network)?;
        }
        if !firewall::is_current(&kernel.netfilter, &self.table, &network)? {
            let published: Vec<_> = self
                .records
                .all()?
                .iter()
                .flat_map(|(_, record)| firewall::elements(record.address, &record.ports))
                .collect();
            firewall::replace(&kernel.netfilter, &self.table, &network, &published)?;
        }
        let bridge = link::bridge(&kernel.route, &self.interface)?.ok_or_else(|| Error::Kernel {
            action: "find bridge",
            object: self.interface.clone(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        Ok((network, bridge))
    }

    /// Whether the host has come to use the recorded subnet for something else since the bridge was last there.
    /// With containers attached it stays as it is.
    fn subnet_was_taken(&self, network: &Network, kernel: &Kernel) -> Result<bool> {
        let taken = link::used_subnets(&kernel.route)?.iter().any(|used| used.overlaps(network.subnet));
        Ok(taken && self.leases.all()?.is_empty())
    }

    fn sockets(&self) -> MutexGuard<'_, Option<Kernel>> {
        // A panic between two messages leaves no half message behind.
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self, operation: FlockOperation) -> Result<File> {
        let folder = File::open(&self.run).map_err(Error::record("open", &self.run))?;
        flock(&folder, operation).map_err(|error| Error::record("lock", &self.run)(error.into()))?;
        Ok(folder)
    }

    fn name_holder(&self, error: Error) -> Error {
        match error {
            Error::PortInUse { address, port, protocol } => match self.holder_of(address, port, protocol) {
                Some(holder) => Error::PortAllocated { address, port, protocol, holder: Some(holder) },
                None => Error::PortInUse { address, port, protocol },
            },
            error => error,
        }
    }

    /// After the kernel refused an element, which only the rest of a container without a monitor can cause:
    /// names the port and the container.
    fn name_holder_but(&self, error: Error, container: &ContainerId, ports: &[PublishedPort]) -> Error {
        let Error::PortAllocated { holder: None, .. } = error else { return error };
        let records = self.records.all().unwrap_or_default();
        let held = records.iter().filter(|(id, _)| id != container).find_map(|(id, record)| {
            let same = |port: &&PublishedPort| {
                record.ports.iter().any(|held| {
                    (held.host_ip, held.host_port, held.protocol) == (port.host_ip, port.host_port, port.protocol)
                })
            };
            ports.iter().find(same).map(|port| (id, port))
        });
        match held {
            Some((id, port)) => Error::PortAllocated {
                address: port.host_ip,
                port: port.host_port,
                protocol: port.protocol,
                holder: Some(id.clone()),
            },
            None => error,
        }
    }
}

fn lock_namespace() -> Result<network_namespace::Lock> {
    let failed = |source| Error::Kernel { action: "lock", object: "the host's network namespace".into(), source };
    network_namespace::lock().map_err(failed)
}

/// The names of the bridge and the table: those of the default root are plain, others carry a hash of its path,
/// so that roots do not meet.
fn instance_names(root: &Path) -> Result<(String, String)> {
    if root == Path::new(DEFAULT_ROOT) {
        return Ok(("tare0".into(), "tare".into()));
    }
    let root = fs::canonicalize(root).map_err(Error::record("resolve", root))?;
    // FNV-1a: must be the same in every version of tare, which the standard library's hash does not promise.
    let hash =
        root.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    let name = format!("tare-{:06x}", hash & 0xff_ffff);
    Ok((name.clone(), name))
}

/// A name for the host's end of a veth pair. Random, because the pair of a container that has just ended may
/// still be there when it starts again.
fn interface_name(container: &ContainerId) -> Result<String> {
    let mut random = [0; 2];
    getrandom(&mut random, GetRandomFlags::empty()).map_err(|source| Error::Kernel {
        action: "get random bytes",
        object: "veth".into(),
        source: source.into(),
    })?;
    Ok(format!("veth{}{:04x}", &container.short()[..7], u16::from_ne_bytes(random)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_root_has_names_of_its_own() {
        assert_eq!(instance_names(Path::new(DEFAULT_ROOT)).unwrap(), ("tare0".into(), "tare".into()));
        let folder = tempfile::tempdir().unwrap();
        let (bridge, table) = instance_names(folder.path()).unwrap();
        assert_eq!(bridge, table);
        assert_eq!(bridge.len(), 11);
        assert_ne!(instance_names(Path::new("/")).unwrap().0, bridge);
    }

    #[test]
    fn an_interface_name_fits() {
        let id = ContainerId::from_random([0xab; 32]);
        let name = interface_name(&id).unwrap();
        // IFNAMSIZ is 16 with the terminating zero.
        assert_eq!((name.len(), &name[..11]), (15, "vethabababa"));
    }
}
