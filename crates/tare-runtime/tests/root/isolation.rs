//! Namespaces, capabilities, mounts, devices, filter.

use crate::bundle::{Bundle, bind, mount};
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use tare_runtime::{ExecRequest, Exit, Stdio};
use tare_spec::runtime::{Namespace, NamespaceKind, Process};

crate::cases! {
    every_namespace_is_its_own, rights_are_dockers_default, paths_are_hidden_and_read_only,
    devices_are_there_and_others_are_not, the_file_system_is_an_overlay_or_a_directory, a_read_only_root_is_read_only,
    bind_mounts_follow_their_options, kernel_parameters_and_names_are_set, terminals_are_the_containers_own,
    processes_join_a_container, namespaces_can_be_joined, no_descriptor_comes_along,
}

fn every_namespace_is_its_own() {
    let names = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];
    let script = names.map(|name| format!("stat -c %N /proc/self/ns/{name}")).join("; ");
    let output = Bundle::script(&format!("echo $$; hostname; {script}")).output();
    assert!(output.starts_with("1\nbox\n"), "{output}");
    for name in names {
        let own = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert!(output.contains(&format!("{name}:[")) && !output.contains(own.to_str().unwrap()), "{name}\n{output}");
    }
    let cgroups = Bundle::script("cat /proc/self/cgroup").output();
    assert!(cgroups.contains("0::/\n"), "{cgroups}");
}

fn status(output: &str, key: &str) -> String {
    output.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned()
}

fn rights_are_dockers_default() {
    let mut bundle = Bundle::new(&["cat", "/proc/self/status"]);
    let output = bundle.output();
    let sets = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].map(|set| status(&output, set));
    let default = "00000000a80425fb";
    assert_eq!(sets, ["0000000000000000", default, default, default, "0000000000000000"]);
    assert_eq!((status(&output, "Seccomp:"), status(&output, "NoNewPrivs:")), ("2".into(), "0".into()));
    assert_eq!(status(&output, "SigIgn:"), "0000000000000000");
    assert_eq!(status(&output, "SigBlk:"), "0000000000000000");

    bundle.process().no_new_privileges = true;
    bundle.user = Some("web".into());
    let output = bundle.output();
    assert_eq!((status(&output, "NoNewPrivs:"), status(&output, "Seccomp:")), ("1".into(), "2".into()));
    assert_eq!((status(&output, "Uid:"), status(&output, "Gid:")), ("33\t33\t33\t33".into(), "34\t34\t34\t34".into()));
    assert_eq!((status(&output, "Groups:"), status(&output, "CapEff:")), ("29 34".into(), "0000000000000000".into()));
    assert_eq!(status(&output, "CapBnd:"), default);

    bundle.process().no_new_privileges = false;
    bundle.process().args = ["sh", "-c", "echo $HOME; echo out > /dev/stdout; mount"].map(str::to_owned).into();
    let output = bundle.run().unwrap();
    assert!(output.stdout.starts_with("/home/web\nout\n"), "{output:?}");
}

fn paths_are_hidden_and_read_only() {
    let output = Bundle::script(
        "cat /proc/keys /proc/timer_list /proc/interrupts | head -c 9; ls /sys/firmware; \
         for path in /proc/sys/kernel/hostname /proc/irq/default_smp_affinity /sys/kernel/mm/ksm/run; do echo 1 > $path; done",
    )
    .run()
    .unwrap();
    assert_eq!(output.stdout, "");
    assert_eq!(output.stderr.matches("Read-only file system").count(), 3, "{output:?}");
    let mounts = Bundle::new(&["cat", "/proc/self/mountinfo"]).output();
    assert!(mounts.lines().all(|line| !line.contains("shared:") && !line.contains("master:")), "{mounts}");
    assert!(mounts.lines().next().unwrap().contains(" / / "), "{mounts}");
}

