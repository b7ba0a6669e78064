//! `run` in the foreground: streams, exit codes and the flags that shape the process.

use crate::host::Host;

#[test]
fn exit_codes_are_the_programs_or_dockers() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let run = |program: &[&str]| host.tare(&[&["run", "--rm", &image], program].concat());
    run(&["true"]).ok();
    run(&["sh", "-c", "exit 7"]).fails(7);
    run(&["sh", "-c", "exit 255"]).fails(255);
    let missing = run(&["no-such-program"]).fails(127);
    assert!(missing.stderr.contains("no-such-program"), "{}", missing.stderr);
    assert!(missing.stderr.contains("executable file not found in $PATH"), "{}", missing.stderr);
    let absent = run(&["/data/absent"]).fails(127);
    assert!(absent.stderr.contains("no such file or directory"), "{}", absent.stderr);
    let plain = run(&["/data/plain"]).fails(126);
    assert!(plain.stderr.contains("permission denied"), "{}", plain.stderr);
    let folder = run(&["/data"]).fails(126);
    assert!(folder.stderr.contains("/data"), "{}", folder.stderr);
    // `exec format error` is among what cannot be executed.
    let garbage = run(&["/data/garbage"]).output();
    assert!([126, 127, 255].contains(&garbage.code) && garbage.stderr.contains("exec format error"), "{garbage:?}");
    host.assert_clean();
}

#[test]
fn standard_streams_are_passed_on_and_kept_apart() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let both = host.tare(&["run", "--rm", &image, "sh", "-c", "echo out; echo err >&2"]).output();
    assert_eq!((both.code, both.stdout.as_str(), both.stderr.as_str()), (0, "out\n", "err\n"));

    // Bytes, not text: a megabyte through a container's stdin and back.
    let input: Vec<u8> = (0..1_000_000_u32).map(|n| b'a' + u8::try_from(n % 26).unwrap()).collect();
    let echoed = host.tare(&["run", "--rm", "-i", &image, "cat"]).input(input.clone()).output();
    assert_eq!(echoed.code, 0, "{}", echoed.stderr);
    assert!(echoed.stdout.as_bytes() == input, "{} bytes came back", echoed.stdout.len());

    // Without -i nothing is read.
    assert_eq!(host.tare(&["run", "--rm", &image, "cat"]).input("ignored").ok(), "");
}

#[test]
fn the_end_of_input_reaches_the_program_while_its_output_goes_on() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let script = "echo ready; cat; echo after; read x </data/plain; echo $x";
    let mut run = host.tare(&["run", "--rm", "-i", &image, "sh", "-c", script]).spawn();
    run.stdout.expect("ready\n");
    run.write("first\n");
    run.stdout.expect("first\n");
    run.stdin = None;
    run.stdout.expect("after\n");
    run.stdout.expect("not a program\n");
    assert_eq!(run.wait(), 0);
}

#[test]
fn flags_shape_the_process() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let run = |flags: &[&str], program: &[&str]| {
        host.tare(&[&["run", "--rm"], flags, &[image.as_str()], program].concat()).env("FROM_HOST", "seen").ok()
    };
    let environment = run(&["-e", "A=1", "--env", "FROM_HOST", "-e", "NOT_SET"], &["env"]);
    let lines: Vec<&str> = environment.lines().collect();
    for line in ["A=1", "FROM_HOST=seen", "IMAGE=busybox", "PATH=/bin", "HOME=/root"] {
        assert!(lines.contains(&line), "{line} is not in {environment}");
    }
    assert!(!environment.contains("NOT_SET"), "{environment}");
    assert!(lines.iter().any(|line| line.starts_with("HOSTNAME=")), "{environment}");

    assert_eq!(run(&["-w", "/tmp"], &["pwd"]), "/tmp");
    assert_eq!(run(&["-w", "/made/for/this"], &["pwd"]), "/made/for/this");
    assert_eq!(run(&[], &["pwd"]), "/");
    assert_eq!(run(&["-u", "1000:2000"], &["sh", "-c", "id -u; id -g"]), "1000\n2000");
    assert_eq!(run(&["-u", "user"], &["id"]), "uid=1000(user) gid=1000(user) groups=1000(user),2000(extra)");
    assert_eq!(run(&["-u", "4321"], &["sh", "-c", "id -u; id -g"]), "4321\n0");
    assert_eq!(run(&["--entrypoint", "echo"], &["a", "b"]), "a b");
    assert_eq!(run(&["-h", "somewhere"], &["sh", "-c", "hostname; cat /etc/hostname"]), "somewhere\nsomewhere");
    assert_eq!(run(&[], &["sh", "-c", "echo $0 $$"]), "sh 1");
}

#[test]
fn unknown_users_are_refused() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let unknown = host.tare(&["run", "--rm", "-u", "stranger", &image, "true"]).output();
    assert!([125, 126].contains(&unknown.code), "{unknown:?}");
    assert!(unknown.stderr.contains("stranger"), "{}", unknown.stderr);
    // Row 17 of the table of attacks: the number must not wrap round to root.
    for user in ["4294967296", "-1", "0:4294967296"] {
        let overflow = host.tare(&["run", "--rm", "-u", user, &image, "id"]).output();
        assert!([125, 126].contains(&overflow.code), "{user}: {overflow:?}");
    }
    host.assert_clean();
}

#[test]
fn a_terminal_is_a_real_one() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let mut terminal = host.terminal(&["run", "-it", "--rm", "--name", "shell", &image, "sh"]);
    terminal.expect("# ");
    terminal.write("tty && stty size\n");
    terminal.expect("/dev/");
    terminal.expect("40 100");
    // The window's new size is passed on.
    terminal.resize(50, 132);
    crate::host::eventually("the container's terminal has the new size", || {
        terminal.write("stty size\n");
        terminal.pending().contains("50 132")
    });
    // Raw mode: Ctrl-C goes to the program in the container, not to tare.
    terminal.write("sleep 1000; echo interrupted $?\n");
    crate::host::eventually("sleep runs", || host.tare(&["exec", "shell", "pidof", "sleep"]).output().code == 0);
    terminal.write("\x03");
    terminal.expect("# ");
    terminal.write("exit 3\n");
    assert_eq!(terminal.wait(), 3);
    // The person's terminal is as before.
    use rustix::termios::LocalModes;
    assert!(terminal.modes().local_modes.contains(LocalModes::ICANON | LocalModes::ISIG));
    host.assert_clean();
}

#[test]
fn signals_to_the_client_reach_the_program() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let script = "trap 'echo got it; exit 9' TERM; echo ready; while :; do read x; done";
    let mut run = host.tare(&["run", "--rm", "-i", &image, "sh", "-c", script]).spawn();
    run.stdout.expect("ready\n");
    run.signal(rustix::process::Signal::TERM);
    run.write("\n");
    run.stdout.expect("got it\n");
    assert_eq!(run.wait(), 9);
    host.assert_clean();
}

#[test]
fn a_closed_pipe_is_no_error() {
    let Some(host) = Host::new() else { return };
    let image = host.pull("busybox");
    let mut run = host.tare(&["run", "--rm", &image, "sh", "-c", "echo first; yes"]).spawn();
    run.stdout.expect("first\n");
    drop(std::mem::replace(&mut run.stdout, crate::host::Stream::new(std::fs::File::open("/dev/null").unwrap())));
    run.wait();
    let error = run.stderr.rest();
    assert!(!error.contains("panicked"), "{error}");
}
