//! `exec`: a second program in a running container.

use crate::host::{Host, eventually};

#[test]
fn exec_passes_streams_and_exit_codes() {
    let Some(host) = Host::new() else { return };
    host.sleeper("target", &["-e", "FROM_RUN=yes"]);
    let exec = |arguments: &[&str]| host.tare(&[&["exec"], arguments].concat());
    let both = exec(&["target", "sh", "-c", "echo out; echo err >&2; exit 6"]).fails(6);
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(exec(&["-i", "target", "cat"]).input("through\n").ok(), "through");
    exec(&["target", "sh", "-c", "kill -9 $$"]).fails(137);
    let missing = exec(&["target", "no-such-program"]).fails(127);
    assert!(missing.stderr.contains("executable file not found in $PATH"), "{}", missing.stderr);
    exec(&["target", "/data/plain"]).fails(126);
    exec(&["-u", "nobody-knows", "target", "true"]).fails(126);
    exec(&["-w", "relative", "target", "true"]).fails(126);
    // The first process's working directory is made, that of others is not.
    let nowhere = exec(&["-w", "/nowhere", "target", "true"]).fails(126);
    assert!(nowhere.stderr.contains("chdir to /nowhere: no such file or directory"), "{}", nowhere.stderr);
    exec(&["target", "ls", "-d", "/nowhere"]).fails(1);

    assert_eq!(exec(&["-e", "A=1", "target", "sh", "-c", "echo $A $FROM_RUN $IMAGE"]).ok(), "1 yes busybox");
    assert_eq!(exec(&["-w", "/tmp", "target", "pwd"]).ok(), "/tmp");
    assert_eq!(exec(&["-u", "user", "target", "id", "-u"]).ok(), "1000");
    assert_eq!(exec(&["target", "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '"]).ok().trim(), "sleep 1000000");
}

#[test]
fn exec_detached_goes_on() {
    let Some(host) = Host::new() else { return };
    host.sleeper("target", &[]);
    assert_eq!(
        host.tare(&["exec", "-d", "target", "sh", "-c", "sleep 0.2; echo made >/tmp/file; sleep 1000"]).ok(),
        ""
    );
    eventually("the file is there", || host.tare(&["exec", "target", "cat", "/tmp/file"]).output().stdout == "made\n");
}

#[test]
fn exec_on_a_terminal() {
    let Some(host) = Host::new() else { return };
    host.sleeper("target", &[]);
    let mut terminal = host.terminal(&["exec", "-it", "target", "sh"]);
    terminal.expect("# ");
    terminal.write("tty; stty size; id -u\n");
    terminal.expect("/dev/pts/");
    terminal.expect("40 100");
    terminal.write("exit 8\n");
    assert_eq!(terminal.wait(), 8);
}

#[test]
fn exec_needs_a_running_container() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    host.tare(&["create", "--name", "idle", &image, "true"]).ok();
    let refused = host.tare(&["exec", "idle", "true"]).fails(1);
    assert!(refused.stderr.contains("is not running"), "{}", refused.stderr);
    let unknown = host.tare(&["exec", "nobody", "true"]).fails(1);
    assert!(unknown.stderr.contains("No such container: nobody"), "{}", unknown.stderr);
    // On a host where input is no terminal, -t says so before anything is started.
    let no_terminal = host.tare(&["exec", "-it", "idle", "sh"]).fails(1);
    assert!(no_terminal.stderr.contains("the input device is not a TTY"), "{}", no_terminal.stderr);
}

#[test]
fn an_exec_that_was_killed_leaves_the_container_alone() {
    let Some(host) = Host::new() else { return };
    host.sleeper("target", &[]);
    let mut exec = host.tare(&["exec", "-i", "target", "sh", "-c", "echo ready; cat"]).spawn();
    exec.stdout.expect("ready\n");
    exec.signal(rustix::process::Signal::KILL);
    exec.wait();
    // Its input has ended with the client, so that cat ends too.
    eventually("cat has ended", || host.tare(&["exec", "target", "pidof", "cat"]).output().code == 1);
    assert_eq!(host.inspect("target", "/State/Running"), true);
}
