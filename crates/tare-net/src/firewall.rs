//! The rules of an instance: one table of the family `ip`, replaced as a whole, and one map element for each
//! published port.
//!
//! ```text
//! table ip tare {
//!     map ports      { inet_proto . inet_service : ipv4_addr . inet_service }              -p 8080:80
//!     map host-ports { ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }  -p 127.0.0.1:8080:80
//!     chain guard       prerouting, raw: who may not reach containers or loopback
//!     chain publish     looks up both maps
//!     chain prerouting  jump publish
//!     chain output      jump publish: the host itself as client
//!     chain forward     what was not translated does not get in
//!     chain postrouting masquerade
//! }
//! ```

use crate::{
    Error, Result,
    network::Network,
    nft::{self, Batch, Element, Field, Hook},
    port::PublishedPort,
    subnet::Subnet,
};
use rustix::io::Errno;
use std::net::Ipv4Addr;
use tare_spec::Protocol;
use tare_sys::netlink::Socket;

/// Changes when the rules change, so that a newer tare replaces an older one's table.
const RULES_VERSION: u32 = 1;
const PORTS: &str = "ports";
const HOST_PORTS: &str = "host-ports";
const LOOPBACK: &str = "lo";

/// What the table says of itself. An attach compares it instead of reading all rules.
fn comment(network: &Network) -> String {
    format!("tare rules {RULES_VERSION}: {} {}", network.interface, network.subnet)
}

/// Whether the table is there, with these rules, for this network.
pub(crate) fn is_current(socket: &Socket, table: &str, network: &Network) -> Result<bool> {
    nft::table_has_comment(socket, table, &comment(network))
}

/// Replaces the table at once, with the elements of all running containers.
pub(crate) fn replace(socket: &Socket, table: &str, network: &Network, published: &[Element]) -> Result<()> {
    let bridge = network.interface.as_str();
    let loopback = Subnet::containing(Ipv4Addr::LOCALHOST, 8);
    let mut batch = Batch::new(table);
    // Deleting what may not exist fails, so it is created first.
    batch.table("");
    batch.delete_table();
    batch.table(&comment(network));
    batch.map(PORTS, 1, &[Field::Protocol, Field::Port], &[Field::Address, Field::Port]);
    batch.map(HOST_PORTS, 2, &[Field::Address, Field::Protocol, Field::Port], &[Field::Address, Field::Port]);

    batch.chain("guard", Some(Hook { kind: "filter", number: 0, priority: -300 }));
    // route_localnet on the bridge would let a container, or a neighbour of the host, talk to services that
    // listen on 127.0.0.1 only (CVE-2020-8558).
    batch.rule("guard", |r| {
        r.input(false, LOOPBACK);
        r.destination(loopback);
        r.drop();
    });
    batch.rule("guard", |r| {
        r.input(false, LOOPBACK);
        r.source(loopback);
        r.drop();
    });
    // Before any translation, a packet to a container's address that did not come through the bridge was routed
    // here by somebody outside, past the published ports (moby#22054). Being the first hook, this holds
    // whatever the host's other rules accept.
    batch.rule("guard", |r| {
        r.input(false, LOOPBACK);
        r.input(false, bridge);
        r.destination(network.subnet);
        r.drop();
    });

    batch.chain("publish", None);
    batch.rule("publish", |r| r.translate_by(HOST_PORTS, 2, true));
    batch.rule("publish", |r| {
        r.destination_is_local();
        r.translate_by(PORTS, 1, false);
    });
    batch.chain("prerouting", Some(Hook { kind: "nat", number: 0, priority: -100 }));
    batch.rule("prerouting", |r| r.jump("publish"));
    batch.chain("output", Some(Hook { kind: "nat", number: 3, priority: -100 }));
    batch.rule("output", |r| r.jump("publish"));

    batch.chain("forward", Some(Hook { kind: "filter", number: 2, priority: 0 }));
    batch.rule("forward", |r| {
        r.output(true, bridge);
        r.input(false, bridge);
        r.connection_is_new();
        r.connection_is_translated(false);
        r.drop();
    });

    batch.chain("postrouting", Some(Hook { kind: "nat", number: 4, priority: 100 }));
    // The host as client of 127.0.0.1: a container cannot answer to that address.
    batch.rule("postrouting", |r| {
        r.output(true, bridge);
        r.source(loopback);
        r.masquerade();
    });
    // A container as client of a published port: the answer must come back through here to be translated.
    batch.rule("postrouting", |r| {
        r.output(true, bridge);
        r.source(network.subnet);
        r.connection_is_translated(true);
        r.masquerade();
    });
    batch.rule("postrouting", |r| {
        r.output(false, bridge);
        r.source(network.subnet);
        r.masquerade();
    });
    batch.add(published);
    batch.commit(socket).map_err(|refused| Error::kernel(refused, table))
}

