//! Attacks by a container or its image; the numbers are those of `docs/design/security.md`'s table.

use crate::host::{self, Host};
use std::fs;

/// Row 1, CVE-2019-5736: the program that enters a container cannot be written to from there.
#[test]
fn the_program_cannot_be_overwritten_from_inside() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let before = fs::read(host::program()).unwrap();
    // The container's program is its own entrance: /proc/self/exe of whatever runs it.
    let script = "for p in /proc/[0-9]*; do (echo x >$p/exe) 2>/dev/null && echo written; done; true";
    assert_eq!(host.tare(&["run", "--rm", &image, "sh", "-c", script]).ok(), "");
    // It may be started from inside, as a copy that nobody can write to, but what it is then is an ordinary program in a container.
    host.tare(&["run", "--rm", &image, "/proc/self/exe", "version"]).output();
    host.sleeper("target", &[]);
    host.tare(&["exec", "target", "/proc/self/exe", "version"]).output();
    assert_eq!(host.tare(&["exec", "target", "sh", "-c", script]).ok(), "");
    assert!(fs::read(host::program()).unwrap() == before);
}

/// Row 2, CVE-2024-21626: no descriptor of the host is open in a container, and no working directory leads out.
#[test]
fn no_descriptor_leaks() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let list = "ls /proc/self/fd | tr '\\n' ' '";
    // 3 is the folder that ls itself reads.
    assert_eq!(host.tare(&["run", "--rm", &image, "sh", "-c", list]).ok(), "0 1 2 3");
    host.sleeper("target", &[]);
    assert_eq!(host.tare(&["exec", "target", "sh", "-c", list]).ok(), "0 1 2 3");
    for number in 3..20 {
        let folder = format!("/proc/self/fd/{number}");
        let run = host.tare(&["run", "--rm", "-w", &folder, &image, "cat", "../../../etc/os-release"]).output();
        assert_ne!(run.code, 0, "{folder}: {run:?}");
        let exec = host.tare(&["exec", "-w", &folder, "target", "cat", "../../../etc/os-release"]).output();
        assert_ne!(exec.code, 0, "{folder}: {exec:?}");
    }
}

/// Row 6: a mount's target that is a symbolic link leads nowhere but inside.
#[test]
fn mount_targets_stay_inside() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let outside = host.folder().join("outside");
    let shared = host.folder().join("shared");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(&shared).unwrap();
    // A container prepares the link in its own files; the next start mounts over it.
    let link = format!("ln -s {} /escape", outside.display());
    host.tare(&["create", "--name", "liar", "-v", &format!("{}:/escape/made", shared.display()), &image, "true"]).ok();
    let id = host.inspect("liar", "/Id").as_str().unwrap().to_owned();
    let upper = host.root().join("containers").join(&id).join("upper");
    fs::create_dir_all(&upper).unwrap();
    std::os::unix::fs::symlink(&outside, upper.join("escape")).unwrap();
    host.tare(&["start", "-a", "liar"]).output();
    assert!(fs::read_dir(&outside).unwrap().next().is_none(), "the target was made on the host; {link}");
}

/// Row 18: an image's ENV without `=` does not pull in the host's variable; `-e NAME` of the person does.
#[test]
fn the_hosts_environment_stays_outside() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let environment = host.tare(&["run", "--rm", &image, "env"]).env("SECRET_OF_HOST", "yes").ok();
    assert!(!environment.contains("SECRET_OF_HOST"), "{environment}");
}

/// Row 23, first half: a fork bomb ends with its container.
#[test]
fn a_fork_bomb_ends_with_its_container() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let bomb = "n=0; while [ $n -lt 300 ]; do sleep 1000 & n=$((n + 1)); done; echo ready; wait";
    host.tare(&["run", "-d", "--name", "bomb", &image, "sh", "-c", bomb]).ok();
    host::eventually("it has spread", || host.tare(&["logs", "bomb"]).ok() == "ready");
    host.tare(&["rm", "-f", "bomb"]).ok();
    host.assert_clean();
}
