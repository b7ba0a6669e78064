//! A connection to the streams of a process in a container.

use crate::container::spec::Streams;
use crate::error::{Error, Result};
use rustix::termios::{Winsize, tcsetwinsize};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tare_runtime::monitor::protocol::{self, Connection, Reply, Request};
use tare_spec::ContainerId;

/// How the process of a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// It ended with this code (0–255, or 128 + signal).
    Exited(i32),
    /// The monitor went away without saying how it ended.
    Lost,
}

/// The streams of a process, for one client. With a terminal, `stdin` and `stdout` carry its raw bytes and there is
/// no `stderr`.
///
/// Pump: read `stdout` and `stderr` until end of file (EIO counts as such on a terminal), write to `stdin`, drop `stdin`
/// for end of file; poll [`Session::control`] and, when it is readable, take [`Session::end`]. After the end drain what
/// the streams still hold without waiting, then stop. Dropping the session detaches: the process goes on.
#[derive(Debug)]
pub struct Session {
    /// Where the process's standard input is written to.
    pub stdin: Option<OwnedFd>,
    /// Its standard output, or its terminal.
    pub stdout: Option<OwnedFd>,
    /// Its standard error.
    pub stderr: Option<OwnedFd>,
    connection: Connection,
    container: ContainerId,
    /// The terminal of an exec'd process, which belongs to its client.
    terminal: Option<OwnedFd>,
}

impl Session {
    /// Becomes readable when the end can be taken.
    #[must_use]
    pub fn control(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }

    /// Waits for the end. That of a container's first process comes when the container is cleaned up.
    ///
    /// # Errors
    /// [`Error::Connection`] when the monitor says what it must not.
    pub fn end(&mut self) -> Result<SessionEnd> {
        match self.connection.receive::<Reply>() {
            Ok(Some((Reply::Exited { code }, _))) => Ok(SessionEnd::Exited(code)),
            Ok(Some((Reply::Failed(failure), _))) => Err(Error::Monitor(failure)),
            Ok(Some((Reply::Started { .. }, _)) | None) => Ok(SessionEnd::Lost),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(SessionEnd::Lost),
            Err(source) => Err(Error::Connection { id: self.container.clone(), source }),
        }
    }

    /// Tells the terminal its size; nothing happens where there is none.
    ///
    /// # Errors
    /// [`Error::Connection`] when the monitor is gone.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        if let Some(terminal) = &self.terminal {
            let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            return tcsetwinsize(terminal, size)
                .map_err(|errno| Error::System { action: "set the terminal's size", source: errno.into() });
        }
        self.connection
            .request(Request::Resize { rows, columns }, &[])
            .map_err(|source| Error::Connection { id: self.container.clone(), source })
    }

    pub(crate) fn attached(pipes: Pipes, connection: Connection, container: ContainerId) -> Self {
        let [stdin, stdout, stderr] = pipes.ours;
        Self { stdin, stdout, stderr, connection, container, terminal: None }
    }

    pub(crate) fn on_terminal(terminal: OwnedFd, connection: Connection, container: ContainerId) -> Result<Self> {
        let copy = || {
            rustix::io::fcntl_dupfd_cloexec(&terminal, 3)
                .map_err(|errno| Error::System { action: "duplicate the terminal", source: errno.into() })
        };
        let (stdin, stdout) = (Some(copy()?), Some(copy()?));
        Ok(Self { stdin, stdout, stderr: None, connection, container, terminal: Some(terminal) })
    }
}

/// Pipes for the streams of a session: one end for the client, the other for whoever serves it.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    ours: [Option<OwnedFd>; 3],
    theirs: [Option<OwnedFd>; 3],
}

impl Pipes {
    pub(crate) fn new(streams: Streams) -> Result<Self> {
        let mut pipes = Self::default();
        for (index, wanted) in [streams.stdin, streams.stdout, streams.stderr].into_iter().enumerate() {
            if wanted {
                let (reader, writer) = io::pipe().map_err(Error::system("make a pipe"))?;
                let (ours, theirs) = if index == 0 {
                    (OwnedFd::from(writer), OwnedFd::from(reader))
                } else {
                    (OwnedFd::from(reader), OwnedFd::from(writer))
                };
                pipes.ours[index] = Some(ours);
                pipes.theirs[index] = Some(theirs);
            }
        }
        Ok(pipes)
    }

    /// The ends that go to the other side, in the protocol's order.
    pub(crate) fn to_send(&self) -> Vec<BorrowedFd<'_>> {
        self.theirs.iter().flatten().map(AsFd::as_fd).collect()
    }

    /// Closes the ends that were sent.
    pub(crate) fn sent(&mut self) {
        self.theirs = [None, None, None];
    }
}

impl From<Streams> for protocol::Streams {
    fn from(streams: Streams) -> Self {
        Self { stdin: streams.stdin, stdout: streams.stdout, stderr: streams.stderr }
    }
}
