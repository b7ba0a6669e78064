//! A host for tests: a network namespace with a neighbour, and empty namespaces that stand for containers.
//! Everything in them goes with their descriptors.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    process::Command,
    time::{Duration, Instant},
};
use tare_net::{Attach, Attached, Error, Networks};
use tare_spec::{ContainerId, PortMapping};
use tare_sys::{netlink::Socket, network_namespace};

pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub(crate) const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The network's first addresses in an empty host.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);
pub(crate) const FIRST: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);

/// How long a probe waits that is to fail because packets are dropped. A success takes below 1 ms.
const PROBE: Duration = Duration::from_millis(400);
/// How long to wait for what happens at once on a machine that is not busy.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Host {
    pub(crate) namespace: OwnedFd,
    /// Another machine on the host's network, which routes containers' addresses and even 127.0.0.0/8 to it.
    pub(crate) neighbour: OwnedFd,
    pub(crate) root: tempfile::TempDir,
    pub(crate) networks: Networks,
}

impl Host {
    /// Makes a host and moves the calling thread, that is the test, into it. None without root, unless
    /// `TARE_REQUIRE_ROOT` is set.
    pub(crate) fn enter() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            let required = std::env::var_os("TARE_REQUIRE_ROOT").is_some_and(|value| value == "1");
            assert!(!required, "TARE_REQUIRE_ROOT=1, but this is not root");
            return None;
        }
        let namespace = network_namespace::create().unwrap();
        let neighbour = network_namespace::create().unwrap();
        network_namespace::enter(namespace.as_fd()).unwrap();
        run("ip link set lo up");
        run("ip link add out0 type veth peer name out1");
        move_link("out1", &neighbour);
        run("ip addr add 192.0.2.2/24 dev out0");
        run("ip link set out0 up");
        run("ip route add default via 192.0.2.1");
        // No loopback there: 127.0.0.0/8 is somewhere else for that machine.
        network_namespace::within(neighbour.as_fd(), || {
            run("ip addr add 192.0.2.1/24 dev out1");
            run("ip link set out1 up");
            std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
            run("ip route add 127.0.0.0/8 via 192.0.2.2");
            run("ip route add 172.16.0.0/12 via 192.0.2.2");
        })
        .unwrap();
        for (namespace, interface) in [(&namespace, "out0"), (&neighbour, "out1")] {
            let settle = || Socket::route().unwrap().settle_carrier(interface).unwrap();
            assert!(network_namespace::within(namespace.as_fd(), settle).unwrap());
        }
        let root = tempfile::tempdir().unwrap();
        let networks = open(root.path());
        Some(Self { namespace, neighbour, root, networks })
    }

    pub(crate) fn attach(&self, byte: u8, ports: &[&str]) -> Container {
        let start = Instant::now();
        loop {
            match self.try_attach(byte, ports) {
                Ok(container) => return container,
                // A child of another test that has not finished its exec holds what this one has just closed.
                Err(Error::PortInUse { .. }) if start.elapsed() < PATIENCE => std::thread::yield_now(),
                Err(error) => panic!("attach: {}", chain(&error)),
            }
        }
    }

    pub(crate) fn try_attach(&self, byte: u8, ports: &[&str]) -> Result<Container, Error> {
        Container::attach(&self.networks, byte, ports)
    }

    /// The elements of both maps, as nft lists them.
    pub(crate) fn rules(&self) -> String {
        output("nft list ruleset")
    }

    /// Interfaces other than the ones every host has.
    pub(crate) fn links(&self) -> Vec<String> {
        let all = output("ip -o link");
        let names = all.lines().filter_map(|line| line.split(": ").nth(1)?.split('@').next());
        names.filter(|name| name.starts_with("veth") || name.starts_with("tare")).map(str::to_owned).collect()
    }

    /// The bridge's name, which is also the table's.
    pub(crate) fn bridge(&self) -> String {
        self.links().into_iter().find(|name| name.starts_with("tare")).unwrap()
    }

    /// Waits until no interface has a name that begins so: namespaces end behind our back.
    pub(crate) fn wait_until_gone(&self, prefix: &str) {
        let start = Instant::now();
        while self.links().iter().any(|name| name.starts_with(prefix)) {
            assert!(start.elapsed() < PATIENCE, "{prefix}: {:?}", self.links());
            std::thread::yield_now();
        }
    }

    pub(crate) fn leases(&self) -> usize {
        std::fs::read_dir(self.root.path().join("run/net/leases/bridge")).unwrap().count()
    }

    pub(crate) fn records(&self) -> usize {
        std::fs::read_dir(self.root.path().join("run/net/containers")).unwrap().count()
    }
}

