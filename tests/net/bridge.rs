//! The default network.

use crate::host::Host;

#[test]
fn containers_have_addresses_and_reach_each_other_and_the_host() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let serve = "mkdir /tmp/www; echo served >/tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www";
    host.tare(&["run", "-d", "--name", "server", &image, "sh", "-c", serve]).ok();
    let address = host.inspect("server", "/NetworkSettings/Networks/bridge/IPAddress").as_str().unwrap().to_owned();
    assert_eq!(host.get(&format!("http://{address}:8080/")), "served\n");
    let from_container =
        host.tare(&["run", "--rm", &image, "wget", "-q", "-O", "-", &format!("http://{address}:8080/")]).ok();
    assert_eq!(from_container, "served");
    let gateway = host.inspect("server", "/NetworkSettings/Networks/bridge/Gateway").as_str().unwrap().to_owned();
    let routes = host.tare(&["exec", "server", "ip", "route"]).ok();
    assert!(routes.contains(&format!("default via {gateway} dev eth0")), "{routes}");
    host.tare(&["exec", "server", "ping", "-c", "1", "-W", "5", &gateway]).ok();
    let hosts = host.tare(&["exec", "server", "cat", "/etc/hosts"]).ok();
    assert!(hosts.lines().any(|line| line.starts_with(&address)), "{hosts}");
    host.tare(&["exec", "server", "test", "-s", "/etc/resolv.conf"]).ok();
}

#[test]
fn addresses_are_not_given_twice() {
    let Some(host) = Host::new() else { return };
    let addresses: std::collections::BTreeSet<String> = (0..5)
        .map(|number| {
            let name = format!("c{number}");
            host.sleeper(&name, &[]);
            host.inspect(&name, "/NetworkSettings/Networks/bridge/IPAddress").as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(addresses.len(), 5, "{addresses:?}");
}
