//! Reading and writing of pipes and terminals that must never block the loop.

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What an event of the loop is about: who (0 is the container, others are clients), and which of its descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) client: u32,
    pub(super) what: What,
}

/// The descriptors the loop watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The listening socket.
    Listener,
    /// The process: the container's first or an exec'd one.
    Process,
    /// Standard input: of the container to write to, of a client to read from.
    Input,
    /// Standard output: of the container to read from, of a client to write to.
    Output,
    /// Standard error, likewise.
    Error,
    /// A client's connection.
    Connection,
    /// The signal that asks for the end.
    Termination,
}

impl Token {
    const KINDS: [What; 7] =
        [What::Listener, What::Process, What::Input, What::Output, What::Error, What::Connection, What::Termination];

    pub(super) fn container(what: What) -> Self {
        Self { client: 0, what }
    }

    fn data(self) -> EventData {
        EventData::new_u64(u64::from(self.client) << 8 | self.what as u64)
    }

    pub(super) fn from_data(data: EventData) -> Self {
        let value = data.u64();
        let client = u32::try_from(value >> 8).expect("only data() makes these values");
        Self { client, what: Self::KINDS[(value & 0xff) as usize] }
    }
}

/// The set of watched descriptors.
#[derive(Debug)]
pub(super) struct Watch {
    epoll: OwnedFd,
}

impl Watch {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    pub(super) fn add(&self, fd: impl AsFd, token: Token, events: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, token.data(), events)?)
    }

    pub(super) fn change(&self, fd: impl AsFd, token: Token, events: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, fd, token.data(), events)?)
    }

    /// Needed where a duplicate of the descriptor stays open, as the kernel watches the open file, not the number.
    pub(super) fn remove(&self, fd: impl AsFd) {
        // The only failure is that it was not watched, which is what is wanted.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits for events, at most `milliseconds` when given; none means that the time is up.
    pub(super) fn wait(&self, milliseconds: Option<u32>) -> io::Result<Vec<(Token, EventFlags)>> {
        let mut events = Vec::with_capacity(16);
        let timeout = milliseconds.map(|ms| rustix::event::Timespec {
            tv_sec: i64::from(ms / 1000),
            tv_nsec: i64::from(ms % 1000) * 1_000_000,
        });
        rustix::io::retry_on_intr(|| {
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref())
        })?;
        Ok(events.iter().map(|event| (Token::from_data(event.data), event.flags)).collect())
    }
}

pub(super) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}

/// What one read gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    Bytes(usize),
    Nothing,
    End,
}

/// Reads into what the buffer has room for, instead of what was in it.
pub(super) fn read(fd: impl AsFd, buffer: &mut Vec<u8>) -> Read {
    buffer.clear();
    match rustix::io::retry_on_intr(|| rustix::io::read(&fd, rustix::buffer::spare_capacity(buffer))) {
        Ok(0) => Read::End,
        Ok(count) => Read::Bytes(count),
        Err(Errno::AGAIN) => Read::Nothing,
        // A terminal whose other side is closed answers EIO; no other error of a pipe leaves anything to read either.
        Err(_) => Read::End,
    }
}

/// What one write did with the front of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// So many bytes were taken; less than offered means that it is full.
    Bytes(usize),
    /// Nobody reads any more.
    Closed,
}

pub(super) fn write(fd: impl AsFd, bytes: &[u8]) -> Written {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::retry_on_intr(|| rustix::io::write(&fd, &bytes[done..])) {
            Ok(count) => done += count,
            Err(Errno::AGAIN) => break,
            Err(_) => return Written::Closed,
        }
    }
    Written::Bytes(done)
}
