//! The builder's side of a step's process.

use super::EngineExecutor;
use super::request::{Answer, Request, RunRequest, Task};
use super::runner::BUILD_RUN_NAME;
use super::work::WorkFolder;
use crate::error::{Error, Result};
use crate::state::Paths;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::Shutdown;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tare_build::executor::{Finished, Output, Process};
use tare_runtime::monitor::protocol::Connection;
use tare_sys::exec;

/// Bytes that are read of an output at once; a pipe holds as much.
const BUFFER: usize = 64 << 10;

/// The most bytes that a pipe can be made to hold (pipe(7), `/proc/sys/fs/pipe-max-size`).
const PIPE_LIMIT: usize = 1 << 20;

/// The most bytes that are read of a runner's last words.
const WORDS: u64 = 16 << 10;

/// Steps under way.
#[derive(Default)]
pub(super) struct Steps {
    state: Mutex<State>,
    /// The program that runners are started from, opened once.
    program: OnceLock<OwnedFd>,
}

#[derive(Default)]
struct State {
    cancelled: bool,
    running: Vec<Arc<Connection>>,
    /// Runners that have answered, and end by themselves.
    leaving: Vec<Child>,
}

impl Steps {
    /// A copy of the program for runners.
    fn program(&self) -> Result<&OwnedFd> {
        if self.program.get().is_none() {
            // Two threads may open it at once; either descriptor serves.
            let _ = self.program.set(exec::read_only_self().map_err(Error::system("open this program's file"))?);
        }
        Ok(self.program.get().expect("it was set above"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in it is ever half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.state().cancelled { Err(Error::BuildCancelled) } else { Ok(()) }
    }

    pub(super) fn cancel(&self) {
        let mut state = self.state();
        state.cancelled = true;
        for runner in &state.running {
            // A runner that is gone already needs no word.
            let _ = rustix::net::shutdown(runner, Shutdown::Write);
        }
    }

    /// Adds a step unless there are to be no more.
    fn add(&self, connection: Connection) -> Result<Entry<'_>> {
        let mut state = self.state();
        if state.cancelled {
            return Err(Error::BuildCancelled);
        }
        let connection = Arc::new(connection);
        state.running.push(Arc::clone(&connection));
        Ok(Entry { steps: self, connection })
    }

    /// Reaps runners: this one and those before it, once they have ended.
    fn leave(&self, runner: Child) {
        let mut state = self.state();
        state.leaving.push(runner);
        state.leaving.retain_mut(|runner| matches!(runner.try_wait(), Ok(None)));
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        for runner in &mut self.state().leaving {
            // They end by themselves within moments.
            let _ = runner.wait();
        }
    }
}

/// One step under way.
struct Entry<'a> {
    steps: &'a Steps,
    connection: Arc<Connection>,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.steps.state().running.retain(|other| !Arc::ptr_eq(other, &self.connection));
    }
}

impl EngineExecutor<'_> {
    pub(super) fn run_step(&self, process: &Process<'_>, output: Output<'_>) -> Result<Finished> {
        self.steps.check()?;
        // A line of /etc/hosts each: what would make two of one is no name.
        let is_name = |name: &str| !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control());
        if let Some((name, _)) = process.hosts.iter().find(|(name, _)| !is_name(name)) {
            return Err(Error::invalid(format!("invalid host name {name:?}")));
        }
        let work = WorkFolder::create(self.engine)?;
        let upper = work.make("upper", 0o755)?;
        work.make("work", 0o700)?;
        let (request, secrets) = RunRequest::new(process);
        match self.carry_out(&work, Task::Run(request), &secrets, output)? {
            Answer::Ended { code, out_of_memory } => {
                Ok(Finished { exit_code: code, out_of_memory, upper, scratch: Box::new(work) })
            }
            answer => Err(unexpected(&answer)),
        }
    }

    /// Has a runner do something in a folder, and waits for it.
    pub(super) fn carry_out(
        &self,
        work: &WorkFolder,
        task: Task,
        secrets: &[&[u8]],
        output: Output<'_>,
    ) -> Result<Answer> {
        let Paths { root, run_root } = self.engine.paths.clone();
        let request = Request { root, run_root, id: work.id.clone(), task };
        let (start, memory) = request.to_memory(secrets)?;
        let ((stdout, their_stdout), (stderr, their_stderr)) = (pipe()?, pipe()?);
        let (ours, theirs) = Connection::pair().map_err(Error::system("make a socket pair"))?;
        let step = self.steps.add(ours)?;
        let mut runner = self.spawn(work, theirs)?;
        let asked = step.connection.send(&start, &[memory.as_fd(), their_stdout.as_fd(), their_stderr.as_fd()]);
        drop((memory, their_stdout, their_stderr));
        let mut reader = Reader { pipes: [stdout, stderr], output, buffer: vec![0; BUFFER] };
        let answer = asked.and_then(|()| {
            let answer = reader.read_until_answer(&step.connection)?;
            // All that was written before the end is in the pipes by now, also where the runner was lost. Their own end need
            // not come: the step may have handed them to somebody.
            reader.read_what_is_there()?;
            Ok(answer)
        });
        // Closes it: a runner that still lives ends the step then, and itself.
        drop(step);
        let lost = match answer {
            Ok(Some(answer)) => {
                self.steps.leave(runner.process);
                return match answer {
                    Answer::Cancelled => Err(Error::BuildCancelled),
                    Answer::Failed(failure) => Err(Error::Monitor(failure)),
                    answer => Ok(answer),
                };
            }
            Ok(None) => runner.lost(None),
            Err(source) => runner.lost(Some(source)),
        };
        Err(lost.after(self.engine.tear_down(&work.id).err().into_iter().collect()))
    }

    /// Starts a runner. It runs from a read-only mount of the program's file that no path leads to, so that a step cannot
    /// write to the program through `/proc/PID/exe` (CVE-2019-5736).
    fn spawn(&self, work: &WorkFolder, connection: Connection) -> Result<Runner> {
        let failed = Error::system("start the process that carries out a build step");
        let (words, their_words) = io::pipe().map_err(Error::system("make a pipe"))?;
        let lock = work.as_fd().try_clone_to_owned().map_err(Error::system("copy a descriptor"))?;
        // The descriptor is closed by the execution itself. Nothing of our environment is for a step.
        let process = Command::new(format!("/proc/self/fd/{}", self.steps.program()?.as_raw_fd()))
            .arg0(BUILD_RUN_NAME)
            .arg(work.id.as_str())
            .env_clear()
            .stdin(connection.into_socket())
            .stdout(lock)
            .stderr(their_words)
            .spawn()
            .map_err(failed)?;
        Ok(Runner { process, words })
    }
}

