//! Images and callers that mean harm.

use crate::bundle::{Bundle, bind, mount};
use rustix::fd::AsFd;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};
use tare_runtime::{ExecRequest, Stdio};
use tare_spec::runtime::Process;

crate::cases! {
    mount_targets_stay_inside_the_root, mount_targets_do_not_lead_into_special_folders, links_in_dev_and_proc_are_refused, working_directories_cannot_leave,
    a_terminal_is_only_taken_from_devpts, namespaces_cannot_be_made_inside, the_monitors_program_is_out_of_reach,
    the_hosts_null_device_cannot_be_changed, users_are_not_read_from_the_kernel, a_stopped_exec_is_given_up,
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

/// CVE-2019-19921: a volume that the image's link puts in the place of /proc, /sys or /dev, or below.
fn mount_targets_do_not_lead_into_special_folders() {
    for target in ["/proc", "/proc/sys", "/sys", "/sys/kernel", "/dev", "/dev/made"] {
        for fs_type in ["bind", "tmpfs"] {
            let mut bundle = Bundle::new(&["true"]);
            let data = bundle.folder.path().join("data");
            fs::create_dir(&data).unwrap();
            symlink(target, bundle.rootfs().join("link")).unwrap();
            let wish = if fs_type == "bind" { bind(&data, "/link", "bind") } else { mount("/link", "tmpfs", "nosuid") };
            bundle.spec.mounts.push(wish);
            let error = bundle.run().unwrap_err();
            assert!(error.to_string().contains("leads into"), "{target} {fs_type}: {error}");
            assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "{target} {fs_type}");
        }
    }
    // File systems of their own below /dev may be named by a link, as /run/shm is on Debian.
    let mut bundle = Bundle::script("test -d /link");
    symlink("/dev/shm", bundle.rootfs().join("link")).unwrap();
    bundle.spec.mounts.push(mount("/link", "tmpfs", "nosuid"));
    bundle.run().unwrap();
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

/// What masks files, and what callers give as standard output, must not be a way to the inode of the host's /dev/null.
/// A device of its own stands for that, so that a failure does not harm the machine: only its number makes it null.
fn the_hosts_null_device_cannot_be_changed() {
    let mut bundle = Bundle::script("");
    let script = "for file in /proc/timer_list /proc/keys /proc/self/fd/1; do chmod 0604 $file; done; \
                  echo x >/proc/keys; stat -c %a /dev/null >&2";
    bundle.process().args = ["sh", "-c", script].map(str::to_owned).into();
    let null = bundle.folder.path().join("null");
    let device = rustix::fs::makedev(1, 3);
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, &null, rustix::fs::FileType::CharacterDevice, mode, device).unwrap();
    rustix::fs::chmodat(rustix::fs::CWD, &null, mode, rustix::fs::AtFlags::empty()).unwrap();
    let stdout = fs::File::options().write(true).open(&null).unwrap();
    // What masks is the machine's own: its mode is read, and set right where the defence is missing.
    let before = fs::metadata("/dev/null").unwrap().permissions();
    let (mut stderr, stderr_end) = crate::bundle::pipe();
    let stdio = Stdio::Pipes { stdin: None, stdout: stdout.into(), stderr: stderr_end };
    let running = tare_runtime::create(bundle.request(stdio)).unwrap().start().unwrap();
    running.wait().unwrap();
    let after = fs::metadata("/dev/null").unwrap().permissions();
    fs::set_permissions("/dev/null", before.clone()).unwrap();
    let mut text = String::new();
    stderr.read_to_string(&mut text).unwrap();
    assert_eq!(after, before, "{text}");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&null).unwrap().permissions().mode() & 0o777, 0o666, "{text}");
    // It got the container's own instead, and a masked file can still be written to no effect.
    assert!(text.ends_with("604\n") && !text.contains("/proc/keys: Permission"), "{text}");
}

/// CVE-2024-9676's kin: procfs and sysfs have files that stat calls regular.
fn users_are_not_read_from_the_kernel() {
    for target in ["/proc/version", "/proc/kmsg", "/sys/kernel/notes"] {
        let mut bundle = Bundle::new(&["true"]);
        fs::remove_file(bundle.rootfs().join("etc/passwd")).unwrap();
        symlink(target, bundle.rootfs().join("etc/passwd")).unwrap();
        bundle.user = Some("web".into());
        let error = bundle.run().unwrap_err();
        assert!(error.to_string().contains("leads to a file of the kernel"), "{target}: {error}");
    }
}

/// A container that stops whoever joins it must not stop its monitor, which waits for the program to be executed.
fn a_stopped_exec_is_given_up() {
    let script =
        "echo ready; while :; do for p in /proc/[0-9]*; do p=${p#/proc/}; [ $p = 1 ] || kill -STOP $p; done; done";
    let bundle = Bundle::script(script);
    let (running, mut stdout, _stderr) = bundle.start().unwrap();
    stdout.read_exact(&mut [0; 6]).unwrap();
    let cgroup = bundle.cgroup();
    let process = bundle.spec.process.as_ref().unwrap();
    let start = Instant::now();
    let attempts = (0..20).map(|_| {
        let process = Process { args: vec!["true".into()], ..process.clone() };
        let init = running.pidfd.as_fd();
        let request =
            ExecRequest { init, cgroup: &cgroup, process: &process, seccomp: None, user: None, stdio: Stdio::Null };
        // One that was quicker than the container is a program of the container by now.
        tare_runtime::exec(request).map(|running| running.signal(9).and_then(|()| running.wait()).unwrap())
    });
    let stopped = attempts.filter_map(Result::err).find(|error| error.to_string().contains("was stopped"));
    assert!(stopped.is_some());
    assert!(start.elapsed() < Duration::from_secs(30));
    running.signal(9).unwrap();
    running.wait().unwrap();
    bundle.cgroup().remove().unwrap();
    bundle.assert_gone();
}
