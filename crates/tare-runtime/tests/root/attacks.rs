//! Images and callers that mean harm.

use crate::bundle::{Bundle, bind};
use std::fs;
use std::os::unix::fs::symlink;
use tare_runtime::Stdio;

crate::cases! {
    mount_targets_stay_inside_the_root, links_in_dev_and_proc_are_refused, working_directories_cannot_leave,
    a_terminal_is_only_taken_from_devpts, namespaces_cannot_be_made_inside, the_monitors_program_is_out_of_reach,
}

/// CVE-2019-16884, CVE-2021-30465: a mount target that is a link to the host.
fn mount_targets_stay_inside_the_root() {
    let mut bundle = Bundle::script("cat /data/file");
    let (host, data) = (bundle.folder.path().join("host"), bundle.folder.path().join("data"));
    fs::create_dir(&host).unwrap();
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "inside\n").unwrap();
    symlink(&host, bundle.rootfs().join("data")).unwrap();
    symlink("../../../../../../../../tmp", bundle.rootfs().join("up")).unwrap();
    bundle.spec.mounts.push(bind(&data, "/data", "bind"));
    bundle.spec.mounts.push(bind(&data, "/up/made", "bind"));
    bundle.overlay = false;
    assert_eq!(bundle.output(), "inside\n");
    assert_eq!(fs::read_dir(&host).unwrap().count(), 0);
    assert!(bundle.rootfs().join("tmp/made").is_dir() && !fs::exists("/tmp/made").unwrap());
}

/// CVE-2025-52565, CVE-2025-31133, CVE-2019-19921.
fn links_in_dev_and_proc_are_refused() {
    for (name, target) in [("dev", "/etc"), ("proc", "/etc"), ("sys", "/etc")] {
        let bundle = Bundle::new(&["true"]);
        fs::remove_dir(bundle.rootfs().join(name)).unwrap();
        symlink(target, bundle.rootfs().join(name)).unwrap();
        let error = bundle.run().unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{name}: {error}");
    }
    // Without a tmpfs on /dev, what the image put there meets the runtime.
    let mut bundle = Bundle::new(&["true"]);
    bundle.spec.mounts.remove(1);
    symlink("/etc/passwd", bundle.rootfs().join("dev/null")).unwrap();
    let error = bundle.run().unwrap_err();
    assert!(error.to_string().starts_with("create device /dev/null"), "{error}");
}

/// CVE-2024-21626.
fn working_directories_cannot_leave() {
    let leak = fs::File::open("/").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    for number in 3..12 {
        let mut bundle = Bundle::script("pwd; ls");
        bundle.process().cwd = format!("/proc/self/fd/{number}");
        // Either there is no such directory and /proc takes no new one, or the kernel refuses the magic link.
        assert!(bundle.run().is_err(), "{number}");
    }
    let mut bundle = Bundle::script("pwd");
    symlink("/proc/self/cwd", bundle.rootfs().join("link")).unwrap();
    bundle.process().cwd = "/link".into();
    assert!(bundle.run().is_err());
}

fn a_terminal_is_only_taken_from_devpts() {
    let mut bundle = Bundle::new(&["true"]);
    bundle.spec.mounts.retain(|mount| !mount.destination.starts_with("/dev"));
    fs::create_dir(bundle.rootfs().join("dev/pts")).unwrap();
    fs::write(bundle.rootfs().join("dev/pts/ptmx"), "").unwrap();
    let stdio = Stdio::Terminal { rows: 0, columns: 0 };
    let error = tare_runtime::create(bundle.request(stdio)).unwrap().start().unwrap_err();
    assert!(error.to_string().contains("is not the terminal multiplexer"), "{error}");
    bundle.assert_gone();
}

fn namespaces_cannot_be_made_inside() {
    let output =
        Bundle::script("busybox unshare -m true; busybox unshare -U true; mount -t tmpfs x /tmp; hostname new")
            .run()
            .unwrap();
    assert_eq!(
        output.stderr.to_lowercase().matches("operation not permitted").count()
            + output.stderr.matches("permission denied").count(),
        4,
        "{output:?}"
    );
}

/// CVE-2019-5736: while a process joins, the container must not see the program that brings it in.
fn the_monitors_program_is_out_of_reach() {
    let output = Bundle::script("for exe in /proc/[0-9]*/exe; do stat -c %N $exe; done").output();
    assert!(output.lines().all(|line| line.contains("/bin/busybox")), "{output}");
}