fn devices_are_there_and_others_are_not() {
    let output = Bundle::script(
        "echo x > /dev/null; head -c 2 /dev/zero | wc -c 2>/dev/null; stat -c '%n %t:%T %a' /dev/null /dev/full /dev/tty; \
         stat -c %N /dev/fd /dev/ptmx; mknod /tmp/mem c 1 1 && echo made; head -c 1 /tmp/mem; mknod /tmp/sda b 8 0; head -c 1 /tmp/sda",
    )
    .run()
    .unwrap();
    assert!(output.stdout.contains("/dev/null 1:3 666\n/dev/full 1:7 666\n/dev/tty 5:0 666\n"), "{output:?}");
    assert!(output.stdout.contains("'/dev/fd' -> '/proc/self/fd'") && output.stdout.contains("made\n"), "{output:?}");
    assert_eq!(output.stderr.matches("Operation not permitted").count(), 2, "{output:?}");
}

fn the_file_system_is_an_overlay_or_a_directory() {
    let mut bundle = Bundle::script("echo new > /file; mkdir -p /a/b");
    bundle.output();
    assert!(!bundle.rootfs().join("file").exists());
    assert_eq!(fs::read_to_string(bundle.folder.path().join("upper/file")).unwrap(), "new\n");
    bundle.overlay = false;
    bundle.output();
    assert_eq!(fs::read_to_string(bundle.rootfs().join("file")).unwrap(), "new\n");
}

fn a_read_only_root_is_read_only() {
    let mut bundle = Bundle::script("echo x > /file; echo x > /dev/shm/file && echo fine");
    bundle.spec.root.as_mut().unwrap().readonly = true;
    let output = bundle.run().unwrap();
    assert!(output.stderr.contains("Read-only file system") && output.stdout == "fine\n", "{output:?}");
}

fn bind_mounts_follow_their_options() {
    let mut bundle =
        Bundle::script("cat /new/deep/file /etc/one; echo x > /new/deep/file; echo x > /rw/file; cat /rw/file");
    let data = bundle.folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "content\n").unwrap();
    bundle.spec.mounts.push(bind(&data, "/new/deep", "rbind,rro"));
    bundle.spec.mounts.push(bind(&data.join("file"), "/etc/one", "bind,ro"));
    bundle.spec.mounts.push(bind(&data, "/rw", "rbind"));
    let output = bundle.run().unwrap();
    assert_eq!(output.stdout, "content\ncontent\nx\n");
    assert!(output.stderr.contains("Read-only file system"), "{output:?}");
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "x\n");
    bundle.spec.mounts.push(bind(&data.join("none"), "/none", "bind"));
    let error = bundle.run().unwrap_err();
    assert!(error.to_string().contains("data/none"), "{error}");
}

fn kernel_parameters_and_names_are_set() {
    let mut bundle = Bundle::script(
        "hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni",
    );
    bundle.spec.hostname = Some("name".into());
    bundle.spec.domainname = Some("domain".into());
    bundle.linux().sysctl.insert("net.ipv4.ip_forward".into(), "1".into());
    bundle.linux().sysctl.insert("kernel.shmmni".into(), "99".into());
    assert_eq!(bundle.output(), "name\ndomain\n1\n99\n");
}

