//! Published ports, tried from the host and from another host.

use crate::host::Host;

const SERVE: &str = "mkdir /tmp/www; echo served >/tmp/www/index.html; exec httpd -f -p 80 -h /tmp/www";

/// Another host: a network namespace on a wire to this one, 198.51.100.2 to its 198.51.100.1.
fn neighbour(host: &Host) -> Host {
    let other = Host::new().expect("the first host exists");
    let (here, there) = (host.network_namespace(), other.network_namespace());
    let there_name = there.file_name().unwrap().to_str().unwrap().to_owned();
    assert_ne!(here, there);
    host.command("ip", &["link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", &there_name]).ok();
    for (host, address) in [(host, "198.51.100.1/24"), (&other, "198.51.100.2/24")] {
        host.command("ip", &["address", "add", address, "dev", "wire"]).ok();
        host.command("ip", &["link", "set", "wire", "up"]).ok();
    }
    other
}

/// The wire is a veth as well: it must not be taken for a container's.
fn unplug(host: &Host) {
    host.command("ip", &["link", "del", "wire"]).ok();
}

#[test]
fn a_published_port_is_reached_from_everywhere_it_is_published_to() {
    let Some(host) = Host::new() else { return };
    let other = neighbour(&host);
    let image = host.pull("busybox");
    host.tare(&["run", "-d", "--name", "open", "-p", "3000:80", &image, "sh", "-c", SERVE]).ok();
    host.tare(&["run", "-d", "--name", "local", "-p", "127.0.0.1:3001:80", &image, "sh", "-c", SERVE]).ok();
    assert_eq!(host.get("http://127.0.0.1:3000/"), "served\n");
    assert_eq!(host.get("http://198.51.100.1:3000/"), "served\n");
    assert_eq!(host.get("http://127.0.0.1:3001/"), "served\n");
    assert_eq!(other.get("http://198.51.100.1:3000/"), "served\n");
    // Row 22 of the table of attacks: 127.0.0.1 means this host only, even for one that sends to the address of the container itself
    // or to 127.0.0.1 through the wire.
    let refused = |url: &str| other.command("curl", &["-fsS", "--max-time", "2", url]).output().code != 0;
    assert!(refused("http://198.51.100.1:3001/"), "published on 127.0.0.1 only");
    let address = host.inspect("local", "/NetworkSettings/Networks/bridge/IPAddress").as_str().unwrap().to_owned();
    other.command("ip", &["route", "add", &address, "via", "198.51.100.1"]).ok();
    assert!(refused(&format!("http://{address}/")), "the container's own address is not reachable from outside");
    other.command("sysctl", &["-qw", "net.ipv4.conf.all.route_localnet=1"]).ok();
    other.command("ip", &["address", "del", "127.0.0.1/8", "dev", "lo"]).ok();
    other.command("ip", &["route", "add", "127.0.0.1", "via", "198.51.100.1", "src", "198.51.100.2"]).ok();
    assert!(refused("http://127.0.0.1:3001/"), "a packet for 127.0.0.1 that comes over a wire is no local one");
    // A container reaches it through the host's address, the server itself too.
    let from_container =
        |name: &str| host.tare(&["exec", name, "wget", "-q", "-O", "-", "http://198.51.100.1:3000/"]).ok();
    assert_eq!(from_container("local"), "served");
    assert_eq!(from_container("open"), "served");
    unplug(&host);
}

#[test]
fn the_kernel_chooses_a_port_when_none_is_named() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    host.tare(&["run", "-d", "--name", "any", "-p", "80", &image, "sh", "-c", SERVE]).ok();
    let port = host.inspect("any", "/NetworkSettings/Ports/80~1tcp/0/HostPort").as_str().unwrap().to_owned();
    assert_ne!(port, "80");
    assert_eq!(host.get(&format!("http://127.0.0.1:{port}/")), "served\n");
    let table = host.tare(&["ps", "--format", "{{.Ports}}"]).ok();
    assert!(table.contains(&format!("0.0.0.0:{port}->80/tcp")), "{table}");
}

#[test]
fn ranges_and_udp() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("web");
    let echo = "use Socket; socket(S, PF_INET, SOCK_DGRAM, 17); bind(S, sockaddr_in(53, INADDR_ANY)); \
                while ($from = recv(S, $_, 999, 0)) { send(S, $_, 0, $from) }";
    let ports = ["-p", "3000-3002:80-82", "-p", "5353:53/udp"];
    host.tare(&[&["run", "-d", "--name", "mixed"], &ports[..], &[&image, "perl", "-e", echo]].concat()).ok();
    let table = host.tare(&["ps", "--format", "{{.Ports}}"]).ok();
    assert!(table.contains("0.0.0.0:5353->53/udp"), "{table}");
    assert!(table.contains("0.0.0.0:3000-3002->80-82/tcp"), "{table}");
    crate::host::eventually("a datagram comes back", || {
        let command = "exec 3<>/dev/udp/127.0.0.1/5353; echo ping >&3; timeout 1 dd bs=100 count=1 <&3 2>/dev/null";
        host.command("bash", &["-c", command]).output().stdout == "ping\n"
    });
    host.tare(&["rm", "-f", "mixed"]).ok();
    host.assert_clean();
}

#[test]
fn ports_of_a_stopped_container_are_free() {
    let Some(host) = Host::new() else { return };
    host.sleeper("first", &["-p", "3000:80"]);
    host.tare(&["stop", "-t", "0", "first"]).ok();
    host.sleeper("second", &["-p", "3000:80"]);
    let taken = host.tare(&["start", "first"]).fails(1);
    assert!(taken.stderr.contains("port is already allocated"), "{}", taken.stderr);
    host.tare(&["rm", "-f", "second"]).ok();
    host.tare(&["start", "first"]).ok();
}
