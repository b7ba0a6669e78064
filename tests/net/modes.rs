//! `--network`.

use crate::host::Host;

#[test]
fn none_has_loopback_only() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let run = |script: &str| host.tare(&["run", "--rm", "--network", "none", &image, "sh", "-c", script]);
    assert_eq!(run("ls /sys/class/net").ok(), "lo");
    assert!(run("ip link show lo").ok().contains("UP"));
    assert_eq!(run("ip route").ok(), "");
    run("ping -c 1 -W 2 127.0.0.1 >/dev/null").ok();
}

#[test]
fn host_is_the_hosts() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    use std::os::unix::fs::MetadataExt;
    let expected = std::fs::metadata(host.network_namespace()).unwrap().ino();
    let seen = host.tare(&["run", "--rm", "--network", "host", &image, "readlink", "/proc/self/ns/net"]).ok();
    assert_eq!(seen, format!("net:[{expected}]"));
    let warned = host.tare(&["run", "--rm", "--network", "host", "-p", "3000:80", &image, "true"]).output();
    assert!(warned.code == 0 && warned.stderr.contains("Published ports are discarded"), "{warned:?}");
    // It may not change the host's settings.
    host.tare(&["run", "--rm", "--network", "host", &image, "ip", "link", "set", "lo", "down"]).output();
    assert!(host.command("ip", &["link", "show", "lo"]).ok().contains("UP"));
}

#[test]
fn unknown_networks_are_refused() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let refused = host.tare(&["run", "--rm", "--network", "nowhere", &image, "true"]).fails(125);
    assert!(refused.stderr.contains("network nowhere not found"), "{}", refused.stderr);
    host.assert_clean();
}
