//! Containers on a real bridge, judged by the kernel, `ip`, `nft` and TCP connections.

#[cfg(test)]
mod host;

use host::{Container, FIRST, GATEWAY, HOST, Host, NEIGHBOUR, ask, ask_udp, chain, open, output, run, serve};
use std::{
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::fd::AsFd,
};
use tare_net::{Attach, Error};
use tare_spec::{ContainerId, PortMapping, Protocol};
use tare_sys::network_namespace::{self, within};

#[test]
fn a_container_gets_address_route_and_the_mtu_of_the_way_out() {
    let Some(host) = Host::enter() else { return };
    run("ip link set out0 mtu 1400");
    let container = host.attach(0xa1, &[]);
    assert_eq!((container.attached.address, container.attached.prefix_len), (FIRST, 16));
    assert_eq!((container.attached.gateway, container.attached.mac.as_str()), (GATEWAY, "02:42:ac:11:00:02"));
    container.inside(|| {
        let eth0 = output("ip addr show eth0");
        for part in ["mtu 1400", "02:42:ac:11:00:02", "inet 172.17.0.2/16 brd 172.17.255.255", "state UP"] {
            assert!(eth0.contains(part), "{part}: {eth0}");
        }
        assert!(!eth0.contains("inet6"), "{eth0}");
        let settings =
            output("cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6 /proc/sys/net/ipv6/conf/default/disable_ipv6");
        assert_eq!(settings.split_whitespace().collect::<Vec<_>>(), ["1", "0"], "of eth0 only");
        assert_eq!(output("ip route show default").trim(), "default via 172.17.0.1 dev eth0");
        assert!(output("ip addr show lo").contains("inet 127.0.0.1/8"));
    });
    let server = within(host.neighbour.as_fd(), || TcpListener::bind((NEIGHBOUR, 0)).unwrap()).unwrap();
    let port = server.local_addr().unwrap().port();
    serve(server, "neighbour".into());
    assert_eq!(container.ask(NEIGHBOUR, port).unwrap(), format!("neighbour {HOST}"), "masqueraded");
    let other = host.attach(0xa2, &[]);
    other.serve(80);
    assert_eq!(container.ask(other.attached.address, 80).unwrap(), "a2 172.17.0.2", "direct");
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    let Some(host) = Host::enter() else { return };
    // The strictest check of source addresses, which some distributions set.
    run("sysctl -qw net.ipv4.conf.all.rp_filter=1");
    let server = host.attach(0xb1, &["8080:80", "127.0.0.1:8081:80", "192.0.2.2:8082:80"]);
    server.serve(80);
    let other = host.attach(0xb2, &[]);
    let neighbour = |address, port| within(host.neighbour.as_fd(), || ask(address, port)).unwrap();

    assert_eq!(ask(Ipv4Addr::LOCALHOST, 8080).unwrap(), format!("b1 {GATEWAY}"), "host, loopback");
    assert_eq!(ask(Ipv4Addr::LOCALHOST, 8081).unwrap(), format!("b1 {GATEWAY}"), "host, loopback only");
    assert_eq!(ask(HOST, 8080).unwrap(), format!("b1 {HOST}"), "host, its own address");
    assert_eq!(ask(HOST, 8082).unwrap(), format!("b1 {HOST}"), "host, the one address");
    assert_eq!(ask(FIRST, 80).unwrap(), format!("b1 {GATEWAY}"), "host, container's address");
    assert_eq!(neighbour(HOST, 8080).unwrap(), format!("b1 {NEIGHBOUR}"), "another host");
    assert_eq!(neighbour(HOST, 8082).unwrap(), format!("b1 {NEIGHBOUR}"), "another host, the one address");
    for client in [&other, &server] {
        for address in [GATEWAY, HOST] {
            assert!(client.ask(address, 8080).unwrap().starts_with("b1 "), "{:?} to {address}", client.id);
        }
    }
    assert_eq!(ask(HOST, 8081), None, "published on 127.0.0.1 only");
    assert_eq!(ask(Ipv4Addr::LOCALHOST, 8082), None, "published on 192.0.2.2 only");
}

