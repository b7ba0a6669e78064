//! Signals by number and session keyrings.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sends the signal with this number, real-time signals included, to the process that `pidfd` is. Success when the
/// process has ended already.
///
/// C: `int pidfd_send_signal(int pidfd, int sig, siginfo_t *, unsigned flags)`, pidfd_send_signal(2), Linux 5.1.
///
/// # Errors
/// EINVAL for a number that is no signal, EPERM.
pub fn send_signal(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: rustix's Signal cannot be one of the C library's real-time signals without unsafe. A null siginfo is
    // allowed, and sending a signal touches no memory of ours.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), number, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
}

/// Gives the calling process a new, empty session keyring, so that it has none of the keys of its ancestors. It has no
/// name: by a name the process would join a keyring of that name that another container made.
///
/// C: `long keyctl(KEYCTL_JOIN_SESSION_KEYRING, const char *name)`, keyctl_join_session_keyring(3), Linux 2.6.10.
///
/// # Errors
/// ENOSYS on kernels without keys, EDQUOT, EPERM under a filter.
pub fn new_session_keyring() -> io::Result<()> {
    let no_name = std::ptr::null::<libc::c_char>();
    // SAFETY: rustix has no keyctl. A null name is what the call defines as "no name"; it reads no other memory.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, no_name) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
