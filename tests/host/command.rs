//! Running programs to their end, with a limit of time.

use super::{PATIENCE, Stream, pause};
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A command that is about to be run.
pub(crate) struct Run {
    command: Command,
    input: Vec<u8>,
    patience: Duration,
}

/// What a finished command said.
#[derive(Debug)]
pub(crate) struct Output {
    /// Exit code; 128 + n when signal n ended it.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Run {
    pub(super) fn new(command: Command) -> Self {
        Self { command, input: Vec::new(), patience: PATIENCE }
    }

    pub(crate) fn into_command(self) -> Command {
        self.command
    }

    /// What standard input holds; empty if not said.
    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Sets a variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives it this long before it counts as hung, where it has more to do than others.
    pub(crate) fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Runs it to its end. A program that does not end, or that leaves its output open to others afterwards, fails the test.
    pub(crate) fn output(self) -> Output {
        let Self { mut command, input, patience } = self;
        let what = format!("{command:?}");
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut stdin = child.stdin.take().unwrap();
        // A program may end without reading its input: a broken pipe is no failure.
        std::thread::spawn(move || stdin.write_all(&input));
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        let code = wait_within(patience, &mut child, &what);
        let held_open = "its standard streams are still open after its end";
        let limit = Duration::from_secs(5);
        let stdout = stdout.recv_timeout(limit).unwrap_or_else(|_| panic!("{what}: {held_open}"));
        let stderr = stderr.recv_timeout(limit).unwrap_or_else(|_| panic!("{what}: {held_open}"));
        Output { code, stdout, stderr }
    }

    /// Runs it, expects success and gives back standard output without the last line's end.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        let what = format!("{:?}", self.command);
        let output = self.output();
        assert_eq!(output.code, 0, "{what}\nstdout: {}\nstderr: {}", output.stdout, output.stderr);
        output.stdout.trim_end().to_owned()
    }

    /// Runs it, expects this exit code and gives back what it said.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> Output {
        let what = format!("{:?}", self.command);
        let output = self.output();
        assert_eq!(output.code, code, "{what}\nstdout: {}\nstderr: {}", output.stdout, output.stderr);
        output
    }

    /// Starts it in the background.
    pub(crate) fn spawn(self) -> Running {
        let mut command = self.command;
        let what = format!("{command:?}");
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
        let stdout = Stream::new(child.stdout.take().unwrap());
        let stderr = Stream::new(child.stderr.take().unwrap());
        Running { what, stdin: child.stdin.take(), stdout, stderr, child }
    }
}

/// A command in the background; killed when dropped.
pub(crate) struct Running {
    what: String,
    child: Child,
    /// Its standard input; `None` closes it.
    pub(crate) stdin: Option<ChildStdin>,
    /// Its standard output.
    pub(crate) stdout: Stream,
    /// Its standard error.
    pub(crate) stderr: Stream,
}

impl Running {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input.
    pub(crate) fn write(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Waits for its end and gives its exit code.
    pub(crate) fn wait(&mut self) -> i32 {
        wait(&mut self.child, &self.what)
    }

    /// Whether it is still there.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        kill(self.pid(), signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process of this machine.
pub(crate) fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn collect(mut from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = from.read_to_end(&mut bytes);
        // Nobody listens any more when the test has given up.
        let _ = sender.send(read.map(|_| String::from_utf8_lossy(&bytes).into_owned()).unwrap());
    });
    receiver
}

/// Waits for a child within [`PATIENCE`].
pub(super) fn wait(child: &mut Child, what: &str) -> i32 {
    wait_within(PATIENCE, child, what)
}

fn wait_within(patience: Duration, child: &mut Child, what: &str) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().or(status.signal().map(|signal| 128 + signal)).unwrap();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{what}: did not end within {patience:?}");
        }
        pause();
    }
}
