//! Rows of the list of attacks that steps of builds must withstand.

use crate::host::{Host, Step};
use std::fs;
use std::os::unix::fs::symlink;
use tare_build::executor::{MountSource, Network};

crate::cases! {
    the_program_cannot_be_overwritten, no_descriptor_of_the_host_leaks, targets_through_links_stay_inside,
    a_target_that_is_swapped_leads_nowhere, masked_things_stay_masked, a_hostile_passwd_does_not_block,
}

/// CVE-2019-5736: the step runs the very program that runs it.
fn the_program_cannot_be_overwritten() {
    let host = Host::new();
    let before = fs::read(std::env::current_exe().unwrap()).unwrap();
    // `/proc/1/exe` is the shell; the runner is not in this namespace. What can be reached is by an interpreter's trick.
    fs::write(host.path("rootfs/bin/trick"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(host.path("rootfs/bin/trick"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let step = Step { args: vec!["/bin/trick".to_owned()], ..host.script("") };
    let _ = step.run(&host.executor());
    let step = host.script("for i in /proc/[0-9]*; do (echo x >$i/exe) 2>/dev/null && echo wrote $i; done; exit 0");
    assert_eq!(host.output(&step), "");
    assert!(fs::read(std::env::current_exe().unwrap()).unwrap() == before);
    host.assert_clean();
}

/// CVE-2024-21626.
fn no_descriptor_of_the_host_leaks() {
    let host = Host::new();
    // One that is not close-on-exec, as a careless parent would leave it.
    let leaked = fs::File::open(host.folder.path()).unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let secret = MountSource::Secret { contents: b"s".to_vec(), mode: 0o400, owner: (0, 0) };
    let step = host.script("ls /proc/self/fd; ls -l /proc/self/fd | grep -c host").mount("/s", true, secret);
    let ended = step.run(&host.executor()).unwrap();
    assert_eq!(ended.stdout, "0\n1\n2\n3\n0\n", "3 is ls's own");
    drop(ended);
    for number in 3..32 {
        let step = Step { cwd: format!("/proc/self/fd/{number}"), ..host.script("cat ../root/*; pwd") };
        assert!(step.run(&host.executor()).is_err(), "{number}");
    }
    drop(leaked);
    host.assert_clean();
}

/// CVE-2024-23651, CVE-2021-30465: links of the image lead mounts nowhere but into the image.
fn targets_through_links_stay_inside() {
    let host = Host::new();
    fs::create_dir(host.path("outside")).unwrap();
    symlink(host.path("outside"), host.path("rootfs/absolute")).unwrap();
    symlink("../../../../../../outside", host.path("rootfs/up")).unwrap();
    symlink("/proc", host.path("rootfs/kernel")).unwrap();
    for target in ["/absolute/x", "/up/x", "/up"] {
        let step = host.script("true").mount(target, false, MountSource::Temporary { size: None });
        let ended = step.run(&host.executor()).unwrap();
        // At most a copy of a folder that the image has.
        assert!(ended.code == 0 && ended.changes().iter().all(|path| path == "tmp/"), "{target} {:?}", ended.changes());
        assert_eq!(fs::read_dir(host.path("outside")).unwrap().count(), 0);
    }
    for target in ["/kernel/self/attr", "/proc/sys", "/kernel", "/"] {
        let step = host.script("true").mount(target, false, MountSource::Temporary { size: None });
        assert!(step.run(&host.executor()).is_err(), "{target}");
    }
    host.assert_clean();
}

/// Row 12: while steps start, another one that shares a cache folder exchanges a folder in it with a link.
fn a_target_that_is_swapped_leads_nowhere() {
    let host = Host::new();
    let cache = host.path("cache");
    for name in ["cache/target", "outside"] {
        fs::create_dir_all(host.path(name)).unwrap();
    }
    symlink(host.path("outside"), cache.join("link")).unwrap();
    let executor = host.executor();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            let mut rounds = 0_u32;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let (a, b) = (cache.join("target"), cache.join("link"));
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, a, rustix::fs::CWD, b, exchange).unwrap();
                rounds += 1;
            }
            rounds
        });
        for _ in 0..50 {
            let step = host.script("echo x >/cache/target/in/file; exit 0");
            let step = step.mount("/cache", false, MountSource::Folder(cache.clone()));
            let step = step.mount("/cache/target/in", false, MountSource::Temporary { size: None });
            // It may fail; it must not reach the host.
            let _ = step.run(&executor);
            assert_eq!(fs::read_dir(host.path("outside")).unwrap().count(), 0);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(swapping.join().unwrap() > 100);
    });
    host.assert_clean();
}

fn masked_things_stay_masked() {
    let host = Host::new();
    let script = "cat /proc/kcore /proc/keys 2>/dev/null | wc -c; (echo 1 >/proc/sys/kernel/panic) 2>/dev/null; echo $?; (echo h >/proc/sysrq-trigger) 2>/dev/null; echo $?; ls -A /sys/firmware | wc -l; mknod /tmp/d b 8 0 && (head -c1 /tmp/d) 2>/dev/null; echo $?";
    let script = format!("{script}; rm /tmp/d");
    assert_eq!(host.output(&host.script(&script).network(Network::None)), "0\n1\n1\n0\n1\n");
}

/// CVE-2024-9676.
fn a_hostile_passwd_does_not_block() {
    let host = Host::new();
    let passwd = host.path("rootfs/etc/passwd");
    fs::remove_file(&passwd).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, host.path("rootfs/fifo"), rustix::fs::Mode::RUSR).unwrap();
    symlink("/fifo", &passwd).unwrap();
    let step = Step { user: "web".to_owned(), ..host.script("true") };
    assert!(step.run(&host.executor()).is_err());
    host.assert_clean();
}
