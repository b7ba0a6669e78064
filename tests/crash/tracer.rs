//! Runs a program until its n-th system call of the kind that changes a disk, and lets that go wrong.
//!
//! ptrace(2) and not strace's fault injection, because that counts each thread by itself: calls of a short-lived thread that come after
//! as many of a longer one would never be reached.

use nix::libc::{self, c_long};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// SIGKILL before the call is made.
    Kill,
    /// The disk is full from this call on: whatever needs room fails with `ENOSPC`.
    Full,
    /// This call alone fails, with `EIO`.
    Broken,
}

/// How a program ended that was run with a fault.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The call that went wrong, as a person would write it; `None` when the program makes fewer calls.
    pub(super) hit: Option<String>,
    /// How many calls counted.
    pub(super) calls: usize,
    /// Exit code; 128 + n when signal n ended it.
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Where a system call has what it changes.
#[derive(Clone, Copy)]
enum Object {
    /// The argument with this index is a descriptor.
    Descriptor(usize),
    /// Of a folder, or the working directory, and of a path in it.
    Path(Option<usize>, usize),
    /// Opens: as `Path`, and where the flags are; counted only when they create or empty.
    Open(Option<usize>, usize, Flags),
    /// None that can be named.
    None,
}

#[derive(Clone, Copy)]
enum Flags {
    Argument(usize),
    /// The first field of the structure that this argument points to (`struct open_how`).
    Structure(usize),
}

struct Call {
    number: c_long,
    name: &'static str,
    object: Object,
    /// Whether it can fail for want of room, or because the disk is broken.
    writes: bool,
}

const fn call(number: c_long, name: &'static str, object: Object, writes: bool) -> Call {
    Call { number, name, object, writes }
}

/// All calls that change a file system.
static CALLS: &[Call] = &[
    call(libc::SYS_write, "write", Object::Descriptor(0), true),
    call(libc::SYS_pwrite64, "pwrite64", Object::Descriptor(0), true),
    call(libc::SYS_writev, "writev", Object::Descriptor(0), true),
    call(libc::SYS_pwritev, "pwritev", Object::Descriptor(0), true),
    call(libc::SYS_pwritev2, "pwritev2", Object::Descriptor(0), true),
    call(libc::SYS_copy_file_range, "copy_file_range", Object::Descriptor(2), true),
    call(libc::SYS_sendfile, "sendfile", Object::Descriptor(0), true),
    call(libc::SYS_splice, "splice", Object::Descriptor(2), true),
    call(libc::SYS_fallocate, "fallocate", Object::Descriptor(0), true),
    call(libc::SYS_ftruncate, "ftruncate", Object::Descriptor(0), true),
    call(libc::SYS_truncate, "truncate", Object::Path(None, 0), true),
    call(libc::SYS_open, "open", Object::Open(None, 0, Flags::Argument(1)), true),
    call(libc::SYS_openat, "openat", Object::Open(Some(0), 1, Flags::Argument(2)), true),
    call(libc::SYS_openat2, "openat2", Object::Open(Some(0), 1, Flags::Structure(2)), true),
    call(libc::SYS_creat, "creat", Object::Path(None, 0), true),
    call(libc::SYS_mkdir, "mkdir", Object::Path(None, 0), true),
    call(libc::SYS_mkdirat, "mkdirat", Object::Path(Some(0), 1), true),
    call(libc::SYS_mknod, "mknod", Object::Path(None, 0), true),
    call(libc::SYS_mknodat, "mknodat", Object::Path(Some(0), 1), true),
    call(libc::SYS_rename, "rename", Object::Path(None, 1), true),
    call(libc::SYS_renameat, "renameat", Object::Path(Some(2), 3), true),
    call(libc::SYS_renameat2, "renameat2", Object::Path(Some(2), 3), true),
    call(libc::SYS_link, "link", Object::Path(None, 1), true),
    call(libc::SYS_linkat, "linkat", Object::Path(Some(2), 3), true),
    call(libc::SYS_symlink, "symlink", Object::Path(None, 1), true),
    call(libc::SYS_symlinkat, "symlinkat", Object::Path(Some(1), 2), true),
    call(libc::SYS_unlink, "unlink", Object::Path(None, 0), false),
    call(libc::SYS_unlinkat, "unlinkat", Object::Path(Some(0), 1), false),
    call(libc::SYS_rmdir, "rmdir", Object::Path(None, 0), false),
    call(libc::SYS_chmod, "chmod", Object::Path(None, 0), false),
    call(libc::SYS_fchmod, "fchmod", Object::Descriptor(0), false),
    call(libc::SYS_fchmodat, "fchmodat", Object::Path(Some(0), 1), false),
    call(libc::SYS_chown, "chown", Object::Path(None, 0), false),
    call(libc::SYS_lchown, "lchown", Object::Path(None, 0), false),
    call(libc::SYS_fchown, "fchown", Object::Descriptor(0), false),
    call(libc::SYS_fchownat, "fchownat", Object::Path(Some(0), 1), false),
    call(libc::SYS_utimensat, "utimensat", Object::Path(Some(0), 1), false),
    call(libc::SYS_setxattr, "setxattr", Object::Path(None, 0), true),
    call(libc::SYS_lsetxattr, "lsetxattr", Object::Path(None, 0), true),
    call(libc::SYS_fsetxattr, "fsetxattr", Object::Descriptor(0), true),
    call(libc::SYS_fsync, "fsync", Object::Descriptor(0), true),
    call(libc::SYS_fdatasync, "fdatasync", Object::Descriptor(0), true),
    call(libc::SYS_syncfs, "syncfs", Object::Descriptor(0), true),
    call(libc::SYS_mount, "mount", Object::Path(None, 1), false),
    call(libc::SYS_umount2, "umount2", Object::Path(None, 0), false),
    call(libc::SYS_move_mount, "move_mount", Object::Path(Some(2), 3), false),
    call(libc::SYS_fsmount, "fsmount", Object::None, false),
];

