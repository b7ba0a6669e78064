//! The parent's side of a container's first process.

use crate::cgroup::{Cgroup, Hierarchies};
use crate::channel::{self, ParentEnd, Proceed, Report};
use crate::error::{Error, Step};
use crate::init;
use crate::plan::Plan;
use crate::request::CreateRequest;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use tare_spec::runtime::NamespaceKind;
use tare_sys::clone::{Child, CloneOptions, spawn};

/// A container whose first process exists, sets up its root file system, and waits to be let go.
///
/// Dropping it kills and reaps the process and removes the cgroup.
pub struct Created {
    child: Option<Child>,
    channel: ParentEnd,
    cgroup: Cgroup,
    network: Option<PathBuf>,
}

/// A process that was executed in a container. Dropping it leaves the process alone.
#[derive(Debug)]
pub struct Running {
    /// Its process id as the caller sees it.
    pub pid: i32,
    /// A descriptor of it; readable when it has ended.
    pub pidfd: OwnedFd,
    /// The other end of its terminal, when it was asked for.
    pub console: Option<OwnedFd>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(u8),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The code a shell shows: 128 + n for signal n.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128u8.saturating_add(u8::try_from(signal).unwrap_or(u8::MAX)),
        }
    }
}

/// Creates a container: cgroup and limits, then a child in its namespaces that mounts and waits.
///
/// What goes wrong inside the child is told by [`Created::start`]. The caller must have one thread only.
///
/// # Errors
/// [`Error::Invalid`] and [`Error::Unsupported`] before anything was done; [`Error::Step`] for cgroups and clone, after
/// which nothing is left.
pub fn create(request: CreateRequest<'_>) -> Result<Created, Error> {
    let hierarchies = Hierarchies::detect()?;
    let plan = Plan::new(&request, &hierarchies)?;
    let CreateRequest { id, root, stdio, .. } = request;
    let cgroup = Cgroup::at(hierarchies, plan.cgroup_path.clone());
    let (parent_end, child_end) = channel::pair().map_err(Error::step(Step::Synchronise, id))?;
    let mut parent_end = Some(parent_end);
    let folder = cgroup.create(&plan.limits)?;
    let enters_v1 = cgroup.has_v1();

    let child = init::namespaces::with_joined_pid_namespace(&plan.join, || {
        let options = CloneOptions { namespaces: plan.new_namespaces, cgroup: folder.as_ref().map(|f| f.as_fd()) };
        spawn(options, || {
            // In the child's copy only: its own end would never see the parent's close otherwise.
            parent_end.take();
            init::run(&plan, &root, &stdio, &cgroup, enters_v1, &child_end)
        })
        .map_err(Error::step(Step::Clone, id))
    });
    let child = child.inspect_err(|_| {
        // The clone's error is the one to tell; a folder that stays is found again by the id.
        let _ = cgroup.remove();
    })?;
    let network = if plan.makes_network() {
        Some(PathBuf::from(format!("/proc/{}/ns/net", child.pid)))
    } else {
        plan.join.iter().find(|(kind, _)| *kind == NamespaceKind::Network).map(|(_, path)| path.clone())
    };
    let channel = parent_end.expect("taken only in the child's copy");
    let created = Created { child: Some(child), channel, cgroup, network };
    created.cgroup.filter_devices(folder.as_ref(), &plan.device_rules)?;
    if enters_v1 {
        created.cgroup.enter_v1(created.pid())?;
        created.say(Proceed::Entered)?;
    }
    Ok(created)
}

impl Created {
    /// The first process's id as the caller sees it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child().pid
    }

    /// A descriptor of the first process; readable when it has ended.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child().pidfd.as_fd()
    }

    /// The container's cgroup.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// The container's network namespace: its own, the one it joins, or the caller's. The process is not reaped yet,
    /// so its id cannot mean another one.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn network_namespace(&self) -> Result<OwnedFd, Error> {
        let path = self.network.clone().unwrap_or_else(|| PathBuf::from("/proc/self/ns/net"));
        rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(Error::step(Step::JoinNamespace, path.display()))
    }

    /// Lets the process execute its program, and returns when it did.
    ///
    /// # Errors
    /// What went wrong in the child, from mounts to exec. The process is then reaped and the cgroup removed.
    pub fn start(mut self) -> Result<Running, Error> {
        self.say(Proceed::Go)?;
        let console = await_exec(&self.channel, || Ok(()))?;
        let child = self.child.take().expect("taken only here, by value");
        Ok(Running { pid: child.pid, pidfd: child.pidfd, console })
    }

    fn say(&self, proceed: Proceed) -> Result<(), Error> {
        self.channel.send(proceed).map_err(Error::step(Step::Synchronise, "the container"))
    }

    fn child(&self) -> &Child {
        self.child.as_ref().expect("there until start takes it, which ends this value")
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            kill_and_reap(&child);
            // Nobody is left to tell; a folder that stays is found again by the id.
            let _ = self.cgroup.remove();
        }
    }
}

/// Reads reports until the program was executed; `ready` returns when there is something to read.
pub(crate) fn await_exec(
    channel: &ParentEnd,
    mut ready: impl FnMut() -> Result<(), Error>,
) -> Result<Option<OwnedFd>, Error> {
    let mut console = None;
    loop {
        ready()?;
        match channel.receive()? {
            None => return Ok(console),
            Some(Report::Console(descriptor)) => console = Some(descriptor),
            Some(Report::Failed(error)) => return Err(error),
        }
    }
}

pub(crate) fn kill_and_reap(child: &Child) {
    // ESRCH: it has ended already. The wait cannot block long, because the signal cannot be ignored.
    let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
    let _ = wait_pidfd(child.pidfd.as_fd());
}

fn wait_pidfd(pidfd: BorrowedFd<'_>) -> Result<Exit, rustix::io::Errno> {
    loop {
        match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::INTR) | Ok(None) => {}
            Err(error) => return Err(error),
            Ok(Some(status)) => {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code as u8),
                    (None, Some(signal)) => Exit::Signal(signal),
                    (None, None) => Exit::Code(u8::MAX),
                });
            }
        }
    }
}

impl Running {
    /// Waits for the end of the process and reaps it. To wait for several things at once, poll the `pidfd` first.
    ///
    /// # Errors
    /// ECHILD when it was reaped already.
    pub fn wait(&self) -> Result<Exit, Error> {
        wait_pidfd(self.pidfd.as_fd()).map_err(Error::step(Step::Wait, self.pid))
    }

    /// Sends it a signal, by number as Linux has it; success when it has ended already.
    ///
    /// # Errors
    /// EINVAL for an unknown number.
    pub fn signal(&self, number: i32) -> Result<(), Error> {
        tare_sys::process::send_signal(self.pidfd.as_fd(), number).map_err(Error::step(Step::Signal, self.pid))
    }
}
