//! Work inside of another network namespace, and a lock that belongs to one.

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, open},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// The calling thread's network namespace (`/proc/thread-self/ns/net`, `namespaces(7)`).
///
/// # Errors
/// When `/proc` is not mounted.
pub fn current() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(open("/proc/thread-self/ns/net", flags, Mode::empty())?)
}

/// Makes an empty network namespace, which exists as long as the descriptor or a process inside of it. The
/// calling thread stays where it is.
///
/// `int unshare(int flags)`, `unshare(2)`, Linux 2.6.24; needs `CAP_SYS_ADMIN`.
///
/// # Errors
/// As `unshare(2)`.
///
/// # Panics
/// As [`within`].
pub fn create() -> io::Result<OwnedFd> {
    let home = current()?;
    within(home.as_fd(), || {
        // SAFETY: rustix marks unshare unsafe because CLONE_FILES can take away descriptors that other code
        // believes to own; with CLONE_NEWNET alone no descriptor, memory or other thread is affected.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
        current()
    })?
}

/// Runs `work` with the calling thread inside of `namespace`; sockets opened there stay there.
///
/// `int setns(int fd, int nstype)`, `setns(2)`, Linux 3.0; needs `CAP_SYS_ADMIN`. Other threads of the process
/// stay where they are.
///
/// # Errors
/// When the namespace cannot be entered; `work` did not run then.
///
/// # Panics
/// When the thread cannot return: whatever it did next, it would do to the wrong network.
pub fn within<T>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> T) -> io::Result<T> {
    /// Returns also when `work` panics.
    struct Return(OwnedFd);
    impl Drop for Return {
        fn drop(&mut self) {
            enter(self.0.as_fd()).expect("the namespace this thread came from exists as long as its descriptor");
        }
    }
    let home = Return(current()?);
    enter(namespace)?;
    let result = work();
    drop(home);
    Ok(result)
}

/// Moves the calling thread into `namespace` for good.
///
/// # Errors
/// As `setns(2)`.
pub fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?)
}

/// An exclusive lock on the calling thread's network namespace, held until it is dropped.
///
/// The namespace's inode is the one thing that everybody who changes the same interfaces shares, whatever
/// folders they keep their records in.
#[derive(Debug)]
pub struct Lock {
    _namespace: OwnedFd,
}

/// Waits for the [`Lock`].
///
/// # Errors
/// When `/proc` is not mounted.
pub fn lock() -> io::Result<Lock> {
    let namespace = current()?;
    loop {
        match flock(&namespace, FlockOperation::LockExclusive) {
            Err(rustix::io::Errno::INTR) => {}
            result => {
                result?;
                return Ok(Lock { _namespace: namespace });
            }
        }
    }
}
