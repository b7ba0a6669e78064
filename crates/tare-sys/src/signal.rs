//! Signals by number, and signals that are read like a file.

use rustix::process::Signal;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

/// The signal with this number, real-time ones included; `None` outside 1 to 64 (signal(7), Linux's range).
#[must_use]
pub fn from_number(number: i32) -> Option<Signal> {
    if !(1..=64).contains(&number) {
        return None;
    }
    // SAFETY: rustix's checked constructor knows named signals only and has none for real-time ones; this one asks for
    // a number the kernel knows, which the range check has shown, and for not sending signals that libc keeps for
    // itself (32 and 33) to this process – they are sent to containers' processes, which is what is asked for.
    Some(unsafe { Signal::from_raw_unchecked(number) })
}

/// Blocks a signal for the calling thread and those it starts, and makes a descriptor that is readable when it came.
///
/// C: `int signalfd(int fd, const sigset_t *mask, int flags)`, signalfd(2), Linux 2.6.27. The descriptor is
/// close-on-exec and does not block.
///
/// # Errors
/// Those of sigprocmask(2) and signalfd(2).
pub fn descriptor(signal: Signal) -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: rustix wraps neither signal masks nor signalfd. The set is made by sigemptyset before it is used, and lives
    // over the calls, which copy it; a null pointer asks for no copy of the old mask.
    let made = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal.as_raw());
        if libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

/// Takes one signal that came from a [`descriptor`]; false when there is none.
pub fn take(descriptor: impl AsFd) -> bool {
    // `struct signalfd_siginfo` has 128 bytes.
    rustix::io::read(descriptor, &mut [0; 128]).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_came_is_taken_once() {
        let signals = descriptor(Signal::USR1).unwrap();
        assert!(!take(&signals));
        // To this thread, which has it blocked; others have not.
        // SAFETY: both numbers are valid; the signal is blocked here.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), libc::SIGUSR1) };
        assert!(take(&signals));
        assert!(!take(&signals));
    }
}
