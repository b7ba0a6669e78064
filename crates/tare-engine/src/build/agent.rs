//! An SSH agent of the host inside of a step: a socket of the step's own, and what goes through it.
//!
//! The host's socket itself is not given away: it has the owner and mode that the host wants, and the step could change
//! them for the host. Connections end with the step.

use crate::error::{Error, Result};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use tare_runtime::monitor::protocol::short_path;

/// The most connections at once; more wait. Git opens one for each fetch.
const MOST_CONNECTIONS: usize = 64;

/// Bytes moved at once; the most that agents take in one message is 256 KiB.
const BUFFER: usize = 16 << 10;

/// How often a direction is served before others have their turn.
const TURNS: usize = 16;

/// A socket that the step connects to.
pub(super) struct Agent {
    listener: UnixListener,
    host: PathBuf,
    connections: Vec<Connection>,
}

impl Agent {
    /// Listens at a place for connections that go on to the host's socket.
    pub(super) fn listen(place: &Path, host: &Path, mode: u32, owner: (u32, u32)) -> Result<Self> {
        let failed = |action| move |source| Error::file(action, place, source);
        // Found out now: a step that fails at its first connection would not say why.
        drop(connect(host).map_err(|source| Error::file("connect to the SSH agent at", host, source))?);
        let listener = short_path(place).and_then(|short| UnixListener::bind(short.path()));
        let listener = listener.map_err(failed("listen at"))?;
        listener.set_nonblocking(true).map_err(failed("listen at"))?;
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        rustix::fs::chownat(CWD, place, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .and_then(|()| rustix::fs::chmod(place, Mode::from_raw_mode(mode & 0o777)))
            .map_err(|errno| failed("set owner and mode of")(errno.into()))?;
        Ok(Self { listener, host: host.to_owned(), connections: Vec::new() })
    }

    /// What to wait for before the next [`Agent::serve`].
    pub(super) fn interests(&self) -> Vec<PollFd<'_>> {
        let listens = if self.connections.len() < MOST_CONNECTIONS { PollFlags::IN } else { PollFlags::empty() };
        let mut interests = vec![(self.listener.as_fd(), listens)];
        for Connection { step, host, ways: [there, back] } in &self.connections {
            interests.push((step.as_fd(), there.reads() | back.writes()));
            interests.push((host.as_fd(), back.reads() | there.writes()));
        }
        // poll(2) tells of an end also who does not ask.
        let wanted = interests.into_iter().filter(|(_, flags)| !flags.is_empty());
        wanted.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect()
    }

    /// Does all that does not block.
    pub(super) fn serve(&mut self) {
        while self.connections.len() < MOST_CONNECTIONS
            && let Ok((step, _)) = self.listener.accept()
        {
            // A host's agent that is gone looks to the step as it would on the host: the connection ends.
            if let Ok(connection) = connect(&self.host).and_then(|host| Connection::new(step, host)) {
                self.connections.push(connection);
            }
        }
        self.connections.retain_mut(Connection::serve);
    }
}

fn connect(host: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(short_path(host)?.path())
}

struct Connection {
    step: UnixStream,
    host: UnixStream,
    /// From the step to the host, and back.
    ways: [Way; 2],
}

impl Connection {
    fn new(step: UnixStream, host: UnixStream) -> io::Result<Self> {
        step.set_nonblocking(true)?;
        host.set_nonblocking(true)?;
        Ok(Self { step, host, ways: [Way::default(), Way::default()] })
    }

    /// Moves what can be moved; false when it is over.
    fn serve(&mut self) -> bool {
        let [there, back] = &mut self.ways;
        let moved = there.serve(&self.step, &self.host).and_then(|()| back.serve(&self.host, &self.step));
        moved.is_ok() && !(there.ended && back.ended)
    }
}

/// One direction.
#[derive(Default)]
struct Way {
    waiting: Vec<u8>,
    /// The source has ended.
    closed: bool,
    /// The sink knows.
    ended: bool,
}

impl Way {
    fn reads(&self) -> PollFlags {
        if self.closed || !self.waiting.is_empty() { PollFlags::empty() } else { PollFlags::IN }
    }

    fn writes(&self) -> PollFlags {
        if self.waiting.is_empty() { PollFlags::empty() } else { PollFlags::OUT }
    }

    fn serve(&mut self, mut from: &UnixStream, mut to: &UnixStream) -> io::Result<()> {
        for _ in 0..TURNS {
            if !self.waiting.is_empty() {
                match to.write(&self.waiting) {
                    Ok(count) => drop(self.waiting.drain(..count)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error),
                }
                continue;
            }
            if self.closed {
                if !self.ended {
                    self.ended = true;
                    to.shutdown(Shutdown::Write)?;
                }
                return Ok(());
            }
            let mut buffer = [0; BUFFER];
            match from.read(&mut buffer) {
                Ok(0) => self.closed = true,
                Ok(count) => self.waiting.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
