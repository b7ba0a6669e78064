//! The monitor owns the container: whoever else dies changes nothing, and when it dies itself the rest tells the truth.

use crate::host::{self, Host, eventually, kill};
use rustix::process::Signal;
use std::fs;

#[test]
fn killing_the_client_changes_nothing() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let mut run = host
        .tare(&["run", "-i", "--name", "kept", &image, "sh", "-c", "echo ready; while :; do sleep 0.1; done"])
        .spawn();
    run.stdout.expect("ready\n");
    let pid = host.pid("kept");
    run.signal(Signal::KILL);
    run.wait();
    assert_eq!(host.inspect("kept", "/State/Running"), true);
    assert_eq!(host.pid("kept"), pid);
    assert_eq!(host.tare(&["exec", "kept", "echo", "alive"]).ok(), "alive");
    assert_eq!(host.tare(&["logs", "kept"]).ok(), "ready");
    host.tare(&["stop", "-t", "0", "kept"]).ok();
    assert_eq!(host.inspect("kept", "/State/ExitCode"), 137);
}

#[test]
fn a_monitor_belongs_to_nobody() {
    let Some(host) = Host::new() else { return };
    host.sleeper("free", &[]);
    let monitor = host.monitor("free");
    let stat = fs::read_to_string(format!("/proc/{monitor}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let (session, terminal) = (fields[3], fields[4]);
    assert_eq!((session, terminal), (monitor.to_string().as_str(), "0"), "a session of its own, without a terminal");
    let threads = fs::read_dir(format!("/proc/{monitor}/task")).unwrap().count();
    assert_eq!(threads, 1);
    let folder = fs::read_link(format!("/proc/{monitor}/cwd")).unwrap();
    assert_eq!(folder.to_str(), Some("/"), "it holds nobody's folder");
    // systemd kills what is left in the cgroup of a service or login that ends.
    let cgroups = fs::read_to_string(format!("/proc/{monitor}/cgroup")).unwrap();
    assert_eq!(cgroups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/tare/monitors"), "/tare/monitors");
}

#[test]
fn a_killed_monitor_leaves_a_truthful_ps_and_a_whole_rm() {
    let Some(host) = Host::new() else { return };
    host.sleeper("orphan", &["-p", "3000:80"]);
    let (monitor, pid) = (host.monitor("orphan"), host.pid("orphan"));
    kill(monitor, Signal::KILL);
    eventually("the monitor is gone", || !fs::exists(format!("/proc/{monitor}")).unwrap());
    // Whoever inherits it decides when it stops being a zombie.
    let runs = || {
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| stat.contains("(sleep)") && !stat.contains(") Z "))
    };
    assert!(runs());
    let status = || host.tare(&["ps", "-a", "--format", "{{.Status}}"]).ok();
    assert!(status().starts_with("Up") && status().ends_with("(unmonitored)"), "{}", status());
    let refused = host.tare(&["exec", "orphan", "true"]).fails(1);
    assert!(refused.stderr.contains("has lost its monitor") && refused.stderr.contains("tare restart"), "{refused:?}");
    // A new one comes with a restart.
    host.tare(&["restart", "-t", "0", "orphan"]).ok();
    host.tare(&["exec", "orphan", "true"]).ok();
    let (monitor, pid) = (host.monitor("orphan"), host.pid("orphan"));
    kill(monitor, Signal::KILL);
    eventually("the monitor is gone", || !fs::exists(format!("/proc/{monitor}")).unwrap());
    let runs = || {
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| stat.contains("(sleep)") && !stat.contains(") Z "))
    };
    assert_eq!(host.tare(&["rm", "-f", "orphan"]).ok(), "orphan");
    eventually("rm -f leaves no process", || !runs());
    host.assert_clean();
    // Name and port are free again.
    host.sleeper("orphan", &["-p", "3000:80"]);
}

#[test]
fn a_killed_container_is_seen_at_once() {
    let Some(host) = Host::new() else { return };
    host.sleeper("victim", &["--rm"]);
    kill(host.pid("victim"), Signal::KILL);
    eventually("it is gone", || host.tare(&["ps", "-a", "-q"]).ok().is_empty());
    host.assert_clean();
}

#[test]
fn children_of_the_first_process_end_with_it() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let script = "sleep 1000 & sleep 1000 & setsid sleep 1000 & exit 2";
    host.tare(&["run", "--rm", &image, "sh", "-c", script]).fails(2);
    host.assert_clean();
}

#[test]
fn a_long_path_to_the_run_folder_is_no_problem() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    // Longer than the 107 bytes that the address of a unix socket holds.
    let run_root = host.run_root().join("l".repeat(100)).display().to_string();
    let root = host.root().display().to_string();
    let program = host::program().display().to_string();
    let tare =
        |arguments: &[&str]| host.command(&program, &[&["--root", &root, "--run-root", &run_root], arguments].concat());
    tare(&["run", "-d", "--name", "far", &image, "sleep", "1000"]).ok();
    assert_eq!(tare(&["exec", "far", "echo", "reached"]).ok(), "reached");
    tare(&["rm", "-f", "far"]).ok();
}

#[test]
fn a_shutdown_of_the_machine_stops_containers_in_order() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let handler = "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    host.tare(&["run", "-d", "--name", "polite", &image, "sh", "-c", handler]).ok();
    host.tare(&["run", "-d", "--name", "deaf", "--stop-timeout", "0", &image, "sleep", "1000"]).ok();
    eventually("it listens", || host.tare(&["logs", "polite"]).ok() == "ready");
    // What the end of a machine sends to all processes.
    for name in ["polite", "deaf"] {
        kill(host.monitor(name), Signal::TERM);
    }
    assert_eq!(host.tare(&["wait", "polite", "deaf"]).ok(), "9\n137");
    assert_eq!(host.tare(&["logs", "polite"]).ok(), "ready\nbye");
    host.tare(&["rm", "polite", "deaf"]).ok();
    host.assert_clean();
}
