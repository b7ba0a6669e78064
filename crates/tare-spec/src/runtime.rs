//! The OCI runtime specification's `config.json` (version 1.2, `config.md` and `config-linux.md`).
//!
//! Field names are the specification's in snake case. A field that is absent has its type's default value and
//! a default value is not written, except where the specification requires the field. Unknown fields are
//! ignored (`config.md`, "Extensibility"); known fields that a runtime does not support yet are kept as plain
//! JSON so that it can refuse them by name instead of silently starting something else.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

fn absent<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

macro_rules! objects {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        pub struct $name {
            $($(#[$field_meta])* #[serde(skip_serializing_if = "absent")] pub $field: $type,)*
        }
    )*};
}

objects! {
    /// A container's configuration: the whole `config.json`.
    Spec {
        /// Version of the specification, such as `1.2.0`.
        oci_version: String,
        /// The root file system, for runtimes that are given a bundle.
        root: Option<Root>,
        /// The container's first process.
        process: Option<Process>,
        /// Host name inside a UTS namespace of its own.
        hostname: Option<String>,
        /// NIS domain name inside a UTS namespace of its own.
        domainname: Option<String>,
        /// Mounts, in order.
        mounts: Vec<Mount>,
        /// Programs that the runtime starts at points of the life cycle.
        hooks: Option<Value>,
        /// What only Linux has.
        linux: Option<Linux>,
        /// Free key-value pairs.
        annotations: BTreeMap<String, String>,
    }

    /// The bundle's root file system.
    Root {
        /// Absolute, or relative to the bundle.
        path: PathBuf,
        /// Whether the root is read-only inside the container.
        readonly: bool,
    }

    /// A process to start in a container.
    Process {
        /// Whether it gets a pseudo-terminal.
        terminal: bool,
        /// The terminal's size.
        console_size: Option<ConsoleSize>,
        /// Whose rights it has.
        user: User,
        /// The program and its arguments; `args[0]` is looked up in `PATH` of `env` when it has no slash.
        args: Vec<String>,
        /// Its whole environment, as `NAME=value`.
        env: Vec<String>,
        /// Absolute working directory.
        cwd: String,
        /// Its capability sets.
        capabilities: Option<Capabilities>,
        /// Its resource limits.
        rlimits: Vec<Rlimit>,
        /// Whether it and its children may never gain privileges by exec.
        no_new_privileges: bool,
        /// AppArmor profile to enter on exec.
        apparmor_profile: Option<String>,
        /// SELinux label to take on exec.
        selinux_label: Option<String>,
        /// -1000 to 1000, see proc_pid_oom_score_adj(5).
        oom_score_adj: Option<i32>,
        /// Scheduling policy.
        scheduler: Option<Value>,
        /// I/O priority.
        io_priority: Option<Value>,
        /// CPUs to run on while joining.
        #[serde(rename = "execCPUAffinity")]
        exec_cpu_affinity: Option<Value>,
    }

    /// Capability sets, as names with the prefix `CAP_`.
    Capabilities {
        /// What can ever be had again by exec.
        bounding: Vec<String>,
        /// What counts.
        effective: Vec<String>,
        /// What is kept by exec of files that have it too.
        inheritable: Vec<String>,
        /// What can be made effective.
        permitted: Vec<String>,
        /// What is kept by exec of ordinary files.
        ambient: Vec<String>,
    }

    /// One mount.
    Mount {
        /// Absolute path in the container.
        destination: PathBuf,
        /// File system type; not used for bind mounts.
        #[serde(rename = "type")]
        fs_type: Option<String>,
        /// Device, or path on the host for bind mounts.
        source: Option<PathBuf>,
        /// Options as mount(8) has them, and `rbind`, `rro`, propagation words and so on.
        options: Vec<String>,
        /// User id mapping of the mount.
        uid_mappings: Option<Value>,
        /// Group id mapping of the mount.
        gid_mappings: Option<Value>,
    }

    /// What only Linux has.
    Linux {
        /// Namespaces to make or join; those not listed are the caller's.
        namespaces: Vec<Namespace>,
        /// User id mapping of a user namespace.
        uid_mappings: Option<Value>,
        /// Group id mapping of a user namespace.
        gid_mappings: Option<Value>,
        /// Clock offsets of a time namespace.
        time_offsets: Option<Value>,
        /// Device nodes to make.
        devices: Vec<Device>,
        /// Network devices to move in.
        net_devices: Option<Value>,
        /// Cgroup of the container, below each hierarchy's mount.
        cgroups_path: Option<PathBuf>,
        /// Limits.
        resources: Option<Resources>,
        /// Kernel parameters, by dotted name.
        sysctl: BTreeMap<String, String>,
        /// System call filter.
        seccomp: Option<Seccomp>,
        /// Propagation of the root mount: `shared`, `slave`, `private`, `unbindable` and their `r` forms.
        rootfs_propagation: Option<String>,
        /// Paths made unreadable.
        masked_paths: Vec<String>,
        /// Paths made read-only.
        readonly_paths: Vec<String>,
        /// SELinux label of mounts.
        mount_label: Option<String>,
        /// Cache and memory bandwidth allocation.
        intel_rdt: Option<Value>,
        /// NUMA policy.
        memory_policy: Option<Value>,
        /// Execution domain.
        personality: Option<Value>,
    }

    /// Limits of a container's cgroup.
    Resources {
        /// Device access rules, applied in order.
        devices: Vec<DeviceRule>,
        /// Memory.
        memory: Option<Memory>,
        /// Processor time.
        cpu: Option<Cpu>,
        /// Number of tasks.
        pids: Option<Pids>,
        /// Block devices.
        #[serde(rename = "blockIO")]
        block_io: Option<Value>,
        /// Huge pages.
        hugepage_limits: Option<Value>,
        /// Network classes.
        network: Option<Value>,
        /// RDMA.
        rdma: Option<Value>,
        /// Files of cgroup v2, by name.
        unified: BTreeMap<String, String>,
    }

    /// One device access rule.
    DeviceRule {
        /// Whether it allows or denies.
        allow: bool,
        /// `a` (all), `b` (block) or `c` (character); absent means all.
        #[serde(rename = "type")]
        device_type: Option<String>,
        /// Major number; absent means any.
        major: Option<i64>,
        /// Minor number; absent means any.
        minor: Option<i64>,
        /// Of `r` (read), `w` (write) and `m` (mknod).
        access: Option<String>,
    }

    /// Memory limits, in bytes; -1 means none.
    Memory {
        /// Memory.
        limit: Option<i64>,
        /// Soft limit.
        reservation: Option<i64>,
        /// Memory and swap together.
        swap: Option<i64>,
        /// Kernel memory; obsolete.
        kernel: Option<i64>,
        /// Kernel memory of TCP buffers; obsolete.
        #[serde(rename = "kernelTCP")]
        kernel_tcp: Option<i64>,
        /// 0 to 100.
        swappiness: Option<u64>,
        /// No OOM killer.
        #[serde(rename = "disableOOMKiller")]
        disable_oom_killer: Option<bool>,
        /// Hierarchical accounting; always on.
        use_hierarchy: Option<bool>,
        /// Refuse a limit below current usage.
        check_before_update: Option<bool>,
    }

    /// Processor limits; times in microseconds.
    Cpu {
        /// Relative weight, 2 to 262144; 1024 is the default.
        shares: Option<u64>,
        /// Time in each period; -1 means no limit.
        quota: Option<i64>,
        /// Burst beyond the quota.
        burst: Option<u64>,
        /// Length of a period, 1000 to 1000000.
        period: Option<u64>,
        /// Real-time scheduling: time in each period.
        realtime_runtime: Option<i64>,
        /// Real-time scheduling: length of a period.
        realtime_period: Option<u64>,
        /// CPUs as a list such as `0-3,8`.
        cpus: Option<String>,
        /// Memory nodes as a list.
        mems: Option<String>,
        /// `cpu.idle`.
        idle: Option<i64>,
    }

    /// The terminal's size in characters.
    ConsoleSize {
        /// Rows.
        height: u16,
        /// Columns.
        width: u16,
    }

    /// The system call filter.
    Seccomp {
        /// What happens to system calls that no rule matches.
        default_action: SeccompAction,
        /// The error of a default action `SCMP_ACT_ERRNO`; EPERM when absent.
        default_errno_ret: Option<u32>,
        /// Architectures besides the native one, such as `SCMP_ARCH_X86`.
        architectures: Vec<String>,
        /// Flags of seccomp(2), such as `SECCOMP_FILTER_FLAG_LOG`.
        flags: Vec<String>,
        /// Unix socket of an agent for `SCMP_ACT_NOTIFY`.
        listener_path: Option<String>,
        /// Data for that agent.
        listener_metadata: Option<String>,
        /// The rules.
        syscalls: Vec<SeccompRule>,
    }

    /// What happens to some system calls.
    SeccompRule {
        /// Names; those unknown to the architecture are ignored.
        names: Vec<String>,
        /// What happens.
        action: SeccompAction,
        /// The error of `SCMP_ACT_ERRNO` or the data of `SCMP_ACT_TRACE`; EPERM when absent.
        errno_ret: Option<u32>,
        /// Conditions, all of which must hold; several conditions on one argument are alternatives.
        args: Vec<SeccompArgument>,
    }
}

