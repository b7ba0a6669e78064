//! Processes: how they run and end, and what they see.

use crate::host::{Host, Step};
use std::io::{Read, Write};
use std::net::TcpListener;
use tare_build::executor::{Executor, Network};
use tare_spec::ErrorKind;

crate::cases! {
    a_step_runs_and_leaves_what_it_wrote, exit_codes_come_back, output_comes_as_it_is_written, several_run_at_once,
    a_program_that_is_not_there_is_named, a_root_from_nothing, users_and_folders, the_machine_is_always_the_same,
    networks, limits, privilege_needs_to_be_asked_for, whiteouts_stay, a_large_request_arrives,
}

fn a_step_runs_and_leaves_what_it_wrote() {
    let host = Host::new();
    let ended = host.script("echo out; echo err >&2; echo 1 >/made; rm /etc/group").run(&host.executor()).unwrap();
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (0, "out\n", "err\n"));
    assert_eq!(ended.changes(), ["etc/", "etc/group", "made=1"]);
    let upper = ended.finished.upper.clone();
    drop(ended);
    assert!(!upper.exists());
    host.assert_clean();
}

fn exit_codes_come_back() {
    let host = Host::new();
    for (script, code) in [("exit 3", 3), ("exit 255", 255), ("kill -TERM $$", 128 + 15), ("false", 1)] {
        let ended = host.script(script).run(&host.executor()).unwrap();
        // The first process of a process id namespace has no default action for signals from inside.
        let expected = if script.starts_with("kill") { 0 } else { code };
        assert_eq!(ended.code, expected, "{script}");
    }
    let ended = host.script("sh -c 'kill -KILL $$'; exit $?").run(&host.executor()).unwrap();
    assert_eq!(ended.code, 137);
    drop(ended);
    host.assert_clean();
}

fn output_comes_as_it_is_written() {
    let host = Host::new();
    let fifo = host.path("cache");
    std::fs::create_dir(&fifo).unwrap();
    let step = host.script("echo first; until [ -e /cache/go ]; do :; done; echo second").mount(
        "/cache",
        false,
        tare_build::executor::MountSource::Folder(fifo.clone()),
    );
    // Goes on only once its first line has been seen.
    let ended = step.run_told(&host.executor(), |text| {
        if text == "first\n" {
            std::fs::write(fifo.join("go"), "").unwrap();
        }
    });
    assert_eq!(ended.unwrap().stdout, "first\nsecond\n");
    // More than pipes hold, by both streams, all of it.
    let step = host.script("i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done; seq 20000 >&2");
    let ended = step.run(&host.executor()).unwrap();
    assert_eq!((ended.stdout.len(), ended.stderr.lines().count()), (220_000, 20_000));
    drop(ended);
    host.assert_clean();
}

fn several_run_at_once() {
    let host = Host::new();
    let executor = host.executor();
    let cache = host.path("cache");
    std::fs::create_dir(&cache).unwrap();
    // Each waits for all others.
    let run = |number: usize| {
        let script = format!("touch /cache/{number}; until [ $(ls /cache | wc -l) = 4 ]; do :; done; echo {number}");
        let folder = tare_build::executor::MountSource::Folder(cache.clone());
        host.script(&script).network(Network::Default).mount("/cache", false, folder).run(&executor).unwrap().stdout
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|number| scope.spawn(move || run(number))).collect();
        for (number, thread) in threads.into_iter().enumerate() {
            assert_eq!(thread.join().unwrap(), format!("{number}\n"));
        }
    });
    host.assert_clean();
}

fn a_program_that_is_not_there_is_named() {
    let host = Host::new();
    let step = Step { args: vec!["/no/such".to_owned()], ..host.script("") };
    let error = step.run(&host.executor()).err().unwrap();
    assert_eq!(error.kind, ErrorKind::InvalidParameter);
    assert!(error.to_string().contains("/no/such"), "{error}");
    let error = error.error.downcast::<tare_engine::Error>().unwrap();
    assert_eq!(error.start_exit_code(), Some(127));
    assert!(error.hint().unwrap().contains("/bin/sh"));
    host.assert_clean();
}

