//! Bad input gets a clear error and leaves nothing.

use crate::host::{Host, eventually, program};
use std::fs;
use std::process::Command;

/// `run` failed: there is no record of it.
fn assert_no_container(host: &Host) {
    host.assert_clean();
    assert_eq!(host.tare(&["ps", "-a", "-q"]).ok(), "");
}

#[test]
fn what_cannot_start_leaves_nothing() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    host.tare(&["run", "--rm", "-p", "3000:80", &image, "absent"]).fails(127);
    host.tare(&["run", "--rm", "-d", "-p", "3000:80", &image, "absent"]).fails(127);
    host.tare(&["run", "--rm", "-p", "3000:80", &image, "/data/plain"]).fails(126);
    assert_no_container(&host);
    // Unlike Docker, without --rm too: the name is free for the next attempt.
    host.tare(&["run", "--name", "web", "-p", "3000:80", &image, "absent"]).fails(127);
    host.tare(&["run", "-d", "--name", "web", "-p", "3000:80", &image, "absent"]).fails(127);
    assert_no_container(&host);
    // What was created on its own stays for a look at it, but holds nothing.
    host.tare(&["create", "--name", "kept", "-p", "3000:80", &image, "absent"]).ok();
    host.tare(&["start", "kept"]).fails(1);
    assert_eq!(host.inspect("kept", "/State/Status"), "created");
    assert_eq!(host.inspect("kept", "/State/ExitCode"), 127);
    host.tare(&["run", "-d", "--name", "web", "-p", "3000:80", &image, "sleep", "1000"]).ok();
}

#[test]
fn a_port_held_by_a_container_names_it() {
    let Some(host) = Host::new() else { return };
    host.sleeper("holder", &["-p", "3000:80"]);
    let image = host.image("busybox");
    let taken = host.tare(&["run", "--rm", "-p", "3000:8080", &image, "true"]).fails(125);
    assert!(taken.stderr.contains("Bind for 0.0.0.0:3000 failed: port is already allocated"), "{}", taken.stderr);
    assert!(taken.stderr.contains("holder") && taken.stderr.contains("port 3001 is free"), "{}", taken.stderr);
    assert_eq!(taken.stderr.matches("already allocated").count(), 1, "{}", taken.stderr);
    assert_eq!(host.tare(&["ps", "-a", "--format", "{{.Names}}"]).ok(), "holder");
    host.tare(&["rm", "-f", "holder"]).ok();
    host.tare(&["run", "--rm", "-p", "3000:8080", &image, "true"]).ok();
}

#[test]
fn a_port_held_by_a_process_is_told() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    // The registry itself holds 5000.
    let taken = host.tare(&["run", "--rm", "-p", "127.0.0.1:5000:80", &image, "true"]).fails(125);
    assert!(taken.stderr.contains("address already in use"), "{}", taken.stderr);
    assert!(taken.stderr.contains("5000"), "{}", taken.stderr);
    assert_no_container(&host);
}

#[test]
fn a_name_in_use_is_told() {
    let Some(host) = Host::new() else { return };
    let id = host.sleeper("taken", &[]);
    let refused = host.tare(&["run", "--name", "taken", &host.image("busybox"), "true"]).fails(125);
    let text = format!("Conflict. The container name \"/taken\" is already in use by container \"{id}\".");
    assert!(refused.stderr.contains(&text), "{}", refused.stderr);
    let bad = host.tare(&["run", "--name", "no/slash", &host.image("busybox"), "true"]).fails(125);
    assert!(bad.stderr.contains("Invalid container name (no/slash)"), "{}", bad.stderr);
    let folders: Vec<_> = fs::read_dir(host.root().join("containers")).unwrap().collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
}

#[test]
fn without_root_rights_it_says_so() {
    let Some(host) = Host::new() else { return };
    host.pull("busybox");
    let root = host.root().display().to_string();
    let run_root = host.run_root().display().to_string();
    let copy = host.folder().join("tare");
    // Where a user who is not root can reach it.
    fs::copy(crate::host::program(), &copy).unwrap();
    Command::new("chmod").args(["755"]).arg(host.folder()).arg(&copy).status().unwrap();
    let program = copy.display().to_string();
    let nobody =
        ["--reuid=65534", "--regid=65534", "--clear-groups", &program, "--root", &root, "--run-root", &run_root];
    for (arguments, code) in [(&["ps"][..], 1), (&["run", "hello"], 125), (&["images"], 1)] {
        let refused = host.command("setpriv", &[&nobody, arguments].concat()).fails(code);
        assert!(refused.stderr.contains("permission denied") || refused.stderr.contains("root"), "{}", refused.stderr);
        assert!(refused.stderr.contains("sudo") || refused.stderr.contains("root"), "{}", refused.stderr);
    }
    // Help and version need no rights.
    host.command("setpriv", &[&nobody, &["version"][..]].concat()).ok();
    host.command("setpriv", &[&nobody, &["run", "--help"][..]].concat()).ok();
}

