//! The last steps: rights, limits, filter, program.

use super::command;
use super::procfs::ProcFs;
use super::rootfs::Rootfs;
use super::stdio;
use crate::error::{Error, Step};
use crate::plan::{ProcessPlan, RlimitPlan, UserPlan};
use crate::request::Stdio;
use crate::user::{self, Account};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno as Os;
use rustix::process::{Gid, Rlimit, Uid, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySets, capabilities, set_capabilities, set_keep_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};
use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Becomes the process's program. `ready` returns when it may be executed.
pub(super) fn become_program(
    plan: &ProcessPlan,
    root: &Rootfs,
    stdio: &Stdio,
    terminal: Option<OwnedFd>,
    ready: impl FnOnce() -> Result<(), Error>,
) -> Result<Infallible, Error> {
    let account = match &plan.user {
        UserPlan::Named(name) => user::resolve(root.as_fd(), name)?,
        UserPlan::Ids { uid, gid } => user::with_ids(root.as_fd(), *uid, *gid)?,
    };
    let mut env = plan.env.clone();
    if !env.iter().any(|variable| variable.as_bytes().starts_with(b"HOME=")) {
        let home = CString::new(format!("HOME={}", account.home));
        env.push(home.map_err(|_| Error::invalid("HOME", "contains a zero byte"))?);
    }
    stdio::attach(root, stdio, terminal, account.uid)?;
    change_directory(root, &plan.cwd)?;
    ready()?;

    if plan.oom_score_adj.is_some() || plan.apparmor_profile.is_some() || plan.selinux_label.is_some() {
        write_attributes(plan)?;
    }
    for limit in &plan.rlimits {
        set_limit(limit)?;
    }
    become_user(plan, &account)?;
    rustix::process::umask(Mode::from_raw_mode(plan.umask));
    let path = command::find(&plan.args[0], &env)?;
    tare_sys::exec::close_on_exec_from(3).map_err(Error::step(Step::AttachStdio, "the process"))?;
    let failed = tare_sys::exec::execve(&path, &plan.args, &env);
    Err(command::explain(&path, failed.into()))
}

/// Makes the working directory of a container's first process when it is missing. Other processes must find theirs.
pub(super) fn make_working_directory(root: &Rootfs, plan: &ProcessPlan) -> Result<(), Error> {
    match root.open(&plan.cwd, OFlags::PATH | OFlags::DIRECTORY) {
        Err(Os::NOENT) => root.make_directory(&plan.cwd).map(drop),
        // What else is wrong with it shows when it is entered.
        _ => Ok(()),
    }
}

/// Enters the working directory, as a directory inside the root.
fn change_directory(root: &Rootfs, path: &Path) -> Result<(), Error> {
    let failed = |error: Os| Error::step(Step::ChangeDirectory, path.display())(error);
    let directory = root.open(path, OFlags::PATH | OFlags::DIRECTORY).map_err(failed)?;
    rustix::process::fchdir(&directory).map_err(failed)?;
    // CVE-2024-21626: a directory outside the root has no path, and getcwd says so in several ways.
    let cwd = rustix::process::getcwd(Vec::new()).map_err(failed)?;
    if cwd.as_bytes().starts_with(b"/") {
        Ok(())
    } else {
        Err(Error::refused(Step::ChangeDirectory, path.display(), "is outside the container's root file system"))
    }
}

fn write_attributes(plan: &ProcessPlan) -> Result<(), Error> {
    let proc = ProcFs::open()?;
    if let Some(score) = plan.oom_score_adj {
        proc.write(Path::new("self/oom_score_adj"), &score.to_string(), Step::SetOomScore)?;
    }
    if let Some(profile) = &plan.apparmor_profile {
        let value = format!("exec {profile}");
        proc.write(Path::new("self/attr/apparmor/exec"), &value, Step::SetLabel)
            .or_else(|_| proc.write(Path::new("self/attr/exec"), &value, Step::SetLabel))?;
    }
    if let Some(label) = &plan.selinux_label {
        proc.write(Path::new("self/attr/exec"), label, Step::SetLabel)?;
    }
    Ok(())
}

fn set_limit(limit: &RlimitPlan) -> Result<(), Error> {
    let new = Rlimit { current: limit.soft, maximum: limit.hard };
    let old = getrlimit(limit.resource);
    if old == new {
        return Ok(());
    }
    setrlimit(limit.resource, new).map_err(|error| {
        let show = |value: Option<u64>| value.map_or("unlimited".to_owned(), |value| value.to_string());
        let mut object = format!("{} to {}:{}", limit.name, show(limit.soft), show(limit.hard));
        if error == Os::PERM {
            let hard = show(old.maximum);
            object.push_str(&format!(" (above the hard limit {hard}, which needs CAP_SYS_RESOURCE)"));
        }
        Error::step(Step::SetRlimit, object)(error)
    })
}

/// Takes over user, groups, capabilities and the filter, in the one order in which each is still allowed.
fn become_user(plan: &ProcessPlan, account: &Account) -> Result<(), Error> {
    let name = format!("user {}:{}", account.uid, account.gid);
    let failed = |error: Os| Error::step(Step::SetUser, &name)(error);
    let mut sets = plan.capabilities;
    if matches!(plan.user, UserPlan::Named(_)) && account.uid != 0 {
        sets = sets.without_root();
    }
    sets.limit_bounding()?;
    set_keep_capabilities(true).map_err(failed)?;
    // Of a user by name, the group is among the supplementary ones too: else a set-group-id program could drop it and
    // be let in where the group is shut out (CVE-2022-36109).
    let own = matches!(plan.user, UserPlan::Named(_)).then_some(account.gid);
    let all = own.iter().chain(account.groups.iter().filter(|gid| Some(**gid) != own)).chain(&plan.groups);
    let groups: Vec<Gid> = all.map(|gid| Gid::from_raw(*gid)).collect();
    set_thread_groups(&groups).map_err(failed)?;
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    set_thread_res_gid(gid, gid, gid).map_err(failed)?;
    set_thread_res_uid(uid, uid, uid).map_err(failed)?;
    set_keep_capabilities(false).map_err(failed)?;

    let load = || match &plan.seccomp {
        Some(seccomp) => tare_sys::seccomp::load_filter(&seccomp.program, seccomp.flags)
            .map_err(Error::step(Step::LoadSeccomp, "the process")),
        None => Ok(()),
    };
    if plan.no_new_privileges {
        sets.apply()?;
        set_no_new_privs(true).map_err(failed)?;
        return load();
    }
    if plan.seccomp.is_some() && account.uid != 0 {
        // Leaving user 0 emptied the effective set; the filter needs CAP_SYS_ADMIN once more.
        let held = capabilities(None).map_err(failed)?;
        set_capabilities(None, CapabilitySets { effective: held.permitted, ..held }).map_err(failed)?;
    }
    load()?;
    sets.apply()
}
