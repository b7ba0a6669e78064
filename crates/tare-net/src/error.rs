//! What can go wrong between a container and its network.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};
use tare_spec::{ContainerId, ErrorKind, Protocol};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another container has the host's port.
    #[error("Bind for {address}:{port} failed: port is already allocated")]
    PortAllocated {
        /// The host's address that was asked for.
        address: Ipv4Addr,
        /// The host's port.
        port: u16,
        /// The protocol.
        protocol: Protocol,
        /// Who has it; none if the same container asked for it twice, or a container that left no record.
        holder: Option<ContainerId>,
    },
    /// A process that is none of our containers has the host's port.
    #[error("failed to bind host port {address}:{port}/{protocol}: address already in use")]
    PortInUse {
        /// The host's address that was asked for.
        address: Ipv4Addr,
        /// The host's port.
        port: u16,
        /// The protocol.
        protocol: Protocol,
    },
    /// The host's port cannot be taken for another reason: the address is not the host's, the port is
    /// privileged, the kernel does not know the protocol.
    #[error("failed to bind host port {address}:{port}/{protocol}")]
    ReservePort {
        /// The host's address that was asked for.
        address: Ipv4Addr,
        /// The host's port; 0 when the kernel was to choose one.
        port: u16,
        /// The protocol.
        protocol: Protocol,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Ports are published on IPv4 addresses only.
    #[error("publishing a port on IPv6 address {address} is not supported")]
    Ipv6HostAddress {
        /// The address that was asked for.
        address: IpAddr,
    },
    /// Every subnet that a network could get overlaps an address or route of the host.
    #[error("all predefined address pools have been fully subnetted")]
    NoFreeSubnet,
    /// Every address of the subnet is leased.
    #[error("no available IPv4 addresses on this network's address pools: {network}")]
    NoFreeAddress {
        /// The network's name.
        network: String,
    },
    /// The container already has an interface.
    #[error("container {container} is already attached to network {network}")]
    AlreadyAttached {
        /// The container.
        container: ContainerId,
        /// The network's name.
        network: String,
    },
    /// The network cannot be taken away while containers use it.
    #[error("network {network} has {containers} attached containers")]
    NetworkInUse {
        /// The network's name.
        network: String,
        /// How many leases there are.
        containers: usize,
    },
    /// An interface has the name of our bridge and is something else.
    #[error("interface {interface} exists and is not a bridge")]
    ForeignInterface {
        /// The interface's name.
        interface: String,
    },
    /// The kernel refused a change of interfaces, addresses, routes or rules.
    #[error("{action} for {object}")]
    Kernel {
        /// What was tried, such as `create veth pair`.
        action: &'static str,
        /// On what: an interface, a table.
        object: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A kernel setting could not be written.
    #[error("write {value} to {path}")]
    Setting {
        /// The file below `/proc/sys`.
        path: String,
        /// What it was to hold.
        value: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A record could not be read, written or removed.
    #[error("{action} {path}")]
    Record {
        /// What was tried, such as `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The file system's answer.
        #[source]
        source: io::Error,
    },
    /// A record does not hold what we write there.
    #[error("parse {path}")]
    CorruptRecord {
        /// The file.
        path: PathBuf,
        /// Where it stops making sense.
        #[source]
        source: serde_json::Error,
    },
}

/// The result of this crate's operations.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The kind of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::PortAllocated { .. }
            | Self::PortInUse { .. }
            | Self::AlreadyAttached { .. }
            | Self::NetworkInUse { .. }
            | Self::ForeignInterface { .. } => ErrorKind::Conflict,
            Self::ReservePort { source, .. } => match source.kind() {
                io::ErrorKind::AddrNotAvailable => ErrorKind::InvalidParameter,
                io::ErrorKind::PermissionDenied => ErrorKind::Forbidden,
                io::ErrorKind::Unsupported => ErrorKind::NotImplemented,
                _ => ErrorKind::Internal,
            },
            Self::Ipv6HostAddress { .. } => ErrorKind::NotImplemented,
            Self::NoFreeSubnet | Self::NoFreeAddress { .. } => ErrorKind::Unavailable,
            Self::Kernel { source, .. } | Self::Setting { source, .. } | Self::Record { source, .. } => {
                match source.kind() {
                    io::ErrorKind::PermissionDenied => ErrorKind::Forbidden,
                    _ => ErrorKind::Internal,
                }
            }
            Self::CorruptRecord { .. } => ErrorKind::Internal,
        }
    }

    /// A netlink request that was refused.
    pub(crate) fn kernel(refused: tare_sys::netlink::Refused, object: &str) -> Self {
        Self::Kernel { action: refused.action, object: object.to_owned(), source: refused.source }
    }

    /// For `map_err` on file operations.
    pub(crate) fn record(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Record { action, path, source }
    }
}