/// An answer to something else than what was asked.
pub(super) fn unexpected(answer: &Answer) -> Error {
    Error::StepLost { detail: format!("it answered {answer:?}") }
}

/// A pipe of which our end, the first, does not block.
fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = io::pipe().map_err(Error::system("make a pipe"))?;
    let ours = OwnedFd::from(ours);
    let set = rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK);
    set.map_err(|errno| Error::System { action: "make a pipe", source: errno.into() })?;
    Ok((ours, theirs.into()))
}

/// A process that carries out a step.
struct Runner {
    process: Child,
    /// Its standard error.
    words: PipeReader,
}

impl Runner {
    /// Waits for the end of one that ended, or was told to, without an answer.
    fn lost(&mut self, broken: Option<io::Error>) -> Error {
        let status = self.process.wait();
        let mut words = String::new();
        // What it can still say is worth more than why it cannot be read.
        let _ = (&mut self.words).take(WORDS).read_to_string(&mut words);
        let detail = match (words.trim(), broken, status) {
            ("", Some(error), _) => error.to_string(),
            ("", None, Ok(status)) => status.to_string(),
            ("", None, Err(error)) => error.to_string(),
            (words, ..) => words.to_owned(),
        };
        Error::StepLost { detail }
    }
}

/// Reads what a step writes.
struct Reader<'o> {
    /// Standard output and standard error.
    pipes: [OwnedFd; 2],
    output: Output<'o>,
    buffer: Vec<u8>,
}

impl Reader<'_> {
    /// Returns the runner's answer; `None` when it has gone without one.
    fn read_until_answer(&mut self, runner: &Connection) -> io::Result<Option<Answer>> {
        let mut open = [true; 2];
        loop {
            let mut interests = vec![PollFd::new(runner, PollFlags::IN)];
            let waited: Vec<usize> = (0..2).filter(|number| open[*number]).collect();
            interests.extend(waited.iter().map(|number| PollFd::new(&self.pipes[*number], PollFlags::IN)));
            match poll(&mut interests, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let answered = !interests[0].revents().is_empty();
            let ready: Vec<bool> = interests[1..].iter().map(|interest| !interest.revents().is_empty()).collect();
            for number in waited.into_iter().zip(ready).filter_map(|(number, ready)| ready.then_some(number)) {
                open[number] = self.read_once(number)? != Some(0);
            }
            if answered {
                return Ok(runner.receive::<Answer>()?.map(|(answer, _)| answer));
            }
        }
    }

    fn read_what_is_there(&mut self) -> io::Result<()> {
        // No more than what a pipe holds, in case somebody else writes there without end.
        for number in 0..2 {
            let mut left = PIPE_LIMIT;
            while left > 0
                && let Some(count @ 1..) = self.read_once(number)?
            {
                left = left.saturating_sub(count);
            }
        }
        Ok(())
    }

    /// Hands on what is there; 0 at the end, `None` where nothing is there yet.
    fn read_once(&mut self, number: usize) -> io::Result<Option<usize>> {
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.pipes[number], &mut self.buffer[..])) {
            Ok(count) => {
                if count > 0 {
                    (self.output)(number == 1, &self.buffer[..count]);
                }
                Ok(Some(count))
            }
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}
