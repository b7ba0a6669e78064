//! Interfaces, addresses and routes, as rtnetlink messages.
//!
//! Numbers are those of the kernel's `uapi/linux/if_link.h`, `if_addr.h` and `rtnetlink.h`.

use crate::{
    Error, Result,
    network::{Network, mac_of},
    subnet::Subnet,
};
use rustix::{io::Errno, net::netdevice::name_to_index};
use std::{
    fs::{self, File},
    io,
    net::Ipv4Addr,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::fs::FileExt,
    },
};
use tare_sys::{
    netlink::{Attributes, CREATE, DUMP, EXCL, Requests, Socket},
    network_namespace,
};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
const NEW_NEIGHBOUR: u16 = 28;
/// Resolve the address as if a packet was to be sent there.
const NTF_USE: u8 = 1;

const AF_INET: u8 = 2;
const AF_INET6: u16 = 10;
const IFF_UP: u32 = 1;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const BR_STATE_DISABLED: u8 = 0;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const VETH_INFO_PEER: u16 = 1;

/// `sizeof(struct ifinfomsg)`, `ifaddrmsg`, `rtmsg`
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;

/// The container's end of its veth pair.
pub(crate) const CONTAINER_INTERFACE: &str = "eth0";
/// `LOOPBACK_IFINDEX`: the first interface of every namespace.
const LOOPBACK: u32 = 1;
/// What Ethernet carries, where no route says otherwise.
const DEFAULT_MTU: u32 = 1500;

/// What the kernel says of an interface.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) up: bool,
    mtu: u32,
    is_bridge: bool,
}