/// Reads a terminal until its other end is closed.
fn read_terminal(console: OwnedFd) -> String {
    let mut bytes = Vec::new();
    // EIO: the last process has closed it.
    let _ = fs::File::from(console).read_to_end(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

fn terminals_are_the_containers_own() {
    let bundle = Bundle::script("tty; stty size; stat -c %t:%T /dev/console; echo x > /dev/tty; ls -1 /dev/pts");
    let stdio = Stdio::Terminal { rows: 31, columns: 97 };
    let running = tare_runtime::create(bundle.request(stdio)).unwrap().start().unwrap();
    let output = read_terminal(running.console.as_ref().unwrap().try_clone().unwrap());
    assert_eq!(running.wait().unwrap(), Exit::Code(0), "{output}");
    assert_eq!(output.replace('\r', ""), "/dev/pts/0\n31 97\n88:0\nx\n0\nptmx\n");
    bundle.cgroup().remove().unwrap();
    bundle.assert_gone();
}

fn processes_join_a_container() {
    let bundle = Bundle::script("echo up; sleep 1000");
    let (running, mut stdout, _stderr) = bundle.start().unwrap();
    let mut up = [0; 3];
    stdout.read_exact(&mut up).unwrap();
    let process = |script: &str| {
        let args = ["sh", "-c", script].map(str::to_owned).into();
        Process { args, ..bundle.spec.process.clone().unwrap() }
    };
    let cgroup = bundle.cgroup();
    let exec = |process: &Process, user: Option<&str>, stdio: Stdio| {
        let seccomp = bundle.spec.linux.as_ref().unwrap().seccomp.as_ref();
        let init = rustix::fd::AsFd::as_fd(&running.pidfd);
        tare_runtime::exec(ExecRequest { init, cgroup: &cgroup, process, seccomp, user, stdio })
    };
    let (mut output, end) = crate::bundle::pipe();
    let stdio = Stdio::Pipes { stdin: None, stdout: end.try_clone().unwrap(), stderr: end };
    let script =
        "hostname; grep -E 'CapEff|Seccomp:' /proc/self/status; cat /proc/1/cmdline; cat /proc/self/cgroup; exit 7";
    let joined = exec(&process(script), None, stdio).unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(joined.wait().unwrap(), Exit::Code(7), "{text}");
    for expected in ["box\n", "CapEff:\t00000000a80425fb", "Seccomp:\t2", "sleep\x001000", "0::/\n"] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }

    let joined = exec(&process("tty; id -u"), Some("web"), Stdio::Terminal { rows: 5, columns: 5 }).unwrap();
    let text = read_terminal(joined.console.as_ref().unwrap().try_clone().unwrap());
    assert_eq!((joined.wait().unwrap(), text.as_str()), (Exit::Code(0), "/dev/pts/0\r\n33\r\n"));

    let missing = Process { args: vec!["nothing".into()], ..process("") };
    assert_eq!(exec(&missing, None, Stdio::Null).unwrap_err().exit_code(), 127);
    // It is in the cgroup, so that one kill reaches it; and its end is the caller's to see.
    let sleeper = exec(&process("exec sleep 1000"), None, Stdio::Null).unwrap();
    let members = cgroup.processes();
    assert!(members.contains(&running.pid) && members.contains(&sleeper.pid), "{members:?}");
    cgroup.kill_all().unwrap();
    assert_eq!((sleeper.wait().unwrap(), running.wait().unwrap()), (Exit::Signal(9), Exit::Signal(9)));
    let error = exec(&process("true"), None, Stdio::Null).unwrap_err();
    assert!(
        matches!(
            error,
            tare_runtime::Error::Step {
                step: tare_runtime::Step::JoinNamespace | tare_runtime::Step::CreateCgroup,
                ..
            }
        ),
        "{error}"
    );
    cgroup.remove().unwrap();
    bundle.assert_gone();
}

fn namespaces_can_be_joined() {
    let first = Bundle::script("echo up; sleep 1000");
    let (running, mut stdout, _stderr) = first.start().unwrap();
    stdout.read_exact(&mut [0; 3]).unwrap();
    let mut second = Bundle::script("stat -c %N /proc/self/ns/net; ls /proc");
    let path = |name: &str| format!("/proc/{}/ns/{name}", running.pid).into();
    for (kind, name) in [(NamespaceKind::Network, "net"), (NamespaceKind::Pid, "pid")] {
        second.linux().namespaces.retain(|namespace| namespace.kind != kind);
        second.linux().namespaces.push(Namespace { kind, path: Some(path(name)) });
    }
    let (joined, mut stdout, _stderr) = second.start().unwrap();
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(joined.wait().unwrap(), Exit::Code(0));
    second.cgroup().remove().unwrap();
    let net = fs::read_link(format!("/proc/{}/ns/net", running.pid)).unwrap();
    assert!(text.contains(net.to_str().unwrap()), "{text}");
    assert!(text.contains("\n1\n"), "{text}");
    first.cgroup().kill_all().unwrap();
    running.wait().unwrap();
    first.cgroup().remove().unwrap();
    first.assert_gone();
}

fn no_descriptor_comes_along() {
    // Not close-on-exec, as a careless caller's would be.
    let leak = fs::File::open("/etc").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    let mut bundle = Bundle::script("ls /proc/self/fd | while read fd; do echo -n \"$fd \"; done; echo total");
    bundle.spec.mounts.push(mount("/mnt/new", "tmpfs", "size=4k"));
    // 3 is the folder that ls has open.
    assert!(bundle.output().starts_with("0 1 2 3 total"));
}
