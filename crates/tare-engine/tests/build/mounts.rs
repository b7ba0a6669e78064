//! What is mounted in a step.

use crate::host::{Host, Step};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use tare_build::executor::MountSource;
use tare_spec::ErrorKind;

crate::cases! {
    trees_are_seen_and_not_changed, folders_keep_what_is_written, memory_is_bounded, secrets_are_files_in_memory_only,
    an_agent_answers, targets_are_no_changes, targets_in_mounts, parts_stay_inside, what_is_no_part_is_named,
}

fn tree(lower: &[PathBuf], path: &str) -> MountSource {
    MountSource::Tree { lower: lower.to_vec(), path: path.to_owned() }
}

fn trees_are_seen_and_not_changed() {
    let host = Host::new();
    let (top, bottom) = (host.path("top"), host.path("bottom"));
    for (folder, name) in [(&top, "both"), (&top, "top"), (&bottom, "both"), (&bottom, "sub/file")] {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, folder.file_name().unwrap().to_str().unwrap()).unwrap();
    }
    fs::write(bottom.join("sub/run"), "#!/bin/sh\necho executed\n").unwrap();
    fs::set_permissions(bottom.join("sub/run"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let lower = [top.clone(), bottom.clone()];
    let script = "cat /all/both /all/top /sub/file /file; /sub/run; echo x 2>/dev/null >/all/new; echo $?";
    let step = host.script(script).mount("/all", true, tree(&lower, "")).mount("/sub", true, tree(&lower, "sub"));
    let step = step.mount("/file", true, tree(&lower, "/sub/file"));
    assert_eq!(host.output(&step), "toptopbottombottomexecuted\n1\n");
    // Also of a single directory.
    let step = host.script("cat /all/top; echo x 2>/dev/null >/all/new; echo $?");
    assert_eq!(host.output(&step.mount("/all", true, tree(&lower[..1], ""))), "top1\n");
    // What is written is thrown away, and seen until then.
    let script = "echo x >/all/new; rm /all/both; ls /all; echo y >>/file; cat /file";
    let step = host.script(script).mount("/all", false, tree(&lower, "")).mount("/file", false, tree(&lower, "top"));
    assert_eq!(host.output(&step), "new\nsub\ntop\ntopy\n");
    let mut names: Vec<_> = fs::read_dir(&top).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["both", "top"]);
}

fn folders_keep_what_is_written() {
    let host = Host::new();
    let cache = host.path("cache");
    fs::create_dir(&cache).unwrap();
    let step = |script, read_only| host.script(script).mount("/c", read_only, MountSource::Folder(cache.clone()));
    host.output(&step("echo kept >/c/x", false));
    assert_eq!(host.output(&step("cat /c/x; echo y 2>/dev/null >/c/y; echo $?", true)), "kept\n1\n");
}

fn memory_is_bounded() {
    let host = Host::new();
    let step = host.script("stat -c %a /m; dd if=/dev/zero of=/m/x bs=64k 2>/dev/null; stat -c %s /m/x");
    assert_eq!(
        host.output(&step.mount("/m", false, MountSource::Temporary { size: Some(1 << 20) })),
        "1777\n1048576\n"
    );
}

fn secrets_are_files_in_memory_only() {
    let host = Host::new();
    let secret = |text: &str, mode, owner| MountSource::Secret { contents: text.as_bytes().to_vec(), mode, owner };
    let large = "L".repeat(500 << 10);
    let script = "cat /run/secrets/a; stat -c '%a %u %g' /run/secrets/a /b; wc -c </b; stat -f -c %T /b; for change in 'chmod 777' 'rm -f' 'chown 5' 'sh -c \"echo >$0\"'; do eval $change /b 2>/dev/null; echo $?; done; grep -c ' /run/secrets/a .*noexec' /proc/self/mountinfo";
    let step = host.script(script).mount("/run/secrets/a", true, secret("password", 0o400, (33, 34))).mount(
        "/b",
        false,
        secret(&large, 0o640, (0, 0)),
    );
    let executor = host.executor();
    let id = std::sync::Mutex::new(String::new());
    let ended = step.run_told(&executor, |_| *id.lock().unwrap() = host.id()).unwrap();
    assert_eq!(ended.stdout, "password400 33 34\n640 0 0\n512000\ntmpfs\n1\n1\n1\n1\n1\n", "{}", ended.stderr);
    // Neither in what it wrote nor anywhere on the disk.
    assert_eq!(ended.changes(), ["run/"]);
    let work = host.path("root/build/work").join(id.into_inner().unwrap());
    let mut names: Vec<_> = fs::read_dir(&work).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["hostname", "hosts", "mounts", "resolv.conf", "upper", "work"]);
    assert_eq!(fs::read_dir(work.join("mounts")).unwrap().count(), 0);
}