fn link_header(index: u32, up: bool) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    if up {
        header[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
        header[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
    }
    header
}

/// Asks for an interface by name, or by index if the name is empty.
fn query_link(socket: &Socket, name: &str, index: u32) -> Result<Option<Link>> {
    let mut request = Requests::new();
    request.message(GET_LINK, 0, "find interface", |m| {
        m.raw(&link_header(index, false));
        if !name.is_empty() {
            m.string(IFLA_IFNAME, name);
        }
        // Adding up counters of all processors is most of the work otherwise.
        m.number(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    });
    let mut link = None;
    let answer = socket.query(&request, |payload| {
        let number = |at: usize| payload.get(at..at + 4).and_then(|n| n.try_into().ok()).map(u32::from_ne_bytes);
        let (Some(index), Some(flags)) = (number(4), number(8)) else { return };
        let attributes = Attributes::after(LINK_HEADER, payload);
        let info = attributes.find(IFLA_LINKINFO).unwrap_or_default();
        link = Some(Link {
            index,
            up: flags & IFF_UP != 0,
            mtu: attributes.number(IFLA_MTU).unwrap_or(DEFAULT_MTU),
            is_bridge: Attributes::after(0, info).find(IFLA_INFO_KIND) == Some(b"bridge\0"),
        });
    });
    match answer {
        Ok(()) => Ok(link),
        Err(refused) if refused.errno() == Errno::NODEV => Ok(None),
        Err(refused) => Err(Error::kernel(refused, name)),
    }
}

/// The network's bridge, if it is there.
///
/// # Errors
/// [`Error::ForeignInterface`] for anything else of that name.
pub(crate) fn bridge(socket: &Socket, interface: &str) -> Result<Option<Link>> {
    match query_link(socket, interface, 0)? {
        Some(link) if !link.is_bridge => Err(Error::ForeignInterface { interface: interface.to_owned() }),
        link => Ok(link),
    }
}

/// Makes the bridge, or completes one that a crash left behind: it is up only when all the rest is done.
pub(crate) fn create_bridge(socket: &Socket, network: &Network) -> Result<()> {
    let interface = &network.interface;
    let refused = |refused| Error::kernel(refused, interface);
    let unless_exists = |result: std::result::Result<(), tare_sys::netlink::Refused>| match result {
        Err(error) if error.errno() != Errno::EXIST => Err(refused(error)),
        _ => Ok(()),
    };
    let mut create = Requests::new();
    create.message(NEW_LINK, CREATE | EXCL, "create bridge", |m| {
        m.raw(&link_header(0, false));
        m.string(IFLA_IFNAME, interface);
        // Without one of its own a bridge takes the lowest of its ports' addresses, and changes with them.
        m.bytes(IFLA_ADDRESS, &mac_of(network.gateway()));
        m.nest(IFLA_LINKINFO, |m| m.string(IFLA_INFO_KIND, "bridge"));
    });
    create.acknowledge();
    unless_exists(socket.send(&create))?;
    let index = bridge(socket, interface)?.map_or(0, |link| link.index);

    // Packets of the host to 127.0.0.1 may be sent to containers; the rules see to it that no others are.
    set_sysctl(&format!("net/ipv4/conf/{interface}/route_localnet"), "1")?;
    set_ipv6_sysctl(interface)?;
    set_sysctl("net/ipv4/ip_forward", "1")?;

    let mut address = Requests::new();
    add_address(&mut address, index, network.gateway(), network.subnet);
    address.acknowledge();
    unless_exists(socket.send(&address))?;

    let mut up = Requests::new();
    up.message(NEW_LINK, 0, "set bridge up", |m| m.raw(&link_header(index, true)));
    up.acknowledge();
    socket.send(&up).map_err(refused)
}

fn add_address(requests: &mut Requests, index: u32, address: Ipv4Addr, subnet: Subnet) {
    requests.message(NEW_ADDRESS, CREATE | EXCL, "add address", |m| {
        let mut header = [AF_INET, subnet.prefix_len(), 0, 0, 0, 0, 0, 0];
        header[4..].copy_from_slice(&index.to_ne_bytes());
        m.raw(&header);
        // IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST
        m.bytes(1, &address.octets());
        m.bytes(2, &address.octets());
        m.bytes(4, &subnet.broadcast().octets());
    });
}

/// One veth pair: where its ends are and what they are called.
#[derive(Debug)]
pub(crate) struct Pair<'a> {
    pub(crate) host_name: &'a str,
    pub(crate) bridge: &'a Link,
    pub(crate) namespace: BorrowedFd<'a>,
    pub(crate) address: Ipv4Addr,
    pub(crate) mtu: u32,
}

/// Makes the pair with its peer already inside of the container's namespace: moving it there later would make
/// the kernel wait for grace periods.
pub(crate) fn create_pair(socket: &Socket, pair: &Pair<'_>) -> Result<()> {
    let mut requests = Requests::new();
    requests.message(NEW_LINK, CREATE | EXCL, "create veth pair", |m| {
        m.raw(&link_header(0, false));
        m.string(IFLA_IFNAME, pair.host_name);
        m.number(IFLA_MTU, pair.mtu);
        m.number(IFLA_MASTER, pair.bridge.index);
        m.nest(IFLA_LINKINFO, |m| {
            m.string(IFLA_INFO_KIND, "veth");
            m.nest(IFLA_INFO_DATA, |m| {
                m.nest(VETH_INFO_PEER, |m| {
                    m.raw(&link_header(0, false));
                    m.string(IFLA_IFNAME, CONTAINER_INTERFACE);
                    m.bytes(IFLA_ADDRESS, &mac_of(pair.address));
                    m.number(IFLA_MTU, pair.mtu);
                    m.bytes(IFLA_NET_NS_FD, &pair.namespace.as_raw_fd().to_ne_bytes());
                });
            });
        });
    });
    requests.message(NEW_LINK, 0, "set veth up", |m| {
        m.raw(&link_header(0, true));
        m.string(IFLA_IFNAME, pair.host_name);
        // A container that is a client of its own published port: where br_netfilter is loaded, the bridge
        // itself has to send the packet out of the port it came from.
        m.nest(IFLA_LINKINFO, |m| {
            m.string(IFLA_INFO_SLAVE_KIND, "bridge");
            m.nest(IFLA_INFO_SLAVE_DATA, |m| m.bytes(IFLA_BRPORT_MODE, &[1]));
        });
        // A bridge's port needs no address of its own, and no duplicate detection for it.
        m.nest(IFLA_AF_SPEC, |m| {
            m.nest(AF_INET6, |m| m.bytes(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]));
        });
    });
    requests.acknowledge();
    socket.send(&requests).map_err(|refused| Error::kernel(refused, pair.host_name))
}

/// A container's network namespace before it has an interface: who is made there gets no IPv6.
pub(crate) struct Namespace {
    socket: Socket,
    /// The setting, to be taken back.
    without_ipv6: Option<File>,
}

impl Namespace {
    /// Prepares it.
    ///
    /// The setting is the one for interfaces to come, because an interface's own is written under the lock of all
    /// network changes of the host: while somebody holds that – the kernel itself, for tens of milliseconds, when a
    /// namespace ends – the write starts over and over and burns CPU. With a kernel that takes the lock here, too, it
    /// is as before.
    pub(crate) fn prepare(namespace: BorrowedFd<'_>) -> Result<Self> {
        inside(namespace, |socket| Ok(Self { socket, without_ipv6: no_ipv6()? }))
    }