/// moby#22054 and its family, CVE-2020-8558.
#[test]
fn what_is_published_on_loopback_is_reached_by_no_other_host() {
    let Some(host) = Host::enter() else { return };
    let container = host.attach(0xc1, &["127.0.0.1:8080:80"]);
    container.serve(80);
    serve(TcpListener::bind((Ipv4Addr::LOCALHOST, 9000)).unwrap(), "host's own".into());
    // The worst an administrator can have set.
    run("sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.out0.rp_filter=0");
    assert!(ask(Ipv4Addr::LOCALHOST, 8080).is_some());
    let neighbour = |address, port| within(host.neighbour.as_fd(), || ask(address, port)).unwrap();
    let targets =
        [(HOST, 8080), (Ipv4Addr::LOCALHOST, 8080), (Ipv4Addr::LOCALHOST, 9000), (FIRST, 80), (GATEWAY, 8080)];
    for (address, port) in targets {
        assert_eq!(neighbour(address, port), None, "{address}:{port}");
    }
    // A container must not reach the host's loopback through the bridge either.
    container.inside(|| {
        run("ip addr flush dev lo");
        run("sysctl -qw net.ipv4.conf.all.route_localnet=1");
        run("ip route add 127.0.0.0/8 via 172.17.0.1 src 172.17.0.2");
        assert_eq!(ask(Ipv4Addr::LOCALHOST, 9000), None);
    });

    // The test is tested: without the guard the same probes get through.
    let table = host.bridge();
    run(&format!("nft flush chain ip {table} forward"));
    assert_eq!(neighbour(FIRST, 80), None, "one of two defences is enough");
    run(&format!("nft flush chain ip {table} guard"));
    assert!(neighbour(FIRST, 80).is_some());
    assert!(neighbour(Ipv4Addr::LOCALHOST, 9000).is_some());
    assert!(container.ask(Ipv4Addr::LOCALHOST, 9000).is_some());
}

#[test]
fn routed_packets_do_not_get_past_the_forward_chain() {
    let Some(host) = Host::enter() else { return };
    let container = host.attach(0xc2, &["8080:80"]);
    container.serve(80);
    let table = host.bridge();
    run(&format!("nft flush chain ip {table} guard"));
    let neighbour = |address, port| within(host.neighbour.as_fd(), || ask(address, port)).unwrap();
    assert_eq!(neighbour(FIRST, 80), None);
    assert!(neighbour(HOST, 8080).is_some());
}

#[test]
fn a_taken_port_names_its_holder_and_leaves_nothing() {
    let Some(host) = Host::enter() else { return };
    let first = host.attach(0xd1, &["3000:80"]);
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 4000)).unwrap();
    let before = (host.links(), host.rules(), host.leases(), host.records());

    let error = host.try_attach(0xd2, &["3001:80", "3000:80"]).err().unwrap();
    assert_eq!(error.to_string(), "Bind for 0.0.0.0:3000 failed: port is already allocated");
    assert!(matches!(error, Error::PortAllocated { holder: Some(holder), .. } if holder == first.id));
    let error = host.try_attach(0xd2, &["127.0.0.1:3000:80"]).err().unwrap();
    assert!(matches!(error, Error::PortAllocated { holder: Some(holder), .. } if holder == first.id));
    let error = host.try_attach(0xd2, &["4000:80"]).err().unwrap();
    assert_eq!(error.to_string(), "failed to bind host port 0.0.0.0:4000/tcp: address already in use");
    assert_eq!((host.links(), host.rules(), host.leases(), host.records()), before);

    drop(listener);
    host.attach(0xd2, &["4000:80", "3000:80/udp"]);
    assert_eq!(host.networks.holder_of(Ipv4Addr::LOCALHOST, 3000, Protocol::Tcp), Some(first.id.clone()));
    assert_eq!(host.networks.holder_of(Ipv4Addr::LOCALHOST, 3001, Protocol::Tcp), None);
}

