//! Carries the streams of a session between the container and the person: one poll loop, no thread.

use crate::detach::DetachKeys;
use crate::signals::{Signals, WINDOW_CHANGED};
use crate::terminal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tare_engine::session::{Session, SessionEnd};

/// How a session is carried.
pub(crate) struct Pump<'a> {
    /// Whether standard input goes to the container.
    pub(crate) stdin: bool,
    /// Whether the session is a terminal.
    pub(crate) terminal: bool,
    /// The keys that detach, when standard input is a terminal.
    pub(crate) keys: Option<DetachKeys>,
    /// Signals to this process.
    pub(crate) signals: Option<Signals>,
    /// Passes a signal on to the container.
    pub(crate) forward: &'a dyn Fn(i32),
}

/// Why the carrying ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PumpEnd {
    /// The process of the session ended.
    Session(SessionEnd),
    /// The person detached.
    Detached,
    /// A signal asked this process to end.
    Signalled(i32),
}

/// Bytes read at once.
const READ: usize = 1 << 16;

/// Bytes written at once after poll said that there is room: POSIX promises that so many fit into a pipe then
/// (`PIPE_BUF`), and no write ever waits while signals or the other streams need an answer.
const WRITE: usize = 4096;

/// One direction: what is read from `source` and not yet written.
struct Flow<'fd> {
    source: Option<OwnedFd>,
    target: BorrowedFd<'fd>,
    pending: Pending,
}

