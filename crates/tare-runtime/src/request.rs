//! What callers ask for.

use crate::cgroup::Cgroup;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use tare_spec::ContainerId;
use tare_spec::runtime::{Process, Seccomp, Spec};

/// A container to create.
pub struct CreateRequest<'a> {
    /// Its id, which also names its cgroup.
    pub id: &'a ContainerId,
    /// Its configuration; `root.path` is not used, `root.readonly` is.
    pub spec: &'a Spec,
    /// Its root file system.
    pub root: RootFilesystem,
    /// Standard input and output of its first process.
    pub stdio: Stdio,
    /// `user[:group]`, by name or number, resolved by the container's own /etc/passwd and /etc/group; it then
    /// replaces `process.user` but for `umask` and `additional_gids`, which are added. A user other than root gets no effective and no
    /// permitted capabilities but the ambient ones, as with Docker. `None` takes the numbers of `process.user`.
    /// Either way `HOME` is set from /etc/passwd when the environment does not have it.
    pub user: Option<&'a str>,
}

/// Where the container's root file system comes from. Paths are absolute, on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootFilesystem {
    /// A directory, with whatever is mounted below it.
    Directory(PathBuf),
    /// An overlay, mounted in the container's own mount namespace only.
    Overlay {
        /// Read-only layers, top first; at least one.
        lower: Vec<PathBuf>,
        /// What the container writes.
        upper: PathBuf,
        /// overlayfs' work directory, on the file system of `upper`.
        work: PathBuf,
        /// Do not sync `upper` when the container ends. Only for containers whose files are deleted then: overlayfs
        /// refuses to mount such an upper directory a second time.
        volatile: bool,
    },
}

/// Standard input and output of a process.
#[derive(Debug)]
pub enum Stdio {
    /// /dev/null, three times.
    Null,
    /// Descriptors of the caller, usually pipes. They change their owner to the process's user, so that it can
    /// open /dev/stdout.
    Pipes {
        /// Standard input; `None` means /dev/null.
        stdin: Option<OwnedFd>,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A pseudo-terminal of the container's devpts, which becomes the process's controlling terminal; its other
    /// end is [`Running::console`](crate::Running).
    Terminal {
        /// Rows; with 0 the kernel's default stays.
        rows: u16,
        /// Columns.
        columns: u16,
    },
}

/// A process to start in a running container.
pub struct ExecRequest<'a> {
    /// pidfd of the container's first process.
    pub init: BorrowedFd<'a>,
    /// The container's cgroup.
    pub cgroup: &'a Cgroup,
    /// The process.
    pub process: &'a Process,
    /// The container's system call filter.
    pub seccomp: Option<&'a Seccomp>,
    /// As [`CreateRequest::user`].
    pub user: Option<&'a str>,
    /// Standard input and output.
    pub stdio: Stdio,
}