/// Deletes the table; it may be absent.
pub(crate) fn remove(socket: &Socket, table: &str) -> Result<()> {
    let mut batch = Batch::new(table);
    batch.delete_table();
    match batch.commit(socket) {
        Err(refused) if refused.errno() != Errno::NOENT => Err(Error::kernel(refused, table)),
        _ => Ok(()),
    }
}

/// The elements that lead ports to a container.
pub(crate) fn elements(container: Ipv4Addr, ports: &[PublishedPort]) -> Vec<Element> {
    ports
        .iter()
        .map(|port| {
            let mut key = Vec::with_capacity(12);
            let map = if port.host_ip.is_unspecified() {
                PORTS
            } else {
                key.extend_from_slice(&port.host_ip.octets());
                HOST_PORTS
            };
            key.extend_from_slice(&[protocol_number(port.protocol), 0, 0, 0]);
            key.extend_from_slice(&port.host_port.to_be_bytes());
            key.extend_from_slice(&[0, 0]);
            let [a, b, c, d] = container.octets();
            let [high, low] = port.container_port.to_be_bytes();
            Element { map, key, value: [a, b, c, d, high, low, 0, 0] }
        })
        .collect()
}

/// The number in the IP header (IANA's registry of protocol numbers).
fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// Publishes a container's ports, all or none.
///
/// # Errors
/// [`Error::PortAllocated`] when an element of another container is in the way.
pub(crate) fn publish(socket: &Socket, table: &str, container: Ipv4Addr, ports: &[PublishedPort]) -> Result<()> {
    if ports.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new(table);
    batch.add(&elements(container, ports));
    batch.commit(socket).map_err(|refused| match (refused.errno(), ports) {
        // Which element it was, the kernel does not say; with one port there is no doubt, else the first is named.
        (Errno::EXIST, [port, ..]) => {
            Error::PortAllocated { address: port.host_ip, port: port.host_port, protocol: port.protocol, holder: None }
        }
        _ => Error::kernel(refused, table),
    })?;
    for port in ports.iter().filter(|port| port.protocol == Protocol::Udp) {
        // Ignored: only clients that sent before this moment are concerned, and kernels without CTA_FILTER refuse.
        let _ = nft::forget_connections_to(socket, protocol_number(port.protocol), port.host_port);
    }
    Ok(())
}

/// Withdraws a container's ports; elements that are gone already do not matter.
pub(crate) fn withdraw(socket: &Socket, table: &str, container: Ipv4Addr, ports: &[PublishedPort]) -> Result<()> {
    let elements = elements(container, ports);
    if elements.is_empty() {
        return Ok(());
    }
    let remove = |elements: &[Element]| {
        let mut batch = Batch::new(table);
        batch.remove(elements);
        batch.commit(socket)
    };
    let gone_or = |refused: tare_sys::netlink::Refused| match refused.errno() {
        Errno::NOENT => Ok(()),
        _ => Err(Error::kernel(refused, table)),
    };
    if let Err(refused) = remove(&elements) {
        // A batch is all or nothing: one missing element, and the others are still there.
        gone_or(refused)?;
        for element in &elements {
            remove(std::slice::from_ref(element)).or_else(gone_or)?;
        }
    }
    if ports.iter().any(|port| port.protocol == Protocol::Udp) {
        // Ignored as above.
        let _ = nft::forget_connections_of(socket, container);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_one_element() {
        let port = |host_ip, protocol| PublishedPort { host_ip, host_port: 8080, container_port: 80, protocol };
        let elements = elements(
            Ipv4Addr::new(172, 17, 0, 2),
            &[port(Ipv4Addr::UNSPECIFIED, Protocol::Udp), port(Ipv4Addr::LOCALHOST, Protocol::Tcp)],
        );
        let value = [172, 17, 0, 2, 0, 80, 0, 0];
        assert_eq!(
            elements,
            [
                Element { map: PORTS, key: vec![17, 0, 0, 0, 0x1f, 0x90, 0, 0], value },
                Element { map: HOST_PORTS, key: vec![127, 0, 0, 1, 6, 0, 0, 0, 0x1f, 0x90, 0, 0], value },
            ]
        );
    }
}
