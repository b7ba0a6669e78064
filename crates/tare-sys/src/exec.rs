//! Becoming another program, and what must not follow it there.

use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use std::ffi::{CStr, CString, c_char};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Replaces the calling process's program; returns only when that failed.
///
/// C: `int execve(const char *, char *const [], char *const [])`, execve(2).
pub fn execve(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| {
        strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect::<Vec<*const c_char>>()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: rustix offers execve only to programs without libc. Both vectors end with a null pointer, and they and
    // the strings they point to live until after the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Marks every descriptor from `first` on close-on-exec, whoever opened it.
///
/// C: `int close_range(unsigned first, unsigned last, unsigned flags)`, close_range(2), Linux 5.11 for the flag.
/// Where the kernel is older, or a filter forbids the call, the descriptors are marked one by one.
///
/// # Errors
/// Those of reading /proc/self/fd in the fallback.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: rustix has no close_range. With CLOSE_RANGE_CLOEXEC it closes nothing, so no owner's descriptor dies.
    if unsafe { libc::close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) } == 0 {
        return Ok(());
    }
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(number) = entry?.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        if number as u32 >= first {
            // SAFETY: F_SETFD changes a flag of a descriptor; one that is gone by now gives EBADF, which is harmless.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Makes `fd` the descriptor `number` (0 to 2), not close-on-exec.
///
/// # Errors
/// Those of dup2(2).
pub fn become_stdio(fd: &impl AsFd, number: u8) -> io::Result<()> {
    use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
    if fd.as_fd().as_raw_fd() == i32::from(number) {
        return rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).map_err(io::Error::from);
    }
    match number {
        0 => dup2_stdin(fd),
        1 => dup2_stdout(fd),
        2 => dup2_stderr(fd),
        _ => Err(rustix::io::Errno::INVAL),
    }
    .map_err(io::Error::from)
}

/// Gives all signals their default disposition and empties the signal mask, as a new program expects it.
///
/// # Errors
/// Those of sigprocmask(2).
pub fn reset_signals() -> io::Result<()> {
    for signal in 1..=64 {
        // `struct sigaction` as the kernel has it, at most four words; all zero is SIG_DFL without flags.
        let default = [0u64; 4];
        // SAFETY: rustix keeps signal dispositions for programs without libc, and libc's own function refuses signals
        // 32 and 33, which callers can leave ignored all the same. SIG_DFL installs no code; the array lives over the
        // call, and 8 is the size of the kernel's signal mask. SIGKILL and SIGSTOP give EINVAL, which is right.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null_mut::<u64>(), 8) };
    }
    // SAFETY: a zeroed sigset_t is a valid value to be filled by sigemptyset; the mask is only read by the call.
    let result = unsafe {
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut mask);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Opens this process's program such that whoever reaches it through /proc/PID/exe cannot write the host's file
/// (CVE-2019-5736): a detached read-only mount of it, or where that is impossible a sealed copy in memory.
///
/// The descriptor is close-on-exec; execute `/proc/self/fd/N`.
///
/// # Errors
/// Those of opening /proc/self/exe and of memfd_create(2).
pub fn read_only_self() -> io::Result<OwnedFd> {
    detached_self().or_else(|_| sealed_self())
}

fn detached_self() -> io::Result<OwnedFd> {
    let exe = std::fs::read_link("/proc/self/exe")?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(rustix::fs::CWD, &exe, flags)?;
    // The path may name another file by now (an upgrade): only the running one will do.
    let (running, cloned) = (rustix::fs::stat("/proc/self/exe")?, rustix::fs::fstat(&tree)?);
    if (running.st_dev, running.st_ino) != (cloned.st_dev, cloned.st_ino) {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    crate::mount::set_attributes(
        &tree,
        false,
        crate::mount::Attributes { set: crate::mount::READ_ONLY, ..Default::default() },
    )?;
    let opened = rustix::fs::open(
        format!("/proc/self/fd/{}", tree.as_raw_fd()),
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    Ok(opened)
}

fn sealed_self() -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let mut exe = File::open("/proc/self/exe")?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = rustix::fs::memfd_create("tare", flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create("tare", flags))?;
    let mut copy = File::from(copy);
    io::copy(&mut exe, &mut copy)?;
    rustix::fs::fcntl_add_seals(&copy, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(copy.into())
}

/// Takes a descriptor out of a raw number that was inherited over exec, such as one named on the command line.
///
/// # Errors
/// EBADF when it is not open, EINVAL for the numbers of stdio.
pub fn inherited_descriptor(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only asks whether the number is an open descriptor.
    if number <= 2 || unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
        return Err(io::Error::from_raw_os_error(if number <= 2 { libc::EINVAL } else { libc::EBADF }));
    }
    // SAFETY: open, as just seen; a number above stdio that was handed over by exec has no owner in this program yet,
    // which is this function's contract with its caller.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// Flags of [`rustix::mount::move_mount`] that attach a detached mount `from` to the very file `to`.
#[must_use]
pub fn attach_flags() -> MoveMountFlags {
    MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_cannot_be_written_through_its_copies() {
        for copy in [sealed_self().unwrap(), read_only_self().unwrap()] {
            let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
            let mut head = [0; 4];
            std::io::Read::read_exact(&mut File::open(&path).unwrap(), &mut head).unwrap();
            assert_eq!(&head, b"\x7fELF");
            let error = match File::options().write(true).open(&path) {
                Ok(mut file) => std::io::Write::write_all(&mut file, b"x").unwrap_err(),
                Err(error) => error,
            };
            // EROFS or ETXTBSY from the mount, EPERM from the seal.
            let number = error.raw_os_error().unwrap();
            assert!([libc::EROFS, libc::EPERM, libc::ETXTBSY].contains(&number), "{error}");
        }
    }
}
