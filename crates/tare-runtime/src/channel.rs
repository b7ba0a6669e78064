//! The conversation between a child that becomes the container's process and its parent.
//!
//! ```text
//! parent                         child
//!                                sets up namespaces and mounts
//! Proceed::Entered ────────────►                     only when v1 cgroups were entered
//!                 ◄──────────── Console + descriptor  only with a terminal
//! Proceed::Go ─────────────────►
//!                                becomes the user, loads seccomp, execs
//!                 ◄──────────── end of file: exec succeeded;  or Failed(error)
//! ```
//!
//! The child's end is close-on-exec. A parent that dies ends the conversation, and the child with it.

use crate::error::{Error, Step};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno as Os;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

/// Longer messages than any error can be: paths end at 4096 bytes, and are escaped as JSON.
const MESSAGE_LIMIT: usize = 32 * 1024;

/// What the parent says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proceed {
    /// You are in all your cgroups.
    Entered,
    /// Execute the program.
    Go,
}

/// What the child says.
#[derive(Debug)]
pub(crate) enum Report {
    /// Here is the other end of the terminal.
    Console(OwnedFd),
    /// It did not work.
    Failed(Error),
}

pub(crate) struct ParentEnd(OwnedFd);
pub(crate) struct ChildEnd(OwnedFd);

pub(crate) fn pair() -> Result<(ParentEnd, ChildEnd), Os> {
    let (parent, child) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((ParentEnd(parent), ChildEnd(child)))
}

impl ParentEnd {
    /// Says something to the child. A child that is gone is noticed by [`ParentEnd::receive`].
    pub(crate) fn send(&self, proceed: Proceed) -> Result<(), Os> {
        match rustix::net::send(&self.0, &[proceed as u8], SendFlags::NOSIGNAL) {
            Ok(_) | Err(Os::PIPE | Os::CONNRESET) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits so long for a report, or the end of the child; false when the time is up.
    pub(crate) fn wait(&self, milliseconds: u32) -> Result<bool, Os> {
        let time =
            Timespec { tv_sec: i64::from(milliseconds / 1000), tv_nsec: i64::from(milliseconds % 1000) * 1_000_000 };
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&time)) {
            Err(Os::INTR) => Ok(false),
            result => result.map(|count| count > 0),
        }
    }

    /// Waits for the child's next report; `None` when its end is closed.
    pub(crate) fn receive(&self) -> Result<Option<Report>, Error> {
        let mut bytes = vec![0; MESSAGE_LIMIT];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            match rustix::net::recvmsg(
                &self.0,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            ) {
                Ok(received) => break received,
                // Reset: the child died with something of ours unread. The kernel tells that once, and before what the child
                // had said (af_unix.c, `unix_release_sock`).
                Err(Os::INTR | Os::CONNRESET) => {}
                Err(error) => return Err(Error::step(Step::Synchronise, "the container")(error)),
            }
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
                && let Some(console) = descriptors.next()
            {
                return Ok(Some(Report::Console(console)));
            }
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        let error = serde_json::from_slice(&bytes[..received.bytes])
            .unwrap_or_else(|_| Error::refused(Step::Synchronise, "the container", "its report cannot be read"));
        Ok(Some(Report::Failed(error)))
    }
}

impl ChildEnd {
    /// Waits until the parent says `expected`; an error means that the parent is gone.
    pub(crate) fn wait_for(&self, expected: Proceed) -> Result<(), Error> {
        let mut byte = [0];
        loop {
            match rustix::net::recv(&self.0, &mut byte, RecvFlags::empty()) {
                Ok((1, _)) if byte == [expected as u8] => return Ok(()),
                Err(Os::INTR) => {}
                Err(error) => return Err(Error::step(Step::Synchronise, "the container's parent")(error)),
                Ok(_) => return Err(Error::step(Step::Synchronise, "the container's parent")(Os::PIPE)),
            }
        }
    }

    pub(crate) fn send_console(&self, console: impl AsFd) -> Result<(), Os> {
        let descriptors = [console.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(Os::NOBUFS);
        }
        rustix::net::sendmsg(&self.0, &[IoSlice::new(b"c")], &mut control, SendFlags::NOSIGNAL).map(|_| ())
    }

    /// Tells the parent what went wrong. When that fails too, the exit code is all that is left.
    pub(crate) fn send_error(&self, error: &Error) {
        let bytes = serde_json::to_vec(error).unwrap_or_default();
        let _ = rustix::net::send(&self.0, &bytes[..bytes.len().min(MESSAGE_LIMIT)], SendFlags::NOSIGNAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_arrive_in_order_and_end_with_the_child() {
        let (parent, child) = pair().unwrap();
        parent.send(Proceed::Go).unwrap();
        child.wait_for(Proceed::Go).unwrap();
        child.send_console(std::fs::File::open("/dev/null").unwrap()).unwrap();
        child.send_error(&Error::unsupported("x"));
        drop(child);
        assert!(matches!(parent.receive().unwrap(), Some(Report::Console(_))));
        assert!(matches!(parent.receive().unwrap(), Some(Report::Failed(Error::Unsupported { .. }))));
        assert!(parent.receive().unwrap().is_none());
        parent.send(Proceed::Go).unwrap();
    }

    #[test]
    fn the_last_words_of_a_child_that_did_not_listen_arrive() {
        let (parent, child) = pair().unwrap();
        parent.send(Proceed::Go).unwrap();
        child.send_error(&Error::unsupported("x"));
        drop(child);
        assert!(matches!(parent.receive().unwrap(), Some(Report::Failed(Error::Unsupported { .. }))));
        assert!(parent.receive().unwrap().is_none());
    }

    #[test]
    fn a_child_notices_that_its_parent_is_gone() {
        let (parent, child) = pair().unwrap();
        drop(parent);
        assert!(child.wait_for(Proceed::Go).is_err());
    }
}
