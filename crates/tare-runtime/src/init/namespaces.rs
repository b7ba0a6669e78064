//! Joining namespaces and leaving the host's mount table.

use crate::error::{Error, Step};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use tare_spec::runtime::NamespaceKind;

/// Lets `clone` make children in the process id namespace that `join` names, if it names one.
pub(crate) fn with_joined_pid_namespace<T>(
    join: &[(NamespaceKind, PathBuf)],
    clone: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let Some((_, path)) = join.iter().find(|(kind, _)| *kind == NamespaceKind::Pid) else { return clone() };
    let namespace = open(path)?;
    let enter = || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::ProcessID))
            .map_err(Error::step(Step::JoinNamespace, path.display()))
    };
    within(enter, clone)
}

/// Lets `clone` make children in the process id namespace of the process `init`.
pub(crate) fn with_pid_namespace_of<T>(
    init: BorrowedFd<'_>,
    clone: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let enter = || {
        move_into_thread_name_spaces(init, ThreadNameSpaceType::PROCESS_ID)
            .map_err(Error::step(Step::JoinNamespace, "of the container's process ids"))
    };
    within(enter, clone)
}

/// A process's own process id namespace never changes: entering one decides only where its children are born, and
/// entering its own again undoes that. This saves a process between the caller and its child.
fn within<T>(enter: impl FnOnce() -> Result<(), Error>, clone: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let own_path = Path::new("/proc/self/ns/pid");
    let own = open(own_path)?;
    enter()?;
    let child = clone();
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::ProcessID))
        .map_err(Error::step(Step::JoinNamespace, own_path.display()))?;
    child
}

fn open(path: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
        .map_err(Error::step(Step::JoinNamespace, path.display()))
}

/// Joins the namespaces that have a path, in the child.
pub(super) fn join(join: &[(NamespaceKind, PathBuf)]) -> Result<(), Error> {
    for (kind, path) in join {
        let kind = match kind {
            NamespaceKind::Network => LinkNameSpaceType::Network,
            NamespaceKind::Ipc => LinkNameSpaceType::InterProcessCommunication,
            NamespaceKind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
            // The child was born into its process id namespace; the others are refused by the plan.
            NamespaceKind::Pid
            | NamespaceKind::Mount
            | NamespaceKind::Cgroup
            | NamespaceKind::User
            | NamespaceKind::Time => continue,
        };
        move_into_link_name_space(open(path)?.as_fd(), Some(kind))
            .map_err(Error::step(Step::JoinNamespace, path.display()))?;
    }
    Ok(())
}

/// Joins the other namespaces of a process whose process id namespace the caller was born into.
pub(super) fn join_all_of(init: BorrowedFd<'_>) -> Result<(), Error> {
    let kinds = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::CONTROL_GROUP;
    move_into_thread_name_spaces(init, kinds).map_err(Error::step(Step::JoinNamespace, "of the container"))
}

/// Keeps what happens in this mount namespace from travelling to the host, and back.
pub(super) fn isolate_mounts() -> Result<(), Error> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(Error::step(Step::Isolate, "/"))
}