#[test]
fn detach_takes_everything_back_and_may_be_repeated() {
    let Some(host) = Host::enter() else { return };
    let empty = {
        let container = host.attach(0xe1, &[]);
        host.networks.detach(&container.id).unwrap();
        host.rules()
    };
    let mut container = host.attach(0xe1, &["80", "5000-5002:1-3", "127.0.0.1:53:53/udp"]);
    assert_ne!(host.rules(), empty);
    assert_eq!((host.leases(), host.records()), (1, 1));
    // As if one element had been lost.
    let port = container.attached.ports[0].host_port;
    let table = host.bridge();
    run(&format!("nft delete element ip {table} ports {{ tcp . {port} }}"));
    container.attached.reservations.clear();
    for _ in 0..2 {
        host.networks.detach(&container.id).unwrap();
        assert_eq!((host.rules(), host.leases(), host.records()), (empty.clone(), 0, 0));
    }
    // Somebody still has the namespace: its interface leads nowhere, and the address can be another's.
    container.serve(80);
    let next = host.attach(0xe2, &[]);
    assert_eq!(next.attached.address, container.attached.address);
    next.serve(80);
    assert_eq!(ask(FIRST, 80).unwrap(), format!("e2 {GATEWAY}"));
    assert_eq!(container.ask(GATEWAY, 80), None);

    let last = host.attach(0xe3, &[]);
    host.networks.detach(&last.id).unwrap();
    drop(last);
    host.wait_until_gone("vethe3");
    host.networks.detach(&ContainerId::from_random([0; 32])).unwrap();
}

#[test]
fn a_namespace_that_is_gone_is_not_waited_for() {
    let Some(host) = Host::enter() else { return };
    // The same container, started again at once: same address, maybe with the old interface still there.
    for round in 0..5 {
        let container = host.attach(0xe5, &["6000:80"]);
        assert_eq!(container.attached.address, FIRST);
        let server = container.inside(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap());
        let answer = std::thread::spawn(move || drop(server.accept().unwrap()));
        assert_eq!(ask(HOST, 6000).as_deref(), Some(""), "round {round}");
        answer.join().unwrap();
        let id = container.id.clone();
        drop(container);
        host.networks.detach(&id).unwrap();
        assert_eq!((host.leases(), host.records()), (0, 0));
    }
}

#[test]
fn a_failure_at_any_step_is_undone() {
    let Some(host) = Host::enter() else { return };
    let first = host.attach(0xf1, &[]);
    let table = host.bridge();
    let before = (host.links(), host.rules(), host.leases(), host.records());
    let id = ContainerId::from_random([0xf2; 32]);
    // Each time another port: children of other tests may hold a closed one for a moment.
    let attach = |namespace: &std::os::fd::OwnedFd, port: &str| {
        let ports = PortMapping::parse(port).unwrap();
        host.networks.attach(&Attach { container: &id, netns: namespace.as_fd(), ports: &ports })
    };

    // The pair cannot be made.
    let error = attach(&first.namespace, "7001:80").unwrap_err();
    assert!(chain(&error).starts_with("create veth pair for veth"), "{}", chain(&error));
    assert!(chain(&error).contains("File exists"), "{}", chain(&error));
    assert_eq!((host.links(), host.rules(), host.leases(), host.records()), before);

    // The container's end cannot be configured.
    let namespace = network_namespace::create().unwrap();
    within(namespace.as_fd(), || {
        run("ip link add other type veth peer name another");
        run("ip link set other up");
        run("ip route add default dev other");
    })
    .unwrap();
    let error = attach(&namespace, "7002:80").unwrap_err();
    assert_eq!(chain(&error), "add default route for eth0: File exists (os error 17)");
    assert_eq!((host.links(), host.rules(), host.leases(), host.records()), before);

    // The port cannot be published.
    run(&format!("nft add element ip {table} ports {{ tcp . 7000 : 172.17.9.9 . 9 }}"));
    let error = attach(&network_namespace::create().unwrap(), "7000:80").unwrap_err();
    assert_eq!(error.to_string(), "Bind for 0.0.0.0:7000 failed: port is already allocated");
    run(&format!("nft delete element ip {table} ports {{ tcp . 7000 }}"));
    assert_eq!((host.links(), host.rules(), host.leases(), host.records()), before);

    // Twice.
    let error = host.try_attach(0xf1, &[]).err().unwrap();
    assert!(matches!(error, Error::AlreadyAttached { .. }), "{error}");
    assert_eq!((host.links(), host.rules(), host.leases(), host.records()), before);
    attach(&network_namespace::create().unwrap(), "7003:80").unwrap();
}

