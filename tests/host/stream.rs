//! Reading what a live program says, with a limit of time.

use super::PATIENCE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// One end of a pipe or terminal, read while its program runs.
pub(crate) struct Stream {
    descriptor: OwnedFd,
    unread: Vec<u8>,
    ended: bool,
}

impl Stream {
    pub(crate) fn new(descriptor: impl Into<OwnedFd>) -> Self {
        let descriptor = descriptor.into();
        fcntl_setfl(&descriptor, fcntl_getfl(&descriptor).unwrap() | OFlags::NONBLOCK).unwrap();
        Self { descriptor, unread: Vec::new(), ended: false }
    }

    /// Waits until `text` has come and gives back all up to its end; what follows stays for the next call.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = find(&self.unread, text.as_bytes()) {
                let taken: Vec<u8> = self.unread.drain(..at + text.len()).collect();
                return String::from_utf8_lossy(&taken).into_owned();
            }
            let so_far = || String::from_utf8_lossy(&self.unread).into_owned();
            assert!(!self.ended, "ended before {text:?} came: {:?}", so_far());
            assert!(Instant::now() < deadline, "{text:?} did not come: {:?}", so_far());
            self.fill(deadline);
        }
    }

    /// All that comes until its end.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        while !self.ended {
            assert!(Instant::now() < deadline, "no end came: {:?}", String::from_utf8_lossy(&self.unread));
            self.fill(deadline);
        }
        String::from_utf8_lossy(&std::mem::take(&mut self.unread)).into_owned()
    }

    /// What has come and nobody has taken yet, without waiting.
    pub(crate) fn pending(&mut self) -> String {
        self.fill(Instant::now());
        String::from_utf8_lossy(&self.unread).into_owned()
    }

    fn fill(&mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(1));
        let timeout = Timespec::try_from(left).unwrap();
        poll(&mut [PollFd::new(&self.descriptor, PollFlags::IN)], Some(&timeout)).unwrap();
        let mut buffer = [0; 16384];
        match rustix::io::read(&self.descriptor, &mut buffer) {
            // A terminal whose other side is closed answers EIO.
            Ok(0) | Err(Errno::IO) => self.ended = true,
            Ok(length) => self.unread.extend_from_slice(&buffer[..length]),
            Err(Errno::AGAIN) => {}
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) fn write(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let written = rustix::io::write(&self.descriptor, bytes).unwrap();
            bytes = &bytes[written..];
        }
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }
}

fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}
