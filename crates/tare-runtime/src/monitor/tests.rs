//! The loop, around real processes instead of containers.

use super::log::LogFile;
use super::protocol::{Connection, Envelope, Exec, Failure, Reply, Request, Streams, VERSION, listen};
use super::{ContainerStreams, Executed, Supervisor};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use tare_spec::runtime::Process;

struct Monitor {
    folder: tempfile::TempDir,
    /// The number of its thread.
    number: i32,
    thread: JoinHandle<()>,
}

fn pidfd(child: &Child) -> OwnedFd {
    pidfd_open(Pid::from_child(child), PidfdFlags::empty()).unwrap()
}

/// What the loop needs of a child, which it reaps.
fn executed(child: Child) -> Executed {
    Executed { pid: child.id() as i32, pidfd: pidfd(&child), terminal: None }
}

fn run_exec(exec: Exec, descriptors: Vec<OwnedFd>) -> Result<Executed, Failure> {
    let mut descriptors = descriptors.into_iter();
    let mut command = Command::new(&exec.process.args[0]);
    command.args(&exec.process.args[1..]).stdout(descriptors.next().map_or_else(Stdio::null, Stdio::from));
    Ok(executed(command.spawn().unwrap()))
}

impl Monitor {
    /// A shell in place of a container, and the connection of who started it.
    fn start(script: &str, attach: Option<(Streams, &[BorrowedFd<'_>])>) -> (Self, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let listener = listen(&folder.path().join("sock")).unwrap();
        let log = LogFile::new(folder.path().join("log"));
        let (client, starter) = Connection::pair().unwrap();
        let stdin_once = attach.as_ref().is_some_and(|(streams, _)| streams.stdin);
        if let Some((streams, descriptors)) = attach {
            client.request(Request::Attach(streams), descriptors).unwrap();
        }
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_pid()).unwrap();
            let mut supervisor = Supervisor::new(listener, Some(starter), log).unwrap();
            let mut child = command.spawn().unwrap();
            let streams = ContainerStreams {
                stdin: child.stdin.take().map(OwnedFd::from),
                stdout: child.stdout.take().map(OwnedFd::from),
                stderr: child.stderr.take().map(OwnedFd::from),
                terminal: None,
                stdin_once,
            };
            supervisor.adopt(streams).unwrap();
            supervisor.started(child.id() as i32);
            supervisor.run(pidfd(&child).as_fd(), &mut run_exec).unwrap();
            let code = child.wait().unwrap().code().unwrap();
            supervisor.finish(code).unwrap();
        });
        assert!(matches!(receive(&client), Reply::Started { .. }));
        (Self { folder, number: told.recv().unwrap(), thread }, client)
    }

    fn connect(&self) -> Connection {
        Connection::connect(&self.folder.path().join("sock")).unwrap()
    }

    /// Joins its output and error.
    fn attach(&self) -> (Connection, PipeReader, PipeReader) {
        let connection = self.connect();
        let (stdout, stdout_writer) = pipe().unwrap();
        let (stderr, stderr_writer) = pipe().unwrap();
        let streams = Streams { stdin: false, stdout: true, stderr: true };
        connection.request(Request::Attach(streams), &[stdout_writer.as_fd(), stderr_writer.as_fd()]).unwrap();
        assert!(matches!(receive(&connection), Reply::Started { .. }));
        (connection, stdout, stderr)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn join(self) -> String {
        let path = self.log();
        self.thread.join().unwrap();
        // Without output there is none.
        std::fs::read_to_string(path).unwrap_or_default()
    }
}

fn receive(connection: &Connection) -> Reply {
    connection.receive::<Reply>().unwrap().expect("the monitor closed the connection").0
}

fn read_all(mut from: impl Read) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).unwrap();
    text
}

/// A pair of pipes for input and output of the starter's attachment.
fn starter() -> (PipeWriter, PipeReader, PipeReader, PipeWriter) {
    let (input_reader, input) = pipe().unwrap();
    let (output, output_writer) = pipe().unwrap();
    (input, output, input_reader, output_writer)
}

const IN_OUT: Streams = Streams { stdin: true, stdout: true, stderr: false };

#[test]
fn the_starter_gets_everything_and_the_exit_code() {
    let (mut input, output, theirs_in, theirs_out) = starter();
    let descriptors = [theirs_in.as_fd(), theirs_out.as_fd()];
    let (monitor, client) = Monitor::start("echo first; cat; exit 3", Some((IN_OUT, &descriptors)));
    drop((theirs_in, theirs_out));
    input.write_all(b"typed\n").unwrap();
    drop(input);
    assert_eq!(read_all(output), "first\ntyped\n");
    assert!(matches!(receive(&client), Reply::Exited { code: 3 }));
    assert_eq!(monitor.join().lines().count(), 2);
}

#[test]
fn a_slow_reader_gets_all_of_a_large_output() {
    let (input, output, theirs_in, theirs_out) = starter();
    let descriptors = [theirs_in.as_fd(), theirs_out.as_fd()];
    let script = "head -c 3000000 /dev/zero | tr '\\0' x; echo";
    let (monitor, client) = Monitor::start(script, Some((IN_OUT, &descriptors)));
    drop((theirs_in, theirs_out, input));
    // The other side of the loop is busy all the time: a second client comes and goes.
    let (connection, stdout, stderr) = monitor.attach();
    drop((connection, stdout, stderr));
    assert_eq!(read_all(output).len(), 3_000_001);
    assert!(matches!(receive(&client), Reply::Exited { code: 0 }));
    let logged: usize = monitor.join().lines().map(|line| line.matches('x').count()).sum();
    assert_eq!(logged, 3_000_000);
}