/// Whose rights a process has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// File mode creation mask.
    #[serde(skip_serializing_if = "absent")]
    pub umask: Option<u32>,
    /// Supplementary groups.
    #[serde(skip_serializing_if = "absent")]
    pub additional_gids: Vec<u32>,
}

/// One resource limit; see getrlimit(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Such as `RLIMIT_NOFILE`.
    #[serde(rename = "type")]
    pub resource: String,
    /// Soft limit; the highest number means none.
    pub soft: u64,
    /// Hard limit; the highest number means none.
    pub hard: u64,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Which.
    #[serde(rename = "type")]
    pub kind: NamespaceKind,
    /// One to join instead of making a new one.
    #[serde(default, skip_serializing_if = "absent")]
    pub path: Option<PathBuf>,
}

impl Namespace {
    /// A new namespace.
    #[must_use]
    pub fn new(kind: NamespaceKind) -> Self {
        Self { kind, path: None }
    }
}

/// The kinds of namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    /// Process ids.
    Pid,
    /// Network stack.
    Network,
    /// Mount table.
    Mount,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// User and group ids.
    User,
    /// Cgroup root.
    Cgroup,
    /// Clocks.
    Time,
}

/// A device node to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Absolute path in the container.
    pub path: PathBuf,
    /// `b` (block), `c` or `u` (character) or `p` (FIFO).
    #[serde(rename = "type")]
    pub device_type: String,
    /// Major number.
    #[serde(default)]
    pub major: i64,
    /// Minor number.
    #[serde(default)]
    pub minor: i64,
    /// Permission bits; 0666 when absent.
    #[serde(default, skip_serializing_if = "absent")]
    pub file_mode: Option<u32>,
    /// Owner; 0 when absent.
    #[serde(default, skip_serializing_if = "absent")]
    pub uid: Option<u32>,
    /// Group; 0 when absent.
    #[serde(default, skip_serializing_if = "absent")]
    pub gid: Option<u32>,
}

