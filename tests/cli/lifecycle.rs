//! create, start, stop, restart, kill, wait, rm.

use crate::host::{self, Host, eventually};
use std::fs;
use std::time::Instant;

#[test]
fn created_then_started_attached() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let id = host.tare(&["create", "--name", "job", "-i", &image, "sh", "-c", "cat; echo done; exit 3"]).ok();
    assert_eq!(host.inspect("job", "/State/Status"), "created");
    assert_eq!(host.inspect("job", "/Id"), id.as_str());
    let first = host.tare(&["start", "-a", "-i", "job"]).input("typed\n").fails(3);
    assert_eq!(first.stdout, "typed\ndone\n");
    assert_eq!(host.inspect("job", "/State/Status"), "exited");
    assert_eq!(host.inspect("job", "/State/ExitCode"), 3);
    // A stopped container can be started again and keeps its files.
    let second = host.tare(&["start", "-a", "-i", "job"]).input("again\n").fails(3);
    assert_eq!(second.stdout, "again\ndone\n");
    assert_eq!(host.tare(&["rm", "job"]).ok(), "job");
    host.assert_clean();
}

#[test]
fn stop_asks_then_kills() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let polite = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done";
    host.tare(&["run", "-d", "--name", "polite", &image, "sh", "-c", polite]).ok();
    eventually("it is ready", || host.tare(&["logs", "polite"]).ok() == "ready");
    assert_eq!(host.tare(&["stop", "polite"]).ok(), "polite");
    assert_eq!(host.inspect("polite", "/State/ExitCode"), 5);

    host.sleeper("deaf", &[]);
    let start = Instant::now();
    host.tare(&["stop", "-t", "1", "deaf"]).ok();
    assert!(start.elapsed().as_secs_f64() >= 1.0, "the first process ignores SIGTERM, so that it must be waited for");
    assert_eq!(host.inspect("deaf", "/State/ExitCode"), 137);
    assert_eq!(host.inspect("deaf", "/State/Running"), false);
    // Stopping what is stopped is no error.
    host.tare(&["stop", "deaf"]).ok();
    host.tare(&["start", "deaf"]).ok();
    assert_eq!(host.inspect("deaf", "/State/Running"), true);
}

#[test]
fn restart_gives_a_new_process_and_keeps_files() {
    let Some(host) = Host::new() else { return };
    host.sleeper("again", &[]);
    let before = host.pid("again");
    host.tare(&["exec", "again", "sh", "-c", "echo kept >/tmp/file"]).ok();
    assert_eq!(host.tare(&["restart", "-t", "0", "again"]).ok(), "again");
    assert_ne!(host.pid("again"), before);
    assert_eq!(host.tare(&["exec", "again", "cat", "/tmp/file"]).ok(), "kept");
}

#[test]
fn kill_sends_the_signal_that_is_asked_for() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let script = "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.1; done";
    host.tare(&["run", "-d", "--name", "target", &image, "sh", "-c", script]).ok();
    eventually("it is ready", || host.tare(&["logs", "target"]).ok().contains("ready"));
    assert_eq!(host.tare(&["kill", "-s", "USR1", "target"]).ok(), "target");
    eventually("the signal came", || host.tare(&["logs", "target"]).ok().contains("usr1"));
    assert_eq!(host.inspect("target", "/State/Running"), true);
    host.tare(&["kill", "target"]).ok();
    assert_eq!(host.tare(&["wait", "target"]).ok(), "137");
    let dead = host.tare(&["kill", "target"]).fails(1);
    assert!(dead.stderr.contains("is not running"), "{}", dead.stderr);
}

#[test]
fn wait_prints_the_exit_code() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    host.tare(&["run", "-d", "-i", "--name", "job", &image, "sh", "-c", "read x </dev/null; sleep 0.3; exit 11"]).ok();
    assert_eq!(host.tare(&["wait", "job"]).ok(), "11");
    // It has ended: waiting gives the same at once.
    assert_eq!(host.tare(&["wait", "job"]).ok(), "11");
}

#[test]
fn rm_refuses_what_runs_unless_forced() {
    let Some(host) = Host::new() else { return };
    let id = host.sleeper("busy", &["-p", "3000:80"]);
    let refused = host.tare(&["rm", "busy"]).fails(1);
    assert!(refused.stderr.contains("running"), "{}", refused.stderr);
    assert!(refused.stderr.contains("-f") || refused.stderr.contains("force"), "{}", refused.stderr);
    assert_eq!(host.inspect("busy", "/State/Running"), true);
    // A short id names it as well.
    assert_eq!(host.tare(&["rm", "-f", &id[..4]]).ok(), &id[..4]);
    host.assert_clean();
    let unknown = host.tare(&["rm", "busy"]).fails(1);
    assert!(unknown.stderr.contains("No such container: busy"), "{}", unknown.stderr);
}