fn a_root_from_nothing() {
    let host = Host::new();
    let tools = tare_build::executor::MountSource::Tree { lower: vec![host.path("rootfs")], path: "bin".to_owned() };
    let mut step = host.script("mkdir /data; echo x >/data/y").mount("/bin", true, tools);
    step.lower = Vec::new();
    let ended = step.run(&host.executor()).unwrap();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert_eq!(ended.changes(), ["data/", "data/y=x"]);
    drop(ended);
    host.assert_clean();
}

fn users_and_folders() {
    let host = Host::new();
    let step = Step { user: "web".to_owned(), cwd: "/srv/app".to_owned(), ..host.script("id; pwd; echo $HOME") };
    let ended = step.run(&host.executor()).unwrap();
    assert_eq!(ended.stdout, "uid=33(web) gid=34(web) groups=29(audio),34(web)\n/srv/app\n/home/web\n");
    // Made for the step, and part of what it made, as BuildKit has it.
    assert_eq!(ended.changes(), ["srv/", "srv/app/"]);
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(ended.finished.upper.join("srv/app")).unwrap());
    assert_eq!(owner, 0);
    drop(ended);
    for (user, expected) in [("33:0", "uid=33(web) gid=0(root)"), ("1234", "uid=1234 gid=0(root)"), ("", "uid=0(root)")]
    {
        let step = Step { user: user.to_owned(), ..host.script("id") };
        assert!(host.output(&step).starts_with(expected), "{user}");
    }
    for user in ["nobody", "4294967296", "web:none"] {
        let step = Step { user: user.to_owned(), ..host.script("id") };
        assert_eq!(step.run(&host.executor()).err().unwrap().kind, ErrorKind::InvalidParameter, "{user}");
    }
    host.assert_clean();
}

fn the_machine_is_always_the_same() {
    let host = Host::new();
    let mut step = host.script("hostname; cat /etc/hostname; cat /etc/hosts; readlink /proc/self/fd/0; env | sort");
    step.hosts =
        vec![("db".to_owned(), "192.0.2.7".parse().unwrap()), ("six".to_owned(), "2001:db8::1".parse().unwrap())];
    step = step.network(Network::Default);
    let seen = host.output(&step);
    assert!(seen.starts_with("build\nbuild\n127.0.0.1\tlocalhost\n"), "{seen}");
    assert!(
        seen.ends_with(
            "192.0.2.7\tdb\n2001:db8::1\tsix\n127.0.0.1\tbuild\n/dev/null\nHOME=/root\nPATH=/bin\nPWD=/\nSHLVL=1\n"
        ),
        "{seen}"
    );
    assert_eq!(host.output(&step), seen);
    step.hosts = vec![("a\n127.0.0.1 b".to_owned(), "192.0.2.7".parse().unwrap())];
    assert_eq!(step.run(&host.executor()).err().unwrap().kind, ErrorKind::InvalidParameter);
}

