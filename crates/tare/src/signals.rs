//! Signals to this process as something that can be polled.

use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// A change of the terminal's size.
pub(crate) const WINDOW_CHANGED: i32 = signal_hook::consts::SIGWINCH;

/// What asks this process to end.
const ENDING: &[i32] = &[1, 2, 3, 15];

/// Everything that may be caught and means something to a container. Left out: SIGCHLD, SIGURG and SIGPIPE, which
/// are about this process; faults (ILL, TRAP, BUS, FPE, SEGV), which must end it; and KILL and STOP.
const FORWARDED: &[i32] = &[1, 2, 3, 6, 10, 12, 14, 15, 16, 18, 20, 21, 22, 24, 25, 26, 27, 28, 29, 30, 31];

/// Caught signals.
#[derive(Debug)]
pub(crate) struct Signals(SignalDelivery<UnixStream, SignalOnly>);

impl Signals {
    /// For a session on a terminal: the changes of its size, and what would leave it in raw mode.
    pub(crate) fn of_terminal() -> io::Result<Self> {
        Self::catch(ENDING.iter().chain(&[WINDOW_CHANGED]))
    }

    /// Everything that is passed on to a container.
    pub(crate) fn to_forward() -> io::Result<Self> {
        Self::catch(FORWARDED.iter())
    }

    /// What asks this process to end.
    pub(crate) fn to_end() -> io::Result<Self> {
        Self::catch(ENDING.iter())
    }

    fn catch<'a>(signals: impl Iterator<Item = &'a i32>) -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        Ok(Self(SignalDelivery::with_pipe(read, write, SignalOnly, signals)?))
    }

    /// Readable when [`Signals::take`] has something.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }

    /// The signals since the last call.
    pub(crate) fn take(&mut self) -> Vec<i32> {
        self.0.pending().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    #[test]
    fn a_caught_signal_wakes_a_poll() {
        let mut signals = Signals::catch([10].iter()).unwrap();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::USR1).unwrap();
        let fd = signals.as_fd();
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], None).unwrap();
        assert_eq!(signals.take(), [10]);
    }
}