pub(crate) fn open(folder: &std::path::Path) -> Networks {
    Networks::open(&folder.join("root"), &folder.join("run")).unwrap()
}

fn move_link(name: &str, namespace: &OwnedFd) {
    use std::os::fd::AsRawFd;
    // A path to the descriptor is a name of the namespace for ip: it opens what is below /run/netns or a path.
    let path = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
    run(&format!("ip link set {name} netns {path}"));
}

/// An empty namespace with an interface of ours.
pub(crate) struct Container {
    pub(crate) id: ContainerId,
    pub(crate) namespace: OwnedFd,
    pub(crate) attached: Attached,
}

impl Container {
    pub(crate) fn attach(networks: &Networks, byte: u8, ports: &[&str]) -> Result<Self, Error> {
        let namespace = network_namespace::create().unwrap();
        let id = ContainerId::from_random([byte; 32]);
        let ports: Vec<PortMapping> = ports.iter().flat_map(|port| PortMapping::parse(port).unwrap()).collect();
        let attached = networks.attach(&Attach { container: &id, netns: namespace.as_fd(), ports: &ports })?;
        Ok(Self { id, namespace, attached })
    }

    pub(crate) fn inside<T>(&self, work: impl FnOnce() -> T) -> T {
        network_namespace::within(self.namespace.as_fd(), work).unwrap()
    }

    /// Serves TCP until the test ends: says the container's first byte and the client's address.
    pub(crate) fn serve(&self, port: u16) {
        let name = self.id.as_str()[..2].to_owned();
        serve(self.inside(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()), name);
    }

    /// Answers each datagram with the container's first byte.
    pub(crate) fn serve_udp(&self, port: u16) {
        let name = self.id.as_str()[..2].to_owned();
        let socket = self.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, client)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(name.as_bytes(), client);
            }
        });
    }

    /// What this container, as a client, hears from a server.
    pub(crate) fn ask(&self, address: Ipv4Addr, port: u16) -> Option<String> {
        self.inside(|| ask(address, port))
    }
}

pub(crate) fn serve(listener: TcpListener, name: String) {
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let client = connection.peer_addr().unwrap().ip();
            let _ = connection.write_all(format!("{name} {client}").as_bytes());
        }
    });
}

/// What a server says to the calling thread's namespace; none if it cannot be reached.
pub(crate) fn ask(address: Ipv4Addr, port: u16) -> Option<String> {
    let mut connection = TcpStream::connect_timeout(&SocketAddr::from((address, port)), PROBE).ok()?;
    let mut said = String::new();
    connection.set_read_timeout(Some(PROBE)).unwrap();
    connection.read_to_string(&mut said).ok()?;
    Some(said)
}

pub(crate) fn ask_udp(socket: &UdpSocket, address: Ipv4Addr, port: u16) -> Option<String> {
    socket.set_read_timeout(Some(PROBE)).unwrap();
    socket.send_to(b"?", (address, port)).unwrap();
    let mut buffer = [0; 64];
    let (length, _) = socket.recv_from(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

pub(crate) fn output(command: &str) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn run(command: &str) {
    output(command);
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