fn networks() {
    let host = Host::new();
    let count = "ls /sys/class/net | wc -l; cat /proc/net/dev | grep -c lo:";
    assert_eq!(host.output(&host.script(count)), "1\n1\n");
    // The host's own loopback is another one.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    crate::host::loopback_up();
    let port = listener.local_addr().unwrap().port();
    let ask = format!("echo hi | nc 127.0.0.1 {port} 2>/dev/null; echo $?");
    assert_eq!(host.output(&host.script(&ask)), "1\n");
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = [0; 3];
        stream.read_exact(&mut text).unwrap();
        stream.write_all(b"hello\n").unwrap();
    });
    assert_eq!(host.output(&host.script(&ask).network(Network::Host)), "hello\n0\n");
    answering.join().unwrap();
    // By the bridge a step reaches what listens on the host's side of it.
    let step = host.script("until [ -e /cache/port ]; do ip route | sed -n 's/default via \\([0-9.]*\\).*/\\1/p' >/cache/gateway.new; mv /cache/gateway.new /cache/gateway; done; nc $(cat /cache/gateway) $(cat /cache/port) </dev/null");
    let cache = host.path("cache");
    std::fs::create_dir(&cache).unwrap();
    let step = step.mount("/cache", false, tare_build::executor::MountSource::Folder(cache.clone()));
    let answering = std::thread::spawn(move || {
        crate::host::until("no gateway", || {
            std::fs::read_to_string(cache.join("gateway")).is_ok_and(|text| text.len() > 1)
        });
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        std::fs::write(cache.join("port.new"), port).unwrap();
        std::fs::rename(cache.join("port.new"), cache.join("port")).unwrap();
        listener.accept().unwrap().0.write_all(b"over the bridge\n").unwrap();
    });
    assert_eq!(host.output(&step.network(Network::Default)), "over the bridge\n");
    answering.join().unwrap();
}

fn limits() {
    let host = Host::new();
    let mut step = host.script("ulimit -n; ulimit -Hn; df -k /dev/shm | tail -1 | awk '{print $2}'");
    step.ulimits.insert("nofile".to_owned(), (Some(100), Some(200)));
    step.shm_size = Some(1 << 20);
    assert_eq!(host.output(&step), "100\n200\n1024\n");
    step.ulimits.insert("core".to_owned(), (None, None));
    host.output(&step);
    step.ulimits.insert("nonsense".to_owned(), (Some(1), Some(1)));
    let error = step.run(&host.executor()).err().unwrap();
    assert!(error.kind == ErrorKind::InvalidParameter && error.to_string().contains("RLIMIT_NONSENSE"), "{error}");
    host.assert_clean();
}

fn privilege_needs_to_be_asked_for() {
    let host = Host::new();
    let script = "grep -h -e CapEff -e '^Seccomp:' /proc/self/status; mount -t tmpfs x /tmp 2>/dev/null && echo mounted; cat /proc/sysrq-trigger >/dev/null 2>&1; (cat /proc/sys/kernel/panic >/proc/sys/kernel/panic) 2>/dev/null && echo writable; [ -c /dev/kmsg ] && echo devices; exit 0";
    let ordinary = host.output(&host.script(script));
    assert_eq!(ordinary, "CapEff:\t00000000a80425fb\nSeccomp:\t2\n");
    let mut step = host.script(script);
    step.insecure = true;
    let insecure = host.output(&step);
    assert!(insecure.contains("Seccomp:\t0\nmounted\nwritable\n"), "{insecure}");
    assert_eq!(insecure.contains("devices"), std::path::Path::new("/dev/kmsg").exists());
    assert!(!insecure.contains("a80425fb"));
}

fn whiteouts_stay() {
    let host = Host::new();
    let executor = host.executor();
    let first = host.script("rm -rf /var; mkdir /var; echo 2 >/var/new").run(&executor).unwrap();
    let mut second = host.script("ls -A /var");
    second.lower.insert(0, first.finished.upper.clone());
    let ended = second.run(&executor).unwrap();
    assert_eq!((ended.stdout.as_str(), ended.changes().len()), ("new\n", 0));
}

fn a_large_request_arrives() {
    let host = Host::new();
    // More than a message holds: arguments, environment.
    let mut step = host.script("echo ${#A} ${#B} ${#C}");
    for name in ["A", "B", "C"] {
        step.env.push(format!("{name}={}", "x".repeat(100_000)));
    }
    assert_eq!(host.output(&step), "100000 100000 100000\n");
    let executor = host.executor();
    executor.cancel();
    assert_eq!(step.run(&executor).err().unwrap().kind, ErrorKind::Cancelled);
}