    /// What the program makes there is its own affair.
    fn allow_ipv6(&mut self) -> Result<()> {
        match self.without_ipv6.take() {
            Some(setting) => setting.write_all_at(b"0", 0).map_err(setting_failed("0")),
            None => Ok(()),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // After a failure only, which says more than a second one.
        let _ = self.allow_ipv6();
    }
}

/// Gives the container's end its address and route, sets it and loopback up, and sees to it that packets pass.
pub(crate) fn configure_container(
    socket: &Socket,
    namespace: &mut Namespace,
    pair: &Pair<'_>,
    network: &Network,
) -> Result<()> {
    let object = CONTAINER_INTERFACE;
    let refused = |refused| Error::kernel(refused, object);
    namespace.allow_ipv6()?;
    let inside = &namespace.socket;
    let index = name_to_index(inside, object).map_err(|errno| Error::Kernel {
        action: "find interface",
        object: object.into(),
        source: errno.into(),
    })?;
    let mut requests = Requests::new();
    set_up(&mut requests, LOOPBACK);
    add_address(&mut requests, index, pair.address, network.subnet);
    set_up(&mut requests, index);
    requests.message(NEW_ROUTE, CREATE | EXCL, "add default route", |m| {
        // Main table (254), made at boot (3), global scope, unicast (1).
        m.raw(&[AF_INET, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0]);
        // RTA_OIF, RTA_GATEWAY
        m.number(4, index);
        m.bytes(5, &network.gateway().octets());
    });
    requests.acknowledge();
    inside.send(&requests).map_err(refused)?;

    // The host's end got its carrier just now, and with its first port so did the bridge. What the program's
    // first packet would lose is a DNS question.
    for interface in [pair.host_name, &network.interface] {
        let action = "settle the carrier";
        let failed = |source| Error::Kernel { action, object: interface.to_owned(), source };
        socket.settle_carrier(interface).map_err(failed)?;
    }
    // Asks who has the gateway's address: the bridge learns where this MAC is now – it may remember the port of
    // a container that had it before – and both sides know each other before the first packet.
    let mut neighbour = Requests::new();
    neighbour.message(NEW_NEIGHBOUR, CREATE, "find gateway", |m| {
        let mut header = [AF_INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, NTF_USE, 0];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        m.raw(&header);
        // NDA_DST
        m.bytes(1, &network.gateway().octets());
    });
    neighbour.acknowledge();
    inside.send(&neighbour).map_err(refused)
}

/// Sets loopback up in a namespace.
pub(crate) fn set_loopback_up(namespace: BorrowedFd<'_>) -> Result<()> {
    inside(namespace, |socket| {
        let mut requests = Requests::new();
        set_up(&mut requests, LOOPBACK);
        requests.acknowledge();
        socket.send(&requests).map_err(|refused| Error::kernel(refused, "lo"))
    })
}

fn set_up(requests: &mut Requests, index: u32) {
    requests.message(NEW_LINK, 0, "set interface up", |m| m.raw(&link_header(index, true)));
}

fn inside<T>(namespace: BorrowedFd<'_>, work: impl FnOnce(Socket) -> Result<T>) -> Result<T> {
    let failed =
        |action| move |source| Error::Kernel { action, object: "the container's network namespace".into(), source };
    network_namespace::within(namespace, || work(Socket::route().map_err(failed("open netlink socket"))?))
        .map_err(failed("enter"))?
}

/// Deletes an interface.
pub(crate) fn delete(socket: &Socket, name: &str) -> Result<()> {
    let mut requests = Requests::new();
    requests.message(DELETE_LINK, 0, "delete interface", |m| {
        m.raw(&link_header(0, false));
        m.string(IFLA_IFNAME, name);
    });
    requests.acknowledge();
    match socket.send(&requests) {
        Err(refused) if refused.errno() != Errno::NODEV => Err(Error::kernel(refused, name)),
        _ => Ok(()),
    }
}

/// Cuts a container that has ended off the bridge, so that its address can be given to another one.
///
/// The kernel removes the pair together with the namespace, once nobody refers to that any more – which a closed
/// socket does for another RCU grace period. Deleting the pair before would wait for as long (20 to 30 ms). Whoever
/// keeps the namespace keeps an interface that leads nowhere.
pub(crate) fn isolate_pair(socket: &Socket, host_name: &str) -> Result<()> {
    // Does not wait for the lock under which the kernel may be removing the pair right now.
    if name_to_index(socket, host_name) == Err(Errno::NODEV) {
        return Ok(());
    }
    let mut requests = Requests::new();
    requests.message(NEW_LINK, 0, "cut off interface", |m| {
        m.raw(&link_header(0, false));
        m.string(IFLA_IFNAME, host_name);
        m.nest(IFLA_LINKINFO, |m| {
            m.string(IFLA_INFO_SLAVE_KIND, "bridge");
            m.nest(IFLA_INFO_SLAVE_DATA, |m| m.bytes(IFLA_BRPORT_STATE, &[BR_STATE_DISABLED]));
        });
    });
    requests.acknowledge();
    match socket.send(&requests) {
        Err(refused) if refused.errno() != Errno::NODEV => Err(Error::kernel(refused, host_name)),
        _ => Ok(()),
    }
}

/// The largest packet that gets from this host to the outside without fragmentation, in bytes.
pub(crate) fn outside_mtu(socket: &Socket) -> Result<u32> {
    let mut request = Requests::new();
    request.message(GET_ROUTE, 0, "find default route", |m| {
        m.raw(&[AF_INET, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        // RTA_DST: any address of the Internet stands for all. Nothing is sent to it.
        m.bytes(1, &[1, 1, 1, 1]);
    });
    let (mut interface, mut route_mtu) = (None, None);
    let answer = socket.query(&request, |payload| {
        let attributes = Attributes::after(ROUTE_HEADER, payload);
        interface = attributes.number(4);
        // RTA_METRICS, RTAX_MTU
        route_mtu = attributes.find(8).and_then(|metrics| Attributes::after(0, metrics).number(2));
    });
    match (answer, interface) {
        // A host without a way out.
        (Err(_), _) | (_, None) => Ok(DEFAULT_MTU),
        (Ok(()), Some(index)) => {
            let link_mtu = query_link(socket, "", index)?.map_or(DEFAULT_MTU, |link| link.mtu);
            // 68 is the least IPv4 allows (RFC 791), 65535 the most veth does; loopback says 65536.
            Ok(route_mtu.filter(|&mtu| mtu != 0).unwrap_or(link_mtu).clamp(68, 65535))
        }
    }
}

/// Every subnet that this host has an address in or a route to.
pub(crate) fn used_subnets(socket: &Socket) -> Result<Vec<Subnet>> {
    let mut used = Vec::new();
    let mut dump = |kind, action, header: &[u8]| {
        let mut request = Requests::new();
        request.message(kind, DUMP, action, |m| m.raw(header));
        let answer = socket.query(&request, |payload| {
            let Some(&prefix_len) = payload.get(1) else { return };
            // IFA_ADDRESS and RTA_DST are both 1; a default route has no destination.
            let attributes = Attributes::after(header.len(), payload);
            if let Some(address) = attributes.find(1).and_then(|a| <[u8; 4]>::try_from(a).ok())
                && prefix_len != 0
            {
                used.push(Subnet::containing(address.into(), prefix_len));
            }
        });
        answer.map_err(|refused| Error::kernel(refused, "the host"))
    };
    dump(GET_ROUTE, "list routes", &[AF_INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..ROUTE_HEADER])?;
    dump(GET_ADDRESS, "list addresses", &[AF_INET, 0, 0, 0, 0, 0, 0, 0][..ADDRESS_HEADER])?;
    Ok(used)
}

/// Writes a setting of the calling thread's network namespace.
fn set_sysctl(name: &str, value: &'static str) -> Result<()> {
    let path = format!("/proc/sys/{name}");
    fs::write(&path, value).map_err(|source| Error::Setting { path, value, source })
}

/// No IPv6 on a bridge: there is no firewall for it, and link-local addresses would connect containers and host past
/// the one for IPv4.
fn set_ipv6_sysctl(interface: &str) -> Result<()> {
    match set_sysctl(&format!("net/ipv6/conf/{interface}/disable_ipv6"), "1") {
        // A kernel without IPv6.
        Err(Error::Setting { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Whether the next interfaces of a namespace come without IPv6.
const WITHOUT_IPV6: &str = "/proc/sys/net/ipv6/conf/default/disable_ipv6";

fn setting_failed(value: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Setting { path: WITHOUT_IPV6.into(), value, source }
}

/// The same for what is made in the calling thread's network namespace from now on. Gives the setting when it was
/// changed.
fn no_ipv6() -> Result<Option<File>> {
    let setting = match File::options().read(true).write(true).open(WITHOUT_IPV6) {
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(setting_failed("1"))?,
    };
    let mut old = [0; 2];
    let length = setting.read_at(&mut old, 0).map_err(setting_failed("1"))?;
    if !old[..length].starts_with(b"0") {
        return Ok(None);
    }
    setting.write_all_at(b"1", 0).map_err(setting_failed("1"))?;
    Ok(Some(setting))
}
