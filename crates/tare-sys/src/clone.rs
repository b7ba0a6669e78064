//! Starting processes without exec: clone3.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The namespaces that a child can be born into; bits for [`CloneOptions::namespaces`].
pub mod namespaces {
    /// New mount table, a copy of the parent's.
    pub const MOUNT: u64 = libc::CLONE_NEWNS as u64;
    /// New host name.
    pub const UTS: u64 = libc::CLONE_NEWUTS as u64;
    /// New System V IPC and message queues.
    pub const IPC: u64 = libc::CLONE_NEWIPC as u64;
    /// New process ids.
    pub const PID: u64 = libc::CLONE_NEWPID as u64;
    /// New network stack.
    pub const NETWORK: u64 = libc::CLONE_NEWNET as u64;
}

/// How a child is started.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneOptions<'a> {
    /// Namespaces to make, of [`namespaces`].
    pub namespaces: u64,
    /// Folder of the v2 cgroup the child is born into (Linux 5.7).
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// A child process that has not been reaped.
#[derive(Debug)]
pub struct Child {
    /// Its process id as the caller sees it.
    pub pid: i32,
    /// A descriptor of it, close-on-exec.
    pub pidfd: OwnedFd,
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Starts a child that runs `child` on a copy of this process's memory and ends with the returned code.
///
/// The calling process must have one thread only: in the copy no other thread exists, so a lock that one of them
/// held (the allocator's, for example) stays locked for ever.
///
/// C: `long syscall(SYS_clone3, struct clone_args *, size_t)`, clone(2), Linux 5.3; no fallback.
///
/// # Errors
/// Those of clone3: EPERM, ENOMEM, EAGAIN (limit of processes), EBUSY and EOPNOTSUPP (cgroup).
pub fn spawn(options: CloneOptions<'_>, child: impl FnOnce() -> u8) -> io::Result<Child> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: options.namespaces | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = options.cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: rustix has no clone3. `args` and `pidfd` outlive the call. Without CLONE_VM and with a zero stack the
    // child gets its own copy of this stack, as after fork; none of the flags that share memory can get in here,
    // because the bits of `namespaces` other than namespaces are cut off below.
    let pid = unsafe {
        args.flags &= NAMESPACES | libc::CLONE_PIDFD as u64 | INTO_CGROUP;
        libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>())
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(125);
            // SAFETY: _exit has no preconditions; unlike exit it runs no handlers of the parent in its copy.
            unsafe { libc::_exit(i32::from(code)) }
        }
        pid => {
            // SAFETY: the call succeeded with CLONE_PIDFD, so `pidfd` is a new descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid: pid as i32, pidfd })
        }
    }
}

/// `CLONE_INTO_CGROUP` of linux/sched.h; the libc crate's constant of that name overflows.
const INTO_CGROUP: u64 = 0x2_0000_0000;

const NAMESPACES: u64 = namespaces::MOUNT | namespaces::UTS | namespaces::IPC | namespaces::PID | namespaces::NETWORK;

/// Gives the calling process a new cgroup namespace, rooted in the cgroups it is in now.
///
/// C: `int unshare(int flags)`, unshare(2), cgroup_namespaces(7), Linux 4.6.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN, EINVAL on kernels without cgroup namespaces.
pub fn unshare_cgroup() -> io::Result<()> {
    // SAFETY: rustix marks unshare unsafe because of CLONE_FILES; this flag only changes what cgroup paths mean.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWCGROUP) }.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use std::os::fd::AsFd;

    #[test]
    fn a_child_runs_and_is_reaped() {
        let child = spawn(CloneOptions::default(), || 42).unwrap();
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(42));
    }
}
