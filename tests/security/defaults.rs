//! What a container without any flag may do.

use crate::host::Host;
use std::collections::BTreeMap;
use std::fs;

fn status(pid: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

#[test]
fn namespaces_are_its_own() {
    let Some(host) = Host::new() else { return };
    host.sleeper("one", &[]);
    host.sleeper("two", &[]);
    let (one, two) = (host.pid("one"), host.pid("two"));
    let namespace = |pid: &str, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    for kind in ["pid", "mnt", "uts", "ipc", "net", "cgroup"] {
        assert_ne!(namespace(&one.to_string(), kind), namespace("self", kind), "{kind}");
        assert_ne!(namespace(&one.to_string(), kind), namespace(&two.to_string(), kind), "{kind}");
    }
    // A program that exec starts is in the same.
    let inside = host
        .tare(&["exec", "one", "sh", "-c", "for n in pid mnt uts ipc net cgroup; do readlink /proc/self/ns/$n; done"])
        .ok();
    let expected: Vec<String> = ["pid", "mnt", "uts", "ipc", "net", "cgroup"]
        .map(|kind| namespace(&one.to_string(), kind).display().to_string())
        .to_vec();
    assert_eq!(inside.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn capabilities_and_seccomp_are_dockers_defaults() {
    let Some(host) = Host::new() else { return };
    host.sleeper("one", &[]);
    let own = status(host.pid("one"));
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(own[set], "00000000a80425fb", "{set}");
    }
    assert_eq!(own["CapAmb"], "0000000000000000");
    assert_eq!(own["CapInh"], "0000000000000000");
    assert_eq!(own["Seccomp"], "2");
    let inside = host.tare(&["exec", "one", "grep", "-E", "^(CapBnd|Seccomp):", "/proc/self/status"]).ok();
    assert_eq!(inside, "CapBnd:\t00000000a80425fb\nSeccomp:\t2");
    // Another user has none of them.
    host.sleeper("user", &["-u", "1000"]);
    let user = status(host.pid("user"));
    assert_eq!(user["CapEff"], "0000000000000000");
    assert_eq!(user["CapPrm"], "0000000000000000");
    assert_eq!(user["Uid"], "1000\t1000\t1000\t1000");
}

#[test]
fn no_new_privileges_can_be_set() {
    let Some(host) = Host::new() else { return };
    host.sleeper("strict", &["--security-opt", "no-new-privileges"]);
    assert_eq!(status(host.pid("strict"))["NoNewPrivs"], "1");
    let inside = host.tare(&["exec", "strict", "grep", "NoNewPrivs", "/proc/self/status"]).ok();
    assert_eq!(inside, "NoNewPrivs:\t1");
}

#[test]
fn paths_are_masked_or_read_only() {
    let Some(host) = Host::new() else { return };
    host.sleeper("one", &[]);
    let table = fs::read_to_string(format!("/proc/{}/mountinfo", host.pid("one"))).unwrap();
    let mount = |path: &str| table.lines().rfind(|line| line.split(' ').nth(4) == Some(path));
    for path in ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"] {
        if !fs::exists(path).unwrap() {
            continue;
        }
        let line = mount(path).unwrap_or_else(|| panic!("{path} is no mount: {table}"));
        assert!(line.split(' ').nth(5).unwrap().split(',').any(|option| option == "ro"), "{line}");
    }
    for path in [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ] {
        if fs::exists(path).unwrap() {
            assert!(mount(path).is_some(), "{path} is not masked: {table}");
        }
    }
    assert!(mount("/sys").unwrap().split(' ').nth(5).unwrap().starts_with("ro"), "{table}");
    let write = host.tare(&["exec", "one", "sh", "-c", "echo 1 >/proc/sys/kernel/panic"]).output();
    assert_ne!(write.code, 0);
    assert_eq!(
        host.tare(&["exec", "one", "sh", "-c", "cat /proc/keys /proc/timer_list 2>/dev/null | wc -c"]).ok(),
        "0"
    );
    // Only its own mounts: nothing of the host shows.
    assert!(!table.contains(" /work") && !table.contains("/run/netns"), "{table}");
    let processes = host.tare(&["exec", "one", "sh", "-c", "ls /proc | grep -c '^[0-9]'"]).ok();
    assert!(processes.parse::<u32>().unwrap() <= 5, "{processes}");
}

#[test]
fn devices_are_few_and_others_are_refused() {
    let Some(host) = Host::new() else { return };
    host.sleeper("one", &[]);
    let exec = |script: &str| host.tare(&["exec", "one", "sh", "-c", script]);
    let listed = exec("cd /dev; ls -1 | sort | tr '\\n' ' '").ok();
    let allowed = [
        "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout",
        "tty", "urandom", "zero",
    ];
    for device in listed.split_whitespace() {
        assert!(allowed.contains(&device), "{device} in {listed}");
    }
    exec("echo x >/dev/null; head -c 8 /dev/zero /dev/urandom /dev/random /dev/full >/dev/null").ok();
    // mknod is allowed, opening the device of the host's disk is not.
    let disk = exec("mknod /tmp/mem c 1 1 && cat /tmp/mem").output();
    assert_ne!(disk.code, 0);
    assert!(disk.stderr.contains("Operation not permitted"), "{}", disk.stderr);
    exec("mknod /tmp/null c 1 3 && echo x >/tmp/null").ok();
}

#[test]
fn calls_that_a_container_has_no_business_with_are_refused() {
    let Some(host) = Host::new() else { return };
    host.sleeper("one", &[]);
    let refused = |script: &str| {
        let output = host.tare(&["exec", "one", "sh", "-c", script]).output();
        assert_ne!(output.code, 0, "{script}: {output:?}");
    };
    refused("mount -t tmpfs none /tmp");
    refused("umount /proc");
    refused("unshare -m true");
    refused("unshare -U true");
    refused("hostname other");
    refused("insmod /data/plain");
    refused("swapoff -a /data/plain");
    refused("dmesg");
    refused("echo c >/proc/sysrq-trigger");
}

#[test]
fn state_folders_are_the_owners() {
    let Some(host) = Host::new() else { return };
    use std::os::unix::fs::PermissionsExt;
    let fresh = host.folder().join("fresh");
    host.tare_at(&fresh, &["run", "--rm", "hello", "--help"]).output();
    for folder in [fresh, host.run_root()] {
        let mode = fs::metadata(&folder).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", folder.display());
    }
}
