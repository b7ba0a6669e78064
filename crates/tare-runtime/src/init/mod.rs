//! The child's side: from a copy of the parent to the container's program.
//!
//! Everything here runs in a process of its own, with the host's rights, and must not believe anything that the
//! container's file system says: files are reached by descriptors, resolved inside the container's root.

mod cgroups;
mod command;
mod devices;
mod mounts;
pub(crate) mod namespaces;
mod paths;
mod process;
mod procfs;
mod rootfs;
mod stdio;

use crate::cgroup::Cgroup;
use crate::channel::{ChildEnd, Proceed};
use crate::error::{Error, Step};
use crate::plan::{Plan, ProcessPlan};
use crate::request::{RootFilesystem, Stdio};
use procfs::ProcFs;
use rootfs::Rootfs;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use std::convert::Infallible;
use std::os::fd::BorrowedFd;

/// Becomes the first process of a container. Returns an exit code when that failed and the parent was told.
pub(crate) fn run(
    plan: &Plan,
    root: &RootFilesystem,
    stdio: &Stdio,
    cgroup: &Cgroup,
    enters_v1: bool,
    channel: &ChildEnd,
) -> u8 {
    let setup = Setup { plan, root, stdio, cgroup, enters_v1, channel };
    report(setup.run(), channel)
}

/// Becomes another process of a container whose first process is `init`.
pub(crate) fn run_exec(
    plan: &ProcessPlan,
    init: BorrowedFd<'_>,
    terminal: Option<(u16, u16)>,
    stdio: &Stdio,
    channel: &ChildEnd,
) -> u8 {
    let join = || {
        detach()?;
        // The parent says it after it entered the process into the cgroups.
        channel.wait_for(Proceed::Go)?;
        namespaces::join_all_of(init)?;
        let root = Rootfs::current()?;
        let console = terminal.map(|size| stdio::open_terminal(&root, size, channel)).transpose()?;
        process::become_program(plan, &root, stdio, console, || Ok(()))
    };
    report(join(), channel)
}

fn report(result: Result<Infallible, Error>, channel: &ChildEnd) -> u8 {
    match result {
        Ok(never) => match never {},
        Err(error) => {
            channel.send_error(&error);
            error.exit_code()
        }
    }
}

/// Lets go of what belongs to the parent: signals, session, keys; and keeps the container's processes from looking in.
fn detach() -> Result<(), Error> {
    tare_sys::exec::reset_signals().map_err(Error::step(Step::StartSession, "the container"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Error::step(Step::StartSession, "the container"))?;
    rustix::process::setsid().map_err(Error::step(Step::StartSession, "the container"))?;
    // A kernel without keys, or a filter around us that forbids them, leaves nothing to be separated from.
    let _ = tare_sys::process::new_session_keyring();
    rustix::process::umask(rustix::fs::Mode::empty());
    Ok(())
}

struct Setup<'a> {
    plan: &'a Plan,
    root: &'a RootFilesystem,
    stdio: &'a Stdio,
    cgroup: &'a Cgroup,
    enters_v1: bool,
    channel: &'a ChildEnd,
}

impl Setup<'_> {
    fn run(self) -> Result<Infallible, Error> {
        let plan = self.plan;
        detach()?;
        let sources = mounts::open_sources(&plan.mounts)?;
        namespaces::isolate_mounts()?;
        namespaces::join(&plan.join)?;
        let root = Rootfs::mount(self.root)?;
        let mut cgroups = cgroups::Entry::new(plan.cgroup_namespace, self.enters_v1, self.channel);
        for (mount, source) in plan.mounts.iter().zip(sources) {
            mounts::mount(&root, mount, source, || cgroups::mount(&root, mount, &mut cgroups, self.cgroup))?;
        }
        cgroups.complete()?;
        let console = if devices::has_host_dev(&plan.mounts) {
            plan.terminal.map(|size| stdio::open_terminal(&root, size, self.channel)).transpose()?
        } else {
            let dev = devices::create_defaults(&root)?;
            let console = plan.terminal.map(|size| stdio::open_terminal(&root, size, self.channel)).transpose()?;
            if let Some(console) = &console {
                devices::bind_console(&dev, console)?;
            }
            console
        };
        devices::create(&root, &plan.device_nodes)?;
        self.set_kernel_parameters()?;
        paths::make_readonly(&root, &plan.readonly_paths)?;
        paths::mask(&root, &plan.masked_paths)?;
        // While the root can still be written to.
        process::make_working_directory(&root, &plan.process)?;
        root.pivot(plan.root_readonly, plan.root_propagation)?;
        process::become_program(&plan.process, &root, self.stdio, console, || self.channel.wait_for(Proceed::Go))
    }

    fn set_kernel_parameters(&self) -> Result<(), Error> {
        let plan = self.plan;
        if let Some(hostname) = &plan.hostname {
            rustix::system::sethostname(hostname.as_bytes()).map_err(Error::step(Step::SetHostname, hostname))?;
        }
        if let Some(domainname) = &plan.domainname {
            rustix::system::setdomainname(domainname.as_bytes()).map_err(Error::step(Step::SetHostname, domainname))?;
        }
        if !plan.sysctls.is_empty() {
            let proc = ProcFs::open()?;
            for (path, value) in &plan.sysctls {
                proc.write(&std::path::Path::new("sys").join(path), value, Step::Sysctl)?;
            }
        }
        Ok(())
    }
}