/// Number of tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pids {
    /// The most there may be; 0 or less means no limit.
    pub limit: i64,
}

/// What seccomp does with a system call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SeccompAction {
    /// Ends the thread.
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    /// Ends the process.
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    /// Sends SIGSYS.
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    /// Returns an error.
    #[default]
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    /// Asks a tracer.
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    /// Lets it pass and logs it.
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    /// Lets it pass.
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    /// Asks an agent.
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

/// A condition on an argument of a system call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompArgument {
    /// Which argument, 0 to 5.
    pub index: u32,
    /// What it is compared with; the mask of `SCMP_CMP_MASKED_EQ`.
    pub value: u64,
    /// What the masked argument is compared with.
    #[serde(default, skip_serializing_if = "absent")]
    pub value_two: u64,
    /// How.
    pub op: SeccompOperator,
}

/// How an argument is compared; unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompOperator {
    /// Not equal.
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    /// Less.
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    /// Less or equal.
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    /// Equal.
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    /// Greater or equal.
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    /// Greater.
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    /// Equal under a mask.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{
        "ociVersion": "1.2.0", "hostname": "h", "root": {"path": "rootfs", "readonly": true}, "future": 1,
        "process": {"user": {"uid": 0, "gid": 5, "additionalGids": [7]}, "args": ["sh"], "cwd": "/",
            "noNewPrivileges": true, "oomScoreAdj": -5, "consoleSize": {"height": 24, "width": 80},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 0, "hard": 1024}]},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]}],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/n"}],
            "resources": {"blockIO": {"weight": 5}, "memory": {"disableOOMKiller": true},
                "devices": [{"allow": true, "type": "c", "major": 5, "access": "rwm"}]},
            "maskedPaths": ["/proc/kcore"],
            "seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
                {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [
                    {"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}]}]}}
    }"#;

    #[test]
    fn a_config_round_trips() {
        let spec: Spec = serde_json::from_str(CONFIG).unwrap();
        let process = spec.process.as_ref().unwrap();
        assert_eq!((process.user.gid, process.no_new_privileges, process.oom_score_adj), (5, true, Some(-5)));
        let linux = spec.linux.as_ref().unwrap();
        assert_eq!(linux.namespaces[1].path.as_deref(), Some("/run/n".as_ref()));
        let resources = linux.resources.as_ref().unwrap();
        assert!(resources.block_io.is_some());
        assert_eq!(resources.memory.as_ref().unwrap().disable_oom_killer, Some(true));
        let rule = &linux.seccomp.as_ref().unwrap().syscalls[0];
        assert_eq!((rule.action, rule.args[0].op), (SeccompAction::Allow, SeccompOperator::MaskedEqual));
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), spec);
        assert!(text.contains(r#""user":{"uid":0,"gid":5"#) && !text.contains("null"), "{text}");
    }
}
