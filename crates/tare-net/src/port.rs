//! The host's side of published ports: what is wanted, and the sockets that hold it.

use crate::{Error, Result};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketFlags, SocketType, bind, getsockname, ipproto, listen, socket_with,
        sockopt::set_socket_reuseaddr,
    },
};
use serde::{Deserialize, Serialize};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    os::fd::OwnedFd,
};
use tare_spec::{PortMapping, Protocol};

/// A port of the host that leads to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The host's address; `0.0.0.0` for all.
    pub host_ip: Ipv4Addr,
    /// The host's port, never 0.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// A port as planned: any of `first..=last`, or one of the kernel's choice if that is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    host_ip: Ipv4Addr,
    first: u16,
    last: u16,
    container_port: u16,
    protocol: Protocol,
}

/// Validates the mappings of one container, before anything is done. Repetitions are dropped, as Docker does.
///
/// # Errors
/// IPv6 addresses, and one port wanted for two things.
pub(crate) fn plan(mappings: &[PortMapping]) -> Result<Vec<Wanted>> {
    let mut plan: Vec<Wanted> = Vec::with_capacity(mappings.len());
    for mapping in mappings {
        let host_ip = match mapping.host_ip {
            None => Ipv4Addr::UNSPECIFIED,
            Some(IpAddr::V4(address)) => address,
            Some(address @ IpAddr::V6(_)) => return Err(Error::Ipv6HostAddress { address }),
        };
        let first = mapping.host_port.unwrap_or(0);
        let last = mapping.host_port_end.unwrap_or(first).max(first);
        let wanted =
            Wanted { host_ip, first, last, container_port: mapping.container_port, protocol: mapping.protocol };
        if plan.contains(&wanted) {
            continue;
        }
        let clashes = |other: &&Wanted| {
            (other.protocol, other.first, other.last) == (wanted.protocol, first, last)
                && (other.host_ip == host_ip || other.host_ip.is_unspecified() || host_ip.is_unspecified())
        };
        if first != 0 && first == last && plan.iter().any(|other| clashes(&other)) {
            let (port, protocol) = (first, mapping.protocol);
            return Err(Error::PortAllocated { address: host_ip, port, protocol, holder: None });
        }
        plan.push(wanted);
    }
    Ok(plan)
}

/// Takes what was planned from the host: one bound socket a port, which keeps every other process from it for
/// as long as the socket is open. Packets never get that far, they are translated before.
///
/// # Errors
/// [`Error::PortInUse`] – whether the holder is a container is for the caller to find out – and
/// [`Error::ReservePort`].
pub(crate) fn reserve(plan: &[Wanted]) -> Result<(Vec<PublishedPort>, Vec<OwnedFd>)> {
    let mut ports = Vec::with_capacity(plan.len());
    let mut sockets = Vec::with_capacity(plan.len());
    for wanted in plan {
        let (host_port, socket) = reserve_one(wanted)?;
        ports.push(PublishedPort {
            host_ip: wanted.host_ip,
            host_port,
            container_port: wanted.container_port,
            protocol: wanted.protocol,
        });
        sockets.push(socket);
    }
    Ok((ports, sockets))
}

fn reserve_one(wanted: &Wanted) -> Result<(u16, OwnedFd)> {
    let Wanted { host_ip: address, protocol, .. } = *wanted;
    let mut port = wanted.first;
    loop {
        match bind_port(address, port, protocol) {
            Ok(reserved) => return Ok(reserved),
            Err(Errno::ADDRINUSE) if port < wanted.last => port += 1,
            Err(Errno::ADDRINUSE) => return Err(Error::PortInUse { address, port, protocol }),
            Err(source) => return Err(Error::ReservePort { address, port, protocol, source: source.into() }),
        }
    }
}