#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    written: usize,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    /// Takes more, when all of the last is written.
    fn refill(&mut self) -> &mut Vec<u8> {
        self.written = 0;
        self.bytes.clear();
        &mut self.bytes
    }

    fn write_to(&mut self, target: BorrowedFd<'_>) -> Result<(), Errno> {
        let end = self.bytes.len().min(self.written + WRITE);
        match rustix::io::write(target, &self.bytes[self.written..end]) {
            Ok(n) => self.written += n,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// What a descriptor of the poll list stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Control,
    Signals,
    PersonTypes,
    ContainerTakes,
    ContainerWrites(usize),
    PersonTakes(usize),
}

/// Carries until the session ends, the person detaches, or a signal ends this process.
///
/// # Errors
/// Those of writing to standard output and standard error, and of the session.
pub(crate) fn run(session: &mut Session, pump: Pump<'_>) -> Result<PumpEnd, crate::failure::Failure> {
    let Pump { stdin, terminal, mut keys, mut signals, forward } = pump;
    let (person_in, person_out, person_err) =
        (rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr());
    let mut flows = [
        Flow { source: session.stdout.take(), target: person_out, pending: Pending::default() },
        Flow { source: session.stderr.take(), target: person_err, pending: Pending::default() },
    ];
    let mut container_in = session.stdin.take();
    let mut reading = stdin && container_in.is_some();
    let mut typed = Pending::default();
    let mut buffer = Vec::with_capacity(READ);
    let mut end = None;

    loop {
        let ready = {
            let mut list: Vec<(Role, BorrowedFd<'_>, PollFlags)> = Vec::with_capacity(8);
            if end.is_none() {
                list.push((Role::Control, session.control(), PollFlags::IN));
                match &container_in {
                    Some(fd) if !typed.is_empty() => list.push((Role::ContainerTakes, fd.as_fd(), PollFlags::OUT)),
                    Some(_) if reading => list.push((Role::PersonTypes, person_in, PollFlags::IN)),
                    _ => {}
                }
            }
            if let Some(signals) = &signals {
                list.push((Role::Signals, signals.as_fd(), PollFlags::IN));
            }
            for (index, flow) in flows.iter().enumerate() {
                if !flow.pending.is_empty() {
                    list.push((Role::PersonTakes(index), flow.target, PollFlags::OUT));
                } else if let Some(source) = &flow.source {
                    list.push((Role::ContainerWrites(index), source.as_fd(), PollFlags::IN));
                }
            }
            // After the end only what is there already counts: a process that was left behind may hold the streams.
            let wait = end.is_none() || flows.iter().any(|flow| !flow.pending.is_empty());
            let ready = wait_for(&list, wait)?;
            if !wait && !ready.iter().any(|role| matches!(role, Role::ContainerWrites(_))) {
                break;
            }
            ready
        };
        for role in ready {
            match role {
                Role::Control => end = Some(session.end()?),
                Role::Signals => {
                    for signal in signals.as_mut().map(Signals::take).unwrap_or_default() {
                        match (terminal, signal) {
                            (true, WINDOW_CHANGED) => resize(session),
                            (true, signal) => return Ok(PumpEnd::Signalled(signal)),
                            (false, signal) => forward(signal),
                        }
                    }
                }
                Role::PersonTypes => match read(person_in, &mut buffer)? {
                    Some(0) => {
                        reading = false;
                        // Half of the connection closes: the process sees the end of its input and may still answer.
                        // A terminal has no such half, so its end is not passed on.
                        if !terminal {
                            container_in = None;
                        }
                    }
                    Some(n) => match &mut keys {
                        Some(keys) => {
                            if keys.feed(&buffer[..n], typed.refill()) {
                                return Ok(PumpEnd::Detached);
                            }
                        }
                        None => typed.refill().extend_from_slice(&buffer[..n]),
                    },
                    None => {}
                },
                Role::ContainerTakes => {
                    if let Some(fd) = &container_in
                        && typed.write_to(fd.as_fd()).is_err()
                    {
                        // The process closed its input; what is typed from now on has no reader.
                        container_in = None;
                    }
                }
                Role::ContainerWrites(index) => {
                    let flow = &mut flows[index];
                    if let Some(source) = &flow.source {
                        match read(source.as_fd(), &mut buffer)? {
                            Some(0) => flow.source = None,
                            Some(n) => flow.pending.refill().extend_from_slice(&buffer[..n]),
                            None => {}
                        }
                    }
                }
                Role::PersonTakes(index) => {
                    let flow = &mut flows[index];
                    flow.pending.write_to(flow.target).map_err(io::Error::from)?;
                }
            }
        }
    }
    Ok(PumpEnd::Session(end.unwrap_or(SessionEnd::Lost)))
}

/// Tells the session the size of the person's terminal. When it ends meanwhile, nobody needs to know.
pub(crate) fn resize(session: &Session) {
    if let Some((rows, columns)) = terminal::size() {
        let _ = session.resize(rows, columns);
    }
}

/// The roles whose descriptors can be used without waiting, or have ended.
fn wait_for(list: &[(Role, BorrowedFd<'_>, PollFlags)], wait: bool) -> io::Result<Vec<Role>> {
    let mut fds: Vec<PollFd<'_>> = list.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        match poll(&mut fds, (!wait).then_some(&at_once)) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(list.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty()).map(|((role, ..), _)| *role).collect())
}

/// Reads what there is, and the buffer has room for: `Some(0)` is the end, `None` means to ask again.
fn read(fd: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
    buffer.clear();
    match rustix::io::read(fd, rustix::buffer::spare_capacity(buffer)) {
        Ok(n) => Ok(Some(n)),
        // The other side of a terminal is gone, or there never was a descriptor.
        Err(Errno::IO | Errno::BADF | Errno::CONNRESET) => Ok(Some(0)),
        Err(Errno::INTR | Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::pipe;

    #[test]
    fn pending_bytes_are_written_in_pieces_that_fit() {
        let (reader, writer) = pipe().unwrap();
        let mut pending = Pending::default();
        pending.refill().extend(vec![7; WRITE + 10]);
        pending.write_to(writer.as_fd()).unwrap();
        assert!(!pending.is_empty());
        pending.write_to(writer.as_fd()).unwrap();
        assert!(pending.is_empty());
        let mut buffer = Vec::with_capacity(2 * WRITE);
        assert_eq!(read(reader.as_fd(), &mut buffer).unwrap(), Some(WRITE + 10));
    }

    #[test]
    fn the_end_of_a_stream_is_ready_and_empty() {
        let (reader, writer) = pipe().unwrap();
        let list = [(Role::ContainerWrites(0), reader.as_fd(), PollFlags::IN)];
        assert!(wait_for(&list, false).unwrap().is_empty());
        drop(writer);
        assert!(wait_for(&list, false).unwrap() == [Role::ContainerWrites(0)]);
        assert_eq!(read(reader.as_fd(), &mut Vec::with_capacity(8)).unwrap(), Some(0));
    }
}
