//! The plan of one process: what create and exec have in common.

use crate::capabilities::CapabilityPlan;
use crate::error::Error;
use crate::seccomp;
use rustix::process::Resource;
use std::ffi::CString;
use std::path::PathBuf;
use tare_spec::runtime::{Process, Seccomp};
use tare_sys::seccomp::Instruction;

/// Whose rights the process gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UserPlan {
    /// The numbers of the configuration.
    Ids { uid: u32, gid: u32 },
    /// `user[:group]`, to be looked up in the container.
    Named(String),
}

/// The compiled filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeccompPlan {
    pub program: Vec<Instruction>,
    pub flags: u32,
}

/// A process, ready to be executed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProcessPlan {
    pub args: Vec<CString>,
    pub env: Vec<CString>,
    pub cwd: PathBuf,
    pub user: UserPlan,
    pub groups: Vec<u32>,
    pub umask: u32,
    pub capabilities: CapabilityPlan,
    pub rlimits: Vec<RlimitPlan>,
    pub no_new_privileges: bool,
    pub oom_score_adj: Option<i32>,
    pub apparmor_profile: Option<String>,
    pub selinux_label: Option<String>,
    pub seccomp: Option<SeccompPlan>,
}

/// One resource limit; `None` is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RlimitPlan {
    pub name: String,
    pub resource: Resource,
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

impl ProcessPlan {
    /// Checks a process. `user` replaces the numbers of the configuration.
    pub(crate) fn new(process: &Process, user: Option<&str>, seccomp: Option<&Seccomp>) -> Result<Self, Error> {
        for (field, value) in [
            ("scheduler", &process.scheduler),
            ("ioPriority", &process.io_priority),
            ("execCPUAffinity", &process.exec_cpu_affinity),
        ] {
            if value.is_some() {
                return Err(Error::unsupported(format!("process.{field}")));
            }
        }
        let text = |field: &str, text: &str| {
            CString::new(text).map_err(|_| Error::invalid(field, format!("{text:?} contains a zero byte")))
        };
        if process.args.first().is_none_or(String::is_empty) {
            return Err(Error::invalid("process.args", "no command specified"));
        }
        let cwd = if process.cwd.is_empty() { "/" } else { &process.cwd };
        let cwd = super::mount::clean_absolute(cwd.as_ref())
            .ok_or_else(|| Error::invalid("process.cwd", format!("{cwd:?} is not an absolute path")))?;
        if let Some(score) = process.oom_score_adj.filter(|score| !(-1000..=1000).contains(score)) {
            return Err(Error::invalid("process.oomScoreAdj", format!("{score} is not between -1000 and 1000")));
        }
        let env = process.env.iter().filter(|variable| variable.contains('='));
        let umask = process.user.umask.unwrap_or(0o022);
        if umask > 0o777 {
            return Err(Error::invalid("process.user.umask", format!("{umask:o} is more than 777")));
        }
        Ok(Self {
            args: process.args.iter().map(|arg| text("process.args", arg)).collect::<Result<_, _>>()?,
            env: env.map(|variable| text("process.env", variable)).collect::<Result<_, _>>()?,
            cwd,
            user: match user.filter(|user| !user.is_empty()) {
                Some(user) => UserPlan::Named(user.to_owned()),
                None => UserPlan::Ids { uid: process.user.uid, gid: process.user.gid },
            },
            groups: process.user.additional_gids.clone(),
            umask,
            capabilities: CapabilityPlan::new(process.capabilities.as_ref())?,
            rlimits: process.rlimits.iter().map(RlimitPlan::new).collect::<Result<_, _>>()?,
            no_new_privileges: process.no_new_privileges,
            oom_score_adj: process.oom_score_adj,
            apparmor_profile: process.apparmor_profile.clone().filter(|profile| !profile.is_empty()),
            selinux_label: process.selinux_label.clone().filter(|label| !label.is_empty()),
            seccomp: seccomp
                .map(|profile| Ok(SeccompPlan { program: seccomp::compile(profile)?, flags: seccomp::flags(profile)? }))
                .transpose()?,
        })
    }
}

impl RlimitPlan {
    fn new(limit: &tare_spec::runtime::Rlimit) -> Result<Self, Error> {
        let resource = match limit.resource.as_str() {
            "RLIMIT_AS" => Resource::As,
            "RLIMIT_CORE" => Resource::Core,
            "RLIMIT_CPU" => Resource::Cpu,
            "RLIMIT_DATA" => Resource::Data,
            "RLIMIT_FSIZE" => Resource::Fsize,
            "RLIMIT_LOCKS" => Resource::Locks,
            "RLIMIT_MEMLOCK" => Resource::Memlock,
            "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
            "RLIMIT_NICE" => Resource::Nice,
            "RLIMIT_NOFILE" => Resource::Nofile,
            "RLIMIT_NPROC" => Resource::Nproc,
            "RLIMIT_RSS" => Resource::Rss,
            "RLIMIT_RTPRIO" => Resource::Rtprio,
            "RLIMIT_RTTIME" => Resource::Rttime,
            "RLIMIT_SIGPENDING" => Resource::Sigpending,
            "RLIMIT_STACK" => Resource::Stack,
            other => return Err(Error::invalid("process.rlimits", format!("{other:?} is no resource limit"))),
        };
        if limit.soft > limit.hard {
            let reason = format!("{}: soft limit {} is above hard limit {}", limit.resource, limit.soft, limit.hard);
            return Err(Error::invalid("process.rlimits", reason));
        }
        let bound = |value: u64| (value != u64::MAX).then_some(value);
        Ok(Self { name: limit.resource.clone(), resource, soft: bound(limit.soft), hard: bound(limit.hard) })
    }
}