#[test]
fn ten_at_once_on_a_host_without_a_bridge() {
    let Some(host) = Host::enter() else { return };
    let containers: Vec<Container> = std::thread::scope(|scope| {
        let attaching: Vec<_> = (1..=10)
            .map(|byte: u8| {
                let host = &host;
                scope.spawn(move || {
                    network_namespace::enter(host.namespace.as_fd()).unwrap();
                    // Each with a handle of its own, as processes have.
                    let networks = open(host.root.path());
                    let port = format!("{}:80", 8000 + u16::from(byte));
                    let result = Container::attach(&networks, byte, &[&port]);
                    result.unwrap_or_else(|error| panic!("{}", chain(&error)))
                })
            })
            .collect();
        attaching.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut addresses: Vec<Ipv4Addr> = containers.iter().map(|c| c.attached.address).collect();
    addresses.sort();
    let expected: Vec<Ipv4Addr> = (2..=11).map(|last| Ipv4Addr::new(172, 17, 0, last)).collect();
    assert_eq!(addresses, expected);
    for container in &containers {
        container.serve(80);
        let said = ask(HOST, container.attached.ports[0].host_port).unwrap();
        assert!(said.starts_with(&container.id.as_str()[..2]), "{said}");
    }
    std::thread::scope(|scope| {
        for container in &containers {
            let host = &host;
            scope.spawn(move || {
                network_namespace::enter(host.namespace.as_fd()).unwrap();
                host.networks.detach(&container.id).unwrap();
            });
        }
    });
    assert_eq!((host.leases(), host.records()), (0, 0));
    drop(containers);
}

#[test]
fn rules_that_somebody_flushed_come_back_with_all_ports() {
    let Some(host) = Host::enter() else { return };
    let first = host.attach(0x11, &["8080:80", "127.0.0.1:8081:80"]);
    first.serve(80);
    let before = host.rules();
    run("nft flush ruleset");
    assert_eq!(ask(HOST, 8080), None);
    let second = host.attach(0x12, &[]);
    assert!(ask(HOST, 8080).is_some() && ask(Ipv4Addr::LOCALHOST, 8081).is_some());
    host.networks.detach(&second.id).unwrap();
    assert_eq!(host.rules(), before);
}

#[test]
fn subnets_of_the_host_are_avoided() {
    let Some(host) = Host::enter() else { return };
    run("ip route add 172.17.5.0/24 dev out0");
    run("ip addr add 172.18.0.9/30 dev out0");
    let container = host.attach(0x21, &[]);
    assert_eq!(container.attached.address, Ipv4Addr::new(172, 19, 0, 2));
    // A second root on the same host.
    let other = open(&host.root.path().join("other"));
    let second = Container::attach(&other, 0x22, &[]).unwrap();
    assert_eq!(second.attached.address, Ipv4Addr::new(172, 20, 0, 2));
    second.serve(80);
    assert_eq!(container.ask(second.attached.address, 80), None, "networks are apart");
}

#[test]
fn an_instance_can_be_removed_when_nobody_uses_it() {
    let Some(host) = Host::enter() else { return };
    let container = host.attach(0x31, &["8080:80"]);
    let errors = host.networks.remove_instance().unwrap_err();
    assert!(matches!(errors[..], [Error::NetworkInUse { containers: 1, .. }]));
    host.networks.detach(&container.id).unwrap();
    host.networks.remove_instance().unwrap();
    assert_eq!(host.rules(), String::new());
    drop(container);
    host.wait_until_gone("veth");
    assert!(host.links().is_empty());
    assert!(!host.root.path().join("root/networks/bridge.json").exists());
    // And used again, by who opens it again.
    Container::attach(&open(host.root.path()), 0x32, &[]).unwrap();
}

#[test]
fn a_crash_between_the_steps_is_cleaned_up() {
    let Some(host) = Host::enter() else { return };
    let mut container = host.attach(0x41, &["8080:80"]);
    // Before the record was written.
    let id = ContainerId::from_random([0x42; 32]);
    let lease = host.root.path().join("run/net/leases/bridge/172.17.0.3");
    std::os::unix::fs::symlink(id.as_str(), &lease).unwrap();
    host.networks.detach(&id).unwrap();
    assert!(!lease.is_symlink());
    // A bridge that was never finished, and none of its rules.
    container.attached.reservations.clear();
    host.networks.detach(&container.id).unwrap();
    let bridge = host.bridge();
    run("nft flush ruleset");
    run(&format!("ip link set {bridge} down"));
    run(&format!("ip addr flush dev {bridge}"));
    let container = host.attach(0x43, &["8080:80"]);
    container.serve(80);
    assert!(ask(Ipv4Addr::LOCALHOST, 8080).is_some());
}

#[test]
fn datagrams_follow_a_port_to_its_new_container() {
    let Some(host) = Host::enter() else { return };
    let client = within(host.neighbour.as_fd(), || UdpSocket::bind((NEIGHBOUR, 0)).unwrap()).unwrap();
    assert_eq!(ask_udp(&client, HOST, 5353), None);
    let mut first = host.attach(0x51, &["5353:53/udp"]);
    first.serve_udp(53);
    assert_eq!(ask_udp(&client, HOST, 5353).as_deref(), Some("51"), "sent before the port was published");
    let _second = host.attach(0x52, &[]);
    first.attached.reservations.clear();
    host.networks.detach(&first.id).unwrap();
    let _filler = host.attach(0x53, &[]);
    let third = host.attach(0x54, &["5353:53/udp"]);
    third.serve_udp(53);
    assert_eq!(ask_udp(&client, HOST, 5353).as_deref(), Some("54"), "the same client's socket");
}

#[test]
fn loopback_comes_up_alone() {
    let Some(host) = Host::enter() else { return };
    let namespace = network_namespace::create().unwrap();
    host.networks.loopback_up(namespace.as_fd()).unwrap();
    within(namespace.as_fd(), || {
        assert!(output("ip addr show lo").contains("inet 127.0.0.1/8"));
        assert!(!output("ip -o link").contains("eth0"));
    })
    .unwrap();
    assert!(host.links().is_empty());
}

#[test]
fn a_foreign_interface_is_left_alone() {
    let Some(host) = Host::enter() else { return };
    let name = {
        host.attach(0x61, &[]);
        host.networks.detach(&ContainerId::from_random([0x61; 32])).unwrap();
        let name = host.bridge();
        host.networks.remove_instance().unwrap();
        name
    };
    run(&format!("ip link add {name} type veth peer name another"));
    let networks = open(host.root.path());
    let error = Container::attach(&networks, 0x62, &[]).err().unwrap();
    assert_eq!(error.to_string(), format!("interface {name} exists and is not a bridge"));
    assert_eq!(host.leases(), 0);
}
