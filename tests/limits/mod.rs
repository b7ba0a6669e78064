//! Limits hold, judged by the cgroup files and by what happens.

use crate::host::Host;
use std::fs;
use std::path::PathBuf;

/// The file of a container's cgroup, in whichever hierarchy of version 1 or 2 has it.
fn cgroup_file(host: &Host, container: &str, names: &[&str]) -> String {
    let pid = host.pid(container);
    let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    for line in membership.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap(), parts.next().unwrap());
        let mount = mounts.lines().find_map(|mount| {
            let (point, rest) = (mount.split(' ').nth(4)?, mount.split(" - ").nth(1)?);
            let mut rest = rest.split(' ');
            let (kind, options) = (rest.next()?, rest.nth(1)?);
            let fits = if controllers.is_empty() {
                kind == "cgroup2"
            } else {
                kind == "cgroup" && controllers.split(',').all(|one| options.split(',').any(|option| option == one))
            };
            fits.then(|| PathBuf::from(point))
        });
        let Some(mount) = mount else { continue };
        for name in names {
            if let Ok(text) = fs::read_to_string(mount.join(path.trim_start_matches('/')).join(name)) {
                return text.trim().to_owned();
            }
        }
    }
    panic!("none of {names:?} is in the cgroups of {container}: {membership}");
}

#[test]
fn memory_and_cpu_limits_are_in_the_cgroup() {
    let Some(host) = Host::new() else { return };
    host.sleeper("limited", &["-m", "64m", "--cpus", "0.5"]);
    let memory = cgroup_file(&host, "limited", &["memory.max", "memory.limit_in_bytes"]);
    assert_eq!(memory, (64 << 20).to_string());
    let cpu = cgroup_file(&host, "limited", &["cpu.max", "cpu.cfs_quota_us"]);
    assert!(["50000 100000", "50000"].contains(&cpu.as_str()), "{cpu}");
    assert_eq!(host.inspect("limited", "/HostConfig/Memory"), 64 << 20);
    assert_eq!(host.inspect("limited", "/HostConfig/NanoCpus"), 500_000_000);
}

#[test]
fn a_memory_hog_is_killed_and_the_neighbour_goes_on() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    host.sleeper("neighbour", &[]);
    let hog = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done";
    let killed = host.tare(&["run", "--name", "hog", "-m", "32m", &image, "sh", "-c", hog]).fails(137);
    drop(killed);
    assert_eq!(host.inspect("hog", "/State/OOMKilled"), true);
    assert_eq!(host.inspect("neighbour", "/State/Running"), true);
    assert_eq!(host.tare(&["exec", "neighbour", "echo", "well"]).ok(), "well");
}

#[test]
fn a_limit_also_holds_for_exec() {
    let Some(host) = Host::new() else { return };
    host.sleeper("limited", &["-m", "32m"]);
    let hog = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done";
    host.tare(&["exec", "limited", "sh", "-c", hog]).fails(137);
}

#[test]
fn more_cpus_than_there_are_is_refused() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let refused = host.tare(&["run", "--rm", "--cpus", "9999", &image, "true"]).fails(125);
    assert!(refused.stderr.contains("range of CPUs is from 0.01 to"), "{}", refused.stderr);
    let little = host.tare(&["run", "--rm", "-m", "1m", &image, "true"]).fails(125);
    assert!(little.stderr.contains("Minimum memory limit allowed is 6MB"), "{}", little.stderr);
}
