//! `logs`.

use crate::host::{Host, eventually};

#[test]
fn logs_keep_streams_apart_and_tail_counts() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let script = "for n in 1 2 3 4 5; do echo line $n; done; echo problem >&2; printf unfinished";
    host.tare(&["run", "--name", "talker", &image, "sh", "-c", script]).ok();
    let all = host.tare(&["logs", "talker"]).output();
    assert_eq!(all.stdout, "line 1\nline 2\nline 3\nline 4\nline 5\nunfinished");
    assert_eq!(all.stderr, "problem\n");
    let tail = host.tare(&["logs", "--tail", "2", "talker"]).output();
    assert_eq!(tail.stdout.lines().count() + tail.stderr.lines().count(), 2, "{tail:?}");
    assert!(tail.stdout.ends_with("unfinished"));
    assert_eq!(host.tare(&["logs", "-n", "0", "talker"]).ok(), "");
    assert_eq!(host.tare(&["logs", "--tail", "all", "talker"]).output().stdout, all.stdout);
}

#[test]
fn logs_with_times_and_since() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    host.tare(&["run", "--name", "talker", &image, "sh", "-c", "echo early; sleep 1.2; echo late"]).ok();
    let stamped = host.tare(&["logs", "-t", "talker"]).ok();
    let times: Vec<&str> = stamped.lines().map(|line| line.split_once(' ').unwrap().0).collect();
    assert!(
        times.iter().all(|time| time.len() == "2026-01-02T03:04:05.000000000Z".len() && time.ends_with('Z')),
        "{stamped}"
    );
    assert_eq!(host.tare(&["logs", "--since", times[1], "talker"]).ok(), "late");
    assert_eq!(host.tare(&["logs", "--since", "1h", "talker"]).ok(), "early\nlate");
    assert_eq!(host.tare(&["logs", "--since", "2100-01-01", "talker"]).ok(), "");
}

#[test]
fn logs_follow_to_the_end() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    host.tare(&["run", "-d", "-i", "--name", "talker", &image, "sh", "-c", "echo first; read x; echo $x"]).ok();
    let mut follow = host.tare(&["logs", "-f", "talker"]).spawn();
    follow.stdout.expect("first\n");
    let mut attached = host.tare(&["attach", "talker"]).spawn();
    assert!(follow.is_running());
    attached.write("second\n");
    follow.stdout.expect("second\n");
    attached.wait();
    assert_eq!(follow.wait(), 0);
}

#[test]
fn long_lines_come_back_whole() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    // Longer than the 16 KiB that one record of the log holds.
    let script = "head -c 100000 /dev/zero | tr '\\0' x; echo; echo end";
    host.tare(&["run", "-d", "--name", "long", &image, "sh", "-c", script]).ok();
    host.tare(&["wait", "long"]).ok();
    eventually("all is there", || host.tare(&["logs", "long"]).ok().ends_with("\nend"));
    assert_eq!(host.tare(&["logs", "long"]).ok().lines().next().unwrap().len(), 100_000);
}

#[test]
fn who_follows_from_before_the_first_output_sees_it() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    // It goes on until it is killed: an exec into a container that ends meanwhile is killed with it.
    let script = "while [ ! -e /go ]; do sleep 0.01; done; echo late; exec sleep 1000000";
    let id = host.tare(&["run", "-d", "--name", "late", &image, "sh", "-c", script]).ok();
    let log = host.root().join(format!("containers/{id}/{id}-json.log"));
    assert_eq!(host.tare(&["logs", "late"]).ok(), "");
    assert!(!log.exists(), "made before there is something in it");
    let mut follower = host.tare(&["logs", "-f", "late"]).spawn();
    eventually("it watches", || log.exists());
    host.tare(&["exec", "late", "touch", "/go"]).ok();
    follower.stdout.expect("late\n");
    host.tare(&["kill", "late"]).ok();
    assert_eq!(follower.wait(), 0);
    assert_eq!(follower.stdout.rest(), "");
}