#[test]
fn large_input_arrives_whole_before_its_end() {
    let (mut input, output, theirs_in, theirs_out) = starter();
    let descriptors = [theirs_in.as_fd(), theirs_out.as_fd()];
    let (monitor, client) = Monitor::start("wc -c", Some((IN_OUT, &descriptors)));
    drop((theirs_in, theirs_out));
    input.write_all(&vec![b'x'; 2_000_000]).unwrap();
    drop(input);
    assert_eq!(read_all(output).trim(), "2000000");
    assert!(matches!(receive(&client), Reply::Exited { code: 0 }));
    monitor.join();
}

#[test]
fn several_clients_see_the_same_and_one_that_leaves_harms_nobody() {
    let (monitor, starter) = Monitor::start("read x; echo $x; echo bad >&2", None);
    let (first, stdout, stderr) = monitor.attach();
    let (second, gone, _) = monitor.attach();
    drop((second, gone));
    let late = monitor.connect();
    let (reader, mut writer) = pipe().unwrap();
    late.request(Request::Attach(Streams { stdin: true, ..Streams::default() }), &[reader.as_fd()]).unwrap();
    drop(reader);
    assert!(matches!(receive(&late), Reply::Started { .. }));
    writer.write_all(b"hello\n").unwrap();
    assert_eq!((read_all(stdout), read_all(stderr)), ("hello\n".to_owned(), "bad\n".to_owned()));
    assert!(matches!(receive(&first), Reply::Exited { code: 0 }));
    drop(starter);
    let log = monitor.join();
    assert!(log.contains(r#""log":"hello\n","stream":"stdout""#) && log.contains(r#""stream":"stderr""#), "{log}");
}

#[test]
fn an_exec_has_its_own_output_and_code() {
    let (monitor, starter) = Monitor::start("read x", None);
    let client = monitor.connect();
    let (output, writer) = pipe().unwrap();
    let words = ["sh", "-c", "echo inside; exit 7"];
    let process = Process { args: words.map(str::to_owned).to_vec(), ..Process::default() };
    let streams = Streams { stdout: true, ..Streams::default() };
    let exec = Exec { process, user: None, streams, size: None };
    client.request(Request::Exec(Box::new(exec)), &[writer.as_fd()]).unwrap();
    drop(writer);
    assert!(matches!(receive(&client), Reply::Started { pid } if pid > 0));
    assert_eq!(read_all(output), "inside\n");
    assert!(matches!(receive(&client), Reply::Exited { code: 7 }));
    let waiting = monitor.connect();
    waiting.request(Request::Wait, &[]).unwrap();
    let input = monitor.connect();
    let (reader, writer) = pipe().unwrap();
    input.request(Request::Attach(Streams { stdin: true, ..Streams::default() }), &[reader.as_fd()]).unwrap();
    assert!(matches!(receive(&input), Reply::Started { .. }));
    File::from(OwnedFd::from(writer)).write_all(b"\n").unwrap();
    assert!(matches!(receive(&waiting), Reply::Exited { code: 0 }));
    drop(starter);
    assert_eq!(monitor.join(), "");
}

#[test]
fn requests_it_does_not_understand_are_answered() {
    let (monitor, starter) = Monitor::start("read x", None);
    let newer = monitor.connect();
    newer.send(&Envelope { version: VERSION + 1, request: Request::Wait }, &[]).unwrap();
    assert!(matches!(receive(&newer), Reply::Failed(failure) if failure.message.contains("version 1")));
    let hostile = monitor.connect();
    hostile.send(&"nonsense", &[]).unwrap();
    assert!(matches!(receive(&hostile), Reply::Failed(_)));
    let short = monitor.connect();
    short.request(Request::Attach(IN_OUT), &[]).unwrap();
    assert!(matches!(receive(&short), Reply::Failed(_)));
    let (_reader, _writer) = pipe().unwrap();
    let end = monitor.connect();
    end.request(Request::Attach(Streams { stdin: true, ..Streams::default() }), &[_reader.as_fd()]).unwrap();
    assert!(matches!(receive(&end), Reply::Started { .. }));
    (&_writer).write_all(b"\n").unwrap();
    drop(starter);
    monitor.join();
}

/// Clock ticks of processor time that this thread has used.
fn ticks(thread: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    let fields: Vec<u64> =
        stat.rsplit_once(") ").unwrap().1.split(' ').skip(11).take(2).map(|field| field.parse().unwrap()).collect();
    fields.iter().sum()
}

#[test]
fn a_container_that_closes_its_input_does_not_keep_the_loop_busy() {
    let (input, output, theirs_in, theirs_out) = starter();
    let descriptors = [theirs_in.as_fd(), theirs_out.as_fd()];
    let script = "exec 0</dev/null; echo closed; sleep 1; echo done; sleep 1";
    let (monitor, client) = Monitor::start(script, Some((IN_OUT, &descriptors)));
    drop((theirs_in, theirs_out));
    let mut reader = std::io::BufReader::new(output);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
    let before = ticks(monitor.number);
    std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
    assert_eq!(line, "closed\ndone\n");
    // A loop that spins uses all of that second: a hundred ticks.
    assert!(ticks(monitor.number) - before < 30);
    drop(input);
    assert!(matches!(receive(&client), Reply::Exited { code: 0 }));
    monitor.join();
}

#[test]
fn who_asks_late_is_told_all_the_same() {
    let (monitor, starter) = Monitor::start("exit 4", None);
    // Asked at some moment of the end: too late to connect or to ask, or answered.
    if let Ok(client) = Connection::connect(&monitor.folder.path().join("sock"))
        && client.request(Request::Wait, &[]).is_ok()
    {
        assert!(matches!(client.receive::<Reply>(), Ok(Some((Reply::Exited { code: 4 }, _)) | None)));
    }
    drop(starter);
    monitor.join();
}