#[test]
fn names_and_short_ids_resolve() {
    let Some(host) = Host::new() else { return };
    let id = host.sleeper("known", &[]);
    for key in ["known", &id, &id[..12], &id[..3]] {
        assert_eq!(host.inspect(key, "/Id"), id.as_str(), "{key}");
    }
    let taken = host.tare(&["create", "--name", "known", &host.image("busybox")]).fails(1);
    let text = format!("The container name \"/known\" is already in use by container \"{id}\"");
    assert!(taken.stderr.contains(&text), "{}", taken.stderr);
    // A name is free again when its container has gone.
    host.tare(&["rm", "-f", "known"]).ok();
    host.sleeper("known", &[]);
}

#[test]
fn ten_at_once() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let mut runs: Vec<_> = (0..10)
        .map(|number| {
            let script = format!("echo number {number}; exit {number}");
            host.tare(&["run", "--rm", &image, "sh", "-c", &script]).spawn()
        })
        .collect();
    for (number, run) in runs.iter_mut().enumerate() {
        let output = run.stdout.rest();
        assert_eq!(
            (run.wait(), output),
            (i32::try_from(number).unwrap(), format!("number {number}\n")),
            "{}",
            run.stderr.rest()
        );
    }
    host.assert_clean();

    // Of ten that want one name, one gets it.
    let mut runs: Vec<_> =
        (0..10).map(|_| host.tare(&["run", "-d", "--name", "one", &image, "sleep", "1000"]).spawn()).collect();
    let codes: Vec<i32> = runs.iter_mut().map(crate::host::Running::wait).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 125).count(), 9, "{codes:?}");
    assert_eq!(host.tare(&["ps", "-a", "-q"]).ok().lines().count(), 1);
}

#[test]
fn restart_keeps_a_container_that_would_remove_itself() {
    let Some(host) = Host::new() else { return };
    let id = host.sleeper("kept", &["--rm", "-p", "3000:80"]);
    for _ in 0..2 {
        let before = host.pid("kept");
        host.tare(&["exec", "kept", "sh", "-c", "echo more >> /data/more"]).ok();
        assert_eq!(host.tare(&["restart", "-t", "0", "kept"]).ok(), "kept");
        assert_ne!(host.pid("kept"), before);
    }
    assert_eq!(host.tare(&["ps", "--no-trunc", "-q"]).ok(), id);
    assert_eq!(host.tare(&["exec", "kept", "cat", "/data/more"]).ok(), "more\nmore");
    host.tare(&["stop", "-t", "0", "kept"]).ok();
    assert_eq!(host.tare(&["ps", "-a", "-q"]).ok(), "");
    host.assert_clean();
}

#[test]
fn a_damaged_record_hides_nobody_and_can_be_removed() {
    let Some(host) = Host::new() else { return };
    let id = host.sleeper("bad", &["-p", "3000:80"]);
    host.sleeper("good", &[]);
    fs::write(host.root().join("containers").join(&id).join("record.json"), "{").unwrap();
    let list = host.tare(&["ps", "-a", "--format", "{{.Names}}"]).output();
    assert_eq!((list.code, list.stdout.trim()), (0, "good"), "{list:?}");
    assert!(list.stderr.contains("record.json is damaged"), "{}", list.stderr);
    host.tare(&["rm", "bad"]).fails(1);
    assert_eq!(host.tare(&["rm", "-f", "bad"]).ok(), "bad");
    // Name and port are free again.
    host.sleeper("bad", &["-p", "3000:80"]);
    host.tare(&["rm", "-f", "bad", "good"]).ok();
    host.assert_clean();
}

#[test]
fn a_tree_of_any_depth_is_removed() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let script = "cd /data; i=0; while [ $i -lt 2000 ]; do mkdir d && cd d || exit 1; i=$((i+1)); done";
    host.tare(&["run", "--name", "deep", &image, "sh", "-c", script]).ok();
    let limited = format!(
        "ulimit -n 256; exec {} --root {} --run-root {} rm deep",
        host::program().display(),
        host.root().display(),
        host.run_root().display()
    );
    host.command("sh", &["-c", &limited]).ok();
    host.assert_clean();
}