fn bind_port(address: Ipv4Addr, port: u16, protocol: Protocol) -> rustix::io::Result<(u16, OwnedFd)> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let open = || socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, Some(number));
    let wanted = SocketAddrV4::new(address, port);
    let mut socket = open()?;
    match bind(&socket, &wanted) {
        // For a minute after a server of the host ended, the remains of its connections (TIME_WAIT) are in the
        // way. SO_REUSEADDR gets past them but would also share the port with others who set it, unless we
        // listen.
        Err(Errno::ADDRINUSE) if protocol == Protocol::Tcp && port != 0 => {
            socket = open()?;
            set_socket_reuseaddr(&socket, true)?;
            bind(&socket, &wanted)?;
            listen(&socket, 0)?;
        }
        result => result?,
    }
    let bound = SocketAddrV4::try_from(getsockname(&socket)?)?;
    Ok((bound.port(), socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    fn planned(arguments: &[&str]) -> Result<Vec<Wanted>> {
        let mappings: Vec<PortMapping> =
            arguments.iter().flat_map(|argument| PortMapping::parse(argument).unwrap()).collect();
        plan(&mappings)
    }

    #[test]
    fn a_plan_drops_repetitions_and_refuses_contradictions() {
        assert_eq!(planned(&["80:80", "80:80/tcp", "80:80/udp"]).unwrap().len(), 2);
        assert_eq!(planned(&["127.0.0.1:80:80", "127.0.0.2:80:80"]).unwrap().len(), 2);
        assert_eq!(planned(&["80", "81"]).unwrap().len(), 2);
        for clash in [&["80:80", "80:81"][..], &["80:80", "127.0.0.1:80:80"]] {
            let error = planned(clash).unwrap_err();
            assert!(matches!(error, Error::PortAllocated { port: 80, holder: None, .. }), "{error}");
        }
        let error = planned(&["[::1]:80:80"]).unwrap_err();
        assert_eq!(error.to_string(), "publishing a port on IPv6 address ::1 is not supported");
    }

    #[test]
    fn a_reserved_port_is_nobody_elses() {
        let plan = planned(&["127.0.0.1::80", "127.0.0.1::53/udp"]).unwrap();
        let (ports, sockets) = reserve(&plan).unwrap();
        assert_eq!((ports.len(), sockets.len()), (2, 2));
        let (tcp, udp) = (ports[0].host_port, ports[1].host_port);
        assert!(tcp != 0 && udp != 0);
        // The standard library sets SO_REUSEADDR on listeners.
        assert!(TcpListener::bind(("127.0.0.1", tcp)).is_err());
        assert!(UdpSocket::bind(("127.0.0.1", udp)).is_err());
        for (port, protocol) in [(tcp, "tcp"), (udp, "udp")] {
            let error = reserve(&planned(&[&format!("{port}:1/{protocol}")]).unwrap()).unwrap_err();
            let text = format!("failed to bind host port 0.0.0.0:{port}/{protocol}: address already in use");
            assert_eq!(error.to_string(), text);
        }
        drop(sockets);
        assert!(TcpListener::bind(("127.0.0.1", tcp)).is_ok());
    }

    #[test]
    fn connections_that_wait_for_their_end_do_not_hold_a_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        // The side that closes first keeps the connection in TIME_WAIT.
        drop(listener.accept().unwrap());
        drop(client);
        drop(listener);
        let plan = planned(&[&format!("{address}:80")]).unwrap();
        let (ports, _sockets) = reserve(&plan).unwrap();
        assert_eq!(ports[0].host_port, address.port());
        assert!(matches!(reserve(&plan).unwrap_err(), Error::PortInUse { .. }));
    }

    #[test]
    fn of_a_range_the_first_free_port_is_taken() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let first = holder.local_addr().unwrap().port();
        let last = first.saturating_add(50);
        let (ports, _sockets) = reserve(&planned(&[&format!("127.0.0.1:{first}-{last}:80")]).unwrap()).unwrap();
        assert!(ports[0].host_port > first && ports[0].host_port <= last);
    }

    #[test]
    fn an_address_that_is_not_ours() {
        let error = reserve(&planned(&["203.0.113.9:80:80"]).unwrap()).unwrap_err();
        assert_eq!(error.kind(), tare_spec::ErrorKind::InvalidParameter);
    }
}
