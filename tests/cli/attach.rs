//! `attach` and the keys that detach.

use crate::host::{Host, eventually};

#[test]
fn attach_sees_output_from_now_on_and_passes_input() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    host.tare(&[
        "run",
        "-d",
        "-i",
        "--name",
        "echo",
        &image,
        "sh",
        "-c",
        "while read x; do echo got $x; [ $x = quit ] && exit 4; done",
    ])
    .ok();
    let mut attached = host.tare(&["attach", "echo"]).spawn();
    attached.write("one\n");
    attached.stdout.expect("got one\n");
    // Two may watch.
    let mut second = host.tare(&["attach", "--no-stdin", "echo"]).spawn();
    eventually("both see what comes", || {
        attached.write("two\n");
        second.stdout.pending().contains("got two")
    });
    // Started with -d, its input outlives the one who typed.
    attached.stdin = None;
    let mut third = host.tare(&["attach", "echo"]).spawn();
    third.write("quit\n");
    assert_eq!(third.wait(), 4);
    assert_eq!(attached.wait(), 4);
    assert_eq!(second.wait(), 4);
}

#[test]
fn detach_keys_leave_the_container_running() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let mut terminal = host.terminal(&["run", "-it", "--name", "shell", &image, "sh"]);
    terminal.expect("# ");
    terminal.write("X=kept\n");
    terminal.expect("# ");
    terminal.write("\x10\x11");
    assert_eq!(terminal.wait(), 0);
    assert_eq!(host.inspect("shell", "/State/Running"), true);

    let mut again = host.terminal(&["attach", "--detach-keys", "ctrl-a,d", "shell"]);
    again.write("echo $X\n");
    again.expect("kept");
    again.write("\x01d");
    assert_eq!(again.wait(), 0);
    assert_eq!(host.inspect("shell", "/State/Running"), true);
}

#[test]
fn attach_needs_a_running_container() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    host.tare(&["create", "--name", "idle", &image, "true"]).ok();
    let refused = host.tare(&["attach", "idle"]).fails(1);
    assert!(refused.stderr.contains("cannot attach to a stopped container"), "{}", refused.stderr);
}