#[test]
fn no_space_is_told_and_leaves_nothing() {
    let Some(host) = Host::new() else { return };
    let image = host.image("web");
    let small = host.folder().join("small");
    fs::create_dir(&small).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(&small).status().unwrap();
    assert!(mount.success());
    let pull = host.tare_at(&small, &["pull", &image]).output();
    let images = host.tare_at(&small, &["images", "-q"]).output();
    let used: u64 = {
        let text = host.command("df", &["--output=used", "-B1", &small.display().to_string()]).ok();
        text.lines().nth(1).unwrap().trim().parse().unwrap()
    };
    assert!(Command::new("umount").arg(&small).status().unwrap().success(), "something holds the full file system");
    assert_eq!(pull.code, 1, "{pull:?}");
    assert!(pull.stderr.to_lowercase().contains("no space left on device"), "{}", pull.stderr);
    assert_eq!((images.code, images.stdout.as_str()), (0, ""), "{images:?}");
    assert!(used < 1 << 20, "{used} bytes are still taken");
}

#[test]
fn a_disk_that_fills_while_a_container_runs_hides_nothing() {
    let Some(host) = Host::new() else { return };
    let image = host.image("busybox");
    let small = host.folder().join("small");
    fs::create_dir(&small).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(&small).status().unwrap();
    assert!(mount.success());
    let tare = |arguments: &[&str]| host.tare_at(&small, arguments).output();
    let script = "cat /dev/zero > /data/all; echo full; read x; exit 7";
    let run = tare(&["run", "-d", "-i", "--name", "greedy", &image, "sh", "-c", script]);
    eventually("the disk is full", || rustix::fs::statvfs(&small).unwrap().f_bavail == 0);
    let attached = host.tare_at(&small, &["attach", "greedy"]).input("\n").output();
    let list = tare(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]);
    let refused = tare(&["run", "--name", "more", &image, "true"]);
    let removed = tare(&["rm", "greedy"]);
    let after = tare(&["run", "--rm", &image, "echo", "works"]);
    assert!(Command::new("umount").arg(&small).status().unwrap().success(), "something holds the full file system");
    assert_eq!((run.code, attached.code), (0, 7), "{run:?} {attached:?}");
    assert!(list.code == 0 && list.stdout.starts_with("greedy Exited (7)"), "{list:?}");
    assert!(refused.code == 125 && refused.stderr.to_lowercase().contains("no space left"), "{refused:?}");
    assert_eq!((removed.code, after.code, after.stdout.trim()), (0, 0, "works"), "{removed:?} {after:?}");
}

#[test]
fn a_full_disk_does_not_end_the_monitor() {
    let Some(host) = Host::new() else { return };
    let image = host.image("busybox");
    let small = host.folder().join("small");
    fs::create_dir(&small).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(&small).status().unwrap();
    assert!(mount.success());
    // Its run directory is on the full disk, too: the monitor cannot even write down that it could not write.
    let (root, run_root) = (small.join("root").display().to_string(), small.join("run").display().to_string());
    let tare = |arguments: &[&str]| {
        host.command(program(), &[&["--root", &root, "--run-root", &run_root], arguments].concat()).output()
    };
    // The log fills the disk; what comes after it is lost to the log only.
    let script = "while [ ! -e /stop ]; do echo all work and no play makes jack a dull boy; done; exit 7";
    let run = tare(&["run", "-d", "--name", "wordy", &image, "sh", "-c", script]);
    eventually("the disk is full", || rustix::fs::statvfs(&small).unwrap().f_bavail == 0);
    // A directory takes no block of a tmpfs; that the monitor answers shows that it has read on.
    let stop = tare(&["exec", "wordy", "mkdir", "/stop"]);
    let wait = tare(&["wait", "wordy"]);
    let list = tare(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]);
    let removed = tare(&["rm", "-f", "wordy"]);
    let after = tare(&["run", "--rm", &image, "echo", "works"]);
    assert!(Command::new("umount").arg(&small).status().unwrap().success(), "something holds the full file system");
    assert_eq!((run.code, stop.code, wait.code, wait.stdout.trim()), (0, 0, 0, "7"), "{run:?} {stop:?} {wait:?}");
    assert!(list.code == 0 && list.stdout.starts_with("wordy Exited (7)"), "{list:?}");
    assert_eq!((removed.code, after.code, after.stdout.trim()), (0, 0, "works"), "{removed:?} {after:?}");
}