fn an_agent_answers() {
    let host = Host::new();
    // Where addresses of sockets are too long for the kernel.
    let folder = host.path(&"a".repeat(120));
    fs::create_dir(&folder).unwrap();
    let socket = folder.join("agent.sock");
    std::env::set_current_dir(&folder).unwrap();
    let listener = UnixListener::bind("agent.sock").unwrap();
    let answering = std::thread::spawn(move || {
        // The first one is whether somebody is there.
        drop(listener.accept().unwrap());
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            stream.write_all(text.to_uppercase().as_bytes()).unwrap();
        }
    });
    // Busybox does not know such sockets; this machine's perl does.
    for (name, target) in [("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        symlink(target, host.path("rootfs").join(name)).unwrap();
    }
    let talk = "use IO::Socket::UNIX; $/ = undef; my $s = IO::Socket::UNIX->new(Peer => '/agent') or die $!; print $s <STDIN>; $s->shutdown(1); print <$s>";
    let script = format!(
        "stat -c '%a %u' /agent; cat >/tmp/talk <<'END'\n{talk}\nEND\necho one | /usr/bin/perl /tmp/talk; head -c 300000 /dev/zero | tr '\\0' x | /usr/bin/perl /tmp/talk | wc -c; rm /tmp/talk"
    );
    let agent = MountSource::Agent { socket: socket.clone(), mode: 0o660, owner: (33, 34) };
    let step = Step { user: "web".to_owned(), ..host.script(&script) };
    let step = step.mount("/agent", true, agent.clone()).mount("/usr", true, tree(&["/usr".into()], ""));
    fs::set_permissions(host.path("rootfs/tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    assert_eq!(host.output(&step), "660 33\nONE\n300000\n");
    answering.join().unwrap();
    fs::remove_file(&socket).unwrap();
    let error = host.script("true").mount("/agent", true, agent).run(&host.executor()).err().unwrap();
    assert!(error.to_string().contains("connect to the SSH agent at"), "{error}");
    host.assert_clean();
}

fn targets_are_no_changes() {
    let host = Host::new();
    let source = host.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("f"), "").unwrap();
    let all = |script: &str| {
        let mut step = host.script(script);
        for target in ["/new/deep/folder", "/var/run/x", "/tmp/there/y"] {
            step = step.mount(target, true, tree(std::slice::from_ref(&source), ""));
        }
        step.mount("/etc/one/file", true, tree(std::slice::from_ref(&source), "f"))
    };
    let ended = all("true").run(&host.executor()).unwrap();
    assert_eq!(ended.changes(), ["etc/", "run/", "tmp/"], "only copies of folders that the image has");
    let ended = all("echo x >/new/deep/kept; echo y >/run/z").run(&host.executor()).unwrap();
    assert_eq!(ended.changes(), ["etc/", "new/", "new/deep/", "new/deep/kept=x", "run/", "run/z=y", "tmp/"]);
    // An image that hides the layer of mount points.
    let executor = host.executor();
    let mut first = host.script("true");
    first.lower = vec![host.path("rootfs")];
    let hidden = host.path("hidden");
    fs::create_dir(&hidden).unwrap();
    for name in ["dev", "proc", "sys"] {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            hidden.join(name),
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::empty(),
            0,
        )
        .unwrap();
    }
    fs::create_dir(hidden.join("etc")).unwrap();
    rustix::fs::setxattr(hidden.join("etc"), "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty()).unwrap();
    let mut step = host.script("ls -A /etc | sort; ls /proc/self/fd >/dev/null");
    step.lower.insert(0, hidden);
    let ended = step.run(&executor).unwrap();
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "hostname\nhosts\nresolv.conf\n"), "{}", ended.stderr);
    assert_eq!(ended.changes(), ["etc/"]);
}

fn targets_in_mounts() {
    let host = Host::new();
    let cache = host.path("cache");
    fs::create_dir(&cache).unwrap();
    let step = host.script("ls -d /c/inner; echo x >/c/inner/y; ls /c/inner");
    let step = step.mount("/c/inner", false, MountSource::Temporary { size: None });
    let step = step.mount("/c", false, MountSource::Folder(cache.clone()));
    let ended = step.run(&host.executor()).unwrap();
    assert_eq!((ended.stdout.as_str(), ended.changes().len()), ("/c/inner\ny\n", 0));
    assert_eq!(fs::read_dir(cache.join("inner")).unwrap().count(), 0);
}

/// CVE-2024-23652 and its kin: links in a tree lead nowhere else.
fn parts_stay_inside() {
    let host = Host::new();
    fs::create_dir(host.path("outside")).unwrap();
    fs::write(host.path("outside/sentinel"), "of the host").unwrap();
    let source = host.path("source");
    fs::create_dir_all(source.join("in")).unwrap();
    symlink(host.path("outside"), source.join("absolute")).unwrap();
    symlink("../outside", source.join("up")).unwrap();
    symlink("/in", source.join("good")).unwrap();
    symlink("/proc/self/root", source.join("magic")).unwrap();
    fs::write(source.join("in/file"), "inside").unwrap();
    let run = |path: &str| {
        let step =
            host.script("cat /m/* 2>/dev/null; ls /m").mount("/m", true, tree(std::slice::from_ref(&source), path));
        step.run(&host.executor()).map(|ended| ended.stdout)
    };
    assert_eq!(run("good").unwrap(), "insidefile\n");
    assert_eq!(run("../../in").unwrap(), "insidefile\n");
    for path in ["absolute", "up", "up/sentinel", "magic", "magic/etc", "in/../../outside", "none"] {
        let error = run(path).err().unwrap();
        assert_eq!(error.kind, ErrorKind::NotFound, "{path}: {error}");
        assert!(error.to_string().contains("mount /m"), "{error}");
    }
    host.assert_clean();
}

fn what_is_no_part_is_named() {
    let host = Host::new();
    let source = host.path("source");
    fs::create_dir(&source).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, source.join("fifo"), rustix::fs::Mode::RUSR).unwrap();
    symlink("loop", source.join("loop")).unwrap();
    for path in ["fifo", "loop"] {
        let step = host.script("true").mount("/m", true, tree(std::slice::from_ref(&source), path));
        let error = step.run(&host.executor()).err().unwrap();
        assert_eq!(error.kind, ErrorKind::InvalidParameter, "{error}");
    }
    let gone = host.script("true").mount("/m", false, MountSource::Folder(host.path("gone")));
    assert!(gone.run(&host.executor()).is_err());
    host.assert_clean();
}
