//! Another process in a running container.

use crate::channel::{self, ParentEnd, Proceed};
use crate::create::{Running, await_exec, kill_and_reap};
use crate::error::{Error, Step};
use crate::init;
use crate::plan::ProcessPlan;
use crate::request::{ExecRequest, Stdio};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::os::fd::AsFd;
use tare_sys::clone::{Child, CloneOptions, spawn};

/// How often a process that does not become its program is looked at, in milliseconds: ordinary ones need less.
const LOOK: u32 = 200;

/// Starts a process in the namespaces and the cgroup of a container. It is a child of the caller, which must have one
/// thread only, and has to reap it: the kernel lets the container's first process end only after every other process of
/// its process id namespace was reaped, so a caller that waits for the first process must not stop reaping these.
///
/// # Errors
/// ESRCH at [`Step::JoinNamespace`] when the container has ended; otherwise as [`crate::create`] and
/// [`crate::Created::start`]. Nothing is left then.
pub fn exec(request: ExecRequest<'_>) -> Result<Running, Error> {
    let plan = ProcessPlan::new(request.process, request.user, request.seccomp)?;
    let terminal = match request.stdio {
        Stdio::Terminal { rows, columns } => Some((rows, columns)),
        Stdio::Null | Stdio::Pipes { .. } => None,
    };
    let (parent_end, child_end) = channel::pair().map_err(Error::step(Step::Synchronise, "a process"))?;
    let mut parent_end = Some(parent_end);
    let folder = request.cgroup.v2_folder()?;
    let enters_v1 = request.cgroup.has_v1();
    let child = init::namespaces::with_pid_namespace_of(request.init, || {
        let options = CloneOptions { namespaces: 0, cgroup: folder.as_ref().map(|folder| folder.as_fd()) };
        spawn(options, || {
            // In the child's copy only: its own end would never see the parent's close otherwise.
            parent_end.take();
            init::run_exec(&plan, request.init, terminal, &request.stdio, &child_end)
        })
        .map_err(Error::step(Step::Clone, "a process"))
    })?;
    // The child's end must be closed here before the first read, or its end would not be noticed.
    drop(child_end);
    let channel = parent_end.expect("taken only in the child's copy");
    let result = (|| {
        if enters_v1 {
            request.cgroup.enter_v1(child.pid)?;
        }
        channel.send(Proceed::Go).map_err(Error::step(Step::Synchronise, "a process"))?;
        await_exec(&channel, || ready_unless_stopped(&channel, &child))
    })();
    match result {
        Ok(console) => Ok(Running { pid: child.pid, pidfd: child.pidfd, console }),
        Err(error) => {
            kill_and_reap(&child);
            Err(error)
        }
    }
}

/// Waits until the child has said something or is gone. The container's root sees it, cannot look into it, but can stop
/// it: waiting for it would then last as long as the container likes.
fn ready_unless_stopped(channel: &ParentEnd, child: &Child) -> Result<(), Error> {
    let failed = || Error::step(Step::Synchronise, "a process");
    while !channel.wait(LOOK).map_err(failed())? {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::PidFd(child.pidfd.as_fd()), options) {
            Ok(Some(_)) => {
                let reason = "it was stopped from inside before it could run its program";
                return Err(Error::refused(Step::Clone, "the container", reason));
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed()(error)),
        }
    }
    Ok(())
}