/// Runs a command to its end. Call number `count`, counted from 1 over all its threads, of those that change something below `root` goes
/// wrong; for [`Fault::Kill`] what is written to standard output and error counts as well.
pub(super) fn run(command: Command, root: &Path, folder: &Path, fault: Fault, count: usize) -> Outcome {
    let (stdout, stderr) = (folder.join("stdout"), folder.join("stderr"));
    // It waits for a line before it becomes the program, so that nothing of the program is missed.
    let mut waiting = Command::new("sh");
    waiting.args(["-c", "read -r line; exec \"$@\" </dev/null", "sh"]).arg(command.get_program());
    waiting.args(command.get_args()).env_clear();
    waiting.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    waiting.stdin(Stdio::piped()).stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
    #[expect(clippy::zombie_processes, reason = "the tracer waits for it")]
    let mut child = waiting.spawn().unwrap();
    let main = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(main, options).unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let over = watch(main);
    let mut tracer = Tracer { root, fault, count, seen: 0, hit: None, failing: Vec::new() };
    let code = tracer.follow(main);
    drop(over);
    let (stdout, stderr) = (fs::read_to_string(stdout).unwrap(), fs::read_to_string(stderr).unwrap());
    Outcome { hit: tracer.hit, calls: tracer.seen, code, stdout, stderr }
}

/// Kills the program when it does not end; dropping what is returned ends the watch.
fn watch(pid: Pid) -> mpsc::Sender<()> {
    let (sender, receiver) = mpsc::channel();
    let pidfd = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(pid.as_raw()).unwrap(),
        rustix::process::PidfdFlags::empty(),
    )
    .unwrap();
    std::thread::spawn(move || {
        if receiver.recv_timeout(crate::host::PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            // It may have ended this very moment.
            let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
        }
    });
    sender
}

struct Tracer<'a> {
    root: &'a Path,
    fault: Fault,
    count: usize,
    seen: usize,
    hit: Option<String>,
    /// Threads inside a call that was taken from them.
    failing: Vec<Pid>,
}

impl Tracer<'_> {
    /// Follows all threads until the process has ended.
    fn follow(&mut self, main: Pid) -> i32 {
        // Other threads of this test have children of their own.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            let (pid, signal) = match waitpid(None, Some(flags)).unwrap() {
                WaitStatus::Exited(pid, code) if pid == main => return code,
                WaitStatus::Signaled(pid, signal, _) if pid == main => return 128 + signal as i32,
                WaitStatus::PtraceSyscall(pid) => {
                    self.stopped(pid, main);
                    (pid, None)
                }
                WaitStatus::PtraceEvent(pid, ..) => (pid, None),
                WaitStatus::Stopped(pid, signal) => (pid, Some(signal)),
                _ => continue,
            };
            // A thread that is being killed is no longer there to go on.
            let _ = ptrace::syscall(pid, signal);
        }
    }

    fn stopped(&mut self, pid: Pid, main: Pid) {
        // ESRCH: it is being killed.
        let (Ok(info), Ok(mut registers)) = (ptrace::syscall_info(pid), ptrace::getregs(pid)) else { return };
        if info.op == libc::PTRACE_SYSCALL_INFO_EXIT {
            if let Some(index) = self.failing.iter().position(|failing| *failing == pid) {
                self.failing.remove(index);
                let error = if self.fault == Fault::Full { libc::ENOSPC } else { libc::EIO };
                registers.rax = i64::from(-error).cast_unsigned();
                let _ = ptrace::setregs(pid, registers);
            }
            return;
        }
        let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
        let number = registers.orig_rax.cast_signed();
        let Some(call) = CALLS.iter().find(|call| call.number == number) else { return };
        let Some(object) = self.object(pid, call, &arguments) else { return };
        self.seen += 1;
        let strikes = match self.fault {
            Fault::Full => self.seen >= self.count,
            Fault::Kill | Fault::Broken => self.seen == self.count,
        };
        if !strikes {
            return;
        }
        self.hit.get_or_insert_with(|| format!("{}({object})", call.name));
        if self.fault == Fault::Kill {
            nix::sys::signal::kill(main, Signal::SIGKILL).unwrap();
        } else {
            // No call has this number; what it returns is replaced when the thread comes out.
            registers.orig_rax = u64::MAX;
            ptrace::setregs(pid, registers).unwrap();
            self.failing.push(pid);
        }
    }

    /// What a call is about, if it counts.
    fn object(&self, pid: Pid, call: &Call, arguments: &[u64; 6]) -> Option<String> {
        if self.fault != Fault::Kill && !call.writes {
            return None;
        }
        let path = match call.object {
            Object::Descriptor(index) => {
                let descriptor = arguments[index] as i32;
                if matches!(descriptor, 1 | 2) {
                    return (self.fault == Fault::Kill).then(|| descriptor.to_string());
                }
                fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()?
            }
            Object::Path(folder, path) => located(pid, folder.map(|index| arguments[index]), arguments[path])?,
            Object::Open(folder, path, flags) => {
                let flags = match flags {
                    Flags::Argument(index) => arguments[index],
                    Flags::Structure(index) => {
                        let mut bytes = [0; 8];
                        memory(pid)?.read_exact_at(&mut bytes, arguments[index]).ok()?;
                        u64::from_ne_bytes(bytes)
                    }
                } as i32;
                let path = located(pid, folder.map(|index| arguments[index]), arguments[path])?;
                // A file that is there needs no room to be opened.
                let creates = flags & libc::O_CREAT != 0 && !path.exists();
                if !creates && flags & libc::O_TRUNC == 0 {
                    return None;
                }
                path
            }
            Object::None => return Some(String::new()),
        };
        path.starts_with(self.root).then(|| path.display().to_string())
    }
}

fn memory(pid: Pid) -> Option<File> {
    File::open(format!("/proc/{pid}/mem")).ok()
}

/// The path that a thread means.
fn located(pid: Pid, folder: Option<u64>, address: u64) -> Option<PathBuf> {
    let mut bytes = vec![0; libc::PATH_MAX as usize];
    let length = match memory(pid)?.read_at(&mut bytes, address) {
        // utimensat(2) takes none and means the descriptor.
        Err(_) if address == 0 => 0,
        result => result.ok()?,
    };
    let path = bytes[..length].split(|byte| *byte == 0).next()?;
    let path = Path::new(OsStr::from_bytes(path));
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    let folder = match folder.map(|folder| folder as i32) {
        None | Some(libc::AT_FDCWD) => format!("/proc/{pid}/cwd"),
        Some(descriptor) => format!("/proc/{pid}/fd/{descriptor}"),
    };
    let folder = fs::read_link(folder).ok()?;
    Some(if path.as_os_str().is_empty() { folder } else { folder.join(path) })
}
